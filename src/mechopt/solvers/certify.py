"""Our own checks of an answer: residuals, objective, gap, recomputed from the declaration.

Nothing here trusts a solver: it takes the point that came back, evaluates every family of the program at it,
and compares with what was claimed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from cvxpy.atoms.affine.add_expr import AddExpression
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


def activity(expression: cp.Expression, least: float = 1.0) -> Any:
    """Size of the terms that make up an expression, entry by entry, at the current values.

    For an affine row ``a @ x + b`` it is ``|a| @ max(|x|, 1) + |b|``, with ``x`` in scaled units: the number
    relative to which a residual of that row is rounding error. ``u - v >= 0`` and ``u >= v``
    get the same one. A nonlinear atom counts like a variable, at least 1 (``least``): near a root of
    ``log(x)`` its value is no measure of size.
    """
    if isinstance(expression, cp.Variable):
        return np.maximum(np.abs(_value(expression)), 1.0)
    if expression.is_constant():
        return abs(expression.value)
    if expression.is_atom_affine() and expression.args:
        return abs(expression.numeric([activity(argument, least) for argument in expression.args]))
    return np.maximum(np.abs(_value(expression)), least)


SIZES_LEFT_ALONE = (1e-2, 1e4)
"""Rows with terms of these sizes go to the solver as they are."""


def row_size(term: cp.Constraint) -> Any:
    """Size of the terms of a constraint's rows where variables are of order one, as powers of two.

    Returns
    -------
    1.0, float or array of the constraint's shape
        What to divide the rows by: 1 if they are of ordinary size, not affine, or depend on parameters; one
        number where one will do.
    """
    if type(term).__name__ not in ("Inequality", "Equality") or term.parameters():
        return 1.0
    if not all(argument.is_affine() for argument in term.args):
        return 1.0
    size = np.asarray(sum(_value_of(_coefficients(argument)) for argument in term.args), dtype=float)
    low, high = SIZES_LEFT_ALONE
    size = np.where((size > 0) & np.isfinite(size), size, 1.0)
    if np.all((size >= low) & (size <= high)):
        return 1.0
    size = np.exp2(np.round(np.log2(size)))  # exact divisions
    smallest, largest = float(size.min()), float(size.max())
    return largest if largest <= high * smallest else np.broadcast_to(size, term.shape)


def objective_unit(objective: cp.Expression) -> float:
    """What to divide an objective by for solvers, as a power of two: 1 unless its coefficients are extreme.

    All coefficients may be below what solvers tell from zero, or a typical one far above one. A single one
    that is does not count: divided by it, the others would be lost.
    """
    if objective.parameters() or not objective.is_affine():
        return 1.0
    low, high = SIZES_LEFT_ALONE
    total = float(np.sum(_value_of(_coefficients(objective, constants=False))))
    size = 1.0
    if total < low:
        size = total
    elif total > high:
        typical = float(np.median(_slopes(objective)))
        size = typical if typical > high else 1.0
    return float(np.exp2(np.round(np.log2(size)))) if 0 < size < np.inf else 1.0


def _slopes(objective: cp.Expression) -> Array:
    """Absolute coefficients of an affine objective that are not 0, one by one."""
    variables = objective.variables()
    before = [variable.value for variable in variables]
    try:
        for (
            variable
        ) in variables:  # CVXPY asks where the slopes are wanted, though they are the same everywhere
            variable.save_value(np.zeros(variable.shape))
        slopes = np.concatenate([abs(sp.csc_array(slope)).data for slope in objective.grad.values()])
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.save_value(value)
    return np.asarray(slopes[slopes > 0], dtype=float)


def _coefficients(expression: cp.Expression, *, constants: bool = True) -> Any:
    """Sum of the absolute coefficients of an affine expression, and of its constants, entry by entry."""
    if isinstance(expression, cp.Variable):
        return np.ones(expression.shape)
    if expression.is_constant():
        return abs(expression.value)
    parts = [
        0.0 * argument.value
        if isinstance(expression, AddExpression) and argument.is_constant() and not constants
        else _coefficients(argument, constants=constants)
        for argument in expression.args
    ]
    return abs(expression.numeric(parts))


def _value_of(value: Any) -> Any:
    return value.toarray() if hasattr(value, "toarray") else value


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
        amount = np.maximum(_nan_to_inf(self.amount), 0.0)
        # Where a function is not defined both are infinite or NaN: that is a violation, and no 0/0.
        with np.errstate(invalid="ignore"):
            relative = amount / np.maximum(self.scale, np.finfo(float).tiny)
        return float(np.max(np.where(np.isfinite(amount), _nan_to_inf(relative), np.inf), initial=0.0))

    def binding(self, tolerance: float) -> int:
        """Count the entries that hold with equality, to the tolerance."""
        return int(np.sum(self.amount >= -tolerance * self.scale))


def measure(term: Term) -> Excess:
    """Evaluate one constraint at the current values of its variables."""
    if isinstance(term, Hypograph):
        t, x = _value(term.t), _value(term.x)
        bound = term.value_at(x)
        return Excess(t - bound, activity(term.t) + np.abs(bound))
    if isinstance(term, Complementarity):
        a, b = _value(term.a), _value(term.b)
        size_a, size_b = activity(term.a), activity(term.b)
        # min(a, b) is zero exactly when both are nonnegative and one vanishes; each is taken relative to its
        # own terms, as an action of 1 is not small because a marginal cost is 1e7.
        first = a / size_a <= b / size_b
        return Excess(np.abs(np.where(first, a, b)), np.where(first, size_a, size_b))
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
        matrix = _value(term.args[0])  # or several, along the leading axes
        scale = np.max(activity(term.args[0]), axis=(-2, -1), initial=1e-300)
        if not np.all(np.isfinite(matrix)):
            return Excess(np.full(np.shape(scale), np.inf), np.asarray(scale))
        flipped = np.swapaxes(matrix, -2, -1)
        least = np.linalg.eigvalsh((matrix + flipped) / 2)[..., 0]
        skew = np.max(np.abs(matrix - flipped), axis=(-2, -1), initial=0.0)
        # A matrix that is symmetric but for rounding keeps its slack.
        amount = np.where(skew > 1e-14 * scale, np.maximum(-least, skew), -least)
        return Excess(amount, np.asarray(scale))
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
    """Distance of a variable's value to what its own attributes allow, the worst of them entry by entry."""
    value = _value(variable)
    amount = np.zeros(value.shape)
    # Not `variable.project`, which does nothing for a variable with two attributes.
    low, high = _bounds(variable)
    amount = np.maximum(amount, np.maximum(low - value, value - high))
    for kind in ("boolean", "integer"):
        chosen = _entries(variable, kind)
        amount = np.where(chosen, np.maximum(amount, np.abs(value - np.round(value))), amount)
    attributes = variable.attributes
    if any(attributes[kind] for kind in ("symmetric", "PSD", "NSD")):
        amount = np.maximum(amount, np.abs(value - value.T) / 2)
    for kind, sign in (("PSD", 1.0), ("NSD", -1.0)):
        if attributes[kind]:
            amount = np.maximum(amount, -float(np.linalg.eigvalsh(sign * (value + value.T) / 2)[0]))
    if attributes["diag"]:
        amount = np.maximum(amount, np.abs(value - np.diag(np.diag(value))))
    if attributes["sparsity"]:
        outside = np.ones(value.shape, dtype=bool)
        outside[tuple(np.asarray(axis) for axis in variable.sparse_idx)] = False
        amount = np.where(outside, np.maximum(amount, np.abs(value)), amount)
    return Excess(amount, np.maximum(np.abs(value), 1.0))


