"""Gains that users bring: as a CVXPY expression, or as functions that can only be evaluated."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike

from mechopt.formulations.functions.base import ConcaveFunction, FloatArray, floats, set_positive
from mechopt.formulations.functions.roots import break_even
from mechopt.solvers.errors import InvalidInput, MechanismWarning, NotApplicable

__all__ = ["AtomGain", "EvaluatedGain"]

_EPS = float(np.finfo(np.float64).eps)
# Points at which a new gain is tried, in units of its natural scale.
_TRIED = np.logspace(-6, 6, 121)
# A slope is compared with the differences of the values over this relative step.
_STEP = 1e-4
# What a slope may be off, relatively: users' formulas may have been rounded, or differentiated numerically.
_SLACK = 1e-6
# Where the slope at 0 cannot be evaluated it is the limit along these amounts, in units of the natural scale.
_NEAR_ZERO = np.ldexp(1.0, [-900, -870])
# A slope that has become as small as this has faded away, and would never have reached 0.
_FADED = 1e-290


class _CustomGain(ConcaveFunction):
    """What is common to gains of which nothing is known but values and slopes."""

    def derivative(self, x: ArrayLike) -> FloatArray:
        """Slope f'(x), the one from the right; may be ``inf`` at 0."""
        x = floats(x)
        amounts = x.ravel()
        slope = np.empty(amounts.shape)
        zero = amounts == 0
        if zero.any():
            slope[zero] = self._slope_at_zero
        if not zero.all():
            slope[~zero] = self._slope(amounts[~zero])
        return slope.reshape(x.shape)[()]

    def inverse_derivative(self, slope: ArrayLike) -> FloatArray:
        """Maximiser of f(x) - slope * x, by root finding to the last digits."""
        price = floats(slope)
        flat = price.ravel()
        amount = np.where(np.isnan(flat), np.nan, np.inf)
        priced = flat >= 0
        amount[priced] = break_even(
            lambda x, _: self.derivative(x), lambda _, price: price, self.natural_scale, flat[priced]
        )
        # A slope of 0 is reached at the top of f. One that only fades away leaves the range of the floats.
        free = (flat == 0) & np.isfinite(amount)
        if free.any():
            before = self.derivative(amount[free] * (1 - 1e-9))
            amount[free] = np.where(before < _FADED, np.inf, amount[free])
        return amount.reshape(price.shape)[()]

    @abstractmethod
    def _slope(self, x: FloatArray) -> FloatArray:
        """Slopes at amounts > 0, shape (n,)."""

    @cached_property
    def _slope_at_zero(self) -> float:
        return self._limit_at_zero()

    def _limit_at_zero(self) -> float:
        """Limit of the slope as x falls to 0; infinite where it is still rising at the smallest amounts."""
        nearer, near = self._slope(self.natural_scale * _NEAR_ZERO)
        return float(nearer) if nearer <= near * (1 + 1e-9) else math.inf

    def _check(self) -> None:
        """Refuse what is not finite, non-decreasing and concave where it is tried; warn if f(0) is not 0."""
        kind = type(self).__name__
        x = self.natural_scale * _TRIED
        value, slope = self(x), self.derivative(x)
        for what, numbers in (("value", value), ("derivative", slope)):
            if not np.isfinite(numbers).all():
                k = int(np.argmax(~np.isfinite(numbers)))
                raise InvalidInput(
                    f"{kind}: the {what} at x = {x[k]:.6g} is {numbers[k]}; it must be finite for every x > 0"
                )
        # Values are rounded relative to their own size, and to that of the terms they may be differences of.
        size = np.abs(value) + abs(float(self(self.natural_scale)))
        noise = 16 * _EPS * size
        self._check_slopes(x, slope, noise)
        falls = np.flatnonzero(value[1:] < value[:-1] - noise[1:] - noise[:-1])
        if falls.size:
            k = int(falls[0])
            raise InvalidInput(
                f"{kind}: the value falls from {value[k]:.6g} at x = {x[k]:.6g} to {value[k + 1]:.6g} at "
                f"x = {x[k + 1]:.6g}; a gain must be non-decreasing: keep it constant beyond its top"
            )
        run = x - x[:, np.newaxis]
        tangent = value[:, np.newaxis] + slope[:, np.newaxis] * run
        slack = noise + noise[:, np.newaxis] + _SLACK * np.abs(slope[:, np.newaxis] * run)
        above = value - tangent - slack
        if np.any(above > 0):
            k, j = (int(i) for i in np.argwhere(above > 0)[0])
            raise InvalidInput(
                f"{kind}: not concave: the value {value[j]:.6g} at x = {x[j]:.6g} lies above the tangent at "
                f"x = {x[k]:.6g} (value {value[k]:.6g}, slope {slope[k]:.6g}), which is {tangent[k, j]:.6g} "
                "there; take a concave function"
            )
        at_zero = float(self(0.0))
        if math.isnan(at_zero):
            raise InvalidInput(f"{kind}: the value at x = 0 is nan; give the limit there")
        if abs(at_zero) > 1e-12 * float(np.max(size)):
            warnings.warn(
                f"{kind}: the value at 0 is {at_zero:.6g}, not 0: no data has a value then, and so does the "
                "null contract; subtract this constant",
                MechanismWarning,
                stacklevel=4,
            )

    def _check_slopes(self, x: FloatArray, slope: FloatArray, noise: FloatArray) -> None:
        """Refuse slopes that are not between the differences of the values to the left and right."""
        step = _STEP * x
        value = self(x)
        left, right = (value - self(x - step)) / step, (self(x + step) - value) / step
        slack = 2 * noise / step + _SLACK * np.abs(slope)
        off = (slope < np.minimum(left, right) - slack) | (slope > np.maximum(left, right) + slack)
        if off.any():
            k = int(np.argmax(off))
            raise InvalidInput(
                f"{type(self).__name__}: the derivative at x = {x[k]:.6g} is {slope[k]:.6g}, but the values "
                f"next to it have slopes {left[k]:.6g} and {right[k]:.6g}; give the derivative of the value"
            )


