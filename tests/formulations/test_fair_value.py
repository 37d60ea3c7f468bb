"""Fair values: three exact roads and Monte Carlo against definitions; axioms, stability, bad input."""

import dataclasses
import pickle

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.fair_value.shapley import FairValue, exact, groups, owen
from mechopt.formulations.fair_value.shapley.utilities import read
from tests.oracles import fair_value as oracle

ROUNDING = 1e-12  # of the largest value: sums of up to 2^7 terms, orders of up to 7! joinings


def concave(weights, theta=2.0):
    """Diminishing returns in weighted counts, for many counts at once."""

    def utility(counts):
        data = counts @ np.asarray(weights, dtype=float)
        return data / (data + theta)

    return utility


# ------------------------------------------------------------------ distinct users


@pytest.mark.parametrize("n", range(1, 8))
def test_subsets_are_orders_and_dividends(n):
    table = oracle.random_table(np.random.default_rng(n), n)
    division = FairValue(table).solve()
    assert division.method == "subsets"
    scale = np.abs(table).max()
    for other in (oracle.by_orders(table), oracle.by_dividends(table), oracle.printed_users(table)):
        np.testing.assert_allclose(division.user_values, other, rtol=0, atol=ROUNDING * scale)
    assert division.efficiency_residual <= ROUNDING * scale
    assert division.platform_value == 0


@pytest.mark.parametrize("n", range(1, 7))
def test_platform_is_a_player_with_a_veto(n):
    table = oracle.random_table(np.random.default_rng(n), n, empty=None)
    assert table[0] != 0
    division = FairValue(table, include_platform=True).solve()
    got = np.append(division.user_values, division.platform_value)
    users, platform = oracle.printed_platform(table)
    veto = oracle.veto_game(table)
    scale = np.abs(table).max()
    for other in (np.append(users, platform), oracle.by_orders(veto), oracle.by_dividends(veto)):
        np.testing.assert_allclose(got, other, rtol=0, atol=ROUNDING * scale)
    assert division.efficiency_residual <= ROUNDING * scale


@pytest.mark.parametrize("platform", [False, True])
def test_axioms_hold(platform):
    rng = np.random.default_rng(3)
    for _ in range(10):
        first, second = oracle.random_table(rng, 5), oracle.random_table(rng, 5)
        masks = np.arange(32)
        first = first[masks & ~(1 << 3)]  # user 3 adds nothing
        swapped = (masks & ~3) | (masks >> 1 & 1) | (masks & 1) << 1
        first = (first + first[swapped]) / 2  # users 0 and 1 are alike
        found = [
            FairValue(game, include_platform=platform).solve() for game in (first, second, first + second)
        ]
        assert abs(found[0].user_values[3]) <= ROUNDING
        assert abs(found[0].user_values[0] - found[0].user_values[1]) <= ROUNDING
        total = found[0].user_values + found[1].user_values
        np.testing.assert_allclose(found[2].user_values, total, rtol=0, atol=ROUNDING)
        assert found[2].platform_value == pytest.approx(
            found[0].platform_value + found[1].platform_value, abs=ROUNDING
        )


@pytest.mark.parametrize("order", [(2, 0, 1, 3), (3, 2, 1, 0)])
def test_renaming_users_renames_values(order):
    table = oracle.random_table(np.random.default_rng(0), 4)
    renamed = np.array([table[sum(1 << order[i] for i in range(4) if mask >> i & 1)] for mask in range(16)])
    values = FairValue(table).solve().user_values
    np.testing.assert_allclose(FairValue(renamed).solve().user_values, values[list(order)], atol=1e-14)


def test_scale_and_share():
    table = oracle.random_table(np.random.default_rng(1), 4)
    plain = FairValue(table).solve()
    scaled = FairValue(1e9 * table, payment_share=0.3).solve()
    np.testing.assert_allclose(scaled.user_values, 0.3e9 * plain.user_values, rtol=1e-13)
    assert scaled.platform_value == pytest.approx(0.7e9 * table[-1])
    assert FairValue(table, payment_share=0).solve().user_values.tolist() == [0.0] * 4


