"""What must not be asked of variables that only stand for a graph while nothing pulls them the wrong way."""

from __future__ import annotations

from dataclasses import dataclass

import cvxpy as cp
import numpy as np

from mechopt.formulations.guards import slope_in, wanted
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Program
from mechopt.solvers.terms import Term


@dataclass(frozen=True)
class Guarded:
    """Refuses constraints and objectives that would be met by such variables instead of by the graph.

    Attributes
    ----------
    larger : tuple of str
        Variables held below what the graph makes of them: they may only be wanted larger.
    smaller : tuple of str
        Variables held above it.
    decision : str
        The variable that is the graph.
    """

    larger: tuple[str, ...] = ()
    smaller: tuple[str, ...] = ()
    decision: str = "adjacency"

    def __call__(self, program: Program, what: str, term: Term | cp.Expression) -> None:
        """Raise `InvalidInput` for such a term."""
        directions = [(name, 1.0, "lowering") for name in self.larger]
        directions += [(name, -1.0, "raising") for name in self.smaller if name in program]
        for part in wanted(term, program.sense):
            for name, sign, how in directions:
                (inner,) = program[name].variables()
                if any(v is inner for v in part.variables()) and not _pulls(part, inner, sign):
                    raise InvalidInput(
                        f"{what} may be met by {how} the variable {name!r} while the graph stays, so that "
                        f"the answer would mean nothing; state it on program[{self.decision!r}], or take "
                        "utilities that enter programs exactly: AdditiveUtility, TableUtility, or "
                        "UserUtility of data of one size"
                    )


def _pulls(part: cp.Expression, variable: cp.Variable, sign: float) -> bool:
    """Whether an expression never falls (sign 1), or never rises (sign -1), as a variable rises."""
    slope = slope_in(variable, part, {})
    if slope is not None:
        return bool(np.all(sign * slope >= 0))
    return _directions(part, variable) <= {sign}


def _directions(expression: cp.Expression, variable: cp.Variable) -> set[float]:
    """Signs that the slope of an expression in a variable may have, by the rules of its atoms."""
    if expression is variable:
        return {1.0}
    found: set[float] = set()
    for position, argument in enumerate(expression.args):
        inner = _directions(argument, variable)
        if inner and not expression.is_incr(position):
            inner = {-sign for sign in inner} if expression.is_decr(position) else {1.0, -1.0}
        found |= inner
    return found
