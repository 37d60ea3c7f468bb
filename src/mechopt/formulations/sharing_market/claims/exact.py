"""Markets in rationals, buyer by buyer: the decimals of an instance as printed, without rounding.

Nothing here is shared with the mechanism, nor with the second roads, which write down whole graphs. Utilities
of which data are a root or a logarithm are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import combinations

from mechopt.formulations.functions import (
    AdditiveUtility,
    PiecewiseLinearGain,
    TableUtility,
    ThresholdUtility,
)
from mechopt.formulations.sharing_market.families import MarketCase, UtilityKind
from mechopt.solvers.errors import NotApplicable
from mechopt.verification.evidence import fraction, fractions

Agents = frozenset[int]
Fractions = tuple[Fraction, ...]

RATIONAL: tuple[UtilityKind, ...] = ("linear", "capped", "threshold", "additive", "table")
"""Kinds of utilities whose values are rational."""


def total(terms: Iterable[Fraction]) -> Fraction:
    """Return the sum, a fraction even if it is empty."""
    return sum(terms, Fraction(0))


def subsets(agents: Iterable[int]) -> Iterator[Agents]:
    """Yield all subsets, small ones first."""
    members = sorted(agents)
    for size in range(len(members) + 1):
        yield from map(frozenset, combinations(members, size))


def utility_of_size(utility: object, data: Fraction) -> Fraction:
    """Utility of so much data."""
    if isinstance(utility, PiecewiseLinearGain):
        x = fraction(utility.scale) * data
        lines = zip(fractions(utility.slopes), fractions(utility.intercepts), strict=True)
        return min(slope * x + intercept for slope, intercept in lines)
    if isinstance(utility, ThresholdUtility):
        return fraction(utility.weight) if data >= fraction(utility.size) else Fraction(0)
    raise NotApplicable(f"{type(utility).__name__} is not rational")


class ExactMarket:
    """A market in which each buyer takes what is best for it at given prices.

    Parameters
    ----------
    case : MarketCase
    weight : float
        What a record of others counts for.
    report : (int, float), optional
        An agent that says its data are worth so many times as much.
    """

    def __init__(
        self, case: MarketCase, weight: float = 1.0, report: tuple[int, float] | None = None
    ) -> None:
        self.case, self.weight, self.report = case, fraction(weight), report
        self.size, self.cost = fractions(case.data_size), tuple(map(fractions, case.sharing_cost))
        self.agents = range(case.n_agents)
        self.worth = cache(self._worth)
        self.graph = tuple(self.bought(j) for j in self.agents)

    def _worth(self, buyer: int, sellers: Agents) -> Fraction:
        utility = self.case.utility[buyer]
        factor = Fraction(1)
        if self.report is not None and self.report[0] == buyer:
            factor = fraction(self.report[1])
        if isinstance(utility, AdditiveUtility):
            values = fractions(utility.values)
            return factor * self.weight * total(values[i] for i in sellers)
        if isinstance(utility, TableUtility):
            if self.weight != 1:
                raise NotApplicable("a table has no values for data of other quality")
            return factor * fraction(utility.values[sellers])
        data = self.size[buyer] + self.weight * total(self.size[i] for i in sellers)
        return factor * utility_of_size(utility, data)

    def sets(self, buyer: int, without: Agents = frozenset()) -> list[Agents]:
        """Sets of sellers that a buyer can take."""
        return list(subsets(set(self.agents) - {buyer} - without))

    def kept(self, buyer: int, sellers: Agents, price: Callable[[int], Fraction] | None = None) -> Fraction:
        """What a buyer keeps of a set at prices, or at cost."""
        charged = (self.cost[i][buyer] if price is None else price(i) for i in sellers)
        return self.worth(buyer, sellers) - total(charged)

    def bought(self, buyer: int) -> Agents:
        """The best set at cost, of equal ones the smallest."""
        return max(self.sets(buyer), key=lambda s: self.kept(buyer, s))

    def most(self, buyer: int, without: Agents = frozenset()) -> Fraction:
        """What a buyer keeps at cost."""
        return max(self.kept(buyer, s) for s in self.sets(buyer, without))

    @property
    def welfare(self) -> Fraction:
        """Most welfare, buyer by buyer."""
        return total(map(self.most, self.agents))

    @property
    def outside(self) -> Fractions:
        """What own data are worth."""
        return tuple(self.worth(i, frozenset()) for i in self.agents)

    def value(self, agent: int, graph: Sequence[Agents] | None = None) -> Fraction:
        """V of an agent: its data, less the costs of what it sells."""
        chosen = self.graph if graph is None else graph
        sold = (self.cost[agent][j] for j in self.agents if agent in chosen[j])
        return self.worth(agent, chosen[agent]) - total(sold)

    # -------------------------------------------------------- VCG

    def pivot(self, agent: int, kind: str) -> Fraction:
        """Welfare of the others, who do without the agent, or if its costs and its data do not count."""
        rest = [j for j in self.agents if j != agent]
        if kind == "exclude":
            return total(self.most(j, frozenset({agent})) for j in rest)
        return total(
            max(self.kept(j, s) + (self.cost[agent][j] if agent in s else 0) for s in self.sets(j))
            for j in rest
        )

    def payoff(self, agent: int, kind: str) -> Fraction:
        """What VCG leaves an agent."""
        return self.welfare - self.pivot(agent, kind)

    def payments(self, kind: str) -> Fractions:
        """(19) at the graph, in which buyers take the smallest of equal sets."""
        values = [self.value(i) for i in self.agents]
        return tuple(self.pivot(i, kind) - total(values) + values[i] for i in self.agents)

    def imbalance(self, kind: str) -> Fraction:
        """Sum of payments."""
        return total(self.pivot(i, kind) for i in self.agents) - (len(self.agents) - 1) * self.welfare

    # -------------------------------------------------------- scales of gaps

    @property
    def largest_value(self) -> Fraction:
        """Largest V of all graphs and agents."""
        sizes = [
            abs(value)
            for i in self.agents
            for s in self.sets(i)
            for value in (self.worth(i, s), self.worth(i, s) - total(self.cost[i]))
        ]
        return max(sizes) or Fraction(1)

    def money(self, *prices: Fraction) -> Fraction:
        """Largest of own data's worth, costs and prices."""
        return max(*map(abs, self.outside), *(max(costs) for costs in self.cost), *prices)


