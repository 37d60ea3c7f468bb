"""Claims on policies for data markets: verdicts, counterexamples by hand, and checks that can fail."""

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.data_externality.claims import policy as claims
from mechopt.formulations.data_externality.claims.roads import LEDGER
from mechopt.verification.claim import Claim, run_claim

WING = "data-externality/"
CLAIMS = {c.id.removeprefix(WING): c for c in vars(claims).values() if isinstance(c, Claim)}
HOLD = {"R25", "R25-least", "R25-example", "R25-contingent", "R25-never-less", "R25-shutdown"} | {
    "R25-subsidy",
    "R25-both",
    "R26",
    "R26-no-leak",
    "R26-inverse",
    "R26-realised",
    "R26-order",
    "R26-price",
    "R27",
}
REFUTED = {"R25-marginal", "R25-oversharing", "E6-policy"}


def run(id, n=8):
    return run_claim(CLAIMS[id], n_instances=min(n, CLAIMS[id].n_instances), seed=1)


@pytest.mark.parametrize("id", sorted(HOLD | REFUTED))
def test_verdict_is_the_one_expected(id):
    outcome = run(id)
    assert outcome.as_expected, f"{outcome.verdict}: {outcome.witness} at {outcome.counterexample}"
    if outcome.verdict is mo.Verdict.REFUTED:
        assert outcome.worst >= 1e-2
        assert repr(outcome.counterexample).startswith("JoiningCase(")


def test_ledger():
    assert set(CLAIMS) == HOLD | REFUTED
    for id, claim in CLAIMS.items():
        assert LEDGER.claims[WING + id] is claim
        assert claim.expected is (mo.Verdict.REFUTED if id in REFUTED else mo.Verdict.HOLDS)
        if id in REFUTED:
            assert claim.corrected_by.removeprefix(WING) in HOLD


def test_counterexamples_by_hand():
    # Nobody should share: each alone loses, by -(v - 1) I of all; together they earn most after the tax.
    finding = CLAIMS["R25-marginal"].check(claims.TOGETHER)
    assert "best [], bought [0, 1, 2]" in finding.witness
    # From user 2: .125 + .5 (1 - 1.2); from user 0: .5 - 4 * .125 - .2 * .125; profits .025 and .75.
    finding = CLAIMS["R25-oversharing"].check(claims.LESS_SHARING)
    assert "best [2] with 0.025, next 0; bought [0]" in finding.witness
    finding = CLAIMS["E6-policy"].check(claims.SUPPRESSED)
    assert "bound -34.3684 says shut, and the market is worth 38.4673" in finding.witness


BROKEN = {
    "R25": ("prohibitive_tax", lambda x: np.zeros(x.n_users)),
    "R25-least": ("pigovian_tax", lambda x: claims.tax_program(x, sets=np.zeros((1, x.n_users))).solve()),
    "R25-example": ("uniform_shutdown_tax", lambda x: 0.44),
    "R25-shutdown": ("uniform_shutdown_tax", lambda x: 0.5),
    "R25-subsidy": ("joining_subsidies", None),
    "R25-both": ("joining_subsidies", None),
    "R26": ("mediator_surplus", lambda x, **_: float(np.maximum(1 - x.value_of_privacy, 0).sum() / 2)),
    "R26-no-leak": ("mediator_surplus", lambda x, no_leak=None: 0.1),
    "R26-inverse": ("inverse_covariance_release", None),
    "R26-order": ("mediator", None),
    "R27": ("uniform_shutdown_tax", lambda x: 0.2),
}


@pytest.mark.parametrize("id", sorted(BROKEN))
def test_a_broken_formula_is_caught(id, monkeypatch):
    name, broken = BROKEN[id]
    right = getattr(claims, name)
    if id == "R25-subsidy":

        def broken(x):
            found = right(x)
            object.__setattr__(found, "subsidy", found.subsidy * 0.9 + 0.01)
            return found
    elif id == "R25-both":

        def broken(x, joining, taxed):
            return right(x, joining, taxed=False)
    elif id == "R26-inverse":

        def broken(x, sharing=None):
            return right(mo.DataExternality(x.covariance, x.value_of_privacy, noise_variance=1.1), sharing)
    elif id == "R26-order":

        def broken(x):
            return right(x, sharing={0})

    monkeypatch.setattr(claims, name, broken)
    assert run(id).verdict is mo.Verdict.REFUTED


def test_a_broken_definition_is_caught(monkeypatch):
    """The claims that compare definitions alone."""
    loss = claims.Market.loss
    monkeypatch.setattr(claims.Market, "loss", lambda self, a: 0.9 * loss(self, a))
    assert run("R25-contingent").verdict is mo.Verdict.REFUTED
    monkeypatch.undo()
    profit = claims.Market.profit
    monkeypatch.setattr(claims.Market, "profit", lambda self, a: profit(self, a) - 0.8 * len(a))
    assert run("R25-never-less").verdict is mo.Verdict.REFUTED


def test_an_unconfirmed_refutation_decides_nothing(monkeypatch):
    monkeypatch.setattr(claims, "marginal_tax", lambda x, a: np.full(x.n_users, 100.0))
    assert run("R25-marginal").verdict is mo.Verdict.UNDECIDED
