"""The page of a forecast in a real browser: no request, no error, every number, and no wider than its window."""

import numpy as np
import pytest

from deni.commands.forecast import LearningCurve, MoreLabels, state_forecast
from deni.measures import Estimate
from deni.measures.learning_curve import PowerLaw
from deni.report.forecast import build_page

SCRIPT = "<script>alert(1)</script>"
SIZES, SCORES = np.array([20, 40, 80]), np.array([0.5, 0.6, 0.67])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    found = LearningCurve(
        source=f"labels {SCRIPT}.csv",
        task="single_label",
        texts=100,
        how="frozen",
        model=f"model {SCRIPT}",
        sizes=SIZES,
        scores=Estimate(SCORES, SCORES - 0.04, SCORES + 0.04),
        law=PowerLaw(np.array(0.9), np.array(1.8), np.array(0.5)),
        now=0.72,
        forecasts=[MoreLabels(150, 250, Estimate(0.79, 0.70, 0.88), Estimate(0.0662, 0.0312, 0.1012))],
        rare=[f"class {SCRIPT}"],
        seconds=3.2,
    )
    file = tmp_path_factory.mktemp("page") / "curve.html"
    file.write_text(build_page(found), encoding="utf-8")
    return file, found


def test_the_page_says_the_answer_and_shows_the_numbers(opened, page):
    file, found = page
    view = opened(file)
    assert view.said == []
    assert view.asked == [file.as_uri()]
    assert SCRIPT not in file.read_text()
    assert view.locator("h1").text_content().endswith(f"labels {SCRIPT}.csv")
    assert view.locator(".verdict li").all_text_contents() == state_forecast(found)
    assert view.locator("#table-ahead td").all_text_contents() == [
        *("150", "250", "79.0", "70.0 to 88.0", "+6.6", "+3.1 to +10.1")
    ]
    assert view.locator("#table-measured tbody tr").nth(1).locator("td").all_text_contents() == [
        *("40", "60.0", "56.0 to 64.0")
    ]
    assert view.locator("#cards-curve svg .mark-symbol path").count() == len(SIZES) + 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_no_wider_than_a_phone(opened, page, scheme):
    view = opened(page[0], 390, scheme)
    assert view.said == []
    assert view.evaluate("document.documentElement.scrollWidth") <= 390
    assert view.locator("#cards-curve svg").bounding_box()["width"] <= 390


def test_the_answer_names_the_interval_rare_classes_and_what_was_not_tested(page):
    said = state_forecast(page[1])
    assert said[0] == "150 more: +3.1 to +10.1 macro F1 (90 %; most likely +6.6), so about 79.0 with 250 labels."
    assert said[1].startswith(f"Fewer than 5 texts have class {SCRIPT}")
    assert "beyond what forecasts were tested on" in said[2]
