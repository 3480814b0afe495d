"""The dashboard in a real Chromium: `pytest -m browser`."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from booking_resilience import load_json
from booking_resilience.testing import AppwriteServer, Fault

pytest.importorskip("starlette", reason="the extra `examples` is not installed")
pytest.importorskip("selenium", reason="selenium is not installed")

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from demohost import DemoHost, demo_host, moved_clock, until

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
EXPECTED = re.compile(r"/api/(test-fail|bookings) - Failed to load resource: .* status of (422|502|503) ")
"""What Chromium itself logs of answers that are errors."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
    pytest.mark.skipif(not DRIVER.exists(), reason=f"{DRIVER} is not installed"),
]


class Page:
    """The dashboard as somebody sees it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.may_lose_connection = False

    def open(self, host: DemoHost) -> None:
        """Go there, and wait until it is live."""
        self.driver.get(host.url)
        self.sees("connection-text", "Live")

    def text(self, element: str) -> str:
        """Return the text of an element by its ID."""
        return str(self.driver.find_element(By.ID, element).get_property("textContent"))

    def sees(self, element: str, pattern: str) -> None:
        """Wait until the text of an element matches."""
        until(lambda: re.search(pattern, self.text(element)) is not None, f"{element} to show {pattern}")

    def click(self, element: str) -> None:
        """Click an element, by its ID, once it can be."""
        button = self.driver.find_element(By.ID, element)
        until(lambda: button.get_attribute("aria-disabled") is None, f"{element} to be ready")
        self.run("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page."""
        return self.driver.execute_script(script, *arguments)

    def device(self, width: int, height: int, *, scheme: str = "light", motion: str = "no-preference") -> None:
        """Be another device."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A Chromium with nothing in it."""
    profile = tmp_path_factory.mktemp("profile")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    running = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield running
    finally:
        running.quit()
        shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture
def page(driver: webdriver.Chrome) -> Iterator[Page]:
    """The page; afterwards, no error stands in its console, and it has asked no other host for anything."""
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    looking = Page(driver)
    looking.device(1280, 900)
    yield looking
    served = urlsplit(driver.current_url).netloc
    complaints = [entry["message"] for entry in driver.get_log("browser")]
    asked = requests_of(driver)
    driver.get("about:blank")
    if not looking.may_lose_connection:
        assert [text for text in complaints if not EXPECTED.search(text)] == []
    assert {urlsplit(url).netloc for url in asked if url.startswith(("http", "ws"))} == {served}


def requests_of(driver: webdriver.Chrome) -> list[str]:
    """Return the addresses of all requests that the page made."""
    entries = driver.get_log("performance")
    messages = [json.loads(entry["message"])["message"] for entry in entries]
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]


@pytest.fixture
def host() -> Iterator[DemoHost]:
    """A demo of its own."""
    with demo_host() as running:
        yield running


def fail(host: DemoHost, times: int) -> None:
    """Have errors recorded."""
    for number in range(times):
        host.demo.monitor.log_network_error("lookUp", ConnectionError(f"connection {number} lost"))


def test_the_chart_moves_when_errors_come(page: Page, host: DemoHost) -> None:
    """The curve rises with the errors, and the number beside it."""
    page.open(host)
    until(lambda: bool(page.run("return document.querySelector('#chart .tip')")), "the chart")

    def tip() -> tuple[float, str]:
        script = "return [document.querySelector('#chart .tip').getAttribute('cy'), "
        cy, curve = page.run(script + "document.querySelector('#chart .curve').getAttribute('d')]")
        return float(cy), curve

    low, before = tip()
    fail(host, 5)
    page.sees("rate-now", "^5$")
    until(lambda: tip()[0] < low - 10, "the curve to rise")
    assert tip()[1] != before
    assert "5 per minute now" in str(page.driver.find_element(By.ID, "chart").get_attribute("aria-label"))


def test_the_banner_comes_with_the_eleventh_error_and_goes(page: Page) -> None:
    """Ten errors in a minute are no alert, the eleventh is; when it has been quiet for long enough the banner goes."""
    with moved_clock() as clock, demo_host() as host:
        page.open(host)
        fail(host, 10)
        page.sees("rate-now", "^10$")
        assert page.text("alert") == ""
        fail(host, 1)
        page.sees("alert", "More than 10 errors per minute")
        assert page.driver.find_element(By.CSS_SELECTOR, "#alert .banner").is_displayed()
        assert page.driver.title.startswith("11/min")
        clock.advance(130)
        page.sees("alert", "^$")
        page.sees("rate-now", "^0$")
        assert page.driver.title == "Booking resilience"


