"""The main job: design a scenario's mechanism, solve it on every capable backend, check each answer."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.screening import ScreeningContract
from mechopt.formulations.screening.model import values_size
from mechopt.solvers.backend import all_backends, choose, get_backend
from mechopt.solvers.errors import InvalidInput, MechanismError, NotApplicable, Unbounded
from mechopt.solvers.program import Program
from mechopt.solvers.solution import Solution, Status
from mechopt.studies.scenario import KINDS, BaseScenario, Scenario, SolvedScenario
from mechopt.verification.audit import Audit

if TYPE_CHECKING:
    from rich.console import Console

Array = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
"""Called as ``progress(step, number, total)`` before each step."""


class Report(Protocol):
    """What any kind of scenario's run returns."""

    @property
    def agreement(self) -> bool:
        """Whether everything came out as it should."""

    def show(self, console: Console) -> None:
        """Print the findings, on 80 columns."""

    def write(self, folder: Path) -> list[Path]:
        """Write tables, the full record and figures into a folder; return what was written."""


@dataclass(frozen=True)
class Check:
    """One number that a study holds to what it should be.

    Attributes
    ----------
    name : str
    says : str
        What is measured, with its unit.
    measured, expected, tolerance : float
        The check passes if they differ by no more than the tolerance.
    why : str
        Where the tolerance comes from.
    """

    name: str
    says: str
    measured: float
    expected: float
    tolerance: float
    why: str

    @property
    def passed(self) -> bool:
        """Whether the measured value is the expected one, to the tolerance; a missing one never is."""
        return bool(abs(self.measured - self.expected) <= self.tolerance)

    def record(self) -> dict[str, Any]:
        """Plain record for CSV and JSON."""
        return {**asdict(self), "passed": self.passed}


@dataclass(frozen=True, eq=False)
class BackendAnswer:
    """What one backend answered to a study's program.

    Attributes
    ----------
    backend : str
    solution : Solution
    error : float
        Of its objective, relative to a size that the study names; NaN without an answer.
    part : str
        Which of the study's programs it is of, if there are several.
    """

    backend: str
    solution: Solution
    error: float
    part: str = ""

    def agrees(self, tolerance: float) -> bool:
        """Whether the answer passed its checks and has the objective that it should have."""
        return self.solution.status.ok and abs(self.error) <= tolerance

    def record(self, objective: str) -> dict[str, Any]:
        """Plain record for CSV and JSON, the objective under its name in the study."""
        s = self.solution
        return {
            "backend": self.backend,
            **({"part": self.part} if self.part else {}),
            "version": s.version,
            "status": str(s.status),
            "reason": s.reason,
            objective: s.objective,
            "bound": s.bound,
            "relative_error": self.error,
            **{f"{phase}_seconds": spent for phase, spent in s.seconds.items()},
        }


def agreement_check(name: str, says: str, answers: Sequence[BackendAnswer], tolerance: float) -> Check:
    """Check that every backend's answer agrees; ``says`` tells of which answers that is the share."""
    share = sum(answer.agrees(tolerance) for answer in answers) / len(answers) if answers else 0.0
    return Check(name, says, share, 1.0, 0.0, f"each to {tolerance:g}, relative")


def run_study(scenario: BaseScenario, folder: Path, *, progress: Progress = lambda *_: None) -> Report:
    """Run a scenario of any kind.

    Parameters
    ----------
    scenario : BaseScenario
    folder : Path
        What the scenario's own paths are relative to.
    progress : callable
        Called as ``progress(step, number, total)`` before each step.
    """
    report: Report = KINDS[scenario.mechanism].run_function()(scenario, folder, progress=progress)
    return report


@dataclass(frozen=True)
class BackendRow:
    """What one backend answered.

    Attributes
    ----------
    backend : str
    solution : Solution
        As checked, before repair.
    audit : Audit or None
        Of the raw menu; None if no menu came back.
    repaired : Solution or None
        The menu made exactly incentive compatible.
    error : float
        Objective of the repaired menu below the reference, relative to the size of the objective's terms
        (NaN without a menu or a reference).
    """

    backend: str
    solution: Solution
    audit: Audit | None
    repaired: Solution | None
    error: float

    def agrees(self, tolerance: float) -> bool:
        """Whether the answer passed its checks and its repaired objective meets the reference."""
        return self.solution.status.ok and abs(self.error) <= tolerance

    def record(self) -> dict[str, Any]:
        """Plain record for CSV and JSON."""
        s, a, r = self.solution, self.audit, self.repaired
        return {
            "backend": self.backend,
            "version": s.version,
            "status": str(s.status),
            "reason": s.reason,
            "objective": s.objective,
            "bound": s.bound,
            "gap": s.gap,
            "worst_residual": max(s.residuals.values(), default=math.nan),
            "ic_violation": a.ic_violation if a else math.nan,
            "ir_violation": a.ir_violation if a else math.nan,
            "worst_deviation": str(a.worst) if a else "",
            "repaired_objective": r.objective if r else math.nan,
            "objective_lost_in_repair": r.extra["objective_lost"] if r else math.nan,
            "relative_error": self.error,
            **{f"{phase}_seconds": spent for phase, spent in s.seconds.items()},
        }


