"""All sets of sellers that buyers may take, each with its value: the columns of linear programs over sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mechopt.solvers.errors import InvalidInput, NotApplicable

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.model import SharingMarket

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]

MOST_SETS = 2**17
"""Sets beyond which a program over them is refused."""


@dataclass(frozen=True, eq=False)
class Sets:
    """Sets of sellers, buyer by buyer.

    Attributes
    ----------
    buyer : array of int, shape (n_sets,)
        Whose set it is.
    taken : array of bool, shape (n_sets, n_agents)
        The sellers in it.
    value : array, shape (n_sets,)
        What it is worth to the buyer (money).
    """

    buyer: IntArray
    taken: BoolArray
    value: Array

    def by_buyer(self, buyers: IntArray) -> sp.csr_matrix:
        """Incidence of buyers and sets, shape (n_buyers, n_sets)."""
        rows, columns = np.nonzero(buyers[:, np.newaxis] == self.buyer)
        return sp.csr_matrix((np.ones(rows.size), (rows, columns)), shape=(buyers.size, self.buyer.size))

    def by_edge(self, n_agents: int) -> sp.csr_matrix:
        """Incidence of edges and sets, shape (n_agents², n_sets); edges column by column, as CVXPY counts."""
        columns, sellers = np.nonzero(self.taken)
        rows = self.buyer[columns] * n_agents + sellers
        return sp.csr_matrix((np.ones(rows.size), (rows, columns)), shape=(n_agents**2, self.buyer.size))

    def shares(self, adjacency: Array) -> Array:
        """1 for the set that each buyer has in a sharing graph, 0 for all others; shape (n_sets,)."""
        chosen: BoolArray = np.all(self.taken == (adjacency.T[self.buyer] > 0.5), axis=1)
        return chosen.astype(float)


def all_sets(market: SharingMarket, available: BoolArray, buyers: Sequence[int]) -> Sets:
    """List every subset of the sellers that each of the buyers may take.

    Parameters
    ----------
    market : SharingMarket
    available : array of bool, shape (n_agents, n_agents)
        Edges (seller, buyer) that may be; own data apart.
    buyers : sequence of int

    Raises
    ------
    NotApplicable
        If there are more than `MOST_SETS`.
    InvalidInput
        If a set has no finite value.
    """
    choices = available & ~np.eye(market.n_agents, dtype=bool)
    counts = choices[:, buyers].sum(axis=0)
    total = float(np.sum(2.0**counts))
    if total > MOST_SETS:
        raise NotApplicable(
            f"the buyers may take {total:.3g} sets of sellers in all, and a program over sets holds at most "
            f"{MOST_SETS}; without couplings, market.solve() has exact algorithms, and program() declares "
            "utilities of total size without listing sets",
            reason="too many sets of sellers",
        )
    owners, taken, values = [], [], []
    for buyer, count in zip(buyers, counts, strict=True):
        inside = (np.arange(2**count)[:, np.newaxis] >> np.arange(count)) & 1
        sets = np.zeros((2**count, market.n_agents), dtype=bool)
        sets[:, choices[:, buyer]] = inside
        value = market.value_of_sets(buyer, sets)
        if not np.all(np.isfinite(value)):
            worst = int(np.argmax(~np.isfinite(value)))
            raise InvalidInput(
                f"utility[{buyer}] is {value[worst]} for sellers {np.flatnonzero(sets[worst]).tolist()}; a "
                "program needs finite values"
            )
        owners.append(np.full(2**count, buyer))
        taken.append(sets)
        values.append(value)
    return Sets(np.concatenate(owners).astype(np.intp), np.concatenate(taken), np.concatenate(values))
