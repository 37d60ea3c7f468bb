"""Our own checks of an answer: residuals, objective, gap, recomputed from the declaration.

Nothing here trusts a solver: it takes the point that came back, evaluates every family of the program at it,
and compares with what was claimed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.solvers.backend import Answer, Backend, Capability, Settings
from mechopt.solvers.solution import Solution, Status
from mechopt.solvers.terms import Complementarity, Hypograph, Term

if TYPE_CHECKING:
    from mechopt.solvers.program import Program

Array = NDArray[np.float64]

DOMAIN = "domain"
"""Family under which the variables' own attributes (sign, bounds, integrality) are reported."""

ROUNDING = 1e-4
"""Integer variables this close to an integer are rounded before anything is evaluated."""


def activity(expression: cp.Expression) -> Any:
    """Size of the terms that make up an expression, entry by entry, at the current values.

    For an affine row ``a @ x + b`` it is ``|a| @ max(|x|, 1) + |b|``, with ``x`` in scaled units: the number
    relative to which a residual of that row is rounding error. ``u - v >= 0`` and ``u >= v`` get the same one.
    """
    if isinstance(expression, cp.Variable):
        return np.maximum(np.abs(_value(expression)), 1.0)
    if expression.is_constant():
        return abs(expression.value)
    if expression.is_atom_affine() and expression.args:
        return abs(expression.numeric([activity(argument) for argument in expression.args]))
    return np.abs(_value(expression))


@dataclass(frozen=True)
class Excess:
    """By how much each entry of a constraint is violated (negative: slack), and the size of its terms."""

    amount: Array
    scale: Array

    @property
    def violation(self) -> float:
        """Worst violation, in the units of the constraint."""
        return float(np.max(np.maximum(_nan_to_inf(self.amount), 0.0), initial=0.0))

    @property
    def residual(self) -> float:
        """Worst violation relative to the size of the terms of its row."""
        relative = _nan_to_inf(self.amount) / np.maximum(self.scale, np.finfo(float).tiny)
        return float(np.max(np.maximum(relative, 0.0), initial=0.0))

    def binding(self, tolerance: float) -> int:
        """Number of entries that hold with equality, to the tolerance."""
        return int(np.sum(self.amount >= -tolerance * self.scale))


def measure(term: Term) -> Excess:
    """Evaluate one constraint at the current values of its variables."""
    if isinstance(term, Hypograph):
        t, x = _value(term.t), _value(term.x)
        bound = term.value_at(x)
        return Excess(t - bound, activity(term.t) + np.abs(bound))
    if isinstance(term, Complementarity):
        a, b = _value(term.a), _value(term.b)
        # min(a, b) is zero exactly when both are nonnegative and one vanishes.
        scale = np.maximum(np.maximum(np.abs(a), np.abs(b)), 1.0)
        return Excess(np.abs(np.minimum(a, b)), scale)
    name = type(term).__name__
    if name in ("Inequality", "Equality"):
        left, right = term.args
        difference = _value(left) - _value(right)
        amount = difference if name == "Inequality" else np.abs(difference)
        return Excess(amount, np.broadcast_to(activity(left) + activity(right), np.shape(amount)))
    if name in ("Zero", "NonPos", "NonNeg"):
        value = _value(term.args[0])
        amount = {"Zero": np.abs(value), "NonPos": value, "NonNeg": -value}[name]
        return Excess(amount, np.broadcast_to(activity(term.args[0]), np.shape(amount)))
    if name == "PSD":
        matrix = _value(term.args[0])
        scale = np.asarray(max(float(np.max(activity(term.args[0]), initial=0.0)), 1e-300))
        if not np.all(np.isfinite(matrix)):
            return Excess(np.asarray(np.inf), scale)
        skew = float(np.max(np.abs(matrix - matrix.T), initial=0.0))
        return Excess(np.asarray(max(-float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[0]), skew)), scale)
    if name == "SOC":
        t, rows = _value(term.args[0]), _value(term.args[1])
        norm = np.linalg.norm(rows, axis=term.axis)
        return Excess(np.atleast_1d(norm - t), np.atleast_1d(np.maximum(np.abs(t), norm) + 1.0))
    if name == "ExpCone":
        x, y, z = (_value(argument) for argument in term.args)
        with np.errstate(all="ignore"):
            amount = np.where(y > 0, y * np.exp(x / y) - z, np.maximum(np.maximum(x, -z), -y))
        return Excess(amount, 1.0 + np.abs(z))
    if name == "PowCone3D":
        x, y, z = (_value(argument) for argument in term.args)
        alpha = _value(term.alpha)
        inside = np.abs(z) - np.maximum(x, 0.0) ** alpha * np.maximum(y, 0.0) ** (1 - alpha)
        return Excess(np.maximum(inside, np.maximum(-x, -y)), 1.0 + np.abs(z))
    residual = np.asarray(term.violation(), dtype=float)
    return Excess(residual, np.maximum(np.max([np.max(activity(a)) for a in term.args]), 1.0) + 0 * residual)


