"""What each baseline predicts, against scikit-learn and hand-written pipelines."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from scipy.sparse import hstack
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

from deni.baselines import BASELINES, BaselineClassifier, make_baseline
from deni.baselines.regression import GRID
from deni.data import Texts
from deni.errors import InputError, SettingError
from deni.recipe import Recipe
from deni.strategies import SWA, make_strategy
from deni.strategies.base import Setup
from tests.helpers.tiny import toy_rows

ROWS = toy_rows(12)
TEXTS = [text for text, _ in ROWS]
LABELS = [label for _, label in ROWS]
NOISY = [LABELS[at - at % 7 // 6] for at in range(len(LABELS))]  # some are wrong, so that no C fits all


def fitted(name, texts, labels, task="single_label", order=(), **recipe):
    return make_baseline(name).fit(Texts(texts, labels, "toy", None, task, order), Recipe(task=task, **recipe))


def unions():
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b|[^\w\s]")
    return make_union(words, TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5)))


def probabilities(fitted, texts):
    return np.exp(fitted.outputs(texts))


# ---- majority -------------------------------------------------------------------


def test_the_majority_is_that_of_scikit_learns_dummies():
    labels = [*LABELS[:-6], *["apple"] * 6]
    plain = DummyClassifier(strategy="prior").fit(TEXTS, labels)
    assert np.allclose(probabilities(fitted("majority", TEXTS, labels), ["new"]), plain.predict_proba(["new"]))
    numbers = [0.5 * row for row in range(len(TEXTS))]
    mean = DummyRegressor().fit(TEXTS, numbers).predict(["new"])
    assert fitted("majority", TEXTS, numbers, "regression").outputs(["new", "old"])[:, 0] == pytest.approx(
        [*mean, *mean]
    )


def test_the_majority_of_several_labels_and_of_classes_that_no_text_has():
    several = fitted("majority", list("abc"), [("x",), ("x", "y"), ("x",)], "multi_label")
    assert (several.outputs(["d"]) > 0).tolist() == [[True, False]]
    assert np.isfinite(several.outputs(["d"])).all()
    stars = fitted("majority", list("abc"), ["1", "3", "3"], "ordinal", order=("1", "2", "3"))
    assert np.isfinite(stars.outputs(["d"])).all()
    assert probabilities(stars, ["d"])[0] == pytest.approx([1 / 3, 0, 2 / 3])


# ---- tags of words -------------------------------------------------------------------


def test_a_word_gets_its_most_frequent_tag_and_an_unknown_one_that_of_all():
    texts = [("Ada", "met", "Bo"), ("Bo", "left", "Bo"), ("we", "left")]
    tags = [("B-PER", "O", "B-PER"), ("B-PER", "O", "O"), ("O", "O")]
    found = fitted("frequent_tag", texts, tags, "token")
    chosen = [found.labels[at] for at in found.outputs([("Bo", "met"), ("Cy",)]).argmax(1)]
    assert chosen == ["B-PER", "O", "O"]
    assert probabilities(found, [("Bo",)])[0, found.labels.index("B-PER")] == pytest.approx(2 / 3)
    majority = fitted("majority", texts, tags, "token").outputs([("Bo", "met"), ("Cy",)])
    assert [found.labels[at] for at in majority.argmax(1)] == ["O"] * 3


@pytest.mark.parametrize("name", ["tfidf", "frozen"])
def test_what_reads_whole_texts_refuses_tags_of_words(name):
    with pytest.raises(SettingError, match=f"{name} reads whole texts.* frequent_tag"):
        fitted(name, [("a", "b")], [("O", "B-X")], "token")
    with pytest.raises(SettingError, match="frequent_tag is for tags of words, not for single_label"):
        fitted("frequent_tag", TEXTS, LABELS)


# ---- tfidf -------------------------------------------------------------------


def test_tfidf_is_a_pipeline_of_scikit_learn():
    plain = GridSearchCV(
        make_pipeline(unions(), LogisticRegression(max_iter=1000)),
        {"logisticregression__C": list(GRID)},
        scoring="neg_log_loss",
        cv=StratifiedKFold(5),
    )
    plain.fit(TEXTS, NOISY)
    found = fitted("tfidf", TEXTS, NOISY)
    assert found.notes["c"] == pytest.approx(plain.best_params_["logisticregression__C"])
    assert np.allclose(probabilities(found, TEXTS), plain.predict_proba(TEXTS), atol=3e-3)


def test_tfidf_of_pairs_takes_what_differs_and_what_is_shared():
    pairs = list(zip(TEXTS, TEXTS[5:] + TEXTS[:5], strict=True))
    labels = [str(one.split()[0] == other.split()[0]) for one, other in pairs]
    labels[:4] = ["True", "False"] * 2
    found = fitted("tfidf", pairs, labels)
    vectors = unions().fit([one for one, _ in pairs] + [other for _, other in pairs])
    u, v = (vectors.transform(list(side)) for side in zip(*pairs, strict=True))
    features = hstack([abs(u - v), u.multiply(v)], format="csr")
    plain = LogisticRegression(C=found.notes["c"], max_iter=1000).fit(features, labels)
    assert np.allclose(probabilities(found, pairs), plain.predict_proba(features), atol=3e-3)


def test_tfidf_reads_texts_without_a_word_of_two_letters():
    found = fitted("tfidf", ["a", "?", "b", "!"] * 3, ["x", "y"] * 6)
    assert probabilities(found, ["a", "?"]).argmax(1).tolist() == [0, 1]


@pytest.mark.parametrize("name", ["tfidf", "frozen"])
def test_one_class_alone_is_refused(name):
    with pytest.raises(InputError, match="all texts have the label 'x'"):
        fitted(name, ["a", "b"], ["x", "x"])


# ---- frozen -------------------------------------------------------------------


def mean_vectors(folder, texts):
    """One text at a time: the mean of the states of its tokens."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoder = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = [encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in texts]
    return torch.stack([each.mean(0) for each in states]).double().numpy()


