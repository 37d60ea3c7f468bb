"""Claims about fair values: verdicts as the ledger states them, and checks that can fail."""

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.fair_value.claims import shapley as module
from mechopt.formulations.fair_value.shapley import exact, families, groups, owen
from mechopt.formulations.fair_value.shapley import program as programs
from mechopt.verification.claim import run_claim
from tests.oracles import fair_value as oracle

CLAIMS = {
    claim.id.removeprefix("fair-value/"): claim
    for claim in vars(module).values()
    if isinstance(claim, mo.Claim)
}
N_INSTANCES = 8


def run(id, n_instances=N_INSTANCES, seed=1):
    return run_claim(CLAIMS[id], n_instances=n_instances, seed=seed)


def test_all_claims_asked_for_are_there():
    wanted = {"R3", "R3-axioms", "E3", "R4", "R4-axioms", "R5", "R6", "E2", "E2-shares", "E4", "E5", "E9"}
    assert wanted <= set(CLAIMS)
    for id, claim in CLAIMS.items():
        assert module.LEDGER.claims[claim.id] is claim, id


@pytest.mark.parametrize("id", CLAIMS)
def test_verdict_is_the_one_expected(id):
    outcome = run(id, min(N_INSTANCES, CLAIMS[id].n_instances))
    assert outcome.as_expected, f"{outcome.verdict}: {outcome.witness} at {outcome.counterexample}"
    assert outcome.n_checked >= 2
    if outcome.verdict is mo.Verdict.REFUTED:
        assert outcome.worst >= 2 * outcome.claim.tolerance
        assert outcome.worst >= 1e-2
        assert outcome.witness
        again = eval(repr(outcome.counterexample), vars(families))
        assert outcome.claim.check(again).gap > outcome.claim.tolerance


def test_every_correction_is_a_claim_that_is_expected_to_hold():
    for claim in CLAIMS.values():
        if claim.expected is mo.Verdict.REFUTED:
            assert CLAIMS[claim.corrected_by.removeprefix("fair-value/")].expected is mo.Verdict.HOLDS


def test_second_roads_are_the_oracles():
    table = oracle.random_table(np.random.default_rng(0), 4, empty=None)
    np.testing.assert_allclose(module.orders(table), oracle.by_orders(table), atol=1e-13)
    users, platform = oracle.printed_platform(table)
    np.testing.assert_allclose(module.printed(table, True), np.append(users, platform), atol=1e-13)
    np.testing.assert_allclose(module.printed(table, False), oracle.printed_users(table), atol=1e-13)
    np.testing.assert_allclose(module.veto(table), oracle.veto_game(table))


def test_axioms_broken_sees_both_parts():
    alike = [0, 1, 1, 3]
    assert module.axioms_broken(alike, np.array([1.0, 2.0])) == 1
    assert module.axioms_broken(alike, np.array([1.5, 1.5])) == 0
    null = [0, 2, 0, 2]
    assert module.axioms_broken(null, np.array([2.0, 0.5])) == 0.5


@pytest.mark.parametrize("id", ["R3", "R4", "R5", "R6", "E4-corrected", "E5-corrected", "E4-basis-corrected"])
def test_wrong_weights_are_caught(monkeypatch, id):
    honest = exact.equal_share

    def broken(mean, include_platform):
        each, platform = honest(mean, include_platform)
        return 1.001 * each, platform

    monkeypatch.setattr(exact, "equal_share", broken)
    assert run(id).verdict is mo.Verdict.REFUTED


@pytest.mark.parametrize("id", ["R3", "R4", "E9-contribution-corrected"])
def test_wrong_covariances_are_caught(monkeypatch, id):
    honest = exact.size_weights
    monkeypatch.setattr(exact, "size_weights", lambda n, platform: honest(n, not platform))
    assert run(id).verdict is mo.Verdict.REFUTED


def test_share_taken_twice_is_caught(monkeypatch):
    honest = module.FairValue

    def twice(*args, payment_share=1.0, **options):
        return honest(*args, payment_share=payment_share**2, **options)

    monkeypatch.setattr(module, "FairValue", twice)
    for id in ("E9-corrected", "E5-corrected", "E4-corrected"):
        assert run(id).verdict is mo.Verdict.REFUTED
    assert run("E9").verdict is mo.Verdict.UNDECIDED  # its second road does not bear it out


@pytest.mark.parametrize("where", ["groups", "owen"])
def test_wrong_counting_is_caught(monkeypatch, where):
    if where == "groups":
        honest = groups.size_weights
        monkeypatch.setattr(groups, "size_weights", lambda n, platform: 1.0001 * honest(n, platform))
    else:
        binomial = owen.binomial
        monkeypatch.setattr(owen, "binomial", lambda size, q, p: binomial(size, q, p**1.0001))
    assert run("R4-groups").verdict is mo.Verdict.REFUTED


def test_wrong_dividends_are_caught(monkeypatch):
    honest = programs.dividends
    monkeypatch.setattr(programs, "dividends", lambda table: honest(table)[::-1].copy())
    assert run("R4-axioms", 4).verdict is not mo.Verdict.HOLDS


@pytest.mark.parametrize("id", ["E2", "E2-shares", "E3", "E4", "E9"])
def test_refutations_need_their_second_road(monkeypatch, id):
    honest = module.orders
    monkeypatch.setattr(module, "orders", lambda table: honest(table) + 0.1)
    assert run(id).verdict is mo.Verdict.UNDECIDED


def test_one_share_is_not_refuted(monkeypatch):
    # With one share, the second road finds a solution.
    monkeypatch.setattr(module, "_share_of", lambda utility: 0.5)
    assert run("E5").verdict is mo.Verdict.UNDECIDED


def test_numbers_of_the_examples():
    example = families.PairCase(2 / 3, 1.0)
    platform, first, second = example.values(include_platform=True)
    np.testing.assert_allclose(platform, [[0, 1 / 3], [1 / 3, 5 / 9]], atol=1e-15)
    np.testing.assert_allclose(first, [[0, 0], [1 / 3, 2 / 9]], atol=1e-15)
    np.testing.assert_allclose(second, first.T, atol=1e-15)
    kept, first, _ = families.PairCase(2 / 3, 1.0, 0.5).values(include_platform=False)
    np.testing.assert_allclose(first, 0.5 * np.array([[0, 0], [2 / 3, 1 / 2]]), atol=1e-15)
    np.testing.assert_allclose(kept, 0.5 * np.array([[0, 2 / 3], [2 / 3, 1]]), atol=1e-15)
