"""Integrals over types, by Gauss-Legendre panels that are halved until they agree.

Expectations integrate a function's Legendre series against the distribution function, which is bounded, and
so need no density where that is infinite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from mechopt.solvers.errors import SolverFailure

if TYPE_CHECKING:
    from mechopt.formulations.screening.distribution import TypeLaw

FloatArray = NDArray[np.float64]
_EPS = float(np.finfo(np.float64).eps)

Rule = Callable[[FloatArray, FloatArray], FloatArray]
"""Integrals over panels: from left and right ends, shape (n,), to values, shape (n, n_integrals)."""

# Panels are halved until that changes less than this share of the whole integral.
_AGREE = 1e-14
_MOST_PANELS = 200_000


def _gauss(n_nodes: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Nodes and weights on [0, 1], slopes of Legendre polynomials there, values to Legendre coefficients."""
    x, w = legendre.leggauss(n_nodes)
    degrees = np.arange(n_nodes)
    slopes = np.stack([legendre.legval(x, legendre.legder(row)) for row in np.eye(n_nodes)], axis=1)
    coefficients = (2 * degrees[:, None] + 1) / 2 * legendre.legvander(x, n_nodes - 1).T * w
    return (x + 1) / 2, w / 2, np.asarray(2 * slopes, dtype=np.float64), coefficients


NODES, WEIGHTS, _SLOPES, _COEFFICIENTS = _gauss(16)


def panel_nodes(left: FloatArray, right: FloatArray) -> FloatArray:
    """Nodes of each panel, shape (n, n_nodes)."""
    return np.asarray(left[:, None] + (right - left)[:, None] * NODES)


def expectation_weights(law: TypeLaw, left: FloatArray, right: FloatArray, nodes: FloatArray) -> FloatArray:
    """Weights w with sum(w * g(nodes)) = E[g(ε); left <= ε <= right], shape (n, n_nodes).

    Legendre polynomials are integrated against F by parts, so that only F itself is needed.
    """
    gained = law.prob(left[:, None], nodes)
    moments = law.prob(left, right)[:, None] - (WEIGHTS * gained) @ _SLOPES
    return np.asarray(moments @ _COEFFICIENTS)


def panels(rule: Rule, edges: FloatArray, least: float = 0.0) -> tuple[FloatArray, FloatArray, FloatArray]:
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


class TailIntegral:
    """Integral from a point to the end of a range, on panels that are found once."""

    def __init__(self, rule: Rule, edges: FloatArray, least: float = 0.0) -> None:
        self._rule = rule
        self._left, self._right, value = panels(rule, edges, least)
        self._after = np.append(np.cumsum(value[:0:-1].sum(axis=1))[::-1], 0.0)

    def __call__(self, eps: FloatArray) -> FloatArray:
        """Integral from each point on."""
        flat = np.clip(eps.ravel(), self._left[0], self._right[-1])
        panel = np.searchsorted(self._left, flat, side="right") - 1
        part = self._rule(flat, self._right[panel]).sum(axis=1)
        return np.asarray(part + self._after[panel]).reshape(eps.shape)
