"""One cell of a sweep: make the mechanism, solve it, measure the answer. An error becomes a record."""

from __future__ import annotations

import inspect
import io
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from cvxpy.utilities.canonical import Canonical

from mechopt.formulations.batch import answers, fits
from mechopt.solvers.errors import InvalidInput, MechanismError, Unbounded
from mechopt.solvers.program import Program
from mechopt.solvers.solution import Solution, Status
from mechopt.studies.sweep_store import Record, needed

Measure = Callable[[Any, Any], Any]
Point = Mapping[str, Any]
LONGEST_REASON = 300
"""Characters of a reason that are kept."""

HELD = 0.1
"""Seconds for which mechanisms are made before they are solved together, lest a kill lose more."""

LONG = 1e-3
"""Seconds of making one, on average, from which on they do not wait: solving is not what takes long."""

_CELLS_A_WORKER = 16
"""Cells a worker that are asked for at once, where joblib's backend gives results only once all have come."""


@dataclass(frozen=True)
class Job:
    """What is done at every point of the grid; this and the point are all that travels to a worker.

    Attributes
    ----------
    factory : callable
        Called with the point's parameters; returns something with ``solve``.
    measure : mapping of str to callable, or None
        None keeps all arrays of the solution.
    backend : str or None
    settings : mapping
        Other arguments of ``solve``.
    """

    factory: Callable[..., Any]
    measure: Mapping[str, Measure] | None
    backend: str | None
    settings: Mapping[str, Any]

    def __call__(self, point: Point) -> Record:
        """Do it; no error of a cell leaves it."""
        started = time.perf_counter()
        try:
            mechanism = self.factory(**point)
        except Exception as error:
            return failed(error, time.perf_counter() - started)
        return self.alone(mechanism, time.perf_counter() - started)

    def alone(self, mechanism: Any, spent: float) -> Record:
        """Solve and measure what has been made, in ``spent`` seconds."""
        started = time.perf_counter()
        try:
            answer = self._solve(mechanism)
        except Exception as error:
            answer = error
        return self._told(mechanism, answer, spent + time.perf_counter() - started)

    def together(self, mechanisms: Sequence[Any], spent: Sequence[float]) -> Iterator[Record]:
        """Do the same for many that `fit`, those that are alike side by side."""
        started = time.perf_counter()
        found = answers(mechanisms, self._asked | {"on_failure": "return"})
        share = (time.perf_counter() - started) / len(mechanisms)
        for mechanism, answer, making in zip(mechanisms, found, spent, strict=True):
            yield self._told(mechanism, answer, making + share)

    def fits(self, mechanism: Any) -> bool:
        """Whether many like it can be solved side by side."""
        return fits(mechanism, self._asked)

    @cached_property
    def _asked(self) -> dict[str, Any]:
        return dict(self.settings) | ({} if self.backend is None else {"backend": self.backend})

    def _told(self, mechanism: Any, answer: Any, seconds: float) -> Record:
        """The record of an answer, or of the exception in its place."""
        if isinstance(answer, Exception):
            return failed(answer, seconds)
        record = _described(answer)
        record["seconds"] = seconds
        values = _values(answer)
        if self.measure is not None and record["status"] != "answered" and not values:
            return record  # there is nothing to measure, and the status says why
        for name in values if self.measure is None else self.measure:
            try:
                found = values[name] if self.measure is None else self.measure[name](mechanism, answer)
                record["values"][name] = _plain(name, found)
            except Exception as error:
                record |= {"status": str(Status.FAILED), "reason": _why(error, f"measure {name!r}: ")}
        return record

    def _solve(self, mechanism: Any) -> Any:
        solve = getattr(mechanism, "solve", None)
        if not callable(solve):
            raise InvalidInput(
                f"factory must return a mechanism or a Program, something with solve(); "
                f"got {type(mechanism).__name__}"
            )
        # Without this, each failure would be diagnosed at the price of several solves.
        returns = {"on_failure": "return"} if _may_return_failures(solve) else {}
        return solve(**self._asked, **returns)


def _may_return_failures(solve: Callable[..., Any]) -> bool:
    return "on_failure" in inspect.signature(solve).parameters


def _values(answer: Any) -> Mapping[str, Any]:
    values = getattr(answer, "values", None)
    return values if isinstance(values, Mapping) else {}


