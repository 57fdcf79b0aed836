"""demo.py as its users see it: by curl, which is skipped where it is missing, and in headless Chromium likewise."""

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import demo
import upscale

pytest.importorskip("openvino")
jobs = pytest.importorskip("page.jobs")
server = pytest.importorskip("page.server")
ROOT = Path(__file__).parents[1]
FLAGS = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-sync"
FLAGS = [f"--{name}" for name in [*FLAGS.split(), "disable-component-update", "window-size=1280,900"]]
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")


@contextlib.contextmanager
def running(folder, *options, end=signal.SIGINT):
    """(address, process) of a demo.py whose temporary files are in `folder`; it must end with 0 and leave none."""
    command = [sys.executable, ROOT / "demo.py", "--port=0", *options]
    place = {"cwd": folder, "env": os.environ | {"TMPDIR": str(folder)}}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **place) as process:
        try:
            yield process.stdout.readline().split()[0], process
        finally:
            process.send_signal(end)
            errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0 and errors == "" and not any(folder.iterdir())


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server")) as (address, _):
        yield address


def picture(path, mode="RGB", size=(30, 20)):
    shape = (size[1], size[0], len(mode)) if len(mode) > 1 else size[::-1]
    Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8)).save(path)
    return path


def curl(*words):
    """(status, what came), by curl."""
    words = ["curl", "-sS", "--write-out", "\n%{http_code}", *map(str, words)]
    content, _, status = subprocess.run(words, capture_output=True, check=True).stdout.rpartition(b"\n")
    return int(status), content


@needs_curl
def test_a_picture_in_by_curl_is_what_upscale_py_writes(address, tmp_path):
    lr, expected = picture(tmp_path / "lr.png", "RGBA"), tmp_path / "expected.png"
    status, content = curl("-T", lr, f"{address}/upscale?model=srresnet")
    assert status == 200
    words = [str(lr), "--model=srresnet", "-o", str(expected)]
    assert upscale.main(upscale.command_line(words)) == 0
    assert content == expected.read_bytes()


