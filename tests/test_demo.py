"""demo.py as its users see it, by curl and in headless Chromium; skipped where one of them is missing."""

import asyncio
import contextlib
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from browsers import asked, chromium, until
from PIL import Image
from thorough import often

import demo
import upscale

pytest.importorskip("openvino")
jobs = pytest.importorskip("page.jobs")
results = pytest.importorskip("page.results")
server = pytest.importorskip("page.server")
ROOT = Path(__file__).parents[1]
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
    with Image.open(result) as result:
        assert result.format == kind and result.size == (120, 80)
    assert "x-source: 30x20" in head.read_text() and "x-result: 120x80" in head.read_text()


@needs_curl
def test_a_damaged_picture_comes_with_a_note(address, tmp_path):
    lr, head = picture(tmp_path / "lr.bmp"), tmp_path / "head"
    lr.write_bytes(lr.read_bytes()[:1254])  # of 1854; a header of 54
    assert curl("-T", lr, f"{address}/upscale?model=bicubic", "-o", tmp_path / "sr", "-D", head)[0] == 200
    assert "x-note: damaged; about 35% of it is missing, the rest is upscaled" in head.read_text()


def test_every_format_offered_is_one_that_is_written():
    assert {f".{ending}" for ending in server.FORMATS} <= set(upscale.PHOTO_FORMATS)


@needs_curl
@pytest.mark.parametrize(
    "content, query, status, said",
    [
        (b"no picture", "", 422, "damaged"),
        (b"", "", 400, "no picture came"),
        (bytes(server.MEGABYTES * 2**20 + 1), "", 413, "20 MB"),
        (None, "", 422, "more than 4 megapixels, the limit of this page; on your computer, python upscale.py FILE"),
        (b"x", "?model=esrgan", 400, "model=esrgan: must be one of bicubic"),
        (b"x", "?format=gif", 400, "format=gif: must be one of png"),
        (b"x", "?scale=2", 400, "scale: no such parameter; there are model, format, strength, restore and job"),
        (b"x", "?strength=2", 400, "strength=2: must be a number from 0 to 1"),
        (b"x", "?strength=nan", 400, "strength=nan: must be"),
        (b"x", "?model=bicubic&strength=0.5", 400, "strength=0.5: only for model=srgan"),
    ],
)
def test_a_mistake_is_one_line_with_a_status(address, tmp_path, content, query, status, said):
    path = tmp_path / "picture.png"
    if content is None:
        Image.new("1", (2001, 2000)).save(path)
    else:
        path.write_bytes(content)
    got, line = curl("-T", path, f"{address}/upscale{query}")
    assert got == status and said in line.decode() and line.count(b"\n") == 1 and str(tmp_path) not in line.decode()


@needs_curl
@pytest.mark.parametrize("ending, what", [("tif", "pages"), ("gif", "frames")])
def test_the_limit_holds_for_all_pages_together(address, tmp_path, ending, what):
    path, small = tmp_path / f"many.{ending}", Image.new("L", (10, 10))
    pages = [Image.new("L", (1000, 1001), number) for number in range(4)]  # 4.004 megapixels
    (small if ending == "tif" else pages.pop()).save(path, save_all=True, append_images=pages)
    number = len(pages) + 1
    line = f"{number} {what} together are more than 4 megapixels, the limit of this page; on your computer"
    status, content = curl("-T", path, f"{address}/upscale?model=bicubic")
    assert (status, content.decode()) == (422, f"{line}, python upscale.py FILE takes it\n")


@needs_curl
def test_other_methods_and_addresses_are_refused(address, tmp_path):
    assert curl(f"{address}/health") == (200, b"ok\n")
    lr = picture(tmp_path / "lr.png")
    for words in (["--data-binary", f"@{lr}"], ["-F", f"picture=@{lr}"]):  # what a foreign page could send
        status, content = curl("-D", "-", *words, f"{address}/upscale")
        line = b"POST: send the picture by PUT, as curl -T picture.png does\n"
        assert status == 405 and b"allow: PUT" in content and content.endswith(line)
    for path in ("nothing", "examples/99", "progress/nobody", "results/nobody.png", "../demo.py"):
        assert curl("--path-as-is", f"{address}/{path}")[0] == 404


@needs_curl
@pytest.mark.parametrize("end", often([signal.SIGTERM], [signal.SIGTERM, signal.SIGINT]))  # every server ends by SIGINT
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


