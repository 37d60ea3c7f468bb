"""First floor: audits of answers, and claims that run."""

from mechopt.verification.audit import Audit, Deviation, audit_choices, audit_deviations
from mechopt.verification.claim import Claim, Finding, Ledger, Outcome, Verdict, run_claim, run_claims

__all__ = [
    "Audit",
    "Claim",
    "Deviation",
    "Finding",
    "Ledger",
    "Outcome",
    "Verdict",
    "audit_choices",
    "audit_deviations",
    "run_claim",
    "run_claims",
]
