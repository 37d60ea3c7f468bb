"""Fair payments of a platform that chooses which share of the utility of data it pays to users."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.fair_value.platform import certificates, heterogeneous, profiles, rational
from mechopt.formulations.fair_value.platform import closed_form as oracle
from mechopt.formulations.fair_value.platform import program as programs
from mechopt.formulations.fair_value.platform.closed_form import Regime, Thresholds, TwoUsers
from mechopt.formulations.fair_value.platform.exact import Game, Optimum
from mechopt.formulations.fair_value.platform.heterogeneous import PairGame
from mechopt.formulations.fair_value.platform.records import Equilibrium, PlatformSolution, typed
from mechopt.formulations.fair_value.platform.utility import (
    CountUtility,
    ExchangeableUtility,
    exchangeable,
    expectation,
)
from mechopt.solvers.backend import get_backend
from mechopt.solvers.errors import InvalidInput, MechanismWarning, NotApplicable
from mechopt.solvers.exact import asked_exactly
from mechopt.solvers.program import OnFailure, Program
from mechopt.solvers.solution import Solution, Status
from mechopt.verification.audit import Audit

Array = NDArray[np.float64]
Selection = Literal["symmetric", "optimistic", "pessimistic"]


@dataclass(frozen=True, eq=False, repr=False)
class PlatformPayments:
    r"""A platform that pays users a share alpha of what their data are worth, split by the fair value.

    Each of N interchangeable users chooses between two privacy levels, and bears a cost c at the less private
    one ("sharing"). The platform takes the payment share that leaves it most, in an equilibrium of the users:

    .. math:: \max_{\alpha \in [0, 1]} (1 - \alpha) U(q) \quad \text{s.t.} \quad q \in NE(\alpha).

    Parameters
    ----------
    utility : array, shape (n_users + 1,), or callable
        ``U(0) = 0, ..., U(N)`` by the number of sharers, where data at the private level are worth nothing;
        or ``utility(n_private, n_sharing)``. Utility units, >= 0.
    n_users : int
        N >= 1.
    privacy_cost : float or array, shape (n_users,)
        What sharing costs a user (utility units), >= 0; one number for all, or one for each.
    selection : {"symmetric", "optimistic", "pessimistic"}
        Which equilibrium users play where there are several. ``"symmetric"``: all share with the same
        probability, as in the paper's Theorem 3 and Fig. 6 (the best of these for the platform, if there are
        several). ``"optimistic"``: the best of all, as in (3), (25) and Fig. 7. ``"pessimistic"``: the worst
        of all; then the optimum may be a supremum that no payment share attains.

    Raises
    ------
    InvalidInput
        If an argument breaks its rule; the message names it, the index, the value and the rule.

    References
    ----------
    "The Fair Value of Data Under Heterogeneous Privacy Constraints in Federated Learning", section 5,
    Theorem 3, equations (18)-(25).

    Examples
    --------
    >>> payments = PlatformPayments(utility=[0, 2 / 3, 1], n_users=2, privacy_cost=0.5)
    >>> solution = payments.solve()
    >>> round(solution.payment_share, 4), round(solution.share_probability, 4), round(solution.objective, 4)
    (0.8571, 0.5, 0.0833)
    >>> limits = payments.thresholds()
    >>> round(limits.low, 4), round(limits.high, 4)
    (0.3333, 0.6667)
    >>> best = PlatformPayments([0, 2 / 3, 1], 2, 0.5, selection="optimistic").solve()
    >>> round(best.objective, 4), best.share_probability.tolist()
    (0.1667, [1.0, 0.0])
    """

    utility: ArrayLike | CountUtility
    n_users: int
    privacy_cost: ArrayLike
    selection: Selection = "symmetric"

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_users", checks.count(self.n_users, "n_users"))
        object.__setattr__(self, "privacy_cost", _costs(self.privacy_cost, self.n_users))
        if self.selection not in ("symmetric", "optimistic", "pessimistic"):
            raise InvalidInput(
                "selection must be 'symmetric', 'optimistic' or 'pessimistic', for which of several "
                f"equilibria users play, got {self.selection!r}"
            )
        if self.cost is None and self.selection == "symmetric":
            raise InvalidInput(
                "privacy_cost differs between users, who then have no symmetric equilibrium; say which of "
                "several counts, by selection='optimistic'"
            )
        object.__setattr__(self, "_values", exchangeable(self.utility, self.n_users))
        if not callable(self.utility):
            # As given, fractions included, and out of the reach of whoever owns the array.
            given = np.asarray(self.utility, dtype=object).tolist()
            object.__setattr__(self, "utility", tuple(given))

    def __repr__(self) -> str:
        low, high = float(self.costs.min()), float(self.costs.max())
        cost = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        profile = self.values.profile
        worth = f"{profile[0]:g} if nobody shares to {profile[-1]:g} if all do"
        return (
            f"PlatformPayments({self.n_users} users, utility {worth}, privacy_cost {cost}, "
            f"selection={self.selection!r})"
        )

    @property
    def values(self) -> ExchangeableUtility:
        """Utilities and fair values by numbers of sharers."""
        values: ExchangeableUtility = self.__dict__["_values"]
        return values

    @property
    def costs(self) -> Array:
        """Cost of sharing of each user, shape (n_users,)."""
        return np.broadcast_to(np.asarray(self.privacy_cost, dtype=float), (self.n_users,))

    @property
    def cost(self) -> float | None:
        """The cost of sharing, if it is the same for all."""
        costs = np.asarray(self.privacy_cost, dtype=float)
        return float(costs.flat[0]) if np.all(costs == costs.flat[0]) else None

    @cached_property
    def _game(self) -> Game:
        if self.cost is None:
            raise NotApplicable(
                "this is about symmetric equilibria, which need one privacy_cost for all users; for costs "
                "that differ there are solve(), audit() and, for two users, program() and equilibria()"
            )
        return Game(self.values, self.cost)

    @cached_property
    def _pair(self) -> PairGame:
        return PairGame(self.values, np.array(self.costs))

    # ------------------------------------------------------------------ the game of the users

    def expected_utility(self, share_probability: float) -> float:
        """Return U(q), when every user shares with this probability (utility units)."""
        return expectation(self.values.profile, _probability(share_probability, "share_probability"))

    def relative_payoff(self, share_probability: float) -> float:
        r"""Return gamma(q): what sharing adds to a user's fair value when all others share so often.

        References
        ----------
        Equation (21), in q = 1 - p; without alpha, as there.
        """
        q = _probability(share_probability, "share_probability")
        return expectation(self.values.relative_payoff, q)

    def symmetric_regret(self, payment_share: float, share_probability: float) -> float:
        r"""Return the function (75), which is zero exactly at symmetric equilibria.

        :math:`[q(c - \alpha\gamma)]_+^2 + [(1 - q)(\alpha\gamma - c)]_+^2`, in utility units squared.
        """
        share, q = (
            _probability(payment_share, "payment_share"),
            _probability(share_probability, "share_probability"),
        )
        surplus = share * expectation(self.values.relative_payoff, q) - self._game.cost
        return float(max(-q * surplus, 0.0) ** 2 + max((1 - q) * surplus, 0.0) ** 2)

    def equilibria(self, payment_share: float) -> tuple[Equilibrium, ...]:
        """Return the equilibria of users at a payment share.

        With selection ``"symmetric"`` the symmetric ones; otherwise all of two users, in mixed strategies too
        (extreme points, where there is a continuum).

        Parameters
        ----------
        payment_share : float
            Alpha in [0, 1].

        Raises
        ------
        NotApplicable
            For all equilibria of more than two users.

        Examples
        --------
        >>> game = PlatformPayments([0, 2 / 3, 1], 2, [0.30, 0.32], selection="optimistic")
        >>> [found.share_probability.round(3).tolist() for found in game.equilibria(0.6)]
        [[0.0, 1.0], [0.8, 1.0], [1.0, 0.0]]
        """
        share = _probability(payment_share, "payment_share")
        if self.selection == "symmetric":
            found = [np.full(self.n_users, q) for q in self._game.equilibria(share)]
        elif self.n_users == 2:
            found = [np.array(profile) for profile in self._pair.equilibria(share)]
        else:
            raise NotApplicable(
                f"all equilibria are enumerated for two users, got {self.n_users}; use selection='symmetric'"
            )
        return tuple(self._equilibrium(share, profile) for profile in found)

    def _equilibrium(self, share: float, profile: Array) -> Equilibrium:
        total = profiles.expected(self.values.profile, profile)
        profile.setflags(write=False)
        return Equilibrium(profile, total, (1 - share) * total, self.regret(share, profile))

    def regret(self, payment_share: float, share_probability: ArrayLike) -> float:
        """Return the most that any user could gain by another level, the others as they are (utility units).

        Parameters
        ----------
        payment_share : float
            Alpha in [0, 1].
        share_probability : float or array, shape (n_users,)
            Of each user, in [0, 1].
        """
        share = _probability(payment_share, "payment_share")
        profile = self._profile(share_probability)
        return profiles.audit(self.values, self.costs, share, profile).ic_violation

    def _profile(self, share_probability: ArrayLike) -> Array:
        given = np.asarray(share_probability, dtype=float)
        if given.shape not in ((), (self.n_users,)):
            raise InvalidInput(
                f"share_probability has shape {given.shape} for {self.n_users} users; give one each, or one"
            )
        profile = np.broadcast_to(given, (self.n_users,))
        bad = ~((profile >= 0) & (profile <= 1))
        if np.any(bad):
            index = int(np.argmax(bad))
            raise InvalidInput(f"share_probability[{index}] = {profile[index]:g} must lie in [0, 1]")
        return profile

    # ------------------------------------------------------------------ the platform

    def solve(
        self,
        backend: str | None = None,
        *,
        tolerance: float | None = None,
        time_limit: float | None = None,
        verbose: bool = False,
        on_failure: OnFailure = "raise",
        **options: Any,
    ) -> PlatformSolution:
        """Find the best payment share: by the platform's own algorithms, or on the backend of that name.

        Parameters
        ----------
        backend : str, optional
            Default ``"exact"``. Others solve `program`: ``"pyomo:scip"`` globally, ``"pyomo:pounce"``
            locally.
        tolerance, time_limit, verbose, on_failure, **options
            See `Program.solve`.

        Returns
        -------
        PlatformSolution
            ``payment_share``, ``share_probability`` (a number if all users are alike, else (n_users,)),
            ``total_utility``, ``payments`` (sum), ``payment`` (expected, of each user), ``objective`` (the
            platform's utility), ``bound``, ``attained``; ``extra["method"]`` names the algorithm.

        Raises
        ------
        NotApplicable
            If the selection asks for more than the algorithms reach; the message says what is needed.

        Warns
        -----
        MechanismWarning
            If Assumption 1 or 2 fails and with it (87), which is then not used: the search is global.
        """
        asked = asked_exactly(
            backend,
            tolerance=tolerance,
            time_limit=time_limit,
            verbose=verbose,
            on_failure=on_failure,
            options=options,
        )
        if asked is None:
            solution = self.program().solve(
                backend,
                tolerance=tolerance,
                time_limit=time_limit,
                verbose=verbose,
                on_failure=on_failure,
                **options,
            )
            return typed(solution)
        started = time.perf_counter()
        found = self._optimum(asked)
        return self._record(found, asked, time.perf_counter() - started)

    def _optimum(self, tolerance: float) -> Optimum:
        if self.cost is None:
            if self.selection == "pessimistic":
                raise NotApplicable(
                    "selection 'pessimistic' is for users of one privacy_cost; with costs that differ use "
                    "selection 'optimistic'"
                )
            if self.n_users == 2:
                return self._pair.optimum()
            return heterogeneous.best_pure(self.values, np.array(self.costs))
        # Branch and bound stops a little before, and above what rounding leaves of a flat top.
        width = max(min(tolerance / 10, 1e-10), 1e-13)
        if self.selection == "optimistic":
            return self._game.optimistic(width)
        if self.selection == "pessimistic":
            return self._game.pessimistic(min(tolerance, 1e-6) / 10)
        self._warn()
        found = self._game.symmetric(tolerance=width)
        assert found is not None  # without limits there is always the equilibrium of nobody
        return found

    def _warn(self) -> None:
        failing = []
        if not self.values.monotone:
            failing.append("utility is not monotone (Assumption 1)")
        if not self.values.diminishing:
            failing.append("returns to sharing are not diminishing (Assumption 2)")
        if failing:
            warnings.warn(
                f"{' and '.join(failing)}: equation (87) and Theorem 3 do not apply, and several symmetric "
                "equilibria may coexist; searched globally for the best of them",
                MechanismWarning,
                stacklevel=4,
            )

    def _record(self, found: Optimum, tolerance: float, spent: float) -> PlatformSolution:
        started = time.perf_counter()
        alike = self.selection == "symmetric"
        profile = found.share_probability
        size = float(self.values.profile.max())
        total = profiles.expected(self.values.profile, profile)
        payment = profiles.payment(self.values, found.payment_share, profile)
        audit = profiles.audit(self.values, self.costs, found.payment_share, profile)
        gap = (found.bound - found.objective) / size
        values = {
            "payment_share": np.asarray(found.payment_share),
            "share_probability": np.asarray(profile[0]) if alike else profile,
            "total_utility": np.asarray(total),
            "payments": np.asarray(found.payment_share * total),
            "payment": payment,
        }
        for array in values.values():
            array.setflags(write=False)
        residual, proved = audit.relative + 0.0, bool(gap <= tolerance)
        status, reason = Status.OPTIMAL, found.method
        if residual > tolerance:
            status = Status.INACCURATE
            reason += f", but a user gains {residual:.1e} of the utility by another level"
        elif not proved:
            status = Status.LOCAL
            reason += f"; other equilibria may leave more, up to the bound {found.bound:.9g}"
        if not found.attained:
            reason += "; a supremum, approached by payment shares just above the one given"
        return PlatformSolution(
            status=status,
            reason=reason,
            backend="exact",
            version=get_backend("exact").version(),
            objective=found.objective,
            bound=found.bound if np.isfinite(found.bound) else None,
            gap=gap if np.isfinite(gap) else None,
            values=values,
            residuals={"equilibrium": residual},
            violations={"equilibrium": residual * size},
            seconds={"build": 0.0, "compile": 0.0, "solve": spent, "check": time.perf_counter() - started},
            tolerance=tolerance,
            program="platform payments",
            sense="maximize",
            extra={"attained": found.attained, "method": found.method, "n_splits": found.n_splits},
            no_duals="equilibrium programs have no shadow prices",
        )

    def audit(self, solution: Solution) -> Audit:
        """Audit an answer by the definition: what any user would gain by another level, others as they are.

        Parameters
        ----------
        solution : Solution
            With ``payment_share`` and ``share_probability``.

        Returns
        -------
        Audit
            Level 1 of a deviation is sharing, 0 the private level; utilities are relative to the largest U.
        """
        try:
            share, given = float(solution["payment_share"]), np.asarray(solution["share_probability"], float)
        except (KeyError, TypeError, ValueError):
            raise InvalidInput(
                "an audit needs an answer with payment_share, one number, and share_probability"
            ) from None
        profile = self._profile(_within_rounding(given))
        share = _probability(float(_within_rounding(np.asarray(share))), "payment_share")
        return profiles.audit(self.values, self.costs, share, profile)

    def thresholds(self) -> Thresholds:
        r"""Costs at which the platform's behaviour changes: Theorem 3, corrected.

        Up to ``low`` it makes all users share, from ``high`` on it pays nothing. Where data at the private
        level are worth nothing and U is concave they are the last and the first marginal utility,
        ``U(N) - U(N-1)`` and ``U(1)``.

        Raises
        ------
        NotApplicable
            If the utility is not monotone, or the relative payoff does not fall strictly with q.

        References
        ----------
        Theorem 3 and (22). As printed, the upper one is the largest relative payoff, which is right only
        if private data are worth nothing.
        """
        utility = self.values
        if not utility.monotone:
            raise NotApplicable("thresholds need a monotone utility (Assumption 1)")
        if utility.sharing_only and utility.diminishing:
            marginal = np.diff(utility.profile)
            payoff = utility.relative_payoff
            return Thresholds(float(marginal[-1]), float(marginal[0]), float(payoff[-1]), float(payoff[0]))
        if not utility.decreasing:
            raise NotApplicable("thresholds need a relative payoff that falls strictly in q (Assumption 2)")
        return oracle.cost_thresholds(utility.profile, utility.relative_payoff)

    def closed_form(self) -> Regime | TwoUsers:
        """Evaluate the formulas: three regimes of a concave utility, or two users of different costs.

        Raises
        ------
        NotApplicable
            Outside: if data at the private level have value, U is not concave and increasing, or the
            selection is one for which there is no formula.
        """
        utility = self.values
        if not (utility.sharing_only and utility.monotone and utility.diminishing):
            raise NotApplicable(
                "the formulas are for a concave, increasing utility of sharers alone; use solve()"
            )
        if self.selection == "symmetric":
            return oracle.concave_regime(utility.profile, self._game.cost)
        if self.selection == "optimistic" and self.n_users == 2:
            _, one, both = (float(value) for value in utility.profile)
            if 2 * one > both:
                first, second = (float(cost) for cost in self.costs)
                return oracle.two_users(one, both, first, second)
        raise NotApplicable(
            "there are formulas for selection 'symmetric', and for 'optimistic' with two users, U(1) > U(2)/2"
        )

    # ------------------------------------------------------------------ declared programs

    def program(self) -> Program:
        r"""Declare the platform's problem with the users' equilibrium as complementarity pairs.

        .. math:: \max \; (1-\alpha) U(q) \quad \text{s.t.} \quad \alpha\gamma(q) - c = g - l, \quad
           0 \le g \perp 1-q \ge 0, \quad 0 \le l \perp q \ge 0.

        Returns
        -------
        Program
            With ``payment_share``, ``share_probability``, ``total_utility``, ``payments``,
            ``relative_payoff`` and ``expected_sharers`` to constrain, for symmetric equilibria of up to 12
            users; or, for two users and selection ``"optimistic"``, with ``share_probability`` of shape (2,):
            program (25), with the sign of its objective put right.

        Raises
        ------
        NotApplicable
            For other sizes, and for ``"pessimistic"``, which is no single program.

        References
        ----------
        Equations (19) and (25); the latter is printed with the platform's objective replaced by payments.

        Examples
        --------
        >>> program = PlatformPayments([0, 2 / 3, 1], 2, 0.4).program()
        >>> program = program.add("budget", program["payments"] <= 0.5)
        >>> solution = program.solve()
        >>> solution.backend, round(float(solution["share_probability"]), 4)
        ('exact', 0.625)
        """
        if self.selection == "symmetric":
            return programs.declare_symmetric(self.values, self._game.cost)
        if self.selection == "optimistic" and self.n_users == 2:
            return heterogeneous.declare_pair(self._pair)
        raise NotApplicable(
            "programs are declared for selection 'symmetric', and for 'optimistic' with two users; got "
            f"{self.selection!r} with {self.n_users}"
        )

    def per_level_program(self) -> Program:
        """Declare a payment share for each privacy level: what leaving the axioms would give the platform.

        Payments are then not fair: of two users with equal marginal values the one who shares is paid another
        share (axiom B.ii). Symmetric equilibria, up to 12 users.

        Returns
        -------
        Program
            With ``payment_shares`` (private, sharing), ``share_probability``, ``payments``; bilinear, so
            solve it with ``"pyomo:scip"``.
        """
        return programs.declare_per_level(self.values, self._game.cost)

    def utility_share_program(self, target: int, *, individual_rationality: bool = False) -> Program:
        """Declare the linear program of a payment share that may depend on the utility achieved.

        Parameters
        ----------
        target : int
            Number of users who share in the equilibrium in pure strategies that is aimed at.
        individual_rationality : bool
            Whether no user's expected payment may fall short of its cost.

        Returns
        -------
        Program
            With ``payment_share`` of shape (n_levels,), by the distinct values ``utility_level``: profiles of
            equal utility share one variable, as they cannot be told apart.

        References
        ----------
        Problem (3) with payments by Theorem 2, in which alpha may be a function of the utility.
        """
        count = checks.count(target, "target", 0)
        if count > self.n_users:
            raise InvalidInput(f"target = {count} must be at most n_users = {self.n_users}")
        return programs.declare_utility_share(
            self.values, self._game.cost, count, individual_rationality=individual_rationality
        )

    def correlated_program(self, payment_share: float, sense: Literal["best", "worst"] = "best") -> Program:
        """Declare the correlated equilibria at a payment share, for the best or worst of the platform.

        As users are interchangeable, so may be what they are told: the program is about the law of the number
        of sharers.

        Parameters
        ----------
        payment_share : float
            Alpha in [0, 1].
        sense : {"best", "worst"}

        Returns
        -------
        Program
            With ``sharers_law`` of shape (n_users + 1,), ``share_probability``, ``total_utility``.
        """
        if sense not in ("best", "worst"):
            raise InvalidInput(f"sense must be 'best' or 'worst', got {sense!r}")
        share = _probability(payment_share, "payment_share")
        return programs.declare_correlated(self.values, self._game.cost, share, sense)

    def equilibria_program(self, payment_share: float) -> Program:
        """Declare the equilibria of two users at a payment share, as a mixed-integer program.

        Returns
        -------
        Program
            With ``strategies`` (user, level) and binaries ``unplayed``; see
            `mechopt.formulations.fair_value.platform.heterogeneous.equilibria_by_integers` for all of them.
        """
        if self.n_users != 2:
            raise NotApplicable(f"this program is for two users, got {self.n_users}")
        return heterogeneous.declare_equilibria(self._pair, _probability(payment_share, "payment_share"))

    def bound_program(
        self, method: Literal["sum_of_squares", "coefficients"] = "sum_of_squares", *, pieces: int = 64
    ) -> Program:
        """Declare the least upper bound on what a symmetric equilibrium leaves to the platform.

        Parameters
        ----------
        method : {"sum_of_squares", "coefficients"}
            A semidefinite program, exact; or a linear one, exact in the limit of many parts.
        pieces : int
            Parts of [0, 1] of the linear one.

        Returns
        -------
        Program
            With variable ``bound``.
        """
        if method == "sum_of_squares":
            return certificates.declare_sum_of_squares(self.values, self._game.cost)
        if method == "coefficients":
            return certificates.declare_coefficients(
                self.values, self._game.cost, checks.count(pieces, "pieces")
            )
        raise InvalidInput(f"method must be 'sum_of_squares' or 'coefficients', got {method!r}")

    def certify(
        self,
        method: Literal["branch_and_bound", "sum_of_squares", "coefficients", "rational"] = "sum_of_squares",
        backend: str | None = None,
        **options: Any,
    ) -> certificates.Certificate:
        """Prove an upper bound on what a symmetric equilibrium leaves to the platform.

        Parameters
        ----------
        method : {"branch_and_bound", "sum_of_squares", "coefficients", "rational"}
            By halving intervals; by a program (see `bound_program`) whose answer is made a proof; or without
            any rounding, by isolating the stationary points in fractions (up to 24 users).
        backend : str, optional
            For the programs; default ``"clarabel"`` for the semidefinite one.
        **options
            See `Program.solve`.

        Returns
        -------
        Certificate

        Raises
        ------
        SolverFailure
            If the solver returns no point.

        Examples
        --------
        >>> proof = PlatformPayments([0, 2 / 3, 1], 2, 0.5).certify()
        >>> round(proof.bound, 6), round(proof.share_probability, 4)
        (0.083333, 0.5)
        """
        if method not in ("branch_and_bound", "sum_of_squares", "coefficients", "rational"):
            raise InvalidInput(
                "method must be 'branch_and_bound', 'sum_of_squares', 'coefficients' or 'rational', got "
                f"{method!r}"
            )
        if method in ("branch_and_bound", "rational") and (backend is not None or options):
            raise InvalidInput(f"method {method!r} solves no program: leave out backend and options")
        if method == "rational":
            exactly: Any = self.utility
            sure = rational.platform_optimum(exactly, self.n_users, self._game.cost)
            above = float(sure.high)
            above = above if above >= sure.high else float(np.nextafter(above, np.inf))
            middle = float(sum(sure.at) / 2)
            return certificates.Certificate(
                above, float(sure.high - sure.low), middle, method, Status.OPTIMAL
            )
        if method == "branch_and_bound":
            found = self._game.by_branch_and_bound()
            q = float(found.share_probability[0])
            return certificates.Certificate(found.bound, 0.0, q, method, Status.OPTIMAL)
        solution = self.bound_program(method).solve(
            backend or ("clarabel" if method == "sum_of_squares" else None), **options
        )
        if method == "sum_of_squares":
            found_bound = certificates.certificate(self.values, self._game.cost, solution)
        else:
            short = solution.violations["coefficients"] * float(self.values.profile.max())
            found_bound = certificates.Certificate(
                float(solution["bound"]) + short, short, None, method, solution.status
            )
        nothing = float(self.values.profile[0])
        if nothing <= found_bound.bound:
            return found_bound
        return certificates.Certificate(
            nothing, found_bound.residual, 0.0, found_bound.method, found_bound.status
        )


def _costs(value: ArrayLike, n_users: int) -> float | Array:
    if np.ndim(value) == 0:
        return checks.nonnegative(value, "privacy_cost")
    array = checks.vector(value, "privacy_cost")
    if array.size != n_users:
        raise InvalidInput(
            f"privacy_cost has {array.size} entries for {n_users} users; give one each, or one number"
        )
    checks.all_finite(array, "privacy_cost")
    if np.any(array < 0):
        index = int(np.argmax(array < 0))
        raise InvalidInput(f"privacy_cost[{index}] = {array[index]:g} must be >= 0")
    return array


def _within_rounding(probability: Array) -> Array:
    """Probabilities that a solver left outside of [0, 1] by its tolerance, put back."""
    inside = np.clip(probability, 0.0, 1.0)
    return np.where(np.abs(probability - inside) <= 1e-6, inside, probability)


def _probability(value: Any, name: str) -> float:
    number = checks.nonnegative(value, name)
    if number > 1:
        raise InvalidInput(f"{name} = {number:g} must lie in [0, 1]")
    return number
