"""The screening contract: forms against each other, backends against the exact algorithm, prices."""

from __future__ import annotations

import dataclasses
import math
import pickle
import zlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations import menus
from mechopt.formulations.incentives import ic_pairs
from mechopt.formulations.screening import model
from mechopt.formulations.screening.program import FORMS
from mechopt.solvers import certify
from mechopt.solvers.backend import all_backends
from tests.oracles import extensions
from tests.oracles.screening import GAINS, pooled_reference, random_contract

PAPER = mo.LogGain(weight=100, scale=2)


def instances(kind: str, count: int, n_types: int | None = None, largest: int = 12) -> list[dict[str, Any]]:
    rng = np.random.default_rng(zlib.crc32(f"{kind} {n_types} {largest}".encode()))
    drawn: list[dict[str, Any]] = []
    while len(drawn) < count:
        instance = random_contract(rng, kind, n_types)
        if len(instance["types"]) <= largest:
            drawn.append(instance)
    return drawn


def contract(n_types: int = 8, **changes: Any) -> mo.ScreeningContract:
    return mo.ScreeningContract(**{"types": np.linspace(0.05, 0.4, n_types), "gain": PAPER, **changes})


def example_a() -> mo.ScreeningContract:
    return mo.ScreeningContract(types=[1.0, 1.8, 1.9], gain=mo.LogGain(50, 2))


def example_b() -> mo.ScreeningContract:
    return mo.ScreeningContract(types=[0.1, 0.2, 0.3], probs=[0.64, 0.16, 0.2], gain=mo.LogGain(5, 1))


def terms(c: mo.ScreeningContract, menu: Any) -> float:
    """Size of the objective's terms at a menu; of the gain's weight if nobody trades."""
    gain = float(c.probs @ c.gain(c.types * menu["quantity"]))
    size = abs(gain) + abs(float(c.probs @ menu["payment"]))
    return size or c.scales()[1]


def weight(gain: mo.ConcaveFunction) -> float:
    """Scale of a gain, for errors relative to it (the weight, where the gain has one)."""
    if isinstance(gain, mo.QuadraticGain):
        return gain.slope * gain.top / 2
    if isinstance(gain, mo.PiecewiseLinearGain):
        return max(1e-300, float(gain(1e12)))
    return float(gain.weight)  # type: ignore[attr-defined]


def brute_force(c: mo.ScreeningContract, quantity: Any, payment: Any) -> tuple[float, float]:
    """Worst incentive and participation violations by a double loop."""
    ic = ir = 0.0
    for k in range(c.n_types):
        own = payment[k] - c.unit_cost * c.types[k] * quantity[k]
        ir = max(ir, -own)
        for j in range(c.n_types):
            ic = max(ic, payment[j] - c.unit_cost * c.types[k] * quantity[j] - own)
    return ic, ir


# ------------------------------------------------------------------------------------------------- forms


@pytest.mark.parametrize("kind", GAINS)
def test_all_forms_have_the_same_value(kind: str) -> None:
    for instance in instances(kind, 12, largest=8):
        c = mo.ScreeningContract(**instance)
        exact = c.solve()
        size = terms(c, exact)
        for form in FORMS:
            solution = c.solve("clarabel", form=form)
            assert solution.status is mo.Status.OPTIMAL
            assert abs(solution.objective - exact.objective) <= 1e-6 * size, form


@pytest.mark.parametrize("form", FORMS)
def test_harmless_additions_are_accepted_with_the_optimum_of_the_local_form(form: str) -> None:
    c = contract(6)
    base = c.solve()
    budget = 0.7 * float(base["expected_payment"])
    cap = 0.8 * float(base["payment"][0])
    least = 1.1 * float(c.probs @ base["quantity"])

    def add(program: mo.Program, name: str) -> mo.Program:
        if name == "budget":
            return program.add(name, program["expected_payment"] <= budget)
        if name == "cap":
            return program.add(name, program["payment"] <= cap)
        if name == "least data":
            return program.add(name, c.probs @ program["quantity"] >= least)
        return program.add(name, program["quantity"][0] <= 900, program["rent"] <= 70)

    for name in ("budget", "cap", "least data", "several"):
        mine = add(c.program(form), name).solve("clarabel")  # type: ignore[arg-type]
        local = add(c.program("local"), name).solve("clarabel")
        assert mine.objective == pytest.approx(local.objective, rel=1e-7)
        assert mine.objective < base.objective * (1 - 1e-4)


@pytest.mark.parametrize("form", ["reduced", "local-monotone"])
@pytest.mark.parametrize(
    "reward",
    [
        lambda p: p["payment"][-1] >= 20,
        lambda p: p["expected_payment"] == 40,
        lambda p: p["payment"][0] <= 1.2 * p["payment"][-1],
        lambda p: p["rent"] >= 1,
        lambda p: p["rent"][2] - 0.5 * p["rent"][0] >= 5,
        lambda p: cp.sum(p["payment"]) >= 100,
    ],
    ids=["floor", "spend exactly", "fairness", "outside option", "difference", "sum"],
)
def test_forms_with_least_payments_refuse_what_rewards_payments(form: str, reward: Any) -> None:
    program = contract().program(form)  # type: ignore[arg-type]
    with pytest.raises(mo.InvalidInput, match=rf"family 'own' rewards higher payments.*{form}.*'local'"):
        program.add("own", reward(program))
    assert "own" not in program.families
    full = contract().program("local")
    full.add("own", reward(full))


