"""The shared weights of a graph in 8 bits: those of the base, never those of single members.

Dynamic quantization: activations are quantized while it computes, so no texts are needed. Each output of a layer has
its own scale. Per-member weights stay in float32: adapters are small, and one scale would have to serve all of them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

_LAYERS = ("MatMul", "Gemm")


def quantize(source: Path, target: Path, weights: Iterable[Tensor], external: bool) -> int:
    """Write a graph with these weights in 8 bits; returns in how many layers.

    Args:
        source: the graph in float32.
        target: the file to write; nothing where there is no such layer.
        weights: matrices of the base; others stay.
        external: whether the weights are in a second file.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    wanted = {digest for weight in weights for digest in _digests(weight.detach().float().numpy())}
    model = onnx.load(source)
    matrices = [each for each in model.graph.initializer if len(each.dims) == 2]
    names = {each.name for each in matrices if _digest(_array(each)) in wanted}
    names |= _transpose(model.graph, names)
    layers = [node.name for node in model.graph.node if node.op_type in _LAYERS and names.intersection(node.input[1:2])]
    if not layers:
        return 0
    with _quiet():
        quantize_dynamic(
            model,
            target,
            op_types_to_quantize=list(_LAYERS),
            # A Gemm becomes a MatMul of this name first.
            nodes_to_quantize=[*layers, *(f"{name}_MatMul" for name in layers)],
            per_channel=True,
            weight_type=QuantType.QUInt8,  # products of int8 by uint8 overflow on CPUs without VNNI, these do not
            use_external_data_format=external,
            extra_options={"MatMulConstBOnly": True},
        )
    return len(layers)


def _transpose(graph: Any, names: set[str]) -> set[str]:
    """Transpose these weights where a node would; the names of the new ones. Only a stored matrix can be quantized."""
    from onnx import numpy_helper

    weights = {each.name: each for each in graph.initializer if each.name in names}
    nodes = [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in names]
    for node in nodes:
        matrix = np.ascontiguousarray(_array(weights[node.input[0]]).T)
        graph.initializer.append(numpy_helper.from_array(matrix, node.output[0]))
        graph.node.remove(node)
    read = {name for node in graph.node for name in node.input}
    for name in {node.input[0] for node in nodes} - read:
        graph.initializer.remove(weights[name])
    return {node.output[0] for node in nodes}


def _array(initializer: Any) -> np.ndarray:
    from onnx import numpy_helper

    return numpy_helper.to_array(initializer)


def _digests(matrix: np.ndarray) -> tuple[str, str]:
    """Of a weight and of its transpose, which is what a graph multiplies by."""
    return _digest(matrix), _digest(matrix.T)


def _digest(matrix: np.ndarray) -> str:
    return f"{matrix.shape}{hashlib.sha256(np.ascontiguousarray(matrix).tobytes()).hexdigest()}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice to prepare the graph, which the exporter has done."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
