r"""The exact algorithm of private mean estimation: Newton's method on the noise per unit of weight.

Let :math:`\rho = s / \lambda` be the noise scale over the weight of a user without limit. Whatever it is,
user i has the weight :math:`\lambda \min(\epsilon_i \rho, 1)`, and the noise is optimal if

.. math:: 12 \rho = \sum_i \epsilon_i (1 - \epsilon_i \rho)_+ ,

where a term is what looser limits would be worth. The difference of the two sides is increasing, concave and
piecewise linear in :math:`\rho`. Newton's method from 0 therefore stays on the left of the root, drops users
and never takes them back, and ends at the root itself after finitely many steps, each one pass over the
users. Nothing is sorted, unlike in the closed form, with which it shares no code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Optimum:
    """The optimal estimator.

    Attributes
    ----------
    weights : array, shape (n_users,)
    noise_scale : float
    bayes_risk : float
    limit_price : array, shape (n_users,)
        What a user's weight beyond its limit would be worth: the fall of the risk per unit, >= 0.
    n_steps : int
        Newton's.
    """

    weights: Array
    noise_scale: float
    bayes_risk: float
    limit_price: Array
    n_steps: int


def optimal_estimator(privacy_levels: Array) -> Optimum:
    """Compute the linear-Laplace estimator of least Bayes risk.

    Parameters
    ----------
    privacy_levels : array, shape (n_users,)
        In [0, inf].

    Returns
    -------
    Optimum
    """
    finite = np.isfinite(privacy_levels)
    ratio, n_steps = _ratio(privacy_levels[finite & (privacy_levels > 0)])
    share = np.ones(privacy_levels.shape)
    share[finite] = np.minimum(privacy_levels[finite] * ratio, 1.0)
    free = 1.0 / (2.0 + float(share.sum()))
    weights, noise = free * share, free * ratio
    # The objective itself, term by term.
    missing = 1.0 - float(weights.sum())
    risk = float(weights @ weights) / 6 + missing**2 / 12 + 2 * noise**2
    return Optimum(weights, noise, risk, free * (1.0 - share) / 3, n_steps)


def _ratio(levels: Array) -> tuple[float, int]:
    """Root of the optimality condition of the noise, and Newton's steps to it; positive, finite levels."""
    ratio, n_steps = 0.0, 0
    while True:
        levels = levels[levels * ratio < 1.0]
        if not levels.size:
            return ratio, n_steps
        # In a unit in which squares do not overflow.
        unit = max(float(levels.max()), 1.0)
        relative = levels / unit
        step = float(relative.sum()) / (12 / unit / unit + float(relative @ relative)) / unit
        # It would be the same with the same users, and less only by rounding.
        if step <= ratio:
            return ratio, n_steps
        ratio, n_steps = step, n_steps + 1


__all__ = ["Optimum", "optimal_estimator"]
