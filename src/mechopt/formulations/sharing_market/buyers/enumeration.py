"""All sets of sellers, one by one: any utility, few sellers."""

from __future__ import annotations

from functools import reduce

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import AdditiveUtility, TableUtility
from mechopt.formulations.sharing_market.buyers.problem import BoolArray, BuyerProblem
from mechopt.solvers.errors import InvalidInput

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

MOST_SELLERS = 20
"""Most sellers whose sets are enumerated."""


def choose(problem: BuyerProblem) -> BoolArray:
    """Best set of sellers, shape (n_agents,)."""
    sellers, surplus, number = _all_sets(problem)
    net = surplus - problem.tie * number
    # Of the sets that are as good, the fewest sellers; then the largest mask, as low indices have high bits.
    tied = np.flatnonzero(net >= net.max() - problem.tie / 4)
    tied = tied[number[tied] == number[tied].min()]
    taken = np.zeros(problem.n_agents, dtype=bool)
    taken[sellers] = _member(tied[-1], np.arange(sellers.size), sellers.size)
    return taken


def without_each(problem: BuyerProblem) -> Array:
    """Best surplus without each of the sellers that are available, shape (n_agents,)."""
    sellers, surplus, _ = _all_sets(problem)
    masks = np.arange(surplus.size)
    best = np.full(problem.n_agents, surplus.max())
    for position, seller in enumerate(sellers):
        best[seller] = surplus[~_member(masks, position, sellers.size)].max()
    return best


def with_free_each(problem: BuyerProblem) -> Array:
    """Best surplus with each of the sellers taken for nothing, if there is no budget; shape (n_agents,)."""
    sellers, surplus, _ = _all_sets(problem)
    masks = np.arange(surplus.size)
    best = np.full(problem.n_agents, -np.inf)
    for position, seller in enumerate(sellers):
        with_it = surplus[_member(masks, position, sellers.size)]
        best[seller] = with_it.max() + problem.cost[seller]
    return best


def _all_sets(problem: BuyerProblem) -> tuple[IntArray, Array, IntArray]:
    """Sellers, surplus of each set of them (minus infinity beyond the limits), and how many it has."""
    sellers = np.flatnonzero(problem.available)
    if sellers.size > MOST_SELLERS:
        raise InvalidInput(
            f"enumeration of {sellers.size} sellers would be 2^{sellers.size} sets; it is for at most "
            f"{MOST_SELLERS}: ask for method='auto', or solve the joint program, market.program().solve()"
        )
    cost = _sums(problem.cost[sellers])
    number = _sums(np.ones(sellers.size)).astype(np.intp)
    surplus = _utilities(problem, sellers) - cost
    surplus[(number > problem.cap) | (cost > problem.budget + sellers.size * problem.tie)] = -np.inf
    return sellers, surplus, number


def _utilities(problem: BuyerProblem, sellers: IntArray) -> Array:
    utility = problem.utility
    if isinstance(utility, TableUtility):
        problem.value_of_sets(np.zeros(problem.n_agents, dtype=bool))  # refuses quality weights
        sets = reduce(
            lambda sets, seller: sets + [members | {seller} for members in sets],
            sellers[::-1].tolist(),
            [frozenset[int]()],
        )
        return np.array([utility.values[members] for members in sets])
    if isinstance(utility, AdditiveUtility):
        return _sums((np.array(utility.values) * problem.quality_weight)[sellers])
    return np.array(utility(problem.own_size + _sums(problem.effective_size[sellers])))


def _sums(terms: Array) -> Array:
    """Sum of each subset; the first term belongs to the highest bit of its index."""
    sums = np.zeros(1)
    for term in terms[::-1]:
        sums = np.concatenate((sums, sums + term))
    return sums


def _member(mask: IntArray, position: int | IntArray, n_sellers: int) -> BoolArray:
    member: BoolArray = ((mask >> (n_sellers - 1 - position)) & 1).astype(bool)
    return member
