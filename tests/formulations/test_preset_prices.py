"""Prices announced before users join: user equilibria, their conditions, and equilibria on a grid."""

from itertools import product

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.data_externality.preset import PresetPrices, UserProfile
from tests.oracles.duopoly import leaked

PAIR = [[1.0, 0.5], [0.5, 1.0]]
TENTHS = np.linspace(0, 1, 11)


def payoff(model, choices, prices, user):
    """What a user gets, by the definition; ``choices[i] = (platform, shares)``."""
    platform, shares = choices[user]
    total = prices[platform - 1][user] if shares else 0.0
    for label in (1, 2):
        sharers = {i for i, (b, a) in enumerate(choices) if b == label and a}
        weight = 1.0 if label == platform else model.spillover
        scaled = leaked(model.covariance / model.noise_variance, sharers)[user]
        total -= weight * model.value_of_privacy[user] * model.noise_variance * scaled
    return total + model.service(user, frozenset(i for i, (b, _) in enumerate(choices) if b == platform))


def gains(model, choices, prices):
    return [
        payoff(model, (*choices[:user], other, *choices[user + 1 :]), prices, user)
        - payoff(model, choices, prices, user)
        for user in range(model.n_users)
        for other in product((1, 2), (False, True))
        if other != choices[user]
    ]


@pytest.mark.parametrize(
    ("n", "spillover", "noise"), [(1, 0.0, 1.0), (2, 0.0, 1.0), (2, 0.6, 2.0), (3, 0.3, 1.0)]
)
def test_user_equilibria_and_their_polyhedra(n, spillover, noise):
    rng = np.random.default_rng([n, int(10 * spillover)])
    factor = rng.normal(size=(n, n))
    model = mo.DataExternality(
        factor @ factor.T + 0.1 * np.eye(n),
        rng.uniform(0.2, 1.5, n),
        spillover=spillover,
        noise_variance=noise,
        joining_utility=lambda user, joined: 30.0 + 0.3 * len(joined),
    )
    game = PresetPrices(model)
    n_found = 0
    for _ in range(3):
        prices = rng.uniform(0, 1.5, (2, n))
        found = {repr(each) for each in game.user_equilibria(*prices)}
        n_found += len(found)
        for choices in product(product((1, 2), (False, True)), repeat=n):
            joining, sharing = (np.array(each) for each in zip(*choices, strict=True))
            profile = UserProfile(joining, sharing)
            expected = gains(model, choices, prices)
            matrix, bound = game.conditions(profile)
            assert matrix.shape == (3 * n, 2 * n)
            np.testing.assert_allclose(sorted(matrix @ prices.ravel() - bound), sorted(expected), atol=1e-10)
            assert (repr(profile) in found) == (max(expected) <= 1e-9)
            np.testing.assert_allclose(
                game.user_payoffs(profile, *prices),
                [payoff(model, choices, prices, user) for user in range(n)],
                atol=1e-10,
            )
    assert n_found


def test_profits():
    model = mo.DataExternality(PAIR, [0.5, 0.5], spillover=0.4)
    game = PresetPrices(model)
    profile = UserProfile(np.array([1, 2]), np.array([True, False]))
    # User 0 shares with platform 1, which also learns about user 1, elsewhere.
    np.testing.assert_allclose(game.profits(profile, [0.2, 9], [9, 9]), [0.5 + 0.4 * 0.125 - 0.2, 0.0])


def test_profiles_have_numbers():
    game = PresetPrices(mo.DataExternality(PAIR, [0.5, 0.5]))
    assert [game.number(game.profile(row)) for row in range(16)] == list(range(16))
    assert repr(game.profile(7)) == "UserProfile(joining [1, 2], sharing [1, 1])"


# ------------------------------------------------------------ among finitely many prices


def by_definition(game, grid, found):
    """Definition 3, with user equilibria found price by price."""
    users = {repr(each) for each in game.user_equilibria(*found.prices)}
    if repr(found.profile) not in users:
        return False
    for platform in (0, 1):
        for offer in grid.offers:
            prices = found.prices.copy()
            prices[platform] = offer
            worst = min(game.profits(each, *prices)[platform] for each in game.user_equilibria(*prices))
            if worst > found.profits[platform] + 1e-9:
                return False
    return True


def two_users(service):
    return PresetPrices(mo.DataExternality(PAIR, [0.5, 0.5], joining_utility=service))


def test_constant_services_split_users():
    game = two_users(5.0)
    grid = game.grid(TENTHS)
    found = list(grid.pure_equilibria())
    assert len(found) == 4
    assert all(each.profile.joining.tolist() in ([1, 2], [2, 1]) for each in found)
    prices = sorted(tuple(each.prices.ravel().round(9)) for each in found)
    assert prices == [(0.4,) * 4] * 2 + [(0.5,) * 4] * 2
    for each in found:
        np.testing.assert_allclose(each.profits, 0.5 - each.prices[0, 0])
        assert by_definition(game, grid, each)


def test_weak_network_effects_bring_all_together():
    game = two_users(lambda user, joined: 5 + 0.1 * len(joined))
    grid = game.grid(TENTHS)
    found = list(grid.pure_equilibria())
    assert grid.n_pure_equilibria() == (14, 11) == (len(found), 11)
    assert all(len(set(each.profile.joining.tolist())) == 1 for each in found)
    offers = [each.prices.round(9).tolist() for each in found]
    assert [[0.4, 0.6], [0.4, 0.5]] in offers
    assert all(by_definition(game, grid, each) for each in found[:4])


