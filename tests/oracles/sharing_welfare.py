"""Sharing graphs of most welfare by brute force: every graph on up to four agents, valued one by one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@cache
def every_graph(n: int) -> Array:
    """Every directed graph without loops, shape (2^(n (n-1)), n, n)."""
    edges = [(i, j) for i in range(n) for j in range(n) if i != j]
    graphs = np.zeros((2 ** len(edges), n, n))
    for number, bits in enumerate(product((0.0, 1.0), repeat=len(edges))):
        for (i, j), bit in zip(edges, bits, strict=True):
            graphs[number, i, j] = bit
    return graphs


def utilities(market: Any) -> Array:
    """Utility of each buyer (column) in every graph (row), from the functions alone."""
    graphs = every_graph(market.n_agents)
    weight = np.ones_like(market.sharing_cost) if market.quality_weight is None else market.quality_weight
    columns = []
    for j, utility in enumerate(market.utility):
        sets, place = np.unique(graphs[:, :, j], axis=0, return_inverse=True)
        if hasattr(utility, "values") and isinstance(utility.values, dict):
            worth = [utility.values[frozenset(np.flatnonzero(row).tolist())] for row in sets]
        elif hasattr(utility, "values"):
            worth = sum(sets[:, i] * weight[i, j] * v for i, v in enumerate(utility.values))
        else:
            bought = sum(sets[:, i] * weight[i, j] * d for i, d in enumerate(market.data_size))
            worth = utility(market.data_size[j] + bought)
        columns.append(np.asarray(worth, dtype=float)[place.ravel()])
    return np.array(columns).T


def allowed(market: Any, limits: dict[str, Any]) -> NDArray[np.bool_]:
    """Which graphs meet the limits; numbers stand for every agent."""
    graphs = every_graph(market.n_agents)
    n = market.n_agents
    loss = np.asarray(limits.get("privacy_loss", np.ones((n, n))))
    slack = 1e-12
    kept = np.ones(len(graphs), dtype=bool)
    for i in range(n):
        row, column = graphs[:, i, :], graphs[:, :, i]
        for name, used in (
            ("seller_cap", row.sum(axis=1)),
            ("buyer_cap", column.sum(axis=1)),
            ("buyer_budget", column @ market.sharing_cost[:, i]),
            ("privacy_budget", row @ loss[i]),
        ):
            if name in limits:
                kept &= used <= np.broadcast_to(limits[name], n)[i] + slack
        if limits.get("broadcast"):
            barred = np.zeros(n) if "forbidden" not in limits else np.asarray(limits["forbidden"])[i]
            others = [j for j in range(n) if j != i and not barred[j]]
            for j, k in combinations(others, 2):
                kept &= row[:, j] == row[:, k]
    if "forbidden" in limits:
        kept &= ~np.any(graphs * np.asarray(limits["forbidden"]), axis=(1, 2))
    if "platform_cap" in limits:
        kept &= graphs.sum(axis=(1, 2)) <= limits["platform_cap"]
    if "platform_privacy_budget" in limits:
        kept &= np.tensordot(graphs, loss, 2) <= limits["platform_privacy_budget"] + slack
    if limits.get("reciprocity"):
        kept &= np.all(graphs == graphs.transpose(0, 2, 1), axis=(1, 2))
    return kept


def costs(market: Any, limits: dict[str, Any]) -> Array:
    """What each seller bears in every graph, one-time costs included."""
    graphs = every_graph(market.n_agents)
    cost = np.sum(graphs * market.sharing_cost, axis=2)
    if "upload_cost" in limits:
        cost = cost + np.broadcast_to(limits["upload_cost"], market.n_agents) * graphs.any(axis=2)
    return cost


def best(market: Any, limits: dict[str, Any]) -> tuple[float, Array]:
    """Most welfare, and a graph that has it."""
    welfare = utilities(market).sum(axis=1) - costs(market, limits).sum(axis=1)
    welfare[~allowed(market, limits)] = -np.inf
    winner = int(np.argmax(welfare))
    return float(welfare[winner]), every_graph(market.n_agents)[winner]


def best_set(market: Any, buyer: int, price: Array) -> float:
    """Most that a buyer gains at prices of each seller's data, over all sets of the other agents."""
    alone = _alone(market, buyer)
    return max(value - sum(price[i] for i in chosen) for chosen, value in alone)


def _alone(market: Any, buyer: int) -> Iterator[tuple[tuple[int, ...], float]]:
    others = [i for i in range(market.n_agents) if i != buyer]
    for size in range(len(others) + 1):
        for chosen in combinations(others, size):
            taken = np.zeros(market.n_agents, dtype=bool)
            taken[list(chosen)] = True
            yield chosen, float(market.value_of_sets(buyer, taken))
