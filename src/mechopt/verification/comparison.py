"""A closed form against the program that it is said to solve, on every backend, at many instances."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mechopt.solvers.backend import all_backends, capable_backends, get_backend
from mechopt.solvers.certify import measure
from mechopt.solvers.errors import (
    BackendUnavailable,
    InvalidInput,
    MechanismError,
    MechanismWarning,
    MissingCapability,
    NotApplicable,
)
from mechopt.solvers.program import Program
from mechopt.solvers.solution import Solution
from mechopt.verification.own import relative_gap

if TYPE_CHECKING:
    import pandas as pd

DUAL = "dual:"
"""Prefix of a shadow price's name in a closed form that is a mapping."""
FLOOR = 1e-3
"""Share of a declared scale below which differences are no longer judged relative to the value itself."""
SHOWN = 8
"""Cases that a comparison prints."""


@dataclass(frozen=True)
class ComparisonRow:
    """One instance on one backend.

    Attributes
    ----------
    case : object
        Label of the instance.
    backend : str
        ``""`` if the form could not be compared at all.
    state : str
        ``"agrees"``; ``"backend at fault"``, where other backends agree with the form; ``"form at fault"``,
        where two backends or more agree with each other and not with the form, or the form gives something
        that is not finite; ``"differs"``, if nobody decides; ``"other point"``, if only variables or prices
        differ, as they may where the optimum is not unique; ``"inaccurate"``, if the backend says so itself;
        ``"no answer"``; ``"cannot"``; ``"no form"``.
    valid : bool
        Whether the form applies by its own word.
    status : str
        Of the solution.
    value, form_value : float
        Objectives; NaN where there is none.
    value_gap, primal_gap, dual_gap : float
        Relative differences of the objective, and the largest ones among variables and prices; NaN where
        nothing is compared.
    worst : str
        Name of the variable, expression or family that differs most.
    seconds : float
    note : str
        Why it is not valid, not answered, or what is lacking.
    """

    case: Any
    backend: str
    state: str
    valid: bool
    status: str = ""
    value: float = float("nan")
    form_value: float = float("nan")
    value_gap: float = float("nan")
    primal_gap: float = float("nan")
    dual_gap: float = float("nan")
    worst: str = ""
    seconds: float = float("nan")
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; true if the form agrees wherever it says that it is valid.

    Attributes
    ----------
    rows : tuple of ComparisonRow
        By case, then by backend.
    tolerance : float
        For objectives.
    point_tolerance : float
        For variables and prices.
    """

    rows: tuple[ComparisonRow, ...]
    tolerance: float
    point_tolerance: float

    @property
    def cases(self) -> tuple[Any, ...]:
        """Labels of the instances, in order."""
        return tuple(dict.fromkeys(row.case for row in self.rows))

    def verdict(self, case: Any) -> str:
        """Tell how the form does at one instance."""
        rows = [row for row in self.rows if row.case == case]
        states = {row.state for row in rows}
        if not rows[0].valid:
            return "not valid, agrees" if "agrees" in states else "not valid"
        for state in ("form at fault", "differs", "agrees", "other point"):
            if state in states:
                return state
        return "no answer"

    @property
    def faults(self) -> tuple[ComparisonRow, ...]:
        """Backends that called optimal what others, together with the form, show to be wrong."""
        return tuple(row for row in self.rows if row.state == "backend at fault")

    @property
    def ends(self) -> tuple[tuple[Any, Any, str], ...]:
        """Where the form stops, or starts, to be right: labels of both neighbours, and why.

        A form is right at an instance if it says that it is valid there, and agrees.
        """
        found = []
        for before, after in zip(self.cases, self.cases[1:], strict=False):
            right = [self.verdict(case) == "agrees" for case in (before, after)]
            if right[0] != right[1]:
                wrong = after if right[0] else before
                found.append((before, after, self._why(wrong)))
        return tuple(found)

    def _why(self, case: Any) -> str:
        rows = [row for row in self.rows if row.case == case]
        if not rows[0].valid:
            return rows[0].note
        row = max(rows, key=lambda row: np.nan_to_num(row.value_gap, nan=-1.0))
        return f"{self.verdict(case)}: value {row.form_value:.9g}, by {row.backend} {row.value:.9g}"

    def __bool__(self) -> bool:
        verdicts = [self.verdict(case) for case in self.cases]
        judged = [verdict for verdict in verdicts if not verdict.startswith("not valid")]
        return bool(judged) and all(verdict == "agrees" for verdict in judged)

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each instance and backend."""
        import pandas as pd

        return pd.DataFrame([vars(row) for row in self.rows])

    def __repr__(self) -> str:
        count = f"{len(self.cases)} instance" + "s" * (len(self.cases) != 1)
        lines = [
            f"Comparison of a closed form on {count}: "
            f"values to {self.tolerance:.0e}, variables and prices to {self.point_tolerance:.0e}"
        ]
        if len(self.cases) == 1:
            lines += [_backend_line(row) for row in self.rows[: 2 * SHOWN]]
        else:
            lines += [self._case_line(case) for case in self.cases[:SHOWN]]
            if len(self.cases) > SHOWN:
                lines.append(f"  and {len(self.cases) - SHOWN} more")
        lines += [f"  between {a} and {b}: {why}" for a, b, why in self.ends]
        lines += [
            f"  backend at fault: {row.backend} at {row.case}, {row.value:.9g} against {row.form_value:.9g}"
            for row in self.faults
        ]
        return "\n".join(lines)

    def _case_line(self, case: Any) -> str:
        rows = [row for row in self.rows if row.case == case]
        gaps = [row.value_gap for row in rows if not np.isnan(row.value_gap)]
        told = f"  {case!s:<12} {self.verdict(case):<18}"
        if gaps:
            told += f" value {rows[0].form_value:<14.9g} gap {max(gaps):.0e} on {len(gaps)} backends"
        return told.rstrip()


