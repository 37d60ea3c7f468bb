"""Screening contract: closed form and exact algorithm against the paper's numbers and slow oracles."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad

from mechopt.formulations.functions import (
    LogGain,
    PiecewiseLinearGain,
    PowerGain,
    QuadraticGain,
    SaturatingGain,
)
from mechopt.formulations.menus import nearest_monotone, payments, rents, utility_matrix
from mechopt.formulations.screening import closed_form as oracle
from mechopt.formulations.screening.closed_form import closed_form
from mechopt.formulations.screening.exact import allocate, solve_exact, virtual_costs
from mechopt.solvers.errors import InvalidInput, NotApplicable, Unbounded
from tests.oracles.screening import GAINS, pooled_reference, random_contract

GAIN = LogGain(weight=100, scale=2)
LO, HI = 0.01, 0.21
PAPER = {"lo": LO, "hi": HI, "gain": GAIN, "unit_cost": 1.0}

# The paper's Figs. 2-4 as the specification's table: eps, q, u, gamma of the continuum of types.
FIGURES = np.array(
    [
        (0.01, 9950, 184.1563, 283.6563),
        (0.02, 3308.333, 129.5723, 195.7390),
        (0.03, 1983.333, 104.2338, 163.7338),
        (0.05, 1101.111, 75.0998, 130.1554),
        (0.06, 900.7576, 65.1575, 119.2029),
        (0.1, 521.3158, 38.0857, 90.2173),
        (0.11, 471.645, 33.1292, 85.0101),
        (0.15, 341.4943, 17.1456, 68.3697),
        (0.16, 319.4556, 13.8433, 64.9562),
        (0.21, 241.5215, 0, 50.7195),
    ]
)

EXAMPLE_A = {
    "types": np.array([1, 1.8, 1.9]),
    "probs": np.full(3, 1 / 3),
    "gain": LogGain(50, 2),
    "unit_cost": 1.0,
}
EXAMPLE_B = {
    "types": np.array([0.1, 0.2, 0.3]),
    "probs": np.array([0.64, 0.16, 0.2]),
    "gain": LogGain(5, 1),
    "unit_cost": 1.0,
}


def paper_contract(n_types: int, *, right: bool = False) -> dict[str, Any]:
    step = (HI - LO) / n_types
    types = LO + step * (np.arange(n_types) + right)
    return {"types": types, "probs": np.full(n_types, 1 / n_types), "gain": GAIN, "unit_cost": 1.0}


def instances(kind: str, number: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(sum(map(ord, kind)))
    return [random_contract(rng, kind) for _ in range(number)]


def worst_incentive(
    contract: dict[str, Any], quantity: np.ndarray, payment: np.ndarray
) -> tuple[float, float]:
    """Largest IC violation on the full matrix, and largest IR violation, each relative to the payments."""
    c, types = contract["unit_cost"], contract["types"]
    ic, ir = -np.inf, -np.inf
    for k in range(len(types)):
        utility = [payment[j] - c * types[k] * quantity[j] for j in range(len(types))]
        ic, ir = max(ic, max(utility) - utility[k]), max(ir, -utility[k])
    scale = max(float(payment.max()), np.finfo(float).tiny)
    return ic / scale, ir / scale


def value_of(contract: dict[str, Any], quantity: np.ndarray) -> float:
    """Demander's value of a menu of these quantities with the cheapest truthful payments."""
    gain, types, probs, c = (contract[key] for key in ("gain", "types", "probs", "unit_cost"))
    total, rent = 0.0, 0.0
    for k in reversed(range(len(types))):
        total += probs[k] * (float(gain(types[k] * quantity[k])) - c * types[k] * quantity[k] - rent)
        rent += c * (types[k] - types[k - 1]) * quantity[k]
    return total


# ---------------------------------------------------------------- the paper's numbers


def test_continuous_closed_form_reproduces_the_figures() -> None:
    eps, q, u, gamma = FIGURES.T
    np.testing.assert_allclose(oracle.uniform_quantity(eps, **PAPER), q, rtol=2e-7)
    np.testing.assert_allclose(oracle.uniform_rent(eps, **PAPER), u, atol=6e-5)
    np.testing.assert_allclose(oracle.uniform_payment(eps, **PAPER), gamma, atol=6e-5)
    assert oracle.uniform_value(**PAPER) == pytest.approx(369.789343, abs=5e-7)


