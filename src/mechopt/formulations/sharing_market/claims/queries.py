"""Queries (section 6) as claims: prices, tariffs and payments that hold, and a match that is not stable.

Second roads look at every state of a small market: all numbers of queries on all edges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import (
    CappedUtility,
    ConcaveFunction,
    LinearUtility,
    LogUtility,
    SqrtUtility,
    ThresholdUtility,
)
from mechopt.formulations.functions.utilities import SizeUtility
from mechopt.formulations.sharing_market.claims import exact_gaps as exactly
from mechopt.formulations.sharing_market.claims.roads import LEDGER
from mechopt.formulations.sharing_market.families import Rng, short
from mechopt.formulations.sharing_market.queries import QueryMarket, StableStates
from mechopt.verification.claim import Finding, Verdict
from mechopt.verification.evidence import confirm, largest, row

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

SCALE = 1e-9
"""Tolerance of enumeration: sums of a few numbers."""


@dataclass(frozen=True)
class QueryCase:
    """A market for queries in short decimals; ``sharing_cost[seller][buyer]``, ``composition[queries]``."""

    data_size: tuple[float, ...]
    query_size: tuple[float, ...]
    sharing_cost: tuple[tuple[float, ...], ...]
    utility: tuple[ConcaveFunction | SizeUtility, ...]
    composition: tuple[float, ...]

    def market(self) -> QueryMarket:
        """Build the mechanism."""
        return QueryMarket(
            np.array(self.data_size),
            np.array(self.sharing_cost),
            self.utility,
            np.array(len(self.composition) - 1),
            np.array(self.query_size),
            np.array(self.composition),
        )


CYCLE = QueryCase(
    data_size=(3.0, 2.0, 1.0),
    query_size=(3.0, 2.0, 1.0),
    sharing_cost=((0.0, 3.0, 0.2), (0.2, 0.0, 3.0), (3.0, 0.5, 0.0)),
    utility=(LogUtility(4.0, 2.0),) * 3,
    composition=(0.0, 1.0),
)
"""No two agents gain by a trade, as one of the two would bear a cost of 3; all three gain round a circle."""


LINEAR_CYCLE = replace(CYCLE, utility=(LinearUtility(0.9),) * 3)
"""The same with utilities that are rational."""


def random_query_case(
    rng: Rng,
    *,
    composition: tuple[float, ...] | None = None,
    concave: bool = False,
    rational: bool = False,
) -> QueryCase:
    """Draw a market of three agents; costs that add up linearly, faster or slower, unless they are given."""
    most = 2
    levels = composition
    if levels is None:
        power = (1.0, 1.5, 0.5)[int(rng.integers(3))]
        levels = tuple(short(q**power) for q in range(most + 1))
    kind = int(rng.integers(3))
    sizes = (np.full(3, 1.3), rng.integers(1, 5, 3), rng.uniform(0.5, 3, 3))[kind]
    utilities: list[ConcaveFunction | SizeUtility] = []
    for _ in range(3):
        weight, size = short(rng.uniform(3, 10)), short(rng.uniform(1, 6))
        kinds = (
            LogUtility(weight, size),
            SqrtUtility(short(weight / 2)),
            CappedUtility(weight, size),
            ThresholdUtility(weight, size),
        )
        utilities.append(kinds[int(rng.integers(2 if rational else 0, 3 if concave else 4))])
    cost = rng.uniform(0, 1.5, (3, 3)) * (1 - np.eye(3))
    return QueryCase(
        tuple(short(d) for d in rng.uniform(0.5, 4, 3)),
        tuple(short(s) for s in sizes),
        tuple(tuple(short(c) for c in line) for line in cost),
        tuple(utilities),
        levels,
    )


def query_cases(rng: Rng, n: int) -> Iterator[QueryCase]:
    """Draw markets of every kind."""
    for _ in range(n):
        yield random_query_case(rng)


def concave_cases(rng: Rng, n: int) -> Iterator[QueryCase]:
    """Draw markets with concave utilities."""
    for _ in range(n):
        yield random_query_case(rng, concave=True)


def linear_cases(rng: Rng, n: int) -> Iterator[QueryCase]:
    """Draw markets in which costs are linear in queries."""
    for _ in range(n):
        yield random_query_case(rng, composition=(0.0, 1.0, 2.0))


def rational_linear_cases(rng: Rng, n: int) -> Iterator[QueryCase]:
    """Draw markets in which costs are linear in queries, and utilities rational."""
    for _ in range(n):
        yield random_query_case(rng, composition=(0.0, 1.0, 2.0), rational=True)


def ranked_cases(rng: Rng, n: int) -> Iterator[QueryCase]:
    """Draw markets that all agents rank alike, by size, with one query a direction and log utilities."""
    yield from (CYCLE,)[:n]
    for _ in range(n - 1):
        yield _ranked_case(rng, lambda: LogUtility(short(rng.uniform(2, 6)), short(rng.uniform(0.5, 2))))


def ranked_linear_cases(rng: Rng, n: int) -> Iterator[QueryCase]:
    """Draw markets like those with linear utilities, which are rational."""
    yield from (LINEAR_CYCLE,)[:n]
    for _ in range(n - 1):
        yield _ranked_case(rng, lambda: LinearUtility(short(rng.uniform(0.3, 1.5))))


def _ranked_case(rng: Rng, draw: Callable[[], ConcaveFunction]) -> QueryCase:
    size = tuple(short(s) for s in sorted(rng.uniform(0.5, 3, 3), reverse=True))
    cost = rng.uniform(0, 1.5, (3, 3)) * (1 - np.eye(3))
    utility = tuple(draw() for _ in range(3))
    return QueryCase(size, size, tuple(tuple(short(c) for c in line) for line in cost), utility, (0.0, 1.0))


# ------------------------------------------------------------ every state of a small market


@dataclass(frozen=True)
class WholeMarket:
    """All numbers of queries on all edges, and what each is worth to whom."""

    case: QueryCase

    @cached_property
    def states(self) -> Counts:
        """Queries, shape (n_states, n_agents, n_agents)."""
        n, levels = len(self.case.data_size), len(self.case.composition)
        pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
        digits = np.arange(levels ** len(pairs))
        states = np.zeros((digits.size, n, n), dtype=np.int64)
        for i, j in pairs:
            digits, states[:, i, j] = np.divmod(digits, levels)
        return states

    @cached_property
    def utility(self) -> Array:
        """Utility of each agent, shape (n_states, n_agents)."""
        told = np.einsum("i,sij->sj", np.array(self.case.query_size), self.states)
        each = [
            phi(d + told[:, j])
            for j, (phi, d) in enumerate(zip(self.case.utility, self.case.data_size, strict=True))
        ]
        return np.stack(each, axis=1)

    @cached_property
    def cost(self) -> Array:
        """What each edge costs its seller, shape (n_states, n_agents, n_agents)."""
        cost: Array = np.array(self.case.composition)[self.states] * np.array(self.case.sharing_cost)
        return cost

    @cached_property
    def value(self) -> Array:
        """V_i of every state, shape (n_states, n_agents)."""
        value: Array = self.utility - self.cost.sum(axis=2)
        return value

    @property
    def size(self) -> float:
        """Money involved."""
        return largest(self.value)

    def at(self, count: NDArray[np.integer]) -> int:
        """Index of a state."""
        return int(np.flatnonzero(np.all(self.states == count, axis=(1, 2)))[0])

    def blocked(self, now: int, *, cut: bool) -> tuple[float, int, tuple[int, ...]]:
        """The coalition whose members gain most in all, none of whom loses: gain, state, members.

        A coalition deals with nobody else (``cut``), or may keep deals with others as they are, or end them.
        """
        n, tie = self.value.shape[1], 1e-10 * self.size
        change = self.value - self.value[now]
        best, where, who = 0.0, now, tuple[int, ...]()
        for size in range(1, n + 1):
            for members in combinations(range(n), size):
                reached = np.ones(len(self.states), dtype=bool)
                for a, b in combinations(range(n), 2):
                    deal = self.states[:, [a, b], [b, a]]
                    inside = {a, b} <= set(members)
                    touched = bool({a, b} & set(members))
                    none, same = ~deal.any(axis=1), np.all(deal == deal[now], axis=1)
                    if not inside:
                        reached &= none if cut else none | same if touched else same
                mine = change[:, list(members)]
                gain = np.where(reached & np.all(mine >= -tie, axis=1), mine.sum(axis=1), -np.inf)
                state = int(np.argmax(gain))
                if gain[state] > best + tie:
                    best, where, who = float(gain[state]), state, members
        return best, where, who


# ------------------------------------------------------------ R17: prices, tariffs, payments


@LEDGER.claim(
    "sharing-market/R17",
    source="Section 6; (35)",
    statement="Queries of most welfare are an equilibrium at a price c_i(j) a query",
    instances=linear_cases,
    tolerance=SCALE,
    n_instances=40,
)
def prices_a_query(case: QueryCase) -> Finding:
    """Compute everybody's regret over all states."""
    market, whole = case.market(), WholeMarket(case)
    solution = market.solve()
    price = market.competitive_prices()
    now = whole.at(np.asarray(solution["query_count"]))
    paid = whole.states * price
    buyers = whole.utility - paid.sum(axis=1)
    sellers = (paid - whole.cost).sum(axis=2)
    regret = max(
        float((buyers.max(axis=0) - buyers[now]).max()), float((sellers.max(axis=0) - sellers[now]).max())
    )
    lost = float(whole.value.sum(axis=1).max()) - solution.objective
    return Finding(
        max(regret, abs(lost)) / whole.size, f"regret {regret:.3g}; short of most welfare {lost:.3g}"
    )


