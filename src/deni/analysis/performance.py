"""Performance of a trained population on its test split: score, errors, and the most uncertain texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from deni.finetune import Evaluation
from deni.measures import Calibration, Estimate
from deni.tasks import TASKS, Task
from deni.tasks.examining import UncertainText
from deni.tasks.metrics import called

FEW = 50  # test texts: with fewer a bootstrap's interval is too narrow


@dataclass(frozen=True)
class Performance:
    """Measures of a trained population on its test split.

    Args:
        task: see `deni.tasks.TASKS`.
        texts: how many.
        examples: what carries a label: texts, or words.
        score: the main metric with the interval of 95 % over other test texts.
        chance: metric -> what the vote gets, and what always the same answer would get.
        always: that answer.
        labels: class names.
        confusion: counts, gold x predicted `(C, C)`; None where a text has several labels or a number.
        per_label: `label`, `gold`, `predicted`, `f1`; empty in regression.
        calibration: of the vote, or None.
        reliability: `confidence`, `accuracy`, `share` in percent, and `count` of each bin.
        disagreement: share of the examples on which two members differ; their mean SD in regression; None for one.
        forked: whether the members come from one parent; False for independent runs.
        parent_differs: share on which the vote differs from the parent, which got no noise; None without one.
        member_scores: the main metric of each member alone, `(M,)`.
        uncertain: the most uncertain texts.
        points: `gold` and `predicted` of regression.
    """

    task: str
    texts: int
    examples: str
    score: Estimate
    chance: Mapping[str, tuple[float, float]]
    always: str
    labels: Sequence[str]
    confusion: np.ndarray | None = None
    per_label: pd.DataFrame = field(default_factory=pd.DataFrame)
    calibration: Calibration | None = None
    reliability: pd.DataFrame = field(default_factory=pd.DataFrame)
    disagreement: float | None = None
    forked: bool = False
    parent_differs: float | None = None
    member_scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    uncertain: Sequence[UncertainText] = ()
    points: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def kind(self) -> Task:
        """The task itself."""
        return TASKS[self.task]

    @property
    def name(self) -> str:
        """What the main metric is called."""
        return called(self.kind.headline)

    @property
    def confused(self) -> list[tuple[str, str, int]]:
        """Gold, predicted and how often, of all errors, the most frequent first."""
        if self.confusion is None:
            return []
        errors = self.confusion * (1 - np.eye(len(self.confusion), dtype=int))
        order = np.argsort(-errors, axis=None, kind="stable")[: np.count_nonzero(errors)]
        places = zip(*np.unravel_index(order, errors.shape), strict=True)
        return [(self.labels[gold], self.labels[predicted], int(errors[gold, predicted])) for gold, predicted in places]


def measure_performance(
    task: str, labels: Sequence[str], evaluation: Evaluation, parent: bool, generator: np.random.Generator
) -> tuple[Performance | None, dict[str, str]]:
    """Measure the predictions of the test split.

    Args:
        parent: whether the first member is the parent of the others.
        generator: draws the texts again, for the interval.

    Returns:
        the measures, and why some are missing: part -> sentence.
    """
    if not (np.isfinite(evaluation.members).all() and not np.isnan(evaluation.votes).any()):
        return None, {
            "test": "A member's outputs are not finite (its training failed), so the test split cannot be evaluated."
        }
    kind = TASKS[task]
    found, missing = kind.examine(evaluation, labels, generator)
    members = evaluation.members.shape[1]
    if members == 1:
        missing["members"] = "One model predicts, so there are no members that could disagree."
    else:
        each = [kind.scores(evaluation.gold, evaluation.members[:, at], labels)[kind.headline] for at in range(members)]
        found["member_scores"] = np.array(each)
        found["disagreement"] = kind.disagreement(evaluation.members)
        found["forked"] = parent
        found["parent_differs"] = kind.differs(evaluation.members[:, 0], evaluation.votes) if parent else None
    return Performance(task=task, texts=len(evaluation.texts), examples=kind.examples, labels=labels, **found), missing
