"""The contract paper's results, as corrected: all of them hold."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.optimize import linprog

from mechopt.formulations import menus
from mechopt.formulations.screening.claims.roads import (
    LEDGER,
    Fractions,
    best_deviation,
    cheapest_payments,
    conic,
    menu_value,
    suboptimality,
    upward_slack,
)
from mechopt.formulations.screening.closed_form import (
    uniform_cutoff,
    uniform_payment,
    uniform_quantity,
    uniform_rent,
    uniform_value,
)
from mechopt.formulations.screening.families import (
    WORKED,
    Case,
    MenuCase,
    Rng,
    UniformCase,
    cases,
    grid,
    random_case,
    random_quantities,
    uniform_cases,
)
from mechopt.formulations.screening.model import ScreeningContract
from mechopt.verification.claim import Finding
from mechopt.verification.evidence import fraction, largest, row

Array = NDArray[np.float64]


# ------------------------------------------------------------ feasible menus


def _menu_case(types: Fractions, quantity: Fractions, payment: Fractions) -> MenuCase:
    return MenuCase(tuple(map(float, types)), tuple(map(float, quantity)), tuple(map(float, payment)))


def _any_menus(rng: Rng, n: int) -> Iterator[MenuCase]:
    """Menus with the cheapest payments, as they are or with quantities or payments spoilt."""
    yield from (
        MenuCase((1.0, 2.0, 3.0), (3.0, 2.0, 1.0), (6.0, 5.0, 3.0)),
        MenuCase((1.0, 2.0, 3.0), (3.0, 2.0, 1.0), (5.9, 5.0, 3.0)),
        MenuCase((1.0, 2.0, 3.0), (3.0, 1.0, 2.0), (8.0, 6.0, 6.0)),
    )[:n]
    for turn in range(n - 3):
        types = random_case(rng).exact_types
        quantity = tuple(map(fraction, random_quantities(rng, len(types), monotone=turn % 4 != 1)))
        payment = list(cheapest_payments(types, quantity, Fraction(1)))
        if turn % 4 == 2:
            payment[int(rng.integers(len(types)))] += Fraction(int(rng.choice([-1, 1])), 10)
        if turn % 4 == 3:
            payment = [amount - Fraction(1, 10) for amount in payment]
        yield _menu_case(types, quantity, tuple(payment))


@LEDGER.claim(
    "contract/R2",
    source="Definitions 2, 3; (5), (6)",
    statement="The audit finds a violation of IC or IR exactly if a holder gains by another contract or none",
    instances=_any_menus,
    tolerance=1e-12,
    n_instances=200,
)
def audit_is_the_definition(case: MenuCase) -> Finding:
    """Compare the audit in floating point with all pairs in fractions, both the verdict and the size."""
    types, quantity, payment = (tuple(map(fraction, v)) for v in (case.types, case.quantity, case.payment))
    truth = best_deviation(types, quantity, payment, fraction(case.unit_cost))
    audit = case.contract().audit(case.menu)
    gap = 0.0
    for exact, found in zip(truth, (audit.ic_violation, audit.ir_violation), strict=True):
        verdicts_differ = (exact.gain > 0) != (found > 1e-12 * audit.scale)
        gap = max(gap, float(verdicts_differ), abs(max(float(exact.gain), 0.0) - found) / audit.scale)
    return Finding(gap, f"by the definition {[float(t.gain) for t in truth]}, by the audit {audit}")


@LEDGER.claim(
    "contract/R3",
    source="Proposition 1; (9), (10)",
    statement="With payments (41) a menu is IC exactly if quantities fall; otherwise a holder gains the rise",
    instances=_any_menus,
    tolerance=1e-12,
    n_instances=200,
)
def incentives_are_monotonicity(case: MenuCase) -> Finding:
    """Audit cheapest payments: no gain if quantities fall, else c (δ_{k+1} - δ_k) (q_{k+1} - q_k) or more."""
    contract, quantity = case.contract(), np.array(case.quantity)
    payment = menus.payments(contract.types, quantity, contract.unit_cost)
    audit = contract.audit({"quantity": quantity, "payment": payment})
    rises = contract.unit_cost * np.diff(contract.types) * np.diff(quantity)
    owed = max(float(np.max(rises, initial=0.0)), 0.0)
    excess = audit.ic_violation if owed == 0 else owed - audit.ic_violation
    return Finding(
        max(excess, 0.0) / audit.scale,
        f"quantities {row(quantity)}: a rise worth {owed:.6g}, the audit finds {audit.ic_violation:.6g}",
    )


def _compatible_menus(rng: Rng, n: int) -> Iterator[MenuCase]:
    """Any incentive compatible menus: rents fall by what the two local bounds allow, and start anywhere."""
    yield from (
        MenuCase((1.0, 2.0, 3.0), (3.0, 2.0, 1.0), (6.5, 5.5, 3.5)),
        MenuCase((1.0, 2.0, 3.0), (3.0, 2.0, 1.0), (5.5, 4.5, 2.5)),
    )[:n]
    for _ in range(n - 2):
        types = random_case(rng).exact_types
        quantity = tuple(map(fraction, random_quantities(rng, len(types), monotone=True)))
        rent = [Fraction(int(rng.integers(-20, 21)), 10)]
        for k in range(len(types) - 2, -1, -1):
            share = Fraction(int(rng.integers(5)), 4)
            slope = share * quantity[k] + (1 - share) * quantity[k + 1]
            rent.append(rent[-1] + (types[k + 1] - types[k]) * slope)
        payment = tuple(u + d * q for u, d, q in zip(reversed(rent), types, quantity, strict=True))
        yield _menu_case(types, quantity, payment)


@LEDGER.claim(
    "contract/R4",
    source="Proposition 2; (18)-(20)",
    statement="In an IC menu with q >= 0 everybody takes part exactly if the highest type does",
    instances=_compatible_menus,
    tolerance=1e-12,
    n_instances=200,
)
def highest_type_decides(case: MenuCase) -> Finding:
    """Compare the audit over all types with the last type's utility, and the fall of rents with (19)."""
    contract, menu = case.contract(), case.menu
    audit = contract.audit(menu)
    rent = menu["payment"] - contract.unit_cost * contract.types * menu["quantity"]
    worst = max(-float(rent[-1]), 0.0)
    steps, fall = contract.unit_cost * np.diff(contract.types), -np.diff(rent)
    outside = np.maximum(steps * menu["quantity"][1:] - fall, fall - steps * menu["quantity"][:-1])
    gap = max(abs(audit.ir_violation - worst), float(np.max(outside, initial=0.0))) / audit.scale
    return Finding(gap, f"rents {row(rent)}", applies=audit.ic_violation <= 1e-12 * audit.scale)


