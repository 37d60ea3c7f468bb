"""Screening contract with a continuum of types: against formulas, fine grids, and the definition."""

from __future__ import annotations

import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.optimize import brentq

import mechopt as mo
from mechopt.formulations.menus import utility_matrix
from mechopt.formulations.screening import closed_form as oracle
from mechopt.formulations.screening.continuous import ContinuousMenu
from mechopt.verification.audit import audit_choices

LO, HI = 0.01, 0.21
GAIN = mo.LogGain(weight=100, scale=2)
UNIFORM = stats.uniform(LO, HI - LO)

# The specification's table for the paper's figures: eps, q, u, gamma, each with its digits.
TABLE = """
.01 9950 184.1563 283.6563
.02 3308.333 129.5723 195.7390
.03 1983.333 104.2338 163.7338
.05 1101.111 75.0998 130.1554
.06 900.7576 65.1575 119.2029
.1 521.3158 38.0857 90.2173
.11 471.645 33.1292 85.0101
.15 341.4943 17.1456 68.3697
.16 319.4556 13.8433 64.9562
.21 241.5215 0 50.7195
"""


class Bumps(stats.rv_continuous):
    """Two normal bumps, as a user would write them."""

    def _pdf(self, x: Any) -> Any:
        return (stats.norm.pdf(x, 0.3, 0.05) + stats.norm.pdf(x, 0.7, 0.05)) / 2

    def _cdf(self, x: Any) -> Any:
        return (stats.norm.cdf(x, 0.3, 0.05) + stats.norm.cdf(x, 0.7, 0.05)) / 2


def beta(a: float, b: float, lo: float = 0.1, hi: float = 1.0) -> Any:
    return stats.beta(a, b, loc=lo, scale=hi - lo)


def bumps(*centres: float, sigma: float = 0.04) -> Any:
    weights = np.full(len(centres), 1 / len(centres))
    return stats.Mixture([stats.Normal(mu=m, sigma=sigma) for m in centres], weights=weights)


def steps(*heights: float) -> Any:
    return stats.rv_histogram((np.array(heights), np.linspace(0.1, 1.0, len(heights) + 1)), density=False)()


def contract(dist: Any, r: float = 20.0, **changes: Any) -> mo.ContinuousContract:
    return mo.ContinuousContract(dist, **{"lo": 0.1, "hi": 1.0, "gain": mo.LogGain(r, 1), **changes})


def paper() -> mo.ContinuousContract:
    return mo.ContinuousContract(UNIFORM, LO, HI, gain=GAIN)


REGULAR = {
    "uniform": stats.uniform(0.1, 0.9),
    "normal low": stats.norm(0.0, 0.3),
    "normal middle": stats.norm(0.55, 0.1),
    "normal high": stats.norm(1.2, 0.2),
    "exponential": stats.expon(scale=0.3),
    "beta(2, 2)": beta(2, 2),
    "beta(.5, 2)": beta(0.5, 2),
    "beta(5, 1)": beta(5, 1),
}
IRREGULAR = {
    "beta(.5, .5)": beta(0.5, 0.5),
    "beta(2, .5)": beta(2, 0.5),
    "two bumps": bumps(0.3, 0.7),
    "three bumps": bumps(0.2, 0.5, 0.85),
    "user's bumps": Bumps()(),
    "steps": steps(5, 1, 6, 2, 4),
}
EVERY = REGULAR | IRREGULAR
GAINS = {
    "power": mo.PowerGain(10, 1, 0.5),
    "saturating": mo.SaturatingGain(20, 1),
    "quadratic": mo.QuadraticGain(20, 4, 1),
    "piecewise": mo.PiecewiseLinearGain([12, 5, 2.2, 1.3, 0], [0, 3, 9, 14, 25], 1),
}


def certify(menu: ContinuousMenu, n: int = 800) -> None:
    """Hold a menu to the optimality conditions of the concave problem, on a grid."""
    c = menu.contract
    eps = np.union1d(np.linspace(c.lo, c.hi, n), menu._kinks)
    quantity, price = menu.quantity(eps), menu.ironing_multiplier(eps)
    money = c.unit_cost * c.hi
    assert np.all(np.diff(quantity) <= 1e-9 * quantity[:-1])
    assert quantity[-1] >= 0
    assert price.min() >= -1e-12 * money
    # Where the quantity falls, one more record to everybody below must be worth nothing.
    falls = np.zeros(eps.size, dtype=bool)
    falls[:-1] = np.diff(quantity) < 0
    assert np.abs(price[falls]).max(initial=0.0) <= 1e-12 * money
    if menu.cutoff == c.hi:
        assert abs(price[-1]) <= 1e-12 * money


