"""What differs between architectures: which config key carries the head's dropout, which module is the head."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from deni.errors import SettingError
from deni.models.hugging_face import hugging_face

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig

# The key of the dropout in front of the output layer; one config has one of them.
HEAD_DROPOUT = ("classifier_dropout_prob", "classifier_dropout", "seq_classif_dropout", "cls_dropout")

# The same in front of the output layer for tokens; None where it is that of the whole encoder. Others: HEAD_DROPOUT.
TOKEN_HEAD_DROPOUT = {
    "albert": "classifier_dropout_prob",
    "distilbert": None,
    "deberta": None,
    "deberta-v2": None,
    "mpnet": None,
}

# Where looking the config up would mislead: DeBERTa reads a key that its config does not have until it is set; of
# GPT-NeoX only the head for tokens reads its key.
OWN_HEAD_DROPOUT = {"deberta": "cls_dropout", "deberta-v2": "cls_dropout", "gpt_neox": None}

# A parameter or module of an encoder layer, with the layer's number.
LAYER = re.compile(r"(?:^|\.)(?:layer|layers|h|block|blocks|albert_layer_groups)\.(\d+)(?:\.|$)")

HEAD_DROPOUT_RATE = 0.3  # arXiv 2406.12471

# The last linear layer, as a path in the model for sequence classification. Others: the last `nn.Linear`.
HEADS = {
    "bert": "classifier",
    "albert": "classifier",
    "distilbert": "classifier",
    "deberta": "classifier",
    "deberta-v2": "classifier",
    "modernbert": "classifier",
    "roberta": "classifier.out_proj",
    "xlm-roberta": "classifier.out_proj",
    "camembert": "classifier.out_proj",
    "electra": "classifier.out_proj",
    "mpnet": "classifier.out_proj",
    "gpt2": "score",
    "gpt_neox": "score",
    "opt": "score",
    "llama": "score",
    "mistral": "score",
    "gemma": "score",
    "qwen2": "score",
    "qwen3": "score",
}


def for_tokens(model: nn.Module) -> bool:
    """Whether a model has an output for each token (token classification), as transformers sees it."""
    return getattr(model, "loss_type", None) == "ForTokenClassification"


def generates(model: nn.Module) -> bool:
    """Whether texts can be generated with a model: a causal language model, or an encoder with a decoder."""
    return bool(getattr(model, "can_generate", lambda: False)())


def has_encoder(config: Any) -> bool:
    """Whether a language model is an encoder with a decoder; else it is a causal one."""
    return bool(getattr(config, "is_encoder_decoder", False))


def auto_class(tokens: bool, answers: bool = False, config: PretrainedConfig | None = None) -> Any:
    """The class of transformers that makes a model for texts, for their tokens, or one that generates answers.

    Args:
        config: of a model that generates: causal, or an encoder with a decoder.
    """
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
    )

    if answers:
        return AutoModelForSeq2SeqLM if has_encoder(config) else AutoModelForCausalLM
    return AutoModelForTokenClassification if tokens else AutoModelForSequenceClassification


def head_dropout_key(config: PretrainedConfig, tokens: bool = False) -> str | None:
    """The key of the dropout in front of the output layer; None for an architecture that has none.

    Args:
        tokens: of the model for token classification.
    """
    if tokens:
        return TOKEN_HEAD_DROPOUT.get(config.model_type, "classifier_dropout")
    if config.model_type in OWN_HEAD_DROPOUT:
        return OWN_HEAD_DROPOUT[config.model_type]
    return next((key for key in HEAD_DROPOUT if key in config.to_dict()), None)


def set_head_dropout(config: PretrainedConfig, rate: float, tokens: bool = False) -> None:
    """Set the dropout in front of the output layer, see `head_dropout_key`.

    Raises:
        SettingError: an architecture whose config has no such key.
    """
    key = head_dropout_key(config, tokens)
    if key is None:
        raise SettingError(f"{config.model_type} has no dropout in front of its output layer: omit --dropout")
    setattr(config, key, rate)


def has_adapter(model: nn.Module) -> bool:
    """Whether the base model is frozen under an adapter, of PEFT or of the package `adapters`."""
    return hasattr(model, "peft_config") or hasattr(model, "adapters_config")


def is_linear(module: nn.Module) -> bool:
    """Whether a layer is linear: `nn.Linear`, or the `Conv1D` of GPT-2, which has its weight transposed."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def has_linear(model: nn.Module) -> bool:
    """Whether a model has a layer that could be its head."""
    from torch import nn

    return any(isinstance(module, nn.Linear) for module in model.modules())


