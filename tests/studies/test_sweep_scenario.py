"""Sweeps over scenarios: paths, measures and plots by name, files, and what the command line says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import mechopt as mo
from mechopt.cli import app
from mechopt.formulations import figures
from mechopt.studies.sweep import sweep
from mechopt.studies.sweep_plots import plot_heat_map, plot_lines
from mechopt.studies.sweep_scenario import bundled_sweeps, load_sweep, override
from tests.oracles import extensions

xr = pytest.importorskip("xarray", reason="needs mechopt[sweep]")

BASE = """title = "a [/market] of five"
mechanism = "contract"
backends = "all"
form = "local"
[parameters]
types = { start = 0.1, stop = 0.3, count = 5 }
gain = { kind = "log", weight = 100, scale = 2 }
[[constraints]]
family = "budget"
terms = [{ name = "expected_payment" }]
sense = "<="
bound = 40
"""
SWEEP = """
[sweep]
backend = "clarabel"
[sweep.grid]
"constraints.budget.bound" = [20, 40, 80]
"parameters.gain.weight" = { start = 25, stop = 100, count = 3, scale = "log" }
[sweep.measures]
price = { price = "budget" }
best = { value = "quantity", index = 0 }
quantity = { value = "quantity" }
[sweep.labels]
price = "shadow price"
[[sweep.plots]]
name = "prices"
x = "constraints.budget.bound"
y = "price"
lines = "parameters.gain.weight"
[[sweep.plots]]
name = "map"
x = "constraints.budget.bound"
y = "parameters.gain.weight"
colour = "objective"
"""
INSTANCE = {"types": np.linspace(0.1, 0.3, 5), "probs": np.full(5, 0.2), "unit_cost": 1.0}


def write(folder: Path, text: str) -> Path:
    (folder / "case.toml").write_text(text, encoding="utf-8")
    return folder / "case.toml"


def test_a_sweep_in_toml_gives_the_formula_in_every_cell(tmp_path: Path) -> None:
    report = load_sweep(write(tmp_path, BASE + SWEEP)).run(tmp_path / "out", progress=False)
    assert report.agreement
    assert report.statuses == {"optimal": 9}
    np.testing.assert_allclose(report.results["parameters.gain.weight"], [25, 50, 100])
    for bound in (20.0, 40.0):
        for weight in (25.0, 50.0, 100.0):
            price, _, value = extensions.with_budget({**INSTANCE, "gain": mo.LogGain(weight, 2)}, bound)
            at = {"constraints.budget.bound": bound, "parameters.gain.weight": weight}
            cell = report.results.sel(at, method="nearest")
            assert float(cell["objective"]) == pytest.approx(value, rel=1e-6)
            assert float(cell["price"]) == pytest.approx(price, rel=1e-3, abs=1e-4)
            assert float(cell["best"]) == float(cell["quantity"][0])
    assert set(report.results["backend"].values.ravel()) == {"clarabel"}

    files = report.write(tmp_path / "out")
    assert [path.name for path in files] == [
        "cells.jsonl", "sweep.nc", "sweep.csv", "prices.png", "prices.pdf", "map.png", "map.pdf"
    ]  # fmt: skip
    assert (tmp_path / "out" / "map.png").read_bytes().startswith(b"\x89PNG")
    read = xr.load_dataset(tmp_path / "out" / "sweep.nc", engine="scipy")
    for name in ("objective", "price", "quantity"):
        np.testing.assert_array_equal(read[name], report.results[name])
    assert read["status"].values.ravel().tolist() == ["optimal"] * 9
    import pandas as pd

    table = pd.read_csv(tmp_path / "out" / "sweep.csv")
    assert len(table) == 9
    np.testing.assert_array_equal(table["price"], report.results["price"].values.ravel())
    assert "quantity" not in table  # one row a cell
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    report.show(console)
    printed = console.export_text()
    assert "a [/market] of five" in printed
    assert "9 cells: 9 optimal" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_labelled_and_zipped_parameters_and_failures(tmp_path: Path) -> None:
    grid = """