def grid_value(c: mo.ContinuousContract, n_types: int) -> float:
    """Extrapolate the value of two fine grids, whose errors are of order one."""
    coarse, fine = (c.discretize(k).solve().objective for k in (n_types, 2 * n_types))
    return 2 * fine - coarse


# ------------------------------------------------------------ uniform types


def test_table_of_the_figures() -> None:
    menu = paper().solve()
    for line in TABLE.split("\n")[1:-1]:
        eps, *printed = line.split()
        for name, number in zip(("quantity", "rent", "payment"), printed, strict=True):
            digits = len(number.partition(".")[2])
            drawn = float(getattr(menu, name)(float(eps)))
            assert abs(drawn - float(number)) <= 0.5000001 * 10.0**-digits, (eps, name)
    assert round(menu.objective, 6) == 369.789343
    assert round(menu.contract.first_best, 4) == 430.3317
    assert round(menu.expected_rent, 4) == 44.9341
    assert round(menu.expected_payment, 4) == 99.0761
    assert round(menu.expected_quantity, 3) == 920.782


@pytest.mark.parametrize("r", [0.5, 1.0, 1.000001, 1.2, 1.8, 1.9, 1.95, 3.0, 200.0, 1e6])
@pytest.mark.parametrize(("lo", "hi"), [(0.1, 1.0), (0.01, 0.21), (0.001, 5.0), (1.0, 1.001)])
def test_uniform_closed_forms(r: float, lo: float, hi: float) -> None:
    gain, cost = mo.LogGain(3 * r, 0.5), 1.5
    menu = mo.ContinuousContract(stats.uniform(lo, hi - lo), lo, hi, gain=gain, unit_cost=cost).solve()
    eps = np.linspace(lo, hi, 301)
    numbers = (lo, hi, gain, cost)
    assert menu.regular
    assert not menu.pools
    assert menu.cutoff == pytest.approx(oracle.uniform_cutoff(*numbers), rel=1e-12)
    size = max(float(oracle.uniform_payment(lo, *numbers)), 1e-300)
    assert menu.objective == pytest.approx(oracle.uniform_value(*numbers), rel=1e-10, abs=1e-12 * gain.weight)
    # What the kinked end of a nearly empty menu costs in digits is relative to the gain's weight.
    slack = 1e-10 * size + 1e-15 * gain.weight
    np.testing.assert_allclose(menu.rent(eps), oracle.uniform_rent(eps, *numbers), rtol=0, atol=slack)
    np.testing.assert_allclose(menu.payment(eps), oracle.uniform_payment(eps, *numbers), rtol=0, atol=slack)
    quantity = oracle.uniform_quantity(eps, *numbers)
    data = 1e-12 * (float(quantity.max()) + gain.natural_scale / lo)
    np.testing.assert_allclose(menu.quantity(eps), quantity, rtol=0, atol=data)
    certify(menu)


@pytest.mark.parametrize(("r", "cutoff"), [(1.2, 0.125), (1.8, 0.5), (1.95, 1.0)])
def test_example_c_excludes_high_types(r: float, cutoff: float) -> None:
    menu = contract(stats.uniform(0.1, 0.9), r).solve()
    assert menu.cutoff == pytest.approx(cutoff, rel=1e-13)
    above = np.linspace(cutoff, 1, 50)[1:]
    if cutoff < 1:
        assert not menu.quantity(above).any()
        assert not menu.payment(above).any()
        assert menu.contract.closed_form().reason_code == "negative"
    assert menu.quantity(cutoff * 0.999) > 0


@pytest.mark.parametrize(
    "name", [n for n in REGULAR if n not in ("normal middle", "beta(2, 2)", "beta(.5, 2)")]
)
def test_expected_payment_identity(name: str) -> None:
    """E[payment] = weight - cost / scale * E[s] where the formula holds for all types."""
    c = contract(REGULAR[name], 200.0)
    menu = c.solve()
    assert menu.regular
    assert menu.cutoff == c.hi
    # E[s] = 1 + ∫ F / eps, which needs no density.
    ratio = 1 + quad(lambda e: float(c.cdf(e)) / e, c.lo, c.hi, epsabs=1e-13, epsrel=1e-13, limit=200)[0]
    assert menu.expected_payment == pytest.approx(200 - ratio, rel=1e-12)


# ------------------------------------------------------------ any density


@pytest.mark.parametrize("r", [1.5, 20.0, 200.0])
@pytest.mark.parametrize("name", EVERY)
def test_optimality_conditions(name: str, r: float) -> None:
    menu = contract(EVERY[name], r).solve()
    certify(menu)
    assert menu.regular == (name in REGULAR)
    assert 0 <= menu.objective <= menu.contract.first_best
    assert menu.objective + menu.expected_payment >= 0
    assert menu.audit(150).relative <= 1e-13
    for before, after in pairwise(menu.pools):
        assert before.stop <= after.start
        assert before.quantity > after.quantity


