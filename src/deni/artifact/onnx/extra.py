"""The packages of the extra `onnx`."""

from __future__ import annotations

from importlib.util import find_spec

from deni.errors import InputError


def check_packages(what: str, *names: str) -> None:
    """Raise InputError where one of these packages is not installed.

    Args:
        what: for which they are needed, as `--as onnx`.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        plural = "s" * (len(missing) > 1)
        raise InputError(f'{what} needs the package{plural} {", ".join(missing)}: pip install "deni[onnx]"')
