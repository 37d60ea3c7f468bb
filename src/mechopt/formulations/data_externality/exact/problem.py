"""The platform's choice as the exact algorithms see it: whose data to buy, and what it earns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.data_externality.leakage import leaked_information, posterior_and_doubt

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]

TIE = 1e-10
"""Profits that count as equal, relative to the most that can leak."""

LOST = 64 * np.finfo(float).eps
"""What the arithmetic may lose of profits, relative to the sum of variances."""

ROW = 1e-9
"""By how much a limit may be passed for rounding."""

MOST_TIES = 4096
"""Ties that are kept: with interchangeable users there may be very many."""


@dataclass(frozen=True, eq=False)
class Purchase:
    r"""Maximise what a platform earns over sets A of users.

    .. math:: \sum_i \omega_i I_i(A) - \sum_{i \in A} (v_i h_i(A \setminus i) + \tau_i)

    Here :math:`h_i = s^2/(1+s)`, with s the variance of user i given the others' data, is what the user's own
    data tell about it: the least payment for them is :math:`v_i h_i`.

    Attributes
    ----------
    covariance : array, shape (n_users, n_users)
        In units of the noise.
    value : array, shape (n_users,)
        Values of privacy.
    weight : array, shape (n_users,)
        What information about each user is worth to the platform: 1 of those who joined.
    tax : array, shape (n_users,)
        What the platform pays to others for each user who shares, >= 0.
    required : array of bool, shape (n_users,)
        Who shares at any rate.
    free : array of int
        Who may share or not, most wanted first; everybody else does not.
    at_most : int
        How many may share.
    rows, limits : array, shape (n_rows, n_users) and (n_rows,)
        Sets must have ``rows @ sharing <= limits``.
    """

    covariance: Array
    value: Array
    weight: Array
    tax: Array
    required: BoolArray
    free: IntArray
    at_most: int
    rows: Array
    limits: Array

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.covariance)

    @cached_property
    def tie(self) -> float:
        """Difference in profit that counts as none."""
        return rounding(self.covariance)

    @property
    def everybody(self) -> BoolArray:
        """All who may share."""
        allowed = self.required.copy()
        allowed[self.free] = True
        return allowed

    def permits(self, sets: BoolArray) -> BoolArray:
        """Whether sets, shape (n_sets, n_users), keep the limits on how many and who share together."""
        if self.at_most >= self.n_users and not self.limits.size:
            return np.ones(len(sets), dtype=bool)
        kept: BoolArray = sets.sum(axis=1) <= self.at_most
        kept &= np.all(sets @ self.rows.T <= self.limits + ROW, axis=1)
        return kept

    def may_permit(self, inside: BoolArray, allowed: BoolArray) -> bool:
        """Whether single limits leave room for a set between two; False is a proof that there is none."""
        least = np.where(self.rows > 0, inside, allowed) * self.rows
        return bool(inside.sum() <= self.at_most and np.all(least.sum(axis=1) <= self.limits + ROW))

    def profit_of(self, variances: Array, doubts: Array) -> Array:
        """Profit of sets, shape (n_sets,), from what `variances_and_doubts` returns.

        Of those who do not share the doubt is 1, and the payment 0.
        """
        gain = (np.diag(self.covariance) - variances) @ self.weight
        shares = doubts < 1
        paid = np.where(shares, variances, 0.0)
        paid *= paid
        paid /= doubts
        profit: Array = gain - paid @ self.value
        return profit - shares @ self.tax if self.tax.any() else profit

    def profit(self, sharing: BoolArray) -> Array:
        """Profit of sets, shape (..., n_users) to (...,), each computed from the beginning."""
        posterior, doubt = posterior_and_doubt(self.covariance, sharing)
        return self.profit_of(np.diagonal(posterior, axis1=-2, axis2=-1), doubt)


def rounding(covariance: Array) -> float:
    """Difference in profit that counts as none, in units of the noise.

    Where data are little but noise, what leaks is far below the variances; then so is what counts as none.
    """
    leaked = leaked_information(covariance, np.ones(len(covariance), dtype=bool))
    return max(TIE * float(leaked.sum()), LOST * float(np.trace(covariance)))


class Incumbents:
    """The best sets so far, and those as good."""

    def __init__(self, problem: Purchase) -> None:
        self.tie = problem.tie
        self.best = -np.inf
        self.complete = True
        self._found: dict[bytes, tuple[float, BoolArray]] = {}

    @property
    def sets(self) -> list[BoolArray]:
        """Sets within a tie of the best, in the order of `preference`."""
        kept = [sharing for profit, sharing in self._found.values() if profit >= self.best - self.tie]
        return sorted(kept, key=preference)

    def offer(self, profits: Array, sets: BoolArray) -> None:
        """Take up those of some sets that are good enough."""
        top = float(profits.max(initial=-np.inf))
        if top == -np.inf or top < self.best - self.tie:
            return
        self.best = max(self.best, top)
        for row in np.flatnonzero(profits >= self.best - self.tie):
            if len(self._found) >= MOST_TIES:
                self._forget_worse()
            if len(self._found) >= MOST_TIES:
                self.complete = False
                return
            self._found[sets[row].tobytes()] = (float(profits[row]), sets[row].copy())

    def _forget_worse(self) -> None:
        self._found = {key: pair for key, pair in self._found.items() if pair[0] >= self.best - self.tie}


def preference(sharing: BoolArray) -> tuple[int, Sequence[bool]]:
    """Order of sets that are equally good: the larger first, then by the users of lowest number."""
    return -int(sharing.sum()), tuple(np.logical_not(sharing).tolist())
