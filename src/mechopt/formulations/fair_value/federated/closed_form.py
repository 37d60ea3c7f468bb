r"""Closed form of federated mean estimation: Proposition 5, and the errors that its weights have.

With :math:`\tau_j = t^2 / n_j` and :math:`V_j = s^2 + \tau_j`, means over federated users written
:math:`\tau_0` and :math:`V_0`, and the precision

.. math:: A = \frac{N_1}{V_0} + \sum_{\epsilon_j = 2} \frac{1}{V_j},

the weights of Proposition 5 have the errors, by the level of the user whose mean is estimated,

.. math::

   \epsilon_i = 0: \quad & s^2 + \frac1A \\
   \epsilon_i = 1: \quad & \frac{s^2}{N_1} \Bigl( N_1 - 1 + \frac{\tau_0}{V_0} \Bigr)
       + \frac{1}{A} \Bigl( \frac{\tau_0}{V_0} \Bigr)^2 \\
   \epsilon_i = 2: \quad & \frac{\tau_i}{V_i} \Bigl( s^2 + \frac{\tau_i}{A V_i} \Bigr) .

All terms are positive: as differences of variances, they would lose digits where data are plenty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Kinds", "errors", "optimal_weights", "utility_on_counts"]

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

FEDERATED, DIRECT = 1, 2


@dataclass(frozen=True, eq=False)
class Kinds:
    """Users that are alike, counted.

    Attributes
    ----------
    levels : tuple of int, length n_kinds
        1 or 2.
    num_samples, importance : array, shape (n_kinds,)
        Of each of a kind's users.
    sizes : tuple of int, length n_kinds
        How many users there are.
    outside_importance : float
        Sum of the importance of users at level 0.
    """

    levels: tuple[int, ...]
    num_samples: Array
    importance: Array
    sizes: tuple[int, ...]
    outside_importance: float


def optimal_weights(
    levels: IntArray, num_samples: Array, between: float, within: float, user: int
) -> tuple[float, Array]:
    """Evaluate Proposition 5.

    Parameters
    ----------
    levels : array of int, shape (n_users,)
        0, 1 or 2; somebody must share.
    num_samples : array, shape (n_users,)
    between, within : float
        Variance s^2 of the users' means, and t^2 of their samples.
    user : int
        Whose mean is estimated.

    Returns
    -------
    federated_weight : float
        Of the average of federated users; 0 if there is none.
    direct_weights : ndarray, shape (n_direct,)
        Of the users at level 2, in their order.

    Examples
    --------
    >>> levels, samples = np.array([2, 1, 1, 0]), np.array([10.0, 10.0, 40.0, 5.0])
    >>> federated, direct = optimal_weights(levels, samples, 1.0, 10.0, 0)
    >>> round(federated, 4), direct.round(4).tolist()
    (0.3556, [0.6444])
    """
    noise, variance, n_federated, mean_noise, precision = _summary(levels, num_samples, between, within)
    direct = 1 / variance[levels == DIRECT]
    average = between + mean_noise
    federated = n_federated / average
    if levels[user] == FEDERATED:
        # The estimate leans to the average that its own user is part of.
        federated += between * float(direct.sum()) / average
        direct = direct * mean_noise / average
    elif levels[user] == DIRECT:
        spared = noise[user] / variance[user]
        own = int(np.sum(levels[:user] == DIRECT))
        kept = (between / variance[user]) * precision
        federated, direct = federated * spared, direct * spared
        direct[own] += kept
    return float(federated / precision), direct / precision


def errors(levels: IntArray, num_samples: Array, between: float, within: float) -> Array:
    """Expected squared error of every user's estimate with the optimal weights.

    Parameters
    ----------
    levels, num_samples, between, within
        As for `optimal_weights`.

    Returns
    -------
    ndarray, shape (n_users,)
        :math:`t^2 + 2 s^2`, by convention, if nobody shares.

    Examples
    --------
    >>> errors(np.array([2, 1, 1, 0]), np.array([10.0, 10.0, 40.0, 5.0]), 1.0, 10.0).round(4).tolist()
    [0.6444, 0.7778, 0.7778, 1.5778]
    """
    noise, variance, n_federated, mean_noise, precision = _summary(levels, num_samples, between, within)
    if precision == 0:
        return np.full(levels.shape, within + 2 * between)
    share = noise / variance
    outside = between + 1 / precision
    direct = share * (between + share / precision)
    federated = outside
    if n_federated:
        average = mean_noise / (between + mean_noise)
        federated = between * (n_federated - 1 + average) / n_federated + average**2 / precision
    return np.where(levels == DIRECT, direct, np.where(levels == FEDERATED, federated, outside))


def _summary(
    levels: IntArray, num_samples: Array, between: float, within: float
) -> tuple[Array, Array, int, float, float]:
    """Noise and variance of each local estimate, number and mean noise of federated ones, precision."""
    noise = within / num_samples
    variance = between + noise
    federated = levels == FEDERATED
    n_federated = int(federated.sum())
    mean_noise = float(noise[federated].mean()) if n_federated else 0.0
    precision = n_federated / (between + mean_noise) + float(np.sum(1 / variance[levels == DIRECT]))
    return noise, variance, n_federated, mean_noise, precision


def utility_on_counts(kinds: Kinds, between: float, within: float, counts: Sequence[Array]) -> Array:
    """Compute the utility (17) of coalitions, which depends only on how many members of each kind they have.

    Parameters
    ----------
    kinds : Kinds
        The kinds of users that share, and what those who do not share count for.
    between, within : float
        Variances s^2 and t^2.
    counts : sequence of arrays that broadcast together, length n_kinds
        Members of each kind.

    Returns
    -------
    ndarray of the counts' common shape
        0 where there are no members. Users outside the coalition count too, with the error that users at
        level 0 have.

    Examples
    --------
    >>> kinds = Kinds((2, 1), np.array([10.0, 10.0]), np.ones(2), (1, 1), 0.0)
    >>> members = np.meshgrid([0, 1], [0, 1], indexing="ij")
    >>> utility_on_counts(kinds, 1.0, 10.0, members).round(4).tolist()
    [[0.0, 3.8712], [3.8712, 5.5452]]
    """
    shape = np.broadcast_shapes(*(np.shape(count) for count in counts))
    noise = within / kinds.num_samples
    n_federated, total_noise, direct = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for kind, count in enumerate(counts):
        if kinds.levels[kind] == FEDERATED:
            n_federated = n_federated + count
            total_noise = total_noise + count * noise[kind]
        else:
            direct = direct + count / (between + noise[kind])
    # Coalitions without federated members, or without any, are given one here and corrected below.
    someone = np.maximum(n_federated, 1.0)
    mean_noise = total_noise / someone
    share = mean_noise / (between + mean_noise)
    precision = n_federated / (between + mean_noise) + direct
    empty = precision == 0
    precision = np.where(empty, 1.0, precision)
    alone = within + 2 * between
    outside = np.log(alone / (between + 1 / precision))
    averaged = between * (someone - 1 + share) / someone + share**2 / precision
    inside = np.log(alone / np.where(n_federated > 0, averaged, alone))
    utility = kinds.outside_importance * outside
    for kind, count in enumerate(counts):
        own = inside
        if kinds.levels[kind] == DIRECT:
            spared = noise[kind] / (between + noise[kind])
            own = np.log(alone / (spared * (between + spared / precision)))
        joined = count * own + (kinds.sizes[kind] - count) * outside
        utility = utility + kinds.importance[kind] * joined
    return np.where(empty, 0.0, utility)
