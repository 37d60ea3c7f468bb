"""The contract paper's results as claims: the corrected ones hold, those false as printed are refuted.

Ids follow the project's list: R for results as corrected, E for statements as the paper prints them. Gaps are
relative to the money at stake (the gain from the first best) or to the largest quantity.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import quad
from scipy.optimize import linprog

from mechopt.formulations import menus
from mechopt.formulations.functions import LogGain
from mechopt.formulations.screening.closed_form import (
    uniform_cutoff,
    uniform_payment,
    uniform_quantity,
    uniform_rent,
    uniform_value,
)
from mechopt.formulations.screening.families import (
    IRREGULAR,
    REGULAR_LOOKING,
    WORKED,
    Case,
    MenuCase,
    Rng,
    SlackCase,
    UniformCase,
    cases,
    fraction,
    grid,
    random_case,
    random_quantities,
    uniform_cases,
)
from mechopt.formulations.screening.model import ScreeningContract
from mechopt.formulations.screening.program import Form
from mechopt.solvers.errors import MechanismError, MechanismWarning
from mechopt.solvers.solution import Solution
from mechopt.verification.audit import Audit
from mechopt.verification.claim import Finding, Ledger, Verdict

Array = NDArray[np.float64]
Fractions = tuple[Fraction, ...]

LEDGER = Ledger()


# ------------------------------------------------------------ second roads to the same numbers


@dataclass(frozen=True)
class _Temptation:
    """The best deviation in a menu, in fractions; positions count from 1, and 0 is the null contract."""

    gain: Fraction
    holder: int
    takes: int


def _best_deviation(
    types: Sequence[Fraction], quantity: Sequence[Fraction], payment: Sequence[Fraction], cost: Fraction
) -> tuple[_Temptation, _Temptation]:
    """Find the best deviation to another's contract and the best one to none, among all of them."""
    n = len(types)
    own = [payment[k] - cost * types[k] * quantity[k] for k in range(n)]
    others = [
        _Temptation(payment[j] - cost * types[k] * quantity[j] - own[k], k + 1, j + 1)
        for k in range(n)
        for j in range(n)
        if j != k
    ]
    out = max((_Temptation(-own[k], k + 1, 0) for k in range(n)), key=lambda t: t.gain)
    return max(others, key=lambda t: t.gain, default=_Temptation(Fraction(0), 1, 1)), out


def _cheapest_payments(types: Sequence[Fraction], quantity: Sequence[Fraction], cost: Fraction) -> Fractions:
    """Equation (41) as the paper prints it, in fractions, from the last type down."""
    payment = [cost * types[-1] * quantity[-1]]
    for k in range(len(types) - 2, -1, -1):
        payment.append(payment[-1] + cost * types[k] * (quantity[k] - quantity[k + 1]))
    return tuple(reversed(payment))


def _value(contract: ScreeningContract, quantity: Array) -> float:
    """Value quantities for the demander, rents being the sums of the steps above each type."""
    steps = contract.unit_cost * np.diff(contract.types) * quantity[1:]
    rent = np.append(np.triu(np.ones((steps.size, steps.size))) @ steps, 0.0)
    payment = contract.unit_cost * contract.types * quantity + rent
    return float(contract.probs @ (contract.gain(contract.types * quantity) - payment))


def _suboptimality(contract: ScreeningContract, quantity: Array) -> float:
    r"""Bound on what monotone quantities fall short of the optimum, from the multipliers of monotonicity.

    The multipliers that make the quantities stationary are the negative cumulated net marginal gains. Since
    the problem is concave, the shortfall is at most what their signs and complementary slackness leave open.
    """
    types, probs, cost = contract.types, contract.probs, contract.unit_cost
    earlier = np.append(0.0, np.cumsum(probs)[:-1])
    marginal_cost = cost * (probs * types + earlier * np.diff(types, prepend=types[0]))
    multiplier = np.cumsum(marginal_cost - probs * types * contract.gain.derivative(types * quantity))
    drop = quantity - np.append(quantity[1:], 0.0)
    shortfall = (
        np.maximum(multiplier, 0) @ np.maximum(drop, 0) + np.sum(np.maximum(-multiplier, 0)) * quantity[0]
    )
    wrong_order = float(np.max(np.maximum(-drop, 0))) / max(float(np.max(quantity)), 1e-300)
    return max(float(shortfall) / contract.scales()[1], wrong_order)


