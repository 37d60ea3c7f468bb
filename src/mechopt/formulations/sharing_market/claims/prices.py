"""Prices and the core (section 4) as claims: Propositions 4.1 and 4.2 as corrected.

Gaps are relative to the money involved: own values, costs, and prices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from mechopt.formulations.sharing_market import prices
from mechopt.formulations.sharing_market.claims.price_roads import (
    BOTH_NEEDED,
    SCALE,
    SOLD,
    UNSOLD,
    WORKED,
    GraphCase,
    all_sets,
    best_graph,
    buyers_best,
    edges,
    graph_cases,
    joint_regret,
    kept,
    most_welfare,
    payments_at_cost,
    regrets,
    size_of,
)
from mechopt.formulations.sharing_market.claims.roads import LEDGER
from mechopt.formulations.sharing_market.families import (
    CONCAVE,
    EVERY,
    MarketCase,
    Rng,
    markets,
    random_market,
)
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.formulations.sharing_market.restrictions import Restrictions
from mechopt.solvers.errors import NotApplicable
from mechopt.verification.claim import Finding
from mechopt.verification.evidence import largest, row

BoolArray = NDArray[np.bool_]


# ------------------------------------------------------------ R11, R12: prices at cost


@LEDGER.claim(
    "sharing-market/R11",
    source="Assumptions 4.1-4.3; (3)-(8)",
    statement="At prices c_i(j) payments sum to zero, and an agent has U_i - sum of c_j(i) over what it buys",
    instances=graph_cases(*EVERY),
    tolerance=SCALE,
    n_instances=60,
)
def at_cost_sales_do_not_matter(instance: GraphCase) -> Finding:
    """Compare V - t with (8), edge by edge."""
    market, graph = instance.case.market(), instance.graph()
    paid = payments_at_cost(market, graph)
    had = market.allocation_value(graph) - paid
    sets = graph.T
    meant = [float(kept(market, buyer, sets[buyer], market.sharing_cost)) for buyer in range(market.n_agents)]
    gap = max(largest(had - meant), abs(float(paid.sum()))) / size_of(market)
    return Finding(gap, f"V - t = {row(had)}, U - c = {row(meant)}, payments {row(paid)}")


@LEDGER.claim(
    "sharing-market/R12",
    source="Proposition 4.1; (9)-(12)",
    statement="Every graph of most welfare is an equilibrium at prices c_i(j)",
    instances=markets(*EVERY, worked=WORKED),
    tolerance=SCALE,
    n_instances=120,
)
def costs_are_prices(case: MarketCase) -> Finding:
    """Compute everybody's regret set by set, and the welfare of all graphs."""
    market = case.market()
    graph, price = best_graph(market), market.competitive_prices()
    demand, supply = regrets(market, graph, price)
    short_of = buyers_best(market) - market.welfare(graph)
    gap = max(float(demand.max()), float(supply.max()), abs(short_of)) / size_of(market)
    return Finding(
        gap, f"regret of buyers {row(demand)}, of sellers {float(supply.max()):.3g}; {short_of:.3g}"
    )


@LEDGER.claim(
    "sharing-market/R12-core",
    source="Proposition 4.1 (ii)",
    statement="At prices c_i(j) the payoffs of a graph of most welfare are in the core",
    instances=markets(*EVERY, worked=WORKED, max_agents=5),
    tolerance=SCALE,
    n_instances=120,
)
def costs_leave_the_core(case: MarketCase) -> Finding:
    """Hold the payoffs against all coalitions, each by the sets inside it."""
    market = case.market()
    graph = best_graph(market)
    payoff = market.allocation_value(graph) - payments_at_cost(market, graph)
    n_agents = market.n_agents
    excess, blocking = -np.inf, 0
    for mask in range(1, 2**n_agents):
        members = (mask >> np.arange(n_agents) & 1).astype(bool)
        worth = 0.0
        for buyer in np.flatnonzero(members):
            sets = all_sets(n_agents, int(buyer))
            inside = sets[~np.any(sets & ~members, axis=1)]
            worth += float(np.max(kept(market, int(buyer), inside, market.sharing_cost)))
        if worth - payoff[members].sum() > excess:
            excess, blocking = worth - float(payoff[members].sum()), mask
    listed = market.in_core(payoff)
    gap = max(excess, 0.0) / size_of(market)
    if not listed:
        gap = max(gap, listed.gain / size_of(market))
    return Finding(gap, f"coalition {blocking:b} would have {excess:.6g} more than payoffs {row(payoff)}")


