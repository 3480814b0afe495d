"""The dashboard and the demo's page in a real Chromium: `pytest -m browser`."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from booking_resilience import BreakerState, CircuitBreaker, ErrorMonitor, LimitExceededError, load_json

pytest.importorskip("starlette", reason="the extra `dashboard` is not installed")
pytest.importorskip("selenium", reason="selenium is not installed")

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from booking_resilience.dashboard import dashboard, dashboard_wsgi
from booking_resilience.journal import FleetMonitor, SQLiteJournal
from booking_resilience.load import ConcurrencyLimit, RateLimit
from dashboardhost import DashboardHost, dashboard_host, fail_all, wsgi_host
from demohost import DemoHost, demo_host, moved_clock, until
from journaling import run

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
AXE = Path(os.environ.get("AXE_CORE", Path(__file__).parent.parent / "node_modules" / "axe-core" / "axe.min.js"))
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
EXPECTED = re.compile(r"/api/(test-fail|bookings|breakers) - Failed to load resource: .* status of (403|422|502|503) ")
"""What Chromium itself logs of answers that are errors."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
    pytest.mark.skipif(not DRIVER.exists(), reason=f"{DRIVER} is not installed"),
]


class Page:
    """A page as somebody sees it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.may_lose_connection = False

    def open(self, url: str) -> None:
        """Go to a dashboard, and wait until it is live."""
        self.driver.get(url)
        self.sees("connection", "^Live$")

    def leave(self) -> None:
        """Go away; no error stands in its console then, and it has asked no other host for anything."""
        served = urlsplit(self.driver.current_url).netloc
        if not served:  # it has left already
            return
        complaints = [entry["message"] for entry in self.driver.get_log("browser")]
        asked = requests_of(self.driver)
        self.driver.get("about:blank")
        if not self.may_lose_connection:
            assert [text for text in complaints if not EXPECTED.search(text)] == []
        assert {urlsplit(url).netloc for url in asked if url.startswith(("http", "ws"))} <= {served}

    def text(self, element: str) -> str:
        """Return the text that is seen of an element, by its ID."""
        return str(self.run("return document.getElementById(arguments[0]).innerText", element)).strip()

    def sees(self, element: str, pattern: str) -> None:
        """Wait until the text of an element matches."""
        until(lambda: re.search(pattern, self.text(element)) is not None, f"{element} to show {pattern}")

    def hides(self, element: str, pattern: str) -> None:
        """Wait until the text of an element doesn't match any more."""
        until(lambda: re.search(pattern, self.text(element)) is None, f"{element} to hide {pattern}")

    def at(self, selector: str) -> Any:
        """Return an element by its selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        """Click an element."""
        element = self.at(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def choose(self, name: str, value: str) -> None:
        """Choose a filter's value as it is shown."""
        Select(self.at(f"[name={name}]")).select_by_visible_text(value)

    def groups(self) -> list[str]:
        """Return the operations of the groups that are shown."""
        script = "return [...document.querySelectorAll('#groups .what b')].map(node => node.textContent)"
        return list(self.run(script))

    def shows(self, *operations: str) -> None:
        """Wait until these groups are shown, in any order."""
        until(lambda: sorted(self.groups()) == sorted(operations), f"the groups {operations}, not {self.groups()}")

    def unfold(self, operation: str) -> None:
        """Unfold a group."""
        for summary in self.driver.find_elements(By.CSS_SELECTOR, "#groups summary.group"):
            if summary.find_element(By.CSS_SELECTOR, ".what b").text == operation:
                self.run("arguments[0].scrollIntoView({block: 'center'})", summary)
                summary.click()
        self.sees("groups", "Record 1 of")

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
    """The page."""
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    looking = Page(driver)
    looking.device(1280, 900)
    yield looking
    looking.leave()


def requests_of(driver: webdriver.Chrome) -> list[str]:
    """Return the addresses of all requests that the page made."""
    entries = driver.get_log("performance")
    messages = [json.loads(entry["message"])["message"] for entry in entries]
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]


