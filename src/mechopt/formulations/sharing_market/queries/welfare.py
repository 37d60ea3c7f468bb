"""Queries of most welfare, by whichever road applies, every answer recomputed from whole numbers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.sharing_market.queries.exact import best_queries
from mechopt.formulations.sharing_market.queries.program import declare
from mechopt.solvers import certify
from mechopt.solvers.backend import get_backend
from mechopt.solvers.errors import NotApplicable
from mechopt.solvers.exact import asked_exactly
from mechopt.solvers.program import OnFailure
from mechopt.solvers.solution import Solution, Status

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.queries.model import QueryMarket

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

WHOLE = 1e-5
"""How far from a whole number a solver's number of queries may be."""

ROUNDING = 1e-9
"""Part of the losses in use by which they may exceed a budget: what sums of such numbers are off."""


def solve(
    market: QueryMarket,
    budget: Array | None,
    loss: Array,
    backend: str | None,
    *,
    tolerance: float | None,
    time_limit: float | None,
    verbose: bool,
    on_failure: OnFailure,
    **options: Any,
) -> Solution:
    """Find the queries of most welfare; see `QueryMarket.solve`."""
    asked = None
    if budget is None or backend is not None:
        asked = asked_exactly(
            backend,
            tolerance=tolerance,
            time_limit=time_limit,
            verbose=verbose,
            on_failure=on_failure,
            options=options,
        )
    if asked is not None:
        if budget is not None:
            raise NotApplicable(
                "backend 'exact' answers buyer by buyer, and privacy_budget ties buyers together; name "
                "another backend, or none",
                reason="privacy_budget",
            )
        return _solve_exactly(market, asked)
    program = declare(market, budget, loss)
    solution = program.solve(
        backend,
        tolerance=tolerance,
        time_limit=time_limit,
        verbose=verbose,
        on_failure=on_failure,
        **options,
    )
    if "query_count" not in solution.values:
        return solution
    raw = np.asarray(solution["query_count"])
    if np.max(np.abs(raw - np.round(raw))) > WHOLE:
        return solution  # a point that failed the checks: its status says so
    # Whole numbers exactly, and values of these: solvers stop at 1e-6, and tangents lie above utilities.
    count = np.clip(np.round(raw), 0, market.max_queries).astype(np.intp)
    welfare = market.welfare(count)
    found = solution.replace(objective=welfare, values=_values(market, count))
    if budget is not None:
        used = (loss * market.levels[count]).sum(axis=1)
        over = float(np.max(used - budget))
        if over > ROUNDING * float(np.max(used)):
            reason = f"these whole numbers exceed privacy_budget by {over:.3g}: they are only nearly allowed"
            return found.replace(status=Status.INACCURATE, reason=reason)
    if solution.bound is None:
        return found
    size = float(np.abs(market.buyer_value(count)).sum() + market.cost(count).sum()) or 1.0
    gap = max(0.0, solution.bound - welfare) / size
    if solution.status is Status.OPTIMAL and gap > solution.tolerance:
        reason = f"these whole numbers are worth {welfare:.9g}, and the bound is {solution.bound:.9g}"
        return found.replace(status=Status.INACCURATE, reason=reason, gap=gap)
    return found.replace(gap=gap)


def _solve_exactly(market: QueryMarket, tolerance: float) -> Solution:
    started = time.perf_counter()
    found = [best_queries(market.query_problem(buyer)) for buyer in range(market.n_agents)]
    count = np.stack([purchase.query_count for purchase in found], axis=1)
    solved = time.perf_counter()
    welfare = market.welfare(count)
    return Solution(
        status=Status.OPTIMAL,
        reason="exact algorithm, buyer by buyer",
        backend="exact",
        version=get_backend("exact").version(),
        objective=welfare,
        bound=welfare,
        gap=0.0,
        values=_values(market, count),
        no_duals="whole numbers of queries have no prices of rows; see competitive_prices",
        residuals={certify.DOMAIN: 0.0},
        violations={certify.DOMAIN: 0.0},
        seconds={
            "build": 0.0,
            "compile": 0.0,
            "solve": solved - started,
            "check": time.perf_counter() - solved,
        },
        tolerance=tolerance,
        program="queries",
        sense="maximize",
        extra={"methods": tuple(purchase.method for purchase in found)},
    )


def _values(market: QueryMarket, count: IntArray) -> dict[str, Any]:
    cost = market.cost(count)
    utility = market.buyer_value(count)
    values: dict[str, Any] = {
        "query_count": count,
        "data": market.total_data(count),
        "utility": utility,
        "surplus": utility - cost.sum(axis=0),
        "cost": cost,
        "welfare": np.asarray(utility.sum() - cost.sum()),
    }
    for array in values.values():
        array.setflags(write=False)
    return values