def _upward_slack(contract: ScreeningContract, menu: Any) -> Array:
    """Compute what each type but the last loses by taking the next higher type's contract."""
    quantity, payment = menu["quantity"], menu["payment"]
    own = payment - contract.unit_cost * contract.types * quantity
    slack: Array = own[:-1] - (payment[1:] - contract.unit_cost * contract.types[:-1] * quantity[1:])
    return slack


def _largest(values: ArrayLike) -> float:
    return float(np.max(np.abs(values), initial=0.0))


def _conic(contract: ScreeningContract, form: Form) -> Solution:
    """Solve the declared program by an interior-point method; only the reduced form sets payments."""
    with warnings.catch_warnings():
        # A claim measures the answer itself; what the solver thinks of its accuracy adds nothing.
        warnings.simplefilter("ignore", MechanismWarning)
        return contract.solve("clarabel", form=form, tolerance=1e-8, on_failure="return")


def _row(values: Sequence[float] | Array | Fractions) -> str:
    return "(" + ", ".join(f"{float(value):.6g}" for value in values) + ")"


def _confirm(fact: bool, what: str) -> None:
    """Stop a refutation that its second computation does not bear out: the claim becomes undecided."""
    if not fact:
        raise MechanismError(f"not confirmed: {what}")


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
        payment = list(_cheapest_payments(types, quantity, Fraction(1)))
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
    truth = _best_deviation(types, quantity, payment, fraction(case.unit_cost))
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
        f"quantities {_row(quantity)}: a rise worth {owed:.6g}, the audit finds {audit.ic_violation:.6g}",
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
    return Finding(gap, f"rents {_row(rent)}", applies=audit.ic_violation <= 1e-12 * audit.scale)


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
    rents = {form: float(_conic(contract, form)["rent"][-1]) for form in ("full", "local")}
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
        direct = _value(contract, quantity)
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
    slack = _upward_slack(contract, menu)
    gap = max(_largest(slack) / contract.scales()[1], _suboptimality(contract, menu["quantity"]))
    return Finding(gap, f"quantities {_row(menu['quantity'])}, slacks {_row(slack)}")


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
        menu = _conic(contract, form)
        slack, rise = _upward_slack(contract, menu), np.diff(menu["quantity"])
        size = max(_largest(menu["quantity"]), 1e-300)
        found = max(_largest(slack) / contract.scales()[1], float(np.max(rise, initial=0.0)) / size)
        if found >= gap:
            gap, worst = found, f"{form}: slacks {_row(slack)}"
    return Finding(gap, worst)


@LEDGER.claim(
    "contract/R12",
    source="(41)",
    statement="For given falling quantities, (41) gives the cheapest payments that keep IC and IR",
    instances=_any_menus,
    tolerance=1e-8,
    n_instances=60,
)
def cheapest_payments(case: MenuCase) -> Finding:
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
    gap = _largest(formula - answer.x) / max(_largest(formula), 1e-300) if answer.success else float("nan")
    return Finding(gap, f"(41) gives {_row(formula)}, the linear program {answer.x}")


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
        _suboptimality(contract, form.quantity),
        abs(best.objective - _value(contract, form.quantity)) / contract.scales()[1],
        float(not form.valid),
    )
    return Finding(gap, f"formula {_row(form.quantity)}, optimum {_row(best['quantity'])}; {form.reason}")