# Results that stay while the page is open


def put(address, path, query=""):
    """What PUT /results replies."""
    status, content = curl("-T", path, f"{address}/results?name={path.name}{query}")
    assert status == 200, content
    return json.loads(content)


@needs_curl
@pytest.mark.parametrize("ending", ["jpg", "webp", "tif"])
def test_another_format_is_what_upscale_py_writes(address, tmp_path, ending):
    lr, expected = tmp_path / "lr.jpg", tmp_path / f"expected.{ending}"
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"  # on its side
    Image.open(picture(tmp_path / "lr.png")).save(lr, exif=exif)
    made = put(address, lr, "&model=srgan&strength=0.5")
    assert (made["source"], made["result"]) == ("20x30", "80x120")
    status, content = curl(f"{address}/results/{made['id']}.{ending}")
    assert upscale.main(upscale.command_line([str(lr), "--strength=0.5", "-o", str(expected)])) == 0
    assert status == 200 and content == expected.read_bytes()


@needs_curl
@pytest.mark.parametrize("restore", ["auto", "0.5"])
def test_a_jpeg_is_restored_as_upscale_py_does(address, tmp_path, restore):
    lr, expected = tmp_path / "lr.jpg", tmp_path / "expected.png"
    Image.open(picture(tmp_path / "lr.png")).save(lr, quality=60)
    made = put(address, lr, f"&model=srgan&restore={restore}")
    assert made.get("note") == ("JPEG quality 60: restore 1" if restore == "auto" else None)
    _, content = curl(f"{address}/results/{made['id']}.png")
    assert upscale.main(upscale.command_line([str(lr), f"--restore={restore}", "-o", str(expected)])) == 0
    assert content == expected.read_bytes()


@needs_curl
def test_all_results_come_as_one_archive_until_the_page_forgets_them(address, tmp_path):
    lr = picture(tmp_path / "lr.png")
    ids = [put(address, lr, "&model=bicubic")["id"] for _ in range(2)]
    query = "&".join(f"id={name}" for name in [*ids, "of_nobody"])
    status, content = curl(f"{address}/results.zip?format=webp&{query}")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert status == 200 and archive.testzip() is None
        assert archive.namelist() == ["lr_bicubic_x4.webp", "lr_bicubic_x4 (2).webp", "missing.txt"]
        assert archive.read("missing.txt").startswith(b"picture 3: no such result")
        assert archive.read("lr_bicubic_x4.webp") == curl(f"{address}/results/{ids[0]}.webp")[1]
    assert curl("--data", " ".join(ids), f"{address}/forget")[0] == 200
    assert curl(f"{address}/results/{ids[0]}.webp")[0] == 404


@needs_curl
def test_the_archive_names_what_its_format_cannot_hold(address, tmp_path):
    page = Image.open(picture(tmp_path / "page.png"))
    page.save(tmp_path / "scan.tif", save_all=True, append_images=[page])
    name = put(address, tmp_path / "scan.tif", "&model=bicubic")["id"]
    _, content = curl(f"{address}/results.zip?id={name}")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        line = "picture 1: scan_bicubic_x4.png: PNG cannot hold these 2 pages; choose .tiff or .tif\n"
        assert archive.namelist() == ["missing.txt"] and archive.read("missing.txt").decode() == line


def test_old_results_make_room_for_new_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "BYTES", 2500)
    store, names = results.Results(), []
    for number in range(4):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (folder / "result.png").write_bytes(bytes(1000))
        names.append(store.add(folder, "title"))
        store.encoded(names[0], "png")  # which is in use
    assert [name in store.all for name in names] == [True, False, False, True]
    assert {path.name for path in tmp_path.iterdir()} == {names[0], names[3]}


