import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from transformers import AutoModel

import deni
from deni.auto import decide
from deni.auto.encoders import compare_encoders, told
from deni.baselines import make_baseline
from deni.data import Texts
from deni.errors import InputError, SettingError
from deni.finetune import fine_tune
from deni.measures.folds import over_folds
from deni.recipe import Recipe
from deni.strategies import Default
from tests.helpers.tiny import toy_rows

ROWS = toy_rows(10)
NOISY = [label if at % 4 else ROWS[at - 1][1] for at, (_, label) in enumerate(ROWS)]
TRAIN = Texts([text for text, _ in ROWS], NOISY, "toy", pd.DataFrame({"text": [text for text, _ in ROWS]}))


@pytest.fixture(scope="module")
def rows(model_folder, other_encoder):
    return compare_encoders(TRAIN, [model_folder, other_encoder], Recipe(max_length=30))


def fold_scores(model):
    """By hand: the frozen baseline is fitted to each fold's texts, and predicts those that it has not seen."""
    scores = []
    for seen, left_out in StratifiedKFold(5).split(TRAIN.texts, NOISY):
        fitted = make_baseline("frozen").fit(TRAIN.select(seen), Recipe(model=model, max_length=30))
        chosen = fitted.outputs([TRAIN.texts[at] for at in left_out]).argmax(1)
        gold = [NOISY[at] for at in left_out]
        scores.append(f1_score(gold, [fitted.labels[each] for each in chosen], average="macro"))
    return np.array(scores)


def test_the_scores_are_those_of_the_frozen_baseline_on_texts_that_it_has_not_seen(rows, model_folder, other_encoder):
    byhand = {model: fold_scores(model) for model in (model_folder, other_encoder)}
    assert {row.model: row.score for row in rows} == pytest.approx({name: own.mean() for name, own in byhand.items()})
    best, second = rows
    assert best.score > second.score
    assert best.difference == (0, 0, 0)
    assert second.difference == pytest.approx(over_folds(byhand[second.model] - byhand[best.model], 6 / 24))


def test_parameters_and_seconds_are_counted(rows, model_folder):
    model = AutoModel.from_pretrained(model_folder)
    counts = {row.model: row.parameters for row in rows}
    assert counts[model_folder] == sum(each.numel() for each in model.parameters())
    assert all(row.seconds > 0 for row in rows)


def test_of_equal_ones_the_first_is_the_best(model_folder, sentence_encoder):
    found = compare_encoders(TRAIN, [model_folder, model_folder], Recipe(pooling="mean"))
    assert [row.difference for row in found] == [(0, 0, 0), (0, 0, 0)]


@pytest.mark.parametrize("task", ["multi_label", "ordinal", "regression"])
def test_each_task_is_compared_by_its_own_metric(task, texts_of, model_folder, other_encoder):
    found = compare_encoders(texts_of(task, each=6), [model_folder, other_encoder], Recipe(task=task))
    assert {row.model for row in found} == {model_folder, other_encoder}
    assert all(np.isfinite(row.score) for row in found)


def test_pairs_are_compared(texts_of, model_folder, other_encoder):
    assert len(compare_encoders(texts_of(pairs=True), [model_folder, other_encoder], Recipe())) == 2


def test_what_cannot_be_compared_is_one_line(texts_of, model_folder):
    with pytest.raises(SettingError, match="encoders cannot be compared: a frozen one reads whole texts"):
        compare_encoders(texts_of("token"), [model_folder], Recipe(task="token"))
    with pytest.raises(InputError, match="no class has two texts"):
        compare_encoders(texts_of(each=1), [model_folder], Recipe())
    with pytest.raises(InputError, match="model 'nobody/has-this' cannot be loaded"):
        compare_encoders(TRAIN, [model_folder, "nobody/has-this"], Recipe())


def test_a_training_takes_the_best_and_keeps_the_comparison(rows, model_folder, other_encoder, tmp_path):
    choice = f"auto:{other_encoder}, {model_folder}"
    recipe = Recipe(model=choice, strategy=Default(), epochs=1, max_length=30)
    fitted = fine_tune(TRAIN, recipe, progress=False)
    assert fitted.recipe.model == rows[0].model
    info = json.loads((fitted.save(tmp_path / "model") / "deni.json").read_text())
    assert info["recipe"]["model"] == info["encoders"]["chosen"] == rows[0].model
    assert "auto" not in info
    compared = {each["model"]: each["score"] for each in info["encoders"]["compared"]}
    assert compared == pytest.approx({row.model: row.score for row in rows})
    assert deni.load(tmp_path / "model")(["parcel late"])
    names = ", ".join(row.model for row in rows)
    assert f"the best of {names} by a cross-validated" in (tmp_path / "model" / "README.md").read_text().replace(
        "\\", ""
    )
    assert told(info["encoders"]).startswith(f"The encoder is {rows[0].model}, the best of 2 by a cross-validated")


def test_encoder_and_strategy_are_chosen_together(model_folder, other_encoder):
    recipe = decide(Recipe(model=f"auto:{model_folder},{other_encoder}"), TRAIN)
    assert recipe.encoders["chosen"] == recipe.model
    assert recipe.chosen["settings"]["strategy"]["from"] == "auto"


def test_a_choice_of_one_or_of_equal_models_is_refused(model_folder):
    for names, message in (("minilm", "only 'minilm' to choose among"), ("a,b,a", "'a' is named twice")):
        with pytest.raises(InputError, match=message):
            decide(Recipe(model=f"auto:{names}"), TRAIN)
    with pytest.raises(SettingError, match="the preset paper is for one model"):
        Recipe.of("paper", model="auto:a,b")