@LEDGER.claim(
    "sharing-market/R12-welfare",
    source="first welfare theorem, for Proposition 4.1",
    statement="What a buyer's set lacks of its best is its least regret at any prices that sellers agree to",
    instances=graph_cases(*EVERY),
    tolerance=1e-8,  # a linear program, over numbers of order ten
    n_instances=40,
)
def regret_is_lost_welfare(instance: GraphCase) -> Finding:
    """Minimise the regret over prices by a linear program; only graphs of most welfare have none."""
    market, graph = instance.case.market(), instance.graph()
    n_agents, cost = market.n_agents, market.sharing_cost
    gap, witness = 0.0, ""
    for buyer in range(n_agents):
        sets, taken = all_sets(n_agents, buyer), graph[:, buyer]
        # r >= U(S') - p(S') - U(S) + p(S) for all S'.
        rows = np.hstack([taken.astype(float) - sets, -np.ones((len(sets), 1))])
        limits = market.value_of_sets(buyer, taken) - market.value_of_sets(buyer, sets)
        bounds = [
            (0.0, 0.0) if i == buyer else (cost[i, buyer], None) if taken[i] else (None, cost[i, buyer])
            for i in range(n_agents)
        ]
        answer = linprog(
            np.append(np.zeros(n_agents), 1.0),
            A_ub=rows,
            b_ub=limits,
            bounds=[*bounds, (None, None)],
            method="highs",
        )
        lost = float(np.max(kept(market, buyer, sets, cost)) - kept(market, buyer, taken, cost))
        if abs(float(answer.fun) - lost) >= gap:
            gap = abs(float(answer.fun) - lost)
            witness = f"buyer {buyer}: least regret {float(answer.fun):.9g}, lost welfare {lost:.9g}"
    return Finding(gap / size_of(market), witness)


@dataclass(frozen=True)
class LimitedCase:
    """A market in which each seller sells at most ``seller_cap`` times."""

    case: MarketCase
    seller_cap: int


def _limited(rng: Rng, n: int) -> Iterator[LimitedCase]:
    for number in range(n):
        kinds = CONCAVE if number % 2 else ("table",)
        yield LimitedCase(random_market(rng, *kinds, n_agents=3, dearness=0.7), 1)


@LEDGER.claim(
    "sharing-market/R12-coupled",
    source="Proposition 4.1, where sellers are limited",
    statement="Duals of the configuration program are equilibrium prices, or it is better than every graph",
    instances=_limited,
    tolerance=1e-6,  # a solver's duals
    n_instances=20,
)
def duals_are_prices(instance: LimitedCase) -> Finding:
    """Compute regrets set by set: buyers' as ever, sellers' as the best buyers that the cap allows."""
    market, cap = instance.case.market(), instance.seller_cap
    n_agents = market.n_agents
    solution = market.solve(seller_cap=cap)
    try:
        price = prices.competitive_prices(market, Restrictions.of(n_agents, {"seller_cap": cap}))
    except NotApplicable:
        better = market.configuration_program(seller_cap=cap).solve().objective - solution.objective
        return Finding(0.0 if better > 1e-6 else 1.0, f"refused, and the gap is {better:.3g}")
    graph = np.asarray(solution["adjacency"]) > 0.5
    demand, _ = regrets(market, graph, price)
    margin = price - market.sharing_cost
    np.fill_diagonal(margin, -np.inf)
    most = np.maximum(np.sort(margin, axis=1)[:, ::-1][:, :cap], 0.0).sum(axis=1)
    supply = most - np.where(graph, margin, 0.0).sum(axis=1)
    gap = max(float(demand.max()), float(supply.max())) / size_of(market, price)
    return Finding(gap, f"regret of buyers {row(demand)}, of sellers {row(supply)}")


# ------------------------------------------------------------ R13, E7, E8: intervals


