"""Numbers behind the paper's Fig. 6 and Fig. 7: a platform's optimum over a range of costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mechopt.formulations import checks
from mechopt.formulations.fair_value.platform.model import PlatformPayments, Selection
from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

WORKED_UTILITY = (0.0, 2 / 3, 1.0)
"""Utility of 0, 1 and 2 sharers in the paper's Example 1 as epsilon grows: U(n) = 2n / (n + 2)."""


def platform_curve(
    utility: ArrayLike, privacy_costs: ArrayLike, selection: Selection = "symmetric"
) -> pd.DataFrame:
    """Return the platform's optimum for each of some costs that all users have in common.

    Parameters
    ----------
    utility : array, shape (n_users + 1,)
        U(0) = 0, ..., U(N) by the number of sharers.
    privacy_costs : array, shape (n_costs,)
        Utility units, >= 0.
    selection : {"symmetric", "optimistic", "pessimistic"}
        See `PlatformPayments`.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``privacy_cost``, with columns ``payment_share``, ``share_probability`` (averaged over
        users), ``total_utility``, ``platform_utility`` and ``payments``, in utility units.

    References
    ----------
    Fig. 6.

    Examples
    --------
    >>> platform_curve(WORKED_UTILITY, [0.2, 0.5]).round(4).loc[0.5].tolist()
    [0.8571, 0.5, 0.5833, 0.0833, 0.5]
    """
    import pandas as pd

    worth = checks.vector(utility, "utility")
    costs = checks.vector(privacy_costs, "privacy_costs")
    rows = []
    for cost in costs:
        solution = PlatformPayments(worth, worth.size - 1, float(cost), selection).solve()
        rows.append(
            {
                "payment_share": solution.payment_share,
                "share_probability": float(np.mean(solution.share_probability)),
                "total_utility": float(solution["total_utility"]),
                "platform_utility": solution.objective,
                "payments": float(solution["payments"]),
            }
        )
    return pd.DataFrame(rows, index=pd.Index(costs, name="privacy_cost"))


def two_user_map(utility: ArrayLike, costs_1: ArrayLike, costs_2: ArrayLike) -> pd.DataFrame:
    """Return the platform's optimum for two users over a grid of their costs.

    Where both users cost the same and one of them shares, it may be either: the first is reported.

    Parameters
    ----------
    utility : array, shape (3,)
        Of 0, 1 and 2 sharers.
    costs_1, costs_2 : array, shapes (n_1,) and (n_2,)
        Of either user, utility units, >= 0.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``cost_1`` and ``cost_2``, with columns ``platform_utility``, ``payment_share``,
        ``share_probability_1``, ``share_probability_2``, ``payment_1`` and ``payment_2``;
        ``table["payment_2"].unstack()`` is the grid of one.

    References
    ----------
    Fig. 7.

    Examples
    --------
    >>> table = two_user_map(WORKED_UTILITY, [0.29], [0.30])
    >>> table["platform_utility"].round(4).tolist()
    [0.4055]
    """
    import pandas as pd

    worth = checks.vector(utility, "utility")
    if worth.size != 3:
        raise InvalidInput(f"utility has {worth.size} entries; give those of 0, 1 and 2 sharers")
    axes = (checks.vector(costs_1, "costs_1"), checks.vector(costs_2, "costs_2"))
    index = pd.MultiIndex.from_product(axes, names=["cost_1", "cost_2"])
    rows = []
    for pair in index:
        solution = PlatformPayments(worth, 2, np.array(pair), "optimistic").solve()
        q, paid = solution["share_probability"], solution["payment"]
        rows.append(
            {
                "platform_utility": solution.objective,
                "payment_share": solution.payment_share,
                "share_probability_1": float(q[0]),
                "share_probability_2": float(q[1]),
                "payment_1": float(paid[0]),
                "payment_2": float(paid[1]),
            }
        )
    return pd.DataFrame(rows, index=index)
