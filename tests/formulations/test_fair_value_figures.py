"""Figures of the fair-value paper: their numbers, another split of users, what the text says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.fair_value import figures, published
from tests.oracles.estimation import coalition_table, shapley_by_subsets, utility_by_users

OTHER_SPLIT = (2, 3, 2, 2)


@pytest.fixture(scope="module")
def drawn() -> dict[str, Any]:
    # The map's own step is finer, and shows the same numbers.
    coarse = {"figure_7": lambda: figures.figure_7(step=0.05)}
    return {name: coarse.get(name, draw)() for name, draw in figures.FIGURES.items()}


def test_numbers_are_the_known_ones(drawn: dict[str, Any]) -> None:
    counts = {name: published.check_numbers(name, numbers) for name, (_, numbers) in drawn.items()}
    assert sum(n for n, _ in counts.values()) == len(published.PUBLISHED)
    assert counts["figure_5a"][0] == 15
    assert counts["figure_5b"][0] == 24


@pytest.mark.parametrize("name", ["figure_5a", "figure_5b"])
def test_a_number_that_is_off_is_found(drawn: dict[str, Any], name: str) -> None:
    numbers = drawn[name][1]
    for series in ("utility", *figures.KINDS):
        with pytest.raises(mo.MechanismError, match=f"{name}, {series}"):
            published.check_numbers(name, numbers | {series: numbers[series] * 1.002})


@pytest.mark.parametrize("name", ["figure_5a", "figure_5b"])
def test_bars_are_the_numbers(drawn: dict[str, Any], name: str) -> None:
    figure, numbers = drawn[name]
    shown = np.sort([bar.get_height() for axes in figure.axes for bar in axes.patches])
    series = [numbers[kind] for kind in (*figures.KINDS, "star") if kind in numbers]
    np.testing.assert_allclose(shown, np.sort(np.concatenate(series)))
    assert "(utility)" in figure.axes[0].get_ylabel()
    assert len(figure.legends) == 1
    # What is assumed is said on the figure itself.
    assert "Assumed" in figure.get_supxlabel()
    assert "3 small and 2 large" in figure.get_supxlabel().replace("\n", " ")
    if name == "figure_5b":
        assert [len(axes.lines) for axes in figure.axes] == [2] * 4


@pytest.mark.parametrize(
    ("star", "between", "within"),
    [("", 1.0, 10.0), ("direct_100", 0.1, 100.0), ("federated_100", 100.0, 1.0)],
)
def test_values_by_all_coalitions_of_ten(star: str, between: float, within: float) -> None:
    estimation = figures.ten_users(between, within, star=star)
    assert np.bincount(estimation.levels).tolist() == [1, 5, 4]

    def utility(members: tuple[int, ...]) -> float:
        levels = np.where(np.isin(np.arange(10), members), estimation.levels, 0)
        return utility_by_users(levels, estimation.num_samples, between, within, estimation.importance)

    table = coalition_table(utility, 10)
    values = shapley_by_subsets(table, 10)
    scale = max(table.values())
    np.testing.assert_allclose(estimation.fair_value(), values, atol=1e-12 * scale)


def test_other_split() -> None:
    """Two small and three large federated users instead of three and two."""
    numbers = figures.figure_5a(OTHER_SPLIT)[1]
    known = (
        (-3.3819, -2.8051, 3.6491, 5.9519),
        (-1.1096, 0.3511, -0.2118, 2.3621),
        (-4.0904, 2.6530, -2.1483, 5.0180),
    )
    for regime, row in enumerate(known):
        found = [numbers[kind][regime] for kind in figures.KINDS]
        # To a unit of the last digit: one of them (0.3511, for 0.351045) is rounded up.
        assert found == pytest.approx(row, abs=1.01e-4)


@pytest.mark.parametrize("split", [figures.SPLIT, OTHER_SPLIT])
def test_what_the_text_says_of_different_amounts_of_data(split: tuple[int, ...]) -> None:
    numbers = figures.figure_5a(split)[1]
    small, large, direct_small, direct_large = (numbers[kind] for kind in figures.KINDS)
    # Users that differ much: the direct ones get the most, the federated ones less than an equal share.
    assert min(direct_small[0], direct_large[0]) > 0 > max(small[0], large[0])
    # Users that are alike: more data, more than an equal share.
    assert min(large[2], direct_large[2]) > 0 > max(small[2], direct_small[2])
    # For the same data, direct users get more; at n = 100 by a good deal.
    assert np.all(direct_small > small)
    assert np.all(direct_large > large)
    assert direct_large[2] - large[2] > 2
    # In between, differences are less pronounced.
    spread = np.ptp([small, large, direct_small, direct_large], axis=0)
    assert spread[1] < min(spread[0], spread[2])


def test_what_the_text_says_of_a_more_important_user(drawn: dict[str, Any]) -> None:
    numbers = drawn["figure_5b"][1]
    small, large, direct_small, direct_large = (numbers[kind] for kind in figures.KINDS)
    star = numbers["star"]
    # Users that differ much: the star alone has the benefit, more so if it shares directly.
    assert star[0] > 0.8 * numbers["utility"][0]
    assert max(small[0], large[0], direct_small[0], direct_large[0]) < 0
    # Users that are alike: large federated ones are above the average too, whoever the star is.
    assert min(large[1], direct_large[1], large[3], direct_large[3]) > 0
    for kind in (small, large, direct_small, direct_large):
        assert kind[1] == pytest.approx(kind[3], abs=2)
    # Ordinary federated users would have to pay in the third group (erratum 10).
    value = small[2] + numbers["utility"][2] / 10
    assert value == pytest.approx(-42.6, abs=0.05)


def test_smallest_marginals_of_the_figure() -> None:
    """By how much one user's joining can lower the utility: the known extremes."""
    for star, between, within, known in (("", 100.0, 1.0, -7.53), ("federated_100", 100.0, 1.0, -850.8)):
        estimation = figures.ten_users(between, within, star=star)
        table = estimation._table(list(estimation._kinds.sizes))
        falls = min(float(np.diff(table, axis=axis).min()) for axis in range(table.ndim))
        assert falls == pytest.approx(known, rel=1e-3)