def test_the_breaker_opens_counts_down_and_closes(page: Page) -> None:
    """Five failures open the breaker on the page, it counts down, the sixth call is refused, a booking closes it."""
    with moved_clock() as clock, demo_host() as host:
        page.open(host)
        page.sees("breaker-state", "^Closed$")
        for number in range(1, 6):
            page.click("test-fail")
            page.sees("result", f"Failed, {number} time")
        page.sees("breaker-state", "^Open$")
        page.sees("dial-number", r"^\d+$")
        first = int(page.text("dial-number"))
        assert 1 <= first <= 30
        until(lambda: 0 < int(page.text("dial-number")) < first, "the countdown to go on")
        page.click("test-fail")
        page.sees("result", r"Refused; try again in \d+ s")
        page.sees("refused", "^1$")
        clock.advance(31)
        page.sees("breaker-text", "The next call is the trial")
        page.click("book")
        page.sees("breaker-state", "^Closed$")
        page.sees("result", "^Booked")


def test_the_retry_test_shows_its_attempts(page: Page, host: DemoHost) -> None:
    """The retry test's three attempts are shown with their delays, and count as one recovery."""
    page.open(host)
    page.click("test-retry")
    page.sees("result", "Recovered after")
    steps = [step.text for step in page.driver.find_elements(By.CSS_SELECTOR, "#result li")]
    assert len(steps) == 3
    assert re.search(r"then 0\.[23]\d s of waiting", steps[0])
    assert re.search(r"then 0\.[56]\d s of waiting", steps[1])
    assert "succeeded" in steps[2]
    page.sees("recovered", "^1$")
    page.sees("attempts", "^3$")


def test_a_booking_is_made_and_a_wrong_one_is_told(page: Page, host: DemoHost) -> None:
    """The form books; what is wrong with it is told beside the field, which gets the focus."""
    page.open(host)
    page.click("book")
    page.sees("result", "^Booked.*bookingButton")
    page.sees("bookings", "^1$")
    minutes = page.driver.find_element(By.NAME, "duration")
    minutes.clear()
    minutes.send_keys("long" + Keys.ENTER)
    page.sees("result", "Booking data error.*duration.*whole number")
    assert minutes.get_attribute("aria-invalid") == "true"
    assert page.driver.switch_to.active_element == minutes


def test_an_error_unfolds_and_is_never_markup(page: Page, host: DemoHost) -> None:
    """An error's attempts, context and stack unfold and stay while others come; hostile text is shown as text."""
    page.open(host)
    host.appwrite.faults.script([Fault.status(503)] * 3, method="POST", path="/rows")
    page.click("book")
    page.sees("result", "Service temporarily unavailable")
    page.sees("errors", "createBooking")
    page.driver.find_element(By.CSS_SELECTOR, "#errors summary").send_keys(Keys.ENTER)
    page.sees("errors", "Failed attempts.*Context.*Ada Moreau.*Stack.*Traceback")
    hostile = "<img src=//example.com/x onerror=alert(1)><script>alert(2)</script>"
    host.demo.monitor.log_chat_error(hostile, ValueError(hostile), **{"<b>note</b>": hostile})
    page.sees("errors", re.escape(hostile))
    page.driver.find_element(By.CSS_SELECTOR, "#errors summary").click()
    page.sees("errors", "<b>note</b>")
    assert page.run("return document.querySelectorAll('#errors img, #errors script, #errors b').length") == 0
    fail(host, 30)
    page.sees("errors", "connection 29 lost")
    page.sees("errors", "Ada Moreau")


def test_downloads_parse(page: Page, host: DemoHost, tmp_path: Path) -> None:
    """Both downloads arrive and have all errors."""
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    fail(host, 3)
    page.open(host)
    page.click("download-json")
    page.click("download-csv")
    for name in ("errors.json", "errors.csv"):
        until((tmp_path / name).exists, name)
    assert len(load_json(tmp_path / "errors.json")) == 3
    text = (tmp_path / "errors.csv").read_bytes().decode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert {row["operation"] for row in rows} == {"lookUp"}


def test_a_lost_stream_is_told_and_found_again(page: Page) -> None:
    """When the server is gone the page says so; when it is back, too, and it shows the new numbers."""
    page.may_lose_connection = True
    with AppwriteServer() as appwrite:
        host = DemoHost(appwrite)
        fail(host, 3)
        page.open(host)
        page.sees("failed", "^3$")
        host.stop()
        page.sees("connection-text", "Connection lost")
        page.sees("notice", "The connection is lost")
        host = DemoHost(appwrite, port=host.port)
        page.sees("connection-text", "^Live$")
        page.sees("notice", "Live again")
        page.sees("failed", "^0$")
        page.sees("notice", "^$")
        host.stop()


