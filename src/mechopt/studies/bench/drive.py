"""Drives benchopt over the benchmark, and makes one table of what came of it."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mechopt.solvers.backend import all_backends, get_backend
from mechopt.solvers.errors import BackendUnavailable, InvalidInput, MechanismError
from mechopt.studies.bench.engine import Limits, get_setting
from mechopt.studies.bench.families import select
from mechopt.studies.bench.instrument_parts import FOLDER, reason_to_skip
from mechopt.studies.bench.rows import Cell, Row, RowFile, empty_row, fingerprint, versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from mechopt.studies.bench.report import Report

Progress = Callable[[str, int, int], None]

ROWS, TABLE, LOG = "rows.jsonl", "results.parquet", "benchopt.log"
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
LARGEST_SIZE = 1_000_000
MOST_LOST = 3
"""Cells in succession of which the engine leaves no row, until it is taken to be broken."""


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes
    ----------
    cells : tuple of Cell
    skipped : dict of (str, str) to str
        By family and backend: why it is not asked.
    limits : Limits
    """

    cells: tuple[Cell, ...]
    skipped: dict[tuple[str, str], str]
    limits: Limits


def make_plan(
    mechanisms: Sequence[str] | None = None,
    backends: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
    settings: Sequence[str] | None = None,
    *,
    seeds: int | None = None,
    quick: bool = False,
    time_limit: float | None = None,
    memory_limit: float = 4.0,
) -> Plan:
    """Choose the cells of a benchmark.

    Parameters
    ----------
    mechanisms : sequence of str, optional
        Mechanisms or families; all by default.
    backends : sequence of str, optional
        All that are installed by default; one named here must be.
    sizes : sequence of int, optional
        Instead of each family's own.
    settings : sequence of str, optional
        Default ``"default"``.
    seeds : int, optional
        Instances of each size, default 3; 1 if quick.
    quick : bool
        Each family's quick sizes, one instance each, one timed run instead of 3.
    time_limit : float, optional
        Seconds for a solve; default 60, or 5 if quick.
    memory_limit : float
        GiB; see `Limits`.

    Raises
    ------
    InvalidInput, BackendUnavailable
        For something that there is not, before anything runs.

    Examples
    --------
    >>> plan = make_plan(["price-polytope"], ["clarabel", "exact"], quick=True)
    >>> [cell.size for cell in plan.cells], plan.skipped
    ([4, 6, 8], {('price-polytope/one-buyer', 'exact'): 'lacks an exact algorithm for this program'})
    """
    families = select(mechanisms)
    names = [backend.name for backend in map(get_backend, dict.fromkeys(backends or ()))]
    names = names or [backend.name for backend in all_backends() if backend.available() is None]
    for size in sizes or ():
        if not 2 <= size <= LARGEST_SIZE:
            raise InvalidInput(f"sizes must be whole numbers from 2 to {LARGEST_SIZE}, got {size!r}")
    wanted = [get_setting(name).name for name in dict.fromkeys(settings or ("default",))]
    n_seeds = (1 if quick else 3) if seeds is None else seeds
    if n_seeds < 1:
        raise InvalidInput(f"seeds must be at least 1, got {n_seeds!r}")
    seconds = (5.0 if quick else 60.0) if time_limit is None else time_limit
    limits = Limits(seconds, memory_limit, 1 if quick else 3)
    reasons = {(f.name, name): reason_to_skip(name, f.name) for f in families for name in names}
    cells = [
        Cell(family.name, size, seed, name, setting)
        for family in families
        for size in sorted(set(sizes or (family.quick_sizes if quick else family.sizes)))
        for seed in range(n_seeds)
        for name in names
        for setting in wanted
        if reasons[family.name, name] is None
    ]
    if not cells:
        told = "; ".join(f"{name} on {family} {why}" for (family, name), why in reasons.items())
        raise InvalidInput(f"none of these backends can solve any of these mechanisms: {told}")
    return Plan(tuple(cells), {pair: why for pair, why in reasons.items() if why is not None}, limits)


