"""One platform: users at given prices, whom it buys from, exactly and in closed form, and what is refused."""

import time

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.data_externality import closed_form as formula
from mechopt.formulations.data_externality import monopoly, users
from mechopt.formulations.data_externality.exact import (
    branch_and_bound,
    enumeration,
    equilibrium_sharing_of_all,
    optimum,
    payments,
    platform_optimum,
)
from mechopt.formulations.data_externality.exact.bounds import Node, bound_nodes
from mechopt.formulations.data_externality.exact.problem import Incumbents
from mechopt.formulations.data_externality.families import EVERY, random_case, random_covariance
from mechopt.formulations.data_externality.leakage import leak_table
from tests.oracles.data_externality import Definition

THREE = np.array([[1.0, 0.8, 0.3], [0.8, 1.0, 0.5], [0.3, 0.5, 1.0]])
"""Spec R6."""

R25 = np.array([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]])


def as_set(sharing):
    return frozenset(np.flatnonzero(sharing).tolist())


def as_sets(rows):
    return {as_set(row) for row in rows}


def definition(model):
    return Definition(
        model.covariance.tolist(), model.value_of_privacy.tolist(), model.noise_variance, model.spillover
    )


def random_model(rng, kind, n, **limits):
    case = random_case(rng, kind, n, **limits)
    return mo.DataExternality(
        np.array(case.covariance),
        np.array(case.value_of_privacy),
        noise_variance=float(rng.choice([1.0, 0.3, 4.0])),
        spillover=float(rng.choice([0.0, 0.5])),
    )


# ------------------------------------------------------------ users


@pytest.mark.parametrize("kind", EVERY)
def test_equilibria_of_users_are_those_of_the_definition(kind):
    rng = np.random.default_rng(1)
    several = 0
    for _ in range(10):
        model = random_model(rng, kind, 4)
        joined = rng.random(4) < 0.8
        prices = users.thresholds(model, rng.random(4) < 0.5) * rng.choice([0.95, 1.0], p=[0.1, 0.9], size=4)
        game = model.user_equilibria(prices, joined=joined)
        found = as_sets(game.all())
        slack = game.tolerance
        assert found == set(definition(model).equilibria(as_set(joined), prices.tolist(), slack))
        assert as_set(game.least) == frozenset.intersection(*found)
        assert as_set(game.greatest) == frozenset.union(*found)
        several += len(found) > 1
        for row in game.all():
            assert game.is_equilibrium(row)
    assert several


def test_payoffs_by_the_definition():
    rng = np.random.default_rng(2)
    for kind in EVERY:
        model = random_model(rng, kind, 4)
        joined, prices = np.array([1, 1, 0, 1], dtype=bool), rng.uniform(0, 1, 4)
        game = model.user_equilibria(prices, joined=joined)
        sharing = np.array([1, 0, 0, 1])
        plain = definition(model)
        expected = [plain.payoff(i, as_set(joined), frozenset({0, 3}), prices[i]) for i in range(4)]
        np.testing.assert_allclose(game.payoffs(sharing), expected, atol=1e-12)


def test_services_are_part_of_payoffs():
    model = mo.DataExternality(THREE, [0.5, 0.7, 1.2], joining_utility=[1.0, 2.0, 3.0])
    game = model.user_equilibria([0.0, 0.0, 0.0], joined={0, 2})
    assert game.payoffs([0, 0, 0]).tolist() == [1.0, 0.0, 3.0]


def test_regret_is_what_moving_gains():
    model = mo.DataExternality(THREE, [0.5, 0.7, 1.2])
    prices = np.array([0.3, 0.1, 0.2])
    game, plain = model.user_equilibria(prices), definition(model)
    everybody = frozenset(range(3))
    for sharing in ([1, 0, 1], [0, 0, 0], [1, 1, 1]):
        now = as_set(sharing)
        gains = [
            plain.payoff(i, everybody, now ^ {i}, prices[i]) - plain.payoff(i, everybody, now, prices[i])
            for i in range(3)
        ]
        np.testing.assert_allclose(game.regret(sharing), np.maximum(gains, 0), atol=1e-14)