@pytest.mark.parametrize("name", EVERY)
def test_fine_grids_converge_to_the_value(name: str) -> None:
    c = contract(EVERY[name])
    menu = c.solve()
    errors = [c.discretize(k).solve().objective - menu.objective for k in (100_000, 200_000)]
    # A density that jumps or is infinite leaves the first order its constant but not its smooth remainder.
    assert 0.9 < np.log2(errors[0] / errors[1]) < 1.1
    assert abs(2 * errors[1] - errors[0]) < 1e-6 * menu.objective
    assert abs(errors[1]) < 1e-4 * menu.objective


@pytest.mark.parametrize("name", IRREGULAR)
def test_pools_of_fine_grids(name: str) -> None:
    c = contract(IRREGULAR[name])
    menu, grid = c.solve(), c.discretize(100_000)
    solution = grid.solve()
    width = 0.9 / grid.n_types
    # Tiny pools on the grid come from rounding in flat places.
    found = [(a, b) for a, b in solution.extra["pools"] if b - a > 10]
    assert len(found) == len(menu.pools) > 0
    for (first, stop), pool in zip(found, menu.pools, strict=True):
        assert grid.types[first] == pytest.approx(pool.start, abs=20 * width)
        assert grid.types[stop - 1] == pytest.approx(pool.stop, abs=20 * width)
        assert solution["quantity"][first] == pytest.approx(pool.quantity, rel=1e-3)


@pytest.mark.parametrize("r", [3.0, 20.0, 200.0])
def test_one_sided_pool_against_the_arcsine_law(r: float) -> None:
    """Beta(.5, .5): with ε = lo + w sin²(θ) the law of θ is uniform, and all integrals are smooth."""
    lo, w = 0.1, 0.9

    def formula(theta: float) -> float:
        eps = lo + w * np.sin(theta) ** 2
        hazard = 2 * theta * w * np.sin(theta) * np.cos(theta)
        return r / (eps + hazard) - 1 / eps

    def net(theta: float) -> float:
        q, start = formula(theta), lo + w * np.sin(theta) ** 2

        def gain(t: float) -> float:
            eps = lo + w * np.sin(t) ** 2
            return eps * r / (1 + eps * q) * 2 / np.pi

        earned = quad(gain, theta, np.pi / 2, epsabs=1e-14, epsrel=1e-14)[0]
        return earned - (1.0 - start * theta * 2 / np.pi)

    theta = brentq(net, 0.3, 1.25, xtol=1e-15, rtol=1e-15)
    (pool,) = contract(beta(0.5, 0.5), r).solve().pools
    assert pool.stop == 1.0
    assert pool.start == pytest.approx(lo + w * np.sin(theta) ** 2, rel=1e-12)
    assert pool.quantity == pytest.approx(formula(theta), rel=1e-12)


@pytest.mark.parametrize("name", ["two bumps", "three bumps", "user's bumps"])
def test_pools_balance_by_plain_quadrature(name: str) -> None:
    c = contract(IRREGULAR[name])
    menu = c.solve()
    assert menu.pools
    for start, stop, quantity in menu.pools:

        def net(eps: float, q: float = quantity) -> float:
            gain = eps * float(c.gain.derivative(eps * q))
            return float((gain - c.virtual_type(eps)) * c.pdf(eps))

        assert abs(quad(net, start, stop, epsabs=1e-13, epsrel=1e-13, limit=400)[0]) < 1e-12
        for end in (start, stop):
            assert float(c.formula_quantity(end)) == pytest.approx(quantity, rel=1e-11)
        eps = np.linspace(start, stop, 9)[1:-1]
        prices = [-quad(net, start, e, epsabs=1e-13, epsrel=1e-13, limit=400)[0] for e in eps]
        np.testing.assert_allclose(menu.ironing_multiplier(eps), prices, rtol=0, atol=1e-12)
        assert min(prices) > 0


@pytest.mark.parametrize("name", ["beta(2, 2)", "beta(.5, .5)", "two bumps", "steps"])
def test_no_monotone_perturbation_improves(name: str) -> None:
    c = contract(EVERY[name], 5.0)
    menu, rng = c.solve(), np.random.default_rng(7)
    share = (np.arange(4000) + 0.5) / 4000
    eps = c.ppf(share)
    own = menu.quantity(eps)
    hazard = c.virtual_type(eps) - eps

    def value(quantity: np.ndarray) -> float:
        return float(np.mean(c.gain(eps * quantity) - (eps + hazard) * quantity))

    # Sampled at the midpoints of 4000 equally likely cells, which the tolerance allows for.
    for _ in range(20):
        other = np.sort(rng.uniform(0, own.max() * rng.uniform(0.2, 1.2), 6))[::-1]
        other = other[np.sort(rng.integers(0, 6, eps.size))]
        assert value(0.9 * own + 0.1 * other) < value(own) + 1e-6
        bent = np.minimum.accumulate(
            np.maximum(own + 0.05 * own.max() * rng.normal(size=eps.size).cumsum() / 60, 0)
        )
        assert value(bent) < value(own) + 1e-6


