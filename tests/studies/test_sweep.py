"""Sweeps over grids: right numbers in the right cells, failures as cells, stores that survive a kill."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt.studies import sweep_cell
from mechopt.studies.sweep import SweepInterrupted
from mechopt.studies.sweep import sweep as told_sweep
from mechopt.studies.sweep_grid import Grid
from mechopt.studies.sweep_parametric import Parametric
from mechopt.studies.sweep_store import FORMAT, identity, key_of
from tests.oracles import extensions

xr = pytest.importorskip("xarray", reason="needs mechopt[sweep]")
joblib = pytest.importorskip("joblib", reason="needs mechopt[sweep]")

sweep = functools.partial(told_sweep, progress=False)
TYPES = [0.05, 0.1, 0.2]
WEIGHTS, COSTS = [10.0, 50.0, 100.0], [0.5, 2.0]


def market(weight: float = 100.0, cost: float = 1.0, types: Any = TYPES) -> mo.ScreeningContract:
    return mo.ScreeningContract(types=types, gain=mo.LogGain(weight=weight, scale=2), unit_cost=cost)


def first_best(mechanism: Any, solution: mo.Solution) -> Any:
    return mechanism.first_best_quantity


def process(mechanism: Any, solution: mo.Solution) -> Any:
    return os.getpid()


class Counted:
    """A factory that notes each of its calls in a file, whatever process they are made in."""

    def __init__(self, log: Path, make: Callable[..., Any] = market) -> None:
        self.log, self.make = log, make

    def __call__(self, **point: Any) -> Any:
        with self.log.open("a") as file:
            file.write(json.dumps(point) + "\n")
        return self.make(**point)

    def calls(self) -> list[Any]:
        found = [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return found


# ---------------------------------------------------------------- numbers


def test_cells_are_what_single_solves_say() -> None:
    found = sweep(market, {"weight": WEIGHTS, "cost": COSTS})
    assert found["objective"].dims == ("weight", "cost")
    for weight in WEIGHTS:
        for cost in COSTS:
            alone, cell = market(weight, cost).solve(), found.sel(weight=weight, cost=cost)
            assert float(cell["objective"]) == alone.objective
            assert (str(cell["status"].values), str(cell["backend"].values)) == ("optimal", "exact")
            for name in ("quantity", "payment", "rent"):
                np.testing.assert_array_equal(cell[name], alone[name])
            assert 0 < float(cell["seconds"]) < 10
    # All vectors of types share one dimension, as a table wants it.
    assert found["quantity"].dims == found["payment"].dims == ("weight", "cost", "entry")
    assert json.loads(found.attrs["grid"]) == {"weight": WEIGHTS, "cost": COSTS}
    assert json.loads(found.attrs["versions"])["mechopt"] == mo.__version__
    assert found.attrs["factory"] == f"{__name__}:market"
    assert found[["objective", "quantity"]].to_dataframe().shape[0] == 18


def test_the_shadow_price_of_a_budget_over_a_grid_meets_the_formula() -> None:
    def budgeted(budget: float) -> mo.Program:
        program = market(types=np.linspace(0.1, 0.3, 5)).program("local")
        return program.add("budget", program["expected_payment"] <= budget)

    budgets = [20.0, 40.0]
    measure = {"price": lambda program, solution: solution.dual("budget")}
    found = sweep(budgeted, {"budget": budgets}, measure, "clarabel", tolerance=1e-7)
    instance = {
        "types": np.linspace(0.1, 0.3, 5),
        "probs": np.full(5, 0.2),
        "gain": mo.LogGain(100, 2),
        "unit_cost": 1.0,
    }
    for budget in budgets:
        price, _, value = extensions.with_budget(instance, budget)
        cell = found.sel(budget=budget)
        assert float(cell["objective"]) == pytest.approx(value, rel=1e-6)
        # A price is a derivative: half the digits of the value.
        assert float(cell["price"]) == pytest.approx(price, rel=1e-3)
    assert set(found["backend"].values) == {"clarabel"}
    assert found.attrs["settings"] == "tolerance=1e-07"


def test_measures_are_numbers_text_or_arrays() -> None:
    measure = {
        "rent": lambda contract, menu: menu["rent"].sum(),
        "best": first_best,
        "who": lambda contract, menu: menu.backend,
        "square": lambda contract, menu: np.outer(contract.types, contract.types),
        "names": lambda contract, menu: ["low", "middle", "high"],
        "monotone": lambda contract, menu: bool(np.all(np.diff(menu["quantity"]) <= 0)),
    }
    found = sweep(market, {"weight": WEIGHTS}, measure, dims={"best": ("type",)})
    assert set(found.data_vars) == {"objective", "status", "reason", "seconds", "backend", *measure}
    assert found["best"].dims == ("weight", "type")
    np.testing.assert_array_equal(found["best"].sel(weight=50.0), market(50.0).first_best_quantity)
    assert found["square"].dims == ("weight", "type", "entry")
    assert found["names"].sel(weight=10.0).values.tolist() == ["low", "middle", "high"]
    assert found["who"].values.tolist() == ["exact"] * 3
    assert found["monotone"].values.tolist() == [1.0] * 3
    assert found["rent"].sel(weight=10.0) == market(10.0).solve()["rent"].sum()


def test_arrays_of_different_lengths_are_padded_and_named() -> None:
    labelled = {"few": TYPES, "many": [0.05, 0.1, 0.15, 0.2]}
    found = sweep(market, {"types": labelled, "cost": COSTS})
    assert found["types"].values.tolist() == ["few", "many"]
    assert found["quantity"].sizes["entry"] == 4
    assert np.isnan(found["quantity"].sel(types="few", entry=3)).all()
    assert np.isfinite(found["quantity"].sel(types="many")).all()
    assert "NaN" in found["quantity"].attrs["padded"]
    assert "padded" not in found["expected_payment"].attrs
    assert (
        float(found["objective"].sel(types="many", cost=2.0))
        == market(100.0, 2.0, labelled["many"]).solve().objective
    )

    odd = {"odd": lambda contract, menu: 1.0 if contract.unit_cost == 0.5 else [1.0], "fine": first_best}
    found = sweep(market, {"cost": COSTS}, odd)
    assert "odd" not in found
    assert "fine" in found
    assert found.attrs["left_out"].startswith("odd: ")


def test_a_name_of_the_solution_that_is_on_the_grid_too_is_kept() -> None:
    def capped(quantity: float) -> mo.Program:
        program = market().program()
        return program.add("cap", program["quantity"] <= quantity)

    found = sweep(capped, {"quantity": [50.0, 100.0]}, backend="clarabel")
    largest = found["solution_quantity"].max("entry")
    np.testing.assert_allclose(largest, [50.0, 100.0], rtol=1e-5)


def test_zipped_parameters_move_together() -> None:
    calls: list[tuple[float, float, str]] = []

    def make(low: float, high: float, kind: str) -> Any:
        calls.append((low, high, kind))
        return market(types=[low, high])

    grid = {"low": [0.1, 0.2], "kind": ["a", "b"], "high": [0.3, 0.5]}
    found = sweep(make, grid, {}, zipped=[("low", "high")])
    assert found["objective"].dims == ("low", "kind")
    assert calls == [(0.1, 0.3, "a"), (0.1, 0.3, "b"), (0.2, 0.5, "a"), (0.2, 0.5, "b")]
    assert found["high"].dims == ("low",)
    assert float(found["high"].sel(low=0.2)) == 0.5
    assert float(found["objective"].sel(low=0.2, kind="a")) == market(types=[0.2, 0.5]).solve().objective


def test_replicates_have_seeds_in_common() -> None:
    def drawn(weight: float, seed: int) -> Any:
        return market(weight, types=np.sort(np.random.default_rng(seed).uniform(0.1, 0.9, 4)))

    grid = {"weight": [10.0, 100.0]}
    types = {"types": lambda contract, menu: contract.types}
    found = sweep(drawn, grid, types, replicates=3)
    assert found["objective"].dims == ("weight", "replicate")
    np.testing.assert_array_equal(found["types"].sel(weight=10.0), found["types"].sel(weight=100.0))
    assert len(set(found["seed"].values.tolist())) == 3
    assert len(np.unique(found["types"].sel(weight=10.0))) == 12
    more = sweep(drawn, grid, types, replicates=4)
    np.testing.assert_array_equal(more["types"][:, :3], found["types"])
    assert not np.array_equal(sweep(drawn, grid, types, replicates=3, seed=1)["seed"], found["seed"])


# ---------------------------------------------------------------- failures


def test_whatever_goes_wrong_is_a_cell() -> None:
    def make(case: str) -> Any:
        program = mo.Program(case)
        x = program.variable("x", nonneg=True)
        program.maximize(x)
        if case != "unbounded":
            program.add("cap", x <= 1)
        if case == "infeasible":
            program.add("floor", x >= 2)
        if case == "no mechanism":
            return 3
        if case == "factory":
            raise RuntimeError("no such market [/red]")
        return program

    def half(program: mo.Program, solution: mo.Solution) -> float:
        if program.name == "measure":
            raise ZeroDivisionError("by nothing")
        return float(solution["x"]) / 2

    cases = ["fine", "unbounded", "infeasible", "factory", "no mechanism", "measure"]
    found = sweep(make, {"case": cases}, {"other": lambda p, s: 7.0, "half": half}, "highspy")
    assert found["status"].values.tolist() == [
        "optimal",
        "unbounded",
        "infeasible",
        "failed",
        "failed",
        "failed",
    ]
    reason = dict(zip(cases, found["reason"].values.tolist(), strict=True))
    assert reason["factory"] == "RuntimeError: no such market [/red]"
    assert "something with solve(); got int" in reason["no mechanism"]
    assert reason["measure"] == "measure 'half': ZeroDivisionError: by nothing"
    np.testing.assert_array_equal(found["half"], [0.5, *[np.nan] * 5])
    np.testing.assert_array_equal(found["other"], [7.0, *[np.nan] * 4, 7.0])
    np.testing.assert_array_equal(found["objective"], [1.0, *[np.nan] * 4, 1.0])


def test_errors_that_carry_a_solution_keep_its_status() -> None:
    class Strict:
        def solve(self) -> mo.Solution:
            program = mo.Program()
            x = program.variable("x", nonneg=True)
            return program.maximize(x).add("cap", x <= 1).add("floor", x >= 2).solve("highspy")

    found = sweep(Strict, {})
    assert found["status"].item() == "infeasible"
    assert found["backend"].item() == "highspy"
    assert found["reason"].item().startswith("Infeasible: ")


def test_answers_that_are_no_solutions() -> None:
    class Plain:
        def solve(self) -> dict[str, float]:
            return {"worth": 3.0}

    found = sweep(Plain, {}, {"worth": lambda mechanism, answer: answer["worth"]})
    assert found["status"].item() == "answered"
    assert found["worth"].item() == 3.0
    assert np.isnan(found["objective"].item())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"factory": 3}, "factory must be callable"),
        ({"grid": [1, 2]}, "grid must map names"),
        ({"grid": {"weight": []}}, "'weight' has no values"),
        ({"grid": {"weight": 3.0}}, "values of 'weight' must be a list"),
        ({"grid": {"weight": "abc"}}, "values of 'weight' must be a list"),
        ({"grid": {"types": [TYPES]}}, r"'types'\[0\] is a list.*give such values names"),
        ({"grid": {"weight": [1.0, "a"]}}, "'weight' mixes float and str"),
        ({"grid": {"weight": [1.0, float("nan")]}}, r"'weight'\[1\] is NaN"),
        ({"grid": {"weight": [1, 2.0, 1.0]}}, "'weight' has 1.0 twice, at 0 and 2"),
        ({"grid": {"types": {1: TYPES}}}, "labels of 'types' must be strings"),
        ({"grid": {"status": [1]}}, "'status' is what a sweep says"),
        ({"grid": {3: [1]}}, "a parameter needs a name"),
        ({"zipped": [("weight", "cost")]}, "zipped: 'cost' is not in the grid"),
        ({"zipped": "weight"}, "zipped must hold groups"),
        ({"grid": {"weight": [1.0], "cost": [1.0, 2.0]}, "zipped": [("weight", "cost")]}, "must be as many"),
        ({"zipped": [("weight", "weight")]}, "more than one place"),
        ({"replicates": 0}, "replicates must be a whole number >= 1"),
        ({"replicates": 2, "grid": {"seed": [1]}}, "'seed' is in the grid"),
        ({"replicates": 2, "seed": -1}, "seed must be a whole number"),
        ({"measure": [first_best]}, "measure must map names"),
        ({"measure": {"objective": first_best}}, "the name 'objective' is taken"),
        ({"measure": {"weight": first_best}}, "the name 'weight' is taken"),
        ({"measure": {"best": "first"}}, "'best' must be a function"),
        ({"n_jobs": 0}, "n_jobs must be a whole number other than 0"),
        ({"n_jobs": True}, "n_jobs must be a whole number"),
        ({"progress": 3}, "progress must be True, False or a function"),
        ({"dims": {"quantity": ("type", "other")}}, "'quantity' has 1 axes"),
        ({"dims": {"quantity": ("weight",)}}, "must differ, also from the grid's"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(mo.InvalidInput, match=words):
        told_sweep(**({"factory": market, "grid": {"weight": [10.0]}, "progress": False} | change))


def test_an_unknown_backend_stops_the_sweep_and_not_each_cell() -> None:
    with pytest.raises(mo.BackendUnavailable, match="did you mean 'clarabel'"):
        sweep(market, {"weight": WEIGHTS}, backend="clarabell")


@pytest.mark.parametrize(("library", "arguments"), [("xarray", {}), ("joblib", {"n_jobs": 2})])
def test_a_missing_library_is_one_line(
    monkeypatch: pytest.MonkeyPatch, library: str, arguments: dict[str, Any]
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        mo.BackendUnavailable, match=rf'a sweep needs {library}: pip install "mechopt\[sweep\]"$'
    ):
        sweep(market, {"weight": WEIGHTS}, **arguments)


def test_progress_is_told_cell_by_cell(tmp_path: Path) -> None:
    def make(weight: float) -> Any:
        return market(weight)

    seen: list[tuple[int, int, int]] = []
    arguments: dict[str, Any] = {
        "grid": {"weight": [10.0, -1.0, 20.0]},
        "store": tmp_path / "cells",
        "progress": lambda *step: seen.append(step),
    }
    told_sweep(make, **arguments)
    assert seen == [(0, 3, 0), (1, 3, 0), (2, 3, 1), (3, 3, 1)]
    seen.clear()
    told_sweep(make, **arguments)
    assert seen == [(3, 3, 1)]


# ---------------------------------------------------------------- many cells together


def endless(cost: float) -> mo.ScreeningContract:
    """At a cost below 1 a record always pays."""
    gain = mo.PiecewiseLinearGain(slopes=[3, 1], intercepts=[0, 4], scale=1)
    return mo.ScreeningContract(types=[1.0, 2.0], gain=gain, unit_cost=cost)


def test_cells_are_solved_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(*_: Any, **__: Any) -> Any:
        raise AssertionError("a cell was solved alone")

    grid: dict[str, Any] = {"weight": np.geomspace(1, 500, 25), "cost": np.linspace(0.2, 3, 9)}
    single = np.array([[market(w, c).solve().objective for c in grid["cost"]] for w in grid["weight"]])
    monkeypatch.setattr(sweep_cell, "HELD", np.inf)
    monkeypatch.setattr(sweep_cell, "LONG", np.inf)
    monkeypatch.setattr(mo.ScreeningContract, "solve", alone)
    found = sweep(market, grid)
    np.testing.assert_array_equal(found["objective"], single)
    assert (found["backend"] == "exact").all()
    assert (found["seconds"] > 0).all()


def test_failures_among_cells_that_are_solved_together() -> None:
    def make(cost: float) -> Any:
        return endless(cost)

    def picky(contract: Any, solution: Any) -> float:
        if contract.unit_cost == 4.0:
            raise ZeroDivisionError("picky")
        return float(solution.objective)

    costs = [2.0, 0.5, -1.0, 3.0, 4.0, 0.25, 5.0]
    seen: list[tuple[int, int, int]] = []
    found = told_sweep(make, {"cost": costs}, {"value": picky}, progress=lambda *step: seen.append(step))
    expected = ["optimal", "unbounded", "failed", "optimal", "failed", "unbounded", "optimal"]
    assert found["status"].values.tolist() == expected
    assert [done for done, _, _ in seen] == list(range(8))
    assert [failed for _, _, failed in seen] == [0, 0, 0, 1, 1, 2, 2, 2]  # in the order of the grid
    assert str(found["reason"].values[1]) == endless(0.5).solve(on_failure="return").reason
    assert "picky" in str(found["reason"].values[4])
    assert "unit_cost must be a finite number > 0" in str(found["reason"].values[2])
    good = [0, 3, 6]
    assert found["value"].values[good].tolist() == [endless(costs[k]).solve().objective for k in good]


def test_kinds_of_mechanisms_in_one_sweep() -> None:
    def make(kind: str, cost: float) -> Any:
        if kind == "contract":
            return market(50.0, cost)
        if kind == "program":
            return market(50.0, cost).program()
        return mo.AccuracyShaping(mo.SqrtAccuracy(1.0, 1.0), [0.01 * cost, 0.02])

    kinds, costs = ["contract", "program", "game"], [0.5, 1.0, 2.0]
    found = sweep(make, {"cost": costs, "kind": kinds}, {})
    for cost in costs:
        for kind in kinds:
            value = float(found["objective"].sel(kind=kind, cost=cost))
            assert value == pytest.approx(make(kind, cost).solve().objective, rel=1e-12)


def test_settings_reach_cells_that_are_solved_together() -> None:
    found = sweep(market, {"cost": COSTS}, {}, options={"speed": 9})
    assert (found["reason"] == "InvalidInput: backend 'exact' has no options, got speed").all()
    found = sweep(market, {"cost": COSTS}, {}, tolerance=2.0)
    assert (found["reason"] == "InvalidInput: tolerance must lie in (0, 1), got 2.0").all()
    noted = {"tolerance": lambda contract, solution: solution.tolerance}
    found = sweep(market, {"cost": COSTS}, noted, "exact", tolerance=1e-4, time_limit=10.0)
    assert (found["tolerance"] == 1e-4).all()


def test_what_takes_long_to_make_is_kept_at_once(tmp_path: Path) -> None:
    """A sweep that is killed loses what was not yet solved: not more than a moment's work."""
    kept: list[int] = []

    def make(weight: float) -> Any:
        kept.append((tmp_path / "cells").read_bytes().count(b"\n") - 1)
        time.sleep(2 * sweep_cell.LONG)
        return market(weight)

    sweep(make, {"weight": [1.0, 2.0, 3.0, 4.0]}, {}, store=tmp_path / "cells")
    assert kept == [0, 1, 2, 3]


