"""HiGHS, SCIP and POUNCE as Pyomo calls them."""

from __future__ import annotations

import abc
import importlib.util
import logging
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mechopt.solvers.backend import Answer, Backend, Capability, Settings
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.output import hush_highs
from mechopt.solvers.pyomo.equations import switch_off_implied
from mechopt.solvers.pyomo.lagrange import bound
from mechopt.solvers.pyomo.pairs import Pair, as_products, as_sets, fix_smaller, loose, settle
from mechopt.solvers.pyomo.translate import Translation, unsupported
from mechopt.solvers.solution import Status

if TYPE_CHECKING:
    from mechopt.solvers.program import Program

CONVEX = frozenset({Capability.LP, Capability.QP, Capability.SOC, Capability.EXP, Capability.POW})


@dataclass
class Outcome:
    """What one run of a solver says; values are left in the model."""

    status: Status
    reason: str
    point: bool = False
    objective: float = float("nan")
    bound: float | None = None
    prices: Any = None
    extra: dict[str, Any] = field(default_factory=dict)


class ThroughPyomo(Backend):
    """A solver that Pyomo translates for and calls."""

    drops: ClassVar[float] = 0.0
    """Size of coefficients up to which the solver takes them for zero."""

    def lacks(self, program: Program) -> tuple[str, ...]:
        """See `Backend.lacks`; names also the atoms that the translation does not know."""
        return super().lacks(program) or unsupported(program)

    @abc.abstractmethod
    def option_names(self) -> frozenset[str]:
        """Options that the solver knows."""

    @abc.abstractmethod
    def run(self, translation: Translation, settings: Settings, limit: float | None) -> Outcome:
        """Solve the model; ``limit`` is what remains of the time limit."""

    def solve(self, program: Program, settings: Settings) -> Answer:
        """See `Backend.solve`."""
        unknown = sorted(set(settings.options) - self.option_names()) if settings.options else []
        if unknown:
            raise InvalidInput(
                f"backend {self.name!r} has no option {', '.join(map(repr, unknown))}; "
                f"it has {', '.join(sorted(self.option_names()))}"
            )
        started = time.perf_counter()
        with _quiet(settings.verbose):
            translation = Translation(program)
            compiled = time.perf_counter()
            outcome = self._attempt(translation, settings, _Clock(settings.time_limit, started))
            if translation.faintest <= self.drops:
                _doubt(outcome, translation.faintest)
        seconds = {"compile": compiled - started, "solve": time.perf_counter() - compiled}
        answer = Answer(outcome.status, outcome.reason, seconds=seconds, extra=outcome.extra)
        if not self.duals:
            answer.no_duals = f"backend {self.name!r} computes no prices"
        elif translation.pairs:
            answer.no_duals = "programs with complementarity pairs have no shadow prices"
        if not outcome.point:
            return answer
        answer.primal = translation.primal()
        answer.objective = program.physical(outcome.objective)
        certain = not program.requires() & {Capability.MIP, Capability.NLP, Capability.COMP}
        if certain and outcome.prices is not None and outcome.status is not Status.LIMIT:
            outcome.bound = bound(translation, outcome.prices)
        if outcome.bound is not None and np.isfinite(outcome.bound):
            answer.bound = program.physical(outcome.bound)
        if self.duals and not translation.pairs and outcome.prices is not None:
            answer.dual = translation.duals(outcome.prices)
        return answer

    def _attempt(self, translation: Translation, settings: Settings, clock: _Clock) -> Outcome:
        if translation.contradiction:
            return Outcome(Status.INFEASIBLE, "a row without variables is false")
        limit = clock.left()
        if limit is not None and limit <= 0:
            return Outcome(Status.LIMIT, "the time limit went into building the model")
        return self.run(translation, settings, limit)


def _doubt(outcome: Outcome, faintest: float) -> None:
    """Take back what a solver has proved of a program of which it has dropped coefficients."""
    if outcome.status in (Status.INFEASIBLE, Status.UNBOUNDED):
        outcome.status = Status.FAILED
    elif outcome.status is Status.OPTIMAL:
        outcome.status = Status.INACCURATE
    outcome.bound = outcome.prices = None
    outcome.reason += (
        f"; a coefficient of {faintest:.1e} is zero to this solver, so that it answers another program: "
        "declare variables and money with their scale"
    )


