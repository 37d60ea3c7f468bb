"""The joining game of users in groups, as far as counts tell: its mixed equilibrium."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.data_externality.counting import (
    Terms,
    best_for_each,
    chance_of,
    grid_of,
    refuse_many,
)
from mechopt.solvers.errors import NotApplicable
from mechopt.verification.audit import Deviation

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.groups import ExchangeableGroups

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class GroupDuopoly:
    """The equilibrium in which users of groups join each of several platforms alike.

    Parameters
    ----------
    groups : ExchangeableGroups
    n_platforms : int
        At least 2.
    """

    groups: ExchangeableGroups
    n_platforms: int = 2

    def __post_init__(self) -> None:
        checks.count(self.n_platforms, "n_platforms", least=2)

    @cached_property
    def _mixed(self) -> tuple[float, float]:
        """Data and social surplus: binomial numbers of users join a platform, independently by group."""
        groups = self.groups
        low = groups.value_of_privacy <= 1
        n_low, n_high = (prod((groups.sizes[which] + 1).tolist()) for which in (low, ~low))
        refuse_many(n_low * n_high, n_low * n_high**2, "the mixed equilibrium")
        grid = grid_of(groups.sizes)
        terms = Terms(groups, grid)
        chosen = best_for_each(grid, terms.profit_base, terms.profit_slope, low, groups._tie)
        data = terms.surplus_base[chosen] + np.einsum("jg,jg->j", terms.surplus_slope[chosen], grid)
        service = np.zeros(len(grid))
        if groups.joining_utility is not None:
            service = np.array([groups._services(row) for row in grid])
        chance = self.n_platforms * chance_of(grid, groups.sizes, 1 / self.n_platforms)
        return float(chance @ data), float(chance @ (data + service))

    @property
    def mixed_data_surplus(self) -> float:
        """Data surplus of the mixed equilibrium of Theorem 2 (money)."""
        return self._mixed[0]

    @property
    def mixed_social_surplus(self) -> float:
        """Social surplus of that equilibrium (money)."""
        return self._mixed[1]

    @property
    def pure_equilibria(self) -> list[IntArray]:
        """Not defined by counts.

        Raises
        ------
        NotApplicable
            A platform that buys from some users of a group may choose any of them, and these are treated
            otherwise than the rest: whether a user gains by moving depends on who it is.
        """
        raise _by_users("pure equilibria")

    def best_deviation(self, joining: ArrayLike) -> Deviation:
        """Not defined by counts; see `pure_equilibria`.

        Raises
        ------
        NotApplicable
        """
        raise _by_users("best deviations")

    def __repr__(self) -> str:
        return f"GroupDuopoly({self.groups!r}, {self.n_platforms} platforms)"


def _by_users(what: str) -> NotApplicable:
    return NotApplicable(
        f"who of a group shares is not settled by counts, so that neither are {what}; use "
        "groups.full().duopoly(), whose pure_equilibria takes at most 14 users",
        reason="users of a group are not treated alike",
    )
