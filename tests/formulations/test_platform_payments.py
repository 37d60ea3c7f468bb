"""A platform's payments to users of one cost: roads against each other, definitions, and what is refused."""

import pickle
import warnings
from fractions import Fraction

import numpy as np
import pytest
from numpy.polynomial import polynomial

import mechopt as mo
from mechopt.formulations.fair_value.platform import (
    WORKED_UTILITY,
    PlatformPayments,
    PlatformSolution,
    bernstein,
    certificates,
    platform_curve,
    rational,
)
from mechopt.formulations.fair_value.platform.exact import Game
from mechopt.formulations.fair_value.platform.program import distinct, powers_of
from mechopt.formulations.fair_value.platform.utility import exchangeable, expectation
from tests.oracles import platform as oracle

TWO = np.array(WORKED_UTILITY)
RISING = [0.0, 2 / 27, 0.25]  # increasing returns: mean estimation with epsilon = 1

LEVELS = [(2, 0.2, 0.25), (3, 0.1, 0.2), (3, 0.1, 0.252), (4, 0.05, 0.12), (5, 0.3, 0.048)]


def levels(n, worth, cost, selection="symmetric", theta=2.0):
    return PlatformPayments(oracle.two_levels(n, worth, theta), n, cost, selection)


def concave(rng, n, selection="symmetric"):
    worth = oracle.random_concave(rng, n)
    return PlatformPayments(worth, n, float(rng.uniform(0.0, 1.1 * worth[1])), selection)


# ------------------------------------------------------------------ the paper's two users


@pytest.mark.parametrize("cost", oracle.FIG_6)
def test_figure_6(cost):
    solution = PlatformPayments(TWO, 2, cost).solve()
    found = (
        solution.payment_share,
        solution.share_probability,
        solution.objective,
        float(solution["total_utility"]),
        float(solution["payments"]),
    )
    assert found == pytest.approx(oracle.FIG_6[cost], abs=6e-5)  # printed to four digits
    assert solution.status is mo.Status.OPTIMAL


def test_figure_6_as_a_curve():
    costs = np.linspace(0, 0.8, 33)
    table = platform_curve(TWO, costs)
    for cost, row in table.iterrows():
        if cost <= 1 / 3:
            expected = (2 * cost, 1.0, 1.0, 1 - 2 * cost, 2 * cost)
        elif cost < 2 / 3:
            q = 2 - 3 * cost
            expected = (6 * cost / (2 + 3 * cost), q, (4 - 9 * cost**2) / 3, q**2 / 3, 2 * cost * q)
        else:
            expected = (0.0, 0.0, 0.0, 0.0, 0.0)
        assert row.tolist() == pytest.approx(expected, abs=1e-12)
    limits = PlatformPayments(TWO, 2, 0.5).thresholds()
    assert (limits.low, limits.high) == pytest.approx((1 / 3, 2 / 3))
    assert (limits.relative_payoff_min, limits.relative_payoff_max) == pytest.approx((1 / 2, 2 / 3))


def test_two_users_in_fractions():
    rng = np.random.default_rng(0)
    for _ in range(30):
        one = Fraction(int(rng.integers(51, 95)), 100)
        cost = Fraction(int(rng.integers(0, 100)), 100)
        value, q = oracle.exact_two_users(one, Fraction(1), cost)
        payments = PlatformPayments([0.0, float(one), 1.0], 2, float(cost))
        solution = payments.solve()
        assert solution.objective == pytest.approx(float(value), abs=1e-14)
        assert solution.share_probability == pytest.approx(float(q), abs=1e-13)
        assert payments.closed_form().platform_utility == pytest.approx(float(value), abs=1e-14)


# ------------------------------------------------------------------ fair values


def test_fair_values_by_orders_of_arrival():
    rng = np.random.default_rng(1)
    for n in (1, 2, 3, 4):
        table = rng.uniform(0.1, 1.0, (n + 1, n + 1))
        table[0, 0] = 0.0
        q = float(rng.uniform(0, 1))
        payments = PlatformPayments(lambda a, b, table=table: float(table[a, b]), n, 0.1)
        private, sharing = oracle.values_by_orders(lambda a, b, table=table: table[a, b], n, q)
        values = payments.values
        assert oracle.mean(values.private_value, [q] * (n - 1)) == pytest.approx(private, abs=1e-14)
        assert oracle.mean(values.sharing_value, [q] * (n - 1)) == pytest.approx(sharing, abs=1e-14)
        assert payments.relative_payoff(q) == pytest.approx(sharing - private, abs=1e-14)
        total = oracle.mean([table[n - k, k] for k in range(n + 1)], [q] * n)
        assert payments.expected_utility(q) == pytest.approx(total, abs=1e-14)
        assert n * ((1 - q) * private + q * sharing) == pytest.approx(total, abs=1e-13)


def test_a_worthless_private_level_is_recognised():
    worth = oracle.random_concave(np.random.default_rng(2), 6)
    by_array = exchangeable(worth, 6)
    by_counts = exchangeable(lambda private, sharing: float(worth[sharing]), 6)
    assert by_counts.sharing_only
    assert np.array_equal(by_array.relative_payoff, by_counts.relative_payoff)
    barely = exchangeable(lambda private, sharing: float(worth[sharing]) + 1e-13 * private, 6)
    assert not barely.sharing_only
    assert barely.relative_payoff == pytest.approx(by_array.relative_payoff, abs=1e-12)
    assert barely.sharing_value == pytest.approx(by_array.sharing_value, abs=1e-12)


