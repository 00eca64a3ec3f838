"""The estimate of memory is near what training keeps."""

import gc
import weakref

import pytest
import torch

from deni.engine import memory
from deni.engine.memory import Estimate
from deni.noise import Noise
from deni.population import Population
from deni.randomness import Sources, global_generators
from deni.schedule import Fork
from deni.tuning import make_tuning


def tuned(model, tuning):
    settings = {"lora_r": 4, "lora_alpha": 4} if tuning == "lora" else {}
    with global_generators(1):
        return make_tuning(tuning, **settings).apply(model).to(torch.float64).train()


def inputs_of(batch, rows=8, tokens=20):
    data = batch(rows=rows, tokens=tokens)
    return {"input_ids": data["input_ids"], "attention_mask": torch.ones_like(data["attention_mask"])}


def kept(population, inputs):
    """Bytes that a forward pass keeps for its backward pass, without parameters."""
    tensors = [*population.values.values(), *population.model.parameters(), *population.model.buffers()]
    known = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = population.module(**population.module.fold(inputs))
    assert output.logits.requires_grad
    return sum(storage.nbytes() for storage in storages.values())


def test_the_peak_counts_values_gradients_and_states_of_all_and_activations_side_by_side():
    need = Estimate(parameters=100, activations=7)
    assert need.peak(members=10, at_a_time=10) == 10 * 4 * 100 + 10 * 7
    assert need.peak(members=10, at_a_time=3) == 10 * 4 * 100 + 3 * 7
    assert need.peak(members=2, at_a_time=3) == 2 * 4 * 100 + 2 * 7


def test_as_many_members_fit_as_the_peak_allows():
    need = Estimate(parameters=100, activations=7)
    for fitting in range(1, 10):
        assert need.fitting(10, need.peak(10, fitting)) == fitting
        assert need.fitting(10, need.peak(10, fitting) - 1) == fitting - 1
    assert need.fitting(10, 10**9) == 10
    assert need.fitting(10, 0) == 0


def test_frugal_passes_keep_a_run_to_twice_the_memory_of_one_without_a_fork():
    mib = 2**20
    for frozen, parameters, activations in [(100, 1, 100), (400, 2, 250), (87, 3, 90)]:
        need = Estimate(parameters * mib, activations * mib, frozen * mib)
        size, plain = need.frugal(10, runs=1), frozen * mib + need.peak(1, 1)
        assert frozen * mib + need.peak(10, size) <= 2 * plain
        assert frozen * mib + need.peak(10, 3 * size + 1) > 2 * plain, "more would do"


def test_frugal_passes_are_not_small_where_that_saves_little():
    mib = 2**20
    assert Estimate(40 * mib, 40 * mib).frugal(10, runs=1) == 10, "ten whole models are held anyway"
    assert Estimate(mib, 3 * mib, 1).resident().frugal(10, runs=1) == 10, "to load the code takes more"
    assert Estimate(mib, 400 * mib, 100 * mib).frugal(10, runs=10) == 10, "each run may take its memory"
    assert Estimate(mib, 10**12).frugal(10, runs=1) == 1


def test_a_process_holds_more_than_its_tensors():
    assert Estimate(100, 100, 7).resident() == Estimate(100, 100, 7, fixed=270 * 2**20)
    assert Estimate(100, 100).resident().peak(3, 2) == 270 * 2**20 + 3 * 4 * 100 + 2 * 100


def test_frugal_passes_are_of_about_the_same_size():
    mib = 2**20
    sizes = {activations: Estimate(mib, activations * mib, 100 * mib).frugal(10, 1) for activations in range(1, 200)}
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    assert {10, 5, 2} <= set(sizes.values()) <= {10, 5, 4, 3, 2, 1}  # 4 + 4 + 2, not 6 + 4


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("members", [1, 3])
def test_values_gradients_and_states_are_counted_exactly(tiny, batch, tuning, members):
    model, inputs = tuned(tiny("bert"), tuning), inputs_of(batch)
    need = memory.estimate(model, inputs, 0)
    population = Population(model, [Sources(3)], "loop")
    population.module.train()
    population.fork(members)
    optimizer = torch.optim.Adam([view for views in population.views.values() for view in views])
    for chunk in population.module.chunks:
        population.module.focus(chunk)
        population.module(**population.module.fold(inputs)).logits.sum().backward()
    optimizer.step()
    held = list(population.values.values())
    held += [view.grad for views in population.views.values() for view in views]
    held += [state[key] for state in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
    assert sum(tensor.numel() * tensor.element_size() for tensor in held) == need.peak(members, 0)


@pytest.mark.parametrize("members", [1, 4])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert", "distilbert", "gpt2"])
def test_activations_are_near_what_a_forward_pass_keeps(tiny, batch, architecture, tuning, attention, members):
    model, inputs = tuned(tiny(architecture, attention=attention), tuning), inputs_of(batch)
    need = memory.estimate(model, inputs, 0)
    population = Population(model, [Sources(3)])
    population.module.train()
    population.fork(members, Fork(noise=Noise(variance=0.1)))
    assert need.activations * members / kept(population, inputs) == pytest.approx(1, abs=0.15 if members > 1 else 0.005)


def test_activations_of_longer_texts_are_near_those_measured_on_them(tiny, batch):
    model = tuned(tiny("bert"), "full")
    scaled = memory.estimate(model, inputs_of(batch, tokens=10), longest=30).activations
    assert scaled / memory.estimate(model, inputs_of(batch, tokens=30), 0).activations == pytest.approx(1, abs=0.35)


def test_the_estimate_grows_with_members_rows_and_tokens(tiny, batch):
    model = tuned(tiny("bert"), "full")

    def peak(rows=4, tokens=8, longest=0, members=2, at_a_time=2):
        return memory.estimate(model, inputs_of(batch, rows, tokens), longest).peak(members, at_a_time)

    for setting, values in {
        "rows": (1, 2, 4, 8),
        "tokens": (4, 8, 16, 32),
        "longest": (8, 9, 16, 32),
        "members": (1, 2, 5, 10),
        "at_a_time": (0, 1, 2),
    }.items():
        peaks = [peak(**{setting: value}) for value in values]
        assert peaks == sorted(set(peaks)), setting
    assert peak(longest=5) == peak()  # a batch that is longer than the texts is measured as it is


def test_an_adapter_needs_less_than_the_whole_model(tiny, batch):
    whole, adapter = (memory.estimate(tuned(tiny("bert"), tuning), inputs_of(batch), 0) for tuning in ("full", "lora"))
    assert adapter.parameters < whole.parameters
    assert adapter.peak(10, 10) < whole.peak(10, 10)


def test_estimating_moves_neither_generators_nor_gradients(tiny, batch):
    model = tuned(tiny("bert"), "full")
    before = torch.get_rng_state()
    memory.estimate(model, inputs_of(batch), 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_nothing_of_the_model_is_kept_after_the_estimate(tiny, batch):
    model = tuned(tiny("bert"), "lora")
    memory.estimate(model, inputs_of(batch), longest=20)
    weights = [weakref.ref(parameter) for parameter in model.parameters()]
    del model
    gc.collect()
    assert not any(weight() is not None for weight in weights)
