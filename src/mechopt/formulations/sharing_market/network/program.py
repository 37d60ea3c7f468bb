"""Which coalition can block a graph, as mixed-integer programs."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.sharing_market.concave import declare_concave, selection
from mechopt.formulations.sharing_market.network.graphs import IntArray
from mechopt.formulations.sharing_market.network.preferences import (
    TABLE_CAP,
    Preferences,
    SizePreferences,
)
from mechopt.formulations.sharing_market.network.stability import Rule
from mechopt.solvers.errors import InvalidInput, NotApplicable
from mechopt.solvers.program import Program

Array = NDArray[np.float64]


def declare_blocking(preferences: Preferences, adjacency: IntArray, rule: Rule) -> Program:
    """Declare the search for a blocking coalition; see `SharingNetwork.blocking_program`.

    With one selector for each agent and set of partners, so for any preferences of up to 12 agents.
    """
    n_agents = preferences.n_agents
    if n_agents > TABLE_CAP:
        raise InvalidInput(
            f"a selector for each set of partners is declared for up to {TABLE_CAP} agents, and there are "
            f"{n_agents}; form='compact' takes concave gains of total size with convex count_costs"
        )
    program = Program("blocking coalition")
    edge, member, better = _declare_coalition(program, adjacency, rule)
    # Column s of the selectors is the s-th set of other agents, whose bits skip the agent itself.
    bits = np.arange(1 << (n_agents - 1))[:, None] >> np.arange(n_agents - 1) & 1
    others = np.array([[b for b in range(n_agents) if b != a] for a in range(n_agents)])
    masks = (1 << others) @ bits.T
    ranks = np.take_along_axis(preferences.ranks, masks, axis=1)
    now = _masks(adjacency)[:, None]
    places = (ranks - np.take_along_axis(preferences.ranks, now, axis=1)).astype(float)
    utility = np.take_along_axis(preferences.table, masks, axis=1)
    utility = utility - np.take_along_axis(preferences.table, now, axis=1)

    # Where edges are whole, so is the selector: all sets of its support have the same members.
    selector = program.variable("selector", masks.shape, nonneg=True)
    program.define("gain", cp.sum(cp.multiply(utility, selector), axis=1))
    program.define("places", cp.sum(cp.multiply(places, selector), axis=1))
    program.maximize(cp.sum(better))
    program.add("one_set", cp.sum(selector, axis=1) == 1)
    numbers = _edge_numbers(n_agents)[np.arange(n_agents)[:, None], others]
    chosen = edge[numbers.ravel()]
    program.add("sets_are_edges", cp.vec(selector @ bits, order="C") == chosen)
    # Utilities are an order: a place gained is at least 1, however little utility lies between.
    worst = -places.min(axis=1)
    program.add("nobody_loses", program["places"] + cp.multiply(worst, 1 - member) >= better)
    return program.seal()


def declare_compact(preferences: Preferences, adjacency: IntArray, rule: Rule) -> Program:
    """Declare the same search for concave gains of total size and convex costs of count, in n^2 variables."""
    if not isinstance(preferences, SizePreferences):
        raise NotApplicable(
            "form='compact' needs utilities that are functions of total size (data_size=...); "
            "form='selectors' takes any utilities"
        )
    if preferences.why_not_ordered:
        raise NotApplicable(
            f"form='compact' needs rising concave gains and convex count_costs, but "
            f"{preferences.why_not_ordered}; form='selectors' takes any utilities"
        )
    n_agents, size, costs = preferences.n_agents, preferences.data_size, preferences.count_costs
    now = preferences.values(adjacency)
    zero = np.zeros(n_agents, dtype=np.int64)
    all_of_it = np.full(n_agents, float(size.sum()))
    lowest = preferences.evaluate(size, zero) + costs[:, 0] - costs.max(axis=1)
    highest = preferences.evaluate(all_of_it, zero) + costs[:, 0] - costs.min(axis=1)
    scale = highest - lowest
    program = Program("blocking coalition, compact")
    edge, member, better = _declare_coalition(program, adjacency, rule)
    first, second = np.triu_indices(n_agents, 1)
    ends = np.zeros((2, n_agents, first.size))
    for row, (a, b) in enumerate(((first, second), (second, first))):
        ends[row, a, np.arange(first.size)] = size[b]
    total = program.define("total_data", size + ends.sum(axis=0) @ edge)
    count = (ends.sum(axis=0) > 0).astype(float) @ edge
    # Each member's gain in units of what is at stake for it, capped at 1 by the variable.
    worth = _declare_gains(program, preferences, total, scale)
    gain = worth - _declare_costs(program, costs / scale[:, np.newaxis], count) - now / scale
    program.define("gain", cp.multiply(scale, gain))
    program.maximize(cp.sum(better))
    slack = (now - lowest) / scale
    program.add("nobody_loses", gain + cp.multiply(slack, 1 - member) >= better)
    return program.seal()


def _declare_coalition(program: Program, adjacency: IntArray, rule: Rule) -> tuple[Any, Any, Any]:
    """Who deviates, to which edges, and who is better off."""
    n_agents = len(adjacency)
    first, second = np.triu_indices(n_agents, 1)
    now = adjacency[first, second]
    edge = program.variable("edge", first.size, boolean=True)
    member = program.variable("member", n_agents, boolean=True)
    better = program.variable("better", n_agents, nonneg=True)
    program.add("better_inside", better <= member)
    a, b = member[first], member[second]
    if rule == "strong":
        program.add("added_inside", edge <= now + a, edge <= now + b)
        program.add("dropped_touch", edge >= now - a - b)
    else:
        program.add("cut_off", edge <= 1 - a + b, edge <= 1 + a - b)
        # What others do among themselves is not asked; they keep their edges.
        program.add("others_keep", edge >= now - a - b, edge <= now + a + b)
    return edge, member, better


def _declare_gains(program: Program, preferences: SizePreferences, total: Any, scale: Array) -> Any:
    """Gains of total size in units of ``scale``, shape (n_agents,)."""
    n_agents = preferences.n_agents
    gains = dict(enumerate(preferences.gains))
    parts = declare_concave(program, total, gains, np.full(n_agents, float(preferences.data_size.sum())))
    return sum(
        selection(part.agents, n_agents).T @ cp.multiply(1 / scale[part.agents], part.value) for part in parts
    )


def _declare_costs(program: Program, costs: Array, count: Any) -> Any:
    """Costs of count: the highest of the lines through neighbouring counts."""
    if not costs.any():
        return np.zeros(len(costs))
    slopes = np.diff(costs, axis=1)
    starts = costs[:, :-1] - slopes * np.arange(slopes.shape[1])
    lines = cp.multiply(slopes, cp.reshape(count, (len(costs), 1), order="C") @ np.ones((1, slopes.shape[1])))
    return cp.max(starts + lines, axis=1)


def _masks(adjacency: IntArray) -> IntArray:
    """Bit mask of each agent's partners."""
    return adjacency @ (1 << np.arange(len(adjacency), dtype=np.int64))


def _edge_numbers(n_agents: int) -> IntArray:
    """Number of the edge between two agents; the diagonal has no meaning."""
    numbers = np.zeros((n_agents, n_agents), dtype=np.int64)
    numbers[np.triu_indices(n_agents, 1)] = np.arange(n_agents * (n_agents - 1) // 2)
    return numbers + numbers.T
