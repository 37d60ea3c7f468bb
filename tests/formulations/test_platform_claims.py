"""The claims about platforms: verdicts as the ledger states them, and checks that can fail."""

import dataclasses

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.fair_value.claims import heterogeneous as heterogeneous_claims
from mechopt.formulations.fair_value.claims import platform as results
from mechopt.formulations.fair_value.claims import platform_errata
from mechopt.formulations.fair_value.claims.roads import LEDGER
from mechopt.formulations.fair_value.platform import (
    bernstein,
    certificates,
    closed_form,
    exact,
    heterogeneous,
    model,
    program,
    rational,
    utility,
)
from mechopt.formulations.fair_value.platform.families import WORKED, LevelsCase, SharersCase
from mechopt.verification.claim import run_claim

N_INSTANCES = 3
MODULES = {module.__name__ for module in (results, platform_errata, heterogeneous_claims)}
CLAIMS = {
    claim.id.removeprefix("fair-value/"): claim for claim in LEDGER if claim.check.__module__ in MODULES
}


def run(id, n_instances=N_INSTANCES, seed=1):
    return run_claim(CLAIMS[id], n_instances=n_instances, seed=seed)


@pytest.mark.parametrize("id", CLAIMS)
def test_verdict_is_the_one_expected(id):
    outcome = run(id)
    assert outcome.as_expected, f"{outcome.verdict}: {outcome.witness} at {outcome.counterexample}"
    assert outcome.n_checked >= 2
    if outcome.verdict is mo.Verdict.REFUTED:
        assert outcome.worst >= 10 * outcome.claim.tolerance
        assert outcome.witness
        assert repr(outcome.counterexample).startswith(type(outcome.counterexample).__name__)


def test_every_correction_is_a_claim_that_is_expected_to_hold():
    for claim in CLAIMS.values():
        if claim.expected is mo.Verdict.REFUTED:
            correction = CLAIMS[claim.corrected_by.removeprefix("fair-value/")]
            assert correction.expected is mo.Verdict.HOLDS


def test_what_the_project_asks_for_is_in_the_ledger():
    wanted = {"R2", *(f"R{i}" for i in range(15, 29)), "E1", "E8-payments"}
    wanted |= {f"E{i}" for i in range(11, 16)} | {"E17"}
    assert wanted <= set(CLAIMS)
    for id, claim in CLAIMS.items():
        assert claim.expected is (mo.Verdict.REFUTED if id.startswith("E") else mo.Verdict.HOLDS)
        assert claim.source


def test_worked_examples_come_first_and_are_printed_so_that_they_can_be_pasted():
    rng = np.random.default_rng(0)
    assert next(iter(CLAIMS["R19"].instances(rng, 1))) == WORKED[0]
    case = next(iter(CLAIMS["R20"].instances(rng, 1)))
    assert eval(repr(case), {"LevelsCase": LevelsCase}) == case
    assert case == LevelsCase(3, 0.1, 0.15)


# ------------------------------------------------------------ what breaks is seen


def scaled(factor):
    """Make a wrong function of a right one: numbers in its record are off by a factor."""

    def spoil(right):
        def wrong(*arguments, **options):
            record = right(*arguments, **options)
            changed = {
                field.name: factor * value
                for field in dataclasses.fields(record)
                if isinstance(value := getattr(record, field.name), float)
            }
            return dataclasses.replace(record, **changed)

        return wrong

    return spoil


def without_cost(right):
    return lambda values, cost, *rest, **options: right(values, 0.9 * cost, *rest, **options)


def first_only(right):
    return lambda *arguments: right(*arguments)[:1]


def moved(right):
    return lambda *arguments: tuple(0.99 * q for q in right(*arguments))


def nothing_raised(right):
    return lambda coefficients: np.append(coefficients, coefficients[-1])


def always_attained(right):
    return lambda *arguments: dataclasses.replace(right(*arguments), attained=True)


def looser(right):
    """Program (25) at costs that are not the users'."""
    return lambda game: right(heterogeneous.PairGame(game.utility, 0.9 * game.costs))


