"""Checks of the market and of the mechanisms against their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np

from mechopt.formulations.functions import AccuracyFunction
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.studies.exchange.scenario import Exchange
from mechopt.studies.exchange.trade import Trade
from mechopt.studies.run import (
    Check,
)

EXACT = 1e-9
"""What numbers that two algorithms compute may differ by, relative to the money involved."""


def money_traded(trade: Trade) -> float:
    """Size of the money traded: what buyers gain and sellers spend at most."""
    gains = trade.market.buyer_value(trade.adjacency) - trade.market.outside_option
    return float(np.sum(gains)) or float(np.max(trade.market.sharing_cost)) or 1.0


def market_checks(scenario: Exchange, accuracy: AccuracyFunction, trade: Trade) -> list[Check]:
    """Whether the graph has the most welfare, prices support it up to their limits, and nobody leaves."""
    market, graph, scale = trade.market, trade.adjacency, money_traded(trade)
    inside, outside = 0.0, math.inf
    for seller, buyer in itertools.permutations(range(market.n_agents), 2):
        low, high = trade.interval[seller, buyer]
        for price, is_inside in (
            (low, True),
            (high, True),
            (low - 0.01 * scale, False),
            (high + 0.01 * scale, False),
        ):
            prices = trade.price.copy()
            prices[seller, buyer] = price
            gain = market.is_equilibrium(graph, prices).gain
            inside = max(inside, gain) if is_inside else inside
            outside = outside if is_inside else min(outside, gain)
    payoff = market.buyer_value(graph) - (graph * trade.price).sum(axis=0)
    return [
        Check(
            "2 most welfare",
            "welfare, against that of all sets of sellers tried for each buyer (money)",
            trade.best.objective,
            _try_all(scenario, accuracy),
            EXACT * scale,
            "rounding, relative to the money traded",
        ),
        Check(
            "3 prices at cost",
            "the most that a buyer or seller gains by another trade at competitive prices (money)",
            market.is_equilibrium(graph, trade.price).gain,
            0.0,
            EXACT * scale,
            "rounding (Proposition 4.1)",
        ),
        Check(
            "3 ends of intervals",
            "the same with each price in turn at either end of its interval (money)",
            inside,
            0.0,
            EXACT * scale,
            "rounding (Proposition 4.2)",
        ),
        Check(
            "3 beyond intervals",
            "the least gain with a price 1% of the money traded beyond, over that 1%",
            outside / (0.01 * scale),
            1.0,
            1e-6,
            "who pays or earns that much too much objects",
        ),
        Check(
            "4 core",
            "the most that a coalition could pay its members beyond what they have (money)",
            market.in_core(payoff).gain,
            0.0,
            EXACT * scale,
            "rounding; all coalitions",
        ),
    ]


def _try_all(scenario: Exchange, accuracy: AccuracyFunction) -> float:
    """Most welfare, by trying every set of sellers for every buyer."""
    records = np.array([hospital.records for hospital in scenario.hospitals])
    spent = records * np.array([hospital.record_cost for hospital in scenario.hospitals])
    total = 0.0
    for buyer, hospital in enumerate(scenario.hospitals):
        taken = np.array(list(itertools.product((0.0, 1.0), repeat=records.size)))
        taken = taken[taken[:, buyer] == 0]
        worth = hospital.value * accuracy.concave_part(records[buyer] + taken @ records) - taken @ spent
        total += float(worth.max())
    return total


def mechanism_checks(scenario: Exchange, accuracy: AccuracyFunction, trade: Trade) -> list[Check]:
    """Whether VCG is truthful and pays what the others lose, and what mixed-VCG settles is balanced."""
    market, vcg, mixed, scale = trade.market, trade.vcg, trade.mixed, money_traded(trade)
    value = market.allocation_value(vcg.adjacency)
    loss = float(np.max(market.outside_option - (value - vcg.payment), initial=0.0))
    values = np.array([hospital.value for hospital in scenario.hospitals])
    after = values * accuracy.concave_part(trade.effective_data)
    wanted = market.buyer_value(vcg.adjacency) - mixed.data_payment
    refused = {refusal.agent for refusal in mixed.refusals}
    realised = np.array([agent not in refused for agent in range(market.n_agents)])
    others = sum(
        market.welfare(vcg.adjacency) - value[i] - _without(market, i) for i in range(market.n_agents)
    )
    checks = [
        Check(
            "5 VCG, imbalance",
            "sum of payments, against welfare without each hospital, solved anew (money)",
            vcg.imbalance,
            -others if scenario.pivot == "exclude" else float(vcg.payment.sum()),
            EXACT * scale * market.n_agents,
            "rounding",
        ),
        Check(
            "6 mixed, balance",
            "sum of payments of mixed-VCG (money)",
            float(mixed.payment.sum()),
            0.0,
            EXACT * scale,
            "rounding",
        ),
        Check(
            "6 mixed, quality",
            "largest difference of data's worth at the quality weights from what the split asks (money)",
            float(np.max(np.abs(after - wanted)[realised], initial=0.0)),
            0.0,
            1e-6 * scale,
            "weights come from a solver and are repaired",
        ),
    ]
    if scenario.pivot == "exclude":
        checks.insert(
            1,
            Check(
                "5 VCG, rationality",
                "the most that a hospital loses by taking part (money)",
                loss,
                0.0,
                EXACT * scale,
                "rounding",
            ),
        )
    return checks


def _without(market: SharingMarket, agent: int) -> float:
    """Most welfare of the others when an agent and its data are away."""
    away = np.zeros((market.n_agents, market.n_agents), dtype=bool)
    away[agent] = away[:, agent] = True
    return market.solve(forbidden=away).objective - float(market.outside_option[agent])
