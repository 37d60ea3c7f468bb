r"""The optimal menu by a specialised algorithm: exact, and fast for a million types.

With the payments eliminated (they are the cheapest that keep every type truthful), the contract problem is

.. math:: \max_q \sum_k p_k f(\delta_k q_k) - B_k q_k \quad \text{s.t.} \quad q_1 \ge \dots \ge q_K \ge 0,
   \qquad B_k = c (p_k \delta_k + P_{k-1} (\delta_k - \delta_{k-1}))

a separable concave isotonic regression. Each type's own optimum comes from the inverse derivative of f. If
these optima fall with the type, they are the answer, in one pass.

Otherwise neighbouring types must share a contract ("ironing"), and the pools are found by divide and conquer.
Let :math:`D_k(q) = p_k \delta_k f'(\delta_k q) - B_k` be the net marginal gain of type k. The types that want
more than a threshold t are the prefix with the largest sum of D(t); split there, and go on with both parts
and with a threshold within the range that is left to each. All parts of one depth are treated
together, and nothing is asked of f but its derivative, so kinks are welcome.

With convex costs :math:`c \delta h(q)` all payments and incentives are linear in y = h(q), and the cost above
becomes :math:`B_k y_k`. Monotone y are monotone q, and the net marginal gain of y is
:math:`p_k \delta_k f'(\delta_k q) - B_k h'(q)` at q = h⁻¹(y), but for a factor > 0 that all types with a
common q share. So the search stays in q, with this for D.

Many contracts at once (leading axes of the arguments) are treated the same way: their parts go through the
search side by side, and only the running sums are kept apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.functions import ConcaveFunction, ConvexCost
from mechopt.formulations.functions.roots import break_even
from mechopt.formulations.functions.stacked import spread, take
from mechopt.formulations.menus import rents
from mechopt.solvers.errors import InvalidInput, Unbounded

__all__ = ["ExactMenu", "allocate", "find_pools", "menu_of", "solve_exact", "virtual_costs"]

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

_EPS = float(np.finfo(np.float64).eps)
# Quantities as close as this (relatively) are one pool: rounding may split a pool in the last digits.
_SAME_CONTRACT = 1e-12
# Quantities below this share of the largest are not told apart; it only keeps the search finite.
_NEGLIGIBLE = 1e-100
# Quantities are looked for up to here (records); beyond, the problem counts as unbounded.
_ENDLESS = 1e200
# Every so many steps an interval is halved, which bounds the number of steps.
_HALVING = 4
# Types treated together: a few arrays of this length fit in a processor's cache.
_CHUNK = 2**17


@dataclass(frozen=True, eq=False)
class ExactMenu:
    """The optimal menu, or one for each contract of a batch; ``...`` are the axes of the batch.

    Attributes
    ----------
    quantity : ndarray, shape (..., n_types)
        Data of each contract (records), non-increasing, >= 0.
    payment : ndarray, shape (..., n_types)
        Payment of each contract (utility).
    rent : ndarray, shape (..., n_types)
        Utility that each type keeps, >= 0; 0 for the last type.
    objective : float, or ndarray of shape (...)
        Expected utility of the demander per holder.
    pools : ndarray of int, shape (n_pools, 2), or (n_pools, number of batch axes + 2)
        Start and stop (exclusive) of the runs of types that ironing gave one common contract, null excluded.
        In a batch these two come last, after the indices of the contract.
    n_excluded : int, or ndarray of shape (...)
        Number of types, the last ones, that get the null contract.
    regular : bool, or ndarray of shape (...)
        Whether every type has its own unconstrained optimum, so that nothing had to be ironed.
    """

    quantity: FloatArray
    payment: FloatArray
    rent: FloatArray
    objective: float | FloatArray
    pools: IndexArray
    n_excluded: int | IndexArray
    regular: bool | BoolArray


def solve_exact(
    types: ArrayLike,
    probs: ArrayLike,
    gain: ConcaveFunction,
    unit_cost: ArrayLike,
    *,
    cost_curve: ConvexCost | None = None,
) -> ExactMenu:
    """Compute the optimal menu of the screening contract, or of a whole batch of contracts.

    The values of the arguments are taken as valid; the mechanism checks them.

    Parameters
    ----------
    types : array_like, shape (..., n_types)
        Privacy levels δ (nats), strictly increasing, > 0.
    probs : array_like, shape (..., n_types)
        Probability of each type, > 0, sum 1.
    gain : ConcaveFunction
        Gain f of privacy-weighted data x = δ q; for a batch with one axis, also a `stack` of gains.
    unit_cost : float or array_like, shape (...)
        Cost c (utility per nat and record), > 0.
    cost_curve : ConvexCost, optional
        Curve h of the cost c δ h(q) of q records; or a stack. Default: h(q) = q.

    Returns
    -------
    ExactMenu
        Quantities, payments, rents, value, and which types are pooled or excluded; for a batch, with the
        leading axes to which those of the arguments broadcast.

    Raises
    ------
    InvalidInput
        If the shapes do not fit, or there is nothing to solve.
    Unbounded
        If the gain grows without end at least as fast as the cost.

    Notes
    -----
    Batches are cut into chunks of about 130 000 types, so that the temporaries stay below 100 MB (unless a
    single contract is longer); what remains is the result.

    References
    ----------
    Contract paper, eqs. (40)-(42), with the pooling that the paper leaves out.

    Examples
    --------
    >>> from mechopt.formulations.functions import LogGain
    >>> menu = solve_exact([1.0, 1.8, 1.9], [1 / 3, 1 / 3, 1 / 3], LogGain(weight=50, scale=2), unit_cost=1.0)
    >>> menu.quantity.round(5).tolist(), menu.pools.tolist(), round(menu.objective, 6)
    ([49.5, 21.00613, 21.00613], [[1, 3]], 172.862405)

    The same types with two unit costs:

    >>> menu = solve_exact([1.0, 1.8, 1.9], [1 / 3, 1 / 3, 1 / 3], LogGain(weight=50, scale=2), [1.0, 2.0])
    >>> menu.quantity.round(3).tolist()
    [[49.5, 21.006, 21.006], [24.5, 10.368, 10.368]]
    >>> menu.pools.tolist()
    [[0, 1, 3], [1, 1, 3]]
    """
    types, probs = np.asarray(types, dtype=np.float64), np.asarray(probs, dtype=np.float64)
    unit_cost = np.asarray(unit_cost, dtype=np.float64)
    shape = _batch_shape(types, probs, unit_cost)
    if not shape:
        cost = virtual_costs(types, probs, unit_cost)
        allocation = allocate(types, probs, gain, cost, cost_curve=cost_curve)
        return menu_of(types, probs, gain, unit_cost, *allocation, cost_curve=cost_curve)
    # What is common to all contracts is not copied.
    n_types = types.shape[-1]
    if types.ndim > 1:
        types = np.broadcast_to(types, (*shape, n_types)).reshape(-1, n_types)
    if probs.ndim > 1:
        probs = np.broadcast_to(probs, (*shape, n_types)).reshape(-1, n_types)
    unit_cost = np.broadcast_to(unit_cost, shape).ravel()
    parts, pools = [], []
    step = max(1, _CHUNK // n_types)
    for start in range(0, unit_cost.size, step):
        chunk = slice(start, start + step)
        some_types = types if types.ndim == 1 else types[chunk]
        some_probs = probs if probs.ndim == 1 else probs[chunk]
        some_gain, some_curve = take(gain, chunk), take(cost_curve, chunk)
        cost = virtual_costs(some_types, some_probs, unit_cost[chunk])
        allocation = allocate(some_types, some_probs, some_gain, cost, cost_curve=some_curve)
        menu = (some_types, some_probs, some_gain, unit_cost[chunk], *allocation)
        part = menu_of(*menu, cost_curve=some_curve)
        parts.append(part)
        pools.append(part.pools + np.array([start, 0, 0]))
    return ExactMenu(
        quantity=np.concatenate([part.quantity for part in parts]).reshape(*shape, n_types),
        payment=np.concatenate([part.payment for part in parts]).reshape(*shape, n_types),
        rent=np.concatenate([part.rent for part in parts]).reshape(*shape, n_types),
        objective=np.concatenate([np.asarray(part.objective) for part in parts]).reshape(shape),
        pools=_with_indices(np.concatenate(pools), shape),
        n_excluded=np.concatenate([np.asarray(part.n_excluded) for part in parts]).reshape(shape),
        regular=np.concatenate([np.asarray(part.regular) for part in parts]).reshape(shape),
    )


def _batch_shape(types: FloatArray, probs: FloatArray, unit_cost: FloatArray) -> tuple[int, ...]:
    """Axes of the batch, () for a single contract; refuses what does not fit together or is empty."""
    if types.ndim == 0 or probs.ndim == 0:
        raise InvalidInput(
            f"types and probs need an axis of types, their last one; got shapes {types.shape}, {probs.shape}"
        )
    if types.shape[-1] != probs.shape[-1]:
        raise InvalidInput(
            f"probs has {probs.shape[-1]} entries a contract for {types.shape[-1]} types; give one for each"
        )
    try:
        shape = np.broadcast_shapes(types.shape[:-1], probs.shape[:-1], unit_cost.shape)
    except ValueError:
        raise InvalidInput(
            f"the leading axes of types {types.shape} and probs {probs.shape} (all but the last) and the "
            f"axes of unit_cost {unit_cost.shape} must broadcast against each other"
        ) from None
    if types.shape[-1] == 0:
        raise InvalidInput(f"types is empty (shape {types.shape}); give at least one privacy level")
    if 0 in shape:
        raise InvalidInput(f"the batch is empty (shape {shape}); give at least one contract")
    return shape


def _with_indices(pools: IndexArray, shape: tuple[int, ...]) -> IndexArray:
    """Pools (contract, start, stop) with the contract's index on each axis of the batch."""
    return np.stack((*np.unravel_index(pools[:, 0], shape), pools[:, 1], pools[:, 2]), axis=1)


