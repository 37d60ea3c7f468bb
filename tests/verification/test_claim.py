"""Claims: verdicts, counterexamples, broken checks, seeds, selection."""

import math

import numpy as np
import pytest

import mechopt as mo
from mechopt.verification.claim import Verdict, instance_size, run_claim, run_claims


def integers(rng, n):
    """Lists of positive numbers, of one to nine entries."""
    for _ in range(n):
        yield [int(i) for i in rng.integers(1, 100, int(rng.integers(1, 10)))]


def claim(check, *, id="toy/R1", instances=integers, tolerance=1e-9, **fields):
    return mo.Claim(
        id=id,
        source="a toy",
        statement="so it is",
        instances=instances,
        check=check,
        tolerance=tolerance,
        **fields,
    )


def test_holds_reports_the_worst_gap():
    outcome = run_claim(claim(lambda x: mo.Finding(1e-12 * len(x))), n_instances=50)
    assert outcome.verdict is Verdict.HOLDS
    assert outcome.as_expected
    assert outcome.n_checked == 50
    assert 1e-12 <= outcome.worst <= 9e-12
    assert outcome.counterexample is None


def test_gap_up_to_the_tolerance_holds():
    at, above = 1e-9, math.nextafter(1e-9, 1)
    assert run_claim(claim(lambda x: mo.Finding(at)), n_instances=1).verdict is Verdict.HOLDS
    assert run_claim(claim(lambda x: mo.Finding(above)), n_instances=1).verdict is Verdict.REFUTED


def test_refutation_keeps_the_smallest_counterexample_and_counts_all():
    seen = []

    def check(x):
        seen.append(x)
        return mo.Finding(float(len(x) >= 3), f"{len(x)} entries")

    outcome = run_claim(claim(check), n_instances=100)
    failing = [x for x in seen if len(x) >= 3]
    assert outcome.verdict is Verdict.REFUTED
    assert not outcome.as_expected
    assert outcome.counterexample == next(x for x in failing if len(x) == 3)
    assert outcome.witness == "3 entries"
    assert outcome.n_failed == len(failing) > 1
    assert outcome.worst == 1.0


def test_expected_refutation_is_no_surprise():
    expected = claim(lambda x: mo.Finding(1.0), expected=mo.Verdict.REFUTED, corrected_by="toy/R2")
    assert run_claim(expected, n_instances=3).as_expected
    true_after_all = claim(lambda x: mo.Finding(0.0), expected=mo.Verdict.REFUTED, corrected_by="toy/R2")
    assert not run_claim(true_after_all, n_instances=3).as_expected


def test_expected_refutation_needs_its_correction():
    with pytest.raises(mo.InvalidInput, match="which claim corrects it"):
        claim(lambda x: mo.Finding(1.0), expected=mo.Verdict.REFUTED)


def test_no_instance_within_the_hypotheses_is_undecided():
    outcome = run_claim(claim(lambda x: mo.Finding(5.0, applies=False)), n_instances=10)
    assert outcome.verdict is Verdict.UNDECIDED
    assert outcome.n_checked == 0
    assert "hypotheses" in outcome.witness


def test_instances_outside_the_hypotheses_do_not_count():
    outcome = run_claim(claim(lambda x: mo.Finding(5.0 * (len(x) > 4), applies=len(x) <= 4)), n_instances=60)
    assert outcome.verdict is Verdict.HOLDS
    assert 0 < outcome.n_checked < 60


def test_nan_is_undecided_and_never_holds():
    outcome = run_claim(claim(lambda x: mo.Finding(float("nan"), "0/0")), n_instances=10)
    assert outcome.verdict is Verdict.UNDECIDED
    assert "not a number; 0/0" in outcome.witness


def test_broken_check_is_undecided_and_says_where():
    def check(x):
        return mo.Finding(1 / 0)

    outcome = run_claim(claim(check), n_instances=10)
    assert outcome.verdict is Verdict.UNDECIDED
    assert "ZeroDivisionError" in outcome.witness
    assert f"line {check.__code__.co_firstlineno + 1}" in outcome.witness
    assert outcome.counterexample is not None


