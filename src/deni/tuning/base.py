"""What a tuning is: a frozen dataclass that says which parameters train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from deni.deprecation import Renamed
from deni.registry import Registry

if TYPE_CHECKING:
    from peft import TaskType
    from torch import nn

TUNINGS: Registry[Tuning] = Registry("tuning", "deni.tuning")


@dataclass(frozen=True)
class Tuning:
    """Which parameters of a model train. The fields of a subclass are its settings and command-line flags.

    A name registers it: `class Full(Tuning, name="full")`.
    """

    name: ClassVar[str]
    when: ClassVar[str] = ""  # when to take it, in a sentence, for `deni tunings`
    renamed: ClassVar[Mapping[str, Renamed]] = {}  # old names of settings, see `deni.deprecation`
    learning_rate: ClassVar[float]  # the default, chosen in benchmarks/learning_rates.py where it is in its results
    paper_learning_rate: ClassVar[float]  # arXiv 2406.12471
    paper_learning_rates: ClassVar[Mapping[str, float]] = {}  # of families (`model_type`) where it is another
    generates: ClassVar[bool] = True  # whether it is for language models that generate, too
    adapter: ClassVar[bool] = True  # whether it trains what it adds to the model, and not the model
    separate_pairs: ClassVar[bool] = True  # whether the two texts of a pair can be encoded one by one
    by_run: ClassVar[tuple[str, ...]] = ()  # settings that each run of a training may have of its own
    pads_fully: ClassVar[bool] = False  # to `max_length`, where padding changes what is computed for a text

    def __init_subclass__(cls, name: str | None = None, paper_row: int | None = None, **options: Any) -> None:
        """Register a class that has a name.

        Args:
            name: what it is called on the command line and in studies; without one it is not registered.
            paper_row: its place among the tunings of arXiv 2406.12471, and so in listings.

        Raises:
            SettingError: another tuning has the name.
        """
        super().__init_subclass__(**options)
        if name is not None:
            cls.name = name
            TUNINGS.add(name, cls, paper_row)

    @classmethod
    def paper_rate(cls, family: str) -> float:
        """The paper's learning rate for models of this family.

        >>> from deni.tuning import Lora
        >>> Lora.paper_rate("bert"), Lora.paper_rate("roberta")
        (0.0001, 1e-05)
        """
        return cls.paper_learning_rates.get(family, cls.paper_learning_rate)

    def apply(self, model: nn.Module) -> nn.Module:
        """The model with the right parameters trainable; the module given may be changed.

        Layers without pre-trained weights train, whatever else is frozen: see `deni.models.fresh.fresh_layers`.
        """
        raise NotImplementedError

    @property
    def virtual_tokens(self) -> int:
        """Tokens that it puts in front of each text."""
        return 0

    def settings(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return dataclasses.asdict(self)


def task_type(model: nn.Module) -> TaskType:
    """What PEFT calls the task of a model; with it the output layer of a model that labels texts trains, too."""
    from peft import TaskType

    from deni.models.architectures import for_tokens, generates, has_encoder

    if generates(model):
        return TaskType.SEQ_2_SEQ_LM if has_encoder(model.config) else TaskType.CAUSAL_LM

    return TaskType.TOKEN_CLS if for_tokens(model) else TaskType.SEQ_CLS


def fan_in_fan_out(model: nn.Module) -> bool:
    """Whether linear layers store their weights as `(in, out)`, which PEFT must be told: those of GPT-2 do."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def modules_to_save(model: nn.Module) -> list[str] | None:
    """The layers without pre-trained weights, for PEFT to train; without those that it trains anyway for a task."""
    from deni.models.fresh import fresh_layers

    by_task = ("classifier", "score")  # any layer whose path ends so, with what is in it
    fresh = [path for path in fresh_layers(model) if not any(part.endswith(by_task) for part in path.split("."))]
    return fresh or None
