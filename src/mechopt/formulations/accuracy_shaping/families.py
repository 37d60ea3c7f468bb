"""Instances on which the claims about accuracy shaping are run: worked examples, then random ones.

All parameters are short decimals, so that a counterexample can be read, copied and recomputed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.accuracy_shaping.cost_screening.model import CostScreening
from mechopt.formulations.accuracy_shaping.model import AccuracyShaping
from mechopt.formulations.functions import (
    AccuracyFunction,
    GeneralizationBound,
    PowerLawAccuracy,
    SqrtAccuracy,
)

Array = NDArray[np.float64]
Rng = np.random.Generator
AccuracyKind = Literal["sqrt", "bound", "power"]


def short(number: float) -> float:
    """Round to three digits."""
    return float(f"{number:.3g}")


@dataclass(frozen=True)
class Case:
    """Agents of known costs, in short decimals."""

    accuracy: AccuracyFunction
    costs: tuple[float, ...]
    seed_data: float = 0.0

    def shaping(self) -> AccuracyShaping:
        """Build the mechanism."""
        return AccuracyShaping(self.accuracy, np.array(self.costs), self.seed_data)

    @property
    def viable(self) -> bool:
        """Whether somebody collects data alone."""
        return min(self.costs) < self.accuracy.viability_cost


@dataclass(frozen=True)
class EqualCase:
    """So many agents of one cost."""

    accuracy: SqrtAccuracy
    cost: float
    n_agents: int

    def shaping(self) -> AccuracyShaping:
        """Build the mechanism."""
        return AccuracyShaping(self.accuracy, np.full(self.n_agents, self.cost))


@dataclass(frozen=True)
class OthersCase:
    """One agent, the data of the others, and the incentive margin."""

    accuracy: AccuracyFunction
    cost: float
    others_data: float
    margin: float = 0.0


@dataclass(frozen=True)
class TypeCase:
    """An agent of private cost, in short decimals; probabilities are ``weights`` over their sum."""

    accuracy: AccuracyFunction
    costs: tuple[float, ...]
    weights: tuple[int, ...]
    others_data: float = 0.0

    @property
    def probs(self) -> Array:
        """Probability of each type, shape (n_types,)."""
        return np.array(self.weights) / sum(self.weights)

    def screening(self, others_data: float | None = None) -> CostScreening:
        """Build the mechanism, with other data of others if so asked."""
        others = self.others_data if others_data is None else others_data
        return CostScreening(self.accuracy, np.array(self.costs), self.probs, others)


UNIT = SqrtAccuracy(max_accuracy=1.0, difficulty=1.0)
"""The accuracy 1 - 2 / sqrt(m), viable alone below the cost 1/27."""

MIXED = Case(UNIT, (0.01, 0.02, 0.05))
"""Two agents that are viable alone, and one that is not."""

HARD = Case(UNIT, (0.1, 0.1, 0.1))
"""Nobody is viable alone, and together they are."""

WORKED = (
    MIXED,
    HARD,
    Case(UNIT, (0.05, 0.05)),
    Case(UNIT, (0.01,)),
    Case(SqrtAccuracy(0.95, 10.0), (0.0001, 0.0002, 0.0005)),
    Case(UNIT, (0.1, 0.1)),
)
"""Among them a lower root that is an equilibrium, one that is not, and too few agents for a pool."""

TYPES = (
    TypeCase(UNIT, (0.01, 0.015), (1, 1), 20.0),
    TypeCase(UNIT, (0.01, 0.012), (1, 1), 100.0),
    TypeCase(UNIT, (0.05, 0.08), (3, 7), 60.0),
    TypeCase(UNIT, (0.01, 0.019), (1, 1), 200.0),
    TypeCase(UNIT, (0.00127, 0.00276), (1, 1), 0.432),
    TypeCase(UNIT, (0.00255, 0.0042), (9, 91), 1.42),
)
"""Two types: the corrections of (15), (16) and of Theorem B.3 are among them."""

BUNCHING = TypeCase(UNIT, (0.01, 0.015, 0.03, 0.05), (1, 1, 1, 1), 100.0)
"""Four types, of whom the two cheapest share a contract."""


DOUBLED = TypeCase(UNIT, (0.01, 0.02), (1, 1), 100.0)
"""Example B.4."""


def random_accuracy(rng: Rng, kind: AccuracyKind) -> AccuracyFunction:
    """Draw a limit in [.5, 1] and a difficulty in [.1, 1000]."""
    top, difficulty = round(float(rng.uniform(0.5, 1)), 2), short(10 ** rng.uniform(-1, 3))
    if kind == "sqrt":
        return SqrtAccuracy(top, difficulty)
    if kind == "bound":
        return GeneralizationBound(top, difficulty)
    return PowerLawAccuracy(
        short(2 * difficulty**0.25), round(float(rng.uniform(0.3, 0.8)), 2), round(1 - top, 2)
    )


def random_case(
    rng: Rng,
    kind: AccuracyKind = "sqrt",
    *,
    low: float = -1.5,
    high: float = 1.5,
    min_agents: int = 1,
    max_agents: int = 10,
    seeded: bool = False,
) -> Case:
    """Draw costs around the viability cost, c = c_max 10 ** U(low, high)."""
    accuracy = random_accuracy(rng, kind)
    n_agents = int(rng.integers(min_agents, max_agents + 1))
    costs = accuracy.viability_cost * 10 ** rng.uniform(low, high, n_agents)
    seed = short(accuracy.viability_data * 10 ** rng.uniform(-1.5, 0.5)) if seeded else 0.0
    return Case(accuracy, tuple(short(float(cost)) for cost in costs), seed)


def cases(
    *kinds: AccuracyKind,
    worked: tuple[Case, ...] = WORKED,
    suits: Callable[[Case], bool] = lambda case: True,
    low: float = -1.5,
    high: float = 1.5,
    min_agents: int = 1,
    max_agents: int = 10,
    seeded: bool = False,
) -> Callable[[Rng, int], Iterator[Case]]:
    """Make a family of agents with known costs.

    Parameters
    ----------
    *kinds : str
        Accuracies to draw from, in turn; default ``"sqrt"``.
    worked : tuple of Case
        Examples that come first, as far as they suit.
    suits : callable
        Hypothesis of the claim: other draws are thrown away.
    low, high, min_agents, max_agents, seeded
        See `random_case`.
    """
    kinds = kinds or ("sqrt",)
    size = {"min_agents": min_agents, "max_agents": max_agents}

    def draw(rng: Rng) -> Iterator[Case]:
        turn = 0
        while True:
            case = random_case(rng, kinds[turn % len(kinds)], low=low, high=high, seeded=seeded, **size)
            if suits(case):
                turn += 1
                yield case

    def family(rng: Rng, n: int) -> Iterator[Case]:
        first = [case for case in worked if suits(case) and len(case.costs) >= min_agents][:n]
        yield from first
        yield from islice(draw(rng), n - len(first))

    return family


def equal_cases(
    low: float, high: float, *, worked: tuple[EqualCase, ...] = (), max_agents: int = 100
) -> Callable[[Rng, int], Iterator[EqualCase]]:
    """Make a family of equal agents, c = c_max 10 ** U(low, high)."""

    def family(rng: Rng, n: int) -> Iterator[EqualCase]:
        yield from worked[:n]
        for _ in range(n - len(worked)):
            accuracy = random_accuracy(rng, "sqrt")
            assert isinstance(accuracy, SqrtAccuracy)
            cost = accuracy.viability_cost * 10 ** rng.uniform(low, high)
            n_agents = round(10 ** rng.uniform(0, np.log10(max_agents)))
            yield EqualCase(accuracy, short(cost), n_agents)

    return family


def others_cases(
    *kinds: AccuracyKind, margins: bool = True, low: float = -1.5, high: float = 1.5
) -> Callable[[Rng, int], Iterator[OthersCase]]:
    """Make a family of single agents among others: their data from far too few for a model to plenty."""

    def family(rng: Rng, n: int) -> Iterator[OthersCase]:
        yield from (OthersCase(UNIT, 0.05, 3.0), OthersCase(UNIT, 0.01, 0.5), OthersCase(UNIT, 0.05, 2.0))[:n]
        for turn in range(n - 3):
            accuracy = random_accuracy(rng, kinds[turn % len(kinds)])
            cost = short(accuracy.viability_cost * 10 ** rng.uniform(low, high))
            margin = short(cost * 10 ** rng.uniform(-4, -0.5)) if margins and turn % 2 else 0.0
            others = short(accuracy.min_viable_data * 10 ** rng.uniform(-1, 2))
            yield OthersCase(accuracy, cost, others, margin)

    return family


def random_types(
    rng: Rng,
    kind: AccuracyKind = "sqrt",
    *,
    n_types: int = 2,
    low: float = -1.5,
    high: float = 0.5,
    least: float = -1.0,
    most: float = 2.0,
) -> TypeCase:
    """Draw rising costs from c_max 10 ** U(low, high), and others' data from m_min 10 ** U(least, most)."""
    accuracy = random_accuracy(rng, kind)
    cost = short(accuracy.viability_cost * 10 ** rng.uniform(low, high))
    costs = [cost]
    while len(costs) < n_types:
        costs.append(short(costs[-1] * 10 ** rng.uniform(0.05, 0.5)))
    weights = tuple(int(w) for w in rng.integers(1, 20, n_types))
    others = short(accuracy.min_viable_data * 10 ** rng.uniform(least, most))
    return TypeCase(accuracy, tuple(costs), weights, others)


def type_cases(
    *kinds: AccuracyKind,
    worked: tuple[TypeCase, ...] = TYPES,
    suits: Callable[[TypeCase], bool] = lambda case: True,
    max_types: int = 2,
    low: float = -1.5,
    high: float = 0.5,
    least: float = -1.0,
    most: float = 2.0,
) -> Callable[[Rng, int], Iterator[TypeCase]]:
    """Make a family of private costs; see `cases` and `random_types`, of two to ``max_types`` types."""
    kinds = kinds or ("sqrt",)
    ranges = {"low": low, "high": high, "least": least, "most": most}

    def draw(rng: Rng) -> Iterator[TypeCase]:
        turn = 0
        while True:
            n_types = int(rng.integers(2, max_types + 1))
            case = random_types(rng, kinds[turn % len(kinds)], n_types=n_types, **ranges)
            if suits(case):
                turn += 1
                yield case

    def family(rng: Rng, n: int) -> Iterator[TypeCase]:
        first = [case for case in worked if suits(case)][:n]
        yield from first
        yield from islice(draw(rng), n - len(first))

    return family
