r"""Upper bounds on the platform's profit over many sets at once, from a concave function of precisions.

Without a user's own data, what is known about it is :math:`\Sigma_{ii} - s_i` with s the variance given the
others' data, and they add :math:`h(s_i) = s_i^2/(1+s_i)`, for which :math:`v_i h(s_i)` is paid. So a user of
high value brings

.. math:: \omega_i (\Sigma_{ii} - s_i) - (v_i - \omega_i)\, a_i h(s_i),

and one of low value :math:`(\omega_i - v_i)(\Sigma_{ii} - t_i) + v_i (\Sigma_{ii} - s_i)` with t the variance
given all data. A tax on who shares is linear. Both s and t are convex functions of the precisions of the
data, and h is convex and increasing. The product of :math:`a_i` and h is bounded below by the larger of
:math:`a_i \underline h_i` and :math:`h(s_i) - \overline h_i (1 - a_i)`, between the values that h takes in
the sets in question. The result is concave on the cube, so that each of its tangent planes bounds all sets,
and its largest corner is found coordinate by coordinate.

Taking own data out of what leaks matters: a user whose data have half the precision tells of itself more than
half as much, and for half the payment; counted so, the bound was several times further off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mechopt.formulations.data_externality.exact.problem import Array, BoolArray, IntArray, Purchase
from mechopt.formulations.data_externality.leakage import posterior_and_doubt

STEP = 0.5
"""Length of the first step, in the largest coordinate; later ones are shorter by the root of their number."""


@dataclass(frozen=True, eq=False)
class Node:
    """Sets with all users in ``inside`` and none outside ``allowed``; arrays of shape (n_nodes, n_users).

    Attributes
    ----------
    inside, allowed : array of bool
    start : array
        Precisions at which to begin.
    """

    inside: BoolArray
    allowed: BoolArray
    start: Array


@dataclass(frozen=True, eq=False)
class Bounds:
    """What bounding found.

    Attributes
    ----------
    upper : array, shape (n_nodes,)
        No set of the node has more profit.
    inside, allowed : array of bool, shape (n_nodes, n_users)
        As given, with the users who are in every set good enough, or in none.
    weights : array, shape (n_nodes, n_users)
        Precisions at the last point.
    error : array, shape (n_nodes, n_users)
        By how much each user's payment is underrated there: where to branch.
    """

    upper: Array
    inside: BoolArray
    allowed: BoolArray
    weights: Array
    error: Array


def bound_nodes(problem: Purchase, node: Node, floor: float, n_steps: int) -> Bounds:
    """Bound the profit of the sets of some nodes, and fix users where only one choice reaches ``floor``.

    Parameters
    ----------
    problem : Purchase
    node : Node
    floor : float
        Profit below which sets are of no interest.
    n_steps : int
        Tangent planes for each node, at points that climb the concave function.
    """
    inside, allowed = node.inside.copy(), node.allowed.copy()
    weights = np.clip(node.start, inside, allowed)
    least = _own_information(problem, allowed)
    most = _own_information(problem, inside)
    upper = np.full(len(inside), np.inf)
    error = np.zeros_like(weights)
    for step in range(n_steps):
        value, slope, error = _tangent(problem, weights, least, most)
        free = allowed & ~inside
        ahead = np.where(free, slope, 0.0)
        corner = value - (ahead * weights).sum(axis=1)
        here = corner + np.maximum(ahead, 0.0).sum(axis=1)
        upper = np.minimum(upper, corner + _largest(ahead, problem.at_most - inside.sum(axis=1)))
        # With the other choice for a user the plane is lower by |slope|.
        decided = free & (here[:, None] - np.abs(slope) < floor)
        inside |= decided & (slope > 0)
        allowed &= ~(decided & (slope < 0))
        if np.all(upper < floor):
            break
        ahead = np.where(allowed & ~inside, slope, 0.0)
        size = np.max(np.abs(ahead), axis=1, keepdims=True)
        pace = STEP / np.sqrt(1 + step) / np.where(size > 0, size, 1.0)
        weights = np.clip(weights + pace * ahead, inside, allowed)
    return Bounds(upper, inside, allowed, weights, error)


def _largest(slope: Array, room: IntArray) -> Array:
    """Sum of the positive entries of each row, of at most so many."""
    gains = -np.sort(-np.maximum(slope, 0.0), axis=1)
    taken: Array = np.where(np.arange(slope.shape[1]) < room[:, None], gains, 0.0).sum(axis=1)
    return taken


def _own_information(problem: Purchase, sharing: BoolArray) -> Array:
    """What each user's own data tell of it, beside those of the others who share."""
    posterior, doubt = posterior_and_doubt(problem.covariance, sharing)
    alone = np.diagonal(posterior, axis1=-2, axis2=-1) / doubt
    return np.asarray(alone**2 / (1 + alone))


def _tangent(problem: Purchase, weights: Array, least: Array, most: Array) -> tuple[Array, Array, Array]:
    """Value and gradient of the concave function, and what it leaves out of each payment."""
    value, weight = problem.value, problem.weight
    low = value <= weight
    posterior, without = posterior_and_doubt(problem.covariance, weights)
    variance = np.diagonal(posterior, axis1=-2, axis2=-1)
    others = variance / without
    own = others**2 / (1 + others)
    prior = np.diag(problem.covariance)
    # Of the lower bounds on a_i h(s_i), the larger one.
    linear, shifted = weights * least, own - most * (1 - weights)
    bends = (shifted > linear) & ~low
    paid = np.where(bends, shifted, linear)
    excess = np.where(low, 0.0, value - weight)
    gain = np.where(low, weight - value, 0.0) * (prior - variance)
    gain = gain + np.where(low, value, weight) * (prior - others) - excess * paid - weights * problem.tax
    # d t_i / d w_j = -P_ij^2, and the same of s_i with P_ij / (1 - w_i P_ii), but for j = i.
    falls = posterior**2
    per_variance = np.where(low, weight - value, 0.0)
    per_others = np.where(low, value, weight) + np.where(bends, excess * (1 - 1 / (1 + others) ** 2), 0.0)
    per_others = per_others / without**2
    slope = np.einsum("...i,...ij->...j", per_variance + per_others, falls) - per_others * variance**2
    slope -= excess * np.where(bends, most, least) + problem.tax
    error = excess * (weights * own - paid)
    return gain.sum(axis=-1), slope, error
