"""Backends that CVXPY drives: Clarabel, SCS, OSQP, HiGHS, SciPy.

Each asks its solver for more accuracy than the program asks for, and recomputes the dual objective from the
solver's multipliers and the canonical data, so that the gap is ours and not the solver's word.
"""

from __future__ import annotations

import abc
import io
import time
import warnings
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import cvxpy as cp
import cvxpy.settings as cps
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg
from numpy.typing import NDArray

from mechopt.solvers.backend import Answer, Backend, Capability, Settings
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.output import hush_highs
from mechopt.solvers.solution import Status

if TYPE_CHECKING:
    from mechopt.solvers.program import Program

Array = NDArray[np.float64]

ROUNDING = 1e-6
"""Dual residuals below this part of their own terms are rounding, and not a direction of improvement."""

STATUS = {
    cps.OPTIMAL: Status.OPTIMAL,
    cps.OPTIMAL_INACCURATE: Status.INACCURATE,
    cps.INFEASIBLE: Status.INFEASIBLE,
    cps.INFEASIBLE_INACCURATE: Status.FAILED,
    cps.UNBOUNDED: Status.UNBOUNDED,
    cps.UNBOUNDED_INACCURATE: Status.FAILED,
    cps.USER_LIMIT: Status.LIMIT,
}


@dataclass
class Multipliers:
    """Canonical data and multipliers: min ``x'Px/2 + q'x`` with ``b - Ax`` in a cone, ``y`` in its dual."""

    quadratic: Any
    linear: Array
    matrix: Any
    offset: Array
    multiplier: Array
    lower: Array | None = None
    upper: Array | None = None

    def bound(self, x: Array) -> float:
        """Lower bound on the minimum, from the Lagrangian at these multipliers.

        Where the multipliers are exactly dual feasible this is the dual objective. Otherwise the residual
        ``r = Px + q + A'y`` is charged at the variable's bound, or without one at twice the variable's size,
        and one unit more where ``r`` is not small among its own terms: the result holds for every point in
        that range. The answer must lie inside it and not on its edge, or a ray would prove itself optimal.
        """
        bound = self._bound_around(x, x)
        if self.quadratic is None or not self.quadratic.nnz:
            return bound
        # Any point may serve to linearise the quadratic; near the Lagrangian's own minimum little is charged.
        free = np.ones(x.size, dtype=bool)
        for limit in (self.lower, self.upper):
            if limit is not None:
                free &= ~np.isfinite(limit)
        columns = self.quadratic.tocsc()[:, free]
        residual = self.quadratic @ x + self.linear + self.matrix.T @ self.multiplier
        shift = np.zeros_like(x)
        shift[free] = scipy.sparse.linalg.lsmr(columns[free], -residual[free], atol=1e-14, btol=1e-14)[0]
        return max(bound, self._bound_around(x + shift, x))

    def _bound_around(self, centre: Array, x: Array) -> float:
        curved = np.zeros_like(x) if self.quadratic is None else self.quadratic @ centre
        residual = curved + self.linear + self.matrix.T @ self.multiplier
        terms = np.abs(curved) + np.abs(self.linear) + abs(self.matrix).T @ np.abs(self.multiplier)
        reach = 2 * np.abs(x) + (np.abs(residual) > ROUNDING * terms)
        lower = np.full_like(x, -np.inf) if self.lower is None else self.lower
        upper = np.full_like(x, np.inf) if self.upper is None else self.upper
        limit = np.where(residual > 0, lower, upper)
        with np.errstate(invalid="ignore"):
            charge = np.where(np.isfinite(limit), residual * limit, -np.abs(residual) * reach)
        return float(-0.5 * centre @ curved - self.offset @ self.multiplier + charge.sum())


