r"""The screening contract for a continuum of types: formula, ironing, and what a grid of types loses.

With the density f and the distribution function F of the types, and x = ε q, one more record from type ε
changes the demander's expected utility by

.. math:: D(\varepsilon, q) = \varepsilon G'(\varepsilon q) f - c (\varepsilon f + F)

Where D = 0 gives quantities that fall with the type, they are optimal (eq. 29). Where they rise, types on an
interval [a, b] must share one contract ("ironing"): the integral of D over it is 0, and D is 0 at its ends.
A fine grid tells how many such intervals there are and where; root finding then gives their ends.

Everything is integrated by Gauss-Legendre panels that are halved until they agree. Expectations integrate a
function's Legendre series against F, which is bounded, and so need no density where that is infinite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import brentq

from mechopt.formulations import checks, menus
from mechopt.formulations.functions import ConcaveFunction, LogGain
from mechopt.formulations.screening import exact
from mechopt.formulations.screening.model import ScreeningContract
from mechopt.formulations.screening.program import Form, declare
from mechopt.solvers.errors import InvalidInput, NotApplicable, SolverFailure, Unbounded
from mechopt.solvers.program import Program
from mechopt.verification.audit import Audit, audit_choices

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["ContinuousContract", "ContinuousForm", "ContinuousMenu", "Grid", "Pool"]

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]
Rule = Callable[[FloatArray, FloatArray], FloatArray]
"""Integrals over panels: from left and right ends, shape (n,), to values, shape (n, n_integrals)."""

Grid = Literal["right", "paper"]
"""Types at the right ends of equal cells, or at the left ends as in the paper, which leaves out ``hi``."""

_EPS = float(np.finfo(np.float64).eps)
_CELLS = 4096
_TINY = 1e-290
# A formula that rises by less than this, relatively, is taken as flat: pooling would change nothing.
_RISE = 1e-9
# Panels are halved until that changes less than this share of the whole integral.
_AGREE = 1e-14
_MOST_PANELS = 200_000


# ------------------------------------------------------------ the distribution of types


class _Law:
    """A distribution truncated to [lo, hi], with small probabilities taken from the nearer tail."""

    def __init__(self, dist: Any, lo: float, hi: float) -> None:
        self._lo, self._hi, self._dist = lo, hi, dist
        self._pdf, self._cdf = _method(dist, "pdf"), _method(dist, "cdf")
        self._ppf = _method(dist, "ppf", "icdf")
        self._sf = _method(dist, "sf", "ccdf", default=lambda x: 1 - self._cdf(x))
        self._isf = _method(dist, "isf", "iccdf", default=lambda u: self._ppf(1 - u))
        self._logpdf = _method(dist, "logpdf", default=lambda x: np.log(self._pdf(x)))
        self._logcdf = _method(dist, "logcdf", default=lambda x: np.log(self._cdf(x)))
        self._logsf = _method(dist, "logsf", "logccdf", default=lambda x: np.log(self._sf(x)))
        if np.shape(self._cdf(lo)) != ():
            raise InvalidInput("dist must be one distribution; its parameters are arrays")
        self._median = float(self._ppf(0.5))
        self._total = 1.0
        self._total = float(self.prob(np.array(lo), np.array(hi)))
        if not self._total > 0:
            raise InvalidInput(
                f"dist gives [lo, hi] = [{lo:g}, {hi:g}] the probability {self._total:g}; it must be > 0, "
                "so choose lo and hi where the types are"
            )

    def prob(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Probability of [left, right]."""
        # Beyond the median, differences of the distribution function lose the digits of the upper tail.
        upper = np.broadcast_to(left > self._median, np.broadcast_shapes(left.shape, right.shape))
        if upper.all():
            return np.asarray((self._sf(left) - self._sf(right)) / self._total, dtype=np.float64)
        below = np.asarray(self._cdf(right) - self._cdf(left), dtype=np.float64)
        if upper.any():
            below = np.where(upper, self._sf(left) - self._sf(right), below)
        return below / self._total

    def cdf(self, eps: FloatArray) -> FloatArray:
        """Probability of [lo, eps]."""
        return self.prob(np.asarray(self._lo), eps)

    def pdf(self, eps: FloatArray) -> FloatArray:
        """Density; at the ends of the support, where conventions differ, the limit from inside."""
        density = np.asarray(self._pdf(eps), dtype=np.float64)
        ends = (density == 0) & ((eps <= self._lo) | (eps >= self._hi))
        if ends.any():
            inside = np.clip(eps, np.nextafter(self._lo, self._hi), np.nextafter(self._hi, self._lo))
            density = np.where(ends, self._pdf(inside), density)
        return np.asarray(density / self._total)

    def ppf(self, share: FloatArray) -> FloatArray:
        """Type below which the given share of types lies."""
        start = float(self._cdf(self._lo))
        from_below = start + share * self._total
        lower = from_below <= 0.5
        eps = np.asarray(self._ppf(np.where(lower, from_below, 0.5)), dtype=np.float64)
        if not lower.all():
            from_above = float(self._sf(self._hi)) + (1 - share) * self._total
            eps = np.where(lower, eps, self._isf(np.where(lower, 0.5, from_above)))
        return np.clip(eps, self._lo, self._hi)

    def hazard(self, eps: FloatArray) -> FloatArray:
        """Inverse hazard rate F / f (nats), in logarithms where both underflow; 0 at lo."""
        below, density = self.cdf(eps), self.pdf(eps)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = below / density
        lost = (eps > self._lo) & ((density < _TINY) | (below < _TINY))
        if lost.any():
            ratio = ratio.copy() if ratio.ndim else np.array(ratio)
            ratio[lost] = self._hazard_of_logs(eps[lost])
        return np.asarray(np.where(eps > self._lo, ratio, 0.0))

    def _hazard_of_logs(self, eps: FloatArray) -> FloatArray:
        inside = np.clip(eps, np.nextafter(self._lo, self._hi), np.nextafter(self._hi, self._lo))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if self._lo > self._median:
                start, change = self._logsf(self._lo), self._logsf(inside) - self._logsf(self._lo)
            else:
                start, change = self._logcdf(inside), self._logcdf(self._lo) - self._logcdf(inside)
            logs = start + np.log1p(-np.exp(change)) - self._logpdf(inside)
            return np.asarray(np.exp(logs), dtype=np.float64)

    def log_density(self, eps: FloatArray) -> FloatArray:
        """Logarithm of the density before truncation."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self._logpdf(eps), dtype=np.float64)


def _method(dist: Any, *names: str, default: Callable[[Any], Any] | None = None) -> Callable[[Any], Any]:
    """Find a function under the names of scipy's older or newer distributions."""
    for name in names:
        found = getattr(dist, name, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
    if default is None:
        raise InvalidInput(
            f"dist must be a frozen continuous distribution such as scipy.stats.beta(2, 5); "
            f"{type(dist).__name__} has no {names[0]!r}"
        )
    return default


# ------------------------------------------------------------ integrals


def _gauss(n_nodes: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Nodes and weights on [0, 1], slopes of Legendre polynomials there, values to Legendre coefficients."""
    x, w = legendre.leggauss(n_nodes)
    degrees = np.arange(n_nodes)
    slopes = np.stack([legendre.legval(x, legendre.legder(row)) for row in np.eye(n_nodes)], axis=1)
    coefficients = (2 * degrees[:, None] + 1) / 2 * legendre.legvander(x, n_nodes - 1).T * w
    return (x + 1) / 2, w / 2, np.asarray(2 * slopes, dtype=np.float64), coefficients


_NODES, _WEIGHTS, _SLOPES, _COEFFICIENTS = _gauss(16)


def _points(left: FloatArray, right: FloatArray) -> FloatArray:
    return np.asarray(left[:, None] + (right - left)[:, None] * _NODES)


def _expectation_weights(law: _Law, left: FloatArray, right: FloatArray, nodes: FloatArray) -> FloatArray:
    """Weights w with sum(w * g(nodes)) = E[g(ε); left <= ε <= right], shape (n, n_nodes).

    Legendre polynomials are integrated against F by parts, so that only F itself is needed.
    """
    gained = law.prob(left[:, None], nodes)
    moments = law.prob(left, right)[:, None] - (_WEIGHTS * gained) @ _SLOPES
    return np.asarray(moments @ _COEFFICIENTS)


def _panels(rule: Rule, edges: FloatArray, least: float = 0.0) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Halve panels until that changes no integral: left and right ends, and integrals, from left to right.

    Changes are judged relative to the whole integral, or to ``least`` where that is larger.
    """
    left, right = edges[:-1], edges[1:]
    whole = rule(left, right)
    size = np.maximum(np.abs(whole).sum(axis=0), least)
    done: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    n_panels = left.size
    while left.size:
        middle = left + (right - left) / 2
        halves = np.stack((rule(left, middle), rule(middle, right)), axis=1)
        both = halves.sum(axis=1)
        rough = np.any(np.abs(both - whole) > _AGREE * size, axis=1)
        rough &= right - left > 4 * _EPS * right
        done.append((left[~rough], right[~rough], both[~rough]))
        left = np.stack((left[rough], middle[rough]), axis=1).ravel()
        right = np.stack((middle[rough], right[rough]), axis=1).ravel()
        whole = halves[rough].reshape(left.size, both.shape[1])
        n_panels += left.size
        if n_panels > _MOST_PANELS:
            raise SolverFailure(
                f"the integrals over types need more than {_MOST_PANELS} panels: the cdf or the gain is not "
                "smooth enough (a cdf that scipy integrates from a pdf is noisy: define _cdf as well)"
            )
    left, right, value = (np.concatenate(parts) for parts in zip(*done, strict=True))
    order = np.argsort(left, kind="stable")
    return left[order], right[order], value[order]


class _Tail:
    """Integral from a point to the end of a range, on panels that are found once."""

    def __init__(self, rule: Rule, edges: FloatArray, least: float = 0.0) -> None:
        self._rule = rule
        self._left, self._right, value = _panels(rule, edges, least)
        self._after = np.append(np.cumsum(value[:0:-1].sum(axis=1))[::-1], 0.0)

    def __call__(self, eps: FloatArray) -> FloatArray:
        flat = np.clip(eps.ravel(), self._left[0], self._right[-1])
        panel = np.searchsorted(self._left, flat, side="right") - 1
        part = self._rule(flat, self._right[panel]).sum(axis=1)
        return np.asarray(part + self._after[panel]).reshape(eps.shape)


# ------------------------------------------------------------ results


class Pool(NamedTuple):
    """An interval of types that share one contract."""

    start: float
    stop: float
    quantity: float


@dataclass(frozen=True, eq=False)
class ContinuousForm:
    """Whether the formula, eq. (29) clipped at 0, is the optimal menu.

    Attributes
    ----------
    contract : ContinuousContract
        The contract.
    valid : bool
        Whether the clipped formula is optimal: exactly if it never rises.
    reason_code : {"", "negative", "non_monotone", "unbounded"}
        What is not as in eq. (29). ``"negative"`` is harmless: high types are excluded.
    reason : str
        The same in a sentence; empty if nothing is.
    witness : tuple of float or None
        Two types, low and high, of which the formula gives the higher one more. Of all pairs on the search
        grid, the one with the largest rise.
    """

    contract: ContinuousContract
    valid: bool
    reason_code: str
    reason: str
    witness: tuple[float, float] | None

    def quantity(self, eps: ArrayLike) -> FloatArray:
        """Quantities of the clipped formula (records), valid or not."""
        return self.contract.formula_quantity(eps)

    def require(self) -> ContinuousForm:
        """Return this form if it is valid.

        Raises
        ------
        NotApplicable
            If the formula does not give the optimal menu.
        """
        if not self.valid:
            raise NotApplicable(f"the closed form does not apply: {self.reason}", reason=self.reason)
        return self


@dataclass(frozen=True, eq=False)
class ContinuousMenu:
    """The optimal menu for a continuum of types.

    Quantities are exact up to rounding (relative 1e-12 or so in pools, whose ends are roots of an integral);
    rents, payments and expectations are integrated to about 1e-13 of their largest value.

    Attributes
    ----------
    contract : ContinuousContract
        The contract that it solves.
    cutoff : float
        Types above it (nats) get nothing; ``hi`` if nobody is excluded, ``lo`` if nobody trades.
    pools : tuple of Pool
        Intervals of types that ironing gave one contract, in increasing order; null contract not included.
    regular : bool
        Whether the formula held everywhere, so that nothing had to be ironed.
    objective : float
        Expected utility of the demander per holder.
    expected_payment, expected_rent : float
        Per holder (utility).
    expected_quantity : float
        Per holder (records).
    """

    contract: ContinuousContract
    cutoff: float
    pools: tuple[Pool, ...]
    regular: bool
    objective: float = field(init=False)
    expected_payment: float = field(init=False)
    expected_rent: float = field(init=False)
    expected_quantity: float = field(init=False)
    _rent: _Tail = field(init=False, repr=False)

    def __post_init__(self) -> None:
        surplus, cost, rent, quantity = _panels(self._expectations, self._edges)[2].sum(axis=0).tolist()
        for name, value in {
            "objective": surplus - rent,
            "expected_payment": cost + rent,
            "expected_rent": rent,
            "expected_quantity": quantity,
            "_rent": _Tail(self._rents, self._edges),
        }.items():
            object.__setattr__(self, name, value)

    def quantity(self, eps: ArrayLike) -> FloatArray:
        """Compute the quantity of each type.

        Parameters
        ----------
        eps : array_like
            Privacy levels (nats) in [lo, hi], any shape.

        Returns
        -------
        ndarray, shape of ``eps``
            Quantities (records), non-increasing in ``eps``, >= 0.
        """
        return self._quantity(self.contract._levels(eps))[()]

    def rent(self, eps: ArrayLike) -> FloatArray:
        r"""Compute the information rent of each type.

        .. math:: u(\varepsilon) = c \int_\varepsilon^{hi} q

        Parameters
        ----------
        eps : array_like
            Privacy levels (nats) in [lo, hi], any shape.

        Returns
        -------
        ndarray, shape of ``eps``
            Rents (utility), non-increasing in ``eps``, >= 0.
        """
        return self._rent(self.contract._levels(eps))[()]

    def payment(self, eps: ArrayLike) -> FloatArray:
        r"""Compute the payment to each type.

        .. math:: \gamma(\varepsilon) = c \varepsilon q(\varepsilon) + u(\varepsilon)

        Parameters
        ----------
        eps : array_like
            Privacy levels (nats) in [lo, hi], any shape.

        Returns
        -------
        ndarray, shape of ``eps``
            Payments (utility), non-increasing in ``eps``, >= 0.
        """
        levels = self.contract._levels(eps)
        payment: FloatArray = self.contract.unit_cost * levels * self._quantity(levels) + self._rent(levels)
        return payment[()]

    def ironing_multiplier(self, eps: ArrayLike) -> FloatArray:
        r"""Compute the price of monotonicity, which certifies that the menu is optimal.

        .. math:: \mu(\varepsilon) = -\int_{lo}^{\varepsilon} D(t, q(t)) \, dt

        with D the expected utility of one more record from type t. The problem is concave, so quantities that
        never rise are optimal if and only if μ >= 0 everywhere and μ = 0 wherever they fall.

        Parameters
        ----------
        eps : array_like
            Privacy levels (nats) in [lo, hi], any shape.

        Returns
        -------
        ndarray, shape of ``eps``
            Prices (utility per record): 0 outside pools and up to the cutoff.
        """
        levels = self.contract._levels(eps)
        price = np.zeros(levels.shape)
        for (start, stop, level), tail in zip(self._shared, self._marginals, strict=True):
            where = (levels > start) & (levels <= stop)
            # Within a pool all sums to 0; the excluded types have no such condition at their upper end.
            rest = 0.0 if level > 0 else float(tail(np.asarray(start)))
            price[where] = tail(levels[where]) - rest
        return price[()]

    def audit(self, n: int = 200) -> Audit:
        """Check incentives by the definition: ``n`` types and more choose among each other's contracts.

        Parameters
        ----------
        n : int
            Number of types, evenly spaced on [lo, hi]; the cutoff and the ends of pools are added.

        Returns
        -------
        Audit
            Indices refer to these types in increasing order.
        """
        contract = self.contract
        eps = np.union1d(np.linspace(contract.lo, contract.hi, checks.count(n, "n")), self._kinks)
        payment = self.payment(eps)
        table = menus.utility_matrix(eps, self.quantity(eps), payment, contract.unit_cost)
        return audit_choices(table, scale=float(payment.max()) or None)

    def to_frame(self, n: int = 201) -> pd.DataFrame:
        """Return a table of ``n`` evenly spaced types: ``eps``, ``quantity``, ``payment``, ``rent``."""
        import pandas as pd

        eps = np.linspace(self.contract.lo, self.contract.hi, checks.count(n, "n"))
        columns = {"quantity": self.quantity(eps), "payment": self.payment(eps), "rent": self.rent(eps)}
        return pd.DataFrame({"eps": eps, **columns})

    def plot(self, kind: str = "menu", *, discrete: ScreeningContract | None = None) -> Figure:
        """Draw the menu against the types, or how fast the menus of grids approach it.

        Parameters
        ----------
        kind : {"menu", "rents", "convergence"}
            Quantities and payments; rents beside virtual and true cost; or errors of the value and of the
            payments of grid menus, against their number of types.
        discrete : ScreeningContract, optional
            A contract such as ``menu.contract.discretize(10)``, whose own menu is drawn over it as markers.
        """
        from mechopt.formulations.screening import figures

        return figures.plot_continuous(self, kind, discrete=discrete)

    @property
    def _kinks(self) -> FloatArray:
        ends = [end for pool in self.pools for end in pool[:2]]
        return np.unique([self.contract.lo, *ends, self.cutoff, self.contract.hi])

    @property
    def _edges(self) -> FloatArray:
        """Ends of the first panels: where the formula changes, and a coarse grid that knows the types."""
        return np.union1d(self._kinks, self.contract._scan.coarse)

    def _quantity(self, eps: FloatArray) -> FloatArray:
        quantity, scan = np.array(self.contract._formula(eps)), self.contract._scan
        # A density that is infinite at hi lifts the formula there, behind the last node: a pool of no width.
        np.minimum(quantity, scan.target[-1], out=quantity, where=eps > scan.nodes[-1])
        for start, stop, level in self.pools:
            # Not only inside: where the density jumps at an end, rounding must not let a type slip through.
            np.maximum(quantity, level, out=quantity, where=eps <= stop)
            np.minimum(quantity, level, out=quantity, where=eps >= start)
        return np.where(eps <= self.cutoff, quantity, 0.0)

    def _rents(self, left: FloatArray, right: FloatArray) -> FloatArray:
        quantity = self._quantity(_points(left, right))
        return np.asarray((self.contract.unit_cost * (right - left) * (quantity @ _WEIGHTS))[:, None])

    def _expectations(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Integrate surplus, cost, rent and quantity over the types in each panel."""
        contract, nodes = self.contract, _points(left, right)
        weights = _expectation_weights(contract._law, left, right, nodes)
        quantity = self._quantity(nodes)
        amount = nodes * quantity
        cost = contract.unit_cost * np.sum(weights * amount, axis=1)
        gain = np.sum(weights * contract.gain(amount), axis=1)
        # E[u] = c ∫ q F by parts: a record from type ε is paid as rent to all types below.
        below = contract._law.cdf(nodes)
        rent = contract.unit_cost * (right - left) * ((quantity * below) @ _WEIGHTS)
        return np.stack((gain - cost, cost, rent, np.sum(weights * quantity, axis=1)), axis=1)

    @property
    def _shared(self) -> tuple[Pool, ...]:
        """Pools, and the excluded types as one more."""
        hi = self.contract.hi
        return self.pools + ((Pool(self.cutoff, hi, 0.0),) if self.cutoff < hi else ())

    @cached_property
    def _marginals(self) -> list[_Tail]:
        return [self.contract._marginal_tail(*pool) for pool in self._shared]


# ------------------------------------------------------------ the mechanism


class _Scan(NamedTuple):
    """The formula on a fine grid; arrays of shape (n_nodes,), the first node is lo."""

    nodes: FloatArray
    share: FloatArray  # probability of the node's cell
    hazard: FloatArray
    target: FloatArray  # the formula's quantity
    coarse: FloatArray  # every so many cells' ends, lo and hi among them


@dataclass(frozen=True, eq=False)
class ContinuousContract:
    r"""Screening contract for privacy levels that are distributed continuously.

    .. math:: \max_{q, \gamma} \; E[G(\varepsilon q(\varepsilon)) - \gamma(\varepsilon)]
              \quad \text{s.t. IC, IR, } q \ge 0

    A holder with privacy level ε bears the cost ``unit_cost * ε * q`` for ``q`` records. The demander knows
    only the distribution of ε. `ScreeningContract` is the same for finitely many types.

    Parameters
    ----------
    dist : frozen continuous distribution of scipy.stats
        Distribution of privacy levels before truncation to [lo, hi]; ``scipy.stats.Mixture`` and other
        objects with ``pdf``, ``cdf`` and ``ppf`` (or ``icdf``) serve too. The density must be positive inside
        (lo, hi); at the ends it may be 0 or infinite.
    lo, hi : float
        Smallest and largest privacy level (nats), 0 < lo < hi.
    gain : ConcaveFunction
        The demander's gain from ``eps * q``, in utility. Kinks are allowed: quantities then jump where the
        virtual ratio passes a slope, and between jumps ``eps * q``, not ``q``, is constant.
    unit_cost : float
        A holder's cost per record and unit of privacy level, in utility, > 0.

    Raises
    ------
    InvalidInput
        If an argument breaks its rule; the message names it.

    References
    ----------
    Contract paper, section III; equations (22)-(31), with the ironing that the paper leaves out.

    Examples
    --------
    >>> import scipy.stats, mechopt as mo
    >>> contract = mo.ContinuousContract(scipy.stats.uniform(0.01, 0.2), lo=0.01, hi=0.21)
    >>> menu = contract.solve()
    >>> round(menu.objective, 6), menu.quantity([0.01, 0.11]).round(3).tolist(), menu.regular
    (369.789343, [9950.0, 471.645], True)
    """

    dist: Any
    lo: float
    hi: float
    gain: ConcaveFunction = field(default_factory=lambda: LogGain(weight=100.0, scale=2.0))
    unit_cost: float = 1.0
    _law: _Law = field(init=False, repr=False)
    _cells: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("lo", "hi", "unit_cost"):
            object.__setattr__(self, name, checks.positive(getattr(self, name), name))
        if not self.lo < self.hi:
            raise InvalidInput(f"hi = {self.hi:g} must be > lo = {self.lo:g}")
        if not isinstance(self.gain, ConcaveFunction):
            raise InvalidInput(
                f"gain must be a ConcaveFunction such as mo.LogGain(weight=100, scale=2), got {self.gain!r}"
            )
        _check_frozen(self.dist)
        object.__setattr__(self, "_law", _Law(self.dist, self.lo, self.hi))
        object.__setattr__(self, "_cells", _grid(self._law, self.lo, self.hi))
        _check_density(self._law, self._cells)

    # ------------------------------------------------------------------ types

    def pdf(self, eps: ArrayLike) -> FloatArray:
        """Density of types on [lo, hi], per nat; shape of ``eps``."""
        return self._law.pdf(self._levels(eps))[()]

    def cdf(self, eps: ArrayLike) -> FloatArray:
        """Probability of a type no higher than ``eps``; 0 at lo, 1 at hi; shape of ``eps``."""
        return self._law.cdf(self._levels(eps))[()]

    def ppf(self, share: ArrayLike) -> FloatArray:
        """Privacy level (nats) below which a share in [0, 1] of all types lies; shape of ``share``."""
        shares = np.asarray(share, dtype=np.float64)
        if not np.all((shares >= 0) & (shares <= 1)):
            raise InvalidInput("share must lie in [0, 1]")
        return self._law.ppf(shares)[()]

    def virtual_type(self, eps: ArrayLike) -> FloatArray:
        r"""Privacy level plus the rent that it forces on all lower types.

        .. math:: \varphi = \varepsilon + F(\varepsilon) / f(\varepsilon)

        Parameters
        ----------
        eps : array_like
            Privacy levels (nats) in [lo, hi], any shape.

        Returns
        -------
        ndarray, shape of ``eps``
            Virtual types (nats), >= ``eps``; ``inf`` where the density vanishes at ``hi``.

        Examples
        --------
        >>> import scipy.stats
        >>> contract = ContinuousContract(scipy.stats.uniform(0.1, 0.9), lo=0.1, hi=1.0)
        >>> contract.virtual_type([0.1, 0.5]).round(12).tolist()
        [0.1, 0.9]
        """
        levels = self._levels(eps)
        return np.asarray(levels + self._law.hazard(levels))[()]

    def virtual_ratio(self, eps: ArrayLike) -> FloatArray:
        """Virtual type over privacy level, s = φ / ε >= 1; shape of ``eps``.

        A ratio that never falls suffices for the formula to hold, whatever the gain.
        """
        levels = self._levels(eps)
        return self._ratio(levels)[()]

    def formula_quantity(self, eps: ArrayLike) -> FloatArray:
        r"""Compute the quantity at which the marginal gain meets the virtual cost, clipped at 0.

        .. math:: G'(\varepsilon q) = c \varphi / \varepsilon, \qquad
           \text{log gain: } q = \frac{\omega}{c \varphi} - \frac{1}{\alpha \varepsilon}

        Parameters
        ----------
        eps : array_like
            Privacy levels (nats) in [lo, hi], any shape.

        Returns
        -------
        ndarray, shape of ``eps``
            Quantities (records), >= 0; ``inf`` if the gain outgrows the cost. Optimal only if they never
            rise; see `closed_form`.

        References
        ----------
        Contract paper, eq. (29), for any concave gain.
        """
        return self._formula(self._levels(eps))[()]

    @property
    def first_best(self) -> float:
        """Expected utility of the demander per holder if she could observe types.

        Every type then delivers the same ``eps * q``, at cost.
        """
        amount = float(self.gain.inverse_derivative(self.unit_cost))
        if not np.isfinite(amount):
            raise self._unbounded()
        return float(self.gain(amount)) - self.unit_cost * amount

    # ------------------------------------------------------------------ answers

    def closed_form(self) -> ContinuousForm:
        """Test whether the formula is the optimal menu, on the quantities themselves.

        They are compared on a grid of some five thousand types, denser towards both ends and where most
        types are; rises of less than one part in 1e9 do not count.

        Returns
        -------
        ContinuousForm
            ``valid``, the ``reason`` and a ``witness`` if it is not.

        Examples
        --------
        >>> import scipy.stats
        >>> dist = scipy.stats.beta(0.5, 0.5, loc=0.1, scale=0.9)
        >>> form = ContinuousContract(dist, lo=0.1, hi=1.0).closed_form()
        >>> form.valid, form.reason_code
        (False, 'non_monotone')
        """
        scan = self._scan
        if not np.isfinite(scan.target).all():
            return ContinuousForm(self, False, "unbounded", str(self._unbounded()), None)
        rise = _rise(scan.target)
        if np.any(rise > self._flat):
            high = int(np.argmax(rise))
            low = int(np.argmin(scan.target[: high + 1]))
            witness = float(scan.nodes[low]), float(scan.nodes[high])
            reason = (
                f"the formula's quantity rises from {scan.target[low]:.6g} (type {witness[0]:.6g}) to "
                f"{scan.target[high]:.6g} (type {witness[1]:.6g}), so the menu is not incentive compatible: "
                "types must be pooled, which solve() does"
            )
            return ContinuousForm(self, False, "non_monotone", reason, witness)
        if scan.target[-1] == 0:
            cutoff = scan.nodes[int(np.argmax(scan.target == 0))]
            reason = f"the formula is clipped at 0 from about type {cutoff:.6g} on: these get nothing"
            return ContinuousForm(self, True, "negative", reason, None)
        return ContinuousForm(self, True, "", "", None)

    def solve(self) -> ContinuousMenu:
        """Design the optimal menu.

        Returns
        -------
        ContinuousMenu
            Quantities, payments and rents as functions of the type, value, pools and cutoff.

        Raises
        ------
        Unbounded
            If the gain grows without end faster than the cost.
        SolverFailure
            If a pool cannot be located, or the integrals do not converge.

        Examples
        --------
        >>> import scipy.stats
        >>> dist = scipy.stats.beta(0.5, 0.5, loc=0.1, scale=0.9)
        >>> menu = ContinuousContract(dist, lo=0.1, hi=1.0).solve()
        >>> [(round(a, 6), round(b, 6), round(q, 4)) for a, b, q in menu.pools]
        [(0.666567, 1.0, 67.5939)]
        """
        scan = self._scan
        if not np.isfinite(self.gain.inverse_derivative(self.unit_cost)):
            raise self._unbounded()
        cost = self.unit_cost * scan.share * (scan.nodes + scan.hazard)
        quantity, pools, _ = exact.allocate(scan.nodes, scan.share, self.gain, cost)
        shared = [
            self._polish(start, stop, float(quantity[start]))
            for start, stop in _joined(pools, quantity)
            if np.any(_rise(scan.target[start:stop]) > self._flat[start:stop])
        ]
        # Types may be pooled at 0, which is no pool to speak of, but not the formula either.
        regular = not np.any(_rise(scan.target) > self._flat)
        return ContinuousMenu(self, self._cutoff(quantity, shared), tuple(shared), regular)

    def plot(self, kind: str = "menu", *, discrete: ScreeningContract | None = None) -> Figure:
        """Draw the optimal menu; see `ContinuousMenu.plot`."""
        return self.solve().plot(kind, discrete=discrete)

    def _cutoff(self, quantity: FloatArray, pools: list[Pool]) -> float:
        """Where the quantities reach 0, given those on the grid."""
        nodes = self._scan.nodes
        served = int(np.count_nonzero(quantity))
        if served == nodes.size:
            return self.hi
        if served == 0:
            return self.lo
        start = max([float(nodes[served - 1]), *(pool.stop for pool in pools)])
        empty = (self._scan.target == 0) & (nodes > start)
        return self._crossing(0.0, start, float(nodes[empty][0])) if empty.any() else start

    def _polish(self, first: int, stop: int, guess: float) -> Pool:
        """Find ends and quantity of the pool that the grid shows at nodes first..stop-1 with this quantity.

        For a given quantity the ends are where the formula crosses it, and the sum of D over the interval
        falls with the quantity: one root.
        """
        nodes, target = self._scan.nodes, self._scan.target
        above = target[first:stop] > (1 + _RISE) * guess
        below = target[first:stop] < (1 - _RISE) * guess
        # The formula dips below the pool's quantity behind its start, and lies above it before its end.
        n_dip = int(np.argmax(above))
        n_hump = int(np.argmax(below[::-1]))
        if n_dip == 0 or n_hump == 0 or not (above.any() and below.any()):
            raise self._lost(nodes[first], nodes[stop - 1])
        dip = first + int(np.argmin(target[first : first + n_dip]))
        hump = stop - n_hump + int(np.argmax(target[stop - n_hump : stop]))

        def ends(level: float) -> tuple[float, float]:
            left = np.flatnonzero(target[:dip] > level)
            right = np.flatnonzero(target[hump + 1 :] < level)
            start, end = self.lo, self.hi
            if left.size:
                start = self._crossing(level, float(nodes[left[-1]]), float(nodes[left[-1] + 1]))
            if right.size:
                j = hump + 1 + right[0]
                end = self._crossing(level, float(nodes[j - 1]), float(nodes[j]))
            return start, end

        least = self._least_cost
        # Panels that suit one quantity suit all; only the ends move.
        about = [float(nodes[first]), float(nodes[stop - 1])]
        leaves = _panels(self._marginal(guess), np.union1d(about, self._inside(*about)), least)[0]

        def net(level: float) -> float:
            start, end = ends(level)
            edges = np.union1d([start, end], leaves[(leaves > start) & (leaves < end)])
            return float(_panels(self._marginal(level), edges, least)[2].sum())

        lowest, highest = float(target[dip]), float(target[hump])
        width = 1e-5 * guess
        while True:
            low, high = max(guess - width, lowest), min(guess + width, highest)
            at_low, at_high = net(low), net(high)
            if at_low >= 0 >= at_high:
                break
            if low == lowest and high == highest:
                raise self._lost(nodes[first], nodes[stop - 1])
            width *= 8
        level = float(brentq(net, low, high, xtol=_EPS * guess, rtol=4 * _EPS))
        return Pool(*ends(level), level)

    def _crossing(self, level: float, left: float, right: float) -> float:
        """Type in [left, right] at which the formula falls through the given quantity."""

        def excess(eps: float) -> float:
            slope = float(self.gain.derivative(eps * level)) / self.unit_cost
            return slope - float(self._ratio(np.asarray(eps)))

        if excess(left) <= 0:
            return left
        if excess(right) >= 0:
            return right
        return float(brentq(excess, left, right, xtol=_EPS * self.lo, rtol=4 * _EPS))

    def _marginal(self, level: float) -> Rule:
        """Rule for the integral of D at one quantity for all, in two parts: gain, and minus cost."""

        def rule(left: FloatArray, right: FloatArray) -> FloatArray:
            nodes = _points(left, right)
            weights = _expectation_weights(self._law, left, right, nodes)
            gain = np.sum(weights * nodes * self.gain.derivative(nodes * level), axis=1)
            # (ε F)' = ε f + F, so the cost needs no quadrature.
            cost = (right - left) * self._law.cdf(right) + left * self._law.prob(left, right)
            return np.stack((gain, -self.unit_cost * cost), axis=1)

        return rule

    def _marginal_tail(self, start: float, stop: float, level: float) -> _Tail:
        edges = np.union1d([start, stop], self._inside(start, stop))
        return _Tail(self._marginal(level), edges, self._least_cost)

    @property
    def _least_cost(self) -> float:
        """Cost of a record that counts: the probabilities of rare types have few digits."""
        return 0.01 * self.unit_cost * self.hi

    def _inside(self, start: float, stop: float) -> FloatArray:
        coarse = self._scan.coarse
        return coarse[(coarse > start) & (coarse < stop)]

    def _formula(self, eps: FloatArray) -> FloatArray:
        return np.asarray(self.gain.inverse_derivative(self.unit_cost * self._ratio(eps))) / eps

    def _ratio(self, eps: FloatArray) -> FloatArray:
        with np.errstate(over="ignore"):
            return np.asarray(1 + self._law.hazard(eps) / eps)

    @cached_property
    def _scan(self) -> _Scan:
        edges = self._cells
        nodes = np.append(self.lo, (edges[1:] + edges[:-1]) / 2)
        hazard = np.minimum(self._law.hazard(nodes), 1e250)
        share = np.append(0.0, self._law.prob(edges[:-1], edges[1:]))
        coarse = np.union1d(edges[::32], edges[-1:])
        return _Scan(nodes, np.maximum(share, _TINY), hazard, self._formula(nodes), coarse)

    @cached_property
    def _flat(self) -> FloatArray:
        """Rises of the formula that count as none, at the nodes of the scan."""
        nodes, target = self._scan.nodes, self._scan.target
        return _RISE * (target + self.gain.natural_scale / nodes)

    def _levels(self, eps: ArrayLike) -> FloatArray:
        """Privacy levels in [lo, hi]; a rounding error beyond an end is moved to the end."""
        try:
            levels = np.asarray(eps, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"eps must be numbers, got {eps!r}: {error}") from None
        margin = 1e-12 * self.hi
        outside = ~((levels >= self.lo - margin) & (levels <= self.hi + margin))
        if outside.any():
            raise InvalidInput(
                f"eps = {float(levels[outside][0])} lies outside [{self.lo:g}, {self.hi:g}]; "
                "give privacy levels of existing types"
            )
        return np.clip(levels, self.lo, self.hi)

    def _unbounded(self) -> Unbounded:
        return Unbounded(
            f"types near lo = {self.lo:g} want unlimited data, since the gain grows faster than the cost: "
            "lower the slope of the gain at infinity, or raise unit_cost"
        )

    def _lost(self, start: float, stop: float) -> SolverFailure:
        return SolverFailure(
            f"types between about {start:.6g} and {stop:.6g} must be pooled, but the ends of the pool could "
            "not be located; solve a fine grid instead, with discretize(100_000).solve()"
        )

    # ------------------------------------------------------------------ grids

    def discretize(self, n_types: int, grid: Grid = "right") -> ScreeningContract:
        """Replace the types by finitely many, each with the probability of its cell.

        Parameters
        ----------
        n_types : int
            Number of cells of equal width, >= 1.
        grid : {"right", "paper"}
            Whether a cell's type is its right end or, as in the paper, its left end. Without ``hi`` among the
            types, the menu leaves out the holders of the last cell; see `realised_value`.

        Returns
        -------
        ScreeningContract
            Same gain and cost. Its optimal value approaches this contract's like 1 / n_types.

        Raises
        ------
        InvalidInput
            If an argument breaks its rule, or a cell has probability 0.

        Examples
        --------
        >>> import scipy.stats
        >>> contract = ContinuousContract(scipy.stats.uniform(0.01, 0.2), lo=0.01, hi=0.21)
        >>> contract.discretize(4).types.round(3).tolist()
        [0.06, 0.11, 0.16, 0.21]
        >>> contract.discretize(4, grid="paper").types.round(3).tolist()
        [0.01, 0.06, 0.11, 0.16]
        """
        if grid not in get_args(Grid):
            raise InvalidInput(f"grid must be 'right' or 'paper', got {grid!r}")
        edges, probs = self._equal_cells(n_types)
        types = edges[1:] if grid == "right" else edges[:-1]
        return ScreeningContract(
            types=types, probs=probs / probs.sum(), gain=self.gain, unit_cost=self.unit_cost
        )

    def _equal_cells(self, n_types: int) -> tuple[FloatArray, FloatArray]:
        """Ends of cells of equal width, shape (n_types + 1,), and their probabilities, all > 0."""
        n_types = checks.count(n_types, "n_types")
        edges = np.linspace(self.lo, self.hi, n_types + 1)
        probs = self._law.prob(edges[:-1], edges[1:])
        if not probs.min() > 0:
            k = int(np.argmin(probs))
            raise InvalidInput(
                f"n_types = {n_types} makes cell {k}, [{edges[k]:g}, {edges[k + 1]:g}], which has no "
                "probability to machine precision; take fewer types, or narrow [lo, hi]"
            )
        return edges, probs

    def cell_nodes(self, n_types: int, n_nodes: int = 8) -> tuple[FloatArray, FloatArray]:
        r"""Represent the types in each cell of a grid by a few, for expectations over the cell.

        .. math:: E[g(\varepsilon) \mid \delta_{k-1} < \varepsilon \le \delta_k]
           \approx \sum_j w_{kj} \, g(\varepsilon_{kj})

        This is the Gauss rule of the types' own distribution: exact for polynomials up to the degree
        2 n_nodes - 1, whatever the density. All weights are positive, so that the mean of a concave gain is
        concave in the quantity, and can be declared in a program.

        Parameters
        ----------
        n_types : int
            Number of cells of equal width, >= 1, as for `discretize`.
        n_nodes : int
            Types in each cell, >= 1.

        Returns
        -------
        nodes : ndarray, shape (n_types, n_nodes)
            Privacy levels (nats), increasing, inside their cell.
        weights : ndarray, shape (n_types, n_nodes)
            Their probabilities given the cell, > 0; rows sum to 1.

        Raises
        ------
        InvalidInput
            If an argument is not a whole number >= 1, or a cell has probability 0.

        Notes
        -----
        With the grid of `discretize`, a menu that is incentive compatible for the grid's types is worth
        the sum over cells of ``probs[k] * (weights[k] @ gain(nodes[k] * quantity[k]) - payment[k])`` to the
        demander, since all types of a cell choose the contract of its right end. That is its
        `realised_value`, up to the rule's error.

        Examples
        --------
        >>> import scipy.stats
        >>> contract = ContinuousContract(scipy.stats.uniform(0.2, 0.6), lo=0.2, hi=0.8)
        >>> nodes, weights = contract.cell_nodes(3, n_nodes=2)
        >>> nodes.round(3).tolist(), weights.round(3).tolist()
        ([[0.242, 0.358], [0.442, 0.558], [0.642, 0.758]], [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
        """
        n_nodes = checks.count(n_nodes, "n_nodes")
        edges, _ = self._equal_cells(n_types)
        # Panels that follow the distribution, cut at the ends of the cells, stand for the types.
        ends = np.union1d(edges, self._cells)
        points = _points(ends[:-1], ends[1:])
        masses = _expectation_weights(self._law, ends[:-1], ends[1:], points)
        first = np.searchsorted(ends, edges[:-1])
        count = np.diff(np.append(first, ends.size - 1))
        middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
        x = (points - np.repeat(middle, count)[:, None]) / np.repeat(half, count)[:, None]

        def mean(values: FloatArray) -> FloatArray:
            return np.asarray(np.add.reduceat((masses * values).sum(axis=1), first) / share)

        def at_points(cells: FloatArray) -> FloatArray:
            return np.repeat(cells, count)[:, None]

        share = np.ones(first.size)
        share = mean(np.ones_like(x))
        # Orthonormal polynomials by their recurrence (Stieltjes); its coefficients make a symmetric matrix,
        # with the nodes as eigenvalues (Golub and Welsch).
        jacobi = np.zeros((first.size, n_nodes, n_nodes))
        before, now, coupling = np.zeros_like(x), np.ones_like(x), np.zeros(first.size)
        for j in range(n_nodes):
            jacobi[:, j, j] = centre = mean(x * now * now)
            before, now = now, (x - at_points(centre)) * now - at_points(coupling) * before
            if j + 1 < n_nodes:
                coupling = np.sqrt(np.maximum(mean(now * now), _TINY))
                jacobi[:, j, j + 1] = jacobi[:, j + 1, j] = coupling
                now = now / at_points(coupling)
        roots, vectors = np.linalg.eigh(jacobi)
        nodes = np.clip(middle[:, None] + half[:, None] * roots, edges[:-1, None], edges[1:, None])
        return nodes, np.asarray(vectors[:, 0, :] ** 2)

    def program(
        self, n_types: int, form: Form = "reduced", *, n_nodes: int = 8, **extensions: Any
    ) -> Program:
        r"""Declare the best menu of a grid for the continuum of types itself.

        .. math:: \max \sum_k p_k \bigl( E[G(\varepsilon q_k) \mid \delta_{k-1} < \varepsilon \le \delta_k]
                  - \gamma_k \bigr) \quad \text{s.t. IC, IR of the grid's types}

        The types of a cell all choose the contract of its right end, so that the gain from it is an average
        over the cell. The optimum is below the value of the continuous menu, and approaches it as the square
        of the cell's width; a menu that takes each cell for its right end is worth less.

        Parameters
        ----------
        n_types : int
            Number of cells, and of contracts, >= 1.
        form, **extensions
            As for `ScreeningContract.program`.
        n_nodes : int
            Privacy levels that stand for those of a cell; see `cell_nodes`.

        Returns
        -------
        Program
            As `ScreeningContract.program` of ``discretize(n_types)``, whose audit and repair apply.

        Examples
        --------
        >>> import scipy.stats, mechopt as mo
        >>> types = mo.ContinuousContract(scipy.stats.uniform(0.01, 0.2), 0.01, 0.21)
        >>> round(types.program(5).solve("clarabel").objective, 3), round(types.solve().objective, 3)
        (366.539, 369.789)
        """
        return declare(self.discretize(n_types), form, cells=self.cell_nodes(n_types, n_nodes), **extensions)

    def realised_value(self, menu: Any) -> float:
        """Compute what the demander gets if she offers these holders a finite menu.

        Every holder takes the contract that it likes best, or none; between equals, the larger quantity. In a
        menu made for a grid of types that is the contract of the next higher type on the grid.

        Parameters
        ----------
        menu : mapping with ``quantity`` and ``payment``, each of shape (n_contracts,)
            A solution, a closed form, or a dict.

        Returns
        -------
        float
            Expected utility per holder; at most the `objective` of `solve`.

        Raises
        ------
        InvalidInput
            If the menu is not made of such arrays.

        Examples
        --------
        >>> import scipy.stats
        >>> contract = ContinuousContract(scipy.stats.uniform(0.01, 0.2), lo=0.01, hi=0.21)
        >>> for grid in ("paper", "right"):
        ...     print(grid, round(contract.realised_value(contract.discretize(5, grid).solve()), 2))
        paper 289.87
        right 366.54
        """
        quantity, payment = _read(menu)
        # A hair of extra pay for staying in: the last type served is exactly indifferent.
        hair = 1e-12 * float(np.abs(payment).max())
        line, starts = _envelope(np.append(quantity, 0.0), np.append(payment + hair, 0.0), self.unit_cost)
        quantity, payment = np.append(quantity, 0.0)[line], np.append(payment, 0.0)[line]

        def rule(left: FloatArray, right: FloatArray) -> FloatArray:
            nodes = _points(left, right)
            weights = _expectation_weights(self._law, left, right, nodes)
            taken = np.searchsorted(starts, nodes, side="right") - 1
            value = self.gain(nodes * quantity[taken]) - payment[taken]
            return np.asarray(np.sum(weights * value, axis=1)[:, None])

        inner = starts[(starts > self.lo) & (starts < self.hi)]
        return float(_panels(rule, np.union1d(inner, self._scan.coarse))[2].sum())


# ------------------------------------------------------------ helpers


def _grid(law: _Law, lo: float, hi: float) -> FloatArray:
    """Divide [lo, hi] into cells: fine everywhere, finer towards both ends, and where most types are."""
    near = (hi - lo) * 2.0 ** -np.arange(0, 40, 0.25)
    edges = np.unique(
        np.concatenate(
            (np.linspace(lo, hi, _CELLS + 1), np.geomspace(lo, hi, _CELLS // 4), lo + near, hi - near)
        )
    )
    edges = np.clip(edges, lo, hi)
    edges = np.unique(np.append(edges[np.append(True, np.diff(edges) > 8 * _EPS * hi)], hi))
    for _ in range(60):
        heavy = law.prob(edges[:-1], edges[1:]) > 4 / _CELLS
        heavy &= np.diff(edges) > 16 * _EPS * hi
        if not heavy.any():
            break
        edges = np.union1d(edges, ((edges[:-1] + edges[1:]) / 2)[heavy])
    return edges


def _rise(target: FloatArray) -> FloatArray:
    """How far each entry lies above the smallest before it."""
    return np.asarray(target - np.minimum.accumulate(target))


def _joined(pools: IndexArray, quantity: FloatArray) -> list[tuple[int, int]]:
    """Pools on the grid, joined where only rounding keeps them apart."""
    joined: list[tuple[int, int]] = []
    for start, stop in pools.tolist():
        if joined and quantity[joined[-1][0]] - quantity[start] <= _RISE * quantity[start]:
            joined[-1] = joined[-1][0], stop
        else:
            joined.append((start, stop))
    return joined


def _check_frozen(dist: Any) -> None:
    rule = "dist must be a frozen continuous distribution such as scipy.stats.beta(2, 5)"
    if isinstance(dist, (type, stats.rv_continuous)):
        name = dist.__name__ if isinstance(dist, type) else type(dist).__name__
        raise InvalidInput(f"{rule}; {name} is not frozen yet: call it with its parameters")
    if isinstance(getattr(dist, "dist", dist), stats.rv_discrete):
        raise InvalidInput(f"{rule}; for discrete types use mo.ScreeningContract(types, probs)")


def _check_density(law: _Law, edges: FloatArray) -> None:
    """Check that the density is positive between the outermost edges, and integrates to the cdf."""
    share = law.prob(edges[:-1], edges[1:])
    if not np.all(share >= -64 * _EPS):
        k = int(np.argmin(share))
        raise InvalidInput(f"dist: its cdf falls or is nan between {edges[k]:.6g} and {edges[k + 1]:.6g}")
    # The outermost cells may hold an infinite density; they are too small to tell anything.
    edges, share = edges[1:-1], share[1:-1]
    nodes = _points(edges[:-1], edges[1:])[:, ::5]
    logs = law.log_density(nodes)
    if not np.all(logs > -np.inf):
        where = float(nodes[~(logs > -np.inf)][0])
        raise InvalidInput(
            f"dist: its pdf is 0 at {where:.6g}, inside (lo, hi), or not a number; choose "
            "lo and hi so that all types between are possible"
        )
    x, w = legendre.leggauss(4)
    nodes = edges[:-1, None] + np.diff(edges)[:, None] * (x + 1) / 2
    integral = np.diff(edges) * (law.pdf(nodes) @ w) / 2
    off = float(np.abs(np.cumsum(integral - share)).max())
    if not off < 1e-3:
        raise InvalidInput(
            f"dist: its pdf does not integrate to its cdf on [lo, hi] (they differ by {off:.3g}); correct one"
        )


def _read(menu: Any) -> tuple[FloatArray, FloatArray]:
    arrays = []
    for name in ("quantity", "payment"):
        try:
            value = menu[name] if hasattr(menu, "__getitem__") else getattr(menu, name)
            array = np.asarray(value, dtype=np.float64)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise InvalidInput(
                f"menu needs {name!r}, one number a contract; got {type(menu).__name__}"
            ) from None
        if array.ndim != 1 or not array.size or not np.all(np.isfinite(array)):
            raise InvalidInput(f"menu: {name} must be a one-dimensional array of finite numbers")
        arrays.append(array)
    if arrays[0].shape != arrays[1].shape:
        raise InvalidInput(f"menu has {arrays[0].size} quantities and {arrays[1].size} payments")
    return arrays[0], arrays[1]


def _envelope(quantity: FloatArray, payment: FloatArray, unit_cost: float) -> tuple[IndexArray, FloatArray]:
    """Contracts that some type ε > 0 likes best, from low types to high, and where each begins to be best."""
    order = np.lexsort((payment, -quantity)).tolist()
    heights, slopes = payment.tolist(), (-unit_cost * quantity).tolist()
    best: list[int] = []
    starts: list[float] = []
    for j in order:
        start = -np.inf
        while best:
            i = best[-1]
            if slopes[j] > slopes[i]:
                start = (heights[i] - heights[j]) / (slopes[j] - slopes[i])
                if start > starts[-1]:
                    break
            start = -np.inf
            best.pop()
            starts.pop()
        best.append(j)
        starts.append(start)
    return np.array(best, dtype=np.intp), np.array(starts)
