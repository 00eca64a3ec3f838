"""What a push sends, what its card says, and that it is read back; by a server that speaks the hub's protocol."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from huggingface_hub import ModelCard, metadata_load
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer, pipeline

import deni
from deni.artifact import OutOfFold, digests_of, export, push
from deni.cli import main
from deni.errors import ArtifactError, InputError, SettingError
from deni.hub.fetching import local_folder
from deni.hub.names import hub_id
from tests.helpers.hub_server import Model
from tests.helpers.tiny import toy_rows

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "someone/tickets"
TEXTS = [text for text, _ in toy_rows(2)]


@pytest.fixture
def artifact(fitted, tmp_path, tickets):
    """An artifact with all that tells of training texts."""
    result = fitted("delayed_ensemble", members=2)
    uniform = np.full((1, len(TEXTS), 3), np.log(1 / 3))
    kept = OutOfFold(
        {"vote": uniform}, np.zeros((1, len(TEXTS)), int), [0] * len(TEXTS), digests_of(TEXTS), result.labels
    )
    data = {"data": tickets, "split": None, "test": "held_out.csv"}
    added = {"cross_validation": {"folds": 5, "metric": "macro_f1", "score": 0.7, "low": 0.6, "high": 0.8}}
    added["cross_validation"] |= {"confidence": 0.95, "trained_on": 0.8}
    result = dataclasses.replace(result, out_of_fold=kept, data=data, added=added)
    metrics = {"macro_f1": 0.75, "accuracy": 0.8, "mcc": 0.5, "train_texts": 36, "test_texts": 50}
    page = {"report.html": "".join(TEXTS).encode()}
    return result.save(tmp_path / "model", metrics=metrics, extra_files=page)


def test_what_was_pushed_predicts_the_same_by_its_name(hub, artifact):
    push(artifact, NAME)
    expected = deni.load(artifact, "cpu").members(TEXTS)
    assert np.array_equal(deni.load(NAME, "cpu").members(TEXTS), expected)
    pinned = deni.load(NAME, "cpu", revision=hub.models[NAME].refs["main"])
    assert np.array_equal(pinned.members(TEXTS), expected)


def test_neither_texts_nor_paths_nor_digests_of_texts_are_pushed(hub, artifact, model_folder, tickets):
    done = push(artifact, NAME)
    assert done.left_out == ["out_of_fold.safetensors", "report.html"]
    files = hub.files(NAME)
    assert files.keys() - {".gitattributes"} == done.files.keys()
    assert not files.keys() & set(done.left_out)
    secrets = [*TEXTS, model_folder, tickets, str(artifact), "held_out.csv"]
    secrets = [each.encode() for each in secrets] + [bytes.fromhex(each) for each in digests_of(TEXTS)]
    assert [name for name, content in files.items() if any(each in content for each in secrets)] == []
    info = json.loads(files["deni.json"])
    assert info["files"] == {name: size for name, size in done.files.items() if name != "deni.json"}
    with pytest.raises(InputError, match="no out-of-fold predictions"):
        deni.load(NAME, "cpu").selection(0.9)


def test_all_is_pushed_where_it_is_asked_for_and_gone_with_the_next_push(hub, artifact):
    assert push(artifact, NAME, everything=True).left_out == []
    assert deni.load(NAME, "cpu").out_of_fold.digests == digests_of(TEXTS)
    assert hub.files(NAME)["report.html"]
    push(artifact, NAME)
    assert deni.load(NAME, "cpu").out_of_fold is None
    assert "report.html" not in hub.files(NAME)


def test_the_card_has_what_the_hub_reads(hub, artifact):
    hub.models["org/base"] = Model()
    hub.models["org/base"].commit({"README.md": b"---\nlicense: mit\nlanguage: [en]\n---\n# base"})
    push(artifact, NAME, base_model="org/base", dataset="org/tickets")
    card = ModelCard(hub.files(NAME)["README.md"].decode())
    assert card.data.base_model == "org/base"
    assert (card.data.license, card.data.language, card.data.datasets) == ("mit", ["en"], ["org/tickets"])
    assert (card.data.library_name, card.data.pipeline_tag) == ("deni", "text-classification")
    found = {(each.metric_name, each.dataset_split): each for each in card.data.eval_results}
    test = found["accuracy", "test"]
    assert (test.metric_type, test.metric_value, test.dataset_type) == ("accuracy", 0.8, "org/tickets")
    p, n, z = 0.8, 50, 1.959964  # Wilson's interval by hand
    middle, half = (p + z * z / (2 * n)), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    assert test.metric_args["interval"] == pytest.approx(
        [(middle + s * half) / (1 + z * z / n) for s in (-1, 1)], abs=1e-6
    )
    assert (test.metric_args["seeds"], test.metric_args["texts"]) == ([0], 50)
    macro = found["macro F1", "test"]
    assert (macro.metric_type, macro.metric_args["average"], macro.metric_value) == ("f1", "macro", 0.75)
    folds = found["macro F1", "cross-validation in 5 folds"]
    assert (folds.metric_value, folds.metric_args["interval"]) == (0.7, [0.6, 0.8])
    assert "## Intended use" in card.text
    assert "org/base, license: mit." in card.text
    assert 'deni.load("someone/tickets")' in card.text


def test_what_is_given_comes_before_the_base_models_card_and_a_base_without_one_is_named(hub, artifact):
    push(artifact, NAME, base_model="org/none", language=["de"], license="cc-by-4.0")
    data = ModelCard(hub.files(NAME)["README.md"].decode()).data
    assert (data.license, data.language, data.base_model) == ("cc-by-4.0", ["de"], "org/none")
    push(artifact, NAME)
    assert ModelCard(hub.files(NAME)["README.md"].decode()).data.base_model is None


def test_a_single_model_is_read_by_transformers_and_by_its_name(hub, artifact, tmp_path):
    export(artifact, tmp_path / "one")
    push(tmp_path / "one", NAME)
    (expected,) = np.exp(deni.load(tmp_path / "one", "cpu").votes(TEXTS[:1]))
    assert np.array_equal(np.exp(deni.load(NAME, "cpu").votes(TEXTS[:1])[0]), expected)
    (found,) = pipeline("text-classification", NAME, device="cpu", top_k=None)([TEXTS[0]])
    scores = {each["label"]: each["score"] for each in found}
    assert [scores[label] for label in ("billing", "delivery", "login")] == pytest.approx(expected, abs=1e-6)
    card = ModelCard(hub.files(NAME)["README.md"].decode())
    assert card.data.library_name == "transformers"
    assert "`billing`, `delivery`, `login`" in card.text


@pytest.mark.parametrize("how", ["single", "adapter", "sentence-transformers"])
def test_the_card_of_an_export_has_what_was_measured_of_that_model(hub, fitted, tmp_path, how):
    estimated = {"folds": 5, "metric": "macro_f1", "score": 0.7, "low": 0.6, "high": 0.8, "confidence": 0.95}
    merged = {"score": 0.65, "low": 0.5, "high": 0.75}
    estimated |= {"trained_on": 0.8, "merged": merged}
    metrics = {"macro_f1": 0.75, "test_texts": 50}
    options = {"adapter": True} if how == "adapter" else {"how": how}
    found = {}
    for members in (1, 2):
        strategy = {"strategy": "delayed_ensemble", "members": 2} if members == 2 else {}
        result = dataclasses.replace(fitted(tuning="lora", **strategy), added={"cross_validation": estimated})
        source = result.save(tmp_path / f"model{members}", metrics=metrics)
        made = tmp_path / f"out{members}"
        export(source, made, **options)
        own = metadata_load(made / "README.md")["model-index"]
        push(made, NAME, base_model="org/base", dataset="org/tickets")
        card = ModelCard(hub.files(NAME)["README.md"].decode())
        assert own[0]["results"][0]["dataset"]["type"] == "local"
        assert {each.dataset_type for each in card.data.eval_results} == {"org/tickets"}
        found[members] = [
            (each.dataset_split, each.metric_value, each.metric_args.get("interval")) for each in card.data.eval_results
        ]
        assert [each["metrics"][0]["value"] for each in own[0]["results"]] == [value for _, value, _ in found[members]]
    folds = "cross-validation in 5 folds"
    assert found == {1: [("test", 0.75, None), (folds, 0.7, [0.6, 0.8])], 2: [(folds, 0.65, [0.5, 0.75])]}


@pytest.mark.parametrize("options", [{}, {"mean": True}, {"int8": True}], ids=["vote", "mean", "int8"])
def test_a_graph_is_pushed_with_what_was_measured_of_it(hub, fitted, tmp_path, options):
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    estimated = {"folds": 5, "metric": "macro_f1", "score": 0.7, "low": 0.6, "high": 0.8, "confidence": 0.95}
    estimated |= {"trained_on": 0.8, "merged": {"score": 0.65, "low": 0.5, "high": 0.75}}
    result = fitted("delayed_ensemble", "lora", members=2)
    result = dataclasses.replace(result, added={"cross_validation": estimated})
    source = result.save(tmp_path / "model", metrics={"macro_f1": 0.75, "test_texts": 50})
    export(source, tmp_path / "graph", "onnx", **options)
    push(tmp_path / "graph", NAME, base_model="org/base", dataset="org/tickets")
    card = ModelCard(hub.files(NAME)["README.md"].decode())
    found = [(each.dataset_split, each.metric_value) for each in card.data.eval_results or ()]
    folds = "cross-validation in 5 folds"
    of_vote, of_mean = [("test", 0.75), (folds, 0.7)], [(folds, 0.65)]
    assert found == ([] if "int8" in options else of_mean if options else of_vote)
    assert (card.data.base_model, card.data.library_name) == ("org/base", "deni")
    assert 'deni.load("someone/tickets")' in card.text
    pushed, local = deni.load(NAME), deni.load(tmp_path / "graph")
    assert np.array_equal(pushed.votes(TEXTS), local.votes(TEXTS))
    if "int8" not in options:
        expected = deni.load(source, "cpu")
        if options:
            expected = deni.load(export(source, tmp_path / "single")[0], "cpu")
        np.testing.assert_allclose(pushed.votes(TEXTS), expected.votes(TEXTS), rtol=0, atol=1e-5)


def test_members_of_several_and_cards_that_were_not_exported_have_no_metrics(hub, artifact, tmp_path):
    export(artifact, tmp_path / "each", how="members")
    assert "model-index" not in metadata_load(tmp_path / "each" / "member-0" / "README.md")
    export(artifact, tmp_path / "one")
    (tmp_path / "one" / "README.md").write_text("---\nmodel-index: 3\n---\n")
    push(tmp_path / "one", NAME)
    assert ModelCard(hub.files(NAME)["README.md"].decode()).data.eval_results is None


def test_an_adapter_takes_a_base_model_that_others_have(hub, fitted, tmp_path, model_folder, tickets):
    source = fitted("default", "lora").save(tmp_path / "model")
    export(source, tmp_path / "adapter", adapter=True)
    with pytest.raises(InputError, match=r"adapter of a model in a folder of this machine, .* with --base-model"):
        push(tmp_path / "adapter", NAME)
    assert hub.models == {}
    hub.models["org/base"] = Model()
    names = ("config.json", "model.safetensors")
    hub.models["org/base"].commit({name: Path(model_folder, name).read_bytes() for name in names})
    push(tmp_path / "adapter", NAME, base_model="org/base")
    assert json.loads(hub.files(NAME)["adapter_config.json"])["base_model_name_or_path"] == "org/base"
    assert model_folder.encode() not in b"".join(hub.files(NAME).values())
    card = ModelCard(hub.files(NAME)["README.md"].decode())
    assert (card.data.library_name, card.data.base_model) == ("peft", "org/base")
    assert "`billing`, `delivery`, `login`" in card.text
    scope = {}
    for code in re.findall(r"```python\n(.*?)```", card.text, flags=re.S):  # as the card says
        exec(code, scope)
    assert type(scope["model"]).__name__ == "PeftModelForSequenceClassification"
    assert scope["AutoPeftModelForSequenceClassification"] is AutoPeftModelForSequenceClassification
    tokens = AutoTokenizer.from_pretrained(local_folder(NAME))(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = scope["model"].eval()(**tokens).logits
    assert torch.allclose(logits.log_softmax(-1), torch.tensor(deni.load(source, "cpu").votes(TEXTS)), atol=1e-5)
    expected = deni.load(source, "cpu").votes(TEXTS)
    for model in (scope["classifier"], deni.load(tmp_path / "adapter", "cpu"), deni.load(NAME, "cpu")):
        np.testing.assert_allclose(model.votes(TEXTS), expected, rtol=0, atol=1e-5)
        assert model.labels == ["billing", "delivery", "login"]
    done = CliRunner().invoke(main, ["predict", NAME, tickets, "--output", str(tmp_path / "out.csv")])
    assert done.exit_code == 0, done.output
    hub.models["org/base"].private = True
    hub.models[NAME].commit({name: each for name, each in hub.files(NAME).items() if name != "config.json"})
    with pytest.raises(
        ArtifactError, match=r"no config.json, but a PEFT adapter, .*: export it again, or load it with"
    ):
        deni.load(NAME, "cpu")


def test_an_artifact_with_an_adapter_has_no_path_of_its_base(hub, fitted, tmp_path, model_folder):
    source = fitted("default", "lora").save(tmp_path / "model")
    push(source, NAME)
    assert model_folder.encode() not in b"".join(hub.files(NAME).values())
    assert np.array_equal(deni.load(NAME, "cpu").votes(TEXTS), deni.load(source, "cpu").votes(TEXTS))


def test_the_commands_take_a_name_of_the_hub(hub, artifact, tickets, tmp_path):
    run = CliRunner()
    done = run.invoke(main, ["push", str(artifact), NAME, "--private", "--message", "First"])
    assert done.exit_code == 0, done.output
    assert hub.models[NAME].private
    assert "Not pushed: out_of_fold.safetensors, report.html" in done.output
    assert f"/{NAME}/commit/{hub.models[NAME].refs['main']}" in done.output
    commit = hub.models[NAME].refs["main"]
    outputs = []
    for model, pin in ((str(artifact), []), (NAME, ["--revision", commit]), (f"{NAME}@{commit}", [])):
        file = tmp_path / f"{len(outputs)}.csv"
        done = run.invoke(main, ["predict", model, tickets, "--output", str(file), *pin])
        assert done.exit_code == 0, done.output
        outputs.append(file.read_text())
    assert outputs[0] == outputs[1] == outputs[2]
    done = run.invoke(main, ["evaluate", NAME, tickets, "--json"])
    assert json.loads(done.output)["texts"] == 36
    done = run.invoke(main, ["compare", str(artifact), NAME, tickets, "--json"])
    assert json.loads(done.output)["changed"] == 0
    done = run.invoke(main, ["suggest", NAME, tickets, "--n", "2", "--output", str(tmp_path / "next.csv")])
    assert done.exit_code == 0, done.output
    done = run.invoke(main, ["export", NAME, str(tmp_path / "one")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "one" / "model.safetensors").exists()
    done = run.invoke(main, ["predict", "someone/typo", tickets])
    assert (done.exit_code, done.output.count("\n")) == (2, 1)


def test_a_dry_run_asks_nobody_and_prints_files_and_card(hub, artifact):
    done = CliRunner().invoke(main, ["push", str(artifact), NAME, "--dry-run"])
    assert done.exit_code == 0, done.output
    assert hub.requests == []
    front = yaml.safe_load(done.output.partition("\n---\n")[2].partition("\n---\n")[0])
    assert front["model-index"][0]["name"] == "tickets"


@pytest.mark.parametrize(
    ("options", "error", "expected"),
    [
        ({"name": "tickets"}, ArtifactError, "tickets is not user/name"),
        ({"name": "a/b@v1"}, ArtifactError, "a/b@v1 is not user/name"),
        ({"base_model": "/home/me/base"}, SettingError, "base_model must be a hub id such as user/name, not '/home"),
        ({"dataset": "./tickets.csv"}, SettingError, "dataset must be a hub id"),
    ],
)
def test_what_is_no_name_is_refused_before_anything_is_sent(hub, artifact, options, error, expected):
    with pytest.raises(error, match=expected):
        push(artifact, **{"name": NAME, **options})
    assert hub.requests == []


def test_a_folder_without_a_model_or_with_pickles_is_refused(hub, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match=r"empty has no deni.json and no config.json"):
        push(tmp_path / "empty", NAME)
    with pytest.raises(ArtifactError, match="missing is not a folder"):
        push(tmp_path / "missing", NAME)
    (tmp_path / "empty" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "empty" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(InputError, match="has no weights in safetensors, and pickles are not pushed"):
        push(tmp_path / "empty", NAME)
    assert hub.requests == []


def test_a_legacy_name_of_the_hub_is_a_base_model():
    assert [hub_id(name) for name in ("bert-base-uncased", "org/base", "a/b/c", "~/base")] == [
        *("bert-base-uncased", "org/base"),
        *(None, None),
    ]


def test_the_metadata_is_a_file_that_the_hub_library_reads(hub, artifact, tmp_path):
    push(artifact, NAME)
    (tmp_path / "README.md").write_bytes(hub.files(NAME)["README.md"])
    assert metadata_load(tmp_path / "README.md")["model-index"][0]["results"]
