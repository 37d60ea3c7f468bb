"""The ledger is complete: every numbered result and erratum of the five papers has a claim, or a reason."""

import re

import pytest

import mechopt as mo
from mechopt.formulations import results
from mechopt.formulations.ledger import ledger

IDS = list(ledger().claims)


def test_every_result_and_erratum_has_a_claim():
    assert results.missing(IDS) == []
    assert results.unknown(IDS) == []


def test_the_list_is_that_of_the_papers():
    counts = {
        wing: [sum(n[0] == kind for n in titles) for kind in "RE"] for wing, titles in results.TITLES.items()
    }
    assert counts == {
        "contract": [15, 10],
        "accuracy-shaping": [17, 10],
        "sharing-market": [17, 16],
        "fair-value": [28, 17],
        "data-externality": [27, 19],
    }
    for titles in results.TITLES.values():
        for kind in "RE":
            numbers = [int(number[1:]) for number in titles if number[0] == kind]
            assert numbers == list(range(1, len(numbers) + 1))
    assert len(results.every_number()) == 176
    assert list(results.WINGS) == list(results.TITLES) == list(results.PLACES)


@pytest.mark.parametrize("wing", results.TITLES)
def test_titles_are_short_and_tell_numbers_apart(wing):
    titles = list(results.TITLES[wing].values())
    assert len(set(titles)) == len(titles)
    for title in titles:
        assert 3 <= len(title.split()) <= 10, title
        assert title[0].isupper(), title
        assert not title.endswith("."), title


PLACE = r"(Theorem|Proposition|Lemma|Corollary|Corollarie|Definition|Example|Remark|Algorithm|Assumption)"
NUMBER = r"(?:B\.)?\d+(?:\.\d+)*"


def places_named(source):
    """What a source names of the paper's own numbers: ``Theorems 1 and 2`` are two."""
    for kind, numbers in re.findall(rf"{PLACE}s? ({NUMBER}(?:(?:, | and | to |-){NUMBER})*)", source):
        for number in re.findall(NUMBER, numbers):
            yield f"{kind} {number}"


def test_places_named_by_claims_lead_to_their_numbers():
    seen = set()
    for claim in ledger():
        wing = claim.id.split("/")[0]
        for place in places_named(claim.source):
            assert place in results.PLACES[wing], (claim.id, place)
            seen.add((wing, place))
    assert len(seen) > 60


def test_places_lead_to_numbers_there_are():
    for wing, places in results.PLACES.items():
        for place, numbers in places.items():
            assert set(numbers.split()) <= set(results.TITLES[wing]), (wing, place)
            assert numbers


def test_every_result_a_paper_proves_has_a_place():
    numbered = {
        "contract": ["Proposition 1", "Proposition 2", "Theorem 1", "Theorem 2", "Theorem 3"],
        "accuracy-shaping": [f"Theorem {n}" for n in ("2.3", "3.3", "3.4", "4.2", "4.6", "B.1", "B.3")],
        "sharing-market": [f"Corollary {n}" for n in ("3.1.1", "3.2.1", "3.2.2")]
        + [f"Proposition {n}" for n in ("3.1", "4.1", "4.2", "5.1")]
        + ["Lemma 3.2"],
        "fair-value": ["Theorem 1", "Theorem 2", "Theorem 3", "Proposition 4", "Proposition 5"],
        "data-externality": [*(f"Theorem {n}" for n in range(1, 9)), "Lemma 1"],
    }
    for wing, proved in numbered.items():
        found = {p for p in results.PLACES[wing] if re.match("Theorem|Prop|Lemma|Cor", p)}
        assert found == set(proved), wing
        for place in proved:
            results_there = [n for n in results.PLACES[wing][place].split() if n[0] == "R"]
            assert results_there, (wing, place)


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
