"""Classes that a test registers, forgotten afterwards."""

from contextlib import contextmanager

from deni.strategies import STRATEGIES
from deni.tuning import TUNINGS


@contextmanager
def forgotten_afterwards():
    """Strategies and tunings that are registered inside are unknown outside."""
    known = [(registry, set(registry)) for registry in (STRATEGIES, TUNINGS)]
    try:
        yield
    finally:
        for registry, names in known:
            for name in set(registry) - names:
                registry.remove(name)