def _bounds(variable: cp.Variable) -> tuple[Array, Array]:
    """Least and greatest value of each entry, by sign, bounds and booleans."""
    low, high = np.full(variable.shape, -np.inf), np.full(variable.shape, np.inf)
    attributes = variable.attributes
    if attributes["nonneg"] or attributes["pos"]:
        low = np.maximum(low, 0.0)
    if attributes["nonpos"] or attributes["neg"]:
        high = np.minimum(high, 0.0)
    if attributes["bounds"] is not None:
        least, most = (_value(cp.Expression.cast_to_const(bound)) for bound in attributes["bounds"])
        low, high = np.maximum(low, least), np.minimum(high, most)
    boolean = _entries(variable, "boolean")
    return np.where(boolean, np.maximum(low, 0.0), low), np.where(boolean, np.minimum(high, 1.0), high)


def _entries(variable: cp.Variable, kind: str) -> NDArray[np.bool_]:
    """Which entries of a variable are ``"boolean"`` or ``"integer"``; CVXPY allows some of them only."""
    declared = variable.attributes[kind]
    if declared is True or not declared:
        return np.full(variable.shape, bool(declared))
    chosen = np.zeros(variable.shape, dtype=bool)
    chosen[tuple(np.asarray(axis) for axis in getattr(variable, f"{kind}_idx"))] = True
    return chosen


def _whole_bounds(variable: cp.Variable) -> tuple[Array, Array]:
    low, high = _bounds(variable)
    whole = _entries(variable, "boolean") | _entries(variable, "integer")
    return np.where(whole, np.ceil(low), low), np.where(whole, np.floor(high), high)


