r"""The data-maximising menu for any number of private costs, by a recursion over the types.

Let :math:`g_k(m) = b(m + S) - c_k m` be what type k can be left with if it contributes m, and
:math:`U_k = \alpha_k - c_k m_k` what it is left with. From the costliest type down, a contract :math:`m_k`
obliges the platform to leave :math:`U_{k-1} \ge U_k + (c_k - c_{k-1}) m_k` to the next cheaper type, which
then contributes less. With :math:`W_k(u)` the expected data of types 1 to k when type k is left with u,

.. math:: W_k(u) = \max_m \; p_k m + W_{k-1}\bigl(\max(u_{k-1}^*, u + (c_k - c_{k-1}) m)\bigr)
   \quad \text{s.t.} \quad g_k(m) \ge u .

The maximand depends on m through the utility :math:`x = u + (c_k - c_{k-1}) m` that is passed on. So there is
one target for x, the same for all u, and the best x is the target or the nearest end of what feasibility
allows (a base-stock policy). Targets are found by bisection on the slope of :math:`W_{k-1}`, which needs no
more than a walk down the chain until a target is met. What :math:`g_k(m) = u` obliges to leave to the next
cheaper type is :math:`g_{k-1}(m)`: types that give all that they can take one contract after the other until
one can do better, and the walk passes all of them with one root.

Only the upward half of the incentive constraints is missing: contributions must not rise with the cost. Types
that would are tied to one contract, and ties are kept only while their multipliers are not negative; where
multipliers cannot be told, while the untied types would break the order.

Below ``min_viable_data`` the true accuracy is 0 and not b, which is negative: a type may then be shut out
with nothing asked and nothing given. Only the costliest ones can be, so every number of served types is
tried.

Each set of ties that is tried needs two walks a type, or some dozens where a target is inside its bounds. Ten
types take milliseconds, a hundred take tenths of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from mechopt.solvers.errors import NotApplicable

Array = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
# Relative differences of contributions below this are rounding.
_SAME = 1e-9
_MAX_STEPS = 200
# Slopes are one if they differ by less, relatively, this far to both sides (in top accuracies).
_SMOOTH, _ASIDE = 1e-4, 1e-9
# A little to the left of a number, relatively.
_LEFT = 1 - 1e-3


@dataclass(frozen=True, eq=False)
class ExactMenu:
    """The optimal menu.

    Attributes
    ----------
    contribution : ndarray, shape (n_types,)
        Data points asked of each type, non-increasing, >= 0.
    utility : ndarray, shape (n_types,)
        Accuracy left to each type after its costs.
    objective : float
        Expected contribution (data points).
    served : int
        Number of types, the cheapest ones, that get a contract; the others get nothing and give nothing.
    ties : ndarray of bool, shape (n_types - 1,)
        Whether a type had to be tied to the next costlier one to keep contributions in order.
    """

    contribution: Array
    utility: Array
    objective: float
    served: int
    ties: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Branch:
    """What a type of one cost can be left with, :math:`g(m) = b(m + S) - c m`, where b is not negative."""

    accuracy: Any
    cost: float
    others_data: float
    start: float
    """Smallest contribution at which b is not negative."""
    peak: float
    """Contribution at which g is highest."""
    last_peak: float
    """The largest such contribution, where there is an interval of them."""
    top: float
    """Value of g there."""

    def value(self, m: float) -> float:
        """Value g(m)."""
        return float(self.accuracy.concave_part(m + self.others_data)) - self.cost * m

    def slope(self, m: float) -> float:
        """Slope g'(m), from the right."""
        return float(self.accuracy.concave_part_derivative(m + self.others_data)) - self.cost

    def allows(self, u: float) -> bool:
        """Whether the type can be left with u."""
        return u <= self.top + 8 * _EPS

    def below_top(self, u: float) -> bool:
        """Whether g(m) = u has no double root, of which Newton's steps find half of the digits."""
        return u < self.top - 4 * _EPS

    def least(self, u: float) -> float:
        """Smallest contribution at which the type can be left with u."""
        return self._root(u, self.start, 1.0) if self.below_top(u) else self.peak

    def most(self, u: float, bound: float = np.inf) -> float:
        """Largest contribution at which the type can be left with u; it is not above the bound."""
        if not self.below_top(u):
            return self.last_peak
        return self._root(u, max(min(self.beyond(u), bound), self.peak), -1.0)

    def beyond(self, u: float) -> float:
        """Contribution at which costs would leave less than u even with perfect accuracy."""
        return float((self.accuracy.max_accuracy - u) / self.cost)

    def _root(self, u: float, m: float, sign: float) -> float:
        # From outside, Newton's steps on a concave function approach the root and never pass it.
        for _ in range(_MAX_STEPS):
            short = u - self.value(m)
            if short <= 0:
                break
            slope = self.slope(m)
            if not sign * slope > 0:
                return self.peak
            step = m + short / slope
            if not sign * step < sign * self.peak:
                return self.peak
            if step == m:
                break
            m = step
        return m

    def rate(self, m: float, end: int) -> float:
        """Change with u of the largest root of g(m) = u (``end`` 1), or of the smallest (-1)."""
        if end < 0 and m == self.start == 0.0:
            return 0.0  # not a root: the type can be left with u though it gives nothing
        slope = self.slope(m)
        return 1.0 / slope if end * slope < 0 else -end * np.inf