def test_a_backend_that_is_not_there_is_told_as_such():
    def check(x):
        raise mo.BackendUnavailable("backend 'b' cannot be used here: pip install b")

    outcome = run_claim(claim(check))
    assert outcome.verdict is Verdict.UNDECIDED
    assert outcome.witness == "instance 0 was not checked: backend 'b' cannot be used here: pip install b"


def test_a_break_deep_inside_is_told_at_the_checks_own_line():
    def check(x):
        return np.linalg.inv(np.zeros((2, 2)))  # named below

    outcome = run_claim(claim(check))
    assert f"(test_claim.py, line {check.__code__.co_firstlineno + 1})" in outcome.witness


def test_broken_check_does_not_end_the_run():
    def check(x):
        raise RuntimeError("no")

    asked = []
    outcomes = run_claims(
        [claim(check), claim(lambda x: mo.Finding(0.0), id="toy/R2")],
        n_instances=2,
        progress=lambda c: asked.append(c.id),
    )
    assert [outcome.verdict for outcome in outcomes] == [Verdict.UNDECIDED, Verdict.HOLDS]
    assert asked == ["toy/R1", "toy/R2"]


def draws(seed, id="toy/R1"):
    seen = []

    def check(x):
        seen.append(x)
        return mo.Finding(0.0)

    run_claim(claim(check, id=id), n_instances=20, seed=seed)
    return seen


def test_seed_and_id_fix_the_instances():
    assert draws(3) == draws(3)
    assert draws(3) != draws(4)
    assert draws(3) != draws(3, id="toy/R2")


def test_default_number_of_instances_is_the_claims_own():
    assert run_claim(claim(lambda x: mo.Finding(0.0), n_instances=7)).n_checked == 7


def test_summary_is_plain():
    outcome = run_claim(
        claim(lambda x: mo.Finding(1.0, "one"), expected=mo.Verdict.REFUTED, corrected_by="toy/R2")
    )
    summary = outcome.summary()
    assert (summary["verdict"], summary["expected"], summary["as_expected"]) == ("refuted", "refuted", True)
    assert all(isinstance(value, str | float | int | bool | None) for value in summary.values())


def test_instance_size_counts_scalars():
    gain = mo.LogGain(weight=1, scale=2)
    assert instance_size(gain) == 2
    assert instance_size({"types": np.ones(4), "gain": gain, "pair": (1, [2, 3])}) == 9


@pytest.fixture
def ledger():
    ledger = mo.Ledger()
    for id in ("toy/R1", "toy/R2", "toy/E1", "other/R1"):
        ledger.claim(id, source="a toy", statement="so it is", instances=integers, tolerance=0.0)(
            lambda x: mo.Finding(0.0)
        )
    return ledger


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        ("*", ["toy/R1", "toy/R2", "toy/E1", "other/R1"]),
        ("toy", ["toy/R1", "toy/R2", "toy/E1"]),
        ("toy/R*", ["toy/R1", "toy/R2"]),
        ("*/R1", ["toy/R1", "other/R1"]),
        ("toy/E1", ["toy/E1"]),
    ],
)
def test_selection(ledger, pattern, ids):
    assert [claim.id for claim in ledger.select(pattern)] == ids


def test_selecting_nothing_is_an_error_that_lists_the_wings(ledger):
    with pytest.raises(mo.InvalidInput, match=r"'tox'.*other, toy.*toy/R1"):
        ledger.select("tox")
    with pytest.raises(mo.InvalidInput, match=r"for example 'toy/R1', 'other/R1'"):
        ledger.select("r1")


def test_ids_are_unique(ledger):
    with pytest.raises(mo.InvalidInput, match="already a claim 'toy/R1'"):
        ledger.add(claim(lambda x: mo.Finding(0.0)))
