"""A user's own mixed-integer conic solvers, registered as the documentation tells."""

from __future__ import annotations

import heapq
import importlib.util
import itertools
import time
import warnings
from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt import Answer, Backend, Capability, Settings, Status

Register = Callable[[Backend], Backend]


class Branching(mo.Backend):
    """Mixed-integer conic programs: branch and bound over Clarabel, the best bound first."""

    name = "branching"
    capabilities = frozenset(Capability) - {Capability.NLP, Capability.COMP, Capability.ORACLE}
    modules = ("clarabel",)
    distribution = "clarabel"

    def solve(self, program: mo.Program, settings: Settings) -> Answer:
        if settings.options:
            raise mo.InvalidInput(f"branching has no options, got {sorted(settings.options)}")
        end = np.inf if settings.time_limit is None else time.perf_counter() + settings.time_limit
        used, all_variables = program.used_variables(), program.cvxpy_variables().values()
        sign = -1.0 if program.sense == "maximize" else 1.0
        whole = [v for v in all_variables if v.attributes["boolean"] or v.attributes["integer"]]
        low, high = ([cp.Parameter(v.shape) for v in whole] for _ in range(2))
        free = {v.id: v for v in all_variables} | {v.id: cp.Variable(v.shape) for v in whole}
        swap = {id(v): free[v.id] for v in whole}
        objective, rows = program.problem.objective, program.problem.constraints
        box = [
            side
            for v, a, b in zip(whole, low, high, strict=True)
            for side in (a <= free[v.id], free[v.id] <= b)
        ]
        relaxed = cp.Problem(objective.tree_copy(swap), [row.tree_copy(swap) for row in rows] + box)

        def at(bounds: Any) -> tuple[float, dict[int, Any]]:
            """Value, to be minimised, and point of the relaxation within bounds on the integers."""
            for parameter, bound in zip(low + high, bounds, strict=True):
                parameter.value = bound
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it could do no better than 1e-8 or so
                relaxed.solve(cp.CLARABEL, tol_gap_rel=1e-10, tol_gap_abs=1e-10, tol_feas=1e-10)
            if relaxed.status == cp.INFEASIBLE:
                return np.inf, {}
            if relaxed.value is None:
                raise cp.error.SolverError(relaxed.status)
            return sign * relaxed.value, {key: v.value for key, v in free.items() if key in used}

        best, point, nodes = np.inf, {}, itertools.count()
        with program.values_kept():
            start = [np.broadcast_to(v.get_bounds()[side], v.shape) for side in (0, 1) for v in whole]
            value, found = at(start)
            queue = [(value, next(nodes), found, start)] if found else []
            while queue and time.perf_counter() < end:
                bound, _, found, bounds = heapq.heappop(queue)
                if bound >= best - 1e-9 * (1 + abs(best)):
                    queue = []
                    break
                gaps = [np.abs(found[v.id] - np.round(found[v.id])) for v in whole]
                if (
                    max((gap.max() for gap in gaps), default=0.0) < 1e-6
                ):  # whole: hold the integers there, so that the rest fits them exactly
                    fixed = [np.round(found[v.id]) for v in whole]
                    value, exact = at(fixed + fixed)
                    if value < best:
                        best, point = value, exact | {v.id: f for v, f in zip(whole, fixed, strict=True)}
                    continue
                k = int(np.argmax([gap.max() for gap in gaps]))
                entry = np.unravel_index(int(np.argmax(gaps[k])), gaps[k].shape)
                for side, rounding in ((len(whole), np.floor), (0, np.ceil)):
                    half = [np.array(b) for b in bounds]
                    half[side + k][entry] = rounding(found[whole[k].id][entry])
                    value, child = at(half)
                    if value < best:
                        heapq.heappush(queue, (value, next(nodes), child, half))
        floor = min([best, *(node[0] for node in queue)])
        if not point and not queue:
            return Answer(Status.INFEASIBLE, "no node is left")
        physical = program.physical
        return Answer(
            Status.LIMIT if queue else Status.OPTIMAL,
            f"{next(nodes)} nodes",
            primal=point,
            objective=physical(sign * best) if point else np.nan,
            bound=physical(sign * floor),
        )


