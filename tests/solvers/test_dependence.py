"""Linear equations that follow from others, and the solvers that refuse them."""

from __future__ import annotations

from collections.abc import Callable

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse as sp

import mechopt as mo
from mechopt.solvers.dependence import implied

NAMES = ("pounce", "ipyopt", "slsqp", "trust-constr", "pyomo:pounce")
INSTALLED = {b.name: b.available() for b in mo.solvers.all_backends()}
every = pytest.mark.parametrize(
    "backend",
    [
        pytest.param(name, marks=pytest.mark.skipif(INSTALLED[name] is not None, reason=str(INSTALLED[name])))
        for name in NAMES
    ],
)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_left_has_full_rank_and_the_same_solutions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, width = int(rng.integers(2, 8)), int(rng.integers(3, 12))
    base = np.where(rng.random((count, width)) < 0.6, rng.normal(size=(count, width)), 0.0)
    mixed = rng.normal(size=(int(rng.integers(0, 4)), count)) @ base
    matrix = rng.permutation(np.concatenate([base, mixed])) * 10.0 ** rng.integers(-3, 4)
    sides = matrix @ rng.normal(size=width)
    dropped = implied(sp.csr_array(matrix), sides)
    kept = np.delete(matrix, dropped, axis=0)
    assert np.linalg.matrix_rank(matrix) == np.linalg.matrix_rank(kept) == len(kept)


def test_contradictions_stay() -> None:
    matrix = sp.csr_array(np.array([[1.0, 1.0], [2.0, 2.0], [1.0, -1.0]]))
    assert implied(matrix, np.array([1.0, 2.0, 0.0])).size == 1
    assert implied(matrix, np.array([1.0, 2.0 + 1e-7, 0.0])).size == 0
    assert implied(sp.csr_array((1, 2)), np.array([0.0])).size == 1
    assert implied(sp.csr_array((1, 2)), np.array([1.0])).size == 0


def test_nearly_dependent_rows_are_kept() -> None:
    matrix = sp.csr_array(np.array([[1.0, 1.0], [1.0, 1.0 + 1e-8]]))
    assert implied(matrix, np.array([1.0, 1.0])).size == 0


def crossing(side: float = 2.0) -> mo.Program:
    """min x'x on three lines through (1/2, 1/2), two of them the same."""
    program = mo.Program("crossing")
    x = program.variable("x", 2)
    program.minimize(cp.sum_squares(x))
    program.add("sum", x[0] + x[1] == 1).add("twice", 2 * x[0] + 2 * x[1] == side)
    return program.add("level", x[0] == x[1])


def repeated() -> mo.Program:
    """max sum log(1 + x), sum x = 1 three times over."""
    program = mo.Program("repeated")
    x = program.variable("x", 2, nonneg=True)
    program.maximize(cp.sum(cp.log(1 + x)))
    total = cp.sum(x)
    return program.add("sum", total == 1).add("again", -total == -1).add("double", 2 * total == 2)


def held() -> mo.Program:
    """x_0 is held at 1/4 by its bounds, so that two of the three equations fix the rest."""
    program = mo.Program("held")
    x = program.variable("x", 3, bounds=[[0.25, 0, 0], [0.25, 5, 5]])
    program.minimize(cp.sum_squares(x) + cp.exp(x[1]))
    return program.add("sum", cp.sum(x) == 1).add("level", x[1] == x[2]).add("rest", x[1] + x[2] == 0.75)


@pytest.mark.parametrize(
    ("build", "value", "worth"),
    [
        (crossing, 0.5, {"sum": 1.0, "twice": 2.0}),
        (repeated, 2 * np.log(1.5), {"sum": 1.0, "again": -1.0, "double": 2.0}),
        (held, 1 / 16 + 2 * 0.375**2 + np.exp(0.375), None),
    ],
)
@every
def test_equations_that_follow_from_others(
    backend: str, build: Callable[[], mo.Program], value: float, worth: dict[str, float] | None
) -> None:
    solution = build().solve(backend)
    assert solution.status is mo.Status.OPTIMAL
    assert solution.objective == pytest.approx(value, abs=1e-6)
    if worth is not None:
        # One price among the repeated rows is not unique: what moving the line is worth is.
        slope = 1.0 if build is crossing else 1 / 1.5
        moved = sum(size * float(solution.dual(family)) for family, size in worth.items())
        assert moved == pytest.approx(slope, abs=1e-5)
        priced = sum(abs(float(solution.dual(family))) > 1e-6 for family in worth)
        assert priced == 1


@every
def test_equations_that_contradict_each_other(backend: str) -> None:
    with pytest.raises(mo.Infeasible):
        crossing(side=3.0).solve(backend)
