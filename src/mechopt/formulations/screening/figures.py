"""Figures of the contract paper, and the plots of any contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations import checks
from mechopt.formulations.figures import (
    COLOURS,
    GREY,
    LINE,
    MARKER,
    SMALL,
    label,
    legend,
    log_scale,
    new_figure,
)
from mechopt.formulations.screening.closed_form import (
    uniform_payment,
    uniform_quantity,
    uniform_rent,
    uniform_value,
)
from mechopt.formulations.screening.families import PAPER, UniformCase, grid
from mechopt.formulations.screening.model import ScreeningContract
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.solution import Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mechopt.formulations.screening.continuous import Grid
    from mechopt.formulations.screening.continuous_menu import ContinuousMenu

Array = NDArray[np.float64]
Numbers = dict[str, Any]

EPS = r"privacy level $\varepsilon$ (nats)"
QUANTITY, PAYMENT = r"quantity $q$ (records)", r"payment $\gamma$ (utility)"
TYPES = "number of types $K$"
RENT, COST = r"information rent $u$ (utility)", "cost of a record (utility)"
CURVED_COST = "cost per unit of $h(q)$ (utility)"

N_POINTS = 401
"""Points of a curve; on the paper's interval every multiple of 0.0005 is one."""

POOLED, LEFT_OUT = "one contract for several types", "no contract"
"""What shaded types have in common."""

Span = tuple[str, str, float, float]

MANY_TYPES = 60
"""Types from which a line is drawn instead of markers."""


def figure_2(case: UniformCase = PAPER, *, n_holders: int = 5) -> tuple[Figure, Numbers]:
    """Draw the optimal quantity against the privacy level.

    Parameters
    ----------
    case : UniformCase
        Uniform types and log gain; default the paper's.
    n_holders : int
        How many holders the total value counts.

    Returns
    -------
    figure : Figure
    numbers : dict
        ``eps``, ``quantity``; ``total_value``, and per holder ``value``, ``first_best_value``,
        ``expected_quantity``.
    """
    eps, quantity = _curve(case, uniform_quantity)
    figure, (axes,) = new_figure()
    axes.plot(eps, quantity, color=COLOURS["blue"], linewidth=LINE)
    log_scale(axes, quantity)
    _span(axes, case)
    label(axes, EPS, QUANTITY)
    value = uniform_value(case.lo, case.hi, case.gain, case.unit_cost)
    amount = float(case.gain.inverse_derivative(case.unit_cost))
    numbers = {
        "eps": eps,
        "quantity": quantity,
        "value": value,
        "total_value": n_holders * value,
        # With types observed, everybody delivers the same eps * q at cost.
        "first_best_value": float(case.gain(amount)) - case.unit_cost * amount,
        "expected_quantity": _mean(case, uniform_quantity),
    }
    return figure, numbers


def figure_3(case: UniformCase = PAPER, *, sizes: tuple[int, int] = (10, 50)) -> tuple[Figure, Numbers]:
    """Draw the quantities of discrete menus, on the paper's grid, on the continuous curve.

    For uniform types they lie on it, whatever the number of types.

    Parameters
    ----------
    case : UniformCase
        Uniform types and log gain; default the paper's.
    sizes : tuple of int
        Number of types in panel (a) and (b).

    Returns
    -------
    figure : Figure
    numbers : dict
        ``eps``, ``quantity``, and ``types_K``, ``quantity_K`` for each K.
    """
    eps, quantity = _curve(case, uniform_quantity)
    numbers: Numbers = {"eps": eps, "quantity": quantity}
    figure, panels = new_figure(len(sizes), width="page", height=2.5)
    for axes, n_types in zip(panels, sizes, strict=True):
        menu = _grid_menu(case, n_types)
        numbers |= {f"types_{n_types}": menu["types"], f"quantity_{n_types}": menu["quantity"]}
        axes.plot(eps, quantity, color=COLOURS["blue"], linewidth=LINE, label="continuous types, (29)")
        _markers(axes, menu["types"], menu["quantity"], "vermilion", "o", f"{n_types} types, (42)")
        log_scale(axes, quantity)
        _span(axes, case)
        label(axes, EPS, QUANTITY, title=f"$K = {n_types}$")
        legend(axes)
    panels[1].sharey(panels[0])
    return figure, numbers


