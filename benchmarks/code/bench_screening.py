"""Screening contracts: the exact algorithm, compile times, and what one would write otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from agreement import close, compiled
from numpy.typing import NDArray

import mechopt as mo
from mechopt.formulations.batch import solve_batch
from mechopt.formulations.screening.exact import ExactMenu, solve_exact, virtual_costs

FloatArray = NDArray[np.float64]
LO, HI, COST = 0.01, 0.21, 1.0
GAIN = mo.LogGain(weight=100, scale=2)


# ---------------------------------------------------------------- instances


def types_of(n_types: int) -> FloatArray:
    """Right ends of equal cells."""
    return LO + (HI - LO) * np.arange(1, n_types + 1) / n_types


def uniform(types: FloatArray) -> FloatArray:
    """No type needs ironing."""
    return np.full(types.size, 1 / types.size)


def two_humps(types: FloatArray) -> FloatArray:
    """One large pool."""
    x = (types - LO) / (HI - LO)
    density = np.exp(-(((x - 0.2) / 0.08) ** 2) / 2) + np.exp(-(((x - 0.75) / 0.08) ** 2) / 2) + 1e-3
    return np.asarray(density / density.sum())


def dirichlet(types: FloatArray) -> FloatArray:
    """Many pools."""
    weights = np.random.default_rng(0).dirichlet(np.full(types.size, 0.7)) + 1e-3 / types.size
    return np.asarray(weights / weights.sum())


WEIGHTS = {"regular": uniform, "two humps": two_humps, "dirichlet": dirichlet}


def contract_of(n_types: int, weights: Callable[[FloatArray], FloatArray] = uniform) -> mo.ScreeningContract:
    types = types_of(n_types)
    return mo.ScreeningContract(types=types, probs=weights(types), gain=GAIN, unit_cost=COST)


def is_optimal(types: FloatArray, probs: FloatArray, menu: ExactMenu) -> bool:
    """Whether no run of equal quantities could be split, raised or lowered with profit."""
    cost = virtual_costs(types, probs, COST)
    net = probs * types * GAIN.derivative(types * menu.quantity) - cost
    start = np.append(0, np.flatnonzero(np.diff(menu.quantity)) + 1)
    length = np.diff(np.append(start, types.size))
    running = np.cumsum(net)
    running -= np.repeat(running[start] - net[start], length)
    total = np.add.reduceat(net, start)
    tolerance = 1e-10 * np.add.reduceat(cost, start)
    monotone = bool(np.all(np.diff(menu.quantity) <= 0) and menu.quantity[-1] >= 0)
    no_more = np.maximum.reduceat(running, start) <= tolerance
    no_less = (total >= -tolerance) | (menu.quantity[start] == 0)
    return monotone and bool(np.all(no_more & no_less))


# ---------------------------------------------------------------- the exact algorithm


def formula(types: FloatArray, probs: FloatArray) -> FloatArray:
    """Evaluate eq. (42) the plain way: the least that any answer costs."""
    virtual = types.copy()
    virtual[1:] += np.cumsum(probs)[:-1] / probs[1:] * np.diff(types)
    return GAIN.weight / (COST * virtual) - 1 / (GAIN.scale * types)


@pytest.mark.sizes(100, 10_000, 1_000_000)
def test_exact_against_one_formula(versus: Callable[..., Any], size: int) -> None:
    """Checks, payments and value besides, in at most 5 evaluations where arrays are long."""
    types = types_of(size)
    probs = uniform(types)
    versus(
        lambda: solve_exact(types, probs, GAIN, COST).quantity,
        {"eq. (42) alone, numpy": lambda: formula(types, probs)},
        agree=close(1e-12),
        at_least={"eq. (42) alone, numpy": 0.2} if size == 1_000_000 else None,
        size=size,
    )


@pytest.mark.parametrize("weights", WEIGHTS)
def test_exact_growth(growth: Callable[..., dict[int, ExactMenu]], weights: str) -> None:
    """Linear from where numpy's overhead ends, with and without ironing."""

    def make(n_types: int) -> Callable[[], ExactMenu]:
        types = types_of(n_types)
        probs = WEIGHTS[weights](types)
        return lambda: solve_exact(types, probs, GAIN, COST)

    found = growth(make, [10**k for k in range(2, 7)], at_most=1.1)
    for n_types, menu in found.items():
        types = types_of(n_types)
        assert is_optimal(types, WEIGHTS[weights](types), menu)


