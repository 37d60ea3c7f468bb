"""Local solvers for smooth programs, convex or not: POUNCE, Ipopt, SciPy's SLSQP and trust-constr.

CVXPY rewrites a program into smooth functions of more variables and differentiates them (`SmoothForm`);
four thin backends pass the functions on. For convex programs the multipliers that come back are turned into a
bound by linearising the Lagrangian, so that the gap is ours; for others we compute how far the point is from
stationary.
"""

from __future__ import annotations

import abc
import inspect
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from cvxpy.atoms.affine.binary_operators import DivExpression
from cvxpy.atoms.pnorm import Pnorm
from cvxpy.expressions.leaf import Leaf
from cvxpy.reductions.cvx_attr2constr import CvxAttr2Constr, lower_value, recover_value_for_leaf
from cvxpy.reductions.dnlp2smooth.dnlp2smooth import Dnlp2Smooth
from cvxpy.reductions.flip_objective import FlipObjective
from cvxpy.reductions.solvers.nlp_solvers.nlp_solver import Bounds, Oracles
from numpy.typing import NDArray

from mechopt.solvers.backend import Answer, Backend, Capability, Settings
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.output import quiet
from mechopt.solvers.solution import Status
from mechopt.solvers.terms import Hypograph

if TYPE_CHECKING:
    from mechopt.solvers.program import Program

Array = NDArray[np.float64]

FAR = 1e15
"""Scaled objective beyond which a feasible point is evidence that there is no optimum."""

ROWS = ("Inequality", "Equality", "Zero", "NonPos", "NonNeg")
"""Constraints that are rows, and so have a price."""

SMOOTH = (*ROWS, "SOC", "ExpCone", "PowCone3D")
"""Constraints that have a smooth form; CVXPY's own drops all but the first two without a word."""


# -------------------------------------------------------------------------------------- what can be rewritten


def unsupported(program: Program) -> tuple[str, ...]:
    """Atoms and constraints of a program that have no smooth form, in words."""
    from cvxpy.reductions.solvers.nlp_solvers.diff_engine import ATOM_CONVERTERS

    found: dict[str, None] = {}
    stack: list[Any] = [program.objective]
    for terms in program.families.values():
        for term in terms:
            if isinstance(term, cp.Constraint):
                if type(term).__name__ not in SMOOTH:
                    found[f"a smooth form of the constraint {type(term).__name__}"] = None
                stack += term.args
            elif isinstance(term, Hypograph):
                stack += [term.t, term.x]
    methods = Dnlp2Smooth().smooth_canon_methods
    while stack:
        expression = stack.pop()
        if isinstance(expression, Leaf) or (expression.is_constant() and not expression.parameters()):
            continue
        stack += expression.args
        name = type(expression).__name__
        known = type(expression) in methods or name in ATOM_CONVERTERS or _rewritten_here(expression)
        if isinstance(expression, Pnorm) and expression.p != 2:
            known, name = False, f"norm of order {float(expression.p):g}"
        if not known:
            found[f"a smooth form of {name}"] = None
    return tuple(found)


def _rewritten_here(expression: Any) -> bool:
    return bool(expression.is_atom_affine()) and not expression.parameters()


class _Smoothen(Dnlp2Smooth):  # type: ignore[misc]
    """CVXPY's reduction, and two things it leaves out: norms along an axis, and rare affine atoms."""

    def __init__(self) -> None:
        from cvxpy.reductions.solvers.nlp_solvers.diff_engine import ATOM_CONVERTERS

        super().__init__()
        self._converters = ATOM_CONVERTERS

    def canonicalize_expr(self, expr: Any, args: list[Any], affine_above: bool) -> tuple[Any, list[Any]]:
        """See CVXPY's `Canonicalization`."""
        if isinstance(expr, cp.Expression) and not isinstance(expr, Leaf) and not expr.is_constant():
            if isinstance(expr, Pnorm) and expr.axis is not None:
                rows = args[0] if expr.axis in (1, -1) else args[0].T
                norms = cp.hstack([cp.norm(rows[i]) for i in range(rows.shape[0])])
                norm = cp.reshape(norms, expr.shape, order="F")
                expr, constraints = self.canonicalize_tree(norm, affine_above)
                return expr, constraints
            if isinstance(expr, DivExpression) and args[1].is_constant():
                return expr.copy(args), []  # CVXPY makes a variable of the constant: linear turns nonconvex
            known = type(expr) in self.smooth_canon_methods or type(expr).__name__ in self._converters
            if not known and _rewritten_here(expr):
                return _as_matrices(expr, args), []
        expr, constraints = super().canonicalize_expr(expr, args, affine_above)
        return expr, constraints


