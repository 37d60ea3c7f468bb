"""Convex costs: each against the definitions of its own methods, and as CVXPY expressions."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.functions import ConvexCost, PowerCost, QuadraticCost
from mechopt.solvers.errors import InvalidInput

LINEAR = [PowerCost(1.0, 7.0), QuadraticCost(0.4, 0.0)]
BENT = [
    PowerCost(1.2, 3.0),
    PowerCost(2.0),
    PowerCost(2.0, 1e4),
    PowerCost(3.5, 0.02),
    QuadraticCost(1.5, 0.3),
    QuadraticCost(0.02, 400.0),
    QuadraticCost(2.0, 1e-6),
]


@pytest.fixture(params=LINEAR + BENT, ids=repr)
def cost(request: pytest.FixtureRequest) -> ConvexCost:
    return request.param


def amounts(cost: ConvexCost, number: int = 60) -> np.ndarray:
    return np.logspace(-3, 2, number) * cost.natural_scale


@pytest.mark.parametrize(
    ("cost", "q", "value"),
    [
        (PowerCost(1.0, 7.0), 3.0, 3.0),
        (PowerCost(2.0, 4.0), 6.0, 9.0),
        (PowerCost(3.0), 2.0, 8.0),
        (QuadraticCost(2.0, 3.0), 4.0, 32.0),
        (QuadraticCost(2.0, 0.0), 4.0, 8.0),
    ],
)
def test_values_by_hand(cost: ConvexCost, q: float, value: float) -> None:
    assert float(cost(q)) == pytest.approx(value, rel=1e-15)
    assert float(cost.inverse(value)) == pytest.approx(q, rel=1e-15)


def test_increasing_convex_and_free_at_zero(cost: ConvexCost) -> None:
    q = np.linspace(0, 5, 401) * cost.natural_scale
    value = cost(q)
    assert value[0] == 0
    assert float(cost.inverse(0.0)) == 0
    assert np.all(np.diff(value) > 0)
    assert np.all(np.diff(value, 2) >= -1e-14 * value[-1])
    assert np.all(np.diff(cost.derivative(q)) >= 0)


def test_derivative_is_the_finite_difference(cost: ConvexCost) -> None:
    q = amounts(cost)
    h = 1e-5 * q
    np.testing.assert_allclose(cost.derivative(q), (cost(q + h) - cost(q - h)) / (2 * h), rtol=1e-8)


def test_inverse_undoes_the_value_and_its_slope_is_the_reciprocal(cost: ConvexCost) -> None:
    q = amounts(cost)
    np.testing.assert_allclose(cost.inverse(cost(q)), q, rtol=1e-14)
    np.testing.assert_allclose(cost.inverse_slope(cost(q)) * cost.derivative(q), 1, rtol=1e-13)


@pytest.mark.parametrize("curvature", [1e-12, 1e-15, 1e-300])
def test_nearly_linear_cost_loses_no_digits(curvature: float) -> None:
    q = np.array([1e-3, 1.0, 1e3])
    np.testing.assert_allclose(QuadraticCost(2.0, curvature).inverse(2 * q), q, rtol=1e-9)


def test_inverse_is_vertical_at_zero_where_first_records_are_free() -> None:
    assert np.isinf(PowerCost(1.5).inverse_slope(0.0))
    assert float(PowerCost(1.5).derivative(0.0)) == 0
    assert float(PowerCost(1.0).inverse_slope(0.0)) == 1
    assert float(QuadraticCost(4.0, 1.0).inverse_slope(0.0)) == 0.25


def test_result_has_the_shape_of_the_argument(cost: ConvexCost) -> None:
    for method in (cost, cost.derivative, cost.inverse, cost.inverse_slope):
        for shape in ((), (0,), (3,), (2, 3)):
            assert np.shape(method(np.full(shape, 0.3))) == shape
        assert np.shape(method([0.2, 0.3])) == (2,)


# ---------------------------------------------------------------- in programs


def test_expressions_have_the_curvature_and_the_values(cost: ConvexCost) -> None:
    q = amounts(cost, 9)
    variable = cp.Variable(9, nonneg=True)
    variable.value = q
    convex = cost.expression(variable)
    assert convex.is_convex()
    np.testing.assert_allclose(convex.value, cost(q), rtol=1e-13)
    y = cost(q)
    variable.value = y
    for size in (None, 1.0, float(y[4])):
        concave = cost.inverse_expression(variable, size=size)
        assert concave.is_concave()
        assert concave.shape == (9,)
        # The quadratic's expression subtracts its natural scale.
        np.testing.assert_allclose(concave.value, q, rtol=1e-12, atol=1e-13 * cost.natural_scale)


def test_affine_exactly_if_linear(cost: ConvexCost) -> None:
    q = cp.Variable(nonneg=True)
    linear = cost in LINEAR
    assert cost.expression(q).is_affine() == cost.inverse_expression(q).is_affine() == linear


@pytest.mark.parametrize("cost", BENT, ids=repr)
def test_programs_in_q_and_in_y_find_the_same_quantity(cost: ConvexCost) -> None:
    # max price q - h(q), at twice and ten times the natural scale.
    for factor in (2.0, 10.0):
        best = factor * cost.natural_scale
        price, size = float(cost.derivative(best)), float(cost(best))
        in_q = mo.Program("in q", objective_scale=size)
        q = in_q.variable("q", nonneg=True, scale=cost.natural_scale)
        in_q.maximize(price * q - cost.expression(q))
        in_y = mo.Program("in y", objective_scale=size)
        y = in_y.variable("y", nonneg=True, scale=size)
        in_y.maximize(price * cost.inverse_expression(y, size=size) - y)
        # The objective is flat at its top: quantities are less accurate than values.
        value = price * best - size
        for program in (in_q, in_y):
            assert program.solve("clarabel").objective == pytest.approx(value, rel=1e-5)
        assert float(in_q.solve("clarabel")["q"]) == pytest.approx(best, rel=2e-3)
        found = float(cost.inverse(float(in_y.solve("clarabel")["y"])))
        assert found == pytest.approx(best, rel=2e-3)


def test_second_order_cones_suffice_for_squares() -> None:
    for cost in (PowerCost(2.0, 3.0), QuadraticCost(1.0, 2.0)):
        program = mo.Program("cone")
        y = program.variable("y", nonneg=True)
        program.maximize(cost.inverse_expression(y) - y)
        assert mo.Capability.SOC in program.requires()
        assert not {mo.Capability.POW, mo.Capability.EXP} & set(program.requires())


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PowerCost(0.9), r"PowerCost: exponent = 0\.9 must be >= 1"),
        (lambda: PowerCost(-1.0), "PowerCost: exponent = -1"),
        (lambda: PowerCost(2.0, 0.0), r"PowerCost: scale = 0\.0 must be > 0"),
        (lambda: PowerCost(np.nan), "PowerCost: exponent = nan must be finite"),
        (lambda: PowerCost("two"), "PowerCost: exponent = 'two' must be a real number"),
        (lambda: QuadraticCost(0.0, 1.0), r"QuadraticCost: slope = 0\.0 must be > 0"),
        (lambda: QuadraticCost(1.0, -0.1), r"QuadraticCost: curvature = -0\.1 must be >= 0"),
        (lambda: QuadraticCost(1.0, np.inf), "QuadraticCost: curvature = inf must be finite"),
    ],
)
def test_bad_parameters_are_named(make: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()  # type: ignore[operator]
