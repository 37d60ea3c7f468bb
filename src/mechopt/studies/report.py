"""Tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mechopt.solvers.backend import backends
from mechopt.solvers.solution import Solution
from mechopt.studies.ledger_page import backend_text, verdict_text
from mechopt.studies.run import BackendAnswer, Check, RunReport
from mechopt.verification.by_backend import NO_PROGRAM
from mechopt.verification.claim import Claim, Ledger, Outcome, Verdict

if TYPE_CHECKING:
    from mechopt.studies.learning import Pools

_FIRST_COLUMN = 12
"""Characters of the first column of a plain table that stay on one line."""


def show_run(report: RunReport, console: Console) -> None:
    """Print what a scenario's run found."""
    scenario = report.scenario
    console.print(scenario.title, style="bold", markup=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("backend", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for name in ("objective", "rel. error", "IC, IR", "compile", "solve"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        s = row.solution
        mark = "green" if row.agrees(scenario.tolerance) else "yellow" if s.values else "red"
        table.add_row(
            row.backend,
            f"[{mark}]{s.status}[/]",
            _number(s.objective, ".8g"),
            _number(row.error, ".0e"),
            _number(None if row.audit is None else row.audit.relative, ".0e"),
            _time(s.seconds.get("compile")),
            _time(s.seconds.get("solve")),
        )
    console.print(table)
    console.print(
        "rel. error: of the objective, after repair, below the reference. IC, IR: the most that a type gains "
        "by deviating in the raw menu. Both relative.",
        style="dim",
    )
    value = _number(report.reference_objective, ".10g")
    console.print(
        f"reference: {report.reference}" + (f", {value} per holder" if value else ""), highlight=False
    )
    print_plain(console, f"closed form: {report.closed_form_note}")
    for row in report.rows:
        if not row.agrees(scenario.tolerance):
            why = row.solution.reason if not row.solution.status.ok else ""
            print_plain(console, f"{row.backend}: {why or 'does not meet the reference'}", "yellow")
    show_skipped(console, report.skipped)


def show_others(
    console: Console,
    answers: Iterable[BackendAnswer],
    tolerance: float,
    wrong: str,
    skipped: Mapping[str, str],
) -> None:
    """Print why answers do not agree (``wrong`` where the solver does not say), and what was not run."""
    for answer in answers:
        if not answer.agrees(tolerance):
            why = "" if answer.solution.status.ok else answer.solution.reason
            name = f"{answer.backend}, {answer.part}" if answer.part else answer.backend
            print_plain(console, f"{name}: {why or wrong}", "yellow")
    show_skipped(console, skipped)


def show_answers(console: Console, measures: str, answers: Iterable[BackendAnswer]) -> None:
    """Print what backends answered to a study's program; ``measures`` is the name of the objective."""
    show_grid(
        console,
        ("backend", "status", measures, "rel. error", "compile", "solve"),
        [
            (
                answer.backend,
                str(answer.solution.status),
                f"{answer.solution.objective:.8g}",
                f"{answer.error:.0e}",
                *times(answer.solution),
            )
            for answer in answers
        ],
    )


def show_pools(console: Console, pools: Pools) -> None:
    """Print what models trained on pools of records score, beside what the curve says."""
    show_grid(
        console,
        ("pool", "trained on", "curve", "new splits", "set aside"),
        [
            (
                name,
                str(pools.trained[k]),
                f"{pools.curve[k]:.4f} ±{pools.curve_sd[k]:.4f}",
                f"{pools.fresh[k]:.4f} ±{pools.fresh_sd[k]:.4f}",
                f"{pools.apart[k]:.4f} ±{pools.apart_sd[k]:.4f}",
            )
            for k, name in enumerate(pools.names)
        ],
    )


def times(solution: Solution) -> list[str]:
    """Seconds of compiling and of solving, for a table."""
    return [f"{solution.seconds.get(phase, math.nan):.3f} s" for phase in ("compile", "solve")]


def show_skipped(console: Console, skipped: Mapping[str, str]) -> None:
    """Print which backends were not run, by reason."""
    for why in dict.fromkeys(skipped.values()):
        names = ", ".join(name for name, reason in skipped.items() if reason == why)
        print_plain(console, f"not run: {names} ({why})", "dim")


def show_checks(checks: Iterable[Check], console: Console) -> None:
    """Print a study's checks, then what is behind those that failed."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("check", no_wrap=True)
    for name in ("measured", "expected", "tolerance"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    listed = list(checks)
    for check in listed:
        table.add_row(
            check.name,
            _number(check.measured, ".7g") or "nan",
            _number(check.expected, ".7g"),
            _number(check.tolerance, ".1e") if check.tolerance else "exact",
            "[green]ok[/]" if check.passed else "[red]FAILED[/]",
        )
    console.print(table)
    for check in listed:
        if not check.passed:
            print_plain(console, f"{check.name}: {check.says}; tolerance: {check.why}", "red")


def show_grid(console: Console, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a plain table, the first column to the left; its entries are no markup."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    listed = [list(row) for row in rows]
    widest = max((len(row[0]) for row in listed), default=0)
    for index, column in enumerate(columns):
        table.add_column(
            column,
            justify="right" if index else "left",
            no_wrap=bool(index),
            overflow="fold",
            min_width=None if index else min(widest, _FIRST_COLUMN),
        )
    for row in listed:
        table.add_row(*map(escape, row))
    console.print(table)
    console.print()


def print_plain(console: Console, text: str, style: str | None = None) -> None:
    """Print what may quote a user or a solver: no markup in it."""
    console.print(text, style=style, markup=False, highlight=False)


def show_backends(console: Console) -> None:
    """Print every backend with its capabilities, version, licence, and whether it can be used."""
    table = Table(pad_edge=False)
    for name in ("backend", "takes", "version", "licence", "here"):
        table.add_column(name, no_wrap=name in ("backend", "version"), overflow="fold")
    for row in backends():
        takes = row["takes"]
        if row["without_integers"]:
            takes += f" (no MIP with {row['without_integers']})"
        why = escape(f"{row['reason']}\n{row['install']}")
        here = "[green]yes[/]" if row["available"] else f"[red]no[/]: {why}"
        table.add_row(row["name"], takes, row["version"], row["licence"], here)
    console.print(table)


def show_ledger(outcomes: Iterable[Outcome], console: Console, ledger: Ledger | None = None) -> None:
    """Print the ledger of claims by wing, then what was refuted or undecided and why, surprises last.

    Corrections of refuted claims are looked up among the outcomes, and in ``ledger``.
    """
    listed = list(outcomes)
    known = {**(ledger.claims if ledger is not None else {}), **{o.claim.id: o.claim for o in listed}}
    for wing in dict.fromkeys(outcome.claim.id.split("/")[0] for outcome in listed):
        table = Table(pad_edge=False, title=wing, title_justify="left")
        for name in ("claim", "says", "verdict"):
            table.add_column(name, no_wrap=name == "claim")
        for name in ("worst", "s"):
            table.add_column(name, justify="right", no_wrap=True)
        for outcome in listed:
            if outcome.claim.id.split("/")[0] == wing:
                table.add_row(*_ledger_row(outcome, wing))
        console.print(table)
    for outcome in sorted(listed, key=lambda outcome: not outcome.as_expected):
        if outcome.verdict is Verdict.HOLDS and outcome.as_expected and not outcome.witness:
            continue
        # Witnesses are plain text: their square brackets are no markup.
        style = "dim" if outcome.as_expected else "red"
        told = _ledger_details(outcome, known.get(outcome.claim.corrected_by))
        console.print(told, style=style, markup=False, highlight=False, soft_wrap=True)
    _show_backend_rows(listed, console)


def _ledger_details(outcome: Outcome, corrected: Claim | None) -> str:
    told = f"{outcome.claim.id}: {outcome.witness or 'no counterexample was found'}"
    if outcome.counterexample is not None:
        label = "counterexample" if outcome.verdict is Verdict.REFUTED else "at"
        smaller = "" if outcome.found_as is None else " (made smaller)"
        told += f"\n  {label}{smaller}: {outcome.counterexample}"
    if outcome.exact_gap is not None:
        told += f"\n  in rationals it fails by {outcome.exact_gap}"
    for fact in outcome.confirmed:
        told += f"\n  confirmed: {fact}"
    if corrected is not None:
        told += f"\n  corrected, {corrected.id}: {corrected.statement}"
    return told


def _show_backend_rows(outcomes: list[Outcome], console: Console) -> None:
    """Print how backends fared: in a line a claim those that agree, then each of the others."""
    if not any(outcome.backends for outcome in outcomes):
        return
    console.print("on several backends", style="bold")
    for outcome in outcomes:
        by_state: dict[str, list[str]] = {}
        for row in outcome.backends:
            if row.state in ("agrees", "cannot"):
                by_state.setdefault(row.state, []).append(row.backend)
        told = "; ".join(f"{state}: {', '.join(names)}" for state, names in by_state.items())
        if told:
            print_plain(console, f"{outcome.claim.id}: {told}", "dim")
        for row in outcome.backends:
            if row.state not in ("agrees", "cannot"):
                style = "red" if row.surprising else "yellow"
                print_plain(console, f"{outcome.claim.id}: {row.backend} {backend_text(row)}", style)
    without = [outcome.claim.id for outcome in outcomes if not outcome.backends]
    if without:
        print_plain(console, f"{NO_PROGRAM}: {', '.join(without)}", "dim")


def _ledger_row(outcome: Outcome, wing: str) -> tuple[str, ...]:
    claim = outcome.claim
    colour = "green" if outcome.as_expected else "red"
    return (
        claim.id.removeprefix(f"{wing}/"),
        f"{escape(claim.statement)} [dim]({escape(claim.source)})[/]",
        f"[{colour}]{escape(verdict_text(outcome))}[/]",
        _number(outcome.worst, ".0e"),
        f"{outcome.seconds:.1f}",
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None or math.isnan(value) else format(value, form)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{1e3 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
