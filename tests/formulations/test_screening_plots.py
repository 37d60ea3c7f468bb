"""Plots of continuous menus, of convergence, and of shadow prices: what they show, and that it is legible."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy import stats

import mechopt as mo
from mechopt.formulations.figures import COLOURS, plot_prices
from mechopt.formulations.screening.figures import plot_convergence
from mechopt.solvers.solution import Solution, Status

PAPER = mo.ContinuousContract(stats.uniform(0.01, 0.2), lo=0.01, hi=0.21, gain=mo.LogGain(100, 2))
BUMPS = stats.Mixture([stats.Normal(mu=0.35, sigma=0.05), stats.Normal(mu=0.8, sigma=0.05)])
CONTINUOUS = {
    "smooth": PAPER,
    "pooled": mo.ContinuousContract(BUMPS, lo=0.1, hi=1.0, gain=mo.LogGain(3, 1)),
    "excluding": mo.ContinuousContract(stats.uniform(0.1, 0.9), lo=0.1, hi=1.0, gain=mo.LogGain(1.8, 1)),
    "thin end": mo.ContinuousContract(stats.beta(2, 2, loc=0.1, scale=0.9), lo=0.1, hi=1.0),
}


@pytest.fixture(scope="module")
def menus() -> dict[str, Any]:
    return {name: contract.solve() for name, contract in CONTINUOUS.items()}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def assert_legible(figure: Figure) -> None:
    """No warning of a layout that does not fit; nothing outside the figure, no words on top of others."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    words = [
        (text, text.get_window_extent(renderer)) for legend in figure.legends for text in legend.get_texts()
    ]
    for axes in figure.axes:
        # The axis has more ticks than it draws; those it draws it tells only here.
        ticks = [tick for axis in (axes.xaxis, axes.yaxis) for tick in axis._update_ticks()]
        labels = [text for tick in ticks for text in (tick.label1, tick.label2)]
        for text in [axes.xaxis.label, axes.yaxis.label, axes._left_title, *labels]:
            if text.get_text() and text.get_visible() and (axes.xaxis.get_visible() or text not in labels):
                words.append((text, text.get_window_extent(renderer)))
    words = [(text, box) for text, box in words if box.width > 0]
    for text, box in words:
        assert box.x0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert box.y0 >= -1, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for i, (text, box) in enumerate(words):
        for other, its in words[i + 1 :]:
            apart = (
                box.x1 <= its.x0 + 1 or its.x1 <= box.x0 + 1 or box.y1 <= its.y0 + 1 or its.y1 <= box.y0 + 1
            )
            assert apart, (text, other)


# ------------------------------------------------------------ continuous menus


@pytest.mark.parametrize("name", CONTINUOUS)
def test_curves_are_the_menu(menus: dict[str, Any], name: str) -> None:
    menu = menus[name]
    figure = menu.plot("menu")
    (quantity,), (payment,) = (axes.lines for axes in figure.axes)
    eps = quantity.get_xdata()
    assert (eps[0], eps[-1]) == (menu.contract.lo, menu.contract.hi)
    expected = menu.quantity(eps)
    served = expected > 0
    assert np.array_equal(quantity.get_ydata()[served], expected[served])
    assert np.all(np.isnan(quantity.get_ydata()[~served]))
    assert np.array_equal(payment.get_ydata(), menu.payment(eps))
    assert all(axes.get_xlabel() == r"privacy level $\varepsilon$ (nats)" for axes in figure.axes)
    assert [axes.get_ylabel()[-9:] for axes in figure.axes] == ["(records)", "(utility)"]
    assert_legible(figure)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_rents_and_costs(menus: dict[str, Any], name: str) -> None:
    menu = menus[name]
    contract = menu.contract
    figure = menu.plot("rents")
    left, right = figure.axes
    eps = left.lines[0].get_xdata()
    assert np.array_equal(left.lines[0].get_ydata(), menu.rent(eps))
    virtual, true = right.lines
    assert np.array_equal(virtual.get_ydata(), contract.unit_cost * contract.virtual_type(eps))
    assert np.array_equal(true.get_ydata(), contract.unit_cost * eps)
    # Virtual costs that have no end do not hide the rest.
    assert right.get_ylim()[1] <= 6 * contract.unit_cost * contract.hi
    assert right.get_ylim()[1] >= contract.unit_cost * contract.hi
    assert_legible(figure)


