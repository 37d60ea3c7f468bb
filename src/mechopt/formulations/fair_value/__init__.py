"""Fair value of private data, and the platform that chooses what to pay for it."""

from mechopt.formulations.fair_value.federated import FederatedMeanEstimation
from mechopt.formulations.fair_value.mean_estimation import MeanEstimation, utility_of_counts
from mechopt.formulations.fair_value.platform import PlatformPayments, PlatformSolution
from mechopt.formulations.fair_value.shapley import CorePoint, FairDivision, FairValue, Nucleolus

__all__ = [
    "CorePoint",
    "FairDivision",
    "FairValue",
    "FederatedMeanEstimation",
    "MeanEstimation",
    "Nucleolus",
    "PlatformPayments",
    "PlatformSolution",
    "utility_of_counts",
]
