"""Shadow prices are derivatives: every way to write a constraint, against finite differences, on every
backend."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt.solvers import all_backends
from tests.solvers.tolerances import accuracy

STEP = 1e-2

Write = Callable[[cp.Expression, cp.Expression, Any], Any]
"""A constraint on (row, y) with ``e`` added to its right-hand side; y is a variable that equals 4."""

UPPER: dict[str, Write] = {
    "row <= c": lambda row, y, e: row <= 4 + e,
    "c >= row": lambda row, y, e: 4 + e >= row,
    "row - c <= 0": lambda row, y, e: row - 4 <= e,
    "0 >= row - c": lambda row, y, e: e >= row - 4,
    "c - row >= 0": lambda row, y, e: 4 - row >= e,
    "0 <= c - row": lambda row, y, e: e <= 4 - row,
    "NonPos": lambda row, y, e: cp.constraints.NonPos(row - 4 - e),
    "NonNeg": lambda row, y, e: cp.constraints.NonNeg(4 - row - e),
    "row <= y": lambda row, y, e: row <= y + e,
    "y >= row": lambda row, y, e: y + e >= row,
    "row - y <= 0": lambda row, y, e: row - y <= e,
    "1e3 row <= 1e3 c": lambda row, y, e: 1e3 * row <= 4e3 + e,
}
LOWER: dict[str, Write] = {
    "row >= c": lambda row, y, e: row >= 4 + e,
    "c <= row": lambda row, y, e: 4 + e <= row,
    "row - c >= 0": lambda row, y, e: row - 4 >= e,
    "c - row <= 0": lambda row, y, e: 4 - row <= e,
    "NonNeg": lambda row, y, e: cp.constraints.NonNeg(row - 4 - e),
    "NonPos": lambda row, y, e: cp.constraints.NonPos(4 - row - e),
    "row >= y": lambda row, y, e: row + e >= y,
    "y <= row": lambda row, y, e: y <= row + e,
}
EQUAL: dict[str, Write] = {
    "row == c": lambda row, y, e: row == 4 + e,
    "c == row": lambda row, y, e: 4 + e == row,
    "row - c == 0": lambda row, y, e: row - 4 == e,
    "c - row == 0": lambda row, y, e: 4 - row == e,
    "Zero": lambda row, y, e: cp.constraints.Zero(row - 4 - e),
    "row == y": lambda row, y, e: row == y + e,
    "y == row": lambda row, y, e: y == row + e,
}

# A constraint has a price only where the objective pushes against it.
WRITINGS = (
    [("upper", form, sense, sign) for form in UPPER for sense, sign in (("maximize", 1), ("minimize", -1))]
    + [("lower", form, sense, sign) for form in LOWER for sense, sign in (("minimize", 1), ("maximize", -1))]
    + [("equal", form, sense, s) for form in EQUAL for sense in ("maximize", "minimize") for s in (1, -1)]
)
FORMS = {"upper": UPPER, "lower": LOWER, "equal": EQUAL}

PRICING = [b.name for b in all_backends() if b.duals and b.available() is None]

pytestmark = pytest.mark.filterwarnings("ignore:\\s*Explicitly invoking")


def capable(build: Callable[[], mo.Program]) -> list[str]:
    """Backends with prices that can be used here and take the program."""
    program = build()
    return [b.name for b in all_backends() if b.name in PRICING and not b.lacks(program)]


def written(
    kind: str, form: str, sense: str, sign: int, shift: float = 0.0, scaled: bool = False
) -> mo.Program:
    """A row x0 + 2 x1 around 4 within a box, and an objective that pushes it up or down."""
    program = mo.Program(f"{sense} {sign:+d} {form}", objective_scale=10.0 if scaled else 1.0)
    x = program.variable("x", 2, bounds=[0, 10], scale=[5.0, 2.0] if scaled else 1.0)
    y = program.variable("y", scale=4.0 if scaled else 1.0)
    getattr(program, sense)(sign * (3 * x[0] + 5 * x[1]))
    program.add("fixed", y == 4)
    return program.add("row", FORMS[kind][form](x[0] + 2 * x[1], y, shift))


@cache
def slope(kind: str, form: str, sense: str, sign: int) -> float:
    """Central difference; the value is piecewise linear, so it is exact between the kinks."""
    up, down = (written(kind, form, sense, sign, e).solve("highs").objective for e in (STEP, -STEP))
    return (up - down) / (2 * STEP)


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("writing", WRITINGS, ids=lambda w: f"{w[2]}{w[3]:+d} {w[1]}")
def test_every_backend_prices_every_way_to_write_a_row(writing: tuple, scaled: bool) -> None:
    expected = slope(*writing)
    assert abs(expected) > 1e-6, "the constraint does not bind: the test would see nothing"
    for name in capable(lambda: written(*writing)):
        solution = written(*writing, scaled=scaled).solve(name)
        price = float(solution.dual("row"))
        assert price == pytest.approx(expected, abs=3 * accuracy(name).price), name


def vector(shift: Any = 0.0, sense: str = "maximize") -> mo.Program:
    sign = 1 if sense == "maximize" else -1
    program = mo.Program("vector", objective_scale=7.0)
    x = program.variable("x", 3, scale=[1.0, 5.0, 2.0], bounds=[-50, 50])
    getattr(program, sense)(sign * (1.5 * x[0] + 2 * x[1] - x[2]))
    program.add("caps", x[:2] <= np.array([3.0, 5.0]) + shift)
    return program.add("floor", x[2] >= x[0] - 1)


def test_vector_constraints_are_priced_entry_by_entry() -> None:
    """x0 is worth 1 - 1 = 0 beyond its cost at the floor, so lower that cost: prices (0, 2) and the
    floor's 1."""
    for sense, sign in (("maximize", 1.0), ("minimize", -1.0)):
        slopes = []
        for entry in range(2):
            e = np.zeros(2)
            e[entry] = STEP
            up, down = vector(e, sense).solve("highs").objective, vector(-e, sense).solve("highs").objective
            slopes.append((up - down) / (2 * STEP))
        np.testing.assert_allclose(slopes, [0.5 * sign, 2.0 * sign], atol=1e-9)
        for name in capable(vector):
            solution = vector(sense=sense).solve(name)
            assert solution.dual("caps").shape == (2,)
            np.testing.assert_allclose(solution.dual("caps"), slopes, atol=3e-3, err_msg=name)
            # floor reads x0 - 1 <= x2: slack on its larger side lets x2 fall by one.
            assert float(solution.dual("floor")) == pytest.approx(sign, abs=3e-3), name


