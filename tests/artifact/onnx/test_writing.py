"""An exported graph predicts what its artifact does: through deni, and with onnxruntime and tokenizers alone."""

import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from click.testing import CliRunner
from tokenizers import Tokenizer
from transformers import AutoTokenizer

import deni
from deni.artifact import export
from deni.cli import main
from deni.errors import InputError
from deni.randomness import global_generators
from tests.helpers.graphs import MEMBERS, TEXTS, make_artifact, population_of
from tests.helpers.tiny import SIZES

AS_INT8 = ["--as", "onnx", "--int8"]
COLUMNS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
LONG = " ".join(["parcel invoice late"] * 9)  # more than max_length


def run(folder, texts, **options):
    """The logits, without deni."""
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    batch = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(texts, **options)
    feed = {each.name: np.array([getattr(text, COLUMNS[each.name]) for text in batch]) for each in session.get_inputs()}
    return session.run(["logits"], feed)[0]


def by_hand(artifact, texts, temperature):
    """The calibrated vote, in plain PyTorch and NumPy."""
    scaled = of_members(artifact, texts).mean(0) ** (1 / temperature)
    return scaled / scaled.sum(-1, keepdims=True)


@torch.no_grad()
def of_members(artifact, texts):
    """Probabilities, member by member, `(M, B, C)`."""
    classifier = deni.load(artifact, "cpu")
    inputs = AutoTokenizer.from_pretrained(artifact)(
        texts, padding=True, truncation=True, max_length=12, return_tensors="pt"
    )
    probabilities = []
    for member in range(MEMBERS):
        with classifier.population.alone(member) as model:
            probabilities.append(model(**inputs).logits.softmax(-1).numpy())
    return np.array(probabilities)


def test_runtime_and_tokenizers_alone_give_the_calibrated_vote(vote_graph):
    artifact, graph = vote_graph
    for texts in (TEXTS, TEXTS[:1], [*TEXTS, LONG]):
        expected = by_hand(artifact, texts, 2.5)
        assert len(texts) == 1 or np.ptp(expected, axis=0).max() > 1e-3  # texts differ
        np.testing.assert_allclose(np.exp(run(graph, texts)), expected, rtol=0, atol=1e-5)


def test_loading_gives_the_predictions_of_the_artifact(vote_graph):
    artifact, graph = (deni.load(each, "cpu") for each in vote_graph)
    texts = [*TEXTS, LONG]
    np.testing.assert_allclose(graph.members(texts), artifact.members(texts), rtol=0, atol=1e-5)
    np.testing.assert_allclose(graph.votes(texts), artifact.votes(texts), rtol=0, atol=1e-5)
    for found, expected in zip(graph(texts), artifact(texts), strict=True):
        assert found == pytest.approx(expected, abs=1e-5)
    assert graph.temperature == 2.5
    assert deni.load(vote_graph.graph, calibrated=False).temperature is None


@pytest.mark.parametrize(
    ("tuning", "task", "combine"),
    [("ia3", "ordinal", "soft"), ("lora", "single_label", "hard")],
)
def test_each_kind_of_vote_is_in_the_graph(tuning, task, combine, model_folder, tmp_path):
    population = population_of(tuning)
    artifact = make_artifact(tmp_path / "model", model_folder, population, task, vote={"combine": combine})
    export(artifact, tmp_path / "out", "onnx")
    probabilities = of_members(artifact, TEXTS)
    assert np.ptp(probabilities, axis=0).max() > 1e-2  # members differ
    chosen = np.eye(3)[probabilities.argmax(-1)]
    expected = (chosen if combine == "hard" else probabilities).mean(0)
    np.testing.assert_allclose(np.exp(run(tmp_path / "out", TEXTS)), expected, rtol=0, atol=1e-5)
    loaded = deni.load(tmp_path / "out")
    np.testing.assert_allclose(np.exp(loaded.votes(TEXTS)), expected, rtol=0, atol=1e-5)
    assert [each["label"] for each in loaded(TEXTS)] == [each["label"] for each in deni.load(artifact, "cpu")(TEXTS)]


