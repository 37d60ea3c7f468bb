r"""Data maximisation by one equation in one unknown: exact, and in a few passes over the agents.

Whatever the pool holds, an agent can be asked for data up to the point where the model's accuracy leaves it
no more than it has alone: :math:`b(M) - c_i m_i = u_i^*`. Adding up, with the margin :math:`\varepsilon` of
mechanism (13) and seed data s,

.. math:: F(M) = C b(M) - U - M = 0, \qquad C = \sum_i \frac{1}{c_i + \varepsilon}, \quad
   U = \sum_i \Bigl( \frac{a(m_i^*)}{c_i + \varepsilon} - m_i^* \Bigr) - s.

F is concave. Newton's method from the right of its larger root, or from the left of its smaller one, never
passes the root: the tangent of a concave function lies above it. If somebody can work alone there is one
equilibrium, the larger root; otherwise none or two, besides that in which nobody contributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import AccuracyFunction
from mechopt.solvers.errors import InvalidInput

__all__ = [
    "TIE",
    "Lines",
    "Optimum",
    "Tie",
    "data_maximum",
    "lines",
    "lower_root",
    "stand_alone",
    "stand_alone_quadratic",
    "upper_root",
]

FloatArray = NDArray[np.float64]
Tie = Literal["zero", "viable"]

TIE = 1e-12
"""A cost as close as this (relatively) to the viability cost is equal to it."""

_EPS = float(np.finfo(np.float64).eps)
ROUNDING = 16 * _EPS
"""An F as small as this share of its terms is zero."""

MAX_STEPS = 200
"""Newton's steps halve the distance even to a double root."""

LEAST_SLOPE = 1e-6
"""Prices grow without end towards a double root of F; below this distance from it they are not reported."""

# Agents treated together: a few arrays of this length fit in a processor's cache.
_CHUNK = 2**15


@dataclass(frozen=True, eq=False)
class Lines:
    """What each agent has alone, from where its line starts, and the sums over all lines.

    Attributes
    ----------
    contribution : ndarray, shape (n_agents,)
        Data m* that each agent collects alone (data points).
    utility : ndarray, shape (n_agents,)
        Utility u* that it has alone (accuracy units).
    rate : float
        C, the data that all agents together give for a unit of accuracy.
    offset : float
        U, the data that their outside options are worth to them, less the seed data.
    anyone_viable : bool
        Whether some agent collects data alone.
    """

    contribution: FloatArray
    utility: FloatArray
    rate: float
    offset: float
    anyone_viable: bool


@dataclass(frozen=True, eq=False)
class Optimum:
    """The most data, and the shadow prices of what limits it.

    Attributes
    ----------
    viable : bool
        Whether there is a pool that pays for itself. If not, nobody contributes.
    reason : str
        Why not, if so.
    conflict : tuple of str
        If the limits on contributions are the reason, ``"caps"`` or ``"quotas"``.
    contribution, allocated_accuracy, utility : ndarray, shape (n_agents,)
        Data points, accuracy, accuracy units.
    total_data : float
        Data in the pool, the seed included.
    accuracy : float
        Accuracy of a model trained on the pool.
    rates : ndarray, shape (n_agents,)
        Data that an agent gives for a unit of accuracy, 0 if its cap binds.
    slope : float
        Accuracy that a data point adds to the pool's.
    """

    viable: bool
    reason: str
    conflict: tuple[str, ...]
    contribution: FloatArray
    allocated_accuracy: FloatArray
    utility: FloatArray
    total_data: float
    accuracy: float
    rates: FloatArray
    slope: float

    def prices(self) -> dict[str, FloatArray]:
        """Return the derivatives of ``total_data``, in data points per unit of each limit.

        A data point more makes a better model, for which all give more, and so on.

        Returns
        -------
        dict
            ``outside_option`` (per utility alone), ``allocation`` (per accuracy given away for nothing),
            ``accuracy`` (per accuracy of the pool) and ``caps``. Empty next to a double root, where they have
            no bound, and if there is no pool.
        """
        remains = 1 - float(self.rates.sum()) * self.slope
        if not self.viable or remains < LEAST_SLOPE:
            return {}
        return {
            "outside_option": -self.rates / remains,
            "allocation": self.rates / remains,
            "accuracy": np.asarray(self.rates.sum() / remains),
            "caps": np.where(self.rates == 0, 1 / remains, 0.0),
        }


