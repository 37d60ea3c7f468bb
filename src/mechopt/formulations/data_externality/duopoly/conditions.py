r"""When the market is efficient: Theorems 3 and 6, corrected, for two platforms.

Services are taken to grow strictly with who joins (Assumption A1); :math:`d` below is the least that is lost
on them when users are divided, and :math:`G = \sum_{v_i \le 1} (1 - v_i) I_i(V)` the most that low-value
users gain. Which of three parts applies depends on the correlations of high-value users.

1. They are correlated with nobody. All on one platform is best if the spillover is not above
   `spillover_threshold`, and an equilibrium exactly if no entry of `isolated_slack` is negative.
2. One is correlated with a user of low value, whose data leak about it wherever they are shared: no profile
   is efficient if it values privacy enough.
3. They are correlated with each other only: no profile is efficient if one values privacy so little that a
   platform buys from it, for what its data tell about others like it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.data_externality.duopoly.tables import refuse_many
from mechopt.formulations.data_externality.leakage import leak_table, subsets

if TYPE_CHECKING:
    from mechopt.formulations.data_externality.model import DataExternality

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

UNCORRELATED = 1e-12
"""Correlations that count as none."""


@dataclass(frozen=True, eq=False)
class Efficiency:
    """What the corrected theorem says of a market.

    Attributes
    ----------
    part : {1, 2, 3}
        Which part's hypotheses on correlations hold.
    efficient : bool or None
        True: some pure equilibrium has the first best's social surplus. False: part 1, no pure equilibrium
        has it; parts 2 and 3, no joining profile has it, equilibrium or not. None: the theorem does not say.
    condition : str
        The condition, with its numbers.
    threshold : array, shape (n_users,)
        Parts 2 and 3: the value of privacy of a high-value user above (2) or below (3) which nothing is
        efficient; NaN where there is none.
    """

    part: Literal[1, 2, 3]
    efficient: bool | None
    condition: str
    threshold: Array


def efficiency(model: DataExternality) -> Efficiency:
    """Tell whether the market with two platforms can be efficient, where the theorem tells.

    The mixed equilibrium of Theorem 2 never is, as it divides users with positive probability; the
    statement is about pure equilibria and joining profiles.

    Parameters
    ----------
    model : DataExternality
        Of at most 14 users.

    Returns
    -------
    Efficiency

    Raises
    ------
    InvalidInput
        If there are more than 14 users.

    References
    ----------
    Pal et al., Theorems 3 and 6.

    Examples
    --------
    >>> import mechopt as mo
    >>> def network(user, joined):
    ...     return 5.0 + 0.3 * len(joined)
    >>> model = mo.DataExternality([[1.0, 0.5], [0.5, 1.0]], [0.5, 0.8], joining_utility=network)
    >>> efficiency(model).efficient, model.first_best().joining.tolist()
    (True, [1, 1])
    """
    refuse_many(model.n_users, "efficiency")
    size = np.sqrt(model.variance)
    correlated = np.abs(model.covariance) > UNCORRELATED * np.outer(size, size)
    high = model.value_of_privacy > 1
    loss = float(_service_lost(model)[1:-1].min(initial=np.inf))
    if np.any(correlated[np.ix_(high, ~high)]):
        return _leaks_from_low(model, high, loss)
    if np.any(correlated[np.ix_(high, high)] & ~np.eye(int(high.sum()), dtype=bool)):
        return _bought_from_high(model, high, loss)
    return _isolated(model, loss)


def isolated_slack(model: DataExternality) -> Array:
    r"""Condition of part 1 for each low-value user (money), shape (n_low,).

    .. math:: c_i(V) - c_i(\{i\}) - (1 - \alpha) v_i I_i(V^l \setminus i)

    What user i loses of services by being alone, less what it saves of leaks. Theorem 6 as printed has no
    :math:`v_i`.
    """
    everyone = frozenset(range(model.n_users))
    low = model.value_of_privacy <= 1
    slack = []
    for user in model.low_value.tolist():
        others = low.copy()
        others[user] = False
        leaks = model.value_of_privacy[user] * model.leaked_information(others)[user]
        gained = model.service(user, everyone) - model.service(user, frozenset({user}))
        slack.append(gained - (1 - model.spillover) * leaks)
    return np.array(slack)


def spillover_threshold(model: DataExternality) -> float:
    r"""Spillover up to which no division of users is better than one platform for all: Theorem 6, part 1.

    The least, over divisions into A and B, of

    .. math:: \frac{c(V) - c(A) - c(B) + \sum_{v_i \le 1} (1 - v_i) (I_i(V^l) - I_i(\text{own part's low}))}
              {\sum_{v_i \le 1} (1 - v_i) I_i(\text{other part's low})}

    if high-value users do not share and nobody tells about them; infinite if no denominator is positive.
    """
    refuse_many(model.n_users, "spillover_threshold")
    low = model.value_of_privacy <= 1
    table = model.noise_variance * leak_table(model.scaled_covariance)
    members = subsets(model.n_users)
    sharers = (members & low) @ (1 << np.arange(model.n_users))
    gain = np.where(low, 1 - model.value_of_privacy, 0.0)
    inside, outside = table[sharers], table[sharers[::-1]]
    own = np.where(members, inside, outside)
    other = np.where(members, outside, inside)
    gained = other @ gain
    lost = _service_lost(model) + (inside[-1] - own) @ gain
    split = gained > 0
    split[[0, -1]] = False
    return float(np.min(lost[split] / gained[split], initial=np.inf))


def _service_lost(model: DataExternality) -> Array:
    """What services lose if users are divided into each set and the others (money), shape (2**n_users,)."""
    sets = [frozenset(np.flatnonzero(row).tolist()) for row in subsets(model.n_users)]
    service = np.array([sum(model.service(user, joined) for user in joined) for joined in sets])
    lost: Array = service[-1] - service - service[::-1]
    return lost


def _isolated(model: DataExternality, loss: float) -> Efficiency:
    slack = isolated_slack(model)
    threshold = spillover_threshold(model)
    none = np.full(model.n_users, np.nan)
    if loss <= 0 or model.spillover >= threshold:
        return Efficiency(
            1,
            None,
            f"dividing users must cost services (least cost {loss:.6g}), and the spillover "
            f"{model.spillover:g} be below {threshold:.6g}",
            none,
        )
    least = float(slack.min(initial=np.inf))
    return Efficiency(1, least >= 0, f"least slack of low-value users {least:.6g} must be >= 0", none)


def _leaks_from_low(model: DataExternality, high: BoolArray, loss: float) -> Efficiency:
    value, alpha = model.value_of_privacy, model.spillover
    gain = float(np.where(high, 0.0, 1 - value) @ model.leaked_information(np.ones(model.n_users)))
    threshold = np.full(model.n_users, np.inf)
    if (1 + alpha) * gain < loss:
        # Dividing users costs more than data can bring, and together all low-value users' data leak.
        threshold = _ratio(gain, model.leaked_information(~high))
    if alpha > 0 and loss >= 0:
        # Wherever a correlated low-value user is, its data leak about i, at the spillover's weight or more.
        alone = model.covariance**2 / (model.noise_variance + model.variance)
        harm = alpha * np.max(np.where(high, 0.0, alone), axis=1)
        threshold = np.minimum(threshold, _ratio((1 + alpha) * gain, harm))
    threshold = np.where(high, 1 + threshold, np.nan)
    decided = bool(np.any(value[high] > threshold[high]))
    return Efficiency(
        2,
        False if decided else None,
        f"a value of privacy of a high-value user must be above its threshold; data bring at most "
        f"{gain:.6g}, and dividing users costs services {loss:.6g}",
        threshold,
    )


def _bought_from_high(model: DataExternality, high: BoolArray, loss: float) -> Efficiency:
    squares = np.where(high, model.covariance**2, 0.0)
    others = (squares.sum(axis=1) - model.variance**2) / model.variance**2
    # Divided, a platform values what it learns about users elsewhere at the spillover's weight only.
    together = loss > 0 and model.spillover < spillover_threshold(model)
    threshold = np.where(high, 1 + (1.0 if together else model.spillover) * others, np.nan)
    decided = bool(np.any(model.value_of_privacy[high] < threshold[high]))
    return Efficiency(
        3,
        False if decided else None,
        "a value of privacy of a high-value user must be below its threshold",
        threshold,
    )


def _ratio(gain: float, harm: Array) -> Array:
    """Gain over harm; infinite where there is no harm."""
    ratio: Array = np.divide(gain, harm, out=np.full(harm.shape, np.inf), where=harm > 0)
    return ratio
