"""Figures of the data-externality paper, and plots of any market: who shares, and what policies do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.data_externality import examples
from mechopt.formulations.data_externality.model import DataExternality
from mechopt.formulations.data_externality.monopoly import Monopoly
from mechopt.formulations.data_externality.policy import Market, should_shut
from mechopt.formulations.figures import COLOURS, GREY, LINE, PAGE, SMALL, TEXT, label, legend, new_figure
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.solution import Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Numbers = dict[str, Any]

MOST_DRAWN = 40
"""Users beyond whom circles and numbers cannot be told apart."""

MOST_EDGES = 120
"""Correlations that are drawn, the largest ones."""

_DARK = "#333333"
_PALE = "#f2f2f2"


# ------------------------------------------------------------ figure 2

_PLACES = ((-1.3, 0.75), (1.3, 0.75), (-1.3, -0.75), (1.3, -0.75))
_HALF_WIDTH, _HALF_HEIGHT, _RADIUS = 0.86, 0.24, 0.12


def figure_2() -> tuple[Figure, Numbers]:
    """Draw the joining profiles of Example 1 and the best deviation from each: as printed, and repaired.

    As printed, users 1 and 3 against user 2 is an equilibrium; repaired, deviations go round for ever.

    Returns
    -------
    figure : Figure
    numbers : dict
        By ``profile`` 1 to 4 (figures 2a to 2d): payoffs ``payoff_1`` to ``payoff_3`` of the paper's users,
        ``leaver_gain`` of the user who is said to leave, ``best_gain`` and ``best_deviator`` (money); the
        last two also for the repaired example, with ``repaired_`` before.
    """
    figure, panels = new_figure(2, width="page", height=2.6)
    numbers: Numbers = {"profile": np.arange(1.0, 5.0)}
    for axes, repaired in zip(panels, (False, True), strict=True):
        model = examples.example_1(repaired)
        table = examples.figure_2(model)
        before = "repaired_" if repaired else ""
        if not repaired:
            numbers |= {f"payoff_{user + 1}": table[f"payoff_{user}"].to_numpy() for user in range(3)}
            numbers["leaver_gain"] = table["leaver_gain"].to_numpy()
        numbers[f"{before}best_gain"] = table["best_gain"].to_numpy()
        numbers[f"{before}best_deviator"] = table["best_deviator"].to_numpy() + 1
        _draw_profiles(axes, model)
        axes.set_title(
            f"{axes.get_title('left')} {'covariances .2 and .15 of user 3' if repaired else 'as printed'}",
            loc="left",
            fontsize=TEXT,
        )
    figure.supxlabel(
        "Boxes are platforms; filled users share. Arrows: the best deviation and its gain (money). "
        "Green: nobody gains by leaving.",
        fontsize=SMALL,
        color=_DARK,
    )
    return figure, numbers


def _draw_profiles(axes: Axes, model: DataExternality) -> None:
    """Draw the four joining profiles, each with an arrow to the profile that its best deviation leads to."""
    _bare(axes)
    axes.set_aspect("equal")
    axes.set_xlim(-2.25, 2.25)
    axes.set_ylim(-1.3, 1.3)
    game = model.duopoly()
    states = [np.array(profile) for profile in examples.FIGURE_2_PROFILES]
    arrows: dict[int, tuple[int, str]] = {}
    for state, profile in enumerate(states):
        move = game.best_deviation(profile)
        if move.gain <= game.tolerance or move.choice is None:
            continue
        moved = profile.copy()
        moved[move.agent] = move.choice
        # Platforms have no names: a profile and its mirror image are the same.
        target = next(
            i for i, other in enumerate(states) if np.array_equal(moved, other) or np.all(moved + other == 3)
        )
        arrows[state] = target, f"user {move.agent + 1} gains {_amount(move.gain)}"
    for state, profile in enumerate(states):
        _draw_state(axes, _PLACES[state], profile, game.sharing(profile), state not in arrows)
    for state, (target, text) in arrows.items():
        _draw_arrow(axes, _PLACES[state], _PLACES[target], text)


def _draw_state(
    axes: Axes, place: tuple[float, float], profile: NDArray[Any], sharing: NDArray[Any], stable: bool
) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y = place
    for label_, side in ((1, -1), (2, 1)):
        left = x - _HALF_WIDTH if side < 0 else x + 0.03
        edge = COLOURS["green"] if stable else GREY
        axes.add_patch(
            FancyBboxPatch(
                (left, y - _HALF_HEIGHT),
                _HALF_WIDTH - 0.03,
                2 * _HALF_HEIGHT,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=_PALE,
                edgecolor=edge,
                linewidth=1.8 if stable else 0.8,
            )
        )
        members = np.flatnonzero(profile == label_)
        for number, user in enumerate(members):
            at = (left + (_HALF_WIDTH - 0.03) * (number + 0.5) / len(members), y)
            _draw_user(axes, at, str(user + 1), bool(sharing[user]))


def _draw_user(axes: Axes, at: tuple[float, float], name: str, shares: bool) -> None:
    from matplotlib.patches import Circle

    axes.add_patch(
        Circle(
            at, _RADIUS, facecolor=COLOURS["blue"] if shares else "white", edgecolor=COLOURS["blue"], zorder=3
        )
    )
    axes.text(
        *at,
        name,
        ha="center",
        va="center",
        fontsize=SMALL,
        color="white" if shares else COLOURS["blue"],
        zorder=4,
    )


def _draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str) -> None:
    from matplotlib.patches import FancyArrowPatch

    a, b = np.array(start), np.array(end)
    step = b - a
    # From edge to edge of the boxes.
    reach = min(
        (_HALF_WIDTH + 0.08) / abs(step[0]) if step[0] else np.inf,
        (_HALF_HEIGHT + 0.08) / abs(step[1]) if step[1] else np.inf,
    )
    begin, finish = a + reach * step, b - reach * step
    axes.add_patch(
        FancyArrowPatch(
            tuple(begin),
            tuple(finish),
            arrowstyle="-|>",
            mutation_scale=9,
            color=COLOURS["vermilion"],
            linewidth=LINE,
            shrinkA=0,
            shrinkB=0,
        )
    )
    middle = (begin + finish) / 2
    # Between two boxes side by side there is no room: above them. Others have it to their right.
    if step[1] == 0:
        x, y = middle + np.array([0.0, math.copysign(0.37, middle[1])])
    else:
        x, y = middle + np.array([0.08 + 0.25 * (step[0] != 0), -0.05 * (step[0] != 0)])
        text = text.replace(" gains", "\ngains")
    side = "center" if step[1] == 0 else "left"
    axes.text(float(x), float(y), text, ha=side, va="center", fontsize=SMALL, color=_DARK, zorder=5)


def _amount(x: float) -> str:
    return (
        f"{x:.3g}" if x >= 1e-3 else f"{x * 10 ** -math.floor(math.log10(x)):.1f}e{math.floor(math.log10(x))}"
    )


# ------------------------------------------------------------ figure 3

CORRELATION = "correlation between groups $r$ (1)"
HIGH_VALUE = "high value of privacy $v_h$ (platform's: 1)"

_CURVES = (
    ("monopoly", "blue", "-", "one platform"),
    ("duopoly", "vermilion", "-", "two platforms"),
    ("theorem_4", "black", "--", "Theorem 4"),
)


def figure_3() -> tuple[Figure, Numbers]:
    """Draw where two groups of ten users have a negative surplus.

    (a) The surplus is negative above the curves, where no high-value user shares. (b) Below them one platform
    has a second region, in which everybody shares: an increase of the value may raise the surplus.

    Returns
    -------
    figure : Figure
    numbers : dict
        ``correlation``, and the curves ``monopoly``, ``duopoly``, ``theorem_4`` (where the printed bound is
        0) and ``second_region``; ``ratio`` of the duopoly's and the monopoly's k in 1 + k / r^2.
    """
    points = np.unique(
        np.round(np.append(np.linspace(0.045, 0.145, 81), [0.05, 0.08, 0.1, 0.12, 0.13, 0.14]), 9)
    )
    table = examples.figure_3(points)
    numbers: Numbers = {"correlation": points, **{name: table[name].to_numpy() for name in table}}
    numbers["ratio"] = float((numbers["duopoly"][0] - 1) / (numbers["monopoly"][0] - 1))
    figure, (left, right) = new_figure(2, width="page", height=2.8)
    top = 7.0
    for axes in (left, right):
        axes.fill_between(points, numbers["monopoly"], top, color=COLOURS["sky"], alpha=0.25, linewidth=0)
        axes.fill_between(
            points, numbers["duopoly"], 14.0, color=COLOURS["vermilion"], alpha=0.22, linewidth=0
        )
        for name, colour, style, text in _CURVES:
            axes.plot(
                points, numbers[name], color=COLOURS[colour], linestyle=style, linewidth=LINE, label=text
            )
    left.set_xlim(0.045, 0.145)
    left.set_ylim(1, top)
    left.text(0.065, 2.0, "positive", fontsize=SMALL, color=_DARK, ha="center")
    left.text(0.0615, 5.45, "negative\nwith one", fontsize=SMALL, color=_DARK, ha="center")
    left.text(0.115, 4.0, "negative\nwith one or two", fontsize=SMALL, color=_DARK, ha="center")
    label(left, CORRELATION, HIGH_VALUE)
    legend(left, loc="upper right", title="surplus 0 with", title_fontsize=SMALL)
    shown = ~np.isnan(numbers["second_region"])
    right.fill_between(
        points[shown],
        2 - examples.LOW_VALUE,
        numbers["second_region"][shown],
        color=COLOURS["blue"],
        alpha=0.45,
        linewidth=0,
        label="one platform, all share",
    )
    right.axhline(2 - examples.LOW_VALUE, color=GREY, linewidth=0.8, linestyle=":")
    right.set_xlim(0.11, 0.145)
    right.set_ylim(1.0, 2.5)
    right.text(0.137, 1.03, "positive", fontsize=SMALL, color=_DARK, ha="center")
    right.text(0.122, 1.45, "positive", fontsize=SMALL, color=_DARK, ha="center")
    label(right, CORRELATION, HIGH_VALUE)
    legend(right, loc="upper right", labels=["one platform, all share"], handles=[right.collections[-1]])
    return figure, numbers


FIGURES = {"figure_2": figure_2, "figure_3": figure_3}
"""Figures by name; each returns the figure and its numbers."""


# ------------------------------------------------------------ any market


def plot_network(
    x: DataExternality,
    solution: Solution | Monopoly | Mapping[str, Any],
    *,
    names: Sequence[str] | None = None,
    positions: ArrayLike | None = None,
    unit: str = "money",
) -> Figure:
    """Draw whose data are bought, at what price, and what leaks about the others.

    Those who share are black squares, with their price; the others circles, tinted by the share of their
    variance that leaks. Lines are correlations, the thicker the stronger, dashed if negative.

    Parameters
    ----------
    x : DataExternality
        Of at most 40 users.
    solution : Solution, Monopoly, or mapping
        Of `DataExternality.solve`, `monopoly`, `pigovian_tax` or `mediator`: ``sharing``, ``prices`` or
        ``compensation``, ``leaked_information``; each is left out if it is absent, and what leaks is computed
        from who shares.
    names : sequence of str, optional
        By default the users' numbers.
    positions : array, shape (n_users, 2), optional
        Where to draw them; by default correlated users are close.
    unit : str
        Of money, for the labels.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InvalidInput
        If there are too many users, a shape is wrong, or the solution tells neither who shares nor what
        leaks.
    """
    from matplotlib.colors import Normalize

    n = x.n_users
    if n > MOST_DRAWN:
        raise InvalidInput(f"a network of {n} users cannot be read; plot at most {MOST_DRAWN}")
    if names is not None and len(names) != n:
        raise InvalidInput(f"names has {len(names)} entries for {n} users")
    shown = [str(user) for user in range(n)] if names is None else [str(name) for name in names]
    sharing, leaked, money = _read(x, solution)
    correlation = x.covariance / np.sqrt(np.outer(x.variance, x.variance))
    at = _places(np.abs(correlation)) if positions is None else np.asarray(positions, dtype=float)
    if at.shape != (n, 2):
        raise InvalidInput(f"positions has shape {at.shape}; give two coordinates for each of {n} users")
    figure, (axes,) = new_figure(width="page", height=0.62 * PAGE)
    _bare(axes)
    _draw_correlations(axes, correlation, at)
    few = n <= 15
    size = 280 if few else 130
    share = leaked / x.variance
    others = axes.scatter(
        at[~sharing, 0],
        at[~sharing, 1],
        s=size,
        c=share[~sharing],
        cmap="YlOrRd",
        norm=Normalize(0.0, max(float(share[~sharing].max(initial=0.0)), 1e-6)),
        edgecolors=_DARK,
        linewidths=0.7,
        zorder=2,
    )
    axes.scatter(at[sharing, 0], at[sharing, 1], s=0.85 * size, marker="s", color="black", zorder=2)
    top = float(share[~sharing].max(initial=0.0))
    for user in range(n):
        # Short names fit inside; on black, and on the darker tints, in white.
        inside = len(shown[user]) <= 3
        below = [] if inside else [shown[user]]
        if money is not None and (sharing[user] or money[user] > 1e-9):
            below.append(f"{money[user]:.2g}")
        fonts: dict[str, Any] = {"fontsize": SMALL if few else SMALL - 2, "ha": "center", "zorder": 3}
        if inside:
            dark = sharing[user] or share[user] > 0.6 * top
            x_, y_ = map(float, at[user])
            axes.text(x_, y_, shown[user], va="center", color="white" if dark else "black", **fonts)
        axes.annotate(
            "\n".join(below),
            at[user],
            xytext=(0, -10 if few else -7),
            textcoords="offset points",
            va="top",
            color=_DARK,
            bbox={"boxstyle": "round,pad=0.05", "facecolor": "white", "edgecolor": "none", "alpha": 0.7},
            **{**fonts, "zorder": 1.5},
        )
    axes.margins(0.08)
    if np.any(~sharing):
        bar = figure.colorbar(others, ax=axes, shrink=0.7, pad=0.02)
        bar.set_label("leaked information (share of the user's variance)", fontsize=TEXT)
        bar.ax.tick_params(labelsize=SMALL)
    told = "Black squares share" if np.any(sharing) else "Nobody shares with the platform directly"
    if money is not None:
        told += f"; below: what each is paid ({unit})"
    figure.supxlabel(f"{told}. Lines: correlations, dashed if negative.", fontsize=SMALL, color=_DARK)
    return figure


def _read(
    x: DataExternality, solution: Solution | Monopoly | Mapping[str, Any]
) -> tuple[NDArray[np.bool_], Array, Array | None]:
    """Who shares, what leaks, and what each is paid if the solution tells."""
    if isinstance(solution, Monopoly):
        solution = vars(solution)
    if "sharing" not in solution and "leaked_information" not in solution:
        raise InvalidInput(
            "solution has neither 'sharing' nor 'leaked_information'; pass the answer of solve() or of "
            "mediator()"
        )
    sharing = np.zeros(x.n_users, dtype=bool)
    if "sharing" in solution:
        sharing = x.profile(np.round(np.asarray(solution["sharing"], dtype=float), 6))
    told = "leaked_information" in solution
    leaked = np.asarray(
        solution["leaked_information"] if told else x.leaked_information(sharing), dtype=float
    )
    if leaked.shape != (x.n_users,):
        raise InvalidInput(f"leaked_information has shape {leaked.shape}, and there are {x.n_users} users")
    money = next((solution[name] for name in ("prices", "compensation") if name in solution), None)
    return sharing, leaked, None if money is None else np.asarray(money, dtype=float)


def _draw_correlations(axes: Axes, correlation: Array, at: Array) -> None:
    pairs = [(i, j) for i in range(len(at)) for j in range(i) if abs(correlation[i, j]) > 0.02]
    for i, j in sorted(pairs, key=lambda pair: -abs(correlation[pair]))[:MOST_EDGES]:
        strength = float(correlation[i, j])
        axes.plot(
            *at[[i, j]].T,
            color=GREY,
            linewidth=0.2 + 2.3 * abs(strength),
            alpha=0.6,
            linestyle="-" if strength > 0 else (0, (3, 2)),
            zorder=1,
        )


def _places(strength: Array) -> Array:
    """Places at distances that fall with the strength of correlations, and keep users apart."""
    import networkx as nx

    n = len(strength)
    far = {i: {j: 1.6 - float(min(strength[i, j], 1.0)) for j in range(n) if j != i} for i in range(n)}
    layout = nx.kamada_kawai_layout(nx.complete_graph(n), dist=far)
    return np.array([layout[user] for user in range(n)])


def plot_policies(x: DataExternality, market: Market = "monopoly") -> Figure:
    """Draw the surplus of a data market beside that of what a regulator could do instead.

    Parameters
    ----------
    x : DataExternality
    market : {"monopoly", "duopoly"}
        See `should_shut`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    advice = should_shut(x, market)
    bars = {
        "no leak about users of high value": advice.no_leak_surplus,
        "mediator": advice.mediator_surplus,
        "taxes on what platforms buy": advice.taxed_surplus,
        "no data trade": 0.0,
        f"{market} as it is": advice.data_surplus,
    }
    kept = {name: value for name, value in bars.items() if value is not None}
    figure, (axes,) = new_figure(height=0.7 + 0.27 * len(kept))
    amounts = np.array(list(kept.values()))
    tints = [COLOURS["vermilion"] if amount < 0 else COLOURS["blue"] for amount in amounts]
    axes.barh(range(len(kept)), amounts, color=tints, height=0.6)
    axes.axvline(0, color=_DARK, linewidth=0.8)
    reach = float(np.abs(amounts).max()) or 1.0
    for row, amount in enumerate(amounts):
        axes.text(
            max(amount, 0) + 0.03 * reach,
            row,
            f"{amount:.3g}".replace("-", "−"),
            va="center",
            fontsize=SMALL,
            color=_DARK,
        )
    axes.set_xlim(min(float(amounts.min()), 0) - 0.05 * reach, max(float(amounts.max()), 0) + 0.3 * reach)
    axes.set_yticks(range(len(kept)), list(kept), fontsize=SMALL)
    axes.grid(False, axis="y")
    label(axes, "data surplus (money)", "")
    return figure


def _bare(axes: Axes) -> None:
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


__all__ = ["FIGURES", "figure_2", "figure_3", "plot_network", "plot_policies"]
