"""Data externality: correlated data, the information that leaks about others, and platforms that buy it."""

from mechopt.formulations.data_externality.closed_form import ClosedForm
from mechopt.formulations.data_externality.duopoly import Duopoly, FirstBest
from mechopt.formulations.data_externality.exact import PlatformOptimum, platform_optimum
from mechopt.formulations.data_externality.groups import ExchangeableGroups
from mechopt.formulations.data_externality.model import DataExternality
from mechopt.formulations.data_externality.monopoly import Monopoly
from mechopt.formulations.data_externality.policy import (
    JoiningSubsidies,
    Release,
    ShutdownAdvice,
    efficient_sharing,
    inverse_covariance_release,
    joining_subsidies,
    marginal_tax,
    mediator_program,
    mediator_surplus,
    pigovian_tax,
    should_shut,
    subsidy_program,
    tax_program,
    taxed_purchase,
    uncompensated_loss,
    uniform_shutdown_tax,
)
from mechopt.formulations.data_externality.preset import PresetPrices
from mechopt.formulations.data_externality.program import leak_covers, relaxation_bound
from mechopt.formulations.data_externality.users import UserEquilibria, unique_prices

__all__ = [
    "ClosedForm",
    "DataExternality",
    "Duopoly",
    "ExchangeableGroups",
    "FirstBest",
    "JoiningSubsidies",
    "Monopoly",
    "PlatformOptimum",
    "PresetPrices",
    "Release",
    "ShutdownAdvice",
    "UserEquilibria",
    "efficient_sharing",
    "inverse_covariance_release",
    "joining_subsidies",
    "leak_covers",
    "marginal_tax",
    "mediator_program",
    "mediator_surplus",
    "pigovian_tax",
    "platform_optimum",
    "relaxation_bound",
    "should_shut",
    "subsidy_program",
    "tax_program",
    "taxed_purchase",
    "uncompensated_loss",
    "uniform_shutdown_tax",
    "unique_prices",
]
