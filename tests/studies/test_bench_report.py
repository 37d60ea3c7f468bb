"""The report: every table and plot from rows of all kinds, and the page in a real browser."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from mechopt.studies.bench.drive import Machine, Plan, make_plan
from mechopt.studies.bench.engine import SETTINGS, Limits
from mechopt.studies.bench.measures import judged
from mechopt.studies.bench.page import html
from mechopt.studies.bench.report import Entry, Report, Table, headline, markdown, sections, show
from mechopt.studies.bench.rows import empty_row

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FAMILIES = ["contract/log-full", "sharing-market/seller-cap", "platform-payments/symmetric"]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(
        FAMILIES, ["exact", "clarabel", "outer", "pyomo:scip"], None, ["loose", "default"], quick=True
    )


@pytest.fixture(scope="module")
def report(plan: Plan) -> Report:
    """Rows whose numbers are made up, by a rule: time grows with the square of size; one of each failure."""
    rows = []
    for number, cell in enumerate(plan.cells):
        family = cell.instance.of()
        value = 100.0 + cell.size
        row = empty_row(cell, SETTINGS[cell.setting], plan.limits, "code") | {
            "status": "optimal",
            "sense": "maximize",
            "needs": "EXP",
            "success": True,
            "checked": True,
            "objective": value * (1 + 1e-9),
            "residual": 1e-9,
            "seconds": 1e-3 * cell.size**2,
            "build_seconds": 1e-4 * cell.size,
            "compile_seconds": 0.0 if cell.backend == "exact" else 2e-4 * cell.size,
            "solve_seconds": 5e-4 * cell.size,
            "check_seconds": 1e-4,
            "runs": 1,
        }
        if family.refer is not None:
            row |= {"reference": value, "reference_kind": "closed form"}
        if family.audit is not None:
            row |= {"ic_before": 3e-7, "ir_before": 0.0}
        if family.repair is not None:
            row |= {"ic_after": 2e-16, "ir_after": 0.0}
        if number == 3:
            row |= {"objective": 0.5 * value}
        if number == 5:
            row |= {"status": "crash", "reason": "killed by SIGSEGV: <b>5|5</b>", "success": False}
            row |= {"checked": False, "objective": math.nan, "sense": "", "needs": "", "seconds": math.nan}
        rows.append(row)
    machine = Machine({"python": "3.11", "benchopt": ""}, {"clarabel": "0.11"}, 2, (3.0, 4.0), 1.5)
    return Report(judged(pd.DataFrame(rows)), plan.skipped, plan.limits, machine)


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return html(report)


def table(report: Report, title: str, number: int = 0) -> Table:
    return next(part for part in sections(report) if part.title == title).tables[number]


def texts(table: Table) -> list[list[str]]:
    return [[entry.text if isinstance(entry, Entry) else entry for entry in row] for row in table.rows]


def test_what_the_issue_asks_for_is_there(report: Report) -> None:
    titles = [part.title for part in sections(report)]
    assert titles == [
        "Backends",
        "Times by family",
        "Performance profiles",
        "Accuracy",
        "Incentives",
        "Compile and solve",
        "Scaling",
        "Failures",
        "Not asked",
        "Machine and versions",
        "Known limitations",
    ]


def test_rates_by_setting(report: Report) -> None:
    found = {(row[0], row[1]): row for row in texts(table(report, "Backends"))}
    rows = report.rows
    for (backend, setting), row in found.items():
        part = rows[(rows["backend"] == backend) & (rows["setting"] == setting)]
        assert row[2] == str(len(part))
        assert row[4] == f"{part['correct'].mean():.0%}"
    assert sum(int(row[5]) for row in found.values()) == 1  # one is wrong, and one crashed
    assert sum("1 crash" in row[7] for row in found.values()) == 1
    assert sum("1 off the reference" in row[7] for row in found.values()) == 1


def test_times_mark_the_fastest_that_is_always_right(report: Report) -> None:
    marks = [
        entry.mark
        for row in table(report, "Times by family").rows
        for entry in row
        if isinstance(entry, Entry)
    ]
    assert "best" in marks
    assert "bad" in marks


def test_failures_are_listed_with_their_reason(report: Report) -> None:
    found = texts(table(report, "Failures"))
    assert len(found) == 2
    assert {row[4] for row in found} == {"off", "crash"}
    assert any("-5.0e-01" in row[5] for row in found)


def test_exponents(report: Report) -> None:
    found = {row[0]: row for row in texts(table(report, "Scaling"))}
    assert "2.00 (2.0 to 2.0)" in found["contract/log-full"]


def test_what_was_not_asked_says_why(report: Report) -> None:
    found = texts(table(report, "Not asked"))
    assert ["clarabel", "lacks COMP, NLP", "platform-payments/symmetric"] in found


def test_markdown_is_well_formed(report: Report) -> None:
    text = markdown(report)
    assert headline(report).split(":")[0] in text
    widths: list[int] = []
    for line in text.splitlines():
        if line.startswith("|"):
            widths.append(len(re.findall(r"(?<!\\)\|", line)))
            assert widths[-1] == widths[0], line
        else:
            widths = []
    assert r"\<b>5\|5\</b>" in text
    assert "nan" not in text


def test_terminal_shows_every_backend_on_80_columns(report: Report) -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show(report, console)
    printed = console.export_text()
    assert all(backend in printed for backend in report.backends)
    assert "100%" in printed
    assert max(map(len, printed.splitlines())) <= 80


# ---------------------------------------------------------------- the page


class Loads(HTMLParser):
    """Whatever a page would fetch, and every anchor."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attributes:
            value = value or ""
            if name == "id":
                self.ids.append(value)
            elif name in ("href", "xlink:href", "src", "srcset", "data", "action", "poster"):
                (self.links if value.startswith("#") else self.fetched).append(value)