@pytest.mark.parametrize("form", ["reduced", "local-monotone"])
def test_forms_with_least_payments_refuse_what_they_cannot_judge(form: str) -> None:
    program = contract().program(form)  # type: ignore[arg-type]
    with pytest.raises(mo.InvalidInput, match="is not affine in the payments"):
        program.add("spread", cp.max(program["payment"]) <= 100)
    with pytest.raises(mo.InvalidInput, match="the new objective rewards higher payments"):
        program.maximize(program["expected_gain"] + program["expected_payment"])
    with pytest.raises(mo.InvalidInput, match="the new objective rewards"):
        program.minimize(-program["expected_payment"])
    assert program.sense == "maximize"
    program.maximize(program["expected_gain"] - 2 * program["expected_payment"])
    assert program.solve("clarabel").status.ok


def test_guarded_forms_would_be_wrong_where_they_refuse() -> None:
    """A higher outside option of the efficient types makes downward constraints bind; only local is valid."""
    c = contract(5)
    program = c.program("local")
    outside = np.array([110.0, 60, 40, 20, 0])
    program.add("outside", program["rent"] >= outside)
    solution = program.solve("clarabel")
    assert np.max(solution.dual("ic_down")) > 0.01
    repaired = c.repair(solution, program=program)
    assert repaired.status is mo.Status.OPTIMAL
    assert np.all(repaired["rent"] >= outside - 1e-6 * 110)
    assert max(brute_force(c, repaired["quantity"], repaired["payment"])) <= 1e-12 * repaired["payment"].max()


def test_full_form_is_refused_beyond_its_size_unless_forced() -> None:
    big = contract(501)
    with pytest.raises(
        mo.InvalidInput, match=r"form='full' with 501 types.*250500 incentive rows.*force=True"
    ):
        big.program("full")
    assert big.program("full", force=True).families["ic"][0].size == 501 * 500
    contract(500).program("full")


@pytest.mark.parametrize("backend", [None, "exact", "clarabel"])
def test_unknown_form(backend: str | None) -> None:
    with pytest.raises(mo.InvalidInput, match=r"form must be one of 'full'.*got 'reducd'"):
        contract().solve(backend, form="reducd")  # type: ignore[arg-type]
    with pytest.raises(mo.InvalidInput, match="form must be one of"):
        contract().program("FULL")  # type: ignore[arg-type]


def test_two_programs_share_nothing() -> None:
    c = contract()
    one, other = c.program("local"), c.program("local")
    one.add("budget", one["expected_payment"] <= 10)
    assert "budget" not in other.families
    assert other.solve("clarabel").objective == pytest.approx(c.solve().objective, rel=1e-7)


# ---------------------------------------------------------------------------------------------- backends

# How many random instances, and of how many types at most, each backend has to get right with a log gain; a
# third of it with other gains. The criterion is the same for all.
AMOUNTS: dict[str, tuple[int, int]] = {
    "exact": (200, 12),
    "clarabel": (200, 12),
    "scs": (200, 12),
    "outer": (200, 12),
    "pounce": (200, 12),
    "ipyopt": (200, 12),
    "trust-constr": (200, 12),
    "slsqp": (200, 12),
    "pyomo:scip": (200, 12),
    "pyomo:pounce": (200, 12),
    "highspy": (60, 12),
    "highs": (40, 12),
    "scipy": (40, 12),
    "osqp": (40, 12),
    "pyomo:highs": (20, 12),
}
SLOW_TO_STOP = {"trust-constr"}
"""They may run out of evaluations at the optimum; the repaired answer must be right all the same."""

FEWER = {"power": 3, "saturating": 3, "quadratic": 3, "piecewise": 3, "log": 1}


@pytest.mark.parametrize("kind", GAINS)
@pytest.mark.parametrize("name", [b.name for b in all_backends()])
def test_every_backend_agrees_with_the_exact_algorithm(name: str, kind: str) -> None:
    backend = next(b for b in all_backends() if b.name == name)
    reason = backend.available()
    if reason is not None:
        pytest.skip(f"{name}: {reason}")
    count, largest = AMOUNTS.get(name, (10, 8))
    drawn = instances(kind, math.ceil(count / FEWER[kind]), largest=largest)
    lacks = backend.lacks(mo.ScreeningContract(**drawn[0]).program())
    if lacks:
        pytest.skip(f"{name} lacks {', '.join(lacks)}")
    if (name, kind) == ("osqp", "piecewise"):
        pytest.skip("a first-order method on a linear program: see the next test")
    failures = _elsewhere(name, drawn) if name == "pyomo:scip" else _failures(name, drawn)
    assert not failures, "\n".join(failures)


def test_a_first_order_method_on_linear_programs_is_right_or_says_so() -> None:
    """OSQP converges on most of them only; where it does not, it must not be called optimal."""
    right = 0
    for instance in instances("piecewise", 14):
        c = mo.ScreeningContract(**instance)
        exact = c.solve()
        raw = c.program().solve("osqp", on_failure="return")
        if raw.status.ok:
            right += 1
            assert abs(exact.objective - c.repair(raw).objective) <= 1e-6 * terms(c, exact)
    assert right >= 7


def _failures(name: str, drawn: list[dict[str, Any]]) -> list[str]:
    """Say what is wrong with a backend's answers, repaired, to these instances."""
    failures = []
    for number, instance in enumerate(drawn):
        c = mo.ScreeningContract(**instance)
        exact = c.solve()
        raw = c.program().solve(name, time_limit=10, on_failure="return")
        if not raw.values:
            failures.append(f"#{number}, {c.n_types} types: {raw.status}, {raw.reason}")
            continue
        repaired = c.repair(raw)
        loss = abs(exact.objective - repaired.objective)
        scale = max(float(repaired["payment"].max()), 1e-300)
        deviation = max(brute_force(c, repaired["quantity"], repaired["payment"])) / scale
        ended = raw.status.ok or (name in SLOW_TO_STOP and raw.status is mo.Status.LIMIT)
        if not ended or loss > 1e-6 * terms(c, exact) or deviation > 1e-12:
            failures.append(
                f"#{number}, {c.n_types} types: {raw.status} ({raw.reason}); "
                f"loss {loss / terms(c, exact):.1e} of the terms, {loss / weight(c.gain):.1e} of the weight; "
                f"worst deviation {deviation:.1e}"
            )
    return failures


