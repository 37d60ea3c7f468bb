"""Federated mean estimation: roads to weights, errors and values; limits, covers and bad input."""

from __future__ import annotations

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.fair_value.federated import FederatedMeanEstimation, closed_form
from tests.oracles import estimation as oracle

RNG = np.random.default_rng


def draw(seed, most=8):
    """Users at random, at least one of whom shares, and one of them to look at."""
    rng = RNG(seed)
    n = int(rng.integers(1, most + 1))
    levels = rng.integers(0, 3, n)
    levels[rng.integers(n)] = rng.integers(1, 3)
    between, within = 10 ** rng.uniform(-2, 2, 2)
    importance = rng.choice([0.0, 1.0, 1.0, 2.5, 100.0], n)
    estimation = FederatedMeanEstimation(levels, rng.integers(1, 101, n), between, within, importance)
    return estimation, int(rng.integers(n))


def parts(estimation):
    return (
        estimation.levels,
        estimation.num_samples,
        estimation.between_user_variance,
        estimation.within_user_variance,
    )


# ------------------------------------------------------------ weights


def test_proposition_5_is_the_optimum_of_the_program():
    worst = 0.0
    for seed in range(120):
        estimation, user = draw(seed)
        formula, solved = estimation.weights(user), estimation.weights(user, "clarabel", tolerance=1e-9)
        worst = max(worst, abs(solved.solution.objective / formula.emse - 1))
        worst = max(worst, float(np.max(np.abs(solved.per_user - formula.per_user))))
    assert worst < 1e-9


def test_proposition_5_solves_the_first_order_conditions():
    for seed in range(300):
        estimation, user = draw(seed)
        found = estimation.weights(user)
        levels, samples, between, within = parts(estimation)
        true = oracle.weights_by_elimination(user, levels, samples, between, within)
        np.testing.assert_allclose(found.per_user, true, atol=1e-12)
        assert found.federated_weight + found.direct_weights.sum() == pytest.approx(1, abs=1e-14)
        assert found.per_user.min() >= 0
        error = oracle.error_by_covariance(true, user, samples, between, within)
        assert found.emse == pytest.approx(error, rel=1e-12)
        assert estimation.emse(user) == pytest.approx(error, rel=1e-12)
        assert estimation.emse()[user] == estimation.emse(user)


def test_printed_formulas_for_two_direct_and_three_federated():
    """(58)-(63), written out with Vbar and D as the paper has them."""
    estimation = FederatedMeanEstimation([2, 2, 1, 1, 1, 0], [10, 100, 10, 10, 100, 10], 1.0, 10.0)
    n, s2, t2 = estimation.num_samples, 1.0, 10.0
    v = t2 / n + s2
    v0, vbar = v[2:5].mean(), 2 / np.sum(1 / v[:2])
    d = 3 + 2 * v0 / vbar
    none, federated, direct = (estimation.weights(i) for i in (5, 2, 0))
    assert none.federated_weight == pytest.approx(3 / d)
    np.testing.assert_allclose(none.direct_weights, v0 / v[:2] / d)
    assert federated.federated_weight == pytest.approx((3 + 2 * s2 / vbar) / d)
    np.testing.assert_allclose(federated.direct_weights, (v0 - s2) / v[:2] / d)
    assert direct.federated_weight == pytest.approx(3 * (1 - s2 / v[0]) / d)
    own = v0 / v[0] / d + s2 / v[0] * (1 - v0 / v[0] / d)
    np.testing.assert_allclose(direct.direct_weights, [own, v0 / v[1] * (1 - s2 / v[0]) / d])
    assert direct.emse == pytest.approx(own * t2 / n[0])
    assert none.direct_users.tolist() == [0, 1]
    assert none.per_user.tolist() == pytest.approx([*none.direct_weights, *[1 / d] * 3, 0])


@pytest.mark.parametrize(
    "levels", [[1, 1, 1, 0], [2, 2, 2, 0], [1, 0, 0, 0], [2, 0, 0, 0], [2, 1, 2, 0], [1, 2, 0]]
)
def test_limits_of_empty_groups(levels):
    estimation = FederatedMeanEstimation(levels, np.arange(3, 3 + len(levels)), 0.7, 5.0)
    for user in range(len(levels)):
        true = oracle.error_by_elimination(user, *parts(estimation))
        assert estimation.emse(user) == pytest.approx(true, rel=1e-13)
        solved = estimation.weights(user, "clarabel", tolerance=1e-9)
        assert solved.emse == pytest.approx(true, rel=1e-9)
        assert solved.per_user.sum() == pytest.approx(1, abs=1e-9)


