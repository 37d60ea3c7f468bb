"""The families of constraints by which restrictions enter a declared program."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.sharing_market.restrictions import Restrictions
from mechopt.solvers.program import Program

Array = NDArray[np.float64]


def restrict(
    program: Program, restrictions: Restrictions, adjacency: cp.Expression, sharing_cost: Array
) -> cp.Expression | float:
    """Add a family for each restriction in force, under its name.

    Parameters
    ----------
    program : Program
        Gets the variables ``uploads`` and ``broadcasts`` if there is an upload cost, or broadcast.
    restrictions : Restrictions
    adjacency : CVXPY expression, shape (n_agents, n_agents)
        Edges (seller, buyer), or shares of them.
    sharing_cost : array, shape (n_agents, n_agents)
        For ``buyer_budget`` (money).

    Returns
    -------
    CVXPY expression of shape (n_agents,), or 0
        One-time costs that each seller bears (money).
    """
    n_agents = len(sharing_cost)
    if restrictions.forbidden is not None:
        sellers, buyers = np.nonzero(restrictions.forbidden & ~np.eye(n_agents, dtype=bool))
        if sellers.size:
            program.add("forbidden", adjacency[sellers, buyers] == 0)
    losses = restrictions.losses(n_agents)
    for name, weight, axis in (
        ("buyer_cap", None, 0),
        ("buyer_budget", sharing_cost, 0),
        ("seller_cap", None, 1),
        ("privacy_budget", losses, 1),
    ):
        limit = getattr(restrictions, name)
        if limit is None:
            continue
        used = cp.sum(adjacency if weight is None else cp.multiply(weight, adjacency), axis=axis)
        finite = np.flatnonzero(np.isfinite(limit))
        if finite.size == n_agents:
            program.add(name, used <= limit)
        elif finite.size:
            program.add(name, used[finite] <= limit[finite])
    if restrictions.platform_cap is not None:
        program.add("platform_cap", cp.sum(adjacency) <= restrictions.platform_cap)
    if restrictions.platform_privacy_budget is not None:
        program.add(
            "platform_privacy_budget",
            cp.sum(cp.multiply(losses, adjacency)) <= restrictions.platform_privacy_budget,
        )
    if restrictions.reciprocity and n_agents > 1:
        above = np.triu_indices(n_agents, 1)
        program.add("reciprocity", adjacency[above] == adjacency[above[::-1]])
    return _tie_sellers(program, restrictions, adjacency)


def _tie_sellers(
    program: Program, restrictions: Restrictions, adjacency: cp.Expression
) -> cp.Expression | float:
    """Restrictions on all edges of a seller at once, through one variable a seller.

    The variables are continuous: at whole edges their best values are 0 or 1.
    """
    n_agents = adjacency.shape[0]
    allowed = ~np.eye(n_agents, dtype=bool)
    if restrictions.forbidden is not None:
        allowed &= ~restrictions.forbidden
    sellers, buyers = np.nonzero(allowed)
    if restrictions.broadcast and sellers.size:
        broadcasts = program.variable("broadcasts", n_agents, bounds=[0.0, 1.0])
        program.add("broadcast", adjacency[sellers, buyers] == broadcasts[sellers])
    if restrictions.upload_cost is None:
        return 0.0
    uploads = program.variable("uploads", n_agents, bounds=[0.0, 1.0])
    if sellers.size:
        program.add("upload_cost", adjacency[sellers, buyers] <= uploads[sellers])
    return cp.multiply(restrictions.upload_cost, uploads)


def seller_values(restrictions: Restrictions, adjacency: Array) -> dict[str, Array]:
    """Values of the variables that `restrict` adds, at a sharing graph."""
    sells = adjacency.max(axis=1, initial=0.0)
    values = {}
    if restrictions.broadcast:
        values["broadcasts"] = sells
    if restrictions.upload_cost is not None:
        values["uploads"] = sells
    return values
