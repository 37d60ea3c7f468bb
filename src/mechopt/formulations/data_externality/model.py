"""Data externality: users with correlated types, and platforms that buy their data."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.data_externality import leakage
from mechopt.formulations.data_externality.closed_form import ClosedForm, closed_form
from mechopt.formulations.data_externality.duopoly import Duopoly, FirstBest, first_best, surplus_bound
from mechopt.formulations.data_externality.monopoly import Monopoly, monopoly, solve
from mechopt.formulations.data_externality.policy import (
    Market,
    ShutdownAdvice,
    mediator,
    pigovian_tax,
    should_shut,
)
from mechopt.formulations.data_externality.preset import PresetPrices
from mechopt.formulations.data_externality.program import declare
from mechopt.formulations.data_externality.users import UserEquilibria, user_equilibria
from mechopt.solvers.errors import InvalidInput, MechanismWarning
from mechopt.solvers.program import OnFailure, Program
from mechopt.solvers.solution import Solution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
JoiningUtility = Callable[[int, frozenset[int]], float]

SYMMETRIC = 1e-9
"""Asymmetry and negative eigenvalues that count as rounding, relative to the largest entry."""

MOST_CHECKED = 10
"""Users up to which the paper's assumptions on joining utilities are checked on every set of users."""


@dataclass(frozen=True, eq=False)
class DataExternality:
    r"""Users whose data tell about each other, and platforms that pay for it.

    Types are :math:`X \sim N(0, \Sigma)`; user i's data is :math:`S_i = X_i + Z_i` with independent noise.
    What is shared leaks information about everybody, by which a platform gains, and by which users lose in
    proportion to their value of privacy. Platforms pay those who share, and need not pay the others.

    Parameters
    ----------
    covariance : array, shape (n_users, n_users)
        Of the users' types: symmetric and positive semidefinite, with a positive diagonal; may be singular.
    value_of_privacy : array, shape (n_users,)
        What a unit of leaked information costs each user, >= 0; the platform values it at 1.
    noise_variance : float
        Of the noise in each user's data, > 0.
    spillover : float
        Weight of what leaks to the platform that a user did not join, in [0, 1].
    joining_utility : float, array of shape (n_users,), or callable, optional
        What a platform's service is worth to a user who joined it (money), >= 0: a number each, or
        ``utility(user, joined)`` of the frozen set of users who joined. 0 by default.

    Raises
    ------
    InvalidInput
        If an argument breaks its rule; the message names it, the index, the value and the rule.

    Warns
    -----
    MechanismWarning
        If a joining utility given by a callable is not increasing in who joins, or too small for everybody to
        join. Theorems need it; what is computed does not.

    References
    ----------
    Pal, Wang, Li, Liu, Crowcroft, Li and Tarkoma, "Social Data Trading is Privacy Welfare Damaging";
    Acemoglu, Makhdoumi, Malekian and Ozdaglar, "Too Much Data", https://doi.org/10.1257/mic.20200200.

    Examples
    --------
    >>> import mechopt as mo
    >>> model = mo.DataExternality([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]], [0.5, 1.3, 3.0])
    >>> model.leaked_information([1, 0, 0]).round(3).tolist()
    [0.5, 0.18, 0.02]
    """

    covariance: Array
    value_of_privacy: Array
    noise_variance: float = 1.0
    spillover: float = 0.0
    joining_utility: float | Array | JoiningUtility | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "covariance", _covariance(self.covariance))
        value = checks.vector(self.value_of_privacy, "value_of_privacy")
        if value.size != self.n_users:
            raise InvalidInput(
                f"value_of_privacy has {value.size} entries, and covariance is of {self.n_users} users"
            )
        checks.all_finite(value, "value_of_privacy")
        if np.any(value < 0):
            user = int(np.argmax(value < 0))
            raise InvalidInput(f"value_of_privacy[{user}] = {value[user]:g} must be >= 0")
        object.__setattr__(self, "value_of_privacy", value)
        object.__setattr__(self, "noise_variance", checks.positive(self.noise_variance, "noise_variance"))
        spillover = checks.nonnegative(self.spillover, "spillover")
        if spillover > 1:
            raise InvalidInput(f"spillover = {spillover:g} must be in [0, 1]")
        object.__setattr__(self, "spillover", spillover)
        self._check_joining_utility()

    def _check_joining_utility(self) -> None:
        given = self.joining_utility
        if given is None:
            return
        if not callable(given):
            array = checks.vector(
                np.full(self.n_users, given) if np.ndim(given) == 0 else given, "joining_utility"
            )
            if array.size != self.n_users:
                raise InvalidInput(
                    f"joining_utility has {array.size} entries for {self.n_users} users; give one each, one "
                    "for all, or a function of a user and of the set of who joined"
                )
            checks.all_finite(array, "joining_utility")
            if np.any(array < 0):
                user = int(np.argmax(array < 0))
                raise InvalidInput(f"joining_utility[{user}] = {array[user]:g} must be >= 0")
            object.__setattr__(self, "joining_utility", array)
            return
        if self.n_users <= MOST_CHECKED:
            told = self._broken_assumption()
            if told:
                warnings.warn(told, MechanismWarning, stacklevel=4)

    def _broken_assumption(self) -> str:
        """Say which of the paper's assumptions A1 and A2 the joining utility breaks, and where."""
        n, worst = self.n_users, float(np.max(self.value_of_privacy * np.diag(self.covariance)))
        for user in range(n):
            others = [other for other in range(n) if other != user]
            alone = self.service(user, frozenset({user}))
            if alone <= worst:
                return (
                    f"joining_utility({user}, {{{user}}}) = {alone:g} is not above {worst:g}, the most that "
                    "anybody loses by joining: not everybody need join"
                )
            for mask in range(2 ** (n - 1)):
                joined = frozenset({user, *(other for bit, other in enumerate(others) if mask >> bit & 1)})
                for more in others:
                    if more not in joined and self.service(user, joined | {more}) <= self.service(
                        user, joined
                    ):
                        return (
                            f"joining_utility({user}, J) does not rise when user {more} joins J = "
                            f"{sorted(joined)}: network effects are not positive"
                        )
        return ""

    def __repr__(self) -> str:
        return (
            f"DataExternality(of {self.n_users} users, {self.high_value.size} of high value, noise variance "
            f"{self.noise_variance:g}, spillover {self.spillover:g})"
        )

    # ------------------------------------------------------------ users

    @property
    def n_users(self) -> int:
        """Number of users, n."""
        return len(self.covariance)

    @property
    def variance(self) -> Array:
        """Variance of each user's type, shape (n_users,)."""
        return np.diag(self.covariance)

    @cached_property
    def scaled_covariance(self) -> Array:
        """Covariance in units of the noise; information is ``noise_variance`` times its own with noise 1."""
        return self.covariance / self.noise_variance

    @property
    def low_value(self) -> NDArray[np.intp]:
        """Users with a value of privacy of at most 1: the platform values their information more."""
        return np.flatnonzero(self.value_of_privacy <= 1)

    @property
    def high_value(self) -> NDArray[np.intp]:
        """Users with a value of privacy above 1."""
        return np.flatnonzero(self.value_of_privacy > 1)

    def service(self, user: int, joined: frozenset[int]) -> float:
        """What the service of a platform is worth to a user who joined it with others (money)."""
        if user not in joined or self.joining_utility is None:
            return 0.0
        if not callable(self.joining_utility):
            return float(np.asarray(self.joining_utility)[user])
        given = self.joining_utility(user, joined)
        try:
            value = float(given)
        except (TypeError, ValueError):
            value = np.nan
        if not (np.isfinite(value) and value >= 0):
            raise InvalidInput(
                f"joining_utility({user}, {sorted(joined)}) = {given!r} must be a finite number >= 0"
            )
        return value

    def profile(self, users: ArrayLike | Iterable[int], name: str = "sharing") -> BoolArray:
        """Read a set of users.

        Parameters
        ----------
        users : array of shape (n_users,) of 0 and 1 or bool, or set of indices
            A set or frozenset is read as indices, anything else as a profile.
        name : str
            What it is called in errors.

        Returns
        -------
        array of bool, shape (n_users,)
        """
        if isinstance(users, set | frozenset):
            taken = np.zeros(self.n_users, dtype=bool)
            for user in users:
                if not (isinstance(user, int | np.integer) and 0 <= user < self.n_users):
                    raise InvalidInput(
                        f"{name}: there is no user {user!r}; users are 0 to {self.n_users - 1}"
                    )
                taken[user] = True
            return taken
        try:
            array = np.asarray(users, dtype=float)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"{name} must be zeros and ones, got {users!r}: {error}") from None
        if array.shape != (self.n_users,):
            raise InvalidInput(
                f"{name} has shape {array.shape}; give a 0 or 1 for each of {self.n_users} users, or a set"
            )
        broken = (array != 0) & (array != 1)
        if np.any(broken):
            user = int(np.argmax(broken))
            raise InvalidInput(f"{name}[{user}] = {array[user]:g} must be 0 or 1")
        return array.astype(bool)

    def leaked_information(self, sharing: ArrayLike | Iterable[int]) -> Array:
        r"""Information about each user that leaks from those who share: by how much its variance falls.

        .. math:: I_i(A) = \Sigma_{iA} (N I + \Sigma_{AA})^{-1} \Sigma_{Ai}

        Parameters
        ----------
        sharing : array of shape (n_users,), or set of indices
            Who shares; see `profile`.

        Returns
        -------
        array, shape (n_users,)
            In [0, variance], of all users, whether they share or not.

        References
        ----------
        Pal et al., Definition of leaked information, section III.
        """
        return self.noise_variance * leakage.leaked_information(self.scaled_covariance, self.profile(sharing))

    @cached_property
    def total_information(self) -> float:
        """What leaks about all users together if all share: the most that a platform can gain (money)."""
        return float(self.leaked_information(np.ones(self.n_users)).sum())

    def data_surplus(self, sharing: ArrayLike | Iterable[int]) -> float:
        r"""Surplus of platform and users from data alone, :math:`\sum_i (1 - v_i) I_i` (money)."""
        return float((1 - self.value_of_privacy) @ self.leaked_information(sharing))

    # ------------------------------------------------------------ users at given prices

    def user_equilibria(
        self, prices: ArrayLike, *, joined: ArrayLike | Iterable[int] | None = None
    ) -> UserEquilibria:
        """Find the equilibria of the users' game at given prices: a lattice.

        Parameters
        ----------
        prices : array, shape (n_users,)
            What each user is paid for sharing (money).
        joined : array of shape (n_users,), or set of indices, optional
            Users of the platform; the others cannot share. All by default.

        Returns
        -------
        UserEquilibria
            ``.least``, ``.greatest``, and ``.all()`` for few users.
        """
        return user_equilibria(self, prices, self._joined(joined))

    # ------------------------------------------------------------ one platform

    def program(self, joined: ArrayLike | Iterable[int] | None = None) -> Program:
        """Declare the platform's purchase as a mixed-integer convex program.

        Parameters
        ----------
        joined : array of shape (n_users,), or set of indices, optional
            Users of the platform. All by default.

        Returns
        -------
        Program
            With the boolean variable ``sharing``; ``program["leaked_information"]`` and so on. Its continuous
            relaxation bounds the profit. It has up to three semidefinite rows of size ``n_users`` for each
            user: ``outer`` takes seconds for 8 users, and more than 12 are for `solve`, unless a time limit
            is given.

        Notes
        -----
        Limits on who shares are linear, and solved by the exact algorithm too: how many,
        ``cp.sum(program["sharing"]) <= k``; who must not, or share together,
        ``program["sharing"][0] == program["sharing"][1]``; caps on leaks, nothing about some users, and a
        floor for payoffs by `leak_covers`. A budget, ``cp.sum(program["payments"]) <= budget``, and
        objectives that weigh leaks and payments otherwise are for ``outer``. A platform that values
        information at w is that with values of privacy divided by w, and money in units of w. A user whose
        noise has another variance has its type and its noise divided by the noise's standard deviation, and
        its leak and payment weighted by that squared in the objective.

        Not covered: types of several dimensions, whose price is for all of them at once; sharing in part,
        of which the relaxation gives a bound and no price; covariances known roughly, for which the best of
        the worst cases is sought.

        Examples
        --------
        >>> import cvxpy as cp
        >>> import mechopt as mo
        >>> model = mo.DataExternality([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]], [0.5, 0.7, 0.9])
        >>> program = model.program()
        >>> program.add("few", cp.sum(program["sharing"]) <= 1).solve()["sharing"].tolist()
        [1.0, 0.0, 0.0]
        """
        return declare(self, self._joined(joined))

    def solve(
        self,
        joined: ArrayLike | Iterable[int] | None = None,
        backend: str | None = None,
        *,
        tolerance: float | None = None,
        time_limit: float | None = None,
        verbose: bool = False,
        on_failure: OnFailure = "raise",
        selection: Literal["optimistic", "unique"] = "optimistic",
        **options: Any,
    ) -> Solution:
        """Find whom the platform buys from, and at what prices.

        Parameters
        ----------
        joined : array of shape (n_users,), or set of indices, optional
            Users of the platform. All by default.
        backend : str, optional
            Default ``"exact"``: enumeration or branch and bound over users of high value.
        tolerance, time_limit, verbose, on_failure, **options
            See `Program.solve`.
        selection : {"optimistic", "unique"}
            Prices at which the set is an equilibrium of the users, or the only one.

        Returns
        -------
        Solution
            ``sharing`` (zeros and ones), ``prices``, ``leaked_information`` of shape (n_users,);
            ``objective`` is the platform's profit, with its ``bound``.
        """
        return solve(
            self,
            self._joined(joined),
            backend,
            tolerance=tolerance,
            time_limit=time_limit,
            verbose=verbose,
            on_failure=on_failure,
            selection=selection,
            **options,
        )

    def monopoly(self) -> Monopoly:
        """Return the equilibrium with one platform that all join: who shares, prices, payoffs and surplus."""
        return monopoly(self)

    def closed_form(self) -> ClosedForm:
        """Return the optimum of a platform that all joined by a formula, where there is one.

        Returns
        -------
        ClosedForm
            ``.sharing``, ``.prices``, ``.leaked_information``, ``.profit``, and the ``.case`` that applies.

        Raises
        ------
        NotApplicable
            Unless all users have a value of privacy of at most 1, or there are two, or all pairs have the
            same variances and covariance. `solve` needs none of that.
        """
        return closed_form(self)

    # ------------------------------------------------------------ two platforms

    def duopoly(self, n_platforms: int = 2) -> Duopoly:
        """Return the joining game of two platforms or more: its pure and mixed equilibria."""
        return Duopoly(self, n_platforms)

    def first_best(self, n_platforms: int = 2) -> FirstBest:
        """Return the joining and sharing profiles of most social surplus."""
        return first_best(self, n_platforms)

    def surplus_bound(self, n_platforms: int = 2) -> float:
        """Bound the mixed equilibrium's social surplus from above: Theorems 4 and 7, corrected (money)."""
        return surplus_bound(self, n_platforms)

    def preset_prices(self) -> PresetPrices:
        """Return the game in which two platforms announce prices before users join, for at most 6 users."""
        return PresetPrices(self)

    # ------------------------------------------------------------ policy

    def pigovian_tax(
        self,
        target: ArrayLike | Iterable[int] | None = None,
        backend: str | None = None,
        **options: Any,
    ) -> Solution:
        """Find the least taxes on sharing at which one platform buys what is best for all.

        Parameters
        ----------
        target : array of shape (n_users,), or set of indices, optional
            Who is to share; by default the set of most data surplus, for at most 20 users.
        backend : str, optional
        **options
            See `Program.solve`.

        Returns
        -------
        Solution
            ``tax`` of shape (n_users,) (money per user who shares), ``sharing``; the objective is the sum of
            all taxes.
        """
        return pigovian_tax(self, target, backend, **options)

    def mediator(
        self,
        no_leak: ArrayLike | Iterable[int] | None = None,
        backend: str | None = None,
        **options: Any,
    ) -> Solution:
        """Find what a mediator who holds all data should pass on to the platform.

        Parameters
        ----------
        no_leak : array of shape (n_users,), or set of indices, optional
            Users about whom nothing may leak.
        backend : str, optional
        **options
            See `Program.solve`.

        Returns
        -------
        Solution
            ``estimate_covariance`` of shape (n_users, n_users), ``leaked_information``; the objective is the
            data surplus.
        """
        forbidden = (
            np.zeros(self.n_users, dtype=bool) if no_leak is None else self.profile(no_leak, "no_leak")
        )
        return mediator(self, forbidden, backend, **options)

    def should_shut(
        self, market: Market = "monopoly", *, n_draws: int = 2000, seed: int = 0
    ) -> ShutdownAdvice:
        """Say whether no data market at all would be better, and what would be better than either.

        Parameters
        ----------
        market : {"monopoly", "duopoly"}
            One platform that all join, or two in the mixed equilibrium.
        n_draws, seed : int
            For a duopoly with more than 14 users, whose surplus is estimated.

        Returns
        -------
        ShutdownAdvice
            ``.shut``, ``.data_surplus`` and more; ``print`` it for a sentence.
        """
        return should_shut(self, market, n_draws=n_draws, seed=seed)

    # ------------------------------------------------------------ pictures

    def plot(
        self,
        solution: Solution | Monopoly | Mapping[str, Any] | None = None,
        *,
        names: Sequence[str] | None = None,
        positions: ArrayLike | None = None,
        unit: str = "money",
    ) -> Figure:
        """Draw who shares, at what price, and what leaks about the others.

        Parameters
        ----------
        solution : Solution, Monopoly, or mapping, optional
            What to draw, as from `solve`, `mediator` or `pigovian_tax`; by default what a platform buys that
            all joined.
        names : sequence of str, optional
            By default the users' numbers.
        positions : array, shape (n_users, 2), optional
            By default correlated users are close.
        unit : str
            Of money, for the labels.
        """
        from mechopt.formulations.data_externality.figures import plot_network

        shown = self.monopoly() if solution is None else solution
        return plot_network(self, shown, names=names, positions=positions, unit=unit)

    def _joined(self, joined: ArrayLike | Iterable[int] | None) -> BoolArray:
        return np.ones(self.n_users, dtype=bool) if joined is None else self.profile(joined, "joined")