def test_expectations_do_not_lose_digits():
    rng = np.random.default_rng(3)
    for n, q in ((1, 0.3), (5, 0.0), (5, 1.0), (30, 1e-9), (40, 0.999), (500, 0.4)):
        values = rng.uniform(0, 1, n + 1)
        assert expectation(values, q) == pytest.approx(
            float(bernstein.split(values, q)[1][0]), rel=1e-12, abs=1e-13
        )
    n = 10_000
    k = np.arange(n + 1.0)
    for q in (1e-5, 0.02, 0.5, 0.97):
        assert expectation(np.ones(n + 1), q) == pytest.approx(1, abs=1e-14)
        assert expectation(k, q) == pytest.approx(n * q, rel=1e-12)
        assert expectation(k * (k - 1), q) == pytest.approx(n * (n - 1) * q**2, rel=1e-12)


# ------------------------------------------------------------------ roads to the optimum


def test_algorithm_formula_and_certified_bounds_agree():
    rng = np.random.default_rng(4)
    for n in (1, 2, 3, 5, 8, 20, 40):
        payments = concave(rng, n)
        solution, formula = payments.solve(), payments.closed_form()
        size = payments.values.profile[-1]
        assert solution.objective == pytest.approx(formula.platform_utility, abs=1e-13 * size)
        assert solution.payment_share == pytest.approx(formula.payment_share, abs=1e-12)
        bound = payments.certify("branch_and_bound").bound
        assert 0 <= bound - solution.objective + 1e-14 * size <= 1e-8 * size
        assert payments.audit(solution).ok(1e-12)


@pytest.mark.parametrize(("n", "worth", "cost"), LEVELS)
def test_private_data_of_some_value(n, worth, cost):
    payments = levels(n, worth, cost)
    solution = payments.solve()
    squares = payments.certify("sum_of_squares")
    linear = payments.certify("coefficients")
    assert abs(squares.bound - solution.objective) <= 1e-8
    assert squares.residual <= 1e-9
    assert -1e-9 <= linear.bound - solution.objective <= 1e-3
    assert 0 <= solution.bound - solution.objective <= 1e-8
    assert payments.audit(solution).ok(1e-10)
    if 0 < solution.share_probability < 1:
        assert squares.share_probability == pytest.approx(solution.share_probability, abs=1e-3)
    grid = [q for q in np.linspace(0, 1, 2001) if payments.relative_payoff(q) >= cost]
    tried = [(1 - cost / payments.relative_payoff(q)) * payments.expected_utility(q) for q in grid]
    best = max([payments.expected_utility(0.0), *tried])
    assert -1e-12 <= solution.objective - best <= 1e-6  # of a grid


def test_a_sum_of_squares_in_high_degree():
    n = 60
    k = np.arange(n + 1.0)
    worth = (n + 2) / n * k / (k + 2)
    payments = PlatformPayments(worth, n, 0.4 * worth[1])
    proof, solution = payments.certify("sum_of_squares"), payments.solve()
    assert 0 <= proof.bound - solution.objective + 1e-12 <= 1e-7
    assert proof.share_probability == pytest.approx(solution.share_probability, abs=1e-4)


def test_a_certificate_does_not_believe_the_solver():
    payments = levels(3, 0.1, 0.2)
    true = payments.solve()
    answer = payments.bound_program().solve("clarabel")
    low = dict(answer.values) | {"bound": np.asarray(answer["bound"] - 0.01)}
    bound = certificates.certificate(payments.values, 0.2, answer.replace(values=low)).bound
    assert bound >= true.objective
    indefinite = dict(answer.values) | {"gram_0": answer["gram_0"] - 0.1 * np.eye(len(answer["gram_0"]))}
    found = certificates.certificate(payments.values, 0.2, answer.replace(values=indefinite))
    assert found.bound >= true.objective
    assert found.residual > 1e-3


def test_weighted_squares_are_what_they_stand_for():
    rng = np.random.default_rng(5)
    for degree in (0, 1, 4, 7):
        left = np.zeros(degree + 1)
        for number, matrix in enumerate(certificates.gram_rows(degree)):
            if not matrix.shape[1]:
                continue
            side = int(np.sqrt(matrix.shape[1]))
            gram = rng.normal(size=(side, side))
            left += matrix @ gram.ravel(order="F")
            q = 0.3
            basis = np.array([float(bernstein.split(row, q)[1][0]) for row in np.eye(side)])
            weight = {0: 1 - q if degree % 2 else 1.0, 1: q if degree % 2 else q * (1 - q)}[number]
            told = float(bernstein.split(matrix @ gram.ravel(order="F"), q)[1][0])
            assert told == pytest.approx(weight * basis @ gram @ basis, abs=1e-12)
    assert left.any()


@pytest.mark.parametrize(
    ("payments", "expected"),
    [
        (PlatformPayments(TWO, 2, 0.5), 1 / 12),
        (PlatformPayments([0, 0.5, 0.8, 1.0, 1.1], 4, 0.25), None),
        (levels(3, 0.1, 0.2), None),
        (levels(3, 0.1, 0.252), 0.2173913),
    ],
)
def test_the_equilibrium_program(payments, expected):
    exact = payments.solve()
    if expected is not None:
        assert exact.objective == pytest.approx(expected, abs=1e-6)
    scip = payments.solve("pyomo:scip", time_limit=30)
    assert isinstance(scip, PlatformSolution)
    assert scip.status is mo.Status.OPTIMAL
    assert scip.objective == pytest.approx(exact.objective, abs=1e-5)
    own = payments.program().solve()
    assert own.backend == "exact"
    assert own.objective == pytest.approx(exact.objective, abs=1e-9)
    assert max(own.residuals.values()) <= 1e-9
    local = payments.solve("pyomo:pounce", on_failure="return")
    assert local.status is mo.Status.LOCAL
    assert local.objective <= exact.objective + 1e-5


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_the_equilibrium_program_in_other_units(unit):
    # In products of physical units SCIP took a coefficient of 1e-9 for none, and called 0 optimal
    worth = oracle.two_levels(3, 0.1, 2.0)
    same = PlatformPayments(unit * TWO, 2, 0.5 * unit)
    other = PlatformPayments(lambda a, b: unit * worth(a, b), 3, 0.15 * unit)
    two = PlatformPayments(unit * TWO, 2, [0.29 * unit, 0.3 * unit], "optimistic")
    budget = same.program()
    budget.add("budget", budget["payments"] <= 0.25 * unit)
    programs = [(payments.program(), payments.solve().objective) for payments in (same, other, two)]
    for program, expected in (*programs, (budget, budget.solve("exact").objective)):
        solution = program.solve("pyomo:scip", time_limit=30)
        assert solution.status is mo.Status.OPTIMAL
        assert solution.objective == pytest.approx(expected, rel=1e-5)
        assert solution.bound == pytest.approx(expected, rel=1e-5)
    by_level = other.per_level_program().solve("pyomo:scip", time_limit=30)
    assert by_level.objective > 1.001 * programs[1][1]
    assert other.audit(other.solve("pyomo:scip", time_limit=30)).ok(1e-5)


