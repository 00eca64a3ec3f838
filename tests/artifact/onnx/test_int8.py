"""Only what the members share is quantized."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import deni
from deni.artifact.onnx.int8 import quantize
from deni.artifact.onnx.writing import source_of
from tests.helpers.graphs import TEXTS

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


@pytest.fixture
def quantized(vote_graph, tmp_path):
    classifier = deni.load(vote_graph.artifact, "cpu")
    base = source_of(classifier, None).base()
    count = quantize(vote_graph.graph / "model.onnx", tmp_path / "model.onnx", base, external=False)
    return tmp_path / "model.onnx", base, count


def test_each_shared_layer_is_quantized_by_output(quantized):
    file, base, count = quantized
    assert count == 7  # query, key, value, output, the two of the feed-forward, the pooler
    found = [each for each in onnx.load(file).graph.initializer if each.data_type == onnx.TensorProto.UINT8]
    small = [numpy_helper.to_array(each) for each in found if len(each.dims) == 2]
    assert len(small) == 7
    shapes = sorted(tuple(sorted(each.shape)) for each in base if 160 not in each.shape and 40 not in each.shape)
    assert sorted(tuple(sorted(each.shape)) for each in small) == [each for each in shapes if 2 not in each]


def test_weights_of_members_stay_as_they_are(quantized, vote_graph):
    stacks = [
        {each.name: numpy_helper.to_array(each) for each in onnx.load(file).graph.initializer if len(each.dims) == 3}
        for file in (vote_graph.graph / "model.onnx", quantized[0])
    ]
    assert stacks[0]
    assert stacks[0].keys() == stacks[1].keys()
    for name, value in stacks[0].items():
        np.testing.assert_array_equal(stacks[1][name], value)


def test_predictions_change_little(quantized, vote_graph):
    graph = deni.load(vote_graph.graph)
    exact = graph.members(TEXTS)
    graph.session = onnxruntime.InferenceSession(quantized[0])
    np.testing.assert_allclose(np.exp(graph.members(TEXTS)), np.exp(exact), rtol=0, atol=0.05)
    assert np.abs(graph.members(TEXTS) - exact).max() > 0


def test_a_graph_without_such_weights_is_not_written(vote_graph, tmp_path):
    assert quantize(vote_graph.graph / "model.onnx", tmp_path / "none.onnx", [], external=False) == 0
    assert not (tmp_path / "none.onnx").exists()


def test_a_weight_that_a_node_transposes_is_stored_transposed(tmp_path):
    draw = np.random.default_rng(0)
    weight, text = draw.normal(size=(6, 16)).astype(np.float32), draw.normal(size=(5, 16)).astype(np.float32)
    floats = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Transpose", ["weight"], ["turned"], perm=[1, 0]),
            onnx.helper.make_node("MatMul", ["text", "turned"], ["scores"], name="layer"),
        ],
        "linear",
        [onnx.helper.make_tensor_value_info("text", floats, ["batch", 16])],
        [onnx.helper.make_tensor_value_info("scores", floats, ["batch", 6])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), tmp_path / "float.onnx")
    layers = quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx", [torch.from_numpy(weight)], external=False)
    session = onnxruntime.InferenceSession(tmp_path / "int8.onnx", providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"text": text})
    assert layers == 1
    assert np.abs(scores - text @ weight.T).max() < 0.03 * np.abs(text @ weight.T).max()
    stored = onnx.load(tmp_path / "int8.onnx").graph.initializer
    assert not [each.name for each in stored if each.data_type == floats and len(each.dims) == 2]
