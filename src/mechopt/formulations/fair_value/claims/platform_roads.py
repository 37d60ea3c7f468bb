"""Second roads to the numbers that the claims about platforms compare: definitions, and trying.

Nothing here uses the mechanism, its coefficients or its algorithms: only utilities of counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, product
from math import comb
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog, minimize_scalar
from scipy.stats import binom

from mechopt.formulations.fair_value.platform.families import LevelsCase, SharersCase, TableCase

Array = NDArray[np.float64]
Utility = Callable[[int, int], float]

_POINTS = 2001


def counts(case: SharersCase | LevelsCase | TableCase) -> Utility:
    """Utility of an instance by numbers at either level."""
    if isinstance(case, SharersCase):
        return lambda private, sharing: case.utility[sharing]
    return case.utility


def shapley_by_subsets(utility: Utility, levels: tuple[int, ...], user: int) -> float:
    """Fair value of a user (Theorem 2, alpha = 1), by all coalitions of the others; level 1 is sharing."""
    others = [i for i in range(len(levels)) if i != user]
    n, total = len(levels), 0.0
    for size in range(n):
        for members in combinations(others, size):
            sharing = sum(levels[i] for i in members)
            private = size - sharing
            own = levels[user]
            joined = utility(private + 1 - own, sharing + own)
            total += (joined - utility(private, sharing)) / comb(n - 1, size)
    return total / n


def values_by_enumeration(utility: Utility, n_users: int, q: float) -> tuple[float, float]:
    """Expected fair value of a user at either level, over all levels of the others."""
    values = [0.0, 0.0]
    for others in product((0, 1), repeat=n_users - 1):
        weight = float(np.prod([q if level else 1 - q for level in others]))
        for own in (0, 1):
            values[own] += weight * shapley_by_subsets(utility, (own, *others), 0)
    return values[0], values[1]


def payoff_by_sizes(utility: Utility, n_users: int, q: ArrayLike) -> Array:
    """Relative payoff: over coalition sizes s, the mean of what sharing adds to j of s who share."""
    points = np.atleast_1d(np.asarray(q, dtype=float))
    total = np.zeros(points.shape)
    for s in range(n_users):
        gains = np.array([utility(s - j, j + 1) - utility(s - j + 1, j) for j in range(s + 1)])
        total += binom.pmf(np.arange(s + 1), s, points[:, None]) @ gains
    return total / n_users


def expected_total(utility: Utility, n_users: int, q: ArrayLike) -> Array:
    """Expected utility when each user shares with probability q."""
    points = np.atleast_1d(np.asarray(q, dtype=float))
    worth = np.array([utility(n_users - k, k) for k in range(n_users + 1)])
    return np.asarray(binom.pmf(np.arange(n_users + 1), n_users, points[:, None]) @ worth)


def best_by_scan(utility: Utility, n_users: int, cost: float) -> tuple[float, float, float]:
    """Best symmetric equilibrium, by trying q: value, alpha and q; nobody sharing is one, at alpha = 0."""

    def kept(q: Any) -> Array:
        payoff = payoff_by_sizes(utility, n_users, q)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(payoff > 0, cost / payoff, np.inf)
            value = (1 - share) * expected_total(utility, n_users, q)
        return np.asarray(np.where(share <= 1, value, -np.inf))

    value, at = scan(kept)
    nothing = float(utility(n_users, 0))
    if value <= nothing:
        return nothing, 0.0, 0.0
    return value, cost / float(payoff_by_sizes(utility, n_users, at)[0]), at


def scan(function: Callable[[Any], Array], low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
    """Largest value on an interval and where: on a grid, and refined around its best points."""
    grid = np.linspace(low, high, _POINTS)
    values = function(grid)
    top = int(np.argmax(values))
    best, at = float(values[top]), float(grid[top])
    peaks = np.flatnonzero(
        np.isfinite(values)
        & (values >= np.append(-np.inf, values[:-1]))
        & (values >= np.append(values[1:], -np.inf))
    )
    for peak in peaks[np.argsort(values[peaks])[-4:]]:
        ends = (grid[max(peak - 1, 0)], grid[min(peak + 1, _POINTS - 1)])

        def loss(x: float) -> float:
            value = float(function(np.array([x]))[0])
            return -value if np.isfinite(value) else 1e9

        found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-11})
        if -found.fun > best:
            best, at = -float(found.fun), float(found.x)
    return best, at


def symmetric_by_trying(utility: Utility, n_users: int, cost: float, share: float) -> list[float]:
    """Probabilities q of symmetric equilibria at a payment share, by signs on a grid."""
    grid = np.linspace(0, 1, _POINTS)
    gain = share * payoff_by_sizes(utility, n_users, grid) - cost
    found = [0.0] if gain[0] <= 0 else []
    for i in np.flatnonzero(np.sign(gain[:-1]) * np.sign(gain[1:]) < 0):
        found.append(float(grid[i] - gain[i] * (grid[i + 1] - grid[i]) / (gain[i + 1] - gain[i])))
    found += [float(grid[i]) for i in np.flatnonzero(gain[1:-1] == 0) + 1]  # a root on the grid itself
    found.sort()
    return [*found, 1.0] if gain[-1] >= 0 else found


def pair_gains(one: float, both: float, costs: tuple[float, float], share: float, q: Any) -> Array:
    """Gain of each of two users by sharing, when the other shares with probability q[1 - user]."""
    other = np.asarray(q, dtype=float)[::-1]
    return np.asarray(share * (one - (one - both / 2) * other) - np.asarray(costs))


def pair_equilibria(
    one: float, both: float, costs: tuple[float, float], share: float, slack: float = 1e-11
) -> list[tuple[float, float]]:
    """Extreme equilibria of two users, by the three supports of each and the definition."""
    found: list[tuple[float, float]] = []
    for supports in product(((0,), (1,), (0, 1)), repeat=2):
        profile = [float(support[0]) for support in supports]
        if share * abs(one - both / 2) > 0:
            for user in (0, 1):
                if len(supports[user]) == 2:  # it mixes as makes the other one indifferent
                    profile[user] = (share * one - costs[1 - user]) / (share * (one - both / 2))
        if any(not -1e-12 <= p <= 1 + 1e-12 for p in profile):
            continue
        profile = [min(max(p, 0.0), 1.0) for p in profile]
        gains = pair_gains(one, both, costs, share, profile)
        regret = max(max((1 - p) * g, -p * g) for p, g in zip(profile, gains, strict=True))
        if regret <= slack and not any(np.allclose(profile, other, atol=1e-9) for other in found):
            found.append((profile[0], profile[1]))
    return found


def pair_total(one: float, both: float, profile: tuple[float, float]) -> float:
    """Expected utility of two users."""
    p, q = profile
    return float(one * (p + q) + (both - 2 * one) * p * q)


def pair_by_scan(one: float, both: float, costs: tuple[float, float]) -> tuple[float, float]:
    """Platform's best over payment shares: those at which a user is indifferent, and both mixing, refined."""

    def kept(share: float) -> float:
        profiles = pair_equilibria(one, both, costs, share)
        return max(((1 - share) * pair_total(one, both, profile) for profile in profiles), default=-np.inf)

    special = [c / g for c in costs for g in (one, both / 2) if c <= g]
    best, at = max((kept(share), share) for share in [0.0, *special])

    def mixing(shares: Any) -> Array:
        shares = np.asarray(shares, dtype=float)
        with np.errstate(divide="ignore", invalid="ignore"):
            p, q = ((one - c / shares) / (one - both / 2) for c in costs[::-1])
            value = (1 - shares) * (one * (p + q) + (both - 2 * one) * p * q)
            inside = (np.minimum(p, q) >= 0) & (np.maximum(p, q) <= 1)
        return np.asarray(np.where(inside, value, -np.inf))

    value, share = scan(mixing, 1e-6, 1.0)
    return (value, share) if value > best else (best, at)


