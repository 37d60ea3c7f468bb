r"""Prices that platforms announce before users join: section VII, as far as it goes.

Users see the prices of two platforms, and choose a platform and whether to share with it. A profile is a user
equilibrium, Definition 3, if no user gains by one of the three other choices; these conditions are linear in
prices, so that a profile is an equilibrium on a polyhedron of prices.

Prices are an equilibrium of the platforms if for each other offer of one there is *some* user equilibrium in
which it gains nothing. The paper proves no more than that one exists in mixed strategies (Theorem 8), and
does not construct it. Here it is looked for, or checked, among finitely many prices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.data_externality.leakage import leak_table
from mechopt.solvers.errors import InvalidInput, NotApplicable

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.model import DataExternality

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

MOST_USERS = 6
"""Users up to which all 4^n profiles are looked at."""

MOST_GRID = 10**7
"""Pairs of price vectors times profiles up to which a grid is looked at."""

ROUNDING = 1e-9
"""Gains that count as rounding, relative to the most that a user can lose by what leaks."""


@dataclass(frozen=True, eq=False)
class UserProfile:
    """What users choose when prices are known.

    Attributes
    ----------
    joining : array of int, shape (n_users,)
        Platform 1 or 2 of each user.
    sharing : array of bool, shape (n_users,)
        Whether it shares with that platform.
    """

    joining: IntArray
    sharing: BoolArray

    def __repr__(self) -> str:
        return f"UserProfile(joining {self.joining.tolist()}, sharing {self.sharing.astype(int).tolist()})"


@dataclass(frozen=True, eq=False)
class PriceEquilibrium:
    """Prices that are an equilibrium of a grid, and a user equilibrium that goes with them.

    Attributes
    ----------
    prices : array, shape (2, n_users)
        What each platform pays each user for sharing (money).
    profile : UserProfile
    profits : array, shape (2,)
        Of the platforms (money).
    """

    prices: Array
    profile: UserProfile
    profits: Array


@dataclass(frozen=True, eq=False)
class PresetPrices:
    """Two platforms that announce prices before users join.

    Every user joins one of the platforms (which Assumption A2 ensures).

    Parameters
    ----------
    model : DataExternality
        Of at most 6 users.

    Raises
    ------
    InvalidInput
        If there are more users.

    References
    ----------
    Pal et al., section VII, Definitions 3 and 4, Theorem 8.

    Examples
    --------
    >>> import mechopt as mo
    >>> game = PresetPrices(mo.DataExternality([[1.0]], [0.5]))
    >>> [found.joining.tolist() for found in game.user_equilibria([0.5], [0.3]) if found.sharing[0]]
    [[1]]
    >>> grid = game.grid([0.0, 0.2, 0.3, 0.4, 0.5, 0.6])
    >>> max(round(float(found.profits.max()), 6) for found in grid.pure_equilibria())
    0.1
    """

    model: DataExternality

    def __post_init__(self) -> None:
        if self.model.n_users > MOST_USERS:
            raise InvalidInput(
                f"there are 4^{self.model.n_users} profiles of {self.model.n_users} users; all are looked at "
                f"for at most {MOST_USERS}"
            )

    # ------------------------------------------------------------ users

    @cached_property
    def profiles(self) -> tuple[IntArray, BoolArray]:
        """All profiles: joining and sharing, each of shape (4**n_users, n_users)."""
        choices = np.array(list(product(range(4), repeat=self.model.n_users)))
        return choices // 2 + 1, choices % 2 == 1

    @cached_property
    def _kept(self) -> Array:
        """Payoff of users without what they are paid (money), shape (4**n_users, n_users)."""
        joining, _ = self.profiles
        leaked = self._leaked
        model, user = self.model, np.arange(self.model.n_users)
        rows = np.arange(len(joining))[:, None]
        own = leaked[rows, joining - 1, user]
        other = leaked[rows, 2 - joining, user]
        service = np.zeros(joining.shape)
        for row, profile in enumerate(joining):
            parts = [frozenset(np.flatnonzero(profile == label).tolist()) for label in (1, 2)]
            service[row] = [model.service(i, parts[profile[i] - 1]) for i in range(model.n_users)]
        return np.asarray(service - model.value_of_privacy * (own + model.spillover * other))

    @cached_property
    def _leaked(self) -> Array:
        """Information that leaks to each platform, shape (4**n_users, 2, n_users)."""
        joining, sharing = self.profiles
        table = self.model.noise_variance * leak_table(self.model.scaled_covariance)
        bits = 1 << np.arange(self.model.n_users)
        return np.stack([table[(sharing & (joining == label)) @ bits] for label in (1, 2)], axis=1)

    @cached_property
    def _deviations(self) -> IntArray:
        """Number of the profile after each user's deviations, shape (4**n_users, n_users, 3)."""
        n = self.model.n_users
        rows = np.arange(4**n)
        weight = 4 ** np.arange(n)[::-1]
        now = rows[:, None] // weight % 4
        moves = (now[:, :, None] + np.arange(1, 4)) % 4
        return np.asarray(rows[:, None, None] + (moves - now[:, :, None]) * weight[None, :, None])

    @property
    def tolerance(self) -> float:
        """Gains up to which a profile counts as a user equilibrium (money)."""
        model = self.model
        everyone = frozenset(range(model.n_users))
        service = max(model.service(user, everyone) for user in everyone)
        return float(ROUNDING * np.max(model.value_of_privacy * model.variance) + 1e-3 * ROUNDING * service)

    def number(self, profile: UserProfile) -> int:
        """Row of a profile among `profiles`."""
        joining = np.asarray(profile.joining)
        sharing = self.model.profile(profile.sharing)
        if joining.shape != sharing.shape or not np.all(np.isin(joining, (1, 2))):
            raise InvalidInput(
                f"joining must be 1 or 2 for each of {self.model.n_users} users, got {joining}"
            )
        return int(((joining - 1) * 2 + sharing) @ 4 ** np.arange(self.model.n_users)[::-1])

    def profile(self, number: int) -> UserProfile:
        """Profile in a row of `profiles`."""
        joining, sharing = self.profiles
        return UserProfile(joining[number], sharing[number])

    def conditions(self, profile: UserProfile) -> tuple[Array, Array]:
        """Prices at which a profile is a user equilibrium: ``A @ prices.ravel() <= b``.

        Parameters
        ----------
        profile : UserProfile

        Returns
        -------
        A : array, shape (3 * n_users, 2 * n_users)
            Rows: each user's three other choices. Columns: prices of platform 1, then of platform 2.
        b : array, shape (3 * n_users,)
            What the choice loses besides prices (money).
        """
        row = self.number(profile)
        deviations = self._deviations[row].ravel()
        user = np.repeat(np.arange(self.model.n_users), 3)
        matrix = self._paid[deviations, user] - self._paid[row, user]
        return matrix, self._kept[row, user] - self._kept[deviations, user]

    @cached_property
    def _paid(self) -> Array:
        """Which price each user gets, shape (4**n_users, n_users, 2 * n_users)."""
        joining, sharing = self.profiles
        n = self.model.n_users
        paid = np.zeros((len(joining), n, 2, n))
        for user in range(n):
            for label in (0, 1):
                paid[:, user, label, user] = sharing[:, user] & (joining[:, user] == label + 1)
        return paid.reshape(len(joining), n, 2 * n)

    def user_payoffs(self, profile: UserProfile, prices_1: ArrayLike, prices_2: ArrayLike) -> Array:
        """What each user gets (money), shape (n_users,)."""
        row = self.number(profile)
        return np.asarray(self._kept[row] + self._paid[row] @ self._prices(prices_1, prices_2))

    def profits(self, profile: UserProfile, prices_1: ArrayLike, prices_2: ArrayLike) -> Array:
        """What each platform gets (money), shape (2,)."""
        row = self.number(profile)
        prices = self._prices(prices_1, prices_2).reshape(2, -1)
        payments = (self._paid[row].sum(axis=0).reshape(2, -1) * prices).sum(axis=1)
        return np.asarray(self._worth[row] - payments)

    @cached_property
    def _worth(self) -> Array:
        """What each platform's information is worth to it (money), shape (4**n_users, 2)."""
        joining, _ = self.profiles
        weight = np.stack([np.where(joining == label, 1.0, self.model.spillover) for label in (1, 2)], axis=1)
        return np.asarray((weight * self._leaked).sum(axis=2))

    def user_equilibria(self, prices_1: ArrayLike, prices_2: ArrayLike) -> list[UserProfile]:
        """Find all pure user equilibria at given prices: Definition 3.

        Parameters
        ----------
        prices_1, prices_2 : array, shape (n_users,)
            What each platform pays each user for sharing with it (money).
        """
        payoff = self._kept + self._paid @ self._prices(prices_1, prices_2)
        user = np.arange(self.model.n_users)[:, None]
        gains = payoff[self._deviations, user] - payoff[:, :, None]
        return [self.profile(int(row)) for row in np.flatnonzero(gains.max(axis=(1, 2)) <= self.tolerance)]

    def _prices(self, prices_1: ArrayLike, prices_2: ArrayLike) -> Array:
        found = []
        for name, given in (("prices_1", prices_1), ("prices_2", prices_2)):
            array = checks.vector(given, name)
            if array.size != self.model.n_users:
                raise InvalidInput(f"{name} has {array.size} entries for {self.model.n_users} users")
            checks.all_finite(array, name)
            found.append(array)
        return np.concatenate(found)

    # ------------------------------------------------------------ platforms

    def grid(self, prices: ArrayLike) -> PriceGrid:
        """Return the game in which platforms may offer each user one of these prices (money)."""
        values = np.unique(checks.vector(prices, "prices"))
        checks.all_finite(values, "prices")
        if not values.size:
            raise InvalidInput("prices is empty; give at least one price that a platform may offer")
        n_entries = 4**self.model.n_users * float(values.size) ** (2 * self.model.n_users)
        if n_entries > MOST_GRID:
            raise InvalidInput(
                f"{values.size} prices for {self.model.n_users} users make {n_entries:.3g} combinations of "
                f"offers and profiles, more than {MOST_GRID:.3g}; take fewer prices or users"
            )
        return PriceGrid(self, values)


