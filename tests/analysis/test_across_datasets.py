"""Strategies over all datasets together."""

import numpy as np
import pytest

from tests.helpers.made import of_datasets, runs, said


def test_overall_is_the_mean_over_the_datasets_and_the_spread_within_them(tables):
    found = tables(list(of_datasets()))
    each = found.results.pivot(index="strategy", columns="dataset", values=["mean", "sd"])
    overall = found.overall.set_index("strategy")
    assert set(overall["dataset"]) == {"all 2"}
    for strategy in ("default", "swa"):
        assert overall.loc[strategy, "mean"] == pytest.approx(each.loc[strategy, "mean"].mean())
        assert overall.loc[strategy, "sd"] == pytest.approx(np.sqrt((each.loc[strategy, "sd"] ** 2).mean()))
    (against,) = found.overall_comparisons.to_dict("records")
    assert against["difference"] == pytest.approx(found.comparisons["difference"].mean(), abs=1e-9)
    assert (against["pairs"], against["blocks"], against["mean_shown"]) == (40, 2, "higher")
    assert against["sd_shown"] == "more stable"
    together = [text for text in said(found, "shown") if " on all 2 datasets together: " in text]
    assert [text.partition(" on ")[0] for text in together] == [
        "swa scored higher than default",
        "swa varied less than default",
    ]


def test_no_dataset_alone_decides_the_overall_spread(tables):
    cells = list(runs("default", 0.5, 20, dataset="wide", spread=0.2, shift=1, texts=300))
    cells += runs("swa", 0.5, 20, dataset="wide", spread=0.2, shift=2, texts=300)
    cells += runs("default", 0.8, 20, dataset="narrow", spread=0.02, shift=3, texts=3000)
    cells += runs("swa", 0.8, 20, dataset="narrow", spread=0.002, shift=4, texts=3000)
    found = tables(cells)
    (against,) = found.overall_comparisons.to_dict("records")
    both = found.comparisons.set_index("dataset")["sd_ratio"]
    assert both["narrow"] < against["sd_ratio"] < both["wide"]
    assert against["sd_ratio"] < 0.95 * both["wide"]  # without units of their own the wide one would hide the other


def test_only_strategies_of_all_datasets_are_overall_and_other_settings_stay_apart(tables, tmp_path):
    cells = [*of_datasets(), *runs("ema", 0.7, 20, dataset="data0"), *runs("ema", 0.7, 20, labelled=7)]
    overall = tables(cells).overall
    assert list(overall["strategy"]) == ["default", "swa"]
    assert set(overall["labeled"]) == {100}
    (tmp_path / "study.db").unlink()
    assert tables(list(runs("default", 0.7, 3))).overall.empty
