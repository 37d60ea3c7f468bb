"""Markets on which claims are run: random ones, in short decimals that can be read, copied and recomputed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from mechopt.formulations.functions import (
    AdditiveUtility,
    CappedUtility,
    InverseSqrtUtility,
    LinearUtility,
    LogUtility,
    SaturatingUtility,
    SqrtUtility,
    TableUtility,
    ThresholdUtility,
    Utility,
)
from mechopt.formulations.sharing_market.model import SharingMarket

Rng = np.random.Generator
UtilityKind = Literal[
    "linear", "log", "sqrt", "inverse_sqrt", "saturating", "capped", "threshold", "additive", "table"
]
Sizes = Literal["equal", "whole", "real"]

CONCAVE: tuple[UtilityKind, ...] = ("log", "sqrt", "inverse_sqrt", "saturating", "capped", "linear")
"""Kinds that are concave functions of total size."""

EVERY: tuple[UtilityKind, ...] = (*CONCAVE, "threshold", "additive", "table")
"""All kinds."""


def short(number: float) -> float:
    """Round to three digits."""
    return float(f"{number:.3g}")


@dataclass(frozen=True)
class MarketCase:
    """A market in short decimals; ``sharing_cost[seller][buyer]``."""

    data_size: tuple[float, ...]
    sharing_cost: tuple[tuple[float, ...], ...]
    utility: tuple[Utility, ...]

    @property
    def n_agents(self) -> int:
        """Number of agents."""
        return len(self.data_size)

    def market(self) -> SharingMarket:
        """Build the mechanism."""
        return SharingMarket(np.array(self.data_size), np.array(self.sharing_cost), self.utility)


def random_utility(rng: Rng, kind: UtilityKind, buyer: int, n_agents: int) -> Utility:
    """Draw a utility whose values are of order ten, and which bends over the data of a few agents."""
    weight, size = short(rng.uniform(3, 20)), short(rng.uniform(1, 8))
    if kind == "linear":
        return LinearUtility(short(weight / 8))
    if kind == "log":
        return LogUtility(weight, size)
    if kind == "sqrt":
        return SqrtUtility(short(weight / 2))
    if kind == "inverse_sqrt":
        return InverseSqrtUtility(short(2 * weight))
    if kind == "saturating":
        return SaturatingUtility(weight, size)
    if kind == "capped":
        return CappedUtility(weight, short(1.5 * size))
    if kind == "threshold":
        return ThresholdUtility(weight, short(1.5 * size))
    if kind == "additive":
        return AdditiveUtility(tuple(short(v) for v in rng.uniform(0, weight / 2, n_agents)))
    # Monotone: the best of some bundles, each worth something if it is had in full.
    others = [agent for agent in range(n_agents) if agent != buyer]
    bundles = [
        (frozenset(other for other in others if rng.random() < 0.5), short(rng.uniform(0, weight)))
        for _ in range(n_agents + 1)
    ]
    return TableUtility.from_function(
        lambda owned: sum(worth for bundle, worth in bundles if bundle and bundle <= owned), others
    )


def random_market(
    rng: Rng,
    *kinds: UtilityKind,
    n_agents: int | None = None,
    max_agents: int = 4,
    sizes: Sizes | None = None,
    dearness: float = 1.2,
) -> MarketCase:
    """Draw a market.

    Parameters
    ----------
    *kinds : str
        Utilities to draw from, one for each agent; default: the concave ones.
    n_agents, max_agents : int
        That many agents, or two to ``max_agents``.
    sizes : {"equal", "whole", "real"}, optional
        Of the batches; drawn if none is given.
    dearness : float
        Costs are uniform from 0 to this many times what the edge alone adds to the buyer's utility.

    Examples
    --------
    >>> random_market(np.random.default_rng(3), "log", n_agents=3, sizes="whole").market().vcg().n_solves
    7
    """
    n = int(rng.integers(2, max_agents + 1)) if n_agents is None else n_agents
    kind = sizes or ("equal", "whole", "real")[int(rng.integers(3))]
    if kind == "equal":
        size = np.full(n, short(rng.uniform(0.5, 4)))
    elif kind == "whole":
        size = rng.integers(1, 6, n).astype(float)
    else:
        size = np.array([short(v) for v in rng.uniform(0.5, 5, n)])
    choices = kinds or CONCAVE
    utility = tuple(random_utility(rng, choices[int(rng.integers(len(choices)))], j, n) for j in range(n))
    bare = SharingMarket(size, np.zeros((n, n)), utility)
    cost = np.zeros((n, n))
    for j in range(n):
        alone = np.eye(n, dtype=bool)
        alone[j, j] = False
        added = bare.value_of_sets(j, alone) - bare.outside_option[j]
        # Jumps and bundles need several sellers: there an edge alone adds nothing.
        typical = np.where(added > 0, added, 1.0)
        cost[:, j] = [short(c) for c in typical * rng.uniform(0, dearness, n)]
    np.fill_diagonal(cost, 0.0)
    return MarketCase(tuple(size.tolist()), tuple(map(tuple, cost.tolist())), utility)


def markets(
    *kinds: UtilityKind,
    worked: tuple[MarketCase, ...] = (),
    suits: Callable[[MarketCase], bool] = lambda case: True,
    n_agents: int | None = None,
    max_agents: int = 4,
    sizes: Sizes | None = None,
    dearness: float = 1.2,
) -> Callable[[Rng, int], Iterator[MarketCase]]:
    """Make a family of markets; see `random_market`.

    Parameters
    ----------
    worked : tuple of MarketCase
        Examples that come first.
    suits : callable
        Hypothesis of the claim: other draws are thrown away.
    """

    def draw(rng: Rng) -> Iterator[MarketCase]:
        while True:
            case = random_market(
                rng, *kinds, n_agents=n_agents, max_agents=max_agents, sizes=sizes, dearness=dearness
            )
            if suits(case):
                yield case

    def family(rng: Rng, n: int) -> Iterator[MarketCase]:
        yield from worked[:n]
        yield from islice(draw(rng), max(n - len(worked), 0))

    return family
