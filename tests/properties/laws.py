"""What a wing must provide for the laws of `test_laws.py`, and the comparison that all laws use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import cvxpy as cp
import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import mechopt as mo

Array = NDArray[np.float64]
Order = NDArray[np.intp]

LAWS = ("money", "permutation", "alone", "free_data", "limits", "prices", "slack")

EXACT = 1e-9
"""Relative, between answers of a mechanism's own algorithm: roots to about 1e-12, times a condition."""
ROUNDING = 1e-12
"""Relative, where both sides are the same few additions and divisions."""
CONIC = 1e-6
"""Relative to the objective: what solvers are asked for, and what our own check holds them to."""
LIMIT = 1e-4
"""Relative, between a limit and an instance that is 1e-6 or less away from it."""

examples = settings(
    derandomize=True,  # the same instances in every run: no flaky test, no database
    database=None,
    deadline=None,
    max_examples=20,
    phases=(
        Phase.generate,
    ),  # shrinking repeats slow solves for minutes: pass Phase.shrink to look into a failure
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
few_examples = settings(examples, max_examples=5)
"""For laws that solve several programs an instance."""
fewer_examples = settings(examples, max_examples=3)
"""For mixed-integer programs."""


@dataclass(frozen=True)
class Part:
    """One thing that a mechanism decides: in money or not, and by agent along its first ``axes`` axes.

    What is not ``unique`` may differ between two answers that are equally good.
    """

    value: Any
    money: bool = False
    axes: int = 0
    unique: bool = True


Outcome = Mapping[str, Part]


@dataclass(frozen=True)
class Expected:
    """Two sides that should be equal, to a tolerance relative to ``size`` (the larger side by default)."""

    what: str
    got: Any
    wanted: Any
    tolerance: float = EXACT
    size: float | None = None

    def check(self) -> None:
        """Fail unless the sides are equal."""
        got, wanted = np.asarray(self.got, dtype=float), np.asarray(self.wanted, dtype=float)
        assert got.shape == wanted.shape, self
        assert np.all(np.isfinite(got)), self
        assert np.all(np.isfinite(wanted)), self
        size = max(np.max(np.abs(got), initial=0.0), np.max(np.abs(wanted), initial=0.0))
        size = size if self.size is None else self.size
        difference = float(np.max(np.abs(got - wanted), initial=0.0))
        assert difference <= self.tolerance * size, f"{self}: {difference} of {size}"


@dataclass(frozen=True)
class Bounded:
    """A convex program, and a quantity of it that a user may bound.

    Attributes
    ----------
    declare : callable
        Returns the program, declared anew.
    name : str
        The variable or expression whose weighted sum is bounded.
    weights : float or array
    upper : bool
        Whether the bound is from above.
    backend : str
    binding : float
        Share of the unbounded optimum's value at which the bound binds.
    also : tuple of str
        Backends that must know its price too.
    """

    declare: Callable[[], mo.Program]
    name: str
    weights: Any = 1.0
    upper: bool = True
    backend: str = "clarabel"
    binding: float = 0.7
    also: tuple[str, ...] = ()

    def value(self, solution: mo.Solution) -> float:
        """Bounded quantity at a solution."""
        return float(np.sum(self.weights * solution[self.name]))

    def with_bound(self, bound: float) -> mo.Program:
        """Return the program with the family ``bound``."""
        program = self.declare()
        total = program[self.name]
        if total.shape:  # exact algorithms know the bare expressions only
            total = cp.sum(cp.multiply(self.weights, total))
        return program.add("bound", total <= bound if self.upper else total >= bound)


@dataclass(frozen=True)
class Wing:
    """A mechanism with what the laws need of it; a law for which something is missing has a reason.

    Attributes
    ----------
    name : str
    mechanisms : strategy
        Draws mechanisms.
    outcome : callable
        ``outcome(mechanism)``: what it decides, by its own algorithm.
    in_money : callable, optional
        ``in_money(mechanism, factor)``: the same with every amount of money times the factor.
    money_factor : float
        The factor that is taken: ten, or a tenth where amounts are accuracies, at most 1.
    permuted : callable, optional
        ``permuted(mechanism, order)``: agent i is the former agent ``order[i]``.
    worth : callable, optional
        ``worth(mechanism, values)``: the objective of an answer, by the definition.
    n_agents : callable, optional
    alone, free_data, limits : callable, optional
        From a mechanism to what is expected of it with one agent or type, with data that costs nothing, and
        in limits of its parameters.
    bounded : callable, optional
        From a mechanism to a program and what to bound in it; for prices and slack families.
    unpriced : callable, optional
        The same for programs without prices, which only the slack law is about.
    reasons : mapping from laws to str
        Why a law does not hold, or says nothing.
    """

    name: str
    mechanisms: st.SearchStrategy[Any]
    outcome: Callable[[Any], Outcome]
    in_money: Callable[[Any, float], Any] | None = None
    money_factor: float = 10.0
    permuted: Callable[[Any, Order], Any] | None = None
    worth: Callable[[Any, Mapping[str, Any]], float] | None = None
    n_agents: Callable[[Any], int] | None = None
    alone: Callable[[Any], Iterator[Expected]] | None = None
    free_data: Callable[[Any], Iterator[Expected]] | None = None
    limits: Callable[[Any], Iterator[Expected]] | None = None
    bounded: Callable[[Any], Bounded] | None = None
    unpriced: Callable[[Any], Bounded] | None = None
    tolerance: float = EXACT
    reasons: Mapping[str, str] = field(default_factory=dict)

    def obeys(self, law: str) -> bool:
        """Whether the law is tested for this wing."""
        needed = {
            "money": self.in_money,
            "permutation": self.permuted,
            "alone": self.alone,
            "free_data": self.free_data,
            "limits": self.limits,
            "prices": self.bounded,
            "slack": self.bounded or self.unpriced,
        }
        return needed[law] is not None


def values(outcome: Outcome) -> dict[str, Any]:
    """Return the bare values of an outcome."""
    return {name: part.value for name, part in outcome.items()}


def reordered(part: Part, order: Order) -> Any:
    """Return a part's value with agents in another order, as ``Wing.permuted`` orders them."""
    value = np.asarray(part.value)
    for axis in range(part.axes):
        value = np.take(value, order, axis=axis)
    return value


# ------------------------------------------------------------ strategies


def numbers(low: float, high: float, steps: int = 40) -> st.SearchStrategy[float]:
    """Draw from an even grid: numbers that are short, and often equal to one another."""
    return st.integers(0, steps).map(lambda k: float(f"{low + (high - low) * k / steps:.6g}"))


def increasing(low: float, high: float, most: int) -> st.SearchStrategy[tuple[float, ...]]:
    """Draw one to ``most`` different numbers of the grid, in increasing order."""
    return st.lists(numbers(low, high), min_size=1, max_size=most, unique=True).map(
        lambda x: tuple(sorted(x))
    )


def weights(n: int) -> st.SearchStrategy[Array]:
    """Draw probabilities in whole ratios."""
    return st.lists(st.integers(1, 9), min_size=n, max_size=n).map(lambda w: np.array(w) / sum(w))
