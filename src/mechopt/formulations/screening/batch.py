"""Records of menus, of one contract or of many at once; and many contracts solved side by side."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.functions import ConcaveFunction, ConvexCost
from mechopt.formulations.functions.stacked import family, stack
from mechopt.formulations.screening import exact
from mechopt.formulations.unstacked import arrays_of_each, numbers_of_each
from mechopt.solvers import certify
from mechopt.solvers.backend import get_backend
from mechopt.solvers.solution import Solution, Status

if TYPE_CHECKING:
    from mechopt.formulations.screening.model import ScreeningContract

Array = NDArray[np.float64]

_TINY = float(np.finfo(float).tiny)


class Evaluated(NamedTuple):
    """What a menu amounts to; ``...`` are the axes of a batch.

    Attributes
    ----------
    values : dict of str to array
        ``quantity``, ``payment``, ``rent`` of shape (..., n_types), expectations of shape (...).
    objective : array, shape (...)
        The demander's expected utility.
    violations, residuals : dict of str to array, shape (...)
        By family, absolute and relative.
    """

    values: dict[str, Array]
    objective: Array
    violations: dict[str, Array]
    residuals: dict[str, Array]


def evaluate(
    types: Array,
    probs: Array,
    gain: ConcaveFunction,
    unit_cost: ArrayLike,
    cost_curve: ConvexCost | None,
    quantity: Array,
    payment: Array,
    outside_option: ArrayLike = 0.0,
) -> Evaluated:
    """Evaluate menus, and check them against the incentives that suffice; arguments as for `solve_exact`."""
    burden = quantity if cost_curve is None else cost_curve(quantity)
    cost = np.asarray(unit_cost, dtype=float)[..., np.newaxis] * types
    rent = payment - cost * burden
    values = {"quantity": quantity, "payment": payment, "rent": rent}
    values["expected_payment"] = np.asarray((probs * payment).sum(axis=-1))
    values["expected_quantity"] = np.asarray((probs * quantity).sum(axis=-1))
    values["expected_gain"] = np.asarray((probs * gain(types * quantity)).sum(axis=-1))
    for value in values.values():
        value.setflags(write=False)
    shortfall = {
        "ic": _temptation(cost, burden, payment),
        "ir": (np.asarray(outside_option) - rent).max(axis=-1),
        certify.DOMAIN: (-quantity).max(axis=-1),
    }
    violations = {name: np.maximum(value, 0.0) for name, value in shortfall.items()}
    money = np.maximum(np.abs(payment).max(axis=-1), _TINY)
    data = np.maximum(np.abs(quantity).max(axis=-1), _TINY)
    residuals = {name: v / (data if name == certify.DOMAIN else money) for name, v in violations.items()}
    return Evaluated(values, values["expected_gain"] - values["expected_payment"], violations, residuals)


def _temptation(cost: Array, burden: Array, payment: Array) -> Array:
    """Most that a type gains with a neighbour's contract, shape (...); 0 if there is none."""
    if payment.shape[-1] == 1:
        return np.zeros(payment.shape[:-1])
    rise, more = np.diff(payment, axis=-1), np.diff(burden, axis=-1)
    up, down = rise - cost[..., :-1] * more, cost[..., 1:] * more - rise
    gained: Array = np.maximum(up, down).max(axis=-1)
    return gained


def alike(contract: ScreeningContract) -> Hashable:
    """Return a key that contracts share which can be solved side by side."""
    return contract.n_types, family(contract.gain), family(contract.cost_curve)


def solve_together(contracts: Sequence[ScreeningContract], tolerance: float) -> list[Solution]:
    """Solve contracts that are `alike`, as each one's ``solve`` would.

    Raises
    ------
    Unbounded
        If one of them is; it does not say which.
    """
    started = time.perf_counter()
    types, probs = np.array([c.types for c in contracts]), np.array([c.probs for c in contracts])
    unit_cost = np.array([c.unit_cost for c in contracts])
    gain, curve = stack([c.gain for c in contracts]), stack([c.cost_curve for c in contracts])
    menu = exact.solve_exact(types, probs, gain, unit_cost, cost_curve=curve)
    solved = time.perf_counter()
    found = evaluate(types, probs, gain, unit_cost, curve, menu.quantity, menu.payment)
    n = len(contracts)
    ends = np.searchsorted(menu.pools[:, 0], np.arange(1, n + 1)).tolist()
    pools = [(start, stop) for _, start, stop in menu.pools.tolist()]
    values = arrays_of_each(found.values)
    violations, residuals = numbers_of_each(found.violations), numbers_of_each(found.residuals)
    objective, n_excluded = found.objective.tolist(), np.asarray(menu.n_excluded).tolist()
    regular, version = np.asarray(menu.regular).tolist(), get_backend("exact").version()
    checked = (time.perf_counter() - solved) / n
    solutions = []
    for i in range(n):
        own = pools[ends[i - 1] if i else 0 : ends[i]]
        solutions.append(
            Solution(
                status=status_of(residuals[i], tolerance),
                reason=reason_of(regular[i], len(own)),
                backend="exact",
                version=version,
                objective=objective[i],
                bound=objective[i],
                gap=0.0,
                values=values[i],
                residuals=residuals[i],
                violations=violations[i],
                seconds={"build": 0.0, "compile": 0.0, "solve": (solved - started) / n, "check": checked},
                tolerance=tolerance,
                program="screening contract",
                sense="maximize",
                extra={"pools": own, "n_excluded": n_excluded[i], "regular": regular[i]},
                no_duals="the exact algorithm computes no prices",
            )
        )
    return solutions


def status_of(residuals: Mapping[str, float], tolerance: float) -> Status:
    """Optimal if all families are kept."""
    kept = all(residual <= tolerance for residual in residuals.values())
    return Status.OPTIMAL if kept else Status.INACCURATE


def reason_of(regular: bool, n_pools: int) -> str:
    """What the algorithm did, for people."""
    return "exact algorithm" + ("" if regular else f", {n_pools} pools of types ironed")
