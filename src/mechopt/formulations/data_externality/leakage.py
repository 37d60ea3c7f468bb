r"""Information that leaks from those who share: formula, posterior, updates of rank one, and its structure.

All functions are in units of the noise: data are types plus independent noise of variance 1. With noise of
variance N information is N times that of the covariance divided by N. Nothing here inverts the covariance
itself, which may be singular.

Sets of users are masks where they index a table: bit i of the row's number says whether user i shares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechopt.solvers.errors import InvalidInput

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MOST_TABLED = 20
"""Users up to which a table of all sets is made; it then holds 21 million numbers."""

DIRECT = 0.5
"""Root of a precision from which on a user's row of the posterior is computed from its own data."""

SINGULAR = 1e-9
"""Eigenvalues that count as zero, relative to the largest variance."""

ROUNDING = 1e-12
"""Differences of leaked information that count as rounding, relative to the largest in the table."""


def leaked_information(covariance: Array, sharing: BoolArray) -> Array:
    r"""Return :math:`I_i(A) = \Sigma_{iA} (I + \Sigma_{AA})^{-1} \Sigma_{Ai}` of every user.

    Parameters
    ----------
    covariance : array, shape (n_users, n_users)
    sharing : array of bool, shape (n_users,)

    Returns
    -------
    array, shape (n_users,)
    """
    across = covariance[:, sharing]
    inside = covariance[np.ix_(sharing, sharing)] + np.eye(int(sharing.sum()))
    leaked: Array = np.einsum("ij,ji->i", across, np.linalg.solve(inside, across.T))
    return leaked


def posterior_covariance(covariance: Array, weights: Array | BoolArray) -> Array:
    r"""Return the covariance of types given data of some precisions.

    It is :math:`(\Sigma^{-1} + \mathrm{diag}\,w)^{-1}`, computed as
    :math:`\Sigma - B^\top (I + R \Sigma R)^{-1} B` with :math:`R = \mathrm{diag}\sqrt w` and
    :math:`B = R \Sigma`, and is a convex function of the weights.

    Parameters
    ----------
    covariance : array, shape (n_users, n_users)
    weights : array, shape (..., n_users)
        Precision of each user's data, >= 0: 1 of those who share, 0 of the others.

    Returns
    -------
    array, shape (..., n_users, n_users)

    Examples
    --------
    >>> posterior_covariance(np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([1.0, 0.0])).tolist()
    [[0.5, 0.25], [0.25, 0.875]]
    """
    return posterior_and_doubt(covariance, weights)[0]


def posterior_and_doubt(covariance: Array, weights: Array | BoolArray) -> tuple[Array, Array]:
    r"""Return the posterior covariance P, and :math:`1 - w_i P_{ii}` without cancellation.

    A user's own data tell almost everything of it where its variance is far above that of the noise. Then
    :math:`w_i P_{ii}` is next to 1, and what is missing, which prices are divided by, is the diagonal of
    :math:`(I + R \Sigma R)^{-1}`. The rows of P of those who share are taken from there as well.

    Parameters
    ----------
    covariance : array, shape (n_users, n_users)
    weights : array, shape (..., n_users)
        Precision of each user's data, in [0, 1].

    Returns
    -------
    posterior : array, shape (..., n_users, n_users)
    doubt : array, shape (..., n_users)
        In (0, 1]; 1 of those who do not share.
    """
    root = np.sqrt(np.asarray(weights, dtype=float))
    scaled = root[..., :, None] * covariance
    inverse = np.linalg.inv(scaled * root[..., None, :] + np.eye(len(covariance)))
    rows = inverse @ scaled
    posterior: Array = covariance - np.swapaxes(scaled, -1, -2) @ rows
    direct = root >= DIRECT
    rows = rows / np.where(direct, root, 1.0)[..., :, None]
    posterior = np.where(direct[..., None, :], np.swapaxes(rows, -1, -2), posterior)
    posterior = np.where(direct[..., :, None], rows, posterior)
    return posterior, np.diagonal(inverse, axis1=-2, axis2=-1).copy()


def add_user(posterior: Array, user: int) -> Array:
    r"""Update a posterior covariance when a user begins to share: :math:`P - P_j P_j^\top / (1 + P_{jj})`."""
    column = posterior[:, user]
    updated: Array = posterior - np.outer(column, column / (1 + column[user]))
    return updated


def remove_user(posterior: Array, user: int) -> Array:
    r"""Update a posterior covariance when a user stops sharing: :math:`P + P_j P_j^\top / (1 - P_{jj})`."""
    column = posterior[:, user]
    if column[user] >= 1:
        raise InvalidInput(
            f"posterior[{user}, {user}] = {column[user]:g} is not below 1: user {user} does not share"
        )
    updated: Array = posterior + np.outer(column, column / (1 - column[user]))
    return updated


def subsets(n_users: int) -> BoolArray:
    """All sets of some users by mask, shape (2**n_users, n_users); bit i of the row's number is column i."""
    return (np.arange(2**n_users)[:, None] >> np.arange(n_users) & 1).astype(bool)


