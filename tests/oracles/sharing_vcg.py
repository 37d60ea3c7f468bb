"""VCG by its definition: every sharing graph is written down, in plain Python, for at most four agents.

Nothing of the wing's algorithms is used: only what a set of sellers is worth to a buyer, and what edges cost.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

Graph = tuple[tuple[int, ...], ...]


class Everything:
    """All sharing graphs of a market with what each is worth to each agent.

    ``worth(buyer, sellers)`` is money for a frozenset of sellers, ``cost[seller][buyer]`` money;
    ``allowed(graph, absent)`` says whether a graph may be, given who takes no part (None: all do), and
    ``extra(agent, graph)`` what else it costs an agent.
    """

    def __init__(
        self,
        n_agents: int,
        worth: Callable[[int, frozenset[int]], float],
        cost: list[list[float]],
        allowed: Callable[[Graph, int | None], bool] = lambda graph, absent: True,
        extra: Callable[[int, Graph], float] = lambda agent, graph: 0.0,
    ) -> None:
        assert n_agents <= 4
        self.agents = range(n_agents)
        sets = {
            (j, sellers): worth(j, frozenset(i for i in self.agents if i != j and sellers >> i & 1))
            for j in self.agents
            for sellers in range(2**n_agents)
        }
        edges = [(i, j) for i in self.agents for j in self.agents if i != j]
        self.table: dict[Graph, list[float]] = {}
        for bits in product((0, 1), repeat=len(edges)):
            rows = [[0] * n_agents for _ in self.agents]
            for (i, j), bit in zip(edges, bits, strict=True):
                rows[i][j] = bit
            graph = tuple(map(tuple, rows))
            self.table[graph] = [
                sets[k, sum(graph[i][k] << i for i in self.agents)]
                - sum(graph[k][j] * cost[k][j] for j in self.agents)
                - extra(k, graph)
                for k in self.agents
            ]
        self.allowed = allowed
        self.outside = [worth(k, frozenset()) for k in self.agents]

    def best(self) -> float:
        """Largest welfare of a graph."""
        return max(sum(values) for graph, values in self.table.items() if self.allowed(graph, None))

    def pivot_value(self, agent: int, pivot: str) -> float:
        """First term of (19): the others' most, over graphs without the agent or over all graphs."""

        def touches(graph: Graph) -> bool:
            return any(graph[agent]) or any(row[agent] for row in graph)

        return max(
            sum(values) - values[agent]
            for graph, values in self.table.items()
            if (
                self.allowed(graph, None)
                if pivot == "drop"
                else not touches(graph) and self.allowed(graph, agent)
            )
        )

    def payoffs(self, pivot: str) -> list[float]:
        """Welfare minus the pivot value: the same whatever optimum is chosen."""
        return [self.best() - self.pivot_value(k, pivot) for k in self.agents]

    def payments(self, pivot: str, graph: Graph) -> list[float]:
        """(19) at a given graph, which must be a best one."""
        values = self.table[graph]
        assert abs(sum(values) - self.best()) <= 1e-9 * (1 + abs(self.best()))
        return [self.pivot_value(k, pivot) - sum(values) + values[k] for k in self.agents]


def everything(market, allowed=lambda graph, absent: True, extra=lambda agent, graph: 0.0) -> Everything:
    """Write down all graphs of a market, whose utilities are evaluated one set at a time."""
    n = market.n_agents

    def worth(buyer: int, sellers: frozenset[int]) -> float:
        utility = market.utility[buyer]
        weight = [float(market.weights[i, buyer]) for i in range(n)]
        if hasattr(utility, "sellers"):
            return utility.values[sellers]
        if hasattr(utility, "values"):
            return sum(utility.values[i] * weight[i] for i in sorted(sellers))
        own = float(market.data_size[buyer])
        return float(utility(own + sum(float(market.data_size[i]) * weight[i] for i in sorted(sellers))))

    return Everything(n, worth, market.sharing_cost.tolist(), allowed, extra)
