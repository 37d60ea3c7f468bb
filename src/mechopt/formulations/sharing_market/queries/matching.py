"""The weighted ordered match: agents trade queries for queries, the best-ranked first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations import checks
from mechopt.formulations.sharing_market.queries.stability import QueryStability, check
from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.queries.model import QueryMarket

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class QueryMatch:
    """Outcome of the weighted ordered match, always with the check whether it is stable.

    Attributes
    ----------
    query_count : array of int, shape (n_agents, n_agents)
        Row = seller, column = buyer.
    ranking : tuple of int
        Agents in the order in which they proposed.
    value : array, shape (n_agents,)
        What it is worth to each agent (money).
    strong, core : QueryStability
        Whether a coalition blocks it that keeps its queries to and from others, and one that does not.
    """

    query_count: IntArray
    ranking: tuple[int, ...]
    value: Array
    strong: QueryStability
    core: QueryStability

    def __repr__(self) -> str:
        return f"QueryMatch({self.query_count.tolist()}; {self.strong!r}; {self.core!r})"


def ordered_match(market: QueryMarket, ranking: Sequence[int] | None) -> QueryMatch:
    """Run the match and check its outcome; see `QueryMarket.ordered_match`."""
    order = _read_ranking(market, ranking)
    count = np.zeros_like(market.max_queries)
    for place, first in enumerate(order):
        for second in order[place + 1 :]:
            _trade(market, count, first, second)
    count.setflags(write=False)
    return QueryMatch(
        count,
        order,
        market.allocation_value(count),
        check(market, count, "strong", None),
        check(market, count, "cut", None),
    )


def _trade(market: QueryMarket, count: IntArray, first: int, second: int) -> None:
    """Let ``first`` offer all that it gains by, and ``second`` take what it gains most by, if it gains."""
    asked = np.arange(market.max_queries[second, first] + 1)[:, np.newaxis]  # by the first
    answered = np.arange(market.max_queries[first, second] + 1)[np.newaxis]  # by the first
    data = market.total_data(count)
    size, cost, levels = market.answer_size, market.sharing_cost, market.levels

    def gain(agent: int, other: int, bought: IntArray, sold: IntArray) -> Array:
        utility = market.utility[agent]
        more = utility(data[agent] + size[other] * bought) - utility(data[agent])
        change: Array = more - cost[agent, other] * levels[sold]
        return change

    offered = gain(first, second, asked, answered)
    wanted = gain(second, first, answered, asked)
    wanted = np.where(offered > 0, wanted, -np.inf)
    if np.max(wanted) <= 0:
        return
    # Of several that the second likes best, the first proposes the one it likes best.
    best = np.where(wanted == np.max(wanted), offered, -np.inf)
    bought, sold = np.unravel_index(int(np.argmax(best)), best.shape)
    count[second, first], count[first, second] = bought, sold


def _read_ranking(market: QueryMarket, ranking: Sequence[int] | None) -> tuple[int, ...]:
    if ranking is None:
        return tuple(np.argsort(-market.data_size, kind="stable").tolist())
    order = checks.vector(ranking, "ranking")
    if not np.array_equal(np.sort(order), np.arange(market.n_agents)):
        raise InvalidInput(
            f"ranking must be a permutation of the agents 0 to {market.n_agents - 1}, got {order.tolist()}"
        )
    return tuple(int(agent) for agent in order)
