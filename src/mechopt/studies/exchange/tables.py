"""Tables and notes of the exchange, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechopt.studies.report import print_plain, show_answers, show_checks, show_grid, show_others, show_pools

if TYPE_CHECKING:
    from rich.console import Console

    from mechopt.studies.exchange.study import ExchangeReport


def show_tables(report: ExchangeReport, console: Console) -> None:
    """Print tables, checks and notes, on 80 columns."""
    console.print(report.scenario.title, style="bold", markup=False, highlight=False)
    tolerance = report.scenario.tolerance
    show_grid(
        console,
        ("hospital", "records", "accuracy", "gain", "at cost", "VCG", "mixed", "in data"),
        [
            (
                row["hospital"],
                f"{row['records']:.0f}, {row['records_after']:.0f}",
                f"{row['accuracy']:.3f}, {row['accuracy_after']:.3f}",
                f"{row['gain_in_value']:.1f}",
                f"{row['pays_at_cost'] - row['earns_at_cost']:.1f}",
                f"{row['vcg_payment']:.1f}",
                f"{row['mixed_payment']:.1f}",
                f"{row['data_payment']:.1f}",
            )
            for row in report.hospitals()
        ],
    )
    show_grid(
        console,
        ("edge", "sold", "price", "could be", "sold in draws"),
        [
            (
                f"{row['seller']} to {row['buyer']}",
                "yes" if row["sold"] else "no",
                f"{row['price']:.2f}",
                f"{row['lowest_price']:.2f} to {row['highest_price']:.2f}",
                f"{row['sold_in_draws']:.0%}",
            )
            for row in report.edges()
        ],
    )
    show_pools(console, report.pools)
    show_answers(console, "welfare", report.answers)
    print_plain(
        console,
        "records, accuracy: own, and after trade. gain: in value, by trade. at cost, VCG, mixed: what it "
        "pays in all (< 0: gets) at competitive prices and by each mechanism; in data: what it pays "
        "mixed-VCG besides in quality of data.",
        "dim",
    )
    show_others(console, report.answers, tolerance, "has not the most welfare", report.skipped)
    show_checks(report.checks, console)
    for note in report.notes():
        print_plain(console, note, "dim")


def notes_of(report: ExchangeReport) -> list[str]:
    """Sentences that the numbers must not be read without."""
    training, records, trade = report.scenario.training, report.records, report.trade
    before, after = float(trade.market.outside_option.sum()), trade.best.objective
    spare = len(report.fit.samples) - report.n_drawn
    names = [hospital.name for hospital in report.scenario.hospitals]
    notes = [
        f"data: {training.dataset}, {records.labels.size} records for the curve and "
        f"{records.apart_labels.size} set aside; {training.classifier}. What counts as accuracy is above "
        f"{report.fit.baseline:.1%}, that of a model that has learned nothing. Values and costs are assumed.",
        f"trade is worth {after - before:.2f} net of costs. VCG ({trade.vcg.pivot}) leaves "
        f"{trade.vcg.imbalance:.2f}, which mixed-VCG settles in data; it is truthful if "
        f"{trade.mixed.truthful_if}.",
    ]
    if trade.mixed.refusals:
        told = ", ".join(f"{names[refusal.agent]} ({refusal.code})" for refusal in trade.mixed.refusals)
        notes.append(
            f"no quality of data realises the share of {told}: their part of the split stays a debt."
        )
    if trade.mixed.split != report.scenario.split:
        notes.append("no split of the imbalance can be realised in data: the greedy one is shown.")
    if spare:
        notes.append(
            f"{spare} of {len(report.fit.samples)} draws of the curve do not rise, and were left out."
        )
    return notes
