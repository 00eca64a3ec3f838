"""Fork, merge and perturb are what the formulas say, run by run and member by member."""

import copy
import dataclasses

import pytest
import torch

from deni.engine.active_tokens import activate
from deni.noise import Noise
from deni.population import Population
from deni.randomness import Sources, derive, generator, global_generators
from deni.schedule import Fork
from deni.training import checkpoint
from deni.tuning import Lora

HEAD = ["classifier.weight", "classifier.bias"]
ALL = Fork(noise=Noise(variance=0.15, scope="trainable", floor=0.02))


def trainable(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def lora(model):
    with global_generators(0):
        return Lora(lora_r=4, lora_alpha=4, lora_bias="none").apply(model).double()


def runs_of(tiny, seeds, architecture="bert", engine="stacked"):
    """A population with one run for each seed, and where each run starts."""
    models = [tiny(architecture, seed=seed) for seed in seeds]
    starts = [trainable(model) for model in models]
    return Population(models[0], [Sources(seed) for seed in seeds], engine, starts[1:]), starts


def eps_of(seed):
    """The noise of a run, drawn by hand."""
    stream = generator(derive(seed, "noise"))
    return lambda tensor: torch.randn(tensor.shape, generator=stream, dtype=tensor.dtype)


def noisy(tensor, eps, variance, scale="scaled", floor=0.0):
    s = 1.0 if scale == "uniform" else max(float(tensor.std()), floor)
    return tensor + variance**0.5 * s * eps(tensor)


def same(ours, theirs, tolerance=0.0):
    return ours.keys() == theirs.keys() and all(
        torch.allclose(ours[name], theirs[name], rtol=0, atol=tolerance) for name in theirs
    )


def values(population):
    return {name: value.clone() for name, value in population.values.items()}


# ---- fork ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_a_fork_leaves_the_parent_and_adds_noise_to_the_copies(tiny, engine):
    population, (start,) = runs_of(tiny, [3], engine=engine)
    population.fork(4, ALL)
    eps = eps_of(3)
    assert same(population.member(0), start)
    for member in range(1, 4):
        expected = {name: noisy(value, eps, 0.15, floor=0.02) for name, value in start.items()}
        assert same(population.member(member), expected, 1e-6)  # s is taken in float32


@pytest.mark.parametrize("engine", ["loop", "stacked"])
@pytest.mark.parametrize("members", [1, 2, 3, 4, 5])
def test_antithetic_copies_come_in_pairs_of_opposite_noise(tiny, engine, members):
    """A copy that is left over has noise of its own; a pair draws once."""
    population, starts = runs_of(tiny, [3, 4], engine=engine)
    population.fork(members, dataclasses.replace(ALL, antithetic=True))
    for run, (seed, start) in enumerate(zip((3, 4), starts, strict=True)):
        eps = eps_of(seed)
        for at in range(members):
            ours = population.member(run * members + at)
            if at % 2:
                ahead = {name: noisy(value, eps, 0.15, floor=0.02) for name, value in start.items()}
                assert same(ours, ahead, 1e-6)
            elif at:
                assert same(ours, {name: 2 * value - ahead[name] for name, value in start.items()}, 1e-6)
            else:
                assert same(ours, start)
    population.merge()
    for run, start in enumerate(starts):
        assert same(population.member(run), start, 1e-12) == bool(members % 2)


def test_without_antithetic_noise_the_draws_are_those_of_each_copy(tiny):
    plain, again = (runs_of(tiny, [3])[0] for _ in range(2))
    plain.fork(5, ALL)
    again.fork(3, dataclasses.replace(ALL, antithetic=True))
    assert same(plain.member(1), again.member(1))
    assert not same(plain.member(2), again.member(2), 1e-3)


@pytest.mark.parametrize(("scale", "variance"), [("scaled", 0.15), ("uniform", 0.01)])
def test_a_fork_with_noise_on_the_head_copies_the_rest(tiny, scale, variance):
    population, (start,) = runs_of(tiny, [3])
    population.fork(3, Fork(noise=Noise(variance=variance, scale=scale, scope="head")))
    eps = eps_of(3)
    for member in (1, 2):
        ours = population.member(member)
        for name, value in start.items():
            if name in HEAD:
                assert torch.allclose(ours[name], noisy(value, eps, variance, scale), rtol=0, atol=1e-6)
            else:
                assert torch.equal(ours[name], value)
        # Its initial bias is zero, so scaled noise has nothing to measure itself in.
        assert torch.equal(ours["classifier.bias"], start["classifier.bias"]) == (scale == "scaled")


def test_auto_noise_reaches_the_head_of_a_whole_model_and_all_of_an_adapter(tiny):
    whole = Population(tiny("bert"), [Sources(0)])
    adapter = Population(lora(tiny("bert")), [Sources(0)])
    assert whole.scope("auto") == whole.scope("head") == HEAD
    assert adapter.scope("auto") == adapter.scope("trainable") == list(adapter.values)
    assert len(adapter.scope("head")) == 2


def test_members_of_a_fork_without_noise_are_equal(tiny):
    population, (start,) = runs_of(tiny, [3])
    population.fork(3, Fork(noise=Noise(variance=0.0)))
    assert all(same(population.member(member), start) for member in range(3))


@pytest.mark.parametrize("members", [0, -1])
def test_a_fork_needs_a_member(tiny, members):
    with pytest.raises(ValueError, match=f"members must be at least 1, not {members}"):
        runs_of(tiny, [3])[0].fork(members)


def test_a_forked_population_does_not_fork_again(tiny):
    population, _ = runs_of(tiny, [3])
    population.fork(2)
    with pytest.raises(RuntimeError, match="2 members a run cannot fork: merge it first"):
        population.fork(2)


# ---- merge -----------------------------------------------------------------------------------------------------------


def test_a_merge_is_the_mean_of_the_members(tiny):
    population, _ = runs_of(tiny, [3])
    population.fork(4, ALL)
    each = [population.member(member) for member in range(4)]
    population.merge()
    expected = {name: (each[0][name] + each[1][name] + each[2][name] + each[3][name]) / 4 for name in each[0]}
    assert population.size == 1
    assert same(population.member(0), expected, 1e-15)


@pytest.mark.parametrize("members", [1, 2, 3, 7, 10])
def test_merging_equal_members_changes_nothing(tiny, members):
    population, _ = runs_of(tiny, [3])
    population.perturb(ALL.noise)  # or the values are those of a float32, whose sums round to nothing in float64
    start = {name: value.clone() for name, value in population.member(0).items()}
    population.fork(members)
    population.merge()
    assert same(population.member(0), start)


def test_another_mean_can_be_asked_for(tiny):
    population, _ = runs_of(tiny, [3])
    population.fork(3, ALL)
    last = population.member(2)
    population.merge(lambda values: {name: value[-1] for name, value in values.items()})
    assert same(population.member(0), last)


# ---- perturb ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["head", "trainable"])
def test_noise_reaches_the_trainable_tensors_in_scope_and_nothing_else(tiny, scope):
    model = lora(tiny("bert"))
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    population = Population(model, [Sources(3)])
    before = trainable(model)
    population.perturb(Noise(variance=0.15, scope=scope, floor=0.02))
    eps = eps_of(3)
    reached = population.scope(scope)
    expected = {
        name: noisy(value, eps, 0.15, floor=0.02) if name in reached else value for name, value in before.items()
    }
    assert len(reached) == (2 if scope == "head" else len(before))
    assert same(population.member(0), expected, 1e-6)
    assert all(not torch.equal(population.member(0)[name], before[name]) for name in reached)
    with population.plain() as plain:
        shared = dict(plain.named_parameters())
    assert all(torch.equal(shared[name], value) for name, value in frozen.items())


def test_every_member_gets_noise_of_its_own(tiny):
    population, (start,) = runs_of(tiny, [3])
    population.fork(3)
    population.perturb(Noise(variance=0.15, scope="trainable"))
    eps = eps_of(3)
    for member in range(3):
        assert same(population.member(member), {n: noisy(v, eps, 0.15) for n, v in start.items()}, 1e-6)


# ---- members and runs ------------------------------------------------------------------------------------------------


def test_a_member_has_the_plain_models_names_and_whole_tables(tiny, batch):
    model = tiny("bert")
    start = trainable(model)
    (name,) = activate(model, torch.tensor([7, 9]))
    population = Population(model, [Sources(3)])
    population.fork(2, ALL)
    assert same(population.member(0), start)
    copied = population.member(1)[name]
    others = [row for row in range(60) if row not in (7, 9)]
    assert torch.equal(copied[[7, 9]], population.values[name][1])
    assert torch.equal(copied[others], start[name][others])
    assert not torch.equal(copied, start[name])


def test_a_member_computes_what_the_plain_model_computes_with_its_tensors(tiny, batch):
    inputs = {key: value for key, value in batch().items() if key != "labels"}
    population, _ = runs_of(tiny, [3])
    plain = tiny("bert").eval()
    population.module.eval()
    population.fork(3, ALL)
    logits = population.module(**population.module.fold(inputs)).logits.unflatten(0, (3, -1))
    for member in range(3):
        plain.load_state_dict(population.member(member), strict=True)
        assert torch.allclose(logits[member], plain(**inputs).logits, rtol=0, atol=1e-12)
    assert not torch.allclose(logits[0], logits[1], rtol=0, atol=1e-3)


def test_members_are_in_the_order_of_their_runs(tiny):
    """A run in company goes through a fork, noise and a merge as it does alone."""
    together, starts = runs_of(tiny, [3, 4, 5])
    alone = [runs_of(tiny, [seed])[0] for seed in (3, 4, 5)]
    assert [same(together.member(run), start) for run, start in enumerate(starts)] == [True] * 3
    for population in (together, *alone):
        population.fork(2, ALL)
    assert (together.runs, together.members, together.size) == (3, 2, 6)
    assert [same(together.member(2 * run), start) for run, start in enumerate(starts)] == [True] * 3
    assert all(same(together.member(2 * run + k), alone[run].member(k)) for run in range(3) for k in range(2))
    assert not same(together.member(1), together.member(3), 0.01)
    for population in (together, *alone):
        population.perturb(ALL.noise)
        population.merge()
    assert all(same(together.member(run), alone[run].member(0)) for run in range(3))


def test_each_run_needs_a_start(tiny):
    model = tiny("bert")
    with pytest.raises(ValueError, match="3 runs need 2 initial values, not 1"):
        Population(model, [Sources(seed) for seed in range(3)], initial=[trainable(model)])


def test_a_model_without_trainable_parameters_is_refused(tiny):
    with pytest.raises(ValueError, match="no trainable parameters"):
        Population(tiny("bert").requires_grad_(False), [Sources(0)])


# ---- state -----------------------------------------------------------------------------------------------------------


def test_the_plain_model_holds_the_first_member(tiny):
    population, _ = runs_of(tiny, [3])
    population.fork(2, ALL)
    population.values["classifier.weight"][0] += 1.0
    with population.plain() as plain:
        assert same(trainable(plain), population.member(0))
    population.merge()
    with population.plain() as plain:
        assert same(trainable(plain), population.member(0))


def test_a_change_of_dtype_reaches_every_member(tiny, batch):
    inputs = {key: value for key, value in batch().items() if key != "labels"}
    population, _ = runs_of(tiny, [3])
    population.fork(3, ALL)
    before = values(population)
    population.module.float().eval()
    assert same(values(population), {name: value.float() for name, value in before.items()})
    assert all(
        view.data_ptr() == population.values[n][m].data_ptr()
        for n, v in population.views.items()
        for m, view in enumerate(v)
    )
    assert population.module(**population.module.fold(inputs)).logits.dtype == torch.float32


def test_another_engine_computes_the_same_members(tiny, batch):
    inputs = {key: value for key, value in batch().items() if key != "labels"}
    population, _ = runs_of(tiny, [3])
    population.fork(3, ALL)
    population.module.eval()
    before, logits = values(population), population.module(**population.module.fold(inputs)).logits
    population.module.choose("loop")
    parts = []
    for chunk in population.module.chunks:
        population.module.focus(chunk)
        parts.append(population.module(**population.module.fold(inputs)).logits)
    assert len(parts) == 3
    assert same(values(population), before)
    assert torch.allclose(torch.cat(parts), logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("members", [1, 3])
def test_a_saved_population_goes_on_as_if_it_had_not_stopped(tiny, batch, tmp_path, members):
    """Values, number of members, masks, and the noise of the next fork."""
    inputs = {key: value for key, value in batch().items() if key != "labels"}

    def go_on(population):
        population.module.train()
        logits = population.module(**population.module.fold(inputs)).logits
        population.merge()
        population.fork(2, ALL)
        return logits, values(population), population.module(**population.module.fold(inputs)).logits

    population, _ = runs_of(tiny, [3, 4])
    population.module.train()
    population.fork(2, ALL)
    population.merge()
    population.fork(members, ALL)
    population.module(**population.module.fold(inputs))
    checkpoint.save(population, tmp_path, {"at": 7})
    checkpoint.save_randomness(population, tmp_path)
    at_rest = values(population)
    resumed, _ = runs_of(tiny, [3, 4])
    assert checkpoint.load(resumed, tmp_path)["at"] == 7
    assert same(values(resumed), at_rest)
    assert (resumed.members, resumed.forks) == (members, 2)
    first, second = go_on(population), go_on(resumed)
    assert torch.equal(first[0], second[0])
    assert same(first[1], second[1])
    assert torch.equal(first[2], second[2])


def test_values_that_do_not_fit_are_refused(tiny):
    population, _ = runs_of(tiny, [3])
    wrong = values(population)
    wrong["classifier.bias"] = torch.zeros(1, 4)
    with pytest.raises(ValueError, match=r"classifier.bias: not the \(1, 3\) values"):
        population.replace(wrong, 1)


def test_replacing_copies_the_values(tiny):
    population, _ = runs_of(tiny, [3])
    given = {name: value + 1 for name, value in population.values.items()}
    kept = copy.deepcopy(given)
    population.replace(given, 1)
    population.perturb(ALL.noise)
    assert same(given, kept)


# ---- a part ----------------------------------------------------------------------------------------------------------


def check_part(population, members):
    """A part computes what plain copies of its members do, and leaves the population as it is."""
    before = values(population)
    part = population.part(members)
    assert part.size == len(members)
    inputs = {"input_ids": torch.tensor([[5, 6, 7], [8, 9, 4]])}
    for at, member in enumerate(members):
        plain = population.copy_of(population.member(member), member).eval()
        with part.alone(at) as model:
            assert torch.equal(model.eval()(**inputs).logits, plain(**inputs).logits)
    assert same(values(population), before)
    return part


def test_a_part_is_these_members(tiny):
    population, _ = runs_of(tiny, [0, 1])
    population.fork(3, ALL)
    check_part(population, [4, 5])
    check_part(population, [2])


def test_a_part_has_whole_embeddings(tiny):
    model = tiny("bert")
    assert activate(model, torch.tensor([5, 6, 7]))
    population = Population(model, [Sources(0)])
    population.fork(2, ALL)
    check_part(population, [0, 1])


def test_a_part_shares_the_frozen_parameters(tiny):
    population = Population(lora(tiny("bert")), [Sources(0)])
    population.fork(3, ALL)
    part = check_part(population, [0, 2])
    frozen = {name: each for name, each in population.model.named_parameters() if not each.requires_grad}
    with part.plain() as model:
        shared = [name for name, each in model.named_parameters() if each is frozen.get(name)]
    assert shared
    assert len(shared) == len(frozen)
