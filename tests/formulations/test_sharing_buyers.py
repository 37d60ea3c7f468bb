"""One buyer's choice of sellers: every algorithm against all sets, ties, limits, and what sellers bring."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from mechopt.formulations.functions import (
    AdditiveUtility,
    CappedUtility,
    EvaluatedGain,
    InverseSqrtUtility,
    LinearUtility,
    LogUtility,
    SaturatingUtility,
    SqrtUtility,
    TableUtility,
    ThresholdUtility,
    UserUtility,
    Utility,
)
from mechopt.formulations.sharing_market.buyers import (
    BuyerProblem,
    Purchase,
    best_purchase,
    branch_and_bound,
    choice,
    knapsack,
    surplus_with_free_each,
    surplus_without_each,
)
from mechopt.formulations.sharing_market.buyers.choice import METHODS
from mechopt.formulations.sharing_market.exact import (
    SolveCount,
    free_one,
    leave_one_out,
    welfare_maximum,
)
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.formulations.sharing_market.restrictions import Restrictions
from mechopt.solvers.errors import InvalidInput, NotApplicable
from tests.oracles.sharing_buyers import FORMULAS, Buyer, best_set, best_with_free

FAMILIES = (*FORMULAS, "additive", "table")
# Money is of order 1 to 100, and both sides are sums of a dozen numbers.
EXACT = 1e-9


def utility_of(buyer: Buyer) -> Utility:
    p = buyer.parameters
    match buyer.family:
        case "hump":
            return UserUtility(lambda D: p[0] * (D / p[1]) ** 2 * np.exp(-D / p[1]))
        case "ratio":
            a, s = p
            return EvaluatedGain(lambda D: a * D / (s + D), lambda D: a * s / (s + D) ** 2, s)
        case "additive":
            return AdditiveUtility(p)
        case "table":
            return TableUtility(p)
    kinds = {
        "linear": LinearUtility,
        "log": LogUtility,
        "sqrt": SqrtUtility,
        "inverse_sqrt": InverseSqrtUtility,
        "saturating": SaturatingUtility,
        "capped": CappedUtility,
        "threshold": ThresholdUtility,
    }
    return kinds[buyer.family](*p)


def problem_of(buyer: Buyer) -> BuyerProblem:
    available = np.zeros(len(buyer.size), dtype=bool)
    available[list(buyer.sellers)] = True
    arrays = (np.array(values, dtype=float) for values in (buyer.size, buyer.weight, buyer.cost))
    return BuyerProblem(utility_of(buyer), buyer.own_size, *arrays, available, buyer.cap, buyer.budget)


def random_buyer(rng: np.random.Generator, family: str, n: int) -> Buyer:
    """Sizes, weights and costs of every kind: whole, equal, zero, huge, any; some of them with limits."""
    size = (
        rng.integers(1, 7, n).astype(float),
        np.full(n, 2.5),
        rng.uniform(0.3, 6.0, n),
        rng.uniform(0.3, 6.0, n),
    )[rng.integers(4)]
    weight = (np.ones(n), rng.choice([0.0, 1.0, 1.0, 0.5], n), rng.uniform(0, 2, n), np.full(n, 0.7))
    cost = (rng.choice([0.0, 0.5, 1.0, 2.0], n), rng.uniform(0, 3, n), np.full(n, 1.5), rng.uniform(-1, 2, n))
    a, s = rng.uniform(2, 20), rng.uniform(1, 15)
    own = float(rng.choice([rng.uniform(0.1, 5.0), 3.0, 1e6]))
    buyer = int(rng.integers(n))
    others = [i for i in range(n) if i != buyer]
    sellers = [i for i in others if rng.random() < 0.95]
    chosen = weight[rng.integers(4)]
    parameters: object = {"linear": (a / 10,), "sqrt": (a,), "inverse_sqrt": (3 * a,)}.get(family, (a, s))
    if family == "threshold" and rng.integers(2):
        parameters = (a, own + float((size * chosen)[:2].sum() or s))
    if family == "additive":
        parameters = tuple(rng.uniform(-0.5, 4.0, n) if rng.integers(2) else rng.integers(0, 4, n))
    if family == "table":
        chosen = np.ones(n)
        parameters = {
            frozenset(members): float(rng.integers(0, 9))
            for number in range(n)
            for members in itertools.combinations(others, number)
        }
    return Buyer(
        family,
        parameters,
        own,
        tuple(size.tolist()),
        tuple(chosen.tolist()),
        tuple(cost[rng.integers(4)].tolist()),
        tuple(sellers),
        cap=float(rng.integers(0, 5)) if rng.random() < 0.2 else np.inf,
        budget=float(rng.choice([0.0, 3.0, rng.uniform(0, 6)])) if rng.random() < 0.2 else np.inf,
    )


def simple(
    utility: Utility, size: object, cost: object, own: float = 1.0, weight: object = None, **limits: float
) -> BuyerProblem:
    """A buyer to whom everybody sells."""
    size, cost = np.array(size, dtype=float), np.array(cost, dtype=float)
    weight = np.ones(size.size) if weight is None else np.array(weight, dtype=float)
    return BuyerProblem(utility, own, size, weight, cost, np.ones(size.size, dtype=bool), **limits)


def methods_for(problem: BuyerProblem) -> list[Purchase]:
    """What each algorithm that applies finds."""
    found = []
    for method in METHODS:
        try:
            found.append(best_purchase(problem, method))
        except (InvalidInput, NotApplicable):
            continue
    return found


# ------------------------------------------------------------ against all sets


@pytest.mark.parametrize("family", FAMILIES)
def test_every_method_finds_the_best_set_and_the_first_of_them(family):
    rng = np.random.default_rng(FAMILIES.index(family))
    used = set()
    for case in range(50 if family == "ratio" else 150):  # evaluated functions are checked when made
        buyer = random_buyer(rng, family, int(rng.integers(2, 10 if case % 15 == 0 else 7)))
        problem = problem_of(buyer)
        # The tie of the oracle is relative to a utility that may be as large as 1e7 (linear, own data 1e6).
        best, first = best_set(buyer, tie=2 * problem.tie)
        auto = best_purchase(problem)
        for found in (auto, *methods_for(problem)):
            used.add(found.method)
            assert found.surplus == pytest.approx(best, rel=1e-13, abs=EXACT), (buyer, found)
            assert tuple(np.flatnonzero(found.taken)) == first, (buyer, found, best)
            assert found.surplus == found.utility - found.cost
            assert found.taken.sum() <= buyer.cap
            assert found.cost <= buyer.budget + EXACT
            assert not found.taken[~problem.available].any()
    assert "enumeration" in used
    assert family == "table" or {"sort", "knapsack"} <= used
    assert family in ("table", "hump") or {"size_sort", "branch_and_bound"} <= used


@pytest.mark.parametrize("family", FAMILIES)
def test_what_each_seller_brings_and_what_its_gift_would(family):
    rng = np.random.default_rng(100 + FAMILIES.index(family))
    for _ in range(15 if family == "ratio" else 40):  # evaluated functions are checked when made
        buyer = random_buyer(rng, family, int(rng.integers(2, 7)))
        problem = problem_of(buyer)
        best, _ = best_set(buyer)
        agents = range(len(buyer.size))
        gifts = [best_with_free(buyer, i) if i in buyer.sellers else best for i in agents]
        for found in methods_for(problem):
            losses = [best_set(buyer, (i,))[0] if found.taken[i] else best for i in agents]
            without = surplus_without_each(problem, found)
            np.testing.assert_allclose(without, losses, rtol=1e-13, atol=EXACT, err_msg=f"{buyer}")
            assert np.all(without <= found.surplus)
            with_free = surplus_with_free_each(problem, found)
            np.testing.assert_allclose(with_free, gifts, rtol=1e-13, atol=EXACT, err_msg=f"{buyer}")


def test_methods_agree_where_enumeration_cannot_go():
    rng = np.random.default_rng(3)
    for utility in (LogUtility(300.0, 50.0), CappedUtility(200.0, 300.0), ThresholdUtility(200.0, 150.0)):
        for limits in ({}, {"cap": 9.0}, {"budget": 40.0}):
            if isinstance(utility, ThresholdUtility) and limits:
                continue  # the table alone takes these
            size = rng.integers(1, 21, 60)
            problem = simple(utility, size, size * rng.uniform(0.2, 1.5, 60), **limits)
            table, tree = (best_purchase(problem, method) for method in ("knapsack", "branch_and_bound"))
            assert tree.surplus == pytest.approx(table.surplus, abs=EXACT)
            np.testing.assert_array_equal(tree.taken, table.taken)
            np.testing.assert_allclose(
                surplus_without_each(problem, tree), surplus_without_each(problem, table), atol=EXACT
            )


@pytest.mark.parametrize("limits", [{}, {"cap": 7.0}], ids=["free", "cap"])
@pytest.mark.parametrize("method", ["sort", "size_sort", "knapsack"])
def test_all_sellers_at_once_as_one_by_one(method, limits):
    rng = np.random.default_rng(4)
    size = {"sort": np.full(40, 2.0), "size_sort": rng.uniform(1, 9, 40)}.get(method, rng.integers(1, 9, 40))
    cost = np.full(40, 1.3) if method == "size_sort" else rng.uniform(0.1, 4, 40)
    problem = simple(LogUtility(60.0, 20.0), size, cost, **limits)
    best = best_purchase(problem, method)
    assert 0 < best.taken.sum() < 40
    without, free = surplus_without_each(problem, best), surplus_with_free_each(problem, best)
    for seller in range(40):
        less = best_purchase(problem.without(seller), "branch_and_bound").surplus
        gift = best_purchase(problem.with_free(seller), "branch_and_bound").surplus
        assert without[seller] == pytest.approx(less, abs=EXACT)
        assert free[seller] == pytest.approx(gift, abs=EXACT)
    assert np.any(without < best.surplus - 1e-3)
    assert np.any(free[~best.taken] > best.surplus + 1e-3)


def test_one_gift_can_make_a_whole_set_worth_buying():
    # Three are enough, and would cost 12 for a value of 10: none is taken, until one of them is free.
    problem = simple(ThresholdUtility(10.0, 7.0), [2, 2, 2, 2], [3, 4, 5, 9])
    for found in methods_for(problem):
        assert not found.taken.any()
        assert surplus_with_free_each(problem, found).tolist() == [1, 2, 3, 3], found.method


# ------------------------------------------------------------ limits and symmetries


def test_nothing_to_buy():
    nobody = replace(simple(LogUtility(5.0, 1.0), [1.0, 2.0], [0, 0]), available=np.zeros(2, dtype=bool))
    useless = simple(LogUtility(5.0, 1.0), [1.0, 2.0], [0, 1], weight=[0, 0])
    dear = simple(LogUtility(5.0, 1.0), [1.0, 2.3], [50, 60])
    capped = simple(LogUtility(5.0, 1.0), [1.0, 2.3], [0, 0], cap=0)
    for problem in (nobody, useless, dear, capped):
        for found in (best_purchase(problem), *methods_for(problem)):
            assert not found.taken.any()
            assert found.surplus == found.utility == pytest.approx(5 * np.log(2.0))
            assert np.all(surplus_without_each(problem, found) == found.surplus)


def test_free_data_are_all_taken_and_sellers_who_pay_too():
    found = best_purchase(simple(LogUtility(5.0, 1.0), [1.0, 2.3, 0.7], [0, 0, 0]))
    assert found.taken.all()
    # Quality 0 adds nothing: taken only by a buyer who is paid for it.
    problem = simple(LogUtility(5.0, 1.0), [1.0, 2.3, 0.7], [0.1, -1, 0], weight=[1, 0, 0])
    for found in (best_purchase(problem), *methods_for(problem)):
        assert found.taken.tolist() == [True, True, False]
        without = surplus_without_each(problem, found)
        assert without[1] == pytest.approx(found.surplus - 1)
        assert surplus_with_free_each(problem, found)[1] == pytest.approx(found.surplus - 1)


def test_under_a_cap_even_data_without_use_compete_for_places():
    rng = np.random.default_rng(14)
    for _ in range(40):
        weight, cost = rng.choice([0.0, 1.0], 6), rng.uniform(-2.0, 1.0, 6)
        problem = simple(LogUtility(3.0, 2.0), rng.uniform(1, 4, 6), cost, weight=weight, cap=2)
        most = best_purchase(problem, "enumeration")
        assert most.taken.sum() <= 2
        for found in methods_for(problem):
            np.testing.assert_array_equal(found.taken, most.taken)
    # No data of any use at all.
    for found in methods_for(simple(LogUtility(3.0, 2.0), [1, 2, 3], [-1, -2, -3], weight=[0, 0, 0], cap=2)):
        assert found.taken.tolist() == [False, True, True]


def test_money_has_no_unit_and_sellers_no_order():
    rng = np.random.default_rng(5)
    for _ in range(20):
        size, cost = rng.uniform(1, 10, 25), rng.uniform(0.2, 3, 25)
        order = rng.permutation(25)
        one = best_purchase(simple(SqrtUtility(8.0), size, cost))
        rich = best_purchase(simple(SqrtUtility(8e6), size, 1e6 * cost))
        other = best_purchase(simple(SqrtUtility(8.0), size[order], cost[order]))
        np.testing.assert_array_equal(one.taken, rich.taken)
        assert rich.surplus == pytest.approx(1e6 * one.surplus, rel=1e-13)
        np.testing.assert_array_equal(one.taken[order], other.taken)


def test_a_larger_budget_or_cap_never_hurts():
    rng = np.random.default_rng(6)
    size, cost = rng.uniform(1, 10, 40), rng.uniform(0.2, 3, 40)
    for name, limits in (("budget", np.linspace(0, 30, 13)), ("cap", np.arange(13.0))):
        found = [best_purchase(simple(SqrtUtility(8.0), size, cost, **{name: limit})) for limit in limits]
        surplus = [purchase.surplus for purchase in found]
        assert np.all(np.diff(surplus) >= 0)
        assert surplus[0] < surplus[-1]


# ------------------------------------------------------------ ties


def test_fewest_sellers_then_the_first():
    # {0, 3} and {1, 2} have one total and one cost; so has {4} of both, alone.
    pairs = simple(LogUtility(20.0, 4.0), [1, 2, 3, 4], [0.5, 1, 1.5, 2])
    assert {tuple(np.flatnonzero(found.taken)) for found in methods_for(pairs)} == {(0, 1, 2, 3)}
    cap = CappedUtility(6.0, 6.0)
    for found in methods_for(simple(cap, [1, 2, 3, 4], [0.5, 1, 1.5, 2])):
        assert np.flatnonzero(found.taken).tolist() == [0, 3], found.method
    for found in methods_for(simple(cap, [1, 2, 3, 4, 5], [0.5, 1, 1.5, 2, 2.5])):
        assert np.flatnonzero(found.taken).tolist() == [4], found.method
    # Any one is enough: the first, not the largest.
    for found in methods_for(simple(ThresholdUtility(6.0, 2.0), [2, 3, 4], [1, 1, 1])):
        assert np.flatnonzero(found.taken).tolist() == [0], found.method
    # A seller who is worth exactly its cost is left out.
    for found in methods_for(simple(LinearUtility(2.0), [1.5, 2.0], [3.0, 3.0])):
        assert np.flatnonzero(found.taken).tolist() == [1], found.method


def test_costs_that_differ_by_rounding_tie():
    problem = simple(LogUtility(4.0, 1.0), [1, 1, 1], [0.3, 0.1 + 0.2, 0.3], cap=2)
    swapped = simple(LogUtility(4.0, 1.0), [1, 1, 1], [0.1 + 0.2, 0.3, 0.3], cap=2)
    for case in (problem, swapped):
        for found in methods_for(case):
            assert np.flatnonzero(found.taken).tolist() == [0, 1], found.method


# ------------------------------------------------------------ branch and bound


def same_price(n: int, seed: int, *, tenths: bool = False) -> BuyerProblem:
    """All data cost the same per record: the worst case, a subset-sum problem."""
    rng = np.random.default_rng(seed)
    size = rng.integers(10, 100, n) / 10 if tenths else rng.uniform(1, 10, n)
    price = 100.0 / (21 + 0.45 * size.sum())
    return simple(LogUtility(100.0, 20.0), size, price * size)


@pytest.mark.parametrize("seed", range(6))
def test_one_price_for_all_data(seed):
    problem = same_price(12, seed)
    tree, all_sets = (best_purchase(problem, method) for method in ("branch_and_bound", "enumeration"))
    assert tree.surplus == pytest.approx(all_sets.surplus, abs=EXACT)
    np.testing.assert_array_equal(tree.taken, all_sets.taken)
    assert 10 < tree.n_nodes < 2**12


@pytest.mark.parametrize("n", [18, 25, 100, 400])
def test_one_price_for_all_data_of_many(n):
    problem = same_price(n, 1)
    found = best_purchase(problem, "branch_and_bound")
    assert found.n_nodes < 20_000
    # Divisible data bound it from above: total D with 100 / (20 + D) = price.
    price = float(problem.cost[0] / problem.data_size[0])
    total = 100 / price - 20
    bound = 100 * np.log1p(total / 20) - price * (total - 1)
    assert found.surplus <= bound + EXACT
    if n > 18:
        # The search stops where only sets of fewer sellers could be as good.
        assert found.surplus >= bound - problem.tie * n - EXACT
    else:
        assert found.surplus == pytest.approx(best_purchase(problem, "enumeration").surplus, abs=EXACT)


def closest_sums(size, target):
    """The subset sums next to a number, below and above: sorted sums of one half, looked up for the other."""

    def sums(part):
        return np.array([0.0]) if not part.size else np.add.outer(sums(part[1:]), [0.0, part[0]]).ravel()

    low, high = np.sort(sums(size[: size.size // 2])), sums(size[size.size // 2 :])
    place = np.searchsorted(low, target - high)
    below = high[place > 0] + low[place[place > 0] - 1]
    above = high[place < low.size] + low[place[place < low.size]]
    return below.max(), above.min()


@pytest.mark.parametrize(("n", "seed"), [(24, 0), (27, 1), (32, 2)])
def test_a_kink_that_no_total_meets(n, seed):
    """Subset sum itself: worth 4 times its price up to half of all data, and nothing beyond."""
    size = np.random.default_rng(seed).uniform(0.5, 5, n)
    enough, price = size.sum() / 2, 50 / size.sum()
    found = best_purchase(simple(CappedUtility(100.0 + 200 / size.sum(), enough + 1), size, price * size))
    rate = (100.0 + 200 / size.sum()) / (enough + 1)
    best = max(rate * min(s + 1, enough + 1) - price * s for s in closest_sums(size, enough))
    assert found.method == "branch_and_bound"
    assert found.surplus == pytest.approx(best, abs=1e-10)


def test_a_kink_that_many_totals_nearly_meet():
    size = np.random.default_rng(3).uniform(0.5, 5, 60)
    problem = simple(CappedUtility(100.0, 1 + size.sum() / 2), size, 50 / size.sum() * size)
    found = best_purchase(problem)
    bound = 100 - 50 / size.sum() * size.sum() / 2
    assert bound - 2 * problem.tie * problem.n_agents <= found.surplus <= bound + EXACT


def test_tenths_go_to_the_table():
    problem = same_price(60, 2, tenths=True)
    found = best_purchase(problem)
    assert found.method == "knapsack"
    with pytest.raises(NotApplicable, match=r"looked at 2000 nodes without an end"):
        branch_and_bound.choose(problem, 2000)


def test_a_search_without_an_end_goes_on_with_all_sets(monkeypatch):
    monkeypatch.setattr(choice, "_QUICK_NODES", 500)
    # A kink that no sum of real sizes meets: hard, but these are few.
    size = np.random.default_rng(0).uniform(1, 10, 18)
    problem = simple(CappedUtility(100.0, size.sum() / 2), size, size * 180 / size.sum())
    assert best_purchase(problem).method == "enumeration"


def test_large_tables_are_a_last_resort():
    rng = np.random.default_rng(8)
    size = rng.integers(1, 50, 600)
    problem = simple(LogUtility(3000.0, 500.0), size, size * rng.uniform(0.5, 1.5, 600))
    found = best_purchase(problem)
    assert found.method == "branch_and_bound"
    assert found.n_nodes < 1000
    assert found.surplus == pytest.approx(best_purchase(problem, "knapsack").surplus, abs=EXACT)


@pytest.mark.parametrize(
    "utility",
    [
        LogUtility(3000.0, 500.0),
        SqrtUtility(60.0),
        SaturatingUtility(6000.0, 2000.0),
        InverseSqrtUtility(1e5),
        CappedUtility(3000.0, 2500.0),
        EvaluatedGain(lambda D: 4000 * D / (500 + D), lambda D: 2e6 / (500 + D) ** 2, 500.0),
    ],
    ids=lambda utility: type(utility).__name__,
)
def test_few_nodes_for_hundreds_of_sellers(utility):
    rng = np.random.default_rng(9)
    size = rng.uniform(1, 20, 500)
    problem = simple(utility, size, size * rng.uniform(0.5, 1.5, 500))
    found = best_purchase(problem)
    assert found.method == "branch_and_bound"
    assert found.n_nodes < 2000
    # No single seller, and no pair of one in and one out, improves it.
    inside, outside = found.taken, ~found.taken
    total = 1 + float(size[inside].sum())
    for change, saved in (
        (size[outside], -problem.cost[outside]),
        (-size[inside], problem.cost[inside]),
        (
            np.subtract.outer(size[outside], size[inside]),
            -np.subtract.outer(problem.cost[outside], problem.cost[inside]),
        ),
    ):
        assert np.max(utility(total + change) - found.utility + saved) <= EXACT


# ------------------------------------------------------------ what does not apply


def test_methods_refuse_what_they_are_not_for():
    log = LogUtility(5.0, 1.0)
    mixed = simple(log, [1.0, 2.5, np.pi], [1, 2, 3])
    with pytest.raises(InvalidInput, match=r"no method 'greedy'.*'knapsack'"):
        best_purchase(mixed, "greedy")
    with pytest.raises(InvalidInput, match=r"one size.*is 1 of seller 0 and 3\.14159 of seller 2"):
        best_purchase(mixed, "sort")
    with pytest.raises(InvalidInput, match=r"one cost, but cost is 1 of seller 0 and 3 of seller 2"):
        best_purchase(mixed, "size_sort")
    with pytest.raises(InvalidInput, match=r"whole sizes.*is 3\.14159265359 of seller 2"):
        best_purchase(mixed, "knapsack")
    with pytest.raises(NotApplicable, match=r"AdditiveUtility and LinearUtility, not LogGain"):
        best_purchase(mixed, "additive")
    with pytest.raises(NotApplicable, match="no place for a budget"):
        best_purchase(simple(LinearUtility(1.0), [1, 2], [1, 1], budget=1), "additive")
    falls = UserUtility(lambda D: D * (9 - D))
    with pytest.raises(NotApplicable, match="cannot fall as data grows"):
        best_purchase(simple(falls, [1, 2], [1, 1]), "size_sort")
    with pytest.raises(NotApplicable, match=r"concave utility.*not UserUtility"):
        best_purchase(simple(falls, [1, 2], [1, 1]), "branch_and_bound")
    with pytest.raises(NotApplicable, match="no function of a sum"):
        best_purchase(simple(TableUtility({(): 0, (0,): 1}), [1], [1]), "sort")
    with pytest.raises(NotApplicable, match=r"a threshold under a cap or a budget"):
        best_purchase(simple(ThresholdUtility(5.0, 3.0), [1, 2.2], [1, 1], budget=1), "branch_and_bound")
    many = simple(falls, np.sqrt(np.arange(2.0, 25.0)), np.arange(23.0))
    with pytest.raises(InvalidInput, match=r"23 sellers would be 2\^23 sets.*market\.program"):
        best_purchase(many, "enumeration")
    with pytest.raises(NotApplicable, match=r"no exact algorithm takes UserUtility of 23 sellers.*joint"):
        best_purchase(many)


def test_tables_have_a_largest_size(monkeypatch):
    problem = simple(UserUtility(np.sqrt), [10, 31], [1, 2])
    monkeypatch.setattr(knapsack, "MOST_STEPS", 50)
    with pytest.raises(NotApplicable, match=r"would fill 84 entries.*larger units"):
        best_purchase(problem, "knapsack")
    assert best_purchase(problem).method == "enumeration"


def test_bad_problems():
    log = LogUtility(5.0, 1.0)
    with pytest.raises(InvalidInput, match=r"cost\[1\] = nan must be finite"):
        simple(log, [1, 2], [1, np.nan])
    with pytest.raises(InvalidInput, match=r"data_size\[0\] = -1\.0 must be finite and >= 0"):
        simple(log, [-1, 2], [1, 1])
    with pytest.raises(InvalidInput, match=r"quality_weight has shape \(3,\)"):
        simple(log, [1, 2], [1, 1], weight=[1, 1, 1])
    with pytest.raises(InvalidInput, match=r"cap = -1 must be >= 0"):
        simple(log, [1, 2], [1, 1], cap=-1)
    with pytest.raises(InvalidInput, match="available must be one bool"):
        BuyerProblem(log, 1.0, np.ones(2), np.ones(2), np.ones(2), np.array([1, 0]))
    with pytest.raises(InvalidInput, match=r"utility of 0 records is -inf.*own_size > 0"):
        best_purchase(simple(InverseSqrtUtility(1.0), [1, 2], [1, 1], own=0.0))
    with pytest.raises(NotApplicable, match="no value for data of other quality"):
        best_purchase(simple(TableUtility({(): 0, (0,): 1}), [1], [1], weight=[0.5]))


# ------------------------------------------------------------ all buyers


def random_market(rng: np.random.Generator, n: int) -> SharingMarket:
    cost = rng.uniform(0, 2, (n, n))
    np.fill_diagonal(cost, 0)
    return SharingMarket(rng.uniform(1, 4, n), cost, [LogUtility(a, 2.0) for a in rng.uniform(2, 9, n)])


def test_welfare_is_the_most_of_all_graphs():
    rng = np.random.default_rng(11)
    for _ in range(20):
        market = random_market(rng, 3)
        edges = [(i, j) for i in range(3) for j in range(3) if i != j]
        forbidden = np.zeros((3, 3))
        forbidden[0, 1] = 1
        limits = Restrictions.of(3, {"forbidden": forbidden, "buyer_cap": 1})
        most, most_limited = -np.inf, -np.inf
        for bits in itertools.product((0.0, 1.0), repeat=6):
            graph = np.zeros((3, 3))
            graph[tuple(zip(*edges, strict=True))] = bits
            most = max(most, market.welfare(graph))
            if not any(limits.violations(graph, market.sharing_cost).values()):
                most_limited = max(most_limited, market.welfare(graph))
        best, limited = welfare_maximum(market), welfare_maximum(market, limits)
        assert best.welfare == pytest.approx(most, abs=EXACT)
        assert best.welfare == pytest.approx(market.welfare(best.adjacency), abs=EXACT)
        assert limited.welfare == pytest.approx(most_limited, abs=EXACT)
        np.testing.assert_allclose(best.surplus, best.utility - best.cost)


def test_leave_one_out_is_the_market_without_that_agent():
    rng = np.random.default_rng(12)
    market = random_market(rng, 8)
    count = SolveCount()
    best = welfare_maximum(market, count=count)
    without = leave_one_out(market, best, count=count)
    # One solution for each buyer and for each edge, instead of N (N - 1) + N.
    assert count.n_solves == 8 + best.n_edges < 64
    free = free_one(market, best)
    for agent in range(8):
        rest = np.delete(np.arange(8), agent)
        smaller = SharingMarket(
            market.data_size[rest],
            market.sharing_cost[np.ix_(rest, rest)],
            [market.utility[k] for k in rest],
        )
        np.testing.assert_allclose(without[agent, rest], welfare_maximum(smaller).surplus, atol=EXACT)
        assert without[agent, agent] == free[agent, agent] == best.surplus[agent]
        cost = market.sharing_cost.copy()
        cost[agent] = 0
        gift = welfare_maximum(replace(market, sharing_cost=cost)).surplus
        np.testing.assert_allclose(free[agent, rest], gift[rest], atol=EXACT)


def test_couplings_are_refused_by_name():
    market = random_market(np.random.default_rng(13), 3)
    with pytest.raises(NotApplicable, match=r"seller_cap, reciprocity couples buyers") as raised:
        welfare_maximum(market, Restrictions.of(3, {"seller_cap": 1, "reciprocity": True}))
    assert raised.value.reason == "seller_cap, reciprocity"