def domain_excess(variable: cp.Variable) -> Excess:
    """Distance of a variable's value to what its own attributes allow."""
    value = _value(variable)
    return Excess(np.abs(value - np.asarray(variable.project(value))), np.maximum(np.abs(value), 1.0))


def objective_scale(program: Program) -> float:
    """Size of the objective's terms at the current values."""
    return max(float(np.sum(activity(program.objective))), np.finfo(float).tiny)


def check(program: Program, answer: Answer, settings: Settings, backend: Backend) -> Solution:
    """Turn an answer into a checked solution: what is claimed stands only where our own numbers agree."""
    started = time.perf_counter()
    solution = Solution(
        status=answer.status,
        reason=answer.reason,
        backend=backend.name,
        version=backend.version(),
        tolerance=settings.tolerance,
        options=dict(settings.options),
        program=program.name,
        sense=program.sense,
        extra=dict(answer.extra),
        bound=answer.bound if answer.bound is not None and np.isfinite(answer.bound) else None,
        no_duals=answer.no_duals,
    )
    if answer.status in (Status.INFEASIBLE, Status.UNBOUNDED, Status.FAILED) or not answer.primal:
        if answer.status in (Status.OPTIMAL, Status.LOCAL, Status.INACCURATE):
            solution = solution.replace(
                status=Status.FAILED, reason=_join(f"claims {answer.status}, but no point came back", answer)
            )
        return solution.replace(bound=None, seconds=_seconds(program, answer, started))

    broken = _load(program, answer)
    if broken:
        return solution.replace(
            status=Status.FAILED,
            reason=_join(f"claims {answer.status}, but {broken}", answer),
            bound=None,
            seconds=_seconds(program, answer, started),
        )
    residuals, violations = measure_families(program)
    objective = float(np.asarray(program.objective.value).item())
    size = objective_scale(program)
    if answer.proved:
        solution = solution.replace(bound=objective)
    gap = None if solution.bound is None else abs(solution.bound - objective) / size
    faults = _faults(program, answer, settings, residuals, violations, objective, size, gap)
    status, reason = _verdict(program, answer, settings, backend, faults, gap)
    convex_duals = Capability.MIP not in program.requires()
    return solution.replace(
        status=status,
        reason=reason,
        objective=objective,
        gap=gap,
        values=_values(program),
        duals=program.prices(answer) if convex_duals else {},
        no_duals=answer.no_duals if convex_duals else "integer programs have no shadow prices",
        residuals=residuals,
        violations=violations,
        seconds=_seconds(program, answer, started),
    )


def _load(program: Program, answer: Answer) -> str:
    """Put the answer into the variables; tell what keeps it from being evaluated."""
    for name, variable in program.cvxpy_variables().items():
        value = answer.primal.get(variable.id)
        if value is None:
            return f"no value came back for {name!r}"
        array = np.asarray(value, dtype=float)
        if not np.all(np.isfinite(array)):
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(np.atleast_1d(array)))[0])
            return f"{name!r} is {np.atleast_1d(array)[where]} at index {where}"
        if variable.attributes["boolean"] or variable.attributes["integer"]:
            whole = np.round(array)
            array = np.where(np.abs(array - whole) <= ROUNDING, whole, array)
        variable.save_value(array.reshape(variable.shape, order="F"))
    with np.errstate(all="ignore"):
        objective = program.objective.value
    if objective is None or not np.all(np.isfinite(objective)):
        return f"the objective is {objective} at the point that came back"
    return ""


