"""Every backend on every program of the zoo: right answer, right refusal, or an honest failure."""

from __future__ import annotations

import itertools
import time
import warnings

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt import Capability, Status
from mechopt.solvers import all_backends, certify
from tests.solvers.tolerances import accuracy
from tests.solvers.zoo import CASES, Case, select

BACKENDS = {backend.name: backend for backend in all_backends()}

LOCAL = {"pounce", "ipyopt", "trust-constr", "slsqp", "pyomo:pounce"}
"""Descent methods: they have no certificate of infeasibility or unboundedness, and may give up instead."""

SOLVED = select(lambda entry: entry.value is not None)
INFEASIBLE = select(lambda entry: entry.status is Status.INFEASIBLE)
UNBOUNDED = select(lambda entry: entry.status is Status.UNBOUNDED)


_PROGRAMS = {name: entry.build() for name, entry in CASES.items()}


def pairs(cases: list[Case], *, capable: bool = True) -> list[tuple[str, Case]]:
    """Backends that can be used here, each with the cases that it takes (or refuses)."""
    return [
        pytest.param(name, entry, id=f"{name}-{entry}")
        for name, backend in BACKENDS.items()
        if backend.available() is None
        for entry in cases
        if bool(backend.lacks(_PROGRAMS[entry.name])) is not capable
    ]


def solve(entry: Case, name: str, time_limit: float | None = None) -> tuple[mo.Program, mo.Solution]:
    """Solve a case without raising; a program outside the backend's class is the other tests' business."""
    backend, program = BACKENDS[name], entry.build()
    if backend.lacks(program):
        pytest.skip(
            f"{name} lacks {', '.join(backend.lacks(program))}: see test_refusal_names_what_is_missing"
        )
    return program, program.solve(name, on_failure="return", time_limit=time_limit)


def assert_close(found: object, known: object, tolerance: float, what: str) -> None:
    found, known = np.asarray(found, dtype=float), np.asarray(known, dtype=float)
    assert found.shape == known.shape, f"{what}: shape {found.shape}, not {known.shape}"
    scale = max(1.0, float(np.max(np.abs(known))))
    np.testing.assert_allclose(found, known, rtol=0, atol=tolerance * scale, err_msg=what)


# ------------------------------------------------------------------------------------------- the zoo itself


@pytest.mark.parametrize("entry", CASES.values(), ids=str)
def test_requires_says_what_the_case_needs(entry: Case) -> None:
    assert entry.build().requires() == entry.needs


@pytest.mark.parametrize("entry", [e for e in SOLVED if e.primal], ids=str)
def test_known_point_is_feasible_and_worth_the_known_value(entry: Case) -> None:
    program = entry.build()
    if set(entry.primal) != set(program.names):
        pytest.skip("only part of the point is unique or tabulated")
    program.set_values(entry.primal)
    residuals, _ = certify.measure_families(program)
    assert max(residuals.values()) <= 1e-12
    assert float(np.asarray(program.objective.value)) == pytest.approx(entry.value, abs=1e-12 * entry.scale)


@pytest.mark.parametrize("name", ["milp_small", "milp_tight_gap", "mi_exp", "mi_pow", "mi_qp", "mi_soc"])
def test_integer_cases_by_enumeration(name: str) -> None:
    program = CASES[name].build()
    (variable,) = program.cvxpy_variables().values()
    span = range(2) if variable.attributes["boolean"] else range(11)
    worth = []
    for point in itertools.product(span, repeat=variable.size):
        program.set_values({program.names[0]: point})
        if max(certify.measure_families(program)[0].values()) <= 1e-12:
            worth.append(float(np.asarray(program.objective.value)))
    best = max(worth) if program.sense == "maximize" else min(worth)
    assert best == pytest.approx(CASES[name].value, rel=1e-12)
    assert worth.count(best) == 1


def test_tight_gap_has_a_wrong_neighbour_within_the_usual_gap() -> None:
    entry = CASES["milp_tight_gap"]
    program = entry.build()
    program.set_values({"take": [1, 1, 0, 1, 0]})
    assert max(certify.measure_families(program)[0].values()) == 0.0
    wrong = float(np.asarray(program.objective.value))
    assert 0 < entry.value - wrong < 1e-4 * entry.value


@pytest.mark.parametrize("entry", [e for e in SOLVED if e.relaxed is not None], ids=str)
def test_forgetting_integers_or_pairs_looks_better(entry: Case) -> None:
    sign = 1.0 if entry.build().sense == "maximize" else -1.0
    assert sign * (entry.relaxed - entry.value) > 1e-6 * entry.scale


# --------------------------------------------------------------------------------------------- capable


