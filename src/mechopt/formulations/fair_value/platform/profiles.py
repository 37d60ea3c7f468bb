"""What a profile of users' mixed strategies gives each of them, by the definition, whoever found it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.fair_value.platform.utility import ExchangeableUtility, expectation
from mechopt.verification.audit import Audit, Deviation, audit_deviations

Array = NDArray[np.float64]


def expected(values: Array, probabilities: Array) -> float:
    """Return the expected entry by the number of successes of independent draws.

    Parameters
    ----------
    values : array, shape (n_draws + 1,)
    probabilities : array, shape (n_draws,)
    """
    sure = int(np.sum(probabilities == 1))
    mixing = probabilities[(probabilities > 0) & (probabilities < 1)]
    reached = values[sure : sure + mixing.size + 1]
    if np.all(mixing == mixing[:1]):
        return expectation(reached, float(mixing[0]) if mixing.size else 0.0)
    law = np.ones(1)
    for q in mixing:
        law = np.append(law * (1 - q), 0.0) + np.append(0.0, law * q)
    return float(law @ reached)


def against(values: Array, profile: Array) -> Array:
    """Return for each user the expected entry by the number of others who share, shape (n_users,)."""
    _, first, kind = np.unique(profile, return_index=True, return_inverse=True)
    found = np.array([expected(values, np.delete(profile, user)) for user in first])
    return np.asarray(found[kind])


def payment(utility: ExchangeableUtility, share: float, profile: Array) -> Array:
    """Return the expected payment to each user, shape (n_users,)."""
    private = against(utility.private_value, profile)
    sharing = against(utility.sharing_value, profile)
    return np.asarray(share * (profile * sharing + (1 - profile) * private))


def audit(utility: ExchangeableUtility, costs: Array, share: float, profile: Array) -> Audit:
    """Audit a profile: the most that a user gains by another level; see `PlatformPayments.audit`."""
    gains = share * against(utility.relative_payoff, profile) - costs
    # Who mixes gives up the other level part of the time.
    by_sharing, by_hiding = (1 - profile) * gains, -profile * gains
    best = np.maximum(by_sharing, by_hiding) + 0.0
    user = int(np.argmax(best))
    deviation = Deviation(user, int(by_sharing[user] >= by_hiding[user]), float(best[user]))
    return audit_deviations([deviation], scale=float(utility.profile.max()), method="all users")