def data_payments(payments: Fractions) -> Fractions:
    """(23)-(26) with the inner max and min: who pays most covers a surplus first, who gets most a deficit."""
    sign = 1 if total(payments) > 0 else -1
    left, data = abs(total(payments)), [Fraction(0)] * len(payments)
    for i in sorted(range(len(payments)), key=lambda i: -sign * payments[i]):
        share = min(max(sign * payments[i], Fraction(0)), left)
        data[i], left = sign * share, left - share
    return tuple(data)


def unrealised(market: ExactMarket, agent: int, data_payment: Fraction) -> Fraction:
    """By how much what some weights of the data that an agent receives give it misses U(1) - t^d."""
    utility, received = market.case.utility[agent], market.graph[agent]
    worth = market.worth(agent, received)
    target, low = worth - data_payment, market.worth(agent, frozenset())
    if not received or (isinstance(utility, AdditiveUtility) and worth == low):
        return abs(target - worth)
    if isinstance(utility, PiecewiseLinearGain) and not utility.slopes[-1]:
        high = fraction(utility.intercepts[-1])
    elif isinstance(utility, PiecewiseLinearGain | AdditiveUtility):
        high = max(target, worth)  # more data are worth as much as is wanted
    else:
        raise NotApplicable(f"{type(utility).__name__} has jumps")
    return max(low - target, target - high, Fraction(0))