def _described(answer: Any) -> Record:
    """The record of an answer; one that is no `Solution` tells less about itself."""
    status = getattr(answer, "status", None)
    objective = getattr(answer, "objective", None)
    number = isinstance(objective, int | float | np.integer | np.floating)
    return {
        "status": str(status) if isinstance(status, Status) else "answered",
        "reason": _short(str(getattr(answer, "reason", ""))),
        "objective": float(objective) if number else math.nan,  # type: ignore[arg-type]
        "backend": str(getattr(answer, "backend", "")),
        "values": {},
    }


def failed(error: BaseException, seconds: float = math.nan) -> Record:
    """Return the record of a cell without an answer."""
    carried = getattr(error, "solution", None)
    if isinstance(error, Unbounded):
        status = Status.UNBOUNDED
    else:
        status = carried.status if isinstance(carried, Solution) else Status.FAILED
    return {
        "status": str(status),
        "reason": _why(error),
        "objective": math.nan,
        "backend": carried.backend if isinstance(carried, Solution) else "",
        "values": {},
        "seconds": seconds,
    }


def _why(error: BaseException, where: str = "") -> str:
    return _short(f"{where}{type(error).__name__}: {error}")


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"


def _plain(name: str, value: Any) -> Any:
    """A number, a string, or an array of them, fit to travel and to be written."""
    array = np.asarray(value)
    if array.dtype.kind in "biuf":
        array = array.astype(float)
    elif array.dtype.kind != "U":
        got = type(value).__name__ if array.dtype.kind == "O" else f"an array of {array.dtype}"
        raise InvalidInput(f"{name!r} must be a number, a string or an array of them, got {got}")
    return array if array.ndim else array.item()


# ---------------------------------------------------------------- in this process


def one_by_one(job: Job, points: Mapping[int, Point]) -> Iterator[tuple[int, Record]]:
    """Do cells here in their order, and yield them as they come: some together, where that pays."""
    waiting: dict[int, tuple[Any, float]] = {}
    held = 0.0

    def finished() -> Iterator[tuple[int, Record]]:
        some = dict(waiting)
        waiting.clear()
        if some:
            mechanisms, spent = zip(*some.values(), strict=True)
            yield from zip(some, job.together(mechanisms, spent), strict=True)

    try:
        for index, point in points.items():
            started = time.perf_counter()
            try:
                mechanism = job.factory(**point)
            except Exception as error:
                yield from finished()
                yield index, failed(error, time.perf_counter() - started)
                continue
            spent = time.perf_counter() - started
            if not job.fits(mechanism):
                yield from finished()
                yield index, job.alone(mechanism, spent)
                continue
            waiting[index] = mechanism, spent
            held += spent
            if held > min(HELD, LONG * len(waiting)):
                yield from finished()
                held = 0.0
    except KeyboardInterrupt:
        yield from finished()
        raise
    yield from finished()


# ---------------------------------------------------------------- in workers


@dataclass(frozen=True)
class Sent:
    """A job on its way: pickled once, with lambdas and closures, and unpickled once a worker.

    Attributes
    ----------
    job : bytes
    home : int
        The process that it comes from, whose threads are left alone.
    """

    job: bytes
    home: int

    @classmethod
    def of(cls, job: Job, points: Mapping[int, Point]) -> Sent:
        """Pack a job.

        Raises
        ------
        InvalidInput
            If the factory, a measure or a value of the grid holds something that cannot travel.
        """
        # A value of the grid is in many points, and is looked at once.
        values = {id(value): value for point in points.values() for value in point.values()}
        for value in values.values():
            if not isinstance(value, bool | int | float | str):
                _packed(value, "a value of the grid")
        return cls(_packed(job, "factory or measure"), os.getpid())


def _packed(content: Any, what: str) -> bytes:
    """Pickle what goes to other processes, functions and all, but no programs.

    CVXPY tells variables apart by numbers that each process counts for itself: those of a program from
    elsewhere may be those of the variables that compiling it makes.
    """
    cloudpickle = needed("cloudpickle")

    class Packer(cloudpickle.Pickler):  # type: ignore[misc, name-defined]
        def reducer_override(self, part: Any) -> Any:
            if isinstance(part, Program | Canonical):
                raise InvalidInput(
                    f"{what} holds a {type(part).__name__}, and programs cannot be sent to another process; "
                    "make it inside the factory, or give mo.Parametric a function that declares it"
                )
            return super().reducer_override(part)

    file = io.BytesIO()
    try:
        Packer(file).dump(content)
    except InvalidInput:
        raise
    except (pickle.PicklingError, TypeError, AttributeError, ValueError) as error:
        raise InvalidInput(
            f"{what} cannot be sent to another process: {error}; "
            "let them take what they need as parameters, and make it inside"
        ) from error
    return file.getvalue()


