"""The same sweep on a real cluster of Dask: a scheduler and worker processes, which get parameters only."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mechopt as mo
from mechopt.studies.sweep import sweep as told_sweep

xr = pytest.importorskip("xarray", reason="needs mechopt[sweep]")
joblib = pytest.importorskip("joblib", reason="needs mechopt[sweep]")
distributed = pytest.importorskip("distributed", reason="needs dask[distributed]")

sweep = functools.partial(told_sweep, progress=False)
GRID = {"weight": np.geomspace(10, 100, 12), "case": {"two": [0.1, 0.2], "three": [0.1, 0.2, 0.5]}}


def market(weight: float, case: Any) -> mo.ScreeningContract:
    return mo.ScreeningContract(types=case, gain=mo.LogGain(weight=weight, scale=2))


def process(mechanism: Any, solution: Any) -> int:
    return os.getpid()


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    import dask

    dask.config.set({"distributed.scheduler.allowed-failures": 0})
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_a_cluster_gives_the_same_cells(client: Any, tmp_path: Path) -> None:
    shift = 1.0
    factory = lambda weight, case: market(weight + shift, case)  # noqa: E731
    here = sweep(factory, GRID)
    with joblib.parallel_config(backend="dask"):
        there = sweep(factory, GRID, store=tmp_path / "cells")
        pids = sweep(market, GRID, {"process": process}, n_jobs=-1)["process"].values.ravel().tolist()
    workers = {worker["pid"] for worker in client.run(lambda: {"pid": os.getpid()}).values()}
    assert len(workers) == 2
    assert set(pids) == workers
    assert os.getpid() not in workers
    xr.testing.assert_identical(here.drop_vars("seconds"), there.drop_vars("seconds"))
    # What the cluster found, this process need not do again.
    xr.testing.assert_identical(there, sweep(factory, GRID, store=tmp_path / "cells"))


def test_programs_and_failures_on_a_cluster(client: Any) -> None:
    def capped(cap: float) -> mo.Program:
        program = market(100.0, [0.1, 0.2]).program()
        if cap == 3.0:
            program.add("floor", program["quantity"] >= 4)
        if cap == 4.0:
            raise RuntimeError("no such market")
        return program.add("cap", program["quantity"] <= cap)

    measure = {"price": lambda program, solution: solution.dual("cap")}
    with joblib.parallel_config(backend="dask"):
        found = sweep(capped, {"cap": [1.0, 2.0, 3.0, 4.0]}, measure, "clarabel")
    assert found["status"].values.tolist() == ["optimal", "optimal", "infeasible", "failed"]
    assert found["reason"].values[3] == "RuntimeError: no such market"
    gain = mo.LogGain(weight=100.0, scale=2)
    contract = market(100.0, [0.1, 0.2])
    for cap in (1.0, 2.0):
        # Both types at the cap: what one more record brings each, less its virtual cost.
        slope = np.asarray(gain.derivative(contract.types * cap)) * contract.types - contract.virtual_cost
        np.testing.assert_allclose(found["price"].sel(cap=cap).sum(), contract.probs @ slope, rtol=1e-4)
    assert np.isnan(found["price"].values[2:]).all()


def test_a_worker_of_the_cluster_that_dies_is_a_failed_cell(client: Any) -> None:
    def make(weight: float) -> mo.ScreeningContract:
        if weight == 12.0:
            os.kill(os.getpid(), signal.SIGKILL)
        return market(weight, [0.1, 0.2])

    weights = [10.0, 11.0, 12.0, 13.0]
    with joblib.parallel_config(backend="dask"):
        found = sweep(make, {"weight": weights}, {})
    assert found["status"].values.tolist() == ["optimal", "optimal", "failed", "optimal"]
    assert "KilledWorker" in found["reason"].values[2]
