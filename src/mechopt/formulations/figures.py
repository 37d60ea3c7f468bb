"""The look of every figure in the package: sizes for a paper, colours that all readers can tell apart.

Figures are made without pyplot, so that no window, registry or global setting is involved.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mechopt.solvers.certify import DOMAIN, row_size
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Program
from mechopt.solvers.solution import Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

Array = NDArray[np.float64]

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


def plain_log_axis(axes: Axes) -> None:
    """Mark a logarithmic horizontal axis at 1, 2 and 5 times powers of ten, in plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


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
    """Add a legend without an edge, on a ground that keeps it readable over lines."""
    ground = {"frameon": True, "facecolor": "white", "framealpha": 0.8, "edgecolor": "none"}
    axes.legend(**{"fontsize": SMALL, "handlelength": 1.8, **ground, **options})


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


# ------------------------------------------------------------ shadow prices

_SIGNS = (
    ("a larger right-hand side raises the objective", "blue", 1),
    ("a larger right-hand side lowers it", "vermilion", -1),
)
_MOST_DECADES = 12
_LONGEST_NAME = 24
_DARK = "#4d4d4d"


def plot_prices(solution: Solution, program: Program | None = None) -> Figure:
    """Draw the shadow price of each family of constraints, whatever their magnitudes.

    One row a family: a stem for a single price; for several, a tick each on a bar from the smallest to the
    largest, and beside it their profile from the first constraint to the last. Prices are shown by size on a
    log scale, their signs by colour. Prices of different families differ in their units: those of the
    objective per unit of the constraint.

    Parameters
    ----------
    solution : Solution
        A solved program's answer.
    program : Program, optional
        The program; it gives the order of the families, and those that nothing is known of.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InvalidInput
        If there are no families.

    Notes
    -----
    A solver's answer does not tell small prices from 0. Those below the solution's tolerance count as 0,
    relative to the largest of their family, and, if the program is given, also relative to its objective (a
    price times the size of its constraint's terms is an amount of that). Families without a price are listed,
    with the reason.

    Examples
    --------
    >>> import mechopt as mo
    >>> program = mo.Program("two goods")
    >>> x = program.variable("x", 2, nonneg=True)
    >>> _ = program.maximize(3 * x[0] + 2 * x[1])
    >>> _ = program.add("labour", x[0] + x[1] <= 4).add("land", x[0] + 3 * x[1] <= 6)
    >>> figure = plot_prices(program.solve("highspy"), program)
    >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
    ['labour', 'land']
    """
    known = solution.residuals if program is None else program.families
    families = [name for name in dict.fromkeys([*known, *solution.duals]) if name != DOMAIN]
    if not families:
        raise InvalidInput("there is nothing to draw: the solution knows of no families; pass program=")
    rows = [_row(solution, family, program) for family in families]
    profiles = [row is not None and row.size > 1 and bool(np.any(row)) for row in rows]
    figure, panels = new_figure(1 + any(profiles), width="page", height=0.95 + 0.24 * len(rows))
    axes = panels[0]
    for panel in panels:
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.set_yticks(range(len(rows)), [""] * len(rows))
        panel.tick_params(axis="y", length=0)
        panel.grid(False, axis="y")
        panel.spines["left"].set_visible(False)
    axes.set_yticks(range(len(rows)), [_shortened(family) for family in families])
    if any(np.any(row) for row in rows if row is not None):
        handles = _draw_sizes(axes, rows)
        label(axes, "size of the price (objective per unit)", "")
        figure.legend(
            handles=handles,
            loc="outside upper center",
            ncols=2,
            fontsize=SMALL,
            frameon=False,
            handlelength=1.2,
            handleheight=0.5,
        )
    else:
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
    notes = axes.twinx()
    notes.set_ylim(axes.get_ylim())
    notes.set_yticks(range(len(rows)), [_note(row) for row in rows], fontsize=SMALL)
    notes.tick_params(axis="y", length=0, labelcolor=_DARK)
    notes.spines[:].set_visible(False)
    if len(panels) > 1:
        _draw_profiles(panels[1], rows, profiles)
    absent = [family for family, row in zip(families, rows, strict=True) if row is None]
    if absent:
        why = (
            "the answer has none"
            if solution.duals
            else solution.no_duals or f"the status is {solution.status}"
        )
        which = "No prices" if len(absent) == len(rows) else f"No price for {', '.join(absent)}"
        figure.supxlabel("\n".join(textwrap.wrap(f"{which}: {why}", 110)), fontsize=SMALL, color=_DARK)
    return figure


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _row(solution: Solution, family: str, program: Program | None) -> Array | None:
    """All prices of a family in one vector, those that count as 0 set to 0; None if there are none."""
    if family not in solution.duals:
        return None
    prices = [np.asarray(price, dtype=np.float64) for price in solution.duals[family]]
    worth = [np.zeros(price.shape) for price in prices]
    if program is not None and family in program.families:
        sizes = [row_size(term) if hasattr(term, "args") else 1.0 for term in program.families[family]]
        worth = [
            program.objective_scale / (size * np.ones(p.shape)) for p, size in zip(prices, sizes, strict=True)
        ]
    row, no_worth = (np.concatenate([part.ravel() for part in parts]) for parts in (prices, worth))
    least = solution.tolerance if np.isfinite(solution.tolerance) else 0.0
    size = np.abs(row)
    return np.where(size > least * np.maximum(no_worth, size.max(initial=0.0)), row, 0.0)