def test_one_federated_user_is_as_good_as_direct():
    federated = FederatedMeanEstimation([1, 2, 2, 0], [5, 10, 3, 4], 2.0, 7.0)
    direct = FederatedMeanEstimation([2, 2, 2, 0], [5, 10, 3, 4], 2.0, 7.0)
    np.testing.assert_allclose(federated.emse(), direct.emse(), rtol=1e-14)


def test_without_cancellation():
    """With plenty of data the error is that of the own samples, to full relative accuracy."""
    estimation = FederatedMeanEstimation([2, 1, 1], [10**12, 10**12, 10**12], 1e4, 1e-4)
    assert estimation.emse(0) == pytest.approx(1e-16, rel=1e-12)
    alone = FederatedMeanEstimation([1, 0], [10**12, 1], 1e4, 1e-4)
    assert alone.emse(0) == pytest.approx(1e-16, rel=1e-12)


def test_nobody_shares():
    estimation = FederatedMeanEstimation([0, 0], [5, 5], 2.0, 3.0)
    assert estimation.emse().tolist() == [7.0, 7.0]
    assert estimation.weights(0) is None
    assert estimation.utility() == estimation.utility(monotone_cover=True) == 0
    assert estimation.fair_value().tolist() == [0.0, 0.0]
    with pytest.raises(mo.InvalidInput, match="nobody shares data"):
        estimation.program(0)


def test_scaling_variances_scales_errors_and_leaves_utility():
    estimation, _ = draw(3)
    levels, samples, between, within = parts(estimation)
    scaled = FederatedMeanEstimation(levels, samples, 1e6 * between, 1e6 * within, estimation.importance)
    np.testing.assert_allclose(scaled.emse(), 1e6 * estimation.emse(), rtol=1e-12)
    assert scaled.utility() == pytest.approx(estimation.utility(), rel=1e-12)
    user = int(np.flatnonzero(levels)[0])
    solved = scaled.weights(user, "clarabel", tolerance=1e-9)
    assert solved.emse == pytest.approx(1e6 * estimation.emse(user), rel=1e-9)


def test_definition_of_the_error():
    rng = RNG(5)
    estimation, user = draw(12)
    _, samples, between, within = parts(estimation)
    for _ in range(20):
        v = rng.normal(size=samples.size)
        v /= v.sum()
        if np.abs(v).max() > 50:
            continue
        true = oracle.error_by_covariance(v, user, samples, between, within)
        assert estimation.error_of_weights(user, v) == pytest.approx(true, rel=1e-10)
    assert estimation.error_of_weights(user, np.full(samples.size, 1 / samples.size)) >= estimation.emse(user)


# ------------------------------------------------------------ the program


def test_constraints_of_users():
    estimation = FederatedMeanEstimation([2, 2, 1, 1], 10, 1.0, 10.0)
    base = estimation.weights(0)
    caps = {}
    for cap in (0.2999, 0.3, 0.3001):
        program = estimation.program(0)
        program.add("own data", program["user_weights"][0] <= cap)
        solution = program.solve("clarabel", tolerance=1e-9)
        caps[cap] = solution.objective
        if cap == 0.3:
            price = float(solution.dual("own data"))
    assert base.per_user[0] > 0.3001
    assert caps[0.3] > base.emse
    assert price == pytest.approx((caps[0.3001] - caps[0.2999]) / 2e-4, rel=1e-4)
    program = estimation.program(0)
    assert program.families.keys() == {"total_weight"}
    assert set(program) == {"federated_weight", "direct_weights", "user_weights", "emse"}


def test_price_of_the_total_weight():
    estimation = FederatedMeanEstimation([2, 1, 1], [3, 4, 5], 1.0, 2.0)
    price = float(estimation.program(2).solve("clarabel", tolerance=1e-9).dual("total_weight"))
    errors = []
    for total in (1 + 1e-4, 1 - 1e-4):
        program = estimation.program(2).drop("total_weight")
        weights = program["federated_weight"] + program["direct_weights"][0]
        errors.append(program.add("total", weights == total).solve("clarabel", tolerance=1e-9).objective)
    assert price == pytest.approx((errors[0] - errors[1]) / 2e-4, rel=1e-5)


