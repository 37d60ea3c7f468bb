"""Users with costs of their own: formula, enumeration, integer program and global solver agree."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.fair_value.platform import WORKED_UTILITY, PlatformPayments, two_user_map
from mechopt.formulations.fair_value.platform.closed_form import best_pure, two_users
from mechopt.formulations.fair_value.platform.heterogeneous import PairGame, equilibria_by_integers
from tests.oracles import platform as oracle


def pair(one, both, *costs):
    return PlatformPayments([0.0, one, both], 2, costs, "optimistic")


def scan(payments, points=400):
    """Best over payment shares by trying: all equilibria found numerically, mixed ones refined."""
    one, both = payments.values.profile[1:]
    costs = payments.costs
    slope = one - both / 2

    def value(share):
        best = -np.inf
        for supports in product((0, 1, 2), repeat=2):
            q = [
                float(kind) if kind < 2 else (share * one - costs[1 - user]) / (share * slope)
                for user, kind in enumerate(supports)
            ]
            gains = [share * (one - slope * q[1 - user]) - costs[user] for user in (0, 1)]
            stays = all(
                -1e-12 <= p <= 1 + 1e-12 and (g <= 1e-12 or p > 1 - 1e-12) and (g >= -1e-12 or p < 1e-12)
                for p, g in zip(q, gains, strict=True)
            )
            if stays:
                best = max(best, (1 - share) * (one * sum(q) + (both - 2 * one) * q[0] * q[1]))
        return best

    special = [c / g for c in costs for g in (one, both / 2) if 0 < c <= g]
    grid = np.linspace(1e-9, 1, points)
    values = [value(share) for share in grid]
    top = int(np.argmax(values))
    fine = np.linspace(grid[max(top - 1, 0)], grid[min(top + 1, points - 1)], points)
    return max(0.0, *values, *(value(share) for share in (*special, *fine)))


@pytest.mark.parametrize("costs", oracle.FIG_7)
def test_figure_7(costs):
    solution = pair(*WORKED_UTILITY[1:], *costs).solve()
    kept, share, paid = oracle.FIG_7[costs]
    assert solution.objective == pytest.approx(kept, abs=6e-5)  # printed to four digits
    assert solution.payment_share == pytest.approx(share, abs=6e-5)
    assert solution["payment"][1] == pytest.approx(paid, abs=6e-5)
    assert solution.status is mo.Status.OPTIMAL


def test_cells_of_figure_7():
    costs = np.arange(0.005, 0.75, 0.01)
    found = {(a, b): two_users(2 / 3, 1.0, a, b) for a in costs for b in costs}
    assert Counter(answer.regime for answer in found.values()) == oracle.FIG_7_CELLS
    table = two_user_map(WORKED_UTILITY, costs[::7], costs[3::7])
    for (a, b), row in table.iterrows():
        assert row["platform_utility"] == pytest.approx(found[a, b].platform_utility, abs=1e-12)
    assert table["payment_2"].unstack().shape == (11, 11)


def test_the_formula_is_a_scan_of_payment_shares():
    rng = np.random.default_rng(0)
    for number in range(40):
        one = 2 / 3 if number % 2 else float(rng.uniform(0.51, 0.95))
        costs = rng.uniform(0.01, one, 2)
        if number % 3 == 0:
            costs[1] = costs[0] * rng.uniform(1, 1.05)
        payments = pair(one, 1.0, *costs)
        assert payments.closed_form().platform_utility == pytest.approx(scan(payments, 150), abs=1e-9)


def test_the_formula_is_the_enumeration():
    rng = np.random.default_rng(1)
    for number in range(450):
        one = 2 / 3 if number < 150 else float(rng.uniform(0.51, 0.95))
        payments = pair(one, 1.0, *rng.uniform(0, 1.1 * one, 2))
        formula, solution = payments.closed_form(), payments.solve()
        assert solution.objective == pytest.approx(formula.platform_utility, abs=1e-9)
        assert payments.audit(solution).ok(1e-10)


def test_the_wedge_where_the_cheap_user_mixes():
    solution = pair(2 / 3, 1.0, 0.29, 0.30).solve()
    assert solution.objective == pytest.approx(0.40552, abs=1e-5)
    assert solution.payment_share == pytest.approx(0.58)
    assert solution.share_probability == pytest.approx([26 / 29, 1.0])
    swapped = pair(2 / 3, 1.0, 0.30, 0.29).solve()
    assert swapped.share_probability == pytest.approx([1.0, 26 / 29])
    # It opens at lo = 1/4 and closes where hi/lo - 1 reaches (1/3 - lo)/(1 - 2 lo).
    for low in (0.26, 0.28, 0.32):
        edge = low * (1 + (1 / 3 - low) / (1 - 2 * low))
        assert two_users(2 / 3, 1.0, low, edge - 1e-6).regime == "mixed"
        assert two_users(2 / 3, 1.0, low, edge + 1e-6).regime == "one"
    assert two_users(2 / 3, 1.0, 0.24, 0.2401).regime == "both"


def test_equilibria_of_two_users():
    payments = pair(2 / 3, 1.0, 0.3, 0.32)
    found = sorted(tuple(e.share_probability) for e in payments.equilibria(0.6))
    assert found == [pytest.approx(q) for q in ((0.0, 1.0), (0.8, 1.0), (1.0, 0.0))]
    assert max(e.regret for e in payments.equilibria(0.6)) <= 1e-12
    # Three of a battle over who shares
    middle = sorted(tuple(e.share_probability) for e in payments.equilibria(0.55))
    assert middle[0] == pytest.approx((0.0, 1.0))
    assert middle[2] == pytest.approx((1.0, 0.0))
    assert middle[1] == pytest.approx(((0.55 * 2 / 3 - 0.32) / (0.55 / 6), (0.55 * 2 / 3 - 0.3) / (0.55 / 6)))


def test_equilibria_by_integers_are_the_same():
    rng = np.random.default_rng(2)
    shares = [0.6, *rng.uniform(0.2, 0.95, 5)]
    for share in shares:
        costs = (0.3, 0.32) if share == 0.6 else tuple(rng.uniform(0.1, 0.5, 2))
        payments = pair(2 / 3, 1.0, *costs)
        found = sorted(tuple(e.share_probability) for e in payments.equilibria(share))
        cut = equilibria_by_integers(PairGame(payments.values, np.array(costs)), share)
        assert np.array(cut) == pytest.approx(np.array(found), abs=1e-6)
    program = payments.equilibria_program(0.6)
    assert mo.Capability.MIP in program.requires()


def test_the_global_solver_finds_the_same():
    rng = np.random.default_rng(3)
    cases = [(0.29, 0.30), (0.2, 0.25), *rng.uniform(0.05, 0.7, (3, 2))]
    for costs in cases:
        payments = pair(2 / 3, 1.0, *costs)
        scip = payments.solve("pyomo:scip", time_limit=20)
        assert scip.objective == pytest.approx(payments.solve().objective, abs=1e-5)
        own = payments.program().solve()
        assert own.backend == "exact"
        assert own.objective == pytest.approx(payments.solve().objective, abs=1e-12)
        assert max(own.residuals.values()) <= 1e-10
    local = payments.solve("pyomo:pounce", on_failure="return")
    assert local.status is mo.Status.LOCAL


def test_a_changed_program_needs_a_solver():
    payments = pair(2 / 3, 1.0, 0.2, 0.25)
    program = payments.program()
    program.add("budget", program["payments"] <= 0.3)
    with pytest.raises(mo.MissingCapability, match="budget"):
        program.solve("exact")
    solution = program.solve("pyomo:scip", time_limit=20)
    # Not both, for .5: the cheap one alone, for .2.
    assert solution.objective == pytest.approx(2 / 3 - 0.2, abs=1e-5)


def test_private_data_of_some_value():
    rng = np.random.default_rng(4)
    for worth in (0.05, 0.2):
        utility = oracle.two_levels(2, worth)
        costs = rng.uniform(0.1, 0.4, 2)
        payments = PlatformPayments(utility, 2, costs, "optimistic")
        solution = payments.solve()
        scip = payments.solve("pyomo:scip", time_limit=20)
        assert scip.objective == pytest.approx(solution.objective, abs=1e-5)
        found = oracle.all_equilibria(payments.values.relative_payoff, 0.25, 0.7, rng)
        same = PlatformPayments(utility, 2, [0.25, 0.25], "optimistic")
        told = [tuple(e.share_probability) for e in same.equilibria(0.7)]
        assert np.array(sorted(map(tuple, found))) == pytest.approx(np.array(sorted(told)), abs=1e-6)
    with pytest.raises(mo.NotApplicable, match="concave, increasing utility of sharers"):
        payments.closed_form()


def test_equal_costs_are_the_optimistic_selection():
    rng = np.random.default_rng(5)
    for worth in (0.0, 0.1):
        utility = oracle.two_levels(2, worth)
        cost = float(rng.uniform(0.1, 0.3))
        one_cost = PlatformPayments(utility, 2, cost, "optimistic").solve()
        game = PairGame(PlatformPayments(utility, 2, cost).values, np.full(2, cost))
        assert one_cost.objective == pytest.approx(game.optimum().objective, abs=1e-9)


# ------------------------------------------------------------------ many users


def pure_by_enumeration(worth, costs):
    best = (0.0, ())
    n = len(costs)
    for profile in product((0, 1), repeat=n):
        k = sum(profile)
        if not k:
            continue
        shares = [c * k / worth[k] for c, q in zip(costs, profile, strict=True) if q]
        share = max(shares)
        joins = [
            share * worth[k + 1] / (k + 1) > c + 1e-12 for c, q in zip(costs, profile, strict=True) if not q
        ]
        if share <= 1 and not any(joins):
            best = max(best, ((1 - share) * worth[k], profile))
    return best


def test_the_best_pure_equilibrium_of_many_users():
    rng = np.random.default_rng(6)
    for n in (1, 3, 4, 5, 6):
        for _ in range(5):
            worth = oracle.random_concave(rng, n)
            costs = rng.uniform(0.01, worth[1], n)
            value, k = best_pure(worth, costs)
            payments = PlatformPayments(worth, n, costs, "optimistic")
            solution = payments.solve()
            assert value == pytest.approx(pure_by_enumeration(worth, costs)[0], abs=1e-12)
            assert solution.objective == pytest.approx(value, abs=1e-12)
            assert int(np.sum(solution.share_probability)) == k
            assert solution.bound >= solution.objective - 1e-12
            assert payments.audit(solution).ok(1e-12)
            if n > 1 and solution.gap > 1e-6:
                assert solution.status is mo.Status.LOCAL
                assert "up to the bound" in solution.reason


def test_the_pure_equilibrium_of_an_odd_utility():
    # U(k)/k rises at k = 2: one sharer at its own cost would draw the other in.
    worth = np.array([0.0, 0.3, 1.0, 1.1])
    costs = np.array([0.1, 0.101, 0.9])
    solution = PlatformPayments(worth, 3, costs, "optimistic").solve()
    assert solution.objective == pytest.approx(pure_by_enumeration(worth, costs)[0], abs=1e-12)


def test_many_users_in_an_instant():
    n = 10_000
    k = np.arange(n + 1.0)
    worth = (n + 2) / n * k / (k + 2)
    costs = np.random.default_rng(7).uniform(0, 0.3, n)
    payments = PlatformPayments(worth, n, costs, "optimistic")
    solution = payments.solve()
    assert solution.objective == pytest.approx(best_pure(worth, costs)[0], abs=1e-12)
    assert payments.audit(solution).ok(1e-12)
    cheapest = np.sort(costs)[: int(solution.share_probability.sum())]
    assert np.sort(costs[solution.share_probability == 1]) == pytest.approx(cheapest)


def test_users_and_costs_may_be_permuted():
    rng = np.random.default_rng(8)
    worth, costs = oracle.random_concave(rng, 6), rng.uniform(0.05, 0.9, 6)
    order = rng.permutation(6)
    base = PlatformPayments(worth, 6, costs, "optimistic").solve()
    moved = PlatformPayments(worth, 6, costs[order], "optimistic").solve()
    assert moved.objective == pytest.approx(base.objective, abs=1e-13)
    assert moved.share_probability.tolist() == base.share_probability[order].tolist()


# ------------------------------------------------------------------ what is refused


def test_what_costs_of_their_own_do_not_allow():
    with pytest.raises(mo.InvalidInput, match="selection='optimistic'"):
        PlatformPayments([0, 0.7, 1], 2, [0.1, 0.2])
    with pytest.raises(mo.NotApplicable, match="differ use selection 'optimistic'"):
        PlatformPayments([0, 0.7, 1], 2, [0.1, 0.2], "pessimistic").solve()
    with pytest.raises(mo.NotApplicable, match="one privacy_cost for all users"):
        pair(0.7, 1.0, 0.1, 0.2).symmetric_regret(0.5, 0.5)
    with pytest.raises(mo.NotApplicable, match="for two users, got 3"):
        PlatformPayments([0, 0.7, 1, 1.1], 3, [0.1, 0.2, 0.3], "optimistic").equilibria_program(0.5)
    with pytest.raises(mo.NotApplicable, match="concave, increasing utility"):
        pair(0.4, 1.0, 0.1, 0.2).closed_form()
    with pytest.raises(mo.NotApplicable, match="there are solve\\(\\), audit"):
        pair(0.7, 1.0, 0.1, 0.2).certify()
    same = PlatformPayments([0, 0.7, 1], 2, [0.1, 0.1])
    assert same.solve().objective == pytest.approx(0.8)
    with pytest.raises(mo.InvalidInput, match="of 0, 1 and 2 sharers"):
        two_user_map([0, 1], [0.1], [0.1])
