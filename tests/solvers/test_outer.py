"""Outer approximation: against enumeration, against an interior-point method, and against itself."""

import itertools
import time

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse as sp

import mechopt as mo
from mechopt import Status
from mechopt.solvers import outer
from mechopt.solvers.tangents import Exponential, Power, Rotated, Semidefinite

LOG = (np.log1p, lambda x: 1 / (1 + x))


def best_of(program: mo.Program, name: str, choices, value) -> float:
    """Best value over integer choices, None where a choice is infeasible."""
    found = [value(np.array(choice, dtype=float)) for choice in choices]
    sign = 1.0 if program.sense == "maximize" else -1.0
    return sign * max(sign * v for v in found if v is not None)


def binary(count: int):
    return itertools.product((0, 1), repeat=count)


# --------------------------------------------------------------------------------------------------- tangents


@pytest.mark.parametrize(
    ("surface", "inside"),
    [
        (
            Exponential(np.arange(3)[None, :]),
            lambda r: (
                x := r.normal() * 3,
                y := 0.1 + r.exponential(),
                y * np.exp(x / y) + r.exponential() * 0.1,
            ),
        ),
        (
            Power(np.arange(3)[None, :], np.array([0.3])),
            lambda r: (x := r.exponential(), y := r.exponential(), x**0.3 * y**0.7 * r.uniform(-1, 1)),
        ),
        (
            Rotated(np.arange(3)[None, :], np.array([1.0])),
            lambda r: (t := r.exponential(), y := r.normal(), y**2 / t + r.exponential() * 0.1),
        ),
        (
            Semidefinite(np.arange(9)[None, :], 3),
            lambda r: ((g := r.normal(size=(3, 2))) @ g.T).ravel(),
        ),
    ],
    ids=["exponential", "power", "rotated", "semidefinite"],
)
def test_cuts_keep_the_cone_and_lose_the_point(surface, inside):
    rng = np.random.default_rng(0)
    members = np.array([inside(rng) for _ in range(300)])
    members = members[np.max(np.abs(members), axis=1) < 1e4]
    separated = 0
    for cut in surface.start():
        assert np.min(members[:, cut.index[0]] @ cut.weights.T - cut.level) > -1e-9
    for _ in range(300):
        outside = rng.normal(size=members.shape[1]) * rng.choice([0.1, 1.0, 10.0])
        worst, cuts = surface.separate(outside[None, :], 1e-9)
        if worst <= 1e-9 or (not isinstance(surface, Semidefinite) and np.any(outside[:2] < 0)):
            continue
        separated += 1
        for cut in cuts:
            assert np.all(cut.weights @ outside < cut.level)
            assert np.min(members @ cut.weights.T - cut.level) > -1e-8 * np.max(np.abs(members))
    assert separated > 30


# ------------------------------------------------------------------------------- continuous, against Clarabel


def distance(rng):
    program = mo.Program("soc")
    x = program.variable("x", 12, scale=2.0)
    program.minimize(rng.normal(size=12) @ x + cp.norm(rng.normal(size=(20, 12)) @ x - 1))
    program.add("total", cp.sum(x) == 1)
    return program.add("cap", x <= 0.3)


def logarithms(rng):
    program = mo.Program("exp", objective_scale=5.0)
    x = program.variable("x", (2, 5), nonneg=True, scale=3.0)
    program.maximize(cp.sum(cp.log(1 + cp.multiply(rng.uniform(0.5, 5.0, (2, 5)), x))))
    program.add("budget", cp.sum(x, axis=1) <= [4.0, 7.0])
    return program.add("joint", 8.0 >= cp.sum(cp.multiply(rng.random((2, 5)), x)))  # noqa: SIM300


def entropy(rng):
    program = mo.Program("entropy")
    p = program.variable("p", 8, nonneg=True)
    program.maximize(cp.sum(cp.entr(p)))
    program.add("total", cp.sum(p) == 1)
    return program.add("mean", rng.random(8) @ p >= 0.6)


def exponentials(rng):
    program = mo.Program("exponentials")
    x = program.variable("x", 4)
    program.minimize(cp.sum(cp.exp(x)) + cp.log_sum_exp(rng.normal(size=(3, 4)) @ x))
    return program.add("low", rng.uniform(0.5, 1.0, 4) @ x >= 1)