def work(index: int, point: Point, sent: Sent) -> tuple[int, Record]:
    """Do one cell in a worker, on one thread of linear algebra."""
    with nullcontext() if os.getpid() == sent.home else _one_thread():
        return index, _unpacked(sent.job)(point)


@lru_cache(maxsize=2)
def _unpacked(job: bytes) -> Job:
    unpacked: Job = pickle.loads(job)
    return unpacked


@lru_cache(maxsize=1)
def _controller() -> Any:
    return needed("threadpoolctl").ThreadpoolController()


def _one_thread() -> AbstractContextManager[Any]:
    limited: AbstractContextManager[Any] = _controller().limit(limits=1)
    return limited


def in_parallel(job: Job, points: Mapping[int, Point], n_jobs: int | None) -> Iterator[tuple[int, Record]]:
    """Do cells on joblib's backend and yield them as they come.

    When a worker dies, the cells that were on their way are done one at a time, so that the one that kills
    its worker becomes a failed cell and the others do not.

    Raises
    ------
    MechanismError
        If no cell came back at all: then the workers are to blame.
    """
    needed("threadpoolctl")
    backend, _ = needed("joblib").parallel.get_active_backend()
    sent = Sent.of(job, points)
    pending = dict(points)
    any_came = False

    def some(batch: Mapping[int, Point], lost: dict[int, Exception]) -> Iterator[tuple[int, Record]]:
        if hasattr(backend, "client"):
            return _on_dask(backend, sent, batch, lost)
        return _by_joblib(backend, sent, batch, lost, n_jobs)

    while pending:
        lost: dict[int, Exception] = {}
        for index, record in some(dict(pending), lost):
            del pending[index]
            any_came = True
            yield index, record
        alone: list[tuple[int, Record]] = []
        for index, reason in lost.items():
            again = {index: reason}
            came = list(some({index: points[index]}, again))
            any_came |= bool(came)
            alone += came or [(index, failed(again[index]))]
        if lost and not any_came:
            reason = next(iter(lost.values()))
            raise MechanismError(
                f"no cell came back from the workers, on joblib's backend {type(backend).__name__}: "
                f"{_why(reason)}; can the factory and the measures be imported there?"
            ) from reason
        for index, record in alone:
            del pending[index]
            yield index, record


def _by_joblib(
    backend: Any, sent: Sent, points: Mapping[int, Point], lost: dict[int, Exception], n_jobs: int | None
) -> Iterator[tuple[int, Record]]:
    """Yield cells as they come; what was on its way when a worker died goes into ``lost``."""
    joblib = needed("joblib")
    streams = backend.supports_return_generator
    wave = len(points) if streams else _CELLS_A_WORKER * joblib.effective_n_jobs(n_jobs)
    on_their_way: set[int] = set()

    def tasks() -> Iterator[Any]:
        for index in list(points)[:wave]:
            on_their_way.add(index)
            yield joblib.delayed(work)(index, points[index], sent)

    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered" if streams else "list")
    try:
        for index, record in parallel(tasks()):
            on_their_way.discard(index)
            yield index, record
    except Exception as error:  # of a worker, or of unpickling: cells turn theirs into records
        lost |= dict.fromkeys(sorted(on_their_way), error)


def _on_dask(
    backend: Any, sent: Sent, points: Mapping[int, Point], lost: dict[int, Exception]
) -> Iterator[tuple[int, Record]]:
    """Do the same on the cluster that joblib is configured for, by the cluster's own means.

    Joblib would wait for ever for a cell that kills its worker.
    """
    from distributed import as_completed

    futures = backend.client.map(
        work, list(points), list(points.values()), sent=sent, pure=False, **backend.submit_kwargs
    )
    indices = {future.key: index for future, index in zip(futures, points, strict=True)}
    coming = as_completed(futures, with_results=True, raise_errors=False)
    del futures  # a result that nothing refers to any longer leaves the cluster's memory
    try:
        for future, result in coming:
            if future.status == "finished":
                yield result
            else:
                lost[indices[future.key]] = result[1]
    finally:
        backend.client.cancel(list(coming.futures), asynchronous=False)
