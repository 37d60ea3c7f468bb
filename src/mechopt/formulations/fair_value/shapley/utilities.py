"""Utilities in the forms that people have them, read as one thing: a function of counts of users by group.

A coalition of distinct users is a vector of counts 0 or 1: every user is a group of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.solvers.errors import InvalidInput

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
Progress = Callable[[int, int], None]

MAX_SUBSET_USERS = 22
"""With more distinct users there are too many coalitions for all of them to be visited."""
MAX_GRID = 2**25
"""Largest table of utilities that is filled (entries; 256 MB)."""
_BATCH = 2**16


class CountUtility:
    """A utility of counts, evaluated in batches, every value checked.

    Parameters
    ----------
    sizes : tuple of int
        Users in each group; all 1 for distinct users.
    values : callable
        From counts, shape (n, n_groups), to utilities, shape (n,).
    distinct : bool
        Whether the groups are single users, so that messages speak of coalitions.
    table : array, shape sizes + 1, optional
        All values, where they are known beforehand.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        values: Callable[[Counts], Any],
        *,
        distinct: bool,
        table: Array | None = None,
    ) -> None:
        self.sizes, self.distinct = sizes, distinct
        self._values = values
        self._known = table

    @property
    def n_users(self) -> int:
        """Number of users, N."""
        return sum(self.sizes)

    @property
    def n_groups(self) -> int:
        """Number of groups, G."""
        return len(self.sizes)

    @property
    def n_cells(self) -> int:
        """Number of vectors of counts there are."""
        return prod(size + 1 for size in self.sizes)

    @property
    def tabulated(self) -> bool:
        """Whether all values are known without a call."""
        return self._known is not None

    def __call__(self, counts: Counts) -> Array:
        """Evaluate at counts of shape (n, n_groups); refuses what is not a finite number."""
        found = np.asarray(self._values(counts), dtype=float)
        if found.shape != (len(counts),):
            raise InvalidInput(
                f"utility returned shape {found.shape} for {len(counts)} coalitions; with vectorized=True it "
                "gets one row for each, and must return one number for each"
            )
        if not np.all(np.isfinite(found)):
            at = int(np.argmax(~np.isfinite(found)))
            raise InvalidInput(f"utility of {self.name(counts[at])} is {found[at]}; it must be finite")
        return found

    def name(self, counts: Counts) -> str:
        """Say which coalition it is."""
        if self.distinct:
            return "coalition {" + ", ".join(map(str, np.flatnonzero(counts))) + "}"
        return "counts (" + ", ".join(map(str, counts)) + ")"

    @cached_property
    def ends(self) -> tuple[float, float]:
        """Utility of nobody and of everybody."""
        nobody, everybody = self(np.array([[0] * self.n_groups, self.sizes]))
        return float(nobody), float(everybody)

    def grid(self, progress: Progress | None = None) -> Array:
        """Return all values, shape (m_1 + 1, ..., m_G + 1)."""
        if self._known is None:
            total = self.n_cells
            if total > MAX_GRID:
                raise InvalidInput(
                    f"a table of this utility has {total} entries, more than {MAX_GRID}; form fewer or "
                    "smaller groups"
                )
            shape = tuple(size + 1 for size in self.sizes)
            flat = np.empty(total)
            for start in range(0, total, _BATCH):
                stop = min(start + _BATCH, total)
                flat[start:stop] = self(self._counts_at(np.arange(start, stop), shape))
                if progress is not None:
                    progress(stop, total)
            self._known = flat.reshape(shape, order="F" if self.distinct else "C")
            self._known.setflags(write=False)
        return self._known

    def _counts_at(self, index: Counts, shape: tuple[int, ...]) -> Counts:
        """Counts at places of the flat table: bits for distinct users, which is faster than division."""
        if self.distinct:
            return index[:, None] >> np.arange(self.n_groups) & 1
        return np.stack(np.unravel_index(index, shape), axis=1)

    def coalition_table(self, progress: Progress | None = None) -> Array:
        """Return the values of all 2^N coalitions; bit i of the index says whether user i is a member."""
        n = self.n_users
        if n > MAX_SUBSET_USERS:
            raise InvalidInput(
                f"n_users = {n}: with more than {MAX_SUBSET_USERS} users not all 2^{n} coalitions can be "
                "visited; give group_sizes for users that are alike, or method='monte_carlo'"
            )
        grid = self.grid(progress)
        if self.distinct:
            return grid.ravel(order="F")
        strides = np.array(grid.strides) // grid.itemsize
        index = np.zeros(1, dtype=np.int64)
        for stride in np.repeat(strides, self.sizes):
            index = np.concatenate([index, index + stride])
        return grid.ravel()[index]


