"""Accuracy shaping: the exact root, mechanisms, menus, compile times, and what one would write otherwise."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import scipy.optimize
from agreement import close, compiled
from numpy.typing import NDArray

import mechopt as mo
from mechopt.formulations.accuracy_shaping.exact import Optimum, data_maximum
from mechopt.formulations.batch import solve_batch

FloatArray = NDArray[np.float64]
SQRT = mo.SqrtAccuracy(1.0, 1.0)
BOUND = mo.GeneralizationBound(0.95, 10)
ACCURACIES: dict[str, Any] = {"sqrt": SQRT, "bound": BOUND}
PASS = "one pass: sum(1 / costs)"


def costs_of(n_agents: int, accuracy: mo.AccuracyFunction = SQRT) -> FloatArray:
    """Costs around the viability cost, three decades wide."""
    return accuracy.viability_cost * 10 ** np.random.default_rng(0).uniform(-1.5, 1.5, n_agents)


# ---------------------------------------------------------------- the exact root


@pytest.mark.parametrize("name", ACCURACIES)
@pytest.mark.sizes(100, 10_000, 1_000_000, 10_000_000)
def test_root_against_one_pass(versus: Callable[..., Any], name: str, size: int) -> None:
    """Tell how far the most data are from the least that any answer costs.

    Ten passes are asked for with accuracy (3) and ten million agents. Half of its time is memory: three
    arrays come back where the pass makes one. Inverting the slope of bound (2) takes several by itself.
    """
    accuracy = ACCURACIES[name]
    costs = costs_of(size, accuracy)

    def agree(own: Optimum, rate: float) -> None:
        close(1e-12)(own.rates.sum(), rate)
        spare = accuracy(own.total_data) - costs * own.contribution - own.utility
        assert np.max(np.abs(spare)) <= 1e-9
        assert abs(own.contribution.sum() / own.total_data - 1) <= 1e-9

    versus(
        lambda: data_maximum(costs, accuracy),
        {PASS: lambda: float(np.sum(1 / costs))},
        agree=agree,
        at_least={PASS: 0.1} if name == "sqrt" and size == 10_000_000 else None,
        size=size,
    )


@pytest.mark.parametrize("name", ACCURACIES)
def test_root_growth(growth: Callable[..., Any], name: str) -> None:
    def make(n_agents: int) -> Callable[[], Optimum]:
        costs = costs_of(n_agents, ACCURACIES[name])
        return lambda: data_maximum(costs, ACCURACIES[name])

    growth(make, [10**k for k in range(2, 7)], at_most=1.1)


def root_by_scipy(costs: FloatArray) -> float:
    """Follow the paper: what agents do alone, then brentq on the pool that they fill."""
    alone = costs ** (-2 / 3)
    outside = np.maximum(1 - 2 / np.sqrt(alone) - costs * alone, 0.0)

    def excess(total: float) -> float:
        return float(np.sum((1 - 2 / np.sqrt(total) - outside) / costs)) - total

    most = float(np.sum(1 / costs))
    return float(scipy.optimize.brentq(excess, most**0.5, most, xtol=1e-12, rtol=1e-14))


@pytest.mark.sizes(100_000, smoke=20)
def test_solve_against_scipy(versus: Callable[..., Any], size: int) -> None:
    """The whole call, with record, checks and prices."""
    costs = costs_of(size)
    versus(
        lambda: mo.AccuracyShaping(SQRT, costs).solve().objective,
        {"numpy and brentq": lambda: root_by_scipy(costs)},
        agree=close(1e-9),
        size=size,
    )


@pytest.mark.sizes(10_000, smoke=20)
def test_solve_batch(versus: Callable[..., Any], size: int) -> None:
    """Many games of ten agents: whole solutions, with checks and records."""
    games = [mo.AccuracyShaping(SQRT, costs) for costs in costs_of(10 * size).reshape(size, 10)]
    versus(
        lambda: [found.objective for found in solve_batch(games)],
        {"solve() of each": lambda: [game.solve().objective for game in games]},
        agree=close(1e-9),
        size=f"{size} x 10",
    )


# ---------------------------------------------------------------- programs


@pytest.mark.sizes(1000, smoke=10)
def test_exact_against_the_program(versus: Callable[..., Any], size: int) -> None:
    shaping = mo.AccuracyShaping(SQRT, costs_of(size))
    versus(
        lambda: shaping.solve().objective,
        {"Clarabel": lambda: shaping.solve("clarabel").objective},
        agree=close(1e-6),
        size=size,
    )


@pytest.mark.sizes(100, smoke=5)
def test_exact_against_tangents(versus: Callable[..., Any], size: int) -> None:
    """Bound (2) has no CVXPY form: tangents, cut by cut."""
    shaping = mo.AccuracyShaping(BOUND, costs_of(size, BOUND))
    versus(
        lambda: shaping.solve().objective,
        {"outer": lambda: shaping.solve("outer").objective},
        agree=close(1e-5),
        size=size,
    )


def one_cone_an_agent(shaping: mo.AccuracyShaping) -> float:
    """Write the naive program: every agent's accuracy below its own copy of the curve."""
    n, costs = shaping.n_agents, shaping.marginal_costs
    data, allocated = cp.Variable(n, nonneg=True), cp.Variable(n)
    below = 1 - 2 * cp.power(cp.sum(data) * np.ones(n), -0.5)
    outside = shaping.standalone().utility
    problem = cp.Problem(
        cp.Maximize(cp.sum(data)),
        [allocated <= below, allocated - cp.multiply(costs, data) >= outside],
    )
    return float(problem.solve(solver="CLARABEL"))