# ---------------------------------------------------------------- programs with parameters


def budgeted() -> mo.Program:
    program = market().program("local")
    return program.add("budget", program["expected_payment"] <= cp.Parameter(name="budget"))


def fresh(budget: float) -> mo.Program:
    program = market().program("local")
    return program.add("budget", program["expected_payment"] <= budget)


def wary(budget: Any) -> mo.Program:
    """The same number as a price in the objective."""
    program = market().program("local")
    return program.maximize(program["expected_gain"] - budget * program["expected_payment"])


class Declared:
    """Declares, and counts how often."""

    def __init__(self, declare: Callable[[], Any]) -> None:
        self.declare, self.times = declare, 0

    def __call__(self) -> Any:
        self.times += 1
        return self.declare()


@pytest.mark.parametrize(
    ("declare", "again"),
    [(budgeted, fresh), (lambda: wary(cp.Parameter(name="budget", nonneg=True)), wary)],
)
def test_a_program_is_declared_once_and_its_parameters_vary(declare: Any, again: Any) -> None:
    once, budgets = Declared(declare), [5.0, 1.0, 20.0]
    kept = {"quantity": lambda program, solution: solution["quantity"]}
    found = sweep(Parametric(once), {"budget": budgets}, kept, "clarabel")
    assert once.times == 1
    other = sweep(again, {"budget": budgets}, kept, "clarabel")
    np.testing.assert_allclose(found["objective"], other["objective"], rtol=1e-7)
    np.testing.assert_allclose(found["quantity"], other["quantity"], rtol=1e-3)
    assert len(set(found["objective"].values.tolist())) == 3


