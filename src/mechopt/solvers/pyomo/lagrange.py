"""Our own bound on a convex program's objective, from the multipliers that a solver returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mechopt.solvers.pyomo.translate import Translation

NEGLIGIBLE = 1e-12
"""Multipliers this much smaller than the largest are left out; a bound holds whatever the multipliers are."""


def bound(translation: Translation, prices: Any) -> float | None:
    """Bound that the model's objective cannot beat, or None where the point has no gradients.

    The Lagrangian of a convex program lies above its tangent at the answer, whose least value over the
    variables' bounds is taken. A variable without the bound that matters is held within its own size around
    its value.

    Parameters
    ----------
    translation : Translation
        A continuous program in which every family is disciplined convex, with a solver's point in its model.
    prices : mapping
        d objective / d right-hand side by Pyomo's rows.
    """
    import pyomo.environ as pyo

    model = translation.model
    sign = 1.0 if model.objective.sense == pyo.minimize else -1.0
    weights = {row: sign * float(prices.get(row) or 0.0) for row in model.rows.values()}
    floor = NEGLIGIBLE * max(map(abs, weights.values()), default=0.0)
    slopes = _Slopes()
    try:
        height = sign * slopes.add(model.objective.expr, sign)
        for row, weight in weights.items():
            if not row.equality:
                weight = min(weight, 0.0)
            if abs(weight) <= floor:
                continue
            body = translation.convex_bodies.get(id(row))
            if body is None:
                height -= weight * (slopes.add(row.body, -weight) - pyo.value(row.upper))
            else:
                height -= _restated(slopes, row.body, body, weight)
    except (ArithmeticError, ValueError, OverflowError):
        return None
    result = height + sum(_charge(variable, slope) for variable, slope in slopes.values())
    return sign * result if np.isfinite(result) else None


class _Slopes:
    """A gradient under construction."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[Any, float]] = {}

    def add(self, expression: Any, weight: float) -> float:
        """Add ``weight`` times the gradient of an expression; returns the expression's value."""
        import pyomo.environ as pyo

        for variable, slope in gradient(expression):
            self._entries[id(variable)] = (
                variable,
                self._entries.get(id(variable), (None, 0.0))[1] + weight * slope,
            )
        return float(pyo.value(expression))

    def values(self) -> Any:
        return self._entries.values()


def gradient(expression: Any) -> list[tuple[Any, float]]:
    """Variables of an expression with its derivatives at their values."""
    from pyomo.core.expr.calculus.derivatives import Modes, differentiate
    from pyomo.core.expr.numeric_expr import LinearExpression
    from pyomo.environ import Var

    if isinstance(expression, int | float):
        return []
    if type(expression) is LinearExpression:
        return [(v, float(c)) for c, v in zip(expression.linear_coefs, expression.linear_vars, strict=True)]
    slopes = differentiate(expression, mode=Modes.reverse_numeric)
    return [(v, float(slope)) for v, slope in slopes.items() if getattr(v, "ctype", None) is Var]


def _restated(slopes: _Slopes, body: Any, convex: Any, weight: float) -> float:
    """Add a row through the convex function that says the same: where both vanish, gradients are parallel."""
    ours = {id(v): slope for v, slope in gradient(convex)}
    size = sum(slope**2 for slope in ours.values())
    factor = sum(slope * ours.get(id(v), 0.0) for v, slope in gradient(body)) / size
    weight *= max(factor, 0.0)
    return weight * slopes.add(convex, -weight)


def _charge(variable: Any, slope: float) -> float:
    limit = variable.lb if slope > 0 else variable.ub
    if limit is None:
        return -abs(slope) * max(abs(float(variable.value)), 1.0)
    return slope * (float(limit) - float(variable.value))
