"""One buyer's problem, its answer, and when two answers are equally good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import AdditiveUtility, LinearUtility, TableUtility, Utility
from mechopt.formulations.sharing_market.buyers.items import Items
from mechopt.formulations.sharing_market.values import value_of_sets
from mechopt.solvers.errors import InvalidInput, NotApplicable

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]

# A further seller must raise the surplus by more than this part of the money at stake. Far above the rounding
# of sums of a thousand terms, far below any difference that somebody means.
_TIE = 1e-12


@dataclass(frozen=True, eq=False)
class BuyerProblem:
    r"""The most that a buyer can gain: :math:`\max_S U(S) - \sum_{i \in S} c_i`.

    Attributes
    ----------
    utility : Utility
    own_size : float
        The buyer's own data (records).
    data_size, quality_weight, cost : array, shape (n_agents,)
        Each agent's data (records), what a record of it counts for, and what it costs (money).
    available : array of bool, shape (n_agents,)
        Sellers to choose from.
    cap : float
        Most sellers; infinite if there is no limit.
    budget : float
        Most cost (money); infinite if there is no limit.

    Raises
    ------
    InvalidInput
        If an argument breaks its rule; the message names it, the index, the value and the rule.
    """

    utility: Utility
    own_size: float
    data_size: Array
    quality_weight: Array
    cost: Array
    available: BoolArray
    cap: float = np.inf
    budget: float = np.inf

    def __post_init__(self) -> None:
        shape = np.shape(self.available)
        if len(shape) != 1 or np.asarray(self.available).dtype != bool:
            raise InvalidInput(f"available must be one bool for each agent, got {self.available!r}")
        for name in ("data_size", "quality_weight", "cost"):
            array = np.asarray(getattr(self, name), dtype=float)
            if array.shape != shape:
                raise InvalidInput(f"{name} has shape {array.shape}; it must have that of available, {shape}")
            broken = ~np.isfinite(array) if name == "cost" else ~(np.isfinite(array) & (array >= 0))
            if np.any(broken):
                index = int(np.argmax(broken))
                rule = "finite" if name == "cost" else "finite and >= 0"
                raise InvalidInput(f"{name}[{index}] = {array[index]} must be {rule}")
        for name in ("own_size", "cap", "budget"):
            if not getattr(self, name) >= 0:
                raise InvalidInput(f"{name} = {getattr(self, name)} must be >= 0")

    @property
    def n_agents(self) -> int:
        """Number of agents, the buyer among them."""
        return int(self.available.size)

    @cached_property
    def effective_size(self) -> Array:
        """What each seller's data adds to the total (records), shape (n_agents,)."""
        size: Array = self.data_size * self.quality_weight
        return size

    @property
    def is_limited(self) -> bool:
        """Whether a cap or a budget may bind."""
        return bool(self.cap < self.available.sum() or np.isfinite(self.budget))

    def value_of_sets(self, taken: BoolArray) -> Array:
        """Utility of sets of sellers (money); ``taken`` of shape (..., n_agents)."""
        return value_of_sets(
            self.utility,
            taken,
            own_size=self.own_size,
            data_size=self.data_size,
            quality_weight=self.quality_weight,
        )

    def purchase(self, taken: BoolArray, method: str, n_nodes: int = 0) -> Purchase:
        """Return the purchase of a set, its money computed from the set alone."""
        taken.setflags(write=False)
        utility = float(self.value_of_sets(taken))
        cost = float(self.cost[taken].sum())
        return Purchase(taken, utility, cost, utility - cost, method, n_nodes)

    def without(self, seller: int) -> BuyerProblem:
        """Return the problem without one seller."""
        available = self.available.copy()
        available[seller] = False
        return replace(self, available=available)

    def with_free(self, seller: int) -> BuyerProblem:
        """Return the problem in which one seller's data costs nothing."""
        cost = self.cost.copy()
        cost[seller] = 0.0
        return replace(self, cost=cost)

    @cached_property
    def items(self) -> Items:
        """The sellers that matter, as items whose sizes add up.

        Raises
        ------
        NotApplicable
            If the utility is a table.
        """
        utility, tie, cost = self.utility, self.tie, self.cost
        if isinstance(utility, TableUtility):
            raise NotApplicable("a TableUtility is no function of a sum; use method='enumeration'")
        size, own_size = self.effective_size, self.own_size
        function: Callable[[Any], Any]
        if isinstance(utility, AdditiveUtility):
            size, own_size = np.array(utility.values) * self.quality_weight, 0.0
            function = LinearUtility(1.0)
        else:
            function = utility
        # Never worth a cost; without a cap, always worth a gift.
        items = self.available & ~((size <= 0) & (cost >= -tie))
        gifts = np.zeros_like(items)
        if self.cap >= self.available.sum():
            gifts = items & (size <= 0) & (size - cost > tie)
            items &= ~gifts
        if np.isinf(self.budget):
            items &= (size >= 0) | (size - cost > tie)
        seller = np.flatnonzero(items)
        return Items(
            seller=seller,
            size=size[seller],
            cost=cost[seller],
            gifts=gifts,
            gain_of_gifts=float((size - cost)[gifts].sum()),
            own_size=own_size,
            utility=function,
            cap=self.cap,
            # Budgets may be spent to the last digit, and sums are rounded.
            budget=self.budget - float(cost[gifts].sum()) + tie * self.n_agents,
            tie=tie,
        )

    @cached_property
    def tie(self) -> float:
        """Money that a further seller must bring, for the larger set to be better; > 0."""
        if isinstance(self.utility, AdditiveUtility):
            at_stake = np.array(self.utility.values) * self.quality_weight * self.available
        elif isinstance(self.utility, TableUtility):
            at_stake = np.array(list(self.utility.values.values()))
        else:
            # Utilities need not be monotone: look between the smallest and the largest total, too.
            total = float(self.effective_size[self.available].sum())
            at_stake = np.asarray(self.utility(self.own_size + total * np.linspace(0.0, 1.0, 9)))
            if not np.all(np.isfinite(at_stake)):
                index = int(np.argmax(~np.isfinite(at_stake)))
                raise InvalidInput(
                    f"utility of {self.own_size + total * index / 8:g} records is {at_stake[index]}; it must "
                    "be finite: own_size > 0 where an error of no data is infinite"
                )
        cost = self.cost[self.available]
        money = float(np.max(np.abs(at_stake), initial=0.0) + np.max(-cost, initial=0.0))
        # If nothing is worth anything, what is free ties with what is not there.
        return _TIE * (money or float(np.max(cost, initial=0.0)) or 1.0)


@dataclass(frozen=True, eq=False)
class Purchase:
    """What a buyer takes, and what that is worth to it.

    Attributes
    ----------
    taken : array of bool, shape (n_agents,)
        The sellers.
    utility, cost, surplus : float
        Utility of the set with the buyer's own data, what it costs, and their difference (money).
    method : str
        The algorithm that found it.
    n_nodes : int
        Nodes that branch and bound looked at; 0 of other methods.
    """

    taken: BoolArray
    utility: float
    cost: float
    surplus: float
    method: str
    n_nodes: int = 0
