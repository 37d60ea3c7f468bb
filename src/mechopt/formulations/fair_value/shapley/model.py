"""Fair values: what each user's data, at its privacy level, is worth to those who share the utility."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from mechopt.formulations import checks
from mechopt.formulations.fair_value.shapley import exact, groups, owen, sampling
from mechopt.formulations.fair_value.shapley import program as programs
from mechopt.formulations.fair_value.shapley.program import Nucleolus, Sense
from mechopt.formulations.fair_value.shapley.utilities import MAX_GRID, CountUtility, Progress, read
from mechopt.solvers.errors import InvalidInput, Unbounded
from mechopt.solvers.program import Program

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Method = Literal["auto", "subsets", "groups", "owen", "monte_carlo"]

_METHODS = ("auto", "subsets", "groups", "owen", "monte_carlo")
_ZERO = 1e-12
"""A utility of nobody below this, relative to that of everybody, is rounding."""
_CALLS = 2**17
"""With a function of one coalition, ``auto`` makes no more calls than that."""
_CELLS = 5e8
"""With a table, or a function of many at once, it visits no more than these."""
_LIMIT = 4e9


def _listed(values: Array) -> str:
    """Numbers on a line of a terminal, the middle of many left out."""
    shown = [f"{value:.6g}" for value in (values if values.size <= 6 else (*values[:3], *values[-2:]))]
    if values.size > 6:
        shown.insert(3, "...")
    return ", ".join(shown)


@dataclass(frozen=True, eq=False, repr=False)
class FairDivision:
    """What each user and the platform get.

    Attributes
    ----------
    user_values : array, shape (n_users,)
        In units of the utility, the payment share included; may be negative where utility can fall.
    platform_value : float
        Its fair value if it is a member of the coalition, otherwise the share that it keeps.
    group_values : array, shape (n_groups,)
        Value of one user of each group; the same as ``user_values`` for distinct users.
    group_sizes : tuple of int
    total_utility : float
        Utility of everybody.
    efficiency_residual : float
        By how much the values miss what there is to divide, absolute.
    method, reason : str
        How they were computed, and why so.
    n_evaluations : int
        How often the utility was evaluated.
    seconds : float
    standard_error : array, shape (n_users,), or None
        For Monte Carlo.
    platform_standard_error : float or None
    confidence : float or None
        Level of the confidence intervals.
    """

    user_values: Array
    platform_value: float
    group_values: Array
    group_sizes: tuple[int, ...]
    total_utility: float
    efficiency_residual: float
    method: str
    reason: str
    n_evaluations: int
    seconds: float
    standard_error: Array | None = None
    platform_standard_error: float | None = None
    confidence: float | None = None

    @property
    def confidence_interval(self) -> Array | None:
        """Normal interval for the value of each user, shape (n_users, 2); None for exact values."""
        if self.standard_error is None or self.confidence is None:
            return None
        reach = float(ndtri(0.5 + self.confidence / 2)) * self.standard_error
        return np.stack([self.user_values - reach, self.user_values + reach], axis=1)

    def __repr__(self) -> str:
        grouped = any(size > 1 for size in self.group_sizes)
        who = f"{self.user_values.size} users"
        if grouped:
            who += f" in {len(self.group_sizes)} groups"
        lines = [
            f"Fair division of {self.total_utility:.6g} among {who}, by {self.method}",
            f"  reason     {self.reason}",
            f"  {'each user ' if grouped else 'users     '} {_listed(self.group_values)}",
            f"  platform   {self.platform_value:.6g}",
        ]
        if self.standard_error is not None:
            worst = float(np.max(self.standard_error, initial=0.0))
            lines.append(f"  error      up to {worst:.2g} (standard error of a user's value)")
        lines.append(f"  residual   {self.efficiency_residual:.1e} of what there is to divide")
        lines.append(f"  time       {1e3 * self.seconds:.3g} ms, {self.n_evaluations} evaluations")
        return "\n".join(lines)

    def plot(self) -> Figure:
        """Draw the values: a bar for each user, or for one user of each group; intervals for Monte Carlo.

        Returns
        -------
        matplotlib.figure.Figure
            Of more than 60 users or groups the values are drawn in falling order instead.
        """
        from mechopt.formulations.fair_value.shapley.plots import plot_division

        return plot_division(self)

    def to_frame(self) -> pd.DataFrame:
        """Return a table, a row a user and a last one for the platform.

        Returns
        -------
        pandas.DataFrame
            ``group``, ``value``, ``share`` of the total utility; for Monte Carlo ``standard_error``, ``low``
            and ``high`` besides.
        """
        import pandas as pd

        group = np.repeat(np.arange(len(self.group_sizes)), self.group_sizes)
        value = np.append(self.user_values, self.platform_value)
        table: dict[str, Any] = {"group": [*group.tolist(), None], "value": value}
        with np.errstate(divide="ignore", invalid="ignore"):
            table["share"] = value / self.total_utility
        interval = self.confidence_interval
        if interval is not None and self.standard_error is not None:
            error = float("nan") if self.platform_standard_error is None else self.platform_standard_error
            table["standard_error"] = np.append(self.standard_error, error)
            reach = (interval[:, 1] - interval[:, 0]) / 2
            half = np.append(reach, error * float(ndtri(0.5 + (self.confidence or 0) / 2)))
            table["low"], table["high"] = value - half, value + half
        index = [*(f"user {i}" for i in range(self.user_values.size)), "platform"]
        frame = pd.DataFrame(table, index=pd.Index(index, name="player"))
        frame["group"] = frame["group"].astype("Int64")
        return frame


@dataclass(frozen=True, eq=False)
class CorePoint:
    """Whether a division exists that no coalition would leave, and the cheapest payments that keep all.

    Attributes
    ----------
    nonempty : bool
        Whether the core has a point.
    user_values : array, shape (n_users,)
        Payments that no coalition would leave, of the least total; a point of the core if there is one.
    platform_value : float
        0 without the platform.
    total_value : float
        Sum of these payments.
    cost_of_stability : float
        What they take beyond what there is to divide; 0 if the core is not empty.
    """

    nonempty: bool
    user_values: Array
    platform_value: float
    total_value: float
    cost_of_stability: float


@dataclass(frozen=True, eq=False, repr=False)
class FairValue:
    r"""The fair division of a platform's utility, among users alone or with the platform.

    Users have chosen privacy levels. A coalition S of them is worth the utility at the levels of its members,
    with all others at level 0. Fair is what treats users alike that add the same, gives nothing to those that
    add nothing, divides all there is to divide, and is additive. With the platform as a member (Theorem 1),

    .. math:: \phi_p = \frac{1}{N+1} \sum_S \frac{U(S)}{\binom{N}{|S|}}, \qquad
       \phi_i = \frac{1}{N+1} \sum_{S \not\ni i} \frac{U(S \cup i) - U(S)}{\binom{N}{|S|+1}},

    and among the users alone, to whom the platform pays the share :math:`\alpha` of the utility (Theorem 2),

    .. math:: \phi_i = \frac{\alpha}{N} \sum_{S \not\ni i} \frac{U(S \cup i) - U(S)}{\binom{N-1}{|S|}}.

    Parameters
    ----------
    utility : array or callable
        One of

        - a table of 2^N values, in the order of bit masks: bit i of the index says whether user i is in;
        - with ``n_users``, a function of a coalition, a tuple of users such as ``(0, 2)``;
        - with ``privacy_levels``, a function of the levels of all users, shape (n_users,);
        - with ``group_sizes``, a function of the counts of members by group, shape (n_groups,), or an array
          of its values, shape (m_1 + 1, ..., m_G + 1).
    n_users : int, optional
        Number of users N >= 1, where the rest does not tell.
    include_platform : bool
        Whether the platform is a member of the coalition.
    payment_share : float
        Share alpha in [0, 1] of the utility that is paid to users, without the platform as a member. It is
        one number for all utilities: if it depended on them, values would not be additive.
    privacy_levels : array, shape (n_users,), optional
        Level of each user >= 0; larger is less private, and inf is allowed.
    group_sizes : sequence of int, optional
        Users (m_1, ..., m_G) of groups in which all are alike.
    vectorized : bool
        Whether a function evaluates many coalitions at once: it gets a matrix of memberships (bool), levels
        or counts, with one row for each coalition, and returns one number for each.

    Raises
    ------
    InvalidInput
        If an argument breaks its rule; without the platform, if the utility of nobody is not 0.

    References
    ----------
    "The Fair Value of Data Under Heterogeneous Privacy Constraints in Federated Learning", (4)-(6), (12).

    Examples
    --------
    >>> import numpy as np
    >>> fair = FairValue([0, 2 / 3, 2 / 3, 1])
    >>> fair.solve().user_values.round(4).tolist()
    [0.5, 0.5]
    >>> division = FairValue([0, 2 / 3, 2 / 3, 1], include_platform=True).solve()
    >>> division.user_values.round(4).tolist(), round(division.platform_value, 4)
    ([0.2222, 0.2222], 0.5556)
    >>> def utility(counts):
    ...     data = 0.2 * counts[:, 0] + counts[:, 1]
    ...     return data / (data + 2)
    >>> many = FairValue(utility, group_sizes=[1000, 500], vectorized=True).solve()
    >>> many.method, many.group_values.round(8).tolist()
    ('groups', [0.00032382, 0.00134667])
    """

    utility: Any
    n_users: int | None = None
    include_platform: bool = False
    payment_share: float = 1.0
    privacy_levels: ArrayLike | None = field(default=None, kw_only=True)
    group_sizes: Sequence[int] | None = field(default=None, kw_only=True)
    vectorized: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.include_platform, bool | np.bool_):
            raise InvalidInput(f"include_platform must be True or False, got {self.include_platform!r}")
        share = checks.nonnegative(self.payment_share, "payment_share")
        if share > 1:
            raise InvalidInput(f"payment_share must be in [0, 1], got {share:g}")
        if self.include_platform and share != 1:
            raise InvalidInput(
                f"payment_share = {share:g}: with include_platform=True the platform's share follows from "
                "the axioms; leave it out"
            )
        object.__setattr__(self, "payment_share", share)
        game = read(self.utility, self.n_users, self.group_sizes, self.privacy_levels, self.vectorized)
        object.__setattr__(self, "n_users", game.n_users)
        object.__setattr__(self, "group_sizes", None if game.distinct else game.sizes)
        object.__setattr__(self, "_game", game)
        nobody, everybody = game.ends
        if not self.include_platform and abs(nobody) > _ZERO * abs(everybody):
            raise InvalidInput(
                f"utility of nobody is {nobody:g}, and must be 0 to be divided among the users alone: "
                "subtract it from all values, or use include_platform=True"
            )

    def __repr__(self) -> str:
        game = self._counts
        who = f"{game.n_users} users" + ("" if game.distinct else f" in {game.n_groups} groups")
        named = getattr(self.utility, "__qualname__", type(self.utility).__name__)
        form = f"a function, {named}" if callable(self.utility) else "a table"
        paid = "with the platform" if self.include_platform else f"payment_share={self.payment_share:g}"
        return f"FairValue({who}, {paid}, utility: {form})"

    @cached_property
    def _counts(self) -> CountUtility:
        game: CountUtility = self.__dict__["_game"]
        return game

    # ------------------------------------------------------------------ fair values

    def solve(
        self,
        method: Method | None = "auto",
        *,
        n_permutations: int = 2000,
        confidence: float = 0.95,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> FairDivision:
        """Compute the fair values.

        Parameters
        ----------
        method : {"auto", "subsets", "groups", "owen", "monte_carlo"}
            ``"subsets"`` visits all coalitions, of at most 22 users; ``"groups"`` the vectors of counts;
            ``"owen"`` integrates over the chance of being a member, which is a second road to the same
            values; ``"monte_carlo"`` estimates them from random orders. ``"auto"`` takes an exact one where
            that is a matter of seconds, and says which; None is the same.
        n_permutations : int
            Orders for Monte Carlo, an even number >= 4: half of them are the reverse of the others.
        confidence : float
            Level of its confidence intervals, in (0, 1).
        seed : int
            Its seed, >= 0.
        progress : callable, optional
            ``progress(done, total)`` is called during long work.

        Returns
        -------
        FairDivision

        Raises
        ------
        InvalidInput
            If the method is unknown or not meant for so many coalitions, or the utility is not finite; the
            message names the coalition.
        """
        method = "auto" if method is None else method
        if method not in _METHODS:
            raise InvalidInput(f"method must be one of {', '.join(_METHODS)}; got {method!r}")
        n_permutations = checks.count(n_permutations, "n_permutations", 4)
        if n_permutations % 2:
            raise InvalidInput(f"n_permutations must be even, got {n_permutations}: orders come in pairs")
        confidence = checks.fraction(confidence, "confidence")
        seed = checks.count(seed, "seed", 0)
        started = time.perf_counter()
        game, platform = self._counts, bool(self.include_platform)
        reason = "asked for"
        if method == "auto":
            method, reason = self._choose()
        errors = None
        if method == "subsets":
            known = game.tabulated
            values, kept = exact.subset_values(game.coalition_table(progress), platform)
            values = values[np.cumsum((0, *game.sizes[:-1]))]
            evaluations = 0 if known else game.n_cells
        elif method == "monte_carlo":
            found = sampling.sampled_values(game, platform, n_permutations, seed, progress)
            values, kept, errors = found.mean[:-1], float(found.mean[-1]), found.standard_error
            evaluations = found.n_evaluations
        else:
            self._affordable(method)
            by_counts = groups.group_values if method == "groups" else owen.owen_values
            values, kept, evaluations = by_counts(game, platform, progress)
        return self._division(values, kept, method, reason, evaluations, started, errors, confidence)

    def _division(
        self,
        values: Array,
        kept: float,
        method: str,
        reason: str,
        evaluations: int,
        started: float,
        errors: Array | None,
        confidence: float,
    ) -> FairDivision:
        game, share = self._counts, self.payment_share
        nobody, everybody = game.ends
        values = share * values
        paid = float(np.dot(game.sizes, values))
        if self.include_platform:
            residual = abs(paid + kept - everybody)
        else:
            residual = abs(paid - share * (everybody - nobody))
            kept = (1 - share) * everybody
        users = np.repeat(values, game.sizes)
        error = None if errors is None else np.repeat(share * errors[:-1], game.sizes)
        for array in (users, values, *(() if error is None else (error,))):
            array.setflags(write=False)
        return FairDivision(
            user_values=users,
            platform_value=kept,
            group_values=values,
            group_sizes=game.sizes,
            total_utility=everybody,
            efficiency_residual=residual,
            method=method,
            reason=reason,
            n_evaluations=evaluations,
            seconds=time.perf_counter() - started,
            standard_error=error,
            platform_standard_error=None if errors is None else float(errors[-1]),
            confidence=None if errors is None else confidence,
        )

    def _choose(self) -> tuple[Method, str]:
        game = self._counts
        slow = not (game.tabulated or self.vectorized)
        if game.distinct:
            most = int(np.log2(_CALLS)) if slow else 22
            if game.n_users <= most:
                return "subsets", f"2^{game.n_users} coalitions can be visited"
            return "monte_carlo", f"2^{game.n_users} coalitions are too many" + (
                "; with vectorized=True up to 22 users are exact" if slow and game.n_users <= 22 else ""
            )
        visits = groups.cells(game.sizes)
        if visits <= (_CALLS if slow else _CELLS):
            return "groups", f"at most {visits:.2g} vectors of counts are to be visited"
        hint = "; with vectorized=True they might be visited" if slow and visits <= _CELLS else ""
        return "monte_carlo", f"about {visits:.2g} vectors of counts are too many{hint}"

    def _affordable(self, method: str) -> None:
        if method == "owen":
            window = [min(m + 1.0, 20 * np.sqrt(m / 4) + 61) for m in self._counts.sizes]
            if np.prod(window) > MAX_GRID:
                raise InvalidInput(
                    f"method 'owen' would hold {np.prod(window):.2g} vectors of counts at a time, more than "
                    f"{MAX_GRID}; use method='groups' or 'monte_carlo', or fewer groups"
                )
            return
        visits = groups.cells(self._counts.sizes)
        if visits > _LIMIT:
            raise InvalidInput(
                f"method 'groups' would visit about {visits:.2g} vectors of counts, more than "
                f"{_LIMIT:.0g}; use method='monte_carlo', or fewer groups"
            )

    def table(self) -> Array:
        """Return all utilities: 2^N values in the order of bit masks, or the array on the grid of counts."""
        grid = self._counts.grid()
        return grid.ravel(order="F") if self._counts.distinct else grid

    def monotone_cover(self) -> FairValue:
        r"""Return the game in which coalitions can leave members out.

        Its utility is :math:`U^+(S) = \max_{T \subseteq S} U(T)`.
        With a utility that can fall when users join, as in federated averaging, values can be negative. Under
        the cover they are not.

        Returns
        -------
        FairValue
            With a table of the same shape.

        Examples
        --------
        >>> FairValue([0, 3, 1, 2]).solve().user_values.tolist()
        [2.0, 0.0]
        >>> FairValue([0, 3, 1, 2]).monotone_cover().solve().user_values.tolist()
        [2.5, 0.5]
        """
        cover = exact.monotone_cover(self._counts.grid())
        distinct = self._counts.distinct
        return FairValue(
            cover.ravel(order="F") if distinct else cover,
            include_platform=self.include_platform,
            payment_share=self.payment_share,
            group_sizes=self.group_sizes,
        )

    # ------------------------------------------------------------------ the axioms as a program

    def axioms_program(
        self,
        player: int | Literal["platform"] = 0,
        sense: Sense = "maximize",
        *,
        platform_symmetry: bool = True,
    ) -> Program:
        r"""Declare the axioms as linear constraints, to find the most or least that a player may get.

        A value assigns numbers to all games. Write the utility as a sum of multiples :math:`b_T u_T` of the
        unanimity games; the unknowns are the values of all players in these games, and in the utility itself.
        What is alike, and what adds nothing, is found in the tables of the games, by definition.

        Parameters
        ----------
        player : int or "platform"
            Whose value is the objective.
        sense : {"maximize", "minimize"}
        platform_symmetry : bool
            Whether fairness is also between users and the platform. The paper's axioms A.i-A.iii do not say
            so, and do not determine the values without it.

        Returns
        -------
        Program
            With variable ``values`` (players of the first game, then of the next ...), expression
            ``fair_values``, and families ``symmetry``, ``null_user``, ``efficiency``, ``additivity``,
            ``platform_symmetry``.

        Raises
        ------
        InvalidInput
            For more than 7 players.

        References
        ----------
        Axioms A.i-A.iii with Theorem 1, B.i-B.iii with Theorem 2.

        Examples
        --------
        >>> fair = FairValue([0, 0.5, 0.25, 1])
        >>> [round(fair.axioms_program(0, sense).solve().objective, 6) for sense in ("minimize", "maximize")]
        [0.625, 0.625]
        """
        n_users = self._counts.n_users
        if player == "platform":
            if not self.include_platform:
                raise InvalidInput("player 'platform' needs include_platform=True")
            place = n_users
        else:
            place = checks.count(player, "player", 0)
            if place >= n_users:
                raise InvalidInput(f"player must be one of the users 0..{n_users - 1}, got {place}")
        if sense not in ("maximize", "minimize"):
            raise InvalidInput(f"sense must be 'maximize' or 'minimize', got {sense!r}")
        if n_users > programs.MAX_AXIOM_PLAYERS:
            raise InvalidInput(
                f"n_users = {n_users}: the axioms are declared for at most {programs.MAX_AXIOM_PLAYERS} "
                "players, since there is a game for each coalition"
            )
        return programs.declare_axioms(
            self._counts.coalition_table(),
            include_platform=bool(self.include_platform),
            payment_share=self.payment_share,
            player=place,
            sense=sense,
            platform_symmetry=platform_symmetry,
        )

    def axioms_range(
        self, *, platform_symmetry: bool = True, backend: str | None = None, **options: Any
    ) -> Array:
        """Compute the least and the most that the axioms allow each player.

        Parameters
        ----------
        platform_symmetry : bool
            See `axioms_program`.
        backend, **options
            See `Program.solve`.

        Returns
        -------
        array, shape (n_players, 2)
            Users, then the platform if it is a member; both columns are equal where values are unique, and
            infinite where the axioms set no bound.
        """
        players: list[Any] = list(range(self._counts.n_users))
        if self.include_platform:
            players.append("platform")
        found = np.empty((len(players), 2))
        ends: tuple[tuple[Sense, float], ...] = (("minimize", -np.inf), ("maximize", np.inf))
        for row, player in enumerate(players):
            for column, (sense, endless) in enumerate(ends):
                program = self.axioms_program(player, sense, platform_symmetry=platform_symmetry)
                try:
                    found[row, column] = program.solve(backend, **options).objective
                except Unbounded:
                    found[row, column] = endless
        return found + 0.0  # no negative zeros

    # ------------------------------------------------------------------ stability

    def _players(self, most: int = programs.MAX_ROWS) -> programs.PlayerGame:
        cells = self._counts.n_cells * (2 if self.include_platform else 1)
        if cells > most:
            raise InvalidInput(
                f"there are {cells} coalitions, more than the {most} that this program is meant for; form "
                "groups of users that are alike (group_sizes), fewer or smaller"
            )
        return programs.player_game(self.payment_share * self._counts.grid(), bool(self.include_platform))

    def core_program(self) -> Program:
        r"""Declare the least payments for which no coalition would rather be by itself.

        .. math:: \min \; \sum_i x_i \quad \text{s.t.} \quad \sum_{i \in S} x_i \ge v(S) \text{ for all } S.

        Here v is what is paid to the users of each coalition, the share alpha of its utility. The core is not
        empty iff the optimum is v(N), and then the answer is a point of it. The prices of
        ``stability`` are the balancing weights of the coalitions that stand in the way.

        Returns
        -------
        Program
            With variables ``user_values`` (one a group) and ``platform_value``, expression ``total_value``,
            and families ``stability``, ``users_alone`` (with the platform: coalitions without it) and
            ``grand_coalition``.

        Raises
        ------
        InvalidInput
            For more than 2^17 coalitions, or vectors of counts of groups.

        Examples
        --------
        >>> fair = FairValue([0, 1, 1, 1.5])
        >>> solution = fair.core_program().solve()
        >>> round(solution.objective, 6), solution.dual("stability").tolist()
        (2.0, [1.0, 1.0])
        """
        return programs.declare_core(self._players())

    def core(self, backend: str | None = None, *, tolerance: float = 1e-7, **options: Any) -> CorePoint:
        """Tell whether the core is empty, with a point of it, or the cheapest payments that keep everybody.

        Parameters
        ----------
        backend, **options
            See `Program.solve`.
        tolerance : float
            Also the cost of stability, relative to the utility, below which the core counts as not empty.

        Returns
        -------
        CorePoint
        """
        solution = self.core_program().solve(backend, tolerance=tolerance, **options)
        game = self._players()
        cost = max(solution.objective - game.total, 0.0)
        return CorePoint(
            nonempty=cost <= 10 * tolerance * game.scale,
            user_values=np.repeat(solution["user_values"], self._counts.sizes),
            platform_value=float(solution["platform_value"]) if self.include_platform else 0.0,
            total_value=solution.objective,
            cost_of_stability=cost,
        )

    def least_core_program(self) -> Program:
        r"""Declare the smallest largest excess of a coalition over what it gets.

        .. math:: \min \; e \quad \text{s.t.} \quad \sum_{i \in S} x_i + e \ge v(S) \text{ for all } S \ne N,
           \quad \sum_i x_i = v(N).

        The core is not empty iff the optimum is at most 0.

        Returns
        -------
        Program
            As `core_program`, with variable ``excess`` and family ``efficiency``.

        Raises
        ------
        InvalidInput
            For a single player, or too many coalitions.
        """
        game = self._players()
        if not game.worth.size:
            raise InvalidInput("n_users = 1 without the platform: there is no coalition but everybody")
        return programs.declare_least_core(game)

    def nucleolus(self, backend: str | None = None, *, tolerance: float = 1e-7) -> Nucleolus:
        """Compute the nucleolus: the largest excess is as small as it can be, then the next, and so on.

        Individual rationality is not imposed (the pre-nucleolus): with diminishing returns, what users could
        have alone is more than there is. Where the core is not empty it is in the core.

        Parameters
        ----------
        backend : str, optional
            For the linear programs, whose prices must be those of a vertex.
        tolerance : float
            See `Program.solve`.

        Returns
        -------
        Nucleolus

        Raises
        ------
        InvalidInput
            For more than 2^13 coalitions, or vectors of counts: 13 distinct players.

        Examples
        --------
        >>> FairValue([0, 0, 0, 60, 0, 40, 20, 90]).nucleolus().user_values.round(6).tolist()
        [47.5, 27.5, 15.0]
        """
        game = self._players(2**13)
        values, excesses = programs.nucleolus(game, backend, tolerance)
        n_groups = self._counts.n_groups
        return Nucleolus(
            user_values=np.repeat(values[:n_groups], self._counts.sizes),
            platform_value=float(values[-1]) if self.include_platform else 0.0,
            group_values=values[:n_groups],
            excesses=excesses,
            n_rounds=excesses.size,
        )
