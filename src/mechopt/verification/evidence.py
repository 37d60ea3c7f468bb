"""What checks of claims share: numbers put in a row, refutations borne out a second time, and rationals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mechopt.solvers.errors import MechanismError, NotApplicable


def largest(values: ArrayLike) -> float:
    """Return the largest absolute value, 0 of none."""
    return float(np.max(np.abs(values), initial=0.0))


def row(values: Iterable[Any]) -> str:
    """Print numbers in a row, six digits each."""
    return "(" + ", ".join(f"{float(value):.6g}" for value in values) + ")"


_CONFIRMED: ContextVar[list[str] | None] = ContextVar("confirmed", default=None)


@contextmanager
def noting_confirmations() -> Iterator[list[str]]:
    """Collect what `confirm` bears out inside the block."""
    facts: list[str] = []
    token = _CONFIRMED.set(facts)
    try:
        yield facts
    finally:
        _CONFIRMED.reset(token)


def confirm(fact: Any, what: str) -> None:
    """Stop a refutation that its second computation does not bear out: the claim becomes undecided.

    What is borne out is noted in the outcome, so that a refutation without a second computation is seen.
    """
    if not fact:
        raise MechanismError(f"not confirmed: {what}")
    facts = _CONFIRMED.get()
    if facts is not None and what not in facts:
        facts.append(what)


# ------------------------------------------------------------ rationals


def fraction(number: Any) -> Fraction:
    """Return the decimal that a number prints as: 0.1 is one tenth, as whoever reads the instance takes it.

    Raises
    ------
    NotApplicable
        If it is infinite or not a number.
    """
    try:
        return Fraction(repr(float(number)))
    except ValueError:
        raise NotApplicable(f"{number} is no fraction") from None


def fractions(numbers: Iterable[Any]) -> tuple[Fraction, ...]:
    """Return the decimals that numbers print as."""
    return tuple(map(fraction, numbers))


def solved_in_fractions(
    matrix: Sequence[Sequence[Fraction]], right: Sequence[Sequence[Fraction]]
) -> list[list[Fraction]]:
    """Solve A X = B by Gaussian elimination without rounding.

    Parameters
    ----------
    matrix : sequence of sequences of Fraction, shape (n, n)
    right : sequence of sequences of Fraction, shape (n, n_columns)

    Returns
    -------
    list of lists of Fraction, shape (n, n_columns)

    Raises
    ------
    NotApplicable
        If the matrix is singular.

    Examples
    --------
    >>> solved_in_fractions([[Fraction(2)]], [[Fraction(1), Fraction(3)]])
    [[Fraction(1, 2), Fraction(3, 2)]]
    """
    n = len(matrix)
    rows = [[*left, *others] for left, others in zip(matrix, right, strict=True)]
    for k in range(n):
        pivot = next((i for i in range(k, n) if rows[i][k]), None)
        if pivot is None:
            raise NotApplicable("the linear system is singular")
        rows[k], rows[pivot] = rows[pivot], rows[k]
        inverse = 1 / rows[k][k]
        rows[k] = [entry * inverse for entry in rows[k]]
        for i in range(n):
            factor = rows[i][k]
            if i != k and factor:
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[k], strict=True)]
    return [row[n:] for row in rows]
