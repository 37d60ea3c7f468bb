"""Claims: what a paper states, as something that can be run, and the runner that tells what came out.

A claim holds on random instances to a tolerance, or it is refuted by a counterexample. What is false as
printed stays in the ledger with the verdict expected of it, beside the corrected claim.
"""

from __future__ import annotations

import enum
import fnmatch
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mechopt.solvers.errors import BackendUnavailable, InvalidInput, NotApplicable
from mechopt.solvers.rerouting import Solve, rerouted
from mechopt.verification.evidence import noting_confirmations
from mechopt.verification.shrinking import shrink as shrink_instance

Instance = Any

CLEAR = 0.1
"""Share of the first one's gap by which a smaller counterexample must fail: it is not to become marginal."""


class Verdict(enum.StrEnum):
    """What a run says about a claim."""

    HOLDS = "holds"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Finding:
    """What checking one instance gave.

    Attributes
    ----------
    gap : float
        By how much the statement fails, on the claim's own relative scale; 0 or less if it holds exactly.
    witness : str
        What a reader needs to see the failure: the numbers on both sides.
    applies : bool
        Whether the instance meets the hypotheses of the statement; if not, it does not count.
    """

    gap: float
    witness: str = ""
    applies: bool = True


@dataclass(frozen=True)
class Claim:
    """One statement of a paper, runnable.

    Attributes
    ----------
    id : str
        ``"contract/R13"``: the wing, and the number under which the project knows the result.
    source : str
        Where the paper says it: theorem, proposition or equation number.
    statement : str
        One sentence.
    instances : callable
        ``instances(rng, n)`` yields ``n`` instances (worked examples first, then random ones).
    check : callable
        ``check(instance)`` returns a `Finding`.
    tolerance : float
        The gap up to which the statement counts as true.
    expected : Verdict
        ``HOLDS``, or ``REFUTED`` for a statement that is false as printed.
    corrected_by : str
        For a refuted statement: id of the claim that says it right.
    n_instances : int
        How many instances a run takes by default.
    confirm_exactly : callable, optional
        ``confirm_exactly(instance)`` returns the gap in rationals (`fractions.Fraction`), or what it is at
        least, computed without rounding; it raises `NotApplicable` where the instance has irrational numbers
        in it. A failure in floating point then counts only if it is one in rationals too.
    """

    id: str
    source: str
    statement: str
    instances: Callable[[np.random.Generator, int], Iterable[Instance]]
    check: Callable[[Instance], Finding]
    tolerance: float
    expected: Verdict = Verdict.HOLDS
    corrected_by: str = ""
    n_instances: int = 100
    confirm_exactly: Callable[[Instance], Fraction] | None = None

    def __post_init__(self) -> None:
        if self.expected is Verdict.REFUTED and not self.corrected_by:
            raise InvalidInput(f"claim {self.id!r} is expected to be refuted: say which claim corrects it")


