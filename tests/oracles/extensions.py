"""Screening contract with one extra constraint: the optimum by bisection on the constraint's price."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from tests.oracles.screening import block_root

Array = NDArray[np.float64]


def priced_quantities(instance: dict[str, Any], cost: Array) -> Array:
    """Min-max quantities when one more record of type k costs ``cost[k]`` in expectation."""
    types, probs, gain = instance["types"], instance["probs"], instance["gain"]
    n = len(types)
    mass = probs * types
    own = gain.inverse_derivative(np.maximum(cost, 1e-300) / mass) / types
    root = np.empty((n, n))
    for i in range(n):
        for j in range(i, n):
            block = slice(i, j + 1)
            root[i, j] = block_root(
                types[block], mass[block], cost[block].sum(), gain, own[block].min(), own[block].max()
            )
    return np.array([max(root[: k + 1, j].min() for j in range(k, n)) for k in range(n)])


def virtual_costs(instance: dict[str, Any]) -> Array:
    """Expected payment for one more record of each type, information rents of lower types included."""
    types, probs, cost = instance["types"], instance["probs"], instance["unit_cost"]
    rents = [sum(probs[:k]) * (types[k] - types[k - 1]) if k else 0.0 for k in range(len(types))]
    return cost * (probs * types + np.array(rents))


def value(instance: dict[str, Any], quantity: Array) -> float:
    """Demander's expected utility at the least payments that make the quantities truthful."""
    gains = instance["probs"] * instance["gain"](instance["types"] * quantity)
    return float(gains.sum() - virtual_costs(instance) @ quantity)


def with_budget(instance: dict[str, Any], budget: float) -> tuple[float, Array, float]:
    """Price, quantities and value under an expected budget that binds."""
    cost = virtual_costs(instance)
    return _bisect(instance, lambda price: (1 + price) * cost, lambda q: cost @ q - budget)


def with_payment_cap(instance: dict[str, Any], cap: float) -> tuple[float, Array, float]:
    """Price, quantities and value under a cap on the highest payment, which is the first type's."""
    rise = instance["unit_cost"] * np.diff(instance["types"], prepend=0.0)
    cost = virtual_costs(instance)
    return _bisect(instance, lambda price: cost + price * rise, lambda q: rise @ q - cap)


def with_minimum_data(instance: dict[str, Any], least: float) -> tuple[float, Array, float]:
    """Price, quantities and value when at least so much data must be bought in expectation."""
    cost, probs = virtual_costs(instance), instance["probs"]
    highest = float(instance["unit_cost"] * instance["types"][0]) * (1 - 1e-12)
    return _bisect(
        instance, lambda price: cost - price * probs, lambda q: least - probs @ q, high=highest, sign=-1.0
    )


def _bisect(
    instance: dict[str, Any], priced: Any, excess: Any, *, high: float | None = None, sign: float = 1.0
) -> tuple[float, Array, float]:
    low, top = 0.0, 1.0
    if high is None:
        while excess(priced_quantities(instance, priced(top))) > 0:
            top *= 2
    else:
        top = high
    for _ in range(100):
        middle = (low + top) / 2
        if excess(priced_quantities(instance, priced(middle))) > 0:
            low = middle
        else:
            top = middle
    quantity = priced_quantities(instance, priced(top))
    return sign * top, quantity, value(instance, quantity)


def smooth_menu(
    instance: dict[str, Any],
    *,
    outside_option: Array | float = 0.0,
    keep: Any = (),
    utility_of: Any = None,
) -> tuple[float, Array, Array]:
    """Value, quantities and payments by SLSQP over all incentive constraints, started at the base optimum.

    ``keep`` are functions (quantity, payment) -> array that must be >= 0; ``utility_of(v)`` values the
    demander's utilities v by type, by default their expectation. For a handful of types.
    """
    types, probs, gain, cost = (instance[k] for k in ("types", "probs", "gain", "unit_cost"))
    n = len(types)
    start = priced_quantities(instance, virtual_costs(instance))
    data = np.maximum(start, 1e-3 * max(start.max(), 1e-9))
    rent = cost * np.append(np.cumsum((np.diff(types) * start[1:])[::-1])[::-1], 0.0)
    money = float(np.max(cost * types * start + rent)) or 1.0
    agent, choice = np.nonzero(~np.eye(n, dtype=bool))

    def menu(x: Array) -> tuple[Array, Array]:
        return data * x[:n], money * x[n:]

    def kept(x: Array) -> Array:
        q, pay = menu(x)
        utility = pay[None, :] - cost * types[:, None] * q[None, :]
        own = np.diag(utility)
        rows = [own[agent] - utility[agent, choice], own - outside_option, *(k(q, pay) for k in keep)]
        return np.concatenate([np.atleast_1d(row) for row in rows]) / money

    def loss(x: Array) -> float:
        q, pay = menu(x)
        v = gain(types * np.maximum(q, 0)) - pay
        return -float(probs @ v if utility_of is None else utility_of(v)) / money

    best = minimize(
        loss,
        np.concatenate([start / data, (cost * types * start + rent) / money + 0.01]),
        method="SLSQP",
        bounds=[(0, None)] * n + [(None, None)] * n,
        constraints={"type": "ineq", "fun": kept},
        options={"maxiter": 2000, "ftol": 1e-14},
    )
    q, pay = menu(best.x)
    return -money * float(best.fun), q, pay
