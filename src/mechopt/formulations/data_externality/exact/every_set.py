"""The platform's optimum for every set of users who may have joined, from one table of leaks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.data_externality.exact.problem import Array, BoolArray, rounding
from mechopt.formulations.data_externality.leakage import leak_table, subsets
from mechopt.solvers.errors import InvalidInput

Masks = NDArray[np.int64]

BLOCK = 10
"""Users of whom all pairs of who joined and who shares are made at once, 3^10 at most."""

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
    # Profit if nobody joined, and what is added for each user who did.
    profit = spillover * leaks.sum(axis=1) - payments(covariance, value, leaks).sum(axis=1)
    gain = np.ascontiguousarray((1 - spillover) * leaks.T)
    # Of ties the largest, then the one with the users of lowest number.
    backwards = _reversed(n_users)
    preferred = subsets(n_users).sum(axis=1) << n_users | backwards
    tie = rounding(covariance)
    n_block = min(n_users, BLOCK)
    width, low = 2**n_block, value <= 1
    low_mask = int(low @ (1 << np.arange(n_users)))
    joined = _joined(low[:n_block])
    shared = np.empty(2**n_users, dtype=np.int64)
    for others in range(0, 2**n_users, width):
        # Who shares of the others who joined; then the pairs of the block, for each of these.
        fixed = (_subsets(others & ~low_mask) | (others & low_mask)) >> n_block
        start = profit.reshape(-1, width)[fixed]
        for user in range(n_block, n_users):
            if others >> user & 1:
                start += gain[user].reshape(-1, width)[fixed]
        found, sets = _profits(start, fixed, gain, low[:n_block])
        tied = found >= (_best(found, low[:n_block]) - tie)[joined]
        best = _best(np.where(tied, preferred[sets], 0), low[:n_block])
        shared[others : others + width] = backwards[best & (2**n_users - 1)]
    return shared


def _joined(low: BoolArray) -> Masks:
    """Who joined, for all pairs of who joined and who shares; user 0 varies fastest."""
    joined = np.zeros(1, dtype=np.int64)
    for is_low in low[::-1]:
        joined = (2 * joined[:, None] + np.array([0, 1] if is_low else [0, 1, 1])).ravel()
    return joined


def _profits(profit: Array, sets: Masks, gain: Array, low: BoolArray) -> tuple[Array, Masks]:
    """Profits of all pairs in a block, and who shares; shape (n_sets, n_pairs).

    User by user, from the last: one who did not join, one who joined and does not share, and one who does.
    Profits of all sets of the users before are carried along, which halve as the pairs double or treble.
    """
    n_sets = len(sets)
    for user in reversed(range(low.size)):
        out, into = np.moveaxis(profit.reshape(sets.size, 2, -1), 1, 0)
        more, most = np.moveaxis(gain[user].reshape(-1, 2, 2**user)[sets], 1, 0)
        parts = [out, into + most] if low[user] else [out, out + more, into + most]
        profit = np.stack(parts, axis=1)
        sets = (2 * sets[:, None] + np.array([0, 1] if low[user] else [0, 0, 1])).ravel()
    return profit.reshape(n_sets, -1), sets.reshape(n_sets, -1)


def _best(values: Any, low: BoolArray) -> Any:
    """Largest value over who shares, for each set of who joined; shape (2**n_users,)."""
    best = values.max(axis=0)
    for user, is_low in enumerate(low):
        best = best.reshape(-1, 2 if is_low else 3, 2**user)
        if not is_low:
            best = np.stack([best[:, 0], np.maximum(best[:, 1], best[:, 2])], axis=1)
    return best.ravel()


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
