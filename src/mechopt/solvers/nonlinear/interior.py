"""POUNCE and Ipopt: interior points."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mechopt.solvers.backend import Settings
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.nonlinear.backend import Outcome, Smooth, Watched
from mechopt.solvers.nonlinear.smooth import SmoothForm
from mechopt.solvers.output import quiet
from mechopt.solvers.solution import Status

Array = NDArray[np.float64]

IPOPT_STATUS = {
    0: Status.OPTIMAL,
    1: Status.INACCURATE,
    2: Status.INFEASIBLE,
    4: Status.UNBOUNDED,
    5: Status.LIMIT,
    6: Status.INACCURATE,
    -1: Status.LIMIT,
    -4: Status.LIMIT,
    -5: Status.LIMIT,
}
"""Ipopt's return codes, which POUNCE shares; every other one is a failure."""


def _ipopt_options(form: SmoothForm, settings: Settings) -> dict[str, Any]:
    # What each row leaves over adds up in the gap: the more rows, the smaller the barrier must end.
    accuracy = max(1e-2 * settings.tolerance * min(1.0, 100 / max(form.m, 1)), 1e-11)
    return {
        "tol": accuracy,
        "constr_viol_tol": max(1e-2 * settings.tolerance, 1e-11),
        "compl_inf_tol": accuracy,
        # Ipopt widens bounds by default, and then takes the log of a negative number.
        "bound_relax_factor": 0.0,
        "print_level": 5 if settings.verbose else 0,
        "sb": "yes",
    } | dict(settings.options)


class Pounce(Smooth):
    """POUNCE, an interior-point method of Ipopt's kind without compiled dependencies."""

    name = "pounce"
    rank = 60
    modules = ("pounce",)
    distribution = "pounce-solver"
    licence = "EPL-2.0"
    install = "pip install 'mechopt[nlp]'"

    def option_names(self) -> frozenset[str]:
        """See `Smooth.option_names`."""
        return frozenset()

    def run(self, form: SmoothForm, settings: Settings, deadline: float) -> Outcome:
        """See `Smooth.run`."""
        import pounce

        watched = Watched(form, deadline)
        problem = pounce.Problem(
            n=form.n, m=form.m, problem_obj=watched, lb=form.lb, ub=form.ub, cl=form.cl, cu=form.cu
        )
        options = _ipopt_options(form, settings)
        if math.isfinite(deadline):
            options.setdefault("max_wall_time", max(deadline - time.perf_counter(), 1e-6))
        for name, value in options.items():
            problem.add_option(name, value)
        try:
            with watched.interruptible(), nullcontext() if settings.verbose else quiet():
                x, info = problem.solve(form.x0.copy())
        except RuntimeError as error:
            watched.release()
            if "OPTION_INVALID" in str(error):
                name = str(error).removeprefix("option ").split("=")[0]
                self.refuse_options([name], str(error).rsplit("message:", 1)[-1].strip())
            raise
        watched.release()
        status = IPOPT_STATUS.get(int(info["status"]), Status.FAILED)
        reason = str(info["status_msg"]) + (" (time limit)" if watched.late else "")
        return Outcome(np.asarray(x), np.asarray(info["mult_g"]), status, reason, int(info["iter_count"]))


class Ipyopt(Smooth):
    """Ipopt itself, through the wheel of ``ipyopt``."""

    name = "ipyopt"
    rank = 61
    modules = ("ipyopt",)
    distribution = "ipyopt"
    licence = "BSD-3-Clause AND EPL-1.0 AND CECILL-C"  # ipyopt; the Ipopt 3.12 and MUMPS in its wheel
    install = "pip install 'mechopt[nlp]'"

    WORDS: ClassVar[dict[int, str]] = {
        0: "Solve_Succeeded",
        1: "Solved_To_Acceptable_Level",
        2: "Infeasible_Problem_Detected",
        3: "Search_Direction_Becomes_Too_Small",
        4: "Diverging_Iterates",
        5: "User_Requested_Stop",
        6: "Feasible_Point_Found",
        -1: "Maximum_Iterations_Exceeded",
        -2: "Restoration_Failed",
        -3: "Error_In_Step_Computation",
        -4: "Maximum_CpuTime_Exceeded",
        -10: "Not_Enough_Degrees_Of_Freedom",
        -11: "Invalid_Problem_Definition",
        -12: "Invalid_Option",
        -13: "Invalid_Number_Detected",
        -100: "Unrecoverable_Exception",
        -101: "NonIpopt_Exception_Thrown",
        -102: "Insufficient_Memory",
        -199: "Internal_Error",
    }

    def option_names(self) -> frozenset[str]:
        """See `Smooth.option_names`."""
        import ipyopt

        return frozenset(option["name"] for option in ipyopt.get_ipopt_options())

    def run(self, form: SmoothForm, settings: Settings, deadline: float) -> Outcome:
        """See `Smooth.run`."""
        import ipyopt

        watched = Watched(form, deadline)

        def into(function: Callable[..., Array]) -> Callable[..., Array]:
            def fill(*arguments: Any) -> Array:
                out: Array = arguments[-1]
                out[()] = function(*arguments[:-1])
                return out

            return fill

        infinity = 2e19  # what Ipopt takes for no bound
        sides = [np.clip(side, -infinity, infinity) for side in (form.lb, form.ub, form.cl, form.cu)]
        multipliers = np.zeros(form.m)
        with nullcontext() if settings.verbose else quiet():
            try:
                problem = ipyopt.Problem(
                    form.n,
                    sides[0],
                    sides[1],
                    form.m,
                    sides[2],
                    sides[3],
                    form.jacobianstructure(),
                    form.hessianstructure(),
                    watched.objective,
                    into(watched.gradient),
                    into(watched.constraints),
                    into(watched.jacobian),
                    into(watched.hessian),
                    intermediate_callback=watched.intermediate,
                    ipopt_options=_ipopt_options(form, settings),
                )
            except ValueError as error:
                if "option" in str(error):
                    raise InvalidInput(
                        f"backend {self.name!r}: {error}, given {dict(settings.options)}; see Ipopt's options"
                    ) from error
                raise
            held = {"mult_x_L": np.zeros(form.n), "mult_x_U": np.zeros(form.n)}
            with watched.interruptible():
                x, _, code = problem.solve(form.x0.copy(), mult_g=multipliers, **held)
        watched.release()
        reason = self.WORDS.get(int(code), f"code {code}") + (" (time limit)" if watched.late else "")
        status = IPOPT_STATUS.get(int(code), Status.FAILED)
        return Outcome(np.asarray(x), multipliers, status, reason, watched.iterations)
