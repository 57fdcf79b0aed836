"""Studies of random pictures, and the server of study.py as a rater's browser meets it."""

import contextlib
import http.client
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

import study
from rating.manifest import read_study
from rating.store import Store

ROOT = Path(__file__).parents[1]
METHODS = ["nearest", "ours", "HR"]
SEEN = {"seconds": 1.5, "pixel_ratio": 1, "screen": [1920, 1080], "room": [800, 600]}


def pictures(folder, count, size=(24, 16)):
    """Write a folder for each method, with `count` pictures in a set called birds; the words NAME=FOLDER."""
    rng = np.random.default_rng(0)
    for method in METHODS:
        (folder / method / "birds").mkdir(parents=True)
        for number in range(count):
            picture = rng.integers(0, 256, (*size[::-1], 3), np.uint8)
            iio.imwrite(folder / method / "birds" / f"{number}.png", picture)
    return [f"{method}={folder / method}" for method in METHODS]


def run(*words):
    return study.main(study.command_line([*map(str, words)]))


def made(folder, count=10, *words, size=(24, 16)):
    """The Study of `count` pictures, made by study.py, with one picture for the examples."""
    (folder / "examples").mkdir()
    iio.imwrite(folder / "examples" / "tree.png", np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8))
    methods = pictures(folder, count, size)
    assert run("make", folder / "study", *methods, "--examples", folder / "examples", *words) == 0
    return read_study(folder / "study")


class Server:
    """A running study.py serve; without its packages, the test that starts it is skipped."""

    def __init__(self, folder, raters=2, port=0):
        pytest.importorskip("starlette")
        pytest.importorskip("uvicorn")
        command = [sys.executable, ROOT / "study.py", "serve", folder, f"--raters={raters}", f"--port={port}"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        lines = [self.process.stdout.readline() for _ in range(raters)]
        self.addresses = [re.search(r"http://127\.0\.0\.1:\d+(/r/\S+)", line).group(1) for line in lines]
        self.port = int(re.search(r":(\d+)/", lines[0]).group(1))
        self.url = f"http://127.0.0.1:{self.port}"

    def ask(self, path, body=None, method=None):
        """(status, headers, content) of one request."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method or ("GET" if body is None else "POST"), path, body)
            reply = connection.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()

    def state(self, rater=0):
        return json.loads(self.ask(f"{self.addresses[rater]}/state")[2])

    def rate(self, address, step, value):
        """(status, text) of an answer as the page sends it."""
        status, _, content = self.ask(f"{address}/answer", json.dumps({"step": step, "value": value} | SEEN))
        return status, content.decode()

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        errors = self.process.communicate(timeout=60)[1]
        assert "Traceback" not in errors and self.process.returncode == 0, errors
        return errors


def one_line(capsys):
    line = capsys.readouterr().err
    assert line.startswith("study.py: ") and line.count("\n") == 1, line
    return line


def rows(of_study):
    with contextlib.closing(Store(of_study.database)) as store:
        return store.ratings()
