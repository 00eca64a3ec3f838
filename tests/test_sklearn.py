import copy
import json
import pickle
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import check_array, check_is_fitted
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

import deni
from deni.errors import TrainingDivergedError
from deni.randomness import Sources
from deni.sklearn import DeniClassifier, as_texts
from deni.strategies import DENI
from deni.training.batches import SampleOrder
from deni.tuning import Lora

LINES = (
    "parcel late lost refund money back please invoice",
    "card charged login password reset app crash error",
)
WORDS = [word for line in LINES for word in line.split()]
TEXTS = [f"{a} {b}" for a in WORDS[:8] for b in WORDS[8:11]]
LABELS = ["delivery" if text.split()[0] in WORDS[:3] else "refund" for text in TEXTS]

# The checks that do not apply, and why, are in the docstring.
OTHERS = dict.fromkeys(re.findall(r"check_\w+", DeniClassifier.__doc__), "see the docstring")


class Worded(DeniClassifier):
    """Reads each row of numbers as a text, so that scikit-learn's own checks can be run."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False
        return tags

    def fit(self, X, y, sample_weight=None):
        return super().fit(worded(X), y, sample_weight)

    def predict_log_proba(self, X):
        return super().predict_log_proba(worded(X))


def worded(X):
    rows = check_array(X, ensure_2d=False)
    return [" ".join(WORDS[int(4 * number) % len(WORDS)] for number in row) for row in rows.reshape(len(rows), -1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny random BERT with a tokenizer that knows our words."""
    path = tmp_path_factory.mktemp("tiny")
    vocabulary = {word: at for at, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **names).save_pretrained(path)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, **sizes)).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def estimator(folder):
    settings = {"members": 2}
    return DeniClassifier(folder, "deni", epochs=8, learning_rate=3e-3, strategy_settings=settings)


@pytest.fixture(scope="module")
def fitted(estimator):
    return clone(estimator).fit(TEXTS, LABELS)


@pytest.mark.slow
def test_scikit_learns_own_checks_pass_but_for_those_in_the_docstring(folder):
    estimator = Worded(folder, "default", epochs=1, learning_rate=3e-3)
    results = check_estimator(estimator, expected_failed_checks=OTHERS, on_fail=None, on_skip=None)
    assert [(each["check_name"], each["exception"]) for each in results if each["status"] == "failed"] == []
    assert {each["check_name"] for each in results if each["status"] == "xfail"} == OTHERS.keys()
    assert sum(each["status"] == "passed" for each in results) > 40


def test_it_learns_and_its_probabilities_are_those_of_its_choices(fitted):
    probabilities = fitted.predict_proba(TEXTS)
    assert probabilities.shape == (24, 2)
    assert np.allclose(probabilities.sum(1), 1)
    assert list(fitted.classes_) == ["delivery", "refund"]
    assert (fitted.predict(TEXTS) == fitted.classes_[probabilities.argmax(1)]).all()
    assert fitted.score(TEXTS, LABELS) > 0.9


@pytest.mark.parametrize("labels", [[0, 1], [True, False], ["b", "a"], [10, 9]])
def test_labels_come_back_as_they_were_given(estimator, labels):
    y = np.array([labels[label == "refund"] for label in LABELS])
    model = clone(estimator).set_params(strategy="default", strategy_settings=None).fit(np.array(TEXTS), y)
    predicted = model.predict(TEXTS)
    assert predicted.dtype == y.dtype
    assert (predicted == y).mean() > 0.9


def test_eleven_classes_keep_their_order(folder):
    texts = [f"{a} {b}" for a in WORDS[:11] for b in WORDS[11:14]]
    y = np.repeat(np.arange(11), 3)
    model = DeniClassifier(folder, "default", epochs=30, learning_rate=3e-3).fit(texts, y)
    assert list(model.classes_) == list(range(11))
    assert model.score(texts, y) > 0.8


