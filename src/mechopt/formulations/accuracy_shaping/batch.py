"""Data maximisation in many games at once: the algorithm of `exact`, all games a step at a time."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.accuracy_shaping import exact
from mechopt.formulations.functions import AccuracyFunction, PowerLawAccuracy, SqrtAccuracy
from mechopt.formulations.functions.accuracies import _PowerCurve
from mechopt.formulations.functions.stacked import family
from mechopt.formulations.unstacked import arrays_of_each, numbers_of_each
from mechopt.solvers import certify
from mechopt.solvers.backend import get_backend
from mechopt.solvers.solution import Solution, Status

if TYPE_CHECKING:
    from mechopt.formulations.accuracy_shaping.model import AccuracyShaping

Array = NDArray[np.float64]

_CURVES = (SqrtAccuracy, PowerLawAccuracy)


@dataclass(frozen=True, eq=False)
class _Curves(_PowerCurve):
    """Power curves of one exponent, one a game: the numbers of each as columns, shape (n_games, 1)."""

    limit: Any
    coefficient: Any
    exponent: float
    least: Any
    dearest: Any

    @property
    def _power(self) -> tuple[Any, Any, float]:
        return self.limit, self.coefficient, self.exponent

    @property
    def min_viable_data(self) -> Any:
        return self.least

    @property
    def viability_cost(self) -> Any:
        return self.dearest

    @classmethod
    def of(cls, curves: Sequence[Any]) -> _Curves:
        def column(values: Any) -> Array:
            return np.array(list(values), dtype=float)[:, np.newaxis]

        power = [curve._power for curve in curves]
        return cls(
            limit=column(limit for limit, _, _ in power),
            coefficient=column(coefficient for _, coefficient, _ in power),
            exponent=power[0][2],
            least=column(curve.min_viable_data for curve in curves),
            dearest=column(curve.viability_cost for curve in curves),
        )


class _Maxima(NamedTuple):
    """The most data of each game; columns of shape (n_games, 1), and agents of shape (n_games, n_agents)."""

    viable: NDArray[np.bool_]
    total: Array
    level: Array
    slope: Array
    rate: Array
    alone: Array
    contribution: Array


def alike(game: AccuracyShaping) -> Hashable:
    """Return a key that games share which can be solved side by side."""
    accuracy = game.accuracy
    if type(accuracy) in _CURVES:  # which have the attribute, as mypy cannot know
        return game.n_agents, "curve", accuracy._power[2]  # type: ignore[attr-defined]
    return game.n_agents, family(accuracy)


def _maxima(costs: Array, accuracy: AccuracyFunction, seed: Array) -> _Maxima:
    """See `exact.data_maximum`, without limits; ``seed`` of shape (n_games, 1)."""
    rates = 1 / costs
    wanted = costs < accuracy.viability_cost * (1 - exact.TIE)
    collected = np.where(wanted, accuracy.inverse_derivative(costs), 0.0)
    alone = np.where(wanted, np.maximum(accuracy.concave_part(collected) - costs * collected, 0.0), 0.0)
    rate = rates.sum(axis=1, keepdims=True)
    offset = (rates * alone).sum(axis=1, keepdims=True) - seed
    peak = np.maximum(accuracy.inverse_derivative(1 / rate), accuracy.min_viable_data)
    given = rate * accuracy.concave_part(peak)
    top = given - offset - peak
    double = np.abs(top) <= exact.ROUNDING * (np.abs(given) + np.abs(offset) + peak)
    viable = double | (top > 0)
    total = np.where(viable & ~double, rate * accuracy.max_accuracy - offset, peak)
    moving = viable & ~double
    for _ in range(exact.MAX_STEPS):
        if not moving.any():
            break
        value = rate * accuracy.concave_part(total) - offset - total
        slope = rate * accuracy.concave_part_derivative(total) - 1
        with np.errstate(divide="ignore", invalid="ignore"):
            following = total - value / slope
        moving &= (value < 0) & (slope < 0) & (following < total)
        total = np.where(moving, following, total)
    total = np.maximum(total, peak)
    level = np.asarray(accuracy.concave_part(total))
    slope = np.asarray(accuracy.concave_part_derivative(total))
    contribution = np.maximum((level - alone) / costs, 0.0)
    return _Maxima(viable, total, level, slope, rate, alone, contribution)


def solve_together(games: Sequence[AccuracyShaping], tolerance: float) -> list[Solution]:
    """Solve games that are `alike`, as each one's ``solve`` would, but for the last digits."""
    started = time.perf_counter()
    costs = np.array([game.marginal_costs for game in games])
    seed = np.array([[game.seed_data] for game in games])
    first = games[0].accuracy
    accuracy = _Curves.of([game.accuracy for game in games]) if type(first) in _CURVES else first
    found = _maxima(costs, accuracy, seed)
    solved = time.perf_counter()
    n, shape = len(games), costs.shape
    cost = costs * found.contribution
    allocated = np.broadcast_to(found.level, shape)
    total = seed + found.contribution.sum(axis=1, keepdims=True)
    values = {
        "contribution": found.contribution,
        "allocated_accuracy": allocated,
        "accuracy": found.level[:, 0],
        "total_data": total[:, 0],
        "cost": cost,
        "utility": allocated - cost,
    }
    shortfall = {
        "participation": np.max(found.alone - values["utility"], axis=1),
        "feasibility": np.max(allocated - found.level, axis=1),
        "accuracy_hypograph": (found.level - accuracy.concave_part(total))[:, 0],
        certify.DOMAIN: -found.contribution.min(axis=1),
    }
    violations = {name: np.maximum(value, 0.0) for name, value in shortfall.items()}
    size = {certify.DOMAIN: np.maximum(found.contribution.max(axis=1), 1.0)}
    top = np.broadcast_to(accuracy.max_accuracy, (n, 1))[:, 0]
    residuals = {name: value / size.get(name, top) for name, value in violations.items()}
    remains = 1 - found.rate * found.slope
    priced = (remains >= exact.LEAST_SLOPE)[:, 0].tolist()
    with np.errstate(divide="ignore", invalid="ignore"):
        share = 1 / costs / remains
        pooled = found.rate / remains
    prices = {"participation": -share, "feasibility": share, "accuracy_hypograph": pooled[:, 0]}
    viable, rate, objective = (x.ravel().tolist() for x in (found.viable, found.rate, total))
    columns, duals = arrays_of_each(values), arrays_of_each(prices)
    violation, residual = numbers_of_each(violations), numbers_of_each(residuals)
    shared: dict[str, Any] = {
        "backend": "exact",
        "version": get_backend("exact").version(),
        "tolerance": tolerance,
        "program": "accuracy shaping",
        "sense": "maximize",
    }
    spent = {"build": 0.0, "compile": 0.0, "solve": (solved - started) / n}
    spent["check"] = (time.perf_counter() - solved) / n
    solutions = []
    for i, game in enumerate(games):
        if viable[i]:
            own = {name: (price,) for name, price in duals[i].items()} if priced[i] else {}
            told = optimal(objective[i], columns[i], own, residual[i], violation[i], tolerance)
        else:
            told = nothing(game, exact.too_costly(rate[i], game.accuracy, game.seed_data))
        solutions.append(Solution(**shared, seconds=dict(spent), **told))
    return solutions


