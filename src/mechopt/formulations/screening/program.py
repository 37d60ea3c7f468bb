r"""The declared programs of the screening contract.

All forms maximise the demander's expected utility per holder,

.. math:: \max \sum_k p_k \bigl( G(\delta_k q_k) - \gamma_k \bigr),

over ``quantity`` q >= 0 and ``payment`` γ, and differ in the constraints (u_k = γ_k - c δ_k q_k is the rent):

==================  ==========================================================================================
``full``            ``ic``: u_k >= γ_j - c δ_k q_j for all j != k;  ``ir``: u_k >= 0
``local``           ``ic_up`` (k against k+1), ``ic_down`` (k+1 against k), ``ir``
``local-monotone``  ``ic_up``, ``monotone``: q_k >= q_{k+1}, ``ir`` of the highest type only
``reduced``         q alone: payments eliminated by the envelope formula, ``monotone``
==================  ==========================================================================================

``full`` and ``local`` are equivalent by single crossing, whatever is added to them. The other two have the
same optimum as long as nothing rewards higher payments; they refuse what does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import PiecewiseLinearGain
from mechopt.formulations.incentives import check_form, check_full_size, declare_incentives
from mechopt.formulations.screening import exact, pricing
from mechopt.solvers.backend import Settings
from mechopt.solvers.errors import Infeasible, InvalidInput
from mechopt.solvers.program import Changes, ExactAnswer, Program
from mechopt.solvers.terms import Complementarity, Hypograph, Term

if TYPE_CHECKING:
    from mechopt.formulations.screening.model import ScreeningContract

Form = Literal["full", "local", "local-monotone", "reduced"]
FORMS: tuple[str, ...] = get_args(Form)


def declare(contract: ScreeningContract, form: str = "reduced", *, force: bool = False) -> Program:
    """Declare the contract's program; see `ScreeningContract.program`."""
    check_form(form, FORMS)
    n_types = contract.n_types
    check_full_size(form, n_types, force=force)
    # In these units every type's first best is 1 inside; quantities themselves span orders of magnitude.
    data_scale, money_scale = contract.scales()
    # One type's share of the objective is of order one, however many types there are: with an expectation of
    # order one instead, interior-point solvers stall from some thousand types on.
    program = Program(f"screening contract ({form})", objective_scale=money_scale / n_types)
    quantity = program.variable("quantity", n_types, nonneg=True, scale=data_scale / contract.types)
    if form == "reduced":
        _declare_reduced(contract, program, quantity)
    else:
        _declare_menu(contract, program, quantity, form, money_scale)
    guard = None if form in ("full", "local") else _refuse_rewards(contract, form)
    return program.seal(exact=ExactContract(contract), guard=guard)


def _declare_menu(
    contract: ScreeningContract, program: Program, quantity: cp.Expression, form: str, money_scale: float
) -> None:
    types, cost = contract.types, contract.unit_cost
    payment = program.variable("payment", contract.n_types, scale=money_scale)
    program.define("rent", payment - cp.multiply(cost * types, quantity))
    expected = program.define("expected_payment", contract.probs @ payment)
    _name_gain(contract, program, quantity, expected)
    declare_incentives(program, payment, quantity, cost * types, form)


def _declare_reduced(contract: ScreeningContract, program: Program, quantity: cp.Expression) -> None:
    types, cost, n_types = contract.types, contract.unit_cost, contract.n_types
    if n_types > 1:
        step = cp.multiply(cost * np.diff(types), quantity[1:])
        rent = cp.hstack([cp.cumsum(step[::-1])[::-1], cp.Constant(np.zeros(1))])
    else:
        rent = cp.Constant(np.zeros(1))
    payment = program.define("payment", cp.multiply(cost * types, quantity) + rent)
    program.define("rent", rent)
    # p @ payment, summed by hand: one weight a type instead of a cumulated sum.
    expected = program.define("expected_payment", (contract.probs * contract.virtual_cost) @ quantity)
    _name_gain(contract, program, quantity, expected)
    if n_types > 1:
        program.add("monotone", quantity[1:] <= quantity[:-1])
    assert payment.shape == (n_types,)


def _name_gain(
    contract: ScreeningContract, program: Program, quantity: cp.Expression, expected_payment: cp.Expression
) -> None:
    program.define("expected_quantity", contract.probs @ quantity)
    gain = contract.gain.in_units_of(contract.scales()[0]).expression(cp.multiply(contract.types, quantity))
    expected_gain = program.define("expected_gain", contract.probs @ gain)
    program.maximize(expected_gain - expected_payment)


def _refuse_rewards(contract: ScreeningContract, form: str) -> Any:
    """Guard of the forms in which payments sit at their minimum: nothing may push them up.

    A constraint is safe if raising payments makes it harder to meet. Its slope in the payments is read off
    with the payments replaced by a free variable.
    """

    def guard(program: Program, what: str, term: Term | cp.Expression) -> None:
        fresh = cp.Variable(program["payment"].shape)
        parts = _parts(term, program.sense)
        for part in parts:
            slope = _payment_slope(contract, program, part, fresh)
            if slope is None:
                problem = "is not affine in the payments, so that its direction cannot be seen"
            elif np.any(slope < 0):
                problem = "rewards higher payments"
            else:
                continue
            raise InvalidInput(
                f"{what} {problem}; form={form!r} keeps payments at the least that is incentive compatible: "
                "use form='local' (or 'full')"
            )

    return guard


