r"""The fair values of users in groups by Owen's integral over the chance that a user joins.

Let each user be a member with probability q, so that the counts K are independent binomials, and let
:math:`f(q) = E\,U(K)`. Then, for one user of group g,

.. math:: \phi_g = \int_0^1 D_g(q) \, dq \quad \text{(users only)}, \qquad
   \phi_g = \int_0^1 q \, D_g(q) \, dq, \quad \phi_p = \int_0^1 f(q) \, dq \quad \text{(with the platform)},

.. math:: D_g(q) = E[U(K) \mid \text{in}] - E[U(K) \mid \text{out}]
   = \frac{E[(U(K) - f(q)) (K_g - m_g q)]}{m_g \, q (1-q)}.

The binomials are cut to windows. The integrand is a polynomial, smooth at the scale :math:`\sqrt{q(1-q)/N}`
whatever the utility, and for utilities with diminishing returns it varies most near q = 0. Panels therefore
grow geometrically from both ends, with a Gauss-Legendre rule on each; a panel whose Legendre coefficients
have not died out is halved, down to three of those scales, where they must.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import eval_legendre, roots_legendre

from mechopt.formulations.fair_value.shapley.utilities import CountUtility, Progress

Array = NDArray[np.float64]

_NODES = 16
_GROWTH = 3.0
"""Each panel is so much longer than its neighbour towards the end."""
_RESOLVED = 1e-8
"""Last Legendre coefficients relative to the largest; the rule is exact to twice their degree, so that its
error is of the order of the square."""
_SCALES = 3.0
"""Panels of so many standard deviations of the binomials are not halved."""
_ROUNDING = 4e-16
"""Times sqrt(N) and an equal share: the rounding of the integral, below which there is nothing to resolve."""
_MISSED = 1e-9
"""Relative to the utility, what the values may miss of what there is to divide."""
_CUT = 1e-18
"""Odds, relative to the mode, of what a window leaves out."""


@dataclass(frozen=True)
class Panel:
    """An interval of chances q; those near 1 are measured from there, where 1 - q keeps its digits."""

    start: float
    stop: float
    from_one: bool

    def halves(self) -> tuple[Panel, Panel]:
        """Cut in two."""
        middle = (self.start + self.stop) / 2
        return (
            Panel(self.start, middle, self.from_one),
            Panel(middle, self.stop, self.from_one),
        )

    def angle(self) -> float:
        """Length in units in which the standard deviation of K / N is 1 / (2 sqrt N) everywhere."""
        return float(np.arcsin(np.sqrt(self.stop)) - np.arcsin(np.sqrt(self.start)))


def first_panels(n_users: int) -> list[Panel]:
    """Cover (0, 1) by panels that grow from both ends, the first no longer than 1 / N."""
    ends = [0.5]
    while ends[-1] > 1 / n_users:
        ends.append(ends[-1] / _GROWTH)
    ends.append(0.0)
    return [Panel(low, high, from_one) for high, low in pairwise(ends) for from_one in (False, True)]


def binomial(size: int, q: float, p: float) -> tuple[int, Array]:
    """Probabilities of the number of members of a group, from a first number on; p is 1 - q."""
    deviation = np.sqrt(size * q * p)
    mode = min(int((size + 1) * q), size)
    # Poisson tails for few expected members, normal ones for many; what is too much is cut below.
    reach = int(9.5 * deviation + 30)
    low, high = max(mode - reach, 0), min(mode + reach, size)
    odds = q / p
    k = np.arange(mode, high)
    above = np.cumprod((size - k) / (k + 1) * odds)
    k = np.arange(mode, low, -1)
    below = np.cumprod(k / (size - k + 1) / odds)
    weight = np.concatenate([below[::-1], [1.0], above])
    kept = np.flatnonzero(weight > _CUT)
    weight = weight[kept[0] : kept[-1] + 1]
    return low + int(kept[0]), weight / weight.sum()


def integrand(utility: CountUtility, q: float, p: float) -> tuple[Array, int]:
    """Evaluate (D_1, ..., D_G, f) at the chance q; also the number of evaluations of the utility."""
    windows = [binomial(size, q, p) for size in utility.sizes]
    weights = [weight for _, weight in windows]
    ranges = [np.arange(first, first + weight.size) for first, weight in windows]
    shape = tuple(weight.size for weight in weights)
    counts = np.empty((utility.n_groups, *shape), dtype=np.int64)
    for g, numbers in enumerate(ranges):
        counts[g] = numbers.reshape([-1 if h == g else 1 for h in range(len(shape))])
    value = utility(counts.reshape(utility.n_groups, -1).T).reshape(shape)
    mean = _contract(value, weights)
    slopes = np.empty(utility.n_groups + 1)
    for g, size in enumerate(utility.sizes):
        tilted = weights[g] * ((ranges[g] - size * q) / (size * q * p))
        # The tilts sum to 0 but for rounding, which must not multiply the mean.
        moved = _contract(value, [*weights[:g], tilted, *weights[g + 1 :]])
        slopes[g] = moved - mean * float(tilted.sum())
    slopes[-1] = mean
    return slopes, value.size


def _contract(value: Array, weights: list[Array]) -> float:
    for weight in reversed(weights):
        value = value @ weight
    return float(value)


def owen_values(
    utility: CountUtility, include_platform: bool, progress: Progress | None = None
) -> tuple[Array, float, int]:
    """Compute the value of one user of each group, and of the platform, by integration.

    Returns
    -------
    tuple of array, shape (n_groups,), float and int
        The last is the number of evaluations of the utility.
    """
    nobody, everybody = utility.ends
    panels, visited = first_panels(utility.n_users), 0
    while True:
        found = _integrate(utility, panels, include_platform, progress)
        visited += found.visited
        paid = float(np.dot(utility.sizes, found.values))
        missing = everybody - found.platform - paid if include_platform else everybody - nobody - paid
        # A jump between the nodes of a long panel shows in no coefficient, but in the sum of values.
        if abs(missing) <= _MISSED * found.scale or panels[0].angle() <= shortest_angle(utility.n_users):
            return found.values, found.platform, visited
        panels = [half for panel in panels for half in panel.halves()]


def shortest_angle(n_users: int) -> float:
    """Return the length of panels over which no integrand varies too fast for the rule."""
    return float(_SCALES / (2 * np.sqrt(n_users)))


@dataclass(frozen=True)
class Integral:
    """Values of one user of each group and of the platform, the largest f met, and the evaluations made."""

    values: Array
    platform: float
    scale: float
    visited: int


def _integrate(
    utility: CountUtility, panels: list[Panel], include_platform: bool, progress: Progress | None
) -> Integral:
    """Integrate over these panels, halved where the integrand is not resolved."""
    nodes, gauss = roots_legendre(_NODES)
    degrees = np.arange(_NODES)
    to_legendre = (degrees + 0.5)[:, None] * eval_legendre(degrees[:, None], nodes) * gauss
    shortest, waiting = shortest_angle(utility.n_users), list(panels)
    values, platform, scale, visited, done = np.zeros(utility.n_groups), 0.0, 0.0, 0, 0
    while waiting:
        panel = waiting.pop()
        half = (panel.stop - panel.start) / 2
        near = panel.start + half * (1 + nodes)
        chance = 1 - near if panel.from_one else near
        rows = []
        for q, p in zip(chance, near if panel.from_one else 1 - near, strict=True):
            row, number = integrand(utility, float(q), float(p))
            rows.append(row)
            visited += number
        table = np.array(rows)
        slopes, mean = table[:, :-1], table[:, -1]
        scale = max(scale, float(np.max(np.abs(mean))))
        done += 1
        if progress is not None:
            progress(done, done + len(waiting))
        size = np.abs(to_legendre @ slopes)
        last = size[-2:].max(axis=0)
        rounding = _ROUNDING * scale / np.sqrt(utility.n_users)
        unresolved = (last > _RESOLVED * size.max(axis=0)) & (last * half > rounding)
        if unresolved.any() and panel.angle() > shortest:
            waiting += panel.halves()
        elif include_platform:
            values += half * (gauss * chance) @ slopes
            platform += half * float(gauss @ mean)
        else:
            values += half * gauss @ slopes
    return Integral(values, platform, scale, visited)
