"""`deni predict` writes what is asked for next to the label."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from deni.artifact import SCOPE, load, scope_of
from deni.cli import main
from deni.commands.calibration import read_calibration
from deni.commands.predict import predict_file
from deni.data import Texts, read_texts
from deni.errors import InputError
from deni.finetune import fine_tune
from deni.recipe import Recipe
from deni.strategies import DelayedEnsemble
from deni.tuning import Lora
from tests.helpers.generators import save_generator


@pytest.fixture
def model(fitted, tickets, tmp_path):
    """An artifact that knows its labeled texts."""
    result = fitted()
    known = replace(result, scope=scope_of(result.classifier(), read_texts(tickets).texts))
    return known.save(tmp_path / "model")


def test_scope_is_a_column(model, tickets, tmp_path):
    predict_file(model, tickets, tmp_path / "out.csv", scope=True)
    table = pd.read_csv(tmp_path / "out.csv")
    assert list(table.columns)[-2:] == ["entropy", "out_of_scope"]
    expected = load(model, "cpu").scope(read_texts(tickets).texts)
    assert table["out_of_scope"].tolist() == expected.round(1).tolist()
    predict_file(model, tickets, tmp_path / "plain.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "plain.csv"), table.drop(columns="out_of_scope"))


def test_scope_without_labeled_texts_is_refused_before_anything_is_read(fitted, tmp_path):
    folder = fitted(epochs=1).save(tmp_path / "model")
    assert not (folder / SCOPE).exists()
    with pytest.raises(InputError, match="does not know where its labeled texts lie"):
        predict_file(folder, tmp_path / "missing.csv", tmp_path / "out.csv", scope=True)


def test_sets_are_a_column_of_lists_or_of_names_with_semicolons(model, tickets, tmp_path):
    said = []
    options = {"sets": 0.9, "calibration": tickets, "on_sets": said.append}
    predict_file(model, tickets, tmp_path / "out.jsonl", **options)
    predict_file(model, tickets, tmp_path / "out.csv", **options)
    classifier, texts = load(model, "cpu"), read_texts(tickets)
    expected = classifier.conformal(0.9, read_calibration(classifier, tickets))(texts.texts)
    assert pd.read_json(tmp_path / "out.jsonl", lines=True)["set"].tolist() == expected
    assert pd.read_csv(tmp_path / "out.csv")["set"].tolist() == [";".join(labels) for labels in expected]
    right = [label in labels for label, labels in zip(texts.labels, expected, strict=True)]
    assert np.mean(right) >= 0.9  # on the very texts that they are calibrated on
    assert [(each.level, each.texts) for each in said] == [(0.9, 36), (0.9, 36)]


def test_a_level_of_sets_in_percent_is_refused(model, tickets):
    done = CliRunner().invoke(main, ["predict", str(model), tickets, "--sets", "90"])
    assert done.exit_code == 2
    assert "--sets must be between 0 and 1, such as 0.9, not 90" in done.output


def test_sets_without_labeled_texts_are_refused(model, tickets, tmp_path):
    with pytest.raises(InputError, match="nothing that prediction sets could be calibrated on: give labeled texts"):
        predict_file(model, tickets, tmp_path / "out.csv", sets=0.9)
    with pytest.raises(InputError, match="--calibration is for --accuracy and --sets: give --accuracy or --sets"):
        predict_file(model, tickets, tmp_path / "out.csv", calibration=tickets)


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator")
    texts = Texts(["1+1=", "2+1="], ["2", "3"], "qa.jsonl", None, "generation")
    recipe = Recipe(
        model=save_generator(folder / "llama", "llama"),
        task="generation",
        strategy=DelayedEnsemble(members=3, variance=0.3),
        tuning=Lora(lora_r=4),
        epochs=1,
    )
    return fine_tune(texts, recipe, progress=False).save(folder / "model")


def test_a_model_that_generates_answers_prompts_as_json_lines(generator, tmp_path):
    prompts = ["1+2=", "3+3=", "2+1="]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": each, "answer": 7}) + "\n" for each in prompts))
    found = CliRunner().invoke(main, ["predict", str(generator), str(file), "--device", "cpu"])
    assert found.exit_code == 0, found.output
    loaded = load(generator, "cpu")
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert [(row["prompt"], row["given_answer"], row["answer"]) for row in rows] == [
        (prompt, 7, answer.text) for prompt, answer in zip(prompts, loaded.generate(prompts), strict=True)
    ]
    options = ["--vote", "answers", "--max-new-tokens", "4", "--output", str(tmp_path / "out.csv")]
    found = CliRunner().invoke(main, ["predict", str(generator), str(file), *options])
    assert found.exit_code == 0, found.output
    table = pd.read_csv(tmp_path / "out.csv", keep_default_na=False, dtype={"answer": str})
    expected = loaded.generate(prompts, vote="answers", max_new_tokens=4)
    assert table["answer"].tolist() == [each.text for each in expected]
    assert [json.loads(each) for each in table["answers"]] == [each.answers for each in expected]
    assert table["answer_agreement"].tolist() == pytest.approx([each.agreement for each in expected])


def test_options_of_the_other_kind_of_model_are_refused(generator, fitted, tickets, tmp_path):
    classifier = fitted(epochs=1).save(tmp_path / "model")
    cases = [
        (generator, ["--accuracy", "0.9"], "generates texts and labels none: omit --accuracy"),
        (generator, ["--scope", "--uncalibrated"], "generates texts and labels none: omit --scope and --uncalibrated"),
        (classifier, ["--vote", "tokens"], "labels texts and generates none: omit --vote"),
    ]
    for model, options, message in cases:
        found = CliRunner().invoke(main, ["predict", str(model), str(tickets), *options])
        assert found.exit_code == 2
        assert message in " ".join(found.stderr.split())
