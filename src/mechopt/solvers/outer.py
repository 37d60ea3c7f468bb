"""The backend ``outer``: HiGHS on the linear part, tangent cuts for everything else.

A program is brought to CVXPY's cone form. Its linear rows go to HiGHS; exponential, second-order, power and
semidefinite cones, and hypographs of evaluated functions, are replaced by tangent planes, which are added
where HiGHS's point violates them until it does so no more. Each tangent holds everywhere in the set, so that
whatever HiGHS proves of its relaxation (a bound, infeasibility) it proves of the program, integers included.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from cvxpy.constraints import PSD, SOC, ExpCone, NonNeg, PowCone3D, Zero
from numpy.typing import NDArray

from mechopt.solvers.backend import Answer, Backend, Capability, Settings
from mechopt.solvers.conic import Multipliers
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.highs import STATUS, Canonicalizer, Rows, load, option_names, run
from mechopt.solvers.relaxation import Model, Pool
from mechopt.solvers.solution import Status
from mechopt.solvers.tangents import Cuts

if TYPE_CHECKING:
    from mechopt.solvers.program import Program

Array = NDArray[np.float64]

OFF = 1e-7
"""Relative difference of an objective from what its point gives that rounding does not explain."""

RAY = 1e-9
"""A direction whose largest entry is one leaves a cone if it does so by more than this."""

ROOT = 1e-3
"""Violation to which the continuous relaxation is solved before the first integer one."""

BLUNT = {"presolve": "off", "primal_feasibility_tolerance": 1e-7, "mip_feasibility_tolerance": 1e-6}
"""HiGHS's own accuracy, for a second look at a tree that has found nothing; what it proves still holds."""

WITHOUT_PRESOLVE = {"presolve": "off"}

OTHER_WAYS = (WITHOUT_PRESOLVE, {"solver": "ipm"})
"""What to try where HiGHS ends undecided, as its simplex method does on some infeasible rows."""

OWN_OPTIONS = {"max_rounds": 2000}


class _OutOfTime(Exception):
    """The time limit has been reached."""


@dataclass
class _Point:
    """What a sequence of relaxations has ended with."""

    status: Status
    x: Array | None = None
    value: float = np.nan
    worst: float = np.inf
    duals: Array | None = None
    """Multipliers of the linear rows, in HiGHS's sign."""
    prices: Array | None = None
    """Multipliers of the entries: each cut's, times its weights, added up."""
    bound: float = -np.inf
    reason: str = ""

    def take(self, other: _Point) -> None:
        """Move to another point, in place: whoever runs out of time has the last one."""
        self.x, self.value, self.worst = other.x, other.value, other.worst
        self.duals, self.prices = other.duals, other.prices