@pytest.mark.sizes(300, smoke=10)
def test_one_variable_below_the_curve(versus: Callable[..., Any], size: int) -> None:
    """Declared, compiled and solved by Clarabel."""
    shaping = mo.AccuracyShaping(SQRT, costs_of(size))
    versus(
        lambda: shaping.program().solve("clarabel").objective,
        {"one cone an agent": lambda: one_cone_an_agent(shaping)},
        agree=close(1e-4),
        at_least={"one cone an agent": 10},
        size=size,
    )


@pytest.mark.sizes(100, 1000, 10_000, smoke=20)
def test_compiling_against_solving(versus: Callable[..., Any], size: int) -> None:
    """The program of ten thousand agents is ready before Clarabel would be done."""
    shaping = mo.AccuracyShaping(SQRT, costs_of(size))
    program = shaping.program()
    data, chain, inverse = compiled(program.problem)

    def agree(own: Any, raw: Any) -> None:
        assert own[0]["A"].shape == data["A"].shape
        assert (own[0]["A"] != data["A"]).nnz == 0
        value = program.physical(abs(chain.invert(raw, inverse).opt_val))
        close(1e-5)(shaping.solve().objective, value)

    versus(
        lambda: compiled(shaping.program().problem),
        {"Clarabel on it": lambda: chain.solve_via_data(program.problem, data, solver_opts={})},
        agree=agree,
        at_least={"Clarabel on it": 1} if size == 10_000 else None,
        size=size,
    )


# ---------------------------------------------------------------- equilibria of the mechanism


def one_after_the_other(mechanism: Any) -> FloatArray:
    """Let agents respond in turn, each by brentq on where its line meets the accuracy of the pool."""
    shaping = mechanism.shaping
    costs, slope = shaping.marginal_costs, shaping.marginal_costs + mechanism.incentive_margin
    alone = np.where(costs < 1 / 27, costs ** (-2 / 3), 0.0)
    start = np.where(alone > 0, 1 - 2 * costs ** (1 / 3), 0.0)
    limit: FloatArray = alone + (1 - start) / slope
    profile = limit.copy()
    for _ in range(1000):
        before = profile.copy()
        for i in range(costs.size):
            others = float(profile.sum() - profile[i])

            def above(m: float, i: int = i, others: float = others) -> float:
                return float(start[i] + slope[i] * (m - alone[i]) - 1 + 2 / np.sqrt(m + others))

            profile[i] = scipy.optimize.brentq(above, alone[i], limit[i], xtol=1e-13, rtol=1e-14)
        if np.max(np.abs(profile - before) / limit) <= 1e-12:
            break
    return profile


@pytest.mark.sizes(300, smoke=10)
def test_equilibrium(versus: Callable[..., Any], size: int) -> None:
    """All agents at once by Newton's method, with the certificate of regret."""
    mechanism = mo.AccuracyShaping(SQRT, costs_of(size)).mechanism(1e-3)
    versus(
        lambda: mechanism.find_equilibrium().contribution,
        {"one after the other, brentq": lambda: one_after_the_other(mechanism)},
        agree=close(1e-7),
        size=size,
    )


# ---------------------------------------------------------------- private costs


def screening_of(n_types: int) -> mo.CostScreening:
    """Random probabilities, so that some types share a contract."""
    probs = np.random.default_rng(3).dirichlet(np.ones(n_types)) + 0.1 / n_types
    return mo.CostScreening(SQRT, np.linspace(0.005, 0.06, n_types), probs / probs.sum(), others_data=100)