class ThroughCvxpy(Backend):
    """A solver that CVXPY compiles for and calls."""

    solver: ClassVar[str]
    known_options: ClassVar[frozenset[str]] = frozenset()

    @abc.abstractmethod
    def translate(self, settings: Settings) -> dict[str, Any]:
        """Solver options for the neutral settings, the user's own on top."""

    @abc.abstractmethod
    def multipliers(self, raw: Any, data: dict[str, Any]) -> Multipliers | None:
        """Canonical multipliers out of the solver's raw result, or None."""

    def mip_bound(self, raw: Any) -> float | None:
        """Bound of a mixed-integer solve, in the canonical objective without its offset."""
        return None

    def undecided(self, raw: Any) -> bool:
        """Whether the solver knows that there is no optimum, and not why, where CVXPY reports an error."""
        return False

    def again(self, raw: Any, settings: Settings) -> dict[str, Any] | None:
        """Options for a second try, if the first did not get there and another way might; else None."""
        return None

    def option_names(self) -> frozenset[str]:
        """Options that the solver knows."""
        return self.known_options

    def solve(self, program: Program, settings: Settings) -> Answer:
        """See `Backend.solve`."""
        unknown = sorted(set(settings.options) - self.option_names())
        if unknown:
            raise InvalidInput(
                f"backend {self.name!r} has no option {', '.join(map(repr, unknown))}; "
                f"it has {', '.join(sorted(self.option_names()))}"
            )
        problem = program.problem
        options = self.translate(settings)
        started = time.perf_counter()
        data, chain, inverse = problem.get_problem_data(
            self.solver, solver_opts=dict(options), ignore_dpp=not problem.parameters()
        )
        compiled = time.perf_counter()
        if settings.time_limit is not None:
            left = settings.time_limit - (compiled - started)
            if left <= 0:
                spent = {"compile": compiled - started, "solve": 0.0}
                return Answer(Status.LIMIT, "the time limit went into compiling", seconds=spent)
            options = self.translate(replace(settings, time_limit=left))
        silence = nullcontext() if settings.verbose else redirect_stdout(io.StringIO())
        with warnings.catch_warnings(), silence:
            warnings.simplefilter("ignore")  # CVXPY repeats in words what the status says
            tried: dict[str, Any] | None = options
            while tried is not None:
                raw = chain.solve_via_data(
                    problem, data, warm_start=False, verbose=settings.verbose, solver_opts=dict(tried)
                )
                tried = self.again(raw, settings) if tried is options else None
                if tried is not None and settings.time_limit is not None:
                    left = settings.time_limit - (time.perf_counter() - started)
                    tried = self.again(raw, replace(settings, time_limit=left)) if left > 0 else None
            result = chain.invert(raw, inverse)
        seconds = {"compile": compiled - started, "solve": time.perf_counter() - compiled}
        status = STATUS.get(result.status, Status.FAILED)
        if result.status == cps.INFEASIBLE_OR_UNBOUNDED or self.undecided(raw):
            status = self._tell_apart(program, settings)
        answer = Answer(status, self.reason(raw, result.status), seconds=seconds)
        iterations = result.attr.get(cps.NUM_ITERS)
        if iterations is not None:
            answer.extra["iterations"] = int(iterations)
        if status in (Status.OPTIMAL, Status.INACCURATE, Status.LIMIT) and result.primal_vars:
            answer.primal = {
                # CVXPY hands diagonal variables back as sparse matrices.
                key: np.asarray(value.toarray() if hasattr(value, "toarray") else value, dtype=float)
                for key, value in result.primal_vars.items()
            }
            answer.dual = {
                key: np.asarray(v, dtype=float)
                for key, v in (result.dual_vars or {}).items()
                if v is not None
            }
            if result.opt_val is not None and np.isfinite(result.opt_val):
                answer.objective = program.physical(float(result.opt_val))
            answer.bound = self._bound(program, raw, data, inverse)
        elif status is Status.INFEASIBLE:
            answer.conflict = _support(program, result.dual_vars)
        return answer

    def reason(self, raw: Any, status: str) -> str:
        """The solver's own words."""
        return str(status)

    def _bound(self, program: Program, raw: Any, data: dict[str, Any], inverse: list[Any]) -> float | None:
        offset = inverse[-1].get(cps.OFFSET, 0.0)
        if Capability.MIP in program.requires():
            value = self.mip_bound(raw)
        else:
            multipliers = self.multipliers(raw, data)
            value = None if multipliers is None else multipliers.bound(self.point(raw))
        if value is None or not np.isfinite(value):
            return None
        sign = -1.0 if program.sense == "maximize" else 1.0  # CVXPY minimises inside
        return program.physical(sign * (value + float(offset)))

    @abc.abstractmethod
    def point(self, raw: Any) -> Array:
        """Canonical variables out of the raw result."""

    def _tell_apart(self, program: Program, settings: Settings) -> Status:
        """Infeasible or unbounded? Solve without the objective to know."""
        bare = cp.Problem(cp.Minimize(0), program.problem.constraints)
        data, chain, inverse = bare.get_problem_data(self.solver, solver_opts={})
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = chain.solve_via_data(bare, data, False, False, self.translate(settings))
            feasible = chain.invert(raw, inverse).status
        return Status.UNBOUNDED if feasible == cps.OPTIMAL else STATUS.get(feasible, Status.FAILED)