def adjacent_violators(types: FloatArray, probs: FloatArray) -> FloatArray:
    """Iron by the textbook's stack of pools, each with a root of its own."""
    mass, cost = types * probs, virtual_costs(types, probs, COST)

    def optimum(start: int, stop: int) -> float:
        def net(q: float) -> float:
            gain = mass[start:stop] * GAIN.derivative(types[start:stop] * q)
            return float(np.sum(gain) - np.sum(cost[start:stop]))

        return scipy.optimize.brentq(net, 0.0, 1e6, xtol=1e-12) if net(0.0) > 0 else 0.0

    pools: list[tuple[int, int, float]] = []
    for k in range(types.size):
        start, stop, level = k, k + 1, optimum(k, k + 1)
        while pools and pools[-1][2] < level:
            start = pools.pop()[0]
            level = optimum(start, stop)
        pools.append((start, stop, level))
    return np.concatenate([np.full(stop - start, level) for start, stop, level in pools])


@pytest.mark.sizes(5000, smoke=50)
def test_ironing_against_a_stack_of_pools(versus: Callable[..., Any], size: int) -> None:
    types = types_of(size)
    probs = two_humps(types)
    versus(
        lambda: solve_exact(types, probs, GAIN, COST).quantity,
        {"adjacent violators, brentq": lambda: adjacent_violators(types, probs)},
        agree=close(1e-9),
        size=size,
    )


def batch_of(n_contracts: int) -> tuple[FloatArray, FloatArray]:
    """Types and probabilities of irregular contracts with 20 types each."""
    rng = np.random.default_rng(0)
    types = np.sort(rng.uniform(0.05, 1, (n_contracts, 20)), axis=1) + 1e-3 * np.arange(1, 21)
    probs = rng.dirichlet(np.full(20, 0.7), n_contracts) + 1e-3
    return types, probs / probs.sum(axis=1, keepdims=True)


@pytest.mark.sizes(5000, smoke=50)
def test_batch_against_one_by_one(versus: Callable[..., Any], size: int) -> None:
    types, probs = batch_of(size)

    def one_by_one() -> FloatArray:
        return np.array([solve_exact(t, p, GAIN, COST).quantity for t, p in zip(types, probs, strict=True)])

    versus(
        lambda: solve_exact(types, probs, GAIN, COST).quantity,
        {"one by one": one_by_one},
        agree=np.testing.assert_array_equal,
        at_least={"one by one": 5},
        size=f"{size} x 20",
    )


def test_batch_growth(growth: Callable[..., dict[int, ExactMenu]]) -> None:
    """A hundred thousand small contracts take seconds."""

    def make(n_contracts: int) -> Callable[[], ExactMenu]:
        types, probs = batch_of(n_contracts)
        return lambda: solve_exact(types, probs, GAIN, COST)

    growth(make, [100, 1000, 10_000, 100_000], at_most=1.1)


@pytest.mark.sizes(10_000, smoke=20)
def test_solve_batch(versus: Callable[..., Any], size: int) -> None:
    """Whole solutions, with checks and records."""
    contracts = [
        mo.ScreeningContract(types=t, probs=p, gain=GAIN) for t, p in zip(*batch_of(size), strict=True)
    ]
    versus(
        lambda: [found.objective for found in solve_batch(contracts)],
        {"solve() of each": lambda: [contract.solve().objective for contract in contracts]},
        agree=close(1e-12),
        size=f"{size} x 20",
    )


def test_continuum_against_a_fine_grid(versus: Callable[..., Any], full: bool) -> None:
    """The limit, to the accuracy of a million types."""
    n_types = 1_000_000 if full else 1000
    market = mo.ContinuousContract(scipy.stats.beta(2, 2), 0.2, 0.8, gain=GAIN, unit_cost=COST)
    versus(
        lambda: market.solve().objective,
        {"a grid of types": lambda: market.discretize(n_types).solve().objective},
        agree=close(3 / n_types),
        size=n_types,
    )


# ---------------------------------------------------------------- programs


def loops(contract: mo.ScreeningContract) -> cp.Problem:
    """Write the full form as a first script does: scalars, and one constraint at a time."""
    n, eps = contract.n_types, contract.types
    quantity = [cp.Variable(nonneg=True) for _ in range(n)]
    payment = [cp.Variable() for _ in range(n)]
    constraints = []
    for k in range(n):
        constraints.append(payment[k] - COST * eps[k] * quantity[k] >= 0)
        for j in range(n):
            if j != k:
                constraints.append(
                    payment[k] - COST * eps[k] * quantity[k] >= payment[j] - COST * eps[k] * quantity[j]
                )
    utility = 0
    for k in range(n):
        gain = GAIN.weight * cp.log(1 + GAIN.scale * eps[k] * quantity[k])
        utility += contract.probs[k] * (gain - payment[k])
    return cp.Problem(cp.Maximize(utility), constraints)


