"""Pyomo's backends: every atom against its numeric value, programs against known optima, pairs against enumeration."""

import itertools
import logging
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
    "geo_mean_columns": (lambda x: cp.geo_mean(x, axis=0), TABLE, True),
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
    """Epigraphs hold the value only once the objective pushes on them, so each entry is pushed, with its weight."""
    program, x, point, expression, want = _held_at(*CONVEX_ATOMS[name], 7)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, expression.shape)
    aim = program.maximize if expression.is_concave() else program.minimize
    aim(cp.sum(cp.multiply(weights, expression)))
    program.add("point", x == point)
    solution = program.solve(route, time_limit=20)
    assert solution.status is mo.Status.OPTIMAL
    reported = get_backend(route).solve(program, mo.solvers.backend.Settings(time_limit=20)).objective
    assert reported == pytest.approx(np.sum(weights * want), rel=1e-6, abs=1e-6)