def excludes_itself(variable: cp.Variable) -> bool:
    """Whether a variable's own sign, bounds and integrality leave some entry no value at all."""
    low, high = _whole_bounds(variable)
    return bool(np.any(low > high))


def domain_point(variable: cp.Variable) -> Array | None:
    """Return the value nearest zero that a variable's own attributes allow, or None if we find none."""
    if excludes_itself(variable):
        return None
    low, high = _whole_bounds(variable)
    held = variable.value
    point = np.clip(0.0, low, high)
    variable.save_value(point)
    allowed = domain_excess(variable).residual == 0.0
    variable.save_value(held)
    return point if allowed else None


def objective_scale(program: Program) -> float:
    """Size of the objective's terms at the current values; the declared scale for a constant zero.

    Nonlinear atoms count for 1 at least, but not where money is declared to be smaller than that.
    """
    declared = program.objective_scale
    size = float(np.sum(activity(program.objective)))
    if declared < 1.0:
        size = max(float(np.sum(activity(program.objective, 0.0))), min(size, declared))
    return size or declared


def _refuted(program: Program, tolerance: float) -> bool:
    """Whether the values that the variables hold, from a start or an earlier solve, meet every family."""
    if any(variable.value is None for variable in program.cvxpy_variables().values()):
        return False
    residuals, _ = measure_families(program)
    return all(residual <= tolerance for residual in residuals.values())


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
        if answer.status is Status.INFEASIBLE and _refuted(program, settings.tolerance):
            solution = solution.replace(
                status=Status.FAILED,
                reason=_join(
                    "claims infeasible, but the values that the variables already held meet every family",
                    answer,
                ),
            )
        elif answer.status is Status.INFEASIBLE and not (program.is_convex() or backend.globally):
            solution = solution.replace(
                status=Status.FAILED,
                reason=_join("found no feasible point, which a local solver cannot prove impossible", answer),
            )
        # Nothing else has a bound without a point; what was proved before time was up stands.
        bound = solution.bound if answer.status is Status.LIMIT else None
        return solution.replace(bound=bound, seconds=_seconds(program, answer, started))

    broken = _load(program, answer)
    if broken:
        return solution.replace(
            status=Status.FAILED,
            reason=_join(f"claims {answer.status}, but {broken}", answer),
            bound=None,
            seconds=_seconds(program, answer, started),
        )
    excesses = _excesses(program)
    residuals, violations = _worst(excesses)
    objective = float(_value(program.objective).item())
    size = objective_scale(program)
    prices = program.prices(answer) | answer.prices
    if answer.proved:
        solution = solution.replace(bound=objective)
    gap = None if solution.bound is None else abs(solution.bound - objective) / size
    faults = _faults(
        program, answer, settings, residuals, violations, objective, size, gap, solution.bound or 0.0
    )
    if not faults and program.is_convex() and answer.status is not Status.LIMIT:
        faults = _hypersensitive(excesses, prices, objective, settings.tolerance * size)
    status, reason = _verdict(program, answer, settings, backend, faults, gap)
    no_duals = answer.no_duals
    if Capability.MIP in program.requires():
        no_duals = "integer programs have no shadow prices"
    elif status is Status.LIMIT:
        no_duals = "stopped by a limit, where multipliers are no prices"
    priced = no_duals == answer.no_duals
    return solution.replace(
        status=status,
        reason=reason,
        objective=objective,
        gap=gap,
        values=_values(program),
        duals=prices if priced or answer.prices else {},
        no_duals=no_duals,
        residuals=residuals,
        violations=violations,
        seconds=_seconds(program, answer, started),
    )


def _load(program: Program, answer: Answer) -> str:
    """Put the answer into the variables; tell what keeps it from being evaluated."""
    used = program.used_variables()
    for name, variable in program.cvxpy_variables().items():
        value = answer.primal.get(variable.id)
        if value is None and variable.id not in used:
            value = domain_point(variable)  # declared and used nowhere: any value that it may have
        if value is None:
            return f"no value came back for {name!r}"
        try:
            array = np.asarray(value.toarray() if hasattr(value, "toarray") else value, dtype=float)
        except (TypeError, ValueError):
            return f"{name!r} came back as {type(value).__name__}, not as numbers"
        shape = variable.shape
        if array.size != variable.size or (array.ndim > 1 and np.squeeze(array).shape != _squeezed(shape)):
            return f"{name!r} has shape {array.shape}, and was declared with {shape}"
        array = array.reshape(shape, order="F")
        if not np.all(np.isfinite(array)):
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(np.atleast_1d(array)))[0])
            return f"{name!r} is {np.atleast_1d(array)[where]} at index {where}"
        whole = np.round(array)
        integral = _entries(variable, "boolean") | _entries(variable, "integer")
        array = np.where(integral & (np.abs(array - whole) <= ROUNDING), whole, array)
        variable.save_value(array)
    with np.errstate(all="ignore"):
        objective = program.objective.value
    if objective is None or not np.all(np.isfinite(objective)):
        return f"the objective is {objective} at the point that came back"
    return ""


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)