def powers(rng):
    program = mo.Program("pow")
    x = program.variable("x", 6, nonneg=True)
    program.maximize(cp.sum(cp.power(x, 0.37, approx=False)))
    return program.add("budget", rng.uniform(0.5, 2.0, 6) @ x <= 6)


def many_dimensional_power(rng):
    alpha = rng.dirichlet(np.ones(4), size=3).T
    program = mo.Program("pownd")
    x, z = program.variable("x", (4, 3)), program.variable("z", 3)
    program.maximize(cp.sum(z))
    program.add("cone", cp.PowConeND(x, z, alpha))
    return program.add("budget", rng.uniform(0.5, 2.0, 4) @ x <= 10)


def elliptope(rng):
    cost = rng.normal(size=(4, 4))
    program = mo.Program("sdp")
    X = program.variable("X", (4, 4), PSD=True)
    program.minimize(cp.trace((cost + cost.T) @ X))
    return program.add("unit", cp.diag(X) == 1)


def matrix_inequality(rng):
    matrix = rng.normal(size=(4, 4))
    program = mo.Program("lmi")
    t, y = program.variable("t"), program.variable("y", 4)
    program.minimize(t + cp.norm1(y) / 2)
    return program.add("above", t * np.eye(4) + cp.diag(y) - (matrix + matrix.T) >> 0)


def quadratic(rng):
    factor = rng.normal(size=(6, 6))
    program = mo.Program("qp")
    x = program.variable("x", 6, nonneg=True)
    program.minimize(cp.quad_form(x, factor @ factor.T) - rng.random(6) @ x)
    return program.add("total", cp.sum(x) == 1)


CONTINUOUS = [
    distance,
    logarithms,
    entropy,
    exponentials,
    powers,
    many_dimensional_power,
    elliptope,
    matrix_inequality,
    quadratic,
]


@pytest.mark.parametrize("build", CONTINUOUS)
@pytest.mark.parametrize("seed", range(3))
def test_values_and_prices_agree_with_an_interior_point_method(build, seed):
    ours = build(np.random.default_rng(seed)).solve("outer")
    other = build(np.random.default_rng(seed)).solve("clarabel", tolerance=1e-7, on_failure="return")
    assert ours.objective == pytest.approx(other.objective, rel=1e-6, abs=1e-6)
    assert ours.gap is not None
    assert ours.gap < 1e-6
    sign = 1.0 if ours.sense == "maximize" else -1.0
    assert sign * (ours.bound - ours.objective) > -1e-7 * (1 + abs(ours.objective))
    assert ours.duals
    for family in ours.duals:
        for price, reference in zip(ours.duals[family], other.duals[family], strict=True):
            np.testing.assert_allclose(price, reference, atol=1e-4 * (1 + np.max(np.abs(reference))))


def test_prices_are_derivatives_of_the_value():
    def value(budget: float) -> mo.Solution:
        program = mo.Program("derivative")
        x = program.variable("x", 3, nonneg=True, scale=5.0)
        t = program.variable("t", 3)
        program.maximize(cp.sum(t) + cp.sqrt(1 + x[0]))
        program.add("utility", mo.Hypograph(t, LOG, cp.multiply([1.0, 2.0, 0.5], x)))
        program.add("budget", cp.sum(x) <= budget)
        return program.solve("outer", tolerance=1e-8)

    price = float(value(6.0).dual("budget"))
    assert (value(6.01).objective - value(5.99).objective) / 0.02 == pytest.approx(price, rel=1e-5)
    # One unit more of utility, given for free, is worth one unit of the objective.
    np.testing.assert_allclose(value(6.0).dual("utility"), 1.0, atol=1e-6)


def test_many_cuts_are_purged_and_the_answer_stays():
    rng = np.random.default_rng(0)
    program = mo.Program("many")
    x = program.variable("x", 150, nonneg=True)
    program.maximize(cp.sum(cp.power(x, 0.4, approx=False)))
    program.add("budget", rng.uniform(0.5, 2.0, 150) @ x <= 150)
    assert program.solve("outer").objective == pytest.approx(program.solve("clarabel").objective, rel=1e-6)


# ------------------------------------------------------------------------------ integers, against enumeration