def test_prices_that_are_unique_by_all_orders():
    rng = np.random.default_rng(3)
    for kind in EVERY:
        for _ in range(4):
            model = random_model(rng, kind, 5, least_value=0.1)
            sharing = rng.random(5) < 0.7
            paid = users.unique_prices(model, sharing)
            assert paid.cost == pytest.approx(definition(model).unique_cost(as_set(sharing)), abs=1e-12)
            assert set(paid.order) == as_set(sharing)
            margin = 1e-6 * max(paid.cost, 1.0)
            game = model.user_equilibria(users.unique_prices(model, sharing, margin=margin).prices)
            assert as_sets(game.all()) == {as_set(sharing)}


def test_r6_prices_of_the_spec():
    """Payment .330286 at equilibrium, .442667 for the only equilibrium."""
    model = mo.DataExternality(THREE, [0.5, 0.7, 1.2])
    best = model.solve()
    assert as_set(best["sharing"]) == {0, 1}
    assert best["payments"].sum() == pytest.approx(0.330286, abs=5e-7)
    assert as_sets(model.user_equilibria(best["prices"]).all()) == {frozenset(), frozenset({0, 1})}
    sure = model.solve(selection="unique")
    assert as_set(sure["sharing"]) == {0, 1}
    assert sure["payments"].sum() == pytest.approx(0.442667, abs=5e-7)


@pytest.mark.parametrize("kind", EVERY)
def test_a_platform_that_wants_to_be_sure(kind):
    """Most profit at prices that leave one equilibrium, over all sets and orders."""
    rng = np.random.default_rng(4)
    for _ in range(3):
        model = random_model(rng, kind, 4)
        joined = np.array([1, 1, 1, int(rng.integers(2))], dtype=bool)
        plain = definition(model)
        weight = np.where(joined, 1.0, model.spillover)
        best = max(
            sum(weight[i] * plain.leak(i, sharing) for i in range(4)) - plain.unique_cost(sharing)
            for sharing in plain.subsets(as_set(joined))
        )
        sure = model.solve(joined, selection="unique")
        assert sure.objective == pytest.approx(best, abs=1e-12)
        assert sure.objective <= model.solve(joined).objective + 1e-12


# ------------------------------------------------------------ the optimum


@pytest.mark.parametrize("kind", EVERY)
def test_all_optima_by_the_definition(kind):
    rng = np.random.default_rng(5)
    for number in range(8):
        model = random_model(rng, kind, 5)
        joined = np.ones(5, dtype=bool) if number % 2 else rng.random(5) < 0.7
        profit, ties = definition(model).best(as_set(joined), tie=1e-10 * float(np.trace(model.covariance)))
        for method in ("enumeration", "branch_and_bound"):
            found = platform_optimum(
                model.scaled_covariance, model.value_of_privacy, joined, model.spillover, method=method
            )
            assert model.noise_variance * found.profit == pytest.approx(profit, abs=1e-11)
            assert as_sets(found.ties) == set(ties)
            assert found.proved
            assert found.sharing.tobytes() == found.ties[0].tobytes()


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("n", [8, 12, 16])
def test_methods_find_the_same_sets(kind, n, monkeypatch):
    """With users of high value only, so that nobody is decided on beforehand."""
    monkeypatch.setattr(branch_and_bound, "SMALL", 2)
    rng = np.random.default_rng(6)
    for most in (1.3, 2.5):
        case = random_case(rng, kind, n, least_value=1.01, most_value=most)
        model = case.model()
        listed, searched = (
            platform_optimum(model.covariance, model.value_of_privacy, method=method)
            for method in ("enumeration", "branch_and_bound")
        )
        assert searched.profit == pytest.approx(listed.profit, rel=1e-12)
        assert as_sets(searched.ties) == as_sets(listed.ties)
        assert np.array_equal(searched.sharing, listed.sharing)
        assert searched.bound == searched.profit
        assert searched.ties_complete
        assert searched.n_nodes <= listed.n_nodes