@LEDGER.claim(
    "contract/R7-costate",
    source="(25)-(27)",
    statement="λ = F: the net price of a local IC is the probability of a lower type, if all types trade",
    instances=cases("log", "root", "saturating"),
    tolerance=1e-5,
    n_instances=30,
)
def prices_are_probabilities(case: Case) -> Finding:
    """Read the prices off the local program, with those of IR, which sum to the price of one unit for all.

    Types without trade have the same constraint twice, so that only the sum of both prices is determined.
    """
    contract = case.contract()
    menu = _conic(contract, "local")
    # Raising the outside option is a loss: its price is negative.
    outside = -np.asarray(menu.dual("ir"))
    net = np.zeros(contract.n_types)
    if contract.n_types > 1:
        net[:-1] = np.asarray(menu.dual("ic_up")) - np.asarray(menu.dual("ic_down"))
    gap = _largest(net + np.cumsum(outside) - contract.cum_probs)
    amount = contract.types * menu["quantity"]
    if amount[-1] > 1e-2 * amount.max():
        gap = max(gap, _largest(net[:-1] - contract.cum_probs[:-1]), abs(outside[-1] - 1))
    return Finding(
        gap, f"net IC prices {_row(net)}, IR prices {_row(outside)}, probabilities {_row(contract.cum_probs)}"
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
    gap = _largest(uniform_rent(levels, *parameters) - np.maximum(rents, 0)) / money

    def utility(eps: float) -> float:
        quantity = float(uniform_quantity(eps, *parameters))
        return float(gain(eps * quantity) - uniform_payment(eps, *parameters))

    value = _integral(utility, lo, cutoff) / (hi - lo)
    gap = max(gap, abs(value - uniform_value(*parameters)) / money)
    # φ = 2 ε - lo: the best amount at this price per unit of ε q, from the gain's own inverse slope.
    best = gain.inverse_derivative(cost * (2 * levels - lo) / levels) / levels
    quantity = uniform_quantity(levels, *parameters)
    gap = max(gap, _largest(quantity - best) / max(_largest(best), 1e-300))
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
    misused = _value(contract, menu["quantity"])
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
        "certificate": _suboptimality(contract, best["quantity"]),
        "audit": contract.audit(best).relative,
        "value": abs(best.objective - _value(contract, best["quantity"])) / money,
    }
    if form.valid:
        size = max(_largest(contract.types * best["quantity"]), 1e-300)
        gaps["quantity"] = _largest(contract.types * (form.quantity - best["quantity"])) / size
        gaps["payment"] = _largest(form.payment - best["payment"]) / money
        gaps["formula value"] = abs(form.objective - best.objective) / money
    else:
        gaps["repair beats optimum"] = (contract.repair(form).objective - best.objective) / money
        gaps["rejected although compatible"] = float(contract.audit(form).ic_violation <= 0)
    worst = max(gaps, key=lambda name: gaps[name])
    told = (
        f"{worst} {gaps[worst]:.1e}: formula {_row(form.formula_quantity)}, optimum {_row(best['quantity'])}"
    )
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
        menu = _conic(contract, name)
        errors = (menu.objective - value, contract.repair(menu).objective - value)
        found = max(_largest(errors) / money, contract.audit(menu).relative)
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
    gap = max(_largest(order - 1) for order in orders.values())
    return Finding(gap, "; ".join(f"{name} orders {_row(order)}" for name, order in orders.items()))


