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
more than a walk down the chain until a target is met.

Only the upward half of the incentive constraints is missing: contributions must not rise with the cost. Types
that would are tied to one contract, and ties are kept only while the untied types would break the order.

Below ``min_viable_data`` the true accuracy is 0 and not b, which is negative: a type may then be shut out
with nothing asked and nothing given. Only the costliest ones can be, so every number of served types is
tried.

Ten types take hundredths of a second, a hundred take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
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
# Slopes beyond this, relative to what they are compared with, are as good as infinite.
_STEEP = 1e9
# Slopes that differ by less, relatively, this far on both sides of a point, relative to the accuracy, are one.
_SMOOTH, _ASIDE = 1e-4, 1e-9


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


class _Branch:
    """What a type of one cost can be left with, :math:`g(m) = b(m + S) - c m`, where b is not negative."""

    def __init__(self, accuracy: Any, cost: float, others_data: float) -> None:
        self.accuracy, self.cost, self.others_data = accuracy, cost, others_data
        self.start = max(0.0, float(accuracy.min_viable_data) - others_data)
        best = float(np.asarray(accuracy.inverse_derivative(cost))) - others_data
        self.peak = max(self.start, best)
        self.top = self.value(self.peak)
        # Where b has straight pieces a whole interval may be best; a hair cheaper, its right end is.
        last = float(np.asarray(accuracy.inverse_derivative(cost * (1 - 4 * _EPS)))) - others_data
        self.last_peak = max(self.peak, last)

    def value(self, m: float) -> float:
        return float(self.accuracy.concave_part(m + self.others_data)) - self.cost * m

    def slope(self, m: float) -> float:
        return float(self.accuracy.concave_part_derivative(m + self.others_data)) - self.cost

    def allows(self, u: float) -> bool:
        return u <= self.top + 8 * _EPS

    def least(self, u: float) -> float:
        """Smallest contribution at which the type can be left with u."""
        if u >= self.top - 4 * _EPS:  # a double root, of which Newton's steps find half of the digits
            return self.peak
        return self._root(u, self.start, 1.0)

    def most(self, u: float) -> float:
        """Largest contribution at which the type can be left with u."""
        if u >= self.top - 4 * _EPS:
            return self.last_peak
        return self._root(u, max((self.accuracy.max_accuracy - u) / self.cost, self.peak), -1.0)

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
    """The types that are to be served, given the others' data; what is known of any chain of them."""

    def __init__(self, accuracy: Any, costs: Array, probs: Array, outside: Array, others_data: float) -> None:
        self.costs, self.outside = costs, outside
        self.branches = [_Branch(accuracy, float(cost), others_data) for cost in costs]
        self.peaks = np.array([branch.last_peak for branch in self.branches])
        self.tops = np.array([branch.top for branch in self.branches])
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
        self.last = np.append(np.flatnonzero(~ties), ties.size)
        self.cost, self.peak, self.top = (a[self.last] for a in (types.costs, types.peaks, types.tops))
        self.total = np.append(0.0, types.total[self.last + 1])
        """Weight of all stages before each, and of all."""
        self.rise = np.diff(self.cost, prepend=self.cost[0])
        """What one more data point adds to the utility of the next cheaper stage; 0 for the cheapest."""
        self.floor = np.append(-np.inf, types.outside[self.last[:-1]])
        self.target = np.full(self.last.size, np.inf)
        for i in range(1, self.last.size):
            key = ties[: self.last[i]].tobytes()
            if key not in types.targets:
                types.targets[key] = self._target(i)
            self.target[i] = types.targets[key]

    def members(self, low: int, i: int) -> slice:
        """Types of the stages ``low`` to ``i``."""
        return slice(int(self.last[low - 1]) + 1 if low else 0, int(self.last[i]) + 1)

    def branch(self, i: int) -> _Branch:
        return self.types.branches[self.last[i]]

    def _target(self, i: int) -> float:
        """Utility of the stage below at which one more unit costs it as much data as stage i gains."""
        gain = float((self.total[i + 1] - self.total[i]) / self.rise[i])

        def net(utility: float) -> float:
            return max(gain + self.marginal(i - 1, utility), -_STEEP * gain)

        low, high = float(self.floor[i]), self.branch(i - 1).top
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
        branch, rise, target = self.branch(i), float(self.rise[i]), float(self.target[i])
        most = branch.most(u)
        if target >= u + rise * most:
            return self._shared(i, u, most, 1), most, 1
        least = branch.least(u)
        if target <= u + rise * least:
            return self._shared(i, u, least, -1), least, -1
        return i, (target - u) / rise, 0

    def _shared(self, i: int, u: float, m: float, end: int) -> int:
        left = u + (self.cost[i] - self.cost[:i]) * m
        most = self.target[:i] >= left + self.rise[:i] * m
        other = (left < self.floor[1 : i + 1]) | (most != (end > 0))
        # At its top a type has its peak, which m misses by half of the digits.
        other |= (left >= self.top[:i] - 4 * _EPS) & (self.peak[:i] != m)
        if end > 0:
            other |= self.peak[:i] > m
        return int(np.flatnonzero(other)[-1]) + 1 if other.any() else 0

    def marginal(self, i: int, u: float) -> float:
        """Slope, from the right, of the expected data of stages 0 to i in what stage i is left with."""
        walk: list[tuple[float, float, float]] = []
        slope = 0.0
        while True:
            if not self.branch(i).allows(u):
                slope = -np.inf
                break
            low, m, end = self.choose(i, u)
            weight = float(self.total[i + 1] - self.total[low])
            if end == 0:
                slope = -weight / float(self.rise[i])
                break
            # Stages that share a contract act as one: their slopes, worked out one by one, add up to that.
            rise = float(self.cost[i] - self.cost[low - 1]) if low else 0.0
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
        ends = [0] * self.last.size
        u = float(self.types.outside[costs.size - 1])
        i = len(ends) - 1
        while i >= 0:
            low, m, end = self.choose(i, u)
            ends[low : i + 1] = [end] * (i + 1 - low)
            members = self.members(low, i)
            contribution[members] = m
            utility[members] = u + (self.cost[i] - costs[members]) * m
            if low:
                u = max(float(self.floor[low]), u + float(self.cost[i] - self.cost[low - 1]) * m)
            i = low - 1
        return contribution, utility, ends

    def strain(self, i: int, u: float, m: float, end: int) -> Array | None:
        r"""How much each tie of stage i costs: negative where it is needless, relative to the stage's weight.

        With the tie below type l of the stage's first f to last j, and :math:`\lambda` the price of what the
        stage passes on, its multiplier is

        .. math:: \rho_l = \lambda (c_l - c_{f-1}) + \mu \max(0, c_l - b'(m + S)) - \sum_{k=f}^l p_k

        where :math:`\mu` is the price of what the stage can give, for which :math:`\rho_j` is 0. All its types
        are at their most (or least) together, and of all ways to share :math:`\mu` among them this is the one
        that is best for every tie. None if prices differ on the two sides of u: then there are more than one.
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
        return (price * rise + own * beyond - weight)[:-1] / weight[-1]


def _serve(types: _Types, served: int) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Contributions, utilities and ties of the cheapest types, that all get a contract on the branch."""
    outside, total = types.outside[:served], types.total
    probs = np.diff(total[: served + 1])
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
            strain = chain.strain(i, float(utility[last]), float(contribution[last]), end)
            if strain is not None:
                if strain.min() < -_SAME:
                    drop[members.start + np.argmin(strain)] = True
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
    best = ExactMenu(np.zeros(n_types), np.zeros(n_types), 0.0, 0, np.zeros(max(n_types - 1, 0), dtype=bool))
    for n in counts:
        if n == 0:
            continue
        contribution, utility, ties = _serve(types, n)
        value = float(probs[:n] @ contribution)
        if value > best.objective or best.served == 0:
            out = n_types - n
            best = ExactMenu(
                np.append(contribution, np.zeros(out)),
                np.append(utility, np.zeros(out)),
                value,
                n,
                np.append(ties, np.zeros(n_types - 1 - ties.size, dtype=bool)),
            )
    return best