def _note(row: Array | None) -> str:
    if row is None:
        return "no price"
    count = np.count_nonzero(row)
    if count == 0:
        return "0" if row.size == 1 else f"all {row.size} are 0"
    if row.size == 1:
        return f"{row[0]:.3g}".replace("-", "−")
    extreme = f"{row[np.argmax(np.abs(row))]:.3g}".replace("-", "−")
    return f"largest {extreme}, " + (
        f"none of {row.size} is 0" if count == row.size else f"{count} of {row.size} not 0"
    )


def _draw_sizes(axes: Axes, rows: list[Array | None]) -> list[Patch]:
    """Draw all prices by size; return what a legend of their signs needs."""
    from matplotlib.patches import Patch
    from matplotlib.ticker import LogLocator, NullFormatter

    shown = np.abs(np.concatenate([row[row != 0] for row in rows if row is not None]))
    largest = float(shown.max())
    smallest = max(float(shown.min()), largest * 10.0**-_MOST_DECADES)
    low, high = 10 ** np.floor(np.log10(smallest / 1.5)), 10 ** np.ceil(np.log10(largest * 1.5))
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(numticks=5))
    axes.xaxis.set_minor_formatter(NullFormatter())
    handles: dict[int, Patch] = {}
    for y, row in enumerate(rows):
        if row is None or not np.any(row):
            continue
        for text, colour, sign in _SIGNS:
            sizes = np.maximum(sign * row[sign * row > 0], low)
            if not sizes.size:
                continue
            handles[sign] = Patch(color=COLOURS[colour], label=text)
            style: dict[str, Any] = {"color": COLOURS[colour], "zorder": 3}
            if row.size == 1:
                axes.plot([low, sizes[0]], [y, y], linewidth=LINE, **style)
                axes.plot(sizes, [y], "o", markersize=MARKER + 1, **style)
                continue
            at = y if np.all(sign * row >= 0) else y - 0.15 * sign
            axes.plot([sizes.min(), sizes.max()], [at, at], linewidth=3.5, alpha=0.25, **style)
            # One tick a size: hundreds of equal prices need not be drawn hundreds of times.
            ticks = np.maximum(np.exp(np.unique(np.round(np.log(sizes), 3))), low)
            axes.plot(ticks, np.full(ticks.size, at), "|", markersize=7, **style)
    return [handles[sign] for sign in sorted(handles, reverse=True)]


def _draw_profiles(axes: Axes, rows: list[Array | None], profiles: list[bool]) -> None:
    """Draw the prices of each family from its first constraint to its last, scaled to the largest."""
    for y, (row, wanted) in enumerate(zip(rows, profiles, strict=True)):
        if row is None or not wanted:
            continue
        axes.axhline(y, color="#bfbfbf", linewidth=0.5)
        place = (np.arange(row.size) + 0.5) / row.size
        height = 0.42 * row / np.abs(row).max()
        for _, colour, sign in _SIGNS:
            part = np.where(sign * height > 0, height, 0.0)
            if np.any(part):
                # Steps as wide as a constraint; the axis points down.
                edges = np.repeat(np.arange(row.size + 1) / row.size, 2)[1:-1]
                axes.fill_between(
                    edges, y, y - np.repeat(part, 2), color=COLOURS[colour], alpha=0.6, linewidth=0
                )
        axes.plot(place, y - height, color="black", linewidth=0.5, alpha=0.7)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["first", "middle", "last"])
    label(axes, "constraint within the family", "", title="scaled to the largest")
