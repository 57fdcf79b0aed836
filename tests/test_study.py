"""study.py make and serve: what a study holds, what a rater can do and cannot, and what survives a killed server."""

import contextlib
import hashlib
import http.client
import json
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

import study
from rating.manifest import read_study, showings
from rating.store import Store
from utils import UserError

ROOT = Path(__file__).parents[1]
METHODS = ["nearest", "ours", "HR"]
SEEN = {"seconds": 1.5, "pixel_ratio": 1, "screen": [1920, 1080], "room": [800, 600]}


def pictures(folder, count, size=(24, 16), name="{}.png"):
    """A folder for each method, with `count` pictures in a set called birds."""
    rng = np.random.default_rng(0)
    for method in METHODS:
        (folder / method / "birds").mkdir(parents=True)
        for number in range(count):
            picture = rng.integers(0, 256, (*size[::-1], 3), np.uint8)
            iio.imwrite(folder / method / "birds" / name.format(number), picture)
    return [f"{method}={folder / method}" for method in METHODS]


def make(folder, *words):
    return study.main(study.command_line(["make", str(folder), *map(str, words)]))


def made(folder, count=10, *words, size=(24, 16)):
    """The Study of `count` pictures, made by study.py, with one picture for the examples."""
    (folder / "examples").mkdir()
    iio.imwrite(folder / "examples" / "tree.png", np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8))
    methods = pictures(folder, count, size)
    assert make(folder / "study", *methods, "--examples", folder / "examples", *words) == 0
    return read_study(folder / "study")


def need_the_servers_packages():
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")


class Server:
    """A running study.py serve; without its packages, the test that starts it is skipped."""

    def __init__(self, folder, raters=2, port=0):
        need_the_servers_packages()
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

    def rate(self, address, step, value):
        """(status, text) of an answer as the page sends it."""
        status, _, content = self.ask(f"{address}/answer", json.dumps({"step": step, "value": value} | SEEN))
        return status, content.decode()

    def stop(self, sent=signal.SIGINT):
        self.process.send_signal(sent)
        errors = self.process.communicate(timeout=60)[1]
        assert "Traceback" not in errors, errors
        return errors


@pytest.fixture
def served(tmp_path):
    """(Study, Server) of ten pictures by three methods."""
    of_folder = made(tmp_path)
    server = Server(of_folder.folder)
    yield of_folder, server
    if server.process.poll() is None:
        server.stop()
        assert server.process.returncode == 0


def one_line(capsys):
    line = capsys.readouterr().err
    assert line.startswith("study.py: ") and line.count("\n") == 1, line
    return line


# Make


def test_a_study_says_what_it_is_made_of_and_its_files_do_not(tmp_path):
    found = made(tmp_path, 3, "--seed=5")
    manifest = json.loads((tmp_path / "study/study.json").read_text())
    assert manifest["seed"] == 5 and manifest["methods"] == METHODS and "python" in manifest["versions"]
    assert len(found.items) == 9 and [example.answer for example in found.examples] == [1, 5]
    assert {path.stem for path in (found.folder / "pictures").iterdir()} == set(found.pictures)
    for name, picture in found.pictures.items():
        content = found.path(name).read_bytes()
        assert re.fullmatch("[0-9a-f]{16}", name) and hashlib.sha256(content).hexdigest() == picture["sha256"]
        assert set(re.findall(rb"IHDR|IDAT|IEND|tEXt|tIME|iTXt|eXIf", content)) == {b"IHDR", b"IDAT", b"IEND"}
        if picture["set"] == "birds":
            source = tmp_path / picture["method"] / "birds" / f"{Path(picture['picture']).name}.png"
            assert np.array_equal(iio.imread(found.path(name)), iio.imread(source))


def test_the_examples_are_nearest_for_1_and_the_original_for_5(tmp_path):
    found = made(tmp_path, 1)
    bad, excellent = (iio.imread(found.path(example.shown[0])) for example in found.examples)
    assert np.array_equal(excellent, iio.imread(tmp_path / "examples/tree.png"))
    blocks = bad.reshape(4, 4, 6, 4, 3)
    assert np.array_equal(blocks, np.broadcast_to(blocks[:, :1, :, :1], blocks.shape))


