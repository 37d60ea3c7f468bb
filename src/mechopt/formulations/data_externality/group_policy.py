"""Users in groups at given prices, and what a regulator can do for them: by counting, as in `groups`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.data_externality.counting import Terms, grid_of, refuse_many
from mechopt.formulations.data_externality.users import INDIFFERENT, own_information
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Program
from mechopt.solvers.solution import Solution

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.groups import ExchangeableGroups

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

MOST_TAXED = 10**5
"""Numbers of users of all groups up to which the least taxes have a row for each."""


# ------------------------------------------------------------ users at given prices


@dataclass(frozen=True, eq=False)
class GroupEquilibria:
    """Equilibria of the users' game, if all of a group are offered the same price.

    The least and the greatest equilibrium treat users who are alike alike: of each group all share, or
    nobody. There may be others between them in which a part shares.

    Attributes
    ----------
    groups : ExchangeableGroups
    prices : array, shape (n_groups,)
        Paid to each user of a group who shares (money).
    joined : array of int, shape (n_groups,)
        How many may share.
    """

    groups: ExchangeableGroups
    prices: Array
    joined: IntArray

    @property
    def tolerance(self) -> float:
        """Payoff differences that count as none (money)."""
        others, _ = self._asked(np.zeros_like(self.joined))
        return INDIFFERENT * float(np.max(others))

    def _asked(self, sharing: IntArray) -> tuple[Array, Array]:
        """Least payments (money) for which those who do not share would, and those who do keep sharing."""
        others, before = self.groups._left(sharing)
        unit = self.groups.noise_variance * self.groups.value_of_privacy
        return unit * own_information(others), unit * own_information(before)

    @cached_property
    def least(self) -> IntArray:
        """How many share in the equilibrium in which the fewest do, shape (n_groups,)."""
        return self._iterate(np.zeros_like(self.joined), willing=False)

    @cached_property
    def greatest(self) -> IntArray:
        """How many share in the equilibrium in which the most do, shape (n_groups,)."""
        return self._iterate(self.joined, willing=True)

    def _iterate(self, start: IntArray, *, willing: bool) -> IntArray:
        sharing = start
        for _ in range(self.groups.n_groups + 1):
            others, sharers = self._asked(sharing)
            gain = self.prices - np.where(sharing > 0, sharers, others)
            wants = gain >= -self.tolerance if willing else gain > self.tolerance
            sharing = np.where(wants, self.joined, 0)
        return sharing

    def is_equilibrium(self, sharing: ArrayLike) -> bool:
        """Tell whether nobody gains by changing whether it shares, if so many of each group do."""
        return bool(self._kept(self.groups.counts(sharing, most=self.joined)[None])[0])

    def all(self) -> IntArray:
        """Return every equilibrium by how many of each group share, shape (n_equilibria, n_groups)."""
        n_rows = prod((self.joined + 1).tolist())
        refuse_many(n_rows, n_rows, "user_equilibria")
        grid = grid_of(self.joined)
        return grid[self._kept(grid)]

    def _kept(self, grid: IntArray) -> BoolArray:
        others, sharers = self._asked(grid)
        content = (grid == 0) | (self.prices >= sharers - self.tolerance)
        aloof = (grid == self.joined) | (self.prices <= others + self.tolerance)
        return np.asarray(np.all(content & aloof, axis=-1))

    def __repr__(self) -> str:
        return (
            f"GroupEquilibria(at prices {np.round(self.prices, 6).tolist()}: from {self.least.tolist()} to "
            f"{self.greatest.tolist()} of {self.joined.tolist()} share)"
        )


# ------------------------------------------------------------ a mediator


@dataclass(frozen=True, eq=False)
class GroupMediation:
    """What a mediator who holds all data passes on about users in groups.

    Attributes
    ----------
    leaked_information, compensation : array, shape (n_groups,)
        About each user of a group, and what pays it for that (money).
    objective : float
        The data surplus (money).
    """

    leaked_information: Array
    compensation: Array
    objective: float

    def __repr__(self) -> str:
        leaks = np.round(self.leaked_information, 6).tolist()
        return f"GroupMediation(leaked about each user {leaks}, data surplus {self.objective:.6g})"


def mediate(groups: ExchangeableGroups, no_leak: ArrayLike | Iterable[int] | None) -> GroupMediation:
    """Pass on the averages of groups, and differences from them, as far as that is good for all.

    Averages and differences do not tell about each other; the latter are all alike.
    """
    shown = ~groups_named(groups, no_leak, "no_leak")
    common, own = groups._common_and_own
    root, gain = np.sqrt(groups.sizes), 1 - groups.value_of_privacy
    averages = _learnt(root[:, None] * common * root + np.diag(own))
    cross = averages[np.ix_(shown, ~shown)]
    hidden = np.linalg.pinv(averages[np.ix_(~shown, ~shown)], hermitian=True)
    values, vectors = np.linalg.eigh(averages[np.ix_(shown, shown)] - cross @ hidden @ cross.T)
    factor = vectors * np.sqrt(np.clip(values, 0, None))
    worth, directions = np.linalg.eigh(factor.T @ (gain[shown, None] * factor))
    passed = factor @ directions[:, worth > 0]
    leaked = np.where(shown & (gain > 0), (groups.sizes - 1) * own**2 / (1 + own), 0.0)
    leaked[shown] += np.sum(passed**2, axis=1)
    leaked *= groups.noise_variance / groups.sizes
    return GroupMediation(leaked, groups.value_of_privacy * leaked, float((groups.sizes * gain) @ leaked))


def groups_named(groups: ExchangeableGroups, given: ArrayLike | Iterable[int] | None, name: str) -> BoolArray:
    """Read some groups: a set of their numbers, or a 0 or 1 for each."""
    chosen = np.zeros(groups.n_groups, dtype=bool)
    if given is None:
        return chosen
    if not isinstance(given, set | frozenset):
        # What is no array either is refused there, by name; hence the type that mypy objects to.
        return groups.counts(given, name, np.ones(groups.n_groups)).astype(bool)  # type: ignore[arg-type]
    for group in given:
        if not (isinstance(group, int | np.integer) and 0 <= group < groups.n_groups):
            raise InvalidInput(f"{name}: there is no group {group!r}; groups are 0 to {groups.n_groups - 1}")
        chosen[group] = True
    return chosen


def _learnt(covariance: Array) -> Array:
    """Covariance of the best estimates of types, given data of all."""
    return np.asarray(covariance @ np.linalg.solve(np.eye(len(covariance)) + covariance, covariance))


# ------------------------------------------------------------ taxes


def least_taxes(
    groups: ExchangeableGroups, target: ArrayLike | None, backend: str | None, **options: Any
) -> Solution:
    """Find the least taxes, the same for all of a group; see `ExchangeableGroups.pigovian_tax`."""
    n_rows = prod((groups.sizes + 1).tolist())
    if n_rows > MOST_TAXED:
        raise InvalidInput(
            f"pigovian_tax would have a row for each of {n_rows} numbers of users (at most {MOST_TAXED}); "
            "take fewer or smaller groups"
        )
    grid = grid_of(groups.sizes)
    terms = Terms(groups, grid)
    profit = terms.profit_base + terms.profit_slope @ groups.sizes
    if target is None:
        surplus = terms.surplus_base + terms.surplus_slope @ groups.sizes
        best = np.flatnonzero(surplus >= surplus.max() - groups._tie)
        row = int(best[np.argmax(profit[best])])
    else:
        row = int(np.flatnonzero(np.all(grid == groups.counts(target, "target"), axis=1))[0])
    typical = float(groups.sizes @ groups.leaked_information(groups.sizes).sharers)
    program = Program("least taxes on sharing", objective_scale=typical)
    tax = program.variable("tax", groups.n_groups, nonneg=True, scale=typical)
    program.define("sharing", grid[row].astype(float))
    program.minimize(program.define("total", cp.sum(cp.multiply(groups.sizes, tax))))
    other = np.arange(len(grid)) != row
    program.add("preferred", (grid[other] - grid[row]) @ tax >= profit[other] - profit[row])
    return program.seal().solve(backend, **options)
