"""Statements that the contract paper prints and that are false: each is refuted by a counterexample."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad

from mechopt.formulations import menus
from mechopt.formulations.functions import LogGain
from mechopt.formulations.screening.claims import exact
from mechopt.formulations.screening.claims.results import case_money
from mechopt.formulations.screening.claims.roads import (
    LEDGER,
    Fractions,
    best_deviation,
    cheapest_payments,
    menu_value,
    suboptimality,
    upward_slack,
)
from mechopt.formulations.screening.closed_form import (
    uniform_cutoff,
    uniform_quantity,
    uniform_rent,
)
from mechopt.formulations.screening.families import (
    IRREGULAR,
    REGULAR_LOOKING,
    WORKED,
    Case,
    Rng,
    SlackCase,
    UniformCase,
    cases,
    grid,
    uniform_cases,
)
from mechopt.formulations.screening.model import ScreeningContract
from mechopt.verification.audit import Audit
from mechopt.verification.claim import Finding, Verdict
from mechopt.verification.evidence import confirm, fraction, largest, row

Array = NDArray[np.float64]


def _formula(case: Case, virtual_types: Fractions) -> Fractions:
    """Evaluate (42) with given virtual types, log gain, in fractions; negative entries are no contract."""
    assert isinstance(case.gain, LogGain)
    weight, scale, cost = fraction(case.gain.weight), fraction(case.gain.scale), fraction(case.unit_cost)
    pairs = zip(case.exact_types, virtual_types, strict=True)
    return tuple(max(weight / (cost * phi) - 1 / (scale * delta), Fraction(0)) for delta, phi in pairs)


def _printed_virtual_types(case: Case) -> Fractions:
    """Compute k δ_k - (k-1) δ_{k-1}, as (42) prints it: right for equal probabilities only."""
    types = case.exact_types
    return types[:1] + tuple((k + 1) * types[k] - k * types[k - 1] for k in range(1, len(types)))


def _deviation_from(case: Case, quantity: Fractions, label: str) -> Finding:
    """Tell in fractions who gains by deviating from these quantities at payments (41), if anybody does.

    A failure is confirmed by the audit of the menu, and by the true optimum: it passes the audit and a
    certificate of optimality, and its value is at least that of the quantities made monotone.
    """
    cost = fraction(case.unit_cost)
    payment = cheapest_payments(case.exact_types, quantity, cost)
    worst, _ = best_deviation(case.exact_types, quantity, payment, cost)
    if worst.gain <= 0:
        return Finding(0.0, f"{label} gives {row(quantity)}, which is incentive compatible")
    contract = case.contract()
    best, money = contract.solve(), contract.scales()[1]
    repaired = menu_value(contract, menus.nearest_monotone(np.array(quantity, dtype=float), case.probs))
    audit: Audit = contract.audit(best)
    confirm(audit.ok(1e-12), "in the optimal menu nobody gains by another contract or by none")
    confirm(suboptimality(contract, best["quantity"]) <= 1e-9, "multipliers certify that menu")
    confirm(best.objective >= repaired - 1e-12 * money, "it is worth no less than the formula made monotone")
    printed: Audit = contract.audit(
        {"quantity": np.array(quantity, dtype=float), "payment": np.array(payment, dtype=float)}
    )
    confirm(
        abs(printed.ic_violation - float(worst.gain)) <= 1e-9 * money,
        f"the audit of the formula's menu finds a gain of {printed.ic_violation:.6g}",
    )
    promised = menu_value(contract, np.array(quantity, dtype=float))
    return Finding(
        float(worst.gain) / money,
        f"{label} gives quantities {row(quantity)}: type {worst.holder} gains {_told(worst.gain)} by taking "
        f"the contract of type {worst.takes}; the promised value {promised:.8g} is out of reach: the optimum "
        f"{row(best['quantity'])} gives {best.objective:.8g}, the formula made monotone {repaired:.8g}",
    )


def _value_by_hand(case: Case, menu: Any) -> float:
    """Expected gain less payment of a menu, type by type."""
    assert isinstance(case.gain, LogGain)
    parts = zip(case.weights, case.types, menu["quantity"], menu["payment"], strict=True)
    kept = (
        share * (case.gain.weight * log(1 + case.gain.scale * delta * float(q)) - float(paid))
        for share, delta, q, paid in parts
    )
    return sum(kept) / sum(case.weights)


def _told(number: Fraction) -> str:
    """Print a fraction with its decimal value, or the decimal alone where the fraction is too long."""
    return f"{number} = {float(number):.6g}" if len(str(number)) <= 20 else f"{float(number):.6g}"


@LEDGER.claim(
    "contract/E1",
    source="(24)",
    statement="Along the optimum the rent changes at the rate x' = f q",
    instances=uniform_cases,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="contract/R4",
    n_instances=20,
    confirm_exactly=exact.rent_grows_with_type,
)
def rent_grows_with_type(case: UniformCase) -> Finding:
    """Differentiate the rent numerically at the middle of the types that are served."""
    parameters = (case.lo, case.hi, case.gain, case.unit_cost)
    cutoff = uniform_cutoff(*parameters)
    if cutoff <= case.lo:
        return Finding(0.0, "nobody is served", applies=False)
    eps = (case.lo + cutoff) / 2
    step = 1e-4 * (cutoff - case.lo)
    above, below = uniform_rent([eps + step, eps - step], *parameters)
    slope, quantity = float(above - below) / (2 * step), float(uniform_quantity(eps, *parameters))
    right, printed = -case.unit_cost * quantity, quantity / (case.hi - case.lo)
    confirm(
        abs(slope - right) <= 1e-5 * abs(right),
        f"the closed form's slope is {slope:.8g}, and -c q is {right:.8g}",
    )
    told = f"at eps = {eps:.6g} the rent changes at the rate {slope:.6g} = -c q, not f q = {printed:.6g}"
    return Finding(abs(slope - printed) / abs(right), told)


@LEDGER.claim(
    "contract/E2",
    source="(30), (31)",
    statement="The rent is the integral of -c q from ε to the highest type, as (30) can be read",
    instances=uniform_cases,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="contract/R8",
    n_instances=20,
)
def rent_with_the_printed_sign(case: UniformCase) -> Finding:
    """Integrate as printed, pay accordingly, and see who would rather stay out."""
    parameters = (case.lo, case.hi, case.gain, case.unit_cost)
    cutoff = uniform_cutoff(*parameters)
    if cutoff <= case.lo:
        return Finding(0.0, "nobody is served", applies=False)
    eps = (case.lo + cutoff) / 2
    printed, _ = quad(lambda t: -case.unit_cost * uniform_quantity(t, *parameters), eps, case.hi, limit=200)
    right = float(uniform_rent(eps, *parameters))
    confirm(
        abs(printed + right) <= 1e-6 * abs(right),
        f"the rent's closed form is {right:.8g}, and that of the printed integral {printed:.8g}",
    )
    payment = case.unit_cost * eps * float(uniform_quantity(eps, *parameters)) + printed
    return Finding(
        -printed / case_money(case),
        f"type {eps:.6g} would get the rent {printed:.6g} from the payment {payment:.6g}: less than by "
        f"staying out; the right rent is {right:.6g}",
    )


@LEDGER.claim(
    "contract/E3",
    source="(32), (42)",
    statement="(42) is optimal whatever the distribution of types",
    instances=cases(worked=(REGULAR_LOOKING,)),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="contract/R13",
)
def printed_formula_for_any_probabilities(case: Case) -> Finding:
    """Value the printed formula, made monotone, under the true probabilities, against the optimum."""
    contract = case.contract()
    printed = np.array(_formula(case, _printed_virtual_types(case)), dtype=float)
    quantity = menus.nearest_monotone(printed, case.probs)
    payment = menus.payments(contract.types, quantity, contract.unit_cost)
    best, money = contract.solve(), contract.scales()[1]
    offered = (best, {"quantity": quantity, "payment": payment})
    confirm(
        all(contract.audit(menu).ok(1e-12) for menu in offered),
        "in either menu nobody gains by another contract or by none",
    )
    value = menu_value(contract, quantity)
    by_hand = [_value_by_hand(case, menu) for menu in offered]
    confirm(
        largest(np.subtract(by_hand, (best.objective, value))) <= 1e-9 * money,
        f"type by type, gains less payments are worth {by_hand[0]:.8g} and {by_hand[1]:.8g}",
    )
    return Finding(
        (best.objective - value) / money,
        f"(42) gives {row(printed)}, made monotone worth {value:.8g}; {row(best['quantity'])} is worth "
        f"{best.objective:.8g}, and nobody gains by another contract in either menu",
    )


@LEDGER.claim(
    "contract/E4",
    source="(42)",
    statement="(42) is the optimal menu for any types that are equally likely",
    instances=cases(worked=(IRREGULAR,), equal=True),
    tolerance=1e-9,
    expected=Verdict.REFUTED,
    corrected_by="contract/R13",
    confirm_exactly=exact.envy_of_printed_formula,
)
def printed_formula_for_any_types(case: Case) -> Finding:
    """Look for a holder who gains by another's contract; negative quantities are read as no contract."""
    return _deviation_from(case, _formula(case, _printed_virtual_types(case)), "(42)")


