"""Figures of the federation of hospitals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mechopt.formulations import figures
from mechopt.studies.learning import (
    interval,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mechopt.studies.federated.study import FederatedReport


def draw_curve(report: FederatedReport) -> Figure:
    """Draw the learning curve, with the pools on it."""
    fit, pools, draws = report.fit, report.pools, report.draws
    figure, (axes,) = figures.new_figure(width="page", height=3.0)
    totals = {row["arrangement"]: row for row in report.totals()}
    right = max(1.6 * fit.sizes[-1], 1.2 * report.design.total)
    m = np.geomspace(fit.sizes[0] / 1.6, right, 300)
    curves = np.array([accuracy(m) for accuracy in draws.accuracies]) + fit.baseline
    axes.set_xscale("log")
    figures.plain_log_axis(axes)
    blue, sky = figures.COLOURS["blue"], figures.COLOURS["sky"]
    axes.fill_between(m, *interval(curves), color=sky, alpha=0.35, linewidth=0, label="95% of draws")
    axes.plot(m, fit.accuracy(m) + fit.baseline, color=blue, linewidth=figures.LINE, label="curve")
    axes.errorbar(
        fit.sizes,
        fit.means,
        fit.sds / np.sqrt(fit.counts),
        fmt="o",
        color="black",
        markersize=figures.MARKER - 0.5,
        elinewidth=0.8,
        label="measured (standard error)",
    )
    for values, errors, shape, colour, moved, text in (
        (pools.fresh, pools.fresh_sd, "s", "green", 1.015, "pools, new splits"),
        (pools.apart, pools.apart_sd, "D", "purple", 1 / 1.015, "pools, records set aside"),
    ):
        axes.errorbar(
            pools.trained * moved,
            values,
            errors,
            fmt=shape,
            color=figures.COLOURS[colour],
            markersize=figures.MARKER,
            elinewidth=0.8,
            label=text,
        )
    floor = min(curves.min(), float(np.min(pools.apart - pools.apart_sd)), float(fit.means.min()))
    top = max(float(np.max(pools.apart + pools.apart_sd)), curves.max(), float(fit.means.max()))
    height = top - floor
    axes.set_ylim(floor - 0.28 * height, top + 0.03 * height)
    axes.set_xlim(m[0], m[-1])
    # Below the curve, what each arrangement collects, with its interval.
    rows = (
        ("alone", report.design.alone.contribution, "vermilion", None),
        ("standard", np.array([totals["standard"]["records"]]), "orange", totals["standard"]),
        ("shaped", np.array([totals["shaped"]["records"]]), "blue", totals["shaped"]),
    )
    for row, (name, amounts, colour, span) in enumerate(rows):
        y = floor - (0.06 + 0.075 * row) * height
        shown = amounts[amounts > 0]
        if span is not None:
            ends = [span["low"], span["high"]]
            axes.plot(ends, [y, y], color=figures.COLOURS[colour], linewidth=2.5, alpha=0.4)
        axes.plot(shown, 0 * shown + y, "v", color=figures.COLOURS[colour], markersize=figures.MARKER + 1)
        axes.text(0.01, y, name, transform=axes.get_yaxis_transform(), fontsize=figures.SMALL, va="center")
    axes.axhline(floor - 0.02 * height, color=figures.GREY, linewidth=0.5)
    axes.set_yticks([tick for tick in axes.get_yticks() if floor <= tick <= top + 0.03 * height])
    figures.label(axes, "records in the pool", "share classified rightly")
    figures.legend(axes, loc="lower right", bbox_to_anchor=(1.0, 0.22))
    return figure


def draw_contributions(report: FederatedReport) -> Figure:
    """Draw what each hospital contributes under each arrangement."""
    figure, (axes,) = figures.new_figure(width="page", height=2.6)
    rows = report.hospitals()
    place = np.arange(len(rows), dtype=float)
    arrangements = (("alone", "vermilion"), ("standard", "orange"), ("shaped", "blue"))
    for offset, (name, colour) in zip((-0.27, 0.0, 0.27), arrangements, strict=True):
        values = np.array([row[name] for row in rows])
        axes.bar(place + offset, values, 0.25, color=figures.COLOURS[colour], label=name)
        for x in (place + offset)[values == 0]:
            axes.annotate(
                "0", (x, 0), (0, 2), textcoords="offset points", ha="center", fontsize=figures.SMALL
            )
        if name != "standard":
            low, high = (np.array([row[f"{name}_{end}"] for row in rows]) for end in ("low", "high"))
            # The design need not lie between the ends, which are quantiles of draws.
            bars = np.maximum([values - low, high - values], 0.0)
            axes.errorbar(place + offset, values, bars, fmt="none", color="black", elinewidth=0.8, capsize=2)
    names = [f"{row['hospital']}\n({1000 * row['marginal_cost']:.3g} per 1000)" for row in rows]
    axes.set_xticks(place, names, fontsize=figures.SMALL)
    axes.grid(False, axis="x")
    figures.label(axes, "hospital (cost in accuracy)", "contribution (records)")
    figures.legend(axes, title="bars: 95% of draws", title_fontsize=figures.SMALL)
    return figure