def vectorised(contract: mo.ScreeningContract) -> cp.Problem:
    """Write the full form as an experienced user of CVXPY does, in variables of order one."""
    n, types = contract.n_types, contract.types
    data, money = contract.scales()
    quantity = cp.multiply(data / types, cp.Variable(n, nonneg=True))
    payment = money * cp.Variable(n)
    rent = payment - cp.multiply(COST * types, quantity)
    ones = np.ones((1, n))
    swapped = ones.T @ cp.reshape(payment, (1, n), order="F") - (
        (COST * types[:, None]) @ cp.reshape(quantity, (1, n), order="F")
    )
    gain = GAIN.weight * cp.log1p(GAIN.scale * cp.multiply(types, quantity))
    objective = contract.probs @ (gain - payment) / money
    others = np.nonzero(~np.eye(n, dtype=bool))
    temptation = cp.reshape(rent, (n, 1), order="F") @ ones - swapped
    return cp.Problem(cp.Maximize(objective), [temptation[others] >= 0, rent >= 0])


def value_of_loops(contract: mo.ScreeningContract) -> float:
    return float(loops(contract).solve(solver="CLARABEL"))


def value_of_vectorised(contract: mo.ScreeningContract) -> float:
    accuracy = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
    return float(vectorised(contract).solve(solver="CLARABEL", **accuracy)) * contract.scales()[1]


@pytest.mark.sizes(200, smoke=5)
def test_exact_against_programs(versus: Callable[..., Any], size: int) -> None:
    contract = contract_of(size)
    asked = {"loops in CVXPY, Clarabel": 1000}
    versus(
        lambda: contract.solve().objective,
        {
            "loops in CVXPY, Clarabel": lambda: value_of_loops(contract),
            "vectorised CVXPY, Clarabel": lambda: value_of_vectorised(contract),
            "reduced form, Clarabel": lambda: contract.program().solve("clarabel").objective,
        },
        agree=close(1e-5),  # the loops are not scaled
        at_least=asked,
        size=size,
    )


@pytest.mark.sizes(200, smoke=5)
def test_reduced_form(versus: Callable[..., Any], size: int) -> None:
    contract = contract_of(size)
    versus(
        lambda: contract.program().solve("clarabel").objective,
        {"vectorised CVXPY, all pairs": lambda: value_of_vectorised(contract)},
        agree=close(1e-6),
        at_least={"vectorised CVXPY, all pairs": 10},
        size=size,
    )


@pytest.mark.sizes(50, smoke=5)
def test_full_form_against_loops(versus: Callable[..., Any], size: int) -> None:
    contract = contract_of(size)
    versus(
        lambda: contract.program("full").solve("clarabel").objective,
        {"loops in CVXPY": lambda: value_of_loops(contract)},
        agree=close(1e-5),
        at_least={"loops in CVXPY": 50},
        size=size,
    )


@pytest.mark.sizes(100, smoke=5)
def test_full_form_against_the_same_unchecked(versus: Callable[..., Any], size: int) -> None:
    """Names, prices and checks may cost a fifth."""
    contract = contract_of(size)
    versus(
        lambda: contract.program("full").solve("clarabel").objective,
        {"vectorised CVXPY": lambda: value_of_vectorised(contract)},
        agree=close(1e-6),
        at_least={"vectorised CVXPY": 1 / 1.2},
        size=size,
    )


@pytest.mark.parametrize("form", ["reduced", "local-monotone", "local"])
@pytest.mark.sizes(100, 1000, smoke=5)
def test_declare_and_compile(versus: Callable[..., Any], size: int, form: Any) -> None:
    contract = contract_of(size)
    versus(lambda: compiled(contract.program(form).problem), size=size)


@pytest.mark.sizes(50, smoke=5)
def test_declare_and_compile_the_full_form(versus: Callable[..., Any], size: int) -> None:
    contract = contract_of(size)

    def agree(own: Any, other: Any) -> None:
        assert own[0]["A"].shape[0] == other[0]["A"].shape[0]

    versus(
        lambda: compiled(contract.program("full").problem),
        {
            "vectorised CVXPY": lambda: compiled(vectorised(contract)),
            "loops in CVXPY": lambda: compiled(loops(contract)),
        },
        agree=agree,
        size=size,
    )


