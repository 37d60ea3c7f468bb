r"""VCG payments of the market for queries.

Buyers do not compete for queries, so that welfare is a sum over buyers j of what each makes of its own
choice, :math:`\pi_j`. Excluding agent i then costs the others only what buyers that ask it lose, one more
problem an edge; with pivot ``"drop"`` its answers are free instead, one more problem an edge again. Privacy
budgets make buyers compete, and each pivot a joint program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.sharing_market.queries.exact import QueryPurchase, best_queries
from mechopt.formulations.sharing_market.queries.program import declare
from mechopt.formulations.sharing_market.vcg import without_rounding
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Program

if TYPE_CHECKING:
    import pandas as pd

    from mechopt.formulations.sharing_market.queries.model import QueryMarket

Array = NDArray[np.float64]
Pivot = Literal["exclude", "drop"]

JOINT = 1e-8
"""Relative tolerance of joint programs, whose answers are recomputed from whole numbers."""


@dataclass(frozen=True, eq=False, repr=False)
class QueryVCG:
    """Outcome of VCG.

    Attributes
    ----------
    query_count : array of int, shape (n_agents, n_agents)
        The queries of most welfare (row = seller, column = buyer).
    payment : array, shape (n_agents,)
        What each agent pays, > 0, or is paid, < 0 (money).
    imbalance : float
        Sum of payments: > 0 a surplus, < 0 a deficit (money).
    payoff : array, shape (n_agents,)
        Value of the queries to each agent, costs of its answers and payment deducted (money).
    pivot_value : array, shape (n_agents,)
        What payments are measured against: welfare of the others without the agent (money).
    n_problems : int
        Buyers' problems that were solved, or joint programs.
    """

    query_count: NDArray[np.intp]
    payment: Array
    imbalance: float
    payoff: Array
    pivot_value: Array
    n_problems: int

    def __repr__(self) -> str:
        return (
            f"VCG of queries: {int(self.query_count.sum())} among {self.payment.size} agents, payments "
            f"{self.payment.min():.6g} to {self.payment.max():.6g}, imbalance {self.imbalance:.6g}"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row an agent (money)."""
        import pandas as pd

        columns = {"payment": self.payment, "payoff": self.payoff, "pivot_value": self.pivot_value}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self.payment), name="agent"))


def vcg(
    market: QueryMarket, pivot: Pivot, budget: Array | None = None, loss: Array | None = None
) -> QueryVCG:
    """Compute payments; see `QueryMarket.vcg`."""
    if pivot not in ("exclude", "drop"):
        raise InvalidInput(f"pivot must be 'exclude' or 'drop', got {pivot!r}")
    if budget is None:
        count, pivot_value, n_problems = _buyer_by_buyer(market, pivot)
    else:
        assert loss is not None
        count, pivot_value, n_problems = _jointly(market, pivot, budget, loss)
    value = market.allocation_value(count)
    payment = pivot_value - (value.sum() - value)
    for array in (count, payment, pivot_value):
        array.setflags(write=False)
    imbalance = without_rounding(float(payment.sum()), value, pivot_value)
    return QueryVCG(count, payment, imbalance, value - payment, pivot_value, n_problems)


def _buyer_by_buyer(market: QueryMarket, pivot: Pivot) -> tuple[NDArray[np.intp], Array, int]:
    """Queries of most welfare and pivots, from one problem a buyer and one more an edge."""
    agents = range(market.n_agents)
    chosen = [best_queries(market.query_problem(buyer)) for buyer in agents]
    count = np.stack([purchase.query_count for purchase in chosen], axis=1)
    surplus = np.array([purchase.surplus for purchase in chosen])
    changed = np.tile(surplus, (market.n_agents, 1))  # [i, j]: what buyer j makes of things under i's pivot
    n_problems = market.n_agents
    for seller in agents:
        for buyer in agents:
            # Without i nothing changes for those who do not ask it.
            asked = count if pivot == "exclude" else market.max_queries
            if asked[seller, buyer] == 0:
                continue
            changed[seller, buyer] = _pivot_problem(market, seller, buyer, pivot).surplus
            n_problems += 1
    np.fill_diagonal(changed, 0.0)
    return count, changed.sum(axis=1), n_problems


def _jointly(
    market: QueryMarket, pivot: Pivot, budget: Array, loss: Array
) -> tuple[NDArray[np.intp], Array, int]:
    """Queries of most welfare and pivots, each from a joint program."""

    def solved(program: Program) -> NDArray[np.intp]:
        count = np.round(program.solve(tolerance=JOINT)["query_count"])
        return np.clip(count, 0, market.max_queries).astype(np.intp)

    pivot_value = np.empty(market.n_agents)
    for agent in range(market.n_agents):
        program = declare(market, budget, loss)
        others = np.arange(market.n_agents) != agent
        if pivot == "exclude":
            count = program["query_count"]
            program.add("without", count[agent] == 0, count[:, agent] == 0)
        program.maximize(cp.sum(program["utility"][others]) - cp.sum(program["cost"][others]))
        pivot_value[agent] = market.allocation_value(solved(program))[others].sum()
    return solved(declare(market, budget, loss)), pivot_value, market.n_agents + 1


def _pivot_problem(market: QueryMarket, seller: int, buyer: int, pivot: Pivot) -> QueryPurchase:
    if pivot == "exclude":
        return best_queries(market.query_problem(buyer, without=[seller]))
    free = np.where(np.isfinite(market.tariff[seller]), 0.0, np.inf)
    tariff = market.tariff.copy()
    tariff[seller] = free
    return best_queries(market.query_problem(buyer, tariff=tariff))
