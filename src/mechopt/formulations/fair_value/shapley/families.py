"""Instances on which the claims about fair values are run: worked examples, then random ones.

All parameters are short decimals, so that a counterexample can be read, copied and recomputed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.fair_value.shapley.model import FairValue

Array = NDArray[np.float64]
Rng = np.random.Generator

EXAMPLE = (0.0, 2 / 3, 2 / 3, 1.0)
"""The utility (10) of two users who estimate a mean, without privacy."""


@dataclass(frozen=True)
class TableCase:
    """Utility of all coalitions, bit i of the index telling whether user i is in, and the share paid out."""

    table: tuple[float, ...]
    share: float = 1.0

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.table).bit_length() - 1

    def fair(self, include_platform: bool = False) -> FairValue:
        """Build the mechanism; the share is for users alone."""
        share = 1.0 if include_platform else self.share
        return FairValue(np.array(self.table), include_platform=include_platform, payment_share=share)


@dataclass(frozen=True)
class SumCase:
    """Two utilities on the same coalitions, and the share paid out."""

    first: tuple[float, ...]
    second: tuple[float, ...]
    share: float = 1.0


@dataclass(frozen=True)
class PairCase:
    """Two users who share or do not: utility of one user's data and of both, and the share paid out."""

    one: float
    both: float
    share: float = 1.0

    def utility(self, levels: Array) -> float:
        """Utility at levels of both users, of which 0 is no data."""
        return (0.0, self.one, self.both)[int(np.count_nonzero(levels))]

    def values(self, include_platform: bool) -> tuple[Array, Array, Array]:
        """Matrices of the platform's and both users' values: rows user 1's choice, columns user 2's."""
        platform, first, second = np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2))
        for i, j in np.ndindex(2, 2):
            division = FairValue(
                self.utility,
                include_platform=include_platform,
                payment_share=1.0 if include_platform else self.share,
                privacy_levels=np.where([i, j], np.inf, 0.0),
            ).solve()
            platform[i, j] = division.platform_value
            first[i, j], second[i, j] = division.user_values
        return platform, first, second


@dataclass(frozen=True)
class GroupCase:
    """Users in groups: utility x / (x + half), x the weighted count of members."""

    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    half: float

    def fair(self, include_platform: bool) -> FairValue:
        """Build the mechanism."""

        def utility(counts: NDArray[np.int64]) -> Array:
            data = counts @ np.array(self.weights)
            return np.asarray(data / (data + self.half))

        return FairValue(utility, include_platform=include_platform, group_sizes=self.sizes, vectorized=True)


@dataclass(frozen=True)
class LevelCase:
    """Exchangeable users at these levels: utility x / (x + half), x the sum over users of level ** power."""

    levels: tuple[float, ...]
    power: float
    half: float

    def utility(self, levels: Array) -> float:
        """Utility at levels of all users."""
        data = float(np.sum(np.asarray(levels) ** self.power))
        return data / (data + self.half)


def tables(most: int, *, nobody: bool = False) -> Callable[[Rng, int], Iterator[TableCase]]:
    """Return instances of at most so many users; ``nobody``: whether nobody may be worth something."""

    def cases(rng: Rng, n: int) -> Iterator[TableCase]:
        known: tuple[TableCase, ...] = (
            TableCase(EXAMPLE),
            TableCase((0.0, 1.0)),
            TableCase((0.0, 0.5, 0.5, 1.0), 0.5),
            TableCase((0.0, 0.4, 0.0, 0.4, 0.3, 1.0, 0.3, 1.0), 0.5),  # user 1 adds nothing
        )
        if nobody:
            known = (TableCase((0.3, 0.7, 0.8, 1.2)), TableCase((1.0, 1.0), 0.5))
        yield from known[:n]
        for _ in range(n - len(known)):
            table = np.round(rng.uniform(-1, 2, 2 ** int(rng.integers(1, most + 1))), 2)
            table[-1] = round(float(rng.uniform(0.5, 2)), 2)
            if not nobody:
                table[0] = 0.0
            yield TableCase(tuple(table.tolist()), round(float(rng.uniform(0.1, 1)), 2))

    return cases


def sums(rng: Rng, n: int) -> Iterator[SumCase]:
    """Two utilities of up to three users, positive; first the example and an additive one."""
    yield from (SumCase(EXAMPLE, (0.0, 0.5, 0.5, 1.0), 0.5), SumCase((0.0, 1.0), (0.0, 2.0), 0.5))[:n]
    for _ in range(n - 2):
        pair = np.round(rng.uniform(0.1, 2, (2, 2 ** int(rng.integers(1, 4)))), 2)
        pair[:, 0] = 0.0
        first, second = (tuple(row) for row in pair.tolist())
        yield SumCase(first, second, round(float(rng.uniform(0.1, 0.9)), 2))


def pairs(rng: Rng, n: int) -> Iterator[PairCase]:
    """Two users alike: first the paper's example."""
    yield from (PairCase(2 / 3, 1.0), PairCase(2 / 3, 1.0, 0.5))[:n]
    for _ in range(n - 2):
        one = round(float(rng.uniform(0.2, 1)), 2)
        yield PairCase(one, round(one * float(rng.uniform(1, 2)), 2), round(float(rng.uniform(0.1, 1)), 2))


def grouped(rng: Rng, n: int) -> Iterator[GroupCase]:
    """Two or three groups, of up to 60 users each."""
    yield from (GroupCase((3, 4), (0.4, 1.0), 2.0), GroupCase((6,), (1.0,), 2.0))[:n]
    for _ in range(n - 2):
        g = int(rng.integers(2, 4))
        sizes = tuple(int(m) for m in rng.integers(1, 60, g))
        weights = tuple(round(float(w), 2) for w in rng.uniform(0.05, 3, g))
        yield GroupCase(sizes, weights, round(float(rng.uniform(0.5, 5)), 2))


def profiles(rng: Rng, n: int) -> Iterator[LevelCase]:
    """Exchangeable users, of whom at least two chose different levels > 0."""
    yield from (LevelCase((1.0, 2.0), 1.0, 2.0), LevelCase((1.0, 2.0, 2.0), 2.0, 1.0))[:n]
    for _ in range(n - 2):
        n_users = int(rng.integers(2, 6))
        levels = np.round(rng.uniform(0.1, 1, n_users), 2)
        levels[0] = round(levels[1] + float(rng.uniform(0.5, 2)), 2)
        power, half = rng.uniform(0.3, 2, 2)
        yield LevelCase(tuple(levels.tolist()), round(float(power), 2), round(float(half), 2))
