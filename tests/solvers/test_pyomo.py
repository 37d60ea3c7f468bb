"""Pyomo's backends: atoms against values, programs against known optima, pairs against enumeration."""

import inspect
import itertools
import logging
import signal
import subprocess
import sys
import time

import cvxpy as cp
import numpy as np
import pytest
from cvxpy.atoms.elementwise.hyperbolic import asinh, atanh, sinh, tanh
from cvxpy.atoms.elementwise.trig import cos, sin, tan
from scipy.optimize import linprog

import mechopt as mo
from mechopt.solvers.backend import get_backend
from mechopt.solvers.pyomo import Translation, unsupported
from mechopt.solvers.pyomo.atoms import KINKED, RULES, SMOOTH

pyo = pytest.importorskip("pyomo.environ", reason="pyomo is not installed")

ROUTES = ("pyomo:highs", "pyomo:scip", "pyomo:pounce")


@pytest.fixture(autouse=True)
def _installed(request):
    for word in ("scip", "pounce"):
        if word in request.node.name:
            reason = get_backend_or_reason(f"pyomo:{word}")
            if reason:
                pytest.skip(reason)


def get_backend_or_reason(name):
    return {b.name: b for b in mo.solvers.backend.all_backends()}[name].available()


# ------------------------------------------------------------------ atoms

MATRIX = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 3.0]])
VECTOR, TABLE = (3,), (2, 3)

CONVEX_ATOMS = {
    # name: (expression, shape of its variable, whether the domain is positive)
    "log": (cp.log, VECTOR, True),
    "log1p": (cp.log1p, TABLE, True),
    "exp": (cp.exp, TABLE, False),
    "entr": (cp.entr, TABLE, True),
    "logistic": (cp.logistic, VECTOR, False),
    "log_sum_exp": (cp.log_sum_exp, TABLE, False),
    "log_sum_exp_columns": (lambda x: cp.log_sum_exp(x, axis=0), TABLE, False),
    "log_sum_exp_rows": (lambda x: cp.log_sum_exp(x, axis=1, keepdims=True), TABLE, False),
    "sqrt": (cp.sqrt, TABLE, True),
    "square": (cp.square, TABLE, False),
    "cube": (lambda x: cp.power(x, 3), VECTOR, True),
    "power_5_2": (lambda x: cp.power(x, 2.5), VECTOR, True),
    "power_approximate": (lambda x: cp.power(x, 1.5, approx=True), VECTOR, True),
    "power_exact": (lambda x: cp.power(x, 0.3, approx=False), VECTOR, True),
    "power_fourth": (lambda x: cp.power(x, 4), VECTOR, False),
    "power_one": (lambda x: cp.power(x, 1) + cp.square(x), VECTOR, False),
    "power_zero": (lambda x: cp.power(x, 0) + cp.square(x), VECTOR, False),
    "inv_pos": (cp.inv_pos, VECTOR, True),
    "power_minus_two": (lambda x: cp.power(x, -2), VECTOR, True),
    "sum_squares": (cp.sum_squares, TABLE, False),
    "quad_over_lin": (lambda x: cp.quad_over_lin(x[:2], x[2]), VECTOR, True),
    "quad_over_constant": (lambda x: cp.quad_over_lin(x, 2.0, axis=0), TABLE, False),
    "quad_form": (lambda x: cp.quad_form(x, MATRIX), VECTOR, False),
    "quad_form_concave": (lambda x: cp.quad_form(x, -MATRIX), VECTOR, False),
    "geo_mean": (cp.geo_mean, VECTOR, True),
    "geo_mean_weighted": (lambda x: cp.geo_mean(x, [1, 2, 3]), VECTOR, True),
    "kl_div": (lambda x: cp.kl_div(x[:, 0], x[:, 1]), TABLE, True),
    "rel_entr": (lambda x: cp.rel_entr(x[:, 0], x[:, 1]), TABLE, True),
    "abs": (cp.abs, TABLE, False),
    "maximum": (lambda x: cp.maximum(x[:, 0], x[:, 1], 0.3), TABLE, False),
    "minimum": (lambda x: cp.minimum(x[0], x[1]), TABLE, False),
    "max": (cp.max, TABLE, False),
    "max_columns": (lambda x: cp.max(x, axis=0), TABLE, False),
    "min_rows": (lambda x: cp.min(x, axis=1), TABLE, False),
    "norm1": (cp.norm1, TABLE, False),
    "norm1_rows": (lambda x: cp.norm(x, 1, axis=1), TABLE, False),
    "norm_inf": (cp.norm_inf, VECTOR, False),
    "norm2": (cp.norm2, VECTOR, False),
    "norm2_columns": (lambda x: cp.norm(x, 2, axis=0), TABLE, False),
    "frobenius": (lambda x: cp.norm(x, "fro"), TABLE, False),
    "pnorm_3": (lambda x: cp.pnorm(x, 3), VECTOR, False),
    "pnorm_half": (lambda x: cp.pnorm(x, 0.5), VECTOR, True),
    "harmonic_mean": (cp.harmonic_mean, VECTOR, True),
    "sum_largest": (lambda x: cp.sum_largest(x, 2), VECTOR, False),
    "sum_smallest": (lambda x: cp.sum_smallest(x, 2), VECTOR, False),
    "huber": (lambda x: cp.huber(x, 0.5), TABLE, False),
    "total_variation": (cp.tv, VECTOR, False),
    "pos": (cp.pos, VECTOR, False),
    "composed": (lambda x: cp.log(cp.sqrt(x[:, 0]) + cp.minimum(x[:, 1], x[:, 2])), TABLE, True),
}
if "axis" in inspect.signature(cp.geo_mean).parameters:  # from CVXPY 1.9.3 on
    CONVEX_ATOMS["geo_mean_columns"] = (lambda x: cp.geo_mean(x, axis=0), TABLE, True)

