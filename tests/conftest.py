"""The product's modules lie in the repository root; the backend is chosen as train.py chooses it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from config import prepare_environment  # noqa: E402

prepare_environment()
# OpenVINO's telemetry forks at every import, pytest.importorskip's included; a fork keeps HDF5's locks for a while.
sys.modules.setdefault("openvino_telemetry", None)

import keras  # noqa: E402
import numerics  # noqa: E402
import pytest  # noqa: E402


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
