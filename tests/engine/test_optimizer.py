"""What the optimiser sees of a population is K models, each with an optimiser of its own."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import Adafactor

from deni.engine.optimizer import MemberOptimizer, clip_members
from deni.errors import SettingError
from deni.noise import Noise
from deni.population import Population
from deni.randomness import Sources, generator
from deni.schedule import Fork

MEMBERS = 3
OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.01),
    "adam fused": lambda groups: torch.optim.Adam(groups, lr=0.01, fused=True),
    "adam foreach": lambda groups: torch.optim.Adam(groups, lr=0.01, foreach=True),
    "adam amsgrad": lambda groups: torch.optim.Adam(groups, lr=0.01, amsgrad=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1),
    "adamw fused": lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1, fused=True),
}
EXACT = 1e-15  # fused kernels may round a vector's tail differently


class Gate(nn.Module):
    """A parameter of the shape that Adam's step count has."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))


def model():
    made = nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3), Gate()).double()
    with torch.no_grad():
        for at, parameter in enumerate(made.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator(at), dtype=torch.float64))
    return made


def groups_of(parameters):
    """Weights and biases apart, as Trainer has them."""
    weights = [p for name, p in parameters.items() if "weight" in name]
    return [
        {"params": weights},
        {"params": [p for name, p in parameters.items() if "bias" in name], "weight_decay": 0.0},
    ]


class Members:
    """A population with an optimiser over its views."""

    def __init__(self, make, runs=1):
        self.population = Population(model(), [Sources(3 + run) for run in range(runs)], "loop")
        parameters = {name: views[0] for name, views in self.population.views.items()}
        self.optimizer = make(groups_of(parameters))
        self.pointed = MemberOptimizer(self.optimizer, {id(p): name for name, p in parameters.items()})
        self.pointed.point(self.views, 1)

    @property
    def views(self):
        return self.population.views

    def fork(self, state="inherit"):
        how = Fork(noise=Noise(variance=0.1, scope="trainable"), fork_optimizer=state)
        self.population.fork(MEMBERS, how)
        self.pointed.point(self.views, MEMBERS, how)

    def merge(self, mean=False):
        if mean:
            self.pointed.average(self.views, MEMBERS)
        self.population.merge()
        self.pointed.point(self.views, 1)

    def step(self, at):
        for views in self.views.values():
            for member, view in enumerate(views):
                view.grad = gradient(view, at, member)
        self.optimizer.step()

    def state(self, member):
        return {
            f"{name}/{key}": torch.as_tensor(value).clone()
            for name, views in self.views.items()
            for key, value in self.optimizer.state.get(views[member], {}).items()
            if value is not None
        }


class Alone:
    """One member as a model by itself."""

    def __init__(self, make, parameters, state=None):
        self.parameters = {name: nn.Parameter(value.detach().clone()) for name, value in parameters.items()}
        self.optimizer = make(groups_of(self.parameters))
        if state is not None:
            self.optimizer.load_state_dict(copy.deepcopy(state))

    def step(self, at, member):
        for parameter in self.parameters.values():
            parameter.grad = gradient(parameter, at, member)
        self.optimizer.step()

    def state(self):
        return {
            f"{name}/{key}": torch.as_tensor(value).clone()
            for name, parameter in self.parameters.items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
            if value is not None
        }


def gradient(parameter, at, member):
    seed = 1000 * at + 10 * member + parameter.dim()
    return torch.randn(parameter.shape, generator=generator(seed), dtype=torch.float64)


def same(ours, theirs, tolerance=0.0):
    return ours.keys() == theirs.keys() and all(
        torch.allclose(ours[name], theirs[name], rtol=0, atol=tolerance) for name in theirs
    )


# ---- steps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["inherit", "fresh"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_members_step_as_models_with_optimisers_of_their_own(make, state):
    together = Members(make)
    parent = Alone(make, together.population.member(0))
    for at in range(3):
        together.step(at)
        parent.step(at, 0)
    assert same(together.population.member(0), parent.parameters, EXACT)
    together.fork(state)
    inherited = parent.optimizer.state_dict() if state == "inherit" else None
    copies = [Alone(make, together.population.member(member), inherited) for member in range(1, MEMBERS)]
    for at in range(3, 7):
        together.step(at)
        for member, alone in enumerate([parent, *copies]):
            alone.step(at, member)
    for member, alone in enumerate([parent, *copies]):
        assert same(together.population.member(member), alone.parameters, EXACT)
        assert same(together.state(member), alone.state(), EXACT)
    assert not same(together.population.member(0), together.population.member(1), 0.01)


