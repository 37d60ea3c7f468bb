r"""Utility of users who are interchangeable: by how many chose each of two privacy levels.

With k of the N users at the less private level the platform's data are worth ``profile[k]``. The fair value
of a user when k *others* share is ``private_value[k]`` at the private level and ``sharing_value[k]`` at the
other; their difference is ``relative_payoff[k]``. If every user shares with probability q, expectations are
polynomials in q whose coefficients in the Bernstein basis are these numbers:

.. math:: U(q) = \sum_k U_k B_{k,N}(q), \qquad \gamma(q) = \sum_k \gamma_k B_{k,N-1}(q).
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.solvers.errors import InvalidInput

Array = NDArray[np.float64]
CountUtility = Callable[[int, int], float]
"""Utility of ``n_private`` users at the more private level and ``n_sharing`` at the less private one."""

LARGEST_GRID = 2000
"""Users up to which a utility of two counts is tabulated: N² / 2 calls."""

ROUNDING = 1e-12
"""Differences of utilities below this part of the largest utility are rounding."""


@dataclass(frozen=True, eq=False)
class ExchangeableUtility:
    """A utility of counts, and the fair values that follow from it.

    Attributes
    ----------
    profile : array, shape (n_users + 1,)
        Utility when k users share and all others are at the private level.
    private_value, sharing_value : array, shape (n_users,)
        Fair value of a user at either level when k others share (Theorem 2, without the payment share).
    relative_payoff : array, shape (n_users,)
        Their difference: Bernstein coefficients of gamma.
    sharing_only : bool
        Whether data at the private level are worth nothing (its epsilon is 0).
    monotone : bool
        Assumption 1, weakly: no user's data make the utility less, nor does less privacy.
    diminishing : bool
        Assumption 2, weakly, among coalitions of one size: what a user adds by sharing falls in the sharers.
        As printed, (20) compares coalitions of all sizes, and no concave utility of sharers alone meets it.
    """

    profile: Array
    private_value: Array
    sharing_value: Array
    relative_payoff: Array
    sharing_only: bool
    monotone: bool
    diminishing: bool

    @property
    def n_users(self) -> int:
        """Number of users, N."""
        return int(self.relative_payoff.size)

    @property
    def decreasing(self) -> bool:
        """Whether the relative payoff falls strictly as more others share."""
        return bool(np.all(np.diff(self.relative_payoff) < -ROUNDING * np.max(np.abs(self.profile))))

    @property
    def increasing(self) -> bool:
        """Whether the relative payoff never falls as more others share."""
        return bool(np.all(np.diff(self.relative_payoff) >= -ROUNDING * np.max(np.abs(self.profile))))


def exchangeable(utility: ArrayLike | CountUtility, n_users: int) -> ExchangeableUtility:
    """Tabulate a utility, check it, and compute the fair values.

    Parameters
    ----------
    utility : array, shape (n_users + 1,), or callable
        ``U(0), ..., U(N)`` by the number of sharers, where the private level is worth nothing; or
        ``utility(n_private, n_sharing)``.
    n_users : int

    Raises
    ------
    InvalidInput
        If a value is not finite or negative, nobody's data are worth something, or everybody's nothing.
    """
    if not callable(utility):
        return _of_sharers(checks.vector(utility, "utility"), n_users)
    if n_users > LARGEST_GRID:
        raise InvalidInput(
            f"n_users = {n_users}: a utility of two counts is tabulated up to {LARGEST_GRID} users; if data "
            "at the private level are worth nothing, give the array U(0), ..., U(N) instead"
        )
    try:
        utility(0, 0)
    except TypeError as error:
        raise InvalidInput(f"utility must take two counts, utility(n_private, n_sharing): {error}") from error
    table = np.zeros((n_users + 1, n_users + 1))
    for private in range(n_users + 1):
        for sharing in range(n_users + 1 - private):
            table[private, sharing] = _number(utility(private, sharing), f"utility({private}, {sharing})")
    _nothing_of_nothing(table[0, 0], "utility(0, 0)")
    reached = np.add.outer(np.arange(n_users + 1), np.arange(n_users + 1)) <= n_users
    if np.all(np.where(reached, table - table[:1], 0.0) == 0.0):
        return _of_sharers(table[0], n_users)
    return _of_counts(table, n_users)


def _number(value: Any, where: str) -> float:
    if type(value) is float and 0 <= value < np.inf:  # of thousands nearly all are
        return value
    real = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    if not (real and np.isfinite(float(value)) and float(value) >= 0):
        raise InvalidInput(f"{where} is {value!r}; payments are a share of it, so give a finite number >= 0")
    return float(value)


def _nothing_of_nothing(value: float, where: str) -> None:
    if value != 0:
        raise InvalidInput(
            f"{where} = {value:g} must be 0: fair payments share what data add to it; subtract it from all"
        )


def _something_to_share(profile: Array) -> None:
    if profile[-1] <= 0:
        raise InvalidInput(
            f"the utility of all {profile.size - 1} users sharing is {profile[-1]:g}: nothing to share"
        )


def _of_sharers(profile: Array, n_users: int) -> ExchangeableUtility:
    if profile.size != n_users + 1:
        raise InvalidInput(
            f"utility has {profile.size} entries for {n_users} users; give U(0), ..., U({n_users})"
        )
    bad = ~(np.isfinite(profile) & (profile >= 0))
    if np.any(bad):
        index = int(np.argmax(bad))
        _number(float(profile[index]), f"utility[{index}]")
    _nothing_of_nothing(float(profile[0]), "utility[0]")
    _something_to_share(profile)
    # Only sharers have value, and share it equally: the k + 1 of them have U(k + 1) among them.
    value = profile[1:] / np.arange(1, n_users + 1)
    size = ROUNDING * float(profile.max())
    marginal = np.diff(profile)
    return _frozen(
        profile,
        np.zeros(n_users),
        value,
        sharing_only=True,
        monotone=bool(np.all(marginal >= -size)),
        diminishing=bool(np.all(np.diff(marginal) <= size)),
    )


def _of_counts(table: Array, n_users: int) -> ExchangeableUtility:
    levels = np.arange(n_users + 1)
    profile = table[levels[::-1], levels]
    _something_to_share(profile)
    size = ROUNDING * float(np.max(table))
    private, sharing = np.zeros(1), np.zeros(1)
    monotone = diminishing = True
    for others in range(n_users):
        count = np.arange(others + 1)
        before = table[others - count, count]
        joins_privately = table[others - count + 1, count]
        joins_sharing = table[others - count, count + 1]
        # A random coalition of this size, of others who each share with probability q, has j sharers with the
        # binomial probability: Bernstein polynomials of degree `others`, raised one degree a step.
        private = (_raised(private) if others else private) + (joins_privately - before)
        sharing = (_raised(sharing) if others else sharing) + (joins_sharing - before)
        gains = joins_sharing - joins_privately
        monotone &= bool(np.all(joins_privately - before >= -size) and np.all(gains >= -size))
        diminishing &= bool(np.all(np.diff(gains) <= size))
    return _frozen(
        profile,
        private / n_users,
        sharing / n_users,
        sharing_only=False,
        monotone=monotone,
        diminishing=diminishing,
    )


def _raised(coefficients: Array) -> Array:
    """Bernstein coefficients of the same polynomial, one degree higher."""
    degree = coefficients.size
    weight = np.arange(degree + 1) / degree
    padded = np.concatenate([[0.0], coefficients, [0.0]])
    return np.asarray(weight * padded[:-1] + (1 - weight) * padded[1:])


def _frozen(
    profile: Array,
    private: Array,
    sharing: Array,
    *,
    sharing_only: bool,
    monotone: bool,
    diminishing: bool,
) -> ExchangeableUtility:
    payoff = sharing - private
    for array in (profile, private, sharing, payoff):
        array.setflags(write=False)
    return ExchangeableUtility(profile, private, sharing, payoff, sharing_only, monotone, diminishing)


def expectation(values: Array, probability: float) -> float:
    """Return the expected entry of ``values`` whose index is binomial: n draws, n + 1 entries.

    Parameters
    ----------
    values : array, shape (n + 1,)
        By the number of successes.
    probability : float
        Of each success, in [0, 1].

    Notes
    -----
    Weights are built from the mode outwards by their ratios, as far as they are seen in the sum: about
    ``20 sqrt(n)`` of them, without cancellation or overflow.
    """
    n = values.size - 1
    if probability <= 0 or n == 0:
        return float(values[0])
    if probability >= 1:
        return float(values[-1])
    reach = int(10 * np.sqrt(n * probability * (1 - probability))) + 40
    mode = min(int((n + 1) * probability), n)
    low, high = max(mode - reach, 0), min(mode + reach, n)
    odds = probability / (1 - probability)
    up = np.arange(mode, high)
    down = np.arange(mode, low, -1)
    above = np.cumprod((n - up) / (up + 1) * odds)
    below = np.cumprod(down / (n - down + 1) / odds)
    weights = np.concatenate([below[::-1], [1.0], above])
    return float(weights @ values[low : high + 1] / weights.sum())
