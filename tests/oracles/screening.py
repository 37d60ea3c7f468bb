"""Screening contract: random instances and the min-max formula for the optimal quantities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from mechopt.formulations.functions import (
    ConcaveFunction,
    ConvexCost,
    LogGain,
    PiecewiseLinearGain,
    PowerGain,
    QuadraticGain,
    SaturatingGain,
)

GAINS = ("log", "power", "saturating", "quadratic", "piecewise")


def random_contract(
    rng: np.random.Generator, kind: str = "log", n_types: int | None = None
) -> dict[str, Any]:
    """Draw an instance: 1 to 12 uneven types, uneven weights, r = weight scale / cost in [1.26, 200]."""
    k = int(rng.integers(1, 13)) if n_types is None else n_types
    types = np.sort(rng.uniform(0.05, 1, k)) + 1e-3 * np.arange(1, k + 1)
    probs = rng.dirichlet(np.full(k, 0.7)) + 1e-3
    ratio = 10 ** rng.uniform(0.1, 2.3)
    scale = 10 ** rng.uniform(-1, 1)
    unit_cost = 10 ** rng.uniform(-1, 1)
    return {
        "types": types,
        "probs": probs / probs.sum(),
        "gain": make_gain(kind, ratio * unit_cost / scale, scale, rng),
        "unit_cost": float(unit_cost),
    }


def make_gain(kind: str, weight: float, scale: float, rng: np.random.Generator) -> ConcaveFunction:
    """Build a gain whose slope at z = 0 is about ``weight``."""
    if kind == "log":
        return LogGain(weight, scale)
    if kind == "power":
        return PowerGain(weight, scale, rng.uniform(0.2, 0.8))
    if kind == "saturating":
        return SaturatingGain(weight, scale)
    if kind == "quadratic":
        return QuadraticGain(weight, weight / 10 ** rng.uniform(0, 1), scale)
    kinks = np.cumsum(rng.uniform(0.1, 2, 5))
    slopes = weight * np.append(np.sort(rng.uniform(0, 1, 5))[::-1], 0.0)
    intercepts = np.append(0.0, np.cumsum((slopes[:-1] - slopes[1:]) * kinks))
    return PiecewiseLinearGain(slopes, intercepts, scale)


def block_root(
    types: NDArray[np.float64],
    mass: NDArray[np.float64],
    cost: float,
    gain: ConcaveFunction,
    low: float,
    high: float,
) -> float:
    """Smallest q in [low, high] where the block's marginal gain does not exceed its cost."""

    def net(q: float) -> float:
        return float(mass @ gain.derivative(types * q)) - cost

    if high == low:
        return high
    with np.errstate(invalid="ignore"):
        if low == 0 and net(0.0) <= 0:
            return 0.0
    if net(low) <= 0:
        return low
    if net(high) > 0:
        return high
    if not isinstance(gain, PiecewiseLinearGain):
        return float(brentq(net, low, high, xtol=1e-300, rtol=4 * np.finfo(float).eps, maxiter=1000))
    while True:
        middle = low + (high - low) / 2
        if not low < middle < high:
            return high
        low, high = (middle, high) if net(middle) > 0 else (low, middle)


def minmax_quantities(
    types: NDArray[np.float64], probs: NDArray[np.float64], gain: ConcaveFunction, unit_cost: float
) -> NDArray[np.float64]:
    """Optimal quantities, q_k = max over j >= k of min over i <= k of the best common quantity of i..j."""
    n = len(types)
    earlier = np.concatenate(([0.0], np.cumsum(probs)[:-1]))
    cost = unit_cost * (probs * types + earlier * np.diff(types, prepend=types[0]))
    mass = probs * types
    own = gain.inverse_derivative(cost / mass) / types
    root = np.empty((n, n))
    for i in range(n):
        for j in range(i, n):
            block = slice(i, j + 1)
            root[i, j] = block_root(
                types[block], mass[block], cost[block].sum(), gain, own[block].min(), own[block].max()
            )
    return np.array([max(root[: k + 1, j].min() for j in range(k, n)) for k in range(n)])


def pooled_reference(
    types: NDArray[np.float64], probs: NDArray[np.float64], gain: ConcaveFunction, unit_cost: float
) -> tuple[NDArray[np.float64], float]:
    """Optimal quantities and value, with the payments written as explicit double sums."""
    q = minmax_quantities(types, probs, gain, unit_cost)
    n = len(types)
    rent = [unit_cost * sum((types[j] - types[j - 1]) * q[j] for j in range(k + 1, n)) for k in range(n)]
    value = sum(
        probs[k] * (float(gain(types[k] * q[k])) - unit_cost * types[k] * q[k] - rent[k]) for k in range(n)
    )
    return q, float(value)


def minmax_quantities_with_curve(
    types: NDArray[np.float64],
    probs: NDArray[np.float64],
    gain: ConcaveFunction,
    unit_cost: float,
    curve: ConvexCost,
) -> NDArray[np.float64]:
    """Optimal quantities for costs c δ h(q), by the min-max formula in y = h(q)."""
    n = len(types)
    earlier = np.concatenate(([0.0], np.cumsum(probs)[:-1]))
    cost = unit_cost * (probs * types + earlier * np.diff(types, prepend=types[0]))

    def root(i: int, j: int) -> float:
        block = slice(i, j + 1)

        def net(log_y: float) -> float:
            q, slope = curve.inverse(np.exp(log_y)), curve.inverse_slope(np.exp(log_y))
            gained = float((probs[block] * types[block]) @ gain.derivative(types[block] * q) * slope)
            return np.log(max(gained, 1e-290)) - np.log(cost[block].sum())

        low, high = -60.0, 60.0
        if net(low) <= 0:
            return 0.0
        return float(np.exp(brentq(net, low, high, xtol=1e-14, rtol=1e-15, maxiter=1000)))

    table = {(i, j): root(i, j) for i in range(n) for j in range(i, n)}
    return curve.inverse(
        np.array([max(min(table[i, j] for i in range(k + 1)) for j in range(k, n)) for k in range(n)])
    )


def pooled_reference_with_curve(
    types: NDArray[np.float64],
    probs: NDArray[np.float64],
    gain: ConcaveFunction,
    unit_cost: float,
    curve: ConvexCost,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Optimal quantities, payments and value for costs c δ h(q), payments by their recursion."""
    q = minmax_quantities_with_curve(types, probs, gain, unit_cost, curve)
    payment, value, rent = np.empty_like(q), 0.0, 0.0
    for k in reversed(range(len(q))):
        burden = float(curve(q[k]))
        payment[k] = unit_cost * types[k] * burden + rent
        value += probs[k] * (float(gain(types[k] * q[k])) - payment[k])
        rent += unit_cost * (types[k] - types[k - 1]) * burden
    return q, payment, value
