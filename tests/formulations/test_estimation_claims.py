"""Claims about estimation of the fair-value paper: verdicts as stated, and checks that can fail."""

from __future__ import annotations

import dataclasses
from math import inf

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.fair_value.claims import estimation, federation
from mechopt.formulations.fair_value.claims.estimation_roads import (
    FEDERATED,
    EqualCase,
    EstimatorCase,
    FederatedCase,
    PrivateCase,
    best_weights,
    error_of_covariances,
    federated_cases,
    private_cases,
    revealed_by_tails,
    risk_of_outcomes,
    utilities,
    values_of,
)
from mechopt.formulations.fair_value.federated import closed_form as federated_form
from mechopt.formulations.fair_value.federated import model as federated_model
from mechopt.formulations.fair_value.mean_estimation import audit, closed_form, exact
from mechopt.formulations.fair_value.mean_estimation import model as private_model
from mechopt.verification.claim import run_claim
from tests.oracles import estimation as oracle

N_INSTANCES = 8
MODULES = (estimation.__name__, federation.__name__)
CLAIMS = {
    claim.id.removeprefix("fair-value/"): claim
    for claim in estimation.LEDGER
    if claim.check.__module__ in MODULES
}


def run(id, n_instances=N_INSTANCES, seed=1):
    return run_claim(CLAIMS[id], n_instances=n_instances, seed=seed)


def refuted(id, n_instances=N_INSTANCES):
    return run(id, n_instances).verdict is mo.Verdict.REFUTED


@pytest.mark.parametrize("id", CLAIMS)
def test_verdict_is_the_one_expected(id):
    outcome = run(id, min(N_INSTANCES, CLAIMS[id].n_instances))
    assert outcome.as_expected, f"{outcome.verdict}: {outcome.witness} at {outcome.counterexample}"
    assert outcome.n_checked >= 2
    if outcome.verdict is mo.Verdict.REFUTED:
        assert outcome.worst >= 1e-2
        assert outcome.witness
        names = {kind.__name__: kind for kind in (PrivateCase, EqualCase, EstimatorCase, FederatedCase)} | {
            "inf": inf
        }
        assert eval(repr(outcome.counterexample), names) == outcome.counterexample


def test_what_the_project_asks_for_is_in_the_ledger():
    assert {f"R{i}" for i in (1, *range(7, 15))} <= set(CLAIMS)
    assert {"E6", "E7", "E7-utility", "E7-stationarity", "E8", "E8-equal", "E8-saturation"} <= set(CLAIMS)
    assert {"E10", "E10-values", "E16", "E16-weight"} <= set(CLAIMS)
    for id, claim in CLAIMS.items():
        assert claim.expected is (mo.Verdict.REFUTED if id.startswith("E") else mo.Verdict.HOLDS)
        assert claim.source
        if claim.corrected_by:
            assert CLAIMS[claim.corrected_by.removeprefix("fair-value/")].expected is mo.Verdict.HOLDS


# ------------------------------------------------------------ counterexamples, by hand


def test_e8_by_hand():
    finding = CLAIMS["E8"].check(EqualCase(2, 1.0))
    first, both = 2 / 27, 1 / 4
    assert finding.gap == pytest.approx((both - 2 * first) / both)
    assert CLAIMS["E8"].check(EqualCase(2, 3.5)).gap < 0


def test_e16_by_hand():
    # e = 2: w = 1/7, s = 1/14, w'w/6 + (1-2w)^2/12 = 1/147 + 25/588.
    without, scale = 1 / 147 + 25 / 588, 1 / 14
    true = without + 2 * scale**2
    finding = CLAIMS["E16"].check(EqualCase(2, 2.0))
    assert finding.gap == pytest.approx((without + 4 * scale - true) / true)
    assert CLAIMS["E16-weight"].check(EqualCase(1, 2.0)).gap == pytest.approx(abs(23 / 93 - 1 / 9) * 9)
    assert CLAIMS["E16-weight"].check(EqualCase(1, 23**0.5)).gap < 1e-12


def test_e6_by_hand():
    # One direct user of one sample, whose own mean is wanted: all weight on it, and the error is t^2.
    finding = CLAIMS["E6"].check(FederatedCase((2,), (1,), 1.0, 10.0))
    assert finding.gap == pytest.approx(0.9)


