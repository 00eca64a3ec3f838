"""An output layer that is fitted again when training has ended."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from deni.errors import SettingError
from deni.strategies.base import Outputs, Score, Strategy
from deni.strategies.linear_probe import LabeledRows, LinearProbe, OutputLayer
from deni.tasks import find_task

if TYPE_CHECKING:
    from deni.population import Population

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refit(Strategy, name="refit"):
    """Fit the output layer once more, in closed form, when training has ended (as SetFit does, Tunstall et al. 2022).

    The output layer of each member becomes the logistic regression (ridge regression for numbers) on what its
    fine-tuned encoder feeds into it for the labeled texts.

    Args:
        refit_c: inverse strength C of the regression's L2 penalty, finite and at least 0, on standardized features; 0
            leaves the output layer as it was trained. `cv`: chosen by stratified cross-validation, which tends to too
            large a C, for the encoder has seen the labels of all texts.
    """

    generates: ClassVar[bool] = False
    when: ClassVar[str] = (
        "When training ends before the output layer has caught up with the encoder: few epochs, or many classes."
    )

    finishes_last: ClassVar = True

    refit_c: float | Literal["cv"] = 0.003

    def __post_init__(self) -> None:
        if isinstance(self.refit_c, str):
            if self.refit_c != "cv":
                raise SettingError(f"refit_c must be a number or cv, not {self.refit_c!r}")
        elif not (self.refit_c >= 0 and math.isfinite(self.refit_c)):
            raise SettingError(f"refit_c must be finite and at least 0, or cv, not {self.refit_c}")

    @property
    def probe(self) -> LinearProbe:
        """The regression."""
        return LinearProbe(self.refit_c, "each")

    def start(self, population: Population, outputs: Outputs | None = None) -> None:
        """Try on the labels, without features, what is due at the end."""
        if not self.refit_c or outputs is None:
            return
        layer = OutputLayer.of(population, self.name)
        for run in range(population.runs):
            labels = list(outputs.labels(run))  # they may show the task
            task = find_task(layer.task)
            shapes = [each.shape if task.of_words else each.shape[:1] for each in labels]
            batches = [(each.new_zeros((*shape, 1)), each) for each, shape in zip(labels, shapes, strict=True)]
            rows = LabeledRows.of(batches, outputs.weights(run), task.distribution)
            layer.fitted(self.probe, rows, outputs.class_weights)

    def finish(self, population: Population, score: Score | None = None, outputs: Outputs | None = None) -> None:
        if not self.refit_c or outputs is None:
            return
        layer = OutputLayer.of(population, self.name)
        for run in range(population.runs):
            for member in range(population.members):
                at = run * population.members + member
                rows = layer.inputs(outputs, run, member)
                if np.isfinite(rows.features).all():
                    layer.put(slice(at, at + 1), layer.fitted(self.probe, rows, outputs.class_weights))
                else:  # its loss was not finite: it is frozen, and has no vote
                    logger.warning(
                        f"{self.name} leaves the output layer of member {at} as it is: its features are not finite"
                    )
