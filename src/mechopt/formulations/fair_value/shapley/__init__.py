"""Fair values of users' data: Shapley values of the coalition games that privacy levels make."""

from mechopt.formulations.fair_value.shapley.model import CorePoint, FairDivision, FairValue
from mechopt.formulations.fair_value.shapley.program import Nucleolus

__all__ = ["CorePoint", "FairDivision", "FairValue", "Nucleolus"]
