"""Where the labeled texts of an artifact lie as feature vectors: what is far from them is out of scope."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save

from deni.artifact.extra_files import read_arrays
from deni.errors import ArtifactError, InputError, SettingError
from deni.measures.scope import fit_gaussian, mahalanobis, percentiles
from deni.models.reading import AGAIN

if TYPE_CHECKING:
    from deni.artifact.classifier import Classifier
    from deni.data import Text

logger = logging.getLogger(__name__)

FILE = "scope.safetensors"
MOST = 5000  # texts that are read; of more, so many at even distances
_AXES = {"mean": 1, "root": 2, "distances": 1}  # of its arrays


@dataclass(frozen=True, eq=False)
class Scope:
    """Where the labeled texts lie as vectors, see `deni.artifact.Classifier.features` and `deni.measures.Gaussian`.

    Args:
        mean: `(D,)`.
        root: of the inverse covariance, `(D, D)`.
        distances: of the labeled texts, each left out, `(N,)`.
    """

    mean: np.ndarray
    root: np.ndarray
    distances: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Scope:
        """Of the vectors `(N, D)` of labeled texts."""
        return cls(*(value.astype(np.float32) for value in fit_gaussian(features)))

    def percentiles(self, features: np.ndarray) -> np.ndarray:
        """How many of the labeled texts are nearer to the mean of the others than each of these, in percent `(B,)`."""
        return percentiles(self.distances, mahalanobis(self.mean, self.root, features))

    def as_bytes(self) -> bytes:
        """The content of `FILE`."""
        return save({name: np.ascontiguousarray(getattr(self, name)) for name in _AXES})


def scope_of(classifier: Classifier, texts: Sequence[Text]) -> Scope | None:
    """Where the labeled texts of a trained model lie; None where it has no vector for each, or all are alike."""
    if len(texts) < 2:
        return None
    rows = np.unique(np.linspace(0, len(texts) - 1, MOST).round().astype(int))
    try:
        features = classifier.features([texts[at] for at in rows])
    except (InputError, SettingError) as error:
        logger.debug("no scope: %s", error)
        return None
    known = np.isfinite(features).all() and np.ptp(features, axis=0).any()
    return Scope.of(features) if known else None


def read_scope(folder: str | Path) -> Scope | None:
    """Where the labeled texts of an artifact lie; None for one that does not know it.

    Raises:
        ArtifactError: they are missing although `deni.json` lists them, or damaged.
    """
    file = Path(folder) / FILE
    found = read_arrays(file)
    if found is None:
        return None
    tensors, _ = found
    if why := _why_wrong(tensors):
        raise ArtifactError(f"{file}: {why}: {AGAIN}")
    return Scope(*(tensors[name] for name in _AXES))


def _why_wrong(tensors: Mapping[str, np.ndarray]) -> str:
    """What does not fit; empty where all does."""
    for name, axes in _AXES.items():
        value = tensors.get(name)
        if value is None:
            return f"{name} is missing"
        if value.dtype.kind != "f" or value.ndim != axes or not value.size or not np.isfinite(value).all():
            return f"{name} is not an array of finite numbers with {axes} axes, but {value.dtype} {value.shape}"
    size, shape = len(tensors["mean"]), tensors["root"].shape
    return "" if shape == (size, size) else f"root is {shape} for a mean of {size} numbers"
