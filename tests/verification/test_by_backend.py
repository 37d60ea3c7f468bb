"""Claims on several backends: who is at fault, who cannot, who is silent, and what is no program at all."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import pytest

import mechopt as mo
from mechopt.formulations.ledger import ledger
from mechopt.solvers.rerouting import rerouted, unwatched
from mechopt.verification.by_backend import run_claim_on
from mechopt.verification.claim import Verdict, run_claim

LP = frozenset({mo.Capability.LP})


class Scaled(mo.Backend):
    """Answers with a share of HiGHS's point: feasible, and not the optimum, which it claims to be."""

    name = "scaled"
    capabilities = LP
    share = 0.5
    honest = False

    def solve(self, program, settings):
        solved = mo.solvers.get_backend("highspy").solve(program, settings)
        primal = {key: self.share * value for key, value in solved.primal.items()}
        if self.honest:
            return mo.Answer(mo.Status.LIMIT, "out of patience", primal=primal)
        return mo.Answer(mo.Status.OPTIMAL, "trust me", primal=primal, proved=True)


class Silent(mo.Backend):
    name = "silent"
    capabilities = LP

    def solve(self, program, settings):
        return mo.Answer(mo.Status.FAILED, "lost its way")


class Right(Scaled):
    """A second right answer, under a name of its own."""

    name = "right"
    share = 1.0


@pytest.fixture(autouse=True)
def backends():
    import mechopt.solvers

    made = (Scaled(), Silent(), Right())
    for backend in made:
        mechopt.solvers.register(backend)
    yield made
    for backend in made:
        mechopt.solvers.unregister(backend.name)


@dataclass(frozen=True)
class Capped:
    """Sell as much as the capacity allows."""

    capacity: float
    price: float = 3.0

    def program(self):
        program = mo.Program("capped")
        quantity = program.variable("quantity", nonneg=True)
        program.maximize(self.price * quantity)
        return program.add("capacity", quantity <= self.capacity)


def capacities(rng, n):
    for _ in range(n):
        yield Capped(round(float(rng.uniform(1, 9)), 3))


def claim(check, **fields):
    fields = {"instances": capacities, "tolerance": 1e-6, "n_instances": 4} | fields
    return mo.Claim(id="toy/R1", source="a toy", statement="so it is", check=check, **fields)


def revenue(case, backend="highspy", **options):
    """The optimal revenue is price times capacity."""
    found = case.program().solve(backend, **options)
    return mo.Finding(abs(found.objective / (case.price * case.capacity) - 1), f"revenue {found.objective}")


def wrong_revenue(case):
    """A statement that is false on every backend: the optimal revenue is the capacity."""
    return mo.Finding(abs(case.program().solve("highspy").objective / case.capacity - 1))


def states(outcome):
    return {row.backend: row.state for row in outcome.backends}


def test_a_backend_that_is_wrong_and_sure_is_at_fault_and_the_theory_is_not():
    outcome = run_claim_on(claim(revenue), ["clarabel", "scaled", "right"])
    assert states(outcome) == {"clarabel": "agrees", "scaled": "at fault", "right": "agrees"}
    assert outcome.verdict is Verdict.HOLDS
    (fault,) = outcome.faults
    assert (fault.n_checked, fault.n_failed) == (4, 4)
    assert fault.worst == pytest.approx(0.5)
    assert "4 instances; at Capped(" in fault.told
    assert "its answer (optimal) gives a gap of 5.0e-01, that of highspy" in fault.told
    assert "objective of 'capped'" in fault.told


def test_a_backend_that_doubts_itself_is_not_called_at_fault(monkeypatch):
    monkeypatch.setattr(Scaled, "honest", True)
    outcome = run_claim_on(claim(lambda case: revenue(case, on_failure="return")), ["scaled"])
    assert states(outcome) == {"scaled": "inaccurate"}
    assert not outcome.faults
    assert "(limit)" in outcome.backends[0].told


def test_the_backend_that_the_check_asks_for_can_be_the_one_at_fault():
    asked = claim(lambda case: revenue(case, "scaled"))
    assert run_claim(asked).verdict is Verdict.REFUTED
    outcome = run_claim_on(asked, ["highspy", "clarabel"])
    assert outcome.verdict is Verdict.HOLDS
    assert outcome.worst < 1e-6
    assert states(outcome) == {"scaled": "at fault", "highspy": "agrees", "clarabel": "agrees"}
    assert "fails on 4 instances by scaled; other backends confirm it there" in outcome.witness


