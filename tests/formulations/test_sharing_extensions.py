"""Constraints that users add to the sharing market, each against brute force over whole graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linprog

from mechopt.formulations.functions import AdditiveUtility, CappedUtility, LogUtility, SqrtUtility
from mechopt.formulations.sharing_market.extensions import declare_payments
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.solvers.errors import Infeasible, InvalidInput
from mechopt.solvers.program import Program
from tests.oracles import sharing_welfare as oracle

Array = NDArray[np.float64]
GRAPHS = oracle.every_graph(4)

# Objectives are recomputed from whole edges; concave parts in constraints are met to 1e-6.
TOLERANCE = 1e-6


def market_of(seed: int) -> SharingMarket:
    """Draw a market of four in which sharing is worth its cost about half of the time."""
    rng = np.random.default_rng(seed)
    curves = (
        LogUtility(rng.uniform(4, 12), 2.0),
        SqrtUtility(rng.uniform(2, 6)),
        CappedUtility(rng.uniform(6, 12), 6.0),
        LogUtility(rng.uniform(4, 12), 1.0),
    )
    return SharingMarket(rng.uniform(0.5, 3, 4), rng.uniform(0.3, 2, (4, 4)) * (1 - np.eye(4)), curves)


def best(value: Array, kept: Any = True) -> float:
    """Largest value over the graphs that are kept."""
    return float(np.where(kept, value, -np.inf).max())


LOSS = np.random.default_rng(99).uniform(0.4, 1.2, (4, 4))
HARM = np.zeros((4, 4))
HARM[0, 1] = HARM[1, 0] = 0.8
HARM[2, 1] = 0.3

ROWS: dict[str, tuple[Callable[[Program, SharingMarket], Any], Callable[[SharingMarket], Any]]] = {
    "forbidden edges": (
        lambda p, m: p["adjacency"][[0, 1], [1, 0]] == 0,
        lambda m: GRAPHS[:, 0, 1] + GRAPHS[:, 1, 0] == 0,
    ),
    "buyer cap": (lambda p, m: cp.sum(p["adjacency"][:, 3]) <= 1, lambda m: GRAPHS[:, :, 3].sum(axis=1) <= 1),
    "buyer budget": (
        lambda p, m: m.sharing_cost[:, 1] @ p["adjacency"][:, 1] <= 1.2,
        lambda m: GRAPHS[:, :, 1] @ m.sharing_cost[:, 1] <= 1.2,
    ),
    "seller cap": (lambda p, m: cp.sum(p["adjacency"][0]) <= 1, lambda m: GRAPHS[:, 0].sum(axis=1) <= 1),
    "privacy budget": (
        lambda p, m: cp.sum(cp.multiply(LOSS, p["adjacency"]), axis=1) <= 1.0,
        lambda m: np.all((GRAPHS * LOSS).sum(axis=2) <= 1.0, axis=1),
    ),
    "platform cap": (lambda p, m: cp.sum(p["adjacency"]) <= 3, lambda m: GRAPHS.sum(axis=(1, 2)) <= 3),
    "reciprocity": (
        lambda p, m: p["adjacency"] == p["adjacency"].T,
        lambda m: np.all(GRAPHS.transpose(0, 2, 1) == GRAPHS, axis=(1, 2)),
    ),
    "reciprocity but for one edge": (
        lambda p, m: cp.sum(cp.abs(p["adjacency"] - p["adjacency"].T)) / 2 <= 1,
        lambda m: np.abs(GRAPHS - GRAPHS.transpose(0, 2, 1)).sum(axis=(1, 2)) / 2 <= 1,
    ),
    "balance of each agent": (
        lambda p, m: cp.abs(cp.sum(p["adjacency"], axis=0) - cp.sum(p["adjacency"], axis=1)) <= 1,
        lambda m: np.all(np.abs(GRAPHS.sum(axis=1) - GRAPHS.sum(axis=2)) <= 1, axis=1),
    ),
    "coverage": (
        lambda p, m: cp.sum(p["adjacency"][[0, 1, 3], 2]) >= 2,
        lambda m: GRAPHS[:, [0, 1, 3], 2].sum(axis=1) >= 2,
    ),
    "coverage in records": (
        lambda p, m: p["data"][2] >= 0.8 * m.data_size.sum(),
        lambda m: GRAPHS[:, :, 2] @ m.data_size + m.data_size[2] >= 0.8 * m.data_size.sum(),
    ),
    "nobody worse off": (
        lambda p, m: p["allocation_value"] >= m.outside_option,
        lambda m: np.all(oracle.utilities(m) - oracle.costs(m, {}) >= m.outside_option - 1e-9, axis=1),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_one_line(name: str) -> None:
    row, kept = ROWS[name]
    bound = 0
    for seed in range(3):
        market = market_of(seed)
        program = market.program()
        welfare = oracle.utilities(market).sum(axis=1) - oracle.costs(market, {}).sum(axis=1)
        expected = best(welfare, kept(market))
        program.add(name, row(program, market))
        if expected == -np.inf:
            with pytest.raises(Infeasible, match=name):
                program.solve()
            continue
        solution = program.solve()
        single = name in ("forbidden edges", "buyer cap", "buyer budget")
        assert (solution.backend == "exact") == single
        assert solution.objective == pytest.approx(expected, abs=TOLERANCE)
        bound += expected < best(welfare) - 1e-3
    assert bound


def test_one_time_costs_and_harm_to_rivals() -> None:
    for seed in range(3):
        market = market_of(seed)
        program = market.program()
        welfare = oracle.utilities(market).sum(axis=1) - oracle.costs(market, {}).sum(axis=1)
        edges = program["adjacency"]
        program.maximize(program["welfare"] - 1.5 * cp.sum(cp.max(edges, axis=1)))
        once = 1.5 * GRAPHS.any(axis=2).sum(axis=1)
        assert program.solve().objective == pytest.approx(best(welfare - once), abs=TOLERANCE)
        program.maximize(program["welfare"] - cp.sum(HARM @ cp.sum(edges, axis=0)))
        harm = (GRAPHS.sum(axis=1) @ HARM.T).sum(axis=1)
        solution = program.solve()
        assert solution.objective == pytest.approx(best(welfare - harm), abs=TOLERANCE)
        # Harm that each batch does may as well be a cost of sharing it; then nothing is coupled.
        dearer = SharingMarket(
            market.data_size, market.sharing_cost + HARM.sum(axis=0) * (1 - np.eye(4)), market.utility
        )
        assert dearer.solve().objective == pytest.approx(solution.objective, abs=TOLERANCE)


def test_the_largest_smallest_value() -> None:
    for seed in range(3):
        market = market_of(seed)
        program = market.program()
        values = oracle.utilities(market) - oracle.costs(market, {})
        solution = program.maximize(cp.min(program["allocation_value"])).solve()
        assert solution.objective == pytest.approx(best(values.min(axis=1)), abs=TOLERANCE)


def test_no_envy_among_additive_buyers() -> None:
    rng = np.random.default_rng(5)
    bound = 0
    for _ in range(4):
        worth = rng.uniform(0, 2, (4, 4)) * (1 - np.eye(4))
        cost = rng.uniform(0.3, 1.5, (4, 4)) * (1 - np.eye(4))
        market = SharingMarket(np.ones(4), cost, [AdditiveUtility(column) for column in worth.T])
        program = market.program()
        bundles = worth.T @ program["adjacency"]
        own = cp.reshape(program["utility"], (4, 1), order="F") @ np.ones((1, 4))
        solution = program.add("envy", bundles <= own + 0.1).solve()
        theirs = np.einsum("ij,gik->gjk", worth, GRAPHS)
        envy = (theirs - np.diagonal(theirs, axis1=1, axis2=2)[:, :, np.newaxis]).max(axis=(1, 2))
        welfare = oracle.utilities(market).sum(axis=1) - oracle.costs(market, {}).sum(axis=1)
        assert solution.objective == pytest.approx(best(welfare, envy <= 0.1), abs=TOLERANCE)
        bound += best(welfare) > solution.objective + 1e-3
    assert bound


# ------------------------------------------------------------ prices of a given graph


def test_payments_leave_nobody_worse_off_and_no_deficit() -> None:
    for seed in range(4):
        market = market_of(seed)
        graph = market.solve()
        gains = market.allocation_value(graph) - market.outside_option
        solution = declare_payments(market, graph).solve("highspy")
        # Without a deficit all gain alike, unless somebody is not in the graph at all.
        payoff = solution["payoff"] - market.outside_option
        assert payoff.min() >= -1e-7
        assert solution["payment"].sum() >= -1e-7
        assert solution["payoff"] + solution["payment"] == pytest.approx(market.allocation_value(graph))
        edges = graph["adjacency"]
        assert np.all(solution["price"][edges == 0] == 0)
        traded = solution["price"].sum(axis=0) - solution["reward"].sum(axis=1)
        assert solution["payment"] == pytest.approx(traded)
        # The same linear program in payments alone, where nobody without sales is paid.
        sells, buys = edges.any(axis=1), edges.any(axis=0)
        found = linprog(
            [0, 0, 0, 0, -1],
            A_ub=np.vstack([np.hstack([np.eye(4), np.ones((4, 1))]), [[-1, -1, -1, -1, 0]]]),
            b_ub=[*gains, 0.0],
            bounds=[(None if s else 0, None if b else 0) for s, b in zip(sells, buys, strict=True)]
            + [(None, None)],
        )
        assert solution.objective == pytest.approx(-found.fun, abs=1e-6)


def test_payments_that_earn_most_take_all_gains() -> None:
    market = market_of(1)
    graph = market.solve()
    gains = market.allocation_value(graph) - market.outside_option
    program = declare_payments(market, graph)
    solution = program.maximize(cp.sum(program["payment"])).solve("highspy")
    edges = graph["adjacency"]
    assert edges.any(axis=0).all()
    assert solution.objective == pytest.approx(gains.sum(), abs=1e-6)
    # Taking part has a price: one unit of outside option costs one unit of revenue.
    assert solution.dual("ir") == pytest.approx(-np.ones(4), abs=1e-6)


def test_graphs_that_lose_have_no_payments() -> None:
    market = SharingMarket([1.0, 1.0], 50.0 * (1 - np.eye(2)), LogUtility(1.0, 1.0))
    program = declare_payments(market, 1 - np.eye(2))
    with pytest.raises(Infeasible) as caught:
        program.solve("highspy")
    assert set(caught.value.families) == {"ir", "no_deficit"}
    with pytest.raises(InvalidInput, match="no self-sharing"):
        declare_payments(market, np.eye(2))