@pytest.mark.parametrize("weight", [1.2, 1.8, 1.95, 20.0])
def test_continuous_closed_form_is_consistent(weight: float) -> None:
    lo, hi, gain, c = 0.1, 1.0, LogGain(weight, 1.0), 1.0
    cutoff = oracle.uniform_cutoff(lo, hi, gain, c)

    def q(eps: float) -> float:
        return float(oracle.uniform_quantity(eps, lo, hi, gain, c))

    def profit(eps: float) -> float:
        return float(gain(eps * q(eps)) - oracle.uniform_payment(eps, lo, hi, gain, c)) / (hi - lo)

    for eps in np.linspace(lo, hi, 7):
        envelope = c * quad(q, eps, cutoff, epsabs=1e-13, epsrel=1e-13)[0] if eps < cutoff else 0.0
        assert float(oracle.uniform_rent(eps, lo, hi, gain, c)) == pytest.approx(envelope, abs=1e-10)
    value = quad(profit, lo, cutoff, epsabs=1e-13, epsrel=1e-13)[0]
    assert oracle.uniform_value(lo, hi, gain, c) == pytest.approx(value, rel=1e-10)
    eps = np.linspace(lo, hi, 500)
    assert np.all(np.diff(oracle.uniform_quantity(eps, lo, hi, gain, c)) <= 0)


@pytest.mark.parametrize(("ratio", "cutoff"), [(1.2, 0.125), (1.8, 0.5), (1.95, 1.0), (1.0, 0.1), (0.5, 0.1)])
def test_cutoff_of_the_continuum(ratio: float, cutoff: float) -> None:
    gain = LogGain(ratio, 1.0)
    assert oracle.uniform_cutoff(0.1, 1.0, gain, 1.0) == pytest.approx(cutoff, rel=1e-14)
    above = np.linspace(cutoff, 1.0, 5)[1:] if ratio > 1 else np.linspace(0.1, 1.0, 5)
    if cutoff < 1:
        assert not oracle.uniform_quantity(above, 0.1, 1.0, gain, 1.0).any()
        assert not oracle.uniform_payment(above, 0.1, 1.0, gain, 1.0).any()
    assert (oracle.uniform_value(0.1, 1.0, gain, 1.0) > 0) == (ratio > 1)


def test_continuous_closed_form_refuses_levels_that_do_not_exist() -> None:
    with pytest.raises(InvalidInput, match=r"eps = 0\.3 lies outside"):
        oracle.uniform_quantity([0.1, 0.3], **PAPER)
    with pytest.raises(InvalidInput, match="lo = 0"):
        oracle.uniform_value(0.0, 1.0, GAIN, 1.0)
    # One rounding error beyond the end is the end.
    assert float(oracle.uniform_rent(np.nextafter(HI, 1), **PAPER)) == 0


@pytest.mark.parametrize("n_types", [5, 10, 20, 50, 400])
def test_paper_grid_lies_on_the_continuous_curve(n_types: int) -> None:
    contract = paper_contract(n_types)
    curve = oracle.uniform_quantity(contract["types"], **PAPER)
    np.testing.assert_allclose(closed_form(**contract).quantity, curve, rtol=1e-13)
    np.testing.assert_allclose(solve_exact(**contract).quantity, curve, rtol=1e-13)


@pytest.mark.parametrize(
    ("n_types", "value"), [(5, 379.8671), (10, 374.2929), (20, 371.8095), (50, 370.5178)]
)
def test_value_per_holder_on_the_paper_grid(n_types: int, value: float) -> None:
    contract = paper_contract(n_types)
    assert solve_exact(**contract).objective == pytest.approx(value, abs=6e-5)
    assert closed_form(**contract).objective == pytest.approx(value, abs=6e-5)


