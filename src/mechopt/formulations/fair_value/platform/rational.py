r"""The platform's optimum in rational arithmetic: no rounding, for utilities that are fractions (floats are).

In a symmetric equilibrium the platform keeps J(q) = P(q) / W(q), and its best q is 0, 1, or a root of
:math:`P'W - PW'`. The distinct roots of a polynomial in an interval are counted by the changes of sign along
its Sturm chain; bisection then isolates each. At a root J lies between bounds that polynomials have on a
short interval from their Bernstein coefficients. Everything is a `fractions.Fraction`, and no code is shared
with the floating-point roads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import comb, gcd, lcm
from typing import Any

from mechopt.solvers.errors import NotApplicable

Poly = tuple[Fraction, ...]
"""Coefficients on 1, q, q², ... without trailing zeros; the empty tuple is 0."""

LARGEST = 24
"""Users up to which the numbers stay short enough for an answer in seconds."""

WIDTH = Fraction(1, 2**60)
"""Roots are told apart from everything else to this distance."""


@dataclass(frozen=True)
class Enclosure:
    """Rational bounds on the platform's optimum.

    Attributes
    ----------
    low, high : Fraction
        The platform's largest utility in a symmetric equilibrium is between them; equal where the optimum is
        at q = 0 or 1.
    at : tuple of two Fractions
        An interval that holds a best probability of sharing.
    n_stationary : int
        Distinct stationary points of J in (0, 1).
    """

    low: Fraction
    high: Fraction
    at: tuple[Fraction, Fraction]
    n_stationary: int


def platform_optimum(
    utility: Sequence[Any] | Callable[[int, int], Any], n_users: int, cost: Any
) -> Enclosure:
    """Enclose the largest utility that a symmetric equilibrium leaves to the platform.

    Parameters
    ----------
    utility : sequence of n_users + 1 numbers, or callable
        As for `PlatformPayments`: exact if they are integers, floats or Fractions.
    n_users : int
    cost : number
        c >= 0.

    Raises
    ------
    NotApplicable
        For more than 24 users.

    Examples
    --------
    >>> found = platform_optimum([0, Fraction(2, 3), 1], 2, Fraction(1, 2))
    >>> found.low <= Fraction(1, 12) <= found.high, float(found.high - found.low) < 1e-15
    (True, True)
    """
    if n_users > LARGEST:
        raise NotApplicable(
            f"rational arithmetic is for at most {LARGEST} users, got {n_users}; use 'branch_and_bound'"
        )
    price = Fraction(cost)
    profile, payoff = _coefficients(utility, n_users)
    worth, gamma = _from_bernstein(profile), _from_bernstein(payoff)
    surplus = _trimmed(_add(gamma, (-price,)))
    one: Poly = (Fraction(1),)
    if price == 0:
        surplus, numerator, weight = one, worth, one
    elif callable(utility):
        numerator, weight = _times(worth, surplus), gamma
    else:
        # gamma = U / (N q), so that J = U - N c q.
        numerator, weight = _trimmed(_add(worth, (Fraction(0), -n_users * price))), one
    start, end = Fraction(0), Fraction(1)
    best = Enclosure(profile[0], profile[0], (start, start), 0)
    if _value(surplus, end) >= 0:
        last = _value(numerator, end) / _value(weight, end)
        if last > best.high:
            best = Enclosure(last, last, (end, end), 0)
    slope = _add(_times(_slope(numerator), weight), _times(numerator, _slope(weight)), -1)
    stationary = _isolate(_trimmed(slope))
    for left, right in stationary:
        if _range(surplus, left, right)[1] < 0:
            continue  # alpha would exceed 1
        bottom, top = _range(weight, left, right)
        low, high = _range(numerator, left, right)
        if bottom > 0:
            low, high = min(low / bottom, low / top), max(high / bottom, high / top)
        else:  # a cost below the width of the interval: the platform keeps no more than all
            low, high = best.low, _range(worth, left, right)[1]
        if high > best.high:
            best = Enclosure(max(low, best.low), high, (left, right), 0)
    return Enclosure(best.low, best.high, best.at, len(stationary))


def _coefficients(utility: Any, n: int) -> tuple[list[Fraction], list[Fraction]]:
    """Bernstein coefficients of U(q) and gamma(q)."""
    if not callable(utility):
        profile = [Fraction(value) for value in utility]
        return profile, [profile[k + 1] / (k + 1) for k in range(n)]
    worth = {(a, b): Fraction(utility(a, b)) for a in range(n + 1) for b in range(n + 1 - a)}
    payoff = []
    for k in range(n):
        # A random coalition of s others, k of whose population of n - 1 share, has j sharers.
        total = Fraction(0)
        for s in range(n):
            for j in range(max(0, s - (n - 1 - k)), min(k, s) + 1):
                chance = Fraction(comb(k, j) * comb(n - 1 - k, s - j), comb(n - 1, s))
                total += chance * (worth[s - j, j + 1] - worth[s - j + 1, j])
        payoff.append(total / n)
    return [worth[n - k, k] for k in range(n + 1)], payoff


# ------------------------------------------------------------------ polynomials


def _trimmed(values: Sequence[Fraction]) -> Poly:
    last = len(values)
    while last and values[last - 1] == 0:
        last -= 1
    return tuple(values[:last])


def _add(first: Sequence[Fraction], second: Sequence[Fraction], sign: int = 1) -> list[Fraction]:
    size = max(len(first), len(second))
    pad = [*first, *[Fraction(0)] * (size - len(first))]
    for k, value in enumerate(second):
        pad[k] += sign * value
    return pad


def _times(first: Sequence[Fraction], second: Sequence[Fraction]) -> Poly:
    if not first or not second:
        return ()
    found = [Fraction(0)] * (len(first) + len(second) - 1)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            found[i + j] += a * b
    return _trimmed(found)


def _slope(poly: Sequence[Fraction]) -> Poly:
    return tuple(k * value for k, value in enumerate(poly))[1:]


def _value(poly: Sequence[Fraction], at: Fraction) -> Fraction:
    total = Fraction(0)
    for value in reversed(poly):
        total = total * at + value
    return total


def _from_bernstein(values: Sequence[Fraction]) -> Poly:
    n, row, found = len(values) - 1, list(values), []
    for k in range(n + 1):
        found.append(comb(n, k) * row[0])
        row = [b - a for a, b in pairwise(row)]
    return _trimmed(found)


def _range(poly: Poly, left: Fraction, right: Fraction) -> tuple[Fraction, Fraction]:
    """Bounds on an interval: the least and the largest Bernstein coefficient there."""
    shifted = list(poly)
    for start in range(len(poly)):  # synthetic division by q - left, again and again
        for k in range(len(poly) - 2, start - 1, -1):
            shifted[k] += left * shifted[k + 1]
    scaled = [value * (right - left) ** k for k, value in enumerate(shifted)]
    n = max(len(scaled) - 1, 0)
    found = [
        sum((Fraction(comb(k, i), comb(n, i)) * scaled[i] for i in range(k + 1)), Fraction(0))
        for k in range(n + 1)
        if scaled
    ] or [Fraction(0)]
    return min(found), max(found)


def _primitive(poly: Poly) -> Poly:
    """The same up to a positive factor, with whole coefficients that have none in common."""
    size = lcm(*(value.denominator for value in poly))
    whole = [int(value * size) for value in poly]
    common = gcd(*whole)
    return tuple(Fraction(value // common) for value in whole)


def _remainder(first: Poly, second: Poly) -> Poly:
    rest = list(first)
    while len(rest) >= len(second):
        factor, shift = rest[-1] / second[-1], len(rest) - len(second)
        for k, value in enumerate(second):
            rest[shift + k] -= factor * value
        rest = list(_trimmed(rest[:-1]))
    return tuple(rest)


def _sturm(poly: Poly) -> list[Poly]:
    chain = [_primitive(poly)]
    following = _slope(chain[0])
    while following:
        chain.append(_primitive(following))
        following = tuple(-value for value in _remainder(chain[-2], chain[-1]))
    return chain


def _changes(chain: Sequence[Poly], at: Fraction) -> int:
    signs = [value > 0 for poly in chain if (value := _value(poly, at)) != 0]
    return sum(a != b for a, b in pairwise(signs))


def _isolate(poly: Poly) -> list[tuple[Fraction, Fraction]]:
    """Short intervals with one distinct root each, of those in (0, 1)."""
    zero, one = Fraction(0), Fraction(1)
    for root in (zero, one):  # the chain does not count at a multiple root
        while len(poly) > 1 and _value(poly, root) == 0:
            poly = _divided(poly, root)
    if len(poly) < 2:
        return []
    chain = _sturm(poly)
    found, pending = [], [(zero, one, _changes(chain, zero), _changes(chain, one))]
    while pending:
        left, right, before, after = pending.pop()
        if before == after:
            continue
        if before - after == 1 and right - left <= WIDTH:
            found.append((left, right))
            continue
        middle = (left + right) / 2
        step = (right - left) / 7
        while _value(poly, middle) == 0:  # cut beside a root, not through it
            middle += step
            step /= 7
        between = _changes(chain, middle)
        pending += [(left, middle, before, between), (middle, right, between, after)]
    return sorted(found)


def _divided(poly: Poly, root: Fraction) -> Poly:
    """Take out a factor q - root."""
    found, carry = [], Fraction(0)
    for value in reversed(poly[1:]):
        carry = carry * root + value
        found.append(carry)
    return _trimmed(found[::-1])