def measure_families(program: Program) -> tuple[dict[str, float], dict[str, float]]:
    """Worst relative residual, and worst absolute violation, of each family at the current values."""
    residuals: dict[str, float] = {}
    violations: dict[str, float] = {}
    with np.errstate(all="ignore"):
        groups: list[tuple[str, Iterable[Excess]]] = [
            (family, map(measure, terms)) for family, terms in program.families.items()
        ]
        bounded = [v for v in program.cvxpy_variables().values() if v.domain or any(v.attributes.values())]
        if bounded:
            groups.append((DOMAIN, map(domain_excess, bounded)))
        for family, excesses in groups:
            measured = list(excesses)
            residuals[family] = max((excess.residual for excess in measured), default=0.0)
            violations[family] = max((excess.violation for excess in measured), default=0.0)
    return residuals, violations


def _faults(
    program: Program,
    answer: Answer,
    settings: Settings,
    residuals: dict[str, float],
    violations: dict[str, float],
    objective: float,
    size: float,
    gap: float | None,
) -> list[str]:
    faults = [
        f"family {family!r} is violated by {violations[family]:.3g} (relative {residual:.1e})"
        for family, residual in residuals.items()
        if residual > settings.tolerance
    ]
    if np.isfinite(answer.objective) and abs(answer.objective - objective) > settings.tolerance * size:
        faults.append(
            f"it reports the objective {answer.objective:.9g}, which is {objective:.9g} at its own point"
        )
    if gap is not None and gap > settings.tolerance and answer.status is not Status.LIMIT:
        faults.append(f"the bound {answer.bound:.9g} leaves a relative gap of {gap:.1e}")
    return faults


def _verdict(
    program: Program,
    answer: Answer,
    settings: Settings,
    backend: Backend,
    faults: list[str],
    gap: float | None,
) -> tuple[Status, str]:
    if answer.status is Status.LIMIT:
        return Status.LIMIT, _join("; ".join(faults), answer)
    if faults:
        return Status.INACCURATE, _join(f"claims {answer.status}, but " + "; ".join(faults), answer)
    proved = gap is not None
    spent = answer.seconds.get("solve", 0.0)
    if settings.time_limit is not None and spent >= settings.time_limit and not proved:
        return Status.LIMIT, _join(
            f"claims {answer.status} after {spent:.3g} s, past the limit of {settings.time_limit:g} s, "
            "and has no bound to show for it",
            answer,
        )
    if answer.status is Status.INACCURATE:
        # The solver doubts itself; our residuals and a recomputed bound are the better judges.
        return (Status.OPTIMAL, answer.reason) if proved else (Status.INACCURATE, answer.reason)
    if not program.is_convex() and not backend.globally:
        return Status.LOCAL, answer.reason
    return answer.status, answer.reason


def _values(program: Program) -> dict[str, Array]:
    values = {}
    for name in program.names:
        value = np.array(_value(program[name]), dtype=float)
        value.setflags(write=False)
        values[name] = value
    return values


def _seconds(program: Program, answer: Answer, started: float) -> dict[str, float]:
    return {
        "build": program.build_seconds,
        "compile": answer.seconds.get("compile", 0.0),
        "solve": answer.seconds.get("solve", 0.0),
        "check": time.perf_counter() - started,
    }


def _join(text: str, answer: Answer) -> str:
    return "; ".join(part for part in (text, answer.reason) if part)


def _value(expression: cp.Expression) -> Array:
    value = expression.value
    if hasattr(value, "toarray"):
        value = value.toarray()
    return np.asarray(value, dtype=float)


def _nan_to_inf(amount: Array) -> Array:
    return np.where(np.isnan(amount), np.inf, amount)
