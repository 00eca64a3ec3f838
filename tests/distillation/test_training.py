"""Students of tiny teachers: against a loop in plain PyTorch, and from where they start."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import deni
from deni.artifact import export
from deni.distillation import Distillation, distil, make_student
from deni.distillation.recipes import recipe_of
from deni.errors import ArtifactError
from deni.measures import macro_f1
from tests.distillation.conftest import toy_texts
from tests.helpers.members import At

TASKS = ["single_label", "multi_label", "regression", "token"]
QUIET = {"progress": False, "device": "cpu"}


def learned(teacher, task="single_label", options=None, **given):
    """The student of a teacher, and the teacher as a classifier."""
    classifier = teacher.classifier()
    pool = toy_texts(task, 6, seed=5)
    options = options or Distillation(held_out=0)
    return distil(classifier, pool, labeled=toy_texts(task), options=options, **QUIET, **given), classifier


@pytest.fixture(scope="session")
def without_dropout(model_folder, tmp_path_factory):
    """The tiny model, without dropout."""
    folder = tmp_path_factory.mktemp("still") / "tiny-bert"
    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_a_student_equals_a_loop_in_plain_pytorch(taught, without_dropout):
    """All texts in each batch: their order plays no part."""
    teacher = taught(model=without_dropout, dropout=0.0)
    recipe = dataclasses.replace(recipe_of(teacher.info()), batch_size=128, epochs=3)
    options = Distillation(start="merged", held_out=0, vote_temperature=1.5)
    result, classifier = learned(teacher, options=options, recipe=recipe)
    student = make_student(
        classifier,
        toy_texts("single_label", 6, seed=5),
        labeled=toy_texts("single_label"),
        recipe=recipe,
        options=options,
    )
    assert (result.member_steps, len(student.texts)) == (3, 24 + 18)

    model = AutoModelForSequenceClassification.from_pretrained(without_dropout, num_labels=3)
    model.load_state_dict(student.initial)
    tokens = AutoTokenizer.from_pretrained(without_dropout)(student.texts.texts, padding=True, return_tensors="pt")
    soft, weights = torch.tensor(student.texts.soft).float(), torch.tensor(student.texts.weights).float()
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-3, weight_decay=0.0)
    for step in range(3):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / 3)
        losses = -(soft * F.log_softmax(model(**tokens).logits, -1)).sum(-1)
        ((weights * losses).sum() / weights.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        expected = model.eval()(**tokens).logits.log_softmax(-1).numpy()
    before = AutoModelForSequenceClassification.from_pretrained(without_dropout, num_labels=3)
    before.load_state_dict(student.initial)
    moved = before.eval()(**tokens).logits.log_softmax(-1).detach().numpy()
    assert np.abs(moved - expected).max() > 0.01
    assert result.classifier().votes(student.texts.texts) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("tuning", ["full", "lora", "ia3", "prompt"])
def test_a_merged_start_is_the_mean_of_the_members(taught, tuning, tmp_path):
    teacher = taught(tuning=tuning)
    recipe = dataclasses.replace(recipe_of(teacher.info()), learning_rate=1e-12)
    result, classifier = learned(teacher, options=Distillation(start="merged", held_out=0), recipe=recipe)
    texts = toy_texts("single_label", 2, seed=9).texts
    found = result.classifier().votes(texts)
    members = classifier.members(texts)
    assert np.abs(members - found[:, None]).max(axis=(0, 2)).min() > 1e-3  # it is none of them
    if tuning == "prompt":  # which export cannot merge into a model
        population = teacher.trainer.population
        mean = {name: value.mean(0) for name, value in population.values.items()}
        held = {name: torch.stack([each] * 3) for name, each in mean.items()}
        with population.holding(held):
            expected = teacher.classifier().members(texts)[:, 0]
    else:
        teacher.save(tmp_path / "teacher")
        export(tmp_path / "teacher", tmp_path / "one", calibrated=False, merge_lora="product")
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "one").eval()
        tokens = AutoTokenizer.from_pretrained(tmp_path / "one")(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            expected = model(**tokens).logits.log_softmax(-1).numpy()
    assert found == pytest.approx(expected, abs=1e-4)


def test_other_start_values_are_those_of_the_encoder(taught):
    """A student that hardly trains is an encoder with a new output layer, not its teacher."""
    teacher = taught()
    recipe = dataclasses.replace(recipe_of(teacher.info()), learning_rate=1e-12)
    result, _ = learned(teacher, recipe=recipe)
    pretrained = AutoModelForSequenceClassification.from_pretrained(recipe.model, num_labels=3).state_dict()
    values = result.trainer.population.member(0)
    differ = {name for name, value in values.items() if not torch.allclose(value, pretrained[name], atol=1e-7)}
    assert differ == {"classifier.weight"}  # its bias starts at 0


@pytest.mark.parametrize("task", TASKS)
def test_a_student_is_an_artifact_like_any_other(taught, task, tmp_path):
    result, classifier = learned(taught(task), task, Distillation(held_out=1))
    result.save(tmp_path / "student")
    loaded = deni.load(tmp_path / "student", "cpu")
    texts = toy_texts(task, 2, seed=9).texts
    assert loaded.labels == classifier.labels
    assert loaded.votes(texts) == pytest.approx(result.classifier().votes(texts), abs=1e-5)
    info = loaded.info["distillation"]
    assert info["teacher"]["members"] == 3
    assert info["member_steps"] == result.member_steps == info["steps"]
    assert info["pool"]["used"] + info["pool"]["held_out"] == 18
    assert ("agreement" in info) == (task != "regression")  # one text has no correlation
    assert loaded.info["members"] == 1


def test_classes_that_no_text_has_keep_their_outputs(taught):
    """A pool without labels of one class: the student has the teacher's classes all the same."""
    teacher = taught().classifier()
    pool = toy_texts("single_label", 6, seed=5)
    student = make_student(teacher, pool, options=Distillation(held_out=0, vote_temperature=0.01))
    assert len(set(student.texts.labels)) < 3  # the tiny teacher says the same of most texts
    assert distil(teacher, pool, options=Distillation(held_out=0), **QUIET).labels == teacher.labels