def _elsewhere(name: str, drawn: list[dict[str, Any]]) -> list[str]:
    """Do the same in another process, which a solver that hangs takes down alone."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        future = pool.submit(_failures, name, drawn)
        try:
            return future.result(timeout=40)
        except TimeoutError:
            for process in list(pool._processes.values()):
                process.kill()
            return [f"{name} hangs on one of {len(drawn)} instances, past its own time limit"]


def test_exact_agrees_with_the_minmax_formula() -> None:
    for kind in GAINS:
        for instance in instances(kind, 40):
            c = mo.ScreeningContract(**instance)
            menu = c.solve()
            _, value = pooled_reference(**instance)
            assert abs(menu.objective - value) <= 1e-11 * terms(c, menu)
            assert max(brute_force(c, menu["quantity"], menu["payment"])) <= 1e-12 * max(
                float(menu["payment"].max()), 1e-300
            )


# ------------------------------------------------------------------------------------------------- prices


@pytest.mark.parametrize("kind", ["log", "power", "saturating"])
def test_incentive_prices_move_the_mass_of_types(kind: str) -> None:
    for instance in instances(kind, 6, n_types=6):
        c = mo.ScreeningContract(**instance)
        full = c.program("full").solve("clarabel", tolerance=1e-7, on_failure="return")
        net = np.zeros(c.n_types)
        for (agent, choice), price in zip(ic_pairs(c.n_types), full.dual("ic"), strict=True):
            net[agent] += price
            net[choice] -= price
        ir = np.asarray(full.dual("ir"))
        # A unit more of outside option must be paid: the right-hand side of rent >= 0 has a negative price.
        assert np.all(ir <= 1e-6)
        np.testing.assert_allclose(net - ir, c.probs, atol=1e-6)
        assert np.sum(np.abs(ir)) == pytest.approx(1, abs=1e-6)


def test_local_prices_are_the_costate() -> None:
    for instance in instances("log", 15):
        c = mo.ScreeningContract(**instance)
        menu = c.solve()
        if c.n_types == 1 or menu.extra["n_excluded"]:
            continue  # excluded neighbours have the same constraint twice: only its total price is determined
        local = c.program("local").solve("clarabel", tolerance=1e-7, on_failure="return")
        up, down, ir = (np.asarray(local.dual(family)) for family in ("ic_up", "ic_down", "ir"))
        np.testing.assert_allclose(up - down, c.cum_probs[:-1], atol=1e-6)
        np.testing.assert_allclose(ir, np.append(np.zeros(c.n_types - 1), -1.0), atol=1e-6)
        pooled = np.zeros(c.n_types - 1, dtype=bool)
        for start, stop in menu.extra["pools"]:
            pooled[start : stop - 1] = True
        assert np.all(down[~pooled] <= 1e-4)
        assert np.all(up >= -1e-6)
        assert np.all(down >= -1e-6)


def test_worked_example_a() -> None:
    c = example_a()
    form = c.closed_form()
    np.testing.assert_allclose(form.quantity, [49.5, 18.953, 23.546], atol=6e-4)
    np.testing.assert_allclose(c.virtual_type, [1, 2.6, 2.1], rtol=1e-14)
    assert form.objective == pytest.approx(173.0533, abs=5e-5)
    assert (form.valid, form.reason_code) == (False, "non_monotone")
    assert c.audit(form).ic_violation == pytest.approx(3.675, abs=6e-4)
    for solution in (c.solve(), c.solve("clarabel", form="local", tolerance=1e-8)):
        np.testing.assert_allclose(solution["quantity"], [49.5, 21.00613, 21.00613], rtol=1e-4)
        np.testing.assert_allclose(solution["payment"], [68.40552, 39.91165, 39.91165], rtol=1e-4)
        np.testing.assert_allclose(solution["rent"], [18.90552, 2.10061, 0], atol=2e-4)
        assert solution.objective == pytest.approx(172.862405, abs=1e-5)
    up, down = (np.asarray(solution.dual(family)) for family in ("ic_up", "ic_down"))
    np.testing.assert_allclose(up - down, [1 / 3, 2 / 3], atol=1e-6)
    np.testing.assert_allclose(down, [0, 0.83602], atol=5e-6)  # half a unit of the last digit
    assert c.solve().extra["pools"] == [(1, 3)]


def test_worked_example_b() -> None:
    c = example_b()
    np.testing.assert_allclose(c.virtual_type, [0.1, 0.6, 0.7], rtol=1e-13)
    form = c.closed_form()
    np.testing.assert_allclose(form.quantity, [40, 3.3333, 3.8095], atol=5e-5)
    assert form.objective == pytest.approx(2.9076685, abs=5e-8)
    menu = c.solve()
    np.testing.assert_allclose(menu["quantity"], [40, 3.639873, 3.639873], atol=5e-7)
    assert menu.objective == pytest.approx(2.9068536, abs=5e-8)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", ["budget", "cap", "least data"])
def test_price_of_an_own_constraint(what: str, form: str) -> None:
    """The dual is the bisection's multiplier and the slope of the value."""
    for number, instance in enumerate(instances("log", 3, n_types=5)):
        c = mo.ScreeningContract(**instance)
        base = c.solve()
        if what == "budget":
            bound = (0.4 + 0.2 * number) * float(base["expected_payment"])
            price, quantity, value = extensions.with_budget(instance, bound)
        elif what == "cap":
            bound = (0.5 + 0.2 * number) * float(base["payment"][0])
            price, quantity, value = extensions.with_payment_cap(instance, bound)
        else:
            bound = (1.05 + 0.1 * number) * float(c.probs @ base["quantity"])
            price, quantity, value = extensions.with_minimum_data(instance, bound)

        def solve(right: float, c: mo.ScreeningContract = c) -> tuple[mo.Program, mo.Solution]:
            program = c.program(form)  # type: ignore[arg-type]
            left = {
                "budget": program["expected_payment"],
                "cap": program["payment"],
                "least data": c.probs @ program["quantity"],
            }[what]
            program.add("own", left >= right if what == "least data" else left <= right)
            return program, program.solve("clarabel", tolerance=1e-7, on_failure="return")

        program, solution = solve(bound)
        size = terms(c, solution)
        assert abs(solution.objective - value) <= 1e-6 * size
        dual = float(np.sum(solution.dual("own")))
        assert dual == pytest.approx(price, rel=1e-3, abs=1e-6)
        step = 1e-2 * bound
        slope = (solve(bound + step)[1].objective - solve(bound - step)[1].objective) / (2 * step)
        assert dual == pytest.approx(slope, rel=1e-2)
        repaired = c.repair(solution, program=program)
        assert repaired.status is mo.Status.OPTIMAL
        np.testing.assert_allclose(repaired["quantity"], quantity, atol=2e-3 * quantity.max())


