"""Accuracy functions: the paper's numbers, each method against its definition, programs, and bad input."""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import brentq

import mechopt as mo
from mechopt.formulations.functions import (
    AccuracyFunction,
    GeneralizationBound,
    PowerLawAccuracy,
    SqrtAccuracy,
    TabulatedAccuracy,
    UserAccuracy,
)
from mechopt.solvers.errors import InvalidInput, MechanismWarning, NotApplicable


def logistic_like(m: Any) -> Any:
    return 0.8 - 5 / (m + 2.0)


def logistic_slope(m: Any) -> Any:
    return 5 / (m + 2.0) ** 2


with warnings.catch_warnings():
    warnings.simplefilter("ignore", MechanismWarning)
    POWERS: list[AccuracyFunction] = [
        SqrtAccuracy(),
        SqrtAccuracy(max_accuracy=0.7, difficulty=0.01),
        SqrtAccuracy(max_accuracy=0.95, difficulty=5e4),
        PowerLawAccuracy(coefficient=2.0, exponent=0.31, threshold=0.1),
        PowerLawAccuracy(coefficient=0.4, exponent=0.83),
        PowerLawAccuracy(coefficient=30.0, exponent=1.0, threshold=0.5),
        PowerLawAccuracy(coefficient=30.0, exponent=1.7),
    ]
EVALUATED: list[AccuracyFunction] = [
    GeneralizationBound(0.95, 1.0),
    GeneralizationBound(1.0, 1e-6),
    GeneralizationBound(0.6, 1000.0),
    UserAccuracy(logistic_like, logistic_slope, max_accuracy=0.8, bracket=(0.1, 1e6)),
]
TABLES = [
    TabulatedAccuracy([100, 200, 400, 1000], [0.4, 0.6, 0.8, 0.9]),  # a line from the origin
    TabulatedAccuracy([100, 200, 400], [0.1, 0.5, 0.8]),  # the first segment, continued to 75
    TabulatedAccuracy([0, 10, 20, 40, 80], [0.0, 0.0, 0.3, 0.4, 0.4]),  # nothing at first; flat at last
    TabulatedAccuracy([50], [0.7]),
]
CURVED = POWERS + EVALUATED
ALL = CURVED + TABLES


def name(f: object) -> str:
    return repr(f) if len(repr(f)) < 70 else type(f).__name__


@pytest.fixture(params=ALL, ids=name)
def accuracy(request: pytest.FixtureRequest) -> AccuracyFunction:
    return request.param


@pytest.fixture(params=CURVED, ids=name)
def curved(request: pytest.FixtureRequest) -> AccuracyFunction:
    return request.param


def amounts(f: AccuracyFunction, n: int = 400) -> np.ndarray:
    """Viable amounts of data, from the least to far beyond where f bends."""
    return np.geomspace(max(f.min_viable_data, 1e-2 * f.viability_data), 1e5 * f.viability_data, n)


# ------------------------------------------------------------------------------------ the paper's numbers


@pytest.mark.parametrize(
    ("difficulty", "viability_cost", "contributions"),
    [
        (1, "2.12202e-03", ["125201", "26298.9", "5506.93", "1148.39"]),
        (10, "5.69749e-04", ["201869", "41625.4", "8514.86", "1721.41"]),
        (100, "9.23084e-05", ["368662", "74522.2", "14815.4", "0"]),
        (1000, "1.11433e-05", ["709799", "140083", "26721.7", "0"]),
    ],
)
def test_figure_2(difficulty: float, viability_cost: str, contributions: list[str]) -> None:
    f = GeneralizationBound(0.95, difficulty)
    assert f"{f.viability_cost:.5e}" == viability_cost
    costs = np.array([1e-7, 1e-6, 1e-5, 1e-4])
    alone = np.where(costs < f.viability_cost, f.inverse_derivative(costs), 0.0)
    assert [f"{m:.6g}" for m in alone] == contributions