@needs_curl
@pytest.mark.parametrize("ending, kind", [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"), ("tif", "TIFF")])
def test_the_format_is_the_one_asked_for_and_sizes_are_in_the_headers(address, tmp_path, ending, kind):
    result, head = tmp_path / "sr", tmp_path / "head"
    lr = picture(tmp_path / "lr.bmp")
    assert curl("-T", lr, f"{address}/upscale?model=bicubic&format={ending}", "-o", result, "-D", head)[0] == 200
    with Image.open(result) as found:
        assert found.format == kind and found.size == (120, 80)
    assert "x-source: 30x20" in head.read_text() and "x-result: 120x80" in head.read_text()


@needs_curl
def test_a_damaged_picture_comes_with_a_note(address, tmp_path):
    lr, head = picture(tmp_path / "lr.bmp"), tmp_path / "head"
    lr.write_bytes(lr.read_bytes()[:1254])  # of 1854; a header of 54
    assert curl("-T", lr, f"{address}/upscale?model=bicubic", "-o", tmp_path / "sr", "-D", head)[0] == 200
    assert "x-note: picture: damaged; about 35% of it is missing, the rest is upscaled" in head.read_text()


def test_every_format_offered_is_one_that_is_written():
    assert {f".{ending}" for ending in server.FORMATS} <= set(upscale.PHOTO_FORMATS)


@needs_curl
@pytest.mark.parametrize(
    "content, query, status, said",
    [
        (b"no picture", "", 422, "damaged"),
        (b"", "", 400, "no picture came"),
        (bytes(server.MEGABYTES * 2**20 + 1), "", 413, "20 MB"),
        (None, "", 422, "more than 4 megapixels"),
        (b"x", "?model=esrgan", 400, "model=esrgan: must be one of bicubic"),
        (b"x", "?format=gif", 400, "format=gif: must be one of png"),
        (b"x", "?scale=2", 400, "scale: no such parameter; there are model, format and job"),
    ],
)
def test_a_mistake_is_one_line_with_a_status(address, tmp_path, content, query, status, said):
    path = tmp_path / "picture.png"
    if content is None:
        Image.new("1", (2001, 2000)).save(path)
    else:
        path.write_bytes(content)
    found, line = curl("-T", path, f"{address}/upscale{query}")
    assert found == status and said in line.decode() and line.count(b"\n") == 1 and str(tmp_path) not in line.decode()


@needs_curl
def test_other_methods_and_addresses_are_refused(address, tmp_path):
    lr = picture(tmp_path / "lr.png")
    for words in (["--data-binary", f"@{lr}"], ["-F", f"picture=@{lr}"]):  # what a foreign page could send
        status, content = curl("-D", "-", *words, f"{address}/upscale")
        line = b"POST: send the picture by PUT, as curl -T picture.png does\n"
        assert status == 405 and b"allow: PUT" in content and content.endswith(line)
    for path in ("nothing", "examples/99", "progress/nobody", "../demo.py"):
        assert curl("--path-as-is", f"{address}/{path}")[0] == 404


@needs_curl
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_one_more_than_fits_is_refused_and_nothing_is_left_at_the_end(tmp_path, end):
    folder, lr = tmp_path / "server", picture(tmp_path / "lr.png", size=(1900, 1900))
    folder.mkdir()
    with running(folder, "--jobs=1", end=end) as (address, _):
        sender = subprocess.Popen(
            ["curl", "-sS", "-T", lr, f"{address}/upscale?job=first"], stdout=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 120
        while curl(f"{address}/progress/first")[0] != 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert any(folder.rglob("picture"))  # a file to be removed
        status, line = curl("-T", picture(tmp_path / "second.png"), f"{address}/upscale")
        assert status == 503 and line.decode() == "all places are taken (--jobs 1); try again in a minute\n"
    assert sender.communicate(timeout=60)[0] == "the server has been stopped; try again later\n"


def test_a_place_that_becomes_free_during_a_refusal_changes_nothing(tmp_path):
    """What has been sent of the picture is gone by then."""
    places, sent = jobs.Jobs(1), []
    places.all["other"] = jobs.Job(None)

    async def receive():
        places.all.clear()
        return {"type": "http.request", "body": b"picture", "more_body": False}

    async def send(message):
        sent.append(message)

    request = {"type": "http", "method": "PUT", "path": "/upscale", "query_string": b"", "headers": []}
    asyncio.run(server.application({}, places, str(tmp_path))(request, receive, send))
    assert sent[0]["status"] == 503 and b"all places are taken" in sent[1]["body"]


def test_a_picture_that_has_arrived_does_not_wait_for_one_that_has_not():
    async def work():
        queue, slow, whole = jobs.Jobs(2), jobs.Job(None), jobs.Job(None)
        with queue.place("slow", slow), queue.place("whole", whole):
            async with asyncio.timeout(5), queue.turn(whole):
                assert queue.before(whole) == 0 and queue.before(slow) == 1
            assert queue.before(slow) == 0

    asyncio.run(work())


@pytest.fixture(scope="module")
def browser(tmp_path_factory, address):
    """Chromium, with the page and its first example."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    browser.downloads = tmp_path_factory.mktemp("downloads")
    browser.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(browser.downloads)})
    browser.get(address)
    until(browser, lambda: "bicubic | srgan: example_1.png, 64x64 -> 256x256" in text(browser, "sizes"))
    yield browser
    browser.quit()


def until(browser, condition):
    """What `condition` gives, once it is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 300, 0.2).until(lambda _: condition())


def text(browser, name):
    return browser.find_element("id", name).text


def test_several_pictures_are_upscaled_and_saved_in_the_format_chosen(browser, tmp_path):
    paths = [picture(tmp_path / f"{name}.png") for name in ("one", "two")]
    browser.find_element("css selector", "#format input[value=tif]").click()
    browser.find_element("id", "photo").send_keys("\n".join(map(str, paths)))
    until(browser, lambda: "one.png, 30x20 -> 120x80" in text(browser, "sizes"))
    rows = browser.find_elements("css selector", "#pictures li")[-2:]
    for path, row in zip(paths, rows):
        until(browser, lambda: "120x80" in row.text)
        row.find_elements("tag name", "button")[1].click()
        until(browser, (browser.downloads / f"{path.stem}_srgan_x4.tif").exists)
        with Image.open(browser.downloads / f"{path.stem}_srgan_x4.tif") as found:
            assert found.format == "TIFF" and found.size == (120, 80)


def test_another_method_is_shown_when_it_is_chosen(browser):
    browser.find_element("css selector", "#left input[value=srresnet]").click()
    until(browser, lambda: text(browser, "sizes").startswith("srresnet | srgan: "))
    size = "return ['left', 'right'].map(side => document.getElementById(side + '-picture').naturalWidth > 0)"
    until(browser, lambda: browser.execute_script(size) == [True, True])


def test_what_is_no_picture_is_one_line(browser, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    browser.find_element("id", "photo").send_keys(str(tmp_path / "text.png"))
    line = until(browser, lambda: text(browser, "alert"))
    assert line.startswith("text.png: ") and "damaged" in line and "\n" not in line


def test_nothing_is_asked_of_another_machine(browser, address):
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert any(url.startswith(address) for url in asked)
    assert not [url for url in asked if not url.startswith((address, "data:", "blob:", "chrome:", "chrome-untrusted:"))]


def test_the_networks_are_loaded_without_a_word_to_anyone():
    program = """if True:
        import sys, demo
        sys.addaudithook(lambda event, _: event in ("socket.getaddrinfo", "os.fork") and print(event, flush=True))
        print(*demo.load_methods())"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.startswith("bicubic srresnet") and result.stdout.count("\n") == 1, result


def test_without_its_packages_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert demo.main(demo.command_line([])) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "pip install -r requirements-demo.txt" in line


def test_a_port_that_is_taken_is_one_line(address):
    words = [sys.executable, ROOT / "demo.py", f"--port={address.rpartition(':')[2]}"]
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "--port" in result.stderr


@pytest.mark.parametrize("option", ["--port=70000", "--jobs=0"])
def test_a_wrong_option_is_one_line(option, capsys):
    with pytest.raises(SystemExit) as stop:
        demo.command_line([option])
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1
