"""What lies behind the accuracy-shaping paper's results: the equation of the pool, and its roots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from mechopt.formulations.accuracy_shaping import closed_form as oracle
from mechopt.formulations.accuracy_shaping.claims.roads import (
    LEDGER,
    gains,
    relative,
    search_alone,
    search_most,
    search_pool,
    search_viability,
    shaped_rule,
    worst_of,
)
from mechopt.formulations.accuracy_shaping.families import (
    HARD,
    MIXED,
    UNIT,
    Case,
    Rng,
    cases,
    random_case,
    short,
)
from mechopt.formulations.functions import AccuracyFunction, SqrtAccuracy
from mechopt.verification.claim import Finding
from mechopt.verification.evidence import largest, row

Array = NDArray[np.float64]


def _excess(case: Case, margin: float, totals: Array) -> Array:
    """F(M) = C b(M) - U - M, with what agents do alone found by search."""
    rates = 1 / (np.array(case.costs) + margin)
    alone = np.array([search_alone(case.accuracy, cost)[0] for cost in case.costs])
    offset = float(np.sum(case.accuracy(alone) * rates - alone)) - case.seed_data
    return np.asarray(rates.sum() * case.accuracy.concave_part(totals) - offset - totals)


@LEDGER.claim(
    "accuracy-shaping/S4-concave",
    source="Theorem 4.2, proof",
    statement="The pools of equilibria are roots of a concave F(M) = C b(M) - U - M, which is not negative "
    "at the largest m* if somebody is viable",
    instances=cases("sqrt", "bound", "power", seeded=True),
    tolerance=1e-9,
    n_instances=60,
)
def pool_equation(case: Case) -> Finding:
    """Second differences of F, its sign, and its value at the pools that the package returns."""
    accuracy, costs = case.accuracy, np.array(case.costs)
    size = case.seed_data + float(np.sum(accuracy.max_accuracy / costs))
    start = accuracy.min_viable_data
    grid = np.linspace(start, max(size, 2 * start), 400)
    margin = 1e-3 * float(costs.min())
    slopes = np.diff(_excess(case, margin, grid)) / np.diff(grid)
    gaps = {"bends up": (float(np.max(np.diff(slopes))) / max(1.0, largest(slopes))) - 1e-10}
    if case.viable:
        most = max(search_alone(accuracy, cost)[0] for cost in case.costs)
        gaps["negative at m*"] = -float(_excess(case, margin, np.array([most]))[0]) / size - 1e-12
    pools = [e.total_data for e in case.shaping().equilibria(margin) if e.kind != "zero"]
    if pools:
        gaps["root"] = largest(_excess(case, margin, np.array(pools))) / size
    return worst_of(gaps, f"pools {row(pools)}")


@LEDGER.claim(
    "accuracy-shaping/S4-unique",
    source="Theorem 4.2, where somebody is viable alone",
    statement="If an agent is viable alone and the margin is positive, (13) has one equilibrium",
    instances=cases("sqrt", "bound", "power", suits=lambda case: case.viable, high=1.0),
    tolerance=1e-8,
    n_instances=50,
)
def unique_equilibrium(case: Case) -> Finding:
    """Iterate best responses from nothing, from above and from between; count the roots found by search."""
    margin = 1e-3 * min(case.costs)
    mechanism = case.shaping().mechanism(margin)
    size = float(np.sum(case.accuracy.max_accuracy / np.array(case.costs)))
    middle = 0.4 * case.accuracy.max_accuracy / np.array(case.costs)
    found = [mechanism.find_equilibrium(start) for start in ("zero", "above", middle)]
    listed = case.shaping().equilibria(margin)
    gaps = {
        "apart": max(largest(e.contribution - found[0].contribution) for e in found) / size,
        "listed": largest(listed[0].contribution - found[0].contribution) / size + float(len(listed) != 1),
        "regret": max(e.regret for e in found),
    }
    return worst_of(gaps, f"totals {row([e.total_data for e in found])}, root {listed[0].total_data:.9g}")


@dataclass(frozen=True)
class MarginCase:
    """Agents none of whom is viable alone, and the incentive margin."""

    case: Case
    margin: float


def _hard_cases(rng: Rng, n: int) -> Iterator[MarginCase]:
    """Pools that exist with the margin, the lower root being an equilibrium in some, and not in others."""
    yield from (
        MarginCase(HARD, 0.0001),
        MarginCase(Case(UNIT, (0.05, 0.05)), 0.00001),
        MarginCase(Case(UNIT, (0.05, 0.05)), 0.02),
        MarginCase(Case(UNIT, (0.07, 0.07, 0.07)), 0.01),
    )[:n]
    left = n - 4
    while left > 0:
        case = random_case(rng, "sqrt", low=0.02, high=1.0, min_agents=2)
        margin = short(min(case.costs) * 10 ** rng.uniform(-4, -0.5))
        enough = float(np.sum(1 / (np.array(case.costs) + margin))) * case.accuracy.viability_cost
        if not case.viable and enough > 1.001:
            left -= 1
            yield MarginCase(case, margin)


@LEDGER.claim(
    "accuracy-shaping/S4-lower",
    source="Theorem 4.2 and Remark 4.4, for hard problems",
    statement="If nobody is viable alone, the lower root is an equilibrium exactly if b'(M) <= min c_i, and "
    "not a stable one; the upper root and nothing are equilibria too",
    instances=_hard_cases,
    tolerance=1e-9,
    n_instances=60,
)
def lower_root(instance: MarginCase) -> Finding:
    """Find both roots by sign changes, try deviations, nudge the lower one, and compare with the list."""
    case, margin = instance.case, instance.margin
    accuracy, costs = case.accuracy, np.array(case.costs)
    slope = costs + margin
    rate = float(np.sum(1 / slope))
    upper = search_pool(accuracy, slope, np.zeros(costs.size)) or 0.0
    top = float(np.clip(accuracy.inverse_derivative(1 / rate), accuracy.min_viable_data, upper))
    lower = float(
        brentq(
            lambda m: rate * float(accuracy.concave_part(m)) - m, accuracy.min_viable_data, top, xtol=1e-13
        )
    )
    rule, limits = shaped_rule(accuracy, costs, margin), accuracy.max_accuracy / costs
    profiles = {m: float(accuracy(m)) / slope for m in (lower, upper)}
    regret = {m: largest(gains(rule, costs, limits, p)) for m, p in profiles.items()}
    steepness = float(accuracy.concave_part_derivative(lower))
    border = steepness / float(costs.min()) - 1
    stable = regret[lower] <= 1e-11
    listed = {e.kind: e for e in case.shaping().equilibria(margin)}
    mechanism = case.shaping().mechanism(margin)
    nudged = mechanism.find_equilibrium(0.98 * profiles[lower], max_rounds=100).total_data
    gaps = {
        "criterion": float(stable != (border <= 0)),
        "listed": float(("lower" in listed) != (border <= 0)),
        "upper": relative(listed["upper"].total_data, upper) + listed["upper"].regret,
        "zero": largest(gains(rule, costs, limits, np.zeros(costs.size))),
    }
    if border <= 0 and upper > 1.1 * lower:
        gaps["stable from below"] = float(nudged > 0.979 * lower)
    told = (
        f"lower root {lower:.8g} with b' = {steepness:.6g} against min c = {costs.min():.6g}, regret "
        f"{regret[lower]:.3g}; upper root {upper:.8g}, regret {regret[upper]:.3g}; listed {sorted(listed)}"
    )
    # Next to the border the gain of a deviation is of second order. The upper root needs no condition: there
    # b' <= 1/C, which is at most the viability cost if there is a pool, and thus below every cost.
    return worst_of(gaps, told, applies=abs(border) > 2e-3)


def least_seed(accuracy: AccuracyFunction, cost: float) -> float:
    """Seed data from which an agent gains by contributing, by bisection on whether trying finds a gain."""

    def pays(seed: float) -> bool:
        return (search_most(accuracy, cost, 1e-15, seed, 1e-12 / cost) or 0.0) > 1e-9 / cost

    low, high = 0.0, float(accuracy.min_viable_data)
    if not pays(high * (1 + 1e-9)):
        return high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if pays(middle) else (middle, high)
    return high


@LEDGER.claim(
    "accuracy-shaping/S4-seed",
    source="Remark 4.4, corrected",
    statement="Seed data s of the platform remove the equilibrium without data exactly if s > alpha - "
    "b(alpha)/c, b'(alpha) = c, or m_min if c >= b'(m_min); best responses then climb to the largest pool",
    instances=cases(
        "sqrt",
        worked=(Case(UNIT, (0.05,) * 10), HARD),
        suits=lambda case: not case.viable,
        low=0.05,
        high=1.0,
        max_agents=5,
    ),
    tolerance=1e-6,
    n_instances=30,
)
def seed_data(case: Case) -> Finding:
    """Formula, its general form, and bisection; then zero with 5 % less, and the climb with 5 % more."""
    accuracy, cost = case.accuracy, min(case.costs)
    assert isinstance(accuracy, SqrtAccuracy)
    formula = oracle.least_pool_of_seed(cost, accuracy)
    alpha = float(accuracy.inverse_derivative(cost))
    general = alpha - float(accuracy.concave_part(alpha)) / cost
    tried = least_seed(accuracy, cost)
    size = accuracy.min_viable_data
    gaps = {"formula": abs(formula - tried) / size, "general": abs(general - formula) / size}
    margin = 1e-6 * cost
    for factor in (0.95, 1.05):
        shaping = Case(accuracy, case.costs, factor * formula).shaping()
        found = shaping.mechanism(margin).find_equilibrium("zero")
        expected = factor * formula if factor < 1 else shaping.solve().objective
        gaps[f"{factor} of it"] = relative(found.total_data, expected) * 1e-2
    return worst_of(gaps, f"s_min {formula:.8g}, by bisection {tried:.8g}; then {found.total_data:.8g}")


@LEDGER.claim(
    "accuracy-shaping/S4-formula",
    source="Theorem 4.2 and Example 4.5, for any costs under (3)",
    statement="M = (4A/3) cos²(arccos(-C √k (3/A)^1.5)/3), A = s + sum (a - u_i*)/c_i; no pool if the cosine "
    "would be below -1",
    instances=cases("sqrt", min_agents=2, worked=(MIXED, HARD, Case(UNIT, (0.1, 0.1)))),
    tolerance=1e-9,
    n_instances=200,
)
def cosine_for_any_costs(case: Case) -> Finding:
    """Compare the cosine with the exact root and with a search, for every agent."""
    form, exact = case.shaping().closed_form(), case.shaping().solve()
    outside = [search_alone(case.accuracy, cost)[1] for cost in case.costs]
    pool = search_pool(case.accuracy, case.costs, outside) or 0.0
    size = float(np.sum(case.accuracy.max_accuracy / np.array(case.costs)))
    gaps = {
        "exact": abs(form.total_data - exact.objective) / size,
        "agents": largest(form.contribution - exact["contribution"]) / size,
        "search": abs(form.total_data - pool) / size,
        "viable": float(form.viable != (pool > 0)),
    }
    # Next to a double root every road loses half of its digits.
    strain = float(np.sum(1 / np.array(case.costs))) * search_viability(case.accuracy)
    told = f"cosine {form.total_data:.10g}, root {exact.objective:.10g}, search {pool:.10g}"
    return worst_of(gaps, told, applies=case.viable or abs(strain - 1) > 1e-6)
