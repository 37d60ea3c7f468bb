"""Tangent planes of convex cones and of evaluated functions, for the outer approximation.

Every cone of the canonical form, and every evaluated hypograph, has a family of supporting inequalities with
one parameter (for matrices: a direction). Which one separates a given point best is known in closed form, so
that all cones of a kind are dealt with at once.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from mechopt.solvers.terms import Hypograph

Array = NDArray[np.float64]
Index = NDArray[np.int64]

STEEPEST = 25.0
"""Tangents of the exponential are taken at exponents within ±25: e^25 is past what a row resolves."""


@dataclass
class Cuts:
    """Inequalities ``weights . s[index] >= level`` on the entries s of the cones, one a row."""

    index: Index
    weights: Array
    level: Array

    @classmethod
    def on(cls, index: Index, weights: Array, level: Array | float = 0.0, largest: float = 1.0) -> Cuts:
        """Scale weights down to ``largest``, so that rows of different slopes are comparable."""
        size = np.maximum(np.max(np.abs(weights), axis=1, initial=0.0), 1e-300)
        shrink = np.minimum(largest / size, 1.0)
        return cls(index, weights * shrink[:, None], np.broadcast_to(level, len(index)) * shrink)

    def matrix(self, entries: int) -> Any:
        """Weights as a sparse matrix over all entries."""
        count, width = self.weights.shape
        starts = np.arange(0, count * width + 1, width)
        return sp.csr_matrix((self.weights.ravel(), self.index.ravel(), starts), shape=(count, entries))


class Surface(abc.ABC):
    """Cones of one kind, as rows of indices into the entries; knows their tangents.

    Subclasses are vectorised over the cones: no method loops over them.
    """

    def __init__(self, index: Index) -> None:
        self.index = index

    def start(self) -> list[Cuts]:
        """Cuts that hold before anything is known."""
        return []

    @abc.abstractmethod
    def separate(self, s: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """Worst relative violation at entries ``s``, shape (cones, width), and cuts where it is too much."""

    def separate_ray(self, s: Array, at: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """Do so for a direction: a cone's cuts pass through zero, and so treat both alike."""
        return self.separate(s, tolerance)


