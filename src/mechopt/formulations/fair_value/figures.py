"""Figures of the fair-value paper."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.fair_value.federated.model import FederatedMeanEstimation
from mechopt.formulations.fair_value.platform import PlatformPayments
from mechopt.formulations.fair_value.platform.curves import WORKED_UTILITY, platform_curve, two_user_map
from mechopt.formulations.figures import (
    COLOURS,
    GREY,
    LINE,
    MARKER,
    SMALL,
    TEXT,
    label,
    legend,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Numbers = dict[str, Any]

DIFFERENCE = r"value less equal share $\phi_i - U/N$ (utility)"


# ------------------------------------------------------------ federated mean estimation

SMALL_SAMPLES, LARGE_SAMPLES = 10, 100
"""Samples of users with few and with many data; the paper gives the larger number only."""

SPLIT = (3, 2, 2, 2)
"""How many users there are of each kind of `KINDS`; the paper gives five federated and four direct ones."""

REGIMES = ((100.0, 1.0), (1.0, 10.0), (0.1, 100.0))
"""Variances between and within users, from users that differ much to users that are alike."""

KINDS = {
    "federated_10": (1, SMALL_SAMPLES, "blue", 0.45),
    "federated_100": (1, LARGE_SAMPLES, "blue", 1.0),
    "direct_10": (2, SMALL_SAMPLES, "vermilion", 0.45),
    "direct_100": (2, LARGE_SAMPLES, "vermilion", 1.0),
}
"""Kinds of users: level, number of samples, and how they are drawn."""

STARS = (
    ("direct_100", 100.0, 1.0),
    ("direct_100", 0.1, 100.0),
    ("federated_100", 100.0, 1.0),
    ("federated_100", 0.1, 100.0),
)
"""Kind of the important user and variances, in the four groups of Figure 5b."""


def ten_users(
    between: float, within: float, split: Sequence[int] = SPLIT, star: str = ""
) -> FederatedMeanEstimation:
    """Return the ten users of Figure 5: those of `KINDS`, and one that does not share.

    Parameters
    ----------
    between, within : float
        Variances s^2 and t^2.
    split : sequence of int, length 4
        Users of each kind, nine in all.
    star : str
        Kind of which the last user has importance 100, if any.
    """
    rows = []
    for (name, (level, samples, _, _)), size in zip(KINDS.items(), split, strict=True):
        rows += [(level, samples, 100.0 if name == star and k == size - 1 else 1.0) for k in range(size)]
    levels, num_samples, importance = np.array([*rows, (0, SMALL_SAMPLES, 1.0)]).T
    return FederatedMeanEstimation(levels.astype(np.intp), num_samples, between, within, importance)


def differences(estimation: FederatedMeanEstimation) -> dict[str, float]:
    """Value less an equal share of each kind of the ten users and ``star``, and the ``utility`` shared."""
    values, utility = estimation.fair_value(), estimation.utility()
    over = values - utility / estimation.n_users
    assert estimation.importance is not None  # set when it was made
    important = estimation.importance > 1
    found = {"utility": utility}
    for name, (level, samples, _, _) in KINDS.items():
        alike = (estimation.levels == level) & (estimation.num_samples == samples) & ~important
        found[name] = float(over[alike][0])
    if np.any(important):
        found["star"] = float(over[important][0])
    return found


def figure_5a(split: Sequence[int] = SPLIT) -> tuple[Figure, Numbers]:
    """Draw how fair values differ from an equal share of the utility, in three regimes of variances.

    Five of ten users are federated, four share directly, one does not share; all are equally important. The
    paper does not say how many samples the smaller users have, nor how many users are small: assumed are 10
    samples, three small and two large federated users, two and two that share directly.

    Parameters
    ----------
    split : sequence of int, length 4
        Users of each kind: small and large federated ones, small and large direct ones.

    Returns
    -------
    figure : Figure
    numbers : dict
        ``regime`` (1, 2, 3), and for each ``utility`` and the difference of each kind of `KINDS`.
    """
    found = [differences(ten_users(between, within, split)) for between, within in REGIMES]
    numbers: Numbers = {"regime": np.arange(1.0, 4.0)}
    numbers |= {name: np.array([each[name] for each in found]) for name in ("utility", *KINDS)}
    figure, (axes,) = new_figure(height=2.9)
    _bars(axes, numbers["regime"], {name: numbers[name] for name in KINDS})
    axes.set_xticks(numbers["regime"], [_regime(*pair) for pair in REGIMES], fontsize=SMALL)
    label(axes, "", DIFFERENCE)
    _legend(figure, axes)
    _note(figure, f"Assumed: $n$ = 10 of small users; {_counted(split)}.")
    return figure, numbers


def figure_5b(split: Sequence[int] = SPLIT) -> tuple[Figure, Numbers]:
    """Draw fair values less an equal share where one user, the star, is a hundred times as important.

    In two groups it shares directly, in two it is federated; each with users that differ much, and with users
    that are alike. The paper shows that the star of the last two groups is another user: that it is a large
    federated one is assumed, besides what `figure_5a` assumes.

    Parameters
    ----------
    split : sequence of int, length 4
        As for `figure_5a`; the star is one of the users counted.

    Returns
    -------
    figure : Figure
    numbers : dict
        ``group`` (1 to 4), and for each ``utility`` and the difference of each kind of `KINDS`, and ``star``.
    """
    found = [differences(ten_users(between, within, split, star)) for star, between, within in STARS]
    names = (*KINDS, "star")
    numbers: Numbers = {"group": np.arange(1.0, 5.0)}
    numbers |= {name: np.array([each[name] for each in found]) for name in ("utility", *names)}
    figure, panels = new_figure(4, width="page", height=2.7)
    for group, (axes, (star, between, within)) in enumerate(zip(panels, STARS, strict=True)):
        _bars(axes, np.array([0.0]), {name: numbers[name][group : group + 1] for name in names})
        axes.set_xticks([])
        label(axes, _regime(between, within), DIFFERENCE if group == 0 else "")
        axes.set_title(f"{axes.get_title('left')} star: {star.split('_')[0]}", loc="left", fontsize=TEXT)
    _legend(figure, panels[0])
    _note(figure, f"Assumed: the star has $n$ = 100 samples, small users 10; {_counted(split)}.")
    return figure, numbers


def _bars(axes: Axes, places: Array, heights: dict[str, Array]) -> None:
    """Draw bars side by side at each place, one a kind; a star above that of the important user."""
    width = 0.8 / len(heights)
    drawn = np.concatenate([*heights.values(), [0.0]])
    lowest, tallest = float(drawn.min()), float(drawn.max())
    for number, (name, height) in enumerate(heights.items()):
        at = places + (number - (len(heights) - 1) / 2) * width
        if name == "star":
            shade, strength, text = "purple", 1.0, "star, $a$ = 100"
            style: dict[str, Any] = {"color": "black", "markersize": 1.6 * MARKER, "linestyle": "none"}
            axes.plot(at, height + 0.045 * (tallest - lowest), marker="*", **style)
        else:
            level, samples, shade, strength = KINDS[name]
            text = f"{'direct' if level == 2 else 'federated'}, $n$ = {samples}"
        axes.bar(at, height, 0.92 * width, color=_tint(COLOURS[shade], strength), label=text)
    axes.axhline(0.0, color="black", linewidth=0.6)
    axes.grid(False, axis="x")
    axes.tick_params(axis="x", length=0)
    axes.spines["bottom"].set_visible(False)


def _tint(colour: str, strength: float) -> tuple[float, ...]:
    """Mix a colour with white, so that grid lines do not shine through as they do with transparency."""
    from matplotlib.colors import to_rgb

    return tuple(1 - strength * (1 - part) for part in to_rgb(colour))


def _regime(between: float, within: float) -> str:
    return f"$s^2$ = {between:g}, $t^2$ = {within:g}"


def _counted(split: Sequence[int]) -> str:
    return f"{split[0]} small and {split[1]} large federated users, {split[2]} and {split[3]} direct"


def _legend(figure: Figure, axes: Axes) -> None:
    handles, texts = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        texts,
        loc="outside upper center",
        ncols=2 if len(texts) == 4 else 5,
        fontsize=SMALL,
        frameon=False,
        handlelength=1.0,
        handleheight=0.7,
        columnspacing=1.4,
    )


def _note(figure: Figure, text: str) -> None:
    """Say below the figure what is not the paper's."""
    characters = int(20 * figure.get_figwidth())
    figure.supxlabel("\n".join(textwrap.wrap(text, characters)), fontsize=SMALL, color="#4d4d4d")


