"""The sharing-market paper's claims on VCG: verdicts, examples by hand, and checks that can fail."""

import dataclasses

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.functions import AdditiveUtility, LinearUtility
from mechopt.formulations.sharing_market import closed_form, distortion, mixed, vcg
from mechopt.formulations.sharing_market.claims import vcg as results
from mechopt.formulations.sharing_market.claims import vcg_errata as errata
from mechopt.formulations.sharing_market.claims.roads import LEDGER
from mechopt.formulations.sharing_market.families import CONCAVE, EVERY, MarketCase, markets, random_market
from mechopt.verification.claim import Claim, run_claim

WING = "sharing-market/"
CLAIMS = {
    claim.id.removeprefix(WING): claim
    for module in (results, errata)
    for claim in vars(module).values()
    if isinstance(claim, Claim)
}
HOLD = {"R14", "R14-imbalance", "R14-core", "R14-split", "R14-weights"} | {
    "R15",
    "R15-rational",
    "R15-truth",
    "R15-public",
    "R16",
}
REFUTED = {"E6-sum", "E9", "E10", "E11", "E12", "E13", "E15", "E16"}
N_INSTANCES = 8


def run(id, n_instances=N_INSTANCES, seed=1):
    return run_claim(CLAIMS[id], n_instances=min(n_instances, CLAIMS[id].n_instances), seed=seed)


@pytest.mark.parametrize("id", sorted(HOLD | REFUTED))
def test_verdict_is_the_one_expected(id):
    outcome = run(id, 5 if id in ("R14-core", "R15-truth", "R15-public") else N_INSTANCES)
    assert outcome.as_expected, f"{outcome.verdict}: {outcome.witness} at {outcome.counterexample}"
    assert outcome.n_checked >= 2
    if outcome.verdict is mo.Verdict.REFUTED:
        assert outcome.worst >= 1e-3
        assert outcome.witness
        assert repr(outcome.counterexample).startswith(type(outcome.counterexample).__name__)


def test_what_the_project_asks_for_is_in_the_ledger():
    assert set(CLAIMS) == HOLD | REFUTED
    for id, claim in CLAIMS.items():
        assert LEDGER.claims[WING + id] is claim
        assert claim.expected is (mo.Verdict.REFUTED if id in REFUTED else mo.Verdict.HOLDS)
        assert claim.source
        if id in REFUTED:
            assert claim.corrected_by.removeprefix(WING) in HOLD


def first(id):
    return next(iter(CLAIMS[id].instances(np.random.default_rng(0), 1)))


# ------------------------------------------------------------ counterexamples, by hand


def test_e9_by_hand():
    finding = CLAIMS["E9"].check(results.ONE_SALE)
    assert "agent 0 ends with -1, and with 0 outside; payments (0, 1)" in finding.witness
    assert "agent 0 ends with -3, and with 0 outside" in CLAIMS["E9"].check(results.NO_SALE).witness


def test_e10_by_hand():
    for factor in (2.0, 10.0):
        finding = CLAIMS["E10"].check(errata.ReportCase(results.ONE_SALE, "drop", 1, factor))
        # With weight w = 1 - 1 / (10 r) agent 1 has 10 w, and pays no money.
        assert f"has {10 * (1 - 1 / (10 * factor)):.6g}, and 9 with the truth" in finding.witness
        assert finding.gap == pytest.approx((1 - 1 / factor) / 10)


def test_e10_of_the_spec():
    """With own data counted: 19 with the truth, 19.5 for the slope 20."""
    case = MarketCase((1.0, 1.0), ((0.0, 1.0), (2.0, 0.0)), (results.NOTHING, LinearUtility(10.0)))
    finding = CLAIMS["E10"].check(errata.ReportCase(case, "drop", 1, 2.0))
    assert "has 19.5, and 19 with the truth; data payment 1" in finding.witness


def test_e11_by_hand():
    assert errata.printed_split(np.array([-10.0, 1.0])).tolist() == [-9.0, 1.0]
    assert "money sums to -1" in CLAIMS["E11"].check(results.ONE_SALE).witness
    # Payments of one sign are split right as printed.
    assert errata.printed_split(np.array([2.0, 5.0])).tolist() == [2.0, 5.0]
    assert errata.printed_split(np.array([-2.0, -5.0])).tolist() == [-2.0, -5.0]


def test_e6_sum_by_hand():
    # The deficit is 9: agent 0, who is paid 10, covers it, and agent 1 pays its 1 in data, too.
    assert "data payments (-9, 1): money sums to -1" in CLAIMS["E6-sum"].check(results.ONE_SALE).witness
    assert not CLAIMS["E6-sum"].check(results.NO_SALE).applies


def test_e12_and_e13_by_hand():
    # A deficit of 9 is given to agent 1 in data that nobody paid for.
    finding = CLAIMS["E12"].check(results.ONE_SALE)
    assert "exclude: SW^T is 18, of VCG 9, Delta -9" in finding.witness
    assert results.ONE_SALE.market().mixed_vcg("drop").total_welfare == pytest.approx(8.0, abs=1e-12)
    assert "cannot take 3 from it" in CLAIMS["E13"].check(results.NO_SALE).witness


def test_e15_by_hand():
    assert "SW^A = SW^T is 6, from weight 0.5 7" in CLAIMS["E15"].check(results.RISING).witness


def test_e16_by_hand():
    # The seller bears 1 and would be paid -10.
    assert "agent 0 would end with -11" in CLAIMS["E16"].check(results.ONE_SALE).witness


def test_the_edge_cap():
    finding = CLAIMS["R14-core"].check(results.EDGE_CAP)
    assert finding.gap <= 1e-9
    assert "Delta 8, payments (-1, 9, 0, 0)" in finding.witness


