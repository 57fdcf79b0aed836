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
from studies import SEEN, Server, made, need_the_servers_packages, one_line, rows
from thorough import often

import study
from rating.manifest import showings
from rating.store import Store
from utils import UserError


@pytest.fixture
def served(tmp_path):
    """(Study, Server) of ten pictures by three methods."""
    of_folder = made(tmp_path)
    server = Server(of_folder.folder)
    yield of_folder, server
    if server.process.poll() is None:
        server.stop()
        assert server.process.returncode == 0


# What a rater may do, and may not


def test_a_rater_sees_nothing_but_the_pictures_that_come_next(served):
    found, server = served
    own = server.addresses[0]
    for path in ("/", "/study.json", "/ratings.sqlite", "/r/", "/r/wrong", "/r/wrong/state", "/rating/page.html"):
        status, _, content = server.ask(path)
        assert status == 404 and content.count(b"\n") == 1, path
    name = next(iter(found.pictures))
    outside = "../../study.json ..%2f..%2fstudy.json 0/../../../study.json 0/1 0/-1 2/0 %00".split()
    for path in (*outside, name, f"{name}.png", "9" * 40, "0/0%2f..%2f..%2fstudy.json"):
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
        *(({"value": value}, 422) for value in (7, 0, -1, 3.5, "3", True, None)),
        *(({"seconds": seconds}, 422) for seconds in (float("nan"), "1")),
        *(({"step": step}, status) for step, status in ((-1, 422), (1, 409), (10**30, 409))),
        *(({"room": [800]}, 422), ({"screen": "1920x1080"}, 422)),
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
    assert status == 507 and line.count("\n") == 1 and "cannot store" in line and str(found.folder) not in line
    resource.prlimit(server.process.pid, limit, unlimited)
    for step in (1, 2):
        assert server.rate(own, step, answers[step])[0] == 200
    errors = server.stop()
    assert errors.startswith("study.py: ") and "ratings.sqlite" in errors and errors.count("\n") == 1
    assert len(rows(found)) == 3


def test_a_server_that_is_killed_loses_no_rating_and_doubles_none(tmp_path):
    """Killed 20 times during 500 answers where there is time."""
    kills = often(4, 20)
    found = made(tmp_path, often(35, 155), size=(8, 8))
    order = showings(found, 1)
    assert len(order) >= 25 * kills
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
    for kill in range(1, kills + 1):
        while len(acknowledged) < kill * len(order) // (kills + 1) and client.is_alive():
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
