"""The market for queries by definition: all numbers of queries, all coalitions, one after the other.

Nothing here uses the package, except the utilities themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import (
    CappedUtility,
    InverseSqrtUtility,
    LinearUtility,
    LogUtility,
    SaturatingUtility,
    SqrtUtility,
    ThresholdUtility,
    UserUtility,
)
from mechopt.formulations.sharing_market.queries import QueryMarket

Array = NDArray[np.float64]
Counts = NDArray[np.intp]
UTILITIES = (
    LogUtility(9.0, 3.0),
    SqrtUtility(4.0),
    CappedUtility(10.0, 8.0),
    SaturatingUtility(10.0, 5.0),
    InverseSqrtUtility(8.0),
    LinearUtility(1.0),
    ThresholdUtility(10.0, 6.0),
    UserUtility(lambda data: 10 * data**2 / (20 + data**2)),
)
CONCAVE = UTILITIES[:6]
COMPOSITIONS = ("linear", "convex", "concave", "any")


def random_market(
    rng: np.random.Generator,
    n_agents: int = 3,
    most: int = 3,
    *,
    composition: str | None = None,
    sizes: str | None = None,
    utilities: tuple = UTILITIES,
) -> QueryMarket:
    """Draw a market: answers of equal, whole or real sizes; costs that add up in one of four ways."""
    kind = sizes or str(rng.choice(["equal", "whole", "real"]))
    size = {
        "equal": np.full(n_agents, 1.3),
        "whole": rng.integers(1, 5, n_agents).astype(float),
        "real": rng.uniform(0.5, 3, n_agents),
    }[kind]
    levels = {
        "linear": None,
        "convex": np.arange(most + 1.0) ** 1.5,
        "concave": np.sqrt(np.arange(most + 1.0)),
        "any": np.cumsum(np.append(0, rng.uniform(0, 2, most))),
    }[composition or str(rng.choice(COMPOSITIONS))]
    cost = rng.uniform(0, 1.5, (n_agents, n_agents)) * (1 - np.eye(n_agents))
    return QueryMarket(
        data_size=rng.uniform(0.5, 4, n_agents),
        sharing_cost=cost,
        utility=[utilities[k] for k in rng.integers(len(utilities), size=n_agents)],
        max_queries=rng.integers(0, most + 1, (n_agents, n_agents)) * (1 - np.eye(n_agents, dtype=int)),
        query_size=size,
        composition=levels,
    )


def value(market: QueryMarket, agent: int, count: Counts) -> float:
    """What an agent has of its data and answers, less what its answers to others cost it."""
    size = np.ones(market.n_agents) if market.query_size is None else market.query_size
    data = float(market.data_size[agent])
    cost = 0.0
    for other in range(market.n_agents):
        data += float(size[other]) * int(count[other, agent])
        asked = int(count[agent, other])
        level = asked if market.composition is None else float(market.composition[asked])
        cost += float(market.sharing_cost[agent, other]) * level
    return float(market.utility[agent](data)) - cost


def all_counts(market: QueryMarket) -> Iterator[Counts]:
    """Every way to ask queries."""
    n = market.n_agents
    for flat in product(*(range(int(most) + 1) for most in market.max_queries.ravel())):
        yield np.array(flat, dtype=np.intp).reshape(n, n)


def most_welfare(market: QueryMarket, budget: Array | None = None, loss: Array | None = None) -> float:
    """Most welfare of all ways to ask queries, within privacy budgets."""
    best = -np.inf
    for count in all_counts(market):
        if budget is not None and loss is not None:
            levels = count if market.composition is None else market.composition[count]
            if np.any((loss * levels).sum(axis=1) > budget + 1e-12):
                continue
        best = max(best, sum(value(market, agent, count) for agent in range(market.n_agents)))
    return best


def best_for_buyer(market: QueryMarket, buyer: int, tariff: Array) -> float:
    """The most that a buyer keeps at a tariff."""
    size = np.ones(market.n_agents) if market.query_size is None else market.query_size
    best = -np.inf
    for asked in product(*(range(int(most) + 1) for most in market.max_queries[:, buyer])):
        data = market.data_size[buyer] + sum(s * q for s, q in zip(size, asked, strict=True))
        paid = sum(float(tariff[seller, buyer, q]) for seller, q in enumerate(asked))
        best = max(best, float(market.utility[buyer](data)) - paid)
    return best


def pivots(market: QueryMarket, pivot: str) -> Array:
    """Most welfare of the others without each agent, or with its answers at no cost to anybody."""
    n = market.n_agents
    best = np.full(n, -np.inf)
    for count in all_counts(market):
        values = [value(market, agent, count) for agent in range(n)]
        for agent in range(n):
            alone = not count[agent].any() and not count[:, agent].any()
            if pivot == "drop" or alone:
                best[agent] = max(best[agent], sum(values) - values[agent])
    return best


def is_blocked(market: QueryMarket, now: Counts, rule: str) -> bool:
    """Tell whether some coalition blocks, coalition by coalition and deviation by deviation."""
    n = market.n_agents
    before = [value(market, agent, now) for agent in range(n)]
    coalitions = [set(team) for size in range(1, n + 1) for team in combinations(range(n), size)]
    for then in all_counts(market):
        change = [value(market, agent, then) - before[agent] for agent in range(n)]
        for team in coalitions:
            if min(change[i] for i in team) < -1e-10 or max(change[i] for i in team) <= 1e-10:
                continue
            if all(_allowed(now, then, a, b, team, rule) for a, b in combinations(range(n), 2)):
                return True
    return False


def _allowed(now: Counts, then: Counts, a: int, b: int, team: set[int], rule: str) -> bool:
    """Whether the coalition can make this pair's deal what it is after the deviation."""
    deal, before = (then[a, b], then[b, a]), (now[a, b], now[b, a])
    if rule == "cut":
        return {a, b} <= team or deal == (0, 0)
    if deal == before or {a, b} <= team:
        return True
    return deal == (0, 0) and bool({a, b} & team)
