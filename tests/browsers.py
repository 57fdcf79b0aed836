"""Headless Chromium for the tests of pages, which are skipped where Selenium or Chromium is missing."""

import contextlib
import json
import shutil

import pytest

FLAGS = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-sync"
FLAGS = [*FLAGS.split(), "disable-component-update", "force-color-profile=srgb"]


def installed():
    """(Selenium's webdriver, chromium, chromedriver); where one of them is missing, the test is skipped."""
    webdriver = pytest.importorskip("selenium.webdriver")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("needs chromium and chromedriver")
    return webdriver, program, driver


@contextlib.contextmanager
def chromium(profile, *flags):
    """A browser that has never been here. profile: a folder for it that does not exist."""
    webdriver, program, driver = installed()
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in [*FLAGS, *flags, f"user-data-dir={profile}"]:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


def until(browser, condition):
    """What `condition` gives, once it is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 300, 0.02).until(lambda _: condition())


def asked(browser):
    """The addresses that the page has asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith(("data:", "blob:", "chrome:", "chrome-untrusted:"))]
