r"""Upper bounds on what a platform can keep, by programs that hold for every q at once.

In a symmetric equilibrium the platform keeps J(q) = P(q) / W(q), two polynomials in the Bernstein basis with
W > 0. A number tau is an upper bound if tau W - P is nonnegative on [0, 1]; the least one is

- a semidefinite program, exactly: on an interval nonnegative polynomials are sums of squares s_0, s_1 with
  weights, :math:`s_0 + q(1-q)s_1` in an even degree and :math:`(1-q)s_0 + q s_1` in an odd one. Squares are
  of combinations of Bernstein polynomials; in another scaling the answer for 40 users was wrong by .44;
- a linear program, from above: nonnegative Bernstein coefficients suffice, on each of some parts of [0, 1].

A solver's answer is not taken at its word: Gram matrices are made positive semidefinite, and what is left of
the identity is added to the bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import comb

from mechopt.formulations.fair_value.platform.bernstein import after_subdivision, product, raised
from mechopt.formulations.fair_value.platform.utility import ExchangeableUtility
from mechopt.solvers.errors import NotApplicable
from mechopt.solvers.program import Program
from mechopt.solvers.solution import Solution, Status

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Certificate:
    """A proved upper bound on the platform's utility.

    Attributes
    ----------
    bound : float
        No symmetric equilibrium leaves more to the platform.
    residual : float
        What the solver's identity lacks, already added to the bound; 0 for other methods.
    share_probability : float or None
        Where the optimum is, by the dual solution, if the method has one.
    method : str
    status : Status
        Of the solve; the bound holds whatever it is.
    """

    bound: float
    residual: float
    share_probability: float | None
    method: str
    status: Status


def platform_ratio(utility: ExchangeableUtility, cost: float) -> tuple[Array, Array]:
    """Return P and W of one degree, with J = P / W.

    Raises
    ------
    NotApplicable
        If the relative payoff may be negative somewhere, so that W has no sign.
    """
    profile, payoff = utility.profile, utility.relative_payoff
    if utility.sharing_only or cost == 0:
        return profile - cost * np.arange(profile.size), np.ones(profile.size)
    if np.any(payoff < 0):
        raise NotApplicable(
            "this bound multiplies by the relative payoff, which must not be negative; use the method "
            "'branch_and_bound'"
        )
    numerator = product(profile, payoff - cost)
    return numerator, raised(payoff, numerator.size - 1)


def declare_sum_of_squares(utility: ExchangeableUtility, cost: float) -> Program:
    """Declare the least bound by sums of squares; see `PlatformPayments.bound_program`."""
    numerator, weight = platform_ratio(utility, cost)
    size = float(utility.profile.max())
    program = Program("bound by sums of squares", objective_scale=size)
    bound = program.variable("bound", scale=size)
    squares: cp.Expression | float = 0.0
    # tau W - P = the squares, divided by the size of U (and of gamma, which is W's).
    unit = size * float(np.max(weight))
    for name, matrix in zip(("gram_0", "gram_1"), gram_rows(numerator.size - 1), strict=True):
        if matrix.shape[1]:
            side = int(np.sqrt(matrix.shape[1]))
            gram = program.variable(name, (side, side), PSD=True)
            squares = squares + matrix @ cp.vec(gram, order="F")
    program.minimize(bound)
    program.add("certificate", bound * (weight / unit) - squares == numerator / unit)
    return program.seal()


def gram_rows(degree: int) -> tuple[sp.csr_array, sp.csr_array]:
    """Bernstein coefficients of the weighted squares, as matrices on the entries of both Gram matrices.

    Returns
    -------
    pair of arrays, shape (degree + 1, side²)
        Entry (i, j) of a Gram matrix of side m + 1 stands for ``B_i B_j`` of degree m, times the weight.
    """
    half = degree // 2
    if degree % 2:
        return _rows(degree, half, 0), _rows(degree, half, 1)
    return _rows(degree, half, 0), _rows(degree, half - 1, 1)


def _rows(degree: int, half: int, shift: int) -> sp.csr_array:
    """Weight q**shift (1 - q)**(degree - 2 half - shift), which moves index i + j by ``shift``."""
    if half < 0:
        return sp.csr_array((degree + 1, 0))
    i, j = (index.ravel() for index in np.indices((half + 1, half + 1)))
    at = i + j + shift
    entries = comb(half, i) * comb(half, j) / comb(degree, at)
    return sp.csr_array((entries, (at, np.arange(at.size))), shape=(degree + 1, at.size))


def certificate(utility: ExchangeableUtility, cost: float, solution: Solution) -> Certificate:
    """Make a bound that is proved out of an answer to `declare_sum_of_squares`."""
    numerator, weight = platform_ratio(utility, cost)
    unit = float(utility.profile.max()) * float(np.max(weight))
    left = solution["bound"] * weight - numerator
    for name, matrix in zip(("gram_0", "gram_1"), gram_rows(numerator.size - 1), strict=True):
        if name in solution:
            values, vectors = np.linalg.eigh((solution[name] + solution[name].T) / 2)
            gram = (vectors * np.maximum(values, 0.0)) @ vectors.T
            left = left - unit * (matrix @ gram.ravel())
    # tau W - P is squares plus this, and at least its least coefficient. Where it matters, alpha <= 1, the
    # relative payoff W is at least c.
    short = max(0.0, -float(np.min(left)))
    least = 1.0 if utility.sharing_only or cost == 0 else cost
    where = None
    if "certificate" in solution.duals:
        # Prices are moments of the optimum: dtau/dP_k = B_k(q*) / W(q*).
        moments = np.asarray(solution.dual("certificate"))
        where = float(np.arange(moments.size) @ moments / moments.sum() / max(moments.size - 1, 1))
    residual = float(np.max(np.abs(left))) / unit
    bound = float(solution["bound"]) + short / least
    return Certificate(bound, residual, where, "sum_of_squares", solution.status)


def declare_coefficients(utility: ExchangeableUtility, cost: float, pieces: int) -> Program:
    """Declare the least bound by Bernstein coefficients; see `PlatformPayments.bound_program`."""
    numerator, weight = platform_ratio(utility, cost)
    size = float(utility.profile.max())
    program = Program("bound by Bernstein coefficients", objective_scale=size)
    bound = program.variable("bound", scale=size)
    program.minimize(bound)
    unit = size * float(np.max(weight))
    rows = (after_subdivision(part, pieces).ravel() / unit for part in (weight, numerator))
    above, below = rows
    program.add("coefficients", bound * above >= below)
    return program.seal()
