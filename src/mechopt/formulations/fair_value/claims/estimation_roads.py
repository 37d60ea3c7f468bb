"""Instances of the claims about estimation, and second roads to their numbers.

Nothing here uses the wing but to build its mechanisms: outcomes, covariances and coalitions are enumerated.
All parameters are short decimals (and ``inf``), so that a counterexample can be read, copied and recomputed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, product
from math import comb, factorial, inf

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.fair_value.federated.model import FederatedMeanEstimation
from mechopt.formulations.fair_value.mean_estimation.model import MeanEstimation

Array = NDArray[np.float64]
Rng = np.random.Generator
Coalition = tuple[int, ...]


def short(number: float) -> float:
    """Round to three digits."""
    return float(f"{number:.3g}")


# ------------------------------------------------------------ private mean estimation


@dataclass(frozen=True)
class PrivateCase:
    """Users with privacy levels."""

    levels: tuple[float, ...]

    def estimation(self) -> MeanEstimation:
        """Build the mechanism."""
        return MeanEstimation(np.array(self.levels))


@dataclass(frozen=True)
class EqualCase:
    """So many users, each at one level or at level 0."""

    n_users: int
    level: float


@dataclass(frozen=True)
class EstimatorCase:
    """A linear estimator with Laplace noise, good or bad."""

    weights: tuple[float, ...]
    noise_scale: float


PAIR = PrivateCase((inf, inf))
"""The paper's example, without any need for privacy."""

PRIVATE = (
    PAIR,
    PrivateCase((1.0,)),
    PrivateCase((1.0, 1.0)),
    PrivateCase((1.0, 14.0, inf)),
    PrivateCase((0.0, 0.0)),
    PrivateCase((0.0, inf, 0.5, 0.5, 30.0)),
)
"""Among them users that are saturated, and nobody's data."""


def random_private(rng: Rng) -> PrivateCase:
    """Up to seven users with levels .03 to 30, some 0 or infinite."""
    levels = [short(x) for x in 10 ** rng.uniform(-1.5, 1.5, int(rng.integers(1, 8)))]
    chance = rng.random(len(levels))
    levels = [0.0 if c < 0.1 else inf if c > 0.9 else x for x, c in zip(levels, chance, strict=True)]
    return PrivateCase(tuple(levels))


def private_cases(rng: Rng, n: int) -> Iterator[PrivateCase]:
    """Worked examples, then random users."""
    yield from PRIVATE[:n]
    for _ in range(n - len(PRIVATE)):
        yield random_private(rng)


def equal_cases(
    low: float, high: float, least: int = 1, most: int = 8
) -> Callable[[Rng, int], Iterator[EqualCase]]:
    """Return a family: so many users at one level between low and high."""

    def draw(rng: Rng, n: int) -> Iterator[EqualCase]:
        for _ in range(n):
            level = short(low * (high / low) ** rng.random())
            yield EqualCase(int(rng.integers(least, most + 1)), level)

    return draw


def risk_of_outcomes(weights: ArrayLike, noise_scale: float) -> float:
    """Bayes risk from all outcomes of the data, with the posterior moments of the probability p.

    Each outcome with k positive data of n has the probability k! (n - k)! / (n + 1)!, and leaves p with a
    Beta(k + 1, n - k + 1) distribution.
    """
    w = np.asarray(weights, dtype=float)
    n, risk = w.size, 0.0
    for outcome in product((0.5, -0.5), repeat=n):
        k = sum(x > 0 for x in outcome)
        chance = factorial(k) * factorial(n - k) / factorial(n + 1)
        mean = (k + 1) / (n + 2)
        variance = mean * (1 - mean) / (n + 3)
        risk += chance * ((float(w @ outcome) + 0.5 - mean) ** 2 + variance)
    return risk + 2 * noise_scale**2


def revealed_by_tails(weights: ArrayLike, noise_scale: float) -> Array:
    """Privacy loss of each user: log-ratio of probabilities of half-lines of outputs, over all data sets."""
    w = np.asarray(weights, dtype=float)
    data = np.array(list(product((-0.5, 0.5), repeat=w.size)))
    centres = data @ w
    threshold = np.linspace(centres.min(), centres.max(), 41)[:, None]
    log_tails = _log_tail((threshold - centres) / noise_scale)
    log_others = _log_tail((centres - threshold) / noise_scale)
    loss = np.empty(w.size)
    for user in range(w.size):
        flipped = data.copy()
        flipped[:, user] *= -1
        index = ((flipped + 0.5) @ 2 ** np.arange(w.size)[::-1]).astype(int)
        loss[user] = max(np.max(logs - logs[:, index]) for logs in (log_tails, log_others))
    return loss


def _log_tail(z: Array) -> Array:
    """Log-probability that Laplace noise of scale 1 exceeds z."""
    return np.where(z > 0, np.log(0.5) - np.abs(z), np.log1p(-0.5 * np.exp(-np.abs(z))))


# ------------------------------------------------------------ federated mean estimation


@dataclass(frozen=True)
class FederatedCase:
    """Users that share directly (2), in an average (1) or not (0), and the user whose mean is estimated."""

    levels: tuple[int, ...]
    num_samples: tuple[int, ...]
    between: float
    within: float
    user: int = 0
    importance: tuple[float, ...] = ()

    @property
    def weights_of_users(self) -> Array:
        """Importance of each user, 1 where nothing is said."""
        return np.array(self.importance) if self.importance else np.ones(len(self.levels))

    def estimation(
        self, between: float | None = None, within: float | None = None
    ) -> FederatedMeanEstimation:
        """Build the mechanism, with other variances if so asked."""
        return FederatedMeanEstimation(
            np.array(self.levels),
            np.array(self.num_samples, dtype=float),
            self.between if between is None else between,
            self.within if within is None else within,
            self.weights_of_users,
        )


