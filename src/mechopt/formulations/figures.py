"""The look of every figure in the package: sizes for a paper, colours that all readers can tell apart.

Figures are made without pyplot, so that no window, registry or global setting is involved.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "black": "#000000",
}
"""Okabe and Ito's palette, safe for colour-blind readers; its yellow is too pale for lines on white."""

GREY = "#8c8c8c"
COLUMN, PAGE = 3.4, 7.0
"""Width of one column and of a page, in inches."""

TEXT, SMALL = 8.0, 7.0
"""Font sizes in points: axis labels, and everything smaller."""

LINE, MARKER = 1.3, 4.0
"""Line width and marker size in points."""


def new_figure(
    n_panels: int = 1, *, width: Literal["column", "page"] = "column", height: float = 2.4
) -> tuple[Figure, list[Axes]]:
    """Make a figure with panels side by side, in the style of the package.

    Parameters
    ----------
    n_panels : int
        Panels in one row; with more than one they are lettered (a), (b) and so on.
    width : {"column", "page"}
        Width of one column or of a whole page.
    height : float
        Height in inches.

    Returns
    -------
    figure : matplotlib.figure.Figure
    panels : list of matplotlib.axes.Axes
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(COLUMN if width == "column" else PAGE, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(1, n_panels, squeeze=False)[0])
    for index, axes in enumerate(panels):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_linewidth(0.6)
        axes.tick_params(which="both", labelsize=SMALL, width=0.6)
        axes.tick_params(which="minor", width=0.4)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axes.grid(True, color="#e6e6e6", linewidth=0.5)
        axes.set_axisbelow(True)
        if n_panels > 1:
            axes.set_title(f"({chr(ord('a') + index)})", loc="left", fontsize=TEXT)
    return figure, panels


def label(axes: Axes, x: str, y: str, *, title: str = "") -> None:
    """Label both axes, units in parentheses as in ``"payment γ (utility)"``; add to the panel's letter."""
    axes.set_xlabel(x, fontsize=TEXT)
    axes.set_ylabel(y, fontsize=TEXT)
    if title:
        axes.set_title(f"{axes.get_title('left')} {title}".strip(), loc="left", fontsize=TEXT)


def log_scale(axes: Axes, values: NDArray[np.float64], *, above: float = 20.0) -> None:
    """Use a log scale on the vertical axis if the positive values span more than a factor of ``above``."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    shown = values[values > 0]
    if not shown.size or shown.max() <= above * shown.min():
        return
    axes.set_yscale("log")
    if shown.max() <= 200 * shown.min():
        # Over so few decades powers of ten alone leave the axis nearly without numbers.
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def legend(axes: Axes, **options: Any) -> None:
    """Add a legend without a frame."""
    axes.legend(**{"fontsize": SMALL, "frameon": False, "handlelength": 1.8, **options})


def save(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write a figure as PNG (200 dots an inch) and as PDF, the same bytes each time.

    Returns
    -------
    png, pdf : Path
    """
    import matplotlib as mpl

    png, pdf = folder / f"{name}.png", folder / f"{name}.pdf"
    figure.savefig(png, dpi=200)
    # TrueType fonts, since journals refuse Type 3; without a date the file depends on its content alone.
    with mpl.rc_context({"pdf.fonttype": 42}):
        figure.savefig(pdf, metadata={"CreationDate": None})
    return png, pdf