def menu_of(
    types: FloatArray,
    probs: FloatArray,
    gain: ConcaveFunction,
    unit_cost: ArrayLike,
    quantity: FloatArray,
    pools: IndexArray,
    regular: bool | BoolArray,
    *,
    cost_curve: ConvexCost | None = None,
) -> ExactMenu:
    """Complete an allocation by the least payments that keep it truthful, and evaluate it.

    Parameters
    ----------
    types, probs : ndarray, shape (..., n_types)
        Privacy levels (nats) and their probabilities.
    gain : ConcaveFunction
        Gain f of x = δ q.
    unit_cost : float or array_like, shape (...)
        Cost c (utility per nat and record).
    quantity, pools, regular
        As `allocate` returns them.
    cost_curve : ConvexCost, optional
        Curve h of the cost c δ h(q). Default: h(q) = q.

    Returns
    -------
    ExactMenu
        The menu with payments, rents and value.
    """
    amount = types * quantity
    if cost_curve is None:
        burden, borne = quantity, amount
    else:
        burden = cost_curve(quantity)
        borne = types * burden
    rent = rents(types, burden, unit_cost)
    payment = np.asarray(unit_cost)[..., np.newaxis] * borne
    payment += rent
    # Not a dot product: its threads stall on a busy machine, and the pairwise sum is the more accurate.
    profit = gain(amount) - payment
    profit *= probs
    objective = profit.sum(axis=-1)
    n_excluded = quantity.shape[-1] - np.count_nonzero(quantity, axis=-1)
    if quantity.ndim == 1:
        return ExactMenu(quantity, payment, rent, float(objective), pools, int(n_excluded), regular)
    return ExactMenu(quantity, payment, rent, objective, pools, n_excluded, regular)


