"""Buyers to whom all data are of one size, or of one cost: the best set is a beginning of a sorted list."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import AdditiveUtility, ConcaveFunction, ThresholdUtility
from mechopt.formulations.sharing_market.buyers.items import Items, rounded_order
from mechopt.formulations.sharing_market.buyers.problem import BoolArray, BuyerProblem
from mechopt.solvers.errors import InvalidInput, NotApplicable

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]


# ------------------------------------------------------------ one size, any function of it


def cheapest(problem: BuyerProblem) -> BoolArray:
    """Best set if all sizes are equal: some number of the cheapest sellers."""
    items, order, value, spent = _by_cost(problem)
    surplus = value - spent[: value.size] - items.tie * np.arange(value.size)
    surplus[spent[: value.size] > items.budget] = -np.inf
    return items.taken(order[: _first_best(surplus, items.tie)])


def cheapest_without(problem: BuyerProblem, taken: BoolArray) -> Array:
    """Best surplus of the items without each of those taken, if there is no budget.

    Of a list without its p-th seller, beginnings up to p are as before; longer ones reach one further, and
    cost as much less as p costs. Prefix and suffix maxima serve all p at once.
    """
    items, order, value, spent = _by_cost(problem)
    best = np.full(problem.n_agents, -np.inf)
    position = np.flatnonzero(taken[items.seller[order]])
    as_before = np.maximum.accumulate(value - spent[: value.size])
    n_longer = min(value.size, items.n_items)
    longer = np.append(_suffix_maxima(value[:n_longer] - spent[1 : n_longer + 1]), -np.inf)
    lost = items.cost[order[position]]
    best[items.seller[order[position]]] = np.maximum(
        as_before[position], lost + longer[np.minimum(position, n_longer)]
    )
    return best


def cheapest_with_free(problem: BuyerProblem, wanted: BoolArray) -> Array:
    """Best surplus of the items with each of those wanted taken for nothing, if there is no budget.

    With p free, k sellers are p and the k - 1 cheapest others: the first k - 1 of the list, or if p is one of
    them, the first k at the price of all but p.
    """
    items, order, value, spent = _by_cost(problem)
    best = np.full(problem.n_agents, -np.inf)
    if value.size < 2:
        return best
    position = np.flatnonzero(wanted[items.seller[order]])
    shorter = np.maximum.accumulate(value[1:] - spent[: value.size - 1])
    longer = np.append(_suffix_maxima(value - spent[: value.size]), -np.inf)
    saved = items.cost[order[position]]
    best[items.seller[order[position]]] = np.maximum(
        shorter[np.minimum(position, shorter.size - 1)], saved + longer[np.minimum(position + 2, value.size)]
    )
    return best


def _by_cost(problem: BuyerProblem) -> tuple[Items, IntArray, Array, Array]:
    """Items, their order by cost, the value of k of them (up to the cap), and what the k cheapest cost."""
    items = problem.items
    if not items.of_one_size():
        _refuse(items, items.size, "sort", "size", "data_size * quality_weight")
    order = rounded_order(items.cost, items.tie / 4)
    most = int(min(items.cap, items.n_items))
    size = float(items.size[0]) if items.n_items else 0.0
    value = items.value(size * np.arange(most + 1))
    return items, order, value, np.concatenate(([0.0], np.cumsum(items.cost[order])))


# ------------------------------------------------------------ one cost, any non-decreasing function


def is_monotone(problem: BuyerProblem) -> bool:
    """Whether the utility is known not to fall as total size grows."""
    return isinstance(problem.utility, ConcaveFunction | ThresholdUtility | AdditiveUtility)


def largest(problem: BuyerProblem) -> BoolArray:
    """Best set if all costs are equal: some number of the largest sellers."""
    items, order, value, price = _by_size(problem)
    number = np.arange(value.size)
    surplus = value - (price + items.tie) * number
    surplus[price * number > items.budget] = -np.inf
    k = _first_best(surplus, items.tie)
    chosen: IntArray = order[:k]
    if 0 < k < items.n_items:
        # Where the utility is flat, smaller data do as well.
        total = float(items.size[chosen].sum())
        swapped = total - items.size[chosen[-1]] + items.size[order[k]]
        if float(items.value(swapped)) >= float(value[k]) - items.tie / 4:
            chosen = _first_in_order(items, k, float(value[k]) - items.tie / 4)
    return items.taken(chosen)


def largest_without(problem: BuyerProblem, taken: BoolArray) -> Array:
    """Best surplus of the items without each of those taken, if there is no budget."""
    return _largest_of_the_others(problem, taken, itself=False)


def largest_with_free(problem: BuyerProblem, wanted: BoolArray) -> Array:
    """Best surplus of the items with each of those wanted taken for nothing, if there is no budget."""
    return _largest_of_the_others(problem, wanted, itself=True)


def _largest_of_the_others(problem: BuyerProblem, wanted: BoolArray, *, itself: bool) -> Array:
    """Best surplus of the largest others, with the data of the seller itself for nothing or not at all."""
    items, order, value, price = _by_size(problem)
    best = np.full(problem.n_agents, -np.inf)
    position = np.flatnonzero(wanted[items.seller[order]])[:, np.newaxis]
    number = np.arange(min(value.size - itself, items.n_items))
    if not (position.size and number.size):
        return best
    before = np.concatenate(([0.0], np.cumsum(items.size[order])))
    own = items.size[order[position]]
    # The k largest others of p: the first k of the list, or if p is one of them, the first k + 1 but p.
    others = np.where(number > position, before[np.minimum(number + 1, items.n_items)] - own, before[number])
    surplus = items.value(np.maximum(others + itself * own, 0.0)) - price * number
    best[items.seller[order[position[:, 0]]]] = surplus.max(axis=1)
    return best


def _by_size(problem: BuyerProblem) -> tuple[Items, IntArray, Array, float]:
    """Items, their order by size, the value of the k largest (up to the cap), and what each costs."""
    if not is_monotone(problem):
        raise NotApplicable(
            "method 'size_sort' needs a utility that cannot fall as data grows: a ConcaveFunction or "
            f"ThresholdUtility, not {type(problem.utility).__name__}"
        )
    items = problem.items
    if not items.of_one_cost():
        _refuse(items, items.cost, "size_sort", "cost", "cost")
    order = rounded_order(-items.size, 1e-12 * (float(np.max(np.abs(items.size), initial=0.0)) or 1.0))
    most = int(min(items.cap, items.n_items))
    value = items.value(np.concatenate(([0.0], np.cumsum(items.size[order])))[: most + 1])
    return items, order, value, float(items.cost[0]) if items.n_items else 0.0


def _first_in_order(items: Items, k: int, least: float) -> IntArray:
    """First k items, lexicographically, that are worth at least ``least``."""
    chosen: list[int] = []
    total = 0.0
    for i in range(items.n_items):
        others = k - len(chosen) - 1
        if others < 0:
            break
        after = np.sort(items.size[i + 1 :])
        rest = float(after[after.size - others :].sum()) if others else 0.0
        if after.size >= others and float(items.value(total + items.size[i] + rest)) >= least:
            chosen.append(i)
            total += float(items.size[i])
    return np.array(chosen, dtype=np.intp)


# ------------------------------------------------------------ shared


def _first_best(surplus: Array, tie: float) -> int:
    """Smallest index of a value that is as good as the best."""
    return int(np.argmax(surplus >= surplus.max() - tie / 4))


def _suffix_maxima(values: Array) -> Array:
    maxima: Array = np.maximum.accumulate(values[::-1])[::-1]
    return maxima


def _refuse(items: Items, array: Array, method: str, what: str, name: str) -> None:
    index = int(np.argmax(np.abs(array - array[0])))
    raise InvalidInput(
        f"method {method!r} needs sellers of one {what}, but {name} is {array[0]:g} of seller "
        f"{items.seller[0]} and {array[index]:g} of seller {items.seller[index]}; ask for method='auto'"
    )
