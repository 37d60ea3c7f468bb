"""What a line adds to the platform's program, other units, odd markets: each against all sets."""

import itertools

import cvxpy as cp
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import mechopt as mo
from mechopt.formulations.data_externality import efficient_sharing, relaxation_bound, uniform_shutdown_tax
from mechopt.formulations.data_externality.exact import platform_optimum
from mechopt.formulations.data_externality.exact.problem import rounding

SIGMA = np.array([[1.0, 0.6, 0.2, -0.3], [0.6, 1.0, 0.4, 0.1], [0.2, 0.4, 1.0, 0.5], [-0.3, 0.1, 0.5, 1.0]])
VALUE = np.array([0.5, 1.3, 0.8, 2.0])


def leak(covariance, noise, sharing):
    """By regression of all types on the shared data, users with noise of their own."""
    chosen = sorted(sharing)
    if not chosen:
        return np.zeros(len(covariance))
    inside = covariance[np.ix_(chosen, chosen)] + np.diag(noise[chosen])
    return np.diag(covariance[:, chosen] @ np.linalg.inv(inside) @ covariance[chosen])


def all_sets(n):
    return [frozenset(s) for size in range(n + 1) for s in itertools.combinations(range(n), size)]


def profit(covariance, noise, value, sharing, worth=1.0):
    paid = sum(
        value[i] * (leak(covariance, noise, sharing)[i] - leak(covariance, noise, sharing - {i})[i])
        for i in sharing
    )
    return worth * leak(covariance, noise, sharing).sum() - paid


def as_set(sharing):
    return frozenset(np.flatnonzero(np.asarray(sharing) > 0.5).tolist())


# ------------------------------------------------------------ extensions


@pytest.mark.parametrize("worth", [0.6, 2.5])
def test_another_worth_of_information(worth):
    """A platform that values information at w: values of privacy divided by w, money times w."""
    ones = np.ones(4)
    best = max(profit(SIGMA, ones, VALUE, s, worth) for s in all_sets(4))
    model = mo.DataExternality(SIGMA, VALUE / worth)
    assert worth * model.solve().objective == pytest.approx(best, rel=1e-12)
    surplus = max((worth - VALUE) @ leak(SIGMA, ones, s) for s in all_sets(4))
    assert worth * model.data_surplus(efficient_sharing(model)) == pytest.approx(surplus, rel=1e-12)


def test_noise_of_each_users_own():
    """Types and noise in units of the noise; leaks and payments weighted by its variance."""
    noise = np.array([0.5, 1.0, 2.0, 0.25])
    by_set = {s: profit(SIGMA, noise, VALUE, s) for s in all_sets(4)}
    program = mo.DataExternality(SIGMA / np.sqrt(np.outer(noise, noise)), VALUE).program()
    program.maximize(noise @ program["leaked_information"] - noise @ program["payments"])
    solution = program.solve("outer")
    assert by_set[as_set(solution["sharing"])] == pytest.approx(max(by_set.values()), abs=1e-9)
    assert solution.objective == pytest.approx(max(by_set.values()), abs=1e-5)


def test_users_who_share_together():
    ones = np.ones(4)
    best = max(profit(SIGMA, ones, VALUE, s) for s in all_sets(4) if (0 in s) == (3 in s))
    for backend in ("exact", "outer"):
        program = mo.DataExternality(SIGMA, VALUE).program()
        program.add("household", program["sharing"][0] == program["sharing"][3])
        assert program.solve(backend).objective == pytest.approx(best, abs=1e-6)


def test_sharing_in_part_is_bounded_only():
    model = mo.DataExternality(SIGMA, VALUE)
    assert relaxation_bound(model, np.ones(4, dtype=bool)) >= model.solve().objective - 1e-7


# ------------------------------------------------------------ units and odd markets


@pytest.mark.parametrize("scale", [1e-9, 1e-5, 1.0, 1e6])
def test_ties_are_relative_to_what_can_leak(scale):
    """Data that are little but noise tell far less than the variances: profits are as small, and differ."""
    covariance = scale * SIGMA
    ones = np.ones(4)
    by_set = {s: profit(covariance, ones, VALUE, s) for s in all_sets(4)}
    model = mo.DataExternality(covariance, VALUE)
    found = model.solve()
    best = max(by_set.values())
    # With so little information, what is left of it after cancellation in this test has few digits.
    assert by_set[as_set(found["sharing"])] >= best * (1 - 1e-5)
    assert rounding(covariance) <= max(1e-10 * model.total_information, 2e-14 * covariance.trace())
    assert len(found.extra["ties"]) == 1


def test_taxes_where_data_are_far_better_than_their_noise():
    """The loss that nobody is paid for is not computed by differences of what is next to 1."""
    covariance, value = 1e9 * np.array([[1.0, 0.4], [0.4, 2.0]]), np.array([1.2, 1.9])
    each = [float(mo.DataExternality(covariance[[[i]], i], [value[i]]).solve().objective) for i in range(2)]
    assert each == [0, 0]
    found = uniform_shutdown_tax(mo.DataExternality(covariance, value))
    # One user tells c^2 / (1 + x) of the other, and of itself for v > 1 less than it costs.
    x, y, c = 1e9, 2e9, 0.4e9
    alone = [c**2 / (1 + x) - 0.2 * x**2 / (1 + x), c**2 / (1 + y) - 0.9 * y**2 / (1 + y)]
    assert found == pytest.approx(max(*alone, 0.0), rel=1e-9, abs=1.0)