def _parts(term: Term | cp.Expression, sense: str) -> list[cp.Expression]:
    """Expressions that must not fall when payments rise."""
    if isinstance(term, cp.Expression):
        return [-term if sense == "maximize" else term]
    if isinstance(term, Hypograph):
        return [term.t, -term.x]
    if isinstance(term, Complementarity):
        return [term.a, -term.a, term.b, -term.b]
    name = type(term).__name__
    if name == "Inequality":
        return [term.args[0] - term.args[1]]
    if name == "NonPos":
        return [term.args[0]]
    if name == "NonNeg":
        return [-term.args[0]]
    return [sign * argument for argument in term.args for sign in (1, -1)]


def _payment_slope(
    contract: ScreeningContract, program: Program, part: cp.Expression, fresh: cp.Variable
) -> NDArray[np.float64] | None:
    """Differentiate an expression in the payments, all else fixed; None if it is not affine in them."""
    payment, probs_weighted, rent = (program[name] for name in ("payment", "expected_payment", "rent"))
    stand_in = {
        id(payment): fresh,
        id(rent): fresh,
        id(probs_weighted): contract.probs @ fresh,
    }
    for variable in part.variables():
        stand_in.setdefault(id(variable), cp.Constant(np.ones(variable.shape)))
    replaced = _substitute(part, stand_in)
    if not replaced.variables():
        return np.zeros(1)
    if not replaced.is_affine():
        return None
    fresh.save_value(np.zeros(fresh.shape))  # the gradient of an affine expression is the same everywhere
    return np.asarray(replaced.grad[fresh].todense())


def _substitute(expression: cp.Expression, stand_in: dict[int, cp.Expression]) -> cp.Expression:
    """Copy of an expression with some of its nodes replaced: the outermost ones that are listed."""
    if id(expression) in stand_in:
        return stand_in[id(expression)]
    if not expression.args:
        return expression
    arguments = [_substitute(argument, stand_in) for argument in expression.args]
    if all(new is old for new, old in zip(arguments, expression.args, strict=True)):
        return expression
    return expression.copy(arguments)


PRICED = {
    "expected_payment": "budget",
    "payment": "payment_cap",
    "expected_quantity": "minimum_data",
    "quantity": "minimum_quantity",
}
"""What the exact algorithm can price, by the name of the expression that is bounded."""


class ExactContract:
    """The exact algorithm, for the program as it was declared, and bounds that it knows how to price.

    These are ``expected_payment <= b``, ``payment <= b``, ``expected_quantity >= b`` and ``quantity >= b``,
    with ``b`` constant, each at most once, and together only for gains without kinks.
    """

    def __init__(self, contract: ScreeningContract) -> None:
        self.contract = contract

    def refuses(self, program: Program, changes: Changes) -> tuple[str, ...]:
        """Families, or ``"objective"``, that it cannot price."""
        refused = [*changes.dropped, *(("objective",) if changes.objective else ())]
        # Several prices at once are slow to find where the gain has kinks and quantities jump.
        kinked = isinstance(self.contract.gain, PiecewiseLinearGain)
        taken: dict[str, str] = {}
        for family in changes.added:
            kind = _bound_of(program, family)
            if kind is None or kind[0] in taken or (taken and kinked):
                refused.append(family)
            else:
                taken[kind[0]] = family
        return tuple(refused)

    def __call__(self, program: Program, changes: Changes, settings: Settings) -> ExactAnswer:
        """Solve: the base program directly, bounds by their prices."""
        c = self.contract
        parameters = (c.types, c.probs, c.gain, c.unit_cost)
        bounds = {family: _bound_of(program, family) for family in changes.added}
        families = {kind[0]: family for family, kind in bounds.items() if kind is not None}
        prices: dict[str, Any] = {}
        if not families:
            menu = exact.solve_exact(*parameters)
        else:
            given = {kind[0]: kind[1] for kind in bounds.values() if kind is not None}
            try:
                menu, found = pricing.solve_priced(*parameters, **given)
            except Infeasible as error:
                named = tuple(families[kind] for kind in error.families if kind in families)
                return ExactAnswer(conflict=named or tuple(bounds), reason=str(error))
            # Payments fall with the type: a cap on all of them is one on the first.
            prices = {
                families[kind]: np.eye(1, c.n_types)[0] * price if kind == "payment_cap" else price
                for kind, price in found.items()
            }
        values = {"quantity": menu.quantity}
        if program.has_variable("payment"):
            values["payment"] = menu.payment
        return ExactAnswer(values, prices, reason="exact algorithm" + (", bounds priced" if prices else ""))


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
