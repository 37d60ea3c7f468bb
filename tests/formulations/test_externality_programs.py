"""The platform's purchase as a declared program: against all sets, with the constraints that users add."""

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.data_externality import monopoly
from mechopt.formulations.data_externality.exact.route import values_of
from mechopt.formulations.data_externality.families import EVERY, random_case
from mechopt.formulations.data_externality.program import declare, leak_covers, relaxation_bound
from tests.oracles.data_externality import Definition

CERTIFIED = 1e-6
"""Relative gap that the backends are asked to prove."""


def as_set(sharing):
    return frozenset(np.flatnonzero(np.asarray(sharing) > 0.5).tolist())


def definition(model):
    return Definition(
        model.covariance.tolist(), model.value_of_privacy.tolist(), model.noise_variance, model.spillover
    )


def best_of(model, kept, joined=None):
    """Most profit, and the sets that have it, of those that are kept."""
    plain = definition(model)
    together = frozenset(range(model.n_users)) if joined is None else joined
    table = {s: plain.profit(together, s) for s in plain.subsets(together) if kept(s)}
    top = max(table.values())
    return top, {s for s, profit in table.items() if profit >= top - 1e-9}


def everything(sharing):
    return True


@pytest.fixture
def model():
    """Four users, two of high value, all of whom are bought from."""
    covariance = [[1.0, 0.6, 0.2, 0.3], [0.6, 1.0, 0.4, 0.3], [0.2, 0.4, 1.0, 0.5], [0.3, 0.3, 0.5, 1.0]]
    return mo.DataExternality(covariance, [0.5, 0.8, 1.1, 1.2])


# ------------------------------------------------------------ as declared


@pytest.mark.parametrize("kind", EVERY)
def test_outer_finds_what_all_sets_say(kind):
    rng = np.random.default_rng(1)
    sizes = ((3, 1.0, 0.0), (4, 5.0, 0.5)) if kind in ("dense", "singular") else ((4, 5.0, 0.5),)
    for n, noise, spillover in sizes:
        case = random_case(rng, kind, n, least_value=0.3)
        model = mo.DataExternality(
            np.array(case.covariance), case.value_of_privacy, noise_variance=noise, spillover=spillover
        )
        joined = frozenset(range(3)) if n == 3 else frozenset({0, 1, 3})
        profit, sets = best_of(model, everything, joined)
        solution = model.solve(joined, "outer")
        assert solution.status is mo.Status.OPTIMAL
        assert as_set(solution["sharing"]) in sets
        # Rounded and recomputed, so exact; the bound is the solver's.
        assert solution.objective == pytest.approx(profit, abs=1e-10)
        scale = noise * np.trace(model.scaled_covariance)
        assert -1e-9 * scale <= solution.bound - profit <= CERTIFIED * scale


def test_outer_on_eight_users():
    rng = np.random.default_rng(8)
    factor = rng.normal(size=(8, 8))
    model = mo.DataExternality(factor @ factor.T / 8 + 0.05 * np.eye(8), rng.uniform(0.3, 2.5, 8))
    exact, solution = model.solve(), model.solve(backend="outer")
    assert np.array_equal(solution["sharing"], exact["sharing"])
    assert solution.objective == pytest.approx(exact.objective, rel=1e-12)
    assert solution.bound - exact.objective <= CERTIFIED * np.trace(model.covariance)
    for name in ("prices", "payments", "leaked_information", "payoffs"):
        np.testing.assert_allclose(solution[name], exact[name], atol=1e-12)


