"""The ledger of the data-externality paper."""

from mechopt.verification.claim import Ledger

LEDGER = Ledger()