def test_the_exact_algorithm_sees_the_parameters_too() -> None:
    budgets = [5.0, 20.0]
    found = sweep(Parametric(budgeted), {"budget": budgets}, {}, "exact")
    for budget in budgets:
        value = float(found["objective"].sel(budget=budget))
        assert value == pytest.approx(fresh(budget).solve("exact").objective, rel=1e-12)


def test_a_parameter_that_does_not_enter_affinely_is_right_if_not_fast() -> None:
    def declare() -> mo.Program:
        program, root = market().program("local"), cp.Parameter(name="root", nonneg=True)
        return program.add("budget", program["expected_payment"] <= cp.square(root) * root)

    with pytest.warns(UserWarning, match="not DPP"):
        found = sweep(Parametric(declare), {"root": [1.0, 2.0]}, {}, "clarabel")
    expected = [fresh(budget).solve("clarabel").objective for budget in (1.0, 8.0)]
    np.testing.assert_allclose(found["objective"], expected, rtol=1e-7)


def test_a_declaration_travels_and_is_known_again(tmp_path: Path) -> None:
    factory, grid, store = Parametric(budgeted), {"budget": [5.0, 20.0]}, tmp_path / "cells"
    here = sweep(factory, grid, {}, "clarabel", store=store)
    # After a solve, too: what was compiled stays here.
    there = sweep(factory, grid, {}, "clarabel", 2)
    np.testing.assert_allclose(there["objective"], here["objective"], rtol=1e-9)
    for known in (factory, Parametric(budgeted)):
        again = sweep(known, {"budget": [5.0, 20.0, 30.0]}, {}, "clarabel", store=store)
        np.testing.assert_array_equal(again["seconds"][:2], here["seconds"])
    with pytest.raises(mo.InvalidInput, match="its factory was another version"):
        sweep(Parametric(lambda: fresh(1.0)), grid, {}, "clarabel", store=store)


