"""How often do confidence intervals of spread and mean cover the truth, with scores that are normal or not?

python benchmarks/interval_coverage.py
python benchmarks/interval_coverage.py --folds    # of cross-validated estimates alone, see fold_coverage.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
from common import environment, write
from scipy.stats import norm
from tqdm import tqdm

from deni.measures import (
    Block,
    accuracy,
    log_sd_ratio,
    mean_difference,
    pitman_morgan,
    sd_bootstrap,
    sd_interval,
    sd_permutation,
)
from deni.measures.resampling import draw_seeds

SEEDS, CONFIDENCE = 20, 0.95
OF_MEANS = ((SEEDS, CONFIDENCE), (5, 0.99))  # the second as with the five candidates of `deni diagnose`
FAILED, FALL = 0.05, 8.0  # share of failed runs, and how many SDs of the others they are below them
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
SCORES: dict[str, tuple[Draw, float]] = {  # how they are drawn, and their SD
    "normal": (lambda generator, shape: generator.normal(size=shape), 1.0),
    "skewed (mirrored gamma, shape 4)": (lambda generator, shape: -generator.gamma(4, size=shape), 2.0),
    "heavy tails (t, 5 degrees of freedom)": (
        lambda generator, shape: generator.standard_t(5, size=shape),
        (5 / 3) ** 0.5,
    ),
    "normal, 5 % failed runs": (
        lambda generator, shape: generator.normal(size=shape) - FALL * (generator.random(shape) < FAILED),
        (1 + FAILED * (1 - FAILED) * FALL**2) ** 0.5,
    ),
}
WORLDS = {  # how much a run's and a text's own luck move the probability of a right answer, uniformly
    "seeds and texts differ": (0.1, 0.15),
    "only seeds differ": (0.2, 0.0),
    "neither differs": (0.0, 0.0),
}


def percentile(runs: np.ndarray, generator: np.random.Generator, resamples: int) -> tuple[float, float]:
    """The interval that `sd_bootstrap` does not use, for comparison."""
    drawn = runs[draw_seeds(np.zeros(len(runs), dtype=np.int64), resamples, generator)]
    low, high = np.quantile(drawn.std(1, ddof=1), [0.025, 0.975])
    return float(low), float(high)


def spread(draw: Draw, sd: float, times: int, resamples: int, generator: np.random.Generator) -> dict[str, float]:
    """Coverage of intervals of an SD, and of the ratio of two that are equal (the pairs are independent)."""
    hits: dict[str, list[bool]] = {}
    for _ in tqdm(range(times)):
        first, second = draw(generator, (2, SEEDS))
        chi, again = sd_interval(first), sd_bootstrap(first, generator=generator, resamples=resamples)
        ratio = log_sd_ratio(first, second, generator=generator, resamples=resamples)
        test = pitman_morgan(first, second)
        for name, (low, high), truth in (
            ("SD, chi-square", chi[1:], sd),
            ("SD, percentiles", percentile(first, generator, resamples), sd),
            ("SD, studentized", again[1:], sd),
            ("ratio, Pitman-Morgan", test[1:3], 1.0),
            ("ratio, studentized", ratio[1:], 0.0),
        ):
            hits.setdefault(name, []).append(bool(low <= truth <= high))
        kept = sd_permutation(first, second, generator=generator, resamples=resamples) > 0.05
        hits.setdefault("ratio, permutation", []).append(kept)
    return {name: float(np.mean(each)) for name, each in hits.items()}


def world(seeds: int, by_seed: float, by_text: float, generator: np.random.Generator, texts: int = 100) -> Block:
    """Predictions of two classes; the first is right in 75 % of cases, the second in 70 %."""
    gold = np.arange(texts) % 2
    hard, predictions = generator.uniform(-1, 1, texts), []
    for mean in (0.75, 0.70):
        luck, own = generator.uniform(-1, 1, (seeds, 1)), generator.uniform(-1, 1, texts)
        right = generator.random((seeds, texts)) < mean + by_seed * luck + by_text * (hard + own) / 2
        predictions.append(np.where(right, gold, 1 - gold))
    return Block(*predictions, gold)


def means(
    seeds: int, confidence: float, by: tuple[float, float], times: int, resamples: int, generator: np.random.Generator
) -> dict[str, float]:
    """Coverage of the mean difference, and the interval's length over that of one from the true standard error."""
    how = {"generator": generator, "resamples": resamples, "confidence": confidence}
    found = [mean_difference([world(seeds, *by, generator)], accuracy, **how) for _ in tqdm(range(times))]
    true = 2 * norm.ppf((1 + confidence) / 2) * np.std([each.value for each in found])
    length = np.mean([each.high - each.low for each in found]) / true
    return {"coverage": float(np.mean([each.low <= 0.05 <= each.high for each in found])), "length": float(length)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=4000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--folds", action="store_true", help="only of cross-validated estimates, see fold_coverage.py")
    parser.add_argument("--draws", type=int, default=300, help="draws of labels from each dataset, with --folds")
    parser.add_argument("--output", help="name of the result")
    args = parser.parse_args()
    if args.folds:
        import fold_coverage  # with scikit-learn and an encoder

        here = environment()
        here["versions"] |= {name: version(name) for name in ("numpy", "scipy", "scikit-learn")}
        write(args.output or "fold_coverage", {**here, **fold_coverage.run(args.times // 4, args.draws)})
        return
    generator = np.random.default_rng(0)
    result = environment()
    result["versions"] |= {name: version(name) for name in ("numpy", "scipy")}
    result |= {"seeds": SEEDS, "times": args.times, "resamples": args.resamples, "confidence": CONFIDENCE}
    result["spread"] = {
        name: spread(draw, sd, args.times, args.resamples, generator) for name, (draw, sd) in SCORES.items()
    }
    result["means"] = [
        {"predictions": name, "seeds": seeds, "confidence": confidence}
        | means(seeds, confidence, by, args.times // 4, args.resamples, generator)
        for seeds, confidence in OF_MEANS
        for name, by in WORLDS.items()
    ]
    write(args.output or "interval_coverage", result)


if __name__ == "__main__":
    main()