def figure_4(
    case: UniformCase = PAPER, *, sizes: tuple[int, ...] = (5, 10, 20, 50)
) -> tuple[Figure, Numbers]:
    """Draw the payments of discrete menus, on the paper's grid, beside the continuous curve.

    Parameters
    ----------
    case : UniformCase
        Uniform types and log gain; default the paper's.
    sizes : tuple of int
        Numbers of types, at most five.

    Returns
    -------
    figure : Figure
    numbers : dict
        ``eps``, ``payment``, ``rent``, ``expected_payment``, ``expected_rent``; ``types_K``, ``payment_K``
        and ``value_K`` for each K.
    """
    eps, payment = _curve(case, uniform_payment)
    numbers: Numbers = {"eps": eps, "payment": payment, "rent": _curve(case, uniform_rent)[1]}
    numbers |= {"expected_payment": _mean(case, uniform_payment), "expected_rent": _mean(case, uniform_rent)}
    figure, (axes,) = new_figure(height=2.7)
    axes.plot(eps, payment, color="black", linewidth=LINE, label="continuous types, (31)", zorder=2)
    marks = zip(sizes, ("vermilion", "orange", "green", "blue", "purple"), "osD^v", strict=False)
    for n_types, colour, shape in marks:
        menu = _grid_menu(case, n_types)
        numbers |= {f"types_{n_types}": menu["types"], f"payment_{n_types}": menu["payment"]}
        numbers[f"value_{n_types}"] = menu["value"]
        _markers(axes, menu["types"], menu["payment"], colour, shape, f"{n_types} types, (41)")
    _span(axes, case)
    axes.set_ylim(bottom=0)
    label(axes, EPS, PAYMENT)
    legend(axes)
    return figure, numbers


FIGURES: dict[str, Callable[[], tuple[Figure, Numbers]]] = {
    "figure_2": figure_2,
    "figure_3": figure_3,
    "figure_4": figure_4,
}
"""The paper's figures by name."""


def _curve(case: UniformCase, function: Callable[..., Array]) -> tuple[Array, Array]:
    eps = np.linspace(case.lo, case.hi, N_POINTS)
    return eps, function(eps, case.lo, case.hi, case.gain, case.unit_cost)


def _mean(case: UniformCase, function: Callable[..., Array]) -> float:
    from scipy.integrate import quad

    total, _ = quad(function, case.lo, case.hi, args=(case.lo, case.hi, case.gain, case.unit_cost), limit=200)
    return float(total) / (case.hi - case.lo)


def _grid_menu(case: UniformCase, n_types: int) -> dict[str, Any]:
    contract = ScreeningContract(grid(case, n_types, "paper"), gain=case.gain, unit_cost=case.unit_cost)
    menu = contract.solve()
    return {"types": contract.types, "value": menu.objective, **menu.values}


def _markers(axes: Axes, x: Array, y: Array, colour: str, shape: str, text: str) -> None:
    size = MARKER * (1.0 if len(x) < 20 else 0.8 if len(x) < 40 else 0.55)
    axes.plot(
        x,
        y,
        linestyle="none",
        marker=shape,
        markersize=size,
        markerfacecolor="white",
        markeredgecolor=COLOURS[colour],
        markeredgewidth=0.9,
        label=text,
        zorder=4,
        clip_on=False,
    )


def _span(axes: Axes, case: UniformCase) -> None:
    margin = 0.02 * (case.hi - case.lo)
    axes.set_xlim(case.lo - margin, case.hi + margin)


# ------------------------------------------------------------ any contract


def plot_contract(contract: ScreeningContract, menu: Mapping[str, Any] | Any, kind: str = "menu") -> Figure:
    """Draw a contract's menu against the types.

    Types that share one contract are shaded, and so are those that get none.

    Parameters
    ----------
    contract : ScreeningContract
    menu : mapping with ``quantity`` and ``payment``
        A solution, a closed form, or a dict.
    kind : {"menu", "rents"}
        ``"menu"``: quantities and payments. ``"rents"``: rents, and virtual beside true cost of a record.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InvalidInput
        For another kind, or a menu that does not fit the types.
    """
    draw = {"menu": _draw_menu, "rents": _draw_rents}.get(kind)
    if draw is None:
        raise InvalidInput(f"kind must be 'menu' or 'rents', got {kind!r}")
    quantity, payment = contract.read(menu)
    figure, panels = new_figure(2, width="page", height=2.5)
    draw(contract, quantity, payment, panels)
    margin = 0.03 * float(np.ptp(contract.types)) or 0.03 * float(contract.types[0])
    _finish(
        figure, panels, contract.types[[0, -1]], margin, _spans(contract.types, quantity, menu, margin / 2)
    )
    return figure