def test_slack_budget_changes_nothing_and_more_money_never_hurts() -> None:
    for instance in instances("log", 4, n_types=7):
        c = mo.ScreeningContract(**instance)
        base = c.solve()
        spent = float(base["expected_payment"])
        values = []
        for share in (0.05, 0.3, 0.6, 0.9, 1.0, 1.5):
            program = c.program("local")
            program.add("budget", program["expected_payment"] <= share * spent)
            solution = program.solve("clarabel", on_failure="return")
            values.append(solution.objective)
        assert abs(values[-1] - base.objective) <= 1e-7 * weight(c.gain)
        assert abs(float(solution.dual("budget"))) <= 1e-5
        assert np.all(np.diff(values) >= -1e-7 * weight(c.gain))
        assert values[0] < values[3] < values[-1]


# --------------------------------------------------------------------------------------------- symmetries


@pytest.mark.parametrize("backend", ["exact", "clarabel"])
def test_symmetries(backend: str) -> None:
    sharp = 1e-11 if backend == "exact" else 2e-3  # the objective is flat: quantities are loose on solvers
    value = 1e-12 if backend == "exact" else 1e-6

    def same(other: mo.ScreeningContract, quantity: Any, payment: Any, objective: float) -> None:
        found = other.solve(backend, form="local")
        np.testing.assert_allclose(found["quantity"], quantity, atol=sharp * np.max(quantity))
        np.testing.assert_allclose(found["payment"], payment, atol=sharp * np.max(payment))
        assert abs(found.objective - objective) <= value * terms(other, found)

    for instance in instances("log", 6, n_types=6):
        c = mo.ScreeningContract(**instance)
        gain, cost = instance["gain"], instance["unit_cost"]
        menu = c.solve(backend, form="local")
        q, pay = menu["quantity"], menu["payment"]
        money = dataclasses.replace(c, gain=mo.LogGain(10 * gain.weight, gain.scale), unit_cost=10 * cost)
        same(money, q, 10 * pay, 10 * menu.objective)
        # Types in other units: eps' = 1000 eps, with the scale and the cost per new unit.
        units = dataclasses.replace(
            c, types=1000 * c.types, gain=mo.LogGain(gain.weight, gain.scale / 1000), unit_cost=cost / 1000
        )
        same(units, q, pay, menu.objective)
        # At the same weight * scale / cost, effective data and payment over weight do not change.
        w, a = gain.weight / 7, gain.scale * 3
        fixed_r = dataclasses.replace(
            c, gain=mo.LogGain(w, a), unit_cost=w * a / (gain.weight * gain.scale / cost)
        )
        same(fixed_r, q * gain.scale / a, pay / 7, menu.objective / 7)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backend", ["exact", "clarabel", "scs"])
def test_one_type_is_first_best(backend: str, form: str) -> None:
    c = mo.ScreeningContract(types=[0.2], gain=PAPER, unit_cost=1.5)
    solution = c.program(form).solve(backend)  # type: ignore[arg-type]
    q = 100 / (1.5 * 0.2) - 1 / (2 * 0.2)
    np.testing.assert_allclose(solution["quantity"], [q], rtol=2e-3)
    assert solution.objective == pytest.approx(100 * np.log(200 / 1.5) - 100 + 1.5 / 2, rel=1e-6)
    assert c.audit(solution).ok()
    assert c.audit(solution).worst.choice is None  # type: ignore[union-attr]


def test_two_types_by_hand() -> None:
    c = mo.ScreeningContract(types=[0.1, 0.3], probs=[0.25, 0.75], gain=mo.LogGain(10, 2), unit_cost=2)
    phi = [0.1, 0.3 + 0.25 / 0.75 * 0.2]
    q = [10 / (2 * phi[k]) - 1 / (2 * c.types[k]) for k in range(2)]
    pay = [2 * 0.1 * q[0] + 2 * 0.2 * q[1], 2 * 0.3 * q[1]]
    menu = c.solve()
    np.testing.assert_allclose(menu["quantity"], q, rtol=1e-14)
    np.testing.assert_allclose(menu["payment"], pay, rtol=1e-14)