def matrix(shift: Any = 0.0) -> mo.Program:
    program = mo.Program("matrix")
    x = program.variable("x", (2, 3), bounds=[0, 20])
    program.maximize(cp.sum(cp.multiply(np.arange(1.0, 7.0).reshape(2, 3), x)))
    return program.add("caps", x <= np.full((2, 3), 5.0) + shift)


@pytest.mark.parametrize("name", capable(matrix))
def test_a_matrix_of_prices_is_not_transposed(name: str) -> None:
    """Each entry has its own weight, which is its price; rows and columns must not be swapped."""
    prices = matrix().solve(name).dual("caps")
    np.testing.assert_allclose(prices, np.arange(1.0, 7.0).reshape(2, 3), atol=5e-3)


def eigenvalue(shift: Any = 0.0, sense: str = "minimize") -> mo.Program:
    sign = 1 if sense == "minimize" else -1
    program = mo.Program("eigenvalue", objective_scale=3.0)
    t = program.variable("t", scale=4.0)
    getattr(program, sense)(sign * t)
    return program.add(
        "above", t * np.eye(2) - np.array([[3.0, 1.0], [1.0, 1.0]]) >> np.asarray(shift) * np.ones((2, 2))
    )


@pytest.mark.parametrize("sense", ["minimize", "maximize"])
@pytest.mark.parametrize("name", capable(eigenvalue))
def test_semidefinite_prices(name: str, sense: str) -> None:
    """Along symmetric directions S, <price, S> is the slope of the value."""
    price = eigenvalue(sense=sense).solve(name).dual("above")
    np.testing.assert_allclose(price, price.T, atol=1e-6)
    for direction in (np.diag([1.0, 0.0]), np.diag([0.0, 1.0]), np.array([[0.0, 1.0], [1.0, 0.0]])):
        up = eigenvalue(1e-3 * direction, sense).solve("clarabel").objective
        down = eigenvalue(-1e-3 * direction, sense).solve("clarabel").objective
        assert np.sum(price * direction) == pytest.approx((up - down) / 2e-3, abs=2e-3)


def parametric() -> tuple[mo.Program, cp.Parameter]:
    budget = cp.Parameter(nonneg=True, name="budget", value=12.0)
    program = mo.Program("parametric", objective_scale=10.0)
    x = program.variable("x", 2, nonneg=True, scale=5.0)
    program.maximize(10 * x[0] + 20 * x[1] - cp.sum_squares(x))
    return program.add("money", cp.sum(x) <= budget), budget


@pytest.mark.parametrize("name", capable(lambda: parametric()[0]))
def test_a_parameter_on_the_right_hand_side_is_a_constant(name: str) -> None:
    """max 10 x0 + 20 x1 - |x|²: (5, 10) unless the budget B is under 15; then the price is (30 - 2 B) / 2."""
    program, budget = parametric()
    for amount in (12.0, 9.0, 12.0):
        budget.value = amount
        solution = program.solve(name)
        assert float(solution.dual("money")) == pytest.approx(15 - amount, abs=2e-2), name
    budget.value = 16.0
    assert float(program.solve(name).dual("money")) == pytest.approx(0.0, abs=2e-2)


def test_a_family_of_several_constraints_has_one_price_each() -> None:
    program = mo.Program("two")
    x = program.variable("x", 2, nonneg=True)
    program.maximize(x[0] + 3 * x[1])
    program.add("caps", x[0] <= 1, x[1] <= 2)
    prices = program.solve("clarabel").dual("caps")
    assert isinstance(prices, tuple)
    np.testing.assert_allclose([float(price) for price in prices], [1.0, 3.0], atol=1e-6)


def test_prices_are_read_only_and_have_no_negative_zeros() -> None:
    program = mo.Program("slack")
    x = program.variable("x", nonneg=True)
    program.minimize(x)
    program.add("cap", x <= 5)
    price = program.solve("highs").dual("cap")
    assert not np.signbit(price)
    with pytest.raises(ValueError, match="read-only"):
        price[...] = 1.0