class _Search:
    """Outer approximation of one model."""

    def __init__(
        self, model: Model, settings: Settings, options: dict[str, Any], deadline: float | None
    ) -> None:
        self.model, self.settings, self.given = model, settings, options
        self.deadline = deadline
        self.limit = int(options["max_rounds"])
        self.tolerance = max(1e-2 * settings.tolerance, 1e-11)
        self.sharp = max(1e-4 * self.tolerance, 1e-12)
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
        self.floor = model.bound_by_bounds()
        self.last = _Point(Status.LIMIT, bound=self.floor)
        self.whole = np.flatnonzero(model.form.integer)
        self.excluded: list[tuple[Any, float]] = []

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
        """Solve the linear relaxation from the last basis; from nothing, otherwise, if that goes wrong."""
        words = self._run(self.highs)
        for other in OTHER_WAYS:
            if words in ("kOptimal", "kInfeasible", "kUnbounded", "kTimeLimit"):
                break
            with self._otherwise(other):
                words = self._run(self.highs)
        if words == "kTimeLimit":
            raise _OutOfTime
        return words

    @contextmanager
    def _otherwise(self, changed: dict[str, Any]) -> Iterator[None]:
        """Forget the last basis, and let HiGHS work with other options for a while."""
        self.highs.clearSolver()
        before = {name: self.highs.getOptionValue(name)[1] for name in changed}
        for name, value in changed.items():
            self.highs.setOptionValue(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                self.highs.setOptionValue(name, value)

    def _grow(self, cuts: list[Cuts]) -> None:
        rows = self.pool.add(cuts)
        matrix = rows.matrix
        self.highs.addRows(
            rows.low.size, rows.low, rows.high, matrix.nnz, matrix.indptr[:-1], matrix.indices, matrix.data
        )

    def converge(self, goal: float | None = None) -> _Point:
        """Solve the continuous relaxation, as it stands in ``self.highs``, until no cut is violated.

        With a ``goal`` below the tolerance it goes on for a while once the tolerance is met: where the error
        of the value is e, those of point and prices are of the order of its square root. With one above, it
        stops there.
        """
        goal = self.tolerance if goal is None else goal
        enough = max(self.tolerance, goal)
        good: _Point | None = None
        since = 0
        before: Array | None = None
        for _ in range(self.limit):
            try:
                words = self._run_linear()
            except _OutOfTime:
                if good is None:
                    raise
                return good
            self.rounds += 1
            if words == "kUnbounded" and good is None:
                if not self._stop_ray():
                    return self._without_end()
                continue
            if words == "kInfeasible" and good is None:
                return _Point(Status.INFEASIBLE, reason="the relaxation is infeasible")
            if words != "kOptimal":
                return good or _Point(Status.FAILED, reason=f"HiGHS: {words.removeprefix('k')}")
            solution = self.highs.getSolution()
            x, duals = np.asarray(solution.col_value), np.asarray(solution.row_dual)
            worst, cuts = self.model.separate(x, goal)
            point = _Point(Status.OPTIMAL, x, float(self.model.form.linear @ x), worst, duals)
            self.last = self._bounded(point)
            if worst <= enough:
                good, since = replace(self.last, reason="no tangent is violated"), since + 1
            cuts = self._new(cuts, x)
            # HiGHS may also take a cut for satisfied that is not, by its own scaling.
            stuck = not cuts or (before is not None and np.array_equal(x, before))
            before = x
            if good is not None and (worst <= goal or stuck or since > 20):
                return good
            if stuck:
                return replace(
                    self.last, status=Status.INACCURATE, reason=f"HiGHS sees no violation below {worst:.1e}"
                )
            self._purge(duals)
            self._grow(cuts)
        return replace(self.last, status=Status.LIMIT, reason="max_rounds")

    def _bounded(self, point: _Point) -> _Point:
        """With the bound that the multipliers prove: weak duality, whatever HiGHS says of its optimum."""
        assert point.x is not None
        assert point.duals is not None
        rows, form = self._all_rows(), self.model.form
        duals = point.duals.copy()
        # A multiplier of the wrong sign by rounding would charge an infinite right-hand side.
        duals = np.where(np.isinf(rows.high), np.maximum(duals, 0.0), duals)
        duals = np.where(np.isinf(rows.low), np.minimum(duals, 0.0), duals)
        side = np.where(np.isinf(rows.high), rows.low, rows.high)
        kept = Multipliers(None, form.linear, rows.matrix, side, -duals, form.lower, form.upper)
        count = self.model.linear.low.size
        prices = np.asarray(self.pool.weights.T @ duals[count:])
        bound = max(kept.bound(point.x), self.floor)
        return replace(point, duals=duals[:count], prices=prices, bound=bound)

    def _new(self, cuts: list[Cuts], x: Array) -> list[Cuts]:
        """Scaled cuts that HiGHS can see: those it would take for satisfied would come back for ever."""
        s = self.model.entries(x)
        smallest = self.options["primal_feasibility_tolerance"]
        kept = []
        for cut in map(self.pool.scaled, cuts):
            seen = cut.level - np.sum(cut.weights * s[cut.index], axis=1) > smallest
            if seen.any():
                kept.append(Cuts(cut.index[seen], cut.weights[seen], cut.level[seen]))
        return kept

    def _purge(self, duals: Array) -> None:
        """Drop cuts that have long been idle once they outnumber the rest of the linear program.

        Not with integers: what one choice needs another leaves idle.
        """
        if self.whole.size:
            return
        count = self.model.linear.low.size
        stale = self.pool.stale(duals[count:], patience=20)
        if stale.size and self.pool.low.size > 1000 + 4 * (count + self.pool.permanent):
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
            self._grow([self.pool.scaled(cut) for cut in cuts])
        return bool(cuts)

    def _ray(self) -> tuple[Array | None, Array]:
        """Return the relaxation's ray, of largest entry one, and a point to start it from."""
        form = self.model.form
        _, has, ray = self.highs.getPrimalRay()
        if not has:  # presolve has seen it, and computes none
            with self._otherwise(WITHOUT_PRESOLVE):
                self._run(self.highs)
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
        """Say what a ray that no cut stops proves: no bound, if it improves and if there is a point."""
        direction, _ = self._ray()
        if direction is None or self.model.form.linear @ direction > -1e2 * RAY:
            return _Point(
                Status.FAILED,
                reason="the relaxation improves without end, but along no ray of the program: either the "
                "objective does too, more and more slowly, or a bound on the variables is missing",
            )
        still = replace(
            self.model, form=replace(self.model.form, linear=np.zeros_like(self.model.form.linear))
        )
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
            if root.status not in (Status.OPTIMAL, Status.INACCURATE) or not self.whole.size:
                return root
            best.bound = root.bound
            return self._integers(best)
        except _OutOfTime:
            if not self.whole.size:
                best = self.last
            elif best.bound == -np.inf:  # still in the continuous program, whose bounds hold
                best.bound = self.last.bound
            return replace(best, status=Status.LIMIT, reason="time limit")

    def _root(self) -> _Point:
        """Solve the continuous program."""
        self.highs = load(self.model.form, self._all_rows(), self.options, integers=False)
        if self.model.oracles:
            seeded = self._seed()
            if seeded is not None:
                return seeded
        # Trees do better on few cuts that are well apart than on the many close ones of a sharp root.
        return self.converge(ROOT if self.whole.size else self.sharp)

    def _seed(self) -> _Point | None:
        """Give every evaluated function its first tangents, at points that the linear constraints allow.

        The extremes show a function that is not concave, on which the search might otherwise end before it
        has looked at a second point.
        """
        form = self.model.form
        columns = np.arange(form.linear.size, dtype=np.int32)
        sums = np.zeros(self.model.offset.size)
        for oracle in self.model.oracles:
            sums[oracle.index[:, 1]] = 1.0
        upward = np.asarray(self.model.matrix.T @ sums)
        cuts: list[Cuts] = []
        failed: _Point | None = None
        for cost in (upward, -upward, np.zeros(columns.size)):
            self.highs.changeColsCost(columns.size, columns, cost)
            words = self._run_linear()
            if words == "kOptimal":
                s = self.model.entries(np.asarray(self.highs.getSolution().col_value))
                for oracle in self.model.oracles:
                    near = s[oracle.index]
                    cuts += oracle.seed(near) if cost.any() else oracle.separate(near, -np.inf)[1]
            elif not cost.any():
                status = Status.INFEASIBLE if words == "kInfeasible" else Status.FAILED
                failed = _Point(status, reason=f"HiGHS: {words.removeprefix('k')}")
        self.highs.changeColsCost(columns.size, columns, form.linear)
        self._grow([self.pool.scaled(cut) for cut in cuts])
        return failed

    def _integers(self, best: _Point) -> _Point:
        """Integer relaxations for bounds and choices, continuous programs at those choices for points."""
        tried: set[bytes] = set()
        sharp = False
        while self.trees < self.limit:
            words, choice, bound = self._tree(best)
            if words == "kInfeasible" and best.x is None:
                return _Point(Status.INFEASIBLE, reason="the integer relaxation is infeasible")
            stopped = STATUS.get(words) is Status.LIMIT
            if words != "kOptimal" and not stopped:
                status = Status.FAILED if best.x is None else Status.INACCURATE
                return replace(best, status=status, reason=f"HiGHS: {words.removeprefix('k')}")
            best.bound = max(best.bound, bound)
            again = choice is not None and choice.tobytes() in tried
            if choice is not None and not again:
                tried.add(choice.tobytes())
                found = self._at(choice, self.sharp if sharp else None)
                if found.status is Status.INFEASIBLE:
                    self._exclude(choice)
                elif found.x is None:
                    return replace(best, status=Status.FAILED, reason=found.reason)
                elif found.value < best.value:
                    best.take(found)
            if (self._closed(best) or again) and not sharp and best.x is not None:
                # Where a root or a power starts, a small violation is a large difference in value. Look
                # closer at the winner, and if that opens a gap, at all that follow.
                sharp, again = True, False
                winner = np.round(best.x[self.whole]) + 0.0
                tried = {winner.tobytes()}
                found = self._at(winner, self.sharp)
                if found.x is not None:
                    best.take(found)
            if self._closed(best):
                return replace(best, status=Status.OPTIMAL, reason="bound and point meet")
            if stopped:
                return replace(best, status=Status.LIMIT, reason=f"HiGHS: {words.removeprefix('k')}")
            if again:
                reason = "HiGHS returns to an integer choice that has been dealt with: it sees no finer"
                status = Status.FAILED if best.x is None else Status.INACCURATE
                return replace(best, status=status, reason=reason)
        return replace(best, status=Status.LIMIT, reason="max_rounds")

    def _closed(self, best: _Point) -> bool:
        return best.x is not None and best.value - best.bound <= self.tolerance * (1.0 + abs(best.value))

    def _tree(self, best: _Point) -> tuple[str, Array | None, float]:
        """Solve the integer relaxation: its status, the integers of its best point, its bound."""
        self.trees += 1
        form, rows = self.model.form, self._all_rows()
        if self.excluded:
            matrix = sp.vstack([rows.matrix, *(row for row, _ in self.excluded)], format="csr")
            low = np.concatenate([rows.low, [level for _, level in self.excluded]])
            rows = Rows(matrix, low, np.concatenate([rows.high, np.full(len(self.excluded), np.inf)]))
        # A start may mislead HiGHS, and its sharpest settings too: it gives up, or sees no feasible point.
        attempts = [(False, {}), (False, BLUNT)]
        if best.x is not None:
            attempts.insert(0, (True, {}))
        for started, changed in attempts:
            highs = load(form, rows, self.options | changed)
            if started and best.x is not None:
                highs.setSolution(self.whole.size, self.whole.astype(np.int32), np.round(best.x[self.whole]))
            # Without a point yet, keep time to make one of what the tree has found.
            words = self._run(highs, 1.0 if best.x is not None else 0.8)
            info = highs.getInfo()
            choice = None
            if info.primal_solution_status != 2:
                if words != "kOptimal" and STATUS.get(words) is not Status.LIMIT:
                    continue
                break
            x = np.asarray(highs.getSolution().col_value)
            choice = np.round(x[self.whole]) + 0.0
            # HiGHS may return the start that it was given with the objective of another point, its optimum.
            claimed = info.objective_function_value
            if not started or abs(float(form.linear @ x) - claimed) <= OFF * (1.0 + abs(claimed)):
                break
        return words, choice, float(info.mip_dual_bound)

    def _exclude(self, choice: Array) -> None:
        """Forbid a choice of booleans that no point completes: trees may see it as just feasible."""
        form = self.model.form
        if np.all((form.lower[self.whole] == 0) & (form.upper[self.whole] == 1)):
            weights = np.where(choice > 0.5, -1.0, 1.0)
            row = sp.csr_matrix(
                (weights, (np.zeros(choice.size, dtype=int), self.whole)), shape=(1, form.linear.size)
            )
            self.excluded.append((row, 1.0 - float(np.sum(choice > 0.5))))

    def _at(self, choice: Array, goal: float | None) -> _Point:
        """Solve the continuous program with its integers fixed."""
        form, which = self.model.form, self.whole
        columns = which.astype(np.int32)
        self.highs.changeColsBounds(columns.size, columns, choice, choice)
        try:
            return self.converge(goal)
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
        if np.isfinite(point.bound):
            answer.bound = model.form.physical(program, point.bound)
        if point.x is not None:
            _fill(answer, model, point)
        return answer


def _fill(answer: Answer, model: Model, point: _Point) -> None:
    """Point and multipliers, in the program's own terms."""
    assert point.x is not None
    form, columns = model.form, model.columns
    y = None
    if point.duals is not None and point.prices is not None:
        y = model.multipliers(point.duals, point.prices)
        for oracle in model.oracles:
            # A tangent weighs t by minus one: relaxing it is worth minus the price of that entry.
            answer.hypograph_dual[id(oracle.hypograph)] = -point.prices[oracle.index[:, 0]]
    found = form.recover(point.x[:columns], y, point.value)
    answer.primal = {key: np.asarray(value, dtype=float) for key, value in found.primal_vars.items()}
    answer.dual = {
        key: np.asarray(v, dtype=float) for key, v in (found.dual_vars or {}).items() if v is not None
    }
