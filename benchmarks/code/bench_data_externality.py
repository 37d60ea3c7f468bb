"""Data externality: whose data a platform buys, the joining game, groups, the mediator, and programs.

The platform's profit of a set needs the posterior variances of all users. The alternatives write sets down as
one would with numpy: a regression for each set, kept in a table; an update of rank one along a Gray code; and
inverses of many matrices at once.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from agreement import close, compiled
from numpy.typing import NDArray

import mechopt as mo
from mechopt.formulations.data_externality import mediator_program
from mechopt.formulations.data_externality.exact import equilibrium_sharing_of_all, platform_optimum
from mechopt.formulations.data_externality.leakage import leak_table

Array = NDArray[np.float64]


def instance(n_users: int, most_value: float = 2.5, share: float = 1.0) -> tuple[Array, Array]:
    """A A' / k + .05 I with k = share n columns, and values of privacy in (1, most_value)."""
    rng = np.random.default_rng(0)
    columns = int(share * n_users)
    factor = rng.normal(size=(n_users, columns))
    covariance = factor @ factor.T / columns + 0.05 * np.eye(n_users)
    return covariance, rng.uniform(1, most_value, n_users)


# ------------------------------------------------------------ the platform's optimum


def leaks_by_regression(covariance: Array) -> Array:
    """What leaks about all users, for each set of those who share: a regression on their data."""
    n = len(covariance)
    leaks = np.zeros((2**n, n))
    for mask in range(1, 2**n):
        shares = np.flatnonzero(mask >> np.arange(n) & 1)
        known = covariance[shares]
        fitted = np.linalg.solve(known[:, shares] + np.eye(shares.size), known)
        leaks[mask] = np.einsum("ai,ai->i", known, fitted)
    return leaks


def profits(leaks: Array, value: Array) -> Array:
    """Leaks less payments, from the leaks with and without each user."""
    profit = leaks.sum(axis=1)
    masks = np.arange(len(leaks))
    for user, v in enumerate(value):
        inside = masks[masks >> user & 1 == 1]
        profit[inside] -= v * (leaks[inside, user] - leaks[inside ^ 1 << user, user])
    return profit


def by_gray_code(covariance: Array, value: Array) -> float:
    """Most profit, one user in or out at a time."""
    n = len(covariance)
    prior, posterior = float(np.trace(covariance)), covariance.copy()
    inside = np.zeros(n)
    best = 0.0
    for step in range(1, 2**n):
        user = (step & -step).bit_length() - 1
        sign = -1.0 if inside[user] else 1.0
        column = posterior[user].copy()
        posterior -= np.outer(column, column * (sign / (1 + sign * column[user])))
        inside[user] = 1 - inside[user]
        variance = posterior.diagonal()
        own = variance * inside
        best = max(best, prior - variance.sum() - value @ (own * own / (1 - own)))
    return float(best)


def by_inverses(covariance: Array, value: Array) -> float:
    """Most profit, from inverses of I + a S a for 4096 sets at once."""
    n, best = len(covariance), 0.0
    for start in range(0, 2**n, 4096):
        a = (np.arange(start, min(start + 4096, 2**n))[:, None] >> np.arange(n) & 1).astype(float)
        inverse = np.linalg.inv(np.eye(n) + a[:, :, None] * covariance * a[:, None, :])
        known = a[:, :, None] * covariance
        variance = np.diag(covariance) - np.einsum("kai,kab,kbi->ki", known, inverse, known, optimize=True)
        doubt = np.diagonal(inverse, axis1=1, axis2=2)
        payment = np.where(a > 0, variance**2 / doubt, 0.0) @ value
        best = max(best, float(np.max(np.trace(covariance) - variance.sum(axis=1) - payment)))
    return best


@pytest.mark.sizes(14, 18, smoke=8)
def test_enumeration(versus: Any, size: int) -> None:
    covariance, value = instance(size)
    versus(
        lambda: platform_optimum(covariance, value, method="enumeration").profit,
        {
            "regressions, kept": lambda: float(profits(leaks_by_regression(covariance), value).max()),
            "Gray code": lambda: by_gray_code(covariance, value),
            "inverses": lambda: by_inverses(covariance, value),
        },
        agree=close(1e-8),
        at_least={"regressions, kept": 4},
        size=f"2^{size}",
    )