def _covariance(value: ArrayLike) -> Array:
    """Return a covariance, checked and exactly symmetric."""
    if np.iscomplexobj(value):
        raise InvalidInput("covariance must be real numbers, got complex ones")
    try:
        array: Array = np.array(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"covariance must be numbers, got {value!r}: {error}") from None
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not array.size:
        raise InvalidInput(f"covariance must be a square matrix, got shape {array.shape}")
    if not np.all(np.isfinite(array)):
        i, j = (int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise InvalidInput(f"covariance[{i}, {j}] is {array[i, j]}; every entry must be a finite number")
    variance = np.diag(array)
    if np.any(variance <= 0):
        user = int(np.argmax(variance <= 0))
        raise InvalidInput(
            f"covariance[{user}, {user}] = {variance[user]:g} must be > 0: of user {user} there is "
            "nothing to learn"
        )
    scale = float(np.max(variance))
    difference = np.abs(array - array.T)
    if np.max(difference) > SYMMETRIC * scale:
        i, j = (int(k) for k in np.unravel_index(int(np.argmax(difference)), array.shape))
        raise InvalidInput(
            f"covariance is not symmetric: entry [{i}, {j}] is {array[i, j]:g}, and [{j}, {i}] is "
            f"{array[j, i]:g}"
        )
    array = np.asarray((array + array.T) / 2)
    smallest = float(np.linalg.eigvalsh(array)[0])
    if smallest < -SYMMETRIC * scale:
        raise InvalidInput(
            f"covariance is not positive semidefinite: its smallest eigenvalue is {smallest:.6g}; "
            "no types have these correlations, lower them"
        )
    array.setflags(write=False)
    return array


__all__: Sequence[str] = ["DataExternality", "JoiningUtility"]
