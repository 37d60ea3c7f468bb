"""The ledger is complete: every numbered result and erratum of the five papers has a claim, or a reason."""

import mechopt as mo
from mechopt.formulations import results
from mechopt.formulations.ledger import ledger

IDS = list(ledger().claims)


def test_every_result_and_erratum_has_a_claim():
    assert results.missing(IDS) == []
    assert results.unknown(IDS) == []


def test_reasons_are_for_numbers_that_have_no_claim():
    covered = {results.number_of(id) for id in IDS}
    assert not covered & set(results.NO_CLAIM)
    assert results.missing(set(IDS)) == []


def test_what_is_missing_is_found():
    assert results.missing(id for id in IDS if not id.startswith("contract/R7")) == ["contract/R7"]
    assert results.unknown(["fair-value/R29", "fair-value/E17-x", "nobody/R1"]) == [
        "fair-value/R29",
        "nobody/R1",
    ]
    assert results.number_of("contract/R14-value") == "contract/R14"
    assert results.number_of("accuracy-shaping/S4-concave") == "accuracy-shaping/S4-concave"


def test_a_correction_is_a_claim_that_holds_as_far_as_is_known():
    for claim in ledger():
        if claim.expected is mo.Verdict.REFUTED:
            assert claim.corrected_by in ledger().claims, claim.id
            assert ledger().claims[claim.corrected_by].expected is mo.Verdict.HOLDS, claim.id


def test_every_claim_says_where_and_what():
    for claim in ledger():
        assert claim.source, claim.id
        assert len(claim.statement) > 20, claim.id
        assert claim.check.__doc__, claim.id
