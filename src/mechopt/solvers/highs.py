"""The backend ``highspy``: HiGHS called directly, for linear, mixed-integer linear and quadratic programs.

CVXPY compiles the program to matrices; everything after that is ours: variable bounds stay bounds, a
previous point or basis can start the solve, infeasibility comes back as an irreducible set of rows, and
Ctrl-C stops it.
The outer approximation uses the same three pieces: `Canonicalizer`, `load` and `run`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import cvxpy as cp
import cvxpy.settings as cps
import numpy as np
import scipy.sparse as sp
from cvxpy.constraints import NonNeg, Zero
from cvxpy.reductions.solution import Solution as CvxpySolution
from cvxpy.reductions.solvers import utilities
from cvxpy.reductions.solvers.conic_solvers.conic_solver import ConicSolver
from numpy.typing import NDArray

from mechopt.solvers.backend import Answer, Backend, Capability, Settings
from mechopt.solvers.certify import DOMAIN
from mechopt.solvers.conic import Multipliers
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.output import hush_highs
from mechopt.solvers.solution import Status

if TYPE_CHECKING:
    from mechopt.solvers.program import Program

Array = NDArray[np.float64]

STATUS = {
    "kOptimal": Status.OPTIMAL,
    "kModelEmpty": Status.OPTIMAL,
    "kInfeasible": Status.INFEASIBLE,
    "kUnbounded": Status.UNBOUNDED,
    "kTimeLimit": Status.LIMIT,
    "kIterationLimit": Status.LIMIT,
    "kSolutionLimit": Status.LIMIT,
    "kObjectiveBound": Status.LIMIT,
    "kObjectiveTarget": Status.LIMIT,
    "kMemoryLimit": Status.LIMIT,
    "kUnknown": Status.INACCURATE,
}

IRREDUCIBLE = 4
"""HiGHS's ``iis_strategy`` for an irreducible set; its default only looks for rows that conflict alone."""


class Canonicalizer(ConicSolver):  # type: ignore[misc]
    """Stands at the end of CVXPY's chain in place of a solver, to compile to matrices and back.

    Parameters
    ----------
    cones : tuple of CVXPY constraint classes
        What the matrices may contain; CVXPY rewrites the rest exactly.
    quadratic : bool
        Whether the objective may keep its quadratic part.
    """

    MIP_CAPABLE = True
    BOUNDED_VARIABLES = True
    EXP_CONE_ORDER = (0, 1, 2)

    def __init__(self, cones: tuple[type, ...], *, quadratic: bool) -> None:
        super().__init__()
        self.SUPPORTED_CONSTRAINTS = list(cones)
        self.MI_SUPPORTED_CONSTRAINTS = list(cones)
        self._quadratic = quadratic

    def name(self) -> str:
        """See `cvxpy`."""
        return "MECHOPT"

    def supports_quad_obj(self) -> bool:
        """See `cvxpy`."""
        return self._quadratic

    def import_solver(self) -> None:
        """Nothing to import: this only compiles."""

    def solve_via_data(self, *_: Any, **__: Any) -> Any:
        """Never called: this only compiles."""
        raise AssertionError("the canonicalizer compiles, and solves nothing")

    def cite(self, data: Any) -> str:
        """Nothing to cite."""
        return ""

    def invert(self, solution: Any, inverse_data: Any) -> Any:
        """Split the canonical point and multipliers by variable and constraint."""
        x, y, value = solution
        constraints = inverse_data[self.EQ_CONSTR] + inverse_data[self.NEQ_CONSTR]
        duals = (
            utilities.get_dual_values(y, utilities.extract_dual_value, constraints) if y is not None else None
        )
        if x is None:
            return CvxpySolution(cps.INFEASIBLE, np.inf, {}, duals or {}, {})
        primal = {inverse_data[self.VAR_ID]: x}
        return CvxpySolution(cps.OPTIMAL, value + inverse_data[cps.OFFSET], primal, duals, {})

    def compile(self, problem: cp.Problem) -> Canonical:
        """Compile a problem; see `Canonical`."""
        data, chain, inverse = problem.get_problem_data(self, ignore_dpp=not problem.parameters())
        stuffed = data[cps.PARAM_PROB]
        size = data[cps.C].size
        lower = np.full(size, -np.inf) if data[cps.LOWER_BOUNDS] is None else np.array(data[cps.LOWER_BOUNDS])
        upper = np.full(size, np.inf) if data[cps.UPPER_BOUNDS] is None else np.array(data[cps.UPPER_BOUNDS])
        boolean = [int(np.ravel(i)[0]) for i in stuffed.x.boolean_idx]
        integer = np.zeros(size, dtype=bool)
        integer[boolean + [int(np.ravel(i)[0]) for i in stuffed.x.integer_idx]] = True
        lower[boolean] = np.maximum(lower[boolean], 0.0)
        upper[boolean] = np.minimum(upper[boolean], 1.0)
        quadratic = data.get(cps.P)
        return Canonical(
            quadratic=sp.csc_matrix(quadratic) if quadratic is not None and quadratic.nnz else None,
            linear=np.asarray(data[cps.C], dtype=float),
            matrix=sp.csr_matrix(data[cps.A]),
            offset=np.asarray(data[cps.B], dtype=float),
            lower=lower,
            upper=upper,
            integer=integer,
            dims=data[ConicSolver.DIMS],
            stuffed=stuffed,
            chain=chain,
            inverse=inverse,
        )


