"""The users' game at given prices: its lattice of equilibria, and prices at which it has only one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.data_externality.exact.problem import preference, rounding
from mechopt.formulations.data_externality.leakage import (
    leak_table,
    posterior_and_doubt,
    posterior_variances,
    subsets,
)
from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.model import DataExternality

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

INDIFFERENT = 1e-9
"""Payoffs between which a user is indifferent differ by no more, relative to the dearest data sold alone."""

MOST_ENUMERATED = 18
"""Users up to which all sets are gone through."""


def thresholds(model: DataExternality, sharing: BoolArray) -> Array:
    r"""Return the least payment for which each user shares, given what the others do.

    .. math:: v_i \, (I_i(1, a_{-i}) - I_i(0, a_{-i})) = v_i \, s^2 / (1 + s)

    with s the posterior variance given the others' data, in units of the noise.

    Parameters
    ----------
    model : DataExternality
    sharing : array of bool, shape (n_users,)

    Returns
    -------
    array, shape (n_users,)
        Money.
    """
    posterior, doubt = posterior_and_doubt(model.scaled_covariance, sharing)
    return model.noise_variance * model.value_of_privacy * own_information(np.diag(posterior) / doubt)


def own_information(variance: Array) -> Array:
    """Information that a user's own data give about it, by its variance given the others'; noise 1."""
    return variance**2 / (1 + variance)


@dataclass(frozen=True, eq=False)
class UserEquilibria:
    """Equilibria of the users' game at given prices: a complete lattice, with a least and a greatest element.

    The more others share, the less a user's own data add to what is known of it, and the less it asks for
    them: the game is supermodular.

    Attributes
    ----------
    model : DataExternality
    prices : array, shape (n_users,)
        Paid to those who share (money).
    joined : array of bool, shape (n_users,)
        Who may share.

    References
    ----------
    Pal et al., section V.A, and Acemoglu et al., Lemma 2.

    Examples
    --------
    >>> import mechopt as mo
    >>> model = mo.DataExternality([[1.0, 0.8], [0.8, 1.0]], [1.0, 1.0])
    >>> game = model.user_equilibria([0.4, 0.4])
    >>> game.least.tolist(), game.greatest.tolist()
    ([False, False], [True, True])
    """

    model: DataExternality
    prices: Array
    joined: BoolArray

    @property
    def tolerance(self) -> float:
        """Payoff differences that count as none (money)."""
        return INDIFFERENT * float(np.max(self._alone, initial=0.0))

    @cached_property
    def _alone(self) -> Array:
        return thresholds(self.model, np.zeros(self.model.n_users, dtype=bool))

    @cached_property
    def least(self) -> BoolArray:
        """The equilibrium in which the fewest share; every other one contains it."""
        return self._iterate(np.zeros(self.model.n_users, dtype=bool), willing=False)

    @cached_property
    def greatest(self) -> BoolArray:
        """The equilibrium in which the most share; it contains every other one."""
        return self._iterate(self.joined, willing=True)

    def _iterate(self, start: BoolArray, *, willing: bool) -> BoolArray:
        """Respond until nobody moves; responses move one way only, so n + 1 rounds are enough.

        Users who are indifferent share if they are willing.
        """
        sharing = start.copy()
        for _ in range(self.model.n_users + 1):
            gain = self.prices - thresholds(self.model, sharing)
            response = self.joined & (gain >= -self.tolerance if willing else gain > self.tolerance)
            if np.array_equal(response, sharing):
                break
            sharing = response
        return sharing

    def all(self) -> BoolArray:
        """Return every equilibrium, by going through all sets.

        Returns
        -------
        array of bool, shape (n_equilibria, n_users)
            In the order of their masks: user 0 is the lowest bit.

        Raises
        ------
        InvalidInput
            If more than 18 users joined.
        """
        users = np.flatnonzero(self.joined)
        n = users.size
        if n > MOST_ENUMERATED:
            raise InvalidInput(
                f"{n} users joined, and 2^{n} sets are too many to go through (at most 2^{MOST_ENUMERATED}); "
                "the least and the greatest equilibrium need no enumeration"
            )
        asked = _threshold_table(self.model, users)
        member = subsets(n)
        paid = self.prices[users]
        kept = np.all(
            np.where(member, paid >= asked - self.tolerance, paid <= asked + self.tolerance), axis=1
        )
        sets = np.zeros((int(kept.sum()), self.model.n_users), dtype=bool)
        sets[:, users] = member[kept]
        return sets

    def regret(self, sharing: ArrayLike) -> Array:
        """Return what each user would gain by changing whether it shares, at least 0 (money)."""
        profile = self._profile(sharing)
        gain = self.prices - thresholds(self.model, profile)
        return np.where(self.joined, np.maximum(np.where(profile, -gain, gain), 0.0), 0.0)

    def is_equilibrium(self, sharing: ArrayLike) -> bool:
        """Tell whether nobody gains by changing whether it shares."""
        return bool(np.all(self.regret(sharing) <= self.tolerance))

    def payoffs(self, sharing: ArrayLike) -> Array:
        """Return each user's payoff, the service of the platform included (money), shape (n_users,)."""
        profile = self._profile(sharing)
        return payoffs(self.model, self.joined, profile, self.prices)

    def __repr__(self) -> str:
        least, greatest = (np.flatnonzero(found).tolist() for found in (self.least, self.greatest))
        return f"UserEquilibria(at these prices from users {least} to users {greatest} share)"

    def _profile(self, sharing: ArrayLike) -> BoolArray:
        profile = self.model.profile(sharing)
        outside = profile & ~self.joined
        if np.any(outside):
            user = int(np.argmax(outside))
            raise InvalidInput(f"sharing[{user}] = 1, but user {user} did not join the platform")
        return profile


