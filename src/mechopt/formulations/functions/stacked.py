"""Functions of one family with parameters of their own for each item, evaluated in one call.

A stack is a function whose parameters are arrays, with an entry for each item of what it is applied to. It
computes for each what the item's own function would. Only exact algorithms use stacks; they are made from
functions that have been checked.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, TypeVar

import numpy as np

from mechopt.formulations.functions.costs import PowerCost, QuadraticCost
from mechopt.formulations.functions.gains import LogGain, PowerGain, QuadraticGain, SaturatingGain

__all__ = ["family", "spread", "stack", "take"]

F = TypeVar("F")

# Parameters that may differ. Exponents may not: numpy treats some of them (1/2, 2) in ways of their own.
_VARYING: dict[type, tuple[str, ...]] = {
    LogGain: ("weight", "scale"),
    SaturatingGain: ("weight", "scale"),
    QuadraticGain: ("slope", "curvature", "scale"),
    PowerGain: ("weight", "scale"),
    PowerCost: ("scale",),
    QuadraticCost: ("slope", "curvature"),
}


def family(function: Any) -> Hashable:
    """Return a key that functions share that fit into one stack."""
    varying = _VARYING.get(type(function))
    if varying is None:
        try:
            hash(function)
        except TypeError:
            return id(function)
        return function  # type: ignore[no-any-return]
    return type(function), *(value for name, value in vars(function).items() if name not in varying)


def stack(functions: Sequence[F]) -> F:
    """Return one function for all: parameters that differ become columns of shape (n_functions, 1).

    Parameters
    ----------
    functions : sequence
        Functions of one `family`.

    Examples
    --------
    >>> stack([LogGain(1.0, 2.0), LogGain(3.0, 2.0)])([[1.0, 2.0], [1.0, 2.0]]).round(3).tolist()
    [[1.099, 1.609], [3.296, 4.828]]
    """
    first = functions[0]
    columns = {
        name: np.array([[getattr(f, name)] for f in functions]) for name in _VARYING.get(type(first), ())
    }
    return _with(first, {name: column for name, column in columns.items() if np.any(column != column[0])})


def spread(function: F, shape: tuple[int, ...]) -> F:
    """Return the stack with parameters of this shape, as views; a function that is no stack as it is."""
    return _with(function, {name: np.broadcast_to(array, shape) for name, array in _arrays(function).items()})


def take(function: F, keep: Any) -> F:
    """Return the stack for some of the items only, chosen as numpy does."""
    return _with(function, {name: array[keep] for name, array in _arrays(function).items()})


def _arrays(function: Any) -> dict[str, Any]:
    names = _VARYING.get(type(function), ())
    return {name: value for name in names if isinstance(value := getattr(function, name), np.ndarray)}


def _with(function: F, changes: dict[str, Any]) -> F:
    """Return a copy with other parameters, past the checks, which are for numbers."""
    if not changes:
        return function
    copy = object.__new__(type(function))
    vars(copy).update(vars(function) | changes)
    return copy