@dataclass
class Canonical:
    """A program as matrices: minimise ``x'Px/2 + q'x`` with ``b - Ax`` in a product of cones.

    Also ``lower <= x <= upper``, and some entries of x are integer. Rows come in CVXPY's order: equalities,
    inequalities, then the other cones.
    """

    quadratic: Any
    linear: Array
    matrix: Any
    offset: Array
    lower: Array
    upper: Array
    integer: NDArray[np.bool_]
    dims: Any
    stuffed: Any
    chain: Any
    inverse: list[Any]

    def recover(self, x: Array | None, y: Array | None, value: float = np.nan) -> Any:
        """Values and multipliers of the problem that was compiled, as a CVXPY solution."""
        return self.chain.invert((x, y, value), self.inverse)

    def columns(self, variable: cp.Variable) -> NDArray[np.int64] | None:
        """Canonical columns of a variable, column by column; None where CVXPY has replaced it by another."""
        start = self.stuffed.var_id_to_col.get(variable.id)
        if start is None or self.stuffed.id_to_var[variable.id].size != variable.size:
            return None
        return np.arange(start, start + variable.size)

    def physical(self, program: Program, value: float) -> float:
        """Objective in the program's sense and units, from a canonical value."""
        sign = -1.0 if program.sense == "maximize" else 1.0  # CVXPY minimises inside
        return program.physical(sign * (value + float(self.inverse[-1][cps.OFFSET])))


@dataclass
class Rows:
    """Linear rows ``low <= A x <= high``."""

    matrix: Any
    low: Array
    high: Array

    @classmethod
    def of(cls, form: Canonical) -> Rows:
        """Equalities and inequalities of a canonical form."""
        equal, count = form.dims.zero, form.dims.zero + form.dims.nonneg
        high = form.offset[:count]
        return cls(form.matrix[:count], np.where(np.arange(count) < equal, high, -np.inf), high)


def load(form: Canonical, rows: Rows, options: Mapping[str, Any], *, integers: bool = True) -> Any:
    """Return a `highspy.Highs` with the model and options in it."""
    import highspy

    hush_highs()
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    for name, value in options.items():
        if highs.setOptionValue(name, value) != highspy.HighsStatus.kOk:
            raise InvalidInput(f"HiGHS does not take {value!r} for its option {name!r}")
    model = highspy.HighsModel()
    lp = model.lp_
    lp.num_col_, lp.num_row_ = form.linear.size, rows.low.size
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = form.linear, form.lower, form.upper
    lp.row_lower_, lp.row_upper_ = rows.low, rows.high
    matrix = sp.csr_matrix(rows.matrix)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data
    if integers and form.integer.any():
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        lp.integrality_ = [kinds[int(whole)] for whole in form.integer]
    if form.quadratic is not None:
        lower = sp.csc_matrix(sp.tril(form.quadratic))
        model.hessian_.dim_ = form.linear.size
        model.hessian_.format_ = highspy.HessianFormat.kTriangular
        model.hessian_.start_, model.hessian_.index_ = lower.indptr, lower.indices
        model.hessian_.value_ = lower.data
    if highs.passModel(model) == highspy.HighsStatus.kError:
        raise InvalidInput("HiGHS refuses the model: a coefficient is not finite, or larger than 1e15")
    return highs


