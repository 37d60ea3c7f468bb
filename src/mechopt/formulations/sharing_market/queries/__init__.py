"""The market for queries: a seller answers questions about its data, and each answer costs it privacy."""

from mechopt.formulations.sharing_market.queries.matching import QueryMatch
from mechopt.formulations.sharing_market.queries.mixed import QueryMixedVCG
from mechopt.formulations.sharing_market.queries.model import QueryMarket, advanced_composition
from mechopt.formulations.sharing_market.queries.stability import QueryStability, StableStates
from mechopt.formulations.sharing_market.queries.vcg import QueryVCG

__all__ = [
    "QueryMarket",
    "QueryMatch",
    "QueryMixedVCG",
    "QueryStability",
    "QueryVCG",
    "StableStates",
    "advanced_composition",
]
