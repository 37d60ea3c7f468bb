"""Seconds for whom a platform buys from: own enumeration, branch and bound, and what they are compared with.

Enumeration is set beside two other ways to write sets down: a Gray code in plain numpy, each step an update
of rank one of the whole posterior, and a solve for each set with its leaks remembered. Branch and bound goes
on where enumeration ends; the declared program by tangents is the third road. Answers are compared.

    python benchmarks/data_externality.py [--json FILE] [--runs 3] [--largest 40] [--limit 60]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mechopt as mo
from mechopt.formulations.data_externality.exact import equilibrium_sharing_of_all, platform_optimum
from mechopt.formulations.data_externality.leakage import leak_table, leaked_information

FloatArray = NDArray[np.float64]


def instance(n_users: int, share: float, most_value: float, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """A A' / k + .05 I with k = share n columns, and values of privacy in (1, most_value)."""
    rng = np.random.default_rng(seed)
    columns = int(share * n_users)
    factor = rng.normal(size=(n_users, columns))
    covariance = factor @ factor.T / columns + 0.05 * np.eye(n_users)
    return covariance, rng.uniform(1, most_value, n_users)


def seconds(runs: int, call: Callable[[], Any]) -> tuple[float, Any]:
    """Median wall time after a warm-up, and the answer."""
    times = []
    for run in range(runs + 1):
        begin = time.perf_counter()
        answer = call()
        if run:
            times.append(time.perf_counter() - begin)
    return median(times), answer


def gray_code(covariance: FloatArray, value: FloatArray) -> float:
    """Most profit, one user in or out at a time."""
    n = len(covariance)
    prior, posterior = float(np.trace(covariance)), covariance.copy()
    inside = np.zeros(n)
    best = 0.0
    for step in range(1, 2**n):
        user = (step & -step).bit_length() - 1
        sign = -1.0 if inside[user] else 1.0
        column = posterior[user].copy()
        posterior -= np.outer(column, column * (sign / (1 + sign * column[user])))
        inside[user] = 1 - inside[user]
        variance = posterior.diagonal()
        own = variance * inside
        best = max(best, prior - variance.sum() - value @ (own * own / (1 - own)))
    return best


def remembered(covariance: FloatArray, value: FloatArray) -> float:
    """Most profit by the definition, the leaks of each set computed once."""
    n = len(covariance)

    @cache
    def leaks(mask: int) -> FloatArray:
        return leaked_information(covariance, (mask >> np.arange(n) & 1).astype(bool))

    return max(
        float(
            leaks(mask).sum()
            - sum(value[i] * (leaks(mask)[i] - leaks(mask ^ (1 << i))[i]) for i in range(n) if mask >> i & 1)
        )
        for mask in range(2**n)
    )


def measure_enumeration(n_users: int, runs: int) -> dict[str, Any]:
    covariance, value = instance(n_users, 1.0, 2.5)
    row: dict[str, Any] = {"n_users": n_users}
    row["own"], found = seconds(runs, lambda: platform_optimum(covariance, value, method="enumeration"))
    row["search"], other = seconds(
        runs, lambda: platform_optimum(covariance, value, method="branch_and_bound")
    )
    row["agree"] = bool(np.array_equal(found.sharing, other.sharing))
    if n_users <= 18:
        begin = time.perf_counter()
        row["gray_error"] = abs(gray_code(covariance, value) / found.profit - 1)
        row["gray"] = time.perf_counter() - begin
    if n_users <= 14:
        begin = time.perf_counter()
        row["remembered_error"] = abs(remembered(covariance, value) / found.profit - 1)
        row["remembered"] = time.perf_counter() - begin
    return row


