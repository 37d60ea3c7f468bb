r"""Users with costs of their own.

Two users at a payment share alpha play a game of two by two: user i gains
:math:`\alpha(\gamma_0 + (\gamma_1 - \gamma_0) q_j) - c_i` by sharing, if the other shares with probability
:math:`q_j`. All its equilibria are enumerated, and the best payment share is at one of four values where a
user is indifferent, or at a root of a cubic where both mix. For more users the best equilibrium in pure
strategies takes one sort.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.fair_value.platform.exact import Optimum
from mechopt.formulations.fair_value.platform.utility import ExchangeableUtility
from mechopt.solvers.backend import Settings
from mechopt.solvers.errors import MechanismError
from mechopt.solvers.program import Changes, ExactAnswer, Program
from mechopt.solvers.solution import Status
from mechopt.solvers.terms import Complementarity

Array = NDArray[np.float64]
Profile = tuple[float, float]
"""Probability of sharing of either user."""

EDGE = 1e-12
"""Gains below this part of their terms count as indifference."""


@dataclass(frozen=True, eq=False)
class PairGame:
    """Two users, their utility, and what sharing costs each."""

    utility: ExchangeableUtility
    costs: Array

    def gain(self, share: float, user: int, other: float) -> float:
        """What a user gains by sharing if the other shares with that probability."""
        first, last = self.utility.relative_payoff
        return float(share * (first + (last - first) * other) - self.costs[user])

    def total(self, profile: Profile) -> float:
        """Expected utility of a profile."""
        nobody, one, both = self.utility.profile
        p, q = profile
        return float(nobody + (one - nobody) * (p + q) + (both - 2 * one + nobody) * p * q)

    def equilibria(self, share: float) -> tuple[Profile, ...]:
        """Equilibria at a payment share; of a continuum, its extreme points.

        A user who mixes is indifferent, which the other's probability decides: each probability is 0, 1, or
        the one that makes the other user indifferent.
        """
        first, last = (float(value) for value in self.utility.relative_payoff)
        slope = share * (last - first)
        choices: list[tuple[float, ...]] = []
        for user in (0, 1):
            choice: tuple[float, ...] = (0.0, 1.0)
            if abs(slope) > EDGE * max(abs(share * first), abs(share * last)):
                mixed = (float(self.costs[1 - user]) - share * first) / slope
                if EDGE < mixed < 1 - EDGE:
                    choice = (0.0, mixed, 1.0)
            choices.append(choice)
        profiles = [(p, q) for p, q in product(*choices) if self._keeps(share, (p, q))]
        return tuple(profiles)

    def _keeps(self, share: float, profile: Profile) -> bool:
        edge = EDGE * max(
            share * float(np.max(np.abs(self.utility.relative_payoff))), float(self.costs.max())
        )
        for user in (0, 1):
            gain = self.gain(share, user, profile[1 - user])
            own = profile[user]
            if (own < 1 and gain > edge) or (own > 0 and gain < -edge):
                return False
        return True

    def optimum(self) -> Optimum:
        """Best equilibrium over all payment shares."""
        payoff = [float(value) for value in self.utility.relative_payoff if value > 0]
        shares = {0.0} | {float(c) / g for c in self.costs for g in payoff}
        candidates = [share for share in shares if share <= 1] + self._both_mixing()
        best: tuple[float, float, Profile] = (-np.inf, 0.0, (0.0, 0.0))
        for share in sorted(candidates):
            for profile in self.equilibria(share):
                value = (1 - share) * self.total(profile)
                if value > best[0]:
                    best = (value, share, profile)
        value, share, profile = best
        return Optimum(share, np.array(profile), value, value, True, "payment shares of indifference")

    def _both_mixing(self) -> list[float]:
        """Payment shares at which the platform's utility is stationary while both mix.

        With s = 1/alpha both probabilities are affine in s, and the utility is (1 - 1/s)(A + B s + C s²).
        """
        first, last = (float(value) for value in self.utility.relative_payoff)
        nobody, one, both = (float(value) for value in self.utility.profile)
        if first == last:
            return []
        level, slopes = first / (first - last), -self.costs / (first - last)
        bend = both - 2 * one + nobody
        constant = nobody + 2 * (one - nobody) * level + bend * level**2
        linear = float((one - nobody + bend * level) * slopes.sum())
        square = float(bend * slopes[0] * slopes[1])
        found = np.roots([2 * square, linear - square, 0.0, constant])
        real = found.real[np.abs(found.imag) < 1e-9 * np.abs(found)]
        return [float(1 / s) for s in real if s >= 1]


def equilibria_by_integers(game: PairGame, share: float, backend: str = "highspy") -> tuple[Profile, ...]:
    """Enumerate equilibria by a mixed-integer program that is cut where it has been.

    A binary says which action may have regret and is then not played. After each answer its pattern is
    forbidden, until none is left.

    Parameters
    ----------
    game : PairGame
    share : float
        Alpha in [0, 1].
    backend : str
        Of the mixed-integer programs.

    Returns
    -------
    tuple of pairs
        Of a continuum of equilibria, one for each pattern.
    """
    program = declare_equilibria(game, share)
    found: list[Profile] = []
    for number in range(16):
        answer = program.solve(backend, on_failure="return")
        if answer.status is Status.INFEASIBLE:
            return tuple(sorted(found))
        if not answer:
            raise MechanismError(f"{backend} could not enumerate equilibria: {answer.reason}")
        profile = (float(answer["strategies"][0, 1]), float(answer["strategies"][1, 1]))
        if not any(max(abs(profile[0] - p), abs(profile[1] - q)) < 1e-6 for p, q in found):
            found.append(profile)
        seen = np.round(answer["unplayed"])
        differs = cp.sum(cp.multiply(1 - 2 * seen, program["unplayed"])) + float(seen.sum())
        program.add(f"not_again_{number}", differs >= 1)
    return tuple(sorted(found))


def declare_equilibria(game: PairGame, share: float) -> Program:
    """Declare the equilibria of two users at a payment share; see `PlatformPayments.equilibria_program`."""
    private, sharing = game.utility.private_value, game.utility.sharing_value
    table = share * np.stack([private, sharing])  # own level, then the other's
    unit = max(float(np.max(np.abs(table))), float(game.costs.max()), 1e-300)
    program = Program("equilibria of two users", objective_scale=unit)
    strategies = program.variable("strategies", (2, 2), nonneg=True)  # user, then level
    unplayed = program.variable("unplayed", (2, 2), boolean=True)
    value = program.variable("value", 2, scale=unit)
    charge = np.outer(game.costs, [0.0, 1.0])
    payoff = strategies[::-1] @ table.T - charge
    regret = cp.vstack([value, value]).T - payoff
    span = float(np.ptp(table)) + game.costs.max()
    program.maximize(cp.sum(value))
    program.add("mixture", cp.sum(strategies, axis=1) == 1)
    program.add("best_value", regret / unit >= 0)
    program.add("regret", regret / unit <= span / unit * unplayed)
    program.add("support", strategies <= 1 - unplayed)
    return program.seal()


def declare_pair(game: PairGame) -> Program:
    """Declare program (25), with its sign put right; see `PlatformPayments.program`."""
    utility = game.utility
    nobody, one, both = (float(value) for value in utility.profile)
    size = float(utility.profile.max())
    unit = max(float(np.max(np.abs(utility.relative_payoff))), float(game.costs.max()))
    first, last = (float(value) for value in utility.relative_payoff)
    program = Program("platform payments, two users", objective_scale=size)
    share = program.variable("payment_share", bounds=[0.0, 1.0])
    q = program.variable("share_probability", 2, bounds=[0.0, 1.0])
    total = program.variable("total_utility", bounds=[0.0, size], scale=size)
    gain = program.variable("gain", 2, nonneg=True, scale=unit)
    loss = program.variable("loss", 2, nonneg=True, scale=unit)
    payments = program.variable("payments", bounds=[0.0, size], scale=size)
    program.maximize(total - payments)
    # Products are of factors of order one: SCIP takes a coefficient of 1e-9 for none.
    program.add("paid", payments / size == cp.multiply(share, total / size))
    bend = both - 2 * one + nobody
    # Solvers of complementarity meet rows to an absolute tolerance: rows are of order one.
    reached = nobody / size + (one - nobody) / size * cp.sum(q) + bend / size * cp.multiply(q[0], q[1])
    program.add("utility", total / size == reached)
    incentive = cp.multiply(share, first / unit + (last - first) / unit * q[::-1]) - game.costs / unit
    program.add("incentive", incentive == (gain - loss) / unit)
    program.add("equilibrium", Complementarity(gain / unit, 1 - q), Complementarity(loss / unit, q))
    return program.seal(exact=ExactPair(game))


class ExactPair:
    """The enumeration, for program (25) as declared."""

    def __init__(self, game: PairGame) -> None:
        self.game = game

    def refuses(self, program: Program, changes: Changes) -> tuple[str, ...]:
        """Families, or ``"objective"``, that it cannot price: any change."""
        return (*changes.added, *changes.dropped, *(("objective",) if changes.objective else ()))

    def __call__(self, program: Program, changes: Changes, settings: Settings) -> ExactAnswer:
        """Solve."""
        found = self.game.optimum()
        q = found.share_probability
        gains = np.array([self.game.gain(found.payment_share, user, float(q[1 - user])) for user in (0, 1)])
        gains[(q > 0) & (q < 1)] = 0.0
        total = self.game.total((float(q[0]), float(q[1])))
        values = {
            "payment_share": found.payment_share,
            "share_probability": q,
            "total_utility": total,
            "payments": found.payment_share * total,
            "gain": np.maximum(gains, 0.0),
            "loss": np.maximum(-gains, 0.0),
        }
        return ExactAnswer(values, reason=found.method)


def best_pure(utility: ExchangeableUtility, costs: Array) -> Optimum:
    r"""Best equilibrium in pure strategies of any number of users, with a bound on all equilibria.

    If k users share, the k cheapest do so at the least payment share, :math:`c_{(k)} / \gamma_{k-1}`; it is
    an equilibrium if the next one does not want to. A platform pays every sharer at least what sharing costs,
    so that it can never keep more than ``max_k U(k) - (the k least costs)``.

    Returns
    -------
    Optimum
        With the bound infinite if utility is not monotone: payments may then be negative.
    """
    n = utility.n_users
    order = np.argsort(costs, kind="stable")
    cost = costs[order]
    payoff = utility.relative_payoff
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.append(0.0, np.where(cost == 0, 0.0, np.where(payoff > 0, cost / payoff, np.inf)))
    stays = np.append(shares[:-1] * payoff <= cost * (1 + EDGE), True)
    feasible = stays & (shares <= 1)
    kept = np.where(feasible, (1 - np.minimum(shares, 1.0)) * utility.profile, -np.inf)
    k = int(np.argmax(kept))
    q = np.zeros(n)
    q[order[:k]] = 1.0
    bound = float(np.max(utility.profile - np.append(0.0, np.cumsum(cost))))
    return Optimum(
        float(shares[k]),
        q,
        float(kept[k]),
        bound if utility.monotone else np.inf,
        True,
        "best equilibrium in pure strategies",
    )