# ------------------------------------------------------------ utility and values


@pytest.mark.parametrize("seed", range(15))
def test_utility_and_values_by_enumeration(seed):
    estimation, _ = draw(seed, most=6)
    n = estimation.n_users
    levels, samples, between, within = parts(estimation)

    def utility(members):
        chosen = np.where(np.isin(np.arange(n), members), levels, 0)
        return oracle.utility_by_users(chosen, samples, between, within, estimation.importance)

    table = oracle.coalition_table(utility, n)
    scale = max(1.0, *map(abs, table.values()))
    for coalition, worth in table.items():
        assert estimation.utility(coalition) == pytest.approx(worth, abs=1e-12 * scale)
    values = oracle.shapley_by_subsets(table, n)
    np.testing.assert_allclose(estimation.fair_value(), values, atol=1e-12 * scale)
    if n <= 5:
        np.testing.assert_allclose(oracle.shapley_by_orders(table, n), values, atol=1e-12 * scale)
    cover = oracle.cover_by_subsets(table)
    for coalition in table:
        covered = estimation.utility(coalition, monotone_cover=True)
        assert covered == pytest.approx(cover[coalition], abs=1e-12 * scale)
    values = oracle.shapley_by_subsets(cover, n)
    found = estimation.fair_value(0.3, monotone_cover=True)
    np.testing.assert_allclose(found, 0.3 * values, atol=1e-12 * scale)
    assert found.min() >= -1e-12 * scale


def test_values_of_many_users_by_counting():
    """Two hundred users of three kinds, and what they must add up to."""
    levels = np.repeat([1, 2, 0, 1], [90, 60, 10, 40])
    samples = np.repeat([5, 20, 7, 50], [90, 60, 10, 40])
    estimation = FederatedMeanEstimation(levels, samples, 1.0, 30.0)
    values = estimation.fair_value(0.5)
    assert values.sum() == pytest.approx(0.5 * estimation.utility(), rel=1e-11)
    assert np.all(values[150:160] == 0)
    assert np.ptp(values[:90]) == 0
    assert values[90] > values[0]
    assert not values.flags.writeable


def test_users_of_one_kind_may_come_in_any_order():
    estimation, _ = draw(7, most=6)
    levels, samples, between, within = parts(estimation)
    order = RNG(0).permutation(levels.size)
    other = FederatedMeanEstimation(
        levels[order], samples[order], between, within, estimation.importance[order]
    )
    np.testing.assert_allclose(other.fair_value(), estimation.fair_value()[order], atol=1e-11)
    np.testing.assert_allclose(other.emse(), estimation.emse()[order], rtol=1e-13)


def test_a_user_that_federates_can_do_harm():
    estimation = FederatedMeanEstimation([1, 1], [100, 10], 100.0, 1.0, importance=[100.0, 1.0])
    assert estimation.utility([0]) > 5 * estimation.utility()
    values = estimation.fair_value()
    assert values[1] < 0 < values[0]
    assert estimation.utility(monotone_cover=True) == estimation.utility([0])
    covered = estimation.fair_value(monotone_cover=True)
    assert covered.min() >= 0
    assert covered.sum() == pytest.approx(estimation.utility([0]))


def test_more_samples_of_a_direct_user_are_worth_more():
    values = [
        FederatedMeanEstimation([2, 1, 1, 2], [n, 10, 10, 10], 1.0, 10.0).fair_value()[0]
        for n in (1, 5, 25, 125)
    ]
    assert np.all(np.diff(values) > 0)


