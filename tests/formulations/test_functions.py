"""The concave vocabulary: each gain against the definitions of its own methods, and as a CVXPY expression."""

from __future__ import annotations

import itertools
import warnings

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.functions import (
    ConcaveFunction,
    LogGain,
    PiecewiseLinearGain,
    PowerGain,
    QuadraticGain,
    SaturatingGain,
)
from mechopt.solvers.errors import InvalidInput, MechanismWarning

CURVED = [
    LogGain(weight=3.0, scale=0.7),
    LogGain(weight=100.0, scale=20.0),
    PowerGain(weight=2.0, scale=1.3, exponent=0.3),
    PowerGain(weight=2.0, scale=0.2, exponent=0.5),
    SaturatingGain(weight=5.0, scale=0.4),
    QuadraticGain(slope=4.0, curvature=1.5, scale=0.6),
]
KINKED = [
    PiecewiseLinearGain(slopes=[3.0, 1.5, 0.4, 0.0], intercepts=[0.0, 2.0, 5.0, 7.0], scale=0.8),
    PiecewiseLinearGain(slopes=[2.0, 0.5], intercepts=[0.0, 1.0], scale=3.0),
    PiecewiseLinearGain(slopes=[2.0], intercepts=[0.0], scale=1.0),
]
GAINS = CURVED + KINKED


def name(gain: object) -> str:
    return repr(gain).replace("Gain", "").replace("weight=", "").replace("scale=", "")


@pytest.fixture(params=GAINS, ids=name)
def gain(request: pytest.FixtureRequest) -> ConcaveFunction:
    return request.param


@pytest.fixture(params=CURVED, ids=name)
def curved(request: pytest.FixtureRequest) -> ConcaveFunction:
    return request.param


@pytest.mark.parametrize(
    ("gain", "x", "value"),
    [
        (LogGain(3.0, 0.5), 2.0, 3 * np.log(2)),
        (PowerGain(3.0, 2.0, 0.25), 8.0, 6.0),
        (SaturatingGain(3.0, 0.5), 2.0, 3 * (1 - np.exp(-1))),
        (QuadraticGain(4.0, 2.0, 0.5), 2.0, 3.0),
        (QuadraticGain(4.0, 2.0, 0.5), 400.0, 4.0),
        (PiecewiseLinearGain([3.0, 1.0], [0.0, 4.0], 0.5), 2.0, 3.0),
        (PiecewiseLinearGain([3.0, 1.0], [0.0, 4.0], 0.5), 8.0, 8.0),
    ],
)
def test_values_by_hand(gain: ConcaveFunction, x: float, value: float) -> None:
    assert float(gain(x)) == pytest.approx(value, rel=1e-15)


def test_zero_data_is_worth_nothing_and_gain_is_increasing_and_concave(gain: ConcaveFunction) -> None:
    x = np.linspace(0, 8 * gain.natural_scale, 801)
    value = gain(x)
    assert value[0] == 0
    assert np.all(np.diff(value) >= 0)
    assert np.all(np.diff(value, 2) <= 1e-13 * value[-1])


def test_derivative_is_the_finite_difference(curved: ConcaveFunction) -> None:
    x = np.linspace(0.05, 6, 60) * curved.natural_scale
    h = 1e-5 * curved.natural_scale
    difference = (curved(x + h) - curved(x - h)) / (2 * h)
    np.testing.assert_allclose(
        curved.derivative(x), difference, rtol=1e-6, atol=1e-8 * curved.derivative(x[0])
    )


@pytest.mark.parametrize("kinked", KINKED, ids=name)
def test_derivative_at_and_between_kinks_is_the_slope_to_the_right(kinked: PiecewiseLinearGain) -> None:
    lines = list(zip(kinked.slopes, kinked.intercepts, strict=True))
    kinks = [(b - a) / (s - t) for (s, a), (t, b) in itertools.pairwise(lines)]
    edges = np.array([0.0, *kinks, (kinks or [0.0])[-1] + 1])
    between = (edges[:-1] + edges[1:]) / 2 / kinked.scale
    np.testing.assert_allclose(kinked.derivative(between), np.array(kinked.slopes) * kinked.scale, rtol=1e-15)
    after = np.nextafter(edges[:-1] / kinked.scale, np.inf)
    np.testing.assert_allclose(kinked.derivative(after * (1 + 1e-14)), kinked.derivative(between), rtol=1e-15)


