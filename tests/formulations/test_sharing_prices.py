"""Prices of data: the definition of equilibrium, intervals by two roads, joint prices, the core."""

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.functions import (
    AdditiveUtility,
    CappedUtility,
    LinearUtility,
    LogUtility,
    TableUtility,
    ThresholdUtility,
    UserUtility,
)
from mechopt.formulations.sharing_market import prices
from mechopt.formulations.sharing_market.families import CONCAVE, EVERY, random_market
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.formulations.sharing_market.restrictions import Restrictions
from tests.oracles import sharing_prices as oracle

EXACT = 1e-9  # sums of a few numbers of order ten, and linear programs at basic solutions


def pair(cost, gain):
    """Agent 0 sells to agent 1, to whom its one record is worth ``gain``."""
    return SharingMarket([1.0, 1.0], [[0, cost], [100, 0]], LinearUtility(gain))


def at_cost(market):
    graph = np.array(market.adjacency(market.solve()))
    return graph, np.array(market.sharing_cost)


def edges(market):
    return [(i, j) for i in range(market.n_agents) for j in range(market.n_agents) if i != j]


def draw(seed, n, *kinds, **options):
    rng = np.random.default_rng(seed)
    return [random_market(rng, *kinds, **options).market() for _ in range(n)]


# ------------------------------------------------------------ equilibrium


def test_costs_are_equilibrium_prices_and_leave_the_core():
    for market in draw(0, 120, *EVERY, max_agents=5):
        graph, price = at_cost(market)
        assert np.array_equal(market.competitive_prices(), price)
        check = market.is_equilibrium(graph, price)
        assert check
        assert check.kind == ""
        assert check.gain <= EXACT
        payoff = market.buyer_value(graph) - (graph * price).sum(axis=0)
        assert market.in_core(payoff)
        assert oracle.regret(market, graph, price) <= EXACT
        if market.n_agents <= 3:
            assert oracle.core_excess(market, payoff) <= EXACT


def test_check_agrees_with_the_definition_at_random_graphs_and_prices():
    rng = np.random.default_rng(1)
    seen = {"": 0, "demand": 0, "supply": 0}
    for market in draw(2, 150, *EVERY, max_agents=4):
        graph, price = at_cost(market)
        if rng.random() < 0.3:
            i, j = edges(market)[rng.integers(len(edges(market)))]
            graph[i, j] = 1 - graph[i, j]
        price = price + rng.choice([0, 0, 0, 1], price.shape) * rng.normal(0, 0.3, price.shape)
        np.fill_diagonal(price, 0)
        check = market.is_equilibrium(graph, price)
        gain = oracle.regret(market, graph, price)
        assert bool(check) == (gain <= 1e-9), (check, gain)
        seen[check.kind] += 1
        if check.kind == "demand":
            better = oracle.kept(market, check.agent, check.better, price)
            now = oracle.kept(market, check.agent, tuple(np.flatnonzero(graph[:, check.agent])), price)
            assert better - now == pytest.approx(check.gain, rel=1e-9)
            assert check.gain > 0
        if check.kind == "supply":
            i, j = check.better
            assert check.agent == i
            margin = price[i, j] - market.sharing_cost[i, j]
            assert check.gain == pytest.approx(-margin if graph[i, j] else margin)
        assert check or str(check.agent) in check.witness
    assert min(seen.values()) >= 10


def test_no_prices_support_a_graph_that_is_not_optimal():
    """The first welfare theorem, by linear programs over all prices at which sellers agree."""
    rng = np.random.default_rng(3)
    supported = unsupported = 0
    for market in draw(4, 40, *EVERY, n_agents=3):
        graph, _ = at_cost(market)
        if rng.random() < 0.7:
            graph = rng.integers(0, 2, (3, 3)) * (1 - np.eye(3))
        best = market.solve().objective
        optimal = best - market.welfare(graph) <= EXACT
        found = all(oracle.joint_prices(market, graph, j, np.zeros(3)) is not None for j in range(3))
        assert found == optimal
        supported, unsupported = supported + optimal, unsupported + (not optimal)
    assert supported >= 5
    assert unsupported >= 5


