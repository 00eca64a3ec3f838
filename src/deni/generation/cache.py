"""Keys and values of the members: a cache of transformers for each group that the engine computes together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from torch import LongTensor, Tensor
from transformers import Cache


class MemberCaches(Cache):
    """Stands for one cache in `generate`, which asks for its length, reorders its rows and cuts it.

    Args:
        caches: of each chunk of members, folded `(members of the chunk * B, heads, T, D)`.
        rows: the rows of a chunk's cache that follow from those of the batch that `generate` sees: number of the
            chunk, rows -> rows.
    """

    is_compileable = False
    is_croppable = True

    def __init__(self, caches: Sequence[Cache], rows: Callable[[int, Tensor], Tensor]) -> None:
        self.caches, self.rows = list(caches), rows

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.caches})"

    def __len__(self) -> int:
        """Layers of each member."""
        return len(self.caches[0])

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """T, the same for all members."""
        return self.caches[0].get_seq_length(layer_idx)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Each member goes on from the same beams."""
        for chunk, cache in enumerate(self.caches):
            cache.reorder_cache(cast("LongTensor", self.rows(chunk, beam_idx)))

    def crop(self, length: int) -> None:
        """Forget the last tokens of each member."""
        for cache in self.caches:
            cache.crop(length)

    def activate_past_recording(self) -> None:
        """Keep what a sliding window would forget, so that tokens can be taken back."""
        for cache in self.caches:
            cache.activate_past_recording()

    def reset(self) -> None:
        """Forget all tokens."""
        for cache in self.caches:
            cache.reset()