def _slack_menus(rng: Rng, n: int) -> Iterator[SlackCase]:
    """Menus in which one upward constraint is slack, not the first, by half of what IC allows."""
    yield from (SlackCase((1.0, 2.0, 3.0), (3.0, 2.0, 1.0), 2, Fraction(1, 2)),)[:n]
    for _ in range(n - 1):
        n_types = int(rng.integers(3, 7))
        types = tuple(float(t) for t in np.cumsum(rng.integers(1, 6, n_types)))
        quantity = tuple(float(q) for q in np.cumsum(rng.integers(1, 6, n_types))[::-1])
        at = int(rng.integers(2, n_types))
        room = fraction(types[at] - types[at - 1]) * fraction(quantity[at - 1] - quantity[at])
        yield SlackCase(types, quantity, at, room / 2)


@LEDGER.claim(
    "contract/E5",
    source="Theorem 3, necessity, after (39)",
    statement="If the upward IC of k is slack, lowering all payments of types j < k makes it bind",
    instances=_slack_menus,
    tolerance=0.0,
    expected=Verdict.REFUTED,
    corrected_by="contract/R11",
    confirm_exactly=exact.lower_payments_below,
)
def lower_payments_below(case: SlackCase) -> Finding:
    """Take the step in fractions, as printed and with j <= k."""
    types, quantity = (tuple(map(fraction, values)) for values in (case.types, case.quantity))
    cost, k = fraction(case.unit_cost), case.slack_at
    tight = cheapest_payments(types, quantity, cost)
    before = _lowered(tight, k, -case.slack)
    as_printed, corrected = _lowered(before, k - 1, case.slack), _lowered(before, k, case.slack)

    def slack(payment: Fractions) -> Fraction:
        return payment[k - 1] - payment[k] - cost * types[k - 1] * (quantity[k - 1] - quantity[k])

    gains = {
        name: max(t.gain for t in best_deviation(types, quantity, payment, cost))
        for name, payment in (("before", before), ("printed", as_printed), ("corrected", corrected))
    }
    confirm(
        gains["before"] <= 0 and slack(before) == case.slack, "before the step nobody gains, and k is slack"
    )
    confirm(gains["corrected"] <= 0 and slack(corrected) == 0, "with j <= k the step makes it bind")
    worst, _ = best_deviation(types, quantity, as_printed, cost)
    contract = ScreeningContract(np.array(case.types), unit_cost=case.unit_cost)
    audit: Audit = contract.audit(
        {"quantity": np.array(case.quantity), "payment": np.array(as_printed, dtype=float)}
    )
    confirm(
        abs(audit.ic_violation - max(float(worst.gain), 0.0)) <= 1e-9 * float(max(as_printed)),
        f"the audit of the printed step finds a gain of {audit.ic_violation:.6g}",
    )
    hurt = (
        f"type {worst.holder} then gains {worst.gain} by taking the contract of type {worst.takes}"
        if worst.gain > 0
        else "nobody then gains by another contract"
    )
    return Finding(
        float(max(worst.gain, slack(as_printed))),
        f"payments {row(before)} leave type {k} a slack of {case.slack}; lowering those of types below {k} "
        f"leaves the slack at {slack(as_printed)}, and {hurt}; lowering that of type {k} too makes it bind, "
        "and nobody gains by another contract",
    )


