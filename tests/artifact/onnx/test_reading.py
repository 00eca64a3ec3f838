"""An exported folder is checked before anything computes with it."""

import hashlib
import json
import shutil
import sys

import pytest

import deni
from deni.artifact.onnx import reading
from deni.errors import ArtifactError, InputError
from tests.helpers.graphs import TEXTS

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")


@pytest.fixture
def folder(vote_graph, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(vote_graph.graph, tmp_path / "out")


def change(folder, edit, listed=True):
    """Change the graph, and what deni.json says of it."""
    file = folder / "model.onnx"
    model = onnx.load(file)
    edit(model)
    onnx.save(model, file)
    if listed:
        tell(folder, lambda info: info["onnx"]["sha256"].update({"model.onnx": digest(file)}))
        tell(folder, lambda info: info["files"].update({"model.onnx": file.stat().st_size}))


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def tell(folder, edit):
    info = json.loads((folder / "deni.json").read_text())
    edit(info)
    (folder / "deni.json").write_text(json.dumps(info))


def refused(folder, message):
    with pytest.raises(ArtifactError, match=message) as refusal:
        deni.load(folder)
    assert "\n" not in str(refusal.value)


def test_a_missing_graph_is_refused(folder):
    (folder / "model.onnx").unlink()
    refused(folder, "model.onnx is missing: copy or train the model again")


def test_a_truncated_graph_is_refused(folder):
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[:-100])
    refused(folder, f"has {len(content) - 100} bytes where {len(content)} were written")


def test_a_changed_byte_is_refused(folder):
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)
    refused(folder, "model.onnx was changed since it was exported: export it again")


@pytest.mark.parametrize("content", [b"", b"not a graph", bytes(range(256)) * 8])
def test_what_is_not_a_graph_is_refused_whatever_deni_json_says(folder, content):
    file = folder / "model.onnx"
    file.write_bytes(content)
    tell(folder, lambda info: info["onnx"]["sha256"].update({"model.onnx": digest(file)}))
    tell(folder, lambda info: info["files"].update({"model.onnx": len(content)}))
    refused(folder, "model.onnx (cannot be read|has other inputs)")


def test_operations_of_others_are_refused(folder):
    def edit(model):
        model.graph.node[0].domain = "evil.ops"

    change(folder, edit)
    refused(folder, "has operations of evil.ops, which are not ONNX's")


def test_weights_from_elsewhere_are_refused(folder, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(4096))

    def edit(model):
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "../secret"

    file = folder / "model.onnx"
    model = onnx.load(file)
    edit(model)
    file.write_bytes(model.SerializeToString())
    tell(folder, lambda info: info["onnx"]["sha256"].update({"model.onnx": digest(file)}))
    tell(folder, lambda info: info["files"].update({"model.onnx": file.stat().st_size}))
    refused(folder, "has its weights outside of the folder")


def test_a_graph_inside_an_operation_is_refused(folder):
    def edit(model):
        inner = onnx.helper.make_graph([], "inner", [], [])
        model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", inner))

    change(folder, edit)
    refused(folder, "has functions or graphs inside it")


def test_other_inputs_and_outputs_are_refused(folder):
    tell(folder, lambda info: info["onnx"].update(inputs=["input_ids"]))
    refused(folder, "has other inputs than deni.json says")


def test_another_number_of_members_or_labels_is_refused(folder):
    tell(folder, lambda info: info.update(members=2))
    refused(folder, "has other outputs than 2 members and 3 labels")


@pytest.mark.parametrize(
    "value", [None, [], {}, {"inputs": [], "int8": False, "sha256": {}}, {"inputs": ["a"], "int8": 1}]
)
def test_a_damaged_entry_of_deni_json_is_refused(folder, value):
    tell(folder, lambda info: info.update(onnx=value))
    refused(folder, "onnx is .* where inputs, int8 and sha256 was expected")


def test_files_with_other_names_are_refused(folder):
    tell(folder, lambda info: info["onnx"].update(sha256={"../model.onnx": "0"}))
    refused(folder, "sha256 of onnx does not name model.onnx")


def test_a_graph_gives_no_vectors_and_no_members(vote_graph):
    graph = deni.load(vote_graph.graph)
    for use in (lambda: graph.features(TEXTS), lambda: graph.scope(TEXTS), lambda: graph.population):
        with pytest.raises(InputError, match="is an ONNX graph, wh"):
            use()
    with pytest.raises(InputError, match="without the models of the folds: give labeled texts"):
        graph.conformal(0.9)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"device": "meta"}, "there is no device meta"), ({"dtype": "bfloat16"}, "whose weights have their type: omit")],
)
def test_other_devices_and_types_are_refused(vote_graph, options, message):
    with pytest.raises(InputError, match=message):
        deni.load(vote_graph.graph, **options)


def test_reading_without_the_extra_says_what_to_install(vote_graph, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r'an ONNX graph needs the package onnxruntime: pip install "deni\[onnx\]"'):
        deni.load(vote_graph.graph)


def test_threads_of_torch_are_those_of_the_runtime(vote_graph):
    graph = deni.load(vote_graph.graph)
    assert isinstance(graph, reading.OnnxClassifier)
    assert graph.session.get_session_options().intra_op_num_threads == 1