def _finish(figure: Figure, panels: list[Axes], ends: Array, margin: float, spans: list[Span]) -> None:
    """Set the range of types, shade those that are pooled or left out, and add the legends."""
    shades: dict[str, Any] = {}
    for axes in panels:
        axes.set_xlim(ends[0] - margin, ends[1] + margin)
        for name, colour, left, right in spans:
            shades[name] = axes.axvspan(left, right, color=colour, alpha=0.28, linewidth=0)
        if axes.get_legend_handles_labels()[1]:
            legend(axes)
    if shades:
        figure.legend(
            list(shades.values()),
            list(shades),
            loc="outside upper center",
            ncols=2,
            fontsize=SMALL,
            frameon=False,
        )


def _draw_menu(contract: ScreeningContract, quantity: Array, payment: Array, panels: list[Axes]) -> None:
    # On a log scale the types without a contract are left to the shading.
    shown = np.where(quantity > 0, quantity, np.nan)
    _per_type(panels[0], contract.types, shown, "blue")
    log_scale(panels[0], quantity)
    if panels[0].get_yscale() == "linear":
        panels[0].set_ylim(bottom=0)
    label(panels[0], EPS, QUANTITY)
    _per_type(panels[1], contract.types, payment, "vermilion")
    panels[1].set_ylim(bottom=min(0.0, float(payment.min())))
    label(panels[1], EPS, PAYMENT)


def _draw_rents(contract: ScreeningContract, quantity: Array, payment: Array, panels: list[Axes]) -> None:
    rent = payment - contract.unit_cost * contract.types * contract.burden(quantity)
    _per_type(panels[0], contract.types, rent, "green")
    panels[0].set_ylim(bottom=min(0.0, 1.05 * float(rent.min())))
    label(panels[0], EPS, RENT)
    virtual = "virtual: with rents of lower types"
    _per_type(panels[1], contract.types, contract.virtual_cost, "purple", text=virtual)
    _per_type(
        panels[1], contract.types, contract.unit_cost * contract.types, "black", "s", "true: the holder's"
    )
    panels[1].set_ylim(bottom=0)
    label(panels[1], EPS, COST if contract.cost_curve is None else CURVED_COST)


def _per_type(axes: Axes, types: Array, values: Array, colour: str, shape: str = "o", text: str = "") -> None:
    """Draw one value a type: markers on a thin line, or the line alone where markers would touch."""
    if types.size > MANY_TYPES:
        axes.plot(types, values, color=COLOURS[colour], linewidth=LINE, label=text or None)
        return
    axes.plot(types, values, color=COLOURS[colour], linewidth=0.6, alpha=0.6)
    _markers(axes, types, values, colour, shape, text or "_nolegend_")


def _spans(types: Array, quantity: Array, menu: Any, margin: float) -> list[Span]:
    """Runs of types that are pooled, or without a contract: name, colour, left and right end."""
    gaps = np.diff(types, prepend=-np.inf, append=np.inf) / 2
    served = int(np.count_nonzero(quantity > 0))
    runs = [(POOLED, COLOURS["sky"], *pool) for pool in _pools(quantity, menu)]
    if served < types.size:
        runs.append((LEFT_OUT, GREY, served, types.size))
    return [
        (name, colour, types[start] - min(margin, gaps[start]), types[stop - 1] + min(margin, gaps[stop]))
        for name, colour, start, stop in runs
    ]


def _pools(quantity: Array, menu: Any) -> list[tuple[int, int]]:
    """Start and stop of runs of types with the same quantity > 0; as the exact algorithm told, if it did."""
    if isinstance(menu, Solution) and "pools" in menu.extra:
        return list(menu.extra["pools"])
    edges = np.flatnonzero(quantity[:-1] - quantity[1:] > 1e-9 * quantity[:-1]) + 1
    bounds = zip(np.append(0, edges), np.append(edges, quantity.size), strict=True)
    return [(int(a), int(b)) for a, b in bounds if b - a > 1 and quantity[a] > 0]