def test_equilibrium_takes_a_solution_and_refuses_bad_prices():
    market = pair(5.0, 3.0)
    assert market.is_equilibrium(market.solve(), market.sharing_cost)
    with pytest.raises(mo.InvalidInput, match=r"price has shape \(2,\)"):
        market.is_equilibrium(market.solve(), [1.0, 2.0])
    with pytest.raises(mo.InvalidInput, match=r"price\[0, 1\] is nan"):
        market.is_equilibrium(market.solve(), [[0, np.nan], [0, 0]])
    with pytest.raises(mo.InvalidInput, match="self-sharing"):
        market.is_equilibrium(np.eye(2), market.sharing_cost)


def test_money_in_other_units_changes_nothing():
    for market in draw(5, 20, "log", n_agents=3):
        graph, price = at_cost(market)
        big = SharingMarket(
            market.data_size,
            1e6 * market.sharing_cost,
            [LogUtility(1e6 * u.weight, 1 / u.scale) for u in market.utility],
        )
        for i, j in edges(market):
            small, large = np.array(market.price_interval(i, j)), np.array(big.price_interval(i, j))
            assert large == pytest.approx(1e6 * small, rel=1e-9)
        price[0, 1] += 1e-3
        assert bool(market.is_equilibrium(graph, price)) == bool(big.is_equilibrium(graph, 1e6 * price))


# ------------------------------------------------------------ couplings


