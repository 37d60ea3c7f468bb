"""Caught lying: backends that claim what is not so, and what our own checks make of it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse as sp

import mechopt as mo
from mechopt import Answer, Backend, Capability, Complementarity, Hypograph, Settings, Status
from mechopt.solvers import certify
from mechopt.solvers.conic import Multipliers

Register = Callable[[Backend], Backend]


class Liar(Backend):
    """Answers whatever its recipe says."""

    name = "liar"
    capabilities = frozenset(Capability)

    def __init__(self, recipe: Callable[[mo.Program], Answer], *, globally: bool = True) -> None:
        self.recipe, self.calls = recipe, 0
        self.globally = globally  # type: ignore[misc]

    def solve(self, program: mo.Program, settings: Settings) -> Answer:
        self.calls += 1
        return self.recipe(program)


class PanicException(BaseException):
    """What a Rust binding throws is no Exception."""


def market() -> mo.Program:
    """max 2 x + 3 y, 1000 x + 1000 y <= 4000, x >= 1: best at (1, 3), worth 11."""
    program = mo.Program("market")
    x, y = program.variable("x", bounds=[-100, 100]), program.variable("y", bounds=[-100, 100])
    program.maximize(2 * x + 3 * y)
    program.add("budget", 1000 * x + 1000 * y <= 4000)
    return program.add("floor", x >= 1)


def point(program: mo.Program, **claims: Any) -> Callable[[mo.Program], Answer]:
    """Recipe for an optimal answer at (1, 3) worth 11, unless told otherwise."""
    values = claims.pop("values", {"x": 1.0, "y": 3.0})
    claims = {"status": Status.OPTIMAL, "reason": "trust me", "objective": 11.0, "bound": 11.0} | claims
    ids = {name: variable.id for name, variable in program.cvxpy_variables().items()}

    def recipe(_: mo.Program) -> Answer:
        return Answer(primal={ids[name]: np.asarray(value) for name, value in values.items()}, **claims)

    return recipe


def ask(registered: Register, program: mo.Program, recipe: Any, **options: Any) -> mo.Solution:
    registered(Liar(recipe))
    return program.solve("liar", on_failure="return", **options)


def test_the_truth_passes(registered: Register) -> None:
    program = market()
    solution = ask(registered, program, point(program))
    assert solution.status is Status.OPTIMAL
    assert (solution.objective, solution.gap) == (11.0, 0.0)
    assert max(solution.residuals.values()) == 0.0


# ------------------------------------------------------------------------------------------------ the point


@pytest.mark.parametrize(("x", "y", "family"), [(1.0, 3.008, "budget"), (0.999, 3.001, "floor")])
def test_violation_of_one_family_is_named(registered: Register, x: float, y: float, family: str) -> None:
    """By 1e-3 relative (8 of 8000 in the budget) and by 1e-3 absolute (of a floor of 1)."""
    program = market()
    value = 2 * x + 3 * y
    recipe = point(program, values={"x": x, "y": y}, objective=value, bound=value)
    solution = ask(registered, program, recipe)
    assert solution.status is Status.INACCURATE
    assert f"family {family!r} is violated" in solution.reason
    assert [name for name, r in solution.residuals.items() if r > 1e-6] == [family]
    assert solution.residuals[family] == pytest.approx(1e-3 if family == "budget" else 5e-4, rel=1e-2)
    with pytest.warns(mo.MechanismWarning, match=family):
        program.solve("liar")


def test_violation_below_the_tolerance_asked_for_passes(registered: Register) -> None:
    program = market()
    recipe = point(program, values={"x": 1.0, "y": 3.008}, objective=11.024, bound=11.024)
    assert ask(registered, program, recipe, tolerance=1e-2).status is Status.OPTIMAL


def test_violated_bounds_of_a_variable_are_named_domain(registered: Register) -> None:
    program = market()
    recipe = point(program, values={"x": 101.0, "y": -97.0}, objective=-89.0, bound=-89.0)
    solution = ask(registered, program, recipe)
    assert solution.status is Status.INACCURATE
    assert "'domain'" in solution.reason


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_fails_by_name(registered: Register, bad: float) -> None:
    program = market()
    solution = ask(registered, program, point(program, values={"x": 1.0, "y": bad}))
    assert solution.status is Status.FAILED
    assert f"'y' is {bad}" in solution.reason
    assert solution.values == {}
    with pytest.raises(mo.SolverFailure, match="'y' is"):
        program.solve("liar")


def test_a_missing_variable_fails_by_name(registered: Register) -> None:
    program = market()
    solution = ask(registered, program, point(program, values={"x": 1.0}))
    assert solution.status is Status.FAILED
    assert "no value came back for 'y'" in solution.reason


@pytest.mark.parametrize("wrong", [np.ones(2), np.ones((1, 3)), np.array(["a"]), np.array([])])
def test_a_wrong_shape_fails_by_name(registered: Register, wrong: Any) -> None:
    program = market()
    solution = ask(registered, program, point(program, values={"x": 1.0, "y": wrong}))
    assert solution.status is Status.FAILED
    assert "'y'" in solution.reason


def test_a_transposed_matrix_is_not_read_as_if_it_fitted(registered: Register) -> None:
    program = mo.Program("shares")
    share = program.variable("share", (2, 3), nonneg=True)
    program.maximize(cp.sum(share))
    program.add("total", share <= 1)
    solution = ask(
        registered, program, point(program, values={"share": np.ones((3, 2))}, objective=6.0, bound=6.0)
    )
    assert solution.status is Status.FAILED
    assert "(3, 2)" in solution.reason
    flat = ask(registered, program, point(program, values={"share": np.ones(6)}, objective=6.0, bound=6.0))
    assert flat.status is Status.OPTIMAL


def test_no_point_at_all_is_no_optimum(registered: Register) -> None:
    solution = ask(registered, market(), lambda _: Answer(Status.OPTIMAL, "trust me"))
    assert solution.status is Status.FAILED
    assert "no point came back" in solution.reason


# ------------------------------------------------------------------------------------ objective and bound


@pytest.mark.parametrize("claimed", [11.001, np.inf])
def test_a_wrong_objective_is_noticed_and_ours_reported(registered: Register, claimed: float) -> None:
    program = market()
    solution = ask(registered, program, point(program, objective=claimed))
    assert solution.status is Status.INACCURATE
    assert "reports the objective" in solution.reason
    assert solution.objective == 11.0


def test_suboptimal_with_a_truthful_bound_is_not_optimal(registered: Register) -> None:
    program = market()
    recipe = point(program, values={"x": 1.0, "y": 2.9}, objective=10.7)
    solution = ask(registered, program, recipe)
    assert solution.status is Status.INACCURATE
    assert solution.gap == pytest.approx(0.3 / 10.7)
    assert "short of the bound" in solution.reason


@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_a_bound_on_the_wrong_side_is_named(registered: Register, sense: str) -> None:
    program = market()
    getattr(program, sense)(program.objective)
    wrong = 10.0 if sense == "maximize" else 12.0
    solution = ask(registered, program, point(program, bound=wrong))
    assert solution.status is Status.INACCURATE
    assert "beats its own bound" in solution.reason


def test_optimal_at_the_time_limit_without_a_bound_is_a_limit(registered: Register) -> None:
    program = market()
    recipe = point(program, bound=None, seconds={"solve": 2.0})
    assert ask(registered, program, recipe, time_limit=1.0).status is Status.LIMIT
    assert ask(registered, program, recipe, time_limit=3.0).status is Status.OPTIMAL
    proved = point(program, seconds={"solve": 2.0})
    assert ask(registered, program, proved, time_limit=1.0).status is Status.OPTIMAL


def test_the_clock_is_ours_where_a_backend_keeps_none(registered: Register) -> None:
    program = market()
    truth = point(program, bound=None)

    def slow(asked: mo.Program) -> Answer:
        time.sleep(0.02)
        return truth(asked)

    solution = ask(registered, program, slow, time_limit=0.01)
    assert solution.status is Status.LIMIT
    assert solution.seconds["solve"] >= 0.02


def test_a_limit_keeps_its_point_and_shows_no_prices(registered: Register) -> None:
    program = market()
    ids = {program.families[name][0].id: np.asarray(1.0) for name in ("budget", "floor")}
    recipe = point(program, status=Status.LIMIT, dual=ids, values={"x": 1.0, "y": 2.0}, objective=8.0)
    solution = ask(registered, program, recipe)
    assert solution.status is Status.LIMIT
    assert solution["y"] == 2.0
    assert solution.gap == pytest.approx(3.0 / 8.0)
    assert solution.duals == {}
    assert "limit" in solution.no_duals


def test_a_limit_stays_a_limit_and_names_what_its_point_violates(registered: Register) -> None:
    program = market()
    recipe = point(program, status=Status.LIMIT, values={"x": 0.0, "y": 2.0}, objective=6.0)
    solution = ask(registered, program, recipe)
    assert solution.status is Status.LIMIT
    assert "family 'floor' is violated by 1" in solution.reason


def test_doubt_is_overruled_by_a_bound_only(registered: Register) -> None:
    program = market()
    assert ask(registered, program, point(program, status=Status.INACCURATE)).status is Status.OPTIMAL
    unproved = point(program, status=Status.INACCURATE, bound=None)
    assert ask(registered, program, unproved).status is Status.INACCURATE


def test_a_feasibility_program_has_a_scale_of_its_own() -> None:
    """With nothing to maximise, a bound of -1e-12 is rounding and not an infinite relative gap."""
    program = mo.Program("any point")
    x = program.variable("x", 2, bounds=[0, 1])
    program.add("total", cp.sum(x) == 1)
    for name in ("clarabel", "scs", "highs"):
        assert program.solve(name).status is Status.OPTIMAL


# --------------------------------------------------------------------------- bounds from multipliers


def lagrangian(quadratic: Any, linear: list[float], **limits: Any) -> Multipliers:
    """Without rows, so that the whole objective is left in the residual."""
    n = len(linear)
    none = sp.csr_array((0, n))
    p = None if quadratic is None else sp.csc_array(np.asarray(quadratic))
    return Multipliers(p, np.asarray(linear), none, np.zeros(0), np.zeros(0), **limits)


def test_a_ray_is_not_its_own_proof() -> None:
    """min -x from x = 1e7, and from x = 0: a bound that holds only as far out as the answer says nothing."""
    free = lagrangian(None, [-1.0])
    assert free.bound(np.array([1e7])) <= -2e7
    assert free.bound(np.array([0.0])) <= -1.0


def test_a_residual_is_charged_at_the_variable_s_own_bound() -> None:
    boxed = lagrangian(None, [-1.0], lower=np.array([0.0]), upper=np.array([5.0]))
    assert boxed.bound(np.array([3.0])) == -5.0


def test_a_quadratic_is_bounded_around_its_own_minimum() -> None:
    """min x²/2 - 30 x from x = 30.001: short by 5e-7, where the slope times the distance would say 0.06."""
    curved = lagrangian([[1.0]], [-30.0])
    assert curved.bound(np.array([30.001])) == pytest.approx(-450.0, abs=1e-9)


def test_a_quadratic_s_flat_directions_stay_unbounded() -> None:
    """min x² - y: curvature in x proves nothing about y."""
    partly = lagrangian([[2.0, 0.0], [0.0, 0.0]], [0.0, -1.0])
    assert partly.bound(np.array([0.0, 1e7])) <= -2e7


def test_far_out_is_not_optimal() -> None:
    program = mo.Program("no end")
    x, y = program.variable("x"), program.variable("y")
    program.minimize(cp.square(x) - y)
    program.add("floor", y >= x)
    assert not program.solve("highs", on_failure="return").status.ok


# ------------------------------------------------------------------------------------------------ integers


def choice() -> mo.Program:
    program = mo.Program("choice")
    take = program.variable("take", 2, boolean=True)
    program.maximize(3 * take[0] + 2 * take[1])
    return program.add("budget", 2 * take[0] + 2 * take[1] <= 3)


@pytest.mark.parametrize(("take", "good"), [([1, 0.5], False), ([1, 1e-3], False), ([1 - 5e-5, 5e-5], True)])
def test_fractional_booleans(registered: Register, take: list[float], good: bool) -> None:
    """Within 1e-4 of an integer they are rounded before anything is evaluated; beyond, they are named."""
    program = choice()
    value = 3.0 if good else 3 * take[0] + 2 * take[1]
    solution = ask(registered, program, point(program, values={"take": take}, objective=value, bound=value))
    if good:
        assert solution.status is Status.OPTIMAL
        np.testing.assert_array_equal(solution["take"], [1.0, 0.0])
    else:
        assert solution.status is Status.INACCURATE
        assert "'domain'" in solution.reason


def test_rounding_that_breaks_a_family_is_noticed(registered: Register) -> None:
    program = mo.Program("tight")
    take = program.variable("take", boolean=True)
    program.maximize(take)
    program.add("cap", 1e5 * take <= 99_999)
    solution = ask(registered, program, point(program, values={"take": 0.99999}, objective=1.0, bound=1.0))
    assert solution.status is Status.INACCURATE
    assert "'cap'" in solution.reason


@pytest.mark.parametrize(
    ("attributes", "value", "worst"),
    [
        ({"integer": True, "bounds": [0, 5]}, [7.0, 2.5], 2.0),
        ({"integer": True, "nonneg": True}, [-1.0, 2.0], 1.0),
        ({"nonneg": True, "bounds": [-1, 5]}, [-0.5, 6.0], 1.0),
        ({"boolean": True}, [2.0, 0.0], 1.0),
        ({"nonpos": True}, [0.25, -1.0], 0.25),
        ({"boolean": [(0,)]}, [1.0, 0.5], 0.0),
        ({"boolean": [(0,)]}, [0.5, 1.0], 0.5),
    ],
)
def test_every_attribute_of_a_variable_counts(attributes: dict, value: list, worst: float) -> None:
    variable = cp.Variable(2, **attributes)
    variable.save_value(np.asarray(value))
    assert certify.domain_excess(variable).violation == worst


@pytest.mark.parametrize(
    ("attributes", "value", "worst"),
    [
        ({"PSD": True}, [[1, 2], [2, 1]], 1.0),
        ({"NSD": True}, [[-1, 2], [2, -1]], 1.0),
        ({"symmetric": True}, [[1, 2], [3, 1]], 0.5),
        ({"symmetric": True, "nonneg": True}, [[1, -2], [-2, 1]], 2.0),
        ({"PSD": True}, [[2, 1], [1, 2]], 0.0),
    ],
)
def test_matrix_attributes_count(attributes: dict, value: list, worst: float) -> None:
    variable = cp.Variable((2, 2), **attributes)
    variable.save_value(np.asarray(value, dtype=float))
    assert certify.domain_excess(variable).violation == pytest.approx(worst)


def test_only_the_integer_entries_are_rounded(registered: Register) -> None:
    program = mo.Program("mixed")
    x = program.variable("x", 2, boolean=[(0,)])
    program.maximize(cp.sum(x))
    program.add("cap", x <= 1)
    value = 1.99995
    solution = ask(
        registered, program, point(program, values={"x": [1.0, 0.99995]}, objective=value, bound=value)
    )
    assert solution["x"][1] == 0.99995


# ------------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize("thrown", [ZeroDivisionError("1/0"), PanicException("unwrap on None")])
def test_whatever_a_binding_throws_is_chained(registered: Register, thrown: BaseException) -> None:
    def explode(_: mo.Program) -> Answer:
        raise thrown

    registered(Liar(explode))
    with pytest.raises(mo.SolverFailure, match=type(thrown).__name__) as caught:
        market().solve("liar")
    assert caught.value.__cause__ is thrown
    assert caught.value.solution.status is Status.FAILED
    assert market().solve("liar", on_failure="return").status is Status.FAILED


class OutOfPatience(BaseException):
    """What a test runner's time limit throws is no Exception either."""