def test_interchangeable_users_tie():
    """Of eight users alike, any three: 56 sets, the first users preferred."""
    covariance, value = np.where(np.eye(8, dtype=bool), 1.0, 0.3), np.full(8, 1.45)
    model = mo.DataExternality(covariance, value)
    assert formula.equicorrelated(model).sharing.sum() == 3
    for method in ("enumeration", "branch_and_bound"):
        found = platform_optimum(covariance, value, method=method)
        assert len(found.ties) == 56
        assert as_set(found.sharing) == {0, 1, 2}


def test_too_many_ties_are_said(monkeypatch):
    from mechopt.formulations.data_externality.exact import problem

    monkeypatch.setattr(problem, "MOST_TIES", 10)
    covariance, value = np.where(np.eye(8, dtype=bool), 1.0, 0.3), np.full(8, 1.45)
    for method in ("enumeration", "branch_and_bound"):
        found = platform_optimum(covariance, value, method=method)
        assert not found.ties_complete
        assert found.proved
        assert found.profit == pytest.approx(
            formula.equicorrelated(mo.DataExternality(covariance, value)).profit, rel=1e-12
        )


def test_a_value_of_exactly_one_ties_if_uncorrelated():
    covariance = np.diag([1.0, 2.0, 1.0])
    covariance[0, 2] = covariance[2, 0] = 0.5
    found = platform_optimum(covariance, np.array([0.5, 1.0, 0.5]))
    assert found.method == "low_value"
    assert as_sets(found.ties) == {frozenset({0, 1, 2}), frozenset({0, 2})}
    assert as_set(found.sharing) == {0, 1, 2}


@pytest.mark.parametrize("block", [1, 3])
def test_blocks_do_not_matter(block, monkeypatch):
    monkeypatch.setattr(enumeration, "BLOCK", block)
    model = random_case(np.random.default_rng(7), "dense", 7, least_value=1.0).model()
    found = platform_optimum(model.covariance, model.value_of_privacy, method="enumeration")
    assert found.profit == pytest.approx(definition(model).best(frozenset(range(7)))[0], rel=1e-12)


@pytest.mark.parametrize("method", ["enumeration", "branch_and_bound"])
@pytest.mark.parametrize("kind", EVERY)
def test_limits_on_who_shares(method, kind, monkeypatch):
    monkeypatch.setattr(branch_and_bound, "SMALL", 1)
    rng = np.random.default_rng(8)
    everybody = frozenset(range(6))
    for _ in range(4):
        model = random_case(rng, kind, 6).model()
        plain = definition(model)
        table = {sharing: plain.profit(everybody, sharing) for sharing in plain.subsets(everybody)}
        rows, most = rng.integers(-2, 3, (2, 6)).astype(float), np.array([1.0, 2.0])
        limits = [
            ({"at_most": 2}, lambda s: len(s) <= 2),
            ({"required": np.eye(6, dtype=bool)[2]}, lambda s: 2 in s),
            ({"barred": np.eye(6, dtype=bool)[0] | np.eye(6, dtype=bool)[3]}, lambda s: not s & {0, 3}),
            (
                {"rows": (rows, most)},
                lambda s, rows=rows, most=most: all(
                    rows[r, sorted(s)].sum() <= most[r] + 1e-9 for r in range(2)
                ),
            ),
        ]
        for options, kept in limits:
            allowed = {sharing: profit for sharing, profit in table.items() if kept(sharing)}
            best = max(allowed.values())
            tie = 1e-10 * np.trace(model.covariance)
            found = platform_optimum(model.covariance, model.value_of_privacy, method=method, **options)
            assert found.profit == pytest.approx(best, abs=1e-11)
            assert as_sets(found.ties) == {s for s, profit in allowed.items() if profit >= best - tie}


