"""Instances on which the claims about the screening contract are run: worked examples, then random ones.

All parameters are short decimals and whole-numbered weights, so that a counterexample can be read, copied,
and recomputed in fractions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import ConcaveFunction, LogGain, PowerGain, QuadraticGain, SaturatingGain
from mechopt.formulations.screening.model import ScreeningContract
from mechopt.verification.evidence import fractions

Array = NDArray[np.float64]
Rng = np.random.Generator
GainKind = Literal["log", "power", "root", "saturating", "quadratic"]


@dataclass(frozen=True)
class Case:
    """A screening contract in short decimals; probabilities are ``weights`` over their sum."""

    types: tuple[float, ...]
    weights: tuple[int, ...]
    gain: ConcaveFunction
    unit_cost: float = 1.0

    @property
    def probs(self) -> Array:
        """Probability of each type, shape (n_types,)."""
        return np.array(self.weights) / sum(self.weights)

    def contract(self) -> ScreeningContract:
        """Build the mechanism."""
        return ScreeningContract(
            types=np.array(self.types), probs=self.probs, gain=self.gain, unit_cost=self.unit_cost
        )

    @property
    def exact_types(self) -> tuple[Fraction, ...]:
        """Types as fractions."""
        return fractions(self.types)

    @property
    def exact_hazards(self) -> tuple[Fraction, ...]:
        """Inverse hazard rate of each type, P_{k-1} (δ_k - δ_{k-1}) / p_k, in fractions; 0 for the first."""
        types, below, hazards = self.exact_types, 0, [Fraction(0)]
        for k in range(1, len(types)):
            below += self.weights[k - 1]
            hazards.append(Fraction(below, self.weights[k]) * (types[k] - types[k - 1]))
        return tuple(hazards)

    @property
    def exact_virtual_types(self) -> tuple[Fraction, ...]:
        """Virtual type φ_k of each type, in fractions."""
        return tuple(
            delta + hazard for delta, hazard in zip(self.exact_types, self.exact_hazards, strict=True)
        )


@dataclass(frozen=True)
class MenuCase:
    """Types and a menu in short decimals, not necessarily a good one."""

    types: tuple[float, ...]
    quantity: tuple[float, ...]
    payment: tuple[float, ...]
    unit_cost: float = 1.0

    def contract(self) -> ScreeningContract:
        """Build the mechanism that the menu is offered in."""
        return ScreeningContract(types=np.array(self.types), unit_cost=self.unit_cost)

    @property
    def menu(self) -> dict[str, Array]:
        """What an audit reads."""
        return {"quantity": np.array(self.quantity), "payment": np.array(self.payment)}


@dataclass(frozen=True)
class SlackCase:
    """An incentive compatible menu in which one local upward constraint is slack."""

    types: tuple[float, ...]
    quantity: tuple[float, ...]
    slack_at: int
    slack: Fraction
    unit_cost: float = 1.0


@dataclass(frozen=True)
class UniformCase:
    """Types uniform on [lo, hi], log gain."""

    lo: float
    hi: float
    gain: LogGain
    unit_cost: float = 1.0


PAPER = UniformCase(0.01, 0.21, LogGain(weight=100, scale=2))
"""The paper's numerical example, section VI."""

IRREGULAR = Case((1.0, 1.8, 1.9), (1, 1, 1), LogGain(weight=50, scale=2))
"""Equal probabilities, uneven types: the formula (42) rises."""

REGULAR_LOOKING = Case((0.1, 0.2, 0.3), (16, 4, 5), LogGain(weight=5, scale=1))
"""Virtual types and inverse hazard rates both rise, and the formula (42) rises too."""

WORKED = (
    Case((0.05, 0.09, 0.13, 0.17, 0.21), (1, 1, 1, 1, 1), PAPER.gain),
    IRREGULAR,
    REGULAR_LOOKING,
    Case((0.1, 0.4, 0.7, 1.0), (1, 1, 1, 1), LogGain(weight=1.2, scale=1)),
)
"""The paper's parameters on five types, two menus with pools, and one with types excluded."""


