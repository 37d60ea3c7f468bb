"""A claim on several backends: where a backend, and not the theory, is at fault.

The instances are those of the plain run. Each check that solves programs is run again with its programs sent
to another backend (`mechopt.solvers.rerouting`); its closed forms, exact algorithms and searches stay. So a
check that passes on one backend and fails on another, at the same instance, was failed by the backend.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mechopt.solvers.errors import BackendUnavailable, InvalidInput, MissingCapability
from mechopt.solvers.solution import Status
from mechopt.verification.claim import (
    BackendRow,
    Claim,
    Instance,
    Outcome,
    Trial,
    Verdict,
    judge,
    shrunk,
    try_all,
    try_instance,
)

NO_PROGRAM = "no program"
DISAGREEING = ("at fault", "differs", "inaccurate", "coarse")
"""States of a backend that disagrees, the worst first."""
UNSURE = (Status.INACCURATE, Status.LIMIT, Status.FAILED)
"""Statuses with which a backend itself says that its answer is none to rely on."""
PROGRAM_SECONDS = 10.0
"""Limit of a program that is sent to another backend, where the check gives none."""


@dataclass
class _Run:
    """One backend's trials of the instances, by their numbers."""

    backend: str
    trials: dict[int, Trial] = field(default_factory=dict)
    seconds: float = 0.0
    cut: bool = False

    def passed(self, claim: Claim) -> set[int]:
        return {n for n in self.judged() if not self.trials[n].fails(claim)}

    def failed(self, claim: Claim) -> set[int]:
        return {n for n in self.judged() if self.trials[n].fails(claim)}

    def judged(self) -> set[int]:
        """Instances within the hypotheses that came to a gap."""
        return {
            n
            for n, t in self.trials.items()
            if t.finding is not None and t.applies and t.finding.gap == t.finding.gap
        }


def run_claim_on(
    claim: Claim,
    backends: Sequence[str],
    *,
    n_instances: int | None = None,
    seed: int = 0,
    seconds: float | None = None,
    time_limit: float | None = PROGRAM_SECONDS,
    shrink: int = 0,
) -> Outcome:
    """Run a claim as it stands, then with its programs sent to each of the backends.

    Parameters
    ----------
    claim : Claim
    backends : sequence of str
        Names from `mechopt.backends`.
    n_instances, seed, shrink
        See `run_claim`.
    seconds : float, optional
        Take no more instances after this long, on each backend: see `run_claim`.
    time_limit : float, optional
        Seconds a program on a backend that the check did not ask for.

    Returns
    -------
    Outcome
        With a row for each backend; without rows if the check solves no program. A claim that fails only
        where the backend of the check is at fault holds, by the others.

    Notes
    -----
    Who is at fault: a check compares a program's answer with a road that needs no program. Where one backend
    passes it and another does not, two roads agree against the one that fails. For a statement that is
    expected to be refuted a failure is the rule, and the larger number of backends decides; if they are as
    many, they only differ. A backend that says itself that its answer is not optimal is not called at fault,
    nor one whose objectives are those of a backend that passes, to the tolerance that was asked for: where an
    optimum is flat an objective tells the point, the prices and what is derived from them less closely. One
    that calls a program infeasible or unbounded is at fault where another has an answer to it.

    A check that compares two backends has both of its programs sent to the same one, and then says less.
    """
    started = time.perf_counter()
    own = _Run("as asked")
    for trial in try_all(claim, n_instances=n_instances, seed=seed, seconds=seconds):
        own.trials[trial.number] = trial
    own.seconds = time.perf_counter() - started
    outcome = judge(claim, own.trials.values())
    movable = {n: t for n, t in own.trials.items() if any(solve.movable for solve in t.solves)}
    # A check whose program could not even be solved as asked may yet be solved elsewhere.
    movable |= {n: t for n, t in own.trials.items() if isinstance(t.error, MissingCapability)}
    if movable:
        runs = [_again(claim, movable, name, seconds, time_limit) for name in backends]
        own.backend = " and ".join(outcome.solved_by) or own.backend
        outcome = _compare(claim, own, runs, outcome)
    if shrink:
        outcome = shrunk(outcome, shrink)
    return replace(outcome, seconds=time.perf_counter() - started)


