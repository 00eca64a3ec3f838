"""Datasets of the hub, from a server that speaks its protocol; the client runs in a process of its own."""

import io
import json
import os
import subprocess
import sys

import datasets
import httpx
import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from deni.data import DATASETS
from deni.data.hub import is_hub_id, read_hub
from deni.errors import InputError
from tests.helpers.hub_server import HubServer

CALL = """
import json, sys
from deni.data import read_data
from deni.errors import InputError
for data, options in json.loads(sys.argv[1]):
    try:
        texts = read_data(data, **options)
        print(json.dumps([texts.texts, texts.labels, texts.source]))
    except InputError as error:
        print(json.dumps(str(error)))
"""


def parquet(columns, **features) -> bytes:
    buffer = io.BytesIO()
    kinds = {name: features.get(name, Value("string")) for name in columns}
    Dataset.from_dict(columns, features=Features(kinds)).to_parquet(buffer)
    return buffer.getvalue()


def repository(configs) -> dict[str, bytes]:
    """The files of a repository: config -> split -> content."""
    lines = ["---", "configs:"]
    files = {}
    for config, splits in configs.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        for split, content in splits.items():
            lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
            files[f"{config}/{split}-00000-of-00001.parquet"] = content
    return {**files, "README.md": "\n".join([*lines, "---", ""]).encode()}


@pytest.fixture(scope="module")
def hub():
    animals = ClassLabel(names=["cat", "dog"])
    whole = {"question": ["It purrs.", "It barks.", "It sleeps."], "kind": [0, 1, 0]}
    more = {"question": ["It fetches.", " ", "It hides."], "kind": [1, 0, -1]}
    questions = {"text": ["Who?", "Where?"], "coarse_label": [3, 4], "fine_label": [1, 0]}
    coarse = ClassLabel(names=["ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"])
    fine = ClassLabel(names=["LOC:city", "HUM:ind"])
    pair = {"sentence1": ["It rains.", "It is dry."], "sentence2": ["It is wet.", "It is wet."], "label": [0, 1]}
    rte = parquet(pair, label=ClassLabel(names=["entailment", "not_entailment"]))
    yes = {"question": ["is it"], "passage": ["It is."], "answer": [True]}
    several = {"text": ["a", "b"], "label": [[0, 1], []]}
    named = {"tokens": [["Anna", "left"], [], ["Yes"]], "ner_tags": [[1, 0], [], [0]]}
    persons = Sequence(ClassLabel(names=["O", "B-PER", "I-PER"]))
    repositories = {
        "someone/animals": repository(
            {"default": {"train": parquet(whole, kind=animals), "test": parquet(more, kind=animals)}}
        ),
        DATASETS["trec"].hub: repository(
            {"default": dict.fromkeys(("train", "test"), parquet(questions, coarse_label=coarse, fine_label=fine))}
        ),
        DATASETS["rte"].hub: repository({"rte": {"train": rte, "validation": rte}}),
        DATASETS["boolq"].hub: repository(
            {"default": dict.fromkeys(("train", "validation"), parquet(yes, answer=Value("bool")))}
        ),
        "someone/names": repository(
            {"default": {"train": parquet(named, tokens=Sequence(Value("string")), ner_tags=persons)}}
        ),
        "someone/plain": {f"{split}.csv": b"text,label\nIt purrs.,cat\n" for split in ("train", "test")},
        "someone/several": repository({"default": {"train": parquet(several, label=Sequence(animals))}}),
    }
    with HubServer(repositories) as server:
        yield server.url


