r"""Competitive equilibria: prices at which buyers want what sellers want to sell.

A graph A and prices p are an equilibrium iff every buyer's set maximises
:math:`U_j(S) - \sum_{i \in S} p_{ij}`, and the sales maximise :math:`\sum_{ij} (p_{ij} - c_{ij}) A_{ij}`.
As costs add up, the second says edge by edge that what is sold is priced at least at its cost, and what is
not sold at most at its cost; with limits on sellers, it is their best under these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.sharing_market.buyers import Purchase, best_purchase
from mechopt.formulations.sharing_market.configurations import declare_configurations
from mechopt.formulations.sharing_market.restrictions import Restrictions
from mechopt.formulations.sharing_market.rows import restrict
from mechopt.solvers.errors import InvalidInput, NotApplicable
from mechopt.solvers.program import Program

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.model import SharingMarket

Array = NDArray[np.float64]

WHOLE = 1e-6
"""How far shares of the configuration program may be from 0 and 1: what solvers leave of rounding."""


@dataclass(frozen=True)
class MarketCheck:
    """Whether a market outcome passes a check; true in conditions if it does.

    Attributes
    ----------
    holds : bool
    kind : str
        What fails: ``"demand"``, ``"supply"``, ``"coalition"`` or ``"feasibility"``; empty if nothing does.
    agent : int or None
        Who objects: the buyer or the seller; None for a coalition, or for all sellers together.
    better : tuple of int, or tuple of pairs of int, or None
        What it would rather have: the buyer's set of sellers (of queries: how many to each), the seller's
        edge (seller, buyer), all edges that sellers together would rather serve, or the coalition.
    gain : float
        By how much (money); if the check holds, the largest gain found, which is within the tolerance.
    witness : str
        The same in words and numbers.
    method : str
        ``"exact"``, or ``"program"`` for an answer that is as accurate as a solver's.
    """

    holds: bool
    kind: str
    agent: int | None
    better: tuple[int, ...] | tuple[tuple[int, int], ...] | None
    gain: float
    witness: str
    method: str = "exact"

    def __bool__(self) -> bool:
        return self.holds

    def __repr__(self) -> str:
        if self.holds:
            return f"MarketCheck(holds, largest gain {self.gain:.3g}, {self.method})"
        return f"MarketCheck(fails, {self.kind}: {self.witness}, {self.method})"


def money(market: SharingMarket, *amounts: ArrayLike) -> float:
    """Size of the money involved: the largest of own values, of costs, and of these amounts."""
    parts = (market.outside_option, market.sharing_cost, *amounts)
    return max(float(np.max(np.abs(np.asarray(part, dtype=float)), initial=0.0)) for part in parts) or 1.0


def demand(
    market: SharingMarket,
    buyer: int,
    price: Array,
    *,
    without: Sequence[int] = (),
    restrictions: Restrictions | None = None,
) -> Purchase:
    """Best purchase of one buyer at prices ``price``, shape (n_agents,), of each seller's data to it."""
    problem = market.buyer_problem(buyer, without=without, restrictions=restrictions)
    return best_purchase(replace(problem, cost=price))


# ---------------------------------------------------------------- prices


def competitive_prices(market: SharingMarket, restrictions: Restrictions | None = None) -> Array:
    """Prices at which a graph of most welfare is an equilibrium; see `SharingMarket.competitive_prices`."""
    limits = restrictions or Restrictions()
    if not limits.couplings:
        return np.array(market.sharing_cost)
    solution = declare_configurations(market, limits).solve(tolerance=1e-8)
    # Several optima: a basic one of a program that is integral may still lie between two graphs.
    adjacency = np.asarray(solution["adjacency"])
    if np.max(np.abs(adjacency - np.round(adjacency))) > WHOLE:
        best = market.solve(**_given(limits))
        gap = solution.objective - best.objective
        if gap > WHOLE * money(market, solution.objective):
            raise NotApplicable(
                f"no linear prices support a graph: under {', '.join(limits.couplings)}, shares of sets of "
                f"sellers are worth {solution.objective:.6g} and the best graph {best.objective:.6g}, "
                f"{gap:.3g} less",
                reason=f"gap {gap:.6g}",
            )
    price = np.array(solution.dual("clearing"))
    np.fill_diagonal(price, 0.0)
    return price


def _given(restrictions: Restrictions) -> dict[str, Any]:
    """Restrictions in force, by name, as `SharingMarket.solve` takes them."""
    names = (*restrictions.in_force, "privacy_loss")
    return {name: getattr(restrictions, name) for name in names}


# ---------------------------------------------------------------- the definition


