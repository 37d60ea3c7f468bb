r"""The platform's problem as declared programs, for users of one cost.

The symmetric equilibria of the game that a payment share alpha leaves are complementarity pairs,

.. math:: \max \; (1 - \alpha) U(q) \quad \text{s.t.} \quad \alpha \gamma(q) - c = g - l, \quad
   0 \le g \perp 1 - q \ge 0, \quad 0 \le l \perp q \ge 0,

with powers of q as variables, so that every row is a product of two. Linear programs give a payment share
that may depend on the utility achieved, and the correlated equilibria at a given payment share.
"""

from __future__ import annotations

from typing import Any, Literal

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray
from scipy.special import comb

from mechopt.formulations.fair_value.platform.exact import Game
from mechopt.formulations.fair_value.platform.utility import ROUNDING, ExchangeableUtility
from mechopt.solvers.backend import Settings
from mechopt.solvers.errors import NotApplicable
from mechopt.solvers.program import Changes, ExactAnswer, Program
from mechopt.solvers.terms import Complementarity

Array = NDArray[np.float64]

LARGEST_POWERS = 12
"""Users up to which powers of q represent a polynomial well: their coefficients grow like 3**N."""


def declare_symmetric(utility: ExchangeableUtility, cost: float) -> Program:
    """Declare the best symmetric equilibrium; see `PlatformPayments.program`."""
    size = float(utility.profile.max())
    program = Program("platform payments", objective_scale=size)
    share = program.variable("payment_share", bounds=[0.0, 1.0])
    powers = _declare_powers(program, utility.n_users)
    q = program["share_probability"]
    total = _declare_total(program, utility, powers)
    program.define("relative_payoff", _polynomial(utility.relative_payoff, powers))
    # A variable of known range for one factor of the product keeps branch and bound narrow.
    low, high = float(utility.relative_payoff.min()), float(utility.relative_payoff.max())
    unit = max(abs(low), abs(high))
    factor = program.variable("payoff_factor", bounds=[min(low, 0.0), high], scale=unit)
    gain = program.variable("gain", nonneg=True, scale=unit)
    loss = program.variable("loss", nonneg=True, scale=unit)
    payments = program.variable("payments", bounds=[0.0, size], scale=size)
    program.define("expected_sharers", utility.n_users * q)
    program.maximize(total - payments)
    # Products are of factors of order one: SCIP takes a coefficient of 1e-9 for none.
    program.add("paid", payments / size == cp.multiply(share, total / size))
    # Solvers of complementarity meet rows to an absolute tolerance: rows are of order one.
    program.add("payoff", factor / unit == _polynomial(utility.relative_payoff / unit, powers))
    incentive = cp.multiply(share, factor / unit) - cost / unit
    program.add("incentive", incentive == (gain - loss) / unit)
    program.add("equilibrium", Complementarity(gain / unit, 1 - q), Complementarity(loss / unit, q))
    return program.seal(exact=ExactSymmetric(Game(utility, cost)))


def declare_per_level(utility: ExchangeableUtility, cost: float) -> Program:
    """Declare a payment share for each level; see `PlatformPayments.per_level_program`."""
    n = utility.n_users
    size = float(utility.profile.max())
    program = Program("payment share per level (not fair by axiom B.ii)", objective_scale=size)
    shares = program.variable("payment_shares", 2, bounds=[0.0, 1.0])
    powers = _declare_powers(program, n)
    q = program["share_probability"]
    total = _declare_total(program, utility, powers)
    unit = max(float(np.max(np.abs(utility.sharing_value))), float(np.max(np.abs(utility.private_value))))
    values = program.variable("fair_values", 2, bounds=list(_ranges(utility)), scale=unit)
    gain = program.variable("gain", nonneg=True, scale=unit)
    loss = program.variable("loss", nonneg=True, scale=unit)
    paid = program.variable("payment_per_level", 2, scale=unit)
    # Products are of factors of order one: SCIP takes a coefficient of 1e-9 for none.
    program.define("payments", n * unit * (paid[0] / unit + cp.multiply(q, (paid[1] - paid[0]) / unit)))
    program.maximize(total - program["payments"])
    parts = (utility.private_value, utility.sharing_value)
    program.add(
        "fair_value", values / unit == cp.hstack([_polynomial(part / unit, powers) for part in parts])
    )
    program.add("paid", paid / unit == cp.multiply(shares, values / unit))
    program.add("incentive", (paid[1] - paid[0]) / unit - cost / unit == (gain - loss) / unit)
    program.add("equilibrium", Complementarity(gain / unit, 1 - q), Complementarity(loss / unit, q))
    return program.seal()


