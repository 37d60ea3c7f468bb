r"""Subsidies for joining: what keeps users on the platforms where all of them are best off together.

Taxes on what platforms buy do not bring back together users who split to avoid each other's leaks. A subsidy
does, paid to a user for joining the platform that a profile says. Nobody else's choice depends on it, so that
the least one makes up for the best deviation,

.. math:: s_i = \max\{0, \; \max_k u_i(J_k \cup i) - u_i(J)\}

The paper has no subsidies. Its Theorem 3.1 is the case of none: if users of high value are correlated with
nobody, all join one platform if and only if :math:`c_i(V) - c_i(\{i\}) \ge v_i I_i(V^l \setminus i)` for all
of low value, and where that fails the difference is the least subsidy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.data_externality.exact import platform_optimum
from mechopt.formulations.data_externality.leakage import leak_table
from mechopt.formulations.data_externality.policy.surplus import losses
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Program

if TYPE_CHECKING:
    import pandas as pd

    from mechopt.formulations.data_externality.model import DataExternality

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Users = frozenset[int]

MOST_TAXED = 14
"""Users of a platform up to which what is best for all is found by looking at all sets."""


@dataclass(frozen=True, eq=False)
class JoiningSubsidies:
    """The least subsidies at which a joining profile is a pure equilibrium.

    Attributes
    ----------
    joining : array of int, shape (n_users,)
        Platform of each user, from 1.
    sharing : array of bool, shape (n_users,)
        Who shares with it.
    subsidy : array, shape (n_users,)
        To each user for joining it (money), >= 0.
    payoff : array, shape (n_users,)
        Without the subsidy (money).
    temptation : array of int, shape (n_users,)
        Where each would get most by going elsewhere; 0 is nowhere.
    social_surplus, data_surplus : float
        Of users and platforms, with services and without (money). Subsidies move money only.
    """

    joining: IntArray
    sharing: BoolArray
    subsidy: Array
    payoff: Array
    temptation: IntArray
    social_surplus: float
    data_surplus: float

    @property
    def total(self) -> float:
        """Sum of the subsidies (money)."""
        return float(self.subsidy.sum())

    def to_frame(self) -> pd.DataFrame:
        """One row a user."""
        import pandas as pd

        columns = {
            "joining": self.joining,
            "sharing": self.sharing,
            "payoff": self.payoff,
            "subsidy": self.subsidy,
            "temptation": self.temptation,
        }
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self.joining), name="user"))


def joining_subsidies(
    x: DataExternality,
    joining: ArrayLike | None = None,
    *,
    taxed: bool = False,
    may_leave: bool = False,
    n_platforms: int = 2,
) -> JoiningSubsidies:
    """Find the least subsidies at which a joining profile is a pure equilibrium: Definition 1.

    Parameters
    ----------
    x : DataExternality
    joining : array of int, shape (n_users,), optional
        Platform of each user, from 1; all on platform 1 by default, or ``x.first_best().joining``.
    taxed : bool
        Whether platforms pay a tax of the loss that nobody is paid for, whatever they buy: then each buys
        what is best for all. With the first best's joining profile the two together reach the first best.
    may_leave : bool
        Whether joining no platform is a choice, for which a subsidy has to make up too. By Lemma 1 it never
        pays if services are worth more than what leaks.
    n_platforms : int

    Returns
    -------
    JoiningSubsidies

    Raises
    ------
    InvalidInput
        If a platform is not one, or a taxed platform has more than 14 users.

    Examples
    --------
    >>> import mechopt as mo
    >>> model = mo.DataExternality([[1.0, 0.5], [0.5, 1.0]], [0.5, 0.8])
    >>> joining_subsidies(model).subsidy.round(4).tolist()
    [0.0625, 0.1]
    """
    game = _Game(x, joining, taxed, n_platforms)
    values = game.alternatives()
    profile, users = game.profile, np.arange(x.n_users)
    payoff = values[users, profile]
    others = values.copy()
    others[users, profile] = -np.inf
    if not may_leave:
        others[:, 0] = -np.inf
    outcomes = [game.outcome(part) for part in game.parts(profile)]
    data = game.data_surplus(profile)
    return JoiningSubsidies(
        profile,
        np.any([sharing for sharing, *_ in outcomes], axis=0),
        np.maximum(others.max(axis=1) - payoff, 0.0),
        payoff,
        others.argmax(axis=1).astype(np.int64),
        data + sum(x.service(user, part) for part in game.parts(profile) for user in part),
        data,
    )


def subsidy_program(
    x: DataExternality,
    joining: ArrayLike | None = None,
    *,
    taxed: bool = False,
    may_leave: bool = False,
    n_platforms: int = 2,
) -> Program:
    """Declare the least joining subsidies as a linear program; see `joining_subsidies`.

    Returns
    -------
    Program
        With the variable ``subsidy``, shape (n_users,) (money), its ``total`` as the objective, and the
        family ``stay``, a row for each user and each other choice.
    """
    game = _Game(x, joining, taxed, n_platforms)
    values = game.alternatives()
    users = np.arange(x.n_users)
    gains = values - values[users, game.profile][:, None]
    elsewhere = np.arange(n_platforms + 1) != game.profile[:, None]
    elsewhere[:, 0] = may_leave
    who, where = np.nonzero(elsewhere)
    typical = float(np.max(np.abs(gains))) or 1.0
    program = Program("least joining subsidies", objective_scale=typical)
    subsidy = program.variable("subsidy", x.n_users, nonneg=True, scale=typical)
    program.define("total", cp.sum(subsidy))
    program.minimize(program["total"])
    program.add("stay", subsidy[who] >= gains[who, where])
    return program.seal()


class _Game:
    """Payoffs of single deviations from a joining profile."""

    def __init__(self, x: DataExternality, joining: ArrayLike | None, taxed: bool, n_platforms: int) -> None:
        self.x, self.taxed, self.n_platforms = x, taxed, n_platforms
        profile = x.duopoly(n_platforms).profile(np.ones(x.n_users) if joining is None else joining)
        if np.any(profile == 0):
            user = int(np.argmax(profile == 0))
            raise InvalidInput(
                f"joining[{user}] = 0: give every user a platform, 1 to {n_platforms}, to join"
            )
        self.profile = profile
        self._known: dict[Users, tuple[BoolArray, Array, Array]] = {}

    def parts(self, profile: IntArray) -> list[Users]:
        """Users of each platform."""
        return [
            frozenset(np.flatnonzero(profile == label).tolist()) for label in range(1, self.n_platforms + 1)
        ]

    def outcome(self, joined: Users) -> tuple[BoolArray, Array, Array]:
        """Who shares, what leaks about each user, and what each loses net of the least price (money)."""
        if joined not in self._known:
            x, inside = self.x, self.x.profile(joined, "joined")
            if self.taxed:
                sharing = _best_for_all(x, inside)
            else:
                sharing = platform_optimum(
                    x.scaled_covariance, x.value_of_privacy, inside, spillover=x.spillover
                ).sharing
            self._known[joined] = (sharing, x.leaked_information(sharing), losses(x, sharing[None])[0])
        return self._known[joined]

    def payoff(self, profile: IntArray, user: int) -> float:
        """Eq. (4) and (6), without subsidies (money)."""
        total = 0.0
        for part in self.parts(profile):
            _, leaked, lost = self.outcome(part)
            if user in part:
                total += self.x.service(user, part) - lost[user]
            else:
                total -= self.x.spillover * self.x.value_of_privacy[user] * leaked[user]
        return float(total)

    def alternatives(self) -> Array:
        """Payoff of each user from each choice while all others stay, shape (n_users, n_platforms + 1)."""
        values = np.empty((self.x.n_users, self.n_platforms + 1))
        for user in range(self.x.n_users):
            for label in range(self.n_platforms + 1):
                profile = self.profile.copy()
                profile[user] = label
                values[user, label] = self.payoff(profile, user)
        return values

    def data_surplus(self, profile: IntArray) -> float:
        """Surplus without services (money)."""
        gain, total = 1 - self.x.value_of_privacy, 0.0
        for part in self.parts(profile):
            weight = np.where(self.x.profile(part), 1.0, self.x.spillover)
            total += float((gain * weight) @ self.outcome(part)[1])
        return total


def _best_for_all(x: DataExternality, joined: BoolArray) -> BoolArray:
    """Users of a platform whose sharing gives most data surplus; of several sets the smallest."""
    members = np.flatnonzero(joined)
    if members.size > MOST_TAXED:
        raise InvalidInput(
            f"taxed=True looks at all sets of the users of a platform, for at most {MOST_TAXED} of them, and "
            f"{members.size} would join one"
        )
    # Those who may share first, and each of the others' information is regressed on theirs.
    weight = np.where(joined, 1.0, x.spillover) * (1 - x.value_of_privacy)
    inner = leak_table(x.scaled_covariance[np.ix_(members, members)])
    surplus = inner @ weight[members]
    if x.spillover and members.size < x.n_users:
        sets = (np.arange(len(inner))[:, None] >> np.arange(members.size) & 1).astype(bool)
        for row, chosen in enumerate(sets):
            sharing = np.zeros(x.n_users, dtype=bool)
            sharing[members[chosen]] = True
            leaked = x.leaked_information(sharing) / x.noise_variance
            surplus[row] += weight[~joined] @ leaked[~joined]
    best = int(np.flatnonzero(surplus >= surplus.max() - 1e-12 * float(np.trace(x.scaled_covariance)))[0])
    sharing = np.zeros(x.n_users, dtype=bool)
    sharing[members[(best >> np.arange(members.size) & 1).astype(bool)]] = True
    return sharing
