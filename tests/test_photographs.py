"""benchmarks/photographs.py and Real-ESRGAN's package, for which a stand-in with the same interface is installed."""

import importlib.util
import sys
from unittest import mock

import numpy as np
import pytest
from trainings import ROOT

from pictures import read_picture
from restoration import needed
from upscaling.photo.reader import open_photo

# {file: content}; the real ones import and call the same names, and take and return BGR.
PACKAGES = {
    "torchvision/__init__.py": "",
    "torchvision/transforms/__init__.py": "",
    "torchvision/transforms/functional.py": "def rgb_to_grayscale(): ...",
    "basicsr/__init__.py": "from torchvision.transforms.functional_tensor import rgb_to_grayscale",
    "basicsr/archs/__init__.py": "",
    "basicsr/archs/rrdbnet_arch.py": """
class RRDBNet:
    def __init__(self, num_in_ch, num_out_ch, scale=4, num_feat=64, num_block=23, num_grow_ch=32):
        self.scale = scale
""",
    "realesrgan/__init__.py": """
import numpy as np

class RealESRGANer:
    def __init__(self, scale, model_path, dni_weight=None, model=None, tile=0, tile_pad=10, pre_pad=10, half=False):
        self.scale = model.scale
        open(model_path).close()

    def enhance(self, img, outscale=None, alpha_upsampler="realesrgan"):
        blue = np.array([1, 0, 0], np.uint8)
        return (img * blue).repeat(self.scale, 0).repeat(self.scale, 1), "RGB"
""",
}


@pytest.fixture
def photographs():
    pytest.importorskip("av")
    spec = importlib.util.spec_from_file_location("photographs", ROOT / "benchmarks/photographs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_level_is_a_file_as_somebody_would_have_it(tmp_path, photographs):
    """And what no table tells is noticed."""
    hr = read_picture(ROOT / "data/benchmark/Set14/HR/img_002.png")  # 720 x 576
    restored = {}
    for level in photographs.LEVELS | photographs.MORE_LEVELS:
        photo = open_photo(photographs.write_lr(hr, level, 0, tmp_path))
        lr = next(iter(photo)).picture
        assert lr.shape == (144, 180, 3), level
        restored[level], _ = needed(lr, photo.jpeg_tables)
    assert restored["clean"] == 0 and restored["twice"] >= 0.75
    assert min(restored["frame"], restored["resized"]) >= 0.5


def test_real_esrgans_own_package_is_called_as_it_wants(tmp_path, monkeypatch, photographs):
    for name, content in PACKAGES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    weights = tmp_path / "RealESRGAN_x4plus.pth"
    weights.touch()
    monkeypatch.syspath_prepend(tmp_path)
    lr = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    with mock.patch.dict(sys.modules):  # the stand-ins are gone afterwards
        sr = photographs.real_esrgan(str(weights))(lr)
    blue_of_rgb = np.array([0, 0, 1], np.uint8)
    assert np.array_equal(sr, (lr * blue_of_rgb).repeat(4, 0).repeat(4, 1))
