"""Instances of joining games for claims, and the same games by the definitions, with loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations, product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.data_externality.groups import ExchangeableGroups
from mechopt.formulations.data_externality.model import DataExternality

Array = NDArray[np.float64]
Rng = np.random.Generator
Matrix = tuple[tuple[float, ...], ...]
Users = frozenset[int]
Joining = tuple[int, ...]


@dataclass(frozen=True)
class JoiningCase:
    """Users whose services add up: c_i(J) = alone_i + sum of company_ij over the others j in J."""

    covariance: Matrix
    value: tuple[float, ...]
    alone: tuple[float, ...] = ()
    company: Matrix = ()
    spillover: float = 0.0

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.value)

    def service(self, user: int, joined: Users) -> float:
        """What a platform's service is worth to a user."""
        if user not in joined or not self.alone:
            return 0.0
        others = sum(self.company[user][other] for other in joined - {user}) if self.company else 0.0
        return self.alone[user] + others

    @cached_property
    def model(self) -> DataExternality:
        """The mechanism."""
        constant = np.array(self.alone) if self.alone else None
        return DataExternality(
            np.array(self.covariance),
            np.array(self.value),
            spillover=self.spillover,
            joining_utility=self.service if self.company else constant,
        )

    @property
    def scale(self) -> float:
        """Size of what is at stake in data: the sum of variances."""
        return float(np.trace(self.covariance))


@dataclass(frozen=True)
class GroupCase:
    """Groups of users who are alike."""

    sizes: tuple[int, ...]
    within: tuple[float, ...]
    across: Matrix
    variances: tuple[float, ...]
    value: tuple[float, ...]
    spillover: float = 0.0

    @cached_property
    def groups(self) -> ExchangeableGroups:
        """The mechanism."""
        return ExchangeableGroups(
            np.array(self.sizes),
            np.array(self.within),
            np.array(self.across),
            np.array(self.variances),
            np.array(self.value),
            spillover=self.spillover,
        )


# ------------------------------------------------------------ by the definitions


class ByDefinition:
    """Stages 1 to 3 of a case by trying everything."""

    def __init__(self, case: JoiningCase, n_platforms: int = 2) -> None:
        self.case, self.n_platforms = case, n_platforms
        self.covariance = np.array(case.covariance)
        self._bought: dict[Users, Users] = {}
        self._leaked: dict[Users, Array] = {}

    def leaked(self, sharers: Users) -> Array:
        """Information about each user, by conditioning on one user's data after the other."""
        if sharers not in self._leaked:
            left = self.covariance
            for user in sharers:
                left = left - np.outer(left[user], left[user]) / (1 + left[user, user])
            self._leaked[sharers] = np.diag(self.covariance - left)
        return self._leaked[sharers]

    def price(self, sharers: Users, user: int) -> float:
        """Least price at which a user is content to share, eq. (3)."""
        more = self.leaked(sharers)[user] - self.leaked(sharers - {user})[user]
        return float(self.case.value[user] * more)

    def profit(self, joined: Users, sharers: Users) -> float:
        """Information about members, and by the spillover's weight about others, less payments."""
        info = self.leaked(sharers)
        worth = sum(info[i] * (1.0 if i in joined else self.case.spillover) for i in range(len(info)))
        return float(worth - sum(self.price(sharers, user) for user in sharers))

    def bought(self, joined: Users) -> Users:
        """The set of most profit; of equal ones the largest."""
        if joined not in self._bought:
            profits = {a: self.profit(joined, a) for a in subsets(joined)}
            best = max(profits.values())
            self._bought[joined] = max((a for a, x in profits.items() if x >= best - 1e-10), key=len)
        return self._bought[joined]

    def parts(self, joining: Joining) -> list[Users]:
        """Users of each platform."""
        return [
            frozenset(i for i, label in enumerate(joining) if label == platform)
            for platform in range(1, self.n_platforms + 1)
        ]

    def payoff(self, joining: Joining, user: int) -> float:
        """What a user gets: price, leaks to all platforms, service."""
        total = 0.0
        for joined in self.parts(joining):
            sharers = self.bought(joined)
            weight = 1.0 if user in joined else self.case.spillover
            total -= weight * self.case.value[user] * self.leaked(sharers)[user]
            total += self.price(sharers, user) if user in sharers else 0.0
            total += self.case.service(user, joined)
        return float(total)

    def gain(self, joining: Joining, user: int, platform: int) -> float:
        """What a user gains by another platform, or by none (0)."""
        moved = (*joining[:user], platform, *joining[user + 1 :])
        return self.payoff(moved, user) - self.payoff(joining, user)

    def best_gain(self, joining: Joining) -> float:
        """Most that a user gains by another platform."""
        return max(
            self.gain(joining, user, platform)
            for user in range(self.case.n_users)
            for platform in range(1, self.n_platforms + 1)
            if platform != joining[user]
        )

    def profiles(self) -> list[Joining]:
        """All joining profiles in which all join."""
        return list(product(range(1, self.n_platforms + 1), repeat=self.case.n_users))

    def equilibria(self) -> list[Joining]:
        """Pure joining equilibria."""
        return [joining for joining in self.profiles() if self.best_gain(joining) <= 1e-9]

    def surplus(self, joining: Joining, sharing: Users | None = None, *, services: bool = True) -> float:
        """Social surplus, with what platforms buy, or with these users sharing."""
        total = 0.0
        for joined in self.parts(joining):
            info = self.leaked(self.bought(joined) if sharing is None else sharing & joined)
            for i, value in enumerate(self.case.value):
                total += (1 - value) * info[i] * (1.0 if i in joined else self.case.spillover)
                total += self.case.service(i, joined) if services else 0.0
        return float(total)

    def mixed_surplus(self, *, services: bool = True) -> float:
        """Mean surplus over all profiles."""
        return float(np.mean([self.surplus(joining, services=services) for joining in self.profiles()]))

    def first_best(self) -> float:
        """Most social surplus of all joining and sharing profiles."""
        everyone = subsets(frozenset(range(self.case.n_users)))
        return max(self.surplus(joining, sharing) for joining in self.profiles() for sharing in everyone)


