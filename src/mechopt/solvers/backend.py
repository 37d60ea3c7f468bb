"""What a backend is, which ones there are, and which one may solve a program."""

from __future__ import annotations

import abc
import enum
import importlib.util
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mechopt.solvers.errors import BackendUnavailable, InvalidInput, MissingCapability
from mechopt.solvers.solution import Status

if TYPE_CHECKING:
    import pandas as pd

    from mechopt.solvers.program import Program

ENTRY_POINTS = "mechopt.backends"
DEFAULT_TOLERANCE = 1e-6
_NUMBER = (int, float, np.integer, np.floating)


class Capability(enum.StrEnum):
    """A class of program, or of constraint, that a backend can take."""

    LP = "LP"
    """Linear objective and constraints."""
    QP = "QP"
    """Convex quadratic objective, linear constraints."""
    SOC = "SOC"
    """Second-order cones: norms, square roots, quadratics in constraints."""
    EXP = "EXP"
    """Exponential cones: log, exp, entropy."""
    POW = "POW"
    """Power cones, exactly."""
    SDP = "SDP"
    """Semidefinite matrices."""
    MIP = "MIP"
    """Integer and boolean variables, together with each of the backend's other convex classes."""
    NLP = "NLP"
    """Smooth nonconvex expressions (disciplined nonlinear programs)."""
    COMP = "COMP"
    """Complementarity pairs."""
    ORACLE = "ORACLE"
    """Hypographs of functions that can only be evaluated."""


@dataclass(frozen=True)
class Settings:
    """What every backend is told, in one vocabulary; each translates it for its solver.

    Attributes
    ----------
    tolerance : float
        Relative accuracy that the answer must have; solvers are asked for more, see each backend.
    time_limit : float or None
        Seconds of wall time.
    verbose : bool
        Whether the solver may print.
    options : mapping
        The solver's own options, by its own names; unknown ones are errors.
    """

    tolerance: float = DEFAULT_TOLERANCE
    time_limit: float | None = None
    verbose: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (isinstance(self.tolerance, _NUMBER) and 0 < self.tolerance < 1):
            raise InvalidInput(f"tolerance must lie in (0, 1), got {self.tolerance!r}")
        limit = self.time_limit
        if limit is not None and not (isinstance(limit, _NUMBER) and limit > 0 and math.isfinite(limit)):
            raise InvalidInput(f"time_limit must be a positive number of seconds or None, got {limit!r}")


@dataclass
class Answer:
    """What a backend hands back, before we check it.

    Attributes
    ----------
    status : Status
        What the solver claims.
    reason : str
        The solver's own words.
    primal : dict of int to array
        Value of each CVXPY variable by its id, in the scaled units in which it was declared inside.
    dual : dict of int to array
        Multiplier of each CVXPY constraint by its id, in CVXPY's sign (nonnegative for inequalities);
        empty where the route has none.
    objective : float
        The value the solver reports, in physical units, or NaN if it reports none.
    bound : float or None
        A bound in physical units that the objective cannot beat.
    seconds : dict
        ``compile`` and ``solve``.
    proved : bool
        Whether the algorithm itself is a proof of optimality, so that the objective is its own bound.
    no_duals : str
        Why there are no duals.
    prices : dict of str to tuple of arrays
        Shadow prices by family as `Solution.dual` defines them, where the route computes them itself.
    hypograph_dual : dict of int to array
        Price of each `Hypograph` by ``id``, in CVXPY's sign.
    conflict : tuple of str
        On infeasibility: families that cannot hold together, where the solver can tell.
    extra : dict
        Iterations, cuts and the like.
    """

    status: Status
    reason: str = ""
    primal: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    dual: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    objective: float = float("nan")
    bound: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    proved: bool = False
    no_duals: str = ""
    prices: dict[str, tuple[NDArray[np.float64], ...]] = field(default_factory=dict)
    hypograph_dual: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    conflict: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


