r"""The best menu of at most M contracts, for demanders who cannot post one for each type.

A menu divides the types that trade into runs with one contract each, and leaves the last types out. With the
payments eliminated (see `exact`), a run i..j with the common quantity q is worth

.. math:: \sum_{k=i}^{j} p_k f(\delta_k q) - B_k q

and if quantities fall strictly from run to run, the best menu has every run at its own optimum: the problem
is concave in each quantity, and nothing binds. So the best menu is the best way to divide the types into at
most M runs, among those whose own optima fall. That is a dynamic programme over runs. Without the condition
on the optima it would overstate the value: where types are ironed, later ones want more than earlier ones,
and the "menu" would not be incentive compatible.

The condition can fail only where a cut goes through a pool of the unlimited optimum: the types after the end
of a pool want less than those before it. If the relative risk aversion of the gain, -x f''(x) / f'(x), never
falls with x (log, power, saturating and quadratic gains), such cuts are never needed. Gains with kinks may
need them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.functions import ConcaveFunction, PowerGain
from mechopt.formulations.screening.exact import ExactMenu, find_pools, menu_of, solve_exact, virtual_costs
from mechopt.solvers.errors import InvalidInput

__all__ = ["solve_menu_size"]

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]
Net = Callable[[FloatArray, IndexArray], FloatArray]
"""Net marginal gain of the runs with the given indices at the given quantities, one a run."""

# Runs' quantities are located to this relative accuracy; their values, flat there, are better still.
_ACCURACY = 1e-14
# Every so many steps an interval is halved: at kinks interpolation finds nothing.
_HALVING = 3


def solve_menu_size(
    types: ArrayLike, probs: ArrayLike, gain: ConcaveFunction, unit_cost: float, max_contracts: int
) -> ExactMenu:
    """Compute the optimal menu with at most ``max_contracts`` different contracts.

    The null contract is free and does not count. The values of the arguments other than ``max_contracts`` are
    taken as valid; the mechanism checks them.

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
    max_contracts : int
        Largest number of different contracts with a quantity > 0, >= 1.

    Returns
    -------
    ExactMenu
        ``pools`` are the runs of several types with one contract, and ``regular`` tells whether neither the
        limit nor ironing had a part in the menu. With enough contracts it is the menu of `solve_exact`.

    Raises
    ------
    InvalidInput
        If ``max_contracts`` is not a whole number >= 1, or the shapes do not fit.
    Unbounded
        If unlimited data would be best.

    Notes
    -----
    With K types that trade and M contracts, all K² / 2 runs are valued, which takes O(K³) evaluations of the
    gain's derivative (O(K²) for power gains, whose runs have a closed form); dividing the types takes O(M K²)
    comparisons. Memory is O(K²), and O(M K²) if most types are ironed. A log gain takes some 0.1 s for 50
    types, 0.5 s for 200 and 2.5 s for 500; a power gain 0.1 s for 500.

    References
    ----------
    Contract paper, eqs. (40)-(42), of which this is an extension.

    Examples
    --------
    >>> from mechopt.formulations.functions import LogGain
    >>> types, probs, gain = [1.0, 2.0, 3.0, 4.0], [0.25] * 4, LogGain(weight=50, scale=1)
    >>> for limit in (1, 2, 4):
    ...     menu = solve_menu_size(types, probs, gain, 1.0, max_contracts=limit)
    ...     print(menu.quantity.round(3).tolist(), round(menu.objective, 3))
    [11.986, 11.986, 11.986, 11.986] 118.082
    [49.0, 9.64, 9.64, 9.64] 126.575
    [49.0, 16.167, 9.667, 6.893] 128.631
    """
    max_contracts = checks.count(max_contracts, "max_contracts")
    types, probs = np.asarray(types, dtype=np.float64), np.asarray(probs, dtype=np.float64)
    if types.ndim != 1 or probs.ndim != 1:
        raise InvalidInput(f"types and probs must have one axis, got shapes {types.shape}, {probs.shape}")
    unlimited = solve_exact(types, probs, gain, unit_cost)
    fresh = np.diff(unlimited.quantity, prepend=np.inf) < 0
    served = types.size - int(unlimited.n_excluded)
    if np.count_nonzero(fresh[:served]) <= max_contracts:
        return unlimited
    # Types without a contract stay without one: no quantity for the first ones of them covers its cost.
    some, weights = types[:served], probs[:served]
    cost = virtual_costs(types, probs, unit_cost)[:served]
    if isinstance(gain, PowerGain):
        root, value = _power_runs(some, weights, gain, cost)
    else:
        root, value = _runs(some, weights, gain, cost)
    quantity = np.zeros(types.size)
    for start, stop in _divide(root, value, max_contracts, inside_pool=~fresh[:served]):
        quantity[start:stop] = root[start, stop - 1]
    quantity, pools = find_pools(quantity)
    return menu_of(types, probs, gain, unit_cost, quantity, pools, regular=False)


# ------------------------------------------------------------ runs of types


def _power_runs(
    types: FloatArray, probs: FloatArray, gain: PowerGain, cost: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Optimal quantity and value of every run, in closed form: a power's slopes are all proportional."""
    n_types = types.size
    root, value = np.zeros((n_types, n_types)), np.full((n_types, n_types), -np.inf)
    for start in range(n_types):
        slope = np.cumsum(probs[start:] * types[start:] * gain.derivative(types[start:]))
        paid = np.cumsum(cost[start:])
        root[start, start:] = quantity = (slope / paid) ** (1 / (1 - gain.exponent))
        # At the optimum the gain is the cost over the exponent.
        value[start, start:] = paid * quantity * (1 / gain.exponent - 1)
    return root, value


