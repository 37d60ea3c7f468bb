"""The declared CVXPY expressions as a Pyomo model.

Affine parts are read off as one sparse matrix an expression, however deep the tree below it is; nonlinear
atoms become Pyomo expressions by the table in ``atoms.py`` and enter the matrix as further columns. The cost
is that of the nonzeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from cvxpy.cvxcore.python import canonInterface
from cvxpy.lin_ops.lin_op import CONSTANT_ID
from cvxpy.reductions.eval_params import replace_params_with_consts
from numpy.typing import NDArray

from mechopt.solvers.errors import MissingCapability
from mechopt.solvers.pyomo.atoms import KINKED, NUMBER, RULES, UNLINEAR, array, total
from mechopt.solvers.terms import Complementarity, Hypograph

if TYPE_CHECKING:
    from mechopt.solvers.program import Program

Array = NDArray[np.float64]

ROWS = {"Inequality": 1, "NonPos": 1, "NonNeg": -1, "Equality": 0, "Zero": 0}
"""Elementwise constraints: the sign that turns them into ``row <= 0``; 0 for ``row == 0``."""

CONES = ("SOC", "ExpCone", "PowCone3D")

ROUNDING = 1e-9
"""Rows without variables may be off by this much."""

RELATIVE = 1e-12
"""Coefficients this much smaller than the largest of their row are rounding."""

PLAIN = {"nonneg", "nonpos", "pos", "neg", "bounds", "boolean", "integer", "symmetric", "diag"}
"""Attributes of variables that a Pyomo model can carry."""


def unsupported(program: Program) -> tuple[str, ...]:
    """Name what the translation has no words for: atoms, constraints and attributes of variables."""
    found: dict[str, None] = {}
    seen: set[int] = set()
    problem = program.problem
    _scan([problem.objective.expr], found, seen)
    for constraint in problem.constraints:
        name = type(constraint).__name__
        if name not in ROWS and name not in CONES:
            found[f"the constraint {name}"] = None
        _scan(constraint.args, found, seen)
    for pair in program.complementarities:
        _scan([pair.a, pair.b], found, seen)
        for kinked in _atoms([pair.a, pair.b]) & set(KINKED):
            found[f"the atom {kinked} in a complementarity pair"] = None
    for name, variable in program.cvxpy_variables().items():
        for attribute, value in variable.attributes.items():
            if attribute not in PLAIN and value is not None and value is not False:
                found[f"the attribute {attribute} of variable {name!r}"] = None
    return tuple(found)


def _scan(expressions: Iterable[Any], found: dict[str, None], seen: set[int]) -> None:
    """Collect nonlinear atoms that the table lacks."""
    stack = list(expressions)
    while stack:
        node = stack.pop()
        if id(node) in seen or not node.args or node.is_affine():
            continue
        seen.add(id(node))
        name = type(node).__name__
        if name not in RULES and not node.is_atom_affine():
            found[f"the atom {name}"] = None
        stack += node.args


def _atoms(expressions: Iterable[Any]) -> set[str]:
    stack, names = list(expressions), set()
    while stack:
        node = stack.pop()
        if node.args and not node.is_affine():
            names.add(type(node).__name__)
            stack += node.args
    return names


class Translation:
    """A program as a Pyomo model, with the way back to the program's variables and constraints.

    Parameters
    ----------
    program : Program
        One for which `unsupported` finds nothing.

    Attributes
    ----------
    model : pyomo ConcreteModel
        Variables ``x``, rows ``rows``, objective ``objective``.
    rows : dict of int to list
        Pyomo's constraints for each CVXPY constraint by its id, None where a row is left out: it has no
        variable, or follows from others.
    pairs : list of (family, index, a, b)
        Complementarity pairs as nonnegative Pyomo variables (or the number 0).
    convex_bodies : dict of int to expression
        By ``id`` of a row that is not convex as written: a convex function that is negative where it is.
    faintest : float
        Size of the smallest coefficient, inf if there is none.
    contradiction : bool
        Whether some row without variables is false.
    """

    def __init__(self, program: Program) -> None:
        import pyomo.environ as pyo

        self.program = program
        self.model = pyo.ConcreteModel()
        self.model.x = pyo.VarList()
        self.model.rows = pyo.ConstraintList()
        self.rows: dict[int, list[Any]] = {}
        self.pairs: list[tuple[str, tuple[int, ...], Any, Any]] = []
        self.convex_bodies: dict[int, Any] = {}
        self.contradiction = False
        self.faintest = np.inf
        self._offsets: dict[int, int] = {}
        self._columns: list[Any] = []
        self._lifted: dict[tuple[int, bool], tuple[Any, cp.Variable]] = {}
        self._named: dict[int, tuple[Any, Any]] = {}
        self.variables = list(program.cvxpy_variables().values())
        for variable in self.variables:
            self._declare(variable)
        problem = program.problem
        (objective,) = self.entries(problem.objective.expr, problem.objective.is_dcp())
        self.model.objective = pyo.Objective(
            expr=objective, sense=pyo.maximize if program.sense == "maximize" else pyo.minimize
        )
        for constraint in problem.constraints:
            self._constrain(constraint)
        for family, terms in program.families.items():
            for term in terms:
                if isinstance(term, Complementarity):
                    self._complement(family, term)
                elif isinstance(term, Hypograph):
                    raise MissingCapability(f"family {family!r}: Pyomo has no words for evaluated functions")

    # ---------------------------------------------------------------- variables

    def _declare(self, variable: cp.Variable) -> None:
        """Pyomo variables for one CVXPY variable, in Fortran order; equal entries share one variable."""
        lower, upper = (_spread(bound, variable) for bound in _bounds(variable))
        start = _spread(np.nan if variable.value is None else _dense(variable.value), variable)
        kinds = (_marked(variable, "integer") + 2 * _marked(variable, "boolean")).ravel(order="F")
        entries: list[Any] = []
        for position in range(variable.size):
            twin = self._twin(variable, position)
            if twin is not None and twin < position:
                entries.append(entries[twin])
            elif variable.attributes["diag"] and position % (variable.shape[0] + 1):
                entries.append(0.0)
            else:
                entry = self.fresh(lower[position], upper[position], start=start[position])
                entry.domain = _domains()[kinds[position]]
                entries.append(entry)
        self._register(variable, entries)

    @staticmethod
    def _twin(variable: cp.Variable, position: int) -> int | None:
        if not variable.attributes["symmetric"] or variable.ndim != 2:
            return None
        row, column = position % variable.shape[0], position // variable.shape[0]
        return int(column + row * variable.shape[0])

    def _register(self, variable: cp.Variable, entries: Sequence[Any]) -> None:
        self._offsets[variable.id] = len(self._columns)
        self._columns += entries

    def fresh(self, lower: float | None = None, upper: float | None = None, start: float = np.nan) -> Any:
        """Return a new Pyomo variable, started strictly between its bounds unless a start is given."""
        variable = self.model.x.add()
        low = -np.inf if lower is None else float(lower)
        high = np.inf if upper is None else float(upper)
        if np.isfinite(low):
            variable.setlb(low)
        if np.isfinite(high):
            variable.setub(high)
        if not np.isfinite(start):
            # Golden-ratio offsets: starts that differ, so that symmetry does not trap a local method.
            start = 1.0 + 0.1 * ((0.6180339887 * len(self.model.x)) % 1.0)
            if start <= low or start >= high:
                start = (
                    (low + high) / 2
                    if np.isfinite(low + high)
                    else low + 1.0
                    if np.isfinite(low)
                    else high - 1.0
                )
        variable.set_value(float(np.clip(start, low, high)), skip_validation=True)
        return variable

    # ---------------------------------------------------------------- expressions

    def entries(self, expression: Any, convex: bool) -> list[Any]:
        """Entries of a CVXPY expression in Fortran order: numbers and Pyomo expressions."""
        if expression.parameters():
            expression = replace_params_with_consts(expression)
        if expression.is_constant():
            return [float(v) for v in _dense(expression.value).ravel(order="F")]
        affine = self._linearise(expression, convex)
        if isinstance(affine, cp.Variable):
            offset = self._offsets[affine.id]
            return self._columns[offset : offset + affine.size]
        matrix = self._matrix(affine)
        width = len(self._columns)
        columns = self._columns
        starts, indices, data = matrix.indptr.tolist(), matrix.indices.tolist(), matrix.data.tolist()
        out = []
        for row in range(affine.size):
            constant, coefficients, entries = 0.0, [], []
            for k in range(starts[row], starts[row + 1]):
                if indices[k] == width:
                    constant = data[k]
                elif data[k] != 0.0:
                    coefficients.append(data[k])
                    entries.append(columns[indices[k]])
            out.append(self.combine(constant, coefficients, entries))
        return out

    def combine(self, constant: float, coefficients: Sequence[float], entries: Sequence[Any]) -> Any:
        """``constant + sum(coefficients * entries)``: a number, a variable, or an expression."""
        from pyomo.core.expr.numeric_expr import LinearExpression

        linear: list[Any] = []
        weights: list[float] = []
        others: list[Any] = []
        for weight, entry in zip(coefficients, entries, strict=True):
            if isinstance(entry, NUMBER):
                constant += weight * float(entry)
            elif entry.is_variable_type():
                weights.append(float(weight))
                linear.append(entry)
            else:
                others.append(entry if weight == 1.0 else float(weight) * entry)
        if not linear and not others:
            return float(constant)
        self._watch(coefficients)
        if not others and len(linear) == 1 and weights[0] == 1.0 and constant == 0.0:
            return linear[0]
        if linear:
            row = LinearExpression(constant=float(constant), linear_coefs=weights, linear_vars=linear)
            return total([row, *others]) if others else row
        return total([*others, constant] if constant else others)

    def _watch(self, coefficients: Sequence[float]) -> None:
        """Remember the smallest coefficient that is no rounding beside the others of its row."""
        sizes = [abs(float(weight)) for weight in coefficients]
        least = RELATIVE * max(sizes)
        self.faintest = min(self.faintest, *(size for size in sizes if size > least))

    def _matrix(self, affine: Any) -> Any:
        """Coefficients of an affine expression over all columns, constants last; CSR."""
        width = len(self._columns)
        tensor = canonInterface.get_problem_matrix(
            [affine.canonical_form[0]],
            width,
            self._offsets,
            {CONSTANT_ID: 1},
            {CONSTANT_ID: 0},
            affine.size,
            "SCIPY",
        )
        tensor = sp.coo_array(tensor)
        position = tensor.coords[0]
        place = (position % affine.size, position // affine.size)
        return sp.csr_array((tensor.data, place), shape=(affine.size, width + 1))

    def _linearise(self, expression: Any, convex: bool) -> Any:
        """Return the expression with each nonlinear atom replaced by a stand-in, which is a new column."""
        if _is_linear(expression):
            return expression
        key = (id(expression), convex)
        if key in self._lifted:
            return self._lifted[key][1]
        name = type(expression).__name__
        if expression.is_atom_affine() and name not in UNLINEAR:
            return expression.copy([self._linearise(argument, convex) for argument in expression.args])
        arguments = [array(self.entries(argument, convex), argument.shape) for argument in expression.args]
        entries = RULES[name](self, expression, arguments, convex)
        stand_in = cp.Variable(expression.shape)
        self._register(stand_in, list(entries.ravel(order="F")))
        self._lifted[key] = (expression, stand_in)  # the expression is kept, so that its id stays taken
        return stand_in

    # ---------------------------------------------------------------- what the table of atoms uses

    def named(self, entry: Any, convex: bool, lower: float | None = None) -> Any:
        """Return a variable equal to the entry, itself if it is one.

        In a convex place a nonlinear entry stays what it is: naming it would take a nonconvex equality.
        """
        import pyomo.environ as pyo

        if isinstance(entry, NUMBER) or entry.is_variable_type():
            return entry
        if convex and entry.polynomial_degree() not in (0, 1):
            return entry
        known = self._named.get(id(entry))
        if known is None:
            value = pyo.value(entry, exception=False)
            variable = self.fresh(start=np.nan if value is None or isinstance(value, complex) else value)
            self.equal(entry - variable)
            known = self._named[id(entry)] = (entry, variable)
        variable = known[1]
        if lower is not None:
            _raise_bound(variable, lower)
        return variable

    def positive(self, entry: Any, convex: bool) -> Any:
        """Return the entry as one that its bounds keep nonnegative, for functions that end at zero."""
        from pyomo.contrib.fbbt.expression_bounds_walker import ExpressionBoundsVisitor

        if isinstance(entry, NUMBER):
            return entry
        if entry.is_variable_type():
            _raise_bound(entry, 0.0)
            return entry
        lower, _ = ExpressionBoundsVisitor().walk_expression(entry)
        if lower is not None and lower > 0:
            return entry
        return self.named(entry, convex, lower=0.0)

    def at_most(self, body: Any, convex_body: Any = None) -> Any:
        """Add ``body <= 0``; returns the row, or None if there is no variable in it.

        ``convex_body`` tells, for rows of cones, a convex function with the same zeros.
        """
        if isinstance(body, NUMBER):
            self.contradiction |= not float(body) <= ROUNDING
            return None
        row = self.model.rows.add((None, body, 0.0))
        if convex_body is not None:
            self.convex_bodies[id(row)] = convex_body
        return row

    def equal(self, body: Any) -> Any:
        """Add ``body == 0``; returns the row, or None if there is no variable in it."""
        if isinstance(body, NUMBER):
            self.contradiction |= not abs(float(body)) <= ROUNDING
            return None
        # An equation, never the range 0 <= body <= 0: Pyomo's SCIP interface misreads ranges of bodies that
        # have a constant, and SCIP then calls feasible programs infeasible.
        return self.model.rows.add((body, 0.0))

    # ---------------------------------------------------------------- constraints

    def _constrain(self, constraint: Any) -> None:
        name = type(constraint).__name__
        convex = constraint.is_dcp()
        if name in ROWS:
            sign = ROWS[name]
            expression = (
                constraint.args[0] - constraint.args[1] if len(constraint.args) == 2 else constraint.args[0]
            )
            bodies = self.entries(-expression if sign < 0 else expression, convex)
            self.rows[constraint.id] = [self.at_most(body) if sign else self.equal(body) for body in bodies]
        elif name == "SOC":
            top = self.entries(constraint.args[0], convex)
            rows = array(self.entries(constraint.args[1], convex), constraint.args[1].shape)
            parts = rows.reshape(-1, 1) if rows.ndim == 1 else rows if constraint.axis == 0 else rows.T
            for height, part in zip(top, parts.T, strict=True):
                height = self.positive(height, convex)
                squares = total(self.named(x, convex) ** 2 for x in part)
                self.at_most(squares - height**2, squares**0.5 - height)
        elif name == "ExpCone":
            self._exponential(*(self.entries(argument, convex) for argument in constraint.args))
        elif name == "PowCone3D":
            cone = [self.entries(argument, convex) for argument in constraint.args]
            shares = np.broadcast_to(_dense(constraint.alpha.value).ravel(order="F"), len(cone[0]))
            for x, y, z, share in zip(*cone, shares, strict=True):
                x, y = self.positive(x, convex), self.positive(y, convex)
                mean = x ** float(share) * y ** float(1 - share)
                self.at_most(z - mean)
                self.at_most(-z - mean)

    def _exponential(self, powers: list[Any], scales: list[Any], heights: list[Any]) -> None:
        """``y exp(x / y) <= z``."""
        import pyomo.environ as pyo

        for x, y, z in zip(powers, scales, heights, strict=True):
            if isinstance(y, NUMBER):
                self.at_most(y * pyo.exp(x / y) - z)
            else:
                y, z = self.positive(y, True), self.positive(z, True)
                self.at_most(x + y * pyo.log(y) - y * pyo.log(z))

    def _complement(self, family: str, pair: Complementarity) -> None:
        sides = [self.entries(side, convex=False) for side in (pair.a, pair.b)]
        for position, (a, b) in enumerate(zip(*sides, strict=True)):
            index = tuple(int(i) for i in np.unravel_index(position, pair.shape, order="F"))
            self.pairs.append((family, index, self._side(a), self._side(b)))

    def _side(self, entry: Any) -> Any:
        if isinstance(entry, NUMBER):
            self.contradiction |= float(entry) < -ROUNDING
            return float(entry)
        return self.named(entry, convex=False, lower=0.0)

    # ---------------------------------------------------------------- the way back

    def primal(self) -> dict[int, Array]:
        """Values of the program's variables by id, as they stand in the model."""
        found = {}
        for variable in self.variables:
            offset = self._offsets[variable.id]
            entries = self._columns[offset : offset + variable.size]
            values = [e if isinstance(e, NUMBER) else np.nan if e.value is None else e.value for e in entries]
            found[variable.id] = np.asarray(values, dtype=float).reshape(variable.shape, order="F")
        return found

    def duals(self, prices: Any) -> dict[int, Array]:
        """Multipliers in CVXPY's sign by constraint id, from d objective / d right-hand side by row."""
        sign = 1.0 if self.program.sense == "maximize" else -1.0
        return {
            key: np.asarray(
                [0.0 if row is None else sign * prices.get(row, np.nan) for row in rows], dtype=float
            )
            for key, rows in self.rows.items()
        }

    def largest(self) -> float:
        """Size of the largest value in the model."""
        return max((abs(v.value) for v in self.model.x.values() if v.value is not None), default=0.0)

    def unbounded_variables(self) -> int:
        """Count the program's entries that lack a finite bound."""
        return sum(
            not isinstance(e, NUMBER) and (e.lb is None or e.ub is None)
            for v in self.variables
            for e in self._columns[self._offsets[v.id] : self._offsets[v.id] + v.size]
        )


