"""A diagnosis in words and tables, 80 columns wide; macro F1 in points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.table import Table

from deni.cross_validation.estimating import sentences
from deni.diagnose.findings import Findings, Spread, Trial
from deni.diagnose.plan import Diagnosis
from deni.measures import LEAST_SEEDS, standard_deviation
from deni.strategies.forking import REMEDY
from deni.study.cell import BLOCK_SOURCES

WORDS = {
    "data_split": "the choice of the test texts",
    "label_choice": "the choice of the labeled examples",
    "sample_order": "the order of the texts",
    "initialisation": "the initialization of the new weights",
    "dropout": "dropout",
    "noise": "the strategy's own noise",
    "augmentation": "the choice of augmented texts",
}


def print_costs(diagnosis: Diagnosis, left: set[str], console: Console) -> None:
    """What a diagnosis trains for what, and what of it is left."""
    table = Table()
    table.add_column("for")
    for name in ("runs", "packs", "member-steps", "left"):
        table.add_column(name, justify="right")
    total = np.zeros(4, dtype=int)
    for name, cells in diagnosis.parts.items():
        costs = [
            sum(each.member_steps for each in selected) for selected in (cells, [c for c in cells if c.key in left])
        ]
        row = [len(cells), len({each.pack for each in cells}), *costs]
        table.add_row(name, *map(str, row))
        total += row
    table.add_section()
    table.add_row("all", *map(str, total))
    console.print(table)
    for name, why in diagnosis.left_out.items():
        console.print(f"Not tried: {name}: {why}", highlight=False)


def print_findings(found: Findings, console: Console) -> None:
    """Plain sentences first, then the tables behind them."""
    for each in _rendered(found):
        console.print(each, highlight=False)


def _rendered(found: Findings) -> Iterator[RenderableType]:
    yield f"{headline(found)}\n"
    yield f"{_of_seeds(found)}\n"
    if found.cross_validation is not None:
        yield f"{of_folds(found.cross_validation)}\n"
    if found.rivals:
        yield f"{of_rivals(found)}\n"
    if found.sources:
        yield _sources_table(found)
        yield f"{_of_sources(found)}\n"
    if found.trials:
        yield _trials_table(found)
        yield of_trials(found)
    for name, trial in found.trials.items():
        if trial.failed_forks:
            yield (
                f"Failed: {name}: in {trial.failed_forks} of {trial.seeds} runs a fork had no effect, its members are "
                f"one model: {REMEDY}"
            )
    for name, why in found.left_out.items():
        yield f"Not tried: {name}: {why}"


# ---- sentences -------------------------------------------------------------------------------------------------------


def headline(found: Findings) -> str:
    """How much scores vary, and the most important source."""
    spread = found.spread
    seeds = len(spread.scores)
    varies = f"Your fine-tune varies by {_points(spread.sd.value)} F1 (SD, {seeds} seeds)"
    moved = [WORDS[name] for name in BLOCK_SOURCES if name in found.sources]
    if moved:  # by the golden runs, not by the seeds
        verb = "vary" if len(moved) > 1 else "varies"
        varies += f", and by {_points(float(standard_deviation(found.golden)))} when {' and '.join(moved)} {verb}, too"
    if not found.sources:
        return f"{varies}."
    first = max(found.sources, key=lambda name: found.sources[name].importance.contributed)
    most = found.sources[first].importance.contributed
    if most == 0:
        return f"{varies}; no single source changes the F1."
    if len(found.sources) == 1:
        return f"{varies}; {WORDS[first]} alone varies it by {_points(most)}."
    return f"{varies}; what varies it most is {WORDS[first]} ({_points(most)} alone)."


def _of_seeds(found: Findings) -> str:
    spread = found.spread
    seeds = len(spread.scores)
    return (
        f"Macro F1 is {_points(spread.mean)} on average; the worst seed, {spread.worst_seed}, has "
        f"{_points(spread.worst)}; always naming the most frequent class has {_points(found.majority)}. "
        f"With {seeds} seeds the SD itself is known only to lie between {_points(spread.sd.low)} and "
        f"{_points(spread.sd.high)} (95 %). Two seeds disagree on {100 * spread.disagreement:.1f} % of the "
        f"{found.test_texts} test texts. {_failed(spread)} All were trained on {found.train_texts} texts."
    )


def of_folds(estimated: Mapping[str, Any]) -> str:
    """The score to expect of one model that is trained on these texts, from their folds."""
    how, assumes = sentences(estimated)
    low, high = (_points(estimated[name]) for name in ("low", "high"))
    return (
        f"One model trained on these texts: expect macro F1 {_points(estimated['score'])} "
        f"({100 * estimated['confidence']:.0f} % interval {low} to {high}), {how} in {estimated['folds']} folds; it "
        f"{assumes}."
    )


def of_rivals(found: Findings) -> str:
    """What baselines score on the same texts, and whether the strategy is better than the best of them."""
    remarks = {name: f" ({rival.remark})" if rival.remark else "" for name, rival in found.rivals.items()}
    scores = ", ".join(f"{name} {_points(rival.score)}{remarks[name]}" for name, rival in found.rivals.items())
    name = max(found.rivals, key=lambda name: found.rivals[name].score)
    gain = found.rivals[name].gain
    between = f"{_signed(gain.value)} F1 ({_signed(gain.low)} to {_signed(gain.high)})"
    if gain.low > 0:
        judged = f"{found.strategy} is better than {name}, by {between}"
    elif gain.high < 0:
        judged = f"{name}, which trains nothing, is better than {found.strategy}: {between}"
    else:
        judged = f"{found.strategy} is not shown to be better than {name}, which trains nothing: {between}"
    return f"Without fine-tuning, on the same texts: {scores} (deni study runs them, too). {judged}."


def _failed(spread: Spread) -> str:
    if not spread.failed:
        return "No run failed."
    numbers = ", ".join(map(str, spread.failed))
    which = f"seed {numbers}" if len(spread.failed) == 1 else f"seeds {numbers}"
    lost = f", {len(spread.diverged)} of them with a non-finite loss" if spread.diverged else ""
    return f"{len(spread.failed)} failed ({which}: no better than the most frequent class{lost})."


def _of_sources(found: Findings) -> str:
    important = [name for name, each in found.sources.items() if each.importance.score > 0]
    first = next(iter(found.sources.values()))
    text = "alone: SD when only this source moves (mean, lowest and highest of "
    text += f"{len(first.alone)} configurations of the others). "
    text += "rest: SD that remains when it is averaged out. importance: alone minus rest, in SDs of all sources at "
    text += f"once ({_points(first.importance.golden)}); above 0 a source counts as important: "
    text += f"here {', '.join(important)}. " if important else "here none. "
    return f"{text}Sources interact: their shares do not add up. So few runs rank large effects only."


def of_trials(found: Findings) -> str:
    """What can be concluded from the trial of the candidates."""
    trials = found.trials
    seeds = next(iter(trials.values())).seeds
    most = max(trials, key=lambda name: trials[name].gain.value)
    name = found.best
    if name is None:
        text = f"No candidate is shown to be better than {found.strategy} with {seeds} seeds"
        if trials[most].gain.value > 0:
            text += f". The best in the mean was {_gained(most, trials[most], found)}: it may be chance. "
            text += f"A study of {LEAST_SEEDS} or more seeds can tell (deni study run)."
        else:
            text += ", and none has a higher mean."
    else:
        text = f"Recommended: {_gained(name, trials[name], found)}. It was chosen on these test texts, so its gain is "
        text += "optimistic: measure it on other texts before you report it."
    steady = [each for each, trial in trials.items() if trial.steadier]
    if seeds < LEAST_SEEDS:
        text += f" {seeds} seeds support no claim about spread (that takes {LEAST_SEEDS}): the SDs are shown, not more."
    elif steady:
        text += f" Shown to vary less: {', '.join(steady)}."
    else:
        text += " None is shown to vary less."
    return text


def _gained(name: str, trial: Trial, found: Findings) -> str:
    gain = trial.gain
    times = f"{trial.spread.member_steps / found.spread.member_steps:.1f}"
    cost = "as many member-steps" if times == "1.0" else f"{times} times the member-steps"
    return f"{name}, {_signed(gain.value)} F1 ({_signed(gain.low)} to {_signed(gain.high)}), for {cost}"


# ---- tables ----------------------------------------------------------------------------------------------------------


def _sources_table(found: Findings) -> Table:
    table = Table(title="Where it comes from (SD of macro F1)", title_justify="left")
    table.add_column("source", no_wrap=True)
    for name in ("alone", "lowest-highest", "rest", "importance"):
        table.add_column(name, justify="right", no_wrap=True)
    order = sorted(found.sources.items(), key=lambda pair: -pair[1].importance.contributed)
    for name, each in order:
        of = each.importance
        between = f"{_points(min(each.alone))}-{_points(max(each.alone))}"
        score = "-" if np.isnan(of.score) else f"{of.score:+.2f}"
        table.add_row(name, _points(of.contributed), between, _points(of.mitigated), score)
    return table


def _trials_table(found: Findings) -> Table:
    seeds = next(iter(found.trials.values())).seeds
    table = Table(title=f"What might help (macro F1, {seeds} seeds)", title_justify="left")
    table.add_column("strategy", no_wrap=True)
    for name in ("member-steps", "mean", "SD", "gain", "SD ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    spread, first = found.spread, next(iter(found.trials.values()))
    points = _points(float(standard_deviation(spread.scores[:seeds])))
    table.add_row(found.strategy, str(spread.member_steps), _points(first.plain), points, "", "")
    for name, trial in found.trials.items():
        gain, ratio = trial.gain, trial.ratio
        gained = f"{_signed(gain.value)}\n{_signed(gain.low)} to {_signed(gain.high)}"
        between = "-" if ratio is None else f"{ratio.ratio:.2f}\n{ratio.low:.2f} to {ratio.high:.2f}"
        of = trial.spread
        table.add_row(
            name.replace(" (", "\n("),
            str(of.member_steps),
            _points(of.mean),
            _points(of.sd.value),
            gained,
            between,
        )
    return table


def _points(score: float) -> str:
    return f"{100 * score:.1f}"


def _signed(score: float) -> str:
    return f"{100 * score:+.1f}"
