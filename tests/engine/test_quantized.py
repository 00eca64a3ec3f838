"""Members with optimizer states of 8 bits."""

import pytest
import torch
from torch import nn

from deni.engine.optimizer import MemberOptimizer
from deni.population import Population
from deni.randomness import Sources, generator
from deni.schedule import Fork

bitsandbytes = pytest.importorskip("bitsandbytes", minversion="0.50")  # earlier ones step on a GPU only
MEMBERS = 3


class Model(nn.Module):
    """Two layers that are large enough for states of 8 bits."""

    def __init__(self):
        super().__init__()
        self.linear, self.table = nn.Linear(64, 80), nn.Embedding(100, 64)


class Members:
    """A population of runs under AdamW of 8 bits, of 32 for the embedding, as Trainer has it."""

    def __init__(self, runs=1):
        self.model = Model()
        self.population = Population(self.model, [Sources(run) for run in range(runs)], "loop")
        parameters = {name: views[0] for name, views in self.population.views.items()}
        self.optimizer = bitsandbytes.optim.AdamW8bit(parameters.values(), lr=0.01)
        manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
        manager.register_module_override(self.model.table, "weight", {"optim_bits": 32})
        self.pointed = MemberOptimizer(self.optimizer, {id(p): name for name, p in parameters.items()})
        self.how = Fork(fork_optimizer="fresh")
        self.pointed.point(self.population.views, 1)

    def fork(self, state="fresh"):
        self.how = Fork(fork_optimizer=state, fork_rate="constant")
        self.population.fork(MEMBERS, self.how)
        self.pointed.point(self.population.views, MEMBERS, self.how)

    def step(self, at):
        for views in self.population.views.values():
            for member, view in enumerate(views):
                view.grad = torch.randn(view.shape, generator=generator(10 * at + member))
        self.pointed.set_rates(self.how, 0.0)
        self.optimizer.step()
        self.pointed.restore_rates()

    def types(self, name):
        return [self.optimizer.state[view]["state1"].dtype for view in self.population.views[name]]


def values(state, at):
    """What a state of 8 bits stands for: an entry of the table times the largest value of its block of 256."""
    table, index = state[f"qmap{at}"], state[f"state{at}"].flatten().long()
    return table[index] * state[f"absmax{at}"].repeat_interleave(256)[: len(index)]


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("state", ["fresh", "inherit"])
def test_every_member_has_the_bits_that_its_parameter_was_given(state, runs):
    members = Members(runs)
    members.step(0)
    assert members.types("table.weight") == [torch.float32] * runs
    members.fork(state)
    members.step(1)
    assert members.types("table.weight") == [torch.float32] * MEMBERS * runs
    assert members.types("linear.weight") == [torch.uint8] * MEMBERS * runs


def test_nothing_is_left_for_the_optimizers_of_other_models():
    manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
    before = dict(manager.index2config), dict(manager.pid2config)
    members = Members()
    members.step(0)
    members.fork()
    members.step(1)
    assert (manager.index2config, manager.pid2config) == before


def test_after_a_merge_with_the_mean_a_state_is_the_members_mean_up_to_its_bits():
    members = Members()
    members.step(0)
    members.fork("inherit")
    for at in range(1, 4):
        members.step(at)
    views = members.population.views["linear.weight"]
    means = [torch.stack([values(members.optimizer.state[view], at) for view in views]).mean(0) for at in (1, 2)]
    parent = [values(members.optimizer.state[views[0]], at) for at in (1, 2)]
    members.pointed.check_average()
    members.pointed.average(members.population.views, MEMBERS)
    for at, mean, old in zip((1, 2), means, parent, strict=True):
        merged = values(members.optimizer.state[views[0]], at)
        assert float((merged - mean).norm() / mean.norm()) < 0.03
        assert float((old - mean).norm() / mean.norm()) > 0.2
