"""Utilities of data that is bought: of its total size, of each seller's batch, or of sets of sellers.

A utility of total size that is concave is a gain of the other wings in the market's own parameters, so
`LogUtility`, `SqrtUtility` and their like make those. What no gain is (an error that falls, a jump, a value
for each seller or set of sellers) has a class here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike

from mechopt.formulations.functions.accuracies import AccuracyFunction
from mechopt.formulations.functions.base import (
    ConcaveFunction,
    FloatArray,
    finite_tuple,
    floats,
    from_zero_to_inf,
    real,
    set_positive,
)
from mechopt.formulations.functions.gains import LogGain, PiecewiseLinearGain, PowerGain, SaturatingGain
from mechopt.formulations.functions.roots import break_even
from mechopt.solvers.errors import InvalidInput

__all__ = [
    "AccuracyUtility",
    "AdditiveUtility",
    "CappedUtility",
    "InverseSqrtUtility",
    "LinearUtility",
    "LogUtility",
    "SaturatingUtility",
    "SizeUtility",
    "SqrtUtility",
    "TableUtility",
    "ThresholdUtility",
    "UserUtility",
    "Utility",
]


# ------------------------------------------------------------ concave in total size


def LinearUtility(slope: float) -> PiecewiseLinearGain:
    """Return the utility ``slope * D`` of total data D.

    Parameters
    ----------
    slope : float
        Money per record, > 0.

    Examples
    --------
    >>> float(LinearUtility(2.0)(3.0))
    6.0
    """
    return PiecewiseLinearGain((_positive("LinearUtility", "slope", slope),), (0.0,), 1.0)


def LogUtility(weight: float, size: float) -> LogGain:
    """Return the utility ``weight * log(1 + D / size)`` of total data D.

    Parameters
    ----------
    weight : float
        Money, > 0.
    size : float
        Records over which it bends, > 0.

    Examples
    --------
    >>> round(float(LogUtility(10.0, 5.0)(5.0)), 6)
    6.931472
    """
    _positive("LogUtility", "weight", weight)
    return LogGain(weight, 1 / _positive("LogUtility", "size", size))


def SqrtUtility(weight: float) -> PowerGain:
    """Return the utility ``weight * sqrt(D)`` of total data D; its marginal value falls as 1 / sqrt(D).

    Parameters
    ----------
    weight : float
        Money at one record, > 0.

    Examples
    --------
    >>> float(SqrtUtility(3.0)(4.0))
    6.0
    """
    return PowerGain(_positive("SqrtUtility", "weight", weight), 1.0, 0.5)


def SaturatingUtility(weight: float, size: float) -> SaturatingGain:
    """Return the utility ``weight * (1 - exp(-D / size))`` of total data D; it stays below ``weight``.

    Parameters
    ----------
    weight : float
        Money for unlimited data, > 0.
    size : float
        Records over which it saturates, > 0.

    Examples
    --------
    >>> round(float(SaturatingUtility(10.0, 5.0)(5.0)), 6)
    6.321206
    """
    _positive("SaturatingUtility", "weight", weight)
    return SaturatingGain(weight, 1 / _positive("SaturatingUtility", "size", size))


def CappedUtility(weight: float, size: float) -> PiecewiseLinearGain:
    """Return the utility ``weight * min(D / size, 1)`` of total data D.

    Parameters
    ----------
    weight : float
        Money for enough data, > 0.
    size : float
        Records that are enough, > 0.

    Examples
    --------
    >>> CappedUtility(10.0, 4.0)([2.0, 8.0]).tolist()
    [5.0, 10.0]
    """
    weight = _positive("CappedUtility", "weight", weight)
    size = _positive("CappedUtility", "size", size)
    return PiecewiseLinearGain((weight / size, 0.0), (0.0, weight), 1.0)


@dataclass(frozen=True)
class InverseSqrtUtility(ConcaveFunction):
    """Utility of an error that falls with data, f(D) = -weight / sqrt(scale * D).

    Its marginal value falls as D^(-3/2).

    Parameters
    ----------
    weight : float
        Money that the error of ``1 / scale`` records costs, > 0.
    scale : float
        Effective records per record, > 0.

    Raises
    ------
    InvalidInput
        If a parameter is not a finite number > 0.

    Notes
    -----
    Without any data it is minus infinity: a buyer must have some of its own. In a program it needs the power
    cone.

    Examples
    --------
    >>> utility = InverseSqrtUtility(6.0)
    >>> float(utility(4.0)), float(utility.derivative(4.0)), float(utility.inverse(-3.0))
    (-3.0, 0.375, 4.0)
    """

    weight: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        set_positive(self, "weight", "scale")

    @property
    def natural_scale(self) -> float:
        """``1 / scale``."""
        return 1 / self.scale

    @property
    def supremum(self) -> float:
        """0, which no amount reaches."""
        return 0.0

    def __call__(self, x: ArrayLike) -> FloatArray:
        """Value f(x); minus infinity at 0."""
        with np.errstate(divide="ignore"):
            value: FloatArray = -self.weight / np.sqrt(self.scale * floats(x))
        return value

    def derivative(self, x: ArrayLike) -> FloatArray:
        """Slope, weight * scale / 2 * (scale * x) ** (-3/2); ``inf`` at 0."""
        with np.errstate(divide="ignore"):
            return self.weight * self.scale / 2 * (self.scale * floats(x)) ** -1.5

    def inverse_derivative(self, slope: ArrayLike) -> FloatArray:
        """Maximiser of f(x) - slope * x: (weight scale / 2 / slope) ** (2/3) / scale; ``inf`` at slope 0."""
        slope = floats(slope)
        with np.errstate(divide="ignore", invalid="ignore"):
            x = np.asarray((self.weight * self.scale / 2 / slope) ** (2 / 3))
        x /= self.scale
        return from_zero_to_inf(x, slope)

    def inverse(self, value: ArrayLike) -> FloatArray:
        """Amount with f(x) = value: (weight / value)² / scale; ``inf`` if value >= 0."""
        value = floats(value)
        with np.errstate(divide="ignore"):
            return np.where(value < 0, (self.weight / value) ** 2 / self.scale, np.inf)[()]

    def expression(self, x: Any) -> Any:
        """Concave CVXPY expression f(x); power cone."""
        return -self.weight * cp.power(self.scale * x, -0.5, approx=False)

    def in_units_of(self, size: float) -> InverseSqrtUtility:
        """Return the same function with the power of an amount of order one in its cone."""
        return InverseSqrtUtility(self.weight / math.sqrt(self.scale * size), 1 / size)


@dataclass(frozen=True)
class AccuracyUtility(ConcaveFunction):
    """Utility of the accuracy of a model trained on total data D, f(D) = weight * accuracy(D).

    Where models have no accuracy yet it follows the accuracy's concave part, below 0: a buyer should have
    data enough of its own for some accuracy.

    Parameters
    ----------
    weight : float
        Money for accuracy 1, > 0.
    accuracy : AccuracyFunction
        Such as ``mo.SqrtAccuracy``, or the curve that `mechopt.studies.calibrate.accuracy_curve` fits.

    Raises
    ------
    InvalidInput
        If ``weight`` is not a finite number > 0, or ``accuracy`` no AccuracyFunction.

    Examples
    --------
    >>> from mechopt.formulations.functions import SqrtAccuracy
    >>> utility = AccuracyUtility(100.0, SqrtAccuracy(1.0, difficulty=1.0))
    >>> float(utility(16.0)) == 100 * float(utility.accuracy(16.0))
    True
    """

    weight: float
    accuracy: AccuracyFunction

    def __post_init__(self) -> None:
        set_positive(self, "weight")
        if not isinstance(self.accuracy, AccuracyFunction):
            raise InvalidInput(
                "AccuracyUtility: accuracy must be an AccuracyFunction such as mo.SqrtAccuracy(0.95, "
                f"difficulty=10), got {self.accuracy!r}"
            )

    @property
    def natural_scale(self) -> float:
        """That of the accuracy."""
        return self.accuracy.natural_scale

    @property
    def has_expression(self) -> bool:
        """Whether CVXPY can express the accuracy."""
        return self.accuracy.has_expression

    @property
    def supremum(self) -> float:
        """``weight`` times the accuracy of unlimited data."""
        return self.weight * float(self.accuracy.max_accuracy)

    def __call__(self, x: ArrayLike) -> FloatArray:
        """Value f(x)."""
        return self.weight * self.accuracy.concave_part(x)

    def derivative(self, x: ArrayLike) -> FloatArray:
        """Slope, the weight times that of the accuracy."""
        return self.weight * self.accuracy.concave_part_derivative(x)

    def inverse_derivative(self, slope: ArrayLike) -> FloatArray:
        """Maximiser of f(x) - slope * x, which may be below the accuracy's ``min_viable_data``."""
        price = floats(slope) / self.weight
        flat = price.ravel()
        amount = floats(self.accuracy.inverse_derivative(flat)).copy()
        amount[np.isposinf(flat)] = 0.0
        below = (amount <= self.accuracy.min_viable_data) & (flat > 0) & np.isfinite(flat)
        amount[below] = break_even(
            lambda x, _: self.accuracy.concave_part_derivative(x),
            lambda _, price: price,
            self.natural_scale,
            flat[below],
        )
        return amount.reshape(price.shape)[()]

    def expression(self, x: Any) -> Any:
        """Concave CVXPY expression f(x)."""
        return self.weight * self.accuracy.expression(x)


