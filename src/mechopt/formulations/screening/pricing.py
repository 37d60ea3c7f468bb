r"""The screening contract with side constraints, by their prices.

A side constraint :math:`a \cdot q \le b` that is linear in the quantities enters the demander's objective
with a price :math:`\mu \ge 0`, as a change of costs :math:`B + \mu a`, and the exact algorithm solves what is
left.
With the payments at their least (they are the cheapest that keep every type truthful):

* an expected budget has :math:`a = B`, the virtual costs;
* a cap on all payments, of which the first type's is the largest, has
  :math:`a_k = c (\delta_k - \delta_{k-1})`, :math:`\delta_0 = 0`;
* a least amount of expected data has :math:`a = -p`.

The excess :math:`a \cdot q - b` falls as the price rises, and the right price is where it changes its sign.
Several prices are nested: for each trial price of the first constraint, the others find theirs. Where the
excess jumps over 0 (gains with linear pieces), the menus on both sides are equally good at that price, and so
is the mixture that meets the constraint exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog

from mechopt.formulations.functions import ConcaveFunction
from mechopt.formulations.screening.exact import ExactMenu, allocate, find_pools, menu_of, virtual_costs
from mechopt.solvers.errors import Infeasible, InvalidInput, NotApplicable, Unbounded

__all__ = ["solve_priced"]

FloatArray = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
# An excess below this share of the constraint's terms is rounding.
_MET = 1e-14
# Two menus on one tangent of the dual function, this close in relative terms: the same price for both.
_SAME_VALUE = 1e-14
# An amount of at least this share of the constraint's terms is left over for certain.
_SLACK = 1e-9
# Quantities this close (relatively) to their least are at it.
_AT_LEAST = 1e-12
# No price is looked for beyond this multiple of its unit.
_ENDLESS = 1e60
# A bound this much (relatively) beyond what can be reached counts as reachable.
_REACHABLE = 1e-9


def solve_priced(
    types: ArrayLike,
    probs: ArrayLike,
    gain: ConcaveFunction,
    unit_cost: float,
    *,
    budget: float | None = None,
    payment_cap: float | None = None,
    minimum_data: float | None = None,
    minimum_quantity: ArrayLike | None = None,
) -> tuple[ExactMenu, dict[str, float | FloatArray]]:
    r"""Compute the optimal menu under side constraints, each alone or all together, and their prices.

    The contract's own arguments are taken as valid; the mechanism checks them.

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
    budget : float, optional
        Most that may be paid in expectation, :math:`\sum p_k \gamma_k` (utility per holder), >= 0.
    payment_cap : float, optional
        Most that any type may be paid (utility), >= 0.
    minimum_data : float, optional
        Least expected data, :math:`\sum p_k q_k` (records per holder), >= 0.
    minimum_quantity : float or array_like, shape (n_types,), optional
        Least data of each contract (records), >= 0. As quantities fall with the type, each type has to
        give at least what any higher type has to.

    Returns
    -------
    menu : ExactMenu
        The optimal menu; ``objective`` is the demander's expected utility, without any prices.
    prices : dict
        Shadow price of every constraint that was given: the derivative of the objective with respect to its
        bound. >= 0 for ``budget`` (a pure number) and ``payment_cap`` (a probability), <= 0 for
        ``minimum_data`` (utility per record) and for each entry of ``minimum_quantity``, an array; exactly 0
        if the constraint is slack.

    Raises
    ------
    InvalidInput
        If a bound is negative or not finite, or has the wrong shape.
    Infeasible
        If no menu meets all bounds; ``families`` names a smallest set of bounds that exclude each other.
    Unbounded
        If the gain grows without end at least as fast as the cost.
    NotApplicable
        If a bound can be met but has no finite price, such as a budget of 0 with a gain that is infinitely
        steep at 0.

    References
    ----------
    Contract paper, eqs. (32)-(42), for the contract without side constraints.

    Examples
    --------
    >>> from mechopt.formulations.functions import LogGain
    >>> menu, prices = solve_priced([1.0, 2.0], [0.5, 0.5], LogGain(weight=12, scale=1), 1.0, budget=4.75)
    >>> menu.quantity.round(6).tolist(), menu.payment.round(6).tolist(), round(prices["budget"], 6)
    ([5.0, 1.5], [6.5, 3.0], 1.0)
    """
    types, probs = np.asarray(types, dtype=np.float64), np.asarray(probs, dtype=np.float64)
    if types.ndim != 1 or types.shape != probs.shape or types.size == 0:
        raise InvalidInput(f"types and probs must be one axis of types; got {types.shape}, {probs.shape}")
    cost = virtual_costs(types, probs, unit_cost)
    rise = unit_cost * np.diff(types, prepend=0.0)
    floor, least = _check_floor(minimum_quantity, types.size)
    sides = [
        _Side(name, row, _check_bound(name, bound) * sign, sign)
        for name, row, bound, sign in (
            ("budget", cost, budget, 1.0),
            ("payment_cap", rise, payment_cap, 1.0),
            # Last, so innermost: data alone can always be bought, so that every trial has an answer.
            ("minimum_data", -probs, minimum_data, -1.0),
        )
        if bound is not None
    ]
    _check_feasible(sides, floor)
    problem = _Problem(types, probs, gain, floor)
    found = problem.solve(cost, sides)
    quantity, pools = found.quantity, np.empty((0, 2), dtype=np.intp)
    if not found.regular:
        quantity, pools = find_pools(quantity)
    menu = menu_of(types, probs, gain, unit_cost, quantity, pools, found.regular)
    prices: dict[str, float | FloatArray] = {}
    for side, price in zip(sides, found.prices, strict=True):
        terms = side.row * quantity
        slack = side.bound - float(terms.sum())
        # What is not used up has no price; a price is only rounding then.
        is_slack = price == 0 or slack > _SLACK * (abs(side.bound) + float(np.abs(terms).sum()))
        prices[side.name] = 0.0 if is_slack else side.sign * price
    if floor is not None and least is not None:
        for side, price in zip(sides, found.prices, strict=True):
            cost = cost + price * side.row
        prices["minimum_quantity"] = _floor_prices(types, probs, gain, cost, quantity, least)
    return menu, prices


@dataclass(frozen=True, eq=False)
class _Side:
    """Side constraint ``row @ quantity <= bound``; its bound as given is ``sign`` times that."""

    name: str
    row: FloatArray
    bound: float
    sign: float


class _Point(NamedTuple):
    """Answer at a trial price of one constraint, the others' constraints met."""

    price: float
    excess: float  # row @ quantity - bound; -inf if unlimited data would be best
    size: float  # of the terms of the excess
    value: float  # of the dual function: gain less cost less price * excess
    quantity: FloatArray
    prices: tuple[float, ...]  # of the constraints inside
    regular: bool

    @property
    def tiny(self) -> bool:
        return abs(self.excess) <= _MET * self.size


