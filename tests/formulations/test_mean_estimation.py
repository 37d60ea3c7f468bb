"""Private mean estimation: three roads to the estimator, its definitions, limits, prices and bad input."""

from __future__ import annotations

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.fair_value.mean_estimation import (
    MeanEstimation,
    closed_form,
    exact,
    utility_of_counts,
)
from mechopt.formulations.fair_value.shapley import FairValue
from tests.oracles.estimation import best_risk_by_ratio, random_levels, risk_by_outcomes

INF = np.inf
RNG = np.random.default_rng
FAMILY = [random_levels(RNG(seed), 1 + seed % 7) for seed in range(60)]


# ------------------------------------------------------------ three roads


@pytest.mark.parametrize("levels", FAMILY, ids=lambda levels: f"{levels.size}-users")
def test_closed_form_equals_newton_and_enumeration(levels):
    form, found = closed_form.closed_form(levels), exact.optimal_estimator(levels)
    np.testing.assert_allclose(found.weights, form.weights, atol=1e-15)
    assert found.noise_scale == pytest.approx(form.noise_scale, abs=1e-15)
    assert found.bayes_risk == pytest.approx(form.bayes_risk, abs=1e-16, rel=1e-14)
    assert risk_by_outcomes(form.weights, form.noise_scale) == pytest.approx(form.bayes_risk, abs=1e-15)


@pytest.mark.parametrize("levels", FAMILY[:6], ids=str)
def test_no_formula_blind_search_finds_less(levels):
    assert best_risk_by_ratio(levels) == pytest.approx(closed_form.closed_form(levels).bayes_risk, abs=1e-12)


@pytest.mark.parametrize(("backend", "family"), [("clarabel", FAMILY[:25]), ("osqp", FAMILY[25:33])])
def test_program_on_solvers(backend, family):
    for levels in family:
        estimation = MeanEstimation(levels)
        form = estimation.closed_form()
        solution = estimation.solve(backend, tolerance=1e-9)
        assert solution.backend == backend
        # The risk is flat at its optimum: weights are known to the root of its accuracy.
        assert solution.objective == pytest.approx(form.bayes_risk, abs=1e-9)
        np.testing.assert_allclose(solution["weights"], form.weights, atol=1e-7)
        assert float(solution["bayes_risk"]) == pytest.approx(solution.objective)
        found = exact.optimal_estimator(levels)
        limited = (levels > 0) & np.isfinite(levels)
        price = solution.dual("privacy")
        # Interior-point prices of rows that hardly bind are as large as their slack allows.
        np.testing.assert_allclose(price[limited], -found.limit_price[limited], atol=1e-6)
        np.testing.assert_allclose(price[~limited], 0, atol=1e-6)
        if np.any(levels == 0):
            np.testing.assert_allclose(solution.dual("no_data"), -found.limit_price[levels == 0], atol=1e-7)


def test_exact_backend_answers_the_program_as_declared_with_the_same_prices():
    estimation = MeanEstimation([0.0, 0.3, 2.0, 40.0, INF])
    direct, declared = estimation.solve(), estimation.program().solve()
    assert direct.backend == declared.backend == "exact"
    assert direct.status is mo.Status.OPTIMAL
    for name in declared:
        if name in direct:
            np.testing.assert_allclose(direct[name], declared[name], atol=1e-15)
    assert set(direct.duals) == set(declared.duals) == set(direct.residuals) - {"domain"}
    for family in direct.duals:
        np.testing.assert_array_equal(direct.dual(family), declared.dual(family))
    assert not direct["weights"].flags.writeable
    program = estimation.program().add("cap", estimation.program()["weights"] <= 1)
    with pytest.raises(mo.MissingCapability, match="cap"):
        program.solve("exact")


def test_many_users_and_extreme_levels():
    levels = 10 ** RNG(0).uniform(-8, 8, 20_000)
    form, found = closed_form.closed_form(levels), exact.optimal_estimator(levels)
    np.testing.assert_allclose(found.weights, form.weights, rtol=1e-12, atol=1e-18)
    assert found.n_steps < 100
    for levels in ([1e100, 1.0], [1e-100, 1e100], [1e-200], [1e100] * 3, 2.0 ** np.arange(-300, 300)):
        array = np.array(levels)
        form, found = closed_form.closed_form(array), exact.optimal_estimator(array)
        np.testing.assert_allclose(found.weights, form.weights, rtol=1e-12)
        assert found.noise_scale == pytest.approx(form.noise_scale, rel=1e-12)


# ------------------------------------------------------------ the paper's numbers, limits, symmetries


