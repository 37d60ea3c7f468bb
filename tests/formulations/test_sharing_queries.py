"""The market for queries: exact algorithms, programs, tariffs, payments, and trades without money."""

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.functions import (
    AdditiveUtility,
    CappedUtility,
    EvaluatedGain,
    LinearUtility,
    LogGain,
    LogUtility,
    ThresholdUtility,
    UserUtility,
)
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.formulations.sharing_market.queries import QueryMarket, StableStates, advanced_composition, exact
from mechopt.formulations.sharing_market.queries.stability import declare_blocking
from tests.oracles import sharing_queries as oracle

EXACT = 1e-9  # sums of a few numbers of order ten


def draw(seed, n, *args, **options):
    rng = np.random.default_rng(seed)
    return [oracle.random_market(rng, *args, **options) for _ in range(n)]


def part(problem):
    """The problem without sellers who answer nothing."""
    some = np.flatnonzero(problem.limit > 0)
    return exact.QueryProblem(
        problem.utility, problem.own_size, problem.query_size[some], problem.price[some]
    )


def kept(problem, count):
    return float(problem.worth(count)) - problem.paid(count)


# ------------------------------------------------------------ one buyer


def test_every_algorithm_equals_enumeration_wherever_it_applies():
    used = {"marginal": 0, "knapsack": 0, "items": 0, "enumeration": 0}
    for market in draw(0, 100, 4, 3):
        for buyer in range(4):
            problem = market.query_problem(buyer)
            found = exact.best_queries(problem)
            used[found.method] += 1
            best = oracle.best_for_buyer(market, buyer, market.tariff)
            assert found.surplus == pytest.approx(best, abs=EXACT)
            assert found.utility - found.cost == found.surplus
            assert np.all(found.query_count <= market.max_queries[:, buyer])
            small = part(problem)
            if not small.limit.size:
                continue
            unit = exact.common_unit(small.query_size)
            rises = all(exact._is_convex(row) for row in exact._marginals(small))
            if unit is not None:
                assert kept(small, exact.by_knapsack(small, unit)) == pytest.approx(best, abs=EXACT)
            if rises:
                assert kept(small, exact.by_items(small)) == pytest.approx(best, abs=EXACT)
                used["items"] += 1
                if np.ptp(small.query_size) == 0:
                    assert kept(small, exact.by_marginal_price(small)) == pytest.approx(best, abs=EXACT)
    assert min(used.values()) >= 20


def test_many_queries_take_the_road_that_fits():
    """Bounds far beyond enumeration, held against the program's."""
    rng = np.random.default_rng(1)
    cost = rng.uniform(0.05, 0.6, (12, 12)) * (1 - np.eye(12))
    for size, composition, method in (
        (None, None, "marginal"),
        (rng.integers(1, 6, 12), None, "knapsack"),
        (rng.integers(1, 6, 12), np.sqrt(np.arange(41)), "knapsack"),
        (rng.uniform(1, 6, 12), None, "items"),
    ):
        market = QueryMarket(rng.uniform(1, 5, 12), cost, LogUtility(20.0, 9.0), 40, size, composition)
        solution = market.solve()
        assert set(solution.extra["methods"]) == {method}
        if composition is None:
            assert market.solve("outer").objective == pytest.approx(solution.objective, rel=1e-6)


def test_sizes_without_a_unit_at_falling_prices_are_refused_by_the_exact_algorithms():
    rng = np.random.default_rng(2)
    market = QueryMarket(
        np.ones(8),
        1 - np.eye(8),
        LogUtility(5.0, 2.0),
        20,
        rng.uniform(1, 2, 8),
        np.sqrt(np.arange(21.0)),
    )
    with pytest.raises(mo.NotApplicable, match="without a common unit"):
        market.solve()


def test_binary_pieces_offer_every_number_of_queries():
    for most in range(1, 40):
        pieces = list(exact._pieces(np.ones(most)))
        assert all(len(choices) == 1 for choices in pieces)
        sums = {0}
        for (piece,) in pieces:
            sums |= {total + piece for total in sums}
        assert sums == set(range(most + 1))
        assert len(pieces) <= np.log2(most) + 1


