"""What we rely on in CVXPY's private modules. A failure here means: CVXPY moved; look at the module named.

`mechopt.solvers.nonlinear` uses the smooth form, `conic` the compiled data, `program` the problem's form,
`certify` the atoms' own evaluation.
"""

from __future__ import annotations

from importlib import metadata, util
from typing import Any

import cvxpy as cp
import cvxpy.settings as cps
import numpy as np
import pytest


def test_the_version_is_the_one_that_was_read() -> None:
    assert metadata.version("cvxpy").split(".")[:2] == ["1", "9"], "read CVXPY's changes, then move the pin"


# -------------------------------------------------------------------------------------------- the smooth form


def smooth() -> tuple[Any, Any, Any, dict[str, Any]]:
    """max log(x0) - x1 + 3 with x0 <= 2, x0 + x1 == 5, carried to the smooth form by hand."""
    from cvxpy.reductions.cvx_attr2constr import CvxAttr2Constr
    from cvxpy.reductions.dnlp2smooth.dnlp2smooth import Dnlp2Smooth
    from cvxpy.reductions.flip_objective import FlipObjective
    from cvxpy.reductions.solvers.nlp_solvers.nlp_solver import Bounds, Oracles

    x = cp.Variable(2, bounds=[-1, 9])
    x.value = np.array([1.5, 2.5])
    cap, total = x[0] <= 2, x[0] + x[1] == 5
    problem = cp.Problem(cp.Maximize(cp.log(x[0]) - x[1] + 3), [cap, total])
    flipped, _ = FlipObjective().apply(problem)
    plain, maps = CvxAttr2Constr(reduce_bounds=False).apply(flipped)
    form, inverse = Dnlp2Smooth().apply(plain)
    bounds = Bounds(form)
    oracles = Oracles(bounds.new_problem, verbose=False)
    known = {"x": x, "cap": cap, "total": total, "maps": maps, "inverse": inverse, "problem": problem}
    return form, bounds, oracles, known


def test_flip_objective_negates_and_keeps_constraints() -> None:
    from cvxpy.reductions.flip_objective import FlipObjective

    x = cp.Variable()
    problem = cp.Problem(cp.Maximize(3 * x), [x <= 1])
    flipped, _ = FlipObjective().apply(problem)
    x.value = 2.0
    assert isinstance(flipped.objective, cp.Minimize)
    assert flipped.objective.value == -6.0
    assert [c.id for c in flipped.constraints] == [c.id for c in problem.constraints]


def test_attributes_keep_bounds_on_the_variable() -> None:
    from cvxpy.reductions.cvx_attr2constr import CvxAttr2Constr

    x = cp.Variable(2, nonneg=True)
    cap = x <= 3
    problem, maps = CvxAttr2Constr(reduce_bounds=False).apply(cp.Problem(cp.Minimize(cp.sum(x)), [cap]))
    lowered, originals, renamed = maps
    assert originals[x.id] is x
    assert np.all(np.asarray(lowered[x.id].get_bounds()[0]) == 0)
    assert renamed[cap.id] in {c.id for c in problem.constraints}
    free = cp.Problem(cp.Minimize(cp.sum(cp.Variable(2))))
    assert CvxAttr2Constr(reduce_bounds=False).apply(free) == (free, ())


def test_symmetric_variables_are_lowered_and_recovered() -> None:
    from cvxpy.reductions.cvx_attr2constr import CvxAttr2Constr, lower_value, recover_value_for_leaf

    x = cp.Variable((2, 2), symmetric=True)
    x.value = np.array([[1.0, 2.0], [2.0, 3.0]])
    _, (lowered, _, _) = CvxAttr2Constr(reduce_bounds=False).apply(cp.Problem(cp.Minimize(cp.sum(x))))
    part = np.asarray(lower_value(x))
    assert lowered[x.id].size == part.size == 3
    np.testing.assert_array_equal(recover_value_for_leaf(x, part, project=False), x.value)


def test_bounds_have_the_standard_form() -> None:
    _, bounds, _, known = smooth()
    np.testing.assert_array_equal(np.sort(bounds.lb), [-1, -1, 0])
    np.testing.assert_array_equal(np.sort(bounds.ub), [9, 9, np.inf])
    assert bounds.x0.shape == (3,)
    assert set(known["inverse"].cons_id_map.values()) <= {c.id for c in bounds.new_problem.constraints}
    # An equality, an inequality, and the argument of the log: rows >= 0 and rows == 0.
    assert sorted(bounds.cu) == [0, 0, np.inf]
    assert np.all(bounds.cl == 0)


