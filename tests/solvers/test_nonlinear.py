"""The smooth form and the four local backends over it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt.solvers import get_backend
from mechopt.solvers.nonlinear import SmoothForm, infeasibility, recover_multipliers
from tests.solvers.zoo import CASES, Case

BACKENDS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(get_backend_reason is not None, reason=f"{name}: {get_backend_reason}"),
    )
    for name, get_backend_reason in (
        (b.name, b.available())
        for b in mo.solvers.all_backends()
        if b.name in ("pounce", "ipyopt", "slsqp", "trust-constr")
    )
]
INTERIOR = [param for param in BACKENDS if param.values[0] in ("pounce", "ipyopt")]

every = pytest.mark.parametrize("backend", BACKENDS)


# -------------------------------------------------------------------------- programs, by relation and by atom


def saving(shift: float = 0.0) -> mo.Program:
    """max with <=, >=, ==: three goods with decreasing returns."""
    program = mo.Program("saving", objective_scale=2.0)
    x = program.variable("x", 3, nonneg=True, scale=[1.0, 0.1, 5.0])
    program.maximize(cp.sum(cp.log(x + np.array([0.1, 0.5, 2.0]))))
    program.add("budget", cp.sum(x) <= 2 + shift)
    program.add("floor", x[1] >= 0.7)
    return program.add("share", x[2] == 0.3)


def tracking(shift: float = 0.0) -> mo.Program:
    """min with >=, == and a constant on the left."""
    program = mo.Program("tracking")
    x = program.variable("x", 3)
    program.minimize(cp.sum_squares(x - np.array([1.0, 2.0, 3.0])) + cp.sum(x))
    program.add("budget", cp.sum(x) == 2 + shift)
    return program.add("floor", 0.1 <= x)  # noqa: SIM300


def entropy(shift: float = 0.0) -> mo.Program:
    program = mo.Program("entropy")
    x = program.variable("x", 3)
    program.maximize(cp.sum(cp.entr(x)) + x[0])
    return program.add("budget", cp.sum(x) == 1 + shift)


def powers(shift: float = 0.0) -> mo.Program:
    program = mo.Program("powers")
    x = program.variable("x", 2, nonneg=True)
    program.maximize(cp.sqrt(x[0]) + 2 * cp.power(x[1], 0.3) - 0.1 * cp.sum(x))
    return program.add("budget", x[0] + x[1] <= 1.5 + shift)


def ball(shift: float = 0.0) -> mo.Program:
    program = mo.Program("ball")
    x = program.variable("x", 2)
    program.maximize(x[0] + 2 * x[1])
    return program.add("budget", cp.norm(x) <= 1 + shift)


def disc(shift: float = 0.0) -> mo.Program:
    program = mo.Program("disc")
    x = program.variable("x", 2)
    program.minimize(x[0] + x[1])
    return program.add("budget", cp.sum_squares(x) <= 2 + shift)


def softmax(shift: float = 0.0) -> mo.Program:
    program = mo.Program("softmax")
    x = program.variable("x", 3)
    program.minimize(cp.log_sum_exp(x) - 0.2 * cp.sum(x))
    program.add("budget", x[0] >= 1 + shift)
    return program.add("box", cp.sum(x) <= 5, x >= -3)


def ratios(shift: float = 0.0) -> mo.Program:
    program = mo.Program("ratios")
    x = program.variable("x", 2, pos=True)
    program.minimize(cp.sum(cp.inv_pos(x)) + cp.quad_over_lin(x[0] + 1, x[1]))
    return program.add("budget", cp.sum(x) <= 3 + shift)


def divergence(shift: float = 0.0) -> mo.Program:
    program = mo.Program("divergence")
    x = program.variable("x", 3)
    program.minimize(cp.sum(cp.kl_div(x, np.array([0.2, 0.3, 0.9]))))
    return program.add("budget", cp.sum(x) == 1 + shift)


def geometric(shift: float = 0.0) -> mo.Program:
    program = mo.Program("geometric")
    x = program.variable("x", 3)
    program.maximize(cp.geo_mean(x))
    return program.add("budget", x[0] + 2 * x[1] + 3 * x[2] <= 3 + shift)


def corner(shift: float = 0.0) -> mo.Program:
    """Piecewise linear: the smooth form has auxiliary inequalities."""
    program = mo.Program("corner")
    x = program.variable("x", 3)
    program.minimize(cp.norm1(x - np.array([1.0, 2.0, 3.0])) + 2 * cp.max(x))
    return program.add("budget", cp.sum(x) >= 5.5 + shift)


def running(shift: float = 0.0) -> mo.Program:
    """A cumulative sum, for which CVXPY's smooth form has no word."""
    program = mo.Program("running")
    x = program.variable("x", 4, nonneg=True)
    program.maximize(cp.sum(cp.log(1 + cp.cumsum(x))) - cp.sum(x))
    return program.add("budget", cp.sum(cp.multiply([1.0, 2.0, 3.0, 4.0], x)) <= 1.2 + shift)