@LEDGER.claim(
    "sharing-market/R17-tariff",
    source="Section 6, beyond (35)",
    statement="However costs grow with queries, tariffs C_ij(q) support the queries of most welfare",
    instances=query_cases,
    tolerance=SCALE,
    n_instances=40,
)
def tariffs_at_cost(case: QueryCase) -> Finding:
    """Compute everybody's regret over all states; sellers earn nothing on any."""
    market, whole = case.market(), WholeMarket(case)
    solution = market.solve()
    now = whole.at(np.asarray(solution["query_count"]))
    sellers, buyers = np.indices(whole.states.shape[1:])
    charged = market.tariff[sellers, buyers, np.where(sellers == buyers, 0, whole.states)]
    kept = whole.utility - charged.sum(axis=1)
    regret = float((kept.max(axis=0) - kept[now]).max())
    earned = largest(charged - whole.cost)
    lost = float(whole.value.sum(axis=1).max()) - solution.objective
    gap = max(regret, earned, abs(lost)) / whole.size
    return Finding(gap, f"regret {regret:.3g}, sellers earn {earned:.3g}; short of most welfare {lost:.3g}")


@LEDGER.claim(
    "sharing-market/R17-program",
    source="Section 6; (11) for queries",
    statement="The integer program, solved jointly, finds the most welfare of all numbers of queries",
    instances=concave_cases,
    tolerance=SCALE,
    n_instances=8,
)
def program_for_queries(case: QueryCase) -> Finding:
    """Compare the declared program, its answer recomputed, with all states."""
    found = case.market().solve("outer").objective
    whole = WholeMarket(case)
    most = float(whole.value.sum(axis=1).max())
    return Finding(abs(found - most) / whole.size, f"program {found:.9g}, all states {most:.9g}")


