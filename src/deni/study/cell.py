"""One point of a study's grid: its settings as the study names them, and its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from deni.randomness import SOURCES
from deni.settings import neutral_values, setting
from deni.tasks import DEFAULT

if TYPE_CHECKING:
    from deni.recipe import Recipe

BLOCK_SOURCES = ("data_split", "label_choice")  # a block fixes them, unless they are varied
OPTIMIZATION_SOURCES = tuple(name for name in SOURCES if name not in BLOCK_SOURCES)
MEASURES = ("test", "development")  # the part that a cell is measured on


@dataclass(frozen=True)
class NamedSettings:
    """A strategy or tuning by name, with the settings that are given."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fingerprints:
    """Digests of the files that a cell names, whose content may change under the same name.

    Args:
        data: of the texts and labels as read.
        model: of the files of the pre-trained model.
        augmented: of the file of augmented texts; empty where none is used.
    """

    data: str
    model: str
    augmented: str = ""


@dataclass(frozen=True)
class Cell:
    """One point of a study's grid: everything that decides a result, as the study names it.

    Args:
        dataset: `name` (a file, a dataset of `deni.data.DATASETS`, or `user/dataset` of the hub), and what else
            `deni.data.read_data` takes: columns, split, config_name, task; `augmented`, a file of augmented texts.
        model: `minilm`, a folder, or a hub id.
        tuning: name and settings.
        strategy: name, maybe of several with `+`, and settings; or the name of a baseline.
        labelled: training examples; None for all.
        seed: of the optimization sources (sample order, initialization, dropout, noise, augmentation).
        block: of the data sources (data split, label choice).
        sources: seeds of single sources in place of `seed` and `block`.
        test_size: texts of that part to measure on; None for all.
        protocol, preset: as in `deni train`.
        measure: the split to evaluate on: `test`, or `development`, a dev split of what the test split leaves.
        recipe: fields of `deni.recipe.Recipe` that are given.
        vary: which sources the seeds of the study vary; a label, the seeds themselves are above.
        factor: settings that the study varies on purpose; a label, the settings themselves are above.
        label: what reports call the strategy; empty for its name with the settings that are given.
    """

    dataset: Mapping[str, Any]
    model: str
    tuning: NamedSettings
    strategy: NamedSettings
    labelled: int | None
    seed: int
    block: int
    sources: Mapping[str, int] = field(default_factory=dict)
    test_size: int | None = None
    protocol: str | None = None
    preset: str | None = None
    measure: str = setting("test", neutral="test")
    recipe: Mapping[str, Any] = field(default_factory=dict)
    vary: str = "optimisation"
    factor: Mapping[str, Any] = field(default_factory=dict)
    label: str = setting("", neutral="")

    # ---- what it means ---------------------------------------------------------------------------------------------

    @property
    def seeds(self) -> dict[str, int]:
        """The seed of each source."""
        seeds = {name: self.block if name in BLOCK_SOURCES else self.seed for name in SOURCES}
        return {**seeds, **self.sources}

    @property
    def task(self) -> str:
        """The task, see `deni.tasks.TASKS`."""
        return str(self.dataset.get("task") or DEFAULT)

    def resolve(self) -> Recipe:
        """The recipe, with today's defaults for what is not given.

        Raises:
            SettingError: a name, setting or value that does not exist.
        """
        from deni.baselines import is_baseline, make_baseline
        from deni.recipe import Recipe

        settings = dict(self.strategy.settings)
        if self.dataset.get("augmented") is not None and _takes_augmented(self.strategy.name):
            settings.setdefault("augmented", self.dataset["augmented"])
        fields = {"bf16": False, **self.recipe}  # the same on every machine
        if self.dataset.get("task") is not None:
            fields["task"] = self.dataset["task"]
        strategy: Any = self.strategy.name
        if is_baseline(strategy):
            strategy, settings = make_baseline(strategy, **settings), {}
        return Recipe.of(
            self.preset or self.protocol,
            strategy,
            self.tuning.name,
            settings,
            dict(self.tuning.settings),
            data=self.dataset["name"],
            model=self.model,
            seed=self.seed,
            source_seeds=dict(self.sources),
            **fields,
        )

    # ---- as JSON ---------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `Cell.from_json` reads them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Cell:
        """The cell that `to_json` wrote."""
        named = {name: NamedSettings(**values[name]) for name in ("tuning", "strategy")}
        return cls(**{**neutral_values(cls), **values, **named})  # of fields that came later than it was written


def _takes_augmented(strategy: str) -> bool:
    from deni.strategies import has_setting

    return has_setting(strategy, "augmented")


@dataclass(frozen=True)
class CellResult:
    """The result of a trained cell.

    Args:
        log_probs: of every member for every text of the part that is measured on, `(N, M, C)`, kept as float32; log
            odds for several labels a text, numbers in regression, as `deni.load` has them. Of generated answers what
            the vote makes of the right one, `(N, 1, 3)`, see `deni.tasks.generation.Generation.summed`.
        gold: class numbers `(N,)`; 0 or 1 for each label `(N, C)`; numbers `(N,)` in regression; the right answers.
        text_ids: rows of these texts in the dataset as read, `(N,)`.
        labels: names of the C classes, in order.
        fingerprint: of the dataset, see `Fingerprints.data`.
        merged: predictions of the mean of the forked members as one model, `(N, C)`, as `log_probs`; None without a
            fork at the end.
        answers: the texts that the vote generates, `(N,)`; None for a model that labels texts.
        metrics: of the vote, see `deni.tasks.Task.scores`, and what other votes would score, see
            `deni.study.execution.other_votes`.
        cost: `member_steps`, `tokens`, `flops`, `seconds`, `peak_bytes`, as far as they are known.
        diagnostics: what the trainer reports about the run.
        environment: versions, device, threads, commit.

    Raises:
        ValueError: arrays whose shapes do not fit together, or that hold NaN.
    """

    log_probs: np.ndarray
    gold: np.ndarray
    text_ids: np.ndarray
    labels: tuple[str, ...]
    fingerprint: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    merged: np.ndarray | None = None
    answers: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_probs", np.asarray(self.log_probs, dtype=np.float32))
        object.__setattr__(self, "gold", np.asarray(self.gold))
        object.__setattr__(self, "text_ids", np.asarray(self.text_ids))
        object.__setattr__(self, "labels", tuple(self.labels))
        if self.merged is not None:
            object.__setattr__(self, "merged", np.asarray(self.merged, dtype=np.float32))
        if self.answers is not None:
            object.__setattr__(self, "answers", np.asarray(self.answers, dtype=np.str_))
        shape = self.log_probs.shape
        if len(shape) != 3 or shape[2] != len(self.labels):
            raise ValueError(f"log_probs must be (texts, members, {len(self.labels)} labels), not {shape}")
        if self.gold.shape[:1] != shape[:1] or self.text_ids.shape != shape[:1]:
            raise ValueError(
                f"{shape[0]} texts are predicted, but gold is {self.gold.shape} and text_ids {self.text_ids.shape}"
            )
        if self.merged is not None and self.merged.shape != (shape[0], shape[2]):
            raise ValueError(f"merged must be {(shape[0], shape[2])}, not {self.merged.shape}")
        if self.answers is not None and self.answers.shape != shape[:1]:
            raise ValueError(f"answers must be {shape[:1]}, not {self.answers.shape}")
        if np.isnan(self.log_probs).any():
            raise ValueError("log_probs hold NaN: such a run has failed")