def stand_alone(
    costs: FloatArray, accuracy: AccuracyFunction, tie: Tie = "zero"
) -> tuple[FloatArray, FloatArray]:
    r"""Compute what agents do on their own.

    .. math:: m^* = \arg\max_m a(m) - c m, \qquad u^* = a(m^*) - c m^*

    so that :math:`b'(m^*) = c` where the cost is below the viability cost :math:`\max_m b(m)/m`, else 0.

    Parameters
    ----------
    costs : ndarray, shape (n_agents,)
        Marginal costs c (accuracy per data point), > 0.
    accuracy : AccuracyFunction
        The accuracy a of a model, and its concave part b.
    tie : {"zero", "viable"}
        What an agent does whose cost is the viability cost: both are optimal.

    Returns
    -------
    contribution, utility : ndarray, shape (n_agents,)
        Data m* (data points) and utility u* (accuracy units), >= 0.

    References
    ----------
    Karimireddy et al., Theorem 2.3, eq. (6), which says 0 at the tie; Example 2.4 says viable.
    """
    contribution, utility = np.empty(costs.shape), np.empty(costs.shape)
    for part in _parts(costs.size):
        contribution[part], utility[part] = _alone(costs[part], accuracy, tie)
    return contribution, utility


def _parts(size: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, size, _CHUNK))


def _alone(costs: FloatArray, accuracy: AccuracyFunction, tie: Tie) -> tuple[FloatArray, FloatArray]:
    """See `stand_alone`, for a few agents."""
    if tie not in get_args(Tie):
        raise InvalidInput(f"tie must be 'zero' or 'viable', got {tie!r}")
    limit = accuracy.viability_cost * (1 + (TIE if tie == "viable" else -TIE))
    if costs.max() < limit:
        contribution = np.asarray(accuracy.inverse_derivative(costs))
        return contribution, _left(costs, contribution, accuracy)
    viable = np.flatnonzero(costs < limit)
    contribution, utility = np.zeros(costs.shape), np.zeros(costs.shape)
    if viable.size:
        cost = costs[viable]
        alone = np.asarray(accuracy.inverse_derivative(cost))
        contribution[viable], utility[viable] = alone, _left(cost, alone, accuracy)
    return contribution, utility


def _left(costs: FloatArray, contribution: FloatArray, accuracy: AccuracyFunction) -> FloatArray:
    """Utility of agents on their own; at the tie, rounding must not make it negative."""
    utility = np.asarray(accuracy.concave_part(contribution))
    utility -= costs * contribution
    return np.maximum(utility, 0.0, out=utility)


def stand_alone_quadratic(
    costs: FloatArray, quadratic: FloatArray, accuracy: AccuracyFunction
) -> tuple[FloatArray, FloatArray]:
    r"""Compute what agents do on their own at costs :math:`c m + d m^2`.

    Parameters
    ----------
    costs, quadratic : ndarray, shape (n_agents,)
        Coefficients c > 0 and d >= 0.
    accuracy : AccuracyFunction

    Returns
    -------
    contribution, utility : ndarray, shape (n_agents,)
        As `stand_alone`.
    """
    low = np.full(costs.shape, float(accuracy.min_viable_data))
    high = np.asarray(accuracy.inverse_derivative(costs))
    # The slope falls and the marginal cost rises: halving, until there is no float in between.
    while True:
        middle = low + (high - low) / 2
        if np.all((middle <= low) | (middle >= high)):
            break
        more = accuracy.concave_part_derivative(middle) > costs + 2 * quadratic * middle
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    utility = accuracy.concave_part(high) - costs * high - quadratic * high**2
    return np.where(utility > 0, high, 0.0), np.maximum(utility, 0.0)