@pytest.mark.parametrize("method", ["enumeration", "branch_and_bound"])
@pytest.mark.parametrize("kind", EVERY)
def test_taxes_by_the_definition(method, kind, monkeypatch):
    """All sets of most profit after taxes, whoever is taxed; untaxed users of low value share for sure."""
    monkeypatch.setattr(branch_and_bound, "SMALL", 1)
    rng = np.random.default_rng(23)
    for _ in range(3):
        model = random_case(rng, kind, 5).model()
        tax = rng.choice([0.0, 0.02, 0.2], 5)
        plain, everybody = definition(model), frozenset(range(5))
        after = {s: plain.profit(everybody, s) - tax[list(s)].sum() for s in plain.subsets(everybody)}
        best = max(after.values())
        found = platform_optimum(model.covariance, model.value_of_privacy, tax=tax, method=method)
        assert found.profit == pytest.approx(best, abs=1e-10)
        tied = {s for s, profit in after.items() if profit >= best - 1e-10}
        assert {as_set(row) for row in found.ties} == tied


def test_limits_that_exclude_everything():
    rows = (np.array([[-1.0, -1.0, -1.0]]), np.array([-2.0]))
    for method in ("enumeration", "branch_and_bound"):
        with pytest.raises(mo.Infeasible, match="exclude every set of users"):
            platform_optimum(THREE, np.array([1.5, 2.0, 2.0]), rows=rows, at_most=1, method=method)
    with pytest.raises(mo.Infeasible, match=r"required\[1\]: user 1 did not join"):
        platform_optimum(
            THREE, np.ones(3), np.array([True, False, True]), required=np.ones(3, dtype=bool) & [0, 1, 0]
        )


def test_large_platforms_are_solved():
    """30 users of high value in under two seconds; certified by the bound, and improved by no exchange."""
    for seed, columns in ((0, 15), (1, 60)):
        rng = np.random.default_rng(seed)
        factor = rng.normal(size=(30, columns))
        covariance, value = factor @ factor.T / columns + 0.05 * np.eye(30), rng.uniform(1, 2.5, 30)
        started = time.perf_counter()
        found = platform_optimum(covariance, value)
        assert time.perf_counter() - started < 5
        assert found.proved
        assert found.method == "branch_and_bound"
        model = mo.DataExternality(covariance, value)
        for user in range(30):
            other = found.sharing.copy()
            other[user] ^= True
            surplus = model.leaked_information(other).sum() - monopoly.least_prices(model, other).sum()
            assert surplus <= found.profit + 1e-12


def test_limits_of_the_search_leave_a_bound():
    rng = np.random.default_rng(3)
    factor = rng.normal(size=(36, 18))
    covariance, value = factor @ factor.T / 18 + 0.05 * np.eye(36), rng.uniform(1, 5, 36)
    stopped = platform_optimum(covariance, value, node_limit=1)
    assert not stopped.proved
    assert not stopped.ties_complete
    assert stopped.bound > stopped.profit
    further = platform_optimum(covariance, value, node_limit=300)
    assert further.profit >= stopped.profit
    assert further.bound <= stopped.bound
    model = mo.DataExternality(covariance, value)
    with pytest.warns(mo.MechanismWarning, match="stopped by the time limit"):
        solution = model.solve(time_limit=1e-9)
    assert solution.status is mo.Status.LIMIT
    assert solution.gap > 0
    assert model.solve(time_limit=1e-9, on_failure="return").status is mo.Status.LIMIT


