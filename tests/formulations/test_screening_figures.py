"""Figures of the contract paper: their numbers, their looks as far as a test sees them, their files."""

import csv
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure

import mechopt as mo
from mechopt.formulations.figures import new_figure
from mechopt.formulations.published import Entry
from mechopt.formulations.screening import figures, published
from mechopt.formulations.screening.families import UniformCase
from mechopt.studies import reproduce
from mechopt.studies.reproduce import reproduce_paper

SMOOTH = mo.ScreeningContract(types=np.linspace(0.014, 0.21, 50), gain=mo.LogGain(weight=100, scale=2))
POOLED = mo.ScreeningContract(types=[1.0, 1.8, 1.9], gain=mo.LogGain(weight=50, scale=2))
EXCLUDING = mo.ScreeningContract(types=np.linspace(0.1, 1, 10), gain=mo.LogGain(weight=1.8, scale=1))


def at(levels, values, eps):
    index = int(np.argmin(np.abs(levels - eps)))
    assert levels[index] == pytest.approx(eps, abs=1e-12)
    return values[index]


@pytest.fixture(scope="module")
def drawn():
    return {name: draw() for name, draw in figures.FIGURES.items()}


@pytest.mark.parametrize(
    ("eps", "quantity", "rent", "payment"),
    [
        (0.01, 9950.0, 184.1563, 283.6563),
        (0.05, 1101.111, 75.0998, 130.1554),
        (0.11, 471.645, 33.1292, 85.0101),
        (0.21, 241.5215, 0.0, 50.7195),
    ],
)
def test_curves_pass_through_the_known_numbers(drawn, eps, quantity, rent, payment):
    two, four = drawn["figure_2"][1], drawn["figure_4"][1]
    assert at(two["eps"], two["quantity"], eps) == pytest.approx(quantity, abs=5e-4)
    assert at(four["eps"], four["rent"], eps) == pytest.approx(rent, abs=5e-5)
    assert at(four["eps"], four["payment"], eps) == pytest.approx(payment, abs=5e-5)


def test_values(drawn):
    two, four = drawn["figure_2"][1], drawn["figure_4"][1]
    assert two["value"] == pytest.approx(369.789343, abs=5e-7)
    assert two["first_best_value"] == pytest.approx(430.3317, abs=5e-5)
    assert two["total_value"] == pytest.approx(5 * two["value"])
    # What the demander and the holders keep together is less than if types were observed.
    assert two["value"] + four["expected_rent"] < two["first_best_value"]
    values = [four[f"value_{k}"] for k in (5, 10, 20, 50)]
    assert values == pytest.approx([379.8671, 374.2929, 371.8095, 370.5178], abs=5e-5)
    assert all(a > b > two["value"] for a, b in pairwise(values))


def test_markers_of_figure_3_lie_on_the_curve(drawn):
    figure, numbers = drawn["figure_3"]
    for axes, n_types in zip(figure.axes, (10, 50), strict=True):
        types, quantity = numbers[f"types_{n_types}"], numbers[f"quantity_{n_types}"]
        curve = 100 / (2 * types - 0.01) - 1 / (2 * types)
        assert np.max(np.abs(quantity / curve - 1)) <= 1e-12
        markers = axes.lines[1]
        assert np.array_equal(markers.get_xdata(), types)
        assert np.array_equal(markers.get_ydata(), quantity)
        assert axes.get_yscale() == "log"


def test_payments_of_figure_4_lie_below_the_curve_and_rise_towards_it(drawn):
    numbers = drawn["figure_4"][1]
    gaps = []
    for n_types in (5, 10, 20, 50):
        types, payment = numbers[f"types_{n_types}"], numbers[f"payment_{n_types}"]
        curve = np.interp(types, numbers["eps"], numbers["payment"])
        assert np.all(payment < curve)
        gaps.append(np.max(curve - payment))
    assert all(a > b for a, b in pairwise(gaps))
    assert gaps[-1] / 283.6563 == pytest.approx(0.063, abs=5e-4)


