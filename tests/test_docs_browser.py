"""The built documentation in a real Chromium: what its search finds, and how it fits a phone. `pytest -m browser`.

It needs the documentation built into `docs/_build/html`, as `.ci/run` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

BUILT = Path(__file__).parent.parent / "docs" / "_build" / "html"
CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
FOUND = {
    "retry": "how-to/retry",
    "circuit breaker": "how-to/circuit-breaker",
    "httpx": "how-to/http-clients",
    "requests": "how-to/http-clients",
    "idempotency": "how-to/idempotency",
    "rate limit": "how-to/rate-limit",
    "bulkhead": "how-to/concurrency-limit",
    "timeout": "how-to/under-load",
    "deadline": "explanation/deadlines",
    "settings": "how-to/settings",
    "monitor": "how-to/monitor-and-export",
    "double booking": "how-to/double-bookings",
    "durable": "how-to/durable",
    "dashboard": "how-to/dashboard",
    "prometheus": "how-to/telemetry",
    "batch": "how-to/batches",
    "celery": "how-to/celery",
    "fastapi": "how-to/web-frameworks",
    "testing": "how-to/test-your-application",
    "redis": "how-to/share-a-breaker",
}
"""What people type, and the page that they look for."""
HITS = "return [...document.querySelectorAll('#search-results li > a')].map(link => link.getAttribute('href'))"
DONE = "return (document.querySelector('.search-summary')?.textContent ?? '').startsWith('Search finished')"
DRAWINGS = """return [...document.querySelectorAll('article img[src$=".svg"]')].map(image => ({
    name: image.src, shown: image.clientWidth, natural: image.naturalWidth, filter: getComputedStyle(image).filter}))"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (BUILT / "search.html").exists(), reason="the documentation isn't built: see contributing"),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
    pytest.mark.skipif(not DRIVER.exists(), reason=f"{DRIVER} is not installed"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Chromium of the size of a phone."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
        yield driver
    finally:
        driver.quit()


@pytest.mark.parametrize(("typed", "page"), FOUND.items())
def test_the_search_finds_the_page_first(browser: Any, typed: str, page: str) -> None:
    """Whoever types the usual word for a thing finds its page as the first hit."""
    browser.get(f"{(BUILT / 'search.html').as_uri()}?q={typed.replace(' ', '+')}")
    WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(DONE))
    hits = browser.execute_script(HITS)
    assert hits[0].partition(".html")[0] == page, hits[:8]


def test_the_widest_pages_fit_a_phone(browser: Any) -> None:
    """The pages with the longest names and the widest tables don't scroll sideways on a phone."""
    for page in (
        "index", "reference/verdicts", "reference/extras", "reference/modules/monitor", "explanation/benchmarks",
        "how-to/share-a-breaker", "how-to/migrate",
    ):  # fmt: skip
        browser.get((BUILT / f"{page}.html").as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") == PHONE["width"], page


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    "page", ["architecture", "how-to/retry", "how-to/circuit-breaker", "explanation/why-retries-hurt"]
)
def test_the_drawings_of_a_page_can_be_read_on_a_phone(browser: Any, page: str, theme: str) -> None:
    """A drawing is as large as its text needs, and dark in the dark."""
    media = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    browser.get((BUILT / f"{page}.html").as_uri())
    drawings = browser.execute_script(DRAWINGS)
    assert drawings
    for drawing in drawings:
        assert drawing["shown"] >= 0.8 * drawing["natural"], drawing
        assert drawing["filter"].startswith("invert") == (theme == "dark"), drawing
