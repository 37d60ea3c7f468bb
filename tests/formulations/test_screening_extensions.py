"""Extensions of the screening contract: each against an oracle, its limits, its prices and the audit."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from tests.oracles.extensions import priced_quantities, smooth_menu, value, virtual_costs
from tests.oracles.screening import random_contract

TIGHT = {"tolerance": 1e-8}
"""What is compared with an oracle is solved more closely than by default."""


def instances(n: int, *, seed: int = 0, n_types: int = 4) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [random_contract(rng, "log", n_types) for _ in range(n)]


def make(instance: dict[str, Any]) -> mo.ScreeningContract:
    return mo.ScreeningContract(**instance)


def size(c: mo.ScreeningContract, solution: mo.Solution) -> float:
    return max(
        abs(float(solution["expected_gain"])) + abs(float(solution["expected_payment"])), c.scales()[1]
    )


# ---------------------------------------------------------------------------------------- outside options


def outside(c: mo.ScreeningContract, rng: np.random.Generator, *, steep: bool = False) -> np.ndarray:
    rents = c.solve()["rent"]
    money = c.scales()[1]
    if steep:  # more for the efficient types than their rents: they must be kept by higher payments
        return rents + money * np.linspace(0.5, 0.0, c.n_types)
    return money * rng.uniform(0, 0.2, c.n_types)


@pytest.mark.parametrize("steep", [False, True])
def test_outside_options_against_slsqp(steep: bool) -> None:
    rng = np.random.default_rng(5)
    for instance in instances(8, seed=1):
        c = make(instance)
        option = outside(c, rng, steep=steep)
        program = c.program("local", outside_option=option)
        solution = program.solve("clarabel", **TIGHT)
        repaired = c.repair(solution, program=program)
        assert repaired.status is mo.Status.OPTIMAL, repaired.reason
        assert c.audit(repaired, outside_option=option).ok(1e-12)
        expected, _, _ = smooth_menu(instance, outside_option=option)
        assert repaired.objective == pytest.approx(expected, abs=2e-6 * size(c, repaired))
        full = c.program("full", outside_option=option).solve("clarabel", **TIGHT)
        assert full.objective == pytest.approx(repaired.objective, abs=1e-6 * size(c, repaired))


def test_high_outside_options_of_efficient_types_distort_upwards() -> None:
    """Countervailing incentives: an inefficient type would pose as an efficient one."""
    c = mo.ScreeningContract(types=[0.5, 1.0], gain=mo.LogGain(weight=20, scale=1))
    option = np.array([25.0, 0.0])
    program = c.program("local", outside_option=option)
    solution = program.solve("clarabel", **TIGHT)
    assert float(np.asarray(solution.dual("ic_down"))[0]) > 1e-3
    assert solution["quantity"][0] > c.first_best_quantity[0] * 1.01
    assert c.program("local").solve("clarabel")["quantity"][0] == pytest.approx(
        c.first_best_quantity[0], rel=1e-3
    )
    assert c.audit(solution).ok(1e-6)
    assert not c.audit(solution, outside_option=option + 1.0).ok(1e-3)


def test_slack_and_equal_outside_options() -> None:
    for instance in instances(6, seed=2):
        c = make(instance)
        base = c.solve()
        money = size(c, base)
        program = c.program("local", outside_option=-money)
        low = program.solve("clarabel", **TIGHT)
        # A lower outside option for all is one more unit for the demander from each holder.
        assert low.objective == pytest.approx(base.objective + money, abs=1e-6 * money)
        repaired = c.repair(low, program=program)
        assert repaired.status is mo.Status.OPTIMAL, repaired.reason
        assert c.audit(repaired, outside_option=-money).ok(1e-12)
        slack = c.program("local", outside_option=np.append(-money * np.ones(c.n_types - 1), 0.0))
        assert slack.solve("clarabel", **TIGHT).objective == pytest.approx(base.objective, abs=1e-7 * money)
        zeros = c.program("local", outside_option=0)
        assert zeros.solve().backend == "exact"


def test_price_of_an_outside_option_is_a_finite_difference() -> None:
    c = make(instances(1, seed=3)[0])
    option = outside(c, np.random.default_rng(0), steep=True)
    solution = c.program("local", outside_option=option).solve("clarabel", tolerance=1e-9)
    step = 1e-4 * c.scales()[1]
    for k in range(c.n_types):
        shift = step * np.eye(c.n_types)[k]
        up, down = (
            c.program("local", outside_option=option + s * shift).solve("clarabel", tolerance=1e-9).objective
            for s in (1, -1)
        )
        assert solution.dual("ir")[k] == pytest.approx((up - down) / (2 * step), abs=2e-3)


def test_outside_options_need_a_form_with_free_payments() -> None:
    c = make(instances(1)[0])
    for form in ("reduced", "local-monotone"):
        with pytest.raises(mo.InvalidInput, match="use form='local'"):
            c.program(form, outside_option=[1.0] * 4)
    with pytest.raises(mo.InvalidInput, match="outside_option has 3 entries for 4 types"):
        c.program("local", outside_option=[1.0] * 3)
    with pytest.raises(mo.InvalidInput, match=r"outside_option\[1\] is nan"):
        c.program("local", outside_option=[1.0, np.nan, 0, 0])
    with pytest.raises(mo.MissingCapability, match="'ir'"):
        c.program("local", outside_option=[1.0, 0, 0, 0]).solve("exact")


# ---------------------------------------------------------------------------------------- fairness


def test_fairness_ratio_against_slsqp() -> None:
    for instance in instances(8, seed=4):
        c = make(instance)
        base = c.solve()
        ratio = 1 + 0.5 * (base["payment"][0] / base["payment"][-1] - 1) if base["payment"][-1] > 0 else 2.0
        program = c.program("local", fairness_ratio=ratio)
        solution = program.solve("clarabel", **TIGHT)
        repaired = c.repair(solution, program=program)
        assert repaired.status is mo.Status.OPTIMAL, repaired.reason
        assert c.audit(repaired).ok(1e-12)
        expected, _, _ = smooth_menu(instance, keep=[lambda q, pay, r=ratio: r * pay[-1] - pay[0]])
        assert repaired.objective == pytest.approx(expected, abs=2e-6 * size(c, repaired))


def test_fairness_limits_and_monotony() -> None:
    c = mo.ScreeningContract(types=[0.05, 0.09, 0.13, 0.21])
    base = c.solve()
    money = size(c, base)
    unequal = float(base["payment"][0] / base["payment"][-1])
    values = [
        c.program("local", fairness_ratio=ratio).solve("clarabel", **TIGHT).objective
        for ratio in (1.0, 1.2, 1.5, unequal, 10 * unequal)
    ]
    assert np.all(np.diff(values) >= -1e-7 * money)
    assert values[-2:] == pytest.approx([base.objective] * 2, abs=1e-7 * money)
    # Equal payments: with incentives, everybody delivers the same.
    equal = c.program("local", fairness_ratio=1).solve("clarabel", **TIGHT)
    np.testing.assert_allclose(equal["quantity"], equal["quantity"].mean(), rtol=1e-4)


def test_fairness_refuses() -> None:
    c = make(instances(1)[0])
    with pytest.raises(mo.InvalidInput, match=r"fairness_ratio = 0.5 must be >= 1"):
        c.program("local", fairness_ratio=0.5)
    with pytest.raises(mo.InvalidInput, match="use form='local'"):
        c.program("reduced", fairness_ratio=2)
    with pytest.raises(mo.MissingCapability, match="'fairness'"):
        c.program("local", fairness_ratio=2).solve("exact")


def test_a_ratio_of_prices_per_unit_is_not_convex() -> None:
    c = make(instances(1)[0])
    program = c.program("local")
    per_unit = program["payment"] / program["quantity"]
    program.add("price_ratio", per_unit[0] >= 0.5 * per_unit[-1])
    with pytest.raises(mo.MissingCapability) as caught:
        program.solve("clarabel")
    assert "NLP" in caught.value.missing


# ---------------------------------------------------------------------------------------- limited liability


def test_limited_liability_against_slsqp() -> None:
    """No holder may lose more than a limit when its cost turns out higher by a share ``overrun``."""
    for instance in instances(8, seed=7):
        c = make(instance)
        overrun, limit = 0.6, 0.02 * c.scales()[1]
        costs = c.unit_cost * c.types
        program = c.program("local")
        program.add(
            "liability", program["rent"] - overrun * cp.multiply(costs, program["quantity"]) >= -limit
        )
        solution = program.solve("clarabel", **TIGHT)
        repaired = c.repair(solution, program=program)
        assert repaired.status is mo.Status.OPTIMAL, repaired.reason
        assert c.audit(repaired).ok(1e-12)
        worst = repaired["payment"] - (1 + overrun) * costs * repaired["quantity"]
        assert worst.min() >= -limit - 1e-6 * repaired["payment"].max()
        expected, _, _ = smooth_menu(
            instance,
            keep=[lambda q, pay, k=costs, o=overrun, m=limit: pay - (1 + o) * k * q + m],
        )
        assert repaired.objective == pytest.approx(expected, abs=2e-6 * size(c, repaired))


def test_limited_liability_without_overrun_is_participation() -> None:
    c = make(instances(1, seed=8)[0])
    program = c.program("local")
    program.add("liability", program["rent"] >= -1e-3 * c.scales()[1])
    solution = program.solve("clarabel", **TIGHT)
    assert solution.objective == pytest.approx(c.solve().objective, abs=1e-7 * size(c, solution))
    assert np.max(np.abs(solution.dual("liability"))) < 1e-5


# ---------------------------------------------------------------------------------------- menu size


@pytest.mark.parametrize("form", ["reduced", "local"])
def test_declared_menu_size_equals_the_exact_algorithm(form: Any) -> None:
    for number, instance in enumerate(instances(4, seed=9, n_types=5)):
        c = make(instance)
        program = c.program(form, max_menu_size=1 + number % 3)
        exact = program.solve()
        assert exact.backend == "exact"
        declared = program.solve("outer")
        repaired = c.repair(declared, program=program)
        assert repaired.status is mo.Status.OPTIMAL, repaired.reason
        assert c.audit(repaired).ok(1e-12)
        assert np.unique(repaired["quantity"][repaired["quantity"] > 0]).size <= 1 + number % 3
        assert repaired.objective == pytest.approx(exact.objective, abs=1e-6 * size(c, exact))


def test_menu_size_with_a_further_bound_goes_to_a_mixed_integer_solver() -> None:
    c = make(instances(1, seed=10, n_types=5)[0])
    program = c.program(max_menu_size=2)
    free = program.solve()
    budget = 0.7 * float(free["expected_payment"])
    program.add("budget", program["expected_payment"] <= budget)
    with pytest.raises(mo.MissingCapability, match="'menu_size'"):
        program.solve("exact")
    solution = program.solve()
    assert solution.backend == "outer"
    # Brute force: every way to divide the types into two runs and a rest, each run at its priced optimum.
    best = max(_two_contracts(c, budget, first, second) for first in range(6) for second in range(first, 6))
    assert solution.objective == pytest.approx(best, abs=1e-5 * size(c, solution))


def _two_contracts(c: mo.ScreeningContract, budget: float, first: int, second: int) -> float:
    """Value of one contract for the types before ``first`` and another for those before ``second``."""
    q = cp.Variable(2, nonneg=True)
    membership = np.zeros((c.n_types, 2))
    membership[:first, 0], membership[first:second, 1] = 1.0, 1.0
    quantity = membership @ q
    spent = (c.probs * c.virtual_cost) @ quantity
    gain = c.probs @ c.gain.expression(cp.multiply(c.types, quantity))
    problem = cp.Problem(cp.Maximize(gain - spent), [spent <= budget, q[0] >= q[1]])
    return float(problem.solve(solver="CLARABEL"))


def test_menu_size_is_checked() -> None:
    c = make(instances(1)[0])
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(mo.InvalidInput, match="max_menu_size must be a whole number >= 1"):
            c.program(max_menu_size=wrong)


# ---------------------------------------------------------------------------------------- ambiguity and risk


@pytest.mark.parametrize(
    "attitude",
    [mo.Wasserstein(0.05), mo.KullbackLeibler(0.1), mo.ChiSquared(0.2), mo.CARA(0.02), mo.CVaR(0.4)],
)
@pytest.mark.parametrize("form", ["reduced", "local"])
def test_attitudes_through_the_program(attitude: Any, form: Any) -> None:
    for instance in instances(3, seed=11):
        c = make(instance)
        if isinstance(attitude, mo.CARA):
            attitude = mo.CARA(2 / c.scales()[1])
        program = c.program(form, **{attitude.kind: attitude})
        solution = program.solve("clarabel", **TIGHT)
        repaired = c.repair(solution, program=program)
        assert repaired.status is mo.Status.OPTIMAL, repaired.reason
        assert c.audit(repaired).ok(1e-12)
        utility = c.gain(c.types * repaired["quantity"]) - repaired["payment"]
        assert repaired.objective == pytest.approx(attitude.value(utility, c.probs, c.types), rel=1e-12)
        scale = size(c, repaired)
        assert solution.objective == pytest.approx(repaired.objective, abs=1e-6 * scale)
        # The menu that ignores ambiguity or risk cannot do better.
        blind = c.solve()
        careless = attitude.value(c.gain(c.types * blind["quantity"]) - blind["payment"], c.probs, c.types)
        assert repaired.objective >= careless - 1e-7 * scale
        assert repaired.objective <= blind.objective + 1e-7 * scale
        with pytest.raises(mo.MissingCapability, match="objective"):
            program.solve("exact")


def test_no_ambiguity_and_no_risk_give_the_contract() -> None:
    c = make(instances(1, seed=12)[0])
    base = c.solve()
    for options in (
        {"ambiguity": mo.Wasserstein(0)},
        {"ambiguity": mo.KullbackLeibler(0)},
        {"ambiguity": mo.ChiSquared(0)},
        {"risk": mo.CVaR(0)},
    ):
        solution = c.program(**options).solve("clarabel", **TIGHT)
        assert solution.objective == pytest.approx(base.objective, abs=1e-7 * size(c, base))


def test_attitudes_are_checked() -> None:
    c = make(instances(1)[0])
    with pytest.raises(mo.InvalidInput, match=r"ambiguity must be mo.Wasserstein"):
        c.program(ambiguity=0.1)
    with pytest.raises(mo.InvalidInput, match=r"risk must be mo.CARA"):
        c.program(risk=mo.Wasserstein(0.1))
    with pytest.raises(mo.InvalidInput, match="not both"):
        c.program(risk=mo.CVaR(0.5), ambiguity=mo.Wasserstein(0.1))


def test_user_constraints_go_with_attitudes() -> None:
    c = make(instances(1, seed=13)[0])
    program = c.program(risk=mo.CVaR(0.5))
    free = program.solve("clarabel", **TIGHT)
    program.add("budget", program["expected_payment"] <= 0.8 * float(free["expected_payment"]))
    bound = program.solve("clarabel", tolerance=1e-9)
    step = 1e-4 * float(free["expected_payment"])
    values = []
    for shift in (step, -step):
        other = c.program(risk=mo.CVaR(0.5))
        other.add("budget", other["expected_payment"] <= 0.8 * float(free["expected_payment"]) + shift)
        values.append(other.solve("clarabel", tolerance=1e-9).objective)
    assert float(bound.dual("budget")) == pytest.approx(
        (values[0] - values[1]) / (2 * step), rel=2e-3, abs=1e-4
    )


# ---------------------------------------------------------------------------------------- groups


def groups(seed: int, kinds: tuple[str, ...] = ("log", "power", "saturating")) -> mo.ContractGroups:
    rng = np.random.default_rng(seed)
    contracts = {}
    for kind in kinds:
        instance = random_contract(rng, kind, int(rng.integers(1, 6)))
        contracts[kind] = make(instance)
    return mo.ContractGroups(contracts, {kind: int(rng.integers(1, 9)) for kind in kinds})


def total(g: mo.ContractGroups, menus: dict[str, Any]) -> float:
    return sum(g.n_holders[name] * menus[name].objective for name in g.contracts)


def test_groups_without_a_budget_fall_apart() -> None:
    for seed in range(5):
        g = groups(seed)
        alone = {name: c.solve() for name, c in g.contracts.items()}
        together = g.solve()
        assert together.objective == pytest.approx(total(g, alone), rel=1e-12)
        for name in g.contracts:
            np.testing.assert_allclose(together[f"{name}.quantity"], alone[name]["quantity"], rtol=1e-12)


def test_groups_with_a_convex_cost() -> None:
    g = mo.ContractGroups(
        {
            "curved": mo.ScreeningContract([0.1, 0.3], cost_curve=mo.PowerCost(2, scale=100)),
            "plain": mo.ScreeningContract([0.05, 0.1]),
        },
        {"curved": 3, "plain": 2},
    )
    exact = g.solve()
    assert exact.backend == "exact"
    assert exact.objective == pytest.approx(
        total(g, {n: c.solve() for n, c in g.contracts.items()}), rel=1e-12
    )
    assert exact.objective == pytest.approx(g.solve("clarabel", form="local", **TIGHT).objective, rel=1e-6)
    program = g.program()
    program.add("budget", program["total_payment"] <= 100)
    with pytest.raises(mo.MissingCapability, match="'budget'"):
        program.solve("exact")
    assert program.solve("clarabel").objective < exact.objective


@pytest.mark.parametrize("share", [0.8, 0.3])
def test_groups_under_one_budget_against_bisection(share: float) -> None:
    for seed in range(4):
        g = groups(seed)
        free = g.solve()
        budget = share * float(free["total_payment"])
        program = g.program()
        program.add("budget", program["total_payment"] <= budget)
        solution = program.solve()
        assert solution.backend == "exact"
        price, best = _bisected(g, budget)
        scale = abs(float(free["total_gain"]))
        assert solution.objective == pytest.approx(best, abs=1e-9 * scale)
        assert float(solution.dual("budget")) == pytest.approx(price, rel=1e-6)
        assert float(solution["total_payment"]) <= budget * (1 + 1e-12)
        assert all(audit.ok(1e-12) for audit in g.audit(solution).values())
        conic = g.program("local")
        conic.add("budget", conic["total_payment"] <= budget)
        answer = conic.solve("clarabel", **TIGHT)
        assert answer.objective == pytest.approx(best, abs=1e-6 * scale)
        assert float(answer.dual("budget")) == pytest.approx(price, rel=1e-3, abs=1e-5)


def _bisected(g: mo.ContractGroups, budget: float) -> tuple[float, float]:
    """Price of the budget and value, by bisection on min-max quantities."""
    given = {
        name: {"types": c.types, "probs": c.probs, "gain": c.gain, "unit_cost": c.unit_cost}
        for name, c in g.contracts.items()
    }

    def quantities(price: float) -> dict[str, Any]:
        return {n: priced_quantities(i, (1 + price) * virtual_costs(i)) for n, i in given.items()}

    def spent(price: float) -> float:
        q = quantities(price)
        return sum(g.n_holders[n] * float(virtual_costs(i) @ q[n]) for n, i in given.items())

    low, high = 0.0, 1.0
    while spent(high) > budget:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > budget else (low, middle)
    q = quantities(high)
    return high, sum(g.n_holders[n] * value(i, q[n]) for n, i in given.items())


def test_groups_with_kinked_gains_spend_the_whole_budget() -> None:
    g = mo.ContractGroups(
        {
            "steps": mo.ScreeningContract([0.1, 0.3], gain=mo.PiecewiseLinearGain([5, 2, 0], [0, 20, 60], 1)),
            "log": mo.ScreeningContract([0.05, 0.1]),
        },
        {"steps": 20, "log": 5},
    )
    for share in (0.9, 0.5, 0.1):
        program = g.program()
        budget = share * float(g.solve()["total_payment"])
        program.add("budget", program["total_payment"] <= budget)
        exact, conic = program.solve(), program.solve("clarabel", **TIGHT)
        assert exact.backend == "exact"
        assert float(exact["total_payment"]) == pytest.approx(budget, rel=1e-9)
        assert exact.objective == pytest.approx(conic.objective, rel=1e-7)


def test_groups_refuse() -> None:
    c = mo.ScreeningContract([0.1, 0.2])
    with pytest.raises(mo.InvalidInput, match="contracts must map at least one"):
        mo.ContractGroups({}, {})
    with pytest.raises(mo.InvalidInput, match=r"contracts\['a'\] must be a ScreeningContract"):
        mo.ContractGroups({"a": 3}, {"a": 1})
    with pytest.raises(mo.InvalidInput, match="n_holders must give a number for each of a"):
        mo.ContractGroups({"a": c}, {"b": 1})
    with pytest.raises(mo.InvalidInput, match=r"n_holders\['a'\] must be a whole number >= 1, got 0"):
        mo.ContractGroups({"a": c}, {"a": 0})
    g = mo.ContractGroups({"a": c, "b": c}, {"a": 1, "b": 2})
    program = g.program()
    with pytest.raises(mo.InvalidInput, match="rewards higher payments"):
        program.add("wages", program["b.payment"] >= 5)
    program.add("joint", program["a.quantity"][0] <= program["b.quantity"][0])
    with pytest.raises(mo.MissingCapability, match="'joint'"):
        program.solve("exact")
    poor = g.program()
    poor.add("budget", poor["total_payment"] <= -1)
    for backend in ("exact", "clarabel"):
        with pytest.raises(mo.Infeasible, match="'budget'"):
            poor.solve(backend)
    rich = g.program("local")
    rich.add("budget", rich["total_payment"] <= -1)
    with pytest.raises(mo.Infeasible) as caught:
        rich.solve("exact")
    assert "budget" in caught.value.families


# ---------------------------------------------------------------------------------------- bad bounds


def test_negative_bounds_and_conflicts_name_their_families() -> None:
    c = make(instances(1)[0])
    for name, bounded in (("budget", "expected_payment"), ("cap", "payment")):
        program = c.program("local")
        program.add(name, program[bounded] <= -1)
        with pytest.raises(mo.Infeasible) as caught:
            program.solve("clarabel")
        assert name in caught.value.families
    program = c.program()
    program.add("budget", program["expected_payment"] <= 1e-3)
    program.add("minimum", program["expected_quantity"] >= 1e6)
    for backend in ("exact", "clarabel"):
        with pytest.raises(mo.Infeasible) as caught:
            program.solve(backend)
        assert set(caught.value.families) >= {"budget", "minimum"}


# ---------------------------------------------------------------------------------------- prices


def _fair(program: mo.Program, shift: float) -> None:
    program.add("side", program["payment"][0] - 1.6 * program["payment"][-1] <= shift)


def _liable(program: mo.Program, shift: float) -> None:
    cost = cp.multiply([0.05, 0.09, 0.13, 0.21], program["quantity"])
    program.add("side", 1.4 * cost - program["payment"] <= 0.5 + shift)


def _thrifty(program: mo.Program, shift: float) -> None:
    program.add("side", program["expected_payment"] <= 60 + shift)


def _capped(program: mo.Program, shift: float) -> None:
    program.add("side", program["payment"][0] <= 90 + shift)


def _demanding(program: mo.Program, shift: float) -> None:
    program.add("side", program["expected_quantity"] >= 900 + shift)


@pytest.mark.parametrize("add", [_fair, _liable, _thrifty, _capped, _demanding])
def test_prices_of_all_side_constraints_are_finite_differences(add: Any) -> None:
    c = mo.ScreeningContract(types=[0.05, 0.09, 0.13, 0.21], probs=[0.1, 0.4, 0.3, 0.2])

    def solve(shift: float) -> mo.Solution:
        program = c.program("local")
        add(program, shift)
        return program.solve("clarabel", tolerance=1e-9)

    step = 1e-2
    found = solve(0.0)
    difference = (solve(step).objective - solve(-step).objective) / (2 * step)
    price = float(np.sum(found.dual("side")))
    assert abs(price) > 1e-4  # it binds
    assert price == pytest.approx(difference, rel=2e-3, abs=1e-6)
    # The value is monotone and concave in the bound.
    sign = -1 if add is _demanding else 1
    values = np.array([solve(sign * s).objective for s in (-0.4, -0.2, 0.0, 0.2)])
    assert np.all(np.diff(values) > 0)
    assert np.all(np.diff(values, 2) < 1e-6)


@pytest.mark.parametrize("backend", ["outer", "pyomo:scip"])
def test_declared_menu_size_on_mixed_integer_solvers(backend: str) -> None:
    if backend == "pyomo:scip":
        pytest.importorskip("pyscipopt", reason="SCIP is an extra")
    c = mo.ScreeningContract(types=[0.05, 0.09, 0.13, 0.21], probs=[0.1, 0.4, 0.3, 0.2])
    for size_limit in (1, 2, 3):
        program = c.program(max_menu_size=size_limit)
        exact = program.solve("exact")
        solution = program.solve(backend, time_limit=60)
        repaired = c.repair(solution, program=program)
        assert repaired.status is mo.Status.OPTIMAL, repaired.reason
        assert np.unique(repaired["quantity"][repaired["quantity"] > 0]).size <= size_limit
        assert repaired.objective == pytest.approx(exact.objective, abs=1e-6 * size(c, exact))


# ---------------------------------------------------------------------------------------- together


def _drawn_options(rng: np.random.Generator, c: mo.ScreeningContract) -> dict[str, Any]:
    """Some of the options of a program, none of them twice."""
    money, options = c.scales()[1], {}
    if rng.random() < 0.4:
        options["outside_option"] = money * rng.uniform(-0.1, 0.3, c.n_types)
    elif rng.random() < 0.4:
        options["fairness_ratio"] = float(rng.uniform(1, 4))
    attitudes = (
        mo.Wasserstein(float(rng.uniform(0, 0.3))),
        mo.KullbackLeibler(float(rng.uniform(0.01, 0.5))),
        mo.ChiSquared(float(rng.uniform(0.01, 1))),
        mo.CVaR(float(rng.uniform(0, 0.9))),
        mo.CARA(float(rng.uniform(0.1, 5) / money)),
    )
    if rng.random() < 0.7:
        attitude = attitudes[int(rng.integers(len(attitudes)))]
        options[attitude.kind] = attitude
    return options


@pytest.mark.parametrize("kind", ["log", "saturating", "quadratic", "piecewise"])
def test_options_go_together(kind: str) -> None:
    rng = np.random.default_rng(21)
    for _ in range(15):
        instance = random_contract(rng, kind, int(rng.integers(1, 8)))
        curve = None
        if rng.random() < 0.3:
            unit = float(instance["gain"].natural_scale / instance["types"].mean())
            curve = mo.PowerCost(float(rng.choice([1.3, 2.0])), scale=unit)
        c = mo.ScreeningContract(**instance, cost_curve=curve)
        options = _drawn_options(rng, c)
        values = []
        for form in ("local", "full"):
            program = c.program(form, **options)
            repaired = c.repair(program.solve("clarabel"), program=program)
            assert repaired.status is mo.Status.OPTIMAL, f"{options}: {repaired.reason}"
            assert c.audit(repaired, outside_option=options.get("outside_option", 0.0)).ok(1e-9)
            values.append(repaired.objective)
        assert values[0] == pytest.approx(values[1], abs=3e-6 * max(c.scales()[1], abs(values[0])))
