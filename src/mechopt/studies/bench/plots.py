"""Plots of a benchmark as SVG that stands on its own: no other file, no other host."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mechopt.formulations.figures import COLOURS, GREY, LINE, SMALL, TEXT
from mechopt.studies.bench.engine import SETTINGS
from mechopt.studies.bench.measures import profiles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mechopt.studies.bench.report import Report

WIDTH = 10.0
"""Inches."""

_PALETTE = [colour for name, colour in COLOURS.items() if name != "sky"]
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
_MARKERS = ("o", "s", "^")


def plot(report: Report, name: str) -> str:
    """Draw the plot of that name as SVG."""
    draw = {"profiles": _profiles, "accuracy": _accuracy, "phases": _phases, "scaling": _scaling}[name]
    return _svg(draw(report), name)


def _looks(report: Report) -> dict[str, dict[str, Any]]:
    """The same colour, dash and marker for a backend in every plot."""
    n = len(_PALETTE)
    return {
        backend: {
            "color": _PALETTE[k % n],
            "linestyle": _DASHES[k // n % len(_DASHES)],
            "marker": _MARKERS[k // n % len(_MARKERS)],
        }
        for k, backend in enumerate(report.backends)
    }


def _panels(titles: Sequence[str], columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """Panels in rows of ``columns``, with room for a legend below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(columns, len(titles))
    rows = math.ceil(len(titles) / columns)
    figure = Figure(figsize=(WIDTH, height * rows + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes, title in zip(panels, titles, strict=False):
        axes.set_title(title, loc="left", fontsize=TEXT)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(which="both", labelsize=SMALL, width=0.6)
        axes.grid(True, color="#e6e6e6", linewidth=0.5)
        axes.set_axisbelow(True)
    for axes in panels[len(titles) :]:
        axes.set_visible(False)
    return figure, panels[: len(titles)]


def _legend(figure: Figure, looks: dict[str, dict[str, Any]], *, lines: bool = True) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [], [], label=name, linewidth=LINE, markersize=4, **(look if lines else look | {"linestyle": ""})
        )
        for name, look in looks.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=8, fontsize=SMALL, frameon=False)


def _nothing(axes: Axes, what: str) -> None:
    """Say why a panel is empty: logarithmic axes need data."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, what, fontsize=SMALL, color=GREY, ha="center", transform=axes.transAxes)


def _profiles(report: Report) -> Figure:
    rows = report.main_rows
    classes = _class_of(rows)
    kinds = sorted(set(classes.values()), key=lambda kind: (kind.count("+"), kind))
    parts = {kind: rows[rows["family"].map(classes) == kind] for kind in kinds}
    count = {kind: len(part[["family", "size", "seed"]].drop_duplicates()) for kind, part in parts.items()}
    figure, panels = _panels([f"{kind}: {count[kind]} instances" for kind in kinds], 4, 2.2)
    looks = _looks(report)
    for axes, kind in zip(panels, kinds, strict=True):
        curves = profiles(parts[kind])
        end = max([10.0, *(2 * float(x[-1]) for x, _ in curves.values())])
        for name, (multiple, share) in curves.items():
            look = {key: value for key, value in looks[name].items() if key != "marker"}
            axes.step([*multiple, end], [*share, share[-1]], where="post", linewidth=LINE, **look)
        axes.set_xscale("log")
        axes.set_xlim(1, end)
        axes.set_ylim(-0.03, 1.05)
        axes.set_xlabel("multiple of the best time", fontsize=SMALL)
        axes.set_ylabel("share solved correctly", fontsize=SMALL)
    _legend(figure, {name: {**look, "marker": ""} for name, look in looks.items()})
    return figure


def _class_of(rows: pd.DataFrame) -> dict[str, str]:
    """Class of the programs of each family; "unknown" where no process lived to tell."""
    known = rows[rows["needs"] != ""].groupby("family")["needs"].first()
    return {family: str(known.get(family, "unknown")) for family in rows["family"].unique()}


def _scaling(report: Report) -> Figure:
    rows = report.main_rows
    figure, panels = _panels(report.families, 4, 1.9)
    looks = _looks(report)
    for axes, family in zip(panels, report.families, strict=True):
        part = rows[rows["family"] == family]
        if not part["correct"].any():
            _nothing(axes, "no correct answer")
            continue
        for backend, own in part.groupby("backend", sort=False):
            right = own[own["correct"]].groupby("size")["seconds"]
            middle = right.median()
            look = looks[str(backend)]
            axes.plot(middle.index, middle, linewidth=LINE, markersize=3, **look)
            if (right.size() > 1).any():
                axes.fill_between(
                    middle.index, right.min(), right.max(), color=look["color"], alpha=0.12, lw=0
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        sizes = sorted(set(part["size"]))
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
    figure.supxlabel("size", fontsize=TEXT)
    figure.supylabel("seconds, all phases", fontsize=TEXT)
    _legend(figure, looks)
    return figure


def _accuracy(report: Report) -> Figure:
    rows = report.main_rows
    rows = rows[rows["success"] & ~rows["own"] & rows["error"].notna()]
    figure, (axes,) = _panels([""], 1, 0.6 + 0.22 * len(report.backends))
    looks = _looks(report)
    floor = 1e-16
    for k, backend in enumerate(report.backends):
        own = rows[rows["backend"] == backend]
        off = np.maximum(own["error"].abs().to_numpy(), floor)
        # Spread a little, evenly, so that points do not hide each other.
        height = k + 0.25 * (np.arange(off.size) % 5 - 2) / 2
        axes.plot(
            off,
            height,
            linestyle="",
            marker="o",
            markersize=3.5,
            alpha=0.6,
            color=looks[backend]["color"],
            mew=0,
        )
    limit = SETTINGS[report.main_setting].correct
    axes.axvline(limit, color=GREY, linewidth=LINE, linestyle="--")
    axes.annotate(
        "tolerance", (limit, -0.6), xytext=(4, 0), textcoords="offset points", fontsize=SMALL, va="center"
    )
    axes.set_xscale("log")
    axes.set_yticks(range(len(report.backends)), report.backends)
    axes.set_ylim(len(report.backends) - 0.5, -1.0)
    axes.set_xlabel("distance of the objective from the reference, relative (1e-16: none)", fontsize=TEXT)
    return figure


def _phases(report: Report) -> Figure:
    rows = report.main_rows
    # The exact algorithms do not compile, and a logarithmic axis has no zero.
    rows = rows[rows["correct"] & (rows["compile_seconds"] > 0) & (rows["solve_seconds"] > 0)]
    figure, (axes,) = _panels([""], 1, 4.2)
    if rows.empty:
        _nothing(axes, "no correct answer")
        return figure
    looks = _looks(report)
    for backend, own in rows.groupby("backend", sort=False):
        look = looks[str(backend)] | {"linestyle": ""}
        axes.plot(own["compile_seconds"], own["solve_seconds"], markersize=4, alpha=0.7, mew=0, **look)
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = axes.get_xlim()
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle="--", zorder=0)
    axes.set_xlim(low, high)
    axes.set_xlabel("compile (seconds)", fontsize=TEXT)
    axes.set_ylabel("solve (seconds)", fontsize=TEXT)
    _legend(figure, {n: v for n, v in looks.items() if n in set(rows["backend"])}, lines=False)
    return figure


def _svg(figure: Figure, name: str) -> str:
    """Write a figure as an SVG element for HTML: names of its parts are its own, and no address is in it."""
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    # Of several plots on a page each keeps the parts that it refers to.
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return re.sub(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", r"<svg \1>", text, count=1)
