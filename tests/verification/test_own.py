"""Claims of a user's own: what a check may return, where instances come from, what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest

import mechopt as mo
from mechopt.verification.own import claim, relative_gap

GAIN = mo.LogGain(weight=100, scale=2)
CONTRACTS = [mo.ScreeningContract(types=np.linspace(0.1, high, 4), gain=GAIN) for high in (0.2, 0.3, 0.4)]


def test_ten_lines_are_a_claim():
    mine = mo.Ledger()

    @claim("mine/no-rent", instances=CONTRACTS, tolerance=1e-9, ledger=mine)
    def no_rent(contract, menu):
        """The highest type has no rent, relative to the lowest one's."""
        return menu["rent"][-1] / menu["rent"][0]

    outcome = mo.run_claim(no_rent)
    assert outcome.verdict is mo.Verdict.HOLDS
    assert outcome.n_checked == 3
    assert no_rent.statement == "The highest type has no rent, relative to the lowest one's"
    assert mine.select("mine") == (no_rent,)
    assert str(outcome).startswith("mine/no-rent: holds on 3 instances, worst gap")


def test_of_a_claim_another_one_can_be_made():
    @claim("mine/no-rent", instances=CONTRACTS, tolerance=1e-9)
    def no_rent(contract, menu):
        """The highest type has no rent."""
        return menu["rent"][-1] / menu["rent"][0]

    strict = claim("mine/none", instances=CONTRACTS[:2], tolerance=0.0)(no_rent.check)
    assert strict.statement == no_rent.statement
    assert mo.run_claim(strict).n_checked == 2


def test_a_wrong_formula_is_caught_with_both_sides_in_the_witness():
    @claim("mine/first-best", instances=CONTRACTS, tolerance=1e-6, backend="clarabel")
    def first_best(contract, menu):
        """Quantities are first best for all types."""
        return menu["quantity"], GAIN.inverse_derivative(contract.unit_cost) / contract.types

    outcome = mo.run_claim(first_best)
    assert outcome.verdict is mo.Verdict.REFUTED
    assert outcome.solved_by == ("clarabel",)
    assert " against (" in outcome.witness
    assert outcome.counterexample in CONTRACTS


@pytest.mark.parametrize(
    ("returned", "gap"),
    [
        (True, 0.0),
        (np.bool_(False), 1.0),
        (0.25, 0.25),
        (np.float64(0.5), 0.5),
        (np.array(0.5), 0.5),
        ((2.0, 3.0), 1 / 3),
        (([1.0, 2.0], np.array([1.0, 4.0])), 0.5),
        (([1.0, 1.0], 1.0), 0.0),
        ((0.0, 0.0), 0.0),
        (mo.Finding(7.0), 7.0),
    ],
    ids=repr,
)
def test_what_a_check_may_return(returned, gap):
    made = claim("mine/x", instances=[1], tolerance=0.0, statement="x")(lambda x: returned)
    assert made.check(1).gap == pytest.approx(gap)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "it has no return"),
        ("yes", "of type str"),
        ((1, 2, 3), "of type tuple"),
        (([1, 2], [1, 2, 3]), "shapes"),
        (np.array([1.0, 2.0]), "its largest entry as the gap"),
        (np.array([True, False]), r"or \.all\(\) of truth values"),
    ],
)
def test_what_it_may_not_return(returned, words):
    made = claim("mine/x", instances=[1], tolerance=0.0, statement="x")(lambda x: returned)
    with pytest.raises(mo.InvalidInput, match=words):
        made.check(1)
    outcome = mo.run_claim(made)
    assert outcome.verdict is mo.Verdict.UNDECIDED
    assert re.search(words, outcome.witness)


def test_a_solution_is_not_a_side():
    made = claim("mine/x", instances=CONTRACTS[:1], tolerance=0.0, statement="x")(
        lambda c, menu: (menu, menu)
    )
    with pytest.raises(mo.InvalidInput, match="not the solution itself"):
        made.check(CONTRACTS[0])


def test_a_gap_that_is_not_a_number_never_holds():
    made = claim("mine/x", instances=[1], tolerance=1.0, statement="x")(lambda x: (float("nan"), 1.0))
    assert mo.run_claim(made).verdict is mo.Verdict.UNDECIDED


