"""The ledger of claims as a page to open in a browser, and as a page of the documentation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from html import escape

from mechopt.verification.claim import BackendRow, Claim, Ledger, Outcome, Verdict

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
            yield f"In rationals it fails by <code>{escape(str(outcome.exact_gap))}</code>."
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


def ledger_markdown(outcomes: Iterable[Outcome], *, ledger: Ledger | None = None) -> str:
    """Write the ledger as Markdown: a table for each wing, then the counterexamples of what is refuted.

    Seconds are left out, so that the page changes only if a result does.

    Parameters
    ----------
    outcomes : iterable of Outcome
    ledger : Ledger, optional
        See `ledger_html`.
    """
    listed = list(outcomes)
    known = _known(listed, ledger)
    lines = [tally(listed), ""]
    for wing in dict.fromkeys(_wing(outcome) for outcome in listed):
        inside = [outcome for outcome in listed if _wing(outcome) == wing]
        lines += [
            f"## {wing}",
            "",
            "| claim | source | statement | verdict | worst gap |",
            "|---|---|---|---|---|",
        ]
        for outcome in inside:
            claim = outcome.claim
            cells = (claim.id, claim.source, claim.statement, verdict_text(outcome), _gap(outcome.worst))
            lines.append("| " + " | ".join(map(_cell, cells)) + " |")
        lines.append("")
        told = [outcome for outcome in inside if outcome.verdict is not Verdict.HOLDS or outcome.faults]
        for outcome in told:
            lines += [f"### {outcome.claim.id}", "", _plain(outcome.claim.statement) + ".", ""]
            if outcome.counterexample is not None:
                lines += [f"{_why(outcome).capitalize()}:", "", *_fenced(repr(outcome.counterexample)), ""]
            if outcome.witness:
                lines += [*_fenced(outcome.witness), ""]
            if outcome.exact_gap is not None:
                lines += [f"In rationals it fails by {outcome.exact_gap}.", ""]
            corrected = known.get(outcome.claim.corrected_by)
            if corrected is not None:
                lines += [f"Corrected ({corrected.id}): {_plain(corrected.statement)}.", ""]
            for row in outcome.faults:
                lines += [f"- {row.backend}: {_plain(backend_text(row))}", ""]
    return "\n".join(lines).rstrip() + "\n"


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


def _wing(outcome: Outcome) -> str:
    return outcome.claim.id.split("/")[0]


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
    """Keep Markdown from reading marks in plain text."""
    for mark in ("\\", "*", "_", "`", "<", "["):
        text = text.replace(mark, "\\" + mark)
    return text


def _cell(text: str) -> str:
    return _plain(" ".join(text.split())).replace("|", "\\|")


def _fenced(text: str) -> list[str]:
    return ["```text", text.replace("```", "'''"), "```"]