def test_pools_and_excluded_types_are_shaded_where_they_are(menus: dict[str, Any]) -> None:
    menu = menus["pooled"]
    (pool,) = menu.pools
    figure = menu.plot("menu")
    assert texts(figure) == ["one contract for several types", "no contract"]
    for axes in figure.axes:
        shared, excluded = axes.patches
        assert (shared.get_x(), shared.get_x() + shared.get_width()) == pytest.approx((pool.start, pool.stop))
        assert (excluded.get_x(), excluded.get_x() + excluded.get_width()) == pytest.approx(
            (menu.cutoff, 1.0)
        )
        assert shared.get_facecolor() != excluded.get_facecolor()
    assert texts(menus["excluding"].plot("rents")) == ["no contract"]
    assert texts(menus["smooth"].plot("menu")) == []


def test_axis_of_quantities(menus: dict[str, Any]) -> None:
    """A log scale where they span decades; not because the last types served get next to nothing."""
    assert menus["smooth"].plot("menu").axes[0].get_yscale() == "log"
    assert menus["pooled"].plot("menu").axes[0].get_yscale() == "linear"
    low, high = menus["excluding"].plot("menu").axes[0].get_ylim()
    assert 1e-4 < low < 0.1 < 8 < high


@pytest.mark.parametrize("kind", ["menu", "rents"])
@pytest.mark.parametrize("name", ["smooth", "pooled", "excluding"])
def test_discrete_menus_as_markers(menus: dict[str, Any], name: str, kind: str) -> None:
    grid = CONTINUOUS[name].discretize(10)
    found = grid.solve()
    figure = CONTINUOUS[name].plot(kind, discrete=grid)
    left, right = figure.axes
    first, second = ("quantity", "payment") if kind == "menu" else ("rent", None)
    curve, marks = left.lines
    assert (curve.get_label(), marks.get_label()) == ("continuous types", "10 types")
    assert np.array_equal(marks.get_xdata(), grid.types)
    expected = np.where(found[first] > 0, found[first], np.nan) if kind == "menu" else found[first]
    assert np.array_equal(marks.get_ydata(), expected, equal_nan=True)
    assert marks.get_linestyle() == "None"
    if second:
        assert np.array_equal(right.lines[1].get_ydata(), found[second])
    else:
        shown = right.lines[2].get_ydata()
        kept = np.isfinite(shown)
        assert np.array_equal(shown[kept], grid.virtual_cost[kept])
        assert np.all(grid.virtual_cost[~kept] > right.get_ylim()[1])
    for axes in figure.axes:
        low, high = axes.get_ylim()
        for line in axes.lines:
            if line.get_linestyle() == "None":  # markers are not clipped, so they must lie inside
                shown = line.get_ydata()[np.isfinite(line.get_ydata())]
                assert np.all((shown >= low - 1e-9) & (shown <= high))
    assert_legible(figure)


def test_a_jump_is_drawn_upright() -> None:
    """With kinks quantities jump: the curve has a point right before and after, not a slope between."""
    gain = mo.PiecewiseLinearGain(slopes=[3, 0], intercepts=[0, 3], scale=1)
    contract = mo.ContinuousContract(stats.uniform(0.1, 0.9), lo=0.1, hi=1.0, gain=gain, unit_cost=1.7)
    menu = contract.solve()
    assert menu.cutoff < 1.0
    line = menu.plot("menu").axes[1].lines[0]
    eps, payment = line.get_xdata(), line.get_ydata()
    fall = int(np.argmin(np.diff(payment)))
    assert payment[fall] > 0.5 > payment[fall + 1]
    assert eps[fall + 1] - eps[fall] < 1e-8


def test_nobody_trades() -> None:
    contract = mo.ContinuousContract(stats.uniform(0.1, 0.9), lo=0.1, hi=1.0, gain=mo.LogGain(0.5, 1))
    for kind in ("menu", "rents"):
        figure = contract.plot(kind)
        assert texts(figure) == ["no contract"]
        assert_legible(figure)


def test_bad_kinds() -> None:
    with pytest.raises(mo.InvalidInput, match="'menu', 'rents' or 'convergence', got 'quantity'"):
        PAPER.plot("quantity")
    with pytest.raises(mo.InvalidInput, match="discrete has no place"):
        PAPER.plot("convergence", discrete=PAPER.discretize(3))
    with pytest.raises(mo.InvalidInput, match="discrete must be a ScreeningContract"):
        PAPER.plot("menu", discrete=10)
    for sizes in ([4], [4, 4], [8, 4]):
        with pytest.raises(mo.InvalidInput, match="increasing numbers of types"):
            plot_convergence(PAPER.solve(), sizes=sizes)
    with pytest.raises(mo.InvalidInput, match=r"sizes\[1\] must be a whole number"):
        plot_convergence(PAPER.solve(), sizes=[4, 8.5])


