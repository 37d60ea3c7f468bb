r"""Profit, loss and surplus of sets of users who share: what policies weigh against each other.

A platform that all joined earns :math:`f = W + E`: the data surplus :math:`W = \sum_i (1 - v_i) I_i(A)`, and
the loss :math:`E = \sum_i v_i I_i(A \setminus i)` for which nobody is paid.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.data_externality.exact import problem
from mechopt.formulations.data_externality.leakage import leak_table, posterior_and_doubt
from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.model import DataExternality

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MOST_TABLED = 20
"""Users up to which all sets are looked at for the one of most surplus."""


def rounding(x: DataExternality) -> float:
    """Amounts of money that count as nothing, by the rule of the platform's own algorithm."""
    return x.noise_variance * problem.rounding(x.scaled_covariance)


def losses(x: DataExternality, sets: BoolArray) -> Array:
    """Loss of each user for which it is not paid (money), for each set; both of shape (n_sets, n_users)."""
    posterior, doubt = posterior_and_doubt(x.scaled_covariance, sets)
    # Without a user's own data t / (1 - t) would be left of it; what these tell is paid for.
    uninformed = np.diag(x.scaled_covariance) - np.diagonal(posterior, axis1=-2, axis2=-1) / doubt
    found: Array = x.noise_variance * x.value_of_privacy * uninformed
    return found


def surpluses(x: DataExternality, sets: BoolArray) -> Array:
    """Data surplus of each set (money), shape (n_sets,)."""
    posterior, _ = posterior_and_doubt(x.scaled_covariance, sets)
    variance = np.diagonal(posterior, axis1=-2, axis2=-1)
    leaked = x.noise_variance * (np.diag(x.scaled_covariance) - variance)
    found: Array = leaked @ (1 - x.value_of_privacy)
    return found


def profits(x: DataExternality, sets: BoolArray) -> Array:
    """Profit of a platform that all joined, from each set at the least prices (money), shape (n_sets,)."""
    found: Array = surpluses(x, sets) + losses(x, sets).sum(axis=-1)
    return found


def uncompensated_loss(x: DataExternality, sharing: ArrayLike | Iterable[int]) -> Array:
    r"""Return what each user loses by others' sharing, and is not paid for: :math:`v_i I_i(A \setminus i)`.

    A tax on the platform of its sum, whatever the platform buys, leaves it the data surplus as profit: with
    this profile-contingent tax it buys what is best for all.

    Parameters
    ----------
    x : DataExternality
    sharing : array of shape (n_users,), or set of indices

    Returns
    -------
    array, shape (n_users,)
        (money), >= 0.

    Examples
    --------
    >>> import mechopt as mo
    >>> model = mo.DataExternality([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]], [0.5, 1.3, 3.0])
    >>> uncompensated_loss(model, {0, 1}).round(4).tolist()
    [0.09, 0.234, 0.2505]
    """
    return np.asarray(losses(x, x.profile(sharing)[None])[0])


def efficient_sharing(x: DataExternality) -> BoolArray:
    """Find the users whose sharing gives most data surplus, with one platform that all joined.

    Of several such sets it is the one that the platform likes best, which needs the least intervention.

    Parameters
    ----------
    x : DataExternality
        Of at most 20 users.

    Returns
    -------
    array of bool, shape (n_users,)

    Raises
    ------
    InvalidInput
        For more users.
    """
    n = x.n_users
    if n > MOST_TABLED:
        raise InvalidInput(
            f"the best set of {n} users to share is found by looking at all, for at most {MOST_TABLED} "
            "users; give the set to aim at as target="
        )
    surplus = x.noise_variance * (leak_table(x.scaled_covariance) @ (1 - x.value_of_privacy))
    masks = np.flatnonzero(surplus >= surplus.max() - rounding(x))
    best: BoolArray | None = None
    most = -np.inf
    # In blocks: with many users who gain nothing, every set may be best.
    for start in range(0, masks.size, 1024):
        sets = (masks[start : start + 1024, None] >> np.arange(n) & 1).astype(bool)
        earned = profits(x, sets)
        if earned.max() > most + rounding(x):
            best, most = sets[int(earned.argmax())], float(earned.max())
    assert best is not None
    return best
