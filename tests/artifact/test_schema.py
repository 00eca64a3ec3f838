"""An artifact that is damaged, or somebody else's, is refused in one line that names the file and the key."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import deni
from deni.artifact import export, load, save
from deni.artifact.schema import check_finite
from deni.errors import ArtifactError
from deni.outputs import INFO

FORMAT_1 = Path(__file__).with_name("format_1")
MEMBERS, BASE, ROWS = "population.safetensors", "base.safetensors", "bert.embeddings.word_embeddings.weight"
HEAD = "classifier.weight"
TEXTS = ["invoice money charged", "parcel late courier"]
AGAIN = "copy or train the model again"


@pytest.fixture(scope="module")
def format_2(tmp_path_factory) -> Path:
    """Three members, written by this version; with embeddings of which some rows train."""
    old = load(FORMAT_1 / "full_deni", "cpu")
    information = (
        "vote",
        "engine",
        "task",
        "max_length",
        "padding",
        "text_pair_column",
        "strategy",
        "tuning",
        "recipe",
    )
    info = {name: old.info[name] for name in information}
    folder = tmp_path_factory.mktemp("artifact") / "model"
    return save(folder, population=old.population, tokenizer=old.tokenizer, labels=old.labels, info=info)


@pytest.fixture(params=[1, 2], ids=["format 1", "format 2"])
def model(request, format_2, tmp_path) -> Path:
    """A copy of an artifact of three members, to be damaged."""
    return shutil.copytree({1: FORMAT_1 / "full_deni", 2: format_2}[request.param], tmp_path / "model")


def refusal(folder: Path) -> str:
    with pytest.raises(ArtifactError) as raised:
        load(folder, "cpu")
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    return message


def with_json(folder: Path, name: str, **changed) -> Path:
    """Changes keys of a JSON file; `...` takes one away."""
    values = json.loads((folder / name).read_text()) | changed
    (folder / name).write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))
    return folder


def with_tensors(folder: Path, name: str, change) -> Path:
    """Changes a file of tensors, and the size that `deni.json` says of it."""
    tensors = load_file(folder / name)
    changed = change(tensors)
    save_file(tensors if changed is None else changed, folder / name)
    info = json.loads((folder / INFO).read_text())
    if "files" in info:
        with_json(folder, INFO, files={**info["files"], name: (folder / name).stat().st_size})
    return folder


# ---- whole ones ----------------------------------------------------------------------------------------------------


def test_an_artifact_of_format_1_and_what_is_saved_of_it_predict_the_same(format_2):
    one, other = load(FORMAT_1 / "full_deni", "cpu"), load(format_2, "cpu")
    assert other.population.size == 3
    np.testing.assert_array_equal(one.members(TEXTS), other.members(TEXTS))


def test_the_model_card_may_be_edited(model):
    (model / "README.md").write_text("another card")
    load(model, "cpu")


# ---- deni.json -----------------------------------------------------------------------------------------------------

WRONG = {
    "no format": ({"format": ...}, "format is missing where a whole number of at least 1 was expected"),
    "a format of text": ({"format": "2"}, "format is '2' where a whole number of at least 1 was expected"),
    "endless runs": ({"runs": 1e308}, "runs is 1e+308 where a whole number from 1 to 1000000 was expected"),
    "runs that are true": ({"runs": True}, "runs is True where a whole number from 1 to 1000000 was expected"),
    "no run": ({"runs": 0}, "runs is 0 where a whole number from 1 to 1000000 was expected"),
    "negative members": ({"members": -3}, "members is -3 where a whole number from 1 to 1000000 was expected"),
    "no labels": ({"labels": []}, "labels is [] where a list of at least one name was expected"),
    "labels that are numbers": ({"labels": [1, 2, 3]}, "labels is [1, 2, 3] where a list of at least one name"),
    "a label too few": ({"labels": ["a", "b"]}, "labels has 2 names, FOLDER/config.json says 3 outputs"),
    "files without sizes": (
        {"files": {BASE: "x"}},
        "files is {'base.safetensors': 'x'} where bytes by name was expected",
    ),
    "a strategy without a name": ({"strategy": {}}, "strategy is {} where name and settings was expected"),
    "several strategies of numbers": (
        {"strategy": {"name": "swa+deni", "settings": {"swa": 3}}},
        "strategy is {'name': 'swa+deni', 'settings': {'swa': 3}} where name and settings was expected",
    ),
    "a tuning of text": ({"tuning": "full"}, "tuning is 'full' where name and settings was expected"),
    "a recipe in a list": ({"recipe": []}, "recipe is [] where settings by name was expected"),
    "a model that is a number": ({"recipe": {"model": 3}}, "recipe.model is 3 where the name of a model was expected"),
    "a length of nothing": ({"max_length": 0}, "max_length is 0 where null or a whole number from 1 to 1000000"),
    "a column of 3": ({"text_pair_column": 3}, "text_pair_column is 3 where null or the name of a column"),
    "another pooling": (
        {"pooling": {"kind": "max"}},
        "pooling is {'kind': 'max'} where kind (pooler, cls, mean, last)",
    ),
    "half precision": ({"dtype": "float16"}, "dtype is 'float16' where float32 or null was expected"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_key_of_deni_json_that_does_not_fit_is_named(model, case):
    changed, message = WRONG[case]
    said = refusal(with_json(model, INFO, **changed))
    assert said.startswith(f"{model / INFO}: {message.replace('FOLDER', str(model))}")
    assert said.endswith(AGAIN)


OF_FORMAT_2 = {
    "an unknown vote": ({"vote": {"combine": "loudest"}}, "vote.combine is 'loudest' where one of"),
    "a vote in a list": ({"vote": []}, "vote is [] where an object was expected"),
    "a vote without a rule": ({"vote": {}}, "vote.combine is missing where one of"),
    "no vote": ({"vote": ...}, "vote is missing where an object was expected"),
    "an unknown padding": ({"padding": "left"}, "padding is 'left' where one of longest, max_length was expected"),
    "an unknown engine": ({"engine": ["loop"]}, "engine is ['loop'] where one of loop, stacked was expected"),
    "padding to nothing": ({"padding": "max_length", "max_length": None}, "max_length is null, which padding ="),
    "pairs of words": ({"task": "token", "text_pair_column": "b"}, "text_pair_column is there, but the task token"),
    "an unknown task": ({"task": "haiku"}, "task 'haiku' is not there: import what registers it"),
}


@pytest.mark.parametrize("case", OF_FORMAT_2)
def test_what_predicting_needs_is_checked(format_2, tmp_path, case):
    changed, message = OF_FORMAT_2[case]
    folder = shutil.copytree(format_2, tmp_path / "model")
    assert refusal(with_json(folder, INFO, **changed)).startswith(f"{folder / INFO}: {message}")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[]", b"3", b"\xff\xfe", b"[" * 100_000, b'{"a":' + b"9" * 5000]
)
@pytest.mark.parametrize("name", [INFO, "config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_json_file_that_holds_no_object_is_named(model, name, content):
    (model / name).write_bytes(content)
    assert refusal(model).startswith(f"{model / name} is damaged (")


@pytest.mark.parametrize("name", [INFO, "tokenizer_config.json"])
def test_half_a_surrogate_pair_is_no_character(model, name):
    said = refusal(with_json(model, name, labels=["a", "b", "\ud83d"]))
    assert said.startswith(f"{model / name} is damaged (UnicodeEncodeError: ")
    assert said.endswith(f"surrogates not allowed): {AGAIN}")


def test_a_whole_surrogate_pair_is_one(model):
    with_json(model, INFO, labels=["a", "b", "\U0001f600"])
    assert "\\ud83d\\ude00" in (model / INFO).read_text()
    assert load(model, "cpu").labels == ["a", "b", "\U0001f600"]


def test_json_that_is_nested_deeply_is_refused(model):
    deep = [1]
    for _ in range(150):
        deep = [deep]
    said = refusal(with_json(model, INFO, data={"a": deep}))
    assert said == f"{model / INFO} is damaged (nested more than 100 levels deep): {AGAIN}"


# ---- tensors -------------------------------------------------------------------------------------------------------


def test_fewer_members_than_stated_are_refused(model):
    def halved(tensors):
        return {name: value if name.endswith("@ids") else value[:2].contiguous() for name, value in tensors.items()}

    said = refusal(with_tensors(model, MEMBERS, halved))
    assert "has 2 members where runs x members = 3 were expected" in said
    assert str(model / MEMBERS) in said


def test_more_runs_than_members_are_refused(model):
    assert "has 3 members where runs x members = 21 were expected" in refusal(with_json(model, INFO, runs=7))


def put(name, change):
    def changed(tensors):
        tensors[name] = change(tensors[name]).contiguous()

    return changed


def with_one(number):
    def change(value):
        value.view(-1)[3] = number
        return value

    return change


TENSORS = {
    "NaN": (MEMBERS, put(HEAD, with_one(torch.nan)), f"{HEAD} has 1 value that is not finite: train the model again"),
    "infinite": (MEMBERS, put(HEAD, with_one(-torch.inf)), f"{HEAD} has 1 value that is not finite"),
    "NaN that all share": (BASE, put(ROWS, with_one(torch.nan)), f"{ROWS} has 1 value that is not finite"),
    "none": (MEMBERS, lambda tensors: {}, "has no tensors"),
    "no members": (MEMBERS, put(HEAD, lambda value: value[:0]), f"{HEAD} has 0 members where runs x members = 3"),
    "rows below 0": (MEMBERS, put(f"{ROWS}@ids", lambda ids: ids - 9999), f"{ROWS}@ids names rows that the table of"),
    "rows twice": (MEMBERS, put(f"{ROWS}@ids", lambda ids: ids * 0 + 4), f"{ROWS}@ids names rows that the table of"),
    "rows of another kind": (MEMBERS, put(ROWS, lambda value: value.long()), f"{ROWS}@ids is "),
    "ids that are not whole": (MEMBERS, put(f"{ROWS}@ids", lambda ids: ids.float()), "which do not fit each other"),
}
MISFITS = {
    "missing": (
        MEMBERS,
        lambda tensors: {name: value for name, value in tensors.items() if name != HEAD},
        f"{HEAD} is missing",
    ),
    "left over": (BASE, lambda tensors: tensors.update(x=torch.ones(2)), "it has no x"),
    "another shape": (MEMBERS, put(HEAD, lambda value: value[:, :, :3]), f"{HEAD} is (3, 3), not (3, 16)"),
    "whole numbers": (MEMBERS, put(HEAD, lambda value: value.long()), f"{HEAD} is torch.int64, not torch.float32"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_cannot_be_those_of_the_members_are_named(model, case):
    name, change, message = TENSORS[case]
    said = refusal(with_tensors(model, name, change))
    assert said.startswith(str(model / name))
    assert message in said


@pytest.mark.parametrize("case", MISFITS)
def test_tensors_that_are_not_those_of_the_model_are_named(model, case):
    name, change, message = MISFITS[case]
    assert message in refusal(with_tensors(model, name, change))


@pytest.mark.parametrize("name", [MEMBERS, BASE])
def test_damaged_bytes_of_tensors_are_named(model, name):
    size = (model / name).stat().st_size
    (model / name).write_bytes(b"\xff" * size)
    assert refusal(model).startswith(f"{model / name} cannot be read (SafetensorError: ")


def test_finite_values_of_any_size_are_finite(tmp_path):
    check_finite({"a": torch.full((9,), 3e38), "b": torch.arange(3), "c": torch.full((4,), 6e4).half()}, tmp_path)


# ---- files ---------------------------------------------------------------------------------------------------------


def test_a_device_is_not_read(model):
    (model / "tokenizer.json").unlink()
    (model / "tokenizer.json").symlink_to("/dev/zero")
    said = refusal(model)
    assert said == f"{model / 'tokenizer.json'} is a pipe or device where a file was expected: {AGAIN}"


@pytest.mark.parametrize("name", [MEMBERS, "config.json"])
def test_a_folder_in_place_of_a_file_is_named(model, name):
    (model / name).unlink()
    (model / name).mkdir()
    assert refusal(model).startswith(f"{model / name} is ")


# ---- config.json, tokenizer, adapter -------------------------------------------------------------------------------

CONFIGS = {
    "endless layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, where at most 2000"),
    "a huge vocabulary": ({"vocab_size": 2**40}, "vocab_size is 1099511627776, where at most 100000000"),
    "an endless number": ({"hidden_size": 10**30}, "hidden_size is 1000000000000000000000000000000, which no model"),
    "infinite": ({"hidden_size": 1e308}, "hidden_size is 1e+308, where at most 100000000"),
    "a name in a list": ({"model_type": ["bert"]}, "model_type is ['bert'] where a name was expected"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_key_of_the_configuration_beyond_reason_is_named(model, case):
    changed, message = CONFIGS[case]
    assert refusal(with_json(model, "config.json", **changed)).startswith(f"{model / 'config.json'}: {message}")


@pytest.mark.parametrize("changed", [{"hidden_size": [16]}, {"id2label": 3}, {"dtype": []}])
def test_what_transformers_says_of_a_configuration_is_one_line(model, changed):
    assert str(model / "config.json") in refusal(with_json(model, "config.json", **changed))


def test_a_tokenizer_that_cannot_be_read_is_named(model):
    said = refusal(with_json(model, "tokenizer.json", model={"type": "WordLevel", "vocab": {"a": -1.5}}))
    assert said.startswith(f"{model / 'tokenizer.json'} cannot be read (")


def test_texts_of_tokens_that_the_model_does_not_know_end_in_one_line(model):
    vocabulary = json.loads((model / "tokenizer.json").read_text())
    vocabulary["model"]["vocab"] |= {"parcel": 70_000}
    with_json(model, "tokenizer.json", **vocabulary)
    classifier = load(model, "cpu")
    with pytest.raises(ArtifactError, match=rf"^{model} cannot compute these texts \(IndexError: .*\): {AGAIN}$"):
        classifier("parcel")


def test_a_prediction_that_is_no_number_is_refused(model):
    with_json(model, "config.json", layer_norm_eps=float("nan"))
    try:
        classifier = load(model, "cpu")
    except ArtifactError:  # transformers 5 checks it
        return
    with pytest.raises(ArtifactError, match="predicts NaN"):
        classifier("parcel")


ADAPTERS = {
    "no JSON": (b"{", "is damaged ("),
    "no type": (b"{}", "cannot be read ("),
    "an unknown type": (b'{"peft_type": "MAGIC", "task_type": "SEQ_CLS"}', "cannot be read ("),
    "an endless rank": (b'{"peft_type": "LORA", "r": 1e308}', ": r is 1e+308, where at most 100000000"),
}


@pytest.mark.parametrize("case", ADAPTERS)
def test_an_adapter_that_cannot_be_read_is_named(tmp_path, case):
    content, message = ADAPTERS[case]
    folder = shutil.copytree(FORMAT_1 / "lora_deni", tmp_path / "model")
    (folder / "adapter_config.json").write_bytes(content)
    assert refusal(folder).startswith(f"{folder / 'adapter_config.json'}{' ' * (message[0] != ':')}{message}")


def test_export_of_a_damaged_artifact_leaves_nothing(model, tmp_path):
    with_json(model, INFO, runs=2)
    with pytest.raises(ArtifactError):
        export(model, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_plain_folder_with_weights_that_are_no_numbers_is_refused(tmp_path):
    (folder,) = export(FORMAT_1 / "full_deni", tmp_path / "out")
    weights = load_file(folder / "model.safetensors")
    weights[HEAD][0, 0] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=f"{HEAD} has 1 value that is not finite"):
        deni.load(folder)