@pytest.mark.parametrize("seed", range(4))
def test_mixed_integer_second_order_cone(seed):
    rng = np.random.default_rng(seed)
    target, matrix = rng.uniform(-2, 2, 3), rng.normal(size=(4, 3))
    program = mo.Program("mi-soc")
    n = program.variable("n", 3, integer=True, bounds=[-3, 3])
    program.minimize(cp.norm(matrix @ (n - target)) + 0.1 * cp.sum(n))
    program.add("ball", cp.norm(n) <= 3)

    def value(choice):
        return (
            None
            if np.linalg.norm(choice) > 3
            else np.linalg.norm(matrix @ (choice - target)) + 0.1 * choice.sum()
        )

    best = best_of(program, "n", itertools.product(range(-3, 4), repeat=3), value)
    solution = program.solve("outer")
    assert solution.status is Status.OPTIMAL
    assert solution.objective == pytest.approx(best, rel=1e-7)
    assert solution.bound <= best + 1e-7


@pytest.mark.parametrize("oracle", [False, True], ids=["cone", "evaluated"])
@pytest.mark.parametrize(("agents", "cap", "seed"), [(4, None, 0), (4, 2, 1), (4, 1, 2)])
def test_sharing_graph_against_every_graph(agents, cap, seed, oracle):
    rng = np.random.default_rng(seed)
    data, cost = rng.uniform(1, 5, agents), rng.uniform(0.02, 0.5, (agents, agents))
    program = mo.Program("sharing")
    share = program.variable("share", (agents, agents), boolean=True)
    pooled = data + share.T @ data
    if oracle:
        utility = program.variable("utility", agents)
        program.maximize(cp.sum(utility) - cp.sum(cp.multiply(cost, share)))
        program.add(
            "gain", mo.Hypograph(utility, (lambda x: np.log(1 + x / 2), lambda x: 1 / (2 + x)), pooled)
        )
    else:
        program.maximize(cp.sum(cp.log(1 + pooled / 2)) - cp.sum(cp.multiply(cost, share)))
    program.add("own", cp.diag(share) == 0)
    if cap is not None:
        program.add("cap", cp.sum(share, axis=1) <= cap)
    bits = np.array(list(binary(agents * (agents - 1))))
    graphs = np.zeros((len(bits), agents, agents))
    graphs[:, ~np.eye(agents, dtype=bool)] = bits
    if cap is not None:
        graphs = graphs[np.all(graphs.sum(axis=2) <= cap, axis=1)]
    values = np.log(1 + (data + np.einsum("kij,i->kj", graphs, data)) / 2).sum(axis=1) - (cost * graphs).sum(
        (1, 2)
    )
    solution = program.solve("outer")
    assert solution.status is Status.OPTIMAL
    assert solution.objective == pytest.approx(values.max(), rel=1e-9)
    np.testing.assert_array_equal(solution["share"], graphs[values.argmax()])


def test_mixed_integer_power_cone_with_continuous_part():
    rng = np.random.default_rng(3)
    worth, price = rng.uniform(1, 3, 5), rng.uniform(0.5, 1.5, 5)

    def build(fixed=None):
        program = mo.Program("mi-pow")
        take = program.variable("take", 5, boolean=True)
        x = program.variable("x", 5, nonneg=True)
        program.maximize(worth @ cp.power(x, 0.4, approx=False) - price @ x - 0.6 * cp.sum(take))
        program.add("switch", x <= 2 * take)
        program.add("budget", cp.sum(x) <= 4)
        if fixed is not None:
            program.add("fixed", take == fixed)
        return program

    def value(choice):
        taken = choice > 0  # the others would be solved at zero, where a power is steep for an interior point
        if not taken.any():
            return 0.0
        program = mo.Program("fixed")
        x = program.variable("x", int(taken.sum()), bounds=[0, 2])
        program.maximize(worth[taken] @ cp.power(x, 0.4, approx=False) - price[taken] @ x)
        program.add("budget", cp.sum(x) <= 4)
        return program.solve("clarabel").objective - 0.6 * choice.sum()

    solution = build().solve("outer")
    assert solution.objective == pytest.approx(best_of(build(), "take", binary(5), value), rel=1e-6)
    chosen = build(solution["take"]).solve("outer")
    assert chosen.objective == pytest.approx(solution.objective, rel=1e-7)


