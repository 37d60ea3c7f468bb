"""The fair-value paper's results as claims: the corrected hold, those false as printed are refuted."""

from mechopt.formulations.fair_value.claims import (
    estimation,
    federation,
    heterogeneous,
    platform,
    platform_errata,
    shapley,
)
from mechopt.formulations.fair_value.claims.roads import LEDGER

__all__ = [
    "LEDGER",
    "estimation",
    "federation",
    "heterogeneous",
    "platform",
    "platform_errata",
    "shapley",
]
