"""A real Chromium without a window, that opens files from disk."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

WAIT = 60


def why_not() -> str | None:
    """Say why no browser can be started here; None where one can."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed: apt-get install chromium chromium-driver"
    return None


class Browser:
    """One window; `open` begins anew, with what was logged before forgotten."""

    def __init__(self, profile: Path) -> None:
        options = Options()
        options.binary_location = str(shutil.which("chromium"))
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
            options.add_argument(argument)
        options.add_argument(f"--user-data-dir={profile}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def open(self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Show a page, and wait until it says that it is ready."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(path.resolve().as_uri())
        self.wait("return document.documentElement.dataset.ready")

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript; return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str) -> Any:
        """Wait until a script returns something that is true; return that."""
        return WebDriverWait(self.driver, WAIT, poll_frequency=0.05).until(lambda _: self.run(script))

    def draw_all(self) -> None:
        """Have every chart drawn, in sight or not."""
        self.driver.execute_async_script("ltrsys.charts.drawAll().then(() => arguments[0]());")

    def find(self, selector: str) -> WebElement:
        """Return the first element of a CSS selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """Return what is written in all elements of a CSS selector."""
        found: list[str] = self.run(
            "return Array.from(document.querySelectorAll(arguments[0]), (one) => one.textContent)", selector
        )
        return found

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def focused(self) -> str:
        """Return the text and the id of what has the focus."""
        text: str = self.run("return document.activeElement.textContent + '#' + document.activeElement.id")
        return text

    def problems(self) -> list[str]:
        """Return what the console holds since the page was opened, notes aside."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "INFO"]

    def requests(self) -> list[str]:
        """Return what the page has asked for since it was opened, itself and what is within it aside."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith("data:") and url != self.driver.current_url.split("#")[0]]

    def screenshot(self, path: Path) -> None:
        """Write what is to be seen as a PNG."""
        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {})["data"]
        path.write_bytes(base64.b64decode(taken))

    def close(self) -> None:
        """End the browser."""
        self.driver.quit()


__all__ = ["Browser", "Keys", "why_not"]