class Shown:
    """A dashboard with its monitor and breaker.

    Attributes:
        monitor: Has errors of every severity and outcome.
        breaker: Is closed.
        host: Serves it.
    """

    def __init__(self, monitor: ErrorMonitor, breaker: CircuitBreaker, host: DashboardHost) -> None:
        self.monitor, self.breaker, self.host = monitor, breaker, host
        self.url = host.url


@contextmanager
def showing(page: Page, **settings: Any) -> Iterator[Shown]:
    """Serve a dashboard with errors and one breaker; the page leaves it before it goes."""
    monitor, breaker = ErrorMonitor(), CircuitBreaker("appwrite", cooldown=30.0)
    fail_all(monitor)
    limits = [ConcurrencyLimit("rows", limit=2), RateLimit("mails", rate=5)]
    app = dashboard(monitor, breakers=[breaker], limits=limits, title="Booking errors", **settings)
    with dashboard_host(app) as host:
        yield Shown(monitor, breaker, host)
        page.leave()


@pytest.fixture
def shown(page: Page) -> Iterator[Shown]:
    """A dashboard of its own."""
    with showing(page) as made:
        yield made


ALL = ("chargeCard", "formatPrice", "lookUpSlots", "sendWelcomeMessage")


def fail(monitor: ErrorMonitor, times: int) -> None:
    """Have errors recorded."""
    for number in range(times):
        monitor.log_network_error("lookUp", ConnectionError(f"connection {number} lost"))


class TestNumbers:
    """What is seen without touching anything."""

    def test_groups_numbers_and_chart_follow_the_monitor(self, page: Page, shown: Shown) -> None:
        """New errors come by themselves: in the numbers, in the groups, and as bars by severity."""
        page.open(shown.url)
        page.shows(*ALL)
        page.sees("tiles", r"records\s+7")
        page.sees("shown", "4 groups, 7 records kept")
        assert page.run("return document.querySelectorAll('#chart .bar.critical').length") == 1
        assert page.run("return document.querySelectorAll('#groups .spark').length") == 4
        fail(shown.monitor, 3)
        page.shows(*ALL, "lookUp")
        page.sees("tiles", r"records\s+10")
        assert page.groups()[0] == "lookUp"
        assert page.driver.title == "8/min · Booking errors"
        assert re.search(r"\d+ now, \d+ at most", page.at("#chart").get_attribute("aria-label"))

    def test_the_alert_comes_with_the_eleventh_error_and_goes(self, page: Page) -> None:
        """Above ten errors in a minute the banner is there, the chart marks it, and later it has been resolved."""
        with moved_clock() as clock, showing(page) as shown:
            fail(shown.monitor, 5)
            page.open(shown.url)
            page.sees("tiles", r"errors per minute\s+10")
            assert page.text("alert") == ""
            fail(shown.monitor, 1)
            page.sees("alert", "The alert is firing: 11 errors per minute")
            assert page.run("return document.querySelectorAll('#chart .mark.alert').length") == 1
            clock.advance(130)
            page.sees("alert", "^$")
            page.click("#marks summary")
            page.sees("marks", "alert resolved; its peak was 11 errors per minute")
            assert page.driver.title == "Booking errors"

    def test_an_open_breaker_counts_down(self, page: Page) -> None:
        """It is shown with its state and reason, the seconds until the trial run, and the chart marks the opening."""
        with moved_clock() as clock, showing(page) as shown:
            page.open(shown.url)
            page.sees("breakers", "closed")
            for _ in range(5):
                shown.breaker.acquire().failure(ConnectionError())
            page.sees("breakers", r"open\s+next trial in \d+ s")
            waits = re.compile(r"next trial in (\d+) s")
            first = int(waits.findall(page.text("breakers"))[0])
            until(lambda: int(waits.findall(page.text("breakers"))[0]) < first, "the countdown to go on")
            assert page.run("return document.querySelectorAll('#chart .mark.breaker').length") == 1
            clock.advance(31)
            page.sees("breakers", "the next call is a trial")
            shown.breaker.acquire().success()
            page.sees("breakers", "closed")

    def test_the_chart_shows_longer_spans(self, page: Page, shown: Shown) -> None:
        """Sixty minutes, six hours or a day."""
        page.open(shown.url)
        for text, said in (("6 h", "6 hours"), ("24 h", "24 hours"), ("60 min", "60 minutes")):
            Select(page.at("#span")).select_by_visible_text(text)
            until(lambda said=said: said in page.at("#chart").get_attribute("aria-label"), said)

    def test_moments_are_relative_and_exact_on_demand(self, page: Page, shown: Shown) -> None:
        """A button turns all moments into exact ones and back; the time zone is said."""
        page.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
        try:
            page.open(shown.url)
            page.sees("groups", r"last (just now|\d+ s ago)")
            page.sees("zone", r"Times are in Asia/(Kolkata|Calcutta) \(UTC\+05:30\)")
            page.click("#exact")
            page.sees("groups", r"last \d+ \w+ \d{4}, \d\d:\d\d:\d\d")
            assert page.at("#exact").get_attribute("aria-pressed") == "true"
            page.click("#exact")
            page.sees("groups", r"last (just now|\d+ s ago)")
        finally:
            page.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})


