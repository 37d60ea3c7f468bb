"""The backend ``outer``: HiGHS on the linear part, tangent cuts for everything else.

A program is brought to CVXPY's cone form. Its linear rows go to HiGHS; exponential, second-order, power and
semidefinite cones, and hypographs of evaluated functions, are replaced by tangent planes, which are added where
HiGHS's point violates them until it does so no more. Each tangent holds everywhere in the set, so that whatever
HiGHS proves of its relaxation (a bound, infeasibility) it proves of the program, integers included.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from cvxpy.constraints import PSD, SOC, ExpCone, NonNeg, PowCone3D, Zero
from numpy.typing import NDArray

from mechopt.solvers.backend import Answer, Backend, Capability, Settings
from mechopt.solvers.conic import Multipliers
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.highs import Canonical, Canonicalizer, Rows, load, option_names, run
from mechopt.solvers.solution import Status

if TYPE_CHECKING:
    from mechopt.solvers.program import Program
    from mechopt.solvers.terms import Hypograph

Array = NDArray[np.float64]
Index = NDArray[np.int64]

STEEPEST = 25.0
"""Tangents of the exponential are taken at exponents within ±25; e^25 is past what a row of HiGHS resolves."""

RAY = 1e-9
"""A direction whose largest entry is one leaves a cone if it does so by more than this."""

SHARP = 1e3
"""HiGHS meets rows to an absolute tolerance, 1e-10 at the least; cuts are scaled up to be met more closely."""

OWN_OPTIONS = {"max_rounds": 2000}


# ------------------------------------------------------------------------------------------------------ cuts


@dataclass
class Cuts:
    """Inequalities ``weights . s[index] >= level`` on the entries s of the cones, one a row."""

    index: Index
    weights: Array
    level: Array

    @classmethod
    def on(cls, index: Index, weights: Array, level: Array | float = 0.0) -> Cuts:
        """Cuts whose largest weight is at most one, so that rows of very different slopes are comparable."""
        size = np.maximum(np.max(np.abs(weights), axis=1, initial=0.0), 1e-300)
        shrink = np.minimum(1.0 / size, 1.0)
        return cls(index, weights * shrink[:, None], np.broadcast_to(level, len(index)) * shrink)

    def matrix(self, entries: int) -> Any:
        """Weights as a sparse matrix over all entries."""
        count, width = self.weights.shape
        starts = np.arange(0, count * width + 1, width)
        return sp.csr_matrix((self.weights.ravel(), self.index.ravel(), starts), shape=(count, entries))


class Surface:
    """Cones of one kind, as rows of indices into the entries; knows their tangents.

    Subclasses are vectorised over the cones: no method loops over them.
    """

    def __init__(self, index: Index) -> None:
        self.index = index

    def start(self) -> list[Cuts]:
        """Cuts that hold before anything is known."""
        return []

    def separate(self, s: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """Worst relative violation at the entries ``s`` of shape (cones, width), and cuts where it is too much."""
        raise NotImplementedError

    def separate_ray(self, s: Array, at: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """The same for a direction: a cone's cuts pass through zero, and so treat both alike."""
        return self.separate(s, tolerance)