def test_example_2_4() -> None:
    a, k = 0.9, 7.0
    f = SqrtAccuracy(a, k)
    assert f.min_viable_data == pytest.approx(4 * k / a**2, rel=1e-14)
    assert f.viability_cost == pytest.approx(a**3 / (27 * k), rel=1e-14)
    assert f.viability_data == pytest.approx(9 * k / a**2, rel=1e-14)
    assert float(f.inverse_derivative(f.viability_cost)) == pytest.approx(9 * k / a**2, rel=1e-13)
    assert float(f.derivative(f.min_viable_data)) == pytest.approx(a**3 / (8 * k), rel=1e-13)
    c = 1e-4
    m = float(f.inverse_derivative(c))
    assert m == pytest.approx(k ** (1 / 3) * c ** (-2 / 3), rel=1e-13)
    assert float(f(m)) - c * m == pytest.approx(a - 3 * (k * c) ** (1 / 3), rel=1e-13)


def test_example_2_2() -> None:
    beta, alpha, tau, c = 3.0, 0.37, 0.2, 1e-5
    f = PowerLawAccuracy(beta, alpha, tau)
    limit = 1 - tau
    assert f.max_accuracy == limit
    assert f.min_viable_data == pytest.approx((beta / limit) ** (1 / alpha), rel=1e-13)
    assert f.viability_cost == pytest.approx(
        (limit * alpha / (1 + alpha)) ** ((1 + alpha) / alpha) * (alpha * beta) ** (-1 / alpha), rel=1e-13
    )
    m = float(f.inverse_derivative(c))
    assert m == pytest.approx((alpha * beta / c) ** (1 / (1 + alpha)), rel=1e-13)
    assert float(f(m)) - c * m == pytest.approx(limit - c * m * (1 + 1 / alpha), rel=1e-12)


def test_square_root_is_a_power_law() -> None:
    root, power = SqrtAccuracy(0.8, 3.0), PowerLawAccuracy(2 * math.sqrt(3.0), 0.5, 0.2)
    m = np.geomspace(1, 1e6, 50)
    np.testing.assert_allclose(root(m), power(m), rtol=1e-15, atol=1e-15)
    np.testing.assert_allclose(root.inverse_derivative(1 / m), power.inverse_derivative(1 / m), rtol=1e-14)


def test_spurious_branch_of_the_bound_counts_for_nothing() -> None:
    """Erratum E7: the formula is .606 at m = k / e², seventy times below what the data really need."""
    k = 1000.0

    def formula(m: float) -> float:
        return 0.95 - (math.sqrt(2 * k * (2 + math.log(m / k))) + 4) / math.sqrt(m)

    edge = k / math.e**2 * (1 + 1e-12)
    assert formula(edge) == pytest.approx(0.606, abs=5e-4)
    f = GeneralizationBound(0.95, k)
    assert float(f(edge)) == 0
    assert f"{f.min_viable_data:.1f}" == "10484.1"
    assert f.min_viable_data == pytest.approx(brentq(formula, k, 1e6, xtol=1e-9), rel=1e-12)
    below = f.concave_part(np.array([0.0, 1.0, edge, 5000.0]))
    assert np.all(np.diff(below) > 0)
    assert below[-1] < 0
    # The formula is spurious exactly for k > 16 e² / a², 131 at a = .95: elsewhere it is negative there too.
    for difficulty, positive in [(130.0, False), (132.0, True)]:
        k = difficulty
        assert (formula(k / math.e**2 * (1 + 1e-13)) > 0) is positive


# ------------------------------------------------------------------------------------ definitions


def test_accuracy_is_zero_then_increasing_and_concave(accuracy: AccuracyFunction) -> None:
    low = accuracy.min_viable_data
    assert float(accuracy(0.0)) == 0
    assert np.all(accuracy(low * np.array([0.01, 0.5, 0.999])) == 0)
    assert float(accuracy(low)) == pytest.approx(0, abs=1e-14)
    m = np.linspace(low, low + 20 * accuracy.viability_data, 4001)
    value = accuracy(m)
    assert np.all(value[1:] > 0)
    assert np.all(np.diff(value) >= 0)
    assert np.all(np.diff(value, 2) <= 4e-16)
    assert np.all(value <= accuracy.max_accuracy)
    # Approached slowly: 1e-200 would not be enough for a logarithm.
    assert float(accuracy(1e280)) == pytest.approx(accuracy.max_accuracy, rel=1e-12)


