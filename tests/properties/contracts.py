"""The laws for screening contracts, of one group and of several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

import mechopt as mo
from tests.properties import laws
from tests.properties.laws import Bounded, Expected, Outcome, Part, Wing

NEARLY_FREE = 1e-8
"""Of the steepest gain: bounded gains are then exhausted to about 1e-8 * log(1e8) of their weight."""


def gains() -> st.SearchStrategy[Any]:
    weight, scale = laws.numbers(5, 85), laws.numbers(0.5, 4.5)
    return st.one_of(
        st.builds(mo.LogGain, weight, scale),
        st.builds(mo.SaturatingGain, weight, scale),
        st.builds(mo.QuadraticGain, weight, laws.numbers(0.5, 4.5), scale),
        st.builds(mo.CappedUtility, weight, scale),
    )


@st.composite
def contracts(draw: Any, most: int = 5) -> mo.ScreeningContract:
    types = draw(laws.increasing(0.02, 0.42, most))
    gain = draw(gains())
    # Dear enough to make a choice of it, and cheap enough that the best type is served.
    cost = draw(laws.numbers(0.02, 0.62)) * float(gain.derivative(0.0))
    return mo.ScreeningContract(types, draw(laws.weights(len(types))), gain, cost)


def dearer_gain(gain: Any, factor: float) -> Any:
    if isinstance(gain, mo.QuadraticGain):
        return replace(gain, slope=gain.slope * factor, curvature=gain.curvature * factor)
    if isinstance(gain, mo.PiecewiseLinearGain):
        lines = (tuple(factor * np.array(part)) for part in (gain.slopes, gain.intercepts))
        return mo.PiecewiseLinearGain(*lines, gain.scale)
    return replace(gain, weight=gain.weight * factor)


def in_money(contract: mo.ScreeningContract, factor: float) -> mo.ScreeningContract:
    gain = dearer_gain(contract.gain, factor)
    return mo.ScreeningContract(contract.types, contract.probs, gain, contract.unit_cost * factor)


def outcome(contract: mo.ScreeningContract) -> Outcome:
    menu, unique = contract.solve(), not contract.gain.has_kinks
    return {
        "objective": Part(menu.objective, money=True),
        "quantity": Part(menu["quantity"], unique=unique),
        "payment": Part(menu["payment"], money=True, unique=unique),
        "rent": Part(menu["rent"], money=True, unique=unique),
    }


def first_best(contract: mo.ScreeningContract) -> tuple[float, float]:
    """Value and payment at known types: the best of gain less cost, whatever the type, by its formula."""
    gain, cost = contract.gain, contract.unit_cost
    if isinstance(gain, mo.LogGain):
        amount = gain.weight / cost - 1 / gain.scale
        value = gain.weight * np.log(gain.weight * gain.scale / cost)
    elif isinstance(gain, mo.SaturatingGain):
        amount = np.log(gain.weight * gain.scale / cost) / gain.scale
        value = gain.weight - cost / gain.scale
    elif isinstance(gain, mo.PiecewiseLinearGain):  # a rising line up to a level
        amount, value = gain.intercepts[1] / gain.slopes[0] / gain.scale, gain.intercepts[1]
    else:
        z = (gain.slope - cost / gain.scale) / gain.curvature
        amount, value = z / gain.scale, gain.slope * z - gain.curvature * z**2 / 2
    return float(value - cost * amount), float(cost * amount)


def alone(contract: mo.ScreeningContract) -> Iterator[Expected]:
    one = mo.ScreeningContract(contract.types[-1:], None, contract.gain, contract.unit_cost)
    menu, (value, payment) = one.solve(), first_best(one)
    size = value + payment
    yield Expected("the value of a known type", menu.objective, value, size=size)
    yield Expected("its cost is paid", menu["payment"], [payment])
    yield Expected("and no rent", menu["rent"], [0.0], size=size)


def top(gain: Any) -> float:
    """Value of unlimited data."""
    if isinstance(gain, mo.PiecewiseLinearGain):
        return gain.intercepts[-1]
    return gain.slope**2 / 2 / gain.curvature if isinstance(gain, mo.QuadraticGain) else gain.weight


def free_data(contract: mo.ScreeningContract) -> Iterator[Expected]:
    gain = contract.gain
    if isinstance(gain, mo.LogGain):
        gain = mo.SaturatingGain(gain.weight, gain.scale)  # a gain that free data exhausts
    cost = NEARLY_FREE * float(gain.derivative(0.0))
    menu = mo.ScreeningContract(contract.types, contract.probs, gain, cost).solve()
    yield Expected("all there is to gain", menu.objective, top(gain), laws.LIMIT)
    yield Expected("for nothing", menu["payment"], np.zeros(contract.n_types), laws.LIMIT, size=top(gain))


def limits(contract: mo.ScreeningContract) -> Iterator[Expected]:
    value, payment = first_best(contract)
    size = value + payment
    close = contract.types[-1] * (1 - 1e-7 * np.arange(contract.n_types)[::-1])
    alike = mo.ScreeningContract(close, contract.probs, contract.gain, contract.unit_cost).solve()
    yield Expected("types that are nearly alike are known", alike.objective, value, laws.LIMIT, size)
    yield Expected("and get no rents", alike["rent"], np.zeros(contract.n_types), laws.LIMIT, size)
    dear = 1.01 * float(contract.gain.derivative(0.0))
    none = mo.ScreeningContract(contract.types, contract.probs, contract.gain, dear).solve()
    yield Expected("nothing is bought above the steepest gain", none["quantity"], np.zeros(contract.n_types))
    yield Expected("for nothing", none.objective, 0.0)
    rare = np.append(1.0, np.full(contract.n_types - 1, 1e-9))
    likely = mo.ScreeningContract(contract.types, rare / rare.sum(), contract.gain, contract.unit_cost)
    yield Expected("the likely type is as if known", likely.solve().objective, value, laws.LIMIT, size)


def bounded(contract: mo.ScreeningContract) -> Bounded:
    return Bounded(lambda: contract.program("local"), "expected_payment", also=("exact",))


SCREENING = Wing(
    "ScreeningContract",
    contracts(),
    outcome,
    in_money=in_money,
    alone=alone,
    free_data=free_data,
    limits=limits,
    bounded=bounded,
    reasons={"permutation": "types are in increasing order by definition, and there are no other agents"},
)


# ------------------------------------------------------------ groups


@st.composite
def groups(draw: Any) -> mo.ContractGroups:
    names = ["clinics", "labs", "apps"][: draw(st.integers(1, 3))]
    return mo.ContractGroups(
        {name: draw(contracts(most=3)) for name in names},
        {name: draw(st.integers(1, 9)) for name in names},
    )


def groups_in_money(many: mo.ContractGroups, factor: float) -> mo.ContractGroups:
    dearer = {name: in_money(contract, factor) for name, contract in many.contracts.items()}
    return mo.ContractGroups(dearer, many.n_holders)


def groups_permuted(many: mo.ContractGroups, order: laws.Order) -> mo.ContractGroups:
    names = [list(many.contracts)[i] for i in order]
    return mo.ContractGroups(
        {name: many.contracts[name] for name in names}, {name: many.n_holders[name] for name in names}
    )


def groups_outcome(many: mo.ContractGroups) -> Outcome:
    menus = many.solve()
    parts = {"objective": Part(menus.objective, money=True)}
    # Where a gain has kinks, several quantities may be equally good.
    for name in sorted(many.contracts):
        unique = not many.contracts[name].gain.has_kinks
        parts[f"{name}.quantity"] = Part(menus[f"{name}.quantity"], unique=unique)
        parts[f"{name}.payment"] = Part(menus[f"{name}.payment"], money=True, unique=unique)
    by_group = [menus[f"{name}.payment"][0] for name in many.contracts]
    smooth = not any(contract.gain.has_kinks for contract in many.contracts.values())
    return {**parts, "first payment": Part(by_group, money=True, axes=1, unique=smooth)}


def groups_alone(many: mo.ContractGroups) -> Iterator[Expected]:
    name, contract = next(iter(many.contracts.items()))
    one, menu = mo.ContractGroups({name: contract}, {name: 1}).solve(), contract.solve()
    yield Expected("one holder's contract", one.objective, menu.objective)
    yield Expected("its payments", one[f"{name}.payment"], menu["payment"])


def groups_free(many: mo.ContractGroups) -> Iterator[Expected]:
    cheap, wanted = {}, 0.0
    for name, contract in many.contracts.items():
        gain = mo.SaturatingGain(20.0, 1.5)
        cheap[name] = mo.ScreeningContract(contract.types, contract.probs, gain, NEARLY_FREE * 30.0)
        wanted += many.n_holders[name] * gain.weight
    menus = mo.ContractGroups(cheap, many.n_holders).solve()
    yield Expected("all there is to gain", menus.objective, wanted, laws.LIMIT)


def groups_limits(many: mo.ContractGroups) -> Iterator[Expected]:
    menus = many.solve()
    apart = sum(n * many.contracts[name].solve().objective for name, n in many.n_holders.items())
    yield Expected("without a coupling, groups are apart", menus.objective, apart)
    more = mo.ContractGroups(many.contracts, {name: 7 * n for name, n in many.n_holders.items()})
    yield Expected("seven times the holders", more.solve().objective, 7 * menus.objective)
    program = many.program()
    program.add("budget", program["total_payment"] <= 1e-6 * float(menus["total_payment"]))
    size = float(menus["total_gain"])
    yield Expected("little money buys little", program.solve().objective, 0.0, laws.LIMIT, size)


def groups_bounded(many: mo.ContractGroups) -> Bounded:
    return Bounded(lambda: many.program("local"), "total_payment", also=("exact",))


GROUPS = Wing(
    "ContractGroups",
    groups(),
    groups_outcome,
    in_money=groups_in_money,
    permuted=groups_permuted,
    n_agents=lambda many: len(many.contracts),
    alone=groups_alone,
    free_data=groups_free,
    limits=groups_limits,
    bounded=groups_bounded,
)

WINGS = (SCREENING, GROUPS)
