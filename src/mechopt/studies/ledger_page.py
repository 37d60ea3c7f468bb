"""The ledger of claims as a page to open in a browser, and as a page of the documentation."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from fractions import Fraction
from html import escape
from typing import Any

from mechopt.formulations import results
from mechopt.studies.as_python import as_python
from mechopt.studies.claim_code import Code, code_checked, code_of_check
from mechopt.verification.claim import BackendRow, Claim, Ledger, Outcome, Verdict

DIGITS = 8
"""Digits that a number keeps in Markdown."""
NOTHING = 1e-9
"""Measured numbers below this count as rounding errors there."""

_STYLE = """
:root { --ink: #1d2430; --soft: #5b6472; --line: #dde1e7; --ground: #fff; --band: #f6f7f9;
  --good: #1b6e3c; --known: #8a5a00; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ec; --soft: #9aa3b2; --line: #343b47;
  --ground: #15181d; --band: #1d2127; --good: #6fcf97; --known: #e0b25c; --bad: #f28b82; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 82rem; padding: 1.5rem; color: var(--ink); background: var(--ground);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
p { margin: 0 0 1rem; color: var(--soft); }
form { position: sticky; top: 0; display: flex; flex-wrap: wrap; gap: .75rem; padding: .75rem 0;
  background: var(--ground); border-bottom: 1px solid var(--line); }
label { display: flex; gap: .4rem; align-items: center; }
input, select { font: inherit; padding: .2rem .4rem; color: inherit; background: var(--ground);
  border: 1px solid var(--line); border-radius: 4px; }
table { width: 100%; border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: .5rem .6rem; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); }
tbody tr:hover { background: var(--band); }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
code, pre { font: 13px/1.45 ui-monospace, monospace; }
td.id { white-space: nowrap; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0; padding: .5rem;
  background: var(--band); }
.source { color: var(--soft); }
.holds { color: var(--good); }
.known { color: var(--known); }
.surprise { color: var(--bad); font-weight: 600; }
summary { cursor: pointer; color: var(--soft); }
details ul { margin: .3rem 0; padding-left: 1.2rem; }
[hidden] { display: none; }
@media (max-width: 45rem) { thead { display: none; } tr, td { display: block; } td { border: 0; }
  tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
  td { padding: .1rem .6rem; } td.number { text-align: left; }
  td.number::before { content: attr(data-label); color: var(--soft); } }
