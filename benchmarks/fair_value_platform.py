"""Seconds of a platform's payments: optimum, certificates, program, and peers on users' equilibria.

The optimum of N users is one root of a binomial expectation; ``solve()`` adds the record and its audit. Where
data at the private level have value too, branch and bound takes its place. Every bound is compared with the
optimum, and every equilibrium of a peer with ours by its regret. Peers run in an interpreter of their own:

    python benchmarks/fair_value_platform.py [--json FILE] [--runs 5] [--peers /path/to/python]

where that Python has ``nashpy`` or ``pygambit``.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.fair_value.platform import PlatformPayments
from mechopt.formulations.fair_value.platform.exact import Game

FloatArray = NDArray[np.float64]


def sharers(n_users: int) -> FloatArray:
    """Mean estimation without privacy: U(k) = (N + 2) k / (N (k + 2))."""
    k = np.arange(n_users + 1.0)
    return (n_users + 2) / n_users * k / (k + 2)


def levels(n_users: int) -> Callable[[int, int], float]:
    """Return the same, where all users at the private level are worth a quarter of a sharer together."""
    worth = 0.25 / n_users
    return lambda private, sharing: (n_users + 2) / n_users * (x := worth * private + sharing) / (x + 2)


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


def measure_optimum(n_users: int, runs: int) -> dict[str, Any]:
    worth = sharers(n_users)
    cost = 0.5 * float(worth[min(20, n_users)] - worth[min(20, n_users) - 1])
    payments = PlatformPayments(worth, n_users, cost)
    game = Game(payments.values, cost)
    optimum, solve, formula = seconds(
        runs, lambda: game.symmetric(), lambda: payments.solve(), lambda: payments.closed_form()
    )
    gap = abs(payments.solve().objective - payments.closed_form().platform_utility)
    return {"n_users": n_users, "optimum": optimum, "solve": solve, "formula": formula, "gap": gap}


def measure_levels(n_users: int, runs: int) -> dict[str, Any]:
    begin = time.perf_counter()
    base = PlatformPayments(levels(n_users), n_users, 1.0)
    tabulate = time.perf_counter() - begin
    cost = 0.5 * float(base.values.relative_payoff[0])
    payments = PlatformPayments(levels(n_users), n_users, cost)
    game = Game(payments.values, cost)
    (optimum,) = seconds(runs, lambda: game.symmetric())
    solution = payments.solve()
    q = solution.share_probability
    return {"n_users": n_users, "tabulate": tabulate, "optimum": optimum, "q": q, "gap": solution.gap}


def measure_bounds(n_users: int, runs: int) -> dict[str, Any]:
    worth = sharers(n_users)
    payments = PlatformPayments(worth, n_users, 0.4 * float(worth[1]))
    best = payments.solve().objective
    row: dict[str, Any] = {"n_users": n_users}
    for method in ("branch_and_bound", "sum_of_squares", "coefficients"):
        (row[method],) = seconds(runs, lambda method=method: payments.certify(method))
        row[f"{method} gap"] = payments.certify(method).bound - best
    if n_users <= 12:
        for backend in ("pyomo:scip", "pyomo:pounce"):
            (row[backend],) = seconds(runs, lambda backend=backend: payments.solve(backend))
            row[f"{backend} gap"] = abs(payments.solve(backend).objective - best)
    return row


PEER = r"""
import itertools, json, sys, time, warnings
warnings.simplefilter("ignore")
task = json.load(sys.stdin)
payoff, cost, share, n, runs = (task[key] for key in ("payoff", "cost", "share", "n_users", "runs"))
out = {}

