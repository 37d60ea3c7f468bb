"""Prices of data by definition: all sets and all coalitions, one after the other.

Nothing here uses the package, except the utilities of sets themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from mechopt.formulations.sharing_market.model import SharingMarket

Array = NDArray[np.float64]
Set = tuple[int, ...]


def subsets(agents: list[int]) -> Iterator[Set]:
    """Every subset."""
    return chain.from_iterable(combinations(agents, size) for size in range(len(agents) + 1))


def sellers_of(market: SharingMarket, buyer: int) -> list[int]:
    """Everybody but the buyer."""
    return [agent for agent in range(market.n_agents) if agent != buyer]


def worth(market: SharingMarket, buyer: int, taken: Set) -> float:
    """Utility of one set."""
    mask = np.zeros(market.n_agents, dtype=bool)
    mask[list(taken)] = True
    return float(market.value_of_sets(buyer, mask))


def kept(market: SharingMarket, buyer: int, taken: Set, price: Array) -> float:
    """Utility of one set less what it costs at these prices."""
    return worth(market, buyer, taken) - sum(float(price[seller, buyer]) for seller in taken)


def most_kept(market: SharingMarket, buyer: int, price: Array, among: list[int] | None = None) -> float:
    """The most that the buyer keeps of any set of the sellers in ``among``."""
    sellers = sellers_of(market, buyer) if among is None else [i for i in among if i != buyer]
    return max(kept(market, buyer, taken, price) for taken in subsets(sellers))


def regret(market: SharingMarket, adjacency: Array, price: Array) -> float:
    """The most that a buyer, or a seller on an edge, gains by another choice at these prices."""
    gains = []
    for buyer in range(market.n_agents):
        taken = tuple(np.flatnonzero(adjacency[:, buyer]).tolist())
        gains.append(most_kept(market, buyer, price) - kept(market, buyer, taken, price))
        for seller in sellers_of(market, buyer):
            margin = float(price[seller, buyer] - market.sharing_cost[seller, buyer])
            gains.append(-margin if adjacency[seller, buyer] else margin)
    return max(gains)


def coalition_worth(market: SharingMarket, members: Set) -> float:
    """What members can have by trading among themselves."""
    return sum(most_kept(market, buyer, market.sharing_cost, list(members)) for buyer in members)


def core_excess(market: SharingMarket, payoff: Array) -> float:
    """The most that a coalition would have on top of its payoff."""
    agents = list(range(market.n_agents))
    return max(
        coalition_worth(market, members) - sum(float(payoff[agent]) for agent in members)
        for members in subsets(agents)
    )


def joint_prices(
    market: SharingMarket, adjacency: Array, buyer: int, weight: Array
) -> tuple[float, Array] | None:
    """Largest weighted sum of one buyer's prices that keep the equilibrium; None if no prices do."""
    sellers = sellers_of(market, buyer)
    taken = tuple(i for i in sellers if adjacency[i, buyer])
    rows, limits = [], []
    for other in subsets(sellers):
        rows.append([float(i in taken) - float(i in other) for i in sellers])
        limits.append(worth(market, buyer, taken) - worth(market, buyer, other))
    cost = market.sharing_cost[sellers, buyer]
    bounds = [(c, None) if i in taken else (None, c) for i, c in zip(sellers, cost, strict=True)]
    answer = linprog(-weight[sellers], A_ub=np.array(rows), b_ub=limits, bounds=bounds, method="highs")
    return None if answer.x is None else (-float(answer.fun), answer.x)