def test_columns_follow_the_variables_of_the_new_problem() -> None:
    form, bounds, _, _ = smooth()
    assert [v.id for v in bounds.new_problem.variables()] == [v.id for v in form.variables()]
    values = np.concatenate([np.ravel(v.value, order="F") for v in bounds.new_problem.variables()])
    np.testing.assert_array_equal(values, bounds.x0)


def test_oracles_take_derivatives_at_the_last_point_evaluated() -> None:
    _, bounds, oracles, _ = smooth()
    x = bounds.x0 + 0.25
    oracles.objective(x)
    oracles.constraints(x)
    gradient = np.array(oracles.gradient(bounds.x0))  # the argument is not looked at
    steps = 1e-6 * np.eye(x.size)
    numeric = [(oracles.objective(x + s) - oracles.objective(x - s)) / 2e-6 for s in steps]
    np.testing.assert_allclose(gradient, numeric, atol=1e-6)
    oracles.objective(x)
    oracles.constraints(x)
    rows, columns = oracles.jacobianstructure()
    jacobian = np.zeros((bounds.cl.size, x.size))
    np.add.at(jacobian, (rows, columns), oracles.jacobian(x))
    numeric = [(oracles.constraints(x + s) - np.array(oracles.constraints(x - s))) / 2e-6 for s in steps]
    np.testing.assert_allclose(jacobian.T, numeric, atol=1e-6)
    oracles.objective(x)
    oracles.constraints(x)
    rows, columns = oracles.hessianstructure()
    assert np.all(np.asarray(rows) >= np.asarray(columns)), "the lower triangle"
    values = np.array(oracles.hessian(x, np.zeros(bounds.cl.size), 2.0))
    log_argument = next(i for i in range(x.size) if np.isposinf(bounds.ub[i]))
    assert values.sum() == pytest.approx(2 / x[log_argument] ** 2)


def test_rows_are_larger_minus_smaller_and_left_minus_right() -> None:
    """The sign of our multipliers hangs on it."""
    _, bounds, oracles, known = smooth()
    g = np.array(oracles.constraints(bounds.x0))
    oracles.objective(bounds.x0)
    at = {}
    for constraint in bounds.new_problem.constraints:
        at[constraint.id] = sum(c.size for c in list(bounds.new_problem.constraints)[: len(at)])
    renamed = known["maps"][2]
    smoothed = known["inverse"].cons_id_map
    assert g[at[smoothed[renamed[known["cap"].id]]]] == pytest.approx(2 - 1.5)
    assert g[at[smoothed[renamed[known["total"].id]]]] == pytest.approx(1.5 + 2.5 - 5)


def test_the_smooth_form_drops_cones_without_a_word() -> None:
    """Why `nonlinear` rewrites cones itself; should this fail, that code can go."""
    from cvxpy.reductions.solvers.nlp_solvers.nlp_solver import Bounds

    x = cp.Variable(2)
    x.value = np.ones(2)
    bounds = Bounds(cp.Problem(cp.Minimize(cp.sum(x)), [cp.NonNeg(x - 1), cp.SOC(x[0], x)]))
    assert bounds.cl.size == 0


def test_the_smooth_form_makes_a_variable_of_a_constant_divisor() -> None:
    """Why `nonlinear` keeps quotients by constants itself; should this fail, that code can go."""
    from cvxpy.reductions.dnlp2smooth.dnlp2smooth import Dnlp2Smooth

    x = cp.Variable()
    x.value = 1.0
    form, _ = Dnlp2Smooth().apply(cp.Problem(cp.Minimize(x / 2)))
    assert len(form.variables()) == 2


def test_smooth_atoms_are_listed_by_type_and_by_name() -> None:
    from cvxpy.reductions.dnlp2smooth.dnlp2smooth import Dnlp2Smooth
    from cvxpy.reductions.solvers.nlp_solvers.diff_engine import ATOM_CONVERTERS

    methods = Dnlp2Smooth().smooth_canon_methods
    assert {cp.log, cp.exp, cp.entr, cp.rel_entr, cp.quad_over_lin} <= set(methods)
    assert {"AddExpression", "Sum", "index", "reshape", "DivExpression", "Hstack"} <= set(ATOM_CONVERTERS)


@pytest.mark.skipif(util.find_spec("ipyopt") is None, reason="needs Ipopt")
def test_dual_signs_of_the_smooth_route() -> None:
    """CVXPY's multipliers of inequalities are nonnegative; equalities are counted on `left - right`."""
    import mechopt as mo

    for maximize in (True, False):
        program = mo.Program("signs")
        x = program.variable("x", 2)
        aim = cp.sum_squares(x) - 4 * x[0]
        (program.maximize(-aim) if maximize else program.minimize(aim)).add("cap", x[0] <= 1)
        program.add("tie", x[0] + x[1] == 2)
        ours, theirs = program.solve("ipyopt"), program.solve("clarabel")
        for family in ("cap", "tie"):
            assert float(ours.dual(family)) == pytest.approx(float(theirs.dual(family)), abs=1e-5)


