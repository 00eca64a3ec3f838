"""Whether what a server needs is installed."""

from __future__ import annotations

from importlib.util import find_spec

from deni.errors import InputError

PACKAGES = ("fastapi", "uvicorn", "prometheus_client")  # of the extra `serve`


def check_extra() -> None:
    """Raise InputError where a package of the extra is missing."""
    for name in PACKAGES:
        if find_spec(name) is None:
            raise InputError(f'deni serve needs the package {name}: pip install "deni[serve]"')