CONVEX = [
    saving,
    tracking,
    entropy,
    powers,
    ball,
    disc,
    softmax,
    ratios,
    divergence,
    geometric,
    corner,
    running,
]


def contract(n: int) -> tuple[mo.Program, np.ndarray, float]:
    """Screening contract on every pair of types; its optimum in closed form."""
    weight, d = 100.0, np.linspace(0.01, 0.21, n)
    k, below = np.arange(1, n + 1), np.r_[0.0, d[:-1]]
    best = weight / (k * d - (k - 1) * below) - 1 / (2 * d)
    pay = np.empty(n)
    pay[-1] = d[-1] * best[-1]
    for i in range(n - 2, -1, -1):
        pay[i] = pay[i + 1] + d[i] * (best[i] - best[i + 1])
    program = mo.Program("contract", objective_scale=100.0)
    q, g = program.variable("q", n, scale=1 / d), program.variable("g", n, scale=100.0)
    program.maximize(cp.sum(weight * cp.log(1 + 2 * cp.multiply(d, q)) - g) / n)
    rent = g - cp.multiply(d, q)
    program.add(
        "ic",
        cp.reshape(rent, (n, 1), order="F") @ np.ones((1, n))
        >= np.ones((n, 1)) @ cp.reshape(g, (1, n), order="F") - d[:, None] @ cp.reshape(q, (1, n), order="F"),
    )
    program.add("ir", rent >= 0)
    return program, best, float(np.sum(weight * np.log(1 + 2 * d * best) - pay) / n)


def two_valleys() -> mo.Program:
    """x^4 - 3 x^2 + x has minima near 1.13 and, lower, near -1.30."""
    program = mo.Program("valleys")
    x = program.variable("x", bounds=[-2, 2], scale=2.0)
    return program.minimize(cp.power(x, 4) - 3 * cp.square(x) + x)


VALLEYS = np.sort(np.roots([4.0, 0.0, -6.0, 1.0]).real)[[0, 2]]


# -------------------------------------------------------------------------------------------- the smooth form


