"""A benchmark from plan to report: no cell is lost, an interrupted run goes on, and edits are noticed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import mechopt
from mechopt import BackendUnavailable, InvalidInput, MechanismError
from mechopt.cli import app
from mechopt.studies.bench import drive
from mechopt.studies.bench.drive import MOST_LOST, Plan, make_plan, patterns
from mechopt.studies.bench.engine import SETTINGS, Limits
from mechopt.studies.bench.instrument_parts import (
    FOLDER,
    Keeping,
    answer,
    parameters,
    reason_to_skip,
    verified,
)
from mechopt.studies.bench.rows import Cell, RowFile, empty_row
from tests.studies.bench_rogues import install

needs_engine = pytest.mark.skipif(
    importlib.util.find_spec("benchopt") is None or sys.platform == "win32",
    reason="needs benchopt: pip install 'mechopt[bench]'",
)
MEDIATOR = "data-externality/mediator"

# ---------------------------------------------------------------- plans


def test_plan_asks_whom_it_can_and_says_why_not() -> None:
    plan = make_plan([MEDIATOR], ["clarabel", "highspy"], [4, 8], ["loose", "tight"], seeds=2)
    assert len(plan.cells) == 2 * 2 * 2
    assert {cell.backend for cell in plan.cells} == {"clarabel"}
    assert plan.skipped == {(MEDIATOR, "highspy"): "lacks SDP"}
    assert plan.limits == Limits(60.0, 4.0, 3)


def test_quick_plan_is_small() -> None:
    plan = make_plan([MEDIATOR], quick=True)
    assert {cell.size for cell in plan.cells} == {4, 8, 16}
    assert {cell.seed for cell in plan.cells} == {0}
    assert plan.limits == Limits(5.0, 4.0, 1)
    assert make_plan([MEDIATOR], quick=True, time_limit=2.0).limits.time == 2.0


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"mechanisms": ["auction"]}, InvalidInput, "'auction' is not benchmarked"),
        ({"backends": ["clarabell"]}, BackendUnavailable, "did you mean 'clarabel'"),
        ({"sizes": [0]}, InvalidInput, "sizes must be"),
        ({"settings": ["fast"]}, InvalidInput, "no setting 'fast'"),
        ({"seeds": 0}, InvalidInput, "seeds"),
        ({"time_limit": -1.0}, InvalidInput, "limit of time"),
        ({"mechanisms": [MEDIATOR], "backends": ["highspy"]}, InvalidInput, "lacks SDP"),
    ],
)
def test_bad_plans_are_refused_before_anything_runs(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        make_plan(**arguments)


def test_command_line_refuses_what_is_no_size() -> None:
    result = CliRunner().invoke(app, ["bench", "--sizes", "4,many"])
    assert isinstance(result.exception, InvalidInput)
    assert "'many'" in str(result.exception)


def test_without_the_engine_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match=r"benchopt and pyarrow: pip install \"mechopt\[bench\]\""):
        drive.require_benchopt()


# ---------------------------------------------------------------- parts of the instrument


def test_every_mechanism_has_its_dataset_file() -> None:
    from mechopt.studies.bench.families import MECHANISMS

    files = {file.stem.replace("_", "-") for file in (FOLDER / "datasets").glob("*.py")}
    assert files == set(MECHANISMS)
    for mechanism in MECHANISMS:
        text = (FOLDER / "datasets" / f"{mechanism.replace('-', '_')}.py").read_text()
        assert f'name = "{mechanism}"' in text
        assert f'parameters("{mechanism}")' in text
        assert parameters(mechanism)["variant, size"]


def test_skip_is_by_capability() -> None:
    assert reason_to_skip("highspy", MEDIATOR) == "lacks SDP"
    assert reason_to_skip("clarabel", MEDIATOR) is None
    assert "no backend named" in (reason_to_skip("nobody", MEDIATOR) or "")


def test_a_row_that_is_kept_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mechopt.studies.bench import instrument_parts

    cell = Cell(MEDIATOR, 4, 0, "clarabel", "default")
    keeping = Keeping(tmp_path / "rows.jsonl", "now")
    keeping.keep(empty_row(cell, SETTINGS["default"], Limits(), "now") | {"status": "crash"})

    def refuse(*_: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(instrument_parts, "run_cell", refuse)
    result = answer(cell.instance, "clarabel", "default", Limits(), keeping)
    assert verified(result)["status"] == "crash"
    with pytest.raises(AssertionError, match="measured again"):
        answer(cell.instance, "clarabel", "default", Limits(), Keeping(keeping.store, "edited"))


def test_patterns_name_each_dataset_and_solver_once() -> None:
    plan = make_plan([MEDIATOR], ["clarabel", "scs"], [4, 8], quick=True)
    datasets, solvers = patterns(plan.cells)
    assert datasets == [f"data-externality[variant='mediator',size={size},seed=0]" for size in (4, 8)]
    assert solvers == [f"backend[backend='{name}',setting='default']" for name in ("clarabel", "scs")]


# ---------------------------------------------------------------- an engine that fails


class FakeRun(drive._Run):
    """An engine that goes through the cells in order, and is brought down by some of them."""

    def measure(self, cells: Sequence[Cell]) -> None:
        """Leave rows up to the first deadly cell."""
        for cell in cells:
            if cell.backend in self.deadly:
                return
            row = empty_row(cell, SETTINGS["default"], self.plan.limits, self.code)
            self.store.add(row | {"status": "optimal"})

    deadly: tuple[str, ...] = ()


def fake(plan: Plan, out: Path, *deadly: str) -> FakeRun:
    kind = type("Fake", (FakeRun,), {"deadly": deadly})
    run: FakeRun = kind(plan, out, RowFile(out / "rows.jsonl"), "now", lambda *_: None)
    return run


def test_a_cell_that_ends_the_engine_takes_no_other_with_it(tmp_path: Path) -> None:
    plan = make_plan([MEDIATOR], ["clarabel", "outer", "scs"], [4, 8], quick=True)
    rows = fake(plan, tmp_path, "outer").all_rows()
    assert [Cell(**{key: row[key] for key in Cell.__annotations__}) for row in rows] == list(plan.cells)
    assert [row["status"] for row in rows] == ["optimal", "lost", "optimal"] * 2
    assert "benchopt.log" in rows[1]["reason"]


def test_an_engine_that_does_nothing_is_an_error(tmp_path: Path) -> None:
    plan = make_plan([MEDIATOR], ["clarabel", "outer", "scs"], [4, 8], quick=True)
    with pytest.raises(MechanismError, match=f"no row of {MOST_LOST} cells"):
        fake(plan, tmp_path, "clarabel", "outer", "scs").all_rows()


def test_what_is_there_is_not_asked_for_again(tmp_path: Path) -> None:
    plan = make_plan([MEDIATOR], ["clarabel", "scs"], [4, 8], quick=True)
    run = fake(plan, tmp_path)
    run.measure(plan.cells[:3])
    assert run.missing() == [plan.cells[3]]
    told: list[tuple[str, int, int]] = []
    again = type(run)(plan, tmp_path, run.store, "now", lambda *step: told.append(step))
    again.tell()
    assert told == [(f"{MEDIATOR} 8 scs", 3, 4)]


def test_one_folder_has_one_benchmark(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    # The lock belongs to an open file, so that this is no different from another process.
    with (
        drive._lock(tmp_path),
        pytest.raises(InvalidInput, match="in use by another benchmark"),
        drive._lock(tmp_path),
    ):
        pass
    with drive._lock(tmp_path):  # and is free again
        pass


ENGINE = """
import time

