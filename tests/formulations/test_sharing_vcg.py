"""VCG of the sharing market: against all graphs written down, closed forms, limits and symmetries."""

import dataclasses

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.functions import (
    AdditiveUtility,
    CappedUtility,
    InverseSqrtUtility,
    LinearUtility,
    LogUtility,
    SqrtUtility,
    TableUtility,
    ThresholdUtility,
    UserUtility,
)
from mechopt.formulations.sharing_market import closed_form, welfare
from mechopt.formulations.sharing_market import vcg as module
from mechopt.formulations.sharing_market.claims.whole_graphs import WholeGraphs
from mechopt.formulations.sharing_market.concave import ScaledFunction
from mechopt.formulations.sharing_market.families import CONCAVE, EVERY, random_market
from mechopt.formulations.sharing_market.misreports import misreported, rescaled, search_misreports
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.formulations.sharing_market.restrictions import Restrictions
from mechopt.solvers.solution import Solution, Status
from tests.oracles.sharing_vcg import everything

PIVOTS = ("exclude", "drop")


def market_of(seed, *kinds, **options):
    return random_market(np.random.default_rng(seed), *kinds, **options).market()


def graph_of(outcome):
    return tuple(map(tuple, outcome.adjacency.astype(int).tolist()))


def close(a, b, tolerance=1e-9):
    a, b = np.asarray(a), np.asarray(b)
    return np.max(np.abs(a - b)) <= tolerance * (1 + np.max(np.abs(b)))


def one_sale(cost=1.0, gain=10.0):
    """Agent 1 gains from data that cost agent 0 something; the other way nothing is worth anything."""
    return SharingMarket(
        [1.0, 1.0], [[0, cost], [1, 0]], [AdditiveUtility([0, 0]), AdditiveUtility([gain, 0])]
    )


# ------------------------------------------------------------ against all graphs


@pytest.mark.parametrize("pivot", PIVOTS)
@pytest.mark.parametrize("kind", EVERY)
def test_payoffs_and_payments_are_those_of_all_graphs_written_down(kind, pivot):
    for seed in range(3):
        market = market_of([seed, *kind.encode()], kind, max_agents=4)
        outcome, every = market.vcg(pivot), everything(market)
        assert close(outcome.payoff, every.payoffs(pivot))
        assert close(outcome.payment, every.payments(pivot, graph_of(outcome)))
        assert close(outcome.total_welfare, every.best())


@pytest.mark.parametrize("pivot", PIVOTS)
def test_mixed_kinds_of_utility(pivot):
    for seed in range(8):
        market = market_of([seed, 7], *EVERY, max_agents=4)
        outcome = market.vcg(pivot)
        assert close(outcome.payoff, everything(market).payoffs(pivot))


@pytest.mark.parametrize("pivot", PIVOTS)
def test_two_enumerations_agree(pivot):
    for seed in range(5):
        market = market_of([seed, 8], *EVERY, n_agents=3)
        whole, every = WholeGraphs(market), everything(market)
        assert close(whole.payoff(pivot), every.payoffs(pivot))
        assert close(whole.imbalance(pivot), sum(every.payments(pivot, graph_of(market.vcg(pivot)))))


@pytest.mark.parametrize("pivot", PIVOTS)
def test_user_function_and_quality_weights(pivot):
    rng = np.random.default_rng(4)
    bumpy = UserUtility(lambda D: 10 * D**2 / (4 + D**2) - 0.1 * D)
    market = SharingMarket(
        [1.0, 2.0, 1.5], [[0, 0.5, 1], [2, 0, 0.3], [0.4, 0.2, 0]], [bumpy, LogUtility(5, 2), bumpy]
    ).weighted(rng.uniform(0.2, 2, (3, 3)))
    outcome, every = market.vcg(pivot), everything(market)
    assert close(outcome.payoff, every.payoffs(pivot))
    assert close(outcome.payment, every.payments(pivot, graph_of(outcome)))


