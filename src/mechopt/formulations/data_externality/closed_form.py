r"""The platform's purchase in closed form: two users, users of low value only, and equicorrelated users.

Nothing here is shared with the exact algorithms or the programs. All formulas hold for any noise variance
N: they are applied to the covariance divided by N, and what comes out is multiplied by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.solvers.errors import NotApplicable

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.model import DataExternality

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SAME = 1e-12
"""Differences between entries of a covariance that count as none, relative to the largest."""


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """The platform's optimum by a formula.

    Attributes
    ----------
    sharing : array of bool, shape (n_users,)
        A set of most profit, the largest of several.
    prices : array, shape (n_users,)
        Money, 0 of those who do not share.
    leaked_information : array, shape (n_users,)
    profit : float
        Money.
    case : {"low value", "two users", "equicorrelated"}
        The formula that applies.
    """

    sharing: BoolArray
    prices: Array
    leaked_information: Array
    profit: float
    case: str


def closed_form(model: DataExternality) -> ClosedForm:
    """Return the optimum of a platform that all users joined, where there is a formula for it.

    Parameters
    ----------
    model : DataExternality

    Returns
    -------
    ClosedForm

    Raises
    ------
    NotApplicable
        Unless all users have a value of privacy of at most 1, or there are two, or all pairs have the same
        variances and covariance.

    Examples
    --------
    >>> import mechopt as mo
    >>> found = closed_form(mo.DataExternality([[1.0, 0.5], [0.5, 1.0]], [0.5, 0.8]))
    >>> found.case, found.leaked_information.round(6).tolist()
    ('low value', [0.533333, 0.533333])
    """
    if np.all(model.value_of_privacy <= 1):
        return low_value(model)
    if model.n_users == 2:
        return two_users(model)
    return equicorrelated(model)


def low_value(model: DataExternality) -> ClosedForm:
    r"""Everybody shares if nobody's value of privacy is above 1.

    With :math:`Q = (I + \Sigma/N)^{-1}`, the posterior variance is :math:`N (1 - Q_{ii})`, and prices are
    :math:`v_i N (1 - Q_{ii})^2 / Q_{ii}`.

    Raises
    ------
    NotApplicable
        If a value of privacy is above 1.
    """
    value = model.value_of_privacy
    if np.any(value > 1):
        user = int(np.argmax(value > 1))
        raise NotApplicable(
            f"value_of_privacy[{user}] = {value[user]:g} is above 1: not everybody need share",
            reason="a user of high value",
        )
    kept = np.diag(np.linalg.inv(np.eye(model.n_users) + model.covariance / model.noise_variance))
    prices = model.noise_variance * value * (1 - kept) ** 2 / kept
    leaked = model.variance - model.noise_variance * (1 - kept)
    everybody = np.ones(model.n_users, dtype=bool)
    return ClosedForm(everybody, prices, leaked, float(leaked.sum() - prices.sum()), "low value")


def two_users(model: DataExternality) -> ClosedForm:
    r"""Compare the four sets of two users.

    With variances x, y and covariance c in units of the noise, and :math:`D = (1+x)(1+y) - c^2`, what leaks
    about user 1 is :math:`x^2/(1+x)` by its own data, :math:`c^2/(1+y)` by the other's, and
    :math:`x - 1 + (1+y)/D` by both.

    Raises
    ------
    NotApplicable
        If there are not two users.

    References
    ----------
    Pal et al., section II and Example 2.
    """
    _insist_two(model.n_users)
    noise, value = model.noise_variance, model.value_of_privacy
    own, other, together = _two_leaks(model.covariance / noise)
    tables = {
        (True, True): together,
        (True, False): np.array([own[0], other[1]]),
        (False, True): np.array([other[0], own[1]]),
        (False, False): np.zeros(2),
    }
    best: ClosedForm | None = None
    for shares, leaked in tables.items():
        without = other if all(shares) else np.zeros(2)
        prices = np.where(shares, value * (leaked - without), 0.0)
        profit = float(leaked.sum() - prices.sum())
        if best is None or noise * profit > best.profit:
            best = ClosedForm(np.array(shares), noise * prices, noise * leaked, noise * profit, "two users")
    assert best is not None
    return best


def two_user_threshold(covariance: ArrayLike, value: float) -> float:
    r"""Return the value of privacy up to which the second of two users is bought from, the first being.

    For unit variances and correlation r it is
    :math:`(4 - 3 r^2 + r^4 + v_1 (3 r^2 - r^4)) / (2 - r^2)^2`.

    Parameters
    ----------
    covariance : array, shape (2, 2)
        In units of the noise.
    value : float
        The first user's value of privacy, at most 1.

    Examples
    --------
    >>> round(two_user_threshold([[1.0, 0.5], [0.5, 1.0]], 0.5), 6)
    1.193878
    """
    matrix = np.asarray(covariance, dtype=float)
    _insist_two(len(matrix))
    if value > 1:
        raise NotApplicable(
            f"value = {value:g} is above 1: the first user need not share", reason="a user of high value"
        )
    own, other, together = _two_leaks(matrix)
    gain = together.sum() - own[0] - other[1]
    cheaper = value * (own[0] - together[0] + other[0])
    return float((gain + cheaper) / (together[1] - other[1]))


def _insist_two(n_users: int) -> None:
    if n_users != 2:
        raise NotApplicable(f"there are {n_users} users, not two", reason="not two users")


def _two_leaks(covariance: Array) -> tuple[Array, Array, Array]:
    """What leaks about each of two users: by its own data, by the other's, by both."""
    (x, c), (_, y) = covariance
    determinant = (1 + x) * (1 + y) - c**2
    own = np.array([x**2 / (1 + x), y**2 / (1 + y)])
    other = np.array([c**2 / (1 + y), c**2 / (1 + x)])
    together = np.array([x - 1 + (1 + y) / determinant, y - 1 + (1 + x) / determinant])
    return own, other, together