def test_powers_and_their_limit():
    rng = np.random.default_rng(6)
    for n in (0, 1, 5, 9):
        values = rng.uniform(0, 1, n + 1)
        assert powers_of(values) == pytest.approx(oracle.monomials(values), abs=1e-9)
    with pytest.raises(mo.NotApplicable, match="beyond 12 users"):
        PlatformPayments(np.arange(14.0), 13, 0.1).program()


def test_many_users():
    n = 10_000
    k = np.arange(n + 1.0)
    worth = (n + 2) / n * k / (k + 2)
    for cost in (0.3, 1e-4, 1e-6, 1e-9):
        payments = PlatformPayments(worth, n, cost)
        solution, formula = payments.solve(), payments.closed_form()
        assert solution.objective == pytest.approx(formula.platform_utility, rel=1e-11)
        assert solution.payment_share == pytest.approx(formula.payment_share, rel=1e-7)
        assert solution.status is mo.Status.OPTIMAL


def test_money_in_other_units_changes_nothing():
    rng = np.random.default_rng(7)
    for n in (2, 6):
        payments = concave(rng, n)
        dear = PlatformPayments(1e4 * payments.values.profile, n, 1e4 * payments.cost)
        assert dear.solve().objective == pytest.approx(1e4 * payments.solve().objective, rel=1e-12)
        assert dear.solve().payment_share == pytest.approx(payments.solve().payment_share, abs=1e-12)
    base = levels(3, 0.1, 0.2).solve()
    utility = oracle.two_levels(3, 0.1)
    dear = PlatformPayments(lambda a, b: 1e4 * utility(a, b), 3, 2000.0)
    assert dear.solve().objective == pytest.approx(1e4 * base.objective, rel=1e-8)
    assert dear.solve("pyomo:scip").objective == pytest.approx(1e4 * base.objective, rel=1e-5)


def test_at_no_cost_all_share_for_nothing():
    solution = PlatformPayments(TWO, 2, 0.0).solve()
    assert (solution.payment_share, solution.share_probability, solution.objective) == (0.0, 1.0, 1.0)
    assert levels(3, 0.1, 0.0).solve().objective == pytest.approx(1.0)
    assert PlatformPayments(TWO, 2, 0.0, "optimistic").solve().objective == 1.0
    assert levels(3, 0.1, 0.0, "optimistic").solve().objective == pytest.approx(1.0)
    worst = PlatformPayments(TWO, 2, 0.0, "pessimistic").solve()
    assert (worst.objective, worst.attained) == (1.0, False)


def test_one_user():
    solution = PlatformPayments([0.0, 1.0], 1, 0.3).solve()
    assert (solution.payment_share, solution.objective) == pytest.approx((0.3, 0.7))
    worst = PlatformPayments([0.0, 1.0], 1, 0.3, "pessimistic").solve()
    assert worst.objective == pytest.approx(0.7)
    assert not worst.attained
    limits = PlatformPayments(lambda a, b: 0.2 * a + b, 1, 0.3).thresholds()
    assert limits.low == limits.high == pytest.approx(0.8 * 0.8)


# ------------------------------------------------------------------ equilibria


def test_symmetric_equilibria_have_no_regret():
    rng = np.random.default_rng(8)
    for n in (1, 2, 4, 9):
        payments = concave(rng, n)
        for share in rng.uniform(0, 1, 5):
            (found,) = payments.equilibria(share)
            q = float(found.share_probability[0])
            assert payments.symmetric_regret(share, q) <= 1e-24
            assert found.regret <= 1e-12
            assert found.platform_utility == pytest.approx((1 - share) * payments.expected_utility(q))
            other = 0.5 * q + 0.5 * float(q < 0.5)
            assert payments.symmetric_regret(share, other) > 1e-12


def test_increasing_returns_have_three_equilibria():
    payments = PlatformPayments(RISING, 2, 0.05)
    share = 0.5
    profiles = [float(e.share_probability[0]) for e in payments.equilibria(share)]
    # alpha (2/27 (1 - q) + q/8) = c
    assert profiles == pytest.approx([0.0, (0.1 - 2 / 27) / (1 / 8 - 2 / 27), 1.0], abs=1e-12)
    assert max(e.regret for e in payments.equilibria(share)) <= 1e-15