@dataclass(frozen=True)
class BackendRow:
    """How one backend fared when the programs of a claim were sent to it.

    Attributes
    ----------
    backend : str
    state : {"agrees", "coarse", "inaccurate", "at fault", "differs", "silent", "cannot", "error"}
        ``"coarse"`` fails where others pass, with their objectives to the tolerance it was asked for;
        ``"inaccurate"`` says itself that its answer is not optimal; ``"at fault"`` called it optimal, or
        called infeasible or unbounded what another solved; ``"differs"`` if nothing decides who is right;
        ``"silent"`` gave no answer; ``"cannot"`` lacks a capability; ``"error"`` if the check broke on its
        answer.
    n_checked : int
        Instances that it answered, and that met the hypotheses.
    n_failed : int
        Those among them on which the statement failed.
    worst : float
        Largest gap, NaN if none.
    told : str
        What a reader needs to see: instance, numbers, what is lacking.
    seconds : float
    """

    backend: str
    state: str
    n_checked: int
    n_failed: int
    worst: float
    told: str
    seconds: float

    @property
    def surprising(self) -> bool:
        """Whether the backend called an answer optimal that others show to be wrong."""
        return self.state == "at fault"

    def summary(self) -> dict[str, Any]:
        """Plain record for tables and JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Outcome:
    """What running one claim gave.

    Attributes
    ----------
    claim : Claim
    verdict : Verdict
    n_checked : int
        Instances that met the hypotheses.
    worst : float
        Largest gap seen.
    counterexample : Instance or None
        For a refutation, the instance with the fewest entries among those that fail; smaller still, if the
        run was asked to shrink it.
    witness : str
        What fails there, in numbers; for an undecided claim, why.
    seconds : float
    n_failed : int
        Instances that failed.
    gap : float
        By how much the statement fails at the counterexample; NaN without one.
    exact_gap : Fraction or None
        The same in rationals, or what it is at least, where the claim can confirm it so.
    found_as : Instance or None
        The counterexample before it was shrunk; None if it is as it was drawn.
    n_shrinking : int
        Checks that shrinking took.
    solved_by : tuple of str
        Backends that solved the programs of the check; empty if it solved none.
    backends : tuple of BackendRow
        How other backends fared, if asked for.
    confirmed : tuple of str
        What a second computation bore out at the counterexample.
    """

    claim: Claim
    verdict: Verdict
    n_checked: int
    worst: float
    counterexample: Instance | None = None
    witness: str = ""
    seconds: float = 0.0
    n_failed: int = 0
    gap: float = float("nan")
    exact_gap: Fraction | None = None
    found_as: Instance | None = None
    n_shrinking: int = 0
    solved_by: tuple[str, ...] = ()
    backends: tuple[BackendRow, ...] = ()
    confirmed: tuple[str, ...] = ()

    @property
    def twice_computed(self) -> bool:
        """Whether a refutation was borne out in rationals or by a second computation."""
        return self.verdict is Verdict.REFUTED and (self.exact_gap is not None or bool(self.confirmed))

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the one that the ledger states."""
        return self.verdict is self.claim.expected

    @property
    def faults(self) -> tuple[BackendRow, ...]:
        """Backends that called a wrong answer optimal."""
        return tuple(row for row in self.backends if row.surprising)

    def summary(self) -> dict[str, Any]:
        """Plain record for tables and JSON."""
        return {
            "id": self.claim.id,
            "source": self.claim.source,
            "statement": self.claim.statement,
            "expected": str(self.claim.expected),
            "verdict": str(self.verdict),
            "as_expected": self.as_expected,
            "corrected_by": self.claim.corrected_by,
            "n_checked": self.n_checked,
            "n_failed": self.n_failed,
            "worst_gap": self.worst,
            "tolerance": self.claim.tolerance,
            "counterexample": None if self.counterexample is None else repr(self.counterexample),
            "gap": None if np.isnan(self.gap) else self.gap,
            "exact_gap": None if self.exact_gap is None else str(self.exact_gap),
            "witness": self.witness,
            "confirmed": "; ".join(self.confirmed),
            "solved_by": ", ".join(self.solved_by),
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        told = f"{self.claim.id}: {self.verdict}"
        if self.verdict is Verdict.HOLDS:
            told += f" on {self.n_checked} instances, worst gap {self.worst:.1e}"
        if self.verdict is Verdict.REFUTED:
            told += f" on {self.n_failed} of {self.n_checked} instances"
        if self.counterexample is not None:
            told += f"\n  at {self.counterexample}"
        if self.witness:
            told += f"\n  {self.witness}"
        if self.exact_gap is not None:
            told += f"\n  in rationals it fails by {self.exact_gap}"
        for fact in self.confirmed:
            told += f"\n  confirmed: {fact}"
        for row in self.backends:
            told += f"\n  {row.backend}: {row.state}" + (f"; {row.told}" if row.told else "")
        return told


@dataclass
class Ledger:
    """A collection of claims under unique ids."""

    claims: dict[str, Claim] = field(default_factory=dict)

    def add(self, claim: Claim) -> Claim:
        """Add a claim; its id must be new."""
        if claim.id in self.claims:
            raise InvalidInput(f"there is already a claim {claim.id!r}")
        self.claims[claim.id] = claim
        return claim

    def claim(self, id: str, **fields: Any) -> Callable[[Callable[[Instance], Finding]], Claim]:
        """Make the decorated check a claim of this ledger; ``fields`` are those of `Claim`."""

        def enter(check: Callable[[Instance], Finding]) -> Claim:
            return self.add(Claim(id=id, check=check, **fields))

        return enter

    def select(self, pattern: str = "*") -> tuple[Claim, ...]:
        """Return the claims whose id matches: a glob, a wing (``"contract"``), or an id."""
        chosen = tuple(
            claim
            for name, claim in self.claims.items()
            if fnmatch.fnmatch(name, pattern) or name.split("/")[0] == pattern
        )
        if not chosen:
            wings = sorted({name.split("/")[0] for name in self.claims})
            # A number without its wing is the likeliest slip.
            alike = [name for name in self.claims if name.lower().split("/")[-1] == pattern.lower()]
            likely = ", ".join(map(repr, alike or list(self.claims)[:1])) or "none"
            raise InvalidInput(
                f"no claim matches {pattern!r}; there are {', '.join(wings)}, for example {likely}"
            )
        return chosen

    def __iter__(self) -> Iterator[Claim]:
        return iter(self.claims.values())


@dataclass(frozen=True)
class Trial:
    """One instance, checked.

    Attributes
    ----------
    number : int
        Its place among the instances of the run.
    instance : Instance
    finding : Finding or None
        None if the check broke.
    error : Exception or None
        What broke it.
    solves : tuple of Solve
        The programs that the check solved.
    confirmed : tuple of str
        What a second computation bore out; see `evidence.confirm`.
    """

    number: int
    instance: Instance
    finding: Finding | None
    error: Exception | None = None
    solves: tuple[Solve, ...] = ()
    confirmed: tuple[str, ...] = ()

    @property
    def applies(self) -> bool:
        """Whether the instance was checked, and meets the hypotheses."""
        return self.finding is not None and self.finding.applies

    def fails(self, claim: Claim) -> bool:
        """Whether the instance contradicts the statement."""
        return self.finding is not None and self.finding.applies and self.finding.gap > claim.tolerance


def try_instance(
    claim: Claim,
    number: int,
    instance: Instance,
    backend: str | None = None,
    time_limit: float | None = None,
) -> Trial:
    """Check one instance, the programs in it on another backend if so asked."""
    with rerouted(backend, time_limit=time_limit) as watch, noting_confirmations() as facts:
        try:
            finding = claim.check(instance)
        except Exception as error:  # a check that breaks decides nothing, and must not end the run
            return Trial(number, instance, None, error, tuple(watch.solves))
    return Trial(number, instance, finding, None, tuple(watch.solves), tuple(facts))


def try_all(
    claim: Claim, *, n_instances: int | None = None, seed: int = 0, seconds: float | None = None
) -> Iterator[Trial]:
    """Check instances one after the other, until the first that decides nothing.

    With ``seconds``, the instances end then too, but not before one has met the hypotheses and, if the claim
    is expected to be refuted, one has failed. They are the first ones of the run without.
    """
    started = time.perf_counter()
    rng = np.random.default_rng([seed, *claim.id.encode()])
    found = False
    for number, instance in enumerate(_drawn(claim, rng, n_instances or claim.n_instances)):
        if isinstance(instance, _Broken):
            yield Trial(number, None, None, instance.error)
            return
        trial = try_instance(claim, number, instance)
        yield trial
        if trial.finding is None or (trial.applies and np.isnan(trial.finding.gap)):
            return
        found |= trial.applies and (claim.expected is not Verdict.REFUTED or trial.fails(claim))
        if seconds is not None and found and time.perf_counter() - started >= seconds:
            return


@dataclass(frozen=True)
class _Broken:
    """Stands for an instance that could not be drawn."""

    error: Exception


def _drawn(claim: Claim, rng: np.random.Generator, n: int) -> Iterator[Instance]:
    try:
        yield from claim.instances(rng, n)
    except Exception as error:  # as where a check breaks
        yield _Broken(error)


def run_claim(
    claim: Claim,
    *,
    n_instances: int | None = None,
    seed: int = 0,
    seconds: float | None = None,
    shrink: int = 0,
) -> Outcome:
    """Check a claim on its instances.

    The verdict is ``HOLDS`` if every instance that meets the hypotheses does, and ``REFUTED`` if one fails
    by more than the tolerance. It is ``UNDECIDED`` if none met the hypotheses, a gap is not a number, the
    check itself broke or needs a backend that is not installed, or a claim that can be confirmed in
    rationals has no failure that is.

    Parameters
    ----------
    claim : Claim
    n_instances : int, optional
        Default: the claim's own number.
    seed : int
        Seed of the generator that the instances draw from; together with the id it fixes the run.
    seconds : float, optional
        Take no more instances after this long: see `try_all`.
    shrink : int
        How many checks may go into making a counterexample smaller; see `shrunk`.

    Returns
    -------
    Outcome
    """
    started = time.perf_counter()
    outcome = judge(claim, try_all(claim, n_instances=n_instances, seed=seed, seconds=seconds))
    if shrink:
        outcome = shrunk(outcome, shrink)
    return replace(outcome, seconds=time.perf_counter() - started)


def judge(claim: Claim, trials: Iterable[Trial]) -> Outcome:
    """Give the verdict on a claim from what its instances gave."""
    worst, n_checked, failures, solvers = -np.inf, 0, list[Trial](), dict[str, None]()

    def undecided(why: str, instance: Instance | None = None) -> Outcome:
        shown = worst if n_checked else float("nan")
        return Outcome(
            claim, Verdict.UNDECIDED, n_checked, shown, instance, why, n_failed=len(failures), solved_by=by()
        )

    def by() -> tuple[str, ...]:
        return tuple(solvers)

    for trial in trials:
        solvers.update(dict.fromkeys(solve.backend for solve in trial.solves))
        if isinstance(trial.error, BackendUnavailable):
            return undecided(f"instance {trial.number} was not checked: {trial.error}", trial.instance)
        if trial.error is not None:
            broken = "the check" if trial.instance is not None else "the family of instances"
            why = f"{broken} broke on instance {trial.number}: {_told(claim, trial)}"
            return undecided(why, trial.instance)
        if trial.finding is None or not trial.applies:
            continue
        n_checked += 1
        if np.isnan(trial.finding.gap):
            return undecided(
                f"the gap of instance {trial.number} is not a number; {trial.finding.witness}", trial.instance
            )
        worst = max(worst, trial.finding.gap)
        if trial.fails(claim):
            failures.append(trial)
    if not n_checked:
        return undecided("no instance met the hypotheses")
    if not failures:
        return Outcome(claim, Verdict.HOLDS, n_checked, worst, solved_by=by())
    failures.sort(key=lambda trial: (instance_size(trial.instance), trial.number))
    for trial in failures:
        borne_out, exact_gap = borne_out_exactly(claim, trial.instance)
        if borne_out and trial.finding is not None:
            return Outcome(
                claim,
                Verdict.REFUTED,
                n_checked,
                worst,
                trial.instance,
                trial.finding.witness,
                n_failed=len(failures),
                gap=float(trial.finding.gap),
                exact_gap=exact_gap,
                solved_by=by(),
                confirmed=trial.confirmed,
            )
    return undecided(
        f"{len(failures)} of {n_checked} instances fail in floating point, by up to {worst:.1e}, and none of "
        "them in rationals",
        failures[0].instance,
    )


def borne_out_exactly(claim: Claim, instance: Instance) -> tuple[bool, Fraction | None]:
    """Tell whether a failure stands in rationals, and by how much; it stands where they cannot tell."""
    if claim.confirm_exactly is None:
        return True, None
    try:
        gap = claim.confirm_exactly(instance)
    except NotApplicable:
        return True, None
    return gap > claim.tolerance, gap


def shrunk(outcome: Outcome, max_checks: int) -> Outcome:
    """Make the counterexample of a refutation smaller while it is one: fewer entries, rounder numbers.

    The smaller ones meet the hypotheses, fail by at least a tenth of the gap of the first, and do so in
    rationals where the claim can tell. Nothing in it depends on the clock.
    """
    claim = outcome.claim
    if outcome.verdict is not Verdict.REFUTED or outcome.counterexample is None:
        return outcome
    least = max(claim.tolerance, CLEAR * outcome.gap)

    def fails(instance: Instance) -> bool:
        trial = try_instance(claim, 0, instance)
        if trial.finding is None or not trial.fails(claim) or trial.finding.gap < least:
            return False
        return borne_out_exactly(claim, instance)[0]

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # Most of what is tried is no sensible instance, and only those that fail cleanly are kept.
        warnings.simplefilter("ignore")
        smaller, n_checks = shrink_instance(outcome.counterexample, fails, max_checks=max_checks)
        if smaller is outcome.counterexample:
            return replace(outcome, n_shrinking=n_checks)
        trial = try_instance(claim, 0, smaller)
        assert trial.finding is not None, "it was checked by fails, above"
    return replace(
        outcome,
        counterexample=smaller,
        witness=trial.finding.witness,
        gap=float(trial.finding.gap),
        confirmed=trial.confirmed,
        exact_gap=borne_out_exactly(claim, smaller)[1],
        found_as=outcome.counterexample,
        n_shrinking=n_checks,
    )


def _told(claim: Claim, trial: Trial) -> str:
    """Tell what broke a check, and at which of its own lines: not at one of what it calls."""
    assert trial.error is not None
    frames = traceback.extract_tb(trial.error.__traceback__)
    home = getattr(sys.modules.get(claim.check.__module__), "__file__", None)
    where = next((frame for frame in reversed(frames) if frame.filename == home), frames[-1])
    place = f"{Path(where.filename).name}, line {where.lineno}"
    return f"{type(trial.error).__name__}: {trial.error} ({place})"


def instance_size(instance: Instance) -> int:
    """Return the number of scalar parameters of an instance: with fewer it is easier to read."""
    if isinstance(instance, dict):
        return sum(instance_size(value) for value in instance.values())
    if hasattr(instance, "__dataclass_fields__"):
        return sum(instance_size(getattr(instance, name)) for name in instance.__dataclass_fields__)
    if isinstance(instance, list | tuple):
        return sum(map(instance_size, instance))
    return int(np.size(instance))


def run_claims(
    claims: Iterable[Claim],
    *,
    n_instances: int | None = None,
    seed: int = 0,
    progress: Callable[[Claim], None] | None = None,
) -> list[Outcome]:
    """Run claims one after the other; ``progress`` is called before each."""
    outcomes = []
    for claim in claims:
        if progress is not None:
            progress(claim)
        outcomes.append(run_claim(claim, n_instances=n_instances, seed=seed))
    return outcomes
