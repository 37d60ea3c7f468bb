"""Gains that users bring: equal to the built-in ones from the same formulas, and checked when made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.functions import (
    AtomGain,
    ConcaveFunction,
    EvaluatedGain,
    LogGain,
    PiecewiseLinearGain,
    PowerGain,
    QuadraticGain,
    SaturatingGain,
)
from mechopt.formulations.functions.roots import break_even
from mechopt.formulations.screening.closed_form import closed_form
from mechopt.formulations.screening.exact import solve_exact
from mechopt.solvers.errors import InvalidInput, MechanismWarning, NotApplicable
from tests.oracles.screening import GAINS, pooled_reference, random_contract


def atom_of(gain: Any) -> AtomGain:
    """The same function as a user would write it in CVXPY."""
    if isinstance(gain, LogGain):
        return AtomGain(lambda x: gain.weight * cp.log1p(gain.scale * x), gain.natural_scale)
    if isinstance(gain, PowerGain):
        return AtomGain(
            lambda x: gain.weight * cp.power(gain.scale * x, gain.exponent, approx=False), gain.natural_scale
        )
    if isinstance(gain, SaturatingGain):
        return AtomGain(lambda x: gain.weight * (1 - cp.exp(-gain.scale * x)), gain.natural_scale)
    return AtomGain(gain.expression, gain.natural_scale)


def evaluated_of(gain: Any) -> EvaluatedGain:
    """The same function as a user would write it in NumPy."""
    if isinstance(gain, LogGain):
        w, a = gain.weight, gain.scale
        return EvaluatedGain(lambda x: w * np.log1p(a * x), lambda x: w * a / (1 + a * x), 1 / a)
    if isinstance(gain, PowerGain):
        w, a, t = gain.weight, gain.scale, gain.exponent
        return EvaluatedGain(lambda x: w * (a * x) ** t, lambda x: w * a * t * (a * x) ** (t - 1), 1 / a)
    if isinstance(gain, SaturatingGain):
        w, a = gain.weight, gain.scale
        return EvaluatedGain(lambda x: -w * np.expm1(-a * x), lambda x: w * a * np.exp(-a * x), 1 / a)
    return EvaluatedGain(gain, gain.derivative, gain.natural_scale)


REFERENCES = [
    LogGain(3.0, 0.7),
    LogGain(100.0, 20.0),
    PowerGain(2.0, 1.3, 0.3),
    PowerGain(2.0, 0.2, 0.5),
    SaturatingGain(5.0, 0.4),
    QuadraticGain(4.0, 1.5, 0.6),
    PiecewiseLinearGain([3.0, 1.5, 0.4, 0.0], [0.0, 2.0, 5.0, 7.0], 0.8),
]
MAKERS = [atom_of, evaluated_of]


@pytest.fixture(params=REFERENCES, ids=repr)
def reference(request: pytest.FixtureRequest) -> ConcaveFunction:
    return request.param


@pytest.fixture(params=MAKERS, ids=["atom", "evaluated"])
def make(request: pytest.FixtureRequest) -> Callable[[Any], ConcaveFunction]:
    return request.param


# ---------------------------------------------------------------- numbers


def test_value_and_derivative_equal_the_built_in_ones(reference: ConcaveFunction, make: Any) -> None:
    gain = make(reference)
    x = np.concatenate(([0.0], np.logspace(-4, 2, 40) * reference.natural_scale))
    # The quadratic and the exponential are differences of numbers of the size of f at its natural scale.
    size = float(reference(reference.natural_scale))
    np.testing.assert_allclose(gain(x), reference(x), rtol=1e-13, atol=1e-15 * size)
    slope = reference.derivative(x)
    # An exponential of -100 is known to 100 roundings.
    np.testing.assert_allclose(gain.derivative(x), slope, rtol=1e-12, atol=1e-14 * slope[1])
    assert np.isinf(gain.derivative(0.0)) == isinstance(reference, PowerGain)


def test_inverse_derivative_equals_the_built_in_one(reference: ConcaveFunction, make: Any) -> None:
    gain = make(reference)
    steepest = float(reference.derivative(1e-3 * reference.natural_scale))
    slope = steepest * np.concatenate((np.logspace(-8, 1, 60), [0.3, 0.61, 0.97]))
    amount = gain.inverse_derivative(slope)
    np.testing.assert_allclose(
        amount, reference.inverse_derivative(slope), rtol=1e-11, atol=1e-13 * reference.natural_scale
    )
    assert amount.min() >= 0


def test_inverse_derivative_at_its_limits(reference: ConcaveFunction, make: Any) -> None:
    gain = make(reference)
    limits = np.array([0.0, -1.0, 1e9])
    expected = reference.inverse_derivative(limits)
    np.testing.assert_allclose(gain.inverse_derivative(limits), expected, rtol=1e-12)
    start = reference.derivative(0.0)
    if np.isfinite(start):
        # Exactly at f'(0) CVXPY's gradient is a rounding off.
        np.testing.assert_array_equal(gain.inverse_derivative(np.array([1.0, 2.0]) * start * (1 + 1e-15)), 0)
    assert np.isnan(gain.inverse_derivative(np.nan))


def test_kinks_are_exact_and_ties_go_to_the_smallest_amount(make: Any) -> None:
    reference = PiecewiseLinearGain([4.0, 2.0, 1.0], [0.0, 4.0, 7.0], scale=1.0)
    gain = make(reference)
    assert gain.derivative([0.0, 1.0, 2.0, 2.5, 3.0, 9.0]).tolist() == [4.0, 4.0, 2.0, 2.0, 1.0, 1.0]
    amount = gain.inverse_derivative([4.0, 3.0, 2.0, 1.5, 1.0, 0.9])
    np.testing.assert_allclose(amount, [0.0, 2.0, 2.0, 3.0, 3.0, np.inf], rtol=1e-15)


def test_mixture_that_no_built_in_gain_has() -> None:
    gain = AtomGain(lambda x: 3 * cp.log1p(x) + 2 * cp.sqrt(x), natural_scale=1.0)
    x = np.logspace(-8, 8, 33)
    np.testing.assert_allclose(gain(x), 3 * np.log1p(x) + 2 * np.sqrt(x), rtol=1e-14)
    np.testing.assert_allclose(gain.derivative(x), 3 / (1 + x) + 1 / np.sqrt(x), rtol=1e-14)
    np.testing.assert_allclose(gain.inverse_derivative(gain.derivative(x)), x, rtol=1e-13)
    assert np.isinf(gain.derivative(0.0))


def test_slope_at_zero_that_cvxpy_cannot_evaluate_is_the_limit() -> None:
    # CVXPY has no gradient of a square root at 0, although the minimum does not use it there.
    capped = AtomGain(lambda x: cp.minimum(3 * x, cp.sqrt(x)))
    assert float(capped.derivative(0.0)) == pytest.approx(3.0, rel=1e-14)
    # A slope may grow without end, but slowly: here it is 2 at x = 1e-300.
    slow = AtomGain(lambda x: cp.power(x, 0.999, approx=False))
    assert np.isinf(slow.derivative(0.0))
    assert float(slow.derivative(1e-300)) == pytest.approx(0.999 * 1e-300**-0.001, rel=1e-12)
    undefined = EvaluatedGain(np.sqrt, lambda x: x / (2 * x * np.sqrt(x)))
    assert np.isinf(undefined.derivative(0.0))


def test_amounts_of_any_shape(make: Any) -> None:
    gain = make(LogGain(3.0, 0.7))
    for method in (gain, gain.derivative, gain.inverse_derivative):
        for shape in ((), (0,), (1,), (3,), (2, 3), (2, 1, 2)):
            argument = np.full(shape, 0.3)
            result = method(argument)
            assert np.shape(result) == shape
            if shape:
                result *= 2  # the caller's own array
            np.testing.assert_array_equal(argument, 0.3)
        assert np.shape(method([0.2, 0.3])) == (2,)
        assert float(method(0.3)) == float(method(np.array([0.3, 0.9]))[0])


def test_break_even_takes_what_each_item_needs() -> None:
    # a - x² = 2 b x: x = √(b² + a) - b.
    a, b = np.array([2.0, 3.0, 1e-12, 0.0]), np.array([0.5, 1e3, 4.0, 1.0])
    x = break_even(lambda x, a, b: a - x**2, lambda x, a, b: 2 * b * x, 1.0, a, b)
    np.testing.assert_allclose(x, a / (np.sqrt(b**2 + a) + b), rtol=1e-14)
    with pytest.raises(InvalidInput, match=r"at x = 1 the marginal benefit is nan"):
        break_even(lambda x, a: np.where(x > 0, np.nan, a), lambda x, a: 0 * x + 1, 1.0, np.array([2.0]))


# ---------------------------------------------------------------- in the exact algorithm


@pytest.mark.parametrize("kind", GAINS)
def test_exact_menus_equal_those_of_the_built_in_gain(kind: str, make: Any) -> None:
    rng = np.random.default_rng(sum(map(ord, kind)))
    drawn = (random_contract(rng, kind, 4) for _ in range(60))
    ironed = [contract for contract in drawn if len(solve_exact(**contract).pools)]
    number = 8 if make is evaluated_of else 2
    if kind == "piecewise" and make is atom_of:
        # CVXPY's gradients of many lines are slow, and kinks take many of them: three types and lines.
        gain = PiecewiseLinearGain([6.0, 1.2, 0.5], [0.0, 4.8, 6.2], 1.0)
        ironed = [
            {"types": np.array([1.0, 1.8, 1.9]), "probs": np.full(3, 1 / 3), "gain": gain, "unit_cost": 1.0}
        ]
        number = 1
    assert len(ironed) >= number
    for contract in ironed[:number]:
        mine = contract | {"gain": make(contract["gain"])}
        expected, menu = solve_exact(**contract), solve_exact(**mine)
        # Below its natural scale f is nearly linear, and an amount is known to the rounding of its slope.
        atol = 1e-11 * max(float(expected.quantity.max()), contract["gain"].natural_scale)
        np.testing.assert_allclose(menu.quantity, expected.quantity, rtol=1e-10, atol=atol)
        np.testing.assert_allclose(
            menu.payment, expected.payment, rtol=1e-10, atol=contract["unit_cost"] * atol
        )
        assert menu.objective == pytest.approx(expected.objective, rel=1e-10)
        form, mine_form = closed_form(**contract), closed_form(**mine)
        np.testing.assert_allclose(
            mine_form.quantity, form.quantity, rtol=1e-10, atol=atol / contract["types"][0]
        )
        assert mine_form.valid == form.valid


def test_mixture_equals_the_min_max_formula() -> None:
    gain = EvaluatedGain(
        lambda x: 3 * np.log1p(x) + 2 * np.sqrt(x), lambda x: 3 / (1 + x) + 1 / np.sqrt(x), natural_scale=1.0
    )
    atom = AtomGain(lambda x: 3 * cp.log1p(x) + 2 * cp.sqrt(x), natural_scale=1.0)
    rng = np.random.default_rng(12)
    pooled = 0
    for i in range(12):
        contract = random_contract(rng, "log", 6) | {"gain": gain}
        menu = solve_exact(**contract)
        quantity, value = pooled_reference(**contract)
        np.testing.assert_allclose(menu.quantity, quantity, rtol=1e-11)
        assert menu.objective == pytest.approx(value, rel=1e-11)
        pooled += len(menu.pools)
        if i < 4:
            same = solve_exact(**contract | {"gain": atom})
            np.testing.assert_allclose(same.quantity, menu.quantity, rtol=1e-11)
    assert pooled > 3


# ---------------------------------------------------------------- in programs


def one_holder(gain: ConcaveFunction, cost: float, x_of: Callable[[Any], Any] = lambda q: q) -> mo.Program:
    program = mo.Program("one holder")
    quantity = program.variable("quantity", nonneg=True)
    program.maximize(gain.declare(program, "gain", x_of(quantity)) - cost * quantity)
    return program


def test_atom_is_what_the_program_holds() -> None:
    gain = AtomGain(lambda x: 3 * cp.log1p(x) + 2 * cp.sqrt(x))
    assert gain.has_expression
    program = one_holder(gain, 1.3)
    assert not program.families
    best = float(gain.inverse_derivative(1.3))
    solution = program.solve("clarabel")
    assert solution.objective == pytest.approx(float(gain(best)) - 1.3 * best, rel=1e-6)
    assert float(solution["quantity"]) == pytest.approx(best, rel=1e-3)


def test_evaluated_gain_is_held_from_above_by_its_tangents() -> None:
    gain = EvaluatedGain(lambda x: 9 * x / (1 + x), lambda x: 9 / (1 + x) ** 2)
    assert not gain.has_expression
    program = one_holder(gain, 1.0)
    assert program.families.keys() == {"gain_hypograph"}
    assert mo.Capability.ORACLE in program.requires()
    solution = program.solve("outer")
    assert solution.objective == pytest.approx(9 * 2 / 3 - 2, rel=1e-6)
    assert float(solution["quantity"]) == pytest.approx(2.0, rel=1e-2)


@pytest.mark.parametrize("backend", ["clarabel", "outer"])
def test_composition_that_cvxpy_cannot_follow_gets_a_variable(backend: str) -> None:
    # x - log(1 + exp(x)) rises, but CVXPY's rules do not see it: not a concave function of a concave amount.
    if backend == "clarabel":
        gain: ConcaveFunction = AtomGain(lambda x: 8 * (x - cp.logistic(x) + np.log(2)))
    else:
        gain = EvaluatedGain(lambda x: -8 * np.log((1 + np.exp(-x)) / 2), lambda x: 8 / (1 + np.exp(x)))
    program = one_holder(gain, 1.0, x_of=lambda q: 2 * cp.sqrt(q))
    assert "gain_amount" in program.families
    # 8 / (1 + e^x) = x / 2 with x = 2 √q.
    x = float(break_even(lambda x, _: 8 / (1 + np.exp(x)), lambda x, _: x / 2, 1.0, np.ones(1))[0])
    value = 8 * (np.log(2) - np.log1p(np.exp(-x))) - x**2 / 4
    assert program.solve(backend).objective == pytest.approx(value, rel=1e-5)


def test_evaluated_gain_refuses_to_be_an_expression() -> None:
    gain = EvaluatedGain(np.log1p, lambda x: 1 / (1 + x))
    with pytest.raises(NotApplicable, match=r"can only be evaluated.*'outer'"):
        gain.expression(cp.Variable())


def test_numbers_leave_no_trace_in_a_program() -> None:
    gain = AtomGain(lambda x: cp.log1p(x))
    quantity = cp.Variable(2)
    expression = gain.expression(quantity)
    gain([1.0, 2.0])
    gain.derivative([1.0, 2.0])
    assert quantity.value is None
    assert expression.value is None


# ---------------------------------------------------------------- what is refused


def log(x: Any) -> Any:
    return np.log1p(x)


def log_slope(x: Any) -> Any:
    return 1 / (1 + x)


@pytest.mark.parametrize(
    ("atom", "message"),
    [
        (3.0, r"atom = 3\.0 must be a callable"),
        (lambda x: np.log(x), r"atom failed on a CVXPY variable of shape \(\) \("),
        (lambda x: 1.0, r"atom returned 1\.0 for a CVXPY variable"),
        (lambda x: cp.sum(cp.log1p(x)), r"returned shape \(\) for a variable of shape \(2,\)"),
        (lambda x: cp.square(x), "is CONVEX by CVXPY's rules"),
        (lambda x: cp.sqrt(x) - cp.log(x + 1), "is UNKNOWN by CVXPY's rules"),
        (lambda x: cp.Constant(np.ones(x.shape)), "does not depend on its argument"),
        (lambda x: cp.sqrt(x) + cp.sum(x), "the value at one depends on the other"),
        (lambda x: cp.log(x - 0.5), r"the value at x = 1e-06 is nan"),
        (lambda x: 1 - cp.exp(-x) - 0.001 * cp.square(x), r"the value falls from .* at x = 5\.01187 to"),
    ],
)
def test_bad_atoms_are_refused(atom: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"AtomGain: .*{message}"):
        AtomGain(atom)


@pytest.mark.parametrize(
    ("value", "derivative", "message"),
    [
        (3.0, log_slope, r"value = 3\.0 must be a callable"),
        (log, None, "derivative = None must be a callable"),
        (lambda x: np.log1p(x).sum(keepdims=True), log_slope, r"value returned shape \(1,\) for amounts of"),
        (log, lambda x: 1 / (1 + float(x)), r"derivative failed on an array of shape \(121,\)"),
        (lambda x: np.where(x > 50, np.inf, np.log1p(x)), log_slope, r"the value at x = 50\.1187 is inf"),
        (log, lambda x: np.where(x > 50, np.nan, log_slope(x)), r"the derivative at x = 50\.1187 is nan"),
        (
            log,
            lambda x: log_slope(x) * np.where(x > 50, 1.001, 1.0),
            r"the derivative at x = 50\.1187 is 0\.019\d*, but the values next to it have slopes 0\.0195",
        ),
        (log, lambda x: 2 * log_slope(x), r"the derivative at x = 1e-06 is 2, but"),
        (
            lambda x: x - 0.01 * x**2,
            lambda x: 1 - 0.02 * x,
            r"the value falls from 24\.9999 at x = 50\.1187 to 23\.\d+ at x = 63\.0957",
        ),
        (
            lambda x: x**2,
            lambda x: 2 * x,
            r"not concave: the value .* at x = 1\.\d+e-06 lies above the tangent",
        ),
        (
            lambda x: np.minimum(x, 10.0) + np.maximum(x - 100.0, 0.0),
            lambda x: np.where((x < 10) | (x >= 100), 1.0, 0.0),
            r"not concave: .* lies above the tangent at x = 10",
        ),
        (
            lambda x: np.log1p(x) + 0 / x,
            log_slope,
            "the value at x = 0 is nan; give the limit there",
        ),
    ],
)
def test_bad_functions_are_refused(value: Any, derivative: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"EvaluatedGain: .*{message}"):
        EvaluatedGain(value, derivative)


def test_natural_scale_is_checked_and_moves_the_tried_amounts() -> None:
    for make in (lambda s: AtomGain(cp.log1p, s), lambda s: EvaluatedGain(log, log_slope, s)):
        with pytest.raises(InvalidInput, match=r"natural_scale = 0\.0 must be > 0"):
            make(0.0)
    # It falls beyond 1e8, which a larger scale sees and the default does not.
    late: Any = lambda x: np.minimum(x, 2e8 - x)  # noqa: E731
    slope: Any = lambda x: np.where(x < 1e8, 1.0, -1.0)  # noqa: E731
    assert float(EvaluatedGain(late, slope)(2.0)) == 2
    with pytest.raises(InvalidInput, match="the value falls"):
        EvaluatedGain(late, slope, 1e4)


def test_value_for_no_data_is_warned_about(make: Any) -> None:
    with pytest.warns(MechanismWarning, match="AtomGain: the value at 0 is 2, not 0"):
        AtomGain(lambda x: 2 + cp.log1p(x))
    with pytest.warns(MechanismWarning, match="EvaluatedGain: the value at 0 is -inf, not 0"):
        EvaluatedGain(np.log, lambda x: 1 / x)


def test_a_kink_at_a_tried_amount_is_no_mistake() -> None:
    gain = EvaluatedGain(lambda x: np.minimum(x, 1.0), lambda x: np.where(x < 1, 1.0, 0.0))
    assert float(gain.inverse_derivative(0.5)) == 1.0


def test_records_are_frozen_and_show_their_parts() -> None:
    gain = EvaluatedGain(log, log_slope, 2.0)
    assert gain == EvaluatedGain(log, log_slope, 2.0)
    assert gain != EvaluatedGain(log, log_slope, 3.0)
    with pytest.raises(AttributeError):
        gain.natural_scale = 1.0  # type: ignore[misc]
    assert "natural_scale=2.0" in repr(gain)