@pytest.mark.parametrize("name", ["uniform", "normal high", "beta(2, 2)", "beta(.5, .5)", "steps"])
def test_value_from_payments(name: str) -> None:
    """The value of the reduced problem is what the payments leave, integrated over shares of types."""
    menu = contract(EVERY[name]).solve()
    c = menu.contract
    breaks = np.unique(np.concatenate([c.cdf(menu._kinks), c.cdf(np.linspace(0.1, 1.0, 6)), [0.001, 0.999]]))

    def mean(function: Any) -> float:
        def integrand(t: float, a: float, b: float) -> float:
            # Flattens the ends of each interval, where the quantile function has infinite slopes.
            share = a + (b - a) * t**3 * (10 - 15 * t + 6 * t * t)
            return function(float(c.ppf(min(share, 1.0)))) * (b - a) * 30 * (t * (1 - t)) ** 2

        return sum(quad(integrand, 0, 1, args=ab, epsabs=1e-12, epsrel=1e-12)[0] for ab in pairwise(breaks))

    assert mean(lambda e: float(c.gain(e * menu.quantity(e)) - menu.payment(e))) == pytest.approx(
        menu.objective, rel=1e-10
    )


def test_envelope() -> None:
    """Slope of the rent: minus cost times quantity."""
    menu = contract(beta(0.5, 0.5)).solve()
    eps, h = np.linspace(0.12, 0.98, 60), 1e-5
    slope = (menu.rent(eps + h) - menu.rent(eps - h)) / (2 * h)
    np.testing.assert_allclose(slope, -menu.quantity(eps), rtol=1e-4)
    assert menu.rent(1.0) == 0


def test_rising_formula_is_not_incentive_compatible() -> None:
    c = contract(beta(0.5, 0.5))
    form = c.closed_form()
    assert not form.valid
    assert form.reason_code == "non_monotone"
    low, high = form.witness
    assert low < high
    assert form.quantity(low) < form.quantity(high)
    with pytest.raises(mo.NotApplicable, match="rises"):
        form.require()
    eps = np.linspace(0.1, 1, 400)
    quantity = c.formula_quantity(eps)
    steps = (quantity[1:] + quantity[:-1]) / 2 * np.diff(eps)
    payment = eps * quantity + np.append(steps[::-1].cumsum()[::-1], 0)
    assert audit_choices(utility_matrix(eps, quantity, payment, 1.0)).ic_violation > 0.1


