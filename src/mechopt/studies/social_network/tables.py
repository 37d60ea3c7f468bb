"""Tables and notes of the social network, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mechopt.studies.report import print_plain, show_answers, show_checks, show_grid, show_others
from mechopt.studies.social_network.checks import EXACT, MOST_PROVEN, money_involved

if TYPE_CHECKING:
    from rich.console import Console

    from mechopt.studies.social_network.study import SocialReport


def show_tables(report: SocialReport, console: Console) -> None:
    """Print tables, checks and notes, on 80 columns."""
    console.print(report.scenario.title, style="bold", markup=False, highlight=False)
    tolerance = report.scenario.tolerance
    show_grid(
        console,
        ("group", "sells", "members", "value", "price", "leaked", "payoff"),
        [
            (
                row["group"],
                "yes" if row["shares"] else "no",
                str(row["members"]),
                f"{row['value_of_privacy']:.3f}",
                f"{row['price']:.4f}",
                f"{row['share_leaked']:.1%}",
                f"{row['payoff']:.4f}",
            )
            for row in report.summary()
        ],
    )
    hidden = sorted(
        (row for row in report.members() if not row["shares"]), key=lambda row: -row["share_leaked"]
    )
    if hidden:
        show_grid(
            console,
            ("sells nothing", "group", "value", "leaked", "loses"),
            [
                (
                    row["member"],
                    row["group"],
                    f"{row['value_of_privacy']:.3f}",
                    f"{row['share_leaked']:.1%}",
                    f"{-row['payoff']:.4f}",
                )
                for row in hidden[:8]
            ],
        )
    show_grid(
        console,
        ("arrangement", "sellers", "leaked", "surplus"),
        [
            (
                row["arrangement"],
                "" if row["sellers"] is None else str(row["sellers"]),
                f"{row['leaked']:.3f}",
                f"{row['data_surplus']:.4f}",
            )
            for row in report.arrangements()
        ],
    )
    show_answers(console, "mediator", report.answers)
    print_plain(
        console,
        "averages over members. leaked: share of the variance of a member's type. payoff, loses: price less "
        "what leaks at the value of privacy. Of those who sell nothing the first eight are shown.",
        "dim",
    )
    show_others(console, report.answers, tolerance, "has not the surplus of the formula", report.skipped)
    show_checks(report.checks, console)
    for note in report.notes():
        print_plain(console, note, "dim")


def notes_of(report: SocialReport) -> list[str]:
    """Sentences that the numbers must not be read without."""
    network, model, tax, market = report.scenario.network, report.model, report.tax, report.market
    ties = network.source.number_of_edges()
    taxed = np.count_nonzero(tax["tax"] > EXACT * money_involved(model))
    leaked, hidden = market.leaked_information, ~market.sharing
    notes = [
        f"graph: {network.graph}, {model.n_users} members and {ties} ties; kernel {network.kernel}. That "
        "types follow ties, and values of privacy, are assumed.",
        f"the platform buys from {int(market.sharing.sum())} of {model.n_users} members, makes "
        f"{market.profit:.4f}, and learns {leaked.sum():.4f} of a variance of {model.variance.sum():.4f}, "
        f"{leaked[hidden].sum():.4f} of it about members who sell nothing.",
        f"least taxes on {taxed} members, {tax.objective:.4f} in all, would have it buy from "
        f"{int(np.sum(tax['sharing'] > 0))}.",
        str(report.advice),
    ]
    if model.n_users > MOST_PROVEN:
        notes.append(
            "the sellers that taxes aim at are the best that were found, from several starts; not proven."
        )
    return notes