class TestLimits:
    """The limits and rates beside the breakers."""

    def test_a_limit_that_fills_up_is_seen(self, page: Page) -> None:
        """A full limit is marked, with how many calls are in flight and were rejected; a rate tells its burst."""
        rows, mails = ConcurrencyLimit("rows", limit=1), RateLimit("mails", rate=1, per=3600.0)
        with dashboard_host(dashboard(ErrorMonitor(), limits=[rows, mails])) as host:
            page.open(host.url)
            page.sees("limits", r"rows\s+free\s+0 of 1 in flight · 0 queued · 0 refused")
            with rows.guard():
                with pytest.raises(LimitExceededError):
                    rows.call(int)
                page.sees("limits", r"rows\s+full\s+1 of 1 in flight · 0 queued · 1 refused")
                assert page.at("#limits meter").get_attribute("value") == "1"
            assert mails.try_acquire()
            assert not mails.try_acquire()
            page.sees("limits", r"rows\s+free[\s\S]*mails\s+free\s+rate, 1 call at once · 0 queued · 1 refused")
            assert not page.at("#breakers-card").is_displayed()
            page.leave()


class TestFleet:
    """A `FleetMonitor` behind the page."""

    def test_the_page_shows_all_processes(self, page: Page, tmp_path: Path) -> None:
        """Records of two processes come by themselves, can be told apart by process, and unfold with their stacks."""
        path = tmp_path / "errors.db"
        with closing(SQLiteJournal(path)) as journal, FleetMonitor(journal) as fleet:
            here = ErrorMonitor(journal=journal)
            fail_all(here)
            with dashboard_host(dashboard(fleet)) as host:
                page.open(host.url)
                page.shows(*ALL)
                other = int(run(ELSEWHERE, str(path)))
                page.shows(*ALL, "elsewhere")
                page.sees("tiles", r"records\s+9")
                page.sees("processes-title", "^2 processes$")
                page.click("#processes-card summary")
                page.sees("processes", rf"{other} on [\s\S]*2 records")
                (there,) = [each.text for each in Select(page.at("[name=process]")).options if str(other) in each.text]
                page.choose("process", there)
                page.shows("elsewhere")
                page.unfold("elsewhere")
                assert str(other) in page.text("groups")
                assert "<string>:9 in <module>" in page.text("groups")
                page.leave()

    def test_a_journal_that_cannot_be_read_is_told(self, page: Page, tmp_path: Path) -> None:
        """A banner says since when the numbers are behind, and goes when the journal is read again."""
        path = tmp_path / "errors.db"
        with closing(SQLiteJournal(path)) as journal, FleetMonitor(journal) as fleet:
            here = ErrorMonitor(journal=journal)
            fail_all(here)
            assert here.flush(20.0)
            with dashboard_host(dashboard(fleet)) as host:
                page.open(host.url)
                page.shows(*ALL)
                page.hides("stale", "Behind since")
                journal.close()
                page.sees("stale", "Behind since")
                page.shows(*ALL)
                page.leave()


ELSEWHERE = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from booking_resilience import ErrorMonitor
from booking_resilience.journal import SQLiteJournal
monitor = ErrorMonitor(journal=SQLiteJournal(sys.argv[1]))
for number in range(2):
    try:
        raise ConnectionError("from elsewhere")
    except ConnectionError as error:
        monitor.log_network_error("elsewhere", error)