def _as_matrices(expression: Any, args: list[Any]) -> Any:
    """Write an affine atom as a sum of matrices times its arguments, by evaluating it on unit vectors."""
    rest = [np.asarray(a.value) if a.is_constant() else np.zeros(a.shape) for a in args]
    origin = np.asarray(expression.numeric(rest), dtype=float)
    result: Any = cp.Constant(origin)
    for position, argument in enumerate(args):
        if argument.is_constant():
            continue
        columns = []
        for entry in range(argument.size):
            unit = np.zeros(argument.size)
            unit[entry] = 1.0
            trial = [*rest]
            trial[position] = unit.reshape(argument.shape, order="F")
            column = np.asarray(expression.numeric(trial), dtype=float) - origin
            columns.append(sp.csr_array(column.reshape(-1, 1, order="F")))
        matrix = sp.hstack(columns, format="csr")
        vector = cp.vec(argument, order="F")
        result = result + cp.reshape(cp.Constant(matrix) @ vector, expression.shape, order="F")
    return result


def _plain(term: Any) -> Any:
    """Write a cone constraint as an inequality or equality that the smooth form knows."""
    kind = type(term).__name__
    if kind == "NonNeg":
        return term.args[0] >= 0
    if kind == "NonPos":
        return term.args[0] <= 0
    if kind == "Zero":
        return term.args[0] == 0
    if kind == "SOC":
        t, rows = term.args
        if len(rows.shape) < 2:
            return cp.norm(rows) <= t
        return cp.norm(rows, 2, axis=term.axis) <= cp.reshape(t, (t.size,), order="F")
    if kind == "ExpCone":
        x, y, z = term.args
        return x + cp.rel_entr(y, z) <= 0
    if kind == "PowCone3D":
        x, y, z = term.args
        weight = term.alpha
        mean = cp.exp(cp.multiply(weight, cp.log(x)) + cp.multiply(1 - weight, cp.log(y)))
        return cp.abs(z) <= mean
    return term


# -------------------------------------------------------------------------------------------- the smooth form


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
        Sides of the rows.
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
            constraints.append(_plain(term))
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
        problem, inverse = _Smoothen().apply(problem)
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
        return value + _least(residual, x, self.lb, self.ub)


def _least(slope: Array, x: Array, lower: Array, upper: Array) -> float:
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


# --------------------------------------------------------------------------------------------------- evidence


def infeasibility(form: SmoothForm, x: Array, tolerance: float, rounds: int = 20) -> Array | None:
    """Prove that no point satisfies the rows, by tangents at ``x`` and at points that satisfy those.

    Only sides of rows that are convex are used, so that a proof holds for nonconvex programs as well.

    Returns
    -------
    array, shape ``(m,)``, or None
        Weight of each row in the contradiction; None without a proof.
    """
    from scipy.optimize import linprog

    upper = np.flatnonzero(np.isfinite(form.cu) & (form.curvature >= 0))
    lower = np.flatnonzero(np.isfinite(form.cl) & (form.curvature <= 0))
    rows = np.concatenate([upper, lower])
    sign = np.concatenate([np.ones(upper.size), -np.ones(lower.size)])
    side = np.concatenate([form.cu[upper], -form.cl[lower]])
    bent = form.curvature[rows] != 0
    if not rows.size:
        return None
    blocks: list[tuple[Any, Array, NDArray[np.int_]]] = []
    for turn in range(rounds):
        keep = bent if blocks else np.ones(rows.size, dtype=bool)
        # Quotients and logs are so steep near zero that tangents there say little of the rest: every other
        # time take them farther out.
        at = np.where(form.domain, np.maximum(x, 1.0), x) if turn % 2 else x
        slope = sp.csr_array(form.matrix(at)[rows[keep]] * sign[keep][:, None])
        offset = side[keep] - sign[keep] * form.constraints(at)[rows[keep]] + slope @ at
        if not (np.all(np.isfinite(slope.data)) and np.all(np.isfinite(offset))):
            return None
        blocks.append((slope, offset, rows[keep]))
        matrix = sp.csr_array(sp.vstack([block[0] for block in blocks]))
        offsets = np.concatenate([block[1] for block in blocks])
        count = offsets.size
        # By how much must the tangents be relaxed in total? If by something, nothing satisfies them.
        result = linprog(
            np.concatenate([np.zeros(form.n), np.ones(count)]),
            A_ub=sp.hstack([matrix, -sp.eye_array(count)], format="csr"),
            b_ub=offsets,
            bounds=[*zip(form.lb, form.ub, strict=True), *[(0, None)] * count],
            method="highs",
        )
        if result.x is None:
            return None
        point = np.asarray(result.x[: form.n])
        weights = np.maximum(-np.asarray(result.ineqlin.marginals), 0.0)
        contradiction = _least(matrix.T @ weights, point, form.lb, form.ub) - float(weights @ offsets)
        size = float(weights @ (np.abs(offsets) + abs(matrix) @ np.abs(point) + 1.0))
        if contradiction > tolerance * size > 0:
            origin = np.concatenate([block[2] for block in blocks])
            return np.bincount(origin, weights, minlength=form.m).astype(float)
        if not bent.any():
            return None
        x = (x + point) / 2  # halfway keeps arguments of logs and quotients off zero
    return None


