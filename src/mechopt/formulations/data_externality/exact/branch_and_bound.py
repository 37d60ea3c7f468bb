"""Branch and bound over users: the most promising sets first, many nodes at a time."""

from __future__ import annotations

import heapq
import time
from itertools import count

import numpy as np

from mechopt.formulations.data_externality.exact.bounds import Bounds, Node, bound_nodes
from mechopt.formulations.data_externality.exact.enumeration import enumerate_sets
from mechopt.formulations.data_externality.exact.problem import Array, BoolArray, Incumbents, Purchase
from mechopt.formulations.data_externality.leakage import posterior_and_doubt

BATCH = 64
"""Nodes that are bounded at once, so that the time goes into linear algebra."""

SMALL = 8
"""Undecided users at which a node's sets are written down."""

FIRST_STEPS, STEPS = 60, 4
"""Tangent planes at the root, and at each node, which begins where its parent ended."""


def branch_and_bound(
    problem: Purchase, found: Incumbents, node_limit: int | None, time_limit: float | None
) -> tuple[int, float]:
    """Search for all sets of most profit.

    Parameters
    ----------
    problem : Purchase
    found : Incumbents
        Takes up what is found.
    node_limit, time_limit : optional
        Nodes, and seconds, after which to stop.

    Returns
    -------
    n_nodes : int
    bound : float
        The most that is left in nodes not looked into; -inf if there are none.
    """
    deadline = np.inf if time_limit is None else time.perf_counter() + time_limit
    most_nodes = np.inf if node_limit is None else node_limit
    climb(problem, found)
    allowed = problem.everybody
    root = Node(
        problem.required[None], allowed[None], (problem.required + 0.5 * (allowed & ~problem.required))[None]
    )
    order = count()
    heap: list[tuple[float, int, BoolArray, BoolArray, Array]] = []
    n_nodes, n_steps = 1, FIRST_STEPS
    batch = root
    while True:
        bounds = bound_nodes(problem, batch, _floor(found), n_steps)
        n_steps = STEPS
        _round(problem, found, bounds)
        _branch(problem, found, bounds, heap, order)
        while heap and -heap[0][0] < _floor(found):
            heapq.heappop(heap)
        if not heap:
            return n_nodes, -np.inf
        if n_nodes >= most_nodes or time.perf_counter() > deadline:
            return n_nodes, -heap[0][0]
        taken = [heapq.heappop(heap) for _ in range(min(BATCH, len(heap)))]
        n_nodes += len(taken)
        batch = Node(*(np.array([entry[place] for entry in taken]) for place in (2, 3, 4)))


def _floor(found: Incumbents) -> float:
    """Profit below which sets are of no interest: that of a tie, or of better ones if ties are too many."""
    return found.best - found.tie if found.complete else found.best + found.tie


def _branch(
    problem: Purchase,
    found: Incumbents,
    bounds: Bounds,
    heap: list[tuple[float, int, BoolArray, BoolArray, Array]],
    order: count[int],
) -> None:
    """Finish small nodes, and split the others at the user whose payment is most underrated."""
    for place in np.flatnonzero(bounds.upper >= _floor(found)):
        inside, allowed = bounds.inside[place], bounds.allowed[place]
        if not problem.may_permit(inside, allowed):
            continue
        if inside.sum() == problem.at_most:
            allowed = inside
        free = np.flatnonzero(allowed & ~inside)
        if free.size <= SMALL:
            enumerate_sets(problem, found, inside, free)
            continue
        weights = bounds.weights[place]
        # Where payments are right, the gain from fractions is left: the user nearest to a half.
        middle = weights[free] * (1 - weights[free])
        user = free[np.argmax(bounds.error[place, free] + problem.tie * middle)]
        for shares in (True, False):
            more, fewer = inside.copy(), allowed.copy()
            (more if shares else fewer)[user] = shares
            heapq.heappush(heap, (-float(bounds.upper[place]), next(order), more, fewer, weights))


def _round(problem: Purchase, found: Incumbents, bounds: Bounds) -> None:
    """Offer the sets nearest to the points where bounds were taken."""
    sets = bounds.inside | (bounds.allowed & (bounds.weights > 0.5))
    sets = sets[problem.permits(sets)]
    if len(sets):
        found.offer(problem.profit(sets), sets)


def climb(problem: Purchase, found: Incumbents) -> None:
    """Offer two sets that no single user, added or dropped, improves, from all who may and from who must."""
    for start in (problem.everybody, problem.required):
        sharing = start.copy()
        for user in problem.free[::-1]:
            if sharing.sum() > problem.at_most:
                sharing[user] = False
        profit = float(problem.profit(sharing)) if problem.permits(sharing[None])[0] else -np.inf
        while problem.free.size:
            sets, profits = _flips(problem, sharing)
            best = int(np.argmax(profits))
            if not profits[best] > profit + found.tie:
                break
            sharing, profit = sets[best], float(profits[best])
        if np.isfinite(profit):
            found.offer(problem.profit(sharing[None]), sharing[None])


def _flips(problem: Purchase, sharing: BoolArray) -> tuple[BoolArray, Array]:
    """Sets that differ by one free user, and their profits, by an update of rank one each."""
    free = problem.free
    sets = np.repeat(sharing[None], free.size, axis=0)
    sets[np.arange(free.size), free] ^= True
    posterior, doubt = posterior_and_doubt(problem.covariance, sharing)
    variance, rows = np.diag(posterior), np.arange(free.size)
    without = np.where(sharing[free], -1 / doubt[free], 1 / (1 + variance[free]))
    change = without[:, None] * posterior[free] ** 2
    variances, doubts = variance - change, np.where(sharing, doubt + change, doubt)
    variances[rows, free] = np.where(sharing[free], variance[free] / doubt[free], variance[free] * without)
    doubts[rows, free] = np.where(sharing[free], 1.0, without)
    # After a removal what is left of a doubt may be rounding; the climb is to be safe, not exact.
    profits = problem.profit_of(variances, np.maximum(doubts, np.finfo(float).tiny))
    return sets, np.where(problem.permits(sets), profits, -np.inf)