def _grid_errors(case: UniformCase, n_types: int, kind: Any) -> tuple[float, float, float]:
    """Error of value and payments on a grid, and the largest relative difference of quantities."""
    parameters = (case.lo, case.hi, case.gain, case.unit_cost)
    types = grid(case, n_types, kind)
    menu = ScreeningContract(types, gain=case.gain, unit_cost=case.unit_cost).solve()
    quantity = uniform_quantity(types, *parameters)
    return (
        abs(menu.objective - uniform_value(*parameters)),
        _largest(menu["payment"] - uniform_payment(types, *parameters)),
        _largest(menu["quantity"] - quantity) / _largest(quantity),
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
        gap = max(gap, _largest(utility.max(axis=1) - chosen) / case_money(case))
        realised[kind] = float(np.mean(case.gain(eps * quantity[predicted]) - payment[predicted]))
        told += f"{kind} grid: realised value {realised[kind]:.6g}; "
    optimum = uniform_value(case.lo, case.hi, case.gain, case.unit_cost)
    return Finding(gap, f"{told}largest regret of the predicted choice {gap:.1e}; optimum {optimum:.6g}")


# ------------------------------------------------------------ errata: statements as printed


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

    A failure is confirmed by the true optimum: it passes the audit and a certificate of optimality, and its
    value is at least that of the quantities made monotone.
    """
    cost = fraction(case.unit_cost)
    payment = _cheapest_payments(case.exact_types, quantity, cost)
    worst, _ = _best_deviation(case.exact_types, quantity, payment, cost)
    if worst.gain <= 0:
        return Finding(0.0, f"{label} gives {_row(quantity)}, which is incentive compatible")
    contract = case.contract()
    best, money = contract.solve(), contract.scales()[1]
    repaired = _value(contract, menus.nearest_monotone(np.array(quantity, dtype=float), case.probs))
    audit: Audit = contract.audit(best)
    _confirm(audit.ok(1e-12), f"the optimum must pass the audit, {audit}")
    _confirm(_suboptimality(contract, best["quantity"]) <= 1e-9, "the optimum must be certified")
    _confirm(best.objective >= repaired - 1e-12 * money, "the optimum must beat the repaired formula")
    promised = _value(contract, np.array(quantity, dtype=float))
    return Finding(
        float(worst.gain) / money,
        f"{label} gives quantities {_row(quantity)}: type {worst.holder} gains {_told(worst.gain)} by taking "
        f"the contract of type {worst.takes}; the promised value {promised:.8g} is out of reach: the optimum "
        f"{_row(best['quantity'])} gives {best.objective:.8g}, the formula made monotone {repaired:.8g}",
    )


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
    _confirm(abs(slope - right) <= 1e-5 * abs(right), f"u' = {slope:.8g} must be -c q = {right:.8g}")
    told = f"at eps = {eps:.6g} the rent changes at the rate {slope:.6g} = -c q, not f q = {printed:.6g}"
    return Finding(abs(slope - printed) / abs(right), told)


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
    for menu in (best, {"quantity": quantity, "payment": payment}):
        audit: Audit = contract.audit(menu)
        _confirm(audit.ok(1e-12), f"both menus must pass the audit, {audit}")
    value = _value(contract, quantity)
    return Finding(
        (best.objective - value) / money,
        f"(42) gives {_row(printed)}, made monotone worth {value:.8g}; {_row(best['quantity'])} is worth "
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
)
def lower_payments_below(case: SlackCase) -> Finding:
    """Take the step in fractions, as printed and with j <= k."""
    types, quantity = (tuple(map(fraction, values)) for values in (case.types, case.quantity))
    cost, k = fraction(case.unit_cost), case.slack_at
    tight = _cheapest_payments(types, quantity, cost)
    before = _lowered(tight, k, -case.slack)
    as_printed, corrected = _lowered(before, k - 1, case.slack), _lowered(before, k, case.slack)

    def slack(payment: Fractions) -> Fraction:
        return payment[k - 1] - payment[k] - cost * types[k - 1] * (quantity[k - 1] - quantity[k])

    gains = {
        name: max(t.gain for t in _best_deviation(types, quantity, payment, cost))
        for name, payment in (("before", before), ("printed", as_printed), ("corrected", corrected))
    }
    _confirm(
        gains["before"] <= 0 and slack(before) == case.slack, "the menu must be feasible, with the slack"
    )
    _confirm(gains["corrected"] <= 0 and slack(corrected) == 0, "with j <= k the step must work")
    worst, _ = _best_deviation(types, quantity, as_printed, cost)
    hurt = (
        f"type {worst.holder} then gains {worst.gain} by taking the contract of type {worst.takes}"
        if worst.gain > 0
        else "nobody then gains by another contract"
    )
    return Finding(
        float(max(worst.gain, slack(as_printed))),
        f"payments {_row(before)} leave type {k} a slack of {case.slack}; lowering those of types below {k} "
        f"leaves the slack at {slack(as_printed)}, and {hurt}; lowering that of type {k} too makes it bind, "
        "and nobody gains by another contract",
    )


def _lowered(payment: Fractions, n_first: int, amount: Fraction) -> Fractions:
    """Payments, those of the first types lowered."""
    return tuple(value - amount if index < n_first else value for index, value in enumerate(payment))


@LEDGER.claim(
    "contract/E7",
    source="section VI",
    statement="On the paper's grid the discrete data function gets closer to the continuous one as K grows",
    instances=uniform_cases,
    tolerance=0.5,
    expected=Verdict.REFUTED,
    corrected_by="contract/R14",
    n_instances=10,
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
)
def increasing_virtual_type_suffices(case: Case) -> Finding:
    """Look for a holder who gains by another's contract though virtual types increase."""
    finding = _deviation_from(case, _formula(case, case.exact_virtual_types), "the formula")
    told = f"virtual types {_row(case.exact_virtual_types)}; {finding.witness}"
    return Finding(finding.gap, told, applies=_rises(case.exact_virtual_types))


@LEDGER.claim(
    "contract/E8-hazard",
    source="(28), (29)",
    statement="The hazard-rate condition, F/f non-decreasing, makes (29) optimal",
    instances=cases(worked=(REGULAR_LOOKING,), suits=lambda case: _rises(case.exact_hazards), max_types=4),
    tolerance=1e-9,
    expected=Verdict.REFUTED,
    corrected_by="contract/R7",
)
def hazard_condition_suffices(case: Case) -> Finding:
    """Look for a holder who gains by another's contract though F/f does not fall."""
    finding = _deviation_from(case, _formula(case, case.exact_virtual_types), "the formula")
    told = f"F/f at the types {_row(case.exact_hazards)}; {finding.witness}"
    return Finding(finding.gap, told, applies=_rises(case.exact_hazards))
