"""Numbers that the figures of the fair-value paper must show.

Where the paper does not print its parameters, these are for those that the figures state as assumed. They
were computed apart from this package. Each is held to half a unit of its last digit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mechopt.formulations import published
from mechopt.formulations.published import scalars, series

_REGIMES, _GROUPS = "1 2 3", "1 2 3 4"

FEDERATED = (
    *series("figure_5a", "utility", "40.2290 31.1840 54.3564", _REGIMES),
    *series("figure_5a", "federated_10", "-3.2666 -0.8811 -2.8175", _REGIMES),
    *series("figure_5a", "federated_100", "-2.6899 0.5280 2.7325", _REGIMES),
    *series("figure_5a", "direct_10", "3.6492 -0.1292 -1.8755", _REGIMES),
    *series("figure_5a", "direct_100", "5.9520 2.4819 6.0871", _REGIMES),
    *series("figure_5b", "utility", "1021.177 604.293 131.420 590.016", _GROUPS),
    *series("figure_5b", "federated_10", "-96.708 -31.819 -55.768 -31.749", _GROUPS),
    *series("figure_5b", "federated_100", "-96.123 27.745 -55.175 29.467", _GROUPS),
    *series("figure_5b", "direct_10", "-89.792 -21.829 -0.816 -20.381", _GROUPS),
    *series("figure_5b", "direct_100", "-87.481 63.217 1.495 64.829", _GROUPS),
    *series("figure_5b", "star", "851.550 80.837 234.264 35.887", _GROUPS),
)

_COSTS, _PAIRS = "0.2 0.4 0.5 0.6", "1 2 3 4 5 6 7 8"

PLATFORM = (
    *series("figure_6", "payment_share", "0.4 0.75 0.8571 0.9474", _COSTS),
    *series("figure_6", "share_probability", "1 0.8 0.5 0.2", _COSTS),
    *series("figure_6", "platform_utility", "0.6 0.2133 0.0833 0.0133", _COSTS),
    *series("figure_6", "total_utility", "1 0.8533 0.5833 0.2533", _COSTS),
    *series("figure_6", "payments", "0.4 0.64 0.5 0.24", _COSTS),
    *scalars("figure_6", cost_threshold_low="0.3333", cost_threshold_high="0.6667"),
    *series("figure_7", "platform_utility", "0.8 0.5 0.5667 0.5667 0.2667 0.2667 0.0667 0", _PAIRS),
    *series("figure_7", "payment_share", "0.2 0.5 0.15 0.15 0.6 0.6 0.9 0", _PAIRS),
    *series("figure_7", "payment_2", "0.1 0.25 0 0.1 0.4 0 0 0", _PAIRS),
)

PUBLISHED = (*FEDERATED, *PLATFORM)


def check_numbers(figure: str, numbers: Mapping[str, Any]) -> tuple[int, float]:
    """Hold the numbers of a drawn figure to those known; see `mechopt.formulations.published`."""
    return published.check_numbers(PUBLISHED, figure, numbers, lambda name: _PLACES[figure])


_PLACES = {"figure_5a": "regime", "figure_5b": "group", "figure_6": "privacy_cost", "figure_7": "pair"}
"""Name of the array of places that the series of each figure are drawn against."""
