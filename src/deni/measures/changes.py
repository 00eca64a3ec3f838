"""What changes from one model to another on the same texts: how many answers, better or worse, by chance or not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy
from numpy.typing import ArrayLike

from deni.errors import InputError
from deni.measures.arrays import Estimate, Floats, as_pairs, check_share
from deni.measures.resampling import other_texts


def sign_test(better: int, worse: int) -> float:
    """The exact p-value of as many texts for the better and for the worse, if both were equally likely.

    Where a text is right or wrong this is McNemar's test in its exact form: of the texts on which one model alone is
    right, each goes to either model with probability 1/2. Texts without a change play no part.

    Returns:
        Two-sided; 1 where nothing changes.

    >>> round(sign_test(9, 1), 4)
    0.0215
    """
    if better < 0 or worse < 0:
        raise InputError(f"better and worse count texts: at least 0, not {better} and {worse}")
    return float(scipy.stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0


def signed_rank_test(first: ArrayLike, second: ArrayLike) -> float:
    """The p-value of Wilcoxon's signed-rank test of paired errors `(N,)`: whether one model's are larger.

    Returns:
        Two-sided; 1 where all pairs are equal.

    >>> round(signed_rank_test([1, 2, 3, 4, 5, 6], [2, 4, 6, 8, 10, 12]), 4)
    0.0312
    """
    one, other = as_pairs(first, second, least=1, axes="N")
    return 1.0 if np.array_equal(one, other) else float(scipy.stats.wilcoxon(one, other).pvalue)


def share_with_interval(count: int, total: int, confidence: float = 0.95) -> Estimate:
    """A share of texts with its exact interval (Clopper and Pearson 1934).

    >>> share, low, high = share_with_interval(3, 50)
    >>> round(share, 3), round(low, 4), round(high, 4)
    (0.06, 0.0125, 0.1655)
    """
    check_share("confidence", confidence)
    if not 0 <= count <= total or total < 1:
        raise InputError(f"a share of texts needs 0 <= count <= total and one text, not {count} of {total}")
    ends = scipy.stats.binomtest(count, total).proportion_ci(confidence, method="exact")
    return Estimate(count / total, float(ends.low), float(ends.high))


def paired_difference(
    first: Callable[[Floats], Floats],
    second: Callable[[Floats], Floats],
    texts: int,
    *,
    generator: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Estimate:
    """The second model's score minus the first's, with a bootstrap over the texts, which both models share.

    It holds for these two models: other seeds of the same training are not covered.

    Args:
        first, second: scores `(R,)` by how often each text counts, `(R, N)`.
        texts: N.

    >>> right = np.array([[1, 1, 0, 1], [1, 1, 1, 1]])
    >>> scores = [lambda weights, own=own: weights @ own / weights.sum(1) for own in right]
    >>> found = paired_difference(*scores, 4, generator=np.random.default_rng(0))
    >>> found.value, found.low, found.high
    (0.25, 0.0, 0.75)
    """

    def difference(weights: Floats) -> Floats:
        return second(weights) - first(weights)

    each = np.ones(texts)
    low, high = other_texts(difference, each, generator=generator, resamples=resamples, confidence=confidence)
    return Estimate(float(difference(each[None])[0]), low, high)
