"""The effect of a fork: how far apart the members are, how much their loss jumped, and when it recovered."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from deni.strategies.forking import REMEDY

ALIKE = 0.01  # members that are closer than this, relative to their norm, are one model
SAME = 0.01  # total variation on other texts than they were trained on below which members are one model
JUMP = 0.25  # a jump above this part of the parent's loss counts as large
_COLUMNS = 2**16  # of a tensor at a time, so that they stay in the processor's cache
SETTLED = 5  # steps over which the excess of the copies' loss is averaged


@dataclass
class Measure:
    """How members of one model differ at a moment; means over the models of a pack.

    Args:
        disagreement: share of texts on which two members choose different classes, mean over pairs, from 0 to 1; of
            several labels, or labels of tokens, the share that differ; None for numbers.
        distance: L2 distance of two members' trainable parameters, relative to the norm of their mean; mean over pairs.
        parent_loss, copies_loss: mean loss of the parents, and of the copies, without dropout; None without labels.
        total_variation: half the sum of the differences of two members' probabilities for a text, from 0 to 1, mean
            over texts and pairs: how often two members would differ if each drew its class; None for numbers.
    """

    disagreement: float | None
    distance: float
    parent_loss: float | None = None
    copies_loss: float | None = None
    total_variation: float | None = None

    @property
    def jump(self) -> float | None:
        """How much higher the copies' loss is than their parent's."""
        return None if self.parent_loss is None or self.copies_loss is None else self.copies_loss - self.parent_loss


@dataclass
class Record:
    """One fork, or one ensemble, from its beginning to its end.

    Args:
        step: optimizer steps that were done before it.
        members: K, or how many runs vote.
        texts: how many texts were asked for the measures.
        kind: of which set they are, `training` or `evaluation`.
        start: just after the fork; None for independent runs.
        excess: the copies' mean training loss minus their parent's on the same batch, step by step.
        end: just before the merge or the vote.
        stop: optimizer steps that were done then.
        how: `merge` or `vote`.
        labels: whether a text has several labels, or one for each token, on each of which members agree or not.
    """

    step: int
    members: int
    texts: int
    kind: Literal["training", "evaluation"] = "training"
    start: Measure | None = None
    excess: list[float] = field(default_factory=list)
    end: Measure | None = None
    stop: int | None = None
    how: Literal["merge", "vote"] = "merge"
    labels: bool = False

    @property
    def recovered(self) -> int | None:
        """Steps until the copies' smoothed loss recovered to a quarter of the jump; None if it did not."""
        jump = self.start.jump if self.start else None
        if jump is None or jump <= 0.02 * abs(self.start.parent_loss or 0.0):  # type: ignore[union-attr]
            return 0
        for at in range(len(self.excess)):
            window = self.excess[max(0, at - SETTLED + 1) : at + 1]
            if sum(window) / len(window) <= jump / 4:
                return at + 1
        return None

    @property
    def alike(self) -> bool:
        """Whether the fork failed: at its end its members are one model, by what they predict of other texts.

        Where they were compared on training texts, which all of them may have learned by heart, or predict numbers:
        by their parameters.
        """
        end = self.end
        if self.start is None or end is None or end.disagreement:
            return False
        if self.kind == "training" or end.total_variation is None:
            return end.distance < ALIKE
        return end.total_variation < SAME

    @property
    def failure(self) -> str:
        """What failed, in a sentence without its end; empty where the fork did not fail."""
        if not self.alike:
            return ""
        assert self.end is not None
        apart = f"parameters {self.end.distance:.2%} apart"
        if self.end.total_variation is not None:
            apart = f"the same choice for {self._of()} texts, probabilities {self.end.total_variation:.2%}, {apart}"
        return (
            f"the fork after step {self.step} had no effect: its {self.members} members are one model when they "
            f"{self.how} ({apart})"
        )

    def warnings(self) -> Iterator[str]:
        """Warnings for the user."""
        what = f"the {self.members} members of the fork after step {self.step}"
        if self.end is not None and self.start is not None:
            if self.alike:
                yield f"{self.failure}: {REMEDY}"
            large = self.start.jump is not None and self.start.jump > JUMP * (self.start.parent_loss or 0.0)
            if large and self.recovered is None and (self.end.jump or 0.0) > self.start.jump / 2:  # type: ignore[operator]
                yield (
                    f"the loss of {what} jumped by {self.start.jump:.2f} and never came back: "
                    "the noise is too large or the fork too early, lower --variance or fork later"
                )

    def sentences(self) -> Iterator[str]:
        """The record in a few sentences."""
        if self.start is not None:
            copies = f"{self.members - 1} {'noisy ' * (self.start.distance > 0)}copies"
            yield f"Step {self.step}: one model became {self.members}, the parent and {copies}."
            if self.start.jump is not None:
                yield (
                    f"  The copies' loss was {self.start.copies_loss:.3f} where their parent's was "
                    f"{self.start.parent_loss:.3f} ({self.start.jump:+.3f}); {self._recovery()}."
                )
            yield f"  {_apart(self.start, self._of())}."
        else:
            yield f"{self.members} models were trained independently of each other."
        if self.end is not None:
            became = "they became one again, their mean" if self.how == "merge" else "they vote from here on"
            yield f"Step {self.stop}: {became}."
            yield f"  {_apart(self.end, self._of())}."

    def _of(self) -> str:
        return f"{'the labels of ' * self.labels}{self.texts} {self.kind}"

    def _recovery(self) -> str:
        if not self.excess:
            return "whether it came back was not followed"
        if self.recovered is None:
            return f"it did not come back within {len(self.excess)} steps"
        if self.recovered == 0:
            return "no jump"
        return f"it was back after {self.recovered} step{'s' * (self.recovered != 1)}"

    def summary(self) -> dict[str, Any]:
        """The record as JSON values for `deni.json`."""
        values = dataclasses.asdict(self)
        del values["excess"]
        jump = self.start.jump if self.start else None
        recovered = self.recovered if jump is not None else None
        return {**values, "loss_jump": jump, "recovered_after": recovered, "failed": self.alike}


