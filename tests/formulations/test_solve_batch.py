"""Many mechanisms in one call: each answer is what the mechanism's own solve says."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations import batch
from mechopt.formulations.batch import solve_batch
from mechopt.formulations.functions import (
    ConvexCost,
    GeneralizationBound,
    LogGain,
    PiecewiseLinearGain,
    PowerCost,
    PowerGain,
    PowerLawAccuracy,
    QuadraticCost,
    QuadraticGain,
    SaturatingGain,
    SqrtAccuracy,
)
from mechopt.formulations.functions.stacked import family, spread, stack, take

Rng = np.random.Generator

GAINS: dict[str, Callable[[Rng], Any]] = {
    "log": lambda rng: LogGain(rng.uniform(5, 50), rng.uniform(0.5, 3)),
    "power": lambda rng: PowerGain(rng.uniform(5, 50), rng.uniform(0.5, 3), 0.3),
    "root": lambda rng: PowerGain(rng.uniform(5, 50), rng.uniform(0.5, 3), 0.5),
    "saturating": lambda rng: SaturatingGain(rng.uniform(5, 50), rng.uniform(0.5, 3)),
    "quadratic": lambda rng: QuadraticGain(rng.uniform(5, 50), rng.uniform(0.5, 3), rng.uniform(0.5, 2)),
    "linear pieces": lambda rng: PiecewiseLinearGain([8, 4, 0], [0, 4, 10], 1.0),
}
COSTS: dict[str, Callable[[Rng], ConvexCost]] = {
    "square": lambda rng: PowerCost(2.0, rng.uniform(0.1, 1)),
    "quadratic": lambda rng: QuadraticCost(rng.uniform(0.5, 2), rng.uniform(0.1, 1)),
}


def contract(rng: Rng, gain: Any, cost_curve: Any = None, n_types: int = 5) -> mo.ScreeningContract:
    """Most of these have to be ironed, and some exclude types."""
    types = np.sort(rng.uniform(0.05, 1, n_types)) + 1e-3 * np.arange(n_types)
    probs = rng.dirichlet(np.full(n_types, 0.7)) + 1e-3
    cost = 10 ** rng.uniform(-1, 1)
    return mo.ScreeningContract(types, probs / probs.sum(), gain, cost, cost_curve)


def contracts(kind: str, n: int, **options: Any) -> list[mo.ScreeningContract]:
    rng = np.random.default_rng(len(kind))
    return [contract(rng, GAINS[kind](rng), **options) for _ in range(n)]


def game(rng: Rng, accuracy: Any, n_agents: int = 4) -> mo.AccuracyShaping:
    """Agents that are viable alone, or some of them, or only together, or not at all."""
    level = accuracy.viability_cost * rng.uniform(0.3, 2.0 * n_agents)
    costs = level * rng.uniform(0.6, 1.4, n_agents)
    return mo.AccuracyShaping(accuracy, costs, seed_data=float(rng.choice([0.0, 2.0])))


@pytest.fixture
def only_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is solved alone is a mistake."""

    def alone(mechanism: Any, settings: Any) -> Any:
        raise AssertionError(f"{mechanism} was solved alone")

    monkeypatch.setattr(batch, "_alone", alone)


def assert_same(mechanisms: Sequence[Any], found: Sequence[mo.Solution], rounding: float) -> None:
    """Equal to single solves, but for times; numbers to this part of the largest, 0 for the last bit."""
    assert len(found) == len(mechanisms)
    for mechanism, answer in zip(mechanisms, found, strict=True):
        single = mechanism.solve()
        for field in dataclasses.fields(mo.Solution):
            one, other = getattr(single, field.name), getattr(answer, field.name)
            if field.name in ("values", "duals", "residuals", "violations", "seconds"):
                assert list(one) == list(other), field.name
            elif field.name in ("objective", "bound"):
                assert other == pytest.approx(one, rel=rounding, abs=rounding)
            else:
                assert one == other, field.name
        for name, value in single.values.items():
            size = rounding * max(float(np.max(np.abs(value))), 1.0)
            np.testing.assert_allclose(answer[name], value, rtol=0, atol=size)
            assert answer[name].shape == value.shape
            assert not answer[name].flags.writeable
        for name, prices in single.duals.items():
            np.testing.assert_allclose(answer.duals[name], prices, rtol=1e4 * rounding)
        assert all(residual <= 1e-12 for residual in answer.residuals.values())


# ---------------------------------------------------------------- the same answers


@pytest.mark.parametrize("kind", GAINS)
def test_contracts_are_the_same_to_the_last_bit(kind: str, only_together: None) -> None:
    some = contracts(kind, 60)
    found = solve_batch(some)
    assert_same(some, found, 0.0)
    assert any(answer.extra["regular"] for answer in found)
    assert any(answer.extra["pools"] for answer in found)
    assert kind in ("power", "root") or any(answer.extra["n_excluded"] for answer in found)


