"""All claims of all wings, in one ledger."""

from __future__ import annotations

from functools import cache

from mechopt.verification.claim import Ledger


@cache
def ledger() -> Ledger:
    """Return every claim of the package, wing by wing."""
    from mechopt.formulations.accuracy_shaping import claims as accuracy_shaping
    from mechopt.formulations.data_externality import claims as data_externality
    from mechopt.formulations.fair_value import claims as fair_value
    from mechopt.formulations.screening import claims as screening
    from mechopt.formulations.sharing_market import claims as sharing_market

    merged = Ledger()
    for wing in (screening, accuracy_shaping, sharing_market, fair_value, data_externality):
        for claim in wing.LEDGER:
            merged.add(claim)
    return merged
