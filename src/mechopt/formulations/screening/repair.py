"""Menus made exactly incentive compatible, and measured again by the program that they answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations import menus
from mechopt.formulations.screening.exact_route import ExactContract, variable_values
from mechopt.formulations.screening.model import ScreeningContract, values_size
from mechopt.formulations.screening.program import Extensions
from mechopt.solvers import certify
from mechopt.solvers.backend import DEFAULT_TOLERANCE
from mechopt.solvers.program import Program
from mechopt.solvers.solution import Solution, Status

Array = NDArray[np.float64]

BASE_FAMILIES = ("ic", "ic_up", "ic_down", "ir", "monotone", certify.DOMAIN)
"""Families that every incentive compatible menu keeps, as long as staying out is worth nothing."""

VALUE_FAMILIES = ("worst_case", "worst_case_entropy", "tail")
"""Families that only compute a value, which is computed anew for a repaired menu."""


def repair(contract: ScreeningContract, menu: Any, program: Program | None) -> Solution:
    """Repair a menu; see `ScreeningContract.repair`."""
    quantity, _ = contract.read(menu, payment=False)
    before = menu if isinstance(menu, Solution) else None
    wanted = _extensions(program)
    burden = menus.nearest_monotone(contract.burden(quantity), contract.probs)
    if wanted.max_menu_size is not None and before is not None and "menu_cut" in before:
        burden = _pooled(burden, before["menu_cut"], contract.probs)
    quantity = burden if contract.cost_curve is None else contract.cost_curve.inverse(burden)
    tolerance = DEFAULT_TOLERANCE if before is None else before.tolerance
    least = menus.payments(contract.types, burden, contract.unit_cost)
    if before is None:
        return contract.as_solution(quantity, least, tolerance).replace(
            status=Status.INACCURATE, reason="repaired; nothing is known of the optimum", backend="repair"
        )
    reason = "repaired"
    changes: dict[str, Any] = {}
    if program is None:
        solution = contract.as_solution(quantity, least, tolerance)
        own = [name for name in before.residuals if name not in BASE_FAMILIES]
        if own:
            reason += f"; not checked again: {', '.join(own)} (pass program=)"
    else:
        own = [
            name
            for name in program.families
            if name not in (*BASE_FAMILIES, *VALUE_FAMILIES) or name in program.changes().added
        ]
        payments = [least]
        if program.has_variable("payment"):
            given = before["payment"]
            free = 0.0 if wanted.outside_option is None else -np.inf
            payments.append(
                menus.nearest_payments(contract.types, burden, given, contract.unit_cost, least_rent=free)
            )
        if wanted.outside_option is not None:
            own.append("ir")
            costs = contract.unit_cost * contract.types * burden
            short = [float(np.max(wanted.outside_option - p + costs)) for p in payments]
            # Exactly what somebody insists on, as outside options may be negative; or no less than was given.
            least_paid = [p + s for p, s in zip(payments, short, strict=True)]
            payments = [*least_paid, payments[-1] + max(short[-1], 0.0)]
        solution, changes, broken = _best(contract, program, wanted, own, before, quantity, payments)
        if broken:
            solution = solution.replace(status=Status.INACCURATE)
            reason += f"; violates {', '.join(broken)}"
    size = values_size(contract, solution)
    gap = None if before.bound is None else abs(before.bound - solution.objective) / size
    lost = before.objective - solution.objective
    if gap is None:
        # Without a bound, the repaired menu is as good as the answer that it lies next to.
        close = before.status.ok and abs(lost) <= tolerance * size
        reason += "" if close else f"; the repair costs {lost:.3g}, and there is no bound"
    else:
        close = gap <= tolerance
        reason += "" if close else f"; relative gap to the bound {gap:.1e}"
    if not close or (own and program is None):
        solution = solution.replace(status=Status.INACCURATE)
    elif solution.status.ok and before.status is Status.LOCAL and gap is None:
        solution = solution.replace(status=Status.LOCAL)
    return solution.replace(
        **changes,
        reason=reason + (f"; {before.reason}" if before.reason else ""),
        backend=before.backend,
        version=before.version,
        bound=before.bound,
        gap=gap,
        duals=before.duals,
        no_duals=before.no_duals,
        seconds=before.seconds,
        options=before.options,
        program=before.program,
        extra={**before.extra, "objective_lost": lost},
    )


def _extensions(program: Program | None) -> Extensions:
    route = None if program is None else program.exact
    return route.extensions if isinstance(route, ExactContract) else Extensions()


def _pooled(burden: Array, cut: Array, probs: Array) -> Array:
    """Give the types between two cuts their mean; those behind the last cut get nothing."""
    behind = cut > 0.5
    contract = np.append(0, np.cumsum(behind)[:-1])
    mean = np.bincount(contract, probs * burden) / np.bincount(contract, probs)
    pooled = np.asarray(mean[contract], dtype=np.float64)
    # Behind the last cut no contract is left but the null contract.
    pooled[contract >= np.count_nonzero(behind)] = 0.0
    return pooled


def _best(
    contract: ScreeningContract,
    program: Program,
    wanted: Extensions,
    own: list[str],
    before: Solution,
    quantity: Array,
    payments: list[Array],
) -> tuple[Solution, dict[str, Any], list[str]]:
    """Of several payments the best that break no family of the program's own; else the last ones tried."""
    found = []
    with program.values_kept():
        for payment in payments:
            trial = contract.as_solution(
                quantity, payment, before.tolerance, outside_option=wanted.outside_option
            )
            given = {**before.values, **variable_values(contract, program, quantity, payment, wanted.cells)}
            residuals, violations = _remeasure(program, given)
            for name in VALUE_FAMILIES:
                if name not in own:
                    residuals.pop(name, None)
                    violations.pop(name, None)
            broken = [name for name in own if residuals[name] > before.tolerance]
            if program.changes().objective:
                objective = float(np.asarray(program.objective.value).item())
            else:
                objective = value(contract, wanted, quantity, payment)
            changes = {"residuals": residuals, "violations": violations}
            found.append((trial.replace(objective=objective), changes, broken))
    sound = [entry for entry in found if not entry[2]]
    sign = 1 if program.sense == "maximize" else -1
    return max(sound, key=lambda entry: sign * entry[0].objective) if sound else found[-1]


def value(contract: ScreeningContract, wanted: Extensions, quantity: Array, payment: Array) -> float:
    """Demander's objective at a menu, computed without the program."""
    if wanted.cells is None:
        gain = contract.gain(contract.types * quantity)
    else:
        nodes, weights = wanted.cells
        gain = np.sum(weights * contract.gain(nodes * quantity[:, None]), axis=1)
    utility = gain - payment
    if wanted.attitude is None:
        return float(contract.probs @ utility)
    return wanted.attitude.value(utility, contract.probs, contract.types)


def _remeasure(program: Program, values: Mapping[str, Array]) -> tuple[dict[str, float], dict[str, float]]:
    """Residuals of a program's families with its variables, the user's own included, at the given values."""
    program.set_values({name: value for name, value in values.items() if program.has_variable(name)})
    for name, variable in program.cvxpy_variables().items():
        if name in values and not program.has_variable(name):
            variable.save_value(np.asarray(values[name]))
    return certify.measure_families(program)
