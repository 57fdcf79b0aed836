"""study.py's page as a rater sees it, in headless Chromium; skipped where Selenium or Chromium is missing."""

import base64
import io
import json
import shutil

import imageio.v3 as iio
import numpy as np
import pytest
from studies import Server, made, rows

from rating.manifest import showings

FLAGS = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-sync"
FLAGS = [*FLAGS.split(), "disable-component-update", "window-size=900,700", "force-color-profile=srgb"]
EXAMPLES = 2


@pytest.fixture
def open_browser(tmp_path):
    """A function that starts a browser that has never been here."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver")
    browsers = []

    def start(*more):
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in [*FLAGS, *more, f"user-data-dir={tmp_path / f'profile {len(browsers)}'}"]:
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        browsers.append(webdriver.Chrome(options, webdriver.ChromeService(driver)))
        return browsers[-1]

    yield start
    for browser in browsers:
        browser.quit()


def until(browser, condition):
    """What `condition` gives, once it is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 60, 0.02).until(lambda _: condition())


def press(browser, key):
    browser.find_element("tag name", "body").send_keys(key)


def waiting_for_an_answer(browser):
    """Which step's picture is shown, once it can be answered."""
    ready = "return document.querySelector('#answers button:enabled') ? [state.step] : null"
    return until(browser, lambda: browser.execute_script(ready))[0]


def dismiss(browser, title):
    until(browser, lambda: title in browser.find_element("id", "card").text)
    press(browser, " ")


def through_the_examples(browser, order):
    """From the first card to the first picture that counts."""
    dismiss(browser, "Picture quality")
    for step in range(EXAMPLES):
        assert waiting_for_an_answer(browser) == step
        answer = str(order[step].item.answer)
        assert f"Press {answer}." in browser.find_element("id", "question").text
        press(browser, "3")  # not the answer that is shown
        assert waiting_for_an_answer(browser) == step
        press(browser, answer)
    dismiss(browser, "examples are over")


def test_a_rater_rates_ten_pictures_refreshes_and_goes_on_in_another_browser(tmp_path, open_browser):
    found = made(tmp_path)
    server, order = Server(found.folder), showings(found, 1)
    address, browser = server.url + server.addresses[0], open_browser()
    browser.get(address)
    through_the_examples(browser, order)
    given = [1, 5, 2, 4, 3, 3, 1, 2, 5, 4]
    for number, value in enumerate(given):
        assert waiting_for_an_answer(browser) == EXAMPLES + number
        assert f"{number + 1} of {len(order) - EXAMPLES}" in browser.find_element("id", "progress").text
        press(browser, str(value))
    browser.refresh()
    assert waiting_for_an_answer(browser) == EXAMPLES + 10
    held = "for (const repeat of [true, true]) document.dispatchEvent(new KeyboardEvent('keydown', {key: '1', repeat}))"
    browser.execute_script(held)
    assert waiting_for_an_answer(browser) == EXAMPLES + 10
    browser.find_elements("css selector", "#answers button")[3].click()
    assert waiting_for_an_answer(browser) == EXAMPLES + 11
    assert browser.get_cookies() == [] and browser.execute_script("return localStorage.length") == 0
    other = open_browser()
    other.get(address)
    assert waiting_for_an_answer(other) == EXAMPLES + 11
    press(other, "2")
    assert waiting_for_an_answer(other) == EXAMPLES + 12
    press(browser, "5")  # to a picture that was rated in the other window meanwhile: that rating stands
    assert waiting_for_an_answer(browser) == EXAMPLES + 12
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in asked if event["method"] == "Network.requestWillBeSent"]
    pictures = [url for url in urls if "/picture/" in url]
    assert len(pictures) > 10 and not [
        url for url in urls if not url.startswith((server.url, "data:", "chrome:", "chrome-untrusted:"))
    ]
    server.stop()
    kept = {(row["item"], row["repeat"]): row["value"] for row in rows(found)}
    wanted = [shown.item.answer for shown in order[:EXAMPLES]] + given + [4, 2]
    assert kept == {(shown.item.name, shown.repeat): value for shown, value in zip(order, wanted)}
    assert all(row["pixel_ratio"] == 1 and row["seconds"] < 60 for row in rows(found))


