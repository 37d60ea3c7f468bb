"""Accuracies from data: nothing below a least amount of data, then increasing and concave.

The accuracy of a model trained on m data points is a(m) = max(0, b(m)), where b is concave and increasing
wherever it is not negative (accuracy-shaping paper, eq. 1). The maximum of 0 and b is not concave: programs
hold the part b, and whoever declares them compares their optimum with the zero profile. Accuracy is what a
model achieves *above* a useless one, so that no data has accuracy 0.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import bisect

from mechopt.formulations.functions.base import (
    DeclaredFunction,
    FloatArray,
    finite_tuple,
    floats,
    from_zero_to_inf,
    real,
    set_positive,
)
from mechopt.formulations.functions.roots import break_even
from mechopt.solvers.errors import InvalidInput, MechanismWarning, NotApplicable

__all__ = [
    "AccuracyFunction",
    "GeneralizationBound",
    "PowerLawAccuracy",
    "SqrtAccuracy",
    "TabulatedAccuracy",
    "UserAccuracy",
]

ENDLESS = 1e300
"""Amount of data from which a further point changes no float."""

EPS = float(np.finfo(np.float64).eps)


class AccuracyFunction(DeclaredFunction):
    """Accuracy a(m) = max(0, b(m)) of a model trained on m >= 0 data points.

    Everything is elementwise: the result has the shape of the argument. A negative amount counts as none.
    To add one, derive a frozen dataclass and write the abstract methods; or give b and its derivative as
    callables to `UserAccuracy`.

    References
    ----------
    Accuracy-shaping paper, eq. (1) and Section 2.
    """

    @property
    @abstractmethod
    def max_accuracy(self) -> float:
        """Accuracy of unlimited data, in (0, 1]; the paper's a_opt."""

    @property
    @abstractmethod
    def min_viable_data(self) -> float:
        """Data points >= 0 from which accuracy is positive: the largest root of b; the paper's m_min."""

    @property
    @abstractmethod
    def viability_data(self) -> float:
        """Data points at which data are cheapest per unit of accuracy: where b(m) / m is highest."""

    @abstractmethod
    def concave_part(self, m: ArrayLike) -> FloatArray:
        """Concave function b(m), negative below ``min_viable_data``; ``-inf`` where it is not defined."""

    @abstractmethod
    def concave_part_derivative(self, m: ArrayLike) -> FloatArray:
        """Slope b'(m), in accuracy per data point; the one from the right where b has a kink."""

    @abstractmethod
    def inverse_derivative(self, slope: ArrayLike) -> FloatArray:
        """Data points m >= min_viable_data that maximise b(m) - slope * m.

        This is the solution of b'(m) = slope if there is one, ``min_viable_data`` where b is flatter than
        that from the start, and ``inf`` where no finite amount is best: at slopes <= 0 (slope 0 has a finite
        answer if b stops growing). Of several maximisers it is the smallest. Whether the maximum is positive
        is another question: compare ``slope`` with ``viability_cost``.
        """

    def __call__(self, m: ArrayLike) -> FloatArray:
        """Accuracy a(m), in [0, max_accuracy]."""
        value: FloatArray = np.maximum(self.concave_part(m), 0.0)
        return value

    def derivative(self, m: ArrayLike) -> FloatArray:
        """Slope a'(m) >= 0: 0 below ``min_viable_data``, and b'(m) from there on."""
        m = floats(m)
        value: FloatArray = np.where(m >= self.min_viable_data, self.concave_part_derivative(m), 0.0)[()]
        return value

    @property
    def viability_cost(self) -> float:
        """Highest cost per data point at which data are worth it, max b(m) / m; the paper's c_max."""
        m = self.viability_data
        return float(self.concave_part(m)) / m

    @property
    def natural_scale(self) -> float:
        """``viability_data``."""
        return self.viability_data

    @property
    def _evaluated(self) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        return self.concave_part, self.concave_part_derivative

    def _check_reachable(self) -> None:
        """Refuse parameters whose viable amounts of data no float can hold."""
        low, cheapest = self.min_viable_data, self.viability_data
        if not (1 / ENDLESS < cheapest < ENDLESS and 0 <= low < ENDLESS):
            raise InvalidInput(
                f"{self!r}: accuracy is positive from m = {low:g} data points on, which is outside the "
                f"range [{1 / ENDLESS:g}, {ENDLESS:g}] of amounts; measure data in another unit"
            )


