"""The accuracy-shaping paper's results at private costs, as corrected."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.accuracy_shaping.claims.roads import (
    LEDGER,
    conic,
    relative,
    search_alone,
    search_most,
    search_two_types,
    worst_of,
)
from mechopt.formulations.accuracy_shaping.cost_screening import CostScreening
from mechopt.formulations.accuracy_shaping.families import (
    BUNCHING,
    DOUBLED,
    TYPES,
    TypeCase,
    type_cases,
)
from mechopt.formulations.functions import SqrtAccuracy
from mechopt.verification.audit import Audit
from mechopt.verification.claim import Finding
from mechopt.verification.evidence import largest, row

Array = NDArray[np.float64]


def _reach(case: TypeCase) -> float:
    """Data that the cheapest type would give for a perfect model alone: no contribution is above it."""
    return case.accuracy.max_accuracy / case.costs[0]


def _led(case: TypeCase, k: int) -> float:
    """Most that type k can be led to give if its cost is known, by search."""
    _, outside = search_alone(case.accuracy, case.costs[k])
    return search_most(case.accuracy, case.costs[k], outside - 1e-15, case.others_data) or 0.0


def _served(case: TypeCase) -> bool:
    """Whether nobody may be shut out: others' data give accuracy, or the costliest type is viable alone."""
    accuracy = case.accuracy
    return case.others_data >= accuracy.min_viable_data or case.costs[-1] < accuracy.viability_cost


# ------------------------------------------------------------ results


@LEDGER.claim(
    "accuracy-shaping/R13",
    source="(14)-(16), Theorem B.1, with corrected regimes",
    statement="For two types, (15) clipped to what both can be given, and (16), are the optimal menu",
    instances=type_cases("sqrt", "power", "bound"),
    tolerance=1e-8,
    n_instances=150,
)
def two_types(case: TypeCase) -> Finding:
    """Compare the formula with the recursion, and audit both menus over all contracts and the curve."""
    screening = case.screening()
    form, exact = screening.closed_form(), screening.solve()
    size = _reach(case)
    gaps = {
        "contribution": largest(form.contribution - exact["contribution"]) / size,
        "objective": abs(form.objective - exact.objective) / size,
        "audit of the formula": audit(screening, form).relative,
        "audit of the recursion": audit(screening, exact).relative,
    }
    told = f"{form.regime}: formula {row(form.contribution)}, recursion {row(exact['contribution'])}"
    return worst_of(gaps, told)


def audit(screening: CostScreening, menu: Any) -> Audit:
    """Audit a menu over all contracts and the curve of rewards."""
    return screening.audit(menu)


@LEDGER.claim(
    "accuracy-shaping/R13-search",
    source="(14)-(16), Theorem B.1",
    statement="No menu with the costly type at its outside option collects more, any type shut out included",
    instances=type_cases("sqrt", "power", "bound"),
    tolerance=1e-7,
    n_instances=60,
)
def two_types_by_trying(case: TypeCase) -> Finding:
    """Try contributions of the costly type, and give the cheap one what incentives then need."""
    form = case.screening().closed_form()
    value, m_low, m_high = search_two_types(case.accuracy, case.costs, case.probs, case.others_data)
    told = f"{form.regime}: formula {form.objective:.9g} by {row(form.contribution)}, tried {value:.9g} by "
    return Finding(abs(form.objective - value) / _reach(case), told + row([m_low, m_high]))


@LEDGER.claim(
    "accuracy-shaping/R13-conic",
    source="(14)-(16), Theorem B.1",
    statement="The programs with all incentive constraints, or those of neighbours, have its value",
    instances=type_cases("sqrt", "power"),
    tolerance=1e-6,
    n_instances=20,
)
def two_types_by_program(case: TypeCase) -> Finding:
    """Solve both by an interior-point method."""
    screening = case.screening()
    form = screening.closed_form()
    gaps, told = {}, f"{form.regime} {form.objective:.9g}"
    for name in ("full", "local"):
        found = conic(lambda b, name=name, **options: screening.solve(b, form=name, **options))
        gaps[name] = abs(found.objective - form.objective) / _reach(case)
        told += f", {name} {found.objective:.9g} {row(found['contribution'])}"
    return worst_of(gaps, told)


