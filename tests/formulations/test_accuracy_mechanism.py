"""Mechanisms that pay with models, as games: rewards, best responses, equilibria and their regret."""

from __future__ import annotations

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.accuracy_shaping import (
    AccuracyShaping,
    Mechanism,
    StandardMechanism,
    UserMechanism,
    closed_form,
)
from mechopt.formulations.functions import GeneralizationBound, SqrtAccuracy
from tests.oracles import accuracy as oracle

UNIT = SqrtAccuracy(max_accuracy=1.0, difficulty=1.0)
THREE = [0.01, 0.02, 0.05]


def random_shaping(rng, kind="sqrt", n_agents=None, low=-1.5, high=1.5, seed_data=0.0):
    accuracy, costs = oracle.family_f(rng, kind, n_agents, low, high)
    return AccuracyShaping(accuracy, costs, seed_data=seed_data)


# ------------------------------------------------------------------ input


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ([1.0, 2.0], r"contributions has shape \(2,\); give one for each of 3 agents"),
        (1.0, r"contributions has shape \(\)"),
        ([1.0, -2.0, 0.0], r"contributions\[1\] = -2 must be finite and >= 0"),
        ([1.0, 2.0, np.nan], r"contributions\[2\] = nan"),
    ],
)
def test_bad_profiles_are_named(profile, message):
    mechanism = AccuracyShaping(UNIT, THREE).mechanism()
    for use in (mechanism.reward, mechanism.utility, mechanism.best_response, mechanism.regret):
        with pytest.raises(mo.InvalidInput, match=message):
            use(profile)