def test_files_that_vanish_while_room_is_counted_are_no_error(tmp_path):
    """Another thread renames the temporary files of results that it encodes."""
    ended = threading.Event()

    def encode():
        while not ended.is_set():
            (tmp_path / ".half-result.jpg").touch()
            (tmp_path / ".half-result.jpg").replace(tmp_path / "result.jpg")

    thread = threading.Thread(target=encode)
    thread.start()
    try:
        assert {results.folder_size(tmp_path) for _ in range(3000)} == {0}
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("pages, ask", [(1, "encoded"), (2, "view")])
def test_a_result_that_is_deleted_while_others_are_encoded_is_answered_so(tmp_path, pages, ask):
    store = results.Results()
    (tmp_path / "0").mkdir()
    for name in ("picture", "result"):
        first, *more = (Image.new("RGB", (8, 6)) for _ in range(pages))
        first.save(tmp_path / "0" / f"{name}.tif", save_all=True, append_images=more)
    (tmp_path / "0/picture.tif").rename(tmp_path / "0/picture")
    name, answers = store.add(tmp_path / "0", "title"), []

    def asks():
        try:
            answers.append(store.encoded(name, "jpg") if ask == "encoded" else store.view(name))
        except results.HTTPException as error:
            answers.append((error.status_code, error.detail[:14]))

    thread = threading.Thread(target=asks)
    with store.lock:
        thread.start()
        time.sleep(0.3)  # it waits for the lock
        store.remove(name)
    thread.join()
    assert answers == [(404, "no such result")]


# The page in Chromium, on a desk and on a phone

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


@pytest.fixture(scope="module")
def desktop(tmp_path_factory, address):
    """Chromium, with the page and its first example."""
    with chromium(tmp_path_factory.mktemp("profile") / "desktop") as browser:
        browser.downloads = tmp_path_factory.mktemp("downloads")
        behaviour = {"behavior": "allow", "downloadPath": str(browser.downloads)}
        browser.execute_cdp_cmd("Page.setDownloadBehavior", behaviour)
        look(browser, address, "desktop")
        yield browser


@pytest.fixture(params=SIZES)
def browser(request, desktop, address):
    """The page anew, on a screen of each size."""
    look(desktop, address, request.param)
    return desktop


def look(browser, address, device):
    width, height = SIZES[device]
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": device == "phone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": device == "phone"})
    browser.device = device
    browser.get(address)
    until(browser, lambda: "bicubic | srgan: example_1.png, 64x64 -> 256x256" in text(browser, "sizes"))


def text(browser, name):
    return browser.find_element("id", name).text


def choose(browser, name, value):
    browser.find_element("css selector", f"#{name} option[value={value}]").click()


def area(browser, selector):
    """Where an element is: left, top, right, bottom in CSS pixels."""
    script = f"const box = document.querySelector('{selector}').getBoundingClientRect();"
    return browser.execute_script(f"{script} return [box.left, box.top, box.right, box.bottom]")


def width(browser):
    """Of the picture in view."""
    left, _, right, _ = area(browser, "#right-picture")
    return right - left


def send(browser, folder, *names):
    """Choose a picture of each name, and wait for the first comparison and then for all results."""
    paths = [picture(folder / name) for name in names]
    asked(browser)
    browser.find_element("id", "photo").send_keys("\n".join(map(str, paths)))
    until(browser, lambda: f"{names[0]}, 30x20 -> 120x80" in text(browser, "sizes"))
    until(browser, lambda: text(browser, "pictures").count("120x80") == len(names))


def test_the_first_comparison_does_not_wait_for_other_pictures(desktop, address, tmp_path):
    look(desktop, address, "desktop")
    send(desktop, tmp_path, "one.png", "two.png", "three.tif")
    queries = [parse_qs(urlsplit(url).query) for url in asked(desktop) if "/results?" in url]
    sent = [(query["name"][0], query["model"][0]) for query in queries]
    assert sent == [("one.png", "bicubic"), ("one.png", "srgan"), ("two.png", "srgan"), ("three.tif", "srgan")]
    assert "%" not in text(desktop, "pictures")


def test_another_format_is_only_encoded_and_all_are_saved_at_once(desktop, address, tmp_path):
    look(desktop, address, "desktop")
    send(desktop, tmp_path, "one.tif", "two.png")
    asked(desktop)
    choose(desktop, "format", "tif")
    desktop.find_elements("css selector", "#pictures li")[1].find_elements("tag name", "button")[1].click()
    saved = desktop.downloads / "one_srgan_x4.tif"
    until(desktop, saved.exists)
    with Image.open(saved) as result:
        assert result.format == "TIFF" and result.size == (120, 80)
    choose(desktop, "format", "webp")
    desktop.find_element("id", "all").click()
    until(desktop, (desktop.downloads / "upscaled.zip").exists)
    with zipfile.ZipFile(desktop.downloads / "upscaled.zip") as archive:
        names = [f"{name}_srgan_x4.webp" for name in ("example_1", "one", "two")]
        assert archive.namelist() == names and archive.testzip() is None
    assert not [url for url in asked(desktop) if "/results?" in url]


