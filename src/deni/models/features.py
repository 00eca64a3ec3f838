"""What a frozen encoder makes of texts: one vector each, computed once a process and kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from deni.models.devices import find_device
from deni.models.hugging_face import accepted_inputs
from deni.models.loading import load_config, load_tokenizer, locate, quiet_loading
from deni.models.pooling import Name, Pooling, choose, declared_pooling
from deni.models.reading import read_model
from deni.progress import ProgressBar
from deni.provenance import digest

KEPT = 64  # arrays of features: of both sides of both parts of some datasets and encoders
_FEATURES: OrderedDict[str, np.ndarray] = OrderedDict()


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
        """The vectors of texts, `(N, D)`, float64; those of equal texts are kept from call to call."""
        device = find_device(self.device)
        key = digest([locate(self.model), repr(self.pooled), self.max_length, device.type, list(texts)])
        if key not in _FEATURES:
            _FEATURES[key] = self._compute(texts, device, progress)
        _FEATURES.move_to_end(key)
        while len(_FEATURES) > KEPT:
            _FEATURES.popitem(last=False)
        return _FEATURES[key]

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
            return read_model(AutoModel, locate(self.model), load_config(self.model), dtype=torch.float32).eval()

    @torch.inference_mode()
    def _compute(self, texts: Sequence[str], device: torch.device, progress: bool) -> np.ndarray:
        encoder, found = self._encoder.to(device), []
        cut = self._tokenizer(list(texts), truncation=True, max_length=self.max_length)
        order = np.argsort([len(ids) for ids in cut["input_ids"]], kind="stable")  # little padding
        shown = ProgressBar("frozen encoder", len(texts)) if progress else nullcontext()
        with shown as bar:
            for start in range(0, len(texts), self.batch_size):
                rows = [texts[at] for at in order[start : start + self.batch_size]]
                tokens = self._tokenizer(
                    rows, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
                ).to(device)
                accepted = accepted_inputs(encoder)
                given = {name: each for name, each in tokens.items() if accepted is None or name in accepted}
                outputs = encoder(**given)
                found.append(self.pooled.vectors(outputs, tokens["attention_mask"]).double().cpu().numpy())
                if bar is not None:
                    bar.advance(len(rows))
        vectors = np.concatenate(found)
        return vectors[order.argsort()]
