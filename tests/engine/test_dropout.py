"""Each member drops what its own stream says: the right share, rescaled, whatever its company."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from deni.engine.dropout import MemberDropout, Padding, Streams, checkpoint_contexts
from deni.engine.fold import FoldError
from deni.noise import Noise
from deni.population import Population
from deni.randomness import Sources, generator
from deni.schedule import Fork
from deni.training import checkpoint as checkpoints


def drop(tensor, p, seeds, padding=None):
    with MemberDropout(Streams([generator(seed) for seed in seeds], padding)):
        return F.dropout(tensor, p)


def ones(*shape):
    return torch.ones(*shape, dtype=torch.float64)


# ---- masks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.01, 0.1, 0.3, 0.5, 0.9])
def test_the_declared_share_is_dropped(p):
    count = 400_000
    kept = float((drop(ones(2, count // 2), p, [0, 1]) != 0).double().mean())
    assert kept == pytest.approx(1 - p, abs=5 * (p * (1 - p) / count) ** 0.5)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.3, 0.5, 0.9])
def test_what_is_kept_is_scaled_by_1_over_1_minus_p(p):
    out = drop(ones(1, 2000), p, [0])
    exact = 1 / (1 - round(p * 65536) / 65536)
    assert set(out.unique().tolist()) == {0.0, exact}
    assert exact == pytest.approx(1 / (1 - p), rel=1e-4)


@pytest.mark.parametrize("p", [1.0, 0.999999])
def test_everything_can_be_dropped(p):
    assert torch.equal(drop(ones(1, 100), p, [0]), torch.zeros(1, 100, dtype=torch.float64))


def test_the_first_masks_are_the_same_on_every_machine():
    kept = drop(ones(1, 12), 0.5, [0]) != 0
    assert kept.int().flatten().tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0]


def test_neither_evaluation_nor_p_0_draws():
    stream = generator(0)
    before, h = stream.get_state(), ones(2, 3)
    with MemberDropout(Streams([stream])):
        assert torch.equal(F.dropout(h, 0.0), h)
        assert torch.equal(nn.Dropout(0.5).eval()(h), h)
        assert torch.equal(
            F.scaled_dot_product_attention(h, h, h, dropout_p=0.0), F.scaled_dot_product_attention(h, h, h)
        )
    assert torch.equal(stream.get_state(), before)


def test_members_have_masks_of_their_own():
    p = 0.3
    masks = (drop(ones(3, 100_000), p, [0, 1, 2]) != 0).unbind()
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        agree = float((masks[one] == masks[other]).double().mean())
        assert agree == pytest.approx(p**2 + (1 - p) ** 2, abs=0.01)


def test_the_same_seed_drops_the_same_and_a_stream_goes_on():
    stream = generator(5)
    with MemberDropout(Streams([stream])):
        first, second = F.dropout(ones(2, 50), 0.3), F.dropout(ones(2, 50), 0.3)
    assert torch.equal(drop(ones(2, 50), 0.3, [5]), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("company", [[5], [1, 5], [5, 9, 2], [7, 5, 5]])
def test_a_mask_does_not_depend_on_the_other_members(company):
    alone = drop(ones(4, 7, 3), 0.3, [5])
    at = company.index(5)
    assert torch.equal(drop(ones(4 * len(company), 7, 3), 0.3, company)[4 * at : 4 * at + 4], alone)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    ("own", "folded"),
    [
        ((2, 5, 8), (2, 8, 8)),  # hidden states whose D happens to be the longest T
        ((2, 5, 3), (2, 8, 3)),
        ((2, 4, 5, 5), (2, 4, 8, 8)),
        ((2, 8, 5, 5), (2, 8, 8, 8)),  # as many heads
        ((2, 8), (2, 8)),  # pooled
    ],
)
def test_a_mask_does_not_depend_on_the_length_that_others_need(own, folded, side):
    alone = drop(ones(*own), 0.3, [5])
    for seeds, lengths in ([[1, 5], [8, 5]], [[1, 5], [3, 5]], [[1, 5], [5, 5]]):  # the longest may be elsewhere
        padding = Padding(lengths, 8, side)
        packed = drop(ones(2 * folded[0], *folded[1:]), 0.3, seeds, padding)[2:]
        place = tuple(slice(size) if side == "right" else slice(-size, None) for size in own)
        assert torch.equal(packed[place], alone)


def test_rows_that_do_not_divide_by_the_members_are_refused():
    with pytest.raises(FoldError, match=r"dropout on \(5, 2\): dim 0 does not divide by 2 members"):
        drop(ones(5, 2), 0.3, [0, 1])


def test_the_global_generator_is_neither_read_nor_moved():
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        h = ones(2, 4, 6)
        with MemberDropout(Streams([generator(5)])):
            results.append(nn.Dropout(0.3)(h) + F.scaled_dot_product_attention(h, h, h, dropout_p=0.3))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*results)


def test_saved_streams_of_forked_members_go_on_with_the_same_masks(tiny, batch, tmp_path):
    inputs = {key: value for key, value in batch().items() if key != "labels"}
    population = Population(tiny("bert"), [Sources(3)])
    population.module.train()
    population.module(**inputs)
    population.fork(3, Fork(noise=Noise(variance=0.1)))
    folded = population.module.fold(inputs)
    population.module(**folded)
    checkpoints.save(population, tmp_path, {})
    checkpoints.save_randomness(population, tmp_path)
    expected = population.module(**folded).logits
    resumed = Population(tiny("bert", seed=1), [Sources(3)])
    checkpoints.load(resumed, tmp_path)
    resumed.module.train()
    assert torch.equal(resumed.module(**folded).logits, expected)
    assert not torch.equal(resumed.module(**folded).logits, expected)


# ---- scaled-dot-product attention ------------------------------------------------------------------------------------

NONE_DROPPED = 1e-6  # rounds to 0, so that the weights go through our own code


def heads(seed, tokens=5, count=4, dim=8):
    return torch.randn(2, count, tokens, dim, generator=generator(seed), dtype=torch.float64)


BOOL = torch.tensor([[True, True, True, False, False], [True] * 5])[:, None, None, :]
ATTENTION = {
    "plain": {},
    "scale": {"scale": 0.3},
    "causal": {"is_causal": True},
    "bool mask": {"attn_mask": BOOL},
    "float mask": {"attn_mask": torch.zeros(2, 1, 1, 5, dtype=torch.float64).masked_fill(~BOOL, -1e9)},
    "a row without a place": {"attn_mask": torch.ones(5, 5, dtype=torch.bool).tril(-1)},
}


@pytest.mark.parametrize("options", ATTENTION.values(), ids=ATTENTION)
def test_attention_without_a_dropped_weight_is_pytorchs(options):
    q, k, v = heads(0), heads(1), heads(2)
    with MemberDropout(Streams([generator(0)])):
        ours = F.scaled_dot_product_attention(q, k, v, dropout_p=NONE_DROPPED, **options)
    assert torch.allclose(ours, F.scaled_dot_product_attention(q, k, v, **options), rtol=0, atol=1e-14)


def test_attention_of_grouped_queries_without_a_dropped_weight_is_pytorchs():
    q, k, v = heads(0), heads(1, count=2), heads(2, count=2)
    with MemberDropout(Streams([generator(0)])):
        ours = F.scaled_dot_product_attention(q, k, v, dropout_p=NONE_DROPPED, enable_gqa=True)
    assert torch.allclose(ours, F.scaled_dot_product_attention(q, k, v, enable_gqa=True), rtol=0, atol=1e-14)


def test_attention_drops_weights_behind_the_softmax():
    q, k, v = heads(0), heads(1), heads(2)
    with MemberDropout(Streams([generator(5)])):
        ours = F.scaled_dot_product_attention(q, k, v, dropout_p=0.3)
    weights = (q @ k.transpose(-2, -1) / 8**0.5).softmax(-1)
    assert torch.allclose(ours, drop(weights, 0.3, [5]) @ v, rtol=0, atol=1e-14)
    assert not torch.allclose(ours, weights @ v, atol=1e-3)


# ---- checkpointing ---------------------------------------------------------------------------------------------------


def layers(h, weight):
    h = F.dropout(h @ weight, 0.3)
    return F.scaled_dot_product_attention(h, h, h, dropout_p=0.3)


@pytest.mark.parametrize("recompute", [False, True])
def test_the_recomputation_draws_the_masks_of_the_forward_pass_again(recompute):
    """Against the product of weights and masks by hand: two blocks in a row, each with its own masks."""
    weights = [torch.randn(6, 6, generator=generator(at), dtype=torch.float64).requires_grad_() for at in (1, 2)]
    streams = Streams([generator(5), generator(6)])
    with MemberDropout(streams):
        h = ones(4, 3, 6)
        for weight in weights:
            h = (
                checkpoint(layers, h, weight, use_reentrant=False, context_fn=checkpoint_contexts)
                if recompute
                else layers(h, weight)
            )
    after = [stream.get_state() for stream in streams.generators]
    h.square().sum().backward()
    assert all(torch.equal(stream.get_state(), state) for stream, state in zip(streams.generators, after, strict=True))

    expected = ones(4, 3, 6)
    own = [weight.detach().clone().requires_grad_() for weight in weights]
    draws = Streams([generator(5), generator(6)])
    for weight in own:
        expected = expected @ weight
        expected = expected * draws.keep(expected.shape, 0.3) / (1 - round(0.3 * 65536) / 65536)
        scores = (expected @ expected.transpose(-2, -1) / 6**0.5).softmax(-1)
        expected = scores * draws.keep(scores.shape, 0.3) / (1 - round(0.3 * 65536) / 65536) @ expected
    expected.square().sum().backward()
    assert torch.allclose(h, expected, rtol=0, atol=1e-12)
    for weight, reference in zip(weights, own, strict=True):
        assert torch.allclose(weight.grad, reference.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("engine", ["loop", "stacked"])
@pytest.mark.parametrize("enabled", ["in the population", "before"])
def test_checkpointing_a_model_changes_no_gradient(tiny, batch, enabled, engine):
    inputs = {key: value for key, value in batch().items() if key != "labels"}
    results = []
    for on in (False, True):
        model = tiny("bert")
        if on and enabled == "before":
            model.gradient_checkpointing_enable({"use_reentrant": False})
        population = Population(model, [Sources(3)], engine)
        if on and enabled == "in the population":
            population.module.gradient_checkpointing_enable()
        assert model.is_gradient_checkpointing == on
        population.module.train()
        population.fork(3, Fork(noise=Noise(variance=0.1)))
        for chunk in population.module.chunks:
            population.module.focus(chunk)
            population.module(**population.module.fold(inputs)).logits.square().sum().backward()
        population.module.collect()
        results.append([view.grad for views in population.views.values() for view in views])
    assert all(torch.equal(plain, again) for plain, again in zip(*results, strict=True))
    assert any(grad.abs().max() > 1e-3 for grad in results[0])


def test_reentrant_checkpointing_is_refused(tiny):
    with pytest.raises(ValueError, match="use_reentrant=False"):
        Population(tiny("bert"), [Sources(3)]).module.gradient_checkpointing_enable({"use_reentrant": True})