@pytest.mark.parametrize("kind", EVERY)
def test_bounds_hold_for_every_set(kind):
    """At the root and inside the tree, and users are fixed only where the other choice is worse."""
    rng = np.random.default_rng(9)
    for trial in range(5):
        model = random_case(rng, kind, 6, least_value=0.5).model()
        everybody = np.ones(6, dtype=bool)
        tax = None if trial < 3 else 0.1 * rng.uniform(0, 1, 6) * (rng.random(6) < 0.5)
        problem = optimum._pose(
            model.covariance, model.value_of_privacy, everybody, 0.0, tax, 5, None, None, None
        )
        inside = rng.random((4, 6)) < 0.2
        allowed = inside | (rng.random((4, 6)) < 0.8)
        sets = enumeration.subsets(6)
        profits = problem.profit(sets)
        bounds = bound_nodes(problem, Node(inside, allowed, rng.uniform(0, 1, (4, 6))), -np.inf, 5)
        for node in range(4):
            kept = np.all(sets >= inside[node], axis=1) & np.all(sets <= allowed[node], axis=1)
            kept &= sets.sum(axis=1) <= 5
            if not np.any(kept):
                continue
            assert bounds.upper[node] >= profits[kept].max() - 1e-12
            floor = float(np.median(profits[kept]))
            fixed = bound_nodes(
                problem, Node(inside[[node]], allowed[[node]], np.full((1, 6), 0.5)), floor, 5
            )
            good = sets[kept & (profits >= floor)]
            if fixed.upper[0] >= floor:
                assert np.all(good >= fixed.inside)
                assert np.all(good <= fixed.allowed)


def test_bounds_are_met_where_everything_is_decided():
    model = random_case(np.random.default_rng(10), "dense", 6).model()
    problem = optimum._pose(
        model.covariance, model.value_of_privacy, np.ones(6, dtype=bool), 0.0, None, None, None, None, None
    )
    sets = enumeration.subsets(6)
    bounds = bound_nodes(problem, Node(sets, sets, sets.astype(float)), -np.inf, 1)
    np.testing.assert_allclose(bounds.upper, problem.profit(sets), atol=1e-12)


def test_climbing_offers_real_profits():
    model = random_case(np.random.default_rng(11), "dense", 9, least_value=1.0).model()
    problem = optimum._pose(
        model.covariance, model.value_of_privacy, np.ones(9, dtype=bool), 0.0, None, 4, None, None, None
    )
    found = Incumbents(problem)
    branch_and_bound.climb(problem, found)
    assert problem.profit(found.sets[0]) == pytest.approx(found.best, rel=1e-12)
    assert found.sets[0].sum() <= 4


@pytest.mark.parametrize("kind", EVERY)
def test_all_sets_of_users_at_once(kind):
    rng = np.random.default_rng(12)
    for spillover in (0.0, 0.6):
        model = random_case(rng, kind, 5).model()
        shared = equilibrium_sharing_of_all(model.covariance, model.value_of_privacy, spillover)
        for mask in range(32):
            joined = (mask >> np.arange(5) & 1).astype(bool)
            found = platform_optimum(model.covariance, model.value_of_privacy, joined, spillover)
            assert shared[mask] == np.sum(1 << np.flatnonzero(found.sharing))


def test_all_sets_break_ties_alike():
    covariance, value = np.where(np.eye(5, dtype=bool), 1.0, 0.3), np.full(5, 1.3)
    shared = equilibrium_sharing_of_all(covariance, value, table=leak_table(covariance))
    assert shared[0b11111].bit_count() == 2
    for mask in range(32):
        joined = (mask >> np.arange(5) & 1).astype(bool)
        found = platform_optimum(covariance, value, joined)
        assert shared[mask] == np.sum(1 << np.flatnonzero(found.sharing))


def test_table_of_payments():
    model = random_case(np.random.default_rng(13), "dense", 4).model()
    paid = payments(model.covariance, model.value_of_privacy, leak_table(model.covariance))
    plain = definition(model)
    for mask in range(16):
        sharing = frozenset(i for i in range(4) if mask >> i & 1)
        expected = [plain.price(i, sharing) if i in sharing else 0.0 for i in range(4)]
        np.testing.assert_allclose(paid[mask], expected, atol=1e-12)