@LEDGER.claim(
    "accuracy-shaping/R13-types",
    source="Theorem B.1, for any number of types",
    statement="Any number of types is a convex program; incentives between neighbours with contributions in "
    "order suffice, and the recursion solves it",
    instances=type_cases("sqrt", worked=(BUNCHING,), max_types=6, least=0.1),
    tolerance=2e-6,
    n_instances=15,
)
def many_types(case: TypeCase) -> Finding:
    """Compare the recursion with the programs of all and of monotone incentives, and audit its menu."""
    screening = case.screening()
    exact = screening.solve()
    gaps, told = {"audit": audit(screening, exact).relative}, f"recursion {row(exact['contribution'])}"
    for name in ("full", "local-monotone"):
        found = conic(lambda b, name=name, **options: screening.solve(b, form=name, **options))
        gaps[name] = abs(found.objective - exact.objective) / _reach(case)
        told += f", {name} {found.objective:.9g} against {exact.objective:.9g}"
    return worst_of(gaps, told)


@LEDGER.claim(
    "accuracy-shaping/R13-curve",
    source="(14)",
    statement="One curve of rewards offers the menu: between own and all data's accuracy, kinked at the "
    "contracts, it leaves no type a better amount",
    instances=type_cases("sqrt", "power", "bound", max_types=5),
    tolerance=1e-9,
    n_instances=60,
)
def one_curve(case: TypeCase) -> Finding:
    """Evaluate the curve at many amounts, and let each type choose."""
    screening = case.screening()
    menu = screening.solve()
    curve, accuracy = screening.menu(), case.accuracy
    x = np.unique(np.concatenate([np.linspace(0, 1.1 * _reach(case), 4000), menu["contribution"]]))
    reward, top = curve(x), accuracy.max_accuracy
    best = np.array([float(np.max(reward - cost * x)) for cost in case.costs])
    gaps = {
        "above a(x + S)": float(np.max(reward - accuracy(x + case.others_data))) / top,
        "below a(x)": float(np.max(accuracy(x) - reward)) / top,
        "better amount": float(np.max(best - menu["utility"])) / top,
        "contract": largest(curve(menu["contribution"]) - menu["allocated_accuracy"]) / top,
        "falls": float(np.max(-np.diff(reward))),
    }
    return worst_of(gaps, f"contracts {row(menu['contribution'])} for {row(menu['allocated_accuracy'])}")


def _low_kept(case: TypeCase) -> bool:
    """Whether (15) may ask the cheap type for less than it could give."""
    return bool(case.costs[0] > case.probs[0] * case.costs[1])


@LEDGER.claim(
    "accuracy-shaping/R14",
    source="Remark B.2",
    statement="The cheap type gives at most what it would at known cost, and that if p >= c_L/c_H; where "
    "(15) binds, its data and the others' have a constant sum",
    instances=type_cases("sqrt", "power", "bound", suits=_served),
    tolerance=1e-7,
    n_instances=100,
)
def cheap_type(case: TypeCase) -> Finding:
    """Search for the most it can be led to give; solve again with 1 % more data of others."""
    screening = case.screening()
    exact, regime = screening.solve(), screening.regime
    m_low, led = float(exact["contribution"][0]), _led(case, 0)
    gaps = {"exceeds": (m_low - led) / _reach(case)}
    if not _low_kept(case):
        gaps["gives less"] = (led - m_low) / _reach(case)
    told = f"{regime}: m_L {m_low:.9g}, at known cost {led:.9g}"
    if regime == "interior":
        others = 1.01 * case.others_data
        later = case.screening(others)
        if later.regime == "interior":
            total = float(later.solve()["contribution"][0]) + others
            gaps["sum"] = relative(total, m_low + case.others_data)
            told += f"; its sum with S {m_low + case.others_data:.9g}, with more S {total:.9g}"
    return worst_of(gaps, told)