# ------------------------------------------------------------ what binds at the optimum


@LEDGER.claim(
    "contract/R5",
    source="Theorems 1 and 2; (21)",
    statement="At the optimum the highest type has no rent",
    instances=cases("log", "root", "saturating"),
    tolerance=1e-7,
    n_instances=30,
)
def no_rent_at_the_top(case: Case) -> Finding:
    """Read the rent off programs in which payments are variables of their own."""
    contract = case.contract()
    rents = {form: float(conic(contract, form)["rent"][-1]) for form in ("full", "local")}
    return Finding(max(map(abs, rents.values())) / contract.scales()[1], f"rent of the highest type {rents}")


@LEDGER.claim(
    "contract/R6",
    source="(22)",
    statement="The demander's value is the expected gain less the expected virtual cost of the quantities",
    instances=cases("log", "power", "saturating", "quadratic"),
    tolerance=1e-12,
    n_instances=100,
)
def value_without_payments(case: Case) -> Finding:
    """Compare gain less payments with gain less virtual cost, at the optimum and elsewhere."""
    contract = case.contract()
    gap, worst = 0.0, ""
    for quantity in (contract.solve()["quantity"], 1 / contract.types, np.full(contract.n_types, 2.0)):
        amount = contract.types * quantity
        virtual = float(contract.probs @ (contract.gain(amount) - contract.virtual_cost * quantity))
        direct = menu_value(contract, quantity)
        size = float(contract.probs @ (contract.gain(amount) + contract.virtual_cost * quantity)) or 1.0
        if abs(virtual - direct) / size >= gap:
            gap, worst = abs(virtual - direct) / size, f"{virtual!r} by virtual cost, {direct!r} by payments"
    return Finding(gap, worst)


