"""Counterexamples made smaller: what stays, what goes, and within which bounds."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.screening.families import Case
from mechopt.verification.claim import Verdict, run_claim, shrunk
from mechopt.verification.shrinking import shrink, size_of

GAIN = mo.LogGain(weight=13.7, scale=2.31)


@dataclass(frozen=True)
class Agents:
    """Agents with a cost and a weight each, and a number that counts them."""

    costs: tuple[float, ...]
    weights: np.ndarray
    distance: np.ndarray
    n_agents: int
    gain: mo.LogGain = GAIN
    label: str = "agents"
    total: float = field(init=False, default=0.0)

    def __post_init__(self):
        n = self.n_agents
        if not (len(self.costs) == len(self.weights) == n and self.distance.shape == (n, n)):
            raise mo.InvalidInput("one cost, one weight and one row of distances an agent")
        object.__setattr__(self, "total", float(sum(self.costs)))


def agents(n, seed=0):
    rng = np.random.default_rng(seed)
    return Agents(tuple(rng.uniform(1, 9, n)), rng.uniform(1, 9, n), rng.uniform(0, 1, (n, n)), n)


def test_entries_of_one_agent_go_together_in_tuples_arrays_matrices_and_counts():
    found, _ = shrink(agents(9), lambda case: max(case.costs) > 5, max_checks=500)
    assert found.n_agents == len(found.costs) == len(found.weights) == 1
    assert found.distance.shape == (1, 1)
    assert found.costs[0] > 5
    assert isinstance(found.gain, mo.LogGain)
    assert found.label == "agents"
    assert found.total == sum(found.costs)


def test_the_entry_that_fails_is_kept_wherever_it_is():
    for place in range(7):
        instance = [1] * 7
        instance[place] = 50
        found, _ = shrink(instance, lambda x: max(x) >= 50)
        assert found == [50]


def test_numbers_become_round_and_keep_their_kind():
    found, _ = shrink(
        {"a": 0.123456, "b": 17, "c": Fraction(355, 113)}, lambda x: x["a"] < 0.3 and x["b"] > 4
    )
    assert found == {"a": 0.1, "b": 5, "c": Fraction(2)} or found["a"] == 0.1
    assert (type(found["a"]), type(found["b"]), type(found["c"])) == (float, int, Fraction)
    assert found["b"] == 5
    assert size_of(found)[1] < size_of({"a": 0.123456, "b": 17, "c": Fraction(355, 113)})[1]


def test_a_round_number_is_not_made_shorter_and_less_round():
    found, _ = shrink({"a": 100.0, "b": 50.0}, lambda x: x["a"] > 90 and x["b"] > 41)
    assert found == {"a": 100.0, "b": 50.0}
    assert shrink([117.0], lambda x: x[0] >= 94)[0] == [100.0]
    assert shrink([117], lambda x: x[0] >= 94)[0] == [94]  # as many agents as it takes
    assert shrink([50.0], lambda x: x[0] > 3)[0] == [4.0]


def test_order_and_sign_are_kept_so_that_silent_hypotheses_are():
    case = Case((0.574, 0.887, 0.9137), (136, 31, 77), mo.LogGain(weight=1.33, scale=2.55), 0.163)
    found, _ = shrink(case, lambda c: len(c.types) == 3, max_checks=1000)
    assert found.types == tuple(sorted(found.types))
    assert len(set(found.types)) == 3
    assert max(found.types) < 1
    assert np.argsort(found.weights).tolist() == [1, 2, 0]
    assert min(found.weights) > 0
    assert 0 < found.unit_cost < 1
    assert found.gain.weight < found.gain.scale
    assert size_of(found) < size_of(case)


def test_zero_stays_zero_and_equal_numbers_stay_equal():
    found, _ = shrink((0.0, 3.17, 3.17, -2.71), lambda x: len(x) == 4)
    assert found[0] == 0.0
    assert found[1] == found[2] > 1
    assert found[3] < 0
    assert len(repr(found)) < len(repr((0.0, 3.17, 3.17, -2.71)))


def test_checks_are_bounded_and_the_result_is_the_same_every_time():
    asked = []

    def fails(x):
        asked.append(x)
        return sum(x) > 100

    start = [float(i) + 0.12345 for i in range(40)]
    for bound in (0, 1, 7, 50):
        asked.clear()
        first, n_checks = shrink(start, fails, max_checks=bound)
        assert n_checks == len(asked) <= bound
        assert sum(first) > 100
        assert first == shrink(start, fails, max_checks=bound)[0]


def test_what_cannot_be_smaller_comes_back_itself():
    instance = agents(1)
    assert shrink(instance, lambda _: False)[0] is instance
    assert shrink("nothing to shrink", lambda _: True) == ("nothing to shrink", 0)


def test_instances_that_their_class_refuses_are_never_tried():
    @dataclass(frozen=True)
    class Even:
        values: tuple[int, ...]

        def __post_init__(self):
            if len(self.values) % 2:
                raise mo.InvalidInput("an even number of values")

    seen = []
    found, _ = shrink(Even((5, 5, 5, 5, 5, 5)), lambda x: seen.append(x) or True)
    assert len(found.values) == 2
    assert all(len(x.values) % 2 == 0 for x in seen)


def test_named_tuples_and_enumerations_survive():
    class Colour(enum.IntEnum):
        RED = 7

    class Pair(NamedTuple):
        low: float
        high: float

    found, _ = shrink((Pair(1.23456, 7.891), True), lambda x: isinstance(x[0], Pair) and x[1] is True)
    assert isinstance(found[0], Pair)
    assert found[0].low < found[0].high
    assert shrink(([3, 4, 5], "x"), lambda x: len(x) == 2)[0][1] == "x"
    assert (
        shrink({"colour": Colour.RED}, lambda x: isinstance(x["colour"], Colour))[0]["colour"] is Colour.RED
    )


# ------------------------------------------------------------ in a run


def claim(check, **fields):
    def instances(rng, n):
        for _ in range(n):
            yield tuple(float(x) for x in rng.uniform(1, 9, int(rng.integers(3, 12))))

    fields = {"instances": instances, "tolerance": 1e-9, "n_instances": 20} | fields
    return mo.Claim(id="toy/R1", source="a toy", statement="so it is", check=check, **fields)


def test_a_refutation_is_made_smaller_and_says_what_it_was():
    def check(x):
        return mo.Finding(max(x) - 4, f"{len(x)} entries, largest {max(x)}")

    plain, smaller = run_claim(claim(check)), run_claim(claim(check), shrink=200)
    assert smaller.found_as == plain.counterexample
    assert len(smaller.counterexample) == 1
    (value,) = smaller.counterexample
    assert value.is_integer()
    assert smaller.witness == f"1 entries, largest {value}"
    assert smaller.gap == value - 4
    assert 0 < smaller.n_shrinking <= 200
    assert (smaller.verdict, smaller.n_failed, smaller.worst) == (plain.verdict, plain.n_failed, plain.worst)


def test_hypotheses_still_hold_and_the_failure_stays_clear():
    def check(x):
        # Without the share of the first gap, any sum above 1 would do.
        return mo.Finding(sum(x) - 1, applies=len(x) >= 3)

    outcome = run_claim(claim(check), shrink=300)
    assert len(outcome.counterexample) == 3
    first = sum(outcome.found_as) - 1
    assert outcome.gap >= 0.1 * first


def test_a_check_that_breaks_on_smaller_instances_is_no_counterexample():
    def check(x):
        if len(x) < 3:
            raise ZeroDivisionError
        return mo.Finding(1.0)

    assert len(run_claim(claim(check), shrink=300).counterexample) == 3


def test_nothing_is_shrunk_but_refutations():
    holds = run_claim(claim(lambda x: mo.Finding(0.0)))
    assert shrunk(holds, 100) is holds


# ------------------------------------------------------------ in rationals


def addition(x):
    """Check (x + 1/10) - x = 1/10 as floats have it: for large x cancellation makes it fail."""
    (value,) = x
    return mo.Finding(abs((value + 0.1) - value - 0.1), "in floating point")


def addition_exactly(x):
    value, tenth = Fraction(x[0]), Fraction(1, 10)
    return abs((value + tenth) - value - tenth)


def large(rng, n):
    for _ in range(n):
        yield (float(rng.uniform(1e9, 1e10)),)


def test_a_failure_of_rounding_is_undecided_in_rationals():
    rounding = claim(addition, instances=large, confirm_exactly=None)
    assert run_claim(rounding).verdict is Verdict.REFUTED
    exact = run_claim(claim(addition, instances=large, confirm_exactly=addition_exactly))
    assert exact.verdict is Verdict.UNDECIDED
    assert "none of them in rationals" in exact.witness
    assert exact.n_failed > 0


def harmonic(x):
    return mo.Finding(abs(sum(x) / len(x) - len(x) / sum(1 / v for v in x)), "means differ")


def harmonic_exactly(x):
    values = [Fraction(v) for v in x]
    return abs(sum(values) / len(values) - len(values) / sum(1 / v for v in values))


def test_a_real_failure_is_confirmed_in_rationals_also_after_shrinking():
    outcome = run_claim(claim(harmonic, confirm_exactly=harmonic_exactly), shrink=200)
    assert outcome.verdict is Verdict.REFUTED
    assert isinstance(outcome.exact_gap, Fraction)
    assert outcome.exact_gap == harmonic_exactly(outcome.counterexample)
    assert float(outcome.exact_gap) == pytest.approx(outcome.gap)
    assert len(outcome.counterexample) == 2
    assert outcome.summary()["exact_gap"] == str(outcome.exact_gap)


def test_where_rationals_cannot_tell_floating_point_does():
    def irrational(x):
        raise mo.NotApplicable("a root is not rational")

    outcome = run_claim(claim(harmonic, confirm_exactly=irrational))
    assert (outcome.verdict, outcome.exact_gap) == (Verdict.REFUTED, None)
