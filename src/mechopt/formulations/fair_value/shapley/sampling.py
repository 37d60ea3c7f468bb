"""The fair values estimated from random orders of joining, with confidence intervals.

In a random order, what a user adds to those before it has the fair value as its mean; the platform, if it is
a member, is before the user at place r of N with probability r / (N + 1). Each order is used together with
its reverse: what a user adds early and late averages out, and the pair is one independent sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.fair_value.shapley.utilities import CountUtility, Progress

Array = NDArray[np.float64]

_CELLS = 2**20
"""Counts that are held at a time."""


@dataclass(frozen=True)
class Estimate:
    """Means over pairs of orders, and their standard errors.

    Attributes
    ----------
    mean, standard_error : array, shape (n_groups + 1,)
        For one user of each group, then for the platform (0 without it).
    n_evaluations : int
    """

    mean: Array
    standard_error: Array
    n_evaluations: int


def sampled_values(
    utility: CountUtility,
    include_platform: bool,
    n_permutations: int,
    seed: int,
    progress: Progress | None = None,
) -> Estimate:
    """Average what users add, over so many orders of joining, an even number."""
    rng = np.random.default_rng(seed)
    n_users, n_groups = utility.n_users, utility.n_groups
    labels = np.repeat(np.arange(n_groups), utility.sizes)
    place = np.arange(1, n_users + 1) / (n_users + 1)
    n_pairs, done = n_permutations // 2, 0
    batch = max(1, _CELLS // ((n_users + 1) * n_groups))
    mean, squares = np.zeros(n_groups + 1), np.zeros(n_groups + 1)
    while done < n_pairs:
        number = min(batch, n_pairs - done)
        order = rng.permuted(np.tile(labels, (number, 1)), axis=1)
        sample = np.zeros((number, n_groups + 1))
        for joining in (order, order[:, ::-1]):
            along = _along(utility, joining)
            added = np.diff(along, axis=1) * (place if include_platform else 1.0)
            row = np.arange(number)[:, None] * n_groups + joining
            total = np.bincount(row.ravel(), added.ravel(), minlength=number * n_groups)
            sample[:, :-1] += total.reshape(number, n_groups) / np.array(utility.sizes) / 2
            if include_platform:
                sample[:, -1] += along.mean(axis=1) / 2
        # Means and sums of squares of parts, put together without the loss of a difference of squares.
        part = sample.mean(axis=0)
        away = part - mean
        squares += ((sample - part) ** 2).sum(axis=0) + away**2 * done * number / (done + number)
        mean += away * number / (done + number)
        done += number
        if progress is not None:
            progress(2 * done, 2 * n_pairs)
    error = np.sqrt(squares / (n_pairs - 1) / n_pairs)
    return Estimate(mean, error, 2 * n_pairs * (n_users + 1))


def _along(utility: CountUtility, joining: NDArray[np.int64]) -> Array:
    """Utility of the first 0, 1, .., N users of each order, shape (n, n_users + 1)."""
    number, n_users = joining.shape
    counts = np.zeros((number, n_users + 1, utility.n_groups), dtype=np.int64)
    np.put_along_axis(counts[:, 1:], joining[:, :, None], 1, axis=2)
    np.cumsum(counts, axis=1, out=counts)
    return utility(counts.reshape(-1, utility.n_groups)).reshape(number, n_users + 1)
