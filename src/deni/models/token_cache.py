"""Tokens that trainings of the same texts share: a study tokenizes its texts once, not for each of its cells."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from deni.provenance import digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from deni.data import Texts

T = TypeVar("T")
MOST = 256 * 2**20  # bytes

_USED: ContextVar[TokenCache | None] = ContextVar("used", default=None)


class TokenCache:
    """The latest tokens of texts, in memory; it lives no longer than the files of its tokenizers stay as they are.

    Args:
        most: bytes; what was used longest ago is forgotten.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most, self.bytes = most, 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Inside, `kept` asks here first."""
        token = _USED.set(self)
        try:
            yield
        finally:
            _USED.reset(token)

    def get(self, key: Hashable, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """What is kept under a key; made where there is nothing."""
        if key in self._kept:
            self._kept.move_to_end(key)
            found: T = self._kept[key][0]
            return found
        made = make()
        self._kept[key] = made, size(made)
        self.bytes += size(made)
        while self.bytes > self.most:
            _, (_, freed) = self._kept.popitem(last=False)
            self.bytes -= freed
        return made


def kept(
    what: Hashable,
    texts: Texts,
    tokenizer: PreTrainedTokenizerBase,
    make: Callable[[], T],
    size: Callable[[T], int],
) -> T:
    """What is made of texts by a tokenizer; made once inside `TokenCache.used`, and each time elsewhere.

    What is kept is shared: nobody may change it. Soft labels and weights, which are of one training, are not kept.

    Args:
        what: all else that decides it.
        size: its bytes.
    """
    cache = _USED.get()
    if cache is None or texts.soft is not None or texts.weights is not None:
        return make()
    by = type(tokenizer).__name__, tokenizer.name_or_path, repr(sorted(tokenizer.init_kwargs.items())), len(tokenizer)
    of = digest([texts.task, list(texts.texts), list(texts.labels or ())])
    return cache.get((what, by, of), make, size)
