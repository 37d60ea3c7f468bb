"""Buyers to whom each seller's data is worth the same whatever else they buy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import AdditiveUtility, PiecewiseLinearGain
from mechopt.formulations.sharing_market.buyers.items import Items, rounded_order
from mechopt.formulations.sharing_market.buyers.problem import BoolArray, BuyerProblem
from mechopt.solvers.errors import NotApplicable

Array = NDArray[np.float64]


def applies(problem: BuyerProblem) -> bool:
    """Whether the utility is a sum over sellers: additive, or linear in total size."""
    utility = problem.utility
    return isinstance(utility, AdditiveUtility) or (
        isinstance(utility, PiecewiseLinearGain) and not utility.has_kinks
    )


def choose(problem: BuyerProblem) -> BoolArray:
    """Best set: those who are worth more than they cost, or the ``cap`` of them who are so most."""
    if not applies(problem):
        raise NotApplicable(
            f"method 'additive' takes AdditiveUtility and LinearUtility, not {type(problem.utility).__name__}"
        )
    items = problem.items
    if np.isfinite(problem.budget):
        raise NotApplicable(
            "method 'additive' has no place for a budget; ask for method='auto'", reason="budget"
        )
    gain = _gains(items)
    chosen = np.flatnonzero(gain > items.tie)
    if chosen.size > items.cap:
        best_first = rounded_order(-gain[chosen], items.tie / 4)
        chosen = chosen[best_first[: int(items.cap)]]
    return items.taken(chosen)


def without_each(problem: BuyerProblem, taken: BoolArray) -> Array:
    """Best surplus of the items without each of those taken, if nothing limits them; shape (n_agents,)."""
    items, gain = problem.items, _gains(problem.items)
    best = np.full(problem.n_agents, float(items.value(0.0)) + gain[taken[items.seller]].sum())
    best[items.seller] -= np.where(taken[items.seller], gain, 0.0)
    return best


def with_free_each(problem: BuyerProblem, wanted: BoolArray) -> Array:
    """Best surplus of the items with each of those wanted for nothing, if nothing limits them."""
    items, gain = problem.items, _gains(problem.items)
    best = np.full(problem.n_agents, float(items.value(0.0)) + gain[gain > items.tie].sum())
    best[items.seller] += np.where(wanted[items.seller], np.maximum(gain + items.cost, 0.0), 0.0)
    return best


def _gains(items: Items) -> Array:
    """What each item is worth by itself, minus its cost (money)."""
    slope = float(items.utility(1.0) - items.utility(0.0))
    gain: Array = slope * items.size - items.cost
    return gain
