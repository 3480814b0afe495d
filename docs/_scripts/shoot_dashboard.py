"""Takes the pictures of the dashboard for the documentation: `python docs/_scripts/shoot_dashboard.py`.

Needs Chromium and what the extras `test` and `docs` install. An hour passes in a moment: the clock is moved, everything
else is real.
"""

from __future__ import annotations

import contextlib
import io
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from booking_resilience import CircuitBreaker, ErrorMonitor, LimitExceededError  # noqa: E402 - beside the others
from booking_resilience.dashboard import dashboard  # noqa: E402 - found only now
from booking_resilience.load import AdaptiveLimit, ConcurrencyLimit, RateLimit  # noqa: E402 - found only now
from dashboardhost import charge, dashboard_host, fail_all  # noqa: E402 - found only now
from demohost import MovedClock, moved_clock, until  # noqa: E402 - found only now

FORMS = [(1280, 1600, "light"), (1280, 1600, "dark"), (390, 2400, "light"), (390, 2400, "dark")]


def live(monitor: ErrorMonitor, breakers: list[CircuitBreaker], clock: MovedClock) -> None:
    """Let an hour pass, with an outage in its middle and another one now."""
    draw = random.Random(7)
    fail_all(monitor)
    for minute in range(58):
        clock.advance(60)
        is_out = 24 <= minute < 31 or minute >= 56
        for number in range(draw.randrange(6, 18) if is_out else draw.randrange(3)):
            monitor.log_network_error("lookUpSlots", TimeoutError(f"no answer from slot server {number % 4}"))
        if is_out or minute % 9 == 4:
            monitor.record(
                ConnectionError("connection reset"), operation="createBooking", category="booking", severity="warning",
                attempts=3, outcome="recovered",
            )  # fmt: skip
        if minute in (24, 57):
            for _ in range(5):
                with contextlib.suppress(ConnectionError):
                    breakers[0].call(_refuse)
            monitor.log_appwrite_error("createBooking", ConnectionError("refused"), therapist_id="t-4")
        if minute == 31:
            breakers[0].reset("the backend is back (by Ada)")
    clock.advance(7)
    with contextlib.suppress(RuntimeError), monitor.capture("chargeCard", category="payment", severity="critical"):
        charge("{")


@contextlib.contextmanager
def busy(limit: Any, calls: int, refused: int = 0) -> Iterator[None]:
    """Keep so many calls in flight, and have so many more rejected."""
    with contextlib.ExitStack() as stack:
        for _ in range(calls):
            stack.enter_context(limit.guard())
        for _ in range(refused):
            with contextlib.suppress(LimitExceededError):
                limit.call(int)
        yield


def _refuse() -> None:
    raise ConnectionError("refused")


def shoot(url: str, to: Path) -> None:
    """Save what a browser shows, in each form."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    with tempfile.TemporaryDirectory() as profile:
        for flag in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
        ):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        try:
            for width, height, scheme in FORMS:
                metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
                driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
                features = [{"name": "prefers-color-scheme", "value": scheme}]
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
                driver.get(url)
                until(lambda: bool(driver.find_elements(By.CSS_SELECTOR, "#chart .bar")), "the chart")
                driver.find_elements(By.CSS_SELECTOR, "summary.group")[-1].click()
                until(lambda: bool(driver.find_elements(By.CSS_SELECTOR, ".details .frames")), "the stack")
                driver.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
                shot = Image.open(io.BytesIO(driver.get_screenshot_as_png()))
                name = f"dashboard-{'wide' if width > 500 else 'narrow'}-{scheme}.png"
                shot.convert("RGB").quantize(256).save(to / name, optimize=True)  # smaller, and looks the same
        finally:
            driver.quit()


if __name__ == "__main__":
    with moved_clock() as moved:
        shown, watched = ErrorMonitor(), [CircuitBreaker("appwrite"), CircuitBreaker("payments")]
        rows, search = ConcurrencyLimit("rows", limit=4), AdaptiveLimit("search", initial=20)
        mails = RateLimit("mails", rate=2, per=60.0)
        app = dashboard(shown, breakers=watched, limits=[rows, search, mails], title="Booking errors")
        live(shown, watched, moved)
        with dashboard_host(app) as host, busy(rows, 4, refused=3), busy(search, 7), busy(mails, 2, refused=1):
            shoot(host.url, ROOT / "docs" / "_static")