@pytest.mark.parametrize(
    ("sizes", "unit"),
    [([2.6, 1.3], 1.3), ([4, 6], 2), ([3, 5], 1), ([0.3, 0.5], 0.1), ([1.0, np.pi], None)],
)
def test_unit_of_sizes(sizes, unit):
    assert exact.common_unit(np.array(sizes, dtype=float)) == (unit and pytest.approx(unit))


# ------------------------------------------------------------ welfare


def test_welfare_is_that_of_all_ways_to_ask():
    for market in draw(3, 12, 3, 2):
        solution = market.solve()
        assert solution.objective == pytest.approx(oracle.most_welfare(market), abs=EXACT)
        count = solution["query_count"]
        assert solution.objective == sum(oracle.value(market, i, count) for i in range(3)) or (
            solution.objective
            == pytest.approx(sum(oracle.value(market, i, count) for i in range(3)), rel=1e-12)
        )
        assert solution["surplus"].sum() == pytest.approx(solution.objective, rel=1e-12)
        assert solution.status is mo.Status.OPTIMAL
        assert solution.backend == "exact"


@pytest.mark.parametrize("composition", oracle.COMPOSITIONS)
def test_program_finds_the_same_welfare(composition):
    for market in draw(4, 4, 3, 3, composition=composition, utilities=oracle.UTILITIES[:7]):
        solution = market.solve("outer")
        assert solution.status is mo.Status.OPTIMAL
        # Recomputed from whole numbers: no tolerance of the solver is left, unless it stopped short.
        assert solution.objective == pytest.approx(market.solve().objective, abs=EXACT)
        assert solution["query_count"].dtype.kind == "i"


def test_utility_of_any_shape_is_tabulated_or_refused():
    bent = UserUtility(lambda data: 10 * data**2 / (20 + data**2))
    market = QueryMarket([1.0, 2.0, 3.0], 0.5 * (1 - np.eye(3)), bent, 3, [1.0, 2.0, 2.0])
    solution = market.solve("highspy")
    assert solution.objective == pytest.approx(market.solve().objective, abs=EXACT)
    real = QueryMarket([1.0, 2.0, 3.0], 0.5 * (1 - np.eye(3)), bent, 3, [1.0, 2.0, np.pi])
    with pytest.raises(mo.NotApplicable, match="not known to be concave"):
        real.program()


def of_every_kind(money):
    utility = [
        CappedUtility(7.0 * money, 6.0),
        EvaluatedGain(lambda D: 3 * money * np.sqrt(D), lambda D: 1.5 * money / np.sqrt(D)),
        ThresholdUtility(5.0 * money, 5.0),
        UserUtility(lambda D: 4 * money * np.sin(D / 2)),
        LogUtility(6.0 * money, 2.0),
        ThresholdUtility(5.0 * money, 500.0),  # out of reach: all is worth nothing
    ]
    rng = np.random.default_rng(20)
    cost = money * rng.uniform(0.1, 1.0, (6, 6)) * (1 - np.eye(6))
    return QueryMarket(rng.uniform(0.5, 3, 6), cost, utility, 2, composition=[0, 1, 2.5])


@pytest.mark.parametrize("money", [1e-9, 1.0, 1e9])
def test_programs_of_tiny_and_huge_money(money):
    """Rows in plain money used to be called infeasible, or wrong numbers optimal."""
    market, same = of_every_kind(money), of_every_kind(1.0)
    exact_one = market.solve()
    assert market.program().solve("outer").objective == pytest.approx(exact_one.objective, rel=1e-8)
    limited, known = (each.solve(privacy_budget=2.5) for each in (market, same))
    assert limited.objective == pytest.approx(money * known.objective, rel=1e-8)
    assert np.array_equal(limited["query_count"], known["query_count"])


