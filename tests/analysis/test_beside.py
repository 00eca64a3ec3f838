"""A model beside the baselines: scores, and the interval of the difference."""

import numpy as np
import pytest
from scipy import stats
from sklearn.dummy import DummyClassifier
from sklearn.metrics import cohen_kappa_score, f1_score

from deni.analysis import beside
from deni.analysis.beside import compare_out_of_fold, compare_with_baselines
from deni.artifact.out_of_fold import OutOfFold, digests_of
from deni.baselines import BASELINES
from deni.data import Texts, names
from deni.finetune import Evaluation
from deni.measures.folds import WIDENED
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


@pytest.mark.parametrize(
    "task", sorted(name for name, kind in TASKS.items() if "headline_by_weight" in vars(type(kind)))
)
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


def out_of_fold(train, folds, right, seed=0):
    """Predictions of which a share is right."""
    gold = np.array([CLASSES.index(label) for label in train.labels])
    hit = np.random.default_rng(seed).random(len(gold)) < right
    votes = np.log(0.01 + 0.97 * np.eye(3)[np.where(hit, gold, (gold + 1) % 3)])
    return OutOfFold({"vote": votes[None]}, folds[None], gold.tolist(), digests_of(train.texts), CLASSES)


def chosen_by_hand(name, train, folds, recipe):
    """What a baseline chooses for the texts of each fold, fitted on the others."""
    found = np.empty(len(train), dtype=object)
    for fold in set(folds.tolist()):
        kept, left_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        fitted = BASELINES[name]().fit(train.select(kept), recipe, "cpu")
        outputs = fitted.outputs(train.select(left_out).texts)
        found[left_out] = [fitted.labels[at] for at in outputs.argmax(1)]
    return found.tolist()


def test_out_of_fold_each_baseline_is_fitted_on_the_other_folds(model_folder):
    train, recipe = texts_of(toy_rows(10)), Recipe(model=model_folder)
    folds = np.arange(len(train)) % 5
    model = out_of_fold(train, folds, 0.8)
    found = compare_out_of_fold(train, model, recipe, "cpu")
    assert [each.name for each in found.scores] == ["majority", "tfidf", "frozen"]
    by_hand = {each.name: chosen_by_hand(each.name, train, folds, recipe) for each in found.scores}
    for each in found.scores:
        assert each.score == pytest.approx(f1_score(train.labels, by_hand[each.name], average="macro"))
    mine = [CLASSES[at] for at in model.outputs["vote"][0].argmax(1)]

    def difference(kept):
        gold, one, two = (
            np.array(each, dtype=object)[kept].tolist() for each in (train.labels, mine, by_hand[found.best.name])
        )
        return f1_score(gold, one, average="macro") - f1_score(gold, two, average="macro")

    whole = difference(np.arange(len(train)))
    values = [5 * whole - 4 * difference(np.flatnonzero(folds != fold)) for fold in range(5)]
    half = WIDENED * stats.t.ppf(0.975, 4) * np.sqrt((1 / 5 + 1 / 4) * np.var(values, ddof=1))
    assert found.difference.value == pytest.approx(whole)
    assert [found.difference.low, found.difference.high] == pytest.approx([whole - half, whole + half])


def test_a_class_of_one_fold_alone_is_never_chosen_there(model_folder):
    train = texts_of([*toy_rows(6), ("an odd one", "rare"), ("another odd one", "rare")])
    folds = np.append(np.arange(18) % 3, [1, 1])
    gold = [sorted({*CLASSES, "rare"}).index(label) for label in train.labels]
    votes = np.log(0.01 + 0.96 * np.eye(4)[gold])
    model = OutOfFold({"vote": votes[None]}, folds[None], gold, digests_of(train.texts), sorted({*CLASSES, "rare"}))
    found = compare_out_of_fold(train, model, Recipe(model=model_folder), "cpu", baselines=[BASELINES["tfidf"]()])
    outputs = found.scores[0].outputs
    assert outputs.shape == (20, 4)
    assert (outputs[folds == 1].argmax(1) != model.labels.index("rare")).all()
    assert found.difference.value > 0


def test_words_have_the_predictions_of_the_fold_of_their_text():
    tags = [["B-x", "O", "O"], ["O", "B-x"], ["O", "O"], ["B-x", "O"]]
    words = [["Bonn", "is", "here"], ["in", "Bonn"], ["no", "name"], ["Ulm", "too"]]
    train = Texts(words, tags, "toy", None, task="token")
    labels, texts = names(train), np.repeat([0, 1, 2, 3], [3, 2, 2, 2])
    gold = [labels.index(tag) for each in tags for tag in each]
    votes = np.log(0.01 + 0.97 * np.eye(3)[gold])
    folds = np.array([0, 1, 0, 1])
    model = OutOfFold({"vote": votes[None]}, folds[texts][None], gold, digests_of(words), labels, texts)
    found = compare_out_of_fold(train, model, Recipe(task="token"), "cpu", baselines=[BASELINES["frequent_tag"]()])
    outputs = found.scores[0].outputs
    assert outputs.shape == (9, 3)
    tagged = [labels[at] for at in outputs.argmax(1)]
    assert tagged[0] == "B-x"  # Bonn, of which the other fold has one, too
    assert tagged[3:5] == ["O", "B-x"]