@pytest.mark.parametrize("thrown", [KeyboardInterrupt, OutOfPatience])
def test_the_caller_can_still_interrupt(registered: Register, thrown: type[BaseException]) -> None:
    def interrupt(_: mo.Program) -> Answer:
        raise thrown

    registered(Liar(interrupt))
    with pytest.raises(thrown):
        market().solve("liar", on_failure="return")


def test_our_own_errors_pass_unchanged(registered: Register) -> None:
    def refuse(_: mo.Program) -> Answer:
        raise mo.InvalidInput("no option 'x'")

    registered(Liar(refuse))
    with pytest.raises(mo.InvalidInput, match="no option"):
        market().solve("liar", on_failure="return")


def test_a_false_claim_of_infeasibility_ends_and_names_nobody(registered: Register) -> None:
    """The search for a conflict would end with no family at all, where any value within bounds is a
    witness."""
    liar = Liar(lambda _: Answer(Status.INFEASIBLE, "trust me"))
    registered(liar)
    program = market()
    with pytest.raises(mo.SolverFailure, match="no family is left") as caught:
        program.solve("liar")
    assert not isinstance(caught.value, mo.Infeasible)
    assert liar.calls <= 1 + len(program.families)


def test_infeasibility_is_refuted_by_a_known_feasible_point(registered: Register) -> None:
    program = market()
    program.set_values({"x": 1.0, "y": 0.0})
    solution = ask(registered, program, lambda _: Answer(Status.INFEASIBLE, "trust me"))
    assert solution.status is Status.FAILED
    assert "already held meet every family" in solution.reason


