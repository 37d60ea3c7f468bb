"""Estimation of every user's own mean, where users share data directly, through an average, or not at all."""

from mechopt.formulations.fair_value.federated.model import EstimatorWeights, FederatedMeanEstimation

__all__ = ["EstimatorWeights", "FederatedMeanEstimation"]
