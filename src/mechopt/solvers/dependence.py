"""Linear equations that follow from others: solvers that count equations against variables refuse them."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int_]

DEPENDENT = 1e-11
"""A row of length one that the others come this close to is one of their combinations, but for rounding."""

CONSISTENT = 1e-10
"""Right-hand sides that differ by less from what the other rows imply, relative to their terms, agree."""

LARGEST = 1_000_000
"""Entries of the dense matrix up to which dependence is looked for."""


def implied(matrix: Any, sides: Array) -> Index:
    """Find equations that follow from the others.

    Parameters
    ----------
    matrix : sparse array, shape ``(n_rows, n_columns)``
        Coefficients.
    sides : array, shape ``(n_rows,)``
        Right-hand sides.

    Returns
    -------
    array of int
        Rows that may be left out: what is left has full rank and the same solutions. Empty also where the
        equations contradict each other, so that a contradiction stays to be found.
    """
    core = _core(sp.csr_array(matrix))
    if core.size < 1 or core.size * matrix.shape[1] > LARGEST:
        return np.zeros(0, dtype=int)
    rows = sp.csr_array(matrix)[core]
    used = np.unique(rows.indices[rows.data != 0])
    dense = rows[:, used].toarray()
    length = np.linalg.norm(dense, axis=1)
    length = np.where(length > 0, length, 1.0)
    dense, right = dense / length[:, None], sides[core] / length
    triangle, order = scipy.linalg.qr(dense.T, mode="r", pivoting=True)
    rank = int(np.sum(np.abs(np.diagonal(triangle)) > DEPENDENT))
    kept, extra = order[:rank], order[rank:]
    weights = scipy.linalg.solve_triangular(triangle[:rank, :rank], triangle[:rank, rank:])
    off = np.abs(right[extra] - weights.T @ right[kept])
    size = 1.0 + np.abs(right[extra]) + np.abs(weights.T) @ np.abs(right[kept])
    if np.any(off > CONSISTENT * size):
        return np.zeros(0, dtype=int)
    return np.asarray(np.sort(core[extra]), dtype=int)


def _core(matrix: Any) -> Index:
    """Rows left when those are taken away, again and again, that alone have some variable in them."""
    entries = sp.csc_array(abs(matrix))
    largest = entries.max(axis=1).toarray().ravel()
    left = np.ones(matrix.shape[0], dtype=bool)
    triplets = entries.tocoo()
    row, column, value = triplets.row, triplets.col, triplets.data
    plain = value > 1e-3 * largest[row]  # smaller ones do not keep rows apart for certain
    while True:
        here = left[row] & (value > 0)
        count = np.bincount(column[here], minlength=matrix.shape[1])
        alone = np.unique(row[here & plain & (count[column] == 1)])
        if not alone.size:
            return np.flatnonzero(left)
        left[alone] = False