def test_a_local_solver_proves_nothing_about_a_nonconvex_program(registered: Register) -> None:
    program = market()
    program.maximize(program["x"] * program["y"])
    registered(Liar(lambda _: Answer(Status.INFEASIBLE, "stuck"), globally=False))
    solution = program.solve("liar", on_failure="return")
    assert solution.status is Status.FAILED
    assert "local" in solution.reason


def test_a_local_solver_never_says_optimal_of_a_nonconvex_program(registered: Register) -> None:
    program = market()
    program.maximize(program["x"] * program["y"])
    registered(Liar(point(program, objective=3.0, bound=None), globally=False))
    assert program.solve("liar").status is Status.LOCAL


def test_a_certificate_is_never_shown_as_a_price(registered: Register) -> None:
    def certificate(asked: mo.Program) -> Answer:
        dual = {t.id: np.asarray(1.0) for terms in asked.families.values() for t in terms}
        primal = {v.id: np.zeros(v.shape) for v in asked.cvxpy_variables().values()}
        return Answer(Status.INFEASIBLE, "proof", dual=dual, primal=primal, objective=0.0, bound=0.0)

    solution = ask(registered, market(), certificate)
    assert solution.status is Status.INFEASIBLE
    assert solution.duals == {}
    assert solution.values == {}
    assert solution.bound is None
    with pytest.raises(mo.InvalidInput, match="infeasible"):
        solution.dual("budget")


