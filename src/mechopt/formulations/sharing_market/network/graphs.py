"""Graphs of a few agents as bit masks, all of them at once, and the check of an adjacency matrix.

Edges are numbered as `numpy.triu_indices` numbers pairs; bit e of the code of a graph says whether edge e is
there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.solvers.errors import InvalidInput

IntArray = NDArray[np.int64]

ALL_GRAPHS_CAP = 5
"""Agents up to which every graph is held against every other: 1024 graphs."""

ONE_GRAPH_CAP = 6
"""Agents up to which one graph is held against all others: 32768."""


@dataclass(frozen=True, eq=False)
class AllGraphs:
    """Every graph of some agents.

    Attributes
    ----------
    pairs : array, shape (n_edges, 2)
        End points of the edges.
    codes : array, shape (n_graphs,)
        ``0 .. 2 ** n_edges - 1``.
    partners : array, shape (n_agents, n_graphs)
        Bit mask of each agent's partners in each graph.
    inside, touching : array, shape (2 ** n_agents,)
        Edges with both, and with some, end point in a set of agents, given as its bit mask.
    """

    pairs: IntArray
    codes: IntArray
    partners: IntArray
    inside: IntArray
    touching: IntArray


@lru_cache(maxsize=8)
def all_graphs(n_agents: int) -> AllGraphs:
    """Return every graph of that many agents."""
    pairs = np.stack(np.triu_indices(n_agents, 1), axis=1).astype(np.int64)
    codes = np.arange(1 << len(pairs), dtype=np.int64)
    partners = np.zeros((n_agents, codes.size), dtype=np.int64)
    sets = np.arange(1 << n_agents, dtype=np.int64)
    inside, touching = np.zeros_like(sets), np.zeros_like(sets)
    for edge, (a, b) in enumerate(pairs):
        there = codes >> edge & 1
        partners[a] |= there << b
        partners[b] |= there << a
        in_a, in_b = sets >> a & 1, sets >> b & 1
        inside |= (in_a & in_b) << edge
        touching |= (in_a | in_b) << edge
    for array in (pairs, codes, partners, inside, touching):
        array.setflags(write=False)
    return AllGraphs(pairs, codes, partners, inside, touching)


def code_of(adjacency: IntArray) -> int:
    """Return the code of a graph."""
    edges = adjacency[np.triu_indices(len(adjacency), 1)]
    return int(edges @ (1 << np.arange(edges.size, dtype=np.int64)))


def from_edges(edges: ArrayLike, n_agents: int) -> IntArray:
    """Return the adjacency matrix of a graph from its edges, 0 or 1 for each pair."""
    adjacency = np.zeros((n_agents, n_agents), dtype=np.int64)
    adjacency[np.triu_indices(n_agents, 1)] = edges
    return adjacency + adjacency.T


def from_code(code: int, n_agents: int) -> IntArray:
    """Return the adjacency matrix of the graph with this code."""
    return from_edges(code >> np.arange(n_agents * (n_agents - 1) // 2) & 1, n_agents)


def members(mask: int) -> frozenset[int]:
    """Return the set of agents with this bit mask."""
    return frozenset(agent for agent in range(mask.bit_length()) if mask >> agent & 1)


def sharing_graph(value: ArrayLike, n_agents: int) -> IntArray:
    """Return a bilateral sharing graph: symmetric, of zeros and ones, nobody its own partner.

    Raises
    ------
    InvalidInput
        Naming the entry that breaks the rule.
    """
    try:
        array: NDArray[Any] = np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"adjacency must be a matrix of zeros and ones: {error}") from None
    if array.shape != (n_agents, n_agents):
        raise InvalidInput(
            f"adjacency has shape {array.shape}; {n_agents} agents need ({n_agents}, {n_agents})"
        )
    _refuse(array, ~np.isin(array, (0, 1)), "must be 0 or 1")
    _refuse(array, (np.eye(n_agents) > 0) & (array != 0), "is self-sharing: leave the diagonal zero")
    _refuse(
        array,
        array != array.T,
        "differs from the entry across the diagonal; bilateral sharing needs a symmetric matrix",
    )
    return array.astype(np.int64)


def _refuse(array: NDArray[Any], wrong: NDArray[np.bool_], rule: str) -> None:
    if np.any(wrong):
        i, j = np.argwhere(wrong)[0]
        raise InvalidInput(f"adjacency[{i}, {j}] = {array[i, j]:g} {rule}")