# ------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": []}, "levels is empty"),
        ({"levels": [1, 3]}, r"levels\[1\] = 3 must be 0 \(no data\), 1"),
        ({"levels": [1, 0.5]}, r"levels\[1\] = 0.5 must be 0"),
        ({"levels": [np.nan, 1]}, r"levels\[0\] = nan must be 0"),
        ({"num_samples": [1, 0]}, r"num_samples\[1\] = 0 must be a whole number >= 1"),
        ({"num_samples": [1.5, 2]}, r"num_samples\[0\] = 1.5 must be a whole number"),
        ({"num_samples": [1, np.inf]}, r"num_samples\[1\] is inf"),
        ({"num_samples": [1, 2, 3]}, "num_samples has 3 entries for 2 users"),
        ({"between_user_variance": 0.0}, "between_user_variance must be a finite number > 0, got 0.0"),
        ({"within_user_variance": -1.0}, "within_user_variance must be a finite number > 0"),
        ({"within_user_variance": np.nan}, "within_user_variance must be a finite number > 0"),
        ({"importance": [1.0, -2.0]}, r"importance\[1\] = -2 must be >= 0"),
        ({"importance": [1.0]}, "importance has 1 entries for 2 users"),
        ({"importance": [np.nan, 1.0]}, r"importance\[0\] is nan"),
    ],
)
def test_bad_parameters(changes, message):
    good = {
        "levels": [1, 2],
        "num_samples": [3, 4],
        "between_user_variance": 1.0,
        "within_user_variance": 2.0,
    }
    with pytest.raises(mo.InvalidInput, match=message):
        FederatedMeanEstimation(**{**good, **changes})


def test_other_bad_input():
    estimation = FederatedMeanEstimation([1, 2, 0], 5, 1.0, 2.0)
    for user in (3, -1, 1.0, True, None):
        with pytest.raises(mo.InvalidInput, match="users are numbered 0 to 2"):
            estimation.weights(user)
    with pytest.raises(mo.InvalidInput, match="user = 7"):
        estimation.emse(7)
    with pytest.raises(mo.InvalidInput, match=r"coalition\[0\] = 5"):
        estimation.utility([5])
    with pytest.raises(mo.InvalidInput, match=r"weights must sum to 1, but they sum to 0\.9"):
        estimation.error_of_weights(0, [0.4, 0.5, 0.0])
    with pytest.raises(mo.InvalidInput, match="weights has 2 entries for 3 users"):
        estimation.error_of_weights(0, [0.5, 0.5])
    for share in (-0.1, 1.5, np.nan):
        with pytest.raises(mo.InvalidInput, match="payment_share must be"):
            estimation.fair_value(share)
    with pytest.raises(mo.InvalidInput, match="without a backend there are no options"):
        estimation.weights(0, tolerance=1e-9)
    many = FederatedMeanEstimation(np.full(30, 1), np.arange(1, 31), 1.0, 2.0)
    with pytest.raises(mo.InvalidInput, match="more than"):
        many.utility(monotone_cover=True)
    with pytest.raises(mo.InvalidInput, match="more than"):
        many.fair_value(monotone_cover=True)


def test_counts_broadcast():
    kinds = closed_form.Kinds((1, 2), np.array([4.0, 9.0]), np.array([1.0, 2.0]), (2, 1), 3.0)
    grid = closed_form.utility_on_counts(kinds, 1.0, 2.0, [np.arange(3.0)[:, None], np.arange(2.0)])
    listed = closed_form.utility_on_counts(kinds, 1.0, 2.0, np.indices((3, 2)).reshape(2, -1).astype(float))
    np.testing.assert_array_equal(grid.ravel(), listed)


def test_a_thousand_users_print_on_a_line():
    many = mo.FederatedMeanEstimation([0, 1, 2, 2] * 250, 10, 1.0, 2.0)
    assert repr(many) == (
        "FederatedMeanEstimation(250 private, 250 federated, 500 direct users, 10 to 10 samples, "
        "between_user_variance=1, within_user_variance=2)"
    )


def test_scip_answers_for_users_who_share_directly():
    # With a square for each user in the program its linear solver gave up on these numbers
    levels = [2, 1, 2, 2, 0, 1, 1, 1, 0, 1, 2, 2, 2, 1, 1, 1]
    samples = [6, 7, 8, 7, 8, 8, 8, 8, 7, 8, 4, 7, 5, 7, 7, 7]
    estimation = mo.FederatedMeanEstimation(levels, samples, 0.13531608277538634, 0.09842337257076889)
    solution = estimation.program(0).solve("pyomo:scip", time_limit=20)
    assert solution.status is mo.Status.OPTIMAL
    assert solution.objective == pytest.approx(estimation.emse(0), rel=1e-6)
