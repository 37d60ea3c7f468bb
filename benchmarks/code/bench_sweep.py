"""Sweeps: what they add to each cell, what processes bring, and what compiling once brings.

Most cells are exact contracts with 20 types, about the cheapest solve there is, so that what is added shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count, product
from pathlib import Path
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from agreement import close

import mechopt as mo

pytest.importorskip("xarray", reason="needs mechopt[sweep]")

TYPES = np.linspace(0.014, 0.21, 20)


def market(weight: float, cost: float) -> mo.ScreeningContract:
    return mo.ScreeningContract(types=TYPES, gain=mo.LogGain(weight=weight, scale=2), unit_cost=cost)


def first(mechanism: Any, solution: mo.Solution) -> Any:
    """Measure one number."""
    return solution["quantity"][0]


def grid_of(side: int) -> dict[str, Any]:
    return {"weight": np.geomspace(10, 1000, side), "cost": np.linspace(0.5, 2, side)}


def objectives(grid: dict[str, Any], **options: Any) -> Any:
    return mo.sweep(market, grid, progress=False, **options)["objective"].values.ravel()


def by_loop(grid: dict[str, Any]) -> Any:
    """Solve cell by cell, and keep the objective alone."""
    points = product(grid["weight"].tolist(), grid["cost"].tolist())
    return np.array([market(*point).solve().objective for point in points])


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


def test_growth_with_empty_cells(growth: Callable[..., dict[int, Any]]) -> None:
    """What a sweep does besides solving: the same for each cell, however many there are."""

    def make(n_cells: int) -> Callable[[], Any]:
        grid = {"weight": np.geomspace(10, 1000, n_cells), "cost": [1.0]}
        return lambda: mo.sweep(Nothing, grid, progress=False)["objective"].values

    found = growth(make, [10, 100, 1000, 10_000], at_most=1.1)
    assert all(np.all(objective == 1.0) for objective in found.values())


def test_growth_with_exact_cells(growth: Callable[..., dict[int, Any]]) -> None:
    """A hundred thousand small contracts take seconds: cells that are alike are solved side by side."""

    def make(n_cells: int) -> Callable[[], Any]:
        grid = {"weight": np.geomspace(10, 1000, n_cells), "cost": [1.0]}
        return lambda: objectives(grid, measure={"first": first})

    found = growth(make, [100, 1000, 10_000, 100_000], at_most=1.1)
    assert all(np.all(np.diff(objective) > 0) for objective in found.values())


@pytest.mark.parametrize(
    "keeping", ["one measure", "one measure, stored", "every array", "every array, stored"]
)
@pytest.mark.sizes(100, smoke=3)
def test_cells(versus: Callable[..., Any], tmp_path: Path, keeping: str, size: int) -> None:
    """With one measure, a sweep takes at most twice a plain loop over the cheapest solve."""
    grid, stores = grid_of(size), count()

    def swept() -> Any:
        options: dict[str, Any] = {"measure": {"first": first}} if "measure" in keeping else {}
        if "stored" in keeping:
            options["store"] = tmp_path / f"{next(stores)}.jsonl"
        return objectives(grid, **options)

    versus(
        swept,
        {"a loop": lambda: by_loop(grid)},
        agree=np.testing.assert_array_equal,
        at_least={"a loop": 0.5} if keeping == "one measure" else None,
        size=f"{size * size} cells",
    )


@pytest.mark.sizes(100, smoke=3)
def test_resuming(versus: Callable[..., Any], tmp_path: Path, size: int) -> None:
    """A sweep that finds every cell in its store, beside one that finds none."""
    grid, store = grid_of(size), tmp_path / "cells.jsonl"
    objectives(grid, measure={"first": first}, store=store)
    versus(
        lambda: objectives(grid, measure={"first": first}, store=store),
        {"solving again": lambda: objectives(grid, measure={"first": first})},
        agree=np.testing.assert_array_equal,
        size=f"{size * size} cells",
    )


@pytest.mark.benchmark(timer=time.perf_counter)
def test_wall_clock_of_two_processes(versus: Callable[..., Any], full: bool) -> None:
    """Conic programs, of some 20 ms each; the workers have been started."""
    grid, n_jobs = grid_of(20 if full else 2), 2 if full else 1  # workers take seconds to start
    versus(
        lambda: objectives(grid, measure={}, backend="clarabel", n_jobs=n_jobs),
        {"one process": lambda: objectives(grid, measure={}, backend="clarabel", n_jobs=1)},
        agree=close(1e-9),
        rounds=3,
        size=f"{grid['weight'].size ** 2} cells",
    )


@pytest.mark.sizes(100, smoke=3)
def test_compiling_once(versus: Callable[..., Any], size: int) -> None:
    """A budget that is a CVXPY parameter of one program, beside a new program for each budget."""
    contract = market(100.0, 1.0)
    shared, parameter = contract.program("local"), cp.Parameter()
    shared.add("budget", shared["expected_payment"] <= parameter)

    def reused(budget: float) -> mo.Program:
        parameter.value = budget
        return shared

    def fresh(budget: float) -> mo.Program:
        program = contract.program("local")
        return program.add("budget", program["expected_payment"] <= budget)

    def swept(factory: Callable[[float], mo.Program]) -> Any:
        budgets = {"budget": np.linspace(10, 80, size)}
        return mo.sweep(factory, budgets, {}, "clarabel", progress=False)["objective"].values

    versus(
        lambda: swept(reused),
        {"a program each": lambda: swept(fresh)},
        agree=close(1e-6),
        at_least={"a program each": 1.5},
        rounds=3,
        size=f"{size} cells",
    )