def test_equilibria_of_a_payoff_with_humps():
    # gamma_k = U(k)/k of (.9, 0, 1, .1) against c = .5: with a = 1 - q, (a - q)(.4 - 1.9 a q) = 0
    payments = PlatformPayments([0.0, 0.9, 0.0, 3.0, 0.4], 4, 0.5)
    found = [float(e.share_probability[0]) for e in payments.equilibria(1.0)]
    apart = np.sqrt(1 - 4 * 0.4 / 1.9) / 2
    assert found == pytest.approx([0.5 - apart, 0.5, 0.5 + apart], abs=1e-9)
    assert max(e.regret for e in payments.equilibria(1.0)) <= 1e-12


def test_constant_payoffs_leave_everybody_indifferent_at_one_share():
    payments = PlatformPayments([0.0, 0.5, 1.0], 2, 0.25)
    ends = [e.share_probability.tolist() for e in payments.equilibria(0.5)]
    assert ends == [[0.0, 0.0], [1.0, 1.0]]
    assert [e.share_probability[0] for e in payments.equilibria(0.51)] == [1.0]
    assert [e.share_probability[0] for e in payments.equilibria(0.49)] == [0.0]


def test_an_audit_sees_what_users_would_rather_do():
    payments = PlatformPayments(TWO, 2, 0.4)
    solution = payments.solve()
    assert payments.audit(solution).ok(1e-12)
    stingy = solution.replace(values=dict(solution.values) | {"payment_share": np.asarray(0.7)})
    audit = payments.audit(stingy)
    # Each shares with .8 and gains .7 (2/3 - .8/6) - .4 < 0 by it
    assert audit.ic_violation == pytest.approx(0.8 * (0.4 - 0.7 * (2 / 3 - 0.8 / 6)))
    assert audit.worst.choice == 0


def test_an_audit_takes_what_solvers_leave_outside_of_the_interval():
    payments = PlatformPayments(TWO, 2, 0.3)
    answer = {"payment_share": 0.6 + 1e-9, "share_probability": 1 + 4e-16}
    assert payments.audit(answer).ok(1e-8)
    assert payments.audit({"payment_share": -1e-9, "share_probability": 0}).ok(1e-8)
    for wrong, message in (
        ({"payment_share": 0.6}, "needs an answer with payment_share"),
        ({"payment_share": 0.6, "share_probability": 1.001}, r"share_probability\[0\] = 1.001"),
        ({"payment_share": 1.001, "share_probability": 1}, "payment_share = 1.001"),
    ):
        with pytest.raises(mo.InvalidInput, match=message):
            payments.audit(wrong)


# ------------------------------------------------------------------ rational arithmetic


def test_isolated_roots_of_known_products():
    rng = np.random.default_rng(31)
    for _ in range(20):
        roots = sorted({Fraction(int(k), 64) for k in rng.integers(-4, 69, rng.integers(1, 7))})
        poly = (Fraction(1),)
        for root in roots:
            for _ in range(int(rng.integers(1, 4))):  # multiple ones, and those at the ends, included
                poly = rational._times(poly, (-root, Fraction(1)))
        inside = [root for root in roots if 0 < root < 1]
        found = rational._isolate(poly)
        assert len(found) == len(inside)
        assert all(low <= root <= high for (low, high), root in zip(found, inside, strict=True))


def test_the_optimum_of_two_users_is_a_fraction():
    # (2 - 3c)^2 / 3 between the thresholds; 1 - 2c and 0 beyond, exactly
    worth = [0, Fraction(2, 3), 1]
    for cost in (Fraction(1, 4), Fraction(7, 16), Fraction(1, 2), Fraction(5, 8), Fraction(3, 4)):
        found = rational.platform_optimum(worth, 2, cost)
        value = 1 - 2 * cost if cost <= Fraction(1, 3) else max(Fraction(2) - 3 * cost, Fraction(0)) ** 2 / 3
        assert found.low <= value <= found.high
        assert found.high - found.low < Fraction(1, 10**30)
        proof = PlatformPayments(worth, 2, cost).certify("rational")
        assert Fraction(proof.bound) >= value
        assert proof.bound == pytest.approx(float(value), abs=1e-15)


def test_rational_arithmetic_is_the_other_algorithms():
    rng = np.random.default_rng(32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mo.MechanismWarning)
        for n in (1, 2, 3, 5, 6):
            table = rng.uniform(0.1, 1, (n + 1, n + 1))
            table[0, 0] = 0
            cost = float(rng.uniform(0.01, 0.1))
            for utility in (
                np.append(0.0, np.cumsum(rng.random(n))),  # returns that rise and fall
                oracle.two_levels(n, 0.2, 2.0),
                lambda a, b, table=table: float(table[a, b]),  # a relative payoff of both signs
            ):
                payments = PlatformPayments(utility, n, cost)
                solution, proof = payments.solve(), payments.certify("rational")
                size = payments.values.profile.max()
                assert proof.bound >= solution.objective - 1e-14 * size
                assert proof.bound == pytest.approx(solution.objective, abs=1e-9 * size)
                assert proof.residual <= 1e-15 * size
                assert PlatformPayments(utility, n, 0).certify("rational").bound == pytest.approx(
                    PlatformPayments(utility, n, 0).solve().objective, abs=1e-9 * size
                )


def test_mechanisms_print_on_a_line():
    many = PlatformPayments(np.sqrt(np.arange(10_001.0)), 10_000, 0.01)
    assert repr(many) == (
        "PlatformPayments(10000 users, utility 0 if nobody shares to 100 if all do, privacy_cost 0.01, "
        "selection='symmetric')"
    )
    assert "privacy_cost 0.1 to 0.2," in repr(PlatformPayments(TWO, 2, [0.1, 0.2], "optimistic"))


def test_a_utility_is_not_changed_from_outside():
    worth = np.array([0, 0.6, 1.0])
    payments = PlatformPayments(worth, 2, 0.4)
    before = payments.certify("rational").bound
    worth[2] = 5.0
    assert payments.certify("rational").bound == before