def test_program_takes_the_exact_road_where_nothing_ties_buyers_together():
    market = of_every_kind(1.0)
    program = market.program(privacy_budget=2.5)
    limited = program.solve()
    assert limited.backend == "outer"
    free = program.drop("privacy_budget").solve()
    assert free.backend == "exact"
    assert free.objective == pytest.approx(market.program().solve("outer").objective, rel=1e-9)
    assert free.objective > limited.objective
    for name in ("segment", "worth_0_enough", "worth_1_total", "worth_2_enough", "utility_1"):
        assert name in free.values  # all variables belong to the point, which has been checked
    program.add("shy", program["query_count"][0, 1] == 0)
    with pytest.raises(mo.MissingCapability, match="'shy'"):
        program.solve("exact")
    rest = program.drop("shy")
    with pytest.raises(mo.MissingCapability, match="objective"):
        rest.maximize(cp.sum(rest["utility"])).solve("exact")
    with pytest.raises(mo.MissingCapability, match="'privacy_budget'"):
        market.program(privacy_budget=2.5).solve("exact")


def test_an_endless_privacy_budget_is_none():
    market = of_every_kind(1.0)
    assert market.program(privacy_budget=np.inf).solve().backend == "exact"
    part = np.array([np.inf] * 5 + [1.0])
    found = market.solve(privacy_budget=part)
    assert market.levels[found["query_count"]][5].sum() <= 1 + 1e-9


def test_constraints_cannot_be_met_by_hiding_what_queries_are_worth():
    program = of_every_kind(1.0).program()
    with pytest.raises(mo.InvalidInput, match=r"lowering the variable.*program\['query_count'\]"):
        program.add("poor", program["utility"] <= 1.0)
    program.add("rich", program["utility"][4] >= 5.0)
    assert program.solve()["utility"][4] >= 5.0 - 1e-6


def test_utilities_without_a_hash():
    class Own(LogGain):
        __hash__ = None

    market = QueryMarket([1.0, 2.0], [[0, 1], [1, 0]], [Own(4.0, 1.0), Own(5.0, 1.0)], 3)
    assert market.program().solve("outer").objective == pytest.approx(market.solve().objective, rel=1e-9)


def test_mixed_vcg_without_trade_has_nothing_to_split():
    market = QueryMarket([3.0, 1.7, 2.3], 1e3 * (1 - np.eye(3)), LogUtility(9.1, 2.0), 3)
    for split in ("greedy", "lp"):
        mixed = market.mixed_vcg("exclude", split)
        assert mixed.vcg.imbalance == 0.0
        assert mixed.realised
        assert not mixed.data_payment.any()


def test_privacy_budgets_couple_buyers():
    rng = np.random.default_rng(5)
    tight = 0
    for market in draw(6, 8, 3, 2, utilities=oracle.CONCAVE):
        loss = rng.uniform(0.5, 1.5, (3, 3)) * (1 - np.eye(3))
        budget = rng.uniform(0.5, 3, 3)
        solution = market.solve(privacy_budget=budget, privacy_loss=loss)
        best = oracle.most_welfare(market, budget, loss)
        assert solution.objective == pytest.approx(best, abs=EXACT)
        assert np.all((loss * market.levels[solution["query_count"]]).sum(axis=1) <= budget + 1e-6)
        tight += best < market.solve().objective - 1e-6
    assert tight >= 4


def test_whole_numbers_that_break_a_budget_are_not_called_optimal():
    """A budget below one query by less than solvers see."""
    market = QueryMarket([1.0, 1.0], [[0, 0.1], [0.1, 0]], LinearUtility(5.0), 3)
    solution = market.solve("highspy", privacy_budget=2 - 1e-7, on_failure="return")
    most = solution["query_count"].max()
    assert most == 1 or solution.status is mo.Status.INACCURATE
    assert market.solve("highspy", privacy_budget=2)["query_count"].max() == 2


def test_a_constraint_of_ones_own():
    market = QueryMarket([1.0, 1.0, 1.0], 0.1 * (1 - np.eye(3)), LogUtility(5.0, 1.0), 4)
    program = market.program()
    program.add("platform", program["query_count"][0, 1] + program["query_count"][1, 0] <= 1)
    count = np.round(program.solve()["query_count"])
    assert count[0, 1] + count[1, 0] <= 1
    assert count[2, 0] == 4


