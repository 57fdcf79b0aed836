"""The download of picture sets, against a server on this machine: resumed, checked, unpacked whole or not at all."""

import hashlib
import importlib.util
import io
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from loopback import offered, serving

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "data" / "download.py"
PICTURES = {"0001.png": b"one" * 400, "0002.png": b"two" * 300}


def load():
    spec = importlib.util.spec_from_file_location("download", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


download = load()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as running:
        yield running


def zipped(pictures, folder="HR", link=None):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(f"{folder}/", b"")
        archive.writestr("LR/0001.png", b"not wanted")
        for name, content in pictures.items():
            archive.writestr(f"{folder}/{name}", content)
        if link:
            entry = zipfile.ZipInfo(f"{folder}/{link}")
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, "/etc/passwd")
    return data.getvalue()


def tarred(pictures, folder="HR", link=None):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        entries = [tarfile.TarInfo(f"{folder}/{name}") for name in pictures] + [tarfile.TarInfo(folder)]
        entries[-1].type = tarfile.DIRTYPE
        for entry, content in zip(entries, [*pictures.values(), b""]):
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo(f"{folder}/{link}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(entry)
    return data.getvalue()


def offer(server, name, body, **changes):
    """Put `body` on the server; the table that says so."""
    url = offered(server, name, body)
    source = download.Source(url, len(body), hashlib.sha256(body).hexdigest(), "HR", "benchmark/Set", "HR")
    return {"set": source._replace(**changes)}


def run(sets, into):
    return download.main(["set", "--into", str(into)], sets=sets)


def refused(capsys, message):
    """The error is one line, which holds `message`."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("download.py: ") and message in lines[0], lines
    return True


def found(into):
    return {path.name: path.read_bytes() for path in (into / "benchmark" / "Set" / "HR").iterdir()}


def test_another_set_of_the_same_archive_is_not_fetched_again(server, tmp_path):
    sets = offer(server, "a.tar", tarred(PICTURES))
    assert run(sets, tmp_path) == 0
    assert run({"set": sets["set"]._replace(target="benchmark/Other")}, tmp_path) == 0
    assert server.asked == [None]
    assert len(list((tmp_path / "benchmark" / "Other" / "HR").iterdir())) == len(PICTURES)


@pytest.mark.parametrize("ranges", [True, False])  # a server that ignores them sends all of it again
def test_a_broken_transfer_is_resumed_where_it_broke_off(server, tmp_path, capsys, ranges):
    body = zipped(PICTURES)
    sets = offer(server, "a.zip", body)
    server.cut, server.ranges = 1000, ranges
    assert run(sets, tmp_path) == 2
    assert refused(capsys, f"broke off after 1000 of {len(body)} bytes")
    assert (tmp_path / "downloads" / "a.zip.part").read_bytes() == body[:1000]
    assert not (tmp_path / "benchmark").exists()
    server.cut = 0
    assert run(sets, tmp_path) == 0
    assert server.asked == [None, "bytes=1000-"]
    assert found(tmp_path) == PICTURES


@pytest.mark.parametrize("end, message", [(b"x", "SHA-256"), (b"longer", "has changed")])
def test_another_archive_is_refused_and_the_next_run_starts_over(server, tmp_path, capsys, end, message):
    body = zipped(PICTURES)
    sets = offer(server, "a.zip", body)
    server.files["a.zip"] = body[:-1] + end
    assert run(sets, tmp_path) == 2
    assert refused(capsys, message)
    assert not (tmp_path / "benchmark").exists() and not list((tmp_path / "downloads").iterdir())
    server.files["a.zip"] = body
    assert run(sets, tmp_path) == 0
    assert server.asked == [None, None]


@pytest.mark.parametrize("name, pack", [("a.zip", zipped), ("a.tar", tarred)])
@pytest.mark.parametrize("member", ["../../../../evil.png", "absolute", "..\\evil.png", "C:/evil.png", "link"])
def test_nothing_in_an_archive_leads_outside(server, tmp_path, name, pack, member):
    into = tmp_path / "a" / "b"
    folder = {"absolute": str(tmp_path), "C:/evil.png": "C:"}.get(member, "HR")
    pictures = PICTURES | {member if member.startswith("..") else "evil.png": b"evil"}
    body = pack(pictures, folder, "l.png" if member == "link" else None)
    run(offer(server, name, body), into)
    allowed = {into / "downloads" / name, *(into / "benchmark/Set/HR").glob("*")}
    assert {path for path in tmp_path.rglob("*") if not path.is_dir()} <= allowed
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


NO_SETS = [(b"no zip", "HR", "damaged"), (zipped(PICTURES), "elsewhere", "no pictures"), (None, "HR", "HTTP 404")]


@pytest.mark.parametrize("body, inside, message", NO_SETS)
def test_an_archive_without_the_pictures_is_refused_in_one_line(server, tmp_path, capsys, body, inside, message):
    sets = offer(server, "a.zip", body or b"gone", inside=inside)
    server.files["a.zip"] = body
    assert run(sets, tmp_path) == 2
    assert refused(capsys, message)
    assert not (tmp_path / "benchmark").exists()


def test_an_existing_set_is_left_as_it_is(server, tmp_path, capsys):
    mine = tmp_path / "benchmark" / "Set" / "HR" / "mine.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    assert run(offer(server, "a.zip", zipped(PICTURES)), tmp_path) == 0
    assert "is there already" in capsys.readouterr().out
    assert server.asked == [] and found(tmp_path) == {"mine.png": b"mine"}


def test_what_a_killed_run_left_is_no_obstacle(server, tmp_path):
    (tmp_path / "benchmark" / "Set").mkdir(parents=True)
    body, left = zipped(PICTURES), tmp_path / "downloads" / "Set.unpacking" / "HR" / "0003.png"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    (tmp_path / "downloads" / "a.zip.part").write_bytes(b"x" * (len(body) + 1))  # longer than the archive
    assert run(offer(server, "a.zip", body), tmp_path) == 0
    assert server.asked == [None] and found(tmp_path) == PICTURES


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_one_line_and_unpacks_nothing(server, tmp_path, capsys):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "a.zip.part").symlink_to("/dev/full")
    assert run(offer(server, "a.zip", zipped(PICTURES)), tmp_path) == 2
    assert refused(capsys, "No space left on device")
    assert not (tmp_path / "benchmark").exists()


def test_ctrl_c_keeps_what_has_come(server, tmp_path):
    body = zipped({"0001.png": bytes(300_000)})
    source = offer(server, "a.zip", body)["set"]
    server.cut, server.stalls = 200_000, True
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in the background
sys.path.insert(0, {str(SCRIPT.parent)!r})
import download
sys.exit(download.main(["set", "--into", {str(tmp_path)!r}], sets={{"set": download.Source(*{tuple(source)!r})}}))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    part, until = tmp_path / "downloads" / "a.zip.part", time.monotonic() + 120
    while time.monotonic() < until and not (part.exists() and part.stat().st_size):
        time.sleep(0.02)
    assert part.exists()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert error.startswith("download.py: interrupted") and error.count("\n") == 1
    come = part.read_bytes()
    assert 0 < len(come) <= 200_000 and body.startswith(come)


def script(*arguments, **environment):
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)


def test_the_script_lists_the_sets_and_does_not_import_a_framework():
    done = script("--help", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0 and all(name in done.stdout for name in download.SETS)
    assert "utils" in done.stderr and "keras" not in done.stderr and "tensorflow" not in done.stderr


def test_a_set_that_cannot_be_reached_is_one_line_with_its_address(tmp_path):
    with socket.socket() as unused:  # bound, so that nobody else takes the port, but it does not listen
        unused.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = script("set5", "--into", str(tmp_path), https_proxy=proxy, HTTPS_PROXY=proxy, no_proxy="", NO_PROXY="")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert download.SETS["set5"].url in line and "Connection refused" in line
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def below(folder):
    return {f"{folder}/{name}": content for name, content in PICTURES.items()}


EDSR = {
    f"{name}/{folder}/{picture}{end}.png": f"{name} {folder}".encode()
    for name, picture in (("B100", "101085"), ("Set5", "baby"), ("Set14", "zebra"), ("Urban100", "img001"))
    for folder, end in (("HR", ""), ("LR_bicubic/X2", "x2"), ("LR_bicubic/X4", "x4"))
}
PUBLISHED = {  # {set: (an archive laid out like the published one, the files that the set then has)}
    "div2k": (zipped(PICTURES, "DIV2K_train_HR"), below("div2k")),
    "div2k_valid": (zipped(PICTURES, "DIV2K_valid_HR"), below("div2k_valid")),
    "bsd100": (tarred(EDSR, "benchmark"), {"benchmark/BSD100/HR/101085.png": b"B100 HR"}),
    "set5": (tarred(EDSR, "benchmark"), {"benchmark/Set5/HR/baby.png": b"Set5 HR"}),
    "set14": (tarred(EDSR, "benchmark"), {"benchmark/Set14/HR/zebra.png": b"Set14 HR"}),
}


@pytest.mark.parametrize("name", download.SETS)
def test_every_set_is_unpacked_from_an_archive_laid_out_like_the_published_one(server, tmp_path, name):
    source, (body, expected) = download.SETS[name], PUBLISHED[name]
    url = offered(server, Path(source.url).name, body)
    sets = {name: source._replace(url=url, size=len(body), sha256=hashlib.sha256(body).hexdigest())}
    assert download.main([name, "--into", str(tmp_path)], sets=sets) == 0
    assert server.asked == [None]
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == [Path(source.url).name]  # nothing half done
    shutil.rmtree(tmp_path / "downloads")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {str(path.relative_to(tmp_path)): path.read_bytes() for path in files} == expected
