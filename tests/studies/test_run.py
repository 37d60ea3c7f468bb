"""The main job from end to end: what it finds, what it writes, and when it says that something is wrong."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import mechopt as mo
from mechopt.solvers.backend import Answer, Backend, Capability, Settings
from mechopt.studies.report import show_run
from mechopt.studies.run import RunReport, check_output, run_scenario, write_report
from mechopt.studies.scenario import load_scenario
from tests.oracles import extensions

BASE = """title = "a [/market] of [red]five"
mechanism = "contract"
backends = ["exact", "clarabel", "scs"]
[parameters]
types = { start = 0.1, stop = 0.3, count = 5 }
gain = { kind = "log", weight = 100, scale = 2 }
"""
BUDGET = """
[[constraints]]
family = "budget"
terms = [{ name = "expected_payment" }]
sense = "<="
bound = 40
"""
INSTANCE = {
    "types": np.linspace(0.1, 0.3, 5),
    "probs": np.full(5, 0.2),
    "gain": mo.LogGain(100, 2),
    "unit_cost": 1.0,
}


def run(folder: Path, text: str) -> RunReport:
    (folder / "case.toml").write_text(text)
    return run_scenario(*load_scenario(folder / "case.toml"))


def printed(report: RunReport, width: int = 80) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show_run(report, console)
    return console.export_text()


class Stub(Backend):
    """Answers with whatever the test wants."""

    name = "stub"
    capabilities = frozenset(Capability)

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def solve(self, program: mo.Program, settings: Settings) -> Answer:
        return self.answer(program)  # type: ignore[no-any-return]


@pytest.fixture
def stub() -> Any:
    def put(answer: Any) -> None:
        mo.register(Stub(answer))

    yield put
    mo.unregister("stub")


def test_files_hold_the_right_numbers(tmp_path: Path) -> None:
    report = run(tmp_path, BASE)
    assert report.agreement
    contract = mo.ScreeningContract(**INSTANCE)
    exact, form = contract.solve(), contract.closed_form()
    out = tmp_path / "out"
    files = write_report(report, out)
    assert {path.name for path in files} >= {
        "backends.csv",
        "result.json",
        "menu.csv",
        "menu.png",
        "rents.pdf",
    }
    assert all(path.stat().st_size > 100 for path in files)

    with (out / "backends.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["backend"] for row in rows] == ["exact", "clarabel", "scs"]
    for row in rows:
        assert row["status"] == "optimal"
        assert float(row["repaired_objective"]) == pytest.approx(exact.objective, rel=1e-6)
        assert abs(float(row["relative_error"])) <= 1e-6
        assert float(row["ic_violation"]) <= 1e-4
        assert float(row["solve_seconds"]) >= 0

    with (out / "menu.csv").open(newline="") as stream:
        menu = list(csv.DictReader(stream))
    for name, expected in {
        "type": contract.types,
        "probability": contract.probs,
        "virtual_type": contract.virtual_type,
        "quantity": exact["quantity"],
        "payment": exact["payment"],
        "rent": exact["rent"],
        "closed_form_quantity": form.quantity,
        "closed_form_payment": form.payment,
    }.items():
        np.testing.assert_allclose([float(row[name]) for row in menu], expected, rtol=1e-14)

    record = json.loads((out / "result.json").read_text())
    assert record["agreement"] is True
    assert record["reference"] == "closed form"
    assert record["reference_objective"] == form.objective
    assert record["best_backend"] == "exact"
    assert record["scenario"]["parameters"]["types"] == {"start": 0.1, "stop": 0.3, "count": 5}
    assert record["backends"][1]["backend"] == "clarabel"
    np.testing.assert_allclose(record["menu"]["quantity"], exact["quantity"], rtol=1e-14)
    assert set(record["prices"]["clarabel"]) == {"monotone"}
    assert record["prices"]["exact"] == {}


def test_irregular_instances_are_measured_by_the_exact_algorithm(tmp_path: Path) -> None:
    text = BASE.replace("{ start = 0.1, stop = 0.3, count = 5 }", "[1, 1.8, 1.9]").replace("100", "50")
    report = run(tmp_path, text)
    assert report.agreement
    assert report.reference == "exact algorithm"
    assert report.reference_objective == pytest.approx(172.862405, abs=1e-6)
    assert "rises from" in report.closed_form_note
    write_report(report, tmp_path / "out")
    assert "closed_form" not in (tmp_path / "out" / "menu.csv").read_text()


@pytest.mark.parametrize("form", ["reduced", "local", "full"])
def test_own_constraint(tmp_path: Path, form: str) -> None:
    text = BASE.replace('"exact", ', "").replace("backends", f'form = "{form}"\nbackends') + BUDGET
    report = run(tmp_path, text)
    price, _, value = extensions.with_budget(INSTANCE, 40.0)
    assert report.agreement
    assert report.reference.startswith("best answer (")
    assert report.reference_objective == pytest.approx(value, rel=1e-6)
    assert report.best is not None
    assert float(report.best["expected_payment"]) <= 40 * (1 + 1e-6)
    write_report(report, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    for backend in ("clarabel", "scs"):
        assert record["prices"][backend]["budget"] == [pytest.approx(price, rel=1e-3)]


def test_constraint_that_wants_higher_payments(tmp_path: Path) -> None:
    outside = """