def test_what_exists_is_left_as_it_is(tmp_path, capsys):
    found = made(tmp_path, 1)
    before = {path: path.read_bytes() for path in found.folder.rglob("*") if path.is_file()}
    assert make(found.folder, *(f"{method}={tmp_path / method}" for method in METHODS)) == 2
    assert "exists already" in one_line(capsys)
    assert before == {path: path.read_bytes() for path in found.folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "change, line",
    [
        (lambda folder: (folder / "ours/birds/1.png").unlink(), "ours: birds/1 is missing"),
        (lambda folder: iio.imwrite(folder / "ours/birds/1.png", np.zeros((9, 9, 3), np.uint8)), "1.png: 9x9"),
        (lambda folder: (folder / "ours/birds/1.png").write_text("no picture"), "1.png: unreadable picture"),
        (lambda folder: shutil.copy(folder / "ours/birds/1.png", folder / "ours/birds/1.jpg"), "has the same name"),
        (lambda folder: shutil.rmtree(folder / "ours"), "ours: no such folder"),
    ],
)
def test_pictures_that_do_not_fit_are_one_line_and_leave_nothing(tmp_path, capsys, change, line):
    methods = pictures(tmp_path, 2)
    change(tmp_path)
    assert make(tmp_path / "study", *methods) == 2
    assert line in one_line(capsys)
    assert not (tmp_path / "study").exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("words", (["ours"], ["ours="], ["=a"], ["a|b=x", "HR=x"], ["ours=x"], ["a=x", "a=x"]))
def test_wrong_methods_are_one_line(tmp_path, capsys, words):
    (tmp_path / "x").mkdir()
    iio.imwrite(tmp_path / "x" / "a.png", np.zeros((8, 8), np.uint8))
    words = [word.replace("=x", f"={tmp_path / 'x'}") for word in words]
    assert make(tmp_path / "study", *words) == 2
    one_line(capsys)
    assert not (tmp_path / "study").exists()


def test_pairs_need_the_original(tmp_path, capsys):
    methods = [*pictures(tmp_path, 1)[:2], f"theirs={tmp_path / 'ours'}"]
    assert make(tmp_path / "study", *methods, "--kind=pairs") == 2
    assert "HR=FOLDER" in one_line(capsys)


def test_a_full_disk_leaves_no_half_study(tmp_path):
    methods = pictures(tmp_path, 2)
    command = [sys.executable, ROOT / "study.py", "make", tmp_path / "study", *methods]
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))}
    result = subprocess.run(command, capture_output=True, text=True, **limit)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "cannot be written" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == set(METHODS)


def test_the_methods_of_evaluate_are_the_default(tmp_path):
    hr = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for name in ("Set5", "mine"):
        (tmp_path / "sets" / name / "HR").mkdir(parents=True)
        for number in range(3):
            iio.imwrite(tmp_path / "sets" / name / "HR" / f"{number}.png", hr)
    assert make(tmp_path / "study", "--count=2", "--set", f"EVALUATE.benchmark_dir={tmp_path / 'sets'}") == 0
    found = read_study(tmp_path / "study")
    assert found.methods == ["nearest", "bicubic", "lanczos", "SRResNet", "SRGAN", "HR"]
    judged = [found.pictures[item.shown[0]] for item in found.items]
    assert [sum(picture["set"] == name for picture in judged) for name in ("Set5", "mine")] == [12, 12]
    originals = [name for name, picture in found.pictures.items() if picture["method"] == "HR"]
    assert any(np.array_equal(iio.imread(found.path(name)), hr) for name in originals)


# The order


def test_the_order_follows_from_the_seed_and_the_rater(tmp_path):
    found = made(tmp_path, 50)
    order = [(item.name, repeat) for item, repeat, _ in showings(found, 1)]
    assert order == [(item.name, repeat) for item, repeat, _ in showings(read_study(found.folder), 1)]
    assert order != [(item.name, repeat) for item, repeat, _ in showings(found, 2)]
    assert order != [(item.name, repeat) for item, repeat, _ in showings(found._replace(seed=1), 1)]