@dataclass(frozen=True)
class _Clock:
    """What is left of a time limit."""

    limit: float | None
    started: float

    def left(self) -> float | None:
        return None if self.limit is None else self.limit - (time.perf_counter() - self.started)


@contextmanager
def _quiet(verbose: bool) -> Iterator[None]:
    """Keep Pyomo's own log down; what its solvers print, it captures."""
    logger = logging.getLogger("pyomo")
    level = logger.level
    if not verbose:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


# ------------------------------------------------------------------ Pyomo's newer interface: HiGHS and SCIP


@contextmanager
def _interrupts_noted() -> Iterator[list[int]]:
    """Note Ctrl-C while a solver runs that handles it by itself, and may call what follows an error."""
    noted: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield noted
        return

    def note(number: int, frame: Any) -> None:
        noted.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def _call(
    solver: Any, model: Any, settings: Settings, limit: float | None, options: dict[str, Any]
) -> Outcome:
    """Run a solver of ``pyomo.contrib.solver`` and load its point."""
    with _interrupts_noted() as interrupted:
        results = solver.solve(
            model,
            tee=settings.verbose,
            time_limit=limit,
            solver_options=options,
            load_solutions=False,
            raise_exception_on_nonoptimal_result=False,
        )
    ended = results.termination_condition.name
    if interrupted or ended == "interrupted":
        raise KeyboardInterrupt
    outcome = Outcome(ENDED.get(ended, Status.FAILED), ended)
    if results.incumbent_objective is not None and results.solution_status.name in ("optimal", "feasible"):
        results.solution_loader.load_vars()
        outcome.point = True
        outcome.objective = float(results.incumbent_objective)
    outcome.bound = results.objective_bound
    told = dict(results.extra_info.items())
    nodes = told.get("NNodes", told.get("mip_node_count"))
    outcome.extra = {} if nodes is None else {"nodes": int(nodes)}
    outcome.prices = results.solution_loader
    return outcome


ENDED = {
    "convergenceCriteriaSatisfied": Status.OPTIMAL,
    "provenInfeasible": Status.INFEASIBLE,
    "unbounded": Status.UNBOUNDED,
    "infeasibleOrUnbounded": Status.FAILED,
    "maxTimeLimit": Status.LIMIT,
    "iterationLimit": Status.LIMIT,
    "objectiveLimit": Status.LIMIT,
}
"""Pyomo's termination conditions."""


def _told_apart(outcome: Outcome, model: Any, again: Callable[[], Outcome]) -> Outcome:
    """Infeasible or unbounded? Solve without the objective to know."""
    if outcome.reason != "infeasibleOrUnbounded":
        return outcome
    expression = model.objective.expr
    model.objective.expr = 0.0
    bare = again()
    model.objective.expr = expression
    if bare.status is Status.OPTIMAL:
        return Outcome(Status.UNBOUNDED, "feasible, and the objective improves without end")
    return Outcome(bare.status, bare.reason)


