"""The few sentences that a study begins with."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from deni.analysis.summary import MOST, summarize
from deni.study.cell import NamedSettings
from tests.helpers.made import of_datasets, on_both_parts, runs


def points(cells):
    """Macro F1 of each run, as scikit-learn has it."""
    return [100 * f1_score(each.gold, each.log_probs[:, 0].argmax(-1), average="macro") for _, each in cells]


def test_who_leads_who_is_steadiest_at_what_cost_and_what_is_open(tables):
    default = list(runs("default", 0.6, 20, spread=0.1, cost=10))
    best = list(runs("swa", 0.9, 20, shift=1, cost=45))
    same = list(runs("ema", 0.6, 20, spread=0.1, shift=7, cost=10))
    mean, base, sd = np.mean(points(best)), np.mean(points(default)), np.std(points(best), ddof=1)
    said = summarize(tables([*default, *best, *same]))
    assert len(said) == MOST == 5
    assert said[0].startswith(
        f"swa has the highest mean on trec, {mean:.1f}: {mean - base:+.1f} points from default (95 %"
    )
    assert said[0].endswith(", shown to be above each other strategy.")
    ratio = sd / np.std(points(default), ddof=1)
    assert said[1] == (
        f"swa varies least over the seeds, with an SD of {sd:.1f} points: {ratio:.2f} times that of default, "
        "shown to be more stable."
    )
    assert said[2] == "A run costs: swa 45 member-steps (4.5 times default)."
    assert said[3] == "Not known: whether ema differs from default at all, in mean or spread."
    assert said[4] == (
        "This is from 20 runs of a strategy in each setting, 1 choice of labeled texts and 1 dataset: "
        "others may differ."
    )


def test_a_lead_that_is_not_shown_is_not_claimed(tables):
    said = summarize(tables([*runs("default", 0.7, 6, spread=0.1), *runs("swa", 0.7, 6, spread=0.1, shift=5)]))
    assert said[0].endswith(", not shown to be above each other strategy.")
    assert "fewer than 20 seeds cannot show it" in said[1] or "default varies least" in said[1]
    assert "Not known: whether swa differs from default at all, in mean or spread." in said


def test_several_datasets_are_told_together(tables):
    said = summarize(tables(of_datasets()))
    assert said[0].startswith("swa has the highest mean over all 2 datasets, ")
    assert said[-1].endswith("1 choice of labeled texts and 2 datasets: others may differ.")


def test_settings_that_are_not_joined_are_counted(tables):
    cells = [
        run
        for labelled in (50, 100, 200)
        for at, strategy in enumerate(("default", "swa"))
        for run in runs(
            strategy, 0.9 if (labelled > 50) == (strategy == "swa") else 0.5, 6, shift=at, labelled=labelled
        )
    ]
    said = summarize(tables(cells))
    assert said[0] == (
        "swa has the highest mean in 2 of 3 settings; that the highest mean is above each other one is shown in 3."
    )


def test_what_is_missing_or_measured_on_development_texts_is_said(tables):
    cells = list(on_both_parts())
    cells[0] = (cells[0][0], "Traceback\nValueError: no")
    cells[1] = (cells[1][0], None)
    last = summarize(tables(cells))[-1]
    assert "scores on dev texts are for choosing only" in last
    assert "1 runs are not done yet; 1 gave no result" in last


def test_one_strategy_has_nothing_to_lead(tables):
    said = summarize(tables(list(runs("swa", 0.7, 5, spread=0.1))))
    assert said[0].endswith("there is no other strategy to compare it with.")
    assert len(said) == 3


@pytest.mark.parametrize("strategies", [2, 9])
def test_there_are_never_more_than_five_sentences_however_many_strategies(tables, strategies):
    cells = [
        run
        for at in range(strategies)
        for run in runs(
            NamedSettings("swa", {"average_from": at / 20}), 0.5 + 0.04 * at, 5, spread=0.05, shift=at, cost=10 + at
        )
    ]
    assert len(summarize(tables(cells))) <= 5
