"""Counterexamples on file: nothing is lost, nothing is run, and they are checked again."""

from __future__ import annotations

import enum
import json
import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.ledger import ledger
from mechopt.verification.claim import Ledger, Verdict, run_claim
from mechopt.verification.counterexample import (
    Counterexample,
    decode,
    encode,
    keepable,
    read_counterexamples,
    replay,
    write_counterexamples,
)
from mechopt.verification.evidence import confirm

OWN = frozenset({__name__})


class Side(enum.StrEnum):
    LEFT = "left"


@dataclass(frozen=True)
class Case:
    values: tuple[float, ...]
    side: Side = Side.LEFT
    extra: object = None
    total: float = field(init=False, default=0.0)

    def __post_init__(self):
        object.__setattr__(self, "total", sum(self.values))


PLAIN = [
    None,
    True,
    3,
    -(10**30),
    0.1,
    1e-300,
    math.inf,
    "text",
    (1, (2.0, ())),
    [1, [2]],
    {"a": 1, (1, 2): "b"},
    {1, 2},
    frozenset({(1, 2), (3,)}),
    Fraction(-22, 7),
    Side.LEFT,
    mo.Verdict.REFUTED,
    mo.LogGain(weight=3.5, scale=0.1),
    Case((1.0, 2.0), extra=mo.PowerGain(weight=1, scale=1, exponent=0.5)),
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_what_is_written_is_read_back(value):
    again = decode(json.loads(json.dumps(encode(value), allow_nan=False)), OWN)
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(2, 3), np.array([1, 2]), np.array([True]), np.zeros((0, 3)), np.array([np.inf])],
    ids=str,
)
def test_arrays_keep_shape_and_kind(array):
    again = decode(json.loads(json.dumps(encode(array), allow_nan=False)))
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array, strict=True)


def test_numpy_scalars_and_nan():
    again = decode(encode(np.float64(0.1)))
    assert (again, type(again)) == (0.1, np.float64)
    assert math.isnan(decode(json.loads(json.dumps(encode(math.nan), allow_nan=False))))


def test_every_worked_instance_of_the_wings_travels():
    """The instances of each claim that is expected to be refuted come back equal."""
    checked = 0
    for claim in ledger():
        if claim.expected is not mo.Verdict.REFUTED or claim.id.split("/")[0] not in (
            "contract",
            "accuracy-shaping",
        ):
            continue
        instance = next(iter(claim.instances(np.random.default_rng(0), claim.n_instances)))
        assert decode(json.loads(json.dumps(encode(instance)))) == instance
        checked += 1
    assert checked >= 20


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((1, lambda x: x), r"instance\[1\] is of type function"),
        (Case((1.0,), extra=object()), r"instance.extra is of type object"),
        ({"a": 1j}, r"instance\['a'\] is of type complex"),
        (np.array(["x"]), "ndarray"),
    ],
)
def test_what_cannot_be_written_is_named(value, words):
    with pytest.raises(mo.InvalidInput, match=words):
        encode(value)


def test_a_class_inside_a_function_cannot_be_found_again():
    @dataclass(frozen=True)
    class Local:
        value: float

    with pytest.raises(mo.InvalidInput, match="a class inside a function"):
        encode(Local(1.0))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"record": "os:system", "fields": {"command": "true"}}, "only classes of mechopt"),
        ({"record": "subprocess:Popen", "fields": {"args": "true"}}, "only classes of mechopt"),
        # A module of ours that has imported something dangerous does not lend it.
        ({"record": "mechopt.cli:Path", "fields": {}}, "is no class of 'mechopt.cli'"),
        ({"record": "mechopt.verification.claim:run_claim", "fields": {}}, "is no class"),
        ({"record": "mechopt.nothing:Case", "fields": {}}, "there is no"),
        ({"record": "mechopt.solvers.program:Program", "fields": {}}, "is no dataclass"),
        ({"enum": "mechopt.verification.claim:Claim", "name": "x"}, "is no enumeration"),
        (
            {"record": "mechopt.formulations.functions.gains:LogGain", "fields": {"weight": -1, "scale": 1}},
            "weight",
        ),
        ({"record": "mechopt.formulations.functions.gains:LogGain", "fields": {"wait": 1}}, "TypeError"),
        ({"array": ["a"], "shape": [1], "dtype": "O"}, "arrays of 'O'"),
        ({"fraction": "1/0"}, "ZeroDivisionError"),
        ({"strange": 1}, "no such kind of value"),
    ],
)
def test_a_file_cannot_make_anything_else(content, words):
    with pytest.raises(mo.InvalidInput, match=words):
        decode(content)


# ------------------------------------------------------------ files


def cases(rng, n):
    for _ in range(n):
        yield Case(tuple(float(x) for x in rng.uniform(1, 9, 4)))


def toy(check, **fields):
    made = Ledger()
    made.add(
        mo.Claim(
            id="toy/R1",
            source="a toy",
            statement="so it is",
            instances=cases,
            check=check,
            tolerance=1e-9,
            n_instances=5,
            **fields,
        )
    )
    return made


def too_large(case):
    return mo.Finding(case.total - 10, f"total {case.total}")


def too_large_exactly(case):
    return sum(map(Fraction, case.values)) - 10


def write(path: Path, made: Ledger, **options) -> Counterexample:
    outcome = run_claim(made.claims["toy/R1"], **options)
    found = Counterexample.of(outcome, seed=options.get("seed", 0))
    assert write_counterexamples(path, [found]) == 1
    return found


