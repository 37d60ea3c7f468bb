r"""Closed form of private mean estimation: water filling over the privacy levels in rising order.

With :math:`\lambda = (1 - \sum_j w_j) / 2` the optimal weights are :math:`w_i = \min(\epsilon_i s, \lambda)`.
Let A be the users below :math:`\lambda / s`, the m others those above it, and :math:`E_1, E_2` the sums of
:math:`\epsilon` and :math:`\epsilon^2` over A. Then

.. math:: \lambda = \frac{1}{2 + x}, \quad x = m + \frac{E_1^2}{12 + E_2}, \quad
   s = \lambda \frac{E_1}{12 + E_2}, \quad r = \frac{\lambda}{6},

and the next user belongs to A as long as :math:`\epsilon_k \le (12 + E_2) / E_1`. Sorting is all the work:
O(n log n).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.solvers.errors import InvalidInput

__all__ = ["LARGEST_LEVEL", "ClosedForm", "closed_form", "normalised", "utility_of_counts"]

Array = NDArray[np.float64]

LARGEST_LEVEL = 1e100
"""Finite privacy levels up to here can be squared and added; anything beyond means infinity."""


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """The optimal linear-Laplace estimator by formula.

    Attributes
    ----------
    weights : ndarray, shape (n_users,)
        Weight of each user's data, in [0, 1/3].
    noise_scale : float
        Scale s of the Laplace noise, whose variance is 2 s^2.
    bayes_risk : float
        Expected squared error, in [1 / (6 (n_users + 2)), 1/12].
    saturation_level : float
        The privacy level lambda / s that suffices: more of it makes no difference. Infinite without noise.
    """

    weights: Array
    noise_scale: float
    bayes_risk: float
    saturation_level: float

    def __getitem__(self, name: str) -> Any:
        """Value by name, as a solution has it."""
        if name not in self.__dataclass_fields__:
            raise KeyError(f"no value named {name!r}; there are {', '.join(self.__dataclass_fields__)}")
        return getattr(self, name)


def closed_form(privacy_levels: ArrayLike) -> ClosedForm:
    r"""Evaluate the closed form.

    Parameters
    ----------
    privacy_levels : array_like, shape (n_users,)
        Levels in [0, inf].

    Returns
    -------
    ClosedForm

    Examples
    --------
    For one user at level e the weight is 1 / (3 + 24 / e^2), as in (30).

    >>> form = closed_form([2.0])
    >>> form.weights.round(12).tolist() == [round(1 / 9, 12)], round(form.bayes_risk, 6)
    (True, 0.074074)
    """
    levels = np.asarray(privacy_levels, dtype=np.float64)
    finite = np.sort(levels[np.isfinite(levels)])
    # E_1 and E_2 before each user, and after the last.
    sums = np.concatenate([[0.0], np.cumsum(finite)])
    squares = np.concatenate([[0.0], np.cumsum(finite**2)])
    joins = finite * sums[:-1] <= 12 + squares[:-1]
    n_limited = int(np.argmin(joins)) if not joins.all() else finite.size
    first, second = float(sums[n_limited]), float(squares[n_limited])
    rate = first / (12 + second)
    water = 1 / (2 + (levels.size - n_limited) + first * rate)
    scale = water * rate
    weights = np.full(levels.size, water)
    limited = np.isfinite(levels)
    weights[limited] = np.minimum(levels[limited] * scale, water)
    weights.setflags(write=False)
    return ClosedForm(weights, scale, water / 6, 1 / rate if rate > 0 else np.inf)


def normalised(bayes_risk: Any, n_users: int) -> Any:
    """Utility of a Bayes risk: affine, 0 without data and 1 for the best that n_users can give."""
    return (n_users + 2) / n_users * (1 - 12 * bayes_risk)


def utility_of_counts(
    privacy_levels: ArrayLike, group_sizes: Sequence[int], n_users: int | None = None
) -> Array:
    r"""Compute the utility for every number of users at each of a few privacy levels.

    With one level e, and n users at it, :math:`U(n) = \frac{N+2}{N} \frac{x}{2 + x}` for
    :math:`x = n^2 e^2 / (12 + n e^2)`, or x = n for infinite e. With several levels, groups join the limited
    users in rising order.

    Parameters
    ----------
    privacy_levels : array_like, shape (n_groups,)
        Level of each group, in [0, inf], in any order.
    group_sizes : sequence of int, length n_groups
        Most users that a group can have, >= 0.
    n_users : int, optional
        Users N by which the utility is normalised: it is 1 if N users give their data without limit. Default
        the sum of ``group_sizes``.

    Returns
    -------
    ndarray, shape (group_sizes[0] + 1, group_sizes[1] + 1, ...)
        ``[k0, k1, ...]`` is the utility with k0 users of the first group, k1 of the second and so on, and
        nobody else; above 1 where there are more than N in all.

    Raises
    ------
    InvalidInput
        For a level that is negative or no number, or sizes that are no counts or do not match the levels.

    References
    ----------
    The paper's Example 1 and (36), for any number of users and of levels.

    Examples
    --------
    The matrix (10), whose rows and columns are the two users:

    >>> utility_of_counts([np.inf, np.inf], [1, 1]).round(4).tolist()
    [[0.0, 0.6667], [0.6667, 1.0]]

    One of two users at level 1, and both:

    >>> utility_of_counts([1.0], [2]).round(6).tolist()
    [0.0, 0.074074, 0.25]
    """
    levels = levels_of(privacy_levels)
    sizes = [checks.count(size, f"group_sizes[{g}]", least=0) for g, size in enumerate(group_sizes)]
    if len(sizes) != levels.size:
        raise InvalidInput(f"group_sizes has {len(sizes)} entries for {levels.size} privacy_levels")
    total = checks.count(sum(sizes) if n_users is None else n_users, "n_users")
    counts = np.meshgrid(*(np.arange(size + 1.0) for size in sizes), indexing="ij", sparse=True)
    shape = tuple(size + 1 for size in sizes)
    first, second, above = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for group in np.argsort(levels, kind="stable"):
        level = levels[group]
        if np.isinf(level):
            above = above + counts[group]
            continue
        joins = level * first <= 12 + second
        first = first + np.where(joins, level * counts[group], 0.0)
        second = second + np.where(joins, level**2 * counts[group], 0.0)
        above = above + np.where(joins, 0.0, counts[group])
    x = above + first**2 / (12 + second)
    return np.asarray((total + 2) / total * x / (2 + x))


def levels_of(privacy_levels: ArrayLike) -> Array:
    """Return privacy levels, checked: one a user, each in [0, inf]."""
    levels = checks.vector(privacy_levels, "privacy_levels")
    if levels.size == 0:
        raise InvalidInput("privacy_levels is empty; give at least one user's level, in [0, inf]")
    wrong = ~((levels >= 0) & ((levels <= LARGEST_LEVEL) | np.isinf(levels)))
    if np.any(wrong):
        index = int(np.argmax(wrong))
        level = levels[index]
        hint = (
            f"beyond {LARGEST_LEVEL:g} write inf, no privacy"
            if level > 0
            else "0 means that the user gives no data, inf that it asks for no privacy"
        )
        raise InvalidInput(f"privacy_levels[{index}] = {level:g} must lie in [0, inf]; {hint}")
    return levels