def test_twenty_users_against_additive_and_pairwise_games():
    n, rng = 20, np.random.default_rng(0)
    alone, together = rng.normal(size=n), np.triu(rng.normal(size=(n, n)), 1)
    bits = np.array(np.arange(2**n)[:, None] >> np.arange(n) & 1, dtype=float)
    table = bits @ alone + np.einsum("si,ij,sj->s", bits[:, :], together, bits, optimize=True)
    division = FairValue(table).solve()
    # A pair's dividend is halved between the two.
    expected = alone + (together.sum(axis=0) + together.sum(axis=1)) / 2
    np.testing.assert_allclose(division.user_values, expected, atol=1e-11)  # sums of 2^20 values
    assert division.efficiency_residual <= ROUNDING * np.abs(table).max()


def test_forms_of_a_utility_agree():
    levels = np.array([0.5, np.inf, 2.0])

    def of_levels(eps):
        return float(np.sum(1 - 1 / (1 + eps)))

    table = [
        of_levels(np.array([levels[i] if mask >> i & 1 else 0.0 for i in range(3)])) for mask in range(8)
    ]
    of_members = {tuple(i for i in range(3) if mask >> i & 1): table[mask] for mask in range(8)}
    many = [
        FairValue(table),
        FairValue(of_levels, privacy_levels=levels),
        FairValue(of_members.__getitem__, n_users=3),
        FairValue(
            lambda eps: np.array([of_levels(row) for row in eps]), privacy_levels=levels, vectorized=True
        ),
        FairValue(lambda bits: np.array(table)[bits @ [1, 2, 4]], n_users=3, vectorized=True),
    ]
    for fair in many:
        assert fair.n_users == 3
        np.testing.assert_allclose(fair.solve().user_values, [1 / 3, 1, 2 / 3], atol=1e-15)
        np.testing.assert_allclose(fair.table(), table)


# ------------------------------------------------------------------ groups


@pytest.mark.parametrize("platform", [False, True])
@pytest.mark.parametrize("sizes", [(1,), (6,), (3, 4), (1, 1, 1, 1), (2, 1, 3), (7, 1, 2)])
def test_groups_and_owen_are_subsets(sizes, platform):
    rng = np.random.default_rng([*sizes])
    grid = rng.normal(size=[m + 1 for m in sizes])
    grid[(0,) * len(sizes)] = 0
    fair = FairValue(grid, group_sizes=sizes, include_platform=platform)
    table = oracle.expand(grid)
    if platform:
        users, kept = oracle.printed_platform(table)
    else:
        users, kept = oracle.printed_users(table), 0.0
    for method in ("subsets", "groups", "owen"):
        division = fair.solve(method)
        np.testing.assert_allclose(division.user_values, users, rtol=0, atol=1e-11)
        assert division.platform_value == pytest.approx(kept, abs=1e-11)
        assert division.efficiency_residual <= ROUNDING * np.abs(grid).max()
        assert division.group_values.shape == (len(sizes),)


@pytest.mark.parametrize("platform", [False, True])
@pytest.mark.parametrize(("sizes", "weights"), [((300, 500), (0.2, 1.0)), ((40, 30, 50), (0.1, 1.0, 3.0))])
def test_owen_is_counting_for_many_users(sizes, weights, platform):
    fair = FairValue(concave(weights), group_sizes=sizes, vectorized=True, include_platform=platform)
    counted, integrated = fair.solve("groups"), fair.solve("owen")
    np.testing.assert_allclose(integrated.group_values, counted.group_values, rtol=2e-13)
    assert integrated.platform_value == pytest.approx(counted.platform_value, rel=2e-13)
    assert max(counted.efficiency_residual, integrated.efficiency_residual) <= ROUNDING


