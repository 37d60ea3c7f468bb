r"""Which coalitions block numbers of queries when there is no money: by enumeration, and by a program.

Two agents that ask each other have a deal: queries for queries. A coalition T may change deals so that none
of its members loses and one gains. With rule ``"strong"`` a new deal, with more queries or fewer, is between
two members, and any member may end one that it has. With rule ``"cut"`` members deal with nobody else any
more, as in the core.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.sharing_market.queries.program import (
    declare_levels,
    declare_queries,
    declare_utility,
    typical_utility,
)
from mechopt.solvers.errors import InvalidInput, NotApplicable
from mechopt.solvers.program import Program

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.queries.model import QueryMarket

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]
Rule = Literal["strong", "cut"]
Method = Literal["enumeration", "program"]

ONE_STATE_CAP = 300_000
"""States up to which one is held against all others."""

ALL_STATES_CAP = 5_000
"""States up to which every one is held against all others."""

TIE = 1e-10
"""Change of utility, relative to utilities, up to which an agent is indifferent."""

SOLVED = 1e-5
"""Gain, relative to utilities, that a solver's answer must have to be looked at: they stop at 1e-6."""

SLACK = 1e-7
"""Loss, relative to utilities, that a program forgives members: the indifferent would else be on its edge."""


@dataclass(frozen=True, eq=False)
class QueryBlocking:
    """A coalition, with numbers of queries that it can reach and likes better.

    Attributes
    ----------
    coalition : tuple of int
    query_count : array of int, shape (n_agents, n_agents)
        What it brings about.
    gains : array, shape (len(coalition),)
        What each member gains (money).
    """

    coalition: tuple[int, ...]
    query_count: IntArray
    gains: Array

    def __str__(self) -> str:
        gained = ", ".join(
            f"{agent} by {gain:.4g}" for agent, gain in zip(self.coalition, self.gains, strict=True)
        )
        return f"coalition makes {self.query_count.tolist()}, seller by seller: {gained}"


@dataclass(frozen=True, eq=False)
class QueryStability:
    """Whether numbers of queries are stable; true in conditions if they are.

    Attributes
    ----------
    stable : bool
    rule : str
        ``"strong"`` or ``"cut"``.
    method : str
        ``"enumeration"``, or ``"program"``: as accurate as a solver.
    witness : QueryBlocking or None
        Who blocks them, if they are not.
    """

    stable: bool
    rule: str
    method: str
    witness: QueryBlocking | None = None

    def __bool__(self) -> bool:
        return self.stable

    def __repr__(self) -> str:
        verdict = "stable" if self.stable else f"not stable ({self.witness})"
        return f"{verdict}, rule {self.rule}, by {self.method}"


def check(market: QueryMarket, query_count: IntArray, rule: Rule, method: Method | None) -> QueryStability:
    """Check whether a coalition blocks these queries; see `QueryMarket.is_stable`."""
    if rule not in ("strong", "cut"):
        raise InvalidInput(f"rule must be 'strong' or 'cut', got {rule!r}")
    if method not in ("enumeration", "program", None):
        raise InvalidInput(f"method must be 'enumeration' or 'program', got {method!r}")
    few = n_states(market) <= ONE_STATE_CAP
    if method == "program" or (method is None and not few):
        return _check_by_program(market, query_count, rule)
    if not few:
        raise NotApplicable(
            f"there are {n_states(market):.3g} states, and at most {ONE_STATE_CAP} are looked at; use "
            "method='program'",
            reason="states",
        )
    states = StableStates(market)
    blocking = states.blocking(query_count, rule)
    return QueryStability(blocking is None, rule, "enumeration", blocking)


def n_states(market: QueryMarket) -> float:
    """Number of all ways to ask queries."""
    with np.errstate(over="ignore"):  # infinitely many are too many, too
        return float(np.prod(market.max_queries + 1.0))


# ---------------------------------------------------------------- enumeration