def test_mixed_integer_semidefinite():
    """Sensors: add rank-one information until the least eigenvalue is largest."""
    rng = np.random.default_rng(2)
    sensors, cost = rng.normal(size=(6, 3)), rng.uniform(0.05, 0.3, 6)
    program = mo.Program("mi-sdp")
    use = program.variable("use", 6, boolean=True)
    level = program.variable("level")
    program.maximize(level - cost @ use)
    information = sum(use[i] * np.outer(sensors[i], sensors[i]) for i in range(6))
    program.add("least", information - level * np.eye(3) >> 0)

    def value(choice):
        return np.linalg.eigvalsh(sensors.T @ (choice[:, None] * sensors))[0] - cost @ choice

    best = best_of(program, "use", binary(6), value)
    assert program.solve("outer").objective == pytest.approx(best, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_mixed_integer_hypograph(seed):
    rng = np.random.default_rng(seed)
    worth, price = rng.uniform(1, 4, 3), rng.uniform(0.2, 1.0, 3)
    program = mo.Program("mi-oracle")
    n = program.variable("n", 3, integer=True, bounds=[0, 6])
    t = program.variable("t", 3)
    program.maximize(worth @ t - price @ n)
    program.add("gain", mo.Hypograph(t, LOG, n))
    program.add("total", cp.sum(n) <= 9)

    def value(choice):
        return None if choice.sum() > 9 else worth @ np.log1p(choice) - price @ choice

    best = best_of(program, "n", itertools.product(range(7), repeat=3), value)
    assert program.solve("outer").objective == pytest.approx(best, rel=1e-8)


# ---------------------------------------------------------------------------------------- evaluated functions


def pricing(form: str) -> mo.Program:
    program = mo.Program(form)
    x = program.variable("x", (2, 3), nonneg=True, scale=10.0)
    weight = np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
    if form == "cone":
        program.maximize(cp.sum(cp.multiply(weight, cp.log1p(x))))
    else:
        t = program.variable("t", (2, 3))
        program.maximize(cp.sum(cp.multiply(weight, t)))
        program.add("gain", mo.Hypograph(t, LOG, x))
    return program.add("budget", cp.sum(x, axis=0) <= [3.0, 5.0, 8.0])


def test_an_evaluated_logarithm_is_the_logarithm():
    evaluated, cone = pricing("evaluated").solve("outer"), pricing("cone").solve("outer")
    reference = pricing("cone").solve("clarabel", tolerance=1e-8)
    for solution in (evaluated, cone):
        assert solution.objective == pytest.approx(reference.objective, rel=1e-7)
        np.testing.assert_allclose(solution["x"], reference["x"], atol=1e-4)
        np.testing.assert_allclose(solution.dual("budget"), reference.dual("budget"), atol=1e-5)
    np.testing.assert_allclose(
        evaluated.dual("gain"), np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]]), atol=1e-6
    )


def test_a_piecewise_linear_function():
    def value(x):
        return np.minimum(2 * x, 1 + x / 2)

    def slope(x):
        return np.where(x < 2 / 3, 2.0, 0.5)

    program = mo.Program("piecewise")
    x, t = program.variable("x", bounds=[0, 10]), program.variable("t")
    program.maximize(t - x)
    program.add("gain", mo.Hypograph(t, (value, slope), x))
    solution = program.solve("outer")
    assert solution["x"] == pytest.approx(2 / 3)
    assert solution.objective == pytest.approx(2 / 3)


def test_a_vertical_slope_at_the_edge_of_the_domain():
    program = mo.Program("root")
    x, t = program.variable("x", nonneg=True), program.variable("t")
    program.maximize(t - x)
    program.add("gain", mo.Hypograph(t, (np.sqrt, lambda x: 0.5 / np.sqrt(x)), x))
    solution = program.solve("outer")
    assert solution.objective == pytest.approx(0.25, rel=1e-6)
    assert solution["x"] == pytest.approx(0.25, rel=1e-3)


