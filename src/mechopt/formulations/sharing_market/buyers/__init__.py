"""One buyer's choice of sellers: the exact algorithms, and which of them applies."""

from mechopt.formulations.sharing_market.buyers.choice import (
    best_purchase,
    surplus_with_free_each,
    surplus_without_each,
)
from mechopt.formulations.sharing_market.buyers.problem import BuyerProblem, Purchase

__all__ = [
    "BuyerProblem",
    "Purchase",
    "best_purchase",
    "surplus_with_free_each",
    "surplus_without_each",
]
