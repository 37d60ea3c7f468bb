"""The sharing-market paper's results as claims: the corrected hold, those false as printed are refuted."""

from mechopt.formulations.sharing_market.claims import (
    network,
    network_errata,
    price_errata,
    prices,
    queries,
    vcg,
    vcg_errata,
)
from mechopt.formulations.sharing_market.claims.roads import LEDGER

__all__ = ["LEDGER", "network", "network_errata", "price_errata", "prices", "queries", "vcg", "vcg_errata"]
