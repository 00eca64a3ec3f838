"""The perturbation has the variance that was asked for."""

import pytest
import torch

from deni.errors import SettingError
from deni.noise import Noise, add_, scale_of
from deni.randomness import generator


def drawn(tensor, variance, **how):
    noisy = tensor.clone()
    add_([noisy], Noise(variance=variance, **how), generator(1))
    return noisy - tensor


@pytest.mark.parametrize("variance", [0.15, 0.01])
def test_scaled_noise_has_the_declared_variance(variance):
    tensor = 3.0 * torch.randn(200_000, generator=generator(0), dtype=torch.float64)
    measured = float(drawn(tensor, variance).var() / tensor.var())
    assert measured == pytest.approx(variance, rel=0.02)


def test_uniform_noise_has_the_declared_variance():
    tensor = 3.0 * torch.randn(200_000, generator=generator(0), dtype=torch.float64)
    assert float(drawn(tensor, 0.15, scale="uniform").var()) == pytest.approx(0.15, rel=0.02)


def test_a_floor_gives_noise_to_a_constant_tensor():
    measured = float(drawn(torch.zeros(200_000, dtype=torch.float64), 0.15, floor=0.02).var())
    assert measured == pytest.approx(0.15 * 0.02**2, rel=0.02)


@pytest.mark.parametrize("tensor", [torch.tensor([1.5]), torch.zeros(4), torch.full((3, 3), 0.1), torch.zeros(0)])
def test_a_tensor_without_spread_stays_finite(tensor):
    assert torch.equal(drawn(tensor, 0.15).isfinite(), torch.ones_like(tensor, dtype=torch.bool))
    assert scale_of(tensor) == pytest.approx(0.0, abs=1e-7)


def test_the_same_generator_draws_the_same_bits():
    tensor = torch.randn(100, generator=generator(0))
    assert torch.equal(drawn(tensor, 0.15), drawn(tensor, 0.15))


def test_opposite_tensors_get_minus_the_noise_and_the_first_what_they_get_alone():
    tensors = [torch.randn(50, generator=generator(at), dtype=torch.float64) for at in range(2)]
    ahead, behind, alone = ([tensor.clone() for tensor in tensors] for _ in range(3))
    add_(ahead, Noise(variance=0.15), generator(1), opposite=behind)
    add_(alone, Noise(variance=0.15), generator(1))
    assert all(torch.equal(one, other) for one, other in zip(ahead, alone, strict=True))
    for tensor, one, other in zip(tensors, ahead, behind, strict=True):
        assert (one - tensor).abs().max() > 0.1
        torch.testing.assert_close(other - tensor, tensor - one, rtol=0, atol=1e-15)


def test_variance_0_changes_nothing():
    tensor = torch.randn(100, generator=generator(0))
    assert torch.equal(drawn(tensor, 0.0), torch.zeros(100))


def test_each_tensor_has_its_own_scale():
    small, large = 0.01 * torch.randn(50_000, generator=generator(0)), 10 * torch.randn(50_000, generator=generator(1))
    noisy = [small.clone(), large.clone()]
    add_(noisy, Noise(variance=0.25), generator(2))
    spreads = [
        float((after - before).std() / before.std()) for after, before in zip(noisy, (small, large), strict=True)
    ]
    assert spreads == pytest.approx([0.5, 0.5], rel=0.03)


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="variance"):
        drawn(torch.ones(3), -1.0)
    with pytest.raises(ValueError, match="'large'"):
        Noise(scale="large")


def test_noise_beyond_float32_makes_weights_that_are_not_finite_and_no_error():
    tensor = torch.full((4,), 1e30)
    add_([tensor], Noise(variance=1e30, floor=1e30), torch.Generator().manual_seed(0))
    assert not tensor.isfinite().any()
    with pytest.raises(SettingError, match="variance must be from 0 to 1e\\+30, not 1e\\+308"):
        Noise(variance=1e308)
