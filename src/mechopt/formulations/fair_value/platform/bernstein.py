r"""Global maxima and roots on [0, 1] of polynomials in the Bernstein basis, with certified bounds.

A polynomial lies between its least and its greatest coefficient, and a ratio of two between the least and
the greatest ratio of coefficients, if those below are positive. De Casteljau's subdivision halves the
interval and brings both within a quarter of their distance: branch and bound on that is exact to rounding.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import lru_cache
from math import lgamma

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Array = NDArray[np.float64]

FEW_DEGREES = 8
"""So many degrees are raised one by one, without a table of all pairs."""

TABLED_DEGREE = 512
"""Degree up to which the weights of halving are kept (2 MB)."""

NARROW = 1e-13
"""Intervals of this width are not divided further."""


@dataclass(frozen=True)
class Maximum:
    """A global maximum on an interval.

    Attributes
    ----------
    value, at : float
        The best value found, and where; -inf and NaN if no point was allowed.
    bound : float
        No value is larger.
    n_splits : int
        Intervals divided.
    """

    value: float
    at: float
    bound: float
    n_splits: int

    @property
    def gap(self) -> float:
        """What the bound leaves open."""
        return self.bound - self.value


def split(coefficients: Array, at: float = 0.5) -> tuple[Array, Array]:
    """Return the coefficients on both parts of the interval; de Casteljau's scheme along the last axis."""
    rows = np.array(coefficients, dtype=float)
    last = rows.shape[-1] - 1
    if at == 0.5 and last <= TABLED_DEGREE:
        weights = _halving(last)
        return rows @ weights, (rows[..., ::-1] @ weights)[..., ::-1]
    left, right = np.empty_like(rows), np.empty_like(rows)
    for step in range(last + 1):
        left[..., step] = rows[..., 0]
        right[..., last - step] = rows[..., -1]
        rows = (1 - at) * rows[..., :-1] + at * rows[..., 1:]
    return left, right


@lru_cache(maxsize=8)
def _halving(degree: int) -> Array:
    """Weights of the coefficients (rows) in those on the left half (columns): binomial, none negative."""
    weights = np.zeros((degree + 1, degree + 1))
    weights[0, 0] = 1.0
    for step in range(1, degree + 1):
        weights[:, step] = weights[:, step - 1] / 2
        weights[1:, step] += weights[:-1, step - 1] / 2
    return weights


def restrict(coefficients: Array, low: float, high: float) -> Array:
    """Return the coefficients on [low, high], a part of [0, 1]."""
    kept = np.array(coefficients, dtype=float)
    if low > 0:
        kept = split(kept, low)[1]
    if high < 1:
        kept = split(kept, (high - low) / (1 - low) if low < 1 else 1.0)[0]
    return kept


def product(first: Array, second: Array) -> Array:
    """Return the coefficients of the product of two polynomials."""
    m, n = first.size - 1, second.size - 1
    i, j = np.arange(m + 1)[:, None], np.arange(n + 1)
    # C(m,i) C(n,j) / C(m+n,i+j): how i + j successes of m + n draws fall on the first m.
    log = _log_binomial(m, i) + _log_binomial(n, j) - _log_binomial(m + n, i + j)
    weighted = np.exp(log) * first[:, None] * second
    return np.bincount((i + j).ravel(), weighted.ravel(), m + n + 1).astype(float)


def _log_binomial(n: int, k: Array | NDArray[np.int_]) -> Array:
    return np.asarray(lgamma(n + 1) - gammaln(np.asarray(k) + 1) - gammaln(n - np.asarray(k) + 1))


def raised(coefficients: Array, degree: int) -> Array:
    """Return the coefficients of the same polynomial in a higher degree."""
    more = degree - (coefficients.size - 1)
    if more > FEW_DEGREES:
        return product(coefficients, np.ones(more + 1))
    for size in range(coefficients.size, degree + 1):
        weight = np.arange(size + 1) / size
        coefficients = weight * np.append(0.0, coefficients) + (1 - weight) * np.append(coefficients, 0.0)
    return coefficients


def derivative(coefficients: Array) -> Array:
    """Return the coefficients of the derivative, one degree lower."""
    return (coefficients.size - 1) * np.diff(coefficients)


