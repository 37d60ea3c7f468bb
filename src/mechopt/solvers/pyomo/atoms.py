"""Nonlinear atoms of CVXPY as Pyomo expressions, entry by entry.

Each entry of the table takes the translation under way, the atom, and its arguments as object arrays of
numbers and Pyomo expressions, and returns an object array of the atom's shape.

A constraint that is disciplined convex has each atom where its epigraph (or hypograph) may stand for it; the
table uses that where the epigraph is linear, conic or better behaved than the function. Elsewhere only atoms
without a kink are written out; CVXPY's rules for nonlinear programs put the others in convex positions too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from mechopt.solvers.pyomo.translate import Translation

Entries = Any
"""Object array of numbers and Pyomo expressions."""

Rule = Callable[["Translation", Any, list[Entries], bool], Entries]
"""``rule(translation, atom, arguments, convex)``; ``convex``: it stands in a disciplined convex place."""

NUMBER = (int, float, np.floating, np.integer)


def array(entries: Iterable[Any], shape: tuple[int, ...], order: str = "F") -> Entries:
    """Object array out of a flat sequence."""
    items = list(entries)
    flat = np.empty(len(items), dtype=object)
    for position, item in enumerate(items):  # assignment by slice would look into Pyomo's containers
        flat[position] = item
    return flat.reshape(shape, order=order)  # type: ignore[call-overload]


def total(terms: Iterable[Any]) -> Any:
    """Sum of numbers and Pyomo expressions in linear time."""
    from pyomo.environ import quicksum

    return quicksum(terms)


def slices(atom: Any, argument: Entries) -> list[list[Any]]:
    """List what an axis atom reduces, one list an output entry, in C order of the output."""
    axis = getattr(atom, "axis", None)
    if axis is None:
        return [list(argument.ravel(order="F"))]
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    # Reversed: Fortran order among the reduced axes, which is the order of a geometric mean's weights.
    moved = np.moveaxis(argument, axes[::-1], range(len(axes)))
    flat = moved.reshape((-1, math.prod(moved.shape[len(axes) :])))
    return [list(column) for column in flat.T]


def along_axis(function: Callable[[Translation, Any, list[Any], bool], Any]) -> Rule:
    """Rule of an atom that reduces one array, as a whole or along axes."""

    def rule(translation: Translation, atom: Any, arguments: list[Entries], convex: bool) -> Entries:
        parts = slices(atom, arguments[0])
        return array((function(translation, atom, part, convex) for part in parts), atom.shape, "C")

    return rule


def entrywise(function: Callable[..., Any]) -> Rule:
    """Rule of an elementwise atom; ``function(translation, convex, *entries)``."""

    def rule(translation: Translation, atom: Any, arguments: list[Entries], convex: bool) -> Entries:
        spread = [np.broadcast_to(argument, atom.shape).ravel(order="F") for argument in arguments]
        return array(
            (function(translation, convex, *entries) for entries in zip(*spread, strict=True)), atom.shape
        )

    return rule


# ------------------------------------------------------------------ elementwise


def _pyo(name: str) -> Callable[[Any], Any]:
    """Pyomo's function of that name; plain numbers give plain numbers."""

    def function(x: Any) -> Any:
        import pyomo.environ as pyo

        return getattr(pyo, name)(x)

    return function


_exp, _log, _sqrt, _sin, _cos, _tan = map(_pyo, ("exp", "log", "sqrt", "sin", "cos", "tan"))


def _logarithm(t: Translation, convex: bool, x: Any) -> Any:
    return _log(t.positive(x, convex))


def _log1p(t: Translation, convex: bool, x: Any) -> Any:
    return _log(t.positive(1 + x, convex))


def _x_log(x: Any, y: Any) -> Any:
    """``x log y``, zero for x = 0."""
    return 0.0 if isinstance(x, NUMBER) and x == 0 else x * _log(y)


def _entropy(t: Translation, convex: bool, x: Any) -> Any:
    x = t.positive(x, convex)
    return -_x_log(x, x)


def _relative_entropy(t: Translation, convex: bool, x: Any, y: Any) -> Any:
    x, y = t.positive(x, convex), t.positive(y, convex)
    return _x_log(x, x) - _x_log(x, y)


def _divergence(t: Translation, convex: bool, x: Any, y: Any) -> Any:
    return _relative_entropy(t, convex, x, y) - x + y


def _logistic(t: Translation, convex: bool, x: Any) -> Any:
    return _soft_maximum(t, [0.0, x], convex)


def _soft_maximum(t: Translation, entries: list[Any], convex: bool) -> Any:
    """``log(sum(exp(entries)))``; its epigraph is a sum of exponentials, which solvers see is convex."""
    if not convex:
        return _log(total(_exp(entry) for entry in entries))
    top = t.fresh()
    t.at_most(total(_exp(entry - top) for entry in entries) - 1.0)
    return top


