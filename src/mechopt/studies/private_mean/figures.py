"""The figure of the private means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mechopt.formulations import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mechopt.studies.private_mean.study import PrivateMeanReport


def draw_releases(report: PrivateMeanReport) -> Figure:
    """Draw the errors of the means beside what the theory says."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure, panels = figures.new_figure(3, width="page", height=2.5)
    rows = report.types
    column = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}
    eps, level = column["type"], r"privacy level $\varepsilon$ (nats)"
    theory: dict[str, Any] = {"color": figures.GREY, "linewidth": figures.LINE, "zorder": 1}
    mark: dict[str, Any] = {"linestyle": "none", "markersize": figures.MARKER - 0.5}

    holders, demander, accuracy = panels
    shown = (
        (holders, "payment", "vermilion", "s", r"payment $\gamma$"),
        (holders, "rent", "blue", "o", "rent $u$"),
        (demander, "demander_utility", "green", "D", "by type"),
    )
    for axes, name, colour, shape, label in shown:
        axes.plot(eps, column[name], shape, color=figures.COLOURS[colour], label=label, **mark)
        line = None if name == "payment" else "theory"
        axes.plot(eps, column[f"{name}_theory"], label=line, **theory)
    demander.axhline(report.value, color="black", linestyle=":", linewidth=figures.LINE, label="mean, theory")
    figures.label(holders, level, "to a holder (utility)", title="holders")
    figures.label(demander, level, "ex post, per holder (utility)", title="demander")

    for name, colour, shape, label, style, moved in (
        ("release_mse", "purple", "^", "release", "-", 1.015),
        ("noise_mse", "black", "v", "its noise alone", "--", 1 / 1.015),
    ):
        values, expected = 1e4 * column[name], 1e4 * column[f"{name}_theory"]
        line = "theory" if name == "release_mse" else r"$2 / (q \varepsilon)^2$"
        accuracy.plot(eps, expected, style, label=line, **theory)
        # Squares of Laplace noise have a variance of five times their squared mean.
        bar = expected * np.sqrt(5 / np.maximum(column["holders"], 1))
        accuracy.errorbar(
            eps * moved,
            values,
            bar,
            fmt=shape,
            color=figures.COLOURS[colour],
            label=label,
            elinewidth=0.6,
            **mark,
        )
    accuracy.set_xscale("log")
    accuracy.set_yscale("log")
    for axis, low, high in (
        (accuracy.xaxis, *accuracy.get_xlim()),
        (accuracy.yaxis, *accuracy.get_ylim()),
    ):
        # Over few decades powers of ten alone leave an axis nearly without numbers.
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high <= 300 * low else (1.0,)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    figures.label(accuracy, level, "mean square error\n($10^{-4}$ of the squared range)", title="accuracy")
    for axes in panels:
        figures.legend(axes)
    return figure