def lines(
    costs: FloatArray,
    accuracy: AccuracyFunction,
    seed_data: float = 0.0,
    margin: float = 0.0,
    tie: Tie = "zero",
) -> Lines:
    """Add up what all agents give for accuracy; see `Lines`.

    Parameters
    ----------
    costs : ndarray, shape (n_agents,)
        Marginal costs (accuracy per data point), > 0.
    accuracy : AccuracyFunction
    seed_data : float
        Data of the platform's own (data points), >= 0.
    margin : float
        Incentive margin of mechanism (13) (accuracy per data point), >= 0.
    tie : {"zero", "viable"}
        See `stand_alone`.
    """
    contribution, utility = np.empty(costs.shape), np.empty(costs.shape)
    rate = offset = 0.0
    viable = False
    for part in _parts(costs.size):
        alone, left = _alone(costs[part], accuracy, tie)
        contribution[part], utility[part] = alone, left
        rates = 1 / (costs[part] + margin)
        rate += float(rates.sum())
        # a(m*) / (c + e) - m* = (u* - e m*) / (c + e); no BLAS, whose threads cost more than these sums.
        offset += float(np.sum(rates * left))
        if margin:
            offset -= margin * float(np.sum(rates * alone))
        viable = viable or bool(alone.any())
    return Lines(contribution, utility, rate, offset - seed_data, viable)


def data_maximum(
    costs: FloatArray,
    accuracy: AccuracyFunction,
    seed_data: float = 0.0,
    *,
    caps: FloatArray | None = None,
    quotas: FloatArray | None = None,
) -> Optimum:
    r"""Compute the most data that any feasible and individually rational mechanism collects.

    .. math:: \max \sum_i m_i \quad \text{s.t.} \quad \alpha_i \le b(M), \;
       \alpha_i - c_i m_i \ge u_i^*, \; q_i \le m_i \le \bar m_i, \; M = s + \sum_i m_i

    With caps it is the larger root of :math:`s + \sum_i \min(\bar m_i, (b(M) - u_i^*) / c_i) - M`, concave
    too. All agents give their greatest amounts at once, so that a quota is met there or nowhere.

    Parameters
    ----------
    costs : ndarray, shape (n_agents,)
        Marginal costs c (accuracy per data point), > 0.
    accuracy : AccuracyFunction
        The accuracy a of a model, and its concave part b.
    seed_data : float
        Data s of the platform's own (data points), >= 0.
    caps, quotas : ndarray, shape (n_agents,), optional
        Most and least contributions (data points), >= 0.

    Returns
    -------
    Optimum
        With ``viable`` false, and no contributions, if no pool pays for itself.

    References
    ----------
    Karimireddy et al., Definition 4.1 and eq. (12), Theorem 4.2, Remark 4.4.
    """
    alone = lines(costs, accuracy, seed_data)
    total = upper_root(accuracy, alone)
    if total is None:
        return _nothing(costs, seed_data, too_costly(alone.rate, accuracy, seed_data))
    level = float(accuracy.concave_part(total))
    # Where the data that agents have alone were: they are not needed again, and fresh memory costs a pass.
    contribution = most = _along_lines(costs, alone.utility, level, alone.contribution)
    capped: NDArray[np.bool_] | None = None
    if caps is not None and np.any(contribution > caps):
        total = _capped_root(costs, accuracy, seed_data, alone, caps, total)
        if total is None:
            reason = "with these caps no pool pays for itself, or somebody would have more alone"
            return _nothing(costs, seed_data, reason, ("caps",))
        # Nobody has more alone: in a pool so small, b' would exceed that agent's cost, and F would rise.
        level = float(accuracy.concave_part(total))
        contribution = _along_lines(costs, alone.utility, level)
        capped = contribution > caps
        contribution = np.minimum(contribution, caps)
    if quotas is not None:
        short = contribution < quotas * (1 - TIE)
        if short.any():
            i = int(np.argmax(short))
            reason = f"agent {i} cannot be brought to give {quotas[i]:g}, only {contribution[i]:.6g}"
            blameless = capped is None or bool(np.any(most < quotas * (1 - TIE)))
            return _nothing(costs, seed_data, reason, ("quotas",) if blameless else ("quotas", "caps"))
    return Optimum(
        viable=True,
        reason="",
        conflict=(),
        contribution=contribution,
        allocated_accuracy=np.broadcast_to(level, costs.shape),
        utility=alone.utility if capped is None else level - costs * contribution,
        total_data=total,
        accuracy=level,
        rates=1 / costs if capped is None else np.where(capped, 0.0, 1 / costs),
        slope=float(accuracy.concave_part_derivative(total)),
    )


def _along_lines(
    costs: FloatArray, utility: FloatArray, level: float, out: FloatArray | None = None
) -> FloatArray:
    """Most data for a model of this accuracy."""
    contribution = np.empty(costs.shape) if out is None else out
    for part in _parts(costs.size):
        here = np.subtract(level, utility[part], out=contribution[part])
        here /= costs[part]
        # Where the outside option is worth as much as the model, rounding must not make it negative.
        np.maximum(here, 0.0, out=here)
    return contribution