@dataclass(frozen=True)
class RunReport:
    """What a scenario's run found."""

    scenario: Scenario
    mechanism: ScreeningContract
    program: Program
    reference: str
    reference_objective: float
    best: Solution | None
    rows: tuple[BackendRow, ...]
    skipped: dict[str, str]
    closed_form_note: str
    files: list[Path] = field(default_factory=list)

    @property
    def agreement(self) -> bool:
        """Whether at least one backend answered, and all that did agree with the reference."""
        return bool(self.rows) and all(row.agrees(self.scenario.tolerance) for row in self.rows)

    def show(self, console: Console) -> None:
        """Print what the run found."""
        from mechopt.studies.report import show_run

        show_run(self, console)

    def write(self, folder: Path) -> list[Path]:
        """Write tables, the full record and figures into a folder; return what was written."""
        return write_report(self, folder)


def choose_backends(scenario: SolvedScenario, program: Program) -> tuple[list[str], dict[str, str]]:
    """Return the backends to run, and for the others why not.

    Raises
    ------
    BackendUnavailable, MissingCapability
        For a backend that the scenario asks for by name and that cannot do it.
    """
    if scenario.backends != "all":
        for name in scenario.backends:
            choose(program, name)
        return list(scenario.backends), {}
    chosen, skipped = [], {}
    for backend in all_backends():
        reason = backend.available()
        missing = backend.lacks(program)
        if reason is not None:
            skipped[backend.name] = f"{reason} ({backend.install})"
        elif missing:
            skipped[backend.name] = f"lacks {', '.join(missing)}"
        else:
            chosen.append(backend.name)
    return chosen, skipped


def solve_everywhere(
    scenario: SolvedScenario, program: Program, *, progress: Progress = lambda *_: None
) -> tuple[dict[str, Solution], dict[str, str]]:
    """Solve a program on each of a scenario's backends.

    Returns
    -------
    solutions : dict
        By backend. A failure is one of them, not the end of the run.
    skipped : dict
        Backends that were not asked, and why.
    """
    names, skipped = choose_backends(scenario, program)
    solutions: dict[str, Solution] = {}
    for number, name in enumerate(names):
        progress(name, number, len(names))
        try:
            solutions[name] = program.solve(
                name, tolerance=scenario.tolerance, time_limit=scenario.time_limit, on_failure="return"
            )
        except MechanismError as failure:
            solutions[name] = Solution(
                status=Status.UNBOUNDED if isinstance(failure, Unbounded) else Status.FAILED,
                reason=str(failure),
                backend=name,
                version=get_backend(name).version(),
                tolerance=scenario.tolerance,
                program=program.name,
                sense=program.sense,
            )
    return solutions, skipped


def run_scenario(scenario: Scenario, folder: Path, *, progress: Progress = lambda *_: None) -> RunReport:
    """Design, solve on every backend, audit, repair and compare.

    Parameters
    ----------
    scenario : Scenario
    folder : Path
        What the scenario's own paths are relative to.
    progress : callable
        Called as ``progress(backend, number, total)`` before each solve.
    """
    contract = scenario.parameters.build(folder)
    program = scenario.declare(contract)
    solutions, skipped = solve_everywhere(scenario, program, progress=progress)
    progress("checks", len(solutions), len(solutions))
    repaired = {
        name: contract.repair(solution, program=program) if solution.values else None
        for name, solution in solutions.items()
    }
    reference, value, note = _reference(scenario, contract, repaired)
    outside = 0.0 if scenario.extensions.outside_option is None else scenario.extensions.outside_option
    rows = []
    for name, solution in solutions.items():
        menu = repaired[name]
        error = math.nan if menu is None else (value - menu.objective) / values_size(contract, menu)
        audit = contract.audit(solution, outside_option=outside) if solution.values else None
        rows.append(BackendRow(name, solution, audit, menu, error))
    best = _best(contract, repaired, scenario.tolerance)
    return RunReport(scenario, contract, program, reference, value, best, tuple(rows), skipped, note)


