"""The features of a pair, from those of its two texts: what differs, and what they share."""

from __future__ import annotations

from typing import Any

import numpy as np


def features_of_pairs(u: Any, v: Any) -> Any:
    """|u - v| and u * v of features `(N, D)` of the first and the second texts: `(N, 2D)`; both arrays, or both sparse.

    >>> features_of_pairs(np.array([[1.0, 2.0]]), np.array([[3.0, 2.0]]))
    array([[2., 0., 3., 4.]])
    """
    if not hasattr(u, "multiply"):
        return np.concatenate([np.abs(u - v), u * v], axis=1)
    from scipy.sparse import hstack

    return hstack([abs(u - v), u.multiply(v)], format="csr")
