"""From what came out of a cell to its row, verified and measured by us; and where rows are kept."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import mechopt
from mechopt.solvers.backend import all_backends
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.solution import Solution
from mechopt.studies.bench.engine import Instance, Limits, Outcome, Setting, run_oracle, shortened
from mechopt.studies.bench.families import Family, Reference
from mechopt.verification.audit import Audit

Row = dict[str, Any]

PHASES = ("build", "compile", "solve", "check")
CLAIMS = ("claims optimal", "claims local")
"""How the reason of an answer begins that its solver calls solved, and that fails our checks."""

LIBRARIES = ("mechopt", "cvxpy", "numpy", "scipy", "pyomo")


@dataclass(frozen=True, order=True)
class Cell:
    """What a row is about."""

    family: str
    size: int
    seed: int
    backend: str
    setting: str

    @property
    def instance(self) -> Instance:
        """The instance that is solved."""
        return Instance(self.family, self.size, self.seed)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Cell:
        """Read it off a row."""
        return cls(row["family"], row["size"], row["seed"], row["backend"], row["setting"])


def empty_row(cell: Cell, setting: Setting, limits: Limits, code: str) -> Row:
    """Return the row of a cell of which nothing is known but what was asked.

    Its `fingerprint` is ``code``.
    """
    family = cell.instance.of()
    return {
        **asdict(cell),
        "mechanism": family.mechanism,
        "variant": family.variant,
        "needs": "",
        "tolerance": setting.tolerance,
        "correct_tolerance": setting.correct,
        "time_limit": limits.time,
        "memory_limit": limits.memory,
        "status": "lost",
        "reason": "",
        "version": version_of(cell.backend),
        "success": False,
        "checked": False,
        "sense": "",
        **dict.fromkeys(
            (
                *("objective", "bound", "reference", "residual", "ic_before", "ir_before", "ic_after"),
                *("ir_after", "repaired_objective", "memory", "seconds", "seconds_low", "seconds_high"),
                *(f"{phase}_seconds" for phase in PHASES),
            ),
            math.nan,
        ),
        "reference_kind": "",
        "runs": 0,
        "cpu": cpu(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "code": code,
    }


def measure(cell: Cell, setting: Setting, limits: Limits, outcome: Outcome, code: str = "") -> Row:
    """Verify an outcome and make its row.

    Parameters
    ----------
    cell : Cell
    setting : Setting
    limits : Limits
    outcome : Outcome
    code : str
        Its `fingerprint`.

    Returns
    -------
    dict
        ``status`` is the solution's, or the outcome's state; ``success`` tells whether the backend came back
        in time with an answer that it calls solved, ``checked`` whether that answer passes our checks.
        IC and IR violations are relative to the size of the utilities, by the definition, before and after
        repair. Whatever goes wrong here too is a row.
    """
    row = empty_row(cell, setting, limits, code) | {"needs": outcome.needs, "reason": outcome.reason}
    row |= {"status": outcome.state, "memory": outcome.memory, "runs": len(outcome.runs)}
    if outcome.runs:
        totals = [run["total"] for run in outcome.runs]
        row |= {"seconds": median(totals), "seconds_low": min(totals), "seconds_high": max(totals)}
        row |= {f"{p}_seconds": median(run.get(p, math.nan) for run in outcome.runs) for p in PHASES}
    if outcome.solution is None:
        return row
    row |= _of_solution(outcome.solution)
    if row["seconds"] > limits.time and row["success"]:
        row |= {"success": False, "checked": False, "status": "timeout"}
        row["reason"] = f"answered after {row['seconds']:.3g} s, past the limit of {limits.time:g} s"
    try:
        family = cell.instance.of()
        row |= _of_reference(_reference(cell.instance, limits))
        row |= _of_audits(family, cell.instance, outcome.solution)
    except Exception as error:
        told = shortened(f"verification failed: {type(error).__name__}: {error}")
        row |= {"success": False, "checked": False, "status": "error", "reason": told}
    return row


def _of_solution(solution: Solution) -> Row:
    return {
        "status": str(solution.status),
        "sense": solution.sense,
        "objective": solution.objective,
        "bound": math.nan if solution.bound is None else solution.bound,
        "residual": max(solution.residuals.values(), default=math.nan),
        "success": solution.status.ok or solution.reason.startswith(CLAIMS),
        "checked": solution.status.ok,
    }


# One instance is solved by one backend after the other.
_reference = lru_cache(maxsize=64)(run_oracle)


def _of_reference(reference: Reference | None) -> Row:
    return {} if reference is None else {"reference": reference.value, "reference_kind": reference.kind}


def _of_audits(family: Family, instance: Instance, solution: Solution) -> Row:
    if family.audit is None or not solution.values:
        return {}
    mechanism = family.make(instance.size, instance.seed)
    row = _violations(family.audit(mechanism, solution), "before")
    if family.repair is not None:
        repaired = family.repair(mechanism, solution)
        row |= _violations(family.audit(mechanism, repaired), "after")
        row["repaired_objective"] = repaired.objective
    return row


def _violations(audit: Audit, when: str) -> Row:
    scale = audit.scale or 1.0
    return {f"ic_{when}": audit.ic_violation / scale, f"ir_{when}": audit.ir_violation / scale}


# ---------------------------------------------------------------- what a row depends on


def version_of(backend: str) -> str:
    """Version of a backend's solver, or ``""``."""
    return next((known.version() for known in all_backends() if known.name == backend), "")


