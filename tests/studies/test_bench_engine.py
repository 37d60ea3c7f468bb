"""Cells in processes of their own: whatever a backend does is a row with its reason."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mechopt import InvalidInput
from mechopt.studies.bench.engine import (
    SETTINGS,
    Instance,
    Limits,
    Outcome,
    Setting,
    get_setting,
    program_class,
    run_oracle,
)
from mechopt.studies.bench.rows import Cell, RowFile, empty_row, fingerprint, measure
from tests.studies.bench_rogues import install

needs_forks = pytest.mark.skipif(sys.platform != "linux", reason="memory limits are Linux's")

FAMILY = "data-externality/mediator"
SCRIPT = """
import json, sys
from mechopt.studies.bench.engine import *
from mechopt.studies.bench.rows import *
limits = Limits(time=0.4, memory=1.0, runs=2)
for name in sys.argv[1:]:
    backend, _, size = name.partition("@")
    cell = Cell("FAMILY", int(size or 4), 0, backend, "default")
    outcome = run_cell(cell.instance, backend, SETTINGS["default"], limits)
    print(json.dumps(measure(cell, SETTINGS["default"], limits, outcome)), flush=True)
""".replace("FAMILY", FAMILY)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each rogue leaves, and honest backends after them, in the same session."""
    folder = tmp_path_factory.mktemp("rogues")
    install(folder)
    asked = ["crash", "quit", "hang", "hog", "native", "thrower", "liar", "exact", "highspy", "clarabel"]
    environment = os.environ | {"PYTHONPATH": str(folder), "ROGUE_PIDS": str(folder / "pids")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *asked], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = {row["backend"]: row for row in map(json.loads, done.stdout.splitlines())}
    found["pids"] = {"all": (folder / "pids").read_text().split()}
    return found


@needs_forks
@pytest.mark.parametrize(
    ("backend", "status", "reason"),
    [
        ("crash", "crash", "killed by SIGABRT: .*about to fall"),
        ("quit", "crash", "ended with exit code 3"),
        ("hang", "timeout", "did not end in 2.6 s .*process was stopped"),
        ("hog", "memory", "Unable to allocate"),
        ("native", "memory", "bad_alloc"),
        ("thrower", "failed", "out of order"),
        ("highspy", "refused", "lacks SDP"),
    ],
)
def test_a_failure_is_a_row_with_its_reason(
    rows: dict[str, dict[str, Any]], backend: str, status: str, reason: str
) -> None:
    import re

    row = rows[backend]
    assert row["status"] == status, row["reason"]
    assert re.search(reason, row["reason"]), row["reason"]
    assert not row["success"]
    assert not row["checked"]


@needs_forks
def test_an_honest_backend_after_them(rows: dict[str, dict[str, Any]]) -> None:
    for backend in ("exact", "clarabel"):
        row = rows[backend]
        assert row["status"] == "optimal", row["reason"]
        assert row["success"]
        assert row["objective"] == pytest.approx(row["reference"], rel=1e-6)
        assert row["runs"] == 2
        assert row["seconds_low"] <= row["seconds"] <= row["seconds_high"]
        assert 0 <= row["memory"] < 1
        parts = ("build", "compile", "solve", "check")
        assert sum(row[f"{part}_seconds"] for part in parts) <= 1.01 * row["seconds"]
    assert rows["clarabel"]["needs"] == "SDP"


@needs_forks
def test_a_feasible_wrong_answer_is_found_by_the_reference_alone(rows: dict[str, dict[str, Any]]) -> None:
    row = rows["liar"]
    assert row["success"]
    assert row["residual"] <= 1e-6
    assert row["objective"] == 0.0 < row["reference"]


@needs_forks
def test_nothing_of_a_stopped_process_is_left(rows: dict[str, dict[str, Any]]) -> None:
    pids = rows["pids"]["all"]
    assert len(pids) >= 2
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat")
        # Gone, or a corpse that its new parent has not buried yet.
        assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


# ---------------------------------------------------------------- without processes

CELL = Cell(FAMILY, 4, 0, "clarabel", "default")


def test_verification_that_fails_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    from mechopt.studies.bench import rows as module

    solution = CELL.instance.of().build(4, 0).solve("clarabel")
    outcome = Outcome(solution, "answered", "", ({"total": 0.1},), 0.0, "SDP")

    def broken(instance: Instance, limits: Limits) -> None:
        raise ArithmeticError("no value today")

    monkeypatch.setattr(module, "_reference", lambda instance, limits: None)
    assert measure(CELL, SETTINGS["default"], Limits(), outcome)["success"]
    monkeypatch.setattr(module, "_reference", broken)
    row = measure(CELL, SETTINGS["default"], Limits(), outcome)
    assert (row["status"], row["success"]) == ("error", False)
    assert "no value today" in row["reason"]


