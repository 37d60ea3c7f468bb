"""Which algorithm serves which buyer, and what a buyer has without a seller or with its data for nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import TableUtility
from mechopt.formulations.sharing_market.buyers import (
    additive,
    branch_and_bound,
    enumeration,
    knapsack,
    sorting,
)
from mechopt.formulations.sharing_market.buyers.problem import BoolArray, BuyerProblem, Purchase
from mechopt.solvers.errors import InvalidInput, NotApplicable

Array = NDArray[np.float64]

_Each = Callable[[BuyerProblem, BoolArray], Array]

METHODS = ("additive", "sort", "size_sort", "knapsack", "branch_and_bound", "enumeration")
"""Names of the algorithms."""

# Entries of a table, and nodes, that take a few milliseconds.
_QUICK_STEPS = 10**6
_QUICK_NODES = 20_000

_CHOOSE: dict[str, Callable[[BuyerProblem], BoolArray]] = {
    "additive": additive.choose,
    "sort": sorting.cheapest,
    "size_sort": sorting.largest,
    "knapsack": knapsack.choose,
    "enumeration": enumeration.choose,
}
_WITHOUT: dict[str, _Each] = {
    "additive": additive.without_each,
    "sort": sorting.cheapest_without,
    "size_sort": sorting.largest_without,
    "knapsack": knapsack.without_each,
}
_WITH_FREE: dict[str, _Each] = {
    "additive": additive.with_free_each,
    "sort": sorting.cheapest_with_free,
    "size_sort": sorting.largest_with_free,
    "knapsack": knapsack.with_free_each,
}


def best_purchase(problem: BuyerProblem, method: str = "auto") -> Purchase:
    r"""Find the set of sellers that leaves a buyer most, :math:`\max_S U(S) - \sum_{i \in S} c_i`.

    Parameters
    ----------
    problem : BuyerProblem
    method : str
        ``"auto"``, the first of these that applies:

        - ``"additive"``: utilities that are a sum over sellers, without a budget;
        - ``"sort"``: sellers of one size (times quality), any function of total size;
        - ``"size_sort"``: sellers of one cost, any function that cannot fall;
        - ``"knapsack"``: sizes that are whole numbers (times a quality common to all, or multiples of 0.01),
          any function; its table of sellers by totals (by numbers of sellers, under a cap) has at most 1e8
          entries;
        - ``"branch_and_bound"``: any sizes, concave functions, and thresholds without limits; also
          whole sizes whose table has more than 1e6 entries;
        - ``"enumeration"``: at most 20 sellers, any utility; the only one for tables.

    Returns
    -------
    Purchase
        Its money is computed from the set of sellers alone.

    Raises
    ------
    InvalidInput
        If there is no such method, or the one asked for does not suit the data, such as whole sizes that are
        none.
    NotApplicable
        If the one asked for does not suit the utility or the limits, or none does.

    Notes
    -----
    All methods are exact, and all but ``"additive"`` take the cap and the budget. Of sets that are equally
    good, all return the one of the fewest sellers, and of these the lexicographically first. A further seller
    must bring more than 1e-12 of the money at stake (largest utility in absolute value, plus largest negative
    cost), and surpluses within a quarter of that are equal. Where data cost the same per record, sets nearly
    as good are very many: after 5000 nodes, branch and bound no longer looks for those of fewer sellers or
    earlier in order, and its surplus is best up to 1e-12 of that money for each seller.

    Examples
    --------
    >>> from mechopt.formulations.functions import LogUtility
    >>> problem = BuyerProblem(
    ...     LogUtility(10.0, 4.0), 2.0, np.array([2.0, 3, 4]), np.ones(3), np.array([0.0, 2, 3]),
    ...     np.array([False, True, True]),
    ... )
    >>> best = best_purchase(problem)
    >>> best.taken.tolist(), round(best.surplus, 6), best.method
    ([False, True, True], 6.78655, 'knapsack')
    """
    if method not in ("auto", *METHODS):
        raise InvalidInput(f"no method {method!r}; there is 'auto', {', '.join(map(repr, METHODS))}")
    if method == "auto":
        method = _suited(problem)
        if method == "branch_and_bound":
            return _branch_first(problem)
    if method == "branch_and_bound":
        taken, n_nodes = branch_and_bound.choose(problem)
        return problem.purchase(taken, method, n_nodes)
    return problem.purchase(_CHOOSE[method](problem), method)


def _suited(problem: BuyerProblem) -> str:
    """Name of the first method that applies."""
    if isinstance(problem.utility, TableUtility):
        return "enumeration"
    if additive.applies(problem) and np.isinf(problem.budget):
        return "additive"
    items = problem.items
    if items.of_one_size():
        return "sort"
    if items.of_one_cost() and sorting.is_monotone(problem):
        return "size_sort"
    n_steps, branching = _table_steps(problem), branch_and_bound.applies(problem)
    if n_steps <= (_QUICK_STEPS if branching else knapsack.MOST_STEPS):
        return "knapsack"
    if branching:
        return "branch_and_bound"
    if problem.available.sum() <= enumeration.MOST_SELLERS:
        return "enumeration"
    raise NotApplicable(
        f"no exact algorithm takes {type(problem.utility).__name__} of {items.n_items} sellers of different "
        "sizes that are no whole numbers; solve the joint program, market.program().solve(), or choose among "
        f"at most {enumeration.MOST_SELLERS} sellers",
        reason="sizes and utility of a buyer",
    )


def _branch_first(problem: BuyerProblem) -> Purchase:
    """Branch and bound, which is nearly always the fastest; if it is not, whatever has an end in sight."""
    try:
        taken, n_nodes = branch_and_bound.choose(problem, _QUICK_NODES)
    except NotApplicable:
        if _table_steps(problem) <= knapsack.MOST_STEPS:
            return best_purchase(problem, "knapsack")
        if problem.available.sum() <= enumeration.MOST_SELLERS:
            return best_purchase(problem, "enumeration")
        return best_purchase(problem, "branch_and_bound")
    return problem.purchase(taken, "branch_and_bound", n_nodes)


def _table_steps(problem: BuyerProblem) -> float:
    """Entries of the knapsack's table, infinite if there is none."""
    table = knapsack.table_of(problem)
    return np.inf if table is None else table.n_steps


