"""The declaration of a mechanism: named variables, a named objective, named families of constraints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import cvxpy as cp
import numpy as np
from cvxpy.problems.problem_form import ProblemForm
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence

from mechopt.solvers.backend import Answer, Backend, Capability, Settings, choose
from mechopt.solvers.certify import DOMAIN, check, objective_unit, row_size
from mechopt.solvers.errors import InvalidInput, MechanismError
from mechopt.solvers.rerouting import note, redirected, unwatched
from mechopt.solvers.solution import Solution, Status
from mechopt.solvers.terms import Complementarity, Hypograph, Term

if TYPE_CHECKING:
    from mechopt.solvers.diagnose import Essential

Array = NDArray[np.float64]
OnFailure = Literal["raise", "return"]

_CONES = {
    "SOC": Capability.SOC,
    "ExpCone": Capability.EXP,
    "PSD": Capability.SDP,
    "PowCone3D": Capability.POW,
    "PowConeND": Capability.POW,
    "RelEntrConeQuad": Capability.EXP,
    "OpRelEntrConeQuad": Capability.SDP,
}


@dataclass(frozen=True)
class Changes:
    """How a program differs from what its mechanism declared."""

    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    objective: bool = False

    def __bool__(self) -> bool:
        return bool(self.added or self.dropped or self.objective)


@dataclass(frozen=True)
class ExactAnswer:
    """What a mechanism's own algorithm says.

    Attributes
    ----------
    values : mapping
        Every variable of the program by name, in physical units.
    prices : mapping
        Shadow prices of the families that the algorithm prices, as `Solution.dual` defines them.
    conflict : tuple of str
        If there is no point: families that cannot hold together.
    reason : str
        What the algorithm has to say.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    prices: Mapping[str, Any] = field(default_factory=dict)
    conflict: tuple[str, ...] = ()
    reason: str = "exact algorithm"


class ExactRoute(Protocol):
    """A mechanism's own algorithm, as the backend ``exact`` sees it."""

    def refuses(self, program: Program, changes: Changes) -> tuple[str, ...]:
        """Families (or ``"objective"``) that the algorithm cannot price; empty if it applies."""

    def __call__(self, program: Program, changes: Changes, settings: Settings) -> ExactAnswer:
        """Solve the program with these changes, all of which it accepted."""


Guard = Callable[["Program", str, Term | cp.Expression], None]
"""Raises `InvalidInput` for a constraint or objective that a form of a program is not valid for."""


