"""SciPy's SLSQP and trust-constr."""

from __future__ import annotations

import inspect
import math
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mechopt.solvers.backend import Settings
from mechopt.solvers.nonlinear.backend import Outcome, Smooth, TimeUp
from mechopt.solvers.nonlinear.smooth import SmoothForm
from mechopt.solvers.solution import Status

Array = NDArray[np.float64]


@dataclass
class Scaled:
    """The smooth form with objective and rows divided so that no gradient at the start is large.

    SciPy's solvers scale nothing. Variables of ``domain`` are kept off zero, where SciPy's line searches
    would otherwise meet infinite slopes.
    """

    form: SmoothForm
    deadline: float
    off_zero: float = 1e-10
    target: float = 10.0

    def __post_init__(self) -> None:
        form = self.form
        self.lower = np.where(form.domain, form.lb + self.off_zero, form.lb)
        self.x0 = np.clip(form.x0, self.lower, form.ub)
        self.last = self.x0
        gradient = float(np.max(np.abs(form.gradient(self.x0)), initial=0.0))
        rows = np.zeros(form.m)
        np.maximum.at(rows, form.jacobianstructure()[0], np.abs(form.jacobian(self.x0)))
        self.factor = self.target / max(gradient, self.target) if math.isfinite(gradient) else 1.0
        self.rows = self.target / np.maximum(np.where(np.isfinite(rows), rows, 0.0), self.target)
        self.cl, self.cu = form.cl * self.rows, form.cu * self.rows

    def _time(self) -> None:
        if time.perf_counter() > self.deadline:
            raise TimeUp

    def objective(self, x: Array) -> float:
        """Scaled objective."""
        self._time()
        return self.factor * self.form.objective(x)

    def gradient(self, x: Array) -> Array:
        """Scaled gradient."""
        return self.factor * self.form.gradient(x)

    def constraints(self, x: Array) -> Array:
        """Scaled rows."""
        self._time()
        return self.rows * self.form.constraints(x)

    def matrix(self, x: Array) -> Any:
        """Scaled derivative of the rows."""
        return sp.csr_array(self.form.matrix(x) * self.rows[:, None])

    def curved(self, x: Array, multipliers: Array, factor: float) -> Any:
        """Hessian of the scaled Lagrangian, both triangles."""
        values = self.form.hessian(x, np.asarray(multipliers, dtype=float) * self.rows, factor * self.factor)
        lower = sp.csr_array((values, self.form.hessianstructure()), shape=(self.form.n, self.form.n))
        return sp.csr_array(lower + sp.tril(lower, -1).T)

    def keep(self, x: Array, *_: Any) -> None:
        """Remember the last iterate, for when time is up."""
        self.last = np.array(x, dtype=float)
        self._time()

    def multipliers(self, scaled: Array) -> Array:
        """Multipliers of the form, from those of the scaled one."""
        return np.asarray(scaled) * self.rows / self.factor


class SLSQP(Smooth):
    """SciPy's sequential quadratic programming; dense, for some hundred variables."""

    name = "slsqp"
    rank = 62
    modules = ("scipy",)
    distribution = "scipy"
    licence = "BSD-3-Clause"
    exact_multipliers = False
    STATUS: ClassVar[dict[int, Status]] = {0: Status.OPTIMAL, 4: Status.INFEASIBLE, 9: Status.LIMIT}

    def option_names(self) -> frozenset[str]:
        """See `Smooth.option_names`."""
        return frozenset({"maxiter", "ftol", "disp", "iprint"})

    def run(self, form: SmoothForm, settings: Settings, deadline: float) -> Outcome:
        """See `Smooth.run`."""
        from scipy.optimize import Bounds as Box
        from scipy.optimize import minimize

        scaled = Scaled(form, deadline)
        options: dict[str, Any] = {
            "maxiter": 1000,
            # The test is on the change of the objective, which is quadratic in the error of the point; below
            # rounding error of the objective it would never be met.
            "ftol": max(
                1e-10 * settings.tolerance, 4e-16 * (1.0 + abs(scaled.factor * form.objective(scaled.x0)))
            ),
            "disp": settings.verbose,
        } | dict(settings.options)
        equal = np.flatnonzero(form.cl == form.cu)
        above = np.flatnonzero((form.cl != form.cu) & np.isfinite(form.cl))
        below = np.flatnonzero((form.cl != form.cu) & np.isfinite(form.cu))
        groups = [
            ("eq", equal, 1.0, scaled.cl),
            ("ineq", above, 1.0, scaled.cl),
            ("ineq", below, -1.0, scaled.cu),
        ]
        constraints = [
            {
                "type": kind,
                "fun": lambda x, r=rows, s=sign, c=side: s * (scaled.constraints(x)[r] - c[r]),
                "jac": lambda x, r=rows, s=sign: s * scaled.matrix(x)[r].toarray(),
            }
            for kind, rows, sign, side in groups
            if rows.size
        ]
        try:
            result = minimize(
                scaled.objective,
                scaled.x0,
                jac=scaled.gradient,
                method="SLSQP",
                bounds=Box(scaled.lower, form.ub),
                constraints=constraints,
                callback=scaled.keep,
                options=options,
            )
        except TimeUp:
            return Outcome(scaled.last, None, Status.LIMIT, "time limit")
        multipliers = None
        raw = getattr(result, "multipliers", None)
        if raw is not None and np.size(raw) == equal.size + above.size + below.size:
            # SciPy subtracts multipliers times constraints.
            signs = np.concatenate([np.full(rows.size, -sign) for _, rows, sign, _ in groups])
            places = np.concatenate([equal, above, below])
            weights = np.zeros(form.m)
            np.add.at(weights, places, signs * np.asarray(raw, dtype=float))
            multipliers = scaled.multipliers(weights)
        status = self.STATUS.get(int(result.status), Status.FAILED)
        return Outcome(np.asarray(result.x), multipliers, status, str(result.message), int(result.nit))