SMOOTH_ATOMS = {
    "multiply": (lambda x: cp.multiply(x[0], x[1]), TABLE, False),
    "matmul": (lambda x: x @ x.T, TABLE, False),
    "inner_product": (lambda x: x[0] @ x[1], TABLE, False),
    "matmul_nonlinear": (lambda x: x @ cp.exp(x[0]), TABLE, False),
    "quotient": (lambda x: x[0] / x[1], TABLE, True),
    "prod": (cp.prod, TABLE, False),
    "prod_columns": (lambda x: cp.prod(x, axis=0), TABLE, False),
    "cube": (lambda x: cp.power(x[0] - x[1], 3), TABLE, False),
    "indefinite": (lambda x: x @ (MATRIX - 2 * np.eye(3)) @ x, VECTOR, False),
    "xexp": (cp.xexp, VECTOR, False),
    "sin": (sin, VECTOR, False),
    "cos": (cos, VECTOR, False),
    "tan": (tan, VECTOR, False),
    "sinh": (sinh, VECTOR, False),
    "tanh": (tanh, VECTOR, False),
    "asinh": (asinh, VECTOR, False),
    "atanh": (lambda x: atanh(x / 3), VECTOR, False),
    "logistic": (cp.logistic, VECTOR, False),
    "log_of_product": (lambda x: cp.log(cp.multiply(x[0], x[1])), TABLE, True),
    "sum_index_hstack": (
        lambda x: (
            cp.sum(cp.multiply(np.arange(6.0).reshape(2, 3), cp.exp(x)), axis=0)
            + 3 * cp.vec(cp.log(x + 5), order="F")[1:4]
            - cp.hstack([sin(x[0, 0]), x[1, :2]])
        ),
        TABLE,
        False,
    ),
    "shapes": (
        lambda x: (
            cp.trace(cp.exp(x) @ np.ones((3, 2)))
            + cp.sum(cp.reshape(cp.exp(x), (3, 2), order="C") @ np.array([1.0, 2.0]))
            + cp.sum(cp.diag(cp.exp(x[0])) @ np.arange(3.0))
            + cp.cumsum(cp.square(x), axis=1)[1, 2]
            + cp.kron(np.ones((1, 2)), cp.exp(x))[1, 4]
            + cp.vstack([cp.exp(x[0]), x[1]])[0, 1]
            + cp.exp(x).T[2, 1]
        ),
        TABLE,
        False,
    ),
    "broadcast": (lambda x: cp.exp(x[0, 0]) + x + cp.broadcast_to(cp.log(x[0, 1] + 3), (2, 3)), TABLE, False),
    "reshape_order": (lambda x: cp.reshape(cp.exp(x), (6,), order="C"), TABLE, False),
}


def _point(shape, positive, seed):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.2, 1.5, shape) if positive else rng.uniform(-1.5, 1.5, shape)


def _held_at(build, shape, positive, seed):
    """A program whose variable is started at a random point; the expression, and its value there."""
    program = mo.Program("atom")
    x = program.variable("x", shape)
    point = _point(shape, positive, seed)
    program.set_values({"x": point})
    expression = build(x)
    return program, x, point, expression, np.array(expression.value, dtype=float)