class PyomoHighs(ThroughPyomo):
    """HiGHS as Pyomo calls it; `highspy` is the direct and faster route."""

    name = "pyomo:highs"
    capabilities = frozenset({Capability.LP, Capability.QP, Capability.MIP})
    without_integers = frozenset({Capability.QP})
    rank = 71
    drops = 1e-9
    modules = ("pyomo", "highspy")
    distribution = "highspy"
    licence = "MIT"

    def option_names(self) -> frozenset[str]:
        """See `ThroughPyomo.option_names`."""
        import highspy

        return frozenset(n for n in dir(highspy.HighsOptions()) if not n.startswith("_"))

    def run(self, translation: Translation, settings: Settings, limit: float | None) -> Outcome:
        """See `ThroughPyomo.run`."""
        from pyomo.contrib.solver.solvers.highs import Highs

        hush_highs()
        accuracy = float(np.clip(1e-2 * settings.tolerance, 1e-10, 1e-7))
        options: dict[str, Any] = {
            "primal_feasibility_tolerance": accuracy,
            "dual_feasibility_tolerance": accuracy,
            "mip_feasibility_tolerance": accuracy,
            # HiGHS's default gap of 1e-4 returns a wrong graph on sharing markets.
            "mip_rel_gap": 0.0,
            "mip_abs_gap": 0.0,
            # HiGHS adds this to the diagonal of a quadratic objective; 1e-7, its default, shows in prices.
            "qp_regularization_value": 1e-10,
        } | dict(settings.options)
        model = translation.model
        outcome = _call(Highs(), model, settings, limit, options)
        outcome = _told_apart(outcome, model, lambda: _call(Highs(), model, settings, limit, options))
        integers = Capability.MIP in translation.program.requires()
        if not integers:
            outcome.bound = None  # Pyomo repeats the objective there
        prices = outcome.prices.get_duals() if outcome.point and not integers else None
        outcome.prices = prices
        return outcome


class PyomoScip(ThroughPyomo):
    """SCIP: global answers to nonconvex, mixed-integer and equilibrium programs, by branch and bound.

    Complementarity pairs become special ordered sets, on which SCIP branches and which need no bounds.
    """

    name = "pyomo:scip"
    capabilities = CONVEX | {Capability.MIP, Capability.NLP, Capability.COMP}
    rank = 70
    drops = 1e-9
    globally = True
    duals = False
    modules = ("pyomo", "pyscipopt")
    distribution = "pyscipopt"
    licence = "Apache-2.0"
    install = "pip install 'mechopt[minlp]'"

    def option_names(self) -> frozenset[str]:
        """See `ThroughPyomo.option_names`."""
        import pyscipopt

        return frozenset(pyscipopt.Model().getParams())

    def run(self, translation: Translation, settings: Settings, limit: float | None) -> Outcome:
        """See `ThroughPyomo.run`."""
        clock = _Clock(limit, time.perf_counter())
        model = translation.model
        pairs = settle(translation)
        if translation.contradiction:
            return Outcome(Status.INFEASIBLE, "a complementarity pair of constants does not hold")
        if pairs:
            as_sets(translation, pairs)

        def go() -> Outcome:
            return _scip(model, settings, clock)

        outcome = _told_apart(go(), model, go)
        if outcome.status is Status.OPTIMAL and pairs and loose(pairs, 1e-1 * settings.tolerance):
            outcome = _tightened(outcome, pairs, go)
        if outcome.point and outcome.status is Status.OPTIMAL and translation.largest() > FAR_OUT:
            outcome.status, outcome.bound = Status.INACCURATE, None
            outcome.reason += (
                "; the point lies at SCIP's infinity: the program looks unbounded, bound its variables"
            )
        free = translation.unbounded_variables()
        if free and (outcome.status is Status.LIMIT or outcome.status is Status.FAILED):
            outcome.reason += (
                f"; {free} entries of variables have no finite bounds: SCIP proves little without"
            )
        outcome.prices = None
        return outcome


FAR_OUT = 1e12
"""SCIP takes numbers beyond some such size for infinity, and what it says about them proves nothing."""