@LEDGER.claim(
    "contract/R11",
    source="Theorem 3; (33)-(39)",
    statement="At the optimum quantities fall and every local upward IC binds, pools included",
    instances=cases("log", "power", "saturating", "quadratic"),
    tolerance=1e-9,
    n_instances=200,
)
def upward_constraints_bind(case: Case) -> Finding:
    """Read the slack off the exact menu, after a certificate that it is the optimum."""
    contract = case.contract()
    menu = contract.solve()
    slack = upward_slack(contract, menu)
    gap = max(largest(slack) / contract.scales()[1], suboptimality(contract, menu["quantity"]))
    return Finding(gap, f"quantities {row(menu['quantity'])}, slacks {row(slack)}")


@LEDGER.claim(
    "contract/R11-conic",
    source="Theorem 3; (33)-(39)",
    statement="The same where payments are variables and nothing but the programs says what binds",
    instances=cases("log", "root", "saturating"),
    tolerance=1e-6,
    n_instances=30,
)
def upward_constraints_bind_in_programs(case: Case) -> Finding:
    """Read the slack off the answers of the full and the local program."""
    contract = case.contract()
    gap, worst = 0.0, "a single type"
    for form in ("full", "local"):
        menu = conic(contract, form)
        slack, rise = upward_slack(contract, menu), np.diff(menu["quantity"])
        size = max(largest(menu["quantity"]), 1e-300)
        found = max(largest(slack) / contract.scales()[1], float(np.max(rise, initial=0.0)) / size)
        if found >= gap:
            gap, worst = found, f"{form}: slacks {row(slack)}"
    return Finding(gap, worst)


@LEDGER.claim(
    "contract/R12",
    source="(41)",
    statement="For given falling quantities, (41) gives the cheapest payments that keep IC and IR",
    instances=_any_menus,
    tolerance=1e-8,
    n_instances=60,
)
def printed_payments_are_cheapest(case: MenuCase) -> Finding:
    """Minimise every payment's sum over all IC and IR constraints as a linear program, quantities given."""
    contract = case.contract()
    types, cost, n = contract.types, contract.unit_cost, contract.n_types
    quantity = np.sort(case.quantity)[::-1]
    k, j = np.nonzero(~np.eye(n, dtype=bool))
    temptation = np.zeros((k.size, n))
    temptation[np.arange(k.size), j], temptation[np.arange(k.size), k] = 1.0, -1.0
    bound = cost * types[k] * (quantity[j] - quantity[k])
    answer = linprog(
        np.ones(n),
        A_ub=np.vstack([temptation, -np.eye(n)]),
        b_ub=np.append(bound, -cost * types * quantity),
        bounds=(None, None),
        method="highs",
    )
    formula = menus.payments(types, quantity, cost)
    gap = largest(formula - answer.x) / max(largest(formula), 1e-300) if answer.success else float("nan")
    return Finding(gap, f"(41) gives {row(formula)}, the linear program {answer.x}")


# ------------------------------------------------------------ the optimal quantities


def _virtual_ratio_rises(case: Case) -> bool:
    ratio = [phi / delta for phi, delta in zip(case.exact_virtual_types, case.exact_types, strict=True)]
    return all(a <= b for a, b in pairwise(ratio))


