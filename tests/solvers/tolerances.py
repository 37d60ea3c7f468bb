"""How far a backend's answer may be from the known one, in one table.

Values are relative to the size of the objective's terms (`Case.scale`); points and prices to the largest
entry of the known array, at least one. Never loosen a line to make a test pass: find out why, and write the
reason into the line.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

TOLERANCE = 1e-6
"""What the zoo asks of every backend: the default of `Program.solve`."""


@dataclass(frozen=True)
class Accuracy:
    """Relative errors allowed in the value, the point and the prices."""

    value: float
    point: float
    price: float
    why: str


_SMOOTH = sqrt(TOLERANCE)

BY_BACKEND = {
    "clarabel": Accuracy(
        TOLERANCE, _SMOOTH, _SMOOTH, "interior point: a flat optimum moves by the root of the gap"
    ),
    "scs": Accuracy(
        TOLERANCE, _SMOOTH, _SMOOTH, "first order, asked for 1e-8: a point as for any flat optimum"
    ),
    "osqp": Accuracy(
        TOLERANCE, 1e-5, 1e-5, "first order with polishing, which solves the active set exactly"
    ),
    "highs": Accuracy(
        TOLERANCE, _SMOOTH, _SMOOTH, "simplex is exact; the QP solver adds 1e-7 to the curvature"
    ),
    "scipy": Accuracy(TOLERANCE, 1e-7, 1e-7, "simplex: a corner and its basis, exact up to feasibility"),
    "highspy": Accuracy(TOLERANCE, _SMOOTH, _SMOOTH, "as highs: the same solver by the direct route"),
    "outer": Accuracy(TOLERANCE, 2 * _SMOOTH, _SMOOTH, "between tangents: a gap e lets the point move 2 √e"),
    "pounce": Accuracy(TOLERANCE, 1e-4, 1e-4, "interior point on the smooth form, Newton steps to the end"),
    "ipyopt": Accuracy(TOLERANCE, 1e-4, 1e-4, "interior point on the smooth form, Newton steps to the end"),
    "trust-constr": Accuracy(TOLERANCE, _SMOOTH, _SMOOTH, "stops on the barrier parameter"),
    "slsqp": Accuracy(
        TOLERANCE, _SMOOTH, _SMOOTH, "quasi-Newton: the gradient is small, the curvature guessed"
    ),
    "pyomo:highs": Accuracy(TOLERANCE, _SMOOTH, _SMOOTH, "as highs"),
    "pyomo:scip": Accuracy(
        TOLERANCE, 2 * _SMOOTH, _SMOOTH, "spatial branching closes the gap, not the point"
    ),
    "pyomo:pounce": Accuracy(
        TOLERANCE, _SMOOTH, _SMOOTH, "as pounce; complementarity is relaxed by a small product"
    ),
    "exact": Accuracy(1e-9, 1e-9, 1e-9, "closed algorithms, floating point only"),
}

UNKNOWN = Accuracy(
    TOLERANCE, _SMOOTH, _SMOOTH, "a third party's backend: what any answer within the gap can promise"
)


def accuracy(backend: str) -> Accuracy:
    """Line of the table for a backend."""
    return BY_BACKEND.get(backend, UNKNOWN)