@pytest.mark.parametrize("backend", ["exact", "clarabel", "scs"])
@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_nobody_trades_when_gains_do_not_cover_costs(ratio: float, backend: str) -> None:
    c = contract(5, gain=mo.LogGain(weight=ratio / 2, scale=2), unit_cost=1.0)
    for form in FORMS:
        solution = c.program(form).solve(backend)  # type: ignore[arg-type]
        stakes = c.scales()[1]
        assert abs(solution.objective) <= 1e-6 * stakes
        assert np.max(solution["payment"]) <= 1e-3 * stakes
        repaired = c.repair(solution)
        assert repaired.status is mo.Status.OPTIMAL, (form, repaired.reason)
    exact = c.solve()
    assert exact.extra["n_excluded"] == 5
    assert not np.any(exact["quantity"])


@pytest.mark.parametrize(("ratio", "cutoff"), [(1.2, 0.125), (1.8, 0.5), (1.95, 1.0)])
def test_partial_exclusion(ratio: float, cutoff: float) -> None:
    types = np.linspace(0.1, 1, 1802)[1:]  # cells of a uniform distribution, right ends
    c = mo.ScreeningContract(types=types, gain=mo.LogGain(ratio, 1))
    menu = c.solve()
    served = types[menu["quantity"] > 0]
    # On the grid the virtual ratio is 2 - types[0] / type; types[0] itself is a cell above 0.1.
    assert served.max() == types[types < types[0] / (2 - ratio)].max()
    assert served.max() == pytest.approx(cutoff, abs=3e-3)
    assert c.closed_form().reason_code == ("negative" if cutoff < 1 else "")


# -------------------------------------------------------------------------------------------------- audit


def test_audit_finds_the_worst_deviation() -> None:
    rng = np.random.default_rng(4)
    for instance in instances("log", 30):
        c = mo.ScreeningContract(**instance)
        menu = c.solve()
        scale = float(np.max(menu["payment"])) or 1.0
        quantity = np.abs(menu["quantity"] * (1 + 0.3 * rng.standard_normal(c.n_types)))
        payment = menu["payment"] * (1 + 0.3 * rng.standard_normal(c.n_types))
        audit = c.audit({"quantity": quantity, "payment": payment})
        ic, ir = brute_force(c, quantity, payment)
        assert audit.ic_violation == pytest.approx(ic, abs=1e-14 * scale)
        assert audit.ir_violation == pytest.approx(ir, abs=1e-14 * scale)
        worst = audit.worst
        assert worst is not None
        own = payment[worst.agent] - c.unit_cost * c.types[worst.agent] * quantity[worst.agent]
        instead = (
            0.0
            if worst.choice is None
            else payment[worst.choice] - c.unit_cost * c.types[worst.agent] * quantity[worst.choice]
        )
        assert worst.gain == pytest.approx(instead - own, abs=1e-13 * scale)
        assert max(worst.gain, 0) == pytest.approx(max(ic, ir), abs=1e-13 * scale)


