"""Screening contract: buying data from holders whose privacy level is private."""

from mechopt.formulations.incentives import ic_pairs
from mechopt.formulations.screening.closed_form import ClosedForm
from mechopt.formulations.screening.continuous import ContinuousContract
from mechopt.formulations.screening.groups import ContractGroups
from mechopt.formulations.screening.model import ScreeningContract
from mechopt.formulations.screening.program import FORMS

__all__ = ["FORMS", "ClosedForm", "ContinuousContract", "ContractGroups", "ScreeningContract", "ic_pairs"]