# ---------------------------------------------------------------- running


def run_plan(plan: Plan, out: Path, progress: Progress = lambda *_: None) -> pd.DataFrame:
    """Measure every cell of a plan that is not measured yet, and return one row a cell.

    Parameters
    ----------
    plan : Plan
    out : Path
        Folder that holds the rows, so that a run that was interrupted goes on where it stopped; gets the
        table as parquet.
    progress : callable
        Called as ``progress(what, done, total)``.

    Raises
    ------
    BackendUnavailable
        Without benchopt.
    MechanismError
        If it is broken.
    """
    import pandas as pd

    require_benchopt()
    run = _Run(plan, out, RowFile(out / ROWS), fingerprint(plan.limits), progress)
    with _lock(out):
        rows = run.all_rows()
    frame = pd.DataFrame(rows)
    frame.to_parquet(out / TABLE, index=False)
    return frame


def require_benchopt() -> None:
    """Refuse to go on without the engine.

    Raises
    ------
    BackendUnavailable
        Saying how to install it.
    """
    missing = [name for name in ("benchopt", "pyarrow") if importlib.util.find_spec(name) is None]
    if missing:
        raise BackendUnavailable(f'the benchmark needs {" and ".join(missing)}: pip install "mechopt[bench]"')


@dataclass(frozen=True)
class _Run:
    """One go at a plan."""

    plan: Plan
    out: Path
    store: RowFile
    code: str
    progress: Progress

    def all_rows(self) -> list[Row]:
        """Return one row for each cell of the plan, measured now or before."""
        missing, lost = self.missing(), 0
        while missing:
            self.measure(missing)
            left = self.missing()
            if len(left) == len(missing):
                # The engine itself has failed. Alone, the cell that was its end takes no other with it.
                self.measure(left[:1])
                if self.missing() == left:
                    self.store.add(self.lost(left[0]))
                    lost += 1
                    if lost == MOST_LOST:
                        raise MechanismError(
                            f"benchopt left no row of {MOST_LOST} cells in succession; see {self.out / LOG}"
                        )
                else:
                    lost = 0
                left = self.missing()
            missing = left
        self.tell()
        fresh = self.store.fresh(self.code)
        return [fresh[cell] for cell in self.plan.cells]

    def missing(self) -> list[Cell]:
        """Return the cells that have no row yet."""
        fresh = self.store.fresh(self.code)
        return [cell for cell in self.plan.cells if cell not in fresh]

    def lost(self, cell: Cell) -> Row:
        """Return the row of a cell of which the engine left none."""
        row = empty_row(cell, get_setting(cell.setting), self.plan.limits, self.code)
        return row | {"reason": f"the engine left no row; see {LOG}"}

    def tell(self) -> None:
        """Report progress."""
        missing = self.missing()
        what = f"{missing[0].family} {missing[0].size} {missing[0].backend}" if missing else "done"
        self.progress(what, len(self.plan.cells) - len(missing), len(self.plan.cells))

    def measure(self, cells: Sequence[Cell]) -> None:
        """Run benchopt on these cells, in a process: even its own end would lose no row."""
        datasets, solvers = patterns(cells)
        limits, store = self.plan.limits, str(self.store.path.resolve())
        objective = (
            f"mechopt[time_limit={limits.time},memory_limit={limits.memory},runs={limits.runs},"
            f"store={store!r},code={self.code!r}]"
        )
        config, table = (self.out / f"benchopt.{suffix}" for suffix in ("json", "parquet"))
        asked = {"objective": [objective], "dataset": datasets, "solver": solvers}
        config.write_text(json.dumps(asked, indent=1), encoding="utf-8")  # JSON is YAML
        # Not `python -m benchopt`: each cell's process would import the main module again.
        engine = f"from {__name__} import run_engine; run_engine()"
        command = [sys.executable, "-c", engine, "run", str(FOLDER)]
        command += ["--config", str(config), "--no-cache", "--no-plot", "--no-display", "--seed", "0"]
        command += ["--output", str(table.resolve())]
        try:
            with (self.out / LOG).open("ab") as log:
                _wait(command, log, os.environ | dict.fromkeys(ONE_THREAD, "1"), self.tell)
        finally:
            config.unlink(missing_ok=True)
            table.unlink(missing_ok=True)  # the rows are kept by us