# ------------------------------------------------------------ closed forms


def test_two_users_of_the_spec():
    """Threshold 1.193878 at r = .5, v_1 = .5; 2 + 2 v_1 at r = 1; price v / 6 at r = 1."""
    half = [[1.0, 0.5], [0.5, 1.0]]
    assert formula.two_user_threshold(half, 0.5) == pytest.approx(1.193878, abs=5e-7)
    for first in (0.0, 0.5, 1.0):
        assert formula.two_user_threshold(np.ones((2, 2)), first) == pytest.approx(2 + 2 * first, rel=1e-12)
    below, above = (mo.DataExternality(half, [0.5, 1.193878 + step]) for step in (-1e-4, 1e-4))
    assert as_set(below.solve()["sharing"]) == {0, 1}
    assert as_set(above.solve()["sharing"]) == {0}
    same = mo.DataExternality(np.ones((2, 2)), [0.5, 2.4])
    assert same.solve()["prices"][1] == pytest.approx(2.4 / 6, rel=1e-12)


def test_example_2_of_the_paper():
    half = [[1.0, 0.5], [0.5, 1.0]]
    dear = mo.DataExternality(half, [0.5, 3.0]).monopoly()
    assert as_set(dear.sharing) == {0}
    assert dear.data_surplus == pytest.approx(0.0, abs=1e-15)
    cheap = mo.DataExternality(half, [0.5, 0.8]).monopoly()
    assert cheap.data_surplus == pytest.approx(0.373333, abs=5e-7)
    np.testing.assert_allclose(cheap.leaked_information, 2 / (4 - 0.25), rtol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 7])
def test_closed_forms_meet_the_exact_algorithm(n):
    rng = np.random.default_rng(14)
    cases = set()
    for number in range(25):
        correlation = rng.uniform(-0.95 / (n - 1), 1.0)
        covariance = 3.0 * np.where(np.eye(n, dtype=bool), 1.0, correlation)
        if n == 2 and number % 2:
            covariance[0, 0] = 5.0
        value = rng.uniform(0, 1 if number % 5 == 0 else 3, n)
        model = mo.DataExternality(covariance, value, noise_variance=float(rng.uniform(0.2, 4)))
        exact, found = model.solve(), formula.closed_form(model)
        cases.add(found.case)
        assert found.profit == pytest.approx(exact.objective, rel=1e-11)
        assert np.array_equal(found.sharing, exact["sharing"] > 0.5)
        np.testing.assert_allclose(found.prices, exact["prices"], atol=1e-11)
        np.testing.assert_allclose(found.leaked_information, exact["leaked_information"], atol=1e-11)
    assert cases == ({"low value", "two users"} if n == 2 else {"low value", "equicorrelated"})


@pytest.mark.parametrize("scale", [1e-6, 1e4, 1e8])
def test_variances_far_from_that_of_the_noise(scale):
    """One less a posterior variance is next to nothing then; prices are divided by it."""
    covariance = scale * np.array([[1.0, 0.5], [0.5, 1.0]])
    low = mo.DataExternality(covariance, [0.5, 0.8])
    # The formula's own 1 - Q_ii cancels where variances are small.
    accuracy = 1e-9 if scale < 1 else 1e-12
    np.testing.assert_allclose(low.solve()["prices"], formula.low_value(low).prices, rtol=accuracy)
    alike = mo.DataExternality(
        scale * np.where(np.eye(6, dtype=bool), 1.0, 0.6), [0.5, 1.1, 1.3, 2.0, 2.5, 3]
    )
    found = formula.equicorrelated(alike)
    for method in ("enumeration", "branch_and_bound"):
        exact = platform_optimum(alike.covariance, alike.value_of_privacy, method=method)
        assert np.array_equal(exact.sharing, found.sharing)
        assert exact.profit == pytest.approx(found.profit, rel=10 * accuracy)
    paid = payments(low.covariance, low.value_of_privacy, leak_table(low.covariance))
    np.testing.assert_allclose(paid[3], formula.low_value(low).prices, rtol=10 * accuracy)