@pytest.mark.parametrize(("name", "entry"), pairs(SOLVED))
def test_capable_backend_finds_the_answer(name: str, entry: Case) -> None:
    program, solution = solve(entry, name, time_limit=60.0)
    allowed = accuracy(name)
    expected = Status.OPTIMAL if entry.convex or BACKENDS[name].globally else Status.LOCAL
    assert solution.status is expected, solution.reason
    assert solution.backend == name
    values = (entry.value,) if expected is Status.OPTIMAL else entry.local_values
    miss = min(abs(solution.objective - value) for value in values)
    assert miss <= allowed.value * entry.scale, f"{solution.objective} is none of {values}"
    assert max(solution.residuals.values()) <= solution.tolerance
    if abs(solution.objective - entry.value) <= allowed.value * entry.scale:
        for variable, known in entry.primal.items():
            assert_close(solution[variable], known, allowed.point, variable)
    assert set(solution.values) == set(program.names)


@pytest.mark.parametrize(("name", "entry"), pairs([e for e in SOLVED if e.dual]))
def test_capable_backend_finds_the_prices(name: str, entry: Case) -> None:
    _, solution = solve(entry, name, time_limit=60.0)
    assert solution.status.ok, solution.reason
    if not BACKENDS[name].duals:
        assert solution.duals == {}
        assert solution.no_duals
        return
    for family, known in entry.dual.items():
        assert_close(solution.dual(family), known, accuracy(name).price, family)


@pytest.mark.parametrize(("name", "entry"), pairs([e for e in SOLVED if e.integer]))
def test_integer_programs_have_no_prices(name: str, entry: Case) -> None:
    _, solution = solve(entry, name, time_limit=60.0)
    assert solution.duals == {}
    with pytest.raises(mo.InvalidInput, match="integer programs have no shadow prices"):
        solution.dual(next(iter(solution.residuals)))


@pytest.mark.parametrize(("name", "entry"), pairs([e for e in SOLVED if e.convex and not e.integer]))
def test_bound_where_given_does_not_contradict_the_truth(name: str, entry: Case) -> None:
    program, solution = solve(entry, name, time_limit=60.0)
    if solution.bound is not None:
        sign = 1.0 if program.sense == "maximize" else -1.0
        assert sign * (solution.bound - entry.value) >= -1e-6 * entry.scale


def close_choice() -> tuple[mo.Program, float]:
    """Twelve items of nearly one weight, and the best choice by enumeration of all 4096."""
    i = np.arange(1, 13)
    weight = 10_000 + (7 * i**2) % 997 * 7
    worth = weight + (7 * (i - 1)) % 13
    budget = int(weight.sum() * 0.47)
    choices = (np.arange(2**12)[:, None] >> np.arange(12)) & 1
    program = mo.Program("close choice")
    take = program.variable("take", 12, boolean=True)
    program.maximize(worth @ take)
    program.add("budget", weight @ take <= budget)
    return program, float((choices @ worth)[choices @ weight <= budget].max())


@pytest.mark.parametrize("name", [name for name, entry in (p.values for p in pairs([CASES["milp_small"]]))])
def test_a_choice_within_the_usual_gap_is_still_the_best(name: str) -> None:
    """HiGHS with its own gap of 1e-4 stops two short of 68100, which we must not call optimal."""
    program, best = close_choice()
    assert program.solve(name, time_limit=60.0).objective == best
    if name in {"highs", "highspy"}:
        loose = program.solve(name, mip_rel_gap=1e-4, on_failure="return")
        assert loose.objective == best or loose.status is Status.INACCURATE


# ----------------------------------------------------------------------------------------- not capable


@pytest.mark.parametrize("name", BACKENDS)
def test_backend_is_installed(name: str) -> None:
    """Says in the report which backends the zoo could not visit."""
    reason = BACKENDS[name].available()
    if reason is not None:
        pytest.skip(f"{name}: {reason}")


@pytest.mark.parametrize(("name", "entry"), pairs(list(CASES.values()), capable=False))
def test_refusal_names_what_is_missing(name: str, entry: Case) -> None:
    backend, program = BACKENDS[name], entry.build()
    missing = backend.lacks(program)
    with pytest.raises(mo.MissingCapability) as caught:
        program.solve(name)
    assert caught.value.backend == name
    assert caught.value.missing == missing
    assert all(part in str(caught.value) for part in missing)
    if name == "exact":
        assert "exact algorithm" in str(caught.value)
    else:
        lacking = {need.value for need in entry.needs - backend.capabilities}
        assert lacking <= {part.removesuffix(" with MIP") for part in missing}


@pytest.mark.parametrize(("name", "entry"), pairs(list(CASES.values())))
def test_lacks_agrees_with_declared_capabilities(name: str, entry: Case) -> None:
    backend = BACKENDS[name]
    assert entry.needs <= backend.capabilities
    assert not (Capability.MIP in entry.needs and entry.needs & backend.without_integers)


# ------------------------------------------------------------------------------------------- no answer


