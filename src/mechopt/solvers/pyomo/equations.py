"""Linear equations of a Pyomo model that follow from others."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mechopt.solvers.dependence import implied
from mechopt.solvers.pyomo.translate import Translation


def switch_off_implied(translation: Translation) -> None:
    """Deactivate linear equations that follow from the others, which then have the price zero.

    Interior points refuse more equations than variables, and count none that is held by its bounds.
    """
    from pyomo.repn import generate_standard_repn

    model = translation.model
    fixed = {id(v): float(v.lb) for v in model.x.values() if v.lb is not None and v.lb == v.ub}
    columns = {id(v): place for place, v in enumerate(model.x.values()) if id(v) not in fixed}
    equations: list[Any] = []
    sides: list[float] = []
    triplets: list[tuple[int, int, float]] = []
    for row in model.rows.values():
        if not row.active or not row.equality or row.body.polynomial_degree() not in (0, 1):
            continue
        parts = generate_standard_repn(row.body)
        terms = [(id(v), float(c)) for v, c in zip(parts.linear_vars, parts.linear_coefs, strict=True)]
        held = sum(c * fixed[key] for key, c in terms if key in fixed)
        triplets += [(len(equations), columns[key], c) for key, c in terms if key in columns]
        equations.append(row)
        sides.append(float(row.upper) - float(parts.constant) - held)
    if not triplets:
        return
    row_of, column_of, entry = (np.asarray(part) for part in zip(*triplets, strict=True))
    matrix = sp.csr_array((entry, (row_of, column_of)), shape=(len(equations), len(model.x)))
    dropped = {id(equations[place]) for place in implied(matrix, np.asarray(sides))}
    for row in equations:
        if id(row) in dropped:
            row.deactivate()
    for key, rows in translation.rows.items():
        translation.rows[key] = [None if id(row) in dropped else row for row in rows]