@pytest.mark.parametrize(
    ("n_types", "error"), [(50, 2.894), (100, 1.478), (400, 0.3754), (1600, 0.0942), (6400, 0.0236)]
)
def test_value_error_on_the_right_grid(n_types: int, error: float) -> None:
    # Finitely many types leave smaller rents than a continuum does.
    excess = solve_exact(**paper_contract(n_types, right=True)).objective - 369.789343
    assert excess == pytest.approx(error, rel=2e-3)


@pytest.mark.parametrize(
    ("n_types", "eps", "payment"),
    [
        (5, 0.01, 194.701),
        (5, 0.17, 51.015),
        (10, 0.01, 223.625),
        (10, 0.11, 77.988),
        (20, 0.01, 246.168),
        (20, 0.11, 81.472),
        (50, 0.01, 265.795),
        (50, 0.014, 221.493),
        (50, 0.11, 83.588),
        (50, 0.206, 50.744),
    ],
)
def test_payments_of_figure_4(n_types: int, eps: float, payment: float) -> None:
    contract = paper_contract(n_types)
    k = int(np.argmin(abs(contract["types"] - eps)))
    assert contract["types"][k] == pytest.approx(eps, rel=1e-12)
    assert closed_form(**contract).payment[k] == pytest.approx(payment, abs=6e-4)
    assert solve_exact(**contract).payment[k] == pytest.approx(payment, abs=6e-4)


def test_worked_example_with_uneven_types() -> None:
    form, menu = closed_form(**EXAMPLE_A), solve_exact(**EXAMPLE_A)
    np.testing.assert_allclose(form.virtual_type, [1, 2.6, 2.1], rtol=1e-14)
    np.testing.assert_allclose(form.quantity, [49.5, 18.953, 23.546], atol=5e-4)
    assert not form.valid
    assert form.objective == pytest.approx(173.0533, abs=5e-5)
    table = utility_matrix(EXAMPLE_A["types"], form.quantity, form.payment, 1.0)
    assert (table - np.diag(table)[:, None]).max() == pytest.approx(3.675, abs=5e-4)

    np.testing.assert_allclose(menu.quantity, [49.5, 21.00613, 21.00613], atol=5e-6)
    np.testing.assert_allclose(menu.payment, [68.40552, 39.91165, 39.91165], atol=5e-6)
    np.testing.assert_allclose(menu.rent, [18.90552, 2.10061, 0], atol=6e-6)
    assert menu.objective == pytest.approx(172.862405, abs=5e-7)
    assert (menu.pools.tolist(), menu.n_excluded, menu.regular) == ([[1, 3]], 0, False)


def test_worked_example_with_an_increasing_virtual_type() -> None:
    form, menu = closed_form(**EXAMPLE_B), solve_exact(**EXAMPLE_B)
    np.testing.assert_allclose(form.virtual_type, [0.1, 0.6, 0.7], rtol=1e-14)
    np.testing.assert_allclose(form.quantity, [40, 3.3333, 3.8095], atol=5e-5)
    assert form.objective == pytest.approx(2.9076685, abs=5e-8)
    assert (form.valid, form.reason_code) == (False, "non_monotone")
    np.testing.assert_allclose(menu.quantity, [40, 3.639873, 3.639873], atol=5e-7)
    assert menu.objective == pytest.approx(2.9068536, abs=5e-8)


# ---------------------------------------------------------------- what the closed form says about itself


def test_invalid_closed_form_says_why_and_can_refuse() -> None:
    form = closed_form(**EXAMPLE_A)
    assert "type 1" in form.reason
    assert "exact algorithm" in form.reason
    with pytest.raises(NotApplicable, match="does not apply") as caught:
        form.require()
    assert caught.value.reason == form.reason


def test_valid_closed_form_has_nothing_to_say() -> None:
    form = closed_form(**paper_contract(20))
    assert (form.valid, form.reason, form.reason_code, form.excluded) == (True, "", "", 0)
    assert form.require() is form
    np.testing.assert_array_equal(form.quantity, form.formula_quantity)


