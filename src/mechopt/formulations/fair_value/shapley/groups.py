r"""The fair values of users in groups: coalitions of each size, by how many members each group has.

Among the coalitions of size s, the counts :math:`(k_1, .., k_G)` are multivariate hypergeometric, and a user
of group g is a member with probability :math:`k_g / m_g` given the counts. The formulas of
`mechopt.formulations.fair_value.shapley.exact` then need, for each size, one mean and one covariance a group.

Group after group, the counts given what is left to draw are hypergeometric, which is a sum of independent
indicators; Bernstein's inequality tells how far from the mean it can be. Only these counts are visited: of N
sizes and G groups about :math:`N \cdot N^{(G-1)/2}` vectors, of a grid of :math:`N^G`. The probabilities come
from their ratios, starting at the mode, and are normalised: no logarithms of factorials, whose differences
would lose digits.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.fair_value.shapley.exact import equal_share, size_weights
from mechopt.formulations.fair_value.shapley.utilities import CountUtility, Progress

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

_TAIL = 46.0
"""Natural logarithm of the odds against anything that is left out: 1e-20."""
_BLOCK = 2**17
"""Vectors of counts that are visited at a time."""


def half_width(variance: Array | float) -> Array:
    """Return how far from its mean a sum of independent indicators gets, but for 1e-20: Bernstein's bound."""
    third = _TAIL / 3
    return np.ceil(third + np.sqrt(third**2 + 2 * _TAIL * np.asarray(variance))) + 1


def hypergeometric(population: int, successes: int, draws: Ints) -> tuple[Ints, Array]:
    """Probabilities of the number of successes among so many draws, in windows around the modes.

    Returns
    -------
    tuple of array, shape (n,), and array, shape (n, width)
        The first number of each window, and the probabilities; 0 where a window leaves the support.
    """
    rest = population - successes
    share = draws / max(population, 1)
    variance = successes * share * (1 - share) * rest / max(population - 1, 1)
    reach = min(int(half_width(variance.max(initial=0.0))), successes)
    mode = (draws + 1) * (successes + 1) // (population + 2)
    mode = np.clip(mode, np.maximum(draws - rest, 0), np.minimum(successes, draws))[:, None]
    step, drawn = np.arange(reach), draws[:, None]
    # Ratios of neighbouring probabilities; past the end of the support one is 0, and all products after it.
    k = mode + step
    up = (successes - k) * (drawn - k) / ((k + 1) * (rest - drawn + k + 1.0))
    k = mode - step
    down = k * (rest - drawn + k) / ((successes - k + 1.0) * (drawn - k + 1))
    one = np.ones((draws.size, 1))
    weight = np.hstack([np.cumprod(down, axis=1)[:, ::-1], one, np.cumprod(up, axis=1)])
    return mode[:, 0] - reach, weight / weight.sum(axis=1, keepdims=True)


def blocks(sizes: tuple[int, ...]) -> Iterator[Ints]:
    """Yield the sizes 0..N of coalitions, so many at a time that their counts fit a block."""
    n_users, per_size = sum(sizes), max(cells(sizes) / (sum(sizes) + 1), 1.0)
    step = max(1, int(_BLOCK / per_size))
    for start in range(0, n_users + 1, step):
        yield np.arange(start, min(start + step, n_users + 1))


def cells(sizes: tuple[int, ...]) -> float:
    """Bound the number of vectors of counts that are visited."""
    n_users = sum(sizes)
    number, left = n_users + 1.0, n_users
    for m in sizes[:-1]:
        spread = n_users / 4 * (m / left) * (1 - m / left)
        number *= min(m + 1, 2 * float(half_width(spread)) + 1)
        left -= m
    return number


def counts_by_size(sizes: tuple[int, ...], totals: Ints) -> tuple[Ints, Array, Ints]:
    """List the counts of coalitions of the given sizes, with their probabilities among those of their size.

    Returns
    -------
    tuple of array, shape (n, n_groups), array, shape (n,), and array, shape (n,)
        Counts, probabilities, and the place of the size in ``totals``.
    """
    place, left, weight = np.arange(totals.size), totals, np.ones(totals.size)
    columns: list[Ints] = []
    population = sum(sizes)
    for m in sizes[:-1]:
        draws, which = np.unique(left, return_inverse=True)
        first, pmf = hypergeometric(population, m, draws)
        joint = weight[:, None] * pmf[which]
        row, step = np.nonzero(joint > 1e-22)
        taken = first[which[row]] + step
        columns = [column[row] for column in columns] + [taken]
        place, left, weight = place[row], left[row] - taken, joint[row, step]
        population -= m
    return np.stack([*columns, left]).T, weight, place


def group_values(
    utility: CountUtility, include_platform: bool, progress: Progress | None = None
) -> tuple[Array, float, int]:
    """Compute the value of one user of each group, and of the platform, by counting.

    Returns
    -------
    tuple of array, shape (n_groups,), float and int
        The last is the number of evaluations of the utility.
    """
    sizes, n_users = utility.sizes, utility.n_users
    weights = size_weights(n_users, include_platform)
    mean = np.empty(n_users + 1)
    covariance = np.zeros(utility.n_groups)
    visited = 0
    for totals in blocks(sizes):
        counts, probability, place = counts_by_size(sizes, totals)
        value = utility(counts)
        visited += value.size
        mean[totals] = np.bincount(place, probability * value, minlength=totals.size)
        deviation = probability * (value - mean[totals][place]) * weights[totals][place]
        share = (totals / n_users)[place]
        for g, size in enumerate(sizes):
            covariance[g] += deviation @ (counts[:, g] / size - share)
        if progress is not None:
            progress(int(totals[-1]) + 1, n_users + 1)
    each, platform = equal_share(mean, include_platform)
    return each + covariance, platform, visited
