"""Utilities of data: their formulas, slopes, inverses and suprema; what is refused."""

from __future__ import annotations

import math

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from mechopt.formulations.functions import (
    AdditiveUtility,
    AtomGain,
    CappedUtility,
    ConcaveFunction,
    EvaluatedGain,
    GeneralizationBound,
    InverseSqrtUtility,
    LinearUtility,
    LogUtility,
    PiecewiseLinearGain,
    PowerGain,
    QuadraticGain,
    SaturatingUtility,
    SqrtAccuracy,
    SqrtUtility,
    TableUtility,
    ThresholdUtility,
    UserUtility,
)
from mechopt.formulations.functions.utilities import AccuracyUtility
from mechopt.solvers.errors import InvalidInput

FORMULAS = [
    (LinearUtility(2.0), lambda D: 2 * D, math.inf),
    (LogUtility(10.0, 5.0), lambda D: 10 * math.log(1 + D / 5), math.inf),
    (SqrtUtility(3.0), lambda D: 3 * math.sqrt(D), math.inf),
    (SaturatingUtility(10.0, 5.0), lambda D: 10 * (1 - math.exp(-D / 5)), 10.0),
    (CappedUtility(10.0, 4.0), lambda D: 10 * min(D / 4, 1), 10.0),
    (InverseSqrtUtility(6.0), lambda D: -6 / math.sqrt(D), 0.0),
    (InverseSqrtUtility(6.0, 2.5), lambda D: -6 / math.sqrt(2.5 * D), 0.0),
    (AccuracyUtility(100.0, SqrtAccuracy(1.0, difficulty=0.01)), None, 100.0),
    (AccuracyUtility(50.0, GeneralizationBound(0.9, 2.0)), None, 45.0),
    (PowerGain(2.0, 3.0, 0.3), lambda D: 2 * (3 * D) ** 0.3, math.inf),
    (QuadraticGain(4.0, 2.0, 0.5), lambda D: 4 * min(D / 2, 2) - min(D / 2, 2) ** 2, 4.0),
    (PiecewiseLinearGain((3, 1, 0), (0, 4, 9), 1.0), lambda D: min(3 * D, D + 4, 9), 9.0),
    (PiecewiseLinearGain((3, 1), (0, 4), 1.0), lambda D: min(3 * D, D + 4), math.inf),
    (EvaluatedGain(lambda D: D / (1 + D), lambda D: 1 / (1 + D) ** 2), lambda D: D / (1 + D), 1.0),
    (AtomGain(lambda x: 3 * cp.log1p(x) + 2 * cp.sqrt(x)), None, None),
]
AMOUNTS = np.array([0.05, 0.4, 1.0, 2.7, 3.9, 7.0, 30.0])


def named(case):
    return type(case).__name__ if isinstance(case, ConcaveFunction) else ""


@pytest.mark.parametrize(("utility", "formula", "supremum"), FORMULAS, ids=named)
def test_values_and_slopes(utility, formula, supremum):
    value = utility(AMOUNTS)
    if formula is not None:
        np.testing.assert_allclose(value, [formula(D) for D in AMOUNTS], rtol=1e-13)
    # None of the amounts is a kink; central differences of this step have an error of about 1e-9.
    step = 1e-6 * AMOUNTS
    differences = (utility(AMOUNTS + step) - utility(AMOUNTS - step)) / (2 * step)
    np.testing.assert_allclose(utility.derivative(AMOUNTS), differences, rtol=1e-6, atol=1e-8)
    if supremum is not None:
        # Unknown suprema are values at amounts beyond use, up to rounding.
        assert utility.supremum == pytest.approx(supremum, rel=1e-12)
        assert np.all(utility(AMOUNTS) <= utility.supremum)