@LEDGER.claim(
    "sharing-market/R17-budget",
    source="Section 6, with a privacy budget for each seller",
    statement="With privacy budgets the joint program finds the most welfare within them",
    instances=concave_cases,
    tolerance=SCALE,
    n_instances=8,
)
def program_within_budgets(case: QueryCase) -> Finding:
    """Compare with all states within budgets that are half of what all queries would use."""
    market, whole = case.market(), WholeMarket(case)
    levels = np.array(case.composition)
    # Off the sums of losses that there are, so that rounding does not decide.
    budget = float(levels[-1]) + 0.01
    found = market.solve(privacy_budget=budget).objective
    used = np.where(np.eye(3, dtype=bool), 0.0, levels[whole.states]).sum(axis=2)
    most = float(whole.value.sum(axis=1)[np.all(used <= budget, axis=1)].max())
    return Finding(abs(found - most) / whole.size, f"program {found:.9g}, all states within {most:.9g}")


@LEDGER.claim(
    "sharing-market/R17-vcg",
    source="Section 6; (18)-(20), (36)",
    statement="VCG for queries has the pivots of whole markets; with exclusion nobody loses, nothing is left",
    instances=query_cases,
    tolerance=SCALE,
    n_instances=30,
)
def payments_for_queries(case: QueryCase) -> Finding:
    """Compute both pivots over all states, and payoffs with exclusion against own data."""
    market, whole = case.market(), WholeMarket(case)
    others = whole.value.sum(axis=1, keepdims=True) - whole.value
    exclude = market.vcg("exclude")
    apart = np.array(
        [
            others[~(whole.states[:, i].any(axis=1) | whole.states[:, :, i].any(axis=1)), i].max()
            for i in range(3)
        ]
    )
    gap = largest(exclude.pivot_value - apart)
    gap = max(gap, largest(market.vcg("drop").pivot_value - others.max(axis=0)))
    lost = float(np.max(market.outside_option - exclude.payoff))
    gap = max(gap, lost, exclude.imbalance)
    return Finding(
        gap / whole.size,
        f"pivots {row(exclude.pivot_value)}, all states {row(apart)}; imbalance {exclude.imbalance:.3g}, "
        f"largest loss {lost:.3g}",
    )