@pytest.mark.parametrize("name", ["clarabel", "scs", "highs", "osqp"])
def test_real_certificates_are_no_prices(name: str) -> None:
    program = market()
    program.add("ceiling", program["x"] <= 0)
    solution = program.solve(name, on_failure="return")
    assert solution.status is Status.INFEASIBLE
    assert solution.duals == {}


# -------------------------------------------------------------------------------- residuals and their scale


def pair() -> tuple[cp.Variable, cp.Variable]:
    u, v = cp.Variable(2, name="u"), cp.Variable(2, name="v")
    u.save_value(np.array([3.0, -500.0]))
    v.save_value(np.array([3.5, -501.0]))
    return u, v


@pytest.mark.filterwarnings("ignore:\\s*Explicitly invoking")
def test_residual_does_not_depend_on_how_a_row_is_written() -> None:
    u, v = pair()
    forms = [u >= v, u - v >= 0, v <= u, v - u <= 0, -v >= -u, 1e6 * u >= 1e6 * v, 1e-6 * (u - v) >= 0]
    forms += [cp.constraints.NonNeg(u - v), cp.constraints.NonPos(v - u), np.eye(2) @ u >= v]
    residuals = [certify.measure(form).residual for form in forms]
    np.testing.assert_allclose(residuals, residuals[0], rtol=1e-12)
    assert residuals[0] == pytest.approx(0.5 / 6.5)


