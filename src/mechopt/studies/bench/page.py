"""The report as one HTML page that needs nothing else: no other file, no other host, no script."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from mechopt.studies.bench.plots import plot
from mechopt.studies.bench.report import Entry, Report, Section, Table, headline, sections

_STYLE = """
:root { color-scheme: light; --ink: #1d2430; --soft: #5b6472; --line: #dde1e7; --band: #f6f7f9;
  --good: #1b6e3c; --bad: #b3261e; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 104rem; padding: 1.5rem; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
p, li { max-width: 50rem; margin: 0 0 .75rem; color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: 1rem 0 0; }
a { color: #0b5cad; text-decoration: none; }
a:hover { text-decoration: underline; }
.wide { overflow-x: auto; margin: .75rem 0 1rem; }
table { border-collapse: collapse; font-size: 13px; }
th, td { text-align: left; vertical-align: top; padding: .3rem .5rem; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); white-space: nowrap; background: #fff; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number, td.short { white-space: nowrap; }
td:first-child, th:first-child { position: sticky; left: 0; background: #fff; white-space: nowrap; }
tbody tr:hover td { background: var(--band); }
.best { color: var(--good); font-weight: 600; }
.bad { color: var(--bad); }
summary { cursor: pointer; color: #0b5cad; }
figure { margin: .75rem 0; max-width: 80rem; overflow-x: auto; }
svg { display: block; width: 100%; min-width: 44rem; height: auto; }
svg text { font-family: system-ui, sans-serif !important; }
"""


def html(report: Report) -> str:
    """Write the report as a page."""
    parts = sections(report)
    links = "".join(f'<a href="#{_anchor(part)}">{escape(part.title)}</a>' for part in parts)
    body = "\n".join(line for part in parts for line in _section(part, report))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Benchmark of backends</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>Benchmark of backends</h1>
<p>{escape(headline(report))}</p>
<nav>{links}</nav>
{body}
</body>
</html>
"""


def _anchor(section: Section) -> str:
    return section.title.lower().replace(" ", "-")


def _section(section: Section, report: Report) -> Iterator[str]:
    yield f'<h2 id="{_anchor(section)}">{escape(section.title)}</h2>'
    tag = "li" if section.title == "Known limitations" else "p"
    if tag == "li":
        yield "<ul>"
    for paragraph in section.text:
        yield f"<{tag}>{escape(paragraph)}</{tag}>"
    if tag == "li":
        yield "</ul>"
    for table in section.tables:
        yield from _table(table)
    for name in section.plots:
        yield f'<figure id="plot-{name}">{plot(report, name)}</figure>'


def _table(table: Table) -> Iterator[str]:
    if table.folded:
        yield f"<details><summary>{len(table.rows)} rows</summary>"
    yield '<div class="wide"><table><thead><tr>'
    yield "".join(f"<th{_look(k, table)}>{escape(head)}</th>" for k, head in enumerate(table.heads))
    yield "</tr></thead><tbody>"
    for row in table.rows:
        yield (
            "<tr>" + "".join(f"<td{_look(k, table, e)}>{_text(e)}</td>" for k, e in enumerate(row)) + "</tr>"
        )
    yield "</tbody></table></div>"
    if table.folded:
        yield "</details>"


def _look(column: int, table: Table, entry: Any = "") -> str:
    has_numbers = any(map(table.is_number, range(len(table.heads))))
    # Beside numbers a text is short; in a table of texts it may be long, and must wrap.
    names = ["number"] if table.is_number(column) else ["short"] if has_numbers else []
    if isinstance(entry, Entry) and entry.mark:
        names.append(entry.mark)
    return f' class="{" ".join(names)}"' if names else ""


def _text(entry: Any) -> str:
    return escape(entry.text if isinstance(entry, Entry) else str(entry))
