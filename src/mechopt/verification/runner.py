"""Many claims, one after the other or in processes of their own, as they come out.

Processes are started afresh (not forked), look claims up in a ledger that they load themselves, and send
back the outcome without the claim: checks are functions behind decorators, which do not travel. A solver that
takes its process down costs one claim.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection, wait
from typing import Any

from mechopt.solvers.errors import InvalidInput
from mechopt.verification.by_backend import PROGRAM_SECONDS, run_claim_on
from mechopt.verification.claim import Claim, Ledger, Outcome, Verdict, run_claim, shrunk

QUICK_SECONDS = 25.0
"""What instances take in a quick run of any number of claims; a check once begun is finished."""
GRACE = 3.0
"""Seconds that a process gets to end before it is told less politely."""


@dataclass(frozen=True)
class RunSettings:
    """How claims are run.

    Attributes
    ----------
    n_instances : int or None
        Default: each claim's own number.
    seed : int
    seconds : float or None
        Take no more instances of a claim after this long; see `run_claim`.
    shrink : int
        Checks that may go into making a counterexample smaller.
    shrink_expected : bool
        Whether also those of claims that are expected to be refuted.
    backends : tuple of str
        Send the programs of checks to these too; see `run_claim_on`.
    time_limit : float or None
        Seconds a program there.
    """

    n_instances: int | None = None
    seed: int = 0
    seconds: float | None = None
    shrink: int = 0
    shrink_expected: bool = True
    backends: tuple[str, ...] = ()
    time_limit: float | None = PROGRAM_SECONDS

    def run(self, claim: Claim) -> Outcome:
        """Run one claim."""
        if self.backends:
            outcome = run_claim_on(
                claim,
                self.backends,
                n_instances=self.n_instances,
                seed=self.seed,
                seconds=self.seconds,
                time_limit=self.time_limit,
            )
        else:
            outcome = run_claim(claim, n_instances=self.n_instances, seed=self.seed, seconds=self.seconds)
        if self.shrink and (self.shrink_expected or not outcome.as_expected):
            outcome = shrunk(outcome, self.shrink)
        return outcome


def quick_seconds(n_claims: int, jobs: int = 1, n_backends: int = 0) -> float:
    """Share the time of a quick run between claims: seconds for each, on each backend; at most one."""
    return min(1.0, QUICK_SECONDS * jobs / max(n_claims, 1) / (1 + n_backends))


def iter_outcomes(
    claims: Iterable[Claim],
    settings: RunSettings | None = None,
    *,
    jobs: int = 1,
    load: Callable[[], Ledger] | None = None,
    progress: Callable[[Claim], None] | None = None,
) -> Iterator[Outcome]:
    """Run claims, and yield outcomes as they come out.

    Parameters
    ----------
    claims : iterable of Claim
    settings : RunSettings, optional
    jobs : int
        Number of processes; 1 runs everything here.
    load : callable, optional
        For several jobs: a function of some module, which returns the ledger that has these claims.
    progress : callable, optional
        Called before each claim.

    Raises
    ------
    InvalidInput
        If there are several jobs and no ``load``, or fewer than one.
    """
    settings = settings or RunSettings()
    listed = list(claims)
    if jobs < 1:
        raise InvalidInput(f"jobs must be at least 1, got {jobs!r}")
    if jobs == 1 or len(listed) < 2:
        return _here(listed, settings, progress)
    if load is None:
        raise InvalidInput(
            "to run claims in several processes, pass load=<function of a module that returns their ledger>; "
            "checks themselves do not travel between processes"
        )
    return _apart(listed, settings, min(jobs, len(listed)), load, progress)


def _here(
    claims: list[Claim], settings: RunSettings, progress: Callable[[Claim], None] | None
) -> Iterator[Outcome]:
    for claim in claims:
        if progress is not None:
            progress(claim)
        yield settings.run(claim)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back, also from a process that is started inside: it would show what it was importing."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker:
    """A process, the pipe to it, and the claim it is at."""

    def __init__(self, load: Callable[[], Ledger], settings: RunSettings) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, load, settings), daemon=True)
        with _without_interrupts():
            self.process.start()
        other.close()
        self.claim: Claim | None = None

    def give(self, claim: Claim) -> None:
        self.claim = claim
        # A process that has died already is noticed when its answer is read.
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send(claim.id)

    def take(self) -> Outcome:
        """Read the outcome of the claim that was given."""
        assert self.claim is not None
        claim, self.claim = self.claim, None
        try:
            return Outcome(claim, **self.pipe.recv())
        except (EOFError, ConnectionResetError):
            self.process.join(GRACE)
            why = f"its process ended with exit code {self.process.exitcode}; run this claim with one job"
            return Outcome(claim, Verdict.UNDECIDED, 0, float("nan"), witness=why)

    def stop(self) -> None:
        if self.claim is not None:
            self.process.terminate()
        self.pipe.close()  # an idle process then ends by itself
        self.process.join(GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join(GRACE)


def _apart(
    claims: list[Claim],
    settings: RunSettings,
    jobs: int,
    load: Callable[[], Ledger],
    progress: Callable[[Claim], None] | None,
) -> Iterator[Outcome]:
    waiting = list(reversed(claims))
    workers: list[_Worker] = []

    def give(worker: _Worker) -> None:
        claim = waiting.pop()
        if progress is not None:
            progress(claim)
        worker.give(claim)

    try:
        for _ in range(jobs):
            workers.append(_Worker(load, settings))
            give(workers[-1])
        while busy := {worker.pipe: worker for worker in workers if worker.claim is not None}:
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                outcome = worker.take()
                if waiting:
                    if not worker.process.is_alive():
                        worker.stop()
                        workers.remove(worker)
                        worker = _Worker(load, settings)
                        workers.append(worker)
                    give(worker)
                yield outcome
    finally:
        # Also where the caller stops early, or Ctrl-C arrives.
        for worker in workers:
            worker.stop()


def _work(pipe: Connection, load: Callable[[], Ledger], settings: RunSettings) -> None:
    """Answer ids with outcomes, in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    # An orderly exit, so that libraries give back what they hold of the system.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ledger = load()
    while True:
        try:
            claim = ledger.claims[pipe.recv()]
        except (EOFError, OSError):  # the parent has closed the pipe, or is gone
            return
        outcome = settings.run(claim)
        parts = {f.name: getattr(outcome, f.name) for f in fields(outcome) if f.name != "claim"}
        try:
            pipe.send(parts)
        except Exception as error:  # an instance that does not pickle
            pipe.send(_without_instance(parts, error))


def _without_instance(parts: dict[str, Any], error: Exception) -> dict[str, Any]:
    told = f"{parts['witness']} [the instance does not travel between processes: {error}; run with one job]"
    return {**parts, "counterexample": None, "found_as": None, "witness": told}