def test_the_command_writes_a_graph_in_int8_that_both_ways_read_alike(vote_graph, tmp_path):
    done = CliRunner().invoke(main, ["export", str(vote_graph.artifact), str(tmp_path / "out"), *AS_INT8])
    assert done.exit_code == 0, done.output
    loaded = deni.load(tmp_path / "out")
    assert loaded.info["onnx"]["int8"] is True
    np.testing.assert_allclose(np.exp(run(tmp_path / "out", TEXTS)), np.exp(loaded.votes(TEXTS)), rtol=0, atol=1e-5)
    exact = by_hand(vote_graph.artifact, TEXTS, 2.5)
    assert 0 < np.abs(np.exp(loaded.votes(TEXTS)) - exact).max() < 0.05


def test_the_frozen_weights_are_in_the_graph_once(vote_graph):
    import onnx

    artifact, graph = vote_graph
    model = onnx.load(graph / "model.onnx")
    elements = sum(int(np.prod(each.dims)) for each in model.graph.initializer)
    population = deni.load(artifact, "cpu").population
    own = sum(value[0].numel() for value in population.values.values())
    with population.plain() as plain:
        total = sum(value.numel() for value in plain.parameters())
    assert elements == pytest.approx(total + (MEMBERS - 1) * own, rel=0.01)  # but for small constants


