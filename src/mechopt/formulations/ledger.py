"""All claims of all wings, in one ledger."""

from __future__ import annotations

from functools import cache

from mechopt.verification.claim import Ledger


@cache
def ledger() -> Ledger:
    """Return every claim of the package, wing by wing."""
    from mechopt.formulations.accuracy_shaping import claims as accuracy_shaping
    from mechopt.formulations.screening import claims as screening

    merged = Ledger()
    for wing in (screening.LEDGER, accuracy_shaping.LEDGER):
        for claim in wing:
            merged.add(claim)
    return merged