@pytest.mark.parametrize("damage", ["none", "payments", "quantities", "one contract", "slow drift"])
def test_audit_of_many_types_agrees_with_all_pairs(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(11)
    for n_types in (2000, 2001):
        c = contract(n_types)
        menu = c.solve()
        quantity, payment = np.array(menu["quantity"]), np.array(menu["payment"])
        if damage == "payments":
            payment *= 1 + 1e-3 * rng.standard_normal(n_types)
        elif damage == "quantities":
            quantity *= 1 + 1e-2 * rng.standard_normal(n_types)
        elif damage == "one contract":
            payment[n_types // 3] += 3
        elif damage == "slow drift":
            # Each type gains little from its neighbour's contract, and much from a far one.
            payment += 0.01 * np.arange(n_types)
        audit = c.audit({"quantity": quantity, "payment": payment})
        assert audit.method == ("all pairs" if n_types == 2000 else "favourite contracts")
        with monkeypatch.context() as patch:
            patch.setattr(model, "ALL_PAIRS_LIMIT", 10**9 if n_types > 2000 else 0)
            other = c.audit({"quantity": quantity, "payment": payment})
        assert other.method != audit.method
        assert audit.ic_violation == pytest.approx(other.ic_violation, abs=1e-11)
        assert audit.ir_violation == pytest.approx(other.ir_violation, abs=1e-11)
        assert audit.worst.gain == pytest.approx(other.worst.gain, abs=1e-11)  # type: ignore[union-attr]
        assert audit.ok(1e-12) == (damage == "none")


def test_favourites_by_brute_force() -> None:
    rng = np.random.default_rng(8)
    for _ in range(200):
        types = np.sort(rng.uniform(0.1, 2, 7))
        quantity, payment = rng.integers(0, 4, 9).astype(float), rng.integers(0, 5, 9).astype(float)
        table = menus.utility_matrix(types, quantity, payment, 1.0)
        chosen = menus.favourites(types, quantity, payment, 1.0)
        np.testing.assert_allclose(table[np.arange(7), chosen], table.max(axis=1), atol=1e-12)


@pytest.mark.parametrize(
    ("menu", "words"),
    [
        ({"quantity": [1.0, 2.0]}, "a menu needs 'payment'"),
        ({"payment": [1.0, 2.0]}, "a menu needs 'quantity'"),
        ([1.0, 2.0], "a menu needs 'quantity'.*got list"),
        (3, "a menu needs 'quantity'.*got int"),
        ({"quantity": [1.0], "payment": [1.0, 2.0]}, "quantity has 1 entries for 2 types"),
        ({"quantity": [2.0, 1.0], "payment": [1.0, np.nan]}, r"payment\[1\] is nan"),
        ({"quantity": ["a", "b"], "payment": [1.0, 2.0]}, "quantity must be numbers"),
        ({"quantity": [[2.0, 1.0]], "payment": [1.0, 2.0]}, "quantity must be one-dimensional"),
    ],
)
def test_what_is_no_menu(menu: Any, words: str) -> None:
    with pytest.raises(mo.InvalidInput, match=words):
        contract(2).audit(menu)


# ------------------------------------------------------------------------------------------------- repair


def test_repair_of_a_perturbed_menu() -> None:
    rng = np.random.default_rng(2)
    for instance in instances("log", 30):
        c = mo.ScreeningContract(**instance)
        exact = c.solve()
        noise = 1 + 1e-3 * rng.standard_normal(c.n_types)
        quantity = np.maximum(exact["quantity"] * noise, 0)
        payment = exact["payment"] * noise[::-1]
        objective = float(c.probs @ (c.gain(c.types * quantity) - payment))
        raw = exact.replace(
            values={**exact.values, "quantity": quantity, "payment": payment}, objective=objective
        )
        repaired = c.repair(raw)
        scale = max(float(repaired["payment"].max()), 1e-300)
        assert max(brute_force(c, repaired["quantity"], repaired["payment"])) <= 1e-13 * scale
        assert np.all(np.diff(repaired["quantity"]) <= 0)
        assert np.all(repaired["quantity"] >= 0)
        least = menus.payments(c.types, repaired["quantity"], c.unit_cost)
        np.testing.assert_array_equal(repaired["payment"], least)
        again = float(c.probs @ (c.gain(c.types * repaired["quantity"]) - repaired["payment"]))
        assert repaired.objective == pytest.approx(again, abs=1e-12 * terms(c, exact))
        lost = repaired.extra["objective_lost"]
        assert lost == pytest.approx(objective - repaired.objective, abs=1e-13 * terms(c, exact))
        assert repaired.bound == exact.objective
        gap = (exact.objective - repaired.objective) / max(terms(c, repaired), c.scales()[1])
        assert repaired.gap == pytest.approx(gap, abs=1e-12)
        assert repaired.status is (mo.Status.OPTIMAL if gap <= 1e-6 else mo.Status.INACCURATE)
        assert (repaired.status is mo.Status.OPTIMAL) or "gap to the bound" in repaired.reason


def test_repair_without_a_bound_or_a_solution() -> None:
    c = contract()
    exact = c.solve()
    plain = c.repair({"quantity": exact["quantity"], "payment": exact["payment"]})
    assert plain.status is mo.Status.INACCURATE
    assert "nothing is known of the optimum" in plain.reason
    loose = exact.replace(bound=None, gap=None)
    assert c.repair(loose).status is mo.Status.OPTIMAL
    shifted = {**exact.values, "quantity": exact["quantity"] * 0.9}
    assert c.repair(loose.replace(values=shifted)).status is mo.Status.INACCURATE
    doubtful = loose.replace(status=mo.Status.INACCURATE)
    assert c.repair(doubtful).status is mo.Status.INACCURATE


def test_repair_keeps_the_tolerance_that_was_asked_for() -> None:
    c = contract()
    exact = c.solve()
    worse = exact["quantity"] * 0.99
    payment = menus.payments(c.types, worse, c.unit_cost)
    raw = exact.replace(
        values={**exact.values, "quantity": worse, "payment": payment},
        status=mo.Status.INACCURATE,
        tolerance=1e-2,
    )
    assert c.repair(raw).tolerance == 1e-2
    assert c.repair(raw).status is mo.Status.OPTIMAL
    assert c.repair(raw.replace(tolerance=1e-8)).status is mo.Status.INACCURATE


def test_repair_checks_own_families_only_with_their_program() -> None:
    c = contract()
    program = c.program("local")
    program.add("budget", program["expected_payment"] <= 30)
    solution = program.solve("clarabel")
    blind = c.repair(solution)
    assert blind.status is mo.Status.INACCURATE
    assert "not checked again: budget (pass program=)" in blind.reason
    seen = c.repair(solution, program=program)
    assert seen.status is mo.Status.OPTIMAL
    assert set(seen.residuals) == {*program.families, certify.DOMAIN}
    # A menu that spends too much does not pass because it is incentive compatible.
    rich = c.solve()
    spender = solution.replace(
        values={**solution.values, **rich.values}, objective=rich.objective, bound=rich.objective
    )
    refused = c.repair(spender, program=program)
    assert refused.status is mo.Status.INACCURATE
    assert "violates budget" in refused.reason


def test_repair_sees_own_families_under_names_of_the_contract() -> None:
    c = contract(4)
    program = c.program("reduced")
    program.add("ir", program["payment"] <= 90)
    solution = program.solve("clarabel")
    rich = c.solve()
    spender = solution.replace(values={**solution.values, **rich.values}, bound=rich.objective)
    assert "violates ir" in c.repair(spender, program=program).reason


@pytest.mark.parametrize("declared", [True, False])
def test_repair_with_variables_of_the_users_own(declared: bool) -> None:
    c = contract(4)
    program = c.program("local")
    roof = program.variable("roof") if declared else cp.Variable(name="roof")
    program.add("under", program["payment"] <= roof)
    program.add("roof", roof <= 90)
    solution = program.solve("clarabel")
    # Another solve, or a start, leaves other values behind; the answer's own count.
    for variable in program.cvxpy_variables().values():
        variable.save_value(np.full(variable.shape, 1e4))
    repaired = c.repair(solution, program=program)
    assert repaired.status is mo.Status.OPTIMAL, repaired.reason


def test_repair_with_another_objective() -> None:
    c = contract(5)
    program = c.program("local")
    program.maximize(program["expected_gain"] - 2 * program["expected_payment"])
    solution = program.solve("clarabel")
    repaired = c.repair(solution, program=program)
    assert repaired.status is mo.Status.OPTIMAL
    assert repaired.objective == pytest.approx(solution.objective, rel=1e-6)
    assert c.repair(solution).status is mo.Status.INACCURATE


def test_residuals_equal_a_direct_computation() -> None:
    rng = np.random.default_rng(6)
    c = contract(6)
    menu = c.solve()
    quantity = menu["quantity"] * (1 + 0.05 * rng.standard_normal(6))
    payment = menu["payment"] * (1 + 0.05 * rng.standard_normal(6))
    payment[-1] = 0.9 * c.unit_cost * c.types[-1] * quantity[-1]
    ic, ir = brute_force(c, quantity, payment)
    assert ic > 1
    assert ir > 1
    own = payment - c.unit_cost * c.types * quantity
    up = max(payment[k + 1] - c.unit_cost * c.types[k] * quantity[k + 1] - own[k] for k in range(5))
    down = max(payment[k] - c.unit_cost * c.types[k + 1] * quantity[k] - own[k + 1] for k in range(5))
    rise = max(0.0, max(np.diff(quantity)))
    for form, expected in {
        "full": {"ic": ic, "ir": ir},
        "local": {"ic_up": max(up, 0), "ic_down": max(down, 0), "ir": ir},
        "local-monotone": {"ic_up": max(up, 0), "ir": max(-own[-1], 0), "monotone": rise},
        "reduced": {"monotone": rise},
    }.items():
        program = c.program(form)  # type: ignore[arg-type]
        values = {"quantity": quantity, "payment": payment}
        program.set_values({name: v for name, v in values.items() if program.has_variable(name)})
        residuals, violations = certify.measure_families(program)
        for family, violation in expected.items():
            assert violations[family] == pytest.approx(violation, rel=1e-12, abs=1e-12), (form, family)
            assert (residuals[family] > 1e-6) == (violation > 1e-6)
        if form != "reduced":
            gain = c.probs @ (100 * np.log1p(2 * c.types * quantity) - payment)
            assert program.objective.value == pytest.approx(gain, rel=1e-13)


# ------------------------------------------------------------------------------- closed form, solve, objects


def test_closed_form_says_why_it_does_not_apply() -> None:
    assert contract().closed_form().valid
    assert contract().closed_form().reason == ""
    form = example_b().closed_form()
    assert not form.valid
    assert "rises from 3.33333 (type 1) to 3.80952 (type 2)" in form.reason
    with pytest.raises(mo.NotApplicable, match="closed form does not apply"):
        form.require()
    excluded = contract(gain=mo.LogGain(0.6, 2)).closed_form()
    assert (excluded.valid, excluded.reason_code) == (True, "negative")
    assert excluded.require() is excluded
    unbounded = contract(gain=mo.PiecewiseLinearGain([2, 1.5], [0, 1], 1)).closed_form()
    assert (unbounded.valid, unbounded.reason_code) == (False, "unbounded")


def test_solve_is_exact_by_default() -> None:
    c = contract(50)
    menu = c.solve()
    assert (menu.backend, menu.status) == ("exact", mo.Status.OPTIMAL)
    assert menu.gap == 0
    assert menu.objective == pytest.approx(c.closed_form().objective, rel=1e-14)
    assert mo.solve(c).backend == "exact"
    assert c.program().solve().backend == "exact"
    with pytest.raises(mo.InvalidInput, match="the exact algorithm computes no prices"):
        menu.dual("monotone")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tolerance": 0}, "tolerance must lie in"),
        ({"tolerance": -1.0}, "tolerance must lie in"),
        ({"tolerance": 2.0}, "tolerance must lie in"),
        ({"time_limit": 0}, "time_limit must be"),
        ({"time_limit": float("nan")}, "time_limit must be"),
        ({"on_failure": "ignore"}, "on_failure must be 'raise' or 'return', got 'ignore'"),
        ({"max_iter": 3}, "has no option"),
    ],
)
@pytest.mark.parametrize("backend", [None, "exact", "clarabel"])
def test_arguments_of_solve(backend: str | None, arguments: dict[str, Any], words: str) -> None:
    if backend == "clarabel" and "max_iter" in arguments:
        arguments = {"nonsense": 3}
    with pytest.raises(mo.InvalidInput, match=words):
        contract().solve(backend, **arguments)