def _support(program: Program, certificate: dict[int, Any] | None) -> tuple[str, ...]:
    """Families that a certificate of infeasibility leans on."""
    if not certificate:
        return ()
    size = {
        family: max(
            (
                float(np.max(np.abs(certificate[t.id]), initial=0.0))
                for t in terms
                if getattr(t, "id", None) in certificate and certificate[t.id] is not None
            ),
            default=0.0,
        )
        for family, terms in program.families.items()
    }
    largest = max(size.values(), default=0.0)
    return tuple(family for family, weight in size.items() if weight > 1e-6 * largest > 0)


class Clarabel(ThroughCvxpy):
    """Interior point for every convex cone; the default for continuous conic programs."""

    name = "clarabel"
    solver = "CLARABEL"
    capabilities = frozenset(
        {Capability.LP, Capability.QP, Capability.SOC, Capability.EXP, Capability.POW, Capability.SDP}
    )
    rank = 20
    modules = ("clarabel",)
    distribution = "clarabel"
    licence = "Apache-2.0"

    def option_names(self) -> frozenset[str]:
        """See `ThroughCvxpy.option_names`."""
        import clarabel

        return frozenset(n for n in dir(clarabel.DefaultSettings()) if not n.startswith("_"))

    def translate(self, settings: Settings) -> dict[str, Any]:
        """See `ThroughCvxpy.translate`."""
        # Solutions of flat objectives are only as good as the square root of the gap; the few iterations from
        # 1e-8 to 1e-10 are cheap.
        accuracy = max(1e-4 * settings.tolerance, 1e-12)
        options: dict[str, Any] = {
            "tol_gap_abs": accuracy,
            "tol_gap_rel": accuracy,
            "tol_feas": accuracy,
        }
        if settings.time_limit is not None:
            options["time_limit"] = float(settings.time_limit)
        return options | dict(settings.options)

    def reason(self, raw: Any, status: str) -> str:
        """See `ThroughCvxpy.reason`."""
        return str(raw.status)

    def point(self, raw: Any) -> Array:
        """See `ThroughCvxpy.point`."""
        return np.asarray(raw.x, dtype=float)

    def multipliers(self, raw: Any, data: dict[str, Any]) -> Multipliers | None:
        """See `ThroughCvxpy.multipliers`."""
        return Multipliers(data.get(cps.P), data[cps.C], data[cps.A], data[cps.B], np.asarray(raw.z))


class SCS(ThroughCvxpy):
    """First-order method for every convex cone: large programs, low accuracy.

    Whether it converges hangs on its own scaling and acceleration, in ways that nobody foresees; where one
    setting has not after ``max_iters`` iterations, the next of `ATTEMPTS` starts afresh. A user's own option
    for any of these settles the matter.
    """

    # Programs are scaled when they are declared, so that SCS's own equilibration does more harm than good on
    # most. Of 200 random contracts in reduced form 5 did not converge without it, and others not with it.
    ATTEMPTS: ClassVar[tuple[dict[str, Any], ...]] = (
        {"normalize": False},
        {"normalize": True},
        {"normalize": True, "acceleration_lookback": 0},
    )

    def solve(self, program: Program, settings: Settings) -> Answer:
        """See `Backend.solve`."""
        started = time.perf_counter()
        decided = set(settings.options) & {name for attempt in self.ATTEMPTS for name in attempt}
        for number, attempt in enumerate(({},) if decided else self.ATTEMPTS, start=1):
            left = settings.time_limit
            if left is not None and number > 1:
                left -= time.perf_counter() - started
                if left <= 0:
                    break
            answer = super().solve(
                program, replace(settings, time_limit=left, options=attempt | dict(settings.options))
            )
            if answer.status not in (Status.INACCURATE, Status.LIMIT):
                break
        answer.extra["attempts"] = number
        answer.seconds["solve"] = time.perf_counter() - started - answer.seconds.get("compile", 0.0)
        return answer

    name = "scs"
    solver = "SCS"
    capabilities = Clarabel.capabilities
    rank = 42
    modules = ("scs",)
    distribution = "scs"
    licence = "MIT"
    known_options = frozenset(
        [
            "acceleration_interval",
            "acceleration_lookback",
            "adaptive_scale",
            "alpha",
            "eps",
            "eps_abs",
            "eps_infeas",
            "eps_rel",
            "linear_solver",
            "max_iters",
            "normalize",
            "rho_x",
            "scale",
            "time_limit_secs",
            "use_indirect",
        ]
    )

    def translate(self, settings: Settings) -> dict[str, Any]:
        """See `ThroughCvxpy.translate`."""
        accuracy = 1e-2 * settings.tolerance
        options: dict[str, Any] = {
            "eps_abs": accuracy,
            "eps_rel": accuracy,
            "max_iters": 100_000,
        }
        if settings.time_limit is not None:
            options["time_limit_secs"] = float(settings.time_limit)
        return options | dict(settings.options)

    def reason(self, raw: Any, status: str) -> str:
        """See `ThroughCvxpy.reason`."""
        return _unless_interrupted(str(raw["info"]["status"]))

    def point(self, raw: Any) -> Array:
        """See `ThroughCvxpy.point`."""
        return np.asarray(raw["x"], dtype=float)

    def multipliers(self, raw: Any, data: dict[str, Any]) -> Multipliers | None:
        """See `ThroughCvxpy.multipliers`."""
        return Multipliers(data.get(cps.P), data[cps.C], data[cps.A], data[cps.B], np.asarray(raw["y"]))


