"""Wrong labels that were put in are found, whatever a text has; right ones are left alone."""

import numpy as np
import pytest
import torch

from deni.labeling.wrong import combined, find_wrong_labels, label_quality
from deni.tasks import find_task
from deni.tasks.voting import vote

CLASSES = ["a", "b", "c"]


def sure(classes, generator, count=3):
    """Log probabilities of a model that is mostly right, and never quite alike."""
    logits = 8 * np.eye(count)[classes] + generator.normal(size=(len(classes), count))
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def test_labels_that_were_replaced_are_found_with_the_right_class():
    generator = np.random.default_rng(0)
    gold = np.arange(90) % 3
    outputs, given = sure(gold, generator), gold.copy()
    given[[7, 40, 41]] = (gold[[7, 40, 41]] + 1) % 3
    found = find_wrong_labels(find_task("single_label"), given.tolist(), outputs, CLASSES)
    assert {40, 41} <= {each.text for each in found} <= {7, 40, 41}  # it lists as many as it estimates
    probabilities = sorted(np.exp(outputs[each.text, given[each.text]]) for each in found)
    np.testing.assert_allclose([each.quality for each in found], probabilities)
    for each in found:
        assert each.word is None
        assert (each.given, each.suggested) == (CLASSES[given[each.text]], CLASSES[gold[each.text]])
        assert each.confidence == pytest.approx(np.exp(outputs[each.text]).max())


def test_of_right_labels_none_is_listed():
    gold = np.arange(60) % 3
    outputs = sure(gold, np.random.default_rng(1))
    assert (outputs.argmax(1) == gold).all()
    assert find_wrong_labels(find_task("single_label"), gold.tolist(), outputs, CLASSES) == []


def test_a_class_without_a_text_and_one_class_alone_are_no_trouble():
    generator = np.random.default_rng(2)
    gold = np.arange(60) % 2
    given = gold.copy()
    given[5] = 0
    found = find_wrong_labels(find_task("ordinal"), given.tolist(), sure(gold, generator), CLASSES)
    assert [each.text for each in found] == [5]
    assert find_wrong_labels(find_task("single_label"), [0] * 6, sure([0] * 6, generator), CLASSES) == []


def test_of_words_the_word_is_named():
    generator = np.random.default_rng(3)
    lengths = [2, 5, 1, 4] * 6
    gold = np.arange(sum(lengths)) % 3
    outputs, given = sure(gold, generator), gold.copy()
    given[[3, 20]] = (gold[[3, 20]] + 2) % 3
    tags = [part.tolist() for part in np.split(given, np.cumsum(lengths)[:-1])]
    found = find_wrong_labels(find_task("token"), tags, outputs, CLASSES)
    owners = [(text, word) for text, length in enumerate(lengths) for word in range(length)]
    assert {(each.text, each.word) for each in found} == {owners[3], owners[20]}
    assert {each.suggested for each in found} == {CLASSES[gold[3]], CLASSES[gold[20]]}


def test_of_several_labels_one_that_is_missing_and_one_too_many_are_found():
    generator = np.random.default_rng(4)
    gold = generator.random((120, 3)) < 0.4
    outputs = np.where(gold, 3.0, -3.0) + generator.normal(size=gold.shape) / 2
    given = gold.copy()
    missing, extra = np.flatnonzero(gold[:, 0])[:4], np.flatnonzero(~gold[:, 1])[:4]
    given[missing, 0], given[extra, 1] = False, True
    found = find_wrong_labels(find_task("multi_label"), given.astype(float), outputs, CLASSES)
    assert {each.text for each in found} <= {*missing, *extra}
    assert len(found) >= 0.7 * len({*missing, *extra})  # confident learning lists as many as it estimates
    for each in found:
        changed = [
            name for name, old, new in zip(CLASSES, given[each.text], gold[each.text], strict=True) if old != new
        ]
        suggested = set(each.given.split(";")) ^ set(each.suggested.split(";"))
        assert suggested - {""} <= set(changed)
        assert each.confidence == 1 - each.quality


def test_of_numbers_the_one_far_from_its_prediction_is_found():
    generator = np.random.default_rng(5)
    numbers = generator.normal(size=80)
    predicted = numbers + generator.normal(size=80) / 10
    numbers[33] += 4
    (found,) = find_wrong_labels(find_task("regression"), numbers.tolist(), predicted[:, None], ["value"])
    assert (found.text, found.confidence) == (33, None)
    assert float(found.suggested) == pytest.approx(predicted[33], rel=1e-3)


def test_quality_is_the_probability_of_the_label():
    probabilities = np.array([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4]])
    np.testing.assert_allclose(label_quality(np.array([0, 0, 1]), probabilities), [0.7, 0.2, 0.4])


@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression", "token"])
def test_divisions_are_combined_as_members_vote(task):
    outputs = np.random.default_rng(6).normal(size=(3, 7, 4))
    if find_task(task).distribution:
        outputs -= np.log(np.exp(outputs).sum(-1, keepdims=True))
    expected = vote(torch.from_numpy(outputs).transpose(0, 1), task=task).numpy()
    np.testing.assert_allclose(combined(outputs, find_task(task)), expected, rtol=1e-12)
