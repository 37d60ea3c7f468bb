"""What is best for all in a market of several platforms, and bounds of what its mixed equilibrium gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations import checks
from mechopt.formulations.data_externality.duopoly.tables import (
    masks_of,
    partitions,
    probability_of_sets,
    refuse_many,
)
from mechopt.formulations.data_externality.leakage import leak_table, posterior_variances, subsets
from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.model import DataExternality

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

MOST_LOW = 20
"""Users of low value up to which the expectation over all sets of them is taken."""


@dataclass(frozen=True, eq=False)
class FirstBest:
    """Joining and sharing profiles of most social surplus, all users on some platform.

    Attributes
    ----------
    joining : array of int, shape (n_users,)
        Platform of each user, from 1.
    sharing : array of bool, shape (n_users,)
        Who shares with the platform joined.
    social_surplus : float
        (money)
    data_surplus : float
        Without services (money).
    """

    joining: IntArray
    sharing: BoolArray
    social_surplus: float
    data_surplus: float

    def __repr__(self) -> str:
        users = np.flatnonzero(self.sharing).tolist()
        return (
            f"FirstBest(joining {self.joining.tolist()}, users {users} share, social surplus "
            f"{self.social_surplus:.6g}, data surplus {self.data_surplus:.6g})"
        )


def first_best(model: DataExternality, n_platforms: int = 2) -> FirstBest:
    """Find the joining and sharing profiles of most social surplus.

    Parameters
    ----------
    model : DataExternality
        Of at most 14 users.
    n_platforms : int

    Returns
    -------
    FirstBest
        Of profiles that are equally good, the one that uses the fewest platforms.

    Raises
    ------
    InvalidInput
        If there are too many users to look at all sets.
    """
    checks.count(n_platforms, "n_platforms")
    n = model.n_users
    data, chosen, service = best_for_sets(model)
    rows = partitions(n, n_platforms)
    masks = masks_of(rows, n_platforms)
    total = (data + service)[masks].sum(axis=1)
    good = np.flatnonzero(total >= total.max() - 1e-12 * np.abs(total).max())
    best = int(good[rows[good].max(axis=1).argmin()])
    return FirstBest(
        rows[best],
        subsets(n)[np.bitwise_or.reduce(chosen[masks[best]])],
        float(total[best]),
        float(data[masks[best]].sum()),
    )


def best_for_sets(model: DataExternality) -> tuple[Array, IntArray, Array]:
    """Find what is best for all on a platform, for every set of users who may have joined it.

    Returns
    -------
    data_surplus : array, shape (2**n_users,)
        What the platform adds, at most (money).
    sharing : array of int, shape (2**n_users,)
        Mask of who shares then.
    service : array, shape (2**n_users,)
        What its service is worth to all members together (money).
    """
    refuse_many(model.n_users, "the first best")
    table = model.noise_variance * leak_table(model.scaled_covariance)
    members = subsets(model.n_users)
    gain = 1 - model.value_of_privacy
    data, sharing = np.empty(len(members)), np.empty(len(members), dtype=np.int64)
    service = np.zeros(len(members))
    for mask, inside in enumerate(members):
        joined = frozenset(np.flatnonzero(inside).tolist())
        within = np.zeros(1, dtype=np.int64)
        for user in joined:
            within = np.concatenate([within, within | 1 << user])
        surplus = table[within] @ (gain * np.where(inside, 1.0, model.spillover))
        best = int(surplus.argmax())
        data[mask], sharing[mask] = surplus[best], within[best]
        service[mask] = sum(model.service(user, joined) for user in joined)
    return data, sharing, service


def surplus_bound(model: DataExternality, n_platforms: int = 2) -> float:
    r"""Bound the mixed equilibrium's social surplus from above: Theorems 4 and 7, corrected (money).

    .. math:: \sum_i c_i(V) + (1 + (K-1) \alpha) \Big[\sum_{v_i \le 1} (1 - v_i) I_i(V)
              - \sum_{v_i > 1} (v_i - 1) \, \mathrm{E}_R I_i(R)\Big]

    with R a random set of users of low value, each in it with probability 1/K. The paper has
    :math:`I_i(V^l)/2` for the expectation; that is smaller only if information about i is submodular, as for
    types that are MTP2, and not for others.

    Parameters
    ----------
    model : DataExternality
        Of at most 20 users of low value. Services must not fall when others join.
    n_platforms : int

    Returns
    -------
    float

    Raises
    ------
    InvalidInput
        If there are more than 20 users of low value.
    """
    checks.count(n_platforms, "n_platforms", least=2)
    low = model.low_value
    if low.size > MOST_LOW:
        raise InvalidInput(
            f"surplus_bound looks at all sets of {low.size} users of low value, and does so for at most "
            f"{MOST_LOW}; ExchangeableGroups counts users who are alike"
        )
    scaled = model.scaled_covariance
    variance = posterior_variances(scaled, low)
    chance = probability_of_sets(np.full(low.size, 1 / n_platforms))
    expected = model.noise_variance * (np.diag(scaled) - chance @ variance)
    return _services(model) + _data_bound(model, expected, n_platforms)


def printed_surplus_bound(model: DataExternality) -> float:
    r"""Bound of Theorems 4 and 7 as printed, for two platforms (money): it is not one.

    .. math:: (1 + \alpha) \Big[\sum_{v_i \le 1} (1 - v_i) I_i(V)
              - \tfrac12 \sum_{v_i > 1} (v_i - 1) I_i(V^l)\Big]

    Services are left out, so that it is about the data surplus, which it does not bound in general either.
    """
    return _data_bound(model, model.leaked_information(model.value_of_privacy <= 1) / 2, 2)


def _data_bound(model: DataExternality, harm: Array, n_platforms: int) -> float:
    value = model.value_of_privacy
    everything = model.leaked_information(np.ones(model.n_users))
    gained = np.where(value <= 1, (1 - value) * everything, 0.0).sum()
    lost = np.where(value > 1, (value - 1) * harm, 0.0).sum()
    return float((1 + (n_platforms - 1) * model.spillover) * (gained - lost))


def _services(model: DataExternality) -> float:
    everyone = frozenset(range(model.n_users))
    return sum(model.service(user, everyone) for user in everyone)
