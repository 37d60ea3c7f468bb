"""Closed forms against programs: who is at fault, and where a form stops being right."""

from __future__ import annotations

import math

import numpy as np
import pytest

import mechopt as mo
from mechopt.verification import compare

GAIN = mo.LogGain(weight=100, scale=2)


def contract(share):
    """Three types, the lowest of them with this probability: the closed form ends where it is large."""
    rest = (1 - share) / 2
    return mo.ScreeningContract(types=[0.1, 0.2, 0.3], probs=[share, rest, rest], gain=GAIN)


def holder(cost, cap=1e6):
    program = mo.Program("one holder", objective_scale=100.0)
    quantity = program.variable("quantity", nonneg=True, scale=100.0 / cost)
    program.define("bill", cost * quantity)
    program.maximize(GAIN.expression(quantity) - program["bill"])
    return program.add("cap", quantity <= cap)


def optimum(cost):
    """Quantity, bill and value without a cap, as calculus has them."""
    quantity = max(100.0 / cost - 0.5, 0.0)
    return {
        "quantity": quantity,
        "bill": cost * quantity,
        "objective": 100 * math.log(1 + 2 * quantity) - cost * quantity,
        "dual:cap": 0.0,
    }


class Wrong(mo.Backend):
    """Half of Clarabel's point, and sure of it."""

    name = "wrong"
    capabilities = frozenset({mo.Capability.LP, mo.Capability.EXP})
    ended = mo.Status.OPTIMAL

    def solve(self, program, settings):
        from mechopt.solvers import get_backend

        found = get_backend("clarabel").solve(program, settings)
        primal = {key: value / 2 for key, value in found.primal.items()}
        return mo.Answer(self.ended, "sure", primal=primal, proved=self.ended is mo.Status.OPTIMAL)


@pytest.fixture
def wrong():
    mo.register(Wrong())
    yield "wrong"
    mo.unregister("wrong")


def states(found):
    return [row.state for row in found.rows]


def test_a_right_form_agrees_in_value_point_and_price():
    found = compare(holder(2.0), optimum(2.0), backends=["clarabel", "outer", "pounce"])
    assert states(found) == ["agrees"] * 3
    assert found
    for row in found.rows:
        assert row.value_gap < 1e-7
        assert row.primal_gap < 1e-4
        assert row.form_value == optimum(2.0)["objective"]
        assert row.seconds > 0
    # The cap does not bind: both prices are zero, to rounding.
    assert abs(found.rows[0].value - found.rows[0].form_value) < 1e-4


def test_prices_are_compared():
    capped = holder(2.0, cap=10.0)
    price = float(GAIN.derivative(10.0)) - 2.0
    right = {"objective": float(GAIN(10.0)) - 20.0, "quantity": 10.0, "dual:cap": price}
    assert compare(capped, right, backends=["clarabel"]).rows[0].dual_gap < 1e-5
    found = compare(capped, right | {"dual:cap": 2 * price}, backends=["clarabel"])
    assert (found.rows[0].worst, found.rows[0].state) == ("dual:cap", "other point")
    assert found.rows[0].dual_gap == pytest.approx(0.5, abs=1e-4)
    assert not found


def test_a_wrong_form_is_at_fault_where_backends_agree_with_each_other():
    found = compare(holder(2.0), {"objective": 300.0}, backends=["clarabel", "pounce"])
    assert states(found) == ["form at fault"] * 2
    assert not found
    assert states(compare(holder(2.0), {"objective": 300.0}, backends=["clarabel"])) == ["differs"]


def test_a_wrong_backend_is_at_fault_where_another_agrees_with_the_form(wrong):
    found = compare(holder(2.0), optimum(2.0), backends=["clarabel", wrong])
    assert states(found) == ["agrees", "backend at fault"]
    assert found.faults == (found.rows[1],)
    assert found, "the form is right all the same"
    assert "backend at fault: wrong at 0" in repr(found)


def test_a_backend_that_doubts_itself_is_not_at_fault(wrong, monkeypatch):
    monkeypatch.setattr(Wrong, "ended", mo.Status.LIMIT)
    found = compare(holder(2.0), optimum(2.0), backends=["clarabel", wrong])
    assert states(found) == ["agrees", "inaccurate"]
    assert "limit" in found.rows[1].note


def test_the_mechanisms_own_form_in_a_series_ends_where_it_says():
    found = compare({s: contract(s) for s in (0.3, 0.6, 0.97)}, backends=["exact", "clarabel"])
    assert [found.verdict(case) for case in found.cases] == ["agrees", "agrees", "not valid"]
    ((before, after, why),) = found.ends
    assert (before, after) == (0.6, 0.97)
    assert "the formula's quantity rises" in why
    assert found, "where it says that it is valid, it is"
    assert "between 0.6 and 0.97: the formula's quantity rises" in repr(found)


def test_a_form_of_ones_own_ends_where_it_is_wrong_without_saying_so():
    def uncapped(program):
        return optimum(2.0)

    series = {cap: holder(2.0, cap=cap) for cap in (80.0, 60.0, 40.0, 20.0)}
    found = compare(series, uncapped, backends=["clarabel", "pounce"])
    ((before, after, why),) = found.ends
    assert (before, after) == (60.0, 40.0)
    assert why.startswith("form at fault: value ")
    assert not found


def test_a_form_that_raises_where_it_does_not_apply():
    def careful(program):
        if program.families["cap"][0].args[1].value < 49.5:
            raise mo.NotApplicable("the cap binds", reason="the cap binds")
        return optimum(2.0)

    found = compare([holder(2.0, cap=60.0), holder(2.0, cap=40.0)], careful, backends=["clarabel"])
    assert [found.verdict(case) for case in found.cases] == ["agrees", "not valid"]
    assert found.ends == ((0, 1, "the cap binds"),)
    assert found.rows[1].state == "no form"
    assert found


