"""Declaring: names, families, what a program needs, what was changed, and programs side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt import Capability, Program, Status
from tests.solvers.zoo import CASES


def goods(unit: float = 1.0, scale: float = 1.0) -> Program:
    """Two goods, two inputs; money in units of ``unit``, the larger good in units of ``scale``."""
    program = Program("goods", objective_scale=unit)
    x = program.variable("x", 2, nonneg=True, scale=[1.0, scale])
    program.define("revenue", unit * (2 * x[0] + 3 * x[1]))
    program.maximize(program["revenue"])
    program.add("labour", x[0] + x[1] <= 4)
    return program.add("land", x[0] + 3 * x[1] <= 6)


# ------------------------------------------------------------------------------------------------- names


def test_names_give_expressions_in_physical_units() -> None:
    program = goods(scale=10.0)
    assert program.names == ("x", "revenue")
    assert list(program) == ["x", "revenue"]
    assert "x" in program
    assert "y" not in program
    assert program.has_variable("x")
    assert not program.has_variable("revenue")
    solution = program.solve("highs")
    np.testing.assert_allclose(solution["x"], [3.0, 1.0])
    assert solution["revenue"] == pytest.approx(9.0)


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(KeyError, match="no 'y'; it has x, revenue"):
        goods()["y"]


@pytest.mark.parametrize("name", ["x", "revenue"])
def test_a_name_is_taken_once(name: str) -> None:
    with pytest.raises(mo.InvalidInput, match=f"already has a variable or expression named '{name}'"):
        goods().variable(name)
    with pytest.raises(mo.InvalidInput, match="already has"):
        goods().define(name, 1.0)


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_name_is_a_non_empty_string(name: Any) -> None:
    with pytest.raises(mo.InvalidInput, match="non-empty string"):
        goods().variable(name)
    with pytest.raises(mo.InvalidInput, match="family needs a name"):
        goods().add(name, goods()["x"] <= 1)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, [1.0, 0.0]])
def test_scales_are_positive(scale: Any) -> None:
    with pytest.raises(mo.InvalidInput, match="'y' must be positive"):
        goods().variable("y", 2, scale=scale)
    if np.ndim(scale) == 0:
        with pytest.raises(mo.InvalidInput, match="objective_scale"):
            Program(objective_scale=scale)


def test_integers_are_not_scaled() -> None:
    with pytest.raises(mo.InvalidInput, match="integer and cannot be scaled"):
        goods().variable("n", integer=True, scale=2.0)


def test_bounds_are_in_physical_units() -> None:
    program = Program()
    x = program.variable("x", 2, scale=[10.0, 0.1], bounds=[[1.0, 2.0], [30.0, 40.0]])
    program.maximize(cp.sum(x))
    np.testing.assert_allclose(program.solve("highs")["x"], [30.0, 40.0])
    program.minimize(cp.sum(x))
    np.testing.assert_allclose(program.solve("highs")["x"], [1.0, 2.0])


# ----------------------------------------------------------------------------------------------- families


def test_add_drop_and_copy() -> None:
    program = goods()
    shorter = program.copy(without=("land",))
    assert shorter.solve("highs").objective == pytest.approx(12.0)
    program.drop("land").add("land", program["x"][1] <= 0.5)
    assert program.solve("highs").objective == pytest.approx(8.5)
    assert list(shorter.families) == ["labour"]
    shorter.add("more", shorter["x"][0] <= 1)
    assert "more" not in program.families


def test_families_are_read_only() -> None:
    families = goods().families
    assert isinstance(families, Mapping)
    with pytest.raises(TypeError):
        families["labour"] = ()  # type: ignore[index]
    assert isinstance(families["labour"], tuple)


def test_a_family_exists_once_and_is_never_empty() -> None:
    program = goods()
    with pytest.raises(mo.InvalidInput, match="already has a family 'land'; drop it first"):
        program.add("land", program["x"] <= 1)
    with pytest.raises(mo.InvalidInput, match="at least one constraint"):
        program.add("none")
    with pytest.raises(mo.InvalidInput, match="'domain'"):
        program.add("domain", program["x"] <= 1)
    with pytest.raises(mo.InvalidInput, match="no family 'water'; it has labour, land"):
        program.drop("water")


@pytest.mark.parametrize("wrong", [True, np.True_, np.array([True, False])])
def test_a_comparison_of_plain_numbers_is_explained(wrong: Any) -> None:
    with pytest.raises(mo.InvalidInput, match="truth value: use a variable"):
        goods().add("plain", wrong)


@pytest.mark.parametrize("wrong", [None, 3.0, "x <= 1", [goods()["x"] <= 1], goods()["x"]])
def test_what_is_no_constraint_is_named(wrong: Any) -> None:
    program = goods()
    with pytest.raises(mo.InvalidInput, match=r"argument 1 of family 'odd' is a \w+, not a constraint"):
        program.add("odd", program["x"] <= 1, wrong)
    assert "odd" not in program.families


def test_the_objective_is_a_scalar() -> None:
    program = goods()
    with pytest.raises(mo.InvalidInput, match=r"must be a scalar, got shape \(2,\)"):
        program.maximize(program["x"])


def test_a_family_outside_both_disciplines_is_named() -> None:
    program = goods()
    program.add("steps", cp.ceil(program["x"]) <= 3)
    with pytest.raises(mo.InvalidInput, match="family 'steps' of 'goods' is neither"):
        program.requires()
    with pytest.raises(mo.InvalidInput, match="family 'steps'"):
        program.solve()


def test_a_rough_equilibrium_condition_is_named() -> None:
    program = goods()
    program.add("response", mo.Complementarity(program["x"][0], cp.ceil(program["x"][1]) - 1))
    with pytest.raises(mo.InvalidInput, match="family 'response' of 'goods' is neither"):
        program.requires()


def test_complex_variables_are_refused() -> None:
    program = Program()
    z = program.variable("z", complex=True)
    program.minimize(cp.abs(z - (1 + 2j)))
    with pytest.raises(mo.InvalidInput, match="z is complex"):
        program.solve("clarabel")


def test_one_constraint_object_has_one_family() -> None:
    """Multipliers are told apart by the constraint, so a second home would lose the price."""
    program = goods()
    cap = program["x"] <= 1
    program.add("cap", cap)
    with pytest.raises(mo.InvalidInput, match="same constraint object as in 'cap'"):
        program.add("again", cap)
    with pytest.raises(mo.InvalidInput, match="same constraint object"):
        program.drop("cap").add("twice", cap, cap)
    program.add("again", cap)
    assert program.solve("highs").dual("again").shape == (2,)


def test_a_diagonal_variable_comes_back_dense() -> None:
    program = Program()
    d = program.variable("d", (2, 2), diag=True)
    program.maximize(cp.trace(d))
    program.add("cap", d <= np.array([[3.0, 0.0], [0.0, 4.0]]))
    for name in ("clarabel", "highs", "scs"):
        np.testing.assert_allclose(program.solve(name)["d"], [[3.0, 0.0], [0.0, 4.0]], atol=1e-5)


def test_an_objective_outside_both_disciplines_is_named() -> None:
    program = goods()
    program.maximize(cp.sum(cp.floor(program["x"])))
    with pytest.raises(mo.InvalidInput, match="the objective of 'goods' is neither"):
        program.requires()


def test_a_program_without_variables_is_refused() -> None:
    with pytest.raises(mo.InvalidInput, match="has a variable in it"):
        Program("empty").solve()


# ---------------------------------------------------------------------------------------------- requires


@pytest.mark.parametrize(
    ("constraint", "needs"),
    [
        (lambda x: x <= 1, ""),
        (lambda x: cp.abs(x) <= 1, ""),
        (lambda x: cp.norm(x, 1) <= 1, ""),
        (lambda x: cp.norm(x) <= 1, "SOC"),
        (lambda x: cp.sqrt(x) >= 1, "SOC"),
        (lambda x: cp.sum_squares(x) <= 1, "SOC"),
        (lambda x: cp.exp(x) <= 2, "EXP"),
        (lambda x: cp.entr(x) >= 0, "EXP"),
        (lambda x: cp.power(x, 0.3, approx=False) >= 1, "POW"),
        (lambda x: cp.lambda_max(cp.diag(x)) <= 1, "SDP"),
        (lambda x: cp.sum_squares(x) == 1, "NLP"),
        (lambda x: x[0] * x[1] >= 1, "NLP"),
        (lambda x: mo.Complementarity(x[0], x[1]), "COMP"),
        (lambda x: mo.Complementarity(x[0], x[1] * x[0]), "COMP NLP"),
        (lambda x: mo.Hypograph(x[0], (np.log1p, lambda v: 1 / (1 + v)), x[1]), "ORACLE"),
        (lambda x: cp.constraints.FiniteSet(x[0], [1, 2, 4]), "MIP"),
        (lambda x: x <= cp.Variable(2, boolean=True), "MIP"),
    ],
)
def test_requires_is_derived_from_the_constraints(constraint: Callable[[Any], Any], needs: str) -> None:
    program = Program()
    x = program.variable("x", 2)
    program.maximize(cp.sum(x))
    program.add("class", constraint(x))
    assert program.requires() == {Capability.LP, *map(Capability, needs.split())}
    program.drop("class")
    assert program.requires() == {Capability.LP}


def test_a_quadratic_objective_next_to_a_cone_needs_second_order_cones() -> None:
    program = Program()
    x = program.variable("x", 2)
    program.minimize(cp.sum_squares(x))
    assert program.requires() == {Capability.LP, Capability.QP}
    program.add("utility", cp.log(x) >= 0)
    assert program.requires() == {Capability.LP, Capability.SOC, Capability.EXP}


def test_a_finite_set_is_solved_as_integers() -> None:
    program = Program()
    x = program.variable("x")
    program.maximize(x)
    program.add("sizes", cp.constraints.FiniteSet(x, [1, 2, 4]))
    program.add("cap", x <= 3)
    assert program.solve("highs").objective == pytest.approx(2.0)


# ----------------------------------------------------------------------------------------------- changes


def test_changes_against_the_sealed_declaration() -> None:
    program = goods().seal()
    assert not program.changes()
    program.add("water", program["x"] <= 2)
    assert program.changes().added == ("water",)
    program.drop("land")
    assert program.changes().dropped == ("land",)
    assert not program.changes().objective
    assert program.build_seconds > 0


def test_a_family_replaced_counts_as_added() -> None:
    program = goods().seal()
    program.drop("land").add("land", program["x"] <= 2)
    assert program.changes().added == ("land",)


@pytest.mark.parametrize("sense", ["maximize", "minimize"])
def test_turning_the_objective_around_is_a_change(sense: str) -> None:
    """The same expression, minimised: an exact algorithm must not answer with the maximum."""
    program = goods().seal()
    getattr(program, sense)(program.objective)
    assert program.changes().objective is (sense == "minimize")


def test_an_unsealed_program_is_all_change() -> None:
    assert goods().changes().objective


def test_copies_remember_the_declaration() -> None:
    copy = goods().seal().copy()
    assert not copy.changes()
    assert copy.drop("land").changes().dropped == ("land",)


# ----------------------------------------------------------------------------------- side by side, own parts


def test_two_programs_side_by_side_in_any_order() -> None:
    first = Program("first")
    second = Program("second")
    x, y = first.variable("x", nonneg=True), second.variable("x", nonneg=True)
    second.maximize(y)
    first.maximize(x)
    second.add("cap", y <= 2)
    first.add("cap", x <= 1)
    assert second.solve("highs").objective == pytest.approx(2.0)
    assert first.solve("clarabel").objective == pytest.approx(1.0, abs=1e-6)
    assert second.solve("clarabel").objective == pytest.approx(2.0, abs=1e-6)


def test_a_variable_of_the_user_s_own_is_solved_and_reported() -> None:
    program = goods()
    overtime = cp.Variable(name="overtime", nonneg=True)
    program.drop("labour").add("labour", cp.sum(program["x"]) <= 4 + overtime)
    program.add("overtime cap", overtime <= 1)
    solution = program.solve("highs")
    assert solution.objective == pytest.approx(2 * 4.5 + 3 * 0.5)
    assert solution["overtime"] == pytest.approx(1.0)
    assert list(solution) == ["x", "revenue", "overtime"]


def test_two_own_variables_of_one_name_are_told_apart() -> None:
    program = goods()
    a, b = cp.Variable(name="x"), cp.Variable(name="z")
    c = cp.Variable(name="z")
    program.add("own", a + b + c == 1, b == 2, c == 3)
    solution = program.solve("highs")
    own = [float(np.ravel(solution[name])[0]) for name in solution if name not in ("x", "revenue")]
    assert sorted(own) == [-4.0, 2.0, 3.0]


def test_a_parameter_can_change_between_solves() -> None:
    program = goods()
    hours = cp.Parameter(name="hours", nonneg=True)
    program.drop("labour").add("labour", cp.sum(program["x"]) <= hours)
    with pytest.raises(mo.InvalidInput, match="hours"):
        program.solve("highs")
    for amount, value in ((4.0, 9.0), (2.0, 6.0), (4.0, 9.0)):
        hours.value = amount
        for name in ("highs", "clarabel", "highspy"):
            assert program.solve(name).objective == pytest.approx(value, abs=1e-5)
    assert program.problem.is_dpp()


@pytest.mark.parametrize("case", CASES.values(), ids=str)
def test_the_zoo_is_dpp_and_prints(case: Any) -> None:
    program = case.build()
    if case.convex:
        assert program.problem.is_dpp()
    text = repr(program)
    assert case.name in text
    assert all(family in text for family in program.families)
    assert all(need.value in text for need in case.needs)


@pytest.mark.parametrize("name", ["highs", "highspy", "clarabel", "scs", "outer", "scipy"])
def test_a_variable_used_nowhere_does_no_harm(name: str) -> None:
    """Dropping a family can leave a variable without any role; it then takes any value of its own domain."""
    program = goods()
    spare = program.variable("spare", 2, integer=name != "scs" and name != "clarabel", bounds=[2, 5])
    program.add("uses it", spare <= 4)
    assert program.solve(name).objective == pytest.approx(9.0, abs=1e-5)
    solution = program.drop("uses it").solve(name)
    assert solution.objective == pytest.approx(9.0, abs=1e-5)
    assert np.all((solution["spare"] >= 2) & (solution["spare"] <= 5))


def test_set_values_names_what_is_wrong() -> None:
    program = goods()
    with pytest.raises(mo.InvalidInput, match="no variable 'y'; it has x"):
        program.set_values({"y": 1.0})
    with pytest.raises(mo.InvalidInput, match=r"'x' has shape \(3,\), and the variable \(2,\)"):
        program.set_values({"x": [1.0, 2.0, 3.0]})


def test_the_search_for_a_conflict_leaves_the_start_alone() -> None:
    program = CASES["infeasible_lp"].build()
    program.set_values({"x": 7.0, "y": 1.0})
    with pytest.raises(mo.Infeasible):
        program.solve("highs")
    assert float(program["x"].value) == 7.0


# -------------------------------------------------------------------------------------------- formulations


def test_a_needlessly_complicated_formulation_has_the_same_answer() -> None:
    """Each product bought through a chain of copies, the caps written as a matrix equality with slack."""
    program = Program("clumsy")
    x = program.variable("x", 2)
    copies = program.variable("copies", (3, 2))
    slack = program.variable("slack", 2, nonneg=True, scale=[0.5, 20.0])
    t = program.variable("t", scale=7.0)
    program.minimize(-t)
    program.add("epigraph", t <= cp.sum(cp.multiply([2.0, 3.0], copies[2])))
    program.add("chain", copies[0] == x, copies[1:] == copies[:-1])
    program.add("caps", np.array([[1.0, 1.0], [1.0, 3.0]]) @ copies[1] + slack == np.array([4.0, 6.0]))
    program.add("sign", cp.min(copies) >= 0)
    plain = goods()
    for name in ("clarabel", "highs", "highspy", "scs"):
        clumsy, straight = program.solve(name), plain.solve(name)
        assert -clumsy.objective == pytest.approx(straight.objective, abs=1e-5)
        np.testing.assert_allclose(clumsy["x"], straight["x"], atol=1e-4)
        np.testing.assert_allclose(
            -np.asarray(clumsy.dual("caps")),
            [float(straight.dual("labour")), float(straight.dual("land"))],
            atol=1e-4,
        )


@pytest.mark.parametrize("scale", [1e-3, 10.0, 1e4])
def test_scaling_a_variable_changes_nothing_a_user_sees(scale: float) -> None:
    for name in ("clarabel", "highs", "highspy"):
        plain, scaled = goods().solve(name), goods(scale=scale).solve(name)
        assert scaled.objective == pytest.approx(plain.objective, abs=1e-5)
        np.testing.assert_allclose(scaled["x"], plain["x"], atol=1e-4)
        assert float(scaled.dual("land")) == pytest.approx(float(plain.dual("land")), abs=1e-5)


@pytest.mark.parametrize("unit", [10.0, 1e-3, 1e6])
def test_counting_money_in_other_units_scales_value_and_prices(unit: float) -> None:
    for name in ("clarabel", "highs", "highspy"):
        solution = goods(unit=unit).solve(name)
        assert solution.objective == pytest.approx(9.0 * unit, rel=1e-6)
        assert float(solution.dual("labour")) == pytest.approx(1.5 * unit, rel=1e-5)
        np.testing.assert_allclose(solution["x"], [3.0, 1.0], atol=1e-5)


# ------------------------------------------------------------------------------------------------ diagnosis


def test_essential_tells_what_each_family_costs() -> None:
    """Without labour: (6, 0) worth 12, a gain of 3; without land: (0, 4) worth 12; the slack one nothing."""
    program = goods()
    program.add("slack", program["x"] <= 100)
    essential = program.essential("highs")
    assert essential.objective == pytest.approx(9.0)
    assert essential["labour"].gain == pytest.approx(3.0)
    assert essential["land"].gain == pytest.approx(3.0)
    assert essential["slack"].gain == pytest.approx(0.0, abs=1e-9)
    assert [row.binding for row in essential.rows] == [1, 1, 0]
    assert list(essential.to_frame().index) == ["labour", "land", "slack"]
    assert "slack" in repr(essential)
    with pytest.raises(KeyError, match="no family 'water'"):
        essential["water"]
    assert program["x"].value is None


def test_essential_calls_no_noise_a_gain() -> None:
    program = goods()
    essential = program.add("slack", program["x"] <= 100).essential("clarabel")
    assert essential["slack"].gain == 0.0
    assert essential["labour"].gain == pytest.approx(3.0, abs=1e-6)


def test_essential_reports_what_becomes_unbounded() -> None:
    program = goods().drop("land")
    row = program.essential("highs")["labour"]
    assert row.gain == np.inf
    assert row.status_without == str(Status.UNBOUNDED)


def test_conflict_is_smallest_whatever_the_order_of_declaration() -> None:
    for order in (("floor", "cap", "other"), ("other", "cap", "floor"), ("cap", "other", "floor")):
        program = Program("conflict")
        x = program.variable("x", 2, nonneg=True)
        program.maximize(cp.sum(x))
        terms = {"floor": x[0] >= 3, "cap": cp.sum(x) <= 2, "other": x[1] <= 7}
        for family in order:
            program.add(family, terms[family])
        with pytest.raises(mo.Infeasible) as caught:
            program.solve("clarabel")
        assert set(caught.value.families) == {"floor", "cap"}


def test_a_variable_that_excludes_itself_is_said_so() -> None:
    program = Program("self")
    n = program.variable("n", integer=True, bounds=[0.2, 0.8])
    program.maximize(n)
    program.add("cap", n <= 5)
    with pytest.raises(mo.Infeasible, match="integrality already exclude every point") as caught:
        program.solve("highs")
    assert caught.value.families == ()


def test_one_extreme_coefficient_does_not_drown_the_others() -> None:
    program = mo.Program("one is extreme")
    x = program.variable("x", 3, bounds=[0, 1])
    program.maximize(x[0] + 2 * x[1] - 1e12 * x[2])
    for backend in ("highspy", "outer"):
        assert program.solve(backend).objective == pytest.approx(3, rel=1e-6)