class _Unlocked:
    """A SCIP model whose ``optimize`` releases Python's lock.

    Pyomo reads what SCIP prints in a thread of its own. While SCIP held the lock that thread never ran, and
    once the pipe was full (its linear solver can warn thousands of times) both waited for ever.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def optimize(self) -> None:
        self._model.optimizeNogil()


@cache
def _scip_class() -> Any:
    from pyomo.contrib.solver.solvers.scip.scip_direct import ScipDirect

    class Scip(ScipDirect):  # type: ignore[misc]
        def _create_solver_model(self, model: Any, config: Any) -> Any:
            scip, *rest = super()._create_solver_model(model, config)
            return _Unlocked(scip), *rest

    return Scip


def _scip(model: Any, settings: Settings, clock: _Clock) -> Outcome:
    options: dict[str, Any] = {
        "timing/clocktype": 2,
        # Pyomo reads SCIP's output from a pipe by a thread that SCIP keeps from running: 64 kB of it would
        # block both for ever, whatever the time limit. So even a talkative run prints no line a node.
        "display/verblevel": 3 if settings.verbose else 0,
        "display/freq": -1,
    }
    for accuracy, share in ACCURACIES:
        # SCIP meets rows only to an absolute 1e-6 unless told otherwise.
        asked = (
            options
            | {"numerics/feastol": accuracy, "numerics/dualfeastol": accuracy}
            | {"limits/gap": share * settings.tolerance}
            | dict(settings.options)
        )
        limit = clock.left()
        if limit is not None and limit <= 0:
            return Outcome(Status.LIMIT, "no time left")
        try:
            return _honest(_call(_scip_class()(), model, settings, limit, asked), model, asked)
        except Exception as error:
            # Its linear solver gives up on some programs when so much is asked of it.
            if "error in LP solver" not in str(error) or (accuracy, share) == ACCURACIES[-1]:
                raise
    raise AssertionError("unreachable")


ACCURACIES = ((1e-9, 0.1), (1e-7, 1.0))
"""Absolute feasibility tolerance, and gap as a share of ours; the second pair where SCIP's LP solver fails.

