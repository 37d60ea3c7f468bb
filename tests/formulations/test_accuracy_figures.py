"""Figures of the accuracy-shaping paper: their numbers, their axes, and what the plots of the wing draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.accuracy_shaping import figures, published


@pytest.fixture(scope="module")
def drawn() -> dict[str, Any]:
    return {name: draw() for name, draw in figures.FIGURES.items()}


def test_numbers_are_the_known_ones(drawn: dict[str, Any]) -> None:
    counts = {name: published.check_numbers(name, numbers) for name, (_, numbers) in drawn.items()}
    assert sum(n for n, _ in counts.values()) == len(published.PUBLISHED) >= 40
    for name, (_, numbers) in drawn.items():
        for series in numbers:
            if not series.startswith(("contribution", "per_")):
                continue
            wrong = numbers | {series: numbers[series] * 1.001}
            with pytest.raises(mo.MechanismError, match=f"{name}, {series}"):
                published.check_numbers(name, wrong)


def test_axes_carry_labels_with_units(drawn: dict[str, Any]) -> None:
    for figure, _ in drawn.values():
        for axes in figure.axes:
            assert "(" in axes.get_ylabel()
            assert axes.get_xlabel()
            assert axes.get_legend() is not None
            assert axes.get_xscale() == axes.get_yscale() == "log"


def test_figure_2_draws_what_agents_do_alone(drawn: dict[str, Any]) -> None:
    figure, numbers = drawn["figure_2"]
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 2]
    assert len(lines) == 4
    for line, difficulty in zip(lines, (1, 10, 100, 1000), strict=True):
        accuracy = mo.GeneralizationBound(0.95, difficulty)
        cost, data = (np.asarray(part) for part in line.get_data())
        assert cost[-1] == numbers[f"viability_cost_{difficulty}"]
        # The definition: no other amount is worth more.
        for c, m in list(zip(cost, data, strict=True))[::20]:
            others = m * np.array([0.9, 0.99, 1.01, 1.1])
            assert np.all(accuracy(m) - c * m >= accuracy(others) - c * others)


def test_difficulty_10_slope_is_steeper_than_two_thirds(drawn: dict[str, Any]) -> None:
    """Erratum 10: the slope -2/3 belongs to the simple form (3) only."""
    numbers = drawn["figure_2"][1]
    slopes = [numbers[f"slope_{difficulty}"] for difficulty in (1, 10, 100, 1000)]
    assert np.all(np.array(slopes) < -0.677)
    assert np.all(np.diff(slopes) < 0)
    cost = np.array([1e-7, 1e-6])
    alone = mo.SqrtAccuracy(0.95, 10).inverse_derivative(cost)
    assert np.log(alone[1] / alone[0]) / np.log(10) == pytest.approx(-2 / 3, rel=1e-12)


def test_figure_4_is_between_once_and_three_times_what_agents_do_alone(drawn: dict[str, Any]) -> None:
    numbers = drawn["figure_4"][1]
    viable = numbers["alone_per_cost"] > 0
    ratio = numbers["per_cost"][viable] / numbers["alone_per_cost"][viable]
    assert np.all((ratio > 2) & (ratio < 3.3))
    for name in ("hard", "viable", "easy"):
        assert np.all(np.diff(numbers[f"per_agents_{name}"]) > 0)


@pytest.mark.parametrize("kind", ["contributions", "rewards"])
def test_plots_of_any_mechanism(kind: str) -> None:
    shaping = mo.AccuracyShaping(accuracy=mo.SqrtAccuracy(), marginal_costs=[0.05, 0.01, 0.02])
    figure = shaping.plot(kind)
    (axes,) = figure.axes
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in axes.lines}
    assert axes.get_xlabel()
    assert axes.get_ylabel()
    if kind == "contributions":
        shaped = np.asarray(shaping.solve()["contribution"])
        np.testing.assert_allclose(lines[figures.SHAPED], shaped[[1, 2, 0]])
        assert np.all(lines[figures.SHAPED] >= lines[figures.ALONE])
        assert lines["standard federated"][1:].max() == 0
    else:
        assert np.all(lines["dearest agent"] >= lines["alone, $a(m)$"] - 1e-12)


def test_plots_take_one_agent_many_agents_and_hopeless_ones() -> None:
    for costs in ([0.01], np.linspace(0.01, 0.5, 100), [5.0, 9.0]):
        shaping = mo.AccuracyShaping(accuracy=mo.SqrtAccuracy(), marginal_costs=costs)
        for kind in ("contributions", "rewards"):
            assert shaping.plot(kind).axes


def test_unknown_kind() -> None:
    shaping = mo.AccuracyShaping(accuracy=mo.SqrtAccuracy(), marginal_costs=[0.01])
    with pytest.raises(mo.InvalidInput, match="kind must be 'contributions' or 'rewards', got 'pie'"):
        shaping.plot("pie")
