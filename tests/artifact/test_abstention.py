"""A model answers where its out-of-fold predictions, or others' labels, support an accuracy."""

import numpy as np
import pytest
from scipy.special import log_softmax

from deni.artifact import Classifier, OutOfFold, load
from deni.artifact.abstention import describe_abstention, surest, why_no_abstention
from deni.errors import ArtifactError, InputError
from deni.tasks import TASKS

TEXTS = ["invoice money charged", "parcel late courier the box", "password reset", "why"]


def predictions(texts=200, wrong=(199, 180, 170), seeds=1) -> OutOfFold:
    """Three classes; the later a text, the less sure the prediction; `wrong` says which are wrong."""
    logits = np.stack([np.linspace(3, 0.5, texts), np.zeros(texts), np.zeros(texts)], 1)
    votes = np.tile(log_softmax(logits, -1).astype(np.float32), (seeds, 1, 1))
    gold = [1 if at in wrong else 0 for at in range(texts)]
    folds = np.tile(np.arange(texts) % 5, (seeds, 1))
    return OutOfFold({"vote": votes}, folds, gold, ["0" * 64] * texts, ["billing", "delivery", "login"])


@pytest.fixture
def classifier(fitted):
    """With these out-of-fold predictions, and a temperature."""

    def make(found=None, temperature=None, **settings):
        result = fitted(**settings)
        info = {**result.info(), **({"calibration": {"vote": {"temperature": temperature}}} if temperature else {})}
        trained = result.trainer.population, result.tokenizer, result.labels, info
        return Classifier(*trained, out_of_fold=found)

    return make


def test_answers_are_given_above_the_threshold_of_the_surest_texts(classifier):
    """3 of 200 wrong: 200 answers with 3 errors support 0.95 (it takes 153), 0.98 takes 149 without an error."""
    one = classifier(predictions())
    assert one.selection(0.95)[3:] == (1.0, 200, 3, 200)
    found = one.selection(0.98)
    assert (found.coverage, found.answered, found.errors) == (0.85, 170, 0)
    # Texts from number 170 on are not answered.
    assert found.threshold == pytest.approx(np.exp(predictions().outputs["vote"][0, 170, 0]), rel=1e-6)


@pytest.mark.parametrize("temperature", [None, 3.0])
def test_the_threshold_is_one_of_calibrated_confidences(classifier, temperature):
    found = predictions()
    one = classifier(found, temperature)
    row = log_softmax(found.outputs["vote"][0, 170].astype(float) / (temperature or 1))
    assert one.selection(0.98).threshold == pytest.approx(np.exp(row[0]), rel=1e-6)
    confidence, right = surest(found, TASKS["single_label"], temperature)
    assert confidence == pytest.approx(np.exp(log_softmax(found.outputs["vote"][0] / (temperature or 1), -1)).max(1))
    assert np.flatnonzero(~right).tolist() == [170, 180, 199]


def test_texts_that_are_not_answered_are_abstained_from(classifier):
    one = classifier(predictions())
    plain = one(TEXTS)
    confidences = [each["confidence"] for each in plain]
    selection = one.selection(0.95)._replace(threshold=sorted(confidences)[1])
    found = one(TEXTS, accuracy=selection)
    for each, before in zip(found, plain, strict=True):
        left = before["confidence"] <= selection.threshold
        assert each == {**before, "label": None if left else before["label"], "abstained": left}
    assert [each["abstained"] for each in found].count(True) == 2
    assert one.predict(TEXTS, accuracy=selection) == [each["label"] for each in found]
    assert [each["abstained"] for each in one(TEXTS, accuracy=0.95)] == [False] * 4


def test_several_divisions_do_not_count_a_text_twice(classifier):
    assert classifier(predictions(seeds=3)).selection(0.98) == classifier(predictions()).selection(0.98)


def test_an_artifact_remembers_where_it_may_answer(fitted, tmp_path):
    import dataclasses

    result = dataclasses.replace(fitted(), out_of_fold=predictions(), added={})
    folder = result.save(tmp_path / "model")
    assert load(folder, "cpu").selection(0.98) == result.classifier().selection(0.98)


def test_without_labels_to_tell_by_it_refuses_in_one_line(classifier, fitted, tmp_path):
    with pytest.raises(InputError, match=r"no out-of-fold predictions.*--cv 5.*--calibration FILE"):
        classifier().selection(0.95)
    with pytest.raises(InputError, match=r"no out-of-fold predictions"):
        load(fitted().save(tmp_path / "model"), "cpu")(TEXTS, accuracy=0.95)
    with pytest.raises(InputError, match=r"0.95 takes 59 answers .* there are 50 labeled texts: label at least 9 more"):
        classifier(predictions(50)).selection(0.95)
    other = classifier().selection(0.95, predictions())  # labels of another file
    assert other.answered == 200


def test_tasks_without_an_accuracy_are_refused():
    assert [name for name, task in TASKS.items() if not why_no_abstention(task)] == ["single_label", "ordinal"]
    assert "several answers" in why_no_abstention(TASKS["token"])
    assert "near or far" in why_no_abstention(TASKS["regression"])


def test_what_is_told_of_usual_targets():
    told = describe_abstention(predictions(), TASKS["single_label"], None)
    assert (told["texts"], told["risk"]) == (200, 0.05)
    assert [row["answered"] for row in told["curve"]] == list(range(10, 201, 10))
    assert [row["errors"] for row in told["curve"]][-4:] == [0, 1, 2, 3]
    assert told["targets"]["0.95"]["coverage"] == 1.0
    assert "299 answers without an error" in told["targets"]["0.99"]["refused"]


@pytest.mark.parametrize("value", [[], {"curve": 3}, {"targets": {"0.9": 1}}])
def test_what_is_not_a_curve_is_named(fitted, tmp_path, value):
    import json

    folder = fitted().save(tmp_path / "model")
    info = json.loads((folder / "deni.json").read_text())
    (folder / "deni.json").write_text(json.dumps({**info, "abstention": value}))
    with pytest.raises(ArtifactError, match=r"abstention .*expected"):
        load(folder, "cpu")
