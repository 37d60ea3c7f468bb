"""Which backend answers, who is refused and what the refusal says."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt import Answer, Backend, Capability, Program, Settings, Status
from mechopt.solvers import all_backends, available_backends, capable_backends, get_backend
from mechopt.solvers import backend as module
from tests.solvers.zoo import CASES

Register = Callable[[Backend], Backend]


class Stub(Backend):
    """A third party's backend that knows the answer of one program."""

    name = "stub"
    capabilities = frozenset({Capability.LP})
    install = "pip install stub"

    def __init__(self, **changes: Any) -> None:
        vars(self).update(changes)
        self.seen: list[Settings] = []

    def solve(self, program: Program, settings: Settings) -> Answer:
        self.seen.append(settings)
        variables = program.cvxpy_variables().values()
        return Answer(Status.OPTIMAL, "stub", primal={v.id: np.zeros(v.shape) for v in variables})


class Absent(Stub):
    name = "absent"
    modules = ("no_such_module_anywhere",)
    install = "pip install no-such-module"


def tiny() -> Program:
    program = Program("tiny")
    x = program.variable("x", nonneg=True)
    program.minimize(x)
    return program.add("cap", x <= 1)


# ------------------------------------------------------------------------------------------------- default


@pytest.mark.parametrize("case", CASES.values(), ids=str)
def test_the_default_is_the_capable_backend_of_least_rank(case: Any) -> None:
    program = case.build()
    ranked = [
        (b.rank_for(program), b.name)
        for b in all_backends()
        if b.available() is None and not b.lacks(program) and b.rank_for(program) is not None
    ]
    if not ranked:
        with pytest.raises(mo.MissingCapability):
            program.solve()
        return
    solution = program.solve(on_failure="return", time_limit=30.0)
    assert solution.backend == min(ranked)[1]


DEFAULTS = {
    "lp_max": "highspy",
    "milp_small": "highspy",
    "qp_min": "clarabel",
    "exp_log": "clarabel",
    "soc_max": "clarabel",
    "sdp_max": "clarabel",
    "mi_exp": "outer",
    "oracle_log": "outer",
}


@pytest.mark.parametrize(("name", "expected"), DEFAULTS.items())
def test_defaults_are_written_down(name: str, expected: str) -> None:
    """A default never changes quietly: whoever changes one changes this table."""
    if get_backend_or_none(expected) is None:
        pytest.skip(f"{expected} is not installed")
    assert CASES[name].build().solve().backend == expected


def get_backend_or_none(name: str) -> Backend | None:
    try:
        return get_backend(name)
    except mo.BackendUnavailable:
        return None


def test_an_exact_algorithm_comes_first_while_the_program_is_as_declared() -> None:
    class Zero:
        def refuses(self, program: Program, changes: Any) -> tuple[str, ...]:
            return changes.added + changes.dropped + (("objective",) if changes.objective else ())

        def __call__(self, program: Program, changes: Any, settings: Settings) -> mo.ExactAnswer:
            return mo.ExactAnswer({"x": 0.0})

    program = tiny().seal(Zero())
    assert program.solve().backend == "exact"
    program.add("floor", program["x"] >= 0.5)
    with pytest.raises(mo.MissingCapability, match="a way to price family 'floor'"):
        program.solve("exact")
    assert program.solve().backend != "exact"
    program.drop("floor").maximize(program.objective)
    with pytest.raises(mo.MissingCapability, match="changed objective"):
        program.solve("exact")
    assert program.solve().objective == pytest.approx(1.0)


# ------------------------------------------------------------------------------------------------- refusal


def test_refusal_names_the_missing_capability_and_who_has_it() -> None:
    program = CASES["exp_log"].build()
    with pytest.raises(mo.MissingCapability) as caught:
        program.solve("highs")
    assert caught.value.missing == ("EXP",)
    assert "clarabel" in caught.value.alternatives
    assert caught.value.alternatives == capable_backends(program)
    message = str(caught.value)
    for part in ("'highs'", "'exp_log'", "EXP", "clarabel", "scs"):
        assert part in message


def test_integers_can_be_refused_together_with_a_class_only() -> None:
    backend = get_backend("highs")
    assert backend.lacks(CASES["qp_min"].build()) == ()
    assert backend.lacks(CASES["milp_small"].build()) == ()
    assert backend.lacks(CASES["mi_qp"].build()) == ("QP with MIP",)
    with pytest.raises(mo.MissingCapability, match="QP with MIP"):
        CASES["mi_qp"].build().solve("highs")