@pytest.mark.parametrize("kind", EVERY)
def test_values_of_a_set_meet_the_program(kind):
    """Every set is feasible, and there the objective is its profit."""
    rng = np.random.default_rng(2)
    case = random_case(rng, kind, 4)
    model = mo.DataExternality(np.array(case.covariance), case.value_of_privacy, spillover=0.4)
    joined = np.array([1, 1, 1, 0], dtype=bool)
    program, plain = model.program(joined), definition(model)
    for sharing in plain.subsets(frozenset({0, 1, 2})):
        taken = np.isin(np.arange(4), sorted(sharing))
        program.set_values(values_of(model, taken))
        assert float(program.objective.value) == pytest.approx(
            plain.profit(frozenset({0, 1, 2}), sharing), abs=1e-9
        )
        leaks = [plain.leak(i, sharing) for i in range(4)]
        np.testing.assert_allclose(program["leaked_information"].value, leaks, atol=1e-10)
        others = [plain.leak(i, sharing - {i}) for i in range(4)]
        np.testing.assert_allclose(program["leaked_by_others"].value, others, atol=1e-10)
        paid = [plain.price(i, sharing) if i in sharing else 0.0 for i in range(4)]
        np.testing.assert_allclose(program["payments"].value, paid, atol=1e-10)
        for terms in program.families.values():
            assert all(np.max(term.violation()) <= 1e-9 for term in terms)


@pytest.mark.parametrize("kind", EVERY)
def test_relaxation_bounds_the_profit(kind):
    rng = np.random.default_rng(3)
    for n in (3, 4):
        model = random_case(rng, kind, n, least_value=0.3).model()
        size = float(np.trace(model.covariance))
        best = model.solve().objective
        bound = relaxation_bound(model, np.ones(n, dtype=bool))
        # Above by more than the solver's accuracy, and by less than all that can leak.
        assert best - 1e-6 * size <= bound <= best + 0.5 * size


def test_relaxation_is_tight_for_low_values():
    """Then the objective is concave and monotone in who shares, and everybody does."""
    model = mo.DataExternality([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]], [0.5, 0.8, 0.9])
    bound = relaxation_bound(model, np.ones(3, dtype=bool))
    assert bound == pytest.approx(model.solve().objective, rel=1e-6)


def test_the_form_without_own_data_is_the_tighter_one():
    """Half of a user's data would tell more than half of what they do, at half the price."""
    rng = np.random.default_rng(4)
    factor = rng.normal(size=(5, 10))
    covariance, value = factor @ factor.T / 10 + 0.05 * np.eye(5), rng.uniform(1, 2.5, 5)
    model = mo.DataExternality(covariance, value)
    program = declare(model, np.ones(5, dtype=bool), relaxed=True)
    best = model.solve().objective
    ours = program.solve().objective - best
    program.maximize(cp.sum(program["leaked_information"]) - cp.sum(program["payments"]))
    assert program.solve().objective - best >= 1.5 * ours


def second_order(model):
    """The same program by estimators: the variance is the least error of a linear one, noise included."""
    n, value = model.n_users, model.value_of_privacy
    values, vectors = np.linalg.eigh(model.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))).T
    program = mo.Program("estimators")
    sharing = program.variable("sharing", n, boolean=True)
    profit = 0.0

    def squared_over(name, numerator, denominator):
        """Variable above |numerator|^2 / denominator, without a division by zero."""
        above = program.variable(name, nonneg=True)
        program.add(name, cp.SOC(above + denominator, cp.hstack([2 * numerator, above - denominator])))
        return above

    for i in range(n):
        unit, others = np.eye(n)[i], [j for j in range(n) if j != i]
        estimator, scaled = (program.variable(f"{kind}_{i}", n) for kind in ("estimator", "scaled"))
        both = program.variable(f"both_{i}", n, nonneg=True)
        program.add(f"own_{i}", estimator[i] == 0, scaled[i] == 0)
        program.add(f"pairs_{i}", both <= sharing, both <= sharing[i])
        variance = squared_over(f"left_{i}", root @ (unit - estimator), 1.0)
        shared = squared_over(f"left_shared_{i}", root @ (sharing[i] * unit - scaled), sharing[i])
        for j in others:
            variance += squared_over(f"noise_{i}_{j}", estimator[j], sharing[j])
            shared += squared_over(f"noise_shared_{i}_{j}", scaled[j], both[j])
        paid = squared_over(f"paid_{i}", shared, sharing[i] + shared)
        profit += model.covariance[i, i] - variance - (value[i] - 1) * paid
    return program.maximize(profit).seal()