ADAPTIVE_ITERATIONS, FIXED_ITERATIONS = 20_000, 200_000
"""Of OSQP, while it adapts its step, and then with one step, which converges for certain if slowly."""


class OSQP(ThroughCvxpy):
    """First-order method for quadratic programs."""

    name = "osqp"
    solver = "OSQP"
    capabilities = frozenset({Capability.LP, Capability.QP})
    rank = 43
    modules = ("osqp",)
    distribution = "osqp"
    licence = "Apache-2.0"

    def option_names(self) -> frozenset[str]:
        """See `ThroughCvxpy.option_names`."""
        import osqp

        return frozenset(n for n in dir(osqp.OSQP().ext.OSQPSettings()) if not n.startswith("_"))

    def translate(self, settings: Settings) -> dict[str, Any]:
        """See `ThroughCvxpy.translate`."""
        accuracy = 1e-2 * settings.tolerance
        options: dict[str, Any] = {
            "eps_abs": accuracy,
            "eps_rel": accuracy,
            "max_iter": ADAPTIVE_ITERATIONS,
            "polishing": True,
        }
        if settings.time_limit is not None:
            options["time_limit"] = float(settings.time_limit)
        return options | dict(settings.options)

    def again(self, raw: Any, settings: Settings) -> dict[str, Any] | None:
        """See `ThroughCvxpy.again`: the step that adapts is fast, and may go round in circles on an LP."""
        out_of_iterations = str(raw.info.status) == "maximum iterations reached"
        if not out_of_iterations or settings.options.keys() & {"adaptive_rho", "max_iter"}:
            return None
        return self.translate(settings) | {"adaptive_rho": False, "max_iter": FIXED_ITERATIONS}

    def reason(self, raw: Any, status: str) -> str:
        """See `ThroughCvxpy.reason`."""
        return _unless_interrupted(str(raw.info.status))

    def point(self, raw: Any) -> Array:
        """See `ThroughCvxpy.point`."""
        return np.asarray(raw.x, dtype=float)

    def multipliers(self, raw: Any, data: dict[str, Any]) -> Multipliers | None:
        """See `ThroughCvxpy.multipliers`."""
        equalities = data[cps.B].size
        y = np.asarray(raw.y, dtype=float)
        y = np.concatenate([y[:equalities], np.maximum(y[equalities:], 0.0)])
        return _rows(data, y)


