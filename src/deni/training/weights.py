"""The files of a plain model, as Trainer writes and reads them: of models whose predictions have no vote."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedTokenizerBase
from transformers.utils import SAFE_WEIGHTS_NAME

from deni.errors import SettingError
from deni.models.quantized import is_quantized
from deni.population import Population, mean_of_members
from deni.strategies import Strategy


@torch.no_grad()
def one_model(population: Population, strategy: Strategy) -> nn.Module:
    """A copy of the one plain model that the members are as they predict now: their mean, where there are several.

    Raises:
        SettingError: independent runs.
    """
    if population.runs > 1:
        name = type(population.model).__name__
        raise SettingError(
            f"independent runs of {name}, whose predictions have no vote, are not one model: save each of "
            "trainer.members"
        )
    with strategy.predicting(population):
        return population.copy_of(population.full(mean_of_members(population.values))).eval()


def write(model: nn.Module, tokenizer: PreTrainedTokenizerBase | None, folder: str | Path) -> None:
    """Write weights, config and tokenizer; other files of the folder stay."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(folder)  # type: ignore[operator]
    else:
        state = {name: value.detach().clone().contiguous() for name, value in model.state_dict().items()}
        save_file(state, Path(folder) / SAFE_WEIGHTS_NAME, metadata={"format": "pt"})
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


@torch.no_grad()
def read_shared(population: Population, folder: str | Path) -> None:
    """Take what members share, such as running means, from a folder of `write` or an artifact; from others nothing."""
    from deni.artifact import BASE

    file = next((each for each in (Path(folder) / name for name in (BASE, SAFE_WEIGHTS_NAME)) if each.is_file()), None)
    if file is not None:
        state = load_file(file)
        with population.plain() as model:
            # Weights in 4 bits are frozen, and saved as the plain ones that they stand for.
            frozen = {name for name, value in model.named_parameters(remove_duplicate=False) if is_quantized(value)}
            model.load_state_dict(
                {name: state[name] for name in state.keys() - population.slots - frozen}, strict=False
            )