def measure_families(program: Program) -> tuple[dict[str, float], dict[str, float]]:
    """Worst relative residual, and worst absolute violation, of each family at the current values."""
    return _worst(_excesses(program))


def _excesses(program: Program) -> dict[str, list[Excess]]:
    """Excess of every constraint by family, and of the variables' own domains, at the current values."""
    with np.errstate(all="ignore"):
        found = {family: [measure(term) for term in terms] for family, terms in program.families.items()}
        bounded = [v for v in program.cvxpy_variables().values() if v.domain or any(v.attributes.values())]
        if bounded:
            found[DOMAIN] = [domain_excess(variable) for variable in bounded]
    return found


def _worst(excesses: dict[str, list[Excess]]) -> tuple[dict[str, float], dict[str, float]]:
    return (
        {family: max((e.residual for e in found), default=0.0) for family, found in excesses.items()},
        {family: max((e.violation for e in found), default=0.0) for family, found in excesses.items()},
    )


def _hypersensitive(
    excesses: dict[str, list[Excess]], prices: dict[str, tuple[Array, ...]], objective: float, allowed: float
) -> list[str]:
    """Tell if violations, small as they are, may be worth more in the objective than its tolerance.

    Where no point keeps a distance from the constraints, prices have no bound, and the objective of an answer
    that is off by 1e-8 may be off by 1e-4. A gap does not show it: the bound is that of the same multipliers.
    """
    lost = {
        family: sum(worth(e, price) for e, price in zip(excesses[family], prices[family], strict=True))
        for family in prices
    }
    total = sum(lost.values())
    if total <= allowed:
        return []
    family = max(lost, key=lambda name: lost[name])
    return [
        f"the objective {objective:.9g} is sure to {total:.2g} only: at the prices found, that is what the "
        f"violations left, of {family!r} above all, are worth; there may be no point that keeps clear of the "
        "constraints"
    ]


def worth(excess: Excess, price: Array) -> float:
    """Violations of one constraint times their prices."""
    amount, price = np.maximum(excess.amount, 0.0), np.abs(price)
    if np.ndim(price) == np.ndim(amount) + 2:  # matrices short of semidefinite in all directions
        price = np.trace(price, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore"):  # no violation is worth nothing, at an infinite price too
        return float(np.sum(np.where(amount > 0, amount * price, 0.0)))


def _faults(
    program: Program,
    answer: Answer,
    settings: Settings,
    residuals: dict[str, float],
    violations: dict[str, float],
    objective: float,
    size: float,
    gap: float | None,
    bound: float,
) -> list[str]:
    faults = [
        f"family {family!r} is violated by {violations[family]:.3g} (relative {residual:.1e})"
        for family, residual in residuals.items()
        if residual > settings.tolerance
    ]
    if not (np.isnan(answer.objective) or abs(answer.objective - objective) <= settings.tolerance * size):
        faults.append(
            f"it reports the objective {answer.objective:.9g}, which is {objective:.9g} at its own point"
        )
    if gap is not None and gap > settings.tolerance and answer.status is not Status.LIMIT:
        sign = 1.0 if program.sense == "maximize" else -1.0
        verb = "beats its own bound" if sign * (objective - bound) > 0 else "is short of the bound"
        faults.append(f"the objective {objective:.9g} {verb} {bound:.9g}, a relative gap of {gap:.1e}")
    return faults


def _verdict(
    program: Program,
    answer: Answer,
    settings: Settings,
    backend: Backend,
    faults: list[str],
    gap: float | None,
) -> tuple[Status, str]:
    closed = gap is not None and gap <= settings.tolerance and not faults
    if answer.status is Status.LIMIT and closed:
        # Our own bound proves what the solver had no more time to notice.
        return Status.OPTIMAL, _join("stopped by a limit, and the bound proves the answer", answer)
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
    named = {name: program[name] for name in program.names}
    # A user's own variables come after the program's, under their own names.
    own = {name: v for name, v in program.cvxpy_variables().items() if name not in named}
    for name, expression in (named | own).items():
        value = np.array(_value(expression) + 0.0, dtype=float)  # no negative zeros
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