def enclosed_too_low(right):
    def wrong(*arguments):
        found = right(*arguments)
        return dataclasses.replace(found, low=found.low * 999 / 1000, high=found.high * 999 / 1000)

    return wrong


def rising(right):
    return lambda case, n, q: right(case, n, 1 - np.asarray(q))


BREAKS = [
    ("R2", exact.Game, "optimistic", scaled(1.01)),
    ("R15", utility, "_raised", nothing_raised),
    ("R15-crossing", results, "payoff_by_sizes", rising),
    ("R16", utility, "_raised", nothing_raised),
    ("R17", exact.Game, "equilibria", moved),
    ("R18", exact.Game, "symmetric", scaled(0.999)),
    ("R19", closed_form, "concave_regime", scaled(1.0001)),
    ("R20", closed_form, "cost_thresholds", scaled(1.03)),
    ("R20", closed_form, "cost_thresholds", scaled(0.97)),
    ("R20-definition", closed_form, "cost_thresholds", scaled(1.03)),
    ("R20-definition", closed_form, "cost_thresholds", scaled(0.97)),
    ("R21", bernstein, "maximise", scaled(0.999)),
    ("R21", certificates, "certificate", scaled(0.999)),
    ("R21", rational, "platform_optimum", enclosed_too_low),
    ("R22", program, "declare_symmetric", without_cost),
    ("R23", exact.Game, "optimistic", scaled(1.01)),
    ("R23-pessimistic", exact.Game, "pessimistic", always_attained),
    ("R23-pessimistic", exact.Game, "pessimistic", scaled(0.99)),
    ("R24", program, "declare_utility_share", without_cost),
    ("R24-level", program, "declare_per_level", without_cost),
    ("R25", heterogeneous.PairGame, "equilibria", first_only),
    ("R26", heterogeneous, "declare_pair", looser),
    ("R27", closed_form, "two_users", scaled(1.001)),
    ("R27", heterogeneous.PairGame, "equilibria", first_only),
    ("R28", heterogeneous_claims, "best_pure", lambda right: lambda u, c: right(u, 1.1 * np.array(c))),
    ("R28", heterogeneous, "best_pure", scaled(0.99)),
]


@pytest.mark.parametrize(("id", "owner", "name", "spoil"), BREAKS)
def test_a_broken_formula_is_caught(id, owner, name, spoil, monkeypatch):
    monkeypatch.setattr(owner, name, spoil(getattr(owner, name)))
    assert run(id, 2).verdict is mo.Verdict.REFUTED


def test_a_refutation_needs_its_second_computation(monkeypatch):
    broken = {
        "E1": (model.PlatformPayments, "solve", scaled(0.9)),
        "E8-payments": (exact.Game, "equilibria", first_only),
        "E11": (model.PlatformPayments, "solve", scaled(0.9)),
        "E14-wedge": (model.PlatformPayments, "solve", scaled(0.9)),
    }
    for id, (owner, name, spoil) in broken.items():
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, spoil(getattr(owner, name)))
            outcome = run(id, 2)
        assert outcome.verdict is mo.Verdict.UNDECIDED, id
        assert "not confirmed" in outcome.witness


# ------------------------------------------------------------ counterexamples, recomputed by hand


def test_e11_by_hand():
    finding = CLAIMS["E11"].check(SharersCase((0.0, 2 / 3, 1.0), 0.5))
    # c/gamma_max = .5/(2/3) makes nobody share; q = 2 - 3c at the optimum leaves (2 - 3c)²/3.
    assert finding.gap == pytest.approx((2 - 1.5) ** 2 / 3)


def test_e17_by_hand():
    finding = CLAIMS["E17"].check(platform_errata.CostCase(0.3))
    assert finding.gap == pytest.approx(0.5 - (1 - 2 * 0.3))


def test_e14_wedge_by_hand():
    case = next(iter(CLAIMS["E14-wedge"].instances(np.random.default_rng(0), 1)))
    finding = CLAIMS["E14-wedge"].check(case)
    assert finding.gap == pytest.approx((1 - 0.58) * (2 - 0.3 / 0.29) - 0.4, abs=1e-9)