@pytest.mark.parametrize("kind", EVERY)
def test_users_of_low_value_all_share(kind):
    model = random_model(np.random.default_rng(15), kind, 6, most_value=1.0)
    found, exact = formula.low_value(model), model.solve()
    assert exact.extra["method"] == "low_value"
    assert found.profit == pytest.approx(exact.objective, rel=1e-10)
    np.testing.assert_allclose(found.prices, exact["prices"], atol=1e-11)


def test_closed_forms_say_where_they_end():
    with pytest.raises(mo.NotApplicable, match=r"covariance\[0, 1\] differs from the others: .* solve\(\)"):
        formula.closed_form(mo.DataExternality(THREE, [0.5, 2.0, 2.0]))
    with pytest.raises(mo.NotApplicable, match=r"value_of_privacy\[1\] = 2 is above 1"):
        formula.low_value(mo.DataExternality(THREE, [0.5, 2.0, 2.0]))
    with pytest.raises(mo.NotApplicable, match="there are 3 users, not two"):
        formula.two_users(mo.DataExternality(THREE, [0.5, 2.0, 2.0]))
    with pytest.raises(mo.NotApplicable, match=r"value = 1\.5 is above 1"):
        formula.two_user_threshold(np.eye(2), 1.5)


# ------------------------------------------------------------ the record


@pytest.mark.parametrize("kind", EVERY)
def test_the_record_by_the_definitions(kind):
    rng = np.random.default_rng(16)
    for _ in range(5):
        model = random_model(rng, kind, 5)
        joined = rng.random(5) < 0.8
        solution, plain = model.solve(joined), definition(model)
        together, sharing = as_set(joined), as_set(solution["sharing"])
        assert solution.status is mo.Status.OPTIMAL
        assert sharing <= together
        expected = {
            "leaked_information": [plain.leak(i, sharing) for i in range(5)],
            "prices": [plain.price(i, sharing) if i in sharing else 0.0 for i in range(5)],
            "payoffs": [
                plain.payoff(i, together, sharing, plain.price(i, sharing) if i in sharing else 0.0)
                for i in range(5)
            ],
        }
        for name, values in expected.items():
            np.testing.assert_allclose(solution[name], values, atol=1e-11, err_msg=name)
        assert solution["profit"] == pytest.approx(plain.profit(together, sharing), abs=1e-11)
        # What the platform and all users have is the surplus.
        assert solution["profit"] + solution["payoffs"].sum() == pytest.approx(
            float(solution["data_surplus"]), abs=1e-11
        )
        assert solution.residuals["incentives"] <= 1e-9
        assert model.user_equilibria(solution["prices"], joined=joined).is_equilibrium(solution["sharing"])


def test_monopoly_of_the_spec():
    model = mo.DataExternality(R25, [0.5, 1.3, 3.0], joining_utility=[10.0, 10.0, 10.0])
    found = model.monopoly()
    assert as_set(found.sharing) == {0, 1}
    assert found.data_surplus == pytest.approx(-0.057143, abs=5e-7)
    assert found.social_surplus == pytest.approx(30 - 0.057143, abs=5e-7)
    assert found.profit + found.payoffs.sum() == pytest.approx(found.social_surplus, rel=1e-12)
    frame = found.to_frame()
    assert frame.index.name == "user"
    assert frame.loc[2, "leaked_information"] == pytest.approx(found.leaked_information[2])
    assert repr(found).startswith("Monopoly: users [0, 1] of 3 share")


