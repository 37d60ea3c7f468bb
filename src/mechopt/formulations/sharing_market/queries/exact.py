r"""One buyer's choice of queries: :math:`\max_q \phi(d + \sum_i s_i q_i) - \sum_i P_i(q_i)`, exactly.

Which algorithm applies depends on the sizes s of answers and on the tariffs P:

- ``"marginal"``: answers of one size, tariffs that rise ever faster. The cheapest k queries are the k least
  marginal prices, so that one sort gives all k; any utility.
- ``"knapsack"``: sizes that are multiples of one unit. Least cost of each total by dynamic programming, with
  the queries of a seller split into 1, 2, 4, ... where its tariff is linear; any utility, any tariff.
- ``"items"``: other sizes, tariffs that rise ever faster. Queries are items of a buyer's problem, solved as
  there.
- ``"enumeration"``: anything, if there are few combinations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import ConcaveFunction, SizeUtility
from mechopt.formulations.sharing_market.buyers import BuyerProblem, best_purchase
from mechopt.solvers.errors import NotApplicable

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

KNAPSACK_CAP = 20_000_000
"""Entries of the table of choices, items times totals, up to which the dynamic program is run."""

ENUMERATION_CAP = 300_000
"""Combinations of queries up to which all are tried."""

ROUNDING = 1e-12
"""Relative difference up to which marginal prices, or sizes, count as equal."""


@dataclass(frozen=True, eq=False)
class QueryProblem:
    """What one buyer chooses from.

    Attributes
    ----------
    utility : ConcaveFunction or SizeUtility
        Of total information (money).
    own_size : float
        What it knows by itself (records).
    query_size : array, shape (n_sellers,)
        What an answer of each seller is worth (records), > 0.
    price : array, shape (n_sellers, n_levels)
        ``price[i, q]``: what q queries to seller i cost (money); 0 for none, infinite for more than allowed.
    """

    utility: ConcaveFunction | SizeUtility
    own_size: float
    query_size: Array
    price: Array

    @property
    def limit(self) -> IntArray:
        """Most queries to each seller, shape (n_sellers,)."""
        most: IntArray = np.isfinite(self.price).sum(axis=1) - 1
        return most

    def worth(self, query_count: NDArray[np.integer]) -> Array:
        """Utility of queries (money); ``query_count`` of shape (..., n_sellers)."""
        return self.utility(self.own_size + query_count @ self.query_size)

    def paid(self, query_count: NDArray[np.integer]) -> float:
        """What queries cost (money); ``query_count`` of shape (n_sellers,)."""
        return float(self.price[np.arange(len(self.price)), query_count].sum())


@dataclass(frozen=True, eq=False)
class QueryPurchase:
    """The queries that leave a buyer most.

    Attributes
    ----------
    query_count : array of int, shape (n_sellers,)
    utility, cost, surplus : float
        Money; ``surplus = utility - cost``.
    method : str
        Which algorithm found them.
    """

    query_count: IntArray
    utility: float
    cost: float
    surplus: float
    method: str


def best_queries(problem: QueryProblem) -> QueryPurchase:
    """Find the queries that leave a buyer most.

    Raises
    ------
    NotApplicable
        If no exact algorithm can take the problem in memory that there is; a program may.
    """
    open_to = np.flatnonzero(problem.limit > 0)
    count = np.zeros(len(problem.price), dtype=np.intp)
    if not open_to.size:
        return _purchase(problem, count, "marginal")
    part = QueryProblem(
        problem.utility, problem.own_size, problem.query_size[open_to], problem.price[open_to]
    )
    count[open_to], method = _dispatch(part)
    return _purchase(problem, count, method)


def _purchase(problem: QueryProblem, count: IntArray, method: str) -> QueryPurchase:
    count.setflags(write=False)
    utility, cost = float(problem.worth(count)), problem.paid(count)
    return QueryPurchase(count, utility, cost, utility - cost, method)


def _dispatch(problem: QueryProblem) -> tuple[IntArray, str]:
    with np.errstate(invalid="ignore"):  # infinite less infinite, beyond what is allowed
        size, convex = problem.query_size, _is_convex(np.diff(problem.price, axis=1))
    unit = common_unit(size)
    if convex and np.ptp(size) <= ROUNDING * size[0]:
        return by_marginal_price(problem), "marginal"
    combinations = float(np.sum(np.log10(problem.limit + 1.0)))
    if unit is not None:
        totals = 1 + round(float(problem.limit @ size) / unit)
        items = sum(len(list(_pieces(row))) for row in _marginals(problem))
        if items * totals <= KNAPSACK_CAP:
            return by_knapsack(problem, unit), "knapsack"
    if combinations <= np.log10(ENUMERATION_CAP):
        return by_enumeration(problem), "enumeration"
    if convex:
        return by_items(problem), "items"
    raise NotApplicable(
        f"no exact algorithm takes {len(size)} sellers whose answers have sizes without a common unit, at "
        f"prices that rise ever slower, with 10^{combinations:.1f} combinations; name a backend",
        reason="combinations of queries",
    )


def _marginals(problem: QueryProblem) -> list[Array]:
    """What each further query costs, seller by seller."""
    return [np.diff(row[: most + 1]) for row, most in zip(problem.price, problem.limit, strict=True)]


def _is_convex(marginal: Array) -> bool:
    """Whether nobody's further queries get cheaper; queries that are not allowed are infinite, or NaN."""
    size = np.max(np.abs(marginal), axis=-1, keepdims=True, initial=0.0, where=np.isfinite(marginal))
    return not np.any(np.diff(marginal) < -ROUNDING * size)