def test_e7_by_hand():
    # Two federated users of 1 and 4 samples, one direct; s2 = t2 = 1. V_0 = 1 + 5/8, V_1 = 2.
    case = FederatedCase((2, 1, 1), (1, 1, 4), 1.0, 1.0, user=0)
    v0, v1 = 1.625, 2.0
    d = 2 + v0 / v1
    average = 2 * (1 - 1 / v1) / d
    own = v0 / v1 / d + 1 / v1 * (1 - v0 / v1 / d)
    assert average + own == pytest.approx(1)
    finding = CLAIMS["E7-stationarity"].check(case)
    assert finding.gap == pytest.approx(abs(own * v1 + average / 2 * v0 / v1 + 1 / v1 - 1))
    # The printed range j = 3 .. 3 is the user of 4 samples, whose inverse is divided by N_1 = 2.
    case = dataclasses.replace(case, user=1)
    finding = CLAIMS["E7"].check(case)
    w0 = best_weights(case)[1] * 2
    true = error_of_covariances(case, best_weights(case))
    printed = true + w0**2 / 2 * (1 / 8 - 5 / 8)
    assert finding.gap == pytest.approx((true - printed) / true)


def test_e10_by_hand():
    # Alone, the star is known nearly to t2 / n.
    case = FederatedCase((1, 1), (100, 100), 100.0, 1.0, importance=(100.0, 1.0))
    start, alone, other = 201.0, (0.01 / 100.01) * (100 + 0.01), 200.01
    before = 100 * np.log(start / alone) + np.log(start / other)
    average = 100 / 2 + 0.01 / 2  # half the difference to the other's mean, and the noise of both
    after = 101 * np.log(start / average)
    finding = CLAIMS["E10"].check(case)
    assert finding.gap == pytest.approx((before - after) / before, rel=1e-12)


# ------------------------------------------------------------ second roads, against those of the tests


def test_roads_agree_with_the_oracles():
    rng = np.random.default_rng(4)
    for case in private_cases(rng, 20):
        weights, noise = rng.normal(size=len(case.levels)), 0.3
        assert risk_of_outcomes(weights, noise) == pytest.approx(
            oracle.risk_by_outcomes(weights, noise), rel=1e-12
        )
        np.testing.assert_allclose(revealed_by_tails(weights, noise), np.abs(weights) / noise, rtol=1e-9)
    for case in federated_cases(most=5)(rng, 20):
        given = (case.user, case.levels, case.num_samples, case.between, case.within)
        weights = best_weights(case)
        np.testing.assert_allclose(weights, oracle.weights_by_elimination(*given), atol=1e-11)
        assert error_of_covariances(case, weights) == pytest.approx(oracle.error_by_elimination(*given))
        table = utilities(case)
        np.testing.assert_allclose(
            values_of(table), oracle.shapley_by_subsets(table, len(case.levels)), atol=1e-9
        )


def test_instances_cover_what_they_say():
    cases = list(federated_cases()(np.random.default_rng(0), 60))
    assert cases[: len(FEDERATED)] == list(FEDERATED)
    for level in (0, 1, 2):
        assert any(case.levels[case.user] == level for case in cases)
    assert all(any(case.levels) for case in cases)


# ------------------------------------------------------------ mistakes that the claims must catch


@pytest.mark.parametrize("id", ["R8", "R8-program"])
def test_water_level_that_is_off_is_caught(id, monkeypatch):
    right = closed_form.closed_form

    def wrong(levels):
        form = right(levels)
        return dataclasses.replace(form, weights=form.weights * (1 + 1e-5))

    monkeypatch.setattr(closed_form, "closed_form", wrong)
    assert refuted(id)


@pytest.mark.parametrize("id", ["R8", "R8-program", "R8-saturation"])
def test_formula_without_saturation_is_caught(id, monkeypatch):
    def wrong(levels):
        levels = np.asarray(levels, dtype=float)
        finite = levels[np.isfinite(levels)]
        rate = finite.sum() / (12 + finite @ finite)
        water = 1 / (2 + levels.size - finite.size + finite.sum() * rate)
        weights = np.where(np.isinf(levels), water, np.where(np.isinf(levels), 0, levels) * water * rate)
        return closed_form.ClosedForm(weights, water * rate, water / 6, np.inf)

    monkeypatch.setattr(closed_form, "closed_form", wrong)
    assert refuted(id, 20)


@pytest.mark.parametrize("id", ["R8", "R9"])
def test_newton_that_stops_early_is_caught(id, monkeypatch):
    right = exact._ratio
    monkeypatch.setattr(exact, "_ratio", lambda levels: (right(levels)[0] * (1 + 1e-6), 1))
    assert refuted(id, 20)


@pytest.mark.parametrize("id", ["R9", "R10"])
def test_counts_that_are_off_are_caught(id, monkeypatch):
    right = closed_form.utility_of_counts
    monkeypatch.setattr(closed_form, "utility_of_counts", lambda *given: right(*given) ** (1 + 1e-6) - 1e-9)
    if id == "R10":
        monkeypatch.setattr(closed_form, "utility_of_counts", lambda *given: right(*given) ** 2)
    assert refuted(id, 30)


