"""Noise on what the model computes from its input, every so often."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from deni.errors import SettingError
from deni.settings import check_choices
from deni.strategies.periodic import Periodic

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from deni.population import Population


@dataclass(frozen=True)
class InputNoise(Periodic, name="input_noise", paper_row=5):
    """Add noise to the pooled output, or to the embeddings, on some steps (arXiv 2406.12471).

    The gradient passes. The noise comes from the noise source of the run, so masks of dropout stay what they were.

    Args:
        variance: variance v of the normal noise, at least 0; 0.15 in the paper.
        noise_where: what gets the noise: `pooled`: what goes into the dropout in front of the output layer, as in the
            paper; `embeddings`: the word embeddings.
        neftune_alpha: size, above 0, of uniform noise in place of the normal one, alpha / sqrt(T * D) with T
            tokens of D features (NEFTune, Jain et al. 2023, who use 5 to 15); only on embeddings.
    """

    generates: ClassVar[bool] = False
    when: ClassVar[str] = "As a mitigation at the cost of one model that does not perturb weights."

    variance: float = 0.15
    noise_where: Literal["pooled", "embeddings"] = "pooled"
    neftune_alpha: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self)
        for name in ("variance", "neftune_alpha"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise SettingError(f"{name} must be finite and at least 0, not {getattr(self, name)}")
        if self.neftune_alpha and self.noise_where != "embeddings":
            raise SettingError("neftune_alpha is for noise on the embeddings: add noise_where='embeddings'")

    @contextmanager
    def training(self, population: Population, step: int, steps: int) -> Iterator[None]:
        if step not in self.due(steps) or not (self.variance or self.neftune_alpha):
            yield
            return
        from deni.models.architectures import embeddings_path, pooled_path

        model, waits = population.model, False

        def add_to_input(module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            nonlocal waits
            if waits:
                return inputs
            waits = dense is not None
            return (inputs[0] + self._noise(inputs[0], population), *inputs[1:])

        def pooled(*_: Any) -> None:
            nonlocal waits
            waits = False

        def add_to_output(module: Any, inputs: Any, output: Tensor) -> Tensor:
            return output + self._noise(output, population)

        if self.noise_where == "pooled":
            path = pooled_path(model)
            # RoBERTa's head calls one dropout in front of `dense`, which pools, and again behind it: only then noise.
            dense = getattr(model.get_submodule(path.rpartition(".")[0]), "dense", None)
            waits = dense is not None
            handles = [model.get_submodule(path).register_forward_pre_hook(add_to_input)]
            if dense is not None:
                handles.append(dense.register_forward_hook(pooled))
        else:
            handles = [model.get_submodule(embeddings_path(model)).register_forward_hook(add_to_output)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _noise(self, folded: Tensor, population: Population) -> Tensor:
        """Noise for the members in focus, each from its run's source: `(members * B, ...)`."""
        import torch
        from torch.nn import functional as F

        module = population.module
        rows = len(folded) // len(module.in_focus)
        tokens = module.lengths or [folded.shape[1]] * len(module.in_focus)
        parts = []
        for member, length in zip(module.in_focus, tokens, strict=True):
            shape = [rows, *folded.shape[1:]]
            if folded.dim() == 3:
                shape[1] = length  # of a pack: as many tokens as the run would have alone
            noise = self._draw(shape, population.sources[member // population.members]["noise"], folded.dtype)
            if folded.dim() == 3:
                missing = folded.shape[1] - length
                noise = F.pad(noise, (0, 0, missing, 0) if module.padding_side == "left" else (0, 0, 0, missing))
            parts.append(noise)
        return torch.cat(parts).to(folded.device)

    def _draw(self, shape: list[int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        import torch

        if self.neftune_alpha:
            uniform = torch.rand(shape, generator=generator, device=generator.device, dtype=dtype) * 2 - 1
            return uniform * (self.neftune_alpha / math.sqrt(shape[-1] * shape[-2]))
        return torch.randn(shape, generator=generator, device=generator.device, dtype=dtype) * self.variance**0.5
