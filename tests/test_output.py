"""What commands print into files: nothing of TensorFlow's on stderr, no control characters."""

import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from trainings import ROOT, arguments, assert_plain

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
    if name == TRAINING and keras.backend.backend() == "tensorflow":
        pytest.skip("tests/test_quick.py looks at it")
    assert_plain(subprocess.run([sys.executable, *commands(folder)[name]], cwd=ROOT, capture_output=True, text=True))


@pytest.mark.parametrize("redirection", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_obstacle_to_keras(folder, redirection):
    words = ["train.py", "--mode=evaluate", "--input", folder / "none.png", "--set", f"TRAIN.samples_dir={folder}"]
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, *words]
    assert subprocess.run(command, cwd=ROOT).returncode == 2  # a traceback's is 1


BAR = """
from training.progress import Progress
progress = Progress("srgan", total=8, done=4, silent=%s)
for done in range(5, 9):
    progress.update(done, {"mse": 0.01234567, "gan": 2})
progress.close()
"""


@pytest.mark.parametrize("silent", [False, True])
def test_on_a_terminal_a_bar_tells_loss_terms_rate_and_time_left(silent):
    """Of the first process alone."""
    termios = pytest.importorskip("termios")  # Windows has none
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (25, 120))
    command = [sys.executable, "-c", BAR % silent]
    subprocess.run(
        command, cwd=ROOT, stdout=theirs, stderr=theirs, env=os.environ | {"TQDM_MININTERVAL": "0"}, check=True
    )
    os.write(theirs, b"end")
    drawn = b""
    while not drawn.endswith(b"end"):
        drawn += os.read(ours, 65536)
    os.close(theirs)
    os.close(ours)
    if silent:
        assert drawn == b"end"
    else:
        bar = r"srgan: +62%[^\r]* 5/8 \[\d\d:\d\d<\d\d:\d\d, [^\r]*update[^\r]*, mse=0\.01235, gan=2\]"
        assert re.search(bar, drawn.decode()) and " 8/8 [" in drawn.decode()
