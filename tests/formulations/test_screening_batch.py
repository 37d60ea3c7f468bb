"""Screening contract, exact algorithm: batches of contracts, and prices of side constraints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.functions import LogGain, PiecewiseLinearGain, PowerGain, QuadraticGain
from mechopt.formulations.screening import exact
from mechopt.formulations.screening.exact import allocate, solve_exact, virtual_costs
from mechopt.formulations.screening.pricing import solve_priced
from mechopt.solvers.errors import Infeasible, InvalidInput, NotApplicable, Unbounded
from tests.oracles import extensions
from tests.oracles.screening import GAINS, make_gain, random_contract

GAIN = LogGain(weight=12, scale=1)
BOUNDS = ("budget", "payment_cap", "minimum_data")


def batch_of(kind: str, n_types: int, shape: tuple[int, ...], seed: int = 0) -> dict[str, Any]:
    """Contracts with one gain: regular, irregular, and some whose types nobody wants to serve."""
    rng = np.random.default_rng(seed)
    even = rng.uniform(size=(*shape, 1)) < 0.5
    types = np.where(
        even,
        np.linspace(0.1, 1, n_types),
        np.sort(rng.uniform(0.05, 1, (*shape, n_types)), axis=-1) + 1e-3 * np.arange(1, n_types + 1),
    )
    probs = np.where(
        ~even,
        rng.dirichlet(np.full(n_types, 0.7), shape) + 1e-3,
        np.ones(n_types),
    )
    return {
        "types": types,
        "probs": probs / probs.sum(axis=-1, keepdims=True),
        "gain": make_gain(kind, 20.0, 1.5, rng),
        "unit_cost": 10 ** rng.uniform(-1, 1.5, shape),
    }


def assert_same_as_one_by_one(batch: dict[str, Any], shape: tuple[int, ...]) -> dict[str, int]:
    menu = solve_exact(**batch)
    n_types = np.shape(batch["types"])[-1]
    types = np.broadcast_to(batch["types"], (*shape, n_types))
    probs = np.broadcast_to(batch["probs"], (*shape, n_types))
    unit_cost = np.broadcast_to(batch["unit_cost"], shape)
    assert menu.quantity.shape == menu.payment.shape == menu.rent.shape == (*shape, n_types)
    assert np.shape(menu.objective) == np.shape(menu.n_excluded) == np.shape(menu.regular) == shape
    seen = {"regular": 0, "ironed": 0, "excluded": 0}
    for index in np.ndindex(*shape):
        single = solve_exact(types[index], probs[index], batch["gain"], float(unit_cost[index]))
        for name in ("quantity", "payment", "rent"):
            one = getattr(single, name)
            np.testing.assert_allclose(getattr(menu, name)[index], one, rtol=1e-13, atol=1e-13 * one.max())
        assert menu.objective[index] == pytest.approx(single.objective, rel=1e-13, abs=1e-13)  # type: ignore[index]
        assert menu.regular[index] == single.regular  # type: ignore[index]
        assert menu.n_excluded[index] == single.n_excluded  # type: ignore[index]
        own = np.all(menu.pools[:, :-2] == index, axis=1)
        assert menu.pools[own][:, -2:].tolist() == single.pools.tolist()
        seen["regular" if single.regular else "ironed"] += 1
        seen["excluded"] += bool(single.n_excluded)
    return seen


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("kind", GAINS)
def test_batch_equals_one_contract_after_the_other(kind: str) -> None:
    seen = assert_same_as_one_by_one(batch_of(kind, 9, (80,)), (80,))
    assert min(seen["regular"], seen["ironed"]) > 5
    assert seen["excluded"] > 5 or kind == "power"


@pytest.mark.parametrize(
    ("n_types", "shape"), [(1, (5,)), (1, (1,)), (2, (3, 2)), (7, (1, 4, 2)), (40, (6,))]
)
def test_odd_shapes(n_types: int, shape: tuple[int, ...]) -> None:
    assert_same_as_one_by_one(batch_of("log", n_types, shape, seed=n_types), shape)


def test_arguments_broadcast() -> None:
    batch = batch_of("log", 6, (4, 3))
    types, probs, cost = batch["types"], batch["probs"], batch["unit_cost"]
    for change, shape in [
        ({"types": types[0, 0]}, (4, 3)),
        ({"types": types[0, 0], "probs": probs[1, 1]}, (4, 3)),
        ({"types": types[:, :1], "probs": probs[:1], "unit_cost": 0.7}, (4, 3)),
        ({"types": types[0], "unit_cost": cost[:, 1:2]}, (4, 3)),
        ({"types": types[0, 0], "probs": probs[0, 1], "unit_cost": [0.5, 2.0]}, (2,)),
        ({"types": types[0, 0], "unit_cost": cost[..., np.newaxis, :]}, (4, 4, 3)),
    ]:
        assert_same_as_one_by_one(batch | change, shape)


def test_chunks_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of("log", 6, (7, 5))
    whole = solve_exact(**batch)
    monkeypatch.setattr(exact, "_CHUNK", 20)
    parts = solve_exact(**batch)
    for name in ("quantity", "payment", "rent", "objective", "pools", "n_excluded", "regular"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_contracts_of_very_different_size_do_not_disturb_each_other() -> None:
    batch = batch_of("log", 12, (60,), seed=4)
    batch["gain"] = LogGain(1e3, 1.0)
    batch["unit_cost"] = np.where(np.arange(60) % 2, 1e-9, 1e2)
    assert_same_as_one_by_one(batch, (60,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"types": np.empty((0, 3)), "probs": np.full(3, 1 / 3)}, r"batch is empty \(shape \(0,\)\)"),
        ({"types": np.empty((2, 0)), "probs": np.empty((2, 0))}, "types is empty"),
        ({"types": np.empty(0), "probs": np.empty(0)}, "types is empty"),
        ({"types": 1.0}, "need an axis of types"),
        ({"probs": [0.5, 0.5]}, "probs has 2 entries a contract for 3 types"),
        ({"types": np.ones((2, 3)), "probs": np.ones((4, 3))}, "must broadcast"),
        ({"types": np.ones((2, 3)), "unit_cost": np.ones(3)}, "must broadcast"),
        ({"unit_cost": np.empty(0)}, "batch is empty"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    contract = {"types": [1.0, 1.8, 1.9], "probs": [1 / 3] * 3, "gain": GAIN, "unit_cost": 1.0}
    with pytest.raises(InvalidInput, match=message):
        solve_exact(**contract | change)


def test_unbounded_contract_of_a_batch() -> None:
    gain = PiecewiseLinearGain([3.0, 1.5], [0.0, 1.0], scale=1.0)
    with pytest.raises(Unbounded, match=r"type 0 \(1.0 nats, in a batch\)"):
        solve_exact([1.0, 2.0], [0.5, 0.5], gain, [[2.0, 3.0, 4.0], [3.0, 2.0, 1.0]])


def test_large_batch() -> None:
    rng = np.random.default_rng(1)
    types = np.sort(rng.uniform(0.05, 1, (20_000, 20)), axis=1) + 1e-3 * np.arange(20)
    probs = rng.dirichlet(np.full(20, 0.7), 20_000) + 1e-3
    probs /= probs.sum(axis=1, keepdims=True)
    menu = solve_exact(types, probs, GAIN, 1.0)
    assert np.all(np.diff(menu.quantity, axis=1) <= 0)
    for i in range(0, 20_000, 997):
        single = solve_exact(types[i], probs[i], GAIN, 1.0)
        np.testing.assert_allclose(menu.quantity[i], single.quantity, rtol=1e-13)
    start, stop = menu.pools[:, 1], menu.pools[:, 2]
    assert np.all(stop - start > 1)
    assert np.all(menu.quantity[menu.pools[:, 0], start] == menu.quantity[menu.pools[:, 0], stop - 1])


def test_a_type_may_want_without_end_what_its_predecessors_prevent() -> None:
    types, probs = np.array([0.5, 0.6, 0.9]), np.array([0.3, 0.3, 0.4])
    cost = np.array([0.6, -0.1, 0.8])
    quantity, pools, regular = allocate(types, probs, GAIN, cost)
    assert (pools.tolist(), regular) == ([[0, 2]], False)
    mass = (probs * types)[:2]
    assert mass @ GAIN.derivative(types[:2] * quantity[0]) == pytest.approx(0.5, rel=1e-13)
    batch, _, _ = allocate(types, probs, GAIN, np.stack((cost, abs(cost), cost)))
    np.testing.assert_allclose(batch[[0, 2]], np.stack((quantity, quantity)), rtol=1e-13)
    with pytest.raises(Unbounded):
        allocate(types, probs, GAIN, np.array([0.6, -0.7, 0.8]))


# ---------------------------------------------------------------- least quantities


@pytest.mark.parametrize("kind", ["log", "quadratic", "power"])
def test_least_quantities_against_a_conic_solver(kind: str) -> None:
    rng = np.random.default_rng(8)
    clipped = 0
    for _ in range(6):
        instance = random_contract(rng, kind, n_types=6)
        base = solve_exact(**instance)
        least = base.quantity.max() * rng.uniform(0, 1.2, 6) * (rng.uniform(size=6) < 0.5)
        menu, prices = solve_priced(**instance, minimum_quantity=least)
        answer = conic(instance, minimum_quantity=least)
        assert menu.objective == pytest.approx(answer.objective, abs=1e-6 * size_of(instance, menu))
        assert np.all(menu.quantity >= least)
        step = 1e-6 * menu.quantity[0]
        for k in np.flatnonzero(prices["minimum_quantity"]):
            more = solve_priced(**instance, minimum_quantity=least + step * (np.arange(6) == k))[0]
            slope = (more.objective - menu.objective) / step
            assert prices["minimum_quantity"][k] == pytest.approx(slope, rel=1e-3)  # type: ignore[index]
        floor = np.maximum.accumulate(least[::-1])[::-1]
        clipped += np.allclose(menu.quantity, np.maximum(base.quantity, floor), rtol=1e-9)
    # Clipping the menu without bounds is right only if no pool straddles different bounds.
    assert clipped < 6


def test_clipping_at_least_quantities_is_not_optimal() -> None:
    types, probs, gain = np.array([1.0, 1.8, 1.9]), np.full(3, 1 / 3), LogGain(50, 2)
    base = solve_exact(types, probs, gain, 1.0)
    least = np.array([0.0, 22.5, 0.0])
    menu, prices = solve_priced(types, probs, gain, 1.0, minimum_quantity=least)
    # Type 2 alone would take 23.5 and was held down by type 1.
    np.testing.assert_allclose(menu.quantity, [49.5, 22.5, 22.5], rtol=1e-12)
    np.testing.assert_allclose(np.maximum(base.quantity, least)[2], 21.00613, rtol=1e-6)
    assert prices["minimum_quantity"][1] < 0 == prices["minimum_quantity"][0]  # type: ignore[index]


# ---------------------------------------------------------------- prices


def conic(instance: dict[str, Any], **bounds: Any) -> mo.Solution:
    contract = mo.ScreeningContract(**instance)
    program = contract.program("local")
    if "budget" in bounds:
        program.add("budget", program["expected_payment"] <= bounds["budget"])
    if "payment_cap" in bounds:
        program.add("payment_cap", program["payment"][0] <= bounds["payment_cap"])
    if "minimum_data" in bounds:
        program.add("minimum_data", contract.probs @ program["quantity"] >= bounds["minimum_data"])
    if "minimum_quantity" in bounds:
        program.add("minimum_quantity", program["quantity"] >= bounds["minimum_quantity"])
    return program.solve("clarabel", tolerance=1e-8, on_failure="return")


def size_of(instance: dict[str, Any], menu: exact.ExactMenu) -> float:
    return float(abs(menu.objective) + instance["probs"] @ menu.payment)


def left_sides(instance: dict[str, Any], menu: exact.ExactMenu) -> dict[str, float]:
    probs = instance["probs"]
    return {
        "budget": float(probs @ menu.payment),
        "payment_cap": float(menu.payment.max()),
        "minimum_data": float(probs @ menu.quantity),
    }


def binding_bounds(instance: dict[str, Any], rng: np.random.Generator) -> dict[str, float]:
    base = left_sides(instance, solve_exact(**instance))
    return {
        "budget": base["budget"] * rng.uniform(0.5, 0.9),
        "payment_cap": base["payment_cap"] * rng.uniform(0.5, 0.9),
        "minimum_data": base["minimum_data"] * rng.uniform(0.8, 1.3),
    }


def instances(kind: str, number: int, seed: int = 1) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    drawn: list[dict[str, Any]] = []
    while len(drawn) < number:
        instance = random_contract(rng, kind, n_types=int(rng.integers(2, 8)))
        if solve_exact(**instance).quantity[0] > 0:
            drawn.append(instance)
    return drawn


@pytest.mark.parametrize("kind", ["log", "power", "saturating", "quadratic"])
@pytest.mark.parametrize("name", BOUNDS)
def test_one_bound_against_bisection(kind: str, name: str) -> None:
    oracle = getattr(extensions, f"with_{name}")
    for number, instance in enumerate(instances(kind, 4)):
        base = left_sides(instance, solve_exact(**instance))[name]
        bound = base * ((1.05 + 0.1 * number) if name == "minimum_data" else (0.4 + 0.15 * number))
        if kind == "quadratic" and name == "minimum_data":
            bound = base * 1.0001  # beyond the top of the gain the oracle has no answer
        menu, prices = solve_priced(**instance, **{name: bound})
        price, quantity, value = oracle(instance, bound)
        np.testing.assert_allclose(menu.quantity, quantity, rtol=1e-8, atol=1e-8 * quantity[0])
        assert menu.objective == pytest.approx(value, rel=1e-9)
        assert prices[name] == pytest.approx(price, rel=1e-7)
        assert left_sides(instance, menu)[name] == pytest.approx(bound, rel=1e-12)


@pytest.mark.parametrize("kind", GAINS)
@pytest.mark.parametrize(
    "names", [BOUNDS[:1], BOUNDS[1:2], BOUNDS[2:], BOUNDS[:2], BOUNDS[::2], BOUNDS[1:], BOUNDS], ids="+".join
)
def test_bounds_against_a_conic_solver(kind: str, names: tuple[str, ...]) -> None:
    rng = np.random.default_rng(3)
    solved = 0
    for instance in instances(kind, 2):
        if kind == "piecewise":
            # Prices nest through many jumps; few types keep the test short.
            instance = random_contract(np.random.default_rng(9), kind, n_types=3)
        bounds = {name: bound for name, bound in binding_bounds(instance, rng).items() if name in names}
        answer = conic(instance, **bounds)
        try:
            menu, prices = solve_priced(**instance, **bounds)
        except Infeasible:
            assert not answer.status.ok
            continue
        solved += 1
        assert menu.objective == pytest.approx(answer.objective, abs=1e-6 * size_of(instance, menu))
        sides = left_sides(instance, menu)
        for name, bound in bounds.items():
            slack = (sides[name] - bound) * (1 if name == "minimum_data" else -1)
            assert slack >= -1e-12 * bound
            assert prices[name] == 0 or abs(slack) <= 1e-12 * bound
            assert prices[name] <= 0 if name == "minimum_data" else prices[name] >= 0
            if kind != "piecewise":
                size = size_of(instance, menu) / bound
                price = float(np.sum(answer.dual(name)))
                assert prices[name] == pytest.approx(price, rel=1e-3, abs=1e-5 * size)
        audit = mo.ScreeningContract(**instance).audit({"quantity": menu.quantity, "payment": menu.payment})
        assert audit.ok(1e-10)
    assert solved or len(names) > 1


@pytest.mark.parametrize(
    "names", [BOUNDS[:1], BOUNDS[1:2], BOUNDS[2:], BOUNDS[:2], BOUNDS[::2]], ids="+".join
)
def test_prices_are_derivatives_of_the_value(names: tuple[str, ...]) -> None:
    rng = np.random.default_rng(6)
    for instance in instances("log", 3, seed=2):
        bounds = {name: bound for name, bound in binding_bounds(instance, rng).items() if name in names}
        if "minimum_data" in bounds and len(names) == 2:
            bounds["minimum_data"] = (
                0.9
                * left_sides(instance, solve_priced(**instance, budget=bounds["budget"])[0])["minimum_data"]
            )
        _, prices = solve_priced(**instance, **bounds)
        for name, bound in bounds.items():
            step = 1e-4 * bound
            more, less = (
                solve_priced(**instance, **bounds | {name: bound + move})[0].objective
                for move in (step, -step)
            )
            slope = (float(more) - float(less)) / (2 * step)
            assert prices[name] == pytest.approx(slope, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("name", BOUNDS)
def test_value_and_price_are_monotone_in_the_bound(name: str) -> None:
    for instance in instances("log", 3, seed=5):
        base = solve_exact(**instance)
        start = left_sides(instance, base)[name]
        factors = np.linspace(0.2, 1.6, 8)
        answers = [solve_priced(**instance, **{name: factor * start}) for factor in factors]
        values = np.array([menu.objective for menu, _ in answers])
        prices = np.array([price[name] for _, price in answers])
        rounding = 1e-12 * size_of(instance, base)
        sign = -1 if name == "minimum_data" else 1
        assert np.all(sign * np.diff(values) >= -rounding)
        assert np.all(np.diff(prices) <= 1e-9 * abs(prices).max())


@pytest.mark.parametrize("kind", GAINS)
def test_slack_bounds_change_nothing_and_cost_nothing(kind: str) -> None:
    for instance in instances(kind, 5):
        base = solve_exact(**instance)
        sides = left_sides(instance, base)
        menu, prices = solve_priced(
            **instance,
            budget=1.1 * sides["budget"],
            payment_cap=1.1 * sides["payment_cap"],
            minimum_data=0.9 * sides["minimum_data"],
            minimum_quantity=0.9 * base.quantity,
        )
        np.testing.assert_allclose(menu.quantity, base.quantity, rtol=1e-14)
        assert menu.pools.tolist() == base.pools.tolist()
        assert (menu.regular, menu.n_excluded) == (base.regular, base.n_excluded)
        assert menu.objective == pytest.approx(base.objective, rel=1e-13)
        assert [prices[name] for name in BOUNDS] == [0.0, 0.0, 0.0]
        assert not np.any(prices["minimum_quantity"])
        assert solve_priced(**instance)[1] == {}


def test_data_beyond_the_top_of_the_gain_come_from_the_cheapest_type() -> None:
    types, probs = np.array([0.5, 1.0]), np.array([0.4, 0.6])
    for gain in (QuadraticGain(4.0, 1.0, 1.0), PiecewiseLinearGain([4, 0], [0, 8], 1.0)):
        base = solve_exact(types, probs, gain, 1.0)
        menu, prices = solve_priced(types, probs, gain, 1.0, minimum_data=40.0)
        assert float(probs @ menu.quantity) == pytest.approx(40, rel=1e-14)
        assert menu.quantity[0] > base.quantity[0]
        assert prices["minimum_data"] == pytest.approx(-0.5, rel=1e-12)
        answer = conic({"types": types, "probs": probs, "gain": gain, "unit_cost": 1.0}, minimum_data=40.0)
        assert menu.objective == pytest.approx(answer.objective, rel=1e-6)


def test_budget_of_nothing() -> None:
    menu, prices = solve_priced([0.5, 1.0], [0.4, 0.6], GAIN, 1.0, budget=0.0)
    assert not menu.quantity.any()
    # The first record of type 0 gains 12 per unit of x and costs 1: eleven more per unit of money.
    assert prices["budget"] == pytest.approx(11, rel=1e-6)
    with pytest.raises(NotApplicable, match="unlimited price"):
        solve_priced([0.5, 1.0], [0.4, 0.6], PowerGain(1.0, 1.0, 0.5), 1.0, payment_cap=0.0)


def test_bounds_that_exclude_each_other_are_named() -> None:
    types, probs = np.array([0.5, 1.0]), np.array([0.4, 0.6])
    # The least that 10 records cost is 0.5 each, all from type 0, who then gets 12.5.
    cases: list[tuple[dict[str, Any], set[str]]] = [
        ({"budget": 4.99, "minimum_data": 10.0}, {"budget", "minimum_data"}),
        ({"payment_cap": 9.99, "minimum_data": 10.0}, {"payment_cap", "minimum_data"}),
        ({"budget": 5.01, "payment_cap": 10.01, "minimum_data": 10.0}, set(BOUNDS)),
        ({"budget": 1.0, "minimum_quantity": 5.0}, {"budget", "minimum_quantity"}),
        ({"payment_cap": 1.0, "budget": 9.0, "minimum_quantity": 5.0}, {"payment_cap", "minimum_quantity"}),
        ({"payment_cap": 11.0, "minimum_data": 9.8, "minimum_quantity": [12.0, 0.0]}, set()),
    ]
    for bounds, families in cases:
        if families:
            with pytest.raises(Infeasible) as caught:
                solve_priced(types, probs, GAIN, 1.0, **bounds)
            assert set(caught.value.families) == families
            assert all(name in str(caught.value) for name in families)
        else:
            solve_priced(types, probs, GAIN, 1.0, **bounds)
    solve_priced(types, probs, GAIN, 1.0, budget=5.01, minimum_data=10.0)
    solve_priced(types, probs, GAIN, 1.0, payment_cap=10.01, minimum_data=10.0)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"budget": -1.0}, "budget = -1.0"),
        ({"payment_cap": np.nan}, "payment_cap = nan"),
        ({"minimum_data": np.inf}, "minimum_data = inf"),
        ({"minimum_quantity": [1.0, 2.0, 3.0]}, "minimum_quantity has shape"),
        ({"minimum_quantity": [1.0, -2.0]}, "minimum_quantity = "),
    ],
)
def test_bad_bounds_are_refused(bounds: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        solve_priced([0.5, 1.0], [0.4, 0.6], GAIN, 1.0, **bounds)


def test_prices_of_many_types() -> None:
    rng = np.random.default_rng(12)
    instance = random_contract(rng, "log", n_types=5000)
    base = left_sides(instance, solve_exact(**instance))
    menu, prices = solve_priced(**instance, budget=0.7 * base["budget"])
    assert left_sides(instance, menu)["budget"] == pytest.approx(0.7 * base["budget"], rel=1e-12)
    cost = virtual_costs(instance["types"], instance["probs"], instance["unit_cost"])
    quantity, _, _ = allocate(
        instance["types"], instance["probs"], instance["gain"], (1 + float(prices["budget"])) * cost
    )
    np.testing.assert_allclose(menu.quantity, quantity, rtol=1e-10, atol=1e-10 * quantity[0])