def test_figure_6_is_what_the_formulas_say(drawn: dict[str, Any]) -> None:
    figure, numbers = drawn["figure_6"]
    cost = numbers["privacy_cost"]
    surely, mixed = cost <= 1 / 3, (cost > 1 / 3) & (cost < 2 / 3)
    keeps = np.select([surely, mixed], [1 - 2 * cost, (2 - 3 * cost) ** 2 / 3], 0.0)
    total = np.select([surely, mixed], [1.0, (4 - 9 * cost**2) / 3], 0.0)
    np.testing.assert_allclose(numbers["platform_utility"], keeps, atol=1e-12)
    np.testing.assert_allclose(numbers["total_utility"], total, atol=1e-12)
    # Nobody has anything from it but the platform: users are paid what sharing costs them.
    shared = np.select([surely, mixed], [1.0, 2 - 3 * cost], 0.0)
    np.testing.assert_allclose(numbers["payments"], 2 * cost * shared, atol=1e-12)
    (axes,) = figure.axes
    drawn_curves = {line.get_label(): line.get_ydata() for line in axes.lines}
    for name, text, _, _ in figures.CURVES:
        np.testing.assert_array_equal(drawn_curves[text], numbers[name])


def test_figure_7_is_symmetric_and_nobody_shares_beyond_two_thirds(drawn: dict[str, Any]) -> None:
    paid, kept = (axes.collections[0].get_array() for axes in drawn["figure_7"][0].axes[:2])
    np.testing.assert_allclose(kept, kept.T, atol=1e-12)
    costs = np.arange(19) * 0.05
    assert np.all(paid[costs > 2 / 3] == 0)
    assert np.all(kept[np.ix_(costs > 2 / 3, costs > 2 / 3)] == 0)
    # User 2 is paid 2/3 at most, and that where it hardly wants to share.
    assert paid.max() == pytest.approx(0.65)
    assert costs[np.unravel_index(np.argmax(paid), paid.shape)[0]] == pytest.approx(0.65)


@pytest.mark.parametrize("name", ["figure_6", "figure_7"])
def test_a_number_of_the_platform_that_is_off_is_found(drawn: dict[str, Any], name: str) -> None:
    numbers = drawn[name][1]
    for series in ("payment_share", "platform_utility"):
        with pytest.raises(mo.MechanismError, match=f"{name}, {series}"):
            published.check_numbers(name, numbers | {series: numbers[series] + 0.006})