def surplus_without_each(problem: BuyerProblem, purchase: Purchase) -> Array:
    """Best surplus of a buyer without each seller.

    Parameters
    ----------
    problem : BuyerProblem
    purchase : Purchase
        Its best, from `best_purchase`.

    Returns
    -------
    array, shape (n_agents,)
        Money; ``purchase.surplus`` of those who are not taken.

    Notes
    -----
    Sorted lists give all at once, and tables in the time of about log2(n) solutions. Branch and bound solves
    again for each seller taken, and so does every method where a budget binds.
    """
    taken, surplus = purchase.taken, purchase.surplus
    best = np.full(problem.n_agents, surplus)
    if not taken.any():
        return best
    if purchase.method == "enumeration":
        found = enumeration.without_each(problem)
    elif purchase.method in _WITHOUT and _is_open(problem, purchase.method):
        found = _WITHOUT[purchase.method](problem, taken) + problem.items.gain_of_gifts
        gifts = taken & problem.items.gifts
        found[gifts] = _again(problem, gifts, problem.without)[gifts]
    else:
        found = _again(problem, taken, problem.without)
    # With fewer to choose from nobody is better off: what rounding says beyond is not kept.
    best[taken] = np.minimum(found[taken], surplus)
    return best


def surplus_with_free_each(problem: BuyerProblem, purchase: Purchase) -> Array:
    """Best surplus of a buyer if each seller's data cost nothing, one at a time.

    Parameters
    ----------
    problem : BuyerProblem
    purchase : Purchase
        Its best, from `best_purchase`.

    Returns
    -------
    array, shape (n_agents,)
        Money; ``purchase.surplus`` of those who are not available.

    Notes
    -----
    Without a budget, sets with seller i are better by its cost, and the others are as good as before. So the
    best is, of a seller who is taken, ``purchase.surplus`` plus its cost (or the best without it, where its
    cost is negative and this is more); of one who is not, ``purchase.surplus`` or the best with it for
    nothing.
    """
    taken, surplus, cost = purchase.taken, purchase.surplus, problem.cost
    if np.isfinite(problem.budget):
        # What is not spent on one may be spent on others.
        return np.where(problem.available, _again(problem, problem.available, problem.with_free), surplus)
    best = np.full(problem.n_agents, surplus)
    best[taken] += cost[taken]
    if np.any(taken & (cost < 0)):
        best[taken] = np.maximum(best[taken], surplus_without_each(problem, purchase)[taken])
    others = problem.available & ~taken & (cost > 0)
    if not others.any():
        return best
    if purchase.method == "enumeration":
        found = enumeration.with_free_each(problem)
    elif purchase.method in _WITH_FREE and _is_open(problem, purchase.method):
        found = _WITH_FREE[purchase.method](problem, others) + problem.items.gain_of_gifts
    else:
        found = _again(problem, others, problem.with_free)
    best[others] = np.maximum(found[others], surplus)
    return best


def _is_open(problem: BuyerProblem, method: str) -> bool:
    """Whether no limit keeps the method from answering for all sellers at once."""
    return np.isinf(problem.budget) and not (method == "additive" and problem.is_limited)


def _again(problem: BuyerProblem, sellers: BoolArray, changed: Callable[[int], BuyerProblem]) -> Array:
    """Best surplus of the problem changed for each of these sellers, minus infinity for the others."""
    found = np.full(problem.n_agents, -np.inf)
    for seller in np.flatnonzero(sellers):
        found[seller] = best_purchase(changed(int(seller))).surplus
    return found