def virtual_costs(types: ArrayLike, probs: ArrayLike, unit_cost: ArrayLike) -> FloatArray:
    r"""Cost of one more record from type k to the demander, rents of the cheaper types included.

    .. math:: B_k = c (p_k \delta_k + P_{k-1} (\delta_k - \delta_{k-1}))

    Parameters
    ----------
    types, probs : array_like, shape (..., n_types)
        Privacy levels (nats) and their probabilities.
    unit_cost : float or array_like, shape (...)
        Cost c (utility per nat and record).

    Returns
    -------
    ndarray, shape (..., n_types)
        Expected cost (utility per record).

    Examples
    --------
    >>> virtual_costs([1.0, 2.0], [0.5, 0.5], unit_cost=1.0).tolist()
    [0.5, 1.5]
    """
    types, probs = np.asarray(types, dtype=np.float64), np.asarray(probs, dtype=np.float64)
    unit_cost = np.asarray(unit_cost, dtype=np.float64)
    cost = np.zeros(np.broadcast_shapes(types.shape, probs.shape, (*unit_cost.shape, 1)))
    np.cumsum(np.broadcast_to(probs, cost.shape)[..., :-1], axis=-1, out=cost[..., 1:])
    cost[..., 1:] *= types[..., 1:] - types[..., :-1]
    cost += types * probs
    cost *= unit_cost[..., np.newaxis]
    return cost


