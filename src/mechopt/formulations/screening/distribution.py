"""The distribution of types of a continuous contract: truncated, checked, and divided into cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy import stats

from mechopt.formulations.screening.quadrature import panel_nodes
from mechopt.solvers.errors import InvalidInput

FloatArray = NDArray[np.float64]
_EPS = float(np.finfo(np.float64).eps)

TINY = 1e-290
"""Below this, densities and probabilities are taken in logarithms."""

_CELLS = 4096


class TypeLaw:
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
        lost = (eps > self._lo) & ((density < TINY) | (below < TINY))
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


def search_grid(law: TypeLaw, lo: float, hi: float) -> FloatArray:
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


def check_frozen(dist: Any) -> None:
    """Refuse what is no frozen continuous distribution."""
    rule = "dist must be a frozen continuous distribution such as scipy.stats.beta(2, 5)"
    if isinstance(dist, (type, stats.rv_continuous)):
        name = dist.__name__ if isinstance(dist, type) else type(dist).__name__
        raise InvalidInput(f"{rule}; {name} is not frozen yet: call it with its parameters")
    if isinstance(getattr(dist, "dist", dist), stats.rv_discrete):
        raise InvalidInput(f"{rule}; for discrete types use mo.ScreeningContract(types, probs)")


def check_density(law: TypeLaw, edges: FloatArray) -> None:
    """Check that the density is positive between the outermost edges, and integrates to the cdf."""
    share = law.prob(edges[:-1], edges[1:])
    if not np.all(share >= -64 * _EPS):
        k = int(np.argmin(share))
        raise InvalidInput(f"dist: its cdf falls or is nan between {edges[k]:.6g} and {edges[k + 1]:.6g}")
    # The outermost cells may hold an infinite density; they are too small to tell anything.
    edges, share = edges[1:-1], share[1:-1]
    nodes = panel_nodes(edges[:-1], edges[1:])[:, ::5]
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
