"""The sources of randomness, one generator each."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from typing import TYPE_CHECKING, Any

from deni.errors import SettingError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

SOURCES = ("data_split", "label_choice", "sample_order", "initialisation", "dropout", "noise", "augmentation")


def derive(seed: int, *path: str | int) -> int:
    """A seed for the place `path` below `seed`, in [0, 2**63): stable across versions and machines.

    >>> derive(0, "noise") == derive(0, "noise"), derive(0, "noise") == derive(0, "dropout")
    (True, False)
    """
    text = "/".join(["deni", str(int(seed)), *map(str, path)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class Sources:
    """The named sources of randomness of one run; each has its own seed and generator.

    Args:
        seed: what the seeds of all sources derive from.
        device: where the generators of dropout and noise live (a generator draws only on its own device).
        seeds: seeds of single sources, to vary one source and keep the others.

    Raises:
        SettingError: a name in `seeds` that is not a source, or a seed that is not an integer.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu", seeds: Mapping[str, int] | None = None) -> None:
        unknown = sorted(set(seeds or {}) - set(SOURCES))
        if unknown:
            raise SettingError(f"unknown source of randomness {unknown[0]!r}: {did_you_mean(str(unknown[0]), SOURCES)}")
        for name, source_seed in (seeds or {}).items():
            if not isinstance(source_seed, Integral):
                raise SettingError(f"the seed of {name} must be an integer, not {source_seed!r}")
        self.seed = int(seed)
        self.seeds = {name: derive((seeds or {}).get(name, seed), name) for name in SOURCES}
        self.device = device
        self._generators: dict[str, torch.Generator] = {}

    def __getitem__(self, name: str) -> torch.Generator:
        """The generator of a source; made at first use."""
        if name not in self._generators:
            device = self.device if name in ("dropout", "noise") else "cpu"
            self._generators[name] = generator(self.seeds[name], device)
        return self._generators[name]

    def numpy(self, name: str) -> np.random.Generator:
        """A fresh NumPy generator for a source: what it draws depends on the seed alone."""
        import numpy as np

        return np.random.default_rng(self.seeds[name])

    def derived(self, name: str, *path: str | int) -> torch.Generator:
        """A fresh generator for a place below a source (an epoch of the sample order, a copy of a member)."""
        device = self.device if name in ("dropout", "noise") else "cpu"
        return generator(derive(self.seeds[name], *path), device)

    def state_dict(self) -> dict[str, Tensor]:
        """The states of the generators that were used; values are uint8 tensors."""
        return {name: each.get_state() for name, each in self._generators.items()}

    def load_state_dict(self, states: Mapping[str, Tensor]) -> None:
        """Continue where `state_dict` was taken."""
        for name, state in states.items():
            self[name].set_state(state)


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator that starts at `seed`."""
    import torch

    return torch.Generator(device).manual_seed(seed)


@contextmanager
def global_generators(seed: int | None = None) -> Iterator[None]:
    """Leave the global generators of Python, NumPy and torch as they were found; inside, start them at `seed`.

    For other libraries' code that draws from the global generators: the initialization of a model, `Trainer`.
    """
    import numpy as np
    import torch

    states = _global_states()
    try:
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
        yield
    finally:
        _set_global_states(states)


class OwnGlobals:
    """States of the global generators that belong to one object, as if no other code drew from them.

    Trainer seeds the global generators when it is made, and whatever draws from them later (a collator that masks
    words, NEFTune, the model itself) goes on from there. So does ours, and the caller's are left as they were.

    >>> own = OwnGlobals()
    >>> with own.used():
    ...     random.seed(1)
    >>> with own.used():
    ...     drawn = random.random()
    >>> drawn == random.Random(1).random()
    True
    """

    def __init__(self) -> None:
        self._states: Any = None
        self._in_use = False

    @contextmanager
    def used(self) -> Iterator[None]:
        """Go on where the last use ended, the first where the caller is; inside another use nothing happens."""
        if self._in_use:
            yield
            return
        with global_generators():
            if self._states is not None:
                _set_global_states(self._states)
            self._in_use = True
            try:
                yield
            finally:
                self._in_use = False
                self._states = _global_states()


def _global_states() -> tuple[Any, ...]:
    """The states of the global generators of Python, NumPy and torch."""
    import numpy as np
    import torch

    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda


def _set_global_states(states: tuple[Any, ...]) -> None:
    import numpy as np
    import torch

    python, numpy, cpu, cuda = states
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if cuda is not None:
        torch.cuda.set_rng_state_all(cuda)
