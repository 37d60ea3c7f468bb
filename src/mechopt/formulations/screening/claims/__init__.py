"""The contract paper's results as claims: the corrected ones hold, those false as printed are refuted.

Ids follow the project's list: R for results as corrected, E for statements as the paper prints them. Gaps are
relative to the money at stake (the gain from the first best) or to the largest quantity.
"""

from mechopt.formulations.screening.claims import errata, privacy, results
from mechopt.formulations.screening.claims.roads import LEDGER

__all__ = ["LEDGER", "errata", "privacy", "results"]