def test_concave_part_is_concave_below_the_viable_amounts_too(accuracy: AccuracyFunction) -> None:
    m = np.linspace(0, 3 * accuracy.viability_data, 3001)[1:]
    value, slope = accuracy.concave_part(m), accuracy.concave_part_derivative(m)
    assert np.all(np.diff(slope) <= 0)
    # No point lies above the tangent of another; rounding is relative to the largest terms.
    tangents = value[::10, None] + slope[::10, None] * (m - m[::10, None])
    assert np.all(value - tangents <= 1e-14 * (1 + np.abs(value) + np.abs(tangents)))
    viable = m >= accuracy.min_viable_data
    assert np.all(value[~viable] < 0)
    np.testing.assert_array_equal(accuracy(m[viable]), np.maximum(value[viable], 0))


def test_derivatives_are_finite_differences(curved: AccuracyFunction) -> None:
    m = np.geomspace(1.01 * curved.min_viable_data, 100 * curved.viability_data, 60)
    h = 1e-5 * m
    difference = (curved.concave_part(m + h) - curved.concave_part(m - h)) / (2 * h)
    # Truncation is (h/m)² of b'; rounding is eps / h.
    np.testing.assert_allclose(curved.derivative(m), difference, rtol=1e-8, atol=4e-16 / h.min())
    np.testing.assert_allclose(curved.derivative(m), difference, rtol=1e-5)
    np.testing.assert_array_equal(curved.derivative(m), curved.concave_part_derivative(m))


def test_derivative_is_from_the_right_at_kinks_and_zero_below(accuracy: AccuracyFunction) -> None:
    low = accuracy.min_viable_data
    assert float(accuracy.derivative(low)) == float(accuracy.concave_part_derivative(low)) > 0
    if low > 0:
        assert accuracy.derivative([0.0, 0.5 * low, np.nextafter(low, 0)]).tolist() == [0.0, 0.0, 0.0]
    if isinstance(accuracy, TabulatedAccuracy):
        kinks = np.array([m for m in accuracy.sizes if m >= low])
        h = 1e-6
        right = (accuracy.concave_part(kinks + h) - accuracy.concave_part(kinks)) / h
        np.testing.assert_allclose(accuracy.derivative(kinks), right, atol=1e-9)


def test_inverse_derivative_undoes_the_derivative(curved: AccuracyFunction) -> None:
    m = amounts(curved)[1:]
    np.testing.assert_allclose(curved.inverse_derivative(curved.derivative(m)), m, rtol=1e-12)
    slopes = curved.derivative(m)
    np.testing.assert_allclose(curved.derivative(curved.inverse_derivative(slopes)), slopes, rtol=1e-12)


def test_inverse_derivative_is_the_best_amount(accuracy: AccuracyFunction) -> None:
    low = accuracy.min_viable_data
    grid = np.union1d(amounts(accuracy, 20_001), np.linspace(low, 4 * accuracy.viability_data, 4001))
    grid = grid[grid >= low]
    for share in [3e-4, 0.01, 0.2, 0.8, 1.0, 1.3, 50.0]:
        cost = share * accuracy.viability_cost
        best = float(accuracy.inverse_derivative(cost))
        assert best >= low
        net = accuracy.concave_part(grid) - cost * grid
        assert float(accuracy.concave_part(best)) - cost * best >= net.max() - 1e-13
    steep = 2 * float(accuracy.derivative(low))
    assert float(accuracy.inverse_derivative(steep)) == low


def test_free_data_are_wanted_without_end_unless_accuracy_stops_growing(accuracy: AccuracyFunction) -> None:
    at_zero, paid_for = accuracy.inverse_derivative([0.0, -1.0])
    assert paid_for == np.inf
    if isinstance(accuracy, TabulatedAccuracy):
        top = accuracy.accuracies.index(accuracy.max_accuracy)
        assert at_zero == accuracy.sizes[top]
    else:
        assert at_zero == np.inf


