"""Members under transformers' `generate`: they choose each token together, or each writes its own answer."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from functools import partial, update_wrapper
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import Cache, GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutputWithPast, Seq2SeqLMOutput

from deni.engine.module import PopulationModule, in_mode
from deni.errors import SettingError
from deni.generation.cache import MemberCaches
from deni.models.hugging_face import unwrapped
from deni.models.products import fast_products
from deni.population import Population

CACHES = (None, "dynamic", "dynamic_full")
ROWS = 8  # rows of a product, of all members, from which `fast_products` gains more than it costs to enter


class MembersGenerator(nn.Module, GenerationMixin):
    """What `generate` sees as one model: its config, its inputs, its way to prepare them are those of a member.

    Args:
        population: its members are causal language models, or encoder-decoder models.

    Raises:
        SettingError: members that cannot generate, or not together.
    """

    main_input_name = "input_ids"

    def __init__(self, population: Population) -> None:
        super().__init__()
        refuse(population.model)
        self.module = population.module
        self.training = self.module.training
        # `generate` reads from these signatures what the model takes, so they must be the member's own.
        vars(self).update(
            forward=update_wrapper(partial(self._compute), self.plain.forward),
            prepare_inputs_for_generation=self.plain.prepare_inputs_for_generation,
            _supports_default_dynamic_cache=self.plain._supports_default_dynamic_cache,
        )

    def __getattr__(self, name: str) -> Any:
        """What is asked of a model (`config`, `generation_config`, `device`, ...) a member answers."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(unwrapped(cast("PopulationModule", super().__getattr__("module")).model), name)

    @property
    def plain(self) -> Any:
        """The model of transformers, with whatever layers the engine has put into it."""
        return unwrapped(self.module.model)

    @property
    def members(self) -> int:
        """M, all members."""
        return self.module.size

    def generate(self, *args: Any, **options: Any) -> Any:
        """As `transformers.GenerationMixin.generate`, with dropout off."""
        with in_mode(self.module, training=False):
            return super().generate(*args, **options)

    # ---- rows of the batch that `generate` sees, and rows of the members ---------------------------------------------

    def _rows(self, chunk: range, rows: int) -> Tensor:
        """For each row of these members, member by member, which of the rows of the batch it is: `(m*B,)`."""
        raise NotImplementedError

    def _reordered(self, chunk: int, rows: Tensor) -> Tensor:
        """Indices into a chunk's cache, `(m * B,)`, for indices into the batch, `(B,)`."""
        raise NotImplementedError

    def _join(self, parts: Sequence[Tensor]) -> Tensor:
        """The logits of the batch, of the logits of each chunk `(m*B, T, V)`."""
        raise NotImplementedError

    def _join_hidden(self, parts: Sequence[Tensor]) -> Tensor:
        """What encoders return, of each chunk `(m*B, S, D)`, with the rows of the batch in front."""
        raise NotImplementedError

    def _split_hidden(self, hidden: Tensor, chunk: range) -> Tensor:
        """The reverse: `(m*B, S, D)`."""
        raise NotImplementedError

    # ---- computing ---------------------------------------------------------------------------------------------------

    def _compute(self, *args: Any, past_key_values: MemberCaches | None = None, **inputs: Any) -> Any:
        """The forward pass: `logits` of the batch, and `past_key_values`."""
        inputs.update(zip(list(_parameters(self.plain)), args, strict=False))
        if inputs.pop("labels", None) is not None:
            raise SettingError("labels: members that generate have no loss")
        encoded = inputs.pop("encoder_outputs", None)
        logits, caches = [], []
        for at, (chunk, values) in enumerate(self._each_chunk(inputs)):
            if encoded is not None:
                values["encoder_outputs"] = BaseModelOutput(last_hidden_state=self._split_hidden(encoded[0], chunk))
            cache = None if past_key_values is None else past_key_values.caches[at]
            outputs = self.plain(**{**values, "past_key_values": cache, "return_dict": True})
            logits.append(outputs.logits)
            caches.append(outputs.get("past_key_values"))
        kept = self._caches(caches) if isinstance(caches[0], Cache) else None
        output: Any = Seq2SeqLMOutput if self.config.is_encoder_decoder else CausalLMOutputWithPast
        return output(logits=self._join(logits), past_key_values=kept)

    def _each_chunk(self, inputs: Mapping[str, Any]) -> Any:
        """The members that are computed together, in focus, and their rows of the inputs."""
        names = ("decoder_input_ids", "input_ids", "inputs_embeds")
        batch, tokens = next(inputs[name].shape[:2] for name in names if inputs.get(name) is not None)
        before = self.module.in_focus
        try:
            for chunk in self.module.chunks:
                rows = self._rows(chunk, batch)
                self.module.focus(chunk)
                self.module.focus_rows(len(rows) // len(chunk))
                # What has one axis, such as positions of all rows, does not belong to rows.
                values = {
                    name: value[rows.to(value.device)]
                    if isinstance(value, Tensor) and value.dim() > 1 and len(value) == batch
                    else value
                    for name, value in inputs.items()
                }
                with fast_products() if len(rows) * tokens >= ROWS else nullcontext():
                    yield chunk, values
        finally:
            self.module.focus(before)
            self.module.focus_rows(0)

    def get_encoder(self, *args: Any, **options: Any) -> Any:
        """The encoders of the members as one."""
        return MemberEncoders(self, self.plain.get_encoder(*args, **options))

    # ---- what `generate` does with a cache ---------------------------------------------------------------------------

    def _caches(self, caches: Sequence[Cache]) -> MemberCaches:
        return MemberCaches(caches, self._reordered)

    def _prepare_cache_for_generation(self, generation_config: Any, model_kwargs: dict, *args: Any) -> Any:
        given = model_kwargs.get("past_key_values")
        if given is not None and not isinstance(given, MemberCaches):
            raise SettingError("past_key_values: not those that these members returned")
        if generation_config.cache_implementation not in CACHES:
            raise SettingError(
                f"cache_implementation={generation_config.cache_implementation!r}: members that generate have a "
                "dynamic cache each, so omit it"
            )
        super()._prepare_cache_for_generation(generation_config, model_kwargs, *args)
        made = model_kwargs.get("past_key_values")
        if made is not None and given is None:
            model_kwargs["past_key_values"] = self._caches([deepcopy(made) for _ in self.module.chunks])

    def _reorder_cache(self, past_key_values: MemberCaches, beam_idx: Tensor) -> MemberCaches:
        past_key_values.reorder_cache(beam_idx)
        return past_key_values

    def _prepare_generation_config(self, *args: Any, **options: Any) -> Any:
        config, rest = super()._prepare_generation_config(*args, **options)
        if config.output_attentions or config.output_hidden_states:
            raise SettingError("attentions and hidden states are those of one member: omit output_attentions")
        return config, rest


class VotingGenerator(MembersGenerator):
    """The members choose each token together: the mean of their next-token probabilities.

    The logits are the log of that mean, so that greedy search, sampling (temperature, top-k, top-p), beam search,
    logits processors, stopping criteria and streamers work on the vote. Each member has its own keys and values.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> from deni.randomness import Sources
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=1))
    >>> population = Population(model, [Sources(0)])
    >>> population.fork(2)
    >>> VotingGenerator(population).generate(torch.tensor([[3, 5]]), max_new_tokens=2, pad_token_id=0).shape
    torch.Size([1, 4])
    """

    def _rows(self, chunk: range, rows: int) -> Tensor:
        return torch.arange(rows).repeat(len(chunk))

    def _reordered(self, chunk: int, rows: Tensor) -> Tensor:
        members = torch.arange(len(self.module.chunks[chunk]), device=rows.device)
        return (members[:, None] * len(rows) + rows).flatten()

    def _join(self, parts: Sequence[Tensor]) -> Tensor:
        total = None
        for chunk, logits in zip(self.module.chunks, parts, strict=True):
            each = log_probabilities(logits).unflatten(0, (len(chunk), -1))  # (m, B, T, V)
            part = each.logsumexp(0)
            total = part if total is None else torch.logaddexp(total, part)
        assert total is not None
        return total - math.log(self.members)

    def _join_hidden(self, parts: Sequence[Tensor]) -> Tensor:
        each = [part.unflatten(0, (len(chunk), -1)) for chunk, part in zip(self.module.chunks, parts, strict=True)]
        return torch.cat(each).transpose(0, 1)  # (B, M, S, D): `generate` repeats rows of the batch

    def _split_hidden(self, hidden: Tensor, chunk: range) -> Tensor:
        return hidden[:, chunk.start : chunk.stop].transpose(0, 1).flatten(0, 1)  # (m*B, S, D)


class SeparateGenerator(MembersGenerator):
    """Each member writes its own answers, all of them in one batch.

    `generate` takes rows folded `(M*B, ...)`, member by member, and returns them so.
    """

    def _rows(self, chunk: range, rows: int) -> Tensor:
        batch = rows // self.members
        return torch.arange(chunk.start * batch, chunk.stop * batch)

    def _reordered(self, chunk: int, rows: Tensor) -> Tensor:
        own = self._rows(self.module.chunks[chunk], len(rows)).to(rows.device)
        return rows[own] - own[0]

    def _join(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts))

    def _join_hidden(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts))

    def _split_hidden(self, hidden: Tensor, chunk: range) -> Tensor:
        return hidden[self._rows(chunk, len(hidden)).to(hidden.device)]


