r"""A principal's attitude to ambiguity and to risk: what replaces the expectation of an ex-post utility.

The principal's utility is v_k when the agent's type is k, and p_k is the probability of that type.

===================  ==============================================================  ==================
`Wasserstein`        worst expectation when mass may move along the types            linear
`KullbackLeibler`    worst expectation at a bounded relative entropy to ``probs``    exponential cone
`ChiSquared`         worst expectation at a bounded chi-squared divergence           second-order cone
`CARA`               certainty equivalent at constant absolute risk aversion         exponential cone
`CVaR`               expectation of the worst share of outcomes                      linear
===================  ==============================================================  ==================

Each says it twice: ``declare`` puts the dual into a program, for any concave utility; ``value`` and
``worst_case`` compute the primal on numbers, and share no code with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from mechopt.formulations import checks
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Program

Array = NDArray[np.float64]


__all__ = ["CARA", "Ambiguity", "Attitude", "CVaR", "ChiSquared", "KullbackLeibler", "Wasserstein"]


class Attitude(ABC):
    """How a principal values a utility that depends on the agent's type.

    All are monotone and concave in the utility, move one for one with a constant, and never exceed the
    expectation. To add one, derive a frozen dataclass with ``kind``, ``_declare`` and ``_worst_case``.
    """

    kind: ClassVar[Literal["ambiguity", "risk"]]
    """Whether it doubts the probabilities, or dislikes the dispersion of what they give."""

    @property
    def is_neutral(self) -> bool:
        """Whether it is the expectation."""
        return False

    def declare(
        self,
        program: Program,
        utility: cp.Expression,
        probs: ArrayLike,
        types: ArrayLike,
        scale: float,
        *,
        prefix: str = "",
    ) -> cp.Expression:
        """Return the value of a utility as a concave expression, for an objective to be maximised.

        Parameters
        ----------
        program : Program
            Gets the variables and the family that the class names; none if the attitude is neutral or there
            is one type only, as the expression is then the expectation.
        utility : concave CVXPY expression, shape (n_types,)
            Principal's utility by the agent's type, in physical units.
        probs : array, shape (n_types,)
            Probability of each type, > 0, summing to 1.
        types : array, shape (n_types,)
            The types; only their distances matter, and only to `Wasserstein`.
        scale : float
            Typical size of the utility, > 0.
        prefix : str
            Stands before the names of variables and of the family, for several attitudes in one program.

        Returns
        -------
        CVXPY expression
            Concave scalar, in the units of the utility. Its value is that of the attitude where it is
            maximised, and below it elsewhere.

        Raises
        ------
        InvalidInput
            If lengths differ, the utility is not concave, or a number breaks its rule.
        """
        probs, types = self._distribution(probs, types)
        utility = cp.Expression.cast_to_const(utility)
        if utility.shape != probs.shape:
            raise InvalidInput(
                f"utility must have shape {probs.shape}, one entry a type, got {utility.shape}"
            )
        if not utility.is_concave():
            raise InvalidInput(
                f"utility must be concave in the variables, but it is {utility.curvature.lower()}: there is "
                "no convex program for it"
            )
        scale = checks.positive(scale, "scale")
        if self.is_neutral or probs.size == 1:
            return probs @ utility
        return self._declare(program, utility, probs, types, scale, prefix)

    def value(self, utility: ArrayLike, probs: ArrayLike, types: ArrayLike) -> float:
        """Return what a utility is worth, in its own units.

        Parameters
        ----------
        utility : array, shape (n_types,)
            Principal's utility by the agent's type.
        probs, types : array, shape (n_types,)
            As for `declare`.
        """
        numbers, probs, types = self._numbers(utility, probs, types)
        return float(self._worst_case(numbers, probs, types) @ numbers)

    def worst_case(self, utility: ArrayLike, probs: ArrayLike, types: ArrayLike) -> Array:
        """Return probabilities under which the expectation of the utility is its value.

        For `CARA`, which is no worst expectation, see there.

        Parameters
        ----------
        utility, probs, types : array, shape (n_types,)
            As for `value`.

        Returns
        -------
        array, shape (n_types,)
            Nonnegative, summing to 1. They are not unique where utilities tie.
        """
        return self._worst_case(*self._numbers(utility, probs, types))

    @abstractmethod
    def _declare(
        self, program: Program, utility: cp.Expression, probs: Array, types: Array, scale: float, prefix: str
    ) -> cp.Expression:
        """Declare the value for at least two types; arguments are checked."""

    @abstractmethod
    def _worst_case(self, utility: Array, probs: Array, types: Array) -> Array:
        """Compute the worst case; arguments are checked."""

    def _distribution(self, probs: ArrayLike, types: ArrayLike) -> tuple[Array, Array]:
        types = checks.vector(types, "types")
        if types.size == 0:
            raise InvalidInput("types is empty; give at least one")
        return checks.probabilities(probs, types.size, "probs"), types

    def _numbers(self, utility: ArrayLike, probs: ArrayLike, types: ArrayLike) -> tuple[Array, Array, Array]:
        probs, types = self._distribution(probs, types)
        numbers = checks.vector(utility, "utility")
        if numbers.size != probs.size:
            raise InvalidInput(
                f"utility has {numbers.size} entries for {probs.size} types; give one for each type"
            )
        checks.all_finite(numbers, "utility")
        return numbers, probs, types


@dataclass(frozen=True)
class Ambiguity(Attitude):
    """The worst expectation over all probabilities near ``probs``; `declare` adds the family ``worst_case``.

    The shadow prices of that family's first constraint, ``solution.duals["worst_case"][0]``, are the worst
    case itself, and the variable ``radius_price`` is what one more unit of radius costs the principal. A
    radius so large that every distribution is in the ball is declared as the lowest utility of all types,
    the variable ``lowest_utility``.

    Parameters
    ----------
    radius : float
        How far the probabilities may be from ``probs``, >= 0; at 0 the value is the expectation.

    Raises
    ------
    InvalidInput
        If ``radius`` is not a finite number >= 0.
    """

    kind: ClassVar[Literal["ambiguity", "risk"]] = "ambiguity"
    radius: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", checks.nonnegative(self.radius, "radius"))

    @property
    def is_neutral(self) -> bool:
        """Whether the radius is 0."""
        return self.radius == 0

    def _declare(
        self, program: Program, utility: cp.Expression, probs: Array, types: Array, scale: float, prefix: str
    ) -> cp.Expression:
        if self.radius >= self._radius_of_everything(probs):
            return _declare_lowest(program, utility, scale, prefix, "worst_case")
        return self._declare_ball(program, utility, probs, types, scale, prefix)

    @abstractmethod
    def _radius_of_everything(self, probs: Array) -> float:
        """Radius from which on every distribution is in the ball."""

    @abstractmethod
    def _declare_ball(
        self, program: Program, utility: cp.Expression, probs: Array, types: Array, scale: float, prefix: str
    ) -> cp.Expression:
        """Declare the dual for a ball that leaves some distribution out."""

    @property
    def _small(self) -> float:
        """Root of the radius, at most 1: by its inverse the price of a small divergence grows."""
        return float(np.sqrt(min(self.radius, 1.0)))


@dataclass(frozen=True)
class Wasserstein(Ambiguity):
    r"""The worst expectation when probability may move between types, at a cost of the distance moved.

    .. math:: \min_q \{ q \cdot v : W(q, p) \le \rho \}
              = \max_{t \le v,\, \lambda \ge 0} \{ p \cdot t - \lambda \rho :
                |t_{k+1} - t_k| \le \lambda d_{k,k+1} \},

    where W is the earth mover's distance with :math:`d_{ij} = |\delta_i - \delta_j| / (\delta_K - \delta_1)`.
    Types lie on a line, so that the n_types² rows :math:`t_i \le v_j + \lambda d_{ij}` of the usual dual
    follow from those between neighbours. Linear if the utility is; variables ``robust_utility`` t and
    ``radius_price`` λ.

    Parameters
    ----------
    radius : float
        Largest average distance that probability may be moved, as a share of the range of types, >= 0. From
        1 on the value is the lowest utility.

    References
    ----------
    Mohajerin Esfahani & Kuhn (2018), Data-driven distributionally robust optimization using the Wasserstein
    metric, Mathematical Programming 171, Theorem 4.2.

    Examples
    --------
    >>> attitude = Wasserstein(0.1)
    >>> round(attitude.value([1.0, 3.0, 5.0], probs=[0.25, 0.5, 0.25], types=[1.0, 2.0, 3.0]), 12)
    2.6
    """

    def _distribution(self, probs: ArrayLike, types: ArrayLike) -> tuple[Array, Array]:
        probs, types = super()._distribution(probs, types)
        checks.all_finite(types, "types")
        falls = np.diff(types) <= 0
        if np.any(falls):
            k = int(np.argmax(falls)) + 1
            raise InvalidInput(
                f"types must be strictly increasing for a distance between them, but types[{k}] = "
                f"{types[k]:g} follows {types[k - 1]:g}; sort them, and the probs with them"
            )
        return probs, types

    def _radius_of_everything(self, probs: Array) -> float:
        return 1.0

    def _declare_ball(
        self, program: Program, utility: cp.Expression, probs: Array, types: Array, scale: float, prefix: str
    ) -> cp.Expression:
        robust = program.variable(f"{prefix}robust_utility", probs.size, scale=scale)
        price = program.variable(f"{prefix}radius_price", nonneg=True, scale=scale)
        rise, steepest = robust[1:] - robust[:-1], price * (np.diff(types) / (types[-1] - types[0]))
        program.add(f"{prefix}worst_case", robust <= utility, rise <= steepest, -rise <= steepest)
        return probs @ robust - self.radius * price

    def _worst_case(self, utility: Array, probs: Array, types: Array) -> Array:
        # Every type's mass may travel down the convex hull of (distance, utility), edge by edge. The edges of
        # all types compete for the radius, the steepest first: a fractional knapsack.
        n_types = probs.size
        origin, here = np.arange(n_types), np.arange(n_types)
        distance = np.abs(types[:, None] - types) / max(types[-1] - types[0], np.finfo(float).tiny)
        slope = np.full(n_types, np.inf)
        edges: list[tuple[NDArray[Any], ...]] = []
        while True:
            further = distance - distance[origin, here][:, None]
            fall = utility[here][:, None] - utility
            steep = np.divide(fall, further, out=np.zeros_like(fall), where=(further > 0) & (fall > 0))
            there = np.argmax(steep, axis=1)
            best = steep[origin, there]
            moves = np.flatnonzero(best > 0)
            if moves.size == 0:
                break
            # Slopes fall along a hull; rounding must not let mass leave a place before it arrives there.
            slope = np.minimum(slope, best)
            cost = probs[moves] * further[moves, there[moves]]
            edges.append((slope[moves], cost, probs[moves], here[moves], there[moves]))
            here[moves] = there[moves]
        worst = probs.copy()
        if not edges:
            return worst
        steepness, costs, masses, sources, targets = (
            np.concatenate(part) for part in zip(*edges, strict=True)
        )
        order = np.argsort(-steepness, kind="stable")
        before = np.cumsum(costs[order]) - costs[order]
        moved = masses[order] * np.clip((self.radius - before) / costs[order], 0.0, 1.0)
        np.add.at(worst, targets[order], moved)
        np.subtract.at(worst, sources[order], moved)
        return np.maximum(worst, 0.0)


@dataclass(frozen=True)
class KullbackLeibler(Ambiguity):
    r"""The worst expectation over probabilities of bounded relative entropy to ``probs``.

    .. math:: \min_q \Bigl\{ q \cdot v : \sum_k q_k \log \frac{q_k}{p_k} \le \rho \Bigr\}
              = \max_{\eta \ge 0,\, \tau,\, w} \{ -\tau - \eta \rho : p \cdot w \le \eta,\;
                \eta\, e^{-(v_k + \tau) / \eta} \le w_k \}.

    One exponential cone a type, in the family ``worst_case_entropy``; variables ``radius_price`` η,
    ``worst_case_shift`` τ, ``worst_case_weight`` w, which is η q/p at the optimum, and
    ``robust_utility``, which stands for v in the cones.

    Parameters
    ----------
    radius : float
        Largest relative entropy, in nats, >= 0. From ``-log(p_min)`` on the value is the lowest utility,
        with ``p_min`` the probability of the types that have it.

    Notes
    -----
    Conic solvers see a small ball as the curvature of their cones, which is the radius relative to the cones'
    entries: below 1e-5 interior points begin to stall. ``ChiSquared(2 * radius)`` is the same ball to the
    first order, and has no such limit.

    References
    ----------
    Hu & Hong (2013), Kullback-Leibler divergence constrained distributionally robust optimization,
    Optimization Online.

    Examples
    --------
    >>> attitude = KullbackLeibler(0.1)
    >>> round(attitude.value([1.0, 3.0], probs=[0.5, 0.5], types=[1.0, 2.0]), 6)
    1.560411
    """

    def _radius_of_everything(self, probs: Array) -> float:
        return float(-np.log(probs.min()))

    def _declare_ball(
        self, program: Program, utility: cp.Expression, probs: Array, types: Array, scale: float, prefix: str
    ) -> cp.Expression:
        price_scale = scale / self._small
        price = program.variable(f"{prefix}radius_price", nonneg=True, scale=price_scale)
        shift = program.variable(f"{prefix}worst_case_shift", scale=scale)
        weight = program.variable(
            f"{prefix}worst_case_weight", probs.size, nonneg=True, scale=price_scale / probs
        )
        robust = program.variable(f"{prefix}robust_utility", probs.size, scale=scale)
        program.add(f"{prefix}worst_case", robust <= utility, probs @ weight <= price)
        # The cone itself, not `rel_entr`, which is infinite at the rounding error of a price of 0: interior
        # points are ten times as accurate on it. It is a family of its own, as cones have no shadow prices.
        cone = cp.ExpCone(-robust - shift, price * np.ones(probs.size), weight)
        program.add(f"{prefix}worst_case_entropy", cone)
        return -shift - self.radius * price

    def _worst_case(self, utility: Array, probs: Array, types: Array) -> Array:
        above = utility - utility.min()
        lowest = np.where(above == 0, probs, 0.0)
        lowest /= lowest.sum()
        if self.radius >= -np.log(probs[above == 0].sum()):
            return lowest
        if self.radius == 0:
            return probs.copy()
        above = above / above.max()

        def entropy(log_tilt: float) -> float:
            log_ratio = _log_tilted(above, probs, np.exp(log_tilt))
            # Each term is nonnegative, and of the second order near the expectation: no sum cancels there.
            return float(probs @ (log_ratio * np.exp(log_ratio) - np.expm1(log_ratio))) - self.radius

        # A variable in [0, 1] tilted by b has entropy b²/8 at most (Hoeffding).
        low = 0.5 * np.log(8 * self.radius) - 1.0
        high = low + 2.0
        beyond = np.log(800 / above[above > 0].min())  # where exp(-b v) has left nothing but the lowest
        while entropy(high) < 0:
            if high > beyond:
                return lowest
            high += 1.0
        tilt = np.exp(brentq(entropy, low, high, xtol=1e-15, rtol=4 * np.finfo(float).eps))
        return _normalised(probs * np.exp(_log_tilted(above, probs, tilt)))


@dataclass(frozen=True)
class ChiSquared(Ambiguity):
    r"""The worst expectation over probabilities of bounded chi-squared divergence from ``probs``.

    .. math:: \min_{q \ge 0} \Bigl\{ q \cdot v : \sum_k \frac{(q_k - p_k)^2}{p_k} \le \rho \Bigr\}
              = \max_{\eta \ge 0,\, \tau,\, z} \Bigl\{ -\tau - \eta \rho - p \cdot z
                - \sum_k \frac{p_k z_k^2}{4 \eta} : z_k \ge -(v_k + \tau) \Bigr\}.

    One second-order cone; variables ``radius_price`` η, ``worst_case_shift`` τ, ``worst_case_tilt`` z, which
    is 2 η (q/p - 1) at the optimum, and ``tilt_cost`` for the last sum. The usual dual is in terms of
    :math:`2\eta q/p = (2\eta - v - \tau)_+`; here 2 η is taken out of it, as η grows without bound when the
    radius falls to 0, and z does not. (No z is below -2 η, where its terms are largest.)

    Parameters
    ----------
    radius : float
        Largest divergence, >= 0. From ``1 / p_min - 1`` on the value is the lowest utility, with ``p_min``
        the probability of the types that have it.

    References
    ----------
    Ben-Tal, den Hertog, De Waegenaere, Melenberg & Rennen (2013), Robust solutions of optimization problems
    affected by uncertain probabilities, Management Science 59(2).

    Examples
    --------
    While no probability falls to zero, the value is the mean less a multiple of the standard deviation.

    >>> round(ChiSquared(0.25).value([1.0, 3.0], probs=[0.5, 0.5], types=[1.0, 2.0]), 12)
    1.5
    """

    def _radius_of_everything(self, probs: Array) -> float:
        return float(1 / probs.min() - 1)

    def _declare_ball(
        self, program: Program, utility: cp.Expression, probs: Array, types: Array, scale: float, prefix: str
    ) -> cp.Expression:
        small = self._small
        price = program.variable(f"{prefix}radius_price", nonneg=True, scale=scale / small)
        shift = program.variable(f"{prefix}worst_case_shift", scale=scale)
        tilt = program.variable(f"{prefix}worst_case_tilt", probs.size, scale=scale / np.sqrt(probs))
        cost = program.variable(f"{prefix}tilt_cost", nonneg=True, scale=scale * small)
        # sum p z² <= 4 (price * small) (cost / small), as a norm: a quotient would be 0/0 where the price
        # is 0, which it is when the ball holds the worst of all distributions.
        first, second = price * (small / scale), cost / (small * scale)
        program.add(
            f"{prefix}worst_case",
            -tilt - shift <= utility,
            cp.norm(cp.hstack([cp.multiply(np.sqrt(probs) / scale, tilt), first - second])) <= first + second,
        )
        return -shift - self.radius * price - probs @ tilt - cost

    def _worst_case(self, utility: Array, probs: Array, types: Array) -> Array:
        above = utility - utility.min()
        mass = float(probs[above == 0].sum())
        if self.radius >= 1 / mass - 1:
            return np.where(above == 0, probs / mass, 0.0)
        order = np.argsort(above, kind="stable")
        ranked, weights = above[order] / above.max(), probs[order]

        def enough(k: int) -> bool:
            """Whether ratios q/p that fall linearly to zero at the k-th utility are within the radius."""
            ratio = np.maximum(ranked[k] - ranked, 0.0)
            return bool(weights @ ratio**2 <= (1 + self.radius) * (weights @ ratio) ** 2)

        # Ratios fall linearly in the utility, to zero at a level that rises as the radius falls.
        first = int(np.sum(ranked == 0))
        n_kept = bisect_left(range(probs.size), True, lo=first, key=enough)
        kept, weight, lost = ranked[:n_kept], weights[:n_kept], weights[n_kept:].sum()
        total = weight.sum()
        mean = weight @ kept / total
        spread = weight @ (kept - mean) ** 2
        slope = np.sqrt(max(self.radius - lost / total, 0.0) / spread)
        worst = np.zeros(probs.size)
        worst[order[:n_kept]] = weight * np.maximum(1 / total - slope * (kept - mean), 0.0)
        return _normalised(worst)


@dataclass(frozen=True)
class CARA(Attitude):
    r"""Certainty equivalent at constant absolute risk aversion.

    .. math:: -\frac1a \log \sum_k p_k e^{-a v_k}
              = \min_q \Bigl\{ q \cdot v + \frac1a \sum_k q_k \log \frac{q_k}{p_k} \Bigr\}.

    `worst_case` returns the minimising q, which is p tilted by :math:`e^{-a v}`: the value is the expectation
    under q plus 1/a times the relative entropy of q to p. Exponential cone; no variable, no family.

    Parameters
    ----------
    aversion : float
        Coefficient of absolute risk aversion a, per unit of utility, > 0. The value falls from the
        expectation to the lowest utility as it rises.

    Raises
    ------
    InvalidInput
        If ``aversion`` is not a finite number > 0.

    Notes
    -----
    In a program, the relative accuracy of a solver is divided by ``aversion * scale``: for a principal who is
    all but neutral, take the expectation.

    References
    ----------
    Pratt (1964), Risk aversion in the small and in the large, Econometrica 32.

    Examples
    --------
    >>> round(CARA(0.5).value([1.0, 3.0], probs=[0.5, 0.5], types=[1.0, 2.0]), 6)
    1.759771
    """

    kind: ClassVar[Literal["ambiguity", "risk"]] = "risk"
    aversion: float

    def __post_init__(self) -> None:
        aversion = checks.positive(self.aversion, "aversion", "for no aversion take the expectation")
        object.__setattr__(self, "aversion", aversion)

    def value(self, utility: ArrayLike, probs: ArrayLike, types: ArrayLike) -> float:
        """Return the certainty equivalent of a utility, in its own units; see `Attitude.value`."""
        numbers, probs, _ = self._numbers(utility, probs, types)
        lowest = numbers.min()
        # From the lowest up all terms have one sign, and expm1 and log1p lose nothing at small aversion.
        return float(lowest - np.log1p(probs @ np.expm1(-self.aversion * (numbers - lowest))) / self.aversion)

    def _declare(
        self, program: Program, utility: cp.Expression, probs: Array, types: Array, scale: float, prefix: str
    ) -> cp.Expression:
        return -cp.log_sum_exp(np.log(probs) - self.aversion * utility) / self.aversion

    def _worst_case(self, utility: Array, probs: Array, types: Array) -> Array:
        return _normalised(probs * np.exp(_log_tilted(utility - utility.min(), probs, self.aversion)))


@dataclass(frozen=True)
class CVaR(Attitude):
    r"""Conditional value at risk: the expectation of the worst outcomes, of total probability 1 - level.

    .. math:: \min_q \Bigl\{ q \cdot v : 0 \le q \le \frac{p}{1 - \beta} \Bigr\}
              = \max_{c,\, s \ge 0} \Bigl\{ c - \frac{p \cdot s}{1 - \beta} : s_k \ge c - v_k \Bigr\}.

    Linear if the utility is; variables ``value_at_risk`` c and ``shortfall`` s, family ``tail``. The shadow
    prices ``solution.duals["tail"][0]`` are the weights q. A level so high that the tail is never more than
    one type is declared as the lowest utility, the variable ``lowest_utility``.

    Parameters
    ----------
    level : float
        Share β of the best outcomes that is left out, in [0, 1); at 0 the value is the expectation.

    Raises
    ------
    InvalidInput
        If ``level`` is not a number in [0, 1).

    References
    ----------
    Rockafellar & Uryasev (2000), Optimization of conditional value-at-risk, Journal of Risk 2, Theorem 1.

    Examples
    --------
    >>> CVaR(0.5).value([1.0, 3.0, 5.0], probs=[0.25, 0.5, 0.25], types=[1.0, 2.0, 3.0])
    2.0
    """

    kind: ClassVar[Literal["ambiguity", "risk"]] = "risk"
    level: float

    def __post_init__(self) -> None:
        level = checks.nonnegative(self.level, "level", "it is the share of outcomes left out")
        if level >= 1:
            raise InvalidInput(
                f"level = {level:g} must be below 1: it is the share of outcomes left out; for the lowest "
                "utility give a level of at least 1 less the smallest probability"
            )
        object.__setattr__(self, "level", level)

    @property
    def is_neutral(self) -> bool:
        """Whether the level is 0."""
        return self.level == 0

    def _declare(
        self, program: Program, utility: cp.Expression, probs: Array, types: Array, scale: float, prefix: str
    ) -> cp.Expression:
        if 1 - self.level <= probs.min():
            return _declare_lowest(program, utility, scale, prefix, "tail")
        quantile = program.variable(f"{prefix}value_at_risk", scale=scale)
        shortfall = program.variable(f"{prefix}shortfall", probs.size, nonneg=True, scale=scale)
        program.add(f"{prefix}tail", quantile - shortfall <= utility)
        return quantile - (probs / (1 - self.level)) @ shortfall

    def _worst_case(self, utility: Array, probs: Array, types: Array) -> Array:
        order = np.argsort(utility, kind="stable")
        tail = 1 - self.level
        before = np.cumsum(probs[order]) - probs[order]
        worst = np.empty(probs.size)
        worst[order] = np.clip(tail - before, 0.0, probs[order])
        return _normalised(worst)


def _declare_lowest(
    program: Program, utility: cp.Expression, scale: float, prefix: str, family: str
) -> cp.Expression:
    """Declare the lowest utility of all types."""
    lowest = program.variable(f"{prefix}lowest_utility", scale=scale)
    program.add(f"{prefix}{family}", lowest <= utility)
    return lowest


def _log_tilted(above: Array, probs: Array, tilt: Any) -> Array:
    """Logarithm of q/p for q proportional to p exp(-tilt * above), of ``above`` >= 0 with minimum 0."""
    ratio: Array = -tilt * above - np.log1p(probs @ np.expm1(-tilt * above))
    return ratio


def _normalised(weights: Array) -> Array:
    """Return weights divided by their sum."""
    shares: Array = weights / weights.sum()
    return shares