def test_residual_of_an_equality_does_not_depend_on_how_it_is_written() -> None:
    u, v = pair()
    forms = [u == v, u - v == 0, cp.constraints.Zero(v - u), 1e6 * v == 1e6 * u]
    residuals = [certify.measure(form).residual for form in forms]
    np.testing.assert_allclose(residuals, residuals[0], rtol=1e-12)


def test_residual_is_invariant_to_the_units_of_a_scaled_variable() -> None:
    results = []
    for unit in (1.0, 1e-4, 1e5):
        program = mo.Program("units")
        x = program.variable("x", scale=100 * unit)
        program.maximize(x)
        program.add("cap", x <= 300 * unit)
        program.set_values({"x": 300.003 * unit})
        results.append(certify.measure_families(program)[0]["cap"])
    np.testing.assert_allclose(results, results[0], rtol=1e-6)
    assert results[0] == pytest.approx(0.5e-5, rel=1e-3)


def test_sparse_constants_are_measured() -> None:
    u, _ = pair()
    matrix = sp.csr_array(np.array([[1.0, 0.0], [0.0, -2.0]]))
    dense = certify.measure(matrix.toarray() @ u <= 0)
    sparse = certify.measure(matrix @ u <= 0)
    assert sparse.residual == pytest.approx(dense.residual)
    assert sparse.violation == 1000.0


