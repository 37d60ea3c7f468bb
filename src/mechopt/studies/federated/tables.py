"""Tables and notes of the federation of hospitals, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mechopt.studies.report import print_plain, show_checks, show_grid, show_others, show_pools, times

if TYPE_CHECKING:
    from rich.console import Console

    from mechopt.studies.federated.study import FederatedReport


def show_tables(report: FederatedReport, console: Console) -> None:
    """Print tables, checks and notes."""

    def span(row: dict[str, Any], form: str, name: str = "") -> str:
        low, high = row[f"{name}low"], row[f"{name}high"]
        return f"{low:{form}} to {high:{form}}"

    console.print(report.scenario.title, style="bold", markup=False, highlight=False)
    fit, tolerance = report.fit, report.scenario.tolerance
    show_grid(
        console,
        ("curve", "value", "std. error", "95% of draws"),
        [
            (
                row["parameter"],
                f"{row['value']:.4g}",
                f"{row['standard_error']:.2g}",
                f"{row['low']:.3g} to {row['high']:.3g}",
            )
            for row in report.parameters()
        ],
    )
    show_grid(
        console,
        ("hospital", "per 1000", "alone", "standard", "shaped", "95% of draws", "accuracy"),
        [
            (
                row["hospital"],
                f"{1000 * row['marginal_cost']:.3g}",
                f"{row['alone']:.1f}",
                f"{row['standard']:.1f}",
                f"{row['shaped']:.1f}",
                span(row, ".1f", "shaped_"),
                f"{row['accuracy_alone']:.3f}, {row['accuracy_shaped']:.3f}",
            )
            for row in report.hospitals()
        ],
    )
    show_grid(
        console,
        ("arrangement", "records", "95% of draws"),
        [(row["arrangement"], f"{row['records']:.1f}", span(row, ".1f")) for row in report.totals()],
    )
    show_pools(console, report.pools)
    if report.unverified is not None:
        show_grid(
            console,
            ("unverified, per 1000", "share", "alone", "asked", "accuracy", "rent"),
            [
                (
                    f"{1000 * row['marginal_cost']:.3g}",
                    f"{row['probability']:.3g}",
                    f"{row['alone']:.1f}",
                    f"{row['contribution']:.1f}",
                    f"{row['accuracy_above_baseline'] + fit.baseline:.4f}",
                    f"{row['rent']:.4f}",
                )
                for row in report.unverified.record()
            ],
        )
    show_grid(
        console,
        ("backend", "status", "records", "total", "each", "compile", "solve"),
        [
            (
                answer.backend,
                str(answer.solution.status),
                f"{answer.solution.objective:.8g}",
                f"{answer.error:.0e}",
                f"{answer.contribution_error:.0e}",
                *times(answer.solution),
            )
            for answer in report.answers
        ],
    )
    print_plain(
        console,
        "per 1000: cost of 1000 records, in accuracy. accuracy: alone, and of the model that it gets. total, "
        "each: errors of all records, and of a hospital's relative to what the best model is worth to it.",
        "dim",
    )
    show_others(console, report.answers, tolerance, "is not the exact answer", report.skipped)
    show_checks(report.checks, console)
    for note in report.notes():
        print_plain(console, note, "dim")


def notes_of(report: FederatedReport) -> list[str]:
    """Sentences that the numbers must not be read without."""
    training, records, fit, pools = report.scenario.training, report.records, report.fit, report.pools
    notes = [
        f"data: {training.dataset}, {records.labels.size} records for the curve and "
        f"{records.apart_labels.size} set aside; {training.classifier}, {training.n_repeats} repeats. A "
        f"model that has learned nothing is right in {fit.baseline:.1%}; what counts as accuracy is above "
        "that, and costs are in its units.",
        "intervals carry the noise of splits and training on to the designs. All splits are of the same "
        "records: how these differ from other patients' shows in the records set aside alone. Other records "
        "give other curves than the intervals say, exponents above all: try other seeds.",
    ]
    if fit.at_limit:
        notes.append(
            f"the curve's {' and '.join(fit.at_limit)} ended at the limit of the range, where the scores "
            "hardly say how it goes on."
        )
    spare = report.draws.n_draws - len(report.draws.accuracies)
    if spare:
        notes.append(f"{spare} of {report.draws.n_draws} draws of the curve do not rise, and were left out.")
    outside = [
        f"{name} ({wanted:.1f})"
        for name, wanted in zip(pools.names, pools.wanted, strict=True)
        if not fit.sizes[0] - 0.5 <= wanted <= fit.sizes[-1] + 0.5
    ]
    if outside:
        notes.append(
            f"beyond the measured {fit.sizes[0]:g} to {fit.sizes[-1]:g} records, where the curve is a guess: "
            f"{', '.join(outside)}."
        )
    for name, wanted, trained in zip(pools.names, pools.wanted, pools.trained, strict=True):
        if abs(wanted - trained) > 0.5:
            notes.append(
                f"{name}: {wanted:.1f} records, models trained on {trained}, of the {fit.sizes[0]:g} to "
                f"{records.most} that there are to train on."
            )
    if report.unverified is not None:
        menu = report.unverified.menu
        n = len(report.scenario.hospitals)
        notes.append(
            f"with unverified costs {n} hospitals give {n * menu.objective:.1f} records in expectation, each "
            f"of them besides {float(menu['others_data']):.1f} of the others; promises hold on average, not "
            "for every draw of classes."
        )
    return notes
