"""Seconds of fair values: all coalitions of distinct users, counts of users in groups, and the integral.

For distinct users, the algorithm is compared with what a user would write with numpy on the same table: one
weighted difference of the whole table a user. For groups, counting and integration are compared with each
other, and with the whole grid of counts in logarithms of binomials. shapiq and pyDVL are measured where they
are installed, on the same utility, from the utility to the values. Every answer is compared with ours.

    python benchmarks/fair_value_shapley.py [--json FILE] [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.special import gammaln

from mechopt.formulations.fair_value.shapley import FairValue
from mechopt.formulations.fair_value.shapley.exact import subset_values

FloatArray = NDArray[np.float64]


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


class Returns:
    """Diminishing returns in weighted members: x / (x + 2), for a matrix of members or counts."""

    def __init__(self, weights: FloatArray) -> None:
        self.weights = weights

    def __call__(self, counts: Any) -> FloatArray:
        """Evaluate at rows of members or counts."""
        data = np.asarray(counts) @ self.weights
        return np.asarray(data / (data + 2))


def numpy_table(table: FloatArray) -> FloatArray:
    """Do what a user would write: for each user, the weighted sum of (12) over all coalitions without it."""
    n_users = table.size.bit_length() - 1
    masks = np.arange(table.size)
    size = np.bitwise_count(masks).astype(np.int64)
    weights = np.array(
        [np.exp(gammaln(s + 1) + gammaln(n_users - s) - gammaln(n_users + 1)) for s in range(n_users)]
    )
    values = np.empty(n_users)
    for user in range(n_users):
        without = masks[(masks >> user) & 1 == 0]
        values[user] = weights[size[without]] @ (table[without | 1 << user] - table[without])
    return values


def log_binomials(utility: Returns, sizes: tuple[int, ...]) -> FloatArray:
    """Count on the whole grid, with logarithms of binomials."""
    n_users = sum(sizes)
    counts = np.indices([m + 1 for m in sizes])
    value = utility(np.moveaxis(counts, 0, -1))
    total = counts.sum(axis=0)

    def log_choose(n: Any, k: Any) -> Any:
        return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)

    values = np.empty(len(sizes))
    for g in range(len(sizes)):
        inner = tuple(slice(0, -1) if h == g else slice(None) for h in range(len(sizes)))
        weight = -log_choose(n_users - 1, total[inner]) - np.log(n_users)
        for h, m in enumerate(sizes):
            weight = weight + log_choose(m - (h == g), counts[h][inner])
        values[g] = np.sum(np.exp(weight) * np.diff(value, axis=g))
    return values


def by_shapiq(utility: Returns, n_users: int) -> Callable[[], FloatArray] | None:
    """Exact values by shapiq, if it is installed."""
    try:
        from shapiq import ExactComputer
    except ImportError:
        return None

    def call() -> FloatArray:
        found = ExactComputer(utility, n_players=n_users)(index="SV", order=1)
        return np.array([found[(user,)] for user in range(n_users)])

    return call


def by_pydvl(utility: Returns, n_users: int) -> Callable[[], FloatArray] | None:
    """Exact values by pyDVL, if it is installed."""
    try:
        from pydvl.valuation import DeterministicUniformSampler, ShapleyValuation
        from pydvl.valuation.games import DummyGameDataset
        from pydvl.valuation.stopping import NoStopping
        from pydvl.valuation.utility.base import UtilityBase
    except ImportError:
        return None
    data = DummyGameDataset(n_users, "users")

    class OneCoalition(UtilityBase):  # type: ignore[misc]
        training_data = data

        def with_dataset(self, _: Any) -> OneCoalition:
            return self

        def __call__(self, sample: Any) -> float:
            member = np.zeros(n_users)
            if sample is not None:
                member[sample.subset] = 1
            return float(utility(member))

    def call() -> FloatArray:
        sampler = DeterministicUniformSampler()
        valuation = ShapleyValuation(OneCoalition(), sampler, NoStopping(sampler), progress=False)
        found = valuation.fit(data).result
        return np.asarray(found.values[np.argsort(found.indices)])

    return call


def measure_users(n_users: int, runs: int) -> dict[str, Any]:
    utility = Returns(np.random.default_rng(0).uniform(0.1, 1, n_users))
    bits = np.arange(2**n_users)[:, None] >> np.arange(n_users) & 1
    table = utility(bits)
    exact = subset_values(table, include_platform=False)[0]
    row: dict[str, Any] = {"n_users": n_users}
    row["kernel"], row["solve"], row["numpy"], row["from_function"] = seconds(
        runs,
        lambda: subset_values(table, include_platform=False),
        lambda: FairValue(table).solve(),
        lambda: numpy_table(table),
        lambda: FairValue(utility, n_users=n_users, vectorized=True).solve("subsets"),
    )
    row["error"] = float(np.max(np.abs(exact / numpy_table(table) - 1)))
    for name, make, most in (("shapiq", by_shapiq, 16), ("pydvl", by_pydvl, 10)):
        call = make(utility, n_users) if n_users <= most else None
        if call is None:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                (row[name],) = seconds(min(runs, 3), call)
                row["error"] = max(row["error"], float(np.max(np.abs(call() / exact - 1))))
        except Exception as failure:  # a failure is a row, not an absence
            row[f"{name}_failure"] = f"{type(failure).__name__}: {failure}"
    return row


def measure_groups(sizes: tuple[int, ...], runs: int) -> dict[str, Any]:
    utility = Returns(np.linspace(0.4, 1, len(sizes)))
    fair = FairValue(utility, group_sizes=sizes, vectorized=True)
    counted, integrated = fair.solve("groups"), fair.solve("owen")
    row: dict[str, Any] = {"sizes": list(sizes)}
    row["groups"], row["owen"] = seconds(runs, lambda: fair.solve("groups"), lambda: fair.solve("owen"))
    row["groups_visits"], row["owen_visits"] = counted.n_evaluations, integrated.n_evaluations
    row["error"] = float(np.max(np.abs(integrated.group_values / counted.group_values - 1)))
    row["residual"] = max(counted.efficiency_residual, integrated.efficiency_residual)
    if np.prod(np.array(sizes) + 1.0) <= 2e7:
        row["log"] = seconds(1, lambda: log_binomials(utility, sizes))[0]
        row["log_error"] = float(np.max(np.abs(log_binomials(utility, sizes) / counted.group_values - 1)))
    return row


def installed(name: str) -> str:
    """Version of a package, or that there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def shown(row: dict[str, Any], name: str) -> str:
    """Seconds, a failure, or nothing."""
    return f"{row[name]:.2e}" if name in row else "failed" if f"{name}_failure" in row else ""


