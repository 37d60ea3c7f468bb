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
from mechopt.studies.ledger_page import backend_text, ledger_html, ledger_markdown, tally, verdict_text
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
        "Corrected: What is right | & <true> toy/R1",
        "wrong at fault on 3, worst gap 2e-01",
        "no instance met the hypotheses",
        "3 claims: 1 hold, 1 refuted, 1 undecided; not as expected: other/R2",
        "backend at fault: wrong (toy/R1)",
    ):
        assert words in text, words


def test_page_without_claims_is_a_page():
    assert "0 claims" in "".join(Page(ledger_html([])).text)


def test_markdown_has_tables_by_wing_and_the_counterexamples(outcomes):
    text = ledger_markdown(outcomes)
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "## toy",
        "### toy/R1",
        "### toy/E1",
        "## other",
        "### other/R2",
    ]
    rows = [line for line in text.splitlines() if line.startswith("| ") and "/" in line]
    assert len(rows) == 3
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows)
    assert "What is right \\| & \\<true>" in text
    assert text.count("```") == 6
    assert repr(Tricky()).replace("```", "'''") in text
    assert "Corrected (toy/R1): What is right | & \\<true>." in text
    assert "In rationals it fails by 1/2." in text


def test_markdown_changes_only_with_results(outcomes):
    again = [replace(outcome, seconds=outcome.seconds + 1) for outcome in outcomes]
    assert ledger_markdown(again) == ledger_markdown(outcomes)


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
