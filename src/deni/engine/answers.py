"""The log-likelihood of each label of a language model, without the logits of all tokens at once.

The last hidden states of the tokens that predict a label are gathered; the code of the model's class computes their
logits, a few tokens at a time, so that whatever it does with them (scaling, soft-capping, a bias) is done. In training
each part is computed again in the backward pass, where there are several: besides one part of the logits, nothing has
the size of the vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.utils import ModelOutput

from deni.engine.dropout import checkpoint_contexts
from deni.models.hugging_face import unwrapped
from deni.models.own_forward import OwnForward

ANSWERS = "answers"  # key of the labels whose log-likelihoods are asked for, in place of the model's own loss
PART = 2**25  # logits that are there at once, over all rows of all members: 128 MiB in float32
LIKELIHOOD, HIT, COUNTED = range(3)  # of each label: its log-likelihood, whether it is the likeliest, whether it counts


class AnswerForward(OwnForward):
    """The forward pass of a language model, which also takes `answers`; without them it is that of its class.

    With `answers`, labels `(B, T)` that are -100 where there is none, it returns as `logits` `(B, T, 3)`: of each label
    its log-likelihood, whether it is the likeliest token (in evaluation mode; else 0), and whether it counts. A causal
    model predicts the label of a token at the one before it, so nothing predicts the first one, which does not count.
    """

    def __call__(self, *args: Any, answers: Tensor | None = None, **kwargs: Any) -> Any:
        forward = partial(type(self.model).forward, self.model)
        if answers is None:
            return forward(*args, **kwargs)
        given = inspect.signature(self).bind(*args, **kwargs)
        inputs = given.arguments | given.arguments.pop("kwargs", {})
        inputs.pop("labels", None)
        return ModelOutput(logits=_answered(self.model, forward, inputs, answers))


def answer(model: nn.Module) -> None:
    """Have a causal or encoder-decoder language model take `answers`, see `AnswerForward`; also one that PEFT wraps."""
    base: Any = unwrapped(model)
    if not isinstance(vars(base).get("forward"), AnswerForward):
        base.forward = AnswerForward(base)


def _answered(model: Any, forward: Callable[..., Any], inputs: dict[str, Any], answers: Tensor) -> Tensor:
    causal, parameters = not model.config.is_encoder_decoder, inspect.signature(type(model).forward).parameters
    if not causal and inputs.get("decoder_input_ids") is None:
        inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels=answers)
    if "use_cache" in parameters:
        inputs["use_cache"] = False
    states, head = _states(model, forward, inputs)
    if causal:
        states = states[:, :-1]
    length = min(states.shape[1], answers.shape[1])  # virtual tokens of prompt tuning are in front
    states, labels = states[:, states.shape[1] - length :], answers[:, answers.shape[1] - length :]
    counted = labels != -100  # (B, T')
    most = max(int(counted.sum(1).max()), 1)
    places = (~counted).byte().argsort(dim=1, stable=True)[:, :most]  # of each row those that count come first
    labels = labels.gather(1, places)
    states = states.gather(1, places.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
    size = max(1, PART // (len(labels) * model.config.get_text_config(decoder=True).vocab_size))
    pairs = list(zip(states.split(size, 1), labels.split(size, 1), strict=True))
    score: Callable[..., Tensor] = partial(_score, head, not model.training)
    if len(pairs) > 1 and torch.is_grad_enabled():
        score = partial(checkpoint, score, use_reentrant=False, context_fn=checkpoint_contexts)
    scores = torch.cat([score(*pair) for pair in pairs], 1)  # (B, A, 3)
    spread = scores.new_zeros(*counted.shape, scores.shape[-1])
    spread = spread.scatter(1, places.unsqueeze(-1).expand_as(scores), scores)
    return F.pad(spread, [0, 0, answers.shape[1] - length, 0])


def _score(head: Callable[[Tensor], Tensor], hits: bool, states: Tensor, labels: Tensor) -> Tensor:
    """What `AnswerForward` returns of these labels, `(B, A, 3)`."""
    logits = head(states.contiguous())
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
    right = (logits.argmax(-1) == labels).to(losses) if hits else torch.zeros_like(losses)
    return torch.stack([-losses, right, (labels != -100).to(losses)], -1)


def _states(
    model: Any, forward: Callable[..., Any], inputs: dict[str, Any]
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The last hidden states `(B, T, D)`, and what makes logits of some tokens of them.

    A model whose logits do not come from the states of its body, token by token, has its logits as the states.
    """
    found = _Found(model)
    with found.shortening():
        outputs = forward(**{**inputs, "return_dict": True})
    if found.states is None or outputs.logits.shape[1] != 1:
        return forward(**inputs).logits, lambda logits: logits
    rest = {"encoder_outputs": (outputs.encoder_last_hidden_state,)} if model.config.is_encoder_decoder else {}

    def head(states: Tensor) -> Tensor:
        with _replaced(found.body, found.output(last_hidden_state=states)):
            return forward(**rest, return_dict=True).logits

    return found.states, head


class _Found:
    """The part of a model whose states its output layer reads: its base model, or its decoder where that is called."""

    def __init__(self, model: Any) -> None:
        base = getattr(model, model.base_model_prefix, None)
        self.base, self.decoder = base if isinstance(base, nn.Module) else None, model.get_decoder()
        self.body: Any = None
        self.states: Tensor | None = None
        self.output: Any = None
        self._inside = False

    @contextmanager
    def shortening(self) -> Iterator[None]:
        """Inside, what it returns is kept, and the output layer sees the first token alone."""
        hooks = []
        if self.base is not None:
            hooks.append(self.base.register_forward_pre_hook(self._enter))
            hooks.append(self.base.register_forward_hook(self._keep))
        if isinstance(self.decoder, nn.Module) and self.decoder is not self.base:
            hooks.append(self.decoder.register_forward_hook(self._keep))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, *_: Any) -> None:
        self._inside = True

    def _keep(self, module: nn.Module, _: Any, output: Any) -> Any:
        states = getattr(output, "last_hidden_state", None)
        if states is None or (self._inside and module is not self.base):
            return None
        self.body, self.states, self.output = module, states, type(output)
        kept = (
            {}
            if "encoder_last_hidden_state" not in output
            else {"encoder_last_hidden_state": output.encoder_last_hidden_state}
        )
        return type(output)(last_hidden_state=states[:, :1], **kept)


@contextmanager
def _replaced(module: Any, output: Any) -> Iterator[None]:
    """Inside, a module returns this and computes nothing."""
    own = vars(module).get("forward")
    module.forward = lambda *_, **__: output
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own