def test_one_query_an_edge_is_the_market_of_batches():
    """With at most one query, worth the seller's whole batch, queries are edges."""
    rng = np.random.default_rng(7)
    for _ in range(10):
        size, cost = rng.integers(1, 6, 5).astype(float), rng.uniform(0, 2, (5, 5)) * (1 - np.eye(5))
        queries = QueryMarket(size, cost, LogUtility(6.0, 2.0), 1, size)
        batches = SharingMarket(size, cost, LogUtility(6.0, 2.0))
        assert queries.solve().objective == pytest.approx(batches.solve().objective, abs=EXACT)
        assert np.array_equal(queries.solve()["query_count"], batches.solve()["adjacency"])


def test_agents_may_be_permuted_and_money_rescaled():
    rng = np.random.default_rng(8)
    for market in draw(9, 10, 4, 3, utilities=(LogUtility(9.0, 3.0),)):
        order = rng.permutation(4)
        edges = np.ix_(order, order)
        other = QueryMarket(
            market.data_size[order],
            1e3 * market.sharing_cost[edges],
            LogUtility(9e3, 3.0),
            market.max_queries[edges],
            market.query_size[order],
            market.composition,
        )
        assert other.solve().objective == pytest.approx(1e3 * market.solve().objective, rel=1e-12)


def test_free_answers_are_all_taken():
    market = QueryMarket([1.0, 1.0], np.zeros((2, 2)), LogUtility(1.0, 1.0), 7)
    assert market.solve()["query_count"].tolist() == [[0, 7], [7, 0]]


def test_nobody_to_ask():
    market = QueryMarket([2.0], [[0.0]], LogUtility(1.0, 1.0), 5)
    assert market.solve()["query_count"].tolist() == [[0]]
    closed = QueryMarket([2.0, 1.0], np.zeros((2, 2)), LogUtility(1.0, 1.0), 0)
    assert closed.solve().objective == pytest.approx(np.log(3) + np.log(2))
    assert closed.ordered_match().strong


# ------------------------------------------------------------ prices


def test_costs_as_tariffs_are_an_equilibrium():
    for market in draw(10, 60, 4, 3):
        solution = market.solve()
        check = market.is_equilibrium(solution, market.tariff)
        assert check
        assert check.gain <= EXACT
        if market.composition is None:
            assert market.is_equilibrium(solution, market.competitive_prices())


def test_check_of_tariffs_agrees_with_the_definition():
    rng = np.random.default_rng(11)
    kinds = {"": 0, "demand": 0, "supply": 0}
    for market in draw(12, 60, 3, 2):
        count = np.array(market.solve()["query_count"])
        tariff = np.where(np.isfinite(market.tariff), market.tariff, 0.0)
        moved = np.abs(rng.normal(0, 2, tariff.shape)) * (rng.random(tariff.shape) < 0.3)
        moved[:, :, 0] = 0
        if rng.random() < 0.4:
            # Dearer only what is sold: sellers agree, and buyers may object.
            moved *= np.arange(tariff.shape[2]) == count[:, :, np.newaxis]
        tariff = tariff + moved * (rng.random() < 0.7)
        check = market.is_equilibrium(count, tariff)
        gains = [0.0]
        for j in range(3):
            paid = sum(tariff[i, j, count[i, j]] for i in range(3))
            gains.append(oracle.best_for_buyer(market, j, tariff) - (market.buyer_value(count)[j] - paid))
            for i in range(3):
                margins = [
                    tariff[i, j, q] - market.tariff[i, j, q] for q in range(market.max_queries[i, j] + 1)
                ]
                gains.append(max(margins) - margins[count[i, j]])
        assert bool(check) == (max(gains) <= 1e-9), (check, gains)
        kinds[check.kind] += 1
    assert min(kinds.values()) >= 4