def _lowered(payment: Fractions, n_first: int, amount: Fraction) -> Fractions:
    """Payments, those of the first types lowered."""
    return tuple(value - amount if index < n_first else value for index, value in enumerate(payment))


@LEDGER.claim(
    "contract/E6",
    source="Theorem 2, proof; section V, grid",
    statement="The last type of the grid is the highest privacy level, so that Theorem 1 applies to it",
    instances=uniform_cases,
    tolerance=1e-9,
    expected=Verdict.REFUTED,
    corrected_by="contract/R5",
    n_instances=10,
    confirm_exactly=exact.grid_reaches_the_highest_type,
)
def grid_reaches_the_highest_type(case: UniformCase) -> Finding:
    """Compute δ_K of the paper's grid in fractions, and let the highest type look at the menu.

    At the rent 0 that Theorem 2 gives type δ_K, the highest type is below 0 with any contract.
    """
    n_types = 10
    lo, hi = fraction(case.lo), fraction(case.hi)
    last = lo + (n_types - 1) * (hi - lo) / n_types
    contract = ScreeningContract(grid(case, n_types, "paper"), gain=case.gain, unit_cost=case.unit_cost)
    menu = contract.solve()
    left = menu["payment"] - case.unit_cost * case.hi * menu["quantity"]
    served = bool(menu["quantity"][-1] > 0)
    confirm(
        not served or float(left.max()) < 0,
        f"the best contract of the computed menu leaves the highest type {left.max():.3g}",
    )
    return Finding(
        float((hi - last) / (hi - lo)),
        f"with K = {n_types} the last type is {last} = {float(last):.6g}, and not {case.hi}; a holder of "
        f"type {case.hi} gets at most {float(left.max()):.6g} from any contract",
    )


