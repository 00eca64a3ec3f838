"""Claims and limits of a study as sentences; a claim needs an interval that excludes the opposite."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from deni.analysis.comparisons import ALPHA, LEAST_PAIRS, Comparison
from deni.analysis.runs import SPLITS, Group
from deni.analysis.tables import Tables
from deni.measures import F1_MARGIN, LEAST_DATASETS, LEAST_SEEDS, SD_MARGIN, detectable_sd_ratio
from deni.study.cell import MEASURES

Kind = Literal["shown", "not shown", "limit"]
NOT_EQUAL = (
    "Nothing here is a proof of equality. Where an interval excludes equality alone, the tests that a claim needs, "
    "adjusted over all comparisons, do not."
)


@dataclass(frozen=True)
class Sentence:
    """One sentence.

    Args:
        kind: a claim that holds, one that does not, or what the study cannot say.
        text: plain text; names in it are the user's.
    """

    kind: Kind
    text: str


def state_claims(tables: Tables) -> list[Sentence]:
    """All sentences, claims first."""
    found = [*(each for measure in MEASURES for each in _of_part(tables, measure)), *_limits(tables)]
    order: Sequence[Kind] = ("shown", "not shown", "limit")
    return sorted(found, key=lambda sentence: order.index(sentence.kind))


def _of_part(tables: Tables, measure: str) -> Iterator[Sentence]:
    """What is shown and what is not, of the settings that were measured on this part."""
    part = dataclasses.replace(
        tables,
        leads=[each for each in tables.leads if each.first.setting.measure == measure],
        rankings=[each for each in tables.rankings if each.measure == measure],
        against_baseline=[each for each in tables.against_baseline if each.first.setting.measure == measure],
    )
    overall = [each for each in tables.overall_against if each.first.setting.measure == measure]
    together = dataclasses.replace(part, against_baseline=overall)
    on = "" if tables.runs.texts == "test texts" else f"On {SPLITS[measure]} texts: "
    each_alone = (*_best(part), *_of_ranks(part), *_against(part, _MEAN), *_against(part, _SPREAD))
    for each in (*_against(together, _MEAN), *_against(together, _SPREAD), *each_alone):
        yield dataclasses.replace(each, text=on + each.text)


def _best(tables: Tables) -> Iterator[Sentence]:
    best = [each for each in tables.leads if each.of_mean == "higher"]
    for each in best if len(tables.leads) <= 3 else ():
        yield Sentence(
            "shown",
            f"{each.first.strategy} has the highest mean on {each.first.setting.label}, above each other strategy; the "
            f"least clear difference is that to {each.second.strategy}: {_difference(each)}.",
        )
    if len(tables.leads) > 3 and best:
        names = ", ".join(f"{name} in {count}" for name, count in _counted(each.first.strategy for each in best))
        yield Sentence(
            "shown",
            f"In {len(best)} of {len(tables.leads)} settings one strategy has the highest mean, above each other one: "
            f"{names}.",
        )
    if rest := len(tables.leads) - len(best):
        where = "" if len(tables.leads) == 1 else f" in {rest} of {len(tables.leads)} settings"
        yield Sentence(
            "not shown",
            f"Which strategy has the highest mean{where}: the leading one is not shown to be above each other one.",
        )


def _of_ranks(tables: Tables) -> Iterator[Sentence]:
    several = len(tables.rankings) > 1
    for each in tables.rankings:
        ranks = dict(zip(each.strategies, each.found.ranks.tolist(), strict=True))
        over = f"over {each.datasets} datasets{f' ({each.label})' if several else ''}"
        worse = {
            name: [other for other in ranks if ranks[other] - ranks[name] > each.found.difference]
            for name in sorted(ranks, key=lambda name: ranks[name])
        }
        for name, others in worse.items() if each.found.p_value < ALPHA else ():
            if others:
                beaten = ", ".join(f"{other} ({ranks[other]:.1f})" for other in others)
                yield Sentence(
                    "shown",
                    f"{name} has a better mean rank {over} ({ranks[name]:.1f}) than {beaten}: further apart than the "
                    f"critical difference of {each.found.difference:.1f}.",
                )
        if each.found.p_value >= ALPHA or not any(worse.values()):
            yield Sentence(
                "not shown",
                f"Which strategy has a better mean rank {over} than another one: Friedman's test has p = "
                f"{each.found.p_value:.2g}, and the critical difference is {each.found.difference:.1f}.",
            )


def _against(tables: Tables, aspect: _Aspect) -> Iterator[Sentence]:
    """What is shown of the mean, or of the spread, against the baseline."""
    for strategy, each in _by_strategy(tables.against_baseline):
        told: dict[str, list[Comparison]] = {}
        for one in each:
            told.setdefault(aspect.verdict(one), []).append(one)
        for verdict, verb in aspect.verbs.items():
            if held := told.get(verdict):
                text = f"{strategy} {verb.format(tables.baseline)} {_where(held, each)}: {aspect.figures(held)}."
                yield Sentence("shown", text)
        if left := told.get("not shown"):
            yield Sentence(
                "not shown",
                f"Whether {strategy} {aspect.question} than {tables.baseline} {_where(left, each)}: "
                f"{aspect.figures(left)}{_only_alone(map(aspect.excludes_equality, left))}.",
            )


def _limits(tables: Tables) -> Iterator[Sentence]:
    if tables.runs.texts != "test texts":
        yield Sentence(
            "limit",
            "Dev texts come from the training split: scores on them are for choosing, not results on test texts.",
        )
    pairs = [each.pairs for each in tables.against_baseline]
    if pairs and min(pairs) < LEAST_SEEDS:
        few = str(min(pairs)) if min(pairs) == max(pairs) else f"{min(pairs)} to {min(max(pairs), LEAST_SEEDS - 1)}"
        yield Sentence(
            "limit",
            f"{few} seeds support no claim about spread: at least {LEAST_SEEDS} are needed, so SDs are shown, not "
            "compared.",
        )
    if pairs and min(pairs) < LEAST_PAIRS:
        yield Sentence(
            "limit", f"Where fewer than {LEAST_PAIRS} seeds are paired, nothing is claimed of the mean either."
        )
    for seeds, blocks in sorted(
        {(each.pairs, each.blocks) for each in tables.against_baseline if each.pairs >= LEAST_SEEDS}
    ):
        tests = sum(each.pairs >= LEAST_SEEDS for each in tables.against_baseline)
        ratio = detectable_sd_ratio(seeds, blocks=blocks, alpha=ALPHA / tests)
        many = "" if tests == 1 else f", at the first step of Holm's method over {tests} comparisons"
        yield Sentence(
            "limit",
            f"{seeds} seeds detect an SD ratio of {ratio:.2f} (four times out of five, for normal scores that are not "
            f"correlated{many}): smaller ones are missed more often.",
        )
    if len(tables.runs.strategies) == 1:
        yield Sentence("limit", "There is one strategy: nothing to compare it with.")
    blocks = int(tables.results["blocks"].min())
    if blocks < 3:
        choices = "one choice of labels" if blocks == 1 else "two choices of labels"
        yield Sentence(
            "limit",
            f"All of it holds for {choices} (block{'s' * (blocks > 1)}): another choice may give other differences.",
        )
    datasets = tables.results["dataset"].nunique()
    few = f"; {datasets} dataset{'' if datasets == 1 else 's'} cannot carry a ranking over datasets"
    yield Sentence(
        "limit",
        f"No claim is made about datasets or models that did not run{few if datasets < LEAST_DATASETS else ''}.",
    )
    unequal = [
        setting for setting in tables.runs.settings if len({_seeds(each) for each in tables.runs.of(setting)}) > 1
    ]
    if unequal:
        names = "; ".join(setting.label for setting in unequal[:5]) + ("; and others" if len(unequal) > 5 else "")
        yield Sentence(
            "limit",
            f"The strategies do not have the same seeds on {names}: there, means, SDs, ranks and Pareto fronts are of "
            "unlike sets of runs. Comparisons are of the seeds that both have.",
        )
    yield from _failed(tables)
    if tables.runs.waiting:
        yield Sentence("limit", f"The study is not finished: {tables.runs.waiting} run{_s(tables.runs.waiting)} wait.")
    if any(not each.texts_vary for each in tables.against_baseline):
        yield Sentence(
            "limit",
            f"Where the runs of a block have different {tables.runs.texts}, or a text has several labels or a number, "
            f"intervals speak of other seeds only, not of other {tables.runs.texts}.",
        )


def _seeds(group: Group) -> frozenset[tuple[int, str]]:
    return frozenset((block.number, seed) for block in group.blocks for seed in block.seeds)


def _failed(tables: Tables) -> Iterator[Sentence]:
    lost = sum(len(group.failed) for group in tables.runs.groups)
    if lost:
        runs = "1 run gave no result and is" if lost == 1 else f"{lost} runs gave no result and are"
        yield Sentence("limit", f"{runs} missing from every mean and SD.")
    if empty := [group for group in tables.runs.groups if not group.blocks]:
        names = "; ".join(f"{group.strategy} on {group.setting.label}" for group in empty)
        yield Sentence("limit", f"Without any result: {names}.")
    if chance := int(tables.results["at_chance"].sum()):
        runs = "1 run is no better than the majority class and stays" if chance == 1 else ""
        runs = runs or f"{chance} runs are no better than the majority class and stay"
        yield Sentence("limit", f"{runs} in mean and SD.")


def _by_strategy(comparisons: Sequence[Comparison]) -> Iterator[tuple[str, list[Comparison]]]:
    for strategy in dict.fromkeys(each.first.strategy for each in comparisons):
        yield strategy, [each for each in comparisons if each.first.strategy == strategy]


def _where(some: Sequence[Comparison], all_of_it: Sequence[Comparison]) -> str:
    """On which settings: by name, or how many."""
    if len(some) == 1:
        return f"on {some[0].first.setting.label}"
    if len(some) == len(all_of_it):
        return "in both settings" if len(some) == 2 else f"in all {len(some)} settings"
    return f"in {len(some)} of {len(all_of_it)} settings"


def _difference(each: Comparison) -> str:
    return f"{100 * each.difference:.1f} points (95 % interval {100 * each.low:.1f} to {100 * each.high:.1f})"


def _differences(some: Sequence[Comparison]) -> str:
    if len(some) == 1:
        return f"a difference of {_difference(some[0])}"
    values = sorted(100 * each.difference for each in some)
    low, high = 100 * min(each.low for each in some), 100 * max(each.high for each in some)
    return f"differences of {values[0]:.1f} to {values[-1]:.1f} points (95 % intervals within {low:.1f} to {high:.1f})"


def _ratios(some: Sequence[Comparison]) -> str:
    found = [each.spread for each in some if each.spread is not None]
    if not found:
        return "an SD is 0, so there is no ratio"
    if len(found) == 1:
        ratio, low, high = (float(value) for value in found[0][:3])
        return f"a ratio of SDs of {ratio:.2f} (95 % interval {low:.2f} to {high:.2f})"
    values = sorted(float(each.ratio) for each in found)
    low, high = min(float(each.low) for each in found), max(float(each.high) for each in found)
    return f"ratios of SDs of {values[0]:.2f} to {values[-1]:.2f} (95 % intervals within {low:.2f} to {high:.2f})"


def _only_alone(excludes: Iterable[bool]) -> str:
    """How many intervals exclude equality where the claim is not made; `NOT_EQUAL` says why it is not."""
    count = sum(excludes)
    if not count:
        return ""
    return f" ({count} {'interval excludes' if count == 1 else 'intervals exclude'} equality alone)"


def _counted(names: Iterable[str]) -> list[tuple[str, int]]:
    each = list(names)
    return sorted(((name, each.count(name)) for name in dict.fromkeys(each)), key=lambda pair: -pair[1])


def _s(count: int) -> str:
    return "" if count == 1 else "s"


@dataclass(frozen=True)
class _Aspect:
    """The mean or the spread.

    Args:
        verdict: what is shown of it.
        verbs: each claim as it is told, with the baseline in place of the braces.
        question: what is open where nothing is shown.
        figures: with their intervals.
        excludes_equality: whether the interval does.
    """

    verdict: Callable[[Comparison], str]
    verbs: Mapping[str, str]
    question: str
    figures: Callable[[Sequence[Comparison]], str]
    excludes_equality: Callable[[Comparison], bool]


_MEAN = _Aspect(
    lambda each: each.of_mean,
    {
        "higher": "scored higher than {}",
        "lower": "scored lower than {}",
        "at least as good": f"is at least as good as {{}} (margin {100 * F1_MARGIN:g} F1)",
    },
    "scores higher or lower",
    _differences,
    lambda each: each.low > 0 or each.high < 0,
)
_SPREAD = _Aspect(
    lambda each: each.of_spread,
    {
        "more stable": "varied less than {}",
        "less stable": "varied more than {}",
        "at least as stable": f"is at least as stable as {{}} (margin {SD_MARGIN:g})",
    },
    "varies more or less",
    _ratios,
    lambda each: each.spread is not None and not each.spread.low <= 1 <= each.spread.high,
)