def _is_linear(marginal: Array) -> bool:
    return bool(np.ptp(marginal) <= ROUNDING * np.max(np.abs(marginal)))


def common_unit(size: Array) -> float | None:
    """Return the largest unit found of which all sizes are multiples, or None."""
    for unit in (float(size.min()), 1.0, 0.1, 0.01):
        multiple = size / unit
        if np.all(np.abs(multiple - np.round(multiple)) <= ROUNDING * multiple):
            whole = np.round(multiple).astype(np.int64)
            return unit * float(np.gcd.reduce(whole))
    return None


# ---------------------------------------------------------------- the algorithms


def by_marginal_price(problem: QueryProblem) -> IntArray:
    """Sort all queries by marginal price, and take the best number of the cheapest."""
    seller, level = np.nonzero(np.isfinite(problem.price[:, 1:]))
    price = problem.price[seller, level + 1] - problem.price[seller, level]
    order = np.argsort(price, kind="stable")  # queries to one seller stay in order
    spent = np.concatenate([[0.0], np.cumsum(price[order])])
    size = float(problem.query_size[0])
    gain = problem.utility(problem.own_size + size * np.arange(spent.size)) - spent
    taken = seller[order[: int(np.argmax(gain))]]
    return np.bincount(taken, minlength=len(problem.price)).astype(np.intp)


def _pieces(marginal: Array) -> Iterator[tuple[int, ...]]:
    """Numbers of queries of which a seller offers one: powers of two if its price is linear, or all."""
    most = marginal.size
    if not _is_linear(marginal):
        yield tuple(range(1, most + 1))
        return
    piece = 1
    while most > 0:
        yield (min(piece, most),)
        most -= min(piece, most)
        piece *= 2


def by_knapsack(problem: QueryProblem, unit: float) -> IntArray:
    """Find the least cost of each total of information, and the best total."""
    weight = np.round(problem.query_size / unit).astype(np.intp)
    totals = 1 + int(problem.limit @ weight)
    least = np.full(totals, np.inf)
    least[0] = 0.0
    steps: list[tuple[int, NDArray[np.int32]]] = []
    for seller, marginal in enumerate(_marginals(problem)):
        for choices in _pieces(marginal):
            before, chosen = least, np.zeros(totals, dtype=np.int32)
            least = before.copy()
            for count in choices:
                shift = count * weight[seller]
                if shift >= totals:
                    break
                offer = before[: totals - shift] + problem.price[seller, count]
                better = offer < least[shift:]
                least[shift:][better] = offer[better]
                chosen[shift:][better] = count
            steps.append((seller, chosen))
    reached = np.flatnonzero(np.isfinite(least))
    gain = problem.utility(problem.own_size + unit * reached) - least[reached]
    total = int(reached[np.argmax(gain)])
    taken = np.zeros(len(weight), dtype=np.intp)
    for seller, chosen in reversed(steps):
        count = int(chosen[total])
        taken[seller] += count
        total -= count * int(weight[seller])
    return taken


def by_items(problem: QueryProblem) -> IntArray:
    """Make each query, or power of two of them, an item of a buyer's problem."""
    seller, counts, price = list[int](), list[int](), list[float]()
    for index, marginal in enumerate(_marginals(problem)):
        if _is_linear(marginal):
            sizes = [choices[0] for choices in _pieces(marginal)]
            costs = [float(problem.price[index, size]) for size in sizes]
        else:
            # One seller's queries are alike and get dearer, so whoever takes k takes the first k.
            sizes, costs = [1] * marginal.size, marginal.tolist()
        seller += [index] * len(sizes)
        counts += sizes
        price += costs
    count = np.array(counts)
    items = BuyerProblem(
        utility=problem.utility,
        own_size=problem.own_size,
        data_size=problem.query_size[seller] * count,
        quality_weight=np.ones(count.size),
        cost=np.array(price),
        available=np.ones(count.size, dtype=bool),
    )
    taken = best_purchase(items).taken
    weights = np.where(taken, count, 0)
    return np.bincount(seller, weights=weights, minlength=len(problem.price)).astype(np.intp)


def by_enumeration(problem: QueryProblem) -> IntArray:
    """Try every combination."""
    levels = [np.arange(most + 1) for most in problem.limit]
    grids = np.meshgrid(*levels, indexing="ij", sparse=True)
    data, cost = np.asarray(problem.own_size), np.asarray(0.0)
    for grid, size, price in zip(grids, problem.query_size, problem.price, strict=True):
        data = data + size * grid
        cost = cost + price[grid]
    gain = problem.utility(data) - cost
    return np.array(np.unravel_index(int(np.argmax(gain)), gain.shape), dtype=np.intp)