@pytest.mark.parametrize("gain", [LogGain(1.8, 1), SaturatingGain(1.8, 1), QuadraticGain(1.8, 1, 1)])
def test_negative_formula_is_clipped_and_still_optimal(gain: Any) -> None:
    types = np.linspace(0.1, 1.0, 40)
    contract = {"types": types, "probs": np.full(40, 1 / 40), "gain": gain, "unit_cost": 1.0}
    form, menu = closed_form(**contract), solve_exact(**contract)
    assert (form.valid, form.reason_code) == (True, "negative")
    assert 0 < form.excluded == menu.n_excluded == np.count_nonzero(form.formula_quantity < 0) < 40
    assert form.formula_quantity[-1] < 0 == form.quantity[-1]
    assert f"type {40 - form.excluded}" in form.reason
    np.testing.assert_allclose(form.quantity, menu.quantity, rtol=1e-12, atol=1e-13)


def test_gain_as_steep_as_the_cost_for_ever_is_unbounded() -> None:
    gain = PiecewiseLinearGain([3.0, 1.5], [0.0, 1.0], scale=1.0)
    contract = {"types": [1.0, 2.0], "probs": [0.5, 0.5], "gain": gain, "unit_cost": 1.0}
    with np.errstate(invalid="ignore"):
        form = closed_form(**contract)
    assert (form.valid, form.reason_code) == (False, "unbounded")
    with pytest.raises(Unbounded, match="type 0"):
        solve_exact(**contract)


# ---------------------------------------------------------------- random instances, all gains


@pytest.mark.parametrize("kind", GAINS)
def test_exact_equals_the_minmax_formula(kind: str) -> None:
    ironed = 0
    for contract in instances(kind, 200):
        menu = solve_exact(**contract)
        quantity, value = pooled_reference(**contract)
        scale = max(quantity.max(), np.finfo(float).tiny)
        np.testing.assert_allclose(menu.quantity, quantity, rtol=1e-12, atol=1e-12 * scale)
        assert menu.objective == pytest.approx(value, rel=1e-12, abs=0)
        assert value_of(contract, menu.quantity) == pytest.approx(value, rel=1e-12, abs=0)
        ironed += not menu.regular
    assert 50 < ironed < 190


@pytest.mark.parametrize("kind", GAINS)
def test_exact_equals_the_closed_form_where_that_is_valid(kind: str) -> None:
    valid = 0
    for contract in instances(kind, 200):
        form, menu = closed_form(**contract), solve_exact(**contract)
        assert form.valid == menu.regular
        if not form.valid:
            assert form.objective > menu.objective
            continue
        valid += 1
        # The formulas cancel at z = 0; there the digits are those of 1 / scale.
        digits = 1e-12 * (menu.quantity + contract["gain"].natural_scale / contract["types"])
        assert np.all(abs(form.quantity - menu.quantity) <= digits)
        assert form.excluded == menu.n_excluded
        np.testing.assert_allclose(form.payment, menu.payment, rtol=1e-12, atol=1e-12 * form.payment.max())
        np.testing.assert_allclose(form.rent, menu.rent, rtol=1e-12, atol=1e-12 * form.payment.max())
        assert form.objective == pytest.approx(menu.objective, rel=1e-12, abs=1e-12 * form.payment.max())
    assert valid > 10


@pytest.mark.parametrize("kind", GAINS)
def test_exact_menu_is_incentive_compatible_and_acceptable(kind: str) -> None:
    for contract in instances(kind, 200):
        menu = solve_exact(**contract)
        ic, ir = worst_incentive(contract, menu.quantity, menu.payment)
        assert ic <= 1e-12
        assert ir <= 1e-12
        assert np.all(np.diff(menu.quantity) <= 0)
        assert menu.quantity[-1] >= 0
        assert menu.rent[-1] == 0
        # Theorem 3: every local upward constraint binds.
        table = utility_matrix(contract["types"], menu.quantity, menu.payment, contract["unit_cost"])
        slack = np.diag(table)[:-1] - np.diag(table, 1)
        assert np.all(abs(slack) <= 1e-12 * menu.payment[0])


@pytest.mark.parametrize("kind", GAINS)
def test_no_monotone_menu_does_better(kind: str) -> None:
    rng = np.random.default_rng(7)
    for contract in instances(kind, 60):
        menu = solve_exact(**contract)
        n = len(menu.quantity)
        for spread in (1e-6, 1e-3, 0.1, 1.0):
            factor = np.exp(spread * rng.normal(size=n))
            shift = spread * rng.uniform(size=n) * (rng.uniform(size=n) < 0.3)
            trial = nearest_monotone(menu.quantity * factor + shift, np.ones(n))
            assert value_of(contract, trial) <= menu.objective + 1e-13 * abs(menu.payment).max()
        single = np.full(n, menu.quantity @ contract["probs"])
        assert value_of(contract, single) <= menu.objective * (1 + 1e-13)


