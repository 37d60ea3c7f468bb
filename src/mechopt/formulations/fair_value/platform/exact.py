r"""The platform's own algorithms, for users of one cost.

In a symmetric equilibrium all share with probability q, and an interior one needs
:math:`\alpha = c/\gamma(q)`: the platform's problem is one-dimensional,
:math:`\max_q (1 - c/\gamma(q)) U(q)`. Where private data are worth nothing and U is concave that is
:math:`U(q) - N c q`, concave, and one root of its derivative solves it in O(sqrt(N)) per evaluation;
otherwise branch and bound does (`bernstein`).

In an asymmetric equilibrium of a game whose relative payoff falls strictly in the sharers, some number a
share for sure, b mix alike and the rest do not share: users who mixed differently would not all be
indifferent. Its utility and relative payoff are the same polynomials on a slice of the coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial.polynomial import polyval
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import comb

from mechopt.formulations.fair_value.platform import bernstein
from mechopt.formulations.fair_value.platform.utility import ExchangeableUtility, expectation
from mechopt.solvers.errors import NotApplicable

Array = NDArray[np.float64]

LARGEST_MIXED = 40
"""Users up to which the best of all asymmetric mixed equilibria is searched for."""

LARGEST_WORST = 12
"""Users up to which the worst of them is."""


@dataclass(frozen=True, eq=False)
class Optimum:
    """What the platform pays, and what comes of it.

    Attributes
    ----------
    payment_share : float
        Alpha in [0, 1].
    share_probability : array, shape (n_users,)
        Of each user, in [0, 1].
    objective, bound : float
        The platform's utility, and what it cannot exceed.
    attained : bool
        Whether some payment share gives the objective, or only shares close to the one returned.
    method : str
        Which algorithm answered.
    n_splits : int
        Intervals that it divided.
    """

    payment_share: float
    share_probability: Array
    objective: float
    bound: float
    attained: bool = True
    method: str = ""
    n_splits: int = 0


@dataclass(frozen=True, eq=False)
class Game:
    """Users of one cost, and their utility."""

    utility: ExchangeableUtility
    cost: float

    @property
    def n_users(self) -> int:
        """Number of users, N."""
        return self.utility.n_users

    @property
    def concave(self) -> bool:
        """Whether the first-order condition is enough: private data worth nothing, U monotone and concave."""
        return self.utility.sharing_only and self.utility.monotone and self.utility.diminishing

    def share_for(self, q: float) -> float:
        """Least payment share at which all sharing with probability q is an equilibrium; inf if none is."""
        if q <= 0 or self.cost == 0:
            return 0.0
        payoff = expectation(self.utility.relative_payoff, q)
        return self.cost / payoff if payoff > 0 else np.inf

    # ------------------------------------------------------------------ symmetric equilibria

    def symmetric(
        self, low: float = 0.0, high: float = 1.0, budget: float = np.inf, tolerance: float = 1e-10
    ) -> Optimum | None:
        """Best symmetric equilibrium for the platform, with q in [low, high] and payments within a budget.

        Returns
        -------
        Optimum or None
            None if no equilibrium meets both.
        """
        if self.concave:
            return self._first_order(low, high, budget)
        return self._branch_and_bound(low, high, budget, tolerance)

    def by_branch_and_bound(self, tolerance: float = 1e-10) -> Optimum:
        """Best symmetric equilibrium, whatever the shape of the utility, with a certified bound."""
        found = self._branch_and_bound(0.0, 1.0, np.inf, tolerance)
        assert found is not None  # nobody sharing is always an equilibrium
        return found

    def _first_order(self, low: float, high: float, budget: float) -> Optimum | None:
        profile, cost, n = self.utility.profile, self.cost, self.n_users
        marginal = np.diff(profile)
        if cost >= marginal[0]:
            q = 0.0
        elif cost <= marginal[-1]:
            q = 1.0
        else:
            q = float(brentq(lambda x: expectation(marginal, x) - cost, 0.0, 1.0, xtol=1e-15))
        # U(q) - N c q is concave: a bound on q cuts off what lies beyond it.
        affordable = budget / (n * cost) if cost > 0 else np.inf
        if min(affordable, high) < low:
            return None
        q = min(max(q, low), high, affordable)
        total = expectation(profile, q)
        payments = n * cost * q
        if payments > total:  # q was forced up to where users' costs exceed all there is to pay
            return None
        share = payments / total if q > 0 and total > 0 else 0.0
        value = total - payments
        return self._alike(share, q, value, value, "first-order condition")

    def _branch_and_bound(self, low: float, high: float, budget: float, tolerance: float) -> Optimum | None:
        utility, cost = self.utility, self.cost
        profile, payoff = utility.profile, utility.relative_payoff
        size = float(profile.max())
        rows: list[Array] = []
        numerator, denominator = profile, None
        if cost > 0:
            rows.append(payoff - cost)
            if utility.sharing_only:
                numerator = profile - cost * np.arange(profile.size)
            else:
                # (1 - c / gamma) U as a ratio of polynomials of one degree
                numerator = bernstein.product(profile, payoff - cost)
                denominator = bernstein.raised(payoff, numerator.size - 1)
            if np.isfinite(budget):
                rows.append(budget * bernstein.raised(payoff, profile.size - 1) - cost * profile)
        found = bernstein.maximise(
            numerator, denominator, allowed=tuple(rows), low=low, high=high, tolerance=tolerance * size
        )
        nothing = float(profile[0]) if low <= 0 else -np.inf
        if max(found.value, nothing) == -np.inf:
            return None
        bound = max(found.bound, nothing)
        if found.value <= nothing:
            return self._alike(0.0, 0.0, nothing, bound, "branch_and_bound", found.n_splits)
        share = min(self.share_for(found.at), 1.0)
        return self._alike(share, found.at, found.value, bound, "branch_and_bound", found.n_splits)

    def _alike(
        self, share: float, q: float, value: float, bound: float, how: str, n_splits: int = 0
    ) -> Optimum:
        return Optimum(share, np.full(self.n_users, q), value, bound, True, how, n_splits)

    def equilibria(self, share: float) -> tuple[float, ...]:
        """Symmetric equilibria at a payment share: probabilities of sharing, ascending.

        Where the relative payoff is constant and everybody indifferent, the ends 0 and 1 stand for all.
        """
        gain = share * self.utility.relative_payoff - self.cost
        size = max(float(np.max(np.abs(share * self.utility.relative_payoff))), self.cost, 1e-300)
        edge = 4 * np.finfo(float).eps * size
        found = []
        if gain[0] <= edge:
            found.append(0.0)
        if self.utility.decreasing or self.utility.increasing:
            if gain[0] * gain[-1] < 0:
                found.append(float(brentq(lambda q: expectation(gain, q), 0.0, 1.0, xtol=1e-15)))
        elif np.max(np.abs(gain)) > edge:
            found += [q for q in bernstein.roots(gain) if 0 < q < 1]
        if gain[-1] >= -edge:
            found.append(1.0)
        return tuple(found)

    # ------------------------------------------------------------------ all equilibria

    def optimistic(self, tolerance: float = 1e-10) -> Optimum:
        """Best of all equilibria for the platform.

        Raises
        ------
        NotApplicable
            If private data have value and the relative payoff is not monotone in the sharers.
        """
        utility, cost, n = self.utility, self.cost, self.n_users
        profile, payoff = utility.profile, utility.relative_payoff
        if utility.sharing_only:
            # Each sharer is paid at least c in expectation, so that no equilibrium gives the platform more
            # than the expectation of U(K) - c K; and the best k is an equilibrium: U(k+1)/(k+1) <= U(k)/k
            # there, as one more sharer adds at most c, and c <= U(k)/k.
            kept = profile - cost * np.arange(n + 1)
            k = int(np.argmax(kept))
            share = cost * k / float(profile[k]) if k else 0.0
            return self._pure(k, share, float(kept[k]), "best number of sharers")
        if utility.increasing and utility.monotone:
            # Nobody shares before c / gamma_max, where all can.
            share = cost / float(payoff[-1]) if payoff[-1] > 0 else np.inf
            value = (1 - share) * float(profile[-1]) if share <= 1 else -np.inf
            if value > profile[0]:
                return self._pure(n, share, value, "all share, or nobody")
            return self._pure(0, 0.0, float(profile[0]), "all share, or nobody")
        if not utility.decreasing:
            raise NotApplicable(
                "selection 'optimistic' needs a relative payoff that is monotone in the number of sharers "
                "where data at the private level have value; use selection 'symmetric'"
            )
        if n > LARGEST_MIXED:
            raise NotApplicable(
                f"selection 'optimistic' searches all asymmetric equilibria up to {LARGEST_MIXED} users, got "
                f"{n}; use selection 'symmetric', which is a lower bound"
            )
        return self._best_mixed(tolerance)

    def _best_mixed(self, tolerance: float) -> Optimum:
        profile, payoff, cost = self.utility.profile, self.utility.relative_payoff, self.cost
        best = self._pure(0, 0.0, float(profile[0]), "all numbers of sure and mixing users")
        if cost == 0:
            k = int(np.argmax(profile))
            return self._pure(k, 0.0, float(profile[k]), best.method)
        size = float(profile.max())
        bound, splits = best.objective, 0
        for sure in range(self.n_users):
            for mixing in range(1, self.n_users - sure + 1):
                worth, gain = profile[sure : sure + mixing + 1], payoff[sure : sure + mixing]
                if gain[0] < cost:
                    continue
                numerator = bernstein.product(worth, gain - cost)
                found = bernstein.maximise(
                    numerator,
                    bernstein.raised(gain, numerator.size - 1),
                    allowed=(gain - cost,),
                    tolerance=tolerance * size,
                    at_least=best.objective,
                )
                splits += found.n_splits
                bound = max(bound, found.bound)
                if found.value > best.objective:
                    q = np.zeros(self.n_users)
                    q[:sure], q[sure : sure + mixing] = 1.0, found.at
                    share = cost / expectation(gain, found.at)
                    best = Optimum(share, q, found.value, bound, True, best.method, splits)
        return Optimum(
            best.payment_share, best.share_probability, best.objective, bound, True, best.method, splits
        )

    def pessimistic(self, tolerance: float = 1e-7) -> Optimum:
        """Supremum over payment shares of what the worst equilibrium leaves to the platform.

        Raises
        ------
        NotApplicable
            If the utility or the relative payoff is not monotone, or there are too many users.
        """
        utility, cost, n = self.utility, self.cost, self.n_users
        profile, payoff = utility.profile, utility.relative_payoff
        if not utility.monotone:
            raise NotApplicable(
                "selection 'pessimistic' needs a monotone utility (Assumption 1); use selection 'symmetric', "
                "or the monotone cover of the utility"
            )
        nobody = self._pure(0, 0.0, float(profile[0]), "worst equilibrium")
        if cost == 0:
            # With alpha = 0 all profiles are equilibria; with the least alpha > 0 sharing is dominant where
            # it pays at all.
            if not np.all(payoff > 0):
                raise NotApplicable(
                    "at no cost, selection 'pessimistic' needs a positive relative payoff, whoever shares; "
                    "use selection 'symmetric'"
                )
            q = np.ones(n)
            return Optimum(0.0, q, float(profile[-1]), float(profile[-1]), False, "worst equilibrium")
        if utility.increasing:
            # Up to c / gamma_min nobody sharing is an equilibrium, and the worst; beyond it all must share.
            share = cost / float(payoff[0]) if payoff[0] > 0 else np.inf
            value = (1 - share) * float(profile[-1])
            if share < 1 and value > nobody.objective:
                return Optimum(share, np.ones(n), value, value, False, nobody.method)
            return nobody
        if not utility.decreasing:
            raise NotApplicable(
                "selection 'pessimistic' needs a relative payoff that is monotone in the number of sharers; "
                "use selection 'symmetric'"
            )
        if n > LARGEST_WORST:
            raise NotApplicable(
                f"selection 'pessimistic' searches all equilibria up to {LARGEST_WORST} users, got {n}; use "
                "selection 'symmetric', or correlated_program(share, 'worst') for a bound at a payment share"
            )
        return _Worst(self, tolerance).search(nobody)

    def _pure(self, k: int, share: float, value: float, how: str) -> Optimum:
        q = np.zeros(self.n_users)
        q[:k] = 1.0
        return Optimum(share, q, value, value, True, how)


@dataclass(frozen=True, eq=False)
class _Worst:
    """The lower envelope of all equilibria over payment shares, where the relative payoff falls strictly.

    Between two of the shares c / gamma_k every profile of a sure and b mixing users is on a curve along which
    q, and with it the utility, rises in alpha: (1 - alpha) times the envelope is at most (1 - left) times its
    value at the right end.
    """

    game: Game
    tolerance: float

    @cached_property
    def breaks(self) -> Array:
        """Payment shares at which some number of sharers begins to be an equilibrium, up to 1."""
        payoff = self.game.utility.relative_payoff
        with np.errstate(divide="ignore"):
            shares = np.where(payoff > 0, self.game.cost / np.maximum(payoff, 0.0), np.inf)
        return np.append(np.minimum(shares, 1.0), 1.0)

    def curves(self, interval: int) -> list[tuple[int, int]]:
        """Numbers of sure and of mixing users who are in equilibrium after so many breaks; (k, 0) is pure."""
        n = self.game.n_users
        mixed = [(a, b) for a in range(interval + 1) for b in range(2, n - a + 1) if a + b - 1 > interval]
        return [(interval + 1, 0), *mixed]

    def along(self, sure: int, mixing: int, shares: Array) -> tuple[Array, Array]:
        """Utility, and q of those who mix, along a curve."""
        profile, payoff = self.game.utility.profile, self.game.utility.relative_payoff
        if mixing == 0:
            return np.full(shares.shape, profile[sure]), np.zeros(shares.shape)
        gain, worth = payoff[sure : sure + mixing], profile[sure : sure + mixing + 1]
        low, high = np.zeros(shares.shape), np.ones(shares.shape)
        for _ in range(54):
            middle = (low + high) / 2
            shares_more = shares * _values(gain, middle) >= self.game.cost
            low, high = np.where(shares_more, middle, low), np.where(shares_more, high, middle)
        q = (low + high) / 2
        return _values(worth, q), q

    def envelope(self, interval: int, shares: Array) -> Array:
        """Least utility among the equilibria of an interval."""
        least = np.full(shares.shape, np.inf)
        for sure, mixing in self.curves(interval):
            least = np.minimum(least, self.along(sure, mixing, shares)[0])
        return least

    def search(self, nobody: Optimum) -> Optimum:
        """Search all intervals, best first by their own grids."""
        best, bound = nobody, nobody.objective
        size = float(self.game.utility.profile.max())
        for interval in range(self.game.n_users):
            left, right = float(self.breaks[interval]), float(self.breaks[interval + 1])
            if left >= 1:
                break
            value, at, above = self._maximise(interval, left, right, best.objective, self.tolerance * size)
            bound = max(bound, above)
            if value > best.objective:
                best = self._record(interval, at, value)
        return Optimum(
            best.payment_share, best.share_probability, best.objective, bound, best.attained, nobody.method
        )

    def _maximise(
        self, interval: int, left: float, right: float, floor: float, tolerance: float
    ) -> tuple[float, float, float]:
        """Maximum of (1 - alpha) times the envelope on one interval, limits at its ends included."""
        if interval == self.game.n_users - 1:  # all share, and alpha only costs
            value = (1 - left) * float(self.game.utility.profile[-1])
            return value, left, value
        cells = np.linspace(left, right, 65)
        starts, ends = cells[:-1], cells[1:]
        best, at, bound, closed = -np.inf, left, np.inf, -np.inf
        for _ in range(40):
            points = np.unique(np.concatenate([starts, ends]))
            worth = self.envelope(interval, points)
            values = (1 - points) * worth
            top = int(np.argmax(values))
            if values[top] > best:
                best, at = float(values[top]), float(points[top])
            above = (1 - starts) * worth[np.searchsorted(points, ends)]
            open_ = above > max(best, floor) + tolerance
            bound = max(best, floor, closed, float(np.max(above)))
            if not np.any(open_):
                break
            closed = max(closed, float(np.max(above[~open_], initial=-np.inf)))
            middle = (starts[open_] + ends[open_]) / 2
            starts, ends = np.concatenate([starts[open_], middle]), np.concatenate([middle, ends[open_]])
        return best, at, bound

    def _record(self, interval: int, share: float, value: float) -> Optimum:
        """Name the equilibrium that is the worst there, and tell whether the limit is a value."""
        at = np.array([share])
        worst = min(self.curves(interval), key=lambda ab: float(self.along(ab[0], ab[1], at)[0][0]))
        q = np.zeros(self.game.n_users)
        q[: worst[0]] = 1.0
        q[worst[0] : sum(worst)] = self.along(worst[0], worst[1], at)[1]
        # The equilibria at a break are the limits from both sides: what is approached from one is attained
        # only if the other side is no worse.
        size = float(self.game.utility.profile.max())
        beside = [i for i in (interval - 1, interval + 1) if 0 <= i < self.game.n_users]
        limits = [
            float(self.envelope(i, at)[0])
            for i in beside
            if min(abs(share - self.breaks[i]), abs(share - self.breaks[i + 1])) <= 1e-12
        ]
        if interval == 0 and abs(share - self.breaks[0]) <= 1e-12:
            limits.append(float(self.game.utility.profile[0]))
        own = value / (1 - share) if share < 1 else 0.0
        attained = all(limit >= own - 1e-9 * size for limit in limits)
        return Optimum(share, q, value, value, attained)


def _values(coefficients: Array, q: Array) -> Array:
    """Evaluate a polynomial in the Bernstein basis at many points, by Horner's rule in the smaller odds."""
    degree = coefficients.size - 1
    weighted = comb(degree, np.arange(degree + 1)) * coefficients
    less = np.minimum(q, 1 - q)
    odds = less / (1 - less)
    value = np.where(q <= 0.5, polyval(odds, weighted), polyval(odds, weighted[::-1]))
    return np.asarray((1 - less) ** degree * value)