class _PowerCurve(AccuracyFunction):
    """b(m) = limit - coefficient * m ** -exponent; derived classes name the three numbers."""

    @property
    @abstractmethod
    def _power(self) -> tuple[float, float, float]:
        """Limit A, coefficient β and exponent α."""

    @property
    def max_accuracy(self) -> float:
        """Accuracy A of unlimited data."""
        return self._power[0]

    @property
    def min_viable_data(self) -> float:
        """Data points (β / A) ** (1 / α) from which accuracy is positive."""
        limit, coefficient, exponent = self._power
        return _root(coefficient / limit, exponent)

    @property
    def viability_data(self) -> float:
        """Data points ((1 + α) β / A) ** (1 / α), at which accuracy per point is highest."""
        limit, coefficient, exponent = self._power
        return _root((1 + exponent) * coefficient / limit, exponent)

    @property
    def viability_cost(self) -> float:
        """Highest cost per data point at which data are worth it: A α / (1 + α) per ``viability_data``."""
        limit, _, exponent = self._power
        return limit * exponent / (1 + exponent) / self.viability_data

    def concave_part(self, m: ArrayLike) -> FloatArray:
        """Concave function b(m) = A - β m ** -α; ``-inf`` at 0."""
        limit, coefficient, exponent = self._power
        with np.errstate(divide="ignore", over="ignore"):
            value: FloatArray = limit - coefficient * _falling(np.maximum(floats(m), 0.0), exponent)
        return value

    def concave_part_derivative(self, m: ArrayLike) -> FloatArray:
        """Slope α β m ** -(1 + α); ``inf`` at 0."""
        _, coefficient, exponent = self._power
        with np.errstate(divide="ignore", over="ignore"):
            value: FloatArray = exponent * coefficient * np.maximum(floats(m), 0.0) ** -(1 + exponent)
        return value

    def inverse_derivative(self, slope: ArrayLike) -> FloatArray:
        """Maximiser of b(m) - slope * m: (α β / slope) ** (1 / (1 + α)), at least ``min_viable_data``."""
        _, coefficient, exponent = self._power
        slope = floats(slope)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            m = np.asarray((exponent * coefficient / slope) ** (1 / (1 + exponent)))
        value: FloatArray = np.maximum(from_zero_to_inf(m, slope), self.min_viable_data)
        return value

    def expression(self, x: Any) -> Any:
        """Concave CVXPY expression b(x); second-order cone for exponents 1/2 and 1, else power cone."""
        limit, _, exponent = self._power
        z = x / self.natural_scale  # at z = 1, the loss is A / (1 + α): all of order one
        loss = cp.power(z, -exponent) if exponent in (0.5, 1.0) else cp.power(z, -exponent, approx=False)
        return limit - limit / (1 + exponent) * loss


def _falling(m: FloatArray, exponent: float) -> FloatArray:
    """Return ``m ** -exponent``; a square root costs half a power."""
    return 1 / np.sqrt(m) if exponent == 0.5 else m**-exponent


def _root(base: float, exponent: float) -> float:
    """Return ``base ** (1 / exponent)``, infinite where it is too large for a float."""
    try:
        return float(base ** (1 / exponent))
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class SqrtAccuracy(_PowerCurve):
    """Accuracy that approaches its limit as one over the square root, b(m) = max_accuracy - 2 sqrt(k / m).

    Parameters
    ----------
    max_accuracy : float
        Accuracy of unlimited data, in (0, 1]; the paper's a_opt.
    difficulty : float
        How hard the task is to learn (k, a pseudo-dimension), > 0.

    Raises
    ------
    InvalidInput
        If ``max_accuracy`` is outside (0, 1] or ``difficulty`` is not a finite number > 0.

    Notes
    -----
    At cost c per data point an agent alone takes m = k ** (1/3) * c ** (-2/3) points, and is left with
    a_opt - 3 (k c) ** (1/3), if that is positive: if c < a_opt³ / (27 k).

    References
    ----------
    Accuracy-shaping paper, eq. (3) and Example 2.4.

    Examples
    --------
    >>> accuracy = SqrtAccuracy(max_accuracy=1.0, difficulty=1.0)
    >>> accuracy([0.0, 4.0, 16.0, 400.0]).tolist()
    [0.0, 0.0, 0.5, 0.9]
    >>> accuracy.min_viable_data, accuracy.viability_data, round(1 / accuracy.viability_cost, 12)
    (4.0, 9.0, 27.0)
    >>> round(float(accuracy.inverse_derivative(0.001)), 9)
    100.0
    """

    max_accuracy: float = 1.0
    difficulty: float = 1.0

    def __post_init__(self) -> None:
        set_positive(self, "difficulty")
        _set_max_accuracy(self)
        self._check_reachable()

    @property
    def _power(self) -> tuple[float, float, float]:
        return self.max_accuracy, 2 * math.sqrt(self.difficulty), 0.5


