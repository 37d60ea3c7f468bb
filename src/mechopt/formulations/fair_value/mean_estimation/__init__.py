"""Private estimation of a mean at privacy levels that users choose: the paper's Example 1."""

from mechopt.formulations.fair_value.mean_estimation.audit import PrivacyAudit
from mechopt.formulations.fair_value.mean_estimation.closed_form import utility_of_counts
from mechopt.formulations.fair_value.mean_estimation.model import MeanEstimation

__all__ = ["MeanEstimation", "PrivacyAudit", "utility_of_counts"]