@pytest.mark.parametrize("kind", GAINS)
def test_pools_and_exclusion_are_reported(kind: str) -> None:
    for contract in instances(kind, 100):
        menu = solve_exact(**contract)
        assert menu.n_excluded == np.count_nonzero(menu.quantity == 0)
        pooled = np.zeros(len(menu.quantity), dtype=bool)
        for start, stop in menu.pools:
            assert stop - start > 1
            assert np.ptp(menu.quantity[start:stop]) == 0 < menu.quantity[start]
            pooled[start:stop] = True
        own = contract["gain"].inverse_derivative(
            virtual_costs(contract["types"], contract["probs"], contract["unit_cost"])
            / (contract["types"] * contract["probs"])
        )
        alone = ~pooled & (menu.quantity > 0)
        np.testing.assert_allclose((contract["types"] * menu.quantity)[alone], own[alone], rtol=1e-12)


# ---------------------------------------------------------------- invariances and limits


@pytest.mark.parametrize("kind", ["log", "saturating"])
def test_effective_data_and_relative_payment_depend_on_the_ratio_only(kind: str) -> None:
    rng = np.random.default_rng(3)
    for contract in instances(kind, 50):
        gain, c = contract["gain"], contract["unit_cost"]
        scale, cost = 10 ** rng.uniform(-1, 1, 2)
        other = type(gain)(gain.weight * gain.scale / c * cost / scale, scale)
        a, b = solve_exact(**contract), solve_exact(**contract | {"gain": other, "unit_cost": cost})
        z = gain.scale * contract["types"] * a.quantity
        np.testing.assert_allclose(
            scale * contract["types"] * b.quantity, z, rtol=1e-11, atol=1e-12 * z.max()
        )
        np.testing.assert_allclose(
            b.payment / other.weight,
            a.payment / gain.weight,
            rtol=1e-11,
            atol=1e-12 * a.payment[0] / gain.weight,
        )


@pytest.mark.parametrize("kind", ["log", "power", "saturating"])
def test_money_in_another_unit(kind: str) -> None:
    for contract in instances(kind, 50):
        gain = contract["gain"]
        parameters = {key: getattr(gain, key) for key in gain.__dataclass_fields__}
        richer = type(gain)(**parameters | {"weight": 10 * gain.weight})
        a, b = (
            solve_exact(**contract),
            solve_exact(**contract | {"gain": richer, "unit_cost": 10 * contract["unit_cost"]}),
        )
        np.testing.assert_allclose(b.quantity, a.quantity, rtol=1e-12, atol=1e-13 * a.quantity[0])
        np.testing.assert_allclose(b.payment, 10 * a.payment, rtol=1e-12, atol=1e-12 * a.payment[0])
        assert b.objective == pytest.approx(10 * a.objective, rel=1e-12)


def test_a_type_cut_in_two_equal_halves_changes_almost_nothing() -> None:
    for contract in instances("log", 30):
        types, probs = contract["types"], contract["probs"]
        split = {"types": np.sort(np.append(types, types * (1 - 1e-9))), "probs": np.repeat(probs / 2, 2)}
        assert solve_exact(**contract | split).objective == pytest.approx(
            solve_exact(**contract).objective, rel=1e-6
        )


def test_one_type_is_the_first_best() -> None:
    gain, c = LogGain(3.0, 2.0), 0.5
    contract = {"types": [0.4], "probs": [1.0], "gain": gain, "unit_cost": c}
    for menu in (solve_exact(**contract), closed_form(**contract)):
        assert menu.quantity[0] == pytest.approx(3 / (c * 0.4) - 1 / (2 * 0.4))
        assert menu.payment[0] == pytest.approx(3 - c / 2)
        assert menu.rent[0] == 0
        assert menu.objective == pytest.approx(3 * np.log(12) - 3 + c / 2)
    assert solve_exact(**contract).pools.shape == (0, 2)


