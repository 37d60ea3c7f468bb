"""All sets of users who may share, in blocks, at a cost of O(n_users) a set."""

from __future__ import annotations

import numpy as np

from mechopt.formulations.data_externality.exact.problem import (
    Array,
    BoolArray,
    Incumbents,
    IntArray,
    Purchase,
)
from mechopt.formulations.data_externality.leakage import add_user, posterior_variances

BLOCK = 12
"""Users whose subsets are made at once; the arrays of a block stay in the processor's cache."""


def enumerate_sets(
    problem: Purchase, found: Incumbents, posterior: Array, sharing: BoolArray, free: IntArray
) -> int:
    """Offer every set that adds some of the free users to those who share.

    Users are decided one by one, and the last `BLOCK` of them together. Their posterior variances come from
    updates of which each is shared by all sets that agree on the users before; this is what a Gray code does
    not do, whose every step updates a whole matrix.

    Parameters
    ----------
    problem : Purchase
    found : Incumbents
    posterior : array, shape (n_users, n_users)
        Given the data of those who share.
    sharing : array of bool, shape (n_users,)
    free : array of int, shape (n_free,)

    Returns
    -------
    int
        Number of sets.
    """
    bits = subsets(min(BLOCK, free.size))
    return _descend(problem, found, posterior, sharing, free, bits)


def subsets(n_items: int) -> BoolArray:
    """All subsets, shape (2**n_items, n_items); bit b of the row's number is column b."""
    return (np.arange(2**n_items)[:, None] >> np.arange(n_items) & 1).astype(bool)


def _descend(
    problem: Purchase,
    found: Incumbents,
    posterior: Array,
    sharing: BoolArray,
    free: IntArray,
    bits: BoolArray,
) -> int:
    if not problem.may_permit(sharing, _together(sharing, free)):
        return 0
    if free.size > BLOCK:
        user, rest = free[0], free[1:]
        with_user = sharing.copy()
        with_user[user] = True
        return _descend(problem, found, add_user(posterior, user), with_user, rest, bits) + _descend(
            problem, found, posterior, sharing, rest, bits
        )
    sets = np.repeat(sharing[None], len(bits), axis=0)
    sets[:, free] = bits
    profits = problem.profit_of_variances(posterior_variances(posterior, free), sets)
    found.offer(np.where(problem.permits(sets), profits, -np.inf), sets)
    return len(sets)


def _together(sharing: BoolArray, free: IntArray) -> BoolArray:
    everybody = sharing.copy()
    everybody[free] = True
    return everybody
