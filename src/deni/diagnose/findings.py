"""Results of a diagnosis: how unstable a fine-tuning is, why, and what would help."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deni.baselines import Baseline
from deni.data import Texts
from deni.diagnose.plan import Diagnosis
from deni.errors import InputError
from deni.measures import (
    LEAST_SEEDS,
    Block,
    Difference,
    Estimate,
    Importance,
    PairedSpread,
    configuration_sds,
    failed_runs,
    importance,
    macro_f1,
    majority_score,
    mean_difference,
    pairwise_disagreement,
    pitman_morgan,
    sd_interval,
    sd_permutation,
)
from deni.randomness import derive
from deni.study.cell import NamedSettings
from deni.study.execution.job import Job
from deni.study.store.database import Store
from deni.study.store.rows import Row
from deni.study.vote import voter

ALPHA = 0.05  # of all candidates together
_DIVERGED = "TrainingDivergedError"


@dataclass(frozen=True)
class Spread:
    """The spread of one strategy's runs.

    Args:
        scores: macro F1 of each seed, 0 to 1.
        sd: with its 95 % interval from the chi-square distribution.
        worst_seed: the seed of the lowest score.
        failed: seeds whose run is not better than the majority class.
        diverged: those of them with a non-finite loss; they count as the majority class.
        disagreement: share of the test texts on which two seeds differ.
        member_steps: of one run.
    """

    scores: tuple[float, ...]
    sd: Estimate
    worst_seed: int
    failed: tuple[int, ...]
    diverged: tuple[int, ...]
    disagreement: float
    member_steps: int

    @property
    def mean(self) -> float:
        """Of the scores."""
        return float(np.mean(self.scores))

    @property
    def worst(self) -> float:
        """The lowest score."""
        return min(self.scores)


@dataclass(frozen=True)
class SourceShare:
    """The share of one source.

    Args:
        importance: by the method of Pecher et al. 2024, see `deni.measures.importance`.
        alone: SD over the values in each configuration.
    """

    importance: Importance
    alone: tuple[float, ...]


@dataclass(frozen=True)
class Trial:
    """A candidate compared with the diagnosed strategy, under the same seeds.

    Args:
        strategy: the candidate.
        spread: of the candidate.
        plain: mean score of the diagnosed strategy under these seeds.
        gain: in the mean score, over seeds and test texts.
        ratio: SD of the candidate over SD of the diagnosed strategy; None where there is none.
        swapped: p-value of the ratio by swapping within pairs, which keeps its level with failed runs.
        confidence: of the intervals, so that all candidates together keep 95 %.
        failed_forks: in how many of its runs a fork had no effect.
    """

    strategy: NamedSettings
    spread: Spread
    plain: float
    gain: Difference
    ratio: PairedSpread | None
    swapped: float | None
    confidence: float
    failed_forks: int = 0

    @property
    def seeds(self) -> int:
        """How many."""
        return len(self.spread.scores)

    @property
    def better(self) -> bool:
        """Whether the mean is shown to be higher."""
        return self.gain.low > 0

    @property
    def steadier(self) -> bool:
        """Whether the SD is shown to be lower: enough seeds, and both tests say so."""
        tested = self.ratio is not None and self.swapped is not None and self.seeds >= LEAST_SEEDS
        return tested and bool(self.ratio.high < 1 and self.swapped <= 1 - self.confidence)  # type: ignore[union-attr,operator]


@dataclass(frozen=True)
class Rival:
    """A baseline on the same texts.

    Args:
        score: its macro F1, 0 to 1.
        gain: of the diagnosed strategy over it, over seeds and test texts.
        remark: what else there is to say, such as a price.
    """

    score: float
    gain: Difference
    remark: str = ""


@dataclass(frozen=True)
class Findings:
    """A finished diagnosis.

    Args:
        majority: score of always naming the most frequent class.
        spread: of the diagnosed strategy.
        golden: scores of runs that vary all sources.
        sources, trials, rivals, left_out: by name.
        cross_validation: the estimate from folds, see `deni.cross_validation.estimate`; None where none was asked for.
    """

    strategy: str
    train_texts: int
    test_texts: int
    majority: float
    spread: Spread
    golden: tuple[float, ...]
    sources: Mapping[str, SourceShare]
    trials: Mapping[str, Trial]
    rivals: Mapping[str, Rival]
    left_out: Mapping[str, str]
    cross_validation: Mapping[str, Any] | None = None

    @property
    def best(self) -> str | None:
        """The candidate of those shown to be better whose gain is largest; None where none is shown to be."""
        better = {name: trial.gain.value for name, trial in self.trials.items() if trial.better}
        return max(better, key=better.__getitem__) if better else None

    @property
    def recommended(self) -> NamedSettings | None:
        """The strategy of `best`."""
        return None if self.best is None else self.trials[self.best].strategy

    def to_json(self) -> dict[str, Any]:
        """As JSON values; scores from 0 to 1, NaN as null."""
        values = _plain(self)
        values["spread"] |= {"mean": self.spread.mean, "worst": self.spread.worst}
        for name, trial in self.trials.items():
            values["trials"][name] |= {"mean": trial.spread.mean, "better": trial.better, "steadier": trial.steadier}
        return {**values, "recommended": self.best, "seeds_for_a_claim_about_spread": LEAST_SEEDS}


def findings(diagnosis: Diagnosis, store: Store) -> Findings:
    """Compute the findings of a diagnosis from its store.

    Raises:
        InputError: cells that are missing or failed, or a non-finite loss in every one.
    """
    keys = {each.key for each in diagnosis.study.jobs}
    reading = _Reading(diagnosis, store, {row.key: row for row in store.results(None) if row.key in keys})
    reading.check()
    golden = tuple(reading.score(each) for each in diagnosis.golden)
    sources = {}
    for name, grid in diagnosis.sources.items():
        scores = np.array([[reading.score(each) for each in row] for row in grid])
        alone = tuple(map(float, configuration_sds(scores)))
        sources[name] = SourceShare(importance(scores, golden), alone)
    return Findings(
        strategy=diagnosis.question.cell.strategy.name,
        train_texts=len(diagnosis.train),
        test_texts=len(diagnosis.test),
        majority=majority_score(reading.gold),
        spread=reading.spread(diagnosis.seeds),
        golden=golden,
        sources=sources,
        trials=_trials(diagnosis, reading),
        rivals=_rivals(diagnosis, reading),
        left_out=diagnosis.left_out,
    )


def _trials(diagnosis: Diagnosis, reading: _Reading) -> dict[str, Trial]:
    trials: dict[str, Trial] = {}
    confidence = 1 - ALPHA / max(len(diagnosis.trials), 1)
    for name, cells in diagnosis.trials.items():
        generator = np.random.default_rng(derive(0, "diagnose", name))
        mine, plain = cells, diagnosis.seeds[: len(cells)]
        first, second = reading.predictions(mine), reading.predictions(plain)
        block = Block(first, second, reading.gold)
        gain = mean_difference([block], generator=generator, confidence=confidence)
        ones, others = macro_f1(first, reading.gold), macro_f1(second, reading.gold)
        tested = len(cells) >= 4 and np.ptp(ones) > 0 and np.ptp(others) > 0
        ratio = pitman_morgan(ones, others, confidence=confidence) if tested else None
        swapped = sd_permutation(ones, others, alternative="less", generator=generator) if tested else None
        trials[name] = Trial(
            strategy=cells[0].cell.strategy,
            spread=reading.spread(mine),
            plain=float(others.mean()),
            gain=gain,
            ratio=ratio,
            swapped=swapped,
            confidence=confidence,
            failed_forks=reading.failed_forks(mine),
        )
    return trials


def _rivals(diagnosis: Diagnosis, reading: _Reading) -> dict[str, Rival]:
    found = {}
    plain = reading.predictions(diagnosis.seeds)
    for name, job in diagnosis.rivals.items():
        rival = np.tile(reading.predictions([job]), (len(plain), 1))  # each seed meets the same predictions
        generator = np.random.default_rng(derive(0, "diagnose", name))
        gain = mean_difference([Block(plain, rival, reading.gold)], generator=generator)
        found[name] = Rival(reading.score(job), gain, reading.remark(job))
    return found


class _Reading:
    """The scores and predictions of a diagnosis.

    Args:
        rows: those of the store, by key.
    """

    def __init__(self, diagnosis: Diagnosis, store: Store, rows: Mapping[str, Row]) -> None:
        self._diagnosis, self._store, self._rows = diagnosis, store, rows

    def check(self) -> None:
        """Raise where something is missing."""
        path = self._store.path
        for each in self._diagnosis.study.jobs:
            row = self._rows.get(each.key)
            if row is None or row.status in ("waiting", "running"):
                raise InputError(f"{path}: the diagnosis is not finished: give the same command without --dry-run")
            if row.status == "failed" and _DIVERGED not in row.reason:
                raise InputError(f"{path}: a run failed: {row.reason}; `deni study retry {path}` lets it wait again")
        plain = [each for each in self._diagnosis.seeds if self._rows[each.key].status == "done"]
        if not plain:
            raise InputError("every seed ended with a non-finite loss: give a lower --learning-rate")
        self.gold = self._store.outputs(plain[0].key).gold  # of the block's test split

    def score(self, job: Job) -> float:
        """Macro F1 of a cell; that of the majority class where the loss was not finite."""
        row = self._rows[job.key]
        if row.status == "done":
            return float(row.metrics["macro_f1"])
        test = job.texts(self._diagnosis.study.library)[1]
        return majority_score(_numbered(test))

    def remark(self, job: Job) -> str:
        """What is said of a baseline beside its score."""
        baseline, row = job.recipe.strategy, self._rows[job.key]
        return baseline.remark(row.diagnostics) if isinstance(baseline, Baseline) and row.status == "done" else ""

    def predictions(self, jobs: Sequence[Job]) -> np.ndarray:
        """The votes of cells that share a test split, `(S, N)`."""
        return np.stack([self._voted(job) for job in jobs])

    def _voted(self, job: Job) -> np.ndarray:
        if self._rows[job.key].status != "done":
            return np.full(len(self.gold), np.bincount(self.gold).argmax())
        return voter(job.decides)(self._store.outputs(job.key).log_probs).argmax(-1)

    def failed_forks(self, jobs: Sequence[Job]) -> int:
        """In how many of these runs a fork had no effect."""
        forks = (self._rows[job.key].diagnostics.get("forks", []) for job in jobs)
        return sum(any(fork.get("failed") for fork in each) for each in forks)

    def spread(self, jobs: Sequence[Job]) -> Spread:
        """The spread of these seeds."""
        predictions = self.predictions(jobs)
        scores = macro_f1(predictions, self.gold)
        failed = np.flatnonzero(failed_runs(scores, chance=majority_score(self.gold)))
        return Spread(
            scores=tuple(map(float, scores)),
            sd=Estimate(*map(float, sd_interval(scores))),
            worst_seed=jobs[int(scores.argmin())].cell.seed,
            failed=tuple(jobs[at].cell.seed for at in failed.tolist()),
            diverged=tuple(job.cell.seed for job in jobs if self._rows[job.key].status != "done"),
            disagreement=pairwise_disagreement(predictions),
            member_steps=jobs[0].member_steps,
        )


def _numbered(texts: Texts) -> np.ndarray:
    assert texts.labels is not None
    return np.unique(list(texts.labels), return_inverse=True)[1]


def _plain(value: Any) -> Any:
    """Dataclasses, named tuples and arrays as JSON values."""
    if dataclasses.is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