def test_shares_of_random_markets():
    """As in the spec: excluding is always rational, (20) seldom; literal splits fail only with i excluded."""
    cases = list(markets(*CONCAVE, max_agents=5)(np.random.default_rng(0), 40))
    rational = {pivot: 0 for pivot in results.PIVOTS}  # noqa: C420
    unbalanced = dict(rational)
    for case in cases:
        for pivot in results.PIVOTS:
            outcome = case.market().vcg(pivot)
            rational[pivot] += outcome.individually_rational
            money = outcome.payment - errata.printed_split(outcome.payment)
            unbalanced[pivot] += abs(money.sum()) > 1e-9 * np.abs(outcome.payment).max()
    assert rational["exclude"] == 40
    assert rational["drop"] < 20
    assert unbalanced["exclude"] > 10
    assert unbalanced["drop"] == 0


# ------------------------------------------------------------ checks that can fail


def broken(outcome, **changes):
    return dataclasses.replace(outcome, **changes)


def test_broken_pivots_are_caught(monkeypatch):
    true = vcg.leave_one_out
    monkeypatch.setattr(vcg, "leave_one_out", lambda *args, **kwargs: 0.99 * true(*args, **kwargs))
    assert run("R14").verdict is mo.Verdict.REFUTED
    assert run("R14-imbalance").verdict is mo.Verdict.REFUTED
    assert run("R15").verdict is mo.Verdict.REFUTED


def test_pivots_that_use_reports_are_not_truthful(monkeypatch):
    def own_share(market, best, count=None):
        return np.tile(0.5 * best.surplus, (market.n_agents, 1)) * (1 + best.adjacency.sum(axis=1))[:, None]

    monkeypatch.setattr(vcg, "leave_one_out", own_share)
    assert run("R15-truth").verdict is mo.Verdict.REFUTED


def test_broken_closed_forms_are_caught(monkeypatch):
    monkeypatch.setattr(closed_form, "imbalance", lambda market, pivot: 0.0)
    assert run("R14-imbalance").verdict is mo.Verdict.REFUTED


def test_dropping_for_excluding_is_caught(monkeypatch):
    monkeypatch.setattr(vcg, "leave_one_out", vcg.free_one)
    assert run("R15-rational").verdict is mo.Verdict.REFUTED


def test_broken_joint_programs_are_caught(monkeypatch):
    monkeypatch.setattr(vcg, "_excluding", vcg._dropping)
    assert run("R14-core", 2).verdict is mo.Verdict.REFUTED


def test_printed_split_for_the_corrected_one_is_caught(monkeypatch):
    monkeypatch.setattr(results, "greedy_split", errata.printed_split)
    assert run("R14-split").verdict is mo.Verdict.REFUTED


def test_weights_that_miss_are_caught(monkeypatch):
    true = distortion.Inflow._along
    monkeypatch.setattr(distortion.Inflow, "_along", lambda self, *args: 0.999 * true(self, *args))
    monkeypatch.setattr(distortion, "_ACCURACY", 1.0)
    for id in ("R14-weights", "R15", "R16"):
        assert run(id).verdict is mo.Verdict.REFUTED, id


def test_refusals_without_need_are_caught(monkeypatch):
    monkeypatch.setattr(
        distortion.Inflow, "can_take", property(lambda self: 0.5 * (self.value - self.value_at(self.base)))
    )
    monkeypatch.setattr(distortion.Inflow, "can_give", property(lambda self: 0.0))
    assert run("R14-weights", 20).verdict is mo.Verdict.REFUTED


def test_truth_about_costs_can_fail(monkeypatch):
    """A split that leaves the money of half the imbalance with the first agent pays for reports."""
    true = mixed.greedy_split
    monkeypatch.setattr(mixed, "greedy_split", lambda payment: 0.5 * true(payment))
    assert run("R15").verdict is mo.Verdict.REFUTED
    monkeypatch.setattr(mixed.MixedVCG, "payment", property(lambda self: 0.0 * self.vcg.payment))
    assert run("R15-public").verdict is mo.Verdict.REFUTED


def test_refutations_need_a_second_computation(monkeypatch):
    """If the mechanism is broken, errata become undecided: all graphs do not bear them out."""
    monkeypatch.setattr(
        vcg, "free_one", lambda market, best, count=None: 1 + best.surplus + 0 * best.adjacency
    )
    assert run("E9").verdict is mo.Verdict.UNDECIDED
    monkeypatch.setattr(vcg, "leave_one_out", vcg.free_one)
    for id in ("E11", "E16"):
        outcome = run(id)
        assert outcome.verdict is mo.Verdict.UNDECIDED
        assert "not confirmed" in outcome.witness


def test_families_are_short_decimals_and_repeatable():
    draw = markets(*EVERY)
    first_run, second_run = (list(draw(np.random.default_rng(2), 12)) for _ in range(2))
    assert first_run == second_run
    for case in first_run:
        namespace = vars(mo) | {"MarketCase": MarketCase}
        assert 2 <= case.n_agents <= 4
        if "Gain" in repr(case) or "Table" in repr(case):
            continue
        assert eval(repr(case), {**namespace, **vars(mixed), "AdditiveUtility": AdditiveUtility})
    whole = random_market(np.random.default_rng(0), "log", n_agents=3, sizes="whole")
    assert all(size.is_integer() for size in whole.data_size)
    suited = markets("log", suits=lambda case: case.n_agents == 3)(np.random.default_rng(0), 4)
    assert [case.n_agents for case in suited] == [3] * 4