@pytest.mark.parametrize("kind", COSTS)
def test_contracts_with_convex_costs_too(kind: str, only_together: None) -> None:
    rng = np.random.default_rng(3)
    some = [contract(rng, GAINS["log"](rng), COSTS[kind](rng)) for _ in range(12)]
    assert_same(some, solve_batch(some), 0.0)


@pytest.mark.parametrize("n_types", [1, 2, 17])
def test_few_types_and_many(n_types: int, only_together: None) -> None:
    some = contracts("log", 12, n_types=n_types)
    assert_same(some, solve_batch(some), 0.0)


@pytest.mark.parametrize("n_agents", [1, 2, 5])
@pytest.mark.parametrize("kind", ["root", "power", "bound"])
def test_games_are_the_same_but_for_the_last_digits(kind: str, n_agents: int, only_together: None) -> None:
    rng = np.random.default_rng(n_agents)
    make: dict[str, Callable[[], Any]] = {
        "root": lambda: SqrtAccuracy(rng.uniform(0.5, 1), rng.uniform(0.5, 2)),
        "power": lambda: PowerLawAccuracy(rng.uniform(0.5, 2), 0.4, rng.uniform(0, 0.3)),
        "bound": lambda: GeneralizationBound(0.95, 10.0),
    }
    some = [game(rng, make[kind](), n_agents) for _ in range(40)]
    found = solve_batch(some)
    # Newton's method stops where the next step is lost in rounding; near a double root that is some digits.
    assert_same(some, found, 1e-9)
    viable = [not answer.extra["not_viable"] for answer in found]
    assert any(viable)
    assert not all(viable)
    assert any(answer["contribution"].any() for answer in found)


def test_agents_at_the_verge(only_together: None) -> None:
    """Costs at the viability cost exactly, alone and together: a double root, which has no prices."""
    accuracy = SqrtAccuracy(1.0, 1.0)
    verge = accuracy.viability_cost
    some = [
        mo.AccuracyShaping(accuracy, costs)
        for costs in ([verge, verge], [2 * verge, 2 * verge], [verge, 5 * verge], [3 * verge, 3 * verge])
    ]
    found = solve_batch(some)
    assert_same(some, found, 1e-9)
    assert found[1].duals == {}
    assert found[3].extra["not_viable"]


def test_whatever_comes_is_answered_in_its_place() -> None:
    rng = np.random.default_rng(1)
    some: list[Any] = [
        contract(rng, GAINS["log"](rng)),
        game(rng, SqrtAccuracy(1.0, 1.0)),
        mo.MeanEstimation([0.5, 1.0, np.inf]),
        contract(rng, GAINS["log"](rng), n_types=3),
        contract(rng, GAINS["root"](rng)),
        contract(rng, GAINS["log"](rng), COSTS["square"](rng)),
        contract(rng, GAINS["log"](rng)),
        contract(rng, GAINS["power"](rng)),
        game(rng, SqrtAccuracy(0.9, 2.0)),
        game(rng, PowerLawAccuracy(1.0, 0.4)),
    ]
    assert_same(some, solve_batch(some), 1e-12)
    assert_same(some, solve_batch(iter(some)), 1e-12)
    assert_same(some[:1], solve_batch(some[:1]), 0.0)
    program = some[0].program()
    assert solve_batch([some[0], program])[1].objective == pytest.approx(some[0].solve().objective)


class Halved(mo.ScreeningContract):
    """A contract that solves itself in a way of its own."""

    def solve(self, *arguments: Any, **options: Any) -> mo.Solution:
        return super().solve(*arguments, **options).replace(reason="halved")


def test_a_derived_class_keeps_its_own_solve() -> None:
    some = [Halved([0.1, 0.2], unit_cost=cost) for cost in (1.0, 2.0)]
    assert [answer.reason for answer in solve_batch(some)] == ["halved", "halved"]


def test_arguments_reach_every_solve() -> None:
    some = contracts("log", 3)
    assert {answer.tolerance for answer in solve_batch(some, tolerance=1e-4)} == {1e-4}
    conic = solve_batch(some, "clarabel", form="local")
    assert {answer.backend for answer in conic} == {"clarabel"}
    for exactly, answer in zip(solve_batch(some, "exact"), conic, strict=True):
        assert answer.objective == pytest.approx(exactly.objective, rel=1e-6, abs=1e-6)


def test_many_are_faster_together() -> None:
    some = contracts("log", 1500)
    started = time.process_time()
    found = solve_batch(some)
    together = time.process_time() - started
    started = time.process_time()
    for one in some[:50]:
        one.solve()
    alone = (time.process_time() - started) * len(some) / 50
    assert alone > 8 * together  # 50 times on an idle machine
    assert len(found) == 1500