@dataclass(frozen=True)
class PowerLawAccuracy(_PowerCurve):
    """Accuracy that approaches its limit as a power, b(m) = (1 - threshold) - coefficient * m ** -exponent.

    Parameters
    ----------
    coefficient : float
        Error of a model of one data point (β), > 0.
    exponent : float
        How fast error falls with data (α), > 0; the paper has it inside (0, 1).
    threshold : float
        Raw accuracy of a useless model (τ), in [0, 1): only what is above it counts.

    Raises
    ------
    InvalidInput
        If ``coefficient`` or ``exponent`` is not a finite number > 0, if ``threshold`` is outside [0, 1), or
        if accuracy is positive only at amounts of data beyond any float.

    Warns
    -----
    MechanismWarning
        If ``exponent >= 1``: b is still concave, but outside the range of the paper.

    References
    ----------
    Accuracy-shaping paper, Example 2.2. The threshold is subtracted: with a jump at it, accuracy would not be
    concave where it is positive.

    Examples
    --------
    >>> accuracy = PowerLawAccuracy(coefficient=2.0, exponent=0.5, threshold=0.2)
    >>> round(accuracy.min_viable_data, 12), round(float(accuracy(100.0)), 12)
    (6.25, 0.6)
    """

    coefficient: float
    exponent: float
    threshold: float = 0.0

    def __post_init__(self) -> None:
        set_positive(self, "coefficient", "exponent")
        threshold = real("PowerLawAccuracy", "threshold", self.threshold)
        if not 0 <= threshold < 1:
            raise InvalidInput(
                f"PowerLawAccuracy: threshold = {threshold} must be at least 0 and below 1: "
                + ("it leaves no value" if threshold >= 1 else "accuracies are not negative")
            )
        object.__setattr__(self, "threshold", threshold)
        self._check_reachable()
        if self.exponent >= 1:
            warnings.warn(
                f"PowerLawAccuracy: exponent = {self.exponent} is outside (0, 1), the range of the paper; "
                "accuracy is still concave where it is positive, and everything is computed the same way",
                MechanismWarning,
                stacklevel=3,
            )

    @property
    def _power(self) -> tuple[float, float, float]:
        return 1 - self.threshold, self.coefficient, self.exponent


