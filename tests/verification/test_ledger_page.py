"""The ledger as a web page, as Markdown, and in the terminal: nothing is lost, nothing is read as markup."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from html.parser import HTMLParser

import pytest
from rich.console import Console

import mechopt as mo
from mechopt.formulations import results
from mechopt.studies.ledger_page import (
    backend_text,
    facts,
    ledger_html,
    ledger_markdown,
    rounded,
    slug,
    tally,
    verdict_text,
)
from mechopt.studies.report import show_ledger
from mechopt.verification.claim import BackendRow, Ledger, Outcome, Verdict


@dataclass(frozen=True)
class Tricky:
    text: str = '<script>alert("x")</script> | [/bold] `*`'


def claim(id, statement, **fields):
    return mo.Claim(
        id=id,
        source="(3) <b>, Theorem [1]",
        statement=statement,
        instances=lambda rng, n: [],
        check=lambda x: mo.Finding(0.0),
        tolerance=1e-9,
        **fields,
    )


RIGHT = claim("toy/R1", "What is right | & <true>")
FALSE = claim("toy/E1", "What is wrong", expected=Verdict.REFUTED, corrected_by="toy/R1")
LATER = claim("other/R2", "What nobody knows")
FAULT = BackendRow("wrong", "at fault", 3, 2, 0.25, "objective of 'x' 1 against 2", 0.1)
CANNOT = BackendRow("highs", "cannot", 0, 0, float("nan"), "lacks EXP", 0.0)
AGREES = BackendRow("scs", "agrees", 3, 0, 1e-8, "", 0.1)


@pytest.fixture
def outcomes():
    return [
        Outcome(RIGHT, Verdict.HOLDS, 30, 2e-12, seconds=1.25, backends=(AGREES, CANNOT, FAULT)),
        Outcome(
            FALSE,
            Verdict.REFUTED,
            5,
            0.5,
            Tricky(),
            'gap <1> | "quoted" [/red] ```',
            n_failed=2,
            gap=0.5,
            exact_gap=Fraction(1, 2),
            found_as=Tricky("long"),
            confirmed=("two roads 0.30000000000000004", "two roads 0.7", "no <road> 3.3306690738754696e-16"),
        ),
        Outcome(LATER, Verdict.UNDECIDED, 0, float("nan"), witness="no instance met the hypotheses"),
    ]


class Page(HTMLParser):
    """Tags must nest; text and links are collected."""

    VOID = frozenset({"meta", "input", "br", "link"})

    def __init__(self, page):
        super().__init__()
        self.open, self.rows, self.text, self.addresses, self.tags = [], [], [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for k, v in attributes if k in ("src", "href", "action")]
        if tag == "tr" and dict(attributes).get("data-wing"):
            self.rows.append(dict(attributes))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_page_is_whole_and_asks_nobody(outcomes):
    html = ledger_html(outcomes, title="Ledger <1>")
    page = Page(html)
    assert page.addresses == []
    assert not re.search(r"https?:|//\w|@import|url\(", html)
    assert page.tags.count("script") == page.tags.count("style") == 1
    assert "".join(page.text).count('<script>alert("x")</script>') == 1
    assert "Ledger <1>" in page.text


def test_page_has_a_row_a_claim_with_what_filters_need(outcomes):
    page = Page(ledger_html(outcomes))
    assert [(r["data-wing"], r["data-verdict"], r["data-surprise"]) for r in page.rows] == [
        ("toy", "holds", "yes"),  # a backend is at fault
        ("toy", "refuted", "no"),
        ("other", "undecided", "yes"),
    ]
    text = " ".join("".join(page.text).split())
    for words in (
        "What is right | & <true>",
        "refuted as printed; see R1",
        "counterexample, made smaller",
        "In rationals it fails by 1/2.",
        "Borne out by a second computation:two roads 0.3 (and 1 more)no <road> 0",
        "Corrected: What is right | & <true> toy/R1",
        "wrong at fault on 3, worst gap 2e-01",
        "no instance met the hypotheses",
        "3 claims: 1 hold, 1 refuted, 1 undecided; not as expected: other/R2",
        "backend at fault: wrong (toy/R1)",
    ):
        assert words in text, words


def test_page_without_claims_is_a_page():
    assert "0 claims" in "".join(Page(ledger_html([])).text)


def test_markdown_has_an_entry_a_claim_by_wing_and_number(outcomes):
    text = ledger_markdown(outcomes)
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "## toy",
        "### R1 of toy",
        "#### toy/R1",
        "### E1 of toy",
        "#### toy/E1",
        "## other",
        "### R2 of other",
        "#### other/R2",
    ]
    for words in (
        "[R1](#r1-of-toy) [E1](#e1-of-toy)",
        "What is right | & \\<true>.",
        "*(3) \\<b>, Theorem \\[1]*: **holds** on 30 instances, to 1e-9.",
        "*(3) \\<b>, Theorem \\[1]*: **refuted as printed**.",
        "*(3) \\<b>, Theorem \\[1]*: **undecided**.",
        "Corrected by [toy/R1](#toyr1): What is right | & \\<true>.",
        "Counterexample, made smaller:",
        "In rationals it fails by 1/2.",
        'There: gap \\<1> | "quoted" \\[/red] \\`\\`\\`.',
        "- two roads 0.3 (and 1 more)",
        "- no <road> 0".replace("<", "\\<"),
        "There: no instance met the hypotheses.",
        "- wrong: at fault on 3, worst gap 2e-01",
        "Check: `tests.verification.test_ledger_page.claim.<locals>.<lambda>`".replace("claim.<locals>.", ""),
    ):
        assert words in text, words
    assert repr(Tricky()) in text
    assert text.count("```") == 2


def test_markdown_counts_by_wing(outcomes):
    rows = [line for line in ledger_markdown(outcomes).splitlines() if line.startswith("|")]
    assert rows == [
        "|  | results | errata | claims | hold | refuted | undecided |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| [toy](#toy) | 1 | 1 | 2 | 1 | 1 | 0 |",
        "| [other](#other) | 1 | 0 | 1 | 0 | 0 | 1 |",
        "| all | 2 | 1 | 3 | 1 | 1 | 1 |",
    ]
    assert "undecided |" not in ledger_markdown(outcomes[:2])


def test_markdown_tells_a_surprise(outcomes):
    surprise = replace(outcomes[1], claim=RIGHT)
    assert "**refuted**, which was not expected." in ledger_markdown([surprise])
    exactly = replace(outcomes[0], claim=replace(RIGHT, tolerance=0.0), n_checked=1)
    assert "**holds** on 1 instance, exactly." in ledger_markdown([exactly])
    unsaid = replace(outcomes[0], claim=replace(RIGHT, source=""))
    assert "**holds** on 30 instances, to 1e-9." in ledger_markdown([unsaid]).splitlines()


def whole_wing(wing):
    """Outcomes of one claim a number of a wing, and of one with no number."""
    names = [n for n in results.every_number() if n.startswith(f"{wing}/") and n not in results.NO_CLAIM]
    return [Outcome(claim(name, "What"), Verdict.HOLDS, 1, 0.0) for name in [*names, f"{wing}/X1"]]


def test_markdown_of_a_whole_wing_has_all_its_numbers():
    outcomes = whole_wing("data-externality")
    text = ledger_markdown(reversed(outcomes))
    headings = [line[4:] for line in text.splitlines() if line.startswith("### ")]
    titles = results.TITLES["data-externality"]
    assert headings == [f"{n}: {title}" for n, title in titles.items()] + ["Further claims, data externality"]
    assert "No claim: a misprint" in text
    assert "- Theorem 8: [R24](#r24-platforms-that-set-prices-beforehand)" in text
    part = ledger_markdown(outcomes[1:])
    assert "No claim" not in part
    assert "Theorem 8" not in part


def test_links_to_code_are_as_asked(outcomes):
    text = ledger_markdown(outcomes[:1], link=lambda code: f"[{code.name}]({code.path})")
    assert "Check: [<lambda>](tests/verification/test_ledger_page.py)" in text


def test_numbers_are_rounded_and_rounding_errors_are_nothing():
    told = "0.30000000000000004, -5.6e-17, 3e-16 of -10.238095238, to 1e-12; 2.5e-8 at R1.2, v1.10.123456789"
    assert rounded(told) == "0.3, 0, 0 of -10.238095, to 1e-12; 2.5e-8 at R1.2, v1.10.123456789"


def test_facts_that_differ_in_numbers_are_told_once(outcomes):
    assert facts(outcomes[1]) == ["two roads 0.3 (and 1 more)", "no <road> 0"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("- a list", "\\- a list."),
        ("1. a list", "1\\. a list."),
        ("2) a list", "2\\) a list."),
        ("# a heading", "\\# a heading."),
        ("> said", "\\> said."),
        ("-1 is less than 1.5", "-1 is less than 1.5."),
        ("(7) equals (8)", "(7) equals (8)."),
    ],
)
def test_text_that_looks_like_a_list_stays_text(outcomes, text, shown):
    page = ledger_markdown([replace(outcomes[2], claim=replace(LATER, statement=text))])
    assert shown in page.splitlines()


def test_anchors_are_those_of_code_hosts():
    assert slug("R1: What, if x_1 is a-b (or not)?") == "r1-what-if-x_1-is-a-b-or-not"
    assert slug("fair-value/E4-basis") == "fair-valuee4-basis"


def test_markdown_changes_only_with_results(outcomes):
    again = [replace(outcome, seconds=outcome.seconds + 1) for outcome in outcomes]
    assert ledger_markdown(again) == ledger_markdown(outcomes)


def test_a_long_fraction_is_told_as_a_number(outcomes):
    long = replace(outcomes[1], exact_gap=Fraction(10**30 + 1, 3 * 10**30))
    for write in (ledger_markdown, ledger_html):
        assert "0.33333333 (a fraction of 62 digits)" in write([long])


def test_corrections_are_looked_up_in_the_ledger_too(outcomes):
    ledger = Ledger()
    ledger.add(RIGHT)
    alone = [outcomes[1]]
    for write in (ledger_markdown, ledger_html):
        assert "orrected" not in write(alone)
        assert "orrected" in write(alone, ledger=ledger)


def terminal(outcomes, width=100, **options):
    stream = io.StringIO()
    show_ledger(outcomes, Console(file=stream, width=width, color_system=None), **options)
    return stream.getvalue()


def test_terminal_tells_the_same(outcomes):
    text = terminal(outcomes)
    for words in (
        "holds on 30",
        "refuted as printed; see R1",
        "counterexample (made smaller): Tricky(",
        "in rationals it fails by 1/2",
        "corrected, toy/R1: What is right | & <true>",
        "toy/R1: agrees: scs; cannot: highs",
        "toy/R1: wrong at fault on 3, worst gap 2e-01; objective of 'x' 1 against 2",
        "no program: toy/E1, other/R2",
        "[/red]",
    ):
        assert words in text, words
    assert "on several backends" not in terminal([replace(o, backends=()) for o in outcomes])


def test_table_fits_the_terminal(outcomes):
    table = terminal([replace(outcome, witness="", counterexample=None) for outcome in outcomes], width=80)
    assert max(map(len, table.splitlines())) <= 80


def test_words(outcomes):
    assert [verdict_text(outcome) for outcome in outcomes] == [
        "holds on 30",
        "refuted as printed; see R1",
        "undecided",
    ]
    surprise = replace(outcomes[1], claim=RIGHT)
    assert verdict_text(surprise) == "refuted"
    assert backend_text(CANNOT) == "cannot; lacks EXP"
    assert backend_text(AGREES) == "agrees on 3, worst gap 1e-08"
    assert tally([]) == "0 claims: 0 hold, 0 refuted, 0 undecided; not as expected: none"
