"""What is evaluated: whose rows, how many at a time, without a trace in the global generators."""

import random

import numpy as np
import pytest
import torch

from deni.engine.module import PopulationModule
from deni.errors import SettingError
from deni.strategies import DENI, DelayedEnsemble, Soup
from deni.training import evaluation
from tests.helpers.trainers import accuracy, fresh, make, pad, padded, rows, same, seeded, values


def test_each_seed_is_evaluated_on_its_own_rows(tmp_path):
    train, held_out = [padded(seed=seed) for seed in (1, 2)], [padded(10, seed=seed) for seed in (8, 9)]
    options = {"model_init": fresh, "data_collator": pad, "compute_metrics": accuracy}
    pack = make(tmp_path, DENI(members=2), train=train, seeds=[5, 6], eval_dataset=held_out, **options)
    pack.train()
    alone = []
    for run, seed in enumerate((5, 6)):
        own = {"train": train[run], "seeds": [seed], "eval_dataset": held_out[run]}
        trainer = make(tmp_path, DENI(members=2), **own, **options)
        trainer.train()
        alone.append(trainer.evaluate())
    metrics = pack.evaluate()
    assert [each["accuracy"] for each in pack.compute_metrics.per_run] == [each["eval_accuracy"] for each in alone]
    assert metrics["eval_loss"] == pytest.approx(np.mean([each["eval_loss"] for each in alone]), abs=1e-9)


def test_a_set_that_is_named_is_evaluated_in_place_of_the_seeds_own(tmp_path):
    held_out = [rows(10, seed=8), rows(10, seed=9)]
    options = {"model_init": fresh, "compute_metrics": accuracy}
    trainer = make(tmp_path, DENI(members=2), seeds=[5, 6], eval_dataset=held_out, **options)
    trainer.train()
    named = rows(12, seed=7)
    predictions = trainer.predict(named).predictions  # (N, R, C)
    labels = np.array([row["labels"] for row in named])
    trainer.evaluate(named)
    expected = [{"accuracy": float((predictions[:, run].argmax(-1) == labels).mean())} for run in range(2)]
    assert trainer.compute_metrics.per_run == expected


def test_evaluation_leaves_the_global_generators_as_they_were(tmp_path):
    trainer = make(tmp_path, eval_dataset=rows(8))
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    trainer.evaluate()
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_many_members_are_asked_about_few_texts_at_a_time(tmp_path, monkeypatch):
    asked, forward = [], PopulationModule.forward

    def noting(self, **inputs):
        asked.append(len(inputs["input_ids"]))
        return forward(self, **inputs)

    trainer = make(tmp_path, DelayedEnsemble(members=3), eval_dataset=rows(12))
    trainer.train()
    whole, loss = trainer.predict_members(rows(12)), trainer.evaluate()["eval_loss"]
    monkeypatch.setattr(evaluation, "ROWS", 6)
    monkeypatch.setattr(PopulationModule, "forward", noting)
    assert np.allclose(trainer.predict_members(rows(12)), whole, atol=1e-12)
    assert set(asked) == {6}  # two texts, three members
    assert trainer.evaluate()["eval_loss"] == pytest.approx(loss, abs=1e-12)
    monkeypatch.setattr(evaluation, "ROWS", 2)  # fewer than members
    assert np.allclose(trainer.predict_members(rows(12)), whole, atol=1e-12)
    assert trainer.args.per_device_eval_batch_size == 8


def test_the_merged_members_predict_as_one_model_and_are_members_again(tmp_path):
    trainer = make(tmp_path, DENI(members=3))
    trainer.train()
    before, members = values(trainer), trainer.predict_members(rows())  # (N, 3, C)
    mean = {name: value.mean(0) for name, value in before.items()}
    plain = seeded().eval()
    plain.load_state_dict({**plain.state_dict(), **trainer.population.full(mean)})
    expected = plain(input_ids=torch.tensor([row["input_ids"] for row in rows()])).logits.log_softmax(-1)
    assert np.allclose(trainer.predict_merged(rows())[:, 0], expected.detach().numpy(), atol=1e-12)
    assert same(values(trainer), before)
    assert np.array_equal(trainer.predict_members(rows()), members)


def test_a_metric_that_no_evaluation_gives_is_named(tmp_path):
    soup = Soup(members=2, ingredients="greedy")
    args = {"metric_for_best_model": "f1", "num_train_epochs": 1}
    trainer = make(tmp_path, soup, args=args, eval_dataset=rows(8, 3), compute_metrics=accuracy)
    with pytest.raises(SettingError, match="metric_for_best_model is f1, but an evaluation gives eval_loss"):
        trainer.train()
