"""Best sets of sellers by the definition: all sets, one by one, with formulas of their own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FORMULAS: dict[str, Callable[..., float]] = {
    "linear": lambda D, a: a * D,
    "log": lambda D, a, s: a * math.log1p(D / s),
    "sqrt": lambda D, a: a * math.sqrt(D),
    "inverse_sqrt": lambda D, a: -a / math.sqrt(D),
    "saturating": lambda D, a, s: a * (1 - math.exp(-D / s)),
    "capped": lambda D, a, s: a * min(D / s, 1.0),
    "threshold": lambda D, a, s: a if s * (1 - 1e-12) <= D else 0.0,
    # Neither concave nor monotone.
    "hump": lambda D, a, s: a * (D / s) ** 2 * math.exp(-D / s),
    # Concave, with two bends.
    "ratio": lambda D, a, s: a * D / (s + D),
}


@dataclass(frozen=True)
class Buyer:
    """A buyer's problem in plain numbers; ``parameters`` are those of the formula, or of the sets.

    Attributes
    ----------
    family : str
        Of `FORMULAS`, or "additive" (a value for each agent), or "table" (a value for each set).
    own_size : float
    size, weight, cost : sequence of float, one an agent
    sellers : sequence of int
    """

    family: str
    parameters: Any
    own_size: float
    size: Sequence[float]
    weight: Sequence[float]
    cost: Sequence[float]
    sellers: Sequence[int]
    cap: float = math.inf
    budget: float = math.inf

    def utility(self, members: Iterable[int]) -> float:
        """Utility of a set of sellers."""
        members = tuple(members)
        if self.family == "additive":
            return math.fsum(self.parameters[i] * self.weight[i] for i in members)
        if self.family == "table":
            table: Mapping[frozenset[int], float] = self.parameters
            return table[frozenset(members)]
        total = self.own_size + math.fsum(self.size[i] * self.weight[i] for i in members)
        return FORMULAS[self.family](total, *self.parameters)

    def all_sets(self, without: Iterable[int] = ()) -> Iterable[tuple[int, ...]]:
        """Sets of sellers within the limits: fewest first, and in lexicographic order among those."""
        left = [i for i in self.sellers if i not in set(without)]
        for number in range(len(left) + 1):
            if number <= self.cap:
                for members in itertools.combinations(left, number):
                    if math.fsum(self.cost[i] for i in members) <= self.budget * (1 + 1e-12):
                        yield members

    def surplus(self, members: Iterable[int], free: int | None = None) -> float:
        """Utility of a set minus its cost, one seller's data being free or not."""
        members = tuple(members)
        return self.utility(members) - math.fsum(self.cost[i] for i in members if i != free)


def best_set(buyer: Buyer, without: Iterable[int] = (), tie: float = 1e-11) -> tuple[float, tuple[int, ...]]:
    """Best surplus, and the first set that has it, up to ``tie``."""
    found = [(buyer.surplus(members), members) for members in buyer.all_sets(without)]
    best = max(surplus for surplus, _ in found)
    return best, next(members for surplus, members in found if surplus >= best - tie)


def best_with_free(buyer: Buyer, seller: int) -> float:
    """Best surplus if the data of one seller cost nothing."""
    cost = [0.0 if i == seller else c for i, c in enumerate(buyer.cost)]
    gift = Buyer(**{**vars(buyer), "cost": cost})
    return max(gift.surplus(members) for members in gift.all_sets())
