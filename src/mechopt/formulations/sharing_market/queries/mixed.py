"""Mixed-VCG of the market for queries: answers of lower or higher quality instead of a surplus or a deficit.

The division of the imbalance and the qualities are those of the sharing market; what a unit of weight adds to
a buyer's information is all answers of one seller.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.sharing_market.distortion import Distortion, Inflow, Refusal, check_distortion
from mechopt.formulations.sharing_market.mixed import Split, divide
from mechopt.formulations.sharing_market.queries.vcg import Pivot, QueryVCG, vcg
from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

    from mechopt.formulations.sharing_market.queries.model import QueryMarket

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class QueryMixedVCG:
    """Outcome of mixed-VCG.

    Attributes
    ----------
    market : QueryMarket
        As reported.
    vcg : QueryVCG
        The mechanism that it starts from.
    data_payment : array, shape (n_agents,)
        What quality is to take from each agent's utility (money); < 0: to give.
    quality_weight : array, shape (n_agents, n_agents)
        What a record of an answer of the row's agent counts for to the column's; 0 where nothing is asked. Of
        agents that are refused it is as without distortion.
    refusals : tuple of Refusal
        Agents whose data payment no weights realise.
    truthful_if : str
        Assumption under which truth is dominant: utilities are public, costs private.
    """

    market: QueryMarket
    vcg: QueryVCG
    data_payment: Array
    quality_weight: Array
    refusals: tuple[Refusal, ...]
    truthful_if: str = "public_utility"

    @property
    def query_count(self) -> NDArray[np.intp]:
        """Queries of most welfare, shape (n_agents, n_agents); row = seller, column = buyer."""
        return self.vcg.query_count

    @property
    def payment(self) -> Array:
        """Money that each agent pays, shape (n_agents,); sums to 0, to rounding."""
        payment: Array = self.vcg.payment - self.data_payment
        return payment

    @property
    def realised(self) -> bool:
        """Whether weights realise every data payment, so that payoffs are those of VCG."""
        return not self.refusals

    @cached_property
    def payoff(self) -> Array:
        """Value of answers of these qualities, costs and payment deducted (money), shape (n_agents,)."""
        market = self.market
        told = (market.answer_size[:, np.newaxis] * self.quality_weight * self.query_count).sum(axis=0)
        data = market.data_size + told
        value = np.array([float(utility(total)) for utility, total in zip(market.utility, data, strict=True)])
        payoff: Array = value - market.cost(self.query_count).sum(axis=1) - self.payment
        return payoff

    def __repr__(self) -> str:
        realised = "realised" if self.realised else f"not realised: {self.refusals[0]}"
        return (
            f"Mixed-{self.vcg!r}\n  in data {self.data_payment.min():.6g} to {self.data_payment.max():.6g}, "
            f"{realised}; truthful if {self.truthful_if}"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row an agent: payments, payoff, and why its data payment is refused, if it is (money)."""
        import pandas as pd

        codes = {refusal.agent: refusal.code for refusal in self.refusals}
        columns = {
            "vcg_payment": self.vcg.payment,
            "data_payment": self.data_payment,
            "payment": self.payment,
            "payoff": self.payoff,
            "outside_option": self.market.outside_option,
            "refused": [codes.get(agent, "") for agent in range(self.market.n_agents)],
        }
        return pd.DataFrame(columns, index=pd.RangeIndex(self.market.n_agents, name="agent"))


def mixed_vcg(market: QueryMarket, pivot: Pivot, split: Split, distortion: Distortion) -> QueryMixedVCG:
    """Run mixed-VCG; see `QueryMarket.mixed_vcg`."""
    check_distortion(distortion)
    if split not in ("greedy", "lp"):
        raise InvalidInput(f"split must be 'greedy' or 'lp', got {split!r}")
    start = vcg(market, pivot)
    inflows = tuple(_inflow(market, start.query_count[:, buyer], buyer) for buyer in range(market.n_agents))
    data_payment = divide(split, inflows, start.payment, start.imbalance)
    weight = np.empty((market.n_agents, market.n_agents))
    refusals = []
    for inflow in inflows:
        found = inflow.weights(float(data_payment[inflow.buyer]), distortion)
        if isinstance(found, Refusal):
            refusals.append(found)
        weight[:, inflow.buyer] = inflow.start if isinstance(found, Refusal) else found
    for array in (data_payment, weight):
        array.setflags(write=False)
    return QueryMixedVCG(market, start, data_payment, weight, tuple(refusals))


def _inflow(market: QueryMarket, asked: NDArray[np.intp], buyer: int) -> Inflow:
    """What reaches one buyer: all answers of a seller have one quality."""
    told = asked * market.answer_size
    # The measure of distortion is records; where nothing is asked it is never used, and must be > 0.
    size = np.where(asked > 0, told, 1.0)
    upper = np.where(asked > 0, np.inf, 0.0)
    own = float(market.data_size[buyer])
    return Inflow(buyer, market.utility[buyer], own, told, size, (asked > 0).astype(float), upper)
