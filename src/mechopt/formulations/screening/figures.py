"""Figures of the contract paper, and the plots of any contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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

Array = NDArray[np.float64]
Numbers = dict[str, Any]

EPS = r"privacy level $\varepsilon$ (nats)"
QUANTITY, PAYMENT = r"quantity $q$ (records)", r"payment $\gamma$ (utility)"
RENT, COST = r"information rent $u$ (utility)", "cost of a record (utility)"

N_POINTS = 401
"""Points of a curve; on the paper's interval every multiple of 0.0005 is one."""

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
    quantity, payment = contract._read(menu)
    figure, panels = new_figure(2, width="page", height=2.5)
    draw(contract, quantity, payment, panels)
    margin = 0.03 * float(np.ptp(contract.types)) or 0.03 * float(contract.types[0])
    for axes in panels:
        axes.set_xlim(contract.types[0] - margin, contract.types[-1] + margin)
        shades = _shade(axes, contract.types, quantity, menu, margin / 2)
        if axes.get_legend_handles_labels()[1]:
            legend(axes)
    if shades:
        names = list(shades)
        figure.legend(
            [shades[name] for name in names],
            names,
            loc="outside upper center",
            ncols=2,
            fontsize=SMALL,
            frameon=False,
        )
    return figure


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
    rent = payment - contract.unit_cost * contract.types * quantity
    _per_type(panels[0], contract.types, rent, "green")
    panels[0].set_ylim(bottom=min(0.0, 1.05 * float(rent.min())))
    label(panels[0], EPS, RENT)
    virtual = "virtual: with rents of lower types"
    _per_type(panels[1], contract.types, contract.virtual_cost, "purple", text=virtual)
    _per_type(
        panels[1], contract.types, contract.unit_cost * contract.types, "black", "s", "true: the holder's"
    )
    panels[1].set_ylim(bottom=0)
    label(panels[1], EPS, COST)


def _per_type(axes: Axes, types: Array, values: Array, colour: str, shape: str = "o", text: str = "") -> None:
    """Draw one value a type: markers on a thin line, or the line alone where markers would touch."""
    if types.size > MANY_TYPES:
        axes.plot(types, values, color=COLOURS[colour], linewidth=LINE, label=text or None)
        return
    axes.plot(types, values, color=COLOURS[colour], linewidth=0.6, alpha=0.6)
    _markers(axes, types, values, colour, shape, text or "_nolegend_")


def _shade(axes: Axes, types: Array, quantity: Array, menu: Any, margin: float) -> dict[str, Any]:
    """Shade pooled types and types without a contract; return what a legend needs, by name."""
    gaps = np.diff(types, prepend=-np.inf, append=np.inf) / 2
    served = int(np.count_nonzero(quantity > 0))
    spans = [("one contract for several types", COLOURS["sky"], *pool) for pool in _pools(quantity, menu)]
    if served < types.size:
        spans.append(("no contract", GREY, served, types.size))
    shades = {}
    for name, colour, start, stop in spans:
        left = types[start] - min(margin, gaps[start])
        right = types[stop - 1] + min(margin, gaps[stop])
        shades[name] = axes.axvspan(left, right, color=colour, alpha=0.28, linewidth=0)
    return shades


def _pools(quantity: Array, menu: Any) -> list[tuple[int, int]]:
    """Start and stop of runs of types with the same quantity > 0; as the exact algorithm told, if it did."""
    if isinstance(menu, Solution) and "pools" in menu.extra:
        return list(menu.extra["pools"])
    edges = np.flatnonzero(quantity[:-1] - quantity[1:] > 1e-9 * quantity[:-1]) + 1
    bounds = zip(np.append(0, edges), np.append(edges, quantity.size), strict=True)
    return [(int(a), int(b)) for a, b in bounds if b - a > 1 and quantity[a] > 0]


__all__ = ["FIGURES", "figure_2", "figure_3", "figure_4", "plot_contract"]
