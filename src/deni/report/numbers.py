"""Numbers, intervals and p-values as a reader gets them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd


def number(value: Any, digits: int) -> str:
    """A number with so many digits behind the point; a dash where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return "∞" if math.isinf(value) else f"{value:,.{digits}f}"


def span(low: float, high: float, digits: int) -> str:
    """An interval."""
    return "–" if np.isnan(low) or np.isnan(high) else f"{number(low, digits)} to {number(high, digits)}"


def with_interval(value: float, low: float, high: float) -> str:
    """A number with its interval behind it, of two digits behind the point."""
    interval = span(low, high, 2)
    return number(value, 2) if interval == "–" else f"{number(value, 2)} ({interval})"


def p_value(value: float) -> str:
    """A p-value; the smallest as a bound."""
    return "–" if np.isnan(value) else "0.001 or less" if value <= 0.001 else f"{value:.3f}"


def differences_from_soft(frame: pd.DataFrame, name: str) -> list[str]:
    """Difference and interval of another vote, as text, for each row of a frame with `COLUMNS`."""
    columns = [f"{name}_minus_soft{end}" for end in ("", "_low", "_high")]
    return [with_interval(*row) for row in frame[columns].itertuples(index=False)]
