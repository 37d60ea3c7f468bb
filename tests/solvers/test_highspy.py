"""HiGHS called directly: answers, prices, warm starts, conflicts, limits, Ctrl-C."""

import os
import signal
import subprocess
import sys
import threading
import time

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt import Status
from mechopt.solvers.backend import capable_backends, get_backend


def workshop(labour: float = 4.0, land: float = 6.0, *, sense: str = "max") -> mo.Program:
    """Value 3 labour/2 + land/2 around (4, 6); the minimisation is the same program with the sign turned."""
    program = mo.Program("workshop", objective_scale=10.0)
    x = program.variable("x", 2, nonneg=True, scale=[2.0, 0.5])
    value = 2 * x[0] + 3 * x[1]
    program.maximize(value) if sense == "max" else program.minimize(-value)
    program.add("labour", x[0] + x[1] <= labour)
    return program.add("land", land >= x[0] + 3 * x[1])


def portfolio(seed: int, total: float = 1.0, floor: float = 0.3) -> mo.Program:
    rng = np.random.default_rng(seed)
    factors, returns = rng.normal(size=(4, 8)), rng.uniform(0.0, 1.0, 8)
    program = mo.Program("portfolio")
    w = program.variable("w", 8, nonneg=True)
    program.minimize(cp.sum_squares(factors @ w) + 0.1 * cp.sum_squares(w))
    program.add("total", cp.sum(w) == total)
    return program.add("return", returns @ w >= floor * float(returns.max()))


def knapsack(size: int = 40, rows: int = 20, seed: int = 0) -> mo.Program:
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 100, (rows, size)).astype(float)
    program = mo.Program("knapsack")
    take = program.variable("take", size, boolean=True)
    program.maximize(rng.integers(1, 100, size) @ take)
    return program.add("capacity", weights @ take <= weights.sum(axis=1) / 2)


# ----------------------------------------------------------------------------------------------------- prices


@pytest.mark.parametrize(("sense", "sign"), [("max", 1.0), ("min", -1.0)])
def test_linear_prices_are_derivatives(sense, sign):
    solution = workshop(sense=sense).solve("highspy")
    assert solution.objective == pytest.approx(sign * 9.0)
    assert solution.dual("labour") == pytest.approx(sign * 1.5)
    assert solution.dual("land") == pytest.approx(sign * 0.5)
    up, down = (workshop(4.0 + step, sense=sense).solve("highspy").objective for step in (0.01, -0.01))
    assert (up - down) / 0.02 == pytest.approx(float(solution.dual("labour")), rel=1e-6)


