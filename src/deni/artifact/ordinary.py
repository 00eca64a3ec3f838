"""The weights of an artifact of one member, next to the artifact, in the files in which transformers has them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.utils import SAFE_WEIGHTS_NAME

from deni.artifact.folder import CARD
from deni.models.hugging_face import hugging_face
from deni.models.loading import quiet_loading


def write_ordinary(model: nn.Module, tensors: Mapping[str, Tensor], target: Path) -> None:
    """Write what `from_pretrained` reads: a model, or an adapter of PEFT; a plain module as its state dict.

    Nothing of a model of the package `adapters`, whose gates no other one has.

    Args:
        model: the plain module; its values are not those that are written.
        tensors: name -> all parameters and persistent buffers.
        target: a folder without other files.
    """
    if hasattr(model, "adapters_config"):
        return
    if not hasattr(model, "save_pretrained"):
        state = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        save_file(state, target / SAFE_WEIGHTS_NAME, metadata={"format": "pt"})
        return
    with quiet_loading(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Could not find a config file")  # PEFT, of a base model that has no name
        hugging_face(model).save_pretrained(target, state_dict=dict(tensors))
    (target / CARD).unlink(missing_ok=True)  # PEFT's