def timed(call):
    times = []
    for run in range(runs + 1):
        begin = time.perf_counter(); found = call(); times.append(time.perf_counter() - begin)
    return sorted(times[1:])[len(times[1:]) // 2], found

if n == 2:
    try:
        import numpy, nashpy
        A = numpy.array([[0, 0], [share * payoff[0] - cost, share * payoff[1] - cost]])
        game = nashpy.Game(A, A.T)
        spent, found = timed(lambda: list(game.support_enumeration()))
        out["nashpy"] = {"seconds": spent, "equilibria": [[float(p[1]), float(q[1])] for p, q in found]}
    except ImportError:
        pass
try:
    import numpy, pygambit
    levels = numpy.indices([2] * n)
    others = levels.sum(axis=0) - levels
    tables = numpy.where(levels == 1, share * numpy.append(payoff, 0.0)[others] - cost, 0.0)
    game = pygambit.Game.from_arrays(*tables)
    spent, found = timed(lambda: pygambit.nash.logit_solve(game))
    mixed = found.equilibria[0]
    probabilities = [float(list(mixed[player])[1][1]) for player in game.players]
    out["pygambit"] = {"seconds": spent, "equilibria": [probabilities], "version": pygambit.__version__}
except ImportError:
    pass
print(json.dumps(out))
"""


def measure_peers(n_users: int, runs: int, python: str) -> dict[str, Any]:
    """Equilibria of the users at one payment share, here and by a peer; each is judged by its regret."""
    worth = sharers(n_users)
    payments = PlatformPayments(worth, n_users, 0.4 * float(worth[1]))
    game = Game(payments.values, 0.4 * float(worth[1]))
    payoff, share = payments.values.relative_payoff, 0.6
    (own,) = seconds(runs, lambda: game.equilibria(share))
    task = {
        "payoff": payoff.tolist(),
        "cost": payments.cost,
        "share": share,
        "n_users": n_users,
        "runs": runs,
    }
    answer = subprocess.run([python, "-c", PEER], input=json.dumps(task), capture_output=True, text=True)
    if answer.returncode:
        return {"n_users": n_users, "own": own, "failure": answer.stderr.strip().splitlines()[-1]}
    row: dict[str, Any] = {"n_users": n_users, "own": own}
    for peer, record in json.loads(answer.stdout).items():
        row[peer] = record["seconds"]
        row[f"{peer} ratio"] = record["seconds"] / own
        row[f"{peer} regret"] = max(
            payments.regret(share, np.clip(profile, 0, 1)) for profile in record["equilibria"]
        )
    return row


def measure_own_equilibrium(n_users: int, runs: int) -> dict[str, Any]:
    """Return the time of ours alone, for more users than a table of all profiles can hold."""
    worth = sharers(n_users)
    game = Game(PlatformPayments(worth, n_users, 0.4 * float(worth[1])).values, 0.4 * float(worth[1]))
    return {"own": seconds(runs, lambda: game.equilibria(0.6))[0]}


def show(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{title}")
    for row in rows:
        parts = (
            f"{name} {value:.2e}" if isinstance(value, float) else f"{name} {value}"
            for name, value in row.items()
        )
        print("  " + "  ".join(parts), flush=True)


def main() -> None:
    """Measure, print tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peers", help="a Python that has nashpy or pygambit")
    arguments = parser.parse_args()
    runs = arguments.runs
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cvxpy": cp.__version__,
        "cpu": platform.processor(),
    }
    print(f"{versions}; median seconds of {runs} runs")
    record: dict[str, Any] = {"versions": versions, "runs": runs}
    record["optimum"] = [measure_optimum(n, runs) for n in (2, 10, 100, 1000, 10_000, 100_000)]
    show("private data worth nothing: the first-order condition", record["optimum"])
    record["levels"] = [measure_levels(n, runs) for n in (2, 10, 40, 100, 400)]
    show("private data of value: branch and bound", record["levels"])
    record["bounds"] = [measure_bounds(n, runs) for n in (2, 4, 8, 20, 40, 80)]
    show("certified bounds, and the declared program", record["bounds"])
    if arguments.peers:
        record["peers"] = [measure_peers(n, runs, arguments.peers) for n in (2, 4, 8)]
        record["peers"].append({"n_users": 20, **measure_own_equilibrium(20, runs)})
        show("equilibria of the users at one payment share", record["peers"])
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
