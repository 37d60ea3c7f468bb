"""Sharing graphs of most welfare, by whichever road applies, every answer recomputed from its graph.

Solvers meet constraints to some 1e-6 and round integers from nearly as far away; a welfare that they report
may be as much too large. So a graph is rounded, held against every restriction, and valued by the market
itself, and it is optimal only if that value meets the solver's bound.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.sharing_market.exact import welfare_maximum
from mechopt.formulations.sharing_market.program import declare
from mechopt.formulations.sharing_market.restrictions import Restrictions
from mechopt.solvers.backend import Answer, Settings, get_backend
from mechopt.solvers.diagnose import deliver
from mechopt.solvers.exact import asked_exactly
from mechopt.solvers.program import OnFailure
from mechopt.solvers.solution import Solution, Status

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.model import SharingMarket

Array = NDArray[np.float64]

ROUNDING = 1e-9
"""Part of the largest edge by which a graph may exceed a budget: what sums of such numbers are off."""


def solve(
    market: SharingMarket,
    restrictions: Restrictions,
    backend: str | None,
    *,
    tolerance: float | None,
    time_limit: float | None,
    verbose: bool,
    on_failure: OnFailure,
    **options: Any,
) -> Solution:
    """Find a sharing graph of most welfare; see `SharingMarket.solve`."""
    joint = bool(restrictions.couplings)
    asked = asked_exactly(
        "joint program" if joint and backend is None else backend,
        tolerance=tolerance,
        time_limit=time_limit,
        verbose=verbose,
        on_failure=on_failure,
        options=options,
    )
    if asked is not None and not joint:
        return _solve_exactly(market, restrictions, asked)
    program = declare(market, restrictions)
    found = program.solve(
        backend,
        tolerance=tolerance,
        time_limit=time_limit,
        verbose=verbose,
        on_failure="return",
        **options,
    )
    answer = Answer(found.status, found.reason)
    if found.values:
        found = recomputed(market, restrictions, found)
    if on_failure == "return":
        return found
    return deliver(program, found, answer, Settings(found.tolerance, time_limit), None)


def recomputed(market: SharingMarket, restrictions: Restrictions, found: Solution) -> Solution:
    """Round a solution's graph, check it against the restrictions, and value it afresh.

    Returns
    -------
    Solution
        With ``adjacency``, ``data``, ``utility``, ``surplus``; ``residuals`` by restriction, relative to the
        largest edge; optimal only if the graph is allowed and its welfare meets the bound to the tolerance.
    """
    graph = np.round(found["adjacency"])
    utility = market.buyer_value(graph)
    cost = market.sharing_cost * graph
    once = np.zeros(market.n_agents)
    if restrictions.upload_cost is not None:
        once = restrictions.upload_cost * graph.max(axis=1)
    values = {
        "adjacency": graph,
        "data": market.total_data(graph),
        "utility": utility,
        "surplus": utility - cost.sum(axis=0),
    }
    for array in values.values():
        array.setflags(write=False)
    welfare = float(values["surplus"].sum() - once.sum())
    violations = restrictions.violations(graph, market.sharing_cost)
    edge = {
        "buyer_budget": float(np.max(np.abs(market.sharing_cost))),
        "privacy_budget": float(np.max(restrictions.losses(market.n_agents))),
        "platform_privacy_budget": float(np.max(restrictions.losses(market.n_agents))),
    }
    residuals = {name: amount / (edge.get(name, 1.0) or 1.0) for name, amount in violations.items()}
    size = float(np.abs(utility).sum() + np.abs(cost).sum() + once.sum()) or 1.0
    gap = None if found.bound is None else abs(found.bound - welfare) / size
    status, reason = _verdict(found, residuals, violations, gap, welfare)
    return found.replace(
        status=status,
        reason=reason,
        objective=welfare,
        gap=gap,
        values=values,
        duals={},
        no_duals="integer programs have no shadow prices; see market.configuration_program()",
        residuals=residuals,
        violations=violations,
    )


def _verdict(
    found: Solution,
    residuals: dict[str, float],
    violations: dict[str, float],
    gap: float | None,
    welfare: float,
) -> tuple[Status, str]:
    """How far the rounded graph can be trusted, whatever was said of the solver's own point."""
    broken = [
        f"the graph exceeds {name} by {violations[name]:.3g}"
        for name, residual in residuals.items()
        if residual > ROUNDING
    ]
    if broken:
        return Status.INACCURATE, f"{'; '.join(broken)}: it is only nearly allowed; {found.reason}"
    if gap is not None and gap <= found.tolerance:
        return Status.OPTIMAL, found.reason if found.status.ok else "graph and bound meet"
    if found.status is Status.LIMIT:
        return Status.LIMIT, found.reason
    if gap is None:
        return Status.INACCURATE, f"{found.backend} gives no bound that its graph could be held to"
    return Status.INACCURATE, (
        f"the graph is worth {welfare:.9g}, and the bound is {found.bound:.9g}, a relative gap of {gap:.1e}; "
        f"{found.reason}"
    )


def _solve_exactly(market: SharingMarket, restrictions: Restrictions, tolerance: float) -> Solution:
    started = time.perf_counter()
    best = welfare_maximum(market, restrictions)
    solved = time.perf_counter()
    record = Solution(
        status=Status.OPTIMAL,
        reason="exact algorithm",
        backend="exact",
        version=get_backend("exact").version(),
        bound=float(best.surplus.sum()),
        values={"adjacency": np.asarray(best.adjacency, dtype=float)},
        tolerance=tolerance,
        program="sharing market",
        sense="maximize",
        extra={"methods": best.methods},
    )
    solution = recomputed(market, restrictions, record)
    spent = {"build": 0.0, "compile": 0.0, "solve": solved - started}
    return solution.replace(seconds={**spent, "check": time.perf_counter() - solved})
