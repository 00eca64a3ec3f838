"""Pairs of texts: read, tokenized, trained on, voted on, refused where they do not fit."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import deni
from deni.artifact import export
from deni.cli import main
from deni.data import check_trainable, read_texts
from deni.errors import InputError, InputWarning
from deni.finetune import fine_tune
from deni.models.loading import load_tokenizer
from deni.models.tokenizing import choose_max_length, tokenize
from deni.recipe import Recipe
from tests.helpers.tiny import toy_rows

COLUMNS = {"text_column": "first", "text_pair_column": "second"}


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def frame(seed=0):
    """Two texts of a class each; the label says whether the classes are equal."""
    one, two = toy_rows(seed=seed), toy_rows(seed=seed + 1)[::2] * 2
    rows = [(a, b, "same" if x == y else "other") for (a, x), (b, y) in zip(one, two, strict=True)]
    return pd.DataFrame(rows, columns=["first", "second", "label"])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    file = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    frame().to_csv(file, index=False)
    return file


@pytest.fixture(scope="module")
def pair_model(model_folder, tmp_path_factory):
    """The tiny model with a tokenizer that tells the first text of a pair from the second."""
    folder = tmp_path_factory.mktemp("pair_model") / "tiny"
    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    names = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "model_input_names": names}))
    return str(folder)


@pytest.fixture(scope="module")
def trained(pairs, pair_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "model"
    flags = ("--text-column", "first", "--text-pair-column", "second", "--model", pair_model, "--output", folder)
    result = run("train", pairs, *flags, "--strategy", "deni", "--members", 3, "--epochs", 3, "--no-progress")
    assert result.exit_code == 0, result.output
    return folder


def test_a_pair_is_tokenized_as_the_tokenizer_does_it(pairs, pair_model):
    texts, tokenizer = read_texts(pairs, **COLUMNS), load_tokenizer(pair_model)
    given = frame()
    assert list(texts.texts) == list(zip(given["first"], given["second"], strict=True))
    rows = tokenize(texts, tokenizer, 40, ["other", "same"])
    for row, first, second in zip(rows, given["first"], given["second"], strict=True):
        one, two = (tokenizer(side, add_special_tokens=False)["input_ids"] for side in (first, second))
        assert row["input_ids"] == [2, *one, 3, *two, 3]
        assert row["token_type_ids"] == [0] * (len(one) + 2) + [1] * (len(two) + 1)
    longest = max(map(len, rows["input_ids"]))
    assert choose_max_length(tokenizer, texts, None, 40) == longest


@pytest.mark.parametrize("engine", ["stacked", "loop"])
def test_the_vote_on_pairs_is_that_of_the_members_in_plain_transformers(pairs, pair_model, tmp_path, engine):
    texts = read_texts(pairs, **COLUMNS)
    plan = Recipe.of(None, "deni", "full", {"members": 3}, {}, model=pair_model, epochs=3, engine=engine)
    fitted = fine_tune(texts, plan, progress=False, text_pair_column="second")
    assert fitted.trainer.population.engine_name == engine
    fitted.save(tmp_path / "model")
    said = []
    for member in export(tmp_path / "model", tmp_path / "members", "members"):
        model, tokenizer = (
            AutoModelForSequenceClassification.from_pretrained(member),
            AutoTokenizer.from_pretrained(member),
        )
        with torch.no_grad():
            logits = [model(**tokenizer(a, b, return_tensors="pt")).logits[0] for a, b in texts.texts[:7]]
        said.append(torch.stack(logits).double().softmax(-1).numpy())
    classifier = deni.load(tmp_path / "model", "cpu")
    ours = np.exp(classifier.predict_log_probabilities(texts.texts[:7]))
    np.testing.assert_allclose(ours, np.mean(said, 0), atol=1e-5)
    np.testing.assert_allclose(np.exp(classifier.members(texts.texts[:7])), np.stack(said, 1), atol=1e-5)


def test_both_engines_train_the_same_members_on_pairs(pairs, pair_model):
    texts, members = read_texts(pairs, **COLUMNS), []
    for engine in ("stacked", "loop"):
        plan = Recipe.of(None, "deni", "full", {"members": 3}, {}, model=pair_model, epochs=3, engine=engine)
        members.append(fine_tune(texts, plan, progress=False).classifier().members(texts.texts))
    np.testing.assert_allclose(*members, atol=1e-4)


def test_the_model_remembers_the_column_of_the_second_texts(trained, pairs, tmp_path):
    assert "token_type_ids" in deni.load(trained).tokenizer.model_input_names
    info = json.loads((trained / "deni.json").read_text())
    assert info["text_pair_column"] == "second"
    shown = run("evaluate", trained, pairs, "--text-column", "first", "--json")
    assert json.loads(shown.stdout)["texts"] == 36
    renamed = tmp_path / "renamed.csv"
    frame().rename(columns={"second": "answer"}).to_csv(renamed, index=False)
    out = tmp_path / "out.csv"
    flags = ("--text-column", "first", "--text-pair-column", "answer", "--output", out)
    assert run("predict", trained, renamed, *flags).exit_code == 0
    classifier = deni.load(trained)
    given = frame()
    want = classifier(list(zip(given["first"], given["second"], strict=True)))
    assert list(pd.read_csv(out)["label"]) == [each["label"] for each in want]
    assert classifier((given["first"][0], given["second"][0]))[0]["confidence"] == pytest.approx(want[0]["confidence"])
    assert 'classifier([("a text", "another")])' in (trained / "README.md").read_text()


# ---- what does not fit ---------------------------------------------------------------------------------------------


def refused(result, *parts):
    assert result.exit_code == 2, result.output
    error = result.stderr.splitlines()[-1]
    assert error.startswith("Error:")
    for part in parts:
        assert part in error


def test_a_missing_or_empty_second_text_is_named(trained, tmp_path):
    file = tmp_path / "bad.csv"
    file.write_text("first,second,label\nhello,,same\n")
    refused(run("predict", trained, file, "--text-column", "first"), str(file), "line 2", "'second'", "empty text")
    file.write_text("first,label\nhello,same\n")
    refused(run("predict", trained, file, "--text-column", "first"), "no column 'second'", "--text-pair-column")
    refused(
        run("predict", trained, file, "--text-column", "first", "--text-pair-column", "first"),
        "--text-column and --text-pair-column both name 'first'",
    )


def test_pairs_and_single_texts_are_not_taken_for_each_other(trained, fitted):
    classifier = deni.load(trained)
    with pytest.raises(InputError, match=r"text 0 is 'hello': the model was trained on pairs, give \(text, text\)"):
        classifier("hello")
    with pytest.raises(InputError, match=r"text 1 .*every text must be a string that is not empty"):
        classifier([("hello", "you"), ("hello", " ")])
    with pytest.raises(InputError, match="every text must be a string"):
        fitted().classifier()([("hello", "you")])


def test_a_model_of_single_texts_refuses_a_column_of_second_ones(fitted, pairs, tmp_path):
    fitted().save(tmp_path / "single")
    result = run("evaluate", tmp_path / "single", pairs, "--text-column", "first", "--text-pair-column", "second")
    refused(result, "trained on one text a row", "omit --text-pair-column")


def test_augmentation_of_pairs_is_refused(pairs, pair_model, tmp_path):
    (tmp_path / "augmented.csv").write_text("seed,text\na,b\n")
    flags = ("--text-column", "first", "--text-pair-column", "second", "--strategy", "augmentation")
    own = ("--augmented", tmp_path / "augmented.csv", "--model", pair_model, "--output", tmp_path / "model")
    refused(run("train", pairs, *flags, *own), "not pairs", "omit --text-pair-column, or read", "--preset paper")


def test_pairs_with_two_labels_and_pairs_on_both_sides_are_warned_of(tmp_path):
    file = tmp_path / "twice.csv"
    file.write_text("first,second,label\na,b,x\na,b,y\na,c,x\nb,a,y\n")
    texts = read_texts(file, **COLUMNS)
    with pytest.warns(InputWarning, match=r"1 text occurs with different labels, such as .*'a', 'b'"):
        check_trainable(texts)
    with pytest.warns(InputWarning, match="1 of 1 test texts are also in the training split, the first at line 4"):
        check_trainable(texts.select([0, 2, 3]), texts.select([2]))