FEDERATED = (
    FederatedCase((2, 2, 1, 1, 1, 0), (10, 100, 10, 10, 100, 10), 1.0, 10.0),
    FederatedCase((2, 2, 1, 1, 1, 0), (10, 100, 10, 10, 100, 10), 1.0, 10.0, user=3),
    FederatedCase((2, 2, 1, 1, 1, 0), (10, 100, 10, 10, 100, 10), 1.0, 10.0, user=5),
    FederatedCase((1, 1, 1), (1, 5, 25), 1.0, 10.0, user=1),
    FederatedCase((2, 2, 0), (1, 5, 25), 1.0, 10.0, user=1),
    FederatedCase((2, 1, 0), (4, 3, 2), 0.5, 2.0, user=1),
)
"""Each level, and the limits: nobody direct, nobody federated, one federated."""

STAR = FederatedCase((1, 1, 2), (100, 10, 10), 100.0, 1.0, importance=(100.0, 1.0, 1.0))
"""An important federated user: whoever else federates hides its data."""


def random_federated(rng: Rng, most: int = 8) -> FederatedCase:
    """Up to so many users, at least one of whom shares; variances .01 to 100, samples 1 to 100."""
    n = int(rng.integers(1, most + 1))
    levels = rng.integers(0, 3, n)
    levels[rng.integers(n)] = rng.integers(1, 3)
    between, within = (short(x) for x in 10 ** rng.uniform(-2, 2, 2))
    return FederatedCase(
        tuple(levels.tolist()),
        tuple(rng.integers(1, 101, n).tolist()),
        between,
        within,
        int(rng.integers(n)),
        tuple(rng.choice([0.0, 1.0, 1.0, 2.5, 100.0], n).tolist()),
    )


def federated_cases(most: int = 8) -> Callable[[Rng, int], Iterator[FederatedCase]]:
    """Return a family: worked examples, then random users."""

    def draw(rng: Rng, n: int) -> Iterator[FederatedCase]:
        yield from FEDERATED[:n]
        for _ in range(n - len(FEDERATED)):
            yield random_federated(rng, most)

    return draw


def error_of_covariances(
    case: FederatedCase, weights: ArrayLike, user: int | None = None, common: float = 3.0
) -> float:
    """Error of an estimate, from the covariance of all that is random: the variance of a linear map of it.

    These are the common mean, whose variance must not matter, users' deviations from it, and the noises of
    their sample means.
    """
    v = np.asarray(weights, dtype=float)
    n, i = v.size, case.user if user is None else user
    variances = np.concatenate(
        [[common], np.full(n, case.between), case.within / np.array(case.num_samples, dtype=float)]
    )
    estimate = v @ np.hstack([np.ones((n, 1)), np.eye(n), np.eye(n)])
    target = np.zeros(2 * n + 1)
    target[[0, 1 + i]] = 1.0
    return float((estimate - target) ** 2 @ variances)


def best_weights(case: FederatedCase, levels: ArrayLike | None = None, user: int | None = None) -> Array:
    """Per-user weights of least error, from the linear system of the first-order conditions."""
    chosen = np.asarray(case.levels if levels is None else levels)
    n, i = chosen.size, case.user if user is None else user
    federated = chosen == 1
    columns = [federated / federated.sum()] if federated.any() else []
    basis = np.array([*columns, *np.eye(n)[chosen == 2]]).T
    spread = case.between + case.within / np.array(case.num_samples, dtype=float)
    m = basis.shape[1]
    system = np.block([[basis.T * spread @ basis, np.ones((m, 1))], [np.ones((1, m)), np.zeros((1, 1))]])
    # In units of the variances, so that the rows are of one size.
    scale = float(spread.max())
    system[:m, :m] /= scale
    right = np.append(case.between / scale * basis[i], 1.0)
    return np.asarray(basis @ np.linalg.solve(system, right)[:m])


def utility_of_members(case: FederatedCase, members: Coalition) -> float:
    """Utility (17) of a coalition, estimate by estimate; over all users."""
    levels = [level if i in members else 0 for i, level in enumerate(case.levels)]
    if not any(levels):
        return 0.0
    start, total = case.within + 2 * case.between, 0.0
    for i, importance in enumerate(case.weights_of_users):
        error = error_of_covariances(case, best_weights(case, levels, i), i)
        total += float(importance) * float(np.log(start / error))
    return total


def utilities(case: FederatedCase) -> dict[Coalition, float]:
    """Utility of every coalition."""
    n = len(case.levels)
    every = [s for size in range(n + 1) for s in combinations(range(n), size)]
    return {s: utility_of_members(case, s) for s in every}


def cover(table: dict[Coalition, float]) -> dict[Coalition, float]:
    """Largest utility among the subsets of each coalition, by leaving out one member after the other."""
    covered: dict[Coalition, float] = {}
    for s in sorted(table, key=len):
        smaller = [covered[s[:k] + s[k + 1 :]] for k in range(len(s))]
        covered[s] = max([table[s], *smaller])
    return covered


def values_of(table: dict[Coalition, float]) -> Array:
    """Fair values by (12), over all coalitions."""
    n = max(len(s) for s in table)
    values = np.zeros(n)
    for s in table:
        for i in set(range(n)) - set(s):
            joined = tuple(sorted((*s, i)))
            values[i] += (table[joined] - table[s]) / (n * comb(n - 1, len(s)))
    return values