def test_exact_refuses_what_it_cannot_price() -> None:
    program = contract().program("local")
    program.add("odd", program["quantity"][0] + program["rent"][1] <= 10 + 2 * program["quantity"][2])
    with pytest.raises(mo.MissingCapability, match="family 'odd'") as caught:
        program.solve("exact")
    assert "clarabel" in caught.value.alternatives
    assert program.solve().backend != "exact"


def test_unbounded_contract() -> None:
    c = contract(gain=mo.PiecewiseLinearGain([3, 2], [0, 1], 1))
    with pytest.raises(mo.Unbounded, match=r"type 0 .*lower the slope of the gain at infinity"):
        c.solve()
    solution = c.solve(on_failure="return")
    assert solution.status is mo.Status.UNBOUNDED
    assert "lower the slope" in solution.reason
    assert not solution.values
    for backend in ("clarabel", "highspy"):
        with pytest.raises(mo.Unbounded):
            c.solve(backend)
        assert c.solve(backend, on_failure="return").status is mo.Status.UNBOUNDED


def test_infeasible_additions_are_named() -> None:
    program = contract(4).program("local")
    program.add("budget", program["expected_payment"] <= 1)
    program.add("least data", program["quantity"] >= 100)
    with pytest.raises(mo.Infeasible) as caught:
        program.solve("clarabel")
    assert {"budget", "least data"} <= set(caught.value.families)
    assert program.solve("clarabel", on_failure="return").status is mo.Status.INFEASIBLE