@dataclass(frozen=True, eq=False)
class StableStates:
    """All numbers of queries of a small market, and which of them are stable.

    Parameters
    ----------
    market : QueryMarket

    Raises
    ------
    NotApplicable
        If there are too many.
    """

    market: QueryMarket

    def __post_init__(self) -> None:
        if n_states(self.market) > ONE_STATE_CAP:
            raise NotApplicable(
                f"there are {n_states(self.market):.3g} states, and at most {ONE_STATE_CAP} are listed",
                reason="states",
            )

    @cached_property
    def edges(self) -> IntArray:
        """Edges (seller, buyer) that may carry queries, shape (n_edges, 2)."""
        return np.argwhere(self.market.max_queries > 0)

    @cached_property
    def counts(self) -> NDArray[np.int16]:
        """Queries on each edge in each state, shape (n_states, n_edges)."""
        seller, buyer = self.edges.T
        radix = self.market.max_queries[seller, buyer] + 1
        states: NDArray[np.int16] = np.indices(radix.tolist(), dtype=np.int16)
        return states.reshape(radix.size, int(np.prod(radix))).T

    @cached_property
    def value(self) -> Array:
        """Each agent's value of each state (money), shape (n_states, n_agents)."""
        market = self.market
        value = np.empty((len(self.counts), market.n_agents))
        for agent, utility in enumerate(market.utility):
            buys, sells = self.edges[:, 1] == agent, self.edges[:, 0] == agent
            sellers, buyers = self.edges[buys, 0], self.edges[sells, 1]
            data = market.data_size[agent] + self.counts[:, buys] @ market.answer_size[sellers]
            cost = market.levels[self.counts[:, sells]] @ market.sharing_cost[agent, buyers]
            value[:, agent] = utility(data) - cost
        return value

    @cached_property
    def _pairs(self) -> list[tuple[int, int, IntArray]]:
        """Agents who can have a deal, and its edges."""
        pairs = sorted({(min(edge), max(edge)) for edge in self.edges.tolist()})
        return [
            (first, second, np.flatnonzero(np.all(np.isin(self.edges, (first, second)), axis=1)))
            for first, second in pairs
        ]

    @cached_property
    def _tie(self) -> float:
        return TIE * float(np.max(np.abs(self.value), initial=1e-300))

    def matrix(self, state: int) -> IntArray:
        """Return a state as numbers of queries, shape (n_agents, n_agents)."""
        count = np.zeros_like(self.market.max_queries)
        count[tuple(self.edges.T)] = self.counts[state]
        return count

    def index(self, query_count: IntArray) -> int:
        """Return the state with these numbers of queries."""
        seller, buyer = self.edges.T
        if not seller.size:
            return 0
        radix = (self.market.max_queries[seller, buyer] + 1).tolist()
        return int(np.ravel_multi_index(tuple(query_count[seller, buyer]), radix))

    def stable(self, rule: Rule) -> list[IntArray]:
        """Return all stable numbers of queries.

        Raises
        ------
        NotApplicable
            If there are more than `ALL_STATES_CAP` states.
        """
        if len(self.counts) > ALL_STATES_CAP:
            raise NotApplicable(
                f"{len(self.counts)} states are too many to hold each against all: at most {ALL_STATES_CAP}",
                reason="states",
            )
        return [
            self.matrix(state)
            for state in range(len(self.counts))
            if not np.any(self._blockers(state, rule)[0])
        ]

    def blocking(self, query_count: IntArray, rule: Rule) -> QueryBlocking | None:
        """Return the deviation that changes the fewest queries, or None."""
        now = self.index(query_count)
        blocks, members = self._blockers(now, rule)
        found = np.flatnonzero(blocks)
        if not found.size:
            return None
        changed = np.abs(self.counts[found].astype(int) - self.counts[now]).sum(axis=1)
        state = int(found[np.argmin(changed)])
        coalition = tuple(int(agent) for agent in np.flatnonzero(members[state]))
        gains = (self.value[state] - self.value[now])[list(coalition)]
        return QueryBlocking(coalition, self.matrix(state), gains)

    def _blockers(self, now: int, rule: Rule) -> tuple[BoolArray, BoolArray]:
        """States that block this one, shape (n_states,), and by which coalition, (n_states, n_agents)."""
        change = self.value - self.value[now]
        happy, better = change >= -self._tie, change > self._tie
        if rule == "strong":
            # Whoever does not lose may as well take part.
            reached = np.any(better, axis=1)
            for first, second, edges in self._pairs:
                then = self.counts[:, edges]
                changed, ended = np.any(then != self.counts[now, edges], axis=1), ~np.any(then, axis=1)
                one, both = happy[:, first] | happy[:, second], happy[:, first] & happy[:, second]
                reached &= ~changed | both | (ended & one)
            return reached, happy
        blocks, members = np.zeros(len(self.counts), dtype=bool), np.zeros(happy.shape, dtype=bool)
        for mask in range(1, 2**self.market.n_agents):
            coalition = (mask >> np.arange(self.market.n_agents) & 1).astype(bool)
            outside = ~np.all(coalition[self.edges], axis=1)
            wins = np.all(happy[:, coalition], axis=1) & np.any(better[:, coalition], axis=1)
            wins &= ~np.any(self.counts[:, outside], axis=1) & ~blocks
            blocks |= wins
            members[wins] = coalition
        return blocks, members