class TrustConstr(Smooth):
    """SciPy's trust-region interior-point method; sparse, and slow to finish."""

    name = "trust-constr"
    rank = 63
    modules = ("scipy",)
    distribution = "scipy"
    licence = "BSD-3-Clause"
    exact_multipliers = False
    STATUS: ClassVar[dict[int, Status]] = {0: Status.LIMIT, 1: Status.OPTIMAL, 2: Status.INACCURATE}
    WORDS: ClassVar[dict[int, str]] = {
        1: "`gtol` termination condition is satisfied",
        2: "`xtol` termination condition is satisfied",
    }

    def option_names(self) -> frozenset[str]:
        """See `Smooth.option_names`."""
        from scipy.optimize._trustregion_constr.minimize_trustregion_constr import (
            _minimize_trustregion_constr as solver,
        )

        given = {"fun", "x0", "args", "grad", "hess", "hessp", "bounds", "constraints", "callback", "workers"}
        names = {p.name for p in inspect.signature(solver).parameters.values() if p.kind is not p.VAR_KEYWORD}
        return frozenset(names - given)

    def run(self, form: SmoothForm, settings: Settings, deadline: float) -> Outcome:
        """See `Smooth.run`."""
        from scipy.optimize import Bounds as Box
        from scipy.optimize import NonlinearConstraint, minimize

        scaled = Scaled(form, deadline)
        accuracy = max(1e-2 * settings.tolerance, 1e-12)
        bounded = np.isfinite(scaled.lower).any() or np.isfinite(form.ub).any()
        barrier = bounded or bool(np.any(form.cl != form.cu))
        options: dict[str, Any] = {
            "maxiter": 1000,
            # SciPy tests the gradient of the barrier problem at whatever barrier it has: never let it pass.
            "gtol": 1e-300 if barrier else accuracy,
            "xtol": 1e-2 * accuracy,
            "barrier_tol": 1e-1 * accuracy,
            "verbose": 2 if settings.verbose else 0,
        } | dict(settings.options)
        none = np.zeros(form.m)
        constraints = []
        if form.m:
            constraints = [
                NonlinearConstraint(
                    scaled.constraints,
                    scaled.cl,
                    scaled.cu,
                    jac=scaled.matrix,
                    hess=lambda x, v: scaled.curved(x, v, 0.0),
                )
            ]
        try:
            result = minimize(
                scaled.objective,
                scaled.x0,
                jac=scaled.gradient,
                hess=lambda x: scaled.curved(x, none, 1.0),
                method="trust-constr",
                bounds=Box(scaled.lower, form.ub, keep_feasible=form.domain),
                constraints=constraints,
                callback=lambda x, _state: scaled.keep(x),
                options=options,
            )
        except TimeUp:
            return Outcome(scaled.last, None, Status.LIMIT, "time limit")
        multipliers = scaled.multipliers(result.v[0]) if form.m else np.zeros(0)
        status = self.STATUS.get(int(result.status), Status.FAILED)
        # With so small a `gtol` SciPy's message complains of rounding errors; the status tells what ended it.
        reason = self.WORDS.get(int(result.status), str(result.message))
        return Outcome(np.asarray(result.x), multipliers, status, reason, int(result.nit))