@pytest.mark.parametrize(
    ("joined", "sharing"),
    [({0, 1}, {0, 1}), ({1, 2}, {1, 2}), ({0, 2}, {0}), ({0, 1, 2}, {0, 1, 2}), ({2}, set())],
)
def test_example_1_of_the_paper(joined, sharing):
    covariance = [[4, 0.05, 0.06], [0.05, 4, 0.5], [0.06, 0.5, 0.3]]
    model = mo.DataExternality(covariance, [0.01, 0.99, 1.1])
    assert as_set(model.solve(joined)["sharing"]) == sharing


def test_nobody_need_join():
    solution = mo.DataExternality(THREE, [0.5, 0.7, 1.2]).solve(frozenset())
    assert solution.objective == 0
    assert not solution["sharing"].any()


def test_units_of_money_noise_and_labels_do_not_matter():
    rng = np.random.default_rng(17)
    for kind in EVERY:
        case = random_case(rng, kind, 5)
        covariance, value = np.array(case.covariance), np.array(case.value_of_privacy)
        base = mo.DataExternality(covariance, value).solve()
        larger = mo.DataExternality(7 * covariance, value, noise_variance=7.0).solve()
        assert larger.objective == pytest.approx(7 * base.objective, rel=1e-11)
        np.testing.assert_allclose(larger["prices"], 7 * base["prices"], rtol=1e-9, atol=1e-12)
        order = rng.permutation(5)
        renamed = mo.DataExternality(covariance[np.ix_(order, order)], value[order]).solve()
        assert renamed.objective == pytest.approx(base.objective, rel=1e-11)
        if len(base.extra["ties"]) == 1:
            assert np.array_equal(renamed["sharing"], base["sharing"][order])


# ------------------------------------------------------------ bad input


def test_bad_input_is_named():
    model = mo.DataExternality(THREE, [0.5, 0.7, 1.2])
    calls = [
        (lambda: model.user_equilibria([0.1, 0.2]), "prices has 2 entries for 3 users"),
        (lambda: model.user_equilibria([0.1, np.nan, 0.2]), r"prices\[1\] is nan"),
        (
            lambda: model.user_equilibria([0, 0, 0], joined={0}).payoffs({1}),
            r"sharing\[1\] = 1, but user 1 did",
        ),
        (lambda: model.solve({0, 7}), "joined: there is no user 7"),
        (lambda: model.solve(selection="safe"), "selection must be 'optimistic' or 'unique', got 'safe'"),
        (lambda: model.solve(backend="outer", selection="unique"), "recursion over sets, not by 'outer'"),
        (lambda: model.solve(speed=3), "backend 'exact' has no options, got speed"),
        (lambda: model.solve(on_failure="ignore"), "on_failure must be"),
        (lambda: users.unique_prices(model, {0}, margin=-1.0), "margin must be a finite number >= 0"),
        (lambda: platform_optimum(THREE, np.ones(3), method="guess"), "method must be"),
        (lambda: equilibrium_sharing_of_all(np.eye(17), np.ones(17)), "every set of 17 users is too many"),
        (
            lambda: platform_optimum(
                np.full((28, 28), 0.2) + np.eye(28), np.full(28, 2.0), method="enumeration"
            ),
            "28 users are to be decided on",
        ),
    ]
    for call, message in calls:
        with pytest.raises(mo.InvalidInput, match=message):
            call()


def test_enumerations_of_users_have_a_limit():
    model = mo.DataExternality(random_covariance(np.random.default_rng(0), "dense", 19), np.full(19, 0.5))
    game = model.user_equilibria(np.zeros(19))
    assert not game.least.any()
    for call in (game.all, lambda: model.solve(selection="unique")):
        with pytest.raises(mo.InvalidInput, match="19"):
            call()
    with pytest.raises(mo.InvalidInput, match="sharing has 19 users"):
        users.unique_prices(model, np.ones(19))