class Program:
    """An optimization program under construction or finished, which no solver has seen yet.

    Variables, expressions and families have names. Variables may carry a ``scale``: inside they are then
    of order one, while ``program["name"]`` is the CVXPY expression in physical units, for use in constraints.
    Programs share no state and may be built in any order.

    Parameters
    ----------
    name : str
        Used in tables and errors.
    objective_scale : float
        Typical size of the objective; solvers see the objective divided by it, users never do.

    Examples
    --------
    >>> import mechopt as mo
    >>> program = mo.Program("two goods")
    >>> x = program.variable("x", 2, nonneg=True)
    >>> _ = program.maximize(3 * x[0] + 2 * x[1])
    >>> _ = program.add("labour", x[0] + x[1] <= 4).add("land", x[0] + 3 * x[1] <= 6)
    >>> solution = program.solve("highspy")
    >>> solution.objective, float(solution.dual("labour"))
    (12.0, 3.0)
    """

    def __init__(self, name: str = "program", *, objective_scale: float = 1.0) -> None:
        if not (np.isfinite(objective_scale) and objective_scale > 0):
            raise InvalidInput(f"objective_scale must be positive and finite, got {objective_scale!r}")
        self.name = name
        self.objective_scale = float(objective_scale)
        self._named: dict[str, cp.Expression] = {}
        self._inner: dict[str, cp.Variable] = {}
        self._scales: dict[str, Any] = {}
        self._families: dict[str, tuple[Term, ...]] = {}
        self._maximize = True
        self._objective: cp.Expression = cp.Constant(0.0)
        self._declared: tuple[cp.Expression, bool, dict[str, tuple[Term, ...]]] | None = None
        self._exact: ExactRoute | None = None
        self._guard: Guard | None = None
        self._problem: cp.Problem | None = None
        self._unit = self.objective_scale
        self._row_sizes: dict[int, Any] = {}
        self._needs: frozenset[Capability] | None = None
        self._used: frozenset[int] | None = None
        self._variables: dict[str, cp.Variable] | None = None
        self._born = time.perf_counter()
        self._build_seconds: float | None = None

    # ---------------------------------------------------------------- declaring

    def variable(
        self, name: str, shape: int | tuple[int, ...] = (), *, scale: Any = 1.0, **attributes: Any
    ) -> cp.Expression:
        """Declare a variable and return it in physical units.

        Parameters
        ----------
        name : str
            Its name in the program and in solutions.
        shape : int or tuple of int
            Its shape; ``()`` for a scalar.
        scale : float or array that broadcasts to ``shape``
            Typical magnitude, positive; inside, the variable is divided by it.
        **attributes
            CVXPY's own: ``nonneg``, ``boolean``, ``integer``, ``bounds``, ``PSD``, ``symmetric`` ...;
            ``bounds`` in physical units.
        """
        self._check_name(name)
        factor = np.asarray(scale, dtype=float)
        if not (np.all(np.isfinite(factor)) and np.all(factor > 0)):
            raise InvalidInput(f"scale of variable {name!r} must be positive and finite, got {scale!r}")
        scaled = not np.all(factor == 1.0)
        if scaled and any(attributes.get(kind) for kind in ("boolean", "integer")):
            raise InvalidInput(f"variable {name!r} is integer and cannot be scaled")
        if scaled and attributes.get("bounds") is not None:
            low, high = attributes["bounds"]
            attributes["bounds"] = [
                None if low is None else np.broadcast_to(np.asarray(low) / factor, np.zeros(shape).shape),
                None if high is None else np.broadcast_to(np.asarray(high) / factor, np.zeros(shape).shape),
            ]
        inner = cp.Variable(shape, name=name, **attributes)
        expression = (
            inner if not scaled else inner * factor if factor.ndim == 0 else cp.multiply(factor, inner)
        )
        self._name(name, expression)
        self._inner[name] = inner
        self._variables = None
        self._scales[name] = factor
        return expression

    def define(self, name: str, expression: Any) -> cp.Expression:
        """Give an expression a name: it is reported in every solution, and users build constraints on it."""
        expression = cp.Expression.cast_to_const(expression)
        self._name(name, expression)
        return expression

    def _name(self, name: str, expression: cp.Expression) -> None:
        self._check_name(name)
        self._named[name] = expression
        self._touch()

    def _check_name(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise InvalidInput(f"a name must be a non-empty string, got {name!r}")
        if name in self._named:
            raise InvalidInput(f"{self.name!r} already has a variable or expression named {name!r}")

    def maximize(self, expression: Any) -> Self:
        """Set the objective, to be maximised."""
        return self._aim(expression, True)

    def minimize(self, expression: Any) -> Self:
        """Set the objective, to be minimised."""
        return self._aim(expression, False)

    def _aim(self, expression: Any, maximize: bool) -> Self:
        expression = cp.Expression.cast_to_const(expression)
        if expression.size != 1:
            raise InvalidInput(
                f"the objective of {self.name!r} must be a scalar, got shape {expression.shape}; "
                "sum it or take its expectation"
            )
        before = self._maximize
        self._maximize = maximize
        if self._guard is not None and expression.variables():
            try:
                self._guard(self, "the new objective", expression)
            except InvalidInput:
                self._maximize = before
                raise
        self._objective = expression
        self._touch()
        return self

    def add(self, family: str, *constraints: Any) -> Self:
        """Add a family of constraints.

        Parameters
        ----------
        family : str
            A new name; prices, residuals and errors are reported under it.
        *constraints : cvxpy constraint, Hypograph or Complementarity
            Any number, in plain CVXPY, on ``program["name"]`` or on variables of your own.

        Raises
        ------
        InvalidInput
            If the family exists, or something is not a constraint or is in the program already.
        """
        if not isinstance(family, str) or not family or family == DOMAIN:
            raise InvalidInput(
                f"a family needs a name other than {DOMAIN!r} (kept for sign, bounds and integrality of "
                f"variables), got {family!r}"
            )
        if family in self._families:
            raise InvalidInput(
                f"{self.name!r} already has a family {family!r}; drop it first, or choose another name"
            )
        if not constraints:
            raise InvalidInput(f"family {family!r} needs at least one constraint")
        for position, constraint in enumerate(constraints):
            if isinstance(constraint, Hypograph | Complementarity | cp.Constraint):
                continue
            hint = ""
            if isinstance(constraint, bool | np.bool_ | np.ndarray):
                hint = (
                    "; a comparison of plain numbers gives a truth value: use a variable of the program in it"
                )
            raise InvalidInput(
                f"argument {position} of family {family!r} is a {type(constraint).__name__}, "
                f"not a constraint{hint}"
            )
        known = {id(term): name for name, terms in self._families.items() for term in terms}
        for position, constraint in enumerate(constraints):
            owner = known.setdefault(id(constraint), f"{family}, argument {position}")
            if owner != f"{family}, argument {position}":
                raise InvalidInput(
                    f"argument {position} of family {family!r} is the same constraint object "
                    f"as in {owner!r}, "
                    "and its price would be lost between them; drop it there, or write it again"
                )
        if self._guard is not None:
            for constraint in constraints:
                self._guard(self, f"family {family!r}", constraint)
        self._families[family] = tuple(constraints)
        self._touch()
        return self

    def drop(self, family: str) -> Self:
        """Remove a family of constraints."""
        self._family(family)
        del self._families[family]
        self._touch()
        return self

    def seal(self, exact: ExactRoute | None = None, guard: Guard | None = None) -> Self:
        """Mark the declaration as complete: what is changed from here on is the user's.

        Parameters
        ----------
        exact : ExactRoute, optional
            The mechanism's own algorithm, which is held to the program in this form.
        guard : callable, optional
            ``guard(program, what, term)`` is asked about each constraint or objective that comes later, and
            raises `InvalidInput` for what this form of the program is not valid for.
        """
        self._declared = (self._objective, self._maximize, dict(self._families))
        self._exact, self._guard = exact, guard
        self._build_seconds = time.perf_counter() - self._born
        return self

    def copy(self, *, without: tuple[str, ...] = ()) -> Program:
        """Return an independent program on the same variables, possibly without some families."""
        other = Program(self.name, objective_scale=self.objective_scale)
        other._named, other._inner, other._scales = dict(self._named), dict(self._inner), dict(self._scales)
        other._families = {name: terms for name, terms in self._families.items() if name not in without}
        other._objective, other._maximize = self._objective, self._maximize
        other._declared, other._exact, other._guard = self._declared, self._exact, self._guard
        other._build_seconds = self._build_seconds
        return other

    def _touch(self) -> None:
        self._problem = None
        self._needs = None
        self._used = self._variables = None

    # ---------------------------------------------------------------- reading

    def __getitem__(self, name: str) -> cp.Expression:
        """Variable or named expression, in physical units."""
        try:
            return self._named[name]
        except KeyError:
            raise KeyError(f"{self.name!r} has no {name!r}; it has {', '.join(self._named)}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._named

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def has_variable(self, name: str) -> bool:
        """Whether the name is a variable's, rather than an expression's."""
        return name in self._inner

    @property
    def names(self) -> tuple[str, ...]:
        """Names of variables and expressions, in the order of declaration."""
        return tuple(self._named)

    @property
    def families(self) -> Mapping[str, tuple[Term, ...]]:
        """Constraints by family, read-only."""
        return MappingProxyType(self._families)

    def _family(self, family: str) -> tuple[Term, ...]:
        try:
            return self._families[family]
        except KeyError:
            have = ", ".join(self._families) or "none"
            raise InvalidInput(f"{self.name!r} has no family {family!r}; it has {have}") from None

    @property
    def objective(self) -> cp.Expression:
        """The objective, in physical units."""
        return self._objective

    @property
    def sense(self) -> str:
        """``"maximize"`` or ``"minimize"``."""
        return "maximize" if self._maximize else "minimize"

    @property
    def build_seconds(self) -> float:
        """Seconds from the creation of the program to its sealing; 0 if it was never sealed."""
        return self._build_seconds or 0.0

    @property
    def hypographs(self) -> tuple[Hypograph, ...]:
        """All evaluated hypographs."""
        return tuple(t for terms in self._families.values() for t in terms if isinstance(t, Hypograph))

    @property
    def complementarities(self) -> tuple[Complementarity, ...]:
        """All complementarity conditions."""
        return tuple(t for terms in self._families.values() for t in terms if isinstance(t, Complementarity))

    @property
    def exact(self) -> ExactRoute | None:
        """The mechanism's own algorithm, if it has one."""
        return self._exact

    def used_variables(self) -> frozenset[int]:
        """Ids of the CVXPY variables that the objective or some family touches."""
        if self._used is None:
            self._used = frozenset(v.id for source in self._sources() for v in source.variables())
        return self._used

    def cvxpy_variables(self) -> dict[str, cp.Variable]:
        """Every CVXPY variable in the program by name, the user's own included; scaled units."""
        if self._variables is None:
            self._variables = self._collected()
        return dict(self._variables)

    def _collected(self) -> dict[str, cp.Variable]:
        found = dict(self._inner)
        known = {variable.id for variable in found.values()}
        for source in self._sources():
            for variable in source.variables():
                if variable.id not in known:
                    known.add(variable.id)
                    name = variable.name()
                    found[name if name not in found else f"{name}#{variable.id}"] = variable
        return found

    def _sources(self) -> list[Any]:
        """The objective and every term: whatever holds variables."""
        return [self._objective, *(t for terms in self._families.values() for t in terms)]

    def _parameters(self) -> list[cp.Parameter]:
        parts: list[Any] = [self.problem]
        for pair in self.hypographs:
            parts += [pair.t, pair.x]
        for condition in self.complementarities:
            parts += [condition.a, condition.b]
        return list({p.id: p for part in parts for p in part.parameters()}.values())

    def set_values(self, values: Mapping[str, Any] | Solution) -> None:
        """Put physical values into the variables, as a start for local solvers.

        Parameters
        ----------
        values : mapping from names to arrays, or Solution
            Values of variables, the user's own included; named expressions among them are passed over.
        """
        known = self.cvxpy_variables()
        given = {name: values[name] for name in values if name in known or name not in self._named}
        inner = self.inner_values(given)
        for variable in known.values():
            if variable.id in inner:
                variable.save_value(inner[variable.id])

    def inner_values(self, values: Mapping[str, Any]) -> dict[int, Array]:
        """Scaled values by CVXPY variable id, from physical values by name."""
        known = self.cvxpy_variables()
        inner: dict[int, Array] = {}
        for name, value in values.items():
            if name not in known:
                raise InvalidInput(f"{self.name!r} has no variable {name!r}; it has {', '.join(known)}")
            array, shape = np.asarray(value, dtype=float), known[name].shape
            try:
                inner[known[name].id] = np.broadcast_to(array / self._scales.get(name, 1.0), shape)
            except ValueError:
                raise InvalidInput(
                    f"the value of {name!r} has shape {array.shape}, and the variable {shape}"
                ) from None
        return inner

    def changes(self) -> Changes:
        """What differs from the sealed declaration."""
        if self._declared is None:
            return Changes(added=tuple(self._families), objective=True)
        objective, maximize, families = self._declared
        return Changes(
            added=tuple(name for name, terms in self._families.items() if families.get(name) is not terms),
            dropped=tuple(name for name in families if name not in self._families),
            objective=objective is not self._objective or maximize is not self._maximize,
        )

    @property
    def problem(self) -> cp.Problem:
        """The CVXPY problem that solvers see: scaled objective, all CVXPY constraints under their own ids.

        Rows whose terms are far from order one are divided by their size, and so is a linear objective.
        Hypographs and complementarity pairs are not in it; backends that take them read them apart.
        """
        if self._problem is None:
            self._unit = self.objective_scale * objective_unit(self._objective / self.objective_scale)
            expression = self._objective if self._unit == 1.0 else self._objective / self._unit
            objective = cp.Maximize(expression) if self._maximize else cp.Minimize(expression)
            constraints = [
                _in_units(term, self._row_size(term))
                for terms in self._families.values()
                for term in terms
                if isinstance(term, cp.Constraint)
            ]
            self._problem = cp.Problem(objective, constraints)
        return self._problem

    def _row_size(self, term: cp.Constraint) -> Any:
        """What a constraint is divided by for solvers: 1, unless its terms are far from that."""
        if term.id not in self._row_sizes:
            self._row_sizes[term.id] = row_size(term)
        return self._row_sizes[term.id]

    def physical(self, value: float) -> float:
        """Objective in physical units, from the scaled value of `problem`."""
        return value * self._money()

    def _money(self) -> float:
        """What the objective is divided by in `problem`."""
        _ = self.problem  # which settles it
        return self._unit

    def is_convex(self) -> bool:
        """Whether a stationary point is a global optimum once integers are fixed."""
        return not self.requires() & {Capability.NLP, Capability.COMP}

    def requires(self) -> frozenset[Capability]:
        """Capabilities that a backend must have to solve this program.

        Raises
        ------
        InvalidInput
            If a family, or the objective, is neither disciplined convex nor nonlinear; it is named.
        """
        if self._needs is None:
            self._needs = self._derive()
        return self._needs

    def _derive(self) -> frozenset[Capability]:
        needs = {Capability.LP}
        if self.hypographs:
            needs.add(Capability.ORACLE)
        if self.complementarities:
            needs.add(Capability.COMP)
            if any(not (pair.a.is_affine() and pair.b.is_affine()) for pair in self.complementarities):
                self._require_smooth_pairs()
                needs.add(Capability.NLP)
        used = self.used_variables()
        variables = [v for v in self.cvxpy_variables().values() if v.id in used]
        unreal = [v.name() for v in variables if v.is_complex()]
        if unreal:
            raise InvalidInput(f"variables of {self.name!r} must be real; {', '.join(unreal)} is complex")
        finite = any(type(t).__name__ == "FiniteSet" for t in self.problem.constraints)  # booleans inside
        if finite or any(v.attributes["boolean"] or v.attributes["integer"] for v in variables):
            needs.add(Capability.MIP)
        if not self._is_convex_by_rule():
            self._require_smooth()
            needs.add(Capability.NLP)
            return frozenset(needs)
        form = ProblemForm(self.problem)
        quadratic = form.has_quadratic_objective()
        cones = {kind.__name__ for kind in form.cones(quad_obj=quadratic)}
        if any(v.attributes["PSD"] or v.attributes["NSD"] for v in variables):
            cones.add("PSD")
        needs |= {_CONES[name] for name in cones if name in _CONES}
        if quadratic and not needs & {Capability.SOC, Capability.EXP, Capability.SDP, Capability.POW}:
            needs.add(Capability.QP)
        elif quadratic:
            needs.add(Capability.SOC)
        return frozenset(needs)

    def _is_convex_by_rule(self) -> bool:
        try:
            return bool(self.problem.is_dcp())
        except ArpackNoConvergence as error:
            raise InvalidInput(
                f"whether a quadratic form of {self.name!r} is positive semidefinite could not be decided: "
                "its smallest eigenvalues are too close to zero; if it is, say so with cvxpy.psd_wrap(matrix)"
            ) from error

    def _require_smooth(self) -> None:
        wanted = cp.Maximize(self._objective) if self._maximize else cp.Minimize(self._objective)
        parts: list[tuple[str, Any]] = [("the objective", wanted)]
        for family, terms in self._families.items():
            parts += [(f"family {family!r}", t) for t in terms if isinstance(t, cp.Constraint)]
        self._insist_smooth(parts)

    def _require_smooth_pairs(self) -> None:
        self._insist_smooth(
            (f"family {family!r}", cp.Zero(side))
            for family, terms in self._families.items()
            for pair in terms
            if isinstance(pair, Complementarity)
            for side in (pair.a, pair.b)
        )

    def _insist_smooth(self, parts: Iterable[tuple[str, Any]]) -> None:
        for where, part in parts:
            if not part.is_dnlp():
                raise InvalidInput(
                    f"{where} of {self.name!r} is neither disciplined convex nor nonlinear: {part}; "
                    "rewrite it with CVXPY atoms whose curvature fits, or with smooth ones"
                )

    # ---------------------------------------------------------------- solving

    def solve(
        self,
        backend: str | None = None,
        *,
        tolerance: float | None = None,
        time_limit: float | None = None,
        verbose: bool = False,
        on_failure: OnFailure = "raise",
        **options: Any,
    ) -> Solution:
        """Solve, check the answer ourselves, and return the record.

        The answer is in the record alone: variables keep the values that they had, so that one solve does not
        start another. To start a local solver from an answer, pass it to `set_values`.

        Parameters
        ----------
        backend : str, optional
            A name from `mechopt.backends`; by default the capable backend of least rank, named in the result.
            There is no fallback: a backend that fails, fails.
        tolerance : float
            Relative accuracy that our own residuals and the gap must meet, default 1e-6.
        time_limit : float, optional
            Seconds.
        verbose : bool
            Let the solver print.
        on_failure : {"raise", "return"}
            With ``"return"``, a solution comes back whatever happened; look at its status.
        **options
            The solver's own options, by its own names.

        Returns
        -------
        Solution

        Raises
        ------
        Infeasible
            Naming families that conflict.
        Unbounded, SolverFailure
            Carrying what came back in ``.solution``.
        MissingCapability, BackendUnavailable
            See `mechopt.solvers.backend.choose`.
        """
        from mechopt.solvers.diagnose import deliver

        if on_failure not in ("raise", "return"):
            raise InvalidInput(f"on_failure must be 'raise' or 'return', got {on_failure!r}")
        asked = backend
        backend, limit, solver_options = redirected(asked, time_limit, options)
        settings = Settings(
            **({} if tolerance is None else {"tolerance": tolerance}),
            time_limit=limit,
            verbose=verbose,
            options=solver_options,
        )
        if not self.used_variables():
            raise InvalidInput(
                f"neither the objective nor a family of {self.name!r} has a variable in it; "
                "declare some with program.variable(...) and use them"
            )
        unset = [parameter.name() for parameter in self._parameters() if parameter.value is None]
        if unset:
            raise InvalidInput(
                f"parameters of {self.name!r} without a value: {', '.join(unset)}; set `.value`"
            )
        chosen = choose(self, backend)
        with self.values_kept():
            started = time.perf_counter()
            answer, failure = self._ask(chosen, settings)
            answer.seconds.setdefault("solve", time.perf_counter() - started)
            solution = check(self, answer, settings, chosen)
        note(asked, solution, self.objective_scale)
        if on_failure == "return":
            return solution
        with unwatched():
            return deliver(self, solution, answer, settings, failure)

    def _ask(self, backend: Backend, settings: Settings) -> tuple[Answer, BaseException | None]:
        """Call the backend; what its solver's binding throws, a Rust panic too, becomes a failed answer."""
        try:
            # CVXPY derives bounds of expressions as it compiles, with 0 * inf and 0 ** -1 among them.
            with np.errstate(all="ignore"):
                return backend.solve(self, settings), None
        except MechanismError:
            raise
        except BaseException as error:
            # What is no `Exception` is meant for the caller (Ctrl-C, a test's time limit); but for panics.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            return Answer(Status.FAILED, f"{type(error).__name__}: {error}"), error

    @contextmanager
    def values_kept(self) -> Iterator[None]:
        """Give all variables their present values back at the end."""
        before = [(variable, variable.value) for variable in self.cvxpy_variables().values()]
        try:
            yield
        finally:
            for variable, value in before:
                variable.save_value(value)

    def prices(self, answer: Answer) -> dict[str, tuple[Array, ...]]:
        """Shadow prices by family from a backend's multipliers; families without one are left out."""
        prices: dict[str, tuple[Array, ...]] = {}
        for family, terms in self._families.items():
            found = [self._price(term, answer) for term in terms]
            if found and all(price is not None for price in found):
                prices[family] = tuple(price for price in found if price is not None)
        return prices

    def _price(self, term: Term, answer: Answer) -> Array | None:
        if isinstance(term, Complementarity):
            return None
        key = id(term) if isinstance(term, Hypograph) else term.id
        multiplier = (answer.hypograph_dual if isinstance(term, Hypograph) else answer.dual).get(key)
        kind = type(term).__name__
        if multiplier is None or not np.all(np.isfinite(multiplier)):
            return None
        if kind not in ("Inequality", "Equality", "Zero", "NonPos", "NonNeg", "PSD", "Hypograph"):
            return None
        # CVXPY's multiplier is the gain from relaxing the constraint, for maximisation and, with the other
        # sign, for minimisation. Read on the right-hand side, `constant <= expression` is relaxed by less.
        sign = 1.0 if self._maximize else -1.0
        if kind == "NonNeg" or kind == "PSD":
            sign = -sign
        elif kind in ("Inequality", "Equality"):
            left, right = term.args
            if left.is_constant() and not right.is_constant():
                sign = -sign
        price = np.asarray(multiplier, dtype=float).reshape(term.shape, order="F")
        price = sign * self._money() * price
        if not isinstance(term, Hypograph):
            price = price / self._row_size(term)
        price = np.asarray(price + 0.0)  # no negative zeros; a sum of 0-d arrays is no array
        price.setflags(write=False)
        return price

    def essential(self, backend: str | None = None, *, tolerance: float | None = None) -> Essential:
        """Tell which families bind, and what the objective gains without each.

        Solves the program once as it is and once without each family.

        Returns
        -------
        Essential
            A row a family: entries that bind, gain in the objective without it (inf if it becomes unbounded).
        """
        from mechopt.solvers.diagnose import essential

        return essential(self, backend, tolerance)

    def __repr__(self) -> str:
        lines = [f"Program {self.name!r}: {self.sense} over {', '.join(self._inner) or 'nothing'}"]
        for family, terms in self._families.items():
            rows = sum(int(t.size) for t in terms)
            lines.append(f"  {family:<20} {rows} row{'s' if rows != 1 else ''}")
        needs = sorted(self.requires()) if self._inner else []
        lines.append(f"  needs {', '.join(needs) or 'nothing'}")
        return "\n".join(lines)


def _in_units(term: cp.Constraint, size: Any) -> cp.Constraint:
    """Return the constraint with its rows divided by ``size``, under the same id."""
    if np.ndim(size) == 0 and size == 1.0:
        return term
    sides = [
        argument / size if np.ndim(size) == 0 else cp.multiply(1 / size, argument) for argument in term.args
    ]
    return type(term)(*sides, constr_id=term.id)


def solve(program: Program | Declarable, backend: str | None = None, **options: Any) -> Solution:
    """Solve a program, or a mechanism's program; see `Program.solve`.

    A mechanism is solved by its own ``solve``, so that its exact algorithm answers by default.
    """
    return program.solve(backend, **options)


class Declarable(Protocol):
    """Whatever has programs and can solve itself: every mechanism."""

    def solve(self, backend: str | None = None, **options: Any) -> Solution:
        """Solve on the backend of that name."""