def test_one_price_a_query_does_not_clear_a_market_of_concave_costs():
    """Advanced composition: a seller that answers at all would answer all."""
    composition = advanced_composition(4, epsilon=0.1, delta=0.5)
    market = QueryMarket([1.0, 1.0], [[0, 1], [50, 0]], CappedUtility(6.0, 3.0), 4, None, composition)
    solution = market.solve()
    assert solution["query_count"][0, 1] == 2
    with pytest.raises(mo.NotApplicable, match="not linear"):
        market.competitive_prices()
    assert market.is_equilibrium(solution, market.tariff)
    for price in np.linspace(0, 3, 61):
        check = market.is_equilibrium(solution, [[0, price], [0, 0]])
        assert not check
        assert check.kind in ("demand", "supply")


def test_bad_prices_are_refused():
    market = QueryMarket([1.0, 1.0], [[0, 1], [1, 0]], LogUtility(6.0, 3.0), 2)
    for price, message in (
        ([1.0], "it must be"),
        ([[0, np.inf], [1, 0]], r"price\[0, 1\] is inf"),
        (np.array([[[0, 0, 0], [0, 1, np.nan]]] * 2), r"price\[0, 1, 2\] must be finite"),
        (np.ones((2, 2, 3)), "must be 0: no query costs nothing"),
        ("dear", "price must be numbers"),
    ):
        with pytest.raises(mo.InvalidInput, match=message):
            market.is_equilibrium(market.solve(), price)


def test_advanced_composition_is_the_better_of_two_bounds():
    loss = advanced_composition(200, epsilon=0.1, delta=1e-5)
    count = np.arange(201)
    assert loss[0] == 0
    assert loss[1] == 1
    assert np.all(loss <= count)
    assert np.all(np.diff(loss) > 0)
    by_hand = np.sqrt(2 * 200 * np.log(1e5)) + 200 * (np.exp(0.1) - 1)
    assert loss[200] == pytest.approx(by_hand)
    assert by_hand < 200


# ------------------------------------------------------------ payments


@pytest.mark.parametrize("pivot", ["exclude", "drop"])
def test_vcg_pivots_equal_enumeration(pivot):
    for market in draw(13, 10, 3, 2):
        outcome = market.vcg(pivot)
        assert outcome.pivot_value == pytest.approx(oracle.pivots(market, pivot), abs=EXACT)
        values = np.array([oracle.value(market, i, outcome.query_count) for i in range(3)])
        payment = outcome.pivot_value - (values.sum() - values)
        assert outcome.payment == pytest.approx(payment, abs=EXACT)
        assert outcome.payoff == pytest.approx(values - payment, abs=EXACT)
        assert outcome.imbalance == pytest.approx(payment.sum(), abs=EXACT)


@pytest.mark.parametrize("pivot", ["exclude", "drop"])
def test_vcg_within_privacy_budgets(pivot):
    for market in draw(25, 3, 3, 1, utilities=oracle.CONCAVE[:2], composition="linear"):
        budget, loss = np.full(3, 1.2), np.ones((3, 3))
        outcome = market.vcg(pivot, privacy_budget=budget)
        allowed = [q for q in oracle.all_counts(market) if np.all(q.sum(axis=1) <= budget)]
        for agent in range(3):
            rest = [
                sum(oracle.value(market, i, q) for i in range(3) if i != agent)
                for q in allowed
                if pivot == "drop" or not (q[agent].any() or q[:, agent].any())
            ]
            assert outcome.pivot_value[agent] == pytest.approx(max(rest), abs=EXACT)
        solution = market.solve(privacy_budget=budget, privacy_loss=loss)
        assert market.welfare(outcome) == pytest.approx(solution.objective, abs=EXACT)
        assert list(outcome.to_frame().columns) == ["payment", "payoff", "pivot_value"]


def test_vcg_signs_and_participation():
    losers = 0
    for market in draw(14, 40, 4, 3):
        exclude, drop = market.vcg("exclude"), market.vcg("drop")
        assert exclude.imbalance <= EXACT
        assert drop.imbalance >= -EXACT
        assert np.all(exclude.payoff >= market.outside_option - EXACT)
        losers += bool(np.any(drop.payoff < market.outside_option - 1e-6))
        assert exclude.n_problems <= 4 + np.count_nonzero(exclude.query_count)
    assert losers >= 10


