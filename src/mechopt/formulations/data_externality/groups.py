r"""Groups of users who are alike: everything by counting.

A user's type is :math:`X_i = Y_g + E_i`, what is common to the group plus what is its own. Given that
:math:`m_g` users of each group share, the covariance of what is common is, with
:math:`M = \mathrm{diag}(m_g / (1 + d_g))` and :math:`d_g` the variance of what is own,

.. math:: Q(m) = (I + C M)^{-1} C

so that no matrix is larger than the number of groups. C need not be positive semidefinite: users of a group
may be correlated negatively, as long as the covariance of all users is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.data_externality.counting import (
    Terms,
    best_for_each,
    chance_of,
    grid_of,
    preferred,
    refuse_many,
)
from mechopt.formulations.data_externality.exact.problem import LOST, TIE
from mechopt.formulations.data_externality.group_duopoly import GroupDuopoly
from mechopt.formulations.data_externality.group_outcomes import (
    GroupFirstBest,
    GroupLeaks,
    GroupPayoffs,
    GroupPurchase,
)
from mechopt.formulations.data_externality.group_policy import (
    GroupEquilibria,
    GroupMediation,
    least_taxes,
    mediate,
)
from mechopt.formulations.data_externality.model import SYMMETRIC, DataExternality
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.solution import Solution

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
GroupUtility = Callable[[int, tuple[int, ...]], float]


@dataclass(frozen=True, eq=False)
class ExchangeableGroups:
    """Users in groups, within which they are alike, and the platforms that buy their data.

    Everything is by group: how many join and share, and what one user of each group gets. What has to tell
    users of a group apart is found by `full`, the same market user by user.

    Parameters
    ----------
    sizes : array of int, shape (n_groups,)
        Users of each group, >= 1.
    within : float or array, shape (n_groups,)
        Covariance of the types of two different users of a group; may be negative. For a group of one user
        it has no meaning, and is not looked at.
    across : float or array, shape (n_groups, n_groups)
        Covariance of two users of different groups; the diagonal is not looked at.
    variances : float or array, shape (n_groups,)
        Of a user's type, > 0.
    value_of_privacy : array, shape (n_groups,)
        Of each user of a group, >= 0.
    noise_variance, spillover : float
        See `DataExternality`.
    joining_utility : float, array of shape (n_groups,), or callable, optional
        What a platform's service is worth to each user who joined it (money), or ``utility(group, joined)``
        of the numbers of users who joined. 0 by default.

    Raises
    ------
    InvalidInput
        If an argument breaks its rule, or no types have these covariances.

    Examples
    --------
    >>> import mechopt as mo
    >>> groups = ExchangeableGroups([10, 10], 0.05, across=0.1, variances=1, value_of_privacy=[0.9, 3])
    >>> groups.monopoly().sharing.tolist()
    [10, 0]
    >>> round(groups.monopoly().data_surplus, 6)
    -0.313972
    >>> groups.duopoly().mixed_data_surplus > groups.monopoly().data_surplus
    True
    """

    sizes: IntArray
    within: Array
    across: Array
    variances: Array
    value_of_privacy: Array
    noise_variance: float = 1.0
    spillover: float = 0.0
    joining_utility: float | Array | GroupUtility | None = None

    def __post_init__(self) -> None:
        sizes = checks.vector(self.sizes, "sizes")
        if not sizes.size:
            raise InvalidInput("sizes is empty; give the number of users of at least one group")
        wrong = ~(np.isfinite(sizes) & (sizes >= 1) & (sizes == np.floor(sizes)))
        if np.any(wrong):
            group = int(np.argmax(wrong))
            raise InvalidInput(f"sizes[{group}] = {sizes[group]:g} must be a whole number >= 1")
        object.__setattr__(self, "sizes", _frozen(sizes.astype(np.int64)))
        for name, least in (("within", None), ("variances", "> 0"), ("value_of_privacy", ">= 0")):
            object.__setattr__(self, name, self._by_group(getattr(self, name), name, least))
        across = self.across
        if np.ndim(across) == 0:
            across = np.full((self.n_groups, self.n_groups), across)
        across = checks.square(across, self.n_groups, "across", "groups by groups")
        if np.max(np.abs(across - across.T)) > SYMMETRIC * np.max(self.variances):
            i, j = np.unravel_index(int(np.argmax(np.abs(across - across.T))), across.shape)
            raise InvalidInput(
                f"across is not symmetric: entry [{i}, {j}] is {across[i, j]:g}, and [{j}, {i}] is "
                f"{across[j, i]:g}"
            )
        object.__setattr__(self, "across", across)
        object.__setattr__(self, "noise_variance", checks.positive(self.noise_variance, "noise_variance"))
        spillover = checks.nonnegative(self.spillover, "spillover")
        if spillover > 1:
            raise InvalidInput(f"spillover = {spillover:g} must be in [0, 1]")
        object.__setattr__(self, "spillover", spillover)
        if self.joining_utility is not None and not callable(self.joining_utility):
            utility = self._by_group(self.joining_utility, "joining_utility", ">= 0")
            object.__setattr__(self, "joining_utility", utility)
        self._refuse_impossible()

    def _by_group(self, value: ArrayLike, name: str, least: str | None) -> Array:
        array = checks.vector(np.full(self.n_groups, value) if np.ndim(value) == 0 else value, name)
        if array.size != self.n_groups:
            raise InvalidInput(
                f"{name} has {array.size} entries for {self.n_groups} groups; give one for each"
            )
        checks.all_finite(array, name)
        broken = array <= 0 if least == "> 0" else array < 0 if least else np.zeros(array.size, dtype=bool)
        if np.any(broken):
            group = int(np.argmax(broken))
            raise InvalidInput(f"{name}[{group}] = {array[group]:g} must be {least}")
        return array

    def _refuse_impossible(self) -> None:
        common, own = self._common_and_own
        slack = -SYMMETRIC * float(np.max(self.variances)) / self.noise_variance
        if np.any(own < slack):
            group = int(np.argmax(own < slack))
            raise InvalidInput(
                f"within[{group}] = {self.within[group]:g} is above the variance "
                f"{self.variances[group]:g} of group {group}"
            )
        root = np.sqrt(self.sizes)
        smallest = float(np.linalg.eigvalsh(root[:, None] * common * root + np.diag(own))[0])
        if smallest < slack:
            raise InvalidInput(
                "the covariance of all users is not positive semidefinite: its smallest eigenvalue is "
                f"{smallest * self.noise_variance:.6g}; no types have these correlations, lower "
                "within or across"
            )

    # ------------------------------------------------------------ users

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.sizes)

    @property
    def n_users(self) -> int:
        """Number of users of all groups together."""
        return int(self.sizes.sum())

    @cached_property
    def _common_and_own(self) -> tuple[Array, Array]:
        """C and d, in units of the noise."""
        within = np.where(self.sizes == 1, self.variances, self.within)
        common = np.where(np.eye(self.n_groups, dtype=bool), within, (self.across + self.across.T) / 2)
        return common / self.noise_variance, (self.variances - within) / self.noise_variance

    def full(self) -> DataExternality:
        """Return the same market user by user, those of group 0 first."""
        group = np.repeat(np.arange(self.n_groups), self.sizes)
        common, own = self._common_and_own
        covariance = self.noise_variance * (common[np.ix_(group, group)] + np.diag(own[group]))
        given = self.joining_utility
        utility: object = given
        if callable(given):

            def by_user(user: int, joined: frozenset[int]) -> float:
                counts = np.bincount(group[sorted(joined)], minlength=self.n_groups)
                return given(int(group[user]), tuple(counts.tolist()))

            utility = by_user
        elif given is not None:
            utility = np.asarray(given)[group]
        return DataExternality(
            covariance,
            self.value_of_privacy[group],
            noise_variance=self.noise_variance,
            spillover=self.spillover,
            joining_utility=utility,  # type: ignore[arg-type]  # a number, array or function: read there
        )

    def counts(self, counts: ArrayLike, name: str = "sharing", most: ArrayLike | None = None) -> IntArray:
        """Read numbers of users of each group, shape (n_groups,)."""
        array = checks.vector(counts, name)
        most = self.sizes if most is None else np.asarray(most)
        if array.size != self.n_groups:
            raise InvalidInput(
                f"{name} has {array.size} entries for {self.n_groups} groups; give one for each"
            )
        wrong = ~((array >= 0) & (array <= most) & (array == np.floor(array)))
        if np.any(wrong):
            group = int(np.argmax(wrong))
            raise InvalidInput(
                f"{name}[{group}] = {array[group]:g} must be a whole number from 0 to {most[group]}"
            )
        return array.astype(np.int64)

    def service(self, group: int, joined: IntArray) -> float:
        """What a platform's service is worth to a user of a group (money)."""
        if self.joining_utility is None or joined[group] == 0:
            return 0.0
        if not callable(self.joining_utility):
            return float(np.asarray(self.joining_utility)[group])
        value = float(self.joining_utility(group, tuple(joined.tolist())))
        if not (np.isfinite(value) and value >= 0):
            raise InvalidInput(
                f"joining_utility({group}, {joined.tolist()}) = {value} must be finite and >= 0"
            )
        return value

    def _services(self, joined: IntArray) -> float:
        return sum(int(joined[g]) * self.service(g, joined) for g in range(self.n_groups))

    # ------------------------------------------------------------ leaks

    def _common_left(self, sharing: IntArray) -> Array:
        """Posterior covariance of two users of a group, in units of the noise, shape (..., n_groups)."""
        common, own = self._common_and_own
        inside = np.eye(self.n_groups) + common * (sharing / (1 + own))[..., None, :]
        q = np.linalg.solve(inside, np.broadcast_to(common, inside.shape))
        return np.asarray(np.diagonal(q, axis1=-2, axis2=-1))

    def _others_left(self, sharing: IntArray) -> Array:
        """Posterior variance of users who do not share, in units of the noise, shape (..., n_groups)."""
        return self._common_left(sharing) + self._common_and_own[1]

    def _left(self, sharing: IntArray) -> tuple[Array, Array]:
        """Posterior variance of others, and of each sharer before its own data (NaN where there is none)."""
        own = self._common_and_own[1]
        left = self._common_left(sharing)
        # One of several sharers is taken out by an update of rank one, in which left / (1 + own) is at most
        # 1 / 2. Of the last one it may be next to 1, and the difference rounding.
        several = sharing > 1
        before = np.where(several, left / np.where(several, 1 - left / (1 + own), 1.0) + own, np.nan)
        for group in range(self.n_groups):
            last = sharing[..., group] == 1
            none = sharing[last].copy()
            none[..., group] = 0
            before[last, group] = self._common_left(none)[..., group] + own[group]
        return left + own, before

    def leaked_information(self, sharing: ArrayLike) -> GroupLeaks:
        """Information about users of each group that leaks if so many of each share.

        Parameters
        ----------
        sharing : array of int, shape (n_groups,)

        Returns
        -------
        GroupLeaks
        """
        counts = self.counts(sharing)
        others, before = self._left(counts)
        noise = self.noise_variance
        return GroupLeaks(
            self.variances - noise * before / (1 + before),
            np.where(counts < self.sizes, self.variances - noise * others, np.nan),
        )

    def data_surplus(self, sharing: ArrayLike) -> float:
        """Surplus from data if all are on one platform and so many share (money)."""
        leaks = self.leaked_information(sharing)
        counts = self.counts(sharing)
        total = counts * np.nan_to_num(leaks.sharers) + (self.sizes - counts) * np.nan_to_num(leaks.others)
        return float((1 - self.value_of_privacy) @ total)

    # ------------------------------------------------------------ users at given prices

    def user_equilibria(self, prices: ArrayLike, *, joined: ArrayLike | None = None) -> GroupEquilibria:
        """Find the equilibria of the users' game, if all of a group are offered the same price.

        Parameters
        ----------
        prices : array, shape (n_groups,)
            What each user of a group is paid for sharing (money).
        joined : array of int, shape (n_groups,), optional
            How many of each group joined the platform; all by default.

        Returns
        -------
        GroupEquilibria
            ``.least``, ``.greatest``, and ``.all()``, by how many of each group share.
        """
        paid = self._by_group(prices, "prices", None)
        members = self.sizes if joined is None else self.counts(joined, "joined")
        return GroupEquilibria(self, paid, members)

    # ------------------------------------------------------------ one platform

    def solve(self, joined: ArrayLike | None = None) -> GroupPurchase:
        """Find how many users of each group a platform buys from, and at what prices.

        Users of low value all share; every number of users of each other group is tried.

        Parameters
        ----------
        joined : array of int, shape (n_groups,), optional
            How many of each group joined the platform; all by default.

        Returns
        -------
        GroupPurchase
            Of purchases of most profit the one of most users.
        """
        members = self.sizes.copy() if joined is None else self.counts(joined, "joined")
        low = self.value_of_privacy <= 1
        n_rows = prod((members[~low] + 1).tolist())
        refuse_many(n_rows, n_rows, "solve")
        grid = grid_of(members, np.where(low, members, 0))
        terms = Terms(self, grid)
        profit = terms.profit_base + terms.profit_slope @ members
        tied = np.flatnonzero(profit >= profit.max() - self._tie)
        best = int(tied[preferred(grid[tied])[0]])
        sharing, before = grid[best], terms.before[best]
        data = float(terms.surplus_base[best] + terms.surplus_slope[best] @ members)
        leaks = GroupLeaks(
            self.variances - self.noise_variance * before / (1 + before),
            np.where(sharing < self.sizes, terms.leaked[best], np.nan),
        )
        prices = self.value_of_privacy * self.noise_variance * before**2 / (1 + before)
        service = np.array([self.service(group, members) for group in range(self.n_groups)])
        return GroupPurchase(
            members,
            sharing,
            prices,
            leaks,
            GroupPayoffs(
                prices - self.value_of_privacy * leaks.sharers + service,
                np.where(sharing < members, service - self.value_of_privacy * leaks.others, np.nan),
            ),
            float(profit[best]),
            data,
            data + self._services(members),
            len(tied),
        )

    def monopoly(self) -> GroupPurchase:
        """Return the equilibrium with one platform that all join."""
        return self.solve()

    @cached_property
    def _tie(self) -> float:
        """Difference in profit that counts as none (money), as in the platform's own algorithm."""
        leaked = self.sizes @ self.leaked_information(self.sizes).sharers
        return max(TIE * float(leaked), LOST * float(self.sizes @ self.variances))

    # ------------------------------------------------------------ two platforms

    def duopoly(self, n_platforms: int = 2) -> GroupDuopoly:
        """Return the mixed equilibrium of two platforms or more."""
        return GroupDuopoly(self, n_platforms)

    def first_best(self) -> GroupFirstBest:
        """Find joining and sharing of most social surplus with two platforms."""
        n_rows = prod((self.sizes + 1).tolist())
        refuse_many(n_rows, n_rows**2, "first_best")
        grid = grid_of(self.sizes)
        terms = Terms(self, grid)
        chosen = best_for_each(
            grid, terms.surplus_base, terms.surplus_slope, np.zeros(self.n_groups, bool), 0.0
        )
        data = terms.surplus_base[chosen] + np.einsum("jg,jg->j", terms.surplus_slope[chosen], grid)
        total = data + np.array([self._services(row) for row in grid])
        # The others are counted by the grid in reverse.
        one = int(np.argmax(total + total[::-1]))
        other = len(grid) - 1 - one
        return GroupFirstBest(
            grid[[one, other]],
            grid[chosen[[one, other]]],
            float(total[one] + total[other]),
            float(data[one] + data[other]),
        )

    def surplus_bound(self, n_platforms: int = 2) -> float:
        """Bound the mixed equilibrium's social surplus from above: Theorems 4 and 7, corrected (money)."""
        checks.count(n_platforms, "n_platforms", least=2)
        low = np.where(self.value_of_privacy <= 1, self.sizes, 0)
        n_rows = prod((low + 1).tolist())
        refuse_many(n_rows, n_rows, "surplus_bound")
        grid = grid_of(low)
        chance = chance_of(grid, low, 1 / n_platforms)
        harm = self.variances - self.noise_variance * chance @ self._others_left(grid)
        return self._services(self.sizes) + self._data_bound(harm, n_platforms)

    def printed_surplus_bound(self) -> float:
        """Bound of Theorems 4 and 7 as printed, without services (money)."""
        low = np.where(self.value_of_privacy <= 1, self.sizes, 0)
        return self._data_bound((self.variances - self.noise_variance * self._others_left(low)) / 2, 2)

    def _data_bound(self, harm: Array, n_platforms: int) -> float:
        value = self.value_of_privacy
        most = self.leaked_information(self.sizes).sharers
        by_user = np.where(value <= 1, (1 - value) * most, (1 - value) * harm)
        return float((1 + (n_platforms - 1) * self.spillover) * (self.sizes @ by_user))

    # ------------------------------------------------------------ policy

    def mediator_surplus(self, no_leak: ArrayLike | Iterable[int] | None = None) -> float:
        """Most data surplus of a mediator who holds all data (money); see `mediator`."""
        return self.mediator(no_leak).objective

    def mediator(self, no_leak: ArrayLike | Iterable[int] | None = None) -> GroupMediation:
        """Find what a mediator who holds all data should pass on to the platform.

        Parameters
        ----------
        no_leak : array of bool, shape (n_groups,), or set of indices, optional
            Groups about which nothing may leak.

        Returns
        -------
        GroupMediation
            ``.leaked_information`` and ``.compensation`` of each user of a group; ``.objective`` is the data
            surplus. ``full().mediator()`` has the covariance of the estimates too.
        """
        return mediate(self, no_leak)

    def pigovian_tax(
        self, target: ArrayLike | None = None, backend: str | None = None, **options: Any
    ) -> Solution:
        """Find the least taxes on sharing at which one platform buys what is best for all.

        All of a group are taxed alike. If of each group of the target all share, or nobody, no other taxes
        are less in sum; otherwise ``full().pigovian_tax()`` may find some by telling users of a group apart.

        Parameters
        ----------
        target : array of int, shape (n_groups,), optional
            How many are to share; by default the numbers of most data surplus.
        backend : str, optional
        **options
            See `Program.solve`.

        Returns
        -------
        Solution
            ``tax`` of shape (n_groups,) (money per user who shares), ``sharing`` (numbers of users); the
            objective is the sum over all users.

        Raises
        ------
        Infeasible
            If no taxes do that treat users of a group alike.
        """
        return least_taxes(self, target, backend, **options)

    def __repr__(self) -> str:
        return (
            f"ExchangeableGroups(sizes {self.sizes.tolist()}, value_of_privacy "
            f"{self.value_of_privacy.tolist()}, spillover {self.spillover:g})"
        )


def _frozen(array: IntArray) -> IntArray:
    array.setflags(write=False)
    return array


__all__ = ["ExchangeableGroups", "GroupDuopoly", "GroupFirstBest", "GroupLeaks", "GroupPurchase"]