def _again(
    claim: Claim, trials: dict[int, Trial], backend: str, seconds: float | None, time_limit: float | None
) -> _Run:
    """Check the instances once more on one backend."""
    run, started = _Run(backend), time.perf_counter()
    with warnings.catch_warnings():
        # What a backend says of its own accuracy is in its status, which the row reports.
        warnings.simplefilter("ignore")
        for number, trial in trials.items():
            if seconds is not None and run.trials and time.perf_counter() - started >= seconds:
                run.cut = True
                break
            asked_it = all(s.backend == backend for s in trial.solves if s.movable)
            same = trial.error is None and asked_it
            run.trials[number] = (
                trial if same else try_instance(claim, number, trial.instance, backend, time_limit)
            )
    run.seconds = time.perf_counter() - started
    return run


def _compare(claim: Claim, own: _Run, runs: Iterable[_Run], outcome: Outcome) -> Outcome:
    listed = list(runs)
    # A backend that the check asked for anyway is no second voice.
    voices = [own, *(run for run in listed if run.backend != own.backend)]
    wrong: dict[str, dict[int, str]] = {run.backend: {} for run in voices}
    for number in own.trials:
        passing = [run for run in voices if number in run.passed(claim)]
        failing = [run for run in voices if number in run.failed(claim)]
        if not (passing and failing):
            continue
        if claim.expected is not Verdict.REFUTED or len(passing) > len(failing):
            accused, others, decided = failing, passing, True
        elif len(failing) > len(passing):
            accused, others, decided = passing, failing, True
        else:
            accused, others, decided = passing, failing, False
            if own in passing:
                accused, others = failing, passing
        for run in accused:
            wrong[run.backend][number] = _disagreement(run, others, number, decided)
    for run in voices[1:]:
        for number, trial in run.trials.items():
            asked = own.trials[number]
            if _denies(trial, asked):
                wrong[run.backend][number] = "at fault"
            if _denies(asked, trial):
                wrong[own.backend][number] = "at fault"
    rows = []
    if wrong[own.backend]:
        rows.append(_row(claim, own, wrong[own.backend], own))
    rows += [
        _row(claim, run, wrong.get(run.backend, {}), own)
        for run in listed
        if run.backend != own.backend or not rows
    ]
    outcome = replace(outcome, backends=tuple(rows))
    blamed = {n for n, how in wrong[own.backend].items() if how != "differs" and n in own.failed(claim)}
    if outcome.verdict is Verdict.REFUTED and blamed == own.failed(claim):
        passed = [run.trials[n] for run in listed for n in blamed if n in run.passed(claim)]
        kept = [own.trials[n] for n in own.passed(claim)] + passed
        worst = max(float(trial.finding.gap) for trial in kept if trial.finding is not None)
        return Outcome(
            claim,
            Verdict.HOLDS,
            outcome.n_checked,
            worst,
            witness=f"fails on {len(blamed)} instances by {own.backend}; other backends confirm it there",
            solved_by=outcome.solved_by,
            backends=outcome.backends,
        )
    return outcome


def _disagreement(run: _Run, others: list[_Run], number: int, decided: bool) -> str:
    """Tell how a backend disagrees with others at one instance."""
    trial = run.trials[number]
    if any(solve.status in UNSURE for solve in trial.solves):
        return "inaccurate"
    if any(_same_objectives(trial, other.trials[number]) for other in others):
        return "coarse"
    return "at fault" if decided else "differs"


def _same_objectives(trial: Trial, other: Trial) -> bool:
    """Whether all programs have the same objectives in both, to the tolerances that were asked for."""
    pairs = list(zip(trial.solves, other.solves, strict=False))
    if not pairs or len(trial.solves) != len(other.solves):
        return False
    return all(
        a.program == b.program
        and (a.status is b.status is Status.INFEASIBLE or abs(a.objective - b.objective) <= a.slack + b.slack)
        for a, b in pairs
    )


def _denies(trial: Trial, other: Trial) -> bool:
    """Whether a program is called infeasible or unbounded to which the other has an answer, checked."""
    pairs = zip(trial.solves, other.solves, strict=False)
    denied = (Status.INFEASIBLE, Status.UNBOUNDED)
    return any(a.program == b.program and a.status in denied and b.status is Status.OPTIMAL for a, b in pairs)