def test_viability_cost_is_the_best_accuracy_per_point(accuracy: AccuracyFunction) -> None:
    grid = np.append(amounts(accuracy, 200_001), getattr(accuracy, "sizes", ()))
    grid = grid[grid > 0]
    # The top is flat, except at the points of a table, which are in the grid.
    assert accuracy.viability_cost == pytest.approx(np.max(accuracy(grid) / grid), rel=1e-8)
    assert accuracy.viability_cost >= np.max(accuracy(grid) / grid) * (1 - 1e-15)
    m = accuracy.viability_data
    assert float(accuracy(m)) / m == pytest.approx(accuracy.viability_cost, rel=1e-14)
    # At that cost an agent alone is indifferent, and just below it gains.
    for cost, sign in [(1.001, -1), (0.999, 1)]:
        price = cost * accuracy.viability_cost
        best = float(accuracy.inverse_derivative(price))
        assert sign * (float(accuracy.concave_part(best)) - price * best) >= (0 if best == 0 else 1e-5)


# ------------------------------------------------------------------------------------ shapes and extremes


def test_shapes(accuracy: AccuracyFunction) -> None:
    m = accuracy.viability_data
    for method in (
        accuracy,
        accuracy.derivative,
        accuracy.concave_part,
        accuracy.concave_part_derivative,
        accuracy.inverse_derivative,
    ):
        assert np.shape(method(m)) == np.shape(method(np.array(m))) == ()
        assert np.shape(method([])) == (0,)
        block = np.array([[m, 2 * m, 3 * m], [0.5 * m, m, 9 * m]])
        kept = block.copy()
        result = method(block)
        assert result.shape == (2, 3)
        np.testing.assert_array_equal(block, kept)
        one_by_one = [[float(method(x)) for x in row] for row in block.tolist()]
        np.testing.assert_allclose(result, one_by_one, rtol=1e-14)


def test_nothing_is_ever_nan(accuracy: AccuracyFunction) -> None:
    m = np.array([-1e9, -1.0, 0.0, 5e-324, 1e-300, 1.0, 1e150, 1e300, 1e308, np.inf])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in (accuracy, accuracy.derivative):
            value = method(m)
            assert np.all(np.isfinite(value))
            assert np.all(value >= 0)
            assert value[0] == value[1] == 0 or method == accuracy.derivative
        for method in (accuracy.concave_part, accuracy.concave_part_derivative):
            assert not np.any(np.isnan(method(m)))
        slopes = np.array([-np.inf, -1.0, 0.0, 5e-324, 1e-300, 1.0, 1e300, np.inf])
        assert not np.any(np.isnan(accuracy.inverse_derivative(slopes)))
        assert np.all(accuracy.inverse_derivative(slopes[1:]) <= accuracy.inverse_derivative(slopes[:-1]))


def test_records_are_values() -> None:
    for f in [*POWERS[:4], *EVALUATED, *TABLES]:
        f.viability_cost  # noqa: B018  # whatever it caches must not get into the comparison
        again = pickle.loads(pickle.dumps(f))
        assert again == f
        assert hash(again) == hash(f)
        with pytest.raises(AttributeError):
            f.max_accuracy = 0.5  # type: ignore[misc]


# ------------------------------------------------------------------------------------ programs