def _interior(case: TypeCase) -> bool:
    return _served(case) and case.screening().regime == "interior"


@LEDGER.claim(
    "accuracy-shaping/R14-falls",
    source="(15), Remark B.2",
    statement="In the regime of (15) the cheap type gives the less, the more the others give: one for one",
    instances=type_cases(
        "sqrt", "power", suits=lambda case: _low_kept(case) and _interior(case), low=-1.5, high=-0.3
    ),
    tolerance=1e-7,
    n_instances=12,
)
def best_responses_fall(case: TypeCase) -> Finding:
    """Solve with slightly more data of others: by the recursion, and by trying all menus."""
    others = case.others_data * 1.001
    before, after = case.screening().solve(), case.screening(others).solve()
    fall = float(before["contribution"][0] - after["contribution"][0])
    rise = others - case.others_data
    value, m_low, _ = search_two_types(case.accuracy, case.costs, case.probs, others)
    still = case.screening(others).regime == "interior"
    gaps = {
        "one for one": abs(fall - rise) / _reach(case),
        "tried": max(0.0, value - after.objective) / _reach(case),
    }
    told = (
        f"S up by {rise:.6g}, m_L down by {fall:.6g} to {float(after['contribution'][0]):.8g} ({m_low:.6g})"
    )
    return worst_of(gaps, told, applies=still)


@LEDGER.claim(
    "accuracy-shaping/R15",
    source="Theorem B.3, corrected",
    statement="The costly type has no rent, the cheap one u_H* + (c_H - c_L) m_H - u_L*, and none if both "
    "give what they would at known cost",
    instances=type_cases("sqrt", "power", "bound", suits=_served),
    tolerance=1e-8,
    n_instances=120,
)
def rents(case: TypeCase) -> Finding:
    """Compute rents of the recursion's menu from its accuracies, and outside options by search."""
    menu = case.screening().solve()
    costs, top = np.array(case.costs), case.accuracy.max_accuracy
    outside = np.array([search_alone(case.accuracy, cost)[1] for cost in case.costs])
    rent = menu["allocated_accuracy"] - costs * menu["contribution"] - outside
    owed = outside[1] + (costs[1] - costs[0]) * float(menu["contribution"][1]) - outside[0]
    gaps = {
        "costly": abs(float(rent[1])) / top,
        "cheap": abs(float(rent[0]) - max(owed, 0.0)) / top,
        "negative": -float(rent.min()) / top,
        "reported": largest(menu["rent"] - rent) / top,
    }
    at_known = np.array([_led(case, k) for k in (0, 1)])
    if np.allclose(menu["contribution"], at_known, rtol=1e-7):
        gaps["first best"] = float(rent[0]) / top
    told = f"{case.screening().regime}: rents {row(rent)}, formula {owed:.8g}"
    return worst_of(gaps, told)


@LEDGER.claim(
    "accuracy-shaping/R15-conic",
    source="Theorem B.3, corrected",
    statement="The same rents in the program in which utilities are free",
    instances=type_cases("sqrt", suits=_served, least=0.1),
    tolerance=1e-5,
    n_instances=15,
)
def rents_in_the_program(case: TypeCase) -> Finding:
    """Read rents off the program of all incentive constraints."""
    screening = case.screening()
    found = conic(lambda b, **options: screening.solve(b, form="full", **options))
    outside = [search_alone(case.accuracy, cost)[1] for cost in case.costs]
    owed = outside[1] + (case.costs[1] - case.costs[0]) * float(found["contribution"][1]) - outside[0]
    gaps = {"costly": abs(float(found["rent"][1])), "cheap": abs(float(found["rent"][0]) - max(owed, 0.0))}
    return worst_of(gaps, f"rents {row(found['rent'])}, formula {owed:.8g}")