def test_rents_of_curved_costs() -> None:
    """What a type bears is the curve of its quantity, and costs are counted per unit of that."""
    contract = mo.ScreeningContract(
        types=[0.1, 0.2, 0.3], gain=mo.LogGain(20, 1), cost_curve=mo.PowerCost(exponent=2)
    )
    menu = contract.solve()
    left, right = contract.plot("rents", menu).axes
    rent = menu["payment"] - contract.types * menu["quantity"] ** 2
    assert left.lines[0].get_ydata() == pytest.approx(rent, abs=1e-12)
    assert rent[0] > rent[1] > 0
    assert right.get_ylabel() == "cost per unit of $h(q)$ (utility)"
    assert_legible(contract.plot("rents", menu))


# ------------------------------------------------------------ convergence


def test_convergence_of_the_papers_grids(menus: dict[str, Any]) -> None:
    """Known errors: of the value, and on the paper's grid of the payments, which are those of the rents."""
    figure = plot_convergence(menus["smooth"], sizes=[50, 100, 400, 1600])
    value, payment = figure.axes
    known = {
        "types at the right ends of cells": [2.894, 1.478, 0.3754, 0.0942],
        "at the left ends, as in the paper": [0.7284, 0.3486, 0.0841, 0.0208],
    }
    drawn = {line.get_label(): line for line in value.lines}
    for name, errors in known.items():
        assert drawn[name].get_xdata().tolist() == [50, 100, 400, 1600]
        assert drawn[name].get_ydata() == pytest.approx(errors, rel=2e-3)
    drawn = {line.get_label(): line for line in payment.lines}
    errors = drawn["at the left ends, as in the paper"].get_ydata()
    assert errors == pytest.approx([17.861, 9.537, 2.506, 0.6344], rel=1e-3)
    assert_legible(figure)


@pytest.mark.parametrize("name", ["smooth", "excluding"])
def test_errors_fall_along_the_guide(menus: dict[str, Any], name: str) -> None:
    figure = menus[name].plot("convergence")
    assert [axes.get_xlabel() for axes in figure.axes] == ["number of types $K$"] * 2
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "error of the value (utility)",
        "largest payment error (utility)",
    ]
    assert texts(figure)[2].startswith("slope −1")
    for axes in figure.axes:
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        guide = next(line for line in axes.lines if line.get_label().startswith("slope"))
        assert np.diff(np.log(guide.get_ydata())) == pytest.approx(-np.diff(np.log(guide.get_xdata())))
        for line in axes.lines:
            if line.get_linestyle() == "None":
                # The largest payment error sits at the steep end of the curve, and settles later.
                settled = 2 if axes is figure.axes[0] else 1
                order = -np.diff(np.log2(line.get_ydata()))[-settled:]
                assert order == pytest.approx(np.ones(settled), abs=0.1)
                assert np.all(line.get_ydata() < guide.get_ydata())
    assert_legible(figure)


# ------------------------------------------------------------ shadow prices


def answer(tolerance: float = 1e-6, no_duals: str = "", **prices: Any) -> Solution:
    """Make a solution with these prices; None for a family without."""
    duals = {
        name: tuple(np.asarray(p, dtype=float) for p in (price if isinstance(price, tuple) else (price,)))
        for name, price in prices.items()
        if price is not None
    }
    residuals = {**dict.fromkeys(prices, 0.0), "domain": 0.0}
    return Solution(
        Status.OPTIMAL, "", "test", duals=duals, residuals=residuals, tolerance=tolerance, no_duals=no_duals
    )


def names(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]


def notes(figure: Figure) -> dict[str, str]:
    return dict(
        zip(names(figure), (text.get_text() for text in figure.axes[-1].get_yticklabels()), strict=True)
    )


def points(figure: Figure, row: int) -> dict[str, list[float]]:
    """Sizes marked in a row, by colour."""
    found: dict[str, list[float]] = {}
    for line in figure.axes[0].lines:
        if line.get_marker() in ("o", "|") and abs(line.get_ydata()[0] - row) < 0.4:
            found.setdefault(to_hex(line.get_color()).upper(), []).extend(line.get_xdata().tolist())
    return found


def test_rows_of_prices() -> None:
    figure = plot_prices(answer(budget=0.64, floor=-20.0, cap=[0.0, 0.0, 3.0], none=[0.0] * 4, zero=0.0))
    assert names(figure) == ["budget", "floor", "cap", "none", "zero"]
    assert notes(figure) == {
        "budget": "0.64",
        "floor": "−20",
        "cap": "largest 3, 1 of 3 not 0",
        "none": "all 4 are 0",
        "zero": "0",
    }
    assert points(figure, 0) == {COLOURS["blue"]: [0.64]}
    assert points(figure, 1) == {COLOURS["vermilion"]: [20.0]}
    assert points(figure, 2) == {COLOURS["blue"]: pytest.approx([3.0], rel=1e-3)}
    assert points(figure, 3) == points(figure, 4) == {}
    assert figure.axes[0].get_xscale() == "log"
    assert texts(figure) == [
        "a larger right-hand side raises the objective",
        "a larger right-hand side lowers it",
    ]
    assert_legible(figure)


