"""All sets of users who may share, in blocks, at a cost of O(n_users) a set."""

from __future__ import annotations

import numpy as np

from mechopt.formulations.data_externality.exact.problem import (
    BoolArray,
    Incumbents,
    IntArray,
    Purchase,
)
from mechopt.formulations.data_externality.leakage import (
    posterior_and_doubt,
    subsets,
    variances_and_doubts,
)

BLOCK = 12
"""Users whose subsets are made at once; the arrays of a block stay in the processor's cache."""


def enumerate_sets(problem: Purchase, found: Incumbents, sharing: BoolArray, free: IntArray) -> int:
    """Offer every set that adds some of the free users to those who share.

    Users are decided one by one, and the last `BLOCK` of them together. Their posterior variances come from
    updates of which each is shared by all sets that agree on the users before; this is what a Gray code does
    not do, whose every step updates a whole matrix.

    Parameters
    ----------
    problem : Purchase
    found : Incumbents
    sharing : array of bool, shape (n_users,)
    free : array of int, shape (n_free,)

    Returns
    -------
    int
        Number of sets.
    """
    together = sharing.copy()
    together[free] = True
    if not problem.may_permit(sharing, together):
        return 0
    if free.size > BLOCK:
        user, rest = free[0], free[1:]
        with_user = sharing.copy()
        with_user[user] = True
        return enumerate_sets(problem, found, with_user, rest) + enumerate_sets(problem, found, sharing, rest)
    bits = subsets(free.size)
    sets = np.repeat(sharing[None], len(bits), axis=0)
    sets[:, free] = bits
    posterior, doubt = posterior_and_doubt(problem.covariance, sharing)
    profits = problem.profit_of(*variances_and_doubts(posterior, doubt, free))
    found.offer(np.where(problem.permits(sets), profits, -np.inf), sets)
    return len(sets)
