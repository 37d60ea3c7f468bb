"""Fair value: what a platform pays, users' equilibria beside other packages', certificates, and programs.

The optimum of N interchangeable users is one root of a binomial expectation. pygambit and nashpy know nothing
of interchangeable users: they get the game as a table of all profiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from agreement import close, compiled
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom

from mechopt.formulations.fair_value.platform import PlatformPayments
from mechopt.formulations.fair_value.platform.exact import Game

Array = NDArray[np.float64]


def sharers(n_users: int) -> Array:
    """Mean estimation without privacy: U(k) = (N + 2) k / (N (k + 2))."""
    k = np.arange(n_users + 1.0)
    return (n_users + 2) / n_users * k / (k + 2)


def levels(n_users: int) -> Callable[[int, int], float]:
    """Return the same, where all users at the private level are worth a quarter of a sharer together."""
    worth = 0.25 / n_users
    return lambda private, sharing: (n_users + 2) / n_users * (x := worth * private + sharing) / (x + 2)


def payments_of(n_users: int) -> PlatformPayments:
    """Users of whom about 20 share."""
    worth = sharers(n_users)
    k = min(20, n_users)
    return PlatformPayments(worth, n_users, 0.5 * float(worth[k] - worth[k - 1]))


def levels_of(n_users: int) -> PlatformPayments:
    first = PlatformPayments(levels(n_users), n_users, 1.0)
    return PlatformPayments(levels(n_users), n_users, 0.5 * float(first.values.relative_payoff[0]))


# ------------------------------------------------------------ the optimum


def by_brentq(worth: Array, cost: float) -> float:
    """The first-order condition on whole binomial distributions."""
    n, marginal = worth.size - 1, np.diff(worth)
    if marginal[-1] >= cost:
        return float(worth[-1]) - n * cost
    k = np.arange(n + 1)
    q = brentq(lambda q: binom.pmf(k[:-1], n - 1, q) @ marginal - cost, 0.0, 1.0, xtol=1e-15)
    return float(binom.pmf(k, n, q) @ worth - n * cost * q)


@pytest.mark.parametrize("road", ["root alone", "solve"])
@pytest.mark.sizes(100, 1000, 10_000)
def test_optimum(versus: Any, size: int, road: str) -> None:
    payments = payments_of(size)
    worth, cost = sharers(size), float(payments.cost)
    game = Game(payments.values, cost)

    def root() -> float:
        found = game.symmetric()
        assert found is not None
        return found.objective

    versus(
        root if road == "root alone" else lambda: payments.solve().objective,
        {"brentq, scipy": lambda: by_brentq(worth, cost)},
        agree=close(1e-8),
        size=size,
    )


@pytest.mark.sizes(10, 40, 100)
def test_optimum_where_private_data_have_value(versus: Any, size: int) -> None:
    """Branch and bound with a certificate, beside 10,001 points that have none."""
    payments = levels_of(size)
    profile, payoff, cost = payments.values.profile, payments.values.relative_payoff, float(payments.cost)

    def on_points() -> float:
        q = np.linspace(0.0, 1.0, 10_001)[:, np.newaxis]
        total = binom.pmf(np.arange(size + 1), size, q) @ profile
        gain = binom.pmf(np.arange(size), size - 1, q) @ payoff
        share = np.where(gain > 0, cost / np.where(gain > 0, gain, 1.0), np.inf)
        share[0] = 0.0
        return float(np.max(np.where(share <= 1, (1 - share) * total, -np.inf)))

    def agree(own: float, other: float) -> None:
        assert other <= own * (1 + 1e-9)
        assert other == pytest.approx(own, rel=1e-5)

    versus(lambda: payments.solve().objective, {"10,001 points": on_points}, agree=agree, size=size)


def test_optimum_grows(growth: Any) -> None:
    growth(lambda n: payments_of(n).solve, (100, 1000, 10_000, 100_000), at_most=1.1)


def test_tabulation_grows(growth: Any) -> None:
    """A utility of two counts is called for all N^2 / 2 of them."""
    growth(lambda n: lambda: PlatformPayments(levels(n), n, 1.0), (25, 50, 100, 400), at_most=3)


@pytest.mark.sizes(40, smoke=8)
def test_certificates(versus: Any, size: int) -> None:
    """Branch and bound in Bernstein's basis beside the sum of squares."""
    worth = sharers(size)
    payments = PlatformPayments(worth, size, 0.4 * float(worth[1]))

    def agree(own: float, other: float) -> None:
        assert other == pytest.approx(own, abs=1e-6)

    versus(
        lambda: payments.certify("branch_and_bound").bound,
        {"sum of squares, clarabel": lambda: payments.certify("sum_of_squares").bound},
        agree=agree,
        size=size,
    )


