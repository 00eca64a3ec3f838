import numpy as np
import pytest
import torch

from deni.randomness import Sources, derive
from deni.strategies import Ensemble
from tests.helpers.members import STEPS, Member, apart, texts, tiny, trained


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_it_is_plain_fine_tunings_with_seeds_of_their_own_that_vote(tmp_path, engine):
    trainer = trained(tmp_path, Ensemble(members=3), engine, model_init=tiny)
    alone = [Member(Sources(seed)) for seed in (42, derive(42, "ensemble", 1), derive(42, "ensemble", 2))]
    for each in alone:
        each.train(0, STEPS)
    assert apart(trainer, alone) < 1e-10

    held_out = texts(9, seed=5)
    with torch.no_grad():
        ids = torch.tensor(held_out["input_ids"])
        mean = torch.stack([each.model.eval()(input_ids=ids).logits.softmax(-1) for each in alone]).mean(0)
    assert np.allclose(np.exp(trainer.predict(held_out).predictions), mean.numpy(), atol=1e-9)
