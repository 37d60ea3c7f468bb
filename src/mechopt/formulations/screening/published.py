"""Numbers that the figures of the contract paper must show, as printed.

The paper gives its figures without numbers. These follow from its parameters (weight 100, scale 2, unit
cost 1, types uniform on [0.01, 0.21]) by the corrected formulas, and were computed apart from this package.
Each is held to half a unit of its last digit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from mechopt.solvers.errors import MechanismError

LEVELS = (".01", ".02", ".03", ".05", ".06", ".1", ".11", ".15", ".16", ".21")


@dataclass(frozen=True)
class Entry:
    """One number of a figure: series ``name`` at privacy level ``eps`` (None for a number of its own)."""

    figure: str
    name: str
    eps: str | None
    printed: str

    @property
    def tolerance(self) -> float:
        """Half a unit of the last digit printed."""
        exponent = Decimal(self.printed).as_tuple().exponent
        assert isinstance(exponent, int)
        return 0.5 * 10.0**exponent

    def __str__(self) -> str:
        return f"{self.figure}, {self.name}" + (f" at eps = {self.eps}" if self.eps else "")


def _series(figure: str, name: str, printed: str, levels: tuple[str, ...] = LEVELS) -> Iterator[Entry]:
    for eps, number in zip(levels, printed.split(), strict=True):
        yield Entry(figure, name, eps, number)


def _scalars(figure: str, **printed: str) -> Iterator[Entry]:
    for name, number in printed.items():
        yield Entry(figure, name, None, number)


_QUANTITY = "9950 3308.333 1983.333 1101.111 900.7576 521.3158 471.645 341.4943 319.4556 241.5215"
_RENT = "184.1563 129.5723 104.2338 75.0998 65.1575 38.0857 33.1292 17.1456 13.8433 0"
_PAYMENT = "283.6563 195.7390 163.7338 130.1554 119.2029 90.2173 85.0101 68.3697 64.9562 50.7195"

PUBLISHED = (
    *_series("figure_2", "quantity", _QUANTITY),
    *_scalars("figure_2", value="369.789343", first_best_value="430.3317", expected_quantity="920.782"),
    *_scalars("figure_2", total_value="1848.947"),
    *_series("figure_3", "quantity", _QUANTITY),
    *_series("figure_3", "quantity_10", "9950 471.645", (".01", ".11")),
    *_series("figure_3", "quantity_50", "9950 5519.84 471.645", (".01", ".014", ".11")),
    *_series("figure_4", "payment", _PAYMENT),
    *_series("figure_4", "payment", "61.763 232.213 51.719", (".17", ".014", ".206")),
    *_series("figure_4", "rent", _RENT),
    *_scalars("figure_4", expected_rent="44.9341", expected_payment="99.0761"),
    *_series("figure_4", "payment_5", "194.701 51.015", (".01", ".17")),
    *_series("figure_4", "payment_10", "223.625 77.988", (".01", ".11")),
    *_series("figure_4", "payment_20", "246.168 81.472", (".01", ".11")),
    *_series("figure_4", "payment_50", "265.795 221.493 83.588 50.744", (".01", ".014", ".11", ".206")),
    *_scalars("figure_4", value_5="379.8671", value_10="374.2929", value_20="371.8095", value_50="370.5178"),
)


def check_numbers(figure: str, numbers: Mapping[str, Any]) -> tuple[int, float]:
    """Hold the numbers of a drawn figure to those printed.

    Parameters
    ----------
    figure : str
        ``"figure_2"``, ``"figure_3"`` or ``"figure_4"``.
    numbers : mapping
        What the figure shows: series, each with its privacy levels (``eps``, or ``types_50`` for
        ``quantity_50``), and single numbers.

    Returns
    -------
    n_numbers : int
        How many were compared.
    worst : float
        Largest deviation, relative to the number printed.

    Raises
    ------
    MechanismError
        Naming the figure and the entry, if a number is off by more than half a unit of its last digit.
    """
    entries = [entry for entry in PUBLISHED if entry.figure == figure]
    worst = 0.0
    for entry in entries:
        expected, drawn = float(entry.printed), _drawn(entry, numbers)
        # The last bits of a drawn number may tip a printed one that ends in an exact half.
        if not abs(drawn - expected) <= entry.tolerance * (1 + 1e-6):
            raise MechanismError(f"{entry}: drawn {drawn:.10g}, expected {entry.printed}")
        worst = max(worst, abs(drawn - expected) / max(abs(expected), 1.0))
    return len(entries), worst


def _drawn(entry: Entry, numbers: Mapping[str, Any]) -> float:
    try:
        values = numbers[entry.name]
        if entry.eps is None:
            return float(values)
        _, _, size = entry.name.partition("_")
        levels = np.asarray(numbers[f"types_{size}" if size else "eps"])
    except KeyError as error:
        raise MechanismError(f"{entry}: the figure has no {error}") from None
    index = int(np.argmin(np.abs(levels - float(entry.eps))))
    if abs(levels[index] - float(entry.eps)) > 1e-9:
        raise MechanismError(f"{entry}: no point is drawn there, the nearest is {levels[index]:.6g}")
    return float(values[index])
