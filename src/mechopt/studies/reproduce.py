"""Draw a paper's figures, and hold their numbers to those that are known."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mechopt.formulations.accuracy_shaping.figures import FIGURES as ACCURACY_FIGURES
from mechopt.formulations.accuracy_shaping.published import check_numbers as check_accuracy
from mechopt.formulations.data_externality.figures import FIGURES as EXTERNALITY_FIGURES
from mechopt.formulations.data_externality.published import check_numbers as check_externality
from mechopt.formulations.fair_value.figures import FIGURES as FAIR_VALUE_FIGURES
from mechopt.formulations.fair_value.published import check_numbers as check_fair_value
from mechopt.formulations.figures import save
from mechopt.formulations.screening.figures import FIGURES as SCREENING_FIGURES
from mechopt.formulations.screening.published import check_numbers as check_screening
from mechopt.solvers.errors import InvalidInput
from mechopt.studies.run import check_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class FigureResult:
    """One figure, drawn and checked.

    Attributes
    ----------
    name : str
    file : Path
        The PNG; the PDF and the numbers as CSV lie beside it.
    n_numbers : int
        How many numbers were held to known ones.
    worst : float
        Largest deviation from them, relative.
    """

    name: str
    file: Path
    n_numbers: int
    worst: float


@dataclass(frozen=True)
class _Paper:
    figures: Mapping[str, Callable[[], tuple[Figure, dict[str, Any]]]]
    check: Callable[[str, Mapping[str, Any]], tuple[int, float]]


PAPERS = {
    "contract": _Paper(SCREENING_FIGURES, check_screening),
    "accuracy-shaping": _Paper(ACCURACY_FIGURES, check_accuracy),
    "fair-value": _Paper(FAIR_VALUE_FIGURES, check_fair_value),
    "data-externality": _Paper(EXTERNALITY_FIGURES, check_externality),
}


def reproduce_paper(
    paper: str, out: Path | str, progress: Callable[[str, int, int], None] = lambda *_: None
) -> list[FigureResult]:
    """Draw every figure of a paper into a folder, with its numbers, and check these.

    Parameters
    ----------
    paper : str
        One of `PAPERS`.
    out : path
        Folder for ``figure_2.png``, ``figure_2.pdf``, ``figure_2.csv`` and so on; made if need be.
    progress : callable
        Called as ``progress(figure, number, total)`` before each figure.

    Returns
    -------
    list of FigureResult

    Raises
    ------
    InvalidInput
        For an unknown paper, or a folder that cannot be written to.
    MechanismError
        If a number is off, naming figure and entry; the figure is written all the same, to be looked at.
    """
    if paper not in PAPERS:
        raise InvalidInput(f"no paper {paper!r} to reproduce; there is {', '.join(PAPERS)}")
    folder = Path(out)
    check_output(folder)
    figures, results = PAPERS[paper].figures, []
    for number, (name, draw) in enumerate(figures.items()):
        progress(name, number, len(figures))
        figure, numbers = draw()
        png, _ = save(figure, folder, name)
        _write_numbers(folder / f"{name}.csv", numbers)
        results.append(FigureResult(name, png, *PAPERS[paper].check(name, numbers)))
    return results


def _write_numbers(path: Path, numbers: Mapping[str, Any]) -> None:
    """One number a row: its series and its place in it; numbers of their own have no place."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["series", "index", "value"])
        for name, values in numbers.items():
            for index, value in enumerate(np.atleast_1d(values)):
                writer.writerow([name, "" if np.ndim(values) == 0 else index, repr(float(value))])


__all__ = ["PAPERS", "FigureResult", "reproduce_paper"]
