r"""Closed forms of what a mediator achieves, and the release that leaks about nobody who does not share.

They share no code with the mediator's program: the covariance of all estimates is computed from the signals'
regression, and its square root and Schur complement from its own eigenvalues.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.solvers.errors import NotApplicable

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.model import DataExternality

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MOST_TRIED = 14
"""Users up to which all sets are tried for the release."""

SINGULAR = 1e-10
"""Eigenvalues of a covariance that count as 0, relative to the largest."""


def mediator_surplus(
    x: DataExternality,
    no_leak: ArrayLike | Iterable[int] | None = None,
    sharing: ArrayLike | Iterable[int] | None = None,
) -> float:
    r"""Return the most data surplus with a mediator, by its closed form (money).

    The sum of the positive eigenvalues of :math:`G^{1/2} \, \mathrm{diag}(1 - v) \, G^{1/2}`, where G is the
    covariance of the best estimates; or, if nothing may leak about users H, what of it is left given them,
    :math:`G - G_{\cdot H} G_{HH}^+ G_{H \cdot}`. If no other user has a value of privacy above 1 that is
    :math:`\sum_{i \notin H} (1 - v_i) G_{ii}`.

    Parameters
    ----------
    x : DataExternality
    no_leak : array of shape (n_users,), or set of indices, optional
        H; nobody by default.
    sharing : array of shape (n_users,), or set of indices, optional
        Who sends data to the mediator; all by default.

    Returns
    -------
    float
        >= 0, and at least the surplus of every set of users who share without a mediator.

    Examples
    --------
    >>> import mechopt as mo
    >>> model = mo.DataExternality([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]], [0.5, 1.3, 3.0])
    >>> round(mediator_surplus(model), 6)
    0.190935
    """
    senders = np.flatnonzero(np.ones(x.n_users) if sharing is None else x.profile(sharing))
    across = x.covariance[:, senders]
    inside = x.covariance[np.ix_(senders, senders)] + x.noise_variance * np.eye(senders.size)
    known = across @ np.linalg.solve(inside, across.T) if senders.size else np.zeros_like(x.covariance)
    gain = 1 - x.value_of_privacy
    if no_leak is not None:
        barred = x.profile(no_leak, "no_leak")
        block = np.linalg.pinv(known[np.ix_(barred, barred)], rcond=SINGULAR, hermitian=True)
        known = known - known[:, barred] @ block @ known[barred]
        known[barred], known[:, barred] = 0.0, 0.0
        if np.all(gain[~barred] >= 0):
            return float(gain @ np.diag(known))
    values, vectors = np.linalg.eigh((known + known.T) / 2)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    worth = np.linalg.eigvalsh(root @ (gain[:, None] * root))
    return float(worth[worth > 0].sum())


@dataclass(frozen=True, eq=False)
class Release:
    """What the platform learns from transformed data, and what it pays.

    Attributes
    ----------
    sharing : array of bool, shape (n_users,)
        Whose entries of the transformed data are passed on.
    estimate_covariance : array, shape (n_users, n_users)
    leaked_information : array, shape (n_users,)
        0 of users who do not share.
    compensation : array, shape (n_users,)
        What each is paid (money): here users are paid for all that leaks about them.
    data_surplus : float
        The platform's profit (money).
    """

    sharing: BoolArray
    estimate_covariance: Array
    leaked_information: Array
    compensation: Array
    data_surplus: float

    def __repr__(self) -> str:
        users = np.flatnonzero(self.sharing).tolist()
        return f"Release(of users {users}, data surplus {self.data_surplus:.6g})"


def inverse_covariance_release(
    x: DataExternality, sharing: ArrayLike | Iterable[int] | None = None
) -> Release:
    r"""Pass on entries of :math:`\Sigma^{-1} S`, the data of all users transformed.

    The covariance of entry i with :math:`X_j` is 0 for every other user j. So nothing leaks about users who
    do not share, what leaks about a user who does is priced in full, and the platform's profit is the data
    surplus: it buys what is best for all among such releases, without any tax.

    Parameters
    ----------
    x : DataExternality
        With a nonsingular covariance.
    sharing : array of shape (n_users,), or set of indices, optional
        Whose entries are passed on; by default those of most surplus, for at most 14 users.

    Returns
    -------
    Release

    Raises
    ------
    NotApplicable
        If the covariance is singular, or there are too many users to try all sets.

    Examples
    --------
    >>> import mechopt as mo
    >>> model = mo.DataExternality([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]], [0.5, 1.3, 3.0])
    >>> best = inverse_covariance_release(model)
    >>> best.sharing.tolist(), round(best.data_surplus, 6)
    ([True, True, False], 0.127508)
    """
    values = np.linalg.eigvalsh(x.scaled_covariance)
    if values[0] <= SINGULAR * values[-1]:
        raise NotApplicable(
            f"the release needs a nonsingular covariance, and the smallest eigenvalue is "
            f"{values[0] * x.noise_variance:.3g}, the largest {values[-1] * x.noise_variance:.3g}; "
            "use mediator(), which needs none",
            reason="singular covariance",
        )
    precision = np.asarray(np.linalg.inv(x.scaled_covariance), dtype=np.float64)
    passed = np.asarray(precision + precision @ precision, dtype=np.float64)
    chosen = _best_release(x, passed) if sharing is None else x.profile(sharing)
    estimates = np.zeros_like(x.covariance)
    inside = np.ix_(chosen, chosen)
    estimates[inside] = x.noise_variance * np.linalg.inv(passed[inside])
    leaked = np.diag(estimates).copy()
    return Release(
        chosen, estimates, leaked, x.value_of_privacy * leaked, float((1 - x.value_of_privacy) @ leaked)
    )


def _best_release(x: DataExternality, passed: Array) -> BoolArray:
    n = x.n_users
    if n > MOST_TRIED:
        raise NotApplicable(
            f"the best release is found by trying all sets, for at most {MOST_TRIED} users, and there are "
            f"{n}; say whose entries are passed on as sharing=",
            reason="too many users",
        )
    best, most = np.zeros(n, dtype=bool), 0.0
    for start in range(0, 2**n, 2048):
        masks = np.arange(start, min(start + 2048, 2**n))
        sets = (masks[:, None] >> np.arange(n) & 1).astype(bool)
        both = sets[:, :, None] & sets[:, None, :]
        # Those left out stand in it with a block of their own.
        inverse = np.linalg.inv(np.where(both, passed, np.eye(n)))
        leaked = np.where(sets, np.diagonal(inverse, axis1=1, axis2=2), 0.0)
        surplus = leaked @ (1 - x.value_of_privacy)
        if surplus.max() > most:
            best, most = sets[int(surplus.argmax())], float(surplus.max())
    return best
