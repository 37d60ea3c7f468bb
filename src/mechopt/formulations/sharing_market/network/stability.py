"""Which coalitions block a graph: by enumeration, and the check of one deviation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.sharing_market.network.graphs import (
    IntArray,
    all_graphs,
    code_of,
    from_code,
    members,
)

Rule = Literal["strong", "cut"]
Method = Literal["enumeration", "milp", "ordered-match"]
RULES: tuple[Rule, ...] = ("strong", "cut")
METHODS: tuple[Method, ...] = ("enumeration", "milp", "ordered-match")
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Blocking:
    """A coalition with a graph that it can reach and likes better.

    Attributes
    ----------
    coalition : tuple of int
        Agents who change the graph: none loses, and one gains.
    adjacency : array of int, shape (n_agents, n_agents)
        The graph that they make.
    gains : array, shape (len(coalition),)
        Utility that each gains; for rankings, places.
    """

    coalition: tuple[int, ...]
    adjacency: IntArray
    gains: NDArray[np.float64]

    def __str__(self) -> str:
        edges = [f"{a}-{b}" for a, b in np.argwhere(np.triu(self.adjacency)).tolist()]
        gained = ", ".join(
            f"{agent} by {gain:.6g}" for agent, gain in zip(self.coalition, self.gains, strict=True)
        )
        return f"coalition makes {{{', '.join(edges)}}}: {gained}"


@dataclass(frozen=True, eq=False)
class Stability:
    """Whether a graph is stable; true in conditions if it is.

    Attributes
    ----------
    stable : bool
    rule : str
        ``"strong"`` or ``"cut"``; ``"pareto"`` for the coalition of everybody.
    method : str
        ``"enumeration"``, ``"milp"`` or ``"ordered-match"``.
    witness : Blocking or None
        Who blocks it, if it is not stable.
    """

    stable: bool
    rule: str
    method: str
    witness: Blocking | None = None

    def __bool__(self) -> bool:
        return self.stable

    def __repr__(self) -> str:
        verdict = "stable" if self.stable else f"not stable ({self.witness})"
        return f"{verdict}, rule {self.rule}, by {self.method}"


# ---------------------------------------------------------------- all deviations


def ranks_by_graph(ranks: IntArray) -> IntArray:
    """Rank of every graph for every agent, shape (n_agents, n_graphs)."""
    return np.take_along_axis(ranks, all_graphs(len(ranks)).partners, axis=1)


def blockers(ranks: IntArray, graphs: IntArray, rule: Rule) -> Bools:
    """Tell which graphs block which, shape (graphs.size, n_graphs); ``graphs`` are codes."""
    return _strong(ranks, graphs) if rule == "strong" else _cut(ranks, graphs)


def _strong(ranks: IntArray, graphs: IntArray) -> Bools:
    """Added edges lie inside the coalition, dropped ones touch it: who does not lose may as well join."""
    every, place = all_graphs(len(ranks)), ranks_by_graph(ranks)
    now = place[:, graphs, None]
    happy = np.zeros((graphs.size, every.codes.size), dtype=np.int64)
    better = np.zeros(happy.shape, dtype=bool)
    for agent in range(len(ranks)):
        happy |= (place[agent] >= now[agent]).astype(np.int64) << agent
        better |= place[agent] > now[agent]
    added = every.codes & ~graphs[:, None]
    dropped = graphs[:, None] & ~every.codes
    reachable = (added & ~every.inside[happy] == 0) & (dropped & ~every.touching[happy] == 0)
    return np.asarray(reachable & better)


def _cut(ranks: IntArray, graphs: IntArray) -> Bools:
    """A coalition keeps no edge to others, so each one has to be tried."""
    every, place = all_graphs(len(ranks)), ranks_by_graph(ranks)
    blocked = np.zeros((graphs.size, every.codes.size), dtype=bool)
    for coalition in range(1, every.inside.size):
        insiders = np.array(sorted(members(coalition)))
        made = every.codes[every.codes & ~every.inside[coalition] == 0]
        new, now = place[np.ix_(insiders, made)], place[np.ix_(insiders, graphs)]
        wins = np.all(new[:, None, :] >= now[:, :, None], axis=0)
        wins &= np.any(new[:, None, :] > now[:, :, None], axis=0)
        at, which = np.nonzero(wins)
        # The others keep the edges among themselves.
        kept = graphs[at] & ~every.touching[coalition]
        blocked[at, made[which] | kept] = True
    return blocked


def stable_codes(ranks: IntArray, rule: Rule) -> IntArray:
    """Codes of all stable graphs."""
    every = all_graphs(len(ranks))
    return np.flatnonzero(~np.any(blockers(ranks, every.codes, rule), axis=1))


def simplest_deviation(ranks: IntArray, adjacency: IntArray, rule: Rule) -> IntArray | None:
    """Return the graph that blocks this one with the fewest changed edges, or None."""
    now = code_of(adjacency)
    found = np.flatnonzero(blockers(ranks, np.array([now]), rule)[0])
    if not found.size:
        return None
    return from_code(int(min(found.tolist(), key=lambda code: ((code ^ now).bit_count(), code))), len(ranks))


def pareto_improvement(ranks: IntArray, adjacency: IntArray) -> IntArray | None:
    """Return a graph that nobody likes less and somebody more, or None."""
    place = ranks_by_graph(ranks)
    now = place[:, [code_of(adjacency)]]
    found = np.all(place >= now, axis=0) & np.any(place > now, axis=0)
    return from_code(int(np.argmax(found)), len(ranks)) if np.any(found) else None


# ---------------------------------------------------------------- one deviation


def coalition_for(before: IntArray, after: IntArray, moves: IntArray, rule: Rule) -> tuple[int, ...] | None:
    """Return a coalition that leads from one graph to another, or None.

    Parameters
    ----------
    before, after : array, shape (n_agents, n_agents)
    moves : array, shape (n_agents,)
        Positive for agents who like ``after`` better, negative for those who like it less.
    rule : {"strong", "cut"}
    """
    return (_strong_coalition if rule == "strong" else _cut_coalition)(before, after, moves)


def _strong_coalition(before: IntArray, after: IntArray, moves: IntArray) -> tuple[int, ...] | None:
    """Return whom the added edges need, and one end of each dropped edge, best gainer first."""
    coalition = set(np.flatnonzero(np.any(after > before, axis=1)).tolist())
    for a, b in np.argwhere(np.triu(before > after)).tolist():
        if not coalition & {a, b}:
            coalition.add(a if moves[a] >= moves[b] else b)
    if not any(moves[agent] > 0 for agent in coalition):
        coalition.add(int(np.argmax(moves)))
    chosen = tuple(sorted(coalition))
    fits = all(moves[agent] >= 0 for agent in chosen) and any(moves[agent] > 0 for agent in chosen)
    return chosen if fits else None


def _cut_coalition(before: IntArray, after: IntArray, moves: IntArray) -> tuple[int, ...] | None:
    """Return the agents of changed components of the new graph in which nobody loses.

    Who keeps no edge to others leaves them a union of components; the larger it is, the less is left to the
    others to change.
    """
    changed = np.any(before != after, axis=1)
    parts = [part for part in _components(after) if changed[part].any() and (moves[part] >= 0).all()]
    chosen = tuple(sorted(agent for part in parts for agent in part))
    others = [agent for agent in range(len(before)) if agent not in chosen]
    if np.any(before[np.ix_(others, others)] != after[np.ix_(others, others)]):
        return None
    return chosen if any(moves[agent] > 0 for agent in chosen) else None


def _components(adjacency: IntArray) -> list[list[int]]:
    """Connected components."""
    left, parts = set(range(len(adjacency))), []
    while left:
        part, edge = set[int](), {min(left)}
        while edge:
            part |= edge
            edge = set(np.flatnonzero(adjacency[sorted(edge)].any(axis=0)).tolist()) - part
        parts.append(sorted(part))
        left -= part
    return parts
