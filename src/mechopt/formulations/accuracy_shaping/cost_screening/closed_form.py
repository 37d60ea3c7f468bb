r"""Closed form of cost screening with two types: the regimes of Theorem B.1, corrected.

The costly type is left with its outside option. What it contributes, :math:`m_H`, obliges the platform to
leave :math:`u_H^* + (c_H - c_L) m_H` to the cheap one, as soon as that is more than :math:`u_L^*`. The cheap
type contributes all that it can be made to, :math:`m_L`, which falls as it is left with more; the best
compromise has :math:`b'(m_L + S) = (c_L - p c_H) / (1 - p)`, eq. (15), as far as both types' feasibility
allows, and then :math:`m_H` by eq. (16).

For the simple accuracy (3), the ends of what is feasible are cosines; for others they are found numerically.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from mechopt.formulations.functions.accuracies import AccuracyFunction, SqrtAccuracy

__all__ = ["REGIMES", "ClosedForm", "Regime", "closed_form"]

FloatArray = NDArray[np.float64]

Regime = Literal[
    "first-best", "low-max", "interior", "pooling", "high-max", "high-min", "low-only", "not_viable"
]
REGIMES: tuple[str, ...] = get_args(Regime)

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """The optimal menu for two types; the first entry of each array is the cheap type's.

    Attributes
    ----------
    contribution : ndarray, shape (2,)
        Data points asked of each type.
    allocated_accuracy : ndarray, shape (2,)
        Accuracy of the model that each gets.
    utility : ndarray, shape (2,)
        What each is left with, in accuracy units.
    rent : ndarray, shape (2,)
        The same above the outside option.
    objective : float
        Expected contribution (data points).
    regime : str
        ``"first-best"``: each type contributes as if its cost were known. ``"low-max"``: the cheap type does,
        and the costly one as much as leaves it no rent. ``"interior"``: eqs. (15) and (16). ``"pooling"``:
        both have the contract at which the costly type contributes most. ``"high-max"``: the costly type
        contributes most, and the cheap one more than that. With too few data of others for any accuracy also
        ``"high-min"``: the costly type contributes the least that makes a model; ``"low-only"``: it is shut
        out; ``"not_viable"``: nobody contributes.
    """

    contribution: FloatArray
    allocated_accuracy: FloatArray
    utility: FloatArray
    rent: FloatArray
    objective: float
    regime: Regime


def closed_form(
    accuracy: AccuracyFunction, costs: FloatArray, probs: FloatArray, outside: FloatArray, others_data: float
) -> ClosedForm:
    """Evaluate the closed form; the arguments are taken as valid.

    Parameters
    ----------
    accuracy : AccuracyFunction
        Accuracy a with its concave part b.
    costs, probs : ndarray, shape (2,)
        Marginal costs (accuracy per data point), increasing, and their probabilities.
    outside : ndarray, shape (2,)
        Utility of each type on its own.
    others_data : float
        Data of all other agents, S >= 0.

    Returns
    -------
    ClosedForm

    References
    ----------
    Accuracy-shaping paper, eqs. (14)-(16), Theorems B.1 and B.3, with other ends of the clipping, and with
    the regimes that it leaves out.
    """
    low, high = float(costs[0]), float(costs[1])
    options: list[tuple[Regime, float, float, float]] = []  # regime, m_L, m_H, U_L
    if (range_high := _range(accuracy, high, float(outside[1]), others_data)) is not None:
        options.append(_both(accuracy, costs, probs, outside, others_data, range_high))
    if outside[1] == 0 and others_data < accuracy.min_viable_data:
        if (range_low := _range(accuracy, low, float(outside[0]), others_data)) is not None:
            options.append(("low-only", range_low[1], 0.0, float(outside[0])))
        if outside[0] == 0:
            options.append(("not_viable", 0.0, 0.0, 0.0))
    regime, m_low, m_high, utility_low = max(options, key=lambda o: probs[0] * o[1] + probs[1] * o[2])
    contribution = np.array([m_low, m_high])
    utility = np.array([utility_low, float(outside[1])])
    return ClosedForm(
        contribution=contribution,
        allocated_accuracy=utility + costs * contribution,
        utility=utility,
        rent=utility - outside,
        objective=float(probs @ contribution),
        regime=regime,
    )


def _both(
    accuracy: AccuracyFunction,
    costs: FloatArray,
    probs: FloatArray,
    outside: FloatArray,
    others_data: float,
    range_high: tuple[float, float],
) -> tuple[Regime, float, float, float]:
    """Regime, m_L, m_H and the cheap type's utility, both types on the branch where accuracy is b."""
    low, high = float(costs[0]), float(costs[1])
    alone_low, alone_high = float(outside[0]), float(outside[1])
    rise = high - low

    def most_of_low(utility: float) -> float:
        found = _range(accuracy, low, utility, others_data)
        assert found is not None  # whatever the costly type can be given, the cheap one can be given too
        return found[1]

    least_high, most_high = range_high
    no_rent = (alone_low - alone_high) / rise
    if most_high <= no_rent:
        return "first-best", most_of_low(alone_low), most_high, alone_low
    start = max(no_rent, least_high)
    utility_at_start = alone_low if start == no_rent else alone_high + rise * start
    most, least = most_of_low(utility_at_start), most_of_low(alone_high + rise * most_high)
    slope = (low - probs[0] * high) / probs[1]
    wanted = float(accuracy.inverse_derivative(slope)) - others_data if slope > 0 else math.inf
    if wanted >= most:
        return "low-max" if start == no_rent else "high-min", most, start, utility_at_start
    if wanted <= least:
        utility = alone_high + rise * most_high
        return "high-max" if least > most_high * (1 + 1e-9) else "pooling", least, most_high, utility
    utility = float(accuracy.concave_part(wanted + others_data)) - low * wanted
    return "interior", wanted, (utility - alone_high) / rise, utility


