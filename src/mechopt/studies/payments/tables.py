"""Tables and notes of the fair payments, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechopt.studies.report import print_plain, show_checks, show_grid, show_others
from mechopt.studies.run import (
    BackendAnswer,
)

if TYPE_CHECKING:
    from rich.console import Console

    from mechopt.studies.payments.study import PaymentsReport


def show_tables(report: PaymentsReport, console: Console) -> None:
    """Print tables, checks and notes, on 80 columns."""
    console.print(report.scenario.title, style="bold", markup=False, highlight=False)
    show_grid(
        console,
        ("user", "samples", "level", "error alone", "error", "fair value", "payment"),
        [
            (
                row["user"],
                str(row["samples"]),
                row["level"],
                f"{row['rmse_alone']:.4f}",
                f"{row['rmse']:.4f}",
                f"{row['fair_value']:.4f}",
                f"{row['payment']:.2f}",
            )
            for row in report.table()
        ],
    )
    by_backend: dict[str, list[BackendAnswer]] = {}
    for answer in report.answers:
        by_backend.setdefault(answer.backend, []).append(answer)
    tolerance = report.scenario.tolerance
    show_grid(
        console,
        ("backend", "estimators", "rel. error", "compile", "solve"),
        [
            (
                name,
                f"{sum(answer.agrees(tolerance) for answer in answers)} of {len(answers)}",
                f"{max(abs(answer.error) for answer in answers):.0e}",
                *(
                    f"{sum(answer.solution.seconds.get(phase, 0.0) for answer in answers):.3f} s"
                    for phase in ("compile", "solve")
                ),
            )
            for name, answers in by_backend.items()
        ],
    )
    print_plain(
        console,
        "error alone: root mean square error of the user's own mean; error: of its estimate from what all "
        "share, its own data by its own level of privacy.",
        "dim",
    )
    show_others(console, report.answers, tolerance, "is not the closed form", report.skipped)
    show_checks(report.checks, console)
    for note in report.notes():
        print_plain(console, note, "dim")


def notes_of(report: PaymentsReport) -> list[str]:
    """Sentences that the numbers must not be read without."""
    panel, scenario = report.panel, report.scenario
    source = scenario.records.dataset or scenario.records.file
    notes = [
        f"data: {source}, {int(panel.counts.sum())} samples of {len(panel.names)} users with two or more; "
        f"{report.users.size} of them take part, drawn at random. Variance between users "
        f"{panel.between:.4g}, within a user {panel.within:.4g}. Levels of privacy are assumed, and drawn "
        "at random.",
        f"the utility is {report.estimation.utility():.4g}; {scenario.payment_share:.0%} of it is paid, "
        f"{scenario.money_per_utility:g} of money for 1.",
    ]
    names = [panel.names[place] for place in report.users.tolist()]
    negative = [name for name, value in zip(names, report.values.tolist(), strict=True) if value < 0]
    if negative:
        notes.append(
            f"{', '.join(negative)}: less than nothing. Their samples make the average of those who federate "
            "worse; fair values need not be individually rational."
        )
    return notes
