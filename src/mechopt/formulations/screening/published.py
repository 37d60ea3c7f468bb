"""Numbers that the figures of the contract paper must show, as printed.

The paper gives its figures without numbers. These follow from its parameters (weight 100, scale 2, unit
cost 1, types uniform on [0.01, 0.21]) by the corrected formulas, and were computed apart from this package.
Each is held to half a unit of its last digit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mechopt.formulations import published
from mechopt.formulations.published import scalars, series

LEVELS = ".01 .02 .03 .05 .06 .1 .11 .15 .16 .21"

_QUANTITY = "9950 3308.333 1983.333 1101.111 900.7576 521.3158 471.645 341.4943 319.4556 241.5215"
_RENT = "184.1563 129.5723 104.2338 75.0998 65.1575 38.0857 33.1292 17.1456 13.8433 0"
_PAYMENT = "283.6563 195.7390 163.7338 130.1554 119.2029 90.2173 85.0101 68.3697 64.9562 50.7195"

PUBLISHED = (
    *series("figure_2", "quantity", _QUANTITY, LEVELS),
    *scalars("figure_2", value="369.789343", first_best_value="430.3317", expected_quantity="920.782"),
    *scalars("figure_2", total_value="1848.947"),
    *series("figure_3", "quantity", _QUANTITY, LEVELS),
    *series("figure_3", "quantity_10", "9950 471.645", ".01 .11"),
    *series("figure_3", "quantity_50", "9950 5519.84 471.645", ".01 .014 .11"),
    *series("figure_4", "payment", _PAYMENT, LEVELS),
    *series("figure_4", "payment", "61.763 232.213 51.719", ".17 .014 .206"),
    *series("figure_4", "rent", _RENT, LEVELS),
    *scalars("figure_4", expected_rent="44.9341", expected_payment="99.0761"),
    *series("figure_4", "payment_5", "194.701 51.015", ".01 .17"),
    *series("figure_4", "payment_10", "223.625 77.988", ".01 .11"),
    *series("figure_4", "payment_20", "246.168 81.472", ".01 .11"),
    *series("figure_4", "payment_50", "265.795 221.493 83.588 50.744", ".01 .014 .11 .206"),
    *scalars("figure_4", value_5="379.8671", value_10="374.2929", value_20="371.8095", value_50="370.5178"),
)


def check_numbers(figure: str, numbers: Mapping[str, Any]) -> tuple[int, float]:
    """Hold the numbers of a drawn figure to those printed; see `mechopt.formulations.published`."""
    return published.check_numbers(PUBLISHED, figure, numbers, _types_of)


def _types_of(name: str) -> str:
    """Types of a series: ``types_50`` for ``quantity_50``, else the privacy levels of the curve."""
    _, _, size = name.partition("_")
    return f"types_{size}" if size else "eps"
