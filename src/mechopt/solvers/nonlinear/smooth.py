"""A program as smooth functions with bounds, derivatives and multipliers, as CVXPY rewrites it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from cvxpy.reductions.cvx_attr2constr import CvxAttr2Constr, lower_value, recover_value_for_leaf
from cvxpy.reductions.flip_objective import FlipObjective
from cvxpy.reductions.solvers.nlp_solvers.nlp_solver import Bounds, Oracles
from numpy.typing import NDArray

from mechopt.solvers.dependence import implied
from mechopt.solvers.nonlinear.rewriting import ROWS, Smoothen, plain
from mechopt.solvers.terms import Hypograph

if TYPE_CHECKING:
    from mechopt.solvers.program import Program

Array = NDArray[np.float64]


class SmoothForm:
    r"""A program as :math:`\min f(x)`, :math:`c_l \le g(x) \le c_u`, :math:`l \le x \le u`, with derivatives.

    Functions are CVXPY's; `Hypograph` constraints are rows :math:`f(x) - t \ge 0` behind its own.
    Multipliers follow :math:`\nabla f + J^\top \lambda = z`, with ``z`` held by the bounds of ``x``.

    Attributes
    ----------
    n, m : int
        Numbers of variables and rows.
    x0, lb, ub : array, shape ``(n,)``
        Start and bounds.
    cl, cu : array, shape ``(m,)``
        Sides of the rows; none for linear equations that follow from others.
    curvature : array, shape ``(m,)``
        1 convex, -1 concave, 0 affine, NaN neither.
    domain : array of bool, shape ``(n,)``
        Auxiliary variables that are the argument of a log, a root or a quotient, and so should stay off zero.
    notes : tuple of str
        What CVXPY assumed on the way.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._hypographs = program.hypographs
        problem, replaced = self._restate(program)
        kept = {v.id: (v, v.value) for v in problem.variables()}
        kept |= {v.id: (v, v.value) for v in program.cvxpy_variables().values()}
        try:
            self._guess([v for v, _ in kept.values()])
            self._unused = {i: np.asarray(v.value, dtype=float) for i, (v, _) in kept.items()}
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                self._compile(problem, replaced)
        finally:  # a start we made up must not be taken for the user's by the next solve
            for variable, value in kept.values():
                variable.save_value(value)
        assumed = any("denominator" in str(warning.message) for warning in caught)
        self.notes = ("every denominator was assumed to be positive",) if assumed else ()

    def _restate(self, program: Program) -> tuple[cp.Problem, dict[int, int]]:
        """Problem in inequalities and equalities only; id of each constraint's stand-in."""
        replaced, constraints = {}, []
        for term in program.problem.constraints:
            constraints.append(plain(term))
            replaced[term.id] = constraints[-1].id
        self._touch: list[tuple[cp.Variable, cp.Variable]] = []
        for hypograph in self._hypographs:
            t, x = cp.Variable(hypograph.shape), cp.Variable(hypograph.shape)
            constraints += [t == hypograph.t, x == hypograph.x]
            self._touch.append((t, x))
        return cp.Problem(program.problem.objective, constraints), replaced

    def _guess(self, variables: list[cp.Variable]) -> None:
        """Give a value to variables that have none: one, moved into the bounds if need be."""
        for variable in variables:
            if variable.value is None:
                bounds = (np.asarray(bound, dtype=float) for bound in variable.get_bounds())
                variable.save_value(_inside(*(np.broadcast_to(bound, variable.shape) for bound in bounds)))
        for (t, x), hypograph in zip(self._touch, self._hypographs, strict=True):
            t.save_value(np.asarray(hypograph.t.value, dtype=float))
            x.save_value(np.asarray(hypograph.x.value, dtype=float))

    def _compile(self, problem: cp.Problem, replaced: dict[int, int]) -> None:
        self._variables = {v.id: v for v in problem.variables()}
        if isinstance(problem.objective, cp.Maximize):
            problem, _ = FlipObjective().apply(problem)
        problem, inverse = CvxAttr2Constr(reduce_bounds=False).apply(problem)
        maps: Any = inverse or ({}, {}, {})
        lowered, originals, renamed = maps
        for key, variable in lowered.items():
            if variable.value is None:
                value = np.asarray(lower_value(originals[key]), dtype=float)
                variable.save_value(value.reshape(variable.shape, order="F"))
        self._lowered = {key: variable.id for key, variable in lowered.items()}
        problem, inverse = Smoothen().apply(problem)
        smooth = inverse.cons_id_map
        bounds = Bounds(problem)
        self._problem = bounds.new_problem
        self.oracles = Oracles(self._problem, verbose=False)
        self.n = len(bounds.x0)
        self.lb, self.ub = bounds.lb, bounds.ub
        self._columns = _offsets(self._problem.variables())
        rows = _offsets(self._problem.constraints)
        self._rows = {key: rows[smooth[renamed.get(stand, stand)]] for key, stand in replaced.items()}
        self._add_hypographs(bounds)
        self.x0 = np.clip(np.asarray(bounds.x0, dtype=float), self.lb, self.ub)
        self._mark_domain()
        self._at: Array | None = None
        self._known: dict[str, Any] = {}
        self._free_implied_rows()

    def _free_implied_rows(self) -> None:
        """Take both sides from linear equations that follow from others: they hold all the same.

        Interior points refuse more equations than variables, and SLSQP equations that are dependent. A row
        without sides has no price; what it is worth is in the prices of those that imply it.
        """
        equal = np.flatnonzero((self.curvature == 0) & (self.cl == self.cu))
        if not equal.size:
            return
        free = np.flatnonzero(self.lb < self.ub)  # solvers take the others for constants
        matrix = self.matrix(self.x0)[equal][:, free]
        sides = self.cl[equal] - self.constraints(self.x0)[equal] + matrix @ self.x0[free]
        dropped = equal[implied(matrix, sides)]
        self.cl[dropped], self.cu[dropped] = -np.inf, np.inf

    def _add_hypographs(self, bounds: Any) -> None:
        inner = len(bounds.cl)
        size = sum(h.size for h in self._hypographs)
        self._inner, self.m = inner, inner + size
        self.cl = np.concatenate([bounds.cl, np.zeros(size)])
        self.cu = np.concatenate([bounds.cu, np.full(size, np.inf)])
        places = [
            tuple(np.arange(*self._columns[v.id]) for v in pair) for pair in self._touch
        ]  # columns of t and of x, each in column-major order
        empty = np.zeros(0, dtype=int)
        self._t = np.concatenate([empty, *(t for t, _ in places)])
        self._x = np.concatenate([empty, *(x for _, x in places)])
        rows, columns = (np.asarray(part, dtype=int) for part in self.oracles.jacobianstructure())
        added = inner + np.arange(size)
        self._jacobian = np.concatenate([rows, added, added]), np.concatenate([columns, self._t, self._x])
        rows, columns = (np.asarray(part, dtype=int) for part in self.oracles.hessianstructure())
        self._hessian = np.concatenate([rows, self._x]), np.concatenate([columns, self._x])
        at = inner
        self._hypograph_rows = {}
        for hypograph in self._hypographs:
            self._hypograph_rows[id(hypograph)] = (at, at + hypograph.size)
            at += hypograph.size
        curvature = [np.full(c.size, _curvature(c.args[0])) for c in self._problem.constraints]
        self.curvature = np.concatenate([np.zeros(0), *curvature, np.full(size, -1.0)])
        self.convex_objective = bool(self._problem.objective.expr.is_convex())

    def _mark_domain(self) -> None:
        own = {self._lowered.get(key, key) for key in self._variables}
        self.domain = np.zeros(self.n, dtype=bool)
        for key, (start, stop) in self._columns.items():
            if key not in own:
                self.domain[start:stop] = (self.lb[start:stop] == 0) & np.isposinf(self.ub[start:stop])

    # ---------------------------------------------------------------- oracles

    def _move(self, x: Array) -> None:
        """Evaluate the functions at ``x``: CVXPY's derivatives are taken at the last point evaluated."""
        if self._at is None or not np.array_equal(self._at, x):
            self._at = np.array(x, dtype=float)
            with np.errstate(all="ignore"):
                self._known = {
                    "f": float(self.oracles.objective(self._at)),
                    "g": np.array(self.oracles.constraints(self._at), dtype=float),
                }

    def _once(self, name: str, compute: Callable[[], Array]) -> Array:
        if name not in self._known:
            with np.errstate(all="ignore"):
                self._known[name] = np.array(compute(), dtype=float)
        return np.array(self._known[name])

    def objective(self, x: Array) -> float:
        """Return f(x)."""
        self._move(x)
        return float(self._known["f"])

    def gradient(self, x: Array) -> Array:
        """Return the gradient of f, shape ``(n,)``."""
        self._move(x)
        return self._once("df", lambda: self.oracles.gradient(x))

    def constraints(self, x: Array) -> Array:
        """Return g(x), shape ``(m,)``."""
        self._move(x)
        if not self._hypographs:
            return np.array(self._known["g"])
        value = self._each(lambda hypograph, at: hypograph.value_at(at), x)
        return np.concatenate([self._known["g"], value - np.asarray(x)[self._t]])

    def _each(self, function: Callable[[Hypograph, Array], Array], x: Array) -> Array:
        """Apply a function to each hypograph's own part of ``x``."""
        parts, start = [], 0
        for hypograph in self._hypographs:
            at = np.asarray(x)[self._x[start : start + hypograph.size]]
            shaped = at.reshape(hypograph.shape, order="F")
            parts.append(np.asarray(function(hypograph, shaped), dtype=float).ravel(order="F"))
            start += hypograph.size
        return np.concatenate([np.zeros(0), *parts])

    def jacobianstructure(self) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
        """Rows and columns of the entries of `jacobian`."""
        return self._jacobian

    def jacobian(self, x: Array) -> Array:
        """Return the entries of the derivative of g."""
        self._move(x)
        inner = self._once("dg", lambda: self.oracles.jacobian(x))
        if not self._hypographs:
            return inner
        slope = self._each(lambda hypograph, at: hypograph.derivative_at(at), x)
        return np.concatenate([inner, -np.ones(slope.size), slope])

    def hessianstructure(self) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
        """Rows and columns of the entries of `hessian`, lower triangle."""
        return self._hessian

    def hessian(self, x: Array, multipliers: Array, factor: float) -> Array:
        """Return the entries of the second derivative of ``factor * f + multipliers @ g``."""
        self._move(x)
        self.gradient(x)
        self.jacobian(x)  # CVXPY's second derivatives reuse the first ones
        multipliers = np.array(multipliers, dtype=float)
        with np.errstate(all="ignore"):
            inner = np.array(self.oracles.hessian(x, multipliers[: self._inner], float(factor)), dtype=float)
        if not self._hypographs:
            return inner
        return np.concatenate([inner, multipliers[self._inner :] * self._each(_second_derivative, x)])

    def matrix(self, x: Array) -> Any:
        """Return the derivative of g as a sparse matrix, shape ``(m, n)``."""
        return sp.csr_array((self.jacobian(x), self._jacobian), shape=(self.m, self.n))

    # ---------------------------------------------------------------- back to the program

    def primal(self, x: Array) -> dict[int, Array]:
        """Value of every variable of the program by id; those that occur nowhere keep their start."""
        values = {}
        for variable in self.program.cvxpy_variables().values():
            where = self._columns.get(self._lowered.get(variable.id, variable.id))
            if where is None:
                values[variable.id] = self._unused[variable.id]
                continue
            part = np.asarray(x[where[0] : where[1]], dtype=float)
            if where[1] - where[0] != variable.size or variable.attributes["diag"]:
                value = recover_value_for_leaf(variable, part, project=False)
                values[variable.id] = np.asarray(value.toarray() if sp.issparse(value) else value)
            else:
                values[variable.id] = part.reshape(variable.shape, order="F")
        return values

    def duals(self, multipliers: Array) -> tuple[dict[int, Array], dict[int, Array]]:
        """Multipliers of constraints and of hypographs, in CVXPY's sign."""
        constraints = {}
        for terms in self.program.families.values():
            for term in terms:
                if isinstance(term, cp.Constraint) and type(term).__name__ in ROWS:
                    start, stop = self._rows[term.id]
                    part = multipliers[start:stop]
                    # Inequalities are rows `larger - smaller >= 0`, equalities `left - right == 0`.
                    value = part if type(term).__name__ in ("Equality", "Zero") else np.maximum(-part, 0.0)
                    constraints[term.id] = value.reshape(term.shape, order="F")
        hypographs = {key: np.maximum(-multipliers[a:b], 0.0) for key, (a, b) in self._hypograph_rows.items()}
        return constraints, hypographs

    # ---------------------------------------------------------------- our own checks

    def admissible(self, multipliers: Array) -> Array:
        """Multipliers with those set to zero whose sign asks for a side that the row does not have."""
        good = ((multipliers > 0) & np.isfinite(self.cu)) | ((multipliers < 0) & np.isfinite(self.cl))
        return np.where(good, multipliers, 0.0)

    def slack(self, x: Array, multipliers: Array) -> Array:
        """Distance of each row to the side that its multiplier holds, zero without one."""
        side = np.where(multipliers > 0, self.cu, self.cl)
        return np.where(multipliers != 0, self.constraints(x) - np.where(np.isfinite(side), side, 0.0), 0.0)

    def violation(self, x: Array) -> float:
        """Worst violation of a row or bound, relative to the size of its terms."""
        g = self.constraints(x)
        size = np.maximum(abs(self.matrix(x)) @ np.maximum(np.abs(x), 1.0), 1.0)
        rows = np.maximum(np.maximum(self.cl - g, g - self.cu), 0.0) / size
        bounds = np.maximum(np.maximum(self.lb - x, x - self.ub), 0.0) / np.maximum(np.abs(x), 1.0)
        worst = float(max(np.max(rows, initial=0.0), np.max(bounds, initial=0.0)))
        return worst if math.isfinite(worst) else math.inf

    def kkt(self, x: Array, multipliers: Array) -> dict[str, float]:
        """How far from stationary: gradient of the Lagrangian that no bound holds, and complementarity.

        Relative to the sizes of the gradient's terms, and of the objective's.
        """
        lam = self.admissible(multipliers)
        gradient, matrix = self.gradient(x), self.matrix(x)
        residual = gradient + matrix.T @ lam
        size = max(1.0, float(np.max(np.abs(gradient) + abs(matrix).T @ np.abs(lam), initial=0.0)))
        worth = max(1.0, abs(self.objective(x)), float(np.abs(gradient) @ np.abs(x)))
        limit = np.where(residual > 0, self.lb, self.ub)
        room = np.where(np.isfinite(limit), np.abs(x - np.where(np.isfinite(limit), limit, 0.0)), np.inf)
        with np.errstate(invalid="ignore"):
            held = np.minimum(np.abs(residual) / size, np.abs(residual) * room / worth)
            left = np.where(residual == 0, 0.0, held)
        return {
            "stationarity": float(np.max(left, initial=0.0)),
            "complementarity": float(np.max(np.abs(lam * self.slack(x, lam)), initial=0.0)) / worth,
        }

    def lower_bound(self, x: Array, multipliers: Array) -> float | None:
        """Lower bound on the minimum, from the Lagrangian at these multipliers linearised at ``x``.

        None where the Lagrangian is not known to be convex. The gradient ``r`` that is left over is charged
        at the variable's bound, or without one at ``r x - |r| max(|x|, 1)``: the result then holds for every
        point that is no farther from the answer, entry by entry, than the answer's own size.
        """
        lam = self.admissible(multipliers)
        if not self.convex_objective or np.any(np.isnan(self.curvature) & (lam != 0)):
            return None
        lam = np.where(lam * self.curvature < 0, 0.0, lam)
        residual = self.gradient(x) + self.matrix(x).T @ lam
        value = self.objective(x) + float(lam @ self.slack(x, lam)) - float(residual @ x)
        return value + least(residual, x, self.lb, self.ub)