def benchopt():
    print("at work", flush=True)
    time.sleep(60)
"""


def test_the_engine_ends_with_who_started_it(tmp_path: Path) -> None:
    """A kill tells nobody: only the pipe between the two ends."""
    (tmp_path / "benchopt").mkdir()
    (tmp_path / "benchopt" / "__init__.py").touch()
    (tmp_path / "benchopt" / "cli.py").write_text(ENGINE)
    starter = (
        "import subprocess, sys; process = subprocess.Popen([sys.executable, '-c', "
        "'from mechopt.studies.bench.drive import run_engine; run_engine()'], stdin=subprocess.PIPE); "
        "print(process.pid, flush=True); process.wait()"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(mechopt.__file__).parents[1])])
    started = subprocess.Popen(
        [sys.executable, "-c", starter],
        env=dict(os.environ) | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert started.stdout is not None
    said = {started.stdout.readline().strip(), started.stdout.readline().strip()}
    assert "at work" in said
    started.kill()
    started.wait()
    begin = time.monotonic()
    started.stdout.read()  # until the engine, which holds the other end, is gone
    assert time.monotonic() - begin < 30


# ---------------------------------------------------------------- the real engine

COMMAND = [sys.executable, "-c", "from mechopt.cli import main; main()", "bench", "--mechanism", MEDIATOR]
COMMAND += ["--sizes", "4", "--quick", "--time-limit", "8"]


@pytest.fixture(scope="module")
def rogues(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("rogues")
    install(folder)
    # A copy, so that nobody's edits between two runs have rows measured again.
    shutil.copytree(Path(mechopt.__file__).parent, folder / "mechopt")
    return folder, dict(os.environ) | {"PYTHONPATH": str(folder), "ROGUE_PIDS": str(folder / "pids")}


@pytest.fixture(scope="module")
def interrupted(rogues: tuple[Path, dict[str, str]]) -> tuple[Path, int, str, dict[str, Any]]:
    """A benchmark that is interrupted at a backend that hangs: folder, exit code, words, rows by backend."""
    folder, environment = rogues
    out = folder / "out"
    process = subprocess.Popen(
        [*COMMAND, "--backends", "exact,clarabel,hang", "--out", str(out)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (folder / "pids").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    return out, process.returncode, told, by_backend(out)


def by_backend(out: Path) -> dict[str, Any]:
    return {cell.backend: row for cell, row in RowFile(out / drive.ROWS).rows().items()}


@needs_engine
def test_interrupt_keeps_what_is_done_and_stops_the_rest(
    interrupted: tuple[Path, int, str, dict[str, Any]], rogues: tuple[Path, dict[str, str]]
) -> None:
    _, code, told, rows = interrupted
    assert code == 130, told
    assert "goes on from there" in " ".join(told.split())
    assert set(rows) == {"exact", "clarabel"}
    for pid in (rogues[0] / "pids").read_text().split():
        stat = Path(f"/proc/{pid}/stat")
        assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.fixture(scope="module")
def finished(
    interrupted: tuple[Path, int, str, dict[str, Any]], rogues: tuple[Path, dict[str, str]]
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The same folder again, with backends that crash and lie."""
    out, environment = interrupted[0], rogues[1]
    command = [*COMMAND, "--backends", "crash,exact,clarabel,liar,highspy", "--out", str(out)]
    return out, subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@needs_engine
