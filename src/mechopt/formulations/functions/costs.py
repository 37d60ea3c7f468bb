"""Costs of data that rise faster than the data: convex, increasing, and 0 for none.

A holder's cost of q records is ``unit_cost * eps * h(q)``. In the programs and algorithms the variable is
y = h(q): all incentive constraints are linear in it, and the gain of q = h⁻¹(y) is concave.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike

from mechopt.formulations.functions.base import FloatArray, floats, real, set_positive
from mechopt.solvers.errors import InvalidInput

__all__ = ["ConvexCost", "PowerCost", "QuadraticCost"]


class ConvexCost(ABC):
    """A convex, increasing function h of an amount q >= 0, with h(0) = 0.

    To add one, derive a frozen dataclass and write the abstract methods. Everything is elementwise: the
    result has the shape of the argument. A negative argument is outside the domain, and what comes back for
    it has no meaning.
    """

    @property
    @abstractmethod
    def natural_scale(self) -> float:
        """A typical magnitude of q, > 0: the amount over which h bends."""

    @abstractmethod
    def __call__(self, q: ArrayLike) -> FloatArray:
        """Value h(q)."""

    @abstractmethod
    def derivative(self, q: ArrayLike) -> FloatArray:
        """Slope h'(q), > 0 for q > 0."""

    @abstractmethod
    def inverse(self, y: ArrayLike) -> FloatArray:
        """Amount q with h(q) = y; concave in y."""

    @abstractmethod
    def inverse_slope(self, y: ArrayLike) -> FloatArray:
        """Slope of the inverse, 1 / h'(q) at q = ``inverse(y)``; may be ``inf`` at 0."""

    @abstractmethod
    def expression(self, q: Any) -> Any:
        """Convex CVXPY expression h(q) of an affine CVXPY expression ``q`` >= 0, in the same shape."""

    @abstractmethod
    def inverse_expression(self, y: Any, *, size: float | None = None) -> Any:
        """Concave CVXPY expression h⁻¹(y) of an affine CVXPY expression ``y``, in the same shape.

        Parameters
        ----------
        y : CVXPY expression
            Values of h, >= 0.
        size : float, optional
            Typical magnitude of ``y``, > 0, so that the cones of the expression hold amounts of order one.
            Default: h at the natural scale.
        """


@dataclass(frozen=True)
class PowerCost(ConvexCost):
    """Power cost, h(q) = scale * (q / scale) ** exponent.

    Parameters
    ----------
    exponent : float
        >= 1; 1 is the linear cost h(q) = q, whatever the scale.
    scale : float
        Amount of data (records), > 0, that costs as much as with a linear cost; less costs less, more more.

    Raises
    ------
    InvalidInput
        If ``exponent`` is not a finite number >= 1, or ``scale`` is not a finite number > 0.

    Notes
    -----
    In a program the square (``exponent=2``) needs the second-order cone, other exponents above 1 the power
    cone, in its exact form.

    Examples
    --------
    >>> cost = PowerCost(exponent=2, scale=10)
    >>> float(cost(5.0)), float(cost.derivative(5.0)), float(cost.inverse(2.5))
    (2.5, 1.0, 5.0)
    """

    exponent: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        set_positive(self, "exponent", "scale")
        if self.exponent < 1:
            raise InvalidInput(
                f"PowerCost: exponent = {self.exponent} must be >= 1, for the cost to be convex; "
                "use 1 for a linear cost"
            )

    @property
    def natural_scale(self) -> float:
        """``scale``."""
        return self.scale

    def __call__(self, q: ArrayLike) -> FloatArray:
        """Value h(q)."""
        return self.scale * (floats(q) / self.scale) ** self.exponent

    def derivative(self, q: ArrayLike) -> FloatArray:
        """Slope, exponent * (q / scale) ** (exponent - 1)."""
        return self.exponent * (floats(q) / self.scale) ** (self.exponent - 1)

    def inverse(self, y: ArrayLike) -> FloatArray:
        """Amount, scale * (y / scale) ** (1 / exponent)."""
        return self.scale * (floats(y) / self.scale) ** (1 / self.exponent)

    def inverse_slope(self, y: ArrayLike) -> FloatArray:
        """Slope of the inverse, (y / scale) ** (1 / exponent - 1) / exponent; ``inf`` at 0 if not linear."""
        with np.errstate(divide="ignore"):
            return (floats(y) / self.scale) ** (1 / self.exponent - 1) / self.exponent

    def expression(self, q: Any) -> Any:
        """Convex CVXPY expression h(q); linear, second-order cone, or power cone."""
        if self.exponent == 1:
            return q
        if self.exponent == 2:
            return self.scale * cp.square(q / self.scale)
        return self.scale * cp.power(q / self.scale, self.exponent, approx=False)

    def inverse_expression(self, y: Any, *, size: float | None = None) -> Any:
        """Concave CVXPY expression h⁻¹(y); linear, second-order cone, or power cone."""
        if self.exponent == 1:
            return y
        size = self.scale if size is None else size
        z = y / size
        root = cp.sqrt(z) if self.exponent == 2 else cp.power(z, 1 / self.exponent, approx=False)
        return float(self.inverse(size)) * root