class _Found(NamedTuple):
    quantity: FloatArray
    prices: tuple[float, ...]
    regular: bool


@dataclass(frozen=True, eq=False)
class _Problem:
    types: FloatArray
    probs: FloatArray
    gain: ConcaveFunction
    floor: FloatArray | None

    def solve(self, cost: FloatArray, sides: Sequence[_Side]) -> _Found:
        """Best quantities at these costs under some constraints, and the prices of these."""
        if not sides:
            quantity, _, regular = allocate(self.types, self.probs, self.gain, cost, self.floor)
            return _Found(quantity, (), bool(regular))
        side, inside = sides[0], sides[1:]
        limit, ray = _limit(cost, side.row)

        def at(price: float) -> _Point:
            priced = cost + price * side.row
            try:
                found = self.solve(priced, inside)
            except Unbounded:
                if price == 0:
                    raise
                return _Point(price, -np.inf, np.inf, np.inf, cost, (), False)
            terms = side.row * found.quantity
            excess = float(terms.sum()) - side.bound
            size = abs(side.bound) + float(np.abs(terms).sum())
            profit = self.probs * self.gain(self.types * found.quantity) - cost * found.quantity
            value = float(profit.sum()) - price * excess
            return _Point(price, excess, size, value, *found)

        low, high = _bracket(at, limit, side.name)
        return _meet(low, high, ray, side)


def _limit(cost: FloatArray, row: FloatArray) -> tuple[float, FloatArray]:
    """Price from which data of some first types cost nothing, inf if none; and those types as 0 or 1."""
    pays = np.cumsum(row)
    falls = pays < 0  # rows of budgets and caps are nowhere negative, and that of data is everywhere
    if not falls.any():
        return np.inf, np.zeros_like(cost)
    prices = np.full(cost.size, np.inf)
    prices[falls] = np.cumsum(cost)[falls] / -pays[falls]
    last = int(np.argmin(prices))
    return float(prices[last]), (np.arange(cost.size) <= last).astype(np.float64)