class Exponential(Surface):
    """``z >= y e^(x/y)``, by ``x + (1 - r) y <= e^-r z`` for every r; tight at ``r = x/y = log(z/y)``."""

    def cuts(self, which: Index, r: Array) -> Cuts:
        """Tangents at the exponents ``r``."""
        r = np.clip(r, -STEEPEST, STEEPEST)
        weights = np.stack([np.full_like(r, -1.0), r - 1.0, np.exp(-r)], axis=1)
        # Rows keep the accuracy of x, the logarithm, unless z is so small that its weight would drown it.
        weights /= np.maximum(1.0, np.exp(-r) / 1e6)[:, None]
        return Cuts(self.index[which], weights, np.zeros(len(r)))

    def start(self) -> list[Cuts]:
        """See `Surface.start`."""
        every = np.arange(len(self.index))
        signs = [Cuts.on(self.index[:, [column]], np.ones((len(every), 1))) for column in (1, 2)]
        return signs + [self.cuts(every, np.full(len(every), r)) for r in (-1.0, 0.0, 1.0, 2.0, 4.0)]

    def separate(self, s: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """See `Surface.separate`."""
        x, y, z = s.T
        tiny = 1e-12
        safe_y, safe_z = np.maximum(y, tiny), np.maximum(z, tiny)
        ratio = x / safe_y
        # The tangent at the height z, except where z is so low that one at x - y is nearer.
        r = np.maximum(np.log(safe_z / safe_y), ratio - 1.0)
        # On the face y = 0 only x <= 0 is left, which no single tangent says: go there by a factor at a time.
        flat = (y <= tiny) & (x > 0)
        r = np.where(flat, np.log(10.0 * safe_z / np.maximum(x, tiny)), r)
        r = np.clip(r, -STEEPEST, STEEPEST)
        gap = (x + (1.0 - r) * y - np.exp(-r) * z) / (1.0 + np.abs(x) + np.abs(y))
        which = np.flatnonzero(gap > tolerance)
        return float(np.max(gap, initial=0.0)), [self.cuts(which, r[which])] if which.size else []


class Power(Surface):
    """``x^a y^(1-a) >= |z|``, by ``a q^(a-1) x + (1-a) q^a y >= ±z`` for q > 0; tight at ``q = x/y``."""

    def __init__(self, index: Index, alpha: Array) -> None:
        super().__init__(index)
        self.alpha = alpha

    def cuts(self, which: Index, q: Array, sign: Array) -> Cuts:
        """Tangents at the ratios ``q``."""
        a = self.alpha[which]
        weights = np.stack([a * q ** (a - 1.0), (1.0 - a) * q**a, -sign], axis=1)
        # Near zero a power is steep. Scaling that away would leave its height to HiGHS's tolerance.
        return Cuts.on(self.index[which], weights, largest=1e3)

    def start(self) -> list[Cuts]:
        """See `Surface.start`."""
        every = np.arange(len(self.index))
        one = np.ones(len(every))
        cuts = [Cuts.on(self.index[:, [column]], one[:, None]) for column in (0, 1)]
        return cuts + [
            self.cuts(every, q * one, sign * one) for q in (0.1, 1.0, 10.0) for sign in (-1.0, 1.0)
        ]

    def separate(self, s: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """See `Surface.separate`."""
        x, y = np.maximum(s[:, :2], 0.0).T
        height, sign, a = np.abs(s[:, 2]), np.where(s[:, 2] < 0, -1.0, 1.0), self.alpha
        gap = (height - x**a * y ** (1.0 - a)) / (1.0 + height)
        which = np.flatnonzero(gap > tolerance)
        if not which.size:
            return float(np.max(gap, initial=0.0)), []
        x, y, height, a = x[which], y[which], height[which], a[which]
        tiny = 1e-12
        # A tangent at a vanishing x is vertical. Stay within a factor of ten of where the height is reached.
        low = 0.1 * (height / np.maximum(y, tiny)) ** (1.0 / a)
        high = 10.0 * (x / height) ** (1.0 / (1.0 - a))
        q = np.clip(x / np.maximum(y, tiny), low, np.maximum(low, np.maximum(high, tiny)))
        q = np.where((x <= tiny) & (y <= tiny), 1.0, np.clip(q, 1e-16, 1e16))
        return float(np.max(gap)), [self.cuts(which, q, sign[which])]


class Rotated(Surface):
    """``t z >= y^2``, by ``z - 2 r y + r^2 t >= 0`` for every r; tight at ``r = y/t``.

    A second-order cone ``|y| <= t`` becomes ``y_i^2 / t <= z_i`` and ``sum z_i <= t``: cuts in three
    dimensions add up to it, where cuts in the cone's own dimension would be needed in exponential number.
    """

    def __init__(self, index: Index, width: Array) -> None:
        super().__init__(index)
        self.width = width

    def cuts(self, which: Index, r: Array) -> Cuts:
        """Tangents at the slopes ``r``."""
        return Cuts.on(self.index[which], np.stack([r**2, -2.0 * r, np.ones_like(r)], axis=1))

    def start(self) -> list[Cuts]:
        """See `Surface.start`."""
        every = np.arange(len(self.index))
        slopes = (np.ones(len(every)), 1.0 / np.sqrt(self.width))
        return [self.cuts(every, sign * slope) for slope in slopes for sign in (-1.0, 1.0)]

    def separate(self, s: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """See `Surface.separate`."""
        t, y, z = s.T
        # At t = 0 every r beyond z / 2y cuts.
        r = np.where(
            t > 1e-12, y / np.maximum(t, 1e-12), np.sign(y) * (np.abs(z / np.where(y == 0, 1.0, y)) + 1.0)
        )
        r = np.clip(r, -1e4, 1e4)
        gap = (2.0 * r * y - r**2 * t - z) * self.width / (1.0 + np.abs(t)) / np.maximum(1.0, r**2)
        which = np.flatnonzero(gap > tolerance)
        return float(np.max(gap, initial=0.0)), [self.cuts(which, r[which])] if which.size else []


class Semidefinite(Surface):
    """Matrices of one order n, entries column by column, by ``v'Sv >= 0`` for every v."""

    def __init__(self, index: Index, order: int) -> None:
        super().__init__(index)
        self.order = order

    def cuts(self, which: Index, v: Array) -> Cuts:
        """Cuts at the directions ``v``, shape (cuts, order)."""
        return Cuts.on(self.index[which], (v[:, :, None] * v[:, None, :]).reshape(len(v), -1))

    def start(self) -> list[Cuts]:
        """See `Surface.start`."""
        # Directions of one or two entries: written with these alone, as n^2 columns a cut are far too many.
        n = self.order
        i, j = np.triu_indices(n, 1)
        diagonal = self.index[:, np.arange(n) * (n + 1)].reshape(-1, 1)
        squares = np.stack([i * (n + 1), i * n + j, j * n + i, j * (n + 1)], axis=1)
        minors = self.index[:, squares].reshape(-1, 4)
        return [
            Cuts.on(diagonal, np.ones(diagonal.shape)),
            *(Cuts.on(minors, np.tile([1.0, sign, sign, 1.0], (len(minors), 1))) for sign in (1.0, -1.0)),
        ]

    def separate(self, s: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """See `Surface.separate`."""
        matrices = s.reshape(-1, self.order, self.order)
        values, vectors = np.linalg.eigh((matrices + matrices.transpose(0, 2, 1)) / 2.0)
        gap = -values / (1.0 + np.max(np.abs(matrices), axis=(1, 2)))[:, None]
        which, column = np.nonzero(gap > tolerance)
        return float(np.max(gap, initial=0.0)), (
            [self.cuts(which, vectors[which, :, column])] if which.size else []
        )


class Evaluated(Surface):
    """The hypograph ``t <= f(x)``, by tangents of f; remembers them, to find out if f is not concave."""

    def __init__(self, index: Index, hypograph: Hypograph, name: str) -> None:
        super().__init__(index)
        self.hypograph, self.name = hypograph, name
        self.seen: list[tuple[Array, Array, Array]] = []

    def separate(self, s: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """See `Surface.separate`."""
        t, x = s.T
        x, value, slope = self._tangent(x)
        over = t - value - slope * (s[:, 1] - x)
        gap = over / (1.0 + np.abs(t) + np.abs(value))
        which = np.flatnonzero(gap > tolerance)
        self._remember(x, value, slope)
        return float(np.max(gap, initial=0.0)), [self._cuts(which, x, value, slope)] if which.size else []

    def seed(self, s: Array) -> list[Cuts]:
        """Tangents at a point where f need not have a value."""
        x = s[:, 1]
        value, slope = self._evaluate(x)
        which = np.flatnonzero(np.isfinite(value) & np.isfinite(slope))
        if which.size == len(x):
            self._remember(x, value, slope)
        return [self._cuts(which, x, value, slope)] if which.size else []

    def separate_ray(self, s: Array, at: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """See `Surface.separate_ray`: tangents ever farther along the direction, while f has a value."""
        rise, run_ = s.T
        best = np.zeros(len(s))
        found: list[Cuts] = []
        open_ = np.ones(len(s), dtype=bool)
        for step in 10.0 ** np.arange(9):
            x = at[:, 1] + step * run_
            value, slope = self._evaluate(x)
            over = np.where(np.isfinite(value) & np.isfinite(slope), rise - slope * run_, 0.0)
            best = np.maximum(best, over)
            which = np.flatnonzero(open_ & (over > np.maximum(tolerance, 0.1 * np.abs(rise))))
            if which.size:
                found.append(self._cuts(which, x, value, slope))
                open_[which] = False
        return float(np.max(best, initial=0.0)), found

    def _cuts(self, which: Index, x: Array, value: Array, slope: Array) -> Cuts:
        x, value, slope = x[which], value[which], slope[which]
        weights = np.stack([np.full_like(x, -1.0), slope], axis=1)
        return Cuts.on(self.index[which], weights, slope * x - value)

    def _evaluate(self, x: Array) -> tuple[Array, Array]:
        shaped = x.reshape(self.hypograph.shape, order="F")
        value, slope = self.hypograph.value_at(shaped), self.hypograph.derivative_at(shaped)
        return np.ravel(value, order="F").astype(float), np.ravel(slope, order="F").astype(float)

    def _tangent(self, x: Array) -> tuple[Array, Array, Array]:
        """Tangents at x, or just beside it where f is vertical or HiGHS steps over the edge of its domain."""
        value, slope = self._evaluate(x)
        first = x, value, slope
        for step in (1e-8, -1e-8, 1e-6, -1e-6, 1e-4, -1e-4):
            bad = ~(np.isfinite(value) & np.isfinite(slope))
            if not bad.any():
                return x, value, slope
            x = np.where(bad, x + step * (1.0 + np.abs(x)), x)
            value, slope = self._evaluate(x)
        bad = ~(np.isfinite(value) & np.isfinite(slope))
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            raise InvalidInput(
                f"{self.name}, entry {self._entry(i)}: f({first[0][i]:.9g}) = {first[1][i]} with derivative "
                f"{first[2][i]}; the function must have a finite value and slope wherever the other "
                "constraints let its argument go: bound the argument away from there"
            )
        return x, value, slope

    def _remember(self, x: Array, value: Array, slope: Array) -> None:
        """Hold the new tangents against all old points, and the new points against all old tangents."""
        if self.seen:
            old_x, old_value, old_slope = (np.stack(part) for part in zip(*self.seen, strict=True))
            near = 1e-7 * (1.0 + np.abs(value) + np.abs(old_value) + np.abs(slope * (old_x - x)))
            over = np.maximum(
                old_value - value - slope * (old_x - x), value - old_value - old_slope * (x - old_x)
            )
            if np.any(over > near):
                k, i = (int(v) for v in np.argwhere(over > near)[0])
                raise InvalidInput(
                    f"{self.name}, entry {self._entry(i)}: the function is not concave, or its derivative is "
                    f"wrong: f({old_x[k, i]:.9g}) = {old_value[k, i]:.9g} with slope {old_slope[k, i]:.9g} "
                    f"and f({x[i]:.9g}) = {value[i]:.9g} with slope {slope[i]:.9g}; "
                    "one lies above the other's tangent"
                )
        self.seen.append((x, value, slope))

    def _entry(self, i: int) -> tuple[int, ...]:
        return tuple(int(k) for k in np.unravel_index(i, self.hypograph.shape, order="F"))
