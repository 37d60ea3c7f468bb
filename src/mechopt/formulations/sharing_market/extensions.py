r"""Markets with more constraints: most are one line on ``program["adjacency"]``.

Rows of the adjacency are sellers, columns buyers. `Restrictions` has the common limits by name; what follows
writes them, and others, by hand.

Examples
--------
Five agents, of whom the first two are rivals:

>>> import cvxpy as cp
>>> from mechopt.formulations.functions import AdditiveUtility, LogUtility
>>> from mechopt.formulations.sharing_market.model import SharingMarket
>>> rng = np.random.default_rng(1)
>>> sharing_cost = rng.uniform(0.5, 1.5, (5, 5)) * (1 - np.eye(5))
>>> market = SharingMarket([4.0, 3.0, 2.0, 2.0, 1.0], sharing_cost, LogUtility(6.0, 1.0))
>>> free = market.solve().objective

**Forbidden edges; a cap and a budget of one buyer.** They couple nobody, and the exact algorithm reads them:

>>> program = market.program()
>>> edges = program["adjacency"]
>>> _ = program.add("rivals", edges[0, 1] == 0, edges[1, 0] == 0)
>>> _ = program.add("cap", cp.sum(edges[:, 4]) <= 2)
>>> _ = program.add("budget", sharing_cost[:, 3] @ edges[:, 3] <= 2.0)
>>> solution = program.solve()
>>> solution.backend, solution.objective < free
('exact', True)

**Caps of sellers, privacy budgets, caps of the platform** couple buyers, and the solver changes by itself:

>>> solution = program.add("busy", cp.sum(edges[0, :]) <= 2).solve()
>>> solution.backend, float(solution["adjacency"][0].sum())
('outer', 2.0)
>>> privacy_loss = rng.uniform(0.5, 1.5, (5, 5))
>>> spent = cp.sum(cp.multiply(privacy_loss, edges), axis=1)
>>> solution = program.add("privacy", spent <= 2.0).add("platform", cp.sum(edges) <= 7).solve()
>>> bool(np.all((privacy_loss * solution["adjacency"]).sum(axis=1) <= 2))
True

**Reciprocity**, strict or but for two edges that are not returned:

>>> program = market.program()
>>> edges = program["adjacency"]
>>> nearly = program.add("reciprocity", cp.sum(cp.abs(edges - edges.T)) / 2 <= 2).solve()
>>> strict = market.solve(reciprocity=True)
>>> strict.objective <= nearly.objective <= free
True

**A one-time upload cost** of sellers who sell at all (a facility location problem), by name or by hand:

>>> program = market.program()
>>> edges = program["adjacency"]
>>> _ = program.maximize(program["welfare"] - 2.0 * cp.sum(cp.max(edges, axis=1)))
>>> abs(program.solve().objective - market.solve(upload_cost=2.0).objective) < 1e-8
True

**Downstream competition.** ``harm[k, j]`` is what k loses for each batch of data that its rival j buys:

>>> harm = np.zeros((5, 5))
>>> harm[0, 1] = harm[1, 0] = 0.9
>>> program = market.program()
>>> lost = cp.sum(harm @ cp.sum(program["adjacency"], axis=0))
>>> solution = program.maximize(program["welfare"] - lost).solve()
>>> bought = market.solve()["adjacency"][:, :2].sum()
>>> bool(0 < free - solution.objective <= 0.9 * bought), bool(solution["adjacency"][:, :2].sum() < bought)
(True, True)

**Fairness**: the largest smallest value (without transfers), or a floor under all:

>>> program = market.program()
>>> fairest = program.maximize(cp.min(program["allocation_value"])).solve()["allocation_value"].min()
>>> program = market.program()
>>> floor = 0.98 * fairest
>>> solution = program.add("floor", program["allocation_value"] >= floor).solve()
>>> solution.objective < free, bool(solution["allocation_value"].min() >= floor)
(True, True)

or no envy: no agent would rather have what another one has bought. With additive utilities that is linear;
``worth[i, j]`` is what data of i is worth to j:

>>> worth = rng.uniform(0.0, 3.0, (5, 5)) * (1 - np.eye(5))
>>> program = SharingMarket(market.data_size, sharing_cost, [AdditiveUtility(v) for v in worth.T]).program()
>>> bundles = worth.T @ program["adjacency"]  # what the bundle of the column's agent is worth to the row's
>>> before = program.solve()["adjacency"]
>>> after = program.add("envy", bundles - program["utility"][:, None] @ np.ones((1, 5)) <= 1.0).solve()
>>> envy = lambda graph: (worth.T @ graph - np.diag(worth.T @ graph)[:, None]).max()
>>> bool(envy(before) > 1), bool(envy(after["adjacency"]) <= 1 + 1e-9)
(True, True)

**Coverage**: at least two of the data of agents 1, 2 and 3 for the last one:

>>> program = market.program()
>>> solution = program.add("coverage", cp.sum(program["adjacency"][[1, 2, 3], 4]) >= 2).solve()
>>> bool(solution["adjacency"][1:4, 4].sum() >= 2)
True

**Shares of data** instead of all or nothing: a convex program, whose shadow prices are prices of data:

>>> from mechopt.formulations.sharing_market.program import declare
>>> from mechopt.formulations.sharing_market.restrictions import Restrictions
>>> program = declare(market, Restrictions.of(5, {"seller_cap": 2}), fractional=True)
>>> solution = program.solve("clarabel", tolerance=1e-7)
>>> price = sharing_cost + solution.dual("seller_cap")[:, None]
>>> solution.objective >= market.solve(seller_cap=2).objective
True

**Prices of a given graph** under which nobody loses and the intermediary has no deficit: `declare_payments`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np

from mechopt.solvers.program import Program

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.model import SharingMarket


def declare_payments(market: SharingMarket, graph: Any) -> Program:
    r"""Declare what buyers pay and sellers receive in a given sharing graph, as a linear program.

    .. math:: \max \min_i (V_i - t_i - V_i^0) \quad \text{s.t.} \quad V_i - t_i \ge V_i^0, \quad
       \sum_i t_i \ge 0, \quad t_i = \sum_j p_{ji} A_{ji} - \sum_j r_{ij} A_{ij},

    where :math:`V_i` is the value of the graph to agent i, net of its costs, and :math:`V_i^0` that of its
    own data: every agent takes part of its own accord, and the intermediary pays out no more than it takes
    in. As declared it divides the gains as evenly as can be; set another objective for others.

    Parameters
    ----------
    market : SharingMarket
    graph : array, shape (n_agents, n_agents), or a solution
        Edges (seller, buyer).

    Returns
    -------
    Program
        Variables ``price`` (what buyer j pays for the data of i) and ``reward`` (what seller i gets for it),
        both >= 0 and of shape (n_agents, n_agents); expressions ``payment`` t, > 0: paid by the agent, and
        ``payoff`` V - t; families ``unsold``, ``ir`` and ``no_deficit``.

    Examples
    --------
    >>> from mechopt.formulations.functions import LogUtility
    >>> from mechopt.formulations.sharing_market.model import SharingMarket
    >>> market = SharingMarket([4.0, 2.0, 1.0], 1 - np.eye(3), LogUtility(6.0, 1.0))
    >>> graph = market.solve()
    >>> solution = declare_payments(market, graph).solve("highspy")
    >>> (solution["payoff"] - market.outside_option).round(6).tolist()
    [3.806796, 3.806796, 3.806796]
    >>> program = declare_payments(market, graph)
    >>> revenue = cp.sum(program["payment"])
    >>> round(program.maximize(revenue).solve("highspy").objective, 6)
    11.420387
    """
    edges = market.adjacency(graph)
    n_agents = market.n_agents
    value = market.allocation_value(edges)
    size = float(np.mean(np.abs(market.buyer_value(edges) - market.outside_option))) or 1.0
    program = Program("payments of a sharing graph", objective_scale=size)
    price = program.variable("price", (n_agents, n_agents), nonneg=True, scale=size)
    reward = program.variable("reward", (n_agents, n_agents), nonneg=True, scale=size)
    sellers, buyers = np.nonzero(edges == 0)
    program.add("unsold", price[sellers, buyers] == 0, reward[sellers, buyers] == 0)
    payment = program.define("payment", cp.sum(price, axis=0) - cp.sum(reward, axis=1))
    payoff = program.define("payoff", value - payment)
    program.add("ir", payoff >= market.outside_option)
    program.add("no_deficit", cp.sum(payment) >= 0)
    program.maximize(cp.min(payoff - market.outside_option))
    return program.seal()
