"""The data-externality paper's results as claims: the corrected hold, those false as printed are refuted."""

from mechopt.formulations.data_externality.claims import (
    duopoly,
    duopoly_errata,
    groups,
    leakage,
    monopoly,
    policy,
)
from mechopt.formulations.data_externality.claims.roads import LEDGER

__all__ = ["LEDGER", "duopoly", "duopoly_errata", "groups", "leakage", "monopoly", "policy"]