def test_rotated_cones_say_the_same():
    """A second form, without matrix inequalities, for values above 1."""
    model = mo.DataExternality([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]], [1.05, 1.2, 1.5])
    solution = second_order(model).solve("outer")
    exact = model.solve()
    assert solution.objective == pytest.approx(exact.objective, abs=1e-6)
    assert as_set(solution["sharing"]) == as_set(exact["sharing"])


# ------------------------------------------------------------ constraints of users


EXTENSIONS = {
    "at most two": (lambda p: cp.sum(p["sharing"]) <= 2, lambda s: len(s) <= 2),
    "weights": (
        lambda p: [3, 1, 2, 2] @ p["sharing"] <= 4.5,
        lambda s: sum([3, 1, 2, 2][i] for i in s) <= 4.5,
    ),
    "coalition": (lambda p: p["sharing"][0] == p["sharing"][3], lambda s: (0 in s) == (3 in s)),
    "not both": (lambda p: p["sharing"][1] + p["sharing"][2] <= 1, lambda s: not {1, 2} <= s),
    "somebody": (lambda p: p["sharing"][3] >= 1, lambda s: 3 in s),
}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_limits_on_who_shares_by_both_routes(model, name):
    constraint, kept = EXTENSIONS[name]
    profit, sets = best_of(model, kept)
    for backend in ("exact", "outer"):
        program = model.program()
        solution = program.add("limit", constraint(program)).solve(backend)
        assert solution.status is mo.Status.OPTIMAL
        assert solution.objective == pytest.approx(profit, abs=1e-5)
        assert as_set(solution["sharing"]) in sets
    assert solution.backend == "outer"
    assert program.solve().backend == "exact"


def test_budget_for_payments(model):
    """Payments are not linear in who shares; the exact algorithm refuses, and outer solves it."""
    plain, everybody = definition(model), frozenset(range(4))

    def paid(sharing):
        return sum(plain.price(i, sharing) for i in sharing)

    spent = paid(best_of(model, everything)[1].pop())
    budget = 0.6 * spent
    profit, sets = best_of(model, lambda s: paid(s) <= budget)
    program = model.program()
    program.add("budget", cp.sum(program["payments"]) <= budget)
    with pytest.raises(mo.MissingCapability, match="family 'budget'"):
        program.solve("exact")
    solution = program.solve("outer")
    assert as_set(solution["sharing"]) in sets
    assert solution.objective == pytest.approx(profit, abs=1e-5)
    again = monopoly.recomputed(model, np.ones(4, dtype=bool), solution)
    assert again["payments"].sum() == pytest.approx(paid(as_set(solution["sharing"])), rel=1e-12)
    assert again["payments"].sum() <= budget
    assert again.objective == pytest.approx(plain.profit(everybody, as_set(solution["sharing"])), rel=1e-12)


def test_nothing_may_leak_about_somebody():
    """Then nobody who is correlated with it shares, and it does not either."""
    covariance = [[1.0, 0.6, 0.0], [0.6, 1.0, 0.0], [0.0, 0.0, 1.0]]
    model = mo.DataExternality(covariance, [0.5, 0.5, 0.5])
    program = model.program()
    linked = np.flatnonzero(model.covariance[0])
    solution = program.add("no_leak", program["sharing"][linked] == 0).solve()
    assert as_set(solution["sharing"]) == {2}
    assert solution["leaked_information"][0] == 0


