"""What every function of data offers, and the checks that their parameters share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.functions.roots import break_even
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.terms import Hypograph

if TYPE_CHECKING:
    from mechopt.solvers.program import Program

FloatArray = NDArray[np.float64]

_ENDLESS = 1e30
"""Amount, in natural scales, beyond any in use."""


class DeclaredFunction(ABC):
    """A function of data that a program can hold: as a CVXPY expression, or evaluated if it has none."""

    @property
    @abstractmethod
    def natural_scale(self) -> float:
        """A typical magnitude of x, > 0: the amount over which f bends."""

    @abstractmethod
    def expression(self, x: Any) -> Any:
        """Concave CVXPY expression f(x) of an affine CVXPY expression ``x``, in the same shape."""

    @property
    def has_expression(self) -> bool:
        """Whether CVXPY can express the function; if not, ``declare`` has it evaluated."""
        return True

    @property
    @abstractmethod
    def _evaluated(self) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        """The concave function of the program and its derivative, for backends that evaluate them."""

    def declare(self, program: Program, name: str, x: Any, *, scale: Any = 1.0) -> Any:
        """Return f(x) for use in a program wherever a larger f(x) is what the program wants.

        Parameters
        ----------
        program : Program
            Gets more variables and families only if CVXPY cannot express the function: a variable ``name``
            and a family ``f"{name}_hypograph"`` that holds it below f, for backends that list ``ORACLE``;
            or if it cannot see that f(x) is concave: a variable and a family ``f"{name}_amount"`` below x.
        name : str
            Of that variable.
        x : CVXPY expression
            Amounts; concave, and affine as a rule.
        scale : float or array
            Typical size of f(x).

        Returns
        -------
        CVXPY expression, shape of ``x``
        """
        # CVXPY may not see that a non-decreasing function of a concave amount is concave.
        if not x.is_affine() and not (self.has_expression and self.expression(x).is_concave()):
            amount = program.variable(f"{name}_amount", x.shape, nonneg=True, scale=self.natural_scale)
            program.add(f"{name}_amount", amount <= x)
            x = amount
        if self.has_expression:
            return self.expression(x)
        value = program.variable(name, x.shape, scale=scale)
        program.add(f"{name}_hypograph", Hypograph(value, self._evaluated, x))
        return value


class ConcaveFunction(DeclaredFunction):
    """A concave, non-decreasing function f of an amount x >= 0.

    To add one, derive a frozen dataclass and write the four abstract methods and ``natural_scale``.
    Everything is elementwise: the result has the shape of the argument. A negative ``x`` is outside the
    domain, and what comes back for it has no meaning.
    """

    @abstractmethod
    def __call__(self, x: ArrayLike) -> FloatArray:
        """Value f(x)."""

    @abstractmethod
    def derivative(self, x: ArrayLike) -> FloatArray:
        """Slope f'(x) >= 0; the one from the right where f has a kink."""

    @abstractmethod
    def inverse_derivative(self, slope: ArrayLike) -> FloatArray:
        """Amount x >= 0 that maximises f(x) - slope * x.

        This is ``min {x >= 0 : f'(x) <= slope}``: the solution of f'(x) = slope if there is one, 0 where
        f'(0) <= slope, and ``inf`` where no finite amount is best. Of several maximisers it is the smallest.
        """

    @property
    def has_kinks(self) -> bool:
        """Whether it is made of linear pieces, so that what it makes best jumps as prices change."""
        return False

    @property
    def supremum(self) -> float:
        """Least upper bound of the values: where it is not known, the value at amounts beyond any in use."""
        with np.errstate(all="ignore"):
            return float(self(self.natural_scale * _ENDLESS))

    def inverse(self, value: ArrayLike) -> FloatArray:
        """Smallest amount x >= 0 with f(x) >= value; ``inf`` where f stays below."""
        wanted = floats(value)
        flat = wanted.ravel()
        amount = np.full(flat.shape, np.inf)
        # At the supremum itself, which functions that saturate do not reach, rounding would decide.
        sought = flat <= float(self(self.natural_scale * _ENDLESS))
        amount[sought] = break_even(
            lambda x, wanted: np.where(self(x) < wanted, 1.0, 0.0),
            lambda x, wanted: np.full_like(wanted, 0.5),
            self.natural_scale,
            flat[sought],
        )
        return amount.reshape(wanted.shape)[()]

    @property
    def _evaluated(self) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        return self, self.derivative

    def in_units_of(self, size: float) -> ConcaveFunction:
        """Return the same function, written for solvers that will see amounts of about this size."""
        return self


def floats(x: ArrayLike) -> FloatArray:
    """Return an array of floats; the argument itself if it is one."""
    return np.asarray(x, dtype=np.float64)


def from_zero_to_inf(x: NDArray[np.float64], slope: FloatArray) -> FloatArray:
    """Clip ``x`` at 0 in place; infinite where the price ``slope`` is not positive."""
    np.maximum(x, 0.0, out=x)
    # The smallest price first: an array of a million prices is nearly always all positive.
    if slope.size and not slope.min() > 0:
        x[slope <= 0] = np.inf
    return x[()]


def set_positive(record: object, *names: str) -> None:
    """Turn the named fields of a frozen record into floats, all finite and > 0."""
    kind = type(record).__name__
    for name in names:
        number = real(kind, name, getattr(record, name))
        if not number > 0:
            raise InvalidInput(f"{kind}: {name} = {number} must be > 0; give a positive number")
        object.__setattr__(record, name, number)


def finite_tuple(kind: str, name: str, values: Sequence[float]) -> tuple[float, ...]:
    """Turn a field of a record into a non-empty tuple of finite floats."""
    numbers = tuple(real(kind, f"{name}[{i}]", value) for i, value in enumerate(values))
    if not numbers:
        raise InvalidInput(f"{kind}: {name} is empty; give at least one piece")
    return numbers


def real(kind: str, name: str, value: Any) -> float:
    """Turn a field of a record into a finite float."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{kind}: {name} = {value!r} must be a real number") from error
    if not math.isfinite(number):
        raise InvalidInput(f"{kind}: {name} = {number} must be finite; give an ordinary number")
    return number
