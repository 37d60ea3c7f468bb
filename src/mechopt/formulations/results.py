"""The papers' numbered results and errata, and which claims of the ledger stand for each.

Numbers are the project's own: ``R`` for results as corrected, ``E`` for statements that are false
or misprinted. A claim stands for the number that its id begins with: ``"contract/R7-costate"`` for R7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

NUMBERED: dict[str, dict[str, int]] = {
    "contract": {"R": 15, "E": 10},
    "accuracy-shaping": {"R": 17, "E": 10},
    "sharing-market": {"R": 17, "E": 16},
    "fair-value": {"R": 28, "E": 17},
    "data-externality": {"R": 27, "E": 19},
}
"""How many results and errata there are of each wing's paper."""

NO_CLAIM: dict[str, str] = {
    "data-externality/E18": "a misprint, V^(t) for V^(l) in Theorem 7: nothing to compute",
}
"""Numbers without a claim, and why."""


def number_of(id: str) -> str:
    """Return the number that a claim stands for: ``"contract/R7"`` of ``"contract/R7-costate"``.

    Claims that stand for none (what lies behind a result) give their own id.
    """
    found = re.match(r"([\w-]+/[RE]\d+)(?!\d)", id)
    return found.group(1) if found else id


def missing(ids: Iterable[str]) -> list[str]:
    """Return the numbers for which none of these claims stands, and no reason is given."""
    covered = {number_of(id) for id in ids} | set(NO_CLAIM)
    every = [
        f"{wing}/{kind}{number}"
        for wing, counts in NUMBERED.items()
        for kind, count in counts.items()
        for number in range(1, count + 1)
    ]
    return [name for name in every if name not in covered]


def unknown(ids: Iterable[str]) -> list[str]:
    """Return claims that stand for a number beyond those of their paper."""
    found = []
    for id in ids:
        wing, name = number_of(id).split("/")
        numbered = re.fullmatch(r"([RE])(\d+)", name)
        if numbered and int(numbered.group(2)) > NUMBERED.get(wing, {}).get(numbered.group(1), 0):
            found.append(id)
    return found
