r"""The core: no coalition could have more by trading among its members alone.

A coalition T is worth :math:`v(T) = \sum_{j \in T} \pi_j(T)`, where :math:`\pi_j(T)` is the most that buyer j
can keep of sets of sellers in T, who are paid their costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.sharing_market.buyers import best_purchase
from mechopt.formulations.sharing_market.prices.equilibrium import MarketCheck, money
from mechopt.formulations.sharing_market.restrictions import Restrictions
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Program

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.model import SharingMarket

Array = NDArray[np.float64]

ALL_COALITIONS = 16
"""Agents up to which every coalition is looked at."""


def coalition_values(market: SharingMarket) -> Array:
    """Worth of every coalition (money), shape (2 ** n_agents,); entry T has bit i set if i is in it.

    Raises
    ------
    InvalidInput
        Beyond `ALL_COALITIONS` agents.
    """
    n_agents = market.n_agents
    if n_agents > ALL_COALITIONS:
        raise InvalidInput(
            f"{n_agents} agents have 2^{n_agents} coalitions; all are listed up to {ALL_COALITIONS} agents: "
            "use check_core, which solves a program instead"
        )
    coalitions = np.arange(2**n_agents)
    inside = ((coalitions[:, np.newaxis] >> np.arange(n_agents)) & 1).astype(bool)
    worth = np.zeros(coalitions.size)
    for buyer in range(n_agents):
        apart = ~inside[:, buyer]
        kept = np.full(coalitions.size, -np.inf)
        sets = inside[apart]
        kept[apart] = market.value_of_sets(buyer, sets) - sets @ market.sharing_cost[:, buyer]
        # The best of all subsets: seller by seller, with it or without.
        for seller in range(n_agents):
            if seller != buyer:
                halves = kept.reshape(-1, 2, 2**seller)
                np.maximum(halves[:, 1], halves[:, 0], out=halves[:, 1])
        member = np.flatnonzero(~apart)
        worth[member] += kept[member ^ (1 << buyer)]
    return worth


def check_core(
    market: SharingMarket, payoff: ArrayLike, tolerance: float = 1e-9, *, backend: str | None = None
) -> MarketCheck:
    """Check whether a payoff is in the core; see `SharingMarket.in_core`.

    Up to `ALL_COALITIONS` agents all coalitions are looked at; beyond, or with a ``backend``, a program finds
    the one that gains most, and the answer is as accurate as the solver's (1e-6 as a rule).

    Examples
    --------
    Each agent's data costs 1, and is worth 3 to the other:

    >>> from mechopt.formulations.functions import LinearUtility
    >>> from mechopt.formulations.sharing_market.model import SharingMarket
    >>> market = SharingMarket([1.0, 1.0], [[0, 1], [1, 0]], LinearUtility(3.0))
    >>> bool(check_core(market, [5.0, 5.0])), check_core(market, [2.0, 8.0]).better
    (True, (0,))
    """
    paid = checks.vector(payoff, "payoff")
    if paid.size != market.n_agents:
        raise InvalidInput(f"payoff has {paid.size} entries for {market.n_agents} agents; give one each")
    checks.all_finite(paid, "payoff")
    listed = market.n_agents <= ALL_COALITIONS and backend is None
    scale = money(market, paid)
    if listed:
        worth = coalition_values(market)
        shares = ((np.arange(worth.size)[:, np.newaxis] >> np.arange(market.n_agents)) & 1) @ paid
        excess, total = worth - shares, float(worth[-1])
        best = int(np.argmax(excess))
        members = np.array([best >> agent & 1 for agent in range(market.n_agents)], dtype=bool)
    else:
        total = _worth(market, np.ones(market.n_agents, dtype=bool))
        solution = declare_blocking(market, paid).solve(backend)
        members = np.asarray(solution["member"]) > 0.5
    method = "exact" if listed else "program"
    surplus = float(paid.sum()) - total
    if surplus > tolerance * scale * market.n_agents:
        return MarketCheck(
            False,
            "feasibility",
            None,
            tuple(range(market.n_agents)),
            surplus,
            f"payoffs add up to {paid.sum():.6g}, and there is only {total:.6g}",
            method,
        )
    gain = _worth(market, members) - float(paid[members].sum())
    if gain <= tolerance * scale:
        return MarketCheck(True, "", None, None, gain, "", method)
    coalition = tuple(int(agent) for agent in np.flatnonzero(members))
    return MarketCheck(
        False,
        "coalition",
        None,
        coalition,
        gain,
        f"{{{', '.join(map(str, coalition))}}} has {paid[members].sum():.6g}, and would have "
        f"{_worth(market, members):.6g} by trading among itself",
        method,
    )


def _worth(market: SharingMarket, members: NDArray[np.bool_]) -> float:
    """Worth of one coalition, by its buyers' own problems."""
    outside = np.flatnonzero(~members)
    return sum(
        best_purchase(market.buyer_problem(int(buyer), without=outside)).surplus
        for buyer in np.flatnonzero(members)
    )


def declare_blocking(market: SharingMarket, payoff: ArrayLike) -> Program:
    r"""Declare the search for the coalition that gains most over a payoff.

    .. math:: \max_{z, A} \sum_j U_j(A_{\cdot j}) - \sum_{ij} c_{ij} A_{ij}
       - \sum_j (1 - z_j) U_j(\emptyset) - \sum_j x_j z_j
       \quad \text{s.t.} \quad A_{ij} \le z_i, \; A_{ij} \le z_j, \quad z \in \{0, 1\}^N.

    Returns
    -------
    Program
        That of the market, with the boolean variable ``member``, expression ``excess``, and families
        ``sells_inside`` and ``buys_inside``. The payoff is in the core iff the optimum is 0 and no more than
        everything is handed out.
    """
    from mechopt.formulations.sharing_market.program import declare

    paid = checks.vector(payoff, "payoff")
    program = declare(market, Restrictions())
    member = program.variable("member", market.n_agents, boolean=True)
    adjacency = program["adjacency"]
    ones = np.ones((1, market.n_agents))
    program.add("sells_inside", adjacency <= cp.reshape(member, (market.n_agents, 1), order="C") @ ones)
    program.add("buys_inside", adjacency <= ones.T @ cp.reshape(member, (1, market.n_agents), order="C"))
    left_out = market.outside_option @ (1 - member)
    excess = program.define("excess", program["welfare"] - left_out - paid @ member)
    program.maximize(excess)
    return program.seal()
