"""Second roads to prices: regrets, worths and welfare set by set, and the worked examples of section 4."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import CappedUtility, LinearUtility, ThresholdUtility
from mechopt.formulations.sharing_market import prices
from mechopt.formulations.sharing_market.families import MarketCase, Rng, UtilityKind, random_market
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.solvers.errors import NotApplicable
from mechopt.verification.evidence import largest

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

UNSOLD = MarketCase((1.0, 1.0), ((0.0, 5.0), (9.0, 0.0)), (LinearUtility(1.0), LinearUtility(3.0)))
"""Data that costs 5 to share, and is worth 3."""

SOLD = MarketCase((1.0, 1.0), ((0.0, 2.0), (9.0, 0.0)), (LinearUtility(1.0), LinearUtility(3.0)))
"""Data that costs 2 to share, and is worth 3."""

BOTH_NEEDED = MarketCase(
    (1.0, 1.0, 1.0),
    ((0.0, 9.0, 0.0), (9.0, 0.0, 0.0), (9.0, 9.0, 0.0)),
    (LinearUtility(1.0), LinearUtility(1.0), ThresholdUtility(10.0, 3.0)),
)
"""A buyer to whom the data of two sellers is worth 10, and of one nothing."""

CAPPED = MarketCase(
    (1.0, 1.0, 2.0, 1.0),
    ((0.0, 99.0, 99.0, 0.0), (99.0, 0.0, 99.0, 0.0), (99.0, 99.0, 0.0, 3.0), (99.0, 99.0, 99.0, 0.0)),
    (LinearUtility(1.0), LinearUtility(1.0), LinearUtility(1.0), CappedUtility(20.0, 3.0)),
)
"""A concave buyer with two small sellers at no cost, and a large one whose batch does for both."""

WORKED = (UNSOLD, SOLD, BOTH_NEEDED, CAPPED)
SCALE = 1e-9
"""Tolerance of closed forms and enumeration: sums of a few numbers."""


# ------------------------------------------------------------ the definition, set by set


def all_sets(n_agents: int, buyer: int) -> BoolArray:
    """Every set of sellers, shape (2 ** (n_agents - 1), n_agents)."""
    masks = np.arange(2**n_agents)
    sets: BoolArray = (masks[:, np.newaxis] >> np.arange(n_agents) & 1).astype(bool)
    others: BoolArray = sets[~sets[:, buyer]]
    return others


def kept(market: SharingMarket, buyer: int, sets: BoolArray, price: Array) -> Array:
    """What a buyer keeps of sets at prices p[i, j] (money)."""
    return market.value_of_sets(buyer, sets) - sets @ price[:, buyer]


def regrets(market: SharingMarket, graph: BoolArray, price: Array) -> tuple[Array, Array]:
    """What each buyer, and the seller on each edge, could gain by another choice (money)."""
    n_agents = market.n_agents
    demand = np.empty(n_agents)
    for buyer in range(n_agents):
        most = np.max(kept(market, buyer, all_sets(n_agents, buyer), price))
        demand[buyer] = most - kept(market, buyer, graph[:, buyer], price)
    margin = price - market.sharing_cost
    supply = np.where(graph, -margin, margin)
    np.fill_diagonal(supply, 0.0)
    return demand, supply


def size_of(market: SharingMarket, price: Array | None = None) -> float:
    """Money involved."""
    return max(
        largest(market.outside_option), largest(market.sharing_cost), largest(0 if price is None else price)
    )


def best_graph(market: SharingMarket) -> BoolArray:
    """A graph of most welfare, by the market's own algorithm."""
    return np.asarray(market.solve()["adjacency"]) > 0.5


def edges(market: SharingMarket) -> Iterator[tuple[int, int]]:
    """Pairs (seller, buyer)."""
    return ((i, j) for j in range(market.n_agents) for i in range(market.n_agents) if i != j)


def buyers_best(market: SharingMarket) -> float:
    """What all buyers keep at cost, each of its best set: the right-hand side of (11) (money)."""
    n_agents = market.n_agents
    return sum(
        float(np.max(kept(market, buyer, all_sets(n_agents, buyer), market.sharing_cost)))
        for buyer in range(n_agents)
    )


def most_welfare(market: SharingMarket) -> float:
    """Most welfare of all graphs, each as a whole."""
    pairs = list(edges(market))
    if len(pairs) > 12:
        raise NotApplicable(f"{len(pairs)} edges make too many graphs", reason="graphs")
    sellers, buyers = np.array(pairs).T
    n_graphs = 2 ** len(pairs)
    there = (np.arange(n_graphs)[:, np.newaxis] >> np.arange(len(pairs)) & 1).astype(bool)
    welfare = -(there @ market.sharing_cost[sellers, buyers])
    for buyer in range(market.n_agents):
        sets = np.zeros((n_graphs, market.n_agents), dtype=bool)
        sets[:, sellers[buyers == buyer]] = there[:, buyers == buyer]
        welfare = welfare + market.value_of_sets(buyer, sets)
    return float(np.max(welfare))


@dataclass(frozen=True)
class GraphCase:
    """A market, and who sells to whom: pairs (seller, buyer)."""

    case: MarketCase
    sold: tuple[tuple[int, int], ...]

    def graph(self) -> BoolArray:
        """Sharing graph, shape (n_agents, n_agents)."""
        graph = np.zeros((self.case.n_agents, self.case.n_agents), dtype=bool)
        for seller, buyer in self.sold:
            graph[seller, buyer] = True
        return graph


def graph_cases(*kinds: UtilityKind) -> Callable[[Rng, int], Iterator[GraphCase]]:
    """Make a family of markets with any graph, good or bad."""

    def family(rng: Rng, n: int) -> Iterator[GraphCase]:
        yield from (GraphCase(SOLD, ((0, 1),)),)[:n]
        for _ in range(n - 1):
            case = random_market(rng, *kinds)
            some = rng.random((case.n_agents, case.n_agents)) < 0.5
            np.fill_diagonal(some, False)
            yield GraphCase(case, tuple((int(i), int(j)) for i, j in np.argwhere(some)))

    return family


def payments_at_cost(market: SharingMarket, graph: BoolArray) -> Array:
    """What each agent pays on balance when all data is sold at cost, (6) with its indices right (money)."""
    cost = market.sharing_cost
    paid = np.zeros(market.n_agents)
    for seller, buyer in np.argwhere(graph):
        paid[buyer] += cost[seller, buyer]
        paid[seller] -= cost[seller, buyer]
    return paid


def joint_regret(market: SharingMarket, buyer: int) -> tuple[float, Array]:
    """Regret of a buyer at all its highest prices at once, and these prices."""
    graph = best_graph(market)
    price = np.array(market.sharing_cost)
    price[:, buyer] = prices.highest_prices(market, buyer)
    return float(regrets(market, graph, price)[0][buyer]), price[:, buyer]
