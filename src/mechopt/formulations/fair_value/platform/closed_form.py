r"""Formulas for what the platform pays: the oracle of the other roads, with which it shares no code.

Where private data are worth nothing and the utility U(k) of k sharers is concave, three regimes follow from
the cost c of sharing:

- c <= U(N) - U(N-1): all share, and :math:`\alpha = cN/U(N)`;
- c >= U(1): nobody does, and alpha is 0;
- between, q solves :math:`E[U(K+1) - U(K)] = c` for a binomial K of N - 1 others.

With N = 2 that is :math:`q = (U_1 - c)/(2U_1 - U_2)`. In general, with a relative payoff that falls in q, the
regimes have two bounds that are extrema of ratios of polynomials (`cost_thresholds`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import betainc
from scipy.stats import binom

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Regime:
    """What the formulas give.

    Attributes
    ----------
    payment_share, share_probability : float
        Alpha and q.
    platform_utility, total_utility, payments : float
        ``(1 - alpha) U(q)``, ``U(q)`` and ``alpha U(q) = c N q``.
    regime : str
        ``"all share"``, ``"some share"`` or ``"nobody shares"``.
    """

    payment_share: float
    share_probability: float
    platform_utility: float
    total_utility: float
    payments: float
    regime: str


@dataclass(frozen=True)
class Thresholds:
    """Costs at which the platform's optimal behaviour changes.

    Attributes
    ----------
    low : float
        Up to here it is optimal to make all share.
    high : float
        From here on it is optimal to pay nothing.
    relative_payoff_min, relative_payoff_max : float
        Least and largest relative payoff over q: beyond the first, alpha would have to exceed 1 to make all
        share, beyond the second to make anybody.
    """

    low: float
    high: float
    relative_payoff_min: float
    relative_payoff_max: float


def concave_regime(utility: ArrayLike, cost: float) -> Regime:
    """Solve for a concave, increasing utility of sharers alone.

    Parameters
    ----------
    utility : array, shape (n_users + 1,)
        U(0) = 0, ..., U(N), concave.
    cost : float
        c >= 0.
    """
    worth = np.asarray(utility, dtype=float)
    n = worth.size - 1
    marginal = np.diff(worth)
    if cost >= marginal[0]:
        return Regime(0.0, 0.0, 0.0, 0.0, 0.0, "nobody shares")
    if cost <= marginal[-1]:
        paid = cost * n
        return Regime(
            paid / float(worth[-1]), 1.0, float(worth[-1]) - paid, float(worth[-1]), paid, "all share"
        )
    if n == 2:
        q = float((worth[1] - cost) / (2 * worth[1] - worth[2]))
    else:
        # By parts: E f(K) = f(0) + sum of f(k) - f(k - 1) over k, times P(K >= k).
        k, steps = np.arange(1, n), np.diff(marginal)
        low, high = 0.0, 1.0
        for _ in range(60):
            q = (low + high) / 2
            above = marginal[0] + steps @ betainc(k, n - k, q) > cost
            low, high = (q, high) if above else (low, q)
    total = float(np.diff(worth) @ betainc(np.arange(1, n + 1), np.arange(n, 0, -1), q))
    paid = cost * n * q
    return Regime(paid / total, q, total - paid, total, paid, "some share")


def minimum_payment_value(utility: ArrayLike, cost: float, least: float) -> float:
    """Platform's utility if each sharer must be paid at least so much in expectation; U concave as above."""
    worth = np.asarray(utility, dtype=float)
    if least <= cost:
        return concave_regime(worth, cost).platform_utility
    # More than the cost is paid only where all share: indifferent users are paid their cost.
    return max(0.0, float(worth[-1]) - (worth.size - 1) * least)


def cost_thresholds(profile: ArrayLike, relative_payoff: ArrayLike) -> Thresholds:
    """Costs at which behaviour changes, for a relative payoff that falls strictly in q.

    Parameters
    ----------
    profile : array, shape (n_users + 1,)
        Utility by the number of sharers.
    relative_payoff : array, shape (n_users,)
        By the number of other sharers.
    """
    worth, payoff = np.asarray(profile, dtype=float), np.asarray(relative_payoff, dtype=float)
    n = payoff.size
    first, last = float(payoff[0]), float(payoff[-1])
    if n == 1:
        value = last * (1 - float(worth[0] / worth[-1]))
        return Thresholds(value, value, last, first)
    # (u(1) - u(q)) / (u(1)/g(1) - u(q)/g(q)) is 0/0 at q = 1. Both sides are divided by 1 - q, which in the
    # Bernstein basis takes a factor n / (n - k) and the last coefficient, which is 0.
    lifted = _lifted(payoff)
    above = _divided(worth[-1] - worth)
    below = _divided(worth[-1] * lifted - worth * last)

    def making_all_share(q: Array) -> Array:
        under = _at(below, q)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = _at(payoff, q) * last * _at(above, q) / under
        return np.where(under > 0, value, np.inf)

    def paying_nothing(q: Array) -> Array:
        total = _at(worth, q)
        with np.errstate(divide="ignore", invalid="ignore"):
            kept = np.where(total > 0, 1 - worth[0] / total, 1.0)
        return _at(payoff, q) * kept

    low = min(last * (1 - float(worth[0] / worth[-1])), -_peak(lambda q: -making_all_share(q)))
    high = _peak(paying_nothing)
    return Thresholds(low, high, last, first)