def test_prices_under_couplings_are_an_equilibrium_or_do_not_exist():
    rng = np.random.default_rng(6)
    found = 0
    limits = ({"seller_cap": 1}, {"reciprocity": True}, {"platform_cap": 2}, {"upload_cost": 0.5})
    for number in range(12):
        kinds = CONCAVE if number % 2 else ("table",)
        market = random_market(rng, *kinds, n_agents=3, dearness=0.7).market()
        given = limits[number // 2 % 4]
        read = Restrictions.of(3, given)
        solution = market.solve(**given)
        bound = market.configuration_program(**given).solve().objective
        if bound > solution.objective + 1e-6:
            with pytest.raises(mo.NotApplicable, match="no linear prices"):
                market.competitive_prices(**given)
            continue
        price = market.competitive_prices(**given)
        # Solvers' duals are good to some 1e-8.
        check = prices.check_equilibrium(market, market.adjacency(solution), price, 1e-6, read)
        assert check, check
        # Far above what anybody would pay, sellers want to sell and nobody buys.
        dear = prices.check_equilibrium(market, np.zeros((3, 3)), price + 100 * (1 - np.eye(3)), 1e-6, read)
        assert dear.kind == "supply"
        found += 1
    assert found >= 6


def test_a_scarce_seller_gets_more_than_its_cost():
    """One seller that may sell once, and two buyers: its price lies between what they would pay."""
    off = 1 - np.eye(3)
    market = SharingMarket([10.0, 1.0, 1.0], 12 * off, [LinearUtility(a) for a in (1.0, 3.0, 2.0)])
    price = market.competitive_prices(seller_cap=1)
    assert 20 - 1e-6 <= price[0, 1] <= 30 + 1e-6
    assert price[0, 2] >= 20 - 1e-6
    graph = market.adjacency(market.solve(seller_cap=1))
    assert graph[0].tolist() == [0, 1, 0]
    read = Restrictions.of(3, {"seller_cap": 1})
    assert prices.check_equilibrium(market, graph, price, 1e-6, read)
    # Without the cap in mind, the seller would sell to both at such prices.
    unlimited = market.is_equilibrium(graph, price, 1e-6)
    assert (unlimited.kind, unlimited.better) == ("supply", (0, 2))
    with pytest.raises(mo.InvalidInput, match="seller_cap"):
        prices.check_equilibrium(market, off, price, 1e-6, read)


def test_no_linear_prices_are_refused_with_the_gap():
    """Complements with caps: each of three buyers wants two sellers, and each seller sells once."""
    tables = []
    for buyer in range(3):
        others = frozenset(range(3)) - {buyer}
        tables.append(TableUtility.from_function(lambda s, o=others: float(o <= s), others))
    market = SharingMarket(np.ones(3), 0.01 * (1 - np.eye(3)), tables)
    with pytest.raises(mo.NotApplicable, match="no linear prices support a graph: under seller_cap") as error:
        market.competitive_prices(seller_cap=1)
    # Half of each pair for everybody: 1.5 - 6 / 2 * 0.01; one pair: 1 - 0.02.
    assert float(error.value.reason.removeprefix("gap ")) == pytest.approx(1.47 - 0.98, abs=1e-6)


# ------------------------------------------------------------ one edge


def test_an_unsold_edge_has_prices_down_from_its_cost():
    market = pair(5.0, 3.0)
    assert market.price_interval(0, 1) == (3.0, 5.0)
    graph = market.adjacency(market.solve())
    for price, kind in ((3, ""), (4, ""), (5, ""), (7, "supply"), (2.9, "demand")):
        assert market.is_equilibrium(graph, [[0, price], [100, 0]]).kind == kind


def test_a_sold_edge_has_prices_up_from_its_cost():
    market = pair(2.0, 3.0)
    assert market.price_interval(0, 1) == (2.0, 3.0)
    graph = market.adjacency(market.solve())
    for price, kind in ((2, ""), (3, ""), (3.1, "demand"), (1.9, "supply")):
        assert market.is_equilibrium(graph, [[0, price], [100, 0]]).kind == kind


def test_closed_form_equals_two_linear_programs():
    worst, n_edges = 0.0, 0
    for market in draw(7, 5, *EVERY, n_agents=4):
        for i, j in edges(market):
            interval = np.array(market.price_interval(i, j))
            worst = max(worst, np.max(np.abs(interval - prices.solve_interval(market, i, j))))
            n_edges += 1
    assert n_edges == 60
    assert worst <= EXACT


def test_inside_is_an_equilibrium_and_outside_never():
    n_edges = 0
    for market in draw(8, 18, *EVERY, n_agents=4):
        graph, price = at_cost(market)
        step = 1e-6 * prices.equilibrium.money(market)
        for i, j in edges(market):
            low, high = market.price_interval(i, j)
            for p, inside in ((low, 1), (high, 1), ((low + high) / 2, 1), (low - step, 0), (high + step, 0)):
                changed = price.copy()
                changed[i, j] = p
                assert bool(market.is_equilibrium(graph, changed)) == bool(inside), (i, j, p, low, high)
            n_edges += 1
    assert n_edges == 216


def test_data_that_does_harm_has_a_negative_lower_end():
    market = SharingMarket([1.0, 1.0], [[0, 0.5], [9, 0]], UserUtility(lambda D: -((D - 1) ** 2)))
    assert market.price_interval(0, 1) == (-1.0, 0.5)
    assert prices.solve_interval(market, 0, 1) == pytest.approx((-1.0, 0.5), abs=EXACT)


def test_tied_buyers_have_no_room():
    assert pair(3.0, 3.0).price_interval(0, 1) == (3.0, 3.0)


@pytest.mark.parametrize("edge", [(0, 0), (2, 0), (0, -1), (0.5, 1), (True, 0)])
def test_bad_edges_are_refused(edge):
    with pytest.raises(mo.InvalidInput, match=r"seller|buyer"):
        pair(1.0, 2.0).price_interval(*edge)


# ------------------------------------------------------------ all edges of a buyer


def test_joint_prices_equal_those_of_an_independent_program():
    rng = np.random.default_rng(9)
    for market in draw(10, 5, *EVERY, n_agents=4):
        graph, _ = at_cost(market)
        for buyer in range(2):
            bought = np.flatnonzero(graph[:, buyer])
            weight = graph[:, buyer]
            earned = oracle.joint_prices(market, graph, buyer, weight)[0]
            earned -= market.sharing_cost[bought, buyer].sum()
            frontier = prices.price_frontier(market, buyer)
            assert frontier.objective == pytest.approx(earned, abs=1e-7)  # tolerance of the row generation
            program = market.price_program(buyer)
            assert program.solve().objective == pytest.approx(earned, abs=1e-7)
            weight = rng.uniform(0, 1, 4) * np.where(graph[:, buyer] > 0, 1, -1)
            weight[buyer] = 0
            wanted = oracle.joint_prices(market, graph, buyer, weight)[0]
            found = prices.price_frontier(market, buyer, weight)
            assert found.objective == pytest.approx(wanted, abs=1e-7)
            changed = np.array(market.sharing_cost)
            changed[:, buyer] = found.price
            assert market.is_equilibrium(graph, changed, 1e-7)


def test_threshold_of_two_sellers_is_shared_and_not_doubled():
    market = SharingMarket(
        [1.0, 1.0, 1.0], np.zeros((3, 3)), [LinearUtility(1e-9)] * 2 + [ThresholdUtility(10.0, 3.0)]
    )
    graph = market.adjacency(market.solve())
    assert graph[:, 2].tolist() == [1, 1, 0]
    assert market.price_interval(0, 2) == market.price_interval(1, 2) == (0.0, 10.0)
    for both, fits in ((10.0, False), (5.0, True)):
        price = np.zeros((3, 3))
        price[:2, 2] = both
        assert bool(market.is_equilibrium(graph, price)) == fits
    assert market.price_program(2).solve().objective == pytest.approx(10.0, abs=1e-7)


def test_concave_utility_does_not_make_intervals_joint():
    cost = np.full((4, 4), 100.0) * (1 - np.eye(4))
    cost[:3, 3] = 0, 0, 3
    market = SharingMarket([1.0, 1.0, 2.0, 1.0], cost, [LinearUtility(1.0)] * 3 + [CappedUtility(20.0, 3.0)])
    graph = market.adjacency(market.solve())
    assert graph[:, 3].tolist() == [1, 1, 0, 0]
    highest = prices.highest_prices(market, 3)
    assert highest == pytest.approx([3.0, 3.0, 3.0, 0.0], abs=EXACT)
    price = np.array(market.sharing_cost)
    price[:, 3] = highest
    check = market.is_equilibrium(graph, price)
    assert check.kind == "demand"
    assert check.agent == 3
    assert check.better == (2,)
    assert market.price_program(3).solve().objective == pytest.approx(3.0, abs=1e-7)
    assert prices.price_frontier(market, 3).objective == pytest.approx(3.0, abs=1e-7)


def test_equal_sizes_and_concave_utility_make_intervals_joint():
    several = 0
    for market in draw(11, 60, *CONCAVE, max_agents=5, sizes="equal", dearness=0.8):
        graph, price = at_cost(market)
        for buyer in range(market.n_agents):
            changed = price.copy()
            changed[:, buyer] = prices.highest_prices(market, buyer)
            assert market.is_equilibrium(graph, changed)
            several += graph[:, buyer].sum() >= 2
    assert several >= 30


def test_real_sizes_do_not():
    fails = 0
    for market in draw(12, 50, *CONCAVE, n_agents=4, sizes="real", dearness=0.8):
        graph, price = at_cost(market)
        for buyer in range(4):
            changed = price.copy()
            changed[:, buyer] = prices.highest_prices(market, buyer)
            fails += not market.is_equilibrium(graph, changed)
    assert 1 <= fails <= 100


def test_rows_are_made_as_needed_where_there_are_far_too_many():
    rng = np.random.default_rng(13)
    n = 25
    cost = rng.uniform(0.05, 0.3, (n, n)) * (1 - np.eye(n))
    market = SharingMarket(rng.integers(1, 6, n).astype(float), cost, LogUtility(5.0, 2.0))
    with pytest.raises(mo.NotApplicable, match="sets of sellers"):
        market.price_program(0)
    frontier = prices.price_frontier(market, 0)
    graph, price = at_cost(market)
    price[:, 0] = frontier.price
    assert market.is_equilibrium(graph, price, 1e-7)
    assert frontier.n_sets < 2000
    room = prices.highest_prices(market, 0) - market.sharing_cost[:, 0]
    assert 0 < frontier.objective <= room.sum() + 1e-7
    # No other prices of the polytope earn more: those of the best rows found bound it from above.
    assert frontier.objective >= room.max() - 1e-7


def test_own_constraints_enter_the_frontier():
    market = SharingMarket(
        [1.0, 1.0, 1.0], np.zeros((3, 3)), [LinearUtility(1e-9)] * 2 + [ThresholdUtility(10.0, 3.0)]
    )
    price = prices.price_frontier(
        market, 2, change=lambda p: p.add("fair", p["price"][0] == p["price"][1])
    ).price
    assert price == pytest.approx([5.0, 5.0, 0.0], abs=1e-7)
    capped = prices.price_frontier(market, 2, change=lambda p: p.add("cap", p["price"] <= 3))
    assert capped.objective == pytest.approx(6.0, abs=1e-7)


def test_frontier_refuses_bad_arguments_and_says_when_it_stops_early():
    market = draw(14, 1, "table", n_agents=5, dearness=0.3)[0]
    for weight in ([1.0, 2.0], "much", [1.0, 1.0, np.inf, 1.0, 1.0]):
        with pytest.raises(mo.InvalidInput, match="weight"):
            prices.price_frontier(market, 0, weight)
    with pytest.raises(mo.InvalidInput, match="buyer = 9"):
        prices.price_frontier(market, 9)
    with pytest.raises(mo.InvalidInput, match="buyer = 9"):
        market.price_program(9)
    threshold = SharingMarket(
        np.ones(6), np.zeros((6, 6)), [LinearUtility(1e-9)] * 5 + [UserUtility(lambda D: np.floor(D / 3))]
    )
    with pytest.raises(mo.SolverFailure, match="max_rounds"):
        prices.price_frontier(threshold, 5, max_rounds=1)


# ------------------------------------------------------------ the core


def test_worth_of_every_coalition():
    for market in draw(15, 12, *EVERY, n_agents=4):
        worth = prices.coalition_values(market)
        for mask in range(16):
            members = tuple(i for i in range(4) if mask >> i & 1)
            assert worth[mask] == pytest.approx(oracle.coalition_worth(market, members), abs=EXACT)


def test_core_finds_the_coalition_that_gains_most():
    rng = np.random.default_rng(16)
    outside = 0
    for market in draw(17, 40, *EVERY, n_agents=4):
        graph, price = at_cost(market)
        payoff = market.buyer_value(graph) - (graph * price).sum(axis=0)
        shift = rng.normal(0, 2.0, 4) * (rng.random() < 0.8)
        payoff = payoff + shift - shift.mean()
        check = market.in_core(payoff)
        excess = oracle.core_excess(market, payoff)
        assert bool(check) == (excess <= EXACT)
        if not check:
            outside += 1
            assert check.kind == "coalition"
            assert check.gain == pytest.approx(excess, abs=EXACT)
            assert oracle.coalition_worth(market, check.better) - payoff[list(check.better)].sum() > EXACT
    assert 10 <= outside <= 38


def test_more_than_there_is_is_not_in_the_core():
    market = pair(2.0, 3.0)
    check = market.in_core([10.0, 10.0])
    assert not check
    assert check.kind == "feasibility"
    assert check.gain == pytest.approx(20 - market.solve().objective)


def test_core_by_a_program_agrees():
    rng = np.random.default_rng(18)
    verdicts = set()
    for market in draw(19, 8, "log", "capped", "threshold", "additive", n_agents=4):
        graph, price = at_cost(market)
        payoff = market.buyer_value(graph) - (graph * price).sum(axis=0)
        shift = rng.normal(0, 1.0, 4) * rng.integers(2)
        payoff = payoff + shift - shift.mean()
        listed = market.in_core(payoff)
        solved = prices.check_core(market, payoff, 1e-6, backend="outer")
        assert solved.method == "program"
        assert listed.method == "exact"
        assert bool(solved) == bool(listed)
        assert solved.gain == pytest.approx(listed.gain, abs=1e-5)
        verdicts.add(bool(listed))
    assert verdicts == {True, False}


def test_core_of_many_agents_by_a_program():
    rng = np.random.default_rng(20)
    n = 17
    cost = rng.uniform(1, 3, (n, n)) * (1 - np.eye(n))
    values = [AdditiveUtility(rng.uniform(0, 4, n)) for _ in range(n)]
    market = SharingMarket(np.ones(n), cost, values)
    graph, price = at_cost(market)
    payoff = market.buyer_value(graph) - (graph * price).sum(axis=0)
    check = prices.check_core(market, payoff, 1e-6)
    assert check
    assert check.method == "program"
    # Less than agent 0 has on its own, and the difference to agent 1.
    lost = payoff[0] - market.outside_option[0] + 1
    payoff[[0, 1]] += (-lost, lost)
    check = prices.check_core(market, payoff, 1e-6)
    assert not check
    assert 0 in check.better
    assert 1 not in check.better
    assert check.gain >= 1 - 1e-6
    with pytest.raises(mo.InvalidInput, match="17 agents have"):
        prices.coalition_values(market)


def test_core_refuses_bad_payoffs():
    market = pair(2.0, 3.0)
    with pytest.raises(mo.InvalidInput, match="payoff has 3 entries for 2 agents"):
        market.in_core([1.0, 2.0, 3.0])
    with pytest.raises(mo.InvalidInput, match=r"payoff\[1\] is nan"):
        market.in_core([1.0, np.nan])