def _row(claim: Claim, run: _Run, wrong: dict[int, str], own: _Run) -> BackendRow:
    """Sum up a backend: whether it could, whether it answered, and whether it was right."""
    judged, failed = run.judged(), run.failed(claim)
    gaps = {n: float(t.finding.gap) for n, t in run.trials.items() if n in judged and t.finding is not None}
    lacking = [t.error for t in run.trials.values() if isinstance(t.error, MissingCapability)]
    absent = [t.error for t in run.trials.values() if isinstance(t.error, BackendUnavailable)]
    silent = [t for t in run.trials.values() if _silent(t)]
    unpriced = [t for t in run.trials.values() if _unpriced(t)]
    told_apart = {t.number for t in (*silent, *unpriced)}
    broken = [
        t
        for t in run.trials.values()
        if t.error is not None
        and t.number not in told_apart
        and not isinstance(t.error, MissingCapability | BackendUnavailable)
    ]
    notes = []
    if wrong:
        state, told = _verdict(run, wrong, gaps, own)
        notes.append(told)
    elif broken:
        state = "error"
    elif silent:
        state = "silent"
    elif judged or not (lacking or absent or unpriced):
        state = "agrees"
    else:
        state = "cannot"
    if lacking:
        parts = dict.fromkeys(part for error in lacking for part in error.missing)
        notes.append(f"lacks {', '.join(parts)}" + (f" for {len(lacking)} instances" if judged else ""))
    notes += [str(absent[0])] if absent else []
    notes += [f"no shadow prices on {len(unpriced)} of {len(run.trials)}"] if unpriced else []
    if silent:
        notes.append(f"no answer on {len(silent)} of {len(run.trials)}: {_why(silent[0])}")
    if broken:
        notes.append(f"the check broke: {type(broken[0].error).__name__}: {broken[0].error}")
    if run.cut:
        notes.append("stopped after its time")
    return BackendRow(
        run.backend,
        state,
        len(judged),
        len(failed),
        max(gaps.values(), default=float("nan")),
        "; ".join(notes),
        run.seconds,
    )


def _verdict(run: _Run, wrong: dict[int, str], gaps: dict[int, float], own: _Run) -> tuple[str, str]:
    """Tell how a backend that disagrees does so, by the worst of its own instances."""
    state = min(wrong.values(), key=DISAGREEING.index)
    pool = [number for number, how in wrong.items() if how == state]
    number = max(pool, key=lambda n: gaps.get(n, np.inf))
    trial = run.trials[number]
    statuses = ", ".join(dict.fromkeys(str(s.status) for s in trial.solves if s.movable))
    other = own.trials[number].finding
    told = f"{len(pool)} instances; at {_shown(trial.instance)} "
    if number not in gaps:
        return state, f"{told}it says {statuses} of a program of which another has an answer"
    told += f"its answer ({statuses}) gives a gap of {gaps[number]:.1e}"
    if other is not None and run is not own:
        told += f", that of {own.backend} {other.gap:.1e}"
    if state == "coarse":
        return state, f"{told}; objectives are right to the {trial.solves[0].tolerance:.0e} asked for"
    objectives = _objectives(trial, own.trials[number])
    return state, told + (f"; {objectives}" if objectives and run is not own else "")


def _objectives(trial: Trial, own: Trial) -> str:
    """Objectives of the program on which two backends differ most."""
    pairs = [(a, b) for a, b in zip(trial.solves, own.solves, strict=False) if a.program == b.program]
    apart = [
        (abs(a.objective - b.objective), a, b)
        for a, b in pairs
        if np.isfinite([a.objective, b.objective]).all()
    ]
    if not apart:
        return ""
    _, a, b = max(apart, key=lambda pair: pair[0])
    return f"objective of {a.program!r} {a.objective:.9g} against {b.objective:.9g}"


def _silent(trial: Trial) -> bool:
    """Whether the check came to nothing because a program had no usable answer."""
    nothing = trial.finding is None or bool(np.isnan(trial.finding.gap))
    unsolved = any(not solve.status.ok for solve in trial.solves)
    refused = isinstance(trial.error, MissingCapability | BackendUnavailable)
    return nothing and unsolved and not refused


def _unpriced(trial: Trial) -> bool:
    """Whether the check asked for a shadow price that this backend does not compute."""
    without = any(solve.movable and solve.status.ok and not solve.priced for solve in trial.solves)
    return without and isinstance(trial.error, InvalidInput) and "no shadow price" in str(trial.error)


def _why(trial: Trial) -> str:
    solve = next(solve for solve in trial.solves if not solve.status.ok)
    return f"{solve.status}, {solve.reason}"


def _shown(instance: Instance, width: int = 160) -> str:
    text = repr(instance)
    return text if len(text) <= width else text[: width - 1] + "…"
