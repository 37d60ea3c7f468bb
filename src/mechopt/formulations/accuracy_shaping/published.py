"""Numbers that the figures of the accuracy-shaping paper must show.

The parameters of the paper's figures are lost; these are for accuracy bound (2) with maximal accuracy 0.95,
and were computed apart from this package. Each is held to half a unit of its last digit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mechopt.formulations import published
from mechopt.formulations.published import scalars, series

_COSTS = "1e-7 1e-6 1e-5 1e-4"

PUBLISHED = (
    *scalars("figure_2", viability_cost_1="2.12202e-3", viability_cost_10="5.69749e-4"),
    *scalars("figure_2", viability_cost_100="9.23084e-5", viability_cost_1000="1.11433e-5"),
    *series("figure_2", "contribution_1", "125201 26298.9 5506.93 1148.39", _COSTS),
    *series("figure_2", "contribution_10", "201869 41625.4 8514.86 1721.41", _COSTS),
    *series("figure_2", "contribution_100", "368662 74522.2 14815.4 0", _COSTS),
    *series("figure_2", "contribution_1000", "709799 140083 26721.7 0", _COSTS),
    *scalars("figure_2", slope_1="-0.678", slope_1000="-0.705"),
    *series(
        "figure_4", "per_cost", "24316.1 1623.81 810.980 124.922 42.1551 0", "1e-5 5e-4 1e-3 5e-3 1e-2 2e-2"
    ),
    *series(
        "figure_4",
        "per_agents_hard",
        "0 421.551 561.725 663.678 752.497 810.980 886.548 928.839",
        "1 2 3 5 10 20 100 1000",
    ),
    *series("figure_4", "per_agents_viable", "1721.41 3535.60 4717.30 5291.78", "1 2 10 100"),
    *series("figure_4", "per_agents_easy", "238.113 483.845 639.856 713.677", "1 2 10 100"),
)


def check_numbers(figure: str, numbers: Mapping[str, Any]) -> tuple[int, float]:
    """Hold the numbers of a drawn figure to those known; see `mechopt.formulations.published`."""
    return published.check_numbers(PUBLISHED, figure, numbers, _places_of)


def _places_of(name: str) -> str:
    return "n_agents" if name.startswith("per_agents") else "cost"