def test_root_of_a_nonlinear_function_is_no_measure_of_its_size() -> None:
    x = cp.Variable()
    x.save_value(np.asarray(1 - 1e-9))
    assert certify.measure(cp.log(x) >= 0).residual < 1e-8
    x.save_value(np.asarray(1 - 1e-3))
    assert certify.measure(cp.log(x) >= 0).residual > 5e-4


def test_outside_a_function_s_domain_is_a_violation() -> None:
    """Where log is NaN or minus infinity, the residual must not come out as NaN, which beats every
    comparison."""
    x = cp.Variable()
    for value in (-1.0, 0.0):
        x.save_value(np.asarray(value))
        with np.errstate(all="ignore"):
            assert certify.measure(cp.log(x) >= 0).residual == np.inf
            assert certify.measure(Hypograph(x - 5, (np.log, lambda x: 1 / x), x)).residual == np.inf


def test_outside_the_domain_is_not_optimal(registered: Register) -> None:
    program = mo.Program("log")
    x = program.variable("x")
    program.maximize(-x)
    program.add("utility", cp.log(x) >= 0)
    solution = ask(registered, program, point(program, values={"x": -1.0}, objective=1.0, bound=1.0))
    assert solution.status is Status.INACCURATE
    assert "'utility'" in solution.reason


@pytest.mark.parametrize(
    ("a", "b", "residual"),
    [(0.0, 5.0, 0.0), (1.0, 1e7, 1.0), (1e7, 1e-3, 1e-3), (-2.0, 0.0, 1.0), (0.0, -2.0, 1.0)],
)
def test_complementarity_takes_each_side_by_its_own_size(a: float, b: float, residual: float) -> None:
    u, v = cp.Variable(), cp.Variable()
    u.save_value(np.asarray(a))
    v.save_value(np.asarray(b))
    assert certify.measure(Complementarity(u, v)).residual == pytest.approx(residual)
    assert certify.measure(Complementarity(v, u)).residual == pytest.approx(residual)


def test_cones_are_measured() -> None:
    x, t = cp.Variable(2), cp.Variable()
    x.save_value(np.array([3.0, 4.0]))
    t.save_value(np.asarray(4.0))
    assert certify.measure(cp.SOC(t, x)).violation == pytest.approx(1.0)
    assert certify.measure(cp.norm(x) <= t).violation == pytest.approx(1.0)
    assert certify.measure(cp.diag(x) - 4 * np.eye(2) >> 0).violation == pytest.approx(1.0)
    exponential = cp.ExpCone(t, cp.Constant(1.0), cp.exp(4.0) - 1)
    assert certify.measure(exponential).violation == pytest.approx(1.0)
    power = cp.PowCone3D(t, cp.Constant(1.0), x[0], 0.5)
    assert certify.measure(power).violation == pytest.approx(1.0)
    t.save_value(np.asarray(9.0))
    for constraint in (cp.SOC(t, x), cp.norm(x) <= t, power):
        assert certify.measure(constraint).violation == 0.0


# ----------------------------------------------------------------------------- what violations may be worth