"""

_SCRIPT = """
const form = document.querySelector("form");
const rows = [...document.querySelectorAll("tbody tr")];
function filter() {
  const words = form.words.value.toLowerCase().split(" ").filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !((!form.wing.value || row.dataset.wing === form.wing.value)
      && (!form.verdict.value || row.dataset.verdict === form.verdict.value)
      && (!form.surprise.checked || row.dataset.surprise === "yes")
      && words.every(word => text.includes(word)));
    shown += !row.hidden;
  }
  document.querySelector("output").textContent = `${shown} of ${rows.length}`;
}
form.hidden = false;
form.addEventListener("input", filter);
form.addEventListener("submit", event => event.preventDefault());
filter();
"""


def ledger_html(
    outcomes: Iterable[Outcome], *, title: str = "Ledger of claims", ledger: Ledger | None = None
) -> str:
    """Write the ledger as one page that needs nothing else: no other file, no other host.

    Filters need JavaScript; without it the whole table is there.

    Parameters
    ----------
    outcomes : iterable of Outcome
    title : str
    ledger : Ledger, optional
        Where corrections of refuted claims are looked up, besides the outcomes themselves.
    """
    listed = list(outcomes)
    wings = dict.fromkeys(_wing(outcome) for outcome in listed)
    choices = "".join(f"<option>{escape(wing)}</option>" for wing in wings)
    verdicts = "".join(f"<option>{verdict}</option>" for verdict in Verdict)
    known = _known(listed, ledger)
    body = "\n".join(_html_row(outcome, known) for outcome in listed)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p>{escape(tally(listed))}</p>
<form hidden>
<label>Wing <select name="wing"><option value="">all</option>{choices}</select></label>
<label>Verdict <select name="verdict"><option value="">all</option>{verdicts}</select></label>
<label>Text <input type="search" name="words"></label>
<label><input type="checkbox" name="surprise"> surprises only</label>
<output></output>
</form>
<table>
<thead><tr><th>Claim</th><th>Statement</th><th>Verdict</th><th class="number">Worst gap</th>
<th class="number">Seconds</th></tr></thead>
<tbody>
{body}
</tbody>
</table>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _html_row(outcome: Outcome, known: dict[str, Claim]) -> str:
    claim = outcome.claim
    surprise = not outcome.as_expected or bool(outcome.faults)
    look = "surprise" if surprise else "holds" if outcome.verdict is Verdict.HOLDS else "known"
    details = "".join(_html_details(outcome, known))
    return (
        f'<tr data-wing="{escape(_wing(outcome))}" data-verdict="{outcome.verdict}" '
        f'data-surprise="{"yes" if surprise else "no"}">'
        f'<td class="id"><code>{escape(claim.id)}</code></td>'
        f'<td>{escape(claim.statement)} <span class="source">{escape(claim.source)}</span>{details}</td>'
        f'<td class="{look}">{escape(verdict_text(outcome))}</td>'
        f'<td class="number" data-label="worst gap ">{_gap(outcome.worst)}</td>'
        f'<td class="number" data-label="seconds ">{outcome.seconds:.1f}</td></tr>'
    )


def _html_details(outcome: Outcome, known: dict[str, Claim]) -> Iterator[str]:
    if outcome.counterexample is not None or outcome.witness:
        open_ = "" if outcome.as_expected else " open"
        yield f"<details{open_}><summary>{_why(outcome)}</summary>"
        if outcome.counterexample is not None:
            yield f"<pre>{escape(repr(outcome.counterexample))}</pre>"
        if outcome.witness:
            yield f"<pre>{escape(outcome.witness)}</pre>"
        if outcome.exact_gap is not None:
            yield f"<div>In rationals it fails by <code>{_fraction(outcome.exact_gap)}</code>.</div>"
        if outcome.confirmed:
            told = "".join(f"<li>{escape(fact)}</li>" for fact in facts(outcome))
            yield f"<div>Borne out by a second computation:<ul>{told}</ul></div>"
        yield "</details>"
    corrected = known.get(outcome.claim.corrected_by)
    if corrected is not None:
        yield f"<div>Corrected: {escape(corrected.statement)} <code>{escape(corrected.id)}</code></div>"
    if outcome.backends:
        open_ = " open" if outcome.faults else ""
        yield f"<details{open_}><summary>backends</summary><ul>"
        for row in outcome.backends:
            look = ' class="surprise"' if row.surprising else ""
            yield f"<li{look}><code>{escape(row.backend)}</code> {escape(backend_text(row))}</li>"
        yield "</ul></details>"


def ledger_markdown(
    outcomes: Iterable[Outcome],
    *,
    ledger: Ledger | None = None,
    link: Callable[[Code], str] | None = None,
) -> str:
    """Write the ledger as Markdown: by wing and number, each claim with its verdict, and what refutes it.

    The text changes only if a result does: it has no seconds and no gaps of rounding, and its numbers have at
    most eight digits. A wing of which all numbers are there also tells where what its paper numbers is, and
    lists the numbers that have no claim.

    Parameters
    ----------
    outcomes : iterable of Outcome
    ledger : Ledger, optional
        See `ledger_html`.
    link : callable, optional
        Turns a `Code` into Markdown that leads to it; by default its name.
    """
    listed = list(outcomes)
    known = _known(listed, ledger)
    here = {outcome.claim.id for outcome in listed}
    lines = [_plain(tally(listed)) + ".", "", *_table(listed)]
    for wing in _wings(listed):
        lines += ["", f"## {_wing_title(wing)}", ""]
        numbers: dict[str, list[Outcome]] = {}
        for outcome in listed:
            if _wing(outcome) == wing:
                numbers.setdefault(_number(outcome), []).append(outcome)
        if is_whole := wing in results.TITLES and not _lacking(wing, numbers):
            numbers = {number: [] for number in results.TITLES[wing]} | numbers
        ordered = sorted(numbers, key=_order)
        lines += [" ".join(_number_link(wing, number) for number in ordered), ""]
        if is_whole:
            lines += [*_places(wing), ""]
        for number in ordered:
            lines += [f"### {_heading(wing, number)}", ""]
            for outcome in numbers[number]:
                lines += entry(outcome, known, here, link or _named)
            if not numbers[number]:
                lines += [f"No claim: {_plain(results.NO_CLAIM[f'{wing}/{number}'])}.", ""]
    return "\n".join(lines).rstrip() + "\n"


def entry(
    outcome: Outcome, known: Mapping[str, Claim], here: Container[str], link: Callable[[Code], str]
) -> list[str]:
    """Write one claim in Markdown, line by line.

    Parameters
    ----------
    outcome : Outcome
    known : dict of str to Claim
        Where the claim that corrects it is looked up.
    here : container of str
        Ids of claims that are on the same page.
    link : callable
        See `ledger_markdown`.
    """
    claim = outcome.claim
    lines = [f"#### {claim.id}", "", f"{_plain(claim.statement)}.", ""]
    source = f"*{_plain(claim.source)}*: " if claim.source else ""
    lines += [source + _verdict_in_full(outcome), ""]
    corrected = known.get(claim.corrected_by)
    if corrected is not None:
        name = f"[{corrected.id}](#{slug(corrected.id)})" if corrected.id in here else corrected.id
        lines += [f"Corrected by {name}: {_plain(corrected.statement)}.", ""]
    if outcome.counterexample is not None:
        lines += [f"{_why(outcome).capitalize()}:", "", "```py", as_python(outcome.counterexample), "```", ""]
    if outcome.witness and outcome.verdict is not Verdict.HOLDS:
        lines += [f"There: {_plain(rounded(outcome.witness))}.", ""]
    if outcome.exact_gap is not None:
        lines += [f"In rationals it fails by {_fraction(outcome.exact_gap)}.", ""]
    if outcome.confirmed:
        lines += ["Borne out by a second computation:", ""]
        lines += [*(f"- {_plain(fact)}" for fact in facts(outcome)), ""]
    for row in outcome.faults:
        lines += [f"- {row.backend}: {_plain(backend_text(row))}", ""]
    checked = ", ".join(map(link, code_checked(claim)))
    lines += [f"Check: {link(code_of_check(claim))}" + (f", of {checked}" if checked else ""), ""]
    return lines


def _verdict_in_full(outcome: Outcome) -> str:
    if outcome.verdict is Verdict.HOLDS:
        to = f", to {_short(outcome.claim.tolerance)}" if outcome.claim.tolerance else ", exactly"
        noun = "instance" if outcome.n_checked == 1 else "instances"
        return f"**holds** on {outcome.n_checked} {noun}{to}."
    if outcome.verdict is Verdict.UNDECIDED:
        return "**undecided**."
    return "**refuted as printed**." if outcome.as_expected else "**refuted**, which was not expected."


def _table(outcomes: list[Outcome]) -> list[str]:
    """Count numbers and verdicts by wing."""
    verdicts = {Verdict.HOLDS: "hold", Verdict.REFUTED: "refuted", Verdict.UNDECIDED: "undecided"}
    if all(outcome.verdict is not Verdict.UNDECIDED for outcome in outcomes):
        del verdicts[Verdict.UNDECIDED]
    columns = ("", "results", "errata", "claims", *verdicts.values())
    rows: list[tuple[Any, ...]] = []
    for wing in _wings(outcomes):
        inside = [outcome for outcome in outcomes if _wing(outcome) == wing]
        numbers = {_number(outcome) for outcome in inside}
        counts = [sum(number.startswith(kind) for number in numbers) for kind in "RE"]
        counts += [len(inside), *(sum(o.verdict is verdict for o in inside) for verdict in verdicts)]
        rows.append((f"[{_wing_title(wing)}](#{slug(_wing_title(wing))})", *counts))
    rows.append(("all", *(sum(row[column] for row in rows) for column in range(1, len(columns)))))
    lines = [columns, ("---", *["---:"] * (len(columns) - 1)), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]


def _lacking(wing: str, numbers: Container[str]) -> list[str]:
    """Numbers of a wing that are not among these, although they have claims."""
    every = results.TITLES[wing]
    return [
        number for number in every if number not in numbers and f"{wing}/{number}" not in results.NO_CLAIM
    ]


def _places(wing: str) -> list[str]:
    """Tell under which numbers what the paper numbers is."""
    lines = ["<details><summary>The paper's own numbers</summary>", ""]
    for place, numbers in results.PLACES[wing].items():
        lines.append(f"- {place}: {' '.join(_number_link(wing, number) for number in numbers.split())}")
    return [*lines, "", "</details>"]


# ------------------------------------------------------------ words that all ledgers share


def verdict_text(outcome: Outcome) -> str:
    """Tell the verdict in a few words."""
    if outcome.verdict is Verdict.HOLDS:
        return f"holds on {outcome.n_checked}"
    if outcome.verdict is Verdict.UNDECIDED:
        return "undecided"
    told = "refuted as printed" if outcome.as_expected else "refuted"
    if outcome.claim.corrected_by:
        wing = _wing(outcome)
        told += f"; see {outcome.claim.corrected_by.removeprefix(f'{wing}/')}"
    return told


def backend_text(row: BackendRow) -> str:
    """Tell in a line how a backend fared."""
    counted = f" on {row.n_checked}" if row.n_checked else ""
    gap = f", worst gap {row.worst:.0e}" if not math.isnan(row.worst) else ""
    return f"{row.state}{counted}{gap}" + (f"; {row.told}" if row.told else "")


def tally(outcomes: Iterable[Outcome]) -> str:
    """Count verdicts, and name those that are not as expected."""
    listed = list(outcomes)
    count = {verdict: sum(outcome.verdict is verdict for outcome in listed) for verdict in Verdict}
    surprises = [outcome.claim.id for outcome in listed if not outcome.as_expected]
    told = (
        f"{len(listed)} claims: {count[Verdict.HOLDS]} hold, {count[Verdict.REFUTED]} refuted, "
        f"{count[Verdict.UNDECIDED]} undecided; not as expected: {', '.join(surprises) or 'none'}"
    )
    faults = dict.fromkeys(f"{row.backend} ({o.claim.id})" for o in listed for row in o.faults)
    return f"{told}; backend at fault: {', '.join(faults)}" if faults else told


def rounded(text: str) -> str:
    """Round the numbers in a text to eight digits, and rounding errors to 0: machines differ in them.

    Examples
    --------
    >>> rounded("0.19999999999999996 and 5.551115123125783e-17, to 1e-12")
    '0.2 and 0, to 1e-12'
    """
    return _NUMBER.sub(lambda match: _shortened(match[0]), text)


_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+(?:e[-+]?\d+)?|e[-+]?\d+)(?![\w.]*\d)")
"""Numbers that have a point or a power of ten, not those within names or versions."""
_TOLERANCE = re.compile(r"1(\.0*)?e-\d+")


def _shortened(number: str) -> str:
    if abs(float(number)) < NOTHING:
        return number if _TOLERANCE.fullmatch(number) else "0"
    digits = re.sub(r"e.*|\D", "", number).lstrip("0")
    return f"{float(number):.{DIGITS}g}" if len(digits) > DIGITS else number


def facts(outcome: Outcome) -> list[str]:
    """Tell what a second computation bore out; of facts that differ in nothing but numbers, one."""
    kinds: dict[str, list[str]] = {}
    for fact in map(rounded, outcome.confirmed):
        kinds.setdefault(re.sub(r"\W*\d+\W*", "#", fact), []).append(fact)
    return [alike[0] + (f" (and {len(alike) - 1} more)" if alike[1:] else "") for alike in kinds.values()]


def slug(heading: str) -> str:
    """Make the anchor of a heading, as code hosts and MyST do."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _wing(outcome: Outcome) -> str:
    return outcome.claim.id.split("/")[0]


