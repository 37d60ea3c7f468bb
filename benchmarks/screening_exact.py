"""Seconds of the exact algorithm of the screening contract, from a hundred to a million types.

A regular instance is compared with one vectorised evaluation of the closed form, eq. (42), on the same
arrays, the two in turn: the ratio is what the checks, the payments and the value cost on top. Two irregular
instances need ironing: two humps in the distribution of types (one large pool), and Dirichlet weights (many
pools). Every menu is checked. Last, a batch of many small contracts, next to one contract with as many types.

    python benchmarks/screening_exact.py [--json FILE] [--runs 7] [--largest 1000000]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import LogGain
from mechopt.formulations.screening.exact import ExactMenu, solve_exact, virtual_costs

FloatArray = NDArray[np.float64]
LO, HI, COST = 0.01, 0.21, 1.0
GAIN = LogGain(weight=100, scale=2)


def uniform(types: FloatArray) -> FloatArray:
    return np.full(types.size, 1 / types.size)


def two_humps(types: FloatArray) -> FloatArray:
    x = (types - LO) / (HI - LO)
    density = np.exp(-(((x - 0.2) / 0.08) ** 2) / 2) + np.exp(-(((x - 0.75) / 0.08) ** 2) / 2) + 1e-3
    return density / density.sum()


def dirichlet(types: FloatArray) -> FloatArray:
    weights = np.random.default_rng(0).dirichlet(np.full(types.size, 0.7)) + 1e-3 / types.size
    return weights / weights.sum()


INSTANCES = {"regular": uniform, "two_humps": two_humps, "dirichlet": dirichlet}


def formula(types: FloatArray, probs: FloatArray) -> FloatArray:
    """Evaluate eq. (42) the plain way."""
    phi = types.copy()
    phi[1:] += np.cumsum(probs)[:-1] / probs[1:] * np.diff(types)
    return GAIN.weight / (COST * phi) - 1 / (GAIN.scale * types)


def seconds(runs: int, *calls: Callable[[], object]) -> list[tuple[float, float]]:
    """Median and spread (largest minus smallest) of each call's wall time; in turn, after a warm-up."""
    times: list[list[float]] = [[] for _ in calls]
    for run in range(runs + 1):
        for call, past in zip(calls, times, strict=True):
            begin = time.perf_counter()
            call()
            if run:
                past.append(time.perf_counter() - begin)
    return [(median(past), max(past) - min(past)) for past in times]


def is_optimal(types: FloatArray, probs: FloatArray, menu: ExactMenu) -> bool:
    """Whether no run of equal quantities could be split, raised or lowered with profit."""
    net = probs * types * GAIN.derivative(types * menu.quantity)
    cost = virtual_costs(types, probs, COST)
    net -= cost
    start = np.append(0, np.flatnonzero(np.diff(menu.quantity)) + 1)
    length = np.diff(np.append(start, types.size))
    running = np.cumsum(net)
    running -= np.repeat(running[start] - net[start], length)
    total = np.add.reduceat(net, start)
    tolerance = 1e-10 * np.add.reduceat(cost, start)
    monotone = bool(np.all(np.diff(menu.quantity) <= 0) and menu.quantity[-1] >= 0)
    no_more = np.maximum.reduceat(running, start) <= tolerance
    no_less = (total >= -tolerance) | (menu.quantity[start] == 0)
    return monotone and bool(np.all(no_more & no_less))


def measure(n_types: int, runs: int) -> dict[str, Any]:
    types = np.linspace(LO, HI, n_types + 1)[1:]
    row: dict[str, Any] = {"n_types": n_types}
    for name, weights in INSTANCES.items():
        probs = weights(types)

        def plain(probs: FloatArray = probs) -> object:
            return formula(types, probs)

        def exact(probs: FloatArray = probs) -> ExactMenu:
            return solve_exact(types, probs, GAIN, COST)

        (plain_time, _), (row[name], row[f"{name}_spread"]) = seconds(runs, plain, exact)
        if name == "regular":
            row["formula"], row["ratio"] = plain_time, row[name] / plain_time
        menu = exact()
        row[f"{name}_pooled"] = float(np.sum(menu.pools[:, 1] - menu.pools[:, 0])) / n_types
        row[f"{name}_optimal"] = is_optimal(types, probs, menu)
    return row


def measure_batch(n_contracts: int, n_types: int, runs: int) -> dict[str, Any]:
    """Seconds for a batch of irregular contracts, and for one contract with as many types."""
    rng = np.random.default_rng(0)
    types = np.sort(rng.uniform(0.05, 1, (n_contracts, n_types)), axis=1) + 1e-3 * np.arange(1, n_types + 1)
    probs = rng.dirichlet(np.full(n_types, 0.7), n_contracts) + 1e-3
    probs /= probs.sum(axis=1, keepdims=True)
    long = np.linspace(LO, HI, n_contracts * n_types + 1)[1:]
    weights = dirichlet(long)

    def batch() -> ExactMenu:
        return solve_exact(types, probs, GAIN, COST)

    (batch_time, batch_spread), (one_time, one_spread) = seconds(
        runs, batch, lambda: solve_exact(long, weights, GAIN, COST)
    )
    menu = batch()
    same = all(
        np.array_equal(menu.quantity[i], solve_exact(types[i], probs[i], GAIN, COST).quantity)
        for i in range(0, n_contracts, max(1, n_contracts // 100))
    )
    return {
        "n_contracts": n_contracts,
        "n_types": n_types,
        "batch": batch_time,
        "batch_spread": batch_spread,
        "one_contract": one_time,
        "one_contract_spread": one_spread,
        "same_as_single": same,
    }


def main() -> None:
    """Measure, print a table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--largest", type=int, default=10**6)
    arguments = parser.parse_args()
    versions = {"python": platform.python_version(), "numpy": np.__version__, "cpu": platform.processor()}
    print(f"{versions}; median seconds of {arguments.runs} runs")
    heads = ("types", "eq. (42)", "regular", "ratio", "two humps", "dirichlet", "optimal")
    print("{:>8} {:>10} {:>10} {:>6} {:>10} {:>10}  {}".format(*heads))
    rows = []
    for n_types in (10**k for k in range(2, 7)):
        if n_types > arguments.largest:
            break
        row = measure(n_types, arguments.runs)
        rows.append(row)
        optimal = all(row[f"{name}_optimal"] for name in INSTANCES)
        print(
            f"{n_types:>8} {row['formula']:>10.2e} {row['regular']:>10.2e} {row['ratio']:>6.2f} "
            f"{row['two_humps']:>10.2e} {row['dirichlet']:>10.2e}  {'yes' if optimal else 'NO'}",
            flush=True,
        )
    batch = measure_batch(max(1, arguments.largest // 10), 20, arguments.runs)
    print(
        f"{batch['n_contracts']} contracts with {batch['n_types']} types: {batch['batch']:.2e}; as one: "
        f"{batch['one_contract']:.2e}; same menus as one by one: {'yes' if batch['same_as_single'] else 'NO'}"
    )
    if arguments.json:
        record = {"versions": versions, "runs": arguments.runs, "rows": rows, "batch": batch}
        arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
