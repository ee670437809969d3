"""Debian's Chromium, driven by selenium, for what a page shows."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

PACKAGES = {"chromium": "chromium", "chromedriver": "chromium-driver"}
"""What `apt-get install` calls each program."""


@contextmanager
def chromium(*, width: int = 1100, height: int = 1200, dark: bool = False) -> Iterator[webdriver.Chrome]:
    """Yield a browser without a window of its own, and with nothing in its profile.

    The test skips where it is not installed.
    """
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if missing:
        pytest.skip(f"looks at a page in Chromium: apt-get install {' '.join(missing)}")
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
        ):
            options.add_argument(argument)
        driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        try:
            scheme: dict[str, Any] = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            yield driver
        finally:
            driver.quit()


def complaints(driver: webdriver.Chrome) -> list[str]:
    """Return what stands in the browser's console: errors of scripts, refused resources, missing files."""
    return [entry["message"] for entry in driver.get_log("browser")]