def test_no_report_of_costs_beats_the_truth():
    rng = np.random.default_rng(15)
    for market in draw(16, 6, 3, 3, utilities=(LogUtility(9.0, 3.0),)):
        for pivot in ("exclude", "drop"):
            truth = market.vcg(pivot)
            for agent in range(3):
                cost = market.sharing_cost.copy()
                cost[agent] *= np.exp(rng.normal(0, 0.7))
                lie = QueryMarket(
                    market.data_size,
                    cost,
                    market.utility,
                    market.max_queries,
                    market.query_size,
                    market.composition,
                ).vcg(pivot)
                had = oracle.value(market, agent, lie.query_count) - lie.payment[agent]
                assert had <= truth.payoff[agent] + EXACT


def test_mixed_vcg_balances_and_gives_what_vcg_gives():
    realised = 0
    for market in draw(17, 30, 4, 3, utilities=oracle.CONCAVE[:2]):
        for pivot in ("exclude", "drop"):
            for distortion in ("least_absolute", "uniform"):
                outcome = market.mixed_vcg(pivot, "greedy", distortion=distortion)
                assert abs(outcome.payment.sum()) <= EXACT
                assert np.array_equal(outcome.query_count, market.vcg(pivot).query_count)
                if outcome.realised:
                    realised += 1
                    assert outcome.payoff == pytest.approx(outcome.vcg.payoff, abs=1e-8)
                else:
                    assert all(refusal.code for refusal in outcome.refusals)
    assert realised >= 60
    even = market.mixed_vcg("exclude", "lp")
    assert even.to_frame()["payment"].sum() == pytest.approx(0.0, abs=EXACT)
    assert even.realised
    assert even.truthful_if == "public_utility"


def test_pivots_and_splits_are_named():
    market = QueryMarket([1.0, 1.0], [[0, 1], [1, 0]], LogUtility(6.0, 3.0), 2)
    with pytest.raises(mo.InvalidInput, match="pivot must be 'exclude' or 'drop'"):
        market.vcg("none")
    with pytest.raises(mo.InvalidInput, match="split must be"):
        market.mixed_vcg("exclude", "half")
    with pytest.raises(mo.InvalidInput, match="distortion"):
        market.mixed_vcg("exclude", distortion="none")


# ------------------------------------------------------------ without money


def ranked_market(rng, n_agents=3, most=1):
    """Common ranking by size, log utilities, linear costs: what the paper's section 6 is about."""
    size = np.sort(rng.uniform(0.5, 3, n_agents))[::-1]
    cost = rng.uniform(0, 1.5, (n_agents, n_agents)) * (1 - np.eye(n_agents))
    utility = [LogUtility(rng.uniform(2, 6), rng.uniform(0.5, 2)) for _ in range(n_agents)]
    return QueryMarket(size, cost, utility, most, size)


@pytest.mark.parametrize("rule", ["strong", "cut"])
def test_stability_by_enumeration_is_the_definition(rule):
    rng = np.random.default_rng(18)
    blocked = 0
    for _ in range(12):
        market = ranked_market(rng)
        for count in (market.ordered_match().query_count, rng.integers(0, 2, (3, 3)) * (1 - np.eye(3))):
            found = market.is_stable(count, rule)
            assert bool(found) != oracle.is_blocked(market, np.array(count, dtype=int), rule)
            if not found:
                blocked += 1
                witness = found.witness
                assert np.all(witness.gains >= -1e-9)
                assert np.max(witness.gains) > 1e-9
                before = [oracle.value(market, i, np.array(count, dtype=int)) for i in witness.coalition]
                after = [oracle.value(market, i, witness.query_count) for i in witness.coalition]
                assert np.array(after) - before == pytest.approx(witness.gains)
    assert 5 <= blocked <= 23


def test_all_stable_states_are_those_not_blocked():
    rng = np.random.default_rng(19)
    market = ranked_market(rng)
    states = StableStates(market)
    for rule in ("strong", "cut"):
        listed = {count.tobytes() for count in states.stable(rule)}
        for count in oracle.all_counts(market):
            assert (count.tobytes() in listed) == bool(market.is_stable(count, rule))


