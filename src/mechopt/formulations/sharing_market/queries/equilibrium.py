"""Prices and tariffs for queries, checked by the definition of a competitive equilibrium."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.sharing_market.prices import MarketCheck
from mechopt.formulations.sharing_market.queries.exact import best_queries
from mechopt.solvers.errors import InvalidInput

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.queries.model import QueryMarket

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]


def check(market: QueryMarket, query_count: IntArray, price: ArrayLike, tolerance: float) -> MarketCheck:
    """Check demand of every buyer and supply on every edge; see `QueryMarket.is_equilibrium`."""
    tariff = read_tariff(market, price)
    scale = money(market, tariff)
    seller, buyer = np.indices(query_count.shape)
    paid = tariff[seller, buyer, query_count]
    kept = market.buyer_value(query_count) - paid.sum(axis=0)
    best = [best_queries(market.query_problem(j, tariff=tariff)) for j in range(market.n_agents)]
    regret = np.array([purchase.surplus for purchase in best]) - kept
    j = int(np.argmax(regret))
    if regret[j] > tolerance * scale:
        wanted, now = best[j].query_count, query_count[:, j]
        return MarketCheck(
            False,
            "demand",
            j,
            tuple(wanted.tolist()),
            float(regret[j]),
            f"buyer {j} asks {now.tolist()} and keeps {kept[j]:.6g}; {wanted.tolist()} leaves it "
            f"{best[j].surplus:.6g}",
        )
    # Costs add up over buyers, so that a seller looks at each edge by itself.
    allowed = np.isfinite(market.tariff)
    margin = np.where(allowed, tariff - np.where(allowed, market.tariff, 0.0), -np.inf)
    missed = margin.max(axis=2) - margin[seller, buyer, query_count]
    i, j = (int(k) for k in np.unravel_index(int(np.argmax(missed)), missed.shape))
    if missed[i, j] > tolerance * scale:
        most = int(np.argmax(margin[i, j]))
        return MarketCheck(
            False,
            "supply",
            i,
            (i, j),
            float(missed[i, j]),
            f"seller {i} answers {query_count[i, j]} queries of buyer {j} and earns "
            f"{margin[i, j, query_count[i, j]]:.6g} on them; {most} would earn it {margin[i, j, most]:.6g}",
        )
    return MarketCheck(True, "", None, None, float(max(regret.max(), missed.max())), "")


def money(market: QueryMarket, tariff: Array) -> float:
    """Size of the money involved."""
    finite = tariff[np.isfinite(tariff)]
    return float(max(np.max(np.abs(market.outside_option)), np.max(np.abs(finite), initial=0.0), 1e-300))


def read_tariff(market: QueryMarket, price: ArrayLike) -> Array:
    """Return P[i, j, q] from a price a query or a tariff; infinite beyond ``max_queries``."""
    try:
        given: NDArray[Any] = np.asarray(price, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"price must be numbers: {error}") from None
    edges, levels = (market.n_agents, market.n_agents), market.levels.size
    if given.shape == edges:
        given = checks.square(given, market.n_agents, "price", "row = seller, column = buyer")
        given = given[:, :, np.newaxis] * np.arange(levels)
    if given.shape != (*edges, levels):
        raise InvalidInput(
            f"price has shape {given.shape}; it must be {edges}, a price a query, or {(*edges, levels)}, "
            "what 0, 1, ... queries cost; row = seller, column = buyer"
        )
    allowed = np.isfinite(market.tariff)
    broken = allowed & ~np.isfinite(given)
    if np.any(broken):
        place = [int(k) for k in np.argwhere(broken)[0]]
        raise InvalidInput(f"price{place} must be finite: max_queries allows as many queries")
    if np.any(given[:, :, 0] != 0):
        i, j = (int(k) for k in np.argwhere(given[:, :, 0] != 0)[0])
        raise InvalidInput(f"price[{i}, {j}, 0] = {given[i, j, 0]:g} must be 0: no query costs nothing")
    return np.where(allowed, given, np.inf)
