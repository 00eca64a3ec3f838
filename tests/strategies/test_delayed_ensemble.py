import numpy as np
import pytest
import torch

from deni.randomness import Sources
from deni.strategies import DelayedEnsemble
from tests.helpers.members import STEPS, Member, apart, texts, trained


@pytest.mark.parametrize("engine", ["loop", "stacked"])
@pytest.mark.parametrize("given", [{"variance": 0.15}, {}], ids=["head", "all that trains"])
def test_it_forks_at_nine_tenths_and_the_members_vote(tmp_path, engine, given):
    parent = Member(Sources(42))
    parent.train(0, 36)
    noise = {"variance": 0.15} if given else {"variance": 0.005, "noisy": list(parent.values())}
    members = parent.copies(3, **noise, fork=1)
    for each in members:
        each.train(36, STEPS)
    trainer = trained(tmp_path, DelayedEnsemble(members=3, **given), engine)
    assert apart(trainer, members) < 1e-10

    held_out = texts(9, seed=5)
    with torch.no_grad():
        ids = torch.tensor(held_out["input_ids"])
        mean = torch.stack([each.model.eval()(input_ids=ids).logits.softmax(-1) for each in members]).mean(0)
    assert np.allclose(np.exp(trainer.predict(held_out).predictions), mean.numpy(), atol=1e-9)
