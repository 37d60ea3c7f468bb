"""Prices of data: competitive equilibria by the definition, how far prices may move, and the core."""

from mechopt.formulations.sharing_market.prices.core import check_core, coalition_values, declare_blocking
from mechopt.formulations.sharing_market.prices.equilibrium import (
    MarketCheck,
    check_equilibrium,
    competitive_prices,
    supply_program,
)
from mechopt.formulations.sharing_market.prices.intervals import (
    PriceFrontier,
    declare_prices,
    highest_prices,
    price_frontier,
    price_interval,
    solve_interval,
)

__all__ = [
    "MarketCheck",
    "PriceFrontier",
    "check_core",
    "check_equilibrium",
    "coalition_values",
    "competitive_prices",
    "declare_blocking",
    "declare_prices",
    "highest_prices",
    "price_frontier",
    "price_interval",
    "solve_interval",
    "supply_program",
]