@pytest.mark.sizes(100, 1000, 10_000, smoke=20)
def test_compiling_against_solving(versus: Callable[..., Any], size: int) -> None:
    """The reduced form of ten thousand types is ready before Clarabel would be done."""
    contract = contract_of(size)
    problem = contract.program().problem
    data, chain, inverse = compiled(problem)

    def solve() -> Any:
        return chain.solve_via_data(problem, data, solver_opts={})

    def agree(own: Any, raw: Any) -> None:
        assert (own[0]["A"] != data["A"]).nnz == 0
        value = chain.invert(raw, inverse).opt_val
        close(1e-6)(contract.solve().objective, contract.program().physical(abs(value)))

    versus(
        lambda: compiled(contract.program().problem),
        {"Clarabel on what was compiled": solve},
        agree=agree,
        at_least={"Clarabel on what was compiled": 1} if size == 10_000 else None,
        size=size,
    )


@pytest.mark.sizes(15, smoke=5)
def test_menu_size(versus: Callable[..., Any], size: int) -> None:
    """At most 3 contracts: divide and conquer beside the mixed-integer program."""
    contract = contract_of(size)
    program = contract.program(max_menu_size=3)
    versus(
        lambda: program.solve().objective,
        {"mixed-integer program, outer": lambda: program.solve("outer").objective},
        agree=close(1e-5),
        size=size,
    )


@pytest.mark.sizes(1000, smoke=20)
def test_budget(versus: Callable[..., Any], size: int) -> None:
    """A bound on expected payments: a price on costs beside the conic program."""
    program = contract_of(size).program()
    program.add("budget", program["expected_payment"] <= 50)
    versus(
        lambda: program.solve("exact").objective,
        {"Clarabel": lambda: program.solve("clarabel").objective},
        agree=close(1e-6),
        size=size,
    )


# ---------------------------------------------------------------- audit and repair


def worst_misreport(contract: mo.ScreeningContract, menu: Any) -> float:
    """Try every type with every contract, and with none."""
    quantity, payment = menu["quantity"], menu["payment"]
    worst = 0.0
    for k, eps in enumerate(contract.types):
        own = payment[k] - COST * eps * quantity[k]
        worst = max(worst, -own)
        for j in range(contract.n_types):
            worst = max(worst, payment[j] - COST * eps * quantity[j] - own)
    return worst


def worst_by_rows(contract: mo.ScreeningContract, menu: Any) -> float:
    """Try a row of contracts at a time: all pairs would not fit in memory."""
    quantity, payment = menu["quantity"], menu["payment"]
    worst = 0.0
    for k, eps in enumerate(contract.types):
        offers = payment - COST * eps * quantity
        worst = max(worst, -offers[k], np.max(offers) - offers[k])
    return float(worst)


def noisy(contract: mo.ScreeningContract) -> dict[str, FloatArray]:
    menu = contract.closed_form()
    noise = 1 + 1e-3 * np.random.default_rng(1).standard_normal(contract.n_types)
    return {"quantity": menu.quantity * noise, "payment": menu.payment}


@pytest.mark.sizes(20, 1000, 20_000)
def test_audit(versus: Callable[..., Any], size: int) -> None:
    contract = contract_of(size)
    menu = noisy(contract)
    others: dict[str, Callable[[], float]] = {"numpy, by rows": lambda: worst_by_rows(contract, menu)}
    if size <= 1000:
        others["loops"] = lambda: worst_misreport(contract, menu)

    def own() -> float:
        audit = contract.audit(menu)
        return max(audit.ic_violation, audit.ir_violation)

    versus(own, others, agree=close(1e-9), size=size)


@pytest.mark.sizes(100_000, smoke=20)
def test_repair(versus: Callable[..., Any], size: int) -> None:
    """What payments, checks and the record cost on top of the projection."""
    contract = contract_of(size)
    menu = noisy(contract)

    def projected() -> FloatArray:
        wanted = scipy.optimize.isotonic_regression(
            menu["quantity"], weights=contract.probs, increasing=False
        )
        return np.asarray(np.maximum(wanted.x, 0.0))

    versus(
        lambda: contract.repair(menu)["quantity"],
        {"scipy, the projection alone": projected},
        agree=close(1e-9),
        size=size,
    )