def two_of_a_name() -> mo.Program:
    program = budgeted()
    return program.add("more", program["expected_quantity"] >= cp.Parameter(name="budget"))


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (budgeted, "has no cvxpy.Parameter named 'cap'; it has budget"),
        (lambda: market().program(), "has no cvxpy.Parameter named 'cap'; it has none"),
        (market, "declare must return a Program, got ScreeningContract"),
        (two_of_a_name, "has two parameters named 'budget'; rename one"),
    ],
)
def test_a_declaration_that_does_not_fit_is_named(declare: Any, words: str) -> None:
    found = sweep(Parametric(declare), {"cap": [1.0, 2.0]}, {}, "clarabel")
    assert (found["status"] == "failed").all()
    assert words in str(found["reason"].values[0])


def test_a_value_that_is_none_of_the_parameters() -> None:
    def declare() -> mo.Program:
        program = market().program("local")
        return program.add("cap", program["payment"] <= cp.Parameter(name="cap", nonneg=True))

    found = sweep(Parametric(declare), {"cap": [-1.0, 5.0]}, {}, "clarabel")
    assert found["status"].values.tolist() == ["failed", "optimal"]
    assert "cap = -1.0 is no value of that parameter" in str(found["reason"].values[0])


def test_programs_do_not_travel() -> None:
    """In another process their variables' numbers may be those of new ones, and answers wrong."""
    program = market().program()
    cases: list[tuple[Any, dict[str, Any]]] = [
        (lambda weight: program, {"weight": WEIGHTS}),
        (lambda program: program, {"program": {"mine": program}}),
        (lambda weight: cp.sum(program["quantity"]), {"weight": WEIGHTS}),
    ]
    for factory, grid in cases:
        with pytest.raises(mo.InvalidInput, match=r"holds a \w+, and programs cannot be sent .*Parametric"):
            sweep(factory, grid, n_jobs=2)


