"""Instances on which the claims about platforms are run: worked examples, then random ones.

All parameters are short decimals, so that a counterexample can be read, copied and recomputed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.fair_value.platform.model import PlatformPayments, Selection

Array = NDArray[np.float64]
Rng = np.random.Generator


def short(number: float) -> float:
    """Round to three digits."""
    return float(f"{number:.3g}")


@dataclass(frozen=True)
class SharersCase:
    """Users whose data at the private level are worth nothing: U(0) = 0, ..., U(N), and one cost."""

    utility: tuple[float, ...]
    cost: float

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.utility) - 1

    def payments(self, selection: Selection = "symmetric") -> PlatformPayments:
        """Build the mechanism."""
        return PlatformPayments(np.array(self.utility), self.n_users, self.cost, selection)


@dataclass(frozen=True)
class LevelsCase:
    """Utility (1 + theta/N) x / (x + theta) of x = worth * n_private + n_sharing, and one cost.

    Each level counts, ``worth`` times as much at the private one; Assumptions 1 and 2 hold.
    """

    n_users: int
    worth: float
    cost: float
    theta: float = 2.0

    def utility(self, private: int, sharing: int) -> float:
        """Utility of so many users at either level."""
        x = self.worth * private + sharing
        return (1 + self.theta / self.n_users) * x / (x + self.theta)

    def payments(self, selection: Selection = "symmetric") -> PlatformPayments:
        """Build the mechanism."""
        return PlatformPayments(self.utility, self.n_users, self.cost, selection)


@dataclass(frozen=True)
class TableCase:
    """Any utility of counts: row n_private, of the utilities of 0, 1, ... sharers beside them."""

    table: tuple[tuple[float, ...], ...]
    probability: float
    cost: float = 0.1

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.table) - 1

    def utility(self, private: int, sharing: int) -> float:
        """Utility of so many users at either level."""
        return self.table[private][sharing]

    def payments(self, selection: Selection = "symmetric") -> PlatformPayments:
        """Build the mechanism."""
        return PlatformPayments(self.utility, self.n_users, self.cost, selection)


@dataclass(frozen=True)
class MeanCase:
    """The paper's Example 1: mean estimation by users of whom each offers privacy level 0 or epsilon."""

    n_users: int
    epsilon: float
    cost: float = 0.01

    def utility(self) -> Array:
        """Utility of 0, ..., N sharers, 1 for infinitely many without privacy."""
        n = np.arange(self.n_users + 1.0)
        x = n**2 * self.epsilon**2 / (12 + n * self.epsilon**2)
        return (self.n_users + 2) / self.n_users * x / (2 + x)

    def payments(self, selection: Selection = "symmetric") -> PlatformPayments:
        """Build the mechanism."""
        return PlatformPayments(self.utility(), self.n_users, self.cost, selection)


@dataclass(frozen=True)
class PairCase:
    """Two users with costs of their own; U(1) and U(2)."""

    one: float
    both: float
    cost_1: float
    cost_2: float

    def payments(self) -> PlatformPayments:
        """Build the mechanism."""
        return PlatformPayments([0.0, self.one, self.both], 2, [self.cost_1, self.cost_2], "optimistic")


@dataclass(frozen=True)
class ShareCase:
    """Two users with costs of their own, at a payment share."""

    one: float
    both: float
    cost_1: float
    cost_2: float
    share: float

    def payments(self) -> PlatformPayments:
        """Build the mechanism."""
        return PairCase(self.one, self.both, self.cost_1, self.cost_2).payments()


@dataclass(frozen=True)
class CostsCase:
    """Users with costs of their own, and U(0) = 0, ..., U(N)."""

    utility: tuple[float, ...]
    costs: tuple[float, ...]

    def payments(self) -> PlatformPayments:
        """Build the mechanism."""
        return PlatformPayments(np.array(self.utility), len(self.costs), np.array(self.costs), "optimistic")


WORKED = tuple(SharersCase((0.0, 0.6666666666666666, 1.0), cost) for cost in (0.5, 0.2, 0.4, 0.6, 0.7))
"""The paper's two users, in all three regimes."""

LEVELS = (
    LevelsCase(3, 0.1, 0.15),
    LevelsCase(3, 0.1, 0.24215),
    LevelsCase(3, 0.1, 0.252),
    LevelsCase(5, 0.3, 0.048),
    LevelsCase(3, 0.5, 0.003, 0.2),
)
"""Private data of some value: each regime, and a family without a middle one."""

PAIRS = tuple(
    PairCase(0.6666666666666666, 1.0, *costs)
    for costs in (
        (0.29, 0.3),
        (0.1, 0.1),
        (0.2, 0.25),
        (0.1, 0.3),
        (0.3, 0.1),
        (0.5, 0.4),
        (0.4, 0.5),
        (0.6, 0.9),
        (0.7, 0.8),
    )
)
"""Points of Fig. 7; the first is in the wedge where the cheap user mixes."""

Family = Callable[[Rng, int], Iterator[SharersCase]]


def random_sharers(rng: Rng, *, concave: bool = True, max_users: int = 12, min_users: int = 2) -> SharersCase:
    """Draw marginal utilities, falling if ``concave``, and a cost somewhat beyond their range."""
    n = int(rng.integers(min_users, max_users + 1))
    marginal = np.round(rng.uniform(0.02, 1, n), 3)
    if concave:
        marginal = np.sort(marginal)[::-1]
    utility = np.round(np.append(0.0, np.cumsum(marginal)), 3)
    return SharersCase(tuple(map(float, utility)), short(float(rng.uniform(0.01, 1.1 * marginal.max()))))