@cache
def _version_of(distribution: str) -> str:
    """Version of what is installed, or ``""``; reading it takes longer than many a solve."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


class Backend(abc.ABC):
    """A way to solve programs: subclass it, and register the class in the group ``mechopt.backends``.

    Class attributes are data that dispatch reads without importing the solver.

    Attributes
    ----------
    name : str
        What users type.
    capabilities : frozenset of Capability
        Classes of program it takes.
    without_integers : frozenset of Capability
        Those of them that it takes only when no variable is integer.
    rank : int
        Dispatch takes the capable backend of least rank; None keeps it out of automatic choice.
    globally : bool
        Whether an answer to a nonconvex program is global.
    duals : bool
        Whether continuous convex programs come back with shadow prices.
    modules : tuple of str
        Modules that must be importable.
    distribution : str
        The distribution whose version is reported.
    licence : str
        SPDX expression of the solver.
    install : str
        The command that brings it.
    """

    name: ClassVar[str]
    capabilities: ClassVar[frozenset[Capability]]
    without_integers: ClassVar[frozenset[Capability]] = frozenset()
    rank: ClassVar[int | None] = None
    globally: ClassVar[bool] = False
    duals: ClassVar[bool] = True
    modules: ClassVar[tuple[str, ...]] = ()
    distribution: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    install: ClassVar[str] = "pip install mechopt"

    def available(self) -> str | None:
        """Return None if the backend can be used here, else the reason why not. Imports no solver."""
        missing = [module for module in self.modules if not _importable(module)]
        return f"{', '.join(missing)} not installed" if missing else None

    def version(self) -> str:
        """Version of the solver's distribution, or ``""``."""
        return _version_of(self.distribution) if self.distribution else ""

    def lacks(self, program: Program) -> tuple[str, ...]:
        """Names of what the program needs and this backend has not; empty if it can solve it."""
        needs = program.requires()
        missing = sorted(need.value for need in needs - self.capabilities)
        if Capability.MIP in needs and Capability.MIP in self.capabilities:
            missing += [f"{need.value} with MIP" for need in sorted(needs & self.without_integers)]
        return tuple(missing)

    def rank_for(self, program: Program) -> int | None:
        """Rank for this program: `rank`, unless the backend suits some classes less than others."""
        return self.rank

    @abc.abstractmethod
    def solve(self, program: Program, settings: Settings) -> Answer:
        """Solve a program that this backend can take. The caller checks what comes back."""

    def __repr__(self) -> str:
        return f"<backend {self.name}>"


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # the parent package of a dotted name is missing
        return False


_registry: dict[str, Backend] = {}
_scanned = False


def _scan() -> dict[str, Backend]:
    """Read the entry points once. A backend that cannot be imported must not take the others down."""
    global _scanned
    if not _scanned:
        _scanned = True
        for entry in metadata.entry_points(group=ENTRY_POINTS):
            try:
                backend = entry.load()()
                if not isinstance(backend, Backend) or backend.name != entry.name:
                    raise TypeError(f"{entry.value} makes {backend!r}, not a Backend named {entry.name!r}")
                _registry.setdefault(entry.name, backend)
            except Exception as error:  # a third party's module may fail in any way
                _registry.setdefault(entry.name, _Broken(entry.name, error))
    return _registry


class _Broken(Backend):
    """Stands for an entry point that does not load, so that the list of backends can say so."""

    name = "broken"
    capabilities = frozenset()

    def __init__(self, name: str, error: Exception) -> None:
        self.name = name  # type: ignore[misc]
        self._error = error

    def available(self) -> str | None:
        return f"its entry point does not load: {type(self._error).__name__}: {self._error}"

    def solve(self, program: Program, settings: Settings) -> Answer:
        raise BackendUnavailable(self.available() or "")


def register(backend: Backend, *, replace: bool = False) -> None:
    """Add a backend for this process; packages use the entry-point group ``mechopt.backends`` instead.

    Raises
    ------
    InvalidInput
        If there is a backend of that name already, unless ``replace``.
    """
    if backend.name in _scan() and not replace:
        raise InvalidInput(
            f"there is already a backend named {backend.name!r}; pass replace=True to replace it"
        )
    _scan()[backend.name] = backend


def unregister(name: str) -> None:
    """Take a backend out again."""
    _scan().pop(name, None)


