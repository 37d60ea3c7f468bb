"""What the folder ``instrument``, which benchopt reads, is made of; nothing here needs benchopt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mechopt.solvers.backend import get_backend
from mechopt.solvers.errors import MechanismError
from mechopt.studies.bench.engine import Instance, Limits, Outcome, Setting, get_setting, run_cell
from mechopt.studies.bench.families import get_family, select
from mechopt.studies.bench.rows import Cell, Row, RowFile, measure

FOLDER = Path(__file__).parent / "instrument"


@dataclass(frozen=True)
class Keeping:
    """Where rows are kept, if anywhere, and what those must come from that are used again."""

    store: Path | None = None
    code: str = ""

    def kept(self, cell: Cell) -> Row | None:
        """Return the row of a cell, if it is there and nothing that it depends on has changed."""
        return None if self.store is None else RowFile(self.store).fresh(self.code).get(cell)

    def keep(self, row: Row) -> None:
        """Write a row."""
        if self.store is not None:
            RowFile(self.store).add(row)


@dataclass(frozen=True)
class Result:
    """What a solver hands to the objective: an outcome, or the row that was there already."""

    cell: Cell
    setting: Setting
    limits: Limits
    outcome: Outcome | None
    keeping: Keeping
    kept: Row | None = None


def parameters(mechanism: str) -> dict[str, list[Any]]:
    """Return a dataset's parameters: its variants in their quick sizes, and one seed."""
    pairs = [(family.variant, size) for family in select([mechanism]) for size in family.quick_sizes]
    return {"variant, size": pairs, "seed": [0]}


def instance(mechanism: str, variant: str, size: int, seed: int) -> Instance:
    """Return an instance of a family that there is."""
    return Instance(get_family(f"{mechanism}/{variant}").name, int(size), int(seed))


@lru_cache(maxsize=512)
def reason_to_skip(backend: str, family: str) -> str | None:
    """Tell why a backend is not asked to solve a family; None if it is.

    Looked up on the smallest instance: what a family needs does not depend on its size.
    """
    try:
        known = get_backend(backend)
    except MechanismError as error:
        return str(error)
    wanted = get_family(family)
    missing = known.lacks(wanted.build(wanted.smallest, 0))
    return f"lacks {', '.join(missing)}" if missing else None


def answer(wanted: Instance, backend: str, setting: str, limits: Limits, keeping: Keeping) -> Result:
    """Solve a cell, unless its row is kept already."""
    cell = Cell(wanted.family, wanted.size, wanted.seed, backend, setting)
    asked = get_setting(setting)
    kept = keeping.kept(cell)
    outcome = run_cell(wanted, backend, asked, limits) if kept is None else None
    return Result(cell, asked, limits, outcome, keeping, kept)


def verified(result: Result) -> Row:
    """Verify and measure a result, and write its row where rows are kept."""
    if result.kept is not None:
        return result.kept
    assert result.outcome is not None
    row = measure(result.cell, result.setting, result.limits, result.outcome, result.keeping.code)
    result.keeping.keep(row)
    return row