def interval_by_program(
    market: SharingMarket, graph: BoolArray, seller: int, buyer: int
) -> tuple[float, float]:
    """Prices of one edge at which the buyer's set stays its best and the seller agrees, by two programs."""
    n_agents = market.n_agents
    sets, taken = all_sets(n_agents, buyer), graph[:, buyer]
    cost = market.sharing_cost[:, buyer]
    rows = taken.astype(float) - sets
    limits = market.value_of_sets(buyer, taken) - market.value_of_sets(buyer, sets)
    bounds: list[tuple[float | None, float | None]] = [(float(c), float(c)) for c in cost]
    bounds[seller] = (float(cost[seller]), None) if taken[seller] else (None, float(cost[seller]))
    ends = []
    for sign in (1.0, -1.0):
        weight = np.zeros(n_agents)
        weight[seller] = sign
        answer = linprog(weight, A_ub=rows, b_ub=limits, bounds=bounds, method="highs")
        ends.append(float(answer.x[seller]))
    return ends[0], ends[1]


@LEDGER.claim(
    "sharing-market/R13",
    source="Proposition 4.2, with E7",
    statement="Other prices at cost, p_m(j) runs from c_m(j) up by what j loses without m, or down if unsold",
    instances=markets(*EVERY, worked=WORKED),
    tolerance=1e-8,  # a linear program, over numbers of order ten
    n_instances=40,
)
def interval_in_closed_form(case: MarketCase) -> Finding:
    """Compare with two linear programs over all sets, on every edge."""
    market = case.market()
    graph = best_graph(market)
    gap, witness = 0.0, ""
    for seller, buyer in edges(market):
        formula = market.price_interval(seller, buyer)
        solved = interval_by_program(market, graph, seller, buyer)
        apart = largest(np.subtract(formula, solved))
        if apart >= gap:
            gap = apart
            witness = f"edge {seller} -> {buyer}: closed form {row(formula)}, programs {row(solved)}"
    return Finding(gap / size_of(market), witness)


@LEDGER.claim(
    "sharing-market/R13-ends",
    source="Proposition 4.2, with E7",
    statement="Both ends and the middle of the interval are equilibrium prices, and nothing outside is",
    instances=markets(*EVERY, worked=WORKED),
    tolerance=SCALE,
    n_instances=60,
)
def interval_is_all(case: MarketCase) -> Finding:
    """Compute regrets set by set, in the interval and a part in 1e5 of the money outside."""
    market = case.market()
    graph, size = best_graph(market), size_of(market)
    step, gap, witness = 1e-5 * size, -np.inf, ""
    for seller, buyer in edges(market):
        low, high = market.price_interval(seller, buyer)
        for number in (low, (low + high) / 2, high, low - step, high + step):
            price = np.array(market.sharing_cost)
            price[seller, buyer] = number
            demand, supply = regrets(market, graph, price)
            most = max(float(demand.max()), float(supply.max()))
            # Outside somebody must gain what the price is off.
            found = most / size if low <= number <= high else (step - most) / size
            if found > gap:
                gap = found
                witness = f"edge {seller} -> {buyer} at {number:.9g} of ({low:.9g}, {high:.9g}): {most:.3g}"
    return Finding(gap, witness)


@LEDGER.claim(
    "sharing-market/R13-joint",
    source="Proposition 4.2, where sellers are substitutes",
    statement="With batches of one size and concave utilities all highest prices hold at once",
    instances=markets(*CONCAVE, max_agents=5, sizes="equal", dearness=0.8),
    tolerance=SCALE,
    n_instances=120,
)
def joint_where_sizes_are_equal(case: MarketCase) -> Finding:
    """Compute the regret of every buyer at all its highest prices, set by set."""
    market = case.market()
    found = [joint_regret(market, buyer) for buyer in range(market.n_agents)]
    buyer = int(np.argmax([regret for regret, _ in found]))
    regret, price = found[buyer]
    return Finding(regret / size_of(market), f"buyer {buyer} gains {regret:.6g} at {row(price)}")


@LEDGER.claim(
    "sharing-market/R12-own",
    source="(11)",
    statement="With own data free, what buyers keep at cost adds up to the most welfare of all graphs",
    instances=markets(*EVERY, worked=(UNSOLD, SOLD, BOTH_NEEDED)),
    tolerance=SCALE,
    n_instances=40,
)
def welfare_is_a_sum_over_buyers(case: MarketCase) -> Finding:
    """Compare with the most welfare of whole graphs, one by one."""
    market = case.market()
    most, summed = most_welfare(market), buyers_best(market)
    return Finding(abs(most - summed) / size_of(market), f"graphs {most:.9g}, buyers {summed:.9g}")