@LEDGER.claim(
    "contract/E7",
    source="section VI",
    statement="On the paper's grid the discrete data function gets closer to the continuous one as K grows",
    instances=uniform_cases,
    tolerance=0.5,
    expected=Verdict.REFUTED,
    corrected_by="contract/R14",
    n_instances=10,
    confirm_exactly=exact.quantities_come_closer,
)
def quantities_come_closer(case: UniformCase) -> Finding:
    """Compare (42) and (29) in fractions with 10 and 20 types; a gap of 1: the distance did not fall."""
    lo, hi = fraction(case.lo), fraction(case.hi)
    weight, scale, cost = fraction(case.gain.weight), fraction(case.gain.scale), fraction(case.unit_cost)
    distance = []
    for n_types in (10, 20):
        types = [lo + k * (hi - lo) / n_types for k in range(n_types)]
        printed = [(k + 1) * types[k] - k * types[max(k - 1, 0)] for k in range(n_types)]
        discrete = [weight / (cost * p) - 1 / (scale * d) for p, d in zip(printed, types, strict=True)]
        continuous = [weight / (cost * (2 * d - lo)) - 1 / (scale * d) for d in types]
        distance.append(max(abs(a - b) for a, b in zip(discrete, continuous, strict=True)))
        contract = ScreeningContract(grid(case, n_types, "paper"), gain=case.gain, unit_cost=case.unit_cost)
        curve = uniform_quantity(contract.types, case.lo, case.hi, case.gain, case.unit_cost)
        confirm(
            largest(contract.solve()["quantity"] - curve) <= 1e-9 * largest(curve),
            f"the computed menu of {n_types} types is on the continuous curve",
        )
    told = f"distance {distance[0]} at K = 10 and {distance[1]} at K = 20: they agree, exactly, at every K"
    return Finding(float(distance[1] >= distance[0]), told)