def test_a_false_statement_is_refuted_on_every_backend_and_nobody_is_at_fault():
    outcome = run_claim_on(claim(wrong_revenue), ["highspy", "clarabel", "right"], shrink=50)
    assert outcome.verdict is Verdict.REFUTED
    assert outcome.counterexample.capacity.is_integer()
    assert set(states(outcome).values()) == {"agrees"}
    assert all(row.n_failed == 4 for row in outcome.backends)


@dataclass(frozen=True)
class Pair:
    """Sell two goods of nearly the same price under one capacity: the objective hardly tells which."""

    premium: float

    def program(self):
        program = mo.Program("pair")
        quantity = program.variable("quantity", 2, nonneg=True)
        program.maximize(quantity[0] * (1 + self.premium) + quantity[1])
        return program.add("capacity", quantity[0] + quantity[1] <= 1)


def first_only(case):
    """Nothing but the first good is sold."""
    return mo.Finding(float(case.program().solve("highspy", tolerance=1e-8)["quantity"][1]))


def second_only(backend, program, settings):
    (quantity,) = program.cvxpy_variables().values()
    return mo.Answer(mo.Status.OPTIMAL, "trust me", primal={quantity.id: [0.0, 1.0]}, proved=True)


@pytest.mark.parametrize(("premium", "state"), [(1e-9, "coarse"), (1e-3, "at fault")])
def test_a_backend_is_not_blamed_for_digits_that_it_was_not_asked_for(monkeypatch, premium, state):
    """Both points have the same objective, to the tolerance asked for, or have not."""
    monkeypatch.setattr(Right, "solve", second_only)
    outcome = run_claim_on(claim(first_only, instances=lambda rng, n: [Pair(premium)]), ["right"])
    assert outcome.verdict is Verdict.HOLDS
    assert states(outcome)["right"] == state
    assert bool(outcome.faults) == (state == "at fault")
    told = outcome.backends[0].told
    assert ("objectives are right to the 1e-08 asked for" in told) == (state == "coarse")


def test_the_worst_of_several_ways_to_disagree_is_told(monkeypatch):
    """Two instances within the tolerance asked for do not hide one that is not."""
    monkeypatch.setattr(Right, "solve", second_only)
    pairs = [Pair(1e-9), Pair(1e-2), Pair(2e-9)]
    (row,) = run_claim_on(claim(first_only, instances=lambda rng, n: pairs), ["right"]).backends
    assert row.state == "at fault"
    assert "1 instances; at Pair(premium=0.01)" in row.told


@pytest.mark.parametrize("options", [{}, {"on_failure": "return"}])
@pytest.mark.parametrize("status", [mo.Status.INFEASIBLE, mo.Status.UNBOUNDED])
def test_a_backend_that_denies_what_another_has_is_at_fault(monkeypatch, status, options):
    monkeypatch.setattr(Silent, "solve", lambda backend, program, settings: mo.Answer(status, "no"))
    outcome = run_claim_on(claim(lambda case: revenue(case, **options)), ["silent", "clarabel"])
    assert states(outcome) == {"silent": "at fault", "clarabel": "agrees"}
    assert outcome.verdict is Verdict.HOLDS
    told = outcome.faults[0].told
    assert "4 instances; at Capped(capacity=" in told
    assert f"it says {status} of a program of which another has an answer" in told
    # Nor is the backend that the check asks for believed.
    asked = run_claim_on(claim(lambda case: revenue(case, "silent", **options)), ["highspy"])
    assert states(asked) == {"silent": "at fault", "highspy": "agrees"}
    assert asked.verdict is Verdict.UNDECIDED


def test_what_all_call_infeasible_is_no_fault():
    def check(case):
        program = case.program()
        program.add("more", program["quantity"] >= 2 * case.capacity)
        status = program.solve("highspy", on_failure="return").status
        return mo.Finding(float(status is not mo.Status.INFEASIBLE))

    assert states(run_claim_on(claim(check), ["clarabel", "scs"])) == {"clarabel": "agrees", "scs": "agrees"}