# ---- state -----------------------------------------------------------------------------------------------------------


def test_a_copy_inherits_a_copy_of_its_parents_state():
    members = Members(OPTIMIZERS["adam"], runs=2)
    members.step(0)
    before = members.state(0), members.state(1)
    assert not same(*before, 0.01)
    members.fork("inherit")
    for member in range(2 * MEMBERS):
        assert same(members.state(member), before[member // MEMBERS])
    members.step(1)
    assert not same(members.state(1), members.state(2), 0.01)
    assert {float(value) for key, value in members.state(2).items() if key.endswith("/step")} == {2.0}


def test_a_fresh_copy_has_no_state_and_the_parent_keeps_its_own():
    members = Members(OPTIMIZERS["adam"])
    members.step(0)
    before = members.state(0)
    members.fork("fresh")
    assert same(members.state(0), before)
    assert members.state(1) == members.state(2) == {}


def test_after_a_merge_the_parents_state_stays_and_the_others_are_gone():
    members = Members(OPTIMIZERS["adam"], runs=2)
    members.step(0)
    members.fork()
    members.step(1)
    parents = members.state(0), members.state(MEMBERS)
    members.merge()
    assert same(members.state(0), parents[0])
    assert same(members.state(1), parents[1])
    assert len(members.optimizer.state) == 2 * len(members.views)


@pytest.mark.parametrize(
    ("name", "keys"), [("adam amsgrad", {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}), ("sgd", {"momentum_buffer"})]
)
def test_after_a_merge_with_the_mean_the_state_is_the_members_mean(name, keys):
    members = Members(OPTIMIZERS[name])
    members.step(0)
    members.fork()
    members.step(1)
    each = [members.state(member) for member in range(MEMBERS)]
    members.merge(mean=True)
    merged = members.state(0)
    assert {key.partition("/")[2] for key in merged} - {"step"} == keys
    for key, value in merged.items():
        expected = each[0][key] if key.endswith("/step") else (each[0][key] + each[1][key] + each[2][key]) / 3
        assert torch.allclose(value, expected, rtol=0, atol=EXACT)


def test_a_member_without_state_counts_as_zeros_in_the_mean():
    members = Members(OPTIMIZERS["adam"])
    members.step(0)
    parents = members.state(0)
    members.fork("fresh")
    members.merge(mean=True)
    for key, value in parents.items():
        expected = value if key.endswith("/step") else value / MEMBERS
        assert torch.allclose(members.state(0)[key], expected, rtol=0, atol=EXACT)


def test_the_mean_is_taken_of_factors_that_have_not_their_parameters_shape():
    members = Members(lambda groups: Adafactor(groups, lr=0.01, scale_parameter=False, relative_step=False))
    members.step(0)
    members.fork()
    for at in range(1, 4):
        members.step(at)
    each = [members.state(member) for member in range(MEMBERS)]
    members.pointed.check_average()
    members.merge(mean=True)
    merged = members.state(0)
    for key in ("0.weight/exp_avg_sq_row", "0.weight/exp_avg_sq_col", "0.bias/exp_avg_sq"):
        mean = (each[0][key] + each[1][key] + each[2][key]) / 3
        assert torch.allclose(merged[key], mean, rtol=1e-14, atol=0)
        assert not torch.allclose(merged[key], each[0][key], rtol=1e-3, atol=0)
    assert float(merged["0.weight/step"]) == 4


class Projecting(torch.optim.Optimizer):
    """Keeps an object and a smaller tensor, as GaLore does."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                state.setdefault("projector", SimpleNamespace(seen=torch.zeros(2))).seen += 1
                state["exp_avg"] = torch.zeros(2)


def test_states_that_are_objects_are_copied_and_other_shapes_are_the_optimizers_own_affair():
    members = Members(lambda groups: Projecting(groups))
    members.step(0)
    members.fork("inherit")
    members.step(1)
    members.pointed.check()
    seen = [members.optimizer.state[view]["projector"].seen.tolist() for view in members.views["0.weight"]]
    assert seen == [[2.0, 2.0]] * MEMBERS


def test_the_mean_of_states_that_nobody_knows_is_refused():
    members = Members(lambda groups: Projecting(groups))
    with pytest.raises(SettingError, match="not Projecting: use merge_optimizer='parent'"):
        members.pointed.check_average()


@pytest.mark.parametrize("key", ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"])
def test_a_state_of_another_shape_is_refused(key):
    members = Members(OPTIMIZERS["adam amsgrad"])
    members.step(0)
    members.pointed.check()
    members.optimizer.state[members.views["0.weight"][0]][key] = torch.zeros(MEMBERS, 3, 5)
    with pytest.raises(ValueError, match=rf"optimizer state {key} is \(3, 3, 5\), not \(3, 5\)"):
        members.pointed.check()


# ---- groups ----------------------------------------------------------------------------------------------------------


def test_the_groups_stay_and_hold_every_member_once():
    members = Members(OPTIMIZERS["adamw"], runs=2)
    for change, alive in [(None, 1), (members.fork, MEMBERS), (members.merge, 1), (members.fork, MEMBERS)]:
        if change is not None:
            change()
        expected = []
        for kind in ("weight", "bias"):
            held = [id(view) for name, views in members.views.items() for view in views if kind in name]
            expected.append((sorted(held), 0.1 if kind == "weight" else 0.0))
        groups = members.optimizer.param_groups
        assert [(sorted(map(id, group["params"])), group["weight_decay"]) for group in groups] == expected
        assert sum(len(held) for held, _ in expected) == 2 * alive * len(members.views)


@pytest.mark.parametrize(("rate", "copies"), [("schedule", 0.002), ("constant", 0.01), ("restart", 0.0075)])
def test_while_it_steps_copies_have_their_rate_in_groups_of_their_own(rate, copies):
    """Also where the scheduler does not note the base rate in the groups, as ReduceLROnPlateau does not."""
    members = Members(OPTIMIZERS["adamw"])
    members.fork()
    before = [list(group["params"]) for group in members.optimizer.param_groups]
    for group in members.optimizer.param_groups:
        group["lr"] = 0.002  # what the scheduler made of 0.01
    members.pointed.set_rates(Fork(fork_rate=rate), done=0.25)
    rates = {id(p): group["lr"] for group in members.optimizer.param_groups for p in group["params"]}
    decay = {id(p): group["weight_decay"] for group in members.optimizer.param_groups for p in group["params"]}
    for name, views in members.views.items():
        assert [rates[id(view)] for view in views] == pytest.approx([0.002, copies, copies])
        assert {decay[id(view)] for view in views} == {0.1 if "weight" in name else 0.0}
    members.pointed.restore_rates()
    assert [group["lr"] for group in members.optimizer.param_groups] == [0.002, 0.002]
    assert all(
        [id(p) for p in group["params"]] == list(map(id, held))
        for group, held in zip(members.optimizer.param_groups, before, strict=True)
    )


def test_parameters_of_another_model_are_refused():
    with pytest.raises(ValueError, match="none of the model's trainable ones"):
        MemberOptimizer(torch.optim.SGD(model().parameters(), lr=0.1), {})


# ---- clipping --------------------------------------------------------------------------------------------------------


def views_with_gradients(sizes=(0.01, 1.0, 100.0)):
    views = {
        name: [nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for _ in sizes]
        for name, shape in {"a": (4, 3), "b": (5,)}.items()
    }
    for each in views.values():
        for member, view in enumerate(each):
            view.grad = sizes[member] * gradient(view, 0, member)
    return views


@pytest.mark.parametrize("max_norm", [1.0, 0.05, float("inf")])
def test_each_member_is_clipped_by_its_own_norm(max_norm):
    views, plain = views_with_gradients(), views_with_gradients()
    mean = clip_members(views, max_norm)
    norms = [nn.utils.clip_grad_norm_([each[member] for each in plain.values()], max_norm) for member in range(3)]
    for name, each in plain.items():
        for ours, theirs in zip(views[name], each, strict=True):
            assert torch.equal(ours.grad, theirs.grad)
    assert float(mean) == pytest.approx(float(sum(norms)) / 3, rel=1e-14)
    assert float(norms[2]) > 1000 * float(norms[0])


def test_a_member_without_gradients_is_left_out_of_clipping():
    views, plain = views_with_gradients(), views_with_gradients()
    for each in views.values():
        each[1].grad = None
    mean = clip_members(views, 1.0)
    norms = [nn.utils.clip_grad_norm_([each[member] for each in plain.values()], 1.0) for member in (0, 2)]
    assert float(mean) == pytest.approx(float(sum(norms)) / 2, rel=1e-14)
    assert torch.equal(views["a"][2].grad, plain["a"][2].grad)
    assert views["a"][1].grad is None
