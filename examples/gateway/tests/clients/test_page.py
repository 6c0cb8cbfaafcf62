"""The status page in a real browser: Debian's Chromium."""

import openai
import pytest
from conftest import ADMIN, KEY, LOOK, limit
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

WORDS = [{"role": "user", "content": "word"}]
LIMITS = limit("gpt-4o", tokens_per_minute=6000, token_quota=64, token_quota_period="Yearly")
QUOTA = '[data-limit=\'project "search" on "gpt-4o": token quota\']'


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in [
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ]:
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    yield browser
    browser.quit()


class Page:
    def __init__(self, browser, gateway):
        self.browser = browser
        browser.get(f"{gateway.url}/status")

    def one(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, is_so):
        return WebDriverWait(self.browser, 60, 0.1).until(lambda _: is_so())

    def script(self, text):
        return self.browser.execute_script(text)

    def text(self, selector):
        """Read in one step: the page is drawn anew each second."""
        return self.browser.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector)

    def enter(self, key):
        self.one("#key").send_keys(key)
        self.one("#enter button").click()

    def used(self):
        return self.browser.execute_script("return document.querySelector(arguments[0])?.dataset.used", QUOTA)


def test_a_wrong_key_shows_nothing(browser, start):
    page = Page(browser, start(LIMITS))
    page.enter("wrong")
    page.wait(lambda: "not known" in page.text("#note"))
    assert not page.one("#shown").is_displayed() and page.text("#projects") == ""


@pytest.mark.parametrize("key", [ADMIN, LOOK])
def test_gauges_move_and_refusals_appear(browser, start, key):
    gateway = start(LIMITS)
    page = Page(browser, gateway)
    page.enter(key)
    page.wait(lambda: page.used() == "0")
    assert page.script("return [...document.querySelectorAll('article h3')].map(h => h.textContent)") == ["search", "support"]
    assert page.text("#refusals") == "None."

    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0)
    client.chat.completions.create(model="gpt-4o", messages=WORDS)
    page.wait(lambda: page.used() == "32")
    bar = "return document.querySelector(arguments[0] + ' .bar i').style.width"
    assert browser.execute_script(bar, QUOTA) == "50%"
    client.chat.completions.create(model="gpt-4o", messages=WORDS)
    page.wait(lambda: page.used() == "64")
    assert "hot" in browser.execute_script("return document.querySelector(arguments[0]).className", QUOTA)

    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="gpt-4o", messages=WORDS)
    page.wait(lambda: "403" in page.text("#refusals"))
    assert 'token quota" is exceeded' in page.text("#refusals") and "search" in page.text("#refusals")
    assert "admitted 2" in page.text("#calls") and "refused-quota 1" in page.text("#calls")
    # The chart has a line for each project, and that of search rises.
    line = "return document.querySelector('#chart [data-project=search]').getAttribute('points')"
    heights = {point.split(",")[1] for point in browser.execute_script(line).split()}
    assert len(heights) > 1 and len(page.all("#chart polyline")) == 2

    page.one("#leave").click()
    assert page.text("#projects") == "" and not page.one("#shown").is_displayed()
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE" and "401" not in entry["message"]]
    assert severe == []


def test_the_key_is_kept_for_the_tab_only(browser, start):
    gateway = start(LIMITS)
    page = Page(browser, gateway)
    page.enter(LOOK)
    page.wait(lambda: page.used() == "0")
    browser.refresh()
    page.wait(lambda: page.used() == "0")
    assert browser.execute_script("return localStorage.length") == 0
    page.one("#leave").click()
    browser.refresh()
    assert page.one("#enter").is_displayed()