@pytest.mark.parametrize("name", SMOOTH_ATOMS)
def test_smooth_atom_has_its_numeric_value_entry_by_entry(name):
    for seed in range(3):
        program, _, _, expression, want = _held_at(*SMOOTH_ATOMS[name], seed)
        program.minimize(cp.sum(expression))
        assert unsupported(program) == ()
        entries = Translation(program).entries(expression, convex=False)
        got = np.reshape([pyo.value(entry) for entry in entries], expression.shape, order="F")
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("route", ["pyomo:scip", "pyomo:pounce"])
@pytest.mark.parametrize("name", CONVEX_ATOMS)
def test_convex_atom_has_its_numeric_value_at_the_optimum(name, route):
    """Epigraphs hold the value only once the objective pushes on them, so each entry is pushed."""
    program, x, point, expression, want = _held_at(*CONVEX_ATOMS[name], 7)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, expression.shape)
    aim = program.maximize if expression.is_concave() else program.minimize
    aim(cp.sum(cp.multiply(weights, expression)))
    program.add("point", x == point)
    solution = program.solve(route, time_limit=20)
    assert solution.status is mo.Status.OPTIMAL
    reported = get_backend(route).solve(program, mo.solvers.backend.Settings(time_limit=20)).objective
    assert reported == pytest.approx(np.sum(weights * want), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", ["log", "quad_over_lin", "norm2", "huber", "geo_mean_weighted"])
def test_convex_atom_agrees_with_clarabel_where_it_is_free_to_move(name):
    """Here the atom shapes the optimum, prices included."""
    build, shape, positive = CONVEX_ATOMS[name]
    solutions = {}
    for route in ("clarabel", "pyomo:pounce", "pyomo:scip"):
        program = mo.Program(name)
        x = program.variable("x", shape, nonneg=positive)
        expression = cp.sum(build(x))
        weights = np.arange(1.0, x.size + 1).reshape(shape, order="F")
        if expression.is_concave():
            program.maximize(expression - cp.sum(cp.multiply(weights, x)))
        else:
            program.minimize(expression + 0.1 * cp.sum(cp.multiply(weights, x)))
        program.add("total", cp.sum(x) >= 2).add("box", x <= 3)
        solutions[route] = program.solve(route, time_limit=30)
        assert solutions[route].status is mo.Status.OPTIMAL
    values = [solution.objective for solution in solutions.values()]
    np.testing.assert_allclose(values, values[0], rtol=1e-5)
    price = float(solutions["clarabel"].dual("total"))
    assert float(solutions["pyomo:pounce"].dual("total")) == pytest.approx(price, rel=1e-4, abs=1e-5)
    assert solutions["pyomo:scip"].duals == {}


def test_every_atom_of_the_table_is_tested():
    tested = set()
    for build, shape, positive in [*CONVEX_ATOMS.values(), *SMOOTH_ATOMS.values()]:
        *_, expression, _ = _held_at(build, shape, positive, 0)
        tested |= {atom.__name__ for atom in expression.atoms()}
    # The approximate and exact forms of a power, norm or mean share their rule.
    tested |= {name.removesuffix("Approx") for name in tested} | {f"{name}Approx" for name in tested}
    assert set(RULES) <= tested
    assert not set(SMOOTH) & set(KINKED)


def test_unknown_atoms_are_refused_by_name_before_anything_is_solved():
    program = mo.Program("spectral")
    x = program.variable("x", (2, 2))
    program.minimize(cp.cummax(x[0])[1]).add("one", cp.sum(x) == 1)
    with pytest.raises(mo.MissingCapability, match="the atom cummax"):
        program.solve("pyomo:scip")


def test_a_kink_in_a_complementarity_pair_is_refused_by_name():
    program = mo.Program("kink")
    x = program.variable("x", bounds=[0, 2])
    program.maximize(x).add("pair", mo.Complementarity(x, cp.abs(x - 1)))
    assert unsupported(program) == ("the atom abs in a complementarity pair",)
    with pytest.raises(mo.MechanismError, match="abs"):
        program.solve("pyomo:scip")


def test_affine_expressions_stay_sparse():
    n = 60
    program = mo.Program("rows")
    x = program.variable("x", (n, n), nonneg=True)
    program.maximize(cp.sum(cp.multiply(np.arange(float(n * n)).reshape(n, n), x)))
    program.add("sums", cp.sum(x, axis=1) <= 1, cp.diag(x) <= 0.5, x.T[1:3, :4] <= 0.2)
    model = Translation(program).model
    assert len(model.x) == n * n
    assert len(model.rows) == 2 * n + 8
    assert [len(model.rows[i].body.linear_vars) for i in range(1, n + 1)] == [n] * n


# ------------------------------------------------------------------ variables and shapes


def test_variables_keep_bounds_signs_domains_and_shape():
    program = mo.Program("kinds")
    free = program.variable("free", (2, 2), bounds=[np.array([[0.0, 1], [2, 3]]), 10.0], scale=2.0)
    some = program.variable("some", 3, integer=[(1,)])
    twin = program.variable("twin", (2, 2), symmetric=True)
    diagonal = program.variable("diagonal", (2, 2), diag=True)
    program.minimize(cp.sum(free) + cp.sum(some) + cp.sum(twin) + cp.sum(diagonal))
    program.add("some", some >= np.array([0.5, 0.5, 0.5]))
    program.add("twin", twin >= np.array([[1.0, 2.0], [5.0, 3.0]]))
    program.add("diagonal", cp.diag(diagonal) >= np.array([1.0, 4.0]))
    for route in ("pyomo:highs", "pyomo:scip"):
        solution = program.solve(route)
        np.testing.assert_allclose(solution["free"], [[0, 1], [2, 3]], atol=1e-9)
        np.testing.assert_allclose(solution["some"], [0.5, 1.0, 0.5])
        np.testing.assert_allclose(solution["twin"], [[1, 5], [5, 3]])
        np.testing.assert_allclose(solution["diagonal"], [[1, 0], [0, 4]])


def test_parameters_take_their_values():
    price = cp.Parameter(nonneg=True)
    program = mo.Program("parameter")
    x = program.variable("x", nonneg=True)
    program.maximize(cp.log(1 + price * x) - x)
    for value in (2.0, 4.0):
        price.value = value
        assert float(program.solve("pyomo:pounce")["x"]) == pytest.approx(1 - 1 / value, abs=1e-6)


def test_rows_without_variables_are_judged_here():
    program = mo.Program("constants")
    x = program.variable("x", bounds=[0, 1])
    program.maximize(x).add("true", cp.hstack([x, 1.0]) <= 1)
    assert program.solve("pyomo:highs").objective == pytest.approx(1.0)
    program.add("false", cp.hstack([x, 2.0]) <= 1)
    for route in ROUTES:
        assert program.solve(route, on_failure="return").status is mo.Status.INFEASIBLE


# ------------------------------------------------------------------ convex and integer programs


@pytest.mark.parametrize("route", ["pyomo:highs", "pyomo:pounce"])
@pytest.mark.parametrize("maximize", [True, False])
def test_prices_agree_with_clarabel_for_every_kind_of_row(route, maximize):
    def declare():
        program = mo.Program("prices", objective_scale=10.0)
        x = program.variable("x", 3, scale=np.array([1.0, 10.0, 0.1]), bounds=[0, 50])
        worth = np.array([3.0, 2.0, 1.0]) @ x - 0.5 * cp.sum_squares(x - np.array([1.0, 5.0, 0.0]))
        program.maximize(worth) if maximize else program.minimize(-worth)
        program.add("upper", x[0] + x[1] <= 8).add("lower", x[2] >= 0.5).add("equal", x[0] - x[2] == 1)
        return program.add("cone", cp.constraints.NonNeg(x[1] - 5))

    ours, theirs = declare().solve(route), declare().solve("clarabel")
    assert ours.gap is not None
    assert ours.gap <= 1e-6
    for family in ("upper", "lower", "equal", "cone"):
        np.testing.assert_allclose(ours.dual(family), theirs.dual(family), rtol=1e-4, atol=1e-4)


KNAPSACK = {
    # name: (value of two goods, by a concave function of whole amounts)
    "linear": lambda x: 3 * x[0] + 5 * x[1],
    "logarithms": lambda x: 3 * cp.log(1 + x[0]) + 5 * cp.log(1 + 0.5 * x[1]),
    "roots": lambda x: 2 * cp.sqrt(x[0]) + cp.sqrt(x[1]),
    "powers": lambda x: 2 * cp.power(x[0], 0.3) + cp.power(x[1], 0.7),
    "norm": lambda x: 3 * x[0] + 5 * x[1] - cp.norm(x - np.array([1.3, 2.4]), 2) * 4,
    "square": lambda x: 3 * x[0] + 5 * x[1] - cp.sum_squares(x - np.array([1.3, 2.4])),
}


@pytest.mark.parametrize("name", KNAPSACK)
def test_scip_on_integers_agrees_with_trying_all(name):
    program = mo.Program(name)
    x = program.variable("x", 2, integer=True, bounds=[0, 5])
    program.maximize(KNAPSACK[name](x)).add("budget", 2 * x[0] + 3 * x[1] <= 12)
    points = [p for p in itertools.product(range(6), repeat=2) if 2 * p[0] + 3 * p[1] <= 12]
    best = max(float(KNAPSACK[name](cp.Constant(p)).value) for p in points)
    solution = program.solve("pyomo:scip", time_limit=20)
    assert solution.status is mo.Status.OPTIMAL
    assert solution.objective == pytest.approx(best, rel=1e-6)
    assert solution.gap <= 1e-6
    if name == "linear":
        assert program.solve("pyomo:highs").objective == pytest.approx(best)


@pytest.mark.parametrize("route", ["pyomo:pounce"])
def test_integers_are_refused(route):
    program = mo.Program("whole")
    x = program.variable("x", 2, boolean=True)
    program.maximize(cp.sum(x))
    with pytest.raises(mo.MissingCapability, match="MIP"):
        program.solve(route)


def bilinear():
    """Max xy - x/2 on x + 2y <= 4 in [0, 4]^2: y = 2 - x/2, so 2x - x²/2 - x/2, x = 3/2, value 9/8."""
    program = mo.Program("bilinear")
    x, y = program.variable("x", bounds=[0, 4]), program.variable("y", bounds=[0, 4])
    return program.maximize(cp.multiply(x, y) - 0.5 * x).add("line", x + 2 * y <= 4)


def test_scip_and_pounce_on_a_product_of_variables():
    globally = bilinear().solve("pyomo:scip", time_limit=20)
    assert globally.status is mo.Status.OPTIMAL
    assert globally.objective == pytest.approx(9 / 8, abs=1e-6)
    locally = bilinear().solve("pyomo:pounce")
    assert locally.status is mo.Status.LOCAL
    assert locally.objective == pytest.approx(9 / 8, abs=1e-6)


@pytest.mark.parametrize(("start", "valley"), [(-1.0, -1.0), (1.0, 1.0)])
def test_pounce_starts_where_it_is_told(start, valley):
    """(x² - 1)² + x/8 has two valleys, of which SCIP knows the deeper one."""
    program = mo.Program("valleys")
    x = program.variable("x", bounds=[-2, 2])
    # The square of a nonconvex expression is smooth, and not disciplined convex.
    program.minimize(cp.square(cp.square(x) - 1) + x / 8)
    program.set_values({"x": start})
    local = program.solve("pyomo:pounce")
    assert float(local["x"]) == pytest.approx(valley, abs=0.1)
    assert local.status is mo.Status.LOCAL
    best = program.solve("pyomo:scip", time_limit=20)
    assert float(best["x"]) == pytest.approx(-1.0, abs=0.1)
    assert best.objective <= local.objective + 1e-6


# ------------------------------------------------------------------ complementarity, against enumeration


class Equilibrium:
    """Max f'z on G z <= h, 0 <= z <= u, with pairs 0 <= A z + a perp B z + b >= 0; bounds may be missing."""

    def __init__(self, f, G, h, u, A, a, B, b):
        self.f, self.G, self.h, self.u = f, G, h, u
        self.A, self.a, self.B, self.b = A, a, B, b

    def program(self):
        program = mo.Program("equilibrium")
        z = program.variable("z", len(self.f), nonneg=True)
        program.maximize(self.f @ z)
        bounded = np.flatnonzero(np.isfinite(self.u))
        if len(bounded):
            program.add("bounds", z[bounded] <= self.u[bounded])
        if len(self.h):
            program.add("rows", self.G @ z <= self.h)
        return program.add("pairs", mo.Complementarity(self.A @ z + self.a, self.B @ z + self.b))

    def enumerate(self):
        """Global optimum over the 2^n choices of which side is zero; -inf if none is feasible."""
        best = -np.inf
        rows = np.vstack([self.G, -self.A, -self.B])
        limits = np.concatenate([self.h, self.a, self.b])
        for choice in itertools.product([False, True], repeat=len(self.a)):
            left = np.array(choice)
            equal = np.where(left[:, np.newaxis], self.A, self.B)
            right = -np.where(left, self.a, self.b)
            box = [(0, None if np.isinf(most) else most) for most in self.u]
            result = linprog(-self.f, A_ub=rows, b_ub=limits, A_eq=equal, b_eq=right, bounds=box)
            assert result.status in (0, 2), result.message
            if result.status == 0:
                best = max(best, -result.fun)
        return best


def leader_follower(seed, leaders=2, followers=3, rows=2):
    """A leader in a box, a follower with a convex quadratic cost, by the follower's Karush-Kuhn-Tucker pairs.

    The follower minimises y'Qy/2 + (p + R x)'y on y >= 0, S y <= s. Its multipliers have no declared bound.
    """
    rng = np.random.default_rng(seed)
    n = leaders + followers + rows
    root = rng.normal(size=(followers, followers))
    Q, R = root @ root.T + 0.5 * np.eye(followers), rng.normal(size=(followers, leaders))
    p, S, s = -rng.uniform(0, 3, followers), rng.uniform(0, 1, (rows, followers)), rng.uniform(0.5, 2, rows)
    f = np.concatenate([rng.normal(size=leaders + followers), np.zeros(rows)])
    u = np.concatenate([rng.uniform(0.5, 2, leaders), np.full(followers + rows, np.inf)])
    A = np.zeros((followers + rows, n))
    A[:, leaders:] = np.eye(followers + rows)
    B = np.zeros((followers + rows, n))
    B[:followers] = np.hstack([R, Q, S.T])
    B[followers:, leaders : leaders + followers] = -S
    return Equilibrium(
        f, np.zeros((0, n)), np.zeros(0), u, A, np.zeros(followers + rows), B, np.concatenate([p, s])
    )


def random_pairs(seed, n=4):
    """Random pairs of affine functions in a box, so that every side has a bound."""
    rng = np.random.default_rng(1000 + seed)
    m = 3
    return Equilibrium(
        rng.normal(size=n),
        rng.normal(size=(2, n)),
        rng.uniform(0.5, 2, 2),
        rng.uniform(0.5, 3, n),
        rng.normal(size=(m, n)),
        rng.uniform(-0.3, 1, m),
        rng.normal(size=(m, n)),
        rng.uniform(-0.3, 1, m),
    )


def toll():
    """Max x + y with 0 <= x perp 4 - x - y >= 0 and y <= 1.

    With x = 0, y = 1 the value is 1; with x = 4 - y it is 4. Without the pair's product x + y stops at 4 too.
    """
    program = mo.Program("toll")
    x, y = program.variable("x", nonneg=True), program.variable("y", bounds=[0, 1])
    return program.maximize(x + y).add("pair", mo.Complementarity(x, 4 - x - y)), 4.0


def either_or():
    """Max x + y with 0 <= x perp y >= 0, x <= 2, y <= 3: 3, and 5 for whoever forgets the pair.

    Its two multiplier-like sides are both positive at the relaxed optimum, where a bad transformation stops.
    """
    program = mo.Program("either or")
    x, y = program.variable("x", bounds=[0, 2]), program.variable("y", bounds=[0, 3])
    return program.maximize(x + y).add("pair", mo.Complementarity(x, y)), 3.0


def curved():
    """Max x with 0 <= x perp 1 + y² - x >= 0 and y in [0, 2]: x = 1 + y² = 5, one side nonconvex."""
    program = mo.Program("curved")
    x, y = program.variable("x", nonneg=True), program.variable("y", bounds=[0, 2])
    return program.maximize(x).add("pair", mo.Complementarity(x, 1 + cp.square(y) - x)), 5.0


def large_numbers():
    """The same pair in units of 1e4, where a product of 1e-6 hides a side of 1e-1: max x + y, either zero."""
    program = mo.Program("large numbers")
    x, y = program.variable("x", bounds=[0, 2e4]), program.variable("y", bounds=[0, 3e4])
    return program.maximize(x + y).add("pair", mo.Complementarity(x, y)), 3e4


@pytest.mark.parametrize("build", [toll, either_or, curved, large_numbers])
@pytest.mark.parametrize("route", ["pyomo:scip", "pyomo:pounce"])
def test_pairs_with_a_known_optimum(build, route):
    program, best = build()
    solution = program.solve(route, time_limit=20)
    assert solution.residuals["pair"] <= 1e-6
    assert solution.objective <= best * (1 + 1e-6)
    if route == "pyomo:scip":
        assert solution.status is mo.Status.OPTIMAL
        assert solution.objective == pytest.approx(best, rel=1e-6)
    else:
        assert solution.status is mo.Status.LOCAL
        assert solution.objective >= 0
    assert solution.duals == {}


def test_infeasible_pairs_are_proved_infeasible_and_named():
    program = mo.Program("impossible")
    x, y = program.variable("x", bounds=[0, 2]), program.variable("y", bounds=[0, 2])
    program.maximize(x + y).add("pair", mo.Complementarity(x, y)).add("both", x >= 0.5, y >= 0.5)
    program.add("idle", x + y <= 10)
    with pytest.raises(mo.Infeasible) as caught:
        program.solve("pyomo:scip", time_limit=20)
    assert set(caught.value.families) == {"pair", "both"}
    assert program.solve("pyomo:pounce", on_failure="return").status is mo.Status.FAILED


def test_a_constant_side_settles_a_pair():
    program = mo.Program("settled")
    x = program.variable("x", 3, bounds=[0, 2])
    program.maximize(cp.sum(x)).add("pair", mo.Complementarity(x, np.array([0.0, 1.0, 0.0])))
    for route in ("pyomo:scip", "pyomo:pounce"):
        np.testing.assert_allclose(program.solve(route)["x"], [2, 0, 2], atol=1e-6)
    program.add("open", x[1] >= 1)
    assert program.solve("pyomo:scip", on_failure="return").status is mo.Status.INFEASIBLE


def test_scip_survives_an_error_of_its_linear_solver():
    """At a tolerance of 1e-9 SoPlex gives up on this one."""
    solution = leader_follower(13, 3, 8, 5).program().solve("pyomo:scip", time_limit=30)
    assert solution.status is mo.Status.OPTIMAL
    assert solution.residuals["pairs"] <= 1e-6


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("family", [leader_follower, random_pairs])
def test_scip_finds_the_enumerated_optimum(family, seed):
    instance = family(seed)
    best = instance.enumerate()
    solution = instance.program().solve("pyomo:scip", time_limit=20, on_failure="return")
    if best == -np.inf:
        assert solution.status is mo.Status.INFEASIBLE
        return
    assert solution.status is mo.Status.OPTIMAL, solution.reason
    assert solution.objective == pytest.approx(best, rel=1e-6, abs=1e-6)
    assert solution.residuals["pairs"] <= 1e-6


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("family", [leader_follower, random_pairs])
def test_pounce_never_beats_the_enumerated_optimum(family, seed):
    instance = family(seed)
    best = instance.enumerate()
    solution = instance.program().solve("pyomo:pounce", on_failure="return")
    if best == -np.inf:
        assert not solution.status.ok
        return
    assert solution.status is not mo.Status.OPTIMAL
    if family is leader_follower:
        assert solution.status is mo.Status.LOCAL, solution.reason
    if solution.status.ok:
        assert solution.objective <= best + 1e-6 * max(1.0, abs(best))
        assert solution.residuals["pairs"] <= 1e-6


# ------------------------------------------------------------------ behaviour


def market_split(goods=5, agents=40):
    rng = np.random.default_rng(7)
    holdings = rng.integers(0, 100, size=(goods, agents))
    program = mo.Program("market split")
    side = program.variable("side", agents, boolean=True)
    over, under = program.variable("over", goods, nonneg=True), program.variable("under", goods, nonneg=True)
    program.minimize(cp.sum(over + under))
    return program.add("halves", holdings @ side + under - over == holdings.sum(axis=1) // 2)


@pytest.mark.parametrize("route", ["pyomo:highs", "pyomo:scip"])
def test_the_time_limit_keeps_the_incumbent(route):
    started = time.perf_counter()
    with pytest.warns(mo.MechanismWarning, match="limit"):
        solution = market_split().solve(route, time_limit=1.0)
    assert time.perf_counter() - started < 5.0
    assert solution.status is mo.Status.LIMIT
    assert solution.bound is not None
    assert solution.bound <= solution.objective
    assert solution.residuals["halves"] <= 1e-6


@pytest.mark.parametrize("verbose", [False, True])
def test_a_long_run_of_scip_does_not_block_on_its_own_output(verbose):
    """Pyomo's pipe holds 64 kB; the log of a screening contract without bounds is longer after a second."""
    n = 30
    share = np.linspace(0.01, 0.21, n)
    program = mo.Program("contract")
    q, g = program.variable("q", n), program.variable("g", n)
    rent = g[:, None] - cp.multiply(share[:, None], q[:, None])
    program.maximize(cp.sum(100 * cp.log(1 + 2 * cp.multiply(share, q)) - g) / n)
    program.add("ir", g - cp.multiply(share, q) >= 0)
    program.add("ic", rent @ np.ones((1, n)) >= np.ones((n, 1)) @ g[None, :] - share[:, None] @ q[None, :])
    started = time.perf_counter()
    program.solve("pyomo:scip", time_limit=3, on_failure="return", verbose=verbose)
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("route", ROUTES)
def test_a_time_limit_too_short_to_build_is_a_limit(route):
    program = mo.Program("short")
    x = program.variable("x", 50, nonneg=True)
    program.minimize(cp.sum(x)).add("one", cp.sum(x) >= 1)
    assert program.solve(route, time_limit=1e-6, on_failure="return").status is mo.Status.LIMIT


@pytest.mark.parametrize("route", ["pyomo:highs", "pyomo:scip"])
def test_unbounded_and_infeasible_are_told_apart(route):
    program = mo.Program("ray")
    x = program.variable("x", 2, nonneg=True)
    program.maximize(cp.sum(x)).add("diagonal", x[0] - x[1] <= 1)
    assert program.solve(route, time_limit=20, on_failure="return").status is mo.Status.UNBOUNDED
    program.add("below", x[0] <= -1)
    assert program.solve(route, time_limit=20, on_failure="return").status is mo.Status.INFEASIBLE


@pytest.mark.parametrize("route", ROUTES)
def test_nothing_is_printed_unless_asked(route, capfd):
    logging.getLogger("pyomo").setLevel(logging.NOTSET)

    def declare():
        program = mo.Program("quiet")
        x = program.variable("x", 3, nonneg=True)
        return program.maximize(np.arange(3.0) @ x).add("total", cp.sum(x) <= 1), x

    program, x = declare()
    program.solve(route, time_limit=20)
    program.add("never", x[0] <= -1)
    program.solve(route, on_failure="return")
    assert capfd.readouterr() == ("", "")
    declare()[0].solve(route, verbose=True)
    assert capfd.readouterr().out


def test_the_error_of_scips_linear_solver_is_silent(capfd):
    leader_follower(13, 3, 8, 5).program().solve("pyomo:scip", time_limit=30)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("route", "options"),
    [
        ("pyomo:highs", {"simplex_iteration_limit": 1000}),
        ("pyomo:scip", {"limits/nodes": 1000}),
        ("pyomo:pounce", {"max_iter": 1000}),
    ],
)
def test_options_reach_the_solver_and_unknown_ones_are_errors(route, options):
    program = mo.Program("options")
    x = program.variable("x", bounds=[0, 1])
    program.maximize(cp.log(1 + x) if route != "pyomo:highs" else x)
    assert program.solve(route, **options).status is mo.Status.OPTIMAL
    with pytest.raises(mo.InvalidInput, match="no option 'bogus'"):
        program.solve(route, bogus=1)


def test_pounce_stops_at_its_iteration_limit():
    program = mo.Program("iterations")
    x = program.variable("x", bounds=[0, 9])
    program.maximize(cp.log(1 + x) - 0.3 * x)
    solution = program.solve("pyomo:pounce", max_iter=1, on_failure="return")
    assert solution.status is mo.Status.LIMIT


@pytest.mark.parametrize("route", ["pyomo:highs", "pyomo:scip"])
def test_a_keyboard_interrupt_gets_through(route):
    """The solvers have handlers of their own, which end the solve; the interrupt must still get through."""
    code = (
        "from tests.solvers.test_pyomo import market_split\n"
        "program = market_split()\n"
        "print('ready', flush=True)\n"
        "try:\n"
        f"    program.solve({route!r}, time_limit=20)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "ready"
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    started = time.perf_counter()
    out, _ = process.communicate(timeout=40)
    assert out.strip() == "interrupted"
    assert time.perf_counter() - started < 10


def test_availability_is_told_without_importing_a_solver():
    code = (
        "import sys, cvxpy, mechopt as mo\n"  # CVXPY itself loads what it finds
        "before = set(sys.modules)\n"
        "told = {b.name: b.available() for b in mo.solvers.backend.all_backends()}\n"
        "loaded = {'pyscipopt', 'pounce', 'highspy', 'pyomo'} & (set(sys.modules) - before)\n"
        "print(sorted(n for n in told if n.startswith('pyomo:')), sorted(loaded))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip().endswith("['pyomo:highs', 'pyomo:pounce', 'pyomo:scip'] []")


# ------------------------------------------------------------------ coefficients that a solver takes for zero


def _faint(size: float, kind: str) -> mo.Program:
    program = mo.Program(kind)
    x, y = program.variable("x", bounds=[0, 2 / size]), program.variable("y", nonneg=True)
    if kind == "row":
        program.maximize(x + y).add("cap", size * x + y <= 1)
    else:
        program.maximize(cp.minimum(size * y, 3 * size)).add("some", x + y <= 9)
    return program


@pytest.mark.parametrize("backend", ["pyomo:scip", "pyomo:highs"])
@pytest.mark.parametrize("kind", ["row", "objective"])
def test_dropped_coefficients_are_no_proof(backend: str, kind: str) -> None:
    """The row allows x up to 1 / size, without it 2 / size; the objective up to 3 sizes."""
    for size in (1e-10, 1e-11):
        solution = _faint(size, kind).solve(backend, on_failure="return")
        assert not solution.status.ok
        assert solution.bound is None
        assert "declare variables and money with their scale" in solution.reason
    kept = _faint(1e-7, kind).solve(backend)
    assert kept.objective == pytest.approx(1e7 if kind == "row" else 3e-7, rel=1e-6)


def test_rounding_errors_among_coefficients_are_no_doubt() -> None:
    program = mo.Program("rounding")
    x = program.variable("x", 2, bounds=[0, 1])
    program.maximize(cp.sum(x)).add("cap", np.array([[1.0, 1e-14], [3e-13, 2.0]]) @ x <= 0.5)
    for backend in ("pyomo:scip", "pyomo:highs"):
        assert program.solve(backend).objective == pytest.approx(0.75, rel=1e-9)


@pytest.mark.parametrize("size", [1e-12, 1e-9, 1e9, 1e12])
@pytest.mark.parametrize("backend", ["pyomo:scip", "pyomo:highs", "highspy", "clarabel", "outer"])
def test_linear_objectives_of_any_size(backend: str, size: float) -> None:
    program = mo.Program("any size")
    x = program.variable("x", 2, nonneg=True)
    program.maximize(size * (x[0] + 2 * x[1]) + 5 * size).add("cap", cp.sum(x) <= 3)
    solution = program.solve(backend)
    assert solution.objective == pytest.approx(11 * size, rel=1e-6)
    assert solution.bound is None or solution.bound == pytest.approx(11 * size, rel=1e-6)
    if solution.duals:
        assert float(solution.dual("cap")) == pytest.approx(2 * size, rel=1e-6)


def test_bound_of_scip_leaves_room_for_what_it_cannot_see() -> None:
    """SCIP ends with an empty tree, and gives the value of its point, 4e-11 above the optimum, as bound."""
    program = mo.MeanEstimation([np.inf] * 2).program()
    for tolerance in (1e-6, 1e-9):
        solution = program.solve("pyomo:scip", tolerance=tolerance, on_failure="return")
        assert solution.objective == pytest.approx(1 / 24, rel=1e-6)
        assert solution.bound < 1 / 24
        assert 0 < solution.gap < 1e-8
    assert solution.status is mo.Status.INACCURATE  # to 1e-9, SCIP cannot be sure of it
    product = mo.Program("product")
    x = product.variable("x", 2, bounds=[0, 2])
    product.maximize(x[0] * x[1]).add("cap", x[0] + x[1] <= 2)
    assert product.solve("pyomo:scip").bound >= 1.0