def test_words_of_a_decoder_that_pads_on_the_left_are_compared_where_there_are_tokens(model_folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(model_folder, padding_side="left")
    tokenizer.save_pretrained(tmp_path / "left")
    sizes = {**SIZES, "vocab_size": 160, "num_hidden_layers": 2, "num_key_value_heads": 2}
    config = transformers.Qwen2Config(**sizes, pad_token_id=tokenizer.pad_token_id, num_labels=3)
    with global_generators(0):
        model = transformers.Qwen2ForTokenClassification(config)
    population = population_of(model=model, task="Token")
    artifact = make_artifact(tmp_path / "model", tmp_path / "left", population, "token")
    export(artifact, tmp_path / "out", "onnx")
    words = [text.split() for text in TEXTS]
    expected = []
    for text in words:  # alone, without padding
        inputs = tokenizer([text], is_split_into_words=True, truncation=True, max_length=12, return_tensors="pt")
        first = [inputs.word_ids().index(word) for word in range(len(text)) if word in inputs.word_ids()]
        logits = []
        for member in range(MEMBERS):
            with torch.no_grad(), population.alone(member) as plain:
                logits.append(plain(**inputs).logits[0, first].log_softmax(-1))
        expected.append(torch.stack(logits, 1))
    found = deni.load(tmp_path / "out").members(words)
    np.testing.assert_allclose(found, torch.cat(expected), rtol=0, atol=1e-4)


def test_the_mean_of_words_has_its_own_temperature(mean_graph, tmp_path):
    (single,) = export(mean_graph.artifact, tmp_path / "single", "single")  # with the temperature in its output layer
    expected, found = deni.load(single, "cpu"), deni.load(mean_graph.graph)
    words = [text.split() for text in TEXTS]
    np.testing.assert_allclose(found.votes(words), expected.votes(words), rtol=0, atol=1e-5)
    assert found.members(words).shape[1] == 1
    assert [each["words"] for each in found(words)] == words
    logits = run(mean_graph.graph, words[:1], is_pretokenized=True)[0, 1 : len(words[0]) + 1]
    np.testing.assert_allclose(logits, expected.votes(words[:1]), rtol=0, atol=1e-5)


def test_the_mean_is_told_by_its_own_cross_validation(mean_graph):
    info = json.loads((mean_graph.graph / "deni.json").read_text())
    assert [info["cross_validation"][name] for name in ("score", "low", "high")] == [0.65, 0.5, 0.75]
    assert "metrics" not in info


def test_an_export_can_be_replaced_and_says_what_it_is(vote_graph):
    info = json.loads((vote_graph.graph / "deni.json").read_text())
    assert info["onnx"]["form"] == "stacked"
    assert info["onnx"]["int8"] is False
    assert info["members"] == MEMBERS
    assert "plain" not in info
    config = json.loads((vote_graph.graph / "config.json").read_text())
    assert config["id2label"] == {"0": "label 0", "1": "label 1", "2": "label 2"}
    with pytest.raises(InputError, match="exists: choose another folder or give --overwrite"):
        export(vote_graph.artifact, vote_graph.graph, "onnx")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"how": "onnx", "adapter": True}, "an ONNX graph has its adapters in it: omit --adapter"),
        ({"int8": True}, "--int8 is for --as onnx, not single: omit it"),
        ({"how": "members", "mean": True}, "--mean is for --as onnx, not members: omit it"),
    ],
)
def test_options_that_do_not_go_together_are_refused(vote_graph, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        export(vote_graph.artifact, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_a_vote_that_shares_no_weights_has_no_int8(model_folder, tmp_path):
    artifact = make_artifact(tmp_path / "model", model_folder, population_of("full"))
    with pytest.raises(InputError, match="fully tuned ones share none: add --mean, or train with --tuning lora"):
        export(artifact, tmp_path / "out", "onnx", int8=True)
    assert not (tmp_path / "out").exists()


def test_a_graph_cannot_be_exported_again(vote_graph, tmp_path):
    with pytest.raises(InputError, match="is an ONNX graph, whose members cannot be taken out: use the artifact"):
        export(vote_graph.graph, tmp_path / "out", "single")


def test_without_the_extra_one_line_says_what_to_install(vote_graph, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    message = r'--as onnx needs the package onnxscript: pip install "deni\[onnx\]"'
    with pytest.raises(InputError, match=message):
        export(vote_graph.artifact, tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_be_traced_is_refused(model_folder, tmp_path):
    population = population_of(members=1)

    def by_value(module, args, output):
        return output if float(output.sum()) > 0 else -output

    with population.plain() as model:
        model.base_model.model.bert.pooler.register_forward_hook(by_value)
    artifact = make_artifact(tmp_path / "model", model_folder, population_of(members=1))
    classifier = deni.load(artifact, "cpu")
    classifier.population = population
    from deni.artifact.onnx.writing import GraphExport

    (tmp_path / "work").mkdir()
    with pytest.raises(InputError, match=r"cannot be exported as onnx: .*: use deni.load or deni predict") as refusal:
        GraphExport(classifier, artifact, None, False, True, tmp_path / "work")
    assert "\n" not in str(refusal.value)


def test_after_a_trace_that_failed_within_vmap_torch_computes_outside_of_it():
    from torch._C._functorch import _vmap_increment_nesting, peek_interpreter_stack

    from deni.artifact.onnx.writing import _leave_vmap

    for size in (2, 3):  # nested, as by the mask of a decoder
        _vmap_increment_nesting(size, "error")
    _leave_vmap()
    assert peek_interpreter_stack() is None
    torch.rand(2)  # within vmap: an error, for random numbers
    _leave_vmap()  # nothing to leave


def test_a_form_that_fails_within_vmap_leaves_the_next_one_as_it_would_be_alone(model_folder, tmp_path):
    from torch._C._functorch import peek_interpreter_stack

    sizes = {**SIZES, "vocab_size": 160, "num_hidden_layers": 1, "num_key_value_heads": 2}
    with global_generators(0):
        model = transformers.LlamaForSequenceClassification(
            transformers.LlamaConfig(**sizes, pad_token_id=0, num_labels=3)
        )
    artifact = make_artifact(tmp_path / "model", model_folder, population_of("full", model=model))
    export(artifact, tmp_path / "out", "onnx")
    assert json.loads((tmp_path / "out" / "deni.json").read_text())["onnx"]["form"] == "unrolled"
    assert peek_interpreter_stack() is None
    np.testing.assert_allclose(np.exp(run(tmp_path / "out", TEXTS)), of_members(artifact, TEXTS).mean(0), atol=1e-5)
