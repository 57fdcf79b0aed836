"""demo.py as a user sees it, in headless Chromium; skipped where Gradio, Selenium or Chromium is missing."""

import base64
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import demo
import upscale
from upscaling.network import Network
from upscaling.upscaler import Upscaler

ROOT = Path(__file__).parents[1]
FLAGS = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-sync"
FLAGS = [f"--{name}" for name in [*FLAGS.split(), "disable-component-update", "window-size=1280,900"]]
SHOWN = "return [...document.querySelectorAll('#slider img')].map(i => [i.src, i.naturalWidth, i.naturalHeight])"
HAND_OVER = """
const [way, name, content] = arguments, data = new DataTransfer();
data.items.add(new File([Uint8Array.from(atob(content), c => c.charCodeAt(0))], name));
if (way == "paste") document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data}));
else document.querySelector("#photo button").dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a running demo.py, started in another folder; it must end without an error."""
    pytest.importorskip("gradio")
    pytest.importorskip("openvino")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, ROOT / "demo.py", f"--port={port}"]
    folder = tmp_path_factory.mktemp("elsewhere")
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline().startswith(f"http://127.0.0.1:{port} ")
        yield f"http://127.0.0.1:{port}"
        server.send_signal(2)
        assert "Traceback" not in server.communicate(timeout=300)[1]


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
    until(browser, lambda: len(shown(browser)) == 2)
    yield browser
    browser.quit()


def until(browser, condition):
    """What `condition` gives, once it is true."""
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    redrawn = [StaleElementReferenceException]  # between finding an element and asking it
    return WebDriverWait(browser, 600, 0.2, redrawn).until(lambda _: condition())


def shown(browser, name=""):
    """[(file, width, height)] of the two pictures, once they are loaded and of the picture called `name`."""
    pictures = [(url.rpartition("/")[2], *size) for url, *size in browser.execute_script(SHOWN)]
    return [picture for picture in pictures if picture[0].startswith(name) and picture[1]]


def hand_over(browser, way, path):
    """Give the page a file, as a user does."""
    if way == "choose":
        browser.find_element("css selector", "#photo input[type=file]").send_keys(str(path))
    else:
        browser.execute_script(HAND_OVER, way, path.name, base64.b64encode(path.read_bytes()).decode())


def picture(path, mode, size=(30, 20)):
    shape, kind = (size[1], size[0], 4) if mode == "RGBA" else size[::-1], np.uint16 if mode == "I;16" else np.uint8
    Image.fromarray(np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, kind)).save(path)
    return path


@pytest.mark.parametrize(
    "way, name, mode", [("drop", "clear.png", "RGBA"), ("choose", "deep.tiff", "I;16"), ("paste", "grey.bmp", "L")]
)
def test_a_picture_is_compared_and_the_download_is_what_upscale_py_writes(browser, tmp_path, way, name, mode):
    path = picture(tmp_path / name, mode)
    hand_over(browser, way, path)
    left, right = until(browser, lambda: len(shown(browser, path.stem)) == 2 and shown(browser))
    assert left == (f"{path.stem}_bicubic_x4.png", 120, 80) and right[1:] == (120, 80)
    browser.find_element("css selector", "#right input[value=SRResNet]").click()
    result = f"{path.stem}_SRResNet_x4.png"
    until(browser, lambda: shown(browser)[1:] == [(result, 120, 80)] and "SRResNet" in button(browser).text)
    until(browser, lambda: button(browser).click() or True)
    until(browser, (browser.downloads / result).exists)
    expected = ["upscale.py", path, "--model=srresnet", "--format=png", "-o", tmp_path / "expected.png"]
    assert upscale.main(upscale.command_line(list(map(str, expected[1:])))) == 0
    assert (browser.downloads / result).read_bytes() == (tmp_path / "expected.png").read_bytes()


def button(browser):
    return browser.find_element("id", "download")


def test_another_method_is_shown_when_it_is_chosen(browser):
    for side, place in (("left", 0), ("right", 1)):
        for method in ("SRResNet", "bicubic"):
            browser.find_element("css selector", f"#{side} input[value={method}]").click()
            until(browser, lambda: len(found := shown(browser)) == 2 and method in found[place][0])


def test_an_example_is_upscaled(browser):
    before = shown(browser)
    browser.find_elements("css selector", ".gallery-item")[2].click()
    until(browser, lambda: len(shown(browser, demo.EXAMPLES[2].stem)) == 2 and shown(browser) != before)


@pytest.mark.parametrize("name, mistake", [("text.png", "damaged"), ("wide.png", "more than 4 megapixels")])
def test_what_cannot_be_upscaled_is_one_line(browser, tmp_path, name, mistake):
    path = tmp_path / name
    if name == "wide.png":
        Image.new("1", (2001, 2000)).save(path)
    else:
        path.write_text("no picture")
    hand_over(browser, "drop", path)
    line = until(
        browser, lambda: [e.text for e in browser.find_elements("css selector", "[role=alert]") if name in e.text]
    )
    assert line[0].startswith(f"{name}: ") and mistake in line[0] and "\n" not in line[0]
    until(browser, lambda: shown(browser) == [])
    assert "Traceback" not in browser.page_source


def test_a_file_that_is_too_large_is_one_line(browser, tmp_path):
    (tmp_path / "huge.png").write_bytes(bytes(demo.MEGABYTES * 2**20 + 1))
    hand_over(browser, "choose", tmp_path / "huge.png")
    until(browser, lambda: "maximum allowed size of 20.0 Mb" in browser.find_element("tag name", "body").text)


def test_nothing_is_asked_of_another_machine(browser, address):
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert any(url.startswith(address) for url in asked)
    assert not [url for url in asked if not url.startswith((address, "data:", "blob:", "chrome:"))]


def test_the_networks_are_loaded_without_a_word_to_anyone():
    pytest.importorskip("openvino")
    program = """if True:
        import sys, demo
        sys.addaudithook(lambda event, _: event in ("socket.getaddrinfo", "os.fork") and print(event, flush=True))
        print(*demo.load_methods())"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.startswith("bicubic SRResNet") and result.stdout.count("\n") == 1, result


def test_without_gradio_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert demo.main(demo.command_line([])) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "pip install -r requirements-demo.txt" in line


def test_a_port_that_is_taken_is_one_line(address, capsys):
    assert demo.main(demo.command_line([f"--port={address.rpartition(':')[2]}"])) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "--port" in line


def test_a_wrong_port_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        demo.command_line(["--port=70000"])
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_a_picture_is_upscaled_once_with_progress_in_tiles(tmp_path):
    path, calls = picture(tmp_path / "a.png", "RGBA"), []
    methods = {"bicubic": Upscaler(Network(demo.bicubic, demo.SCALE))}

    def progress(counts, **options):
        calls.append((*counts, options))

    results = [demo.upscaled(path, "bicubic", methods, tmp_path / "results", progress) for _ in range(2)]
    options = {"desc": "bicubic", "unit": "tiles"}
    assert calls == [(0, 1, options), (1, 1, options)] and results[0] == results[1]
    with Image.open(results[0]) as found:
        assert found.size == (120, 80) and found.mode == "RGBA"


def test_its_bicubic_is_ours():
    lr = np.random.default_rng(0).random((1, 9, 7, 3), np.float32)
    assert np.allclose(demo.bicubic(lr)[0], demo.resize(lr[0], 4))
