"""The page as people use it, in Chromium."""

import base64
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from ltrsys.serving.guards.limits import Limits
from ltrsys.serving.served import Served
from tests.browser import chromium, complaints
from tests.serving.conftest import ENOUGH, Gated, Running, running

pytestmark = pytest.mark.long

REFUSED = r"Failed to load resource: the server responded with a status of \d+"
"""What Chromium says itself of an answer that is an error."""

DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
const carried = new DataTransfer();
carried.items.add(new File([bytes], arguments[1], { type: "image/jpeg" }));
const target = document.querySelector("#drop > label");
for (const kind of ["dragenter", "dragover", "drop"])
  target.dispatchEvent(new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true }));
"""
PASTE = DROP.partition("const target")[0] + (
    'document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: carried, bubbles: true }));'
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium() as driver:
        yield driver


@pytest.fixture
def page(browser: Chrome, server: Running) -> Chrome:
    return opened(browser, server)


def opened(browser: Chrome, server: Running) -> Chrome:
    browser.get(server.url)
    wait(browser, lambda: "names" in browser.find_element(By.ID, "model").text)
    browser.get_log("browser")
    return browser


def wait(browser: Chrome, condition: Callable[[], object]) -> None:
    WebDriverWait(browser, ENOUGH, poll_frequency=0.05).until(lambda _: condition())


def choose(browser: Chrome, *paths: object) -> None:
    browser.find_element(By.ID, "files").send_keys("\n".join(map(str, paths)))


def cards(browser: Chrome, count: int) -> list[str]:
    """Wait until so many photographs are done; return what is said of each."""
    wait(browser, lambda: f"{count} of {count} " in browser.find_element(By.ID, "said").text)
    return [card.text for card in browser.find_elements(By.CSS_SELECTOR, ".card")]


def test_a_chosen_file_is_named_with_what_is_known_of_its_classes(
    page: Chrome, served: Served, test_files: list[str]
) -> None:
    choose(page, test_files[0])
    (said,) = cards(page, 1)
    (expected,) = served.default.predict(test_files[:1])
    names = [one.text for one in page.find_elements(By.CSS_SELECTOR, ".answer .name")]
    assert names == [answer.name for answer in expected.answers]
    assert page.find_element(By.CSS_SELECTOR, ".answer h2 .name").text == expected.best.name
    for answer in expected.answers:
        group = {"many": "many", "medium": "a fair number", "few": "few, so look twice"}[answer.shot]
        assert f"Learned from {answer.train_images} images: {group}" in said
        if 0.01 < answer.probability < 0.99:
            assert f"{round(100 * answer.probability)} %" in said
    width = page.execute_script("return document.querySelector('.bar > span').style.width")
    assert float(width.rstrip("%")) == pytest.approx(100 * expected.best.probability, abs=0.01)
    assert Path(test_files[0]).name in said
    assert complaints(page) == []


def test_thumbnails_of_the_best_class_are_shown(page: Chrome, test_files: list[str]) -> None:
    choose(page, test_files[0])
    cards(page, 1)
    shown = "return [...document.querySelectorAll('.answer:first-child .similar img')].map((one) => one.naturalWidth)"
    wait(page, lambda: (widths := page.execute_script(shown)) and min(widths) > 0)
    assert 1 <= len(page.execute_script(shown)) <= 4
    assert complaints(page) == []


@pytest.mark.parametrize("script", [DROP, PASTE], ids=["dropped", "pasted"])
def test_a_file_may_be_dropped_or_pasted(page: Chrome, test_files: list[str], script: str) -> None:
    content = base64.b64encode(Path(test_files[5]).read_bytes()).decode()
    page.execute_script(script, content, "<img src=x onerror=alert(1)>.jpg")
    (said,) = cards(page, 1)
    assert "<img src=x onerror=alert(1)>.jpg" in said
    assert "Learned from" in said
    assert complaints(page) == []


def test_several_files_are_shown_in_their_order_and_errors_at_their_file(
    page: Chrome, test_files: list[str], tmp_path: Path
) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("no image")
    choose(page, test_files[0], text, test_files[1])
    first, second, third = cards(page, 3)
    assert "1 could not be named" in page.find_element(By.ID, "said").text
    assert Path(test_files[0]).name in first
    assert "This image cannot be named: not an image of a known format." in second
    assert Path(test_files[1]).name in third
    choose(page, test_files[2])
    assert Path(test_files[2]).name in cards(page, 4)[0]
    assert all(re.search(REFUSED, said) for said in complaints(page))


def test_everything_can_be_done_by_keyboard(page: Chrome) -> None:
    page.switch_to.active_element.send_keys(Keys.TAB)
    assert page.switch_to.active_element.get_attribute("id") == "files"
    outline = "return getComputedStyle(document.querySelector('#drop > label')).outlineStyle"
    assert page.execute_script(outline) == "solid"


def test_the_classifier_may_be_chosen(page: Chrome, served: Served, test_files: list[str]) -> None:
    page.find_element(By.CSS_SELECTOR, "#classifier option:nth-child(2)").click()
    choose(page, test_files[3])
    cards(page, 1)
    (expected,) = served.predictors["ncm"].predict(test_files[3:4])
    assert page.find_element(By.CSS_SELECTOR, "h2 .name").text == expected.best.name


def test_a_file_that_is_too_large_is_told_before_it_is_sent(
    browser: Chrome, limited: Callable[[Limits], AbstractContextManager[Running]], tmp_path: Path
) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(3 * 2**20))
    with limited(Limits(body_bytes=2**20)) as server:
        page = opened(browser, server)
        choose(page, large)
        (said,) = cards(page, 1)
    assert "This file has 3 MB; the server takes at most 1 MB." in said
    assert complaints(page) == []


def test_where_the_server_is_busy_the_page_tries_again(browser: Chrome, gated: Gated, test_files: list[str]) -> None:
    with running(Served({"crt": gated}, {}, None), Limits(queue=1)) as server:
        page = opened(browser, server)
        gated.hold()
        choose(page, *test_files[:3])
        wait(page, lambda: page.find_element(By.ID, "results").text.count("The server is busy") == 2)
        gated.gate.set()
        assert all("Learned from" in said for said in cards(page, 3))
        assert page.find_elements(By.CSS_SELECTOR, ".similar") == []


def test_a_server_that_has_gone_is_told(browser: Chrome, served: Served, test_files: list[str]) -> None:
    with running(served, Limits()) as server:
        page = opened(browser, server)
    choose(page, test_files[0])
    (said,) = cards(page, 1)
    assert "The server cannot be reached" in said


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_on_a_phone_nothing_is_cut_off_in_either_theme(server: Running, test_files: list[str], dark: bool) -> None:
    with chromium(dark=dark) as driver:
        phone = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        page = opened(driver, server)
        choose(page, test_files[0])
        cards(page, 1)
        assert page.execute_script("return document.documentElement.scrollWidth") == 360
        ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(value) for value in re.findall(r"\d+", ground)[:3]) / 3
        assert brightness < 60 if dark else brightness > 200
