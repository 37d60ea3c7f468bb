"""One cell of the benchmark in a process of its own, so that nothing it does is more than a row.

A cell is an instance on a backend in a setting. The process has a limit of memory and one of time, besides
the time limit that the backend is given; what it prints is kept for the reason of a crash.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mechopt.solvers.errors import BackendUnavailable, InvalidInput, MissingCapability
from mechopt.solvers.solution import Solution, Status
from mechopt.studies.bench.families import Family, Reference, get_family

Seconds = dict[str, float]

PRELOADED = ("mechopt", "mechopt.studies.bench.engine", "cvxpy")
START = 120.0
"""Seconds in which a process must have started, on however busy a machine."""

LONGEST_REASON = 300
"""Characters of a reason that are kept."""

_OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "memory allocation", "out of memory", "Cannot allocate memory")


@dataclass(frozen=True)
class Setting:
    """What is asked of a backend, and what its answer must meet to be correct.

    Attributes
    ----------
    name : str
    tolerance : float
        Relative accuracy asked for.
    correct : float
        Relative distance of the objective from the reference, and relative residual, up to which an answer
        is correct.
    """

    name: str
    tolerance: float
    correct: float


SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("loose", 1e-4, 1e-4),
        Setting("default", 1e-6, 1e-6),
        Setting("tight", 1e-8, 1e-8),
    )
}
"""Each setting is held to the accuracy that it asks for, so that no backend gains by being asked for less."""


def get_setting(name: str) -> Setting:
    """Return the setting of that name.

    Raises
    ------
    InvalidInput
        If there is none.
    """
    if name not in SETTINGS:
        raise InvalidInput(f"no setting {name!r}; there are {', '.join(SETTINGS)}")
    return SETTINGS[name]


@dataclass(frozen=True)
class Instance:
    """An instance of a family: what a process needs to make it again."""

    family: str
    size: int
    seed: int

    def of(self) -> Family:
        """Return its family."""
        return get_family(self.family)


@dataclass(frozen=True)
class Limits:
    """What a cell may use.

    Attributes
    ----------
    time : float
        Seconds for one solve, which the backend is given; compiling counts too.
    memory : float
        GiB that the cell may take beyond what Python and the libraries take at its start.
    runs : int
        Timed solves; those after the first are left out once together they have taken ``time``.
    """

    time: float = 60.0
    memory: float = 4.0
    runs: int = 3

    def __post_init__(self) -> None:
        for name in ("time", "memory"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise InvalidInput(f"the limit of {name} must be a positive number, got {value!r}")
        if self.runs < 1:
            raise InvalidInput(f"runs must be at least 1, got {self.runs!r}")

    @property
    def patience(self) -> float:
        """Seconds after which a process without an answer is stopped: the backend may not keep its limit."""
        return 1.5 * self.time + 2.0


@dataclass(frozen=True)
class Outcome:
    """What came out of a process.

    Attributes
    ----------
    solution : Solution or None
        As the package checked it, in the process.
    state : str
        ``"answered"``, or why there is no solution: ``"refused"`` (the backend cannot take the program),
        ``"error"``, ``"crash"``, ``"timeout"`` or ``"memory"``.
    reason : str
    runs : tuple of dict
        Seconds of each timed run, by phase, with their ``total``.
    memory : float
        GiB that the cell took at its peak beyond its start; NaN where the system does not tell.
    needs : str
        Class of program.
    """

    solution: Solution | None
    state: str
    reason: str = ""
    runs: tuple[Seconds, ...] = ()
    memory: float = math.nan
    needs: str = ""


def program_class(needs: Any) -> str:
    """Name a class of programs by what is hard about it: integers first, then the largest cone.

    Examples
    --------
    >>> program_class({"LP", "SOC", "MIP"}), program_class({"LP"}), program_class({"LP", "NLP", "COMP"})
    ('MIP+SOC', 'LP', 'COMP+NLP')
    """
    names = {str(need) for need in needs}
    parts: list[str] = [name for name in ("COMP", "MIP", "NLP", "ORACLE") if name in names]
    cones = [name for name in ("SDP", "POW", "EXP", "SOC", "QP", "LP") if name in names]
    if not parts or ("MIP" in parts and cones[:1]):
        parts += cones[:1]
    return "+".join(parts)


# ---------------------------------------------------------------- in the process


def _timed(
    instance: Instance, backend: str, setting: Setting, limits: Limits
) -> tuple[Solution, Seconds, str]:
    started = time.perf_counter()
    program = instance.of().build(instance.size, instance.seed)
    solution = program.solve(
        backend, tolerance=setting.tolerance, time_limit=limits.time, on_failure="return"
    )
    return (
        solution,
        solution.seconds | {"total": time.perf_counter() - started},
        program_class(program.requires()),
    )


def _used() -> tuple[int, float]:
    """Bytes of address space now; GiB of memory at the peak (NaN where the system does not tell)."""
    try:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return pages * os.sysconf("SC_PAGE_SIZE"), peak
    except (ImportError, OSError):
        return 0, math.nan


def _limit(limits: Limits) -> None:
    try:
        import resource
    except ImportError:  # not on this system
        return
    now, _ = _used()
    if now:
        most = now + int(limits.memory * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    # Only so that nothing is left running should the parent be killed.
    most = math.ceil(4 * limits.patience * (os.cpu_count() or 1)) + 60
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _work(
    talk: Connection, log: str, instance: Instance, backend: str, setting: Setting, limits: Limits
) -> None:
    """Warm up, solve, solve again; tell each as it comes."""
    with suppress(AttributeError, OSError):
        os.setsid()  # so that what a solver starts can be stopped with it
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    written = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(written, 1)
    os.dup2(written, 2)
    _limit(limits)
    _, before = _used()
    try:
        talk.send(("started", None))
        small = Instance(instance.family, instance.of().smallest, 0)
        with suppress(Exception):  # what is wrong with it shows in the cell of that size
            _timed(small, backend, setting, limits)
        talk.send(("warm", None))
        solution, seconds, needs = _timed(instance, backend, setting, limits)
        _, peak = _used()
        talk.send(("answered", (solution, seconds, needs, peak - before)))
        spent = seconds["total"]
        for _ in range(limits.runs - 1):
            if spent >= limits.time:
                break
            seconds = _timed(instance, backend, setting, limits)[1]
            spent += seconds["total"]
            talk.send(("again", seconds))
        talk.send(("done", None))
    except (MissingCapability, BackendUnavailable) as error:
        talk.send(("refused", shortened(str(error))))
    except MemoryError as error:
        talk.send(("memory", shortened(f"MemoryError: {error}")))
    except Exception as error:
        traceback.print_exc()
        talk.send(("error", shortened(f"{type(error).__name__}: {error}")))


# ---------------------------------------------------------------- around it


def context() -> Any:
    """Return the context in which processes are started: forked from a clean server where there is one."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        chosen = multiprocessing.get_context("forkserver")
        chosen.set_forkserver_preload(list(PRELOADED))
        return chosen
    return multiprocessing.get_context("spawn")


