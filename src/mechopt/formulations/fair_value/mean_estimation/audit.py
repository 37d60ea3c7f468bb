r"""Private mean estimation by the definitions: what an output reveals of a user, and the error.

Nothing here uses the program, the closed form or the exact algorithm. Privacy is read off the densities of
outputs on neighbouring data sets, and the risk is the integral over the unknown mean of the error given it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ALL_DATA_SETS = 8
"""Users up to which every data set is tried; among more, a few hundred are drawn."""


@dataclass(frozen=True, eq=False)
class PrivacyAudit:
    """What an audit of an estimator found.

    Attributes
    ----------
    epsilon : array, shape (n_users,)
        What an output can tell of each user's data: the largest log-ratio of the densities of an output on
        two data sets that differ in this user only. Infinite if there is no noise and the user has a weight.
    excess : array, shape (n_users,)
        ``epsilon`` beyond the user's privacy level, relative to that level where it is above 1; at least 0.
    worst : int
        The user with the largest excess.
    bayes_risk : float
        Expected squared error, computed anew.
    risk_gap : float
        Relative difference to the risk that the answer claims; 0 if it claims none.
    """

    epsilon: Array
    excess: Array
    worst: int
    bayes_risk: float
    risk_gap: float

    def ok(self, tolerance: float = 1e-6) -> bool:
        """Whether every level is kept, and the risk is what is claimed, to this relative tolerance."""
        return bool(self.excess[self.worst] <= tolerance and self.risk_gap <= tolerance)


def audit_estimator(
    privacy_levels: Array, weights: Array, noise_scale: float, claimed_risk: float | None
) -> PrivacyAudit:
    """Audit a linear-Laplace estimator; see `MeanEstimation.audit`."""
    found = revealed(weights, noise_scale)
    # inf - inf is no excess: such a user asks for no privacy.
    limit = np.where(np.isinf(privacy_levels), 0.0, privacy_levels)
    excess = np.where(np.isinf(privacy_levels), 0.0, np.maximum(found - limit, 0.0) / np.maximum(limit, 1.0))
    risk = risk_given_mean(weights, noise_scale)
    gap = 0.0 if claimed_risk is None else abs(claimed_risk - risk) / risk
    return PrivacyAudit(found, excess, int(np.argmax(excess)), risk, gap)


def revealed(weights: Array, noise_scale: float) -> Array:
    """Largest log-ratio of output densities over neighbours, data sets and outputs, for each user."""
    if noise_scale <= 0:
        return np.where(weights == 0, 0.0, np.inf)
    n_users = weights.size
    if n_users <= _ALL_DATA_SETS:
        data = np.array(list(product((-0.5, 0.5), repeat=n_users)))
    else:
        data = np.random.default_rng(0).choice([-0.5, 0.5], size=(256, n_users))
    centres = data @ weights
    found = np.zeros(n_users)
    for user in range(n_users):
        neighbours = centres - 2 * data[:, user] * weights[user]
        low, high = np.minimum(centres, neighbours), np.maximum(centres, neighbours)
        # Between the two centres the ratio changes, and beyond them it no longer does.
        for output in (low - noise_scale, low, (low + high) / 2, high, high + noise_scale):
            ratio = (np.abs(output - neighbours) - np.abs(output - centres)) / noise_scale
            found[user] = max(found[user], float(ratio.max()))
    return found


def risk_given_mean(weights: Array, noise_scale: float) -> float:
    r"""Integrate the error given the mean, :math:`\operatorname{Var}(w'X | \mu) + (\sum w - 1)^2 \mu^2`.

    Gauss's rule with four nodes is exact for these polynomials of degree two.
    """
    nodes, parts = np.polynomial.legendre.leggauss(4)
    mean = nodes / 2
    variance = (0.5 + mean) * (0.5 - mean)
    bias = float(weights.sum()) * mean - mean
    error = float(weights @ weights) * variance + bias**2
    return float(parts @ error) / 2 + 2 * noise_scale**2