def optimal(
    objective: float,
    values: dict[str, Array],
    duals: Mapping[str, tuple[Array, ...]],
    residuals: dict[str, float],
    violations: dict[str, float],
    tolerance: float,
) -> dict[str, Any]:
    """What a solution says of a pool that pays for itself; its status by the residuals."""
    kept = all(residual <= tolerance for residual in residuals.values())
    return {
        "status": Status.OPTIMAL if kept else Status.INACCURATE,
        "reason": "exact algorithm",
        "objective": objective,
        "bound": objective,
        "gap": 0.0,
        "values": values,
        "duals": dict(duals),
        "residuals": residuals,
        "violations": violations,
        "no_duals": "" if duals else "next to a double root of the pool's equation, prices are infinite",
        "extra": {"not_viable": False},
    }


def nothing(game: AccuracyShaping, why: str) -> dict[str, Any]:
    """What a solution says where nobody contributes: the optimum if the branch b >= 0 is infeasible."""
    zero = np.zeros(game.n_agents)
    values = {
        "contribution": zero,
        "allocated_accuracy": zero,
        "accuracy": np.asarray(game.accuracy(game.seed_data)),
        "total_data": np.asarray(game.seed_data),
        "cost": zero,
        "utility": zero,
    }
    for value in values.values():
        value.setflags(write=False)
    families = ("participation", "feasibility", "accuracy_hypograph", certify.DOMAIN)
    return {
        "status": Status.OPTIMAL,
        "reason": f"not_viable: {why}; nobody contributes",
        "objective": game.seed_data,
        "bound": game.seed_data,
        "gap": 0.0,
        "values": values,
        "duals": {},
        "residuals": dict.fromkeys(families, 0.0),
        "violations": dict.fromkeys(families, 0.0),
        "no_duals": "nobody contributes, and there is no price to that",
        "extra": {"not_viable": True},
    }
