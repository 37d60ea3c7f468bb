"""Arithmetic of a menu of contracts: payments that make it incentive compatible, utilities, repair.

A menu has one contract (quantity, payment) for each type; a type is a privacy level eps, with cost
``unit_cost * eps * quantity``. Types are in increasing order, so the first is the cheapest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

__all__ = ["favourites", "nearest_monotone", "nearest_payments", "payments", "rents", "utility_matrix"]

FloatArray = NDArray[np.float64]


def rents(types: ArrayLike, quantity: ArrayLike, unit_cost: ArrayLike) -> FloatArray:
    r"""Compute the utility of each type when every local upward incentive constraint binds.

    .. math:: u_K = 0, \qquad u_k = u_{k+1} + c (\delta_{k+1} - \delta_k) q_{k+1}

    Parameters
    ----------
    types : array_like, shape (n_types,) or (..., n_types)
        Privacy levels δ (nats), strictly increasing, > 0.
    quantity : array_like, shape (..., n_types)
        Data q of each contract (records).
    unit_cost : float or array_like, shape (...)
        Cost c (utility per nat and record), > 0.

    Returns
    -------
    ndarray, shape (..., n_types)
        Information rents (utility); non-increasing and >= 0 if ``quantity`` is >= 0.

    References
    ----------
    Contract paper, eqs. (33)-(39).

    Examples
    --------
    >>> rents([1.0, 2.0, 4.0], [5.0, 3.0, 1.0], unit_cost=1.0).tolist()
    [5.0, 2.0, 0.0]
    """
    delta, q = _floats(types), _floats(quantity)
    steps = (delta[..., 1:] - delta[..., :-1]) * q[..., 1:]
    steps *= _floats(unit_cost)[..., np.newaxis]
    rent = np.zeros((*steps.shape[:-1], delta.shape[-1]))
    # Summed from the last type down, where the rents are small, so that small rents keep their digits.
    np.cumsum(steps[..., ::-1], axis=-1, out=rent[..., -2::-1])
    return rent


def payments(types: ArrayLike, quantity: ArrayLike, unit_cost: float) -> FloatArray:
    r"""Cheapest payments for which every type takes the contract meant for it.

    .. math:: \gamma_k = c \delta_k q_k + u_k

    with the :func:`rents` u. They are incentive compatible exactly if ``quantity`` is non-increasing.

    Parameters
    ----------
    types : array_like, shape (n_types,)
        Privacy levels δ (nats), strictly increasing, > 0.
    quantity : array_like, shape (n_types,)
        Data q of each contract (records).
    unit_cost : float
        Cost c (utility per nat and record), > 0.

    Returns
    -------
    ndarray, shape (n_types,)
        Payments γ (utility).

    References
    ----------
    Contract paper, eq. (41).

    Examples
    --------
    >>> payments([1.0, 2.0, 4.0], [5.0, 3.0, 1.0], unit_cost=1.0).tolist()
    [10.0, 8.0, 4.0]
    """
    delta, q = _floats(types), _floats(quantity)
    return unit_cost * delta * q + rents(delta, q, unit_cost)


def utility_matrix(types: ArrayLike, quantity: ArrayLike, payment: ArrayLike, unit_cost: float) -> FloatArray:
    r"""Tabulate the utility of every type from every contract.

    .. math:: u_{kj} = \gamma_j - c \delta_k q_j

    Parameters
    ----------
    types : array_like, shape (n_types,)
        Privacy levels δ (nats).
    quantity, payment : array_like, shape (n_contracts,)
        The contracts (records; utility).
    unit_cost : float
        Cost c (utility per nat and record), > 0.

    Returns
    -------
    ndarray, shape (n_types, n_contracts)
        Row: the holder's true type. Column: the contract taken.

    Examples
    --------
    >>> utility_matrix([1.0, 2.0], [5.0, 3.0], [8.0, 6.0], unit_cost=1.0).tolist()
    [[3.0, 3.0], [-2.0, 0.0]]
    """
    matrix: FloatArray = np.multiply.outer(unit_cost * _floats(types), _floats(quantity))
    np.subtract(_floats(payment), matrix, out=matrix)
    return matrix


def favourites(
    types: ArrayLike, quantity: ArrayLike, payment: ArrayLike, unit_cost: float
) -> NDArray[np.intp]:
    r"""Contract that each type likes best, in O(n log n), for menus too long for `utility_matrix`.

    What a contract leaves to a type is a line in the type, :math:`\gamma_j - c \delta q_j`; the best ones are
    on the upper envelope of these lines.

    Parameters
    ----------
    types : array_like, shape (n_types,)
        Privacy levels δ (nats), increasing.
    quantity, payment : array_like, shape (n_contracts,)
        The contracts (records; utility).
    unit_cost : float
        Cost c (utility per nat and record).

    Returns
    -------
    ndarray of int, shape (n_types,)
        Index of a contract of the highest utility.

    Examples
    --------
    >>> favourites([1.0, 2.0, 3.0], [5.0, 3.0, 4.0], [8.0, 6.5, 1.0], unit_cost=1.0).tolist()
    [1, 1, 1]
    """
    delta, q, pay = _floats(types), _floats(quantity), _floats(payment)
    # From the steepest line to the flattest; of equal slopes the best paid one comes last and stays.
    order = np.lexsort((pay, -q))
    envelope: list[int] = []
    starts: list[float] = []  # from which type on each line of the envelope is the best
    slopes, heights = (-unit_cost * q).tolist(), pay.tolist()
    for j in order.tolist():
        start = -np.inf
        while envelope:
            i = envelope[-1]
            if slopes[j] > slopes[i]:
                start = (heights[i] - heights[j]) / (slopes[j] - slopes[i])
                if start > starts[-1]:
                    break
            start = -np.inf
            envelope.pop()
            starts.pop()
        envelope.append(j)
        starts.append(start)
    best = np.searchsorted(np.array(starts), delta, side="right") - 1
    return np.array(envelope, dtype=np.intp)[best]


def nearest_monotone(quantity: ArrayLike, weights: ArrayLike) -> FloatArray:
    r"""Non-increasing, non-negative quantities nearest to the given ones.

    .. math:: \min_x \sum_k w_k (x_k - q_k)^2 \quad \text{s.t.} \quad x_1 \ge \dots \ge x_K \ge 0

    Parameters
    ----------
    quantity : array_like, shape (n_types,)
        Data of each contract (records), as a solver returned it.
    weights : array_like, shape (n_types,)
        Weights w > 0, usually the probabilities of the types.

    Returns
    -------
    ndarray, shape (n_types,)
        The repaired quantities (records).

    Examples
    --------
    >>> nearest_monotone([4.0, 1.0, 3.0, -1.0], [0.25, 0.25, 0.25, 0.25]).tolist()
    [4.0, 2.0, 2.0, 0.0]
    """
    monotone: FloatArray = isotonic_regression(
        _floats(quantity), weights=_floats(weights), increasing=False
    ).x
    # Clipping afterwards is exact: the bound only flattens a tail.
    return np.maximum(monotone, 0.0)


def nearest_payments(
    types: ArrayLike,
    quantity: ArrayLike,
    payment: ArrayLike,
    unit_cost: float,
    least_rent: float = 0.0,
) -> FloatArray:
    r"""Incentive compatible payments close to the given ones, for menus with more rent than the least.

    Rents :math:`u_k` are rebuilt from the last type, which gets at least ``least_rent``: each step
    :math:`u_k - u_{k+1}` is clipped to what keeps both neighbours truthful, between
    :math:`c (\delta_{k+1} - \delta_k) q_{k+1}` and :math:`c (\delta_{k+1} - \delta_k) q_k`.

    Parameters
    ----------
    types : array_like, shape (n_types,)
        Privacy levels δ (nats), strictly increasing, > 0.
    quantity : array_like, shape (n_types,)
        Data q of each contract (records), non-increasing, >= 0.
    payment : array_like, shape (n_types,)
        Payments to stay close to (utility).
    unit_cost : float
        Cost c (utility per nat and record), > 0.
    least_rent : float
        Least rent of the last type (utility); ``-inf`` for as given.

    Returns
    -------
    ndarray, shape (n_types,)
        Payments γ (utility).

    Examples
    --------
    >>> nearest_payments([1.0, 2.0, 4.0], [5.0, 3.0, 1.0], [14.0, 9.5, 5.0], unit_cost=1.0).tolist()
    [13.5, 9.5, 5.0]
    """
    delta, q = _floats(types), _floats(quantity)
    rent = _floats(payment) - unit_cost * delta * q
    gap = unit_cost * np.diff(delta)
    steps = np.clip(-np.diff(rent), gap * q[1:], gap * q[:-1])
    rent = np.append(steps, max(float(rent[-1]), least_rent))[::-1].cumsum()[::-1]
    nearest: FloatArray = unit_cost * delta * q + rent
    return nearest


def _floats(values: ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float64)