def test_a_function_that_is_not_concave_is_named():
    program = mo.Program("convex")
    x, t = program.variable("x", 2, bounds=[0, 4]), program.variable("t", 2)
    program.maximize(cp.sum(t) - x[0])
    program.add("gain", mo.Hypograph(t, (lambda x: (x - 1) ** 2, lambda x: 2 * (x - 1)), x))
    with pytest.raises(mo.InvalidInput, match=r"hypograph 'gain', entry \(\d,\).*not concave.*f\(.*f\("):
        program.solve("outer")


def test_a_wrong_derivative_is_named():
    program = mo.Program("slope")
    x, t = program.variable("x", bounds=[0, 4]), program.variable("t")
    program.maximize(t - x / 4)
    program.add("gain", mo.Hypograph(t, (np.log1p, lambda x: 0.5 / (1 + x)), x))
    with pytest.raises(mo.InvalidInput, match="derivative is"):
        program.solve("outer")


def test_a_function_without_a_value_is_named():
    program = mo.Program("nan")
    x, t = program.variable("x", bounds=[-2, 4]), program.variable("t")
    program.maximize(t - 3 * x)
    program.add("gain", mo.Hypograph(t, (np.log1p, lambda x: 1 / (1 + x)), x))
    with pytest.raises(mo.InvalidInput, match=r"hypograph 'gain', entry \(\): f\(-2.*nan"):
        program.solve("outer")


# ------------------------------------------------------------------------------------------ limits, no answer


def big_sharing(agents: int = 40) -> mo.Program:
    rng = np.random.default_rng(1)
    data, cost = rng.uniform(1, 5, agents), rng.uniform(0.02, 0.5, (agents, agents))
    program = mo.Program("big")
    share = program.variable("share", (agents, agents), boolean=True)
    program.maximize(cp.sum(cp.log(1 + (data + share.T @ data) / 2)) - cp.sum(cp.multiply(cost, share)))
    program.add("own", cp.diag(share) == 0)
    program.add("cap", cp.sum(share, axis=1) <= 5)
    return program.add("degree", cp.sum(share, axis=0) <= 4)


def test_time_limit_gives_the_incumbent_and_a_valid_bound():
    started = time.perf_counter()
    short = big_sharing().solve("outer", time_limit=1.5, on_failure="return")
    assert time.perf_counter() - started < 4.0
    assert short.status in (Status.LIMIT, Status.OPTIMAL)
    assert short.bound >= short.objective - 1e-6
    assert max(short.residuals.values()) < 1e-6
    if short.status is Status.LIMIT:
        assert "TimeLimit" in short.reason or "time limit" in short.reason


def test_bounds_of_stopped_searches_hold():
    rng = np.random.default_rng(0)
    target = rng.uniform(-2, 2, 6)

    def build():
        program = mo.Program("stopped")
        n = program.variable("n", 6, integer=True, bounds=[-3, 3])
        program.minimize(cp.sum_squares(n - target) + cp.exp(cp.sum(n) / 3))
        return program

    full = build().solve("outer")
    for rounds in (1, 2):
        stopped = build().solve("outer", max_rounds=rounds, on_failure="return")
        assert stopped.status in (Status.LIMIT, Status.OPTIMAL)
        assert stopped.bound is None or stopped.bound <= full.objective + 1e-7


def test_a_limit_before_the_first_relaxation_leaves_a_bound():
    program = big_sharing()
    share = program["share"]
    # The only variables that the objective needs have bounds, so that something is known at once.
    program.maximize(cp.sum(cp.multiply(np.arange(1.0, 1 + share.size).reshape(share.shape), share)))
    stopped = program.solve("outer", time_limit=1e-9, on_failure="return")
    assert stopped.status is Status.LIMIT
    assert not stopped.values
    assert stopped.bound == pytest.approx(share.size * (share.size + 1) / 2)
    with pytest.raises(mo.SolverFailure, match="before it had a point"):
        program.solve("outer", time_limit=1e-9)


def test_first_cuts_of_matrices_are_sparse():
    order = 30
    surface = Semidefinite(np.arange(2 * order**2).reshape(2, -1), order)
    rows = sp.vstack([cut.matrix(2 * order**2) for cut in surface.start()], format="csr")
    assert rows.shape[0] == 2 * order**2  # each matrix: its diagonal, and sums and differences of pairs
    assert rows.nnz <= 4 * rows.shape[0]
    for row in rows[[0, 3, 70, -1]].toarray():
        matrix = sum(row.reshape(2, order, order))
        np.testing.assert_array_equal(matrix, matrix.T)
        assert np.linalg.eigvalsh(matrix)[0] > -1e-12
        assert np.linalg.matrix_rank(matrix) == 1


