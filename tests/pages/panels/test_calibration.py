"""The panel of how sure the answers are, with the numbers of `results.json`."""

from pathlib import Path

import pytest
from selenium.webdriver.support.select import Select

from ltrsys.commands.results.report import report_runs
from ltrsys.evaluation.balanced_run import BalancedRun
from ltrsys.pages.panels.base import Material
from ltrsys.pages.panels.calibration import Calibration, CalibrationData
from ltrsys.pages.thumbnails import Thumbnails
from tests.pages.browser import Browser

pytestmark = [pytest.mark.long, pytest.mark.browser]


def test_it_has_every_classifier_that_was_calibrated(balanced: BalancedRun) -> None:
    data = Calibration.data(Material(balanced, Thumbnails()))
    assert isinstance(data, CalibrationData)
    lines = balanced.results.results
    assert [lines[one.place].calibration for one in data.classifiers] == [line.calibration for line in lines]


def test_the_tables_follow_the_choice_of_the_classifier(
    balanced: BalancedRun, browser: Browser, tmp_path: Path
) -> None:
    browser.open(report_runs([balanced.run.path], [], out=tmp_path / "page.html", pictures=False))
    panel = "#calibration"
    for line in balanced.results.results:
        if line.classifier not in ("joint", "ncm"):
            continue
        assert line.calibration is not None
        label = next(one.label for one in map(type, [balanced.fitted[line.classifier].classifier]))
        Select(browser.find(f"{panel} select")).select_by_visible_text(label)
        cells = browser.texts(f"{panel} tbody td")
        errors = line.calibration.before.calibration_error
        expected = [errors[shot] for shot in ("many", "medium", "few", "all")]
        assert cells[:4] == ["–" if value is None else f"{value:.1f}" for value in expected]
        sizes = line.calibration.adjusted_sets.mean_size
        assert cells[-4:] == [
            "–" if (value := sizes[shot]) is None else f"{value:.1f}" for shot in ("many", "medium", "few", "all")
        ]
