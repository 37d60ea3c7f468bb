"""Laws that hold across the wings, on instances that hypothesis draws.

Each law is one test, for every wing that has it; where a law does not hold, the wing says why. What a wing
provides is in the module of its paper, beside this one; `laws.py` says what that must be, and the tolerances.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mechopt as mo
from tests.properties import accuracy, contracts, externality, fair, laws, sharing
from tests.properties.laws import Bounded, Expected, Wing

WINGS: tuple[Wing, ...] = (
    *contracts.WINGS,
    *accuracy.WINGS,
    *sharing.WINGS,
    *fair.WINGS,
    *externality.WINGS,
)

STEP = 1e-3
"""Of the bound, by which it is moved: small enough for curvature, and far above the solvers' noise."""
PRICE = 1e-4
"""Of objective over bound: the objective's noise of about 1e-8, divided by the step, with a margin."""
MATTERS = 1e-2
"""Of objective over bound: more than noise. At least one instance of a wing must have such a price."""


def for_each(law: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("wing", [w for w in WINGS if w.obeys(law)], ids=lambda wing: wing.name)


@for_each("money")
def test_money_times_ten(wing: Wing) -> None:
    """Amounts of money scale with the unit of money, and nothing else does."""
    assert wing.in_money is not None
    factor = wing.money_factor

    @laws.examples
    @given(wing.mechanisms)
    def law(mechanism: Any) -> None:
        before, after = wing.outcome(mechanism), wing.outcome(wing.in_money(mechanism, factor))
        money = max(np.max(np.abs(part.value), initial=0.0) for part in before.values() if part.money)
        for name, part in before.items():
            wanted = np.asarray(part.value, dtype=float) * (factor if part.money else 1.0)
            # What is 0 but for rounding is judged by the money that changes hands.
            size = factor * money if part.money else None
            if part.unique:
                Expected(name, after[name].value, wanted, wing.tolerance, size).check()

    law()


@for_each("permutation")
def test_agents_permuted(wing: Wing) -> None:
    """Names of agents do not matter: each gets what it had, and an answer is as good after the change."""
    assert wing.permuted is not None
    assert wing.n_agents is not None

    @laws.examples
    @given(wing.mechanisms, st.data())
    def law(mechanism: Any, data: Any) -> None:
        order = np.array(data.draw(st.permutations(range(wing.n_agents(mechanism)))))
        before, after = wing.outcome(mechanism), wing.outcome(wing.permuted(mechanism, order))
        for name, part in before.items():
            if part.unique:
                Expected(name, after[name].value, laws.reordered(part, order), wing.tolerance).check()
        if wing.worth is not None:
            back = {name: laws.reordered(part, np.argsort(order)) for name, part in after.items()}
            objective = before["objective"].value
            Expected("worth", wing.worth(mechanism, back), objective, wing.tolerance).check()

    law()


@for_each("alone")
def test_one_agent_or_type(wing: Wing) -> None:
    """With one agent, or one type, there is a formula."""
    check_expected(wing, wing.alone)


@for_each("free_data")
def test_free_data(wing: Wing) -> None:
    """Data that cost nothing are all used."""
    check_expected(wing, wing.free_data)


@for_each("limits")
def test_limits(wing: Wing) -> None:
    """In the limits of its parameters a mechanism becomes a simpler one."""
    check_expected(wing, wing.limits)


def check_expected(wing: Wing, expected: Callable[[Any], Any] | None) -> None:
    assert expected is not None
    checked = 0

    @laws.examples
    @given(wing.mechanisms)
    def law(mechanism: Any) -> None:
        nonlocal checked
        for side in expected(mechanism):
            side.check()
            checked += 1

    law()
    assert checked


@for_each("prices")
def test_price_is_the_finite_difference(wing: Wing) -> None:
    """A price lies between the slopes of the objective to both sides of the bound.

    So it does in every convex program, at kinks too, where the two slopes differ.
    """
    assert wing.bounded is not None
    seen = []

    @laws.few_examples
    @given(wing.mechanisms)
    def law(mechanism: Any) -> None:
        bounded = wing.bounded(mechanism)
        free = bounded.declare().solve(bounded.backend)
        bound = bounded.binding * bounded.value(free)
        if abs(bound) < 1e-9:
            return  # nothing to bound
        for backend in (bounded.backend, *bounded.also):
            seen.append(check_price(bounded, bound, backend))

    law()
    assert max(seen) > MATTERS


def check_price(bounded: Bounded, bound: float, backend: str) -> float:
    """Hold a price against the slopes; returns its size, relative to objective over bound."""
    step = STEP * abs(bound)
    below, here, above = (bounded.with_bound(bound + move).solve(backend) for move in (-step, 0.0, step))
    price, unit = float(here.dual("bound")), size_of(here) / abs(bound)
    slopes = sorted([(here.objective - below.objective) / step, (above.objective - here.objective) / step])
    noise = PRICE * unit
    assert slopes[0] - noise <= price <= slopes[1] + noise, (backend, price, slopes)
    # Room to a cap or a floor never hurts.
    helps = bounded.upper is (here.sense == "maximize")
    assert (price if helps else -price) >= -noise, (backend, price)
    return abs(price) / unit


@for_each("slack")
def test_slack_family_changes_nothing(wing: Wing) -> None:
    """A bound that does not bind has no price and no effect, added or dropped.

    And without any family, the objective gains no more than the family's price times its violation: nothing,
    if the price is 0.
    """
    make = wing.bounded or wing.unpriced
    assert make is not None

    few = laws.few_examples if wing.bounded is not None else laws.fewer_examples

    @few
    @given(wing.mechanisms)
    def law(mechanism: Any) -> None:
        bounded = make(mechanism)
        free = bounded.declare().solve(bounded.backend)
        value = bounded.value(free)
        loose = value + (1.0 if bounded.upper else -1.0) * max(abs(value), 1e-3)
        program = bounded.with_bound(loose)
        held = program.solve(bounded.backend)
        size = size_of(held, free)
        Expected("added", held.objective, free.objective, laws.CONIC, size).check()
        dropped = program.drop("bound").solve(bounded.backend)
        Expected("dropped", dropped.objective, free.objective, laws.CONIC, size).check()
        if wing.bounded is None:
            with pytest.raises(mo.InvalidInput, match="no shadow price"):
                held.dual("bound")
            return
        Expected("price", held.dual("bound"), 0.0, PRICE, size / max(abs(loose), 1e-3)).check()
        for family, prices in free.duals.items():
            gain_is_priced(program, family, prices, free, bounded.backend, size)

    law()


def gain_is_priced(
    program: mo.Program, family: str, prices: Any, solution: mo.Solution, backend: str, size: float
) -> None:
    terms = program.families[family]
    if any(type(term).__name__ not in ("Inequality", "Equality") for term in terms):
        return
    found = program.copy(without=(family,)).solve(backend, on_failure="return")
    if not found:
        # Without what holds payments the objective has no bound; Clarabel may be only nearly sure of that.
        assert found.status is mo.Status.UNBOUNDED or "DualInfeasible" in found.reason, found
        assert max(float(np.max(np.abs(price))) for price in prices) > 0.01
        return
    with program.values_kept():
        program.set_values(found)
        broken = sum(
            float(np.sum(np.abs(price) * term.violation())) for term, price in zip(terms, prices, strict=True)
        )
    gained = (found.objective - solution.objective) * (1.0 if solution.sense == "maximize" else -1.0)
    assert -laws.CONIC * size <= gained <= broken + laws.CONIC * size, (family, gained, broken)


def size_of(*solutions: mo.Solution) -> float:
    return max(abs(solution.objective) for solution in solutions) + 1e-9


@pytest.mark.parametrize("wing", WINGS, ids=lambda wing: wing.name)
def test_every_wing_has_each_law_or_a_reason(wing: Wing) -> None:
    for law in laws.LAWS:
        assert wing.obeys(law) != bool(wing.reasons.get(law)), law
    assert set(wing.reasons) <= set(laws.LAWS)


def test_value_of_privacy_is_no_amount_of_money() -> None:
    """It is relative to the platform's own value of 1: at ten times as much, nobody is bought from."""
    model = mo.DataExternality([[1.0, 0.4], [0.4, 1.0]], [0.5, 0.2])
    dearer = mo.DataExternality(model.covariance, 10 * model.value_of_privacy)
    assert model.monopoly().sharing.tolist() == [True, True]
    assert not dearer.monopoly().sharing.any()


SCREENING, GROUPS = contracts.WINGS


class Misread(Bounded):
    """A bound that is not the one whose price is read."""

    def with_bound(self, bound: float) -> mo.Program:
        return super().with_bound(0.9 * bound)


class Tight(Bounded):
    """A bound that binds, where it is meant not to."""

    def with_bound(self, bound: float) -> mo.Program:
        return super().with_bound(0.4 * bound)


@pytest.mark.parametrize(
    ("test", "broken"),
    [
        (test_money_times_ten, replace(SCREENING, in_money=lambda contract, factor: contract)),
        (
            test_money_times_ten,
            replace(
                SCREENING,
                in_money=lambda c, factor: mo.ScreeningContract(
                    c.types, c.probs, c.gain, c.unit_cost * factor
                ),
            ),
        ),
        (test_agents_permuted, replace(GROUPS, permuted=lambda groups, order: groups)),
        (
            test_agents_permuted,
            replace(sharing.MARKET, worth=lambda market, values: market.welfare(0 * values["adjacency"])),
        ),
        (
            test_one_agent_or_type,
            replace(
                SCREENING,
                alone=lambda c: iter([Expected("value", c.solve().objective, contracts.first_best(c)[0])]),
            ),
        ),
        (
            test_limits,
            replace(SCREENING, limits=lambda c: iter([Expected("rents", c.solve()["rent"], 0 * c.types)])),
        ),
        (
            test_price_is_the_finite_difference,
            replace(SCREENING, bounded=lambda c: Misread(lambda: c.program("local"), "expected_payment")),
        ),
        (
            test_slack_family_changes_nothing,
            replace(SCREENING, bounded=lambda c: Tight(lambda: c.program("local"), "expected_payment")),
        ),
    ],
)
def test_laws_can_fail(test: Callable[[Wing], None], broken: Wing) -> None:
    with pytest.raises(AssertionError):
        test(broken)