def _ranges(utility: ExchangeableUtility) -> Array:
    values = np.stack([utility.private_value, utility.sharing_value])
    return np.stack([values.min(axis=1), values.max(axis=1)])


def _declare_powers(program: Program, n: int) -> cp.Expression:
    """Variables q, q², ..., q**N; the first is named ``share_probability``."""
    if n > LARGEST_POWERS:
        raise NotApplicable(
            f"the program in powers of q loses its digits beyond {LARGEST_POWERS} users, got {n}; solve() "
            "without a backend, or certify(), have no such limit"
        )
    powers = program.variable("powers", n, bounds=[0.0, 1.0])
    q = program.define("share_probability", powers[0])
    if n > 1:
        program.add("power", powers[1:] == cp.multiply(q, powers[:-1]))
    return powers


def _declare_total(program: Program, utility: ExchangeableUtility, powers: cp.Expression) -> cp.Expression:
    size = float(utility.profile.max())
    total = program.variable("total_utility", bounds=[0.0, size], scale=size)
    program.add("utility", total / size == _polynomial(utility.profile / size, powers))
    return total


def _polynomial(coefficients: Array, powers: cp.Expression) -> cp.Expression:
    """Polynomial in q, given in the Bernstein basis, as a linear expression in powers of q."""
    monomial = powers_of(coefficients)
    if coefficients.size == 1:
        return cp.Constant(monomial[0])
    return monomial[0] + monomial[1:] @ powers[: coefficients.size - 1]


def powers_of(coefficients: Array) -> Array:
    """Return the coefficients on 1, q, q², ...: binomials times forward differences at 0."""
    degree = coefficients.size - 1
    differences = [np.diff(coefficients, order)[0] for order in range(degree + 1)]
    return np.asarray(comb(degree, np.arange(degree + 1)) * differences)


class ExactSymmetric:
    """The platform's own algorithm for the program as declared, with bounds on sharing and a budget.

    These are ``share_probability >= low`` and ``<= high``, and ``payments <= budget``, each at most once.
    """

    def __init__(self, game: Game) -> None:
        self.game = game

    def refuses(self, program: Program, changes: Changes) -> tuple[str, ...]:
        """Families, or ``"objective"``, that it cannot price."""
        refused = [*changes.dropped, *(("objective",) if changes.objective else ())]
        taken: set[str] = set()
        for family in changes.added:
            limit = _limit_of(program, family)
            if limit is None or limit[0] in taken:
                refused.append(family)
            else:
                taken.add(limit[0])
        return tuple(refused)

    def __call__(self, program: Program, changes: Changes, settings: Settings) -> ExactAnswer:
        """Solve."""
        limits: dict[str, float] = {}
        for family in changes.added:
            limit = _limit_of(program, family)
            assert limit is not None  # `refuses` has been asked
            limits[limit[0]] = limit[1]
        found = None
        if limits.get("low", 0.0) <= min(limits.get("high", 1.0), 1.0) and limits.get("budget", 0.0) >= 0:
            found = self.game.symmetric(
                low=max(limits.get("low", 0.0), 0.0),
                high=min(limits.get("high", 1.0), 1.0),
                budget=limits.get("budget", np.inf),
            )
        if found is None:
            return ExactAnswer(
                conflict=("equilibrium", *changes.added), reason="no symmetric equilibrium meets the limits"
            )
        q = float(found.share_probability[0])
        utility = self.game.utility
        n = utility.n_users
        law = comb(n, np.arange(n + 1)) * q ** np.arange(n + 1) * (1 - q) ** np.arange(n, -1, -1)
        others = comb(n - 1, np.arange(n)) * q ** np.arange(n) * (1 - q) ** np.arange(n - 1, -1, -1)
        payoff = float(others @ utility.relative_payoff)
        surplus = found.payment_share * payoff - self.game.cost
        if 0 < q < 1:
            surplus = 0.0
        values = {
            "payment_share": found.payment_share,
            "powers": q ** np.arange(1, n + 1),
            "total_utility": float(law @ utility.profile),
            "payments": found.payment_share * float(law @ utility.profile),
            "payoff_factor": payoff,
            "gain": max(surplus, 0.0),
            "loss": max(-surplus, 0.0),
        }
        return ExactAnswer(values, reason=found.method)