def least(slope: Array, x: Array, lower: Array, upper: Array) -> float:
    """Least value of ``slope @ z`` over the box; where that has no end, over points near ``x``."""
    limit = np.where(slope > 0, lower, upper)
    near = slope * x - np.abs(slope) * np.maximum(np.abs(x), 1.0)
    with np.errstate(invalid="ignore"):
        return float(np.where(np.isfinite(limit), slope * limit, near).sum())


def _inside(low: Array, high: Array) -> Array:
    """One, or the nearest point to it that keeps clear of the bounds."""
    width = high - low
    margin = np.where(np.isfinite(width), np.minimum(0.1 * width, 1.0), 1.0)
    return np.clip(np.ones(np.shape(low)), low + margin, high - margin)


def _offsets(items: list[Any]) -> dict[int, tuple[int, int]]:
    places, at = {}, 0
    for item in items:
        places[item.id] = (at, at + item.size)
        at += item.size
    return places


def _curvature(expression: Any) -> float:
    if expression.is_affine():
        return 0.0
    if expression.is_convex():
        return 1.0
    return -1.0 if expression.is_concave() else math.nan


def _second_derivative(hypograph: Hypograph, x: Array) -> Array:
    """Second derivative of a concave function by differences; one-sided at the end of a domain."""
    step = 1e-5 * np.maximum(np.abs(x), 1.0)
    left, middle, right = (hypograph.derivative_at(x + side * step) for side in (-1, 0, 1))
    with np.errstate(all="ignore"):
        central = (right - left) / (2 * step)
        value = np.where(np.isfinite(central), central, (right - middle) / step)
    return np.minimum(np.where(np.isfinite(value), value, 0.0), 0.0)
