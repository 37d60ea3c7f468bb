"""Claims of the joining game, groups and pre-set prices: their verdicts, and checks that can fail."""

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.data_externality import duopoly as dp
from mechopt.formulations.data_externality import examples, groups, model, preset
from mechopt.formulations.data_externality.claims import duopoly, duopoly_cases, duopoly_errata
from mechopt.formulations.data_externality.claims import groups as group_claims
from mechopt.formulations.data_externality.claims.roads import LEDGER
from mechopt.formulations.data_externality.duopoly import conditions, game, outcomes, tables, welfare
from mechopt.verification.claim import run_claim

WING = "data-externality/"
MODULES = (duopoly.__name__, duopoly_errata.__name__, group_claims.__name__)
CLAIMS = {claim.id.removeprefix(WING): claim for claim in LEDGER if claim.check.__module__ in MODULES}
N_INSTANCES = {"E6": 40, "E10": 30, "R21-threshold": 30, "R24-grid": 2}


def run(id, n_instances=12, seed=1):
    claim = CLAIMS[id]
    return run_claim(claim, n_instances=min(N_INSTANCES.get(id, n_instances), claim.n_instances), seed=seed)


@pytest.mark.parametrize("id", CLAIMS)
def test_verdict_is_the_one_expected(id):
    outcome = run(id)
    assert outcome.as_expected, f"{outcome.verdict}: {outcome.witness} at {outcome.counterexample}"
    assert outcome.n_checked >= 2
    if outcome.verdict is mo.Verdict.REFUTED:
        # By far more than the tolerance.
        assert outcome.worst >= 0.1
        assert outcome.witness
        names = vars(duopoly_cases) | vars(group_claims)
        assert repr(eval(repr(outcome.counterexample), names)) == repr(outcome.counterexample)


def test_results_and_errata_are_in_the_ledger():
    results = {f"R{i}" for i in (*range(11, 17), 18, 19, 20, 22, 23, 24)}
    results |= {"R17-1", "R17-2", "R17-3", "R21-1", "R21-2", "R21-3"}
    errata = {f"E{i}" for i in (1, 2, 3, 4, *range(6, 14), 15, 17, 19)}
    assert results | errata <= set(CLAIMS)
    for id, claim in CLAIMS.items():
        assert claim.expected is (mo.Verdict.REFUTED if id.startswith("E") else mo.Verdict.HOLDS), id
        assert claim.source
        if claim.corrected_by:
            assert CLAIMS[claim.corrected_by.removeprefix(WING)].expected is mo.Verdict.HOLDS


# ------------------------------------------------------------ counterexamples, by hand


def first(id):
    return next(iter(CLAIMS[id].instances(np.random.default_rng(0), 12)))


def test_e6_suppressor():
    """User 0's leak: .125 and .148810 of its variance with unit noise; larger variances tell more."""
    finding = CLAIMS["E6"].check(first("E6"))
    assert "38.4673" in finding.witness
    assert "-34.3684" in finding.witness
    # The expectation over four sets, against half the largest.
    case = first("E6")
    exact = duopoly_cases.ByDefinition(case)
    leaks = [exact.leaked(frozenset(users))[0] for users in ((), (1,), (2,), (1, 2))]
    assert leaks[0] == leaks[2] == 0
    assert np.mean(leaks) < leaks[3] / 2


def test_e6_spillover():
    worked = list(CLAIMS["E6-spillover"].instances(np.random.default_rng(0), 4))[:2]
    expected = ["9.6065, printed bound -44.6789", "-57.7355, printed bound -68.7367"]
    for case, told in zip(worked, expected, strict=True):
        assert told in CLAIMS["E6-spillover"].check(case).witness


def test_e9_one_likes_company_more():
    """Leaks cost .9 * .64 / 2 = .288: more than .01, less than 1."""
    finding = CLAIMS["E9"].check(first("E9"))
    assert finding.gap * 2 == pytest.approx(min(1 - 0.288, 0.288 - 0.01))