def _backend_line(row: ComparisonRow) -> str:
    gaps = zip(("value", "primal", "dual"), (row.value_gap, row.primal_gap, row.dual_gap), strict=True)
    told = "  ".join(f"{name} {gap:.0e}" for name, gap in gaps if not np.isnan(gap))
    return f"  {row.backend:<12} {row.state:<17} {told}" + (f"  ({row.note})" if row.note else "")


@dataclass(frozen=True)
class _Form:
    """A closed form, read."""

    objective: float | None
    values: Mapping[str, Any]
    duals: Mapping[str, Any]

    @property
    def undefined(self) -> tuple[str, ...]:
        """Names of what has an entry that is infinite or not a number."""
        parts = dict(self.values) | {DUAL + family: price for family, price in self.duals.items()}
        if self.objective is not None:
            parts["objective"] = self.objective
        return tuple(name for name, part in parts.items() if not np.isfinite(_numbers(name, part)).all())


def compare(
    subject: Any,
    closed_form: Any = None,
    *,
    backends: Iterable[str] | None = None,
    tolerance: float = 1e-6,
    point_tolerance: float | None = None,
    time_limit: float | None = 30.0,
    declare: Callable[[Any], Program] | None = None,
) -> Comparison:
    """Hold a closed form against the program that it is said to solve.

    Parameters
    ----------
    subject : Program, mechanism, or a sequence or mapping of these
        A mapping's keys are the labels of its instances. In a series, `Comparison.ends` tells where the form
        stops to be right.
    closed_form : callable, mapping or object, optional
        ``closed_form(subject)``, or for a single instance what it returns: a mapping from names of the
        program (``"objective"``, variables, expressions, and ``"dual:<family>"`` for shadow prices), an
        object with attributes of these names, a `Solution`, or the objective alone. The objective of a form
        that gives only variables is taken at their values, if it has no others. Where it is not valid,
        it raises `NotApplicable`, itself or in ``require()``. Default: the mechanism's own ``closed_form()``.
    backends : iterable of str, optional
        Default: every available backend that can solve the program, its exact algorithm included.
    tolerance : float
        Relative difference of objectives up to which they agree.
    point_tolerance : float, optional
        The same for variables and prices. Default: the root of ``tolerance``, since an objective is flat at
        its optimum: it tells the point only to the root of its own accuracy.
    time_limit : float, optional
        Seconds for each solve.
    declare : callable, optional
        ``declare(mechanism)`` gives the program; default ``mechanism.program()``.

    Returns
    -------
    Comparison
        Differences are relative to the largest entry of both sides, or to a thousandth of the declared scale
        (that of the objective for expressions; for prices that of the objective over the size of the rows),
        where that is more.

    Raises
    ------
    InvalidInput
        If there is no closed form, it has no name of the program, or its entries differ in shape.
    BackendUnavailable
        If nobody has the name of a backend; one that is not installed gets a row that says so.

    Examples
    --------
    >>> import mechopt as mo
    >>> from mechopt.verification import compare
    >>> contract = mo.ScreeningContract(types=[0.1, 0.2], gain=mo.LogGain(weight=100, scale=2))
    >>> compare(contract, backends=["exact", "clarabel"]).rows[1].state
    'agrees'
    """
    if not 0 < tolerance < 1:
        raise InvalidInput(f"tolerance must lie in (0, 1), got {tolerance!r}")
    point_tolerance = float(np.sqrt(tolerance)) if point_tolerance is None else point_tolerance
    names = None if backends is None else ((backends,) if isinstance(backends, str) else tuple(backends))
    registered = {backend.name for backend in all_backends()}
    for name in names or ():
        if name not in registered:
            get_backend(name)  # refuses, and says what there is
    if names == ():
        raise InvalidInput("there are no backends to compare on: backends is empty")
    cases = _cases(subject)
    if len(cases) > 1 and closed_form is not None and not callable(closed_form):
        raise InvalidInput("for several instances closed_form must be a function of the instance")
    rows: list[ComparisonRow] = []
    for label, one in cases.items():
        program = one if isinstance(one, Program) else declare(one) if declare else _program(one)
        try:
            form, why = _form(one, closed_form, program)
        except Exception as error:
            error.add_note(f"in the closed form at instance {label!r}")
            raise
        if form is None:
            rows.append(ComparisonRow(label, "", "no form", valid=False, note=why))
            continue
        form = _valued(form, program)
        answers = _answers(program, names, tolerance, time_limit)
        judged = [_row(label, program, form, why, *answer, tolerance, point_tolerance) for answer in answers]
        rows += judged if why else _blamed(judged, tolerance)
    return Comparison(tuple(rows), tolerance, point_tolerance)


