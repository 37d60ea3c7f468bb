"""Solve a mechanism at every point of a grid of parameters, and return one labelled data set."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mechopt.solvers.backend import get_backend
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.solution import Status
from mechopt.studies.sweep_cell import Job, Measure, in_parallel, one_by_one
from mechopt.studies.sweep_grid import RESERVED, Grid, to_dataset
from mechopt.studies.sweep_store import Record, Store, fingerprint, key_of, needed

if TYPE_CHECKING:
    import xarray as xr

Progress = Callable[[int, int, int], None]
"""Called as ``progress(done, total, failed)`` after each cell."""


class SweepInterrupted(KeyboardInterrupt):
    """A sweep was stopped by Ctrl-C; its message says how to go on.

    Attributes
    ----------
    results : xarray.Dataset
        The cells that were done; the status of the others is "missing".
    """

    results: xr.Dataset

    def __init__(self, message: str, results: xr.Dataset) -> None:
        super().__init__(message)
        self.results = results


def sweep(
    factory: Callable[..., Any],
    grid: Mapping[str, Any],
    measure: Mapping[str, Measure] | None = None,
    backend: str | None = None,
    n_jobs: int = 1,
    *,
    zipped: Sequence[Sequence[str]] = (),
    replicates: int | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    time_limit: float | None = None,
    options: Mapping[str, Any] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    store: str | Path | None = None,
    retry_failed: bool = False,
    progress: bool | Progress = True,
) -> xr.Dataset:
    """Solve what a factory makes at every point of a grid.

    Parameters
    ----------
    factory : callable
        Called as ``factory(**point)``; returns a mechanism or a `Program`, or anything else with a ``solve``.
        `Parametric` makes one of a program that is compiled once. In this process, small mechanisms that
        `solve_batch` can treat side by side are made some thousand at a time, and solved and measured then.
    grid : mapping of str to values
        What each parameter takes: a list of numbers or of strings, or a mapping of labels to values of any
        kind, which then stand on the axis under their labels. The cells are all combinations.
    measure : mapping of str to callable, optional
        What to keep of each cell: ``f(mechanism, solution)``, a number, a string or an array of them. By
        default every array of the solution. Nothing is measured where the solver returned no point.
    backend : str, optional
        As for the ``solve`` of what the factory makes.
    n_jobs : int
        Processes of joblib; -1 for as many as there are cores. Where it is left at 1, a
        ``joblib.parallel_config`` that is in force counts: its backend, a Dask cluster say, and its n_jobs.
        Workers receive parameters and send back plain arrays, and use one thread of linear algebra each.
    zipped : sequence of groups of names
        Parameters that move together rather than in all combinations; the first one of a group names the
        dimension, the others are coordinates along it.
    replicates : int, optional
        Repeat every point with so many seeds: the factory gets the keyword ``seed``, a whole number, the same
        in the same replicate of every point, so that points are compared on common random numbers.
    seed : int
        What the seeds of replicates are drawn from.
    tolerance, time_limit : float, optional
        For each solve; seconds for the limit. Passed on if given.
    options : mapping, optional
        Other arguments for each solve.
    dims : mapping of str to names, optional
        Names for the axes of arrays, as in ``{"quantity": ("type",)}``. By default axes are called ``entry``,
        ``entry_2`` and so on; those that are as long as each other in every cell share one name.
    store : path, optional
        A file that each cell is appended to as it comes, as one line of JSON. A sweep that finds cells in it
        does not do them again, also if the grid has grown; cells of another factory, measure, backend,
        setting or version of this package are refused. Functions are told apart by their own code, not by
        that of the functions that they call.
    retry_failed : bool
        Do cells again whose status in the store is "failed".
    progress : bool or callable
        Whether to show a progress bar on a terminal; or what to call as ``progress(done, total, failed)``.

    Returns
    -------
    xarray.Dataset
        Over the grid: ``objective``; ``status`` (a `Status`; "failed" if the factory, the solve or a measure
        raised; "answered" if the answer has no status of its own); ``reason``; ``seconds``, of making and
        solving, or its share where many were solved together; ``backend``, who answered; and what was
        measured. Numbers are floats, NaN where a cell has none. Arrays whose lengths differ are padded with
        NaN at their ends. Attributes tell versions, backend, settings and grid.

    Raises
    ------
    InvalidInput
        If an argument breaks its rule, or the store is another sweep's or in use.
    BackendUnavailable
        If the backend is unknown, or a library of the extra ``sweep`` is missing.
    SweepInterrupted
        On Ctrl-C, with what was done.
    MechanismError
        If workers cannot do any cell.

    Warns
    -----
    MechanismWarning
        If lines of the store are damaged; their cells are done again.

    Examples
    --------
    >>> import mechopt as mo
    >>> def market(weight, n_types):
    ...     types = [0.1 * (k + 1) for k in range(n_types)]
    ...     return mo.ScreeningContract(types=types, gain=mo.LogGain(weight=weight, scale=2))
    >>> found = sweep(market, {"weight": [10, 100], "n_types": [1, 2, 3]}, progress=False)
    >>> found["objective"].sel(weight=100).round(2).values.tolist()
    [430.33, 410.18, 399.98]
    >>> found["quantity"].dims
    ('weight', 'n_types', 'entry')
    """
    needed("xarray")
    cells = Grid.of(grid, zipped, replicates, seed)
    _check(factory, measure, cells, backend, n_jobs)
    settings: dict[str, Any] = dict(options or {})
    settings |= {
        name: value
        for name, value in (("tolerance", tolerance), ("time_limit", time_limit))
        if value is not None
    }
    job = Job(factory, None if measure is None else dict(measure), backend, settings)
    told = _told(job)
    attrs = told | {
        "title": "mechopt sweep",
        "grid": json.dumps(
            {name: list(labels) for axis in cells.axes for name, labels in axis.labels.items()}
        ),
        "versions": json.dumps(_versions()),
    }
    parts = (
        fingerprint(
            factory=factory,
            measure=job.measure,
            backend=backend,
            settings=settings,
            version=version("mechopt"),
        )
        if store is not None
        else {}
    )
    records: dict[int, Record] = {}
    with (
        Store(Path(store), parts, {name: told[name] for name in parts})
        if store is not None
        else nullcontext() as kept,
        _shown(progress, cells.size) as show,
    ):
        try:
            _run(job, cells, n_jobs, kept, retry_failed, records, show)
        except KeyboardInterrupt:
            raise SweepInterrupted(
                _how_to_go_on(len(records), cells.size, store), to_dataset(cells, records, dims or {}, attrs)
            ) from None
    return to_dataset(cells, records, dims or {}, attrs)


def _run(
    job: Job,
    grid: Grid,
    n_jobs: int,
    store: Store | None,
    retry_failed: bool,
    records: dict[int, Record],
    show: Progress,
) -> None:
    """Fill ``records`` by number of the cell: from the store, then by doing what is left."""
    points: dict[int, dict[str, Any]] = {}
    labels: dict[int, dict[str, Any]] = {}
    keys: dict[int, str] = {}
    n_failed = 0
    for index, (point, label) in enumerate(grid.points()):
        if store is not None:
            keys[index] = key_of(point)
            found = store.cells.get(keys[index])
            if found is not None and not (retry_failed and found["status"] == Status.FAILED):
                records[index] = found
                n_failed += found["status"] == Status.FAILED
                continue
            labels[index] = label
        points[index] = point
    show(len(records), grid.size, n_failed)
    for index, record in _done(job, points, n_jobs):
        if store is not None:
            store.add(keys[index], labels[index], record)
        records[index] = record
        n_failed += record["status"] == Status.FAILED
        show(len(records), grid.size, n_failed)


def _done(job: Job, points: Mapping[int, Mapping[str, Any]], n_jobs: int) -> Iterator[tuple[int, Record]]:
    """Do cells one after the other here, or in parallel wherever joblib's configuration says."""
    asked = None if n_jobs == 1 else n_jobs
    # Nobody can have configured what nobody has imported.
    if points and (asked is not None or "joblib" in sys.modules):
        joblib = needed("joblib")
        backend, _ = joblib.parallel.get_active_backend()
        elsewhere = not type(backend).__module__.startswith("joblib._parallel")  # a cluster of one core, say
        if elsewhere or joblib.effective_n_jobs(asked) > 1:
            yield from in_parallel(job, points, asked)
            return
    yield from one_by_one(job, points)