def run_cell(
    instance: Instance, backend: str, setting: Setting | None = None, limits: Limits | None = None
) -> Outcome:
    """Solve an instance on a backend in a process of its own.

    Parameters
    ----------
    instance : Instance
    backend : str
    setting : Setting, optional
        Default ``"default"``.
    limits : Limits, optional

    Returns
    -------
    Outcome
        Whatever happens: no error of the cell leaves this, only an interrupt from the keyboard does.
    """
    setting = setting or SETTINGS["default"]
    limits = limits or Limits()
    handle, log = tempfile.mkstemp(prefix="mechopt-bench-", suffix=".log")
    os.close(handle)
    here, there = multiprocessing.Pipe(duplex=False)
    process = context().Process(target=_work, args=(there, log, instance, backend, setting, limits))
    try:
        process.start()
        there.close()
        return _listen(here, process, Path(log), limits)
    finally:
        _stop(process)
        here.close()
        with suppress(OSError):
            os.unlink(log)


def run_oracle(instance: Instance, limits: Limits) -> Reference | None:
    """Compute the reference of an instance in a process of its own.

    An exact algorithm may take long, or too much memory, on sizes that nobody has tried.

    Returns
    -------
    Reference or None
        None if the family has none, or if it does not come within the limits.
    """
    if instance.of().refer is None:
        return None
    here, there = multiprocessing.Pipe(duplex=False)
    process = context().Process(target=_tell_reference, args=(there, instance, limits))
    try:
        process.start()
        there.close()
        if not here.poll(START):
            return None
        here.recv()
        found: Reference | None = here.recv() if here.poll(limits.patience) else None
        return found
    except (EOFError, OSError):
        return None
    finally:
        _stop(process)
        here.close()