@pytest.mark.parametrize("e", [0.1, 1.0, 2.0, 4.0, 30.0])
def test_printed_formulas(e):
    one, two = closed_form.closed_form([e, 0.0]), closed_form.closed_form([e, e])
    assert one.weights[0] == pytest.approx(1 / (3 + 24 / e**2), rel=1e-14)
    assert one.noise_scale == pytest.approx(e / (3 * e**2 + 24), rel=1e-14)
    assert one.bayes_risk == pytest.approx((1 - 1 / (3 + 24 / e**2)) / 12, rel=1e-14)
    assert two.weights[1] == pytest.approx(1 / (4 + 12 / e**2), rel=1e-14)
    assert two.noise_scale == pytest.approx(e / (4 * e**2 + 12), rel=1e-14)
    assert two.bayes_risk == pytest.approx((1 - 1 / (2 + 6 / e**2)) / 12, rel=1e-14)
    pair = MeanEstimation([e, e])
    assert pair.utility([0]) == pytest.approx(2 / (3 + 24 / e**2), rel=1e-14)
    assert pair.utility() == pytest.approx(1 / (1 + 3 / e**2), rel=1e-14)


@pytest.mark.parametrize(
    ("e", "one", "two"),
    [(1, ".074074", ".25"), (2, ".222222", ".571429"), (4, ".444444", ".842105"), (INF, ".666667", "1")],
)
def test_table_of_utilities(e, one, two):
    found = utility_of_counts([e], [2])
    assert found.tolist() == pytest.approx([0, float(one), float(two)], abs=5e-7)


def test_limits():
    nothing = MeanEstimation([0.0, 0.0])
    assert nothing.closed_form().bayes_risk == 1 / 12
    assert nothing.utility() == 0
    assert nothing.solve().objective == pytest.approx(1 / 12)
    assert nothing.saturation_level == INF
    assert not nothing.saturated.any()
    free = MeanEstimation([INF] * 5)
    assert free.closed_form().bayes_risk == pytest.approx(1 / 42, rel=1e-14)
    assert free.utility() == pytest.approx(1, abs=1e-14)
    assert float(free.solve()["noise_scale"]) == 0
    # Little privacy is like none at all, and much of it like no data.
    for e, like in ((1e8, [INF, 1.0]), (1e-9, [0.0, 1.0])):
        assert MeanEstimation([e, 1.0]).utility() == pytest.approx(MeanEstimation(like).utility(), abs=1e-8)
    for levels in ([0.0, INF], [0.0], [INF]):
        estimation = MeanEstimation(levels)
        solution = estimation.program().solve("clarabel")
        assert solution.objective == pytest.approx(estimation.closed_form().bayes_risk, abs=1e-8)


def test_users_can_be_permuted_and_absent_ones_left_out():
    levels = np.array([0.0, 0.2, 3.0, 3.0, 15.0, INF])
    form = closed_form.closed_form(levels)
    order = RNG(1).permutation(6)
    np.testing.assert_allclose(
        closed_form.closed_form(levels[order]).weights, form.weights[order], atol=1e-16
    )
    np.testing.assert_allclose(closed_form.closed_form(levels[1:]).weights, form.weights[1:], atol=1e-16)
    estimation = MeanEstimation(levels)
    mask = np.array([True, False, True, False, True, True])
    assert estimation.utility(mask) == estimation.utility([0, 2, 4, 5]) == estimation.utility((5, 4, 2))
    assert estimation.utility([]) == 0


def test_saturation():
    estimation = MeanEstimation([1.0, 12.9, 13.1, INF])
    level = estimation.saturation_level
    assert estimation.saturated.tolist() == (estimation.privacy_levels > level).tolist()
    # With one user at 1, another's level beyond 13 is not used.
    assert MeanEstimation([1.0, INF]).saturation_level == pytest.approx(13, rel=1e-14)
    at, beyond = (MeanEstimation([1.0, e]).closed_form() for e in (13.0, 1e6))
    np.testing.assert_allclose(at.weights, beyond.weights, rtol=1e-14)
    assert MeanEstimation([1.0, 12.0]).utility() < MeanEstimation([1.0, 13.0]).utility()
    assert MeanEstimation([1.0, 20.0]).saturated.tolist() == [False, True]


# ------------------------------------------------------------ counts


@pytest.mark.parametrize("seed", range(12))
def test_utility_of_counts_is_that_of_users(seed):
    rng = RNG(seed)
    levels = random_levels(rng, int(rng.integers(1, 4)))
    sizes = rng.integers(0, 4, levels.size).tolist()
    sizes[0] += 1
    grid = utility_of_counts(levels, sizes)
    assert grid.shape == tuple(size + 1 for size in sizes)
    estimation = MeanEstimation(np.repeat(levels, sizes))
    group = np.repeat(np.arange(levels.size), sizes)
    for counts in np.ndindex(*grid.shape):
        rank = np.concatenate([np.arange(size) for size in sizes])
        members = rank < np.array(counts)[group]
        assert grid[counts] == pytest.approx(estimation.utility(members), abs=1e-14)


