"""Bilateral networks by the definitions alone: graphs as sets of edges, coalitions tried one by one.

Nothing here uses the package. A preference is a list of dicts from frozensets of partners to numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations

import numpy as np

Edge = frozenset[int]
Graph = frozenset[Edge]
Utilities = list[dict[frozenset[int], float]]


def subsets(items) -> Iterator[frozenset]:
    """All subsets, small ones first."""
    items = list(items)
    return map(frozenset, chain.from_iterable(combinations(items, size) for size in range(len(items) + 1)))


def graphs(n_agents: int) -> list[Graph]:
    """All graphs."""
    return list(subsets(frozenset(pair) for pair in combinations(range(n_agents), 2)))


def partners(graph: Graph, agent: int) -> frozenset[int]:
    return frozenset(other for edge in graph if agent in edge for other in edge if other != agent)


def adjacency(graph: Graph, n_agents: int) -> np.ndarray:
    matrix = np.zeros((n_agents, n_agents), dtype=int)
    for edge in graph:
        a, b = edge
        matrix[a, b] = matrix[b, a] = 1
    return matrix


def graph_of(matrix) -> Graph:
    matrix = np.asarray(matrix)
    return frozenset(
        frozenset((a, b)) for a in range(len(matrix)) for b in range(a) if matrix[a, b] and matrix[b, a]
    )


def coalition_blocks(u: Utilities, before: Graph, after: Graph, coalition: frozenset[int], rule: str) -> bool:
    """Whether this coalition can and will go from one graph to the other."""
    if not all(edge <= coalition for edge in after - before):
        return False
    if rule == "strong":
        if not all(edge & coalition for edge in before - after):
            return False
    else:
        if any(edge & coalition and not edge <= coalition for edge in after):
            return False  # no edge to others is left
        if any(not edge & coalition for edge in before - after):
            return False  # others keep theirs
    gains = [u[i][partners(after, i)] - u[i][partners(before, i)] for i in coalition]
    return min(gains) >= 0 and max(gains) > 0


def is_stable(u: Utilities, graph: Graph, rule: str, most: int | None = None) -> bool:
    """Whether no coalition (of at most ``most`` agents) blocks, by trying all of them with all graphs."""
    n_agents = len(u)
    coalitions = [c for c in subsets(range(n_agents)) if c and (most is None or len(c) <= most)]
    return not any(
        coalition_blocks(u, graph, after, coalition, rule)
        for after in graphs(n_agents)
        for coalition in coalitions
    )


def ordered_match(u: Utilities, ranking) -> Graph:
    """The sweep, with its sets as the paper keeps them."""
    have: dict[int, set[int]] = {agent: set() for agent in ranking}
    for place, n in enumerate(ranking):
        for other in ranking[place + 1 :]:
            offers = u[n][frozenset(have[n] | {other})] > u[n][frozenset(have[n])]
            accepts = u[other][frozenset(have[other] | {n})] > u[other][frozenset(have[other])]
            if offers and accepts:
                have[n].add(other)
                have[other].add(n)
    return frozenset(frozenset((a, b)) for a in have for b in have[a])


def has_top_agent(u: Utilities, ranking) -> bool:
    """Definitions 3.3 and 3.4, strict, over all pairs and sets."""
    agents = set(ranking)
    return all(
        u[k][s | {i}] > u[k][s | {j}]
        for k in agents
        for i, j in combinations(ranking, 2)
        if k not in (i, j)
        for s in subsets(agents - {i, j, k})
    )


def has_limited_complementarity(u: Utilities, ranking, *, prefix: bool = False) -> bool:
    """Definition 3.5, corrected: over all sets, or only those of agents above the refused one."""
    agents = set(ranking)
    for k in agents:
        for place, i in enumerate(ranking):
            if i == k:
                continue
            pool = set(ranking[:place]) if prefix else agents - {i}
            for s in subsets(pool - {k}):
                if u[k][s | {i}] > u[k][s]:
                    continue
                for added in subsets(set(ranking[place:]) - {k} - s):
                    if added and u[k][s | added] >= u[k][s]:
                        return False
    return True


def size_utilities(size, gains, costs) -> Utilities:
    """Dicts of a gain of total size minus a cost of count."""
    n_agents = len(size)
    return [
        {
            s: float(gains[k](size[k] + sum(size[i] for i in s))) - float(costs[k][len(s)])
            for s in subsets(set(range(n_agents)) - {k})
        }
        for k in range(n_agents)
    ]


def random_utilities(rng: np.random.Generator, n_agents: int, levels: int | None = None) -> Utilities:
    """Any utilities; with ``levels``, whole numbers below it, so that there are ties."""

    def draw() -> float:
        return float(rng.random()) if levels is None else float(rng.integers(levels))

    return [{s: draw() for s in subsets(set(range(n_agents)) - {k})} for k in range(n_agents)]
