"""The platform's optimum: who shares for sure, then enumeration or branch and bound over the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mechopt.formulations.data_externality.exact.branch_and_bound import branch_and_bound
from mechopt.formulations.data_externality.exact.enumeration import enumerate_sets
from mechopt.formulations.data_externality.exact.problem import (
    MOST_TIES,
    Array,
    BoolArray,
    Incumbents,
    Purchase,
    preference,
)
from mechopt.formulations.data_externality.leakage import leaked_information
from mechopt.solvers.errors import Infeasible, InvalidInput, SolverFailure

Method = Literal["enumeration", "branch_and_bound"]

ENUMERATED = 14
"""Undecided users up to which all sets are written down by default."""

MOST_ENUMERATED = 26
"""Undecided users up to which all sets may be asked for."""


@dataclass(frozen=True, eq=False)
class PlatformOptimum:
    """Whose data a platform buys.

    Attributes
    ----------
    sharing : array of bool, shape (n_users,)
        A set of most profit; of several the largest, and of several largest the one with the users of lowest
        number, so that it depends on who joined alone.
    profit : float
        At the least prices that make sharing an equilibrium (units of noise variance x money).
    bound : float
        What no set beats: the profit, unless a limit stopped the search.
    ties : array of bool, shape (n_ties, n_users)
        All sets within 1e-10 of that profit (relative to the most that can leak), ``sharing`` first.
    ties_complete : bool
        Whether these are all: there may be too many to keep, or a limit stopped the search.
    method : {"low_value", "enumeration", "branch_and_bound"}
        ``"low_value"`` if nobody was left to decide on.
    n_nodes : int
        Sets, or nodes of the search tree, that were looked at.
    proved : bool
        Whether the profit is the most there is.
    """

    sharing: BoolArray
    profit: float
    bound: float
    ties: BoolArray
    ties_complete: bool
    method: str
    n_nodes: int
    proved: bool

    def __repr__(self) -> str:
        users = np.flatnonzero(self.sharing).tolist()
        told = f"profit {self.profit:.6g}" + ("" if self.proved else f" (at most {self.bound:.6g})")
        return f"PlatformOptimum(users {users} share, {told}, {self.method}, {self.n_nodes} nodes)"


def platform_optimum(
    covariance: Array,
    value: Array,
    joined: BoolArray | None = None,
    spillover: float = 0.0,
    *,
    tax: Array | None = None,
    at_most: int | None = None,
    required: BoolArray | None = None,
    barred: BoolArray | None = None,
    rows: tuple[Array, Array] | None = None,
    method: Method | None = None,
    node_limit: int | None = None,
    time_limit: float | None = None,
) -> PlatformOptimum:
    r"""Find the sets of users from whom a platform buys: eq. (3) and (4), all of :math:`a^E`.

    .. math:: f(A) = \sum_{i \in J} I_i(A) + \alpha \sum_{i \notin J} I_i(A)
              - \sum_{i \in A} \big[v_i (I_i(A) - I_i(A \setminus i)) + \tau_i\big]

    Users with a value of privacy of at most 1 who are not taxed share in an optimum: they raise what leaks
    about everybody and lower everybody else's price. Users of higher value who are correlated with nobody
    share in none.

    Parameters
    ----------
    covariance : array, shape (n_users, n_users)
        In units of the noise.
    value : array, shape (n_users,)
        Values of privacy, >= 0.
    joined : array of bool, shape (n_users,), optional
        Users of the platform, J; the others cannot share. All by default.
    spillover : float
        Weight of information about others, in [0, 1].
    tax : array, shape (n_users,), optional
        What the platform pays to others for each user who shares, >= 0 (units of noise variance x money).
    at_most : int, optional
        How many may share.
    required, barred : array of bool, shape (n_users,), optional
        Users who share at any rate, and who do not.
    rows : pair of arrays, shapes (n_rows, n_users) and (n_rows,), optional
        G and g of further limits ``G @ sharing <= g``.
    method : {"enumeration", "branch_and_bound"}, optional
        By default enumeration, and branch and bound for more than 14 users to decide on.
    node_limit, time_limit : optional
        Nodes and seconds after which branch and bound stops, with what it has found and the bound it has.

    Returns
    -------
    PlatformOptimum

    Raises
    ------
    InvalidInput
        If enumeration is asked for of more than 26 users.
    Infeasible
        If the limits exclude every set.
    SolverFailure
        If a limit stops the search before it has a set.

    References
    ----------
    Pal et al., Theorem 1, eq. (3) and (4); with spillover Theorem 5.

    Examples
    --------
    >>> covariance = np.array([[1.0, 0.8, 0.3], [0.8, 1.0, 0.5], [0.3, 0.5, 1.0]])
    >>> platform_optimum(covariance, np.array([0.5, 0.7, 1.2]))
    PlatformOptimum(users [0, 1] share, profit 0.991143, enumeration, 2 nodes)
    """
    if method not in (None, "enumeration", "branch_and_bound"):
        raise InvalidInput(f"method must be 'enumeration' or 'branch_and_bound', got {method!r}")
    problem = _pose(covariance, value, joined, spillover, tax, at_most, required, barred, rows)
    found = Incumbents(problem)
    n_free = problem.free.size
    if method is None:
        method = "enumeration" if n_free <= ENUMERATED else "branch_and_bound"
    bound, told = -np.inf, str(method)
    if method == "enumeration" or n_free == 0:
        if n_free > MOST_ENUMERATED:
            raise InvalidInput(
                f"{n_free} users are to be decided on, and 2^{n_free} sets are too many to write down (at "
                f"most 2^{MOST_ENUMERATED}); use method='branch_and_bound'"
            )
        n_nodes = enumerate_sets(problem, found, problem.required, problem.free)
        told = "enumeration" if n_free else "low_value"
    else:
        n_nodes, bound = branch_and_bound(problem, found, node_limit, time_limit)
    if not found.sets:
        if bound > -np.inf:
            raise SolverFailure(f"no set was found in {n_nodes} nodes; allow more nodes, or more time")
        raise Infeasible("the limits on who shares exclude every set of users; relax one")
    ties, complete = _all_ties(problem, found, required)
    profit = float(problem.profit(ties[0]))
    proved = bound <= found.best
    return PlatformOptimum(
        sharing=ties[0],
        profit=profit,
        bound=profit if proved else bound,
        ties=ties,
        ties_complete=complete and proved,
        method=told,
        n_nodes=n_nodes,
        proved=proved,
    )


def _pose(
    covariance: Array,
    value: Array,
    joined: BoolArray | None,
    spillover: float,
    tax: Array | None,
    at_most: int | None,
    required: BoolArray | None,
    barred: BoolArray | None,
    rows: tuple[Array, Array] | None,
) -> Purchase:
    """Fix who shares for sure, and order the others."""
    n_users = len(covariance)
    joined = np.ones(n_users, dtype=bool) if joined is None else joined
    may = joined if barred is None else joined & ~barred
    must = np.zeros(n_users, dtype=bool) if required is None else required
    if np.any(must & ~may):
        user = int(np.argmax(must & ~may))
        raise Infeasible(f"required[{user}]: user {user} did not join, or is barred, and cannot share")
    limit = n_users if at_most is None else at_most
    rate = np.zeros(n_users) if tax is None else tax
    weight = np.where(joined, 1.0, spillover)
    # Limits make users of low value rivals: then nobody is sure to share.
    if limit >= may.sum() and rows is None:
        must = must | (may & (value <= 1) & (rate == 0))
    # A user who tells nothing of anybody else is bought below its worth only, unless a limit asks for it.
    linked = (rows is not None) | np.any(
        (covariance != 0) & ~np.eye(n_users, dtype=bool) & (weight > 0), axis=1
    )
    free = np.flatnonzero(may & ~must & ((value <= 1) | linked))
    own = value * np.diag(covariance) ** 2 / (1 + np.diag(covariance))
    wanted = (covariance[free] ** 2 @ weight) / (1 + np.diag(covariance)[free]) - own[free] - rate[free]
    order = np.argsort(-wanted, kind="stable")
    matrix, limits = (np.zeros((0, n_users)), np.zeros(0)) if rows is None else rows
    return Purchase(covariance, value, weight, rate, must, free[order], limit, matrix, limits)


def _all_ties(problem: Purchase, found: Incumbents, required: BoolArray | None) -> tuple[BoolArray, bool]:
    """Add the ties without some users of low value to those with all of them.

    From any best set users of low value lead to one that holds them all, each step a tie; so the way back,
    one user at a time, finds every one.
    """
    fixed = np.zeros(problem.n_users, dtype=bool) if required is None else required
    ties = {sharing.tobytes(): sharing for sharing in found.sets}
    complete, stack = found.complete, list(ties.values())
    optional = problem.required & ~fixed
    while stack:
        sharing = stack.pop()
        for user in np.flatnonzero(optional & sharing):
            if _loss_without(problem, sharing, int(user)) > problem.tie:
                continue
            fewer = sharing.copy()
            fewer[user] = False
            if fewer.tobytes() in ties or problem.profit(fewer) < found.best - problem.tie:
                continue
            if len(ties) >= MOST_TIES:
                complete = False
                break
            ties[fewer.tobytes()] = fewer
            stack.append(fewer)
    return np.array(sorted(ties.values(), key=preference)), complete


def _loss_without(problem: Purchase, sharing: BoolArray, user: int) -> float:
    """Least that is lost when a user of low value stops sharing: own leak at less than it is worth."""
    before = leaked_information(problem.covariance, sharing)[user]
    fewer = sharing.copy()
    fewer[user] = False
    own = before - leaked_information(problem.covariance, fewer)[user]
    return float((problem.weight[user] - problem.value[user]) * own)
