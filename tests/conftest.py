"""The product's modules lie in the repository root; the backend is chosen as train.py chooses it."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from engines import prepare_environment  # noqa: E402

prepare_environment()
# OpenVINO's telemetry forks at every import, pytest.importorskip's included; a fork keeps HDF5's locks for a while.
sys.modules.setdefault("openvino_telemetry", None)

import keras  # noqa: E402
import numerics  # noqa: E402
import pytest  # noqa: E402

# A core that takes one of these last would be alone for long; the order needs pytest's --no-loadscope-reorder.
LONGEST = [
    "test_faults",
    "test_train",
    "test_quick",
    "test_photos",
    "test_devices",
    "test_train_input",
    "test_teacher",
    "test_vgg19",
]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One more than there are cores: a quarter of the time a test waits for a process, a server or a browser."""
    return os.cpu_count() + 1


def pytest_collection_modifyitems(items):
    """The files that take longest first, the others as they are."""
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="module", autouse=True)
def same_initial_weights_in_the_modules_fixtures():
    keras.utils.set_random_seed(numerics.SEED)


@pytest.fixture(autouse=True)
def same_initial_weights():
    keras.utils.set_random_seed(numerics.SEED)


@pytest.fixture
def float64():
    """The test's networks are float64 ones."""
    with numerics.float64():
        yield