def _check(factory: Any, measure: Any, grid: Grid, backend: str | None, n_jobs: Any) -> None:
    if not callable(factory):
        raise InvalidInput(f"factory must be callable with the grid's parameters, got {factory!r}")
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or n_jobs == 0:
        raise InvalidInput(f"n_jobs must be a whole number other than 0 (-1: all cores), got {n_jobs!r}")
    if backend is not None:
        get_backend(backend)
    if measure is None:
        return
    if not isinstance(measure, Mapping):
        raise InvalidInput(f"measure must map names to functions of (mechanism, solution), got {measure!r}")
    for name, function in measure.items():
        if not isinstance(name, str) or not name or name in RESERVED or name in grid.names():
            taken = ", ".join((*RESERVED, *grid.names()))
            raise InvalidInput(f"measure: the name {name!r} is taken or no name; taken are {taken}")
        if not callable(function):
            raise InvalidInput(
                f"measure: {name!r} must be a function of (mechanism, solution), got {function!r}"
            )


def _told(job: Job) -> dict[str, str]:
    """What all cells depend on, for people."""
    name = getattr(job.factory, "__qualname__", type(job.factory).__qualname__)
    return {
        "factory": f"{getattr(job.factory, '__module__', '')}:{name}",
        "measure": "every array of the solution"
        if job.measure is None
        else ", ".join(job.measure) or "nothing",
        "backend": job.backend or "the default",
        "settings": ", ".join(f"{name}={value!r}" for name, value in job.settings.items()) or "the defaults",
        "version": f"mechopt {version('mechopt')}",
    }


def _versions() -> dict[str, str]:
    libraries = ("mechopt", "cvxpy", "numpy", "scipy", "xarray")
    return {name: version(name) for name in libraries} | {"python": platform.python_version()}


def _how_to_go_on(done: int, total: int, store: str | Path | None) -> str:
    if store is None:
        return (
            f"{done} of {total} cells were done: see .results of this exception; a store= keeps them on disk"
        )
    return f"{done} of {total} cells are kept in {store}; the same call goes on from there"


@contextmanager
def _shown(progress: bool | Progress, total: int) -> Iterator[Progress]:
    """Something to call after each cell."""
    if not isinstance(progress, bool):
        if not callable(progress):
            raise InvalidInput(f"progress must be True, False or a function, got {progress!r}")
        yield progress
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not progress or not (console.is_terminal or console.is_jupyter):
        yield lambda *_: None
        return
    columns = (
        TextColumn("sweep"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        drawn = 0.0

        def show(done: int, total: int, failed: int) -> None:
            nonlocal drawn
            # The bar is drawn ten times a second; cells may come ten thousand times.
            if done < total and time.monotonic() - drawn < 0.05:
                return
            drawn = time.monotonic()
            bar.update(
                task, completed=done, total=total, description=f"[red]{failed} failed[/]" if failed else ""
            )

        yield show


__all__ = ["SweepInterrupted", "sweep"]
