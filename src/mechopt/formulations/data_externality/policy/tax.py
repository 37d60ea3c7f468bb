r"""Taxes on sharing: at which the platform buys what is best for all, or nothing at all.

A platform that pays :math:`\tau_i` for each user whose data it buys maximises :math:`f(A) - \tau(A)`. It buys
the set :math:`A^*` if

.. math:: \tau(A) - \tau(A^*) \ge f(A) - f(A^*) \quad \text{for every set } A

For the set of most surplus there are such taxes, whatever the covariance: none on its members, and as much as
the platform could ever earn on the others. For members alone :math:`f(A^*) - f(A)` is
:math:`W(A^*) - W(A) + E(A^*) - E(A)`, and both differences are >= 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.data_externality.exact import platform_optimum
from mechopt.formulations.data_externality.policy.surplus import (
    efficient_sharing,
    losses,
    profits,
    rounding,
)
from mechopt.solvers.errors import InvalidInput, SolverFailure
from mechopt.solvers.program import Program
from mechopt.solvers.solution import Solution

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.model import DataExternality

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MOST_LISTED = 12
"""Users up to which the program has a row for every set."""

MOST_ROUNDS = 500
"""Rounds of cuts after which something is wrong."""


@dataclass(frozen=True, eq=False)
class TaxedPurchase:
    """What a taxed platform buys.

    Attributes
    ----------
    sharing : array of bool, shape (n_users,)
    profit : float
        After taxes (money).
    n_nodes : int
        Sets, or nodes of the search tree, that were looked at.
    """

    sharing: BoolArray
    profit: float
    n_nodes: int


def taxed_purchase(x: DataExternality, tax: ArrayLike) -> TaxedPurchase:
    """Find what a platform buys that all joined, and that pays a tax for each user who shares.

    Parameters
    ----------
    x : DataExternality
    tax : array, shape (n_users,)
        For each user who shares, >= 0 (money).

    Returns
    -------
    TaxedPurchase

    Raises
    ------
    InvalidInput
        If a tax is negative or not finite, or their number is wrong.
    """
    rate = checks.vector(tax, "tax")
    checks.all_finite(rate, "tax")
    if rate.size != x.n_users:
        raise InvalidInput(f"tax has {rate.size} entries for {x.n_users} users")
    if np.any(rate < 0):
        user = int(np.argmax(rate < 0))
        raise InvalidInput(f"tax[{user}] = {rate[user]:g} must be >= 0")
    found = platform_optimum(x.scaled_covariance, x.value_of_privacy, tax=rate / x.noise_variance)
    return TaxedPurchase(found.sharing, x.noise_variance * found.profit, found.n_nodes)


# ------------------------------------------------------------ least taxes


def tax_program(
    x: DataExternality,
    target: ArrayLike | Iterable[int] | None = None,
    *,
    sets: ArrayLike | None = None,
) -> Program:
    """Declare the least taxes on sharing at which the platform buys a given set: a linear program.

    Parameters
    ----------
    x : DataExternality
    target : array of shape (n_users,), or set of indices, optional
        Who is to share; by default `efficient_sharing`.
    sets : array, shape (n_sets, n_users), optional
        The sets that the platform must not prefer; all of them by default, for at most 12 users.

    Returns
    -------
    Program
        With the variable ``tax``, shape (n_users,) (money), its ``total`` as the objective, the constant
        ``sharing``, and the family ``preferred``, a row a set.

    Notes
    -----
    A further row takes one line: equal taxes ``program["tax"] == program["tax"][0]``, or a cap
    ``program["tax"] <= cap``.
    """
    aim = efficient_sharing(x) if target is None else x.profile(target, "target")
    n = x.n_users
    if sets is None:
        if n > MOST_LISTED:
            raise InvalidInput(
                f"a row for each set of {n} users is too many (at most {MOST_LISTED} users); give some as "
                "sets=, or let pigovian_tax find those that matter"
            )
        others = (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)
    else:
        others = np.array([x.profile(row, "sets") for row in np.atleast_2d(np.asarray(sets))], dtype=bool)
    others = others[np.any(others != aim, axis=1)]
    typical = x.total_information
    program = Program("least taxes on sharing", objective_scale=typical)
    tax = program.variable("tax", n, nonneg=True, scale=typical)
    total = program.define("total", cp.sum(tax))
    program.define("sharing", aim.astype(float))
    program.minimize(total)
    if len(others):
        difference = others.astype(float) - aim
        program.add("preferred", difference @ tax >= profits(x, others) - profits(x, aim[None]))
    return program.seal()


def pigovian_tax(
    x: DataExternality,
    target: ArrayLike | Iterable[int] | None = None,
    backend: str | None = None,
    **options: Any,
) -> Solution:
    """Find the least taxes on sharing at which one platform buys what is best for all.

    The linear program of `tax_program`, with rows for those sets only that a platform has been found to
    prefer: each round solves it, and asks what a platform buys at these taxes.

    Parameters
    ----------
    x : DataExternality
        All of whose users joined the platform; the spillover plays no part.
    target : array of shape (n_users,), or set of indices, optional
        Who is to share; by default `efficient_sharing`, for at most 20 users.
    backend : str, optional
    **options
        See `Program.solve`.

    Returns
    -------
    Solution
        ``tax`` (money for each user who shares), ``sharing``; the objective is the sum of all taxes. Users of
        the target are not taxed, so that in equilibrium nothing is paid. ``extra`` has the numbers of
        ``rounds`` and ``rows``.

    Raises
    ------
    Infeasible
        If no taxes do, as for a target of which the platform prefers a part.

    Notes
    -----
    At the least taxes the platform may be indifferent; anything more on users out of the target decides it.

    References
    ----------
    Pal et al., section VIII, recommendation R3.

    Examples
    --------
    >>> import mechopt as mo
    >>> model = mo.DataExternality([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]], [0.5, 1.3, 3.0])
    >>> answer = pigovian_tax(model)
    >>> answer["sharing"].tolist(), answer["tax"].round(6).tolist()
    ([1.0, 0.0, 0.0], [0.0, 0.067407, 0.0])
    """
    aim = efficient_sharing(x) if target is None else x.profile(target, "target")
    # Without these rows the first taxes are 0; with them each user out of the target is taxed at once.
    rows = [aim ^ (np.arange(x.n_users) == user) for user in range(x.n_users)]
    wanted = float(profits(x, aim[None])[0])
    # Taxes are as exact as the solver's rows.
    slack = 1e-9 * x.total_information
    for done in range(1, MOST_ROUNDS + 1):
        answer = tax_program(x, aim, sets=np.array(rows)).solve(backend, **options)
        if not answer:
            return answer
        tax = np.maximum(answer["tax"], 0.0)
        found = taxed_purchase(x, tax)
        if found.profit <= wanted - tax @ aim + slack or _known(found.sharing, rows):
            return answer.replace(extra={**answer.extra, "rounds": done, "rows": len(rows)})
        rows.append(found.sharing)
    raise SolverFailure(f"pigovian_tax: no end after {MOST_ROUNDS} rounds of cuts", solution=answer)


def _known(sharing: BoolArray, rows: list[BoolArray]) -> bool:
    return any(np.array_equal(sharing, row) for row in rows)


def marginal_tax(x: DataExternality, sharing: ArrayLike | Iterable[int] | None = None) -> Array:
    r"""Return the textbook tax: what each user's sharing adds to the uncompensated loss of all.

    .. math:: \tau_i = E(A \cup i) - E(A \setminus i)

    It is right at the margin of the set A only. Sharing is a choice of sets, and a platform that pays it may
    prefer a set far from A.

    Parameters
    ----------
    x : DataExternality
    sharing : array of shape (n_users,), or set of indices, optional
        A; by default `efficient_sharing`.

    Returns
    -------
    array, shape (n_users,)
        (money), >= 0.
    """
    aim = efficient_sharing(x) if sharing is None else x.profile(sharing)
    each = np.eye(x.n_users, dtype=bool)
    gained = losses(x, aim | each).sum(axis=1) - losses(x, aim & ~each).sum(axis=1)
    return np.asarray(np.maximum(gained, 0.0))


def uniform_shutdown_tax(x: DataExternality) -> float:
    r"""Return the least tax on each user's sharing at which the platform buys nothing: :math:`\max f(A)/|A|`.

    Dinkelbach's method: what the platform buys at a rate gives the next rate, its profit a user, until it
    earns nothing.

    Parameters
    ----------
    x : DataExternality

    Returns
    -------
    float
        (money for each user who shares). 0 if the platform buys nothing at any rate.

    Examples
    --------
    >>> import mechopt as mo
    >>> model = mo.DataExternality([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]], [0.5, 1.3, 3.0])
    >>> round(uniform_shutdown_tax(model), 6)
    0.45
    """
    # Single users give a rate to begin with.
    rate = max(float(profits(x, np.eye(x.n_users, dtype=bool)).max()), 0.0)
    for _ in range(MOST_ROUNDS):
        found = taxed_purchase(x, np.full(x.n_users, rate))
        if found.profit <= rounding(x) or not found.sharing.any():
            return rate
        rate += found.profit / int(found.sharing.sum())
    raise SolverFailure(f"uniform_shutdown_tax: no end after {MOST_ROUNDS} rounds")


def prohibitive_tax(x: DataExternality, target: ArrayLike | Iterable[int] | None = None) -> Array:
    """Return taxes of 0 on the users of a set, and of all that could ever be earned on the others (money)."""
    aim = efficient_sharing(x) if target is None else x.profile(target, "target")
    # A profit is at most what leaks, and that is at most the variances.
    return np.where(aim, 0.0, 2 * float(np.sum(x.variance)))


__all__ = [
    "TaxedPurchase",
    "marginal_tax",
    "pigovian_tax",
    "prohibitive_tax",
    "tax_program",
    "taxed_purchase",
    "uniform_shutdown_tax",
]
