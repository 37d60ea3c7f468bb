"""What was computed for many mechanisms at once, taken apart again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["arrays_of_each", "numbers_of_each"]

Array = NDArray[np.float64]


def arrays_of_each(values: Mapping[str, Array]) -> list[dict[str, Array]]:
    """Return one dict of arrays for each mechanism, as its own solution has them: read-only views.

    Parameters
    ----------
    values : mapping of str to ndarray, shape (n_mechanisms, ...)
        Made read-only.

    Examples
    --------
    >>> arrays_of_each({"a": np.array([1.0, 2.0]), "b": np.array([[3.0], [4.0]])})
    [{'a': array(1.), 'b': array([3.])}, {'a': array(2.), 'b': array([4.])}]
    """
    for value in values.values():
        value.setflags(write=False)
    columns = (
        list(value) if value.ndim > 1 else [value[i, ...] for i in range(value.size)]
        for value in values.values()
    )
    return [dict(zip(values, row, strict=True)) for row in zip(*columns, strict=True)]


def numbers_of_each(columns: Mapping[str, Array]) -> list[dict[str, float]]:
    """Return one dict of numbers for each mechanism.

    Parameters
    ----------
    columns : mapping of str to ndarray, shape (n_mechanisms,)

    Examples
    --------
    >>> numbers_of_each({"a": np.array([1.0, 2.0]), "b": np.array([3.0, 4.0])})
    [{'a': 1.0, 'b': 3.0}, {'a': 2.0, 'b': 4.0}]
    """
    lists = (column.tolist() for column in columns.values())
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