def test_nobody_can_says_who_could(registered: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    registered(Absent(capabilities=frozenset(Capability)))
    only = {"absent": get_all()["absent"], "highs": get_all()["highs"]}
    monkeypatch.setattr(module, "_registry", only)
    with pytest.raises(mo.MissingCapability, match=r"absent .`pip install no-such-module`") as caught:
        CASES["exp_log"].build().solve()
    assert "EXP" in caught.value.missing
    with pytest.raises(mo.MissingCapability, match="pip install no-such-module"):
        CASES["exp_log"].build().solve("highs")


def get_all() -> dict[str, Backend]:
    return {backend.name: backend for backend in all_backends()}


NEAR = [("clarable", "clarabel"), ("CLARABEL", "clarabel"), ("HIGHS", "highs")]


@pytest.mark.parametrize(("typed", "meant"), NEAR)
def test_an_unknown_name_suggests_near_ones(typed: str, meant: str) -> None:
    with pytest.raises(mo.BackendUnavailable, match=f"named '{typed}'.*did you mean.*'{meant}'") as caught:
        tiny().solve(typed)
    assert all(name in str(caught.value) for name in available_backends())


def test_an_unavailable_backend_names_the_install_command(registered: Register) -> None:
    registered(Absent())
    assert "absent" not in available_backends()
    assert "absent" not in capable_backends(tiny())
    with pytest.raises(mo.BackendUnavailable, match=r"anywhere not installed.*`pip install no-such-module`"):
        tiny().solve("absent")
    row = next(row for row in mo.backends() if row["name"] == "absent")
    assert not row["available"]
    assert "no_such_module_anywhere" in row["reason"]


def test_a_missing_parent_package_is_unavailable_and_no_crash(registered: Register) -> None:
    registered(Absent(modules=("no_such_module_anywhere.part",)))
    assert "not installed" in (get_all()["absent"].available() or "")


# --------------------------------------------------------------------------------------------- third parties


def test_a_third_party_backend_is_used_and_named(registered: Register) -> None:
    stub = registered(Stub())
    solution = tiny().solve("stub", time_limit=3.0, verbose=True)
    assert solution.backend == "stub"
    assert solution.status is Status.OPTIMAL
    assert (stub.seen[0].time_limit, stub.seen[0].verbose) == (3.0, True)
    assert "stub" in available_backends()
    mo.unregister("stub")
    with pytest.raises(mo.BackendUnavailable):
        tiny().solve("stub")


def test_rank_decides_the_default_and_none_keeps_out(registered: Register) -> None:
    stub = registered(Stub())
    assert tiny().solve().backend != "stub"
    stub.rank = 1
    assert tiny().solve().backend == "stub"


def test_no_silent_fallback(registered: Register) -> None:
    class Failing(Stub):
        name = "failing"
        rank = 1

        def solve(self, program: Program, settings: Settings) -> Answer:
            return Answer(Status.FAILED, "out of luck")

    registered(Failing())
    with pytest.raises(mo.SolverFailure, match="out of luck"):
        tiny().solve()
    assert tiny().solve(on_failure="return").backend == "failing"


class FakeEntry:
    """Stands in for an entry point."""

    def __init__(self, name: str, load: Callable[[], Any]) -> None:
        self.name, self.value, self.load = name, f"somewhere:{name}", load


def _not_there() -> Any:
    raise ImportError("libsomething.so is missing")


def test_a_broken_entry_point_does_not_take_others_down(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        FakeEntry("broken", _not_there),
        FakeEntry("no backend", lambda: SimpleNamespace),
        FakeEntry("misnamed", lambda: Stub),
        FakeEntry("stub", lambda: Stub),
    ]
    monkeypatch.setattr(module, "_registry", {})
    monkeypatch.setattr(module, "_scanned", False)
    monkeypatch.setattr(metadata, "entry_points", lambda group: entries)
    assert available_backends() == ("stub",)
    assert tiny().solve("stub").status is Status.OPTIMAL
    assert len(mo.backends().to_frame()) == 4
    with pytest.raises(mo.BackendUnavailable, match=r"libsomething\.so is missing"):
        tiny().solve("broken")
    with pytest.raises(mo.BackendUnavailable, match="not a Backend named 'no backend'"):
        tiny().solve("no backend")
    with pytest.raises(mo.BackendUnavailable, match="not a Backend named 'misnamed'"):
        tiny().solve("misnamed")


# ------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("name", [b.name for b in all_backends() if b.name != "exact"])
def test_an_unknown_option_is_an_error(name: str) -> None:
    backend = get_all()[name]
    if backend.available() is not None:
        pytest.skip(f"{name}: {backend.available()}")
    case = next(c for c in CASES.values() if c.value is not None and not backend.lacks(c.build()))
    with pytest.raises(mo.InvalidInput, match="no_such_option"):
        case.build().solve(name, no_such_option=1)


def test_options_reach_the_solver() -> None:
    starved = tiny().solve("clarabel", max_iter=1, on_failure="return")
    assert not starved.status.ok
    assert starved.options == {"max_iter": 1}


def test_the_table_of_backends_is_complete() -> None:
    table = mo.backends()
    assert {row["name"] for row in table} == {backend.name for backend in all_backends()}
    assert all(row["takes"] for row in table)
    assert all(name in repr(table) for name in available_backends())


@pytest.mark.parametrize("name", available_backends())
def test_solving_prints_nothing_unless_asked(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    backend = get_backend(name)
    case = next((c for c in CASES.values() if c.value is not None and not backend.lacks(c.build())), None)
    if case is None:
        pytest.skip("takes only programs with an exact algorithm of their own")
    case.build().solve(name)
    assert capfd.readouterr().out == ""


def test_cvxpy_itself_agrees_on_the_default_route() -> None:
    """The declaration is plain CVXPY: its own solve gives the same value."""
    program = CASES["soc_min"].build()
    value = program.problem.solve(solver=cp.CLARABEL)
    assert program.physical(value) == pytest.approx(program.solve().objective, abs=1e-6)


@pytest.mark.parametrize("name", ["clarabel", "scs", "osqp", "highs", "scipy", "outer"])
def test_a_limit_that_compiling_uses_up_starts_no_solver(name: str) -> None:
    program = mo.Program("late")
    x = program.variable("x", 3, nonneg=True)
    program.maximize(cp.sum(x)).add("cap", x <= 1)
    solution = program.solve(name, time_limit=1e-9, on_failure="return")
    assert solution.status is mo.Status.LIMIT
    assert not solution.values
    assert solution.seconds["compile"] > 0
