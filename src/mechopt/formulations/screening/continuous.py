r"""The screening contract for a continuum of types: formula, ironing, and what a grid of types loses.

With the density f and the distribution function F of the types, and x = ε q, one more record from type ε
changes the demander's expected utility by

.. math:: D(\varepsilon, q) = \varepsilon G'(\varepsilon q) f - c (\varepsilon f + F)

Where D = 0 gives quantities that fall with the type, they are optimal (eq. 29). Where they rise, types on an
interval [a, b] must share one contract ("ironing"): the integral of D over it is 0, and D is 0 at its ends.
A fine grid tells how many such intervals there are and where; root finding then gives their ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from mechopt.formulations import checks
from mechopt.formulations.functions import ConcaveFunction, LogGain
from mechopt.formulations.screening import exact
from mechopt.formulations.screening.continuous_menu import ContinuousForm, ContinuousMenu, Pool
from mechopt.formulations.screening.distribution import (
    TINY,
    TypeLaw,
    check_density,
    check_frozen,
    search_grid,
)
from mechopt.formulations.screening.model import ScreeningContract
from mechopt.formulations.screening.program import Form, declare
from mechopt.formulations.screening.quadrature import (
    Rule,
    TailIntegral,
    expectation_weights,
    panel_nodes,
    panels,
)
from mechopt.solvers.errors import InvalidInput, SolverFailure, Unbounded
from mechopt.solvers.program import Program

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ContinuousContract", "ContinuousForm", "ContinuousMenu", "Grid", "Pool"]

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.intp]
_EPS = float(np.finfo(np.float64).eps)

Grid = Literal["right", "paper"]
"""Types at the right ends of equal cells, or at the left ends as in the paper, which leaves out ``hi``."""

# A formula that rises by less than this, relatively, is taken as flat: pooling would change nothing.
_RISE = 1e-9


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
    _law: TypeLaw = field(init=False, repr=False)
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
        check_frozen(self.dist)
        object.__setattr__(self, "_law", TypeLaw(self.dist, self.lo, self.hi))
        object.__setattr__(self, "_cells", search_grid(self._law, self.lo, self.hi))
        check_density(self._law, self._cells)

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
        leaves = panels(self._marginal(guess), np.union1d(about, self._inside(*about)), least)[0]

        def net(level: float) -> float:
            start, end = ends(level)
            edges = np.union1d([start, end], leaves[(leaves > start) & (leaves < end)])
            return float(panels(self._marginal(level), edges, least)[2].sum())

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
            nodes = panel_nodes(left, right)
            weights = expectation_weights(self._law, left, right, nodes)
            gain = np.sum(weights * nodes * self.gain.derivative(nodes * level), axis=1)
            # (ε F)' = ε f + F, so the cost needs no quadrature.
            cost = (right - left) * self._law.cdf(right) + left * self._law.prob(left, right)
            return np.stack((gain, -self.unit_cost * cost), axis=1)

        return rule

    def _marginal_tail(self, start: float, stop: float, level: float) -> TailIntegral:
        edges = np.union1d([start, stop], self._inside(start, stop))
        return TailIntegral(self._marginal(level), edges, self._least_cost)

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
        return _Scan(nodes, np.maximum(share, TINY), hazard, self._formula(nodes), coarse)

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
        points = panel_nodes(ends[:-1], ends[1:])
        masses = expectation_weights(self._law, ends[:-1], ends[1:], points)
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
                coupling = np.sqrt(np.maximum(mean(now * now), TINY))
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
            nodes = panel_nodes(left, right)
            weights = expectation_weights(self._law, left, right, nodes)
            taken = np.searchsorted(starts, nodes, side="right") - 1
            value = self.gain(nodes * quantity[taken]) - payment[taken]
            return np.asarray(np.sum(weights * value, axis=1)[:, None])

        inner = starts[(starts > self.lo) & (starts < self.hi)]
        return float(panels(rule, np.union1d(inner, self._scan.coarse))[2].sum())


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
