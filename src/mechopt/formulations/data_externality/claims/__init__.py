"""The data-externality paper's results as claims: the corrected hold, those false as printed are refuted.

Every result R1 to R27 and every erratum E1 to E19 has one, but E18: in Theorem 7 the low-value users are once
misprinted, and there is no reading of that to refute. R22 is the theorem with them.
"""

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