def test_e11_with_and_without_spillover():
    for value in (10.0, 100.0, 400.0):
        case = duopoly_cases.divided(value)
        assert [found.tolist() for found in case.model.duopoly().pure_equilibria] == [[1, 1, 2]]
        assert CLAIMS["E11"].check(case).gap == 1
    for value in (100.0, 400.0):
        spilled = duopoly_cases.divided(value, 0.1)
        assert CLAIMS["E11"].check(spilled).gap == 0
    # What user 0 tells about user 2 is .09 / 2, a tenth of which leaks at the least.
    told = dp.efficiency(spilled.model)
    gained = sum(0.5 * case.model.leaked_information({0, 1, 2})[:2])
    assert told.efficient is False
    assert told.threshold[2] == pytest.approx(1 + 1.1 * gained / 0.0045)


def test_e12_user_2_would_lose():
    assert "gains -0.054208" in CLAIMS["E12"].check(first("E12")).witness


def test_e7_spillover_is_the_edge():
    """High users together are bought below 1.25, and apart below 1.125."""
    case = first("E7-spillover")
    exact = duopoly_cases.ByDefinition(case)
    assert exact.bought(frozenset({2, 3})) == {2, 3}
    assert exact.bought(frozenset({2})) == frozenset()


# ------------------------------------------------------------ broken formulas are caught


def caught(*ids, n_instances=16):
    for id in ids:
        claim = CLAIMS[id]
        outcome = run_claim(claim, n_instances=min(n_instances, claim.n_instances), seed=1)
        assert outcome.verdict is not claim.expected, f"{id} does not notice"


def wrong(monkeypatch, owner, name, change):
    """Replace a function or method by one whose answer is changed."""
    right = getattr(owner, name)
    if isinstance(right, property):
        monkeypatch.setattr(owner, name, property(lambda self: change(right.fget(self))))
    else:
        monkeypatch.setattr(owner, name, lambda *args, **options: change(right(*args, **options)))


def test_users_who_are_not_paid_are_caught(monkeypatch):
    def unpaid(outcome):
        return outcomes.Outcome(outcome.sharing, outcome.leaked, 0 * outcome.price, outcome.profit)

    wrong(monkeypatch, game.Duopoly, "_outcome", unpaid)
    caught("R12", "R20")


def test_platforms_that_buy_from_all_are_caught(monkeypatch):
    monkeypatch.setattr(
        tables,
        "equilibrium_sharing_of_all",
        lambda covariance, *args, **options: np.arange(2 ** len(covariance)),
    )
    caught("R14", "R15", "R15-many", "R12", "R19", "E6")


def test_payoffs_that_forget_the_spillover_are_caught(monkeypatch):
    forget = game.Duopoly._payoff

    def without(self, parts, user):
        return forget(self, [part if user in part else frozenset() for part in parts], user)

    monkeypatch.setattr(game.Duopoly, "_payoff", without)
    caught("R20")


def test_services_that_do_not_count_are_caught(monkeypatch):
    monkeypatch.setattr(model.DataExternality, "service", lambda self, user, joined: 0.0)
    caught("R11", "R16", "R15-many", "R17-mixed", "R21-threshold", "E11", "E19-joining")


def test_a_potential_of_the_wrong_sign_is_caught(monkeypatch):
    wrong(monkeypatch, game.Duopoly, "potential", lambda value: -value)
    caught("R13")


def test_repair_that_is_none_is_caught(monkeypatch):
    monkeypatch.setattr(game.Duopoly, "pure_equilibria", property(lambda self: [np.array([1, 2, 1])]))
    caught("R12-example", "E10", "E8")


def test_a_bound_with_the_largest_leak_is_caught(monkeypatch):
    wrong(
        monkeypatch, welfare, "posterior_variances", lambda table: np.repeat(table[-1:], len(table), axis=0)
    )
    caught("R18", "R22")


def test_a_bound_without_spillover_is_caught(monkeypatch):
    def unspilled(self, n_platforms=2):
        without = duopoly_cases.DataExternality(self.covariance, self.value_of_privacy)
        services = sum(self.service(i, frozenset(range(self.n_users))) for i in range(self.n_users))
        return welfare.surplus_bound(without) + services

    monkeypatch.setattr(model.DataExternality, "surplus_bound", unspilled)
    caught("R22")


def test_half_of_half_is_caught(monkeypatch):
    wrong(monkeypatch, dp, "printed_surplus_bound", lambda bound: bound / 2 - 0.1)
    caught("R18-half")


