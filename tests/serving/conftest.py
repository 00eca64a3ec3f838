import functools
from pathlib import Path

import pytest

from deni import load

ARTIFACTS = Path(__file__).parents[1] / "artifact" / "format_1"


@pytest.fixture(scope="session")
def artifact():
    """A committed artifact by its name, loaded once."""
    return functools.cache(lambda name: load(ARTIFACTS / name))
