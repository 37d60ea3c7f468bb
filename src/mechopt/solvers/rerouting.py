"""Watching the programs that some code solves, and sending them to another backend, the code unchanged.

A check that says ``contract.solve("clarabel")`` tests the theory and Clarabel at once. Run inside `rerouted`,
it solves the same programs on the backend named there, and what is left to differ is the backend. Only
programs are sent elsewhere: a mechanism that answers by its own algorithm does not declare one, and a solve
that asks for ``"exact"`` by name stays what it is, a second road.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from mechopt.solvers.solution import Solution, Status

EXACT = "exact"


@dataclass(frozen=True)
class Solve:
    """One program that was solved under watch.

    Attributes
    ----------
    program : str
        Its name.
    asked : str or None
        The backend that the code asked for.
    backend : str
        The backend that answered.
    status : Status
    reason : str
    objective : float
    slack : float
        How far the objective may be off, by the tolerance that was asked for.
    tolerance : float
        The same, relative.
    priced : bool
        Whether the answer has shadow prices.
    """

    program: str
    asked: str | None
    backend: str
    status: Status
    reason: str
    objective: float
    slack: float
    tolerance: float
    priced: bool

    @property
    def movable(self) -> bool:
        """Whether the program would be sent to another backend."""
        return self.asked != EXACT


@dataclass
class Watch:
    """What is solved while it lasts, and where to.

    Attributes
    ----------
    backend : str or None
        Where programs are sent; None leaves them where the code sends them.
    time_limit : float or None
        Seconds a program, for programs that are sent elsewhere and have no limit of their own.
    solves : list of Solve
        In the order in which they ended.
    """

    backend: str | None = None
    time_limit: float | None = None
    solves: list[Solve] = field(default_factory=list)


_watch: ContextVar[Watch | None] = ContextVar("mechopt_watch", default=None)


@contextmanager
def rerouted(backend: str | None = None, *, time_limit: float | None = None) -> Iterator[Watch]:
    """Send every `Program.solve` inside to one backend, and note what came of it.

    Parameters
    ----------
    backend : str, optional
        A name from `mechopt.backends`; by default programs go where the code sends them, and are only noted.
        A backend that lacks something raises `MissingCapability` where the program is solved, as ever.
    time_limit : float, optional
        Seconds a program, where the code gives none. Options of the code's own solver are left out.

    Examples
    --------
    >>> import mechopt as mo
    >>> from mechopt.solvers.rerouting import rerouted
    >>> program = mo.Program("one good")
    >>> _ = program.maximize(-program.variable("x", nonneg=True))
    >>> with rerouted("highspy") as watch:
    ...     program.solve("clarabel").backend
    'highspy'
    >>> watch.solves[0].asked
    'clarabel'
    """
    watch = Watch(backend, time_limit)
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)


@contextmanager
def unwatched() -> Iterator[None]:
    """Keep the solves inside, which only explain a failure, out of the watch around it."""
    token = _watch.set(None)
    try:
        yield
    finally:
        _watch.reset(token)


def redirected(
    backend: str | None, time_limit: float | None, options: Mapping[str, Any]
) -> tuple[str | None, float | None, Mapping[str, Any]]:
    """Return the backend, limit and options with which a program is solved here."""
    watch = _watch.get()
    if watch is None or watch.backend is None or backend == EXACT or backend == watch.backend:
        return backend, time_limit, options
    return watch.backend, watch.time_limit if time_limit is None else time_limit, {}


def note(asked: str | None, solution: Solution, scale: float) -> None:
    """Tell the watch, if there is one, what a solve gave of a program whose objective is of this size."""
    watch = _watch.get()
    if watch is not None:
        watch.solves.append(
            Solve(
                solution.program,
                asked,
                solution.backend,
                solution.status,
                solution.reason,
                solution.objective,
                solution.tolerance * max(abs(solution.objective), scale),
                solution.tolerance,
                bool(solution.duals),
            )
        )
