"""How far a simulated rate may be from the true one."""

from scipy.stats import binom


def binomial_interval(rate, times, confidence=0.999):
    """Between which shares a rate falls in so many independent simulations."""
    low, high = binom.interval(confidence, times, rate)
    return (low - 1) / times, (high + 1) / times