@dataclass(frozen=True)
class AtomGain(_CustomGain):
    """Gain given by a concave CVXPY expression, which serves programs and numbers alike.

    Parameters
    ----------
    atom : callable
        Takes an affine CVXPY expression x of any shape, and returns f(x), elementwise in the same shape: a
        concave expression by the rules of disciplined convex programming, non-decreasing for x >= 0.
    natural_scale : float
        A typical magnitude of x, > 0: the amount over which f bends.

    Raises
    ------
    InvalidInput
        If ``atom`` is not a callable that builds an expression of the shape of its argument, elementwise and
        concave; or if, at one of 121 amounts from 1e-6 to 1e6 natural scales, f is not finite or falls.

    Warns
    -----
    MechanismWarning
        If f(0) is not 0: no data has a value then, and so does the null contract.

    Notes
    -----
    Slopes are CVXPY's gradients, which take some milliseconds, and the inverse derivative is found by root
    finding, with about twenty of them. A program needs the cones of its atoms. For small amounts
    ``cp.log1p(x)`` has more digits than ``cp.log(1 + x)``, but CVXPY has no smooth form of it: the nonlinear
    solvers take the latter only.

    Examples
    --------
    >>> gain = AtomGain(lambda x: 3 * cp.log1p(x) + 2 * cp.sqrt(x))
    >>> gain([0.0, 3.0]).round(6).tolist(), float(gain.derivative(0.0))
    ([0.0, 7.622985], inf)
    >>> round(float(gain.derivative(1.0)), 12), round(float(gain.inverse_derivative(2.5)), 12)
    (2.5, 1.0)
    """

    atom: Callable[[Any], Any]
    natural_scale: float = 1.0

    def __post_init__(self) -> None:
        set_positive(self, "natural_scale")
        if not callable(self.atom):
            raise InvalidInput(
                f"AtomGain: atom = {self.atom!r} must be a callable that builds a CVXPY expression, such as "
                "lambda x: cp.log(1 + x)"
            )
        for shape in ((), (2,)):
            variable = cp.Variable(shape)
            try:
                expression = self.atom(variable)
            except Exception as error:
                raise InvalidInput(
                    f"AtomGain: atom failed on a CVXPY variable of shape {shape} ({error}); build the "
                    "expression from CVXPY's functions, such as cp.log, not NumPy's"
                ) from error
            self._check_expression(expression, shape)
        self._check_elementwise()
        self._check()

    @cached_property
    def has_kinks(self) -> bool:
        """Whether CVXPY knows the expression as piecewise linear."""
        return bool(self.atom(cp.Variable()).is_pwl())

    def __call__(self, x: ArrayLike) -> FloatArray:
        """Value f(x)."""
        x = floats(x)
        if not x.size:
            return x.copy()
        expression = self.atom(_variable_at(x.ravel()))
        with np.errstate(all="ignore"):
            value = np.array(expression.value, dtype=np.float64)
        return value.reshape(x.shape)[()]

    def expression(self, x: Any) -> Any:
        """Concave CVXPY expression f(x): what ``atom`` returns."""
        return self.atom(x)

    def _slope(self, x: FloatArray) -> FloatArray:
        """Slopes by CVXPY's gradient.

        Taken a few roundings to the right of x: at a kink CVXPY's gradient may be the one from the left.
        """
        gradient = self._gradient(x * (1 + 4 * _EPS))
        if gradient is not None:
            slope: FloatArray = gradient if x.size == 1 else gradient.diagonal()
            return slope
        if x.size == 1:
            return np.full(1, np.nan)
        # One amount outside its domain (it may have been rounded there) keeps CVXPY from any answer.
        half = x.size // 2
        return np.concatenate((self._slope(x[:half]), self._slope(x[half:])))

    def _gradient(self, x: FloatArray) -> Any:
        """Jacobian matrix at x, shape (n, n) and sparse, or (1,) if n = 1; None outside the domain."""
        variable = _variable_at(x)
        expression = self.atom(variable)
        with np.errstate(all="ignore"):
            try:
                gradient = expression.grad[variable]
            except TypeError:
                # CVXPY's sum of the gradient of one term and None, for another term outside its domain.
                return None
        if gradient is None or x.size > 1:
            return gradient
        return np.array([gradient], dtype=np.float64).reshape(1)

    def _check_expression(self, expression: Any, shape: tuple[int, ...]) -> None:
        if not isinstance(expression, cp.Expression):
            raise InvalidInput(
                f"AtomGain: atom returned {expression!r} for a CVXPY variable; it must return a CVXPY "
                "expression of it"
            )
        if expression.shape != shape:
            raise InvalidInput(
                f"AtomGain: atom returned shape {expression.shape} for a variable of shape {shape}; it must "
                "be elementwise"
            )
        if not expression.is_concave():
            raise InvalidInput(
                f"AtomGain: the expression {expression} is {expression.curvature} by CVXPY's rules; it must "
                "be CONCAVE or AFFINE. If the function is concave, write it with other atoms, or use "
                "EvaluatedGain"
            )
        if not expression.variables():
            raise InvalidInput(f"AtomGain: atom returned {expression}, which does not depend on its argument")

    def _check_elementwise(self) -> None:
        x = self.natural_scale * np.array([0.7, 1.3])
        gradient = self._gradient(x)
        if gradient is not None and (gradient[0, 1] != 0 or gradient[1, 0] != 0):
            raise InvalidInput(
                "AtomGain: in a vector of two amounts, the value at one depends on the other; atom must be "
                "elementwise"
            )


