"""Layer-wise learning-rate decay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from deni.errors import SettingError
from deni.strategies.base import Strategy

_EMBEDDINGS = re.compile(r"embed|(?:^|\.)wte\.|(?:^|\.)wpe\.")  # the latter two are GPT-2's


@dataclass(frozen=True)
class LLRD(Strategy, name="llrd"):
    """Lower layers learn more slowly, layer by layer (Zhang et al. 2021).

    The head, the pooler and the top layer have the peak rate, each layer below the rate of the one above times the
    decay, the embeddings that of the lowest layer times the decay.

    Args:
        layer_decay: learning rate of a layer as a part of that of the layer above it, in (0, 1]; 0.95 in Zhang et al.
    """

    when: ClassVar[str] = "With full tuning of a deep encoder on few texts."

    layer_decay: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise SettingError(f"layer_decay must be in (0, 1], not {self.layer_decay}")

    def rate_of(self, name: str, names: Mapping[str, Any]) -> float:
        """See `Strategy.rate_of`.

        >>> names = dict.fromkeys(["m.embeddings.w", "m.layer.0.w", "m.layer.1.w", "classifier.w"])
        >>> [LLRD(layer_decay=0.5).rate_of(name, names) for name in names]
        [0.25, 0.5, 1.0, 1.0]
        """
        from deni.models.architectures import LAYER

        depth = 1 + max((int(found[1]) for each in names if (found := LAYER.search(each))), default=-1)
        if found := LAYER.search(name):
            return self.layer_decay ** (depth - 1 - int(found[1]))
        return self.layer_decay**depth if _EMBEDDINGS.search(name) else 1.0
