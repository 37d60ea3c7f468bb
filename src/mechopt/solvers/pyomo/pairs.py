"""Complementarity pairs as constraints that solvers take.

Only what gave the enumerated optimum in every trial is here. Pyomo's ``mpec.standard_form`` and ``mpec.nl``
are not: solvers returned wrong answers for them, called optimal. Nor are disjunctions with a big constant
(``mpec.simple_disjunction`` and ``gdp.bigm``): right, but they need bounds that multipliers seldom have, leak
through a binary that is zero only to a tolerance, and took SCIP five to twenty times as long as ordered sets.
"""

from __future__ import annotations

from typing import Any

from mechopt.solvers.pyomo.atoms import NUMBER
from mechopt.solvers.pyomo.translate import Translation

Pair = tuple[Any, Any]
"""Two nonnegative Pyomo variables, one of which must be zero."""


def settle(translation: Translation) -> list[Pair]:
    """Return the pairs of two variables; where one side is a positive number, hold the other at zero."""
    open_pairs = []
    for _, _, a, b in translation.pairs:
        numbers = [side for side in (a, b) if isinstance(side, NUMBER)]
        if not numbers:
            open_pairs.append((a, b))
        elif len(numbers) == 2:
            translation.contradiction |= min(a, b) > 1e-9
        elif numbers[0] > 0:
            (b if isinstance(a, NUMBER) else a).setub(0.0)
    return open_pairs


def as_sets(translation: Translation, pairs: list[Pair]) -> None:
    """Let at most one of the two be nonzero: special ordered sets, on which branch and bound branches."""
    import pyomo.environ as pyo

    translation.model.sets = pyo.SOSConstraint(
        range(len(pairs)), rule=lambda _, number: list(pairs[number]), sos=1
    )


def as_products(translation: Translation, pairs: list[Pair]) -> None:
    """Write ``a b <= e``, with ``e`` in the parameter ``mpec_bound`` of the model."""
    import pyomo.environ as pyo
    from pyomo.mpec import ComplementarityList, complements

    model = translation.model
    model.pairs = ComplementarityList()
    for a, b in pairs:
        model.pairs.add(complements(a >= 0, b >= 0))
    pyo.TransformationFactory("mpec.simple_nonlinear").apply_to(model)


def loose(pairs: list[Pair], tolerance: float) -> bool:
    """Whether some pair is farther from complementarity than the tolerance, relative to its size."""
    return any(min(a.value, b.value) > tolerance * max(a.value, b.value, 1.0) for a, b in pairs)


def fix_smaller(pairs: list[Pair]) -> None:
    """Hold the smaller side of each pair at zero: what remains is a program without pairs."""
    for a, b in pairs:
        (a if a.value <= b.value else b).setub(0.0)
