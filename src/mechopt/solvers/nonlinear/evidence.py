"""What points and derivatives prove: infeasibility, unboundedness, and multipliers where there are none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mechopt.solvers.nonlinear.smooth import SmoothForm, least

Array = NDArray[np.float64]

FAR = 1e15
"""Scaled objective beyond which a feasible point is evidence that there is no optimum."""


def infeasibility(form: SmoothForm, x: Array, tolerance: float, rounds: int = 20) -> Array | None:
    """Prove that no point satisfies the rows, by tangents at ``x`` and at points that satisfy those.

    Only sides of rows that are convex are used, so that a proof holds for nonconvex programs as well.

    Returns
    -------
    array, shape ``(m,)``, or None
        Weight of each row in the contradiction; None without a proof.
    """
    from scipy.optimize import linprog

    upper = np.flatnonzero(np.isfinite(form.cu) & (form.curvature >= 0))
    lower = np.flatnonzero(np.isfinite(form.cl) & (form.curvature <= 0))
    rows = np.concatenate([upper, lower])
    sign = np.concatenate([np.ones(upper.size), -np.ones(lower.size)])
    side = np.concatenate([form.cu[upper], -form.cl[lower]])
    bent = form.curvature[rows] != 0
    if not rows.size:
        return None
    blocks: list[tuple[Any, Array, NDArray[np.int_]]] = []
    for turn in range(rounds):
        keep = bent if blocks else np.ones(rows.size, dtype=bool)
        # Quotients and logs are so steep near zero that tangents there say little of the rest: every other
        # time take them farther out.
        at = np.where(form.domain, np.maximum(x, 1.0), x) if turn % 2 else x
        slope = sp.csr_array(form.matrix(at)[rows[keep]] * sign[keep][:, None])
        offset = side[keep] - sign[keep] * form.constraints(at)[rows[keep]] + slope @ at
        if not (np.all(np.isfinite(slope.data)) and np.all(np.isfinite(offset))):
            return None
        blocks.append((slope, offset, rows[keep]))
        matrix = sp.csr_array(sp.vstack([block[0] for block in blocks]))
        offsets = np.concatenate([block[1] for block in blocks])
        count = offsets.size
        # By how much must the tangents be relaxed in total? If by something, nothing satisfies them.
        result = linprog(
            np.concatenate([np.zeros(form.n), np.ones(count)]),
            A_ub=sp.hstack([matrix, -sp.eye_array(count)], format="csr"),
            b_ub=offsets,
            bounds=[*zip(form.lb, form.ub, strict=True), *[(0, None)] * count],
            method="highs",
        )
        if result.x is None:
            return None
        point = np.asarray(result.x[: form.n])
        weights = np.maximum(-np.asarray(result.ineqlin.marginals), 0.0)
        contradiction = least(matrix.T @ weights, point, form.lb, form.ub) - float(weights @ offsets)
        size = float(weights @ (np.abs(offsets) + abs(matrix) @ np.abs(point) + 1.0))
        if contradiction > tolerance * size > 0:
            origin = np.concatenate([block[2] for block in blocks])
            return np.bincount(origin, weights, minlength=form.m).astype(float)
        if not bent.any():
            return None
        x = (x + point) / 2  # halfway keeps arguments of logs and quotients off zero
    return None


def endless(form: SmoothForm, x: Array) -> bool:
    """Whether ``x``, or a point far beyond it as seen from the start, is feasible and absurdly good."""
    step = x - form.x0
    length = float(np.max(np.abs(step), initial=0.0))
    if not (np.isfinite(length) and length > 0):
        return False
    return any(
        form.objective(point) < -FAR and form.violation(point) <= 1e-9
        for point in (x, np.clip(x + step * (10 * FAR / length), form.lb, form.ub))
    )


def recover_multipliers(form: SmoothForm, x: Array, tolerance: float) -> Array:
    """Least-squares multipliers of the rows that bind at ``x``, with the right signs."""
    from scipy.optimize import lsq_linear

    g, matrix = form.constraints(x), form.matrix(x)
    near = tolerance * np.maximum(abs(matrix) @ np.maximum(np.abs(x), 1.0), 1.0)
    above, below = g >= form.cu - near, g <= form.cl + near
    rows = np.flatnonzero(above | below)
    close = tolerance * np.maximum(np.abs(x), 1.0)
    low, high = x <= form.lb + close, x >= form.ub - close
    held = np.flatnonzero(low | high)
    multipliers = np.zeros(form.m)
    if not rows.size:
        return multipliers
    ones = np.ones(held.size), (held, np.arange(held.size))
    columns = sp.hstack([matrix[rows].T, sp.csr_array(ones, shape=(form.n, held.size))], format="csr")
    # `-z` of a variable at its lower bound is negative, at its upper bound positive; at both it is free.
    least = np.concatenate([np.where(below[rows], -np.inf, 0.0), np.where(low[held], -np.inf, 0.0)])
    most = np.concatenate([np.where(above[rows], np.inf, 0.0), np.where(high[held], np.inf, 0.0)])
    left: Any = columns.toarray() if math.prod(columns.shape) <= 4_000_000 else columns
    fit = lsq_linear(left, -form.gradient(x), bounds=(least, most), tol=1e-14, max_iter=500)
    multipliers[rows] = fit.x[: rows.size]
    return multipliers