def test_utility_of_two_levels_for_platforms():
    grid = utility_of_counts([0.5, 4.0], [3, 3], n_users=3)
    assert grid[1, 2] == pytest.approx(MeanEstimation([0.5, 4.0, 4.0]).utility(), abs=1e-15)
    assert grid[0, 3] == pytest.approx(utility_of_counts([4.0], [3])[3], abs=1e-15)
    np.testing.assert_allclose(utility_of_counts([4.0, 0.5], [3, 3], n_users=3), grid.T)
    n = np.arange(11)
    np.testing.assert_allclose(utility_of_counts([INF], [10]), 12 * n / (10 * (n + 2)), atol=1e-15)


@pytest.mark.parametrize("n_users", [2, 3, 5, 10, 50])
def test_returns_turn_at_two_root_three(n_users):
    turn = 2 * np.sqrt(3)
    below, above = (np.diff(utility_of_counts([e], [n_users]), 2) for e in (turn - 1e-6, turn + 1e-6))
    assert above.max() < 0 < below.max()


def test_fair_values_of_the_papers_example():
    """(13) at alpha = 1, and (11), for two users that need no privacy."""
    pair = MeanEstimation([INF, INF])
    fair = FairValue(pair.utility, n_users=2)
    np.testing.assert_allclose(fair.solve().user_values, 0.5, atol=1e-14)
    division = FairValue(pair.utility, n_users=2, include_platform=True).solve()
    np.testing.assert_allclose(division.user_values, 2 / 9, atol=1e-14)
    assert division.platform_value == pytest.approx(5 / 9)
    levels = MeanEstimation([0.5, 0.5, 3.0, 3.0, 3.0])
    grouped = FairValue(utility_of_counts([0.5, 3.0], [2, 3]), group_sizes=[2, 3]).solve()
    np.testing.assert_allclose(
        grouped.user_values, FairValue(levels.utility, n_users=5).solve().user_values, atol=1e-14
    )


@pytest.mark.parametrize("level", [0.03, 0.1, 0.3, 3.0])
def test_small_programs_on_highs(level):
    """HiGHS called these unbounded while the noise was in a unit of its own size."""
    for levels in ([level], [level, 10.0], [level, 0.0, INF]):
        estimation = MeanEstimation(levels)
        solution = estimation.solve("highspy")
        assert solution.objective == pytest.approx(estimation.closed_form().bayes_risk, abs=1e-8)


# ------------------------------------------------------------ definitions and prices


@pytest.mark.parametrize("levels", FAMILY[:30], ids=str)
def test_audit_by_densities(levels):
    estimation = MeanEstimation(levels)
    for answer in (estimation.solve(), estimation.closed_form()):
        audit = estimation.audit(answer)
        assert audit.ok(1e-12)
        assert audit.bayes_risk == pytest.approx(
            risk_by_outcomes(answer["weights"], answer["noise_scale"]), abs=1e-15
        )
    # Limits bind for users that are not saturated: they are told apart from the others by the definition.
    limited = np.isfinite(levels) & ~estimation.saturated
    np.testing.assert_allclose(audit.epsilon[limited], levels[limited], rtol=1e-12)


def test_audit_finds_what_is_wrong():
    estimation = MeanEstimation([0.5, 1.0, 0.0])
    answer = {"weights": np.array([0.1, -0.05, 0.0]), "noise_scale": 0.1}
    audit = estimation.audit(answer)
    np.testing.assert_allclose(audit.epsilon, [1.0, 0.5, 0.0])
    np.testing.assert_allclose(audit.excess, [0.5, 0.0, 0.0])
    assert audit.worst == 0
    assert not audit.ok(0.4)
    assert audit.risk_gap == 0
    assert not estimation.audit(estimation.solve().values | {"bayes_risk": 0.01}).ok()
    silent = estimation.audit({"weights": [0.1, 0.0, 0.0], "noise_scale": 0.0})
    assert silent.epsilon.tolist() == [INF, 0, 0]
    assert not silent.ok()
    many = MeanEstimation(10 ** RNG(2).uniform(-1, 1, 40))
    assert many.audit(many.solve()).ok(1e-12)
    worse = many.closed_form().weights.copy()
    worse[7] *= 1.01
    assert many.audit({"weights": worse, "noise_scale": many.closed_form().noise_scale}).worst == 7