def test_inverse_derivative_is_the_best_amount_on_a_dense_grid(gain: ConcaveFunction) -> None:
    grid = np.linspace(0, 60 * gain.natural_scale, 240_001)
    steepest = float(gain.derivative(1e-3 * gain.natural_scale))
    for slope in steepest * np.array([0.031, 0.11, 0.37, 0.61, 0.97, 1.7]):
        best = float(gain.inverse_derivative(slope))
        net = gain(grid) - slope * grid
        if best > grid[-1]:
            assert np.all(np.diff(net) > 0)
            continue
        assert float(gain(best)) - slope * best >= net.max() - 1e-13 * abs(net).max()
        at_grid = grid[np.argmax(net)]
        assert abs(best - at_grid) <= 3e-3 * gain.natural_scale


def test_inverse_derivative_undoes_the_derivative(curved: ConcaveFunction) -> None:
    x = np.linspace(0.01, 2.5, 50) * curved.natural_scale
    x = x[curved.derivative(x) > 0]  # beyond the top of a quadratic there is nothing to undo
    assert x.size > 15
    np.testing.assert_allclose(curved.inverse_derivative(curved.derivative(x)), x, rtol=1e-12)


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        (LogGain(3.0, 2.0), [0.0, 0.0, np.inf, np.inf]),
        (SaturatingGain(3.0, 2.0), [0.0, 0.0, np.inf, np.inf]),
        (QuadraticGain(3.0, 1.5, 2.0), [0.0, 0.0, 1.0, np.inf]),
        (PiecewiseLinearGain([3.0, 0.0], [0.0, 6.0], 2.0), [0.0, 0.0, 1.0, np.inf]),
        (PiecewiseLinearGain([3.0, 1.0], [0.0, 2.0], 2.0), [0.0, 0.0, np.inf, np.inf]),
    ],
    ids=name,
)
def test_inverse_derivative_at_its_limits(gain: ConcaveFunction, expected: list[float]) -> None:
    # Above f'(0); exactly f'(0) = 6; free data; data that pay.
    assert gain.inverse_derivative([7.0, 6.0, 0.0, -1.0]).tolist() == expected


def test_power_gain_never_excludes_and_is_unbounded_when_data_are_free() -> None:
    gain = PowerGain(2.0, 1.0, 0.5)
    assert np.isinf(gain.derivative(0.0))
    assert float(gain.inverse_derivative(1e6)) > 0
    assert gain.inverse_derivative([0.0, -1.0]).tolist() == [np.inf, np.inf]


def test_ties_of_a_piecewise_gain_go_to_the_smallest_amount() -> None:
    gain = PiecewiseLinearGain([4.0, 2.0, 1.0], [0.0, 4.0, 7.0], scale=1.0)
    assert gain.inverse_derivative([4.0, 3.0, 2.0, 1.5, 1.0]).tolist() == [0.0, 2.0, 2.0, 3.0, 3.0]


def test_a_line_that_is_never_lowest_changes_nothing() -> None:
    plain = PiecewiseLinearGain([4.0, 1.0], [0.0, 3.0], scale=2.0)
    padded = PiecewiseLinearGain([5.0, 4.0, 2.0, 1.0], [0.0, 0.0, 9.0, 3.0], scale=2.0)
    x = np.linspace(0, 5, 101)
    np.testing.assert_array_equal(plain(x), padded(x))
    np.testing.assert_array_equal(plain.derivative(x), padded.derivative(x))
    np.testing.assert_array_equal(plain.inverse_derivative(x), padded.inverse_derivative(x))


