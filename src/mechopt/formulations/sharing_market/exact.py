"""Sharing graphs of most welfare, buyer by buyer, and what they lose without a seller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.sharing_market.buyers import (
    Purchase,
    best_purchase,
    surplus_with_free_each,
    surplus_without_each,
)
from mechopt.formulations.sharing_market.restrictions import Restrictions
from mechopt.solvers.errors import NotApplicable

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.model import SharingMarket

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Allocation:
    r"""A sharing graph of most welfare, and each buyer's part of it.

    Attributes
    ----------
    adjacency : array, shape (n_agents, n_agents)
        1 where the row's agent sells to the column's, else 0.
    surplus : array, shape (n_agents,)
        :math:`\pi_j`: utility of each buyer minus what its sellers' data costs (money).
    utility, cost : array, shape (n_agents,)
        The terms of that difference (money).
    methods : tuple of str, length n_agents
        The algorithm that found each buyer's set.
    purchases : tuple of Purchase, length n_agents
    restrictions : Restrictions
        Limits under which it is best.
    """

    adjacency: Array
    surplus: Array
    utility: Array
    cost: Array
    methods: tuple[str, ...]
    purchases: tuple[Purchase, ...]
    restrictions: Restrictions

    @property
    def welfare(self) -> float:
        """Sum of the surpluses (money)."""
        return float(self.surplus.sum())

    @property
    def n_edges(self) -> int:
        """Number of edges of the graph."""
        return int(self.adjacency.sum())


@dataclass
class SolveCount:
    """How many buyers' problems have been solved, for those who want to know.

    Attributes
    ----------
    n_solves : int
    """

    n_solves: int = 0


def welfare_maximum(
    market: SharingMarket, restrictions: Restrictions | None = None, *, count: SolveCount | None = None
) -> Allocation:
    """Find a sharing graph of most welfare, one buyer after the other.

    Parameters
    ----------
    market : SharingMarket
    restrictions : Restrictions, optional
        Forbidden edges, buyers' caps and budgets.
    count : SolveCount, optional
        Raised by the number of buyers.

    Raises
    ------
    NotApplicable
        If a restriction couples buyers, or a buyer's problem is none that an exact algorithm takes; the joint
        program, ``market.program(...)``, does.

    References
    ----------
    Rasouli and Jordan, eq. (11).

    Examples
    --------
    >>> import mechopt as mo
    >>> market = mo.SharingMarket([4.0, 2.0, 1.0], 1 - np.eye(3), mo.LogUtility(6.0, 1.0))
    >>> best = welfare_maximum(market)
    >>> best.adjacency.astype(int).tolist(), round(best.welfare, 6)
    ([[0, 1, 1], [1, 0, 1], [0, 0, 0]], 31.827571)
    """
    limits = restrictions or Restrictions()
    if limits.couplings:
        raise NotApplicable(
            f"{', '.join(limits.couplings)} couples buyers, who cannot be served one by one; solve the joint "
            "program: market.program(...).solve()",
            reason=", ".join(limits.couplings),
        )
    purchases = tuple(
        best_purchase(market.buyer_problem(buyer, restrictions=limits)) for buyer in range(market.n_agents)
    )
    if count is not None:
        count.n_solves += len(purchases)
    return Allocation(
        adjacency=np.array([purchase.taken for purchase in purchases], dtype=float).T,
        surplus=np.array([purchase.surplus for purchase in purchases]),
        utility=np.array([purchase.utility for purchase in purchases]),
        cost=np.array([purchase.cost for purchase in purchases]),
        methods=tuple(purchase.method for purchase in purchases),
        purchases=purchases,
        restrictions=limits,
    )


def leave_one_out(market: SharingMarket, allocation: Allocation, *, count: SolveCount | None = None) -> Array:
    r"""Surplus that is left to each buyer without each seller.

    Where nothing is sold nothing is lost, so that it takes one more solution for each edge of the graph, not
    for each pair of agents.

    Parameters
    ----------
    market : SharingMarket
    allocation : Allocation
        Of this market, from `welfare_maximum`.
    count : SolveCount, optional
        Raised by the number of edges.

    Returns
    -------
    array, shape (n_agents, n_agents)
        Row = seller i, column = buyer j: :math:`\pi_j(N \setminus i)` (money); on the diagonal the surplus of
        j itself.
    """
    columns = [
        surplus_without_each(market.buyer_problem(buyer, restrictions=allocation.restrictions), purchase)
        for buyer, purchase in enumerate(allocation.purchases)
    ]
    if count is not None:
        count.n_solves += allocation.n_edges
    return np.array(columns).T


def free_one(market: SharingMarket, allocation: Allocation, *, count: SolveCount | None = None) -> Array:
    r"""Surplus of each buyer if each seller's data cost nothing.

    Parameters
    ----------
    market : SharingMarket
    allocation : Allocation
        Of this market, from `welfare_maximum`.
    count : SolveCount, optional
        Raised by the number of pairs that have no edge.

    Returns
    -------
    array, shape (n_agents, n_agents)
        Row = seller i, column = buyer j: :math:`\pi_j(N; c_i = 0)` (money); on the diagonal the surplus of j
        itself.
    """
    columns = [
        surplus_with_free_each(market.buyer_problem(buyer, restrictions=allocation.restrictions), purchase)
        for buyer, purchase in enumerate(allocation.purchases)
    ]
    if count is not None:
        count.n_solves += market.n_agents * (market.n_agents - 1) - allocation.n_edges
    return np.array(columns).T
