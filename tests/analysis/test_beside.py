"""A model beside the baselines: scores, and the interval of the difference."""

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import cohen_kappa_score, f1_score

from deni.analysis import beside
from deni.analysis.beside import compare_with_baselines
from deni.baselines import BASELINES
from deni.data import Texts
from deni.finetune import Evaluation
from deni.recipe import Recipe
from deni.tasks import TASKS
from tests.helpers.tiny import toy_rows

ROWS, NEW = toy_rows(8), toy_rows(20, seed=1)
CLASSES = sorted({label for _, label in ROWS})


def texts_of(rows):
    return Texts([text for text, _ in rows], [label for _, label in rows], "toy", None)


def evaluation(share):
    """Right on a share of the new texts."""
    gold = [CLASSES.index(label) for _, label in NEW]
    chosen = [right if at < share * len(gold) else (right + 1) % 3 for at, right in enumerate(gold)]
    votes = np.log(0.01 + 0.97 * np.eye(3)[chosen])
    return Evaluation(texts_of(NEW), gold, votes[:, None], votes, TASKS["single_label"].scores(gold, votes))


@pytest.fixture
def compared(model_folder):
    def compare(share):
        generator, recipe = np.random.default_rng(0), Recipe(model=model_folder)
        return compare_with_baselines(texts_of(ROWS), evaluation(share), recipe, CLASSES, generator, "cpu")

    return compare


def test_scores_are_those_of_scikit_learn_and_the_interval_is_paired(compared):
    found = compared(0.5)
    assert [each.name for each in found.scores] == ["majority", "tfidf", "frozen"]
    train, test = texts_of(ROWS), texts_of(NEW)
    plain = DummyClassifier(strategy="prior").fit(train.texts, train.labels).predict(test.texts)
    assert found.scores[0].score == pytest.approx(f1_score(test.labels, plain, average="macro"))
    assert found.best.score == max(each.score for each in found.scores)
    mine, gold = evaluation(0.5), np.array(evaluation(0.5).gold)
    other, drawn = found.best.outputs.argmax(1), []
    generator = np.random.default_rng(1)
    for _ in range(400):
        rows = generator.integers(len(gold), size=len(gold))
        one, two = (f1_score(gold[rows], each[rows], average="macro") for each in (mine.votes.argmax(1), other))
        drawn.append(one - two)
    assert found.difference.value == pytest.approx(mine.metrics["macro_f1"] - found.best.score)
    assert [found.difference.low, found.difference.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.03)
    assert found.difference.high < 0 < compared(1.0).difference.value + 1e-9
    others = [each.name for each in found.scores if each.name != found.best.name]
    assert set(found.as_good) <= set(others)
    for name in others:  # by hand: how often the model is ahead on texts drawn again
        outputs = next(each.outputs for each in found.scores if each.name == name).argmax(1)
        drawn = [
            f1_score(gold[rows], mine.votes.argmax(1)[rows], average="macro")
            - f1_score(gold[rows], outputs[rows], average="macro")
            for rows in generator.integers(len(gold), size=(400, len(gold)))
        ]
        low = np.quantile(drawn, 0.025)
        assert (name in found.as_good) == (low <= 0)
        if name in found.as_good:
            assert found.as_good[name].low == pytest.approx(low, abs=0.03)


def test_equal_texts_are_fitted_once_a_process(compared, monkeypatch):
    compared(0.5)
    monkeypatch.setattr(BASELINES["tfidf"], "learn", None)
    compared(0.7)
    monkeypatch.setattr(beside, "_OUTPUTS", {})
    with pytest.raises(TypeError):
        compared(0.7)


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_headline_by_weight_is_that_of_texts_drawn_again(task):
    kind, generator = TASKS[task], np.random.default_rng(0)
    classes = ["O", "B-X", "I-X"] if task == "token" else ["value"] if task == "regression" else ["0", "1", "2"]
    gold = {
        "regression": lambda: generator.normal(size=30).tolist(),
        "multi_label": lambda: generator.integers(2, size=(30, 3)).astype(float).tolist(),
        "token": lambda: generator.integers(3, size=(30, 4)).tolist(),
    }.get(task, lambda: generator.integers(3, size=30).tolist())()
    words = 4 if task == "token" else 1
    votes = generator.normal(size=(30 * words, len(classes)))
    counts = generator.multinomial(30, np.ones(30) / 30)
    rows = np.repeat(np.arange(30), counts)
    again = votes.reshape(30, words, -1)[rows].reshape(-1, len(classes))
    (found,) = kind.headline_by_weight(gold, votes, classes)(counts[None].astype(float))
    assert found == pytest.approx(kind.scores([gold[row] for row in rows], again, classes)[kind.headline])
    if task == "ordinal":
        right = np.array(gold)[rows]
        assert found == pytest.approx(cohen_kappa_score(right, again.argmax(1), weights="quadratic"))
