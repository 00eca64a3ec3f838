"""The paper's protocol, and which texts a preset or a seed takes."""

import gzip
import json

import pandas as pd
import pytest
from click.testing import CliRunner

from deni.cli import main
from deni.commands.train import train_file
from deni.data import DATASETS
from deni.recipe import Recipe
from tests.helpers.tiny import toy_rows, write_csv


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def seen(monkeypatch):
    """What training and evaluation get; nothing is trained."""

    class Stop(Exception):
        pass

    def call(path, plan=None, **options):
        found = {}

        def fine_tune(train, recipe, **rest):
            found.update(train=train, dev=rest["dev"])

            class Result:
                interrupted, schedule = False, None

                def test(self, texts, progress):
                    found["test"] = texts

                def save(self, *_, **__):
                    raise Stop

            return Result()

        monkeypatch.setattr("deni.commands.train.fine_tune", fine_tune)
        monkeypatch.setattr("deni.commands.train.fit_added", lambda *_: None)
        with pytest.raises(Stop):
            train_file(path, recipe=plan or Recipe.of(), output="nowhere", **options)
        return found

    return call


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """1,500 different texts of 3 classes of equal size."""
    rows = [(f"{text} {at}", label) for at, (text, label) in enumerate(toy_rows(500))]
    return write_csv(tmp_path_factory.mktemp("many") / "many.csv", rows)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DENI_DATA", str(tmp_path))
    pairs = [
        (f"Sentence 1: {a}; Sentence 2: {a}", "equivalent" if i % 2 else "not_equivalent")
        for i, (a, _) in enumerate(toy_rows(20))
    ]
    for name, rows in (("mrpc", pairs), ("trec", toy_rows(12))):
        csv = pd.DataFrame(rows, columns=["text", "label"]).to_csv(index=False)
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(csv.encode()))
    return tmp_path


def test_the_protocol_trains_on_1000_texts_and_tests_on_a_fifth(seen, many):
    found = seen(many, protocol="paper")
    counts = pd.Series(found["train"].labels).value_counts()
    assert sorted(counts) == [333, 333, 334]
    assert pd.Series(found["test"].labels).value_counts().tolist() == [100, 100, 100]
    assert not set(found["train"].texts) & set(found["test"].texts)


def test_other_numbers_can_be_given_and_leave_the_other_parts_as_they_are(seen, many):
    whole = seen(many, protocol="paper", dev="0.1")
    fewer = seen(many, protocol="paper", dev="0.1", test_size=40)
    assert sorted(pd.Series(fewer["test"].labels).value_counts()) == [13, 13, 14]
    assert set(fewer["test"].texts) < set(whole["test"].texts)
    assert (fewer["train"].texts, fewer["dev"].texts) == (whole["train"].texts, whole["dev"].texts)
    assert len(seen(many, protocol="paper", labelled=100)["train"]) == 100


def test_all_data_takes_all_in_the_protocol_too(seen, many):
    assert len(seen(many, Recipe.of(strategy="all_data"), protocol="paper")["train"]) == 1200


@pytest.mark.parametrize(("preset", "count"), [(None, 100), ("paper", 100), ("released", 102)])
def test_the_preset_released_rounds_up_in_each_class(seen, many, preset, count):
    assert len(seen(many, preset=preset, labelled=100)["train"]) == count


def test_a_seed_of_the_split_or_the_choice_varies_that_alone(seen, many):
    def parts(seeds=None, **options):
        found = seen(many, Recipe.of(source_seeds=seeds or {}), labelled=30, **options)
        return found["train"].texts, found["test"].texts

    plain, choice = parts(), parts({"label_choice": 1})
    assert choice[1] == plain[1]
    assert choice[0] != plain[0]
    assert parts({"data_split": 1})[1] != plain[1]
    assert parts({"data_split": 1, "label_choice": 1}) == parts(block=1)


@pytest.mark.parametrize(
    "options", [{"preset": "paper"}, {"preset": "released"}, {"protocol": "paper", "labelled": 20}]
)
def test_a_preset_reads_a_named_pair_as_one_text(seen, folder, options):
    assert all(text.startswith("Sentence 1: ") for text in seen("mrpc", **options)["train"].texts)
    assert all(isinstance(text, tuple) for text in seen("mrpc")["train"].texts)


@pytest.mark.parametrize("name", DATASETS)
def test_a_preset_has_the_length_of_a_named_dataset(name):
    assert Recipe.of("paper", data=name).max_length == (25 if name in ("trec", "snips", "cola") else 50)
    assert Recipe.of("paper", data=name, max_length=7).max_length == 7
    assert Recipe.of(data=name).max_length is None
    assert Recipe.of("paper", data="tickets.csv").max_length == 50


# ---- as a user -----------------------------------------------------------------------------------------------------


def test_train_evaluate_and_predict_take_a_name(folder, model_folder):
    flags = ("--model", model_folder, "--strategy", "default", "--epochs", 1, "--no-progress")
    out = folder / "model"
    own = ("--protocol", "paper", "--labeled", 12, "--seed-dropout", 3, "--seed-label-choice", 4, "--test-size", 5)
    done = run("train", "--data", "trec", *flags, *own, "--output", out)
    assert done.exit_code == 0, done.output
    info = json.loads((out / "deni.json").read_text())
    assert info["source_seeds"] == {"dropout": 3, "label_choice": 4}
    wanted = {"data": "trec", "protocol": "paper", "preset": "paper", "labelled": 12, "test_size": 5, "block": 0}
    assert {key: info["data"][key] for key in wanted} == wanted
    assert (info["max_length"], info["metrics"]["test_texts"]) == (25, 5)
    assert json.loads(run("evaluate", out, "trec", "--json").output)["texts"] == 36
    assert "36 texts labeled" in run("predict", out, "trec", "--output", folder / "out.csv").output


@pytest.mark.parametrize("protocol", [(), ("--protocol", "paper", "--max-length", 40)])
def test_a_model_reads_a_named_pair_as_it_was_trained(folder, model_folder, protocol):
    flags = ("--model", model_folder, "--strategy", "default", "--epochs", 1, "--no-progress", "--labeled", 20)
    out = folder / "model"
    done = run("train", "mrpc", *flags, *protocol, "--output", out)
    assert done.exit_code == 0, done.output
    pair = json.loads((out / "deni.json").read_text())["text_pair_column"]
    assert pair == (None if protocol else "text_pair")
    done = run("predict", out, "mrpc", "--output", folder / "out.csv")
    assert done.exit_code == 0, done.output
    written = pd.read_csv(folder / "out.csv")
    assert len(written) == 60
    assert ("text_pair" in written.columns) == (not protocol)
    assert written["text"].str.startswith("Sentence 1: ").all() == bool(protocol)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("trex",), "no such file, and no dataset of that name; did you mean trec"),
        ((), "give one FILE, or --data"),
        (("a.csv", "--data", "b.csv"), "give one FILE, or --data"),
        (("trec", "--test", "0", "--test-size", 5), "--test-size needs a test split"),
        (("trec", "--protocol", "paper"), "1000 labeled examples asked for, but there are"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(folder, words, message):
    done = run("train", *words, "--output", folder / "model")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (folder / "model").exists()
