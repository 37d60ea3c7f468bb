"""Seconds of private and federated mean estimation: closed forms, exact algorithms, declared programs.

Private: the closed form sorts the levels, Newton's method does not, ``solve()`` adds the record and its
prices, and the declared quadratic program is solved by each backend named. Federated: errors of all users by
Proposition 5, one user's weights by the program, and fair values by counting users that are alike against all
coalitions. Every answer is compared with the closed form, or with the other road.

    python benchmarks/fair_value_estimation.py [--json FILE] [--runs 5] [--largest 1000000] [--backends ...]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import combinations
from math import comb
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mechopt as mo
from mechopt.formulations.fair_value.federated import FederatedMeanEstimation
from mechopt.formulations.fair_value.mean_estimation import MeanEstimation
from mechopt.formulations.fair_value.mean_estimation.closed_form import closed_form
from mechopt.formulations.fair_value.mean_estimation.exact import optimal_estimator

FloatArray = NDArray[np.float64]
PROGRAMS = (10, 100, 1000, 10_000)


def levels_of(n_users: int) -> FloatArray:
    """Privacy levels three decades wide."""
    return 10 ** np.random.default_rng(0).uniform(-1.5, 1.5, n_users)


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


def measure_private(n_users: int, runs: int) -> dict[str, Any]:
    levels = levels_of(n_users)
    estimation = MeanEstimation(levels)
    form, found = closed_form(levels), optimal_estimator(levels)
    row: dict[str, Any] = {"n_users": n_users, "n_steps": found.n_steps}
    row["closed"], row["newton"], row["solve"] = seconds(
        runs, lambda: closed_form(levels), lambda: optimal_estimator(levels), estimation.solve
    )
    row["error"] = abs(found.bayes_risk / form.bayes_risk - 1)
    return row


def measure_program(n_users: int, backend: str, runs: int, limit: float) -> dict[str, Any]:
    """Solve the declared program; a failure is a row."""
    estimation = MeanEstimation(levels_of(n_users))
    form = estimation.closed_form()
    row: dict[str, Any] = {"n_users": n_users, "backend": backend}
    solved = []
    for _ in range(runs):
        begin = time.perf_counter()
        try:
            solution = estimation.solve(backend, on_failure="return", time_limit=limit)
        except mo.MechanismError as failure:
            return {**row, "status": type(failure).__name__}
        solved.append((time.perf_counter() - begin, solution))
        if solved[-1][0] > limit / 2 or not solution:
            break
    wall, solution = solved[-1]
    row |= {"status": str(solution.status), "wall": median(w for w, _ in solved), "last": wall}
    row |= {
        phase: median(s.seconds.get(phase, float("nan")) for _, s in solved) for phase in ("compile", "solve")
    }
    if solution:
        row["error"] = abs(solution.objective / form.bayes_risk - 1)
    return row


def federated_users(n_users: int, n_kinds: int) -> FederatedMeanEstimation:
    """Users of so many kinds, federated and direct in turn."""
    kind = np.arange(n_users) % n_kinds
    return FederatedMeanEstimation(1 + kind % 2, 5 * (1 + kind), 1.0, 10.0)


def values_of_all_coalitions(estimation: FederatedMeanEstimation) -> FloatArray:
    n = estimation.n_users
    values = np.zeros(n)
    for size in range(n + 1):
        for members in combinations(range(n), size):
            worth = estimation.utility(members)
            inside = np.isin(np.arange(n), members)
            values[inside] += worth / (n * comb(n - 1, size - 1)) if size else 0.0
            values[~inside] -= worth / (n * comb(n - 1, size)) if size < n else 0.0
    return values


def measure_federated(n_users: int, n_kinds: int, runs: int, enumerate_to: int) -> dict[str, Any]:
    estimation = federated_users(n_users, n_kinds)
    row: dict[str, Any] = {"n_users": n_users, "n_kinds": n_kinds}
    row["errors"], row["values"] = seconds(runs, estimation.emse, estimation.fair_value)
    values = estimation.fair_value()
    row["efficiency"] = abs(values.sum() / estimation.utility() - 1)
    if n_users <= 1000:
        begin = time.perf_counter()
        solved = estimation.weights(0, "clarabel")
        row["program"] = time.perf_counter() - begin
        assert solved is not None
        row["program_error"] = abs(solved.emse / estimation.emse(0) - 1)
    if n_users <= enumerate_to:
        begin = time.perf_counter()
        every = values_of_all_coalitions(estimation)
        row["coalitions"] = time.perf_counter() - begin
        row["coalitions_error"] = float(np.max(np.abs(every - values)) / np.max(values))
    return row


def main() -> None:
    """Measure, print tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--largest", type=int, default=10**6)
    parser.add_argument("--backends", nargs="*", default=["clarabel", "osqp", "highspy", "scs"])
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for one solve")
    arguments = parser.parse_args()
    versions = {
        "python": platform.python_version(),
        "cpu": platform.processor(),
        **{name: version(name) for name in ("numpy", "cvxpy")},
    }
    print(f"{versions}; median seconds of {arguments.runs} runs")
    print(
        "\n{:>9} {:>10} {:>10} {:>6} {:>10} {:>8}".format(
            "users", "closed", "Newton", "steps", "solve()", "error"
        )
    )
    private = []
    for n_users in (10**k for k in range(1, 8)):
        if n_users > arguments.largest:
            break
        row = measure_private(n_users, arguments.runs)
        private.append(row)
        print(
            f"{n_users:>9} {row['closed']:>10.2e} {row['newton']:>10.2e} {row['n_steps']:>6} "
            f"{row['solve']:>10.2e} {row['error']:>8.0e}",
            flush=True,
        )
    print(
        "\n{:>9} {:>9} {:>10} {:>10} {:>10} {:>8}  {}".format(
            "users", "backend", "all", "compile", "solver", "error", "status"
        )
    )
    programs = []
    for backend in arguments.backends:
        for n_users in PROGRAMS:
            if n_users > arguments.largest:
                break
            row = measure_program(n_users, backend, arguments.runs, arguments.limit)
            programs.append(row)
            told = " ".join(
                f"{row[phase]:>10.2e}" if phase in row else f"{'':>10}"
                for phase in ("wall", "compile", "solve")
            )
            error = f"{row['error']:>8.0e}" if "error" in row else f"{'':>8}"
            print(f"{n_users:>9} {backend:>9} {told} {error}  {row['status']}", flush=True)
            if row["status"] != "optimal":
                break
    heads = ("users", "kinds", "errors", "program", "error", "values", "all coal.", "error", "sum off")
    print("\n{:>7} {:>6} {:>9} {:>9} {:>8} {:>9} {:>9} {:>8} {:>8}".format(*heads))
    federated = []
    for n_users, n_kinds in ((4, 4), (10, 4), (12, 12), (100, 2), (100, 4), (1000, 2), (10_000, 2)):
        if n_users > arguments.largest:
            break
        row = measure_federated(n_users, n_kinds, arguments.runs, enumerate_to=12)
        federated.append(row)
        parts = [f"{n_users:>7} {n_kinds:>6} {row['errors']:>9.2e}"]
        for name, width in (("program", 9), ("program_error", 8), ("values", 9), ("coalitions", 9)):
            digits = 0 if name.endswith("error") else 2
            parts.append(f"{row[name]:>{width}.{digits}e}" if name in row else " " * width)
        parts.append(f"{row['coalitions_error']:>8.0e}" if "coalitions_error" in row else " " * 8)
        print(*parts, f"{row['efficiency']:>8.0e}", flush=True)
    if arguments.json:
        record = {"versions": versions, "runs": arguments.runs}
        record |= {"private": private, "programs": programs, "federated": federated}
        arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
