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

    def value(self, m: float) -> float:
        return float(self.accuracy.concave_part(m + self.others_data)) - self.cost * m

    def slope(self, m: float) -> float:
        return float(self.accuracy.concave_part_derivative(m + self.others_data)) - self.cost

    def allows(self, u: float) -> bool:
        return u <= self.top + 8 * _EPS

    def least(self, u: float) -> float:
        """Smallest contribution at which the type can be left with u."""
        return self._root(u, self.start, 1.0)

    def most(self, u: float) -> float:
        """Largest contribution at which the type can be left with u."""
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


@dataclass
class _Stage:
    """Types that share a contract, seen from the costliest of them."""

    branch: _Branch
    weight: float
    rise: float = 0.0
    """What one more data point adds to the utility of the next cheaper stage; 0 for the cheapest."""
    floor: float = 0.0
    """Outside option of that next stage."""
    target: float = 0.0
    """Best utility for it, whatever this stage is left with."""


class _Chain:
    """Stages from the cheapest to the costliest; `marginal` is the slope of the value function."""

    def __init__(
        self,
        accuracy: Any,
        costs: Array,
        probs: Array,
        outside: Array,
        others_data: float,
        ties: NDArray[np.bool_],
        known: dict[bytes, _Stage],
    ) -> None:
        self.groups = np.split(np.arange(costs.size), np.flatnonzero(~ties) + 1)
        self.costs, self.outside = costs, outside
        self.stages: list[_Stage] = []
        previous = -1
        for group in self.groups:
            last = int(group[-1])
            key = ties[:last].tobytes()  # a stage depends on the cheaper ones only
            if key not in known:
                stage = _Stage(_Branch(accuracy, float(costs[last]), others_data), float(probs[group].sum()))
                if self.stages:
                    stage.rise = float(costs[last] - costs[previous])
                    stage.floor = float(outside[previous])
                    stage.target = self._target(stage)
                known[key] = stage
            self.stages.append(known[key])
            previous = last

    def _target(self, stage: _Stage) -> float:
        """Utility of the stage below at which one more unit costs it as much data as the new stage gains."""
        below = len(self.stages) - 1
        gain = stage.weight / stage.rise

        def net(utility: float) -> float:
            return max(gain + self.marginal(below, utility), -_STEEP * gain)

        low, high = stage.floor, self.stages[below].branch.top
        if high <= low or net(low) <= 0:
            return low
        if net(high) >= 0:
            return high
        return float(brentq(net, low, high, xtol=_EPS * high, rtol=4 * _EPS))

    def choose(self, i: int, u: float) -> tuple[float, int]:
        """Contribution of stage i when it is left with u: the target's (0), the most (1), the least (-1)."""
        stage = self.stages[i]
        most = stage.branch.most(u)
        if i == 0 or stage.target >= u + stage.rise * most:
            return most, 1
        least = stage.branch.least(u)
        if stage.target <= u + stage.rise * least:
            return least, -1
        return (stage.target - u) / stage.rise, 0

    def marginal(self, i: int, u: float) -> float:
        """Slope, from the right, of the expected data of stages 0 to i in what stage i is left with."""
        walk: list[tuple[float, float, float]] = []
        slope = 0.0
        while True:
            stage = self.stages[i]
            if not stage.branch.allows(u):
                slope = -np.inf
                break
            m, end = self.choose(i, u)
            if end == 0:
                slope = -stage.weight / stage.rise
                break
            walk.append((stage.weight, stage.rise, stage.branch.rate(m, end)))
            u += stage.rise * m
            i -= 1
            if i < 0 or u < stage.floor:
                break
        for weight, rise, rate in reversed(walk):
            if np.isinf(slope) or np.isinf(rate):
                slope = -np.inf
            else:
                slope += rate * (weight + rise * slope)
        return slope

    def allocate(self) -> tuple[Array, Array, list[int]]:
        """Contribution and utility of every type, and how `choose` chose for each stage."""
        contribution, utility = np.empty(self.costs.size), np.empty(self.costs.size)
        ends = [0] * len(self.stages)
        u = float(self.outside[-1])
        for i in range(len(self.stages) - 1, -1, -1):
            m, ends[i] = self.choose(i, u)
            group, stage = self.groups[i], self.stages[i]
            contribution[group] = m
            utility[group] = u + (stage.branch.cost - self.costs[group]) * m
            u = max(stage.floor, u + stage.rise * m)
        return contribution, utility, ends


def _serve(
    accuracy: Any, costs: Array, probs: Array, outside: Array, others_data: float
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Contributions, utilities and ties of types that all get a contract on the branch."""
    known: dict[bytes, _Stage] = {}

    def chain_of(ties: NDArray[np.bool_]) -> _Chain:
        return _Chain(accuracy, costs, probs, outside, others_data, ties, known)

    ties = np.zeros(costs.size - 1, dtype=bool)
    seen: set[bytes] = set()
    while ties.tobytes() not in seen:
        seen.add(ties.tobytes())
        chain = chain_of(ties)
        contribution, utility, ends = chain.allocate()
        tolerance = _SAME * contribution.max(initial=0.0)
        rising = np.diff(contribution) > tolerance
        if rising.any():
            ties = ties | rising
            continue
        drop = ties & (utility < outside - _SAME)[:-1]
        for group, end in zip(chain.groups, ends, strict=True):
            if end == 0:
                drop[group[:-1]] |= _splits(costs, probs, group)
            else:
                for tie in group[:-1]:
                    without = ties.copy()
                    without[tie] = False
                    trial, _, _ = chain_of(without).allocate()
                    gained = probs @ (trial - contribution)
                    drop[tie] |= bool(gained > tolerance and trial[tie] >= trial[tie + 1])
        if not drop.any():
            return contribution, utility, ties
        ties = ties & ~drop
    raise NotApplicable(
        "the exact algorithm could not settle which types share a contract; solve the program instead, "
        "with solve('clarabel')"
    )


def _splits(costs: Array, probs: Array, group: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which ties of a group that meets its target are needless: where it should be split, if anywhere.

    A data point of the whole group passes on ``costs[last] - costs[before]`` of utility and is worth the
    group's weight; one of its cheaper members alone passes on less. If these get more for each unit passed
    on than the group does, they should contribute more than the rest.
    """
    weight = np.cumsum(probs[group])
    rise = costs[group] - costs[group[0] - 1]
    excess = weight[:-1] / rise[:-1] - weight[-1] / rise[-1] * (1 + _SAME)
    split = np.zeros(excess.size, dtype=bool)
    if excess.size and excess.max() > 0:
        split[np.argmax(excess)] = True
    return split


def served_counts(accuracy: Any, costs: Array, outside: Array, others_data: float) -> list[int]:
    """Numbers of served types that are possible: the cheapest ones are served, the others shut out.

    A type with an outside option > 0 must be served, and where the others' data alone give some accuracy
    nobody is shut out.
    """
    tops = [_Branch(accuracy, float(c), others_data).top for c in costs]
    able = np.asarray(tops) >= outside - 8 * _EPS
    most = costs.size if able.all() else int(np.argmin(able))
    least = most if others_data >= accuracy.min_viable_data else int(np.count_nonzero(outside > 0))
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
    counts = served_counts(accuracy, costs, outside, others_data) if served is None else [served]
    n_types = costs.size
    best = ExactMenu(np.zeros(n_types), np.zeros(n_types), 0.0, 0, np.zeros(max(n_types - 1, 0), dtype=bool))
    for n in counts:
        if n == 0:
            continue
        contribution, utility, ties = _serve(accuracy, costs[:n], probs[:n], outside[:n], others_data)
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
