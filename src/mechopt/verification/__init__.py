"""First floor: audits of answers, claims that run, and closed forms held against programs.

The decorator `mechopt.claim` lives in `mechopt.verification.own`: here its name is that of a module.
"""

from mechopt.verification.audit import Audit, Deviation, audit_choices, audit_deviations
from mechopt.verification.by_backend import run_claim_on
from mechopt.verification.claim import (
    BackendRow,
    Claim,
    Finding,
    Ledger,
    Outcome,
    Verdict,
    run_claim,
    run_claims,
)
from mechopt.verification.comparison import Comparison, ComparisonRow, compare
from mechopt.verification.counterexample import (
    Counterexample,
    Replay,
    read_counterexamples,
    replay,
    write_counterexamples,
)
from mechopt.verification.runner import RunSettings, iter_outcomes
from mechopt.verification.shrinking import shrink

__all__ = [
    "Audit",
    "BackendRow",
    "Claim",
    "Comparison",
    "ComparisonRow",
    "Counterexample",
    "Deviation",
    "Finding",
    "Ledger",
    "Outcome",
    "Replay",
    "RunSettings",
    "Verdict",
    "audit_choices",
    "audit_deviations",
    "compare",
    "iter_outcomes",
    "read_counterexamples",
    "replay",
    "run_claim",
    "run_claim_on",
    "run_claims",
    "shrink",
    "write_counterexamples",
]