def run(highs: Any) -> str:
    """Solve and return the name of HiGHS's status; Ctrl-C stops HiGHS and is raised again.

    HiGHS runs in a thread of its own, since Python handles no signal inside a call to C++.
    """
    stop, finished = threading.Event(), threading.Event()

    def interrupt(event: Any) -> None:
        if stop.is_set():
            event.interrupt()

    failures: list[BaseException] = []

    def work() -> None:
        try:
            highs.run()
        except BaseException as error:
            failures.append(error)
        finally:
            finished.set()

    hooks = (highs.cbSimplexInterrupt, highs.cbIpmInterrupt, highs.cbMipInterrupt)
    if threading.current_thread() is not threading.main_thread():
        highs.run()
        return str(highs.getModelStatus().name)
    for hook in hooks:
        hook.subscribe(interrupt)
    threading.Thread(target=work, daemon=True).start()
    try:
        # Not Thread.join: interrupted by Ctrl-C, it takes a thread that still runs for finished.
        while not finished.wait(0.1):
            pass
    except BaseException:
        stop.set()
        finished.wait()
        raise
    finally:
        for hook in hooks:
            hook.unsubscribe(interrupt)
    if failures:
        raise failures[0]
    return str(highs.getModelStatus().name)


@lru_cache(maxsize=1)
def option_names() -> frozenset[str]:
    """Return the options that HiGHS knows."""
    import highspy

    return frozenset(name for name in dir(highspy.HighsOptions()) if not name.startswith("_"))


def accuracy(settings: Settings) -> dict[str, Any]:
    """HiGHS's tolerances for ours; gaps are zero, as the default of 1e-4 picks wrong integer points."""
    feasible = float(np.clip(1e-2 * settings.tolerance, 1e-10, 1e-7))
    return {
        "primal_feasibility_tolerance": feasible,
        "dual_feasibility_tolerance": feasible,
        "mip_feasibility_tolerance": feasible,
        "mip_rel_gap": 0.0,
        "mip_abs_gap": 0.0,
        "small_matrix_value": 1e-12,  # the default drops coefficients below 1e-9
        # The default of 1e-7 bends the objective enough to be seen; without any HiGHS may not stop.
        "qp_regularization_value": 1e-10,
    }


class Highspy(Backend):
    """HiGHS called directly: the default for linear programs, with and without integers.

    Options are HiGHS's own, and ``warm_start``: True starts from the values that the variables have
    (`Program.set_values`, or the last solution) and from the last basis of the same program; a mapping from
    names to physical values starts from those.
    """

    name = "highspy"
    capabilities = frozenset({Capability.LP, Capability.QP, Capability.MIP})
    without_integers = frozenset({Capability.QP})
    rank = 10
    modules = ("highspy",)
    distribution = "highspy"
    licence = "MIT"

    def __init__(self) -> None:
        self._canonicalizer = Canonicalizer((Zero, NonNeg), quadratic=True)
        self._bases: WeakKeyDictionary[Program, Any] = WeakKeyDictionary()

    def rank_for(self, program: Program) -> int | None:
        """See `Backend.rank_for`: quadratic objectives go to an interior-point method first."""
        return 25 if Capability.QP in program.requires() else self.rank

    def solve(self, program: Program, settings: Settings) -> Answer:
        """See `Backend.solve`."""
        options = dict(settings.options)
        start = options.pop("warm_start", False)
        unknown = sorted(set(options) - option_names())
        if unknown:
            raise InvalidInput(
                f"backend 'highspy' has no option {', '.join(map(repr, unknown))}; "
                f"it has warm_start, {', '.join(sorted(option_names()))}"
            )
        begun = time.perf_counter()
        form = self._canonicalizer.compile(program.problem)
        compiled = time.perf_counter()
        options = accuracy(settings) | options
        if settings.time_limit is not None:
            options.setdefault("time_limit", max(settings.time_limit - (compiled - begun), 1e-3))
        if settings.verbose:
            options.setdefault("output_flag", True)
        job = _Job(program, form, options)
        if start is not False:
            self._start(job, start)
        answer = job.solve()
        if start is not False and not form.integer.any() and job.highs.getBasis().valid:
            self._bases[program] = job.highs.getBasis()
        answer.seconds = {"compile": compiled - begun, "solve": time.perf_counter() - compiled}
        return answer

    def _start(self, job: _Job, start: Any) -> None:
        """Give HiGHS a basis or a point to start from."""
        program = job.program
        if isinstance(start, Mapping):
            known = program.inner_values(start)
        elif start is True:
            basis = self._bases.get(program)
            shape = (job.form.linear.size, job.rows.low.size)
            if basis is not None and shape == (len(basis.col_status), len(basis.row_status)):
                job.highs.setBasis(basis)
                return
            known = {v.id: v.value for v in program.cvxpy_variables().values() if v.value is not None}
        else:
            raise InvalidInput(
                f"warm_start must be True, False or a mapping from names to values, got {start!r}"
            )
        point = np.full(job.form.linear.size, np.nan)
        for variable in program.cvxpy_variables().values():
            columns = job.form.columns(variable)
            if variable.id in known and columns is not None:
                point[columns] = np.asarray(known[variable.id], dtype=float).ravel(order="F")
        job.start(point)