# ------------------------------------------------------------------ thresholds


@pytest.mark.parametrize(
    ("n", "worth", "theta", "low", "high", "scale"),
    [
        (3, 0.1, 2.0, 0.147367, 0.247096, 1.0),
        (5, 0.3, 2.0, 0.045023, 0.050584, 1.0),
        (3, 0.5, 0.2, 0.003291, 0.003291, 1.0),
    ],
)
def test_thresholds_of_the_specification(n, worth, theta, low, high, scale):
    limits = levels(n, worth, 0.1, theta=theta).thresholds()
    assert (limits.low, limits.high) == pytest.approx((low, high), abs=2e-6)
    assert limits.high <= limits.relative_payoff_max


def test_numbers_of_the_specification():
    limits = levels(3, 0.1, 0.1).thresholds()
    assert limits.relative_payoff_min == pytest.approx(0.288156, abs=1e-6)
    assert limits.relative_payoff_max == pytest.approx(0.441227, abs=1e-6)
    assert levels(5, 0.3, 0.1).thresholds().relative_payoff_max == pytest.approx(0.198124, abs=1e-6)
    middle, above = levels(3, 0.1, 0.24215).solve(), levels(3, 0.1, 0.252).solve()
    assert middle.payment_share == pytest.approx(0.6934, abs=1e-4)
    assert middle.objective == pytest.approx(0.22776, abs=1e-5)
    assert above.payment_share == 0
    assert above.objective == pytest.approx(0.21739, abs=1e-5)


def test_thresholds_by_general_formula_and_by_marginal_utility():
    from mechopt.formulations.fair_value.platform.closed_form import cost_thresholds

    rng = np.random.default_rng(9)
    for n in (2, 3, 7):
        payments = concave(rng, n)
        marginal = np.diff(payments.values.profile)
        general = cost_thresholds(payments.values.profile, payments.values.relative_payoff)
        limits = payments.thresholds()
        assert (limits.low, limits.high) == pytest.approx((marginal[-1], marginal[0]))
        assert (general.low, general.high) == pytest.approx((marginal[-1], marginal[0]), rel=1e-9)


# ------------------------------------------------------------------ selection


def test_selections_of_the_specification():
    assert PlatformPayments(TWO, 2, 0.5, "optimistic").solve().objective == pytest.approx(1 / 6)
    for cost in (0.02, 0.05):
        best = PlatformPayments(RISING, 2, cost, "optimistic").solve()
        assert best.objective == pytest.approx(0.25 - 2 * cost)
        assert best.payment_share == pytest.approx(8 * cost)
        worst = PlatformPayments(RISING, 2, cost, "pessimistic").solve()
        assert worst.objective == pytest.approx(0.25 * (1 - 13.5 * cost))
        assert worst.payment_share == pytest.approx(13.5 * cost)
        assert not worst.attained
        assert "supremum" in worst.reason
    # The pure optimum is an equilibrium although this utility has neither shape.
    odd = PlatformPayments([0.0, 0.1, 0.9, 0.8, 1.3], 4, 0.2, "optimistic")
    assert odd.solve().objective == pytest.approx(0.5)
    assert odd.audit(odd.solve()).ok(1e-12)


def test_all_equilibria_of_three_users_lie_between_the_selections():
    rng = np.random.default_rng(10)
    for utility, cost in ((oracle.two_levels(3, 0.1), 0.2), (oracle.two_levels(3, 0.02), 0.3)):
        best = PlatformPayments(utility, 3, cost, "optimistic").solve()
        worst = PlatformPayments(utility, 3, cost, "pessimistic").solve()
        values = PlatformPayments(utility, 3, cost).values
        lows = []
        for share in np.linspace(0.05, 0.98, 8):
            found = oracle.all_equilibria(values.relative_payoff, cost, share, rng)
            kept = [(1 - share) * oracle.mean(values.profile, q) for q in found]
            assert max(kept) <= best.objective + 1e-9
            lows.append(min(kept))
            for q in found:
                mixing = q[(q > 0) & (q < 1)]
                assert mixing == pytest.approx(mixing[:1].repeat(mixing.size), abs=1e-6)
        assert max(lows) <= worst.objective + 1e-6
        near = min(worst.payment_share + (0.0 if worst.attained else 1e-7), 1.0)
        found = oracle.all_equilibria(values.relative_payoff, cost, near, rng)
        left = min((1 - near) * oracle.mean(values.profile, q) for q in found)
        assert left == pytest.approx(worst.objective, abs=1e-6)
        assert worst.gap <= 1e-6


def test_selections_are_ordered():
    rng = np.random.default_rng(11)
    for n in (2, 3, 4):
        worth = oracle.random_concave(rng, n)
        cost = float(rng.uniform(0.1, 0.9) * worth[1])
        best, alike, worst = (
            PlatformPayments(worth, n, cost, selection).solve()
            for selection in ("optimistic", "symmetric", "pessimistic")
        )
        assert best.objective >= alike.objective - 1e-12
        assert alike.objective >= worst.objective - 1e-6
        assert worst.bound >= worst.objective
    for n, worth, cost in LEVELS[:4]:
        assert levels(n, worth, cost, "optimistic").solve().objective >= (
            levels(n, worth, cost).solve().objective - 1e-10
        )