@pytest.mark.parametrize("pivot", PIVOTS)
def test_sellers_who_like_to_share(pivot):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        base = random_market(rng, *CONCAVE, n_agents=3).market()
        cost = base.sharing_cost - rng.uniform(0, 1.5, (3, 3)) * (1 - np.eye(3))
        market = dataclasses.replace(base, sharing_cost=cost, allow_negative_costs=True)
        assert close(market.vcg(pivot).payoff, everything(market).payoffs(pivot))


def allowed_by(market, restrictions):
    """Whether a graph keeps to the restrictions, those who are absent neither buying nor selling."""

    def allowed(graph, absent):
        limits = restrictions
        if absent is not None:
            cut = np.zeros((market.n_agents, market.n_agents), dtype=bool)
            cut[absent, :] = cut[:, absent] = True
            limits = dataclasses.replace(
                limits, forbidden=cut | (limits.forbidden if limits.forbidden is not None else cut)
            )
        violations = limits.violations(np.array(graph, dtype=float), market.sharing_cost)
        return max(violations.values(), default=0.0) <= 1e-9

    return allowed


FORBIDDEN = np.array([[0, 1, 0], [0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize("pivot", PIVOTS)
@pytest.mark.parametrize(
    "limits", [{"forbidden": FORBIDDEN}, {"buyer_cap": 1}, {"buyer_cap": [0, 1, 2], "forbidden": FORBIDDEN}]
)
def test_restrictions_that_leave_buyers_apart(pivot, limits):
    for seed in range(4):
        market = market_of([seed, 9], *EVERY, n_agents=3)
        every = everything(market, allowed_by(market, Restrictions.of(3, limits)))
        assert close(market.vcg(pivot, **limits).payoff, every.payoffs(pivot))


def test_budgets_of_buyers_with_the_agent_excluded():
    for seed in range(6):
        market = market_of([seed, 10], *CONCAVE, n_agents=3)
        limits = {"buyer_budget": 1.5}
        every = everything(market, allowed_by(market, Restrictions.of(3, limits)))
        outcome = market.vcg(**limits)
        assert close(outcome.payoff, every.payoffs("exclude"))
        assert outcome.truthful_if == "public_costs"


@pytest.mark.parametrize("pivot", PIVOTS)
@pytest.mark.parametrize(
    ("seed", "limits"),
    [
        (0, {"seller_cap": 1}),
        (1, {"reciprocity": True}),
        (2, {"platform_cap": 2}),
        (3, {"broadcast": True}),
        (4, {"upload_cost": [0.5, 1.0, 2.0]}),
        (5, {"seller_cap": [1, 2, 0], "forbidden": FORBIDDEN}),
    ],
)
def test_couplings_by_joint_programs(pivot, seed, limits):
    market = market_of([seed, 11], "additive", "log", "capped", n_agents=3)
    once = limits.get("upload_cost", [0.0] * 3)
    every = everything(
        market,
        allowed_by(market, Restrictions.of(3, limits)),
        lambda agent, graph: once[agent] * any(graph[agent]),
    )
    outcome = market.vcg(pivot, **limits)
    assert close(outcome.payoff, every.payoffs(pivot), 1e-8)
    assert close(outcome.payment, every.payments(pivot, graph_of(outcome)), 1e-8)
    assert outcome.n_solves == 4


def test_dropped_costs_are_dropped_in_budgets_too_whether_joint_or_not():
    market = SharingMarket(
        [1.0, 1.0, 1.0], [[0, 2, 2], [2, 0, 2], [2, 2, 0]], AdditiveUtility([5.0, 5.0, 5.0])
    )
    apart = market.vcg("drop", buyer_budget=2.0)
    joint = market.vcg("drop", buyer_budget=2.0, seller_cap=3)
    # Each buyer affords one seller; one whose data is free comes on top.
    assert apart.pivot_value.tolist() == [16.0, 16.0, 16.0]
    assert close(joint.pivot_value, apart.pivot_value)


# ------------------------------------------------------------ closed forms, worked examples


@pytest.mark.parametrize("pivot", PIVOTS)
def test_closed_forms(pivot):
    for seed in range(25):
        market = market_of([seed, 12], *EVERY, max_agents=7)
        outcome = market.vcg(pivot)
        assert close(outcome.imbalance, closed_form.imbalance(market, pivot))
        assert close(outcome.payment, closed_form.payments(market, pivot, outcome.adjacency))


def test_signs_of_the_imbalance():
    for seed in range(40):
        market = market_of([seed, 13], *EVERY, max_agents=5)
        assert market.vcg("exclude").imbalance <= 1e-9
        assert market.vcg("drop").imbalance >= -1e-9
        assert np.all(market.vcg("drop").payment >= -1e-9)


def test_the_two_examples_of_the_pivots():
    sale = one_sale()
    assert sale.vcg("drop").payment.tolist() == [0.0, 1.0]
    assert sale.vcg("drop").payoff.tolist() == [-1.0, 9.0]
    assert sale.vcg("exclude").payment.tolist() == [-10.0, 1.0]
    assert sale.vcg("exclude").payoff.tolist() == [9.0, 9.0]
    none = one_sale(cost=5.0, gain=3.0)
    outcome = none.vcg("drop")
    assert not outcome.adjacency.any()
    assert outcome.payment.tolist() == [3.0, 0.0]
    assert outcome.payoff.tolist() == [-3.0, 0.0]
    assert not outcome.individually_rational
    assert outcome.participation.agent == 0
    assert outcome.participation.gain == 3.0
    assert "agent 0 takes the outside option" in repr(outcome)
    assert none.vcg("exclude").individually_rational


def test_an_edge_cap_leaves_a_surplus_and_no_core():
    values = np.zeros((4, 4))
    values[0, 1], values[2, 3] = 10.0, 9.0
    market = SharingMarket(np.ones(4), np.zeros((4, 4)), [AdditiveUtility(values[:, j]) for j in range(4)])
    outcome = market.vcg(platform_cap=1)
    assert close(outcome.payment, [-1, 9, 0, 0], 1e-9)
    assert outcome.imbalance == pytest.approx(8.0, abs=1e-9)
    assert market.vcg().imbalance == pytest.approx(-19.0, abs=1e-12)
    capped = WholeGraphs(market, lambda graphs: graphs.sum(axis=(1, 2)) <= 1)
    assert not capped.has_core()
    assert WholeGraphs(market).has_core()


def test_exclusion_is_individually_rational_and_dropping_is_not():
    kept = dict.fromkeys(PIVOTS, 0)
    n = 40
    for seed in range(n):
        market = market_of([seed, 14], *CONCAVE, max_agents=5)
        for pivot in PIVOTS:
            kept[pivot] += market.vcg(pivot).individually_rational
    assert kept["exclude"] == n
    assert 0 < kept["drop"] < n / 2


def test_identities_of_welfare():
    for seed in range(10):
        for pivot in PIVOTS:
            outcome = market_of([seed, 15], *EVERY).vcg(pivot)
            assert close(outcome.agents_welfare, outcome.total_welfare - outcome.imbalance, 1e-12)
            assert close(outcome.payoff, outcome.total_welfare - outcome.pivot_value, 1e-12)


# ------------------------------------------------------------ counts, limits, symmetries


def test_number_of_optima():
    market = market_of(3, "log", n_agents=8)
    n_edges = int(market.vcg().adjacency.sum())
    assert market.vcg("exclude").n_solves == 8 + n_edges
    assert market.vcg("drop").n_solves == 8 + 56 - n_edges


@pytest.mark.parametrize("pivot", PIVOTS)
def test_units_of_money_and_names_of_agents(pivot):
    market = market_of(21, "log", "sqrt", n_agents=4, sizes="real")
    outcome = market.vcg(pivot)
    dear = SharingMarket(
        market.data_size, 10 * market.sharing_cost, [rescaled(u, 10.0, 1.0) for u in market.utility]
    )
    assert close(dear.vcg(pivot).payment, 10 * outcome.payment)
    order = np.array([2, 0, 3, 1])
    renamed = SharingMarket(
        market.data_size[order],
        market.sharing_cost[np.ix_(order, order)],
        [market.utility[i] for i in order],
    )
    assert close(renamed.vcg(pivot).payment, outcome.payment[order])


def test_free_data_and_one_agent():
    free = SharingMarket([1.0, 2.0, 3.0], np.zeros((3, 3)), LogUtility(5.0, 2.0))
    assert close(free.vcg("drop").payment, np.zeros(3), 1e-12)
    assert free.vcg("exclude").imbalance < 0
    alone = SharingMarket([1.0], [[0.0]], LogUtility(5.0, 2.0))
    for pivot in PIVOTS:
        assert alone.vcg(pivot).payment.tolist() == [0.0]
        assert alone.vcg(pivot).individually_rational


def test_table_of_the_outcome():
    outcome = one_sale().vcg("drop")
    frame = outcome.to_frame()
    assert frame["payoff"].tolist() == [-1.0, 9.0]
    assert frame.index.name == "agent"
    assert not outcome.adjacency.flags.writeable
    assert "surplus" in repr(outcome)
    assert len(repr(outcome).splitlines()) <= 10


# ------------------------------------------------------------ truth


@pytest.mark.parametrize("pivot", PIVOTS)
def test_no_misreport_gains(pivot):
    for seed in range(3):
        market = market_of([seed, 16], *EVERY, max_agents=3)
        found = search_misreports(market, lambda reported: reported.vcg(pivot), n_reports=15, seed=seed)
        assert found.gain.size == 15 * market.n_agents
        assert found.n_profitable() == 0
        assert found.n_refused == 0
        assert np.any(found.gain < -1e-6 * found.scale), "reports must matter"
    audit = market.vcg(pivot).audit(5)
    assert audit.ic_violation <= 1e-9 * audit.scale
    assert audit.method == f"{5 * market.n_agents} random misreports"


def test_the_search_finds_what_pays():
    """A mechanism that charges buyers what they say is not truthful."""

    class PayAsBid(module.VCG):
        @property
        def payment(self):
            return 0.9 * self.allocation_value

    def pay_as_bid(market):
        return PayAsBid(**{f.name: getattr(market.vcg(), f.name) for f in dataclasses.fields(module.VCG)})

    market = market_of(5, "log", n_agents=3)
    found = search_misreports(market, pay_as_bid, n_reports=10)
    assert found.n_profitable() > 0
    assert found.audit.ic_violation == found.gain[found.best] > 0
    best = found.best
    reported = misreported(
        market, found.agent[best], found.utility_factor[best], found.data_rate[best], found.cost_factor[best]
    )
    agent = found.agent[best]
    gain = pay_as_bid(reported).payoff_in(market)[agent] - pay_as_bid(market).payoff[agent]
    assert gain == pytest.approx(found.gain[best], rel=1e-12)
    assert len(found.to_frame()) == 30
    assert "profitable" in repr(found)


def test_budgets_on_reported_costs_can_be_played():
    """Half its cost makes agent 0's data affordable, and the pivot pays it for that."""
    market = SharingMarket([1.0, 1.0], [[0, 3], [0, 0]], [AdditiveUtility([0, 0]), AdditiveUtility([10, 0])])
    truth = market.vcg(buyer_budget=2.0)
    lie = misreported(market, 0, 1.0, 1.0, 0.5).vcg(buyer_budget=2.0)
    assert lie.payoff_in(market)[0] > truth.payoff[0] + 1
    assert truth.truthful_if == "public_costs"


@pytest.mark.parametrize(
    "base", [LogUtility(5, 2), SqrtUtility(3), InverseSqrtUtility(4), CappedUtility(8, 3), LinearUtility(2)]
)
def test_scaled_functions(base):
    scaled, x = ScaledFunction(base, 2.5, 0.4), np.array([0.5, 1.0, 4.0, 30.0])
    assert close(scaled(x), 2.5 * base(0.4 * x), 1e-14)
    slope = (scaled(x * (1 + 1e-6)) - scaled(x * (1 - 1e-6))) / (2e-6 * x)
    assert close(scaled.derivative(x), slope, 1e-6)
    assert scaled.supremum == 2.5 * base.supremum
    below = scaled(x) < scaled.supremum
    assert close(scaled.inverse(scaled(x))[below], x[below], 1e-9)
    price = 0.3
    best = float(scaled.inverse_derivative(price))
    if np.isfinite(best):
        tried = np.linspace(0.01, 4 * best + 1, 4000)
        assert scaled(best) - price * best >= np.max(scaled(tried) - price * tried) - 1e-9
    program = mo.Program("scaled")
    amount = program.variable("amount", nonneg=True)
    program.maximize(scaled.expression(amount) - 0.3 * amount).add("most", amount <= 4.0)
    value = program.solve(tolerance=1e-7).objective
    assert value == pytest.approx(float(scaled(min(best, 4.0)) - 0.3 * min(best, 4.0)), rel=1e-5, abs=1e-6)
    assert scaled.has_expression
    assert scaled.has_kinks == base.has_kinks
    assert scaled.natural_scale == base.natural_scale / 0.4


def test_reports_of_other_utilities():
    data = np.array([1.0, 3.0])
    assert rescaled(ThresholdUtility(5, 2), 2.0, 0.5)(data).tolist() == [0.0, 0.0]
    assert rescaled(ThresholdUtility(5, 2), 2.0, 0.8)(data).tolist() == [0.0, 10.0]
    assert rescaled(AdditiveUtility([1, 2]), 3.0, 0.5).values == (3.0, 6.0)
    table = TableUtility({(): 0.0, (1,): 2.0})
    assert rescaled(table, 3.0, 1.0).values == {frozenset(): 0.0, frozenset({1}): 6.0}


# ------------------------------------------------------------ bad input


def test_bad_input():
    market = one_sale()
    with pytest.raises(mo.InvalidInput, match=r"pivot must be 'exclude' .* or 'drop'"):
        market.vcg("clarke")
    with pytest.raises(mo.InvalidInput, match="no restriction 'seller_caps'"):
        market.vcg(seller_caps=1)
    with pytest.raises(mo.InvalidInput, match="pivot must be"):
        closed_form.imbalance(market, "clarke")
    with pytest.raises(mo.InvalidInput, match="agent 1 could gain 9"):
        closed_form.payments(market, "exclude", np.zeros((2, 2)))
    many = SharingMarket(np.ones(17), np.zeros((17, 17)), LogUtility(1, 1))
    with pytest.raises(mo.NotApplicable, match="17 agents"):
        closed_form.imbalance(many, "exclude")
    glad = SharingMarket([1, 1], [[0, -1], [0, 0]], LogUtility(1, 1), allow_negative_costs=True)
    with pytest.raises(mo.NotApplicable, match=r"sharing_cost\[0, 1\] = -1"):
        closed_form.imbalance(glad, "drop")
    with pytest.raises(mo.InvalidInput, match="n_reports"):
        search_misreports(market, lambda m: m.vcg(), n_reports=0)
    with pytest.raises(mo.InvalidInput, match="spread"):
        search_misreports(market, lambda m: m.vcg(), spread=-1)
    with pytest.raises(mo.InvalidInput, match="private must be"):
        search_misreports(market, lambda m: m.vcg(), private="utility")
    with pytest.raises(mo.InvalidInput, match="at most 4"):
        WholeGraphs(market_of(0, "log", n_agents=5))


def test_joint_programs_that_are_not_solved_give_no_payments(monkeypatch):
    failed = Solution(Status.LIMIT, "time limit", "none", values={"adjacency": np.zeros((2, 2))})
    monkeypatch.setattr(welfare, "solve", lambda *args, **kwargs: failed)
    with pytest.raises(mo.SolverFailure, match="time limit"):
        one_sale().vcg(seller_cap=1)