def leak_table(covariance: Array) -> Array:
    """Return the information that leaks about each user, for every set of users who share.

    Users are added one by one to all sets of those before them. The columns of a posterior that later users
    do not need are not carried along, so that a set costs O(n_users) operations.

    Parameters
    ----------
    covariance : array, shape (n_users, n_users)
        Of at most 20 users.

    Returns
    -------
    array, shape (2**n_users, n_users)
        Row = mask of those who share.

    Examples
    --------
    >>> leak_table(np.array([[1.0, 0.5], [0.5, 1.0]])).round(3).tolist()
    [[0.0, 0.0], [0.5, 0.125], [0.125, 0.5], [0.533, 0.533]]
    """
    n_users = len(covariance)
    if n_users > MOST_TABLED:
        raise InvalidInput(
            f"a table of all sets of {n_users} users has {n_users} x 2^{n_users} entries; it is made for at "
            f"most {MOST_TABLED} users"
        )
    return np.asarray(np.diag(covariance) - posterior_variances(covariance, np.arange(n_users)))


def posterior_variances(posterior: Array, users: NDArray[np.intp]) -> Array:
    """Return the diagonal of the posterior after each subset of some users is added to those who share.

    Parameters
    ----------
    posterior : array, shape (n_users, n_users)
        Of those who share already.
    users : array of int, shape (n_added,)
        Who may be added, none of whom shares.

    Returns
    -------
    array, shape (2**n_added, n_users)
        Bit b of the row's number: whether ``users[b]`` is added.
    """
    return variances_and_doubts(posterior, np.ones(len(posterior)), users)[0]


def variances_and_doubts(posterior: Array, doubt: Array, users: NDArray[np.intp]) -> tuple[Array, Array]:
    """Return the posterior variances, and one less those of users who share, after each subset is added.

    Parameters
    ----------
    posterior : array, shape (n_users, n_users)
    doubt : array, shape (n_users,)
        Of those who share already, as from `posterior_and_doubt`.
    users : array of int, shape (n_added,)

    Returns
    -------
    variances, doubts : arrays, shape (2**n_added, n_users)
        Rows as in `posterior_variances`.
    """
    n_users, n_added = len(posterior), len(users)
    variances, doubts, shares = (np.empty((2**n_added, n_users)) for _ in range(3))
    variances[0], doubts[0], shares[0] = np.diag(posterior), doubt, doubt < 1
    # Columns of users not yet added: all that updates to come will read. That of the k-th has 2^k rows.
    columns = np.empty((n_added, 2 ** max(n_added - 1, 0), n_users))
    columns[:, 0] = posterior[:, users].T
    for position, user in enumerate(users):
        before, after = slice(0, 2**position), slice(2**position, 2 ** (position + 1))
        column, later = columns[position, before], users[position + 1 :]
        left = 1 / (1 + column[:, user])
        scaled = column * left[:, None]
        fall = column * scaled
        np.subtract(variances[before], fall, out=variances[after])
        variances[after, user] = scaled[:, user]
        fall *= shares[before]
        np.add(doubts[before], fall, out=doubts[after])
        doubts[after, user] = left
        shares[after] = shares[before]
        shares[after, user] = 1.0
        if later.size:
            known, updated = columns[position + 1 :, before], columns[position + 1 :, after]
            np.multiply(scaled, column[:, later].T[:, :, None], out=updated)
            np.subtract(known, updated, out=updated)
            # The user's own row shrinks by a factor, not by a difference of large numbers.
            updated[:, :, user] = known[:, :, user] * left
    return variances, doubts


def information_gain(covariance: Array, sharing: BoolArray) -> float:
    r"""Return the mutual information of types and shared data, :math:`\frac12 \log\det(I + \Sigma_{AA})`.

    Unlike the information about a single user, it is a submodular function of who shares.

    Returns
    -------
    float
        In nats, >= 0.
    """
    inside = covariance[np.ix_(sharing, sharing)] + np.eye(int(sharing.sum()))
    return float(np.linalg.slogdet(inside)[1]) / 2


# ------------------------------------------------------------ structure


def mtp2_signs(covariance: Array) -> Array | None:
    """Find signs with which the types are multivariate totally positive of order 2.

    Off-diagonal entries of the inverse covariance must be <= 0, once some coordinates have changed sign. A
    singular covariance is judged as the limit of ``covariance + epsilon * identity``.

    Parameters
    ----------
    covariance : array, shape (n_users, n_users)

    Returns
    -------
    array, shape (n_users,), or None
        A sign, 1 or -1, of each user's type; None if there are none that do.
    """
    n_users = len(covariance)
    scale = float(np.max(np.diag(covariance)))
    values, vectors = np.linalg.eigh(covariance)
    # A ridge well above rounding, and well below what separates users.
    values = values + SINGULAR * scale if values[0] <= SINGULAR * scale else values
    precision = (vectors / values) @ vectors.T
    size = np.sqrt(np.diag(precision))
    partial = -precision / np.outer(size, size)
    partial[np.abs(partial) <= np.sqrt(SINGULAR)] = 0.0
    signs = np.zeros(n_users)
    for start in range(n_users):
        if signs[start]:
            continue
        signs[start], stack = 1.0, [start]
        while stack:
            user = stack.pop()
            for other in np.flatnonzero(partial[user]):
                if other != user and not signs[other]:
                    signs[other] = signs[user] * np.sign(partial[user, other])
                    stack.append(int(other))
    off = ~np.eye(n_users, dtype=bool)
    return signs if np.all((np.outer(signs, signs) * partial)[off] >= 0) else None


