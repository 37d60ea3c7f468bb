"""Claims on leaks and on one platform: their verdicts, worked numbers, and checks that can fail."""

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.data_externality import exact, leakage, users
from mechopt.formulations.data_externality.claims import leakage as on_leaks
from mechopt.formulations.data_externality.claims import monopoly as on_platform
from mechopt.formulations.data_externality.claims.roads import LEDGER
from mechopt.verification.claim import run_claim

MODULES = (on_leaks.__name__, on_platform.__name__)
CLAIMS = {
    claim.id.removeprefix("data-externality/"): claim for claim in LEDGER if claim.check.__module__ in MODULES
}
N_INSTANCES = 10


def run(id, n_instances=N_INSTANCES, seed=1):
    return run_claim(CLAIMS[id], n_instances=n_instances, seed=seed)


@pytest.mark.parametrize("id", CLAIMS)
def test_verdict_is_the_one_expected(id):
    outcome = run(id, 4 if id == "R10-outer" else N_INSTANCES)
    assert outcome.as_expected, f"{outcome.verdict}: {outcome.witness} at {outcome.counterexample}"
    assert outcome.n_checked >= 3
    if outcome.verdict is mo.Verdict.REFUTED:
        assert outcome.worst >= 0.1
        assert outcome.witness
        assert repr(outcome.counterexample).startswith(type(outcome.counterexample).__name__)


def test_results_and_errata_are_in_the_ledger():
    assert {f"R{i}" for i in range(1, 11)} | {"E5", "E14", "E16"} <= set(CLAIMS)
    for id, claim in CLAIMS.items():
        refuted = id.startswith("E") or id == "R9-submodular"
        assert claim.expected is (mo.Verdict.REFUTED if refuted else mo.Verdict.HOLDS), id
        if refuted:
            correction = CLAIMS[claim.corrected_by.removeprefix("data-externality/")]
            assert correction.expected is mo.Verdict.HOLDS


# ------------------------------------------------------------ the numbers of the spec


def first(id):
    return next(iter(CLAIMS[id].instances(np.random.default_rng(0), 4)))


def test_suppressor():
    witness = CLAIMS["E5"].check(first("E5")).witness
    assert witness == "user 1 adds 0.125 to I_0 beside [], and 0.14881 if 2 shares too"


def test_prices_of_r6():
    finding = CLAIMS["R6-unique"].check(on_platform.R6_EXAMPLE)
    assert finding.witness == "cost 0.442667, at equilibrium prices 0.330286"


def test_copies():
    assert CLAIMS["E16"].check(first("E16")).witness == "price 0.15 = 0.166667 v_2; alone 0.45"


def test_dear_user():
    """User 1 alone tells (1 - v_1) / 2 + r^2 / 2 more than it is paid: .25 + .125."""
    assert CLAIMS["E14"].check(first("E14")).witness.startswith("the platform earns 0.375 without user 2")


# ------------------------------------------------------------ broken formulas are caught


def caught(id, n_instances=15):
    outcome = run(id, n_instances)
    assert outcome.verdict is not CLAIMS[id].expected, f"{id} does not notice"


def test_leaks_without_noise_are_caught(monkeypatch):
    def noiseless(covariance, sharing):
        inside = covariance[np.ix_(sharing, sharing)]
        across = covariance[:, sharing]
        return np.einsum("ij,ji->i", across, np.linalg.pinv(inside) @ across.T)

    monkeypatch.setattr(leakage, "leaked_information", noiseless)
    caught("R1")
    caught("R3-exchangeable")
    caught("R7")


@np.errstate(all="ignore")
def test_wrong_updates_are_caught(monkeypatch):
    monkeypatch.setattr(leakage, "add_user", lambda p, j: p - np.outer(p[j], p[j]) / p[j, j])
    caught("R1")


@np.errstate(all="ignore")
def test_a_table_in_another_order_is_caught(monkeypatch):
    table = leakage.leak_table
    monkeypatch.setattr(leakage, "leak_table", lambda covariance: table(covariance)[::-1])
    for id in ("R1", "R2", "R3", "R9"):
        caught(id)


def test_a_posterior_that_is_not_convex_is_caught(monkeypatch):
    posterior = leakage.posterior_covariance
    monkeypatch.setattr(leakage, "posterior_covariance", lambda s, w: posterior(s, np.asarray(w) ** 3))
    caught("R1-concave")


def test_finders_that_see_nothing_are_caught(monkeypatch):
    monkeypatch.setattr(leakage, "submodularity_violation", lambda table, tolerance=0.0: None)
    caught("E5")
    caught("R9-submodular")


def test_mtp2_of_everything_is_caught(monkeypatch):
    monkeypatch.setattr(leakage, "is_mtp2", lambda covariance: True)
    caught("R3-mtp2", 40)