def test_a_reference_that_takes_too_long_is_none() -> None:
    limits = Limits(time=0.05)
    assert run_oracle(Instance("sharing-market/seller-cap", 4, 0), limits) is None
    assert run_oracle(CELL.instance, limits) == CELL.instance.of().oracle(4, 0)
    started = time.monotonic()
    assert run_oracle(Instance("cost-screening/local", 40_000, 0), limits) is None
    assert time.monotonic() - started > limits.patience


def test_an_answer_past_the_limit_is_none() -> None:
    solution = CELL.instance.of().build(4, 0).solve("clarabel")
    late = Outcome(solution, "answered", "", ({"total": 1.2}, {"total": 1.4}), 0.0, "SDP")
    row = measure(CELL, SETTINGS["default"], Limits(time=1.0), late)
    assert (row["status"], row["success"], row["checked"]) == ("timeout", False, False)
    assert "answered after 1.3 s, past the limit of 1 s" in row["reason"]
    assert row["seconds"] == pytest.approx(1.3)


def test_audit_and_repair_are_in_the_row() -> None:
    cell = Cell("contract/log-full", 5, 0, "scs", "loose")
    solution = cell.instance.of().build(5, 0).solve("scs", tolerance=1e-2)
    bent = solution.replace(values={k: 0.99 * v if k == "payment" else v for k, v in solution.values.items()})
    outcome = Outcome(bent, "answered", "", ({"total": 0.1},), 0.0, "EXP")
    row = measure(cell, SETTINGS["loose"], Limits(), outcome)
    assert max(row["ic_before"], row["ir_before"]) > 1e-3
    assert max(row["ic_after"], row["ir_after"]) < 1e-9
    assert row["repaired_objective"] == pytest.approx(row["reference"], rel=1e-4)


def test_program_class() -> None:
    assert program_class({"LP", "MIP"}) == "MIP+LP"
    assert program_class({"LP", "SOC", "SDP", "MIP"}) == "MIP+SDP"
    assert program_class({"LP", "ORACLE"}) == "ORACLE"


def test_settings_ask_for_what_they_are_held_to() -> None:
    assert all(setting.tolerance == setting.correct for setting in SETTINGS.values())
    with pytest.raises(InvalidInput, match="no setting 'exact'; there are loose, default, tight"):
        get_setting("exact")


@pytest.mark.parametrize("wrong", [{"time": 0.0}, {"time": math.inf}, {"memory": -1.0}, {"runs": 0}])
def test_limits_refuse(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Limits(**wrong)


# ---------------------------------------------------------------- rows that are kept


def row_of(cell: Cell = CELL, code: str = "now") -> dict[str, Any]:
    return empty_row(cell, Setting("default", 1e-6, 1e-6), Limits(), code)


def test_rows_come_back_and_the_last_of_a_cell_counts(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.jsonl")
    assert file.rows() == {}
    file.add(row_of() | {"status": "crash"})
    file.add(row_of(Cell(FAMILY, 8, 0, "clarabel", "default")))
    file.add(row_of() | {"status": "optimal"})
    assert {cell.size: row["status"] for cell, row in file.rows().items()} == {4: "optimal", 8: "lost"}


def test_a_line_cut_short_loses_itself_alone(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.jsonl")
    other = Cell(FAMILY, 8, 0, "clarabel", "default")
    file.add(row_of())
    file.add(row_of(other))
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[:-20])
    assert list(file.rows()) == [CELL]
    file.add(row_of(other))
    assert list(file.rows()) == [CELL, other]


def test_rows_of_other_code_or_another_solver_are_measured_again(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.jsonl")
    file.add(row_of(code="now"))
    assert list(file.fresh("now")) == [CELL]
    assert file.fresh("edited") == {}
    file.add(row_of(code="now") | {"version": "0.0.1"})
    assert file.fresh("now") == {}


def test_fingerprint_depends_on_limits_and_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import mechopt

    assert fingerprint(Limits()) == fingerprint(Limits())
    assert fingerprint(Limits()) != fingerprint(Limits(time=1.0))
    for name in ("engine", "families", "rows"):
        (tmp_path / "studies/bench").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"studies/bench/{name}.py").write_text("")
    (tmp_path / "solvers").mkdir()
    monkeypatch.setattr(mechopt, "__file__", str(tmp_path / "__init__.py"))
    before = fingerprint(Limits())
    (tmp_path / "solvers/new.py").write_text("x = 1\n")
    assert fingerprint(Limits()) != before


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("something else\n")
    with pytest.raises(InvalidInput, match="not a file of benchmark rows"):
        RowFile(tmp_path / "rows.jsonl").rows()