@dataclass(frozen=True, eq=False)
class PriceGrid:
    """The game of pre-set prices among finitely many offers.

    Offers are numbered as in `offers`; user equilibria in mixed strategies are not looked for.

    Parameters
    ----------
    game : PresetPrices
    values : array, shape (n_values,)
        Prices that may be offered to each user (money).
    """

    game: PresetPrices
    values: Array

    @cached_property
    def offers(self) -> Array:
        """All price vectors, shape (n_offers, n_users), with ``n_offers = n_values ** n_users``."""
        return np.array(list(product(self.values, repeat=self.game.model.n_users)))

    @cached_property
    def is_user_equilibrium(self) -> BoolArray:
        """By profile and offers of both platforms, shape (4**n_users, n_offers, n_offers)."""
        joining, _ = self.game.profiles
        n_offers, n = self.offers.shape
        fits = np.empty((len(joining), n_offers, n_offers), dtype=bool)
        for row in range(len(joining)):
            matrix, bound = self.game.conditions(self.game.profile(row))
            left = self.offers @ matrix[:, :n].T
            right = self.offers @ matrix[:, n:].T
            slack = bound + self.game.tolerance
            fits[row] = True
            for condition in range(len(bound)):
                fits[row] &= left[:, condition][:, None] + right[:, condition] <= slack[condition]
        return fits

    @cached_property
    def profits(self) -> Array:
        """Of each platform (money), by profile and its own offer, shape (2, 4**n_users, n_offers)."""
        n = self.game.model.n_users
        worth, paid = self.game._worth, self.game._paid.sum(axis=1)
        return np.stack(
            [worth[:, [label]] - paid[:, label * n : (label + 1) * n] @ self.offers.T for label in (0, 1)]
        )

    @cached_property
    def least_profits(self) -> Array:
        """Of each platform, in the user equilibrium that is worst for it, shape (2, n_offers, n_offers).

        Infinite where there is no pure user equilibrium: nothing then deters the offer.
        """
        fits = self.is_user_equilibrium
        first = np.where(fits, self.profits[0][:, :, None], np.inf).min(axis=0)
        second = np.where(fits, self.profits[1][:, None, :], np.inf).min(axis=0)
        return np.stack([first, second])

    @cached_property
    def best_replies(self) -> tuple[Array, Array]:
        """What each platform is sure of against each offer of the other (money), shape (n_offers,) each."""
        first, second = self.least_profits
        return first.max(axis=0), second.max(axis=1)

    def _supported(self, epsilon: float) -> BoolArray:
        slack = checks.nonnegative(epsilon, "epsilon") + self.game.tolerance
        first, second = self.best_replies
        return np.asarray(
            self.is_user_equilibrium
            & (self.profits[0][:, :, None] >= first[None, None, :] - slack)
            & (self.profits[1][:, None, :] >= second[None, :, None] - slack)
        )

    def pure_equilibria(self, epsilon: float = 0.0) -> Iterator[PriceEquilibrium]:
        """Go through all pure equilibria among the offers: Definition 3.

        Parameters
        ----------
        epsilon : float
            What a platform may forgo (money), >= 0.

        Yields
        ------
        PriceEquilibrium
            One for each pair of offers and user equilibrium that they go with.
        """
        for row, first, second in np.argwhere(self._supported(epsilon)):
            yield PriceEquilibrium(
                np.stack([self.offers[first], self.offers[second]]),
                self.game.profile(int(row)),
                np.array([self.profits[0][row, first], self.profits[1][row, second]]),
            )

    def n_pure_equilibria(self, epsilon: float = 0.0) -> tuple[int, int]:
        """Number of pure equilibria, and of pairs of offers that are part of one."""
        supported = self._supported(epsilon)
        return int(supported.sum()), int(supported.any(axis=0).sum())

    def mixed_epsilon(self, weights_1: ArrayLike, weights_2: ArrayLike, selection: IntArray) -> float:
        """What a platform could gain over mixed offers, at most: Definition 4, among these offers.

        Users choose when they have seen the offers. A platform that offers something else reckons with the
        user equilibrium that is worst for it.

        Parameters
        ----------
        weights_1, weights_2 : array, shape (n_offers,)
            Probabilities of each platform's offers.
        selection : array of int, shape (n_offers, n_offers)
            Row of the user equilibrium that follows each pair of offers; see `PresetPrices.number`.

        Returns
        -------
        float
            The offers are an epsilon-equilibrium for this epsilon (money) and above.

        Raises
        ------
        InvalidInput
            If weights are no probabilities, or a selected profile is no user equilibrium.
        NotApplicable
            If a pair of offers has no pure user equilibrium.
        """
        n_offers = len(self.offers)
        weights = []
        for name, given in (("weights_1", weights_1), ("weights_2", weights_2)):
            array = checks.vector(given, name)
            if array.size != n_offers or np.any(array < 0) or abs(array.sum() - 1) > ROUNDING:
                raise InvalidInput(f"{name} must be {n_offers} probabilities, >= 0 and of sum 1")
            weights.append(array)
        if not np.all(self.is_user_equilibrium.any(axis=0)):
            raise NotApplicable(
                "some offers have no pure user equilibrium, and mixed ones are not looked for"
            )
        chosen = np.asarray(selection)
        i, j = np.indices((n_offers, n_offers))
        if chosen.shape != i.shape or not np.all(self.is_user_equilibrium[chosen, i, j]):
            raise InvalidInput(
                f"selection must name a user equilibrium for each of {n_offers} x {n_offers} offers"
            )
        first, second = self.profits[0][chosen, i], self.profits[1][chosen, j]
        least_1, least_2 = self.least_profits
        gain_1 = np.max(least_1 @ weights[1]) - weights[0] @ first @ weights[1]
        gain_2 = np.max(weights[0] @ least_2) - weights[0] @ second @ weights[1]
        return float(max(gain_1, gain_2))
