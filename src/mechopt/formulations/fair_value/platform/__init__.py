"""Fair payments of a platform: which share of the utility it pays, and who then shares data."""

from mechopt.formulations.fair_value.platform.certificates import Certificate
from mechopt.formulations.fair_value.platform.closed_form import Regime, Thresholds, TwoUsers
from mechopt.formulations.fair_value.platform.curves import WORKED_UTILITY, platform_curve, two_user_map
from mechopt.formulations.fair_value.platform.model import PlatformPayments
from mechopt.formulations.fair_value.platform.records import Equilibrium, PlatformSolution
from mechopt.formulations.fair_value.platform.utility import ExchangeableUtility

__all__ = [
    "WORKED_UTILITY",
    "Certificate",
    "Equilibrium",
    "ExchangeableUtility",
    "PlatformPayments",
    "PlatformSolution",
    "Regime",
    "Thresholds",
    "TwoUsers",
    "platform_curve",
    "two_user_map",
]