@dataclass
class _Job:
    """One solve of one program."""

    program: Program
    form: Canonical
    options: dict[str, Any]
    rows: Rows = field(init=False)
    highs: Any = field(init=False)

    def __post_init__(self) -> None:
        self.rows = Rows.of(self.form)
        self.highs = load(self.form, self.rows, self.options)

    def start(self, point: Array) -> None:
        """Start from a point, NaN where it is unknown; HiGHS completes it, or drops it if it cannot."""
        import highspy

        whole = self.form.integer
        if whole.any():
            # The integers alone: the continuous rest is then optimised, not merely repeated.
            given = np.flatnonzero(whole & np.isfinite(point))
            if given.size:
                self.highs.setSolution(given.size, given.astype(np.int32), np.round(point[given]))
        elif np.all(np.isfinite(point)):
            solution = highspy.HighsSolution()
            solution.col_value = list(point)
            self.highs.setSolution(solution)

    def solve(self) -> Answer:
        """Run, and read the answer."""
        words = run(self.highs)
        if words == "kUnboundedOrInfeasible" or (words == "kUnbounded" and self.form.integer.any()):
            words = self._tell_apart()
        if words == "kOptimal" and self._is_far():
            # So far out HiGHS's regularisation is felt, or is all that has stopped it.
            words = "kUnbounded" if self._is_endless() else self._run_bare()
        answer = Answer(STATUS.get(words, Status.FAILED), f"HiGHS: {words.removeprefix('k')}")
        info = self.highs.getInfo()
        counts = (info.simplex_iteration_count, info.ipm_iteration_count, info.qp_iteration_count)
        answer.extra["iterations"] = int(sum(max(count, 0) for count in counts))
        if answer.status is Status.INFEASIBLE:
            self._explain(answer)
        elif answer.status in (Status.OPTIMAL, Status.LIMIT, Status.INACCURATE):
            self._read(answer, info)
        return answer

    def _tell_apart(self) -> str:
        """Infeasible or unbounded? Solve without the objective to know."""
        bare = Canonical(**(vars(self.form) | {"linear": np.zeros_like(self.form.linear), "quadratic": None}))
        words = run(load(bare, self.rows, self.options))
        return "kUnbounded" if words == "kOptimal" else words

    def _is_far(self) -> bool:
        """Whether the point of a quadratic program has very large entries."""
        far = np.max(np.abs(self.highs.getSolution().col_value), initial=0.0) > 1e5
        return self.form.quadratic is not None and bool(far)

    def _run_bare(self) -> str:
        """Solve without regularisation, which only a program known to be bounded may go without."""
        self.highs.setOptionValue("qp_regularization_value", 0.0)
        return run(self.highs)

    def _is_endless(self) -> bool:
        """Whether there is a direction that improves without curvature and without end."""
        form = self.form
        sides = [np.where(np.isfinite(side), 0.0, np.inf) for side in (-self.rows.low, self.rows.high)]
        cone = Rows(
            sp.vstack([self.rows.matrix, form.quadratic]),
            np.concatenate([-sides[0], np.zeros(form.linear.size)]),
            np.concatenate([sides[1], np.zeros(form.linear.size)]),
        )
        # Directions of recession with entries of at most one.
        ways = {
            "lower": np.where(np.isfinite(form.lower), 0.0, -1.0),
            "upper": np.where(np.isfinite(form.upper), 0.0, 1.0),
            "quadratic": None,
        }
        highs = load(Canonical(**(vars(form) | ways)), cone, self.options)
        return run(highs) == "kOptimal" and bool(
            highs.getInfo().objective_function_value < -1e-6 * max(1.0, float(np.max(np.abs(form.linear))))
        )

    def _read(self, answer: Answer, info: Any) -> None:
        solution = self.highs.getSolution()
        feasible = answer.status is not Status.LIMIT or info.primal_solution_status == 2
        x = np.asarray(solution.col_value, dtype=float)
        whole = bool(self.form.integer.any())
        if whole:
            answer.extra["nodes"] = int(max(info.mip_node_count, 0))
            answer.bound = self.form.physical(self.program, float(info.mip_dual_bound))
        if not feasible or x.size != self.form.linear.size:
            return
        y = None
        if solution.dual_valid and not whole:
            y = -np.asarray(solution.row_dual, dtype=float)
            y[self.form.dims.zero :] = np.maximum(y[self.form.dims.zero :], 0.0)
            form = self.form
            kept = Multipliers(
                form.quadratic, form.linear, form.matrix, form.offset, y, form.lower, form.upper
            )
            if answer.status is not Status.LIMIT:
                answer.bound = form.physical(self.program, kept.bound(x))
        found = self.form.recover(x, y, float(info.objective_function_value))
        answer.primal = {key: np.asarray(value, dtype=float) for key, value in found.primal_vars.items()}
        answer.objective = self.program.physical(float(found.opt_val))
        answer.dual = {
            key: np.asarray(v, dtype=float) for key, v in (found.dual_vars or {}).items() if v is not None
        }

    def _explain(self, answer: Answer) -> None:
        """Name an irreducible set of rows that conflict, and their families."""
        options = {k: v for k, v in self.options.items() if k != "output_flag"}
        relaxed = self.highs
        if self.form.integer.any() or self.form.quadratic is not None:
            bare = Canonical(**(vars(self.form) | {"quadratic": None}))
            relaxed = load(bare, self.rows, options, integers=False)
            if run(relaxed) != "kInfeasible":
                return  # only the integrality makes it infeasible, which rows alone cannot tell
        relaxed.setOptionValue("iis_strategy", IRREDUCIBLE)
        _, iis = relaxed.getIis()
        if not iis.valid_ or not len(iis.row_index_):
            return
        rows = conflicting_rows(self.program, self.form, np.asarray(iis.row_index_, dtype=int))
        answer.conflict = tuple(rows)
        answer.extra["iis"] = dict(rows)
        bounded = _bounded_variables(self.program, self.form, iis)
        if bounded:
            answer.extra["iis"][DOMAIN] = bounded


