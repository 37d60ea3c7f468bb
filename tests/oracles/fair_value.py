"""Fair values by definition: orders of joining, dividends, printed sums, the platform with a veto.

Nothing here uses the package.
"""

from __future__ import annotations

from itertools import combinations, permutations
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

Array = NDArray[np.float64]


def n_of(table: Array) -> int:
    """Number of players of a table of 2^n values by bit masks."""
    return len(table).bit_length() - 1


def random_table(rng: np.random.Generator, n: int, *, empty: float | None = 0.0) -> Array:
    """Any game: normal values, neither monotone nor convex."""
    table = rng.normal(size=2**n)
    if empty is not None:
        table[0] = empty
    return table


def by_orders(table: Array) -> Array:
    """Average what each player adds over all orders of joining."""
    n = n_of(table)
    total, number = np.zeros(n), 0
    for order in permutations(range(n)):
        mask = 0
        for player in order:
            total[player] += table[mask | 1 << player] - table[mask]
            mask |= 1 << player
        number += 1
    return total / number


def by_dividends(table: Array) -> Array:
    """Share each coalition's dividend, by inclusion and exclusion, among its members."""
    n = n_of(table)
    value = np.zeros(n)
    for mask in range(1, 2**n):
        members = [i for i in range(n) if mask >> i & 1]
        dividend = 0.0
        for size in range(len(members) + 1):
            for part in combinations(members, size):
                dividend += (-1) ** (len(members) - size) * table[sum(1 << i for i in part)]
        for i in members:
            value[i] += dividend / len(members)
    return value


def printed_users(table: Array, share: float = 1.0) -> Array:
    """(12), term by term."""
    n = n_of(table)
    value = np.zeros(n)
    for i in range(n):
        for mask in range(2**n):
            if not mask >> i & 1:
                value[i] += (table[mask | 1 << i] - table[mask]) / comb(n - 1, mask.bit_count())
    return share * value / n


def printed_platform(table: Array) -> tuple[Array, float]:
    """(6) and (5), term by term."""
    n = n_of(table)
    value = np.zeros(n)
    for i in range(n):
        for mask in range(2**n):
            if not mask >> i & 1:
                value[i] += (table[mask | 1 << i] - table[mask]) / comb(n, mask.bit_count() + 1)
    platform = sum(table[mask] / comb(n, mask.bit_count()) for mask in range(2**n))
    return value / (n + 1), platform / (n + 1)


def veto_game(table: Array) -> Array:
    """The game in which the platform is the last player, and without it nothing is worth anything."""
    return np.concatenate([np.zeros(len(table)), table])


def expand(grid: Array) -> Array:
    """Table of all coalitions of users in groups; the users of the first group come first."""
    sizes = [m - 1 for m in grid.shape]
    group = np.repeat(np.arange(len(sizes)), sizes)
    table = np.empty(2 ** len(group))
    for mask in range(len(table)):
        members = [i for i in range(len(group)) if mask >> i & 1]
        table[mask] = grid[tuple(int(np.sum(group[members] == g)) for g in range(len(sizes)))]
    return table


def memberships(n: int) -> Array:
    """Rows of all coalitions but the empty and the grand one, by bit masks."""
    masks = np.arange(1, 2**n - 1)
    return (masks[:, None] >> np.arange(n) & 1).astype(float)


def core_cost(table: Array) -> float:
    """Least total payment that no coalition would leave, the grand one included."""
    n = n_of(table)
    rows = np.vstack([memberships(n), np.ones(n)])
    found = linprog(np.ones(n), A_ub=-rows, b_ub=-table[1:], bounds=(None, None))
    return float(found.fun)


def is_nucleolus(table: Array, values: Array, close: float = 1e-7) -> bool:
    """Kohlberg's criterion, for the pre-nucleolus.

    For each level, take the coalitions whose excess is at least that. No transfer that sums to 0 and lowers
    none of them may raise one.
    """
    n = n_of(table)
    rows = memberships(n)
    excess = table[1:-1] - rows @ values
    for level in np.unique(np.round(excess, 9)):
        high = rows[excess >= level - close]
        found = linprog(
            -high.sum(axis=0),
            A_ub=np.vstack([-high, high]),
            b_ub=np.concatenate([np.zeros(len(high)), np.ones(len(high))]),
            A_eq=np.ones((1, n)),
            b_eq=[0.0],
            bounds=(None, None),
        )
        if found.status != 0 or -found.fun > 1e-6:
            return False
    return abs(values.sum() - table[-1]) <= close
