"""The two properties under which networks are stable, checked by the definition on a table of ranks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mechopt.formulations.sharing_market.network.graphs import IntArray, members

NOTHING = -1
"""Below every rank: the best of no set at all."""


@dataclass(frozen=True)
class TopAgentViolation:
    """A partner lower in the ranking that an agent likes as much as a higher one, or better.

    Attributes
    ----------
    agent : int
        Whose preference it is.
    higher, lower : int
        The two partners, as the ranking has them.
    partners : frozenset of int
        The partners beside whom the agent does not strictly prefer ``higher``.
    tie : bool
        Whether the agent is indifferent.
    """

    agent: int
    higher: int
    lower: int
    partners: frozenset[int]
    tie: bool

    def __str__(self) -> str:
        what = "is indifferent between" if self.tie else "does not prefer"
        joint = "and" if self.tie else "to"
        return (
            f"agent {self.agent} {what} {self.higher} {joint} {self.lower} beside partners "
            f"{sorted(self.partners)}"
        )


@dataclass(frozen=True)
class ComplementarityViolation:
    """A set of lower agents that an agent takes although it refuses the best of them.

    Attributes
    ----------
    agent : int
        Whose preference it is.
    refused : int
        The partner whom it does not strictly want beside ``partners``.
    partners : frozenset of int
        What it has.
    added : frozenset of int
        A set of ``refused`` and lower agents that it likes to add, or does not mind.
    """

    agent: int
    refused: int
    partners: frozenset[int]
    added: frozenset[int]

    def __str__(self) -> str:
        return (
            f"agent {self.agent} with partners {sorted(self.partners)} does not want {self.refused}, and "
            f"does not lose by adding {sorted(self.added)}"
        )


def top_agent_violation(ranks: IntArray, ranking: IntArray) -> TopAgentViolation | None:
    """Return where an agent does not rank partners as ``ranking`` does, or None (Definitions 3.3, 3.4)."""
    masks = np.arange(ranks.shape[1])
    for agent, order in enumerate(ranks):
        others = [int(other) for other in ranking if other != agent]
        # Neighbours are enough: what holds for (a, b) and (b, c) in all company holds for (a, c).
        for higher, lower in pairwise(others):
            free = masks[masks & (1 << agent | 1 << higher | 1 << lower) == 0]
            lead = order[free | 1 << higher] - order[free | 1 << lower]
            if np.any(lead <= 0):
                at = int(np.argmax(lead <= 0))
                return TopAgentViolation(agent, higher, lower, members(int(free[at])), bool(lead[at] == 0))
    return None


def tie_between_agents(ranks: IntArray) -> TopAgentViolation | None:
    """Return two partners between whom an agent is indifferent, or None."""
    n_agents, masks = len(ranks), np.arange(ranks.shape[1])
    for agent, order in enumerate(ranks):
        for a in range(n_agents):
            for b in range(a + 1, n_agents):
                if agent in (a, b):
                    continue
                free = masks[masks & (1 << agent | 1 << a | 1 << b) == 0]
                ties = order[free | 1 << a] == order[free | 1 << b]
                if np.any(ties):
                    return TopAgentViolation(agent, a, b, members(int(free[np.argmax(ties)])), True)
    return None


def limited_complementarity_violation(
    ranks: IntArray, ranking: IntArray, *, prefix: bool = False
) -> ComplementarityViolation | None:
    """Return where an agent refuses a partner and takes lower ones, or None (Definition 3.5, corrected).

    Parameters
    ----------
    ranks : array, shape (n_agents, 2 ** n_agents)
    ranking : array, shape (n_agents,)
        Agents, best first.
    prefix : bool
        Look only at sets of partners who are above the refused one: the proofs use no others.
    """
    masks = np.arange(ranks.shape[1])
    for agent, order in enumerate(ranks):
        later = np.full(masks.size, NOTHING)  # the best rank after adding some of the agents seen so far
        lower = 0
        for partner in (int(other) for other in reversed(ranking) if other != agent):
            bit = 1 << partner
            lower |= bit
            free = masks[masks & (bit | 1 << agent) == 0]
            best = later.copy()
            best[free] = np.maximum.reduce([later[free], order[free | bit], later[free | bit]])
            later = best
            wrong = (order[free | bit] <= order[free]) & (later[free] >= order[free])
            if prefix:
                wrong &= free & lower == 0
            if np.any(wrong):
                have = int(free[np.argmax(wrong)])
                return ComplementarityViolation(
                    agent, partner, members(have), _best_addition(order, have, lower & ~have)
                )
    return None


def _best_addition(order: IntArray, have: int, pool: int) -> frozenset[int]:
    """Return the best non-empty set to add from a pool, as bit masks."""
    added, best, choice = pool, NOTHING, pool
    while added:  # all non-empty subsets of the pool
        if order[have | added] > best:
            best, choice = int(order[have | added]), added
        added = (added - 1) & pool
    return members(choice)
