"""Functions of data that every wing shares: gains, accuracies, costs.

One vocabulary serves numbers and programs. Each function gives its value, its derivative and the inverse of
its derivative on arrays, which the closed forms and the exact algorithms need, and a CVXPY expression, which
the declared programs need.
"""

from mechopt.formulations.functions.accuracies import (
    AccuracyFunction,
    GeneralizationBound,
    PowerLawAccuracy,
    SqrtAccuracy,
    TabulatedAccuracy,
    UserAccuracy,
)
from mechopt.formulations.functions.base import ConcaveFunction
from mechopt.formulations.functions.costs import ConvexCost, PowerCost, QuadraticCost
from mechopt.formulations.functions.custom import AtomGain, EvaluatedGain
from mechopt.formulations.functions.gains import (
    LogGain,
    PiecewiseLinearGain,
    PowerGain,
    QuadraticGain,
    SaturatingGain,
)
from mechopt.formulations.functions.utilities import (
    AccuracyUtility,
    AdditiveUtility,
    CappedUtility,
    InverseSqrtUtility,
    LinearUtility,
    LogUtility,
    SaturatingUtility,
    SizeUtility,
    SqrtUtility,
    TableUtility,
    ThresholdUtility,
    UserUtility,
    Utility,
)

__all__ = [
    "AccuracyFunction",
    "AccuracyUtility",
    "AdditiveUtility",
    "AtomGain",
    "CappedUtility",
    "ConcaveFunction",
    "ConvexCost",
    "EvaluatedGain",
    "GeneralizationBound",
    "InverseSqrtUtility",
    "LinearUtility",
    "LogGain",
    "LogUtility",
    "PiecewiseLinearGain",
    "PowerCost",
    "PowerGain",
    "PowerLawAccuracy",
    "QuadraticCost",
    "QuadraticGain",
    "SaturatingGain",
    "SaturatingUtility",
    "SizeUtility",
    "SqrtAccuracy",
    "SqrtUtility",
    "TableUtility",
    "TabulatedAccuracy",
    "ThresholdUtility",
    "UserAccuracy",
    "UserUtility",
    "Utility",
]
