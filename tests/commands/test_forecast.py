"""What more labels would give: subsets, refusals, the command and its page."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.metrics import f1_score

from deni.cli import main
from deni.commands.forecast import (
    FOLDS,
    forecast_file,
    forecast_texts,
    forecast_with,
    out_of_fold,
    probe,
    state_forecast,
    subset_sizes,
)
from deni.data import Texts
from deni.errors import InputError, SettingError
from deni.models.tokenizing import encode
from deni.recipe import Recipe
from deni.tasks import TASKS
from tests.helpers.tiny import toy_rows, write_csv


def texts_of(labels, task="single_label", order=()):
    texts = [f"text {at}" for at in range(len(labels))]
    if task == "token":
        texts = [("one", "two") for _ in labels]
    return Texts(texts, list(labels), "made.csv", pd.DataFrame({"text": texts}), task, order)


def blobs(count, classes=3, seed=0):
    """Features in overlapping clouds, and their classes."""
    generator = np.random.default_rng(seed)
    gold = generator.integers(classes, size=count)
    return generator.normal(size=(classes, 16))[gold] * 0.5 + generator.normal(size=(count, 16)), gold


def test_subsets_are_nested_grow_and_never_hold_what_they_predict():
    gold, seen = np.arange(60) % 3, []

    def fit_predict(rows, left_out):
        seen.append((set(rows.tolist()), set(left_out.tolist())))
        return np.eye(3)[gold[left_out]]

    sizes = np.array([12, 24, 54])
    found = out_of_fold(fit_predict, list(gold), TASKS["single_label"], 3, sizes, FOLDS, 2, seed=0)
    assert found.shape == (2, 3, 60, 3)
    assert (found.argmax(-1) == gold).all()
    for at in range(0, len(seen), 3):
        (small, out), (middle, _), (large, _) = seen[at : at + 3]
        assert small < middle < large
        assert (len(small), len(middle), len(large)) == (12, 24, 54)
        assert not large & out
    left_out = Counter(row for _, out in seen[:: len(sizes)] for row in out)
    assert set(left_out.values()) == {2}  # each text once a repeat


@pytest.mark.parametrize("each", [1, 3, 9, 10, 11])
def test_each_text_is_left_out_once_however_few_a_class_has(each):
    gold, counts = [at % 8 for at in range(8 * each)], np.zeros(8 * each)

    def fit_predict(rows, left_out):
        counts[left_out] += 1
        return np.zeros((len(left_out), 8))

    out_of_fold(fit_predict, gold, TASKS["single_label"], 8, np.array([3]), min(FOLDS, len(gold)), 1, seed=0)
    assert counts.tolist() == [1] * len(gold)


def test_the_curve_is_the_score_of_pooled_out_of_fold_predictions():
    features, gold = blobs(120)
    texts = texts_of(["abc"[at] for at in gold])
    fit_predict, kept = probe(features, list(gold), TASKS["single_label"], 3), []

    def kept_too(rows, left_out):
        outputs = fit_predict(rows, left_out)
        kept.append((len(rows), left_out, outputs.argmax(-1)))
        return outputs

    found = forecast_with(kept_too, texts, [240], repeats=1)
    for size, score in zip(found.sizes, found.scores.value, strict=True):
        chosen = np.empty(120, dtype=int)
        for rows, left_out, own in kept:
            if rows == size:
                chosen[left_out] = own
        assert score == pytest.approx(f1_score(gold, chosen, average="macro"))
    (ahead,) = found.forecasts
    assert (ahead.more, ahead.total) == (120, 240)
    assert ahead.gain.low < ahead.gain.value < ahead.gain.high
    assert ahead.score.value == pytest.approx(found.now + ahead.gain.value)


def test_the_forecast_is_nearer_to_what_more_labels_give_than_the_last_value():
    errors, naive, inside = [], [], []
    for seed in range(4):
        features, gold = blobs(900, 4, seed)
        fit_predict = probe(features, list(gold), TASKS["single_label"], 4)
        found = forecast_with(fit_predict, texts_of(["abcd"[at] for at in gold[:80]]), [160], repeats=1, seed=seed)
        rest = np.arange(160, 900)
        now, then = (
            f1_score(gold[rest], fit_predict(np.arange(count), rest).argmax(-1), average="macro") for count in (80, 160)
        )
        gain = found.forecasts[0].gain
        errors.append(abs(gain.value - (then - now)))
        naive.append(abs(then - now))
        inside.append(gain.low <= then - now <= gain.high)
    assert np.mean(errors) < 0.7 * np.mean(naive)
    assert sum(inside) >= 3


@pytest.mark.parametrize(
    ("labels", "task", "said"),
    [
        (["a", "b"] * 10, "single_label", "20 labeled texts of 2 classes are too few to fit a curve: label 34"),
        (
            [f"c{at % 20}" for at in range(100)],
            "single_label",
            "of 20 classes are too few to fit a curve: label 134",
        ),
        (["a"] * 50, "single_label", "all texts have one label"),
        ([1.0, 2.0, 3.5] * 5, "regression", "15 labeled texts are too few"),
    ],
)
def test_too_few_labels_are_refused_with_the_number_that_would_do(labels, task, said):
    with pytest.raises(InputError, match=said):
        forecast_texts(texts_of(labels, task), Recipe.of(strategy="default", model="nowhere", task=task))


def test_the_number_that_a_refusal_names_is_enough_and_one_fewer_is_not():
    enough = texts_of(["a", "b"] * 17)
    assert subset_sizes(enough, FOLDS, 6)[[0, -1]].tolist() == [10, 30]
    with pytest.raises(InputError, match="label 34"):
        subset_sizes(enough.select(range(33)), FOLDS, 6)


def test_words_are_refused_without_fine_tuning_and_numbers_below_one():
    words = texts_of([("O", "B-X")] * 60, "token")
    with pytest.raises(SettingError, match="--fine-tune"):
        forecast_texts(words, Recipe.of(strategy="default", task="token"))
    with pytest.raises(SettingError, match="at least 1"):
        forecast_texts(texts_of(["a", "b"] * 30), Recipe.of(strategy="default"), more=[0])
    with pytest.raises(SettingError, match="one model"):
        forecast_texts(texts_of(["a", "b"] * 30), Recipe.of(strategy="default", model="auto:minilm,other"))


@pytest.mark.parametrize(
    ("task", "label_of", "order"),
    [
        ("ordinal", lambda at: "123"[at % 3], ("1", "2", "3")),
        ("multi_label", lambda at: ("a",) if at % 3 else ("a", "b"), ()),
        ("regression", lambda at: at % 3 + 0.1 * (at % 2), ()),
    ],
)
def test_other_kinds_of_labels_have_their_own_score(task, label_of, order):
    generator, labels = np.random.default_rng(0), [label_of(at) for at in range(60)]
    texts = texts_of(labels, task, order)
    features = np.eye(3)[np.arange(60) % 3] + generator.normal(0, 0.8, (60, 3))
    outputs = {"ordinal": 3, "multi_label": 2, "regression": 1}[task]
    names = [*order] or {"multi_label": ["a", "b"], "regression": ["value"]}[task]
    found = forecast_with(probe(features, encode(texts, names), TASKS[task], outputs), texts, [90], repeats=1)
    assert found.metric == TASKS[task].headline
    assert found.rare == []
    assert found.scores.value[-1] > 0.3
    assert "30 more: " in state_forecast(found)[0]


def test_scores_that_do_not_rise_are_named():
    generator = np.random.default_rng(1)
    texts = texts_of(["ab"[at] for at in generator.integers(2, size=60)])
    found = forecast_with(lambda rows, out: -np.eye(2)[np.full(len(out), len(rows) % 2)], texts, [90], repeats=1)
    flat = dataclasses.replace(found, law=found.law._replace(scale=np.array(0.0)))
    assert any("do not rise" in each for each in state_forecast(flat))
    rising = dataclasses.replace(found, law=found.law._replace(scale=np.array(0.5)))
    assert not any("do not rise" in each for each in state_forecast(rising))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("forecast") / "rows.csv", toy_rows(16))  # 48 texts of 3 classes


def test_the_command_prints_the_answer_writes_a_page_and_json(file, model_folder, tmp_path):
    page = tmp_path / "curve.html"
    words = ["forecast", str(file), "--model", model_folder, "--more", "24", "--seeds", "1", "--no-progress"]
    done = CliRunner().invoke(main, [*words, "--output", str(page)])
    assert done.exit_code == 0, done.output
    assert "24 more: " in done.output
    assert "with 72 labels" in done.output
    assert "Learning curve" in page.read_text()
    found = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert [each["total"] for each in found["forecasts"]] == [72]
    assert found["curve"][-1]["texts"] == 43
    again = CliRunner().invoke(main, [*words, "--output", str(page)])
    assert again.exit_code == 2
    assert "exists" in again.stderr
    loose = CliRunner().invoke(main, [*words, "--epochs", "3"])
    assert loose.exit_code == 2
    assert "--epochs is of a training: add --fine-tune" in loose.stderr


def test_fine_tuning_trains_each_subset(file, model_folder):
    recipe = Recipe.of(strategy="default", model=model_folder, epochs=1, batch_size=16)
    found = forecast_file(file, recipe=recipe, fine_tune=True, more=[24])
    assert found.how == "default, full"
    assert found.sizes.tolist() == [10, 15, 22, 32]
    assert ((found.scores.value >= 0) & (found.scores.value <= 1)).all()
    assert "varies more from seed to seed" in state_forecast(found)[-1]