def test_for_statements_expected_to_fail_the_larger_number_decides(monkeypatch):
    """A share of one third makes the false statement true on one backend."""
    monkeypatch.setattr(Scaled, "share", 1 / 3)
    monkeypatch.setattr(Right, "share", 1.0)
    false = claim(wrong_revenue, expected=Verdict.REFUTED, corrected_by="toy/R2")
    assert states(run_claim_on(false, ["scaled", "right"])) == {"scaled": "at fault", "right": "agrees"}
    alone = run_claim_on(false, ["scaled"])
    assert states(alone) == {"scaled": "differs"}
    assert not alone.faults
    assert alone.verdict is Verdict.REFUTED


def test_where_nothing_decides_those_that_side_with_the_check_are_not_accused(monkeypatch):
    monkeypatch.setattr(Scaled, "share", 1 / 3)
    monkeypatch.setattr(Right, "share", 1 / 3)
    false = claim(wrong_revenue, expected=Verdict.REFUTED, corrected_by="toy/R2")
    outcome = run_claim_on(false, ["clarabel", "scaled", "right"])
    assert states(outcome) == {"clarabel": "agrees", "scaled": "differs", "right": "differs"}


def test_a_missing_capability_is_a_row_that_says_so():
    def check(case):
        program = case.program()
        program.minimize((program["quantity"] - case.capacity) ** 2)
        return mo.Finding(abs(program.solve("clarabel").objective))

    outcome = run_claim_on(claim(check), ["scaled", "clarabel"])
    assert states(outcome) == {"scaled": "cannot", "clarabel": "agrees"}
    row = outcome.backends[0]
    assert (row.n_checked, row.told) == (0, "lacks QP")
    assert math.isnan(row.worst)


def test_a_capability_missing_for_some_instances_leaves_the_others():
    def check(case):
        program = case.program()
        if case.capacity > 5:
            program.minimize((program["quantity"] - case.capacity) ** 2)
        gap = program.solve("clarabel").objective - (0 if case.capacity > 5 else 3 * case.capacity)
        return mo.Finding(abs(gap))

    instances = [Capped(2.0), Capped(4.0), Capped(7.0)]
    outcome = run_claim_on(claim(check, instances=lambda rng, n: instances), ["right"])
    (row,) = outcome.backends
    assert (row.state, row.n_checked) == ("agrees", 2)
    assert row.told == "lacks QP for 1 instances"


def test_a_backend_without_an_answer_is_silent_and_does_not_decide_anything():
    for options in ({}, {"on_failure": "return"}):
        outcome = run_claim_on(claim(lambda case, o=options: revenue(case, **o)), ["silent"])
        (row,) = outcome.backends
        assert row.state == "silent"
        assert "no answer on 4 of 4: failed, lost its way" in row.told
        assert (outcome.verdict, outcome.as_expected) == (Verdict.HOLDS, True)


def test_a_backend_without_prices_cannot_where_the_check_asks_for_one():
    def check(case):
        found = case.program().solve("highspy")
        return mo.Finding(float(found.dual("capacity")) - 3)

    (row,) = run_claim_on(claim(check), ["right"]).backends
    assert (row.state, row.told, row.n_checked) == ("cannot", "no shadow prices on 4 of 4", 0)


def test_a_check_that_breaks_on_one_backend_for_its_own_reasons_is_an_error_there():
    def check(case):
        found = case.program().solve("highspy")
        return mo.Finding(0.0 if found.backend == "highspy" else 1 / 0)

    (row,) = run_claim_on(claim(check), ["right"]).backends
    assert row.state == "error"
    assert "the check broke: ZeroDivisionError" in row.told


def test_without_a_program_there_are_no_rows():
    outcome = run_claim_on(claim(lambda case: mo.Finding(0.0)), ["clarabel"])
    assert (outcome.backends, outcome.solved_by) == ((), ())
    assert outcome.verdict is Verdict.HOLDS


def test_only_the_instances_that_solve_programs_are_run_again():
    asked = []

    def check(case):
        asked.append(case)
        return revenue(case) if case.capacity > 5 else mo.Finding(0.0)

    instances = [Capped(2.0), Capped(7.0), Capped(8.0)]
    run_claim_on(claim(check, instances=lambda rng, n: instances), ["clarabel", "highspy"])
    # Three as asked, two on Clarabel; on HiGHS they were solved already.
    assert [case.capacity for case in asked] == [2.0, 7.0, 8.0, 7.0, 8.0]


