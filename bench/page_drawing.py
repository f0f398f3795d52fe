"""How long a page of html takes to be drawn in a headless Chromium."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import cast

from bench.comparison import Unavailable
from bench.programs import tool

_SECONDS = 60
_DRAWN = "return performance.getEntriesByName('drawn').map((mark) => mark.startTime)[0]"
"""Milliseconds from where the browser began to open the page to the frame after the one with the flame graph."""


def drawing_time(page: Path, rounds: int) -> float:
    """Seconds from opening a page to its flame graph, the median of several. Raises Unavailable."""
    driver_path = tool("chromedriver", "chromium-driver")
    tool("chromium", "chromium")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.support.wait import WebDriverWait

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,800"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    taken = []
    try:
        for _ in range(rounds):
            driver.get(page.resolve().as_uri())
            drawn = WebDriverWait(driver, _SECONDS).until(lambda one: one.execute_script(_DRAWN))
            taken.append(cast("float", drawn) / 1000)
    except Exception as error:
        raise Unavailable(f"the page was not drawn: {error}") from error
    finally:
        driver.quit()
    return median(taken)