def main() -> None:
    """Measure, print tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "shapiq": installed("shapiq"),
        "pydvl": installed("pyDVL"),
        "cpu": platform.processor(),
    }
    print(f"{versions}; median seconds of {arguments.runs} runs")
    heads = ("users", "kernel", "solve()", "numpy", "ratio", "function", "shapiq", "pyDVL", "error")
    print("{:>6} {:>9} {:>9} {:>9} {:>6} {:>9} {:>9} {:>9} {:>8}".format(*heads))
    user_rows = []
    for n_users in (8, 10, 14, 16, 20, 22):
        row = measure_users(n_users, arguments.runs)
        user_rows.append(row)
        print(
            f"{n_users:>6} {row['kernel']:>9.2e} {row['solve']:>9.2e} {row['numpy']:>9.2e} "
            f"{row['numpy'] / row['kernel']:>6.1f} {row['from_function']:>9.2e} {shown(row, 'shapiq'):>9} "
            f"{shown(row, 'pydvl'):>9} {row['error']:>8.0e}",
            flush=True,
        )
        for name in ("shapiq", "pydvl"):
            if f"{name}_failure" in row:
                print(f"       {name}: {row[f'{name}_failure']}")
    heads = ("sizes", "groups", "owen", "whole grid", "visits", "visits", "apart", "residual", "grid err")
    print("\n{:>18} {:>9} {:>9} {:>10} {:>9} {:>9} {:>7} {:>8} {:>8}".format(*heads))
    group_rows = []
    for sizes in ((100, 100, 100), (2000, 2000), (5000, 5000)):
        row = measure_groups(sizes, arguments.runs)
        group_rows.append(row)
        log_error = f"{row['log_error']:.0e}" if "log_error" in row else ""
        print(
            f"{sizes!s:>18} {row['groups']:>9.2e} {row['owen']:>9.2e} {shown(row, 'log'):>10} "
            f"{row['groups_visits']:>9.1e} {row['owen_visits']:>9.1e} {row['error']:>7.0e} "
            f"{row['residual']:>8.0e} {log_error:>8}",
            flush=True,
        )
    if arguments.json:
        record = {"versions": versions, "runs": arguments.runs, "users": user_rows, "groups": group_rows}
        arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