# ---------------------------------------------------------------- failures


def endless(cost: float = 0.5) -> mo.ScreeningContract:
    """At a cost below 1 a record always pays."""
    return mo.ScreeningContract([1.0, 2.0], gain=PiecewiseLinearGain([3, 1], [0, 4], 1.0), unit_cost=cost)


def test_a_failure_is_named_by_its_index() -> None:
    some = [endless(cost) for cost in (2.0, 3.0, 0.5, 2.5, 0.25)]
    with pytest.raises(mo.Unbounded, match=r"^mechanisms\[2\]: the gain of type 0 .* grows without end"):
        solve_batch(some)
    found = solve_batch(some, on_failure="return")
    assert [str(answer.status) for answer in found] == [
        "optimal",
        "optimal",
        "unbounded",
        "optimal",
        "unbounded",
    ]
    for one, answer in zip(some, found, strict=True):
        assert answer.reason == one.solve(on_failure="return").reason


def test_one_that_fails_does_not_make_the_others_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    alone = batch._alone
    monkeypatch.setattr(batch, "_alone", lambda *arguments: calls.append(arguments) or alone(*arguments))
    some = [endless(2.0 + k) for k in range(300)]
    some[137] = endless(0.5)
    found = solve_batch(some, on_failure="return")
    assert len(calls) <= batch._FEW
    assert [k for k, answer in enumerate(found) if not answer] == [137]
    assert_same(some[:137], found[:137], 0.0)


def test_an_error_of_the_users_own_function_is_its_own() -> None:
    class Broken(LogGain):
        def inverse_derivative(self, slope: Any) -> Any:
            raise ZeroDivisionError("mine")

    some = [mo.ScreeningContract([0.1, 0.2], gain=LogGain(9.0, 1.0), unit_cost=c) for c in (1.0, 2.0)]
    some += [mo.ScreeningContract([0.1, 0.2], gain=Broken(9.0, 1.0), unit_cost=c) for c in (1.0, 2.0)]
    with pytest.raises(ZeroDivisionError, match="mine"):
        solve_batch(some)


@pytest.mark.parametrize(
    ("mechanisms", "options", "words"),
    [
        ([], {}, "mechanisms is empty; give at least one"),
        ([endless(2.0), {"types": [1.0]}], {}, r"mechanisms\[1\] must be a mechanism .* got dict"),
        (
            [endless(2.0), endless(3.0)],
            {"tolerance": -1.0},
            r"mechanisms\[0\]: tolerance must lie in \(0, 1\)",
        ),
        ([endless(2.0), endless(3.0)], {"on_failure": "shrug"}, r"mechanisms\[0\]: on_failure must be"),
        ([endless(2.0), endless(3.0)], {"speed": 9}, r"mechanisms\[0\]: backend 'exact' has no options"),
    ],
)
def test_bad_input_is_named(mechanisms: list[Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(mo.InvalidInput, match=words):
        solve_batch(mechanisms, **options)


# ---------------------------------------------------------------- stacks of functions


@pytest.mark.parametrize("kind", ["log", "power", "root", "saturating", "quadratic"])
def test_a_stack_is_each_of_its_gains(kind: str) -> None:
    rng = np.random.default_rng(5)
    gains = [GAINS[kind](rng) for _ in range(7)]
    assert len({family(gain) for gain in gains}) == 1
    x = rng.uniform(0.1, 30, (7, 3))
    whole = stack(gains)
    for name in ("__call__", "derivative", "inverse_derivative"):
        each = np.array([getattr(gain, name)(row) for gain, row in zip(gains, x, strict=True)])
        np.testing.assert_array_equal(getattr(whole, name)(x), each)
        some = take(spread(whole, x.shape), x > 5)
        np.testing.assert_array_equal(getattr(some, name)(x[x > 5]), each[x > 5])
        np.testing.assert_array_equal(getattr(take(whole, slice(2, 4)), name)(x[2:4]), each[2:4])


def test_families() -> None:
    assert family(PowerGain(1, 2, 0.5)) == family(PowerGain(3, 4, 0.5)) != family(PowerGain(1, 2, 0.4))
    assert family(PiecewiseLinearGain([1], [0], 1)) == family(PiecewiseLinearGain([1], [0], 1))
    assert family(PiecewiseLinearGain([1], [0], 1)) != family(PiecewiseLinearGain([1], [0], 2))
    assert family(None) is None
    same = LogGain(1, 2)
    assert stack([same, LogGain(1, 2)]) is same
    assert take(same, [True]) is spread(same, (3,)) is same