def test_a_student_learns_what_nobody_told_it(taught):
    """From a teacher that can tell the classes, by texts of a pool alone."""
    teacher = taught(strategy="default", epochs=12, learning_rate=3e-3)
    pool, test = toy_texts("single_label", 25, seed=5), toy_texts("single_label", 10, seed=6)
    result = distil(teacher.classifier(), pool, test=test, **QUIET)
    gold = np.array([teacher.labels.index(label) for label in test.labels])
    score = macro_f1(result.classifier().votes(test.texts).argmax(-1)[None], gold)
    assert teacher.evaluate(test)["macro_f1"] > 0.8
    assert float(np.ravel(score)[0]) > 0.8
    assert result.added["distillation"]["agreement"] > 0.8


def test_a_student_resumes_and_not_as_another(taught, tmp_path):
    whole, _ = learned(taught())

    def stop(step, control):
        control.should_training_stop = control.should_save = True

    learned(taught(), checkpoints=tmp_path / "c", callbacks=[At([5], stop)])
    assert [each.name for each in Path(tmp_path / "c").iterdir()] == ["checkpoint-5"]
    again, _ = learned(taught(), checkpoints=tmp_path / "c", resume=True)
    for name, value in whole.trainer.population.values.items():
        assert torch.equal(value, again.trainer.population.values[name])
    with pytest.raises(ArtifactError, match="initial values"):
        learned(taught(), options=Distillation(start="merged", held_out=0), checkpoints=tmp_path / "c", resume=True)
    others = Distillation(labels_share=0.9, held_out=0)
    with pytest.raises(ArtifactError, match="training texts"):
        learned(taught(), options=others, checkpoints=tmp_path / "c", resume=True)


def test_another_model_can_be_the_student(taught, without_dropout):
    teacher = taught()
    result, _ = learned(teacher, recipe=recipe_of(teacher.info(), without_dropout))
    assert result.info()["recipe"]["model"] == without_dropout
    with pytest.raises(deni.errors.SettingError, match="needs the model of the teacher"):
        learned(teacher, options=Distillation(start="merged"), recipe=recipe_of(teacher.info(), without_dropout))
