"""What the smooth backends share: oracles with a deadline, and a judgement of what solvers say."""

from __future__ import annotations

import abc
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.solvers.backend import Answer, Backend, Capability, Settings
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.nonlinear.evidence import endless, infeasibility, recover_multipliers
from mechopt.solvers.nonlinear.rewriting import unsupported
from mechopt.solvers.nonlinear.smooth import SmoothForm
from mechopt.solvers.solution import Status
from mechopt.solvers.terms import Hypograph

if TYPE_CHECKING:
    from mechopt.solvers.program import Program

Array = NDArray[np.float64]


@dataclass
class Outcome:
    """What a solver says: where it stopped, with which multipliers, and why."""

    x: Array
    multipliers: Array | None
    status: Status
    reason: str
    iterations: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class TimeUp(Exception):
    """The deadline passed inside a function that a solver called."""


class Watched:
    """The oracles as a solver sees them, with a deadline; exceptions wait here until the solver has returned.

    Solvers written in other languages print, retry or swallow what is raised in a callback; a keyboard
    interrupt must get through all the same.
    """

    def __init__(self, form: SmoothForm, deadline: float) -> None:
        self.form, self.deadline = form, deadline
        self.error: BaseException | None = None
        self.late = False
        self.iterations = 0
        self.jacobianstructure = form.jacobianstructure
        self.hessianstructure = form.hessianstructure

    def _guard(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self.error is None:
            try:
                return function(*arguments)
            except BaseException as error:
                self.error = error
        return None

    def objective(self, x: Array) -> float:
        """See `SmoothForm.objective`."""
        value = self._guard(self.form.objective, x)
        return math.nan if value is None else float(value)

    def _array(self, function: Callable[..., Array], size: int, *arguments: Any) -> Array:
        value = self._guard(function, *arguments)
        return np.full(size, np.nan) if value is None else value

    def gradient(self, x: Array) -> Array:
        """See `SmoothForm.gradient`."""
        return self._array(self.form.gradient, self.form.n, x)

    def constraints(self, x: Array) -> Array:
        """See `SmoothForm.constraints`."""
        return self._array(self.form.constraints, self.form.m, x)

    def jacobian(self, x: Array) -> Array:
        """See `SmoothForm.jacobian`."""
        return self._array(self.form.jacobian, self.jacobianstructure()[0].size, x)

    def hessian(self, x: Array, multipliers: Array, factor: float) -> Array:
        """See `SmoothForm.hessian`."""
        return self._array(self.form.hessian, self.hessianstructure()[0].size, x, multipliers, factor)

    def intermediate(self, *report: Any) -> bool:
        """Take a report, once an iteration; False stops the solver."""
        self.iterations = max(self.iterations, int(report[1]))
        self.late = self.late or time.perf_counter() > self.deadline
        return self.error is None and not self.late

    def release(self) -> None:
        """Raise what a callback raised."""
        if self.error is not None:
            raise self.error

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a keyboard interrupt wait like any other exception.

        Raised at the entry of a callback, before our own code can catch it, the solver would swallow it.
        """
        main = threading.current_thread() is threading.main_thread()
        if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return

        def wait(_number: int, _frame: Any) -> None:
            self.error = KeyboardInterrupt()

        signal.signal(signal.SIGINT, wait)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class Smooth(Backend):
    """A solver of smooth programs; it looks for a stationary point from the variables' current values.

    Variables without a value start at one in scaled units, moved inside their bounds.
    """

    capabilities = frozenset(
        {
            Capability.LP,
            Capability.QP,
            Capability.SOC,
            Capability.EXP,
            Capability.POW,
            Capability.NLP,
            Capability.ORACLE,
        }
    )
    exact_multipliers: ClassVar[bool] = True

    def lacks(self, program: Program) -> tuple[str, ...]:
        """See `Backend.lacks`; atoms without a smooth form are named too."""
        missing = super().lacks(program)
        return missing or unsupported(program)

    @abc.abstractmethod
    def option_names(self) -> frozenset[str]:
        """Options that the solver knows; empty if only the solver can tell."""

    @abc.abstractmethod
    def run(self, form: SmoothForm, settings: Settings, deadline: float) -> Outcome:
        """Call the solver."""

    def refuse_options(self, wrong: list[str], why: str = "") -> None:
        """Raise `InvalidInput` for options."""
        known = ", ".join(sorted(self.option_names()))
        raise InvalidInput(
            f"backend {self.name!r} has no option {', '.join(map(repr, wrong))}"
            + (f"; it has {known}" if known else "")
            + (f"; the solver says: {why}" if why else "")
        )

    def solve(self, program: Program, settings: Settings) -> Answer:
        """See `Backend.solve`."""
        unknown = sorted(set(settings.options) - self.option_names())
        if unknown and self.option_names():
            self.refuse_options(unknown)
        started = time.perf_counter()
        deadline = math.inf if settings.time_limit is None else started + settings.time_limit
        form = SmoothForm(program)
        compiled = time.perf_counter()
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # what solvers warn of is in their status
            outcome = self.run(form, settings, deadline)
            answer = self._judge(program, form, outcome, settings, deadline)
        answer.seconds = {"compile": compiled - started, "solve": time.perf_counter() - compiled}
        return answer

    def _judge(
        self, program: Program, form: SmoothForm, outcome: Outcome, settings: Settings, deadline: float
    ) -> Answer:
        """Turn the solver's word into a claim that we can stand by."""
        answer = Answer(outcome.status, "; ".join([outcome.reason, *form.notes]), extra=dict(outcome.extra))
        if outcome.iterations is not None:
            answer.extra["iterations"] = int(outcome.iterations)
        x = np.asarray(outcome.x, dtype=float)
        violation = form.violation(x) if np.all(np.isfinite(x)) else math.inf
        if outcome.status is not Status.OPTIMAL or violation > settings.tolerance:
            suspect = violation > settings.tolerance and time.perf_counter() < deadline
            for point in (x, form.x0) if suspect else ():
                proof = infeasibility(form, point, settings.tolerance)
                if proof is not None:
                    answer.status, answer.conflict = Status.INFEASIBLE, self._families(form, proof)
                    answer.reason += "; tangents of the convex rows contradict each other"
                    return answer
        if outcome.status is not Status.OPTIMAL and endless(form, x):
            answer.status = Status.UNBOUNDED
            return answer
        if outcome.status is Status.INFEASIBLE:
            answer.status = Status.FAILED
            answer.reason += "; converged to a point of local infeasibility, which proves nothing"
            return answer
        if outcome.status is Status.UNBOUNDED or not math.isfinite(violation):
            answer.status = Status.FAILED
            return answer
        self._attach(program, form, outcome, answer, settings)
        self._weigh(program, answer, violation, settings)
        return answer

    def _families(self, form: SmoothForm, weights: Array) -> tuple[str, ...]:
        """Families whose rows take part in a contradiction."""
        size = {}
        for family, terms in form.program.families.items():
            places = [
                form._hypograph_rows[id(t)] if isinstance(t, Hypograph) else form._rows[t.id]
                for t in terms
                if isinstance(t, Hypograph | cp.Constraint)
            ]
            size[family] = max((float(np.max(weights[a:b], initial=0.0)) for a, b in places), default=0.0)
        largest = max(size.values(), default=0.0)
        return tuple(family for family, weight in size.items() if weight > 1e-6 * largest > 0)

    def _attach(
        self, program: Program, form: SmoothForm, outcome: Outcome, answer: Answer, settings: Settings
    ) -> None:
        """Point, multipliers, bound and stationarity, all ours."""
        x = np.asarray(outcome.x, dtype=float)
        multipliers = outcome.multipliers
        usable = multipliers is not None and np.all(np.isfinite(multipliers))
        error = form.kkt(x, multipliers) if usable and multipliers is not None else {"stationarity": math.inf}
        doubtful = max(error.values()) > 1e-2 * settings.tolerance and outcome.status is not Status.LIMIT
        if doubtful and not self.exact_multipliers:
            fitted = recover_multipliers(form, x, settings.tolerance)
            refitted = form.kkt(x, fitted)
            if max(refitted.values()) < max(error.values()):
                multipliers, error = fitted, refitted
        answer.primal = form.primal(x)
        answer.objective = program.physical(_sign(program) * form.objective(x))
        answer.extra["kkt"] = error
        if multipliers is None or not np.all(np.isfinite(multipliers)):
            answer.no_duals = "the solver returned no multipliers"
            return
        answer.dual, answer.hypograph_dual = form.duals(multipliers)
        if program.is_convex():
            bound = form.lower_bound(x, multipliers)
            if bound is not None and math.isfinite(bound):
                answer.bound = program.physical(_sign(program) * bound)

    def _weigh(self, program: Program, answer: Answer, violation: float, settings: Settings) -> None:
        """Our own residuals decide between optimal and inaccurate, whatever the solver called its end."""
        if answer.status is Status.LIMIT:
            return
        error = max(answer.extra["kkt"].values())
        if error <= settings.tolerance and violation <= settings.tolerance:
            answer.status = Status.OPTIMAL
        elif answer.status is Status.FAILED and violation > settings.tolerance:
            answer.primal, answer.dual, answer.hypograph_dual, answer.bound = {}, {}, {}, None
        else:
            answer.status = Status.INACCURATE
            if answer.bound is None:
                answer.reason += f"; stationary only to {error:.1e}"


def _sign(program: Program) -> float:
    return -1.0 if program.sense == "maximize" else 1.0