@dataclass(frozen=True)
class GeneralizationBound(AccuracyFunction):
    """Accuracy that a generalisation bound guarantees.

    With L = 2 + log(m / k), b(m) = max_accuracy - (sqrt(2 k L) + 4) / sqrt(m) from its largest root on.

    Parameters
    ----------
    max_accuracy : float
        Accuracy of unlimited data, in (0, 1]; the paper's a_opt.
    difficulty : float
        How hard the task is to learn (k, a pseudo-dimension), > 0.

    Raises
    ------
    InvalidInput
        If ``max_accuracy`` is outside (0, 1] or ``difficulty`` is not a finite number > 0.

    Notes
    -----
    For k > 16 e² / a_opt² the formula is positive once more near m = k / e², long before the data suffice,
    and it is undefined below that. Only the main branch counts: accuracy is 0 below the largest root, and b
    goes on as its tangent there, so that it is concave and finite everywhere. CVXPY has no concave form of
    it: ``declare`` has it evaluated, for backends with the capability ``ORACLE``.

    References
    ----------
    Accuracy-shaping paper, eq. (2), with the branch made explicit.

    Examples
    --------
    >>> accuracy = GeneralizationBound(max_accuracy=0.95, difficulty=1000.0)
    >>> round(accuracy.min_viable_data, 1), accuracy([0.0, 1000 / np.e**2]).tolist()
    (10484.1, [0.0, 0.0])
    >>> f"{accuracy.viability_cost:.5e}"
    '1.11433e-05'
    """

    max_accuracy: float = 1.0
    difficulty: float = 1.0

    def __post_init__(self) -> None:
        set_positive(self, "difficulty")
        _set_max_accuracy(self)
        self._check_reachable()

    @property
    def has_expression(self) -> bool:
        """Whether CVXPY can express b: no."""
        return False

    @cached_property
    def min_viable_data(self) -> float:
        """Data points from which accuracy is positive: the largest root of b."""
        return self._fixed_point(lambda log: math.sqrt(2 * self.difficulty * log) + 4)

    @cached_property
    def viability_data(self) -> float:
        """Data points at which accuracy per point is highest: m b'(m) = b(m)."""
        k = self.difficulty
        return self._fixed_point(
            lambda log: math.sqrt(2 * k * log) + math.sqrt(k / 2) * (log - 1) / math.sqrt(log) + 6
        )

    def concave_part(self, m: ArrayLike) -> FloatArray:
        """Concave function b(m); below ``min_viable_data`` its tangent there."""
        m, low = floats(m), self.min_viable_data
        inside = np.clip(m, low, ENDLESS)
        loss = (np.sqrt(2 * self.difficulty * self._log(inside)) + 4) / np.sqrt(inside)
        value: FloatArray = self.max_accuracy - loss + self._steepest * np.minimum(m - low, 0.0)
        return value

    def concave_part_derivative(self, m: ArrayLike) -> FloatArray:
        """Slope (sqrt(k / 2) (L - 1) / sqrt(L) + 2) m ** -1.5; constant below ``min_viable_data``."""
        return self._slope(np.clip(floats(m), self.min_viable_data, ENDLESS))

    def inverse_derivative(self, slope: ArrayLike) -> FloatArray:
        """Maximiser of b(m) - slope * m, by Newton's method on logarithms; at least ``min_viable_data``."""
        slope, low, k = floats(slope), self.min_viable_data, self.difficulty
        inner = (slope > 0) & (slope < self._steepest)
        target = np.where(inner, slope, self._steepest)
        # As if b' fell like m^-1.5: too low, and the better, the farther out.
        start = math.log(low) + 2 / 3 * (math.log(self._steepest) - np.log(target))
        m = np.exp(np.minimum(start, math.log(ENDLESS)))
        for _ in range(50):
            log = self._log(m)
            bend = math.sqrt(k / 2) * (log - 1) / np.sqrt(log)
            rise = bend * (log + 1) / (2 * log * (log - 1)) / (bend + 2)
            step = np.log(self._slope(m) / target) / (1.5 - rise)
            m = np.clip(m * np.exp(step), low, ENDLESS)
            if np.all(np.abs(step) <= 4 * EPS):
                break
        value: FloatArray = np.where(slope <= 0, np.inf, np.where(inner, m, low))[()]
        return value

    def expression(self, x: Any) -> Any:
        """There is none: use ``declare``.

        Raises
        ------
        NotApplicable
            Always.
        """
        raise NotApplicable(
            "GeneralizationBound: CVXPY has no concave expression of the bound; put it into a program with "
            "`declare`, and solve that by a backend with the capability ORACLE, such as 'outer'",
            reason="no concave CVXPY form",
        )

    @cached_property
    def _steepest(self) -> float:
        """Slope of b at its root."""
        return float(self._slope(np.asarray(self.min_viable_data)))

    def _log(self, m: FloatArray) -> FloatArray:
        value: FloatArray = 2 + np.log(m / self.difficulty)
        return value

    def _slope(self, m: FloatArray) -> FloatArray:
        log = self._log(m)
        bend = math.sqrt(self.difficulty / 2) * (log - 1) / np.sqrt(log)
        # Two divisions: m ** 1.5 would overflow at amounts that are still floats.
        value: FloatArray = (bend + 2) / m / np.sqrt(m)
        return value

    def _fixed_point(self, numerator: Callable[[float], float]) -> float:
        """Solve max_accuracy * sqrt(m) = numerator(L) by iteration from below.

        On the main branch m >= 8 k, where the logarithm moves the right side so little that each step leaves
        at most a third of the error.
        """
        m = 0.0
        following = 8 * self.difficulty
        for _ in range(200):
            if abs(following - m) <= 2 * EPS * m or following > ENDLESS:
                break
            m = following
            following = (numerator(2 + math.log(m / self.difficulty)) / self.max_accuracy) ** 2
        return following


