"""Cost screening: data from agents whose cost is private, given what the others contribute."""

from mechopt.formulations.accuracy_shaping.cost_screening.closed_form import REGIMES, ClosedForm
from mechopt.formulations.accuracy_shaping.cost_screening.model import CostScreening, RewardCurve

__all__ = ["REGIMES", "ClosedForm", "CostScreening", "RewardCurve"]
