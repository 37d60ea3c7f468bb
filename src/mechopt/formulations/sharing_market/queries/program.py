r"""The declared program of the market for queries.

.. math:: \max \sum_j u_j - \sum_{ij} C_{ij}(q_{ij}) \quad \text{s.t.} \quad u_j \le U_j(D_j), \quad
   D_j = d_j + \sum_i s_i q_{ij}, \quad q_{ij} \in \{0, \dots, Q_{ij}\}.

Costs that are not linear are sums over segments, one a query, at the cost of that query. Where each query
costs at least as much as the one before it, an optimum fills them in order by itself, and they may be
continuous; where not, as under advanced composition, they are binary, and a family says that they come in
order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import ConcaveFunction, SizeUtility, ThresholdUtility
from mechopt.formulations.sharing_market.queries.exact import ROUNDING, common_unit
from mechopt.solvers.errors import NotApplicable
from mechopt.solvers.program import Program

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.queries.model import QueryMarket

Array = NDArray[np.float64]

TOTALS_CAP = 5000
"""Totals of a buyer's information up to which a utility of any shape is tabulated."""


def declare(market: QueryMarket, budget: Array | None, loss: Array) -> Program:
    """Declare the choice of queries of most welfare; see `QueryMarket.program`."""
    utility_size = typical_utility(market)
    program = Program("queries", objective_scale=float(np.mean(utility_size)))
    count, data = declare_queries(market, program)
    utility = declare_utility(market, program, data, utility_size)
    charged = declare_levels(market, program, count)
    cost = program.define("cost", cp.multiply(market.sharing_cost, charged))
    program.define("welfare", cp.sum(utility) - cp.sum(cost))
    program.maximize(program["welfare"])
    if budget is not None:
        program.add("privacy_budget", cp.sum(cp.multiply(loss, charged), axis=1) <= budget)
    return program.seal()


def typical_utility(market: QueryMarket) -> Array:
    """What all answers would be worth to each agent, or its own data (money)."""
    most = market.total_data(market.max_queries)
    all_of_it = np.array([float(utility(total)) for utility, total in zip(market.utility, most, strict=True)])
    size: Array = np.maximum(np.abs(all_of_it), np.abs(market.outside_option))
    return np.where(size > 0, size, 1.0)


def declare_queries(market: QueryMarket, program: Program) -> tuple[cp.Expression, cp.Expression]:
    """Declare whole numbers of queries, and what each agent then knows."""
    shape = (market.n_agents, market.n_agents)
    most = market.max_queries.astype(float)
    count = program.variable("query_count", shape, integer=True, bounds=[np.zeros(shape), most])
    data = program.define("data", market.data_size + market.answer_size @ count)
    return count, data


def declare_utility(market: QueryMarket, program: Program, data: cp.Expression, size: Array) -> cp.Expression:
    """Declare ``utility``, at most what each agent's data and answers are worth; one family a kind."""
    utility = program.variable("utility", market.n_agents, scale=size)
    groups: dict[Any, list[int]] = {}
    for buyer, kind in enumerate(market.utility):
        groups.setdefault(kind, []).append(buyer)
    for number, (kind, buyers) in enumerate(groups.items()):
        name = "worth" if len(groups) == 1 else f"worth_{number}"
        most = float(np.max(market.total_data(market.max_queries)[buyers]))
        if isinstance(kind, ConcaveFunction):
            value = kind.in_units_of(most).declare(
                program, name, data[buyers], scale=float(np.max(size[buyers]))
            )
        elif isinstance(kind, ThresholdUtility):
            enough = program.variable(f"{name}_enough", len(buyers), boolean=True)
            gap = np.maximum(kind.size - market.data_size[buyers], 0.0)
            gained = data[buyers] - market.data_size[buyers]
            program.add(f"{name}_threshold", gained >= cp.multiply(gap, enough))
            value = kind.weight * enough
        else:
            value = _tabulate(market, program, name, kind, buyers, data)
        program.add(name, utility[buyers] <= value)
    return utility


def _tabulate(
    market: QueryMarket,
    program: Program,
    name: str,
    kind: SizeUtility,
    buyers: list[int],
    data: cp.Expression,
) -> cp.Expression:
    """Choose the total of information among all that there can be, and take its value from a table."""
    unit = common_unit(market.answer_size)
    most = 0.0 if unit is None else float(np.max(market.answer_size @ market.max_queries)) / unit
    if unit is None or most > TOTALS_CAP:
        raise NotApplicable(
            f"utility[{buyers[0]}] = {kind!r} is not known to be concave, and answers have "
            + ("no common size" if unit is None else f"{most:.0f} totals")
            + "; give a concave utility, or solve exactly",
            reason="utility",
        )
    steps = np.arange(round(most) + 1)
    own = market.data_size[buyers]
    table = kind(own[:, np.newaxis] + unit * steps)
    chosen = program.variable(f"{name}_total", (len(buyers), steps.size), boolean=True)
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
