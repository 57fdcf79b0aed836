"""What commands print into files: nothing of TensorFlow's on stderr, no control characters."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from trainings import ROOT, arguments

from model import SRGAN_g
from pictures import write_picture
from weights import save_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a picture and small weights."""
    folder = tmp_path_factory.mktemp("output")
    write_picture(folder / "a.png", np.zeros((9, 13, 3), np.uint8))
    save_weights(SRGAN_g(blocks=1, filters=8), folder / "g.weights.h5", {"model": {"blocks": 1, "filters": 8}})
    return folder


TRAINING, KERAS, ONNX, TFLITE = "both stages and the table", "upscaling in Keras", "an ONNX file", "a TFLite file"


def commands(folder):
    """{name: words}, one for each way in which Keras is imported."""
    weights = f"--model={folder / 'g.weights.h5'}"
    return {
        TRAINING: ["train.py", *arguments(folder)],
        KERAS: ["upscale.py", folder / "a.png", weights, "--engine=keras"],
        ONNX: ["export.py", "--format=onnx", weights, "-o", folder / "g.onnx"],
        TFLITE: ["export.py", "--format=tflite", weights, "-o", folder / "g.tflite"],
    }


@pytest.mark.parametrize("name", [TRAINING, KERAS, ONNX, TFLITE])
def test_a_command_says_what_is_ours_alone_and_in_plain_lines(name, folder):
    if name in (ONNX, TFLITE) and keras.backend.backend() != "tensorflow":
        pytest.skip("Keras exports from TensorFlow")
    ended = subprocess.run([sys.executable, *commands(folder)[name]], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert ended.stdout and not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", ended.stdout)
