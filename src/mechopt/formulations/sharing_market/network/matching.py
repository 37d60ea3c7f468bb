"""The ordered match: agents in turn, best first, ask all later ones, who accept or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.sharing_market.network.graphs import IntArray
from mechopt.formulations.sharing_market.network.preferences import (
    TIE,
    Preferences,
    SizePreferences,
    compare,
)
from mechopt.formulations.sharing_market.network.properties import ComplementarityViolation, TopAgentViolation
from mechopt.solvers.errors import InvalidInput

Ties = Literal["raise", "refuse"]
Violation = TopAgentViolation | ComplementarityViolation


@dataclass(frozen=True, eq=False)
class Match:
    """What the ordered match gave.

    Attributes
    ----------
    adjacency : array of int, shape (n_agents, n_agents)
        The graph, symmetric.
    ranking : array of int, shape (n_agents,)
        Agents, best first.
    guarantee : bool or None
        True: both properties hold, and the graph is the only strongly stable one. False: one of them fails.
        None: there are too many agents to tell.
    reason : str
        Why, for people.
    witness : TopAgentViolation, ComplementarityViolation or None
        What fails, if a property does.
    n_queries : int
        Questions put to agents, two at most for each pair.
    """

    adjacency: IntArray
    ranking: IntArray
    guarantee: bool | None
    reason: str
    witness: Violation | None
    n_queries: int


def ranking_of(value: object, n_agents: int) -> IntArray:
    """Return a ranking as an array, after checking that it is a permutation."""
    try:
        ranking: NDArray[np.float64] = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise InvalidInput(f"ranking must list the agents, best first; got {value!r}") from None
    if ranking.shape != (n_agents,) or not np.array_equal(np.sort(ranking), np.arange(n_agents)):
        shown = np.array2string(ranking, threshold=12, separator=", ")
        raise InvalidInput(
            f"ranking must be a permutation of 0, ..., {n_agents - 1}, best first; got {shown}"
        )
    return ranking.astype(np.int64)


def sweep(preferences: Preferences, ranking: IntArray, ties: Ties) -> tuple[IntArray, int]:
    """Run the ordered match as it is written; return the graph and the number of queries."""
    n_agents = preferences.n_agents
    partners: list[frozenset[int]] = [frozenset()] * n_agents
    have = [preferences.utility(agent, frozenset()) for agent in range(n_agents)]
    adjacency = np.zeros((n_agents, n_agents), dtype=np.int64)
    queries = 0

    def wants(agent: int, other: int) -> float | None:
        """Utility with ``other`` as one more partner, if that is better."""
        new = preferences.utility(agent, partners[agent] | {other})
        better = compare(new, have[agent])
        if better == 0 and ties == "raise":
            raise InvalidInput(_tie(agent, other, sorted(partners[agent])))
        return new if better > 0 else None

    for turn, asking in enumerate(ranking.tolist()):
        for asked in ranking[turn + 1 :].tolist():
            queries += 1
            proposed = wants(asking, asked)
            if proposed is None:
                continue
            queries += 1
            accepted = wants(asked, asking)
            if accepted is None:
                continue
            adjacency[asking, asked] = adjacency[asked, asking] = 1
            partners[asking] |= {asked}
            partners[asked] |= {asking}
            have[asking], have[asked] = proposed, accepted
    return adjacency, queries


def sweep_by_size(preferences: SizePreferences, ranking: IntArray, ties: Ties) -> tuple[IntArray, int]:
    """Run the ordered match with running totals, many pairs at once.

    Whether the agents in places a < b match depends on what either has got from pairs (a, b') with b' < b
    and (a', b) with a' < a, all of a smaller sum of places: pairs of equal sum are decided together, in
    2 n - 3 rounds, in each of which an agent has one question to answer.
    """
    n_agents, size = preferences.n_agents, preferences.data_size
    totals, counts = size.copy(), np.zeros(n_agents, dtype=np.int64)
    have = preferences.evaluate(totals, counts)
    adjacency = np.zeros((n_agents, n_agents), dtype=np.int64)
    queries = 0
    for places in range(1, 2 * n_agents - 2):
        first = np.arange(max(0, places - n_agents + 1), (places + 1) // 2)
        asking, asked = ranking[first], ranking[places - first]
        offered = np.zeros(n_agents)
        offered[asking], offered[asked] = size[asked], size[asking]
        more = counts + 1
        more[offered == 0] = counts[offered == 0]
        new = preferences.evaluate(totals + offered, more)
        tied = np.abs(new - have) <= TIE * np.maximum(np.abs(new), np.abs(have))
        proposes = (new > have)[asking] & ~tied[asking]
        if ties == "raise" and np.any(tied[asking] | (proposes & tied[asked])):
            pair = int(np.argmax(tied[asking] | (proposes & tied[asked])))
            agent, other = int(asking[pair]), int(asked[pair])
            if not tied[agent]:
                agent, other = other, agent
            raise InvalidInput(_tie(agent, other, np.flatnonzero(adjacency[agent]).tolist()))
        queries += first.size + int(proposes.sum())
        match = proposes & (new > have)[asked] & ~tied[asked]
        a, b = asking[match], asked[match]
        adjacency[a, b] = adjacency[b, a] = 1
        changed = np.concatenate([a, b])
        totals[changed] += offered[changed]
        counts[changed] += 1
        have[changed] = new[changed]
    return adjacency, queries


def _tie(agent: int, other: int, partners: list[int]) -> str:
    shown = str(partners) if len(partners) <= 12 else f"{len(partners)} agents"
    return (
        f"strict preference required: agent {agent} with partners {shown} is indifferent to adding {other}; "
        "break the tie in utilities, or pass ties='refuse' for a match without guarantee"
    )