def pure_by_enumeration(utility: ArrayLike, costs: ArrayLike) -> float:
    """Best equilibrium in pure strategies: all profiles, at the payment shares of indifference."""
    worth, cost = np.asarray(utility, dtype=float), np.asarray(costs, dtype=float)
    n = cost.size
    best = 0.0
    for profile in product((0, 1), repeat=n):
        k = sum(profile)
        if k == 0:
            continue
        share = max(cost[i] for i in range(n) if profile[i]) * k / worth[k]
        if share > 1:
            continue
        stays = all(share * worth[k + 1] / (k + 1) <= cost[i] + 1e-12 for i in range(n) if not profile[i])
        if stays:
            best = max(best, (1 - share) * worth[k])
    return best


def free_payments(worth: ArrayLike, cost: float, sharers: int, least: float | None) -> float | None:
    """Problem (3) with any payments, for a pure target: the platform's utility, None if unbounded.

    Payments of every user at the target, and at the profile of each one's deviation; each is at least
    ``least`` if that is given.
    """
    values = np.asarray(worth, dtype=float)
    n = values.size - 1
    # Variables: payment of user i at the target, then in the profile in which it deviates.
    shares = np.arange(n) < sharers
    rows, limits = [], []
    for i in range(n):
        row = np.zeros(2 * n)
        row[i], row[n + i] = -1.0, 1.0
        rows.append(row)
        limits.append(-cost if shares[i] else cost)
    found = linprog(
        np.append(np.ones(n), np.zeros(n)),
        A_ub=np.array(rows),
        b_ub=np.array(limits),
        bounds=[(least, None)] * (2 * n),
        method="highs",
    )
    return None if found.status == 3 else float(values[sharers] - found.fun)


def steps(start: float, stop: float, number: int) -> Iterator[float]:
    """Evenly spaced numbers strictly inside an interval."""
    yield from (start + (stop - start) * (i + 1) / (number + 1) for i in range(number))
