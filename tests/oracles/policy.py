"""Policies for one data market by the definitions: loops, a plain linear program, random mediators.

Information is that of the duopoly's oracle, computed by regression on factors.
"""

import numpy as np
from scipy.optimize import linprog

from tests.oracles.duopoly import leaked, profit, subsets


def surplus(covariance, value, sharers):
    return float((1 - np.asarray(value)) @ leaked(covariance, sharers))


def loss(covariance, value, sharers):
    """What leaks about each user but for its own sharing, at its value."""
    return sum(v * leaked(covariance, sharers - {i})[i] for i, v in enumerate(value))


def tables(covariance, value):
    """Profit and surplus of every set."""
    everyone = set(range(len(value)))
    sets = subsets(everyone)
    return (
        sets,
        np.array([profit(covariance, value, everyone, a) for a in sets]),
        np.array([surplus(covariance, value, a) for a in sets]),
    )


def least_tax(covariance, value):
    """The set of most surplus, and the least sum of taxes, by a row for every set."""
    sets, profits, surpluses = tables(covariance, value)
    best = int(np.argmax(surpluses))
    member = np.array([[i in a for i in range(len(value))] for a in sets], dtype=float)
    answer = linprog(
        np.ones(len(value)), A_ub=member[best] - member, b_ub=profits[best] - profits, bounds=(0, None)
    )
    assert answer.status == 0
    return sets[best], answer.fun


def shutdown_tax(covariance, value):
    sets, profits, _ = tables(covariance, value)
    return max(max(x / len(a) for a, x in zip(sets, profits, strict=True) if a), 0.0)


def mediator_bound(covariance, value):
    """The dual of the mediator's program: least trace of a Y that is above 0 and above the gain."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    # Covariance of estimates with noise 1, from the factor's own singular values.
    left, sizes, _ = np.linalg.svd(root)
    factor = left * (sizes**2 / np.sqrt(1 + sizes**2))
    gain = factor.T @ np.diag(1 - np.asarray(value)) @ factor
    weights, turn = np.linalg.eigh(gain)
    multiplier = turn @ np.diag(np.clip(weights, 0, None)) @ turn.T
    assert np.linalg.eigvalsh(multiplier - gain)[0] > -1e-9 * np.trace(covariance)
    assert np.linalg.eigvalsh(multiplier)[0] > -1e-9 * np.trace(covariance)
    return float(np.trace(multiplier))


def random_estimates(rng, covariance):
    """Covariance of estimates from a random noisy linear signal of all data."""
    n = len(covariance)
    signal = rng.normal(size=(int(rng.integers(1, n + 1)), n)) * 10 ** rng.uniform(-1, 2)
    own = signal @ (covariance + np.eye(n)) @ signal.T + np.eye(len(signal))
    across = covariance @ signal.T
    return across @ np.linalg.solve(own, across.T)