# ------------------------------------------------------------ what the platform pays

CURVES = (
    ("total_utility", "total utility", "black", "-"),
    ("platform_utility", "platform keeps", "blue", "-"),
    ("payments", "users are paid", "vermilion", "--"),
)
"""What Figure 6 shows, and how it is drawn."""

CORNERS = ((0.1, 0.1), (0.2, 0.25), (0.1, 0.3), (0.3, 0.1), (0.5, 0.4), (0.4, 0.5), (0.6, 0.9), (0.7, 0.8))
"""Pairs of costs at which the maps of Figure 7 are held to known numbers."""

MOST_COST = 0.9
"""Where the axes of Figure 7 end: beyond, nobody shares."""


def figure_6(step: float = 0.01) -> tuple[Figure, Numbers]:
    """Draw what a platform makes of two users of equal cost: total utility, and who gets what of it.

    Users share both with the same probability, the symmetric equilibrium. There are three regimes: both
    share surely, both mix, nobody shares.

    Parameters
    ----------
    step : float
        Between costs (utility).

    Returns
    -------
    figure : Figure
    numbers : dict
        ``privacy_cost``; ``payment_share``, ``share_probability`` and the curves of `CURVES` at each;
        ``cost_threshold_low``, ``cost_threshold_high``.
    """
    costs = np.arange(0.0, 0.8 + step / 2, step)
    table = platform_curve(WORKED_UTILITY, costs)
    ends = PlatformPayments(np.array(WORKED_UTILITY), 2, 0.5).thresholds()
    numbers: Numbers = {"privacy_cost": costs} | {name: table[name].to_numpy() for name in table.columns}
    numbers |= {"cost_threshold_low": ends.low, "cost_threshold_high": ends.high}
    figure, (axes,) = new_figure(height=2.6)
    for name, text, colour, style in CURVES:
        axes.plot(costs, numbers[name], color=COLOURS[colour], linestyle=style, linewidth=LINE, label=text)
    for end, text in ((ends.low, "both mix"), (ends.high, "nobody shares")):
        axes.axvline(end, color=GREY, linewidth=0.8, linestyle=":")
        axes.text(end + 0.01, 1.04, text, fontsize=SMALL, color="#4d4d4d", va="center")
    axes.text(0.01, 1.04, "both share", fontsize=SMALL, color="#4d4d4d", va="center")
    axes.set_ylim(-0.03, 1.1)
    axes.set_xlim(0, 0.8)
    label(axes, "privacy cost $c$ of sharing (utility)", "utility")
    legend(axes, loc="center right", bbox_to_anchor=(1.02, 0.78))
    return figure, numbers


