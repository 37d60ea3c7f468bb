"""Seconds of the sharing market: VCG with all its pivots, joint programs instead, mixed-VCG, ordered match.

Where nothing couples buyers all pivots take one optimum a buyer and one an edge. The other road solves one
joint program for the graph and one for each agent left out; a seller cap that cannot bind forces it here.
Payoffs of both roads are compared. Bilateral sharing is measured on preferences under which the ordered match
is the one stable graph.

    python benchmarks/sharing_market.py [--json FILE] [--runs 5] [--joint 30] [--largest 3000]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Literal

import cvxpy as cp
import numpy as np

from mechopt.formulations.functions import LogUtility
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.formulations.sharing_market.network import SharingNetwork
from mechopt.solvers.errors import MechanismError

Sizes = Literal["equal", "whole", "real"]


def market_of(n_agents: int, sizes: Sizes) -> SharingMarket:
    """A market in which about a quarter of all edges are worth their cost."""
    rng = np.random.default_rng(n_agents)
    size = {
        "equal": np.full(n_agents, 2.0),
        "whole": rng.integers(1, 21, n_agents).astype(float),
        "real": rng.uniform(0.5, 20, n_agents),
    }[sizes]
    weight = rng.uniform(10, 100, n_agents)
    total = float(size.sum())
    utility = [LogUtility(float(w), total / 10) for w in weight]
    cost = rng.uniform(0, 10 * float(weight.mean()) / total, (n_agents, n_agents)) * size[:, np.newaxis]
    np.fill_diagonal(cost, 0.0)
    return SharingMarket(size, cost, utility)


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


def measure_vcg(n_agents: int, sizes: Sizes, runs: int, joint: bool) -> dict[str, Any]:
    market = market_of(n_agents, sizes)
    outcome = market.vcg()
    row: dict[str, Any] = {
        "n_agents": n_agents,
        "sizes": sizes,
        "edges": int(outcome.adjacency.sum()),
        "solves": outcome.n_solves,
    }
    calls: list[Callable[[], object]] = [
        market.solve,
        market.vcg,
        lambda: market.vcg("drop"),
        lambda: market.mixed_vcg("drop"),
    ]
    row["solve"], row["exclude"], row["drop"], row["mixed"] = seconds(runs, *calls)
    if joint:
        begin = time.perf_counter()
        try:
            slow = market.vcg(seller_cap=n_agents)
        except MechanismError as error:
            row["joint_failure"] = str(error)
        else:
            size = float(np.max(np.abs(outcome.payoff)))
            row["joint_error"] = float(np.max(np.abs(slow.payoff - outcome.payoff))) / size
        row["joint"] = time.perf_counter() - begin
        row["ratio"] = row["joint"] / row["exclude"]
    return row


def network_of(n_agents: int) -> SharingNetwork:
    """Agents who like more data, and fewer partners; the ordered match is then the one stable graph."""
    size = np.sort(np.random.default_rng(n_agents).uniform(1.0, 5.0, n_agents))[::-1]
    return SharingNetwork(
        [LogUtility(1.0, 1.0)] * n_agents, data_size=size, count_costs=lambda count: 2e-5 * count**2
    )


def measure_match(n_agents: int, runs: int) -> dict[str, Any]:
    network = network_of(n_agents)
    ranking = np.arange(n_agents)
    (spent,) = seconds(runs, lambda: network.ordered_match(ranking))
    return {"n_agents": n_agents, "links": int(network.ordered_match(ranking).sum()) // 2, "match": spent}


def main() -> None:
    """Measure, print tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--joint", type=int, default=30, help="largest number of agents for joint programs")
    parser.add_argument("--largest", type=int, default=3000)
    arguments = parser.parse_args()
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cvxpy": cp.__version__,
        "cpu": platform.processor(),
    }
    print(f"{versions}; median seconds of {arguments.runs} runs, joint programs once")
    heads = (
        "agents",
        "sizes",
        "edges",
        "optima",
        "solve()",
        "vcg",
        "drop",
        "mixed",
        "joint",
        "ratio",
        "error",
    )
    print("{:>6} {:>6} {:>7} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6} {:>8}".format(*heads))
    cases: list[tuple[int, Sizes]] = [
        (10, "whole"),
        (10, "real"),
        (30, "equal"),
        (30, "whole"),
        (30, "real"),
        (100, "equal"),
        (100, "whole"),
        (500, "equal"),
    ]
    vcg_rows = []
    for n_agents, sizes in cases:
        if n_agents > arguments.largest:
            continue
        row = measure_vcg(n_agents, sizes, arguments.runs, n_agents <= arguments.joint)
        vcg_rows.append(row)
        told = " ".join(f"{row[name]:>9.2e}" for name in ("solve", "exclude", "drop", "mixed"))
        joint = f"{row['joint']:>9.2e} {row['ratio']:>6.0f}" if "joint" in row else f"{'':>16}"
        error = f"{row['joint_error']:>8.0e}" if "joint_error" in row else row.get("joint_failure", "")
        print(
            f"{n_agents:>6} {sizes:>6} {row['edges']:>7} {row['solves']:>7} {told} {joint} {error}",
            flush=True,
        )
    print("\n{:>6} {:>8} {:>14}".format("agents", "links", "ordered match"))
    match_rows = []
    for n_agents in (100, 1000, 3000):
        if n_agents > arguments.largest:
            continue
        row = measure_match(n_agents, arguments.runs)
        match_rows.append(row)
        print(f"{n_agents:>6} {row['links']:>8} {row['match']:>14.2e}", flush=True)
    if arguments.json:
        record = {"versions": versions, "runs": arguments.runs, "vcg": vcg_rows, "match": match_rows}
        arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