@dataclass(frozen=True)
class QuadraticCost(ConvexCost):
    """Quadratic cost, h(q) = slope * q + curvature * q² / 2.

    Parameters
    ----------
    slope : float
        Cost of the first record, in unit costs, > 0.
    curvature : float
        Rise of the cost of a record per record, in unit costs, >= 0; with 0 the cost is linear.

    Raises
    ------
    InvalidInput
        If ``slope`` is not a finite number > 0, or ``curvature`` is not a finite number >= 0.

    Notes
    -----
    In a program the inverse is written with a square root, (√(slope² + 2 curvature y) - slope) / curvature,
    which needs the second-order cone.

    Examples
    --------
    >>> cost = QuadraticCost(slope=1, curvature=0.5)
    >>> float(cost(4.0)), float(cost.derivative(4.0)), float(cost.inverse(8.0))
    (8.0, 3.0, 4.0)
    """

    slope: float
    curvature: float

    def __post_init__(self) -> None:
        set_positive(self, "slope")
        curvature = real("QuadraticCost", "curvature", self.curvature)
        if curvature < 0:
            raise InvalidInput(
                f"QuadraticCost: curvature = {curvature} must be >= 0, for the cost to be convex; "
                "use 0 for a linear cost"
            )
        object.__setattr__(self, "curvature", curvature)

    @property
    def natural_scale(self) -> float:
        """Amount at which a record costs twice the first, ``slope / curvature``; 1 for a linear cost."""
        return self.slope / self.curvature if self.curvature > 0 else 1.0

    def __call__(self, q: ArrayLike) -> FloatArray:
        """Value h(q)."""
        q = floats(q)
        value: FloatArray = q * (self.slope + self.curvature / 2 * q)
        return value

    def derivative(self, q: ArrayLike) -> FloatArray:
        """Slope, slope + curvature * q."""
        return self.slope + self.curvature * floats(q)

    def inverse(self, y: ArrayLike) -> FloatArray:
        """Amount, 2 y / (slope + √(slope² + 2 curvature y))."""
        y = floats(y)
        # The other solution formula subtracts two numbers that nearly agree where y is small.
        amount: FloatArray = 2 * y / (self.slope + self._steepness(y))
        return amount

    def inverse_slope(self, y: ArrayLike) -> FloatArray:
        """Slope of the inverse, 1 / √(slope² + 2 curvature y)."""
        return 1 / self._steepness(floats(y))

    def expression(self, q: Any) -> Any:
        """Convex CVXPY expression h(q); quadratic program."""
        if self.curvature == 0:
            return self.slope * q
        bend = self.natural_scale
        return self.slope * q + self.slope * bend / 2 * cp.square(q / bend)

    def inverse_expression(self, y: Any, *, size: float | None = None) -> Any:
        """Concave CVXPY expression h⁻¹(y); linear, or second-order cone."""
        if self.curvature == 0:
            return y / self.slope
        size = float(self(self.natural_scale)) if size is None else size
        steepness = float(self._steepness(floats(size)))
        root = cp.sqrt((self.slope / steepness) ** 2 + (2 * self.curvature / steepness**2) * y)
        return steepness / self.curvature * root - self.natural_scale

    def _steepness(self, y: FloatArray) -> FloatArray:
        """Slope h'(q) at the amount with h(q) = y."""
        steepness: FloatArray = np.sqrt(self.slope**2 + 2 * self.curvature * y)
        return steepness
