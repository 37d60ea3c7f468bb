"""Sharing market: the ordered match of links, and the market for queries, with its declared program."""

from __future__ import annotations

import heapq
from dataclasses import replace
from math import log1p
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from agreement import close
from numpy.typing import NDArray

import mechopt as mo
from mechopt.formulations.sharing_market.network import SharingNetwork
from mechopt.formulations.sharing_market.queries import QueryMarket

Array = NDArray[np.float64]

# ------------------------------------------------------------ links


def network_of(n_agents: int) -> SharingNetwork:
    """Agents who like more data, and fewer partners; the ordered match is then the one stable graph."""
    size = np.sort(np.random.default_rng(n_agents).uniform(1.0, 5.0, n_agents))[::-1]
    return SharingNetwork(
        [mo.LogUtility(1.0, 1.0)] * n_agents, data_size=size, count_costs=lambda count: 2e-5 * count**2
    )


def match_by_loops(size: list[float]) -> Array:
    """The ordered match as it is written, with running totals."""
    n = len(size)
    total, count = list(size), [0] * n
    have = [log1p(d) for d in size]
    links = np.zeros((n, n), dtype=np.int64)
    for i in range(n):
        for j in range(i + 1, n):
            mine = log1p(total[i] + size[j]) - 2e-5 * (count[i] + 1) ** 2
            if mine <= have[i]:
                continue
            theirs = log1p(total[j] + size[i]) - 2e-5 * (count[j] + 1) ** 2
            if theirs > have[j]:
                links[i, j] = links[j, i] = 1
                total[i], total[j], have[i], have[j] = total[i] + size[j], total[j] + size[i], mine, theirs
                count[i], count[j] = count[i] + 1, count[j] + 1
    return links


@pytest.mark.sizes(300, 3000, smoke=30)
def test_ordered_match(versus: Any, size: int) -> None:
    network = network_of(size)
    sizes, ranking = network.data_size.tolist(), np.arange(size)
    versus(
        lambda: network.ordered_match(ranking),
        {"loops": lambda: match_by_loops(sizes)},
        agree=lambda own, other: np.testing.assert_array_equal(own, other),
        size=size,
    )


# ------------------------------------------------------------ queries


def queries_of(n_agents: int) -> QueryMarket:
    """Up to 5 questions on each edge, at constant prices."""
    rng = np.random.default_rng(n_agents)
    cost = rng.uniform(0.0, 2.0, (n_agents, n_agents))
    np.fill_diagonal(cost, 0.0)
    utility = [mo.LogUtility(float(w), 5.0) for w in rng.uniform(5.0, 50.0, n_agents)]
    return QueryMarket(rng.uniform(1.0, 5.0, n_agents), cost, utility, 5)


def queries_by_heap(market: QueryMarket) -> float:
    """Welfare, each buyer asking the cheapest next question while it is worth its price."""
    welfare = 0.0
    for j, utility in enumerate(market.utility):
        others = [(market.sharing_cost[i, j], 5) for i in range(market.n_agents) if i != j]
        heapq.heapify(others)
        total = float(market.data_size[j])
        worth = float(utility(total))
        while others:
            price, left = heapq.heappop(others)
            more = float(utility(total + 1))
            if more - worth <= price:
                break
            welfare, total, worth = welfare - price, total + 1, more
            if left > 1:
                heapq.heappush(others, (price, left - 1))
        welfare += worth
    return welfare


@pytest.mark.sizes(300, smoke=10)
def test_queries(versus: Any, size: int) -> None:
    market = queries_of(size)
    versus(
        lambda: market.solve().objective,
        {"a heap a buyer": lambda: queries_by_heap(market)},
        agree=close(1e-9),
        size=size,
    )


def test_query_program_compiles(growth: Any) -> None:

    def declare(n: int) -> mo.Program:
        market = queries_of(n)
        capped = [mo.CappedUtility(utility.weight, 20.0) for utility in market.utility]
        return replace(market, utility=capped).program()

    growth(lambda n: lambda: declare(n).problem.get_problem_data(cp.HIGHS), (5, 10, 20, 40), at_most=2.5)