def subsets(users: Users) -> list[Users]:
    """All subsets."""
    ordered = sorted(users)
    return [
        frozenset(chosen)
        for chosen in chain.from_iterable(combinations(ordered, size) for size in range(len(ordered) + 1))
    ]


# ------------------------------------------------------------ instances


def matrix(array: ArrayLike) -> Matrix:
    """An array as nested tuples of rounded numbers, which can be pasted."""
    return tuple(tuple(float(x) for x in row) for row in np.asarray(array, dtype=float))


def random_covariance(rng: Rng, n: int) -> Array:
    """A covariance of n users, of any signs."""
    factor = rng.normal(size=(n, int(rng.choice([max(n // 2, 1), n, 2 * n]))))
    return np.asarray(np.round(factor @ factor.T / factor.shape[1] + 0.05 * np.eye(n), 6))


def positive_covariance(rng: Rng, n: int) -> Array:
    """A covariance of an MTP2 law: its inverse has no positive entry off the diagonal."""
    off = rng.uniform(0, 1, (n, n)) * (rng.uniform(size=(n, n)) < 0.7)
    off = np.triu(off, 1) + np.triu(off, 1).T
    precision = np.diag(off.sum(axis=1) + rng.uniform(0.1, 0.5, n)) - off
    return np.asarray(np.linalg.inv(precision))


def random_case(
    rng: Rng,
    n: int,
    *,
    most: float = 2.0,
    network: bool = True,
    spillover: float = 0.0,
    covariance: Array | None = None,
    value: ArrayLike | None = None,
    company: tuple[float, float] = (0.01, 0.3),
) -> JoiningCase:
    """Draw a case; with ``network`` services grow with company and are worth more than all leaks."""
    covariance = random_covariance(rng, n) if covariance is None else covariance
    value = np.round(rng.uniform(0, most, n), 3) if value is None else np.asarray(value)
    alone = 1 + np.ceil(np.max(value * np.diag(covariance)))
    return JoiningCase(
        matrix(covariance),
        tuple(map(float, value)),
        (float(alone),) * n,
        matrix(np.round(rng.uniform(*company, (n, n)), 4)) if network else (),
        spillover,
    )


def joining_cases(
    *sizes: int,
    worked: tuple[JoiningCase, ...] = (),
    most: float = 2.0,
    network: bool | None = None,
    spillovers: tuple[float, ...] = (0.0,),
    positive: bool = False,
) -> Callable[[Rng, int], Iterator[JoiningCase]]:
    """Make a family of so many users in turn, with network effects, without, or every other time (None)."""

    def family(rng: Rng, n: int) -> Iterator[JoiningCase]:
        yield from worked[:n]
        for turn in range(n - len(worked)):
            size = sizes[turn % len(sizes)]
            yield random_case(
                rng,
                size,
                most=most,
                network=bool(turn % 2) if network is None else network,
                spillover=spillovers[turn % len(spillovers)],
                covariance=positive_covariance(rng, size) if positive else None,
            )

    return family


def isolated_high(rng: Rng, spillover: float = 0.0) -> JoiningCase:
    """Draw a case in which users of high value are correlated with nobody."""
    n_low = int(rng.integers(1, 4))
    n = max(2, n_low + int(rng.integers(0, 2)))
    covariance = np.diag(np.round(rng.uniform(0.2, 2, n), 6))
    covariance[:n_low, :n_low] = random_covariance(rng, n_low)
    value = np.round(np.where(np.arange(n) < n_low, rng.uniform(0.05, 1, n), rng.uniform(1.1, 3, n)), 3)
    # Network effects of the size of what leaks, so that both outcomes occur.
    return random_case(
        rng,
        n,
        covariance=covariance,
        value=value,
        spillover=spillover,
        company=(0.001, float(rng.choice([0.02, 0.3]))),
    )


def leaking_high(rng: Rng, spillover: float = 0.0) -> JoiningCase:
    """Draw a case in which a user of high value, correlated with low ones, values privacy much."""
    n = int(rng.integers(2, 5))
    # From just above 1, where all sharing may be best, to where the theorem must say no.
    value = np.append(np.round(rng.uniform(0.6, 1, n - 1), 3), np.round(1 + 10 ** rng.uniform(-2, 4), 3))
    return random_case(rng, n, value=value, spillover=spillover)


def bought_high(rng: Rng, spillover: float = 0.0) -> JoiningCase:
    """Draw a case in which users of high value are correlated with each other only."""
    n_low, n_high = int(rng.integers(1, 3)), int(rng.integers(2, 4))
    n = n_low + n_high
    covariance = np.zeros((n, n))
    covariance[:n_low, :n_low] = random_covariance(rng, n_low)
    covariance[n_low:, n_low:] = random_covariance(rng, n_high)
    value = np.round(
        np.append(rng.uniform(0.1, 1, n_low), rng.uniform(1.01, float(rng.choice([1.2, 2.5])), n_high)), 3
    )
    return random_case(
        rng,
        n,
        covariance=covariance,
        value=value,
        spillover=spillover,
        company=(0.001, float(rng.choice([0.02, 0.3]))),
    )


def drawn(
    draw: Callable[[Rng, float], JoiningCase],
    *,
    spillovers: tuple[float, ...] = (0.0,),
    worked: tuple[JoiningCase, ...] = (),
) -> Callable[[Rng, int], Iterator[JoiningCase]]:
    """Make a family of one of the three kinds above."""

    def family(rng: Rng, n: int) -> Iterator[JoiningCase]:
        yield from worked[:n]
        for turn in range(n - len(worked)):
            yield draw(rng, spillovers[turn % len(spillovers)])

    return family


def with_high_values(
    rng: Rng, n: int, spillovers: tuple[float, ...], worked: tuple[JoiningCase, ...]
) -> Iterator[JoiningCase]:
    """Yield cases in which low values are near 1, and high ones large: where Theorem 4 is at stake."""
    yield from worked[:n]
    for turn in range(n - len(worked)):
        size = 4
        n_low = int(rng.integers(1, size))
        value = np.append(rng.uniform(0.9, 1, n_low), rng.uniform(5, 50, size - n_low))
        yield random_case(
            rng,
            size,
            covariance=random_covariance(rng, size) * float(rng.choice([1, 100])),
            value=np.round(value, 3),
            network=False,
            spillover=spillovers[turn % len(spillovers)],
        )


# ------------------------------------------------------------ worked examples


def equicorrelated(r: float, value: tuple[float, ...], n: int = 2) -> JoiningCase:
    """Users of unit variance and the same correlation, without services."""
    return JoiningCase(matrix(np.full((n, n), r) + (1 - r) * np.eye(n)), value)


def example_1(with_0: float = 0.06, with_1: float = 0.5, value: float = 1.1) -> JoiningCase:
    """Example 1, with covariances of user 2, and its value of privacy."""
    covariance = ((4.0, 0.05, with_0), (0.05, 4.0, with_1), (with_0, with_1, 0.3))
    return JoiningCase(covariance, (0.01, 0.99, value))


SUPPRESSED = JoiningCase(((100.0, 50.0, 0.0), (50.0, 100.0, 80.0), (0.0, 80.0, 100.0)), (8.0, 0.0, 0.0))
"""User 0 is told about by user 1, and twice as much by 1 and 2 together: Theorem 4 fails."""

UNLIKE_COMPANY = JoiningCase(((1.0, 0.8), (0.8, 1.0)), (0.9, 0.9), (2.0, 2.0), ((0.0, 1.0), (0.01, 0.0)))
"""User 0 likes company more than it fears what leaks, user 1 less: low values, and no pure equilibrium."""


def divided(value: float, spillover: float = 0.0) -> JoiningCase:
    """User 2, of this value, is told about by user 0, who is better off with user 1."""
    alone = max(500.0, 100 * float(np.ceil(value / 80)))
    return JoiningCase(
        ((1.0, 0.6, 0.3), (0.6, 1.0, 0.0), (0.3, 0.0, 1.0)),
        (0.5, 0.5, value),
        (alone,) * 3,
        ((0.0, 1.0, 0.005), (1.0, 0.0, 0.005), (0.005, 0.005, 0.0)),
        spillover,
    )


def example_3_case(correlation: float, high_value: float) -> GroupCase:
    """Example 3 as an instance; it need not be possible."""
    return GroupCase(
        (10, 10), (0.05, 0.05), matrix(np.full((2, 2), correlation)), (1.0, 1.0), (0.9, high_value)
    )