[sweep]
zip = [["parameters.types.start", "parameters.types.stop"]]
[sweep.grid]
"parameters.types.start" = [0.1, 0.2, 0.9]
"parameters.types.stop" = [0.3, 0.4, 0.5]
[sweep.grid."parameters.gain"]
log = { kind = "log", weight = 100, scale = 2 }
root = { kind = "power", weight = 100, scale = 2, exponent = 0.5 }
"""
    report = load_sweep(write(tmp_path, BASE + grid)).run(tmp_path / "out", progress=False)
    assert report.results["objective"].dims == ("parameters.types.start", "parameters.gain")
    assert report.statuses == {"optimal": 4, "failed": 2}
    assert not report.agreement
    bad = report.results.sel({"parameters.types.start": 0.9})
    assert all("types must be strictly increasing" in reason for reason in bad["reason"].values)
    program = mo.ScreeningContract(
        types=np.linspace(0.2, 0.4, 5), gain=mo.PowerGain(weight=100, scale=2, exponent=0.5)
    ).program("local")
    program.add("budget", program["expected_payment"] <= 40)
    cell = report.results.sel({"parameters.types.start": 0.2, "parameters.gain": "root"})
    assert float(cell["objective"]) == pytest.approx(program.solve().objective, rel=1e-9)
    report.write(tmp_path / "out")
    read = xr.load_dataset(tmp_path / "out" / "sweep.nc", engine="scipy")
    assert read["parameters.gain"].values.tolist() == ["log", "root"]


def test_paths() -> None:
    content = {
        "a": {"b": 1},
        "list": [{"family": "x", "bound": 1}, {"name": "y", "bound": 2}],
        "rows": [1, 2],
    }
    before = json.dumps(content)
    assert override(content, "a.b", 2)["a"] == {"b": 2}
    assert override(content, "a.c.d", 3)["a"] == {"b": 1, "c": {"d": 3}}
    assert override(content, "list.y.bound", 5)["list"][1] == {"name": "y", "bound": 5}
    assert override(content, "list.0.bound", 5)["list"][0]["bound"] == 5
    assert override(content, "rows.1", 7)["rows"] == [1, 7]
    assert json.dumps(content) == before
    with pytest.raises(mo.InvalidInput, match=r"'list\.z\.bound': there is no entry 'z' among 2: x, y"):
        override(content, "list.z.bound", 5)
    with pytest.raises(mo.InvalidInput, match="leads through 'b', which is 1 and no table"):
        override(content, "a.b.c", 5)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[sweep.grid]", "[sweep.grd]", "sweep.grid: is missing"),
        ('"clarabel"', "3", r"sweep.backend: .*\(got 3\)"),
        ('"parameters.gain.weight" = {', '"parameters.gain.wait" = {', "no dimension"),
        ('"constraints.budget.bound" = [', '"constraints.bugdet.bound" = [', "no dimension"),
        (
            "stop = 100, count",
            "stp = 100, count",
            "'parameters.gain.weight': stop: is missing; stp: unknown key",
        ),
        ("start = 25", "start = 0", "a range on a log scale needs start > 0"),
        (
            'y = "price"',
            'y = "prize"',
            "plot 'prices': no measure 'prize'; there are objective, seconds, price",
        ),
        ('lines = "parameters.gain.weight"', "", "leaves parameters.gain.weight without a place"),
        ('name = "map"', 'name = "prices"', "two plots are named 'prices'"),
        ('name = "map"', 'name = "../map"', "sweep.plots"),
        ('{ price = "budget" }', "{ index = 3 }", "give either `value` or `price`"),
        ('colour = "objective"', 'colour = "objective"\nlines = "x"', "`lines` draws curves"),
        ('mechanism = "contract"', 'mechanism = "contrat"', r"mechanism: must be .* \(got 'contrat'\)"),
        ("weight = 100, scale = 2 }", "weight = 100, scale = true }", "`scale` must be a number"),
    ],
)
def test_mistakes_are_named_before_anything_runs(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = BASE + SWEEP
    assert old in text
    with pytest.raises(mo.InvalidInput, match=words):
        load_sweep(write(tmp_path, text.replace(old, new))).run(tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_path_that_no_point_survives(tmp_path: Path) -> None:
    grid = '[sweep.grid]\n"parameters.gian.weight" = [1, 2]\n'
    with pytest.raises(mo.InvalidInput, match=r"case\.toml: parameters\.gian: unknown key"):
        load_sweep(write(tmp_path, BASE + grid))


def test_no_sweep_in_it(tmp_path: Path) -> None:
    with pytest.raises(mo.InvalidInput, match=r"has no table \[sweep\]"):
        load_sweep(write(tmp_path, BASE))
    with pytest.raises(mo.InvalidInput, match=r"no scenario 'nothing': .*contract-sweep"):
        load_sweep("nothing")
    with pytest.raises(mo.InvalidInput, match="cannot read"):
        load_sweep(write(tmp_path, "title ="))


def test_a_simulated_scenario_is_swept_by_numbers_of_its_record(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs mechopt[privacy]")
    pytest.importorskip("opendp", reason="needs mechopt[privacy]")
    text = """title = "private means"