@pytest.mark.parametrize("f", POWERS + TABLES, ids=name)
def test_expression_is_the_concave_part(f: AccuracyFunction) -> None:
    for size in (1.0, 1e-6, 1e6):
        m = cp.Variable((2, 3))
        expression = f.expression(m * size)
        assert expression.shape == (2, 3)
        assert expression.is_concave()
        assert expression.is_dcp()
        at = f.viability_data * np.array([[0.3, 1.0, 2.0], [7.0, 100.0, 1e5]])
        m.value = at / size
        np.testing.assert_allclose(expression.value, f.concave_part(at), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("f", ALL, ids=name)
@pytest.mark.parametrize("share", [0.9, 1e-4], ids=["barely viable", "cheap"])
def test_an_agent_alone_by_program(f: AccuracyFunction, share: float) -> None:
    """Max b(m) - c m by a solver, against the inverse derivative: the objective is flat at its top."""
    cost = share * f.viability_cost
    best = float(f.inverse_derivative(cost))
    program = mo.Program("one agent alone")
    m = program.variable("data", nonneg=True, scale=best)
    program.maximize(f.declare(program, "accuracy", m) - cost * m)
    assert ("accuracy_hypograph" in program.families) is not f.has_expression
    solution = program.solve("clarabel" if f.has_expression else "outer")
    assert solution.objective == pytest.approx(float(f(best)) - cost * best, abs=1e-7)
    assert float(solution["data"]) == pytest.approx(best, rel=1e-2)


def test_a_declared_sum_of_evaluated_accuracies() -> None:
    f = GeneralizationBound(0.95, 10.0)
    costs = np.array([1e-6, 1e-5, 1e-4])
    program = mo.Program("three alone")
    m = program.variable("data", 3, nonneg=True, scale=1e4)
    program.maximize(cp.sum(f.declare(program, "accuracy", m)) - costs @ m)
    solution = program.solve()
    best = f.inverse_derivative(costs)
    assert solution.objective == pytest.approx(float(np.sum(f(best) - costs * best)), abs=1e-7)


@pytest.mark.parametrize("f", [EVALUATED[0], EVALUATED[-1]], ids=name)
def test_what_has_no_expression_says_so(f: AccuracyFunction) -> None:
    assert not f.has_expression
    with pytest.raises(NotApplicable, match=r"`declare`.*ORACLE"):
        f.expression(cp.Variable())


# ------------------------------------------------------------------------------------ user functions, tables


@pytest.mark.parametrize("k", [0.5, 10.0, 1000.0])
def test_a_user_function_is_solved_as_the_closed_form_is(k: float) -> None:
    """Eq. (2) written by a user, its spurious branch included, and eq. (3): root finding against formulas."""

    def bound(m: Any) -> Any:
        return 0.95 - (np.sqrt(2 * k * (2 + np.log(m / k))) + 4) / np.sqrt(m)

    def slope(m: Any) -> Any:
        log = 2 + np.log(m / k)
        return (np.sqrt(k / 2) * (log - 1) / np.sqrt(log) + 2) * m**-1.5

    ours = [GeneralizationBound(0.95, k), SqrtAccuracy(0.8, k)]
    users = [
        UserAccuracy(bound, slope, 0.95, bracket=(k / 7, 1e9)),
        UserAccuracy(lambda m: 0.8 - 2 * np.sqrt(k / m), lambda m: math.sqrt(k) * m**-1.5, 0.8, (1e-3, 1e7)),
    ]
    for f, user in zip(ours, users, strict=True):
        assert user.min_viable_data == pytest.approx(f.min_viable_data, rel=1e-13)
        assert user.viability_cost == pytest.approx(f.viability_cost, rel=1e-13)
        assert user.viability_data == pytest.approx(f.viability_data, rel=1e-12)
        # Far beyond the bracket, too.
        slopes = f.viability_cost * np.geomspace(1e-14, 3, 300)
        np.testing.assert_allclose(user.inverse_derivative(slopes), f.inverse_derivative(slopes), rtol=1e-13)


def test_a_user_function_may_stop_growing_and_have_kinks() -> None:
    f = UserAccuracy(
        lambda m: np.minimum(0.02 * (m - 5), np.minimum(0.3 + 0.001 * m, 0.5)),
        lambda m: np.where(m < 400 / 19, 0.02, np.where(m < 200, 0.001, 0.0)),
        max_accuracy=0.5,
        bracket=(1.0, 1e4),
    )
    assert f.min_viable_data == pytest.approx(5)
    np.testing.assert_allclose(f.inverse_derivative([0.01, 0.0005, 1e-9]), [400 / 19, 200, 200], rtol=1e-12)
    assert f.viability_cost == pytest.approx(0.02 * (400 / 19 - 5) / (400 / 19))


def test_table_between_below_and_beyond_its_points() -> None:
    origin, segment, late, single = TABLES
    assert origin.min_viable_data == 0
    assert origin([50.0, 150.0, 1e9]).tolist() == pytest.approx([0.2, 0.5, 0.9])
    assert segment.min_viable_data == pytest.approx(75)
    assert segment([75.0, 87.5, 50.0]).tolist() == pytest.approx([0.0, 0.05, 0.0])
    assert float(segment.concave_part(50.0)) == pytest.approx(-0.1)
    assert late.min_viable_data == 10
    assert late.inverse_derivative([0.1, 0.01, 0.001, 0.0]).tolist() == [10.0, 20.0, 40.0, 40.0]
    assert single([0.0, 25.0, 60.0]).tolist() == pytest.approx([0.0, 0.35, 0.7])
    assert (single.viability_cost, single.viability_data) == (pytest.approx(0.014), 50.0)


def test_ties_in_a_table_go_to_the_least_amount() -> None:
    f = TABLES[0]
    slopes = f.derivative(np.array([0.0, 100.0, 200.0]))
    assert f.inverse_derivative(slopes).tolist() == [0.0, 100.0, 200.0]


def test_points_on_a_straight_line_are_concave() -> None:
    sizes = 7.0 + 0.1 * np.arange(200)
    f = TabulatedAccuracy(sizes, 0.031 * (sizes - 6.3))
    assert f.min_viable_data == pytest.approx(6.3)
    assert np.all(np.diff(f.derivative(np.linspace(6.31, 40, 999))) <= 0)


def test_hull_is_the_least_concave_table_above_the_points() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        sizes = np.cumsum(rng.uniform(1, 50, 12)) + 40
        scores = np.clip(0.9 - 3 / np.sqrt(sizes) + rng.normal(0, 0.05, 12), 0.01, 1)
        hull = TabulatedAccuracy.concave_hull(sizes, scores)
        value = hull.concave_part(sizes)
        assert np.all(value >= scores - 1e-12)
        # Least: at each size, some pair of points (or the best one before it) reaches up to it.
        for size, height in zip(sizes, value, strict=True):
            before, after = sizes <= size, sizes >= size
            reached = scores[before].max()
            for x, y in zip(sizes[before], scores[before], strict=True):
                for u, v in zip(sizes[after], scores[after], strict=True):
                    if u > x:
                        reached = max(reached, y + (v - y) * (size - x) / (u - x))
            assert height == pytest.approx(reached, rel=1e-12)


def test_hull_of_a_concave_table_is_the_table() -> None:
    for f in TABLES:
        again = TabulatedAccuracy.concave_hull(f.sizes, f.accuracies)
        m = np.linspace(0, 2000, 401)
        np.testing.assert_allclose(again(m), f(m), rtol=1e-14, atol=1e-16)


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("kind", [SqrtAccuracy, GeneralizationBound])
@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"max_accuracy": 0.0}, "max_accuracy = 0.0 must be > 0"),
        ({"max_accuracy": 1.2}, r"max_accuracy = 1.2 must be in \(0, 1\]"),
        ({"max_accuracy": math.nan}, "max_accuracy = nan must be finite"),
        ({"difficulty": 0}, "difficulty = 0.0 must be > 0"),
        ({"difficulty": -3.0}, "difficulty = -3.0 must be > 0"),
        ({"difficulty": math.inf}, "difficulty = inf must be finite"),
        ({"difficulty": "hard"}, "difficulty = 'hard' must be a real number"),
        ({"max_accuracy": 1e-3, "difficulty": 1e300}, r"outside the range .* another unit"),
    ],
)
def test_bad_parameters(kind: Callable[..., Any], parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        kind(**parameters)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ((0.0, 0.5), "coefficient = 0.0 must be > 0"),
        ((1.0, 0.0), "exponent = 0.0 must be > 0"),
        ((1.0, -0.5), "exponent = -0.5 must be > 0"),
        ((1.0, 0.5, 1.0), "threshold = 1.0 .* leaves no value"),
        ((1.0, 0.5, -0.1), r"threshold = -0.1 must be at least 0"),
        ((3.0, 1e-4), r"accuracy is positive from m = inf"),
        ((0.1, 1e-4), r"accuracy is positive from m = 0"),
    ],
)
def test_bad_power_laws(parameters: tuple[float, ...], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        PowerLawAccuracy(*parameters)


@pytest.mark.parametrize("exponent", [1.0, 1.5])
def test_steep_power_laws_warn_and_work(exponent: float) -> None:
    with pytest.warns(MechanismWarning, match="outside"):
        f = PowerLawAccuracy(2.0, exponent)
    m = np.geomspace(2, 1e6, 40)
    np.testing.assert_allclose(f.inverse_derivative(f.derivative(m)), m, rtol=1e-12)


@pytest.mark.parametrize(
    ("sizes", "accuracies", "words"),
    [
        ([], [], "sizes is empty"),
        ([1, 2], [0.1], "accuracies has 1 entries and sizes 2"),
        ([-1, 2], [0.1, 0.2], r"sizes\[0\] = -1.0 must be >= 0"),
        ([2, 2], [0.1, 0.2], r"sizes\[1\] = 2.0 must be above sizes\[0\]"),
        ([1, math.nan], [0.1, 0.2], r"sizes\[1\] = nan must be finite"),
        ([1, 2], [0.1, 1.2], r"accuracies\[1\] = 1.2 must be in \[0, 1\]"),
        ([1, 2], [-0.1, 0.2], r"accuracies\[0\] = -0.1 must be in \[0, 1\]"),
        ([0, 2], [0.1, 0.2], r"accuracies\[0\] = 0.1 must be 0 at size 0; subtract"),
        ([1, 2], [0.0, 0.0], "not viable at any size"),
        ([10, 20, 30], [0.3, 0.5, 0.4], r"accuracies\[2\] = 0.4 at size 30 is below .*concave_hull"),
        ([10, 20, 30, 40], [0.3, 0.4, 0.45, 0.8], r"not concave at accuracies\[2\] = 0.45, size 30"),
        ([0, 10, 20, 30], [0, 0.1, 0.5, 0.6], r"not concave at accuracies\[1\] = 0.1, size 10"),
    ],
)
def test_bad_tables(sizes: list[float], accuracies: list[float], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        TabulatedAccuracy(sizes, accuracies)


@pytest.mark.parametrize(
    ("value", "slope", "options", "words"),
    [
        (3.0, logistic_slope, {}, "value must be callable, got 3.0"),
        (logistic_like, None, {}, "slope must be callable, got None"),
        (logistic_like, logistic_slope, {"max_accuracy": 1.5}, "max_accuracy = 1.5"),
        (logistic_like, logistic_slope, {"bracket": (1.0,)}, "must be two amounts"),
        (logistic_like, logistic_slope, {"bracket": (0.0, 1.0)}, "0 < bracket"),
        (logistic_like, logistic_slope, {"bracket": (9.0, 3.0)}, "0 < bracket"),
        (logistic_like, logistic_slope, {"bracket": (0.1, 3.0)}, "not viable at any data size there"),
        (logistic_like, logistic_slope, {"bracket": (50.0, 1e4)}, r"value\(50\) = .* already positive"),
        (lambda m: np.sqrt(m - 5.0) - 3, lambda m: 1 / np.sqrt(m), {}, r"value\(1\) is NaN"),
        (lambda m: 0.5 - np.log(m / 50) ** 2, lambda m: m * 0 + 1, {}, "must not fall with more data"),
        (logistic_like, lambda m: -logistic_slope(m), {}, r"slope\(4.25\) = .* must not be negative"),
        (logistic_like, lambda m: 1e-4 * m, {}, r"slope\(.* must not rise with m"),
        (lambda m: 0.9 * m / (m + 300) - 0.1 + 1e-5 * np.clip(m - 100, 0, 100) ** 2,
         lambda m: 270 / (m + 300) ** 2 + 2e-5 * np.clip(m - 100, 0, 100), {"bracket": (1.0, 190.0)},
         r"slope\(1\d\d.* must not rise with m"),
        (logistic_like, lambda m: 1.3 * logistic_slope(m), {}, "is not the slope of value"),
        (logistic_like, logistic_slope, {"max_accuracy": 0.7}, r"value\(.* is above max_accuracy = 0.7"),
        (lambda m: 0.5, logistic_slope, {}, r"value returned shape \(\) for amounts of shape \(600,\)"),
        (logistic_like, lambda m: np.full_like(m, np.inf), {}, "must be finite"),
        (lambda m: np.where(m > 10, 0.5, -0.5), lambda m: 0.0 * m, {}, "= 0 at the root of b"),
    ],
)  # fmt: skip
def test_bad_user_functions(value: Any, slope: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        UserAccuracy(value, slope, **{"max_accuracy": 0.8, "bracket": (1.0, 1e6), **options})