def _cases(subject: Any) -> dict[Any, Any]:
    if isinstance(subject, Mapping):
        cases = dict(subject)
    elif isinstance(subject, list | tuple):
        cases = dict(enumerate(subject))
    else:
        cases = {0: subject}
    if not cases:
        raise InvalidInput("there is nothing to compare: subject is empty")
    return cases


def _program(mechanism: Any) -> Program:
    if not hasattr(mechanism, "program"):
        raise InvalidInput(
            f"an object of type {type(mechanism).__name__} has no program(); give a Program, or "
            "declare=<function that makes one>"
        )
    program = mechanism.program()
    assert isinstance(program, Program)
    return program


def _form(subject: Any, closed_form: Any, program: Program) -> tuple[_Form | None, str]:
    """Evaluate the form; the second part tells why it is not valid, ``""`` if it is."""
    if closed_form is None and not hasattr(subject, "closed_form"):
        raise InvalidInput(
            f"an object of type {type(subject).__name__} has no closed_form(); pass closed_form=..."
        )
    try:
        if closed_form is None:
            given = subject.closed_form()
        else:
            given = closed_form(subject) if callable(closed_form) else closed_form
    except NotApplicable as error:
        return None, error.reason
    why = ""
    if hasattr(given, "require"):
        try:
            given.require()
        except NotApplicable as error:
            why = error.reason
    return _read(given, program), why