class Exponential(Surface):
    """``z >= y e^(x/y)``, by ``x + (1 - r) y <= e^-r z`` for every r; tight at ``r = x/y = log(z/y)``."""

    def cuts(self, which: Index, r: Array) -> Cuts:
        """Tangents at the exponents ``r``."""
        r = np.clip(r, -STEEPEST, STEEPEST)
        weights = np.stack([np.full_like(r, -1.0), r - 1.0, np.exp(-r)], axis=1)
        # Rows keep the accuracy of x, the logarithm, unless z is so small that its weight would drown it.
        weights /= np.maximum(1.0, np.exp(-r) / 1e6)[:, None]
        return Cuts(self.index[which], weights, np.zeros(len(r)))

    def start(self) -> list[Cuts]:
        """See `Surface.start`."""
        every = np.arange(len(self.index))
        signs = [Cuts.on(self.index[:, [column]], np.ones((len(every), 1))) for column in (1, 2)]
        return signs + [self.cuts(every, np.full(len(every), r)) for r in (-1.0, 0.0, 1.0, 2.0, 4.0)]

    def separate(self, s: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """See `Surface.separate`."""
        x, y, z = s.T
        tiny = 1e-12
        safe_y, safe_z = np.maximum(y, tiny), np.maximum(z, tiny)
        ratio = x / safe_y
        # The tangent at the height z, except where z is so low that one at x - y is nearer.
        r = np.maximum(np.log(safe_z / safe_y), ratio - 1.0)
        # On the face y = 0 only x <= 0 is left, which no single tangent says: go there by a factor at a time.
        flat = (y <= tiny) & (x > 0)
        r = np.where(flat, np.log(10.0 * safe_z / np.maximum(x, tiny)), r)
        r = np.clip(r, -STEEPEST, STEEPEST)
        gap = (x + (1.0 - r) * y - np.exp(-r) * z) / (1.0 + np.abs(x) + np.abs(y))
        which = np.flatnonzero(gap > tolerance)
        return float(np.max(gap, initial=0.0)), [self.cuts(which, r[which])] if which.size else []


class Power(Surface):
    """``x^a y^(1-a) >= |z|``, by ``a q^(a-1) x + (1-a) q^a y >= ±z`` for every q > 0; tight at ``q = x/y``."""

    def __init__(self, index: Index, alpha: Array) -> None:
        super().__init__(index)
        self.alpha = alpha

    def cuts(self, which: Index, q: Array, sign: Array) -> Cuts:
        """Tangents at the ratios ``q``."""
        a = self.alpha[which]
        weights = np.stack([a * q ** (a - 1.0), (1.0 - a) * q**a, -sign], axis=1)
        return Cuts.on(self.index[which], weights)

    def start(self) -> list[Cuts]:
        """See `Surface.start`."""
        every = np.arange(len(self.index))
        one = np.ones(len(every))
        cuts = [Cuts.on(self.index[:, [column]], one[:, None]) for column in (0, 1)]
        return cuts + [self.cuts(every, q * one, sign * one) for q in (0.1, 1.0, 10.0) for sign in (-1.0, 1.0)]

    def separate(self, s: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """See `Surface.separate`."""
        x, y = np.maximum(s[:, :2], 0.0).T
        height, sign, a = np.abs(s[:, 2]), np.where(s[:, 2] < 0, -1.0, 1.0), self.alpha
        gap = (height - x**a * y ** (1.0 - a)) / (1.0 + height)
        which = np.flatnonzero(gap > tolerance)
        if not which.size:
            return float(np.max(gap, initial=0.0)), []
        x, y, height, a = x[which], y[which], height[which], a[which]
        tiny = 1e-12
        # A tangent at a vanishing x is vertical. Stay within a factor of ten of where the height is reached.
        low = 0.1 * (height / np.maximum(y, tiny)) ** (1.0 / a)
        high = 10.0 * (x / height) ** (1.0 / (1.0 - a))
        q = np.clip(x / np.maximum(y, tiny), low, np.maximum(low, np.maximum(high, tiny)))
        q = np.where((x <= tiny) & (y <= tiny), 1.0, np.clip(q, 1e-10, 1e10))
        return float(np.max(gap)), [self.cuts(which, q, sign[which])]


class Rotated(Surface):
    """``t z >= y^2``, by ``z - 2 r y + r^2 t >= 0`` for every r; tight at ``r = y/t``.

    A second-order cone ``|y| <= t`` becomes ``y_i^2 / t <= z_i`` and ``sum z_i <= t``: cuts in three dimensions
    add up to it, where cuts in the cone's own dimension would be needed in exponential number.
    """

    def __init__(self, index: Index, width: Array) -> None:
        super().__init__(index)
        self.width = width

    def cuts(self, which: Index, r: Array) -> Cuts:
        """Tangents at the slopes ``r``."""
        return Cuts.on(self.index[which], np.stack([r**2, -2.0 * r, np.ones_like(r)], axis=1))

    def start(self) -> list[Cuts]:
        """See `Surface.start`."""
        every = np.arange(len(self.index))
        slopes = (np.ones(len(every)), 1.0 / np.sqrt(self.width))
        return [self.cuts(every, sign * slope) for slope in slopes for sign in (-1.0, 1.0)]

    def separate(self, s: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """See `Surface.separate`."""
        t, y, z = s.T
        # At t = 0 every r beyond z / 2y cuts.
        r = np.where(t > 1e-12, y / np.maximum(t, 1e-12), np.sign(y) * (np.abs(z / np.where(y == 0, 1.0, y)) + 1.0))
        r = np.clip(r, -1e4, 1e4)
        gap = (2.0 * r * y - r**2 * t - z) * self.width / (1.0 + np.abs(t)) / np.maximum(1.0, r**2)
        which = np.flatnonzero(gap > tolerance)
        return float(np.max(gap, initial=0.0)), [self.cuts(which, r[which])] if which.size else []


class Semidefinite(Surface):
    """Matrices of one order n, entries column by column, by ``v'Sv >= 0`` for every v."""

    def __init__(self, index: Index, order: int) -> None:
        super().__init__(index)
        self.order = order

    def cuts(self, which: Index, v: Array) -> Cuts:
        """Cuts at the directions ``v``, shape (cuts, order)."""
        return Cuts.on(self.index[which], (v[:, :, None] * v[:, None, :]).reshape(len(v), -1))

    def start(self) -> list[Cuts]:
        """See `Surface.start`."""
        n = self.order
        i, j = np.triu_indices(n, 1)
        pair = np.eye(n)[i]
        directions = np.concatenate([np.eye(n), pair + np.eye(n)[j], pair - np.eye(n)[j]])
        which = np.repeat(np.arange(len(self.index)), len(directions))
        return [self.cuts(which, np.tile(directions, (len(self.index), 1)))]

    def separate(self, s: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """See `Surface.separate`."""
        matrices = s.reshape(-1, self.order, self.order)
        values, vectors = np.linalg.eigh((matrices + matrices.transpose(0, 2, 1)) / 2.0)
        gap = -values / (1.0 + np.max(np.abs(matrices), axis=(1, 2)))[:, None]
        which, column = np.nonzero(gap > tolerance)
        return float(np.max(gap, initial=0.0)), (
            [self.cuts(which, vectors[which, :, column])] if which.size else []
        )


class Evaluated(Surface):
    """The hypograph ``t <= f(x)``, by tangents of f; remembers them, to find out if f is not concave."""

    def __init__(self, index: Index, hypograph: Hypograph, name: str) -> None:
        super().__init__(index)
        self.hypograph, self.name = hypograph, name
        self.seen: list[tuple[Array, Array, Array]] = []

    def separate(self, s: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """See `Surface.separate`."""
        t, x = s.T
        x, value, slope = self._tangent(x)
        over = t - value - slope * (s[:, 1] - x)
        gap = over / (1.0 + np.abs(t) + np.abs(value))
        which = np.flatnonzero(gap > tolerance)
        self._remember(x, value, slope)
        return float(np.max(gap, initial=0.0)), [self._cuts(which, x, value, slope)] if which.size else []

    def separate_ray(self, s: Array, at: Array, tolerance: float) -> tuple[float, list[Cuts]]:
        """See `Surface.separate_ray`: tangents farther and farther along the direction, while f has a value."""
        rise, run_ = s.T
        best = np.zeros(len(s))
        found: list[Cuts] = []
        open_ = np.ones(len(s), dtype=bool)
        for step in 10.0 ** np.arange(9):
            x = at[:, 1] + step * run_
            value, slope = self._evaluate(x)
            over = np.where(np.isfinite(value) & np.isfinite(slope), rise - slope * run_, 0.0)
            best = np.maximum(best, over)
            which = np.flatnonzero(open_ & (over > np.maximum(tolerance, 0.1 * np.abs(rise))))
            if which.size:
                found.append(self._cuts(which, x, value, slope))
                open_[which] = False
        return float(np.max(best, initial=0.0)), found

    def _cuts(self, which: Index, x: Array, value: Array, slope: Array) -> Cuts:
        x, value, slope = x[which], value[which], slope[which]
        weights = np.stack([np.full_like(x, -1.0), slope], axis=1)
        return Cuts.on(self.index[which], weights, slope * x - value)

    def _evaluate(self, x: Array) -> tuple[Array, Array]:
        shaped = x.reshape(self.hypograph.shape, order="F")
        value, slope = self.hypograph.value_at(shaped), self.hypograph.derivative_at(shaped)
        return np.ravel(value, order="F").astype(float), np.ravel(slope, order="F").astype(float)

    def _tangent(self, x: Array) -> tuple[Array, Array, Array]:
        """Tangents at x, or just beside it where f is vertical or HiGHS has stepped over the edge of its domain."""
        value, slope = self._evaluate(x)
        first = value, slope
        for step in (1e-8, -1e-8, 1e-6, -1e-6, 1e-4, -1e-4):
            bad = ~(np.isfinite(value) & np.isfinite(slope))
            if not bad.any():
                return x, value, slope
            x = np.where(bad, x + step * (1.0 + np.abs(x)), x)
            value, slope = self._evaluate(x)
        bad = ~(np.isfinite(value) & np.isfinite(slope))
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            raise InvalidInput(
                f"{self.name}, entry {self._entry(i)}: f({x[i]:.9g}) = {first[0][i]} with derivative "
                f"{first[1][i]}; the function must have a finite value and slope wherever the other constraints "
                "let its argument go: bound the argument away from there"
            )
        return x, value, slope

    def _remember(self, x: Array, value: Array, slope: Array) -> None:
        """Hold the new tangents against all old points, and the new points against all old tangents."""
        if self.seen:
            old_x, old_value, old_slope = (np.stack(part) for part in zip(*self.seen, strict=True))
            near = 1e-7 * (1.0 + np.abs(value) + np.abs(old_value) + np.abs(slope * (old_x - x)))
            over = np.maximum(
                old_value - value - slope * (old_x - x), value - old_value - old_slope * (x - old_x)
            )
            if np.any(over > near):
                k, i = (int(v) for v in np.argwhere(over > near)[0])
                raise InvalidInput(
                    f"{self.name}, entry {self._entry(i)}: the function is not concave, or its derivative is "
                    f"wrong: f({old_x[k, i]:.9g}) = {old_value[k, i]:.9g} with slope {old_slope[k, i]:.9g} and "
                    f"f({x[i]:.9g}) = {value[i]:.9g} with slope {slope[i]:.9g}; "
                    "one lies above the other's tangent"
                )
        self.seen.append((x, value, slope))

    def _entry(self, i: int) -> tuple[int, ...]:
        return tuple(int(k) for k in np.unravel_index(i, self.hypograph.shape, order="F"))


# ---------------------------------------------------------------------------------------------- the relaxation


@dataclass
class Model:
    """A program in cone form: a linear part for HiGHS, and surfaces over entries ``s = offset + matrix x``.

    Entries are the canonical rows, then one for each of the columns that surfaces use directly: auxiliary ones
    of second-order cones, and the arguments of hypographs.
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
                Evaluated(place + np.stack([np.arange(size), size + np.arange(size)], axis=1), hypograph, name)
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

    def multipliers(self, pool: Pool, duals: Array) -> Array:
        """Multipliers of the canonical rows: the linear rows' own, and each cone's cuts added up."""
        count = self.linear.low.size
        y = np.asarray(pool.weights.T @ np.maximum(duals[count:], 0.0))[: self.form.offset.size]
        y[:count] = -duals[:count]
        y[self.form.dims.zero : count] = np.maximum(y[self.form.dims.zero : count], 0.0)
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
    from mechopt.solvers.terms import Hypograph

    named = []
    for family, terms in program.families.items():
        for position, term in enumerate(terms):
            if isinstance(term, Hypograph):
                name = f"hypograph {family!r}" if len(terms) == 1 else f"hypograph {family!r}[{position}]"
                named.append((name, term))
    return named


def _with_arguments(program: Program) -> tuple[cp.Problem, list[tuple[cp.Variable, cp.Variable]]]:
    """The problem with a variable for each side of each hypograph, so that they have columns of their own."""
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
    """Surfaces for the cones of a canonical form, cuts that always stay, and the number of auxiliary columns."""
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
            Rotated(np.stack([head, head + 1 + within, auxiliary], axis=1), np.repeat(width, width).astype(float))
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


# ------------------------------------------------------------------------------------------------- the algorithm


class _OutOfTime(Exception):
    """The time limit has been reached."""


@dataclass
class Pool:
    """All cuts in force, in the order of their rows after the linear ones."""

    model: Model
    weights: Any = field(init=False)
    level: Array = field(init=False)
    idle: NDArray[np.int64] = field(init=False)
    permanent: int = 0
    made: int = 0

    def __post_init__(self) -> None:
        self.weights = sp.csr_matrix((0, self.model.offset.size))
        self.level = np.zeros(0)
        self.idle = np.zeros(0, dtype=np.int64)
        self.add([*self.model.fixed_cuts, *(cut for surface in self.model.surfaces for cut in surface.start())])
        self.permanent = self.level.size

    def add(self, cuts: list[Cuts]) -> Rows:
        """Take in cuts; return them as rows in the columns of the model."""
        model = self.model
        if not cuts:
            return Rows(sp.csr_matrix((0, model.form.linear.size)), np.zeros(0), np.zeros(0))
        weights = SHARP * sp.vstack([cut.matrix(model.offset.size) for cut in cuts], format="csr")
        level = SHARP * np.concatenate([cut.level for cut in cuts])
        self.weights = sp.vstack([self.weights, weights], format="csr")
        self.level = np.concatenate([self.level, level])
        self.idle = np.concatenate([self.idle, np.zeros(level.size, dtype=np.int64)])
        self.made += level.size
        return self._rows(weights, level)

    def rows(self) -> Rows:
        """All cuts as rows."""
        return self._rows(self.weights, self.level)

    def _rows(self, weights: Any, level: Array) -> Rows:
        matrix = sp.csr_matrix(weights @ self.model.matrix)
        matrix.sum_duplicates()
        low = level - weights @ self.model.offset
        return Rows(matrix, low, np.full(low.size, np.inf))

    def stale(self, duals: Array, patience: int) -> NDArray[np.int64]:
        """Count who priced nothing this time; return the cuts that have not for longer than ``patience``."""
        self.idle = np.where(np.abs(duals) > 0, 0, self.idle + 1)
        self.idle[: self.permanent] = 0
        return np.flatnonzero(self.idle > patience)

    def drop(self, which: NDArray[np.int64]) -> None:
        """Forget cuts."""
        keep = np.ones(self.level.size, dtype=bool)
        keep[which] = False
        self.weights, self.level, self.idle = self.weights[keep], self.level[keep], self.idle[keep]


@dataclass
class _Point:
    """What a sequence of relaxations has ended with."""

    status: Status
    x: Array | None = None
    value: float = np.nan
    worst: float = np.inf
    duals: Array | None = None
    bound: float = -np.inf
    reason: str = ""


class _Search:
    """Outer approximation of one model."""

    def __init__(self, model: Model, settings: Settings, options: dict[str, Any], deadline: float | None) -> None:
        self.model, self.settings, self.given = model, settings, options
        self.deadline = deadline
        self.limit = int(options["max_rounds"])
        self.tolerance = max(1e-2 * settings.tolerance*float(__import__("os").environ.get("XT","1")), 1e-13)
        feasible = float(np.clip(1e-2 * self.tolerance, 1e-10, 1e-7))
        self.options = {
            "primal_feasibility_tolerance": feasible,
            "dual_feasibility_tolerance": feasible,
            "mip_feasibility_tolerance": max(feasible, 1e-9),
            "mip_rel_gap": 0.0,
            "mip_abs_gap": 0.0,
            "small_matrix_value": 1e-12,
            "output_flag": settings.verbose,
        } | {name: value for name, value in options.items() if name not in OWN_OPTIONS}
        self.pool = Pool(model)
        self.rounds = 0
        self.trees = 0
        self.highs: Any = None

    # ------------------------------------------------------------------ relaxations

    def remaining(self) -> float | None:
        """Seconds left; raises when there are none."""
        if self.deadline is None:
            return None
        left = self.deadline - time.perf_counter()
        if left <= 0:
            raise _OutOfTime
        return left

    def _all_rows(self) -> Rows:
        cuts, linear = self.pool.rows(), self.model.linear
        return Rows(
            sp.vstack([linear.matrix, cuts.matrix], format="csr"),
            np.concatenate([linear.low, cuts.low]),
            np.concatenate([linear.high, cuts.high]),
        )

    def _run(self, highs: Any, share: float = 1.0) -> str:
        left = self.remaining()
        if left is not None:
            highs.setOptionValue("time_limit", left * share)
        return run(highs)

    def _run_linear(self) -> str:
        """Solve the linear relaxation from the last basis; once more from nothing if that goes wrong."""
        words = self._run(self.highs)
        if words == "kTimeLimit":
            raise _OutOfTime
        if words in ("kOptimal", "kInfeasible", "kUnbounded"):
            return words
        self.highs.clearSolver()
        self.highs.setOptionValue("presolve", "off")
        words = self._run(self.highs)
        self.highs.setOptionValue("presolve", "choose")
        if words == "kTimeLimit":
            raise _OutOfTime
        return words

    def _grow(self, cuts: list[Cuts]) -> None:
        rows = self.pool.add(cuts)
        matrix = rows.matrix
        self.highs.addRows(
            rows.low.size, rows.low, rows.high, matrix.nnz, matrix.indptr[:-1], matrix.indices, matrix.data
        )

    def converge(self) -> _Point:
        """Solve the continuous relaxation, as it stands in ``self.highs``, until no cut is violated."""
        for _ in range(self.limit):
            self.rounds += 1
            words = self._run_linear()
            if words == "kInfeasible":
                return _Point(Status.INFEASIBLE)
            if words == "kUnbounded":
                if not self._stop_ray():
                    return self._without_end()
                continue
            if words != "kOptimal":
                return _Point(Status.FAILED)
            solution = self.highs.getSolution()
            x, duals = np.asarray(solution.col_value), np.asarray(solution.row_dual)
            value = float(self.model.form.linear @ x)
            worst, cuts = self.model.separate(x, self.tolerance)
            point = _Point(Status.OPTIMAL, x, value, worst, duals, reason="no tangent is violated")
            if worst <= self.tolerance:
                return self._bounded(point)
            cuts = self._new(cuts, x)
            if not cuts:
                return replace(self._bounded(point), status=Status.INACCURATE, reason=f"stopped at {worst:.1e}")
            self._purge(duals)
            self._grow(cuts)
        return _Point(Status.LIMIT)

    def _bounded(self, point: _Point) -> _Point:
        """With the bound that the multipliers prove: weak duality, whatever HiGHS says of its optimum."""
        assert point.x is not None and point.duals is not None
        rows, form = self._all_rows(), self.model.form
        duals = point.duals.copy()
        # A multiplier of the wrong sign by rounding would charge an infinite right-hand side.
        duals = np.where(np.isinf(rows.high), np.maximum(duals, 0.0), duals)
        duals = np.where(np.isinf(rows.low), np.minimum(duals, 0.0), duals)
        side = np.where(np.isinf(rows.high), rows.low, rows.high)
        kept = Multipliers(None, form.linear, rows.matrix, side, -duals, form.lower, form.upper)
        return replace(point, bound=kept.bound(point.x))

    def _new(self, cuts: list[Cuts], x: Array) -> list[Cuts]:
        """Cuts that HiGHS can see: those it would take for satisfied would come back for ever."""
        s = self.model.entries(x)
        smallest = self.options["primal_feasibility_tolerance"] / SHARP
        kept = []
        for cut in cuts:
            seen = cut.level - np.sum(cut.weights * s[cut.index], axis=1) > smallest
            if seen.any():
                kept.append(Cuts(cut.index[seen], cut.weights[seen], cut.level[seen]))
        return kept

    def _purge(self, duals: Array) -> None:
        """Drop cuts that have long been idle once they outnumber the rest of the linear program."""
        count = self.model.linear.low.size
        stale = self.pool.stale(duals[count:], patience=20)
        if stale.size and self.pool.level.size > 1000 + 4 * (count + self.pool.permanent):
            self.highs.deleteRows(stale.size, (count + stale).astype(np.int32))
            self.pool.drop(stale)

    # ------------------------------------------------------------------ rays

    def _stop_ray(self) -> bool:
        """Cut off the direction along which the relaxation improves without end; False if no cut does."""
        direction, at = self._ray()
        if direction is None:
            return False
        cuts = [cut for cut in self.model.separate_ray(direction, at, RAY) if self._stops(cut, direction)]
        if cuts:
            self._grow(cuts)
        return bool(cuts)

    def _ray(self) -> tuple[Array | None, Array]:
        """The relaxation's ray, of largest entry one, and a point to start it from."""
        form = self.model.form
        _, has, ray = self.highs.getPrimalRay()
        if not has:  # presolve has seen it, and computes none
            self.highs.clearSolver()
            self.highs.setOptionValue("presolve", "off")
            self._run(self.highs)
            self.highs.setOptionValue("presolve", "choose")
            _, has, ray = self.highs.getPrimalRay()
        at = np.asarray(self.highs.getSolution().col_value, dtype=float)
        if at.size != form.linear.size or not np.all(np.isfinite(at)):
            at = np.clip(0.0, form.lower, form.upper)
        if not has:
            return None, at
        direction = np.asarray(ray, dtype=float)
        return direction / max(float(np.max(np.abs(direction))), 1e-300), at

    def _stops(self, cut: Cuts, direction: Array) -> bool:
        d = np.asarray(self.model.matrix @ direction)
        return bool(np.any(np.sum(cut.weights * d[cut.index], axis=1) < -0.1 * RAY))

    def _without_end(self) -> _Point:
        """No cut stops the ray. It proves the program unbounded if it improves, and if there is a point at all."""
        direction, _ = self._ray()
        if direction is None or self.model.form.linear @ direction > -1e2 * RAY:
            return _Point(
                Status.FAILED,
                reason="the relaxation improves without end, but along no ray of the program: either the "
                "objective does too, more and more slowly, or a bound on the variables is missing",
            )
        still = replace(self.model, form=replace(self.model.form, linear=np.zeros_like(self.model.form.linear)))
        feasible = _Search(still, self.settings, self.given, self.deadline).solve()
        if feasible.status is Status.OPTIMAL:
            return _Point(Status.UNBOUNDED, reason="a ray of the program improves the objective without end")
        return _Point(feasible.status, reason=feasible.reason)

    # ------------------------------------------------------------------ programs

    def solve(self) -> _Point:
        """Solve the program; a point with a bound as far as the time goes."""
        best = _Point(Status.LIMIT, value=np.inf, reason="time limit")
        try:
            root = self._root()
            if root.status not in (Status.OPTIMAL, Status.INACCURATE) or not self.model.form.integer.any():
                return root
            best.bound = root.bound
            return self._integers(best)
        except _OutOfTime:
            return replace(best, status=Status.LIMIT, reason="time limit")

    def _root(self) -> _Point:
        """The continuous program."""
        self.highs = load(self.model.form, self._all_rows(), self.options, integers=False)
        if self.model.oracles:
            seeded = self._seed()
            if seeded is not None:
                return seeded
        return self.converge()

    def _seed(self) -> _Point | None:
        """Give every evaluated function a first tangent, at a point that the other constraints allow."""
        form = self.model.form
        columns = np.arange(form.linear.size, dtype=np.int32)
        self.highs.changeColsCost(columns.size, columns, np.zeros(columns.size))
        words = self._run_linear()
        self.highs.changeColsCost(columns.size, columns, form.linear)
        if words != "kOptimal":
            return _Point(Status.INFEASIBLE if words == "kInfeasible" else Status.FAILED, reason=f"HiGHS: {words}")
        s = self.model.entries(np.asarray(self.highs.getSolution().col_value))
        self._grow([cut for oracle in self.model.oracles for cut in oracle.separate(s[oracle.index], -np.inf)[1]])
        return None

    def _integers(self, best: _Point) -> _Point:
        """Integer relaxations for bounds and choices, continuous programs at those choices for points."""
        form = self.model.form
        which = np.flatnonzero(form.integer)
        tried: set[bytes] = set()
        while self.trees < self.limit:
            self.trees += 1
            words, choices, bound = self._tree(best)
            best.bound = max(best.bound, bound)
            if words == "kTimeLimit" and not choices:
                raise _OutOfTime
            if words == "kInfeasible":
                if best.x is None:
                    return _Point(Status.INFEASIBLE, reason="the integer relaxation is infeasible")
                return replace(best, status=Status.INACCURATE, reason="the relaxation loses the point it led to")
            if not choices:
                return replace(best, status=Status.FAILED, reason=f"HiGHS: {words.removeprefix('k')}")
            fresh = [choice for choice in choices if choice.tobytes() not in tried]
            for choice in fresh:
                tried.add(choice.tobytes())
                found = self._at(which, choice)
                if found.x is not None and found.value < best.value:
                    best.x, best.value, best.worst = found.x, found.value, found.worst
            if words == "kTimeLimit":
                raise _OutOfTime
            closed = best.x is not None and best.value - best.bound <= self.tolerance * (1.0 + abs(best.value))
            if closed or (not fresh and best.x is not None):
                return replace(best, status=Status.OPTIMAL, reason="bound and point meet")
            if not fresh:
                return replace(
                    best, status=Status.FAILED,
                    reason="an integer choice that no point completes satisfies the relaxation within HiGHS's tolerance",
                )
        return replace(best, status=Status.LIMIT, reason="max_rounds")

    def _tree(self, best: _Point) -> tuple[str, list[Array], float]:
        """Solve the integer relaxation; its status, the integer choices it came upon, best first, its bound."""
        form = self.model.form
        which = np.flatnonzero(form.integer)
        highs = load(form, self._all_rows(), self.options)
        if best.x is not None:
            highs.setSolution(which.size, which.astype(np.int32), np.round(best.x[which]))
        # Without a point yet, keep time to make one of what the tree has found.
        words = self._run(highs, 1.0 if best.x is not None else 0.8)
        info = highs.getInfo()
        bound = float(info.mip_dual_bound)
        if info.primal_solution_status != 2:
            return words, [], bound
        x = np.asarray(highs.getSolution().col_value)
        return words, [np.round(x[which]) + 0.0], bound

    def _at(self, which: NDArray[np.int64], choice: Array) -> _Point:
        """The continuous program with its integers fixed."""
        form = self.model.form
        columns = which.astype(np.int32)
        self.highs.changeColsBounds(columns.size, columns, choice, choice)
        try:
            return self.converge()
        finally:
            self.highs.changeColsBounds(columns.size, columns, form.lower[which], form.upper[which])


class Outer(Backend):
    """Outer approximation: every convex class, with integers, and functions that can only be evaluated.

    Options are HiGHS's own, and ``max_rounds``, the number of relaxations after which to stop.
    """

    name = "outer"
    capabilities = frozenset(
        {
            Capability.LP,
            Capability.QP,
            Capability.SOC,
            Capability.EXP,
            Capability.POW,
            Capability.SDP,
            Capability.MIP,
            Capability.ORACLE,
        }
    )
    rank = 30
    globally = True
    modules = ("highspy",)
    distribution = "highspy"
    licence = "Apache-2.0 AND MIT"

    def __init__(self) -> None:
        self._canonicalizer = Canonicalizer((Zero, NonNeg, SOC, PSD, ExpCone, PowCone3D), quadratic=False)

    def solve(self, program: Program, settings: Settings) -> Answer:
        """See `Backend.solve`."""
        unknown = sorted(set(settings.options) - option_names() - set(OWN_OPTIONS))
        if unknown:
            raise InvalidInput(
                f"backend 'outer' has no option {', '.join(map(repr, unknown))}; "
                f"it has {', '.join(OWN_OPTIONS)}, {', '.join(sorted(option_names()))}"
            )
        begun = time.perf_counter()
        model = Model.build(program, self._canonicalizer)
        compiled = time.perf_counter()
        deadline = None if settings.time_limit is None else begun + settings.time_limit
        search = _Search(model, settings, OWN_OPTIONS | dict(settings.options), deadline)
        point = search.solve()
        answer = Answer(point.status, point.reason)
        answer.seconds = {"compile": compiled - begun, "solve": time.perf_counter() - compiled}
        answer.extra = {"rounds": search.rounds, "cuts": search.pool.made}
        if model.form.integer.any():
            answer.extra["trees"] = search.trees
        if point.x is not None:
            _fill(answer, model, search.pool, point)
        return answer


def _fill(answer: Answer, model: Model, pool: Pool, point: _Point) -> None:
    """Point, multipliers and bound, in the program's own terms."""
    assert point.x is not None
    program, form = model.program, model.form
    columns = model.columns
    y = None
    if np.isfinite(point.bound):
        answer.bound = form.physical(program, point.bound)
    if point.duals is not None:
        y = model.multipliers(pool, point.duals)
        price = pool.weights.T @ np.maximum(point.duals[model.linear.low.size :], 0.0)
        for oracle in model.oracles:
            # A tangent weighs t by minus one: what it gains by a unit is minus the price of that entry.
            answer.hypograph_dual[id(oracle.hypograph)] = -price[oracle.index[:, 0]]
    found = form.recover(point.x[:columns], y, point.value)
    answer.primal = {key: np.asarray(value, dtype=float) for key, value in found.primal_vars.items()}
    answer.dual = {key: np.asarray(v, dtype=float) for key, v in (found.dual_vars or {}).items() if v is not None}