def test_a_contract_cannot_be_changed() -> None:
    given = np.linspace(0.1, 0.3, 3)
    c = mo.ScreeningContract(types=given)
    given[0] = 5
    assert c.types[0] == 0.1
    for name in ("types", "probs", "cum_probs", "virtual_type"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(c, name)[0] = 1.0
    for name in ("types", "probs", "gain", "unit_cost"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(c, name, None)
    for menu in (c.solve(), c.solve("clarabel"), c.repair(c.solve())):
        for name in ("quantity", "payment", "rent"):
            with pytest.raises(ValueError, match="read-only"):
                menu[name][0] = 1.0
        with pytest.raises(dataclasses.FrozenInstanceError):
            menu.objective = 0.0  # type: ignore[misc]


def test_contract_and_menu_pickle() -> None:
    c = contract()
    menu = pickle.loads(pickle.dumps(c)).solve("clarabel")
    copy = pickle.loads(pickle.dumps(menu))
    np.testing.assert_array_equal(copy["quantity"], menu["quantity"])


def test_menu_as_a_table() -> None:
    frame = contract(4).solve().to_frame("quantity", "payment", "rent")
    assert list(frame.columns) == ["quantity", "payment", "rent"]
    assert len(frame) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"types": []}, "types is empty"),
        ({"types": [[0.1, 0.2]]}, r"types must be one-dimensional, got shape \(1, 2\)"),
        ({"types": 0.1}, "types must be one-dimensional"),
        ({"types": ["a"]}, "types must be numbers"),
        ({"types": [0.1, np.nan]}, r"types\[1\] is nan"),
        ({"types": [0.1, np.inf]}, r"types\[1\] is inf"),
        ({"types": [0.0, 0.1]}, r"types\[0\] = 0 must be > 0"),
        ({"types": [-0.2, 0.1]}, r"types\[0\] = -0.2 must be > 0"),
        ({"types": [0.1, 0.2, 0.2]}, r"types\[2\] = types\[1\] = 0.2; merge equal types"),
        ({"types": [0.1, 0.3, 0.2]}, r"strictly increasing, but types\[2\] = 0.2 follows 0.3"),
        ({"probs": [1.0]}, "probs has 1 entries for 2 types"),
        ({"probs": [0.5, 0.25, 0.25]}, "probs has 3 entries for 2 types"),
        ({"probs": [1.5, -0.5]}, r"probs\[1\] = -0.5 is negative"),
        ({"probs": [1.0, 0.0]}, r"probs\[1\] is 0; drop or merge"),
        ({"probs": [0.5, 0.5 + 2e-9]}, "probs must sum to 1"),
        ({"probs": [0.5, np.nan]}, r"probs\[1\] is nan"),
        ({"probs": "half"}, "probs must be numbers"),
        ({"gain": 100}, "gain must be a ConcaveFunction"),
        ({"gain": np.log1p}, "gain must be a ConcaveFunction"),
        ({"gain": None}, "gain must be a ConcaveFunction"),
        ({"unit_cost": 0}, "unit_cost must be a finite number > 0, got 0"),
        ({"unit_cost": -1.0}, "unit_cost must be"),
        ({"unit_cost": np.inf}, "unit_cost must be"),
        ({"unit_cost": np.nan}, "unit_cost must be"),
        ({"unit_cost": "1"}, "unit_cost must be"),
        ({"unit_cost": True}, "unit_cost must be"),
        ({"unit_cost": None}, "unit_cost must be"),
        ({"unit_cost": [1.0, 2.0]}, "unit_cost must be"),
        ({"unit_cost": 1 + 0j}, "unit_cost must be"),
    ],
)
def test_bad_parameters(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(mo.InvalidInput, match=words) as caught:
        mo.ScreeningContract(**{"types": [0.1, 0.2], **arguments})
    assert isinstance(caught.value, ValueError)


def test_probs_nearly_one_are_accepted() -> None:
    mo.ScreeningContract(types=[0.1, 0.2], probs=[0.5, 0.5 + 5e-10])


def test_a_linear_solver_names_who_can_take_the_log() -> None:
    with pytest.raises(mo.MissingCapability, match="EXP") as caught:
        contract().solve("highspy")
    assert "clarabel" in caught.value.alternatives


# ----------------------------------------------------------------------------------------------- essential


def test_essential_families_of_a_contract_with_a_budget() -> None:
    c = contract(5)
    program = c.program("local")
    program.add("budget", program["expected_payment"] <= 40)
    program.add("generous", program["payment"] <= 1e4)
    found = program.essential("clarabel")
    size = c.scales()[1]
    assert found["budget"].gain == pytest.approx(c.solve().objective - found.objective, abs=1e-5 * size)
    assert found["budget"].binding == 1
    assert found["generous"].binding == 0
    assert abs(found["generous"].gain) <= 1e-6 * size
    assert found["ir"].gain > 0.01 * size
    assert found["ic_up"].gain > 0.01 * size
    assert abs(found["ic_down"].gain) <= 1e-6 * size  # a regular contract: nothing tempts types downwards
    slack = program.solve("clarabel")
    program.drop("generous")
    assert program.solve("clarabel").objective == pytest.approx(slack.objective, abs=1e-6 * size)
    program.drop("budget")
    assert program.solve("clarabel").objective == pytest.approx(c.solve().objective, abs=1e-6 * size)


def test_downward_constraints_matter_where_types_are_pooled() -> None:
    gain = example_a().program("local").essential("clarabel")["ic_down"].gain
    assert gain == pytest.approx(173.0533 - 172.862405, abs=1e-3)
