"""Cost screening: random instances, and the best menu for two types by search over a grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.accuracy_shaping.cost_screening import CostScreening
from mechopt.formulations.functions import (
    AccuracyFunction,
    GeneralizationBound,
    PowerLawAccuracy,
    SqrtAccuracy,
)

Array = NDArray[np.float64]

ACCURACIES = ("sqrt", "power", "bound")


def make_accuracy(rng: np.random.Generator, kind: str) -> AccuracyFunction:
    """Draw an accuracy function of a kind."""
    top = rng.uniform(0.5, 1)
    if kind == "sqrt":
        return SqrtAccuracy(top, 10 ** rng.uniform(-1, 3))
    if kind == "power":
        return PowerLawAccuracy(10 ** rng.uniform(0, 1), rng.uniform(0.3, 0.9), 1 - top)
    return GeneralizationBound(top, 10 ** rng.uniform(0, 3))


def random_screening(
    rng: np.random.Generator,
    kind: str = "sqrt",
    n_types: int = 2,
    *,
    least_data: float = 0.1,
    highest: float = 0.8,
    evenness: float = 1.0,
) -> CostScreening:
    """Draw an instance: costs from 0.03 to ``10 ** highest`` viability costs, more or less uneven weights."""
    accuracy = make_accuracy(rng, kind)
    costs = np.sort(accuracy.viability_cost * 10 ** rng.uniform(-1.5, highest, n_types))
    costs *= 1 + 1e-3 * np.arange(n_types)  # apart enough for conic solvers
    probs = rng.dirichlet(np.full(n_types, evenness)) + 1e-3
    others = accuracy.viability_data * 10 ** rng.uniform(np.log10(least_data), 1.5)
    return CostScreening(accuracy, costs, probs / probs.sum(), others)


def best_on_grid(screening: CostScreening, n_points: int = 20001) -> tuple[float, float]:
    """Expected data of the best menu for two types, between two bounds, by the definition.

    The costly type's amount runs over a grid. If it takes part it is left with its outside option; the cheap
    one then gives the most at which the true accuracy pays for what it must be left with. That falls with
    the costly type's amount, so that the values at both ends of a cell bound those inside.
    """
    accuracy, (low, high), others = screening.accuracy, screening.costs, screening.others_data
    alone_low, alone_high = screening.standalone_utility
    end = (accuracy.max_accuracy - alone_high) / high
    grid = np.linspace(0.0, end, n_points)
    possible = accuracy(grid + others) - high * grid >= alone_high
    possible[0] |= alone_high == 0.0
    utility = np.maximum(alone_low, alone_high + (high - low) * grid)
    # The last root of a concave function, by halving between its peak and where the accuracy cannot reach.
    peak = np.maximum(accuracy.inverse_derivative(low) - others, 0.0)
    left, right = np.full(n_points, peak), (accuracy.max_accuracy - utility) / low
    possible &= accuracy(peak + others) - low * peak >= utility
    for _ in range(60):
        middle = (left + right) / 2
        pays = accuracy(middle + others) - low * middle >= utility
        left, right = np.where(pays, middle, left), np.where(pays, right, middle)
    shut_out = alone_low == 0.0  # all stay out
    if not possible.any():
        return (0.0, 0.0) if shut_out else (np.nan, np.nan)
    p, q = screening.probs
    found = float(np.max((p * left + q * grid)[possible]))
    step = grid[1]
    # Inside a cell whose ends are not possible nothing is missed but for the cell's width.
    most = max(float(np.max((p * left + q * (grid + step))[possible])), found)
    return found, most


def by_iteration(screening: CostScreening, n_agents: int, steps: int = 400) -> float:
    """Greatest mean-field amount of others' data: best menus again and again, from all that costs can buy."""
    others = float((n_agents - 1) * np.sum(screening.probs / screening.costs))
    for _ in range(steps):
        at = CostScreening(screening.accuracy, screening.costs, screening.probs, others)
        others = (n_agents - 1) * at.solve().objective
    return others