print(os.getpid())
"""


class TestUnfolding:
    """A group's records."""

    def test_a_record_has_causes_notes_context_and_stack(self, page: Page, shown: Shown) -> None:
        """Unfolded it tells everything, own code first, and stays unfolded while others come."""
        page.open(shown.url)
        page.shows(*ALL)
        page.unfold("chargeCard")
        text = page.text("groups")
        for part in ("RuntimeError: the card was refused", "Causes", "JSONDecodeError", "Notes", "seen twice today"):
            assert part in text
        for part in ("Context", "b-17", "Stack, own code first", "raise refused from error", "Whole traceback"):
            assert part in text
        assert text.index("in charge") < text.index("decoder.py")
        page.click(".details details summary")
        page.sees("groups", "Traceback \\(most recent call last\\)")
        fail(shown.monitor, 30)
        page.sees("groups", "connection 29 lost")
        assert "seen twice today" in page.text("groups")

    def test_records_are_turned_over(self, page: Page, shown: Shown) -> None:
        """Older and newer records follow one another, by keyboard, too, and the focus stays there."""
        page.open(shown.url)
        page.shows(*ALL)
        page.unfold("lookUpSlots")
        page.sees("groups", "Record 1 of 4 kept")
        older = page.at("[data-turn=Older]")
        older.send_keys(Keys.ENTER)
        page.sees("groups", "Record 2 of 4 kept")
        assert "no answer from slot server 2" in page.text("groups")
        page.driver.switch_to.active_element.send_keys(Keys.ENTER)
        page.sees("groups", "Record 3 of 4 kept")
        page.click("[data-turn=Newer]")
        page.sees("groups", "Record 2 of 4 kept")

    def test_attempts_are_told(self, page: Page, shown: Shown) -> None:
        """How many attempts there were, and the outcome."""
        page.open(shown.url)
        page.shows(*ALL)
        page.unfold("sendWelcomeMessage")
        assert "recovered, 3 attempts" in page.text("groups")

    def test_hostile_text_is_text(self, page: Page, shown: Shown) -> None:
        """Markup in operations, messages and contexts is shown as it is."""
        hostile = "<img src=//example.com/x onerror=alert(1)><script>alert(2)</script>"
        shown.monitor.log_chat_error(hostile, ValueError(hostile), **{"<b>note</b>": hostile})
        page.open(shown.url)
        page.shows(*ALL, hostile)
        page.unfold(hostile)
        assert "<b>note</b>" in page.text("groups")
        assert page.run("return document.querySelectorAll('#groups img, #groups script, #groups b b').length") == 0


class TestFilters:
    """What is let through."""

    @pytest.mark.parametrize(
        ("name", "value", "operations"),
        [
            ("category", "payment", ["chargeCard"]),
            ("severity", "warning", ["sendWelcomeMessage"]),
            ("operation", "lookUpSlots", ["lookUpSlots"]),
            ("outcome", "recovered", ["sendWelcomeMessage"]),
            ("last", "Last 15 minutes", list(ALL)),
        ],
    )
    def test_each_choice_filters(self, page: Page, shown: Shown, name: str, value: str, operations: list[str]) -> None:
        """Choosing a value leaves the groups with a record of it; clearing brings all back."""
        page.open(shown.url)
        page.shows(*ALL)
        page.choose(name, value)
        page.shows(*operations)
        page.sees("shown", f"{len(operations)} groups? with a kept record that passes")
        page.click("#clear")
        page.sees("shown", "4 groups, 7 records kept")

    def test_text_is_searched_as_it_is_typed(self, page: Page, shown: Shown) -> None:
        """Every text of a record is searched; how many records pass is shown beside how many there were."""
        page.open(shown.url)
        page.shows(*ALL)
        page.at("[name=text]").send_keys("SERVER 2")
        page.shows("lookUpSlots")
        page.sees("groups", "1 of 4")
        page.unfold("lookUpSlots")
        page.sees("groups", "Record 1 of 1 kept")
        page.at("[name=text]").send_keys(" and no other")
        page.sees("empty", "No kept record passes the filters")

    def test_a_range_of_time_filters(self, page: Page, shown: Shown) -> None:
        """From and to appear with the range, and filter in the visitor's time zone."""
        page.open(shown.url)
        page.shows(*ALL)
        assert not page.at("[name=since]").is_displayed()
        page.choose("last", "Range …")
        page.run("const f = document.querySelector('[name=since]'); f.value = '2099-01-01T00:00:00';"
                 "f.dispatchEvent(new Event('input', {bubbles: true}))")  # fmt: skip
        page.shows()
        page.run("const f = document.querySelector('[name=since]'); f.value = '2001-01-01T00:00:00';"
                 "f.dispatchEvent(new Event('input', {bubbles: true}))")  # fmt: skip
        page.shows(*ALL)

    def test_filters_stand_in_the_address(self, page: Page, shown: Shown) -> None:
        """Loading the address again filters again."""
        page.open(shown.url)
        page.shows(*ALL)
        page.choose("category", "chat")
        page.choose("operation", "sendWelcomeMessage")
        page.shows("sendWelcomeMessage")
        until(lambda: "operation" in page.driver.current_url, "the address")
        page.open(page.driver.current_url)
        page.shows("sendWelcomeMessage")
        assert Select(page.at("[name=category]")).first_selected_option.text == "chat"


