r"""The declared programs of the screening contract.

All forms maximise the demander's expected utility per holder,

.. math:: \max \sum_k p_k \bigl( G(\delta_k q_k) - \gamma_k \bigr),

over ``quantity`` q >= 0 and ``payment`` γ, and differ in the constraints (u_k = γ_k - c δ_k q_k is the rent):
``full``, ``local`` and ``local-monotone`` are those of `mechopt.formulations.incentives`; ``reduced`` has q
alone, with the payments eliminated by the envelope formula, and the family ``monotone``.

``full`` and ``local`` are equivalent by single crossing, whatever is added to them. The other two have the
same optimum as long as nothing rewards higher payments; they refuse what does.

A convex cost c δ h(q) is declared in the variable ``burden`` y = h(q), in which everything but the gain is
linear; ``quantity`` is then the concave expression :math:`h^{-1}(y)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations import checks
from mechopt.formulations.attitudes import Attitude
from mechopt.formulations.incentives import check_form, check_full_size, declare_incentives
from mechopt.formulations.screening.exact_route import ExactContract
from mechopt.formulations.screening.guards import refuse_rewards
from mechopt.solvers.errors import InvalidInput
from mechopt.solvers.program import Program

if TYPE_CHECKING:
    from mechopt.formulations.screening.model import ScreeningContract

Array = NDArray[np.float64]
Form = Literal["full", "local", "local-monotone", "reduced"]
FORMS: tuple[str, ...] = get_args(Form)

PAYING_FORMS = ("full", "local")
"""Forms in which payments may be higher than the least that is incentive compatible."""

LARGEST_STEP = 4.0
"""Largest fall of quantities behind one contract in menus of limited size, in largest first bests."""


@dataclass(frozen=True, eq=False)
class Extensions:
    """What a program has beyond the contract itself; see `ScreeningContract.program`.

    ``cells`` are nodes and weights, each of shape (n_types, n_nodes), over which each type's gain is
    averaged: privacy levels that take the contract of that type.
    """

    outside_option: Array | None = None
    max_menu_size: int | None = None
    fairness_ratio: float | None = None
    attitude: Attitude | None = None
    cells: tuple[Array, Array] | None = None

    @classmethod
    def check(
        cls,
        contract: ScreeningContract,
        form: str,
        *,
        outside_option: ArrayLike | None = None,
        max_menu_size: int | None = None,
        fairness_ratio: float | None = None,
        ambiguity: Attitude | None = None,
        risk: Attitude | None = None,
        cells: tuple[Array, Array] | None = None,
    ) -> Extensions:
        """Validate what a user asks for."""
        if outside_option is not None:
            outside_option = outside_options(outside_option, contract.n_types)
            if form not in PAYING_FORMS:
                raise InvalidInput(
                    f"form={form!r} assumes that only the last type's participation can bind, which outside "
                    "options break; use form='local' (or 'full')"
                )
        if max_menu_size is not None:
            max_menu_size = checks.count(max_menu_size, "max_menu_size")
        if fairness_ratio is not None:
            fairness_ratio = checks.positive(fairness_ratio, "fairness_ratio")
            if fairness_ratio < 1:
                raise InvalidInput(
                    f"fairness_ratio = {fairness_ratio:g} must be >= 1: the first payment is never below the "
                    "last one, so that a smaller ratio leaves the null contract alone"
                )
        for name, attitude in (("ambiguity", ambiguity), ("risk", risk)):
            if attitude is not None and not (isinstance(attitude, Attitude) and attitude.kind == name):
                raise InvalidInput(f"{name} must be {_EXAMPLES[name]}, got {attitude!r}")
        if ambiguity is not None and risk is not None:
            raise InvalidInput(
                "give ambiguity or risk, not both: a worst case of a risk measure has no program here"
            )
        return cls(
            outside_option,
            max_menu_size,
            fairness_ratio,
            ambiguity if risk is None else risk,
            cells,
        )


_EXAMPLES = {
    "ambiguity": "mo.Wasserstein(radius), mo.KullbackLeibler(radius) or mo.ChiSquared(radius)",
    "risk": "mo.CARA(aversion) or mo.CVaR(level)",
}


def outside_options(value: ArrayLike, n_types: int) -> Array:
    """Return one outside option a type, checked; a single number is that of all."""
    option = checks.vector(np.full(n_types, value) if np.ndim(value) == 0 else value, "outside_option")
    if option.size != n_types:
        raise InvalidInput(
            f"outside_option has {option.size} entries for {n_types} types; give one for each type, or "
            "one number"
        )
    checks.all_finite(option, "outside_option")
    return option


def declare(
    contract: ScreeningContract,
    form: str = "reduced",
    *,
    force: bool = False,
    cells: tuple[Array, Array] | None = None,
    **extensions: Any,
) -> Program:
    """Declare the contract's program; see `ScreeningContract.program`."""
    check_form(form, FORMS)
    check_full_size(form, contract.n_types, force=force)
    wanted = Extensions.check(contract, form, cells=cells, **extensions)
    # One type's share of the objective is of order one, however many types there are: with an expectation of
    # order one instead, interior-point solvers stall from some thousand types on.
    money = contract.scales()[1]
    program = Program(f"screening contract ({form})", objective_scale=money / contract.n_types)
    utility = declare_menu(contract, program, form, wanted)
    if wanted.max_menu_size is not None:
        _limit_menu(contract, program, wanted.max_menu_size)
    if wanted.attitude is None:
        program.maximize(program["expected_gain"] - program["expected_payment"])
    else:
        # Worst cases are far below the first best: in units of all its money interior points often stall.
        program.objective_scale = 0.01 * money
        program.maximize(
            wanted.attitude.declare(program, utility, contract.probs, contract.types, scale=money)
        )
    guard = None if form in PAYING_FORMS else refuse_rewards(contract, form)
    program.seal(exact=ExactContract(contract, wanted), guard=guard)
    if wanted.fairness_ratio is not None:
        program.add("fairness", program["payment"][0] <= wanted.fairness_ratio * program["payment"][-1])
    return program


