"""An encoder that learns which texts are of one class, and an output layer that is fitted to it in the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deni.errors import SettingError
from deni.strategies.base import Outputs, Passes, Setup, Strategy
from deni.strategies.linear_probe import LinearProbe, OutputLayer
from deni.strategies.multi_dropout import with_logits
from deni.strategies.refit import Refit
from deni.strategies.soup import Soup
from deni.tasks import find_task

if TYPE_CHECKING:
    from torch import Tensor

    from deni.population import Population

UNFITTED = "the output layer is fitted when training has ended, so nothing can be compared on dev texts before"
REMEDY = "take a contrastive_weight below 1"


@dataclass(frozen=True)
class Contrastive(Refit, name="contrastive"):
    """Pull texts of one class together, then fit the output layer (SetFit, Tunstall et al. 2022).

    The loss is the supervised contrastive loss (Khosla et al. 2020) of what the encoder feeds into the output layer,
    over the texts of a batch. When training has ended, the output layer becomes the regression of `refit`.

    Args:
        contrastive_weight: part of the contrastive loss in the loss of a step, from 0 to 1; the rest is the loss of the
            task, as Gunel et al. 2021 mix both. At 1 the output layer does not train.
        contrastive_temperature: what cosine similarities are divided by, above 0; the smaller it is, the more the most
            similar texts count.
    """

    when: ClassVar[str] = (
        "When a class has about 8 labeled texts, and there are several classes: far above the frozen encoder on trec "
        "and ag_news, above auto on trec."
    )

    contrastive_weight: float = 1.0
    contrastive_temperature: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.contrastive_weight <= 1:
            raise SettingError(f"contrastive_weight must be from 0 to 1, not {self.contrastive_weight}")
        if not (self.contrastive_temperature > 0 and math.isfinite(self.contrastive_temperature)):
            raise SettingError(
                f"contrastive_temperature must be finite and above 0, not {self.contrastive_temperature}"
            )

        if self.contrastive_weight == 1 and not self.refit_c:
            raise SettingError(f"refit_c 0 leaves the output layer untrained: give another, or {REMEDY}")

    def conflicts_with(self, other: Strategy) -> str:
        if self.contrastive_weight == 1 and isinstance(other, LinearProbe):
            return f"nothing is left of the output layer that it fits first: {REMEDY}"
        if self.contrastive_weight == 1 and isinstance(other, Soup) and other.ingredients == "greedy":
            return f"{UNFITTED}: {REMEDY}"
        return ""

    def prepare(self, setup: Setup) -> Setup:
        if self.contrastive_weight == 1 and setup.args.load_best_model_at_end:
            raise SettingError(f"{self.name} keeps no best epoch: {UNFITTED}: omit the dev texts, or {REMEDY}")
        return setup

    def start(self, population: Population, outputs: Outputs | None = None) -> None:
        if self.contrastive_weight:
            task = find_task(OutputLayer.of(population, self.name).task)
            if not task.one_class:
                raise SettingError(f"{self.name} needs one class a text, which the task {task.name} does not have")
        super().start(population, outputs)

    def losses(self, population: Population, passes: Passes) -> Tensor:
        if not self.contrastive_weight:
            return super().losses(population, passes)
        from deni.models.feature_cache import passes_its_input

        name = OutputLayer.of(population, self.name).weight
        layer = population.model.get_submodule(name.rpartition(".")[0])
        hook = layer.register_forward_hook(passes_its_input)
        try:
            outputs = passes()
        finally:
            hook.remove()
        features = passes.logits(outputs)
        contrast = passes.contrast(features, self.contrastive_temperature)
        if self.contrastive_weight == 1:
            return contrast
        rest = passes.loss(with_logits(outputs, layer.forward(features)))
        return self.contrastive_weight * contrast + (1 - self.contrastive_weight) * rest