@pytest.mark.parametrize("by_others", [False, True])
def test_caps_on_leaks(model, by_others):
    """As linear limits, by both routes; with those on others' data, a floor under payoffs."""
    plain = definition(model)
    caps = np.array([np.inf, 0.22, 0.15, np.inf] if by_others else [np.inf, 0.25, 0.6, np.inf])

    def kept(sharing):
        return all(plain.leak(i, sharing - {i} if by_others else sharing) <= caps[i] for i in range(4))

    profit, sets = best_of(model, kept)
    assert profit < best_of(model, everything)[0] - 1e-3
    for backend in ("exact", "outer"):
        program = model.program()
        program.add("quiet", leak_covers(model, program["sharing"], caps, by_others=by_others))
        solution = program.solve(backend)
        assert solution.objective == pytest.approx(profit, abs=1e-5)
        assert as_set(solution["sharing"]) in sets


def test_caps_that_nothing_reaches(model):
    program = model.program()
    program.add("quiet", leak_covers(model, program["sharing"], np.inf))
    assert program.solve().objective == pytest.approx(model.solve().objective, rel=1e-12)


def test_floor_for_information(model):
    """Leaks at least so large are convex: the platform may be made to learn more of user 3."""
    plain = definition(model)
    dear = mo.DataExternality(model.covariance, [0.5, 0.8, 3.0, 6.0])
    floor = 0.4
    plain = definition(dear)
    profit, sets = best_of(dear, lambda s: plain.leak(3, s) >= floor)
    assert as_set(dear.solve()["sharing"]) not in sets
    program = dear.program()
    program.add("learn", program["leaked_information"][3] >= floor)
    solution = program.solve("outer")
    assert as_set(solution["sharing"]) in sets
    assert solution.objective == pytest.approx(profit, abs=1e-5)


def test_another_objective(model):
    """Information less payments at another weight; the exact algorithm leaves that to others."""
    plain, everybody = definition(model), frozenset(range(4))
    program = model.program()
    program.maximize(program["profit"] + 2 * program["leaked_information"][3])
    with pytest.raises(mo.MissingCapability, match="changed objective"):
        program.solve("exact")
    solution = program.solve("outer")
    best = max(plain.profit(everybody, s) + 2 * plain.leak(3, s) for s in plain.subsets(everybody))
    assert solution.objective == pytest.approx(best, abs=1e-5)


def test_limits_without_a_set(model):
    for backend in ("exact", "outer"):
        program = model.program()
        program.add("many", cp.sum(program["sharing"]) >= 3).add("few", cp.sum(program["sharing"]) <= 2)
        with pytest.raises(mo.Infeasible) as raised:
            program.solve(backend)
        assert {"many", "few"} <= set(raised.value.families)


@pytest.mark.parametrize(
    "constraint",
    [
        lambda p: p["leaked_information"][0] <= 0.3,
        lambda p: p["leaked_by_others"] <= 0.3,
        lambda p: cp.sum(p["payments"]) >= 1,
        lambda p: p["payments"][0] == 0.2,
    ],
)
def test_constraints_met_by_overstating_variances_are_refused(model, constraint):
    program = model.program()
    with pytest.raises(mo.InvalidInput, match=r"need only be large enough: .* leak_covers"):
        program.add("wrong", constraint(program))
    with pytest.raises(mo.InvalidInput, match="the new objective"):
        program.minimize(program["leaked_information"][0])


def test_dropping_a_family_stops_the_exact_algorithm(model):
    program = model.program({0, 1, 2})
    with pytest.raises(mo.MissingCapability, match="membership"):
        program.drop("membership").solve("exact")


def test_bad_caps_are_named(model):
    sharing = model.program()["sharing"]
    with pytest.raises(mo.InvalidInput, match=r"caps\[1\] = -1 must be >= 0"):
        leak_covers(model, sharing, [1, -1, 1, 1])
    large = mo.DataExternality(np.eye(15), np.ones(15))
    with pytest.raises(mo.InvalidInput, match="15 users that leak too much are not listed"):
        leak_covers(large, cp.Variable(15), 1.0)