class Highs(ThroughCvxpy):
    """HiGHS as CVXPY calls it; `highspy` is the direct and faster route."""

    name = "highs"
    solver = "HIGHS"
    capabilities = frozenset({Capability.LP, Capability.QP, Capability.MIP})
    without_integers = frozenset({Capability.QP})
    rank = 41
    modules = ("highspy",)
    distribution = "highspy"
    licence = "MIT"

    def option_names(self) -> frozenset[str]:
        """See `ThroughCvxpy.option_names`."""
        import highspy

        return frozenset(n for n in dir(highspy.HighsOptions()) if not n.startswith("_"))

    def translate(self, settings: Settings) -> dict[str, Any]:
        """See `ThroughCvxpy.translate`."""
        hush_highs()
        accuracy = float(np.clip(1e-2 * settings.tolerance, 1e-10, 1e-7))
        options: dict[str, Any] = {
            "primal_feasibility_tolerance": accuracy,
            "dual_feasibility_tolerance": accuracy,
            # HiGHS's default gap of 1e-4 returns a wrong graph on sharing markets.
            "mip_rel_gap": 0.0,
            "mip_abs_gap": 0.0,
            "mip_feasibility_tolerance": accuracy,
            # The default of 1e-7 bends the objective of quadratic programs.
            "qp_regularization_value": 1e-10,
        }
        if settings.time_limit is not None:
            options["time_limit"] = float(settings.time_limit)
        return options | dict(settings.options)

    def reason(self, raw: Any, status: str) -> str:
        """See `ThroughCvxpy.reason`."""
        return str(raw["model_status"])

    def point(self, raw: Any) -> Array:
        """See `ThroughCvxpy.point`."""
        return np.asarray(raw["solution"].col_value, dtype=float)

    def mip_bound(self, raw: Any) -> float | None:
        """See `ThroughCvxpy.mip_bound`."""
        return float(raw["info"].mip_dual_bound)

    def multipliers(self, raw: Any, data: dict[str, Any]) -> Multipliers | None:
        """See `ThroughCvxpy.multipliers`."""
        y = -np.asarray(raw["solution"].row_dual, dtype=float)
        return _rows(data, y)


class Scipy(ThroughCvxpy):
    """SciPy's ``linprog`` and ``milp``."""

    name = "scipy"
    solver = "SCIPY"
    capabilities = frozenset({Capability.LP, Capability.MIP})
    rank = 44
    modules = ("scipy",)
    distribution = "scipy"
    licence = "BSD-3-Clause"
    known_options = frozenset({"scipy_options"})

    def translate(self, settings: Settings) -> dict[str, Any]:
        """See `ThroughCvxpy.translate`."""
        options: dict[str, Any] = {"method": "highs", "mip_rel_gap": 0.0}
        if settings.time_limit is not None:
            options["time_limit"] = float(settings.time_limit)
        return {"scipy_options": options | dict(settings.options.get("scipy_options", {}))}

    def reason(self, raw: Any, status: str) -> str:
        """See `ThroughCvxpy.reason`."""
        return str(raw.message)

    def point(self, raw: Any) -> Array:
        """See `ThroughCvxpy.point`."""
        return np.asarray(raw.x, dtype=float)

    def undecided(self, raw: Any) -> bool:
        """See `ThroughCvxpy.undecided`."""
        return "unbounded or infeasible" in str(raw.message)

    def mip_bound(self, raw: Any) -> float | None:
        """See `ThroughCvxpy.mip_bound`."""
        bound = getattr(raw, "mip_dual_bound", None)
        return None if bound is None else float(bound)

    def multipliers(self, raw: Any, data: dict[str, Any]) -> Multipliers | None:
        """See `ThroughCvxpy.multipliers`."""
        if getattr(raw, "eqlin", None) is None:
            return None
        blocks = [
            (data[cps.A], data[cps.B], raw.eqlin.marginals),
            (data[cps.G], data[cps.H], raw.ineqlin.marginals),
        ]
        kept = [(m, b, -np.asarray(y)) for m, b, y in blocks if m is not None]
        if not kept:
            return None
        return Multipliers(
            None,
            data[cps.C],
            sp.vstack([m for m, _, _ in kept]),
            np.concatenate([b for _, b, _ in kept]),
            np.concatenate([y for _, _, y in kept]),
            data.get(cps.LOWER_BOUNDS),
            data.get(cps.UPPER_BOUNDS),
        )


def _unless_interrupted(status: str) -> str:
    """Pass Ctrl-C on: solvers with a signal handler of their own take it for one more way to stop."""
    if status == "interrupted":
        raise KeyboardInterrupt
    return status


def _rows(data: dict[str, Any], y: Array) -> Multipliers:
    """Multipliers for CVXPY's two row formats: cone form (A, b) and quadratic form (A, b; F, g)."""
    if cps.F in data:
        matrix = sp.vstack([data[cps.A], data[cps.F]])
        offset = np.concatenate([data[cps.B], data[cps.G]])
        linear = data[cps.Q]
    else:
        matrix, offset, linear = data[cps.A], data[cps.B], data[cps.C]
    return Multipliers(
        data.get(cps.P), linear, matrix, offset, y, data.get(cps.LOWER_BOUNDS), data.get(cps.UPPER_BOUNDS)
    )
