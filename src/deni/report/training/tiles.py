"""The figures of one training to read first, each with what it means: of the page's head, and of the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deni.analysis.performance import FEW, Performance
from deni.cross_validation.estimating import sentences
from deni.report.numbers import number
from deni.report.training.answers import rows_of
from deni.report.training.summary import TrainingSummary
from deni.tasks import TASKS, Task
from deni.tasks.metrics import called

FROM = {"out_of_fold": "out-of-fold predictions", "dev": "dev texts"}  # what a temperature is fitted on


@dataclass(frozen=True)
class Tile:
    """One figure with what it means.

    Args:
        name: of what.
        value: as text.
        note: how to read it.
    """

    name: str
    value: str
    note: str


def build_tiles(summary: TrainingSummary) -> list[Tile]:
    """The figures to read first."""
    found = [] if summary.on_test is None else list(_of_test(summary.on_test))
    found += [] if summary.answers is None else [Tile(*row) for row in rows_of(summary.answers)]
    found += _of_confidence(summary.calibration, summary.abstention)
    if summary.cross_validation is not None:
        found.insert(0, _of_folds(summary.cross_validation, TASKS[summary.settings["recipe"]["task"]]))
    times = "as much as plain training" if summary.cost == 1 else f"{summary.cost:.1f} times plain training"
    times = times if summary.cost else "nothing was trained"
    predict = f"{summary.voters} members predict" if summary.voters > 1 else "one model predicts"
    part = " since it was resumed" if summary.resumed else ""
    if summary.teacher_steps:
        times += f": student {summary.member_steps:,}, teacher and folds {summary.teacher_steps:,}"
    steps = f"{summary.all_steps:,} member-steps"
    return [*found, Tile("cost", steps, f"{times}; {summary.all_seconds:.0f} seconds{part}; {predict}")]


def _of_test(test: Performance) -> Iterator[Tile]:
    points = test.kind.in_points
    value, low, high = (score(each, points) for each in test.score)
    note = f"95 % interval {low} to {high}: other test texts, not other seeds"
    if points and test.score.value == 1:  # a bootstrap knows nothing of errors that did not happen
        note = f"no error in {test.texts} test texts; up to {min(100.0, 300 / test.texts):.1f} % of others may be wrong"
    elif test.texts < FEW:
        note += f"; fewer than {FEW} texts: likely too narrow"
    yield Tile(f"expected {test.name}", value, note)
    first, *others = test.chance.items()
    also = "".join(f"; its {name} is {score(base, points)}" for name, (_, base) in others)
    own, base = (score(each, points) for each in first[1])
    yield Tile(
        f"{first[0]} against chance",
        f"{own} against {base}",
        f"chance is always answering {cut(test.always, 60)}{also}",
    )
    if test.calibration is not None:
        yield Tile(
            "calibration", f"ECE {100 * float(test.calibration.ece):.1f} %", "confidence minus accuracy, in bins"
        )
    if test.disagreement is not None and not test.kind.chooses:
        yield Tile("members", f"SD {test.disagreement:.3g}", f"of their numbers for a text; {_alone(test)}")
    elif test.disagreement is not None:
        differs = ""
        if test.parent_differs is not None:
            differs = f"; the vote differs from the parent alone on {100 * test.parent_differs:.1f} %"
        share = f"of {test.examples}: two members choose differently, mean over pairs{differs}; {_alone(test)}"
        yield Tile("members disagree", f"{100 * test.disagreement:.1f} %", share)


def _of_confidence(calibration: Mapping[str, Any], abstention: Mapping[str, Any]) -> Iterator[Tile]:
    """The temperature with what it changes, and what share of texts may be answered at usual accuracies."""
    if vote := calibration.get("vote"):
        before, after = vote["before"], vote["after"]
        yield Tile(
            "temperature",
            f"{vote['temperature']:.2f}",
            f"on {calibration['texts']:,} {FROM[calibration['fitted_on']]}: calibration error "
            f"{100 * before['ece']:.1f} % → {100 * after['ece']:.1f} %, Brier score {before['brier']:.3f} → "
            f"{after['brier']:.3f}, log loss {before['nll']:.3f} → {after['nll']:.3f}, cross-fitted",
        )
    for target, found in abstention.get("targets", {}).items():
        share = "no answer" if "refused" in found else f"{100 * found['coverage']:.0f} % of texts"
        note = found.get("refused") or (
            f"where the confidence is above {found['threshold']:.2f}: {found['answered']:,} of {found['texts']:,} "
            f"labeled texts, {found['errors']} wrong; deni predict --accuracy {target}"
        )
        yield Tile(f"answered at accuracy {target}", share, note)


def _alone(test: Performance) -> str:
    low, high = (score(each, test.kind.in_points) for each in (test.member_scores.min(), test.member_scores.max()))
    return f"alone they score {low} to {high}"


def _of_folds(found: Mapping[str, Any], task: Task) -> Tile:
    value, low, high = ends(found, task)
    note = "; ".join([f"{100 * found['confidence']:.0f} % interval {low} to {high}", *sentences(found)])
    return Tile(f"estimated {called(task.headline)}", value, note)


def ends(found: Mapping[str, Any], task: Task) -> list[str]:
    """The estimate from folds and the ends of its interval, as they are shown."""
    return [score(found[name], task.in_points) for name in ("score", "low", "high")]


def score(value: float, points: bool) -> str:
    """A score in points, or as it is."""
    return number(100 * float(value), 1) if points else number(float(value), 3)


def cut(text: str, most: int) -> str:
    """A text on one line, cut where it is long, without what a terminal would obey."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
