"""What checks of claims share: numbers put in a row, and refutations borne out a second time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mechopt.solvers.errors import MechanismError


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
