"""Platform payments: the specification's numbers, random instances, and answers by definition.

Nothing here uses the package. Fair values come from orders of arrival, equilibria from indifference solved
numerically for every pattern of who mixes, and exact optima from fractions.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import permutations, product
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root

Array = NDArray[np.float64]
Utility = Callable[[int, int], float]

FIG_6 = {
    0.2: (0.4, 1.0, 0.6, 1.0, 0.4),
    0.4: (0.75, 0.8, 0.2133, 0.8533, 0.64),
    0.5: (0.8571, 0.5, 0.0833, 0.5833, 0.5),
    0.6: (0.9474, 0.2, 0.0133, 0.2533, 0.24),
}
"""By cost: alpha, q, platform's utility, total utility, payments; to four digits."""

FIG_7 = {
    (0.1, 0.1): (0.8, 0.2, 0.1),
    (0.2, 0.25): (0.5, 0.5, 0.25),
    (0.1, 0.3): (0.5667, 0.15, 0.0),
    (0.3, 0.1): (0.5667, 0.15, 0.1),
    (0.5, 0.4): (0.2667, 0.6, 0.4),
    (0.4, 0.5): (0.2667, 0.6, 0.0),
    (0.6, 0.9): (0.0667, 0.9, 0.0),
    (0.7, 0.8): (0.0, 0.0, 0.0),
}
"""By both costs: platform's utility, alpha, payment to user 2; to four digits."""

FIG_7_CELLS = {"both": 521, "one": 5004, "mixed": 36, "nobody": 64}
"""Cells of the grid of costs .005, .015, ..., .745 in either direction."""


def two_levels(n: int, worth: float, theta: float = 2.0) -> Utility:
    """Utility (1 + theta/N) x/(x + theta) of x = worth * n_private + n_sharing."""

    def utility(private: int, sharing: int) -> float:
        x = worth * private + sharing
        return (1 + theta / n) * x / (x + theta)

    return utility


def random_concave(rng: np.random.Generator, n: int) -> Array:
    """Draw a concave, increasing utility of 0, ..., n sharers."""
    return np.append(0.0, np.cumsum(np.sort(rng.uniform(0.02, 1.0, n))[::-1]))


def values_by_orders(utility: Utility, n: int, q: float) -> tuple[float, float]:
    """Expected fair value of user 0 at either level: mean marginal utility over all orders of arrival."""
    values = [0.0, 0.0]
    for others in product((0, 1), repeat=n - 1):
        weight = np.prod([q if level else 1 - q for level in others])
        for own in (0, 1):
            levels = (own, *others)
            total = 0.0
            for order in permutations(range(n)):
                before = order[: order.index(0)]
                sharing = sum(levels[i] for i in before)
                private = len(before) - sharing
                total += utility(private + 1 - own, sharing + own) - utility(private, sharing)
            values[own] += weight * total / np.prod(np.arange(1, n + 1))
    return float(values[0]), float(values[1])


def mean(values: Any, probabilities: Any) -> float:
    """Expected entry by the number of successes of independent draws, summed over all outcomes."""
    total = 0.0
    for outcome in product((0, 1), repeat=len(probabilities)):
        weight = np.prod([p if o else 1 - p for p, o in zip(probabilities, outcome, strict=True)])
        total += weight * values[sum(outcome)]
    return float(total)


def all_equilibria(payoff: Any, cost: float, share: float, rng: np.random.Generator) -> list[Array]:
    """Equilibria of n users, whose gain by sharing is ``share * payoff[k] - cost`` with k others.

    For each pattern of who mixes, who shares and who does not, indifference is solved from random starts.
    """
    n = len(payoff)

    def gains(profile: Array) -> Array:
        return np.array([share * mean(payoff, np.delete(profile, i)) - cost for i in range(n)])

    found: list[Array] = []
    for pattern in product((0, 1, 2), repeat=n):
        mixing = [i for i in range(n) if pattern[i] == 2]
        base = np.array([float(kind == 1) for kind in pattern])
        for _ in range(3 if mixing else 1):
            profile = base.copy()
            if mixing:

                def indifferent(x: Array, base: Array = base, mixing: list[int] = mixing) -> Array:
                    trial = base.copy()
                    trial[mixing] = x
                    return gains(trial)[mixing]

                answer = root(indifferent, rng.uniform(0.05, 0.95, len(mixing)), tol=1e-12)
                if not answer.success or np.any((answer.x <= 1e-9) | (answer.x >= 1 - 1e-9)):
                    continue
                profile[mixing] = answer.x
            gain = gains(profile)
            regret = np.max(np.maximum((1 - profile) * gain, -profile * gain))
            if regret <= 1e-9 and not any(np.allclose(profile, other, atol=1e-6) for other in found):
                found.append(profile)
    return found


def exact_two_users(one: Fraction, both: Fraction, cost: Fraction) -> tuple[Fraction, Fraction]:
    """Platform's utility and q for two users with concave utility, in fractions."""
    if cost >= one:
        return Fraction(0), Fraction(0)
    if cost <= both - one:
        return both - 2 * cost, Fraction(1)
    q = (one - cost) / (2 * one - both)
    return 2 * q * (1 - q) * one + q * q * both - 2 * cost * q, q


def monomials(bernstein: Any) -> Array:
    """Coefficients of 1, x, x², ... of a polynomial in the Bernstein basis, from the binomial expansion."""
    n = len(bernstein) - 1
    out = np.zeros(n + 1)
    for i, value in enumerate(bernstein):
        for j in range(n - i + 1):
            out[i + j] += value * comb(n, i) * comb(n - i, j) * (-1) ** j
    return out