def test_outside_the_hypotheses_a_form_raises_and_the_instance_does_not_count():
    @claim("mine/root", instances=[4.0, -1.0, 9.0], tolerance=1e-12)
    def root(x):
        """The root squared is the number."""
        if x < 0:
            raise mo.NotApplicable("a negative number has no root")
        return np.sqrt(x) ** 2, x

    outcome = mo.run_claim(root)
    assert (outcome.verdict, outcome.n_checked) == (mo.Verdict.HOLDS, 2)


def test_instances_may_be_drawn_one_by_one_or_all_at_once():
    one = claim("mine/x", instances=lambda rng: rng.uniform(), tolerance=1.0, statement="x")(lambda x: x)
    many = claim(
        "mine/x", instances=lambda rng, n: rng.uniform(size=n), tolerance=1.0, statement="x", n_instances=7
    )(lambda x: x)
    assert mo.run_claim(one).n_checked == 100
    assert mo.run_claim(many).n_checked == 7
    assert mo.run_claim(one, n_instances=7).worst == pytest.approx(mo.run_claim(many).worst)


def test_a_list_is_not_run_past_its_end_nor_forgotten_after_one_run():
    made = claim("mine/x", instances=iter([1.0, 2.0]), tolerance=9.0, statement="x")(lambda x: x)
    assert [mo.run_claim(made, n_instances=n).n_checked for n in (1, 2, 5)] == [1, 2, 2]


def test_programs_and_declarables_are_solved_too():
    class Market:
        def program(self):
            program = mo.Program("market")
            quantity = program.variable("quantity", nonneg=True)
            program.maximize(quantity)
            return program.add("capacity", quantity <= 3)

    market = Market()
    for instance in (market, market.program()):
        made = claim("mine/x", instances=[instance], tolerance=1e-6, statement="x", backend="highspy")(
            lambda _, solution: (solution["quantity"], 3.0)
        )
        assert mo.run_claim(made).verdict is mo.Verdict.HOLDS
    own = claim("mine/x", instances=[5.0], tolerance=0.0, statement="x", solve=lambda x: x + 1)(
        lambda x, solution: (solution, x + 1)
    )
    assert mo.run_claim(own).verdict is mo.Verdict.HOLDS
    helpless = claim("mine/x", instances=[5.0], tolerance=0.0, statement="x")(lambda x, solution: True)
    assert "neither solve() nor program()" in mo.run_claim(helpless).witness


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tolerance": -1.0}, "tolerance must be a number >= 0"),
        ({"tolerance": float("nan")}, "tolerance must be a number >= 0"),
        ({"tolerance": "1e-6"}, "tolerance must be a number >= 0, got '1e-6'"),
        ({"n_instances": 0}, "n_instances must be at least 1"),
        ({"instances": []}, "there are no instances"),
        ({"instances": 3}, "instances is of type int"),
        ({"instances": lambda: 1}, "a function of 0 arguments"),
        ({"statement": None}, "says nothing"),
        ({"expected": mo.Verdict.REFUTED}, "which claim corrects it"),
        ({"expected": "refutd"}, "expected must be holds, refuted, undecided, got 'refutd'"),
    ],
)
def test_bad_claims(fields, words):
    with pytest.raises(mo.InvalidInput, match=words):
        claim("mine/x", **({"instances": [1], "tolerance": 0.0, "statement": "x"} | fields))(lambda x: x)


def test_a_check_that_breaks_inside_the_package_says_at_which_of_its_own_lines():
    def misspelt(contract, menu):
        return menu["quantty"], 1.0  # named below

    made = claim("mine/x", instances=CONTRACTS[:1], tolerance=0.0, statement="x")(misspelt)
    told = mo.run_claim(made).witness
    assert "no value named 'quantty'" in told
    assert f"(test_own.py, line {misspelt.__code__.co_firstlineno + 1})" in told


def test_the_expected_verdict_may_be_its_word():
    made = claim(
        "mine/x", instances=[1], tolerance=0.0, statement="x", expected="refuted", corrected_by="mine/y"
    )(lambda x: False)
    assert mo.run_claim(made).as_expected


def test_a_check_takes_an_instance_and_perhaps_a_solution():
    with pytest.raises(mo.InvalidInput, match="takes 3 arguments"):
        claim("mine/x", instances=[1], tolerance=0.0, statement="x")(lambda a, b, c: 0.0)


def test_relative_gap_has_a_floor():
    assert relative_gap([1.0, 3.0], [1.0, 2.0]) == pytest.approx(1 / 3)
    assert relative_gap(1e-12, 0.0) == 1.0
    assert relative_gap(1e-12, 0.0, floor=1.0) == 1e-12
    assert relative_gap([], []) == 0.0