def test_frozen_is_a_regression_on_the_mean_of_the_states(model_folder):
    found = fitted("frozen", TEXTS, NOISY, model=model_folder)
    features = mean_vectors(model_folder, TEXTS)
    size = features.shape[1] ** 0.5
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=found.notes["c"] / size**2, max_iter=1000))
    plain.fit(features, NOISY)
    assert np.allclose(probabilities(found, TEXTS), plain.predict_proba(features), atol=3e-3)
    losses = {}
    for c in GRID:
        regression = make_pipeline(StandardScaler(), LogisticRegression(C=c / size**2, max_iter=1000))
        folds = StratifiedKFold(5)
        losses[c] = -cross_val_score(regression, features, NOISY, cv=folds, scoring="neg_log_loss").mean()
    assert losses[found.notes["c"]] == pytest.approx(min(losses.values()), rel=0.01)


def test_frozen_encodes_the_texts_of_a_pair_each_by_itself(model_folder):
    pairs = list(zip(TEXTS, TEXTS[5:] + TEXTS[:5], strict=True))
    labels = ["yes", "no", "no"] * 12
    found = fitted("frozen", pairs, labels, model=model_folder)
    u, v = (mean_vectors(model_folder, side) for side in zip(*pairs, strict=True))
    features = np.concatenate([np.abs(u - v), u * v], 1)
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=found.notes["c"] / features.shape[1], max_iter=1000))
    plain.fit(features, labels)
    assert np.allclose(probabilities(found, pairs), plain.predict_proba(features), atol=0.01)


def test_the_generators_of_whoever_trains_stay_as_they_were(model_folder):
    before = torch.get_rng_state()
    fitted("frozen", TEXTS, LABELS, model=model_folder)
    assert torch.equal(torch.get_rng_state(), before)


# ---- in Python -------------------------------------------------------------------


def test_an_estimator_of_scikit_learn():
    classifier = BaselineClassifier("tfidf")
    scores = cross_val_score(classifier, np.array(TEXTS, dtype=object), LABELS, cv=3)
    assert scores.mean() > 0.9
    numbers = [sorted(set(LABELS)).index(label) + 9 for label in LABELS]
    classifier.fit(TEXTS, numbers)
    assert classifier.classes_.tolist() == sorted(set(numbers))
    assert classifier.predict(TEXTS).tolist() == numbers
    assert classifier.predict_proba(TEXTS).sum(1) == pytest.approx(1)
    with pytest.raises(InputError, match=r"X\[1\] is 3"):
        classifier.predict(["a", 3])
    with pytest.raises(InputError, match="1 labels"):
        classifier.fit(TEXTS, ["x"])
    with pytest.raises(SettingError, match=r"unknown baseline 'tfdif'.*tfidf"):
        BaselineClassifier("tfdif").fit(TEXTS, LABELS)


def test_majority_and_tfidf_need_no_torch():
    script = (
        "import sys; from deni.baselines import BaselineClassifier\n"
        "for name in ('majority', 'tfidf'):\n"
        "    BaselineClassifier(name).fit(['a b', 'b c', 'a c', 'b d'], list('xyxy')).predict_proba(['a'])\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# ---- as strategies -------------------------------------------------------------------


def test_there_are_six():
    assert list(BASELINES.built_in()) == ["majority", "tfidf", "frozen", "frequent_tag", "setfit", "llm"]
    assert all(cls().schedule(1250).cost == 0 for cls in BASELINES.built_in().values())


def test_a_trainer_does_not_take_them():
    with pytest.raises(SettingError, match=r"tfidf is a baseline.* deni study"):
        make_strategy("tfidf")
    with pytest.raises(SettingError, match="tfidf is a baseline"):
        make_strategy("tfidf+swa")
    with pytest.raises(SettingError, match="tfidf and swa cannot be combined: tfidf is a baseline"):
        make_baseline("tfidf") + SWA()
    with pytest.raises(SettingError, match="frozen is a baseline"):
        make_baseline("frozen").prepare(Setup(None))


def test_the_version_of_scikit_learn_is_in_what_it_fits():
    assert list(make_baseline("tfidf").settings()) == ["scikit-learn version"]
    assert make_baseline("majority").settings() == {}
    assert not math.isnan(make_baseline("majority").schedule(1).peak)
