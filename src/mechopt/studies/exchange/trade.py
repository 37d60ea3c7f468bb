"""What is traded for one curve: the graph, prices, payments."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import AccuracyFunction
from mechopt.formulations.sharing_market.mixed import MixedVCG
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.formulations.sharing_market.vcg import VCG
from mechopt.solvers.errors import Infeasible
from mechopt.solvers.solution import Solution
from mechopt.studies.exchange.scenario import Exchange

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trade:
    """The market, and what the mechanisms make of it.

    Attributes
    ----------
    market : SharingMarket
    best : Solution
        A graph of most welfare.
    price : array, shape (n_hospitals, n_hospitals)
        Competitive prices.
    interval : array, shape (n_hospitals, n_hospitals, 2)
        Ends of each edge's prices, the others being at cost; NaN on the diagonal.
    vcg : VCG
    mixed : MixedVCG
    sold_in : array, shape (n_hospitals, n_hospitals)
        Share of the curves drawn in which the edge is sold.
    """

    market: SharingMarket
    best: Solution
    price: Array
    interval: Array
    vcg: VCG
    mixed: MixedVCG
    sold_in: Array

    @property
    def adjacency(self) -> Array:
        """The graph of most welfare, row = seller, column = buyer."""
        return np.asarray(self.best["adjacency"])

    @property
    def effective_data(self) -> Array:
        """What each hospital's records count for under mixed-VCG, shape (n_hospitals,)."""
        data: Array = self.market.data_size + self.mixed.quality_weight.T @ self.market.data_size
        return data


def _mixed(market: SharingMarket, scenario: Exchange) -> MixedVCG:
    """Run mixed-VCG; where no split of the imbalance can be realised, with the greedy one all the same."""
    try:
        return market.mixed_vcg(scenario.pivot, scenario.split)
    except Infeasible:
        return market.mixed_vcg(scenario.pivot, "greedy")


def trade_for(scenario: Exchange, accuracy: AccuracyFunction, drawn: Iterable[AccuracyFunction]) -> Trade:
    """Design the market for one curve, and say which edges are sold for the curves drawn."""
    market = scenario.market(accuracy)
    n = market.n_agents
    interval = np.full((n, n, 2), math.nan)
    for seller, buyer in itertools.permutations(range(n), 2):
        interval[seller, buyer] = market.price_interval(seller, buyer)
    graphs = [scenario.market(other).solve()["adjacency"] for other in drawn]
    return Trade(
        market,
        market.solve(),
        market.competitive_prices(),
        interval,
        market.vcg(scenario.pivot),
        _mixed(market, scenario),
        np.mean(graphs, axis=0),
    )
