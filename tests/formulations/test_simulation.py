"""Algorithm 1: choices against brute force, known values, and the exact density ratio of the noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

import mechopt as mo
from mechopt.formulations import menus
from mechopt.formulations.screening import simulation
from mechopt.formulations.screening.simulation import (
    NULL,
    choose,
    draw_types,
    laplace_log_ratio,
    laplace_scale,
    round_menu,
    simulate,
    whole_records,
)

Array = np.ndarray[Any, np.dtype[np.float64]]

GAIN = mo.LogGain(weight=100, scale=2)
PAPER = mo.ContinuousContract(scipy.stats.uniform(0.01, 0.2), 0.01, 0.21, gain=GAIN)
# Types that are pooled: the last two share a contract.
POOLED = mo.ScreeningContract(types=[1.0, 1.8, 1.9], gain=mo.LogGain(50, 2))


def market(n_types: int = 20) -> mo.ScreeningContract:
    return PAPER.discretize(n_types)


def by_hand(quantity: Array, payment: Array, eps: float, unit_cost: float) -> int:
    """The rule for one holder: of all nearly best options the most data, the best paid, the first."""
    tolerance = 1e-10 * max(abs(p) for p in payment)
    options = [(q, p, j) for j, (q, p) in enumerate(zip(quantity, payment, strict=True))]
    options.append((0.0, 0.0, NULL))
    best = max(p - unit_cost * eps * q for q, p, _ in options)
    near = [o for o in options if o[1] - unit_cost * eps * o[0] >= best - tolerance]
    most = max(q for q, _, _ in near)
    near = [o for o in near if o[0] == most]
    if most == 0 and max(abs(p) for _, p, _ in near) <= tolerance:
        return NULL
    paid = max(p for _, p, _ in near)
    return min(j for _, p, j in near if p == paid)


# ------------------------------------------------------------ choice


@pytest.mark.parametrize("seed", range(30))
def test_choice_is_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    # Few distinct values, so that contracts tie, repeat, and are null.
    quantity = rng.choice([0.0, 1.0, 2.0, 5.0], n)
    payment = rng.choice([0.0, 1.0, 2.0, 4.0, 7.5], n)
    eps = np.concatenate([rng.uniform(0.05, 3, 40), [0.5, 1.0, 1.5, 2.0]])
    cost = float(rng.choice([0.5, 1.0, 3.0]))
    menu = {"quantity": quantity, "payment": payment}
    expected = [by_hand(quantity, payment, e, cost) for e in eps.tolist()]
    assert choose(menu, eps, cost).tolist() == expected


@pytest.mark.parametrize("contract", [market(), POOLED, PAPER.discretize(7, "paper")])
def test_types_and_holders_between_types(contract: mo.ScreeningContract) -> None:
    menu = contract.solve()
    between = np.linspace(0.9 * contract.types[0], 1.1 * contract.types[-1], 301)
    for eps in (contract.types, between):
        expected = [by_hand(menu["quantity"], menu["payment"], e, contract.unit_cost) for e in eps.tolist()]
        assert choose(menu, eps, contract.unit_cost).tolist() == expected


def test_long_tables_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    contract = market()
    eps = np.random.default_rng(5).uniform(0.005, 0.25, 999)
    whole = choose(contract.solve(), eps, 1.0)
    monkeypatch.setattr(simulation, "_TABLE_ENTRIES", 100)
    assert np.array_equal(choose(contract.solve(), eps, 1.0), whole)


def test_ties_go_to_the_larger_quantity_and_no_further() -> None:
    contract = market()
    menu = contract.solve()
    own = np.arange(contract.n_types)
    quantity, payment = menu["quantity"], menu["payment"]
    assert np.array_equal(choose(menu, contract.types, 1.0), own)
    # Rounding errors in either direction decide nothing ...
    rng = np.random.default_rng(0)
    shaken = {"quantity": quantity, "payment": payment * (1 + 1e-13 * rng.normal(size=own.size))}
    assert np.array_equal(choose(shaken, contract.types, 1.0), own)
    # ... and a true preference does: everybody but the last now wants the next contract.
    tempting = {"quantity": quantity, "payment": payment + 1e-6 * own}
    assert np.array_equal(choose(tempting, contract.types, 1.0), np.minimum(own + 1, own[-1]))


def test_a_contract_without_data_or_pay_is_none() -> None:
    menu = {"quantity": [2.0, 0.0], "payment": [1.0, 0.0]}
    assert choose(menu, [0.4, 0.5, 0.6], 1.0).tolist() == [0, 0, NULL]
    assert choose({"quantity": [0.0], "payment": [0.0]}, [1.0], 1.0).tolist() == [NULL]
    # Pay for nothing is taken by those for whom data cost too much.
    assert choose({"quantity": [2.0, 0.0], "payment": [1.0, 0.25]}, [0.1, 9.0], 1.0).tolist() == [0, 1]


# ------------------------------------------------------------ simulated holders


def test_twenty_types_give_the_value_of_the_theory() -> None:
    contract = market(20)
    found = simulate(contract, contract.solve(), 20_000, rng=7)
    assert found.truthful_share == 1.0
    assert not found.took_null.any()
    # 376.607 is the value of (32) with right ends of cells; the s.e. of 20 000 holders is about 0.2.
    assert found.standard_error == pytest.approx(0.216, rel=0.05)
    assert abs(found.mean_utility - 376.607) <= 4 * found.standard_error
    kind = np.searchsorted(contract.types, found.eps)
    rent = contract.closed_form().rent[kind]
    assert np.abs(found.rent - rent).max() <= 1e-12 * 100


def test_holders_are_drawn_from_the_types() -> None:
    contract = mo.ScreeningContract(types=[0.1, 0.2, 0.4], probs=[0.5, 0.2, 0.3], gain=GAIN)
    eps = draw_types(contract, 100_000, np.random.default_rng(3))
    counts = np.array([(eps == t).sum() for t in contract.types])
    assert counts.sum() == 100_000
    assert np.all(np.abs(counts / 1e5 - contract.probs) <= 4 * np.sqrt(contract.probs / 1e5))


def test_everything_adds_up_for_many_holders() -> None:
    contract = market(50)
    found = simulate(contract, contract.solve(), 200_000, np.random.default_rng(1))
    frame = found.to_frame()
    assert len(frame) == found.n_holders == 200_000
    cost = contract.unit_cost * frame.eps * frame.quantity
    np.testing.assert_allclose(frame.rent + cost, frame.payment, rtol=1e-12)
    np.testing.assert_allclose(frame.utility, GAIN(frame.eps * frame.quantity) - frame.payment, rtol=1e-12)
    with pytest.raises(ValueError, match="read-only"):
        found.rent[0] = 0.0


def test_pooled_types_share_a_contract_and_count_as_truthful() -> None:
    found = simulate(POOLED, POOLED.solve(), 3000, rng=2)
    assert set(found.choice[found.eps == 1.9].tolist()) == {1}
    assert set(found.intended[found.eps == 1.9].tolist()) == {2}
    assert found.truthful_share == 1.0


def test_excluded_types_stay_out() -> None:
    # Uniform types on [0.1, 1], r = 1.8: with cells of 0.01 the formula is 0 where 2 - 0.11 / eps >= 1.8.
    contract = mo.ScreeningContract(types=np.linspace(0.11, 1.0, 90), gain=mo.LogGain(1.8, 1))
    found = simulate(contract, contract.solve(), 20_000, rng=4)
    assert found.truthful_share == 1.0
    assert np.array_equal(found.took_null, found.eps > 0.545)
    out = found.took_null
    assert np.all(found.rent[out] == 0)
    assert np.all(found.utility[out] == 0)
    assert np.all(found.rent[~out] >= 0)
    assert found.mean_utility > 0


@pytest.mark.parametrize(
    ("n_types", "paper", "right"),
    [(5, 289.87, 366.54), (10, 330.54, 368.65), (50, 362.30, 369.73), (200, 367.95, 369.785)],
)
def test_holders_between_the_types_of_a_grid(n_types: int, paper: float, right: float) -> None:
    for grid, expected in (("paper", paper), ("right", right)):
        contract = PAPER.discretize(n_types, grid)  # type: ignore[arg-type]
        menu = contract.solve()
        found = simulate(contract, menu, 200_000, 11, draw=lambda rng, n: PAPER.dist.rvs(n, random_state=rng))
        # The contract of the next type of the grid, but for holders so close above a type that its contract
        # is as good to them, up to the tolerance of ties.
        off = ~found.truthful
        gap = found.eps[off] - contract.types[found.intended[off] - 1]
        assert off.mean() <= 1e-4
        assert np.all((gap > 0) & (gap < 1e-7))
        # The tabulated values have two digits after the point.
        assert abs(found.mean_utility - expected) <= 4 * found.standard_error + 0.005
        assert abs(found.mean_utility - PAPER.realised_value(menu)) <= 4 * found.standard_error
        share = found.took_null.mean()
        if grid == "right":
            assert share == 0
        else:
            assert np.array_equal(found.took_null, found.eps > contract.types[-1])
            assert abs(share - 1 / n_types) <= 4 * np.sqrt(1 / n_types / 200_000)
            assert not np.any(found.choice == 0)


def test_who_is_underpaid_stays_out() -> None:
    contract = market(5)
    payment = contract.solve()["payment"] - np.array([0, 0, 0, 0, 1.0])
    found = simulate(contract, {"quantity": contract.solve()["quantity"], "payment": payment}, 5000, rng=3)
    assert np.array_equal(found.truthful, found.eps < contract.types[-1])
    assert np.array_equal(found.took_null, ~found.truthful)


def test_the_formula_where_it_does_not_apply_is_not_chosen_truthfully() -> None:
    form = POOLED.closed_form()  # quantities (49.5, 18.953, 23.546): the second type and the third swap
    found = simulate(POOLED, {"quantity": form.quantity, "payment": form.payment}, 5000, rng=3)
    assert found.choice[found.eps == 1.0].tolist() == [2] * int(np.sum(found.eps == 1.0))
    assert set(found.choice[found.eps == 1.8].tolist()) == {2}
    assert set(found.choice[found.eps == 1.9].tolist()) == {1}
    assert found.truthful_share == 0.0


def test_bad_input() -> None:
    contract = market(3)
    menu = contract.solve()
    cases: list[tuple[Any, str]] = [
        (lambda: simulate(contract, {"quantity": [1.0]}, 10, 0), "needs 'payment'"),
        (lambda: simulate(contract, {"quantity": [1.0], "payment": [1.0]}, 10, 0), "1 contracts for 3 types"),
        (lambda: simulate(contract, menu, 1, 0), "n_holders must be a whole number >= 2"),
        (lambda: simulate(contract, menu, 5, 0, draw=lambda rng, n: np.ones(4)), "draw must return 5"),
        (lambda: simulate(contract, menu, 5, 0, draw=lambda rng, n: np.zeros(n)), "privacy levels > 0"),
        (lambda: choose({"quantity": [1.0, 2.0], "payment": [1.0]}, [1.0], 1.0), "2 quantities and 1 pay"),
        (lambda: choose({"quantity": [np.nan], "payment": [1.0]}, [1.0], 1.0), r"quantity\[0\] is nan"),
        (lambda: choose(menu, [np.inf], 1.0), r"eps\[0\] is inf"),
        (lambda: choose(menu, [1.0], 0.0), "unit_cost"),
        (lambda: choose([1, 2], [1.0], 1.0), "needs 'quantity'"),
        (lambda: laplace_scale(0, 1.0), "n_records"),
        (lambda: laplace_scale(3, 0.0), "eps"),
        (lambda: laplace_log_ratio(0.0, [0.1], [0.1, 0.2], 1.0), "same number of entries"),
        (lambda: laplace_log_ratio(0.0, [1.1], [0.1], 1.0), r"records must lie in \[0, 1\]"),
        (lambda: laplace_log_ratio(0.0, [0.1], [np.nan], 1.0), r"neighbour must lie in \[0, 1\]"),
        (lambda: laplace_log_ratio(0.0, [0.1], [0.2], -1.0), "scale"),
    ]
    for call, words in cases:
        with pytest.raises(mo.InvalidInput, match=words):
            call()


# ------------------------------------------------------------ whole records


def test_whole_records_perturb_incentives_by_no_more_than_their_bound() -> None:
    for contract in (market(5), market(50), POOLED, PAPER.discretize(10, "paper")):
        menu = contract.solve()
        rounded = round_menu(contract, menu)
        assert np.array_equal(rounded.records, np.rint(menu["quantity"]))
        table = menus.utility_matrix(contract.types, rounded.records, menu["payment"], contract.unit_cost)
        gain = (table - np.diag(table)[:, None]).max()
        assert rounded.ic_violation == pytest.approx(gain, rel=1e-12)
        assert rounded.ir_violation == pytest.approx(max(0.0, -np.diag(table).min()), abs=1e-12)
        assert 0 < rounded.ic_violation <= rounded.ic_bound <= contract.types[-1]
        # Paid for as whole, they are incentive compatible again, for next to nothing.
        whole = {"quantity": rounded.records, "payment": rounded.payment}
        assert contract.audit(whole).ok(1e-12)
        found = simulate(contract, whole, 1000, 0)
        assert found.truthful_share == 1.0
        assert 0 <= menu.objective - rounded.objective <= 1e-3 * menu.objective


def test_who_trades_delivers_a_record_and_who_does_not_delivers_none() -> None:
    assert whole_records([1000.4, 0.6, 0.3, 1e-7, 0.0]).tolist() == [1000, 1, 1, 0, 0]
    assert whole_records(np.zeros(3)).tolist() == [0, 0, 0]


# ------------------------------------------------------------ privacy


@pytest.mark.parametrize("n", [1, 2, 17, 242, 9950])
@pytest.mark.parametrize("eps", [0.01, 0.21, 3.0])
def test_density_ratio_is_the_privacy_level(n: int, eps: float) -> None:
    rng = np.random.default_rng(n)
    records = rng.uniform(size=n)
    place = int(rng.integers(n))
    records[place] = 0.0
    neighbour = records.copy()
    neighbour[place] = 1.0
    scale = laplace_scale(n, eps)
    values = np.concatenate([[-1.0, 2.0], records.mean() + np.linspace(-3, 3, 61) / n])
    ratios = laplace_log_ratio(values, records, neighbour, scale)
    assert ratios[0] == pytest.approx(eps, abs=1e-12)
    assert ratios[1] == pytest.approx(-eps, abs=1e-12)
    assert np.abs(ratios).max() <= eps + 1e-12
    # Between the two means the ratio passes through every value from one to the other.
    assert np.abs(ratios).min() < 0.2 * eps
    law, other = (scipy.stats.laplace(np.mean(d), scale) for d in (records, neighbour))
    near = values[2:]  # far from the means scipy's densities are 0
    np.testing.assert_allclose(ratios[2:], law.logpdf(near) - other.logpdf(near), atol=1e-10 * max(eps, 1))
    # Half the noise is half the privacy.
    assert np.abs(laplace_log_ratio(values, records, neighbour, scale / 2)).max() == pytest.approx(2 * eps)


def test_no_neighbour_reveals_more() -> None:
    rng = np.random.default_rng(8)
    for _ in range(200):
        n, eps = int(rng.integers(1, 40)), float(rng.uniform(0.01, 2))
        records = rng.uniform(size=n)
        neighbour = records.copy()
        place = int(rng.integers(n))
        neighbour[place] = rng.uniform()
        values = rng.normal(0.5, 1.0, 50)
        ratios = laplace_log_ratio(values, records, neighbour, laplace_scale(n, eps))
        shift = abs(neighbour[place] - records[place])
        assert np.abs(ratios).max() <= eps * shift + 1e-12


def test_two_changed_records_reveal_twice_as_much() -> None:
    records, neighbour = np.zeros(30), np.zeros(30)
    neighbour[[4, 9]] = 1.0
    ratios = laplace_log_ratio([-9.0, 9.0], records, neighbour, laplace_scale(30, 0.4))
    assert ratios.tolist() == pytest.approx([0.8, -0.8], abs=1e-12)


def test_error_of_the_noise() -> None:
    scale = laplace_scale(242, 0.21)
    assert 2 * scale**2 == pytest.approx(7.744e-4, rel=1e-4)
    noise = np.random.default_rng(6).laplace(scale=scale, size=400_000)
    # The variance of a squared Laplace variable is five times its squared mean.
    assert abs(np.mean(noise**2) / 7.7436e-4 - 1) <= 5 * np.sqrt(5 / 400_000)


def test_a_convex_cost_is_what_holders_bear() -> None:
    contract = mo.ScreeningContract(
        types=[0.05, 0.1, 0.15, 0.2], probs=[0.4, 0.3, 0.2, 0.1], cost_curve=mo.PowerCost(1.5, scale=100)
    )
    menu = contract.solve()
    found = simulate(contract, menu, 4, 0, draw=lambda rng, n: contract.types)
    assert found.truthful_share == 1
    np.testing.assert_allclose(found.rent, menu["rent"], atol=1e-10)
    assert float(contract.probs @ found.utility) == pytest.approx(menu.objective, rel=1e-12)
    rounded = round_menu(contract, menu)
    assert 0 < rounded.ic_violation <= rounded.ic_bound
    repaid = {"quantity": rounded.records, "payment": rounded.payment}
    assert contract.audit(repaid).ok(1e-12)