def test_another_method_and_another_strength_come_into_view(desktop, address):
    look(desktop, address, "desktop")
    choose(desktop, "left", "srresnet")
    until(desktop, lambda: text(desktop, "sizes").startswith("srresnet | srgan: "))
    before = desktop.execute_script("return document.getElementById('right-picture').src")
    desktop.find_element("id", "strength").send_keys("\ue012")  # left
    until(desktop, lambda: desktop.execute_script("return document.getElementById('right-picture').src") != before)
    loaded = "return ['left', 'right'].map(side => document.getElementById(side + '-picture').naturalWidth)"
    until(desktop, lambda: desktop.execute_script(loaded) == [256, 256])
    assert any("model=srgan" in url and "strength=0.9" in url for url in asked(desktop))


@pytest.mark.parametrize("kind", ["no picture", "too large"])
def test_what_cannot_be_taken_is_one_line(desktop, tmp_path, kind):
    path = tmp_path / "mine.png"
    if kind == "no picture":
        path.write_text(kind)
    else:
        Image.new("1", (2001, 2000)).save(path)
    desktop.find_element("id", "photo").send_keys(str(path))
    until(desktop, lambda: text(desktop, "alert").startswith("mine.png: "))
    said = {"no picture": "mine.png: damaged", "too large": "2001x2000 are more than 4 megapixels"}[kind]
    until(desktop, lambda: said in text(desktop, "alert"))
    assert kind == "no picture" or 'python upscale.py "mine.png"' in text(desktop, "alert")
    assert text(desktop, "right-label") == "no srgan"
    opacity = "[...document.querySelectorAll('#pictures li:last-child button')].map(b => +getComputedStyle(b).opacity)"
    name, download = desktop.execute_script(f"return {opacity}")
    assert name == 1 and download < 0.6


def test_the_pages_of_a_scan_are_all_saved(desktop, address, tmp_path):
    look(desktop, address, "desktop")
    scan, pages = tmp_path / "scan.tif", [Image.open(picture(tmp_path / "page.png", mode)) for mode in ("L", "RGB")]
    pages[0].save(scan, save_all=True, append_images=pages[1:])
    desktop.find_element("id", "photo").send_keys(str(scan))
    until(desktop, lambda: "scan.tif, 30x20 -> 120x80" in text(desktop, "sizes"))
    until(desktop, lambda: "2 pages, of which the first is in view; save as tif" in text(desktop, "pictures"))
    loaded = "return ['left', 'right'].map(side => document.getElementById(side + '-picture').naturalWidth)"
    until(desktop, lambda: desktop.execute_script(loaded) == [120, 120])
    save = desktop.find_elements("css selector", "#pictures li:last-child button")[1]
    save.click()
    until(desktop, lambda: "PNG cannot hold these 2 pages; choose .tiff or .tif" in text(desktop, "pictures"))
    choose(desktop, "format", "tif")
    save.click()
    saved, expected = desktop.downloads / "scan_srgan_x4.tif", tmp_path / "expected.tif"
    until(desktop, saved.exists)
    assert upscale.main(upscale.command_line([str(scan), "-o", str(expected)])) == 0
    assert saved.read_bytes() == expected.read_bytes()


def test_nothing_is_asked_of_another_machine(desktop, address):
    look(desktop, address, "desktop")
    urls = asked(desktop)
    assert urls and all(url.startswith(address) for url in urls)