def test_a_pixel_of_the_picture_is_a_pixel_of_the_screen(tmp_path, open_browser):
    """The screen's own pixels are compared: whole where the picture fits, its middle where it does not."""
    found = made(tmp_path, 1, size=(701, 2001))
    server = Server(found.folder, raters=3)
    for rater, ratio in enumerate((1, 1.5, 2), 1):
        browser = open_browser(f"force-device-scale-factor={ratio}")
        browser.get(server.url + server.addresses[rater - 1])
        dismiss(browser, "Picture quality")
        for step, shown in enumerate(showings(found, rater)[:3]):
            if step == EXAMPLES:
                dismiss(browser, "examples are over")
            assert waiting_for_an_answer(browser) == step
            seen, picture = screenshot(browser, ratio), iio.imread(found.path(shown.item.shown[0]))
            assert (len(picture) > len(seen)) == (step == EXAMPLES)  # the examples fit, the picture does not
            assert matches(seen, picture)
            press(browser, str(shown.item.answer or 3))
    server.stop()
    assert {(row["rater"], row["pixel_ratio"]) for row in rows(found)} == {(1, 1), (2, 1.5), (3, 2)}


def screenshot(browser, ratio):
    """The device pixels (h, w, 3) of the part of the screen that a picture has."""
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    stage = browser.execute_script("return document.querySelector('.frame').getBoundingClientRect()")
    top, bottom, left, right = (round(stage[name] * ratio) for name in ("top", "bottom", "left", "right"))
    return iio.imread(io.BytesIO(base64.b64decode(shot)))[top:bottom, left:right, :3]


def matches(seen, picture):
    """Whether the screen shows the middle of the picture, give or take a pixel that halves are rounded by, on grey."""
    top, left = (round((room - size) / 2) for room, size in zip(seen.shape[:2], picture.shape[:2]))
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            canvas = np.full_like(seen, 128)
            y, x = top + down, left + right
            target = canvas[max(y, 0) : y + picture.shape[0], max(x, 0) : x + picture.shape[1]]
            target[:] = picture[max(-y, 0) :, max(-x, 0) :][: target.shape[0], : target.shape[1]]
            if np.array_equal(canvas, seen):
                return True
    return False


def test_when_the_server_is_gone_the_page_says_so_and_goes_on_by_itself(tmp_path, open_browser):
    found = made(tmp_path)
    server, order, browser = Server(found.folder), showings(found, 1), open_browser()
    browser.get(server.url + server.addresses[0])
    through_the_examples(browser, order)
    step = waiting_for_an_answer(browser)
    server.process.kill()
    server.process.communicate()
    press(browser, "4")
    until(browser, lambda: "does not answer" in browser.find_element("id", "trouble").text)
    server = Server(found.folder, port=server.port)
    assert waiting_for_an_answer(browser) == step + 1
    assert not browser.find_element("id", "trouble").is_displayed()
    server.stop()
    assert [row["value"] for row in rows(found) if row["item"] == order[step].item.name] == [4]


def test_pairs_are_shown_beside_the_original_and_answered_by_arrows(tmp_path, open_browser):
    found = made(tmp_path, 10, "--kind=pairs")
    server, order, browser = Server(found.folder, raters=1), showings(found, 1), open_browser()
    browser.get(server.url + server.addresses[0])
    dismiss(browser, "Picture quality")
    left, down, right = "\ue012", "\ue015", "\ue014"
    assert waiting_for_an_answer(browser) == 0
    assert [frame.text for frame in browser.find_elements("css selector", ".frame")] == ["left", "original", "right"]
    answered = [right if not order[0].flipped else left, left, down, right]
    press(browser, answered[0])
    dismiss(browser, "examples are over")
    for step, key in enumerate(answered[1:], 1):
        assert waiting_for_an_answer(browser) == step
        press(browser, key)
    assert waiting_for_an_answer(browser) == 4
    server.stop()
    kept = {row["item"]: row["value"] for row in rows(found)}
    for shown, key in zip(order, answered):
        value = {left: 1, down: 2, right: 3}[key]
        assert kept[shown.item.name] == (4 - value if shown.flipped else value)