@dataclass(frozen=True)
class TabulatedAccuracy(AccuracyFunction):
    """Accuracy measured at some sizes: straight lines between the points, constant after the last.

    Below the first point, accuracy falls on a straight line to 0: on the one through no data and no accuracy
    if that keeps b concave, else on the first segment, continued.

    Parameters
    ----------
    sizes : sequence of float, shape (n_points,)
        Data points, >= 0, strictly increasing.
    accuracies : sequence of float, shape (n_points,)
        Accuracy above that of a useless model, in [0, 1], non-decreasing, and concave in size where positive.

    Raises
    ------
    InvalidInput
        If the lengths differ or are 0, an entry is outside its range or out of order, there is accuracy
        without data, no accuracy is positive, or the points are not concave (naming the first at fault).

    See Also
    --------
    concave_hull : The least concave table above points that are not concave.

    Notes
    -----
    In a program it is linear.

    Examples
    --------
    >>> accuracy = TabulatedAccuracy(sizes=[100, 200, 400], accuracies=[0.4, 0.6, 0.8])
    >>> accuracy([50.0, 300.0, 1000.0]).round(12).tolist(), accuracy.min_viable_data
    ([0.2, 0.7, 0.8], 0.0)
    >>> accuracy.inverse_derivative([0.003, 0.0015, 0.0]).tolist(), round(accuracy.viability_cost, 12)
    ([100.0, 200.0, 400.0], 0.004)
    """

    sizes: Sequence[float]
    accuracies: Sequence[float]

    def __post_init__(self) -> None:
        sizes, accuracies = _table("TabulatedAccuracy", self.sizes, self.accuracies)
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "accuracies", accuracies)
        for i in range(1, len(accuracies)):
            if accuracies[i] < accuracies[i - 1]:
                raise InvalidInput(
                    f"TabulatedAccuracy: accuracies[{i}] = {accuracies[i]} at size {sizes[i]:g} is below the "
                    f"{accuracies[i - 1]} before it; more data may not hurt: use "
                    "TabulatedAccuracy.concave_hull, or fit a curve"
                )
        m, b = self._corners
        slopes = np.diff(b) / np.diff(m)
        # A straight row of points may bend up by the rounding of its accuracies.
        allowed = 4 * EPS * b[-1] / np.minimum(np.diff(m)[1:], np.diff(m)[:-1])
        bends = np.diff(slopes) > allowed
        if np.any(bends):
            j = int(np.argmax(bends)) + 1
            i = sizes.index(float(m[j]))
            raise InvalidInput(
                f"TabulatedAccuracy: the table is not concave at accuracies[{i}] = {accuracies[i]}, size "
                f"{sizes[i]:g}: accuracy rises by {slopes[j - 1]:.6g} a point before it and by "
                f"{slopes[j]:.6g} after it; use TabulatedAccuracy.concave_hull(sizes, accuracies), or fit a "
                "curve"
            )
        self._check_reachable()

    @classmethod
    def concave_hull(cls, sizes: Sequence[float], accuracies: Sequence[float]) -> TabulatedAccuracy:
        """Return the least concave non-decreasing table that is nowhere below the points.

        Of noisy points it keeps the lucky ones: to judge the noise, fit a curve instead.

        Parameters
        ----------
        sizes, accuracies : sequence of float, shape (n_points,)
            As for the class, but in any order of accuracy.

        Examples
        --------
        >>> TabulatedAccuracy.concave_hull([100, 200, 300, 400], [0.4, 0.45, 0.6, 0.55])
        TabulatedAccuracy(sizes=(100.0, 300.0), accuracies=(0.4, 0.6))
        """
        given, values = _table("TabulatedAccuracy.concave_hull", sizes, accuracies)
        hull: list[tuple[float, float]] = []
        for point in zip(given, values, strict=True):
            if point[1] == 0:
                hull = [point]  # the last size without accuracy is where it starts
                continue
            if hull and point[1] <= hull[-1][1]:
                continue  # there was as much for less data
            while len(hull) >= 2 and _bends_up(hull[-2], hull[-1], point):
                hull.pop()
            hull.append(point)
        return cls([m for m, _ in hull], [b for _, b in hull])

    @property
    def max_accuracy(self) -> float:
        """The last accuracy."""
        return self.accuracies[-1]

    @property
    def min_viable_data(self) -> float:
        """Data points from which accuracy is positive; 0 if it is from the first one on."""
        return float(self._corners[0][0])

    @cached_property
    def viability_data(self) -> float:
        """Size at which accuracy per point is highest; the largest of several."""
        m, b = self._corners
        per_point = b[1:] / m[1:]
        return float(m[1:][per_point >= per_point.max() * (1 - 4 * EPS)][-1])

    def concave_part(self, m: ArrayLike) -> FloatArray:
        """Concave function b(m)."""
        corners, b = self._corners
        m = floats(m)
        value: FloatArray = np.interp(m, corners, b) + self._slopes[0] * np.minimum(m - corners[0], 0.0)
        return value

    def concave_part_derivative(self, m: ArrayLike) -> FloatArray:
        """Slope b'(m); at a point of the table the one to its right."""
        piece = np.searchsorted(self._corners[0], floats(m), side="right") - 1
        value: FloatArray = self._slopes[np.maximum(piece, 0)]
        return value

    def inverse_derivative(self, slope: ArrayLike) -> FloatArray:
        """Maximiser of b(m) - slope * m: ``min_viable_data`` or a size; ``inf`` if slope < 0."""
        maximisers = np.append(self._corners[0], np.inf)
        value: FloatArray = maximisers[np.searchsorted(-self._slopes, -floats(slope), side="left")]
        return value

    def expression(self, x: Any) -> Any:
        """Concave CVXPY expression b(x); linear program."""
        m, b = self._corners
        unit = self.natural_scale
        z = x / unit
        lines = [
            float(slope * unit) * z + float(value - slope * corner)
            for slope, corner, value in zip(self._slopes[:-1], m[:-1], b[:-1], strict=True)
        ]
        return cp.minimum(*lines, self.max_accuracy)

    @cached_property
    def _corners(self) -> tuple[FloatArray, FloatArray]:
        """Points of b from its root on."""
        m, b = np.array(self.sizes), np.array(self.accuracies)
        first = int(np.argmax(b > 0))
        if first > 0:
            return m[first - 1 :], b[first - 1 :]
        slope = (b[1] - b[0]) / (m[1] - m[0]) if b.size > 1 else 0.0
        root = m[0] - b[0] / slope if b[0] < slope * m[0] else 0.0
        return np.insert(m, 0, root), np.insert(b, 0, 0.0)

    @cached_property
    def _slopes(self) -> FloatArray:
        """Slope of each piece, and 0 after the last point; non-increasing also by the last bit."""
        m, b = self._corners
        value: FloatArray = np.minimum.accumulate(np.append(np.diff(b) / np.diff(m), 0.0))
        return value


