"""Second roads to stability and the properties, for claims: sets of edges, coalitions tried one by one."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import chain, combinations

import numpy as np

from mechopt.formulations.sharing_market.network import SharingNetwork
from mechopt.formulations.sharing_market.network.graphs import IntArray
from mechopt.formulations.sharing_market.network.stability import Rule
from mechopt.solvers.errors import MechanismWarning

Partners = frozenset[int]
Edges = frozenset[Partners]
Utilities = Sequence[Mapping[Partners, float | Fraction]]


def subsets(agents: Iterable[int]) -> list[Partners]:
    """Return all subsets, small ones first."""
    items = sorted(agents)
    return [frozenset(s) for s in chain.from_iterable(combinations(items, k) for k in range(len(items) + 1))]


def utilities_of(network: SharingNetwork) -> Utilities:
    """Return the utility of every set of partners, agent by agent."""
    agents = range(network.n_agents)
    return [
        {s: network.preferences.utility(k, s) for s in subsets([i for i in agents if i != k])} for k in agents
    ]


def graphs(n_agents: int) -> list[Edges]:
    """Return all graphs, those with few edges first."""
    pairs = [frozenset(pair) for pair in combinations(range(n_agents), 2)]
    return [frozenset(g) for g in chain.from_iterable(combinations(pairs, k) for k in range(len(pairs) + 1))]


def edges_of(adjacency: IntArray) -> Edges:
    """Return the edges of a graph."""
    return frozenset(frozenset((int(a), int(b))) for a, b in np.argwhere(np.triu(adjacency)))


def partners_of(graph: Edges, agent: int) -> Partners:
    """Return the partners of an agent in a graph."""
    return frozenset(other for edge in graph if agent in edge for other in edge if other != agent)


def blocks(u: Utilities, before: Edges, after: Edges, coalition: Partners, rule: Rule) -> bool:
    """Tell whether a coalition can make a graph of another, and wants to."""
    made, broken = after - before, before - after
    can = all(edge <= coalition for edge in made) and all(edge & coalition for edge in broken)
    if rule == "cut":
        can = can and all(edge <= coalition or not edge & coalition for edge in after)
    if not can:
        return False
    gains = [u[i][partners_of(after, i)] - u[i][partners_of(before, i)] for i in coalition]
    return min(gains) >= 0 and max(gains) > 0


def try_all(u: Utilities, graph: Edges, rule: Rule, most: int | None = None) -> bool:
    """Whether a graph is stable, by trying every coalition (of at most ``most`` agents) with every graph."""
    coalitions = [s for s in subsets(range(len(u))) if s and (most is None or len(s) <= most)]
    return not any(
        blocks(u, graph, after, coalition, rule) for after in graphs(len(u)) for coalition in coalitions
    )


def ranks_alike(u: Utilities) -> bool:
    """Definitions 3.3 and 3.4 for the ranking 0, 1, ..., strict, word for word."""
    agents = range(len(u))
    return all(
        u[k][s | {i}] > u[k][s | {j}]
        for k in agents
        for i, j in combinations([a for a in agents if a != k], 2)
        for s in subsets([a for a in agents if a not in (i, j, k)])
    )


def limits_complements(
    u: Utilities, *, prefix: bool = False, indifferent: bool = True, empty: bool = False
) -> bool:
    """Definition 3.5: corrected, or as printed with ``empty`` sets S', or without the indifferent."""
    agents = range(len(u))
    for k in agents:
        for i in (a for a in agents if a != k):
            for s in subsets([a for a in agents if a not in (i, k) and not (prefix and a > i)]):
                step = u[k][s | {i}] - u[k][s]
                if step > 0 or (step == 0 and not indifferent):
                    continue
                added = subsets([a for a in range(i, len(u)) if a != k and a not in s])
                if any((t or empty) and u[k][s | t] >= u[k][s] for t in added):
                    return False
    return True


def printed_match(network: SharingNetwork) -> IntArray:
    """Ordered match as printed, whatever the properties: who is indifferent does not offer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MechanismWarning)
        return network.ordered_match(range(network.n_agents), ties="refuse")


def shown(graph: Edges) -> str:
    """Print a graph by its edges."""
    return "{" + ", ".join("-".join(map(str, sorted(edge))) for edge in sorted(graph, key=sorted)) + "}"


def spread(network: SharingNetwork) -> float:
    """Return the distance from the least utility to the greatest."""
    return float(np.nanmax(network.preferences.table) - np.nanmin(network.preferences.table))


def all_must_gain(u: Utilities, graph: Edges) -> bool:
    """Whether no coalition blocks all of whose members gain."""
    return not any(
        blocks(u, graph, after, coalition, "strong")
        and all(u[i][partners_of(after, i)] > u[i][partners_of(graph, i)] for i in coalition)
        for after in graphs(len(u))
        for coalition in subsets(range(len(u)))
        if coalition
    )


def relabelled(u: Utilities, order: tuple[int, ...]) -> Utilities:
    """Utilities with the agents numbered as this ranking has them."""
    return [{frozenset(map(order.index, s)): value for s, value in u[agent].items()} for agent in order]


def count_stable(network: SharingNetwork, u: Utilities) -> list[int]:
    """Stable graphs of three agents by enumeration, by the program, and by trying coalitions."""
    matrices = [[[0, a, b], [a, 0, c], [b, c, 0]] for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    return [
        len(network.stable_graphs()),
        sum(bool(network.is_stable(matrix, method="milp")) for matrix in matrices),
        sum(try_all(u, graph, "strong") for graph in graphs(3)),
    ]
