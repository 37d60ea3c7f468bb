r"""The fair values of distinct users from all coalitions, and monotone covers.

Take the coalitions of each size s together. Sorting the sums (12) and (6) by size, with the covariance
:math:`C_{si}` of "i is a member" and the utility over the :math:`\binom{N}{s}` coalitions of size s,

.. math:: \phi_i = \frac{U - U_0}{N} + \sum_{0<s<N} \frac{N}{s (N-s)} C_{si} \quad \text{(users only)}, \qquad
   \phi_i = \frac{U - \phi_p}{N} + \sum_{0<s<N} \frac{1}{N-s} C_{si}, \quad
   \phi_p = \frac{1}{N+1} \sum_s \bar U_s \quad \text{(with the platform)}.

A user gets an equal share, and more if utility is high where it is a member. In this form there is nothing to
cancel, and all users together take two passes over the table.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def size_weights(n_users: int, include_platform: bool) -> Array:
    """Return the weight of the covariance at each size 0..N; 0 at both ends, where there is none."""
    size = np.arange(1, n_users)
    weights = np.zeros(n_users + 1)
    weights[1:n_users] = 1 / (n_users - size) if include_platform else n_users / (size * (n_users - size))
    return weights


def equal_share(mean_by_size: Array, include_platform: bool) -> tuple[float, float]:
    """Return what each user has before the covariances, and the platform's value (0 without it)."""
    n_users = mean_by_size.size - 1
    platform = float(np.mean(mean_by_size)) if include_platform else 0.0
    left = platform if include_platform else float(mean_by_size[0])
    return (float(mean_by_size[-1]) - left) / n_users, platform


def subset_values(table: Array, include_platform: bool) -> tuple[Array, float]:
    """Compute the values of all users, and of the platform, from a table of 2^N coalition values.

    Parameters
    ----------
    table : array, shape (2 ** n_users,)
        Bit i of the index says whether user i is a member.
    include_platform : bool
        Whether the platform is a member of the coalition (Theorem 1) or not (Theorem 2, with all paid out).

    Returns
    -------
    tuple of array, shape (n_users,), and float
    """
    n_users = table.size.bit_length() - 1
    size = coalition_sizes(n_users)
    n_coalitions = np.bincount(size, minlength=n_users + 1)
    mean = np.bincount(size, table) / n_coalitions
    weight = size_weights(n_users, include_platform) / n_coalitions
    share = (table - mean[size]) * weight[size]
    each, platform = equal_share(mean, include_platform)
    values = np.empty(n_users)
    # What remains after the last user's sum no longer tells it apart: fold it away, and halve the work.
    for user in range(n_users - 1, -1, -1):
        without, with_user = share[: 1 << user], share[1 << user :]
        values[user] = each + with_user.sum()
        share = without + with_user
    return values, platform


def coalition_sizes(n_users: int) -> NDArray[np.intp]:
    """Return the number of members of each coalition, in the order of bit masks."""
    size = np.zeros(1 << n_users, dtype=np.intp)
    for user in range(n_users):
        size[1 << user : 2 << user] = size[: 1 << user] + 1
    return size


def monotone_cover(grid: Array) -> Array:
    """Return the best that anybody's staying away can do: the largest value at counts no larger."""
    covered = np.array(grid, dtype=float)
    for axis in range(covered.ndim):
        np.maximum.accumulate(covered, axis=axis, out=covered)
    return covered


def is_monotone(grid: Array) -> bool:
    """Whether nobody's joining lowers the utility."""
    return all(bool(np.all(np.diff(grid, axis=axis) >= 0)) for axis in range(grid.ndim))