@pytest.mark.parametrize(
    ("covariance", "value"),
    [
        ([[2.0]], [0.5]),
        ([[2.0]], [1.5]),
        ([[1.0, 0.5], [0.5, 1.0]], [0.0, 0.0]),
        ([[1.0, 0.5], [0.5, 1.0]], [1.0, 1.0]),
        ([[1.0, 0.5], [0.5, 1.0]], [1e12, 0.5]),
        (np.ones((3, 3)), [0.5, 1.0, 2.0]),
    ],
)
def test_every_method_answers_odd_markets(covariance, value):
    """One user, duplicates, no privacy at all, indifference, and a value that nothing can pay."""
    model = mo.DataExternality(covariance, value)
    n, ones = model.n_users, np.ones(model.n_users)
    best = max(profit(model.covariance, ones, model.value_of_privacy, s) for s in all_sets(n))
    assert model.solve().objective == pytest.approx(best, abs=1e-9)
    assert model.solve(backend="outer").objective == pytest.approx(best, abs=1e-6)
    assert model.solve(set()).objective == 0
    game = model.duopoly()
    assert len(game.pure_equilibria) >= 1
    slack = 1e-9 * max(1.0, abs(game.mixed_social_surplus))
    assert game.mixed_social_surplus <= min(model.first_best().social_surplus, model.surplus_bound()) + slack
    assert model.mediator().objective >= model.first_best(1).data_surplus - 1e-9
    after = model.pigovian_tax()
    assert model.data_surplus(np.round(after["sharing"])) == pytest.approx(
        max((1 - model.value_of_privacy) @ leak(model.covariance, ones, s) for s in all_sets(n)), abs=1e-9
    )
    assert model.should_shut().shut is (model.monopoly().data_surplus < -1e-9)
    assert isinstance(model.should_shut("duopoly").shut, bool)


# ------------------------------------------------------------ methods on the model


def test_methods_are_those_of_the_modules():
    model = mo.DataExternality(SIGMA, VALUE, joining_utility=pd.Series([1.0, 2.0, 3.0, 4.0]))
    assert model.duopoly().payoffs([1, 1, 1, 1]).sum() > 5
    assert str(model.should_shut()) == str(mo.should_shut(model))
    assert model.should_shut(market="duopoly").market == "duopoly"
    assert model.preset_prices().model is model
    assert model.surplus_bound(3) != model.surplus_bound()
    assert mo.DataExternality(SIGMA, 0.5 * np.ones(4)).closed_form().case == "low value"
    with pytest.raises(mo.NotApplicable, match="solve"):
        model.closed_form()
    assert "4 users, 2 of high value" in repr(model)
    assert len(repr(mo.DataExternality(np.eye(30), np.ones(30)))) < 110
    assert "from users [] to users [0, 1, 2, 3] share" in repr(model.user_equilibria(0.42 * VALUE))
    assert isinstance(model.monopoly(), mo.Monopoly)
    assert isinstance(model.duopoly(), mo.Duopoly)


def test_pictures():
    with mpl.rc_context({"backend": "agg"}):
        model = mo.DataExternality(SIGMA, VALUE)
        texts = []
        for shown in (None, model.monopoly(), model.solve(), model.mediator({3}), {"sharing": [1, 0, 0, 0]}):
            figure = model.plot(shown, names=["ann", "bob", "cat", "dan"])
            texts.append({text.get_text() for axes in figure.axes for text in axes.texts})
        assert texts[0] == texts[1] == texts[2]
        assert texts[0] >= {"ann", "bob", f"{model.monopoly().prices[0]:.2g}"}
        assert texts[3] != texts[0]


def test_a_platform_of_all_is_quickly_taxed():
    """Taxes are part of the search: a rate for thirty users takes no longer than the purchase."""
    rng = np.random.default_rng(4)
    root = rng.normal(size=(30, 30))
    model = mo.DataExternality(root @ root.T / 30 + 0.05 * np.eye(30), rng.uniform(0.5, 2.5, 30))
    rate = uniform_shutdown_tax(model)
    cheaper = platform_optimum(model.covariance, model.value_of_privacy, tax=np.full(30, 0.999 * rate))
    assert cheaper.profit > 0
    assert platform_optimum(model.covariance, model.value_of_privacy, tax=np.full(30, rate)).profit < 1e-8
    assert model.should_shut().shutdown_tax == rate


# ------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"joining_utility": [1.0, 2.0, 3.0]}, "joining_utility has 3 entries for 4 users"),
        ({"joining_utility": lambda user, joined: "much"}, r"= 'much' must be a finite number >= 0"),
        ({"covariance": SIGMA + 0j}, "covariance must be real numbers"),
    ],
)
def test_bad_parameters(change, said):
    with pytest.raises(mo.InvalidInput, match=said):
        mo.DataExternality(**{"covariance": SIGMA, "value_of_privacy": VALUE, **change})


def test_caps_of_the_wrong_number():
    model = mo.DataExternality(SIGMA, VALUE)
    with pytest.raises(mo.InvalidInput, match="caps has 3 entries for 4 users"):
        mo.leak_covers(model, cp.Variable(4), [1.0, 1.0, 1.0])