class MemberEncoders:
    """The encoders of the members as the one that `generate` calls.

    Args:
        members: whose encoders they are.
        encoder: of one of them.
    """

    def __init__(self, members: MembersGenerator, encoder: Any) -> None:
        self.members, self.encoder = members, encoder
        self.main_input_name = encoder.main_input_name
        self.forward = update_wrapper(partial(self.__call__), encoder.forward)

    def __call__(self, **inputs: Any) -> BaseModelOutput:
        parts = [self.encoder(**values)[0] for _, values in self.members._each_chunk(inputs)]
        return BaseModelOutput(last_hidden_state=self.members._join_hidden(parts))


def log_probabilities(logits: Tensor) -> Tensor:
    """Log-softmax over the vocabulary, in float32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def refuse(model: nn.Module) -> None:
    """Raise SettingError for members that cannot generate, or not together."""
    plain: Any = unwrapped(model)
    name, generates = type(plain).__name__, isinstance(plain, GenerationMixin)
    if not generates:
        raise SettingError(f"{name} does not generate: use a causal language model or an encoder-decoder model")
    if plain._is_stateful or not plain._supports_default_dynamic_cache():
        raise SettingError(f"{name} keeps another state than keys and values: its members cannot vote on tokens")
    for config in getattr(model, "peft_config", {}).values():
        if config.is_prompt_learning:
            raise SettingError("prompt tuning: members with their own virtual tokens cannot generate; use lora")


def _parameters(model: nn.Module) -> Any:
    return inspect.signature(model.forward).parameters