class TestBreakers:
    """Isolate and reset."""

    @pytest.mark.parametrize("serve", ["asgi", "wsgi"])
    def test_a_breaker_is_isolated_and_reset_after_asking(self, page: Page, serve: str) -> None:
        """The page asks first, says who is recorded, and shows the breaker as it is then."""
        monitor, breaker = ErrorMonitor(), CircuitBreaker("appwrite")
        make: Any = {"asgi": dashboard, "wsgi": dashboard_wsgi}[serve]
        app = make(monitor, breakers=[breaker], authorize=lambda scope: "Ada")
        with (dashboard_host if serve == "asgi" else wsgi_host)(app) as host:
            page.open(host.url)
            page.click("[aria-label='Isolate appwrite']")
            page.sees("ask", "Isolate appwrite\\?")
            page.sees("ask", "recorded as done by Ada")
            page.click("#ask-no")
            assert breaker.state is BreakerState.CLOSED
            page.click("[aria-label='Isolate appwrite']")
            page.at("#ask-reason").send_keys("maintenance")
            page.click("#ask-yes")
            page.sees("notice", "appwrite: isolated")
            page.sees("breakers", r"isolated[\s\S]*maintenance \(by Ada\)")
            assert breaker.snapshot().reason == "maintenance (by Ada)"
            page.click("[aria-label='Reset appwrite']")
            page.click("#ask-yes")
            page.sees("notice", "appwrite: reset")
            page.sees("breakers", "closed")
            assert breaker.state is BreakerState.CLOSED
            page.leave()

    def test_escape_changes_nothing(self, page: Page, shown: Shown) -> None:
        """The dialog closes by keyboard, and the focus is where it was."""
        page.open(shown.url)
        page.at("[aria-label='Isolate appwrite']").send_keys(Keys.ENTER)
        assert page.driver.switch_to.active_element.get_attribute("id") == "ask-reason"
        page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
        assert page.driver.switch_to.active_element.get_attribute("aria-label") == "Isolate appwrite"
        assert shown.breaker.state is BreakerState.CLOSED

    def test_a_page_with_an_old_token_is_told(self, page: Page, shown: Shown) -> None:
        """After the secret has changed the page says to load it again."""
        page.may_lose_connection = True
        page.open(shown.url)
        shown.host.stop()
        page.sees("connection", "Connection lost")
        with dashboard_host(dashboard(shown.monitor, breakers=[shown.breaker]), port=shown.host.port):
            page.sees("connection", "^Live$")
            page.click("[aria-label='Isolate appwrite']")
            page.click("#ask-yes")
            page.sees("notice", "appwrite was not changed: the page's token is missing or out of date")
            page.leave()
        assert shown.breaker.state is BreakerState.CLOSED


def test_downloads_parse(page: Page, shown: Shown, tmp_path: Path) -> None:
    """Both downloads arrive and have all errors."""
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    page.open(shown.url)
    page.click("#download-json")
    page.click("#download-csv")
    for name in ("errors.json", "errors.csv"):
        until((tmp_path / name).exists, name)
    assert len(load_json(tmp_path / "errors.json")) == 7
    text = (tmp_path / "errors.csv").read_bytes().decode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert {row["operation"] for row in rows} == set(ALL)


