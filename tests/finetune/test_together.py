"""Several recipes in one training equal each by itself, for classification and for generation."""

import dataclasses

import numpy as np
import pytest
import torch

from deni.data import Texts, read_texts
from deni.errors import SettingError
from deni.finetune import fine_tune
from deni.recipe import Recipe
from deni.strategies import DENI, Default, Ensemble
from deni.tuning import Full, Lora
from tests.helpers.generators import save_generator

OWN = (
    {"seed": 0, "learning_rate": 3e-3, "tuning": Lora(lora_r=4, lora_alpha=8, lora_dropout=0.3)},
    {"seed": 0, "learning_rate": 1e-3, "tuning": Lora(lora_r=2, lora_alpha=8, lora_dropout=0.0, rslora=False)},
    {"seed": 1, "learning_rate": 3e-3, "tuning": Lora(lora_r=8, lora_alpha=4)},
)
STRATEGIES = {
    "default": lambda at: Default(),
    "deni": lambda at: DENI(members=3, variance=(0.1, 0.5, 0.0)[at]),
    "ensemble": lambda at: Ensemble(members=2),
}


def recipes(strategy, **shared):
    made = STRATEGIES[strategy]
    return [Recipe(strategy=made(at), epochs=2, **own, **shared) for at, own in enumerate(OWN)]


def check(texts, several, exact):
    """Predictions of the trainings together and one after another."""
    together = fine_tune(texts, several, progress=False)
    rows = together.trainer.train_dataset
    predicted = together.trainer.predict_members(rows)
    size, alone = predicted.shape[1] // len(several), []
    for at, recipe in enumerate(several):
        single = fine_tune(texts, recipe, progress=False).trainer.predict_members(rows)
        alone.append(single)
        assert np.abs(predicted[:, at * size : (at + 1) * size] - single).max() < exact
    assert np.abs(alone[0] - alone[1]).max() > 10 * exact
    assert np.abs(alone[0] - alone[2]).max() > 10 * exact


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_classification(tickets, model_folder, strategy):
    several = [
        dataclasses.replace(each, dropout=dropout)
        for each, dropout in zip(recipes(strategy, model=model_folder), (0.1, 0.0, 0.5), strict=True)
    ]
    check(read_texts(tickets), several, 5e-5)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_generation(tmp_path, strategy):
    prompts = [f"{a}+{b}=" for a in range(4) for b in range(4)]
    texts = Texts(prompts, [str(eval(prompt[:-1])) for prompt in prompts], "qa.jsonl", None, "generation")
    model = save_generator(tmp_path / "llama", "llama")
    check(texts, recipes(strategy, model=model, task="generation"), 5e-5)


def test_full_fine_tuning_with_other_rates_and_dropouts(tickets, model_folder):
    several = [
        Recipe(model=model_folder, strategy=Default(), tuning=Full(), epochs=2, learning_rate=rate, dropout=dropout)
        for rate, dropout in ((1e-3, 0.3), (1e-4, 0.3), (1e-3, 0.0))
    ]
    check(read_texts(tickets), several, 5e-5)


def test_what_must_be_shared_is_named(tickets, model_folder):
    plain = Recipe(model=model_folder, strategy=DENI(), tuning=Lora(), epochs=2)
    for change, what in (
        ({"epochs": 3}, "epochs, not 2 and 3"),
        ({"tuning": Full()}, "tuning, not 'lora' and 'full'"),
        ({"tuning": Lora(lora_bias="none")}, "lora_bias, not 'all' and 'none'"),
        ({"strategy": DENI(members=3)}, "members, not 10 and 3"),
        ({"strategy": Default()}, "strategy, not 'deni' and 'default'"),
    ):
        with pytest.raises(SettingError, match=f"must share {what}: train them one after another"):
            fine_tune(read_texts(tickets), [plain, dataclasses.replace(plain, **change)], progress=False)


def test_what_is_for_one_recipe_is_refused_with_several(tickets, model_folder):
    plain = Recipe(model=model_folder, strategy=Default(), epochs=1)
    with pytest.raises(SettingError, match=r"^seeds is for one recipe, not for several"):
        fine_tune(read_texts(tickets), [plain, plain], seeds=[1, 2], progress=False)
    with pytest.raises(SettingError, match="there are no recipes to train"):
        fine_tune(read_texts(tickets), [], progress=False)


def test_several_recipes_are_not_saved_as_one_artifact(tickets, model_folder, tmp_path):
    plain = Recipe(model=model_folder, strategy=Default(), epochs=1)
    result = fine_tune(read_texts(tickets), [plain, dataclasses.replace(plain, learning_rate=1e-3)], progress=False)
    with pytest.raises(SettingError, match=r"not one artifact: save each of trainer\.members"):
        result.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert all(isinstance(member, torch.nn.Module) for member in result.trainer.members)