def conflicting_rows(program: Program, form: Canonical, index: NDArray[np.int_]) -> dict[str, list[int]]:
    """Entries of each family that canonical rows stand for, counted through the family in C order."""
    marks = np.zeros(form.offset.size)
    marks[index] = 1.0
    marked = form.recover(None, marks).dual_vars
    found: dict[str, list[int]] = {}
    for family, terms in program.families.items():
        start = 0
        for term in terms:
            mark = marked.get(getattr(term, "id", None))
            if mark is not None and np.size(mark) == term.size:
                entries = np.reshape(mark, term.shape, order="F").ravel()
                hits = np.flatnonzero(entries)
                if hits.size:
                    found.setdefault(family, []).extend(int(start + hit) for hit in hits)
            start += int(term.size)
    return found


def _bounded_variables(program: Program, form: Canonical, iis: Any) -> list[str]:
    """Names of variables whose own bounds take part in a conflict."""
    import highspy

    free = (
        int(highspy.IisBoundStatus.kIisBoundStatusFree),
        int(highspy.IisBoundStatus.kIisBoundStatusDropped),
    )
    part = [j for j, kind in zip(iis.col_index_, iis.col_bound_, strict=True) if int(kind) not in free]
    names = []
    for name, variable in program.cvxpy_variables().items():
        columns = form.columns(variable)
        if columns is not None and np.isin(part, columns).any():
            names.append(name)
    return names