def test_a_lost_server_is_told_and_found_again(page: Page, shown: Shown) -> None:
    """When the server is gone the page says so; when it is back it shows the new numbers."""
    page.may_lose_connection = True
    page.open(shown.url)
    shown.host.stop()
    page.sees("connection", "Connection lost")
    fail(shown.monitor, 1)
    with dashboard_host(dashboard(shown.monitor), port=shown.host.port):
        page.sees("connection", "^Live$")
        page.shows(*ALL, "lookUp")
        page.leave()


def test_a_hidden_page_asks_for_nothing(page: Page, shown: Shown) -> None:
    """A tab in the background stops asking, and is live again when it is looked at."""
    page.open(shown.url)
    home = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    page.driver.execute_cdp_cmd("Page.bringToFront", {})
    fail(shown.monitor, 1)
    page.driver.close()
    page.driver.switch_to.window(home)
    page.shows(*ALL, "lookUp")


def test_the_keyboard_reaches_everything(page: Page, shown: Shown) -> None:
    """Tab goes through all controls in order, each with a name and a visible focus; Enter unfolds."""
    page.open(shown.url)
    page.shows(*ALL)
    look = """const it = document.activeElement, style = getComputedStyle(it);
        return [it.id || it.name || it.getAttribute('aria-label') || it.className || it.tagName, style.outlineStyle]"""
    reached = []
    for _ in range(60):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        name, outline = page.run(look)
        if name == "BODY":
            break
        reached.append(name)
        assert outline == "solid", f"{name} does not show that it has the focus"
    wanted = ["skip", "span", "Isolate appwrite", "Reset appwrite", "exact", "download-json", "download-csv", "text",
              "category", "severity", "outcome", "operation", "last", "clear", *["group"] * 4]  # fmt: skip
    assert [name for name in reached if name in set(wanted)] == wanted
    page.at("summary.group").send_keys(Keys.ENTER)
    page.sees("groups", "Record 1 of")
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {node["role"]["value"] for node in tree if not node["ignored"]}
    assert {"banner", "main", "contentinfo", "heading", "search", "region", "alert", "status"} <= roles


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_it_fits_and_passes_axe_everywhere(page: Page, width: int, scheme: str) -> None:
    """On phone, tablet and desk, in the light and in the dark, nothing is cut off, and axe-core has no complaint."""
    page.device(width, 900, scheme=scheme, motion="reduce")
    with showing(page) as shown:
        long = "no_spaces_at_all_" * 12
        shown.monitor.record(RuntimeError(long), operation=long, category="payment", context={long[:60]: long})
        fail(shown.monitor, 11)
        shown.breaker.isolate(long)
        page.open(shown.url)
        page.shows(*ALL, long, "lookUp")
        page.sees("alert", "The alert is firing")
        page.unfold(long)
        page.click(".details dl")
        assert page.run("return document.documentElement.scrollWidth") <= width
        small = """return [...document.querySelectorAll('button, .button, input, select')]
            .filter(it => it.getClientRects().length && it.getBoundingClientRect().height < 32).length"""
        assert page.run(small) == 0
        moving = """return [...document.querySelectorAll('*')].map(it => getComputedStyle(it))
            .filter(style => style.transitionDuration !== '0s' || style.animationName !== 'none').length"""
        assert page.run(moving) == 0
        assert violations(page) == []
        page.click("[aria-label='Reset appwrite']")
        assert violations(page) == []
        page.click("#ask-no")


def violations(page: Page) -> list[str]:
    """Return what axe-core complains about."""
    if not AXE.exists():
        pytest.skip(f"axe-core is not at {AXE}; .ci/run installs it with npm")
    # In a world of its own, where the page's policy doesn't apply.
    frame = page.driver.execute_cdp_cmd("Page.getFrameTree", {})["frameTree"]["frame"]["id"]
    world = page.driver.execute_cdp_cmd("Page.createIsolatedWorld", {"frameId": frame, "worldName": "axe"})
    context = {"contextId": world["executionContextId"], "awaitPromise": True, "returnByValue": True}
    page.driver.execute_cdp_cmd("Runtime.evaluate", {**context, "expression": AXE.read_text(encoding="utf-8") + "\n;0"})
    ask = """axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map(
        each => each.id + ': ' + each.nodes.map(node => node.target.join(' ')).join(', ')))"""
    answer = page.driver.execute_cdp_cmd("Runtime.evaluate", {**context, "expression": ask})
    assert "exceptionDetails" not in answer, answer
    return list(answer["result"]["value"])


