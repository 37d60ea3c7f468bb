"""What a regulator can do: taxes on sharing, a mediator, subsidies for joining, or no market at all."""

from mechopt.formulations.data_externality.policy.advice import Market, ShutdownAdvice, should_shut
from mechopt.formulations.data_externality.policy.joining import (
    JoiningSubsidies,
    joining_subsidies,
    subsidy_program,
)
from mechopt.formulations.data_externality.policy.mediator import mediator, mediator_program
from mechopt.formulations.data_externality.policy.release import (
    Release,
    inverse_covariance_release,
    mediator_surplus,
)
from mechopt.formulations.data_externality.policy.surplus import (
    efficient_sharing,
    uncompensated_loss,
)
from mechopt.formulations.data_externality.policy.tax import (
    TaxedPurchase,
    marginal_tax,
    pigovian_tax,
    tax_program,
    taxed_purchase,
    uniform_shutdown_tax,
)

__all__ = [
    "JoiningSubsidies",
    "Market",
    "Release",
    "ShutdownAdvice",
    "TaxedPurchase",
    "efficient_sharing",
    "inverse_covariance_release",
    "joining_subsidies",
    "marginal_tax",
    "mediator",
    "mediator_program",
    "mediator_surplus",
    "pigovian_tax",
    "should_shut",
    "subsidy_program",
    "tax_program",
    "taxed_purchase",
    "uncompensated_loss",
    "uniform_shutdown_tax",
]
