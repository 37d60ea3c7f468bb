"""Plots of a sweep: curves of a measure along one dimension, and heat maps over two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations import figures
from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

_FEW = 6
"""Up to so many lines have a colour, a marker and an entry of the legend each; more have a colour bar."""

_MARKERS = ("o", "s", "^", "D", "v", "P")
_COLOUR_MAP = "cividis"  # made for colour-blind readers; its lightness rises evenly
_NOTHING = "#d9d9d9"


def plot_lines(
    results: xr.Dataset,
    x: str,
    y: str,
    lines: str | None = None,
    *,
    at: Mapping[str, Any] | None = None,
    average: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    title: str = "",
) -> Figure:
    """Draw a measure along one dimension of a sweep, one line for each value of another.

    Cells without a value interrupt their line. An axis whose values are in geometric progression over more
    than one decade is logarithmic.

    Parameters
    ----------
    results : xarray.Dataset
        From `mechopt.studies.sweep.sweep`.
    x : str
        A dimension.
    y : str
        A variable: the objective, or a measure.
    lines : str, optional
        Another dimension.
    at : mapping, optional
        A value for each dimension that is not drawn; the nearest one of the grid for numbers.
    average : sequence of str
        Dimensions to take the mean over instead, as ``("replicate",)``; a band shows the standard deviation.
    labels : mapping, optional
        What to call dimensions and measures, with their units.
    title : str

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InvalidInput
        If a name is not there, or a dimension is left without a place.

    Examples
    --------
    >>> import mechopt as mo
    >>> from mechopt.studies.sweep import sweep
    >>> def market(weight, unit_cost):
    ...     gain = mo.LogGain(weight=weight, scale=2)
    ...     return mo.ScreeningContract(types=[0.1, 0.2], gain=gain, unit_cost=unit_cost)
    >>> found = sweep(market, {"weight": [10, 50, 100], "unit_cost": [1, 2]}, progress=False)
    >>> figure = plot_lines(found, "weight", "objective", "unit_cost", labels={"objective": "value"})
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['1', '2']
    """
    told = dict(labels or {})
    mean, spread = _reduced(results, y, (x, *((lines,) if lines else ())), at or {}, average)
    places, names = _places(results, x)
    figure, (axes,) = figures.new_figure()
    values = [None] if lines is None else list(results[lines].values)
    few = len(values) <= _FEW or isinstance(values[0], str)
    colours = _colours(len(values), few)
    for number, value in enumerate(values):
        chosen = {} if lines is None else {lines: number}
        height, half = mean.isel(chosen).values, spread.isel(chosen).values
        style: dict[str, Any] = {"color": colours[number], "linewidth": figures.LINE, "label": _shown(value)}
        if few:
            style |= {"marker": _MARKERS[number % len(_MARKERS)], "markersize": figures.MARKER}
        axes.plot(places, height, **style)
        if average:
            axes.fill_between(
                places, height - half, height + half, color=colours[number], alpha=0.2, linewidth=0
            )
    _axis(axes, "x", places, names)
    shown = mean.values[np.isfinite(mean.values)]
    if _wide(shown):
        figures.log_scale(axes, shown)
    figures.label(axes, told.get(x, x), told.get(y, y), title=title)
    if lines is not None and few:
        figures.legend(axes, title=told.get(lines, lines), title_fontsize=figures.SMALL)
    elif lines is not None:
        _bar(figure, axes, results[lines].values, told.get(lines, lines))
    return figure


def plot_heat_map(
    results: xr.Dataset,
    x: str,
    y: str,
    colour: str,
    *,
    at: Mapping[str, Any] | None = None,
    average: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    title: str = "",
) -> Figure:
    """Draw a measure over two dimensions of a sweep; cells without a value are grey and crossed.

    Parameters
    ----------
    results : xarray.Dataset
        From `mechopt.studies.sweep.sweep`.
    x, y : str
        Two dimensions.
    colour : str
        A variable: the objective, or a measure; on a log scale if it is positive and spans a factor of 20.
    at, average, labels, title
        As for `plot_lines`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InvalidInput
        If a name is not there, or a dimension is left without a place.
    """
    from matplotlib.patches import Patch

    told = dict(labels or {})
    mean, _ = _reduced(results, colour, (y, x), at or {}, average)
    figure, (axes,) = figures.new_figure(height=2.7)
    (across, names_across), (up, names_up) = _places(results, x), _places(results, y)
    axes.grid(False)
    values = np.ma.masked_invalid(mean.values)
    mesh = axes.pcolormesh(
        _edges(across),
        _edges(up),
        values,
        cmap=_COLOUR_MAP,
        norm="log" if _wide(values.compressed()) else "linear",
        rasterized=values.size > 10_000,
    )
    _axis(axes, "x", across, names_across)
    _axis(axes, "y", up, names_up)
    figures.label(axes, told.get(x, x), told.get(y, y), title=title)
    if np.ma.is_masked(values):
        axes.patch.set(facecolor=_NOTHING, hatch="xxx", edgecolor="white")
        axes.legend(
            handles=[Patch(facecolor=_NOTHING, hatch="xxx", edgecolor="white", label="no value")],
            fontsize=figures.SMALL,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            frameon=False,
        )
    bar = figure.colorbar(mesh, ax=axes)
    bar.set_label(told.get(colour, colour), fontsize=figures.TEXT)
    bar.ax.tick_params(which="both", labelsize=figures.SMALL)
    bar.outline.set_visible(False)
    return figure


def _reduced(
    results: xr.Dataset, name: str, drawn: Sequence[str], at: Mapping[str, Any], average: Sequence[str]
) -> tuple[xr.DataArray, xr.DataArray]:
    """The variable over the drawn dimensions alone, and its standard deviation over those averaged."""
    if name not in results:
        raise InvalidInput(f"plot: no {name!r} in the results; they have {', '.join(map(str, results))}")
    array = results[name]
    if array.dtype.kind not in "biuf":
        raise InvalidInput(f"plot: {name!r} is text, which has no place on a scale")
    for dim in (*drawn, *at, *average):
        if dim not in array.dims:
            raise InvalidInput(
                f"plot: {name!r} has no dimension {dim!r}; it has {', '.join(map(str, array.dims))}"
            )
    for dim, value in at.items():
        if dim in array.coords:
            number = array[dim].dtype.kind in "iuf"
            try:
                array = array.sel({dim: value}, **({"method": "nearest"} if number else {}))
            except (KeyError, TypeError):
                listed = ", ".join(map(_shown, results[dim].values))
                raise InvalidInput(f"plot: {dim!r} has no value {value!r}; it has {listed}") from None
        else:
            array = array.isel({dim: int(value)})
    left = [str(dim) for dim in array.dims if dim not in (*drawn, *average)]
    if left:
        raise InvalidInput(
            f"plot: {name!r} also runs over {', '.join(left)}; give each a value in `at`, or average over it"
        )
    array = array.transpose(*drawn, *average)
    return array.mean(list(average)), array.std(list(average))


def _places(results: xr.Dataset, dim: str) -> tuple[Array, list[str] | None]:
    """Where the values of a dimension lie on an axis, and what they are called if they are no numbers."""
    values = results[dim].values
    if values.dtype.kind in "iuf":
        return values.astype(float), None
    return np.arange(values.size, dtype=float), [str(value) for value in values]


def _geometric(places: Array) -> bool:
    if places.size < 3 or np.any(places <= 0) or np.max(places) <= 10 * np.min(places):
        return False
    steps = np.diff(np.log(places))
    return bool(np.ptp(steps) <= 0.25 * np.max(np.abs(steps)))


def _wide(values: Array) -> bool:
    """Whether values need a log scale: all positive, and over more than a factor of 20."""
    return bool(values.size and values.min() > 0 and values.max() > 20 * values.min())


def _edges(places: Array) -> Array:
    """Borders of cells halfway between their places, on the scale that the axis has."""
    scale = np.log(places) if _geometric(places) else places
    if scale.size == 1:
        edges = np.array([scale[0] - 0.5, scale[0] + 0.5])
    else:
        middle = (scale[1:] + scale[:-1]) / 2
        edges = np.concatenate([[2 * scale[0] - middle[0]], middle, [2 * scale[-1] - middle[-1]]])
    return np.exp(edges) if _geometric(places) else edges


def _axis(axes: Axes, which: str, places: Array, names: list[str] | None) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    if names is not None:
        axis.set_ticks(places, names)
    elif _geometric(places):
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        decades = np.log10(places.max() / places.min())
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def _colours(count: int, few: bool) -> list[Any]:
    if few:
        named = list(figures.COLOURS.values())
        return [named[number % len(named)] for number in range(count)]
    from matplotlib import colormaps

    # Its light end is too pale for lines on white.
    return list(colormaps[_COLOUR_MAP](np.linspace(0.0, 0.9, count)))


def _bar(figure: Figure, axes: Axes, values: Any, name: str) -> None:
    """Say which line is which by a bar of colours, one a line."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    colours = ListedColormap(_colours(len(values), few=False))
    norm = BoundaryNorm(np.arange(len(values) + 1) - 0.5, len(values))
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=axes)
    ticks = range(0, len(values), math.ceil((len(values) - 1) / (_FEW - 1)))
    bar.set_ticks(ticks, labels=[_shown(values[tick]) for tick in ticks])
    bar.set_label(name, fontsize=figures.TEXT)
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=figures.SMALL, length=0)
    bar.outline.set_visible(False)


def _shown(value: Any) -> str:
    return "" if value is None else str(value) if isinstance(value, str) else f"{value:.4g}"


__all__ = ["plot_heat_map", "plot_lines"]