def _power(translation: Translation, atom: Any, arguments: list[Entries], convex: bool) -> Entries:
    p = float(atom.p.value) if hasattr(atom.p, "value") else float(atom.p)
    return entrywise(lambda t, c, x: raised(t, c, x, p))(translation, atom, arguments, convex)


def raised(t: Translation, convex: bool, x: Any, p: float) -> Any:
    """``x**p`` on CVXPY's domain: all reals for even p, nonnegative numbers otherwise."""
    if p == 0:
        return 1.0
    if p == 1:
        return x
    if p == 2:
        return square(t, x, convex)
    if p == int(p) and p > 0 and (p % 2 == 0 or not convex):
        return t.named(x, convex) ** int(p)
    x = t.positive(x, convex)
    if p == 0.5:
        return _sqrt(x)
    return x ** (int(p) if p == int(p) else p)


def square(t: Translation, x: Any, convex: bool) -> Any:
    """``x**2`` of one variable, so that sums of squares never multiply out."""
    return t.named(x, convex) ** 2


def _huber(translation: Translation, atom: Any, arguments: list[Entries], convex: bool) -> Entries:
    threshold = float(atom.M.value)

    def one(t: Translation, convex: bool, x: Any) -> Any:
        near = t.fresh()
        return near**2 + 2 * threshold * _largest(t, [x - near, near - x])

    return entrywise(one)(translation, atom, arguments, convex)


def _product(t: Translation, convex: bool, x: Any, y: Any) -> Any:
    return x * y if _is_number(x) or _is_number(y) else t.named(x, convex) * t.named(y, convex)


def _quotient(t: Translation, convex: bool, x: Any, y: Any) -> Any:
    return x / t.named(y, convex)


def _arsinh(t: Translation, convex: bool, x: Any) -> Any:
    x = t.named(x, convex)
    return _log(x + _sqrt(x**2 + 1))


def _artanh(t: Translation, convex: bool, x: Any) -> Any:
    return 0.5 * (_log(t.positive(1 + x, convex)) - _log(t.positive(1 - x, convex)))


# ------------------------------------------------------------------ reductions


def _largest(t: Translation, entries: Iterable[Any]) -> Any:
    top = t.fresh()
    for entry in entries:
        t.at_most(entry - top)
    return top


def _smallest(t: Translation, entries: Iterable[Any]) -> Any:
    low = t.fresh()
    for entry in entries:
        t.at_most(low - entry)
    return low


def _magnitude(t: Translation, x: Any) -> Any:
    return _largest(t, [x, -x])


def _sum_largest(t: Translation, entries: list[Any], count: float) -> Any:
    """``k q + sum (x - q)_+``, least over q."""
    if count >= len(entries):
        return total(entries)
    level = t.fresh()
    return count * level + total(_largest_of_zero(t, entry - level) for entry in entries)


def _largest_of_zero(t: Translation, x: Any) -> Any:
    top = t.fresh(lower=0.0)
    t.at_most(x - top)
    return top


def _quad_over_lin(t: Translation, atom: Any, arguments: list[Entries], convex: bool) -> Entries:
    (below,) = arguments[1].ravel()

    def one(_: Translation, __: Any, part: list[Any], ___: bool) -> Any:
        squares = total(square(t, x, convex) for x in part)
        if _is_number(below):
            return squares * (1.0 / below)
        if not convex:
            return squares / t.positive(below, convex)
        # The rotated cone: solvers see that it is convex, and its apex is harmless.
        ratio, y = t.fresh(lower=0.0), t.positive(below, convex)
        t.at_most(squares - ratio * y, squares / y - ratio)
        return ratio

    return along_axis(one)(t, atom, arguments[:1], convex)


def _quad_form(t: Translation, atom: Any, arguments: list[Entries], convex: bool) -> Entries:
    matrix = atom.args[1].value
    x = [t.named(entry, convex) for entry in arguments[0].ravel(order="F")]
    if not convex:
        terms = sp.coo_array(matrix)
        products = (v * x[i] * x[j] for i, j, v in zip(*terms.coords, terms.data, strict=True))
        return array([total(products)], atom.shape)
    # Squares along eigenvectors: convexity shows, and no product of variables is formed.
    dense = np.asarray(matrix.toarray() if sp.issparse(matrix) else matrix)
    values, vectors = np.linalg.eigh((dense + dense.T) / 2)
    keep = np.abs(values) > np.finfo(float).eps * len(values) * np.max(np.abs(values), initial=0.0)
    terms = (
        float(value) * square(t, t.combine(0.0, vector, x), convex)
        for value, vector in zip(values[keep], vectors.T[keep], strict=True)
    )
    return array([total(terms)], atom.shape)