def head_names(model: nn.Module, trainable: list[str]) -> list[str]:
    """The trainable parameters of the head (the last linear layer), in the order of `trainable`.

    A PEFT model wraps its head (`classifier.modules_to_save.default`) and puts a prefix in front of every name.
    """
    config = getattr(model, "config", None)
    known = None if for_tokens(model) else HEADS.get(getattr(config, "model_type", ""))
    if known and not any(f".{known}." in f".{name}." for name, _ in model.named_modules()):
        known = None  # another head than that for sequences
    path = known or _last_linear(model)
    plain = path.replace(".modules_to_save.default", "")
    names = [name for name in trainable if f".{plain}." in f".{name.replace('.modules_to_save.default', '')}"]
    if names or known:
        return names
    # The weight of a language model's head is tied to the embeddings, and has their name.
    own = {id(parameter) for parameter in model.get_submodule(path).parameters()}
    tied = {name for name, parameter in model.named_parameters() if id(parameter) in own}
    return [name for name in trainable if name in tied]


def head_of(model: nn.Module) -> nn.Module:
    """The output layer (the last linear layer), or what PEFT has put around it.

    Raises:
        SettingError: a model that has no linear layer.
    """
    known = None if for_tokens(model) else HEADS.get(getattr(getattr(model, "config", None), "model_type", ""))
    for name, module in model.named_modules():
        if known and f".{name.replace('.modules_to_save.default', '')}".endswith(f".{known}"):
            return module  # the outermost comes first
    return model.get_submodule(_last_linear(model))


def _last_linear(model: nn.Module) -> str:
    from torch import nn

    linear = [name for name in _order(model) if isinstance(model.get_submodule(name), nn.Linear)]
    if not linear:
        raise SettingError(f"{type(model).__name__} has no linear layer that could be its head: use scope='trainable'")
    return linear[-1]


def _order(model: nn.Module) -> list[str]:
    """The paths of all modules, those of the encoder first: some classes define their head before it (XLM-R)."""
    prefix = getattr(model, "base_model_prefix", "")
    return sorted((name for name, _ in model.named_modules()), key=lambda name: f".{prefix}." not in f".{name}.")


def pooled_path(model: nn.Module) -> str:
    """What the pooled output goes into: the dropout after the last layer, or the head where there is none."""
    from torch import nn

    names = _order(model)
    last = max((at for at, name in enumerate(names) if LAYER.search(name)), default=-1)
    after = [name for name in names[last + 1 :] if isinstance(model.get_submodule(name), nn.Dropout)]
    return after[-1] if after else _last_linear(model)


def embeddings_path(model: nn.Module) -> str:
    """The word embeddings."""
    embeddings = hugging_face(model).get_input_embeddings()
    return next(name for name, module in model.named_modules() if module is embeddings)


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The encoder layers, from the lowest to the top one; layers that share parameters count once."""
    from torch import nn

    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    inner = {id(each) for other in lists for each in other.modules() if each is not other}
    return max((list(each) for each in lists if id(each) not in inner), key=len, default=[])


def pooler_of(model: nn.Module) -> nn.Module | None:
    """The layer between the top one and the head, where there is one."""
    return next((module for name, module in model.named_modules() if name.split(".")[-1] == "pooler" and module), None)