# ------------------------------------------------------------ a continuum of types

SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Numbers of types whose menus a plot of convergence compares with the continuum's."""


def plot_continuous(
    menu: ContinuousMenu, kind: str = "menu", *, discrete: ScreeningContract | None = None
) -> Figure:
    """Draw the menu for a continuum of types, or how fast the menus of grids approach it.

    Intervals of types that share one contract are shaded, and so are those that get none.

    Parameters
    ----------
    menu : ContinuousMenu
        What to draw.
    kind : {"menu", "rents", "convergence"}
        ``"menu"``: quantities and payments. ``"rents"``: rents, and virtual beside true cost of a record.
        ``"convergence"``: errors of the value and of the payments of grid menus against their number of
        types; see `plot_convergence`.
    discrete : ScreeningContract, optional
        A contract whose own optimal menu is drawn over it as markers; not for ``"convergence"``.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InvalidInput
        For another kind, or a discrete menu where none can be drawn.
    """
    if kind == "convergence":
        if discrete is not None:
            raise InvalidInput("discrete has no place in kind='convergence', which draws menus of its own")
        return plot_convergence(menu)
    draw = {"menu": _draw_continuous_menu, "rents": _draw_continuous_rents}.get(kind)
    if draw is None:
        raise InvalidInput(f"kind must be 'menu', 'rents' or 'convergence', got {kind!r}")
    if discrete is not None and not isinstance(discrete, ScreeningContract):
        raise InvalidInput(
            f"discrete must be a ScreeningContract, such as contract.discretize(10), got {discrete!r}"
        )
    contract = menu.contract
    figure, panels = new_figure(2, width="page", height=2.5)
    # Quantities may jump where pools or the types served end: a point on either side shows it.
    kinks = np.array([end for pool in menu.pools for end in pool[:2]] + [menu.cutoff])
    beside = np.concatenate([kinks * (1 - 1e-9), kinks, kinks * (1 + 1e-9)])
    eps = np.union1d(np.linspace(contract.lo, contract.hi, N_POINTS), beside)
    draw(menu, eps[(eps >= contract.lo) & (eps <= contract.hi)], discrete, panels)
    spans = [(POOLED, COLOURS["sky"], pool.start, pool.stop) for pool in menu.pools]
    if menu.cutoff < contract.hi:
        spans.append((LEFT_OUT, GREY, menu.cutoff, contract.hi))
    ends = np.array([contract.lo, contract.hi])
    _finish(figure, panels, ends, 0.03 * float(np.ptp(ends)), spans)
    return figure


