"""Tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from mechopt.solvers.backend import backends
from mechopt.studies.run import RunReport
from mechopt.verification.claim import Outcome, Verdict


def show_run(report: RunReport, console: Console) -> None:
    """Print what a scenario's run found."""
    scenario = report.scenario
    table = Table(title=scenario.title, title_justify="left", pad_edge=False)
    table.add_column("backend", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for name in ("objective", "rel. error", "IC, IR", "compile", "solve"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in report.rows:
        s = row.solution
        mark = "green" if row.agrees(scenario.tolerance) else "yellow" if s.values else "red"
        relative = "" if row.audit is None else f"{row.audit.relative:.0e}"
        table.add_row(
            row.backend,
            f"[{mark}]{s.status}[/]",
            _number(s.objective, ".8g"),
            _number(row.error, ".0e"),
            relative,
            _time(s.seconds.get("compile")),
            _time(s.seconds.get("solve")),
        )
    console.print(table)
    console.print(
        f"reference: {report.reference}, {_number(report.reference_objective, '.10g')} per holder; "
        f"closed form {report.closed_form_note}"
    )
    console.print(
        "rel. error: reference less the objective of the repaired menu; IC, IR: worst gain from a deviation in "
        "the raw menu; both relative",
        style="dim",
    )
    for row in report.rows:
        if not row.agrees(scenario.tolerance):
            console.print(
                f"{row.backend}: {row.solution.reason or 'does not meet the reference'}", style="yellow"
            )
    if report.skipped:
        console.print(
            "not run: " + "; ".join(f"{n} ({why})" for n, why in report.skipped.items()), style="dim"
        )


def show_backends(console: Console) -> None:
    """Print every backend with its capabilities, version, licence, and whether it can be used."""
    table = Table(pad_edge=False)
    for name in ("backend", "takes", "version", "licence", "here"):
        table.add_column(name, no_wrap=name in ("backend", "version"))
    for row in backends():
        takes = row["takes"]
        if row["without_integers"]:
            takes += f" (no MIP with {row['without_integers']})"
        here = "[green]yes[/]" if row["available"] else f"[red]no[/]: {row['reason']}\n{row['install']}"
        table.add_row(row["name"], takes, row["version"], row["licence"], here)
    console.print(table)


def show_ledger(outcomes: Iterable[Outcome], console: Console) -> None:
    """Print the ledger of claims, surprises last."""
    table = Table(pad_edge=False)
    for name, justify in (
        ("claim", "left"),
        ("says", "left"),
        ("verdict", "left"),
        ("worst", "right"),
        ("s", "right"),
    ):
        table.add_column(name, justify=justify, no_wrap=name in ("claim", "worst", "s"))  # type: ignore[arg-type]
    listed = list(outcomes)
    for outcome in listed:
        claim = outcome.claim
        colour = "green" if outcome.as_expected else "red"
        verdict = {
            Verdict.HOLDS: f"holds on {outcome.n_checked}",
            Verdict.REFUTED: "refuted as printed" if outcome.as_expected else "refuted",
            Verdict.UNDECIDED: "undecided",
        }[outcome.verdict]
        if outcome.verdict is Verdict.REFUTED and claim.corrected_by:
            verdict += f"; see {claim.corrected_by}"
        table.add_row(
            claim.id,
            f"{claim.statement} [dim]({claim.source})[/]",
            f"[{colour}]{verdict}[/]",
            _number(outcome.worst, ".0e"),
            f"{outcome.seconds:.1f}",
        )
    console.print(table)
    for outcome in listed:
        if outcome.verdict is not Verdict.HOLDS:
            style = "dim" if outcome.as_expected else "red"
            console.print(f"{outcome.claim.id}: {outcome.witness}", style=style)
            if outcome.counterexample is not None:
                console.print(f"  counterexample: {outcome.counterexample}", style=style)


def _number(value: float | None, form: str) -> str:
    return "" if value is None or math.isnan(value) else format(value, form)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{1e3 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
