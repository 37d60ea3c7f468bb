"""What happens on a platform, for every set of users who may have joined it.

Sets of users are masks: bit i of a row's number says whether user i is in the set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.data_externality.exact import equilibrium_sharing_of_all
from mechopt.formulations.data_externality.leakage import leak_table, subsets
from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.model import DataExternality

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

MOST_USERS = 14
"""Users up to which every set of them is looked at."""

MOST_PROFILES = 2**20
"""Joining profiles up to which all are looked at."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Outcomes of stages 2 and 3 by the set of users who joined a platform.

    Attributes
    ----------
    members : array of bool, shape (2**n_users, n_users)
        The sets.
    sharing : array of int, shape (2**n_users,)
        Mask of those whose data the platform buys.
    leaked : array, shape (2**n_users, n_users)
        Information about each user that leaks to it.
    payoff : array, shape (2**n_users, n_users)
        What members get from it, eq. (4) (money); 0 for others.
    data_surplus : array, shape (2**n_users,)
        What it adds to the surplus from data: by members, and by the spillover's weight from others (money).
    service : array, shape (2**n_users,)
        What its service is worth to all members together (money).
    """

    members: BoolArray
    sharing: IntArray
    leaked: Array
    payoff: Array
    data_surplus: Array
    service: Array


def refuse_many(n_users: int, what: str) -> None:
    """Refuse to enumerate, with the ways round."""
    if n_users > MOST_USERS:
        raise InvalidInput(
            f"{what} looks at all 2^{n_users} sets of {n_users} users, and does so for at most {MOST_USERS}; "
            "sample_mixed estimates the surplus, find_equilibrium follows deviations, and "
            "ExchangeableGroups counts users who are alike"
        )


def outcomes(model: DataExternality) -> Tables:
    """Compute the outcome on a platform for every set of users."""
    n, value, spillover = model.n_users, model.value_of_privacy, model.spillover
    members = subsets(n)
    scaled = leak_table(model.scaled_covariance)
    sharing = equilibrium_sharing_of_all(model.scaled_covariance, value, spillover, table=scaled)
    table = model.noise_variance * scaled
    leaked = table[sharing]
    user = np.arange(n)
    # I_i(0, a_-i): what leaks about i if i, alone of all, does not share.
    uncompensated = table[sharing[:, None] & ~(1 << user), user]
    service = np.array(
        [
            [model.service(i, joined) for i in range(n)]
            for joined in (frozenset(np.flatnonzero(row).tolist()) for row in members)
        ]
        if callable(model.joining_utility)
        else members * [model.service(i, frozenset({i})) for i in range(n)]
    )
    weight = np.where(members, 1.0, spillover)
    return Tables(
        members=members,
        sharing=sharing,
        leaked=leaked,
        payoff=np.where(members, service - value * uncompensated, 0.0),
        data_surplus=np.einsum("ji,ji,i->j", weight, leaked, 1 - value),
        service=service.sum(axis=1),
    )


def partitions(n_users: int, n_platforms: int) -> IntArray:
    """Joining profiles in which all join, one for each way to divide the users.

    Platforms are alike, so that only who is with whom matters; user 0 is on platform 1, and a platform is
    used only if all of lower number are.

    Returns
    -------
    array of int, shape (n_profiles, n_users)
        Platforms 1 to ``n_platforms``.
    """
    rows = np.ones((1, 1), dtype=np.int64)
    for _ in range(1, n_users):
        used = rows.max(axis=1)
        rows = np.concatenate(
            [
                np.column_stack([rows[used + 1 >= label], np.full(int((used + 1 >= label).sum()), label)])
                for label in range(1, n_platforms + 1)
            ]
        )
        if len(rows) > MOST_PROFILES:
            raise InvalidInput(
                f"{n_users} users can be divided among {n_platforms} platforms in more than {MOST_PROFILES} "
                "ways, too many to look at; take fewer users or platforms, or use find_equilibrium"
            )
    return rows


def masks_of(joining: IntArray, n_platforms: int) -> IntArray:
    """Mask of the users of each platform, shape (n_profiles, n_platforms)."""
    bits = 1 << np.arange(joining.shape[1])
    return np.stack([(joining == label) @ bits for label in range(1, n_platforms + 1)], axis=1)


def probability_of_sets(probability: Array) -> Array:
    """Probability of every set, shape (2**n_users,), if each user is in it with a probability of its own."""
    chance = np.ones(1)
    for p in probability:
        chance = np.concatenate([chance * (1 - p), chance * p])
    return chance
