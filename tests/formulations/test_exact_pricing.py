"""The backend ``exact`` on programs with bounds of the user's, against conic answers and their prices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mechopt as mo
from tests.oracles.screening import random_contract

BOUNDS: dict[str, Any] = {
    "budget": lambda p, s: p["expected_payment"] <= 0.7 * float(s["expected_payment"]),
    "cap": lambda p, s: p["payment"] <= 0.8 * float(s["payment"][0]),
    "least data": lambda p, s: p["expected_quantity"] >= 1.2 * float(s["expected_quantity"]),
    "floor": lambda p, s: p["quantity"] >= 0.9 * np.linspace(1.0, 0.5, s["quantity"].size) * s["quantity"][0],
}


def instances() -> list[mo.ScreeningContract]:
    rng = np.random.default_rng(11)
    drawn = (
        mo.ScreeningContract(**random_contract(rng, "log", n_types=int(k))) for k in rng.integers(2, 9, 40)
    )
    trading = [c for c in drawn if c.solve()["quantity"][-1] > 0]
    return trading[:8]


@pytest.mark.parametrize("form", ["reduced", "local"])
@pytest.mark.parametrize("bound", BOUNDS)
def test_bounds_are_priced_as_by_a_conic_solver(bound: str, form: Any) -> None:
    for contract in instances():
        base = contract.solve()
        program = contract.program(form)
        program.add("own", BOUNDS[bound](program, base))
        exact, conic = program.solve("exact"), program.solve("clarabel", tolerance=1e-7)
        size = abs(float(exact["expected_gain"])) + abs(float(exact["expected_payment"]))
        assert program.solve().backend == "exact"
        assert exact.status is mo.Status.OPTIMAL
        assert abs(exact.objective - conic.objective) <= 1e-7 * size
        price, other = np.asarray(exact.dual("own")), np.asarray(conic.dual("own"))
        assert price.shape == other.shape
        # Which entries of a vector carry the price is not unique where bounds are redundant; their worth is.
        worth = float(np.sum(np.abs(price))), float(np.sum(np.abs(other)))
        assert worth[0] == pytest.approx(worth[1], rel=1e-3, abs=1e-6)
        assert contract.audit(exact).ok(1e-12)


def test_several_bounds_together() -> None:
    contract = mo.ScreeningContract(types=[0.05, 0.1, 0.15, 0.2], probs=[0.4, 0.3, 0.2, 0.1])
    program = contract.program("local")
    program.add("budget", program["expected_payment"] <= 60).add("coverage", program["quantity"] >= 200)
    exact, conic = program.solve("exact"), program.solve("clarabel")
    assert exact.objective == pytest.approx(conic.objective, rel=1e-8)
    assert float(exact.dual("budget")) == pytest.approx(float(conic.dual("budget")), rel=1e-4)
    # Both highest types are at the floor, and quantities fall: only the sum of their prices is unique.
    total, other = (float(np.sum(answer.dual("coverage"))) for answer in (exact, conic))
    assert total == pytest.approx(other, rel=1e-4)
    with pytest.raises(
        mo.InvalidInput, match="no shadow price for 'ir'; this solution has prices for budget"
    ):
        exact.dual("ir")


@pytest.mark.parametrize(
    "own",
    [
        lambda p: p["payment"][0] <= 100,
        lambda p: p["expected_payment"] >= 10,
        lambda p: p["quantity"] <= 500,
        lambda p: 2 * p["expected_payment"] <= 80,
        lambda p: p["expected_payment"] <= p["expected_quantity"],
        lambda p: p["quantity"] >= -1,
    ],
    ids=["one entry", "other way", "ceiling", "multiple", "two sides", "negative"],
)
def test_what_it_cannot_read_it_refuses_by_name(own: Any) -> None:
    program = mo.ScreeningContract(types=[0.05, 0.1, 0.2]).program("local")
    program.add("own", own(program))
    with pytest.raises(mo.MissingCapability, match="a way to price family 'own'"):
        program.solve("exact")


def test_bounds_that_exclude_each_other_are_named() -> None:
    program = mo.ScreeningContract(types=[0.05, 0.1, 0.2]).program("local")
    program.add("money", program["expected_payment"] <= 10).add("records", program["quantity"] >= 300)
    with pytest.raises(mo.Infeasible) as caught:
        program.solve("exact")
    assert {"money", "records"} <= set(caught.value.families)
    solution = program.solve("exact", on_failure="return")
    assert solution.status is mo.Status.INFEASIBLE
    assert "no menu meets money and records together" in solution.reason


def test_a_kinked_gain_takes_one_bound() -> None:
    gain = mo.PiecewiseLinearGain(slopes=[30.0, 10.0, 0.0], intercepts=[0.0, 40.0, 120.0], scale=1.0)
    program = mo.ScreeningContract(types=[0.5, 1.0, 1.5], gain=gain).program("local")
    program.add("budget", program["expected_payment"] <= 1.0)
    assert program.solve("exact").objective == pytest.approx(program.solve("highspy").objective, rel=1e-9)
    program.add("records", program["expected_quantity"] >= 0.1)
    with pytest.raises(mo.MissingCapability, match="family 'records'"):
        program.solve("exact")
