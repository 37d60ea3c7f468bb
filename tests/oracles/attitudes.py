"""Attitudes to ambiguity and risk: balls and worst cases by definition, and menus under risk by SLSQP."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog, minimize
from scipy.special import rel_entr
from scipy.stats import wasserstein_distance

Array = NDArray[np.float64]


def earth_moved(q: Array, p: Array, types: Array) -> float:
    """Distance by which probability must move to turn p into q, as a share of the range of types."""
    return float(wasserstein_distance(types, types, q, p) / (types[-1] - types[0])) if len(types) > 1 else 0.0


def entropy(q: Array, p: Array) -> float:
    """Relative entropy of q to p."""
    return float(rel_entr(q, p).sum())


def chi_squared(q: Array, p: Array) -> float:
    """Chi-squared divergence of q from p."""
    return float(((q - p) ** 2 / p).sum())


def transport(v: Array, p: Array, types: Array, radius: float) -> float:
    """Worst expectation in a Wasserstein ball: a linear program over all transport plans."""
    n = len(p)
    distance = np.array([[abs(a - b) for b in types] for a in types]) / max(types[-1] - types[0], 1e-300)
    plan = linprog(
        np.tile(v, n),
        A_ub=distance.reshape(1, -1),
        b_ub=[radius],
        A_eq=np.kron(np.eye(n), np.ones(n)),
        b_eq=p,
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    return float(plan.fun)


def tail(v: Array, p: Array, level: float) -> float:
    """Worst expectation over probabilities of at most p / (1 - level): a linear program."""
    bounds = [(0.0, pk / (1 - level)) for pk in p]
    return float(linprog(v, A_eq=np.ones((1, len(p))), b_eq=[1.0], bounds=bounds).fun)


def entropy_bound(v: Array, p: Array, radius: float, price: float) -> float:
    """Dual function of the entropy ball: at any price > 0 no more than the worst expectation."""
    low = v.min()
    return float(low - price * np.log(p @ np.exp(-(v - low) / price)) - price * radius)


def chi_squared_bound(v: Array, p: Array, radius: float, price: float, shift: float) -> float:
    """Dual function of the chi-squared ball, as in the textbooks: no more than the worst expectation."""
    kept = np.maximum(2 * price - v - shift, 0.0)
    return float(price - shift - price * radius - p @ kept**2 / (4 * price))


def menu_under_risk(
    instance: dict[str, Any], *, aversion: float | None = None, level: float | None = None
) -> float:
    """Best certainty equivalent (or expectation of the tail) of any screening menu, by SLSQP.

    Over the falls between neighbouring quantities, so that every point is a menu; the tail is written with
    its epigraph, as SLSQP wants derivatives.
    """
    types, probs, gain, cost = (instance[k] for k in ("types", "probs", "gain", "unit_cost"))
    n = len(types)
    best = gain.inverse_derivative(cost) / types
    money = float(abs(gain(best[0] * types[0]))) or 1.0

    def utility(x: Array) -> Array:
        quantity = np.array([sum(x[k] * best[-1] for k in range(j, n)) for j in range(n)])
        payment = [
            cost * types[k] * quantity[k]
            + cost * sum((types[j] - types[j - 1]) * quantity[j] for j in range(k + 1, n))
            for k in range(n)
        ]
        return np.asarray((gain(types * quantity) - payment) / money)

    def loss(x: Array) -> float:
        if aversion is not None:
            return float(np.log(probs @ np.exp(-aversion * money * utility(x))) / (aversion * money))
        return float(probs @ x[n + 1 :] / (1 - level) - x[n])

    falls = best / best[-1]
    start = 0.7 * (falls - np.append(falls[1:], 0.0))
    bounds = [(0.0, None)] * n
    rows: list[dict[str, Any]] = []
    if level is not None:
        start = np.concatenate([start, [utility(start).mean()], np.ones(n)])
        bounds += [(None, None)] + [(0.0, None)] * n
        rows = [{"type": "ineq", "fun": lambda x: x[n + 1 :] - x[n] + utility(x[:n])}]
    for _ in range(5):  # restarts, as its guess of the curvature goes stale
        answer = minimize(
            loss,
            start,
            method="SLSQP",
            bounds=bounds,
            constraints=rows,
            options={"ftol": 1e-15, "maxiter": 500},
        )
        start = answer.x
    return -money * float(answer.fun)
