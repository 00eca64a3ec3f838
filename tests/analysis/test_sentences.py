"""What a study is said to have shown, and what not."""

import dataclasses
import re

import pytest

from deni.measures import detectable_sd_ratio
from deni.report import write_report
from tests.helpers.made import on_both_parts, runs, said


def test_the_best_of_three_names_the_one_that_is_hardest_to_tell_from_it(tables):
    cells = [*runs("default", 0.9, 6), *runs("swa", 0.4, 6, shift=1), *runs("ema", 0.3, 6, shift=2)]
    (text,) = (each for each in said(tables(cells), "shown") if "highest mean" in each)
    assert text.startswith(
        "default has the highest mean on trec, above each other strategy; the least clear difference"
    )


def test_two_that_are_equal_have_no_best_and_no_claim(tables):
    alike = tables([*runs("default", 0.7, 20), *runs("swa", 0.7, 20)])
    assert not alike.results["best"].any()
    assert not [text for text in said(alike, "shown") if "higher" in text or "lower" in text or "varied" in text]


def test_a_page_of_test_texts_alone_does_not_speak_of_parts(tables):
    found = tables(each for each in on_both_parts() if each[0].measure == "test")
    assert [each.label for each in found.runs.settings] == ["trec"]
    assert not any("measure" in text or "evelopment" in text for text in said(found, "shown") + said(found, "limit"))


def test_a_higher_mean_is_claimed_with_its_interval_and_the_baseline_can_be_chosen(tables, tmp_path):
    cells = [*runs("default", 0.5, 8), *runs("swa", 0.9, 8, shift=1)]
    shown = said(tables(cells), "shown")
    assert any(
        re.match(r"swa scored higher than default on trec: a difference of \d+\.\d points \(95 %", x) for x in shown
    )
    (tmp_path / "study.db").unlink()
    assert any(
        text.startswith("default scored lower than swa") for text in said(tables(cells, baseline="swa"), "shown")
    )


def test_ten_seeds_support_no_claim_about_spread_and_twenty_do(tables, tmp_path):
    def cells(seeds):
        return [*runs("default", 0.6, seeds, spread=0.3), *runs("swa", 0.9, seeds, shift=1, texts=90)]

    ten = tables(cells(10))
    assert ten.comparisons["sd_ratio"].iloc[0] < 0.5
    assert ten.comparisons["sd_shown"].tolist() == ["too few seeds"]
    assert not any("varied" in text for text in said(ten, "shown"))
    assert any(text.startswith("10 seeds support no claim about spread") for text in said(ten, "limit"))
    (tmp_path / "study.db").unlink()
    twenty = tables(cells(20))
    assert any(text.startswith("swa varied less than default") for text in said(twenty, "shown"))
    assert any(text.startswith("20 seeds detect an SD ratio of 1.94") for text in said(twenty, "limit"))


def test_two_seeds_claim_nothing(tables):
    found = tables([*runs("default", 0.3, 2), *runs("swa", 0.99, 2, shift=1)])
    assert found.comparisons["mean_shown"].tolist() == ["too few seeds"]
    assert said(found, "shown") == []


def test_several_settings_are_told_with_the_ends_of_all_their_intervals(tables):
    cells = [
        run
        for at, labelled in enumerate((50, 100))
        for shift, strategy in enumerate(("default", "swa"))
        for run in runs(strategy, 0.5 + 0.4 * shift, 6, shift=4 * at + shift, labelled=labelled)
    ]
    found = tables(cells)
    (text,) = (each for each in said(found, "shown") if each.startswith("swa scored higher"))
    low, high = map(float, re.search(r"within (\S+) to (\S+)\)", text).groups())
    assert low == pytest.approx(found.comparisons["low"].min(), abs=0.051)
    assert high == pytest.approx(found.comparisons["high"].max(), abs=0.051)


def test_what_seeds_detect_follows_the_number_of_comparisons(tables):
    cells = [*runs("default", 0.7, 20, spread=0.1), *runs("swa", 0.7, 20, shift=1, spread=0.1), *runs("ema", 0.7, 20)]
    text = next(each for each in said(tables(cells), "limit") if "detect" in each)
    ratio = detectable_sd_ratio(20, alpha=0.025)
    assert text.startswith(f"20 seeds detect an SD ratio of {ratio:.2f} (")
    assert "over 2 comparisons" in text
    assert "ruled out" not in text


def test_an_interval_without_zero_that_is_no_claim_is_explained(tables):
    plain = [*runs("default", 0.72, 8, texts=300), *runs("swa", 0.82, 8, shift=1, texts=300)]
    found = tables(plain)
    (each,) = found.against_baseline
    assert each.of_mean == "higher"
    weaker = dataclasses.replace(each, p_mean=0.2, p_margin=0.2)
    changed = dataclasses.replace(found, against_baseline=[weaker])
    (text,) = (one for one in said(changed, "not shown") if "scores higher or lower" in one)
    assert text.endswith(" (1 interval excludes equality alone).")
    none = dataclasses.replace(found, against_baseline=[dataclasses.replace(weaker, low=-0.01)])
    assert not any("alone" in one for one in said(none, "not shown"))


def test_strategies_with_other_seeds_are_named(tables, tmp_path):
    same = [*runs("default", 0.6, 4), *runs("swa", 0.7, 4, shift=1)]
    assert not any("same seeds" in text for text in said(tables(same), "limit"))
    (tmp_path / "study.db").unlink()
    found = tables([*same, *list(runs("ema", 0.8, 4, shift=2))[1:]])
    assert any(text.startswith("The strategies do not have the same seeds on trec:") for text in said(found, "limit"))
    write_report(tmp_path / "study.db", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("3 of 4 runs") == 1
