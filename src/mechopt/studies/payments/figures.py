"""The figure of the fair payments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mechopt.formulations import figures
from mechopt.studies.payments.scenario import LEVEL_NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mechopt.studies.payments.study import PaymentsReport


def draw_payments(report: PaymentsReport) -> Figure:
    """Draw what each user is paid, by its level of privacy."""
    rows = sorted(
        report.table(), key=lambda row: (LEVEL_NAMES.index(row["level"]), row["samples"]), reverse=True
    )
    figure, (axes,) = figures.new_figure(width="page", height=2.6)
    colours = dict(
        zip(LEVEL_NAMES, (figures.GREY, figures.COLOURS["sky"], figures.COLOURS["blue"]), strict=True)
    )
    for level in reversed(LEVEL_NAMES):
        places = [place for place, row in enumerate(rows) if row["level"] == level]
        paid = [rows[place]["payment"] for place in places]
        if places:
            axes.bar(places, paid, 0.7, color=colours[level], label=level)
        for place, payment in zip(places, paid, strict=True):
            if payment == 0:
                axes.annotate(
                    "0", (place, 0), (0, 2), textcoords="offset points", ha="center", fontsize=figures.SMALL
                )
    axes.axhline(0, color="black", linewidth=0.6)
    ticks = [f"{row['user']}\n{row['samples']}" for row in rows]
    axes.set_xticks(range(len(rows)), ticks, fontsize=figures.SMALL - 1)
    axes.grid(False, axis="x")
    figures.label(axes, "user, and its number of samples", "payment (money)")
    figures.legend(axes, title="shares", title_fontsize=figures.SMALL)
    return figure
