"""Claims: what a paper states, as something that can be run, and the runner that tells what came out.

A claim holds on random instances to a tolerance, or it is refuted by a counterexample. What is false as
printed stays in the ledger with the verdict expected of it, beside the corrected claim.
"""

from __future__ import annotations

import enum
import fnmatch
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mechopt.solvers.errors import InvalidInput

Instance = Any


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

    def __post_init__(self) -> None:
        if self.expected is Verdict.REFUTED and not self.corrected_by:
            raise InvalidInput(f"claim {self.id!r} is expected to be refuted: say which claim corrects it")


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
        For a refutation, the instance with the fewest entries among those that fail.
    witness : str
        What fails there, in numbers; for an undecided claim, why.
    seconds : float
    """

    claim: Claim
    verdict: Verdict
    n_checked: int
    worst: float
    counterexample: Instance | None = None
    witness: str = ""
    seconds: float = 0.0
    n_failed: int = 0

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the one that the ledger states."""
        return self.verdict is self.claim.expected

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
            "witness": self.witness,
            "seconds": self.seconds,
        }


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
            raise InvalidInput(
                f"no claim matches {pattern!r}; there are {', '.join(wings)}, for example "
                f"{next(iter(self.claims), 'none')!r}"
            )
        return chosen

    def __iter__(self) -> Iterator[Claim]:
        return iter(self.claims.values())


def run_claim(claim: Claim, *, n_instances: int | None = None, seed: int = 0) -> Outcome:
    """Check a claim on its instances.

    The verdict is ``HOLDS`` if every instance that meets the hypotheses does, and ``REFUTED`` if one fails
    by more than the tolerance. It is ``UNDECIDED`` if none met the hypotheses, a gap is not a number, or the
    check itself broke.

    Parameters
    ----------
    claim : Claim
    n_instances : int, optional
        Default: the claim's own number.
    seed : int
        Seed of the generator that the instances draw from; together with the id it fixes the run.
    """
    started = time.perf_counter()
    rng = np.random.default_rng([seed, *claim.id.encode()])
    worst, n_checked, failures = -np.inf, 0, list[tuple[int, int, Instance, Finding]]()
    for number, instance in enumerate(claim.instances(rng, n_instances or claim.n_instances)):
        try:
            finding = claim.check(instance)
        except Exception as error:  # a check that breaks decides nothing, and must not end the run
            where = traceback.extract_tb(error.__traceback__)[-1]
            return Outcome(
                claim,
                Verdict.UNDECIDED,
                n_checked,
                worst,
                instance,
                f"the check broke on instance {number}: {type(error).__name__}: {error} "
                f"(line {where.lineno})",
                time.perf_counter() - started,
            )
        if not finding.applies:
            continue
        n_checked += 1
        if np.isnan(finding.gap):
            return Outcome(
                claim,
                Verdict.UNDECIDED,
                n_checked,
                worst,
                instance,
                f"the gap of instance {number} is not a number; {finding.witness}",
                time.perf_counter() - started,
            )
        worst = max(worst, finding.gap)
        if finding.gap > claim.tolerance:
            failures.append((instance_size(instance), number, instance, finding))
    spent = time.perf_counter() - started
    if failures:
        _, _, smallest, finding = min(failures, key=lambda failure: failure[:2])
        return Outcome(
            claim, Verdict.REFUTED, n_checked, worst, smallest, finding.witness, spent, len(failures)
        )
    if not n_checked:
        return Outcome(
            claim, Verdict.UNDECIDED, 0, float("nan"), None, "no instance met the hypotheses", spent
        )
    return Outcome(claim, Verdict.HOLDS, n_checked, worst, seconds=spent)


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
