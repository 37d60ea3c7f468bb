"""What a form of the program that keeps payments at their least refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Guard, Program
from mechopt.solvers.terms import Complementarity, Hypograph, Term

if TYPE_CHECKING:
    from mechopt.formulations.screening.model import ScreeningContract


def refuse_rewards(contract: ScreeningContract, form: str, *, prefix: str = "") -> Guard:
    """Guard of the forms in which payments sit at their minimum: nothing may push them up.

    A constraint is safe if raising payments makes it harder to meet. Its slope in the payments is read off
    with the payments replaced by a free variable.
    """

    def guard(program: Program, what: str, term: Term | cp.Expression) -> None:
        fresh = cp.Variable(program[f"{prefix}payment"].shape)
        parts = _parts(term, program.sense)
        for part in parts:
            slope = _payment_slope(contract, program, part, fresh, prefix)
            if slope is None:
                problem = "is not affine in the payments, so that its direction cannot be seen"
            elif np.any(slope < 0):
                problem = "rewards higher payments"
            else:
                continue
            raise InvalidInput(
                f"{what} {problem}; form={form!r} keeps payments at the least that is incentive compatible: "
                "use form='local' (or 'full')"
            )

    return guard


def _parts(term: Term | cp.Expression, sense: str) -> list[cp.Expression]:
    """Expressions that must not fall when payments rise."""
    if isinstance(term, cp.Expression):
        return [-term if sense == "maximize" else term]
    if isinstance(term, Hypograph):
        return [term.t, -term.x]
    if isinstance(term, Complementarity):
        return [term.a, -term.a, term.b, -term.b]
    name = type(term).__name__
    if name == "Inequality":
        return [term.args[0] - term.args[1]]
    if name == "NonPos":
        return [term.args[0]]
    if name == "NonNeg":
        return [-term.args[0]]
    return [sign * argument for argument in term.args for sign in (1, -1)]


def _payment_slope(
    contract: ScreeningContract, program: Program, part: cp.Expression, fresh: cp.Variable, prefix: str
) -> NDArray[np.float64] | None:
    """Differentiate an expression in the payments, all else fixed; None if it is not affine in them."""
    payment, probs_weighted, rent = (
        program[f"{prefix}{name}"] for name in ("payment", "expected_payment", "rent")
    )
    stand_in = {
        id(payment): fresh,
        id(rent): fresh,
        id(probs_weighted): contract.probs @ fresh,
    }
    for variable in part.variables():
        stand_in.setdefault(id(variable), cp.Constant(np.ones(variable.shape)))
    replaced = _substitute(part, stand_in)
    if not replaced.variables():
        return np.zeros(1)
    if not replaced.is_affine():
        return None
    fresh.save_value(np.zeros(fresh.shape))  # the gradient of an affine expression is the same everywhere
    slope = replaced.grad[fresh]  # a plain number for a single type
    return np.atleast_1d(slope.toarray() if sp.issparse(slope) else slope)


def _substitute(expression: cp.Expression, stand_in: dict[int, cp.Expression]) -> cp.Expression:
    """Copy of an expression with some of its nodes replaced: the outermost ones that are listed."""
    if id(expression) in stand_in:
        return stand_in[id(expression)]
    if not expression.args:
        return expression
    arguments = [_substitute(argument, stand_in) for argument in expression.args]
    if all(new is old for new, old in zip(arguments, expression.args, strict=True)):
        return expression
    return expression.copy(arguments)
