"""A power law through scores, and an interval that holds what more texts give."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from deni.errors import InputError
from deni.measures.learning_curve import RARE, fit_power_law, forecast, sd_of_rare_classes

SIZES = np.array([20, 33, 53, 85, 140, 225])


@pytest.mark.parametrize(("limit", "scale", "exponent"), [(0.95, 1.5, 0.5), (1.0, 0.8, 0.25), (0.8, 5.0, 1.0)])
def test_a_power_law_is_found_again(limit, scale, exponent):
    law = fit_power_law(SIZES, limit - scale * SIZES**-exponent)
    assert law.exponent == pytest.approx(exponent, rel=1e-6)
    assert (law.limit, law.scale) == (pytest.approx(limit), pytest.approx(scale))
    assert law.at([400, 800]) == pytest.approx(limit - scale * np.array([400, 800.0]) ** -exponent)


def test_the_fit_is_the_least_squares_of_scipy():
    generator = np.random.default_rng(0)
    scores = 0.9 - 1.2 * SIZES**-0.45 + generator.normal(0, 0.01, len(SIZES))

    def curve(n, limit, scale, exponent):
        return limit - scale * n**-exponent

    bounds = ([0, 0, 0.25], [1, 50, 1])
    best, _ = curve_fit(curve, SIZES, scores, (0.9, 1, 0.5), SIZES**-0.25, bounds=bounds)  # variances as 1 / sqrt(n)
    assert fit_power_law(SIZES, scores).at([400]) == pytest.approx(curve(400, *best), abs=2e-3)


def test_a_score_never_falls_with_more_texts_and_never_passes_the_highest():
    falling = fit_power_law(SIZES, 0.8 - 0.001 * np.arange(6))
    assert falling.scale == 0
    assert falling.at([1000])[0] == pytest.approx(falling.limit)
    steep = fit_power_law(SIZES, 0.3 + 0.7 * np.linspace(0, 1, 6) ** 0.5)
    assert steep.limit == 1
    assert steep.at([10**6])[0] <= 1


def test_many_curves_are_fitted_as_each_alone():
    curves = 0.9 - np.random.default_rng(0).uniform(0.5, 2, (3, 1)) * SIZES**-0.5
    together = fit_power_law(SIZES, curves)
    for at, each in enumerate(curves):
        alone = [float(value) for value in fit_power_law(SIZES, each)]
        assert [values[at] for values in together] == pytest.approx(alone)


def test_fewer_than_three_sizes_are_refused():
    with pytest.raises(InputError, match="3 sizes"):
        fit_power_law([10, 20], [0.5, 0.6])
    with pytest.raises(InputError, match="3 sizes"):
        fit_power_law([10, 10, 20], [0.5, 0.5, 0.6])


def test_the_interval_holds_the_truth_where_texts_and_trainings_differ():
    """Curves of a known law, with the noise of the texts (shared by all sizes) and of each training."""
    generator, hits = np.random.default_rng(0), []
    for _ in range(200):
        texts, law = generator.normal(0, 0.02), 0.92 - generator.uniform(0.8, 2) * np.append(SIZES, [250, 500]) ** -0.5
        repeats = law[:6] + texts + generator.normal(0, 0.01, (2, 6))
        drawn = repeats.mean(0) + generator.normal(0, 0.02, (100, 1)) + generator.normal(0, 0.004, (100, 6))
        found = forecast(SIZES, repeats, drawn, 250, [500])
        noise = generator.normal(0, 0.005, 2)
        score, gain = law[7] + noise[1], law[7] - law[6] + noise[1] - noise[0]
        hits.append(
            [found.score.low[0] <= score <= found.score.high[0], found.gain.low[0] <= gain <= found.gain.high[0]]
        )
    assert (np.mean(hits, axis=0) >= 0.85).all()


def test_rare_classes_widen_both_intervals_by_their_part_of_the_score():
    counts = [60, 50, RARE - 1, RARE]
    rare = sd_of_rare_classes(counts)
    assert rare == pytest.approx(np.random.default_rng(0).uniform(size=100_000).std() / 4, rel=0.01)
    scores = 0.9 - SIZES**-0.5
    given = {
        "sizes": SIZES,
        "scores": [scores, scores],
        "drawn": np.stack([scores, scores]),
        "now": 250,
        "totals": [500],
    }
    plain, wider = forecast(**given), forecast(**given, rare=rare)
    gain = plain.gain.value[0]
    assert plain.gain.high[0] - gain == pytest.approx(1.6449 * 0.3 * gain, rel=1e-3)
    assert wider.gain.high[0] - gain == pytest.approx(1.6449 * np.hypot(0.3 * gain, rare), rel=1e-3)
    assert wider.score.low[0] < plain.score.low[0]


def test_one_repeat_has_the_distance_of_its_scores_from_the_law_in_its_interval():
    flat = np.full(6, 0.6)
    zigzag = flat + np.array([0.05, -0.05] * 3)
    drawn = np.stack([flat, flat])
    smooth, rough = (forecast(SIZES, [each], drawn, 250, [500]) for each in (flat, zigzag))
    assert smooth.gain.high[0] == pytest.approx(0)
    distance = zigzag - fit_power_law(SIZES, zigzag).at(SIZES)
    assert rough.gain.high[0] - rough.gain.value[0] == pytest.approx(
        1.6449 * np.hypot(0.3 * rough.gain.value[0], np.sqrt((distance**2).mean())), rel=1e-3
    )