def too_costly(rate: float, accuracy: AccuracyFunction, seed_data: float) -> str:
    """Say why no pool pays for itself, for people."""
    return (
        "nobody can work alone, and together they are too few or too costly: 1 / sum(1 / marginal_costs) "
        f"= {1 / rate:.6g} exceeds the viability cost {accuracy.viability_cost:.6g}"
        + (f", and {seed_data:g} data points of seed data do not help" if seed_data else "")
    )


def _nothing(costs: FloatArray, seed_data: float, reason: str, conflict: tuple[str, ...] = ()) -> Optimum:
    zero = np.zeros(costs.shape)
    return Optimum(False, reason, conflict, zero, zero, zero, seed_data, 0.0, zero, 0.0)


def upper_root(accuracy: AccuracyFunction, alone: Lines) -> float | None:
    """Return the larger root M of F (data points), or None if F is negative everywhere."""
    rate, offset = alone.rate, alone.offset
    peak = _peak(accuracy, alone)
    top, size = _excess(accuracy, alone, peak)
    if abs(top) <= ROUNDING * size:
        # A double root, as of an agent that is all alone: Newton's method would stop half way.
        return peak
    if top < 0:
        return None

    def step(total: float) -> tuple[float, float]:
        value = rate * float(accuracy.concave_part(total)) - offset - total
        return value, rate * float(accuracy.concave_part_derivative(total)) - 1

    # F <= 0 here, since no model exceeds max_accuracy.
    total = _newton(step, rate * accuracy.max_accuracy - offset)
    return max(total, peak)


def lower_root(accuracy: AccuracyFunction, alone: Lines) -> float | None:
    """Return the smaller root M of F on the branch b(M) >= 0 if there is one; only if nobody is viable."""
    start = float(accuracy.min_viable_data)
    if alone.anyone_viable or alone.offset + start <= 0:
        return None
    upper, peak = upper_root(accuracy, alone), _peak(accuracy, alone)
    if upper is None or upper <= peak:
        return upper

    def step(total: float) -> tuple[float, float]:
        # Mirrored, so that the root is approached from the right.
        value = alone.rate * float(accuracy.concave_part(-total)) - alone.offset + total
        return value, 1 - alone.rate * float(accuracy.concave_part_derivative(-total))

    return min(-_newton(step, -start), peak)


def _peak(accuracy: AccuracyFunction, alone: Lines) -> float:
    """Where F is largest on the branch b >= 0."""
    return max(float(accuracy.inverse_derivative(1 / alone.rate)), float(accuracy.min_viable_data))


def _excess(accuracy: AccuracyFunction, alone: Lines, total: float) -> tuple[float, float]:
    """F(M), and the size of its terms."""
    given = alone.rate * float(accuracy.concave_part(total))
    return given - alone.offset - total, abs(given) + abs(alone.offset) + total


def _newton(step: Callable[[float], tuple[float, float]], start: float) -> float:
    """Approach a root of a concave, there falling, function from the right, where it is negative."""
    at = start
    for _ in range(MAX_STEPS):
        value, slope = step(at)
        if value >= 0 or slope >= 0:
            break
        following = at - value / slope
        if not following < at:
            break
        at = following
    return at


def _capped_root(
    costs: FloatArray,
    accuracy: AccuracyFunction,
    seed_data: float,
    alone: Lines,
    caps: FloatArray,
    start: float,
) -> float | None:
    """Return the larger root with caps, or None if there is none on the branch b >= 0."""
    rates = 1 / costs

    def step(total: float) -> tuple[float, float]:
        wanted = (float(accuracy.concave_part(total)) - alone.utility) * rates
        free = float(rates[wanted <= caps].sum())
        value = seed_data + float(np.minimum(wanted, caps).sum()) - total
        return value, free * float(accuracy.concave_part_derivative(total)) - 1

    at, least = start, float(accuracy.min_viable_data)
    for _ in range(MAX_STEPS):
        value, slope = step(at)
        if value >= -ROUNDING * at:
            return at
        if slope >= 0:
            return None
        following = at - value / slope
        if not following < at:
            return at
        if following < least:
            return None
        at = following
    return at