def test_time_cuts_instances_and_the_row_says_so():
    # One instance is taken, however short the time.
    outcome = run_claim_on(claim(revenue), ["clarabel"], seconds=1e-9)
    assert outcome.n_checked == 1
    assert outcome.backends[0].n_checked == 1


def test_claims_of_the_wings_run_on_other_backends_without_a_change():
    contract, shaping = ledger().claims["contract/R11-conic"], ledger().claims["accuracy-shaping/R13-conic"]
    for one in (contract, shaping):
        outcome = run_claim_on(one, ["exact", "scs", "highspy"], n_instances=2)
        assert states(outcome) == {"exact": "agrees", "scs": "agrees", "highspy": "cannot"}
        assert outcome.solved_by == ("clarabel",)
        assert outcome.verdict is Verdict.HOLDS
    assert not run_claim_on(ledger().claims["contract/R2"], ["scs"], n_instances=2).backends


# ------------------------------------------------------------ the watch itself


def test_inside_programs_go_to_the_backend_and_outside_they_do_not():
    program = Capped(2.0).program()
    with rerouted("clarabel") as watch:
        assert program.solve().backend == "clarabel"
        assert program.solve("highspy", presolve="off").backend == "clarabel"
    assert program.solve("highspy").backend == "highspy"
    assert [(solve.asked, solve.backend) for solve in watch.solves] == [
        (None, "clarabel"),
        ("highspy", "clarabel"),
    ]
    assert watch.solves[0].objective == pytest.approx(6.0)


def test_a_watch_without_a_backend_only_notes():
    program = Capped(2.0).program()
    with rerouted() as watch:
        assert program.solve("highspy").backend == "highspy"
    (solve,) = watch.solves
    assert (solve.program, solve.status, solve.movable) == ("capped", mo.Status.OPTIMAL, True)


def test_watches_nest_and_end_with_an_exception():
    program = Capped(2.0).program()
    logarithm = mo.Program("logarithm")
    x = logarithm.variable("x", nonneg=True)
    logarithm.maximize(mo.LogGain(weight=1, scale=1).expression(x) - x)
    with rerouted("clarabel") as outer:
        with pytest.raises(mo.MissingCapability), rerouted("osqp"):
            logarithm.solve("clarabel")
        with unwatched():
            assert program.solve("highspy").backend == "highspy"
        assert program.solve("highspy").backend == "clarabel"
    assert len(outer.solves) == 1


def test_an_exact_algorithm_asked_by_name_stays_and_one_by_default_moves():
    contract = mo.ScreeningContract(types=[0.1, 0.2], gain=mo.LogGain(weight=100, scale=2))
    with rerouted("clarabel") as watch:
        assert contract.solve().backend == "exact"
        assert not watch.solves
        assert contract.program().solve("exact").backend == "exact"
        assert contract.program().solve().backend == "clarabel"
        assert contract.solve("scs").backend == "clarabel"
    assert [solve.movable for solve in watch.solves] == [False, True, True]


def test_looking_for_a_conflict_is_neither_rerouted_nor_noted():
    program = Capped(2.0).program()
    program.add("floor", program["quantity"] >= 3)
    with rerouted("clarabel") as watch, pytest.raises(mo.Infeasible, match="'capacity', 'floor'"):
        program.solve("highspy")
    (solve,) = watch.solves
    assert (solve.backend, solve.status) == ("clarabel", mo.Status.INFEASIBLE)


def test_a_limit_of_the_watch_does_not_replace_the_checks_own():
    seen = []

    class Listener(Right):
        name = "listener"

        def solve(self, program, settings):
            seen.append((settings.time_limit, dict(settings.options)))
            return super().solve(program, settings)

    mo.register(Listener())
    try:
        program = Capped(2.0).program()
        with rerouted("listener", time_limit=7.0), warnings.catch_warnings():
            warnings.simplefilter("ignore", mo.MechanismWarning)
            program.solve("highspy")
            program.solve("highspy", time_limit=3.0, presolve="off")
    finally:
        mo.unregister("listener")
    assert seen == [(7.0, {}), (3.0, {})]