def test_conditions_that_forget_values_are_caught(monkeypatch):
    monkeypatch.setattr(conditions, "isolated_slack", lambda model: dp.isolated_slack(model) - 0.3)
    caught("R17-1", "R21-1")


def test_thresholds_that_are_too_mild_are_caught(monkeypatch):
    ratio = conditions._ratio
    monkeypatch.setattr(conditions, "_ratio", lambda gain, harm: 0.0 * ratio(gain, harm) - 0.9)
    caught("R17-2", "R21-2", n_instances=60)


def test_thresholds_of_high_values_that_are_too_mild_are_caught(monkeypatch):
    right = conditions._bought_from_high

    def mild(model, high, loss):
        told = right(model, high, loss)
        return conditions.Efficiency(3, False, told.condition, told.threshold)

    monkeypatch.setattr(conditions, "_bought_from_high", mild)
    caught("R17-3", "R21-3", n_instances=60)


def test_a_threshold_that_is_half_is_caught(monkeypatch):
    wrong(monkeypatch, dp, "spillover_threshold", lambda value: value / 2)
    caught("R21-threshold", n_instances=30)


def test_a_first_best_of_one_platform_is_caught(monkeypatch):
    monkeypatch.setattr(welfare, "partitions", lambda n, k: np.ones((1, n), dtype=np.int64))
    caught("R16")


def test_counts_that_forget_their_own_data_are_caught(monkeypatch):
    left = groups.ExchangeableGroups._left
    monkeypatch.setattr(
        groups.ExchangeableGroups, "_left", lambda self, sharing: (left(self, sharing)[0],) * 2
    )
    caught("R19", "R19-figure-3", "E15")


def test_curves_that_are_off_are_caught(monkeypatch):
    wrong(monkeypatch, examples, "zero_surplus_value", lambda value: value + 1e-4)
    caught("R19-figure-3")
    monkeypatch.undo()
    wrong(monkeypatch, examples, "all_share_value", lambda value: value + 1e-4)
    caught("R19-figure-3")


def test_users_who_do_not_see_prices_are_caught(monkeypatch):
    monkeypatch.setattr(
        preset.PresetPrices,
        "user_equilibria",
        lambda self, *prices: [self.profile(row) for row in range(4**self.model.n_users)],
    )
    caught("R23", "E19")


def test_a_grid_on_which_everything_is_an_equilibrium_of_users_is_caught(monkeypatch):
    wrong(monkeypatch, preset.PresetPrices, "conditions", lambda found: (0 * found[0], 0 * found[1]))
    caught("R23", "R24-grid", "R24")


def test_platforms_that_hope_for_the_best_are_caught(monkeypatch):
    def hopeful(self):
        fits = self.is_user_equilibrium
        first = np.where(fits, self.profits[0][:, :, None], -np.inf).max(axis=0)
        second = np.where(fits, self.profits[1][:, None, :], -np.inf).max(axis=0)
        return np.stack([first, second])

    monkeypatch.setattr(preset.PriceGrid, "least_profits", property(hopeful))
    caught("R24-grid")


def test_prices_that_do_not_compete_are_caught(monkeypatch):
    monkeypatch.setattr(
        preset.PriceGrid, "best_replies", property(lambda self: (np.full(len(self.offers), -np.inf),) * 2)
    )
    caught("R24")


def test_an_example_without_competition_is_caught(monkeypatch):
    wrong(monkeypatch, game.Duopoly, "mixed_data_surplus", lambda value: 0.5)
    caught("R15-competition", "E6")


def test_surplus_by_the_definition_is_looked_at(monkeypatch):
    wrong(monkeypatch, duopoly_cases.ByDefinition, "surplus", lambda value: value - 100)
    caught("R15-positive", "E4", "E6-spillover", "E7")


def test_confirmations_are_made(monkeypatch):
    """With a second computation that differs, a refutation becomes undecided."""
    wrong(monkeypatch, duopoly_cases.ByDefinition, "leaked", lambda leaks: leaks * 0.9)
    for id in ("E1", "E2", "E4", "E6", "E6-spillover", "E7", "E9", "E13"):
        claim = CLAIMS[id]
        outcome = run_claim(claim, n_instances=min(4, claim.n_instances), seed=1)
        assert outcome.verdict is mo.Verdict.UNDECIDED, id
        assert "not confirmed" in outcome.witness
