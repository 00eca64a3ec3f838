"""Gated LoRA, prefix and bottleneck adapters together (Mao et al. 2022), through the package `adapters`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from deni.errors import InputError, SettingError, short
from deni.models.fresh import fresh_layers
from deni.tuning.base import Tuning

if TYPE_CHECKING:
    from torch import nn

NAME = "unipelt"  # of the adapter in the model


@dataclass(frozen=True)
class UniPELT(Tuning, name="unipelt", paper_row=4):
    """Train LoRA, a prefix and a bottleneck next to frozen weights, each behind a gate, and the output layer.

    A gate is the mean over all tokens of a text, padding included, as in Mao et al. (2022, arXiv 2110.07577). So all
    texts are padded to `max_length`, or a prediction would depend on the other texts of its batch.

    Args:
        unipelt_r: rank of LoRA, at least 1; 64 in the paper (arXiv 2406.12471).
        unipelt_prefix: length of the prefix in tokens, at least 1; 25 in the paper.
        unipelt_reduction: the hidden size divided by that of the bottleneck, at least 1; 16 in the paper.
    """

    generates: ClassVar[bool] = False
    when: ClassVar[str] = "To repeat the paper; it needs deni[unipelt] with transformers 4.57."

    separate_pairs: ClassVar[bool] = False
    learning_rate: ClassVar[float] = 1e-3
    paper_learning_rate: ClassVar[float] = 1e-4
    paper_learning_rates: ClassVar[Mapping[str, float]] = {"roberta": 2.5e-4, "albert": 6e-5}
    pads_fully: ClassVar[bool] = True

    unipelt_r: int = 64
    unipelt_prefix: int = 25
    unipelt_reduction: int = 16

    def __post_init__(self) -> None:
        for name, value in self.settings().items():
            if value < 1:
                raise SettingError(f"{name} must be at least 1, not {value}")

    def apply(self, model: nn.Module) -> nn.Module:
        adapters = package()
        fresh = fresh_layers(model)
        # With a gate, LoRA has no other scale: `alpha` would change nothing.
        config = adapters.ConfigUnion(
            adapters.LoRAConfig(r=self.unipelt_r, use_gating=True),
            adapters.PrefixTuningConfig(prefix_length=self.unipelt_prefix, use_gating=True),
            adapters.SeqBnConfig(reduction_factor=self.unipelt_reduction, use_gating=True),
        )
        dtype = next(model.parameters()).dtype
        try:
            with _quiet():
                adapters.init(model)
                model.add_adapter(NAME, config=config)  # type: ignore[operator]
        except ValueError as error:
            family = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
            raise InputError(f"adapters has no UniPELT for {short(family)}: use another model or tuning") from error
        _train(model, NAME)
        for path in fresh:
            model.get_submodule(path).requires_grad_(True)
        return model.to(dtype)


def adapted(model: nn.Module, settings: Mapping[str, Any]) -> nn.Module:
    """A model with the adapter that `adapters` describes so, with fresh values, in training.

    Args:
        settings: `model.adapters_config.to_dict()` of the model that it is to be like.
    """
    adapters = package()
    with _quiet():
        adapters.init(model, adapters.ModelAdaptersConfig(**settings))
    return _train(model, next(iter(settings["adapters"])))


def package() -> Any:
    """The package `adapters`.

    Raises:
        InputError: it is not there, or not together with the transformers that it needs.
    """
    import transformers

    here = transformers.__version__
    needs = "tuning unipelt needs the package adapters and transformers 4.57"
    extra = f'pip install "deni[unipelt]" (installed: transformers {here})'
    if not here.startswith("4.57."):
        raise InputError(f"{needs}: {extra}")
    try:
        import adapters
        from adapters.methods.lora import LoRA
    except ImportError as error:
        raise InputError(f"{needs}: {extra}") from error

    from deni.engine.layers import TWINS
    from deni.engine.stacked_lora import StackedLora

    TWINS[LoRA] = StackedLora
    return adapters


@contextmanager
def _quiet() -> Iterator[None]:
    """No warning that an adapter which is being made is not in use yet."""
    logger = logging.getLogger("adapters.model_mixin")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _train(model: nn.Module, name: str) -> nn.Module:
    """Freeze the base; the adapter and what is behind the base train."""
    from adapters.composition import Stack

    with _quiet():
        model.train_adapter(Stack(name))  # type: ignore[operator]
    return model