def interior(form: SmoothForm, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = form.x0 + 0.1 * rng.uniform(size=form.n)
    return np.clip(x, form.lb + 0.05, np.where(np.isfinite(form.ub), form.ub - 0.05, np.inf))


def hypographs() -> mo.Program:
    program = mo.Program("hypographs", objective_scale=3.0)
    x = program.variable("x", (2, 2), nonneg=True, scale=2.0)
    t = program.variable("t", (2, 2))
    program.maximize(cp.sum(t) - cp.sum(cp.multiply(np.array([[0.5, 0.2], [0.3, 0.4]]), x)))
    program.add("utility", mo.Hypograph(t, (np.log1p, lambda x: 1 / (1 + x)), x))
    return program.add("budget", cp.sum(x) <= 3)


@pytest.mark.parametrize("build", [*CONVEX, two_valleys, hypographs])
def test_derivatives_agree_with_finite_differences(build: Callable[[], mo.Program]) -> None:
    form = SmoothForm(build())
    x, lam, h = interior(form), np.random.default_rng(1).normal(size=form.m), 1e-6

    def slope(at: np.ndarray) -> np.ndarray:
        return 0.7 * form.gradient(at) + form.matrix(at).T @ lam

    steps = [(x + h * e, x - h * e) for e in np.eye(form.n)]
    gradient = np.array([(form.objective(a) - form.objective(b)) / (2 * h) for a, b in steps])
    jacobian = np.array([(form.constraints(a) - form.constraints(b)) / (2 * h) for a, b in steps]).T
    hessian = np.array([(slope(a) - slope(b)) / (2 * h) for a, b in steps])
    rows, columns = form.hessianstructure()
    ours = np.zeros((form.n, form.n))
    np.add.at(ours, (rows, columns), form.hessian(x, lam, 0.7))
    ours = ours + np.tril(ours, -1).T
    assert np.all(rows >= columns)
    np.testing.assert_allclose(form.gradient(x), gradient, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        form.matrix(x).toarray(), jacobian.reshape(form.m, form.n), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(ours, hessian, rtol=1e-4, atol=1e-4)


def test_derivatives_are_taken_at_the_point_asked_for() -> None:
    form = SmoothForm(powers())
    x, y = interior(form, 1), interior(form, 2)
    there = form.gradient(y)
    form.objective(x)
    assert not np.allclose(form.gradient(x), there)
    np.testing.assert_array_equal(form.gradient(y), there)


def test_a_constant_divisor_does_not_become_a_variable() -> None:
    program = mo.Program("divided", objective_scale=7.0)
    x = program.variable("x", 3, nonneg=True)
    program.maximize(cp.sum(x) / 4).add("budget", cp.sum(x) / 5 <= 1)
    form = SmoothForm(program)
    assert form.n == 3
    assert np.all(form.curvature == 0)


def test_compiling_leaves_no_values_behind() -> None:
    program = saving()
    SmoothForm(program)
    assert all(v.value is None for v in program.cvxpy_variables().values())


def test_a_start_is_one_in_scaled_units_and_inside_the_bounds() -> None:
    program = mo.Program("starts")
    program.variable("a", scale=50.0)
    program.variable("b", bounds=[0, 1])
    program.variable("c", nonneg=True)
    program.variable("d", nonpos=True)
    program.variable("e", bounds=[5, 5.5])
    program.maximize(sum((program[n] for n in "abcde"), cp.Constant(0)))
    start = {v.name(): float(SmoothForm(program).primal(SmoothForm(program).x0)[v.id])
             for v in program.cvxpy_variables().values()}  # fmt: skip
    assert start["a"] == 1.0
    assert 0 < start["b"] < 1
    assert start["c"] == 1.0
    assert start["d"] == -1.0
    assert 5 < start["e"] < 5.5


def test_cone_constraints_are_not_dropped() -> None:
    """CVXPY's own smooth route silently forgets every constraint that is not `<=`, `>=` or `==`."""
    program = mo.Program("cones")
    x, t = program.variable("x", 2), program.variable("t")
    program.minimize(t)
    program.add("ball", cp.SOC(t, x - np.array([3.0, 4.0])))
    program.add("half", cp.NonNeg(1 - x[0]), cp.Zero(x[1] - 2))
    solution = program.solve("slsqp")
    assert solution.status is mo.Status.OPTIMAL
    assert solution.objective == pytest.approx(np.sqrt(8), abs=1e-6)
    reference = program.solve("clarabel")
    for ours, theirs in zip(solution.dual("half"), reference.dual("half"), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-3)


@every
def test_rows_of_cones_and_norms_along_an_axis(backend: str) -> None:
    program = mo.Program("rows")
    x = program.variable("x", (3, 2))
    program.maximize(cp.sum(x))
    program.add("norms", cp.norm(x, 2, axis=1) <= np.array([1.0, 2.0, 3.0]))
    solution = program.solve(backend)
    assert solution.objective == pytest.approx(6 * np.sqrt(2), rel=1e-6)
    np.testing.assert_allclose(solution.dual("norms"), np.sqrt(2), rtol=1e-5)


@every
def test_symmetric_and_diagonal_variables_come_back_in_shape(backend: str) -> None:
    program = mo.Program("symmetric")
    x = program.variable("x", (2, 2), symmetric=True)
    program.minimize(cp.sum_squares(x - np.array([[1.0, 2.0], [3.0, 4.0]])))
    program.add("trace", cp.trace(x) == 1)
    np.testing.assert_allclose(program.solve(backend)["x"], [[-1, 2.5], [2.5, 2]], atol=1e-5)


@every
def test_a_variable_that_occurs_nowhere_keeps_a_value(backend: str) -> None:
    program = ball()
    program.variable("idle", bounds=[2, 4])
    assert 2 <= program.solve(backend)["idle"] <= 4


@every
def test_parameters(backend: str) -> None:
    cap = cp.Parameter(value=1.0)
    program = mo.Program("parameters")
    x = program.variable("x", 2, nonneg=True)
    program.maximize(cp.sum(cp.log(x))).add("cap", cp.sum(x) <= 2 * cap)
    assert program.solve(backend).objective == pytest.approx(0.0, abs=1e-6)
    cap.value = np.e
    assert program.solve(backend).objective == pytest.approx(2.0, abs=1e-6)


# -------------------------------------------------------------------------------------------- convex programs


@every
@pytest.mark.parametrize("build", CONVEX)
def test_convex_programs_agree_with_clarabel(build: Callable[[], mo.Program], backend: str) -> None:
    ours, theirs = build().solve(backend), build().solve("clarabel")
    assert ours.status is mo.Status.OPTIMAL
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-6, abs=1e-6)
    assert ours.duals.keys() == theirs.duals.keys()
    for family, prices in theirs.duals.items():
        for mine, price in zip(ours.duals[family], prices, strict=True):
            np.testing.assert_allclose(mine, price, atol=1e-3, err_msg=family)
    if build is not geometric:  # CVXPY takes its log: the Lagrangian is not known to be convex
        assert ours.bound is not None
        assert ours.gap is not None
        assert ours.gap <= 1e-6


@every
@pytest.mark.parametrize("build", CONVEX)
def test_prices_are_derivatives_of_the_objective(build: Callable[[float], mo.Program], backend: str) -> None:
    h = 1e-3
    slope = (build(h).solve("slsqp").objective - build(-h).solve("slsqp").objective) / (2 * h)
    assert build(0.0).solve(backend).dual("budget") == pytest.approx(slope, rel=1e-4, abs=1e-4)


@every
@pytest.mark.parametrize("n", [5, 12, 20])
def test_the_screening_contract(n: int, backend: str) -> None:
    if n > 12 and backend == "slsqp":
        pytest.skip("dense matrices: some seconds on a busy machine, and nothing new")
    program, best, value = contract(n)
    solution = program.solve(backend)
    assert solution.status is mo.Status.OPTIMAL
    assert solution.objective == pytest.approx(value, rel=1e-7)
    np.testing.assert_allclose(solution["q"], best, rtol=1e-4)
    assert np.sum(solution.dual("ir")) == pytest.approx(-1.0, abs=1e-6)


def test_a_bound_holds_at_wrong_multipliers() -> None:
    """The Lagrangian bound is below the optimum whatever the multipliers are."""
    program = saving()
    form = SmoothForm(program)
    optimum = -program.solve("slsqp").objective / 2.0
    rng = np.random.default_rng(3)
    for _ in range(20):
        bound = form.lower_bound(interior(form), -np.abs(rng.normal(size=form.m)))
        assert bound is not None
        assert bound <= optimum + 1e-9


def test_multipliers_are_recovered_from_the_point_alone() -> None:
    program = saving()
    solution = program.solve("slsqp")
    program.set_values(solution)
    form = SmoothForm(program)  # starts at the answer, where only the declared variables matter
    x = form.x0
    error = form.kkt(x, recover_multipliers(form, x, 1e-6))
    assert max(error.values()) < 1e-6
    duals, _ = form.duals(recover_multipliers(form, x, 1e-6))
    budget = program.families["budget"][0]
    assert 2.0 * float(duals[budget.id]) == pytest.approx(float(solution.dual("budget")), rel=1e-5)


# ----------------------------------------------------------------------------------------- nonconvex programs


@every
@pytest.mark.parametrize(("start", "valley"), [(1.0, VALLEYS[1]), (-1.0, VALLEYS[0])])
def test_a_nonconvex_program_is_solved_locally_from_its_start(
    start: float, valley: float, backend: str
) -> None:
    program = two_valleys()
    program.set_values({"x": start})
    solution = program.solve(backend)
    assert solution.status is mo.Status.LOCAL
    assert solution.bound is None
    assert float(solution["x"]) == pytest.approx(valley, abs=1e-5)
    assert max(solution.extra["kkt"].values()) <= 1e-6


@every
def test_a_stop_away_from_any_stationary_point_is_not_local(backend: str) -> None:
    program = mo.Program("product")
    x = program.variable("x", 2, bounds=[0.1, 5])
    program.maximize(x[0] * x[1]).add("budget", x[0] + 2 * x[1] <= 4)
    option = {"pounce": "max_iter", "ipyopt": "max_iter"}.get(backend, "maxiter")
    stopped = program.solve(backend, on_failure="return", **{option: 2})
    assert stopped.status is mo.Status.LIMIT
    assert program.solve(backend).status is mo.Status.LOCAL


@every
def test_local_infeasibility_proves_nothing(backend: str) -> None:
    """From x = -1 every descent of the violation ends near -1.3, yet x = 1.7 satisfies both."""
    program = mo.Program("trap")
    x = program.variable("x", bounds=[-2, 2])
    program.minimize(x).add("high", cp.power(x, 4) - 3 * cp.square(x) + 2 * x >= 2.5)
    program.set_values({"x": -1.0})
    solution = program.solve(backend, on_failure="return")
    assert solution.status is not mo.Status.INFEASIBLE
    if solution.status.ok:
        assert float(solution["x"]) > 1.5


# ----------------------------------------------------------------------------------- what must not be claimed


@pytest.mark.parametrize("attribute", ["boolean", "integer"])
@every
def test_integers_are_refused(attribute: str, backend: str) -> None:
    program = mo.Program("integers")
    x = program.variable("x", **{attribute: True})
    program.maximize(cp.log(1 + x) - x).add("cap", x <= 0.5)
    with pytest.raises(mo.MissingCapability, match="MIP"):
        program.solve(backend)


@every
def test_atoms_without_a_smooth_form_are_refused_by_name(backend: str) -> None:
    program = mo.Program("atoms")
    x = program.variable("x", 3)
    program.maximize(cp.sum(x)).add("norm", cp.norm(x, 3) <= 1)
    with pytest.raises(mo.MissingCapability, match="norm of order 3"):
        program.solve(backend)
    program = mo.Program("matrix")
    y = program.variable("y", (2, 2), symmetric=True)
    program.minimize(cp.trace(y)).add("top", cp.lambda_max(y) <= 1)
    with pytest.raises(mo.MissingCapability):
        program.solve(backend)


@pytest.mark.parametrize(
    "case", [c for c in CASES.values() if c.status is mo.Status.INFEASIBLE and not c.integer], ids=str
)
@every
def test_infeasible_programs_come_with_a_proof(case: Case, backend: str) -> None:
    if backend == "trust-constr" and case.name != "infeasible_qp":
        pytest.skip("the proof is the same for all, and this one takes a thousand iterations to give up")
    if not case.convex:  # tangents prove it here too, but no local solver is taken at its word
        solution = case.build().solve(backend, on_failure="return")
        assert "tangents of the convex rows contradict each other" in solution.reason
        return
    with pytest.raises(mo.Infeasible) as caught:
        case.build().solve(backend)
    assert caught.value.solution is not None
    assert caught.value.solution.status is mo.Status.INFEASIBLE
    assert set(caught.value.families) == set(case.conflict)


def test_no_proof_of_infeasibility_for_a_feasible_program() -> None:
    for build in CONVEX:
        form = SmoothForm(build())
        assert infeasibility(form, form.x0, 1e-6) is None
        assert infeasibility(form, 3 * interior(form), 1e-6) is None


@pytest.mark.parametrize("name", ["unbounded_lp", "unbounded_qp", "unbounded_soc"])
@every
def test_unbounded_programs(name: str, backend: str) -> None:
    if backend == "trust-constr" and name != "unbounded_qp":
        pytest.skip("the check is the same for all, and this one takes a thousand iterations to give up")
    with pytest.raises(mo.Unbounded):
        CASES[name].build().solve(backend)


@every
def test_growth_without_a_ray_is_not_called_optimal(backend: str) -> None:
    """log(x) has a vanishing slope far out: a stationary point to any tolerance, and no optimum."""
    solution = CASES["unbounded_log"].build().solve(backend, on_failure="return")
    assert not solution.status.ok


# --------------------------------------------------------------------------------------- manners of a backend


@every
def test_the_time_limit_is_honoured(backend: str) -> None:
    program = contract(30)[0]
    started = time.perf_counter()
    solution = program.solve(backend, time_limit=1e-3, on_failure="return")
    assert solution.status is mo.Status.LIMIT
    assert "time" in solution.reason
    assert time.perf_counter() - started < 3.0


@every
def test_nothing_is_printed_unless_asked(backend: str, capfd: pytest.CaptureFixture[str]) -> None:
    saving().solve(backend)
    for name in ("unbounded_qp", "infeasible_qp", "infeasible_soc")[: 1 if backend == "trust-constr" else 3]:
        CASES[name].build().solve(backend, on_failure="return")
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""
    saving().solve(backend, verbose=True)
    assert capfd.readouterr().out


@every
def test_unknown_options_are_errors(backend: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(mo.InvalidInput, match="nonsense"):
        saving().solve(backend, nonsense=1)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("backend", INTERIOR)
def test_wrong_values_of_options_are_errors(backend: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(mo.InvalidInput, match="mu_strategy"):
        saving().solve(backend, mu_strategy="backwards")
    assert capfd.readouterr().out == ""


@every
def test_a_keyboard_interrupt_gets_through(backend: str) -> None:
    program, stop = contract(25)[0], time.perf_counter() + 20
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        while time.perf_counter() < stop:
            program.copy().solve(backend, on_failure="return")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@every
def test_the_reason_is_the_solvers_own(backend: str) -> None:
    words = {
        "pounce": "Solve_Succeeded",
        "ipyopt": "Solve_Succeeded",
        "trust-constr": "termination condition",
    }
    solution = tracking().solve(backend)
    assert words.get(backend, "Optimization terminated successfully") in solution.reason
    assert solution.extra["iterations"] > 0


# ------------------------------------------------------------------------------------- hypographs and the zoo


@every
def test_hypographs_agree_with_the_atom(backend: str) -> None:
    evaluated = hypographs().solve(backend)
    program = mo.Program("atom")
    x = program.variable("x", (2, 2), nonneg=True, scale=2.0)
    t = program.variable("t", (2, 2))
    program.maximize(cp.sum(t) - cp.sum(cp.multiply(np.array([[0.5, 0.2], [0.3, 0.4]]), x)))
    program.add("utility", t <= cp.log1p(x)).add("budget", cp.sum(x) <= 3)
    reference = program.solve("clarabel")
    assert evaluated.status is mo.Status.OPTIMAL
    assert evaluated.objective == pytest.approx(reference.objective, abs=1e-6)
    np.testing.assert_allclose(evaluated["x"], reference["x"], atol=1e-3)
    # The price of the utility is what one unit of it more or less is worth, one each here.
    np.testing.assert_allclose(np.abs(evaluated.dual("utility")), 1.0, atol=1e-5)
    np.testing.assert_allclose(evaluated.dual("budget"), reference.dual("budget"), atol=1e-3)


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.value is not None], ids=str)
@every
def test_the_zoo(case: Case, backend: str) -> None:
    program = case.build()
    lacking = get_backend(backend).lacks(program)
    if lacking:
        assert set(lacking) <= {"MIP", "COMP", "SDP"}
        return
    solution = program.solve(backend)
    assert solution.status is (mo.Status.OPTIMAL if case.convex else mo.Status.LOCAL)
    assert case.value is not None
    values = case.local_values or (case.value,)
    assert min(abs(solution.objective - value) for value in values) <= 1e-6 * case.scale
    if len(values) > 1:
        return
    for name, expected in case.primal.items():
        np.testing.assert_allclose(solution[name], expected, rtol=1e-4, atol=1e-4, err_msg=name)
    for family, price in case.dual.items():
        np.testing.assert_allclose(solution.dual(family), price, rtol=1e-4, atol=1e-4, err_msg=family)
