"""The paper's numerical examples, ready to run, and the numbers of its figures 2 and 3.

The paper counts users from 1; here they are counted from 0. Its joining utilities are constant in all
examples, and 0 here: surplus is that from data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.data_externality.duopoly.tables import probability_of_sets
from mechopt.formulations.data_externality.groups import ExchangeableGroups
from mechopt.formulations.data_externality.model import DataExternality
from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

FIGURE_2_PROFILES = ((1, 1, 2), (2, 1, 1), (1, 2, 1), (1, 1, 1))
"""Joining profiles of figures 2a to 2d."""

FIGURE_2_DEVIATORS = (0, 1, 2, 2)
"""Who is said to leave each of them for the other platform."""

LOW_VALUE = 0.9
WITHIN = 0.05
GROUP_SIZE = 10
LARGEST_CORRELATION = 0.145
"""Correlation between the groups of Example 3 up to which there are such types."""


def example_1(repaired: bool = False) -> DataExternality:
    """Return Example 1: three users, meant to have no pure joining equilibrium.

    Parameters
    ----------
    repaired : bool
        As printed, users 0 and 2 together are one. With covariances .2 and .15 of user 2 with users 0 and 1
        there is none.
    """
    with_0, with_1 = (0.2, 0.15) if repaired else (0.06, 0.5)
    covariance = [[4, 0.05, with_0], [0.05, 4, with_1], [with_0, with_1, 0.3]]
    return DataExternality(np.array(covariance), np.array([0.01, 0.99, 1.1]))


def example_2(value: float, correlation: float = 0.5, low_value: float = 0.5) -> DataExternality:
    """Return Example 2: two users of unit variance, the second with this value of privacy."""
    return DataExternality(np.array([[1.0, correlation], [correlation, 1.0]]), np.array([low_value, value]))


def purchase_threshold(correlation: float, low_value: float) -> float:
    r"""Value of privacy up to which one platform also buys from the second user of Example 2.

    .. math:: \frac{4 - 3r^2 + r^4 + v_1 (3r^2 - r^4)}{(2 - r^2)^2}
    """
    r2 = correlation**2
    return (4 - 3 * r2 + r2**2 + low_value * (3 * r2 - r2**2)) / (2 - r2) ** 2


def example_3(correlation: float, high_value: float) -> ExchangeableGroups:
    """Return Example 3: ten users with a value of privacy of .9 and ten with a high one, of unit variance.

    Parameters
    ----------
    correlation : float
        Between users of different groups; within groups it is .05. At most .145.
    high_value : float
    """
    return ExchangeableGroups(
        np.array([GROUP_SIZE, GROUP_SIZE]),
        within=np.full(2, WITHIN),
        across=np.full((2, 2), correlation),
        variances=np.ones(2),
        value_of_privacy=np.array([LOW_VALUE, high_value]),
    )


def figure_2(model: DataExternality | None = None) -> pd.DataFrame:
    """Compute figure 2: for each joining profile of Example 1, payoffs and who would leave.

    Parameters
    ----------
    model : DataExternality, optional
        Of three users; Example 1 as printed by default.

    Returns
    -------
    pandas.DataFrame
        One row a profile: payoffs (money), what the user who is said to leave gains by it, and the best
        deviation of all (its user, and its gain, not positive in equilibrium).
    """
    import pandas as pd

    game = (example_1() if model is None else model).duopoly()
    rows = []
    for joining, leaver in zip(FIGURE_2_PROFILES, FIGURE_2_DEVIATORS, strict=True):
        payoffs = game.payoffs(joining)
        moved = list(joining)
        moved[leaver] = 3 - joining[leaver]
        best = game.best_deviation(joining)
        rows.append(
            {
                "joining": joining,
                **{f"payoff_{user}": payoffs[user] for user in range(3)},
                "leaver": leaver,
                "leaver_gain": game.payoffs(moved)[leaver] - payoffs[leaver],
                "best_deviator": best.agent,
                "best_gain": best.gain,
            }
        )
    return pd.DataFrame(rows)


def figure_3(correlations: ArrayLike) -> pd.DataFrame:
    """Compute the curves of figure 3: values of privacy at which the surplus of Example 3 changes sign.

    Parameters
    ----------
    correlations : array, shape (n_points,)
        Between the groups, in (0, .145].

    Returns
    -------
    pandas.DataFrame
        Indexed by correlation. ``monopoly`` and ``duopoly``: above these values the surplus is negative,
        high-value users not sharing. ``theorem_4``: above it, the printed bound is negative.
        ``second_region``: up to this value one platform buys from all, so that its surplus is also negative
        from 1.1 on; NaN where the value is not above 1.1.
    """
    import pandas as pd

    points = checks.vector(correlations, "correlations")
    columns = {
        "monopoly": [zero_surplus_value(r, 1) for r in points],
        "duopoly": [zero_surplus_value(r, 2) for r in points],
        "theorem_4": [printed_bound_value(r) for r in points],
        "second_region": [value if (value := all_share_value(r)) > 2 - LOW_VALUE else np.nan for r in points],
    }
    return pd.DataFrame(columns, index=pd.Index(points, name="correlation"))


def zero_surplus_value(correlation: float, n_platforms: int = 1) -> float:
    r"""Value of privacy above which Example 3 has a negative surplus, if no high-value user shares.

    It is :math:`1 + k / r^2` exactly: what leaks about high-value users is proportional to :math:`r^2`, and
    what leaks about the others does not depend on r. One platform has k = 4/325, two have k = .0222817.

    Parameters
    ----------
    correlation : float
        Between the groups, in (0, .145].
    n_platforms : int
        Users join each alike.
    """
    r = _correlation(correlation)
    # The number who share of a given user's nine others and itself; each platform is like any other.
    chance = probability_of_sets(np.full(GROUP_SIZE, 1 / checks.count(n_platforms, "n_platforms")))
    sharers = np.array([mask.bit_count() for mask in range(2**GROUP_SIZE)])
    weight = sharers / (1 - WITHIN + 1)
    explained = weight / (1 + WITHIN * weight)
    # Posterior variance of a sharer before its own data, with one sharer fewer.
    less = np.maximum(sharers - 1, 0) / (2 - WITHIN)
    before = WITHIN / (1 + WITHIN * less) + 1 - WITHIN
    gained = chance @ (sharers * (1 - before / (1 + before))) * (1 - LOW_VALUE)
    lost = chance @ explained * GROUP_SIZE / n_platforms
    return float(1 + gained / lost / r**2)


def printed_bound_value(correlation: float) -> float:
    """Value of privacy above which the bound of Theorem 4 as printed is negative in Example 3."""
    r = _correlation(correlation)
    groups = example_3(r, 2.0)
    gained = (1 - LOW_VALUE) * groups.leaked_information(groups.sizes).sharers[0]
    harm = groups.leaked_information([GROUP_SIZE, 0]).others[1] / 2
    return float(1 + gained / harm)


def all_share_value(correlation: float) -> float:
    """Value of privacy up to which one platform of Example 3 rather buys from all than from low-value users.

    Profit from all falls in the value of privacy of those who are paid for it; the other does not depend on
    it.
    """
    groups = example_3(_correlation(correlation), 2.0)
    everything = groups.leaked_information(groups.sizes).sharers
    low = groups.leaked_information([GROUP_SIZE, 0])

    def own(leaked: float) -> float:
        """What a sharer's own data tell about it, given that all leaves 1 - leaked."""
        return float((1 - leaked) ** 2 / leaked)

    all_but_high_paid = GROUP_SIZE * (everything.sum() - LOW_VALUE * own(everything[0]))
    low_only = GROUP_SIZE * (low.sharers[0] + low.others[1] - LOW_VALUE * own(low.sharers[0]))
    return float((all_but_high_paid - low_only) / (GROUP_SIZE * own(everything[1])))


def _correlation(value: float) -> float:
    r = checks.positive(value, "correlation")
    if r > LARGEST_CORRELATION + 1e-9:
        raise InvalidInput(
            f"correlation = {r:g} must be at most {LARGEST_CORRELATION}: there are no such types above"
        )
    return r


__all__ = [
    "all_share_value",
    "example_1",
    "example_2",
    "example_3",
    "figure_2",
    "figure_3",
    "printed_bound_value",
    "purchase_threshold",
    "zero_surplus_value",
]