class TestDemo:
    """The demo's own page."""

    @pytest.fixture
    def host(self, page: Page) -> Iterator[DemoHost]:
        """A demo of its own."""
        with demo_host() as running:
            yield running
            page.leave()

    def test_the_two_tests_and_the_booking_show_their_results(self, page: Page, host: DemoHost) -> None:
        """The retry test lists its attempts, the failure test counts, the booking books and tells what is wrong."""
        page.driver.get(host.url)
        page.click("#test-retry")
        page.sees("result", r"Recovered after[\s\S]*1\.[\s\S]*then 0\.\d\d s of waiting[\s\S]*3\.[\s\S]*succeeded")
        page.click("#test-fail")
        page.sees("result", "Failed, 1 time in a row")
        page.click("#book")
        page.sees("result", r"^Booked[\s\S]*bookingButton")
        minutes = page.at("[name=duration]")
        minutes.clear()
        minutes.send_keys("long" + Keys.ENTER)
        page.sees("result", r"Booking data error[\s\S]*duration[\s\S]*whole number")
        assert minutes.get_attribute("aria-invalid") == "true"
        assert page.driver.switch_to.active_element == minutes

    def test_its_link_leads_to_the_dashboard(self, page: Page, host: DemoHost) -> None:
        """The dashboard is at /errors, with the demo's breaker and errors."""
        page.driver.get(host.url)
        for times in range(1, 6):
            page.click("#test-fail")
            page.sees("result", f"Failed, {times} time")
        page.click("#test-fail")
        page.sees("result", r"Refused; try again in \d+ s")
        page.click("#to-errors")
        page.sees("connection", "^Live$")
        assert urlsplit(page.driver.current_url).path == "/errors/"
        page.shows("testFail", host.demo.breaker.name)
        page.sees("breakers", r"open\s+next trial in \d+ s")

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [390, 1280])
    def test_it_fits_and_passes_axe(self, page: Page, host: DemoHost, width: int, scheme: str) -> None:
        """Nothing is cut off, and axe-core has no complaint."""
        page.device(width, 900, scheme=scheme, motion="reduce")
        page.driver.get(host.url)
        page.click("#test-fail")
        page.sees("result", "Failed")
        assert page.run("return document.documentElement.scrollWidth") <= width
        assert violations(page) == []

    def test_what_waits_can_be_tried_and_cancelled(self, page: Page, tmp_path_factory: pytest.TempPathFactory) -> None:
        """With `--durable` a booking is received in an outage, waits with its reason, and can be tried or cancelled."""
        pytest.importorskip("dbos", reason="the extra `durable` is not installed")
        settings = {"path": str(tmp_path_factory.mktemp("kept") / "bookings.db"), "base_delay": 600.0}
        with demo_host(cooldown=0.05, durable=settings) as host:
            page.driver.get(host.url)
            page.sees("waiting", "None: all that were received are stored")
            with host.appwrite.outage():
                page.click("#book")
                page.sees("result", "Received; it will be stored")
                page.sees("waiting-list", r"since \d+:\d\d:\d\d.*\n*.*createBooking, 1 try, next try .*: ")
                for width, scheme in ((390, "light"), (1280, "dark")):
                    page.device(width, 900, scheme=scheme, motion="reduce")
                    assert page.run("return document.documentElement.scrollWidth") <= width
                    assert not AXE.exists() or violations(page) == []
            page.click("[aria-label^='Try now']")
            page.sees("waiting", "None: all that were received are stored")
            with host.appwrite.outage():
                page.click("#book")
                page.sees("waiting-list", "createBooking")
                page.click("[aria-label^='Cancel']")
                page.sees("waiting-list", "undoBooking")
            page.leave()  # before the server stops
