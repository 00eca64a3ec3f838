import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import (
    check_estimator_cloneable,
    check_estimator_repr,
    check_estimator_tags_renamed,
    check_get_params_invariance,
    check_mixin_order,
    check_no_attributes_set_in_init,
    check_parameters_default_constructible,
    check_set_params,
    check_valid_tag_types,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from deni.sklearn import DeniClassifier, as_texts

LINES = (
    "parcel late lost refund money back please invoice",
    "card charged login password reset app crash error",
)
WORDS = [word for line in LINES for word in line.split()]
TEXTS = [f"{a} {b}" for a in WORDS[:8] for b in WORDS[8:11]]
LABELS = ["delivery" if text.split()[0] in WORDS[:3] else "refund" for text in TEXTS]

# Every other check of scikit-learn gives numbers as X, which is no text: they do not apply.
CHECKS = [
    check_estimator_cloneable,
    check_estimator_tags_renamed,
    check_valid_tag_types,
    check_estimator_repr,
    check_no_attributes_set_in_init,
    check_mixin_order,
    check_parameters_default_constructible,
    check_get_params_invariance,
    check_set_params,
]


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


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_scikit_learns_own_check(check):
    check("DeniClassifier", DeniClassifier())


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
        (["a", "b"], [[1], [2]], "one label for each text"),
    ],
)
def test_wrong_input_is_named(estimator, texts, labels, message):
    with pytest.raises(ValueError, match=message):
        clone(estimator).fit(texts, labels)


def test_a_table_with_one_column_is_a_list_of_texts():
    assert as_texts(np.array([["a"], ["b"]], dtype=object)) == ["a", "b"]