[[constraints]]
family = "outside"
terms = [{ name = "rent", index = 0 }]
sense = ">="
bound = 120
"""
    text = BASE.replace('"exact", ', "").replace("backends", 'form = "local"\nbackends') + outside
    report = run(tmp_path, text)
    assert report.agreement
    assert report.best is not None
    assert report.best["rent"][0] >= 120 * (1 - 1e-6)
    assert report.mechanism.audit(report.best).relative <= 1e-12


def test_all_capable_backends_are_tried_and_the_others_say_why_not(tmp_path: Path) -> None:
    report = run(tmp_path, BASE.replace('["exact", "clarabel", "scs"]', '"all"'))
    names = {row.backend for row in report.rows}
    assert {"exact", "clarabel", "scs"} <= names
    assert names | set(report.skipped) == {row["name"] for row in mo.backends()}
    assert not names & set(report.skipped)
    assert report.skipped["scipy"] == "lacks EXP"
    assert report.agreement, [(row.backend, row.solution.reason) for row in report.rows]


@pytest.mark.parametrize("kind", ["nobody trades", "one type"])
def test_degenerate_markets_agree(tmp_path: Path, kind: str) -> None:
    text = (
        BASE.replace("weight = 100", "weight = 0.3")
        if kind == "nobody trades"
        else BASE.replace("count = 5", "count = 1")
    )
    report = run(tmp_path, text)
    assert report.agreement, [(row.backend, row.error, row.solution.reason) for row in report.rows]


def test_progress_is_told(tmp_path: Path) -> None:
    (tmp_path / "case.toml").write_text(BASE)
    seen: list[tuple[str, int, int]] = []
    run_scenario(*load_scenario(tmp_path / "case.toml"), progress=lambda *step: seen.append(step))
    assert seen == [("exact", 0, 3), ("clarabel", 1, 3), ("scs", 2, 3), ("checks", 3, 3)]


def test_named_backends_that_cannot_do_it_stop_the_run_before_it_starts(tmp_path: Path) -> None:
    seen: list[Any] = []
    for name, kind, words in (
        ("highspy", mo.MissingCapability, "lacks EXP"),
        ("clarabell", mo.BackendUnavailable, "did you mean 'clarabel'"),
    ):
        (tmp_path / "case.toml").write_text(BASE.replace('"scs"', f'"{name}"'))
        with pytest.raises(kind, match=words):
            run_scenario(*load_scenario(tmp_path / "case.toml"), progress=lambda *step: seen.append(step))
    odd = BUDGET.replace('"expected_payment"', '"quantity", weights = [1, -2, 1, -1, 3]')
    (tmp_path / "case.toml").write_text(BASE + odd)
    with pytest.raises(mo.MissingCapability, match="family 'budget'"):
        run_scenario(*load_scenario(tmp_path / "case.toml"), progress=lambda *step: seen.append(step))
    assert not seen


def wrong_menu(program: mo.Program) -> Answer:
    """A menu that is feasible and not the best, called optimal."""
    answer = Answer(mo.Status.OPTIMAL, "trust me")
    answer.primal = program.inner_values({"quantity": np.full(5, 100.0)})
    return answer


def broken_menu(program: mo.Program) -> Answer:
    answer = Answer(mo.Status.OPTIMAL, "trust me")
    answer.primal = program.inner_values({"quantity": np.arange(5) * 100.0})
    return answer


def nothing(program: mo.Program) -> Answer:
    return Answer(mo.Status.FAILED, "gave [up]")


def crash(program: mo.Program) -> Answer:
    raise RuntimeError("out of [/memory]")


def complain(program: mo.Program) -> Answer:
    raise mo.InvalidInput("cannot translate [/this]")


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (wrong_menu, "optimal", "does not meet the reference"),
        (broken_menu, "inaccurate", "'monotone' is violated"),
        (nothing, "failed", "gave [up]"),
        (crash, "failed", "out of [/memory]"),
        (complain, "failed", "cannot translate [/this]"),
    ],
)
def test_a_wrong_answer_is_a_row_and_no_agreement(
    tmp_path: Path, stub: Any, answer: Any, status: str, words: str
) -> None:
    stub(answer)
    report = run(tmp_path, BASE.replace('"scs"', '"stub"'))
    assert not report.agreement
    assert [row.backend for row in report.rows] == ["exact", "clarabel", "stub"]
    assert [row.agrees(1e-6) for row in report.rows] == [True, True, False]
    assert str(report.rows[2].solution.status) == status
    assert words in printed(report, 400)
    assert report.best is not None
    assert report.best.backend == "exact"
    write_report(report, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["agreement"] is False
    if not report.rows[2].solution.values:
        assert record["backends"][2]["objective"] is None
        assert math.isnan(report.rows[2].error)


def test_no_answer_at_all(tmp_path: Path, stub: Any) -> None:
    stub(nothing)
    report = run(tmp_path, BASE.replace('["exact", "clarabel", "scs"]', '["stub"]') + BUDGET)
    assert not report.agreement
    assert report.reference == "none"
    assert report.best is None
    files = write_report(report, tmp_path / "out")
    assert [path.name for path in files] == ["backends.csv", "result.json"]
    assert json.loads(files[1].read_text())["reference_objective"] is None
    assert "reference: none" in printed(report)


def test_table_fits_a_narrow_terminal(tmp_path: Path) -> None:
    report = run(tmp_path, BASE.replace('["exact", "clarabel", "scs"]', '"all"'))
    lines = printed(report, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    assert lines[0].strip() == "a [/market] of [red]five"
    row = next(line for line in lines if line.startswith("clarabel")).split()
    assert row[1] == "optimal"
    assert float(row[2]) == pytest.approx(report.reference_objective, rel=1e-6)


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(mo.InvalidInput, match="cannot write into"):
            check_output(target)
    check_output(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_extensions_are_audited_and_compared(tmp_path: Path) -> None:
    text = BASE.replace('["exact", "clarabel", "scs"]', '["clarabel", "outer"]').replace(
        "[parameters]", 'form = "local"\n[parameters]'
    )
    report = run(tmp_path, text + "[extensions]\noutside_option = [60, 30, 10, 0, 0]\n")
    assert report.agreement
    assert report.reference.startswith("best answer")
    assert "not asked" in report.closed_form_note
    assert all(row.audit is not None and row.audit.ok(1e-6) for row in report.rows)
    # Without their outside options the same menus would leave rents to be saved.
    assert report.reference_objective < run(tmp_path, BASE).reference_objective
    assert "outside_option" in str(report.scenario.model_dump())
    write_report(report, tmp_path / "out")


def test_a_convex_cost_has_the_exact_algorithm_for_its_reference(tmp_path: Path) -> None:
    curve = 'cost_curve = { kind = "power", exponent = 1.5, scale = 50 }\n'
    report = run(tmp_path, BASE + curve)
    assert report.reference == "exact algorithm"
    assert "not valid: " in report.closed_form_note
    assert report.agreement
    write_report(report, tmp_path / "out")