def no_room(slack: float) -> mo.Program:
    """max x, x^2 <= y <= slack: at slack 0 the only point is (0, 0), and its price is infinite."""
    program = mo.Program("no room")
    x, y = program.variable("x"), program.variable("y")
    program.maximize(x)
    program.add("parabola", cp.square(x) <= y)
    return program.add("pressed", y <= slack)


def test_violations_worth_more_than_the_tolerance_are_no_optimum(registered: Register) -> None:
    """At (1e-4, 1e-8) the rows are met to 1e-8, and the objective is 1e-4 too high."""
    program = no_room(0.0)
    parabola, pressed = (program.families[name][0].id for name in ("parabola", "pressed"))
    price = np.asarray(1 / (2 * 1e-4))  # what solvers return: the multiplier at the point
    recipe = point(
        program,
        values={"x": 1e-4, "y": 1e-8},
        objective=1e-4,
        bound=1e-4,
        dual={parabola: price, pressed: price},
    )
    solution = ask(registered, program, recipe)
    assert solution.status is Status.INACCURATE
    assert "is sure to 5e-05 only" in solution.reason
    assert "'pressed'" in solution.reason
    assert ask(registered, program, recipe, tolerance=1e-3).status is Status.OPTIMAL


def test_solvers_cannot_pass_where_there_is_no_room() -> None:
    for backend in ("clarabel", "scs"):
        solution = no_room(0.0).solve(backend, on_failure="return")
        assert solution.status is not Status.OPTIMAL or abs(solution.objective) <= 1e-6, backend
    roomy = no_room(1.0).solve("clarabel")
    assert roomy.objective == pytest.approx(1.0, rel=1e-6)


def test_worth_of_a_matrix_short_of_semidefinite() -> None:
    x = cp.Variable(2)
    x.value = np.array([-1e-3, 1.0])
    excess = certify.measure(cp.diag(x) >> 0)
    assert certify.worth(excess, np.diag([5.0, 0.0])) == pytest.approx(5e-3)


def test_gaps_are_relative_to_money_of_any_size(registered: Register) -> None:
    """An atom counts for 1 at least, but not beside money of 1e-9: its objective would never be wrong."""
    program = mo.Program("small money", objective_scale=1e-9)
    x = program.variable("x", nonneg=True)
    program.maximize(cp.minimum(1e-9 * x, 2e-9))
    program.add("cap", x <= 3)
    recipe = point(program, values={"x": 1.0}, objective=1e-9, bound=2e-9)
    solution = ask(registered, program, recipe)
    assert solution.status is Status.INACCURATE
    assert solution.gap == pytest.approx(1.0)
    # Near its root, the value of a logarithm is no measure of size; the declared one is.
    program = mo.Program("root", objective_scale=1e-9)
    x = program.variable("x", nonneg=True)
    program.maximize(1e-9 * cp.log(x)).add("cap", x <= 1)
    solution = program.solve("clarabel")
    assert abs(solution.objective) < 1e-15
    assert solution.gap < 1e-6


def test_matrices_along_further_axes_are_each_their_own() -> None:
    """min t_0 + 3 t_1 with C_k + t_k I semidefinite: t_k is the least eigenvalue of C_k, negated."""
    matrices = np.array([[[1.0, 0.5], [0.5, -1.0]], [[2.0, 0.3], [0.3, -3.0]]])
    t = cp.Variable(2)
    parts = [cp.vec(matrix + t[k] * np.eye(2), order="F") for k, matrix in enumerate(matrices)]
    both = cp.reshape(cp.vstack(parts), (2, 2, 2), order="C") >> 0
    t.value = -np.linalg.eigvalsh(matrices)[:, 0] + [-1e-3, 1.0]
    excess = certify.measure(both)
    np.testing.assert_allclose(excess.amount, [1e-3, -1.0])
    assert certify.worth(excess, np.stack([5 * np.eye(2), 7 * np.eye(2)])) == pytest.approx(1e-2)
    program = mo.Program("two matrices")
    program.minimize(t[0] + 3 * t[1]).add("semidefinite", both)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CVXPY says which of its back ends it takes for three axes
        solution = program.solve("clarabel")
    assert solution.objective == pytest.approx(-np.linalg.eigvalsh(matrices)[:, 0] @ [1, 3], rel=1e-6)
