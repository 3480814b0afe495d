"""Takes the picture of the dashboard for the documentation: `python docs/_scripts/shoot_dashboard.py`.

Needs Chromium and what the extras `test` and `docs` install. Five minutes pass in a few seconds: the clock is moved,
everything else is real.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from booking_resilience.testing import Fault  # noqa: E402 - beside the others
from demohost import BOOKING, DemoHost, MovedClock, demo_host, moved_clock, until  # noqa: E402 - found only now

WIDTH, HEIGHT = 1280, 900
STEP = 2.0
LOST = {20: 2, 24: 1, 60: 4, 66: 3, 70: 2, 98: 2}
"""How many calls fail at which step."""


def live(host: DemoHost, clock: MovedClock) -> None:
    """Let five minutes pass, with bookings that recover, calls that fail, and an outage at the end."""
    for step in range(150):
        if step % 30 == 10:
            host.appwrite.faults.script([Fault.status(503)], method="POST", path="/rows")
            host.post("/api/bookings", json=BOOKING)
        for number in range(LOST.get(step, 0)):
            host.demo.monitor.log_network_error("lookUpSlots", TimeoutError(f"no answer from slot server {number}"))
        if step == 140:
            host.demo.monitor.log_payment_error("chargeCard", PermissionError("the card was refused"))
            host.demo.monitor.log_chat_error("sendWelcomeMessage", ConnectionError("connection reset"))
        if step >= 141:
            host.post("/api/test-fail")
        samples = len(host.hub._samples)
        clock.advance(STEP)
        until(lambda before=samples: len(host.hub._samples) > before + 1, "a sample")


def shoot(url: str, to: Path) -> None:
    """Save what a browser shows."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    with tempfile.TemporaryDirectory() as profile:
        for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        try:
            metrics = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.get(url)
            until(lambda: bool(driver.execute_script("return document.querySelector('#chart .tip')")), "the chart")
            until(lambda: "lookUp" in driver.page_source, "the errors")
            shot = Image.open(io.BytesIO(driver.get_screenshot_as_png()))
            shot.convert("RGB").quantize(128).save(to, optimize=True)  # a third of the size, and looks the same
        finally:
            driver.quit()


if __name__ == "__main__":
    with moved_clock() as moved, demo_host(interval=0.01) as running:
        live(running, moved)
        shoot(running.url, ROOT / "docs" / "_static" / "dashboard.png")