def check_equilibrium(
    market: SharingMarket,
    adjacency: Array,
    price: ArrayLike,
    tolerance: float = 1e-9,
    restrictions: Restrictions | None = None,
) -> MarketCheck:
    """Check the definition of an equilibrium; see `SharingMarket.is_equilibrium`.

    Parameters
    ----------
    market : SharingMarket
    adjacency, price : array, shape (n_agents, n_agents)
        Row = seller, column = buyer; prices of sold and of unsold data (money).
    tolerance : float
        Relative to the money involved.
    restrictions : Restrictions, optional
        Buyers choose within their own limits; sellers, all together, within what couples them.
    """
    limits = restrictions or Restrictions()
    price = checks.square(price, market.n_agents, "price", "row = seller, column = buyer")
    graph = market.adjacency(adjacency).astype(bool)
    broken = {
        name: excess
        for name, excess in limits.violations(graph.astype(float), market.sharing_cost).items()
        if excess > 1e-9 * money(market)
    }
    if broken:
        name, excess = max(broken.items(), key=lambda item: item[1])
        raise InvalidInput(f"adjacency breaks {name} by {excess:.3g}; check a graph that the market allows")
    value = market.buyer_value(graph)
    scale = money(market, value, price)
    kept = value - np.sum(price, axis=0, where=graph)
    best = [demand(market, j, price[:, j], restrictions=limits) for j in range(market.n_agents)]
    regret = np.array([purchase.surplus for purchase in best]) - kept
    j = int(np.argmax(regret))
    if regret[j] > tolerance * scale:
        wanted = _members(best[j].taken)
        return MarketCheck(
            False,
            "demand",
            j,
            wanted,
            float(regret[j]),
            f"buyer {j} has {_show(_members(graph[:, j]))} and keeps {kept[j]:.6g}; {_show(wanted)} leaves "
            f"it {best[j].surplus:.6g}",
        )
    supply = _check_supply(market, graph, price, tolerance * scale, limits)
    return supply if not supply else replace(supply, gain=max(float(regret[j]), supply.gain))


def _check_supply(
    market: SharingMarket, graph: NDArray[np.bool_], price: Array, slack: float, limits: Restrictions
) -> MarketCheck:
    if limits.couplings:
        return _check_joint_supply(market, graph, price, slack, limits)
    margin = price - market.sharing_cost
    missed = np.where(graph, -margin, margin)
    np.fill_diagonal(missed, 0.0)
    if limits.forbidden is not None:
        missed[limits.forbidden] = 0.0
    i, j = (int(k) for k in np.unravel_index(int(np.argmax(missed)), missed.shape))
    if missed[i, j] <= slack:
        return MarketCheck(True, "", None, None, float(missed[i, j]), "")
    did, would = ("sells", "would rather not") if graph[i, j] else ("does not sell", "would like to")
    return MarketCheck(
        False,
        "supply",
        i,
        (i, j),
        float(missed[i, j]),
        f"seller {i} {did} to {j} at {price[i, j]:.6g}, and its cost is {market.sharing_cost[i, j]:.6g}: it "
        f"{would}",
    )


def supply_program(market: SharingMarket, price: ArrayLike, restrictions: Restrictions) -> Program:
    """Declare what sellers together would best sell at these prices, within what couples them.

    Returns
    -------
    Program
        With the boolean variable ``adjacency``, expression ``profit``, and a family for each restriction that
        is not a buyer's own.
    """
    price = checks.square(price, market.n_agents, "price", "row = seller, column = buyer")
    n_agents = market.n_agents
    margin = price - market.sharing_cost
    program = Program("supply", objective_scale=float(np.max(np.abs(margin))) or 1.0)
    adjacency = program.variable("adjacency", (n_agents, n_agents), boolean=True)
    program.add("no_self_sharing", cp.diag(adjacency) == 0)
    kept = {name: getattr(restrictions, name) for name in restrictions.couplings}
    coupling = Restrictions(**kept, forbidden=restrictions.forbidden, privacy_loss=restrictions.privacy_loss)
    once = restrict(program, coupling, adjacency, market.sharing_cost)
    profit = cp.sum(cp.multiply(margin, adjacency)) - cp.sum(once)
    program.maximize(program.define("profit", profit))
    return program.seal()


def _check_joint_supply(
    market: SharingMarket, graph: NDArray[np.bool_], price: Array, slack: float, limits: Restrictions
) -> MarketCheck:
    def profit(sold: NDArray[np.bool_]) -> float:
        once = 0.0 if limits.upload_cost is None else float(limits.upload_cost[sold.any(axis=1)].sum())
        return float(np.sum(price - market.sharing_cost, where=sold)) - once

    wanted = np.asarray(supply_program(market, price, limits).solve()["adjacency"]) > 0.5
    missed = profit(wanted) - profit(graph)
    if missed <= slack:
        return MarketCheck(True, "", None, None, missed, "", "program")
    edges = tuple((int(i), int(j)) for i, j in np.argwhere(wanted))
    return MarketCheck(
        False,
        "supply",
        None,
        edges,
        missed,
        f"sellers earn {profit(graph):.6g} above cost; serving {list(edges)} would earn them "
        f"{profit(wanted):.6g}",
        "program",
    )


def _members(taken: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(agent) for agent in np.flatnonzero(taken))


def _show(members: Sequence[int]) -> str:
    return "{" + ", ".join(map(str, members)) + "}"
