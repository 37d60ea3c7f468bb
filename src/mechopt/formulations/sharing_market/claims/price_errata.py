"""What section 4 says of prices that is false as printed, each with its counterexample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mechopt.formulations.functions import ConcaveFunction
from mechopt.formulations.sharing_market.claims import exact_gaps as exactly
from mechopt.formulations.sharing_market.claims.exact import RATIONAL
from mechopt.formulations.sharing_market.claims.price_roads import (
    BOTH_NEEDED,
    CAPPED,
    SCALE,
    SOLD,
    UNSOLD,
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
    MarketCase,
    Rng,
    markets,
    random_market,
    short,
)
from mechopt.verification.claim import Finding, Verdict
from mechopt.verification.evidence import confirm, largest, row


@LEDGER.claim(
    "sharing-market/E6",
    source="(6)",
    statement="(6) as printed, over j in S_j^I and j in S_j^O (agents are in their own sets), is what i pays",
    instances=graph_cases(*RATIONAL),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R11",
    n_instances=30,
    confirm_exactly=exactly.printed_payment,
)
def printed_payment(instance: GraphCase) -> Finding:
    """Sum over all j, since j is in its own sets: a payment that no graph changes."""
    market, graph = instance.case.market(), instance.graph()
    cost = market.sharing_cost
    printed = np.array([cost[:, i].sum() - cost[i].sum() for i in range(market.n_agents)])
    paid = payments_at_cost(market, graph)
    gap = largest(printed - paid) / size_of(market)
    # With t as printed an agent no longer has what (8) says.
    had = market.allocation_value(graph) - printed
    meant = market.buyer_value(graph) - (graph * cost).sum(axis=0)
    if gap > 1e-6:
        confirm(
            largest(had - meant) > 1e-7 * size_of(market),
            "at payments as printed agents do not have what (8) says",
        )
    return Finding(gap, f"(6) as printed gives {row(printed)}; what is sold at cost adds up to {row(paid)}")


@LEDGER.claim(
    "sharing-market/E8",
    source="Proposition 4.2",
    statement="Several sellers of one buyer may all charge their highest prices",
    instances=markets(*CONCAVE, "threshold", worked=(BOTH_NEEDED, CAPPED), n_agents=4, dearness=0.8),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R13-joint",
    n_instances=60,
    confirm_exactly=exactly.joint_always,
)
def joint_always(case: MarketCase) -> Finding:
    """Compute the regret at all highest prices; confirm by the most that the joint prices may earn."""
    market = case.market()
    found = [joint_regret(market, buyer) for buyer in range(market.n_agents)]
    buyer = int(np.argmax([regret for regret, _ in found]))
    regret, price = found[buyer]
    gap = regret / size_of(market)
    if gap > 1e-6:
        bought = best_graph(market)[:, buyer]
        claimed = float((price - market.sharing_cost[:, buyer])[bought].sum())
        earned = market.price_program(buyer).solve().objective
        confirm(
            earned < claimed - 1e-7 * size_of(market),
            f"by the declared program all sellers can earn {earned:.6g}, and not {claimed:.6g}",
        )
    return Finding(gap, f"buyer {buyer} gains {regret:.6g} by another set at {row(price)}")


@LEDGER.claim(
    "sharing-market/E7",
    source="Proposition 4.2",
    statement="A seller may charge any price from its cost up at which the solutions of (9) stay the same",
    instances=markets(*RATIONAL, worked=(UNSOLD,)),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R13",
    n_instances=40,
    confirm_exactly=exactly.any_price_of_unsold_data,
)
def any_price_of_unsold_data(case: MarketCase) -> Finding:
    """Raise prices of data that is not sold: demand stays the same, and its seller wants to sell."""
    market = case.market()
    graph = best_graph(market)
    unsold = [(i, j) for i, j in edges(market) if not graph[i, j]]
    if not unsold:
        return Finding(0.0, applies=False)
    seller, buyer = unsold[-1]
    price = np.array(market.sharing_cost)
    price[seller, buyer] += 2.0
    demand, supply = regrets(market, graph, price)
    gap = max(float(demand.max()), float(supply.max())) / size_of(market, price)
    check = market.is_equilibrium(graph, price)
    confirm(
        check.kind == "supply" and check.better == (seller, buyer) and demand.max() <= 1e-9 * size_of(market),
        f"by the market's own check seller {seller} objects at {price[seller, buyer]:g}, and no buyer does",
    )
    return Finding(
        gap,
        f"at {price[seller, buyer]:g} seller {seller}, whose cost is {market.sharing_cost[seller, buyer]:g}, "
        f"would sell to {buyer}, which does not buy; prices that hold: "
        f"{row(market.price_interval(seller, buyer))}",
    )


@LEDGER.claim(
    "sharing-market/E7-argmax",
    source="Proposition 4.2; (13)",
    statement="At the highest price the buyer has the same best sets as at cost",
    instances=markets(*RATIONAL, worked=(SOLD,)),
    tolerance=0.0,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R13-ends",
    n_instances=40,
    confirm_exactly=exactly.same_solutions_at_the_highest_price,
)
def same_solutions_at_the_highest_price(case: MarketCase) -> Finding:
    """Count the buyer's best sets: at the highest price there is one more, without the seller."""
    market = case.market()
    graph, size = best_graph(market), size_of(market)
    gap, witness, applies = 0.0, "", False
    for seller, buyer in edges(market):
        low, high = market.price_interval(seller, buyer)
        if not graph[seller, buyer] or high - low <= 1e-3 * size:
            continue
        applies = True
        sets = all_sets(market.n_agents, buyer)
        price = np.array(market.sharing_cost)
        at_cost = kept(market, buyer, sets, price)
        price[seller, buyer] = high
        at_most = kept(market, buyer, sets, price)
        best = at_cost >= at_cost.max() - 1e-9 * size
        then = at_most >= at_most.max() - 1e-9 * size
        new = then & ~best
        if np.any(new):
            other = graph.copy()
            other[:, buyer] = sets[new][0]
            there, here = (market.is_equilibrium(other, p) for p in (price, market.sharing_cost))
            confirm(
                there.kind != "demand" and here.kind == "demand" and here.agent == buyer,
                f"by the market's own check buyer {buyer} is content without seller {seller} at {high:g}, "
                f"and not at {low:g}",
            )
            gap = 1.0
            others, has = (np.flatnonzero(taken).tolist() for taken in (sets[new][0], graph[:, buyer]))
            witness = f"edge {seller} -> {buyer}: at {high:g} {others} is as good as {has}, at {low:g} not"
    return Finding(gap, witness, applies)