@singledispatch
def _range(
    accuracy: AccuracyFunction, cost: float, utility: float, others_data: float
) -> tuple[float, float] | None:
    """Least and greatest m with b(m + S) - c m >= utility, or None."""

    def spare(m: float) -> float:
        return float(accuracy.concave_part(m + others_data)) - cost * m - utility

    start = max(float(accuracy.min_viable_data) - others_data, 0.0)
    peak = max(float(accuracy.inverse_derivative(cost)) - others_data, start)
    if spare(peak) < 0:
        return (peak, peak) if spare(peak) > -8 * _EPS else None
    end = max((accuracy.max_accuracy - utility) / cost, peak)
    most = _root(spare, peak, end) if spare(end) < 0 else end
    return (_root(spare, start, peak) if spare(start) < 0 else start), most


def _root(spare: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(spare, low, high, xtol=1e-14 * high, rtol=4 * _EPS))


@_range.register
def _(accuracy: SqrtAccuracy, cost: float, utility: float, others_data: float) -> tuple[float, float] | None:
    # With y² = m + S: c y³ - (a + c S - utility) y + 2 sqrt(k) = 0, which has two positive roots or none.
    linear = (accuracy.max_accuracy + cost * others_data - utility) / cost
    constant = 2 * math.sqrt(accuracy.difficulty) / cost
    cosine = -1.5 * constant / linear * math.sqrt(3 / linear)
    if cosine < -1 - 8 * _EPS:
        return None
    angle = math.acos(max(cosine, -1.0)) / 3
    size = 2 * math.sqrt(linear / 3)
    least, most = (size * math.cos(angle - turn) for turn in (2 * math.pi / 3, 0.0))
    if most**2 < others_data * (1 - 8 * _EPS):
        return None
    return max(least**2 - others_data, 0.0), max(most**2 - others_data, 0.0)
