"""The plot of a fair division: a bar for each user, or for each group if users are many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mechopt.formulations.figures import COLOURS, GREY, label, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mechopt.formulations.fair_value.shapley.model import FairDivision

MOST_BARS = 60
"""Distinct users up to which each has a bar; of more, the values are drawn in falling order."""


def plot_division(division: FairDivision) -> Figure:
    """Draw a division; see `FairDivision.plot`."""
    sizes = division.group_sizes
    alike = any(size > 1 for size in sizes)
    value, error = division.group_values, None
    interval = division.confidence_interval
    if interval is not None:
        first = np.cumsum((0, *sizes[:-1]))
        error = ((interval[:, 1] - interval[:, 0]) / 2)[first]
    figure, (axes,) = new_figure(height=2.4)
    if value.size > MOST_BARS:
        order = np.argsort(-value, kind="stable")
        places = np.arange(1, value.size + 1)
        axes.plot(places, value[order], color=COLOURS["blue"])
        if error is not None:
            low, high = (value - error)[order], (value + error)[order]
            axes.fill_between(places, low, high, color=COLOURS["sky"], alpha=0.4)
        label(axes, "users or groups, in falling order", "fair value (utility)")
        return figure
    places = np.arange(value.size)
    style = {"elinewidth": 0.8, "capsize": 2.0}
    axes.bar(places, value, 0.7, yerr=error, error_kw=style, color=COLOURS["blue"], label="users")
    names = [f"{k}\n({size})" if alike else f"{k}" for k, size in enumerate(sizes)]
    if division.platform_value:
        axes.bar(value.size, division.platform_value, 0.7, color=GREY, label="platform")
        places, names = np.arange(value.size + 1), [*names, ""]
        legend(axes)
    if places.size <= 20:
        axes.set_xticks(places, names)
    axes.axhline(0.0, color="black", linewidth=0.6)
    axes.grid(False, axis="x")
    label(axes, "group (and its users)" if alike else "user", "fair value (utility)")
    return figure
