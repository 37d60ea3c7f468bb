"""Checks of parameters that mechanisms share; every message names field, index, value and rule."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.solvers.errors import InvalidInput

Array = NDArray[np.float64]


def vector(value: ArrayLike, name: str) -> Array:
    """Return a read-only one-dimensional array of floats."""
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} must be numbers, got {value!r}: {error}") from None
    if array.ndim != 1:
        raise InvalidInput(f"{name} must be one-dimensional, got shape {array.shape}")
    array.setflags(write=False)
    return array


def all_finite(array: Array, name: str) -> None:
    """Refuse NaN and infinity."""
    if not np.all(np.isfinite(array)):
        index = int(np.argmax(~np.isfinite(array)))
        raise InvalidInput(f"{name}[{index}] is {array[index]}; every entry must be a finite number")


def square(value: ArrayLike, n: int, name: str, axes: str) -> Array:
    """Return a read-only (n, n) array of finite floats; ``axes`` says what its rows and columns are."""
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} must be numbers, got {value!r}: {error}") from None
    if array.shape != (n, n):
        raise InvalidInput(f"{name} has shape {array.shape}; it must be ({n}, {n}): {axes}")
    if not np.all(np.isfinite(array)):
        i, j = (int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise InvalidInput(f"{name}[{i}, {j}] is {array[i, j]}; every entry must be a finite number")
    array.setflags(write=False)
    return array


def positive(value: Any, name: str, why: str = "") -> float:
    """Return a finite float > 0."""
    return _real(value, name, lambda x: x > 0, "> 0", why)


def nonnegative(value: Any, name: str, why: str = "") -> float:
    """Return a finite float >= 0."""
    return _real(value, name, lambda x: x >= 0, ">= 0", why)


def fraction(value: Any, name: str, why: str = "") -> float:
    """Return a float strictly between 0 and 1."""
    return _real(value, name, lambda x: 0 < x < 1, "strictly between 0 and 1", why)


def _real(value: Any, name: str, kept: Any, rule: str, why: str) -> float:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    if not (real and np.isfinite(float(value)) and kept(float(value))):
        raise InvalidInput(f"{name} must be a finite number {rule}, got {value!r}{why and '; ' + why}")
    return float(value)


def count(value: Any, name: str, least: int = 1) -> int:
    """Return a whole number, at least ``least``."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool | np.bool_)
    if not whole or int(value) < least:
        raise InvalidInput(f"{name} must be a whole number >= {least}, got {value!r}")
    return int(value)


def types(value: ArrayLike, name: str, what: str) -> Array:
    """Return private types, strictly increasing and > 0; ``what`` is what one type is."""
    array = vector(value, name)
    if array.size == 0:
        raise InvalidInput(f"{name} is empty; give at least one {what} > 0")
    # As in nearly every call; what is wrong otherwise is found out below.
    if array[0] > 0 and array[-1] < np.inf and np.all(array[1:] > array[:-1]):
        return array
    all_finite(array, name)
    if np.any(array <= 0):
        index = int(np.argmax(array <= 0))
        raise InvalidInput(
            f"{name}[{index}] = {array[index]:g} must be > 0: at no cost there would be no end to data"
        )
    falls = np.diff(array) <= 0
    if np.any(falls):
        index = int(np.argmax(falls)) + 1
        if array[index] == array[index - 1]:
            raise InvalidInput(
                f"{name}[{index}] = {name}[{index - 1}] = {array[index]:g}; merge equal types and their probs"
            )
        raise InvalidInput(
            f"{name} must be strictly increasing, but {name}[{index}] = {array[index]:g} follows "
            f"{array[index - 1]:g}; sort them, and the probs with them"
        )
    return array


def probabilities(value: ArrayLike | None, n_types: int, name: str) -> Array:
    """Return probabilities of types, > 0 and summing to 1; all equal if none are given."""
    if value is None:
        array = np.full(n_types, 1.0 / n_types)
        array.setflags(write=False)
        return array
    array = vector(value, name)
    if array.size != n_types:
        raise InvalidInput(f"{name} has {array.size} entries for {n_types} types; give one for each type")
    all_finite(array, name)
    if np.any(array < 0):
        index = int(np.argmax(array < 0))
        raise InvalidInput(f"{name}[{index}] = {array[index]:g} is negative")
    if np.any(array == 0):
        index = int(np.argmax(array == 0))
        raise InvalidInput(f"{name}[{index}] is 0; drop or merge types of probability zero")
    total = float(array.sum())
    if abs(total - 1.0) > 1e-9:
        raise InvalidInput(f"{name} must sum to 1, but they sum to {total:.12g}; divide them by their sum")
    return array