def equicorrelated(model: DataExternality) -> ClosedForm:
    r"""Buy from those who ask least, where all variances, and all covariances, are the same.

    With covariance c and :math:`d` = variance - c, in units of the noise, the others' data leave a
    variance of :math:`s_m = d + c - m c^2 / (d + 1 + m c)` if m of them share. So only the number k
    matters, and those of lowest value are chosen:

    .. math:: (n - k)(d + c - s_k) + k (d + c - s_{k-1}/(1 + s_{k-1}))
              - \frac{s_{k-1}^2}{1 + s_{k-1}} \sum_{i \le k} v_i

    Raises
    ------
    NotApplicable
        If variances or covariances differ.
    """
    n, noise = model.n_users, model.noise_variance
    scaled = model.covariance / noise
    variance, off = float(scaled[0, 0]), float(scaled[0, -1]) if n > 1 else 0.0
    model_of = np.where(np.eye(n, dtype=bool), variance, off)
    if np.max(np.abs(scaled - model_of)) > SAME * variance:
        i, j = (int(k) for k in np.unravel_index(int(np.argmax(np.abs(scaled - model_of))), scaled.shape))
        raise NotApplicable(
            f"covariance[{i}, {j}] differs from the others: there are formulas for users of low value "
            "only, for two users, and for equal variances and covariances; solve() needs none of that",
            reason="no formula for this covariance",
        )
    order = np.argsort(model.value_of_privacy, kind="stable")
    count = np.arange(n + 1)
    left = variance - count * off**2 / (variance - off + 1 + count * off)
    before = left[np.maximum(count - 1, 0)]
    worth = before**2 / (1 + before)
    paid = np.concatenate([[0.0], np.cumsum(model.value_of_privacy[order])])
    profit = (n - count) * (variance - left) + count * (variance - before / (1 + before)) - worth * paid
    k = int(n - np.argmax(profit[::-1]))
    sharing = np.zeros(n, dtype=bool)
    sharing[order[:k]] = True
    leaked = np.where(sharing, variance - before[k] / (1 + before[k]), variance - left[k])
    prices = np.where(sharing, model.value_of_privacy * worth[k], 0.0)
    return ClosedForm(sharing, noise * prices, noise * leaked, float(noise * profit[k]), "equicorrelated")