def test_it_goes_on_where_it_stopped_and_a_crash_is_a_row(
    interrupted: tuple[Path, int, str, dict[str, Any]],
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    import pandas as pd

    out, done = finished
    assert done.returncode == 0, done.stderr + (out / drive.LOG).read_text()
    before, after = interrupted[3], by_backend(out)
    for backend in ("exact", "clarabel"):
        assert json.dumps(after[backend]) == json.dumps(before[backend])  # not measured again
    table = pd.read_parquet(out / drive.TABLE).set_index("backend")
    assert set(table.index) == {"crash", "exact", "clarabel", "liar"}
    assert table["status"].to_dict() == {
        "crash": "crash",
        "exact": "optimal",
        "clarabel": "optimal",
        "liar": "optimal",
    }
    assert table["correct"].to_dict() == {"crash": False, "exact": True, "clarabel": True, "liar": False}


@needs_engine
def test_it_writes_the_report_and_leaves_the_instrument_alone(
    finished: tuple[Path, subprocess.CompletedProcess[str]], rogues: tuple[Path, dict[str, str]]
) -> None:
    out, done = finished
    assert "SIGABRT" in (out / "report.md").read_text(encoding="utf-8")
    assert "highspy" in (out / "report.md").read_text(encoding="utf-8")  # not asked, and why
    assert "<svg" in (out / "report.html").read_text(encoding="utf-8")
    assert "liar" in done.stdout
    instrument = rogues[0] / "mechopt/studies/bench/instrument"
    assert {file.name for file in instrument.iterdir()} <= {
        "objective.py",
        "datasets",
        "solvers",
        "__pycache__",
    }
    assert not list(out.glob("benchopt.parquet"))