def test_a_server_that_is_stuck_is_told(page: Page, host: DemoHost) -> None:
    """When the server keeps the connection but says nothing, the page notices that as well."""
    page.may_lose_connection = True
    page.open(host)
    go_on = threading.Event()
    assert host.loop is not None
    host.loop.call_soon_threadsafe(go_on.wait, 30)
    page.sees("connection-text", "Connection lost")
    go_on.set()
    page.sees("connection-text", "^Live$")


def test_a_page_that_nobody_sees_takes_no_connection(page: Page, host: DemoHost) -> None:
    """A tab in the background gives its connection up, and is live again when it is looked at."""
    page.open(host)
    shown = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    until(lambda: host.hub.viewers == 0, "the hidden page to leave")
    page.driver.close()
    page.driver.switch_to.window(shown)
    page.sees("connection-text", "^Live$")
    assert host.hub.viewers == 1


def test_everything_has_a_name_and_is_reached_by_keyboard(page: Page, host: DemoHost) -> None:
    """Landmarks are there, whatever takes the focus has a name, and the keyboard alone reaches and presses it all."""
    fail(host, 2)
    page.open(host)
    page.sees("errors", "lookUp")
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {node["role"]["value"] for node in tree if not node["ignored"]}
    assert {"banner", "main", "contentinfo", "heading", "form", "region", "alert", "status"} <= roles
    for node in tree:
        focusable = any(item["name"] == "focusable" and item["value"]["value"] for item in node.get("properties", []))
        if focusable and not node["ignored"] and node["role"]["value"] not in ("RootWebArea", "main"):
            assert node["name"]["value"], node

    reached = []
    look = (
        "const it = document.activeElement; return [it.id || it.name || it.tagName, getComputedStyle(it).outlineStyle]"
    )
    for _ in range(40):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        name, outline = page.run(look)
        reached.append(name)
        assert outline == "solid" or name == "BODY", f"{name} does not show that it has the focus"
        if reached.count("A") > 1 or reached[-1] == "BODY":
            break
    assert reached[0] == "A"  # the skip link
    wanted = {"test-retry", "test-fail", "therapistName", "duration", "source", "chatWindowOpen", "book", "SUMMARY"}
    assert wanted | {"download-json", "download-csv"} <= set(reached)
    page.driver.find_element(By.ID, "test-retry").send_keys(Keys.TAB)
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    page.sees("result", "Failed, 1 time")
    assert page.run("return document.activeElement.id") == "test-fail"


CONTRAST = """
const light = colour => { const [r, g, b] = colour.map(part => { part /= 255; return part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
const parse = text => text.match(/[\\d.]+/g).map(Number);
const behind = node => { for (; node; node = node.parentElement) { const c = parse(getComputedStyle(node).backgroundColor); if (c.length < 4 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
const poor = [];
for (const node of document.querySelectorAll('body *')) {
  const own = [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
  if (!own || node.closest('script, style, noscript') || !node.getClientRects().length) continue;
  const style = getComputedStyle(node), svg = node.namespaceURI.endsWith('svg');
  const [a, b] = [light(parse(svg ? style.fill : style.color).slice(0, 3)), light(behind(node))];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) poor.push([node.textContent.trim().slice(0, 40), ratio]);
}
return poor;
"""  # noqa: E501 - a script


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_it_reads_well_everywhere(page: Page, host: DemoHost, width: int, scheme: str) -> None:
    """On a phone, a tablet and a desk, in the light and in the dark, nothing is cut off, small or faint."""
    page.device(width, 800, scheme=scheme, motion="reduce")
    page.open(host)
    long = "no_spaces_at_all_" * 20
    host.demo.monitor.record(RuntimeError(long), operation=long, category="payment", severity="critical")
    host.demo.monitor.record(RuntimeError("full"), operation="o", severity="warning", outcome="recovered")
    fail(host, 11)
    page.sees("alert", "More than 10")
    page.click("test-fail")
    page.sees("result", "Failed")
    page.sees("errors", "testFail")
    page.driver.find_element(By.CSS_SELECTOR, "#errors summary").click()
    page.sees("errors", "Traceback")
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert stable(lambda: page.run(CONTRAST)) == []
    small = """return [...document.querySelectorAll('button, .button, input:not([type=checkbox]), select')]
        .filter(it => it.getBoundingClientRect().height < 36).length"""
    assert page.run(small) == 0
    assert page.run("return getComputedStyle(document.querySelector('.fill')).transitionDuration") == "0s"


def stable(look: Callable[[], Any]) -> Any:
    """Look; once more if the page has changed under it."""
    try:
        return look()
    except StaleElementReferenceException:
        return look()
