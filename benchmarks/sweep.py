"""What a sweep adds to each cell, what processes bring, and what compiling once brings.

The cells are exact contracts with 20 types, about the cheapest solve of the package, so that the overhead
shows; it is also measured on a mechanism that does nothing. Times of one process are processor time, which
other programs on the machine change little; several processes are timed on the clock, once without and once
with their start. Every sweep is checked against the solves alone.

    python benchmarks/sweep.py [--cells 10000] [--jobs 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cvxpy as cp
import numpy as np

import mechopt as mo
from mechopt.studies.sweep import sweep

TYPES = np.linspace(0.014, 0.21, 20)


def market(weight: float, cost: float) -> mo.ScreeningContract:
    return mo.ScreeningContract(types=TYPES, gain=mo.LogGain(weight=weight, scale=2), unit_cost=cost)


def first(mechanism: Any, solution: mo.Solution) -> Any:
    return solution["quantity"][0]


def timed(clock: Callable[[], float], call: Callable[[], Any]) -> tuple[float, Any]:
    started = clock()
    found = call()
    return clock() - started, found


class Nothing:
    """Solved at once."""

    answer = mo.Solution(
        mo.Status.OPTIMAL, "nothing to do", "none", objective=1.0, values={"x": np.zeros(())}
    )

    def __init__(self, weight: float, cost: float) -> None:
        pass

    def solve(self, backend: str | None = None, *, on_failure: str = "raise") -> mo.Solution:
        """Return the same answer each time."""
        return self.answer


def overhead(n_cells: int, n_jobs: int) -> list[dict[str, Any]]:
    side = round(n_cells**0.5)
    grid = {"weight": np.geomspace(10, 1000, side), "cost": np.linspace(0.5, 2, side)}
    points = [(float(w), float(c)) for w in grid["weight"] for c in grid["cost"]]

    def alone() -> list[float]:
        return [market(*point).solve(on_failure="return").objective for point in points]

    alone()
    sweep(market, {"weight": [10.0], "cost": [1.0]}, progress=False)
    empty, _ = timed(time.process_time, lambda: sweep(Nothing, grid, progress=False))
    bare, values = timed(time.process_time, alone)
    rows = [
        {"what": "a mechanism that does nothing", "us_per_cell": 1e6 * empty / len(points)},
        {"what": "solves alone", "us_per_cell": 1e6 * bare / len(points)},
    ]
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "cells.jsonl"
        cases: dict[str, dict[str, Any]] = {
            "one measure": {"measure": {"first": first}},
            "one measure, stored": {"measure": {"first": first}, "store": store},
            "all read back": {"measure": {"first": first}, "store": store},
            "every array": {},
            "every array, stored": {"store": Path(folder) / "arrays.jsonl"},
        }
        for what, arguments in cases.items():
            spent, found = timed(
                time.process_time, lambda a=arguments: sweep(market, grid, progress=False, **a)
            )
            np.testing.assert_array_equal(found["objective"].values.ravel(), values)
            rows.append({"what": what, "us_per_cell": 1e6 * spent / len(points)})
    for jobs in (1, n_jobs, n_jobs):
        arguments = {"measure": {"first": first}, "n_jobs": jobs, "progress": False}
        spent, found = timed(time.perf_counter, lambda a=arguments: sweep(market, grid, **a))
        np.testing.assert_array_equal(found["objective"].values.ravel(), values)
        rows.append({"what": f"{jobs} processes, on the clock", "us_per_cell": 1e6 * spent / len(points)})
    return rows


def compile_once(n_cells: int) -> list[dict[str, Any]]:
    contract = market(100.0, 1.0)
    shared, parameter = contract.program("local"), cp.Parameter()
    shared.add("budget", shared["expected_payment"] <= parameter)

    def fresh(budget: float) -> mo.Program:
        program = contract.program("local")
        return program.add("budget", program["expected_payment"] <= budget)

    def reused(budget: float) -> mo.Program:
        parameter.value = budget
        return shared

    grid = {"budget": np.linspace(10, 80, n_cells)}
    rows, found = [], {}
    for factory in (fresh, reused):
        for _ in range(2):  # the first is a warm-up
            spent, found[factory] = timed(
                time.process_time, lambda f=factory: sweep(f, grid, {}, "clarabel", progress=False)
            )
        rows.append({"what": f"clarabel, {factory.__name__} program", "us_per_cell": 1e6 * spent / n_cells})
    np.testing.assert_allclose(found[fresh]["objective"], found[reused]["objective"], rtol=1e-6)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = overhead(asked.cells, asked.jobs) + compile_once(100)
    for row in rows:
        print(f"{row['what']:<32} {row['us_per_cell']:9.0f} us a cell")
    print(f"python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