# ------------------------------------------------------------ any other function of total size


class SizeUtility(ABC):
    """A utility of total data D that need not be concave.

    To add one, derive a frozen dataclass and write ``__call__``, elementwise on arrays of D >= 0.
    """

    @abstractmethod
    def __call__(self, x: ArrayLike) -> FloatArray:
        """Value f(x) (money)."""

    @property
    def supremum(self) -> float:
        """Least upper bound of the values; infinite where nothing is known."""
        return math.inf


@dataclass(frozen=True)
class ThresholdUtility(SizeUtility):
    """Utility of having enough data and none of having less, f(D) = weight if D >= size, else 0.

    Parameters
    ----------
    weight : float
        Money, > 0.
    size : float
        Records that are enough, > 0.

    Raises
    ------
    InvalidInput
        If a parameter is not a finite number > 0.

    Examples
    --------
    >>> ThresholdUtility(10.0, 4.0)([3.9, 4.0]).tolist()
    [0.0, 10.0]
    """

    weight: float
    size: float

    def __post_init__(self) -> None:
        set_positive(self, "weight", "size")

    @property
    def supremum(self) -> float:
        """``weight``, which ``size`` records reach."""
        return self.weight

    def __call__(self, x: ArrayLike) -> FloatArray:
        """Value f(x)."""
        # Sums of sizes are rounded; what falls short by rounding alone is enough.
        return np.where(floats(x) >= self.size * (1 - 1e-12), self.weight, 0.0)[()]