def _rises(values: Fractions) -> bool:
    return all(a <= b for a, b in pairwise(values))


@LEDGER.claim(
    "contract/E8",
    source="(28), (29)",
    statement="Increasing virtual types make (29) optimal",
    instances=cases(
        worked=(REGULAR_LOOKING,), suits=lambda case: _rises(case.exact_virtual_types), max_types=5
    ),
    tolerance=1e-9,
    expected=Verdict.REFUTED,
    corrected_by="contract/R7",
    confirm_exactly=exact.envy_of_formula,
)
def increasing_virtual_type_suffices(case: Case) -> Finding:
    """Look for a holder who gains by another's contract though virtual types increase."""
    finding = _deviation_from(case, _formula(case, case.exact_virtual_types), "the formula")
    told = f"virtual types {row(case.exact_virtual_types)}; {finding.witness}"
    return Finding(finding.gap, told, applies=_rises(case.exact_virtual_types))


@LEDGER.claim(
    "contract/E8-hazard",
    source="(28), (29)",
    statement="The hazard-rate condition, F/f non-decreasing, makes (29) optimal",
    instances=cases(worked=(REGULAR_LOOKING,), suits=lambda case: _rises(case.exact_hazards), max_types=4),
    tolerance=1e-9,
    expected=Verdict.REFUTED,
    corrected_by="contract/R7",
    confirm_exactly=exact.envy_of_formula,
)
def hazard_condition_suffices(case: Case) -> Finding:
    """Look for a holder who gains by another's contract though F/f does not fall."""
    finding = _deviation_from(case, _formula(case, case.exact_virtual_types), "the formula")
    told = f"F/f at the types {row(case.exact_hazards)}; {finding.witness}"
    return Finding(finding.gap, told, applies=_rises(case.exact_hazards))


@LEDGER.claim(
    "contract/E9",
    source="Theorem 3 and the text after it",
    statement="At the optimum all incentive constraints bind",
    instances=cases(worked=WORKED[:1], suits=lambda case: len(case.types) > 1, max_types=6),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="contract/R11",
    n_instances=20,
    confirm_exactly=exact.all_incentives_bind,
)
def all_incentives_bind(case: Case) -> Finding:
    """Read the slacks of the downward and of the other upward constraints off the certified optimum."""
    contract = case.contract()
    menu = contract.solve()
    money = contract.scales()[1]
    confirm(suboptimality(contract, menu["quantity"]) <= 1e-9, "multipliers certify that the menu is optimal")
    confirm(largest(upward_slack(contract, menu)) <= 1e-9 * money, "all local upward constraints bind")
    table = menus.utility_matrix(contract.types, menu["quantity"], menu["payment"], contract.unit_cost)
    slack = np.diag(table)[:, None] - table
    k, j = (int(i) for i in np.unravel_index(int(np.argmax(slack)), slack.shape))
    step = contract.unit_cost * (contract.types[j] - contract.types[k]) * menu["quantity"][j]
    lost = float(menu["rent"][k] - menu["rent"][j] - step)
    confirm(abs(lost - slack[k, j]) <= 1e-9 * money, f"rents and the difference in costs make it {lost:.6g}")
    return Finding(
        float(slack[k, j]) / money,
        f"type {k + 1} loses {slack[k, j]:.6g} by taking the contract of type {j + 1}, and nobody gains",
    )