def test_match_is_often_blocked_and_always_checked():
    """Of 200 outcomes; where one is blocked, states that no coalition leaves for good do exist."""
    rng = np.random.default_rng(20)
    strong = core = cycles = 0
    for _ in range(200):
        market = ranked_market(rng)
        match = market.ordered_match()
        assert match.strong.method == match.core.method == "enumeration"
        if match.core:
            continue
        core += 1
        strong += not match.strong
        assert StableStates(market).stable("cut")
        blocking = match.core.witness.query_count
        cycles += len(match.core.witness.coalition) == 3 and bool(np.any((blocking > 0) & (blocking.T == 0)))
    assert 4 <= core <= 40
    assert cycles >= 4
    assert strong == core


def test_ranking_by_hand():
    """Two agents whose trade pays for both, and a third whose answers are too dear."""
    cost = np.array([[0, 1, 9], [1, 0, 9], [9, 9, 0.0]])
    market = QueryMarket([3.0, 2.0, 1.0], cost, LogUtility(9.0, 1.0), 1, [3.0, 2.0, 1.0])
    match = market.ordered_match()
    assert match.query_count.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert match.ranking == (0, 1, 2)
    assert match.strong
    assert match.core
    assert market.ordered_match([2, 1, 0]).query_count.tolist() == match.query_count.tolist()
    assert match.value[2] == market.outside_option[2]
    for ranking in ([0, 0, 1], [0, 1], "abc", 3, [0.5, 1, 2]):
        with pytest.raises(mo.InvalidInput, match="ranking must be"):
            market.ordered_match(ranking)


@pytest.mark.parametrize("rule", ["strong", "cut"])
def test_stability_by_a_program(rule):
    rng = np.random.default_rng(24)
    verdicts = []
    for _ in range(4):
        market = ranked_market(rng)
        count = market.ordered_match().query_count
        listed, solved = market.is_stable(count, rule), market.is_stable(count, rule, "program")
        assert bool(listed) == bool(solved)
        verdicts.append(bool(listed))
        full = market.is_stable(market.max_queries, rule, "program")
        assert bool(full) == bool(market.is_stable(market.max_queries, rule))
        verdicts.append(bool(full))
        if not full:
            assert np.min(full.witness.gains) >= -1e-5
            assert "coalition" in repr(full)
    assert set(verdicts) == {True, False}


def test_blocking_program_has_the_families_of_its_rule():
    market = ranked_market(np.random.default_rng(22))
    none = np.zeros((3, 3), dtype=int)
    assert {"new_deals", "ended_deals"} <= set(declare_blocking(market, none, "strong").families)
    assert "inside" in declare_blocking(market, none, "cut").families


def test_stability_refuses_what_it_cannot_do():
    market = QueryMarket(np.ones(5), 1 - np.eye(5), LogUtility(5.0, 1.0), 3)
    none = np.zeros((5, 5))
    with pytest.raises(mo.NotApplicable, match="use method='program'"):
        market.is_stable(none, method="enumeration")
    with pytest.raises(mo.NotApplicable, match="states"):
        StableStates(market)
    with pytest.raises(mo.InvalidInput, match="rule must be"):
        market.is_stable(none, "weak")
    with pytest.raises(mo.InvalidInput, match="method must be"):
        market.is_stable(none, method="guess")


