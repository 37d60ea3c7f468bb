"""Pictures of sharing graphs: who shares with whom, at what price, and who pays in the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.figures import COLOURS, GREY, LINE, PAGE, SMALL, TEXT, new_figure
from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mechopt.formulations.sharing_market.model import SharingMarket

Array = NDArray[np.float64]

MOST_DRAWN = 24
"""Agents beyond which circles and numbers cannot be told apart."""

_MOST_EDGE_LABELS = 14
_MOST_CELL_NUMBERS = 10
_BEND = 0.16
_DARK = "#333333"


def plot_market(
    market: SharingMarket,
    adjacency: Any,
    *,
    price: ArrayLike | None = None,
    payment: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    unit: str = "money",
) -> Figure:
    """Draw a sharing graph: an arrow from each seller to its buyer, prices on edges, payments at agents.

    Beside the graph stands the table of prices, sellers down and buyers across: sold data on dark ground.

    Parameters
    ----------
    market : SharingMarket
    adjacency : array, shape (n_agents, n_agents), or a solution
        Row = seller, column = buyer.
    price : array, shape (n_agents, n_agents), optional
        By default the costs of sharing.
    payment : array, shape (n_agents,), optional
        What each agent pays in all (> 0) or gets (< 0); by default what it pays at these prices less what it
        earns.
    names : sequence of str, optional
        By default the agents' indices.
    unit : str
        Of money, for the labels.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InvalidInput
        If there are more than 24 agents, or a shape is wrong.
    """
    n = market.n_agents
    if n > MOST_DRAWN:
        raise InvalidInput(f"a graph of {n} agents cannot be read; plot at most {MOST_DRAWN}")
    graph = market.adjacency(adjacency)
    prices = market.sharing_cost if price is None else checks.square(price, n, "price", "row = seller")
    net = (graph * prices).sum(axis=0) - (graph * prices).sum(axis=1)
    paid = net if payment is None else checks.vector(payment, "payment")
    if paid.size != n:
        raise InvalidInput(f"payment has {paid.size} entries for {n} agents")
    labels = _names(names, n)
    figure, (left, right) = new_figure(2, width="page", height=0.52 * PAGE)
    _bare(left)
    left.set_title("(a) who sells to whom", loc="left", fontsize=TEXT)
    notes = [f"{'pays' if x > 0 else 'gets'} {_number(abs(x))}" if x else "pays 0" for x in paid.tolist()]
    tint = [COLOURS["vermilion"] if x > 0 else COLOURS["blue"] if x < 0 else GREY for x in paid.tolist()]
    _draw_graph(left, graph, labels, notes, tint, market.data_size, _edge_labels(graph, prices))
    _draw_prices(right, graph, prices, labels, unit)
    figure.supxlabel(
        f"larger circles own more data; vermilion pays, blue gets ({unit}, in all). Table: dark is sold.",
        fontsize=SMALL,
        color=_DARK,
    )
    return figure


def plot_sharing(
    adjacency: ArrayLike, utility: ArrayLike | None = None, *, names: Sequence[str] | None = None
) -> Figure:
    """Draw a bilateral sharing graph, with each agent's utility beside it.

    Parameters
    ----------
    adjacency : array, shape (n_agents, n_agents)
        Symmetric, zeros and ones.
    utility : array, shape (n_agents,), optional
    names : sequence of str, optional
        By default the agents' indices.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InvalidInput
        If there are more than 24 agents, or a shape is wrong.
    """
    graph = np.asarray(adjacency, dtype=float)
    graph = checks.square(graph, len(graph) if graph.ndim else 0, "adjacency", "agents by agents")
    n = len(graph)
    if n > MOST_DRAWN:
        raise InvalidInput(f"a graph of {n} agents cannot be read; plot at most {MOST_DRAWN}")
    if not np.array_equal(graph, graph.T):
        raise InvalidInput("adjacency must be symmetric; for a directed graph use a market's plot")
    values = None if utility is None else checks.vector(utility, "utility")
    if values is not None and values.size != n:
        raise InvalidInput(f"utility has {values.size} entries for {n} agents")
    figure, (axes,) = new_figure(width="column", height=3.2)
    _bare(axes)
    notes = [""] * n if values is None else [f"utility {_number(x)}" for x in values.tolist()]
    _draw_graph(axes, graph, _names(names, n), notes, [COLOURS["sky"]] * n, np.ones(n), {}, directed=False)
    return figure


def _names(names: Sequence[str] | None, n: int) -> list[str]:
    if names is None:
        return [str(agent) for agent in range(n)]
    if len(names) != n:
        raise InvalidInput(f"names has {len(names)} entries for {n} agents")
    return [str(name) for name in names]


def _number(x: float) -> str:
    return f"{x:.3g}".replace("-", "−")


def _bare(axes: Axes) -> None:
    axes.set_aspect("equal")
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _edge_labels(graph: Array, prices: Array) -> dict[tuple[int, int], str]:
    edges = [(int(i), int(j)) for i, j in np.argwhere(graph > 0)]
    return {} if len(edges) > _MOST_EDGE_LABELS else {edge: _number(float(prices[edge])) for edge in edges}


def _draw_graph(
    axes: Axes,
    graph: Array,
    names: list[str],
    notes: list[str],
    tints: list[str],
    data_size: Array,
    labels: dict[tuple[int, int], str],
    *,
    directed: bool = True,
) -> None:
    import networkx as nx

    n = len(graph)
    shape = nx.from_numpy_array(graph, create_using=nx.DiGraph if directed else nx.Graph)
    # The first agent on top, the others clockwise.
    places = {
        agent: (math.sin(2 * math.pi * agent / n), math.cos(2 * math.pi * agent / n)) for agent in range(n)
    }
    areas = (240.0 if n <= 12 else 90.0) * np.sqrt(data_size / data_size.max()).clip(0.25, 1.0)
    nx.draw_networkx_nodes(shape, places, ax=axes, node_size=areas.tolist(), node_color=tints)
    bends = [_BEND if directed and graph[j, i] else 0.0 for i, j in shape.edges]
    for (seller, buyer), bend in zip(shape.edges, bends, strict=True):
        extras: dict[str, Any] = (
            {"arrowsize": 8, "connectionstyle": f"arc3,rad={bend}", "node_size": areas.tolist()}
            if directed
            else {}
        )
        nx.draw_networkx_edges(
            shape,
            places,
            [(seller, buyer)],
            ax=axes,
            width=LINE if n <= 12 else LINE / 2,
            edge_color=_DARK,
            **extras,
        )
        if (seller, buyer) in labels:
            _label_edge(axes, places[seller], places[buyer], bend, labels[seller, buyer])
    for agent, (x, y) in places.items():
        text = f"{names[agent]}\n{notes[agent]}".strip()
        across = "center" if abs(x) < 0.3 else "left" if x > 0 else "right"
        down = "center" if abs(y) < 0.5 else "bottom" if y > 0 else "top"
        axes.text(1.17 * x, 1.17 * y, text, ha=across, va=down, fontsize=SMALL, color=_DARK)
    reach = 1.75 if any(notes) else 1.5
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-1.5, 1.5)


def _label_edge(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], bend: float, text: str
) -> None:
    """Write a price on an arrow, nearer to its buyer: there arrows of several sellers are apart."""
    a, b = np.array(start), np.array(end)
    along = b - a
    # Matplotlib bends to the right of the way, by this much of its length; the curve passes half as far.
    control = (a + b) / 2 + bend * np.array([along[1], -along[0]])
    t = 0.74
    x, y = (1 - t) ** 2 * a + 2 * t * (1 - t) * control + t**2 * b
    ground = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    axes.text(x, y, text, fontsize=SMALL - 1, ha="center", va="center", color=_DARK, bbox=ground)


def _draw_prices(axes: Axes, graph: Array, prices: Array, names: list[str], unit: str) -> None:
    n = len(graph)
    ground = np.where(graph > 0, 0.62, 0.06)
    np.fill_diagonal(ground, np.nan)
    axes.imshow(ground, cmap="Blues", vmin=0.0, vmax=1.0, aspect="equal")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks(range(n), names, fontsize=SMALL, rotation=45 if max(map(len, names)) > 3 else 0)
    if max(map(len, names)) > 3:
        for text in axes.get_xticklabels():
            text.set_horizontalalignment("right")
            text.set_rotation_mode("anchor")
    axes.set_yticks(range(n), names, fontsize=SMALL)
    axes.set_xlabel("buyer", fontsize=TEXT)
    axes.set_ylabel("seller", fontsize=TEXT)
    axes.set_title(f"(b) prices ({unit})", loc="left", fontsize=TEXT)
    if n > _MOST_CELL_NUMBERS:
        return
    for i in range(n):
        for j in range(n):
            if i != j:
                axes.text(
                    j,
                    i,
                    _number(float(prices[i, j])),
                    ha="center",
                    va="center",
                    fontsize=SMALL,
                    color="white" if graph[i, j] else _DARK,
                )