def declare_menu(
    contract: ScreeningContract, program: Program, form: str, wanted: Extensions, *, prefix: str = ""
) -> cp.Expression:
    """Declare variables, incentive families and named expressions; return the demander's utility by type.

    ``prefix`` stands before all names, for several contracts in one program.
    """
    types, curve = contract.types, contract.cost_curve
    data_scale, money_scale = contract.scales()
    # In these units every type's first best is 1 inside; quantities themselves span orders of magnitude.
    records = data_scale / types
    if curve is None:
        burden = quantity = program.variable(
            f"{prefix}quantity", contract.n_types, nonneg=True, scale=records
        )
    else:
        burden = program.variable(f"{prefix}burden", contract.n_types, nonneg=True, scale=curve(records))
        size = float(np.median(curve(records)))
        quantity = program.define(f"{prefix}quantity", curve.inverse_expression(burden, size=size))
    if form == "reduced":
        payment = _eliminate_payments(contract, program, burden, prefix)
    else:
        payment = program.variable(f"{prefix}payment", contract.n_types, scale=money_scale)
        costs = contract.unit_cost * types
        program.define(f"{prefix}rent", payment - cp.multiply(costs, burden))
        program.define(f"{prefix}expected_payment", contract.probs @ payment)
        declare_incentives(
            program,
            payment,
            burden,
            costs,
            form,
            outside_option=0.0 if wanted.outside_option is None else wanted.outside_option,
            prefix=prefix,
        )
    program.define(f"{prefix}expected_quantity", contract.probs @ quantity)
    gain = _gain(contract, program, quantity, wanted.cells, prefix)
    program.define(f"{prefix}expected_gain", contract.probs @ gain)
    return program.define(f"{prefix}demander_utility", gain - payment)


def _eliminate_payments(
    contract: ScreeningContract, program: Program, burden: cp.Expression, prefix: str
) -> cp.Expression:
    types, cost, n_types = contract.types, contract.unit_cost, contract.n_types
    if n_types > 1:
        step = cp.multiply(cost * np.diff(types), burden[1:])
        rent = cp.hstack([cp.cumsum(step[::-1])[::-1], cp.Constant(np.zeros(1))])
    else:
        rent = cp.Constant(np.zeros(1))
    payment = program.define(f"{prefix}payment", cp.multiply(cost * types, burden) + rent)
    program.define(f"{prefix}rent", rent)
    # p @ payment, summed by hand: one weight a type instead of a cumulated sum.
    weights = contract.probs * contract.virtual_cost
    program.define(f"{prefix}expected_payment", weights @ burden)
    if n_types > 1:
        program.add(f"{prefix}monotone", burden[1:] <= burden[:-1])
    return payment


def _gain(
    contract: ScreeningContract,
    program: Program,
    quantity: cp.Expression,
    cells: tuple[Array, Array] | None,
    prefix: str,
) -> cp.Expression:
    """Gain from each type's contract, averaged over the privacy levels that take it."""
    data_scale, money_scale = contract.scales()
    gain = contract.gain.in_units_of(data_scale)
    name = f"{prefix}gain"
    if cells is None:
        return gain.declare(program, name, cp.multiply(contract.types, quantity), scale=money_scale)
    nodes, weights = cells
    amount = cp.multiply(nodes, cp.reshape(quantity, (contract.n_types, 1), order="C"))
    return cp.sum(cp.multiply(weights, gain.declare(program, name, amount, scale=money_scale)), axis=1)


def _limit_menu(contract: ScreeningContract, program: Program, size: int) -> None:
    """Let the burden fall only behind at most ``size`` types: one contract each, the null contract free."""
    burden = program["quantity" if contract.cost_curve is None else "burden"]
    best = contract.first_best_quantity
    largest = float(np.max(best if contract.cost_curve is None else contract.cost_curve(best)))
    cut = program.variable("menu_cut", contract.n_types, boolean=True)
    step = burden - cp.hstack([burden[1:], cp.Constant(np.zeros(1))])
    program.add("menu_size", step <= LARGEST_STEP * largest * cut, cp.sum(cut) <= size)


__all__ = ["FORMS", "Extensions", "Form", "declare", "declare_menu", "outside_options"]
