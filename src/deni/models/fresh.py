"""Which layers of a model have no pre-trained weights."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from deni.models.architectures import LAYER

if TYPE_CHECKING:
    from torch import nn

# transformers 5 leaves it on each parameter that it found in the checkpoint; `mark` leaves it in 4, too.
_LOADED = "_is_hf_initialized"


def mark(model: nn.Module, missing: Collection[str]) -> None:
    """Note which parameters were not in the checkpoint that a model was loaded from.

    Args:
        missing: their names, as `from_pretrained(output_loading_info=True)` gives them.
    """
    for name, parameter in model.named_parameters():
        setattr(parameter, _LOADED, name not in missing)


def fresh_layers(model: nn.Module) -> list[str]:
    """The paths of layers outside of embeddings and encoder layers whose weights were not in the checkpoint.

    None for a model that was not loaded, or was copied since: nothing is known of it. Nor is it of one that
    transformers 4 loaded for somebody else than `deni.models.loading.load_model`.
    """
    loaded = {id(parameter) for parameter in model.parameters() if getattr(parameter, _LOADED, False)}
    if not loaded:
        return []
    return [
        path
        for path, module in outside_layers(model)
        if any(id(parameter) not in loaded for parameter in module.parameters(recurse=False))
    ]


def outside_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers with parameters of their own outside of embeddings and encoder layers: poolers, heads, last norms."""
    find = getattr(model, "get_input_embeddings", None)
    embeddings = find() if find else None
    return [
        (path, module)
        for path, module in model.named_modules()
        if path and module is not embeddings and not LAYER.search(path) and "embeddings" not in path
        if any(parameter.is_floating_point() for parameter in module.parameters(recurse=False))
    ]
