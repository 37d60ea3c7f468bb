"""A buyer's problem with the sellers that matter alone, and whose value is a function of a sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Items:
    r"""Sellers to choose from, :math:`\max_S f(\sum_{i \in S} e_i) - \sum_{i \in S} c_i`, as items.

    Attributes
    ----------
    seller : array of int, shape (n_items,)
        The agent that each item is; increasing.
    size, cost : array, shape (n_items,)
        What it adds to the total (records, or money of an additive utility), and its cost (money).
    gifts : array of bool, shape (n_agents,)
        Sellers without any use who pay to be taken: outside the items, and always taken.
    gain_of_gifts : float
        What these bring (money).
    own_size : float
        The total without any seller.
    utility : callable
        f of the total with the buyer's own (money).
    cap, budget : float
        Most items, and most that they may cost; infinite without a limit.
    tie : float
        Money that a further item must bring.
    """

    seller: IntArray
    size: Array
    cost: Array
    gifts: BoolArray
    gain_of_gifts: float
    own_size: float
    utility: Callable[[Any], Any]
    cap: float
    budget: float
    tie: float

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self.seller.size

    def value(self, total: Any) -> Array:
        """Utility when items of this total are taken (money)."""
        return np.asarray(self.utility(self.own_size + total))

    def taken(self, chosen: Any) -> BoolArray:
        """Sellers of the items chosen (indices or bools) and the gifts, shape (n_agents,)."""
        taken = self.gifts.copy()
        taken[self.seller[chosen]] = True
        return taken

    def of_one_size(self) -> bool:
        """Whether all items have one size, to rounding."""
        return one_value(self.size)

    def of_one_cost(self) -> bool:
        """Whether all items have one cost, to rounding."""
        return one_value(self.cost)


def one_value(array: Array) -> bool:
    """Whether all entries are one number, to rounding: sizes are products of quality and data."""
    return not array.size or bool(np.ptp(array) <= 1e-12 * np.max(np.abs(array)))


def rounded_order(array: Array, grain: float) -> IntArray:
    """Stable increasing order, in which numbers that differ by rounding alone are equal."""
    order: IntArray = np.argsort(np.round(array / grain), kind="stable")
    return order