def test_strong_network_effects_support_almost_anything():
    game = two_users(lambda user, joined: 5.0 + len(joined))
    grid = game.grid(TENTHS)
    assert grid.n_pure_equilibria()[0] == 11616
    found = list(grid.pure_equilibria())
    assert len(found) == 11616
    assert any(not each.prices.any() for each in found)


def test_equilibria_are_all_on_a_small_grid():
    """Every pair of offers and profile, by the definition."""
    game = two_users(lambda user, joined: 5 + 0.1 * len(joined))
    grid = game.grid([0.3, 0.4, 0.5])
    found = {(repr(each.prices.tolist()), repr(each.profile)) for each in grid.pure_equilibria()}
    for first, second in product(grid.offers, grid.offers):
        for profile in game.user_equilibria(first, second):
            prices = np.stack([first, second])
            candidate = type(
                "Candidate",
                (),
                {"prices": prices, "profile": profile, "profits": game.profits(profile, first, second)},
            )
            assert ((repr(prices.tolist()), repr(profile)) in found) is by_definition(game, grid, candidate)


def test_one_user():
    for value, trades in ((0.5, True), (1.2, False)):
        game = PresetPrices(mo.DataExternality([[1.0]], [value]))
        grid = game.grid(TENTHS)
        found = list(grid.pure_equilibria())
        assert found
        assert any(each.profile.sharing[0] for each in found) is trades
        # Prices bid up to what data are worth, but for a step of the grid.
        assert max(each.profits.max() for each in found) <= 0.1 + 1e-9
        if trades:
            assert any(np.allclose(each.prices, 0.5) and each.profile.sharing[0] for each in found)


def test_epsilon():
    grid = two_users(5.0).grid(TENTHS)
    counts = [grid.n_pure_equilibria(epsilon)[0] for epsilon in (0.0, 0.05, 0.1, 0.5, 5.0)]
    assert counts == sorted(counts)
    assert counts[0] == 4 < counts[-1] == int(grid.is_user_equilibrium.sum())
    with pytest.raises(mo.InvalidInput, match="epsilon"):
        grid.n_pure_equilibria(-0.1)


def test_mixed_offers():
    """A pure equilibrium is a mixed one; other offers are one up to what a platform gains."""
    game = PresetPrices(mo.DataExternality([[1.0]], [0.5]))
    grid = game.grid([0.0, 0.3, 0.5])
    # After each pair of offers, the user equilibrium in which most is sold.
    sold = np.array([game.profile(row).sharing.sum() for row in range(4)])
    selection = np.where(grid.is_user_equilibrium, sold[:, None, None] + 1, 0).argmax(axis=0)
    sure = np.eye(3)
    assert grid.mixed_epsilon(sure[2], sure[2], selection) == pytest.approx(0.0, abs=1e-12)
    # At no price nothing is sold; .3 would bring .5 - .3.
    assert grid.mixed_epsilon(sure[0], sure[0], selection) == pytest.approx(0.2)
    # Half the time at .3, where one platform gets the user: .5 buys it at no profit, .3 is as good as now.
    half = np.array([0.0, 0.5, 0.5])
    profit = [
        sum(
            half[i] * half[j] * game.profits(game.profile(int(selection[i, j])), *grid.offers[[i, j]])[k]
            for i in range(3)
            for j in range(3)
        )
        for k in (0, 1)
    ]
    least = [(grid.least_profits[0] @ half).max(), (half @ grid.least_profits[1]).max()]
    assert grid.mixed_epsilon(half, half, selection) == pytest.approx(max(np.subtract(least, profit)))


def test_bad_input():
    game = two_users(5.0)
    with pytest.raises(mo.InvalidInput, match=r"4\^7 profiles of 7 users"):
        PresetPrices(mo.DataExternality(np.eye(7), np.ones(7)))
    with pytest.raises(mo.InvalidInput, match="prices_2 has 1 entries for 2 users"):
        game.user_equilibria([0.1, 0.2], [0.3])
    with pytest.raises(mo.InvalidInput, match=r"prices_1\[1\] is nan"):
        game.user_equilibria([0.1, np.nan], [0.3, 0.1])
    with pytest.raises(mo.InvalidInput, match="joining must be 1 or 2"):
        game.number(UserProfile(np.array([0, 1]), np.array([True, True])))
    with pytest.raises(mo.InvalidInput, match="prices is empty"):
        game.grid([])
    with pytest.raises(mo.InvalidInput, match="take fewer prices or users"):
        game.grid(np.linspace(0, 1, 101))
    grid = game.grid([0.4, 0.5])
    weights = np.full(4, 0.25)
    chosen = grid.is_user_equilibrium.argmax(axis=0)
    with pytest.raises(mo.InvalidInput, match="weights_2 must be 4 probabilities"):
        grid.mixed_epsilon(weights, weights * 2, chosen)
    with pytest.raises(mo.InvalidInput, match="selection must name a user equilibrium"):
        grid.mixed_epsilon(weights, weights, np.zeros((4, 4), dtype=int))