def test_a_file_is_read_and_checked_again(tmp_path):
    made = toy(too_large, confirm_exactly=too_large_exactly)
    found = write(tmp_path / "f.json", made, shrink=100, seed=3)
    (again,) = read_counterexamples(tmp_path / "f.json", made)
    assert again == found
    assert (again.seed, again.version, again.tolerance) == (3, mo.__version__, 1e-9)
    assert again.found_as is not None
    result = replay(again, made)
    assert result.fails
    assert (result.gap, result.witness, result.exact_gap) == (found.gap, found.witness, found.exact_gap)
    assert str(result).startswith("toy/R1: fails, gap ")


@pytest.mark.parametrize("wing", sorted({claim.id.split("/")[0] for claim in ledger()}))
def test_every_statement_that_is_refuted_is_so_by_two_computations(wing):
    """At the first instance that fails: time is up as soon as there is one."""
    false = [claim for claim in ledger().select(wing) if claim.expected is Verdict.REFUTED]
    outcomes = [run_claim(claim, seconds=0) for claim in false]
    assert [o.claim.id for o in outcomes if not o.twice_computed] == []
    assert all(outcome.as_expected for outcome in outcomes)
    assert len(outcomes) > 5


def test_a_replay_tells_whether_a_second_computation_bears_it_out(tmp_path):
    def confirmed(case):
        confirm(sum(reversed(case.values)) > 10, "the sum from the other end is above 10")
        return too_large(case)

    def not_confirmed(case):
        confirm(sum(case.values) < 10, "the sum is below 10")
        return too_large(case)

    write(tmp_path / "f.json", toy(too_large))
    results = []
    for made in (toy(confirmed), toy(too_large, confirm_exactly=too_large_exactly), toy(too_large)):
        (found,) = read_counterexamples(tmp_path / "f.json", made)
        results.append(replay(found, made))
    assert [result.fails for result in results] == [True, True, True]
    assert [result.twice_computed for result in results] == [True, True, False]
    assert "confirmed: the sum from the other end is above 10" in str(results[0])
    assert "in rationals" in str(results[1])
    assert "fails, with no second computation" in str(results[2])
    result = replay(found, toy(not_confirmed))
    assert (result.fails, result.twice_computed) == (False, False)
    assert "could not be judged" in str(result)
    assert "not confirmed: the sum is below 10" in str(result)


def test_a_corrected_statement_no_longer_fails(tmp_path):
    write(tmp_path / "f.json", toy(too_large))
    corrected = toy(lambda case: mo.Finding(0.0, "right now"))
    (again,) = read_counterexamples(tmp_path / "f.json", corrected)
    result = replay(again, corrected)
    assert not result.fails
    assert "no longer fails" in str(result)


def test_a_check_that_breaks_or_does_not_apply_does_not_fail(tmp_path):
    write(tmp_path / "f.json", toy(too_large))
    for check, words in (
        (lambda case: 1 / 0, "the check broke: ZeroDivisionError"),
        (lambda case: mo.Finding(9.0, "no", applies=False), "outside the hypotheses"),
    ):
        changed = toy(check)
        result = replay(read_counterexamples(tmp_path / "f.json", changed)[0], changed)
        assert not result.fails
        assert words in result.witness


def test_rounding_alone_does_not_fail_on_replay(tmp_path):
    write(tmp_path / "f.json", toy(too_large))
    exact = toy(too_large, confirm_exactly=lambda case: Fraction(0))
    assert not replay(read_counterexamples(tmp_path / "f.json", exact)[0], exact).fails


def test_only_refutations_have_counterexamples():
    outcome = run_claim(toy(lambda case: mo.Finding(0.0)).claims["toy/R1"])
    with pytest.raises(mo.InvalidInput, match="is not refuted"):
        Counterexample.of(outcome, 0)


def test_an_instance_with_a_function_is_not_keepable():
    outcome = run_claim(toy(too_large).claims["toy/R1"])
    assert keepable(outcome)
    assert not keepable(replace(outcome, counterexample=Case((1.0,), extra=len)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no JSON"),
        ("[]", "is no file of counterexamples"),
        ('{"format": "mechopt counterexamples", "format_version": 99}', "is of format 99"),
        ('{"format": "mechopt counterexamples", "format_version": 1, "counterexamples": [{}]}', "incomplete"),
        (
            '{"format": "mechopt counterexamples", "format_version": 1, '
            '"counterexamples": [{"claim": "toy/R9"}]}',
            "toy/R9: there is no such claim",
        ),
        ('{"format": "mechopt counterexamples", "format_version": 1}', "no list of counterexamples"),
        (
            '{"format": "mechopt counterexamples", "format_version": 1, "counterexamples": [1]}',
            "no list of counterexamples",
        ),
        (
            '{"format": "mechopt counterexamples", "format_version": 1, '
            '"counterexamples": [{"claim": "toy/R1", "exact_gap": 1, "instance": {"record": "os:system"}}]}',
            "f.json, toy/R1: the file names a class of 'os'",
        ),
    ],
)
def test_bad_files(tmp_path, text, words):
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(mo.InvalidInput, match=words):
        read_counterexamples(tmp_path / "f.json", toy(too_large))


def test_missing_and_unwritable_files(tmp_path):
    with pytest.raises(mo.InvalidInput, match="cannot read"):
        read_counterexamples(tmp_path / "none.json", toy(too_large))
    with pytest.raises(mo.InvalidInput, match="cannot write"):
        write_counterexamples(tmp_path / "no" / "f.json", [])