def _is_linear(expression: Any) -> bool:
    """Whether CVXPY can write the expression as one sparse matrix."""
    if not expression.args or expression.is_constant():
        return True
    return expression.is_affine() and not UNLINEAR & {atom.__name__ for atom in expression.atoms()}


def _domains() -> tuple[Any, ...]:
    import pyomo.environ as pyo

    return pyo.Reals, pyo.Integers, pyo.Binary, pyo.Binary


def _marked(variable: cp.Variable, kind: str) -> NDArray[np.int_]:
    """1 where an entry is ``"integer"`` or ``"boolean"``; CVXPY allows some entries only."""
    declared = variable.attributes[kind]
    if declared is True or not declared:
        return np.full(variable.shape, int(bool(declared)))
    marked = np.zeros(variable.shape, dtype=int)
    marked[tuple(np.asarray(axis) for axis in getattr(variable, f"{kind}_idx"))] = 1
    return marked


def _raise_bound(variable: Any, lower: float) -> None:
    if variable.lb is None or variable.lb < lower:
        variable.setlb(lower)
        if variable.value is not None and variable.value <= lower:
            variable.set_value(lower + 1e-2, skip_validation=True)


def _bounds(variable: cp.Variable) -> list[Any]:
    """Bounds as numbers; CVXPY leaves out those that are expressions."""
    bounds = list(variable.get_bounds())
    for side, bound in enumerate(variable.attributes["bounds"] or ()):
        if isinstance(bound, cp.Expression):
            tighter = np.maximum if side == 0 else np.minimum
            bounds[side] = tighter(_dense(bounds[side]), _dense(bound.value))
    return bounds


def _spread(value: Any, variable: cp.Variable) -> Array:
    return np.broadcast_to(_dense(value), variable.shape).astype(float).ravel(order="F")


def _dense(value: Any) -> Array:
    return np.asarray(value.toarray() if sp.issparse(value) else value, dtype=float)