mechanism = "private-mean"
seed = 1
n_holders = 200
n_continuous = 1000
[data]
dataset = "diabetes"
column = "age"
bounds = [0, 100]
[parameters]
types = { lo = 0.2, hi = 1.2, count = 4 }
gain = { kind = "log", weight = 100, scale = 2 }
[sweep.grid]
"parameters.gain.weight" = [50, 100]
"""
    with pytest.raises(mo.InvalidInput, match=r"sweep\.measures: .* is run as a whole"):
        load_sweep(write(tmp_path, text))
    text += """[sweep.measures]
value = { value = "value" }
records = { value = "population.n_records" }
wrong = { value = "popul.n_records" }
"""
    report = load_sweep(write(tmp_path, text)).run(tmp_path / "out", progress=False)
    assert (report.results["records"] == 442).all()
    from mechopt.studies.private_mean import run_private_mean
    from mechopt.studies.scenario import load_scenario

    alone = run_private_mean(*load_scenario(write(tmp_path, text.split("[sweep.grid]")[0])))
    assert float(report.results["value"].sel({"parameters.gain.weight": 100})) == alone.value
    assert report.statuses == {"failed": 2}
    assert "near it: population.n_records" in str(report.results["reason"].values[0])


# ---------------------------------------------------------------- plots


def surface(**extra: Any) -> Any:
    """Numbers that can be told on sight: 100 a + b, with one cell missing."""
    a, b = np.array([1.0, 2.0, 3.0]), np.geomspace(1, 1000, 7)
    values = 100 * a[:, None] + b[None, :]
    values[1, 2] = np.nan
    return xr.Dataset(
        {"f": (("a", "b"), values), "who": (("a", "b"), np.full(values.shape, "x"))}, {"a": a, "b": b}
    )


def test_lines_carry_the_numbers() -> None:
    data = surface()
    (axes,) = plot_lines(data, "b", "f", "a", labels={"f": "value (utility)"}).axes
    assert len(axes.lines) == 3
    for line, row in zip(axes.lines, data["f"].values, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), data["b"])
        np.testing.assert_array_equal(line.get_ydata(), row)
    assert axes.get_xscale() == "log"  # geometric steps
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("b", "value (utility)")
    assert {line.get_color() for line in axes.lines} == set(list(figures.COLOURS.values())[:3])
    assert len({line.get_marker() for line in axes.lines}) == 3  # not by colour alone

    axes, bar = plot_lines(data, "a", "f", "b").axes
    assert len(axes.lines) == 7
    assert axes.get_legend() is None
    assert bar.get_ylabel() == "b"
    assert [text.get_text() for text in bar.get_yticklabels()] == ["1", "10", "100", "1000"]

    (axes,) = plot_lines(data, "a", "f", at={"b": 900}).axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1100, 1200, 1300])
    assert axes.get_xscale() == "linear"


def test_averages_have_a_band() -> None:
    data = surface()
    (axes,) = plot_lines(data.isel(a=[0, 2]), "b", "f", average=("a",)).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 200 + data["b"])
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(200 + 1000 + 100)


def test_heat_maps_carry_the_numbers_and_mark_what_is_missing() -> None:
    data = surface()
    axes, bar = plot_heat_map(data, "b", "a", "f", labels={"f": "value"}).axes
    mesh = axes.collections[0]
    np.testing.assert_array_equal(
        np.asarray(mesh.get_array()).reshape(3, 7)[[0, 2]], data["f"].values[[0, 2]]
    )
    assert np.ma.getmaskarray(mesh.get_array()).sum() == 1
    corners = mesh.get_coordinates()
    assert np.all((corners[0, :-1, 0] < data["b"].values) & (data["b"].values < corners[0, 1:, 0]))
    assert bar.get_ylabel() == "value"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["no value"]
    words = data.assign_coords(a=["x", "y", "z"])
    axes, _ = plot_heat_map(words, "b", "a", "f").axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("b", "g"), "no 'g' in the results; they have f, who"),
        (("b", "who", "a"), "'who' is text"),
        (("c", "f"), "'f' has no dimension 'c'; it has a, b"),
        (("b", "f"), "'f' also runs over a"),
    ],
)
def test_plots_that_cannot_be(arguments: Any, words: str) -> None:
    with pytest.raises(mo.InvalidInput, match=words):
        plot_lines(surface(), *arguments)
    with pytest.raises(mo.InvalidInput, match="'a' has no value 'q'; it has x, y, z"):
        plot_lines(surface().assign_coords(a=["x", "y", "z"]), "b", "f", at={"a": "q"})


# ---------------------------------------------------------------- the command

SMALL = """title = "small"
mechanism = "contract"
[parameters]
types = [0.1, 0.2]
gain = { kind = "log", weight = 100, scale = 2 }
[sweep.grid]
"parameters.unit_cost" = [1, 2, 4]
"""


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_the_command_writes_and_goes_on(invoke: Any, tmp_path: Path) -> None:
    write(tmp_path, SMALL)
    result = invoke("sweep", "case.toml")
    assert result.exit_code == 0, result.output
    out = tmp_path / "mechopt-results" / "case"
    assert "written to mechopt-results/case/: cells.jsonl, sweep.nc, sweep.csv" in result.output
    cells = (out / "cells.jsonl").read_bytes()
    again = invoke("sweep", "case.toml")
    assert isinstance(again.exception, mo.InvalidInput)
    assert "--resume goes on with it" in str(again.exception)
    assert invoke("sweep", "case.toml", "--resume").exit_code == 0
    assert (out / "cells.jsonl").read_bytes() == cells
    read = xr.load_dataset(out / "sweep.nc", engine="scipy")
    alone = mo.ScreeningContract(types=[0.1, 0.2], gain=mo.LogGain(100, 2), unit_cost=4.0).solve()
    assert float(read["objective"].sel({"parameters.unit_cost": 4})) == pytest.approx(
        alone.objective, rel=1e-12
    )
    # An edited scenario is another sweep.
    write(tmp_path, SMALL.replace("100", "90"))
    other = invoke("sweep", "case.toml", "--resume")
    assert "its factory was another version" in str(other.exception)


def test_cells_without_an_answer_are_told_and_exit_with_1(invoke: Any, tmp_path: Path) -> None:
    write(tmp_path, SMALL.replace("[1, 2, 4]", "[1, -2, 4]"))
    result = invoke("sweep", "case.toml", "--out", "a/b")
    assert result.exit_code == 1
    assert "3 cells: 2 optimal, 1 failed" in result.output
    assert "unit_cost" in result.output
    assert (tmp_path / "a" / "b" / "sweep.csv").is_file()


def test_the_bundled_sweep_loads() -> None:
    assert bundled_sweeps() == ("contract-sweep",)
    loaded = load_sweep("contract-sweep")
    assert len(loaded.table.plots) == 3
    point = {path: values[0] for path, values in loaded.grid.items()}
    found = sweep(
        loaded.factory,
        {path: [value] for path, value in point.items()},
        loaded.table.measures,
        progress=False,
    )
    assert found["status"].values.ravel().tolist() == ["optimal"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    write(tmp_path, SMALL.replace("[1, 2, 4]", "{ start = 1, stop = 2, count = 100000 }"))
    command = [sys.executable, "-c", "from mechopt.cli import main; main()", "sweep", "case.toml"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    store = tmp_path / "mechopt-results" / "case" / "cells.jsonl"
    deadline = time.monotonic() + 60
    while not (store.exists() and store.stat().st_size > 10_000):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "what is done is kept in mechopt-results/case; --resume goes on from there" in " ".join(
        told.split()
    )
    assert "Traceback" not in told
