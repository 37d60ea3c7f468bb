"""Figures of the data-externality paper: their numbers, their axes, and what the plots of any market draw."""

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.data_externality import examples, figures, published
from mechopt.formulations.data_externality.policy import mediator, pigovian_tax

EXAMPLE = mo.DataExternality([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]], [0.5, 1.3, 3.0])


@pytest.fixture(scope="module")
def drawn():
    return {name: draw() for name, draw in figures.FIGURES.items()}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_numbers_are_the_known_ones(drawn):
    counts = {name: published.check_numbers(name, numbers) for name, (_, numbers) in drawn.items()}
    assert sum(n for n, _ in counts.values()) == len(published.PUBLISHED) >= 40
    for entry in published.PUBLISHED:
        numbers = drawn[entry.figure][1]
        wrong = numbers | {entry.name: np.asarray(numbers[entry.name]) + 3 * entry.tolerance}
        with pytest.raises(mo.MechanismError, match=f"{entry.figure}, {entry.name}"):
            published.check_numbers(entry.figure, wrong)


def test_figure_2_shows_an_equilibrium_and_a_cycle(drawn):
    figure, numbers = drawn["figure_2"]
    printed, repaired = figure.axes
    assert sum("gains" in text for text in texts(printed)) == 3
    assert sum("gains" in text for text in texts(repaired)) == 4
    assert "user 3\ngains 0.00385" in texts(repaired)
    green = [patch for patch in printed.patches if patch.get_linewidth() == 1.8]
    assert len(green) == 2
    assert numbers["best_deviator"][[0, 1, 3]].tolist() == [1, 2, 2]
    # Two platforms a profile; three users a profile.
    assert sum(type(patch).__name__ == "Circle" for patch in printed.patches) == 12


def test_figure_3_separates_signs_of_the_surplus(drawn):
    """A hair above and below each curve, by the markets themselves."""
    numbers = drawn["figure_3"][1]
    for r in (0.05, 0.1, 0.145):
        at = int(np.argmin(np.abs(numbers["correlation"] - r)))
        for step, sign in ((1e-4, -1), (-1e-4, 1)):
            one = examples.example_3(r, numbers["monopoly"][at] + step).monopoly()
            assert np.sign(one.data_surplus) == sign
            two = examples.example_3(r, numbers["duopoly"][at] + step).duopoly()
            assert np.sign(two.mixed_data_surplus) == sign
            bound = examples.example_3(r, numbers["theorem_4"][at] + step).printed_surplus_bound()
            assert np.sign(bound) == sign
    at = int(np.argmin(np.abs(numbers["correlation"] - 0.145)))
    top = numbers["second_region"][at]
    surplus = [
        examples.example_3(0.145, v).monopoly().data_surplus for v in (1.099, 1.101, top - 1e-4, top + 1e-4)
    ]
    assert np.sign(surplus).tolist() == [1, -1, -1, 1]
    assert np.all(np.isnan(numbers["second_region"][numbers["correlation"] < 0.119]))


def test_axes_carry_labels_with_units(drawn):
    for axes in drawn["figure_3"][0].axes:
        assert "(" in axes.get_ylabel()
        assert "(" in axes.get_xlabel()
        assert axes.get_legend() is not None


def test_network_of_a_market():
    figure = figures.plot_network(EXAMPLE, EXAMPLE.solve(), names=["Ann", "Bob", "Caroline"])
    axes, bar = figure.axes
    assert {"Ann", "Bob"} <= set(texts(axes))
    assert any(text.startswith("Caroline") for text in texts(axes))
    assert len(axes.lines) == 3
    assert "share of the user's variance" in bar.get_ylabel()
    others, sharers = axes.collections
    assert len(others.get_offsets()) == 1
    assert len(sharers.get_offsets()) == 2
    leaked = EXAMPLE.leaked_information({0, 1})[2]
    assert others.get_array()[0] == pytest.approx(leaked)


def test_network_of_a_mediator_a_tax_and_a_profile():
    places = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    figure = figures.plot_network(EXAMPLE, mediator(EXAMPLE), positions=places)
    assert "Nobody shares with the platform directly" in figure.get_supxlabel()
    np.testing.assert_allclose(figure.axes[0].collections[0].get_offsets(), places)
    assert figures.plot_network(EXAMPLE, pigovian_tax(EXAMPLE)).axes
    assert len(figures.plot_network(EXAMPLE, {"sharing": [1, 1, 1]}).axes) == 1


def test_network_of_forty_users():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(40, 6))
    x = mo.DataExternality(factor @ factor.T / 6 + 0.1 * np.eye(40), rng.uniform(0, 3, 40))
    sharing = rng.random(40) < 0.5
    figure = figures.plot_network(x, {"sharing": sharing})
    assert len(figure.axes[0].lines) == figures.MOST_EDGES
    at = np.vstack([c.get_offsets() for c in figure.axes[0].collections])
    gaps = np.linalg.norm(at[:, None] - at[None], axis=2)[np.triu_indices(40, 1)]
    assert gaps.min() > 0.02


def test_policies():
    figure = figures.plot_policies(EXAMPLE)
    (axes,) = figure.axes
    widths = [patch.get_width() for patch in axes.patches]
    np.testing.assert_allclose(widths, [0.100605, 0.190935, 0.156, 0.0, -0.057143], atol=1e-6)
    assert axes.get_xlabel() == "data surplus (money)"
    assert figures.plot_policies(EXAMPLE, "duopoly").axes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["a"]}, "names has 1 entries for 3 users"),
        ({"positions": [[0, 0]]}, r"positions has shape \(1, 2\)"),
        ({"solution": {"prices": [0, 0, 0]}}, "neither 'sharing' nor 'leaked_information'"),
        ({"solution": {"sharing": [0, 2, 0]}}, r"sharing\[1\] = 2 must be 0 or 1"),
        ({"solution": {"leaked_information": [0.0]}}, r"leaked_information has shape \(1,\)"),
    ],
)
def test_bad_networks(options, message):
    with pytest.raises(mo.InvalidInput, match=message):
        figures.plot_network(EXAMPLE, **({"solution": {"sharing": [1, 0, 0]}} | options))


def test_too_many_users():
    x = mo.DataExternality(np.eye(41), np.ones(41))
    with pytest.raises(mo.InvalidInput, match="a network of 41 users cannot be read"):
        figures.plot_network(x, {"sharing": np.zeros(41)})