def test_selections_that_are_out_of_reach():
    zigzag = PlatformPayments(lambda a, b: [0, 0.1, 0.8, 0.81, 1.5][b] + 0.01 * a, 4, 0.1, "optimistic")
    with pytest.raises(mo.NotApplicable, match="monotone in the number of sharers"):
        zigzag.solve()
    with pytest.raises(mo.NotApplicable, match="up to 12 users, got 15"):
        PlatformPayments(np.sqrt(np.arange(16.0)), 15, 0.1, "pessimistic").solve()
    with pytest.raises(mo.NotApplicable, match="up to 40 users, got 41"):
        levels(41, 0.1, 0.01, "optimistic").solve()
    with pytest.raises(mo.NotApplicable, match="monotone utility"):
        PlatformPayments([0, 0.9, 0.8], 2, 0.1, "pessimistic").solve()
    with pytest.raises(mo.NotApplicable, match="all equilibria are enumerated for two users, got 3"):
        PlatformPayments(np.arange(4.0), 3, 0.1, "optimistic").equilibria(0.5)
    with pytest.raises(mo.NotApplicable, match="programs are declared for"):
        PlatformPayments(TWO, 2, 0.1, "pessimistic").program()


# ------------------------------------------------------------------ where the paper's assumptions fail


@pytest.mark.parametrize(
    ("utility", "which"),
    [
        (RISING, "Assumption 2"),
        ([0.0, 0.9, 0.8, 0.7], "Assumption 1"),
        ([0, 0.2, 0.1, 1], "Assumption 1.* and .*2"),
    ],
)
def test_failing_assumptions_are_said_and_searched_globally(utility, which):
    n = len(utility) - 1
    payments = PlatformPayments(utility, n, 0.05)
    with pytest.warns(mo.MechanismWarning, match=which):
        solution = payments.solve()
    assert solution.extra["method"] == "branch_and_bound"
    grid = np.linspace(0, 1, 4001)
    tried = max(payments.expected_utility(q) - n * 0.05 * q for q in grid)
    assert -1e-12 <= solution.objective - tried <= 1e-6
    with pytest.raises(mo.NotApplicable):
        payments.closed_form()
    if which != "Assumption 1":
        with pytest.raises(mo.NotApplicable, match="Assumption"):
            payments.thresholds()


def test_no_warning_where_the_assumptions_hold():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for case in LEVELS:
            levels(*case).solve()


# ------------------------------------------------------------------ constraints of users


def test_a_budget_and_bounds_on_sharing():
    rng = np.random.default_rng(12)
    worth = np.array([0, 0.5, 0.8, 1.0])
    for _ in range(3):
        cost, budget = float(rng.uniform(0.2, 0.45)), float(rng.uniform(0.05, 0.5))
        payments = PlatformPayments(worth, 3, cost)
        free = payments.solve().share_probability
        limited = payments.program()
        limited.add("budget", limited["payments"] <= budget)
        solution = limited.solve()
        assert solution.backend == "exact"
        q = min(free, budget / (3 * cost))
        assert float(solution["share_probability"]) == pytest.approx(q, abs=1e-12)
        assert float(solution["payments"]) <= budget + 1e-12
        scip = limited.solve("pyomo:scip", time_limit=20)
        assert scip.objective == pytest.approx(solution.objective, abs=1e-5)
    capped = levels(3, 0.1, 0.15).program()
    capped.add("at_most", capped["share_probability"] <= 0.6)
    capped.add("budget", capped["payments"] <= 0.3)
    exact, scip = capped.solve(), capped.solve("pyomo:scip", time_limit=20)
    assert exact.backend == "exact"
    assert exact.objective == pytest.approx(scip.objective, abs=1e-5)
    forced = PlatformPayments(TWO, 2, 0.5).program()
    forced.add("at_least", forced["share_probability"] >= 0.8)
    assert forced.solve().objective == pytest.approx(0.8 * 4 / 3 - 0.64 / 3 - 0.8, abs=1e-12)


def test_limits_that_no_equilibrium_meets():
    program = PlatformPayments(TWO, 2, 0.5).program()
    program.add("at_least", program["share_probability"] >= 0.8)
    program.add("budget", program["payments"] <= 0.5)
    with pytest.raises(mo.Infeasible, match="at_least"):
        program.solve("exact")
    beyond = PlatformPayments(TWO, 2, 0.7).program()
    beyond.add("at_least", beyond["share_probability"] >= 0.1)
    with pytest.raises(mo.Infeasible):
        beyond.solve("exact")


def test_what_the_algorithm_cannot_price_goes_to_a_solver():
    from mechopt.formulations.fair_value.platform.closed_form import minimum_payment_value

    worth = np.array([0, 0.5, 0.8, 1.0])
    for cost, least in ((0.1, 0.05), (0.1, 0.22), (0.1, 0.4), (0.3, 0.2)):
        program = PlatformPayments(worth, 3, cost).program()
        program.add("minimum_payment", program["payments"] >= least * program["expected_sharers"])
        with pytest.raises(mo.MissingCapability, match="minimum_payment"):
            program.solve("exact")
        solution = program.solve("pyomo:scip", time_limit=20)
        assert solution.objective == pytest.approx(minimum_payment_value(worth, cost, least), abs=1e-5)


def test_a_share_that_depends_on_the_utility():
    payments = levels(3, 0.1, 0.15)
    assert payments.solve().objective == pytest.approx(0.47951, abs=1e-5)
    everybody = payments.utility_share_program(3).solve()
    assert everybody.objective == pytest.approx(0.55, abs=1e-9)
    assert everybody["payment_share"][-1] == pytest.approx(0.45)
    rational = payments.utility_share_program(3, individual_rationality=True).solve()
    assert rational.objective == pytest.approx(0.55, abs=1e-9)
    # Two profiles of the same utility share one variable: what is paid in one tempts from the other.
    flat = PlatformPayments([0.0, 0.6, 0.6, 1.0], 3, 0.1)
    program = flat.utility_share_program(2)
    assert program["payment_share"].shape == (3,)
    solution = program.solve()
    share = float(solution["payment_share"][1])
    assert share * 0.6 / 2 - 0.1 >= -1e-9
    assert solution.objective == pytest.approx((1 - share) * 0.6)
    found, which = distinct(np.array([0.5, 0.1, 0.5 + 1e-15, 0.9]), 1e-12)
    assert found.tolist() == [0.1, 0.5, 0.9]
    assert which.tolist() == [1, 0, 1, 2]