def _limit_of(program: Program, family: str) -> tuple[Literal["low", "high", "budget"], float] | None:
    """Read a family as a bound on sharing or a budget, or None."""
    terms = program.families[family]
    if len(terms) != 1 or type(terms[0]).__name__ != "Inequality":
        return None
    smaller, larger = terms[0].args
    kinds: tuple[tuple[Any, Any, Any], ...] = (
        ("low", larger, smaller) if larger is program["share_probability"] else ("", None, None),
        ("high", smaller, larger) if smaller is program["share_probability"] else ("", None, None),
        ("budget", smaller, larger) if smaller is program["payments"] else ("", None, None),
    )
    for kind, _, limit in kinds:
        if kind and limit.is_constant() and limit.size == 1 and not limit.parameters():
            value = float(np.asarray(limit.value).item())
            return None if np.isnan(value) else (kind, value)
    return None


# ------------------------------------------------------------------ linear programs


def declare_utility_share(
    utility: ExchangeableUtility, cost: float, target: int, *, individual_rationality: bool = False
) -> Program:
    """Declare a payment share that depends on the utility; see `PlatformPayments.utility_share_program`."""
    n = utility.n_users
    size = float(utility.profile.max())
    # Profiles of equal utility cannot be told apart by it: they share one variable.
    levels, which = distinct(utility.profile, ROUNDING * size)
    program = Program(f"payment share by utility, {target} of {n} sharing", objective_scale=size)
    shares = program.variable("payment_share", levels.size, bounds=[0.0, 1.0])
    program.define("utility_level", cp.Constant(levels))
    own = shares[which[target]]
    program.maximize((1 - own) * float(utility.profile[target]))
    unit = max(float(np.max(np.abs(utility.sharing_value))), cost)
    if target > 0:
        sharing = own * float(utility.sharing_value[target - 1]) - cost
        instead = shares[which[target - 1]] * float(utility.private_value[target - 1])
        program.add("sharer_keeps", (sharing - instead) / unit >= 0)
    if target < n:
        private = own * float(utility.private_value[target])
        instead = shares[which[target + 1]] * float(utility.sharing_value[target]) - cost
        program.add("private_keeps", (private - instead) / unit >= 0)
    if individual_rationality:
        rational = []
        if target > 0:
            rational.append((own * float(utility.sharing_value[target - 1]) - cost) / unit >= 0)
        if target < n:
            rational.append(own * float(utility.private_value[target]) / unit >= 0)
        program.add("individual_rationality", *rational)
    return program.seal()


def distinct(values: Array, tolerance: float) -> tuple[Array, NDArray[np.intp]]:
    """Return the distinct values to a tolerance, ascending, and which of them each entry is."""
    order = np.argsort(values, kind="stable")
    starts = np.append(True, np.diff(values[order]) > tolerance)
    which = np.empty(values.size, dtype=np.intp)
    which[order] = np.cumsum(starts) - 1
    return values[order][starts], which


def declare_correlated(
    utility: ExchangeableUtility, cost: float, share: float, sense: Literal["best", "worst"]
) -> Program:
    """Declare correlated equilibria at a payment share; see `PlatformPayments.correlated_program`."""
    n = utility.n_users
    size = float(utility.profile.max())
    program = Program("correlated equilibria", objective_scale=size)
    law = program.variable("sharers_law", n + 1, nonneg=True)
    gain = share * utility.relative_payoff - cost
    unit = max(float(np.max(np.abs(gain))), 1e-12 * size)
    k = np.arange(n + 1)
    program.define("share_probability", (k / n) @ law)
    program.define("total_utility", utility.profile @ law)
    kept = (1 - share) * program["total_utility"]
    program.maximize(kept) if sense == "best" else program.minimize(kept)
    program.add("law", cp.sum(law) == 1)
    # Told to share, a user knows that k of N share with it among them; told not to, that it is not.
    program.add("obey_sharing", (k[1:] / n * gain / unit) @ law[1:] >= 0)
    program.add("obey_private", ((n - k[:-1]) / n * -gain / unit) @ law[:-1] >= 0)
    return program.seal()
