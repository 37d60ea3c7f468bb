"""Figures of the accuracy-shaping paper, and the plots of any mechanism of the wing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.accuracy_shaping.model import AccuracyShaping
from mechopt.formulations.figures import COLOURS, GREY, LINE, MARKER, SMALL, label, legend, new_figure
from mechopt.formulations.functions import GeneralizationBound
from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Numbers = dict[str, Any]

COST = "marginal cost $c$ (accuracy per data point)"
DATA = "contribution $m$ (data points)"
ALONE, SHAPED = "alone, $m^*$", r"shaped, $m^{\max}$"

MAX_ACCURACY = 0.95
"""The paper's figures have lost their parameters; this is the value of the code that followed it."""

DIFFICULTIES = {1: "blue", 10: "vermilion", 100: "green", 1000: "purple"}
MANY_AGENTS = 60
"""Agents from which a plot draws lines instead of markers."""


def figure_2(max_accuracy: float = MAX_ACCURACY) -> tuple[Figure, Numbers]:
    """Draw what an agent contributes alone against its cost, under the generalization bound.

    Vertical lines are the viability costs, beyond which an agent contributes nothing.

    Returns
    -------
    figure : Figure
    numbers : dict
        ``cost``, and for each difficulty k ``contribution_k``, ``viability_cost_k`` and ``slope_k``, that of
        the curve between costs of 1e-7 and 1e-6.
    """
    cost = np.logspace(-7, -2, 101)
    figure, (axes,) = new_figure(height=2.6)
    numbers: Numbers = {"cost": cost}
    for difficulty, colour in DIFFICULTIES.items():
        accuracy = GeneralizationBound(max_accuracy, difficulty)
        limit = accuracy.viability_cost
        contribution = np.where(cost < limit, accuracy.inverse_derivative(cost), 0.0)
        served = np.append(cost[cost < limit], limit)
        axes.plot(
            served,
            accuracy.inverse_derivative(served),
            color=COLOURS[colour],
            linewidth=LINE,
            label=f"$k$ = {difficulty}",
        )
        axes.axvline(limit, color=COLOURS[colour], linewidth=0.8, linestyle=":")
        ends = np.log(contribution[[0, 20]])
        numbers |= {
            f"contribution_{difficulty}": contribution,
            f"viability_cost_{difficulty}": limit,
            f"slope_{difficulty}": float((ends[1] - ends[0]) / np.log(cost[20] / cost[0])),
        }
    axes.set_xscale("log")
    axes.set_yscale("log")
    label(axes, COST, "contribution alone $m^*$ (data points)")
    legend(axes, loc="lower left", title="difficulty", title_fontsize=SMALL)
    return figure, numbers


def figure_4(max_accuracy: float = MAX_ACCURACY) -> tuple[Figure, Numbers]:
    """Draw what accuracy shaping makes each of n equal agents contribute, against its cost and against n.

    Returns
    -------
    figure : Figure
    numbers : dict
        ``cost``, ``per_cost`` (difficulty 10, 20 agents) and ``alone_per_cost``; ``n_agents`` and
        ``per_agents_hard`` (difficulty 10, cost 1e-3: nobody is viable alone), ``per_agents_viable``
        (10, 1e-4) and ``per_agents_easy`` (1, 1e-3).
    """
    bound = GeneralizationBound(max_accuracy, 10)
    cost = np.unique(np.round(np.append(np.logspace(-5, -1.5, 71), [1e-5, 5e-4, 1e-3, 5e-3, 1e-2, 2e-2]), 12))
    alone = np.array(
        [float(AccuracyShaping(bound, np.array([c])).standalone().contribution[0]) for c in cost]
    )
    shaped = np.array([_each(bound, c, 20) for c in cost])
    n_agents = np.unique(np.round(np.append(np.logspace(0, 3, 25), [1, 2, 3, 5, 10, 20, 100, 1000])))
    groups = {
        "hard": (bound, 1e-3, "vermilion", "o"),
        "viable": (bound, 1e-4, "blue", "s"),
        "easy": (GeneralizationBound(max_accuracy, 1), 1e-3, "green", "^"),
    }
    figure, (left, right) = new_figure(2, width="page", height=2.6)
    _positive(left, cost, shaped, COLOURS["blue"], SHAPED)
    _positive(left, cost, alone, GREY, ALONE, linestyle="--")
    left.set_xscale("log")
    left.set_yscale("log")
    label(left, COST, DATA, title="20 agents, $k$ = 10")
    legend(left)
    numbers: Numbers = {"cost": cost, "per_cost": shaped, "alone_per_cost": alone, "n_agents": n_agents}
    for name, (accuracy, c, colour, shape) in groups.items():
        per_agent = np.array([_each(accuracy, c, int(n)) for n in n_agents])
        numbers[f"per_agents_{name}"] = per_agent
        exponent = int(np.floor(np.log10(c)))
        text = rf"$k$ = {accuracy.difficulty:g}, $c$ = $10^{{{exponent}}}$"
        _positive(right, n_agents, per_agent, COLOURS[colour], text, marker=shape, markersize=0.7 * MARKER)
    right.set_xscale("log")
    right.set_yscale("log")
    label(right, "number of agents $n$", r"contribution $m^{\max}$ (data points)")
    legend(right)
    return figure, numbers


