"""Constraint kinds that CVXPY has no word for: evaluated hypographs and complementarity pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.solvers.errors import InvalidInput

Array = NDArray[np.float64]


def _affine(value: Any, argument: str, owner: str) -> cp.Expression:
    expression = cp.Expression.cast_to_const(value)
    if not expression.is_affine():
        raise InvalidInput(
            f"{owner}: `{argument}` must be affine in the variables, but it is {expression.curvature}; "
            "name it by a new variable and add an equality"
        )
    return expression


class Hypograph:
    r"""The constraint ``t <= f(x)``, elementwise, for a concave function that can only be evaluated.

    Backends that list the capability ``ORACLE`` accept it: they use the tangents
    :math:`t \le f(x_0) + f'(x_0)(x - x_0)`, each of which is valid wherever ``f`` is concave.

    Parameters
    ----------
    t : cvxpy expression, shape ``shape``
        Affine in the variables.
    f : callable with a ``derivative`` method, or pair of callables ``(value, derivative)``
        Concave function of one real variable, vectorised over arrays.
    x : cvxpy expression, shape ``shape``
        Affine in the variables.

    Raises
    ------
    InvalidInput
        If ``t`` or ``x`` is not affine, the shapes differ, or ``f`` has no derivative.

    Examples
    --------
    >>> import cvxpy as cp, numpy as np, mechopt as mo
    >>> program = mo.Program("log by its tangents")
    >>> x, t = program.variable("x", nonneg=True), program.variable("t")
    >>> _ = program.maximize(t - 0.5 * x)
    >>> _ = program.add("utility", mo.Hypograph(t, (np.log1p, lambda x: 1 / (1 + x)), x))
    >>> solution = program.solve("outer")
    >>> round(float(solution["x"]), 3)
    1.0
    """

    def __init__(self, t: Any, f: Any, x: Any) -> None:
        self.t = _affine(t, "t", "Hypograph")
        self.x = _affine(x, "x", "Hypograph")
        if self.t.shape != self.x.shape:
            raise InvalidInput(
                f"Hypograph: `t` has shape {self.t.shape} and `x` has shape {self.x.shape}; "
                "the constraint is elementwise, so give both the same shape"
            )
        value: Callable[[Any], Any]
        derivative: Callable[[Any], Any]
        if isinstance(f, tuple):
            if len(f) != 2 or not all(callable(part) for part in f):
                raise InvalidInput("Hypograph: a tuple `f` must be the pair (value, derivative) of callables")
            value, derivative = f
        else:
            value, derivative = f, getattr(f, "derivative", None)  # type: ignore[assignment]
            if not callable(value) or not callable(derivative):
                raise InvalidInput(
                    "Hypograph: `f` must be callable and have a method `derivative`, "
                    "or be the pair (value, derivative)"
                )
        self._value, self._derivative = value, derivative

    def value_at(self, x: Array) -> Array:
        """Return f at ``x``, as floats of the shape of ``x``."""
        with np.errstate(all="ignore"):
            return np.broadcast_to(np.asarray(self._value(x), dtype=float), np.shape(x))

    def derivative_at(self, x: Array) -> Array:
        """Return f' at ``x``, as floats of the shape of ``x``."""
        with np.errstate(all="ignore"):
            return np.broadcast_to(np.asarray(self._derivative(x), dtype=float), np.shape(x))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the elementwise constraint."""
        return tuple(self.t.shape)

    @property
    def size(self) -> int:
        """Number of scalar constraints."""
        return int(self.t.size)

    def variables(self) -> list[cp.Variable]:
        """Return the CVXPY variables that the constraint touches."""
        return list({v.id: v for v in [*self.t.variables(), *self.x.variables()]}.values())

    def __repr__(self) -> str:
        return f"Hypograph(shape={self.shape})"


class Complementarity:
    r"""The pair :math:`0 \le a \perp b \ge 0`, elementwise: both nonnegative, and one of each pair zero.

    Equilibrium conditions are declared with it: a first-order condition is
    ``Complementarity(action, marginal_cost - marginal_benefit)``.
    Backends that list the capability ``COMP`` accept it.

    Parameters
    ----------
    a, b : cvxpy expressions of one shape
        Smooth in the variables; they need not be convex.

    Raises
    ------
    InvalidInput
        If the shapes differ.
    """

    def __init__(self, a: Any, b: Any) -> None:
        self.a = cp.Expression.cast_to_const(a)
        self.b = cp.Expression.cast_to_const(b)
        if self.a.shape != self.b.shape:
            raise InvalidInput(
                f"Complementarity: `a` has shape {self.a.shape} and `b` has shape {self.b.shape}; "
                "the condition is elementwise, so give both the same shape"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the elementwise condition."""
        return tuple(self.a.shape)

    @property
    def size(self) -> int:
        """Number of scalar pairs."""
        return int(self.a.size)

    def variables(self) -> list[cp.Variable]:
        """Return the CVXPY variables that the condition touches."""
        return list({v.id: v for v in [*self.a.variables(), *self.b.variables()]}.values())

    def __repr__(self) -> str:
        return f"Complementarity(shape={self.shape})"


Term = cp.Constraint | Hypograph | Complementarity
"""Whatever a family may hold."""