def test_rational_users_cannot_be_had_where_their_value_is_negative():
    # A second private user spoils what the first one gives, so that somebody's fair value is negative.
    table = [[0.0, 0.1], [0.9], [0.2]]
    utility = {(0, 0): 0.0, (1, 0): 0.9, (2, 0): 0.0, (0, 1): 0.1, (0, 2): 1.0, (1, 1): 0.3}
    payments = PlatformPayments(lambda a, b: utility[a, b], 2, 0.05)
    assert len(table) == 3
    assert payments.values.private_value[1] > payments.values.sharing_value[0]
    program = payments.utility_share_program(1, individual_rationality=True)
    with pytest.raises(mo.Infeasible):
        program.solve()


def test_correlated_equilibria():
    payments = levels(3, 0.1, 0.15, "optimistic")
    for share in (0.36, 0.43, 0.5):
        best = payments.correlated_program(share, "best").solve("highspy")
        worst = payments.correlated_program(share, "worst").solve("highspy")
        rng = np.random.default_rng(13)
        nash = oracle.all_equilibria(payments.values.relative_payoff, 0.15, share, rng)
        kept = [(1 - share) * oracle.mean(payments.values.profile, q) for q in nash]
        assert best.objective >= max(kept) - 1e-8
        assert worst.objective <= min(kept) + 1e-8
        law = best["sharers_law"]
        # The definition: nobody gains by disobeying either recommendation.
        gain = share * payments.values.relative_payoff - 0.15
        k = np.arange(4)
        assert sum(law[j] * k[j] / 3 * gain[j - 1] for j in range(1, 4)) >= -1e-8
        assert sum(law[j] * (3 - k[j]) / 3 * gain[j] for j in range(3)) <= 1e-8
    assert best.objective > max(kept) - 1e-8


def test_a_share_for_each_level():
    payments = levels(3, 0.1, 0.15)
    solution = payments.per_level_program().solve("pyomo:scip", time_limit=20)
    grid = np.linspace(0, 1, 2001)
    best = max(payments.expected_utility(q) - 3 * 0.15 * q for q in grid)
    assert solution.objective == pytest.approx(best, abs=1e-5)
    assert solution["payment_shares"][0] <= 1e-4
    assert "not fair" in solution.program


# ------------------------------------------------------------------ polynomials


def test_bernstein_arithmetic():
    rng = np.random.default_rng(14)
    x = np.linspace(0, 1, 7)
    for m, n in ((0, 0), (3, 2), (1, 12), (7, 7)):
        first, second = rng.normal(size=m + 1), rng.normal(size=n + 1)
        p, r = oracle.monomials(first), oracle.monomials(second)
        told = oracle.monomials(bernstein.product(first, second))
        assert polynomial.polyval(x, told) == pytest.approx(
            polynomial.polyval(x, p) * polynomial.polyval(x, r), abs=1e-6
        )
        lifted = oracle.monomials(bernstein.raised(first, m + 11))
        assert polynomial.polyval(x, lifted) == pytest.approx(polynomial.polyval(x, p), abs=1e-6)
        part = oracle.monomials(bernstein.restrict(first, 0.2, 0.7))
        assert polynomial.polyval(x, part) == pytest.approx(polynomial.polyval(0.2 + 0.5 * x, p), abs=1e-8)
    rows = bernstein.after_subdivision(first, 3)
    for i, row in enumerate(rows):
        assert row[0] == pytest.approx(polynomial.polyval(i / 3, p), abs=1e-9)


def test_maximise_random_polynomials():
    rng = np.random.default_rng(15)
    x = np.linspace(0, 1, 20001)
    for degree in (1, 2, 5, 12):
        top, below = rng.normal(size=degree + 1), rng.uniform(0.2, 1, degree + 1)
        limit = rng.normal(size=3)
        p, w, g = (polynomial.polyval(x, oracle.monomials(part)) for part in (top, below, limit))
        free = bernstein.maximise(top, below)
        assert -1e-9 <= free.value - np.max(p / w) <= 1e-4
        assert 0 <= free.gap <= 1e-9
        kept = bernstein.maximise(top, below, allowed=(limit,), low=0.1, high=0.9)
        inside = (g >= 0) & (x >= 0.1) & (x <= 0.9)
        if np.any(inside):
            assert -1e-9 <= kept.value - np.max((p / w)[inside]) <= 1e-3
            assert kept.bound >= kept.value
        else:
            assert kept.value == -np.inf
    few = bernstein.maximise(np.sin(np.arange(30.0)), max_splits=2)
    assert few.n_splits == 2
    assert few.bound >= bernstein.maximise(np.sin(np.arange(30.0))).value


def test_roots():
    for wanted in ([0.25], [0.1, 0.5, 0.9], [0.5, 0.5], [0.0, 1.0]):
        power = polynomial.polyfromroots(wanted)
        degree = len(power) - 1
        # Bernstein coefficients by interpolation at the nodes k / degree.
        nodes = np.linspace(0, 1, degree + 1)
        basis = np.array([[float(bernstein.split(e, t)[1][0]) for e in np.eye(degree + 1)] for t in nodes])
        coefficients = np.linalg.solve(basis, polynomial.polyval(nodes, power))
        assert bernstein.roots(coefficients) == pytest.approx(sorted(set(wanted)), abs=1e-7)
    assert bernstein.roots(np.array([1.0, 2.0, 3.0])) == ()
    assert bernstein.roots(np.zeros(3)) == ()