def allocate(
    types: FloatArray,
    probs: FloatArray,
    gain: ConcaveFunction,
    cost: FloatArray,
    floor: FloatArray | None = None,
    *,
    cost_curve: ConvexCost | None = None,
) -> tuple[FloatArray, IndexArray, bool | BoolArray]:
    r"""Maximise expected gain minus cost over non-increasing, non-negative quantities.

    .. math:: \max_q \sum_k p_k f(\delta_k q_k) - B_k q_k \quad \text{s.t.} \quad q_1 \ge \dots \ge q_K \ge 0

    A constraint that enters with a price only changes the costs B, so the same algorithm serves extended
    contracts (a budget with multiplier λ multiplies B by 1 + λ). With a cost curve h, the cost is
    :math:`B_k h(q_k)`.

    Parameters
    ----------
    types, probs : ndarray, shape (n_types,) or (..., n_types)
        Privacy levels (nats) and their probabilities.
    gain : ConcaveFunction
        Gain f of x = δ q.
    cost : ndarray, shape (..., n_types)
        Expected cost B of one more record (utility per record), of all contracts of a batch.
    floor : ndarray, shape (..., n_types), optional
        Least quantities (records), non-increasing, >= 0.
    cost_curve : ConvexCost, optional
        Curve h. Default: h(q) = q.

    Returns
    -------
    quantity : ndarray, shape (..., n_types)
        Optimal data (records). If the optimum is not unique (kinks), each pool has its smallest.
    pools : ndarray of int, shape (n_pools, 2), or (n_pools, number of batch axes + 2)
        Start and stop of the runs of types that share a quantity > 0 because of ironing; in a batch, after
        the indices of the contract.
    regular : bool, or ndarray of shape (...)
        Whether the types' own optima were already non-increasing.

    Raises
    ------
    Unbounded
        If unlimited data would be best.

    Examples
    --------
    >>> from mechopt.formulations.functions import LogGain
    >>> types, probs = np.array([1.0, 2.0]), np.array([0.5, 0.5])
    >>> cost = virtual_costs(types, probs, unit_cost=1.0)
    >>> quantity, pools, regular = allocate(types, probs, LogGain(weight=12, scale=1), cost)
    >>> quantity.tolist(), pools.tolist(), regular
    ([11.0, 3.5], [], True)
    """
    shape, n_types = cost.shape[:-1], cost.shape[-1]
    mass = types * probs
    if cost_curve is None:
        target = np.asarray(gain.inverse_derivative(cost / mass))
        target /= types
    else:
        target = _own_optima(types, mass, gain, cost, cost_curve)
    if floor is not None:
        np.maximum(target, floor, out=target)
    target = target.reshape(-1, n_types)
    types, mass, cost = (_rows(array, cost.shape) for array in (types, mass, cost))
    floor = None if floor is None else _rows(floor, (*shape, n_types))
    gain, cost_curve = spread(gain, target.shape), spread(cost_curve, target.shape)
    table = _Items(types, mass, cost, target, floor, gain, cost_curve)
    if not np.isfinite(target.max()):
        _limit(table, shape)
    regular: BoolArray = np.all(target[:, 1:] <= target[:, :-1], axis=1)
    pools = np.empty((0, 3), dtype=np.intp)
    if not regular.all():
        tangled = _tangled(target)
        target[tangled] = _iron(table.take(tangled), tangled.sum(axis=1))
        rows = np.flatnonzero(~regular)
        target[rows], pools = find_pools(target[rows])
        pools[:, 0] = rows[pools[:, 0]]
    if not shape:
        return target[0], pools[:, 1:], bool(regular[0])
    return target.reshape(*shape, n_types), _with_indices(pools, shape), regular.reshape(shape)