class Scip(mo.Backend):
    """SCIP by way of CVXPY, as a user who owns another solver that CVXPY knows would have it."""

    name = "cvxpy-scip"
    capabilities = frozenset({Capability.LP, Capability.SOC, Capability.MIP})
    modules = ("pyscipopt",)

    def solve(self, program: mo.Program, settings: Settings) -> Answer:
        problem = program.problem
        with program.values_kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a gap of its own was asked for
            problem.solve(cp.SCIP, scip_params={"limits/gap": 0.1 * settings.tolerance})
            primal = {v.id: v.value for v in program.cvxpy_variables().values()}
            return Answer(
                Status.OPTIMAL, problem.status, primal, objective=program.physical(float(problem.value))
            )


def market(kind: str, n_agents: int = 4) -> mo.SharingMarket:
    rng = np.random.default_rng(3)
    size, cost = rng.uniform(1, 5, n_agents), rng.uniform(0.2, 1.2, (n_agents, n_agents))
    np.fill_diagonal(cost, 0.0)
    utility = {"log": mo.LogUtility(2.0, 3.0), "root": mo.PowerGain(2.0, 0.5, 0.5)}[kind]
    return mo.SharingMarket(size, cost, utility)


@pytest.mark.parametrize("kind", ["log", "root"])
def test_sharing_market_to_the_exact_value(registered: Register, kind: str) -> None:
    registered(Branching())
    declared = market(kind)
    exact = declared.solve()
    program = declared.program()
    answer = program.solve("branching")
    assert answer.backend == "branching"
    assert answer.objective == pytest.approx(exact.objective, rel=1e-7)
    assert answer.gap <= 1e-6
    # With a row of the user's own, which the market's algorithm does not price.
    program.add("own", cp.sum(program["adjacency"]) <= 3)
    assert program.solve("branching").objective == pytest.approx(program.solve("outer").objective, rel=1e-6)
    with pytest.raises(mo.InvalidInput, match="no options, got"):
        program.solve("branching", depth=3)


@pytest.mark.parametrize("seed", range(3))
def test_data_externality_to_the_exact_value(registered: Register, seed: int) -> None:
    registered(Branching())
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(4, 4))
    program = mo.DataExternality(root @ root.T / 4, rng.uniform(0.3, 1.5, 4)).program()
    exact, answer = program.solve("exact"), program.solve("branching")
    assert answer.objective == pytest.approx(exact.objective, rel=1e-6)
    np.testing.assert_array_equal(answer["sharing"], exact["sharing"])


def test_its_limits_and_infeasible_programs(registered: Register) -> None:
    registered(Branching())
    program = mo.Program("few")
    pick = program.variable("pick", 3, boolean=True)
    program.maximize(cp.sum(cp.log(1 + pick)) - 0.1 * pick[0])
    program.add("ball", cp.norm(pick) <= 1.2)
    stopped = program.solve("branching", time_limit=1e-9, on_failure="return")
    assert stopped.status is Status.LIMIT
    assert program.solve("branching").objective == pytest.approx(np.log(2), rel=1e-7)
    assert stopped.bound > 1.4  # that of the relaxation, in which every pick is worth two thirds
    program.add("two", cp.sum(pick) >= 1.5)
    with pytest.raises(mo.Infeasible) as caught:
        program.solve("branching")
    assert set(caught.value.families) == {"ball", "two"}


@pytest.mark.skipif(importlib.util.find_spec("pyscipopt") is None, reason="pyscipopt is not installed")
def test_a_solver_that_cvxpy_drives(registered: Register) -> None:
    registered(Scip())
    declared = market("root")
    answer = declared.program().solve("cvxpy-scip")
    assert answer.objective == pytest.approx(declared.solve().objective, rel=1e-6)
    with pytest.raises(mo.MissingCapability, match="EXP"):
        market("log").program().solve("cvxpy-scip")