class _Types:
    """Types, given the others' data, and what is known of chains of the cheapest of them."""

    def __init__(self, accuracy: Any, costs: Array, probs: Array, outside: Array, others_data: float) -> None:
        self.costs, self.probs, self.outside = costs, probs, outside
        start = max(0.0, float(accuracy.min_viable_data) - others_data)
        first = np.maximum(accuracy.inverse_derivative(costs) - others_data, start)
        # Where b has straight pieces a whole interval may be best; a hair cheaper, its right end is.
        self.peaks = np.maximum(accuracy.inverse_derivative(costs * (1 - 4 * _EPS)) - others_data, first)
        self.tops = accuracy.concave_part(first + others_data) - costs * first
        columns = (costs.tolist(), first.tolist(), self.peaks.tolist(), self.tops.tolist())
        self.branches = [
            _Branch(accuracy, cost, others_data, start, *rest) for cost, *rest in zip(*columns, strict=True)
        ]
        self.total = np.append(0.0, np.cumsum(probs))
        self.targets: dict[bytes, float] = {}
        """Target of a stage by the ties of the cheaper types, on which alone it depends."""


class _Chain:
    """Stages, each of types that share a contract, from the cheapest to the costliest.

    A stage is seen from the costliest of its types. What it leaves to the next cheaper stage is at least
    ``floor``, and at best ``target``, whatever it is left with itself.
    """

    def __init__(self, types: _Types, ties: NDArray[np.bool_]) -> None:
        self.types, self.ties = types, ties
        last = np.append(np.flatnonzero(~ties), ties.size)
        self.last: list[int] = last.tolist()
        # Lists, since the chain is walked step by step.
        self.cost: list[float] = types.costs[last].tolist()
        self.peak: list[float] = types.peaks[last].tolist()
        self.top: list[float] = types.tops[last].tolist()
        self.total: list[float] = np.append(0.0, types.total[last + 1]).tolist()
        """Weight of all stages before each, and of all."""
        self.rise: list[float] = np.diff(self.cost, prepend=self.cost[0]).tolist()
        """What one more data point adds to the utility of the next cheaper stage; 0 for the cheapest."""
        self.floor: list[float] = [-np.inf, *types.outside[last[:-1]].tolist()]
        self.target = [np.inf] * last.size
        for i in range(1, last.size):
            key = ties[: self.last[i]].tobytes()
            if key not in types.targets:
                types.targets[key] = self._target(i)
            self.target[i] = types.targets[key]

    def members(self, low: int, i: int) -> slice:
        """Types of the stages ``low`` to ``i``."""
        return slice(self.last[low - 1] + 1 if low else 0, self.last[i] + 1)

    def branch(self, i: int) -> _Branch:
        return self.types.branches[self.last[i]]

    def _target(self, i: int) -> float:
        """Utility of the stage below at which one more unit costs it as much data as stage i gains."""
        gain = (self.total[i + 1] - self.total[i]) / self.rise[i]

        def net(utility: float) -> float:
            loss = -self.marginal(i - 1, utility)
            return (gain - loss) / (gain + loss) if loss < np.inf else -1.0

        low, high = self.floor[i], self.top[i - 1]
        # The slope at the top is infinite, unless that is at an end: then it is quickly found.
        if low < high and self.peak[i - 1] == self.branch(i - 1).start and net(high) > 0:
            return high
        if high <= low or net(low) <= 0:
            return low
        if net(high) >= 0:
            return high
        return float(brentq(net, low, high, xtol=_EPS * high, rtol=4 * _EPS))

    def choose(self, i: int, u: float) -> tuple[int, float, int]:
        """Contribution of stage i when it is left with u: the target's (0), the most (1), the least (-1).

        The first number is the cheapest stage that takes the same contract, since it, too, gives the most, or
        the least, that it can: what :math:`g_i(m) = u` leaves to stage j is :math:`g_j(m)`.
        """
        branch = self.branch(i)
        aim = (self.target[i] - u) / self.rise[i] if i else np.inf
        if branch.below_top(u):
            met = branch.start < aim < branch.beyond(u) and branch.value(aim) > u
            end = 1 if aim > branch.peak else -1
        else:
            met = branch.peak < aim < branch.last_peak
            end = 1 if aim >= branch.last_peak else -1
        if met:
            return i, aim, 0
        m = branch.most(u, aim) if end > 0 else branch.least(u)
        return self._shared(i, u, m, end), m, end

    def _shared(self, i: int, u: float, m: float, end: int) -> int:
        for j in range(i - 1, -1, -1):
            left = u + (self.cost[i] - self.cost[j]) * m
            most = self.target[j] >= left + self.rise[j] * m
            if left < self.floor[j + 1] or most != (end > 0) or (end > 0 and self.peak[j] > m):
                return j + 1
            if left >= self.top[j] - 4 * _EPS and self.peak[j] != m:
                return j + 1  # at its top a type has its peak, which m misses by half of the digits
        return 0

    def marginal(self, i: int, u: float) -> float:
        """Slope, from the right, of the expected data of stages 0 to i in what stage i is left with."""
        walk: list[tuple[float, float, float]] = []
        slope = 0.0
        while True:
            if not self.branch(i).allows(u):
                slope = -np.inf
                break
            low, m, end = self.choose(i, u)
            weight = self.total[i + 1] - self.total[low]
            if end == 0:
                slope = -weight / self.rise[i]
                break
            # Stages that share a contract act as one: their slopes, worked out one by one, add up to that.
            rise = self.cost[i] - self.cost[low - 1] if low else 0.0
            walk.append((weight, rise, self.branch(i).rate(m, end)))
            u += rise * m
            i = low - 1
            if i < 0 or u < self.floor[low]:
                break
        for weight, rise, rate in reversed(walk):
            if np.isinf(slope) or np.isinf(rate):
                slope = -np.inf
            else:
                slope += rate * (weight + rise * slope)
        return slope

    def allocate(self) -> tuple[Array, Array, list[int]]:
        """Contribution and utility of every type, and how `choose` chose for each stage."""
        costs = self.types.costs[: self.last[-1] + 1]
        contribution, utility = np.empty(costs.size), np.empty(costs.size)
        ends = [0] * len(self.last)
        u = float(self.types.outside[costs.size - 1])
        i = len(ends) - 1
        while i >= 0:
            low, m, end = self.choose(i, u)
            ends[low : i + 1] = [end] * (i + 1 - low)
            members = self.members(low, i)
            contribution[members] = m
            utility[members] = u + (self.cost[i] - costs[members]) * m
            if low:
                u = max(self.floor[low], u + (self.cost[i] - self.cost[low - 1]) * m)
            i = low - 1
        return contribution, utility, ends

    def multipliers(self, i: int, u: float, m: float, end: int) -> Array | None:
        r"""Multipliers of the ties of stage i, relative to its weight: negative where a tie is needless.

        With the tie after type l of the stage's first f to last j, and :math:`\lambda` the price of what the
        stage passes on, it is

        .. math:: \rho_l = \lambda (c_l - c_{f-1}) + \mu \max(0, c_l - b'(m + S)) - \sum_{k=f}^l p_k

        where :math:`\mu` is the price of what the stage can give, for which :math:`\rho_j` is 0. All its
        types are at their most (or least) together, and of all ways to share :math:`\mu` among them this is
        the one that is best for every tie. None if prices are not the same on both sides of u: then they are
        not known.
        """
        if end != 0:
            aside = _ASIDE * self.types.branches[0].accuracy.max_accuracy
            fewer, more = self.marginal(i, u - aside), self.marginal(i, u + aside)
            if not abs(fewer - more) <= _SMOOTH * abs(more):
                return None
        members = self.members(i, i)
        costs = self.types.costs[members]
        weight = self.types.total[members.start + 1 : members.stop + 1] - self.total[i]
        rise = costs - self.cost[i - 1] if i else np.zeros(costs.size)
        price = 0.0
        if end == 0:
            price = weight[-1] / rise[-1]
        elif i and u + rise[-1] * m >= self.floor[i]:
            price = -self.marginal(i - 1, float(u + rise[-1] * m))
        beyond = np.maximum(costs - costs[-1] - self.branch(i).slope(m), 0.0)
        own = (weight[-1] - price * rise[-1]) / beyond[-1] if end > 0 else 0.0
        relative: Array = (price * rise + own * beyond - weight)[:-1] / weight[-1]
        return relative