@pytest.fixture(scope="module")
def read(hub, tmp_path_factory):
    """Reads each of these in one process without a cache; values, or the line of an error."""

    def call(*wanted, endpoint=hub, **environment):
        own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path_factory.mktemp("cache")), **environment}
        env = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "DENI_DATA")}
        done = subprocess.run(
            [sys.executable, "-c", CALL, json.dumps(wanted)],
            **{"env": {**env, **own}, "capture_output": True, "text": True, "check": False},
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return call


@pytest.fixture(scope="module")
def answers(read):
    columns = {"text_column": "question", "label_column": "kind"}
    wanted = {
        "one split": ("someone/animals", columns),
        "a split without labels": ("someone/animals", {**columns, "split": "test"}),
        "unlabelled": ("someone/animals", {"text_column": "question", "labels": False, "split": "test"}),
        "a slice": ("someone/animals", {**columns, "split": "train[1:]+test[:1]"}),
        "no such split": ("someone/animals", {**columns, "split": "dev"}),
        "no such column": ("someone/animals", {}),
        "no such config": ("someone/animals", {**columns, "config_name": "cats"}),
        "no such dataset": ("someone/plants", {}),
        "plain files": ("someone/plain", {"split": "train+test"}),
        "several": ("someone/several", {"task": "multi_label"}),
        "words": ("someone/names", {"text_column": "tokens", "label_column": "ner_tags", "task": "token"}),
        "trec": ("trec", {}),
        "fine": ("trec", {"label_column": "fine_label", "split": "test"}),
        "rte": ("rte", {"split": "train"}),
        "one text": ("rte", {"split": "train", "pairs": False}),
        "boolq": ("boolq", {"split": "train"}),
    }
    return dict(zip(wanted, read(*wanted.values()), strict=True))


def test_numbers_of_classes_become_their_names(answers):
    assert answers["one split"] == [["It purrs.", "It barks.", "It sleeps."], ["cat", "dog", "cat"], "someone/animals"]
    assert answers["a slice"][:2] == [["It barks.", "It sleeps.", "It fetches."], ["dog", "cat", "dog"]]
    assert answers["several"][:2] == [["a", "b"], [["cat", "dog"], []]]


def test_plain_files_of_a_repository_are_its_splits(answers):
    assert answers["plain files"][:2] == [["It purrs."] * 2, ["cat"] * 2]


@pytest.mark.parametrize("error", [httpx.ReadTimeout("too slow"), AttributeError("no 'get'")])
def test_whatever_datasets_raises_is_one_line(monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fails)
    with pytest.raises(InputError, match=f"^dataset someone/animals cannot be loaded: {error}"):
        read_hub("someone/animals", "train", columns=["text"], label="label")


def test_what_was_loaded_once_is_found_without_the_hub(read, tmp_path):
    call = ("trec", {}), ("someone/plain", {})
    loaded = read(*call, HF_HOME=str(tmp_path))
    assert loaded == read(*call, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert loaded[0][1] == ["human", "location"] * 2


def test_words_have_the_names_of_their_tags(answers):
    assert answers["words"][:2] == [[["Anna", "left"], ["Yes"]], [["B-PER", "O"], ["O"]]]


def test_rows_without_a_text_are_left_out(answers):
    assert answers["unlabelled"] == [["It fetches.", "It hides."], None, "someone/animals"]


def test_a_named_dataset_has_its_own_columns_splits_and_class_names(answers):
    assert answers["trec"] == [["Who?", "Where?"] * 2, ["human", "location"] * 2, "trec"]
    assert answers["fine"][:2] == [["Who?", "Where?"], ["HUM:ind", "LOC:city"]]
    assert answers["boolq"][:2] == [[["is it", "It is."]], ["True"]]


def test_a_named_dataset_of_pairs_gives_pairs_or_one_text(answers):
    assert answers["rte"][:2] == [
        [["It rains.", "It is wet."], ["It is dry.", "It is wet."]],
        ["entailment", "not_entailment"],
    ]
    assert answers["one text"][0][0] == "Sentence 1: It rains.; Sentence 2: It is wet."


@pytest.mark.parametrize(
    ("what", "parts"),
    [
        ("a split without labels", ["'test' have no label", "another --split"]),
        ("no such split", ['Unknown split "dev"', "'train', 'test'"]),
        ("no such column", ["no column 'text' among 'question', 'kind'", "--text-column"]),
        ("no such config", ["'cats' not found", "'default'", "--config-name"]),
        ("no such dataset", ["someone/plants: no such file, and no such dataset on the hub"]),
    ],
)
def test_what_the_hub_does_not_have_is_said_in_one_line(answers, what, parts):
    for part in parts:
        assert part in answers[what]
    assert "\n" not in answers[what]


def test_without_the_hub_a_line_says_what_to_do(read):
    one, named = read(("someone/animals", {}), ("trec", {}), HF_HUB_OFFLINE="1")
    assert "someone/animals: no such file, and the hub cannot be reached" in one
    assert one.endswith("or give a file")
    assert named.endswith("or put trec.csv.gz into a folder and name it with DENI_DATA")


def test_what_may_be_a_file_is_no_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("someone/animals")
    (tmp_path / "someone").mkdir()
    assert not any(map(is_hub_id, ("someone/animals", "a/b/c", "animals", "-", "/animals", "./animals")))
