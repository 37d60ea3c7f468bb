r"""Information that leaks from those who share: formula, posterior, and updates of rank one.

All functions are in units of the noise: data are types plus independent noise of variance 1. With noise of
variance N information is N times that of the covariance divided by N.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def leaked_information(covariance: Array, sharing: BoolArray) -> Array:
    r"""Return :math:`I_i(A) = \Sigma_{iA} (I + \Sigma_{AA})^{-1} \Sigma_{Ai}` of every user.

    Parameters
    ----------
    covariance : array, shape (n_users, n_users)
    sharing : array of bool, shape (n_users,)

    Returns
    -------
    array, shape (n_users,)
    """
    across = covariance[:, sharing]
    inside = covariance[np.ix_(sharing, sharing)] + np.eye(int(sharing.sum()))
    leaked: Array = np.einsum("ij,ji->i", across, np.linalg.solve(inside, across.T))
    return leaked
