"""The platform's optimum for every set of users who may have joined, from one table of leaks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.data_externality.exact.problem import Array, rounding
from mechopt.formulations.data_externality.leakage import leak_table
from mechopt.solvers.errors import InvalidInput

Masks = NDArray[np.int64]

MOST_USERS = 16
"""Users up to which every set of them is solved."""


def equilibrium_sharing_of_all(
    covariance: Array, value: Array, spillover: float = 0.0, *, table: Array | None = None
) -> Masks:
    """Find who shares, for every set of users who joined; ties are broken as in `platform_optimum`.

    For each set all its users of low value share, and each subset of those of high value is tried: in all
    2^(number of low) 3^(number of high) pairs of who joined and who shares.

    Parameters
    ----------
    covariance : array, shape (n_users, n_users)
        In units of the noise; of at most 16 users.
    value : array, shape (n_users,)
        Values of privacy, >= 0.
    spillover : float
        Weight of information about users who did not join, in [0, 1].
    table : array, shape (2**n_users, n_users), optional
        Of `leak_table`, if it is at hand.

    Returns
    -------
    array of int, shape (2**n_users,)
        Mask of who shares, by mask of who joined.

    Examples
    --------
    >>> covariance = np.array([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]])
    >>> sharing = equilibrium_sharing_of_all(covariance, np.array([0.5, 1.3, 3.0]))
    >>> [f"{mask:03b}" for mask in sharing]
    ['000', '001', '000', '011', '000', '001', '000', '011']
    """
    n_users = len(covariance)
    if n_users > MOST_USERS:
        raise InvalidInput(
            f"every set of {n_users} users is too many to solve (at most {MOST_USERS} users); solve single "
            "ones with platform_optimum"
        )
    leaks = leak_table(covariance) if table is None else table
    costs = payments(covariance, value, leaks).sum(axis=1)
    masks = np.arange(2**n_users)
    member = (masks[:, None] >> np.arange(n_users) & 1).astype(bool)
    size = member.sum(axis=1)
    low = int(np.sum(masks[1] << np.flatnonzero(value <= 1)))
    backwards = _reversed(n_users)
    tie = rounding(covariance)
    shared = np.empty(2**n_users, dtype=np.int64)
    subsets: dict[int, Masks] = {}
    for joined in range(2**n_users):
        high = joined & ~low
        if high not in subsets:
            subsets[high] = _subsets(high)
        sets = subsets[high] | (joined & low)
        weight = np.where(member[joined], 1.0, spillover)
        profit = leaks[sets] @ weight - costs[sets]
        tied = sets[profit >= profit.max() - tie]
        # The largest, then the one with the users of lowest number.
        shared[joined] = tied[np.lexsort((-backwards[tied], -size[tied]))[0]]
    return shared


def payments(covariance: Array, value: Array, leaks: Array) -> Array:
    """Least payments to those who share, for every set of them; shape (2**n_users, n_users)."""
    n_users = len(covariance)
    masks, bits = np.arange(2**n_users)[:, None], 1 << np.arange(n_users)
    # Variances given the others' data, which are far from what would cancel.
    left = np.diag(covariance) - np.take_along_axis(leaks, masks & ~bits, axis=0)
    return np.where(masks & bits, value * left**2 / (1 + left), 0.0)


def _subsets(mask: int) -> Masks:
    """All masks within a mask."""
    found = np.zeros(1, dtype=np.int64)
    for bit in range(mask.bit_length()):
        if mask >> bit & 1:
            found = np.concatenate([found, found | 1 << bit])
    return found


def _reversed(n_users: int) -> Masks:
    """Masks with user 0 in the highest bit, by mask."""
    found = np.zeros(1, dtype=np.int64)
    for user in range(n_users):
        found = np.concatenate([found, found | 1 << (n_users - 1 - user)])
    return found