def patterns(cells: Sequence[Cell]) -> tuple[list[str], list[str]]:
    """Write cells as benchopt selects them: datasets, and solvers.

    It runs every pair of them: those that cannot be are skipped, and those that have their row keep it.
    """
    datasets = dict.fromkeys((*cell.family.split("/"), cell.size, cell.seed) for cell in cells)
    solvers = dict.fromkeys((cell.backend, cell.setting) for cell in cells)
    return (
        [f"{name}[variant='{variant}',size={size},seed={seed}]" for name, variant, size, seed in datasets],
        [f"backend[backend='{backend}',setting='{setting}']" for backend, setting in solvers],
    )


def run_engine() -> None:
    """Run benchopt in this process, and stop when the one that holds our standard input ends.

    A kill tells nobody, and what nobody waits for would go on for hours.
    """

    def watch() -> None:
        os.read(0, 1)  # not by sys.stdin, whose lock would be held at the end
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()
    from benchopt.cli import benchopt

    benchopt()


def _wait(
    command: list[str], log: IO[bytes], environment: Mapping[str, str], tick: Callable[[], None]
) -> None:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=dict(environment)
    )
    try:
        while process.poll() is None:
            tick()
            with suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
    finally:
        if process.poll() is None:
            # It stops the cell that it is at, and leaves what is written.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _lock(out: Path) -> Iterator[None]:
    """Keep two runs from one folder, where the system can do that."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "lock").open("a") as file:
        try:
            import fcntl
        except ImportError:
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InvalidInput(
                f"{out} is in use by another benchmark; wait for it, or give another --out"
            ) from None
        yield


# ---------------------------------------------------------------- the whole


@dataclass(frozen=True)
class Machine:
    """What a benchmark ran on.

    Attributes
    ----------
    versions : dict of str to str
        Of Python and libraries.
    backends : dict of str to str
        Of the solvers.
    cores : int
    load : tuple of float
        Load average of the last minute, before and after; above 1 others were at work too.
    minutes : float
        The whole of it.
    """

    versions: dict[str, str]
    backends: dict[str, str]
    cores: int
    load: tuple[float, float]
    minutes: float


def load_average() -> float:
    """Processes that wanted to run in the last minute; NaN where the system does not tell."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return float("nan")


def run_benchmark(plan: Plan, out: Path, progress: Progress = lambda *_: None) -> tuple[Report, list[Path]]:
    """Measure a plan and write the report.

    Returns
    -------
    report : Report
        Its ``rows`` are the table, one a cell.
    files : list of Path
        The table (parquet), the report in Markdown, and as one HTML page.
    """
    from mechopt.studies.bench.measures import judged
    from mechopt.studies.bench.page import html
    from mechopt.studies.bench.report import Report, markdown

    begin, before = time.monotonic(), load_average()
    rows = judged(run_plan(plan, out, progress))
    machine = Machine(
        versions(),
        {backend.name: backend.version() for backend in all_backends() if backend.available() is None},
        os.cpu_count() or 1,
        (before, load_average()),
        (time.monotonic() - begin) / 60,
    )
    rows.to_parquet(out / TABLE, index=False)
    report = Report(rows, plan.skipped, plan.limits, machine)
    files = [out / TABLE, out / "report.md", out / "report.html"]
    files[1].write_text(markdown(report), encoding="utf-8")
    files[2].write_text(html(report), encoding="utf-8")
    return report, files
