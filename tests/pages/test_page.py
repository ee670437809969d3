"""The page in a real browser, from disk."""

from pathlib import Path

import numpy as np
import pytest

from ltrsys.commands.results.report import report_runs
from ltrsys.evaluation.balanced_run import BalancedRun
from ltrsys.metrics.accuracy import class_accuracy
from tests.pages.browser import Browser, Keys
from tests.pages.conftest import INJECTIONS

pytestmark = [pytest.mark.long, pytest.mark.browser]

CONTRASTS = """
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const luminance = (colour) => {
  const [r, g, b] = channels(colour).slice(0, 3).map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  for (let one = element; one; one = one.parentElement) {
    const colour = getComputedStyle(one).backgroundColor;
    if (channels(colour)[3] !== 0) return colour;
  }
};
const poor = [];
for (const element of document.querySelectorAll("body *")) {
  const own = Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || !element.checkVisibility() || element.closest("script, option")) continue;
  const [low, high] = [luminance(getComputedStyle(element).color), luminance(ground(element))].sort((a, b) => a - b);
  const contrast = (high + 0.05) / (low + 0.05);
  if (contrast < 4.5) poor.push(`${element.tagName} ${element.textContent.slice(0, 30)} ${contrast.toFixed(2)}`);
}
return poor;
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, balanced: BalancedRun) -> Path:
    return report_runs([balanced.run.path], [], out=tmp_path_factory.mktemp("page") / "one.html", pictures=True)


@pytest.fixture(scope="module")
def page_of_two(tmp_path_factory: pytest.TempPathFactory, balanced: BalancedRun, another: BalancedRun) -> Path:
    out = tmp_path_factory.mktemp("page") / "two.html"
    return report_runs([balanced.run.path, another.run.path], [], out=out, pictures=False)


def fits(browser: Browser) -> bool:
    """Say whether the page itself need not be scrolled sideways."""
    return bool(browser.run("return document.documentElement.scrollWidth <= window.innerWidth"))


def rows(browser: Browser) -> list[list[str]]:
    """Return the cells of the rows of the table of classes that are in the document."""
    found: list[list[str]] = browser.run(
        "return Array.from(document.querySelectorAll('.rows tbody tr:not(.filler)'), (row) => "
        "Array.from(row.children, (cell) => cell.textContent))"
    )
    return found


def heading(browser: Browser, title: str) -> None:
    """Give the focus to the heading of a column of the table of classes."""
    browser.run(
        "Array.from(document.querySelectorAll('.rows thead button')).find((one) => one.textContent === arguments[0])"
        ".focus()",
        title,
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_works_from_disk_at_any_width_in_light_and_dark(browser: Browser, page: Path, width: int, dark: bool):
    browser.open(page, width=width, dark=dark)
    browser.draw_all()
    assert browser.run("return Array.from(document.querySelectorAll('.chart')).every((one) => one.children.length)")
    assert fits(browser)
    assert browser.run(CONTRASTS) == []
    assert browser.run("return getComputedStyle(document.documentElement).colorScheme") == ("dark" if dark else "light")
    assert browser.problems() == []
    assert browser.requests() == []


def test_names_of_classes_are_text(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.draw_all()
    assert browser.run("return window.hurt === undefined")
    names = {row[0] for row in rows(browser)}
    assert set(INJECTIONS) <= names
    assert browser.run("return document.querySelector('main b, main script, img[src=x]') === null")
    assert browser.problems() == []


def test_what_is_pointed_at_is_named_as_text(browser: Browser, page: Path) -> None:
    """Bokeh's own tooltips are HTML: a point whose class has a hostile name is pointed at."""
    browser.open(page)
    place = browser.run(
        """
        document.querySelector(".chart").scrollIntoView({block: "center"});
        const view = Object.values(Bokeh.index)[0];
        const figure = view.frame ? view : view.child_views[0];
        const renderer = figure.model.renderers[0];
        const {x, y, name} = renderer.data_source.data;
        const at = Array.from(name).indexOf(arguments[0]);
        const box = figure.el.getBoundingClientRect();
        return {x: box.x + figure.frame.x_scale.compute(x[at]), y: box.y + figure.frame.y_scale.compute(y[at])};
        """,
        INJECTIONS[1],
    )
    for kind in ("mouseMoved", "mouseMoved"):
        event = {"type": kind, "x": place["x"] + (kind == "x"), "y": place["y"], "pointerType": "mouse"}
        browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
    told = browser.wait(
        """
        const all = (root) => Array.from(root.querySelectorAll("*")).flatMap((one) =>
          [one, ...(one.shadowRoot ? all(one.shadowRoot) : [])]);
        const tip = all(document).find((one) => one.classList.contains("bk-Tooltip") || one.tagName === "BK-TOOLTIP");
        const text = all(document).map((one) => one.shadowRoot?.textContent ?? "").join(" ");
        return text.includes("onerror") ? text : "";
        """
    )
    assert INJECTIONS[1] in told
    assert browser.run("return window.hurt === undefined")
    assert browser.problems() == []


