"""What a frozen encoder makes of texts: one vector each, computed once and kept, see `deni.models.feature_cache`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deni.errors import InputError
from deni.models.devices import find_device
from deni.models.feature_cache import cached, enabled, key_of, state_of
from deni.models.hugging_face import accepted_inputs
from deni.models.loading import load_config, load_tokenizer, locate, quiet_loading
from deni.models.pooling import Name, Pooling, choose, declared_pooling
from deni.models.products import fast_products
from deni.models.reading import read_model
from deni.progress import ProgressBar
from deni.provenance import digest

_KEYS: dict[str, str | None] = {}  # digest of texts and of the files of an encoder -> key of the cache


@dataclass(frozen=True)
class FrozenEncoder:
    """A pre-trained encoder as a function of texts, without a head and without dropout.

    Args:
        model: `minilm`, a folder, or a hub id.
        pooling: `auto`: as the encoder's own files declare it, else the mean of the tokens; others as in
            `deni.models.pooling`.
        normalize: whether vectors are scaled to length 1, whatever the files declare.
        max_length: tokens after which a text is cut.
        batch_size: texts of a forward pass.
        device: see `deni.models.devices.find_device`.
    """

    model: str
    pooling: Name = "auto"
    normalize: bool = False
    max_length: int = 512
    batch_size: int = 64
    device: Any = field(default=None, compare=False)

    def __call__(self, texts: Sequence[str], progress: bool = False) -> np.ndarray:
        """The vectors of texts, `(N, D)`, float64; those of equal texts are kept.

        Raises:
            InputError: a vector that is not finite.
        """
        device = find_device(self.device)
        # Without the encoder in memory; the key itself is made of its weights.
        known = digest(
            [self._files(), repr(self), repr(self.pooled), str(device), torch.get_num_threads(), list(texts)]
        )
        if known not in _KEYS and enabled():
            batches = (tokens for _, tokens in self._batches(texts))
            _KEYS[known] = key_of(self._state, batches, self.pooled.to_json(), str(device))
        (vectors,) = cached(_KEYS.get(known), lambda: [self._compute(texts, device, progress)])
        return vectors.astype(float)

    def _files(self) -> list[Any]:
        """Which files the encoder has: where, how large, how old."""
        where = Path(locate(self.model))
        files = sorted(where.rglob("*")) if where.is_dir() else []
        return [str(where), *([str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files)]

    @cached_property
    def pooled(self) -> Pooling:
        """How the states of tokens become a vector."""
        config = load_config(self.model)
        declared = declared_pooling(locate(self.model)) if self.pooling == "auto" else None
        if declared is not None:
            return Pooling(declared.kind, declared.normalize or self.normalize)
        kind = "mean" if self.pooling == "auto" else self.pooling
        known = choose(kind, self.normalize, config, 0, self._tokenizer.padding_side) if kind != "mean" else None
        return known or Pooling("mean", self.normalize)

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.model)

    @cached_property
    def _encoder(self) -> Any:
        from transformers import AutoModel

        # A part that the files lack, such as a pooler, is drawn: not from the generators of whoever trains.
        with torch.random.fork_rng(devices=[]), quiet_loading():
            model = read_model(AutoModel, locate(self.model), load_config(self.model), dtype=torch.float32).eval()
        return model.get_encoder() if model.config.is_encoder_decoder else model

    @property
    def parameters(self) -> int:
        """How many the encoder has."""
        return sum(each.numel() for each in self._encoder.parameters())

    @cached_property
    def _state(self) -> str | None:
        return state_of(self._encoder)

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, Any]]:
        """Inputs of texts of like numbers of tokens, and which texts they are."""
        cut = self._tokenizer(list(texts), truncation=True, max_length=self.max_length)
        order = np.argsort([len(ids) for ids in cut["input_ids"]], kind="stable")  # little padding
        for start in range(0, len(texts), self.batch_size):
            rows = order[start : start + self.batch_size]
            batch = [texts[at] for at in rows]
            how = {"padding": True, "truncation": True, "max_length": self.max_length}
            yield rows, self._tokenizer(batch, return_tensors="pt", **how)

    @fast_products()
    @torch.inference_mode()
    def _compute(self, texts: Sequence[str], device: torch.device, progress: bool) -> np.ndarray:
        encoder, found, order = self._encoder.to(device), [], []
        accepted = accepted_inputs(encoder)
        shown = ProgressBar("frozen encoder", len(texts)) if progress else nullcontext()
        with shown as bar:
            for rows, batch in self._batches(texts):
                tokens = batch.to(device)
                given = {name: each for name, each in tokens.items() if accepted is None or name in accepted}
                found.append(self.pooled.vectors(encoder(**given), tokens["attention_mask"]).cpu().numpy())
                order.append(rows)
                if bar is not None:
                    bar.advance(len(rows))
        vectors = np.concatenate(found)[np.concatenate(order).argsort()]
        if not np.isfinite(vectors).all():
            raise InputError(
                f"the vectors of {self.model} are not all finite: its weights or its configuration are damaged, copy "
                "or download it again"
            )
        return vectors