def _wings(outcomes: list[Outcome]) -> list[str]:
    return list(dict.fromkeys(map(_wing, outcomes)))


def _wing_title(wing: str) -> str:
    return results.WINGS.get(wing, wing)


def _number(outcome: Outcome) -> str:
    """R7, E3, or nothing for a claim that stands for no number."""
    found = re.search(r"/([RE]\d+)$", results.number_of(outcome.claim.id))
    return found.group(1) if found else ""


def _order(number: str) -> tuple[int, int]:
    """Results, then errata, then the rest."""
    return ("RE".find(number[0]), int(number[1:])) if number else (2, 0)


def _heading(wing: str, number: str) -> str:
    if not number:
        return f"Further claims, {_wing_title(wing).lower()}" if wing in results.TITLES else f"Claims, {wing}"
    title = results.TITLES.get(wing, {}).get(number)
    return f"{number}: {title}" if title else f"{number} of {wing}"


def _number_link(wing: str, number: str) -> str:
    return f"[{number or 'further'}](#{slug(_heading(wing, number))})"


def _named(code: Code) -> str:
    return f"`{code.module}.{code.name}`"


def _short(value: float) -> str:
    return f"{value:g}".replace("e-0", "e-")


def _fraction(value: Fraction) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{float(value):.{DIGITS}g} (a fraction of {len(text) - 1} digits)"


def _known(outcomes: list[Outcome], ledger: Ledger | None) -> dict[str, Claim]:
    """Claims by id, for looking up corrections."""
    own = {outcome.claim.id: outcome.claim for outcome in outcomes}
    return own if ledger is None else {**ledger.claims, **own}


def _why(outcome: Outcome) -> str:
    if outcome.verdict is Verdict.REFUTED:
        return "counterexample" if outcome.found_as is None else "counterexample, made smaller"
    return "why" if outcome.verdict is Verdict.UNDECIDED else "note"


def _gap(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0e}"


def _plain(text: str) -> str:
    """Keep Markdown from reading marks in plain text, which becomes one line."""
    text = " ".join(text.split())
    for mark in ("\\", "*", "_", "`", "<", "[", "$", "~"):
        text = text.replace(mark, "\\" + mark)
    return re.sub(r"^(\d*)([#>+.)-])(?= )", r"\1\\\2", text)  # would begin a heading, a quotation or a list


def _fenced(text: str) -> list[str]:
    return ["```text", text.replace("```", "'''"), "```"]