def user_equilibria(model: DataExternality, prices: ArrayLike, joined: BoolArray) -> UserEquilibria:
    """Return the users' game at given prices; see `DataExternality.user_equilibria`."""
    paid = checks.vector(prices, "prices")
    if paid.size != model.n_users:
        raise InvalidInput(f"prices has {paid.size} entries for {model.n_users} users; give one each")
    checks.all_finite(paid, "prices")
    return UserEquilibria(model, paid, joined)


def payoffs(model: DataExternality, joined: BoolArray, sharing: BoolArray, prices: Array) -> Array:
    r"""Return payoffs: :math:`p_i a_i - v_i I_i + c_i(J)`, or :math:`-\alpha v_i I_i` of who did not join.

    Parameters
    ----------
    model : DataExternality
    joined, sharing : array of bool, shape (n_users,)
    prices : array, shape (n_users,)
        Paid to those who share (money).

    Returns
    -------
    array, shape (n_users,)
        Money.
    """
    together = frozenset(np.flatnonzero(joined).tolist())
    service = np.array([model.service(user, together) for user in range(model.n_users)])
    exposure = np.where(joined, 1.0, model.spillover)
    loss = exposure * model.value_of_privacy * model.leaked_information(sharing)
    payoff: Array = np.where(sharing, prices, 0.0) - loss + service
    return payoff


# ------------------------------------------------------------ prices with one equilibrium


@dataclass(frozen=True, eq=False)
class UniquePrices:
    """Prices at which a set of users is the only equilibrium: divide and conquer.

    Attributes
    ----------
    sharing : array of bool, shape (n_users,)
    prices : array, shape (n_users,)
        Money, 0 for those who do not share.
    cost : float
        Sum of the prices.
    order : tuple of int
        Who is won one after the other: each is paid as if those before it shared, and nobody else.
    """

    sharing: BoolArray
    prices: Array
    cost: float
    order: tuple[int, ...]