def _own_optima(
    types: FloatArray, mass: FloatArray, gain: ConcaveFunction, cost: FloatArray, cost_curve: ConvexCost
) -> FloatArray:
    """Quantities that the types would get alone, shape of ``cost``."""
    items = [np.broadcast_to(array, cost.shape).ravel() for array in (types, mass, cost)]
    every = np.unravel_index(np.arange(cost.size), cost.shape)
    gain, cost_curve = take(spread(gain, cost.shape), every), take(spread(cost_curve, cost.shape), every)

    def benefit(
        q: FloatArray, types: FloatArray, mass: FloatArray, cost: FloatArray, item: FloatArray
    ) -> FloatArray:
        return mass * take(gain, item.astype(np.intp)).derivative(types * q)

    def burden(
        q: FloatArray, types: FloatArray, mass: FloatArray, cost: FloatArray, item: FloatArray
    ) -> FloatArray:
        return cost * take(cost_curve, item.astype(np.intp)).derivative(q)

    items.append(np.arange(cost.size, dtype=np.float64))
    return break_even(benefit, burden, gain.natural_scale / items[0], *items).reshape(cost.shape)


def _rows(array: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """One row a contract; a view wherever possible."""
    return np.broadcast_to(array, shape).reshape(-1, shape[-1])


def _limit(table: _Items, shape: tuple[int, ...]) -> None:
    """Make infinite own optima finite, without effect on the answer.

    A type alone may want unlimited data although together with its predecessors it does not: then a
    quantity that no first types together exceed serves as well.
    """
    rows = np.flatnonzero(np.isinf(table.target).any(axis=1))
    some = table.take(rows)
    finite = np.where(np.isinf(some.target), 0.0, some.target).max(axis=1)
    scale = np.broadcast_to(some.gain.natural_scale, some.types.shape)[:, 0]
    limit = np.maximum(finite, scale / some.types[:, 0])
    seeking = np.arange(rows.size)
    while seeking.size:
        part = some.take(seeking)
        wanted = np.cumsum(part.net(limit[seeking, np.newaxis]), axis=1).max(axis=1) > 0
        seeking = seeking[wanted]
        limit[seeking] *= 16
        if np.any(limit[seeking] > _ENDLESS):
            row = rows[seeking[np.argmax(limit[seeking])]]
            k = int(np.argmax(np.isinf(table.target[row])))
            raise Unbounded(
                f"the gain of type {k} ({table.types[row, k]} nats{', in a batch' if shape else ''}) grows "
                "without end at least as fast as its cost: lower the slope of the gain at infinity, or raise "
                "unit_cost"
            )
    table.target[rows] = np.minimum(some.target, limit[:, np.newaxis])


def _tangled(target: FloatArray) -> BoolArray:
    """Find the types whose quantity may differ from their own optimum; one row a contract.

    Where everything before has an optimum at least as large as everything after, the problem falls apart into
    two; a type alone between two such places keeps its optimum.
    """
    cut = np.ones((target.shape[0], target.shape[1] + 1), dtype=np.bool_)
    before = np.minimum.accumulate(target, axis=1)
    after = np.maximum.accumulate(target[:, ::-1], axis=1)[:, ::-1]
    cut[:, 1:-1] = before[:, :-1] >= after[:, 1:]
    return ~(cut[:, :-1] & cut[:, 1:])


def find_pools(quantity: FloatArray) -> tuple[FloatArray, IndexArray]:
    """Find the runs of types with a common quantity > 0.

    Parameters
    ----------
    quantity : ndarray, shape (n_types,) or (n_contracts, n_types)
        Data (records), non-increasing but for rounding.

    Returns
    -------
    quantity : ndarray, shape of the argument
        The same without the rounding: exactly non-increasing, and exactly equal in each run.
    pools : ndarray of int, shape (n_pools, 2) or (n_pools, 3)
        Start and stop of each run, after the index of the contract if there are several.
    """
    first = np.ones(quantity.shape, dtype=np.bool_)
    first[..., 1:] = quantity[..., :-1] - quantity[..., 1:] > _SAME_CONTRACT * quantity[..., :-1]
    start = np.flatnonzero(first)
    length = np.diff(start, append=quantity.size)
    common = quantity.ravel()[start]
    row, column = np.divmod(start, quantity.shape[-1])
    pools = np.stack((row, column, column + length)[-quantity.ndim - 1 :], axis=1)
    return np.repeat(common, length).reshape(quantity.shape), pools[(length > 1) & (common > 0)]


class _Items(NamedTuple):
    """Types to be served; arrays of shape (n_items,), or (n_contracts, n_types)."""

    types: FloatArray
    mass: FloatArray  # p_k δ_k
    cost: FloatArray  # B_k
    target: FloatArray  # own optimum, >= 0
    floor: FloatArray | None  # least quantity
    gain: ConcaveFunction
    cost_curve: ConvexCost | None

    def take(self, keep: BoolArray | IndexArray) -> _Items:
        floor = None if self.floor is None else self.floor[keep]
        types, mass, cost, target = self.types[keep], self.mass[keep], self.cost[keep], self.target[keep]
        gain, cost_curve = take(self.gain, keep), take(self.cost_curve, keep)
        return _Items(types, mass, cost, target, floor, gain, cost_curve)

    def net(self, quantity: FloatArray) -> FloatArray:
        """Net marginal gain D_k at the given quantities."""
        net = self.gain.derivative(self.types * quantity)
        net *= self.mass
        net -= self.cost if self.cost_curve is None else self.cost * self.cost_curve.derivative(quantity)
        return net


class _Segments(NamedTuple):
    """Runs of types that may still share a quantity; arrays of shape (n_segments,)."""

    contract: IndexArray
    length: IndexArray
    low: FloatArray  # the quantities lie between low and high
    high: FloatArray
    net_low: FloatArray  # net marginal gain of all types together at low, nan if unknown
    net_high: FloatArray
    side: NDArray[np.int8]  # which end moved last: -1 low, 1 high, 0 both

    def take(self, keep: BoolArray) -> _Segments:
        return _Segments._make(array[keep] for array in self)

    def threshold(self, halve: bool) -> FloatArray:
        """Where to split: in the middle, or where the types together would have their optimum."""
        middle = self.low + (self.high - self.low) / 2
        if halve:
            return middle
        with np.errstate(invalid="ignore", divide="ignore"):
            share = self.net_low / (self.net_low - self.net_high)
            root = self.low + share * (self.high - self.low)
        # A root at one end would only confirm that end: a little inside, it brings the other one here.
        margin = _EPS * self.high
        root = np.clip(root, self.low + margin, self.high - margin)
        return np.where(np.isnan(root), middle, root)

    def split(self, threshold: FloatArray, more: IndexArray, net: FloatArray) -> _Segments:
        """First types above the threshold, the others below; ``net`` is of all types, at the threshold."""
        up, down = more == self.length, more == 0
        whole = up | down
        # A false position needs help when one end moves again and again: the value at the other end is
        # halved (the Illinois rule).
        stuck_low, stuck_high = down & (self.side > 0), up & (self.side < 0)
        net_low = np.where(up, net, np.where(stuck_low, self.net_low / 2, self.net_low))
        net_high = np.where(down, net, np.where(stuck_high, self.net_high / 2, self.net_high))
        net_low[~whole] = net_high[~whole] = np.nan
        side = np.where(whole, np.where(up, -1, 1), 0).astype(np.int8)
        first = _Segments(self.contract, more, threshold, self.high, net_low, net_high, side)
        last = first._replace(length=self.length - more, low=self.low, high=threshold)
        pairs: Iterable[tuple[Any, Any]] = zip(first, last, strict=True)
        parts = _Segments._make(np.stack(pair, axis=1).ravel() for pair in pairs)
        return parts.take(parts.length > 0)


def _iron(items: _Items, count: IndexArray) -> FloatArray:
    """Quantities by divide and conquer on segments, all segments of one depth together.

    Each segment has an interval that holds its quantities. Its types that want more than a threshold are a
    prefix; this and the rest become two segments with smaller intervals, until an interval is a point.
    The first segments are the contracts, with ``count`` types each.
    """
    quantity = np.empty_like(items.target)
    where = np.arange(items.target.size)
    length = count[count > 0]
    n = length.size
    start = np.cumsum(length) - length
    negligible = _NEGLIGIBLE * np.maximum.reduceat(items.target, start)
    unknown = np.full(n, np.nan)
    segments = _Segments(
        np.arange(n), length, np.zeros(n), np.full(n, np.inf), unknown, unknown, np.zeros(n, dtype=np.int8)
    )
    # Halving an interval never reaches 0: the types that want nothing at all are split off first.
    finite = bool(np.all(np.isfinite(items.gain.derivative(0.0))))
    at_zero = finite & (np.minimum.reduceat(items.target, start) == 0)
    for depth in itertools.count():
        segments = _narrow(segments, items.target)
        low, high, contract, length = segments.low, segments.high, segments.contract, segments.length
        unsettled = high - low > 2 * _EPS * high + negligible[contract]
        if not unsettled.all():
            keep = np.repeat(unsettled, length)
            quantity[where[~keep]] = np.repeat(high[~unsettled], length[~unsettled])
            items, where, segments = items.take(keep), where[keep], segments.take(unsettled)
        if not segments.length.size:
            break
        threshold = segments.threshold(halve=depth % _HALVING == 0)
        if depth == 0:
            threshold[at_zero[segments.contract]] = 0.0
        segments = segments.split(threshold, *_more_than(items, threshold, segments))
    return quantity


def _narrow(segments: _Segments, target: FloatArray) -> _Segments:
    """Intervals cut to what lies between the smallest and the largest own optimum of the segment."""
    start = np.cumsum(segments.length) - segments.length
    least, most = np.minimum.reduceat(target, start), np.maximum.reduceat(target, start)
    return segments._replace(
        low=np.maximum(segments.low, least),
        high=np.minimum(segments.high, most),
        net_low=np.where(least > segments.low, np.nan, segments.net_low),
        net_high=np.where(most < segments.high, np.nan, segments.net_high),
    )


def _more_than(items: _Items, threshold: FloatArray, segments: _Segments) -> tuple[IndexArray, FloatArray]:
    """Count the first types of each segment, those that get more than its threshold; and sum all nets."""
    each = np.repeat(threshold, segments.length)
    net = items.net(each)
    if items.floor is None:
        return _best_prefix(net, segments)
    # These get more at any rate, and being the first ones they have no say in where the prefix ends.
    forced = items.floor > each
    net[forced] = 0.0
    n_forced = np.add.reduceat(forced, np.cumsum(segments.length) - segments.length, dtype=np.intp)
    more, total = _best_prefix(net, segments)
    return np.maximum(more, n_forced), total


def _best_prefix(net: FloatArray, segments: _Segments) -> tuple[IndexArray, FloatArray]:
    """Length of the prefix of each segment with the largest sum (of several, the shortest), and all sums."""
    length = segments.length
    stop = np.cumsum(length)
    start = stop - length
    running = _running_sums(net, length, segments.contract)
    running -= np.repeat(running[start] - net[start], length)
    best = np.maximum.reduceat(running, start)
    hits = np.flatnonzero(running == np.repeat(best, length))
    more = np.where(best > 0, hits[np.searchsorted(hits, start)] - start + 1, 0)
    return more, running[stop - 1]


def _running_sums(net: FloatArray, length: IndexArray, contract: IndexArray) -> FloatArray:
    """Cumulated sums, anew for each contract: one sum over all would round by the size of the batch."""
    if contract[0] == contract[-1]:
        return np.cumsum(net)
    first = np.flatnonzero(np.diff(contract, prepend=-1))
    count = np.add.reduceat(length, first)
    inside = np.arange(count.max()) < count[:, np.newaxis]
    table = np.zeros(inside.shape)
    table[inside] = net
    np.cumsum(table, axis=1, out=table)
    sums: FloatArray = table[inside]
    return sums