# ---------------------------------------------------------------- the store


def test_cells_are_not_done_twice(tmp_path: Path) -> None:
    factory, store = Counted(tmp_path / "log"), tmp_path / "new" / "cells.jsonl"
    grid: dict[str, Any] = {"weight": WEIGHTS, "cost": COSTS}
    first = sweep(factory, grid, store=store)
    assert len(factory.calls()) == 6
    second = sweep(factory, grid, store=store)
    assert factory.calls() == []
    xr.testing.assert_identical(first, second)
    # A grid that has grown, in another order, and with whole numbers where there were floats.
    grown = sweep(factory, {"cost": [2, 0.5, 3], "weight": [10, 50, 100]}, store=store)
    assert factory.calls() == [{"cost": 3.0, "weight": weight} for weight in (10, 50, 100)]
    for name in ("objective", "seconds", "quantity"):
        np.testing.assert_array_equal(
            grown[name].sel(cost=[0.5, 2]).transpose("weight", "cost", ...), first[name]
        )


def test_what_is_read_back_is_what_was_measured(tmp_path: Path) -> None:
    measure = {
        "third": lambda contract, menu: 1 / 3,
        "nothing": lambda contract, menu: [np.nan, np.inf, -np.inf, -0.0, 5e-324],
        "empty": lambda contract, menu: [],
        "matrix": lambda contract, menu: np.array([[1.1, 2.2], [3.3, 4.4]]),
        "text": lambda contract, menu: "ε ≤ 1\n",
        "words": lambda contract, menu: ["α", "beta"],
    }
    arguments: dict[str, Any] = {"grid": {"weight": WEIGHTS}, "measure": measure}
    done = sweep(market, **arguments, store=tmp_path / "cells")
    again = sweep(market, **arguments, store=tmp_path / "cells")
    xr.testing.assert_identical(done, again)
    assert again["third"].values[0] == 1 / 3
    assert np.signbit(again["nothing"].values[0, 3])
    assert again["text"].values[0] == "ε ≤ 1\n"
    plain = sweep(market, **arguments)
    xr.testing.assert_identical(plain.drop_vars("seconds"), again.drop_vars("seconds"))