@LEDGER.claim(
    "contract/R7",
    source="(28), (29)",
    statement="If φ(ε)/ε is non-decreasing, (29) clipped at 0 is optimal, whatever the concave gain",
    instances=cases(
        "log", "power", "saturating", "quadratic", worked=WORKED[:1], suits=_virtual_ratio_rises, max_types=7
    ),
    tolerance=1e-9,
    n_instances=100,
)
def rising_ratio_suffices(case: Case) -> Finding:
    """Certify the formula's quantities by multipliers, and compare their value with the exact optimum."""
    contract = case.contract()
    form, best = contract.closed_form(), contract.solve()
    gap = max(
        suboptimality(contract, form.quantity),
        abs(best.objective - menu_value(contract, form.quantity)) / contract.scales()[1],
        float(not form.valid),
    )
    return Finding(gap, f"formula {row(form.quantity)}, optimum {row(best['quantity'])}; {form.reason}")


@LEDGER.claim(
    "contract/R7-costate",
    source="(25)-(27)",
    statement="λ = F: the net price of a local IC is the probability of a lower type, if all types trade",
    instances=cases("log", "root", "saturating"),
    tolerance=1e-6,
    n_instances=30,
)
def prices_are_probabilities(case: Case) -> Finding:
    """Read the prices off the local program, with those of IR, which sum to the price of one unit for all.

    Types without trade have the same constraint twice, so that only the sum of both prices is determined.
    """
    contract = case.contract()
    menu = conic(contract, "local")
    # Raising the outside option is a loss: its price is negative.
    outside = -np.asarray(menu.dual("ir"))
    net = np.zeros(contract.n_types)
    if contract.n_types > 1:
        net[:-1] = np.asarray(menu.dual("ic_up")) - np.asarray(menu.dual("ic_down"))
    gap = largest(net + np.cumsum(outside) - contract.cum_probs)
    amount = contract.types * menu["quantity"]
    if amount[-1] > 1e-2 * amount.max():
        gap = max(gap, largest(net[:-1] - contract.cum_probs[:-1]), abs(outside[-1] - 1))
    return Finding(
        gap, f"net IC prices {row(net)}, IR prices {row(outside)}, probabilities {row(contract.cum_probs)}"
    )


@LEDGER.claim(
    "contract/R8",
    source="(29)-(31)",
    statement="Uniform types: quantity, rent and value have closed forms; high types stay out if r is small",
    instances=uniform_cases,
    tolerance=1e-9,
    n_instances=40,
)
def uniform_closed_forms(case: UniformCase) -> Finding:
    """Integrate quantities to rents, utilities to the value, and maximise the virtual surplus pointwise."""
    lo, hi, gain, cost = case.lo, case.hi, case.gain, case.unit_cost
    parameters = (lo, hi, gain, cost)
    cutoff, money = uniform_cutoff(*parameters), case_money(case)
    levels = np.linspace(lo, hi, 7)
    rents = [cost * _integral(lambda t: uniform_quantity(t, *parameters), e, min(cutoff, hi)) for e in levels]
    gap = largest(uniform_rent(levels, *parameters) - np.maximum(rents, 0)) / money

    def utility(eps: float) -> float:
        quantity = float(uniform_quantity(eps, *parameters))
        return float(gain(eps * quantity) - uniform_payment(eps, *parameters))

    value = _integral(utility, lo, cutoff) / (hi - lo)
    gap = max(gap, abs(value - uniform_value(*parameters)) / money)
    # φ = 2 ε - lo: the best amount at this price per unit of ε q, from the gain's own inverse slope.
    best = gain.inverse_derivative(cost * (2 * levels - lo) / levels) / levels
    quantity = uniform_quantity(levels, *parameters)
    gap = max(gap, largest(quantity - best) / max(largest(best), 1e-300))
    return Finding(
        gap, f"value {uniform_value(*parameters):.10g}, integrated {value:.10g}, cutoff {cutoff:.6g}"
    )


