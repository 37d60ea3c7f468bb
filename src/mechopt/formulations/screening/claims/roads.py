"""The ledger of the contract paper, and second roads to the numbers that its claims compare."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.screening.model import ScreeningContract
from mechopt.formulations.screening.program import Form
from mechopt.solvers.errors import MechanismWarning
from mechopt.solvers.solution import Solution
from mechopt.verification.claim import Ledger

Array = NDArray[np.float64]
Fractions = tuple[Fraction, ...]

LEDGER = Ledger()


@dataclass(frozen=True)
class Temptation:
    """The best deviation in a menu, in fractions; positions count from 1, and 0 is the null contract."""

    gain: Fraction
    holder: int
    takes: int


def best_deviation(
    types: Sequence[Fraction], quantity: Sequence[Fraction], payment: Sequence[Fraction], cost: Fraction
) -> tuple[Temptation, Temptation]:
    """Find the best deviation to another's contract and the best one to none, among all of them."""
    n = len(types)
    own = [payment[k] - cost * types[k] * quantity[k] for k in range(n)]
    others = [
        Temptation(payment[j] - cost * types[k] * quantity[j] - own[k], k + 1, j + 1)
        for k in range(n)
        for j in range(n)
        if j != k
    ]
    out = max((Temptation(-own[k], k + 1, 0) for k in range(n)), key=lambda t: t.gain)
    return max(others, key=lambda t: t.gain, default=Temptation(Fraction(0), 1, 1)), out


def cheapest_payments(types: Sequence[Fraction], quantity: Sequence[Fraction], cost: Fraction) -> Fractions:
    """Equation (41) as the paper prints it, in fractions, from the last type down."""
    payment = [cost * types[-1] * quantity[-1]]
    for k in range(len(types) - 2, -1, -1):
        payment.append(payment[-1] + cost * types[k] * (quantity[k] - quantity[k + 1]))
    return tuple(reversed(payment))


def menu_value(contract: ScreeningContract, quantity: Array) -> float:
    """Value quantities for the demander, rents being the sums of the steps above each type."""
    steps = contract.unit_cost * np.diff(contract.types) * quantity[1:]
    rent = np.append(np.triu(np.ones((steps.size, steps.size))) @ steps, 0.0)
    payment = contract.unit_cost * contract.types * quantity + rent
    return float(contract.probs @ (contract.gain(contract.types * quantity) - payment))


def suboptimality(contract: ScreeningContract, quantity: Array) -> float:
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


def upward_slack(contract: ScreeningContract, menu: Any) -> Array:
    """Compute what each type but the last loses by taking the next higher type's contract."""
    quantity, payment = menu["quantity"], menu["payment"]
    own = payment - contract.unit_cost * contract.types * quantity
    slack: Array = own[:-1] - (payment[1:] - contract.unit_cost * contract.types[:-1] * quantity[1:])
    return slack


def conic(contract: ScreeningContract, form: Form) -> Solution:
    """Solve the declared program by an interior-point method; only the reduced form sets payments."""
    with warnings.catch_warnings():
        # A claim measures the answer itself; what the solver thinks of its accuracy adds nothing.
        warnings.simplefilter("ignore", MechanismWarning)
        return contract.solve("clarabel", form=form, tolerance=1e-8, on_failure="return")
