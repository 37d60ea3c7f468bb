"""The laws for the sharing market, with data, with queries, and for networks without money."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

import mechopt as mo
from tests.properties import laws
from tests.properties.contracts import dearer_gain
from tests.properties.laws import Bounded, Expected, Outcome, Part, Wing


def utilities() -> st.SearchStrategy[Any]:
    weight, size = laws.numbers(2, 22), laws.numbers(1, 9)
    return st.one_of(
        st.builds(mo.LogUtility, weight, size),
        st.builds(mo.SaturatingUtility, weight, size),
        st.builds(mo.SqrtUtility, weight),
        st.builds(mo.CappedUtility, weight, size),
    )


def square(n: int, entries: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    """Draw a matrix with a diagonal of zeros."""
    flat = st.lists(entries, min_size=n * n, max_size=n * n)
    return flat.map(lambda x: np.array(x).reshape(n, n) * (1 - np.eye(n)))


@st.composite
def markets(draw: Any) -> mo.SharingMarket:
    n = draw(st.integers(1, 4))
    size = np.array(draw(st.lists(laws.numbers(0.5, 8.5), min_size=n, max_size=n)))
    cost = draw(square(n, laws.numbers(0.0, 4.0)))
    return mo.SharingMarket(size, cost, [draw(utilities()) for _ in range(n)])


def own_data(market: Any) -> Any:
    """What each agent's own data are worth to it."""
    return np.array([float(f(d)) for f, d in zip(market.utility, market.data_size, strict=True)])


def market_outcome(market: mo.SharingMarket) -> Outcome:
    answer, vcg = market.solve(), market.vcg()
    return {
        "objective": Part(answer.objective, money=True),
        "adjacency": Part(answer["adjacency"], axes=2, unique=False),
        # VCG payments depend on the graph that is chosen where several are best; payoffs do not.
        "payoff": Part(vcg.payoff, money=True, axes=1),
        "pivot_value": Part(vcg.pivot_value, money=True, axes=1),
    }


def market_in_money(market: mo.SharingMarket, factor: float) -> mo.SharingMarket:
    dearer = tuple(dearer_gain(utility, factor) for utility in market.utility)
    return replace(market, sharing_cost=market.sharing_cost * factor, utility=dearer)


def market_permuted(market: Any, order: laws.Order) -> Any:
    return replace(
        market,
        data_size=market.data_size[order],
        sharing_cost=market.sharing_cost[np.ix_(order, order)],
        utility=tuple(market.utility[i] for i in order),
        **(
            {
                "max_queries": market.max_queries[np.ix_(order, order)],
                "query_size": market.query_size[order],
            }
            if isinstance(market, mo.QueryMarket)
            else {"quality_weight": None}
        ),
    )


def market_alone(market: mo.SharingMarket) -> Iterator[Expected]:
    one = mo.SharingMarket(market.data_size[:1], [[0.0]], market.utility[:1])
    yield Expected("its own data", one.solve().objective, own_data(market)[0], laws.ROUNDING)
    yield Expected("nothing to pay", one.vcg().payment, [0.0], size=1.0)


def market_free(market: mo.SharingMarket) -> Iterator[Expected]:
    free = replace(market, sharing_cost=0 * market.sharing_cost)
    total = market.data_size.sum()
    wanted = sum(float(utility(total)) for utility in market.utility)
    answer = free.solve()
    yield Expected("all data for all", answer.objective, wanted)
    if not any(utility.has_kinks for utility in market.utility):  # who has enough need not take more
        yield Expected("of everybody", answer["data"], np.full(market.n_agents, total))