def _runs(
    types: FloatArray, probs: FloatArray, gain: ConcaveFunction, cost: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Optimal quantity and value of every run i..j, at [i, j].

    All are finite: no type wants more than its first best, nor a run more than all of its types.
    """
    n_types, mass = types.size, types * probs
    root, value = np.zeros((n_types, n_types)), np.full((n_types, n_types), -np.inf)
    own = quantity = np.asarray(gain.inverse_derivative(cost / mass)) / types
    paid = np.zeros(n_types + 1)
    nothing = float(gain(0.0))
    for length in range(1, n_types + 1):
        first = np.arange(n_types - length + 1)
        last = first + length - 1
        delta, heavy, weight = (sliding_window_view(x, length) for x in (types, mass, probs))
        paid = paid[:-1] + cost[last]
        if length > 1:
            # A run wants something between what its parts want, however it is cut in two.
            before, after = quantity[:-1], quantity[1:]
            low = np.maximum(np.minimum(before, own[last]), np.minimum(own[first], after))
            high = np.minimum(np.maximum(before, own[last]), np.maximum(own[first], after))

            def net(
                q: FloatArray,
                rows: IndexArray,
                delta: FloatArray = delta,
                heavy: FloatArray = heavy,
                paid: FloatArray = paid,
            ) -> FloatArray:
                slope = gain.derivative(delta[rows] * q[:, np.newaxis])
                return np.asarray(np.einsum("ij,ij->i", heavy[rows], slope) - paid[rows])

            quantity = _roots(net, low, np.maximum(low, high))
        worth = gain(delta * quantity[:, np.newaxis]) - nothing
        root[first, last] = quantity
        value[first, last] = np.einsum("ij,ij->i", weight, worth) - paid * quantity
    return root, value


def _roots(net: Net, low: FloatArray, high: FloatArray) -> FloatArray:
    """Smallest quantity in [low, high] at which each run's falling net marginal gain is not above 0."""
    low, high = low.copy(), high.copy()
    rows = np.arange(low.size)
    at_low, at_high = net(low, rows), net(high, rows)
    high = np.where(at_low <= 0, low, high)
    low = np.where(at_high > 0, high, low)
    side = np.zeros(low.size)
    step = 0
    while True:
        rows = np.flatnonzero(high - low > _ACCURACY * high)
        if not rows.size:
            return high
        step += 1
        a, b, above, below = low[rows], high[rows], at_low[rows], at_high[rows]
        middle = a + (b - a) / 2
        if step % _HALVING:
            with np.errstate(invalid="ignore"):
                guess = a + (b - a) * (above / (above - below))
            middle = np.where((guess > a) & (guess < b), guess, middle)
        found = net(middle, rows)
        more = found > 0
        low[rows], high[rows] = np.where(more, middle, a), np.where(more, b, middle)
        # An end that stays twice loses half its height, so that the next guess falls on its side (Illinois).
        now = np.where(more, 1.0, -1.0)
        stuck = np.where(now == side[rows], 0.5, 1.0)
        at_low[rows] = np.where(more, found, above * stuck)
        at_high[rows] = np.where(more, below * stuck, found)
        side[rows] = now


# ------------------------------------------------------------ the division


def _divide(
    root: FloatArray, value: FloatArray, max_runs: int, inside_pool: NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """Divide the first types into at most ``max_runs`` runs, of falling quantities, worth the most.

    ``inside_pool[j]`` tells that a cut before type j goes through a pool; elsewhere quantities fall anyway.
    Runs come as (start, stop), from the first type on; the types behind the last run get nothing.
    """
    n_types = root.shape[0]
    # Runs that end before each type, by falling quantity; and how many of them a run from there may follow.
    order = [np.argsort(-root[:start, start - 1], kind="stable") for start in range(1, n_types)]
    allowed = []
    for start, by_quantity in enumerate(order, start=1):
        if inside_pool[start]:
            falling = -root[by_quantity, start - 1]
            allowed.append(np.searchsorted(falling, -root[start, start:], side="right"))
        else:
            allowed.append(np.array([start]))
    total = np.full_like(value, -np.inf)  # best worth of types 0..j in so many runs, the last one i..j
    total[0] = value[0]
    tops = [_top(total)]
    chosen: list[list[IndexArray]] = []
    for _ in range(1, max_runs):
        longer = np.full_like(value, -np.inf)
        choice = [np.empty(0, dtype=np.intp)]
        for start, (by_quantity, count) in enumerate(zip(order, allowed, strict=True), start=1):
            worth = total[by_quantity, start - 1]
            record = np.maximum.accumulate(worth)
            holder = np.maximum.accumulate(np.where(worth == record, np.arange(start), 0))
            # Where no run is allowed before, count - 1 reads anything, which is then replaced.
            longer[start, start:] = value[start, start:] + np.where(count > 0, record[count - 1], -np.inf)
            choice.append(by_quantity[holder[count - 1]])
        total = longer
        chosen.append(choice)
        tops.append(_top(total))
    n_runs = int(np.argmax([worth for worth, _, _ in tops])) + 1
    _, first, last = tops[n_runs - 1]
    runs = [(first, last + 1)]
    for choice in reversed(chosen[: n_runs - 1]):
        before = choice[first]  # one for all ends of the run, or one for each
        first, last = int(before[min(last - first, before.size - 1)]), first - 1
        runs.append((first, last + 1))
    return runs[::-1]


def _top(total: FloatArray) -> tuple[float, int, int]:
    """Largest worth, and the first and last type of the run that it ends with."""
    first, last = divmod(int(np.argmax(total)), total.shape[1])
    return float(total[first, last]), first, last