def _pnorm(t: Translation, atom: Any, part: list[Any], convex: bool) -> Any:
    p = float(atom.p)
    size = t.fresh(lower=0.0)
    if p == 2:
        powers = total(square(t, x, convex) for x in part)
    elif p > 1:
        powers = total(raised(t, convex, _magnitude(t, x), p) for x in part)
    else:  # concave, on nonnegative numbers
        powers = total(raised(t, convex, x, p) for x in part)
    if isinstance(powers, NUMBER):
        return float(powers) ** (1 / p)
    norm = powers ** (1 / p)
    if p > 1:
        t.at_most(powers - size**p, norm - size)
    else:  # negative powers decrease
        t.at_most(size**p - powers if p > 0 else powers - size**p, size - norm)
    return size


def _geo_mean(t: Translation, atom: Any, part: list[Any], convex: bool) -> Any:
    mean: Any = 1.0
    for x, weight in zip(part, atom.w, strict=True):
        if weight > 0:
            mean = mean * raised(t, convex, x, float(weight))
    return mean


def _prod(t: Translation, atom: Any, part: list[Any], convex: bool) -> Any:
    product: Any = 1.0
    for x in part:
        product = product * x
    return product


def _matmul(t: Translation, atom: Any, arguments: list[Entries], convex: bool) -> Entries:
    named = [
        array((x if _is_number(x) else t.named(x, convex) for x in a.ravel(order="F")), a.shape)
        for a in arguments
    ]
    left = named[0] if named[0].ndim > 1 else named[0][np.newaxis, :]
    right = named[1] if named[1].ndim > 1 else named[1][:, np.newaxis]
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    left = np.broadcast_to(left, batch + left.shape[-2:])
    right = np.broadcast_to(right, batch + right.shape[-2:])
    entries = (
        total(x * y for x, y in zip(left[(*at, i)], right[(*at, slice(None), j)], strict=True))
        for at in np.ndindex(batch)
        for i in range(left.shape[-2])
        for j in range(right.shape[-1])
    )
    return array(entries, atom.shape, "C")


def _is_number(entry: Any) -> bool:
    return isinstance(entry, NUMBER)


def _norm1(t: Translation, atom: Any, part: list[Any], convex: bool) -> Any:
    return total(_magnitude(t, x) for x in part)


SMOOTH: dict[str, Rule] = {
    "log": entrywise(_logarithm),
    "log1p": entrywise(_log1p),
    "exp": entrywise(lambda t, convex, x: _exp(x)),
    "xexp": entrywise(lambda t, convex, x: x * _exp(x)),
    "entr": entrywise(_entropy),
    "rel_entr": entrywise(_relative_entropy),
    "kl_div": entrywise(_divergence),
    "logistic": entrywise(_logistic),
    "log_sum_exp": along_axis(lambda t, atom, part, convex: _soft_maximum(t, part, convex)),
    "Power": _power,
    "PowerApprox": _power,
    "quad_over_lin": _quad_over_lin,
    "QuadForm": _quad_form,
    "cumsum": lambda t, atom, arguments, convex: np.cumsum(arguments[0], axis=atom.axis).reshape(atom.shape),
    "GeoMean": along_axis(_geo_mean),
    "GeoMeanApprox": along_axis(_geo_mean),
    "Prod": along_axis(_prod),
    "multiply": entrywise(_product),
    "MulExpression": _matmul,
    "DivExpression": entrywise(_quotient),
    "sin": entrywise(lambda t, convex, x: _sin(x)),
    "cos": entrywise(lambda t, convex, x: _cos(x)),
    "tan": entrywise(lambda t, convex, x: _tan(x)),
    # Not every solver knows the hyperbolic functions by name.
    "sinh": entrywise(lambda t, convex, x: 0.5 * (_exp(x) - _exp(-x))),
    "tanh": entrywise(lambda t, convex, x: 1 - 2 / (_exp(2 * x) + 1)),
    "asinh": entrywise(_arsinh),
    "atanh": entrywise(_artanh),
}
"""Atoms that may stand anywhere."""

KINKED: dict[str, Rule] = {
    "abs": entrywise(lambda t, convex, x: _magnitude(t, x)),
    "maximum": entrywise(lambda t, convex, *entries: _largest(t, entries)),
    "minimum": entrywise(lambda t, convex, *entries: _smallest(t, entries)),
    "max": along_axis(lambda t, atom, part, convex: _largest(t, part)),
    "min": along_axis(lambda t, atom, part, convex: _smallest(t, part)),
    "norm1": along_axis(_norm1),
    "norm_inf": along_axis(lambda t, atom, part, convex: _largest(t, [s * x for x in part for s in (1, -1)])),
    "sum_largest": along_axis(lambda t, atom, part, convex: _sum_largest(t, part, atom.k)),
    "Pnorm": along_axis(_pnorm),
    "PnormApprox": along_axis(_pnorm),
    "huber": _huber,
}
"""Atoms that stand in convex positions only: an auxiliary variable bounds them from the side that matters."""

RULES = SMOOTH | KINKED

UNLINEAR = frozenset({"Power", "PowerApprox", "cumsum"})
"""Atoms that can be affine, and that CVXPY nevertheless does not write as a matrix."""