def menu_by_loops(screening: mo.CostScreening) -> float:
    """Write (16) as a first script does: scalars, and one constraint at a time."""
    costs, outside = screening.costs, screening.standalone_utility
    n = costs.size
    data = [cp.Variable(nonneg=True) for _ in range(n)]
    given = [cp.Variable() for _ in range(n)]
    constraints = []
    for k in range(n):
        constraints.append(given[k] <= 1 - 2 * cp.power(data[k] + screening.others_data, -0.5))
        constraints.append(given[k] - costs[k] * data[k] >= outside[k])
        for j in range(n):
            if j != k:
                constraints.append(given[k] - costs[k] * data[k] >= given[j] - costs[k] * data[j])
    objective = sum(screening.probs[k] * data[k] for k in range(n))
    return float(cp.Problem(cp.Maximize(objective), constraints).solve(solver="CLARABEL"))


@pytest.mark.sizes(50, smoke=4)
def test_cost_screening(versus: Callable[..., Any], size: int) -> None:
    """Recursion over types beside the declared program, and beside loops."""
    screening = screening_of(size)
    versus(
        lambda: screening.solve().objective,
        {
            "declared program, Clarabel": lambda: screening.solve("clarabel").objective,
            "loops in CVXPY, Clarabel": lambda: menu_by_loops(screening),
        },
        agree=close(1e-4),
        size=size,
    )


def mean_field_by_root(screening: mo.CostScreening, n_agents: int) -> float:
    """Look for the others' data that the menu for them brings forth, one whole menu a step."""

    def excess(others: float) -> float:
        menu = mo.CostScreening(SQRT, screening.costs, screening.probs, others_data=others).solve()
        return (n_agents - 1) * menu.objective - others

    most = (n_agents - 1) / screening.costs[0]
    others = float(scipy.optimize.brentq(excess, 10.0, most, rtol=1e-11))
    return others / (n_agents - 1)


@pytest.mark.sizes(20, smoke=3)
def test_mean_field(versus: Callable[..., Any], size: int) -> None:
    screening = screening_of(size)
    versus(
        lambda: screening.mean_field(n_agents=8).objective,
        {"brentq on solve()": lambda: mean_field_by_root(screening, 8)},
        agree=close(1e-6),
        size=size,
    )


def profiles_of(n_types: int) -> mo.CostProfiles:
    """Two agents with correlated costs."""
    rank = np.arange(n_types)
    probs = np.exp(-np.abs(rank[:, None] - rank) / n_types)
    return mo.CostProfiles(SQRT, costs=np.linspace(0.01, 0.03, n_types), probs=probs / probs.sum())


def profiles_by_loops(design: mo.CostProfiles) -> float:
    """Write interim incentives and participation by profile one constraint at a time."""
    n, costs, outside = design.n_types, design.costs, design.standalone_utility
    data = {(i, k, j): cp.Variable(nonneg=True) for i, k, j in product(range(2), range(n), range(n))}
    given = {key: cp.Variable() for key in data}
    constraints = []
    for k, j in product(range(n), range(n)):
        pool = data[0, k, j] + data[1, k, j]
        for i, own in ((0, k), (1, j)):
            constraints.append(given[i, k, j] <= 1 - 2 * cp.power(pool, -0.5))
            constraints.append(given[i, k, j] - costs[own] * data[i, k, j] >= outside[own])
    for i, own, lie in product(range(2), range(n), range(n)):
        truth, told = 0, 0
        for other in range(n):
            at = (i, own, other) if i == 0 else (i, other, own)
            instead = (i, lie, other) if i == 0 else (i, other, lie)
            weight = design.probs[at[1:]]
            truth += weight * (given[at] - costs[own] * data[at])
            told += weight * (given[instead] - costs[own] * data[instead])
        if lie != own:
            constraints.append(truth >= told)
    objective = sum(
        design.probs[k, j] * (data[0, k, j] + data[1, k, j]) for k, j in product(range(n), range(n))
    )
    return float(cp.Problem(cp.Maximize(objective), constraints).solve(solver="CLARABEL"))


@pytest.mark.sizes(8, smoke=2)
def test_cost_profiles(versus: Callable[..., Any], size: int) -> None:
    """Both on Clarabel."""
    design = profiles_of(size)
    versus(
        lambda: design.solve("clarabel").objective,
        {"loops in CVXPY": lambda: profiles_by_loops(design)},
        agree=close(1e-4),
        at_least={"loops in CVXPY": 2},
        size=f"{size} x {size}",
    )
