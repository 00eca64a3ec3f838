"""The rows and tiles of calibration and abstention are those of `deni.json`."""

import numpy as np
from scipy.special import log_softmax

from deni.artifact import OutOfFold
from deni.artifact.abstention import describe_abstention
from deni.artifact.calibration import fit_calibration
from deni.report.training.calibration import (
    coverage_rows,
    coverage_table,
    reliability_rows,
    reliability_table,
)
from deni.report.training.tiles import build_tiles
from deni.tasks import TASKS
from tests.helpers.made_summaries import bare_summary

TASK = TASKS["single_label"]


def predictions(texts=400):
    """Predictions that are too sure by a factor of 2, `(1, N, C)`, their folds, and what is right."""
    generator = np.random.default_rng(0)
    true = generator.normal(size=(texts, 4)) * 6
    gold = (np.exp(log_softmax(true, -1)).cumsum(1) < generator.random((texts, 1))).sum(1)
    return log_softmax(2 * true, -1)[None], generator.integers(5, size=(1, texts)), gold


def test_the_reliability_before_is_that_of_the_predictions_and_all_texts_are_in_the_bins():
    votes, folds, gold = predictions()
    frame = reliability_rows(fit_calibration({"vote": votes}, gold.tolist(), folds, TASK, "out_of_fold"))
    confidence, right = np.exp(votes[0]).max(1), votes[0].argmax(1) == gold
    for kind in ("before", "after"):
        rows = frame[frame["of"] == kind]
        assert rows["count"].sum() == len(gold)
        assert abs((rows["count"] * rows["accuracy"]).sum() / len(gold) - 100 * right.mean()) < 1e-9
    surest = frame[frame["of"] == "before"].iloc[-1]
    top = confidence > 0.9
    assert (surest["count"], round(surest["accuracy"], 6)) == (top.sum(), round(100 * right[top].mean(), 6))
    assert abs(surest["confidence"] - 100 * confidence[top].mean()) < 1e-9
    assert len(reliability_table(frame)[0].values) == len(frame)


def test_the_coverage_curve_counts_the_errors_of_the_surest():
    votes, folds, gold = predictions()
    found = OutOfFold({"vote": votes}, folds, gold.tolist(), ["0" * 64] * 400, list("abcd"))
    abstention = describe_abstention(found, TASK, None)
    frame = coverage_rows(abstention)
    order = np.argsort(-votes[0].max(1), kind="stable")
    wrong = (votes[0].argmax(1) != gold)[order]
    for row in frame.itertuples():
        assert row.errors == wrong[: row.answered].sum()
        assert abs(row.coverage - 100 * row.answered / 400) < 1e-9
        assert row.bound < row.accuracy
    columns = {column.title: column.values for column in coverage_table(frame)}
    assert columns["wrong"] == [str(each) for each in frame["errors"]]
    assert columns["confidence above"][-1] == "0.000"


def test_the_tiles_say_the_temperature_and_what_may_be_answered():
    votes, folds, gold = predictions()
    calibration = fit_calibration({"vote": votes}, gold.tolist(), folds, TASK, "out_of_fold")
    found = OutOfFold({"vote": votes}, folds, gold.tolist(), ["0" * 64] * 400, list("abcd"))
    abstention = describe_abstention(found, TASK, calibration["vote"]["temperature"])
    tiles = {tile.name: tile for tile in build_tiles(bare_summary(calibration=calibration, abstention=abstention))}
    vote = calibration["vote"]
    assert tiles["temperature"].value == f"{vote['temperature']:.2f}"
    change = f"{100 * vote['before']['ece']:.1f} % → {100 * vote['after']['ece']:.1f} %"
    assert f"400 out-of-fold predictions: calibration error {change}" in tiles["temperature"].note
    supported = abstention["targets"]["0.9"]
    assert tiles["answered at accuracy 0.9"].value == f"{100 * supported['coverage']:.0f} % of texts"
    assert "0.99 takes 299 answers" in tiles["answered at accuracy 0.99"].note
    assert not {"temperature", "answered at accuracy 0.9"} & {tile.name for tile in build_tiles(bare_summary())}
