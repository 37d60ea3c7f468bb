"""Accuracy shaping: the declared programs, the closed forms and the exact algorithm, against each other."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import brentq

import mechopt as mo
from mechopt.formulations.accuracy_shaping import AccuracyShaping, closed_form, exact
from mechopt.formulations.functions import (
    GeneralizationBound,
    PowerLawAccuracy,
    SqrtAccuracy,
    TabulatedAccuracy,
)
from tests.oracles import accuracy as oracle

UNIT = SqrtAccuracy(max_accuracy=1.0, difficulty=1.0)
THREE = [0.01, 0.02, 0.05]


def three(**parameters):
    return AccuracyShaping(UNIT, THREE, **parameters)


# ------------------------------------------------------------------ input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"marginal_costs": [0.1, 0.0]}, r"marginal_costs\[1\] = 0 must be positive and finite: zero cost"),
        ({"marginal_costs": [0.1, -0.2]}, r"marginal_costs\[1\] = -0.2 must be positive"),
        ({"marginal_costs": [np.nan]}, r"marginal_costs\[0\] = nan must be positive and finite"),
        ({"marginal_costs": [0.1, np.inf]}, r"marginal_costs\[1\] = inf must be positive and finite"),
        ({"marginal_costs": []}, "marginal_costs is empty"),
        ({"marginal_costs": [[0.1]]}, r"marginal_costs must be one-dimensional, got shape \(1, 1\)"),
        ({"marginal_costs": ["a"]}, "marginal_costs must be numbers"),
        ({"seed_data": -1.0}, "seed_data must be a finite number >= 0, got -1.0"),
        ({"seed_data": np.inf}, "seed_data must be a finite number >= 0"),
        ({"accuracy": mo.LogGain(1.0, 1.0)}, "accuracy must be an AccuracyFunction such as mo.SqrtAccuracy"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(mo.InvalidInput, match=message):
        AccuracyShaping(**{"accuracy": UNIT, "marginal_costs": [0.1], **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subsidy_budget": -1}, "subsidy_budget must be a finite number >= 0"),
        ({"subsidy_budget": 1, "balanced_transfers": True}, "exclude each other"),
        ({"quadratic_costs": [1e-4, 1e-4]}, "quadratic_costs has 2 entries for 3 agents"),
        ({"quadratic_costs": [1e-4, -1e-4, 0]}, r"quadratic_costs\[1\] = -0.0001 must be >= 0"),
        ({"privacy_costs": np.nan}, r"privacy_costs\[0\] is nan"),
    ],
)
def test_bad_options_of_the_program_are_named(arguments, message):
    with pytest.raises(mo.InvalidInput, match=message):
        three().program(**arguments)


def test_bad_options_of_solve_are_refused():
    with pytest.raises(mo.InvalidInput, match="backend 'exact' has no options, got presolve"):
        three().solve(presolve=True)
    with pytest.raises(mo.InvalidInput, match="on_failure"):
        three().solve(on_failure="ignore")
    with pytest.raises(mo.InvalidInput, match="tolerance"):
        three().solve(tolerance=2.0)
    with pytest.raises(mo.InvalidInput, match="tie must be"):
        three().standalone("maybe")
    with pytest.raises(mo.BackendUnavailable, match="clarabel"):
        three().solve("claribel")


# ------------------------------------------------------------------ alone


@pytest.mark.parametrize("kind", oracle.ACCURACIES)
def test_standalone_is_the_best_of_all_amounts(kind):
    rng = np.random.default_rng(1)
    for _ in range(6):
        accuracy, costs = oracle.family_f(rng, kind, 8)
        found = AccuracyShaping(accuracy, costs).standalone()
        for i, cost in enumerate(costs):
            amount, utility = oracle.alone(accuracy, float(cost))
            assert found.utility[i] == pytest.approx(utility, abs=1e-9)
            assert found.viable[i] == (utility > 0)
            # The search sees utilities only, whose top is flat: half of the digits.
            assert found.contribution[i] == pytest.approx(amount, rel=1e-4)
        order = np.argsort(costs)
        assert np.all(np.diff(found.utility[order]) <= 1e-12)
        assert np.all(np.diff(found.contribution[order]) <= 1e-9 * found.contribution.max())


def test_the_envelope_of_standalone_utility_is_minus_the_data():
    costs, step = np.geomspace(1e-3, 0.03, 9), 1e-6
    rises = [AccuracyShaping(UNIT, costs * (1 + s)).standalone().utility for s in (step, -step)]
    found = AccuracyShaping(UNIT, costs).standalone().contribution
    np.testing.assert_allclose((rises[0] - rises[1]) / (2 * step * costs), -found, rtol=1e-6)


def test_example_2_4():
    top, k = 0.9, 7.0
    accuracy = SqrtAccuracy(top, k)
    costs = closed_form.viability_cost(accuracy) * np.array([0.01, 0.5, 1.001])
    found = AccuracyShaping(accuracy, costs).standalone()
    np.testing.assert_allclose(found.contribution[:2], k ** (1 / 3) * costs[:2] ** (-2 / 3), rtol=1e-12)
    np.testing.assert_allclose(found.utility[:2], top - 3 * np.cbrt(k * costs[:2]), rtol=1e-11)
    assert found.contribution[2] == found.utility[2] == 0
    assert closed_form.viability_cost(accuracy) == pytest.approx(top**3 / (27 * k), rel=1e-14)


def test_at_the_tie_both_are_optimal():
    shaping = AccuracyShaping(SqrtAccuracy(0.9, 7.0), [0.9**3 / (27 * 7.0)])
    assert shaping.standalone().contribution.tolist() == [0.0]
    assert shaping.standalone("viable").contribution[0] == pytest.approx(9 * 7.0 / 0.81, rel=1e-9)
    assert shaping.standalone("viable").utility[0] == pytest.approx(0.0, abs=1e-12)


def test_closed_forms_of_what_agents_do_alone():
    rng = np.random.default_rng(2)
    for kind in ("sqrt", "power"):
        for _ in range(20):
            accuracy, costs = oracle.family_f(rng, kind)
            found = AccuracyShaping(accuracy, costs).standalone()
            contribution, utility = closed_form.standalone(accuracy, costs)
            np.testing.assert_allclose(found.contribution, contribution, rtol=1e-11)
            np.testing.assert_allclose(found.utility, utility, atol=1e-12)
            assert closed_form.viability_cost(accuracy) == pytest.approx(accuracy.viability_cost, rel=1e-11)


# ------------------------------------------------------------------ the most data: three roads


@pytest.mark.parametrize(("kind", "backend"), [("sqrt", "clarabel"), ("bound", "outer")])
def test_program_and_exact_algorithm_agree_on_family_f(kind, backend):
    """The first 75 instances of each kind that are not just at the verge of viability."""
    rng = np.random.default_rng(3)
    viable = 0
    for _ in range(75):
        accuracy, costs = oracle.family_f(rng, kind)
        shaping = AccuracyShaping(accuracy, costs)
        found, solved = shaping.solve(), shaping.solve(backend)
        total = oracle.largest_total(accuracy, costs) if viable < 20 or kind == "sqrt" else found.objective
        assert found.extra["not_viable"] == solved.extra.get("not_viable", False) == (not total)
        if found.extra["not_viable"]:
            assert found.objective == solved.objective == 0
            continue
        viable += 1
        assert found.status is solved.status is mo.Status.OPTIMAL
        assert solved.objective == pytest.approx(found.objective, rel=1e-6)
        # Alone, the total is a double root, where half of the digits are lost.
        assert total == pytest.approx(found.objective, rel=1e-6 if costs.size == 1 else 1e-8)
        np.testing.assert_allclose(found["utility"], shaping.standalone().utility, atol=1e-12)
        for answer, tolerance in ((found, 1e-8), (solved, 1e-6)):
            assert shaping.audit(answer).ok(tolerance)
            assert shaping.mechanism(0.0).regret(answer["contribution"]) <= tolerance
        if kind == "sqrt":
            form = shaping.closed_form()
            assert form.viable
            assert form.total_data == pytest.approx(found.objective, rel=1e-7 if costs.size == 1 else 1e-10)
            np.testing.assert_allclose(
                form.contribution, found["contribution"], rtol=1e-6, atol=1e-9 * form.total_data
            )
    assert viable > 40


@pytest.mark.parametrize("kind", ["power", "table", "user"])
def test_other_accuracies_agree_too(kind):
    rng = np.random.default_rng(4)
    for _ in range(8):
        accuracy, costs = oracle.family_f(rng, kind, low=-1.5, high=0.5)
        shaping = AccuracyShaping(accuracy, costs)
        found, total = shaping.solve(), oracle.largest_total(accuracy, costs)
        assert found.objective == pytest.approx(total or 0.0, rel=1e-7)
        assert shaping.solve("outer").objective == pytest.approx(found.objective, rel=1e-6)


def test_a_table_with_accuracy_from_the_first_point_on():
    """There is no least amount of data then, and the branch b >= 0 has the zero profile on it."""
    accuracy = TabulatedAccuracy([10, 20, 40], [0.4, 0.6, 0.7])
    assert accuracy.min_viable_data == 0
    for costs in ([0.03, 0.01], [0.005, 0.03, 0.2], [0.1, 0.1], [0.1], [0.06]):
        shaping = AccuracyShaping(accuracy, costs)
        found = shaping.solve()
        assert found.status is mo.Status.OPTIMAL
        assert found.objective == pytest.approx(shaping.solve("highspy").objective, rel=1e-9, abs=1e-9)
        assert shaping.mechanism(0.0).regret(found["contribution"]) <= 1e-12


def test_the_example_in_numbers():
    found = three().solve()
    assert found.objective == pytest.approx(89.38760, abs=5e-6)
    assert float(found["accuracy"]) == pytest.approx(0.78846, abs=5e-6)
    np.testing.assert_allclose(found["allocated_accuracy"], found["accuracy"])
    np.testing.assert_allclose(found["utility"], found["allocated_accuracy"] - found["cost"], rtol=1e-12)
    assert found["contribution"].sum() == pytest.approx(found.objective, rel=1e-13)
    assert mo.solve(three()).objective == found.objective


def test_the_audit_sees_what_is_wrong():
    shaping = three()
    found = dict(shaping.solve())
    assert shaping.audit(found).ok(1e-12)
    assert shaping.audit(shaping.closed_form()).ok(1e-9)
    more = {**found, "contribution": found["contribution"] + np.array([0.0, 1.0, 0.0])}
    assert shaping.audit(more).worst.agent == 1
    assert shaping.audit(more).ir_violation == pytest.approx(0.02)
    less = {**found, "allocated_accuracy": found["allocated_accuracy"] - np.array([0.0, 0.0, 0.01])}
    assert shaping.audit(less).worst.agent == 2
    assert shaping.audit(less).ir_violation == pytest.approx(0.01)
    # Accuracy that the pool does not have.
    promised = {"contribution": [50.0, 35.0, 18.0], "allocated_accuracy": [0.9, 0.9, 0.9]}
    assert not shaping.audit(promised).ok()
    with pytest.raises(mo.InvalidInput, match="an answer needs 'allocated_accuracy'"):
        shaping.audit({"contribution": [1, 2, 3]})
    with pytest.raises(mo.InvalidInput, match=r"contribution has shape \(2,\)"):
        shaping.audit({"contribution": [1, 2], "allocated_accuracy": [0.1, 0.1]})


def test_the_maximiser_is_the_same_for_all_positive_weights():
    rng = np.random.default_rng(5)
    for _ in range(6):
        accuracy, costs = oracle.family_f(rng, "sqrt", 6, high=0.0)
        shaping = AccuracyShaping(accuracy, costs)
        program = shaping.program()
        weights = 10 ** rng.uniform(-1, 1, 6)
        program.maximize(weights @ program["contribution"])
        solution = program.solve()
        assert solution.backend == "clarabel"
        # Seen through a flat objective: the weights of the ones are a hundredth of the others'.
        np.testing.assert_allclose(
            solution["contribution"], shaping.solve()["contribution"], rtol=2e-6, atol=1e-6 * 1 / costs.min()
        )


def test_units_and_names_of_agents_do_not_matter():
    rng = np.random.default_rng(6)
    accuracy, costs = oracle.family_f(rng, "sqrt", 9)
    base = AccuracyShaping(accuracy, costs).solve()
    order = rng.permutation(9)
    np.testing.assert_allclose(
        AccuracyShaping(accuracy, costs[order]).solve()["contribution"],
        base["contribution"][order],
        rtol=1e-12,
    )
    # Data in another unit: a thousand points are one.
    coarse = AccuracyShaping(SqrtAccuracy(accuracy.max_accuracy, accuracy.difficulty / 1000), 1000 * costs)
    np.testing.assert_allclose(coarse.solve()["contribution"], base["contribution"] / 1000, rtol=1e-11)


def test_one_agent_alone_gives_what_it_gives_alone():
    for accuracy in (UNIT, GeneralizationBound(0.95, 10.0), PowerLawAccuracy(1.0, 0.3)):
        for share in (0.01, 0.5, 0.999):
            shaping = AccuracyShaping(accuracy, [share * accuracy.viability_cost])
            expected = shaping.standalone().contribution
            np.testing.assert_allclose(shaping.solve()["contribution"], expected, rtol=1e-9)
    assert AccuracyShaping(UNIT, [0.1]).solve().objective == 0
    with pytest.raises(mo.InvalidInput, match="double root"):
        AccuracyShaping(UNIT, [0.01]).solve().dual("participation")


def test_next_to_a_double_root_half_of_the_digits_are_kept():
    """A cheap agent with ever costlier company: the pool exceeds its own data by ever less."""
    own = UNIT.inverse_derivative(0.01)
    steps = []
    for factor in (1e4, 1e6, 1e8, 1e10):
        shaping = AccuracyShaping(UNIT, [0.01, 0.01 * factor])
        assert shaping.mechanism(0.0).regret(shaping.solve()["contribution"]) <= 1e-8
        steps.append(shaping.solve().objective - own)
    # (M - m*)^2 |b''| / 2 = b(m*) c_1 / c_2
    curvature = 1.5 * own**-2.5
    expected = np.sqrt(2 * 0.01 * float(UNIT(own)) / curvature / (0.01 * np.array([1e4, 1e6, 1e8, 1e10])))
    np.testing.assert_allclose(steps[:3], expected[:3], rtol=0.02)
    assert abs(steps[3] - expected[3]) <= 1e-6


@pytest.mark.parametrize("kind", ["sqrt", "bound"])
def test_verge_of_viability(kind):
    rng = np.random.default_rng(7)
    for _ in range(30):
        accuracy, costs = oracle.family_f(rng, kind, 5, low=0.0)
        verge = costs * float(np.sum(1 / costs)) * accuracy.viability_cost
        for factor, viable in ((1 - 1e-9, True), (1 + 1e-9, False)):
            if verge.min() * factor <= accuracy.viability_cost:
                continue
            found = AccuracyShaping(accuracy, verge * factor).solve()
            assert found.extra["not_viable"] != viable
            if viable:
                # F is flat there: |M / M_0 - 1| ~ sqrt(1e-9).
                assert found.objective == pytest.approx(accuracy.viability_data, rel=2e-4)
                assert found.residuals["accuracy_hypograph"] <= 1e-12
    assert AccuracyShaping(UNIT, [2 / 27, 2 / 27]).solve().objective == pytest.approx(9, rel=1e-7)


@pytest.mark.parametrize("backend", ["clarabel", "outer"])
def test_at_the_verge_solvers_say_that_they_do_not_know(backend):
    """Or they do know: but no pool comes back as optimal where there is none."""
    for beyond in (1e-9, 1e-7, 1e-5, 1e-3):
        shaping = AccuracyShaping(UNIT, [2 / 27 * (1 + beyond)] * 2)
        solution = shaping.solve(backend, on_failure="return")
        assert solution.extra.get("not_viable", False) or not solution.status.ok
    inside = AccuracyShaping(UNIT, [2 / 27 * (1 - 1e-9)] * 2)
    assert inside.solve(backend).objective == pytest.approx(inside.solve().objective, rel=1e-5)


def test_problems_too_hard_for_one():
    rng = np.random.default_rng(8)
    for _ in range(300):
        accuracy, costs = oracle.family_f(rng, "sqrt", low=0.0)
        together = closed_form.viable_together(costs, accuracy)
        assert AccuracyShaping(accuracy, costs).solve().extra["not_viable"] == (not together)
        assert AccuracyShaping(accuracy, costs).closed_form().viable == together


@pytest.mark.parametrize("backend", [None, "exact", "clarabel", "outer", "scs"])
def test_where_no_pool_pays_for_itself_nobody_contributes(backend):
    hard = AccuracyShaping(UNIT, [0.1, 0.1])
    solution = hard.solve(backend)
    assert solution.status is mo.Status.OPTIMAL
    assert solution.reason.startswith("not_viable: ")
    assert solution.extra["not_viable"]
    assert solution.objective == 0
    assert not solution["contribution"].any()
    assert hard.solve(backend, on_failure="return").objective == 0
    with pytest.raises(mo.InvalidInput, match="nobody contributes"):
        solution.dual("participation")
    with pytest.raises(mo.Infeasible) as caught:
        hard.program().solve(backend)
    assert set(caught.value.families) == {"participation", "feasibility", "accuracy_hypograph"}


def test_seed_data():
    hard = [0.05] * 10
    for seed, total in ((0.0, None), (2.125, 171.58876), (50.0, None)):
        shaping = AccuracyShaping(UNIT, hard, seed_data=seed)
        found = shaping.solve()
        assert found.objective == pytest.approx(oracle.largest_total(UNIT, np.array(hard), seed), rel=1e-9)
        assert found.objective == pytest.approx(shaping.solve("clarabel").objective, rel=1e-7)
        assert found.objective == pytest.approx(shaping.closed_form().total_data, rel=1e-12)
        assert found["contribution"].sum() == pytest.approx(found.objective - seed, rel=1e-12)
        assert total is None or found.objective == pytest.approx(total, rel=1e-7)
    # An agent that is too costly even for the seed, and one that is not.
    assert AccuracyShaping(UNIT, [5.0], seed_data=3.0).solve().objective == 3.0
    assert AccuracyShaping(UNIT, [5.0], seed_data=3.0).closed_form().total_data == 3.0
    found = AccuracyShaping(UNIT, [5.0], seed_data=16.0).solve()
    assert found.objective == pytest.approx(16 + 0.5 / 5, rel=1e-2)
    assert found.objective == pytest.approx(oracle.largest_total(UNIT, np.array([5.0]), 16.0), rel=1e-10)


# ------------------------------------------------------------------ closed forms


def test_example_4_5():
    ratios = {1: 1.0, 2: 2.0, 3: 2.22607, 10: 2.60840, 100: 2.88219}
    for n, ratio in ratios.items():
        x = float(closed_form.homogeneous_ratio(n))
        assert x == pytest.approx(ratio, abs=5e-6)
        assert x + 2 / np.sqrt(n * x) == pytest.approx(3, rel=1e-12)
        found = AccuracyShaping(SqrtAccuracy(0.8, 3.0), [0.002] * n)
        np.testing.assert_allclose(
            found.solve()["contribution"], x * found.standalone().contribution, rtol=1e-7 if n == 1 else 1e-12
        )
    assert float(closed_form.homogeneous_ratio(1e12)) == pytest.approx(3, abs=1e-5)
    with pytest.raises(mo.InvalidInput, match="n_agents must be at least 1"):
        closed_form.homogeneous_ratio(0)


def test_hard_problems_of_equal_agents():
    for difficulty, total in ((1.0, 453.02), (2.0, 431.96)):
        accuracy = SqrtAccuracy(1.0, difficulty)
        form = closed_form.hard_problem_total(0.2, 100, accuracy)
        assert form == pytest.approx(total, abs=5e-3)
        assert AccuracyShaping(accuracy, [0.2] * 100).solve().objective == pytest.approx(form, rel=1e-12)
        assert form >= 100 / (3 * 0.2)
    # At n = 32 k c / a^3 the total is n a / (2 c); at 27 k c / a^3 it is n a / (3 c); below, nothing.
    assert closed_form.hard_problem_total(1.0, 32, UNIT) == pytest.approx(16, rel=1e-12)
    assert closed_form.hard_problem_total(1.0, 27, UNIT) == pytest.approx(9, rel=1e-6)
    assert closed_form.hard_problem_total(1.0, 26, UNIT) == 0
    with pytest.raises(mo.NotApplicable, match="each agent is viable alone"):
        closed_form.hard_problem_total(0.01, 3, UNIT)


def test_ceilings_are_the_limit_of_large_pools():
    costs = np.array([0.001, 0.01, 0.1])
    ceiling = closed_form.contribution_ceiling(costs, UNIT)
    np.testing.assert_allclose(ceiling[:2], 3 * AccuracyShaping(UNIT, costs[:2]).standalone().contribution)
    crowd = AccuracyShaping(UNIT, np.tile(costs, 2000)).solve()["contribution"][:3]
    assert np.all(crowd < ceiling)
    np.testing.assert_allclose(crowd, ceiling, rtol=2e-2)


def test_closed_forms_say_where_they_do_not_apply():
    with pytest.raises(mo.NotApplicable, match="needs the accuracy"):
        AccuracyShaping(PowerLawAccuracy(1.0, 0.4), [0.01]).closed_form()
    with pytest.raises(mo.NotApplicable, match="no closed form for GeneralizationBound"):
        closed_form.standalone(GeneralizationBound(0.95, 10.0), [0.1])
    with pytest.raises(mo.NotApplicable, match="no closed form for TabulatedAccuracy"):
        closed_form.viability_cost(TabulatedAccuracy([10, 20], [0, 0.5]))
    with pytest.raises(KeyError, match="no value named 'payment'"):
        three().closed_form()["payment"]


@pytest.mark.parametrize(
    ("difficulty", "cost", "n", "each"),
    [
        (10, 1e-3, 1, 0.0),
        (10, 1e-3, 2, 421.551),
        (10, 1e-3, 3, 561.725),
        (10, 1e-3, 10, 752.497),
        (10, 1e-3, 1000, 928.839),
        (10, 1e-4, 2, 3535.60),
        (10, 1e-4, 100, 5291.78),
        (10, 1e-5, 20, 24316.1),
        (10, 1e-2, 20, 42.1551),
        (10, 2e-2, 20, 0.0),
        (1, 1e-3, 10, 639.856),
    ],
)
def test_figure_4_in_numbers(difficulty, cost, n, each):
    shaping = AccuracyShaping(GeneralizationBound(0.95, float(difficulty)), [cost] * n)
    np.testing.assert_allclose(shaping.solve()["contribution"], each, rtol=5e-6)


# ------------------------------------------------------------------ one more line: extensions


def utility_floor(gain):
    return lambda program: program["utility"] >= three().standalone().utility + gain


@pytest.mark.parametrize(
    ("line", "total"),
    [
        (lambda p: p["contribution"] <= 20, 54.58599),
        (lambda p: p["contribution"] >= 15, 89.38760),
        (lambda p: p["allocated_accuracy"] >= 0.78, 89.38760),
        (lambda p: p["accuracy"] >= 0.78, 89.38760),
        (lambda p: cp.max(p["contribution"]) <= 1.5 * cp.min(p["contribution"]), 59.20605),
        (utility_floor(0.05), 78.46649),
        (lambda p: cp.sum(p["cost"]) <= 0.8, 59.33436),
    ],
    ids=["cap", "quota", "minimum accuracy", "accuracy", "fairness", "surplus sharing", "cost budget"],
)
def test_extensions_in_one_line(line, total):
    program = three().program()
    program.add("mine", line(program))
    for backend in (None, "clarabel"):
        assert program.solve(backend).objective == pytest.approx(total, abs=2e-5)


@pytest.mark.parametrize(
    "line",
    [
        lambda p: p["contribution"] >= 16,
        lambda p: p["allocated_accuracy"] >= 0.79,
        lambda p: p["contribution"] <= 3,
    ],
    ids=["quota", "minimum accuracy", "caps that nobody stands"],
)
def test_extensions_that_cannot_be_met_are_named(line):
    program = three().program()
    program.add("mine", line(program))
    for backend in (None, "clarabel"):
        with pytest.raises(mo.Infeasible) as caught:
            program.solve(backend)
        assert "mine" in caught.value.families


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({"subsidy_budget": 0.1}, 101.62168),
        ({"balanced_transfers": True}, 204.06373),
        ({"quadratic_costs": 2e-4}, 68.10188),
        ({"quadratic_costs": 0.0}, 89.38760),
        ({"subsidy_budget": 0.0}, 89.38760),
        ({"privacy_costs": 0.0}, 89.38760),
    ],
)
def test_extensions_that_change_the_declaration(options, total):
    solution = three().program(**options).solve("clarabel")
    assert solution.objective == pytest.approx(total, abs=2e-5)


def largest_root(excess, high):
    """Largest root of a function that is negative at ``high``."""
    grid = np.geomspace(1e-9 * high, high, 3000)
    last = int(np.flatnonzero([excess(m) > 0 for m in grid])[-1])
    return brentq(excess, grid[last], grid[last + 1], xtol=1e-12, rtol=1e-14)


@pytest.mark.parametrize("seed", range(4))
def test_extensions_by_their_own_equations(seed):
    """Subsidies, balanced transfers, privacy and quadratic costs: each total solves a scalar equation."""
    rng = np.random.default_rng(seed)
    accuracy, costs = oracle.family_f(rng, "sqrt", 5, low=-1.5, high=-0.3)
    utility = np.array([oracle.alone(accuracy, float(c))[1] for c in costs])
    b, far = accuracy.concave_part, 1e3 * float(np.sum(1 / costs))
    program = AccuracyShaping(accuracy, costs).program

    budget = 0.1 * float(rng.uniform(0.5, 2))
    total = largest_root(lambda m: np.sum((b(m) - utility) / costs) + budget / costs.min() - m, far)
    subsidised = program(subsidy_budget=budget).solve("clarabel")
    assert subsidised.objective == pytest.approx(total, rel=1e-6)
    # The cheapest agent gets it all.
    assert int(np.argmax(subsidised["transfer"])) == int(np.argmin(costs))
    assert subsidised["transfer"].max() == pytest.approx(budget, rel=1e-4)

    total = largest_root(lambda m: 5 * b(m) - costs.min() * m - utility.sum(), far)
    assert program(balanced_transfers=True).solve("clarabel").objective == pytest.approx(total, rel=1e-6)

    rho = 0.02 * costs.min()
    total = largest_root(lambda m: np.sum((b(m) - utility) / (costs + rho)) - m, far)
    assert program(privacy_costs=rho).solve("clarabel").objective == pytest.approx(total, rel=1e-6)

    curve = costs**2 * 10 ** rng.uniform(-2, 0, 5)
    grid = np.geomspace(accuracy.min_viable_data, 1 / costs.min(), 200001)[:, np.newaxis]
    outside = np.maximum(0, np.max(accuracy(grid) - costs * grid - curve * grid**2, axis=0))

    def given(m):
        left = np.maximum(b(m) - outside, 0)
        return np.sum((np.sqrt(costs**2 + 4 * curve * left) - costs) / (2 * curve)) - m

    solution = program(quadratic_costs=curve).solve("clarabel")
    assert solution.objective == pytest.approx(largest_root(given, far), rel=1e-6)


def test_a_budget_for_withheld_accuracy_is_refused_with_the_way_round():
    shaping = three()
    program = shaping.program()
    lines = [
        3 * program["accuracy"] - cp.sum(program["allocated_accuracy"]) <= 0.1,
        program["accuracy"] - program["allocated_accuracy"] <= 0.1,
        program["allocated_accuracy"] - program["accuracy"] >= -0.1,
        program["accuracy"] <= 0.7,
        program["accuracy"] == 0.7,
        program["allocated_accuracy"] >= program["accuracy"],
        mo.Complementarity(program["accuracy"], program["contribution"][0]),
    ]
    for line in lines:
        with pytest.raises(
            mo.InvalidInput, match=r"lowering `accuracy`.*put the number mechanism.accuracy\(size\)"
        ):
            program.add("withheld", line)
    with pytest.raises(mo.InvalidInput, match="not affine in `accuracy`"):
        program.add("withheld", cp.max(program["accuracy"] - program["allocated_accuracy"]) <= 0.1)
    with pytest.raises(mo.InvalidInput, match="the new objective would be met by lowering"):
        program.maximize(program["total_data"] - 10 * program["accuracy"])
    assert program.solve().objective == pytest.approx(89.38760, abs=1e-5)
    # The way round: at a given size of the pool the budget is linear.
    for size, feasible in ((80.0, True), (89.3, True), (90.0, False)):
        fixed = shaping.program()
        fixed.add("size", fixed["total_data"] == size)
        level = float(shaping.accuracy(size))
        fixed.add("withheld", 3 * level - cp.sum(fixed["allocated_accuracy"]) <= 0.1)
        assert fixed.solve("clarabel", on_failure="return").status.ok == feasible


def test_rewarding_accuracy_is_welcome():
    program = three().program()
    program.add("good", program["accuracy"] >= 0.5)
    program.maximize(program["total_data"] + 100 * program["accuracy"])
    assert program.solve("clarabel")["contribution"].sum() == pytest.approx(89.38760, abs=1e-3)


# ------------------------------------------------------------------ prices


def test_prices_of_the_exact_algorithm_are_those_of_the_program():
    rng = np.random.default_rng(10)
    for seed in (0.0, 5.0):
        accuracy, costs = oracle.family_f(rng, "sqrt", 6, high=0.2)
        shaping = AccuracyShaping(accuracy, costs, seed_data=seed)
        program = shaping.program()
        program.add(
            "caps", program["contribution"] <= shaping.solve()["contribution"] * ([0.9] * 2 + [2] * 4)
        )
        solved, found = program.solve("clarabel"), program.solve()
        assert found.backend == "exact"
        assert found.objective == pytest.approx(solved.objective, rel=1e-7)
        for family in program.families:
            size = float(np.max(np.abs(found.dual(family))))
            np.testing.assert_allclose(found.dual(family), solved.dual(family), rtol=1e-3, atol=1e-4 * size)
        plain = shaping.solve()
        for family in ("participation", "feasibility", "accuracy_hypograph"):
            np.testing.assert_allclose(
                plain.dual(family), shaping.program().solve("clarabel").dual(family), rtol=1e-3
            )


def test_cap_prices_are_finite_differences():
    accuracy, costs = oracle.family_f(np.random.default_rng(11), "bound", 5, high=0.0)
    shaping = AccuracyShaping(accuracy, costs)
    caps = shaping.solve()["contribution"] * np.array([0.95, 1.5, 0.9, 1.5, 0.97])

    def solve(caps):
        program = shaping.program()
        program.add("caps", program["contribution"] <= caps)
        return program.solve()

    base = solve(caps)
    assert base.backend == "exact"
    for i in range(5):
        step = 1e-5 * caps[i] * np.eye(5)[i]
        slope = (solve(caps + step).objective - solve(caps - step).objective) / (2 * step[i])
        assert base.dual("caps")[i] == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_the_price_of_a_cost_budget_is_a_finite_difference():
    def solve(budget):
        program = three().program()
        program.add("budget", cp.sum(program["cost"]) <= budget)
        return program.solve("clarabel", tolerance=1e-8)

    slope = (solve(0.801).objective - solve(0.799).objective) / 0.002
    assert float(solve(0.8).dual("budget")) == pytest.approx(slope, rel=1e-4)


def test_caps_and_quotas_against_bisection():
    rng = np.random.default_rng(12)
    outcomes = set()
    for _ in range(40):
        accuracy, costs = oracle.family_f(rng, "sqrt", 5, low=-1.0, high=0.3)
        shaping = AccuracyShaping(accuracy, costs)
        free = shaping.solve()
        if free.extra["not_viable"]:
            continue
        caps = free["contribution"] * rng.uniform(0.2, 1.5, 5) * rng.choice([1, 0.1])
        total = oracle.largest_total(accuracy, costs, caps=caps)
        highest = shaping.standalone().utility.max()
        feasible = total is not None and float(accuracy.concave_part(total)) >= highest
        program = shaping.program()
        program.add("caps", program["contribution"] <= caps)
        found = program.solve("exact", on_failure="return")
        assert found.status.ok == feasible
        outcomes.add(feasible)
        if feasible:
            assert found.objective == pytest.approx(total, rel=1e-8)
            assert program.solve("clarabel").objective == pytest.approx(total, rel=1e-6)
            program.add("quotas", program["contribution"] >= 0.999 * found["contribution"])
            assert program.solve("exact").objective == pytest.approx(total, rel=1e-8)
            assert not program.solve("exact").dual("quotas").any()
    assert outcomes == {True, False}


def test_quotas_that_fail_because_of_caps_name_both():
    program = three().program()
    program.add("caps", program["contribution"] <= [40.0, 40.0, 5.0])
    program.add("quotas", program["contribution"] >= [30.0, 30.0, 0.0])
    with pytest.raises(mo.Infeasible) as caught:
        program.solve()
    assert {"caps", "quotas"} <= set(caught.value.families)
    program.drop("caps")
    assert program.solve().backend == "exact"


@pytest.mark.parametrize(
    ("family", "line"),
    [
        ("some", lambda p: p["contribution"][:2] <= 20),
        ("other", lambda p: p["utility"] >= 0.1),
        ("tied", lambda p: p["contribution"] == 10),
        ("negative", lambda p: p["contribution"] <= -1),
        ("variable", lambda p: p["contribution"] <= cp.Variable(3)),
    ],
)
def test_the_exact_algorithm_names_what_it_cannot_price(family, line):
    program = three().program()
    program.add(family, line(program))
    with pytest.raises(mo.MissingCapability, match=f"a way to price family '{family}'"):
        program.solve("exact")


def test_the_exact_algorithm_refuses_other_declarations():
    program = three().program()
    program.add("a", program["contribution"] <= 20).add("b", program["contribution"] <= 30)
    with pytest.raises(mo.MissingCapability, match="price family 'b'"):
        program.solve("exact")
    program = three().program().drop("participation")
    with pytest.raises(mo.MissingCapability, match="price family 'participation'"):
        program.solve("exact")
    with pytest.raises(mo.MissingCapability, match="an exact algorithm"):
        three().program(subsidy_budget=1.0).solve("exact")


def test_integer_data():
    """Data points that cannot be divided, against all profiles."""
    program = three().program()
    whole = program.variable("whole", 3, integer=True)
    program.add("whole", program["contribution"] == whole)
    solution = program.solve("outer")
    assert solution.status is mo.Status.OPTIMAL
    np.testing.assert_allclose(solution["contribution"], np.round(solution["contribution"]), atol=1e-6)
    best, outside = 0, three().standalone().utility
    for m in np.ndindex(44, 31, 16):
        total = sum(m)
        if total > max(best, 4) and np.all(UNIT.concave_part(total) - np.array(THREE) * m >= outside):
            best = total
    assert solution.objective == pytest.approx(best)


# ------------------------------------------------------------------ the standard mechanism


def test_free_riding_is_catastrophic():
    rng = np.random.default_rng(13)
    for kind in oracle.ACCURACIES:
        for _ in range(20):
            accuracy, costs = oracle.family_f(rng, kind)
            shaping = AccuracyShaping(accuracy, costs)
            found = shaping.standard_federated()
            amount, utility = oracle.alone(accuracy, float(costs.min()))
            assert found.total_data == pytest.approx(amount, rel=1e-4)
            assert np.count_nonzero(found.contribution) == (utility > 0)
            assert found.regret <= 1e-12
            assert found.unique
            assert found.shared is None
            if utility > 0:
                assert shaping.solve().objective >= found.total_data * (1 - 1e-9)


def test_best_responses_lead_to_free_riding_from_anywhere():
    rng = np.random.default_rng(14)
    for _ in range(25):
        accuracy, costs = oracle.family_f(rng, "sqrt", 5, high=0.0)
        shaping = AccuracyShaping(accuracy, costs)
        game = shaping.standard_mechanism()
        found = game.find_equilibrium(rng.uniform(0, 1, 5) / costs)
        assert found.found
        assert found.total_data == pytest.approx(shaping.standalone().contribution.max(), rel=1e-10)
        assert np.count_nonzero(found.contribution > 1e-9 * found.total_data) == 1


def test_the_potential_program_has_the_equilibrium():
    rng = np.random.default_rng(15)
    for kind, backend in (("sqrt", "clarabel"), ("bound", "outer")):
        for _ in range(5):
            accuracy, costs = oracle.family_f(rng, kind, 4)
            shaping = AccuracyShaping(
                accuracy, costs, seed_data=float(rng.choice([0, accuracy.viability_data]))
            )
            direct, solved = shaping.standard_federated(), shaping.standard_federated(backend)
            assert solved.total_data == pytest.approx(direct.total_data, rel=1e-3)  # flat objective
            assert solved.regret <= 1e-6
            pool = shaping.seed_data + solved.contribution.sum()
            value = float(accuracy(pool) - costs @ solved.contribution)
            best = float(accuracy(direct.total_data) - costs @ direct.contribution)
            assert value == pytest.approx(best, abs=1e-7)


def test_the_tie_that_theorem_3_4_forgets():
    """Two agents of equal cost, neither viable alone, share the work under the standard mechanism."""
    found = AccuracyShaping(UNIT, [0.05, 0.05]).standard_federated()
    assert found.total_data == 0
    assert not found.unique
    np.testing.assert_allclose(found.shared, 7.36806 / 2, rtol=1e-6)
    game = AccuracyShaping(UNIT, [0.05, 0.05]).standard_mechanism()
    for method in ("exact", "grid"):
        assert game.regret(found.shared, method) <= 1e-12
    np.testing.assert_allclose(game.utility(found.shared), 0.07899, atol=5e-6)
    assert "although none is viable alone" in found.reason
    # Viable ties: any split will do.
    viable = AccuracyShaping(UNIT, [0.01, 0.01, 0.02])
    tied = viable.standard_federated()
    assert not tied.unique
    total = viable.standalone().contribution[0]
    for share in (0.0, 0.3, 1.0):
        assert viable.standard_mechanism().regret([share * total, (1 - share) * total, 0]) <= 1e-12


@pytest.mark.parametrize("n", [2, 3, 10])
def test_how_hard_a_problem_equal_agents_still_share(n):
    limit = (1 / (2 + 1 / n)) ** 3
    inside = AccuracyShaping(UNIT, [0.9999 * limit] * n)
    shared = inside.standard_federated().shared
    assert inside.standard_mechanism().regret(shared) <= 1e-12
    outside = AccuracyShaping(UNIT, [1.01 * limit] * n)
    assert outside.standard_federated().shared is None
    wanted = float(UNIT.inverse_derivative(1.01 * limit))
    assert outside.standard_mechanism().regret([wanted / n] * n) > 1e-4
    assert inside.standard_federated().total_data == 0


def test_the_standard_mechanism_with_seed_data():
    found = three(seed_data=10.0).standard_federated()
    assert found.total_data == pytest.approx(three().standalone().contribution[0])
    assert found.contribution[0] == pytest.approx(found.total_data - 10)
    enough = three(seed_data=30.0).standard_federated()
    assert not enough.contribution.any()
    assert enough.total_data == 30
    assert enough.regret == 0
    # Seed data can make a problem viable that was not.
    helped = AccuracyShaping(UNIT, [0.05], seed_data=3.0).standard_federated()
    assert helped.total_data == pytest.approx(float(UNIT.inverse_derivative(0.05)))
    assert helped.regret <= 1e-15


# ------------------------------------------------------------------ records


def test_solutions_are_records():
    import pickle

    solution = three().solve()
    again = pickle.loads(pickle.dumps(solution))
    np.testing.assert_array_equal(again["contribution"], solution["contribution"])
    assert list(solution.to_frame("contribution", "utility", "cost").columns) == [
        "contribution",
        "utility",
        "cost",
    ]
    with pytest.raises(ValueError, match="read-only"):
        solution["contribution"][0] = 1
    assert "optimal by exact" in repr(solution)


def test_many_agents():
    rng = np.random.default_rng(16)
    accuracy = SqrtAccuracy(0.95, 10.0)
    costs = accuracy.viability_cost * 10 ** rng.uniform(-1.5, 1.5, 300_000)
    shaping = AccuracyShaping(accuracy, costs)
    found, form = shaping.solve(), shaping.closed_form()
    assert found.objective == pytest.approx(form.total_data, rel=1e-11)
    np.testing.assert_allclose(found["contribution"], form.contribution, rtol=1e-9)
    assert shaping.mechanism(0.0).regret(found["contribution"]) <= 1e-12


def test_a_program_of_a_thousand_agents_is_solved_accurately():
    rng = np.random.default_rng(17)
    accuracy = SqrtAccuracy(0.95, 10.0)
    shaping = AccuracyShaping(accuracy, accuracy.viability_cost * 10 ** rng.uniform(-1.5, 1.5, 1000))
    solution = shaping.solve("clarabel")
    assert solution.objective == pytest.approx(shaping.solve().objective, rel=1e-8)
    np.testing.assert_allclose(solution["contribution"], shaping.solve()["contribution"], rtol=1e-5)


def test_there_is_no_lower_root_where_somebody_is_viable():
    assert exact.lower_root(UNIT, exact.lines(np.array(THREE), UNIT)) is None
    assert exact.lower_root(UNIT, exact.lines(np.array([0.1, 0.1, 0.1]), UNIT)) == pytest.approx(
        6.54234, abs=5e-6
    )
    assert exact.lower_root(UNIT, exact.lines(np.array([0.1, 0.1]), UNIT)) is None
    assert exact.lower_root(UNIT, exact.lines(np.array([0.1, 0.1]), UNIT, seed_data=5.0)) is None


def test_exact_sums_are_the_same_in_chunks():
    """The algorithm takes agents in chunks of 2^15."""
    costs = np.random.default_rng(18).uniform(0.01, 0.1, 2**15 + 7)
    parts = exact.lines(costs, UNIT, seed_data=3.0, margin=1e-3)
    alone, utility = exact.stand_alone(costs, UNIT)
    assert parts.rate == pytest.approx(float(np.sum(1 / (costs + 1e-3))), rel=1e-13)
    start = UNIT(alone)
    assert parts.offset == pytest.approx(float(np.sum(start / (costs + 1e-3) - alone)) - 3, rel=1e-9)
    np.testing.assert_array_equal(parts.utility, utility)
