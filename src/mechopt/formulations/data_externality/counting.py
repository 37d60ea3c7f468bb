"""Numbers of users of each group: all of them, the best for each number who joined, and their chances.

Rows of counts have one entry a group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.groups import ExchangeableGroups

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

MOST_ROWS = 10**6
"""Numbers of users of all groups that are written down."""

MOST_PAIRS = 10**9
"""Pairs of how many joined and how many share that are compared."""

_BLOCK = 2**22
"""Numbers in a block of pairs; a few dozen megabytes."""


class Terms:
    """Profit and surplus of a platform for each number of sharers: a base, plus a slope in who joined."""

    def __init__(self, groups: ExchangeableGroups, sharing: IntArray) -> None:
        noise, value = groups.noise_variance, groups.value_of_privacy
        others, before = groups._left(sharing)
        self.before = before
        self.leaked = groups.variances - noise * others
        s = np.nan_to_num(before)
        # A sharer tells more about itself than about others like it, and is paid for what its own data add.
        more = noise * (others - s / (1 + s))
        paid = value * noise * s**2 / (1 + s)
        spilled = groups.spillover * groups.sizes * self.leaked
        self.profit_base = (sharing * (more - paid) + spilled).sum(axis=1)
        self.profit_slope = (1 - groups.spillover) * self.leaked
        self.surplus_base = (sharing * more + spilled) @ (1 - value)
        self.surplus_slope = self.profit_slope * (1 - value)


def grid_of(most: IntArray, least: IntArray | None = None) -> IntArray:
    """All numbers of users of each group, shape (n_counts, n_groups), the last group's moving fastest."""
    least = np.zeros_like(most) if least is None else least
    axes = [np.arange(low, high + 1) for low, high in zip(least, most, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(most))


def preferred(counts: IntArray) -> IntArray:
    """Order of preference among purchases of equal profit: of most users, then of the first groups' users."""
    return np.lexsort((*(-counts.T[::-1]), -counts.sum(axis=1)))


def best_for_each(grid: IntArray, base: Array, slope: Array, fixed: BoolArray, tie: float) -> IntArray:
    """For each number who joined, find the number who share that is best, all sharing in ``fixed`` groups."""
    best = np.empty(len(grid), dtype=np.int64)
    _, part = np.unique(grid[:, fixed], axis=0, return_inverse=True)
    part = part.ravel()
    for each in range(part.max() + 1):
        rows = np.flatnonzero(part == each)
        order = rows[preferred(grid[rows])]
        step = max(1, _BLOCK // len(rows))
        for joined in np.split(rows, range(step, len(rows), step)):
            worth = base[order] + grid[joined] @ slope[order].T
            for group in np.flatnonzero(~fixed):
                np.copyto(worth, -np.inf, where=grid[order, group] > grid[joined, group][:, None])
            good = worth >= worth.max(axis=1, keepdims=True) - tie
            best[joined] = order[good.argmax(axis=1)]
    return best


def chance_of(grid: IntArray, sizes: IntArray, probability: float) -> Array:
    """Probability of each number of users who join, group by group binomial."""
    from scipy.stats import binom

    return np.asarray(np.prod(binom.pmf(grid, sizes, probability), axis=1))


def refuse_many(n_rows: int, n_pairs: int, what: str) -> None:
    """Refuse to go through more numbers, or pairs of who joined and who shares, than fit."""
    if n_rows > MOST_ROWS or n_pairs > MOST_PAIRS:
        raise InvalidInput(
            f"{what} would look at {n_rows} numbers of users and {n_pairs} pairs of how many join and share "
            f"(at most {MOST_ROWS} and {MOST_PAIRS}); merge groups of high-value users, or estimate with "
            "full().duopoly().sample_mixed()"
        )