def case_money(case: UniformCase) -> float:
    """Money at stake with uniform types: the gain from the first best."""
    return ScreeningContract(np.array([case.lo]), gain=case.gain, unit_cost=case.unit_cost).scales()[1]


def _integral(function: Any, start: float, stop: float) -> float:
    return 0.0 if stop <= start else float(quad(function, start, stop, epsabs=0, epsrel=1e-11, limit=200)[0])


@LEDGER.claim(
    "contract/R10",
    source="(32)",
    statement="(32) is K times the value at equal probabilities; elsewhere its menu is no better",
    instances=cases("log", "power", "saturating", "quadratic"),
    tolerance=1e-9,
    n_instances=100,
)
def equal_weights(case: Case) -> Finding:
    """Add up (32) without weights; offer its menu to holders who are not equally likely."""
    contract = case.contract()
    equal = ScreeningContract(contract.types, gain=contract.gain, unit_cost=contract.unit_cost)
    menu, best = equal.solve(), contract.solve()
    total = float(np.sum(contract.gain(contract.types * menu["quantity"]) - menu["payment"]))
    money = contract.scales()[1]
    misused = menu_value(contract, menu["quantity"])
    gap = max(abs(total / contract.n_types - menu.objective), misused - best.objective) / money
    return Finding(
        gap,
        f"(32) {total:.10g}, value {menu.objective:.10g}; at other probabilities {misused:.10g}, "
        f"their optimum {best.objective:.10g}",
    )


@LEDGER.claim(
    "contract/R13",
    source="(42)",
    statement="(42) with virtual types, clipped at 0, is optimal where it falls; elsewhere pooling is",
    instances=cases("log", "power", "saturating", "quadratic"),
    tolerance=1e-9,
    n_instances=300,
)
def formula_where_valid(case: Case) -> Finding:
    """Certify the exact menu by multipliers and audit; compare the formula with it, or its repair."""
    contract = case.contract()
    form, best = contract.closed_form(), contract.solve()
    money = contract.scales()[1]
    gaps = {
        "certificate": suboptimality(contract, best["quantity"]),
        "audit": contract.audit(best).relative,
        "value": abs(best.objective - menu_value(contract, best["quantity"])) / money,
    }
    if form.valid:
        size = max(largest(contract.types * best["quantity"]), 1e-300)
        gaps["quantity"] = largest(contract.types * (form.quantity - best["quantity"])) / size
        gaps["payment"] = largest(form.payment - best["payment"]) / money
        gaps["formula value"] = abs(form.objective - best.objective) / money
    else:
        gaps["repair beats optimum"] = (contract.repair(form).objective - best.objective) / money
        gaps["rejected although compatible"] = float(contract.audit(form).ic_violation <= 0)
    worst = max(gaps, key=lambda name: gaps[name])
    told = f"{worst} {gaps[worst]:.1e}: formula {row(form.formula_quantity)}, optimum {row(best['quantity'])}"
    return Finding(gaps[worst], told)


@LEDGER.claim(
    "contract/R13-conic",
    source="(42)",
    statement="Its value is that of the declared programs: all ICs, local ICs, and payments eliminated",
    instances=cases("log", "root", "saturating", "quadratic"),
    tolerance=1e-6,
    n_instances=30,
)
def formula_against_programs(case: Case) -> Finding:
    """Solve three forms by an interior-point method; compare values before and after repair, and audit."""
    contract = case.contract()
    form = contract.closed_form()
    value, money = form.objective if form.valid else contract.solve().objective, contract.scales()[1]
    gap, worst = 0.0, ""
    for name in ("full", "local", "reduced"):
        menu = conic(contract, name)
        errors = (menu.objective - value, contract.repair(menu).objective - value)
        found = max(largest(errors) / money, contract.audit(menu).relative)
        if found >= gap:
            gap, worst = found, f"{name}: {menu.objective:.10g}, oracle {value:.10g}"
    return Finding(gap, worst)