@pytest.mark.parametrize(("utility", "formula", "supremum"), FORMULAS, ids=named)
def test_inverse_is_the_least_amount_of_a_value(utility, formula, supremum):
    value = np.asarray(utility(AMOUNTS))
    amount = utility.inverse(value)
    assert amount.shape == value.shape
    # Far up a saturating curve one digit of value is many of amount: compare values, and minimality.
    np.testing.assert_allclose(utility(amount), value, rtol=1e-11)
    assert np.all(amount <= AMOUNTS * (1 + 1e-9))
    rising = utility.derivative(amount * (1 - 1e-6)) > 1e-9
    assert np.all(utility(amount * (1 - 1e-6))[rising] < value[rising])
    assert float(utility.inverse(float(value[2]))) == amount[2]
    assert utility.inverse(value.reshape(1, -1)).shape == (1, value.size)


@pytest.mark.parametrize(("utility", "formula", "supremum"), FORMULAS, ids=named)
def test_inverse_below_and_above_the_range(utility, formula, supremum):
    at_zero = float(utility(0.0))
    if math.isfinite(at_zero):
        assert utility.inverse([at_zero, at_zero - 1.0]).tolist() == [0.0, 0.0]
    if supremum is not None and math.isfinite(supremum):
        assert utility.inverse([supremum + 1e-6, supremum + 5]).tolist() == [math.inf, math.inf]
    # Attained suprema have an amount, others none.
    if isinstance(utility, QuadraticGain | PiecewiseLinearGain) and math.isfinite(utility.supremum):
        assert float(utility(utility.inverse(utility.supremum))) == pytest.approx(utility.supremum, rel=1e-14)
    if type(utility) in (type(SaturatingUtility(1.0, 1.0)), InverseSqrtUtility):
        assert utility.inverse(utility.supremum) == math.inf


@pytest.mark.parametrize(("utility", "formula", "supremum"), FORMULAS, ids=named)
def test_inverse_derivative_maximises_value_minus_cost(utility, formula, supremum):
    for price in (0.05, 0.3, 0.9, 2.2):
        best = float(utility.inverse_derivative(price))
        if math.isinf(best):
            assert float(utility.derivative(1e9)) >= price
            continue

        def surplus(D, price=price):
            return float(utility(D)) - price * D

        found = minimize_scalar(lambda D: -surplus(D), bounds=(1e-9, 1e4), method="bounded")
        # Nothing that a search finds is better, but for rounding.
        assert surplus(max(best, 1e-12)) >= -found.fun - 1e-9
    assert utility.inverse_derivative(np.array([[0.1, 0.2]])).shape == (1, 2)
    assert utility.inverse_derivative(-1.0) == math.inf


def test_accuracies_are_inverted_below_their_first_data_too():
    utility = AccuracyUtility(100.0, SqrtAccuracy(1.0, difficulty=1.0))
    low = utility.accuracy.min_viable_data
    for D in (low / 50, low / 2, low, 2 * low):
        slope = float(utility.derivative(D))
        assert float(utility.inverse_derivative(slope)) == pytest.approx(D, rel=1e-12)
    assert float(utility.inverse_derivative(math.inf)) == 0.0
    with pytest.raises(InvalidInput, match="accuracy must be an AccuracyFunction"):
        AccuracyUtility(1.0, LogUtility(1.0, 1.0))


@pytest.mark.parametrize("size", [1e-3, 40.0, 1e6])
def test_units_of_an_error_do_not_change_it(size):
    utility = InverseSqrtUtility(6.0, 2.0)
    same = utility.in_units_of(size)
    np.testing.assert_allclose(same(AMOUNTS), utility(AMOUNTS), rtol=1e-14)
    assert same.natural_scale == pytest.approx(size)


@pytest.mark.parametrize("utility", [case[0] for case in FORMULAS if case[0].has_expression], ids=named)
def test_expressions_are_the_same_functions(utility):
    x = cp.Variable(AMOUNTS.size)
    expression = utility.expression(x)
    assert expression.is_concave()
    x.value = AMOUNTS
    np.testing.assert_allclose(expression.value, utility(AMOUNTS), rtol=1e-12)


