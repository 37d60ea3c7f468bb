"""Sharing market: purchases, VCG, prices, and the declared programs.

Where nothing couples buyers, one optimum a buyer and one an edge give all payments of VCG. Without that
insight one solves a joint integer program, and another for each agent left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
from agreement import close, compiled
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

import mechopt as mo
from mechopt.formulations.sharing_market.buyers import best_purchase
from mechopt.formulations.sharing_market.prices import highest_prices

Array = NDArray[np.float64]
Sizes = Literal["equal", "whole", "real"]

# Money agrees to 1e-7: that is what integer programs leave on the table.
MILP_OPTIONS = {"mip_rel_gap": 1e-10}


def market_of(n_agents: int, sizes: Sizes) -> mo.SharingMarket:
    """A market in which about a quarter of all edges are worth their cost."""
    rng = np.random.default_rng(n_agents)
    size = {
        "equal": np.full(n_agents, 2.0),
        "whole": rng.integers(1, 21, n_agents).astype(float),
        "real": rng.uniform(0.5, 20, n_agents),
    }[sizes]
    weight = rng.uniform(10, 100, n_agents)
    total = float(size.sum())
    utility = [mo.LogUtility(float(w), total / 10) for w in weight]
    cost = rng.uniform(0, 10 * float(weight.mean()) / total, (n_agents, n_agents)) * size[:, np.newaxis]
    np.fill_diagonal(cost, 0.0)
    return mo.SharingMarket(size, cost, utility)


# ------------------------------------------------------------ purchases of one buyer, or of each


def tangents(utility: mo.LogUtility, total: Array) -> tuple[Array, Array]:
    """Height at 0 and slope of the tangents at some totals."""
    slope = utility.weight * utility.scale / (1 + utility.scale * total)
    return utility.weight * np.log1p(utility.scale * total) - slope * total, slope


def welfare_by_milp(market: mo.SharingMarket, buyers: list[int], sellers: list[int]) -> float:
    """Most welfare of buyers and sellers together: HiGHS on tangents, until the graph found is on them."""
    size, cost = market.data_size, market.sharing_cost
    edges = [(i, j) for j in buyers for i in sellers if i != j]
    n, k = len(edges), len(buyers)
    place = {j: n + p for p, j in enumerate(buyers)}
    seller, buyer = np.array(edges).T
    objective = np.concatenate([cost[seller, buyer], -np.ones(k)])
    integrality = np.concatenate([np.ones(n), np.zeros(k)])
    least, most = np.append(np.zeros(n), np.full(k, -np.inf)), np.append(np.ones(n), np.full(k, np.inf))
    rows: list[Array] = []
    limits: list[float] = []

    def cut(j: int, totals: Array) -> None:
        for height, slope in zip(*tangents(market.utility[j], totals), strict=True):
            row = np.zeros(n + k)
            mine = np.flatnonzero(buyer == j)
            row[mine], row[place[j]] = -slope * size[seller[mine]], 1.0
            rows.append(row)
            limits.append(height + slope * size[j])

    for j in buyers:
        cut(j, np.linspace(size[j], float(size.sum()), 6))
    known: set[tuple[int, float]] = set()
    while True:
        found = milp(
            objective,
            integrality=integrality,
            bounds=Bounds(least, most),
            constraints=LinearConstraint(np.array(rows), ub=limits),
            options=MILP_OPTIONS,
        )
        taken = found.x[:n] > 0.5
        total = np.array([size[j] + size[seller[taken & (buyer == j)]].sum() for j in buyers])
        worth = np.array([float(market.utility[j](d)) for j, d in zip(buyers, total, strict=True)])
        value = float(worth.sum() - cost[seller[taken], buyer[taken]].sum())
        # HiGHS keeps rows to 1e-6 only, so that what it promises may stay above what it finds.
        new = {(j, d) for j, d in zip(buyers, total.tolist(), strict=True)} - known
        if not new or -found.fun - value <= 1e-9 * abs(value):
            return value
        known |= new
        for j, d in new:
            cut(j, np.array([d]))


def payoffs_by_milps(market: mo.SharingMarket) -> Array:
    """VCG payoffs by N + 1 joint integer programs: welfare less the welfare without each agent."""
    everybody = list(range(market.n_agents))
    best = welfare_by_milp(market, everybody, everybody)
    others = [[j for j in everybody if j != i] for i in everybody]
    return np.array([best - welfare_by_milp(market, rest, rest) for rest in others])


def by_sorting(market: mo.SharingMarket) -> float:
    """Welfare where all data are of one size, as one would write it for that case: a sort of each column."""
    welfare = 0.0
    for j, utility in enumerate(market.utility):
        cost = np.sort(np.delete(market.sharing_cost[:, j], j))
        spent = np.concatenate([[0.0], np.cumsum(cost)])
        welfare += float(np.max(utility(2.0 * np.arange(1, spent.size + 1)) - spent))
    return welfare


def by_all_sets(problem: Any, value: Callable[[Any], Any]) -> float:
    """Best surplus over all sets of sellers, vectorised."""
    size, cost = problem.data_size[problem.available], problem.cost[problem.available]
    total, spent = np.zeros(1), np.zeros(1)
    for d, c in zip(size, cost, strict=True):
        total, spent = np.append(total, total + d), np.append(spent, spent + c)
    return float(np.max(value(problem.own_size + total) - spent))


@pytest.mark.sizes(100, 500, smoke=20)
def test_purchases_of_equal_sizes(versus: Any, size: int) -> None:
    market = market_of(size, "equal")
    versus(
        lambda: market.solve().objective,
        {"a sort a buyer": lambda: by_sorting(market)},
        agree=close(1e-7),
        size=size,
    )


@pytest.mark.sizes(100, smoke=6)
def test_purchases_of_whole_sizes(versus: Any, size: int) -> None:
    market = market_of(size, "whole")
    everybody = list(range(size))
    versus(
        lambda: market.solve().objective,
        {"a MILP a buyer": lambda: sum(welfare_by_milp(market, [j], everybody) for j in everybody)},
        agree=close(1e-7),
        size=size,
    )


@pytest.mark.sizes(100, 500, smoke=10)
def test_one_purchase_of_real_sizes(versus: Any, size: int) -> None:
    market = market_of(size, "real")
    everybody = list(range(size))
    versus(
        lambda: best_purchase(market.buyer_problem(0)).surplus,
        {"MILP": lambda: welfare_by_milp(market, [0], everybody)},
        agree=close(1e-7),
        size=size,
    )


@pytest.mark.sizes(10, 16, 20)
def test_one_purchase_at_one_cost_per_record(versus: Any, size: int) -> None:
    """The adversary of branch and bound: a subset sum, with no seller better than another."""
    rng = np.random.default_rng(size)
    data = rng.uniform(0.5, 20, size + 1)
    cost = 1.5 * np.repeat(data[:, np.newaxis], size + 1, axis=1)
    np.fill_diagonal(cost, 0.0)
    utility = mo.LogUtility(100.0, float(data.sum()) / 10)
    problem = mo.SharingMarket(data, cost, utility).buyer_problem(0)
    versus(
        lambda: best_purchase(problem).surplus,
        {"numpy over all sets": lambda: by_all_sets(problem, utility)},
        agree=close(1e-7),
        size=size,
    )


@pytest.mark.parametrize("sizes", ["equal", "whole", "real"])
def test_purchases_grow(growth: Any, sizes: Sizes) -> None:
    """Of all buyers, each of whom chooses among all others."""
    most = {"equal": (20, 100, 500), "whole": (10, 30, 100), "real": (20, 100, 500)}
    growth(lambda n: market_of(n, sizes).solve, most[sizes])


# ------------------------------------------------------------ VCG


@pytest.mark.parametrize("sizes", ["equal", "whole", "real"])
@pytest.mark.sizes(30, smoke=4)
def test_vcg(versus: Any, size: int, sizes: Sizes) -> None:
    market = market_of(size, sizes)
    versus(
        lambda: market.vcg().payoff,
        {"N+1 MILPs": lambda: payoffs_by_milps(market)},
        agree=close(1e-7),
        at_least={"N+1 MILPs": 50},
        size=size,
    )


@pytest.mark.sizes(10, smoke=4)
def test_vcg_beside_joint_programs_of_ours(versus: Any, size: int) -> None:
    """A cap that cannot bind forces the joint road."""
    market = market_of(size, "real")
    versus(
        lambda: market.vcg().payoff,
        {"joint programs": lambda: market.vcg(seller_cap=size).payoff},
        agree=close(1e-7),
        at_least={"joint programs": 10},
        size=size,
    )


@pytest.mark.parametrize("sizes", ["equal", "whole", "real"])
def test_vcg_grows(growth: Any, sizes: Sizes) -> None:
    growth(lambda n: market_of(n, sizes).vcg, {"equal": (10, 30, 100, 300)}.get(sizes, (10, 20, 40, 80)))


@pytest.mark.sizes(30, smoke=5)
def test_mixed_vcg_beside_vcg(versus: Any, size: int) -> None:
    market = market_of(size, "real")
    versus(
        lambda: market.mixed_vcg("drop").vcg.payment,
        {"VCG alone": lambda: market.vcg("drop").payment},
        agree=close(1e-7),
        size=size,
    )


# ------------------------------------------------------------ prices


@pytest.mark.sizes(15, smoke=5)
def test_price_intervals(versus: Any, size: int) -> None:
    """Upper ends of all edges that one buyer buys on: what it would lose without each of its sellers."""
    market = market_of(size, "real")

    def by_sets() -> Array:
        problem = market.buyer_problem(0)
        best = by_all_sets(problem, market.utility[0])
        price = problem.cost.copy()
        for i in np.flatnonzero(best_purchase(problem).taken):
            price[i] += best - by_all_sets(problem.without(int(i)), market.utility[0])
        return price

    versus(lambda: highest_prices(market, 0), {"numpy over all sets": by_sets}, agree=close(1e-7), size=size)


@pytest.mark.sizes(8, smoke=4)
def test_welfare_beside_configuration_program(versus: Any, size: int) -> None:
    market = market_of(size, "real")
    versus(
        lambda: market.solve().objective,
        {"configuration LP": lambda: market.configuration_program().solve("highspy").objective},
        agree=close(1e-7),
        size=size,
    )


# ------------------------------------------------------------ declared programs


def test_fractional_program_compiles(growth: Any) -> None:
    growth(
        lambda n: lambda: compiled(market_of(n, "real").program(fractional=True).problem),
        (10, 20, 40, 80),
        at_most=2.5,  # there are N^2 edges
    )


def test_configuration_program_compiles(growth: Any) -> None:
    """There are N 2^(N-1) columns: of them, not of agents, time is to be linear."""
    growth(lambda n: lambda: compiled(market_of(n, "real").configuration_program().problem), (4, 6, 8, 10))
