"""The accuracy-shaping paper's results as claims: the corrected hold, those false as printed are refuted.

Ids follow the project's list: R for results as corrected, S for what lies behind them, E for statements as
the paper prints them. Gaps in accuracy are relative to its maximum, gaps in data to the pool, or to what an
agent would give for a perfect model.
"""

from mechopt.formulations.accuracy_shaping.claims import (
    alone,
    cost_screening,
    errata,
    private_errata,
    results,
    structure,
)
from mechopt.formulations.accuracy_shaping.claims.roads import LEDGER

__all__ = ["LEDGER", "alone", "cost_screening", "errata", "private_errata", "results", "structure"]