def test_an_error_of_no_data_is_infinite():
    utility = InverseSqrtUtility(2.0)
    assert utility(0.0) == -math.inf
    assert utility.derivative(0.0) == math.inf
    assert utility.inverse([0.0, 1.0]).tolist() == [math.inf, math.inf]


# ------------------------------------------------------------ neither concave nor of total size


def test_thresholds():
    utility = ThresholdUtility(10.0, 0.3)
    # 0.1 + 0.1 + 0.1 > 0.3 > 0.3 * (1 - 1e-13), in floats: all of these are enough.
    assert utility([0.1 + 0.1 + 0.1, 0.3 * (1 - 1e-13), 0.3 * (1 - 1e-9), 5]).tolist() == [10, 10, 0, 10]
    assert utility(0.3) == utility.supremum == 10
    assert UserUtility(np.sqrt).supremum == math.inf


def test_functions_of_users_must_be_elementwise_numbers():
    assert UserUtility(lambda D: D**2)([[1.0, 2.0]]).tolist() == [[1.0, 4.0]]
    with pytest.raises(InvalidInput, match="must be a callable of total data, got 3"):
        UserUtility(3)
    with pytest.raises(InvalidInput, match=r"shape \(\) for amounts of shape \(2,\).*elementwise"):
        UserUtility(np.sum)([1.0, 2.0])
    with pytest.raises(InvalidInput, match=r"value\(0\) is NaN"), np.errstate(invalid="ignore"):
        UserUtility(lambda D: D / D)([1.0, 0.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearUtility(0.0), r"LinearUtility: slope = 0\.0 must be > 0"),
        (lambda: LogUtility(-1.0, 1.0), r"LogUtility: weight = -1\.0 must be > 0"),
        (lambda: LogUtility(1.0, 0.0), r"LogUtility: size = 0\.0 must be > 0"),
        (lambda: SqrtUtility(math.nan), r"SqrtUtility: weight = nan must be finite"),
        (lambda: SaturatingUtility(1.0, "much"), r"SaturatingUtility: size = 'much' must be a real number"),
        (lambda: CappedUtility(math.inf, 1.0), r"CappedUtility: weight = inf must be finite"),
        (lambda: InverseSqrtUtility(0.0), r"InverseSqrtUtility: weight = 0\.0 must be > 0"),
        (lambda: ThresholdUtility(1.0, -2.0), r"ThresholdUtility: size = -2\.0 must be > 0"),
        (lambda: AdditiveUtility((1.0, math.nan)), r"AdditiveUtility: values\[1\] = nan must be finite"),
        (lambda: AdditiveUtility(()), r"AdditiveUtility: values is empty"),
        (lambda: TableUtility({(): 0, (1,): 1, (2,): 1}), r"the set \{1, 2\} is missing"),
        (lambda: TableUtility({(0,): 1}), r"the set \{\} is missing"),
        (lambda: TableUtility({}), r"the set \{\} is missing"),
        (lambda: TableUtility({(): 0, (1,): math.nan}), r"values\[\{1\}\] = nan must be finite"),
        (lambda: TableUtility({(): 0, (1, 0): 1, (0, 1): 2}), r"the set \{0, 1\} is given twice"),
        (lambda: TableUtility({(): 0, (-1,): 1}), r"negative index"),
        (lambda: TableUtility({(): 0, 3: 1}), r"3 is no set of sellers"),
        (lambda: TableUtility({tuple(range(26)): 1}), r"26 sellers have 67108864 subsets"),
    ],
)
def test_bad_parameters(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()


def test_tables():
    table = TableUtility.from_function(lambda members: float(len(members) ** 2), [2, 5])
    assert table.values == {
        frozenset(): 0.0,
        frozenset({2}): 1.0,
        frozenset({5}): 1.0,
        frozenset({2, 5}): 4.0,
    }
    assert table.fall() is None
    falling = TableUtility({(): 0, (1,): 3, (2,): 1, (1, 2): 2})
    assert falling.fall() == (frozenset({1}), 2)