def test_owen_resolves_a_utility_that_jumps():
    # A majority of each group must take part: the integrand has the width of the binomials.
    sizes = (600, 400)

    def utility(counts):
        return np.all(counts > np.array(sizes) // 2, axis=1).astype(float)

    fair = FairValue(utility, group_sizes=sizes, vectorized=True)
    counted, integrated = fair.solve("groups"), fair.solve("owen")
    np.testing.assert_allclose(integrated.group_values, counted.group_values, rtol=1e-11)
    assert integrated.efficiency_residual <= ROUNDING


def test_owen_finds_a_jump_between_its_nodes(monkeypatch):
    # One group shares equally; a jump is seen by the integral only where it is.
    fair = FairValue(lambda k: (k[:, 0] > 291_234).astype(float), group_sizes=[10**6], vectorized=True)
    found = fair.solve("owen")
    assert found.group_values[0] == pytest.approx(1e-6, rel=1e-9)
    monkeypatch.setattr(owen, "_MISSED", np.inf)
    assert fair.solve("owen").group_values[0] < 0.5e-6


def test_rough_table_of_many_users():
    grid = np.random.default_rng(5).normal(size=(81, 61))
    grid[0, 0] = 0
    fair = FairValue(grid, group_sizes=(80, 60))
    counted, integrated = fair.solve("groups"), fair.solve("owen")
    # Values are a hundredth of the utilities here.
    np.testing.assert_allclose(integrated.group_values, counted.group_values, rtol=0, atol=1e-14)


def test_symmetric_users_share_equally_however_many():
    division = FairValue(concave([1.0]), group_sizes=[10_000], vectorized=True).solve()
    assert division.group_values[0] == pytest.approx(10_000 / 10_002 / 10_000, rel=1e-13)
    split = FairValue(concave([1.0, 1.0]), group_sizes=[3000, 10], vectorized=True).solve()
    np.testing.assert_allclose(split.group_values, 1 / 3012, rtol=1e-11)


def test_diverse_sizes_against_an_additive_utility():
    # One user among thousands, and groups too large for factorials.
    weights = np.array([3.0, 0.01, 0.5])
    fair = FairValue(lambda k: k @ weights, group_sizes=[1, 4000, 30], vectorized=True)
    for method in ("groups", "owen"):
        np.testing.assert_allclose(fair.solve(method).group_values, weights, rtol=1e-10)


def test_hypergeometric_windows_have_the_right_moments():
    population, successes = 700, 40
    draws = np.arange(population + 1)
    first, pmf = groups.hypergeometric(population, successes, draws)
    k = first[:, None] + np.arange(pmf.shape[1])
    mean = (pmf * k).sum(axis=1)
    np.testing.assert_allclose(mean, draws * successes / population, rtol=1e-13, atol=1e-15)
    share = successes / population
    variance = draws * share * (1 - share) * (population - draws) / (population - 1)
    np.testing.assert_allclose((pmf * (k - mean[:, None]) ** 2).sum(axis=1), variance, rtol=1e-11, atol=1e-12)
    assert np.all(pmf[(k < 0) | (k > successes)] == 0)


def test_only_likely_counts_are_visited():
    sizes = (1000, 1000)
    division = FairValue(concave([1.0, 2.0]), group_sizes=sizes, vectorized=True).solve("groups")
    assert division.n_evaluations < 0.35 * 1001**2
    assert division.n_evaluations <= groups.cells(sizes)


def test_broken_counting_is_seen(monkeypatch):
    fair = FairValue(concave([0.2, 1.0]), group_sizes=(30, 20), vectorized=True)
    right = fair.solve("owen").group_values
    monkeypatch.setattr(groups, "size_weights", lambda n, platform: 1.001 * exact.size_weights(n, platform))
    assert np.max(np.abs(fair.solve("groups").group_values / right - 1)) > 1e-6
    monkeypatch.undo()
    honest = owen.binomial
    # Not all odds by one factor: users' values do not depend on that, the integral is over the log-odds.
    monkeypatch.setattr(owen, "binomial", lambda m, q, p: honest(m, q, p**1.001))
    assert np.max(np.abs(fair.solve("owen").group_values / right - 1)) > 1e-6


# ------------------------------------------------------------------ Monte Carlo


@pytest.mark.parametrize("platform", [False, True])
def test_confidence_intervals_cover(platform):
    table = oracle.random_table(np.random.default_rng(11), 6)
    fair = FairValue(table, include_platform=platform)
    exactly = fair.solve()
    covered, platform_covered = [], []
    for seed in range(40):
        division = fair.solve("monte_carlo", n_permutations=400, seed=seed)
        low, high = division.confidence_interval.T
        covered.append((low <= exactly.user_values) & (exactly.user_values <= high))
        reach = 1.96 * division.platform_standard_error
        platform_covered.append(abs(division.platform_value - exactly.platform_value) <= reach + 1e-15)
    # 240 intervals at 95 %, dependent within a run: three standard deviations of the mean of 40.
    assert 0.95 - 0.11 <= np.mean(covered) <= 1.0
    assert np.mean(platform_covered) >= 0.84
    assert 0.5 < np.std([covered]) / np.sqrt(0.05 * 0.95) < 2


def test_standard_error_is_that_of_repeated_runs():
    fair = FairValue(oracle.random_table(np.random.default_rng(2), 5), include_platform=True)
    runs = [fair.solve("monte_carlo", n_permutations=200, seed=seed) for seed in range(200)]
    spread = np.std([run.user_values for run in runs], axis=0, ddof=1)
    told = np.mean([run.standard_error for run in runs], axis=0)
    np.testing.assert_allclose(spread / told, 1, atol=0.2)  # of 200 runs: 5 % standard deviation


def test_monte_carlo_of_groups_and_its_seed():
    fair = FairValue(concave([0.2, 1.0]), group_sizes=(40, 20), vectorized=True)
    exactly = fair.solve().group_values
    first, again = (fair.solve("monte_carlo", seed=4) for _ in range(2))
    other = fair.solve("monte_carlo", seed=5)
    assert np.array_equal(first.user_values, again.user_values)
    assert not np.array_equal(first.user_values, other.user_values)
    assert first.efficiency_residual <= ROUNDING
    error = first.standard_error[[0, -1]]
    assert np.all(np.abs(first.group_values - exactly) <= 5 * error)
    assert np.all(error < 0.02 * exactly)


def test_batches_do_not_change_an_estimate(monkeypatch):
    from mechopt.formulations.fair_value.shapley import sampling

    fair = FairValue(oracle.random_table(np.random.default_rng(2), 5), include_platform=True)
    whole = fair.solve("monte_carlo", n_permutations=300)
    monkeypatch.setattr(sampling, "_CELLS", 500)
    calls = []
    parts = fair.solve(
        "monte_carlo", n_permutations=300, progress=lambda done, total: calls.append((done, total))
    )
    assert len(calls) > 5
    assert calls[-1] == (300, 300)
    np.testing.assert_allclose(parts.user_values, whole.user_values, atol=1e-13)
    np.testing.assert_allclose(parts.standard_error, whole.standard_error, rtol=1e-10)


# ------------------------------------------------------------------ choice and record


def test_auto_says_what_it_chose():
    few = FairValue(lambda members: len(members), n_users=5).solve()
    assert (few.method, few.n_evaluations) == ("subsets", 32)
    many = FairValue(lambda bits: bits.sum(axis=1), n_users=40, vectorized=True).solve(n_permutations=10)
    assert many.method == "monte_carlo"
    assert "too many" in many.reason
    slow = FairValue(lambda counts: float(counts.sum()), group_sizes=[3000, 3000])
    assert slow._choose()[0] == "monte_carlo"
    assert "vectorized=True" in slow._choose()[1]
    assert "vectorized=True" in FairValue(len, n_users=20)._choose()[1]


def test_progress_is_told():
    seen = []
    fair = FairValue(concave([0.2, 1.0]), group_sizes=(2000, 2000), vectorized=True)
    for method in ("groups", "owen"):
        seen.clear()
        fair.solve(method, progress=lambda done, total: seen.append((done, total)))
        assert len(seen) > 3
        assert seen[-1][0] == seen[-1][1]
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_record_is_a_table_and_read_only():
    division = FairValue([0, 2, 1, 4], payment_share=0.5).solve()
    frame = division.to_frame()
    assert frame.index.tolist() == ["user 0", "user 1", "platform"]
    assert frame["value"].tolist() == [1.25, 0.75, 2.0]
    assert frame["share"].sum() == pytest.approx(1)
    assert division.confidence_interval is None
    with pytest.raises(ValueError, match="read-only"):
        division.user_values[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        division.method = "other"
    assert pickle.loads(pickle.dumps(division)).user_values.tolist() == [1.25, 0.75]
    estimated = FairValue([0, 2, 1, 4], include_platform=True).solve("monte_carlo", n_permutations=50)
    frame = estimated.to_frame()
    assert {"standard_error", "low", "high"} <= set(frame)
    assert (frame["low"] <= frame["high"]).all()
    grouped = FairValue([0.0, 1.0, 1.5], group_sizes=[2]).solve().to_frame()
    assert grouped["group"].tolist()[:2] == [0, 0]


def test_solve_of_the_package_takes_it():
    assert mo.solve(FairValue([0, 2, 1, 4])).user_values.tolist() == [2.5, 1.5]


def test_replace_makes_another():
    fair = FairValue([0, 2, 1, 4])
    assert dataclasses.replace(fair, payment_share=0.5).solve().user_values.tolist() == [1.25, 0.75]
    grouped = FairValue([0.0, 1.0, 1.5], group_sizes=[2])
    assert dataclasses.replace(grouped, include_platform=True).solve().platform_value == pytest.approx(
        2.5 / 3
    )


# ------------------------------------------------------------------ the axioms as programs


@pytest.mark.parametrize("platform", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_axioms_determine_the_values(n, platform):
    fair = FairValue(oracle.random_table(np.random.default_rng(n), n), include_platform=platform)
    division = fair.solve()
    expected = np.append(division.user_values, division.platform_value)[: n + platform]
    found = fair.axioms_range()
    np.testing.assert_allclose(found, np.stack([expected, expected], axis=1), atol=1e-7)


def test_printed_axioms_leave_the_platform_any_share():
    table = np.abs(oracle.random_table(np.random.default_rng(7), 3)).cumsum()
    table[0] = 0
    fair = FairValue(table, include_platform=True)
    # Nothing keeps the platform from paying users more than the utility, or less than nothing.
    found = fair.axioms_range(platform_symmetry=False)
    assert np.all(found[:, 0] == -np.inf)
    assert np.all(found[:, 1] == np.inf)
    users = FairValue(table).solve().user_values
    for sense, expected in (("minimize", 0.0), ("maximize", table[-1])):
        program = fair.axioms_program("platform", sense, platform_symmetry=False)
        program.add("shares", program["fair_values"][-1] >= 0, program["fair_values"][-1] <= table[-1])
        assert program.solve().objective == pytest.approx(expected, abs=1e-6)
    assert users.sum() == pytest.approx(table[-1])


@pytest.mark.parametrize("family", ["symmetry", "null_user", "efficiency", "additivity"])
def test_each_axiom_is_needed(family):
    fair = FairValue([0, 0.3, 0.5, 1.2, 0.1, 0.9, 0.8, 2.0])
    ends = []
    for sense in ("minimize", "maximize"):
        program = fair.axioms_program(0, sense).drop(family)
        # Without efficiency or additivity there is no end; a box shows it all the same.
        program.add("box", program["values"] <= 10, program["values"] >= -10)
        ends.append(program.solve().objective)
    assert ends[1] - ends[0] > 0.5


def test_share_is_in_the_axioms():
    fair = FairValue([0, 1, 2, 4], payment_share=0.25)
    np.testing.assert_allclose(
        fair.axioms_range(backend="highspy")[:, 0], fair.solve().user_values, atol=1e-8
    )


# ------------------------------------------------------------------ stability


def mean_estimation(n):
    """Utility of exact data of n users: (N+2)/N k/(k+2)."""
    count = np.array([mask.bit_count() for mask in range(2**n)])
    return (n + 2) / n * count / (count + 2)


def test_core_is_empty_with_diminishing_returns():
    fair = FairValue(mean_estimation(3))
    point = fair.core()
    assert not point.nonempty
    assert point.total_value == pytest.approx(3 * 5 / 9, abs=1e-7)
    assert point.cost_of_stability == pytest.approx(3 * 5 / 9 - 1, abs=1e-7)
    # Least core of a symmetric game: the largest U(k) - k U(N) / N.
    least = fair.least_core_program().solve()
    assert least.objective == pytest.approx(max(5 / 3 * k / (k + 2) - k / 3 for k in (1, 2)), abs=1e-7)
    assert least.objective == pytest.approx(0.2222, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_core_against_its_definition(seed):
    rng = np.random.default_rng(seed)
    table = np.abs(oracle.random_table(rng, 4))
    table[-1] *= 1 + 2 * (seed % 2)
    table[0] = 0
    point = FairValue(table).core()
    assert point.total_value == pytest.approx(oracle.core_cost(table), abs=1e-6)
    assert point.nonempty == (oracle.core_cost(table) <= table[-1] + 1e-6)
    rows = np.vstack([oracle.memberships(4), np.ones(4)])
    assert np.all(rows @ point.user_values >= table[1:] - 1e-6)


def test_prices_of_the_core_are_balancing_weights():
    table = mean_estimation(4)
    fair = FairValue(table)
    solution = fair.core_program().solve()
    weights = solution.dual("stability")
    assert np.all(weights >= -1e-9)
    counts = np.array(list(np.ndindex(2, 2, 2, 2)))[1:-1]
    balance = weights @ counts + solution.dual("grand_coalition")
    np.testing.assert_allclose(balance, 1, atol=1e-7)
    nudged = fair.core_program()
    nudged.add("floor", nudged["user_values"][0] >= table[1] + 0.01)
    assert nudged.solve().objective == pytest.approx(solution.objective + 0.01, abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_core_with_platform_is_never_empty_for_monotone_utility(n):
    rng = np.random.default_rng(n)
    table = exact.monotone_cover(rng.uniform(size=(2,) * n)).ravel(order="F")
    table = table - table[0]
    fair = FairValue(table, include_platform=True)
    point = fair.core()
    assert point.nonempty
    program = fair.core_program()
    program.add("all_divided", program["total_value"] == table[-1])
    masks = np.arange(2**n)
    for user in range(n):
        # The most a user can have in the core is what it adds to all others.
        best = program.copy().maximize(program["user_values"][user]).solve().objective
        assert best == pytest.approx(table[-1] - table[masks[-1] & ~(1 << user)], abs=1e-6)
    # x(T) <= U(N) - U(N \ T), for all T.
    for mask in masks:
        paid = sum(point.user_values[i] for i in range(n) if mask >> i & 1)
        assert -1e-7 <= paid <= table[-1] - table[masks[-1] & ~mask] + 1e-6


def test_count_rows_are_subset_rows():
    rng = np.random.default_rng(4)
    grid = rng.uniform(size=(4, 3))
    grid[0, 0] = 0
    for platform in (False, True):
        grouped = FairValue(grid, group_sizes=(3, 2), include_platform=platform)
        distinct = FairValue(oracle.expand(grid), include_platform=platform)
        assert grouped.core().total_value == pytest.approx(distinct.core().total_value, abs=1e-6)
        pair = [fair.least_core_program().solve().objective for fair in (grouped, distinct)]
        assert pair[0] == pytest.approx(pair[1], abs=1e-7)
        np.testing.assert_allclose(
            grouped.nucleolus().user_values, distinct.nucleolus().user_values, atol=1e-9
        )
        assert sum(t.size for t in grouped.core_program().families["stability"]) < 32


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # A glove game: one left glove, two right ones.
        ([0, 0, 0, 1, 0, 1, 0, 1], [1, 0, 0]),
        # A bankruptcy of 200 with claims 100, 200, 300 (Talmud: 50, 75, 75).
        ([0, 0, 0, 0, 0, 0, 100, 200], [50, 75, 75]),
        # 300 for the same claims: proportional.
        ([0, 0, 0, 0, 0, 100, 200, 300], [50, 100, 150]),
        # A majority of two among three.
        ([0, 0, 0, 1, 0, 1, 1, 1], [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_nucleolus_of_known_games(table, expected):
    np.testing.assert_allclose(FairValue(table).nucleolus().user_values, expected, atol=1e-9)


@pytest.mark.parametrize(("n", "seed"), [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (6, 5)])
def test_nucleolus_meets_kohlbergs_criterion(n, seed):
    table = oracle.random_table(np.random.default_rng(seed), n)
    found = FairValue(table).nucleolus()
    assert oracle.is_nucleolus(table, found.user_values)
    assert np.all(np.diff(found.excesses) <= 1e-9)
    if n > 1:
        assert not oracle.is_nucleolus(table, found.user_values + 0.01 * (np.arange(n) - (n - 1) / 2))
        assert found.excesses[0] == pytest.approx(FairValue(table).least_core_program().solve().objective)


def test_nucleolus_with_platform_is_in_the_core():
    table = mean_estimation(3)
    found = FairValue(table, include_platform=True).nucleolus()
    veto = oracle.veto_game(table)
    values = np.append(found.user_values, found.platform_value)
    assert oracle.is_nucleolus(veto, values)
    assert np.all(oracle.memberships(4) @ values >= veto[1:-1] - 1e-9)


def test_nucleolus_of_twelve_users():
    rng = np.random.default_rng(0)
    weight = rng.integers(1, 10, 12)
    mass = np.array([sum(weight[i] for i in range(12) if mask >> i & 1) for mask in range(2**12)])
    found = FairValue(mass / (mass + 20.0)).nucleolus()
    assert found.user_values.sum() == pytest.approx(mass[-1] / (mass[-1] + 20))
    order = np.argsort(weight, kind="stable")
    assert np.all(np.diff(found.user_values[order]) >= -1e-9)


@pytest.mark.parametrize("platform", [False, True])
def test_monotone_cover(platform):
    rng = np.random.default_rng(8)
    table = oracle.random_table(rng, 5)
    fair = FairValue(table, include_platform=platform)
    cover = fair.monotone_cover()
    expected = [max(table[sub] for sub in range(32) if sub & mask == sub) for mask in range(32)]
    assert cover.table().tolist() == expected
    assert cover.include_platform == platform
    assert np.all(cover.solve().user_values >= -ROUNDING)
    assert exact.is_monotone(cover.table().reshape((2,) * 5))
    grid = rng.normal(size=(4, 3))
    grid[0, 0] = 0
    grouped = FairValue(grid, group_sizes=(3, 2)).monotone_cover().table()
    for a, b in np.ndindex(4, 3):
        assert grouped[a, b] == grid[: a + 1, : b + 1].max()
    again = FairValue(grouped, group_sizes=(3, 2)).monotone_cover().table()
    assert np.array_equal(again, grouped)


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FairValue([0, 1, 2]), r"3 values.*power of two"),
        (lambda: FairValue([0.0]), r"1 values.*power of two"),
        (lambda: FairValue([0, 1, 2, 3], n_users=3), r"4 values.*2\^3 = 8"),
        (lambda: FairValue([[0, 1], [2, 3]]), r"shape \(2, 2\)"),
        (lambda: FairValue([0, 1, np.nan, 3]), r"utility\[2\] is nan"),
        (lambda: FairValue([0, 1, 2, np.inf]), r"utility\[3\] is inf"),
        (lambda: FairValue(["a", "b"]), r"table of 2\^n_users values"),
        (lambda: FairValue([0.5, 1, 2, 3]), r"nobody is 0.5.*subtract.*include_platform=True"),
        (lambda: FairValue(len), r"n_users is missing"),
        (lambda: FairValue(len, n_users=0), r"n_users must be a whole number >= 1, got 0"),
        (lambda: FairValue(len, n_users=2.5), r"n_users must be a whole number"),
        (lambda: FairValue([0, 1], payment_share=1.5), r"payment_share must be in \[0, 1\], got 1.5"),
        (lambda: FairValue([0, 1], payment_share=-0.5), r"payment_share .* >= 0"),
        (lambda: FairValue([0, 1], include_platform=True, payment_share=0.5), r"follows from the axioms"),
        (lambda: FairValue([0, 1], include_platform="yes"), r"include_platform must be True or False"),
        (lambda: FairValue(sum, privacy_levels=[1, -1]), r"privacy_levels\[1\] is -1.0"),
        (lambda: FairValue(sum, privacy_levels=[1, np.nan]), r"privacy_levels\[1\] is nan"),
        (lambda: FairValue(sum, privacy_levels=[1, 2], n_users=3), r"2 entries, but n_users is 3"),
        (lambda: FairValue([0, 1], privacy_levels=[1]), r"must be a function of the levels"),
        (lambda: FairValue(sum, privacy_levels=[1], group_sizes=[1]), r"not both"),
        (lambda: FairValue(sum, group_sizes=[2, 0]), r"group_sizes\[1\] must be a whole number >= 1, got 0"),
        (lambda: FairValue(sum, group_sizes=[2, -1]), r"group_sizes\[1\]"),
        (lambda: FairValue(sum, group_sizes=[]), r"group_sizes is empty"),
        (lambda: FairValue(sum, group_sizes=3), r"group_sizes must be a sequence"),
        (lambda: FairValue(sum, group_sizes=[2, 1], n_users=4), r"sum to 3, but n_users is 4"),
        (lambda: FairValue([[0, 1], [1, 2]], group_sizes=[2, 1]), r"shape \(2, 2\).*shape \(3, 2\)"),
        (lambda: FairValue(lambda s: "x", n_users=2), r"must return one number, got 'x'"),
        (lambda: FairValue(lambda s: s.sum(), n_users=2, vectorized=True), r"shape \(\)"),
        (lambda: FairValue(sum, n_users=2, vectorized=1), r"vectorized must be"),
        (lambda: FairValue(np.zeros(2**23), include_platform=True), r"23 users.*group_sizes.*monte_carlo"),
        (lambda: FairValue([0, 1, 2, 3]).solve("magic"), r"method must be one of auto, subsets"),
        (lambda: FairValue(len, n_users=23).solve("subsets"), r"23: with more than 22 .*group_sizes.*monte"),
        (lambda: FairValue([0, 1]).solve(n_permutations=7), r"n_permutations must be even"),
        (lambda: FairValue([0, 1]).solve(n_permutations=2), r"n_permutations .* >= 4"),
        (lambda: FairValue([0, 1]).solve(confidence=1.0), r"confidence"),
        (lambda: FairValue([0, 1]).solve(seed=-1), r"seed"),
        (lambda: FairValue(sum, group_sizes=[4000] * 3).solve("owen"), r"at a time.*method='groups'"),
        (lambda: FairValue(sum, group_sizes=[9000] * 3).solve("groups"), r"monte_carlo"),
        (lambda: FairValue(sum, group_sizes=[9000] * 3).table(), r"table of this utility has"),
        (lambda: FairValue(len, n_users=18).core(), r"262144 coalitions"),
        (lambda: FairValue(len, n_users=14).nucleolus(), r"16384 coalitions"),
        (lambda: FairValue(len, n_users=8).axioms_program(), r"n_users = 8"),
        (lambda: FairValue(len, n_users=7, include_platform=True).axioms_program(), r"8 players"),
        (lambda: FairValue([0, 1]).axioms_program("platform"), r"needs include_platform=True"),
        (lambda: FairValue([0, 1]).axioms_program(1), r"player must be one of the users 0..0, got 1"),
        (lambda: FairValue([0, 1]).axioms_program(0, "best"), r"sense must be"),
        (lambda: FairValue([0, 1]).least_core_program(), r"no coalition but everybody"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(mo.InvalidInput, match=message):
        make()


@pytest.mark.parametrize(
    ("fair", "name"),
    [
        (lambda bad: FairValue(lambda s: bad if s == (0, 2) else len(s), n_users=3), r"coalition \{0, 2\}"),
        (
            lambda bad: FairValue(
                lambda k: bad if tuple(k) == (1, 2) else float(k.sum()), group_sizes=[2, 3]
            ),
            r"counts \(1, 2\)",
        ),
    ],
)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_located(fair, name, bad):
    with pytest.raises(mo.InvalidInput, match=rf"utility of {name} is {bad}"):
        fair(bad).solve()


def test_rounding_of_nothing_is_nothing():
    division = FairValue([1e-17, 0.5, 0.5, 1.0]).solve()
    assert division.user_values.tolist() == [0.5, 0.5]


def test_table_is_not_changed_by_its_owner():
    table = np.array([0.0, 1.0, 1.0, 3.0])
    fair = FairValue(table)
    table[:] = 7
    assert fair.solve().user_values.tolist() == [1.5, 1.5]
    with pytest.raises(ValueError, match="read-only"):
        fair.table()[0] = 1


def test_utility_is_read_once_each():
    calls = []

    def utility(members):
        calls.append(members)
        return float(len(members))

    fair = FairValue(utility, n_users=3)
    fair.solve()
    n_calls = len(calls)
    fair.solve()
    fair.core()
    assert len(calls) == n_calls  # the table is kept
    assert read(utility, 3, None, None, False).name(np.array([1, 0, 1])) == "coalition {0, 2}"


# ------------------------------------------------------------------ what is printed and drawn


def test_records_fit_a_terminal():
    many = FairValue(concave(np.ones(2)), group_sizes=[2000, 500], vectorized=True)
    table = FairValue(np.arange(2.0**10), include_platform=True)
    records = [many, many.solve(), table, table.solve(), table.solve("monte_carlo", n_permutations=4)]
    for record in records:
        lines = repr(record).splitlines()
        assert len(lines) <= 10
        assert max(map(len, lines)) <= 100
    many.table()
    assert repr(many) == "FairValue(2500 users in 2 groups, payment_share=1, utility: a function, " + (
        f"{concave.__name__}.<locals>.utility)"
    )
    assert "..., " in repr(table.solve())
    assert "standard error" in repr(records[-1])


def test_a_plot_has_a_bar_for_each_value():
    fair = FairValue([0, 3, 1, 5], include_platform=True)
    division = fair.solve()
    (axes,) = division.plot().axes
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([*division.user_values, division.platform_value])
    sampled = fair.solve("monte_carlo", n_permutations=10)
    (axes,) = sampled.plot().axes
    low, high = axes.collections[0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx(tuple(sampled.confidence_interval[0]))
    grouped = FairValue(concave([1.0, 2.0]), group_sizes=[30, 20], vectorized=True).solve()
    (axes,) = grouped.plot().axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx(list(grouped.group_values))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0\n(30)", "1\n(20)"]


def test_a_plot_of_many_falls():
    weights = np.random.default_rng(0).uniform(0, 1, 80)
    many = FairValue(concave(weights), n_users=80, vectorized=True).solve("monte_carlo", n_permutations=4)
    (axes,) = many.plot().axes
    heights = axes.lines[0].get_ydata()
    assert heights.tolist() == sorted(many.user_values, reverse=True)