@dataclass(frozen=True)
class UserUtility(SizeUtility):
    """Utility of total data given by a function that computes it, of any shape.

    Parameters
    ----------
    value : callable
        Money for total data D >= 0, elementwise on arrays.

    Notes
    -----
    The exact algorithms take it; programs only where all data have one size. For a concave function use
    `EvaluatedGain` or `AtomGain`, which every backend for convex programs takes.

    Examples
    --------
    >>> utility = UserUtility(lambda D: 10 * D**2 / (1 + D**2))
    >>> float(utility(3.0))
    9.0
    """

    value: Callable[[Any], Any]

    def __post_init__(self) -> None:
        if not callable(self.value):
            raise InvalidInput(f"UserUtility: value must be a callable of total data, got {self.value!r}")

    def __call__(self, x: ArrayLike) -> FloatArray:
        """Value f(x)."""
        amount = floats(x)
        value = floats(self.value(amount))
        if value.shape != amount.shape:
            raise InvalidInput(
                f"UserUtility: value returned shape {value.shape} for amounts of shape {amount.shape}; it "
                "must be elementwise: write it with NumPy functions, or wrap it in numpy.vectorize"
            )
        if np.any(np.isnan(value)):
            index = int(np.argmax(np.isnan(value.ravel())))
            raise InvalidInput(
                f"UserUtility: value({amount.ravel()[index]:g}) is NaN; give it a number there"
            )
        return value


