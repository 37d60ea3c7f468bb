"""Gains from data: increasing and concave, each with its closed forms and its CVXPY expression."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike

from mechopt.formulations.functions.base import (
    ConcaveFunction,
    FloatArray,
    finite_tuple,
    floats,
    from_zero_to_inf,
    set_positive,
)
from mechopt.solvers.errors import InvalidInput, MechanismWarning

__all__ = ["LogGain", "PiecewiseLinearGain", "PowerGain", "QuadraticGain", "SaturatingGain"]


@dataclass(frozen=True)
class LogGain(ConcaveFunction):
    """Logarithmic gain, f(x) = weight * log(1 + scale * x).

    Parameters
    ----------
    weight : float
        Value of one unit of the logarithm (utility), > 0; the contract paper's ω.
    scale : float
        Effective data per unit of x, > 0; the contract paper's α.

    Raises
    ------
    InvalidInput
        If a parameter is not a finite number > 0.

    Notes
    -----
    In a program it needs the exponential cone.

    References
    ----------
    Contract paper, eq. (2).

    Examples
    --------
    >>> gain = LogGain(weight=100, scale=2)
    >>> float(gain.inverse_derivative(1.0))
    99.5
    >>> float(gain.derivative(99.5))
    1.0
    """

    weight: float
    scale: float

    def __post_init__(self) -> None:
        set_positive(self, "weight", "scale")

    @property
    def natural_scale(self) -> float:
        """``1 / scale``."""
        return 1 / self.scale

    def __call__(self, x: ArrayLike) -> FloatArray:
        """Value f(x)."""
        return self.weight * np.log1p(self.scale * floats(x))

    def derivative(self, x: ArrayLike) -> FloatArray:
        """Slope, weight * scale / (1 + scale * x)."""
        return self.weight / (floats(x) + 1 / self.scale)

    def inverse_derivative(self, slope: ArrayLike) -> FloatArray:
        """Maximiser of f(x) - slope * x: max(0, weight / slope - 1 / scale); ``inf`` if slope <= 0."""
        slope = floats(slope)
        with np.errstate(divide="ignore"):
            x = np.asarray(self.weight / slope)
        x -= 1 / self.scale
        return from_zero_to_inf(x, slope)

    @property
    def supremum(self) -> float:
        """Infinite."""
        return math.inf

    def inverse(self, value: ArrayLike) -> FloatArray:
        """Amount with f(x) = value: (exp(value / weight) - 1) / scale, at least 0."""
        with np.errstate(over="ignore"):
            x: FloatArray = np.maximum(np.expm1(floats(value) / self.weight) / self.scale, 0.0)
        return x

    def expression(self, x: Any) -> Any:
        """Concave CVXPY expression f(x); exponential cone."""
        # Not `cp.log1p`: CVXPY has no smooth form of it, which would keep the nonlinear solvers out.
        return self.weight * cp.log(1 + self.scale * x)


@dataclass(frozen=True)
class PowerGain(ConcaveFunction):
    """Power gain, f(x) = weight * (scale * x) ** exponent; infinitely steep at 0.

    Parameters
    ----------
    weight : float
        Value at x = 1 / scale (utility), > 0.
    scale : float
        Effective data per unit of x, > 0.
    exponent : float
        Strictly between 0 and 1.

    Raises
    ------
    InvalidInput
        If ``weight`` or ``scale`` is not a finite number > 0, or ``exponent`` is not inside (0, 1).

    Notes
    -----
    In a program it needs the power cone, in its exact form (not CVXPY's rational approximation). The square
    root (``exponent=0.5``) needs only the second-order cone.

    Examples
    --------
    >>> gain = PowerGain(weight=6, scale=1, exponent=0.5)
    >>> float(gain(4.0)), float(gain.derivative(4.0)), float(gain.inverse_derivative(1.5))
    (12.0, 1.5, 4.0)
    """

    weight: float
    scale: float
    exponent: float

    def __post_init__(self) -> None:
        set_positive(self, "weight", "scale", "exponent")
        if self.exponent >= 1:
            raise InvalidInput(
                f"PowerGain: exponent = {self.exponent} must lie strictly between 0 and 1, for the gain to "
                "be increasing and strictly concave; for a linear gain use PiecewiseLinearGain"
            )

    @property
    def natural_scale(self) -> float:
        """``1 / scale``."""
        return 1 / self.scale

    def __call__(self, x: ArrayLike) -> FloatArray:
        """Value f(x)."""
        return self.weight * (self.scale * floats(x)) ** self.exponent

    def derivative(self, x: ArrayLike) -> FloatArray:
        """Slope, weight * exponent * scale * (scale * x) ** (exponent - 1); ``inf`` at 0."""
        with np.errstate(divide="ignore"):
            return self._steepness * (self.scale * floats(x)) ** (self.exponent - 1)

    def inverse_derivative(self, slope: ArrayLike) -> FloatArray:
        """Maximiser of f(x) - slope * x: (weight exponent scale / slope) ** (1 / (1 - exponent)) / scale."""
        slope = floats(slope)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            x = np.asarray((self._steepness / slope) ** (1 / (1 - self.exponent)))
        x /= self.scale
        return from_zero_to_inf(x, slope)

    @property
    def supremum(self) -> float:
        """Infinite."""
        return math.inf

    def inverse(self, value: ArrayLike) -> FloatArray:
        """Amount with f(x) = value: (value / weight) ** (1 / exponent) / scale, at least 0."""
        with np.errstate(over="ignore"):
            x: FloatArray = (np.maximum(floats(value), 0.0) / self.weight) ** (1 / self.exponent) / self.scale
        return x

    def expression(self, x: Any) -> Any:
        """Concave CVXPY expression f(x); power cone, or second-order cone for the square root."""
        z = self.scale * x
        if self.exponent == 0.5:
            return self.weight * cp.sqrt(z)
        return self.weight * cp.power(z, self.exponent, approx=False)

    def in_units_of(self, size: float) -> PowerGain:
        """Return the same function with the power of an amount of order one in its cone.

        Powers have no scale of their own: without this, cones held amounts of 1e6 beside ones.
        """
        with np.errstate(over="ignore"):
            weight = float(self(size))
        return PowerGain(weight, 1 / size, self.exponent) if 0 < weight < math.inf else self

    @property
    def _steepness(self) -> float:
        """Derivative at x = 1 / scale."""
        return self.weight * self.exponent * self.scale


@dataclass(frozen=True)
class SaturatingGain(ConcaveFunction):
    """Saturating exponential gain, f(x) = weight * (1 - exp(-scale * x)).

    Parameters
    ----------
    weight : float
        Value of unlimited data (utility), > 0.
    scale : float
        Effective data per unit of x, > 0.

    Raises
    ------
    InvalidInput
        If a parameter is not a finite number > 0.

    Notes
    -----
    In a program it needs the exponential cone.

    Examples
    --------
    >>> gain = SaturatingGain(weight=10, scale=0.5)
    >>> round(float(gain(2.0)), 6), round(float(gain.inverse_derivative(1.0)), 6)
    (6.321206, 3.218876)
    """

    weight: float
    scale: float

    def __post_init__(self) -> None:
        set_positive(self, "weight", "scale")

    @property
    def natural_scale(self) -> float:
        """``1 / scale``."""
        return 1 / self.scale

    def __call__(self, x: ArrayLike) -> FloatArray:
        """Value f(x)."""
        return -self.weight * np.expm1(-self.scale * floats(x))

    def derivative(self, x: ArrayLike) -> FloatArray:
        """Slope, weight * scale * exp(-scale * x)."""
        return self.weight * self.scale * np.exp(-self.scale * floats(x))

    def inverse_derivative(self, slope: ArrayLike) -> FloatArray:
        """Maximiser of f(x) - slope * x: log(weight scale / slope) / scale if >= 0; ``inf`` if slope <= 0."""
        slope = floats(slope)
        with np.errstate(divide="ignore", invalid="ignore"):
            x = np.asarray(np.log(self.weight * self.scale / slope))
        x /= self.scale
        return from_zero_to_inf(x, slope)

    @property
    def supremum(self) -> float:
        """``weight``, which no amount reaches."""
        return self.weight

    def inverse(self, value: ArrayLike) -> FloatArray:
        """Amount with f(x) = value: -log(1 - value / weight) / scale; ``inf`` from ``weight`` on."""
        with np.errstate(divide="ignore", invalid="ignore"):
            x = -np.log1p(-np.minimum(floats(value) / self.weight, 1.0)) / self.scale
        return np.maximum(x, 0.0)

    def expression(self, x: Any) -> Any:
        """Concave CVXPY expression f(x); exponential cone."""
        return self.weight * (1 - cp.exp(-self.scale * x))


@dataclass(frozen=True)
class QuadraticGain(ConcaveFunction):
    """Quadratic gain up to its top, constant after it.

    With z = scale * x, f(x) = slope * z - curvature * z² / 2 for z <= slope / curvature, and
    f(x) = slope² / (2 * curvature) beyond.

    Parameters
    ----------
    slope : float
        Gain per unit of effective data at 0 (utility), > 0.
    curvature : float
        Fall of that gain per unit of effective data, > 0.
    scale : float
        Effective data per unit of x, > 0.

    Raises
    ------
    InvalidInput
        If a parameter is not a finite number > 0.

    Notes
    -----
    In a program it is written slope² / (2 curvature) * (1 - max(1 - z / top, 0)²), which CVXPY recognises as
    quadratic (``Problem.is_qp()``), without an extra variable of ours.

    Examples
    --------
    >>> gain = QuadraticGain(slope=4, curvature=2, scale=1)
    >>> gain([1.0, 2.0, 5.0]).tolist(), gain.inverse_derivative([2.0, 0.0]).tolist()
    ([3.0, 4.0, 4.0], [1.0, 2.0])
    """

    slope: float
    curvature: float
    scale: float

    def __post_init__(self) -> None:
        set_positive(self, "slope", "curvature", "scale")

    @property
    def natural_scale(self) -> float:
        """Amount at the top, ``top / scale``."""
        return self.top / self.scale

    @property
    def top(self) -> float:
        """Effective data z = slope / curvature from which more data adds nothing."""
        return self.slope / self.curvature

    def __call__(self, x: ArrayLike) -> FloatArray:
        """Value f(x)."""
        z = np.minimum(self.scale * floats(x), self.top)
        # This product, not a difference of large squares: exact near 0.
        value: FloatArray = z * (self.slope - self.curvature / 2 * z)
        return value

    def derivative(self, x: ArrayLike) -> FloatArray:
        """Slope, scale * max(slope - curvature * scale * x, 0)."""
        z = self.scale * floats(x)
        return self.scale * np.maximum(self.slope - self.curvature * z, 0.0)

    def inverse_derivative(self, slope: ArrayLike) -> FloatArray:
        """Maximiser of f(x) - slope * x; the top itself for slope = 0, ``inf`` for slope < 0."""
        slope = floats(slope)
        x = np.asarray((self.slope - slope / self.scale) / (self.curvature * self.scale))
        np.maximum(x, 0.0, out=x)
        x[slope < 0] = np.inf
        return x[()]

    @property
    def supremum(self) -> float:
        """Value at the top, slope² / (2 curvature)."""
        return self.slope**2 / (2 * self.curvature)

    def inverse(self, value: ArrayLike) -> FloatArray:
        """Smallest amount with f(x) >= value; ``inf`` above the value at the top."""
        share = floats(value) / self.supremum
        with np.errstate(invalid="ignore"):
            x = self.top * np.maximum(1 - np.sqrt(1 - np.maximum(share, 0.0)), 0.0) / self.scale
        return np.where(share <= 1, x, np.inf)[()]

    def expression(self, x: Any) -> Any:
        """Concave CVXPY expression f(x); quadratic program."""
        shortfall = cp.pos(1 - x / self.natural_scale)
        return self.supremum * (1 - cp.square(shortfall))


@dataclass(frozen=True)
class PiecewiseLinearGain(ConcaveFunction):
    """Lowest of several lines, f(x) = min_i (slopes[i] * z + intercepts[i]) with z = scale * x.

    Parameters
    ----------
    slopes : sequence of float, shape (n_pieces,)
        Gain per unit of effective data (utility), strictly decreasing, >= 0.
    intercepts : sequence of float, shape (n_pieces,)
        Value of each line at 0 (utility). Their minimum, f(0), should be 0.
    scale : float
        Effective data per unit of x, > 0.

    Raises
    ------
    InvalidInput
        If the lengths differ or are 0, an entry is not finite, the slopes are not strictly decreasing or one
        is negative, or ``scale`` is not a finite number > 0.

    Warns
    -----
    MechanismWarning
        If f(0) is not 0: no data has a value then, and so does the null contract.

    Notes
    -----
    In a program it is linear. A line that is nowhere the lowest on x >= 0 does no harm.

    Examples
    --------
    >>> gain = PiecewiseLinearGain(slopes=[3, 1], intercepts=[0, 4], scale=1)
    >>> gain([1.0, 2.0, 3.0]).tolist(), gain.derivative([1.0, 2.0, 3.0]).tolist()
    ([3.0, 6.0, 7.0], [3.0, 1.0, 1.0])
    >>> gain.inverse_derivative([3.0, 2.0, 1.0, 0.5]).tolist()
    [0.0, 2.0, 2.0, inf]
    """

    slopes: Sequence[float]
    intercepts: Sequence[float]
    scale: float

    def __post_init__(self) -> None:
        set_positive(self, "scale")
        for name in ("slopes", "intercepts"):
            object.__setattr__(self, name, finite_tuple("PiecewiseLinearGain", name, getattr(self, name)))
        if len(self.slopes) != len(self.intercepts):
            raise InvalidInput(
                f"PiecewiseLinearGain: intercepts has {len(self.intercepts)} entries and slopes "
                f"{len(self.slopes)}; give one intercept for each slope"
            )
        for i in range(1, len(self.slopes)):
            if self.slopes[i] >= self.slopes[i - 1]:
                raise InvalidInput(
                    f"PiecewiseLinearGain: slopes[{i}] = {self.slopes[i]} must be below slopes[{i - 1}] = "
                    f"{self.slopes[i - 1]}; order the pieces by falling slope and merge equal ones"
                )
        if self.slopes[-1] < 0:
            raise InvalidInput(
                f"PiecewiseLinearGain: slopes[{len(self.slopes) - 1}] = {self.slopes[-1]} must be >= 0, for "
                "the gain to be non-decreasing; replace negative slopes by one slope 0"
            )
        if min(self.intercepts) != 0:
            warnings.warn(
                f"PiecewiseLinearGain: the value at 0 is min(intercepts) = {min(self.intercepts)}, not 0; "
                "add a line through the origin, or subtract this constant from the intercepts",
                MechanismWarning,
                stacklevel=3,
            )

    @property
    def has_kinks(self) -> bool:
        """True, unless there is one line alone."""
        return len(self.slopes) > 1

    @property
    def natural_scale(self) -> float:
        """Amount at the last kink; ``1 / scale`` if there is none."""
        kinks = self._envelope[2]
        return float(kinks[-1] if kinks.size else 1.0) / self.scale

    def __call__(self, x: ArrayLike) -> FloatArray:
        """Value f(x)."""
        slopes, intercepts, kinks = self._envelope
        z = self.scale * floats(x)
        piece = np.searchsorted(kinks, z, side="right")
        value: FloatArray = slopes[piece] * z + intercepts[piece]
        return value

    def derivative(self, x: ArrayLike) -> FloatArray:
        """Slope f'(x); at a kink the one to its right."""
        slopes, _, kinks = self._envelope
        piece = np.searchsorted(kinks, self.scale * floats(x), side="right")
        value: FloatArray = self.scale * slopes[piece]
        return value

    def inverse_derivative(self, slope: ArrayLike) -> FloatArray:
        """Maximiser of f(x) - slope * x: 0, a kink, or ``inf``; of a whole piece its left end."""
        slopes, _, kinks = self._envelope
        maximisers = np.concatenate(([0.0], kinks, [np.inf])) / self.scale
        steeper = np.searchsorted(-slopes, -floats(slope) / self.scale, side="left")
        value: FloatArray = maximisers[steeper]
        return value

    @property
    def supremum(self) -> float:
        """Value at the last kink if the last line is flat, else infinite."""
        return math.inf if self.slopes[-1] > 0 else self.intercepts[-1]

    def inverse(self, value: ArrayLike) -> FloatArray:
        """Smallest amount with f(x) >= value; ``inf`` above the supremum."""
        wanted = floats(value)
        x = np.zeros(wanted.shape)
        for slope, intercept in zip(self.slopes, self.intercepts, strict=True):
            if slope > 0:
                np.maximum(x, (wanted - intercept) / (slope * self.scale), out=x)
        return np.where(wanted <= self.supremum, x, np.inf)[()]

    def expression(self, x: Any) -> Any:
        """Concave CVXPY expression f(x); linear program."""
        pieces = zip(self.slopes, self.intercepts, strict=True)
        if len(self.slopes) == 1:
            return self.slopes[0] * (self.scale * x) + self.intercepts[0]
        # CVXPY makes a variable and rows of the minimum, which should be of order one whatever money is.
        unit = abs(float(self(self.natural_scale))) or max(self.slopes)
        return unit * cp.minimum(*((a * self.scale / unit) * x + b / unit for a, b in pieces))

    @cached_property
    def _envelope(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Slopes and intercepts of the lines that are lowest somewhere on z >= 0, and the kinks."""
        lines: list[tuple[float, float]] = []
        kinks: list[float] = []
        for slope, intercept in zip(self.slopes, self.intercepts, strict=True):
            while lines:
                crossing = (intercept - lines[-1][1]) / (lines[-1][0] - slope)
                if crossing > (kinks[-1] if kinks else 0.0):
                    kinks.append(crossing)
                    break
                lines.pop()
                if kinks:
                    kinks.pop()
            lines.append((slope, intercept))
        slopes, intercepts = np.array(lines).T
        return slopes, intercepts, np.array(kinks)