def test_any_monotone_quantity_with_envelope_payments_is_incentive_compatible() -> None:
    """Proposition 1 with jumps and flat parts, at the level of functions of the type."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        jumps, levels = np.sort(rng.uniform(0.1, 1, 7)), np.append(np.sort(rng.uniform(0, 50, 7))[::-1], 0.0)
        eps = np.sort(rng.uniform(0.1, 1, 200))
        ends = np.concatenate([[0.1], jumps, [1.0]])
        rent = np.array([np.sum(levels * np.clip(ends[1:] - np.maximum(ends[:-1], e), 0, None)) for e in eps])
        quantity = levels[np.searchsorted(jumps, eps)]
        table = utility_matrix(eps, quantity, eps * quantity + rent, 1.0)
        assert audit_choices(table).relative <= 1e-12


def test_regularity_is_tested_on_the_quantity() -> None:
    """A virtual ratio that falls somewhere may still leave quantities that never rise."""
    c = contract(stats.norm(0.9, 0.2), 20.0)
    ratio = c.virtual_ratio(np.linspace(0.1, 1, 500))
    assert np.diff(ratio).min() < 0
    assert c.closed_form().valid
    certify(c.solve())


# ------------------------------------------------------------ other gains


@pytest.mark.parametrize("kind", GAINS)
@pytest.mark.parametrize("name", ["uniform", "beta(2, 2)", "beta(.5, .5)", "two bumps", "steps"])
def test_other_gains(name: str, kind: str) -> None:
    c = contract(EVERY[name], gain=GAINS[kind])
    menu = c.solve()
    certify(menu)
    assert menu.regular == c.closed_form().valid
    assert menu.audit(100).relative <= 1e-12
    assert grid_value(c, 40_000) == pytest.approx(menu.objective, rel=1e-5)
    # The formula is where the marginal gain meets the virtual cost.
    eps = np.linspace(0.11, 0.99, 80)
    amount = eps * c.formula_quantity(eps)
    above, ratio = c.gain.derivative(amount * (1 + 1e-9)), c.virtual_ratio(eps)
    served = amount > 0
    assert np.all(above[served] <= ratio[served] * (1 + 1e-12))
    assert np.all(c.gain.derivative(amount * (1 - 1e-9))[served] >= ratio[served] * (1 - 1e-12))


@pytest.mark.parametrize("exponent", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("name", EVERY)
def test_power_gain_is_regular_where_its_index_never_falls(name: str, exponent: float) -> None:
    c = contract(EVERY[name], gain=mo.PowerGain(10, 1, exponent))
    eps = c._scan.nodes
    index = c.virtual_type(eps) / eps**exponent
    rises_only = bool(np.all(index >= np.maximum.accumulate(index) * (1 - 1e-10)))
    assert c.closed_form().valid == rises_only


def test_kinks_hold_the_amount_not_the_quantity() -> None:
    menu = contract(stats.uniform(0.1, 0.9), gain=GAINS["piecewise"]).solve()
    eps = np.linspace(0.1, 1, 500)
    amount = np.unique((eps * menu.quantity(eps)).round(9))
    assert set(amount) <= {0.0, 0.428571429, 2.142857143, 5.555555556, 8.461538462}
    assert np.all(np.diff(menu.quantity(eps)) < 0)


# ------------------------------------------------------------ grids


@pytest.mark.parametrize("grid", ["paper", "right"])
def test_grids_of_the_paper(grid: str) -> None:
    c = paper()
    menu, sizes = c.solve(), (50, 100, 400, 1600, 6400)
    payments, values = [], []
    for n_types in sizes:
        discrete = c.discretize(n_types, grid)
        solution = discrete.solve()
        payments.append(np.abs(solution["payment"] - menu.payment(discrete.types)).max())
        values.append(solution.objective - menu.objective)
        same = np.abs(solution["quantity"] / menu.quantity(discrete.types) - 1).max()
        assert (same < 1e-12) == (grid == "paper")
    if grid == "paper":
        np.testing.assert_allclose(payments, [17.861, 9.537, 2.506, 0.6344, 0.15908], atol=5e-4)
        np.testing.assert_allclose(values, [0.7284, 0.3486, 0.0841, 0.0208, 0.00519], atol=5e-5)
    else:
        np.testing.assert_allclose(values, [2.894, 1.478, 0.3754, 0.0942, 0.0236], atol=5e-4)
    orders = -np.diff(np.log(np.abs([payments, values])), axis=1) / np.diff(np.log(sizes))
    assert np.all(np.abs(orders[:, -1] - 1) < 0.02)


@pytest.mark.parametrize("grid", ["paper", "right"])
@pytest.mark.parametrize("name", ["paper", "beta(2, 2)", "normal middle"])
def test_grid_values_converge_at_order_one(name: str, grid: str) -> None:
    c = paper() if name == "paper" else contract(EVERY[name])
    exact = c.solve().objective
    # From cells of at most half the lowest type on, over three doublings.
    sizes = [800 * 2**i for i in range(4)]
    errors = np.abs([c.discretize(n, grid).solve().objective - exact for n in sizes])
    assert np.all(np.abs(np.log2(errors[:-1] / errors[1:]) - 1) < 0.1)


def test_beta_on_fine_grids() -> None:
    c = contract(beta(2, 2))
    exact = c.solve().objective
    errors = [c.discretize(n).solve().objective - exact for n in (100_000, 200_000, 400_000)]
    np.testing.assert_allclose(errors, [1.81e-4, 9.05e-5, 4.52e-5], rtol=2e-3)


def test_realised_values_of_the_paper() -> None:
    c = paper()
    for n_types, on_paper, on_right in (
        (5, "289.87", "366.54"),
        (10, "330.54", "368.65"),
        (50, "362.30", "369.73"),
        (200, "367.95", "369.785"),
    ):
        for grid, printed in (("paper", on_paper), ("right", on_right)):
            digits = len(printed.partition(".")[2])
            value = c.realised_value(c.discretize(n_types, grid).solve())
            assert round(value, digits) == float(printed)


@pytest.mark.parametrize("grid", ["paper", "right"])
@pytest.mark.parametrize("name", ["uniform", "beta(2, 2)", "beta(.5, .5)", "normal low"])
def test_types_off_the_grid_take_the_next_higher_contract(name: str, grid: str) -> None:
    c = contract(EVERY[name])
    discrete = c.discretize(40, grid)
    solution = discrete.solve()
    quantity, payment = np.append(solution["quantity"], 0.0), np.append(solution["payment"], 0.0)
    eps = np.random.default_rng(1).uniform(0.1, 1, 3000)
    utility = utility_matrix(eps, quantity, payment, 1.0)
    rule = np.searchsorted(discrete.types, eps)
    assert np.all(utility.max(axis=1) - utility[np.arange(eps.size), rule] <= 1e-13 * payment.max())
    # The value, cell by cell, by plain quadrature in shares of types.
    ends = np.concatenate([[0.1], discrete.types, [1.0]])
    total = 0.0
    for k, (a, b) in enumerate(pairwise(ends)):
        if b > a and quantity[k] > 0:
            shares = float(c.cdf(a)), float(c.cdf(b))
            gain = quad(lambda u, k=k: float(c.gain(c.ppf(u) * quantity[k])), *shares, epsabs=1e-10)[0]
            total += gain - payment[k] * (shares[1] - shares[0])
    value = c.realised_value(solution)
    assert value == pytest.approx(total, rel=1e-8)
    assert value < c.solve().objective
    if grid == "paper":
        assert not np.any(utility.argmax(axis=1) == 0)


def test_realised_value_of_any_menu() -> None:
    c = contract(stats.uniform(0.1, 0.9))
    menu = {"quantity": [5.0, 20.0, 1.0, 7.0], "payment": [3.0, 6.0, 0.9, 1.0]}
    eps = np.linspace(0.1, 1, 900_001)
    eps = (eps[1:] + eps[:-1]) / 2
    utility = utility_matrix(eps, [*menu["quantity"], 0.0], [*menu["payment"], 0.0], 1.0)
    taken = utility.argmax(axis=1)
    gain = c.gain(eps * np.append(menu["quantity"], 0.0)[taken]) - np.append(menu["payment"], 0.0)[taken]
    assert c.realised_value(menu) == pytest.approx(float(gain.mean()), rel=1e-5)
    assert c.realised_value({"quantity": [0.0], "payment": [0.0]}) == 0


def test_probabilities_of_cells() -> None:
    c = contract(beta(0.5, 2))
    for grid in ("right", "paper"):
        discrete = c.discretize(64, grid)
        edges = np.linspace(0.1, 1, 65)
        np.testing.assert_allclose(discrete.probs, np.diff(beta(0.5, 2).cdf(edges)), rtol=1e-11)
        assert discrete.types[0] == (edges[1] if grid == "right" else 0.1)
        assert discrete.types[-1] == (1.0 if grid == "right" else edges[-2])


def test_from_distribution() -> None:
    made = mo.ScreeningContract.from_distribution(UNIFORM, LO, HI, 50, grid="paper", gain=GAIN, unit_cost=1.0)
    assert made.solve().objective == pytest.approx(370.5178, abs=5e-5)
    assert made.n_types == 50
    assert mo.ScreeningContract.from_distribution(UNIFORM, LO, HI, 50).types[-1] == HI


# ------------------------------------------------------------ limits and symmetries


def test_types_nearly_known_approach_the_first_best() -> None:
    losses = []
    for spread in (1e-2, 1e-3, 1e-4, 1e-6):
        c = mo.ContinuousContract(stats.norm(0.1, spread), LO, HI, gain=GAIN)
        menu = c.solve()
        certify(menu)
        losses.append(c.first_best - menu.objective)
    assert np.all(np.diff(losses) < 0)
    assert 0 < losses[-1] < 1e-2


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("r", [0.3, 1.0])
def test_nobody_trades_if_the_first_record_costs_more_than_it_brings(name: str, r: float) -> None:
    menu = contract(EVERY[name], r).solve()
    assert menu.cutoff == 0.1
    assert menu.objective == menu.expected_payment == menu.expected_rent == 0
    assert not menu.quantity(np.linspace(0.1, 1, 30)).any()
    assert not menu.pools
    certify(menu)


@pytest.mark.parametrize("name", ["beta(2, 2)", "beta(.5, .5)", "steps"])
def test_units(name: str) -> None:
    """Other units of money, of data and of privacy change the numbers, and nothing else."""
    base = contract(EVERY[name]).solve()
    eps = np.linspace(0.1, 1, 57)
    for money, data in ((10.0, 1.0), (1e-6, 1.0), (1.0, 1e4), (1e5, 1e-3)):
        # A record of the old size is ``data`` of the new ones.
        gain, cost = mo.LogGain(20 * money, 1 / data), money / data
        menu = contract(EVERY[name], gain=gain, unit_cost=cost).solve()
        np.testing.assert_allclose(menu.quantity(eps), data * base.quantity(eps), rtol=1e-11)
        np.testing.assert_allclose(menu.payment(eps), money * base.payment(eps), rtol=1e-11)
        assert menu.objective == pytest.approx(money * base.objective, rel=1e-12)


def test_units_of_privacy() -> None:
    base, other = (
        contract(beta(0.5, 0.5)).solve(),
        contract(beta(0.5, 0.5, 7.0, 70.0), lo=7.0, hi=70.0).solve(),
    )
    eps = np.linspace(0.1, 1, 57)
    np.testing.assert_allclose(other.quantity(70 * eps), base.quantity(eps) / 70, rtol=1e-11)
    assert other.objective == pytest.approx(base.objective, rel=1e-12)


def test_only_types_weights_and_r_matter() -> None:
    """Privacy-weighted data and payments over the weight depend on r = weight * scale / cost alone."""
    eps, base = np.linspace(0.1, 1, 40), contract(beta(2, 0.5), 20.0).solve()
    other = contract(beta(2, 0.5), gain=mo.LogGain(7, 40), unit_cost=14.0).solve()
    np.testing.assert_allclose(40 * other.quantity(eps), base.quantity(eps), rtol=1e-11)
    np.testing.assert_allclose(other.payment(eps) / 7, base.payment(eps) / 20, rtol=1e-11)


def test_truncation_is_ours() -> None:
    """A wide distribution cut to [lo, hi] is the one that was already cut."""
    a, b = (0.1 - 0.6) / 0.2, (1.0 - 0.6) / 0.2
    cut = contract(stats.truncnorm(a, b, loc=0.6, scale=0.2))
    wide = contract(stats.norm(0.6, 0.2))
    share = np.linspace(0, 1, 101)
    np.testing.assert_allclose(wide.ppf(share), cut.ppf(share), rtol=1e-12)
    np.testing.assert_allclose(wide.cdf(wide.ppf(share)), share, atol=1e-14)
    np.testing.assert_allclose(wide.pdf(wide.ppf(share)), cut.pdf(wide.ppf(share)), rtol=1e-12)
    assert wide.solve().objective == pytest.approx(cut.solve().objective, rel=1e-12)


@pytest.mark.parametrize("centre", [-9.0, 9.0])
def test_far_tails(centre: float) -> None:
    """[lo, hi] twenty or more standard deviations out, where the distribution function is 0 or 1."""
    c = contract(stats.norm(centre, 0.4))
    eps = np.linspace(0.1, 1, 9)
    start = (0.1 - centre) / 0.4

    def density(e: float) -> float:
        return float(np.exp((start**2 - ((e - centre) / 0.4) ** 2) / 2))

    mass = [quad(density, 0.1, e, epsabs=0, epsrel=1e-12)[0] for e in eps[1:]]
    np.testing.assert_allclose(c.cdf(eps[1:]), np.array(mass) / mass[-1], rtol=1e-10)
    hazard = [m / density(e) for m, e in zip(mass, eps[1:], strict=True)]
    np.testing.assert_allclose(c.virtual_type(eps[1:]), eps[1:] + hazard, rtol=1e-10)
    certify(c.solve())


def test_both_kinds_of_scipy_distribution() -> None:
    old, new = contract(stats.norm(0.5, 0.2)), contract(stats.Normal(mu=0.5, sigma=0.2))
    assert old.solve().objective == pytest.approx(new.solve().objective, rel=1e-12)
    made = stats.make_distribution(stats.beta)(a=0.5, b=0.5)
    narrow = contract(0.1 + 0.9 * made).solve()
    assert narrow.objective == pytest.approx(contract(beta(0.5, 0.5)).solve().objective, rel=1e-10)


def test_a_distribution_with_three_methods() -> None:
    class Plain:
        def pdf(self, x: Any) -> Any:
            return np.where((np.asarray(x) >= 0) & (np.asarray(x) <= 2), 0.5, 0.0)

        def cdf(self, x: Any) -> Any:
            return np.clip(np.asarray(x) / 2, 0, 1)

        def ppf(self, u: Any) -> Any:
            return 2 * np.asarray(u)

    same = contract(stats.uniform(0.1, 0.9)).solve()
    assert contract(Plain()).solve().objective == pytest.approx(same.objective, rel=1e-11)


def test_shapes_and_table() -> None:
    menu = contract(beta(2, 2)).solve()
    for method in (menu.quantity, menu.payment, menu.rent, menu.ironing_multiplier):
        assert np.shape(method(0.5)) == ()
        assert method(np.full((2, 3), 0.5)).shape == (2, 3)
        assert method([]).shape == (0,)
    table = menu.to_frame(11)
    assert list(table.columns) == ["eps", "quantity", "payment", "rent"]
    np.testing.assert_allclose(table.payment - table.eps * table.quantity, table.rent, atol=1e-12)
    with pytest.raises(AttributeError):
        menu.cutoff = 0.5  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(menu.contract)).solve().objective == menu.objective


# ------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"lo": 0.0}, "lo must be a finite number > 0"),
        ({"lo": -0.1}, "lo must be"),
        ({"lo": float("nan")}, "lo must be"),
        ({"lo": "a"}, "lo must be"),
        ({"hi": float("inf")}, "hi must be"),
        ({"hi": 0.1}, "hi = 0.1 must be > lo"),
        ({"hi": 0.05}, "hi = 0.05 must be > lo"),
        ({"unit_cost": 0.0}, "unit_cost must be"),
        ({"unit_cost": True}, "unit_cost must be"),
        ({"gain": np.log}, "gain must be a ConcaveFunction"),
        ({"dist": stats.beta}, "not frozen yet"),
        ({"dist": stats.Normal}, "not frozen yet"),
        ({"dist": Bumps()}, "not frozen yet"),
        ({"dist": stats.poisson(3)}, "discrete types"),
        ({"dist": stats.norm([0.3, 0.5], 0.1)}, "parameters are arrays"),
        ({"dist": 3.0}, "dist must be a frozen continuous distribution"),
        ({"dist": stats.norm(0.5, -1)}, "dist gives .* probability nan"),
        ({"dist": stats.uniform(2, 1)}, "dist gives .* probability 0"),
        ({"dist": beta(2, 2, 0.3, 1.0)}, "pdf is 0"),
        ({"dist": beta(2, 2, 0.1, 0.6)}, "pdf is 0"),
        ({"dist": steps(1, 0, 1)}, "pdf is 0"),
    ],
)
def test_bad_parameters(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(mo.InvalidInput, match=match):
        contract(**{"dist": beta(2, 2), **changes})


def test_density_that_does_not_belong_to_its_cdf() -> None:
    class Wrong(Bumps):
        def _pdf(self, x: Any) -> Any:
            return 1.01 * super()._pdf(x)

    class Falling(Bumps):
        def _cdf(self, x: Any) -> Any:
            return super()._cdf(x) - 0.2 * stats.norm.pdf(x, 0.5, 0.01) / 40

    with pytest.raises(mo.InvalidInput, match="dist: its pdf does not integrate to its cdf"):
        contract(Wrong()())
    with pytest.raises(mo.InvalidInput, match="dist: its cdf falls"):
        contract(Falling()())


def test_bad_arguments() -> None:
    c = contract(beta(2, 2))
    menu = c.solve()
    for call in (menu.quantity, menu.rent, c.virtual_ratio, c.pdf):
        with pytest.raises(mo.InvalidInput, match=r"eps = 1\.1 lies outside"):
            call([0.5, 1.1])
        with pytest.raises(mo.InvalidInput, match="eps = nan"):
            call(float("nan"))
        with pytest.raises(mo.InvalidInput, match="eps must be numbers"):
            call("low")
    with pytest.raises(mo.InvalidInput, match="share"):
        c.ppf(1.5)
    for n_types in (0, -1, 2.5, True, "5"):
        with pytest.raises(mo.InvalidInput, match="n_types"):
            c.discretize(n_types)
    with pytest.raises(mo.InvalidInput, match="grid must be"):
        c.discretize(5, "left")
    with pytest.raises(mo.InvalidInput, match="n_types = 1000 makes cell 0"):
        mo.ContinuousContract(stats.norm(0.1, 1e-4), LO, HI).discretize(1000)
    with pytest.raises(mo.InvalidInput, match="n must be"):
        menu.audit(0)
    for bad, match in (
        ({"quantity": [1.0]}, "needs 'payment'"),
        (None, "needs 'quantity'"),
        ({"quantity": [1.0], "payment": [1.0, 2.0]}, "1 quantities and 2 payments"),
        ({"quantity": [np.nan], "payment": [1.0]}, "finite"),
        ({"quantity": [], "payment": []}, "one-dimensional"),
    ):
        with pytest.raises(mo.InvalidInput, match=match):
            c.realised_value(bad)


def test_unbounded_gain() -> None:
    steep = mo.PiecewiseLinearGain([3, 1.5], [0, 1], 1)
    c = contract(stats.uniform(0.1, 0.9), gain=steep)
    with pytest.raises(mo.Unbounded, match="unlimited data"):
        c.solve()
    with pytest.raises(mo.Unbounded):
        _ = c.first_best
    assert c.closed_form().reason_code == "unbounded"
    just = contract(stats.uniform(0.1, 0.9), gain=mo.PiecewiseLinearGain([3, 1], [0, 1], 1))
    certify(just.solve())
