r"""The configuration linear program: shares of sets of sellers, and prices of edges as its duals.

.. math:: \max \sum_{j, S} U_j(S) x_{jS} - \sum_{ij} c_{ij} A_{ij} \quad \text{s.t.} \quad
   \sum_S x_{jS} = 1, \quad \sum_{S \ni i} x_{jS} = A_{ij}, \quad x, A \ge 0,

and the restrictions' rows on A. The second family, ``clearing``, says that what a buyer's sets contain is
sold to it; its shadow price is the price :math:`p_{ij}`. By duality no buyer gains by another set at these
prices, and no seller by other sales, so that an integral optimum and the prices are an equilibrium. Without
couplings there is always one. With them the program may be better than any graph; then no prices exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cvxpy as cp
import numpy as np

from mechopt.formulations.sharing_market.guards import Guarded
from mechopt.formulations.sharing_market.restrictions import Restrictions
from mechopt.formulations.sharing_market.rows import restrict
from mechopt.formulations.sharing_market.sets import Sets, all_sets
from mechopt.solvers.program import Program

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.model import SharingMarket


def declare_configurations(market: SharingMarket, restrictions: Restrictions) -> Program:
    """Declare the configuration linear program; see `SharingMarket.configuration_program`.

    Returns
    -------
    Program
        Variables ``share`` (of each set, in the order of ``sets(market, restrictions)``) and ``adjacency``
        (row = seller, column = buyer); families ``one_set`` (its price: each buyer's surplus), ``clearing``
        (prices of edges), and one for each restriction that is not a buyer's own; those of buyers leave out
        sets.

    Raises
    ------
    NotApplicable
        If there are too many sets of sellers.

    Examples
    --------
    Two buyers want the data of the one seller that has any to speak of, who may sell once:

    >>> from mechopt.formulations.functions import LinearUtility
    >>> from mechopt.formulations.sharing_market.model import SharingMarket
    >>> market = SharingMarket(
    ...     [10.0, 1.0, 1.0], 12 * (np.ones((3, 3)) - np.eye(3)), [LinearUtility(a) for a in (1.0, 3.0, 2.0)]
    ... )
    >>> solution = declare_configurations(market, Restrictions.of(3, {"seller_cap": 1})).solve("highspy")
    >>> solution["adjacency"][0].tolist(), bool(20 <= solution.dual("clearing")[0, 1] <= 30)
    ([0.0, 1.0, 0.0], True)
    """
    n_agents = market.n_agents
    columns = sets(market, restrictions)
    everything = np.abs(columns.by_buyer(np.arange(n_agents)).multiply(columns.value)).max(axis=1)
    program = Program("configurations", objective_scale=float(everything.toarray().mean()) or 1.0)
    share = program.variable("share", columns.buyer.size, nonneg=True)
    adjacency = program.variable("adjacency", (n_agents, n_agents), nonneg=True)
    inside = cp.reshape(columns.by_edge(n_agents) @ share, (n_agents, n_agents), order="F")
    program.add("one_set", columns.by_buyer(np.arange(n_agents)) @ share == 1)
    # Relaxed, it lets buyers have what nobody sells: its price is what that is worth.
    program.add("clearing", inside - adjacency == 0)
    once = restrict(program, _coupling_part(restrictions), adjacency, market.sharing_cost)
    cost = program.define("cost", cp.sum(cp.multiply(market.sharing_cost, adjacency), axis=1) + once)
    program.maximize(program.define("welfare", columns.value @ share - cp.sum(cost)))
    return program.seal(guard=Guarded(smaller=("uploads",)))


def sets(market: SharingMarket, restrictions: Restrictions) -> Sets:
    """Sets of sellers that each buyer may take: those left by forbidden edges, its cap and its budget."""
    n_agents = market.n_agents
    available = np.ones((n_agents, n_agents), dtype=bool)
    if restrictions.forbidden is not None:
        available &= ~restrictions.forbidden
    found = all_sets(market, available, range(n_agents))
    kept = np.ones(found.buyer.size, dtype=bool)
    if restrictions.buyer_cap is not None:
        kept &= found.taken.sum(axis=1) <= restrictions.buyer_cap[found.buyer]
    if restrictions.buyer_budget is not None:
        spent = np.sum(found.taken * market.sharing_cost.T[found.buyer], axis=1)
        largest = float(np.max(market.sharing_cost, initial=0.0))
        kept &= spent <= restrictions.buyer_budget[found.buyer] + 1e-12 * largest
    return Sets(found.buyer[kept], found.taken[kept], found.value[kept])


def _coupling_part(restrictions: Restrictions) -> Restrictions:
    """Restrictions that sets of one buyer cannot express."""
    kept = {name: getattr(restrictions, name) for name in restrictions.couplings}
    return Restrictions(**kept, forbidden=restrictions.forbidden, privacy_loss=restrictions.privacy_loss)