def maximise(
    numerator: Array,
    denominator: Array | None = None,
    *,
    allowed: tuple[Array, ...] = (),
    low: float = 0.0,
    high: float = 1.0,
    tolerance: float = 1e-10,
    at_least: float = -np.inf,
    max_splits: int = 100_000,
) -> Maximum:
    """Maximise a ratio of two polynomials over the part of [low, high] where others are >= 0.

    Parameters
    ----------
    numerator : array, shape (degree + 1,)
    denominator : array, shape (degree + 1,), optional
        Positive wherever the point is allowed; 1 by default.
    allowed : tuple of arrays
        Polynomials that must be >= 0, of any degree.
    low, high : float
        The interval, in [0, 1].
    tolerance : float
        Absolute distance between bound and value at which to stop.
    at_least : float
        Stop where nothing can be better than this value.
    max_splits : int
        A limit; the bound is then as good as it has become.

    Returns
    -------
    Maximum
    """
    degree = max(
        part.size - 1 for part in (numerator, *allowed, *([] if denominator is None else [denominator]))
    )
    ones = np.ones(degree + 1)
    rows = np.stack(
        [raised(numerator, degree), ones if denominator is None else raised(denominator, degree)]
        + [raised(part, degree) for part in allowed]
    )
    rows = restrict(rows, low, high)
    best, at = -np.inf, np.nan
    fresh = 0
    heap: list[tuple[float, int, float, float, Array]] = []

    def enter(left: float, right: float, part: Array) -> None:
        nonlocal best, at, fresh
        for point, column in ((left, part[:, 0]), (right, part[:, -1])):
            if np.all(column[2:] >= 0) and column[1] > 0 and column[0] / column[1] > best:
                best, at = float(column[0] / column[1]), point
        if np.any(np.all(part[2:] < 0, axis=1)):
            return
        above = np.inf if np.any(part[1] <= 0) else float(np.max(part[0] / part[1]))
        fresh += 1
        heapq.heappush(heap, (-above, fresh, left, right, part))

    enter(low, high, rows)
    closed = -np.inf
    splits = 0
    while heap:
        above = -heap[0][0]
        if above <= max(best, at_least) + tolerance or splits >= max_splits:
            break
        _, _, left, right, part = heapq.heappop(heap)
        if right - left <= NARROW:
            # The constraint changes its sign here: what is allowed of it is at its ends already.
            if np.isfinite(above):
                closed = max(closed, above)
            continue
        middle = (left + right) / 2
        for half, ends in zip(split(part), ((left, middle), (middle, right)), strict=True):
            enter(*ends, half)
        splits += 1
    rest = -heap[0][0] if heap else -np.inf
    return Maximum(best, at, max(best, closed, rest), splits)


def roots(coefficients: Array, *, flat: float = 1e-14) -> tuple[float, ...]:
    """Return the roots in [0, 1] at which a polynomial changes its sign or touches zero, in order.

    The number of roots in an interval is at most the number of sign changes of the coefficients, and exactly
    one for one change. Intervals with more are halved; what is still undecided at a width of 1e-13 is a
    multiple root, to rounding. Coefficients below ``flat`` of the largest count as zero.
    """
    size = flat * float(np.max(np.abs(coefficients), initial=0.0))
    if size == 0:
        return ()
    found: list[float] = []
    pending = [(0.0, 1.0, np.asarray(coefficients, dtype=float))]
    while pending:
        left, right, part = pending.pop()
        for point, value in ((left, part[0]), (right, part[-1])):
            if abs(value) <= size:
                found.append(point)
        signs = np.sign(np.where(np.abs(part) <= size, 0.0, part))
        changes = int(np.sum(np.diff(signs[signs != 0]) != 0))
        if changes == 0:
            continue
        if right - left <= NARROW:
            found.append((left + right) / 2)
            continue
        first, second = split(part)
        middle = (left + right) / 2
        pending += [(left, middle, first), (middle, right, second)]
    found.sort()
    return tuple(x for i, x in enumerate(found) if i == 0 or x - found[i - 1] > 1e3 * NARROW)


def after_subdivision(coefficients: Array, pieces: int) -> Array:
    """Return the coefficients on equal parts of [0, 1], one row a part: all are bounds on the polynomial.

    Parameters
    ----------
    coefficients : array, shape (degree + 1,)
    pieces : int
        Number of parts.

    Returns
    -------
    array, shape (pieces, degree + 1)
    """
    rows = []
    rest = np.asarray(coefficients, dtype=float)
    for left in range(pieces, 0, -1):
        first, rest = split(rest, 1 / left) if left > 1 else (rest, rest)
        rows.append(first)
    return np.array(rows)
