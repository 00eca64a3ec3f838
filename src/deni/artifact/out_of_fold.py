"""Out-of-fold predictions in an artifact: what models that had not seen a text predict for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from deni.artifact.extra_files import arrays_in, read_arrays
from deni.data import Text, keys
from deni.errors import ArtifactError
from deni.models.reading import AGAIN, told

FILE = "out_of_fold.safetensors"
VOTE, MERGED, MEMBER = "vote", "merged", "member"
_OUTPUTS = "outputs."  # in front of the name of a predictor, in the file


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Predictions for each training text by models that had not seen it.

    Args:
        outputs: by predictor, `(S, N, C)` as `Classifier.votes` gives: log probabilities; log odds of several labels;
            numbers. `vote`: what the artifact predicts by; `merged`: what `export --as single` gives; `member`: the
            first member that predicts. The last two are absent where a run ends with one member.
        folds: `(S, N)`: the fold in which a text was left out, under each of S divisions.
        gold: N, as `deni.models.tokenizing.encode` gives it; of words one a word.
        digests: the SHA-256 of each text, to find it again in a file.
        labels: class names in the order of the outputs.
        texts: for token classification, where N counts words: the text of each word, `(N,)`; None where N counts texts.
    """

    outputs: Mapping[str, np.ndarray]
    folds: np.ndarray
    gold: list[Any]
    digests: list[str]
    labels: list[str]
    texts: np.ndarray | None = None


def digests_of(texts: Iterable[Text]) -> list[str]:
    """The SHA-256 of each text, as `OutOfFold.digests` has it.

    >>> digests_of(["where is my parcel"])[0][:12]
    '59abaaffaef4'
    """
    return [keys.digest(text) for text in texts]


def as_bytes(found: OutOfFold) -> bytes:
    """The content of `FILE`."""
    tensors = {f"{_OUTPUTS}{name}": np.asarray(values) for name, values in found.outputs.items()}
    digests = np.frombuffer(bytes.fromhex("".join(found.digests)), dtype=np.uint8).reshape(-1, 32)
    tensors |= {"folds": found.folds.astype(np.int64), "gold": np.asarray(found.gold), "digests": digests}
    if found.texts is not None:
        tensors["texts"] = found.texts.astype(np.int64)
    return save(
        {name: np.ascontiguousarray(value) for name, value in tensors.items()},
        metadata={"labels": json.dumps(found.labels)},
    )


def read_out_of_fold(folder: str | Path) -> OutOfFold | None:
    """The out-of-fold predictions of an artifact; None where it was trained without cross-validation.

    Raises:
        ArtifactError: they are missing although `deni.json` lists them, or damaged.
    """
    file = Path(folder) / FILE
    found = read_arrays(file)
    return None if found is None else _checked(file, *found)


def out_of_fold_in(file: Path) -> OutOfFold:
    """What `as_bytes` has made, in a separate file.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    return _checked(file, *arrays_in(file))


def _checked(file: Path, tensors: dict[str, np.ndarray], metadata: Mapping[str, str]) -> OutOfFold:
    with told(file):
        labels = json.loads(metadata.get("labels", "null"))
    if why := _why_wrong(tensors, labels):
        raise ArtifactError(f"{file}: {why}: {AGAIN}")
    return OutOfFold(
        outputs={name.removeprefix(_OUTPUTS): value for name, value in tensors.items() if name.startswith(_OUTPUTS)},
        folds=tensors["folds"],
        gold=tensors["gold"].tolist(),
        digests=[bytes(row).hex() for row in tensors["digests"]],
        labels=labels,
        texts=tensors.get("texts"),
    )


def _why_wrong(tensors: Mapping[str, np.ndarray], labels: Any) -> str | None:
    """What does not fit; None where all does."""
    if not (isinstance(labels, list) and labels and all(isinstance(each, str) for each in labels)):
        return "labels is not a list of at least one name"
    for name in (f"{_OUTPUTS}{VOTE}", "folds", "gold", "digests"):
        if name not in tensors:
            return f"{name} is missing"
    folds, digests, texts = tensors["folds"], tensors["digests"], tensors.get("texts")
    if folds.ndim != 2 or folds.dtype.kind not in "iu" or not folds.size or folds.min() < 0:
        return f"folds is not a table of whole numbers of at least 0, but {folds.dtype} {folds.shape}"
    shape = (*folds.shape, len(labels))
    for name, value in tensors.items():
        if not name.startswith(_OUTPUTS):
            continue
        if value.shape != shape or value.dtype.kind != "f":
            return f"{name} is {value.dtype} {value.shape} where numbers of shape {shape} were expected"
        if np.isnan(value).any():
            return f"{name} has a value that is NaN"
    if digests.ndim != 2 or digests.shape[1] != 32 or digests.dtype != np.uint8:
        return f"digests is {digests.dtype} {digests.shape} where 32 bytes a text were expected"
    if tensors["gold"].shape[:1] != shape[1:2]:
        return f"gold is of shape {tensors['gold'].shape} where {shape[1]} labels were expected"
    if texts is None:
        return None if len(digests) == shape[1] else f"digests has {len(digests)} texts where {shape[1]} were expected"
    whole = texts.shape == shape[1:2] and texts.dtype.kind in "iu"
    if not whole or not 0 <= texts.min() <= texts.max() < len(digests):
        return f"texts is not the text of each of {shape[1]} words, from 0 to {len(digests) - 1}"
    return None
