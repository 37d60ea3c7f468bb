"""The ledger of the sharing-market paper."""

from mechopt.verification.claim import Ledger

LEDGER = Ledger()
