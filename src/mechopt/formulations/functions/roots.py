"""Where a falling marginal benefit meets a rising marginal cost, for many items at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import elementwise

from mechopt.solvers.errors import InvalidInput

__all__ = ["break_even"]

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]

_EPS = float(np.finfo(np.float64).eps)
# Amounts are looked for between 2**-900 and 2**900 of their unit; below counts as 0, beyond as infinite.
_DOUBLINGS = 900
# An excess this small is a difference in the last digit.
_LAST_DIGIT = _EPS / 2
# What stands for an excess of exactly 0, so that the search goes on to the smallest such amount.
_SPENT = -_EPS


def break_even(
    benefit: Callable[..., Any], cost: Callable[..., Any], unit: Any, *items: FloatArray
) -> FloatArray:
    """Find the smallest amounts x >= 0 at which the marginal benefit does not exceed the marginal cost.

    Parameters
    ----------
    benefit, cost : callable
        Of (x, *items), elementwise; the benefit non-increasing in x, the cost non-decreasing. Jumps and
        stretches without change are welcome, and the benefit may be infinite at 0.
    unit : float, or ndarray of shape (n,)
        A typical amount, > 0, from which the search starts; the farther the answer, the longer the search.
    *items : ndarray, shape (n,)
        What else benefit and cost depend on.

    Returns
    -------
    ndarray, shape (n,)
        Amounts, to the last digits; 0 where nothing is worth its cost, ``inf`` where everything is.

    Raises
    ------
    InvalidInput
        If benefit or cost is not a number at a point that the search needs.

    Examples
    --------
    >>> price = np.array([0.5, 0.1, 2.0, -1.0])
    >>> break_even(lambda x, price: 1 / (1 + x), lambda x, price: price, 1.0, price).round(12).tolist()
    [1.0, 9.0, 0.0, inf]
    """

    def excess(x: FloatArray, *items: FloatArray) -> FloatArray:
        """Benefit minus cost as a share of both: in [-1, 1], with a root that is not flat."""
        with np.errstate(all="ignore"):
            gained = np.asarray(benefit(x, *items), dtype=np.float64) / 2
            spent = np.asarray(cost(x, *items), dtype=np.float64) / 2
            share = (gained - spent) / (np.abs(gained) + np.abs(spent))
        share = np.where(np.isinf(gained) & np.isfinite(spent), 1.0, share)
        share = np.where(np.isinf(spent) & np.isfinite(gained), -np.sign(spent), share)
        share = np.where((gained == 0) & (spent == 0), 0.0, share)
        unclear = np.isnan(share)
        if unclear.any():
            k = int(np.argmax(unclear))
            raise InvalidInput(
                f"at x = {np.broadcast_to(x, share.shape)[k]:.9g} the marginal benefit is "
                f"{2 * np.broadcast_to(gained, share.shape)[k]:.9g} and the marginal cost "
                f"{2 * np.broadcast_to(spent, share.shape)[k]:.9g}, which cannot be compared; the functions "
                "must have a slope, infinite at most at 0, for every x >= 0"
            )
        share[share == 0] = _SPENT
        return share

    n = items[0].size
    unit = np.broadcast_to(np.asarray(unit, dtype=np.float64), n)
    root = np.zeros(n)
    which = np.flatnonzero(excess(root, *items) > 0)
    low, high = _octaves(excess, unit, items, which)
    root[which[low == _DOUBLINGS]] = np.inf
    inside = (low >= -_DOUBLINGS) & (high <= _DOUBLINGS)
    which, low, high = which[inside], low[inside], high[inside]
    if which.size:
        found = elementwise.find_root(
            excess,
            (np.ldexp(unit[which], low), np.ldexp(unit[which], high)),
            args=tuple(item[which] for item in items),
            tolerances={"xatol": 0.0, "xrtol": 2 * _EPS, "fatol": _LAST_DIGIT, "frtol": 0.0},
        )
        # At a jump the amount behind it; else where they agree, which is not always narrowed down further.
        root[which] = np.where(np.abs(found.f_x) <= _LAST_DIGIT, found.x, found.bracket[1])
    return root


def _octaves(
    excess: Callable[..., FloatArray], unit: FloatArray, items: tuple[FloatArray, ...], which: IndexArray
) -> tuple[IndexArray, IndexArray]:
    """Powers of two of the unit, neighbours, between which the excess of the chosen items turns negative.

    An end that no power reaches is one beyond the last power.
    """
    low = np.full(which.size, -_DOUBLINGS - 1)
    high = np.full(which.size, _DOUBLINGS + 1)
    middle = np.zeros(which.size, dtype=np.intp)
    step = 1
    open_ = np.arange(which.size)
    while open_.size:
        at = which[open_]
        x = np.ldexp(unit[at], middle[open_])
        more = excess(x, *(item[at] for item in items)) > 0
        low[open_[more]] = middle[open_[more]]
        high[open_[~more]] = middle[open_[~more]]
        # Strides that double, until the answer lies between two powers; then halves of what is between.
        middle = (low + high) // 2
        middle = np.where(high > _DOUBLINGS, np.minimum(low + step, _DOUBLINGS), middle)
        middle = np.where(low < -_DOUBLINGS, np.maximum(high - step, -_DOUBLINGS), middle)
        step *= 2
        open_ = open_[high[open_] - low[open_] > 1]
    return low, high
