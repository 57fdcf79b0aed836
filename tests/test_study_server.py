"""study.py serve: what a rater can do and cannot, and what survives a killed server."""

import contextlib
import http.client
import json
import re
import resource
import sqlite3
import threading
import time

import pytest
from studies import SEEN, Server, made, one_line, rows, run
from thorough import often

from rating.manifest import showings
from rating.store import Store
from utils import UserError


@pytest.fixture
def served(tmp_path):
    """(Study, Server) of ten pictures by three methods."""
    of_study = made(tmp_path)
    server = Server(of_study.folder)
    yield of_study, server
    if server.process.poll() is None:
        server.stop()


@pytest.fixture(scope="module")
def served_once(tmp_path_factory):
    """As `served`, for tests that change nothing."""
    of_study = made(tmp_path_factory.mktemp("served"))
    server = Server(of_study.folder)
    yield of_study, server
    server.stop()


# What a rater may do, and may not


def test_a_rater_sees_nothing_but_the_pictures_that_come_next_and_no_reply_names_a_method(served_once):
    of_study, server = served_once
    own = server.addresses[0]
    nowhere = ["/", "/study.json", "/ratings.sqlite", "/r/", "/r/wrong", "/r/wrong/state", "/rating/page.html"]
    outside = "../../study.json ..%2f..%2fstudy.json 0/../../../study.json 0/1 0/-1 2/0 %00 0/0%2f..%2f..%2fstudy.json"
    name = next(iter(of_study.pictures))
    nowhere += [f"{own}/picture/{path}" for path in (*outside.split(), name, f"{name}.png", "9" * 40)]
    for path in nowhere:
        status, _, content = server.ask(path)
        assert status == 404 and content.count(b"\n") == 1, path
    for step in (0, 1):
        path = of_study.path(showings(of_study, 1)[step].item.shown[0])
        assert server.ask(f"{own}/picture/{step}/0")[2] == path.read_bytes()
    for path in (own, f"{own}/state", f"{own}/picture/0/0", "/page.js", "/page.css"):
        status, headers, content = server.ask(path)
        told = json.dumps(headers).encode() + (b"" if "picture" in path else content)
        assert status == 200 and not re.search(rb"\b(nearest|ours|HR|birds|tree)\b|last-modified|etag", told), path
        assert headers["Referrer-Policy".lower()] == "no-referrer" and server.addresses[1].encode() not in content
    assert set(server.state()) == {"kind", "step", "steps", "examples", "answer", "card"}


@pytest.mark.parametrize(
    "change, status",
    [
        *(({"value": value}, 422) for value in (7, 0, -1, 3.5, "3", True, None)),
        *(({"seconds": seconds}, 422) for seconds in (float("nan"), "1")),
        *(({"step": step}, status) for step, status in ((-1, 422), (1, 409), (10**30, 409))),
        *(({"room": [800]}, 422), ({"screen": "1920x1080"}, 422)),
        *((body, 422) for body in ("", "[]", "{", "[" * 900, "\0")),
        ("9" * 2000, 413),
    ],
)
def test_a_wrong_answer_is_refused_in_one_line(served_once, change, status):
    of_study, server = served_once
    right = {"step": 0, "value": showings(of_study, 1)[0].item.answer} | SEEN
    body = change if isinstance(change, str) else json.dumps(right | change)
    got, _, content = server.ask(f"{server.addresses[0]}/answer", body)
    assert got == status and content.count(b"\n") == 1 and b"Traceback" not in content
    assert server.state()["step"] == 0


def test_an_answer_counts_once_and_stays(served):
    of_study, server = served
    own = server.addresses[0]
    assert server.rate("/r/wrong", 0, 1)[0] == 404
    assert server.ask(f"{own}/answer")[0] == 405 and server.ask(own, "", "DELETE")[0] == 405
    for step in (0, 1):
        assert server.rate(own, step, 3)[0] == 409  # of an example, only the answer that it names
        assert server.rate(own, step, showings(of_study, 1)[step].item.answer)[0] == 200
    for _ in range(3):
        status, text = server.rate(own, 2, 4)
        assert status == 200 and json.loads(text)["step"] == 3
    status, line = server.rate(own, 2, 5)
    assert status == 409 and "another answer already" in line
    assert server.state(rater=1)["step"] == 0
    server.stop()
    (row,) = [row for row in rows(of_study) if row["repeat"] == 0 and row["value"] == 4]
    assert (row["rater"], row["item"]) == (1, showings(of_study, 1)[2].item.name)
    assert (row["screen"], row["room"], row["seconds"]) == ("1920x1080", "800x600", 1.5)


def test_after_every_sixty_answers_there_is_a_break(tmp_path):
    server = pytest.importorskip("rating.server")
    of_study = made(tmp_path, 50)
    with contextlib.closing(Store(of_study.database)) as store:
        store.add_raters(1)
        session, cards = server.Session(of_study, store, 1), []
        for step, showing in enumerate(session.showings):
            cards.append(session.state()["card"])
            session.answer(step, showing.item.answer or 3, SEEN | {"screen": "", "room": ""})
        cards.append(session.state()["card"])
    expected = {0: "begin", 2: "examples over", 62: "pause", 122: "pause", 2 + 150 + 12: "end"}
    assert {step: card for step, card in enumerate(cards) if card} == expected


