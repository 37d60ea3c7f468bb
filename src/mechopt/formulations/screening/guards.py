"""What a form of the program that keeps payments at their least refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cvxpy as cp
import numpy as np

from mechopt.formulations.guards import slope_in, wanted
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Guard, Program
from mechopt.solvers.terms import Term

if TYPE_CHECKING:
    from mechopt.formulations.screening.model import ScreeningContract


def refuse_rewards(contract: ScreeningContract, form: str, *, prefix: str = "") -> Guard:
    """Guard of the forms in which payments sit at their minimum: nothing may push them up.

    A constraint is safe if raising payments makes it harder to meet. Its slope in the payments is read off
    with the payments replaced by a free variable.
    """

    def guard(program: Program, what: str, term: Term | cp.Expression) -> None:
        payment = program[f"{prefix}payment"]
        fresh = cp.Variable(payment.shape)
        stand_in = {
            id(payment): fresh,
            id(program[f"{prefix}rent"]): fresh,
            id(program[f"{prefix}expected_payment"]): contract.probs @ fresh,
        }
        for part in wanted(term, program.sense):
            slope = slope_in(fresh, part, stand_in)
            if slope is None:
                problem = "is not affine in the payments, so that its direction cannot be seen"
            elif np.any(slope > 0):
                problem = "rewards higher payments"
            else:
                continue
            raise InvalidInput(
                f"{what} {problem}; form={form!r} keeps payments at the least that is incentive compatible: "
                "use form='local' (or 'full')"
            )

    return guard
