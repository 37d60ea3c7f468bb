"""The contract's own algorithms as the backend ``exact`` calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mechopt.formulations.screening import exact, pricing
from mechopt.formulations.screening.menu_size import solve_menu_size
from mechopt.solvers.backend import Settings
from mechopt.solvers.errors import Infeasible
from mechopt.solvers.program import Changes, ExactAnswer, Program

if TYPE_CHECKING:
    from mechopt.formulations.screening.model import ScreeningContract
    from mechopt.formulations.screening.program import Extensions

PRICED = {
    "expected_payment": "budget",
    "payment": "payment_cap",
    "expected_quantity": "minimum_data",
    "quantity": "minimum_quantity",
}
"""What the exact algorithm can price, by the name of the expression that is bounded."""


class ExactContract:
    """The exact algorithms, for the program as it was declared, and bounds that they know how to price.

    These are ``expected_payment <= b``, ``payment <= b``, ``expected_quantity >= b`` and ``quantity >= b``,
    with ``b`` constant, each at most once, and together only for gains without kinks. A menu of limited size
    is found by a dynamic programme, without further bounds. Other extensions are refused.
    """

    def __init__(self, contract: ScreeningContract, extensions: Extensions) -> None:
        self.contract = contract
        self.extensions = extensions

    def refuses(self, program: Program, changes: Changes) -> tuple[str, ...]:
        """Families, or ``"objective"``, that it cannot price."""
        wanted = self.extensions
        refused = [*changes.dropped]
        if wanted.outside_option is not None and np.any(wanted.outside_option != 0):
            refused.append("ir")
        if wanted.attitude is not None or wanted.cells is not None or changes.objective:
            refused.append("objective")
        curved = self.contract.cost_curve is not None
        if wanted.max_menu_size is not None and (changes.added or curved):
            refused.append("menu_size")
        # Several prices at once are slow to find where the gain has kinks and quantities jump.
        kinked = self.contract.gain.has_kinks
        taken: dict[str, str] = {}
        for family in changes.added:
            kind = _bound_of(program, family)
            if kind is None or curved or kind[0] in taken or (taken and kinked):
                refused.append(family)
            else:
                taken[kind[0]] = family
        return tuple(refused)

    def __call__(self, program: Program, changes: Changes, settings: Settings) -> ExactAnswer:
        """Solve: the base program directly, bounds by their prices."""
        c, size = self.contract, self.extensions.max_menu_size
        parameters = (c.types, c.probs, c.gain, c.unit_cost)
        bounds = {family: _bound_of(program, family) for family in changes.added}
        families = {kind[0]: family for family, kind in bounds.items() if kind is not None}
        prices: dict[str, Any] = {}
        if size is not None:
            menu = solve_menu_size(*parameters, size)
        elif not families:
            menu = exact.solve_exact(*parameters, cost_curve=c.cost_curve)
        else:
            given = {kind[0]: kind[1] for kind in bounds.values() if kind is not None}
            try:
                menu, found = pricing.solve_priced(*parameters, **given)
            except Infeasible as error:
                named = tuple(families[kind] for kind in error.families)
                reason = f"no menu meets {' and '.join(named)} together: loosen one of them"
                return ExactAnswer(conflict=named, reason=reason)
            # Payments fall with the type: a cap on all of them is one on the first.
            prices = {
                families[kind]: np.eye(1, c.n_types)[0] * price if kind == "payment_cap" else price
                for kind, price in found.items()
            }
        reason = "exact algorithm" + (", bounds priced" if prices else "")
        return ExactAnswer(variable_values(c, program, menu.quantity, menu.payment), prices, reason=reason)


def variable_values(
    contract: ScreeningContract,
    program: Program,
    quantity: Any,
    payment: Any,
    cells: tuple[Any, Any] | None = None,
) -> dict[str, Any]:
    """Variables of a program at a menu, those of its extensions included."""
    burden = contract.burden(quantity)
    amount = contract.types * quantity if cells is None else cells[0] * quantity[:, None]
    values = {
        "quantity": quantity,
        "burden": burden,
        "payment": payment,
        "menu_cut": (burden > np.append(burden[1:], 0.0)).astype(float),
        "gain": contract.gain(amount),
        "gain_amount": amount,
    }
    return {name: value for name, value in values.items() if program.has_variable(name)}


def _bound_of(program: Program, family: str) -> tuple[str, Any] | None:
    """Read a family as one of the bounds that can be priced: its kind and its value, or None."""
    terms = program.families[family]
    if len(terms) != 1 or type(terms[0]).__name__ != "Inequality":
        return None
    smaller, larger = terms[0].args
    for name, kind in PRICED.items():
        upper = kind in ("budget", "payment_cap")
        bounded, bound = (smaller, larger) if upper else (larger, smaller)
        if bounded is not program[name] or not bound.is_constant():
            continue
        value = np.asarray(bound.value, dtype=float)
        vector = kind == "minimum_quantity" and value.shape == program[name].shape
        if not (value.ndim == 0 or vector) or not np.all(np.isfinite(value) & (value >= 0)):
            return None
        return kind, value if vector else float(value)
    return None