# ------------------------------------------------------------ E14: orientation, and the match


@LEDGER.claim(
    "sharing-market/R17-orientation",
    source="Section 6; (35)",
    statement="With w_ij the queries of j on i's data, an agent's cost is the sum of w_ij c_i(j) over j",
    instances=linear_cases,
    tolerance=SCALE,
    n_instances=30,
)
def cost_of_answers(case: QueryCase) -> Finding:
    """Compare what agents have, less utility, with (35), query by query."""
    market = case.market()
    count = np.asarray(market.solve()["query_count"])
    borne = market.buyer_value(count) - market.allocation_value(count)
    summed = [sum(case.sharing_cost[i][j] for j in range(3) for _ in range(count[i, j])) for i in range(3)]
    return Finding(
        largest(borne - summed) / largest(market.buyer_value(count)), f"{row(borne)}, {row(summed)}"
    )


@LEDGER.claim(
    "sharing-market/E14-orientation",
    source="Section 6, before (35)",
    statement="With w_ij the queries that i runs on j's data, (35) is what i's answers cost it",
    instances=rational_linear_cases,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R17-orientation",
    n_instances=20,
    confirm_exactly=exactly.cost_of_questions,
)
def cost_of_questions(case: QueryCase) -> Finding:
    """Evaluate (35) with the first definition of the weights, that of the other direction."""
    market = case.market()
    count = np.asarray(market.solve()["query_count"])
    printed = (count.T * market.sharing_cost).sum(axis=1)
    borne = market.buyer_value(count) - market.allocation_value(count)
    gap = largest(printed - borne) / largest(market.buyer_value(count))
    if gap > 1e-6:
        summed = [
            sum(case.sharing_cost[i][j] for j in range(3) for _ in range(count[i, j])) for i in range(3)
        ]
        confirm(
            largest(borne - summed) <= SCALE * largest(borne), f"query by query, answers cost {row(summed)}"
        )
    return Finding(gap, f"(35) gives {row(printed)}, answers cost {row(borne)}; queries {count.tolist()}")


@LEDGER.claim(
    "sharing-market/E14",
    source="Section 6, the updated ordered match",
    statement="The ordered match, with weights to choose from, finds a core stable outcome",
    instances=ranked_linear_cases,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R17-core",
    n_instances=200,
    confirm_exactly=exactly.match_is_stable,
)
def match_is_stable(case: QueryCase) -> Finding:
    """Search all states and coalitions for one that deals among itself, loses nowhere and gains."""
    market, whole = case.market(), WholeMarket(case)
    match = market.ordered_match()
    gain, state, members = whole.blocked(whole.at(match.query_count), cut=True)
    if members:
        witness = match.core.witness
        confirm(witness is not None, "the check of the match names a coalition")
        assert witness is not None
        before, after = (market.allocation_value(q) for q in (match.query_count, witness.query_count))
        gains = (after - before)[list(witness.coalition)]
        confirm(gains.min() >= -SCALE and gains.max() > 0, f"it deals so that its members gain {row(gains)}")
    return Finding(
        gain / whole.size,
        f"coalition {list(members)} makes {whole.states[state].tolist()} of {match.query_count.tolist()} and "
        f"gains {gain:.6g} in all",
    )


@LEDGER.claim(
    "sharing-market/R17-core",
    source="Section 6, corrected",
    statement="The check of the match is right; where it is blocked, some other state is core stable",
    instances=ranked_cases,
    tolerance=0.0,
    n_instances=60,
)
def match_is_checked(case: QueryCase) -> Finding:
    """Hold both verdicts, and a state that is said to be stable, against all coalitions."""
    market, whole = case.market(), WholeMarket(case)
    match = market.ordered_match()
    now = whole.at(match.query_count)
    for cut, verdict in ((True, match.core), (False, match.strong)):
        blocked = bool(whole.blocked(now, cut=cut)[2])
        if blocked == verdict.stable:
            return Finding(1.0, f"rule {verdict.rule}: said to be {verdict!r}")
    if match.core:
        return Finding(0.0)
    others = StableStates(market).stable("cut")
    if not others:
        return Finding(1.0, f"{match.query_count.tolist()} is blocked, and so is every other state")
    found = whole.blocked(whole.at(others[0]), cut=True)
    return Finding(float(bool(found[2])), f"{others[0].tolist()} is blocked by {found[2]}")