# ------------------------------------------------------------ of sellers, one by one or in sets


@dataclass(frozen=True)
class AdditiveUtility:
    """Utility that is a sum of what each seller's data is worth by itself.

    Parameters
    ----------
    values : sequence of float, shape (n_agents,)
        Money for the data of each agent; the buyer's own entry is not used.

    Raises
    ------
    InvalidInput
        If an entry is not a finite number, or there is none.
    """

    values: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", finite_tuple("AdditiveUtility", "values", self.values))


@dataclass(frozen=True)
class TableUtility:
    """Utility given set by set.

    Parameters
    ----------
    values : mapping of frozenset of int to float
        Money for the data of each set of sellers; all subsets of ``sellers``, the empty one included.

    Raises
    ------
    InvalidInput
        If a subset is missing, or a value is not finite.

    Examples
    --------
    >>> table = TableUtility({(): 0.0, (1,): 2.0, (2,): 1.0, (1, 2): 4.0})
    >>> sorted(table.sellers), table.values[frozenset({1, 2})], table.fall()
    ([1, 2], 4.0, None)
    """

    values: Mapping[frozenset[int], float]
    sellers: frozenset[int] = field(init=False, repr=False)  # a repr is to be pasted

    def __post_init__(self) -> None:
        table = {}
        for key, value in dict(self.values).items():
            members = _members(key)
            if members in table:
                raise InvalidInput(f"TableUtility: the set {_show(members)} is given twice")
            table[members] = real("TableUtility", f"values[{_show(members)}]", value)
        sellers = frozenset().union(*table) if table else frozenset()
        if len(sellers) > 25:
            raise InvalidInput(
                f"TableUtility: {len(sellers)} sellers have {2 ** len(sellers)} subsets; a table is for at "
                "most 25: use a function of total size"
            )
        if len(table) != 2 ** len(sellers):
            missing = next(subset for subset in _subsets(sorted(sellers)) if subset not in table)
            raise InvalidInput(
                f"TableUtility: the set {_show(missing)} is missing; give a value for every subset of "
                f"{_show(sellers)}, the empty one included"
            )
        object.__setattr__(self, "values", table)
        object.__setattr__(self, "sellers", sellers)

    @classmethod
    def from_function(cls, value: Callable[[frozenset[int]], float], sellers: Iterable[int]) -> TableUtility:
        """Tabulate a function of sets of sellers."""
        return cls({subset: value(subset) for subset in _subsets(sorted(sellers))})

    def fall(self) -> tuple[frozenset[int], int] | None:
        """Return a set and a seller whose data lowers its value, or None if the table is monotone."""
        for subset, value in self.values.items():
            for seller in sorted(self.sellers - subset):
                if self.values[subset | {seller}] < value:
                    return subset, seller
        return None


Utility = ConcaveFunction | SizeUtility | AdditiveUtility | TableUtility
"""Whatever a buyer's utility of data may be."""


def _positive(kind: str, name: str, value: Any) -> float:
    number = real(kind, name, value)
    if not number > 0:
        raise InvalidInput(f"{kind}: {name} = {number} must be > 0; give a positive number")
    return number


def _members(key: Any) -> frozenset[int]:
    try:
        members = frozenset(int(member) for member in key)
    except (TypeError, ValueError):
        raise InvalidInput(
            f"TableUtility: {key!r} is no set of sellers; give sets of agents' indices"
        ) from None
    if any(member < 0 for member in members):
        raise InvalidInput(
            f"TableUtility: the set {_show(members)} has a negative index; agents count from 0"
        )
    return members


def _subsets(sellers: Sequence[int]) -> Iterable[frozenset[int]]:
    for mask in range(2 ** len(sellers)):
        yield frozenset(seller for bit, seller in enumerate(sellers) if mask >> bit & 1)


def _show(members: Iterable[int]) -> str:
    return "{" + ", ".join(map(str, sorted(members))) + "}"
