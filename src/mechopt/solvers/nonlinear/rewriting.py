"""What of a program has a smooth form, and how it gets one where CVXPY leaves it out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from cvxpy.atoms.affine.binary_operators import DivExpression
from cvxpy.atoms.pnorm import Pnorm
from cvxpy.expressions.leaf import Leaf
from cvxpy.reductions.dnlp2smooth.dnlp2smooth import Dnlp2Smooth
from numpy.typing import NDArray

from mechopt.solvers.terms import Hypograph

if TYPE_CHECKING:
    from mechopt.solvers.program import Program

Array = NDArray[np.float64]

ROWS = ("Inequality", "Equality", "Zero", "NonPos", "NonNeg")
"""Constraints that are rows, and so have a price."""

SMOOTH = (*ROWS, "SOC", "ExpCone", "PowCone3D")
"""Constraints that have a smooth form; CVXPY's own drops all but the first two without a word."""


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


class Smoothen(Dnlp2Smooth):  # type: ignore[misc]  # CVXPY has no types
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


def plain(term: Any) -> Any:
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
