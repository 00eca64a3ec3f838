"""A model of pairs whose two texts are encoded separately, by one encoder (Sentence-BERT, arXiv 1908.10084).

The head of the class gives way to dropout and one linear layer, which reads u, v, |u - v| and u * v of the vectors u
and v of the two texts. The paper tried these parts for a softmax classifier; u * v helps where likeness decides.

Inputs are `(B, T, 2)`: the last axis is the side of the pair, see `deni.models.pair_rows`. The encoder computes one
side after the other, so each of its layers sees B rows a member.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal, get_args

from deni.errors import SettingError
from deni.models.architectures import HEADS, for_tokens, head_dropout_key
from deni.models.hugging_face import unwrapped
from deni.models.own_forward import OwnForward
from deni.models.pooling import OWN, encoder_of, pooling_of

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig
    from transformers.modeling_outputs import SequenceClassifierOutput

Pairs = Literal["cross", "bi"]
PAIRS: tuple[Pairs, ...] = get_args(Pairs)
PARTS = 4  # u, v, |u - v|, u * v


def check_architecture(config: PretrainedConfig) -> None:
    """Raise SettingError for an architecture whose texts cannot be encoded separately."""
    if config.model_type not in OWN:
        known = ", ".join(sorted(OWN))
        raise SettingError(
            f"pairs cannot be bi: pooling is not known for {config.model_type}: use cross, or one of {known}"
        )


def encode_separately(model: nn.Module) -> nn.Module:
    """The model with a new head that reads two vectors, whose weights come from the global generator.

    `deni.models.pooling.attach` must say how a vector is pooled, before the first forward pass.

    Args:
        model: for sequence classification, not yet wrapped by PEFT. It is changed.

    Raises:
        SettingError: a model of tokens, or of an architecture that is not known.
    """
    from torch import nn

    config: Any = model.config
    check_architecture(config)
    if for_tokens(model):
        raise SettingError("pairs cannot be bi in token classification: use cross")
    if hasattr(model, "peft_config") or hasattr(model, "adapters_config"):
        raise SettingError(
            "pairs bi replaces the output layer, which an adapter holds already: do it before the tuning"
        )
    encoder = encoder_of(model)
    for name, child in list(model.named_children()):
        if child is not encoder:
            delattr(model, name)
    width = getattr(config, "word_embed_proj_dim", config.hidden_size)  # OPT's states have another size inside
    like = next(encoder.parameters())
    head = nn.Linear(PARTS * width, config.num_labels, device=like.device, dtype=like.dtype)
    nn.init.normal_(head.weight, std=getattr(config, "initializer_range", 0.02))
    nn.init.zeros_(head.bias)
    model.dropout = nn.Dropout(_rate(config))
    setattr(model, HEADS[config.model_type].partition(".")[0], head)  # PEFT trains what is called so
    forward: Any = PairForward(model)
    model.forward = forward
    return model


def _rate(config: PretrainedConfig) -> float:
    """Of the dropout in front of the head."""
    rate = getattr(config, head_dropout_key(config) or "", None)
    return float(getattr(config, "hidden_dropout_prob", 0.0) if rate is None else rate)


def encodes_separately(model: nn.Module) -> bool:
    """Whether `encode_separately` has changed a model, also one that PEFT wraps."""
    return isinstance(vars(unwrapped(model)).get("forward"), PairForward)


def parts_of(u: Tensor, v: Tensor) -> Tensor:
    """What the head reads of two vectors `(B, D)`: `(B, 4D)`.

    >>> import torch
    >>> parts_of(torch.tensor([[1.0]]), torch.tensor([[3.0]]))
    tensor([[1., 3., 2., 3.]])
    """
    import torch

    return torch.cat([u, v, (u - v).abs(), u * v], -1)


class PairForward(OwnForward):
    """The forward pass of a model of pairs, in place of that of its class, whose arguments it takes."""

    def __call__(self, *args: Any, **kwargs: Any) -> SequenceClassifierOutput:
        from torch import Tensor
        from transformers.modeling_outputs import SequenceClassifierOutput

        given = inspect.signature(self).bind(*args, **kwargs).arguments
        labels = given.pop("labels", None)
        sides = {name: value for name, value in given.items() if isinstance(value, Tensor)}
        for name, value in sides.items():
            if value.dim() != 3 or value.shape[-1] != 2:
                raise SettingError(f"a model with pairs bi reads (texts, tokens, 2), not {name} {tuple(value.shape)}")
        model: Any = self.model
        u, v = (self._vectors({name: value[..., side] for name, value in sides.items()}) for side in (0, 1))
        logits = self.head(model.dropout(parts_of(u, v)))
        return SequenceClassifierOutput(loss=self._loss(logits, labels), logits=logits)

    @property
    def head(self) -> nn.Module:
        """The output layer."""
        model: Any = self.model
        return getattr(model, HEADS[model.config.model_type].partition(".")[0])

    def _vectors(self, inputs: dict[str, Tensor]) -> Tensor:
        """Of the texts of one side, `(B, D)`."""
        if pooling_of(self.model) is None:
            raise SettingError(
                "a model with pairs bi needs a pooling: deni.models.pooling.attach(model, Pooling('mean'))"
            )
        return encoder_of(self.model)(**inputs)[0][:, 0]  # the pooling has put the vector at each token

    def _loss(self, logits: Tensor, labels: Tensor | None) -> Tensor | None:
        if labels is None:
            return None
        from deni.tasks import task_of

        return task_of(self.model, labels).member_losses(logits, labels, 1, None)[0]