@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("n_types", [1, 7])
def test_nobody_trades_when_data_cost_more_than_they_bring(ratio: float, n_types: int) -> None:
    rng = np.random.default_rng(n_types)
    types, probs = np.sort(rng.uniform(0.1, 1, n_types)), rng.dirichlet(np.ones(n_types))
    for gain in (LogGain(ratio, 1), SaturatingGain(ratio, 1), QuadraticGain(ratio, 1, 1)):
        menu, form = (solver(types, probs, gain, 1.0) for solver in (solve_exact, closed_form))
        assert menu.objective == form.objective == 0
        assert menu.n_excluded == form.excluded == n_types
        assert not menu.quantity.any()
        assert not menu.payment.any()
        assert form.valid


def test_an_excluded_type_in_the_middle_is_ironed_exactly() -> None:
    # Type 1 alone would be shut out and type 2 served; together they are served, or shut out.
    types = np.array([0.5, 0.8, 0.81])
    for last, served in ((0.3, True), (0.02, False)):
        probs = np.array([0.9 - last, 0.1, last])
        contract = {"types": types, "probs": probs, "gain": LogGain(3.0, 1.0), "unit_cost": 1.0}
        form, menu = closed_form(**contract), solve_exact(**contract)
        assert form.formula_quantity[1] < 0
        quantity, value = pooled_reference(**contract)
        np.testing.assert_allclose(menu.quantity, quantity, rtol=1e-12)
        assert menu.objective == pytest.approx(value, rel=1e-12)
        assert (menu.quantity[1] > 0) == served
        assert menu.n_excluded == (0 if served else 2)


def test_optima_that_underflow_do_not_stop_the_search() -> None:
    contract = {
        "types": np.array([0.1, 0.2, 0.21, 0.22, 0.5]),
        "probs": np.array([0.5, 0.1, 0.1, 0.2, 0.1]),
        "gain": PowerGain(1.0, 1.0, 0.999),
        "unit_cost": 1.2,
    }
    menu = solve_exact(**contract)
    assert np.all(np.isfinite(menu.quantity))
    assert np.all(np.diff(menu.quantity) <= 0)
    assert menu.quantity[0] == pytest.approx((0.999 / 1.2) ** 1000 / 0.1, rel=1e-9)


@pytest.mark.parametrize("right", [False, True])
def test_many_types_converge_to_the_continuum_at_first_order(right: bool) -> None:
    errors = [
        abs(solve_exact(**paper_contract(2**j * 1000, right=right)).objective - 369.7893426)
        for j in range(1, 5)
    ]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all((orders > 0.9) & (orders < 1.1))


def test_large_pool_solves_the_continuous_ironing_condition() -> None:
    n = 4000
    types = np.linspace(LO, HI, n + 1)[1:]
    x = (types - LO) / (HI - LO)
    density = np.exp(-0.5 * ((x - 0.2) / 0.08) ** 2) + np.exp(-0.5 * ((x - 0.75) / 0.08) ** 2) + 1e-3
    probs = density / density.sum()
    menu = solve_exact(types, probs, GAIN, 1.0)
    assert len(menu.pools) == 1
    start, stop = menu.pools[0]
    assert 0.4 < (stop - start) / n < 0.55
    net = probs * types * GAIN.derivative(types * menu.quantity) - virtual_costs(types, probs, 1.0)
    running = np.cumsum(net[start:stop])
    size = abs(net[start:stop]).sum()
    assert abs(running[-1]) <= 1e-12 * size
    assert running.max() <= 1e-12 * size
    np.testing.assert_allclose(net[:start], 0, atol=1e-15)
    np.testing.assert_allclose(net[stop:], 0, atol=1e-15)


