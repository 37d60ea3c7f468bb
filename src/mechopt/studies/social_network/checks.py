"""Checks of what leaks, of the market and of the policies, by sampling and by trying."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from mechopt.formulations.data_externality.leakage import is_mtp2
from mechopt.formulations.data_externality.model import DataExternality
from mechopt.formulations.data_externality.monopoly import Monopoly
from mechopt.formulations.data_externality.policy import (
    efficient_sharing,
)
from mechopt.solvers.solution import Solution
from mechopt.studies.run import (
    Check,
)
from mechopt.studies.social_network.scenario import SocialNetwork

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

EXACT = 1e-9
"""What numbers that two algorithms compute may differ by, relative to the money involved."""

ERRORS = 4.5
"""Standard errors that the farthest of many variances may be off: of 100, one in 1500 is by chance."""

N_DRAWS = 20_000
"""Simulated types and data, from which what leaks is found by regression."""

N_TRIED = 3000
"""Sets of sellers drawn to be tried against the platform's, besides all that differ by one or two members."""

MOST_PROVEN = 20
"""Members up to which the sellers that are best for all are found by trying all sets."""

N_STARTS = 5
"""Random sets from which better ones are looked for, besides three that suggest themselves."""


def best_for_all(model: DataExternality, rng: np.random.Generator) -> BoolArray:
    """Find sellers with most data surplus: among all sets for few members, else by changes from starts."""
    if model.n_users <= MOST_PROVEN:
        return efficient_sharing(model)
    starts = [model.value_of_privacy <= 1, model.monopoly().sharing, np.zeros(model.n_users, dtype=bool)]
    starts += [rng.random(model.n_users) < rng.random() for _ in range(N_STARTS)]
    reached = [_climb(model, start) for start in starts]
    return max(reached, key=model.data_surplus)


def _climb(model: DataExternality, start: BoolArray) -> BoolArray:
    """Change one member at a time, the best first, and two where no one change helps."""
    sharing = start.copy()
    n, value = model.n_users, model.data_surplus(start)
    pairs = [(i,) for i in range(n)] + [(i, j) for i in range(n) for j in range(i)]
    while True:
        best, at = value + EXACT, None
        for number, changed in enumerate(pairs):
            if number == n and at is not None:
                break
            other = sharing.copy()
            other[list(changed)] = ~other[list(changed)]
            surplus = model.data_surplus(other)
            if surplus > best:
                best, at = surplus, other
        if at is None:
            return sharing
        sharing, value = at, best


def money_involved(model: DataExternality) -> float:
    """Size of the money involved: what all information is worth to platform and users."""
    return float(np.sum((1 + model.value_of_privacy) * model.variance))


def network_checks(
    scenario: SocialNetwork, model: DataExternality, market: Monopoly, rng: np.random.Generator
) -> list[Check]:
    """Whether what leaks is what sampling of types says."""
    factor = linalg.sqrtm(model.covariance).real
    types = rng.standard_normal((N_DRAWS, model.n_users)) @ factor
    data = types + rng.standard_normal(types.shape)
    sold = data[:, market.sharing]
    # Of each member's type, what a regression on the data sold leaves unexplained.
    left = types - sold @ np.linalg.lstsq(sold, types, rcond=None)[0] if sold.size else types
    unexplained = (left**2).sum(axis=0) / (N_DRAWS - sold.shape[1])
    expected = model.variance - market.leaked_information
    errors = expected * math.sqrt(2 / N_DRAWS)
    farthest = int(np.argmax(np.abs(unexplained - expected) / errors))
    checks = [
        Check(
            "1 what leaks",
            f"variance of member {scenario.network.names[farthest]}'s type that a regression on {N_DRAWS} "
            "simulated data leaves, against the formula; the farthest",
            float(unexplained[farthest]),
            float(expected[farthest]),
            ERRORS * float(errors[farthest]),
            f"{ERRORS:g} standard errors",
        )
    ]
    if scenario.network.kernel == "regularised-laplacian":
        checks.append(
            Check(
                "1 kind of kernel",
                "whether types depend on neighbours alone, and positively (MTP2)",
                float(is_mtp2(model.covariance)),
                1.0,
                0.0,
                "of this kernel it is a theorem",
            )
        )
    return checks