def test_bad_arguments_are_named():
    shaping = AccuracyShaping(UNIT, THREE)
    with pytest.raises(mo.InvalidInput, match=r"incentive_margin must be a finite number >= 0, got -0\.1"):
        shaping.mechanism(-0.1)
    with pytest.raises(mo.InvalidInput, match="incentive_margin"):
        shaping.equilibria(np.nan)
    mechanism = shaping.mechanism()
    with pytest.raises(mo.InvalidInput, match="method must be 'exact' or 'grid'"):
        mechanism.regret([0, 0, 0], "guess")
    with pytest.raises(mo.InvalidInput, match="method must be 'best response' or 'complementarity'"):
        mechanism.find_equilibrium(method="guess")
    with pytest.raises(mo.InvalidInput, match="sense must be"):
        mechanism.equilibrium_program("middle")
    with pytest.raises(mo.InvalidInput, match="a start must be 'zero', 'above' or a profile, got 'below'"):
        mechanism.find_equilibrium("below")
    with pytest.raises(mo.InvalidInput, match=r"contributions has shape \(2,\)"):
        mechanism.find_equilibrium([1.0, 2.0])
    with pytest.raises(mo.InvalidInput, match=r"others_data must be finite and >= 0"):
        mechanism.max_incentivized_contribution(-1.0)
    with pytest.raises(mo.InvalidInput, match="more than 2000000; take fewer"):
        mechanism.least_regret(200)
    with pytest.raises(mo.InvalidInput, match=r"contributions\[\(1, 0\)\] = -1"):
        mechanism.reward([[0, 0, 0], [-1, 0, 0]])
    with pytest.raises(mo.InvalidInput, match=r"contributions has shape \(1, 3\)"):
        mechanism.regret([[0, 0, 0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": 1.0}, "rule must be callable"),
        ({"costs": [0.0]}, r"marginal_costs\[0\] = 0 must be positive"),
        ({"limits": [1.0, 2.0]}, "limits has 2 entries for 1 agents"),
    ],
)
def test_bad_user_mechanisms_are_named(arguments, message):
    with pytest.raises(mo.InvalidInput, match=message):
        UserMechanism(**{"rule": lambda m: m, "costs": [0.1], **arguments})


def test_rules_must_be_told_where_the_agents_are():
    game = UserMechanism(lambda m: m.sum(), [0.1, 0.1])
    with pytest.raises(mo.InvalidInput, match=r"rule returned shape \(\) .* sum with axis=-1"):
        game.reward([1.0, 2.0])


# ------------------------------------------------------------------ the rewards


@pytest.mark.parametrize("kind", oracle.ACCURACIES)
def test_rewards_are_those_of_the_definition_feasible_and_individually_rational(kind):
    rng = np.random.default_rng(1)
    for _ in range(4):
        shaping = random_shaping(rng, kind, 4, seed_data=float(rng.choice([0.0, 5.0])))
        accuracy, costs = shaping.accuracy, shaping.marginal_costs
        margin = float(rng.choice([0.0, 1e-3])) * costs.min()
        mechanism = shaping.mechanism(margin)
        profiles = rng.uniform(0, 1.2, (40, 4)) * mechanism.contribution_limit * rng.integers(0, 2, (40, 4))
        rewards = mechanism.reward(profiles)
        total = shaping.seed_data + profiles.sum(axis=1, keepdims=True)
        assert np.all(rewards <= accuracy(total) + 1e-15)
        assert np.all(rewards >= accuracy(profiles) - 1e-12)
        starts = shaping.standalone().contribution
        for profile, reward, pool in zip(profiles[:10], rewards, total[:, 0], strict=False):
            for i in range(4):
                expected = oracle.shaped_reward(accuracy, costs[i], starts[i], margin, profile[i], pool)
                assert reward[i] == pytest.approx(expected, abs=1e-15)
            np.testing.assert_array_equal(mechanism.reward(profile), reward)
        # More data are never worth less.
        assert np.all(mechanism.reward(1.1 * profiles) >= rewards - 1e-15)


def test_without_the_minimum_the_mechanism_would_promise_what_there_is_not():
    mechanism = AccuracyShaping(UNIT, [0.05, 0.05]).mechanism()
    profile = np.array([0.5, 3.0])
    assert 0.05 * 0.5 == 0.025 > float(UNIT(3.5)) == 0
    assert mechanism.reward(profile)[0] == 0


def test_how_far_agents_are_led_is_the_largest_of_the_roots():
    rng = np.random.default_rng(2)
    several = 0
    for hard in (False, True) * 40:
        shaping = random_shaping(rng, "sqrt", 1, **({"low": 0.01, "high": 0.5} if hard else {}))
        margin = 1e-4 * float(shaping.marginal_costs[0])
        mechanism = shaping.mechanism(margin)
        alone, cost = float(shaping.standalone().contribution[0]), float(shaping.marginal_costs[0])
        others = float(10 ** rng.uniform(-0.5, 0 if hard else 1) * shaping.accuracy.min_viable_data)
        found = float(mechanism.max_incentivized_contribution(others)[0])
        amounts = alone + np.linspace(0, 1, 40001) * (shaping.accuracy.max_accuracy / cost)
        line = float(shaping.accuracy(alone)) + (cost + margin) * (amounts - alone)
        left = shaping.accuracy(amounts + others) - line
        last = amounts[np.flatnonzero(left >= -1e-15)[-1]]
        assert last * (1 - 1e-9) <= found <= last + 1.01 * (amounts[1] - amounts[0])
        several += np.count_nonzero(np.diff(left > 1e-14)) >= 2
    assert several >= 5
    mechanism = AccuracyShaping(UNIT, [0.01, 0.1]).mechanism(1e-4)
    np.testing.assert_array_equal(
        mechanism.max_incentivized_contribution(0.0), mechanism.shaping.standalone().contribution
    )
    assert mechanism.max_incentivized_contribution([[0.0], [5.0], [50.0]]).shape == (3, 2)


# ------------------------------------------------------------------ best responses and regret


@pytest.mark.parametrize("kind", oracle.ACCURACIES)
def test_best_responses_are_best(kind):
    """Against search over the game's utilities, and against the oracle's own game."""
    rng = np.random.default_rng(3)
    for _ in range(5):
        shaping = random_shaping(rng, kind, 3, seed_data=float(rng.choice([0.0, 10.0])))
        margin = float(10 ** rng.uniform(-6, 0)) * shaping.marginal_costs.min()
        for mechanism in (shaping.mechanism(margin), shaping.standard_mechanism()):
            limit = mechanism.contribution_limit
            profile = rng.uniform(0, 1, 3) ** 3 * limit
            exact = mechanism.regret(profile)
            assert exact >= mechanism.regret(profile, "grid") - 1e-14
            assert exact == pytest.approx(
                mechanism.regret(profile, "grid"), abs=1e-3 * limit.max() * margin + 1e-6
            )
            tried = oracle_regret(shaping, mechanism, margin, profile)
            assert exact >= tried - 1e-12
            assert exact == pytest.approx(tried, abs=5e-3)
            # Having responded, one stays.
            response = mechanism.best_response(profile)
            for i in range(3):
                changed = profile.copy()
                changed[i] = response[i]
                assert mechanism.best_response(changed)[i] == pytest.approx(response[i], rel=1e-9)


def oracle_regret(shaping, mechanism, margin, profile):
    accuracy, costs = shaping.accuracy, shaping.marginal_costs
    if not isinstance(mechanism, StandardMechanism):
        return oracle.shaped_regret(accuracy, costs, margin, profile, shaping.seed_data, 300)
    worst = 0.0
    for i, cost in enumerate(costs):
        others = shaping.seed_data + profile.sum() - profile[i]
        tried = np.linspace(0, accuracy.max_accuracy / cost, 2000)
        utility = accuracy(others + profile[i]) - cost * profile[i]
        worst = max(worst, float(np.max(accuracy(others + tried) - cost * tried) - utility))
    return worst


def test_beyond_what_the_margin_allows_a_pool_may_still_be_worth_it():
    """Just before a hard problem becomes viable, the line with the margin misses the pool's accuracy."""
    shaping = AccuracyShaping(UNIT, [0.05])
    others = 1.00001 * closed_form.least_pool_of_seed(0.05, UNIT)
    mechanism = shaping.mechanism(1e-3)
    assert mechanism.max_incentivized_contribution(others)[0] == 0
    seeded = AccuracyShaping(UNIT, [0.05], seed_data=others).mechanism(1e-3)
    response = float(seeded.best_response([0.0])[0])
    assert response == pytest.approx(float(UNIT.inverse_derivative(0.05)) - others, rel=1e-9)
    assert 0 < seeded.regret([0.0]) == pytest.approx(float(seeded.utility([response])[0]), rel=1e-9)
    assert seeded.regret([0.0], "grid") == pytest.approx(seeded.regret([0.0]), rel=1e-3)


def test_responses_never_fall_when_others_give_more():
    rng = np.random.default_rng(4)
    for _ in range(20):
        mechanism = random_shaping(rng, "sqrt", 4).mechanism(1e-5)
        others = np.sort(10 ** rng.uniform(-1, 4, 30))[:, np.newaxis]
        led = mechanism.max_incentivized_contribution(others)
        assert np.all(np.diff(led, axis=0) >= -1e-10 * led[-1])
        assert np.all(
            led
            <= closed_form.contribution_ceiling(mechanism.marginal_costs, mechanism.shaping.accuracy)
            * (1 + 1e-12)
        )


# ------------------------------------------------------------------ equilibria of the shaped mechanism


def test_the_example_in_numbers():
    shaping = AccuracyShaping(UNIT, THREE)
    for margin, total in ((0.0, 89.38760), (1e-6, 89.38342), (1e-3, 85.55419)):
        (root,) = shaping.equilibria(margin)
        assert root.kind == "upper"
        assert root.total_data == pytest.approx(total, abs=5e-6)
        assert root.regret <= 1e-8
        for start in ("zero", "above", [3.0, 100.0, 0.0]):
            found = shaping.mechanism(margin).find_equilibrium(start)
            assert found
            assert found.total_data == pytest.approx(root.total_data, rel=1e-11)
            assert found.regret <= 1e-8
        # Theorem 4.6, and what the margin adds.
        more = root.contribution - shaping.standalone().contribution
        np.testing.assert_allclose(root.utility, shaping.standalone().utility + margin * more, atol=1e-12)


def test_the_equilibrium_is_unique_if_somebody_is_viable():
    rng = np.random.default_rng(5)
    n = 0
    while n < 60:
        shaping = random_shaping(rng, rng.choice(["sqrt", "bound", "power"]))
        if not shaping.standalone().viable.any():
            continue
        n += 1
        mechanism = shaping.mechanism(1e-3 * shaping.marginal_costs.min())
        (root,) = shaping.equilibria(mechanism.incentive_margin)
        below, above = mechanism.find_equilibrium("zero"), mechanism.find_equilibrium("above")
        np.testing.assert_allclose(
            below.contribution, above.contribution, rtol=1e-8, atol=1e-10 * above.total_data
        )
        np.testing.assert_allclose(
            root.contribution, above.contribution, rtol=1e-8, atol=1e-10 * above.total_data
        )
        assert max(below.regret, above.regret, root.regret) <= 1e-12
        assert np.all(root.contribution >= shaping.standalone().contribution * (1 - 1e-9))


def test_the_exact_total_is_the_limit_of_the_equilibria():
    rng = np.random.default_rng(6)
    for _ in range(10):
        shaping = random_shaping(rng, "sqrt", 5, high=0.0)
        most = shaping.solve().objective
        totals = [
            shaping.equilibria(m * shaping.marginal_costs.min())[-1].total_data for m in (1e-2, 1e-4, 1e-6)
        ]
        assert totals[0] < totals[1] < totals[2] < most
        assert totals[2] == pytest.approx(most, rel=1e-4)


def test_no_other_equilibrium_of_a_feasible_rational_mechanism_collects_more():
    """Theorem 4.2, against the standard mechanism and mixtures of it with the models of one's own data."""
    rng = np.random.default_rng(7)
    for _ in range(4):
        shaping = random_shaping(rng, "sqrt", 2, low=-1.5, high=0.0)
        most = shaping.solve()["contribution"]
        for weight in (0.0, 0.5, 1.0):

            def rule(m, weight=weight, a=shaping.accuracy):
                return weight * a(m) + (1 - weight) * a(m.sum(axis=-1, keepdims=True)) + 0 * m

            found = UserMechanism(rule, shaping.marginal_costs).find_equilibrium(tolerance=1e-7)
            assert found.found
            assert np.all(found.contribution <= most * (1 + 1e-3))


def test_all_equilibria_of_a_hard_problem():
    hard = AccuracyShaping(UNIT, [0.1, 0.1, 0.1])
    found = hard.equilibria()
    assert [record.kind for record in found] == ["zero", "lower", "upper"]
    np.testing.assert_allclose([record.total_data for record in found], [0, 6.54234, 13.91600], atol=5e-6)
    # The lower one at .05 is none: with any margin, agents go on.
    other = AccuracyShaping(UNIT, [0.05, 0.05])
    assert [record.kind for record in other.equilibria()] == ["zero", "upper"]
    lower = np.full(2, 5.32195 / 2)
    assert other.mechanism(1e-4).regret(lower) > 1e-4
    assert AccuracyShaping(UNIT, [0.1, 0.1]).equilibria()[0].kind == "zero"
    assert len(AccuracyShaping(UNIT, [0.1, 0.1]).equilibria()) == 1
    # Both roots in one.
    assert [record.kind for record in AccuracyShaping(UNIT, [2 / 27, 2 / 27]).equilibria()] == [
        "zero",
        "upper",
    ]


def test_which_lower_roots_are_equilibria():
    """Those where the pool's accuracy is flatter than the least cost; by regret at a small margin."""
    rng = np.random.default_rng(8)
    kinds = {True: 0, False: 0}
    for _ in range(277):
        shaping = random_shaping(rng, "sqrt", low=0.01, high=0.8)
        costs = shaping.marginal_costs
        margin = 1e-7 * costs.min()
        pools = shaping.equilibria(margin)
        for record in pools:
            assert record.regret <= 1e-12
        if pools[-1].kind != "upper":
            continue
        listed = any(record.kind == "lower" for record in pools)
        rate = np.sum(1 / (costs + margin))

        low, peak = shaping.accuracy.min_viable_data, float(shaping.accuracy.inverse_derivative(1 / rate))
        grid = np.linspace(low, peak, 20001)
        root = grid[int(np.argmax(rate * shaping.accuracy.concave_part(grid) >= grid))]
        kinds[listed] += 1
        assert listed == (float(shaping.accuracy.concave_part_derivative(root)) <= costs.min() + margin)
        if not listed:
            # There, an agent gains the margin times what it is led further.
            profile = float(shaping.accuracy(root)) / (costs + margin)
            assert shaping.mechanism(margin).regret(profile) > 1e-12
    assert min(kinds.values()) >= 10


def test_the_lower_equilibrium_is_not_stable():
    hard = AccuracyShaping(UNIT, [0.1, 0.1, 0.1])
    mechanism = hard.mechanism(1e-6)
    lower = hard.equilibria(1e-6)[1]
    up, down = (mechanism.find_equilibrium(lower.contribution * f) for f in (1.001, 0.999))
    assert up.total_data == pytest.approx(hard.equilibria(1e-6)[2].total_data, rel=1e-9)
    assert down.total_data == 0
    assert up.found
    assert down.found


def test_little_seed_data_does_not_remove_the_zero_equilibrium():
    least = closed_form.least_pool_of_seed(0.05, UNIT)
    assert least == pytest.approx(2.10419, abs=5e-6)
    for seed, kinds in ((2.083, ["zero", "upper"]), (2.125, ["upper"])):
        shaping = AccuracyShaping(UNIT, [0.05] * 10, seed_data=seed)
        assert [record.kind for record in shaping.equilibria()] == kinds
        reached = shaping.mechanism(1e-9).find_equilibrium("zero")
        assert reached.total_data == pytest.approx(seed if "zero" in kinds else 171.58876, rel=1e-6)
    for cost in (0.05, 0.1, 0.2, 1.0):
        least = closed_form.least_pool_of_seed(cost, UNIT)
        for factor, stays in ((0.9999, True), (1.0001, False)):
            shaping = AccuracyShaping(UNIT, [cost, 2 * cost], seed_data=factor * least)
            assert (shaping.equilibria()[0].kind == "zero") == stays
    assert closed_form.least_pool_of_seed(0.01, UNIT) == 0


def test_zero_and_upper_equilibrium_leave_the_same_utility():
    """Remark 4.4 calls the one without data worse; the difference vanishes with the margin."""
    zero, upper = AccuracyShaping(UNIT, [0.05, 0.05]).equilibria(1e-6)
    np.testing.assert_allclose(upper.utility, 1e-6 * upper.contribution, atol=1e-14)
    assert not zero.utility.any()


def test_the_mechanism_is_not_truthful():
    """A true cost of .01 among five of .02: whoever reports more gets the same model for less data."""
    utilities = []
    for report in (0.01, 0.02, 0.03):
        found = AccuracyShaping(UNIT, [report, *[0.02] * 5]).solve()
        utilities.append(float(found["accuracy"] - 0.01 * found["contribution"][0]))
    np.testing.assert_allclose(utilities, [0.3537, 0.5225, 0.5935], atol=5e-5)


# ------------------------------------------------------------------ as a complementarity program


@pytest.mark.parametrize("backend", ["pyomo:scip", "pyomo:pounce"])
def test_equilibria_by_complementarity(backend):
    rng = np.random.default_rng(9)
    for _ in range(3):
        shaping = random_shaping(rng, "sqrt", 3, low=-1.0, high=0.0)
        margin = 1e-3 * shaping.marginal_costs.min()
        found = shaping.mechanism(margin).find_equilibrium(
            method="complementarity", backend=backend, time_limit=20
        )
        assert found.found
        assert found.regret <= 1e-6
        assert found.total_data == pytest.approx(shaping.equilibria(margin)[-1].total_data, rel=1e-6)


def test_complementarity_finds_both_ends():
    hard = AccuracyShaping(UNIT, [0.1, 0.1, 0.1])
    mechanism = hard.mechanism(1e-6)
    _, lower, upper = hard.equilibria(1e-6)
    for sense, record in (("largest", upper), ("smallest", lower)):
        found = mechanism.find_equilibrium(method="complementarity", sense=sense, time_limit=20)
        assert found.found
        assert found.total_data == pytest.approx(record.total_data, rel=1e-6)
    program = mechanism.equilibrium_program()
    assert set(program.families) == {"pool", "accuracy_of_pool", "best_response"}
    assert mo.Capability.COMP in program.requires()
    # The lower root at .05 meets the first-order conditions, and its regret gives it away.
    other = AccuracyShaping(UNIT, [0.05, 0.05]).mechanism(1e-5)
    found = other.find_equilibrium(method="complementarity", sense="smallest", time_limit=20)
    assert found.total_data == pytest.approx(5.32195, rel=1e-3)
    assert not found.found
    assert found.reason.startswith("no equilibrium found, regret")
    nobody = (
        AccuracyShaping(UNIT, [0.1, 0.1])
        .mechanism()
        .find_equilibrium(method="complementarity", time_limit=20)
    )
    assert nobody.found
    assert nobody.total_data == 0
    assert "no pool that pays for itself" in nobody.reason


def test_complementarity_needs_an_expression():
    mechanism = AccuracyShaping(GeneralizationBound(0.95, 10.0), [1e-3, 1e-3]).mechanism()
    with pytest.raises(mo.NotApplicable, match="GeneralizationBound has no CVXPY expression"):
        mechanism.equilibrium_program()


# ------------------------------------------------------------------ games without equilibrium


@pytest.mark.parametrize(
    ("build", "points", "regret"), [(oracle.cycling_pair, 300, 0.018), (oracle.cycling_trio, 100, 0.0147)]
)
def test_theorem_3_3_is_false_as_stated(build, points, regret):
    rule, costs = build()
    game = UserMechanism(rule, costs)
    least, profile = game.least_regret(points)
    assert least == pytest.approx(regret, abs=1.5e-3)
    # Off the grid it does not get better: the regret changes by at most the slopes times half a cell.
    assert game.regret(profile) >= least - 1e-9
    rng = np.random.default_rng(10)
    near = profile + rng.uniform(-1, 1, (30, costs.size)) * game.contribution_limit / points
    assert min(game.regret(np.maximum(p, 0), "grid") for p in near) > 0.7 * regret
    found = game.find_equilibrium()
    assert not found
    assert found.regret > regret
    assert "best responses cycle with period 2" in found.reason


def test_the_counterexamples_meet_the_assumptions():
    """Feasible, continuous, concave in one's own data where the reward is positive; the trio is IR too."""
    rng = np.random.default_rng(11)
    for build, rational in ((oracle.cycling_pair, False), (oracle.cycling_trio, True)):
        rule, costs = build()
        game = UserMechanism(rule, costs)
        profiles = rng.uniform(0, 1, (4000, costs.size)) ** 2 * game.contribution_limit
        rewards = game.reward(profiles)
        assert np.all(rewards <= UNIT(profiles.sum(axis=1, keepdims=True)) + 1e-12)
        assert np.all(rewards >= UNIT(profiles) - 1e-12) or not rational
        for agent in range(costs.size):
            steps = np.linspace(0, game.contribution_limit[agent], 300)
            for profile in profiles[:20]:
                line = np.repeat(profile[np.newaxis], 300, axis=0)
                line[:, agent] = steps
                own = game.reward(line)[:, agent]
                inside = np.flatnonzero(own > 0)
                assert np.max(np.diff(own[inside], 2), initial=0.0) <= 1e-12
                assert np.max(np.abs(np.diff(own))) <= 0.4


def test_a_grid_shrinks_the_least_regret_where_there_is_an_equilibrium():
    game = UserMechanism(lambda m: m / (1 + m.sum(axis=-1, keepdims=True)), [0.2, 0.2], limits=[4.0, 4.0])
    regrets = [game.regret(game.least_regret(points)[1]) for points in (11, 101, 1001)]
    assert regrets[0] > regrets[1] > regrets[2] > 0
    assert regrets[2] <= 1e-5
    found = game.find_equilibrium([1.0, 3.0])
    # (1 + m) / (1 + 2 m)^2 = .2
    np.testing.assert_allclose(found.contribution, (1 + np.sqrt(65)) / 8, rtol=1e-3)
    assert found.regret <= 1e-8


def test_mechanisms_can_be_derived():
    class OwnModel(Mechanism):
        marginal_costs = np.array([0.01, 0.02])
        contribution_limit = np.array([100.0, 50.0])

        def reward(self, contributions):
            return UNIT(contributions)

    found = OwnModel().find_equilibrium()
    np.testing.assert_allclose(
        found.contribution, AccuracyShaping(UNIT, [0.01, 0.02]).standalone().contribution, rtol=1e-3
    )
    assert OwnModel().regret(AccuracyShaping(UNIT, [0.01, 0.02]).standalone().contribution) <= 1e-12
    assert found.rounds == 2


def test_a_hurried_search_says_so():
    mechanism = AccuracyShaping(UNIT, THREE).mechanism(1e-3)
    found = mechanism.find_equilibrium("zero", max_rounds=2)
    assert not found
    assert "best responses still change after 2 rounds" in found.reason
    # Of several starts, the best that was met.
    several = mechanism.find_equilibrium(["zero", "above", [43.0, 30.0, 15.0]], max_rounds=2)
    assert several.regret < found.regret
    rule, costs = oracle.cycling_pair()
    assert (
        "still change after 1 rounds"
        in UserMechanism(rule, costs).find_equilibrium("zero", max_rounds=1).reason
    )
