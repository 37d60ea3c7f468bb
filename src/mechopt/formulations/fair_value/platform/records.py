"""What a platform's mechanism returns."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechopt.solvers.solution import Solution

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class PlatformSolution(Solution):
    """A `Solution` whose main numbers are attributes too, and that says whether its value is attained.

    It is one, so that tables, checks and studies treat it like every other; what it adds is typed.
    """

    @property
    def payment_share(self) -> float:
        """Share of the utility that is paid to users, alpha in [0, 1]."""
        return float(self["payment_share"])

    @property
    def share_probability(self) -> Any:
        """Probability q of sharing at the less private level: a float if all are alike, else (n_users,)."""
        q = self["share_probability"]
        return q if q.ndim else float(q)

    @property
    def attained(self) -> bool:
        """Whether some payment share gives the objective; if not, only shares just above the one given do."""
        return bool(self.extra.get("attained", True))


def typed(solution: Solution) -> PlatformSolution:
    """Return the same record, with the attributes."""
    return PlatformSolution(**{field.name: getattr(solution, field.name) for field in fields(Solution)})


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """What users do at a payment share.

    Attributes
    ----------
    share_probability : array, shape (n_users,)
        Of each user.
    total_utility, platform_utility : float
        ``U`` and ``(1 - alpha) U``, expected.
    regret : float
        The most that a user could gain by another level.
    """

    share_probability: Array
    total_utility: float
    platform_utility: float
    regret: float