@dataclass(frozen=True)
class EvaluatedGain(_CustomGain):
    """Gain given by functions that compute its value and its derivative, whatever is inside them.

    Parameters
    ----------
    value : callable
        f(x) for an array x of floats >= 0, elementwise; concave and non-decreasing.
    derivative : callable
        f'(x), likewise; at a kink the slope to the right. It may be infinite, or not a number, at x = 0.
    natural_scale : float
        A typical magnitude of x, > 0: the amount over which f bends.

    Raises
    ------
    InvalidInput
        If ``value`` or ``derivative`` is not a callable that works elementwise; or if, at one of 121 amounts
        from 1e-6 to 1e6 natural scales, f or f' is not finite, f' is not the derivative of f, or f is not
        non-decreasing and concave.

    Warns
    -----
    MechanismWarning
        If f(0) is not 0: no data has a value then, and so does the null contract.

    Notes
    -----
    The exact algorithms take it like any other gain. In a program it becomes a variable below f
    (`Hypograph`), for backends that list ``ORACLE``, such as ``outer``, which uses tangents of f.

    Examples
    --------
    >>> gain = EvaluatedGain(lambda x: x / (1 + x), lambda x: 1 / (1 + x) ** 2)
    >>> float(gain(3.0)), round(float(gain.inverse_derivative(0.0625)), 12)
    (0.75, 3.0)
    >>> gain.has_expression
    False
    """

    value: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    natural_scale: float = 1.0

    # Written out because the argument `derivative` has the name of a method.
    def __init__(
        self, value: Callable[[Any], Any], derivative: Callable[[Any], Any], natural_scale: float = 1.0
    ) -> None:
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "slope", derivative)
        object.__setattr__(self, "natural_scale", natural_scale)
        set_positive(self, "natural_scale")
        for name, function in (("value", value), ("derivative", derivative)):
            if not callable(function):
                raise InvalidInput(
                    f"EvaluatedGain: {name} = {function!r} must be a callable of an array of amounts"
                )
        self._check()

    def __call__(self, x: ArrayLike) -> FloatArray:
        """Value f(x)."""
        return self._evaluate("value", self.value, floats(x))[()]

    @property
    def has_expression(self) -> bool:
        """False: CVXPY cannot look inside."""
        return False

    def expression(self, x: Any) -> Any:
        """Refuse.

        Raises
        ------
        NotApplicable
            Always: use `declare`.
        """
        raise NotApplicable(
            "EvaluatedGain can only be evaluated, so CVXPY has no expression of it: declare it in the "
            "program by `gain.declare(program, name, x)`, and solve with a backend that lists ORACLE, such "
            "as 'outer'; or give it as a CVXPY expression, by AtomGain"
        )

    def _slope(self, x: FloatArray) -> FloatArray:
        return self._evaluate("derivative", self.slope, x)

    def _limit_at_zero(self) -> float:
        slope = float(self._slope(np.zeros(1))[0])
        return super()._limit_at_zero() if math.isnan(slope) else slope

    def _evaluate(self, name: str, function: Callable[[Any], Any], x: FloatArray) -> FloatArray:
        """Own array of the results, shape of ``x``."""
        try:
            with np.errstate(all="ignore"):
                result = np.asarray(function(x), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"EvaluatedGain: {name} failed on an array of shape {x.shape} ({error}); it must take an "
                "array of floats and return one, elementwise"
            ) from error
        if result.shape not in ((), x.shape):
            raise InvalidInput(
                f"EvaluatedGain: {name} returned shape {result.shape} for amounts of shape {x.shape}; it "
                "must be elementwise"
            )
        return np.array(np.broadcast_to(result, x.shape))


def _variable_at(x: FloatArray) -> cp.Variable:
    """Variable with a value: of its own, so that nothing is left behind in anybody's program."""
    variable = cp.Variable(x.shape)
    variable.save_value(x)
    return variable