def _tell_reference(talk: Connection, instance: Instance, limits: Limits) -> None:
    """Tell that it has started, then the reference."""
    with suppress(AttributeError, OSError):
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _limit(limits)
    talk.send("started")
    talk.send(instance.of().oracle(instance.size, instance.seed))


def _listen(talk: Connection, process: Any, log: Path, limits: Limits) -> Outcome:
    """Wait for what a process tells, until it is done, dead or late."""
    answer: tuple[Solution, str, float] | None = None
    runs: list[Seconds] = []
    # Starting up is not the cell's own doing, but must end too.
    deadline = time.monotonic() + START
    doing, patience = "start", START
    while True:
        if not talk.poll(max(deadline - time.monotonic(), 0.0)):
            if answer is None:
                told = f"the {doing} did not end in {patience:.3g} s (time limit {limits.time:g} s)"
                return Outcome(None, "timeout", f"{told}; its process was stopped")
            break
        try:
            kind, content = talk.recv()
        except Exception:  # nothing more, or a message cut short
            if answer is None:
                return _died(process, log)
            break
        patience = limits.patience
        deadline = time.monotonic() + patience
        if kind == "started":
            doing = "warm-up, on the smallest instance,"
        elif kind == "warm":
            doing = "solve"
        elif kind == "answered":
            solution, seconds, needs, memory = content
            answer = solution, needs, memory
            runs.append(seconds)
        elif kind == "again":
            runs.append(content)
        elif kind == "done":
            break
        elif answer is None:
            return Outcome(None, kind, content)
        else:  # a repetition failed: its first answer stands
            break
    assert answer is not None  # nothing else ends the loop
    solution, needs, memory = answer
    if solution.status is Status.FAILED and any(word in solution.reason for word in _OUT_OF_MEMORY):
        return Outcome(None, "memory", shortened(solution.reason), needs=needs)
    return Outcome(solution, "answered", shortened(solution.reason), tuple(runs), memory, needs)


def _died(process: Any, log: Path) -> Outcome:
    process.join(5.0)
    code = process.exitcode
    last = shortened(" ".join(log.read_text(encoding="utf-8", errors="replace").split())[-LONGEST_REASON:])
    if code is not None and code < 0:
        try:
            how = f"killed by {signal.Signals(-code).name}"
        except ValueError:
            how = f"killed by signal {-code}"
    else:
        how = f"ended with exit code {code}"
    state = "memory" if any(word in last for word in _OUT_OF_MEMORY) else "crash"
    return Outcome(None, state, f"{how}: {last}" if last else how)


def _stop(process: Any) -> None:
    """Stop a process and what it has started."""
    if process.pid is None:
        return
    with suppress(AttributeError, OSError):
        os.killpg(process.pid, signal.SIGKILL)  # it leads a group of its own
    if process.is_alive():
        process.kill()
    process.join(5.0)


def shortened(text: str) -> str:
    """Put a reason on one line, and cut it where it is too long."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"
