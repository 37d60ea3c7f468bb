"""The linear relaxation that the outer approximation works on: a program in cone form, and its cuts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from cvxpy.constraints import PSD
from numpy.typing import NDArray

from mechopt.solvers.highs import Canonical, Canonicalizer, Rows
from mechopt.solvers.tangents import Cuts, Evaluated, Exponential, Power, Rotated, Semidefinite, Surface
from mechopt.solvers.terms import Hypograph

if TYPE_CHECKING:
    from mechopt.solvers.program import Program

Array = NDArray[np.float64]
Index = NDArray[np.int64]

SHARP = 1e3
"""HiGHS meets rows to an absolute tolerance, at best 1e-10; cuts are scaled up to be met more closely."""

LARGEST = 1e6
"""Coefficients above this leave more to rounding than HiGHS tolerates: its trees lose feasible points."""


@dataclass
class Model:
    """A program in cone form: a linear part for HiGHS, and surfaces over entries ``s = offset + matrix x``.

    Entries are the canonical rows, then one for each of the columns that surfaces use directly: auxiliary
    ones of second-order cones, and the arguments of hypographs.
    """

    program: Program
    form: Canonical
    linear: Rows
    matrix: Any
    offset: Array
    surfaces: list[Surface]
    fixed_cuts: list[Cuts]
    oracles: list[Evaluated]
    columns: int
    """Columns without the auxiliary ones."""

    @classmethod
    def build(cls, program: Program, canonicalizer: Canonicalizer) -> Model:
        """Compile a program."""
        problem, arguments = _with_arguments(program)
        form = canonicalizer.compile(problem)
        rows, columns = form.offset.size, form.linear.size
        surfaces, fixed, extra = _cones(form)
        oracles = []
        direct: list[Index] = []
        place = rows + extra
        for (name, hypograph), pair in zip(_named_hypographs(program), arguments, strict=True):
            size = hypograph.size
            direct += [_columns(form, variable) for variable in pair]
            oracles.append(
                Evaluated(
                    place + np.stack([np.arange(size), size + np.arange(size)], axis=1), hypograph, name
                )
            )
            place += 2 * size
        picked = np.concatenate([columns + np.arange(extra), *direct]).astype(np.int64)
        chosen = sp.csr_matrix(
            (np.ones(picked.size), (np.arange(picked.size), picked)), shape=(picked.size, columns + extra)
        )
        padded = sp.hstack([-form.matrix, sp.csr_matrix((rows, extra))], format="csr")
        wide = replace(
            form,
            linear=np.concatenate([form.linear, np.zeros(extra)]),
            lower=np.concatenate([form.lower, np.zeros(extra)]),
            upper=np.concatenate([form.upper, np.full(extra, np.inf)]),
            integer=np.concatenate([form.integer, np.zeros(extra, dtype=bool)]),
        )
        linear = Rows.of(form)
        linear.matrix = sp.hstack([linear.matrix, sp.csr_matrix((linear.low.size, extra))], format="csr")
        return cls(
            program,
            wide,
            linear,
            sp.vstack([padded, chosen], format="csr"),
            np.concatenate([form.offset, np.zeros(picked.size)]),
            [*surfaces, *oracles],
            fixed,
            oracles,
            columns,
        )

    def bound_by_bounds(self) -> float:
        """Bound on the objective from the variables' own bounds, before anything is solved."""
        cost = self.form.linear
        limit = np.where(cost > 0, self.form.lower, self.form.upper)
        return float(np.sum(np.where(cost == 0, 0.0, cost) * np.where(cost == 0, 0.0, limit)))

    def multipliers(self, duals: Array, prices: Array) -> Array:
        """Multipliers of the canonical rows: the linear rows' own, and what each cone's cuts add up to."""
        y = prices[: self.form.offset.size].copy()
        y[: duals.size] = -duals
        return y

    def entries(self, x: Array) -> Array:
        """Entries of all cones at a point."""
        return np.asarray(self.offset + self.matrix @ x)

    def separate(self, x: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """Worst violation at a point, and the cuts that it calls for."""
        s = self.entries(x)
        found = [surface.separate(s[surface.index], tolerance) for surface in self.surfaces]
        return max((worst for worst, _ in found), default=0.0), [cut for _, cuts in found for cut in cuts]

    def separate_ray(self, direction: Array, at: Array, tolerance: float) -> list[Cuts]:
        """Cuts that stop a direction of recession."""
        d, s = np.asarray(self.matrix @ direction), self.entries(at)
        found = [
            surface.separate_ray(d[surface.index], s[surface.index], tolerance) for surface in self.surfaces
        ]
        return [cut for _, cuts in found for cut in cuts]


def _named_hypographs(program: Program) -> list[tuple[str, Hypograph]]:
    named = []
    for family, terms in program.families.items():
        for position, term in enumerate(terms):
            if isinstance(term, Hypograph):
                name = f"hypograph {family!r}" if len(terms) == 1 else f"hypograph {family!r}[{position}]"
                named.append((name, term))
    return named


def _with_arguments(program: Program) -> tuple[cp.Problem, list[tuple[cp.Variable, cp.Variable]]]:
    """Give each side of each hypograph a variable, so that it has columns of its own."""
    hypographs = [hypograph for _, hypograph in _named_hypographs(program)]
    if not hypographs:
        return program.problem, []
    pairs = [(cp.Variable(h.shape), cp.Variable(h.shape)) for h in hypographs]
    ties = [
        side == expression
        for pair, h in zip(pairs, hypographs, strict=True)
        for side, expression in zip(pair, (h.t, h.x), strict=True)
    ]
    return cp.Problem(program.problem.objective, [*program.problem.constraints, *ties]), pairs


def _columns(form: Canonical, variable: cp.Variable) -> Index:
    columns = form.columns(variable)
    assert columns is not None  # CVXPY keeps variables without attributes
    return columns


def _cones(form: Canonical) -> tuple[list[Surface], list[Cuts], int]:
    """Surfaces for the cones of a canonical form, cuts that always stay, number of auxiliary columns."""
    dims = form.dims
    place = dims.zero + dims.nonneg
    surfaces: list[Surface] = []
    fixed: list[Cuts] = []
    sizes = np.asarray(dims.soc, dtype=np.int64)
    heads = place + np.concatenate([[0], np.cumsum(sizes)])
    place = int(heads[-1])
    extra = 0
    lone = heads[:-1][sizes == 1]
    if lone.size:
        fixed.append(Cuts.on(lone[:, None], np.ones((lone.size, 1))))
    flat = heads[:-1][sizes == 2]
    for sign in (-1.0, 1.0) if flat.size else ():
        fixed.append(Cuts.on(np.stack([flat, flat + 1], axis=1), np.tile([1.0, sign], (flat.size, 1))))
    width = sizes[sizes > 2] - 1
    if width.size:
        head = np.repeat(heads[:-1][sizes > 2], width)
        within = np.arange(width.sum()) - np.repeat(np.cumsum(width) - width, width)
        extra = int(width.sum())
        # The entry of an auxiliary column comes after all canonical rows.
        auxiliary = form.offset.size + np.arange(extra)
        surfaces.append(
            Rotated(
                np.stack([head, head + 1 + within, auxiliary], axis=1), np.repeat(width, width).astype(float)
            )
        )
        ends = np.cumsum(width)
        for k in np.unique(width):
            which = np.flatnonzero(width == k)
            parts = auxiliary[(ends - width)[which, None] + np.arange(k)]
            weights = np.concatenate([np.ones((which.size, 1)), -np.ones((which.size, k))], axis=1)
            first = heads[:-1][sizes > 2][which]
            fixed.append(Cuts.on(np.concatenate([first[:, None], parts], axis=1), weights))
    for constraint in form.stuffed.constr_map.get(PSD, []):
        order, batch = constraint.args[0].shape[-1], constraint.num_cones()
        cells = place + np.arange(batch)[:, None] + batch * np.arange(order**2)
        surfaces.append(Semidefinite(cells, int(order)))
        place += constraint.size
    if dims.exp:
        surfaces.append(Exponential(place + np.arange(3 * dims.exp).reshape(-1, 3)))
        place += 3 * dims.exp
    if dims.p3d:
        count = len(dims.p3d)
        surfaces.append(Power(place + np.arange(3 * count).reshape(-1, 3), np.asarray(dims.p3d, dtype=float)))
    return surfaces, fixed, extra


@dataclass
class Pool:
    """All cuts in force, in the order of their rows after the linear ones."""

    model: Model
    weights: Any = field(init=False)
    """On the entries."""
    matrix: Any = field(init=False)
    """On the columns."""
    low: Array = field(init=False)
    idle: NDArray[np.int64] = field(init=False)
    permanent: int = 0
    made: int = 0

    def __post_init__(self) -> None:
        self.weights = sp.csr_matrix((0, self.model.offset.size))
        self.matrix = sp.csr_matrix((0, self.model.form.linear.size))
        self.low = np.zeros(0)
        self.idle = np.zeros(0, dtype=np.int64)
        starting = [cut for surface in self.model.surfaces for cut in surface.start()]
        self.add([self.scaled(cut) for cut in (*self.model.fixed_cuts, *starting)])
        self.permanent = self.low.size

    def scaled(self, cuts: Cuts) -> Cuts:
        """Cuts at the scale at which HiGHS is to meet them."""
        rows = cuts.matrix(self.model.offset.size) @ self.model.matrix
        largest = np.zeros(cuts.level.size)
        np.maximum.at(largest, np.repeat(np.arange(largest.size), np.diff(rows.indptr)), np.abs(rows.data))
        factor = np.minimum(SHARP, LARGEST / np.maximum(largest, 1e-300))
        return Cuts(cuts.index, cuts.weights * factor[:, None], cuts.level * factor)

    def add(self, cuts: list[Cuts]) -> Rows:
        """Take in cuts that are `scaled`; return them as rows in the columns of the model."""
        model = self.model
        if not cuts:
            return Rows(sp.csr_matrix((0, model.form.linear.size)), np.zeros(0), np.zeros(0))
        weights = sp.vstack([cut.matrix(model.offset.size) for cut in cuts], format="csr")
        level = np.concatenate([cut.level for cut in cuts])
        matrix = sp.csr_matrix(weights @ model.matrix)
        matrix.sum_duplicates()
        low = level - weights @ model.offset
        self.weights = sp.vstack([self.weights, weights], format="csr")
        self.matrix = sp.vstack([self.matrix, matrix], format="csr")
        self.low = np.concatenate([self.low, low])
        self.idle = np.concatenate([self.idle, np.zeros(low.size, dtype=np.int64)])
        self.made += low.size
        return Rows(matrix, low, np.full(low.size, np.inf))

    def rows(self) -> Rows:
        """All cuts as rows."""
        return Rows(self.matrix, self.low, np.full(self.low.size, np.inf))

    def stale(self, duals: Array, patience: int) -> NDArray[np.int64]:
        """Count who priced nothing this time; return the cuts that have not for longer than ``patience``."""
        self.idle = np.where(np.abs(duals) > 0, 0, self.idle + 1)
        self.idle[: self.permanent] = 0
        return np.flatnonzero(self.idle > patience)

    def drop(self, which: NDArray[np.int64]) -> None:
        """Forget cuts."""
        keep = np.ones(self.low.size, dtype=bool)
        keep[which] = False
        self.weights, self.matrix = self.weights[keep], self.matrix[keep]
        self.low, self.idle = self.low[keep], self.idle[keep]