def _reference(
    scenario: Scenario, contract: ScreeningContract, repaired: dict[str, Solution | None]
) -> tuple[str, float, str]:
    """Choose what to measure the backends against: closed form, exact algorithm, or the best of them."""
    if not (scenario.constraints or scenario.extensions.options()):
        try:
            form = contract.closed_form().require()
        except NotApplicable as error:
            return "exact algorithm", contract.solve().objective, f"not valid: {error.reason}"
        return "closed form", form.objective, "valid"
    note = "not asked: the scenario has constraints or extensions of its own"
    best = _best(contract, repaired, scenario.tolerance)
    if best is None:
        return "none", math.nan, note
    return f"best answer ({best.backend})", best.objective, note


def _best(
    contract: ScreeningContract, repaired: dict[str, Solution | None], tolerance: float
) -> Solution | None:
    """Of the menus that meet the best objective to the tolerance, the one with the smallest proven gap."""
    sound = [menu for menu in repaired.values() if menu is not None and menu.status.ok]
    if not sound:
        return None
    top = max(sound, key=lambda menu: menu.objective)
    least = top.objective - tolerance * values_size(contract, top)
    near = [menu for menu in sound if menu.objective >= least]
    return min(near, key=lambda menu: math.inf if menu.gap is None else menu.gap)


def write_report(report: RunReport, out: Path) -> list[Path]:
    """Write tables, the full record and figures into a folder; return what was written."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "backends.csv", out / "result.json"]
    write_csv(files[0], [row.record() for row in report.rows])
    files[1].write_text(
        json.dumps(plain(_record(report)), indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
    if report.best is not None:
        menu = out / "menu.csv"
        write_csv(menu, _menu_rows(report, report.best))
        files.append(menu)
        for kind in ("menu", "rents"):
            figure = report.mechanism.plot(kind, report.best)
            for suffix in ("png", "pdf"):
                path = out / f"{kind}.{suffix}"
                figure.savefig(path, dpi=200)
                files.append(path)
    report.files.extend(files)
    return files


def _menu_rows(report: RunReport, menu: Solution) -> list[dict[str, Any]]:
    contract = report.mechanism
    columns = {
        "type": contract.types,
        "probability": contract.probs,
        "virtual_type": contract.virtual_type,
        "quantity": menu["quantity"],
        "payment": menu["payment"],
        "rent": menu["rent"],
    }
    if report.reference == "closed form":
        form = contract.closed_form()
        columns |= {"closed_form_quantity": form.quantity, "closed_form_payment": form.payment}
    return [dict(zip(columns, entries, strict=True)) for entries in zip(*columns.values(), strict=True)]


def _record(report: RunReport) -> dict[str, Any]:
    best = report.best
    return {
        "title": report.scenario.title,
        "mechanism": report.scenario.mechanism,
        "scenario": report.scenario.model_dump(),
        "reference": report.reference,
        "reference_objective": report.reference_objective,
        "closed_form": report.closed_form_note,
        "tolerance": report.scenario.tolerance,
        "agreement": report.agreement,
        "backends": [row.record() for row in report.rows],
        "skipped": report.skipped,
        "best_backend": best.backend if best else None,
        "prices": {
            row.backend: {
                family: [np.asarray(p) for p in prices] for family, prices in row.solution.duals.items()
            }
            for row in report.rows
        },
        "menu": dict(best.values.items()) if best else None,
    }


def write_tables(folder: Path, tables: Mapping[str, Iterable[dict[str, Any]]], record: Any) -> list[Path]:
    """Write each table as CSV, and the full record as ``result.json``; return what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.csv" for name in tables]
    for path, rows in zip(files, tables.values(), strict=True):
        write_csv(path, rows)
    files.append(folder / "result.json")
    files[-1].write_text(json.dumps(plain(record), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return files


def write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write records as CSV, with a column for every key that one of them has."""
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as stream:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)


def plain(value: Any) -> Any:
    """Make a value fit for JSON, which has no arrays and no NaN: a missing number is null."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value


def check_output(out: Path) -> None:
    """Refuse an output folder that cannot be written to, before any work is done."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".mechopt"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InvalidInput(f"cannot write into {out}: {error.strerror or error}") from None


__all__ = [
    "BackendAnswer",
    "BackendRow",
    "Check",
    "MechanismError",
    "Progress",
    "Report",
    "RunReport",
    "agreement_check",
    "check_output",
    "plain",
    "run_scenario",
    "run_study",
    "solve_everywhere",
    "write_csv",
    "write_report",
    "write_tables",
]