@pytest.mark.sizes(18, 20, smoke=8)
def test_enumeration_beside_a_pass(versus: Any, size: int) -> None:
    """How far from the memory: one read and write of an array of all sets by all users."""
    covariance, value = instance(size)
    scratch = np.ones((4096, size))

    def a_pass() -> None:
        for _ in range(max(1, 2**size // 4096)):
            np.multiply(scratch, 1.000001, out=scratch)

    versus(
        lambda: platform_optimum(covariance, value, method="enumeration").profit,
        {"a pass": a_pass},
        agree=lambda own, other: None,
        size=f"2^{size}",
    )


@pytest.mark.sizes(10, 16, 20)
def test_branch_and_bound_beside_enumeration(versus: Any, size: int) -> None:
    covariance, value = instance(size)
    versus(
        lambda: platform_optimum(covariance, value, method="branch_and_bound").profit,
        {"enumeration, ours": lambda: platform_optimum(covariance, value, method="enumeration").profit},
        agree=close(1e-8),
        size=size,
    )


@pytest.mark.parametrize(("share", "most_value"), [(1.0, 1.3), (0.5, 2.5), (1.0, 2.5), (2.0, 2.5)])
def test_branch_and_bound_grows(growth: Any, share: float, most_value: float) -> None:
    """Exponential at worst: the exponent is that of a power of the number of users, between 16 and 40."""

    def make(n_users: int) -> Callable[[], Any]:
        covariance, value = instance(n_users, most_value, share)
        return lambda: platform_optimum(covariance, value, method="branch_and_bound")

    for found in growth(make, (16, 20, 24, 30, 40)).values():
        assert found.proved


@pytest.mark.sizes(14, 16, smoke=8)
def test_leak_table(versus: Any, size: int) -> None:
    covariance, _ = instance(size)
    table = leak_table(covariance)

    others: dict[str, Callable[[], Array]] = {"a copy": table.copy}
    if size <= 14:
        others["regressions"] = lambda: leaks_by_regression(covariance)
    versus(lambda: leak_table(covariance), others, agree=close(1e-8), size=f"2^{size}")


# ------------------------------------------------------------ the joining game


def sharing_by_sets(covariance: Array, value: Array) -> Array:
    """Profit of the best purchase for each set of users who joined, by going through its subsets."""
    n = len(covariance)
    leaks = leak_table(covariance)
    best = np.zeros(2**n)
    masks = np.arange(2**n)
    payment = leaks.sum(axis=1) - profits(leaks, value)
    for joined in range(2**n):
        sets = masks[masks & ~joined == 0]
        members = np.flatnonzero(joined >> np.arange(n) & 1)
        best[joined] = np.max(leaks[np.ix_(sets, members)].sum(axis=1) - payment[sets])
    return best


@pytest.mark.sizes(8, 10, smoke=6)
def test_purchases_from_every_set(versus: Any, size: int) -> None:
    covariance, value = instance(size)
    leaks = leak_table(covariance)
    payment = leaks.sum(axis=1) - profits(leaks, value)

    def agree(own: Array, other: Array) -> None:
        member = np.arange(2**size)[:, None] >> np.arange(size) & 1
        close(1e-8)(np.sum(leaks[own] * member, axis=1) - payment[own], other)

    versus(
        lambda: equilibrium_sharing_of_all(covariance, value),
        {"subsets of each set": lambda: sharing_by_sets(covariance, value)},
        agree=agree,
        size=f"2^{size}",
    )


def market_of(n_users: int) -> mo.DataExternality:
    covariance, value = instance(n_users)
    return mo.DataExternality(covariance, value, joining_utility=lambda user, joined: 10 + 0.1 * len(joined))


def equilibria_by_definition(market: mo.DataExternality) -> list[tuple[int, ...]]:
    """Go through all profiles, and ask each user whether it would move; outcomes of platforms are kept."""
    duopoly = market.duopoly()
    found = []
    for mask in range(2 ** (market.n_users - 1)):
        joining = 1 + (2 * mask >> np.arange(market.n_users) & 1)
        if duopoly.is_equilibrium(joining):
            found.append(tuple(joining.tolist()))
    return sorted(found)


@pytest.mark.sizes(8, 10, smoke=4)
def test_joining_equilibria(versus: Any, size: int) -> None:
    market = market_of(size)
    versus(
        lambda: sorted(tuple(joining.tolist()) for joining in market.duopoly().pure_equilibria),
        {"profile by profile": lambda: equilibria_by_definition(market)},
        agree=lambda own, other: np.testing.assert_equal(other, own),
        size=size,
    )


def test_joining_equilibria_grow(growth: Any) -> None:
    """In the number of pairs of who joined and who shares, 3^n: what has to be looked at."""
    growth(
        lambda n_pairs: lambda: market_of(round(np.log(n_pairs) / np.log(3))).duopoly().pure_equilibria,
        [3**n for n in (6, 8, 10, 12, 14)],
        at_most=1.2,
    )


# ------------------------------------------------------------ groups, mediator


def groups_of(n_each: int) -> mo.ExchangeableGroups:
    return mo.ExchangeableGroups(
        [n_each, n_each], 0.5 / n_each, across=1.0 / (2 * n_each), variances=1.0, value_of_privacy=[0.9, 1.2]
    )


@pytest.mark.sizes(6, smoke=3)
def test_groups(versus: Any, size: int) -> None:
    """By counting, and user by user."""
    groups = groups_of(size)
    versus(
        lambda: groups.duopoly().mixed_data_surplus,
        {"user by user, ours": lambda: groups.full().duopoly().mixed_data_surplus},
        agree=close(1e-8),
        size=f"{size} + {size}",
    )


def test_groups_grow(growth: Any) -> None:
    """The duopoly of two groups, by their size: N^2 counts who join."""
    growth(lambda n: lambda: groups_of(n).duopoly().mixed_data_surplus, (5, 10, 20, 30, 60))


def profit_by_counts(n_each: int, values: list[float]) -> float:
    """Most profit from three groups with all covariances 0.1, one vector of counts at a time."""
    common, own, n_groups = np.full((3, 3), 0.1), 0.9, 3
    value, best = np.array(values), 0.0

    def left(counts: Array) -> Array:
        inside = np.eye(n_groups) + common * (counts / (1 + own))
        return np.asarray(np.diag(np.linalg.solve(inside, common)) + own)

    for counts in product(range(n_each + 1), repeat=n_groups):
        m = np.array(counts)
        others = left(m)
        s = np.array([left(m - one)[g] if m[g] else 0.0 for g, one in enumerate(np.eye(3))])
        gain = m * (1 - s / (1 + s)) + (n_each - m) * (1 - others)
        best = max(best, float(np.sum(gain - m * value * s**2 / (1 + s))))
    return best


@pytest.mark.sizes(20, 50, smoke=3)
def test_three_groups(versus: Any, size: int) -> None:
    values = [1.05, 1.1, 1.2]

    def own() -> float:
        groups = mo.ExchangeableGroups([size] * 3, 0.1, across=0.1, variances=1.0, value_of_privacy=values)
        return float(groups.monopoly().profit)

    others = {"a loop over counts": lambda: profit_by_counts(size, values)}
    versus(own, others, agree=close(1e-8), size=f"3 x {size}")


@pytest.mark.sizes(20, smoke=4)
def test_mediator(versus: Any, size: int) -> None:
    """The closed form beside the semidefinite program."""
    market = mo.DataExternality(*instance(size))

    def agree(own: float, other: float) -> None:
        assert other == pytest.approx(own, rel=1e-4, abs=1e-6)

    versus(
        lambda: market.mediator().objective,
        {"clarabel": lambda: market.mediator(backend="clarabel").objective},
        agree=agree,
        size=size,
    )


# ------------------------------------------------------------ declared programs


def test_mediator_program_compiles(growth: Any) -> None:
    growth(
        lambda n: lambda: compiled(mediator_program(mo.DataExternality(*instance(n))).problem),
        (5, 10, 20, 40),
    )


def test_partition_program_compiles(growth: Any) -> None:
    """In the number of sets of users, each of which is a column."""
    growth(
        lambda n_sets: (
            lambda: (
                mo.DataExternality(*instance(n_sets.bit_length() - 1))
                .duopoly()
                .program()
                .problem.get_problem_data(cp.HIGHS)
            )
        ),
        [2**n for n in (4, 6, 8, 10)],
        at_most=1.5,
    )


@pytest.mark.sizes(10, smoke=4)
def test_optimum_beside_its_program(versus: Any, size: int) -> None:
    market = mo.DataExternality(*instance(size))

    def agree(own: float, other: float) -> None:
        assert other == pytest.approx(own, rel=1e-5)

    versus(
        lambda: market.solve().objective,
        {"outer": lambda: market.solve(backend="outer").objective},
        agree=agree,
        size=size,
    )