@pytest.mark.parametrize("noise", [1.0, 1e-4, 1e-5, 1e-6])
def test_matrices_with_entries_of_very_different_sizes(noise):
    """Rows with coefficients of 1e8 had HiGHS's trees lose every feasible point."""
    rng = np.random.default_rng(0)
    for n in (3, 4):
        root = rng.normal(size=(n, n))
        model = mo.DataExternality(root @ root.T / n, rng.uniform(0.3, 1.5, n), noise_variance=noise)
        program = model.program()
        profit, found = program.solve("exact").objective, program.solve("outer")
        assert found.objective == pytest.approx(profit, rel=2e-6)
        assert found.bound >= profit * (1 - 1e-9)


def test_infeasible_by_its_cones():
    program = mo.Program("far")
    x = program.variable("x", 3)
    program.maximize(x[0])
    program.add("ball", cp.norm(x) <= 1)
    program.add("total", cp.sum(x) >= 1.8)
    program.add("other", x <= 5)
    with pytest.raises(mo.Infeasible) as caught:
        program.solve("outer")
    assert set(caught.value.families) == {"ball", "total"}


@pytest.mark.parametrize("boolean", [True, False])
def test_no_integer_point_in_a_thin_ball(boolean):
    program = mo.Program("thin")
    n = (
        program.variable("n", 3, boolean=True)
        if boolean
        else program.variable("n", 3, integer=True, bounds=[0, 1])
    )
    program.maximize(cp.sum(n))
    program.add("ball", cp.norm(n - 0.5) <= np.sqrt(0.75) - 1e-3)
    with pytest.raises(mo.Infeasible, match="ball"):
        program.solve("outer")


@pytest.mark.parametrize("integer", [False, True])
def test_unbounded_along_a_ray(integer):
    program = mo.Program("ray")
    x, t = program.variable("x", 2, integer=integer), program.variable("t")
    program.maximize(t + cp.log(1 + x[0]))
    program.add("cone", cp.norm(x) <= t)
    with pytest.raises(mo.Unbounded):
        program.solve("outer")


def test_a_ray_without_a_point_is_infeasible():
    program = mo.Program("empty")
    x, t = program.variable("x"), program.variable("t")
    program.maximize(t)
    program.add("low", cp.exp(x) <= 1)
    program.add("high", x >= 1)
    with pytest.raises(mo.Infeasible):
        program.solve("outer")


@pytest.mark.parametrize("price", [1.0, 1e-2, 1e-4, 1e-6])
def test_a_slow_function_is_not_called_unbounded(price):
    """max log x - price x = -log(price) - 1, however flat; a few tangents alone would leave it unbounded."""
    for oracle in (False, True):
        program = mo.Program("slow")
        x = program.variable("x")
        if oracle:
            t = program.variable("t")
            program.maximize(t - price * x)
            program.add("gain", mo.Hypograph(t, (np.log, lambda x: 1 / x), x))
        else:
            program.maximize(cp.log(x) - price * x)
        program.add("floor", x >= 0.1)
        solution = program.solve("outer")
        assert solution.objective == pytest.approx(-np.log(price) - 1, rel=1e-6, abs=1e-6)


def test_a_logarithm_without_end_is_no_optimum():
    program = mo.Program("endless")
    x = program.variable("x", nonneg=True)
    program.maximize(cp.log(1 + x))
    solution = program.solve("outer", on_failure="return")
    assert solution.status in (Status.UNBOUNDED, Status.FAILED)
    assert not solution.values


@pytest.mark.parametrize("seed", [*range(10), 19, 35])
def test_a_first_choice_of_integers_without_a_point_is_not_the_end(seed):
    rng = np.random.default_rng(seed)
    grid = np.array(list(itertools.product(range(4), repeat=3)))
    centre, radius, weights = rng.uniform(1, 2, 3), rng.uniform(0.6, 1.3), rng.normal(size=3)
    program = mo.Program("whole points in a ball")
    x = program.variable("x", 3, integer=True, bounds=[0, 3])
    program.maximize(weights @ x)
    program.add("ball", cp.norm(x - centre) <= radius)
    inside = grid[((grid - centre) ** 2).sum(axis=1) <= radius**2]
    if not len(inside):
        with pytest.raises(mo.Infeasible):
            program.solve("outer")
        return
    assert program.solve("outer").objective == pytest.approx((inside @ weights).max(), abs=1e-6)


