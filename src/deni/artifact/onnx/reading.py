"""Read an exported ONNX graph as a classifier: its files are checked before anything computes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from deni.artifact import schema
from deni.artifact.classifier import Classifier
from deni.artifact.folder import GRAPH, GRAPH_DATA
from deni.artifact.onnx.extra import check_packages
from deni.artifact.onnx.writing import OUTPUTS
from deni.artifact.out_of_fold import OutOfFold, read_out_of_fold
from deni.artifact.scope import Scope
from deni.data import Text
from deni.errors import ArtifactError, InputError
from deni.models.reading import AGAIN, check_regular, told
from deni.provenance import digest_of_file
from deni.tasks import find_task

if TYPE_CHECKING:
    from deni.artifact.sets import Conformal

_DOMAINS = ("", "ai.onnx", "com.microsoft")  # of operations that onnxruntime brings along


class OnnxClassifier(Classifier):
    """An ONNX graph as a function of texts; arguments and calls as those of `Classifier`.

    Args:
        session: of onnxruntime.
        size: M, the members in the graph.
    """

    def __init__(
        self,
        session: Any,
        tokenizer: PreTrainedTokenizerBase,
        labels: Sequence[str],
        info: Mapping[str, Any],
        size: int,
        source: Path | None = None,
        calibrated: bool = True,
        out_of_fold: OutOfFold | None = None,
    ) -> None:
        self.session, self._members = session, size
        self.voters, self.labeled = None, None
        self._separately = info.get("pairs") == "bi"
        self._accepted = frozenset(info["onnx"]["inputs"])
        task = find_task(info["task"])
        self._begin(tokenizer, labels, info, task, False, source, calibrated, out_of_fold)

    def __getattr__(self, name: str) -> NoReturn:
        if name == "population":
            raise InputError(f"{self.source} is an ONNX graph, whose members cannot be taken out: use the artifact")
        raise AttributeError(name)

    @property
    def _size(self) -> int:
        return self._members

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float32

    def _evaluating(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _moved(self, batch: Any) -> dict[str, Any]:
        return {name: value for name, value in batch.items() if self._accepted is None or name in self._accepted}

    def _compute(self, batch: Any, rows: list[int], places: list[int] | None, result: Tensor) -> None:
        feed = {name: value.numpy().astype(np.int64) for name, value in self._moved(batch).items()}
        (found,) = self.session.run(["members"], feed)  # (B, M, C) or (B, M, T, C)
        own = torch.from_numpy(found).transpose(0, 1)
        if places is not None:
            own = own.flatten(1, 2)[:, places]
        result[rows] = own.transpose(0, 1)

    def features(self, texts: Sequence[Text], batch_size: int = 32) -> np.ndarray:
        """Raises InputError: a graph has outputs only."""
        raise InputError(f"{self.source} is an ONNX graph, which gives no vectors: use the artifact")

    def check_scope(self) -> Scope:
        """Raises InputError: a graph has outputs only."""
        raise InputError(f"{self.source} is an ONNX graph, which gives no vectors for scope: use the artifact")

    def conformal(self, level: float, labeled: OutOfFold | None = None) -> Conformal:
        """As of the artifact, with labeled texts; raises InputError without them."""
        if labeled is None:
            raise InputError(
                f"{self.source} is an ONNX graph without the models of the folds: give labeled texts that it has not "
                "learned with --calibration FILE"
            )
        return super().conformal(level, labeled)


def load_graph(
    folder: Path, info: dict[str, Any], tokenizer: PreTrainedTokenizerBase, calibrated: bool
) -> OnnxClassifier:
    """Load what `deni export --as onnx` wrote; onnxruntime computes it on CPU.

    Args:
        info: the content of `deni.json`, checked.

    Raises:
        InputError: the packages are not installed.
        ArtifactError: a file that is missing, was changed, or holds what the export does not write.
    """
    check_packages(f"{folder}: an ONNX graph", "onnx", "onnxruntime")
    files = [folder / name for name in info["onnx"]["sha256"]]
    if {file.name for file in files} - {GRAPH, GRAPH_DATA} or folder / GRAPH not in files:
        raise ArtifactError(f"{folder}: sha256 of onnx does not name {GRAPH}: {AGAIN}")
    for file in files:
        check_regular(file)
        if not file.is_file():
            raise ArtifactError(f"{file} is missing: {AGAIN}")
        schema.check_listed(info, file)
        if digest_of_file(file) != info["onnx"]["sha256"][file.name]:
            raise ArtifactError(f"{file} was changed since it was exported: export it again")
    size = info["runs"] * info["members"]
    _check_graph(folder / GRAPH, [file.name for file in files], info["onnx"]["inputs"], size, len(info["labels"]))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    with told(folder / GRAPH):
        session = onnxruntime.InferenceSession(folder / GRAPH, options, providers=["CPUExecutionProvider"])
    held = read_out_of_fold(folder)
    return OnnxClassifier(session, tokenizer, info["labels"], info, size, folder, calibrated, held)


def _check_graph(file: Path, there: Sequence[str], inputs: Sequence[str], size: int, classes: int) -> None:
    """Raise ArtifactError where a graph is not one that the export writes: before it is given to onnxruntime."""
    import onnx

    with told(file):
        model = onnx.load(file, load_external_data=False)
    used = {node.domain for node in model.graph.node} | {each.domain for each in model.opset_import}
    if foreign := used - {*_DOMAINS}:
        raise ArtifactError(f"{file} has operations of {min(foreign)}, which are not ONNX's: {AGAIN}")
    if len(model.functions) or any(each.type in (5, 10) for node in model.graph.node for each in node.attribute):
        raise ArtifactError(f"{file} has functions or graphs inside it, which the export does not write: {AGAIN}")
    named = {
        each.value for tensor in model.graph.initializer for each in tensor.external_data if each.key == "location"
    }
    if named - {*there} or any(node.op_type == "Constant" and _is_external(node) for node in model.graph.node):
        raise ArtifactError(f"{file} has its weights outside of the folder: {AGAIN}")
    if [each.name for each in model.graph.input] != list(inputs):
        raise ArtifactError(f"{file} has other inputs than deni.json says: {AGAIN}")
    shapes = {each.name: [dim.dim_value for dim in each.type.tensor_type.shape.dim] for each in model.graph.output}
    votes, members = (shapes.get(name, []) for name in OUTPUTS)
    if not votes or votes[-1] != classes or len(members) < 3 or (members[1], members[-1]) != (size, classes):
        raise ArtifactError(f"{file} has other outputs than {size} members and {classes} labels: {AGAIN}")


def _is_external(node: Any) -> bool:
    return any(len(each.t.external_data) for each in node.attribute)