def _draw_continuous_menu(
    menu: ContinuousMenu, eps: Array, discrete: ScreeningContract | None, panels: list[Axes]
) -> None:
    quantity, payment = menu.quantity(eps), menu.payment(eps)
    # On a log scale the types without a contract are left to the shading.
    shown = np.where(quantity > 0, quantity, np.nan)
    marks = _curve_and_marks(panels[0], eps, shown, "blue", discrete, "quantity")
    served = quantity[quantity > 0]
    if menu.cutoff < menu.contract.hi:
        # The last types served get next to nothing, which would take all of a log scale.
        served = served[: 19 * served.size // 20]
    log_scale(panels[0], served)
    linear = panels[0].get_yscale() == "linear"
    panels[0].set_ylim(bottom=0 if linear else float(np.nanmin(np.append(marks, served))) / 1.5)
    label(panels[0], EPS, QUANTITY)
    _curve_and_marks(panels[1], eps, payment, "vermilion", discrete, "payment")
    panels[1].set_ylim(bottom=0)
    label(panels[1], EPS, PAYMENT)


def _draw_continuous_rents(
    menu: ContinuousMenu, eps: Array, discrete: ScreeningContract | None, panels: list[Axes]
) -> None:
    contract = menu.contract
    _curve_and_marks(panels[0], eps, menu.rent(eps), "green", discrete, "rent")
    panels[0].set_ylim(bottom=0)
    label(panels[0], EPS, RENT)
    virtual, true = contract.unit_cost * contract.virtual_type(eps), contract.unit_cost * eps
    text = "virtual: with rents of lower types"
    panels[1].plot(eps, virtual, color=COLOURS["purple"], linewidth=LINE, label=text)
    panels[1].plot(eps, true, color="black", linewidth=LINE, label="true: the holder's")
    # Virtual costs may have no end, where hardly anyone is.
    finite = float(np.max(virtual, where=np.isfinite(virtual), initial=0.0))
    top = min(1.05 * finite, 6 * contract.unit_cost * contract.hi)
    panels[1].set_ylim(0, top)
    if discrete is not None:
        marks = np.where(discrete.virtual_cost <= top, discrete.virtual_cost, np.nan)
        _markers(panels[1], discrete.types, marks, "purple", "o", f"virtual, {discrete.n_types} types")
    label(panels[1], EPS, COST)


def _curve_and_marks(
    axes: Axes, eps: Array, values: Array, colour: str, discrete: ScreeningContract | None, name: str
) -> Array:
    """Draw a curve, and the same of a discrete menu as marks; return these."""
    if discrete is None:
        axes.plot(eps, values, color=COLOURS[colour], linewidth=LINE)
        return np.empty(0)
    axes.plot(eps, values, color=COLOURS[colour], linewidth=LINE, label="continuous types")
    marks = discrete.solve()[name]
    if name == "quantity":
        marks = np.where(marks > 0, marks, np.nan)
    _markers(axes, discrete.types, marks, "black", "o", f"{discrete.n_types} types")
    return marks


def plot_convergence(menu: ContinuousMenu, *, sizes: Sequence[int] = SIZES) -> Figure:
    """Draw how the optimal menus of finer and finer grids approach the menu of the continuum.

    Parameters
    ----------
    menu : ContinuousMenu
        What they approach.
    sizes : sequence of int
        Numbers of types, at least two, increasing.

    Returns
    -------
    matplotlib.figure.Figure
        On log scales, for both grids, against the number of types: by how much the value of a grid's contract
        differs, and the payment to the type of the grid for which that differs most. A dashed line shows the
        slope -1.

    Raises
    ------
    InvalidInput
        If there are fewer than two sizes, or they do not increase.
    """
    sizes = [checks.count(size, f"sizes[{i}]") for i, size in enumerate(sizes)]
    if len(sizes) < 2 or any(b <= a for a, b in pairwise(sizes)):
        raise InvalidInput(f"sizes must be at least two increasing numbers of types, got {sizes}")
    figure, panels = new_figure(2, width="page", height=2.5)
    grids: tuple[tuple[Grid, str, str, str], ...] = (
        ("right", "vermilion", "o", "types at the right ends of cells"),
        ("paper", "blue", "s", "at the left ends, as in the paper"),
    )
    largest = np.zeros((2, len(sizes)))
    for kind, colour, shape, text in grids:
        errors = np.array([_errors(menu, n_types, kind) for n_types in sizes]).T
        largest = np.maximum(largest, errors)
        for axes, error in zip(panels, errors, strict=True):
            shown = np.where(error > 0, error, np.nan)
            axes.plot(sizes, shown, color=COLOURS[colour], linewidth=0.8)
            _markers(axes, np.array(sizes), shown, colour, shape, text)
    for axes, error in zip(panels, largest, strict=True):
        # Through the last point, and a little above.
        guide = 2 * error[-1] * sizes[-1] / np.array(sizes)
        axes.plot(
            sizes, guide, color=GREY, linewidth=0.9, linestyle="--", label="slope −1: halved if K doubles"
        )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    label(panels[0], TYPES, "error of the value (utility)")
    label(panels[1], TYPES, "largest payment error (utility)")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
        fontsize=SMALL,
        frameon=False,
    )
    return figure


def _errors(menu: ContinuousMenu, n_types: int, kind: Grid) -> tuple[float, float]:
    """Error of the value, and the largest of a payment."""
    contract = menu.contract.discretize(n_types, kind)
    found = contract.solve()
    off = np.abs(found["payment"] - menu.payment(contract.types))
    return abs(found.objective - menu.objective), float(off.max())


__all__ = [
    "FIGURES",
    "figure_2",
    "figure_3",
    "figure_4",
    "plot_continuous",
    "plot_contract",
    "plot_convergence",
]