def get_backend(name: str) -> Backend:
    """Return the backend of that name, ready to use.

    Raises
    ------
    BackendUnavailable
        If nobody has that name, or it is not installed; the message says what is, and how to install it.
    """
    registry = _scan()
    if name not in registry:
        import difflib

        near = difflib.get_close_matches(str(name).lower(), registry, n=2)
        hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
        raise BackendUnavailable(
            f"no backend named {name!r}{hint}; available: {', '.join(available_backends())}"
        )
    backend = registry[name]
    reason = backend.available()
    if reason is not None:
        raise BackendUnavailable(
            f"backend {name!r} cannot be used here: {reason}; install it with `{backend.install}`. "
            f"Available: {', '.join(available_backends())}"
        )
    return backend


def all_backends() -> tuple[Backend, ...]:
    """Every registered backend, available or not, in the order in which dispatch considers them."""
    last = 10**6
    return tuple(
        sorted(_scan().values(), key=lambda b: (b.rank if b.rank is not None else last, b.name)),
    )


@dataclass(frozen=True)
class BackendTable:
    """The registered backends as a table: iterate for rows, or `to_frame`."""

    rows: tuple[dict[str, Any], ...]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a backend."""
        import pandas as pd

        return pd.DataFrame(list(self.rows)).set_index("name")

    def __repr__(self) -> str:
        lines = [f"{'backend':<14} {'here':<5} {'version':<10} {'licence':<16} takes"]
        for row in self.rows:
            here = "yes" if row["available"] else "no"
            lines.append(
                f"{row['name']:<14} {here:<5} {row['version']:<10} {row['licence']:<16} {row['takes']}"
            )
        return "\n".join(lines)


def backends() -> BackendTable:
    """List every registered backend, available or not, in the order in which dispatch considers them.

    Returns
    -------
    BackendTable
        With ``name``, ``available``, ``reason`` (why not), ``version``, ``licence``, ``takes``
        (capabilities), ``without_integers``, ``duals``, ``install``.
    """
    rows = []
    for backend in all_backends():
        reason = backend.available()
        rows.append(
            {
                "name": backend.name,
                "available": reason is None,
                "reason": reason or "",
                "version": backend.version(),
                "licence": backend.licence,
                "takes": " ".join(c.value for c in Capability if c in backend.capabilities) or "as declared",
                "without_integers": " ".join(sorted(backend.without_integers)),
                "duals": backend.duals,
                "install": backend.install,
            }
        )
    return BackendTable(tuple(rows))


def available_backends() -> tuple[str, ...]:
    """Names of the backends that can be used here."""
    return tuple(backend.name for backend in all_backends() if backend.available() is None)


def capable_backends(program: Program) -> tuple[str, ...]:
    """Names of the available backends that can solve the program, best choice first."""
    able = [b for b in all_backends() if b.available() is None and not b.lacks(program)]
    ranks = {b.name: b.rank_for(program) for b in able}
    return tuple(sorted(ranks, key=lambda name: (math.inf if (rank := ranks[name]) is None else rank, name)))


def choose(program: Program, name: str | None) -> Backend:
    """Return the named backend, or for None the capable one of least rank; refuse with what is missing.

    Raises
    ------
    MissingCapability
        If the named backend, or every available one, lacks something the program needs.
    BackendUnavailable
        See `get_backend`.
    """
    if name is not None:
        backend = get_backend(name)
        missing = backend.lacks(program)
        if missing:
            able = capable_backends(program)
            raise MissingCapability(
                f"backend {name!r} cannot solve {program.name!r}: it lacks {_listing(missing)}. "
                + (f"Capable and available: {', '.join(able)}." if able else _who_could(program)),
                backend=name,
                missing=missing,
                alternatives=able,
            )
        return backend
    for backend in map(get_backend, capable_backends(program)):
        if backend.rank_for(program) is not None:
            return backend
    raise MissingCapability(
        f"no available backend can solve {program.name!r}, which needs "
        f"{_listing(sorted(program.requires()))}. {_who_could(program)}",
        missing=sorted(need.value for need in program.requires()),
    )


def _listing(items: Iterable[str]) -> str:
    return ", ".join(str(item) for item in items)


def _who_could(program: Program) -> str:
    able = [b for b in all_backends() if b.available() is not None and not b.lacks(program)]
    if not able:
        return "No known backend can."
    return "Could, once installed: " + "; ".join(f"{b.name} (`{b.install}`)" for b in able) + "."