def test_headings_sort_by_keyboard(browser: Browser, page: Path, balanced: BalancedRun) -> None:
    browser.open(page)
    counts = balanced.reported.train_counts
    heading(browser, "training")
    browser.press(Keys.ENTER)
    trained = [int(row[3].replace(",", "")) for row in rows(browser)]
    assert trained == sorted(counts.tolist(), reverse=True)
    assert browser.texts("th[aria-sort=descending]") == ["training"]
    browser.press(Keys.SPACE)
    assert [int(row[3].replace(",", "")) for row in rows(browser)] == sorted(counts.tolist())
    assert browser.texts("th[aria-sort]") == ["training"]
    heading(browser, "cRT")
    browser.press(Keys.ENTER)
    labels = balanced.reported.split.labels
    right = balanced.predictions.of(balanced.fitted["crt"]) == labels
    accuracy = np.sort(class_accuracy(labels, right, balanced.dataset.num_classes))[::-1]
    place = browser.texts(".rows thead th").index("cRT")
    assert [row[place] for row in rows(browser)] == [f"{value:.1f}" for value in accuracy]


def test_it_filters_by_name_group_and_shot(browser: Browser, page: Path, balanced: BalancedRun) -> None:
    browser.open(page)
    search = browser.find("#class-filter")
    search.send_keys("quercus FAGA")
    name = balanced.dataset.record.classes[3].name
    assert [row[0] for row in rows(browser)] == [name]
    assert browser.texts("#classes [role=status]") == ["1 of 12 classes"]
    search.clear()
    search.send_keys("nothing is called so")
    assert rows(browser) == []
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys(Keys.DELETE)
    for shot in ("many", "medium"):
        browser.find(f"#classes input[name={shot}]").click()
    few = int((balanced.reported.shot_of_class == "few").sum())
    assert len(rows(browser)) == few
    assert {row[2] for row in rows(browser)} == {"few"}
    assert browser.texts("#classes [role=status]") == [f"{few} of 12 classes"]


def test_the_slider_shows_every_tau_by_keyboard(browser: Browser, page: Path, balanced: BalancedRun) -> None:
    browser.open(page)
    curve = balanced.results.tau_curve
    assert curve is not None
    browser.run("document.getElementById('tau').focus()")
    browser.press(Keys.HOME)
    for place in (0, 1, 2):
        assert browser.texts("output") == [f"{curve.tau[place]:g}"]
        shown = browser.texts(".tiles dd")
        for text, column in zip(shown, ("many", "medium", "few", "all", "mean_class_accuracy"), strict=True):
            assert text.startswith(f"{getattr(curve, column)[place]:.1f}")
        browser.press(Keys.ARROW_RIGHT)
    browser.draw_all()
    browser.press(Keys.END)
    assert browser.texts("output") == ["2"]
    assert browser.problems() == []


def test_it_is_walked_through_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.press(Keys.TAB)
    assert browser.focused() == "Skip to the results#"
    browser.press(Keys.ENTER)
    assert browser.run("return document.activeElement.id") == "content"
    seen = set()
    for _ in range(100):
        browser.press(Keys.TAB)
        if browser.run("return document.activeElement === document.body"):
            break  # the end of the page
        seen.add(browser.run("return document.activeElement.id || document.activeElement.textContent.slice(0, 20)"))
        outline = (
            "const one = document.activeElement; return getComputedStyle(one.closest('.chart') ?? one).outlineStyle"
        )
        assert browser.run(outline) != "none", "what has the focus is marked"
    assert {"class-filter", "tau", "training"} <= seen
    assert any(text.startswith("Charts by Bokeh") for text in seen), "the last that can be reached"


def test_the_button_turns_the_colours_and_the_charts(browser: Browser, page: Path) -> None:
    browser.open(page)
    before = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert browser.texts("#theme") == ["Dark"]
    browser.find("#theme").click()
    assert browser.run("return getComputedStyle(document.body).backgroundColor") != before
    assert browser.find("#theme").get_attribute("aria-pressed") == "true"
    browser.wait("return ltrsys.charts.settled().then(() => true)")
    fills = browser.run(
        "return Object.values(Bokeh.index).filter((view) => view.model.type === 'Figure')"
        ".map((view) => view.model.background_fill_color)"
    )
    assert fills
    assert set(fills) == {browser.run("return ltrsys.colours.named('--surface')")}
    assert browser.problems() == []


def test_look_alikes_have_pictures_of_both(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run("document.getElementById('look_alikes').scrollIntoView()")
    browser.wait(
        "const all = Array.from(document.querySelectorAll('.pair img')); return all.length > 1 && "
        "all.every((one) => one.complete && one.naturalWidth > 0 && one.alt.startsWith('An image of '))"
    )


def test_another_run_is_chosen(browser: Browser, page_of_two: Path, another: BalancedRun) -> None:
    browser.open(page_of_two, width=390)
    assert fits(browser)
    assert browser.texts(".results caption strong") == ["strange", "another"]
    assert len(browser.texts(".rows thead th")) == 5 + 5
    choice = browser.find("#run")
    choice.send_keys("another")
    assert browser.texts(".rows thead th")[5:] == ["Joint", "NCM"]
    assert "lengths of weights have no meaning" in browser.texts("#weight_norms_and_tau .note")[0]
    assert "There is no metrics.jsonl" in browser.texts("#training .note")[0]
    browser.draw_all()
    assert browser.texts(".no-picture")
    assert browser.problems() == []