def sharers(
    *,
    worked: tuple[SharersCase, ...] = WORKED,
    concave: bool = True,
    max_users: int = 12,
    min_users: int = 2,
    suits: Callable[[SharersCase], bool] = lambda case: True,
) -> Family:
    """Make a family of users whose private data are worth nothing; see `random_sharers`."""

    def draw(rng: Rng) -> Iterator[SharersCase]:
        while True:
            case = random_sharers(rng, concave=concave, max_users=max_users, min_users=min_users)
            if suits(case):
                yield case

    def family(rng: Rng, n: int) -> Iterator[SharersCase]:
        first = [case for case in worked if suits(case)][:n]
        yield from first
        yield from islice(draw(rng), n - len(first))

    return family


def random_levels(rng: Rng, max_users: int = 6) -> LevelsCase:
    """Draw users whose private data have some value, and a cost up to that where nobody shares."""
    n = int(rng.integers(2, max_users + 1))
    worth, theta = short(float(rng.uniform(0.01, 0.4))), short(float(10 ** rng.uniform(-0.3, 0.8)))
    case = LevelsCase(n, worth, 1.0, theta)
    top = case.utility(n - 1, 1) - case.utility(n, 0)
    return LevelsCase(n, worth, short(float(top * rng.uniform(0.05, 1.2))), theta)


def levels(
    *, worked: tuple[LevelsCase, ...] = LEVELS, max_users: int = 6
) -> Callable[[Rng, int], Iterator[LevelsCase]]:
    """Make a family of users whose private data have some value."""

    def family(rng: Rng, n: int) -> Iterator[LevelsCase]:
        yield from worked[:n]
        for _ in range(n - len(worked)):
            yield random_levels(rng, max_users)

    return family


def tables(max_users: int = 5) -> Callable[[Rng, int], Iterator[TableCase]]:
    """Make a family of arbitrary utilities of counts, monotone or not."""

    def family(rng: Rng, n: int) -> Iterator[TableCase]:
        yield from (TableCase(((0.0, 0.667, 1.0), (0.2, 0.8), (0.4,)), 0.5),)[:n]
        for _ in range(n - 1):
            users = int(rng.integers(1, max_users + 1))
            rows = [rng.uniform(0, 1, users + 1 - private).round(2) for private in range(users + 1)]
            rows[0][0], rows[0][-1] = 0.0, 1.0
            table = tuple(tuple(map(float, row)) for row in rows)
            yield TableCase(table, short(float(rng.uniform(0, 1))), short(float(rng.uniform(0.01, 0.3))))

    return family


def pairs(worked: tuple[PairCase, ...] = PAIRS) -> Callable[[Rng, int], Iterator[PairCase]]:
    """Make a family of two users with diminishing returns, of whom a third have close costs."""

    def family(rng: Rng, n: int) -> Iterator[PairCase]:
        yield from worked[:n]
        for number in range(n - len(worked)):
            one = 0.6666666666666666 if number % 2 else short(float(rng.uniform(0.51, 0.95)))
            cost_1, cost_2 = rng.uniform(0.01, 1.05 * one, 2)
            if number % 3 == 0:
                cost_2 = cost_1 * rng.uniform(1, 1.1)
            yield PairCase(one, 1.0, short(float(cost_1)), short(float(cost_2)))

    return family


def shares_of_pairs() -> Callable[[Rng, int], Iterator[ShareCase]]:
    """Make a family of two users at a payment share."""

    def family(rng: Rng, n: int) -> Iterator[ShareCase]:
        yield from (ShareCase(0.6666666666666666, 1.0, 0.3, 0.32, 0.6),)[:n]
        for case in islice(pairs(())(rng, n), max(n - 1, 0)):
            yield ShareCase(case.one, case.both, case.cost_1, case.cost_2, short(float(rng.uniform(0.05, 1))))

    return family


def own_costs(max_users: int = 6) -> Callable[[Rng, int], Iterator[CostsCase]]:
    """Make a family of several users with costs of their own and concave utility."""

    def family(rng: Rng, n: int) -> Iterator[CostsCase]:
        yield from (CostsCase((0.0, 0.5, 0.8, 1.0, 1.1, 1.15), (0.1, 0.2, 0.05, 0.3, 0.07)),)[:n]
        for _ in range(n - 1):
            case = random_sharers(rng, max_users=max_users)
            costs = rng.uniform(0.01, case.utility[1], case.n_users)
            yield CostsCase(case.utility, tuple(short(float(cost)) for cost in costs))

    return family


def means(low: float, high: float, max_users: int = 10) -> Callable[[Rng, int], Iterator[MeanCase]]:
    """Make a family of mean estimations, epsilon uniform in a range; N = 2 and N = 3 first."""

    def family(rng: Rng, n: int) -> Iterator[MeanCase]:
        middle = short((low + high) / 2)
        yield from (MeanCase(2, middle), MeanCase(3, middle))[:n]
        for _ in range(n - 2):
            yield MeanCase(int(rng.integers(2, max_users + 1)), short(float(rng.uniform(low, high))))

    return family