def _bracket(at: Callable[[float], _Point], limit: float, name: str) -> tuple[_Point, _Point]:
    """Neighbouring prices between which the excess changes its sign; twice the same if one meets it.

    Trial prices are mapped from [0, inf) to [0, limit), which makes quantities of logarithmic gains linear.
    """

    def price_of(trial: float) -> float:
        return trial if np.isinf(limit) else limit * (trial / (limit + trial))

    def trial_of(price: float) -> float:
        return price if np.isinf(limit) else (limit * price / (limit - price) if price < limit else np.inf)

    low = at(0.0)
    if low.excess <= 0:
        return low, low
    trial, unit = (1.0, 1.0) if np.isinf(limit) else (limit, limit)
    start = 0.0
    while (high := at(price_of(trial))).excess > 0:
        if high.tiny:
            return high, high
        if high.price >= limit * (1 - 4 * _EPS):
            return high, high._replace(price=limit, excess=-np.inf)
        low, start, trial = high, trial, 8 * trial
        if trial > _ENDLESS * unit:
            raise NotApplicable(
                f"{name} can be met, but only at an unlimited price: loosen it a little",
                reason=f"the price of {name} has no finite value",
            )
    weights, end, flat = [low.excess, high.excess], trial, False
    for step in range(400):
        if high.price - low.price <= 4 * _EPS * high.price or end - start <= 4 * _EPS * end or low.tiny:
            break
        if _on_one_tangent(low, high):
            break
        if high.tiny:
            # Of all prices that meet the constraint the least is wanted: look whether a lower one does too.
            if end - start <= 1e-10 * end:
                return high, high
            trial = end - (0.5 if flat else 1e-3) * (end - start)
            point = at(price_of(trial))
            if point.excess > 0 and not (flat or point.tiny):
                return high, high
            flat = True
        else:
            trial = start + (end - start) / 2
            if np.isfinite(high.excess) and step % 4 == 3:
                trial = trial_of(_crossing(low, high))
            elif np.isfinite(high.excess) and step % 8 != 6 and weights[0] > 0:
                trial = start + (end - start) * weights[0] / (weights[0] - weights[1])
            margin = 2 * _EPS * end
            trial = min(max(trial, start + margin), end - margin)
            point = at(price_of(trial))
        # The value at the end that stays is halved when it stays again (the Illinois rule).
        if point.excess > 0:
            weights = [point.excess, weights[1] / (2 if start > 0 and weights[0] == low.excess else 1)]
            low, start = point, trial
        else:
            weights = [weights[0] / 2 if weights[1] == high.excess else weights[0], point.excess]
            high, end = point, trial
    return (low, low) if low.tiny else (low, high)


def _crossing(low: _Point, high: _Point) -> float:
    """Price at which the tangents of the dual function in two points cross; its slope is minus the excess."""
    ahead = high.value - low.value + low.excess * low.price - high.excess * high.price
    return float(np.clip(-ahead / (high.excess - low.excess), low.price, high.price)) if ahead else low.price


def _on_one_tangent(low: _Point, high: _Point) -> bool:
    """Whether one menu is optimal at the price of the other, too, though the excesses differ: a jump."""
    if not np.isfinite(high.excess) or low.excess - high.excess <= 1e-6 * (low.size + high.size):
        return False
    width, scale = high.price - low.price, abs(low.value) + abs(high.value)
    scale += max(low.price * low.size, high.price * high.size)
    from_low = high.value - (low.value - low.excess * width)
    from_high = low.value - (high.value + high.excess * width)
    return min(from_low, from_high) <= _SAME_VALUE * scale


def _meet(low: _Point, high: _Point, ray: FloatArray, side: _Side) -> _Found:
    """Quantities that meet the constraint exactly, from those just above and just below its price."""
    if low is high:
        return _Found(high.quantity, (high.price, *high.prices), high.regular)
    if np.isinf(high.excess):
        # More data of the first types leaves the value as it is at this price: as much as it takes.
        amount = low.excess / -float(side.row @ ray)
        return _Found(low.quantity + amount * ray, (high.price, *low.prices), low.regular)
    share = low.excess / (low.excess - high.excess)
    quantity = (1 - share) * low.quantity + share * high.quantity
    prices = tuple((1 - share) * a + share * b for a, b in zip(low.prices, high.prices, strict=True))
    price = high.price
    if high.price - low.price > 4 * _EPS * high.price:
        price = float(_crossing(low, high))
    return _Found(quantity, (price, *prices), low.regular and high.regular)