def test_level_of_saturation_that_is_off_is_caught(monkeypatch):
    right = private_model.MeanEstimation.saturation_level
    half = property(lambda self: 0.5 * right.fget(self))
    monkeypatch.setattr(private_model.MeanEstimation, "saturation_level", half)
    assert refuted("R8-saturation", 30)


def test_audit_that_sees_half_is_caught(monkeypatch):
    right = audit.revealed
    monkeypatch.setattr(audit, "revealed", lambda w, s: 0.5 * right(w, s))
    assert refuted("R1")


@pytest.mark.parametrize("id", ["R7", "R8-program"])
def test_private_program_with_a_constraint_too_many_is_caught(id, monkeypatch):
    right = private_model.declare

    def wrong(mechanism):
        program = right(mechanism)
        return program.add("wrong", program["weights"] <= 0.9 / (mechanism.n_users + 2))

    monkeypatch.setattr(private_model, "declare", wrong)
    assert refuted(id)


def test_weights_for_another_level_are_caught(monkeypatch):
    def wrong(levels, samples, between, within, user):
        return right(levels, samples, between, within, int(np.argmin(levels)))

    right = federated_form.optimal_weights
    monkeypatch.setattr(federated_form, "optimal_weights", wrong)
    assert refuted("R13", 20)


@pytest.mark.parametrize("id", ["R13", "R13-one", "R14"])
def test_errors_that_are_off_are_caught(id, monkeypatch):
    right = federated_form.errors
    monkeypatch.setattr(federated_form, "errors", lambda *given: right(*given) * (1 + 1e-7))
    assert refuted(id)


@pytest.mark.parametrize("id", ["R14", "R14-cover"])
def test_utility_of_members_only_is_caught(id, monkeypatch):
    right = federated_form.utility_on_counts

    def wrong(kinds, *given):
        return right(dataclasses.replace(kinds, outside_importance=0.0), *given)

    monkeypatch.setattr(federated_form, "utility_on_counts", wrong)
    assert refuted(id, 20)


def test_cover_that_covers_nothing_is_caught(monkeypatch):
    monkeypatch.setattr(federated_model.FairValue, "monotone_cover", lambda self: self)
    assert refuted("R14-cover", 30)


def test_error_without_the_own_deviation_is_caught(monkeypatch):
    def wrong(self, user, weights):
        v = np.asarray(weights)
        noise = self.within_user_variance / self.num_samples
        return float(noise @ v**2 + self.between_user_variance * v @ v)

    monkeypatch.setattr(federated_model.FederatedMeanEstimation, "error_of_weights", wrong)
    assert refuted("R11")


def test_federated_program_with_a_constraint_too_many_is_caught(monkeypatch):
    right = federated_model.declare

    def wrong(mechanism, user):
        program = right(mechanism, user)
        return program.add("wrong", program["user_weights"] <= 0.6)

    monkeypatch.setattr(federated_model, "declare", wrong)
    # A constraint that cannot be met breaks the check instead.
    assert run("R12", 20).verdict is not mo.Verdict.HOLDS


@pytest.mark.parametrize("id", ["E8", "E8-equal", "E8-saturation"])
def test_refutations_by_a_wrong_formula_stay_undecided(id, monkeypatch):
    right = closed_form.closed_form

    def wrong(levels):
        form = right(levels)
        return dataclasses.replace(form, bayes_risk=form.bayes_risk * (1 - 1e-3))

    monkeypatch.setattr(closed_form, "closed_form", wrong)
    outcome = run(id, 3)
    assert outcome.verdict is mo.Verdict.UNDECIDED
    assert "not confirmed" in outcome.witness


@pytest.mark.parametrize("id", ["E7-utility", "E10"])
def test_refutations_by_wrong_errors_stay_undecided(id, monkeypatch):
    right = federated_form.errors
    monkeypatch.setattr(federated_form, "errors", lambda *given: right(*given) * 1.01)
    outcome = run(id, 3)
    assert outcome.verdict is mo.Verdict.UNDECIDED
    assert "not confirmed" in outcome.witness


def test_negative_values_must_be_those_of_all_coalitions(monkeypatch):
    right = federated_form.utility_on_counts
    monkeypatch.setattr(federated_form, "utility_on_counts", lambda *given: right(*given) * 1.01)
    outcome = run("E10-values", 3)
    assert outcome.verdict is mo.Verdict.UNDECIDED
    assert "not confirmed" in outcome.witness
