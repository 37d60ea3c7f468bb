r"""How far prices may move: one edge at a time in closed form, all edges of a buyer as a linear program.

With all other prices at cost, the price of an edge m -> j that is sold may rise from its cost until the buyer
does as well without m; if it is not sold, it may fall from its cost until the buyer does as well with m:

.. math:: \bigl[ c_{mj}, \; c_{mj} + \pi_j - \pi_j^{-m} \bigr], \qquad
   \bigl[ c_{mj} - (\pi_j - \pi_j^{+m}), \; c_{mj} \bigr],

where :math:`\pi_j^{-m}` and :math:`\pi_j^{+m}` are the most that j keeps of sets without and with m. Several
prices at once are held by more than these intervals: the buyer must like its set better than every other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.sharing_market.buyers import best_purchase
from mechopt.formulations.sharing_market.prices.equilibrium import demand, money
from mechopt.formulations.sharing_market.sets import all_sets
from mechopt.solvers.errors import InvalidInput, SolverFailure
from mechopt.solvers.program import Program

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.model import SharingMarket

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


# ---------------------------------------------------------------- one edge


def price_interval(market: SharingMarket, seller: int, buyer: int) -> tuple[float, float]:
    """Prices of one edge that keep the equilibrium; see `SharingMarket.price_interval`.

    Both ends are finite, and both are equilibrium prices: there the buyer is indifferent, or the seller is.
    The lower end of an edge that is not sold is negative if the buyer would have to be paid to take the data.

    Examples
    --------
    Data that costs 5 to share, and is worth 3, is not sold at any price from 3 to 5; where it costs 2, it is:

    >>> from mechopt.formulations.functions import LinearUtility
    >>> from mechopt.formulations.sharing_market.model import SharingMarket
    >>> market = SharingMarket([1.0, 1.0], [[0, 5], [2, 0]], LinearUtility(3.0))
    >>> price_interval(market, seller=0, buyer=1), price_interval(market, seller=1, buyer=0)
    ((3.0, 5.0), (2.0, 3.0))
    """
    _check_edge(market, seller, buyer)
    cost = float(market.sharing_cost[seller, buyer])
    best = best_purchase(market.buyer_problem(buyer))
    if best.taken[seller]:
        without = best_purchase(market.buyer_problem(buyer, without=[seller]))
        return cost, cost + max(best.surplus - without.surplus, 0.0)
    return cost - max(best.surplus - _most_with(market, seller, buyer, best.surplus), 0.0), cost


def _most_with(market: SharingMarket, seller: int, buyer: int, most: float) -> float:
    """The most that the buyer keeps of sets with this seller, at cost."""
    price = market.sharing_cost[:, buyer]
    alone = np.zeros(market.n_agents, dtype=bool)
    alone[seller] = True
    kept = float(market.value_of_sets(buyer, alone)) - price[seller]
    # At this price the set {seller} alone is better than every set without it.
    bait = price.copy()
    bait[seller] -= (most - kept) + money(market, most)
    taken = demand(market, buyer, bait).taken
    assert taken[seller]
    return float(market.value_of_sets(buyer, taken)) - float(price[taken].sum())


def highest_prices(market: SharingMarket, buyer: int) -> Array:
    """Upper ends of the intervals of all edges that a buyer buys on, cost for all others (money).

    One at a time they are equilibrium prices. All at once they are where the buyer's demand has gross
    substitutes, as with batches of one size and a concave utility of total size; otherwise they need not be.

    Returns
    -------
    array, shape (n_agents,)
        0 for the buyer itself.

    Examples
    --------
    A buyer to whom two batches are worth 10, and one of them nothing, can pay 10 for either, not for both:

    >>> from mechopt.formulations.functions import LinearUtility, ThresholdUtility
    >>> from mechopt.formulations.sharing_market.model import SharingMarket
    >>> utility = [LinearUtility(1e-9), LinearUtility(1e-9), ThresholdUtility(10.0, 3.0)]
    >>> market = SharingMarket([1.0, 1.0, 1.0], np.zeros((3, 3)), utility)
    >>> price = np.zeros((3, 3))
    >>> price[:, 2] = highest_prices(market, 2)
    >>> price[:, 2].tolist(), market.is_equilibrium(market.solve(), price).better
    ([10.0, 10.0, 0.0], ())
    """
    bought = np.flatnonzero(best_purchase(market.buyer_problem(buyer)).taken)
    price = np.array(market.sharing_cost[:, buyer])
    for seller in bought:
        price[seller] = price_interval(market, int(seller), buyer)[1]
    return price


def _check_edge(market: SharingMarket, seller: int, buyer: int) -> None:
    for name, agent in (("seller", seller), ("buyer", buyer)):
        _check_agent(market, name, agent)
    if seller == buyer:
        raise InvalidInput(f"seller and buyer are both {seller}: own data has no price")


def _check_agent(market: SharingMarket, name: str, agent: Any) -> None:
    whole = isinstance(agent, int | np.integer) and not isinstance(agent, bool)
    if not whole or not 0 <= agent < market.n_agents:
        raise InvalidInput(f"{name} = {agent!r} must be an agent, 0 to {market.n_agents - 1}")


# ---------------------------------------------------------------- all edges of a buyer


def declare_prices(market: SharingMarket, buyer: int) -> Program:
    r"""Declare all prices of one buyer's edges that are jointly in equilibrium.

    .. math:: \max \sum_{i \in S^*} (p_i - c_i) \quad \text{s.t.} \quad
       U(S^*) - p(S^*) \ge U(S) - p(S) \;\; \text{for all } S, \quad
       p_i \ge c_i \;\; (i \in S^*), \quad p_i \le c_i \;\; (i \notin S^*).

    Returns
    -------
    Program
        With the variable ``price`` of shape (n_agents,), whose own entry is 0, expression ``earned``, and
        families ``demand`` (a row a set), ``sold`` and ``unsold``.

    Raises
    ------
    NotApplicable
        If there are too many sets; `price_frontier` makes rows as it needs them.
    """
    _check_agent(market, "buyer", buyer)
    program, bought = _declare_supply(market, buyer)
    available = np.ones((market.n_agents, market.n_agents), dtype=bool)
    columns = all_sets(market, available, [buyer])
    other = np.any(columns.taken != bought, axis=1)
    _demand(market, program, "demand", buyer, bought, columns.taken[other])
    return program.seal()


def _declare_supply(market: SharingMarket, buyer: int) -> tuple[Program, BoolArray]:
    """Declare prices that sellers accept, and return the set that the buyer has."""
    best = best_purchase(market.buyer_problem(buyer))
    cost = market.sharing_cost[:, buyer]
    size = money(market, best.utility)
    program = Program(f"prices for buyer {buyer}", objective_scale=size)
    price = program.variable("price", market.n_agents, scale=size)
    others = np.arange(market.n_agents) != buyer
    sold, unsold = np.flatnonzero(best.taken), np.flatnonzero(~best.taken & others)
    earned = cp.sum(price[sold] - cost[sold]) if sold.size else cp.Constant(0.0)
    program.maximize(program.define("earned", earned))
    program.add("own_data", price[buyer] == 0)
    if sold.size:
        program.add("sold", price[sold] >= cost[sold])
    if unsold.size:
        program.add("unsold", price[unsold] <= cost[unsold])
    return program, best.taken


def _demand(
    market: SharingMarket, program: Program, family: str, buyer: int, bought: BoolArray, sets: BoolArray
) -> None:
    """Say that the buyer likes what it buys at least as well as each of these sets."""
    if not len(sets):
        return
    value = market.value_of_sets(buyer, sets) - float(market.value_of_sets(buyer, bought))
    more = sets.astype(float) - bought.astype(float)
    program.add(family, more @ program["price"] >= value)


def solve_interval(
    market: SharingMarket, seller: int, buyer: int, backend: str | None = None, **options: Any
) -> tuple[float, float]:
    """Find the prices of one edge by two linear programs, all other prices being at cost (money).

    Parameters
    ----------
    market : SharingMarket
    seller, buyer : int
    backend, **options
        See `Program.solve`.
    """
    _check_edge(market, seller, buyer)
    program = declare_prices(market, buyer)
    price, cost = program["price"], market.sharing_cost[:, buyer]
    others = np.setdiff1d(np.arange(market.n_agents), [seller, buyer])
    if others.size:
        program.add("others_at_cost", price[others] == cost[others])
    low = program.minimize(price[seller]).solve(backend, **options).objective
    high = program.maximize(price[seller]).solve(backend, **options).objective
    return low, high


@dataclass(frozen=True, eq=False)
class PriceFrontier:
    """Joint equilibrium prices of one buyer's edges that earn its sellers most.

    Attributes
    ----------
    price : array, shape (n_agents,)
        Money; 0 for the buyer itself.
    objective : float
        What was maximised: earnings above cost, or the weighted sum of prices (money).
    regret : float
        What the buyer could gain at these prices by another set (money), at most the tolerance.
    n_sets : int
        Sets of sellers that were made into rows; there are 2^(n_agents - 1) in all.
    n_rounds : int
        Linear programs solved.
    """

    price: Array
    objective: float
    regret: float
    n_sets: int
    n_rounds: int


def price_frontier(
    market: SharingMarket,
    buyer: int,
    weight: ArrayLike | None = None,
    *,
    change: Callable[[Program], Any] | None = None,
    backend: str | None = None,
    tolerance: float = 1e-8,
    max_rounds: int = 500,
) -> PriceFrontier:
    """Maximise over the joint equilibrium prices of one buyer, making rows of sets as they are needed.

    The buyer's own problem at the prices found tells which row is violated most, so that markets far too
    large for `declare_prices` can be solved.

    Parameters
    ----------
    market : SharingMarket
    buyer : int
    weight : array, shape (n_agents,), optional
        Maximise this combination of prices; by default, what sellers earn above cost.
    change : callable, optional
        ``change(program)`` adds constraints on ``program["price"]`` of your own.
    backend : str, optional
        For linear programs; see `Program.solve`.
    tolerance : float
        Regret of the buyer, relative to the money involved, below which its set counts as its best.
    max_rounds : int
        Most linear programs.

    Raises
    ------
    SolverFailure
        If ``max_rounds`` do not suffice.

    Examples
    --------
    Two sellers whose batches are worth 10 together, and nothing alone; the first may earn no more than 4:

    >>> from mechopt.formulations.functions import LinearUtility, ThresholdUtility
    >>> from mechopt.formulations.sharing_market.model import SharingMarket
    >>> utility = [LinearUtility(1e-9), LinearUtility(1e-9), ThresholdUtility(10.0, 3.0)]
    >>> market = SharingMarket([1.0, 1.0, 1.0], np.zeros((3, 3)), utility)
    >>> frontier = price_frontier(market, 2, [2, 1, 0], change=lambda p: p.add("cap", p["price"][0] <= 4))
    >>> frontier.price.round(6).tolist()
    [4.0, 6.0, 0.0]
    """
    _check_agent(market, "buyer", buyer)
    program, bought = _declare_supply(market, buyer)
    if weight is not None:
        coefficient = checks.vector(weight, "weight")
        checks.all_finite(coefficient, "weight")
        if coefficient.size != market.n_agents:
            raise InvalidInput(f"weight has {coefficient.size} entries for {market.n_agents} agents")
        program.maximize(coefficient @ program["price"])
    # One seller less, or one more: these rows bound every price.
    others = np.flatnonzero(np.arange(market.n_agents) != buyer)
    flips = np.tile(bought, (others.size, 1))
    flips[np.arange(others.size), others] ^= True
    _demand(market, program, "demand", buyer, bought, flips)
    if change is not None:
        change(program)
    scale = money(market, float(market.value_of_sets(buyer, bought)))
    value = float(market.value_of_sets(buyer, bought))
    for number in range(1, max_rounds + 1):
        solution = program.solve(backend, tolerance=min(1e-6, tolerance))
        price = np.array(solution["price"])
        price[buyer] = 0.0
        best = demand(market, buyer, price)
        regret = best.surplus - (value - float(price[bought].sum()))
        if regret <= tolerance * scale:
            price.setflags(write=False)
            n_sets = others.size + number - 1
            return PriceFrontier(price, solution.objective, max(regret, 0.0), n_sets, number)
        _demand(market, program, f"demand_{number}", buyer, bought, best.taken[np.newaxis])
    raise SolverFailure(
        f"after {max_rounds} linear programs buyer {buyer} still gains {regret:.3g} by another set; raise "
        "max_rounds, or tolerance",
        solution=solution,
    )