def _multiples(case: TypeCase) -> bool:
    """Costs at least twice as high, both viable, equally likely."""
    low, high = case.costs
    return high >= 2 * low and high < case.accuracy.viability_cost and case.weights[0] == case.weights[1]


def _equal_weights(case: TypeCase) -> TypeCase:
    return TypeCase(case.accuracy, case.costs, (1, 1), case.others_data)


def _ratio_cases(rng: np.random.Generator, n: int) -> Any:
    """Equally likely viable types whose costs differ by a factor of two or more."""
    drawn = type_cases("sqrt", worked=(), low=-1.5, high=-0.4, least=0.3)
    found = 0
    for case in (DOUBLED, *map(_equal_weights, drawn(rng, 60 * n + 60))):
        if found < n and _multiples(case):
            found += 1
            yield case


@LEDGER.claim(
    "accuracy-shaping/R16",
    source="Example B.4",
    statement="Under (3), p = 1/2 and c_H = r c_L, r >= 2, the cheap type gives its most, the costly one "
    "3(r^(1/3) - 1)/(r - 1) m_L*, and nobody has a rent",
    instances=_ratio_cases,
    tolerance=1e-7,
    n_instances=40,
)
def example_of_doubled_cost(case: TypeCase) -> Finding:
    """Compare the recursion with the formula, where others' data let the costly type give as much."""
    menu = case.screening().solve()
    ratio = case.costs[1] / case.costs[0]
    led = _led(case, 0)
    assert isinstance(case.accuracy, SqrtAccuracy)
    alone = (case.accuracy.difficulty / case.costs[0] ** 2) ** (1 / 3)
    formula = 3 * (ratio ** (1 / 3) - 1) / (ratio - 1) * alone
    gaps = {
        "cheap": relative(float(menu["contribution"][0]), led),
        "costly": relative(float(menu["contribution"][1]), formula),
        "rent": largest(menu["rent"]) / case.accuracy.max_accuracy,
    }
    told = f"r = {ratio:.6g}: {row(menu['contribution'])}, formula {formula:.8g} = {formula / alone:.6g} m_L*"
    return worst_of(gaps, told, applies=_led(case, 1) >= formula)


# ------------------------------------------------------------ several agents of unknown types


@LEDGER.claim(
    "accuracy-shaping/R17",
    source="Appendix B, several agents, in mean field",
    statement="The greatest S = (N - 1) E[m], m optimal given S, is the optimum of one convex program with S "
    "as a variable",
    instances=type_cases("sqrt", worked=TYPES[:4], max_types=4, high=-0.1),
    tolerance=1e-6,
    n_instances=12,
)
def mean_field(case: TypeCase) -> Finding:
    """Compare root finding with the program and with iteration from above; solve once more given S."""
    screening, n_agents = case.screening(), 2 + len(case.costs) * 2
    exact = screening.mean_field(n_agents)
    found = conic(lambda b, **options: screening.mean_field(n_agents, b, form="local", **options))
    others, reach = float(exact["others_data"]), _reach(case)
    again = case.screening(others).solve()
    above = (n_agents - 1) * reach
    for _ in range(200):
        following = (n_agents - 1) * case.screening(above).solve().objective
        if abs(following - above) <= 1e-10 * above:
            break
        above = following
    gaps = {
        "program": abs(found.objective - exact.objective) / reach,
        "consistent": abs(others - (n_agents - 1) * exact.objective) / (n_agents * reach),
        "optimal given S": abs(again.objective - exact.objective) / reach,
        "iteration": abs(above - others) / (n_agents * reach),
    }
    told = f"N = {n_agents}: S {others:.9g}, iteration {above:.9g}; {row(exact['contribution'])}"
    return worst_of(gaps, told)