def endless(form: SmoothForm, x: Array) -> bool:
    """Whether ``x``, or a point far beyond it as seen from the start, is feasible and absurdly good."""
    step = x - form.x0
    length = float(np.max(np.abs(step), initial=0.0))
    if not (np.isfinite(length) and length > 0):
        return False
    return any(
        form.objective(point) < -FAR and form.violation(point) <= 1e-9
        for point in (x, np.clip(x + step * (10 * FAR / length), form.lb, form.ub))
    )


def recover_multipliers(form: SmoothForm, x: Array, tolerance: float) -> Array:
    """Least-squares multipliers of the rows that bind at ``x``, with the right signs."""
    from scipy.optimize import lsq_linear

    g, matrix = form.constraints(x), form.matrix(x)
    near = tolerance * np.maximum(abs(matrix) @ np.maximum(np.abs(x), 1.0), 1.0)
    above, below = g >= form.cu - near, g <= form.cl + near
    rows = np.flatnonzero(above | below)
    close = tolerance * np.maximum(np.abs(x), 1.0)
    low, high = x <= form.lb + close, x >= form.ub - close
    held = np.flatnonzero(low | high)
    multipliers = np.zeros(form.m)
    if not rows.size:
        return multipliers
    ones = np.ones(held.size), (held, np.arange(held.size))
    columns = sp.hstack([matrix[rows].T, sp.csr_array(ones, shape=(form.n, held.size))], format="csr")
    # `-z` of a variable at its lower bound is negative, at its upper bound positive; at both it is free.
    least = np.concatenate([np.where(below[rows], -np.inf, 0.0), np.where(low[held], -np.inf, 0.0)])
    most = np.concatenate([np.where(above[rows], np.inf, 0.0), np.where(high[held], np.inf, 0.0)])
    left: Any = columns.toarray() if math.prod(columns.shape) <= 4_000_000 else columns
    fit = lsq_linear(left, -form.gradient(x), bounds=(least, most), tol=1e-14, max_iter=500)
    multipliers[rows] = fit.x[: rows.size]
    return multipliers


# ---------------------------------------------------------------------------------------------------- solvers


@dataclass
class Outcome:
    """What a solver says: where it stopped, with which multipliers, and why."""

    x: Array
    multipliers: Array | None
    status: Status
    reason: str
    iterations: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class _TimeUp(Exception):
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
            raise _TimeUp

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
        except _TimeUp:
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
        except _TimeUp:
            return Outcome(scaled.last, None, Status.LIMIT, "time limit")
        multipliers = scaled.multipliers(result.v[0]) if form.m else np.zeros(0)
        status = self.STATUS.get(int(result.status), Status.FAILED)
        # With so small a `gtol` SciPy's message complains of rounding errors; the status tells what ended it.
        reason = self.WORDS.get(int(result.status), str(result.message))
        return Outcome(np.asarray(result.x), multipliers, status, reason, int(result.nit))