def test_keys_move_the_divider_zoom_and_move_the_picture(browser):
    view, divider = (browser.find_element("id", name) for name in ("view", "divider"))
    for keys, place in (("\ue014", 52), ("\ue012\ue012", 48)):  # right, left
        divider.send_keys(keys)
        left, _, right, _ = area(browser, "#view")
        assert divider.get_attribute("aria-valuenow") == str(place)
        assert sum(area(browser, "#divider")[::2]) / 2 == pytest.approx(left + place / 100 * (right - left), abs=0.5)
    fitted = width(browser)
    divider.send_keys("+++++")
    assert width(browser) == pytest.approx(fitted * 1.25**5, rel=0.01)
    before = area(browser, "#right-picture")[0]
    divider.send_keys("\ue008\ue014\ue008")  # shift + right
    assert area(browser, "#right-picture")[0] < before - 20
    divider.send_keys("-")
    assert width(browser) == pytest.approx(fitted * 1.25**4, rel=0.01)
    for percent, number in (("100 %", 256), ("300 %", 768)):
        browser.find_element("xpath", f"//button[text()='{percent}']").click()
        assert width(browser) == pytest.approx(number, abs=0.5)
    browser.execute_script("dispatchEvent(new Event('resize'))")  # as when a phone hides its address
    assert width(browser) == pytest.approx(768, abs=0.5)
    divider.send_keys("0")
    assert width(browser) == pytest.approx(fitted, rel=0.01)
    assert all(key in browser.find_element("class name", "hint").text for key in "←→+−0") and view.is_displayed()


def touch(browser, kind, *points):
    touched = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touched})


def test_two_fingers_zoom_one_moves_and_the_picture_is_never_lost(desktop, address):
    look(desktop, address, "phone")
    left, top, right, bottom = area(desktop, "#view")
    x, y, fitted = left + 80, (top + bottom) / 2 + 80, width(desktop)
    touch(desktop, "touchStart", (x, y), (x + 50, y))
    for step in range(1, 6):
        touch(desktop, "touchMove", (x - 5 * step, y), (x + 50 + 5 * step, y))
    touch(desktop, "touchEnd")
    assert width(desktop) == pytest.approx(2 * fitted, rel=0.05)
    before = area(desktop, "#right-picture")
    for sign in (1, -1):
        for _ in range(9):
            touch(desktop, "touchStart", (x, y))
            touch(desktop, "touchMove", (x + sign * 50, y + sign * 50))
            touch(desktop, "touchEnd")
        after = area(desktop, "#right-picture")
        assert after[0] <= left + 1 and after[2] >= right - 1  # it covers the view all the time
    assert after != before and area(desktop, "#view")[1] == top  # and the page itself stays
    middle = (left + right) / 2
    touch(desktop, "touchStart", (middle, y))
    touch(desktop, "touchMove", (middle - 90, y))
    touch(desktop, "touchEnd")
    at = sum(area(desktop, "#divider")[::2]) / 2
    assert at == pytest.approx(middle - 90, abs=2)
    before = width(desktop)
    touch(desktop, "touchStart", (at, y), (at + 100, y))  # one finger on the divider
    touch(desktop, "touchMove", (at, y), (at + 150, y))
    touch(desktop, "touchEnd")
    assert width(desktop) == pytest.approx(1.5 * before, rel=0.05)
    assert sum(area(desktop, "#divider")[::2]) / 2 == at


def test_a_picture_chosen_far_down_in_the_list_comes_into_view(browser, tmp_path):
    send(browser, tmp_path, *(f"{number}.png" for number in range(8)))
    browser.find_element("css selector", "#pictures li:last-child button").click()
    until(browser, lambda: "7.png, 30x20 -> 120x80" in text(browser, "sizes"))
    _, top, _, bottom = area(browser, "#view")
    assert -1 < top < bottom <= 1 + browser.execute_script("return innerHeight")


def test_what_is_touched_is_large_enough_and_the_picture_comes_first(browser):
    targets = "[...document.querySelectorAll('button, select, input, [role=slider]')].filter(e => e.checkVisibility())"
    sizes = browser.execute_script(f"return {targets}.map(e => [e.offsetWidth, e.offsetHeight, e.outerHTML])")
    assert len(sizes) > 10 and [size for size in sizes if min(size[:2]) < 44] == []
    page, screen = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert page <= screen
    view, drop = area(browser, "#view"), area(browser, "#drop")
    assert view[2] - view[0] >= 0.65 * screen and view[3] - view[1] >= 400
    assert drop[1] > view[3] if browser.device == "phone" else drop[0] > view[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_nothing_to_say(browser, scheme):
    axe = ROOT / "node_modules/axe-core/axe.min.js"
    if not axe.exists():
        pytest.skip("needs npm install --no-save axe-core")
    features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    browser.execute_script(axe.read_text())
    report = browser.execute_async_script("axe.run().then(arguments[0])")
    assert len(report["passes"]) > 20
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in report["violations"]] == []


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
