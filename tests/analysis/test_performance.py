"""What is measured of one training on its test split, against scikit-learn, seqeval and arithmetic."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from deni import finetune, measures
from deni.analysis import performance
from deni.data import Texts
from deni.tasks import TASKS

LABELS = {
    "single_label": ["a", "b", "c"],
    "multi_label": ["a", "b", "c"],
    "regression": ["value"],
    "token": ["O", "B-X", "I-X"],
}


def evaluated(task, texts=40, members=3, seed=0):
    """Random members, right more often than not, with their mean as the vote."""
    draw = np.random.default_rng(seed)
    classes, words = len(LABELS[task]), [f"word{at}" for at in range(5)]
    count = 5 * texts if task == "token" else texts
    logits = draw.normal(size=(count, members, classes))
    if task == "regression":
        gold = draw.normal(size=texts) + 100
        outputs = gold[:, None, None] + logits
        votes = outputs.mean(1)
    elif task == "multi_label":
        gold = draw.random((texts, classes)) < 0.4
        outputs = logits + 2.0 * gold[:, None] - 1
        votes = outputs.mean(1)
    else:
        gold = draw.integers(classes, size=count)
        logits[np.arange(count), :, gold] += 1.5
        outputs = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
        votes = np.log(np.exp(outputs).mean(1))
    labels = gold.reshape(texts, 5).tolist() if task == "token" else gold.tolist()
    given = [tuple(words)] * texts if task == "token" else [f"text {at}" for at in range(texts)]
    return finetune.Evaluation(
        Texts(given, None, "made", None, task), labels, outputs, votes, TASKS[task].scores(labels, votes, LABELS[task])
    )


def measured(given, parent=True):
    task = given.texts.task
    return performance.measure_performance(task, LABELS[task], given, parent, np.random.default_rng(0))


@pytest.mark.parametrize("task", LABELS)
def test_what_is_drawn_again_is_the_metric_itself_and_lies_in_its_interval(task, monkeypatch):
    given, scored = evaluated(task), []

    def kept(score, counts, **options):
        scored.append(float(score(np.asarray(counts, dtype=float)[None])[0]))
        return other_texts(score, counts, **options)

    other_texts = measures.other_texts
    monkeypatch.setattr(measures, "other_texts", kept)
    found, _ = measured(given)
    assert scored == [pytest.approx(given.metrics[TASKS[task].headline])]
    assert found.score.value == pytest.approx(scored[0])
    assert found.score.low < found.score.value < found.score.high


@pytest.mark.parametrize("task", ["single_label", "token"])
def test_classes_are_counted_as_scikit_learn_does(task):
    given = evaluated(task)
    found, missing = measured(given)
    gold, said = np.ravel(given.gold), given.votes.argmax(-1)
    want = confusion_matrix(gold, said)
    assert np.array_equal(found.confusion, want)
    assert missing == {}
    gold_name, said_name, count = found.confused[0]
    off = want - np.diag(want.diagonal())
    assert count == off.max() == want[LABELS[task].index(gold_name), LABELS[task].index(said_name)]
    assert sum(count for *_, count in found.confused) == off.sum()
    assert (found.reliability["share"].sum(), found.per_label["gold"].sum()) == pytest.approx((100, len(gold)))


def test_members_are_compared_with_each_other_and_with_the_vote():
    given = evaluated("single_label")
    found, _ = measured(given)
    said = given.members.argmax(-1)
    pairs = [np.mean(said[:, one] != said[:, other]) for one, other in ((0, 1), (0, 2), (1, 2))]
    assert found.disagreement == pytest.approx(np.mean(pairs))
    assert found.parent_differs == np.mean(said[:, 0] != given.votes.argmax(-1))
    alone = [TASKS["single_label"].scores(given.gold, given.members[:, at])["macro_f1"] for at in range(3)]
    assert found.member_scores == pytest.approx(alone)
    assert measured(given, parent=False)[0].parent_differs is None


def test_uncertain_texts_come_in_the_order_of_their_entropy():
    given = evaluated("single_label", texts=60)
    found, _ = measured(given)
    mean = np.exp(given.members).mean(1)
    entropy = -(mean * np.log(mean)).sum(-1)
    most = np.argsort(-entropy)[:20]
    assert [each.parts for each in found.uncertain] == [(f"text {at}",) for at in most]
    assert [each.total for each in found.uncertain] == pytest.approx(entropy[most])
    own = np.exp(given.members)
    within = -(own * np.log(own)).sum(-1).mean(1)
    assert [each.members for each in found.uncertain] == pytest.approx((entropy - within)[most])
    assert [each.right for each in found.uncertain] == [given.gold[at] == given.votes[at].argmax() for at in most]


def test_the_least_sure_word_of_a_sentence_stands_for_it():
    given = evaluated("token", texts=30)
    mean = np.exp(given.members).mean(1)
    entropy = -(mean * np.log(mean)).sum(-1).reshape(30, 5)
    found, _ = measured(given)
    assert found.uncertain[0].total == pytest.approx(entropy.max())
    word = entropy.max(0).argmax()
    assert found.uncertain[0].parts == ("word0 word1 word2 word3 word4", f"word: word{word}")


def test_numbers_have_a_spread_in_place_of_an_entropy():
    given = evaluated("regression")
    found, missing = measured(given)
    assert set(missing) == {"confusion", "calibration"}
    spread = given.members[..., 0].std(1)
    assert found.uncertain[0].total == pytest.approx(spread.max())
    assert found.disagreement == pytest.approx(spread.mean())
    assert len(found.points) == 40
    assert set(measured(evaluated("regression", members=1))[1]) == {"confusion", "calibration", "uncertain", "members"}


def test_outputs_that_are_no_numbers_leave_the_test_part_out():
    given = evaluated("single_label")
    given.members[0, 1] = np.nan
    found, missing = measured(given)
    assert found is None
    assert "not finite" in missing["test"]
