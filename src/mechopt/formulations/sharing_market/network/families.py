"""Instances of bilateral networks for claims: the paper's examples, all small ones, and random ones.

In all of them agent 0 is the best partner, agent 1 the next, and so on, where there is a common ranking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, combinations, islice

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import LogGain
from mechopt.formulations.sharing_market.network.model import SharingNetwork

Rng = np.random.Generator
Sets = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class RankedCase:
    """Rankings over sets of partners, best first."""

    rankings: tuple[Sets, ...]

    def network(self) -> SharingNetwork:
        """Return the mechanism."""
        return SharingNetwork([list(map(frozenset, sets)) for sets in self.rankings])


@dataclass(frozen=True)
class TableCase:
    """Utilities by the bit mask of the partners; entries of sets with the agent itself have no meaning."""

    utilities: tuple[tuple[float, ...], ...]

    def network(self) -> SharingNetwork:
        """Return the mechanism."""
        return SharingNetwork(np.array(self.utilities))


AnyCase = RankedCase | TableCase


@dataclass(frozen=True)
class SizeCase:
    """Gains weight * log(1 + total), minus linear * m + curve * m ** 2 for m partners."""

    data_size: tuple[float, ...]
    weights: tuple[float, ...]
    linear: tuple[float, ...]
    curve: tuple[float, ...]

    def network(self) -> SharingNetwork:
        """Return the mechanism."""
        counts = np.arange(len(self.data_size))
        return SharingNetwork(
            [LogGain(weight, 1.0) for weight in self.weights],
            data_size=self.data_size,
            count_costs=np.outer(self.linear, counts) + np.outer(self.curve, counts**2),
        )


@dataclass(frozen=True)
class PeakCase:
    """Utilities -(total - peak) ** 2 of total size: functions of size alone that fall beyond a peak."""

    data_size: tuple[float, ...]
    peaks: tuple[float, ...]

    def network(self) -> SharingNetwork:
        """Return the mechanism."""
        peaks = np.array(self.peaks)
        return SharingNetwork(lambda totals: -((totals - peaks) ** 2), data_size=self.data_size)


@dataclass(frozen=True)
class IdenticalCase:
    """Agents with one record each and utility log(1 + total) minus the cost of the number of partners."""

    count_costs: tuple[float, ...]

    def network(self) -> SharingNetwork:
        """Return the mechanism."""
        return SharingNetwork(
            np.log1p, data_size=np.ones(len(self.count_costs)), count_costs=self.count_costs
        )


@dataclass(frozen=True)
class PairCase:
    """Two agents: sharing costs the one ``loss``, and gives the other ``gain``."""

    loss: float
    gain: float

    def network(self) -> SharingNetwork:
        """Return the mechanism."""
        return SharingNetwork([{_set(): self.loss, _set(1): 0.0}, {_set(): 0.0, _set(0): self.gain}])


@dataclass(frozen=True)
class AllRankings:
    """All strict rankings of three agents with, or without, the two properties.

    Attributes
    ----------
    top_agent, complementarity : bool
        Which properties agents have.
    total, none : int
        How many instances there are, and how many have no strongly stable graph.
    """

    top_agent: bool
    complementarity: bool
    total: int
    none: int

    def cases(self) -> Iterator[RankedCase]:
        """All of them."""
        choices = [rankings(agent, 3, self.top_agent, self.complementarity) for agent in range(3)]
        return (RankedCase((a, b, c)) for a in choices[0] for b in choices[1] for c in choices[2])


def _set(*agents: int) -> frozenset[int]:
    return frozenset(agents)


def example_35(place: int) -> RankedCase:
    """Example 3.5; agent 1 (the paper's 2) does not rank sharing with 0 alone, which is put at this place."""
    unranked = [(0, 2), (), (2,)]
    unranked.insert(place, (0,))
    return RankedCase((((2,), (1,), (), (1, 2)), tuple(unranked), ((0, 1), (1,), (), (0,))))


EXAMPLE_35 = example_35(1)
"""Example 3.5 as it must be meant: complementarity is then limited, each agent by its own ranking."""

WITHOUT_COMPLEMENTARITY = RankedCase(
    (
        ((1,), (2,), (1, 2), ()),
        ((0, 2), (), (0,), (2,)),
        ((0, 1), (), (0,), (1,)),
    )
)
"""The second example that the paper announces: top agent property, and no stable graph."""

TIED = TableCase(
    (
        (0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.0),
        (0.0, 2.0, 0.0, 0.0, 1.0, 3.0, 0.0, 0.0),
        (0.0, 2.0, 1.0, 3.0, 0.0, 0.0, 0.0, 0.0),
    )
)
"""Agent 0 is indifferent to agent 1 alone, would not take 2 alone, and likes both."""

PEAKS = PeakCase((7.0, 5.0, 3.0), (12.116, 9.2005, 11.2277))
SAME = IdenticalCase((0.0, 0.2, 0.6))


# ------------------------------------------------------------ rankings over sets


def _subsets(agents: tuple[int, ...]) -> Sets:
    return tuple(chain.from_iterable(combinations(agents, size) for size in range(len(agents) + 1)))


def dominates(better: tuple[int, ...], worse: tuple[int, ...]) -> bool:
    """Whether a set arises from one of the same size by taking higher agents, one for one."""
    if len(better) != len(worse) or better == worse:
        return False
    return all(a <= b for a, b in zip(better, worse, strict=True))


def complementarity_holds(agent: int, order: Sets, n_agents: int, *, prefix: bool = False) -> bool:
    """Definition 3.5, corrected, for one ranking over sets, by going through all sets."""
    place = {frozenset(partners): -at for at, partners in enumerate(order)}
    for have in place:
        for other in range(n_agents):
            if other == agent or other in have or place[have | {other}] > place[have]:
                continue
            if prefix and any(partner > other for partner in have):
                continue
            lower = tuple(j for j in range(other, n_agents) if j != agent and j not in have)
            if any(added and place[have | frozenset(added)] > place[have] for added in _subsets(lower)):
                return False
    return True


@cache
def rankings(
    agent: int, n_agents: int, top_agent: bool = True, complementarity: bool = True, prefix: bool = False
) -> tuple[Sets, ...]:
    """All strict rankings of one agent with these properties; for 3 and, with the first, 4 agents."""
    sets = _subsets(tuple(other for other in range(n_agents) if other != agent))
    above = {s: [t for t in sets if top_agent and dominates(t, s)] for s in sets}

    def extend(order: Sets) -> Iterator[Sets]:
        if len(order) == len(sets):
            yield order
            return
        for s in sets:
            if s not in order and all(t in order for t in above[s]):
                yield from extend((*order, s))

    return tuple(
        order
        for order in extend(())
        if not complementarity or complementarity_holds(agent, order, n_agents, prefix=prefix)
    )


def _random_ranking(rng: Rng, agent: int, n_agents: int) -> Sets:
    """Draw a ranking with both properties: any order that the first allows, until the second holds too."""
    sets = _subsets(tuple(other for other in range(n_agents) if other != agent))
    while True:
        left, order = list(sets), list[tuple[int, ...]]()
        while left:
            ready = [s for s in left if not any(dominates(t, s) for t in left)]
            order.append(ready[int(rng.integers(len(ready)))])
            left.remove(order[-1])
        if complementarity_holds(agent, tuple(order), n_agents):
            return tuple(order)


def random_ranked(rng: Rng, n_agents: int, *, prefix: bool = False) -> RankedCase:
    """Draw rankings with both properties, of 3, 4 or 5 agents; all are equally likely for up to 4."""
    chosen = []
    for agent in range(n_agents):
        if n_agents > 4:
            chosen.append(_random_ranking(rng, agent, n_agents))
        else:
            every = rankings(agent, n_agents, prefix=prefix)
            chosen.append(every[int(rng.integers(len(every)))])
    return RankedCase(tuple(chosen))


def ranked_cases(
    *sizes: int, worked: tuple[RankedCase, ...] = (), prefix: bool = False
) -> Callable[[Rng, int], Iterator[RankedCase]]:
    """Make a family of rankings with both properties, of so many agents in turn."""

    def family(rng: Rng, n: int) -> Iterator[RankedCase]:
        yield from worked[:n]
        for turn in range(n - len(worked)):
            yield random_ranked(rng, sizes[turn % len(sizes)], prefix=prefix)

    return family


# ------------------------------------------------------------ other families


def random_table(rng: Rng, n_agents: int, *, levels: int | None = None) -> TableCase:
    """Draw any utilities; with ``levels``, whole numbers below it, so that there are ties."""
    shape = (n_agents, 1 << n_agents)
    drawn = rng.random(shape).round(3) if levels is None else rng.integers(levels, size=shape).astype(float)
    own = np.arange(shape[1]) >> np.arange(n_agents)[:, None] & 1
    return TableCase(_rows(np.where(own, 0.0, drawn)))


def tables(*sizes: int, worked: tuple[AnyCase, ...] = ()) -> Callable[[Rng, int], Iterator[AnyCase]]:
    """Make a family of any utilities, of so many agents in turn, every other with ties."""

    def family(rng: Rng, n: int) -> Iterator[AnyCase]:
        yield from worked[:n]
        for turn in range(n - len(worked)):
            yield random_table(rng, sizes[turn % len(sizes)], levels=4 if turn // len(sizes) % 2 else None)

    return family


def random_sizes(rng: Rng, n_agents: int, *, costly: bool = True) -> SizeCase:
    """Draw distinct sizes, and costs at which an agent wants some partners, and not all."""
    size = np.sort(rng.uniform(1, 10, n_agents).round(2) + 0.001 * np.arange(n_agents))[::-1].round(3)
    weights = rng.uniform(0.5, 2, n_agents).round(3)
    linear, curve = rng.uniform(-0.05, 0.3, n_agents).round(4), rng.uniform(0, 0.1, n_agents).round(4)
    if not costly:
        linear, curve = np.zeros(n_agents), np.zeros(n_agents)
    return SizeCase(*(tuple(map(float, values)) for values in (size, weights, linear, curve)))


def size_cases(*sizes: int, costly: bool = True) -> Callable[[Rng, int], Iterator[SizeCase]]:
    """Make a family of gains of total size, of so many agents in turn."""

    def family(rng: Rng, n: int) -> Iterator[SizeCase]:
        for turn in range(n):
            yield random_sizes(rng, sizes[turn % len(sizes)], costly=costly)

    return family


def peak_cases(rng: Rng, n: int) -> Iterator[PeakCase]:
    """Utilities that peak somewhere between the own data and all data."""

    def draw() -> Iterator[PeakCase]:
        while True:
            size = tuple(sorted(rng.uniform(1, 10, 3).round(2).tolist(), reverse=True))
            peaks = tuple(float(round(rng.uniform(own, sum(size)), 2)) for own in size)
            yield PeakCase(size, peaks)

    yield from islice(chain([PEAKS], draw()), n)


def identical_cases(rng: Rng, n: int) -> Iterator[IdenticalCase]:
    """Three agents of whom each wants one partner, and no second."""
    yield from (SAME,)[:n]
    for _ in range(n - 1):
        one = rng.uniform(0, 0.8) * np.log(3 / 2)
        two = one + rng.uniform(1.2, 3) * np.log(4 / 3)
        yield IdenticalCase((0.0, round(float(one), 3), round(float(two), 3)))


def pair_cases(rng: Rng, n: int) -> Iterator[PairCase]:
    """Two agents, of whom one would lose."""
    yield from (PairCase(1.0, 10.0),)[:n]
    for _ in range(n - 1):
        loss = round(float(rng.uniform(0.1, 2)), 2)
        yield PairCase(loss, round(loss + float(rng.uniform(0.5, 20)), 2))


def _rows(table: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in table)
