r"""The VCG mechanism of a sharing market, under both readings of "the others without i".

The payment of agent i, (19), is :math:`\tilde t_i = h_i - \sum_{j \ne i} V_j(G^*)`, and h_i does not depend
on what i reports. With ``"exclude"`` it is the others' welfare in a market without i and its data; with
``"drop"``, (20) as printed, only :math:`V_i` is dropped, so that i's data is there for all at no cost.

Where nothing couples buyers, one optimum a buyer and one for each pair of buyer and seller that matters give
all pivots: for ``"exclude"`` the pairs that trade, for ``"drop"`` those that do not. With couplings each
pivot is a joint program.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import AdditiveUtility
from mechopt.formulations.sharing_market.buyers import best_purchase
from mechopt.formulations.sharing_market.exact import SolveCount, free_one, leave_one_out, welfare_maximum
from mechopt.formulations.sharing_market.restrictions import Restrictions
from mechopt.solvers.errors import InvalidInput, SolverFailure
from mechopt.verification.audit import Audit, Deviation

if TYPE_CHECKING:
    import pandas as pd

    from mechopt.formulations.sharing_market.mixed import MixedVCG
    from mechopt.formulations.sharing_market.model import SharingMarket

Array = NDArray[np.float64]
Pivot = Literal["exclude", "drop"]

_ROUNDING = 1e-9
"""Money below which a loss is rounding, relative to the money involved."""

_DUST = 1e-13
"""Part of all amounts in a sum below which it is rounding."""


@dataclass(frozen=True, eq=False)
class VCG:
    """What the VCG mechanism does.

    Attributes
    ----------
    market : SharingMarket
        As reported.
    pivot : {"exclude", "drop"}
    restrictions : Restrictions
    adjacency : array, shape (n_agents, n_agents)
        A graph of most welfare; row = seller, column = buyer.
    pivot_value : array, shape (n_agents,)
        h_i, the first term of (19) (money).
    n_solves : int
        Buyers' optima that were computed, or joint programs solved.

    References
    ----------
    Rasouli and Jordan, eq. (15)-(21).

    Examples
    --------
    >>> from mechopt.formulations.functions import AdditiveUtility
    >>> from mechopt.formulations.sharing_market.model import SharingMarket
    >>> seller, buyer = AdditiveUtility([0, 0]), AdditiveUtility([10, 0])
    >>> market = SharingMarket([1.0, 1.0], [[0, 1], [0, 0]], [seller, buyer])
    >>> market.vcg("exclude").payment.tolist(), market.vcg("exclude").payoff.tolist()
    ([-10.0, 1.0], [9.0, 9.0])
    >>> market.vcg("drop").payment.tolist(), market.vcg("drop").individually_rational
    ([0.0, 1.0], False)
    """

    market: SharingMarket
    pivot: Pivot
    restrictions: Restrictions
    adjacency: Array
    pivot_value: Array
    n_solves: int

    @cached_property
    def allocation_value(self) -> Array:
        """V_i: what its data is worth to each agent, minus what its sales cost it (money)."""
        return values_of(self.market, self.restrictions, self.adjacency)

    @cached_property
    def payment(self) -> Array:
        """Payment of each agent, (19) (money), shape (n_agents,); > 0: the agent pays."""
        value = self.allocation_value
        payment: Array = self.pivot_value - (value.sum() - value)
        return payment

    @property
    def imbalance(self) -> float:
        """Sum of payments, (21) (money); > 0: a surplus, < 0: a deficit; 0 if it is rounding."""
        return without_rounding(float(self.payment.sum()), self.allocation_value, self.pivot_value)

    @property
    def payoff(self) -> Array:
        """V_i minus the payment (money), shape (n_agents,): welfare less the pivot value."""
        payoff: Array = self.allocation_value - self.payment
        return payoff

    @property
    def agents_welfare(self) -> float:
        """Sum of payoffs, (15) (money): `total_welfare` less the imbalance."""
        return float(self.payoff.sum())

    @property
    def total_welfare(self) -> float:
        """Sum of V_i, (17) (money): the most that any graph gives."""
        return float(self.allocation_value.sum())

    @property
    def participation(self) -> Deviation:
        """The agent that would gain most, or lose least, by staying out with its own data."""
        return worst_off(self.payoff, self.market.outside_option)

    @property
    def individually_rational(self) -> bool:
        """Whether nobody loses by taking part, to rounding; if not, `participation` names who does."""
        return not is_loss(self.participation, self.payoff, self.market.outside_option)

    @property
    def truthful_if(self) -> str:
        """Under what assumption truth is a dominant strategy: ``"always"``.

        With ``buyer_budget`` it is ``"public_costs"``: reported costs then decide which graphs are allowed.
        """
        return "always" if self.restrictions.buyer_budget is None else "public_costs"

    def payoff_in(self, market: SharingMarket) -> Array:
        """What this graph and these payments give agents of another market, such as the true one (money)."""
        payoff: Array = values_of(market, self.restrictions, self.adjacency) - self.payment
        return payoff

    def audit(self, n_reports: int = 15, *, seed: int = 0) -> Audit:
        """Look for agents that gain by a misreport, and for agents that lose by taking part.

        Parameters
        ----------
        n_reports : int
            Random misreports of each agent; see `mechopt.formulations.sharing_market.misreports`.
        seed : int
        """
        from mechopt.formulations.sharing_market.misreports import audit_outcome

        return audit_outcome(
            lambda market: vcg(market, self.pivot, self.restrictions), self, n_reports=n_reports, seed=seed
        )

    def to_frame(self) -> pd.DataFrame:
        """One row an agent: value, pivot value, payment, payoff, outside option (money)."""
        import pandas as pd

        columns = {
            "allocation_value": self.allocation_value,
            "pivot_value": self.pivot_value,
            "payment": self.payment,
            "payoff": self.payoff,
            "outside_option": self.market.outside_option,
        }
        return pd.DataFrame(columns, index=pd.RangeIndex(self.market.n_agents, name="agent"))

    def __repr__(self) -> str:
        return "\n".join([f"VCG, pivot {self.pivot!r}, {self.n_solves} optima", *describe(self)])


def describe(outcome: VCG | MixedVCG) -> list[str]:
    """Lines of a repr that outcomes share."""
    worst = outcome.participation
    rational = "yes" if outcome.individually_rational else f"no: {worst}"
    kind = "surplus" if outcome.imbalance > 0 else "deficit" if outcome.imbalance < 0 else "balanced"
    return [
        f"  edges                  {int(outcome.adjacency.sum())} among {outcome.market.n_agents} agents",
        f"  total welfare          {outcome.total_welfare:.9g}, agents' {outcome.agents_welfare:.9g}",
        f"  payments               {outcome.payment.min():.6g} to {outcome.payment.max():.6g}",
        f"  imbalance              {outcome.imbalance:.6g} ({kind})",
        f"  individually rational  {rational}",
        f"  truthful if            {outcome.truthful_if}",
    ]


def without_rounding(imbalance: float, *amounts: Array) -> float:
    """Return an imbalance, or 0 if sums of these amounts (money) could leave as much by rounding alone."""
    size = sum(float(np.abs(amount).sum()) for amount in amounts)
    return imbalance if abs(imbalance) > _DUST * size else 0.0


def worst_off(payoff: Array, outside_option: Array) -> Deviation:
    """The agent that gains most by staying out."""
    agent = int(np.argmax(outside_option - payoff))
    return Deviation(agent, None, float(outside_option[agent] - payoff[agent]))


def is_loss(worst: Deviation, payoff: Array, outside_option: Array) -> bool:
    """Whether staying out would gain more than rounding."""
    return worst.gain > _ROUNDING * float(np.max(np.abs([payoff, outside_option])))


def values_of(market: SharingMarket, restrictions: Restrictions, adjacency: Array) -> Array:
    """V_i with one-time costs, if there are any (money), shape (n_agents,)."""
    value = market.allocation_value(adjacency)
    if restrictions.upload_cost is not None:
        value = value - restrictions.upload_cost * np.any(adjacency > 0, axis=1)
    return value


def check_pivot(pivot: str) -> None:
    """Refuse what is no pivot."""
    if pivot not in get_args(Pivot):
        raise InvalidInput(
            f"pivot must be 'exclude' (the market without the agent and its data) or 'drop' (eq. (20) as "
            f"printed: its data stays free for all), got {pivot!r}"
        )


def vcg(market: SharingMarket, pivot: Pivot, restrictions: Restrictions) -> VCG:
    """Run the VCG mechanism; see `SharingMarket.vcg`."""
    check_pivot(pivot)
    if restrictions.couplings:
        adjacency, pivot_value, n_solves = _jointly(market, pivot, restrictions)
    else:
        adjacency, pivot_value, n_solves = _by_buyer(market, pivot, restrictions)
    adjacency.setflags(write=False)
    pivot_value.setflags(write=False)
    return VCG(market, pivot, restrictions, adjacency, pivot_value, n_solves)


def _by_buyer(market: SharingMarket, pivot: Pivot, restrictions: Restrictions) -> tuple[Array, Array, int]:
    """Graph, h_i and the number of optima, from what each buyer would have under each pivot."""
    count = SolveCount()
    best = welfare_maximum(market, restrictions, count=count)
    # others[i, j]: surplus of buyer j under the pivot of i.
    others = (leave_one_out if pivot == "exclude" else free_one)(market, best, count=count)
    np.fill_diagonal(others, 0.0)
    if pivot == "drop" and np.any(market.sharing_cost < 0):
        # Its own value dropped, a buyer still takes what others like to give it.
        nothing = AdditiveUtility((0.0,) * market.n_agents)
        for buyer in range(market.n_agents):
            problem = market.buyer_problem(buyer, restrictions=restrictions)
            others[buyer, buyer] = best_purchase(replace(problem, utility=nothing)).surplus
        count.n_solves += market.n_agents
    return best.adjacency, others.sum(axis=1), count.n_solves


def _jointly(market: SharingMarket, pivot: Pivot, restrictions: Restrictions) -> tuple[Array, Array, int]:
    """Graph, h_i and the number of programs; values are recomputed from the graphs that come back."""
    n = market.n_agents
    pivot_value = np.empty(n)
    for agent in range(n):
        rest, limits = (_excluding if pivot == "exclude" else _dropping)(market, restrictions, agent)
        value = values_of(rest, limits, _best_graph(rest, limits))
        pivot_value[agent] = value.sum() - value[agent]
    return _best_graph(market, restrictions), pivot_value, n + 1


def _excluding(
    market: SharingMarket, restrictions: Restrictions, agent: int
) -> tuple[SharingMarket, Restrictions]:
    """The market in which an agent neither buys nor sells."""
    forbidden = np.zeros((market.n_agents, market.n_agents), dtype=bool)
    if restrictions.forbidden is not None:
        forbidden |= restrictions.forbidden
    forbidden[agent, :] = forbidden[:, agent] = True
    return market, replace(restrictions, forbidden=forbidden)


def _dropping(
    market: SharingMarket, restrictions: Restrictions, agent: int
) -> tuple[SharingMarket, Restrictions]:
    """The market in which an agent has no use for data, and its own costs nothing, in budgets too."""
    cost, utility = market.sharing_cost.copy(), list(market.utility)
    cost[agent, :] = 0.0
    utility[agent] = AdditiveUtility((0.0,) * market.n_agents)
    if restrictions.upload_cost is not None:
        upload = restrictions.upload_cost.copy()
        upload[agent] = 0.0
        restrictions = replace(restrictions, upload_cost=upload)
    return replace(market, sharing_cost=cost, utility=tuple(utility)), restrictions


def _best_graph(market: SharingMarket, restrictions: Restrictions) -> Array:
    """Graph of most welfare by the joint program."""
    from mechopt.formulations.sharing_market.welfare import solve

    solution = solve(
        market, restrictions, None, tolerance=None, time_limit=None, verbose=False, on_failure="return"
    )
    if not solution:
        # Payments are differences of welfares: what a solver leaves on the table would end up in them.
        raise SolverFailure(
            f"a joint program of VCG was not solved to optimality: {solution.status}, {solution.reason}",
            solution=solution,
        )
    return np.array(solution["adjacency"])