@LEDGER.claim(
    "sharing-market/E6-indicator",
    source="(13)",
    statement="(13) as printed, which charges i for the sets S_n^I of an agent n, has solutions of (9)",
    instances=markets(*RATIONAL, worked=(SOLD,)),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R13",
    n_instances=30,
    confirm_exactly=exactly.printed_indicator,
)
def printed_indicator(case: MarketCase) -> Finding:
    """Sets of n are no choice of i, so that i takes all that is worth anything, whatever it costs."""
    market = case.market()
    graph, size = best_graph(market), size_of(market)
    gap, witness = 0.0, ""
    for buyer in range(market.n_agents):
        sets = all_sets(market.n_agents, buyer)
        free = kept(market, buyer, sets, np.zeros_like(market.sharing_cost))
        at_cost = kept(market, buyer, sets, market.sharing_cost)
        chosen = np.flatnonzero(free >= free.max() - 1e-12 * size)
        best = int(chosen[np.argmax(at_cost[chosen])])
        lost = float(at_cost.max() - at_cost[best]) / size
        if lost > max(gap, 1e-6):
            graph_then = graph.copy()
            graph_then[:, buyer] = sets[best]
            check = market.is_equilibrium(graph_then.astype(float), market.sharing_cost)
            confirm(
                check.kind == "demand" and check.agent == buyer,
                f"by the market's own check buyer {buyer} would rather have less",
            )
            gap = lost
            witness = f"buyer {buyer} takes {np.flatnonzero(sets[best]).tolist()}, {lost * size:.6g} too dear"
    return Finding(gap, witness)


# ------------------------------------------------------------ E16: own data


@dataclass(frozen=True)
class OwnCase:
    """A market in which (9) also charges agent i the number ``own_cost[i]`` for its own data."""

    case: MarketCase
    own_cost: tuple[float, ...]


def _own(rng: Rng, n: int) -> Iterator[OwnCase]:
    yield from (OwnCase(SOLD, (1.0, 1.0)),)[:n]
    for _ in range(n - 1):
        case = random_market(rng, "linear", "capped")
        yield OwnCase(case, tuple(short(c) for c in rng.uniform(0.1, 1, case.n_agents)))


@LEDGER.claim(
    "sharing-market/E16-own",
    source="(9), (11)",
    statement="(11) holds with sets that include the agent itself, whatever c_i(i) is",
    instances=_own,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R12-own",
    n_instances=30,
    confirm_exactly=exactly.own_data_is_charged,
)
def own_data_is_charged(instance: OwnCase) -> Finding:
    """Compare both sides of (11); a set on the right may do without own data, and its price."""
    market = instance.case.market()
    right = 0.0
    for buyer, own_cost in enumerate(instance.own_cost):
        utility = instance.case.utility[buyer]
        assert isinstance(utility, ConcaveFunction)
        sets = all_sets(market.n_agents, buyer)
        with_own = kept(market, buyer, sets, market.sharing_cost) - own_cost
        # The empty set is left out: no data at all may be worth minus infinity.
        bought = sets[1:] @ market.data_size
        without = utility(bought) - sets[1:] @ market.sharing_cost[:, buyer]
        right += max(float(with_own.max()), float(without.max(initial=-np.inf)))
    left = buyers_best(market)
    gap = abs(left - right) / size_of(market)
    if gap > 1e-6:
        confirm(
            abs(most_welfare(market) - left) <= SCALE * size_of(market),
            f"graph by graph the left side is {left:.6g}",
        )
    return Finding(
        gap, f"left side {left:.6g}, right side {right:.6g} with c_i(i) = {row(instance.own_cost)}"
    )
