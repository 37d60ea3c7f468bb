"""The record of a solve: a mapping, a table, ten lines of text, and nothing that can be changed by
accident."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest

import mechopt as mo
from mechopt import Solution, Status
from tests.solvers.zoo import CASES


def allocation() -> mo.Program:
    program = mo.Program("allocation")
    give = program.variable("give", (2, 3), nonneg=True)
    level = program.variable("level")
    program.define("total", cp.sum(give, axis=0))
    program.maximize(cp.sum(cp.multiply(np.array([[1.0, 2, 3], [4, 5, 6]]), give)) + level)
    program.add("caps", give <= 2, cp.sum(give) <= 10)
    return program.add("ceiling", level <= 7)


@pytest.fixture(scope="module")
def solution() -> Solution:
    return allocation().solve("highs")


def test_names_lead_to_arrays(solution: Solution) -> None:
    assert list(solution) == ["give", "level", "total"]
    assert len(solution) == 3
    assert "give" in solution
    assert "gave" not in solution
    assert dict(solution)["give"].shape == (2, 3)
    assert solution["level"].shape == ()
    assert float(solution["level"]) == 7.0
    with pytest.raises(KeyError, match="no value named 'gave' in this solution; it has give, level, total"):
        solution["gave"]


def test_truth_is_the_status_and_not_the_length() -> None:
    record = {"reason": "", "backend": "none"}
    for status in Status:
        assert bool(Solution(status=status, **record)) is (status in (Status.OPTIMAL, Status.LOCAL))
    with pytest.raises(KeyError, match="none: the status is limit"):
        Solution(status=Status.LIMIT, **record)["x"]


def test_the_record_is_complete(solution: Solution) -> None:
    assert solution.status is Status.OPTIMAL
    assert (solution.backend, solution.program, solution.sense) == ("highs", "allocation", "maximize")
    assert solution.version.count(".") >= 1
    assert solution.tolerance == 1e-6
    assert set(solution.seconds) == {"build", "compile", "solve", "check"}
    assert all(spent >= 0 for spent in solution.seconds.values())
    assert set(solution.residuals) == set(solution.violations) == {"caps", "ceiling", "domain"}
    assert solution.gap is not None
    assert solution.gap <= 1e-6
    assert solution.objective == pytest.approx(2 * (2 + 3 + 4 + 5 + 6) + 7)


def test_options_are_kept() -> None:
    solved = allocation().solve("highs", tolerance=1e-5, presolve="off")
    assert solved.options == {"presolve": "off"}
    assert solved.tolerance == 1e-5


# ----------------------------------------------------------------------------------------------- tables


def test_tidy_frame_has_every_value_and_every_price(solution: Solution) -> None:
    frame = solution.to_frame()
    assert list(frame.columns) == ["kind", "name", "index", "value"]
    values = frame[frame.kind == "value"].set_index(["name", "index"]).value
    assert len(values) == 6 + 1 + 3
    assert values["give", (1, 2)] == solution["give"][1, 2]
    assert values["total", 2] == solution["total"][2]
    assert values["level", ()] == 7.0
    prices = frame[frame.kind == "dual"]
    assert set(prices.name) == {"caps[0]", "caps[1]", "ceiling"}
    assert float(prices[prices.name == "ceiling"].value.iloc[0]) == 1.0


def test_frame_of_named_columns(solution: Solution) -> None:
    column = solution.to_frame("total")
    assert column.index.name == "index"
    np.testing.assert_array_equal(column["total"], solution["total"])
    grid = solution.to_frame("give")
    assert grid.index.names == ["index_0", "index_1"]
    assert grid.loc[(1, 2), "give"] == solution["give"][1, 2]
    assert len(solution.to_frame("level")) == 1


def test_columns_of_different_shapes_are_refused(solution: Solution) -> None:
    with pytest.raises(mo.InvalidInput, match="differ in shape"):
        solution.to_frame("give", "total")
    with pytest.raises(KeyError, match="gave"):
        solution.to_frame("gave")


def test_frame_of_nothing_is_an_empty_table() -> None:
    frame = Solution(status=Status.FAILED, reason="", backend="none").to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert frame.empty
    assert list(frame.columns) == ["kind", "name", "index", "value"]


# ------------------------------------------------------------------------------------------------- text


def test_repr_of_a_big_solution_fits_ten_lines() -> None:
    program = mo.Program("big " * 30)
    parts = [program.variable(f"a_long_variable_name_{i}", (20, 20), nonneg=True) for i in range(30)]
    program.maximize(-sum(cp.sum(part) for part in parts))
    for i, part in enumerate(parts):
        program.add(f"a_long_family_name_{i}", part <= 1)
    text = repr(program.solve("highs"))
    assert len(text.splitlines()) <= 10
    assert max(len(line) for line in text.splitlines()[1:]) <= 110


def test_repr_says_what_matters(solution: Solution) -> None:
    text = repr(solution)
    for part in (
        "allocation",
        "optimal",
        "highs",
        "maximize",
        "47",
        "give[2, 3]",
        "prices",
        "ceiling",
        "solve",
    ):
        assert part in text


def test_repr_without_a_point() -> None:
    text = repr(CASES["infeasible_lp"].build().solve("clarabel", on_failure="return"))
    assert "infeasible" in text
    assert "prices     none" in text
    assert len(text.splitlines()) <= 10


# ------------------------------------------------------------------------------------- immutable, portable


def test_nothing_can_be_changed_by_accident(solution: Solution) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        solution.status = Status.FAILED  # type: ignore[misc]
    with pytest.raises(TypeError):
        solution["give"] = 1.0  # type: ignore[index]
    for array in (*solution.values.values(), *solution.dual("caps"), solution.dual("ceiling")):
        assert not array.flags.writeable


def test_a_later_solve_leaves_an_earlier_answer_alone() -> None:
    program = allocation()
    first = program.solve("highs")
    before = first["give"].copy()
    program.minimize(program.objective)
    program.add("floor", program["level"] >= -1)
    assert program.solve("highs")["give"].sum() == 0.0
    np.testing.assert_array_equal(first["give"], before)


def test_replace_copies(solution: Solution) -> None:
    other = solution.replace(status=Status.LIMIT)
    assert other.status is Status.LIMIT
    assert solution.status is Status.OPTIMAL


def test_identity_is_equality(solution: Solution) -> None:
    assert solution == solution
    assert solution != copy.copy(solution)
    assert len({solution, solution}) == 1


@pytest.mark.parametrize("name", ["lp_max", "qp_max_scaled", "milp_small", "infeasible_lp"])
def test_pickle_keeps_everything(name: str) -> None:
    before = CASES[name].build().solve("highs", on_failure="return")
    after = pickle.loads(pickle.dumps(before))
    assert repr(after) == repr(before)
    assert after.status is before.status
    pd.testing.assert_frame_equal(after.to_frame(), before.to_frame())
    assert after.residuals == before.residuals
    for array in (*after.values.values(), *(price for prices in after.duals.values() for price in prices)):
        assert not array.flags.writeable


# ----------------------------------------------------------------------------------------------- prices


def test_no_price_says_why(solution: Solution) -> None:
    with pytest.raises(mo.InvalidInput, match=r"no shadow price for 'water'; .* caps, ceiling"):
        solution.dual("water")
    integer = CASES["milp_small"].build().solve("highs")
    with pytest.raises(mo.InvalidInput, match="integer programs have no shadow prices"):
        integer.dual("hours")
    failed = CASES["unbounded_lp"].build().solve("highs", on_failure="return")
    with pytest.raises(mo.InvalidInput, match="unbounded"):
        failed.dual("lead")


# --------------------------------------------------------------------------------------------- failures


def test_returning_instead_of_raising() -> None:
    program = CASES["infeasible_lp"].build()
    solution = program.solve("highs", on_failure="return")
    assert solution.status is Status.INFEASIBLE
    assert not solution
    with pytest.raises(mo.InvalidInput, match="on_failure must be 'raise' or 'return'"):
        program.solve("highs", on_failure="ignore")  # type: ignore[arg-type]


def test_errors_carry_the_solution_and_survive_pickling() -> None:
    with pytest.raises(mo.Infeasible) as caught:
        CASES["infeasible_lp"].build().solve("highs")
    error = pickle.loads(pickle.dumps(caught.value))
    assert type(error) is mo.Infeasible
    assert str(error) == str(caught.value)
    assert error.families == caught.value.families
    assert error.solution.status is Status.INFEASIBLE
    with pytest.raises(mo.MissingCapability) as refused:
        CASES["exp_log"].build().solve("highs")
    error = pickle.loads(pickle.dumps(refused.value))
    assert (error.backend, error.missing) == ("highs", ("EXP",))
    assert error.alternatives == refused.value.alternatives


@pytest.mark.parametrize(
    "error",
    [
        mo.MechanismError("a"),
        mo.InvalidInput("b"),
        mo.NotApplicable("c", reason="d"),
        mo.BackendUnavailable("e"),
        mo.Unbounded("f"),
        mo.SolverFailure("g", families=["h"]),
        mo.MechanismWarning("i"),
    ],
)
def test_every_error_survives_pickling(error: Exception) -> None:
    after = pickle.loads(pickle.dumps(error))
    assert type(after) is type(error)
    assert str(after) == str(error)
    assert vars(after) == vars(error)


def test_invalid_input_is_a_value_error() -> None:
    assert issubclass(mo.InvalidInput, ValueError)
    unsolved = (mo.Infeasible, mo.Unbounded, mo.SolverFailure)
    assert all(issubclass(kind, mo.MechanismError) for kind in unsolved)
    assert not any(issubclass(a, b) for a in unsolved for b in unsolved if a is not b)


@pytest.mark.parametrize(
    "settings",
    [{"tolerance": 0.0}, {"tolerance": 1.0}, {"tolerance": np.nan}, {"tolerance": "1e-6"}]
    + [{"time_limit": limit} for limit in (0, -1.0, np.inf, np.nan, "5")],
)
def test_settings_are_checked(settings: dict) -> None:
    with pytest.raises(mo.InvalidInput, match=next(iter(settings))):
        allocation().solve("highs", **settings)


def test_settings_may_be_numpy_numbers() -> None:
    assert allocation().solve("highs", tolerance=np.float32(1e-5), time_limit=np.int64(9))