def test_page_needs_nothing_else(page: str) -> None:
    text = page
    seen = Loads()
    seen.feed(text)
    assert seen.fetched == []
    assert not seen.tags & {"script", "iframe", "img", "object", "embed"}
    assert "http" not in text
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_page_refers_to_its_own_parts_only_once_each(page: str) -> None:
    text = page
    seen = Loads()
    seen.feed(text)
    assert len(seen.ids) == len(set(seen.ids))
    used = {link.removeprefix("#") for link in seen.links} | set(re.findall(r"url\(#([^)]*)\)", text))
    assert used <= set(seen.ids)


def test_page_says_what_it_quotes_and_does_not_run_it(page: str) -> None:
    text = page
    assert "&lt;b&gt;5|5&lt;/b&gt;" in text
    assert "<b>5|5</b>" not in text
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).lower().split()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [1300, 420])
def test_page_renders_in_a_browser(report: Report, page: str, width: int, tmp_path: Path) -> None:
    assert BROWSER is not None
    file, picture = tmp_path / "report.html", tmp_path / "page.png"
    # A script of the test's own, after the page: what the browser has laid out, and what it has loaded.
    probe = """<script>addEventListener("load", () => {
      const box = (e) => { const b = e.getBoundingClientRect(); return [b.width, b.height].map(Math.round) };
      document.body.dataset.found = JSON.stringify({
        figures: [...document.querySelectorAll("figure svg")].map(box),
        lines: document.querySelectorAll("figure svg path").length,
        rows: document.querySelectorAll("tbody tr").length,
        overflow: document.documentElement.scrollWidth - innerWidth,
        loaded: performance.getEntriesByType("resource").length,
      });
    });</script>"""
    file.write_text(page.replace("</body>", probe + "</body>"), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--screenshot={picture}", "--dump-dom"]
    done = subprocess.run([*command, file.as_uri()], capture_output=True, text=True, timeout=60)
    data = re.search(r'data-found="([^"]*)"', done.stdout)
    assert data is not None, done.stderr[-500:]
    found = json.loads(unescape(data[1]))
    assert len(found["figures"]) == 4
    assert all(width > 700 and height > 150 for width, height in found["figures"])
    assert found["lines"] > 100
    assert found["rows"] == sum(len(t.rows) for part in sections(report) for t in part.tables)
    assert found["overflow"] <= 0  # what is wider than a phone moves in a box of its own
    assert found["loaded"] == 0
    assert len(set(picture.read_bytes())) > 100


def test_report_of_one_failure_only() -> None:
    """Nothing to plot, fit or sum up: still a report."""
    plan = make_plan(["price-polytope"], ["highspy"], [4], quick=True)
    (cell,) = plan.cells
    lost = empty_row(cell, SETTINGS["default"], Limits(), "code") | {"status": "crash", "reason": "gone"}
    machine = Machine({}, {}, 1, (0.1, math.nan), 0.0)
    report = Report(judged(pd.DataFrame([lost])), {}, Limits(), machine)
    told = markdown(report)
    assert "1 cell: 1 family of programs on 1 backend, 0 answered correctly (0%)" in told
    assert "| mechanism |" not in told  # no table without rows
    assert "Every backend was asked for everything" in told
    assert "gone" in html(report)