def test_price_of_privacy_is_the_derivative_of_the_risk():
    levels = np.array([0.3, 1.0, 2.5, 60.0])
    estimation = MeanEstimation(levels)
    solution = estimation.solve()
    per_level = solution.dual("privacy") * float(solution["noise_scale"])
    for user in range(4):
        step = np.eye(4)[user] * 1e-5
        risks = [closed_form.closed_form(levels + sign * step).bayes_risk for sign in (1, -1)]
        assert per_level[user] == pytest.approx((risks[0] - risks[1]) / 2e-5, abs=1e-9)
    assert per_level[3] == 0  # saturated


def test_constraints_of_users():
    estimation = MeanEstimation([0.5, 2.0, INF])
    base = estimation.solve()
    program = estimation.program()
    program.add("slack", program["noise_scale"] <= 1.0)
    loose = program.solve("clarabel")
    assert loose.objective == pytest.approx(base.objective, abs=1e-9)
    assert float(loose.dual("slack")) == pytest.approx(0, abs=1e-7)
    objective = {}
    for cap in (0.0999, 0.1, 0.1001):
        program = estimation.program()
        program.add("cap", program["weights"] <= cap)
        solution = program.solve("clarabel", tolerance=1e-9)
        objective[cap] = solution.objective
        if cap == 0.1:
            price = float(solution.dual("cap").sum())
    assert objective[0.1] > base.objective
    assert price == pytest.approx((objective[0.1001] - objective[0.0999]) / 2e-4, rel=1e-4)
    # An unbiased estimator may be asked for, too; without noise, nothing is lost by equal weights.
    free = MeanEstimation([INF] * 4).program()
    free.add("unbiased", free["total_weight"] == 1)
    np.testing.assert_allclose(free.solve("clarabel")["weights"], 0.25, atol=1e-6)
    # A contrast needs a negative weight, which the other side of the limit then holds.
    contrast = MeanEstimation([1.0, 1.0]).program()
    contrast.add("contrast", contrast["weights"][0] <= -0.05)
    solution = contrast.solve("clarabel")
    assert float(solution["noise_scale"]) == pytest.approx(0.05, abs=1e-6)
    assert solution.dual("privacy_of_negative")[0] < -1e-3


# ------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([], "privacy_levels is empty"),
        ([1.0, -0.5], r"privacy_levels\[1\] = -0.5 must lie in \[0, inf\]"),
        ([np.nan], r"privacy_levels\[0\] = nan must lie in \[0, inf\]"),
        ([1.0, 1e101], r"privacy_levels\[1\] = 1e\+101 .* write inf"),
        ([-INF], r"privacy_levels\[0\] = -inf"),
        ([[1.0]], "privacy_levels must be one-dimensional"),
        (["a"], "privacy_levels must be numbers"),
    ],
)
def test_bad_levels(levels, message):
    with pytest.raises(mo.InvalidInput, match=message):
        MeanEstimation(levels)
    with pytest.raises(mo.InvalidInput, match=message):
        utility_of_counts(levels, [1] * len(levels))


def test_other_bad_input():
    estimation = MeanEstimation([1.0, 2.0])
    for coalition, message in (
        ([2], r"coalition\[0\] = 2; users are numbered 0 to 1"),
        ([-1], "users are numbered"),
        ([0, 0], r"coalition\[1\] names user 0 a second time"),
        (np.array([True]), r"shape \(2,\)"),
        ([0.5], "users are numbered"),
        ("ab", r"coalition\[0\] = 'a'; users are numbered"),
        (1, r"a list of users such as \[0, 2\], got 1"),
    ):
        with pytest.raises(mo.InvalidInput, match=message):
            estimation.utility(coalition)
    for answer, message in (
        ({}, "needs 'weights'"),
        ({"weights": [0, 0]}, "needs 'noise_scale'"),
        ({"weights": [0], "noise_scale": 1}, r"weights has shape \(1,\)"),
        ({"weights": [0, 0], "noise_scale": -1}, "noise_scale must be one finite number >= 0, got -1"),
    ):
        with pytest.raises(mo.InvalidInput, match=message):
            estimation.audit(answer)
    for sizes, message in (([1], "group_sizes has 1 entries for 2"), ([1, -1], r"group_sizes\[1\] must be")):
        with pytest.raises(mo.InvalidInput, match=message):
            utility_of_counts([1.0, 2.0], sizes)
    with pytest.raises(mo.InvalidInput, match="n_users must be a whole number >= 1"):
        utility_of_counts([1.0], [0])
    with pytest.raises(mo.InvalidInput, match="no options"):
        estimation.solve(eps=1)
    with pytest.raises(KeyError, match="there are weights"):
        estimation.closed_form()["weight"]
