"""A classifier as modules of the package sentence-transformers: encoder, pooling, the layers of the head.

That package runs modules one after another: the encoder gives the states of tokens, `Pooling` makes one vector of them,
`Normalize` and `Dense` change it. With the output layer as the last `Dense`, what `encode` returns are the logits.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from deni.models.architectures import HEADS, for_tokens
from deni.models.hugging_face import accepted_inputs, hugging_face, logits_of
from deni.models.pairs import encodes_separately
from deni.models.pooling import OWN, Pooling, attach, detach, encoder_of, own_pooling, pooling_of

_PACKAGE = "sentence_transformers.models."  # every version of the package finds its modules by these names
_MODES = {"pooler": "cls_token", "cls": "cls_token", "mean": "mean_tokens", "last": "lasttoken"}
_OLDEST_MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")

# The layer on the vector in an encoder's pooler, and those of a head in front of its output layer: path in the model.
_POOLERS = {"bert": "pooler.dense", "albert": "pooler"}
_BETWEEN = {
    **dict.fromkeys(["roberta", "xlm-roberta", "camembert", "electra", "mpnet"], ("classifier.dense",)),
    **dict.fromkeys(["deberta", "deberta-v2"], ("pooler.dense",)),
    "distilbert": ("pre_classifier",),
    "modernbert": ("head.dense", "head.norm"),
}
# What follows such a layer: a name, or the key of the config that has it.
_FOLLOWED_BY = {
    **dict.fromkeys(["bert", "albert", "roberta", "xlm-roberta", "camembert", "mpnet"], "tanh"),
    "electra": "gelu",
    "distilbert": "relu",
    "deberta": "pooler_hidden_act",
    "deberta-v2": "pooler_hidden_act",
    "modernbert": "classifier_activation",
}
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
}
_EPS = 1e-5  # of the package's LayerNorm, which no file can change


@dataclass(frozen=True)
class EncoderModule:
    """A module behind the encoder.

    Args:
        kind: its class in the package.
        config: what its constructor takes.
        compute: what it makes of vectors; None for the pooling, which reads the states of tokens.
        tensors: its weights, by the names of the package.
    """

    kind: str
    config: dict[str, Any]
    compute: Callable[[Tensor], Tensor] | None = None
    tensors: dict[str, Tensor] = field(default_factory=dict)


def modules_of(model: nn.Module) -> list[EncoderModule]:
    """The modules behind the encoder of a model, the pooling first, the output layer last.

    Args:
        model: plain, for sequence classification, of which `_why_unknown` says nothing.
    """
    config: Any = model.config
    pooling, family = _pooling_of(model), config.model_type
    between, output = _between(model), model.get_submodule(HEADS[family])
    first: Any = (*between, output)[0]
    if pooling.kind == "pooler":
        first = encoder_of(model).get_submodule(_POOLERS[family])
    modules = [_pooling(pooling, first.in_features)]
    if pooling.kind == "pooler":
        modules.append(_dense(first, nn.Tanh()))
    if pooling.normalize:
        modules.append(EncoderModule("Normalize", {}, partial(F.normalize, dim=-1)))
    for layer in between:
        norm = isinstance(layer, nn.LayerNorm)
        modules.append(_layer_norm(layer) if norm else _dense(layer, _ACTIVATIONS[_activation(config)]()))
    return [*modules, _dense(output, nn.Identity())]


def why_no_modules(model: nn.Module, tokenizer: Any) -> str:
    """Why these modules cannot compute what a model does, and what to do; empty where they can.

    Args:
        model: plain, in evaluation mode.
        tokenizer: of the model.
    """
    package = "the modules of sentence-transformers"
    if encodes_separately(model):
        return f"pairs bi read u, v, |u - v| and u * v of two texts, {package} one text: use deni.load or deni predict"
    if for_tokens(model):
        return f"token classification has outputs for each token, {package} for a whole text: use --as single"
    config: Any = model.config
    family = config.model_type
    if family not in OWN:
        return f"pooling is not known for the architecture {family}: use --as single"
    instead = "use --as single" if pooling_of(model) is None else "use deni.load or deni predict"
    if pooling_of(model) is None and tokenizer.padding_side == "left" and _pooling_of(model).kind != "last":
        return f"the head of {family} reads padding on the left, {package} do not: {instead}"
    if family in _BETWEEN and _activation(config) not in _ACTIVATIONS:
        return f"the head of {family} has the activation {_activation(config)}, {package} do not: {instead}"
    if any(isinstance(layer, nn.LayerNorm) and layer.eps != _EPS for layer in _between(model)):
        return f"the norm in the head of {family} has not the eps {_EPS} that {package} have: {instead}"
    if not _computes_the_same(model, tokenizer):
        return f"{package} compute other outputs than {type(model).__name__}: {instead}"
    return ""


def _pooling_of(model: nn.Module) -> Pooling:
    config: Any = model.config
    return pooling_of(model) or Pooling(own_pooling(config) or "cls")


def _between(model: nn.Module) -> list[nn.Module]:
    """The layers between the vector and the output layer."""
    config: Any = model.config
    return [model.get_submodule(path) for path in _BETWEEN.get(config.model_type, ())]


def _activation(config: Any) -> str:
    """The name of what follows the layers in front of the output layer."""
    name = _FOLLOWED_BY[config.model_type]
    return str(getattr(config, name, name))


def _pooling(pooling: Pooling, width: int) -> EncoderModule:
    # In the spelling of earlier versions of the package, which later ones read, too.
    mode = _MODES[pooling.kind]
    modes = {f"pooling_mode_{name}": name == mode for name in dict.fromkeys([*_OLDEST_MODES, mode])}
    return EncoderModule("Pooling", {"word_embedding_dimension": width, **modes})


def _dense(layer: Any, activation: nn.Module) -> EncoderModule:
    tensors = {"linear.weight": layer.weight, **({} if layer.bias is None else {"linear.bias": layer.bias})}
    kind = type(activation)
    config = {
        "in_features": layer.in_features,
        "out_features": layer.out_features,
        "bias": layer.bias is not None,
        "activation_function": f"{kind.__module__}.{kind.__name__}",
    }
    weights = tensors.values()
    return EncoderModule("Dense", config, lambda vectors: activation(F.linear(vectors, *weights)), tensors)


def _layer_norm(norm: Any) -> EncoderModule:
    bias = torch.zeros_like(norm.weight) if norm.bias is None else norm.bias
    tensors = {"norm.weight": norm.weight, "norm.bias": bias}
    config = {"dimension": len(norm.weight)}
    compute = partial(F.layer_norm, normalized_shape=norm.weight.shape, weight=norm.weight, bias=bias, eps=_EPS)
    return EncoderModule("LayerNorm", config, compute, tensors)


@torch.no_grad()
def _computes_the_same(model: nn.Module, tokenizer: Any) -> bool:
    """Whether the modules compute the logits of the model, for three short rows of tokens."""
    ids = [at for at in range(min(200, len(tokenizer))) if at not in tokenizer.all_special_ids]
    rows, fill = [ids[:9], ids[9:14], ids[-3:]], tokenizer.pad_token_id or 0
    if tokenizer.padding_side == "left":
        padded = [[fill] * (9 - len(row)) + row for row in rows]
    else:
        padded = [row + [fill] * (9 - len(row)) for row in rows]
    tokens = torch.tensor(padded, device=next(model.parameters()).device)
    inputs = {"input_ids": tokens, "attention_mask": (tokens != fill).long()}
    expected, attached, kind = logits_of(model(**inputs)), pooling_of(model), _pooling_of(model).kind
    detach(model)
    states = encoder_of(model)(**inputs)[0]
    attach(model, attached)
    found = Pooling("cls" if kind == "pooler" else kind).pooled(states, inputs["attention_mask"])
    for module in modules_of(model)[1:]:
        assert module.compute is not None
        found = module.compute(found)
    limit = torch.finfo(expected.dtype).eps ** 0.5 * max(1.0, float(expected.abs().max()))
    return bool((found - expected).abs().max() <= limit)


def write_modules(model: nn.Module, tokenizer: Any, target: Path, max_length: int | None) -> None:
    """Write a folder that `SentenceTransformer(folder)` loads: JSON and safetensors.

    Args:
        model: plain, of which `why_no_modules` says nothing. The config of its encoder has the names of the labels.
        tokenizer: of the model.
        max_length: tokens after which a text is cut; None for as many as tokenizer and model allow.
    """
    encoder: Any = encoder_of(model)
    modules = modules_of(model)
    hugging_face(encoder).save_pretrained(target)
    _reading(tokenizer, accepted_inputs(encoder)).save_pretrained(target)
    settings: dict[str, Any] = {"do_lower_case": False}
    if "add_pooling_layer" in inspect.signature(type(encoder)).parameters and encoder.pooler is None:
        settings["model_args"] = {"add_pooling_layer": False}  # none is drawn at random
    if max_length is not None:
        settings["max_seq_length"] = max_length
    _write(target / "sentence_bert_config.json", settings)
    _write(target / "config_sentence_transformers.json", {"prompts": {}, "default_prompt_name": None})
    listed = [{"idx": 0, "name": "0", "path": "", "type": f"{_PACKAGE}Transformer"}]
    for at, module in enumerate(modules, 1):
        path = f"{at}_{module.kind}"
        listed.append({"idx": at, "name": str(at), "path": path, "type": f"{_PACKAGE}{module.kind}"})
        _write(target / path / "config.json", module.config)
        if module.tensors:
            tensors = {name: value.detach().cpu().contiguous() for name, value in module.tensors.items()}
            save_file(tensors, target / path / "model.safetensors", metadata={"format": "pt"})
    _write(target / "modules.json", listed)


def _reading(tokenizer: Any, accepted: frozenset[str] | None) -> Any:
    """The tokenizer, which makes no inputs that the encoder does not take: not every version leaves them out."""
    names = [name for name in tokenizer.model_input_names if accepted is None or name in accepted]
    if names == tokenizer.model_input_names:
        return tokenizer
    changed = copy.deepcopy(tokenizer)
    changed.model_input_names = changed.init_kwargs["model_input_names"] = names
    return changed


def _write(file: Path, value: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{json.dumps(value, indent=2, ensure_ascii=False)}\n", encoding="utf-8")
