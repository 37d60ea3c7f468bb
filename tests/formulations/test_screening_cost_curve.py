"""Screening contract with convex costs: exact algorithm, closed form, programs written out in y = h(q)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

from mechopt.formulations.functions import (
    ConvexCost,
    LogGain,
    PiecewiseLinearGain,
    PowerCost,
    PowerGain,
    QuadraticCost,
    SaturatingGain,
)
from mechopt.formulations.screening.closed_form import closed_form
from mechopt.formulations.screening.exact import allocate, solve_exact, virtual_costs
from mechopt.solvers.errors import NotApplicable, Unbounded
from tests.oracles.screening import GAINS, pooled_reference_with_curve, random_contract


def random_curve(rng: np.random.Generator) -> ConvexCost:
    """Draw a power or quadratic cost that bends at quantities like those of `random_contract`."""
    if rng.uniform() < 0.5:
        return PowerCost(rng.choice([1.3, 2.0, 3.0]), 10 ** rng.uniform(-1, 2))
    return QuadraticCost(10 ** rng.uniform(-0.5, 0.5), 10 ** rng.uniform(-2, 1))


def instances(kind: str, number: int, seed: int = 0) -> list[tuple[dict[str, Any], ConvexCost]]:
    rng = np.random.default_rng(seed + sum(map(ord, kind)))
    return [(random_contract(rng, kind, int(rng.integers(1, 9))), random_curve(rng)) for _ in range(number)]


def utilities(contract: dict[str, Any], curve: ConvexCost, menu: Any) -> np.ndarray:
    """Utility of every type (row) from every contract (column)."""
    burden = contract["unit_cost"] * curve(menu.quantity)
    table: np.ndarray = menu.payment - np.multiply.outer(contract["types"], burden)
    return table


@pytest.mark.parametrize("kind", GAINS)
def test_exact_equals_the_min_max_formula_in_y(kind: str) -> None:
    pooled = 0
    for contract, curve in instances(kind, 40):
        menu = solve_exact(**contract, cost_curve=curve)
        quantity, payment, value = pooled_reference_with_curve(**contract, curve=curve)
        # Where f' is nearly flat (small amounts), the oracle's root is known to the rounding of f' only.
        atol = 1e-12 * max(float(quantity.max()), contract["gain"].natural_scale)
        np.testing.assert_allclose(menu.quantity, quantity, rtol=1e-10, atol=atol)
        np.testing.assert_allclose(menu.payment, payment, rtol=1e-10, atol=1e-11 * payment[0])
        assert menu.objective == pytest.approx(value, rel=1e-11, abs=1e-12 * payment[0])
        pooled += len(menu.pools)
    # Kinks and tops leave nothing to iron in many of them; the others need some.
    assert pooled >= 5


@pytest.mark.parametrize("kind", GAINS)
def test_menus_are_truthful_and_leave_the_last_type_nothing(kind: str) -> None:
    for contract, curve in instances(kind, 30, seed=1):
        menu = solve_exact(**contract, cost_curve=curve)
        table = utilities(contract, curve, menu)
        scale = menu.payment[0] + 1e-300
        assert (table - np.diag(table)[:, None]).max() <= 1e-13 * scale
        assert np.diag(table).min() >= -1e-13 * scale
        assert table[-1, -1] == pytest.approx(0, abs=1e-13 * scale)
        np.testing.assert_allclose(np.diag(table), menu.rent, atol=1e-13 * scale)
        assert np.all(np.diff(menu.quantity) <= 0)
        for start, stop in menu.pools:
            assert np.ptp(menu.payment[start:stop]) <= 1e-13 * scale


@pytest.mark.parametrize("kind", ["log", "power", "saturating", "quadratic", "piecewise"])
def test_exact_equals_a_program_in_y(kind: str) -> None:
    for contract, curve in instances(kind, 8, seed=2):
        types, probs, gain, c = (contract[key] for key in ("types", "probs", "gain", "unit_cost"))
        menu = solve_exact(**contract, cost_curve=curve)
        n = len(types)
        size = max(float(curve(menu.quantity.max())), 1e-3)
        y, payment = size * cp.Variable(n, nonneg=True), cp.Variable(n)
        data = cp.multiply(types, curve.inverse_expression(y, size=size))
        money = max(float(menu.payment[0]), 1e-3)
        objective = cp.Maximize((probs @ gain.expression(data)) / money - probs @ payment)
        # All pairs of incentive constraints, payments in units of the largest.
        cost = cp.multiply(c * types / money, y)
        others = cp.outer(c * types / money, y)
        pays = cp.reshape(payment, (1, n), order="C") - others
        own = cp.reshape(payment - cost, (n, 1), order="C")
        problem = cp.Problem(objective, [own >= pays, payment - cost >= 0])
        assert problem.is_dcp()
        value = money * float(problem.solve(solver=cp.CLARABEL))
        # Interior-point accuracy, relative to the money that changes hands.
        assert value == pytest.approx(menu.objective, abs=2e-6 * money)


def test_a_quantity_has_no_better_neighbour() -> None:
    rng = np.random.default_rng(5)
    for contract, curve in instances("log", 20, seed=3):
        menu = solve_exact(**contract, cost_curve=curve)
        types, probs, gain = contract["types"], contract["probs"], contract["gain"]
        cost = virtual_costs(types, probs, contract["unit_cost"])
        for spread in (0.0, 1e-3, 1e-1):
            factor = np.exp(spread * rng.normal(size=len(types)))
            trial = np.sort(menu.quantity * factor)[::-1]
            worth = float(probs @ gain(types * trial) - cost @ curve(trial))
            assert worth <= menu.objective + 1e-13 * abs(menu.payment).max()
            if not spread:
                assert worth == pytest.approx(menu.objective, rel=1e-11, abs=1e-13 * cost.max())


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize("kind", GAINS)
@pytest.mark.parametrize("curve", [PowerCost(1.0, 3.0), QuadraticCost(1.0, 0.0)], ids=["power", "quadratic"])
def test_linear_curve_changes_nothing(kind: str, curve: ConvexCost) -> None:
    for contract, _ in instances(kind, 25, seed=4):
        plain, curved = solve_exact(**contract), solve_exact(**contract, cost_curve=curve)
        atol = 1e-13 * max(float(plain.quantity.max()), contract["gain"].natural_scale)
        np.testing.assert_allclose(curved.quantity, plain.quantity, rtol=1e-12, atol=atol)
        np.testing.assert_allclose(curved.payment, plain.payment, rtol=1e-11, atol=1e-12 * plain.payment[0])
        assert curved.objective == pytest.approx(plain.objective, rel=1e-12)
        form = closed_form(**contract)
        same = closed_form(**contract, cost_curve=curve)
        np.testing.assert_allclose(same.quantity, form.quantity, rtol=1e-14)
        np.testing.assert_allclose(same.payment, form.payment, rtol=1e-14)
        assert same.valid == form.valid


def test_slope_of_a_linear_curve_is_a_unit_cost() -> None:
    contract, _ = instances("log", 1, seed=6)[0]
    dearer = contract | {"unit_cost": 3 * contract["unit_cost"]}
    curve = QuadraticCost(3.0, 0.0)
    np.testing.assert_allclose(
        solve_exact(**contract, cost_curve=curve).quantity, solve_exact(**dearer).quantity, rtol=1e-11
    )
    np.testing.assert_allclose(
        closed_form(**contract, cost_curve=curve).payment, closed_form(**dearer).payment, rtol=1e-12
    )


def test_other_units_of_data_change_nothing_else() -> None:
    # q in thousands: the gain's scale and the curve's scale move, and h is in thousands too.
    for contract, _ in instances("log", 20, seed=7):
        gain, c = contract["gain"], contract["unit_cost"]
        a = solve_exact(**contract, cost_curve=PowerCost(1.7, 40.0))
        thousands = contract | {"gain": LogGain(gain.weight, 1000 * gain.scale), "unit_cost": 1000 * c}
        b = solve_exact(**thousands, cost_curve=PowerCost(1.7, 0.04))
        np.testing.assert_allclose(1000 * b.quantity, a.quantity, rtol=1e-10, atol=1e-11 * a.quantity[0])
        np.testing.assert_allclose(b.payment, a.payment, rtol=1e-10, atol=1e-11 * a.payment[0])


def test_one_type_is_the_first_best() -> None:
    # c δ h'(q) = δ f'(δ q) with f = ω log(1 + x), h = q²: 2 c q (1 + δ q) = ω.
    omega, c, delta = 5.0, 0.7, 0.4
    menu = solve_exact([delta], [1.0], LogGain(omega, 1.0), c, cost_curve=PowerCost(2.0))
    q = (-1 + np.sqrt(1 + 2 * omega * delta / c)) / (2 * delta)
    assert menu.quantity[0] == pytest.approx(q, rel=1e-14)
    assert menu.payment[0] == pytest.approx(c * delta * q**2, rel=1e-14)


def test_first_records_that_cost_nothing_exclude_nobody() -> None:
    # With h'(0) = 0 any type is worth a little data, however small the gain.
    contract = {
        "types": np.array([0.5, 0.7, 0.9]),
        "probs": np.full(3, 1 / 3),
        "gain": LogGain(0.2, 1.0),
        "unit_cost": 1.0,
    }
    assert solve_exact(**contract).n_excluded == 3
    assert solve_exact(**contract, cost_curve=PowerCost(2.0)).n_excluded == 0
    assert solve_exact(**contract, cost_curve=QuadraticCost(1.0, 2.0)).n_excluded == 3


def test_a_curve_bounds_what_a_linear_gain_leaves_unbounded() -> None:
    contract = {
        "types": np.array([0.5, 0.6]),
        "probs": np.array([0.5, 0.5]),
        "gain": PiecewiseLinearGain([3.0], [0.0], 1.0),
        "unit_cost": 1.0,
    }
    with pytest.raises(Unbounded, match="grows without end"):
        solve_exact(**contract)
    # δ p 3 = B 2 q, B = (.25, .35).
    menu = solve_exact(**contract, cost_curve=PowerCost(2.0))
    np.testing.assert_allclose(menu.quantity, [0.75 / 0.5, 0.9 / 0.7], rtol=1e-14)
    with pytest.raises(Unbounded, match="grows without end"):
        solve_exact(**contract, cost_curve=PowerCost(1.0))


# ---------------------------------------------------------------- allocate


def test_floor_holds_and_is_optimal_above_it() -> None:
    for contract, curve in instances("log", 20, seed=8):
        types, probs, gain, c = (contract[key] for key in ("types", "probs", "gain", "unit_cost"))
        cost = virtual_costs(types, probs, c)
        free, _, _ = allocate(types, probs, gain, cost, cost_curve=curve)
        floor = np.full(len(types), float(np.median(free)))
        quantity, _, _ = allocate(types, probs, gain, cost, floor, cost_curve=curve)
        # A common floor only lifts what lies below it.
        atol = 1e-12 * max(float(free.max()), gain.natural_scale)
        np.testing.assert_allclose(quantity, np.maximum(free, floor), rtol=1e-10, atol=atol)


def test_batch_equals_one_contract_after_the_other() -> None:
    rng = np.random.default_rng(9)
    contract = random_contract(rng, "log", 7)
    probs = rng.dirichlet(np.full(7, 0.7), size=6) + 1e-3
    probs /= probs.sum(axis=1, keepdims=True)
    curve = QuadraticCost(0.5, 0.3)
    batch = solve_exact(contract["types"], probs, contract["gain"], 0.8, cost_curve=curve)
    for i, row in enumerate(probs):
        menu = solve_exact(contract["types"], row, contract["gain"], 0.8, cost_curve=curve)
        np.testing.assert_allclose(batch.quantity[i], menu.quantity, rtol=1e-12)
        np.testing.assert_allclose(batch.payment[i], menu.payment, rtol=1e-12)
        assert batch.objective[i] == pytest.approx(menu.objective, rel=1e-13)
    assert not batch.regular.all()


def test_many_types_meet_the_optimality_conditions() -> None:
    contract = random_contract(np.random.default_rng(11), "saturating", 3000)
    types, probs, gain = contract["types"], contract["probs"], contract["gain"]
    curve = PowerCost(2.0, 5.0)
    menu = solve_exact(**contract, cost_curve=curve)
    cost = virtual_costs(types, probs, contract["unit_cost"])
    net = probs * types * gain.derivative(types * menu.quantity) - cost * curve.derivative(menu.quantity)
    edges = [0, *(np.flatnonzero(np.diff(menu.quantity)) + 1), types.size]
    assert len(edges) > 5
    for start, stop in pairwise(edges):
        size = (cost * curve.derivative(menu.quantity))[start:stop].sum()
        running = np.cumsum(net[start:stop])
        assert running.max() <= 1e-9 * size
        assert abs(running[-1]) <= 1e-9 * size


# ---------------------------------------------------------------- closed form


@pytest.mark.parametrize("exponent", [1.2, 2.0, 4.0])
def test_power_gain_with_power_cost_has_a_closed_form(exponent: float) -> None:
    valid = 0
    for contract, _ in instances("power", 60, seed=10):
        curve = PowerCost(exponent, 7.0)
        form = closed_form(**contract, cost_curve=curve)
        menu = solve_exact(**contract, cost_curve=curve)
        assert form.valid == menu.regular
        if form.valid:
            valid += 1
            np.testing.assert_allclose(form.quantity, menu.quantity, rtol=1e-11)
            np.testing.assert_allclose(form.payment, menu.payment, rtol=1e-11)
            np.testing.assert_allclose(form.rent, menu.rent, rtol=1e-9, atol=1e-12 * menu.payment[0])
            assert form.objective == pytest.approx(menu.objective, rel=1e-11)
        else:
            assert form.reason_code == "non_monotone"
            assert form.objective >= menu.objective * (1 - 1e-12)
    assert 5 < valid < 60


def test_closed_form_meets_the_first_order_condition_by_hand() -> None:
    # f = 6 √x, h = q²: 3 δ / √(δ q) = 2 c δ q for the one type.
    form = closed_form([0.25], [1.0], PowerGain(6.0, 1.0, 0.5), 2.0, cost_curve=PowerCost(2.0))
    q = float(form.quantity[0])
    assert 3 * 0.25 / np.sqrt(0.25 * q) == pytest.approx(2 * 2.0 * 0.25 * q, rel=1e-14)
    assert form.payment[0] == pytest.approx(2.0 * 0.25 * q**2, rel=1e-14)


@pytest.mark.parametrize(
    ("gain", "curve"),
    [
        (LogGain(5.0, 1.0), PowerCost(2.0)),
        (SaturatingGain(5.0, 1.0), QuadraticCost(1.0, 1.0)),
        (PowerGain(5.0, 1.0, 0.5), QuadraticCost(1.0, 1.0)),
    ],
)
def test_other_pairs_have_no_closed_form(gain: Any, curve: ConvexCost) -> None:
    with pytest.raises(NotApplicable, match=f"{type(gain).__name__} and {type(curve).__name__}") as caught:
        closed_form([0.5], [1.0], gain, 1.0, cost_curve=curve)
    assert "exact algorithm" in caught.value.reason