def test_pairs_change_sides_and_the_answer_follows_the_picture(tmp_path):
    of_study = made(tmp_path, 12, "--kind=pairs")
    server = Server(of_study.folder, raters=1)
    (own,) = server.addresses
    by_content = {of_study.path(name).read_bytes(): picture["method"] for name, picture in of_study.pictures.items()}
    left_wins = []
    for step in range(server.state()["steps"]):
        left, middle, right = (by_content[server.ask(f"{own}/picture/{step}/{place}")[2]] for place in range(3))
        wanted = server.state()["answer"]
        if wanted:
            assert {1: left, 3: right}[wanted] == "HR"
        else:
            assert middle == "HR" and {left, right} == {"nearest", "ours"}
            wanted = 1 if left == "ours" else 3  # to this rater ours is always closer
            left_wins.append(wanted == 1)
        assert server.rate(own, step, wanted)[0] == 200
    server.stop()
    assert 0 < sum(left_wins) < len(left_wins)
    names = {item.name for item in of_study.items}
    assert {row["value"] for row in rows(of_study) if row["item"] in names} == {3}  # ours is the second of each pair


# The database


def test_addresses_are_long_and_stay_and_a_wrong_value_is_refused(tmp_path):
    with contextlib.closing(Store(tmp_path / "ratings.sqlite")) as store:
        assert store.connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: a commit waits for the disk
        store.add_raters(20)
        before = store.raters()
        store.add_raters(10)
        assert store.raters() == before and len({token for _, token, _ in before}) == 20
        assert all(len(token) == 22 for _, token, _ in before)  # 128 bits
        with pytest.raises(UserError, match="CHECK"):
            store.add(1, "a", 0, 7, SEEN | {"screen": "", "room": ""})
        assert store.count(1) == 0


def test_a_full_disk_is_one_line_and_the_answer_counts_when_there_is_room_again(served):
    of_study, server = served
    own, limit = server.addresses[0], resource.RLIMIT_FSIZE
    unlimited = resource.prlimit(server.process.pid, limit)
    answers = [showing.item.answer or 2 for showing in showings(of_study, 1)]
    assert server.rate(own, 0, answers[0])[0] == 200
    resource.prlimit(server.process.pid, limit, (1024, unlimited[1]))
    status, line = server.rate(own, 1, answers[1])
    assert status == 507 and line.count("\n") == 1 and "cannot store" in line and str(of_study.folder) not in line
    resource.prlimit(server.process.pid, limit, unlimited)
    for step in (1, 2):
        assert server.rate(own, step, answers[step])[0] == 200
    errors = server.stop()
    assert errors.startswith("study.py: ") and "ratings.sqlite" in errors and errors.count("\n") == 1
    assert len(rows(of_study)) == 3


def test_a_server_that_is_killed_loses_no_rating_and_doubles_none(tmp_path):
    """Killed 20 times during 500 answers where there is time."""
    kills = often(2, 20)
    of_study = made(tmp_path, often(20, 155), size=(8, 8))
    order = showings(of_study, 1)
    assert len(order) >= 25 * kills
    values = [showing.item.answer or 1 + step % 5 for step, showing in enumerate(order)]
    server, acknowledged = Server(of_study.folder, raters=1), []

    def rater():  # as the page does: the same answer again until it is acknowledged
        for step, value in enumerate(values):
            while len(acknowledged) == step:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    status, text = server.rate(server.addresses[0], step, value)
                    assert status == 200, text
                    acknowledged.append(step)
                time.sleep(0.001)

    client = threading.Thread(target=rater)
    client.start()
    for kill in range(1, kills + 1):
        while len(acknowledged) < kill * len(order) // (kills + 1) and client.is_alive():
            time.sleep(0.001)
        server.process.kill()
        server.process.communicate()
        promised = len(acknowledged)
        assert client.is_alive() and promised < len(order), "the rater had finished before the last kill"
        with contextlib.closing(sqlite3.connect(of_study.database)) as connection:
            (stored,) = connection.execute("SELECT COUNT(*) FROM ratings").fetchone()
        assert stored >= promised, "an answer that was acknowledged is not in the file"
        server = Server(of_study.folder, raters=1, port=server.port)
    client.join(timeout=600)
    server.stop()
    assert acknowledged == list(range(len(order)))
    stored = [((row["item"], row["repeat"]), row["value"]) for row in rows(of_study)]
    wanted = [((showing.item.name, showing.repeat), value) for showing, value in zip(order, values)]
    assert sorted(stored) == sorted(wanted)


# Serve's own mistakes


@pytest.mark.parametrize("content", ("", "{}", '{"format": 2}', '{"format": 1, "kind": "rating"}', None))
def test_no_study_or_a_damaged_one_is_one_line(tmp_path, capsys, content):
    pytest.importorskip("uvicorn")
    if content is not None:
        (tmp_path / "study.json").write_text(content)
    assert run("serve", tmp_path) == 2
    assert ("study.py make" if content is None else "study.json") in one_line(capsys)


def test_a_changed_picture_and_a_damaged_database_are_one_line(tmp_path, capsys):
    pytest.importorskip("uvicorn")
    of_study = made(tmp_path, 1)
    of_study.database.write_text("no database" * 100)
    assert run("serve", of_study.folder, "--port=0") == 2
    assert "ratings.sqlite" in one_line(capsys)
    of_study.path(of_study.items[0].shown[0]).write_bytes(of_study.path(of_study.items[1].shown[0]).read_bytes())
    assert run("serve", of_study.folder, "--port=0") == 2
    assert "not the picture" in one_line(capsys)


def test_a_port_that_is_taken_and_a_host_that_is_not_here_are_one_line(served_once, capsys):
    of_study, server = served_once
    for words in ([f"--port={server.port}"], ["--host=192.0.2.1", "--port=0"]):
        assert run("serve", of_study.folder, *words) == 2
        assert words[0].replace("=", " ") in one_line(capsys)
