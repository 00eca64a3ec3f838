"""Mean ranks over datasets: from fifteen on, of one part of the texts."""

import dataclasses

import pytest

from deni.analysis.ranks import compute_rankings
from deni.analysis.runs import read_runs
from deni.measures import critical_difference
from deni.report.figures import build_figures
from deni.study.store.database import Store
from tests.helpers.made import make, on_both_parts, runs, said


def test_ranks_over_datasets_are_of_one_part(tables, tmp_path):
    small = tables(on_both_parts(2))
    cells = [each for at in range(15) for each in on_both_parts(2, dataset=f"set{at}", texts=60)]
    for part in ("test", "development"):
        cells += [each for at in range(15) for each in runs("ema", 0.2, 2, dataset=f"set{at}", texts=60, measure=part)]
    with Store(make(tmp_path / "large.db", cells)) as store:
        rankings = list(compute_rankings(read_runs(store)))
    assert [(each.measure, each.datasets) for each in rankings] == [("test", 15), ("development", 15)]
    best = [min(zip(each.found.ranks, each.strategies, strict=True))[1] for each in rankings]
    assert best == ["swa", "default"]
    shown = said(dataclasses.replace(small, rankings=rankings), "shown")
    for part, strategy in (("test", "swa"), ("dev", "default")):
        assert any(text.startswith(f"On {part} texts: {strategy} has a better mean rank over") for text in shown)
        assert not any(text.startswith(f"On {part} texts: ema") for text in shown)


def many(datasets, accuracies=(0.5, 0.7, 0.9), seeds=2):
    return [
        run
        for at in range(datasets)
        for shift, (strategy, accuracy) in enumerate(zip(("default", "swa", "ema"), accuracies, strict=True))
        for run in runs(strategy, accuracy, seeds, shift=3 * at + shift, dataset=f"set{at}", texts=60)
    ]


def test_mean_ranks_come_with_fifteen_datasets_and_not_before(tables, tmp_path):
    few = tables(many(14))
    assert few.mean_ranks.empty
    assert "mean-ranks" not in [each.name for each in build_figures(few)]
    assert any("14 datasets cannot carry a ranking" in text for text in said(few, "limit"))
    (tmp_path / "study.db").unlink()
    found = tables(many(15))
    assert "mean-ranks" in [each.name for each in build_figures(found)]
    means = found.results.pivot(index="dataset", columns="strategy", values="mean")[["default", "swa", "ema"]]
    want = critical_difference(means.to_numpy())
    rows = found.mean_ranks
    assert rows["strategy"].tolist() == ["default", "swa", "ema"]
    assert rows["mean_rank"].to_numpy() == pytest.approx(want.ranks)
    assert (rows["high"] - rows["low"]).to_numpy() == pytest.approx([want.difference] * 3)
    assert (rows["datasets"] == 15).all()
    (text,) = (each for each in said(found, "shown") if each.startswith("ema has a better mean rank"))
    assert "over 15 datasets (1.0) than" in text
    assert "did not run." in " ".join(said(found, "limit"))


def test_ranks_that_do_not_differ_are_not_shown(tables):
    found = tables(many(15, (0.7, 0.7, 0.7)))
    assert not any("mean rank" in text for text in said(found, "shown"))
    assert any("Friedman's test has p =" in text for text in said(found, "not shown"))