def test_shapes_follow_the_argument(gain: ConcaveFunction) -> None:
    for shape in [(), (1,), (3,), (2, 3), (0,)]:
        x = np.full(shape, 0.5 * gain.natural_scale)
        assert np.shape(gain(x)) == shape
        assert np.shape(gain.derivative(x)) == shape
        assert np.shape(gain.inverse_derivative(x)) == shape
    assert float(gain(1)) == float(gain(1.0))


def test_arguments_are_not_changed(gain: ConcaveFunction) -> None:
    x = np.array([0.0, 0.3, 5.0])
    for method in (gain, gain.derivative, gain.inverse_derivative):
        with np.errstate(divide="ignore"):
            method(x)
        assert x.tolist() == [0.0, 0.3, 5.0]


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_expression_is_concave_and_has_the_value_of_the_function(
    gain: ConcaveFunction, shape: tuple[int, ...]
) -> None:
    x = cp.Variable(shape, nonneg=True)
    expression = gain.expression(x)
    assert expression.shape == shape
    assert expression.is_dcp()
    assert expression.is_concave()
    for seed in range(3):
        x.value = np.random.default_rng(seed).uniform(0, 6, shape) * gain.natural_scale
        np.testing.assert_allclose(expression.value, gain(x.value), rtol=1e-12)


@pytest.mark.parametrize("gain", CURVED + KINKED[:2], ids=name)  # the linear gain has no finite optimum
def test_expression_gives_the_program_whose_optimum_is_the_inverse_derivative(gain: ConcaveFunction) -> None:
    slope = 0.37 * float(gain.derivative(0.05 * gain.natural_scale))
    best = float(gain.inverse_derivative(slope))
    z = cp.Variable(2, nonneg=True)
    x = gain.natural_scale * z
    problem = cp.Problem(cp.Maximize(cp.sum(gain.expression(x) - slope * x)))
    problem.solve(solver=cp.CLARABEL)
    assert problem.value == pytest.approx(2 * (float(gain(best)) - slope * best), rel=1e-6)


def cones(gain: ConcaveFunction) -> cp.Problem:
    x = cp.Variable(3, nonneg=True)
    return cp.Problem(cp.Maximize(cp.sum(gain.expression(x))), [cp.sum(x) <= 1])


@pytest.mark.parametrize(
    ("gain", "exponential", "second_order", "power"),
    [
        (LogGain(2.0, 3.0), 3, 0, 0),
        (SaturatingGain(2.0, 3.0), 3, 0, 0),
        (PowerGain(2.0, 3.0, 0.5), 0, 3, 0),
        (PowerGain(2.0, 3.0, 0.3), 0, 0, 3),
        (PowerGain(2.0, 3.0, 0.123456789), 0, 0, 3),
    ],
    ids=name,
)
def test_cone_program_class(gain: ConcaveFunction, exponential: int, second_order: int, power: int) -> None:
    with warnings.catch_warnings():
        # CVXPY warns where it approximates a power; ours is exact.
        warnings.simplefilter("error")
        dims = cones(gain).get_problem_data(cp.CLARABEL)[0]["dims"]
    assert (dims.exp, len(dims.soc), len(dims.p3d)) == (exponential, second_order, power)


def test_quadratic_gain_is_a_quadratic_program() -> None:
    problem = cones(QuadraticGain(2.0, 1.0, 3.0))
    assert problem.is_qp()
    assert not problem.is_lp()


