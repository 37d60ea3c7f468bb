"""What comes out of markets of users in groups, by counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


class GroupLeaks(NamedTuple):
    """Information about users of each group, shape (n_groups,); NaN where a group has no such users.

    Attributes
    ----------
    sharers : array
        About each of those who share.
    others : array
        About each of those who do not.
    """

    sharers: Array
    others: Array


class GroupPayoffs(NamedTuple):
    """What users of each group get (money), shape (n_groups,); NaN where a group has no such users.

    Attributes
    ----------
    sharers : array
        Each of those who joined and share.
    others : array
        Each of those who joined and do not.
    """

    sharers: Array
    others: Array


@dataclass(frozen=True, eq=False)
class GroupPurchase:
    """What one platform buys from users in groups.

    Attributes
    ----------
    joined, sharing : array of int, shape (n_groups,)
        How many joined, and how many of these share.
    prices : array, shape (n_groups,)
        What each of those who share gets (money); NaN where none does.
    leaked : GroupLeaks
    payoffs : GroupPayoffs
    profit : float
        (money)
    data_surplus, social_surplus : float
        Of the platform and its users, and by the spillover's weight of others (money); with services.
    n_ties : int
        Purchases, by counts, of that profit.
    """

    joined: IntArray
    sharing: IntArray
    prices: Array
    leaked: GroupLeaks
    payoffs: GroupPayoffs
    profit: float
    data_surplus: float
    social_surplus: float
    n_ties: int

    def to_frame(self) -> pd.DataFrame:
        """One row a group."""
        import pandas as pd

        columns = {
            "joined": self.joined,
            "sharing": self.sharing,
            "price": self.prices,
            "leaked_of_sharers": self.leaked.sharers,
            "leaked_of_others": self.leaked.others,
        }
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self.joined), name="group"))

    def __repr__(self) -> str:
        return (
            f"GroupPurchase({self.sharing.tolist()} of {self.joined.tolist()} share, profit "
            f"{self.profit:.6g}, data surplus {self.data_surplus:.6g})"
        )


@dataclass(frozen=True, eq=False)
class GroupFirstBest:
    """Joining and sharing by counts, of most social surplus with two platforms.

    Attributes
    ----------
    joining, sharing : array of int, shape (2, n_groups)
        How many join each platform, and how many of these share.
    social_surplus, data_surplus : float
        (money)
    """

    joining: IntArray
    sharing: IntArray
    social_surplus: float
    data_surplus: float