@pytest.mark.parametrize("kind", GAINS)
def test_optimality_conditions_with_thousands_of_noisy_types(kind: str) -> None:
    # In a run of equal quantities no prefix wants more (right derivative), no suffix less (left derivative).
    rng = np.random.default_rng(11)
    contract = random_contract(rng, kind, n_types=3000)
    types, probs, gain = contract["types"], contract["probs"], contract["gain"]
    menu = solve_exact(**contract)
    cost = virtual_costs(types, probs, contract["unit_cost"])
    more = probs * types * gain.derivative(types * menu.quantity * (1 + 1e-11)) - cost
    less = probs * types * gain.derivative(types * menu.quantity * (1 - 1e-11)) - cost
    edges = [0, *(np.flatnonzero(np.diff(menu.quantity)) + 1), types.size]
    assert len(edges) > 5
    for start, stop in pairwise(edges):
        size = cost[start:stop].sum()
        assert np.cumsum(more[start:stop]).max() <= 1e-9 * size
        if menu.quantity[start] > 0:
            assert np.cumsum(less[start:stop][::-1]).min() >= -1e-9 * size


def test_a_price_on_a_constraint_is_a_change_of_costs() -> None:
    # Twice the cost for the demander is the contract with twice the unit cost.
    contract = random_contract(np.random.default_rng(2), n_types=9)
    types, probs, gain = contract["types"], contract["probs"], contract["gain"]
    cost = virtual_costs(types, probs, contract["unit_cost"])
    quantity, _, _ = allocate(types, probs, gain, 2 * cost)
    dearer = solve_exact(**contract | {"unit_cost": 2 * contract["unit_cost"]})
    np.testing.assert_allclose(quantity, dearer.quantity, rtol=1e-13)


def test_arguments_may_be_lists_and_are_left_alone() -> None:
    types, probs = np.array([0.1, 0.2, 0.21]), np.array([0.2, 0.2, 0.6])
    before = types.copy(), probs.copy()
    from_arrays = solve_exact(types, probs, GAIN, 1.0)
    from_lists = solve_exact(types.tolist(), probs.tolist(), GAIN, 1.0)
    np.testing.assert_array_equal(from_arrays.payment, from_lists.payment)
    np.testing.assert_array_equal(types, before[0])
    np.testing.assert_array_equal(probs, before[1])


# ---------------------------------------------------------------- arithmetic of menus


def test_payments_are_truthful_exactly_for_monotone_quantities() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        n = int(rng.integers(2, 12))
        types, c = np.cumsum(rng.uniform(0.1, 1, n)), 10 ** rng.uniform(-1, 1)
        quantity = np.sort(rng.uniform(0, 10, n))[::-1]
        contract = {"types": types, "unit_cost": c}
        ic, ir = worst_incentive(contract, quantity, payments(types, quantity, c))
        assert max(ic, ir) <= 1e-13
        tangled = quantity[::-1].copy()
        assert worst_incentive(contract, tangled, payments(types, tangled, c))[0] > 1e-6


def test_rents_and_payments_by_hand() -> None:
    types, quantity = [1.0, 2.0, 4.0], [5.0, 3.0, 1.0]
    assert rents(types, quantity, 2.0).tolist() == [10.0, 4.0, 0.0]
    assert payments(types, quantity, 2.0).tolist() == [20.0, 16.0, 8.0]
    assert rents([3.0], [7.0], 2.0).tolist() == [0.0]


def test_utility_matrix_has_types_in_rows_and_contracts_in_columns() -> None:
    table = utility_matrix([1.0, 2.0], [5.0, 3.0, 0.0], [8.0, 6.0, 0.0], 1.0)
    assert table.tolist() == [[3.0, 3.0, 0.0], [-2.0, 0.0, 0.0]]


def test_nearest_monotone_is_a_weighted_projection() -> None:
    assert nearest_monotone([4.0, 1.0, 3.0, -1.0], [1, 3, 1, 1]).tolist() == [4.0, 1.5, 1.5, 0.0]
    rng = np.random.default_rng(5)
    for _ in range(20):
        q, w = rng.normal(1, 2, 8), rng.uniform(0.1, 1, 8)
        best = nearest_monotone(q, w)
        assert np.all(np.diff(best) <= 0)
        assert best[-1] >= 0
        for _ in range(20):
            other = np.sort(np.maximum(best + rng.normal(0, 0.3, 8), 0))[::-1]
            # The angle at a projection onto a convex set is obtuse.
            assert (w * (q - best)) @ (other - best) <= 1e-12