@pytest.mark.parametrize("kinked", KINKED, ids=name)
def test_piecewise_gain_is_a_linear_program(kinked: ConcaveFunction) -> None:
    assert cones(kinked).is_lp()


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        (LogGain, {"weight": -1.0, "scale": 1.0}, ["LogGain", "weight", "-1.0", "> 0"]),
        (LogGain, {"weight": 1.0, "scale": 0.0}, ["scale", "0.0", "> 0"]),
        (LogGain, {"weight": float("nan"), "scale": 1.0}, ["weight", "nan", "finite"]),
        (LogGain, {"weight": "much", "scale": 1.0}, ["weight", "much", "real number"]),
        (SaturatingGain, {"weight": 1.0, "scale": float("inf")}, ["scale", "inf", "finite"]),
        (PowerGain, {"weight": 1.0, "scale": 1.0, "exponent": 1.0}, ["exponent", "1.0", "between 0 and 1"]),
        (PowerGain, {"weight": 1.0, "scale": 1.0, "exponent": 0.0}, ["exponent", "0.0", "> 0"]),
        (QuadraticGain, {"slope": 1.0, "curvature": 0.0, "scale": 1.0}, ["curvature", "0.0"]),
        (QuadraticGain, {"slope": None, "curvature": 1.0, "scale": 1.0}, ["slope", "None"]),
        (PiecewiseLinearGain, {"slopes": [], "intercepts": [], "scale": 1.0}, ["slopes", "empty"]),
        (
            PiecewiseLinearGain,
            {"slopes": [2.0, 2.0], "intercepts": [0.0, 1.0], "scale": 1.0},
            ["slopes[1] = 2.0", "below slopes[0] = 2.0"],
        ),
        (
            PiecewiseLinearGain,
            {"slopes": [2.0, -1.0], "intercepts": [0.0, 1.0], "scale": 1.0},
            ["slopes[1] = -1.0", ">= 0"],
        ),
        (
            PiecewiseLinearGain,
            {"slopes": [2.0, 1.0], "intercepts": [0.0], "scale": 1.0},
            ["intercepts", "1", "2"],
        ),
        (
            PiecewiseLinearGain,
            {"slopes": [2.0, 1.0], "intercepts": [0.0, float("inf")], "scale": 1.0},
            ["intercepts[1]", "inf"],
        ),
    ],
)
def test_bad_parameters_are_named(kind: type, arguments: dict[str, object], words: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        kind(**arguments)
    for word in words:
        assert word in str(caught.value)


def test_a_gain_that_does_not_start_at_zero_is_allowed_with_a_warning() -> None:
    with pytest.warns(MechanismWarning, match="value at 0"):
        gain = PiecewiseLinearGain([2.0, 1.0], [0.5, 1.0], scale=1.0)
    assert float(gain(0.0)) == 0.5


def test_gains_are_values_that_compare_and_hash() -> None:
    assert LogGain(100, 2) == LogGain(100.0, 2.0)
    assert len({PiecewiseLinearGain(np.array([2.0, 1.0]), [0, 1], 1.0), KINKED[0], KINKED[0]}) == 2
    with pytest.raises(AttributeError):
        KINKED[0].scale = 3.0  # type: ignore[misc]


@pytest.mark.parametrize("backend", ["clarabel", "highspy", "outer"])
@pytest.mark.parametrize("money", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("data", [1e-9, 1.0, 1e9])
def test_units_of_money_and_data(backend: str, money: float, data: float) -> None:
    """Best amounts at a price, in any unit: what solvers see must be of order one."""
    shapes: list[ConcaveFunction] = [
        PiecewiseLinearGain([3 * money, money, 0.2 * money], [0, 2 * money, 4 * money], 1 / data),
        PiecewiseLinearGain([3 * money / data, money / data], [0, 2 * money], 1.0),
        QuadraticGain(4 * money / data, money / data**2, 1.0),
    ]
    if backend != "highspy":
        shapes += [
            LogGain(3 * money, 2 / data),
            PowerGain(3 * money, 1 / data, 0.3),
            SaturatingGain(3 * money, 0.5 / data),
        ]
    for gain in shapes:
        price = 0.7 * float(gain.derivative(1.5 * data))
        best = min(float(gain.inverse_derivative(price)), 8 * data)
        program = mo.Program("one buyer", objective_scale=float(gain(8 * data)))
        amount = program.variable("amount", nonneg=True, scale=data)
        worth = gain.in_units_of(8 * data).declare(program, "worth", amount)
        program.maximize(worth - price * amount).add("cap", amount <= 8 * data)
        solution = program.solve(backend)
        assert solution.objective == pytest.approx(float(gain(best)) - price * best, rel=1e-5), gain
        # Flat at the top: an amount is as good as the root of the objective's tolerance.
        assert float(solution["amount"]) == pytest.approx(best, rel=2e-2 if gain in shapes[2:] else 1e-5), (
            gain
        )