def figure_7(step: float = 0.0125) -> tuple[Figure, Numbers]:
    """Draw what a platform pays user 2, and what it keeps, for any costs of two users.

    The platform may count on the equilibrium that is best for it. Where both cost the same and one of them
    shares, it may be either.

    Parameters
    ----------
    step : float
        Between costs (utility); the numbers need one that divides 0.05.

    Returns
    -------
    figure : Figure
    numbers : dict
        ``pair`` (1 to 8, of `CORNERS`), and ``platform_utility``, ``payment_share``, ``payment_2`` at each.
    """
    costs = np.arange(0.0, MOST_COST + step / 2, step)
    table = two_user_map(WORKED_UTILITY, costs, costs)
    numbers: Numbers = {"pair": np.arange(1.0, len(CORNERS) + 1)}
    where = [tuple(int(np.argmin(np.abs(costs - cost))) for cost in pair) for pair in CORNERS]
    grids = {name: table[name].unstack().to_numpy() for name in table.columns}
    for name in ("platform_utility", "payment_share", "payment_2"):
        numbers[name] = np.array([grids[name][place] for place in where])
    figure, panels = new_figure(2, width="page", height=2.9)
    shown = (("payment_2", "payment to user 2"), ("platform_utility", "the platform keeps"))
    for axes, (name, text) in zip(panels, shown, strict=True):
        _draw_map(figure, axes, costs, grids[name], text)
    return figure, numbers


def _draw_map(figure: Figure, axes: Axes, costs: Array, values: Array, text: str) -> None:
    """Draw a map over both users' costs, and where each user shares."""
    # The first cost is across, and values have it down.
    image = axes.pcolormesh(costs, costs, values.T, cmap="cividis", shading="nearest", rasterized=True)
    axes.set_aspect("equal")
    axes.grid(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.85)
    bar.ax.tick_params(labelsize=SMALL, width=0.6)
    bar.set_label("utility", fontsize=SMALL)
    bar.outline.set_linewidth(0.6)
    for x, y, told in (
        (0.14, 0.14, "both"),
        (0.3, 0.66, "user 1"),
        (0.62, 0.28, "user 2"),
        (0.78, 0.78, "none"),
    ):
        ground = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        axes.text(x, y, told, fontsize=SMALL, ha="center", va="center", bbox=ground)
    label(axes, "cost $c_1$ of user 1 (utility)", "cost $c_2$ of user 2 (utility)", title=text)


FIGURES: dict[str, Callable[[], tuple[Figure, Numbers]]] = {
    "figure_5a": figure_5a,
    "figure_5b": figure_5b,
    "figure_6": figure_6,
    "figure_7": figure_7,
}
"""Figures by name; each returns the figure and its numbers."""

__all__ = ["FIGURES", "differences", "figure_5a", "figure_5b", "figure_6", "figure_7", "ten_users"]
