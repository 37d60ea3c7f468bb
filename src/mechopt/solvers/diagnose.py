"""What to tell the user when a program has no answer, and which of its families matter when it has."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import cvxpy as cp
import numpy as np

from mechopt.solvers import certify
from mechopt.solvers.backend import Answer, Settings, choose
from mechopt.solvers.errors import Infeasible, MechanismError, MechanismWarning, SolverFailure, Unbounded
from mechopt.solvers.solution import Solution, Status

if TYPE_CHECKING:
    import pandas as pd

    from mechopt.solvers.program import Program


def deliver(
    program: Program, solution: Solution, answer: Answer, settings: Settings, failure: BaseException | None
) -> Solution:
    """Return a usable solution, or raise the error that its status stands for."""
    if solution.status.ok:
        return solution
    if solution.values:
        warnings.warn(
            f"{program.name!r} by {solution.backend}: {solution.status} - {solution.reason}",
            MechanismWarning,
            stacklevel=3,
        )
        return solution
    _refuse(program, solution, answer, settings, failure)


def _refuse(
    program: Program, solution: Solution, answer: Answer, settings: Settings, failure: BaseException | None
) -> NoReturn:
    what = f"{program.name!r} by {solution.backend}"
    if solution.status is Status.INFEASIBLE:
        families = conflict(program, solution.backend, settings, suspects=answer.conflict or None)
        if not families and all(
            certify.domain_point(v) is not None for v in program.cvxpy_variables().values()
        ):
            raise SolverFailure(
                f"{what} failed: it says infeasible even when no family is left, where any value within the "
                f"variables' own bounds will do; try another backend (see mechopt backends)",
                solution=solution.replace(status=Status.FAILED),
            )
        if families:
            together = ", ".join(map(repr, families))
            advice = f"these families cannot hold together: {together}; relax or drop one of them"
        else:
            advice = "the variables' own signs, bounds and integrality already exclude every point"
        raise Infeasible(f"{what} is infeasible: {advice}", solution=solution, families=families)
    if solution.status is Status.UNBOUNDED:
        raise Unbounded(
            f"{what} is unbounded: the objective improves without end; bound a variable or add a constraint",
            solution=solution,
        )
    if solution.status is Status.LIMIT:
        raise SolverFailure(
            f"{what} stopped at its limit before it had a point ({solution.reason}); "
            "give it more time, or try another backend",
            solution=solution,
        )
    raise SolverFailure(
        f"{what} failed: {solution.reason}; try another backend (see mechopt backends)", solution=solution
    ) from failure


def conflict(
    program: Program, backend: str, settings: Settings, suspects: Iterable[str] | None = None
) -> tuple[str, ...]:
    """Find a smallest set of families that cannot hold together, by leaving out one after the other.

    Starts from the families that a certificate names, if there is one; solves one program a family.
    """
    if any(certify.excludes_itself(variable) for variable in program.cvxpy_variables().values()):
        return ()
    probe = program.copy()
    # Zero, but of the variables: a program without any family is still one about their own domains.
    probe.maximize(sum(0.0 * cp.sum(variable) for variable in program.cvxpy_variables().values()))

    def infeasible(kept: list[str]) -> bool:
        trial = probe.copy(without=tuple(set(program.families) - set(kept)))
        try:
            solution = trial.solve(
                # Without its objective or some families the program may be of another class than before.
                None if choose_fails(trial, backend) else backend,
                tolerance=settings.tolerance,
                time_limit=settings.time_limit,
                on_failure="return",
            )
        except MechanismError:
            return False
        return solution.status is Status.INFEASIBLE

    kept = list(program.families)
    named = [family for family in suspects or () if family in program.families]
    if named and infeasible(named):
        kept = named
    for family in list(kept):
        rest = [other for other in kept if other != family]
        if infeasible(rest):
            kept = rest
    return tuple(kept)


def choose_fails(program: Program, backend: str) -> bool:
    """Whether the backend refuses the program."""
    try:
        choose(program, backend)
    except MechanismError:
        return True
    return False


@dataclass(frozen=True)
class EssentialFamily:
    """One family: how many of its entries bind, and what the objective gains without it."""

    family: str
    entries: int
    binding: int
    gain: float
    status_without: str


@dataclass(frozen=True)
class Essential:
    """Which families of a program matter; see `Program.essential`."""

    objective: float
    rows: tuple[EssentialFamily, ...]

    def __getitem__(self, family: str) -> EssentialFamily:
        for row in self.rows:
            if row.family == family:
                return row
        raise KeyError(f"no family {family!r}; there are {', '.join(row.family for row in self.rows)}")

    def to_frame(self) -> pd.DataFrame:
        """Return one row a family."""
        import pandas as pd

        return pd.DataFrame([vars(row) for row in self.rows]).set_index("family")

    def __repr__(self) -> str:
        lines = [f"objective {self.objective:.9g}; without the family it would gain"]
        for row in self.rows:
            lines.append(f"  {row.family:<20} {row.gain:>12.6g}   {row.binding} of {row.entries} bind")
        return "\n".join(lines)


def essential(program: Program, backend: str | None, tolerance: float | None) -> Essential:
    """See `Program.essential`."""
    base = program.solve(backend, tolerance=tolerance)
    sign = 1.0 if program.sense == "maximize" else -1.0
    counts = {}
    with program.values_kept():
        program.set_values(base.values)
        for family, terms in program.families.items():
            excesses = [certify.measure(term) for term in terms]
            counts[family] = (
                sum(int(np.size(excess.amount)) for excess in excesses),
                sum(excess.binding(10 * base.tolerance) for excess in excesses),
            )
    rows = []
    for family in program.families:
        trial = program.copy(without=(family,))
        name = None if backend is None or choose_fails(trial, backend) else backend
        without = trial.solve(name, tolerance=tolerance, on_failure="return")
        gain = np.inf if without.status is Status.UNBOUNDED else sign * (without.objective - base.objective)
        # Two answers may differ by this much where nothing is gained.
        gain = 0.0 if abs(gain) <= base.tolerance * abs(base.objective) else gain
        rows.append(EssentialFamily(family, *counts[family], float(gain), str(without.status)))
    return Essential(base.objective, tuple(rows))