# ------------------------------------------------------------ equilibria, and other packages

SHARE = 0.6
"""Payment share at which users play."""


def game_of(n_users: int) -> tuple[PlatformPayments, Game]:
    worth = sharers(n_users)
    payments = PlatformPayments(worth, n_users, 0.4 * float(worth[1]))
    return payments, Game(payments.values, float(payments.cost))


def tables(payments: PlatformPayments) -> list[Array]:
    """What each user gets, for all profiles; level 1 shares."""
    n = payments.n_users
    profile = np.indices([2] * n)
    others = profile.sum(axis=0) - profile
    payoff = np.append(payments.values.relative_payoff, 0.0)
    return list(np.where(profile == 1, SHARE * payoff[others] - float(payments.cost), 0.0))


def by_pygambit(table: list[Array]) -> list[list[float]]:
    import pygambit

    game = pygambit.Game.from_arrays(*table)
    found = pygambit.nash.logit_solve(game).equilibria[0]
    return [[float(list(found[player])[1][1]) for player in game.players]]


def by_nashpy(table: list[Array]) -> list[list[float]]:
    import nashpy

    found = nashpy.Game(*table).support_enumeration()
    return [[float(row[1]), float(column[1])] for row, column in found]


def regret_below(payments: PlatformPayments, most: float) -> Callable[[Any, Any], None]:
    """Check that what a package found is an equilibrium, by the definition, and so is ours."""

    def agree(own: tuple[float, ...], other: list[list[float]]) -> None:
        assert own
        assert other
        for profile in other:
            assert payments.regret(SHARE, np.clip(profile, 0, 1)) <= most

    return agree


@pytest.mark.sizes(20, smoke=6)
def test_symmetric_equilibrium_beside_pygambit(versus: Any, full: bool, size: int) -> None:
    """Ours of N = 20, beside theirs of 8 only: their table doubles with each user."""
    few = 8 if full else 3
    payments, _ = game_of(few)
    table = tables(payments)
    name = f"pygambit, {few} users"
    _, game = game_of(size)
    versus(
        lambda: game.equilibria(SHARE),
        {name: lambda: by_pygambit(table)},
        agree=regret_below(payments, 1e-5),
        at_least={name: 100},
        needs={name: "pygambit"},
        size=size,
    )


def test_equilibria_of_two_users_beside_nashpy(versus: Any) -> None:
    payments, game = game_of(2)
    table = tables(payments)

    def agree(own: tuple[float, ...], other: list[list[float]]) -> None:
        regret_below(payments, 1e-9)(own, other)
        alike = sorted(profile[0] for profile in other if abs(profile[0] - profile[1]) < 1e-9)
        np.testing.assert_allclose(own, alike, atol=1e-9)

    versus(
        lambda: game.equilibria(SHARE),
        {"nashpy": lambda: by_nashpy(table)},
        agree=agree,
        needs={"nashpy": "nashpy"},
        size=2,
    )


# ------------------------------------------------------------ declared programs


def test_bound_program_compiles(growth: Any) -> None:
    growth(
        lambda n: lambda: compiled(payments_of(n).bound_program("sum_of_squares").problem),
        (5, 10, 20, 40),
    )