@dataclass(frozen=True)
class UserAccuracy(AccuracyFunction):
    """Accuracy given by two callables, b and its derivative.

    Parameters
    ----------
    value : callable
        Concave part b(m), elementwise on arrays. Only what it says from its largest root on is used: below,
        accuracy is 0 and b goes on as its tangent.
    slope : callable
        Its derivative b'(m), elementwise on arrays.
    max_accuracy : float
        Accuracy of unlimited data, in (0, 1].
    bracket : pair of float
        Data points, > 0, at the first of which b is not positive, and at the second of which it is. Both
        callables must have values in between, where they are checked.

    Raises
    ------
    InvalidInput
        If an argument is outside its range, or, on a logarithmic grid over the bracket: b is nowhere positive
        or everywhere; a value is NaN; or, from the root of b on, b' is negative or rises, b is above
        ``max_accuracy``, or b and b' contradict each other. The message gives the amount of data.

    Examples
    --------
    >>> accuracy = UserAccuracy(lambda m: 0.9 - 3 / np.log(m), lambda m: 3 / (m * np.log(m) ** 2),
    ...                         max_accuracy=0.9, bracket=(2.0, 1e9))
    >>> round(accuracy.min_viable_data, 9) == round(float(np.exp(3 / 0.9)), 9)
    True
    """

    value: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    max_accuracy: float = 1.0
    bracket: tuple[float, float] = (1.0, 1e9)

    GRID: ClassVar[int] = 600
    """Amounts of data at which the callables are checked."""

    def __post_init__(self) -> None:
        for name in ("value", "slope"):
            if not callable(getattr(self, name)):
                raise InvalidInput(f"UserAccuracy: {name} must be callable, got {getattr(self, name)!r}")
        _set_max_accuracy(self)
        bracket = finite_tuple("UserAccuracy", "bracket", self.bracket)
        if len(bracket) != 2 or not 0 < bracket[0] < bracket[1]:
            raise InvalidInput(
                f"UserAccuracy: bracket = {bracket} must be two amounts of data, 0 < bracket[0] < bracket[1]"
            )
        object.__setattr__(self, "bracket", bracket)
        self._check_shape(np.append(self.min_viable_data, self._grid[self._grid > self.min_viable_data]))
        self._check_reachable()

    @property
    def has_expression(self) -> bool:
        """Whether CVXPY can express b: no."""
        return False

    @cached_property
    def min_viable_data(self) -> float:
        """Data points from which accuracy is positive: the largest root of b in the bracket."""
        m = self._grid
        b = self._call("value", m)
        undefined = np.isnan(b)
        if np.any(undefined):
            raise InvalidInput(
                f"UserAccuracy: value({m[np.argmax(undefined)]:g}) is NaN; b must have a value everywhere in "
                f"the bracket {self.bracket}: narrow it"
            )
        low, high = self.bracket
        if not np.any(b > 0):
            raise InvalidInput(
                f"UserAccuracy: value is nowhere positive between m = {low:g} and {high:g}: the problem is "
                "not viable at any data size there; raise bracket[1] if it is beyond"
            )
        if not np.any(b <= 0):
            raise InvalidInput(
                f"UserAccuracy: value({low:g}) = {b[0]:g} is already positive; lower bracket[0] below the "
                "root of b, and subtract the accuracy of a useless model, for no data to have accuracy 0"
            )
        last = int(np.flatnonzero(b <= 0)[-1])
        if last == m.size - 1:
            i = int(np.argmax(b > 0))
            raise InvalidInput(
                f"UserAccuracy: value({m[i]:g}) = {b[i]:g} is positive, but value({high:g}) = {b[-1]:g} is "
                "not; accuracy must not fall with more data"
            )
        # Not a secant: b may be infinite on one side.
        return float(bisect(lambda x: float(self._call("value", x)), m[last], m[last + 1], xtol=1e-300))

    @cached_property
    def viability_data(self) -> float:
        """Data points at which accuracy per point is highest: m b'(m) = b(m)."""
        free = np.zeros(1)
        return float(
            break_even(
                lambda m, _: m * self.concave_part_derivative(m) - self.concave_part(m),
                lambda _, nothing: nothing,
                self.min_viable_data,
                free,
            )[0]
        )

    def concave_part(self, m: ArrayLike) -> FloatArray:
        """Concave function b(m); below ``min_viable_data`` its tangent there."""
        m, low = floats(m), self.min_viable_data
        inside = self._call("value", np.clip(m, low, ENDLESS))
        result: FloatArray = inside + self._steepest * np.minimum(m - low, 0.0)
        return result

    def concave_part_derivative(self, m: ArrayLike) -> FloatArray:
        """Slope b'(m); constant below ``min_viable_data``."""
        return self._call("slope", np.clip(floats(m), self.min_viable_data, ENDLESS))

    def inverse_derivative(self, slope: ArrayLike) -> FloatArray:
        """Maximiser of b(m) - slope * m, by root finding to the last digits."""
        price = floats(slope)
        flat, low = price.ravel(), self.min_viable_data
        m = np.full(flat.shape, np.inf)
        paid = flat > 0
        m[paid] = break_even(
            lambda m, _: self.concave_part_derivative(m), lambda _, price: price, low, flat[paid]
        )
        value: FloatArray = np.maximum(m, low).reshape(price.shape)[()]
        return value

    def expression(self, x: Any) -> Any:
        """There is none: use ``declare``.

        Raises
        ------
        NotApplicable
            Always.
        """
        raise NotApplicable(
            "UserAccuracy: callables have no CVXPY expression; put the function into a program with "
            "`declare`, and solve that by a backend with the capability ORACLE, such as 'outer'",
            reason="no concave CVXPY form",
        )

    @cached_property
    def _grid(self) -> FloatArray:
        grid: FloatArray = np.geomspace(*self.bracket, self.GRID)
        return grid

    @cached_property
    def _steepest(self) -> float:
        """Slope of b at its root."""
        return float(self._call("slope", self.min_viable_data))

    def _call(self, name: str, m: ArrayLike) -> FloatArray:
        """Call one of the callables, and see to it that it is elementwise."""
        m = floats(m)
        with np.errstate(all="ignore"):
            result = floats(getattr(self, name)(m))
        if result.shape != m.shape:
            raise InvalidInput(
                f"UserAccuracy: {name} returned shape {result.shape} for amounts of shape {m.shape}; it must "
                "be elementwise: write it with NumPy functions, or wrap it in numpy.vectorize"
            )
        return result

    def _check_shape(self, m: FloatArray) -> None:
        """Check both callables at increasing amounts of data that start with the root of b."""
        b, rise = self._call("value", m), self._call("slope", m)
        rounding = 1e-9 * rise[:-1] + 16 * EPS / np.diff(m)
        with np.errstate(invalid="ignore"):  # a slope that is not finite is reported before it matters
            chord, bend = np.diff(b) / np.diff(m), np.diff(rise)
            above, below = chord - rise[:-1] > rounding, rise[1:] - chord > rounding
        rules = [
            (~np.isfinite(rise), rise, "slope", "must be finite"),
            (rise < 0, rise, "slope", "must not be negative: accuracy rises with data"),
            (
                np.append(False, bend > rounding),
                rise,
                "slope",
                "must not rise with m: b must be concave where it is positive",
            ),
            (b > self.max_accuracy * (1 + 1e-12), b, "value", f"is above max_accuracy = {self.max_accuracy}"),
            (
                np.append(above | below, False),
                rise,
                "slope",
                "is not the slope of value, which rises between there and the next amount by a slope outside "
                "the derivatives at its ends",
            ),
        ]
        for broken, values, name, rule in rules:
            if np.any(broken):
                i = int(np.argmax(broken))
                raise InvalidInput(f"UserAccuracy: {name}({m[i]:.6g}) = {values[i]:.6g} {rule}")
        if rise[0] == 0:
            raise InvalidInput(
                f"UserAccuracy: slope({m[0]:.6g}) = 0 at the root of b; it must be positive there"
            )