def _read(given: Any, program: Program) -> _Form:
    known, kind = ("objective", *program.names), type(given).__name__
    if isinstance(given, Solution):
        return _Form(given.objective, given.values, given.duals)
    if isinstance(given, int | float | np.number) or (isinstance(given, np.ndarray) and given.ndim == 0):
        return _Form(float(given), {}, {})
    if isinstance(given, Mapping):
        duals = {str(k).removeprefix(DUAL): v for k, v in given.items() if str(k).startswith(DUAL)}
        strange = [k for k in given if k not in known and not str(k).startswith(DUAL)]
        strange += [DUAL + family for family in duals if family not in program.families]
        if strange:
            raise InvalidInput(
                f"the closed form has {', '.join(map(repr, strange))}, which {program.name!r} has not; it "
                f"has {', '.join(known)}, and prices {', '.join(DUAL + name for name in program.families)}"
            )
        values = {k: v for k, v in given.items() if k in program}
    else:
        values = {name: getattr(given, name) for name in program.names if hasattr(given, name)}
        prices = getattr(given, "duals", {})
        duals = dict(prices) if isinstance(prices, Mapping) else {}
        given = {"objective": given.objective} if hasattr(given, "objective") else {}
    objective = given.get("objective")
    if not values and not duals and objective is None:
        raise InvalidInput(
            f"the closed form, of type {kind}, has nothing of {program.name!r}; it may have "
            f"{', '.join(known)}"
        )
    if objective is not None:
        entries = _numbers("objective", objective)
        if entries.size != 1:
            raise InvalidInput(
                f"the closed form gives 'objective' with {entries.size} entries; it is one number"
            )
        objective = float(entries[0])
    return _Form(objective, values, duals)


def _valued(form: _Form, program: Program) -> _Form:
    """Add the objective at the form's own point, where the form gives none, and every variable in it."""
    within = {variable.id for variable in program.objective.variables()}
    point = {}
    for name, variable in program.cvxpy_variables().items():
        if variable.id in within and name in form.values and np.size(form.values[name]) == variable.size:
            point[name] = np.reshape(_numbers(name, form.values[name]), variable.shape)
    if form.objective is not None or len(point) < len(within):
        return form
    with program.values_kept(), np.errstate(all="ignore"):
        program.set_values(point)
        return replace(form, objective=float(program.objective.value.item()))


def _answers(
    program: Program, names: tuple[str, ...] | None, tolerance: float, time_limit: float | None
) -> list[tuple[str, Solution | None, str, str]]:
    """Solve on each backend: its name, its solution, a state and a note where there is none."""
    answers: list[tuple[str, Solution | None, str, str]] = []
    for name in capable_backends(program) if names is None else names:
        try:
            with warnings.catch_warnings():
                # What a backend thinks of its accuracy is in its status, and the row has it.
                warnings.simplefilter("ignore", MechanismWarning)
                solution = program.solve(
                    name, tolerance=min(tolerance, 1e-6), time_limit=time_limit, on_failure="return"
                )
        except MissingCapability as error:
            answers.append((name, None, "cannot", f"lacks {', '.join(error.missing)}"))
        except BackendUnavailable as error:
            answers.append((name, None, "cannot", str(error)))
        except MechanismError as error:
            answers.append((name, None, "no answer", f"{type(error).__name__}: {error}"))
        else:
            answers.append((name, solution, "", ""))
    return answers