def test_a_gain_that_is_not_submodular_is_caught(monkeypatch):
    gain = leakage.information_gain
    monkeypatch.setattr(
        leakage, "information_gain", lambda covariance, sharing: gain(covariance, sharing) ** 2
    )
    caught("R3-gain")


def test_thresholds_with_the_posterior_of_all_are_caught(monkeypatch):
    def with_own(model, sharing):
        variance = np.diag(leakage.posterior_covariance(model.covariance, sharing))
        return model.value_of_privacy * users.own_information(variance)

    monkeypatch.setattr(users, "thresholds", with_own)
    for id in ("R4", "R6", "R7", "R7-copies"):
        caught(id)


def test_a_greatest_equilibrium_from_nobody_is_caught(monkeypatch):
    monkeypatch.setattr(
        users.UserEquilibria,
        "greatest",
        property(lambda game: game._iterate(np.zeros(game.model.n_users, dtype=bool), -game.tolerance)),
    )
    caught("R5", 40)


def test_an_arbitrary_order_is_caught(monkeypatch):
    def first_come(asked):
        n = asked.shape[1]
        last = np.array([mask.bit_length() - 1 for mask in range(2**n)])
        return np.zeros(2**n), last

    monkeypatch.setattr(users, "cheapest_orders", first_come)
    caught("R6-unique")


def test_an_optimum_of_surplus_is_caught(monkeypatch):
    """A platform that sought the data surplus would not buy from users of high value."""

    def of_low_value(covariance, value, joined=None, spillover=0.0, **options):
        barred = value > 1
        return exact.optimum.platform_optimum(covariance, value, joined, spillover, barred=barred)

    from mechopt.formulations.data_externality import monopoly

    monkeypatch.setattr(monopoly, "platform_optimum", of_low_value)
    monkeypatch.setattr(exact, "platform_optimum", of_low_value)
    for id in ("R7", "R9-two", "R10"):
        caught(id)


def test_a_bound_that_cuts_off_the_optimum_is_caught(monkeypatch):
    from mechopt.formulations.data_externality.exact import branch_and_bound

    bound = branch_and_bound.bound_nodes

    def low(problem, node, floor, n_steps):
        found = bound(problem, node, floor, n_steps)
        return type(found)(found.upper * 0.0 - 1e9, found.inside, found.allowed, found.weights, found.error)

    monkeypatch.setattr(branch_and_bound, "bound_nodes", low)
    monkeypatch.setattr(
        branch_and_bound,
        "climb",
        lambda problem, found: found.offer(problem.profit(problem.required[None]), problem.required[None]),
    )
    monkeypatch.setattr(branch_and_bound, "_round", lambda *args: None)
    caught("R10")


def test_a_wrong_threshold_is_caught(monkeypatch):
    monkeypatch.setattr(on_platform.formula, "two_user_threshold", lambda covariance, value: 1.2)
    caught("R9-two")


def test_payments_at_full_value_are_caught(monkeypatch):
    monkeypatch.setattr(exact, "payments", lambda covariance, value, leaks: leaks * value)
    caught("R9")


def test_a_relaxation_below_the_optimum_is_caught(monkeypatch):
    monkeypatch.setattr(on_platform, "relaxation_bound", lambda model, joined: 0.0)
    caught("R10-outer", 2)


def test_leaks_that_fall_with_who_shares_are_caught(monkeypatch):
    leaks = on_leaks.conditional_leaks
    monkeypatch.setattr(on_platform, "conditional_leaks", lambda covariance: leaks(covariance)[::-1])
    caught("R8")


def test_leaks_that_rise_ever_faster_are_caught(monkeypatch):
    leaks = on_leaks.conditional_leaks
    monkeypatch.setattr(on_platform, "conditional_leaks", lambda covariance: leaks(covariance) ** 3)
    caught("R9-mtp2")


def test_refutations_are_confirmed_a_second_time(monkeypatch):
    """A mistake in the definition decides nothing."""
    leaks = on_leaks.conditional_leaks
    for module in (on_leaks, on_platform):
        monkeypatch.setattr(module, "conditional_leaks", lambda covariance: 1.1 * leaks(covariance) ** 1.2)
    for id in ("E5", "E16", "R9-submodular"):
        assert run(id).verdict is mo.Verdict.UNDECIDED, id


def test_a_platform_that_buys_from_all_does_not_refute_e14(monkeypatch):
    from mechopt.formulations.data_externality import monopoly

    def from_all(covariance, value, *args, **options):
        return exact.optimum.platform_optimum(covariance, 0 * value)

    monkeypatch.setattr(monopoly, "platform_optimum", from_all)
    assert run("E14").verdict is mo.Verdict.UNDECIDED