def test_axes_carry_labels_with_units(drawn):
    plots = [SMOOTH.plot("menu"), SMOOTH.plot("rents")]
    for figure in [*(figure for figure, _ in drawn.values()), *plots]:
        assert isinstance(figure, Figure)
        for axes in figure.axes:
            assert axes.get_xlabel() == r"privacy level $\varepsilon$ (nats)"
            assert axes.get_ylabel().endswith(("(records)", "(utility)"))


def test_other_parameters():
    case = UniformCase(0.1, 1.0, mo.LogGain(weight=1.8, scale=1))
    _, numbers = figures.figure_2(case, n_holders=3)
    assert at(numbers["eps"], numbers["quantity"], 0.1) == pytest.approx(8.0)
    assert np.all(numbers["quantity"][numbers["eps"] > 0.5 + 1e-9] == 0)
    assert numbers["total_value"] == 3 * numbers["value"]


def test_no_pyplot_state():
    import sys

    import matplotlib as mpl

    before = dict(mpl.rcParams)
    figures.figure_4()
    SMOOTH.plot()
    assert dict(mpl.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_panels_are_lettered():
    figure, panels = new_figure(3, width="page")
    assert [axes.get_title("left") for axes in panels] == ["(a)", "(b)", "(c)"]
    assert figure.get_figwidth() == 7.0
    assert new_figure()[1][0].get_title("left") == ""


# ------------------------------------------------------------ published numbers


def test_published_numbers_are_held_to_their_digits(drawn):
    counts = {name: published.check_numbers(name, numbers) for name, (_, numbers) in drawn.items()}
    assert sum(n for n, _ in counts.values()) == len(published.PUBLISHED) >= 60
    assert max(worst for _, worst in counts.values()) < 1e-5
    assert Entry("figure_2", "quantity", ".02", "3308.333").tolerance == pytest.approx(5e-4)
    assert Entry("figure_2", "quantity", ".01", "9950").tolerance == 0.5


@pytest.mark.parametrize(
    ("figure", "series"), [("figure_2", "quantity"), ("figure_3", "quantity_50"), ("figure_4", "payment_10")]
)
def test_a_number_that_is_off_is_named(drawn, figure, series):
    wrong = dict(drawn[figure][1])
    wrong[series] = wrong[series] + 1.0
    with pytest.raises(mo.MechanismError, match=rf"{figure}, {series} at \.01: drawn .*, expected"):
        published.check_numbers(figure, wrong)


def test_a_missing_number_is_named(drawn):
    numbers = dict(drawn["figure_2"][1])
    del numbers["value"]
    with pytest.raises(mo.MechanismError, match="figure_2, value: the figure has no 'value'"):
        published.check_numbers("figure_2", numbers)
    coarse = drawn["figure_2"][1] | {"eps": np.array([0.013]), "quantity": np.array([1.0])}
    with pytest.raises(mo.MechanismError, match="no point is drawn there"):
        published.check_numbers("figure_2", coarse)


def test_not_a_number_is_off(drawn):
    numbers = drawn["figure_2"][1] | {"value": float("nan")}
    with pytest.raises(mo.MechanismError, match="drawn nan"):
        published.check_numbers("figure_2", numbers)


# ------------------------------------------------------------ reproduce


def test_reproduce_writes_pictures_and_numbers(tmp_path):
    seen = []
    results = reproduce_paper("contract", tmp_path / "new", progress=lambda *step: seen.append(step))
    assert [result.name for result in results] == ["figure_2", "figure_3", "figure_4"]
    assert seen == [("figure_2", 0, 3), ("figure_3", 1, 3), ("figure_4", 2, 3)]
    for result in results:
        assert result.file.read_bytes().startswith(b"\x89PNG")
        assert result.file.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        assert result.n_numbers > 10
        assert 0 <= result.worst < 1e-5
    with (tmp_path / "new" / "figure_4.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    payment = [float(row["value"]) for row in rows if row["series"] == "payment_5"]
    assert payment[0] == pytest.approx(194.701, abs=5e-4)
    assert [row["index"] for row in rows if row["series"] == "value_5"] == [""]


def test_pictures_are_the_same_bytes_each_time(tmp_path):
    first, second = (reproduce_paper("contract", tmp_path / name)[0].file for name in "ab")
    for suffix in (".png", ".pdf", ".csv"):
        assert first.with_suffix(suffix).read_bytes() == second.with_suffix(suffix).read_bytes()


def test_reproduce_stops_at_a_wrong_figure(tmp_path, monkeypatch):
    def wrong():
        figure, numbers = figures.figure_2()
        return figure, numbers | {"quantity": 1.001 * numbers["quantity"]}

    paper = reproduce.PAPERS["contract"]
    monkeypatch.setitem(reproduce.PAPERS, "contract", type(paper)({"figure_2": wrong}, paper.check))
    with pytest.raises(mo.MechanismError, match="figure_2, quantity"):
        reproduce_paper("contract", tmp_path)


def test_unknown_paper_and_bad_folder(tmp_path):
    with pytest.raises(mo.InvalidInput, match=r"'contracts'.*contract"):
        reproduce_paper("contracts", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(mo.InvalidInput, match="cannot write"):
        reproduce_paper("contract", tmp_path / "file")


# ------------------------------------------------------------ plots of any contract


def shades(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.mark.parametrize("kind", ["menu", "rents"])
@pytest.mark.parametrize(
    ("contract", "expected"),
    [(SMOOTH, []), (POOLED, ["one contract for several types"]), (EXCLUDING, ["no contract"])],
    ids=["smooth", "pooled", "excluding"],
)
def test_plots_mark_pools_and_exclusion(contract, expected, kind, tmp_path):
    figure = contract.plot(kind)
    assert shades(figure) == expected
    figure.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


def test_plots_draw_the_menu_given():
    menu = {"quantity": np.array([3.0, 2.0, 2.0]), "payment": np.array([6.0, 5.0, 5.0])}
    left, right = POOLED.plot("menu", menu).axes
    assert left.lines[0].get_ydata().tolist() == [3.0, 2.0, 2.0]
    assert right.lines[0].get_ydata().tolist() == [6.0, 5.0, 5.0]
    left, right = POOLED.plot("rents", menu).axes
    assert left.lines[0].get_ydata() == pytest.approx([3.0, 1.4, 1.2])
    assert right.lines[0].get_ydata() == pytest.approx([1.0, 2.6, 2.1])
    assert shades(POOLED.plot("rents", menu)) == ["one contract for several types"]


def test_pool_is_shaded_where_it_is():
    (span,) = [p for p in POOLED.plot("menu").axes[0].patches if p.get_width() < 1]
    assert 1.75 < span.get_x() <= 1.8
    assert 1.9 <= span.get_x() + span.get_width() < 1.95


def test_plots_take_one_type_and_many():
    one = mo.ScreeningContract(types=[0.1], gain=mo.LogGain(weight=100, scale=2))
    many = mo.ScreeningContract(types=np.linspace(0.1, 1, 5000), gain=mo.LogGain(weight=100, scale=2))
    for contract in (one, many):
        for kind in ("menu", "rents"):
            contract.plot(kind).canvas.draw()
    assert many.plot("menu").axes[0].lines[0].get_marker() in ("None", None, "")


def test_unknown_kind_and_misfitting_menu():
    with pytest.raises(mo.InvalidInput, match="'menu' or 'rents', got 'quantities'"):
        SMOOTH.plot("quantities")
    with pytest.raises(mo.InvalidInput, match="quantity"):
        SMOOTH.plot("menu", {"quantity": [1.0], "payment": [1.0]})
