"""The ledger of the accuracy-shaping paper, and second roads to the numbers that its claims compare.

Nothing here uses the wing: only the accuracy a(m), its concave part b and where b starts, and trying.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize_scalar

from mechopt.formulations.functions import AccuracyFunction
from mechopt.solvers.errors import MechanismWarning
from mechopt.solvers.solution import Solution
from mechopt.verification.claim import Finding, Ledger
from mechopt.verification.evidence import largest

Array = NDArray[np.float64]

LEDGER = Ledger()

_POINTS = 1500


def search_alone(accuracy: AccuracyFunction, cost: float) -> tuple[float, float]:
    """Best amount of one agent alone and its utility, by trying amounts and refining the best of them."""
    low, high = accuracy.min_viable_data, accuracy.max_accuracy / cost
    if high <= low:
        return 0.0, 0.0

    def loss(log: float) -> float:
        return cost * float(np.exp(log)) - float(accuracy(np.exp(log)))

    logs = np.linspace(np.log(low), np.log(high), _POINTS)
    at = int(np.argmax(accuracy(np.exp(logs)) - cost * np.exp(logs)))
    ends = (logs[max(at - 1, 0)], logs[min(at + 1, _POINTS - 1)])
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-10})
    return (float(np.exp(found.x)), -float(found.fun)) if found.fun < 0 else (0.0, 0.0)


def search_viability(accuracy: AccuracyFunction) -> float:
    """Highest b(m) / m, by trying amounts and refining the best of them."""

    def loss(log: float) -> float:
        return -float(accuracy(np.exp(log))) / float(np.exp(log))

    logs = np.log(max(accuracy.min_viable_data, 1e-300)) + np.linspace(0, 20, _POINTS)
    at = int(np.argmax(accuracy(np.exp(logs)) / np.exp(logs)))
    ends = (logs[max(at - 1, 0)], logs[min(at + 1, _POINTS - 1)])
    return -float(minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-9}).fun)


def search_pool(
    accuracy: AccuracyFunction, costs: ArrayLike, outside: ArrayLike, seed: float = 0.0
) -> float | None:
    """Largest pool M with M <= s + sum (b(M) - u*) / c, by trying from above; None if there is none."""
    rates = 1 / np.asarray(costs, dtype=float)
    rate, offset = float(rates.sum()), seed - float(rates @ np.asarray(outside, dtype=float))
    return last_sign_change(
        lambda total: rate * accuracy.concave_part(total) + offset - total,
        accuracy.min_viable_data,
        1.001 * (rate * accuracy.max_accuracy + offset),
    )


def search_most(
    accuracy: AccuracyFunction, cost: float, utility: float, others: float, least: float = 0.0
) -> float | None:
    """Most data m >= least with a(m + S) - c m >= utility, by trying; None if there is no such m."""
    if accuracy(least + others) - cost * least >= utility:
        at_least: float | None = least
    else:
        at_least = None
    found = last_sign_change(
        lambda m: accuracy(m + others) - cost * m - utility,
        max(least, accuracy.min_viable_data - others, 1e-9 * accuracy.max_accuracy / cost),
        1.001 * (accuracy.max_accuracy - utility) / cost + 1e-300,
    )
    return at_least if found is None else found


def search_two_types(
    accuracy: AccuracyFunction, costs: ArrayLike, probs: ArrayLike, others: float
) -> tuple[float, float, float]:
    """Best expected data of two types given the data of the others, with m_L and m_H, by trying m_H.

    The costly type is left with its outside option, the cheap one with what it could have from the costly
    one's contract if that is more, and contributes the most that this allows.
    """
    (low, high), (p, q) = np.asarray(costs, dtype=float), np.asarray(probs, dtype=float)
    alone_low, alone_high = (search_alone(accuracy, cost)[1] for cost in (low, high))
    ceiling = search_most(accuracy, high, alone_high, others)
    best = (0.0, 0.0, 0.0)
    if alone_high == 0 and accuracy(others) == 0:
        # The costly type can be shut out; the cheap one too, if it has nothing alone.
        most = search_most(accuracy, low, alone_low, others) or 0.0
        best = (p * most, most, 0.0)
    if ceiling is None:
        return best
    start, stop = 0.0, ceiling
    for _ in range(4):
        tried = np.linspace(start, stop, 300)
        spare = accuracy(tried + others) - high * tried - alone_high
        given = most_of(accuracy, low, np.maximum(alone_low, alone_high + (high - low) * tried), others)
        allowed = (spare >= -1e-14) & (given >= tried * (1 - 1e-12))
        # Without accuracy nothing is asked: that is the case of being shut out.
        allowed &= (accuracy(tried + others) > 0) | (tried == 0) & (accuracy(others) > 0)
        value = np.where(allowed, p * given + q * tried, -1.0)
        at = int(np.argmax(value))
        if value[at] > best[0]:
            best = (float(value[at]), float(given[at]), float(tried[at]))
        start, stop = float(tried[max(at - 1, 0)]), float(tried[min(at + 1, 299)])
    return best


def most_of(accuracy: AccuracyFunction, cost: float, utilities: Array, others: float) -> Array:
    """Most data m with a(m + S) - c m >= utility, for many utilities, by halving; NaN where there is none."""
    reach = accuracy.max_accuracy / cost
    grid = np.concatenate([[0.0], np.geomspace(1e-9 * reach, reach, _POINTS)])
    values = accuracy(grid + others) - cost * grid
    low = np.full(utilities.shape, grid[int(np.argmax(values))])
    high = np.full(utilities.shape, reach)
    for _ in range(60):
        middle = (low + high) / 2
        more = accuracy(middle + others) - cost * middle >= utilities
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return np.where(accuracy(low + others) - cost * low >= utilities - 1e-14, low, np.nan)


def last_sign_change(function: Callable[[Any], Any], low: float, high: float) -> float | None:
    """Largest root at which a function that is negative at ``high`` becomes so; None if it always is."""
    if high <= low:
        return None
    tried = np.geomspace(low, high, _POINTS)
    values = np.asarray(function(tried))
    at = int(np.argmax(values))
    if values[at] < 0:
        # A top between the points tried.
        ends = (tried[max(at - 1, 0)], tried[min(at + 1, _POINTS - 1)])
        top = minimize_scalar(
            lambda m: -float(function(m)), bounds=ends, method="bounded", options={"xatol": 1e-12 * ends[1]}
        )
        if -top.fun < 0:
            return None
        start, stop = float(top.x), float(ends[1])
    else:
        last = int(np.flatnonzero(values >= 0)[-1])
        if last == _POINTS - 1:
            return high
        start, stop = float(tried[last]), float(tried[last + 1])
    return float(brentq(lambda m: float(function(m)), start, stop, xtol=1e-14 * high, rtol=1e-15))


def shaped_reward(
    accuracy: AccuracyFunction, start: float, slope: float, contribution: ArrayLike, others: ArrayLike
) -> Array:
    """Reward of mechanism (13), with the minimum: ``start`` is m*, ``slope`` the cost and the margin."""
    m = np.asarray(contribution, dtype=float)
    line = float(accuracy(start)) + slope * (m - start)
    pool = accuracy(m + np.asarray(others, dtype=float))
    return np.where(m <= start, accuracy(m), np.minimum(line, pool))


Rule = Callable[[int, Array, float], Array]
"""Reward of an agent for contributions that it tries, given the data of the others."""


def shaped_rule(accuracy: AccuracyFunction, costs: Array, margin: float) -> Rule:
    """Mechanism (13) as a rule, standalone data being searched for."""
    starts = {float(cost): search_alone(accuracy, float(cost))[0] for cost in costs}

    def rule(agent: int, tried: Array, others: float) -> Array:
        cost = float(costs[agent])
        return shaped_reward(accuracy, starts[cost], cost + margin, tried, others)

    return rule


def pool_rule(accuracy: AccuracyFunction) -> Rule:
    """Mechanism (10) as a rule: everybody gets the model of all data."""
    return lambda agent, tried, others: np.asarray(accuracy(tried + others))


def gains(rule: Rule, costs: Array, limit: ArrayLike, profile: Array, seed: float = 0.0) -> Array:
    """Most that each agent gains by another contribution; tried on two grids, and refined at the best."""
    limits = np.broadcast_to(limit, costs.shape)
    best = np.empty(costs.shape)
    for agent, cost in enumerate(costs):
        others = max(seed + float(profile.sum() - profile[agent]), 0.0)

        def utility(tried: Array, agent: int = agent, cost: float = cost, others: float = others) -> Array:
            return rule(agent, tried, others) - cost * tried

        top = 1.2 * float(limits[agent])
        grid = np.sort(np.concatenate([np.linspace(0, top, 600), np.geomspace(1e-9 * top, top, 600)]))
        at = int(np.argmax(utility(grid)))
        fine = np.linspace(grid[max(at - 1, 0)], grid[min(at + 1, grid.size - 1)], 200)
        now = float(utility(np.array([profile[agent]]))[0])
        best[agent] = max(float(utility(grid).max()), float(utility(fine).max())) - now
    return np.maximum(best, 0.0)


def conic(solve: Callable[..., Solution], backend: str = "clarabel") -> Solution:
    """Solve by an interior-point method (or another backend), whatever it says of its own accuracy."""
    with warnings.catch_warnings():
        # A claim measures the answer itself; what the solver thinks of its accuracy adds nothing.
        warnings.simplefilter("ignore", MechanismWarning)
        return solve(backend, tolerance=1e-8, on_failure="return")


def worst_of(gaps: Mapping[str, float], told: str, *, applies: bool = True) -> Finding:
    """Report the largest gap under its name; a gap that is not a number comes first."""
    worst = max(gaps, key=lambda name: np.inf if np.isnan(gaps[name]) else gaps[name])
    return Finding(float(gaps[worst]), f"{worst} {gaps[worst]:.1e}: {told}", applies=applies)


def relative(value: float, reference: float) -> float:
    """Distance in units of the reference."""
    return abs(value - reference) / max(abs(reference), 1e-300)


def spread(values: Iterable[float]) -> float:
    """Range of some numbers, in units of the largest of them."""
    held = [float(value) for value in values]
    return (max(held) - min(held)) / max(largest(held), 1e-300)