def _set_max_accuracy(record: Any) -> None:
    """Turn the field ``max_accuracy`` of a frozen record into a float in (0, 1]."""
    set_positive(record, "max_accuracy")
    value: float = record.max_accuracy
    if value > 1:
        raise InvalidInput(
            f"{type(record).__name__}: max_accuracy = {value} must be in (0, 1]; give accuracy as a fraction"
        )


def _table(
    kind: str, sizes: Sequence[float], accuracies: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Check a table of accuracies, all but its shape."""
    m, b = finite_tuple(kind, "sizes", sizes), finite_tuple(kind, "accuracies", accuracies)
    if len(m) != len(b):
        raise InvalidInput(
            f"{kind}: accuracies has {len(b)} entries and sizes {len(m)}; give one accuracy for each size"
        )
    for i, (size, accuracy) in enumerate(zip(m, b, strict=True)):
        if size < 0:
            raise InvalidInput(f"{kind}: sizes[{i}] = {size} must be >= 0")
        if i and size <= m[i - 1]:
            raise InvalidInput(
                f"{kind}: sizes[{i}] = {size} must be above sizes[{i - 1}] = {m[i - 1]}; order the points by "
                "size, and average those of one size"
            )
        if not 0 <= accuracy <= 1:
            raise InvalidInput(
                f"{kind}: accuracies[{i}] = {accuracy} must be in [0, 1]; give accuracy as a fraction"
            )
        if size == 0 and accuracy > 0:
            raise InvalidInput(
                f"{kind}: accuracies[{i}] = {accuracy} must be 0 at size 0; subtract the accuracy of a "
                "useless model from all"
            )
    if not any(b):
        raise InvalidInput(
            f"{kind}: no entry of accuracies is positive; the problem is not viable at any size"
        )
    return m, b


def _bends_up(before: tuple[float, float], middle: tuple[float, float], after: tuple[float, float]) -> bool:
    """Whether the middle of three points is on or below the line through the others."""
    left, right = middle[0] - before[0], after[0] - middle[0]
    return (middle[1] - before[1]) * right <= (after[1] - middle[1]) * left
