"""VCG by its definition: every sharing graph of a few agents is written down, and nothing is decomposed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog

from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.solvers.errors import InvalidInput

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class WholeGraphs:
    """All sharing graphs of a market of at most four agents, and what each is worth to whom.

    Parameters
    ----------
    market : SharingMarket
    allowed : callable, optional
        ``allowed(graphs)`` of shape (n_graphs,) for graphs of shape (n_graphs, n_agents, n_agents).
    """

    def __init__(
        self, market: SharingMarket, allowed: Callable[[BoolArray], BoolArray] | None = None
    ) -> None:
        n = market.n_agents
        if n > 4:
            raise InvalidInput(f"{n} agents have 2^{n * (n - 1)} graphs; they are written down for at most 4")
        sellers, buyers = np.nonzero(~np.eye(n, dtype=bool))
        graphs = np.zeros((2**sellers.size, n, n), dtype=bool)
        graphs[:, sellers, buyers] = np.arange(len(graphs))[:, np.newaxis] >> np.arange(sellers.size) & 1
        self.graphs = graphs if allowed is None else graphs[allowed(graphs)]
        use = np.stack([market.value_of_sets(j, self.graphs[:, :, j]) for j in range(n)], axis=1)
        self.value: Array = use - (self.graphs * market.sharing_cost).sum(axis=2)
        self.n_agents, self.outside = n, self.value[~self.graphs.any(axis=(1, 2))][0]

    @cached_property
    def best(self) -> float:
        """Most welfare (money)."""
        return float(self.value.sum(axis=1).max())

    def pivot_value(self, pivot: str) -> Array:
        """First term of (19) (money), shape (n_agents,)."""
        touched = self.graphs.any(axis=1) | self.graphs.any(axis=2)
        others = self.value.sum(axis=1, keepdims=True) - self.value
        counted = np.where(touched, -np.inf, others) if pivot == "exclude" else others
        most: Array = counted.max(axis=0)
        return most

    def payoff(self, pivot: str) -> Array:
        """Payoffs of VCG (money), shape (n_agents,): the same for every best graph."""
        return self.best - self.pivot_value(pivot)

    def imbalance(self, pivot: str) -> float:
        """Sum of VCG payments (money): the same for every best graph."""
        return float(self.pivot_value(pivot).sum()) - (self.n_agents - 1) * self.best

    def value_at(self, adjacency: ArrayLike) -> Array:
        """V_i at one graph (money), shape (n_agents,)."""
        row = np.flatnonzero((self.graphs == np.asarray(adjacency, dtype=bool)).all(axis=(1, 2)))
        value: Array = self.value[row[0]]
        return value

    def payment(self, pivot: str, adjacency: ArrayLike) -> Array:
        """(19) at one best graph (money), shape (n_agents,)."""
        value = self.value_at(adjacency)
        payment: Array = self.pivot_value(pivot) - value.sum() + value
        return payment

    def has_core(self) -> bool:
        """Whether payoffs exist that no coalition, trading among itself, can improve on."""
        n = self.n_agents
        member = np.arange(1, 2**n)[:, np.newaxis] >> np.arange(n) & 1
        inside = np.array(
            [~(self.graphs & ~np.outer(row, row).astype(bool)).any(axis=(1, 2)) for row in member]
        )
        worth = np.array([(self.value @ row)[ok].max() for row, ok in zip(member, inside, strict=True)])
        # The least that all coalitions ask for, against what there is.
        least = linprog(np.ones(n), A_ub=-member, b_ub=-worth, bounds=(None, None), method="highs")
        return bool(least.fun <= worth[-1] + 1e-9 * (1 + np.abs(worth).max()))
