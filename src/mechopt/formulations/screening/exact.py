r"""The optimal menu by a specialised algorithm: exact, and fast for a million types.

With the payments eliminated (they are the cheapest that keep every type truthful), the contract problem is

.. math:: \max_q \sum_k p_k f(\delta_k q_k) - B_k q_k \quad \text{s.t.} \quad q_1 \ge \dots \ge q_K \ge 0,
   \qquad B_k = c (p_k \delta_k + P_{k-1} (\delta_k - \delta_{k-1}))

a separable concave isotonic regression. Each type's own optimum comes from the inverse derivative of f. If
these optima fall with the type, they are the answer, in one pass.

Otherwise neighbouring types must share a contract ("ironing"), and the pools are found by divide and conquer.
Let :math:`D_k(q) = p_k \delta_k f'(\delta_k q) - B_k` be the net marginal gain of type k. The types that want
more than a threshold t are the prefix with the largest sum of D(t); split there, and go on with both parts
and with a threshold in the middle of the range that is left to each. All parts of one depth are treated
together, and nothing is asked of f but its derivative, so kinks are welcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.functions import ConcaveFunction
from mechopt.formulations.screening.menus import rents
from mechopt.solvers.errors import Unbounded

__all__ = ["ExactMenu", "allocate", "solve_exact", "virtual_costs"]

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

_EPS = float(np.finfo(np.float64).eps)
# Quantities as close as this (relatively) are one pool: rounding may split a pool in the last digits.
_SAME_CONTRACT = 1e-12
# Quantities below this share of the largest are not told apart; it only keeps the search finite.
_NEGLIGIBLE = 1e-100


@dataclass(frozen=True, eq=False)
class ExactMenu:
    """The optimal menu.

    Attributes
    ----------
    quantity : ndarray, shape (n_types,)
        Data of each contract (records), non-increasing, >= 0.
    payment : ndarray, shape (n_types,)
        Payment of each contract (utility).
    rent : ndarray, shape (n_types,)
        Utility that each type keeps, >= 0; 0 for the last type.
    objective : float
        Expected utility of the demander per holder.
    pools : ndarray of int, shape (n_pools, 2)
        Start and stop (exclusive) of the runs of types that ironing gave one common contract, null excluded.
    n_excluded : int
        Number of types, the last ones, that get the null contract.
    regular : bool
        Whether every type has its own unconstrained optimum, so that nothing had to be ironed.
    """

    quantity: FloatArray
    payment: FloatArray
    rent: FloatArray
    objective: float
    pools: IndexArray
    n_excluded: int
    regular: bool


def solve_exact(types: ArrayLike, probs: ArrayLike, gain: ConcaveFunction, unit_cost: float) -> ExactMenu:
    """Compute the optimal menu of the screening contract.

    The arguments are taken as valid; the mechanism checks them.

    Parameters
    ----------
    types : array_like, shape (n_types,)
        Privacy levels δ (nats), strictly increasing, > 0.
    probs : array_like, shape (n_types,)
        Probability of each type, > 0, sum 1.
    gain : ConcaveFunction
        Gain f of privacy-weighted data x = δ q.
    unit_cost : float
        Cost c (utility per nat and record), > 0.

    Returns
    -------
    ExactMenu
        Quantities, payments, rents, value, and which types are pooled or excluded.

    Raises
    ------
    Unbounded
        If the gain grows without end at least as fast as the cost.

    References
    ----------
    Contract paper, eqs. (40)-(42), with the pooling that the paper leaves out.

    Examples
    --------
    >>> from mechopt.formulations.functions import LogGain
    >>> menu = solve_exact([1.0, 1.8, 1.9], [1 / 3, 1 / 3, 1 / 3], LogGain(weight=50, scale=2), unit_cost=1.0)
    >>> menu.quantity.round(5).tolist(), menu.pools.tolist(), round(menu.objective, 6)
    ([49.5, 21.00613, 21.00613], [[1, 3]], 172.862405)
    """
    types, probs = np.asarray(types, dtype=np.float64), np.asarray(probs, dtype=np.float64)
    quantity, pools, regular = allocate(types, probs, gain, virtual_costs(types, probs, unit_cost))
    amount = types * quantity
    rent = rents(types, quantity, unit_cost)
    payment = unit_cost * amount
    payment += rent
    # Not a dot product: its threads stall on a busy machine, and the pairwise sum is the more accurate.
    profit = gain(amount) - payment
    profit *= probs
    objective = float(profit.sum())
    n_excluded = int(types.size - np.count_nonzero(quantity))
    return ExactMenu(quantity, payment, rent, objective, pools, n_excluded, regular)


def virtual_costs(types: ArrayLike, probs: ArrayLike, unit_cost: float) -> FloatArray:
    r"""Cost of one more record from type k to the demander, rents of the cheaper types included.

    .. math:: B_k = c (p_k \delta_k + P_{k-1} (\delta_k - \delta_{k-1}))

    Parameters
    ----------
    types, probs : array_like, shape (n_types,)
        Privacy levels (nats) and their probabilities.
    unit_cost : float
        Cost c (utility per nat and record).

    Returns
    -------
    ndarray, shape (n_types,)
        Expected cost (utility per record).

    Examples
    --------
    >>> virtual_costs([1.0, 2.0], [0.5, 0.5], unit_cost=1.0).tolist()
    [0.5, 1.5]
    """
    types, probs = np.asarray(types, dtype=np.float64), np.asarray(probs, dtype=np.float64)
    cost = np.zeros_like(types)
    np.cumsum(probs[:-1], out=cost[1:])
    cost[1:] *= types[1:] - types[:-1]
    cost += types * probs
    cost *= unit_cost
    return cost


def allocate(
    types: FloatArray, probs: FloatArray, gain: ConcaveFunction, cost: FloatArray
) -> tuple[FloatArray, IndexArray, bool]:
    r"""Maximise expected gain minus cost over non-increasing, non-negative quantities.

    .. math:: \max_q \sum_k p_k f(\delta_k q_k) - B_k q_k \quad \text{s.t.} \quad q_1 \ge \dots \ge q_K \ge 0

    A constraint that enters with a price only changes the costs B, so the same algorithm serves extended
    contracts (a budget with multiplier λ multiplies B by 1 + λ).

    Parameters
    ----------
    types, probs : ndarray, shape (n_types,)
        Privacy levels (nats) and their probabilities.
    gain : ConcaveFunction
        Gain f of x = δ q.
    cost : ndarray, shape (n_types,)
        Expected cost B of one more record (utility per record).

    Returns
    -------
    quantity : ndarray, shape (n_types,)
        Optimal data (records). If the optimum is not unique (kinks), each pool has its smallest.
    pools : ndarray of int, shape (n_pools, 2)
        Start and stop of the runs of types that share a quantity > 0 because of ironing.
    regular : bool
        Whether the types' own optima were already non-increasing.

    Raises
    ------
    Unbounded
        If some type alone would want unlimited data.

    Examples
    --------
    >>> from mechopt.formulations.functions import LogGain
    >>> types, probs = np.array([1.0, 2.0]), np.array([0.5, 0.5])
    >>> cost = virtual_costs(types, probs, unit_cost=1.0)
    >>> quantity, pools, regular = allocate(types, probs, LogGain(weight=12, scale=1), cost)
    >>> quantity.tolist(), pools.tolist(), regular
    ([11.0, 3.5], [], True)
    """
    mass = types * probs
    target = np.asarray(gain.inverse_derivative(cost / mass))
    target /= types
    if not np.isfinite(target.max()):
        k = int(np.argmax(~np.isfinite(target)))
        raise Unbounded(
            f"the gain of type {k} (types[{k}] = {types[k]}) grows without end at least as fast as its cost: "
            "lower the slope of the gain at infinity, or raise unit_cost"
        )
    if bool(np.all(target[1:] <= target[:-1])):
        return target, np.empty((0, 2), dtype=np.intp), True
    tangled = _tangled(target)
    items = _Items(types[tangled], mass[tangled], cost[tangled], target[tangled], gain)
    target[tangled] = _iron(items)
    quantity, pools = _pools(target)
    return quantity, pools, False


def _tangled(target: FloatArray) -> IndexArray:
    """Find the types whose quantity may differ from their own optimum.

    Where everything before has an optimum at least as large as everything after, the problem falls apart into
    two; a type alone between two such places keeps its optimum.
    """
    cut = np.ones(target.size + 1, dtype=np.bool_)
    cut[1:-1] = np.minimum.accumulate(target)[:-1] >= np.maximum.accumulate(target[::-1])[::-1][1:]
    return np.flatnonzero(~(cut[:-1] & cut[1:]))


def _pools(quantity: FloatArray) -> tuple[FloatArray, IndexArray]:
    """Exactly non-increasing quantities, and start and stop of the runs that share one that is > 0."""
    edges = np.flatnonzero(quantity[:-1] - quantity[1:] > _SAME_CONTRACT * quantity[:-1]) + 1
    start, stop = np.append(0, edges), np.append(edges, quantity.size)
    shared = (stop - start > 1) & (quantity[start] > 0)
    return np.repeat(quantity[start], stop - start), np.stack((start[shared], stop[shared]), axis=1)


class _Items(NamedTuple):
    """Types to be ironed; all arrays of shape (n_items,)."""

    types: FloatArray
    mass: FloatArray  # p_k δ_k
    cost: FloatArray  # B_k
    target: FloatArray  # own optimum, >= 0
    gain: ConcaveFunction

    def take(self, keep: NDArray[np.bool_]) -> _Items:
        return _Items(self.types[keep], self.mass[keep], self.cost[keep], self.target[keep], self.gain)

    def net(self, quantity: FloatArray) -> FloatArray:
        """Net marginal gain D_k at the given quantities."""
        net = self.gain.derivative(self.types * quantity)
        net *= self.mass
        net -= self.cost
        return net


def _iron(items: _Items) -> FloatArray:
    """Quantities by divide and conquer on segments, all segments of one depth together.

    Each segment has an interval that holds its quantities. Its types that want more than a threshold are a
    prefix; this and the rest become two segments with smaller intervals, until an interval is a point.
    """
    quantity = np.empty_like(items.target)
    where = np.arange(items.target.size)
    length = np.array([items.target.size])
    low, high = np.zeros(1), np.array([np.inf])
    negligible = _NEGLIGIBLE * items.target.max()
    # Halving an interval never reaches 0: the types that want nothing at all are split off first.
    at_zero = bool(np.isfinite(items.gain.derivative(0.0)) and items.target.min() == 0)
    while True:
        # The quantities of a segment lie between the smallest and the largest of its own optima.
        start = np.cumsum(length) - length
        low = np.maximum(low, np.minimum.reduceat(items.target, start))
        high = np.minimum(high, np.maximum.reduceat(items.target, start))
        unsettled = high - low > 2 * _EPS * high + negligible
        if not unsettled.all():
            keep = np.repeat(unsettled, length)
            quantity[where[~keep]] = np.repeat(high[~unsettled], length[~unsettled])
            items, where = items.take(keep), where[keep]
            length, low, high = length[unsettled], low[unsettled], high[unsettled]
        if not length.size:
            return quantity
        threshold = low if at_zero else low + (high - low) / 2
        at_zero = False
        more = _best_prefix(items.net(np.repeat(threshold, length)), length)
        low = np.stack((threshold, low), axis=1).ravel()
        high = np.stack((high, threshold), axis=1).ravel()
        length = np.stack((more, length - more), axis=1).ravel()
        low, high, length = low[length > 0], high[length > 0], length[length > 0]


def _best_prefix(net: FloatArray, length: IndexArray) -> IndexArray:
    """Length of the prefix of each segment with the largest sum; of several, the shortest."""
    start = np.cumsum(length) - length
    running = np.cumsum(net)
    running -= np.repeat(running[start] - net[start], length)
    best = np.maximum.reduceat(running, start)
    hits = np.flatnonzero(running == np.repeat(best, length))
    return np.where(best > 0, hits[np.searchsorted(hits, start)] - start + 1, 0)