# -------------------------------------------------------------------------------------------- the conic route


def test_compiled_data_and_its_solution() -> None:
    x = cp.Variable(2, nonneg=True)
    labour, land = x[0] + x[1] <= 4, x[0] + 3 * x[1] <= 6
    problem = cp.Problem(cp.Maximize(2 * x[0] + 3 * x[1]), [labour, land])
    data, chain, inverse = problem.get_problem_data("CLARABEL", solver_opts={}, ignore_dpp=True)
    assert {cps.A, cps.B, cps.C} <= set(data)
    raw = chain.solve_via_data(problem, data, warm_start=False, verbose=False, solver_opts={})
    result = chain.invert(raw, inverse)
    assert result.status == cps.OPTIMAL
    assert result.opt_val == pytest.approx(9, abs=1e-5)
    np.testing.assert_allclose(result.primal_vars[x.id], [3, 1], atol=1e-5)
    assert float(result.dual_vars[labour.id]) == pytest.approx(1.5, abs=1e-5)
    assert float(result.dual_vars[land.id]) == pytest.approx(0.5, abs=1e-5)
    assert cps.NUM_ITERS in result.attr
    # minimise c'x with b - Ax in a cone, z in its dual: the sum of our bound.
    assert -data[cps.B] @ np.asarray(raw.z) == pytest.approx(-9, abs=1e-5)


def test_the_offset_of_the_objective_is_kept_in_the_inverse_data() -> None:
    x = cp.Variable()
    problem = cp.Problem(cp.Minimize(x + 7), [x >= 1])
    _, _, inverse = problem.get_problem_data("CLARABEL", solver_opts={})
    assert float(inverse[-1][cps.OFFSET]) == 7.0


@pytest.mark.parametrize("maximize", [True, False])
def test_dual_signs_of_the_conic_route(maximize: bool) -> None:
    """Nonnegative for inequalities, whatever the sense; of `left - right` for equalities."""
    x = cp.Variable()
    aim = cp.square(x - 3)
    low, tie = x <= 1, 2 * x == 2
    problem = cp.Problem(cp.Maximize(-aim) if maximize else cp.Minimize(aim), [low])
    problem.solve(solver="CLARABEL")
    assert float(low.dual_value) == pytest.approx(4, abs=1e-4)
    problem = cp.Problem(cp.Maximize(-aim) if maximize else cp.Minimize(aim), [tie])
    problem.solve(solver="CLARABEL")
    assert float(tie.dual_value) == pytest.approx(2, abs=1e-4)


def test_the_form_of_a_problem_names_its_cones() -> None:
    from cvxpy.problems.problem_form import ProblemForm

    x = cp.Variable(2)
    quadratic = ProblemForm(cp.Problem(cp.Minimize(cp.sum_squares(x)), [x >= 1]))
    assert quadratic.has_quadratic_objective()
    assert not {"SOC", "ExpCone", "PSD"} & {kind.__name__ for kind in quadratic.cones(quad_obj=True)}
    entropic = ProblemForm(cp.Problem(cp.Maximize(cp.sum(cp.entr(x)))))
    assert not entropic.has_quadratic_objective()
    assert "ExpCone" in {kind.__name__ for kind in entropic.cones(quad_obj=False)}


def test_leaves_and_atoms_evaluate_themselves() -> None:
    x = cp.Variable(2, nonneg=True)
    np.testing.assert_array_equal(x.project(np.array([-1.0, 2.0])), [0, 2])
    low, high = x.get_bounds()
    assert np.all(np.asarray(low) == 0)
    assert np.all(np.isposinf(high))
    x.save_value(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(x.value, [1, 2])
    x.save_value(None)
    assert x.value is None
    difference = cp.diff(cp.Variable(3)) - 1
    assert difference.is_atom_affine()
    assert cp.cumsum(x).is_atom_affine()
    assert not cp.log(x).is_atom_affine()
    np.testing.assert_array_equal(cp.cumsum(x).numeric([np.array([1.0, 2.0])]), [1, 3])


def test_constraints_keep_their_sides() -> None:
    x = cp.Variable()
    for constraint in (x <= 1, x == 1):
        assert constraint.args[0] is x
        assert constraint.args[1].value == 1
    larger = x >= 1  # stored as 1 <= x
    assert larger.args[0].is_constant()
    assert larger.args[1] is x