# ------------------------------------------------------------ grids for continuous types


def _served_uniform(rng: Rng, n: int) -> Iterator[UniformCase]:
    """Uniform types all of whom are served, however wide the interval."""
    drawn = uniform_cases(rng, 50 * n + 50)
    served = (c for c in drawn if c.gain.weight * c.gain.scale / c.unit_cost >= 2)
    yield from (case for case, _ in zip(served, range(n), strict=False))


@LEDGER.claim(
    "contract/R14",
    source="section V, grid; section VI",
    statement="Uniform types, paper's grid: q agrees at every K; payments and value converge at order 1",
    instances=_served_uniform,
    tolerance=0.1,
    n_instances=20,
)
def grid_converges_at_order_one(case: UniformCase) -> Finding:
    """Fit orders over three doublings, cells at most 1/64 of the lowest type, on both grids."""
    start = int(np.ceil(64 * (case.hi - case.lo) / case.lo))
    sizes = [start * 2**i for i in range(4)]
    orders: dict[str, Array] = {}
    for kind in ("paper", "right"):
        errors = np.array([_grid_errors(case, n_types, kind) for n_types in sizes])
        for name, series in zip(("value", "payment"), errors.T, strict=False):
            orders[f"{kind} {name}"] = np.log2(series[:-1] / series[1:])
        if kind == "paper" and errors[:, 2].max() > 1e-12:
            return Finding(float("inf"), f"quantities differ by {errors[:, 2].max():.1e} on the paper's grid")
    gap = max(largest(order - 1) for order in orders.values())
    return Finding(gap, "; ".join(f"{name} orders {row(order)}" for name, order in orders.items()))


def _grid_errors(case: UniformCase, n_types: int, kind: Any) -> tuple[float, float, float]:
    """Error of value and payments on a grid, and the largest relative difference of quantities."""
    parameters = (case.lo, case.hi, case.gain, case.unit_cost)
    types = grid(case, n_types, kind)
    menu = ScreeningContract(types, gain=case.gain, unit_cost=case.unit_cost).solve()
    quantity = uniform_quantity(types, *parameters)
    return (
        abs(menu.objective - uniform_value(*parameters)),
        largest(menu["payment"] - uniform_payment(types, *parameters)),
        largest(menu["quantity"] - quantity) / largest(quantity),
    )


@LEDGER.claim(
    "contract/R15",
    source="section V, grid",
    statement="Types off the grid take the next higher contract; the paper's grid shuts the top cell out",
    instances=uniform_cases,
    tolerance=1e-9,
    n_instances=40,
)
def continuous_types_on_a_grid(case: UniformCase) -> Finding:
    """Let types inside each cell choose from the whole menu, and compare with the predicted choice."""
    n_types, gap, told = 20, 0.0, ""
    step = (case.hi - case.lo) / n_types
    eps = case.lo + step * (np.arange(5 * n_types) + 0.5) / 5
    realised = {}
    for kind in ("paper", "right"):
        types = grid(case, n_types, kind)
        menu = ScreeningContract(types, gain=case.gain, unit_cost=case.unit_cost).solve()
        # The null contract comes last, which is where types above the grid are predicted to end up.
        quantity, payment = np.append(menu["quantity"], 0.0), np.append(menu["payment"], 0.0)
        utility = menus.utility_matrix(eps, quantity, payment, case.unit_cost)
        predicted = np.searchsorted(types, eps)
        chosen = utility[np.arange(eps.size), predicted]
        gap = max(gap, largest(utility.max(axis=1) - chosen) / case_money(case))
        realised[kind] = float(np.mean(case.gain(eps * quantity[predicted]) - payment[predicted]))
        told += f"{kind} grid: realised value {realised[kind]:.6g}; "
    optimum = uniform_value(case.lo, case.hi, case.gain, case.unit_cost)
    return Finding(gap, f"{told}largest regret of the predicted choice {gap:.1e}; optimum {optimum:.6g}")
