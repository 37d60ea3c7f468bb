"""Concave utilities of total size as expressions of a program, in units in which all of it is of order one.

Solvers see rows and costs to some 1e-6 or 1e-7, whatever money is counted in. Atoms that stand for more rows
(the lowest of several lines, tangents of a function that is only evaluated) must not hold amounts of money
that are far from one, so utilities are declared in units of what they are worth and multiplied back outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.functions import (
    ConcaveFunction,
    InverseSqrtUtility,
    LogGain,
    PiecewiseLinearGain,
    PowerGain,
    SaturatingGain,
)
from mechopt.solvers.program import Program

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

WEIGHTED = (LogGain, PowerGain, SaturatingGain, InverseSqrtUtility)
"""Functions weight * f(scale * x): those of one f are one vector atom, whatever their weights and scales."""


@dataclass(frozen=True)
class ScaledFunction(ConcaveFunction):
    """A concave function of rescaled money and data, f(x) = factor * base(rate * x).

    Parameters
    ----------
    base : ConcaveFunction
    factor, rate : float
        Both > 0.
    """

    base: ConcaveFunction
    factor: float
    rate: float = 1.0

    @property
    def natural_scale(self) -> float:
        """That of the base, over ``rate``."""
        return self.base.natural_scale / self.rate

    @property
    def has_expression(self) -> bool:
        """Whether CVXPY can express the base."""
        return self.base.has_expression

    @property
    def has_kinks(self) -> bool:
        """Whether the base has kinks."""
        return self.base.has_kinks

    @property
    def supremum(self) -> float:
        """That of the base, times ``factor``."""
        return self.factor * self.base.supremum

    def __call__(self, x: ArrayLike) -> Array:
        """Value f(x)."""
        return self.factor * self.base(self.rate * np.asarray(x, dtype=float))

    def derivative(self, x: ArrayLike) -> Array:
        """Slope f'(x)."""
        return self.factor * self.rate * self.base.derivative(self.rate * np.asarray(x, dtype=float))

    def inverse_derivative(self, slope: ArrayLike) -> Array:
        """Maximiser of f(x) - slope * x."""
        scaled = np.asarray(slope, dtype=float) / (self.factor * self.rate)
        return self.base.inverse_derivative(scaled) / self.rate

    def inverse(self, value: ArrayLike) -> Array:
        """Smallest amount with f(x) >= value."""
        return self.base.inverse(np.asarray(value, dtype=float) / self.factor) / self.rate

    def expression(self, x: Any) -> Any:
        """Concave CVXPY expression f(x)."""
        base = self.base
        if not isinstance(base, PiecewiseLinearGain):
            return self.factor * base.expression(self.rate * x)
        # The factor inside: solvers see each line as a row.
        lines = [
            self.factor * a * base.scale * self.rate * x + self.factor * b
            for a, b in zip(base.slopes, base.intercepts, strict=True)
        ]
        return lines[0] if len(lines) == 1 else cp.minimum(*lines)


@dataclass(frozen=True, eq=False)
class Worth:
    """What some agents' data are worth to them, in a program.

    Attributes
    ----------
    agents : array of int, shape (n,)
    value : CVXPY expression, shape (n,)
        Money.
    variable : str or None
        The variable of the program that stands for the function's values, if it has no expression.
    function : ConcaveFunction
        Whose values those are, of total data; in units of the program's own.
    """

    agents: IntArray
    value: cp.Expression
    variable: str | None
    function: ConcaveFunction


def declare_concave(
    program: Program, data: cp.Expression, utilities: Mapping[int, ConcaveFunction], typical_data: Array
) -> list[Worth]:
    """Declare concave utilities of agents; those that differ in weight and scale alone share one atom.

    Parameters
    ----------
    program : Program
        Gets variables ``utility_0`` and so on for functions without an expression.
    data : CVXPY expression, shape (n_agents,)
        Total data of each agent (records).
    utilities : mapping from agents to ConcaveFunction
    typical_data : array, shape (n_agents,)
        Amounts that are typical of ``data`` (records).
    """
    n_agents = typical_data.size
    weighted: dict[ConcaveFunction, list[tuple[int, float, float]]] = {}
    others: dict[Any, list[int]] = {}
    for agent, utility in utilities.items():
        if type(utility) in WEIGHTED:
            scaled: Any = utility.in_units_of(float(typical_data[agent]))
            shape = replace(scaled, weight=1.0, scale=1.0)
            weighted.setdefault(shape, []).append((agent, scaled.weight, scaled.scale))
        else:
            others.setdefault(_key(utility), []).append(agent)
    found = []
    for shape, entries in weighted.items():
        index, weight, scale = (np.array(column) for column in zip(*entries, strict=True))
        amount = cp.multiply(scale, selection(index, n_agents) @ data)
        found.append(Worth(index, cp.multiply(weight, shape.expression(amount)), None, shape))
    for number, members in enumerate(others.values()):
        agents = np.array(members, dtype=np.intp)
        name, size = f"utility_{number}", float(np.mean(typical_data[agents]))
        original = utilities[members[0]].in_units_of(size)
        unit = abs(float(original(size))) or 1.0
        function = ScaledFunction(original, 1 / unit)
        value = unit * function.declare(program, name, selection(agents, n_agents) @ data, scale=1.0)
        found.append(Worth(agents, value, None if function.has_expression else name, function))
    return found


def selection(chosen: IntArray, n_agents: int) -> sp.csr_matrix:
    """Matrix that takes the entries of the chosen agents out of a vector over all."""
    return sp.csr_matrix(
        (np.ones(chosen.size), (np.arange(chosen.size), chosen)), shape=(chosen.size, n_agents)
    )


def _key(utility: ConcaveFunction) -> Any:
    """What equal utilities share: themselves, or their identity if they have no hash."""
    try:
        hash(utility)
    except TypeError:
        return id(utility)
    return utility
