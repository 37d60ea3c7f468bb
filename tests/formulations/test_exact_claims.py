"""Refutations: borne out in rationals, and by second computations that see it when something is broken."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.accuracy_shaping.claims import errata as accuracy
from mechopt.formulations.accuracy_shaping.claims import exact as accuracy_exact
from mechopt.formulations.accuracy_shaping.claims import private_errata as private
from mechopt.formulations.accuracy_shaping.mechanism import UserMechanism
from mechopt.formulations.data_externality.claims import exact as data_exact
from mechopt.formulations.data_externality.claims.duopoly_cases import (
    ByDefinition,
    JoiningCase,
    example_3_case,
    positive_covariance,
    random_case,
)
from mechopt.formulations.fair_value.claims import estimation, federation
from mechopt.formulations.fair_value.claims import exact as fair_exact
from mechopt.formulations.fair_value.claims import exact_gaps as fair_gaps
from mechopt.formulations.fair_value.claims import platform_errata as platform
from mechopt.formulations.fair_value.claims.estimation_roads import (
    FEDERATED,
    best_weights,
    error_of_covariances,
    risk_of_outcomes,
)
from mechopt.formulations.fair_value.federated.model import FederatedMeanEstimation
from mechopt.formulations.fair_value.mean_estimation import exact as estimator
from mechopt.formulations.fair_value.platform.model import PlatformPayments
from mechopt.formulations.functions import SqrtAccuracy
from mechopt.formulations.ledger import ledger
from mechopt.formulations.screening.claims import errata as contract
from mechopt.formulations.screening.claims import exact as contract_exact
from mechopt.formulations.sharing_market.claims import exact as market_exact
from mechopt.formulations.sharing_market.claims import network_errata as network
from mechopt.formulations.sharing_market.claims import network_exact, queries
from mechopt.formulations.sharing_market.claims import price_errata as price
from mechopt.formulations.sharing_market.claims.whole_graphs import WholeGraphs
from mechopt.formulations.sharing_market.families import random_market
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.formulations.sharing_market.queries.model import QueryMarket
from mechopt.solvers.errors import NotApplicable
from mechopt.verification.claim import run_claim, try_all
from mechopt.verification.evidence import fraction, fractions, solved_in_fractions

LEDGER = ledger()
REFUTED = [claim for claim in LEDGER if claim.expected is mo.Verdict.REFUTED]
EXACT = [claim for claim in REFUTED if claim.confirm_exactly is not None]

IRRATIONAL = {
    # Logarithms of which more than the sign is stated.
    *("contract/E2", "contract/E3", "fair-value/E7-utility", "fair-value/E10", "fair-value/E10-values"),
    # The top of a rational function of q, at a cost that is a root.
    "fair-value/E12",
    # Roots of cubic equations, best responses to them, and Euler's number.
    *("accuracy-shaping/E1", "accuracy-shaping/E1-rational", "accuracy-shaping/E1-margin"),
    *("accuracy-shaping/E6", "accuracy-shaping/E7", "accuracy-shaping/E8", "accuracy-shaping/E8-clip"),
    *("accuracy-shaping/E9", "accuracy-shaping/E9-alone", "accuracy-shaping/E10"),
    *("accuracy-shaping/E10-slope", "accuracy-shaping/E10-doubled", "accuracy-shaping/R17-draws"),
}

BOUNDS = {"fair-value/E11", "sharing-market/E12", "data-externality/R9-submodular"}
"""Rationals here bound the gap: a grid in the place of a top, one division of two, one of two equal rises."""


def run(id, n_instances=2):
    return run_claim(LEDGER.claims[id], n_instances=n_instances)


# ------------------------------------------------------------ all refutations


def test_what_is_not_confirmed_in_rationals_is_irrational():
    assert {claim.id for claim in REFUTED} - {claim.id for claim in EXACT} == IRRATIONAL


@pytest.mark.parametrize("claim", REFUTED, ids=lambda claim: claim.id)
def test_every_refutation_is_computed_twice(claim):
    """On the first instances: facts that can be read, and the same gap in rationals."""
    n_failed = n_exact = 0
    for trial in try_all(claim, n_instances=4):
        assert trial.error is None, trial.error
        if not trial.fails(claim):
            continue
        n_failed += 1
        assert trial.confirmed
        for fact in trial.confirmed:
            assert len(fact) <= 200
            assert " must " not in fact
            assert not any(word in fact for word in ("array", "Audit", "np.", "[["))
        if claim.confirm_exactly is None:
            continue
        try:
            gap = claim.confirm_exactly(trial.instance)
        except NotApplicable:
            continue
        n_exact += 1
        assert isinstance(gap, Fraction)
        assert gap > claim.tolerance
        if claim.id not in BOUNDS:
            # Scales that are logarithms have six digits.
            assert float(gap) == pytest.approx(trial.finding.gap, rel=1e-5, abs=1e-9)
    assert n_failed
    assert n_exact or claim.id in IRRATIONAL


# ------------------------------------------------------------ arithmetic


def test_decimals_are_what_they_print_as():
    assert fraction(0.1) == Fraction(1, 10)
    assert fraction(np.float64(2.5e-3)) == Fraction(1, 400)
    assert fractions((1, 0.5)) == (Fraction(1), Fraction(1, 2))
    for number in (math.inf, math.nan):
        with pytest.raises(NotApplicable):
            fraction(number)


def test_elimination():
    rng = np.random.default_rng(0)
    for n in range(5):
        matrix, right = rng.integers(-9, 10, (n, n)), rng.integers(-9, 10, (n, 2))
        if n and abs(np.linalg.det(matrix)) < 0.5:
            continue
        found = solved_in_fractions(
            *([[Fraction(int(x)) for x in row] for row in m] for m in (matrix, right))
        )
        for i in range(n):
            for j in range(2):
                assert sum(int(matrix[i, k]) * found[k][j] for k in range(n)) == right[i, j]
    # A pivot that is 0 is passed over; a matrix without one has no solution.
    swapped = [[Fraction(0), Fraction(1)], [Fraction(1), Fraction(0)]]
    assert solved_in_fractions(swapped, [[Fraction(3)], [Fraction(4)]]) == [[4], [3]]
    with pytest.raises(NotApplicable):
        solved_in_fractions([[Fraction(0)]], [[Fraction(1)]])


@pytest.mark.parametrize("number", [1, 2, 7, Fraction(1, 3), 90])
def test_bounds_on_logarithms(number):
    low, high = network_exact.exact_log(Fraction(number))
    assert 0 <= high - low <= 1e-11
    assert float(low) == pytest.approx(math.log(number), abs=1e-10)
    # Bounds, not guesses: closer ones lie between them.
    z = Fraction(number - 1) / (number + 1)
    series = sum(2 * z**k / k for k in range(1, 1201 if number > 10 else 101, 2)) if number != 1 else 0
    assert low <= series + Fraction(1, 10**13)
    assert series - Fraction(1, 10**13) <= high


# ------------------------------------------------------------ rationals against floats, beyond refutations


def test_joining_games():
    rng = np.random.default_rng(1)
    for n in (1, 2, 3, 3):
        case = random_case(rng, n, spillover=0.3, covariance=np.round(positive_covariance(rng, n), 3))
        exact, loops = data_exact.Exactly(case), ByDefinition(case)
        for joined in exact.sets():
            assert exact.bought(joined) == loops.bought(joined)
            np.testing.assert_allclose(
                np.array(exact.leaked(joined), float), loops.leaked(joined), atol=1e-12
            )
        assert float(exact.first_best) == pytest.approx(loops.first_best(), abs=1e-9)
        assert float(exact.mixed_surplus()) == pytest.approx(loops.mixed_surplus(), abs=1e-9)
        assert len(exact.equilibria()) * 2 == len(loops.equilibria())


def test_surplus_of_groups():
    for correlation, value in ((0.145, 1.19), (0.05, 1.02)):
        case = example_3_case(correlation, value)
        assert float(data_exact.group_surplus(case)) == pytest.approx(
            case.groups.monopoly().data_surplus, abs=1e-9
        )


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_markets(weight):
    rng = np.random.default_rng(2)
    kinds = [kind for kind in market_exact.RATIONAL if weight == 1 or kind != "table"]
    for _ in range(8):
        case = random_market(rng, *kinds, max_agents=3)
        exact = market_exact.ExactMarket(case, weight)
        market = case.market()
        graphs = WholeGraphs(market if weight == 1 else market.weighted(weight * market.weights))
        assert float(exact.welfare) == pytest.approx(graphs.best, abs=1e-9)
        assert float(exact.largest_value) == pytest.approx(np.abs(graphs.value).max(), abs=1e-9)
        for pivot in ("exclude", "drop"):
            assert [float(exact.payoff(i, pivot)) for i in exact.agents] == pytest.approx(
                graphs.payoff(pivot).tolist(), abs=1e-9
            )
            assert float(exact.imbalance(pivot)) == pytest.approx(graphs.imbalance(pivot), abs=1e-9)
            assert sum(exact.payments(pivot)) == exact.imbalance(pivot)
            assert sum(market_exact.data_payments(exact.payments(pivot))) == exact.imbalance(pivot)
    with pytest.raises(NotApplicable):
        market_exact.ExactMarket(random_market(rng, "log"))


@pytest.mark.parametrize(
    "levels", [(1.0,), (1.0, 14.0), (0.5, 0.5, math.inf), (0.0, 3.0), (math.inf, math.inf)]
)
def test_private_estimators(levels):
    weights, scale = fair_exact.best_estimator(levels)
    found = estimator.optimal_estimator(np.array(levels))
    np.testing.assert_allclose(np.array(weights, float), found.weights, atol=1e-9)
    assert float(scale) == pytest.approx(found.noise_scale, abs=1e-9)
    assert float(fair_exact.least_risk(levels)) == pytest.approx(
        risk_of_outcomes(found.weights, found.noise_scale), abs=1e-12
    )


def test_federated_estimators():
    for case in FEDERATED:
        weights = fair_exact.federated_weights(case)
        assert sum(weights) == 1
        np.testing.assert_allclose(np.array(weights, float), best_weights(case), atol=1e-12)
        assert float(fair_exact.federated_error(case, weights)) == pytest.approx(
            error_of_covariances(case, best_weights(case)), rel=1e-12
        )


def test_viability_without_roots():
    accuracy = SqrtAccuracy(0.9, 2.0)
    for cost in (0.5, 0.99, 1.01, 2.0):
        cost = round(cost * accuracy.viability_cost, 6)
        for seed in (0.0, 0.5, 3.0, 12.0):
            m = np.geomspace(1e-6, 1e3, 20000)
            gains = np.maximum(0, 0.9 - 2 * np.sqrt(2.0 / (m + seed))) - cost * m
            assert accuracy_exact.is_viable(accuracy, fraction(cost), fraction(seed)) is bool(
                gains.max() > 1e-9
            )


# ------------------------------------------------------------ what is broken is seen


def scaled(factor):
    def spoil(honest):
        def wrong(*args, **options):
            return honest(*args, **options) * factor

        return wrong

    return spoil


def instead(value):
    return lambda honest: lambda *args, **options: value


def audit_of_nothing(honest):
    return lambda *args, **options: dataclasses.replace(honest(*args, **options), ic_violation=0.0)


def objective(factor):
    def spoil(honest):
        def wrong(*args, **options):
            found = honest(*args, **options)
            return dataclasses.replace(found, objective=factor * found.objective)

        return wrong

    return spoil


def turned(honest):
    def wrong(self, count):
        return self.buyer_value(count) - (self.query_count(count).T * self.sharing_cost).sum(axis=1)

    return wrong


def as_printed(honest):
    return lambda market, graph: market.sharing_cost.sum(axis=0) - market.sharing_cost.sum(axis=1)


def searched(factor):
    """Searches that answer with a tuple, or with None."""

    def spoil(honest):
        def wrong(*args, **options):
            found = honest(*args, **options)
            return tuple(factor * x for x in found) if isinstance(found, tuple) else factor * (found or 0.0)

        return wrong

    return spoil


BREAKS = [
    ("contract/E1", contract, "uniform_rent", scaled(1.01)),
    ("contract/E2", contract, "uniform_rent", scaled(1.01)),
    ("contract/E3", contract, "menu_value", scaled(0.999)),
    ("contract/E4", mo.ScreeningContract, "audit", audit_of_nothing),
    ("contract/E5", mo.ScreeningContract, "audit", audit_of_nothing),
    ("contract/E7", contract, "uniform_quantity", scaled(1.01)),
    ("contract/E8-hazard", mo.ScreeningContract, "audit", audit_of_nothing),
    ("contract/E9", contract, "upward_slack", lambda honest: lambda *args: honest(*args) + 1.0),
    ("accuracy-shaping/E1", UserMechanism, "best_response", scaled(0.9)),
    ("accuracy-shaping/E1", accuracy, "_gains_by_trying", scaled(0.5)),
    ("accuracy-shaping/E1-rational", accuracy, "_least_regret_of_all", scaled(0.1)),
    ("accuracy-shaping/E3", accuracy, "search_pool", searched(0.9)),
    ("accuracy-shaping/E4", accuracy, "search_most", searched(0.0)),
    ("accuracy-shaping/E5", accuracy, "search_pool", searched(1.01)),
    ("accuracy-shaping/E6", accuracy, "search_alone", searched(1.01)),
    ("accuracy-shaping/E10", accuracy, "search_pool", searched(1.01)),
    ("accuracy-shaping/E10-slope", accuracy, "search_alone", searched(1.01)),
    ("accuracy-shaping/E8", private, "search_most", searched(10.0)),
    ("accuracy-shaping/E9", private, "search_two_types", searched(1.01)),
    ("accuracy-shaping/R17-draws", private, "search_two_types", searched(1.01)),
    ("sharing-market/E1", network, "try_all", instead(True)),
    ("sharing-market/E4", network, "try_all", instead(True)),
    ("sharing-market/E5-strict", network, "blocks", instead(False)),
    ("sharing-market/E6", price, "payments_at_cost", as_printed),
    ("sharing-market/E16-own", price, "most_welfare", scaled(1.1)),
    (
        "sharing-market/E7-argmax",
        SharingMarket,
        "is_equilibrium",
        lambda honest: lambda m, g, p: honest(m, g, 2 * p),
    ),
    ("sharing-market/E14-orientation", QueryMarket, "allocation_value", turned),
    ("sharing-market/E14", queries.WholeMarket, "blocked", instead((0.0, 0, ()))),
    ("fair-value/E8", estimation, "risk_of_outcomes", scaled(1.01)),
    ("fair-value/E8-saturation", estimation, "risk_of_outcomes", scaled(1.01)),
    ("fair-value/E6", FederatedMeanEstimation, "error_of_weights", scaled(1.01)),
    ("fair-value/E7-utility", federation, "utility_of_members", scaled(1.01)),
    ("fair-value/E10", federation, "utility_of_members", scaled(1.01)),
    ("fair-value/E10-values", FederatedMeanEstimation, "fair_value", scaled(1.01)),
    ("fair-value/E8-sizes", PlatformPayments, "expected_utility", scaled(1.01)),
    ("fair-value/E12", PlatformPayments, "solve", objective(0.9)),
    ("fair-value/E15", PlatformPayments, "symmetric_regret", scaled(1.01)),
    ("fair-value/E17", platform, "best_by_scan", searched(1.01)),
    *(
        (f"data-externality/{id}", ByDefinition, "leaked", scaled(1.01))
        for id in ("E1", "E2", "E4", "E6", "E6-spillover", "E7", "E9", "E13", "E17", "E6-policy")
    ),
]


@pytest.mark.parametrize(("id", "owner", "name", "spoil"), BREAKS)
def test_what_is_broken_is_not_refuted(id, owner, name, spoil, monkeypatch):
    """A broken formula, mechanism or second road: the check holds, or does not bear the refutation out."""
    monkeypatch.setattr(owner, name, spoil(getattr(owner, name)))
    assert run(id).verdict is not mo.Verdict.REFUTED


EXACT_BREAKS = [
    ("contract/E4", contract_exact, "pointwise", lambda case, burden: (Fraction(1),) * len(burden)),
    ("contract/E9", contract_exact, "pointwise", lambda case, burden: (Fraction(1),) * len(burden)),
    ("accuracy-shaping/E3", accuracy_exact, "is_viable", lambda *args: True),
    ("accuracy-shaping/E2", accuracy_exact, "_curve", lambda accuracy: (Fraction(0), Fraction(1))),
    ("sharing-market/E9", market_exact.ExactMarket, "pivot", lambda self, agent, kind: Fraction(-9)),
    ("sharing-market/E11", market_exact.ExactMarket, "payments", lambda self, kind: (Fraction(0),) * 2),
    ("sharing-market/E1", network_exact, "try_all", lambda *args: False),
    ("fair-value/E4", fair_gaps, "values_of", lambda table: (table[-1],)),
    ("fair-value/E16", fair_gaps, "risk", lambda weights, scale: 4 * scale + 1),
    ("data-externality/E12", data_exact.Exactly, "best_gain", lambda self, first: Fraction(1)),
    ("data-externality/E6", data_exact.Exactly, "printed_bound", lambda self: Fraction(10**6)),
]


@pytest.mark.parametrize(("id", "owner", "name", "wrong"), EXACT_BREAKS)
def test_a_refutation_that_rationals_deny_is_undecided(id, owner, name, wrong, monkeypatch):
    monkeypatch.setattr(owner, name, wrong)
    outcome = run(id)
    assert outcome.verdict is mo.Verdict.UNDECIDED
    assert "in rationals" in outcome.witness


def test_advice_is_about_data_where_there_are_services():
    """What a market is worth without its services is compared with the surplus of data by the definition."""
    suppressed = next(
        iter(LEDGER.claims["data-externality/E6-policy"].instances(np.random.default_rng(0), 1))
    )
    case = JoiningCase(suppressed.covariance, suppressed.value, (2000.0,) * 3)
    claim = LEDGER.claims["data-externality/E6-policy"]
    finding = claim.check(case)
    assert finding.gap == pytest.approx(claim.check(suppressed).gap)
    assert float(claim.confirm_exactly(case)) == pytest.approx(finding.gap)