def test_everything_is_shown_once_after_the_examples_and_a_few_again_much_later(tmp_path):
    found = made(tmp_path, 50)
    for rater in range(1, 20):
        order = [(item.name, repeat) for item, repeat, _ in showings(found, rater)]
        assert {name for name, _ in order[:2]} == {example.name for example in found.examples}
        place = {shown: number for number, shown in enumerate(order[2:])}
        assert {(item.name, 0) for item in found.items} <= set(place)
        again = [name for name, repeat in place if repeat]
        assert 0.05 <= len(again) / 150 <= 0.1 and len(set(order)) == len(order) == 2 + 150 + len(again)
        assert all(place[name, 1] - place[name, 0] >= 150 // 6 for name in again)


def test_first_places_go_to_all_methods_alike(tmp_path):
    found = made(tmp_path, 10)
    raters = 600
    first = [found.pictures[showings(found, rater)[2].item.shown[0]]["method"] for rater in range(raters)]
    for method in METHODS:  # a third, within five standard deviations
        assert abs(first.count(method) - raters / 3) < 5 * (raters * 2 / 9) ** 0.5


# What a rater may do, and may not


def test_a_rater_sees_nothing_but_the_pictures_that_come_next(served):
    found, server = served
    own = server.addresses[0]
    for path in ("/", "/study.json", "/ratings.sqlite", "/r/", "/r/wrong", "/r/wrong/state", "/rating/page.html"):
        status, _, content = server.ask(path)
        assert status == 404 and content.count(b"\n") == 1, path
    name = next(iter(found.pictures))
    outside = (
        "../../study.json",
        "..%2f..%2fstudy.json",
        "0/../../../study.json",
        "0/1",
        "0/-1",
        "2/0",
        name,
        "9" * 40,
    )
    for path in (*outside, f"{name}.png", "%00", "0/0%2f..%2f..%2fstudy.json"):
        status, _, content = server.ask(f"{own}/picture/{path}")
        assert status == 404 and content.count(b"\n") == 1, path
    first, second = (showings(found, 1)[step].item.shown[0] for step in (0, 1))
    assert server.ask(f"{own}/picture/0/0")[2] == found.path(first).read_bytes()
    assert server.ask(f"{own}/picture/1/0")[2] == found.path(second).read_bytes()


def test_no_reply_names_a_method(served):
    found, server = served
    own = server.addresses[0]
    for path in (own, f"{own}/state", f"{own}/picture/0/0", "/page.js", "/page.css"):
        status, headers, content = server.ask(path)
        told = json.dumps(headers).encode() + (b"" if "picture" in path else content)
        assert status == 200 and not re.search(rb"\b(nearest|ours|HR|birds|tree)\b|last-modified|etag", told), path
        assert headers["Referrer-Policy".lower()] == "no-referrer" and server.addresses[1].encode() not in content
    assert set(json.loads(server.ask(f"{own}/state")[2])) == {"kind", "step", "steps", "examples", "answer", "card"}


@pytest.mark.parametrize(
    "change, status",
    [
        ({"value": 7}, 422),
        ({"value": 0}, 422),
        ({"value": -1}, 422),
        ({"value": 3.5}, 422),
        ({"value": "3"}, 422),
        ({"value": True}, 422),
        ({"value": None}, 422),
        ({"step": -1}, 422),
        ({"step": 1}, 409),
        ({"step": 10**30}, 409),
        ({"seconds": float("nan")}, 422),
        ({"seconds": "1"}, 422),
        ({"room": [800]}, 422),
        ({"screen": "1920x1080"}, 422),
    ],
)
def test_a_wrong_answer_is_refused_in_one_line(served_once, change, status):
    found, server = served_once
    answer = {"step": 0, "value": showings(found, 1)[0].item.answer} | SEEN | change
    got, _, content = server.ask(f"{server.addresses[0]}/answer", json.dumps(answer))
    assert got == status and content.count(b"\n") == 1 and b"Traceback" not in content
    assert json.loads(server.ask(f"{server.addresses[0]}/state")[2])["step"] == 0


@pytest.fixture(scope="module")
def served_once(tmp_path_factory):
    """As `served`, for tests that change nothing."""
    found = made(tmp_path_factory.mktemp("served"))
    server = Server(found.folder)
    yield found, server
    server.stop()


@pytest.mark.parametrize(
    "body, status", [("", 422), ("[]", 422), ("{", 422), ("[" * 900, 422), ("\0", 422), ("9" * 2000, 413)]
)
def test_what_is_no_answer_is_refused_in_one_line(served_once, body, status):
    _, server = served_once
    got, _, content = server.ask(f"{server.addresses[0]}/answer", body)
    assert got == status and content.count(b"\n") == 1


def test_other_methods_and_other_peoples_answers_are_refused(served_once):
    _, server = served_once
    assert server.rate("/r/wrong", 0, 1)[0] == 404
    assert server.ask(f"{server.addresses[0]}/answer")[0] == 405
    assert server.ask(server.addresses[0], "", "DELETE")[0] == 405


def test_an_answer_counts_once_and_stays(served):
    found, server = served
    own = server.addresses[0]
    for step in (0, 1):
        answer = showings(found, 1)[step].item.answer
        assert server.rate(own, step, 3)[0] == 409  # of an example, only the answer that is shown
        assert server.rate(own, step, answer)[0] == 200
    for _ in range(3):
        status, text = server.rate(own, 2, 4)
        assert status == 200 and json.loads(text)["step"] == 3
    status, line = server.rate(own, 2, 5)
    assert status == 409 and "another answer already" in line
    assert json.loads(server.ask(f"{server.addresses[1]}/state")[2])["step"] == 0
    server.stop()
    (row,) = [row for row in rows(found) if row["repeat"] == 0 and row["value"] == 4]
    assert (row["rater"], row["item"]) == (1, showings(found, 1)[2].item.name)
    assert (row["screen"], row["room"], row["seconds"]) == ("1920x1080", "800x600", 1.5)


def rows(found):
    store = Store(found.database)
    with contextlib.closing(store):
        return store.ratings()


def test_after_every_sixty_answers_there_is_a_break(tmp_path):
    server = pytest.importorskip("rating.server")
    found = made(tmp_path, 50)
    store = Store(found.database)
    store.add_raters(1)
    session, cards = server.Session(found, store, 1), {}
    for step, shown in enumerate(session.showings):
        cards[step] = session.state()["card"]
        session.answer(step, shown.item.answer or 3, SEEN | {"screen": "", "room": ""})
    cards[step + 1] = session.state()["card"]
    store.close()
    expected = {0: "begin", 2: "examples over", 62: "pause", 122: "pause", 2 + 150 + 12: "end"}
    assert {step: card for step, card in cards.items() if card} == expected


def test_pairs_change_sides_and_the_answer_follows_the_picture(tmp_path):
    found = made(tmp_path, 12, "--kind=pairs")
    server = Server(found.folder, raters=1)
    (own,) = server.addresses
    by_content = {found.path(name).read_bytes(): picture["method"] for name, picture in found.pictures.items()}
    steps, left_wins = json.loads(server.ask(f"{own}/state")[2])["steps"], []
    for step in range(steps):
        left, middle, right = (by_content[server.ask(f"{own}/picture/{step}/{place}")[2]] for place in range(3))
        state = json.loads(server.ask(f"{own}/state")[2])
        if state["answer"]:
            assert {1: left, 3: right}[state["answer"]] == "HR"
            wanted = state["answer"]
        else:
            assert middle == "HR" and {left, right} == {"nearest", "ours"}
            wanted = 1 if left == "ours" else 3  # this rater always finds ours closer
            left_wins.append(wanted == 1)
        assert server.rate(own, step, wanted)[0] == 200
    server.stop()
    assert 0 < sum(left_wins) < len(left_wins)
    names = {item.name for item in found.items}
    assert {row["value"] for row in rows(found) if row["item"] in names} == {3}  # ours is the second of each pair


# The database


def test_the_database_waits_for_the_disk(tmp_path):
    store = Store(tmp_path / "ratings.sqlite")
    with contextlib.closing(store):
        assert store.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store.connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        store.add_raters(1)
        with pytest.raises(UserError, match="CHECK"):
            store.add(1, "a", 0, 7, SEEN | {"screen": "", "room": ""})
        assert store.count(1) == 0


def test_addresses_are_long_and_stay(tmp_path):
    store = Store(tmp_path / "ratings.sqlite")
    with contextlib.closing(store):
        store.add_raters(20)
        before = store.raters()
        store.add_raters(10)
        assert store.raters() == before and len({token for _, token, _ in before}) == 20
        assert all(len(token) == 22 for _, token, _ in before)  # 128 bits


def test_a_full_disk_is_one_line_and_the_answer_counts_when_there_is_room_again(served):
    found, server = served
    own, limit = server.addresses[0], resource.RLIMIT_FSIZE
    unlimited = resource.prlimit(server.process.pid, limit)
    answers = [shown.item.answer or 2 for shown in showings(found, 1)]
    assert server.rate(own, 0, answers[0])[0] == 200
    resource.prlimit(server.process.pid, limit, (1024, unlimited[1]))
    status, line = server.rate(own, 1, answers[1])
    assert status == 507 and line.count("\n") == 1 and "cannot keep" in line and str(found.folder) not in line
    resource.prlimit(server.process.pid, limit, unlimited)
    for step in (1, 2):
        assert server.rate(own, step, answers[step])[0] == 200
    errors = server.stop()
    assert errors.startswith("study.py: ") and "ratings.sqlite" in errors and errors.count("\n") == 1
    assert len(rows(found)) == 3


def test_a_server_killed_twenty_times_loses_no_rating_and_doubles_none(tmp_path):
    found = made(tmp_path, 155, size=(8, 8))
    order = showings(found, 1)
    assert len(order) >= 500
    values = [shown.item.answer or 1 + step % 5 for step, shown in enumerate(order)]
    current = {"server": Server(found.folder, raters=1)}
    own, port = current["server"].addresses[0], current["server"].port
    acknowledged = []

    def rater():  # as the page does: the same answer again until it is acknowledged
        for step, value in enumerate(values):
            while True:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    status, text = current["server"].rate(own, step, value)
                    assert status == 200, text
                    acknowledged.append(step)
                    break
                time.sleep(0.02)

    client = threading.Thread(target=rater)
    client.start()
    for kill in range(1, 21):
        while len(acknowledged) < kill * len(order) // 21 and client.is_alive():
            time.sleep(0.001)
        killed = current["server"].process
        killed.kill()
        killed.communicate()
        kept, promised = in_file(found), len(acknowledged)
        assert client.is_alive() and promised < len(order), "the rater had finished before the last kill"
        assert kept >= promised, "an answer that was acknowledged is not in the file"
        current["server"] = Server(found.folder, raters=1, port=port)
    client.join(timeout=120)
    current["server"].stop()
    assert acknowledged == list(range(len(order)))
    kept = {(row["item"], row["repeat"]): row["value"] for row in rows(found)}
    assert len(rows(found)) == len(order)
    assert kept == {(shown.item.name, shown.repeat): value for shown, value in zip(order, values)}


def in_file(found):
    with contextlib.closing(sqlite3.connect(found.database)) as connection:
        return connection.execute("SELECT COUNT(*) FROM ratings").fetchone()[0]


# Serve's own mistakes


def serve(*words):
    need_the_servers_packages()
    return study.main(study.command_line(["serve", *map(str, words)]))


def test_a_picture_that_was_changed_is_one_line(tmp_path, capsys):
    found = made(tmp_path, 1)
    found.path(found.items[0].shown[0]).write_bytes(found.path(found.items[1].shown[0]).read_bytes())
    assert serve(found.folder) == 2
    assert "is not the picture" in one_line(capsys)


@pytest.mark.parametrize("content", ("", "{}", '{"format": 2}', '{"format": 1, "kind": "rating"}'))
def test_a_damaged_manifest_is_one_line(tmp_path, capsys, content):
    (tmp_path / "study.json").write_text(content)
    assert serve(tmp_path) == 2
    assert "study.json" in one_line(capsys)


def test_no_study_is_one_line(tmp_path, capsys):
    assert serve(tmp_path) == 2
    assert "study.py make" in one_line(capsys)


def test_a_damaged_database_is_one_line(tmp_path, capsys):
    found = made(tmp_path, 1)
    found.database.write_text("no database" * 100)
    assert serve(found.folder, "--port=0") == 2
    assert "ratings.sqlite" in one_line(capsys)


def test_a_port_that_is_taken_is_one_line(served_once, capsys):
    found, server = served_once
    assert serve(found.folder, f"--port={server.port}") == 2
    assert f"--port {server.port}" in one_line(capsys)


def test_a_host_that_is_not_here_is_one_line(served_once, capsys):
    found, _ = served_once
    assert serve(found.folder, "--host=192.0.2.1", "--port=0") == 2
    assert "--host 192.0.2.1" in one_line(capsys)


def test_methods_may_stand_before_and_after_the_options():
    options = study.command_line(["make", "x", "a=1", "--kind", "pairs", "b=2", "--seed=3", "c=4"])
    assert (options.methods, options.kind, options.seed) == (["a=1", "b=2", "c=4"], "pairs", 3)


WRONG = "serve x --port=70000 | serve x --raters=0 | serve x y | report x --all | make x --speed 1 | show | make"


@pytest.mark.parametrize("words", [line.split() for line in WRONG.split("|")])
def test_a_wrong_command_line_is_one_line(capsys, words):
    with pytest.raises(SystemExit) as stop:
        study.command_line(words)
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_without_its_packages_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study.importlib.util, "find_spec", lambda name: None)
    for command in ("serve", "report"):
        assert study.main(study.command_line([command, str(tmp_path)])) == 2
        assert "pip install -r requirements-study.txt" in one_line(capsys)