def _each(accuracy: GeneralizationBound, cost: float, n_agents: int) -> float:
    return float(AccuracyShaping(accuracy, np.full(n_agents, cost)).solve()["contribution"][0])


def _positive(axes: Axes, x: Array, y: Array, colour: str, text: str, **style: Any) -> None:
    """Draw a curve where it is positive: axes are logarithmic."""
    axes.plot(x, np.where(y > 0, y, np.nan), color=colour, linewidth=LINE, label=text, **style)


FIGURES = {"figure_2": figure_2, "figure_4": figure_4}
"""Figures by name; each returns the figure and its numbers."""


# ------------------------------------------------------------ any mechanism


def plot_shaping(shaping: AccuracyShaping, kind: str = "contributions") -> Figure:
    """Draw what a mechanism makes of agents.

    Parameters
    ----------
    shaping : AccuracyShaping
    kind : {"contributions", "rewards"}
        ``"contributions"``: what each agent contributes alone, in standard federated learning, and shaped,
        against its cost. ``"rewards"``: the accuracy that agents get for their data, with the others' data at
        the equilibrium, for the cheapest and the dearest agent.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InvalidInput
        For another kind.
    """
    draw = {"contributions": _draw_contributions, "rewards": _draw_rewards}.get(kind)
    if draw is None:
        raise InvalidInput(f"kind must be 'contributions' or 'rewards', got {kind!r}")
    figure, (axes,) = new_figure(height=2.6)
    draw(shaping, axes)
    legend(axes)
    return figure


def _draw_contributions(shaping: AccuracyShaping, axes: Axes) -> None:
    order = np.argsort(shaping.marginal_costs, kind="stable")
    costs = shaping.marginal_costs[order]
    series = {
        SHAPED: (shaping.solve()["contribution"], "blue", "o"),
        ALONE: (shaping.standalone().contribution, "black", "s"),
        "standard federated": (shaping.standard_federated().contribution, "vermilion", "^"),
    }
    for text, (contribution, colour, shape) in series.items():
        style: dict[str, Any] = {"marker": shape, "markersize": MARKER, "markerfacecolor": "white"}
        if costs.size > MANY_AGENTS:
            style = {}
        axes.plot(costs, contribution[order], color=COLOURS[colour], linewidth=LINE, label=text, **style)
    axes.set_ylim(bottom=0)
    if costs[-1] > 20 * costs[0]:
        axes.set_xscale("log")
    label(axes, COST, DATA)


def _draw_rewards(shaping: AccuracyShaping, axes: Axes) -> None:
    mechanism = shaping.mechanism()
    profile = np.asarray(shaping.solve()["contribution"])
    order = np.argsort(shaping.marginal_costs, kind="stable")
    most = 1.4 * max(float(profile.max()), shaping.accuracy.min_viable_data)
    data = np.linspace(0.0, most, 301)
    axes.plot(data, shaping.accuracy(data), color=GREY, linewidth=LINE, linestyle="--", label="alone, $a(m)$")
    for agent, colour, who in ((order[0], "blue", "cheapest"), (order[-1], "vermilion", "dearest")):
        reward = []
        for amount in data:
            trial = profile.copy()
            trial[agent] = amount
            reward.append(float(mechanism.reward(trial)[agent]))
        axes.plot(data, reward, color=COLOURS[colour], linewidth=LINE, label=f"{who} agent")
        axes.plot(
            [profile[agent]],
            [float(mechanism.reward(profile)[agent])],
            color=COLOURS[colour],
            marker="o",
            markersize=MARKER,
        )
        if shaping.n_agents == 1:
            break
    axes.set_ylim(bottom=0)
    label(axes, DATA, "accuracy of the model received")


__all__ = ["FIGURES", "figure_2", "figure_4", "plot_shaping"]