def _profit(model: DataExternality, sharing: BoolArray, tax: Array | None = None) -> float:
    """Of a set of sellers, from the definition: information less what each must be paid."""
    leaked = model.leaked_information(sharing)
    paid = 0.0
    for user in np.flatnonzero(sharing).tolist():
        without = sharing.copy()
        without[user] = False
        paid += float(model.value_of_privacy[user] * (leaked - model.leaked_information(without))[user])
    owed = 0.0 if tax is None else float(tax[sharing].sum())
    return float(leaked.sum()) - paid - owed


def _others(sharing: BoolArray, rng: np.random.Generator) -> Iterable[BoolArray]:
    """Sets to try: all that differ by one member, most that differ by two, and some at random."""
    n = sharing.size
    for i in range(n):
        other = sharing.copy()
        other[i] = ~other[i]
        yield other
    for _ in range(N_TRIED // 10):
        other = sharing.copy()
        changed = rng.choice(n, min(int(rng.integers(2, 6)), n), replace=False)
        other[changed] = ~other[changed]
        yield other


def market_checks(model: DataExternality, market: Monopoly, rng: np.random.Generator) -> list[Check]:
    """Whether the platform buys what is best for it, at prices that sellers accept."""
    scale = money_involved(model)
    regret = 0.0
    for user in range(model.n_users):
        other = market.sharing.copy()
        other[user] = ~other[user]
        mine, theirs = market.leaked_information[user], model.leaked_information(other)[user]
        paid = float(market.prices[user])
        gain = model.value_of_privacy[user] * (mine - theirs) - (paid if market.sharing[user] else -paid)
        regret = max(regret, float(gain))
    profit = _profit(model, market.sharing)
    better = max((_profit(model, other) for other in _others(market.sharing, rng)), default=-math.inf)
    return [
        Check(
            "2 members' choice",
            "the most that a member gains by selling or not selling, at the prices (money)",
            regret,
            0.0,
            EXACT * scale,
            "rounding",
        ),
        Check(
            "2 profit",
            "of the platform, against information less what each seller must be paid (money)",
            market.profit,
            profit,
            EXACT * scale,
            "rounding",
        ),
        Check(
            "3 best purchase",
            "the most that other sets of sellers would add to the profit (money)",
            max(0.0, better - profit),
            0.0,
            EXACT * scale,
            "rounding; all that differ by one member, and others",
        ),
        Check(
            "3 surplus",
            "profit and payoffs together, against (1 - v) times information (money)",
            market.profit + float(market.payoffs.sum()),
            float((1 - model.value_of_privacy) @ market.leaked_information),
            EXACT * scale,
            "rounding",
        ),
    ]


def policy_checks(
    model: DataExternality, tax: Solution, mediator: Solution, rng: np.random.Generator
) -> list[Check]:
    """Whether taxes and the mediator do what they are for."""
    scale = money_involved(model)
    wanted = tax["sharing"] > 0
    at_best = _profit(model, wanted, tax["tax"])
    tried = list(_others(wanted, rng))
    tempted = max((_profit(model, other, tax["tax"]) for other in tried), default=-math.inf)
    surplus = model.data_surplus(wanted)
    better = max((model.data_surplus(other) for other in tried), default=-math.inf)
    passed = mediator["estimate_covariance"]
    least = float(np.linalg.eigvalsh(passed)[0])
    everything = _most_passed(model)
    room = float(np.linalg.eigvalsh(everything - passed)[0])
    return [
        Check(
            "4 taxed purchase",
            "the most that other sets would add to the taxed profit (money)",
            max(0.0, tempted - at_best),
            0.0,
            1e-7 * scale,
            "taxes come from a linear program",
        ),
        Check(
            "4 best for all",
            "the most that other sets would add to the surplus of the target (money)",
            max(0.0, better - surplus),
            0.0,
            EXACT * scale,
            "rounding; all that differ by one member, and others",
        ),
        Check(
            "5 mediator",
            "smallest eigenvalue of what it passes on, and of what it keeps back, if negative",
            max(0.0, -least, -room),
            0.0,
            1e-7 * float(np.max(model.variance)),
            "rounding",
        ),
        Check(
            "5 no leak",
            "most that leaks about a member with a value of privacy above 1",
            float(np.max(mediator["leaked_information"][model.high_value], initial=0.0)),
            0.0,
            1e-7 * float(np.max(model.variance)),
            "rounding",
        ),
    ]


def _most_passed(model: DataExternality) -> Array:
    """Covariance of the best estimates from everybody's data."""
    total = model.covariance + model.noise_variance * np.eye(model.n_users)
    passed: Array = model.covariance @ np.linalg.solve(total, model.covariance)
    return passed
