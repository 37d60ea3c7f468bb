"""Contracts with gains and costs of the user's own: programs, exact algorithm, audit and repair agree."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from tests.oracles.screening import random_contract


def scale_of(c: mo.ScreeningContract, solution: mo.Solution) -> float:
    terms = abs(float(solution["expected_gain"])) + abs(float(solution["expected_payment"]))
    return max(terms, c.scales()[1])


def curved(seed: int, kind: str, curve: Any) -> mo.ScreeningContract:
    instance = random_contract(np.random.default_rng(seed), kind, 5)
    # A unit of burden that is of the size of the quantities.
    size = float(instance["gain"].natural_scale / instance["types"].mean())
    made = mo.PowerCost(curve, scale=size) if np.isscalar(curve) else mo.QuadraticCost(1.0, curve[0] / size)
    return mo.ScreeningContract(**instance, cost_curve=made)


@pytest.mark.parametrize("curve", [1.0, 1.5, 2.0, (0.3,)])
@pytest.mark.parametrize("kind", ["log", "power", "saturating", "quadratic", "piecewise"])
def test_programs_with_a_convex_cost_equal_the_exact_algorithm(kind: str, curve: Any) -> None:
    for seed in range(2):
        c = curved(seed, kind, curve)
        exact = c.solve()
        money = scale_of(c, exact)
        assert exact.backend == "exact"
        assert c.audit(exact).ok(1e-12)
        # The definition, without the audit's own arithmetic.
        burden = c.cost_curve(exact["quantity"])  # type: ignore[misc]
        table = exact["payment"][None, :] - c.unit_cost * c.types[:, None] * burden[None, :]
        assert np.max(table - np.diag(table)[:, None]) <= 1e-12 * max(exact["payment"].max(), 1e-9)
        for form in ("reduced", "local", "full"):
            program = c.program(form)
            solution = program.solve("clarabel", tolerance=1e-7)
            repaired = c.repair(solution, program=program)
            assert repaired.status is mo.Status.OPTIMAL, f"{form}: {repaired.reason}"
            assert c.audit(repaired).ok(1e-12)
            assert repaired.objective == pytest.approx(exact.objective, abs=1e-6 * money)


def test_linear_cost_is_no_curve() -> None:
    instance = random_contract(np.random.default_rng(3), "log", 6)
    plain = mo.ScreeningContract(**instance).solve()
    linear = mo.ScreeningContract(**instance, cost_curve=mo.PowerCost(1)).solve()
    np.testing.assert_allclose(linear["quantity"], plain["quantity"], rtol=1e-9)
    assert linear.objective == pytest.approx(plain.objective, rel=1e-12)


def test_closed_form_with_a_power_cost() -> None:
    c = mo.ScreeningContract(
        types=[0.1, 0.2, 0.3], gain=mo.PowerGain(10, 1, 0.5), cost_curve=mo.PowerCost(2, scale=50)
    )
    form = c.closed_form().require()
    np.testing.assert_allclose(form.quantity, c.solve()["quantity"], rtol=1e-12)
    with pytest.raises(mo.NotApplicable):
        mo.ScreeningContract(types=[0.1, 0.2], cost_curve=mo.PowerCost(2)).closed_form()


def test_a_convex_cost_under_bounds() -> None:
    c = curved(1, "log", 2.0)
    program = c.program()
    free = program.solve()
    assert free.backend == "exact"
    program.add("budget", program["expected_payment"] <= 0.5 * float(free["expected_payment"]))
    with pytest.raises(mo.MissingCapability, match="'budget'"):
        program.solve("exact")
    bound = program.solve("clarabel", tolerance=1e-8)
    assert bound.objective < free.objective
    repaired = c.repair(bound, program=program)
    assert repaired.status is mo.Status.OPTIMAL, repaired.reason
    small = c.program(max_menu_size=2).solve()
    assert small.backend == "outer"
    assert np.unique(c.repair(small, program=c.program(max_menu_size=2))["quantity"]).size <= 3


def test_cost_curve_is_checked() -> None:
    with pytest.raises(mo.InvalidInput, match=r"cost_curve must be a ConvexCost such as mo.PowerCost"):
        mo.ScreeningContract(types=[0.1], cost_curve=2)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------- gains


def own_gains() -> list[tuple[str, Any, Any]]:
    log = mo.LogGain(30, 0.7)
    return [
        ("atom", mo.AtomGain(lambda x: 30 * cp.log(1 + 0.7 * x), natural_scale=1 / 0.7), log),
        ("evaluated", mo.EvaluatedGain(log, log.derivative, natural_scale=1 / 0.7), log),
    ]


@pytest.mark.parametrize(("name", "own", "same"), own_gains(), ids=lambda x: x if isinstance(x, str) else "")
def test_own_gains_give_the_contract_of_the_gain_they_are(name: str, own: Any, same: Any) -> None:
    types = np.array([0.2, 0.35, 0.4, 0.9])
    probs = np.array([0.4, 0.1, 0.3, 0.2])
    c, known = (mo.ScreeningContract(types, probs, gain, unit_cost=2.0) for gain in (own, same))
    exact = known.solve()
    np.testing.assert_allclose(c.solve()["quantity"], exact["quantity"], rtol=1e-9)
    assert c.closed_form().valid == known.closed_form().valid
    for form in ("reduced", "local", "full"):
        program = c.program(form)
        backend = "outer" if name == "evaluated" else "clarabel"
        assert (mo.Capability.ORACLE in program.requires()) == (name == "evaluated")
        solution = program.solve(backend)
        repaired = c.repair(solution, program=program)
        assert repaired.status is mo.Status.OPTIMAL, repaired.reason
        assert repaired.objective == pytest.approx(exact.objective, abs=1e-6 * scale_of(known, exact))
        assert c.audit(repaired).ok(1e-12)


def test_an_evaluated_gain_goes_with_bounds_menus_and_curves() -> None:
    log = mo.LogGain(30, 0.7)
    own = mo.EvaluatedGain(log, log.derivative, natural_scale=1 / 0.7)
    types = [0.2, 0.35, 0.4, 0.9]
    for options, extra in (({}, "budget"), ({"max_menu_size": 2}, "budget"), ({"risk": mo.CVaR(0.5)}, "")):
        answers = []
        for gain in (own, log):
            program = mo.ScreeningContract(types, gain=gain).program(**options)
            if extra:
                program.add("budget", program["expected_payment"] <= 8)
            answers.append(program.solve("outer"))
        assert answers[0].objective == pytest.approx(answers[1].objective, rel=1e-6)
        if "max_menu_size" not in options and extra:
            assert float(answers[0].dual("budget")) == pytest.approx(
                float(answers[1].dual("budget")), rel=1e-3
            )
    curve = mo.PowerCost(2, scale=40)
    program = mo.ScreeningContract(types, gain=own, cost_curve=curve).program()
    exact = mo.ScreeningContract(types, gain=log, cost_curve=curve).solve()
    assert program.solve("outer").objective == pytest.approx(exact.objective, rel=1e-6)
    assert program.solve().backend == "exact"


def test_an_evaluated_gain_is_refused_by_conic_solvers() -> None:
    log = mo.LogGain(30, 0.7)
    own = mo.EvaluatedGain(log, log.derivative, natural_scale=1 / 0.7)
    with pytest.raises(mo.MissingCapability) as caught:
        mo.ScreeningContract([0.2, 0.4], gain=own).program().solve("clarabel")
    assert "ORACLE" in caught.value.missing
    assert "outer" in caught.value.alternatives


def test_gains_of_linear_pieces_are_known_by_their_kinks() -> None:
    pieces = mo.PiecewiseLinearGain([3, 1], [0, 4], 1)
    atom = mo.AtomGain(lambda x: cp.minimum(3 * x, x + 4), natural_scale=2)
    smooth = mo.AtomGain(lambda x: cp.log(1 + x))
    assert pieces.has_kinks
    assert atom.has_kinks
    assert not smooth.has_kinks
    assert not mo.PiecewiseLinearGain([3], [0], 1).has_kinks
    assert not mo.LogGain(1, 1).has_kinks
    program = mo.ScreeningContract([0.5, 1.0], gain=atom, unit_cost=2).program()
    program.add("budget", program["expected_payment"] <= 1)
    program.add("cap", program["payment"] <= 2)
    with pytest.raises(mo.MissingCapability, match="'cap'"):
        program.solve("exact")