# ------------------------------------------------------------------ the record


def test_the_solution_is_a_solution_like_others():
    solution = PlatformPayments(TWO, 2, 0.5).solve()
    assert isinstance(solution, mo.Solution)
    again = pickle.loads(pickle.dumps(solution))
    assert again.payment_share == solution.payment_share
    assert len(solution.to_frame("payment")) == 2
    assert solution.attained
    assert repr(solution).count("\n") <= 10
    assert float(solution["payments"]) == pytest.approx(float(np.sum(solution["payment"])))
    with pytest.raises(ValueError, match="read-only"):
        solution["payment"][0] = 1.0
    many = PlatformPayments(TWO, 2, 0.5, "optimistic").solve()
    assert many.share_probability.shape == (2,)
    strict = levels(3, 0.1, 0.2).solve(tolerance=1e-12)
    assert strict.status is mo.Status.OPTIMAL
    with pytest.raises(mo.InvalidInput, match="has no options"):
        PlatformPayments(TWO, 2, 0.5).solve(gap=1)
    copy = pickle.loads(pickle.dumps(PlatformPayments(TWO, 2, 0.5)))
    assert copy.solve().objective == solution.objective


def test_games_are_what_they_say():
    assert Game(exchangeable(TWO, 2), 0.5).concave
    assert not Game(exchangeable(RISING, 2), 0.5).concave
    assert exchangeable(oracle.two_levels(4, 0.2), 4).decreasing
    assert exchangeable(RISING, 2).increasing
    for n, worth, _ in LEVELS:
        values = exchangeable(oracle.two_levels(n, worth), n)
        assert values.monotone
        assert values.diminishing


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], 0, 0.1), r"n_users must be a whole number >= 1, got 0"),
        (([0, 1], 1.5, 0.1), r"n_users must be a whole number >= 1, got 1.5"),
        (([0, 1], 2, 0.1), r"utility has 2 entries for 2 users; give U\(0\), \.\.\., U\(2\)"),
        (([0.1, 1], 1, 0.1), r"utility\[0\] = 0.1 must be 0: .* subtract it from all"),
        (([0, np.nan, 1], 2, 0.1), r"utility\[1\] is nan; payments are a share of it"),
        (([0, np.inf, 1], 2, 0.1), r"utility\[1\] is inf"),
        (([0, -0.5, 1], 2, 0.1), r"utility\[1\] is -0.5; .* number >= 0"),
        (([0, 0.5, 0], 2, 0.1), r"utility of all 2 users sharing is 0: nothing to share"),
        ((lambda k: float(k), 2, 0.1), r"utility must take two counts, utility\(n_private, n_sharing\)"),
        (("abc", 2, 0.1), r"utility must be numbers"),
        ((lambda a, b: "x", 2, 0.1), r"utility\(0, 0\) is 'x'"),
        ((lambda a, b: 1.0, 2, 0.1), r"utility\(0, 0\) = 1 must be 0"),
        ((lambda a, b: -1.0 * b, 2, 0.1), r"utility\(0, 1\) is -1.0"),
        ((lambda a, b: float(a), 2, 0.1), r"nothing to share"),
        ((lambda a, b: a + b, 5000, 0.1), r"n_users = 5000: .* up to 2000 users; .* give the array"),
        (([0, 1, 2], 2, -0.1), r"privacy_cost must be a finite number >= 0, got -0.1"),
        (([0, 1, 2], 2, np.nan), r"privacy_cost must be a finite number >= 0, got nan"),
        (([0, 1, 2], 2, [0.1]), r"privacy_cost has 1 entries for 2 users"),
        (([0, 1, 2], 2, [0.1, -1]), r"privacy_cost\[1\] = -1 must be >= 0"),
        (([0, 1, 2], 2, [0.1, np.inf]), r"privacy_cost\[1\] is inf"),
        (([0, 1, 2], 2, [0.1, 0.2]), r"privacy_cost differs between users, .* selection='optimistic'"),
        (([0, 1, 2], 2, 0.1, "best"), r"selection must be 'symmetric', .*, got 'best'"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(mo.InvalidInput, match=message):
        PlatformPayments(*arguments)


def test_bad_arguments_of_methods():
    payments = PlatformPayments(TWO, 2, 0.5)
    for call, message in (
        (lambda: payments.equilibria(1.2), r"payment_share = 1.2 must lie in \[0, 1\]"),
        (lambda: payments.regret(0.5, [0.1]), r"share_probability has shape \(1,\) for 2 users"),
        (lambda: payments.regret(0.5, [0.1, 1.5]), r"share_probability\[1\] = 1.5 must lie in"),
        (lambda: payments.expected_utility(-0.1), r"share_probability must be a finite number >= 0"),
        (lambda: payments.utility_share_program(3), r"target = 3 must be at most n_users = 2"),
        (lambda: payments.utility_share_program(-1), r"target must be a whole number >= 0"),
        (lambda: payments.correlated_program(0.5, "mean"), r"sense must be 'best' or 'worst'"),
        (lambda: payments.bound_program("guess"), r"method must be 'sum_of_squares' or 'coefficients'"),
        (lambda: payments.certify("coefficients", on_failure="maybe"), r"on_failure must be"),
        (lambda: payments.certify("newton"), r"'branch_and_bound', 'sum_of_squares', 'coefficients' or"),
        (lambda: payments.certify("rational", "clarabel"), r"solves no program: leave out"),
    ):
        with pytest.raises(mo.InvalidInput, match=message):
            call()
    spoiled = PlatformPayments(lambda a, b: [[0, 0.5, 1], [0.9, 0.2], [0.3]][a][b], 2, 0.1)
    with pytest.raises(mo.NotApplicable, match="must not be negative"):
        spoiled.certify("sum_of_squares")
