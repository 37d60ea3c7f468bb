"""Accuracy shaping: random instances, answers by bisection and by definition, and games without equilibrium.

Nothing here uses the package, except the accuracy functions b themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar

from mechopt.formulations.functions import (
    AccuracyFunction,
    GeneralizationBound,
    PowerLawAccuracy,
    SqrtAccuracy,
    TabulatedAccuracy,
    UserAccuracy,
)

Array = NDArray[np.float64]

ACCURACIES = ("sqrt", "bound", "power", "table", "user")


def random_accuracy(rng: np.random.Generator, kind: str) -> AccuracyFunction:
    """Draw an accuracy: limit in [.5, 1], difficulty log-uniform in [.1, 1000]."""
    top, difficulty = float(rng.uniform(0.5, 1)), float(10 ** rng.uniform(-1, 3))
    if kind == "sqrt":
        return SqrtAccuracy(top, difficulty)
    if kind == "bound":
        return GeneralizationBound(top, difficulty)
    if kind == "power":
        return PowerLawAccuracy(2 * difficulty**0.25, float(rng.uniform(0.2, 0.8)), 1 - top)
    if kind == "table":
        sizes = difficulty * np.append(4, 4 + np.cumsum(rng.uniform(1, 20, 12)))
        rises = np.sort(rng.uniform(0, 1, 12))[::-1] * np.diff(sizes)
        return TabulatedAccuracy(
            sizes.tolist(), (top * np.append(0, np.cumsum(rises)) / rises.sum()).tolist()
        )

    def value(m: Any) -> Any:
        return top - top * np.log(1 + difficulty) / np.log(1 + m)

    def slope(m: Any) -> Any:
        return top * np.log(1 + difficulty) / ((1 + m) * np.log(1 + m) ** 2)

    return UserAccuracy(value, slope, max_accuracy=top, bracket=(0.1 * difficulty, 1e9 * difficulty))


def family_f(
    rng: np.random.Generator, kind: str, n_agents: int | None = None, low: float = -1.5, high: float = 1.5
) -> tuple[AccuracyFunction, Array]:
    """Draw an accuracy, and costs around its viability cost: c = c_max 10 ** U(low, high), at most 10."""
    accuracy = random_accuracy(rng, kind)
    n = int(rng.integers(1, 11)) if n_agents is None else n_agents
    return accuracy, accuracy.viability_cost * 10 ** rng.uniform(low, high, n)


def alone(accuracy: AccuracyFunction, cost: float) -> tuple[float, float]:
    """Best amount and utility of one agent on its own, by search over a(m) - c m on a grid, refined."""
    low, high = accuracy.min_viable_data, accuracy.max_accuracy / cost
    if high <= low:
        return 0.0, 0.0
    grid = np.geomspace(max(low, 1e-12 * high), high, 2000)
    if isinstance(accuracy, TabulatedAccuracy):
        grid = np.array([m for m in accuracy.sizes if m <= high] + [high])  # the best amount is at a kink
        amount = float(grid[np.argmax(accuracy(grid) - cost * grid)])
        utility = float(accuracy(amount)) - cost * amount
        return (amount, utility) if utility > 0 else (0.0, 0.0)
    k = int(np.argmax(accuracy(grid) - cost * grid))
    bounds = (grid[max(k - 1, 0)], grid[min(k + 1, 1999)])
    found = minimize_scalar(
        lambda m: cost * m - float(accuracy(m)),
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-12 * high},
    )
    return (float(found.x), -float(found.fun)) if found.fun < 0 else (0.0, 0.0)


def largest_total(
    accuracy: AccuracyFunction, costs: Array, seed: float = 0.0, caps: Any = np.inf
) -> float | None:
    """Largest M with M = s + sum min(cap, (b(M) - u*) / c), by bisection; None if there is none."""
    utility = np.array([alone(accuracy, float(c))[1] for c in costs])

    def excess(total: float) -> float:
        return (
            seed + float(np.sum(np.minimum((accuracy.concave_part(total) - utility) / costs, caps))) - total
        )

    high = seed + float(np.sum((accuracy.max_accuracy - utility) / costs)) + 1
    low = max(accuracy.min_viable_data, 1e-9 * high)
    # Concave in M, so unimodal: golden section for its top.
    top = minimize_scalar(
        lambda m: -excess(m), bounds=(low, high), method="bounded", options={"xatol": 1e-10 * high}
    )
    if excess(float(top.x)) <= 0:
        return None
    return float(brentq(excess, float(top.x), high, xtol=1e-12 * high, rtol=1e-14))


def shaped_reward(
    accuracy: AccuracyFunction, cost: float, start: float, margin: float, own: float, total: float
) -> float:
    """Reward of mechanism (13) with the minimum: what an agent with standalone data ``start`` gets."""
    if own <= start:
        return float(accuracy(own))
    line = float(accuracy(start)) + (cost + margin) * (own - start)
    return min(line, float(accuracy(total)))


def shaped_regret(
    accuracy: AccuracyFunction,
    costs: Array,
    margin: float,
    profile: Array,
    seed: float = 0.0,
    points: int = 800,
) -> float:
    """Most that an agent gains by another contribution under (13), deviations on a grid."""
    worst = 0.0
    for i, cost in enumerate(costs):
        start, others = alone(accuracy, float(cost))[0], seed + float(profile.sum() - profile[i])

        def utility(own: float, cost: float = cost, start: float = start, others: float = others) -> float:
            return shaped_reward(accuracy, cost, start, margin, own, own + others) - cost * own

        tried = np.linspace(0, accuracy.max_accuracy / cost, points)
        worst = max(worst, max(utility(float(x)) for x in tried) - utility(float(profile[i])))
    return worst


def _above_tangent(accuracy: SqrtAccuracy) -> Callable[[Array], Array]:
    """The accuracy's b, continued by its tangent below its root, so that it is finite and continuous at 0."""
    root = accuracy.min_viable_data
    steepness = float(accuracy.concave_part_derivative(root))
    return lambda m: np.where(m >= root, accuracy.concave_part(np.maximum(m, root)), steepness * (m - root))


