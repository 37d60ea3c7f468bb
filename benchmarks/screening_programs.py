"""Compile and solve times of the screening contract's programs, against what a user would write otherwise.

Run on an idle machine: ``python benchmarks/screening_programs.py [--json FILE]``. Times are medians; a ratio
comes from runs that alternate, so that both sides see the same machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cvxpy as cp
import numpy as np

import mechopt as mo

WEIGHT, SCALE, COST = 100.0, 2.0, 1.0
ACCURACY = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}


def contract_of(n_types: int) -> mo.ScreeningContract:
    """Return the paper's instance with types at the right ends of equal cells."""
    types = 0.01 + 0.2 * np.arange(1, n_types + 1) / n_types
    return mo.ScreeningContract(types=types, gain=mo.LogGain(WEIGHT, SCALE), unit_cost=COST)


def seconds(action: Callable[[], Any]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def alternate(
    first: Callable[[], Any], second: Callable[[], Any], repeats: int
) -> tuple[float, float, float]:
    """Medians of both, and the median of their ratios (second over first), after one warm-up."""
    first(), second()
    pairs = [(seconds(first), seconds(second)) for _ in range(repeats)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(b / a for a, b in pairs),
    )


def bare_vectorised(contract: mo.ScreeningContract) -> float:
    """Solve the full form as an experienced CVXPY user writes it, in the same scaled variables, unchecked."""
    n, types = contract.n_types, contract.types
    data, money = contract.scales()
    z, g = cp.Variable(n, nonneg=True), cp.Variable(n)
    quantity, payment = cp.multiply(data / types, z), money * g
    rent = payment - cp.multiply(COST * types, quantity)
    off_diagonal = np.nonzero(~np.eye(n, dtype=bool))
    gain = WEIGHT * cp.log1p(SCALE * cp.multiply(types, quantity))
    own = cp.reshape(rent, (n, 1), order="F") @ np.ones((1, n))
    swapped = np.ones((n, 1)) @ cp.reshape(payment, (1, n), order="F") - (
        (COST * types[:, None]) @ cp.reshape(quantity, (1, n), order="F")
    )
    objective = cp.sum(gain - payment) / money
    problem = cp.Problem(cp.Maximize(objective), [(own - swapped)[off_diagonal] >= 0, rent >= 0])
    return float(problem.solve(solver="CLARABEL", **ACCURACY)) * money / n


def hand_written_loops(contract: mo.ScreeningContract) -> float:
    """Solve the full form as a first script writes it: scalar variables, one constraint at a time."""
    n = contract.n_types
    data, money = contract.scales()
    z = [cp.Variable() for _ in range(n)]
    g = [cp.Variable() for _ in range(n)]
    quantity = [data / contract.types[k] * z[k] for k in range(n)]
    payment = [money * g[k] for k in range(n)]
    constraints = []
    for k in range(n):
        cost = COST * contract.types[k]
        constraints += [z[k] >= 0, payment[k] - cost * quantity[k] >= 0]
        for j in range(n):
            if j != k:
                constraints.append(payment[k] - cost * quantity[k] >= payment[j] - cost * quantity[j])
    utility = sum(WEIGHT * cp.log(1 + SCALE * contract.types[k] * quantity[k]) - payment[k] for k in range(n))
    problem = cp.Problem(cp.Maximize(utility / money), constraints)
    return float(problem.solve(solver="CLARABEL", **ACCURACY)) * money / n


def measure(quick: bool) -> list[dict[str, Any]]:
    """All comparisons."""
    repeats = 3 if quick else 9
    rows: list[dict[str, Any]] = []
    for n_types in (100, 1_000) if quick else (100, 1_000, 10_000):
        contract = contract_of(n_types)
        runs = [contract.program("reduced").solve("clarabel") for _ in range(repeats)]
        phases = {p: statistics.median(r.seconds[p] for r in runs) for p in runs[0].seconds}
        rows.append(
            {
                "what": f"reduced form, K={n_types}: build + compile over solve",
                "ours": phases["build"] + phases["compile"],
                "other": phases["solve"],
                "ratio": (phases["build"] + phases["compile"]) / phases["solve"],
                "error": abs(runs[-1].objective / contract.solve().objective - 1),
            }
        )
    for n_types in (50,) if quick else (50, 100):
        contract = contract_of(n_types)
        other, ours, ratio = alternate(
            lambda c=contract: bare_vectorised(c),  # type: ignore[misc]
            lambda c=contract: c.program("full").solve("clarabel"),  # type: ignore[misc]
            repeats,
        )
        rows.append(
            {
                "what": f"full form, K={n_types}: ours, checked, over bare vectorised CVXPY",
                "ours": ours,
                "other": other,
                "ratio": ratio,
                "error": abs(bare_vectorised(contract) / contract.solve().objective - 1),
            }
        )
    n_types = 20 if quick else 50
    contract = contract_of(n_types)
    ours, other, ratio = alternate(
        lambda: contract.program("full").solve("clarabel"), lambda: hand_written_loops(contract), 3
    )
    rows.append(
        {
            "what": f"full form, K={n_types}: hand-written loops over ours",
            "ours": ours,
            "other": other,
            "ratio": ratio,
            "error": abs(hand_written_loops(contract) / contract.solve().objective - 1),
        }
    )
    return rows


def main() -> None:
    """Print the table, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats")
    arguments = parser.parse_args()
    rows = measure(arguments.quick)
    print(f"{'comparison':<64} {'ours':>10} {'other':>10} {'ratio':>8} {'rel. error':>10}")
    for row in rows:
        ours, other = (f"{1e3 * row[k]:.1f} ms" for k in ("ours", "other"))
        print(f"{row['what']:<64} {ours:>10} {other:>10} {row['ratio']:>8.2f} {row['error']:>10.0e}")
    if arguments.json:
        versions = {name: version(name) for name in ("mechopt", "cvxpy", "clarabel", "numpy")}
        content = {"machine": platform.processor() or platform.machine(), "versions": versions, "rows": rows}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
