"""Numbers that the figures of a paper must show, as printed, and what was drawn held to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from mechopt.solvers.errors import MechanismError


@dataclass(frozen=True)
class Entry:
    """One number of a figure: series ``name`` at a place on its axis (None for a number of its own)."""

    figure: str
    name: str
    at: str | None
    printed: str

    @property
    def tolerance(self) -> float:
        """Half a unit of the last digit printed."""
        exponent = Decimal(self.printed).as_tuple().exponent
        assert isinstance(exponent, int)
        return 0.5 * 10.0**exponent

    def __str__(self) -> str:
        return f"{self.figure}, {self.name}" + (f" at {self.at}" if self.at else "")


def series(figure: str, name: str, printed: str, places: str) -> Iterator[Entry]:
    """Entries of one series, numbers and places in one string each."""
    for at, number in zip(places.split(), printed.split(), strict=True):
        yield Entry(figure, name, at, number)


def scalars(figure: str, **printed: str) -> Iterator[Entry]:
    """Entries of numbers that stand for themselves."""
    for name, number in printed.items():
        yield Entry(figure, name, None, number)


def check_numbers(
    published: Iterable[Entry], figure: str, numbers: Mapping[str, Any], places_of: Callable[[str], str]
) -> tuple[int, float]:
    """Hold the numbers of a drawn figure to those printed.

    Parameters
    ----------
    published : iterable of Entry
        Of a paper; those of other figures are passed over.
    figure : str
        Its name.
    numbers : mapping
        What the figure shows: series, the places of each, and single numbers.
    places_of : callable
        Name of the array of places that a series is drawn against.

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
    entries = [entry for entry in published if entry.figure == figure]
    worst = 0.0
    for entry in entries:
        expected, drawn = float(entry.printed), _drawn(entry, numbers, places_of)
        # The last bits of a drawn number may tip a printed one that ends in an exact half.
        if not abs(drawn - expected) <= entry.tolerance * (1 + 1e-6):
            raise MechanismError(f"{entry}: drawn {drawn:.10g}, expected {entry.printed}")
        worst = max(worst, abs(drawn - expected) / max(abs(expected), 1.0))
    return len(entries), worst


def _drawn(entry: Entry, numbers: Mapping[str, Any], places_of: Callable[[str], str]) -> float:
    try:
        values = numbers[entry.name]
        if entry.at is None:
            return float(values)
        places = np.asarray(numbers[places_of(entry.name)])
    except KeyError as error:
        raise MechanismError(f"{entry}: the figure has no {error}") from None
    index = int(np.argmin(np.abs(places - float(entry.at))))
    if abs(places[index] - float(entry.at)) > 1e-9 * max(1.0, abs(float(entry.at))):
        raise MechanismError(f"{entry}: no point is drawn there, the nearest is {places[index]:.6g}")
    return float(values[index])