def test_a_form_that_never_applies_shows_nothing():
    def never(program):
        raise mo.NotApplicable("no")

    assert not compare(holder(2.0), never)


def test_all_capable_backends_by_default_and_those_that_cannot_when_named():
    found = compare(contract(0.3))
    names = [row.backend for row in found.rows]
    assert {"exact", "clarabel", "scs", "outer"} <= set(names)
    assert "highs" not in names
    (row,) = compare(contract(0.3), backends="highs").rows
    assert (row.state, row.note) == ("cannot", "lacks EXP")


def test_a_form_may_be_an_object_a_number_or_a_solution():
    class Form:
        objective = optimum(2.0)["objective"]
        quantity = 49.5
        remark = "an attribute that is no name of the program"

    solution = holder(2.0).solve("clarabel")
    for form in (Form(), Form.objective, np.array(Form.objective), solution, lambda program: Form()):
        assert states(compare(holder(2.0), form, backends=["pounce"])) == ["agrees"]


def test_points_alone_do_not_tell_a_wrong_point_from_another_optimum():
    found = compare(holder(2.0), {"bill": 120.0}, backends=["clarabel", "pounce"])
    assert states(found) == ["other point"] * 2
    assert "gives no objective" in found.rows[0].note
    assert not found


def test_a_form_of_all_variables_has_the_value_of_its_own_point():
    def quantity(program):
        return {"quantity": np.array([49.5])}  # right where a unit costs 2

    found = compare({c: holder(c) for c in (2.0, 2.5)}, quantity, backends=["clarabel", "pounce"])
    assert [found.verdict(case) for case in found.cases] == ["agrees", "form at fault"]
    for row, cost in zip(found.rows, (2.0, 2.0, 2.5, 2.5), strict=True):
        assert row.form_value == pytest.approx(100 * math.log(100) - cost * 49.5, rel=1e-12)
    # Nor does a point outside the constraints pass for a better one.
    assert states(compare(holder(2.0, cap=40), {"quantity": 49.5}, backends=["clarabel", "pounce"])) == [
        "form at fault",
        "form at fault",
    ]


def test_what_is_not_a_number_does_not_agree():
    for form in ({"objective": math.nan}, optimum(2.0) | {"quantity": math.nan}, {"quantity": math.inf}):
        found = compare(holder(2.0), form, backends=["clarabel"])
        assert not found
        assert states(found) == ["form at fault"]
        assert "the form gives no finite" in found.rows[0].note


def test_a_form_that_breaks_says_at_which_instance():
    with pytest.raises(ZeroDivisionError) as caught:
        compare({"cheap": holder(1.0)}, lambda program: 1 / 0, backends=["clarabel"])
    assert caught.value.__notes__ == ["in the closed form at instance 'cheap'"]


def test_next_to_zero_differences_are_judged_by_the_declared_scale():
    """A holder so dear that nobody buys: zero is met to the solver's accuracy, not to a share of zero."""
    found = compare(holder(250.0), optimum(250.0), backends=["clarabel"])
    assert optimum(250.0)["quantity"] == 0.0
    assert states(found) == ["agrees"]
    assert found.rows[0].value_gap < 1e-6


def test_table_and_text():
    found = compare(contract(0.3), backends=["exact", "clarabel"])
    frame = found.to_frame()
    assert frame["backend"].tolist() == ["exact", "clarabel"]
    assert {"case", "state", "value_gap", "primal_gap", "dual_gap", "note"} <= set(frame.columns)
    assert repr(found).splitlines()[1].split()[:3] == ["exact", "agrees", "value"]
    long = compare({c: holder(c) for c in np.linspace(1, 2, 12)}, lambda p: 0.0, backends=["clarabel"])
    assert "and 4 more" in repr(long)
    assert len(repr(long).splitlines()) <= 11


def test_an_interval_of_forms_can_be_declared_otherwise():
    found = compare(contract(0.3), declare=lambda m: m.program("local"), backends=["clarabel"])
    assert states(found) == ["agrees"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: compare(holder(2.0), {"quantty": 1.0}), "'quantty', which 'one holder' has not"),
        (lambda: compare(holder(2.0), {"dual:cup": 1.0}), "'dual:cup'.*dual:cap"),
        (lambda: compare(holder(2.0), {"quantity": [1.0, 2.0]}), "'quantity' with 2 entries"),
        (lambda: compare(holder(2.0), object()), "has nothing of 'one holder'"),
        (lambda: compare(holder(2.0), lambda program: None), "of type NoneType, has nothing of 'one holder'"),
        (lambda: compare(holder(2.0), {"objective": None}), "has nothing of 'one holder'"),
        (lambda: compare(holder(2.0), {"objective": "much"}), "'objective' as 'much', which is no number"),
        (lambda: compare(holder(2.0), {"objective": [1.0, 2.0]}), "'objective' with 2 entries"),
        (lambda: compare(holder(2.0), 1.0, backends=[]), "backends is empty"),
        (lambda: compare(holder(2.0)), r"has no closed_form\(\)"),
        (lambda: compare(3.0, {}), r"no program\(\)"),
        (lambda: compare([], {}), "subject is empty"),
        (lambda: compare([holder(1.0), holder(2.0)], {"objective": 1.0}), "must be a function"),
        (lambda: compare(holder(2.0), 1.0, tolerance=0.0), "tolerance must lie"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(mo.InvalidInput, match=words):
        call()


def test_an_unknown_backend_is_refused_before_anything_is_solved():
    with pytest.raises(mo.BackendUnavailable, match="did you mean 'clarabel'"):
        compare(holder(2.0), 1.0, backends=["clarabell"])