def unique_prices(model: DataExternality, sharing: ArrayLike, *, margin: float = 0.0) -> UniquePrices:
    r"""Find the least prices at which a set of users is the only equilibrium.

    If users are won in an order, each must be paid for sharing after those before it,
    :math:`v_i \, (I_i(B \cup i) - I_i(B))`, and a little more. The cheapest order comes from a recursion over
    sets, of :math:`2^k k` steps for k users.

    Parameters
    ----------
    model : DataExternality
    sharing : array of shape (n_users,), or set of indices
        Who is to share; at most 18 users.
    margin : float
        What is paid to each on top (money), >= 0. At 0 the prices are the limit, at which the set is an
        equilibrium beside others; with any margin above it is the only one.

    Returns
    -------
    UniquePrices

    Raises
    ------
    InvalidInput
        If an argument breaks its rule.

    Examples
    --------
    >>> import mechopt as mo
    >>> model = mo.DataExternality([[1.0, 0.8, 0.3], [0.8, 1.0, 0.5], [0.3, 0.5, 1.0]], [0.5, 0.7, 1.2])
    >>> round(unique_prices(model, {0, 1}).cost, 6)
    0.442667
    """
    chosen = model.profile(sharing)
    margin = checks.nonnegative(margin, "margin")
    users = np.flatnonzero(chosen)
    if users.size > MOST_ENUMERATED:
        raise InvalidInput(
            f"sharing has {users.size} users, and the orders to win them go through 2^{users.size} sets (at "
            f"most 2^{MOST_ENUMERATED})"
        )
    asked = _threshold_table(model, users)
    _, last = cheapest_orders(asked)
    order, prices = [], np.zeros(model.n_users)
    mask = 2**users.size - 1
    while mask:
        user = int(last[mask])
        mask ^= 1 << user
        order.append(int(users[user]))
        prices[users[user]] = asked[mask, user] + margin
    return UniquePrices(chosen, prices, float(prices.sum()), tuple(reversed(order)))


def unique_optimum(model: DataExternality, joined: BoolArray) -> BoolArray:
    """Find the set of users from whom a platform buys that must rule out every other equilibrium.

    Parameters
    ----------
    model : DataExternality
    joined : array of bool, shape (n_users,)
        Users of the platform, at most 18.

    Returns
    -------
    array of bool, shape (n_users,)
        Of several best sets the largest, and of these the one with the users of lowest number.
    """
    members = np.flatnonzero(joined)
    if members.size > MOST_ENUMERATED:
        raise InvalidInput(
            f"selection='unique' goes through all sets of users, and {members.size} joined (at most "
            f"{MOST_ENUMERATED})"
        )
    scale = model.noise_variance
    cost, _ = cheapest_orders(_threshold_table(model, members))
    variances = posterior_variances(model.scaled_covariance, members)
    weight = np.where(joined, 1.0, model.spillover)
    profit = scale * (np.diag(model.scaled_covariance) - variances) @ weight - cost
    inside = subsets(members.size)
    best = np.flatnonzero(profit >= profit.max() - scale * rounding(model.scaled_covariance))
    chosen = np.zeros(model.n_users, dtype=bool)
    chosen[members] = min(inside[best], key=preference)
    return chosen


def cheapest_orders(asked: Array) -> tuple[Array, NDArray[np.intp]]:
    """Find the least cost of winning each set one by one, and whom to win last.

    Parameters
    ----------
    asked : array, shape (2**n, n)
        What each user asks for, by mask of the others who share; entries of members are not read.

    Returns
    -------
    cost : array, shape (2**n,)
    last : array of int, shape (2**n,)
        -1 for the empty set.
    """
    n = asked.shape[1]
    cost, last = np.full(2**n, np.inf), np.full(2**n, -1)
    cost[0] = 0.0
    masks = np.arange(2**n)
    size = subsets(n).sum(axis=1)
    for members in range(1, n + 1):
        level = masks[size == members]
        for user in range(n):
            with_user = level[level >> user & 1 == 1]
            before = with_user ^ (1 << user)
            candidate = cost[before] + asked[before, user]
            better = candidate < cost[with_user]
            cost[with_user[better]] = candidate[better]
            last[with_user[better]] = user
    return cost, last


def _threshold_table(model: DataExternality, users: NDArray[np.intp]) -> Array:
    """What each of some users asks for, by mask of those of them who share, itself left out."""
    covariance = model.scaled_covariance[np.ix_(users, users)]
    variance = np.diag(covariance) - leak_table(covariance)
    masks = np.arange(len(variance))[:, None]
    bits = 1 << np.arange(users.size)
    without = np.take_along_axis(variance, masks & ~bits, axis=0)
    asked: Array = model.noise_variance * model.value_of_privacy[users] * own_information(without)
    return asked
