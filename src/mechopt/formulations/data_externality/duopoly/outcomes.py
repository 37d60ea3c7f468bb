"""What comes out of the joining game: on a platform, and on average."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Outcome:
    """Stages 2 and 3 on one platform.

    Attributes
    ----------
    sharing : array of bool, shape (n_users,)
        Whose data the platform buys.
    leaked : array, shape (n_users,)
        Information about each user that leaks to it.
    price : array, shape (n_users,)
        What it pays those who share (money), eq. (3).
    profit : float
        (money)
    """

    sharing: BoolArray
    leaked: Array
    price: Array
    profit: float


@dataclass(frozen=True)
class SampledSurplus:
    """Surplus of the mixed equilibrium, estimated from random joining profiles (money).

    Attributes
    ----------
    data_surplus, social_surplus : float
        Means over the draws.
    data_error, social_error : float
        Standard errors of the means.
    n_draws : int
    """

    data_surplus: float
    data_error: float
    social_surplus: float
    social_error: float
    n_draws: int
