"""Seconds of accuracy shaping: the exact algorithm, the declared program, and two programs not to write.

The exact algorithm is compared with one pass of numpy over the costs (the sum of their inverses, on the same
array, in turn); ``solve()`` adds the record, its checks and its prices. The declared program has one variable
below the accuracy of the pool; its compile time is set beside Clarabel's own. Two variants show why: one cone
an agent, and tangents for an accuracy without a CVXPY form. Every answer is compared with the exact one.

    python benchmarks/accuracy_shaping.py [--json FILE] [--runs 5] [--largest 10000000] [--naive 300]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

import mechopt as mo
from mechopt.formulations.accuracy_shaping.exact import data_maximum

FloatArray = NDArray[np.float64]
SQRT = mo.SqrtAccuracy(1.0, 1.0)
BOUND = mo.GeneralizationBound(0.95, 10)


def costs_of(n_agents: int, accuracy: mo.AccuracyFunction) -> FloatArray:
    """Costs around the viability cost, three decades wide."""
    return accuracy.viability_cost * 10 ** np.random.default_rng(0).uniform(-1.5, 1.5, n_agents)


def seconds(runs: int, *calls: Callable[[], object]) -> list[float]:
    """Median wall time of each call; in turn, after a warm-up."""
    times: list[list[float]] = [[] for _ in calls]
    for run in range(runs + 1):
        for call, past in zip(calls, times, strict=True):
            begin = time.perf_counter()
            call()
            if run:
                past.append(time.perf_counter() - begin)
    return [median(past) for past in times]


def measure_exact(n_agents: int, runs: int) -> dict[str, Any]:
    row: dict[str, Any] = {"n_agents": n_agents}
    for name, accuracy in (("sqrt", SQRT), ("bound", BOUND)):
        costs = costs_of(n_agents, accuracy)
        calls: list[Callable[[], object]] = [
            lambda costs=costs: np.sum(1 / costs),
            lambda costs=costs, accuracy=accuracy: data_maximum(costs, accuracy),
            lambda costs=costs, accuracy=accuracy: mo.AccuracyShaping(accuracy, costs).solve(),
        ]
        row[f"{name}_pass"], row[name], row[f"{name}_solve"] = seconds(runs, *calls)
        row[f"{name}_ratio"] = row[name] / row[f"{name}_pass"]
    return row


def one_cone_an_agent(costs: FloatArray, outside: FloatArray) -> float:
    """Solve the naive program: every agent's accuracy below its own copy of the cone."""
    data, allocated = cp.Variable(costs.size, nonneg=True), cp.Variable(costs.size)
    below = 1 - 2 * cp.power(cp.sum(data) * np.ones(costs.size), -0.5)
    problem = cp.Problem(
        cp.Maximize(cp.sum(data)),
        [allocated <= below, allocated - cp.multiply(costs, data) >= outside],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(problem.solve(solver="CLARABEL"))


def measure_program(n_agents: int, runs: int, naive_up_to: int) -> dict[str, Any]:
    costs = costs_of(n_agents, SQRT)
    shaping = mo.AccuracyShaping(SQRT, costs)
    exact = shaping.solve()
    solved = [shaping.program().solve("clarabel") for _ in range(runs + 1)][1:]
    phases = {phase: median(s.seconds[phase] for s in solved) for phase in ("build", "compile", "solve")}
    row: dict[str, Any] = {"n_agents": n_agents, **phases}
    row["error"] = max(abs(s.objective / exact.objective - 1) for s in solved)
    row["status"] = str(solved[-1].status)
    if n_agents <= naive_up_to:
        outside = shaping.standalone().utility
        begin = time.perf_counter()
        try:
            value = one_cone_an_agent(costs, outside)
            row["naive_error"] = abs(value / exact.objective - 1)
        except cp.error.SolverError as failure:
            row["naive_failure"] = str(failure)
        row["naive"] = time.perf_counter() - begin
    if n_agents <= 1000:
        hard = mo.AccuracyShaping(BOUND, costs_of(n_agents, BOUND))
        begin = time.perf_counter()
        outer = hard.program().solve("outer")
        row["outer"] = time.perf_counter() - begin
        row["outer_error"] = abs(outer.objective / hard.solve().objective - 1)
    return row


def main() -> None:
    """Measure, print tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--largest", type=int, default=10**7)
    parser.add_argument("--naive", type=int, default=300, help="largest number of agents for one cone each")
    arguments = parser.parse_args()
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cvxpy": cp.__version__,
        "cpu": platform.processor(),
    }
    print(f"{versions}; median seconds of {arguments.runs} runs")
    heads = ("agents", *2 * ("one pass", "exact", "ratio", "solve()"))
    print(f"{'':>9} {'accuracy (3)':>38} {'bound (2)':>38}")
    print("{:>9} {:>10} {:>10} {:>6} {:>10} {:>10} {:>10} {:>6} {:>10}".format(*heads))
    exact_rows = []
    for n_agents in (10**k for k in range(1, 8)):
        if n_agents > arguments.largest:
            break
        row = measure_exact(n_agents, arguments.runs)
        exact_rows.append(row)
        told = (
            f"{row[f'{name}_pass']:>10.2e} {row[name]:>10.2e} {row[f'{name}_ratio']:>6.1f} "
            f"{row[f'{name}_solve']:>10.2e}"
            for name in ("sqrt", "bound")
        )
        print(f"{n_agents:>9} {' '.join(told)}", flush=True)
    heads = ("agents", "build", "compile", "solve", "error", "cone each", "outer (2)", "status")
    print("\n{:>7} {:>9} {:>9} {:>9} {:>8} {:>10} {:>10}  {}".format(*heads))
    program_rows = []
    for n_agents in (10, 100, 300, 1000, 10_000):
        if n_agents > arguments.largest:
            break
        row = measure_program(n_agents, arguments.runs, arguments.naive)
        program_rows.append(row)
        phases = " ".join(f"{row[phase]:>9.2e}" for phase in ("build", "compile", "solve"))
        naive, outer = (f"{row[name]:.2e}" if name in row else "" for name in ("naive", "outer"))
        print(
            f"{n_agents:>7} {phases} {row['error']:>8.0e} {naive:>10} {outer:>10}  {row['status']}",
            flush=True,
        )
    if arguments.json:
        record = {"versions": versions, "runs": arguments.runs, "exact": exact_rows, "program": program_rows}
        arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