def solve_mean_field(
    accuracy: Any, costs: Array, probs: Array, outside: Array, n_agents: int, served: int | None = None
) -> tuple[float, ExactMenu]:
    r"""Greatest S with :math:`S = (N - 1) E[m]`, m being optimal given S, and the menu there.

    For each number of served types the expected data are concave in S, so that chords of
    :math:`(N - 1) E[m](S) - S`, taken from the right of its greatest root, never pass it.
    """
    alone = solve_exact(accuracy, costs, probs, outside, 0.0)
    if n_agents == 1:
        return 0.0, alone
    best = (0.0, alone) if alone.objective == 0 else None
    least = max(int(np.count_nonzero(outside > 0)), 1)
    for n in range(least, costs.size + 1) if served is None else [served]:
        found = _greatest_root(accuracy, costs, probs, outside, n_agents, n)
        if found is not None and (best is None or found[0] > best[0]):
            best = found
    if best is None:
        raise NotApplicable("no mean-field equilibrium was found, though some type gains on its own")
    return best


def _greatest_root(
    accuracy: Any, costs: Array, probs: Array, outside: Array, n_agents: int, served: int
) -> tuple[float, ExactMenu] | None:
    """Greatest fixed point with so many types served, or None."""
    c, p, u = costs[:served], probs[:served], outside[:served]

    def answer(others_data: float) -> ExactMenu | None:
        if not _Branch(accuracy, float(c[-1]), others_data).allows(float(u[-1])):
            return None
        return solve_exact(accuracy, costs, probs, outside, others_data, served)

    at = (n_agents - 1) * float(p @ ((accuracy.max_accuracy - u) / c))
    before: tuple[float, float] | None = None
    for _ in range(_MAX_STEPS):
        menu = answer(at)
        if menu is None:
            return None
        excess = (n_agents - 1) * menu.objective - at
        if excess >= -4 * _EPS * at:
            return at, menu
        step = at + excess
        if before is not None:
            fall = (excess - before[1]) / (at - before[0])
            if fall >= 0:
                return None
            step = at - excess / fall
        if not step < at:
            return at, menu
        before, at = (at, excess), step
        if at <= 0:
            return None
    raise NotApplicable("the mean-field equilibrium was not reached; solve its program instead")