def measure_search(n_users: int, share: float, most_value: float, runs: int, limit: float) -> dict[str, Any]:
    row: dict[str, Any] = {"n_users": n_users, "columns": share, "most_value": most_value}
    times, nodes, gaps = [], [], []
    for seed in range(runs):
        covariance, value = instance(n_users, share, most_value, seed)
        begin = time.perf_counter()
        found = platform_optimum(covariance, value, method="branch_and_bound", time_limit=limit)
        times.append(time.perf_counter() - begin)
        nodes.append(found.n_nodes)
        gaps.append(0.0 if found.proved else found.bound / found.profit - 1)
    return row | {"seconds": times, "nodes": nodes, "gaps": gaps}


def measure_program(n_users: int, limit: float) -> dict[str, Any]:
    covariance, value = instance(n_users, 1.0, 2.5)
    model = mo.DataExternality(covariance, value)
    exact = model.solve()
    begin = time.perf_counter()
    solution = model.solve(backend="outer", time_limit=limit, on_failure="return")
    spent = time.perf_counter() - begin
    return {
        "n_users": n_users,
        "seconds": spent,
        "status": str(solution.status),
        "error": abs(solution.objective - exact.objective),
        "bound_error": None if solution.bound is None else solution.bound - exact.objective,
    }


def main() -> None:
    """Measure, print tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--largest", type=int, default=40)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for one search")
    arguments = parser.parse_args()
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cpu": platform.processor(),
    }
    print(f"{versions}; median seconds of {arguments.runs} runs")
    record: dict[str, Any] = {"versions": versions, "runs": arguments.runs}

    print(f"\n{'users':>5} {'enumerate':>10} {'search':>10} {'Gray code':>10} {'remembered':>10}  agree")
    record["enumeration"] = []
    for n_users in (8, 12, 14, 16, 18, 20, 22):
        if n_users > arguments.largest:
            break
        row = measure_enumeration(n_users, arguments.runs)
        record["enumeration"].append(row)
        told = (f"{row[name]:>10.2e}" if name in row else f"{'':>10}" for name in ("gray", "remembered"))
        print(
            f"{n_users:>5} {row['own']:>10.2e} {row['search']:>10.2e} {' '.join(told)}  {row['agree']}",
            flush=True,
        )

    print(f"\n{'users':>5} {'columns':>8} {'values':>8}  seconds, nodes, gap if not proved; an instance each")
    record["search"] = []
    for n_users in (24, 30, 40):
        if n_users > arguments.largest:
            break
        for share in (0.5, 1.0, 2.0):
            for most_value in (1.3, 2.5):
                row = measure_search(n_users, share, most_value, arguments.runs, arguments.limit)
                record["search"].append(row)
                told = (
                    f"{spent:.2f} s {nodes}" + (f" gap {gap:.1%}" if gap else "")
                    for spent, nodes, gap in zip(row["seconds"], row["nodes"], row["gaps"], strict=True)
                )
                print(f"{n_users:>5} {share:>7}n  1-{most_value:<5}  {'; '.join(told)}", flush=True)

    print(f"\n{'users':>5} {'outer':>10} {'error':>10} {'bound':>10}  status")
    record["program"] = []
    for n_users in (4, 8, 12):
        row = measure_program(n_users, arguments.limit)
        record["program"].append(row)
        bound = "" if row["bound_error"] is None else f"{row['bound_error']:.0e}"
        print(
            f"{n_users:>5} {row['seconds']:>10.2e} {row['error']:>10.0e} {bound:>10}  {row['status']}",
            flush=True,
        )

    print(f"\n{'users':>5} {'all sets':>10} {'table':>10}")
    record["all_sets"] = []
    for n_users in (8, 10, 12, 14):
        covariance, value = instance(n_users, 1.0, 2.5)
        every, _ = seconds(arguments.runs, lambda: equilibrium_sharing_of_all(covariance, value))  # noqa: B023
        table, _ = seconds(arguments.runs, lambda: leak_table(covariance))  # noqa: B023
        record["all_sets"].append({"n_users": n_users, "all_sets": every, "table": table})
        print(f"{n_users:>5} {every:>10.2e} {table:>10.2e}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
