"""Fair value: Shapley values of users and groups, private and federated mean estimation, and programs.

For distinct users the algorithm is set beside what one would write with numpy on the same table; for groups,
counting and the integral beside the whole grid of counts.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import comb
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from agreement import close, compiled
from numpy.typing import NDArray
from scipy.special import gammaln

from mechopt.formulations.fair_value.federated import FederatedMeanEstimation
from mechopt.formulations.fair_value.mean_estimation import MeanEstimation
from mechopt.formulations.fair_value.mean_estimation.closed_form import closed_form
from mechopt.formulations.fair_value.mean_estimation.exact import optimal_estimator
from mechopt.formulations.fair_value.shapley import FairValue
from mechopt.formulations.fair_value.shapley.exact import subset_values

Array = NDArray[np.float64]


class Returns:
    """Diminishing returns in weighted members: x / (x + 2), for a matrix of members or counts."""

    def __init__(self, weights: Array) -> None:
        self.weights = weights

    def __call__(self, counts: Any) -> Array:
        """Evaluate at rows of members or counts."""
        data = np.asarray(counts) @ self.weights
        return np.asarray(data / (data + 2))


def utility_of(n_users: int) -> Returns:
    return Returns(np.random.default_rng(0).uniform(0.1, 1, n_users))


def table_of(n_users: int) -> Array:
    """Utility of all coalitions; bit i of the index is user i."""
    return utility_of(n_users)(np.arange(2**n_users)[:, None] >> np.arange(n_users) & 1)


# ------------------------------------------------------------ distinct users


def by_numpy(table: Array) -> Array:
    """For each user, the weighted sum of (12) over all coalitions without it."""
    n_users = table.size.bit_length() - 1
    masks = np.arange(table.size)
    size = np.bitwise_count(masks).astype(np.int64)
    s = np.arange(n_users)
    weights = np.exp(gammaln(s + 1) + gammaln(n_users - s) - gammaln(n_users + 1))
    values = np.empty(n_users)
    for user in range(n_users):
        without = masks[(masks >> user) & 1 == 0]
        values[user] = weights[size[without]] @ (table[without | 1 << user] - table[without])
    return values


def by_shapiq(utility: Returns, n_users: int) -> Array:
    from shapiq import ExactComputer

    found = ExactComputer(utility, n_players=n_users)(index="SV", order=1)
    return np.array([found[(user,)] for user in range(n_users)])


def by_pydvl(utility: Returns, n_users: int) -> Array:
    from pydvl.valuation import DeterministicUniformSampler, ShapleyValuation
    from pydvl.valuation.games import DummyGameDataset
    from pydvl.valuation.stopping import NoStopping
    from pydvl.valuation.utility.base import UtilityBase

    data = DummyGameDataset(n_users, "users")

    class OneCoalition(UtilityBase):  # type: ignore[misc]  # pydvl has no types
        training_data = data

        def with_dataset(self, _: Any) -> OneCoalition:
            return self

        def __call__(self, sample: Any) -> float:
            member = np.zeros(n_users)
            if sample is not None:
                member[sample.subset] = 1
            return float(utility(member))

    sampler = DeterministicUniformSampler()
    valuation = ShapleyValuation(OneCoalition(), sampler, NoStopping(sampler), progress=False)
    found = valuation.fit(data).result
    return np.asarray(found.values[np.argsort(found.indices)])


@pytest.mark.sizes(16, 20, smoke=8)
def test_shapley_of_a_table(versus: Any, size: int) -> None:
    """One pass over the table is the bound: two would be read and written at least."""
    table = table_of(size)

    def agree(own: Array, other: Any) -> None:
        if np.ndim(other):
            close(1e-9)(own, other)

    versus(
        lambda: subset_values(table, include_platform=False)[0],
        {"numpy": lambda: by_numpy(table), "a sum of the table": lambda: float(table.sum())},
        agree=agree,
        at_least={"numpy": 1.0},
        size=size,
    )


@pytest.mark.sizes(10, 14, 16, smoke=6)
def test_shapley_of_a_function(versus: Any, size: int) -> None:
    utility = utility_of(size)
    others: dict[str, Callable[[], Array]] = {"shapiq": lambda: by_shapiq(utility, size)}
    if size <= 10:
        others["pydvl"] = lambda: by_pydvl(utility, size)
    versus(
        lambda: FairValue(utility, n_users=size, vectorized=True).solve("subsets").user_values,
        others,
        agree=close(1e-9),
        at_least={"shapiq": 100} if size >= 16 else None,
        needs={name: name for name in others},
        size=size,
    )


def test_shapley_grows(growth: Any) -> None:
    """In the number of coalitions, 2^N."""
    growth(
        lambda n_coalitions: FairValue(table_of(n_coalitions.bit_length() - 1)).solve,
        [2**n for n in (8, 12, 16, 20)],
        at_most=1.2,
    )


# ------------------------------------------------------------ groups of users


def on_the_grid(utility: Returns, sizes: tuple[int, ...]) -> Array:
    """Count on the whole grid, with logarithms of binomials."""
    n_users = sum(sizes)
    counts = np.indices([m + 1 for m in sizes])
    value = utility(np.moveaxis(counts, 0, -1))
    total = counts.sum(axis=0)

    def log_choose(n: Any, k: Any) -> Any:
        return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)

    values = np.empty(len(sizes))
    for g in range(len(sizes)):
        inner = tuple(slice(0, -1) if h == g else slice(None) for h in range(len(sizes)))
        weight = -log_choose(n_users - 1, total[inner]) - np.log(n_users)
        for h, m in enumerate(sizes):
            weight = weight + log_choose(m - (h == g), counts[h][inner])
        values[g] = np.sum(np.exp(weight) * np.diff(value, axis=g))
    return values


@pytest.mark.sizes((100, 100, 100), (2000, 2000), (5000, 5000), smoke=(10, 10))
def test_shapley_of_groups(versus: Any, size: tuple[int, ...]) -> None:
    utility = Returns(np.linspace(0.4, 1, len(size)))
    fair = FairValue(utility, group_sizes=size, vectorized=True)
    others: dict[str, Callable[[], Array]] = {"owen, ours": lambda: fair.solve("owen").group_values}
    if sum(size) <= 4000:
        others["the whole grid"] = lambda: on_the_grid(utility, size)
    versus(
        lambda: fair.solve("groups").group_values, others, agree=close(1e-9), size=" + ".join(map(str, size))
    )


# ------------------------------------------------------------ private mean estimation


def levels_of(n_users: int) -> Array:
    """Privacy levels three decades wide."""
    return 10 ** np.random.default_rng(0).uniform(-1.5, 1.5, n_users)


def mean_by_cvxpy(levels: Array) -> float:
    """The quadratic program as one would write it."""
    weights, noise = cp.Variable(levels.size), cp.Variable(nonneg=True)
    risk = cp.sum_squares(weights) / 6 + cp.square(1 - cp.sum(weights)) / 12 + 2 * cp.square(noise)
    return float(cp.Problem(cp.Minimize(risk), [cp.abs(weights) <= levels * noise]).solve(solver="CLARABEL"))


@pytest.mark.parametrize("road", ["closed form", "Newton", "solve"])
@pytest.mark.sizes(100, 10_000)
def test_private_mean(versus: Any, size: int, road: str) -> None:
    """Ours of N users, beside a program of N, or of 1000 if fewer, and beside a sort of the levels."""
    levels = levels_of(size)
    few = levels[:1000]
    own: dict[str, Callable[[], float]] = {
        "closed form": lambda: closed_form(levels).bayes_risk,
        "Newton": lambda: optimal_estimator(levels).bayes_risk,
        "solve": lambda: MeanEstimation(levels).solve().objective,
    }

    def agree(risk: float, other: Any) -> None:
        assert risk == pytest.approx(closed_form(levels).bayes_risk, rel=1e-10)
        if np.ndim(other) == 0:
            assert other == pytest.approx(closed_form(few).bayes_risk, rel=1e-5)

    others: dict[str, Callable[[], Any]] = {"a sort": lambda: np.sort(levels)}
    if road == "closed form":
        others[f"cvxpy, {few.size} users"] = lambda: mean_by_cvxpy(few)
    versus(own[road], others, agree=agree, size=size)


# ------------------------------------------------------------ federated mean estimation


def federated_users(n_users: int, n_kinds: int) -> FederatedMeanEstimation:
    """Users of so many kinds, federated and direct in turn."""
    kind = np.arange(n_users) % n_kinds
    return FederatedMeanEstimation(1 + kind % 2, 5 * (1 + kind), 1.0, 10.0)


def over_all_coalitions(estimation: FederatedMeanEstimation) -> Array:
    n = estimation.n_users
    values = np.zeros(n)
    for size in range(n + 1):
        for members in combinations(range(n), size):
            worth = estimation.utility(members)
            inside = np.isin(np.arange(n), members)
            values[inside] += worth / (n * comb(n - 1, size - 1)) if size else 0.0
            values[~inside] -= worth / (n * comb(n - 1, size)) if size < n else 0.0
    return values


@pytest.mark.sizes(12, smoke=5)
def test_federated_fair_values(versus: Any, size: int) -> None:
    estimation = federated_users(size, 4)
    versus(
        estimation.fair_value,
        {"all coalitions": lambda: over_all_coalitions(estimation)},
        agree=close(1e-9),
        size=size,
    )


@pytest.mark.sizes(300, smoke=20)
def test_federated_errors(versus: Any, size: int) -> None:
    """Errors of all users by Proposition 5, beside the weights of one of them by its program."""
    estimation = federated_users(size, 4)

    def by_program() -> float:
        found = estimation.weights(0, "clarabel")
        assert found is not None
        return float(found.emse)

    def agree(own: Array, other: float) -> None:
        assert other == pytest.approx(own[0], rel=1e-5)

    versus(estimation.emse, {"one user's program": by_program}, agree=agree, size=size)


def test_federated_fair_values_grow(growth: Any) -> None:
    growth(lambda n: federated_users(n, 2).fair_value, (100, 1000, 10_000))


# ------------------------------------------------------------ declared programs


def test_private_mean_program_compiles(growth: Any) -> None:
    growth(
        lambda n: lambda: compiled(MeanEstimation(levels_of(n)).program().problem),
        (30, 300, 3000, 10_000),
        at_most=1.2,
    )


def test_federated_program_compiles(growth: Any) -> None:
    growth(
        lambda n: lambda: compiled(federated_users(n, 4).program(0).problem),
        (30, 100, 300, 1000),
        at_most=2.2,
    )


def test_core_program_compiles(growth: Any) -> None:
    """In the number of coalitions, each of which is a row."""
    growth(
        lambda n_coalitions: (
            lambda: compiled(FairValue(table_of(n_coalitions.bit_length() - 1)).core_program().problem)
        ),
        [2**n for n in (4, 6, 8, 10)],
        at_most=1.5,
    )
