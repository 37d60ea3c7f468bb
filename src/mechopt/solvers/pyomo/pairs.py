"""Complementarity pairs as constraints that solvers take.

Only transformations that gave the enumerated optimum in every trial are here. Pyomo's ``mpec.standard_form`` and
``mpec.nl`` are not: solvers returned wrong answers for them, called optimal.
"""

from __future__ import annotations

from typing import Any

from mechopt.solvers.pyomo.atoms import NUMBER
from mechopt.solvers.pyomo.translate import Translation

Pair = tuple[Any, Any]
"""Two nonnegative Pyomo variables, one of which must be zero."""

LARGE = 1e6
"""Bounds beyond this make no big constant: a binary at the solver's tolerance would let the pair go."""


def settle(translation: Translation) -> list[Pair]:
    """Return the pairs of two variables; where one side is a number, bound the other side once and for all."""
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


def derive_bounds(translation: Translation, open_pairs: list[Pair]) -> None:
    """Give the sides of the pairs upper bounds that follow from the rows, where interval arithmetic finds some."""
    from pyomo.common.errors import InfeasibleConstraintException
    from pyomo.contrib.fbbt.fbbt import fbbt

    model = translation.model
    before = [(variable, variable.lb, variable.ub) for variable in model.x.values()]
    try:
        fbbt(model, max_iter=10)
    except InfeasibleConstraintException:
        pass  # the solver will find out, with its own tolerances
    found = {id(side): side.ub for pair in open_pairs for side in pair}
    for variable, low, high in before:  # bounds derived for other variables would only blur their meaning
        variable.setlb(low)
        variable.setub(high)
        derived = found.get(id(variable))
        if high is None and derived is not None and derived <= LARGE:
            variable.setub(derived + 1e-3 * (1.0 + abs(derived)))


def as_disjunctions(translation: Translation, pairs: list[Pair]) -> None:
    """Either side zero, chosen by a binary and a constant from the bounds."""
    import pyomo.environ as pyo

    _declare(translation.model, pairs)
    pyo.TransformationFactory("mpec.simple_disjunction").apply_to(translation.model)
    pyo.TransformationFactory("gdp.bigm").apply_to(translation.model)


def as_sets(translation: Translation, pairs: list[Pair]) -> None:
    """At most one of the two is not zero: a special ordered set, on which a branch-and-bound solver branches."""
    import pyomo.environ as pyo

    translation.model.sets = pyo.SOSConstraint(
        range(len(pairs)), rule=lambda _, number: list(pairs[number]), sos=1
    )


def as_products(translation: Translation, pairs: list[Pair]) -> None:
    """``a b <= e``, with ``e`` in the parameter ``mpec_bound`` of the model."""
    import pyomo.environ as pyo

    _declare(translation.model, pairs)
    pyo.TransformationFactory("mpec.simple_nonlinear").apply_to(translation.model)


def _declare(model: Any, pairs: list[Pair]) -> None:
    from pyomo.mpec import ComplementarityList, complements

    model.pairs = ComplementarityList()
    for a, b in pairs:
        model.pairs.add(complements(a >= 0, b >= 0))


def loose(pairs: list[Pair], tolerance: float) -> bool:
    """Whether some pair is farther from complementarity than the tolerance, relative to its size."""
    return any(min(a.value, b.value) > tolerance * max(a.value, b.value, 1.0) for a, b in pairs)


def fix_smaller(pairs: list[Pair]) -> None:
    """Hold the smaller side of each pair at zero: what remains is a program without pairs."""
    for a, b in pairs:
        (a if a.value <= b.value else b).setub(0.0)