@pytest.mark.parametrize(("name", "entry"), pairs(INFEASIBLE))
def test_infeasible_names_the_smallest_conflict(name: str, entry: Case) -> None:
    proves = name not in LOCAL and (entry.convex or BACKENDS[name].globally)
    with warnings.catch_warnings():
        warnings.simplefilter("error", mo.MechanismWarning)
        unsure = () if proves else (mo.SolverFailure, mo.MechanismWarning)
        with pytest.raises((mo.Infeasible, *unsure)) as caught:
            entry.build().solve(name, time_limit=2.0)
    if not isinstance(caught.value, mo.Infeasible):
        return
    families = set(caught.value.families)
    # A search that gives up on some of its trials leaves families in that are not to blame.
    assert families == entry.conflict if proves else families >= entry.conflict
    assert all(repr(family) in str(caught.value) for family in families)


@pytest.mark.parametrize(("name", "entry"), pairs(INFEASIBLE + UNBOUNDED))
def test_no_answer_means_no_point_and_no_prices(name: str, entry: Case) -> None:
    _, solution = solve(entry, name, time_limit=2.0)
    if solution.status in (Status.INFEASIBLE, Status.UNBOUNDED, Status.FAILED):
        assert solution.values == {}
        assert solution.duals == {}
        assert np.isnan(solution.objective)
        assert solution.bound is None


@pytest.mark.parametrize(("name", "entry"), pairs(UNBOUNDED))
def test_unbounded_is_never_optimal(name: str, entry: Case) -> None:
    """Where a ray exists, certifying solvers must say so, but for HiGHS's QP solver, which stops far out."""
    program, solution = solve(entry, name, time_limit=2.0)
    assert not solution.status.ok, f"{solution.objective} called {solution.status}"
    far_out = entry.name == "unbounded_qp" and name in {"highs", "pyomo:highs"}
    if entry.has_ray and name not in LOCAL and not far_out:
        assert solution.status is Status.UNBOUNDED, solution.reason
    if solution.status is Status.UNBOUNDED:
        with pytest.raises(mo.Unbounded, match="unbounded"):
            program.solve(name, time_limit=2.0)


# ---------------------------------------------------------------------------------------------- limits


def market_split(seed: int = 7) -> mo.Program:
    """Split 40 agents so that five goods are halved as evenly as possible: beyond any solver in a second."""
    rng = np.random.default_rng(seed)
    holdings = rng.integers(0, 100, size=(5, 40))
    program = mo.Program("market split")
    side = program.variable("side", 40, boolean=True)
    over, under = program.variable("over", 5, nonneg=True), program.variable("under", 5, nonneg=True)
    program.minimize(cp.sum(over + under))
    return program.add("halves", holdings @ side + under - over == holdings.sum(axis=1) // 2)


def large_lp(n: int = 400) -> mo.Program:
    """A dense program that takes a while."""
    rng = np.random.default_rng(3)
    program = mo.Program("large lp")
    x = program.variable("x", n, nonneg=True)
    program.maximize(rng.random(n) @ x)
    return program.add("rows", rng.random((n, n)) @ x <= 1 + rng.random(n))


def large_socp(n: int = 200) -> mo.Program:
    """The same, on a ball of another metric."""
    rng = np.random.default_rng(4)
    program = mo.Program("large socp")
    x = program.variable("x", n)
    program.maximize(rng.random(n) @ x)
    program.add("rows", rng.random((n, n)) @ x <= 1)
    return program.add("ball", cp.norm(rng.standard_normal((n, n)) @ x) <= n)


LIMIT = 0.3
"""Seconds, too few for the market split."""

GRACE = 5.0
"""Seconds beyond the limit for compiling, one last iteration, and a busy machine."""

HARD = {"market_split": market_split, "large_lp": large_lp, "large_socp": large_socp}


def hard_pairs() -> list[tuple[str, str]]:
    """Backends that can be used here, with the hard programs that they take."""
    here = [name for name, backend in BACKENDS.items() if backend.available() is None]
    built = {title: build() for title, build in HARD.items()}
    return [(n, title) for n in here for title, program in built.items() if not BACKENDS[n].lacks(program)]


@pytest.mark.parametrize(("name", "program_name"), hard_pairs())
def test_time_limit_is_kept_and_never_called_optimal_without_proof(name: str, program_name: str) -> None:
    program = HARD[program_name]()
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mo.MechanismWarning)
        solution = program.solve(name, time_limit=LIMIT, on_failure="return")
    spent = time.perf_counter() - started
    assert spent < LIMIT + GRACE, f"{spent:.1f} s"
    if program_name == "market_split":
        assert solution.status is not Status.OPTIMAL or solution.objective < 1e-6
    if solution.status.ok:
        assert max(solution.residuals.values()) <= solution.tolerance
        proved = solution.gap is not None and solution.gap <= solution.tolerance
        assert proved or solution.seconds["solve"] < LIMIT
    else:
        assert solution.reason