def test_a_start_that_comes_back_with_another_points_objective():
    # HiGHS 1.15.1 returned the start that it was given, and the objective of its optimum, one sale more.
    market = mo.SharingMarket(
        [4.96, 3.77, 4.41],
        [[0, 0.676, 1.4], [0.656, 0, 2], [1.02, 1.69, 0]],
        [mo.SqrtUtility(1.92), mo.InverseSqrtUtility(20.2), mo.InverseSqrtUtility(16.5)],
    )
    forbidden = np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]])
    solution = market.program(seller_cap=1, forbidden=forbidden).solve("outer")
    best = max(
        market.welfare(np.array([[0, 0, 0], [0, 0, first], [0, second, 0]]))
        for first, second in itertools.product((0, 1), repeat=2)
    )
    assert solution.objective == pytest.approx(best, abs=1e-7)


def test_unknown_options():
    with pytest.raises(mo.InvalidInput, match="no option 'depth'; it has max_rounds"):
        pricing("cone").solve("outer", depth=3)


# ---------------------------------------------------------------------------------- where HiGHS is at its end


def test_what_the_simplex_method_leaves_undecided_is_decided() -> None:
    """HiGHS's simplex method calls the first relaxation of this infeasible program "Unknown"."""
    accuracy = mo.PowerLawAccuracy(coefficient=5.62, exponent=0.5, threshold=0.25)
    program = mo.AccuracyShaping(accuracy, marginal_costs=(0.00264, 0.0154)).program()
    for backend in ("outer", "clarabel"):
        assert program.solve(backend, on_failure="return").status is Status.INFEASIBLE


def test_options_of_the_user_hold_again_after_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def run(highs):
        seen.append(tuple(highs.getOptionValue(name)[1] for name in ("presolve", "solver")))
        words = before(highs)
        return "kUnknown" if len(seen) in (1, 2) else words

    before = outer.run
    monkeypatch.setattr(outer, "run", run)
    program = mo.Program("root")
    x = program.variable("x", bounds=[0, 4])
    program.maximize(cp.sqrt(x) - x / 4).add("cap", x <= 3.5)
    solution = program.solve("outer", presolve="on")
    assert solution.objective == pytest.approx(np.sqrt(3.5) - 3.5 / 4, rel=1e-6)
    assert seen[:4] == [("on", "choose"), ("off", "choose"), ("on", "ipm"), ("on", "choose")]


def test_integer_answers_that_violations_improve_too_much_are_not_called_optimal() -> None:
    """Noise of 1e-7 of the variance: tangents of the matrix inequality cannot be met closely enough."""
    correlation = np.array([[1.0, 0.621, -0.16], [0.621, 1.0, -0.387], [-0.16, -0.387, 1.0]])
    market = mo.DataExternality(2.3e7 * correlation, [1.62, 1.54, 1.69])
    solution = market.program().solve("outer", on_failure="return")
    error = abs(solution.objective - market.solve().objective)
    assert error > 1e-6 * market.total_information
    assert solution.status is Status.INACCURATE
    assert "is sure to" in solution.reason
    assert not solution.duals


def test_the_best_point_so_far_outlives_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = []

    def late(self, best):
        trees.append(best.x)
        if len(trees) > 1:
            raise outer._OutOfTime
        return before(self, best)

    before = outer._Search._tree
    monkeypatch.setattr(outer._Search, "_tree", late)
    program = mo.Program("late")
    n = program.variable("n", 3, integer=True, bounds=[-3, 3])
    program.minimize(cp.sum_squares(n - np.array([0.4, 1.7, -2.2])) + cp.exp(cp.sum(n)))
    solution = program.solve("outer", on_failure="return")
    assert trees[0] is None
    assert trees[1] is not None
    assert solution.status in (Status.LIMIT, Status.OPTIMAL)
    assert "time limit" in solution.reason or "stopped by a limit" in solution.reason
    assert solution.values