def market_limits(market: mo.SharingMarket) -> Iterator[Expected]:
    n, most = market.n_agents, sum(float(utility(market.data_size.sum())) for utility in market.utility)
    dear = replace(market, sharing_cost=(most + 1.0) * (1 - np.eye(n)))
    answer = dear.solve()
    yield Expected("nothing is shared at a prohibitive cost", answer["adjacency"], np.zeros((n, n)))
    yield Expected("and own data are what there is", answer.objective, own_data(market).sum())
    yield Expected("nobody pays", dear.vcg().payment, np.zeros(n), size=most)
    before, silent = market.solve().objective, replace(market, quality_weight=np.eye(n))
    yield Expected("data that count for nothing", silent.solve().objective, own_data(market).sum())
    # A newcomer whose data nobody can use at a price, and to whom they are worth nothing much.
    cost = np.pad(market.sharing_cost, (0, 1), constant_values=most + 1.0)
    cost[n, n] = 0.0
    tiny = mo.LogUtility(1e-9, 1.0)
    larger = mo.SharingMarket(np.append(market.data_size, 1.0), cost, (*market.utility, tiny))
    yield Expected("an outsider changes nothing", larger.solve().objective, before, 1e-8)


def market_bounded(market: mo.SharingMarket) -> Bounded:
    return Bounded(lambda: market.program(fractional=True), "adjacency")


MARKET = Wing(
    "SharingMarket",
    markets(),
    market_outcome,
    in_money=market_in_money,
    permuted=market_permuted,
    worth=lambda market, values: market.welfare(values["adjacency"]),
    n_agents=lambda market: market.n_agents,
    alone=market_alone,
    free_data=market_free,
    limits=market_limits,
    bounded=market_bounded,
)


# ------------------------------------------------------------ queries


@st.composite
def query_markets(draw: Any) -> mo.QueryMarket:
    market = draw(markets().filter(lambda market: market.n_agents <= 3))
    n = market.n_agents
    most = draw(square(n, st.integers(0, 3).map(float))).astype(int)
    sizes = np.array(draw(st.lists(laws.numbers(0.5, 2.5), min_size=n, max_size=n)))
    return mo.QueryMarket(market.data_size, market.sharing_cost, market.utility, most, sizes)


def queries_outcome(market: mo.QueryMarket) -> Outcome:
    answer, vcg = market.solve(), market.vcg()
    return {
        "objective": Part(answer.objective, money=True),
        "query_count": Part(answer["query_count"], axes=2, unique=False),
        "payoff": Part(vcg.payoff, money=True, axes=1),
    }


def queries_alone(market: mo.QueryMarket) -> Iterator[Expected]:
    one = mo.QueryMarket(market.data_size[:1], [[0.0]], market.utility[:1], [[0]], market.query_size[:1])
    yield Expected("its own data", one.solve().objective, own_data(market)[0], laws.ROUNDING)


def queries_free(market: mo.QueryMarket) -> Iterator[Expected]:
    free = replace(market, sharing_cost=0 * market.sharing_cost).solve()
    data = market.data_size + market.query_size @ market.max_queries
    wanted = sum(float(utility(total)) for utility, total in zip(market.utility, data, strict=True))
    yield Expected("all queries are asked", free.objective, wanted)
    if not any(utility.has_kinks for utility in market.utility):
        yield Expected("and answered", free["data"], data)


def queries_limits(market: mo.QueryMarket) -> Iterator[Expected]:
    n = market.n_agents
    data = market.data_size + market.query_size @ market.max_queries
    most = sum(float(utility(total)) for utility, total in zip(market.utility, data, strict=True))
    dear = replace(market, sharing_cost=(most + 1.0) * (1 - np.eye(n))).solve()
    yield Expected("nothing is asked at a prohibitive cost", dear["query_count"], np.zeros((n, n)))
    none = replace(market, max_queries=np.zeros((n, n), dtype=int)).solve()
    yield Expected("nothing may be asked", none.objective, own_data(market).sum())
    # With one query an edge, which is worth all data of the seller, it is the market for data.
    once = replace(
        market, max_queries=(1 - np.eye(n)).astype(int), query_size=market.data_size, composition=None
    )
    sold = mo.SharingMarket(market.data_size, market.sharing_cost, market.utility)
    yield Expected("one query for all data", once.solve().objective, sold.solve().objective)


