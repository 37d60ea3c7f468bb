"""What guards of programs share: which way a constraint pulls, read off its expressions."""

from __future__ import annotations

from collections.abc import Mapping

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mechopt.solvers.terms import Complementarity, Hypograph, Term


def wanted(term: Term | cp.Expression, sense: str) -> list[cp.Expression]:
    """Return the expressions that a constraint, or an objective, wants to be large.

    Parameters
    ----------
    term : constraint, Hypograph, Complementarity or expression
        An expression is the objective of a program of this ``sense``.
    sense : {"maximize", "minimize"}
    """
    if isinstance(term, cp.Expression):
        return [term if sense == "maximize" else -term]
    if isinstance(term, Hypograph):
        return [-term.t, term.x]
    if isinstance(term, Complementarity):
        return [term.a, -term.a, term.b, -term.b]
    name = type(term).__name__
    if name == "Inequality":
        return [term.args[1] - term.args[0]]
    if name == "NonPos":
        return [-term.args[0]]
    if name == "NonNeg":
        return [term.args[0]]
    return [sign * argument for argument in term.args for sign in (1, -1)]


def slope_in(
    variable: cp.Variable, part: cp.Expression, stand_in: Mapping[int, cp.Expression]
) -> NDArray[np.float64] | None:
    """Differentiate an expression in a variable, all others held; None if it is not affine in it.

    Parameters
    ----------
    variable : CVXPY variable
    part : CVXPY expression
    stand_in : mapping from ids of nodes to expressions
        Nodes of ``part`` that are replaced by expressions in ``variable`` first.
    """
    nodes = {v.id: cp.Constant(np.ones(v.shape)) for v in part.variables() if v is not variable}
    replaced = _substitute(part, stand_in, nodes)
    if not any(v is variable for v in replaced.variables()):
        return np.zeros(1)
    if not replaced.is_affine():
        return None
    held = variable.value
    variable.save_value(
        np.ones(variable.shape)
    )  # the gradient of an affine expression is the same everywhere
    gradient = replaced.grad[variable]  # a plain number for a scalar
    variable.save_value(held)
    return np.atleast_1d(gradient.toarray() if sp.issparse(gradient) else gradient)


def _substitute(
    expression: cp.Expression, stand_in: Mapping[int, cp.Expression], variables: Mapping[int, cp.Expression]
) -> cp.Expression:
    """Copy of an expression with some of its nodes replaced: the outermost ones that are listed."""
    if id(expression) in stand_in:
        return stand_in[id(expression)]
    if isinstance(expression, cp.Variable):
        return variables.get(expression.id, expression)
    if not expression.args:
        return expression
    arguments = [_substitute(argument, stand_in, variables) for argument in expression.args]
    if all(new is old for new, old in zip(arguments, expression.args, strict=True)):
        return expression
    return expression.copy(arguments)