def test_profiles_of_vector_prices() -> None:
    prices = np.array([0.5, -1.0, 0.0, 2.0])
    figure = plot_prices(answer(budget=1.0, cap=prices))
    (profile,) = [line for line in figure.axes[1].lines if line.get_color() == "black"]
    assert profile.get_xdata().tolist() == [0.125, 0.375, 0.625, 0.875]
    # Row 1, drawn upwards on an axis that points down, scaled to the largest.
    assert 1 - profile.get_ydata() == pytest.approx(0.42 * prices / 2)
    assert points(figure, 1) == {
        COLOURS["blue"]: pytest.approx([0.5, 2.0], rel=1e-3),
        COLOURS["vermilion"]: pytest.approx([1.0], rel=1e-3),
    }
    assert figure.axes[1].get_xlabel() == "constraint within the family"
    assert len(plot_prices(answer(budget=1.0)).axes) == 2  # one panel, and the notes beside it


def test_families_of_several_constraints_are_one_row() -> None:
    figure = plot_prices(answer(both=([1.0, 0.0], 4.0)))
    assert notes(figure) == {"both": "largest 4, 2 of 3 not 0"}


@pytest.mark.parametrize("n_families", [1, 2, 7, 15])
def test_many_families_of_any_size_are_legible(n_families: int) -> None:
    rng = np.random.default_rng(n_families)
    prices: dict[str, Any] = {}
    for i in range(n_families):
        size = 10.0 ** rng.integers(-7, 6)
        name = f"a_rather_long_name_of_a_family_{i}" if i % 4 == 1 else f"family_{i}"
        prices[name] = size * rng.normal(size=60) if i % 2 else size * float(rng.normal())
    figure = plot_prices(answer(**prices, last=None))
    assert len(names(figure)) == n_families + 1
    low, high = figure.axes[0].get_xlim()
    for i, price in enumerate(prices.values()):
        marked = np.concatenate(list(points(figure, i).values()))
        assert marked.max() == pytest.approx(np.abs(price).max(), rel=1e-3)
        assert low <= marked.min() <= marked.max() < high
    assert_legible(figure)


def test_absent_prices_are_stated() -> None:
    figure = plot_prices(answer(no_duals="the program has integer variables", menu_size=None, monotone=None))
    assert notes(figure) == {"menu_size": "no price", "monotone": "no price"}
    assert figure._supxlabel.get_text() == "No prices: the program has integer variables"
    assert not figure.axes[0].xaxis.get_visible()
    assert_legible(figure)
    figure = plot_prices(answer(budget=2.0, other=None))
    assert figure._supxlabel.get_text() == "No price for other: the answer has none"


def test_noise_counts_as_zero_within_a_family() -> None:
    assert notes(plot_prices(answer(cap=[1.0, 1e-7, -1e-9])))["cap"] == "largest 1, 1 of 3 not 0"
    assert (
        notes(plot_prices(answer(tolerance=1e-8, cap=[1.0, 1e-7, -1e-9])))["cap"] == "largest 1, 2 of 3 not 0"
    )


def test_a_solved_contract() -> None:
    """Prices of the local form: the costate on the upward constraints, one unit of outside option on IR."""
    contract = mo.ScreeningContract(types=np.linspace(0.05, 0.21, 12), gain=mo.LogGain(100, 2))
    program = contract.program("local")
    program.add("slack", program["expected_payment"] <= 1000)
    program.add("budget", program["expected_payment"] <= 60)
    solution = program.solve("clarabel")
    figure = plot_prices(solution, program)
    assert names(figure) == ["ic_up", "ic_down", "ir", "slack", "budget"]
    said = notes(figure)
    assert said["budget"] == f"{float(solution.dual('budget')):.3g}"
    # Interior-point solvers return small numbers for these; they cannot be told from 0.
    assert float(np.abs(solution.dual("slack"))) > 0
    assert said["slack"] == "0"
    assert said["ic_down"] == "all 11 are 0"
    assert said["ir"].endswith("1 of 12 not 0")
    assert said["ic_up"].endswith("none of 11 is 0")
    assert_legible(figure)


def test_families_that_only_the_program_knows() -> None:
    program = PAPER.discretize(3).program()
    program.add("budget", program["expected_payment"] <= 60)
    figure = plot_prices(program.solve(), program)
    assert names(figure) == ["monotone", "budget"]
    assert notes(figure)["monotone"] == "no price"
    with pytest.raises(mo.InvalidInput, match="no families"):
        plot_prices(PAPER.discretize(1).solve().replace(residuals={}))