It fails on quadratic objectives of a few variables when the last digits of the gap take thousands of nodes.
"""


def _honest(outcome: Outcome, model: Any, options: dict[str, Any]) -> Outcome:
    """Weaken SCIP's bound by what SCIP takes for nothing.

    It meets the row that stands for a nonlinear objective to its feasibility tolerance, and leaves out nodes
    that are better than its best point by less than its epsilon. Once its tree is empty it returns the value
    of that point as the bound, which then is no bound. What its tolerance on the other rows is worth only
    prices could tell, which it has not.
    """
    import pyomo.environ as pyo

    if outcome.bound is not None and np.isfinite(outcome.bound):
        blind = float(options["numerics/feastol"]) + float(options.get("numerics/epsilon", SCIP_EPSILON))
        side = 1.0 if model.objective.sense == pyo.maximize else -1.0
        outcome.bound += side * blind * max(abs(outcome.bound), 1.0)
    return outcome


SCIP_EPSILON = 1e-9
"""Numbers that differ by less, absolutely or relatively, are the same to SCIP unless it is told otherwise."""


def _tightened(outcome: Outcome, pairs: list[Pair], again: Callable[[], Outcome]) -> Outcome:
    """Solve again with the smaller side of each pair at zero; the bound stays that of the whole program."""
    fix_smaller(pairs)
    exact = again()
    if exact.status is Status.OPTIMAL:
        exact.bound = outcome.bound
        exact.extra |= outcome.extra
        return exact
    return outcome


# ------------------------------------------------------------------ Pyomo's solvers by file: POUNCE


class PyomoPounce(ThroughPyomo):
    """POUNCE through an AMPL file: interior points for smooth programs, local where they are not convex.

    Complementarity pairs are relaxed to ``a b <= e`` with ``e`` going to zero; a last solve holds the smaller
    side of each pair at zero.
    """

    name = "pyomo:pounce"
    capabilities = CONVEX | {Capability.NLP, Capability.COMP}
    rank = 72
    modules = ("pyomo", "pounce")
    distribution = "pounce-solver"
    licence = "EPL-2.0"
    install = "pip install 'mechopt[nlp]'"

    relaxations: ClassVar[tuple[float, ...]] = (1e-1, 1e-3, 1e-5, 1e-7)
    """The bounds ``e``, one solve each, warm-started from the last."""

    def available(self) -> str | None:
        """See `Backend.available`; the executable must be there too."""
        missing = super().available()
        return missing or (
            None if _executable() else "the executable `pounce` is neither in its package nor on PATH"
        )

    def option_names(self) -> frozenset[str]:
        """See `ThroughPyomo.option_names`."""
        return _pounce_options(str(_executable()))

    def run(self, translation: Translation, settings: Settings, limit: float | None) -> Outcome:
        """See `ThroughPyomo.run`."""
        clock = _Clock(limit, time.perf_counter())
        model = translation.model
        pairs = settle(translation)
        if translation.contradiction:
            return Outcome(Status.INFEASIBLE, "a complementarity pair of constants does not hold")
        convex = translation.program.is_convex()

        def go() -> Outcome:
            switch_off_implied(translation)
            return _pounce(model, settings, clock.left(), convex)

        if not pairs:
            return go()
        as_products(translation, pairs)
        for relaxation in self.relaxations:
            model.mpec_bound.set_value(relaxation)
            outcome = go()
            if outcome.status is not Status.OPTIMAL:
                return outcome
        model.pairs.deactivate()
        return _tightened(outcome, pairs, go)


def _pounce(model: Any, settings: Settings, limit: float | None, convex: bool) -> Outcome:
    import pyomo.environ as pyo

    if limit is not None and limit <= 0:
        return Outcome(Status.LIMIT, "no time left")
    accuracy = float(np.clip(1e-2 * settings.tolerance, 1e-10, 1e-8))
    options: dict[str, Any] = {"tol": accuracy, "constr_viol_tol": accuracy, "compl_inf_tol": accuracy}
    if limit is not None:
        options["max_wall_time"] = limit
    options |= dict(settings.options)
    if not hasattr(model, "dual"):
        model.dual = pyo.Suffix(direction=pyo.Suffix.IMPORT)
    # POUNCE speaks Ipopt's protocol; naming its own executable makes no demand on PATH.
    solver = pyo.SolverFactory("ipopt", executable=str(_executable()), validate=False)
    results = solver.solve(model, tee=settings.verbose, options=options, load_solutions=False)
    words = str(results.solver.message).replace("\\x3a", ":")
    ended = words.partition(": ")[2] or words
    outcome = Outcome(POUNCE.get(ended, Status.FAILED), ended)
    if outcome.status is Status.INFEASIBLE and not convex:
        return Outcome(Status.FAILED, f"{ended}: locally, which proves nothing for a nonconvex program")
    if outcome.status is Status.UNBOUNDED and not convex:
        return Outcome(Status.FAILED, f"{ended}: proves nothing for a nonconvex program")
    if outcome.status in (Status.OPTIMAL, Status.INACCURATE, Status.LIMIT) and len(results.solution):
        model.solutions.load_from(results)
        outcome.point = True
        outcome.objective = float(pyo.value(model.objective))
        outcome.prices = model.dual
    return outcome


POUNCE = {
    "SolveSucceeded": Status.OPTIMAL,
    "SolvedToAcceptableLevel": Status.INACCURATE,
    "Optimal Solution Found.": Status.OPTIMAL,
    "InfeasibleProblemDetected": Status.INFEASIBLE,
    "Problem is primal infeasible.": Status.INFEASIBLE,
    "DivergingIterates": Status.UNBOUNDED,
    "Problem is unbounded (dual infeasible).": Status.UNBOUNDED,
    "Maximum wallclock time exceeded.": Status.LIMIT,
    "Maximum number of iterations exceeded.": Status.LIMIT,
    "MaximumIterationsExceeded": Status.LIMIT,
    "MaximumCpuTimeExceeded": Status.LIMIT,
    "MaximumWallTimeExceeded": Status.LIMIT,
}
"""POUNCE's words, and those of its solver for linear and convex quadratic programs."""


def _executable() -> Path | None:
    spec = importlib.util.find_spec("pounce")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for name in ("pounce", "pounce.exe"):
            path = Path(place) / "bin" / name
            if path.is_file():
                return path
    found = shutil.which("pounce")
    return Path(found) if found else None


@cache
def _pounce_options(executable: str) -> frozenset[str]:
    """Names in the solver's own documentation of its options."""
    command = [executable, "--problem", "rosenbrock", "--no-sol", "print_options_documentation=yes"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    return frozenset(re.findall(r"^([a-z]\w*): ", text, flags=re.MULTILINE))
