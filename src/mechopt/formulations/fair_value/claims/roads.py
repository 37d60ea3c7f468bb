"""The ledger of the fair-value paper."""

from mechopt.verification.claim import Ledger

LEDGER = Ledger()
