"""Private and federated mean estimation from the definitions: outcomes, covariances, coalitions.

Nothing here uses the package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, permutations, product
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import beta

Array = NDArray[np.float64]


# ------------------------------------------------------------ private mean estimation


def risk_by_outcomes(weights: ArrayLike, noise_scale: float) -> float:
    """Bayes risk from all 2^N outcomes.

    An outcome with k positive data has likelihood p^k (1 - p)^(N - k). Under the uniform prior, the integrals
    of 1, p and p^2 against it are Beta functions, and mu = p - 1/2.
    """
    w = np.asarray(weights, dtype=float)
    n = w.size
    total = 0.0
    for outcome in product((0.5, -0.5), repeat=n):
        k = sum(x > 0 for x in outcome)
        moment = [beta(k + 1 + power, n - k + 1) for power in range(3)]
        guess = float(w @ outcome) + 0.5  # an estimate of p itself
        total += guess**2 * moment[0] - 2 * guess * moment[1] + moment[2]
    return total + 2 * noise_scale**2


def best_risk_by_ratio(levels: ArrayLike) -> float:
    """Least Bayes risk, by searching over the noise per unit of weight.

    For a given noise s, the best weights are those of a quadratic in a box, found by coordinate descent; the
    outer search is over s. Slow, and blind to any formula.
    """
    levels = np.asarray(levels, dtype=float)

    def inner(s: float) -> float:
        limit = np.where(np.isinf(levels), np.inf, np.where(np.isinf(levels), 0.0, levels) * s)
        w = np.zeros(levels.size)
        for _ in range(400):
            before = w.copy()
            for i in range(w.size):
                # d/dw_i: w_i / 3 + (sum w - 1) / 6 = 0.
                w[i] = np.clip((1 - (w.sum() - w[i])) / 3, -limit[i], limit[i])
            if np.abs(w - before).max() < 1e-15:
                break
        return float(w @ w / 6 + (1 - w.sum()) ** 2 / 12 + 2 * s * s)

    low, high = 0.0, 0.5
    ratio = (np.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    fa, fb = inner(a), inner(b)
    for _ in range(60):
        if fa < fb:
            high, b, fb = b, a, fa
            a = high - ratio * (high - low)
            fa = inner(a)
        else:
            low, a, fa = a, b, fb
            b = low + ratio * (high - low)
            fb = inner(b)
    return min(fa, fb, inner(0.0))


def random_levels(rng: np.random.Generator, n_users: int, low: float = -1.5, high: float = 1.5) -> Array:
    """Levels 10 ** U(low, high), now and then 0, infinite or shared."""
    levels = 10 ** rng.uniform(low, high, n_users)
    kind = rng.random(n_users)
    levels[kind < 0.12] = 0.0
    levels[kind > 0.88] = np.inf
    if n_users > 1 and rng.random() < 0.3:
        levels[-1] = levels[0]
    return levels


# ------------------------------------------------------------ federated mean estimation


def error_by_covariance(
    weights: ArrayLike, user: int, num_samples: ArrayLike, between: float, within: float, common: float = 7.0
) -> float:
    """Error of a linear estimate, from the covariance of everything random in the model.

    Those are the common mean (of variance ``common``: it must not matter), the users' deviations from it, and
    the noises of their sample means. The error is a linear map of them.
    """
    v, samples = np.asarray(weights, dtype=float), np.asarray(num_samples, dtype=float)
    n = v.size
    covariance = np.diag(np.concatenate([[common], np.full(n, between), within / samples]))
    sample_means = np.hstack([np.ones((n, 1)), np.eye(n), np.eye(n)])
    own_mean = np.zeros(2 * n + 1)
    own_mean[[0, 1 + user]] = 1.0
    error = v @ sample_means - own_mean
    return float(error @ covariance @ error)


def weights_by_elimination(
    user: int, levels: ArrayLike, num_samples: ArrayLike, between: float, within: float
) -> Array:
    """Best per-user weights, by the linear system of first-order conditions for the covariance form."""
    levels, samples = np.asarray(levels), np.asarray(num_samples, dtype=float)
    n = levels.size
    columns = []
    if np.any(levels == 1):
        columns.append((levels == 1) / np.sum(levels == 1))
    columns += [(np.arange(n) == j).astype(float) for j in np.flatnonzero(levels == 2)]
    basis = np.array(columns).T
    covariance = np.diag(between + within / samples)
    cross = np.zeros(n)
    cross[user] = between
    m = basis.shape[1]
    system = np.zeros((m + 1, m + 1))
    system[:m, :m] = basis.T @ covariance @ basis
    system[:m, m] = system[m, :m] = basis.sum(axis=0)
    right = np.append(basis.T @ cross, 1.0)
    return basis @ np.linalg.solve(system, right)[:m]


def error_by_elimination(
    user: int, levels: ArrayLike, num_samples: ArrayLike, between: float, within: float
) -> float:
    """Least error of the estimate of a user's mean, with the weights of `weights_by_elimination`."""
    if not np.any(np.asarray(levels)):
        return within + 2 * between
    weights = weights_by_elimination(user, levels, num_samples, between, within)
    return error_by_covariance(weights, user, num_samples, between, within)


def utility_by_users(
    levels: ArrayLike, num_samples: ArrayLike, between: float, within: float, importance: ArrayLike
) -> float:
    """Sum a_i log((t2 + 2 s2) / EMSE_i) over all users."""
    if not np.any(np.asarray(levels)):
        return 0.0
    start = within + 2 * between
    return sum(
        float(a) * float(np.log(start / error_by_elimination(i, levels, num_samples, between, within)))
        for i, a in enumerate(np.asarray(importance, dtype=float))
    )


def coalition_table(
    utility: Callable[[tuple[int, ...]], float], n_users: int
) -> dict[tuple[int, ...], float]:
    """Utility of every coalition."""
    everybody = range(n_users)
    return {s: utility(s) for size in range(n_users + 1) for s in combinations(everybody, size)}


def shapley_by_subsets(table: dict[tuple[int, ...], float], n_users: int) -> Array:
    """Fair values by (12), coalition by coalition."""
    values = np.zeros(n_users)
    for coalition, worth in table.items():
        size = len(coalition)
        for i in range(n_users):
            if i in coalition:
                values[i] += worth / (n_users * comb(n_users - 1, size - 1))
            else:
                values[i] -= worth / (n_users * comb(n_users - 1, size))
    return values


def shapley_by_orders(table: dict[tuple[int, ...], float], n_users: int) -> Array:
    """Fair values as the mean of marginal contributions over all orders of arrival."""
    values, number = np.zeros(n_users), 0
    for order in permutations(range(n_users)):
        number += 1
        there: Sequence[int] = ()
        for user in order:
            joined = tuple(sorted((*there, user)))
            values[user] += table[joined] - table[tuple(there)]
            there = joined
    return values / number


def cover_by_subsets(table: dict[tuple[int, ...], float]) -> dict[tuple[int, ...], float]:
    """Largest utility among each coalition's subsets."""
    return {s: max(table[t] for size in range(len(s) + 1) for t in combinations(s, size)) for s in table}
