r"""The joining game: users choose a platform, knowing whose data platforms will buy, and at what prices.

User i on a platform that J joined gets, eq. (4) and (6),

.. math:: u_i = -v_i I_i(0, a^J_{-i}) - \alpha v_i \sum_{J' \ne J} I_i(a^{J'}) + c_i(J)

Single profiles are computed from the optima of the platforms involved, whatever the number of users; what
needs all profiles comes from tables of all sets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.data_externality.duopoly.outcomes import Outcome, SampledSurplus
from mechopt.formulations.data_externality.duopoly.tables import (
    Tables,
    masks_of,
    outcomes,
    partitions,
    probability_of_sets,
    refuse_many,
)
from mechopt.formulations.data_externality.exact import platform_optimum
from mechopt.formulations.data_externality.leakage import information_gain
from mechopt.formulations.data_externality.monopoly import least_prices
from mechopt.solvers.errors import InvalidInput, NotApplicable
from mechopt.verification.audit import Deviation

if TYPE_CHECKING:
    import pandas as pd

    from mechopt.formulations.data_externality.duopoly.program import Sharing
    from mechopt.formulations.data_externality.model import DataExternality
    from mechopt.solvers.program import Program

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

ROUNDING = 1e-9
"""Gains that count as rounding, relative to the most that a user can lose by what leaks."""


@dataclass(frozen=True, eq=False)
class Duopoly:
    """The game in which users join one of several platforms.

    A joining profile has the platform of each user, 1 to ``n_platforms``, or 0 for none.

    Parameters
    ----------
    model : DataExternality
    n_platforms : int
        At least 2.

    References
    ----------
    Pal et al., Definitions 1 and 2, Theorems 2 and 5.

    Examples
    --------
    >>> import mechopt as mo
    >>> game = mo.DataExternality([[1.0, 0.5], [0.5, 1.0]], [0.5, 3.0]).duopoly()
    >>> game.pure_equilibria
    [array([1, 2])]
    >>> game.payoffs([1, 1]).tolist(), game.best_deviation([1, 1])
    ([0.0, -0.375], Deviation(agent=1, choice=2, gain=0.375))
    >>> game.mixed_data_surplus
    0.125
    """

    model: DataExternality
    n_platforms: int = 2
    _known: dict[frozenset[int], Outcome] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        checks.count(self.n_platforms, "n_platforms", least=2)

    # ------------------------------------------------------------ one profile

    def profile(self, joining: ArrayLike) -> IntArray:
        """Read a joining profile: for each user a platform, or 0 for none."""
        try:
            array = np.asarray(joining, dtype=float)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"joining must be platforms, got {joining!r}: {error}") from None
        if array.shape != (self.model.n_users,):
            raise InvalidInput(
                f"joining has shape {array.shape}; give the platform of each of {self.model.n_users} users"
            )
        wrong = ~np.isin(array, np.arange(self.n_platforms + 1))
        if np.any(wrong):
            user = int(np.argmax(wrong))
            raise InvalidInput(
                f"joining[{user}] = {array[user]:g} must be a platform, 1 to {self.n_platforms}, or 0: none"
            )
        return array.astype(np.int64)

    def joined(self, joining: ArrayLike) -> list[frozenset[int]]:
        """Sets of users who joined each platform."""
        profile = self.profile(joining)
        return [
            frozenset(np.flatnonzero(profile == label).tolist()) for label in range(1, self.n_platforms + 1)
        ]

    def outcome(self, joined: frozenset[int]) -> Outcome:
        """What a platform that these users joined buys and pays; kept for the next time."""
        if joined not in self._known:
            self._known[joined] = self._outcome(joined)
        return self._known[joined]

    def _outcome(self, joined: frozenset[int]) -> Outcome:
        model = self.model
        inside = model.profile(joined, "joined")
        found = platform_optimum(
            model.scaled_covariance, model.value_of_privacy, inside, spillover=model.spillover
        )
        sharing = np.asarray(found.sharing, dtype=bool)
        leaked = model.leaked_information(sharing)
        price = least_prices(model, sharing)
        profit = np.where(inside, 1.0, model.spillover) @ leaked - price.sum()
        return Outcome(sharing, leaked, price, float(profit))

    def payoffs(self, joining: ArrayLike) -> Array:
        """What each user gets, eq. (4) and (6) (money), shape (n_users,)."""
        parts = self.joined(joining)
        return np.array([self._payoff(parts, user) for user in range(self.model.n_users)])

    def _payoff(self, parts: list[frozenset[int]], user: int) -> float:
        total = 0.0
        for part in parts:
            outcome = self.outcome(part)
            loss = self.model.value_of_privacy[user] * outcome.leaked[user]
            if user in part:
                total += outcome.price[user] - loss + self.model.service(user, part)
            else:
                total -= self.model.spillover * loss
        return float(total)

    def sharing(self, joining: ArrayLike) -> BoolArray:
        """Who shares with the platform joined, shape (n_users,)."""
        shares = [self.outcome(part).sharing for part in self.joined(joining)]
        return np.asarray(np.any(shares, axis=0))

    def profits(self, joining: ArrayLike) -> Array:
        """Profit of each platform (money), eq. (5) with payments in the last sum, shape (n_platforms,).

        With spillover it counts what leaks about all users who are elsewhere.
        """
        return np.array([self.outcome(part).profit for part in self.joined(joining)])

    def data_surplus(self, joining: ArrayLike) -> float:
        """Surplus from data alone (money): that of platforms and users without services."""
        parts = self.joined(joining)
        gain = 1 - self.model.value_of_privacy
        everyone = self.profile(joining) > 0
        total = 0.0
        for label, part in enumerate(parts, start=1):
            weight = np.where(self.profile(joining) == label, 1.0, self.model.spillover * everyone)
            total += float((gain * weight) @ self.outcome(part).leaked)
        return total

    def social_surplus(self, joining: ArrayLike) -> float:
        """Surplus from data and services (money)."""
        parts = self.joined(joining)
        return self.data_surplus(joining) + sum(
            self.model.service(user, part) for part in parts for user in part
        )

    # ------------------------------------------------------------ deviations

    def best_deviation(self, joining: ArrayLike, *, may_leave: bool = False) -> Deviation:
        """Find the user who gains most by another choice of platform.

        Parameters
        ----------
        joining : array of int, shape (n_users,)
        may_leave : bool
            Whether joining no platform is a choice, reported as None. By Lemma 1 it never pays if services
            are worth more than what leaks; without services it does.

        Returns
        -------
        Deviation
            ``agent``, ``choice`` (a platform) and ``gain`` (money), not positive in equilibrium.
        """
        profile = self.profile(joining)
        now = self.payoffs(profile)
        best = Deviation(0, None, -np.inf)
        for user in range(self.model.n_users):
            for label in range(0 if may_leave else 1, self.n_platforms + 1):
                if label == profile[user]:
                    continue
                other = profile.copy()
                other[user] = label
                gain = self._payoff(self.joined(other), user) - now[user]
                if gain > best.gain:
                    best = Deviation(user, label or None, float(gain))
        return best

    @property
    def tolerance(self) -> float:
        """Gains up to which a profile counts as an equilibrium (money)."""
        model = self.model
        everyone = frozenset(range(model.n_users))
        service = max(model.service(user, everyone) for user in everyone)
        # Services may be large and alike: their differences carry rounding of their own.
        return float(ROUNDING * np.max(model.value_of_privacy * model.variance) + 1e-3 * ROUNDING * service)

    def is_equilibrium(self, joining: ArrayLike, *, may_leave: bool = False) -> bool:
        """Whether nobody gains by another choice of platform: Definition 1."""
        return self.best_deviation(joining, may_leave=may_leave).gain <= self.tolerance

    def find_equilibrium(self, joining: ArrayLike | None = None, *, max_moves: int = 1000) -> IntArray | None:
        """Follow best deviations from a profile to a pure equilibrium.

        Parameters
        ----------
        joining : array of int, shape (n_users,), optional
            Where to begin; all on platform 1 by default.
        max_moves : int
            Deviations after which to give up.

        Returns
        -------
        array of int, shape (n_users,), or None
            None if deviations lead back to where they were, or do not end in time. They do end where
            `potential` applies.
        """
        profile = np.ones(self.model.n_users, dtype=np.int64) if joining is None else self.profile(joining)
        seen = set[bytes]()
        for _ in range(checks.count(max_moves, "max_moves")):
            move = self.best_deviation(profile)
            if move.gain <= self.tolerance:
                return profile
            seen.add(profile.tobytes())
            profile = profile.copy()
            profile[move.agent] = int(move.choice or 0)
            if profile.tobytes() in seen:
                return None
        return None

    def potential(self, joining: ArrayLike) -> float:
        r"""A function of profiles that rises exactly if the user who moves gains.

        .. math:: \Phi = \sum_k \log\det(I + \Sigma_{J_k} / N)

        Everybody shares, so that all a user looks at is what the others on a platform tell about it: the less
        they do, the larger is the variance of its data given theirs, by whose logarithm the potential grows.

        Raises
        ------
        NotApplicable
            If a user has a value of privacy above 1, services depend on who joins, or the spillover is 1.
        """
        model = self.model
        if model.high_value.size:
            user = int(model.high_value[0])
            raise NotApplicable(
                f"value_of_privacy[{user}] = {model.value_of_privacy[user]:g} is above 1: user {user} need "
                "not share, and the joining game need not have a potential"
            )
        if callable(model.joining_utility):
            raise NotApplicable(
                "joining_utility depends on who joined: the joining game need not have a potential; give a "
                "number for each user"
            )
        if model.spillover == 1:
            raise NotApplicable("with spillover 1 users are indifferent between platforms")
        return sum(
            2 * information_gain(model.scaled_covariance, model.profile(part))
            for part in self.joined(joining)
        )

    # ------------------------------------------------------------ all profiles

    @cached_property
    def _tables(self) -> Tables:
        refuse_many(self.model.n_users, "the joining game")
        return outcomes(self.model)

    @cached_property
    def _partitions(self) -> IntArray:
        refuse_many(self.model.n_users, "the joining game")
        return partitions(self.model.n_users, self.n_platforms)

    @cached_property
    def _gains(self) -> Array:
        """Gain of each user from each platform, shape (n_profiles, n_users, n_platforms); own: -inf."""
        tables, rows = self._tables, self._partitions
        masks = masks_of(rows, self.n_platforms)
        n_profiles, n = rows.shape
        cost = self.model.spillover * self.model.value_of_privacy
        leaks = tables.leaked[masks].sum(axis=1)
        profile, user = np.arange(n_profiles)[:, None], np.arange(n)[None, :]
        own = masks[profile, rows - 1]
        without = own & ~(1 << user)
        elsewhere = leaks - tables.leaked[own, user]
        now = tables.payoff[own, user] - cost * elsewhere
        gains = np.full((n_profiles, n, self.n_platforms), -np.inf)
        for label in range(self.n_platforms):
            target = masks[:, label][:, None]
            then = tables.payoff[target | (1 << user), user] - cost * (
                elsewhere - tables.leaked[target, user] + tables.leaked[without, user]
            )
            gains[:, :, label] = np.where(rows - 1 == label, -np.inf, then - now)
        return gains

    @cached_property
    def pure_equilibria(self) -> list[IntArray]:
        """Pure joining equilibria in which all join, up to the names of platforms: Definition 1.

        Raises
        ------
        InvalidInput
            If there are more than 14 users, or too many profiles.
        """
        return list(self._partitions[self._gains.max(axis=(1, 2)) <= self.tolerance])

    @property
    def mixed_data_surplus(self) -> float:
        r"""Data surplus of the equilibrium in which all join each platform alike (money): Theorem 2.

        .. math:: K^{1-n} \sum_J (K - 1)^{n - |J|} W(J)

        with W(J) what a platform that J joined adds, and K platforms.
        """
        return self._mean(self._tables.data_surplus)

    @property
    def mixed_social_surplus(self) -> float:
        """Social surplus of that equilibrium (money): with services."""
        return self._mean(self._tables.data_surplus + self._tables.service)

    def _mean(self, by_set: Array) -> float:
        n, k = self.model.n_users, self.n_platforms
        return float(k * probability_of_sets(np.full(n, 1 / k)) @ by_set)

    def mixed_payoffs(self, joining_probability: ArrayLike | None = None) -> Array:
        """Expected payoff of each user from each platform, while the others mix (money).

        Parameters
        ----------
        joining_probability : array, shape (n_users, n_platforms), optional
            Of each user to join each platform; rows sum to 1. All alike by default.

        Returns
        -------
        array, shape (n_users, n_platforms)
            A mixed equilibrium has equal entries for all platforms that a user joins at times, and no larger
            ones: Definition 2.
        """
        chance = self._probability(joining_probability)
        tables, n = self._tables, self.model.n_users
        expected = np.zeros((n, self.n_platforms))
        leaks = np.zeros((n, self.n_platforms))
        for user in range(n):
            for label in range(self.n_platforms):
                others = chance[:, label].copy()
                others[user] = 1.0
                expected[user, label] = probability_of_sets(others) @ tables.payoff[:, user]
                others[user] = 0.0
                leaks[user, label] = probability_of_sets(others) @ tables.leaked[:, user]
        cost = self.model.spillover * self.model.value_of_privacy[:, None]
        return np.asarray(expected - cost * (leaks.sum(axis=1, keepdims=True) - leaks))

    def mixed_surplus(self, joining_probability: ArrayLike) -> float:
        """Social surplus if users mix with these probabilities, an equilibrium or not (money)."""
        chance = self._probability(joining_probability)
        by_set = self._tables.data_surplus + self._tables.service
        return float(sum(probability_of_sets(column) @ by_set for column in chance.T))

    def _probability(self, given: ArrayLike | None) -> Array:
        shape = (self.model.n_users, self.n_platforms)
        if given is None:
            return np.full(shape, 1 / self.n_platforms)
        array = np.array(given, dtype=float)
        if array.shape != shape:
            raise InvalidInput(
                f"joining_probability has shape {array.shape}; it must be {shape}: users by platforms"
            )
        wrong = ~(np.all(array >= 0, axis=1) & (np.abs(array.sum(axis=1) - 1) <= ROUNDING))
        if np.any(wrong):
            user = int(np.argmax(wrong))
            raise InvalidInput(
                f"joining_probability[{user}] = {array[user].tolist()} must be >= 0 and sum to 1"
            )
        return array

    def sample_mixed(self, n_draws: int = 2000, seed: int = 0) -> SampledSurplus:
        """Estimate the surplus of the uniformly mixed equilibrium, for any number of users.

        Parameters
        ----------
        n_draws : int
            Joining profiles to draw, at least 2.
        seed : int

        Returns
        -------
        SampledSurplus
        """
        checks.count(n_draws, "n_draws", least=2)
        rng = np.random.default_rng(seed)
        profiles = rng.integers(1, self.n_platforms + 1, (n_draws, self.model.n_users))
        drawn = np.array([self._added(profile) for profile in profiles])
        data, social = drawn[:, 0], drawn.sum(axis=1)
        root = np.sqrt(n_draws)
        return SampledSurplus(
            float(data.mean()),
            float(data.std(ddof=1) / root),
            float(social.mean()),
            float(social.std(ddof=1) / root),
            n_draws,
        )

    def _added(self, joining: IntArray) -> tuple[float, float]:
        """Data surplus, and worth of services, if everybody joined (money)."""
        gain = 1 - self.model.value_of_privacy
        data = service = 0.0
        for part in self.joined(joining):
            weight = np.where(self.model.profile(part), 1.0, self.model.spillover)
            data += float((gain * weight) @ self.outcome(part).leaked)
            service += sum(self.model.service(user, part) for user in part)
        return data, service

    def program(self, sharing: Sharing = "first_best") -> Program:
        """Declare which users should be together: a partition program, ready for further constraints.

        Parameters
        ----------
        sharing : {"first_best", "equilibrium"}
            Whether on each platform those share who should for the good of all, or those whose data it buys.

        Returns
        -------
        Program
            Booleans ``chosen`` of shape (2**n_users - 1,), one for each set of users but the empty one, in
            the order of masks; ``together``, of shape (n_users, n_users), tells who is with whom, and
            ``platforms`` how many are used. The objective is the social surplus (money).

        Raises
        ------
        InvalidInput
            If there are more than 12 users.
        """
        from mechopt.formulations.data_externality.duopoly.program import declare

        return declare(self, sharing)

    def to_frame(self) -> pd.DataFrame:
        """One row a joining profile: surplus (money), who gains most by moving, and whether nobody does."""
        import pandas as pd

        rows, gains = self._partitions, self._gains
        masks = masks_of(rows, self.n_platforms)
        flat = gains.reshape(len(rows), -1)
        best = flat.argmax(axis=1)
        data = self._tables.data_surplus[masks].sum(axis=1)
        columns = {
            "joining": [tuple(row) for row in rows.tolist()],
            "data_surplus": data,
            "social_surplus": data + self._tables.service[masks].sum(axis=1),
            "deviator": best // self.n_platforms,
            "moves_to": best % self.n_platforms + 1,
            "gain": flat.max(axis=1),
            "equilibrium": flat.max(axis=1) <= self.tolerance,
        }
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        model = self.model
        return (
            f"Duopoly(of {model.n_users} users, {model.high_value.size} of high value, "
            f"{self.n_platforms} platforms, spillover {model.spillover:g})"
        )
