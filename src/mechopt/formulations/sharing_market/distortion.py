r"""Quality weights that take an amount from a buyer's utility, or add it, as (28) asks for.

All utilities that can be distorted are functions :math:`\phi` of one number, linear in the weights: total
data, or the sum of what sellers are worth one by one. The weights that bring utility to a target are then
those on a hyperplane, :math:`\sum_i a_i w_i = \phi^{-1}(\text{target}) - a_0`. Which of them to take:

- ``"least_absolute"``: least :math:`\sum_i d_i |w_i - w_i^0|`, records changed: a linear program;
- ``"least_squares"``: least :math:`\sum_i d_i (w_i - w_i^0)^2`: a quadratic program;
- ``"uniform"``: all weights by one factor (towards their limits by one share, where they have limits).

`declare_distortion` declares the first two for all buyers at once; `Inflow.weights` solves them one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import brentq

from mechopt.formulations.functions import (
    AdditiveUtility,
    ConcaveFunction,
    TableUtility,
    ThresholdUtility,
    Utility,
)
from mechopt.solvers.errors import InvalidInput, NotApplicable
from mechopt.solvers.program import Program

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.model import SharingMarket

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Distortion = Literal["least_absolute", "least_squares", "uniform"]
Code = Literal["no_incoming_data", "not_enough_utility_to_take", "utility_bounded_above", "utility_jumps"]

_SHORT_OF_SUPREMUM = 1e-9
"""Share of the distance to a bound that is not attained which no weights are asked to close."""

_ACCURACY = 1e-9
"""Error of a realised utility, relative to the money involved, that is rounding."""


def check_distortion(distortion: str) -> None:
    """Refuse what is no rule for choosing weights."""
    if distortion not in get_args(Distortion):
        raise InvalidInput(f"distortion must be one of {', '.join(get_args(Distortion))}, got {distortion!r}")


@dataclass(frozen=True)
class Refusal:
    """Why no quality weights take an agent's data payment from its utility.

    Attributes
    ----------
    agent : int
    code : str
        ``"no_incoming_data"``: it receives nothing whose quality could change;
        ``"not_enough_utility_to_take"``: all data it receives is worth less;
        ``"utility_bounded_above"``: no amount of data, or none of the quality allowed, is worth as much;
        ``"utility_jumps"``: its utility is a step or a table, which has no values in between.
    amount : float
        Its data payment (money): > 0 is to be taken, < 0 to be given.
    limit : float
        How far weights can go that way, same sign (money).
    """

    agent: int
    code: Code
    amount: float
    limit: float

    def __str__(self) -> str:
        what = f"take {self.amount:.6g} from" if self.amount > 0 else f"give {-self.amount:.6g} to"
        synthetic = " (synthetic_data=True lets it have some)" if self.amount < 0 else ""
        why = {
            "no_incoming_data": f"it receives no data{synthetic}",
            "not_enough_utility_to_take": "all that it receives is worth less",
            "utility_bounded_above": "no data of the quality allowed is worth as much",
            "utility_jumps": "its utility is a step or a table, with no values in between",
        }[self.code]
        return f"agent {self.agent}: quality cannot {what} it, at most {abs(self.limit):.6g}; {why}"


@dataclass(frozen=True, eq=False)
class Inflow:
    """The data that reaches one buyer, whose quality the intermediary sets.

    Attributes
    ----------
    buyer : int
    utility : Utility
    base : float
        Argument of the utility without any inflow: own data (records), or what weights cannot change (money).
    slope : array, shape (n_agents,)
        What a unit of weight adds to the argument: a batch (records), or its worth (money); 0 for sellers
        whose weight is not to be set.
    size : array, shape (n_agents,)
        Data of each agent (records), the measure of distortion.
    start, upper : array, shape (n_agents,)
        Weights before distortion, and the most they may be.
    """

    buyer: int
    utility: Utility
    base: float
    slope: Array
    size: Array
    start: Array
    upper: Array

    @classmethod
    def of(cls, market: SharingMarket, buyer: int, start: Array, upper: Array) -> Inflow:
        """Read the inflow of a buyer; weights are set where ``upper`` is > 0."""
        utility = market.utility[buyer]
        if isinstance(utility, AdditiveUtility):
            worth = np.array(utility.values)
            # Data that is worth nothing, or less, is left as it is.
            slope = np.where((upper > 0) & (worth > 0), worth, 0.0)
            base = float(start @ (worth - slope))
        else:
            slope, base = np.where(upper > 0, market.data_size, 0.0), float(market.data_size[buyer])
        return cls(buyer, utility, base, slope, market.data_size, start, upper)

    @property
    def jumps(self) -> bool:
        """Whether utility has no values in between."""
        return isinstance(self.utility, ThresholdUtility | TableUtility)

    def value_at(self, argument: float) -> float:
        """Utility at an argument (money)."""
        if isinstance(self.utility, AdditiveUtility):
            return argument
        assert not isinstance(self.utility, TableUtility)  # jumps are refused before
        return float(self.utility(argument))

    @cached_property
    def argument(self) -> float:
        """Argument before distortion."""
        return self.base + float(self.slope @ self.start)

    @cached_property
    def most(self) -> float:
        """Largest argument that weights reach; infinite if there is no limit."""
        set_by_us = self.slope > 0
        return self.base + float(self.slope[set_by_us] @ self.upper[set_by_us])

    @cached_property
    def value(self) -> float:
        """Utility before distortion (money)."""
        return self.value_at(self.argument)

    @cached_property
    def can_take(self) -> float:
        """Most that lower quality takes (money), >= 0."""
        if self.jumps or not np.any(self.slope * self.start):
            return 0.0
        return self.value - self.value_at(self.base)

    @cached_property
    def can_give(self) -> float:
        """Most that higher quality gives (money), >= 0; just short of a bound that is not attained."""
        if self.jumps or not np.any(self.slope) or self.most <= self.argument:
            return 0.0
        if np.isfinite(self.most):
            return max(self.value_at(self.most) - self.value, 0.0)
        if isinstance(self.utility, AdditiveUtility):
            return np.inf
        assert not isinstance(self.utility, TableUtility)
        top = self.utility.supremum
        if not np.isfinite(top):
            return np.inf
        attained = isinstance(self.utility, ConcaveFunction) and np.isfinite(self.utility.inverse(top))
        return (top - self.value) * (1.0 if attained else 1 - _SHORT_OF_SUPREMUM)

    def argument_for(self, target: float) -> float:
        """Argument at which utility is the target; NaN if none is found."""
        if isinstance(self.utility, AdditiveUtility):
            return target
        if isinstance(self.utility, ConcaveFunction):
            found = float(self.utility.inverse(target))
        else:
            found = self._bisect(target)
        # Targets at an end are missed by rounding.
        return min(max(found, self.base), self.most) if np.isfinite(found) else np.nan

    def _bisect(self, target: float) -> float:
        """Argument of a utility without an inverse: by bisection, downward or upward from where it is."""
        low, high = self.base, self.argument
        if target > self.value:
            low, high = self.argument, min(self.most, 2 * self.argument)
            while self.value_at(high) < target and high < self.most and high < 1e15 * self.argument:
                low, high = high, min(self.most, 2 * high)
        if not self.value_at(low) <= target <= self.value_at(high):
            return np.nan
        if self.value_at(low) == target:
            return low
        return float(
            brentq(lambda x: self.value_at(x) - target, low, high, xtol=1e-300, rtol=1e-15, maxiter=500)
        )

    # ------------------------------------------------------------ weights

    def weights(self, payment: float, distortion: Distortion) -> Array | Refusal:
        """Quality weights under which utility is lower by the payment (money), or why there are none.

        Returns
        -------
        array, shape (n_agents,), or Refusal
            Utility has been evaluated at the weights, and differs by the payment to 1e-9 of the money.
        """
        if payment == 0:
            return self.start
        if self.jumps:
            return Refusal(self.buyer, "utility_jumps", payment, 0.0)
        limit = self.can_take if payment > 0 else -self.can_give
        slack = _ACCURACY * max(abs(self.value), abs(payment))
        if not np.any(self.slope if payment < 0 else self.slope * self.start):
            return Refusal(self.buyer, "no_incoming_data", payment, 0.0)
        if abs(payment) > abs(limit) + (slack if np.isfinite(limit) else 0.0):
            code: Code = "not_enough_utility_to_take" if payment > 0 else "utility_bounded_above"
            return Refusal(self.buyer, code, payment, limit)
        target = self.value - payment
        argument = self.argument_for(target)
        if not np.isfinite(argument):
            code = "utility_jumps" if payment > 0 else "utility_bounded_above"
            return Refusal(self.buyer, code, payment, limit)
        weight = self._at(argument, distortion)
        if abs(self.value_at(self.base + float(self.slope @ weight)) - target) > slack:
            return Refusal(self.buyer, "utility_jumps", payment, limit)
        return weight

    def _at(self, argument: float, distortion: Distortion) -> Array:
        change = argument - self.argument
        if distortion == "uniform":
            return self._along(self.slope > 0, change)
        if distortion == "least_squares":
            return self._least_squares(change)
        # The fewest records: those that count most first, and those that count the same by one factor.
        weight = self.start.copy()
        per_record = self.slope / self.size
        for rate in np.unique(per_record[per_record > 0])[::-1]:
            group = per_record == rate
            room = self.upper - self.start if change > 0 else -self.start
            most = float(self.slope[group] @ room[group])
            step = np.sign(change) * min(abs(change), abs(most))
            if step:
                weight[group] = self._along(group, step)[group]
            change -= step
            if change == 0:
                break
        return weight

    def _along(self, group: BoolArray, change: float) -> Array:
        """Weights of a group, moved by one factor: from the start to 0, or towards the upper limits."""
        if change < 0:
            direction = np.where(group, -self.start, 0.0)
        elif np.all(np.isfinite(self.upper[group])):
            direction = np.where(group, self.upper - self.start, 0.0)
        else:
            # Without limits: by one factor, or from nothing to one weight.
            direction = np.where(group, self.start if np.any(self.start[group]) else 1.0, 0.0)
        share = change / float(self.slope @ direction)
        weight: Array = np.clip(self.start + share * direction, 0.0, self.upper)
        return weight

    def _least_squares(self, change: float) -> Array:
        r"""Weights clip(w0 + \lambda a / d, 0, upper), \lambda from the kinks of a piecewise linear sum."""
        set_by_us = self.slope > 0
        rate = np.where(set_by_us, self.slope / self.size, 0.0)

        def weight_at(multiplier: float) -> Array:
            moved = np.clip(self.start + multiplier * rate, 0.0, np.where(set_by_us, self.upper, self.start))
            return np.where(set_by_us, moved, self.start)

        def moved_by(multiplier: float) -> float:
            return float(self.slope @ (weight_at(multiplier) - self.start))

        room = (self.upper - self.start if change > 0 else -self.start)[set_by_us]
        kinks = np.sort(np.append(np.abs(room / rate[set_by_us]), 0.0)) * np.sign(change)
        kinks = kinks[np.isfinite(kinks)]
        reached = np.array([moved_by(kink) for kink in kinks])
        # Sums of the last kink are rounded: at the end of the room that is where we are.
        after = (
            int(np.argmax(np.abs(reached) >= abs(change))) if np.any(np.abs(reached) >= abs(change)) else 0
        )
        if after:
            share = (change - reached[after - 1]) / (reached[after] - reached[after - 1])
            return weight_at(float(kinks[after - 1] + share * (kinks[after] - kinks[after - 1])))
        free = set_by_us & ~np.isfinite(self.upper) if change > 0 else np.zeros_like(set_by_us)
        if not np.any(free):
            return weight_at(float(kinks[-1]))
        beyond = (change - reached[-1]) / float(self.slope[free] @ rate[free])
        return weight_at(float(kinks[-1] + beyond))


def declare_distortion(inflows: Mapping[int, Inflow], payment: Array, distortion: Distortion) -> Program:
    r"""Declare the weights of least distortion that take each buyer's payment from its utility.

    .. math:: \min \sum_{ij} d_i |w_{ij} - w^0_{ij}| \text{ or } \sum_{ij} d_i (w_{ij} - w^0_{ij})^2
       \quad \text{s.t.} \quad \sum_i a_{ij} w_{ij} = \phi_j^{-1}(U_j - t^d_j) - a_{0j}, \quad
       0 \le w \le \bar w.

    Parameters
    ----------
    inflows : mapping from buyers to Inflow
        Those whose payment is not 0.
    payment : array, shape (n_agents,)
        Data payments (money).
    distortion : {"least_absolute", "least_squares"}

    Returns
    -------
    Program
        With ``quality_weight`` of shape (n_edges,), expressions ``distortion`` (records) and ``argument``,
        families ``target`` and, where weights have limits, ``highest_quality``. Edges run buyer by buyer in
        the order of the mapping, sellers rising.
    """
    check_distortion(distortion)
    if distortion == "uniform":
        raise NotApplicable(
            "uniform weights follow from one equation and need no program; take 'least_absolute' or "
            "'least_squares'",
            reason="uniform weights",
        )
    if not inflows:
        raise NotApplicable(
            "no agent has a data payment: all weights stay as they are", reason="nothing to do"
        )
    parts = list(inflows.values())
    edges = [np.flatnonzero(part.slope > 0) for part in parts]
    size, start, upper, slope = (
        np.concatenate([getattr(part, name)[edge] for part, edge in zip(parts, edges, strict=True)])
        for name in ("size", "start", "upper", "slope")
    )
    rows = np.repeat(np.arange(len(parts)), [edge.size for edge in edges])
    wanted = np.array([part.argument_for(part.value - payment[part.buyer]) for part in parts])
    if np.any(~np.isfinite(wanted)):
        part = parts[int(np.argmax(~np.isfinite(wanted)))]
        raise InvalidInput(f"no weights take {payment[part.buyer]:g} from the utility of agent {part.buyer}")
    # By rows of order one: money and records of one buyer may be far from those of another.
    unit = np.array([float(np.max(part.slope)) for part in parts])
    weight_unit = np.maximum(
        1.0, np.abs([w - part.argument for w, part in zip(wanted, parts, strict=True)]) / unit
    )
    program = Program("distortion", objective_scale=float(np.sum(size)))
    weight = program.variable("quality_weight", start.size, nonneg=True, scale=weight_unit[rows])
    matrix = sp.csr_matrix((slope, (rows, np.arange(start.size))), shape=(len(parts), start.size))
    base = np.array([part.base for part in parts])
    argument = program.define("argument", base + matrix @ weight)
    if distortion == "least_absolute":
        changed = size @ cp.abs(weight - start)
    else:
        changed = cp.sum_squares(cp.multiply(np.sqrt(size), weight - start))
    program.minimize(program.define("distortion", changed))
    program.add("target", argument == wanted)
    limited = np.isfinite(upper)
    if np.any(limited):
        program.add("highest_quality", weight[limited] <= upper[limited])
    return program.seal()


def declare_lift(inflow: Inflow, payment: float) -> Program:
    r"""Declare higher quality for one buyer without inverting its utility: a convex program.

    .. math:: \min \sum_i d_i (w_i - w^0_i)^2 \quad \text{s.t.} \quad \phi(a_0 + a \cdot w) \ge U - t^d,
       \quad 0 \le w \le \bar w.

    The target binds at the optimum. To lower quality the inequality would have to be the other way, which is
    not convex.

    Parameters
    ----------
    inflow : Inflow
        Of a buyer whose utility is concave.
    payment : float
        Its data payment (money), < 0.

    Returns
    -------
    Program
        With ``quality_weight`` of shape (n_edges,), sellers rising; ``utility``; family ``target``.
    """
    if not payment < 0:
        raise NotApplicable(
            f"a data payment of {payment:g} lowers quality, and utility <= target is not convex; use "
            "declare_distortion, or uniform weights",
            reason="downward distortion",
        )
    if inflow.jumps or not isinstance(inflow.utility, AdditiveUtility | ConcaveFunction):
        raise NotApplicable(
            f"the utility of agent {inflow.buyer} is not concave", reason="no concave utility"
        )
    edge = np.flatnonzero(inflow.slope > 0)
    if not edge.size:
        raise NotApplicable(f"agent {inflow.buyer} receives no data", reason="no incoming data")
    size, start, upper, slope = (getattr(inflow, name)[edge] for name in ("size", "start", "upper", "slope"))
    program = Program("higher quality", objective_scale=float(np.sum(size)))
    weight = program.variable("quality_weight", edge.size, nonneg=True)
    argument = program.define("argument", inflow.base + slope @ weight)
    if isinstance(inflow.utility, AdditiveUtility):
        utility = argument
    else:
        utility = inflow.utility.declare(
            program, "evaluated_utility", argument, scale=max(abs(inflow.value), 1e-12)
        )
    program.define("utility", utility)
    program.minimize(program.define("distortion", cp.sum_squares(cp.multiply(np.sqrt(size), weight - start))))
    program.add("target", utility >= inflow.value - payment)
    limited = np.isfinite(upper)
    if np.any(limited):
        program.add("highest_quality", weight[limited] <= upper[limited])
    return program.seal()