def test_the_same_random_state_gives_the_same_bits(estimator, fitted):
    again = clone(estimator).fit(TEXTS, LABELS)
    other = clone(estimator).set_params(random_state=1).fit(TEXTS, LABELS)
    assert np.array_equal(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    assert not np.array_equal(other.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_a_pickled_estimator_predicts_the_same(fitted):
    loaded = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(loaded.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    assert np.array_equal(pickle.loads(pickle.dumps(loaded)).predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    np.testing.assert_array_equal(loaded.classifier_.scope(TEXTS), fitted.classifier_.scope(TEXTS))


@pytest.fixture(scope="module")
def steady(folder, tmp_path_factory):
    """The tiny BERT without dropout."""
    path = shutil.copytree(folder, tmp_path_factory.mktemp("steady") / "model")
    config = json.loads((path / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (path / "config.json").write_text(json.dumps(config))
    return str(path)


WEIGHTS = np.where(np.array(LABELS) == "delivery", 3, np.arange(24) % 2)  # some texts do not count


def test_a_weight_of_two_is_a_row_that_is_there_twice(steady):
    """Exactly so where one batch has all rows."""
    alone = DeniClassifier(steady, "default", "full", epochs=6, learning_rate=3e-3, batch_size=64, dropout=0.0)
    weighted = clone(alone).fit(TEXTS, LABELS, sample_weight=WEIGHTS)
    repeated = clone(alone).fit(np.repeat(TEXTS, WEIGHTS), np.repeat(LABELS, WEIGHTS))
    np.testing.assert_allclose(weighted.predict_proba(TEXTS), repeated.predict_proba(TEXTS), atol=1e-5)
    plain = alone.fit(TEXTS, LABELS)
    assert np.abs(plain.predict_proba(TEXTS) - repeated.predict_proba(TEXTS)).max() > 1e-3


def test_weighted_batches_train_as_in_a_plain_loop(steady):
    """Five batches an epoch, the last a short one: each has the weighted mean of its own rows as loss."""
    estimator = DeniClassifier(steady, "default", "full", epochs=3, learning_rate=3e-3, batch_size=5, dropout=0.0)
    weights = WEIGHTS + 0.25  # no batch without any
    found = clone(estimator).fit(TEXTS, LABELS, sample_weight=weights)
    start = clone(estimator).set_params(learning_rate=1e-30).fit(TEXTS, LABELS)  # no value changes
    with start.classifier_.population.plain() as plain:
        model = copy.deepcopy(plain).eval()  # without dropout either way
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(steady)
    gold = torch.tensor([["delivery", "refund"].index(label) for label in LABELS])
    order, steps = SampleOrder(24, [Sources(0)]), 3 * 5
    for step in range(steps):
        order.set_epoch(step // 5)
        rows = list(order)[step % 5 * 5 :][:5]
        inputs = tokenizer([TEXTS[row] for row in rows], padding=True, return_tensors="pt")
        losses = torch.nn.functional.cross_entropy(model(**inputs).logits, gold[rows], reduction="none")
        weight = torch.tensor(weights)[rows]
        ((losses * weight).sum() / weight.sum()).backward()
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        expected = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.softmax(-1).numpy()
    np.testing.assert_allclose(found.predict_proba(TEXTS), expected, rtol=0, atol=1e-4)
    unweighted = estimator.fit(TEXTS, LABELS).predict_proba(TEXTS)
    assert np.abs(unweighted - expected).max() > 1e-2


def test_class_weights_are_those_of_torch_and_multiply_sample_weights(steady):
    """`balanced` is the weight of `torch.nn.functional.cross_entropy`, a dictionary weighs rows: both agree."""
    estimator = DeniClassifier(steady, "default", "full", epochs=2, learning_rate=3e-3)
    labels = ["few" if at < 5 else "many" for at in range(24)]
    numbers = {"few": 24 / (2 * 5), "many": 24 / (2 * 19)}
    balanced = clone(estimator).set_params(class_weight="balanced").fit(TEXTS, labels)
    assert balanced.fitted_.trainer.class_weights.tolist() == pytest.approx(list(numbers.values()))
    given = clone(estimator).set_params(class_weight=numbers).fit(TEXTS, labels)
    np.testing.assert_allclose(given.predict_proba(TEXTS), balanced.predict_proba(TEXTS), atol=1e-5)
    both = clone(estimator).set_params(class_weight={"few": 2, "many": 1}).fit(TEXTS, labels, WEIGHTS)
    product = WEIGHTS * np.where(np.array(labels) == "few", 2, 1)
    expected = estimator.fit(TEXTS, labels, product)
    assert np.array_equal(both.predict_proba(TEXTS), expected.predict_proba(TEXTS))


@pytest.mark.parametrize(
    ("class_weight", "sample_weight", "message"),
    [
        (None, [1.0], r"sample_weight has shape \(1,\), not \(24,\)"),
        (None, [-1.0] * 24, r"sample_weight\[0\] is -1.0: give a finite number"),
        (None, [0] * 24, "sample_weight is zero for every text"),
        (None, ["much"] * 24, "sample_weight must be numbers"),
        ("even", None, "class_weight is 'even': give a dictionary, balanced, or None"),
        ({"other": 2}, None, "class_weight does not fit y"),
        ({"delivery": 0, "refund": 1}, None, "leave one class only"),
    ],
)
def test_weights_that_do_not_fit_are_named(estimator, class_weight, sample_weight, message):
    with pytest.raises(ValueError, match=message):
        clone(estimator).set_params(class_weight=class_weight).fit(TEXTS, LABELS, sample_weight)


def test_a_decision_is_the_log_odds_of_two_classes(fitted):
    odds = fitted.decision_function(TEXTS)
    probabilities = fitted.predict_proba(TEXTS)
    assert odds.shape == (24,)
    assert expit(odds) == pytest.approx(probabilities[:, 1], abs=1e-6)
    assert (fitted.classes_[(odds > 0).astype(int)] == fitted.predict(TEXTS)).all()


def test_a_saved_estimator_is_an_artifact_with_the_labels_of_y(folder, tmp_path):
    labels = [3, 1, 2] * 8
    settings = {"epochs": 1, "learning_rate": 3e-3, "cv": 2}
    model = DeniClassifier(folder, "ensemble", "full", strategy_settings={"members": 2}, **settings).fit(TEXTS, labels)
    assert softmax(model.decision_function(TEXTS), 1) == pytest.approx(model.predict_proba(TEXTS), abs=1e-6)
    loaded = deni.load(model.save(tmp_path / "model"), device="cpu")
    assert loaded.labels == loaded.out_of_fold.labels == ["1", "2", "3"]
    assert loaded.predict(TEXTS) == [str(label) for label in model.predict(TEXTS)]
    assert np.array_equal(loaded.predict_log_probabilities(TEXTS), model.predict_log_proba(TEXTS))
    again = pickle.loads(pickle.dumps(model)).save(tmp_path / "again")
    assert deni.load(again, device="cpu").labels == loaded.labels
    with pytest.raises(deni.InputError, match="exists"):
        model.save(tmp_path / "model")
    assert model.save(tmp_path / "model", overwrite=True) == tmp_path / "model"


def test_it_works_in_a_pipeline_and_a_grid_search(estimator):
    cleaned = FunctionTransformer(lambda texts: [text.strip() for text in texts])
    pipeline = make_pipeline(cleaned, clone(estimator).set_params(epochs=2, strategy_settings=None))
    search = GridSearchCV(pipeline, {"deniclassifier__strategy": ["default", "delayed_ensemble"]}, cv=2)
    search.fit([f" {text} " for text in TEXTS], LABELS)
    assert search.best_params_["deniclassifier__strategy"] in ("default", "delayed_ensemble")
    assert search.predict(TEXTS[:3]).shape == (3,)


def test_it_must_be_fitted_first():
    with pytest.raises(NotFittedError):
        DeniClassifier().predict(["a text"])


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (TEXTS, LABELS[:3], "inconsistent numbers of samples"),
        (TEXTS, ["a"] * 24, "one class only"),
        ([1, 2], ["a", "b"], r"X\[0\] is 1: every text must be a string"),
        (["a", " "], ["a", "b"], r"X\[1\] is ' ': every text must be a string that is not empty"),
        ("a text", ["a"], "put it into a list"),
        (np.zeros((2, 2)), ["a", "b"], r"not an array of shape \(2, 2\)"),
        (["a", "b"], [[1, 2], [3, 4]], r"y\[0\] is \[1, 2\]"),
        (["a", "b"], np.zeros((2, 2)), "should be a 1d array"),
        (["a", "b"], "ab", "y must be a list of labels, not str"),
        (["a", "b"], [1, "b"], r"y\[1\] is 'b' but y\[0\] is 1: make all labels strings or all numbers"),
        (["a", "b"], pd.Series([1, "b"]), r"y\[1\] is 'b' but y\[0\] is 1"),
        (["a", "b"], [True, 2], r"y\[1\] is 2 but y\[0\] is True"),
        (["a", "b"], ["a", None], r"y\[1\] is None: give every text a label or drop it"),
        (["a", "b"], pd.Series(["a", None], dtype="string"), r"y\[1\] is <NA>: give every text a label"),
        (["a", "b"], [1.0, float("nan")], r"y\[1\] is NaN: give every text a label"),
        (["a", "b"], np.array(["a", np.nan], dtype=object), r"y\[1\] is NaN: give every text a label"),
        (
            ["a", "b"],
            [["x"], ["y", "z"]],
            r"y\[0\] is \['x'\]: DeniClassifier gives a text one label; for several, for",
        ),
        (["a", "b"], [0.5, 1.7], "continuous.* DeniClassifier gives a text one label.* deni train --task"),
        (["a", "b"], np.eye(2), "should be a 1d array.* DeniClassifier gives a text one label"),
        (["a", "b"], [b"a", b"b"], r"y\[0\] is b'a': give a string or a number"),
        (["a", "b\ud83d"], ["a", "b"], r"X\[1\] is 'b\\ud83d': half a surrogate pair is not a character"),
        ([7 * "long text ", 9 * [9 * "a"]], ["a", "b"], r"X\[1\] is \['aaaaaaaaa', .{43}\.\.\.: every text must"),
        (["a", "b"], 2 * [99 * "a"], r"one class only \('a{56}\.\.\.\)"),
    ],
)
def test_wrong_input_is_named(estimator, texts, labels, message):
    with pytest.raises(ValueError, match=message) as raised:
        clone(estimator).fit(texts, labels)
    assert "\n" not in str(raised.value)


def test_a_text_with_half_a_character_is_named_in_prediction(fitted):
    with pytest.raises(ValueError, match=r"X\[1\] is '\\ud83d': half a surrogate pair"):
        fitted.predict(["a text", "\ud83d"])
    with pytest.raises(ValueError, match=r"text 1 is '\\ud83d': half a surrogate pair"):
        fitted.classifier_(["a text", "\ud83d"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": DENI(members=2), "strategy_settings": {"members": 3}}, "put 'members' there or give a name"),
        ({"tuning": Lora(lora_r=2), "tuning_settings": {"lora_r": 3}}, "put 'lora_r' there or give a name"),
        ({"strategy": 99 * "a"}, r"unknown strategy 'a{56}\.\.\.: choose from default"),
        ({"strategy": ["deni"]}, r"unknown strategy \['deni'\]: did you mean deni\?"),
        ({"strategy_settings": {99 * "a": 3}}, r"no setting 'a{56}\.\.\.: it has .*members"),
        ({"engine": 99 * "a"}, r"unknown engine 'a{56}\.\.\.: choose from auto"),
    ],
)
def test_settings_that_do_not_fit_are_named(estimator, settings, message):
    with pytest.raises(ValueError, match=message) as raised:
        clone(estimator).set_params(**{"strategy_settings": None, **settings}).fit(TEXTS, LABELS)
    assert "\n" not in str(raised.value)


def test_a_strategy_as_an_object_is_the_same_as_its_name_with_settings(estimator, fitted):
    model = clone(estimator).set_params(strategy=DENI(members=2), strategy_settings=None).fit(TEXTS, LABELS)
    assert np.array_equal(model.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_a_fit_that_fails_leaves_nothing_of_itself(estimator):
    for rate, texts in ((1e30, TEXTS), (3e-3, [""] * 24)):
        model = clone(estimator).set_params(learning_rate=rate)
        with pytest.raises((ValueError, TrainingDivergedError)):
            model.fit(texts, LABELS)
        with pytest.raises(NotFittedError):
            check_is_fitted(model)


def test_a_fit_that_fails_leaves_the_one_before_whole(fitted):
    before = fitted.predict_proba(TEXTS)
    model = pickle.loads(pickle.dumps(fitted)).set_params(learning_rate=1e30)
    with pytest.raises(TrainingDivergedError):
        model.fit(TEXTS, [*"abcd"] * 6)
    assert list(model.classes_) == ["delivery", "refund"]
    assert np.array_equal(model.predict_proba(TEXTS), before)


def test_a_table_with_one_column_is_a_list_of_texts():
    assert as_texts(np.array([["a"], ["b"]], dtype=object)) == ["a", "b"]


def test_folds_give_scores_and_probabilities_as_scikit_learn_names_them(estimator):
    crossed = clone(estimator).set_params(cv=3, cv_seeds=2).fit(TEXTS, LABELS)
    plain = clone(estimator).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(*(each.classifier_.members(TEXTS) for each in (crossed, plain)))
    assert crossed.cv_predict_proba_.shape == (len(TEXTS), 2)
    np.testing.assert_allclose(crossed.cv_predict_proba_.sum(1), 1, rtol=1e-5)
    found, outputs = crossed.cv_results_, crossed.fitted_.out_of_fold
    chosen = crossed.classes_[outputs.outputs["vote"].argmax(-1)]
    expected = [
        f1_score(np.array(LABELS)[folds == fold], row[folds == fold], average="macro")
        for folds, row in zip(outputs.folds, chosen, strict=True)
        for fold in range(3)
    ]
    np.testing.assert_allclose(found["test_score"], expected)
    pooled = np.mean([f1_score(LABELS, row, average="macro") for row in chosen])
    assert (found["metric"], found["score"]) == ("macro_f1", pytest.approx(pooled))
    assert found["low"] <= found["score"] <= found["high"]
    again = pickle.loads(pickle.dumps(crossed))
    np.testing.assert_array_equal(again.cv_predict_proba_, crossed.cv_predict_proba_)
    assert not hasattr(crossed.set_params(cv=None).fit(TEXTS, LABELS), "cv_results_")