# ------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_size": [1.0, 0.0]}, r"data_size\[1\] = 0 must be > 0"),
        ({"data_size": []}, "data_size is empty"),
        ({"sharing_cost": [[0, -1], [1, 0]]}, r"sharing_cost\[0, 1\] = -1 must be >= 0"),
        ({"sharing_cost": [[2, 1], [1, 0]]}, r"sharing_cost\[0, 0\] = 2 must be 0"),
        ({"sharing_cost": [0, 1]}, "row = seller, column = buyer"),
        ({"max_queries": 1.5}, r"max_queries\[0, 1\] = 1.5 must be a whole number"),
        ({"max_queries": -1}, r"max_queries\[0, 1\] = -1 must be >= 0"),
        ({"max_queries": "many"}, "max_queries must be whole numbers"),
        ({"query_size": [1.0]}, "query_size has 1 entries for 2 agents"),
        ({"query_size": [1.0, np.nan]}, r"query_size\[1\] is nan"),
        ({"composition": [0, 1]}, "composition has 2 entries; 2 queries need 3"),
        ({"composition": [1, 1, 2]}, r"composition\[0\] = 1 must be 0"),
        ({"composition": [0, 2, 1]}, r"composition\[2\] = 1 is less"),
        ({"utility": AdditiveUtility([1.0, 2.0])}, "utility must be a utility"),
        ({"utility": [LogUtility(1, 1)] * 3}, "utility has 3 entries for 2 agents"),
        ({"utility": [LogUtility(1, 1), AdditiveUtility([1.0, 2.0])]}, r"utility\[1\] = .* total size"),
    ],
)
def test_bad_parameters_are_named(change, message):
    good = {
        "data_size": [1.0, 1.0],
        "sharing_cost": [[0, 1], [1, 0]],
        "utility": LogUtility(1.0, 1.0),
        "max_queries": 2,
    }
    with pytest.raises(mo.InvalidInput, match=message):
        QueryMarket(**(good | change))


def test_bad_queries_and_options_are_named():
    market = QueryMarket([1.0, 1.0], [[0, 1], [1, 0]], ThresholdUtility(3.0, 2.0), 2)
    for count, message in (
        ([[0, 3], [0, 0]], "is more than max_queries allows"),
        ([[0, 0.5], [0, 0]], "must be a whole number"),
        ([[0, -1], [0, 0]], "must be >= 0"),
        ([[1, 0], [0, 0]], r"query_count\[0, 0\] = 1 is more"),
    ):
        with pytest.raises(mo.InvalidInput, match=message):
            market.welfare(count)
    with pytest.raises(mo.InvalidInput, match="no options"):
        market.solve(max_rounds=3)
    with pytest.raises(mo.InvalidInput, match="privacy_loss needs privacy_budget"):
        market.solve(privacy_loss=np.ones((2, 2)))
    with pytest.raises(mo.InvalidInput, match=r"privacy_budget\[1\] = -1 must be >= 0"):
        market.solve(privacy_budget=[1.0, -1.0])
    with pytest.raises(mo.InvalidInput, match="privacy_budget must be numbers"):
        market.solve(privacy_budget="little")
    with pytest.raises(mo.InvalidInput, match="privacy_budget has 3 entries"):
        market.program(privacy_budget=[1.0, 1.0, 1.0])
    with pytest.raises(mo.NotApplicable, match="privacy_budget ties buyers"):
        market.solve("exact", privacy_budget=1.0)
    for bad in ({"max_queries": 0}, {"epsilon": 0.0}, {"delta": 1.0}):
        with pytest.raises(mo.InvalidInput):
            advanced_composition(**({"max_queries": 3, "epsilon": 0.1, "delta": 0.1} | bad))


def test_linear_utility_asks_where_it_pays():
    cost = np.array([[0, 1.0, 3.0], [1.0, 0, 1.0], [3.0, 3.0, 0]])
    market = QueryMarket([1.0, 1.0, 1.0], cost, LinearUtility(2.0), 5)
    assert market.solve()["query_count"].tolist() == [[0, 5, 0], [5, 0, 5], [0, 0, 0]]


def test_reprs_are_short_whatever_the_number_of_agents():
    n = 40
    cost = 0.5 * (1 - np.eye(n))
    size, utility = np.arange(1.0, n + 1), [LogUtility(1.0 + j, 2.0) for j in range(n)]
    market = QueryMarket(size, cost, utility, 2)
    assert repr(market) == "QueryMarket of 40 agents, 1 to 40 records, utility LogGain, up to 2 queries"
    assert repr(SharingMarket(size, cost, utility)) == (
        "SharingMarket of 40 agents, 1 to 40 records, utility LogGain"
    )
    for outcome in (market.vcg(), market.mixed_vcg("exclude", "lp")):
        assert max(map(len, repr(outcome).splitlines())) < 120
        assert f"imbalance {market.vcg().imbalance:.6g}" in repr(outcome)
