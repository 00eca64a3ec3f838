"""What a training says, in a few sentences: how good, against what, and whether the members differ at all."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from deni.analysis.performance import FEW, Performance
from deni.artifact.export_flags import export_of
from deni.measures import Estimate
from deni.report.numbers import number
from deni.report.training.answers import state_answers
from deni.report.training.cross_validation import state_estimate
from deni.report.training.summary import TrainingSummary
from deni.report.training.tiles import cut, score
from deni.strategies.forking import REMEDY
from deni.tasks import TASKS

AGREE = 0.01  # share of the examples: members that differ on fewer are one model in practice
AGREE_NUMBERS = 0.01  # in regression: their SD for a text, in SDs of the labels


def state_verdict(summary: TrainingSummary) -> list[str]:
    """The sentences of the verdict, the most important first."""
    return [*_how_good(summary), *_members(summary), _cost(summary), *map(_sentence, summary.auto)]


def export_command(summary: TrainingSummary) -> str | None:
    """The command that writes one model in place of members that agree; None where they differ, or nothing is known."""
    test = summary.on_test
    if test is None or not members_agree(test):
        return None
    recipe = summary.settings["recipe"]
    pooled = recipe.get("pooling", "auto") != "auto" or bool(recipe.get("normalize_features"))
    export = export_of(str(summary.settings["tuning"]["name"]), pooled, str(recipe.get("pairs", "cross")))
    if export is None:
        return None
    flags = export.flags
    if not test.forked:  # independent runs: their mean is another model
        if "single" not in flags:
            return None
        flags = flags.replace("single", "members")
    return f"deni export {shlex.quote(summary.model)} out/ {flags}"


def members_agree(test: Performance) -> bool:
    """Whether the members that predict are one model in practice; False where only one predicts."""
    if test.disagreement is None:
        return False
    if test.kind.chooses:
        return test.disagreement < AGREE
    spread = float(test.points["gold"].std())
    return test.disagreement < AGREE_NUMBERS * spread


def _how_good(summary: TrainingSummary) -> Iterator[str]:
    test = summary.on_test
    if summary.cross_validation is not None:
        task = TASKS[summary.settings["recipe"]["task"]]
        yield from state_estimate(summary.cross_validation, task)
    if TASKS[summary.settings["recipe"]["task"]].generates:
        if summary.answers is None:
            yield f"How good its answers are was not measured: {summary.missing['test']}"
            return
        yield from state_answers(summary.answers)
        if summary.cost > 1:
            yield "Plain training was not measured on these prompts."
        return
    if test is None and summary.cross_validation is not None:
        own = summary.cross_validation["score"]
        yield from _beside(summary, own, task.in_points, "Of texts that each fold left out")
        return
    if test is None:
        yield "How good it is, and whether a baseline is as good, was not measured: " + summary.missing["test"]
        return
    points = test.kind.in_points
    value, low, high = (score(each, points) for each in test.score)
    few = f"; with fewer than {FEW} texts the interval is likely too narrow" if test.texts < FEW else ""
    if points and test.score.value == 1:
        interval = f"no error in {test.texts:,} test texts"
    else:
        interval = f"95 % interval {low} to {high} over other texts like the {test.texts:,} test texts{few}"
    begins = "Expect" if summary.cross_validation is None else "On the test split it has"
    yield f"{begins} {test.name} {value} ({interval}). Another seed or other labeled texts may give another score."
    yield from _beside(summary, test.score.value, points, "On the same test texts")
    yield _against_chance(test)
    if summary.cost > 1:
        yield "Plain training was not measured on these texts: deni diagnose or a study compares the two over seeds."


def _beside(summary: TrainingSummary, own: float, points: bool, where: str) -> Iterator[str]:
    """The sentences about baselines.

    Args:
        own: score of the model.
        where: all were measured, with a capital.
    """
    beside = summary.beside
    if beside is None:
        return
    scores = [
        f"{each.name} {score(each.score, points)} ({', '.join(filter(None, [f'{each.seconds:.1f} s', each.remark]))})"
        for each in beside.scores
    ]
    mine = f"this model {score(own, points)} ({summary.all_seconds:.0f} s)"
    if scores:
        yield f"{where}: {', '.join([*scores, mine])}."
    for name, why in beside.left_out.items():
        yield f"The baseline {name} was left out: {why}."
    if beside.difference is None:
        return
    best, difference = beside.best.name, beside.difference
    between = _between(difference, points)
    if difference.low > 0:
        yield f"It is better than the best baseline, {best}: {between}."
    elif difference.high < 0:
        yield f"The baseline {best} is better than this model: {between}. Take it, or another model or recipe."
    else:
        yield f"The baseline {best} is as good as this model, as far as these texts can tell: {between}."
    if beside.as_good:
        others = ", ".join(f"{name} {_between(each, points)}" for name, each in beside.as_good.items())
        yield f"This model is not shown to be better than {others}."


def _between(difference: Estimate, points: bool) -> str:
    value, low, high = (f"{float(each) * (100 if points else 1):+.{1 if points else 3}f}" for each in difference)
    return f"{value} (95 % interval {low} to {high})"


def _against_chance(test: Performance) -> str:
    points, always = test.kind.in_points, cut(test.always, 60)
    name, (own, base) = next(iter(test.chance.items()))
    if test.name in test.chance:
        name, (own, base) = test.name, test.chance[test.name]
        above = float(test.score.low) > base
    else:
        above = own < base if name == "RMSE" else own > base
    values = f"{score(own, points)} against {score(base, points)}"
    shown = "better" if above else "not shown to be better"
    return f"It is {shown} than chance, always answering {always}: {name} {values}."


def _members(summary: TrainingSummary) -> Iterator[str]:
    test = summary.on_test
    if test is not None and test.disagreement is not None:
        yield _voters(summary, test)
    elif summary.answers is not None and summary.answers.disagreement is not None:
        share = number(100 * summary.answers.disagreement, 1)
        together = f"Its {summary.voters} members choose each token together"
        yield f"{together}; on average {share} % of them would have written another one."
    elif summary.voters > 1:
        yield f"Whether its {summary.voters} members differ was not measured."
    if summary.failed_forks and not (test is not None and test.forked):
        yield f"{_sentence('; '.join(summary.failed_forks))}. {_sentence(REMEDY)}."
        return
    ends = [] if summary.forks.empty else summary.forks["disagreement_at_end"].dropna().tolist()
    if summary.voters == 1 and ends and max(ends) < 100 * AGREE:
        yield (
            f"The members never disagreed on more than {max(ends):.1f} % of the texts when they were merged: the forks "
            "changed little."
        )


def _voters(summary: TrainingSummary, test: Performance) -> str:
    members, points = summary.voters, test.kind.in_points
    alone = [score(each, points) for each in (test.member_scores.min(), test.member_scores.max())]
    told = f"alone they score {alone[0]}" if alone[0] == alone[1] else f"alone they score {alone[0]} to {alone[1]}"
    if test.kind.chooses:
        share = f"disagree on {100 * float(test.disagreement or 0):.1f} % of the {test.examples}"
    else:
        share = f"differ by an SD of {test.disagreement:.3g} on each text on average"
    if not members_agree(test):
        pairs = " (mean over pairs)" if test.kind.chooses else ""
        return f"Its {members} members {share}{pairs}; {told}, together {score(test.score.value, points)}."
    command = export_command(summary)
    way = f": {command}" if command else ""
    if not test.forked:
        return f"Its {members} members {share}, and {told}. One model would do{way}"
    return (
        f"The last fork failed: its {members} members {share}, and {told}; they are one model in effect. "
        f"{_sentence(REMEDY)}. Of this training, one model would do{way}"
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cost(summary: TrainingSummary) -> str:
    predict = f"predicting takes {summary.voters} models" if summary.voters > 1 else "one model predicts"
    if not summary.member_steps:
        return f"The encoder is as it was: the output layer was fitted, and nothing trained; {predict}."
    times = "as many as plain training" if summary.cost == 1 else f"{summary.cost:.1f} times plain training"
    if summary.teacher_steps:
        times += f": {summary.member_steps:,} for the student, {summary.teacher_steps:,} for the teacher and its folds"
    return f"It took {summary.all_steps:,} member-steps, {times}; {predict}."