def test_bounds_and_equalities_at_random_against_a_second_solver():
    rng = np.random.default_rng(5)
    for _ in range(10):
        cost, matrix = rng.normal(size=12), rng.normal(size=(5, 12))
        program = mo.Program("random")
        x = program.variable("x", (3, 4), bounds=[-1.0, 2.0], scale=3.0)
        flat = cp.vec(x, order="F")
        program.minimize(cost @ flat)
        program.add("equal", matrix[:2] @ flat == matrix[:2] @ np.full(12, 0.2))
        program.add("less", matrix[2:] @ flat <= 1.0)
        ours, other = program.solve("highspy"), program.solve("clarabel", tolerance=1e-8)
        assert ours.objective == pytest.approx(other.objective, rel=1e-7, abs=1e-7)
        assert ours.gap is not None
        assert ours.gap < 1e-9
        for family in ("equal", "less"):
            np.testing.assert_allclose(ours.dual(family), other.dual(family), atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_quadratic_prices_are_derivatives(seed):
    solution = portfolio(seed).solve("highspy", tolerance=1e-8)
    assert solution.status is Status.OPTIMAL
    assert solution.objective == pytest.approx(portfolio(seed).solve("clarabel").objective, rel=1e-6)
    step = 1e-3
    # The right-hand side of "return" is the floor times the best return.
    for family, key, at, unit in (("total", "total", 1.0, 1.0), ("return", "floor", 0.3, best_return(seed))):
        up, down = (
            portfolio(seed, **{key: at + s}).solve("highspy", tolerance=1e-8).objective for s in (step, -step)
        )
        assert (up - down) / (2 * step * unit) == pytest.approx(float(solution.dual(family)), abs=2e-4)


def best_return(seed: int) -> float:
    rng = np.random.default_rng(seed)
    rng.normal(size=(4, 8))
    return float(rng.uniform(0.0, 1.0, 8).max())


def test_quadratic_programs_prefer_the_interior_point_and_integers_are_refused():
    program = portfolio(0)
    assert get_backend("highspy").rank_for(program) > get_backend("clarabel").rank_for(program)
    assert program.solve().backend == "clarabel"
    assert workshop().solve().backend == "highspy"
    integer = mo.Program("integer")
    n = integer.variable("n", integer=True)
    integer.minimize(cp.square(n - 0.4))
    assert "highspy" not in capable_backends(integer)
    with pytest.raises(mo.MissingCapability, match="QP with MIP"):
        integer.solve("highspy")


# --------------------------------------------------------------------------------------------------- integers


def test_integer_program_against_enumeration():
    rng = np.random.default_rng(1)
    for _ in range(5):
        worth, weight = rng.integers(1, 30, 10), rng.integers(1, 30, (2, 10))
        program = mo.Program("small")
        take = program.variable("take", 10, boolean=True)
        program.maximize(worth @ take)
        program.add("capacity", weight @ take <= 60)
        grid = (np.arange(1024)[:, None] >> np.arange(10)) & 1
        best = (grid @ worth)[np.all(grid @ weight.T <= 60, axis=1)].max()
        solution = program.solve("highspy")
        assert solution.objective == best
        assert solution.bound == pytest.approx(best)
        with pytest.raises(mo.InvalidInput, match="integer programs"):
            solution.dual("capacity")


def test_default_gap_is_zero():
    """With HiGHS's own relative gap of 1e-4 the next best, 120022, would do."""
    program = mo.Program("gap")
    take = program.variable("take", 5, boolean=True)
    spent = np.array([20002, 30004, 50008, 70016, 90032]) @ take
    program.maximize(spent)
    program.add("budget", spent <= 120030)
    assert program.solve("highspy").objective == 120024


# ------------------------------------------------------------------------------------------------ warm starts


def test_warm_start_from_the_last_basis_needs_no_iterations():
    rng = np.random.default_rng(0)
    program = mo.Program("big")
    x = program.variable("x", 60, nonneg=True)
    program.maximize(rng.random(60) @ x)
    program.add("capacity", rng.random((40, 60)) @ x <= 10.0)
    cold = program.solve("highspy", warm_start=True, presolve="off")
    warm = program.solve("highspy", warm_start=True, presolve="off")
    assert cold.extra["iterations"] > 10
    assert warm.extra["iterations"] == 0
    assert warm.objective == pytest.approx(cold.objective)


def test_warm_start_of_an_integer_program_from_a_point():
    program = knapsack()
    best = program.solve("highspy")
    limits = {"mip_max_nodes": 0, "mip_heuristic_effort": 0.0, "presolve": "off"}
    started = program.solve("highspy", warm_start={"take": best["take"]}, on_failure="return", **limits)
    np.testing.assert_array_equal(started["take"], best["take"])
    worse = knapsack()
    worse.set_values({"take": np.zeros(40)})
    again = worse.solve("highspy", warm_start=True)
    assert again.objective == best.objective


@pytest.mark.parametrize("start", ["yes", 1.5, None])
def test_warm_start_of_the_wrong_kind(start):
    with pytest.raises(mo.InvalidInput, match="warm_start"):
        workshop().solve("highspy", warm_start=start)


def test_warm_start_from_an_unknown_name():
    with pytest.raises(mo.InvalidInput, match="no variable 'y'"):
        workshop().solve("highspy", warm_start={"y": 1.0})


# --------------------------------------------------------------------------------------- conflicts, no answer


def test_infeasible_rows_are_named():
    program = mo.Program("conflict")
    x = program.variable("x", (2, 3), nonneg=True)
    program.maximize(cp.sum(x))
    program.add("other", x <= 100)
    program.add("cap", x[0] <= 1, x[1] <= [5, 6, 7])
    program.add("floor", x[1, 2] >= 8)
    solution = program.solve("highspy", on_failure="return")
    assert solution.status is Status.INFEASIBLE
    assert solution.extra["iis"] == {"cap": [5], "floor": [0]}
    with pytest.raises(mo.Infeasible, match="'cap', 'floor'") as caught:
        program.solve("highspy")
    assert caught.value.families == ("cap", "floor")


def test_bounds_in_a_conflict_are_named():
    program = mo.Program("bounds")
    x = program.variable("x", bounds=[0, 1])
    program.maximize(x)
    program.add("floor", x >= 2)
    solution = program.solve("highspy", on_failure="return")
    assert solution.extra["iis"] == {"floor": [0], "domain": ["x"]}


def test_infeasible_integer_programs():
    program = mo.Program("relaxation")
    n = program.variable("n", 2, integer=True, bounds=[0, 5])
    program.maximize(n[0])
    program.add("low", cp.sum(n) <= 3).add("high", cp.sum(n) >= 4).add("other", n[0] <= 2)
    solution = program.solve("highspy", on_failure="return")
    assert set(solution.extra["iis"]) == {"low", "high"}
    parity = mo.Program("parity")
    n = parity.variable("n", 2, integer=True, bounds=[0, 5])
    parity.maximize(n[0])
    parity.add("odd", 2 * n[0] + 2 * n[1] == 3)
    assert "iis" not in parity.solve("highspy", on_failure="return").extra
    with pytest.raises(mo.Infeasible, match="odd"):
        parity.solve("highspy")


@pytest.mark.parametrize("kind", ["linear", "integer", "quadratic"])
def test_unbounded_and_infeasible_are_told_apart(kind):
    for feasible in (True, False):
        program = mo.Program(kind)
        x = program.variable("x", 2, integer=kind == "integer")
        y = program.variable("y")
        program.minimize(-y + (cp.square(x[0]) if kind == "quadratic" else x[0]))
        program.add("low", x[0] >= 0, x[1] >= 0)
        if not feasible:
            program.add("high", cp.sum(x) <= -1)
        status = program.solve("highspy", on_failure="return").status
        assert status is (Status.UNBOUNDED if feasible else Status.INFEASIBLE)


def test_large_but_bounded_quadratic_program_is_not_called_unbounded():
    program = mo.Program("far")
    x, y = program.variable("x"), program.variable("y")
    program.minimize(cp.square(x) - y)
    program.add("cap", y <= 1e8)
    assert program.solve("highspy").objective == pytest.approx(-1e8)


# ------------------------------------------------------------------------------------ options, limits, Ctrl-C


def test_unknown_options_and_bad_values():
    with pytest.raises(mo.InvalidInput, match=r"no option 'speed'; it has warm_start, .*time_limit"):
        workshop().solve("highspy", speed=1)
    with pytest.raises(mo.InvalidInput, match="'presolve'"):
        workshop().solve("highspy", presolve=17)


def test_options_reach_highs():
    capped = knapsack(60, 30).solve("highspy", mip_max_nodes=1, on_failure="return")
    assert capped.status is Status.LIMIT
    assert "SolutionLimit" in capped.reason


def test_time_limit_returns_the_incumbent_and_its_bound():
    program = knapsack(200, 60)
    started = time.perf_counter()
    solution = program.solve("highspy", time_limit=1.0, on_failure="return")
    assert time.perf_counter() - started < 3.0
    assert solution.status is Status.LIMIT
    assert solution.bound is not None
    assert solution.bound >= solution.objective > 0.9 * solution.bound
    assert solution.residuals["capacity"] == 0.0


def test_verbose_lets_highs_print(capfd):
    workshop().solve("highspy")
    assert capfd.readouterr().out == ""
    workshop().solve("highspy", verbose=True)
    assert "HiGHS" in capfd.readouterr().out


@pytest.mark.parametrize("backend", ["highspy", "outer"])
def test_ctrl_c_gets_through(backend):
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals are delivered to the main thread only")
    program = knapsack(200, 60)
    timer = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    started = time.perf_counter()
    try:
        with pytest.raises(KeyboardInterrupt):
            program.solve(backend, time_limit=30.0)
    finally:
        timer.cancel()
    assert time.perf_counter() - started < 5.0


def test_solves_from_another_thread():
    found = []
    worker = threading.Thread(target=lambda: found.append(workshop().solve("highspy").objective))
    worker.start()
    worker.join()
    assert found == [pytest.approx(9.0)]


@pytest.mark.parametrize("name", ["highspy", "highs", "pyomo:highs"])
def test_nothing_is_printed_unasked(name: str) -> None:
    """From version 1.16 on, HiGHS prints a banner as the first instance of a process is made."""
    code = (
        "import mechopt as mo; p = mo.Program('silent'); x = p.variable('x', 2, nonneg=True)\n"
        f"p.maximize(x[0] + 2 * x[1]); p.add('room', x[0] + x[1] <= 4); p.solve({name!r}); mo.backends()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