def other(weight: float) -> mo.ScreeningContract:
    return mo.ScreeningContract(types=[0.05, 0.1, 0.3], gain=mo.LogGain(weight=weight, scale=2))


def scaled(scale: float) -> Callable[..., Any]:
    return lambda weight: market(scale * weight)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"factory": other}, "its factory was .*scaled.*, and now it is .*other"),
        ({"factory": scaled(3.0)}, "its factory was another version of"),
        ({"measure": {"best": process}}, "its measure was another version of best"),
        ({"measure": None}, "its measure was best, and now it is every array"),
        ({"backend": "clarabel"}, "its backend was the default, and now it is clarabel"),
        (
            {"time_limit": 3.0},
            "its settings was tolerance=1e-06, and now it is tolerance=1e-06, time_limit=3.0",
        ),
    ],
)
def test_cells_of_another_sweep_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    arguments: dict[str, Any] = {
        "factory": scaled(2.0),
        "grid": {"weight": WEIGHTS},
        "measure": {"best": first_best},
        "tolerance": 1e-6,
        "store": tmp_path / "cells",
    }
    sweep(**arguments)
    before = (tmp_path / "cells").read_bytes()
    with pytest.raises(mo.InvalidInput, match=words):
        sweep(**(arguments | change))
    assert (tmp_path / "cells").read_bytes() == before
    sweep(**(arguments | {"factory": scaled(2.0), "progress": False}))


def test_another_version_of_the_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(market, {"weight": WEIGHTS}, store=tmp_path / "cells")
    monkeypatch.setattr("mechopt.studies.sweep.version", lambda name: "9.9")
    with pytest.raises(mo.InvalidInput, match=f"was mechopt {mo.__version__}, and now it is mechopt 9.9"):
        sweep(market, {"weight": WEIGHTS}, store=tmp_path / "cells")


