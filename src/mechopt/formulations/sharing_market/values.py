"""What sets of sellers are worth to a buyer, whatever kind of utility it has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import AdditiveUtility, TableUtility, Utility
from mechopt.solvers.errors import NotApplicable

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def described(data_size: Array, utility: Sequence[Utility]) -> str:
    """How many agents with how much data, and what kinds of utilities, on one line."""
    kinds = sorted({type(each).__name__ for each in utility})
    return (
        f"{data_size.size} agent{'s' if data_size.size != 1 else ''}, {data_size.min():.6g} to "
        f"{data_size.max():.6g} records, utility {', '.join(kinds[:3])}{', ...' if len(kinds) > 3 else ''}"
    )


def value_of_sets(
    utility: Utility, taken: BoolArray, *, own_size: float, data_size: Array, quality_weight: Array
) -> Array:
    """Utility of a buyer from sets of sellers.

    Parameters
    ----------
    utility : Utility
        The buyer's.
    taken : array of bool, shape (..., n_agents)
        Sets of sellers; the buyer's own entry is not to be set.
    own_size : float
        The buyer's own data (records).
    data_size, quality_weight : array, shape (n_agents,)
        Data of each agent (records), and what a record of it counts for to this buyer.

    Returns
    -------
    array, shape (...)
        Money.
    """
    if isinstance(utility, AdditiveUtility):
        worth: Array = taken @ (np.array(utility.values) * quality_weight)
        return worth
    if isinstance(utility, TableUtility):
        if np.any(quality_weight[sorted(utility.sellers)] != 1):
            raise NotApplicable(
                "a TableUtility has no value for data of other quality; use a utility of total size",
                reason="quality weights of a table",
            )
        flat = taken.reshape(-1, taken.shape[-1])
        found = [utility.values[frozenset(np.flatnonzero(row).tolist())] for row in flat]
        return np.array(found).reshape(taken.shape[:-1])
    return utility(own_size + taken @ (data_size * quality_weight))
