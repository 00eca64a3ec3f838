"""What differs between architectures: which config key carries the head's dropout, which module is the head."""

from __future__ import annotations

from torch import nn
from transformers import PretrainedConfig

# The key of the dropout in front of the output layer; one config has one of them.
HEAD_DROPOUT = ("classifier_dropout_prob", "classifier_dropout", "seq_classif_dropout", "cls_dropout")

HEAD_DROPOUT_RATE = 0.3  # arXiv 2406.12471, appendix

# The last linear layer, as a path in the model for sequence classification. Others: the last `nn.Linear`.
HEADS = {
    "bert": "classifier",
    "albert": "classifier",
    "distilbert": "classifier",
    "deberta-v2": "classifier",
    "modernbert": "classifier",
    "roberta": "classifier.out_proj",
    "xlm-roberta": "classifier.out_proj",
    "electra": "classifier.out_proj",
    "gpt2": "score",
    "llama": "score",
    "qwen2": "score",
    "qwen3": "score",
}


def set_head_dropout(config: PretrainedConfig, rate: float) -> None:
    """Set the dropout in front of the output layer.

    Raises:
        ValueError: an architecture whose config has no such key.
    """
    for key in HEAD_DROPOUT:
        if key in config.to_dict():
            setattr(config, key, rate)
            return
    raise ValueError(f"{config.model_type} has no dropout in front of its output layer: leave --dropout away")


def head_names(model: nn.Module, trainable: list[str]) -> list[str]:
    """The trainable parameters of the head (the last linear layer), in the order of `trainable`.

    A PEFT model wraps its head (`classifier.modules_to_save.default`) and puts a prefix in front of every name.
    """
    config = getattr(model, "config", None)
    path = HEADS.get(getattr(config, "model_type", ""), "") or _last_linear(model)
    return [name for name in trainable if f".{path}." in f".{name}"]


def _last_linear(model: nn.Module) -> str:
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(f"{type(model).__name__} has no linear layer that could be its head: use scope='trainable'")
    return linear[-1]