def test_failed_cells_are_kept_or_done_again(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()

    def make(weight: float) -> Any:
        if broken.exists() and weight == 50.0:
            raise RuntimeError("not today")
        return market(weight)

    factory, store = Counted(tmp_path / "log", make), tmp_path / "cells"
    grid = {"weight": WEIGHTS}
    assert sweep(factory, grid, store=store)["status"].values.tolist() == ["optimal", "failed", "optimal"]
    broken.unlink()
    factory.calls()
    assert sweep(factory, grid, store=store)["status"].values.tolist() == ["optimal", "failed", "optimal"]
    assert factory.calls() == []
    for _ in range(2):
        again = sweep(factory, grid, store=store, retry_failed=True)
        assert again["status"].values.tolist() == ["optimal"] * 3
    assert factory.calls() == [{"weight": 50.0}]


def test_a_line_cut_short_is_done_again(tmp_path: Path) -> None:
    factory, store = Counted(tmp_path / "log"), tmp_path / "cells"
    grid = {"weight": WEIGHTS}
    first = sweep(factory, grid, store=store)
    factory.calls()
    whole = store.read_bytes()
    last = whole.rstrip(b"\n").rindex(b"\n") + 1
    for end in (last, last + 1, last + 30, len(whole) - 2, len(whole) - 1):
        store.write_bytes(whole[:end])
        again = sweep(factory, grid, store=store)
        assert factory.calls() == [{"weight": 100.0}]
        np.testing.assert_array_equal(again["quantity"], first["quantity"])
        assert len(store.read_bytes().splitlines()) == 4


def test_a_damaged_line_is_noticed(tmp_path: Path) -> None:
    factory, store = Counted(tmp_path / "log"), tmp_path / "cells"
    grid = {"weight": WEIGHTS}
    first = sweep(factory, grid, store=store)
    factory.calls()
    lines = store.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"objective": 1', b'"objective": 2')
    assert lines[2] != store.read_bytes().splitlines(keepends=True)[2]
    store.write_bytes(b"".join(lines))
    with pytest.warns(mo.MechanismWarning, match="1 of 3 lines"):
        again = sweep(factory, grid, store=store)
    assert factory.calls() == [{"weight": 50.0}]
    np.testing.assert_array_equal(again["objective"], first["objective"])


def test_files_that_are_no_stores(tmp_path: Path) -> None:
    for content in ("a,b\n1,2\n", "a", '{"format": "other"}\n'):
        (tmp_path / "mine.csv").write_text(content)
        with pytest.raises(mo.InvalidInput, match="is not the file of a sweep"):
            sweep(market, {"weight": WEIGHTS}, store=tmp_path / "mine.csv")
        assert (tmp_path / "mine.csv").read_text() == content
    with pytest.raises(mo.InvalidInput, match="store: cannot write"):
        sweep(market, {"weight": WEIGHTS}, store=tmp_path)


def test_identities() -> None:
    def same(scale: float) -> Any:
        return lambda weight: scale * weight

    assert identity(same(2.0)) == identity(same(2.0)) != identity(same(3.0))
    assert identity(lambda x: x + 1)[1] != identity(lambda x: x + 2)[1]
    assert identity(mo.LogGain(100, 2)) == identity(mo.LogGain(100, 2)) != identity(mo.LogGain(100, 3))
    namespace: dict[str, Any] = {"SCALE": 2.0}
    exec("def scaled_by(weight): return SCALE * weight", namespace)
    before = identity(namespace["scaled_by"])
    namespace["SCALE"] = 3.0
    assert identity(namespace["scaled_by"]) != before
    contract = market()
    before = identity(contract)
    contract.solve()  # fills its cache
    assert identity(contract) == before
    assert identity(np.arange(3.0)) != identity(np.arange(3))
    assert identity(functools.partial(market, cost=1.0)) != identity(functools.partial(market, cost=2.0))
    assert key_of({"a": 1, "b": 2.5}) == key_of({"b": 2.5, "a": 1.0})
    keys = [key_of(point) for point in ({"a": 1}, {"b": 1}, {"a": "1"}, {"a": True}, {"a": None}, {"a": [1]})]
    assert len(set(keys)) == len(keys)


LONG: dict[str, Any] = {"weight": [10.0 + k for k in range(20)], "cost": [0.5 + 0.1 * k for k in range(6)]}


def slow(weight: float, cost: float) -> Any:
    time.sleep(0.02)
    return market(weight, cost)


def long_sweep(folder: Path, n_jobs: int = 1) -> Any:
    return sweep(Counted(folder / "log", slow), LONG, {}, n_jobs=n_jobs, store=folder / "cells")


def to_the_end(folder: Path) -> None:
    """The sweep in a child of its own; what it ends with goes into a file."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        long_sweep(folder)
        said = "done"
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    (folder / "said").write_text(said)


def child(folder: Path) -> Any:
    process = multiprocessing.get_context("fork").Process(target=to_the_end, args=(folder,))
    process.start()
    return process


SCRIPT = """
import sys
from pathlib import Path
from tests.studies.test_sweep import long_sweep
long_sweep(Path(sys.argv[1]), n_jobs=2)
"""


def own_session(folder: Path) -> subprocess.Popen[bytes]:
    """The sweep on two processes, away from this one's."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    return subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, start_new_session=True)


def wait_for_cells(alive: Callable[[], bool], folder: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while not ((folder / "cells").exists() and (folder / "cells").read_bytes().count(b"\n") > count):
        assert alive()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def cells(folder: Path) -> list[Any]:
    lines = (folder / "cells").read_bytes().splitlines()[1:]
    return [json.loads(line.partition(b" ")[2]) for line in lines]


def goes_on(folder: Path, kept: int) -> None:
    """The rest is done, each cell once, and all of them are right."""
    Counted(folder / "log").calls()
    found = long_sweep(folder)
    assert len(Counted(folder / "log").calls()) == 120 - kept
    keys = [cell["key"] for cell in cells(folder)]
    assert len(keys) == len(set(keys)) == 120
    assert (found["status"] == "optimal").all()
    for weight, cost in ((10.0, 0.5), (17.0, 0.7), (29.0, 1.0)):
        assert (
            float(found["objective"].sel(weight=weight, cost=cost)) == market(weight, cost).solve().objective
        )


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_killed_sweep_goes_on(tmp_path: Path) -> None:
    killed = child(tmp_path)
    wait_for_cells(killed.is_alive, tmp_path, 30)
    killed.kill()
    killed.join()
    assert not (tmp_path / "said").exists()
    kept = (tmp_path / "cells").read_bytes().count(b"\n") - 1
    assert 30 <= kept < 120
    # Nothing that was done is lost, but for the one cell that was on its way.
    assert kept <= len(Counted(tmp_path / "log").calls()) <= kept + 1
    goes_on(tmp_path, kept)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_killed_sweep_on_two_processes_goes_on(tmp_path: Path) -> None:
    killed = own_session(tmp_path)
    wait_for_cells(lambda: killed.poll() is None, tmp_path, 20)
    killed.kill()
    killed.wait()
    kept = (tmp_path / "cells").read_bytes().count(b"\n") - 1
    assert 20 <= kept < 120
    os.killpg(killed.pid, signal.SIGKILL)  # its workers, which outlive it for a while
    killed.communicate()
    goes_on(tmp_path, kept)


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    stopped = child(tmp_path)
    wait_for_cells(stopped.is_alive, tmp_path, 10)
    os.kill(stopped.pid, signal.SIGINT)
    stopped.join(30)
    said = (tmp_path / "said").read_text()
    kept = len(cells(tmp_path))
    where = tmp_path / "cells"
    assert (
        said == f"SweepInterrupted: {kept} of 120 cells are kept in {where}; the same call goes on from there"
    )
    goes_on(tmp_path, kept)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_stops_the_workers_too(tmp_path: Path) -> None:
    stopped = own_session(tmp_path)
    wait_for_cells(lambda: stopped.poll() is None, tmp_path, 10)
    os.killpg(stopped.pid, signal.SIGINT)  # as a terminal does: all of them get it
    _, told = stopped.communicate(timeout=60)
    assert stopped.returncode != 0
    assert f"of 120 cells are kept in {tmp_path / 'cells'}; the same call goes on".encode() in told
    done = cells(tmp_path)
    assert 10 <= len(done) < 120
    assert {cell["record"]["status"] for cell in done} == {"optimal"}


@pytest.mark.skipif(sys.platform == "win32", reason="files are not locked there")
def test_a_store_in_use_is_refused(tmp_path: Path) -> None:
    first = child(tmp_path)
    wait_for_cells(first.is_alive, tmp_path, 2)
    with pytest.raises(mo.InvalidInput, match="is in use by another sweep"):
        long_sweep(tmp_path)
    first.join(30)
    assert (tmp_path / "said").read_text() == "done"
    assert len(cells(tmp_path)) == 120


def test_an_interrupted_sweep_gives_what_it_has(tmp_path: Path) -> None:
    def make(weight: float) -> Any:
        if weight == 100.0:
            raise KeyboardInterrupt
        return market(weight)

    with pytest.raises(SweepInterrupted, match=r"2 of 3 cells were done: see \.results") as stopped:
        sweep(make, {"weight": WEIGHTS})
    found = stopped.value.results
    assert found["status"].values.tolist() == ["optimal", "optimal", "missing"]
    assert np.isnan(found["quantity"].sel(weight=100.0)).all()
    assert float(found["objective"].sel(weight=50.0)) == market(50.0).solve().objective


# ---------------------------------------------------------------- in parallel


def same_numbers(one: Any, two: Any) -> None:
    xr.testing.assert_identical(one.drop_vars("seconds").drop_attrs(), two.drop_vars("seconds").drop_attrs())


def test_processes_give_the_same_cells(tmp_path: Path) -> None:
    shift = 1.0
    factory = lambda weight, cost: market(weight + shift, cost)  # noqa: E731
    grid = {"weight": WEIGHTS, "cost": COSTS}
    here = sweep(factory, grid)
    apart = sweep(factory, grid, n_jobs=2, store=tmp_path / "cells")
    same_numbers(here, apart)
    same_numbers(here, sweep(factory, grid, store=tmp_path / "cells"))
    pids = sweep(market, {"weight": np.linspace(10, 20, 30)}, {"process": process}, n_jobs=2)["process"]
    assert os.getpid() not in pids.values
    assert 1 <= len(set(pids.values.tolist())) <= 2


@pytest.mark.parametrize("backend", ["threading", "multiprocessing", "loky"])
def test_any_backend_of_joblib_by_its_configuration(backend: str) -> None:
    grid = {"weight": np.linspace(10, 100, 70)}
    here = sweep(lambda weight: market(weight), grid)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        there = sweep(lambda weight: market(weight), grid)
        pids = sweep(market, {"weight": WEIGHTS}, {"process": process})["process"].values
    same_numbers(here, there)
    assert (os.getpid() in pids) == (backend == "threading")


def threads(mechanism: Any, solution: mo.Solution) -> int:
    import threadpoolctl

    return max(pool["num_threads"] for pool in threadpoolctl.threadpool_info())


def test_workers_use_one_thread_of_linear_algebra() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="needs mechopt[sweep]")
    arguments: dict[str, Any] = {"grid": {"weight": WEIGHTS}, "measure": {"threads": threads}}
    with threadpoolctl.threadpool_limits(2), joblib.parallel_config(backend="multiprocessing", n_jobs=2):
        plain = joblib.Parallel()(joblib.delayed(threads)(None, None) for _ in range(2))
        if max(plain) == 1:
            pytest.skip("there is one core")
        found = sweep(market, **arguments)
    assert found["threads"].values.tolist() == [1.0] * 3


def test_a_worker_that_dies_is_a_failed_cell() -> None:
    def make(weight: float) -> Any:
        if weight == 13.0:
            os.kill(os.getpid(), signal.SIGKILL)
        return market(weight)

    found = sweep(make, {"weight": [10.0 + k for k in range(6)]}, {}, n_jobs=2)
    assert found["status"].sel(weight=13.0).item() == "failed"
    assert "TerminatedWorkerError" in found["reason"].sel(weight=13.0).item()
    rest = found.drop_sel(weight=13.0)
    assert (rest["status"] == "optimal").all()
    np.testing.assert_array_equal(
        rest["objective"], [market(w).solve().objective for w in rest["weight"].values]
    )


def explode() -> Any:
    raise ModuleNotFoundError("No module named 'mine'")


class OnlyHere:
    """What a worker cannot make again."""

    def __call__(self, weight: float) -> Any:
        return market(weight)

    def __reduce__(self) -> Any:
        return explode, ()


def test_workers_that_cannot_do_anything_stop_the_sweep() -> None:
    words = "no cell came back from the workers.*No module named 'mine'.*can the factory .* be imported there"
    with joblib.parallel_config(backend="threading", n_jobs=2), pytest.raises(mo.MechanismError, match=words):
        sweep(OnlyHere(), {"weight": WEIGHTS})


def test_what_cannot_travel_is_said_at_once(tmp_path: Path) -> None:
    with (
        (tmp_path / "file").open("w") as file,
        pytest.raises(mo.InvalidInput, match="cannot be sent to another"),
    ):
        sweep(lambda weight: market(weight) if file else None, {"weight": WEIGHTS}, n_jobs=2)


def test_points_come_in_the_order_of_the_grid() -> None:
    grid = Grid.of({"a": [1, 2], "b": {"x": [0.1], "y": [0.2]}})
    assert grid.shape == (2, 2)
    assert [point for point, _ in grid.points()][1] == {"a": 1, "b": [0.2]}
    assert [label for _, label in grid.points()][1] == {"a": 1, "b": "y"}
    assert FORMAT.endswith("1")
