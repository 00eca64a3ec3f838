"""Read the files of an artifact that it can do without: arrays next to the weights of its model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import safe_open

from deni.artifact.schema import check_listed
from deni.errors import ArtifactError
from deni.models.reading import AGAIN, check_regular, read_json, told
from deni.outputs import INFO


def read_arrays(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str]] | None:
    """The arrays of a file of an artifact, by their names, and its metadata; None for an artifact without it.

    Raises:
        ArtifactError: it is missing although `deni.json` lists it, or damaged.
    """
    check_regular(file)
    info = read_json(file.parent / INFO)
    if not file.is_file():
        if file.name in (info.get("files") or {}):
            raise ArtifactError(f"{file} is missing: {AGAIN}")
        return None
    check_listed(info, file)
    return arrays_in(file)


def arrays_in(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a file, by their names, and its metadata.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    check_regular(file)
    if not file.is_file():
        raise ArtifactError(f"{file} is missing: {AGAIN}")
    with told(file), safe_open(file, framework="numpy") as opened:
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is no mapping)
        return arrays, opened.metadata() or {}
