r"""The declared program of the market for queries.

.. math:: \max \sum_j u_j - \sum_{ij} C_{ij}(q_{ij}) \quad \text{s.t.} \quad u_j \le U_j(D_j), \quad
   D_j = d_j + \sum_i s_i q_{ij}, \quad q_{ij} \in \{0, \dots, Q_{ij}\}.

Costs that are not linear are sums over segments, one a query, at the cost of that query. Where each query
costs at least as much as the one before it, an optimum fills them in order by itself, and they may be
continuous; where not, as under advanced composition, they are binary, and a family says that they come in
order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import ConcaveFunction, SizeUtility, ThresholdUtility
from mechopt.formulations.sharing_market.concave import Worth, declare_concave, selection
from mechopt.formulations.sharing_market.guards import Guarded
from mechopt.formulations.sharing_market.queries.exact import ROUNDING, best_queries, common_unit
from mechopt.solvers.backend import Settings
from mechopt.solvers.errors import NotApplicable
from mechopt.solvers.program import Changes, ExactAnswer, Program

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.queries.model import QueryMarket

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]
Completion = Callable[[IntArray], dict[str, Array]]

TOTALS_CAP = 5000
"""Totals of a buyer's information up to which a utility of any shape is tabulated."""


def declare(market: QueryMarket, budget: Array | None, loss: Array) -> Program:
    """Declare the choice of queries of most welfare; see `QueryMarket.program`."""
    program = Program("queries", objective_scale=float(np.mean(typical_utility(market))))
    count, data = declare_queries(market, program)
    utility = declare_utility(market, program, data)
    charged = declare_levels(market, program, count)
    cost = program.define("cost", cp.multiply(market.sharing_cost, charged))
    program.define("welfare", cp.sum(utility.value) - cp.sum(cost))
    program.maximize(program["welfare"])
    if budget is not None:
        finite = np.flatnonzero(np.isfinite(budget))
        used = cp.sum(cp.multiply(loss, charged), axis=1)
        if finite.size:
            program.add("privacy_budget", used[finite] <= budget[finite])
    route = ExactQueries(market, "privacy_budget" in program.families, utility.complete)
    guard = Guarded(larger=tuple(utility.below), decision="query_count")
    return program.seal(exact=route, guard=guard)


class ExactQueries:
    """The buyers' own algorithms, for programs in which nothing ties buyers together.

    Parameters
    ----------
    market : QueryMarket
    limited : bool
        Whether the program was declared with a privacy budget.
    complete : callables
        From numbers of queries to values of the variables that go with utilities.
    """

    def __init__(self, market: QueryMarket, limited: bool, complete: list[Completion]) -> None:
        self.market, self.limited, self.complete = market, limited, complete

    def refuses(self, program: Program, changes: Changes) -> tuple[str, ...]:
        """Families, or ``"objective"``, that it cannot take: all that were changed, and privacy budgets."""
        budget = ("privacy_budget",) if self.limited and "privacy_budget" not in changes.dropped else ()
        dropped = tuple(family for family in changes.dropped if family != "privacy_budget")
        return (*budget, *changes.added, *dropped, *(("objective",) if changes.objective else ()))

    def __call__(self, program: Program, changes: Changes, settings: Settings) -> ExactAnswer:
        """Solve."""
        market = self.market
        found = [best_queries(market.query_problem(buyer)) for buyer in range(market.n_agents)]
        count = np.stack([purchase.query_count for purchase in found], axis=1)
        values: dict[str, Any] = {"query_count": count.astype(float)}
        if "segment" in program:
            seller, buyer = np.nonzero(market.max_queries > 0)
            asked = count[seller, buyer][:, np.newaxis]
            values["segment"] = (np.arange(market.levels.size - 1) < asked).astype(float)
        for complete in self.complete:
            values |= complete(count)
        return ExactAnswer(values)


def typical_utility(market: QueryMarket) -> Array:
    """What all answers would be worth to each agent, or its own data (money)."""
    most = market.total_data(market.max_queries)
    all_of_it = np.array([float(utility(total)) for utility, total in zip(market.utility, most, strict=True)])
    size: Array = np.maximum(np.abs(all_of_it), np.abs(market.outside_option))
    # To whom nothing is worth anything, money has the size that it has for the others.
    return np.where(size > 0, size, size[size > 0].mean() if np.any(size > 0) else 1.0)


def declare_queries(market: QueryMarket, program: Program) -> tuple[cp.Expression, cp.Expression]:
    """Declare whole numbers of queries, and what each agent then knows."""
    shape = (market.n_agents, market.n_agents)
    most = market.max_queries.astype(float)
    count = program.variable("query_count", shape, integer=True, bounds=[np.zeros(shape), most])
    data = program.define("data", market.data_size + market.answer_size @ count)
    return count, data


@dataclass(frozen=True, eq=False)
class DeclaredUtility:
    """Utilities in a program.

    Attributes
    ----------
    value : CVXPY expression, shape (n_agents,)
        Money.
    below : list of str
        Variables that may be below what queries make of them.
    complete : list of callables
        From numbers of queries to values of variables.
    """

    value: cp.Expression
    below: list[str]
    complete: list[Completion]


