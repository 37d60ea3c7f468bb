"""Incentive checks on an answer itself, by the definition and without the program that produced it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.solvers.errors import InvalidInput

Array = NDArray[np.float64]

_BLOCK = 2**15  # entries of a table looked at together


@dataclass(frozen=True)
class Deviation:
    """The most profitable thing that one agent could do other than what is expected.

    Attributes
    ----------
    agent : int
        Index of the agent or type.
    choice : int or None
        Index of what it would choose or report instead; None is the outside option.
    gain : float
        What it gains by that, in utility; not positive if no deviation pays.
    """

    agent: int
    choice: int | None
    gain: float

    def __str__(self) -> str:
        instead = "takes the outside option" if self.choice is None else f"as {self.choice}"
        return f"agent {self.agent} {instead}: gains {self.gain:.3g}"


@dataclass(frozen=True)
class Audit:
    """What an incentive audit found.

    Attributes
    ----------
    ic_violation : float
        Largest gain from choosing another's contract, 0 if none pays.
    ir_violation : float
        Largest shortfall below the outside option, 0 if none.
    worst : Deviation or None
        The most profitable deviation of either kind, whose gain may be 0 or less; None if there is no choice.
    scale : float
        Size of the utilities involved, relative to which the violations are judged.
    method : str
        ``"all pairs"``, or which weaker check was made.
    """

    ic_violation: float
    ir_violation: float
    worst: Deviation | None
    scale: float
    method: str = "all pairs"

    @property
    def relative(self) -> float:
        """Worst violation over ``scale``."""
        return max(self.ic_violation, self.ir_violation) / self.scale

    def ok(self, tolerance: float = 1e-6) -> bool:
        """Whether no deviation gains more than ``tolerance`` of the scale."""
        return self.relative <= tolerance


def audit_choices(
    utility: ArrayLike, outside_option: ArrayLike = 0.0, *, scale: float | None = None
) -> Audit:
    """Audit a menu: whether agents want the contracts meant for them, and want to take part.

    Parameters
    ----------
    utility : array, shape (n_agents, n_agents)
        ``utility[k, j]`` is what agent ``k`` gets from the contract meant for agent ``j``.
    outside_option : float or array, shape (n_agents,)
        What an agent gets by staying out.
    scale : float, optional
        Size of utilities; by default the largest absolute one (1 if all are 0).

    Returns
    -------
    Audit
        ``ic_violation = max(utility[k, j] - utility[k, k])`` and
        ``ir_violation = max(outside - utility[k, k])``.

    Examples
    --------
    >>> audit_choices([[1.0, 1.5], [0.0, 0.25]]).worst
    Deviation(agent=0, choice=1, gain=0.5)
    """
    table = np.asarray(utility, dtype=float)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not table.size:
        raise InvalidInput(f"utility must be a square matrix (agents by contracts), got shape {table.shape}")
    low, high = float(np.min(table)), float(np.max(table))
    if not (math.isfinite(low) and math.isfinite(high)):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(table))[0])
        raise InvalidInput(f"utility{list(where)} is {table[where]}; an audit needs finite utilities")
    own = np.diag(table)
    deviations = [_largest(np.broadcast_to(np.asarray(outside_option, dtype=float), own.shape) - own)]
    if len(own) > 1:
        deviations.append(_most_tempted(table, own))
    return _audit(deviations, scale if scale is not None else max(high, -low), "all pairs")


def audit_deviations(deviations: list[Deviation], *, scale: float, method: str) -> Audit:
    """Sum up an audit made by other means, from the best deviations; choice None means staying out."""
    return _audit(deviations, scale, method)


def _most_tempted(table: Array, own: Array) -> Deviation:
    """Best choice of another's contract over all agents, a few rows at a time, which stay in fast memory."""
    best = Deviation(0, 1, -np.inf)
    step = max(1, _BLOCK // len(own))
    for start in range(0, len(own), step):
        gains = table[start : start + step] - own[start : start + step, None]
        rows = np.arange(len(gains))
        gains[rows, start + rows] = -np.inf  # one's own contract is no deviation
        agent, choice = np.unravel_index(int(np.argmax(gains)), gains.shape)
        if gains[agent, choice] > best.gain:
            best = Deviation(start + int(agent), int(choice), float(gains[agent, choice]))
    return best


def _largest(shortfall: Any) -> Deviation:
    agent = int(np.argmax(shortfall))
    return Deviation(agent, None, float(shortfall[agent]))


def _audit(deviations: list[Deviation], scale: float, method: str) -> Audit:
    incentive = max((d.gain for d in deviations if d.choice is not None), default=0.0)
    outside = max((d.gain for d in deviations if d.choice is None), default=0.0)
    worst = max(deviations, key=lambda d: d.gain, default=None)
    return Audit(max(incentive, 0.0), max(outside, 0.0), worst, scale or 1.0, method)
