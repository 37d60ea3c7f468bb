"""The joining game of two platforms or more: its equilibria, their surplus, and what is best for all."""

from mechopt.formulations.data_externality.duopoly.conditions import (
    Efficiency,
    efficiency,
    isolated_slack,
    spillover_threshold,
)
from mechopt.formulations.data_externality.duopoly.game import Duopoly
from mechopt.formulations.data_externality.duopoly.outcomes import Outcome, SampledSurplus
from mechopt.formulations.data_externality.duopoly.welfare import (
    FirstBest,
    first_best,
    printed_surplus_bound,
    surplus_bound,
)

__all__ = [
    "Duopoly",
    "Efficiency",
    "FirstBest",
    "Outcome",
    "SampledSurplus",
    "efficiency",
    "first_best",
    "isolated_slack",
    "printed_surplus_bound",
    "spillover_threshold",
    "surplus_bound",
]
