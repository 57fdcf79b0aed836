"""study.py's page as a rater sees it, in headless Chromium; skipped where Selenium or Chromium is missing."""

import base64
import contextlib
import io

import imageio.v3 as iio
import numpy as np
import pytest
from browsers import asked, chromium, installed, until
from studies import Server, made, rows
from thorough import often

from rating.manifest import showings

EXAMPLES = 2


@pytest.fixture
def open_browser(tmp_path):
    """A function that starts a browser that has never been here. It takes more flags."""
    installed()  # or else a test would start a server that it never stops
    with contextlib.ExitStack() as stack:
        profiles = (tmp_path / f"profile {number}" for number in range(9))
        yield lambda *flags: stack.enter_context(chromium(next(profiles), "window-size=900,700", *flags))


def press(browser, key):
    browser.find_element("tag name", "body").send_keys(key)


def waiting_for_an_answer(browser):
    """Which step's picture is on the screen, once it can be answered."""
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
        press(browser, "3")  # not the answer that it names
        assert waiting_for_an_answer(browser) == step
        press(browser, answer)
    dismiss(browser, "examples are over")


def test_a_rater_rates_pictures_refreshes_and_goes_on_in_another_browser(tmp_path, open_browser):
    of_study = made(tmp_path)
    server, order = Server(of_study.folder), showings(of_study, 1)
    address, browser = server.url + server.addresses[0], open_browser()
    browser.get(address)
    through_the_examples(browser, order)
    given = [1, 5, 2, 4]
    for number, value in enumerate(given):
        assert waiting_for_an_answer(browser) == EXAMPLES + number
        assert f"{number + 1} of {len(order) - EXAMPLES}" in browser.find_element("id", "progress").text
        press(browser, str(value))
    browser.refresh()
    assert waiting_for_an_answer(browser) == EXAMPLES + 4
    held = "for (const repeat of [true, true]) document.dispatchEvent(new KeyboardEvent('keydown', {key: '1', repeat}))"
    browser.execute_script(held)
    assert waiting_for_an_answer(browser) == EXAMPLES + 4
    browser.find_elements("css selector", "#answers button")[3].click()
    assert waiting_for_an_answer(browser) == EXAMPLES + 5
    assert browser.get_cookies() == [] and browser.execute_script("return localStorage.length") == 0
    other = open_browser()
    other.get(address)
    assert waiting_for_an_answer(other) == EXAMPLES + 5
    press(other, "2")
    assert waiting_for_an_answer(other) == EXAMPLES + 6
    press(browser, "5")  # to a picture that was rated in the other window meanwhile: that rating stands
    assert waiting_for_an_answer(browser) == EXAMPLES + 6
    urls = asked(browser)
    assert any("/picture/" in url for url in urls) and all(url.startswith(server.url) for url in urls)
    server.stop()
    stored = {(row["item"], row["repeat"]): row["value"] for row in rows(of_study)}
    wanted = [showing.item.answer for showing in order[:EXAMPLES]] + given + [4, 2]
    assert stored == {(showing.item.name, showing.repeat): value for showing, value in zip(order, wanted)}


@pytest.mark.parametrize("ratio", often([1.5], [1, 1.5, 2]))
def test_a_pixel_of_the_picture_is_a_pixel_of_the_screen(tmp_path, open_browser, ratio):
    """The screen's own pixels are compared: whole where the picture fits, its middle where it does not."""
    of_study = made(tmp_path, 1, size=(701, 2001))
    server, browser = Server(of_study.folder, raters=1), open_browser(f"force-device-scale-factor={ratio}")
    browser.get(server.url + server.addresses[0])
    dismiss(browser, "Picture quality")
    for step, showing in enumerate(showings(of_study, 1)[:3]):
        if step == EXAMPLES:
            dismiss(browser, "examples are over")
        assert waiting_for_an_answer(browser) == step
        seen, picture = screenshot(browser, ratio), iio.imread(of_study.path(showing.item.shown[0]))
        assert (len(picture) > len(seen)) == (step == EXAMPLES)  # the examples fit, the picture does not
        assert matches(seen, picture)
        press(browser, str(showing.item.answer or 3))
    server.stop()
    assert {row["pixel_ratio"] for row in rows(of_study)} == {ratio}


def screenshot(browser, ratio):
    """The device pixels (h, w, 3) of the part of the screen that a picture has."""
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    stage = browser.execute_script("return document.querySelector('.frame').getBoundingClientRect()")
    top, bottom, left, right = (round(stage[name] * ratio) for name in ("top", "bottom", "left", "right"))
    return iio.imread(io.BytesIO(base64.b64decode(shot)))[top:bottom, left:right, :3]


def matches(seen, picture):
    """Whether the screen shows the middle of the picture, give or take a pixel that halves are rounded by, on grey."""
    top, left = (round((room - size) / 2) for room, size in zip(seen.shape[:2], picture.shape[:2]))
    for y, x in ((top + down, left + right) for down in (-1, 0, 1) for right in (-1, 0, 1)):
        canvas = np.full_like(seen, 128)
        target = canvas[max(y, 0) : y + picture.shape[0], max(x, 0) : x + picture.shape[1]]
        target[:] = picture[max(-y, 0) :, max(-x, 0) :][: target.shape[0], : target.shape[1]]
        if np.array_equal(canvas, seen):
            return True
    return False


def test_when_the_server_is_gone_the_page_says_so_and_goes_on_by_itself(tmp_path, open_browser):
    of_study = made(tmp_path)
    server, order, browser = Server(of_study.folder), showings(of_study, 1), open_browser()
    browser.get(server.url + server.addresses[0])
    through_the_examples(browser, order)
    step = waiting_for_an_answer(browser)
    server.process.kill()
    server.process.communicate()
    press(browser, "4")
    until(browser, lambda: "does not answer" in browser.find_element("id", "trouble").text)
    server = Server(of_study.folder, port=server.port)
    assert waiting_for_an_answer(browser) == step + 1
    assert not browser.find_element("id", "trouble").is_displayed()
    server.stop()
    assert [row["value"] for row in rows(of_study) if row["item"] == order[step].item.name] == [4]


def test_pairs_stand_beside_the_original_and_are_answered_by_arrows(tmp_path, open_browser):
    of_study = made(tmp_path, 10, "--kind=pairs")
    server, order, browser = Server(of_study.folder, raters=1), showings(of_study, 1), open_browser()
    browser.get(server.url + server.addresses[0])
    dismiss(browser, "Picture quality")
    keys = {1: "\ue012", 2: "\ue015", 3: "\ue014"}  # left, down, right
    assert waiting_for_an_answer(browser) == 0
    assert [frame.text for frame in browser.find_elements("css selector", ".frame")] == ["left", "original", "right"]
    answers = [1 if order[0].flipped else 3, 1, 2, 3]
    press(browser, keys[answers[0]])
    dismiss(browser, "examples are over")
    for step, answer in enumerate(answers[1:], 1):
        assert waiting_for_an_answer(browser) == step
        press(browser, keys[answer])
    assert waiting_for_an_answer(browser) == 4
    server.stop()
    stored = {row["item"]: row["value"] for row in rows(of_study)}
    wanted = [4 - answer if showing.flipped else answer for showing, answer in zip(order, answers)]
    assert stored == {showing.item.name: value for showing, value in zip(order, wanted)}