def _check_bound(name: str, bound: float) -> float:
    bound = float(bound)
    if not (np.isfinite(bound) and bound >= 0):
        raise InvalidInput(f"{name} = {bound} must be a finite number >= 0")
    return bound


def _check_floor(least: ArrayLike | None, n_types: int) -> tuple[FloatArray, FloatArray] | tuple[None, None]:
    """Least quantities with those of higher types passed on to the lower ones, and as given."""
    if least is None:
        return None, None
    given = np.asarray(least, dtype=np.float64)
    if given.shape not in ((), (n_types,)):
        raise InvalidInput(f"minimum_quantity has shape {given.shape}; give one number, or one for each type")
    if not (np.all(np.isfinite(given)) and np.all(given >= 0)):
        raise InvalidInput(f"minimum_quantity = {least} must be finite and >= 0")
    given = np.broadcast_to(given, (n_types,))
    return np.maximum.accumulate(given[::-1])[::-1], given


def _check_feasible(sides: Sequence[_Side], floor: FloatArray | None) -> None:
    """Raise with a smallest set of bounds that no menu meets."""
    names = [side.name for side in sides] + ([] if floor is None else ["minimum_quantity"])
    if _can_hold(sides, floor):
        return
    by_name = {side.name: side for side in sides}
    for size in range(2, len(names) + 1):
        for group in combinations(names, size):
            chosen = [by_name[name] for name in group if name in by_name]
            if not _can_hold(chosen, floor if "minimum_quantity" in group else None):
                raise Infeasible(
                    f"no menu meets {' and '.join(group)} together: loosen one of them", families=group
                )


def _can_hold(sides: Sequence[_Side], floor: FloatArray | None) -> bool:
    """Whether some menu meets all bounds: the least quantities do, or else the one with the most data."""
    above = [side for side in sides if side.sign > 0]
    data = [side for side in sides if side.sign < 0]
    if not above:
        return True
    least = np.zeros_like(above[0].row) if floor is None else floor
    if any(float(side.row @ least) > side.bound * (1 + _MET) for side in above):
        return False
    if not data or float(data[0].row @ least) <= data[0].bound:
        return True
    return _most_data(above, -data[0].row, least, -data[0].bound) >= 1 - _REACHABLE


def _most_data(above: Sequence[_Side], probs: FloatArray, least: FloatArray, wanted: float) -> float:
    """Most expected data that some bounds leave, as a share of what is wanted: a linear program."""
    n = probs.size
    # In these units a program of any size has rows and a value of order one.
    rows = [side.row / side.row[0] * probs[0] for side in above]
    bounds = [side.bound / side.row[0] * probs[0] / wanted for side in above]
    matrix = sp.csr_array(np.stack(rows))
    if n > 1:
        falling = sp.diags_array([-np.ones(n - 1), np.ones(n - 1)], offsets=[0, 1], shape=(n - 1, n))
        matrix = sp.vstack([matrix, falling])
    right = np.append(bounds, np.zeros(n - 1))
    limits = np.stack((least / wanted, np.full(n, np.inf)), axis=1)
    result = linprog(-probs, A_ub=matrix, b_ub=right, bounds=limits, method="highs")
    return -float(result.fun) if result.status == 0 else 1.0


def _floor_prices(
    types: FloatArray,
    probs: FloatArray,
    gain: ConcaveFunction,
    cost: FloatArray,
    quantity: FloatArray,
    least: FloatArray,
) -> FloatArray:
    """Price each least quantity: what one record more in it brings, <= 0.

    Types with one quantity are held up by the last of them whose own bound it is.
    """
    prices = np.zeros_like(quantity)
    start = np.flatnonzero(np.diff(quantity, prepend=np.inf))
    stop = np.append(start[1:], quantity.size)
    for first, end in zip(start, stop, strict=True):
        run = slice(first, end)
        binding = np.flatnonzero((least[run] >= quantity[first] * (1 - _AT_LEAST)) & (least[run] > 0))
        if binding.size:
            net = probs[run] * types[run] * gain.derivative(types[run] * quantity[run]) - cost[run]
            prices[first + binding[-1]] = min(float(net.sum()), 0.0)
    return prices