def cycling_pair() -> tuple[Callable[[Array], Array], Array]:
    """Two agents for whom Theorem 3.3 promises an equilibrium, and there is none.

    The second agent's data spoil the first one's model, and the first one's lack of data the second one's, by
    twice what a model is worth to them. Each nu_i is continuous, and concave in m_i.
    """
    accuracy = SqrtAccuracy(1.0, 1.0)
    cost = 0.9 * accuracy.viability_cost
    best, worth = alone(accuracy, cost)
    b, spoil = _above_tangent(accuracy), 2 * worth / best

    def rule(m: Array) -> Array:
        first = b(m[..., 0]) - spoil * m[..., 1]
        second = b(m[..., 1]) - spoil * np.maximum(0, best - m[..., 0])
        return np.maximum(0, np.stack([first, second], axis=-1))

    return rule, np.array([cost, cost])


def cycling_trio() -> tuple[Callable[[Array], Array], Array]:
    """Three agents, a feasible and individually rational mechanism, and no equilibrium.

    Nobody but the third is viable alone. The first gets a better model as long as the second is idle, the
    second as long as the first is not.
    """
    accuracy = SqrtAccuracy(1.0, 1.0)
    costs = np.array([0.04, 0.04, 0.02])
    b = _above_tangent(accuracy)
    best = (1 / 0.04) ** (2 / 3)
    bonus = 2 * (3 * 0.04 ** (1 / 3) - 1)

    def rule(m: Array) -> Array:
        pool = b(m.sum(axis=-1))
        first = np.minimum(b(m[..., 0]) + bonus * np.clip(1 - m[..., 1] / best, 0, 1), pool)
        second = np.minimum(b(m[..., 1]) + bonus * np.clip(m[..., 0] / best, 0, 1), pool)
        return np.maximum(0, np.stack([first, second, b(m[..., 2])], axis=-1))

    return rule, costs
