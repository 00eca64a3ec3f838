"""What an adaptation has done: losses on held-out texts, steps, texts, time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What an adaptation takes at most, estimated before it.

    Args:
        texts: that are trained on.
        steps: of the optimizer.
        seconds: all steps and evaluations, from a few steps that were timed.
        memory: bytes of this process, or of the GPU.
        device: where it is computed.
    """

    texts: int
    steps: int
    seconds: float
    memory: int
    device: str


@dataclass(frozen=True)
class Adaptation:
    """A finished adaptation, or one that was interrupted.

    Args:
        output: the folder; None where it was interrupted.
        objective: `mlm` or `simcse`.
        losses: step -> loss on the texts held out; 0 is before the first step. NaN where it was not a number.
        steps: that were trained.
        planned: the most steps that there would have been.
        texts: `read`, and how many of them were `left_out_empty`, `left_out_test`, `left_out_repeated`, `trained_on`,
            `held_out`.
        seconds: of the training, evaluations included; of the last command, where it was resumed.
        settings: of the training.
        checkpoint: the newest one, where it was interrupted.
    """

    output: Path | None
    objective: str
    losses: Mapping[int, float]
    steps: int
    planned: int
    texts: Mapping[str, int]
    seconds: float
    settings: Mapping[str, Any]
    checkpoint: Path | None = None

    @property
    def before(self) -> float:
        """The loss on held-out texts before the first step."""
        return self.losses[0]

    @property
    def best_step(self) -> int:
        """The step with the lowest loss, whose weights are written; 0: no later one was below it."""
        finite = {step: loss for step, loss in self.losses.items() if math.isfinite(loss)}
        return min(finite, key=lambda step: (finite[step], step), default=0)

    @property
    def after(self) -> float:
        """The lowest loss on held-out texts, that of the weights that are written."""
        return self.losses[self.best_step]

    @property
    def improved(self) -> bool:
        """Whether the held-out loss went below that of the model as it was."""
        return self.best_step > 0

    @property
    def stopped_early(self) -> bool:
        """Whether it ended before its last step, since the held-out loss no longer fell."""
        return self.output is not None and self.steps < self.planned

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "objective": self.objective,
            "steps": self.steps,
            "planned_steps": self.planned,
            "best_step": self.best_step,
            "held_out_loss": {"before": _number(self.before), "after": _number(self.after)},
            "held_out_losses": [[step, _number(loss)] for step, loss in self.losses.items()],
            "improved": self.improved,
            "texts": dict(self.texts),
            "settings": dict(self.settings),
            "seconds": round(self.seconds, 1),
        }


def lines_of(found: Adaptation, model: str) -> Sequence[str]:
    """What came of it, in sentences.

    Args:
        model: what was adapted.
    """
    if not found.improved:
        return [
            f"The loss on texts held out never fell below that of {model} ({found.before:.4g}) in {found.steps:,} "
            f"steps: the output has the weights of {model}, unchanged. What it learned from these texts did not help "
            "with others of them; more texts or a lower learning rate may."
        ]
    caution = (
        ["A lower contrastive loss is not a better classifier: a sentence encoder may get worse by it."]
        if found.objective == "simcse"
        else []
    )
    stopped = ", stopped early" if found.stopped_early else ""
    return [
        f"Loss on texts held out: {found.before:.4g} before, {found.after:.4g} after step {found.best_step:,} "
        f"(of {found.planned:,} at most, {found.steps:,} trained{stopped}; {found.objective}).",
        *caution,
    ]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