def declare_utility(market: QueryMarket, program: Program, data: cp.Expression) -> DeclaredUtility:
    """Declare ``utility`` (money), each kind in its own way."""
    parts: list[tuple[IntArray, cp.Expression]] = []
    below: list[str] = []
    complete: list[Completion] = []
    concave: dict[int, ConcaveFunction] = {}
    groups: dict[SizeUtility, list[int]] = {}
    for buyer, kind in enumerate(market.utility):
        if isinstance(kind, ConcaveFunction):
            concave[buyer] = kind
        else:
            groups.setdefault(kind, []).append(buyer)
    for worth in declare_concave(program, data, concave, market.total_data(market.max_queries)):
        parts.append((worth.agents, worth.value))
        if worth.variable is not None:
            below.append(worth.variable)
            complete.append(partial(_evaluated, market, worth, worth.variable))
    for number, (kind, members) in enumerate(groups.items()):
        name, buyers = "worth" if len(groups) == 1 else f"worth_{number}", np.array(members, dtype=np.intp)
        if isinstance(kind, ThresholdUtility):
            enough = program.variable(f"{name}_enough", buyers.size, boolean=True)
            below.append(f"{name}_enough")
            # Like the utility itself, forgive what rounding alone makes short.
            gap = np.maximum(kind.size * (1 - 1e-12) - market.data_size[buyers], 0.0)
            gained = data[buyers] - market.data_size[buyers]
            program.add(f"{name}_threshold", gained >= cp.multiply(gap, enough))
            value = kind.weight * enough
            complete.append(partial(_enough, market, kind, buyers, f"{name}_enough"))
        else:
            value = _tabulate(market, program, name, kind, buyers, data)
            complete.append(partial(_total, market, buyers, f"{name}_total"))
        parts.append((buyers, value))
    utility = sum(
        (selection(buyers, market.n_agents).T @ value for buyers, value in parts),
        start=cp.Constant(np.zeros(market.n_agents)),
    )
    return DeclaredUtility(program.define("utility", utility), below, complete)


def _evaluated(market: QueryMarket, worth: Worth, name: str, count: IntArray) -> dict[str, Array]:
    return {name: worth.function(market.total_data(count)[worth.agents])}


def _enough(
    market: QueryMarket, kind: ThresholdUtility, buyers: IntArray, name: str, count: IntArray
) -> dict[str, Array]:
    return {name: (kind(market.total_data(count)[buyers]) > 0).astype(float)}


def _total(market: QueryMarket, buyers: IntArray, name: str, count: IntArray) -> dict[str, Array]:
    unit, n_totals = _totals(market)
    total = np.round((market.answer_size @ count)[buyers] / unit)
    return {name: (total[:, np.newaxis] == np.arange(n_totals)).astype(float)}


def _totals(market: QueryMarket) -> tuple[float, float]:
    """Unit of which all information that can be bought is a multiple, and how many multiples; NaN if none."""
    unit = common_unit(market.answer_size)
    if unit is None:
        return np.nan, np.inf
    return unit, 1 + round(float(np.max(market.answer_size @ market.max_queries)) / unit)


def _tabulate(
    market: QueryMarket,
    program: Program,
    name: str,
    kind: SizeUtility,
    buyers: IntArray,
    data: cp.Expression,
) -> cp.Expression:
    """Choose the total of information among all that there can be, and take its value from a table."""
    unit, n_totals = _totals(market)
    if n_totals > TOTALS_CAP + 1:
        raise NotApplicable(
            f"utility[{buyers[0]}] = {kind!r} is not known to be concave, and answers have "
            + (f"{n_totals:.0f} totals" if np.isfinite(n_totals) else "no common size")
            + "; give a concave utility, or solve exactly",
            reason="utility",
        )
    steps = np.arange(n_totals)
    own = market.data_size[buyers]
    table = kind(own[:, np.newaxis] + unit * steps)
    chosen = program.variable(f"{name}_total", (buyers.size, steps.size), boolean=True)
    program.add(f"{name}_one_total", cp.sum(chosen, axis=1) == 1)
    program.add(f"{name}_of_queries", (data[buyers] - own) / unit == chosen @ steps)
    return cp.sum(cp.multiply(table, chosen), axis=1)


def declare_levels(market: QueryMarket, program: Program, count: cp.Expression) -> cp.Expression:
    """Declare h(q) on each edge, in units of one query's cost; shape (n_agents, n_agents)."""
    step = np.diff(market.levels)
    if not step.size or np.ptp(step) <= ROUNDING * np.max(step):
        return count * float(step[0]) if step.size else count
    edges = np.argwhere(market.max_queries > 0)
    shape = (len(edges), step.size)
    if np.all(np.diff(step) >= -ROUNDING * np.max(step)):
        segment = program.variable("segment", shape, bounds=[0.0, 1.0])
    else:
        segment = program.variable("segment", shape, boolean=True)
        program.add("in_order", segment[:, 1:] <= segment[:, :-1])
    seller, buyer = edges.T
    program.add("segments", count[seller, buyer] == cp.sum(segment, axis=1))
    # One entry an edge, put in its place in the matrix.
    place = np.zeros((market.n_agents**2, len(edges)))
    place[seller * market.n_agents + buyer, np.arange(len(edges))] = 1.0
    return cp.reshape(place @ (segment @ step), (market.n_agents, market.n_agents), order="C")