def _at(coefficients: Array, q: Array) -> Array:
    """Polynomial in the Bernstein basis, by binomial probabilities."""
    n = coefficients.size - 1
    return np.asarray(binom.pmf(np.arange(n + 1), n, np.asarray(q)[..., None]) @ coefficients)


def _lifted(coefficients: Array) -> Array:
    n = coefficients.size
    share = np.arange(n + 1) / n
    return np.asarray(share * np.append(0.0, coefficients) + (1 - share) * np.append(coefficients, 0.0))


def _divided(coefficients: Array) -> Array:
    n = coefficients.size - 1
    return np.asarray(coefficients[:-1] * n / (n - np.arange(n)))


def _peak(function: Callable[[Any], Any], points: int = 2001) -> float:
    """Largest value on [0, 1]: on a grid, and between the neighbours of its best points."""
    grid = np.linspace(0.0, 1.0, points)
    values = np.asarray(function(grid))
    best = float(np.max(values))
    tops = np.argsort(values)[-3:]
    for top in tops:
        ends = (grid[max(top - 1, 0)], grid[min(top + 1, points - 1)])
        found = minimize_scalar(
            lambda q: -float(function(np.array([q]))[0]),
            bounds=ends,
            method="bounded",
            options={"xatol": 1e-12},
        )
        best = max(best, -float(found.fun))
    return best


# ------------------------------------------------------------------ two users of different costs


@dataclass(frozen=True)
class TwoUsers:
    """Best equilibrium of two users with costs of their own.

    Attributes
    ----------
    platform_utility, payment_share : float
        V and alpha.
    share_probability : tuple of two floats
        Of each user.
    regime : str
        ``"nobody"``, ``"one"``, ``"both"`` or ``"mixed"``.
    """

    platform_utility: float
    payment_share: float
    share_probability: tuple[float, float]
    regime: str


def two_users(one: float, both: float, cost_1: float, cost_2: float) -> TwoUsers:
    """Best of four candidates for U(1) > U(2)/2 and private data that are worth nothing.

    Parameters
    ----------
    one, both : float
        U(1) and U(2).
    cost_1, cost_2 : float
        What sharing costs either user, >= 0.

    Notes
    -----
    In the mixed one the cheap user is indifferent although the dear one shares for sure; it shares as often
    as makes the dear user indifferent, too.
    """
    low, high = min(cost_1, cost_2), max(cost_1, cost_2)
    cheap_first = cost_1 <= cost_2
    options = [TwoUsers(0.0, 0.0, (0.0, 0.0), "nobody")]

    def add(value: float, share: float, cheap: float, dear: float, regime: str) -> None:
        shares = (cheap, dear) if cheap_first else (dear, cheap)
        options.append(TwoUsers(value, share, shares, regime))

    if low <= one:
        add(one - low, low / one, 1.0, 0.0, "one")
    if 2 * high <= both:
        add(both - 2 * high, 2 * high / both, 1.0, 1.0, "both")
    if low > 0 and 2 * low <= both:
        x = (one - high * both / (2 * low)) / (one - both / 2)
        if 0 <= x <= 1:
            value = (1 - 2 * low / both) * (one + (both - one) * x)
            add(value, 2 * low / both, x, 1.0, "mixed")
    return max(options, key=lambda option: option.platform_utility)


def best_pure(utility: ArrayLike, costs: ArrayLike) -> tuple[float, int]:
    """Best equilibrium in pure strategies for U(k)/k that does not rise: value, and number of sharers."""
    worth, cost = np.asarray(utility, dtype=float), np.sort(np.asarray(costs, dtype=float))
    kept = worth - np.arange(worth.size) * np.append(0.0, cost)
    k = int(np.argmax(kept))
    return float(kept[k]), k