def is_mtp2(covariance: Array) -> bool:
    """Tell whether the types are MTP2 up to changes of sign; then all leaks are submodular.

    Examples
    --------
    >>> is_mtp2(np.array([[1.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 1.0]]))
    True
    >>> is_mtp2(np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.8], [0.0, 0.8, 1.0]]))
    False
    """
    return mtp2_signs(covariance) is not None


@dataclass(frozen=True)
class Violation:
    """Where a function of sets is not monotone, or not submodular.

    Attributes
    ----------
    of : int
        Column of the table: the user whose information it is.
    base : frozenset of int
        A set of users who share.
    added : int
        A user who is added to it.
    context : int or None
        For submodularity, the user in whose presence ``added`` brings more; None for monotonicity.
    amount : float
        By how much the property fails, > 0.
    """

    of: int
    base: frozenset[int]
    added: int
    context: int | None
    amount: float


def monotonicity_violation(table: Array, tolerance: float = ROUNDING) -> Violation | None:
    """Find where a function of sets falls most when a user is added.

    Parameters
    ----------
    table : array, shape (2**n_users,) or (2**n_users, n_functions)
        Values by mask, such as from `leak_table`.
    tolerance : float
        What counts as rounding, relative to the largest entry.

    Returns
    -------
    Violation or None
    """
    values, n_users = _functions(table)
    worst = None
    limit = tolerance * float(np.max(np.abs(values), initial=1e-300))
    for user in range(n_users):
        without, given = _split(values, user)
        falls = without - given
        if falls.max() > limit:
            limit = float(falls.max())
            place, of = np.unravel_index(int(np.argmax(falls)), falls.shape)
            base = _members(_insert(int(place), user), n_users)
            worst = Violation(int(of), base, user, None, limit)
    return worst


def submodularity_violation(table: Array, tolerance: float = ROUNDING) -> Violation | None:
    """Find where a function of sets rises most by a user more, because another one is there.

    Parameters
    ----------
    table : array, shape (2**n_users,) or (2**n_users, n_functions)
        Values by mask, such as from `leak_table`.
    tolerance : float
        What counts as rounding, relative to the largest entry.

    Returns
    -------
    Violation or None
        ``amount`` is the increment with ``context`` minus that without.

    Examples
    --------
    >>> suppressor = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.8], [0.0, 0.8, 1.0]])
    >>> found = submodularity_violation(leak_table(suppressor)[:, 0])
    >>> sorted(found.base), found.added, found.context, round(found.amount, 6)
    ([], 1, 2, 0.02381)
    """
    values, n_users = _functions(table)
    worst = None
    limit = tolerance * float(np.max(np.abs(values), initial=1e-300))
    for first in range(n_users):
        without, given = _split(values, first)
        increments = given - without
        for second in range(first):
            alone, together = _split(increments, second)
            rises = together - alone
            if rises.max() > limit:
                limit = float(rises.max())
                place, of = np.unravel_index(int(np.argmax(rises)), rises.shape)
                base = _members(_insert(_insert(int(place), second), first), n_users)
                worst = Violation(int(of), base, second, first, limit)
    return worst


def _functions(table: Array) -> tuple[Array, int]:
    """Return the table as columns, and the number of users."""
    values = np.asarray(table, dtype=float)
    values = values[:, None] if values.ndim == 1 else values
    n_users = len(values).bit_length() - 1
    if values.ndim != 2 or len(values) != 2**n_users:
        raise InvalidInput(
            f"table has shape {np.shape(table)}; it must have a row for each of 2^n_users sets"
        )
    return values, n_users


def _split(values: Array, user: int) -> tuple[Array, Array]:
    """Rows of sets without the user, and of the same sets with the user."""
    blocks = values.reshape(-1, 2, 2**user, values.shape[1])
    return blocks[:, 0].reshape(-1, values.shape[1]), blocks[:, 1].reshape(-1, values.shape[1])


def _insert(mask: int, user: int) -> int:
    """Mask over all users, 0 at this one, from a mask over the others."""
    low = mask & ((1 << user) - 1)
    return (mask >> user) << (user + 1) | low


def _members(mask: int, n_users: int) -> frozenset[int]:
    return frozenset(user for user in range(n_users) if mask >> user & 1)