def versions() -> dict[str, str]:
    """Versions of what is not a backend."""
    found = {"python": platform.python_version()}
    for name in (*LIBRARIES, "benchopt"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


@lru_cache(maxsize=1)
def cpu() -> str:
    """Name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def fingerprint(limits: Limits) -> str:
    """What tells rows apart that are of the same cell: the code they come from, libraries, processor, limits.

    A row with another one is measured again. Code that only reports is left out. Take it once, when the code
    is imported: files may be edited while a benchmark runs.
    """
    root = Path(mechopt.__file__).parent
    digest = hashlib.sha256(json.dumps([versions(), cpu(), asdict(limits)]).encode())
    parts = ("formulations", "solvers", "verification", "studies/bench/instrument")
    files = [file for part in parts for file in (root / part).rglob("*.py")]
    files += [root / "studies/bench" / f"{name}.py" for name in ("engine", "families", "rows")]
    for file in sorted(files):
        digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return digest.hexdigest()[:16]


# ---------------------------------------------------------------- where rows are kept


class RowFile:
    """A file of rows, one JSON line each, written as they come; the last line of a cell counts.

    Parameters
    ----------
    path : Path
        Made with the first row. A line that was cut short by a kill is passed over.

    Raises
    ------
    InvalidInput
        If the file is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> dict[Cell, Row]:
        """Read the rows that are there."""
        found: dict[Cell, Row] = {}
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return found
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"cannot read rows from {self.path}: {error}") from None
        for line in lines:
            try:
                row = json.loads(line)
                found[Cell.of(row)] = row
            except (json.JSONDecodeError, KeyError, TypeError):
                continue
        if lines and not found:
            raise InvalidInput(
                f"{self.path} is not a file of benchmark rows; delete it, or give another --out"
            )
        return found

    def add(self, row: Row) -> None:
        """Append a row: with the operating system when this returns."""
        text = json.dumps(row).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One write in append mode: a kill leaves at most one line cut short, which the next row ends.
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if (size := os.fstat(file).st_size) and os.pread(file, 1, size - 1) != b"\n":
                text = b"\n" + text
            os.write(file, text)
        finally:
            os.close(file)

    def fresh(self, code: str) -> dict[Cell, Row]:
        """Return the rows of this `fingerprint`, and of the solvers that are installed now."""
        solvers = {backend.name: backend.version() for backend in all_backends()}
        return {
            cell: row
            for cell, row in self.rows().items()
            if row["code"] == code and row["version"] == solvers.get(cell.backend)
        }