def read(
    utility: Any,
    n_users: int | None,
    group_sizes: Sequence[int] | None,
    privacy_levels: ArrayLike | None,
    vectorized: bool,
) -> CountUtility:
    """Read a utility in any of its forms."""
    if group_sizes is not None and privacy_levels is not None:
        raise InvalidInput(
            "give privacy_levels for a utility of levels, or group_sizes for a utility of counts, not both"
        )
    if not isinstance(vectorized, bool | np.bool_):
        raise InvalidInput(f"vectorized must be True or False, got {vectorized!r}")
    if group_sizes is not None:
        return _grouped(utility, n_users, _sizes(group_sizes, n_users), vectorized)
    if privacy_levels is not None:
        return _of_levels(utility, n_users, _levels(privacy_levels, n_users), vectorized)
    if not callable(utility):
        return _table(utility, n_users)
    if n_users is None:
        raise InvalidInput("n_users is missing: a utility that is a function does not say how many users")
    n = checks.count(n_users, "n_users")

    def one(counts: Counts) -> Any:
        return utility(tuple(np.flatnonzero(counts).tolist()))

    def many(counts: Counts) -> Any:
        return utility(counts.astype(bool))

    return CountUtility((1,) * n, many if vectorized else _by_rows(one), distinct=True)


def _by_rows(one: Callable[[Counts], Any]) -> Callable[[Counts], Array]:
    """Evaluate a function of one coalition on many."""

    def many(counts: Counts) -> Array:
        found = np.empty(len(counts))
        for at, row in enumerate(counts):
            value = one(row)
            try:
                found[at] = value
            except (TypeError, ValueError):
                raise InvalidInput(
                    f"utility must return one number, got {value!r}; if it evaluates many coalitions at "
                    "once, say vectorized=True"
                ) from None
        return found

    return many


def _numbers(utility: Any, what: str) -> Array:
    try:
        array = np.array(utility, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"utility must be {what}, or a function: {error}") from None
    if not np.all(np.isfinite(array)):
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        index = ", ".join(map(str, at))
        raise InvalidInput(f"utility[{index}] is {array[at]}; every value must be a finite number")
    return array


def _table(utility: Any, n_users: int | None) -> CountUtility:
    flat = _numbers(utility, "a table of 2^n_users values")
    order = "in the order of bit masks: bit i of the index says whether user i is in"
    if flat.ndim != 1:
        raise InvalidInput(f"utility has shape {flat.shape}; give a table of 2^n_users values, {order}")
    n = max(flat.size.bit_length() - 1, 0) if n_users is None else checks.count(n_users, "n_users")
    if flat.size != 2**n or n < 1:
        wanted = f"2^{n} = {2**n}" if n_users is not None else "a power of two, at least 2,"
        raise InvalidInput(
            f"utility has {flat.size} values; for all coalitions give {wanted} values, {order}"
        )
    if n > MAX_SUBSET_USERS:
        raise InvalidInput(
            f"utility is a table for {n} users; more than {MAX_SUBSET_USERS} are too many for a table: give "
            "a function with group_sizes, or method='monte_carlo'"
        )
    grid = flat.reshape((2,) * n, order="F")
    grid.setflags(write=False)
    return CountUtility((1,) * n, _look_up(grid), distinct=True, table=grid)


def _look_up(grid: Array) -> Callable[[Counts], Array]:
    def values(counts: Counts) -> Array:
        return np.asarray(grid[tuple(counts.T)])

    return values


def _sizes(group_sizes: Sequence[int], n_users: int | None) -> tuple[int, ...]:
    try:
        sizes = tuple(checks.count(size, f"group_sizes[{g}]") for g, size in enumerate(group_sizes))
    except TypeError:
        raise InvalidInput(f"group_sizes must be a sequence of whole numbers, got {group_sizes!r}") from None
    if not sizes:
        raise InvalidInput("group_sizes is empty; give the number of users of at least one group")
    if n_users is not None and checks.count(n_users, "n_users") != sum(sizes):
        raise InvalidInput(f"group_sizes sum to {sum(sizes)}, but n_users is {n_users}; leave n_users out")
    return sizes


def _grouped(utility: Any, n_users: int | None, sizes: tuple[int, ...], vectorized: bool) -> CountUtility:
    if callable(utility):
        return CountUtility(sizes, utility if vectorized else _by_rows(utility), distinct=False)
    shape = tuple(size + 1 for size in sizes)
    grid = _numbers(utility, f"an array of shape {shape}")
    if grid.shape != shape:
        raise InvalidInput(
            f"utility has shape {grid.shape}; for group_sizes {sizes} give one value for each vector of "
            f"counts 0..m, shape {shape}"
        )
    grid.setflags(write=False)
    return CountUtility(sizes, _look_up(grid), distinct=False, table=grid)


def _levels(privacy_levels: ArrayLike, n_users: int | None) -> Array:
    levels = checks.vector(privacy_levels, "privacy_levels")
    if levels.size == 0:
        raise InvalidInput("privacy_levels is empty; give one level for each user")
    bad = ~(levels >= 0)
    if bad.any():
        at = int(np.argmax(bad))
        raise InvalidInput(
            f"privacy_levels[{at}] is {levels[at]}; levels must be >= 0 (0: no data, inf: no privacy)"
        )
    if n_users is not None and checks.count(n_users, "n_users") != levels.size:
        raise InvalidInput(f"privacy_levels has {levels.size} entries, but n_users is {n_users}")
    return levels


def _of_levels(utility: Any, n_users: int | None, levels: Array, vectorized: bool) -> CountUtility:
    if not callable(utility):
        raise InvalidInput("with privacy_levels, utility must be a function of the levels of all users")

    def many(counts: Counts) -> Any:
        return utility(np.where(counts > 0, levels, 0.0))

    def one(counts: Counts) -> Any:
        return many(counts)

    return CountUtility((1,) * levels.size, many if vectorized else _by_rows(one), distinct=True)