QUERIES = Wing(
    "QueryMarket",
    query_markets(),
    queries_outcome,
    in_money=market_in_money,
    permuted=market_permuted,
    worth=lambda market, values: market.welfare(values["query_count"]),
    n_agents=lambda market: market.n_agents,
    alone=queries_alone,
    free_data=queries_free,
    limits=queries_limits,
    unpriced=lambda market: Bounded(market.program, "query_count", backend="outer"),
    reasons={"prices": "queries are whole numbers, and an integer program has no prices"},
)


# ------------------------------------------------------------ networks


@st.composite
def networks(draw: Any) -> mo.SharingNetwork:
    sizes = sorted(draw(st.lists(laws.numbers(0.5, 8.5), min_size=1, max_size=4, unique=True)), reverse=True)
    utility = [draw(utilities().filter(lambda utility: not utility.has_kinks)) for _ in sizes]
    # Marginal costs that rise, and no two sums that are equal: ties are refused by `ordered_match`.
    steps = np.sort([draw(laws.numbers(0.013, 2.013)) for _ in sizes[1:]])
    return Described(sizes, utility, np.append(0.0, np.cumsum(steps))).network()


class Described:
    """What a network was made of: it keeps preferences only."""

    def __init__(self, sizes: Any, utility: Any, costs: Any) -> None:
        self.sizes, self.utility, self.costs = np.array(sizes), list(utility), np.array(costs)

    def network(self) -> Any:
        made = mo.SharingNetwork(self.utility, data_size=self.sizes, count_costs=self.costs)
        object.__setattr__(made, "described", self)
        return made


def by_size(network: Any) -> list[int]:
    return np.argsort(-network.described.sizes).tolist()


def network_outcome(network: Any) -> Outcome:
    graph = network.ordered_match(by_size(network))
    return {
        "objective": Part(network.best_welfare()[1], money=True),
        "graph": Part(graph, axes=2),
        "utility": Part(network.agent_utility(graph), money=True, axes=1),
        "best graph": Part(network.best_welfare()[0], axes=2, unique=False),
        "stable": Part(network.is_stable(graph).stable),
    }


def network_in_money(network: Any, factor: float) -> Any:
    was = network.described
    return Described(was.sizes, [dearer_gain(u, factor) for u in was.utility], was.costs * factor).network()


def network_permuted(network: Any, order: laws.Order) -> Any:
    was = network.described
    return Described(was.sizes[order], [was.utility[i] for i in order], was.costs).network()


def network_alone(network: Any) -> Iterator[Expected]:
    was = network.described
    one = Described(was.sizes[:1], was.utility[:1], [0.0]).network()
    yield Expected("no partners", one.ordered_match([0]), [[0]])
    yield Expected("its own data", one.agent_utility([[0]]), [float(was.utility[0](was.sizes[0]))])


def network_free(network: Any) -> Iterator[Expected]:
    was = network.described
    free = Described(was.sizes, was.utility, 0 * was.costs).network()
    n = len(was.sizes)
    yield Expected("everybody with everybody", free.ordered_match(by_size(network)), 1 - np.eye(n))
    wanted = [float(utility(was.sizes.sum())) for utility in was.utility]
    yield Expected("all data for all", free.best_welfare()[1], sum(wanted))


def network_limits(network: Any) -> Iterator[Expected]:
    was = network.described
    n, most = len(was.sizes), sum(float(utility(was.sizes.sum())) for utility in was.utility)
    dear = Described(was.sizes, was.utility, (most + 1.0) * np.arange(n)).network()
    yield Expected("nobody at a prohibitive cost", dear.ordered_match(by_size(network)), np.zeros((n, n)))
    yield Expected("nor in the best graph", dear.best_welfare()[0], np.zeros((n, n)))


NETWORK = Wing(
    "SharingNetwork",
    networks(),
    network_outcome,
    in_money=network_in_money,
    permuted=network_permuted,
    worth=lambda network, values: network.welfare(values["best graph"]),
    n_agents=lambda network: network.n_agents,
    alone=network_alone,
    free_data=network_free,
    limits=network_limits,
    reasons={
        "prices": "a network is stable or not: there is no program whose right-hand side could move",
        "slack": "its only programs look for a coalition that blocks a graph, and none is what we hope for",
    },
)

WINGS = (MARKET, QUERIES, NETWORK)
