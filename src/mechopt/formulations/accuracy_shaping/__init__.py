"""Accuracy shaping: data maximisation in federated learning, with models as the only payment."""

from mechopt.formulations.accuracy_shaping.closed_form import ClosedForm
from mechopt.formulations.accuracy_shaping.cost_profiles import CostProfiles
from mechopt.formulations.accuracy_shaping.mechanism import (
    Equilibrium,
    Mechanism,
    ShapedMechanism,
    StandardMechanism,
    UserMechanism,
)
from mechopt.formulations.accuracy_shaping.model import AccuracyShaping, Standalone, StandardFederated

__all__ = [
    "AccuracyShaping",
    "ClosedForm",
    "CostProfiles",
    "Equilibrium",
    "Mechanism",
    "ShapedMechanism",
    "Standalone",
    "StandardFederated",
    "StandardMechanism",
    "UserMechanism",
]
