"""Who votes, in training and after it."""

import numpy as np
import torch

from deni.strategies import DENI, Ensemble
from tests.helpers.trainers import bert, make, rows


def test_evaluation_in_training_is_the_vote(tmp_path):
    seen = {}

    def keep(prediction):
        seen[trainer.state.global_step] = trainer.population.members, prediction.predictions
        return {}

    args = {"eval_strategy": "steps", "eval_steps": 5}
    trainer = make(tmp_path, DENI(members=3), args=args, eval_dataset=rows(12), compute_metrics=keep)
    trainer.train()
    assert {step: members for step, (members, _) in seen.items()} == {
        step: trainer.schedule.at(step - 1).members for step in range(5, 41, 5)
    }
    members = trainer.predict_members(rows(12))
    assert np.allclose(np.exp(seen[40][1]), np.exp(members).mean(1), atol=1e-12)


def test_a_frozen_run_has_no_vote(tmp_path):
    made = []

    def init():
        made.append(bert())
        if len(made) % 3 == 2:
            with torch.no_grad():
                made[-1].classifier.weight.fill_(float("nan"))
        return made[-1]

    trainer = make(tmp_path, Ensemble(members=3), model_init=init)
    trainer.train()
    assert [failure.run for failure in trainer.failures] == [1]
    members = trainer.predict_members(rows(5))
    assert np.isnan(members[:, 1]).all()
    expected = np.log(np.exp(members[:, [0, 2]]).mean(1))
    assert np.allclose(trainer.predict(rows(5)).predictions, expected, atol=1e-12)
