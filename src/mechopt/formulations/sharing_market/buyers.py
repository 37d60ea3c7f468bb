"""One buyer's choice of sellers: the exact algorithms, and which of them applies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import Utility

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BuyerProblem:
    r"""The most that a buyer can gain: :math:`\max_S U(S) - \sum_{i \in S} c_i`.

    Attributes
    ----------
    utility : Utility
    own_size : float
        The buyer's own data (records).
    data_size, quality_weight, cost : array, shape (n_agents,)
        Each agent's data (records), what a record of it counts for, and what it costs (money).
    available : array of bool, shape (n_agents,)
        Sellers to choose from.
    cap : float
        Most sellers; infinite if there is no limit.
    budget : float
        Most cost (money); infinite if there is no limit.
    """

    utility: Utility
    own_size: float
    data_size: Array
    quality_weight: Array
    cost: Array
    available: BoolArray
    cap: float = np.inf
    budget: float = np.inf