@dataclass
class Diagnostics:
    """The records of a run, in order."""

    records: list[Record] = field(default_factory=list)

    @property
    def open(self) -> Record | None:
        """The fork whose members are alive."""
        return self.records[-1] if self.records and self.records[-1].end is None else None

    def state(self) -> list[dict[str, Any]]:
        """Everything as JSON values, for a checkpoint."""
        return [dataclasses.asdict(record) for record in self.records]

    @classmethod
    def of(cls, state: Sequence[Mapping[str, Any]]) -> Diagnostics:
        """The object whose `state` this is."""
        measured = [
            {**each, **{key: Measure(**each[key]) for key in ("start", "end") if each[key] is not None}}
            for each in state
        ]
        return cls([Record(**each) for each in measured])

    @property
    def failures(self) -> list[str]:
        """What failed, a sentence for each fork that did."""
        return [record.failure for record in self.records if record.failure]

    def story(self) -> str:
        """All records in a few sentences."""
        if not self.records:
            return "One model was trained from beginning to end: no members, nothing to compare."
        lines = [line for record in self.records for line in record.sentences()]
        warned = [f"Note: {text}." for record in self.records for text in record.warnings()]
        return "\n".join([*lines, *warned])


def _apart(measure: Measure, texts: str) -> str:
    parts = []
    if measure.disagreement is not None:
        parts.append(f"two of them disagreed on {measure.disagreement:.1%} of {texts} texts")
    parts.append(f"their parameters were {measure.distance:.2%} apart")
    sentence = ", and ".join(parts)
    return sentence[0].upper() + sentence[1:]


def disagreement(choices: Tensor) -> float:
    """Share of texts on which two members differ, mean over pairs.

    Args:
        choices: classes `(N, M)`, or labels `(N, M, C)`; two members or more.

    >>> round(disagreement(torch.tensor([[0, 0, 1], [2, 2, 2]])), 3)
    0.333
    """
    members = choices.shape[1]
    equal = (choices[:, :, None] == choices[:, None, :]).double().sum((1, 2)) - members
    return 1 - float(equal.mean()) / (members * (members - 1))


def total_variation(probabilities: Tensor) -> float:
    """Total variation distance of two members' distributions over classes, from 0 to 1; mean over texts and pairs.

    Args:
        probabilities: `(N, M, C)`, or `(N, M, C, 2)` of several labels; two members or more.

    >>> round(total_variation(torch.tensor([[[0.9, 0.1], [0.7, 0.3]], [[0.5, 0.5], [0.5, 0.5]]])), 3)
    0.1
    """
    first, second = torch.triu_indices(probabilities.shape[1], probabilities.shape[1], 1)
    return float((probabilities[:, first] - probabilities[:, second]).abs().sum(-1).mean()) / 2


@torch.no_grad()
def distance(values: Mapping[str, Tensor], members: range) -> float:
    """L2 distance of two members, relative to the norm of the members' mean; mean over pairs.

    Args:
        values: name -> `(M, *shape)`.
        members: which of them, two or more.

    >>> round(distance({"w": torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 5.0]])}, range(3)), 3)
    0.126
    """
    gram = torch.zeros(len(members), len(members), dtype=torch.float64)
    norm = 0.0
    for value in values.values():
        flat = value[members.start : members.stop].detach().reshape(len(members), -1)  # (K, P)
        for at in range(0, flat.shape[1], _COLUMNS):
            part = flat[:, at : at + _COLUMNS].float()
            mean = part.mean(0)
            away = part - mean
            gram += (away @ away.T).double().cpu()
            norm += float(mean @ mean)
    squares = gram.diagonal()[:, None] + gram.diagonal() - 2 * gram
    pairs = squares[tuple(torch.triu_indices(len(members), len(members), 1))].clamp(min=0).sqrt()
    return float(pairs.mean()) / math.sqrt(norm) if norm else 0.0