# ---------------------------------------------------------------- program


def declare_blocking(market: QueryMarket, query_count: IntArray, rule: Rule) -> Program:
    """Declare the search for the deviation with the largest sum of gains, by one of the two rules.

    Returns
    -------
    Program
        Variables ``query_count`` (what the coalition brings about), ``member`` (boolean), ``gain`` (of
        members; money), families ``gains`` and ``members_only``, and, for rule ``"strong"``, the boolean
        variable ``ended`` (of pairs) with families ``ended``, ``ended_deals`` and ``new_deals``, or for rule
        ``"cut"`` the family ``inside``. The queries are stable iff the optimum is 0, but for `SLACK`.
    """
    size = typical_utility(market)
    now = market.allocation_value(query_count)
    program = Program(f"blocking of queries, rule {rule}", objective_scale=float(np.mean(size)))
    count, data = declare_queries(market, program)
    utility = declare_utility(market, program, data).value
    cost = cp.multiply(market.sharing_cost, declare_levels(market, program, count))
    member = program.variable("member", market.n_agents, boolean=True)
    gain = program.variable("gain", market.n_agents, nonneg=True, scale=size)
    # The most that anybody can gain or lose.
    most = size + np.abs(now) + market.cost(market.max_queries).sum(axis=1)
    change = utility - cp.sum(cost, axis=1) - now
    # In units of each agent's money, as rows with concave terms are not scaled by themselves.
    room = cp.multiply(most / size, 1 - member)
    program.add("gains", cp.multiply(1 / size, gain) <= cp.multiply(1 / size, change) + SLACK + room)
    program.add("members_only", gain <= cp.multiply(most, member))
    seller, buyer = np.nonzero(market.max_queries > 0)
    if not seller.size:
        return program.maximize(cp.sum(gain)).seal()
    limit = market.max_queries[seller, buyer]
    then, before = count[seller, buyer], query_count[seller, buyer]
    if rule == "strong":
        pairs, pair = np.unique(np.sort(np.stack([seller, buyer]), axis=0), axis=1, return_inverse=True)
        ended = program.variable("ended", pairs.shape[1], boolean=True)
        program.add("ended", ended <= member[pairs[0]] + member[pairs[1]])
        program.add("ended_deals", then <= cp.multiply(limit, 1 - ended[pair]))
        changes = [
            change <= cp.multiply(limit, member[end] + ended[pair])
            for end in (seller, buyer)
            for change in (then - before, before - then)
        ]
        program.add("new_deals", *changes)
    else:
        program.add("inside", *(then <= cp.multiply(limit, member[end]) for end in (seller, buyer)))
    program.maximize(cp.sum(gain))
    return program.seal()


def _check_by_program(market: QueryMarket, query_count: IntArray, rule: Rule) -> QueryStability:
    solution = declare_blocking(market, query_count, rule).solve()
    size = float(np.max(typical_utility(market)))
    if solution.objective <= SOLVED * size:
        return QueryStability(True, rule, "program")
    then = np.round(solution["query_count"]).astype(np.intp)
    coalition = np.flatnonzero(np.asarray(solution["member"]) > 0.5)
    if rule == "cut":
        kept = np.zeros_like(then)
        kept[np.ix_(coalition, coalition)] = then[np.ix_(coalition, coalition)]
        then = kept
    # Agents on the edge of losing by a solver's tolerance are members only if they do not lose.
    gains = (market.allocation_value(then) - market.allocation_value(query_count))[coalition]
    blocking = QueryBlocking(tuple(coalition.tolist()), then, gains)
    return QueryStability(False, rule, "program", blocking)