def grid(case: UniformCase, n_types: int, kind: Literal["paper", "right"]) -> Array:
    """Types at the left ends of equal cells (the paper's grid, without ``hi``) or at the right ends."""
    step = (case.hi - case.lo) / n_types
    first = 0 if kind == "paper" else 1
    return np.asarray(case.lo + step * np.arange(first, n_types + first), dtype=np.float64)


def cases(
    *kinds: GainKind,
    worked: tuple[Case, ...] = WORKED,
    equal: bool = False,
    suits: Callable[[Case], bool] = lambda case: True,
    max_types: int = 12,
) -> Callable[[Rng, int], Iterator[Case]]:
    """Make a family of contracts.

    Parameters
    ----------
    *kinds : str
        Gains to draw from, in turn; default log.
    worked : tuple of Case
        Examples that come first.
    equal : bool
        Whether all types are equally likely.
    suits : callable
        Hypothesis of the claim: other draws are thrown away.
    max_types : int
        Largest number of types.
    """
    kinds = kinds or ("log",)

    def draw(rng: Rng) -> Iterator[Case]:
        turn = 0
        while True:
            case = random_case(rng, kinds[turn % len(kinds)], equal=equal, max_types=max_types)
            if suits(case):
                turn += 1
                yield case

    def family(rng: Rng, n: int) -> Iterator[Case]:
        yield from worked[:n]
        yield from islice(draw(rng), max(0, n - len(worked)))

    return family


def random_case(rng: Rng, kind: GainKind = "log", *, equal: bool = False, max_types: int = 12) -> Case:
    """Draw uneven types in [.05, 1], lumpy weights, and r = weight * scale / cost in [1.26, 200]."""
    n_types = int(rng.integers(1, max_types + 1))
    types = np.round(np.sort(rng.uniform(0.05, 1, n_types)), 3) + 1e-3 * np.arange(1, n_types + 1)
    shares = rng.dirichlet(np.full(n_types, 0.7)) + 1e-3
    ratio, scale, unit_cost = 10 ** rng.uniform((0.1, -1, -1), (2.3, 1, 1))
    return Case(
        types=tuple(float(f"{delta:.3f}") for delta in types),
        weights=(1,) * n_types if equal else _whole(1000 * shares),
        gain=_random_gain(rng, kind, _short(ratio * unit_cost / scale), _short(scale)),
        unit_cost=_short(unit_cost),
    )


def _random_gain(rng: Rng, kind: GainKind, weight: float, scale: float) -> ConcaveFunction:
    if kind == "log":
        return LogGain(weight, scale)
    if kind == "saturating":
        return SaturatingGain(weight, scale)
    if kind == "quadratic":
        return QuadraticGain(weight, _short(weight / 10 ** rng.uniform(0, 1)), scale)
    return PowerGain(weight, scale, 0.5 if kind == "root" else round(rng.uniform(0.2, 0.8), 2))


def uniform_cases(rng: Rng, n: int) -> Iterator[UniformCase]:
    """Uniform types: the paper's numbers, one in which high types are excluded, then random ones."""
    yield from (PAPER, UniformCase(0.1, 1.0, LogGain(weight=1.8, scale=1)))[:n]
    for _ in range(n - 2):
        lo, (spread, ratio, scale, cost) = (
            rng.uniform(0.02, 0.3),
            rng.uniform((1.5, 0.1, -1, -1), (8, 2.3, 1, 1)),
        )
        weight = 10 ** (ratio + cost - scale)
        gain = LogGain(_short(weight), _short(10**scale))
        yield UniformCase(float(f"{lo:.3f}"), float(f"{lo * spread:.3f}"), gain, _short(10**cost))


def random_quantities(rng: Rng, n_types: int, *, monotone: bool) -> tuple[float, ...]:
    """Quantities of at most 100 with one decimal, ties included; sorted down, or in any order."""
    drawn = np.round(rng.uniform(0, 100, n_types), 1)
    drawn[rng.random(n_types) < 0.2] = drawn[0]
    return tuple(float(q) for q in (np.sort(drawn)[::-1] if monotone else drawn))


def _short(number: float) -> float:
    return float(f"{number:.3g}")


def _whole(shares: Array) -> tuple[int, ...]:
    weights = [max(1, round(float(share))) for share in shares]
    return tuple(weight // math.gcd(*weights) for weight in weights)