def _row(
    label: Any,
    program: Program,
    form: _Form,
    why: str,
    backend: str,
    solution: Solution | None,
    state: str,
    note: str,
    tolerance: float,
    point_tolerance: float,
) -> ComparisonRow:
    valid, note = not why, "; ".join(part for part in (why, note) if part)
    form_value = float("nan") if form.objective is None else form.objective
    if solution is None or not solution.values:
        if solution is not None:
            state = "no answer"
            note = "; ".join(part for part in (note, f"{solution.status}: {solution.reason}") if part)
        return ComparisonRow(label, backend, state, valid, form_value=form_value, note=note)
    money = FLOOR * program.objective_scale
    value_gap = relative_gap(solution.objective, form_value, money)
    points = {
        name: _gap(name, solution[name], value, _floor(program, name)) for name, value in form.values.items()
    }
    prices = {
        family: _gap(DUAL + family, solution.dual(family), price, _price_floor(program, family, solution))
        for family, price in form.duals.items()
        if family in solution.duals
    }
    apart = points | {DUAL + family: gap for family, gap in prices.items()}
    # Written so that a value that is not a number does not agree.
    value_agrees = form.objective is None or value_gap <= tolerance
    point_agrees = all(gap <= point_tolerance for gap in apart.values())
    state = "agrees" if value_agrees and point_agrees else "other point" if value_agrees else "differs"
    if state == "other point" and form.objective is None:
        no_value = "the form gives no objective, which would tell a wrong point from another optimum"
        note = "; ".join(part for part in (note, no_value) if part)
    if state != "agrees" and not solution.status.ok:
        state = "inaccurate"
        note = "; ".join(part for part in (note, f"{solution.status}: {solution.reason}") if part)
    if form.undefined:  # no backend can agree with that
        state, told = "form at fault", f"the form gives no finite {', '.join(form.undefined)}"
        note = "; ".join(part for part in (note, told) if part)
    return ComparisonRow(
        label,
        backend,
        state,
        valid,
        str(solution.status),
        solution.objective,
        form_value,
        value_gap,
        max(points.values(), default=float("nan")),
        max(prices.values(), default=float("nan")),
        max(apart, key=lambda name: apart[name], default=""),
        float(sum(solution.seconds.values())),
        note,
    )


def _gap(name: str, found: Any, given: Any, floor: float) -> float:
    a, b = _numbers(name, found), _numbers(name, given)
    if a.size != b.size:
        raise InvalidInput(f"the closed form gives {name!r} with {b.size} entries; the program has {a.size}")
    return relative_gap(a, b, floor)


def _numbers(name: str, value: Any) -> Any:
    """Return all entries in a row."""
    # A family of several constraints has a price for each.
    parts = value if isinstance(value, tuple) else (value,)
    try:
        return np.concatenate([np.asarray(part, dtype=float).ravel() for part in parts])
    except (TypeError, ValueError):
        raise InvalidInput(f"the closed form gives {name!r} as {value!r:.80}, which is no number") from None


def _floor(program: Program, name: str) -> float:
    """A thousandth of the declared scale of a variable, of the objective's for an expression."""
    if not program.has_variable(name):
        return FLOOR * program.objective_scale
    ((_, inner),) = program.inner_values({name: 1.0}).items()
    return FLOOR * float(np.max(1 / inner))


def _price_floor(program: Program, family: str, solution: Solution) -> float:
    """A thousandth of the price at which the largest row of a family would be worth the whole objective."""
    with program.values_kept():
        program.set_values(solution)
        sizes = [measure(term).scale for term in program.families[family]]
    size = max((float(np.max(scale, initial=0.0)) for scale in sizes), default=0.0)
    return FLOOR * program.objective_scale / size if size > 0 else 0.0


def _blamed(rows: list[ComparisonRow], tolerance: float) -> list[ComparisonRow]:
    """Decide who is at fault where a backend and a form that calls itself valid differ."""
    differing = [row for row in rows if row.state == "differs"]
    if any(row.state == "agrees" for row in rows):
        return [replace(row, state="backend at fault") if row in differing else row for row in rows]
    values = [row.value for row in differing]
    if len(values) > 1 and relative_gap(max(values), min(values)) <= tolerance:
        return [replace(row, state="form at fault") if row in differing else row for row in rows]
    return rows
