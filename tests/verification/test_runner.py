"""Many claims at once: here, in processes, interrupted, and with processes that die."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

import pytest

import mechopt as mo
from mechopt.verification.claim import Ledger
from mechopt.verification.runner import QUICK_SECONDS, RunSettings, iter_outcomes, quick_seconds

REFUTED = mo.Verdict.REFUTED


@dataclass(frozen=True)
class Number:
    value: float


class Stubborn(Number):
    """An instance that does not pickle."""

    def __reduce__(self):
        raise TypeError("no")


def numbers(rng, n):
    for _ in range(n):
        yield Number(float(rng.uniform(1, 9)))


def stubborn(rng, n):
    yield Stubborn(2.0)


@cache
def toys() -> Ledger:
    made = Ledger()

    def add(id, check, instances=numbers, **fields):
        made.add(
            mo.Claim(
                id=id,
                source="a toy",
                statement="so it is",
                instances=instances,
                check=check,
                tolerance=1e-9,
                n_instances=5,
                **fields,
            )
        )

    add("toy/holds", lambda x: mo.Finding(0.0))
    add(
        "toy/refuted", lambda x: mo.Finding(x.value, f"{x.value}"), expected=REFUTED, corrected_by="toy/holds"
    )
    add("toy/surprise", lambda x: mo.Finding(x.value, f"{x.value}"))
    add("toy/dies", lambda x: os._exit(7))
    add("toy/stubborn", lambda x: mo.Finding(1.0, "one"), instances=stubborn)
    add("toy/later", lambda x: mo.Finding(1e-12))
    return made


def claims(*names):
    return [toys().claims[f"toy/{name}"] for name in names]


def comparable(outcome):
    return {key: value for key, value in outcome.summary().items() if key != "seconds"}


def test_processes_give_what_one_gives_and_one_that_dies_costs_one_claim():
    chosen = claims("holds", "refuted", "surprise", "later")
    settings = RunSettings(seed=2, shrink=50)
    here = {o.claim.id: o for o in iter_outcomes(chosen, settings)}
    asked = []
    everything = [*claims("dies", "stubborn"), *chosen]
    running = iter_outcomes(everything, settings, jobs=2, load=toys, progress=lambda c: asked.append(c.id))
    outcomes = {outcome.claim.id: outcome for outcome in running}
    assert asked == [claim.id for claim in everything]
    assert sorted(asked) == sorted(outcomes)
    for id in here:
        assert comparable(outcomes[id]) == comparable(here[id])
        assert outcomes[id].claim is toys().claims[id]
        assert outcomes[id].counterexample == here[id].counterexample
    assert outcomes["toy/dies"].verdict is mo.Verdict.UNDECIDED
    assert "exit code 7" in outcomes["toy/dies"].witness
    held_back = outcomes["toy/stubborn"]
    assert (held_back.verdict, held_back.counterexample) == (mo.Verdict.REFUTED, None)
    assert "does not travel" in held_back.witness


def test_outcomes_come_out_one_by_one_so_that_an_interruption_keeps_them():
    def interrupt(x):
        raise KeyboardInterrupt

    interrupted = mo.Claim(
        id="toy/ctrl-c",
        source="a toy",
        statement="so it is",
        instances=numbers,
        check=interrupt,
        tolerance=0.0,
    )
    running = iter_outcomes([*claims("later"), interrupted, *claims("holds")])
    assert next(running).claim.id == "toy/later"
    with pytest.raises(KeyboardInterrupt):
        next(running)


def test_several_jobs_need_a_ledger_to_load():
    with pytest.raises(mo.InvalidInput, match="pass load="):
        iter_outcomes(claims("holds", "later"), jobs=2)
    with pytest.raises(mo.InvalidInput, match="at least 1"):
        iter_outcomes(claims("holds"), jobs=0)


def test_expected_refutations_are_shrunk_only_if_asked():
    for everything in (True, False):
        settings = RunSettings(shrink=50, shrink_expected=everything)
        expected, surprise = iter_outcomes(claims("refuted", "surprise"), settings)
        assert (expected.found_as is not None) == everything
        assert surprise.found_as is not None
        assert surprise.counterexample.value.is_integer()


def test_backends_and_settings_reach_the_claim():
    def check(x):
        program = mo.Program("toy")
        y = program.variable("y", nonneg=True)
        program.maximize(y)
        program.add("cap", y <= x.value)
        return mo.Finding(abs(program.solve("highspy").objective - x.value))

    made = mo.Claim(
        id="toy/program", source="a toy", statement="so", instances=numbers, check=check, tolerance=1e-6
    )
    settings = RunSettings(n_instances=2, shrink=10, backends=("clarabel",))
    (outcome,) = iter_outcomes([made], settings)
    assert outcome.n_checked == 2
    assert [row.backend for row in outcome.backends] == ["clarabel"]


# ------------------------------------------------------------ time


def test_time_ends_the_instances_but_not_before_one_applies_or_fails():
    tried = []

    def late(x):
        tried.append(x)
        return mo.Finding(float(len(tried) >= 4), applies=len(tried) >= 2)

    fields = {"source": "a toy", "statement": "so", "instances": numbers, "check": late, "tolerance": 0.0}
    holds = mo.Claim(id="toy/late", **fields)
    assert mo.run_claim(holds, seconds=1e-9).n_checked == 1
    assert len(tried) == 2
    tried.clear()
    refuted = mo.Claim(id="toy/late", expected=mo.Verdict.REFUTED, corrected_by="toy/x", **fields)
    assert mo.run_claim(refuted, seconds=1e-9).verdict is mo.Verdict.REFUTED
    assert len(tried) == 4


def test_a_quick_run_takes_the_first_instances_of_the_whole_run():
    seen = {}
    for seconds in (1e-9, None):
        kept = seen.setdefault(seconds, [])
        made = mo.Claim(
            id="toy/seen",
            source="a toy",
            statement="so",
            instances=numbers,
            check=lambda x, kept=kept: kept.append(x) or mo.Finding(0.0),
            tolerance=0.0,
        )
        mo.run_claim(made, seconds=seconds)
    assert seen[1e-9] == seen[None][:1]


def test_a_quick_run_shares_its_time():
    assert quick_seconds(5) == 1.0
    assert quick_seconds(1000) == pytest.approx(QUICK_SECONDS / 1000)
    assert quick_seconds(1000, jobs=2, n_backends=3) == pytest.approx(QUICK_SECONDS / 2000)


def test_instances_that_break_end_the_claim_and_not_the_run():
    def broken(rng, n):
        yield Number(1.0)
        raise ValueError("no more")

    made = mo.Claim(
        id="toy/broken",
        source="a toy",
        statement="so",
        instances=broken,
        check=lambda x: mo.Finding(0.0),
        tolerance=0.0,
    )
    outcome = mo.run_claim(made)
    assert outcome.verdict is mo.Verdict.UNDECIDED
    assert outcome.witness.startswith("the family of instances broke on instance 1: ValueError: no more")
    assert outcome.n_checked == 1
