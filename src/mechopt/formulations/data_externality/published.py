"""Numbers that the figures of the data-externality paper must show.

The paper prints neither payoffs nor curves; these were computed apart from this package, with its formulas as
corrected. Each is held to half a unit of its last digit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mechopt.formulations import published
from mechopt.formulations.published import scalars, series

_PROFILES = "1 2 3 4"
_CORRELATIONS = "0.05 0.08 0.1 0.12 0.145"

PUBLISHED = (
    *series("figure_2", "payoff_1", "-0.0000050 0.000 0.000 -0.000029", _PROFILES),
    *series("figure_2", "payoff_2", "-0.000495 -0.190385 0.000 -0.190528", _PROFILES),
    *series("figure_2", "payoff_3", "0.000 -0.055 -0.000792 -0.055666", _PROFILES),
    *series("figure_2", "leaver_gain", "0.0000050 0.189890 -0.054208 0.055666", _PROFILES),
    *series("figure_2", "best_gain", "0.0000050 0.189890 -0.0000050 0.190528", _PROFILES),
    *series("figure_2", "repaired_best_gain", "0.0000050 0.016640 0.003850 0.017279", _PROFILES),
    *series("figure_3", "monopoly", "5.923077 2.923077 2.230769 1.854701 1.585384", _CORRELATIONS),
    *series("figure_3", "duopoly", "9.912684 4.481517 3.228171 2.547341 2.059772", _CORRELATIONS),
    *series("figure_3", "theorem_4", "10.880921 3.501518 2.222049", "0.05 0.1 0.145"),
    *series("figure_3", "second_region", "1.101849 1.131172 1.170817 1.195793", "0.12 0.13 0.14 0.145"),
    *scalars("figure_3", ratio="1.810"),
)


def check_numbers(figure: str, numbers: Mapping[str, Any]) -> tuple[int, float]:
    """Hold the numbers of a drawn figure to those known; see `mechopt.formulations.published`."""
    return published.check_numbers(PUBLISHED, figure, numbers, _places_of)


def _places_of(name: str) -> str:
    return "profile" if name.startswith(("payoff", "leaver", "best", "repaired")) else "correlation"
