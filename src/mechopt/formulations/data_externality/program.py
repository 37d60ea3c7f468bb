r"""The platform's purchase as a mixed-integer convex program, and its continuous relaxation.

With :math:`\Sigma = F F^\top`, the variance of type i given data of precisions w is
:math:`f_i^\top (I + F^\top \mathrm{diag}(w) F)^{-1} f_i`, a convex function whose epigraph is one linear
matrix inequality (Schur complement); the covariance is not inverted and may be singular. Three variances
appear of each user i who joined: t given all data, s given the others', and u, which is s if i shares and 0
otherwise. The last one is the perspective of s: its matrix has :math:`a_i` in the place of 1 and products
:math:`a_i a_j` in the place of :math:`a_j`, which makes the relaxation of the payment :math:`v_i a_i h(s_i)
= v_i u_i^2 / (a_i + u_i)` tight.

The profit is written so that it is concave, and without what half a user's data would tell about the user
itself: :math:`\Sigma_{ii} - s_i - (v_i - 1) a_i h(s_i)` for a value above 1, and :math:`(1 -
v_i)(\Sigma_{ii} - t_i) + v_i (\Sigma_{ii} - s_i)` for one below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.data_externality.exact.route import ExactPurchase
from mechopt.formulations.data_externality.leakage import leak_table
from mechopt.formulations.guards import slope_in, wanted
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Program
from mechopt.solvers.terms import Term

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.model import DataExternality

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

RANK = 1e-13
"""Eigenvalues of the covariance that count as zero, relative to the largest."""

VARIANCES = ("variance_given_all", "variance_given_others", "shared_variance", "payment_size")
"""Variables that only need be large enough: nothing may ask them to be larger."""

MOST_COVERED = 14
"""Users up to which the sets that leak too much are listed."""


def declare(model: DataExternality, joined: BoolArray, *, relaxed: bool = False) -> Program:
    """Declare whom a platform buys from; see `DataExternality.program`.

    Parameters
    ----------
    model : DataExternality
    joined : array of bool, shape (n_users,)
        Users of the platform.
    relaxed : bool
        Let users share in part: a bound on the profit, by a convex program.

    Returns
    -------
    Program
        ``sharing`` and the expressions ``leaked_information``, ``leaked_by_others`` (about each user, by
        the data of the others), ``payments`` of shape (n_users,), and ``profit`` (money). Constraints on
        them must be such that leaks are wanted large and payments small. In an answer, leaks and payments
        that neither the objective nor a constraint presses on may be bounds only: read ``sharing``, and
        pass the answer to `monopoly.recomputed`.
    """
    n, noise = model.n_users, model.noise_variance
    covariance, value = model.scaled_covariance, model.value_of_privacy
    prior = np.diag(covariance)
    factor = _factor(covariance)
    users = np.flatnonzero(joined)
    program = Program("purchase of data", objective_scale=model.total_information)
    kind: dict[str, Any] = {"bounds": [0.0, 1.0]} if relaxed else {"boolean": True}
    sharing = program.variable("sharing", n, **kind)
    all_data = program.variable("variance_given_all", n, nonneg=True, scale=prior)
    others = program.variable("variance_given_others", n, nonneg=True, scale=prior)
    shared = program.variable("shared_variance", n, nonneg=True, scale=prior)
    both = program.variable("both_share", (n, n), nonneg=True)
    size = program.variable("payment_size", n, nonneg=True, scale=prior)
    away = 1.0 - np.eye(n)
    program.add(
        "given_all", *(_above(1.0, sharing, factor, factor[i], all_data[i], prior[i]) for i in range(n))
    )
    program.add(
        "given_others",
        *(
            _above(1.0, cp.multiply(away[i], sharing), factor, factor[i], others[i], prior[i])
            for i in range(n)
        ),
    )
    if users.size:
        program.add(
            "shared",
            *(
                _above(
                    sharing[i],
                    cp.multiply(away[i], both[i]),
                    factor,
                    sharing[i] * factor[i],
                    shared[i],
                    prior[i],
                )
                for i in users
            ),
        )
        # u^2 <= size (a + u), user by user.
        whole = sharing[users] + shared[users]
        program.add(
            "payment",
            cp.SOC(size[users] + whole, cp.vstack([2 * shared[users], whole - size[users]]), axis=0),
        )
        first, second = np.nonzero(away)
        program.add("pairs", both[first, second] <= sharing[second], both[first, second] <= sharing[first])
        # What is paid when everybody shares: implied, and a better start for tangents.
        least = _least(factor, joined)
        program.add(
            "least_variance",
            others >= least,
            shared[users] >= cp.multiply(least[users], sharing[users]),
            size[users] >= cp.multiply(least[users] ** 2 / (1 + least[users]), sharing[users]),
            others <= prior,
            all_data <= others,
        )
    if users.size < n:
        program.add("membership", sharing[np.flatnonzero(~joined)] == 0)
    weight = np.where(joined, 1.0, model.spillover)
    low = value <= weight
    leaked = program.define("leaked_information", noise * (prior - all_data))
    by_others = program.define("leaked_by_others", noise * (prior - others))
    payments = program.define("payments", cp.multiply(noise * value, size))
    profit = cp.sum(cp.multiply(np.where(low, weight - value, 0.0), leaked)) + cp.sum(
        cp.multiply(np.where(low, value, weight), by_others)
    )
    # Users outside are not paid; their value of privacy is above their weight, but they do not share.
    excess = np.where(low | ~joined, 0.0, (value - weight) / np.where(value > 0, value, 1.0))
    program.define("profit", profit - excess @ payments)
    program.maximize(program["profit"])
    return program.seal(exact=None if relaxed else ExactPurchase(model, joined), guard=refuse_loose_variances)


def relaxation_bound(model: DataExternality, joined: BoolArray, backend: str | None = None) -> float:
    """Bound the platform's profit by the program in which users may share in part (money).

    Parameters
    ----------
    model : DataExternality
    joined : array of bool, shape (n_users,)
    backend : str, optional
        That solves semidefinite programs.

    Returns
    -------
    float
        No set of users earns more, but for the accuracy of the backend.
    """
    solution = declare(model, joined, relaxed=True).solve(backend)
    bounds = [solution.objective, *([] if solution.bound is None else [solution.bound])]
    return max(bounds)


def leak_covers(
    model: DataExternality, sharing: cp.Expression, caps: ArrayLike, *, by_others: bool = False
) -> cp.Constraint:
    """Write caps on what leaks about users as linear constraints on who shares.

    What leaks rises with who shares, so that of each least set of users that leaks too much one must not
    share. There may be many such sets, which are listed.

    Parameters
    ----------
    model : DataExternality
        Of at most 14 users.
    sharing : CVXPY expression, shape (n_users,)
        Such as ``program["sharing"]``.
    caps : array, shape (n_users,), or float
        The most that may leak about each user; inf for no cap.
    by_others : bool
        Count what leaks by the data of others alone. With caps of k / v nobody's loss of privacy that is
        not paid for is above k: a floor for payoffs.

    Returns
    -------
    CVXPY constraint

    Raises
    ------
    InvalidInput
        If there are more users, or the caps are no such array.

    Examples
    --------
    >>> import mechopt as mo
    >>> model = mo.DataExternality([[1.0, 0.6, 0.2], [0.6, 1.0, 0.4], [0.2, 0.4, 1.0]], [0.5, 0.7, 3.0])
    >>> program = model.program()
    >>> _ = program.add("quiet", leak_covers(model, program["sharing"], [1.0, 1.0, 0.05]))
    >>> program.solve("exact")["sharing"].tolist()
    [1.0, 0.0, 0.0]
    """
    n = model.n_users
    limit = checks.vector(np.full(n, caps) if np.ndim(caps) == 0 else caps, "caps")
    if limit.size != n:
        raise InvalidInput(f"caps has {limit.size} entries for {n} users; give one each, or one for all")
    if np.any(np.isnan(limit) | (limit < 0)):
        user = int(np.argmax(np.isnan(limit) | (limit < 0)))
        raise InvalidInput(f"caps[{user}] = {limit[user]:g} must be >= 0, inf for no cap")
    if n > MOST_COVERED:
        raise InvalidInput(
            f"the sets of {n} users that leak too much are not listed (at most {MOST_COVERED} users)"
        )
    leaks = model.noise_variance * leak_table(model.scaled_covariance)
    masks = np.arange(2**n)[:, None]
    bits = 1 << np.arange(n)
    if by_others:
        leaks = np.take_along_axis(leaks, masks & ~bits, axis=0)
    over = np.any(leaks > limit * (1 + RANK), axis=1)
    member = (masks & bits) > 0
    smaller = over[masks & ~bits] & member
    sets = member[over & ~np.any(smaller, axis=1)].astype(float)
    if not len(sets):
        return sharing <= 1
    return sets @ sharing <= sets.sum(axis=1) - 1


def refuse_loose_variances(program: Program, what: str, term: Term | cp.Expression) -> None:
    """Guard: leaks may be declared lower, payments higher than they are, and must not be rewarded for it."""
    for name in VARIANCES:
        (inner,) = program[name].variables()
        for part in wanted(term, program.sense):
            slope = slope_in(inner, part, {})
            if slope is not None and not np.any(slope > 0):
                continue
            problem = "is not affine in" if slope is None else "would be met by raising"
            raise InvalidInput(
                f"{what} {problem} {name!r}, which need only be large enough: it wants leaks small, or "
                "payments large, which is not convex. Cap leaks by leak_covers(model, sharing, caps)"
            )


def _factor(covariance: Array) -> Array:
    """F with covariance = F F', a column for each eigenvalue that is not zero."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > RANK * values[-1]
    factor: Array = vectors[:, kept] * np.sqrt(values[kept])
    return factor


def _least(factor: Array, joined: BoolArray) -> Array:
    """Variance of each type when everybody else who joined shares."""
    least = np.empty(len(factor))
    for user, row in enumerate(factor):
        data = factor[joined & (np.arange(len(factor)) != user)]
        least[user] = row @ np.linalg.solve(np.eye(factor.shape[1]) + data.T @ data, row)
    return least


def _above(
    lead: Any, precisions: cp.Expression, factor: Array, column: Any, variance: cp.Expression, size: float
) -> cp.Constraint:
    """Variance >= column' (lead I + F' diag(precisions) F)^-1 column, as a matrix inequality of order one."""
    rank = factor.shape[1]
    inside = lead * np.eye(rank) + factor.T @ cp.diag(precisions) @ factor
    scaled = cp.reshape(column / np.sqrt(size), (rank, 1), order="F")
    corner = cp.reshape(variance / size, (1, 1), order="F")
    return cp.bmat([[inside, scaled], [scaled.T, corner]]) >> 0
