"""Buyers of data whose sizes are multiples of a unit: the least cost of each total, and the best total."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.sharing_market.buyers.items import Items, one_value
from mechopt.formulations.sharing_market.buyers.problem import BoolArray, BuyerProblem
from mechopt.solvers.errors import InvalidInput, NotApplicable

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

MOST_STEPS = 10**8
"""Most entries of the table, sellers by totals (by numbers of sellers, under a cap)."""


class Table:
    """Least costs of totals, item by item.

    A state is a total size; under a cap it is a total and a number of sellers, numbered through, so that an
    item is one step in either case.

    Parameters
    ----------
    items : Items
    unit : float
        All sizes are multiples of it.
    """

    def __init__(self, items: Items, unit: float) -> None:
        size = np.round(items.size / unit).astype(np.int64)
        self.items, self.unit = items, unit
        self.n_totals = 1 + int(size.sum())
        self.step, self.n_states = size, self.n_totals
        if items.cap < items.n_items:
            self.step, self.n_states = size + self.n_totals, self.n_totals * (int(items.cap) + 1)

    @property
    def n_steps(self) -> int:
        """Entries that are computed, at most."""
        return self.items.n_items * self.n_states

    def start(self) -> tuple[Array, int]:
        """Least costs without any item, infinite but for one state, and how many states may be finite."""
        least = np.full(self.n_states, np.inf)
        least[0] = 0.0
        return least, 1

    def add(self, least: Array, reached: int, item: int, cost: float) -> tuple[int, Array, Array]:
        """Let one more item be chosen, in place.

        Returns
        -------
        int
            The number of states that may be finite now.
        array, array
            Costs if it is taken, and the least costs of the same states.
        """
        step = int(self.step[item])
        with_it = least[: max(min(reached, self.n_states - step), 0)] + cost
        into = least[step : step + with_it.size]
        np.minimum(into, with_it, out=into)
        return min(reached + step, self.n_states), with_it, into

    def values(self, least: Array) -> Array:
        """Utility of each state that is reached (money); minus infinity of the others."""
        value = np.full(least.size, -np.inf)
        reached = np.flatnonzero(np.isfinite(least) & (least <= self.items.budget))
        value[reached] = self.items.value(self.unit * (reached % self.n_totals))
        return value


def table_of(problem: BuyerProblem) -> Table | None:
    """Return the table, or None if sizes have no common unit."""
    items = problem.items
    unit = _unit(problem, items)
    return None if unit is None else Table(items, unit)


def choose(problem: BuyerProblem) -> BoolArray:
    """Best set of sellers, whatever the utility of their total."""
    table = _asked(problem)
    items = table.items
    least, reached = table.start()
    is_taken = [np.zeros(0, dtype=bool)] * items.n_items
    # The last item first, so that the way back meets the items in order and can prefer the first of them.
    for item in reversed(range(items.n_items)):
        reached, with_it, into = table.add(least, reached, item, float(items.cost[item]) + items.tie)
        is_taken[item] = with_it <= into + items.tie / 4
    surplus = table.values(least)
    surplus[np.isfinite(surplus)] -= least[np.isfinite(surplus)]
    states = np.flatnonzero(surplus >= surplus.max() - items.tie / 4)
    chosen = []
    for item, step in enumerate(table.step.tolist()):
        if states.size == 1:  # nearly always; then Python is faster than NumPy
            before = int(states[0]) - step
            if not (0 <= before < is_taken[item].size and is_taken[item][before]):
                continue
            ends = states
        else:
            inside = states[(states >= step) & (states - step < is_taken[item].size)]
            ends = inside[is_taken[item][inside - step]]
        if ends.size:
            chosen.append(item)
            states = ends - step
    return items.taken(chosen)


def without_each(problem: BuyerProblem, wanted: BoolArray) -> Array:
    """Best surplus of the items without each of those wanted, if there is no budget; shape (n_agents,)."""
    return _with_tables_of_the_others(problem, wanted, itself=False)


def with_free_each(problem: BuyerProblem, wanted: BoolArray) -> Array:
    """Best surplus of the items with each of those wanted taken for nothing, if there is no budget."""
    return _with_tables_of_the_others(problem, wanted, itself=True)


def _with_tables_of_the_others(problem: BuyerProblem, wanted: BoolArray, itself: bool) -> Array:
    """Best surplus of all other items, with the data of the seller itself for nothing or not at all.

    The items are halved again and again: a half is added to the table for the other half, until one item is
    left out. All of them take about log2(n_items) tables, not n_items.
    """
    table = _asked(problem)
    items = table.items
    costs = items.cost.tolist()
    full, reached = table.start()
    for item in range(items.n_items):
        reached, *_ = table.add(full, reached, item, costs[item])
    value = table.values(full)
    best = np.full(problem.n_agents, -np.inf)
    asked = wanted[items.seller]

    def descend(least: Array, reached: int, low: int, high: int) -> None:
        if not asked[low:high].any():
            return
        if high - low == 1:
            shift = int(table.step[low]) if itself else 0
            reach = value[shift : shift + reached]
            best[items.seller[low]] = np.max(reach - least[: reach.size], initial=-np.inf)
            return
        middle = (low + high) // 2
        for kept, other in (((low, middle), (middle, high)), ((middle, high), (low, middle))):
            if asked[slice(*other)].any():
                more, now = least.copy(), reached
                for item in range(*kept):
                    now, *_ = table.add(more, now, item, costs[item])
                descend(more, now, *other)

    if items.n_items:
        descend(*table.start(), 0, items.n_items)
    return best


def _asked(problem: BuyerProblem) -> Table:
    table = table_of(problem)
    if table is None:
        items = problem.items
        size = items.size
        index = int(np.argmax(np.abs(100 * size - np.round(100 * size)) > 1e-12 * np.abs(size)))
        raise InvalidInput(
            "method 'knapsack' needs whole sizes (or multiples of 0.01), but data_size * quality_weight is "
            f"{size[index]:.12g} of seller {items.seller[index]}; ask for method='auto', or round the data"
        )
    if table.n_steps > MOST_STEPS:
        raise NotApplicable(
            f"method 'knapsack' would fill {table.n_steps:.2g} entries, beyond {MOST_STEPS:.0e}; count data "
            "in larger units, or ask for method='auto'",
            reason="size of the table",
        )
    return table


def _unit(problem: BuyerProblem, items: Items) -> float | None:
    """Largest number of records found of which all sizes are multiples: whole, but for a common quality.

    Tenths and hundredths are whole numbers of smaller units.
    """
    if np.any(items.size < 0):
        return None
    weight = problem.quality_weight[items.seller]
    common = float(weight[0]) if weight.size and weight[0] > 0 and one_value(weight) else 1.0
    for unit in (1.0, common, 0.1, 0.01):
        whole = np.round(items.size / unit)
        if np.all(np.abs(items.size / unit - whole) <= 1e-12 * whole):
            return unit * (float(np.gcd.reduce(whole.astype(np.int64))) or 1.0)
    return None