def _serve(types: _Types, served: int) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Contributions, utilities and ties of the cheapest types, that all get a contract on the branch."""
    outside, probs = types.outside[:served], types.probs[:served]
    ties = np.zeros(served - 1, dtype=bool)
    seen: set[bytes] = set()
    while ties.tobytes() not in seen:
        seen.add(ties.tobytes())
        chain = _Chain(types, ties)
        contribution, utility, ends = chain.allocate()
        tolerance = _SAME * contribution.max(initial=0.0)
        rising = np.diff(contribution) > tolerance
        if rising.any():
            ties = ties | rising
            continue
        drop = ties & (utility < outside - _SAME)[:-1]
        for i, end in enumerate(ends):
            members = chain.members(i, i)
            last = members.stop - 1
            if last == members.start:
                continue
            found = chain.multipliers(i, float(utility[last]), float(contribution[last]), end)
            if found is not None:
                if found.min() < -_SAME:
                    drop[members.start + np.argmin(found)] = True
                continue
            for tie in range(members.start, last):
                without = ties.copy()
                without[tie] = False
                trial, _, _ = _Chain(types, without).allocate()
                gained = probs @ (trial - contribution)
                drop[tie] |= bool(gained > tolerance and trial[tie] >= trial[tie + 1])
        if not drop.any():
            return contribution, utility, ties
        ties = ties & ~drop
    raise NotApplicable(
        "the exact algorithm could not settle which types share a contract; solve the program instead, "
        "with solve('clarabel')"
    )


def _served_counts(types: _Types, others_data: float) -> list[int]:
    """Numbers of served types that are possible: the cheapest ones are served, the others shut out.

    A type with an outside option > 0 must be served, and where the others' data alone give some accuracy
    nobody is shut out.
    """
    able = types.tops >= types.outside - 8 * _EPS
    most = able.size if able.all() else int(np.argmin(able))
    enough = others_data >= types.branches[0].accuracy.min_viable_data
    least = most if enough else int(np.count_nonzero(types.outside > 0))
    return list(range(least, most + 1))


def solve_exact(
    accuracy: Any,
    costs: Array,
    probs: Array,
    outside: Array,
    others_data: float,
    served: int | None = None,
) -> ExactMenu:
    r"""Compute the menu that maximises expected data, given the others' data.

    Parameters
    ----------
    accuracy : accuracy function
        With ``concave_part`` b, its derivative, and the inverse of that.
    costs, probs : ndarray, shape (n_types,)
        Marginal costs c (accuracy per data point), strictly increasing, and their probabilities.
    outside : ndarray, shape (n_types,)
        Utility of each type on its own.
    others_data : float
        Data of all other agents S.
    served : int, optional
        Number of types to serve; by default the best one.

    Returns
    -------
    ExactMenu

    Raises
    ------
    NotApplicable
        If it cannot be settled which types share a contract.
    """
    n_types = costs.size
    known = n_types if served is None else served
    types = _Types(accuracy, costs[:known], probs[:known], outside[:known], others_data)
    counts = _served_counts(types, others_data) if served is None else [served]
    return max((_menu(types, n, n_types) for n in counts), key=lambda menu: menu.objective)


def _menu(types: _Types, served: int, n_types: int) -> ExactMenu:
    """Menu for so many served types, with zeros for the others."""
    contribution, utility = np.zeros(n_types), np.zeros(n_types)
    ties = np.zeros(max(n_types - 1, 0), dtype=bool)
    if served:
        contribution[:served], utility[:served], ties[: served - 1] = _serve(types, served)
    value = float(types.probs[:served] @ contribution[:served])
    return ExactMenu(contribution, utility, value, served, ties)


_Excess = Callable[[float], tuple[float, ExactMenu] | None]


def solve_mean_field(
    accuracy: Any, costs: Array, probs: Array, outside: Array, n_agents: int, served: int | None = None
) -> tuple[float, ExactMenu]:
    r"""Greatest S with :math:`S = (N - 1) E[m]`, m being optimal given S, and the menu there.

    For each number of served types the expected data are concave in S, so that chords of
    :math:`(N - 1) E[m](S) - S`, taken from the right of its greatest root, never pass it. And where that is
    negative and falls, no root is further to the right, so that most numbers need no search of their own.
    """
    alone = solve_exact(accuracy, costs, probs, outside, 0.0)
    if n_agents == 1:
        return 0.0, alone
    best = (0.0, alone) if alone.objective == 0 else None

    @cache
    def types(others_data: float) -> _Types:
        return _Types(accuracy, costs, probs, outside, others_data)

    least = max(int(np.count_nonzero(outside > 0)), 1)
    for n in range(costs.size, least - 1, -1) if served is None else [served]:

        def excess(others_data: float, n: int = n) -> tuple[float, ExactMenu] | None:
            given = types(others_data)
            if not given.branches[n - 1].allows(float(outside[n - 1])):
                return None
            menu = _menu(given, n, costs.size)
            return (n_agents - 1) * menu.objective - others_data, menu

        if best is not None and best[0] > 0 and _falls_below(excess, best[0]):
            continue
        start = (n_agents - 1) * float(probs[:n] @ ((accuracy.max_accuracy - outside[:n]) / costs[:n]))
        found = _greatest_root(excess, start)
        if found is not None and (best is None or found[0] > best[0]):
            best = found
    if best is None:
        raise NotApplicable("no mean-field equilibrium was found, though some type gains on its own")
    return best


def _falls_below(excess: _Excess, at: float) -> bool:
    """Whether the concave function is not positive there, and has less than a little to the left."""
    here, left = excess(at), excess(_LEFT * at)
    return here is not None and left is not None and here[0] <= min(16 * _EPS * at, left[0])


def _greatest_root(excess: _Excess, start: float) -> tuple[float, ExactMenu] | None:
    """Greatest root at or below the start of a concave function, and the menu there, or None."""
    at = start
    before: tuple[float, float] | None = None
    for _ in range(_MAX_STEPS):
        found = excess(at)
        if found is None:
            return None
        value, menu = found
        if value >= -4 * _EPS * at:
            return at, menu
        step = at + value
        if before is not None:
            fall = (value - before[1]) / (at - before[0])
            if fall >= 0:
                return None
            step = at - value / fall
        if not step < at:
            return at, menu
        before, at = (at, value), step
        if at <= 0:
            return None
    raise NotApplicable("the mean-field equilibrium was not reached; solve its program instead")
