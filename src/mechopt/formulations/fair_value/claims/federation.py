"""What the fair-value paper says of federated mean estimation, its section 4."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import lcm

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.fair_value.claims import exact_gaps as exactly
from mechopt.formulations.fair_value.claims.estimation_roads import (
    FEDERATED,
    STAR,
    FederatedCase,
    Rng,
    best_weights,
    cover,
    error_of_covariances,
    federated_cases,
    random_federated,
    utilities,
    utility_of_members,
    values_of,
)
from mechopt.formulations.fair_value.claims.exact import federated_error, federated_weights
from mechopt.formulations.fair_value.claims.roads import LEDGER
from mechopt.verification.claim import Finding, Verdict
from mechopt.verification.evidence import confirm, fractions, largest, row

Array = NDArray[np.float64]


def _relative(value: float, true: float) -> float:
    return abs(value - true) / abs(true)


def _parts(case: FederatedCase) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Array]:
    """Who is federated, who shares directly, and the numbers of samples."""
    levels = np.array(case.levels)
    return levels == 1, levels == 2, np.array(case.num_samples, dtype=float)


# ------------------------------------------------------------ the error


def _error_54(case: FederatedCase, weights: Array, mean_inverse: float) -> float:
    """(54), with a given 1 / nbar; weights by user."""
    federated, direct, samples = _parts(case)
    i, n_federated = case.user, int(federated.sum())
    single, average = weights[direct], float(weights[federated].sum())
    others = np.flatnonzero(direct) != i
    n_others = n_federated - bool(federated[i])
    of_samples = float(single**2 @ (1 / samples[direct]))
    spread = float(np.sum(single[others] ** 2))
    shift = float(np.sum(single[others]))
    if n_federated:
        of_samples += average**2 * mean_inverse / n_federated
        spread += n_others * (average / n_federated) ** 2
        shift += n_others * average / n_federated
    return case.within * of_samples + case.between * (spread + shift**2)


@LEDGER.claim(
    "fair-value/R11",
    source="(54), (55)",
    statement="The error of weights that sum to 1 is t^2 sum v_j^2 / n_j + "
    "s^2 (sum_{j!=i} v_j^2 + (1 - v_i)^2), which is (54) with 1 / nbar the mean over all federated users",
    instances=federated_cases(),
    tolerance=1e-10,
)
def error_of_weights(case: FederatedCase) -> Finding:
    """Take weights at random that have the form (16), and compare both with covariances."""
    federated, direct, samples = _parts(case)
    rng = np.random.default_rng(case.num_samples)
    weights = np.zeros(samples.size)
    weights[direct] = rng.normal(size=int(direct.sum()))
    if federated.any():
        weights[federated] = (1 - weights.sum()) / federated.sum()
    else:
        weights[direct] += (1 - weights.sum()) / direct.sum()
    true = error_of_covariances(case, weights)
    printed = case.estimation().error_of_weights(case.user, weights)
    inverse = float(np.mean(1 / samples[federated])) if federated.any() else 0.0
    corrected = _error_54(case, weights, inverse)
    gap = max(_relative(printed, true), _relative(corrected, true))
    return Finding(gap, f"(55) {printed:.12g}, (54) {corrected:.12g}, by covariances {true:.12g}")


@LEDGER.claim(
    "fair-value/R12",
    source="(14), (16)",
    statement="The weights of least error are the optimum of a convex quadratic program with one equality",
    instances=federated_cases(),
    tolerance=1e-8,
    n_instances=40,
)
def declared_program(case: FederatedCase) -> Finding:
    """Solve the program, and compare with the linear system of first-order conditions."""
    found = case.estimation().weights(case.user, "clarabel", tolerance=1e-9)
    assert found is not None  # somebody shares in every instance
    assert found.solution is not None
    true = best_weights(case)
    least = error_of_covariances(case, true)
    gap = max(_relative(found.solution.objective, least), largest(found.per_user - true))
    return Finding(gap, f"v = {row(found.per_user)} against {row(true)}")


@LEDGER.claim(
    "fair-value/R13",
    source="Proposition 5, (58)-(63)",
    statement="The weights of Proposition 5, without the terms of groups that are empty, have the least "
    "error, and sum to 1; the errors have closed forms of positive terms",
    instances=federated_cases(),
    tolerance=1e-10,
)
def proposition_5(case: FederatedCase) -> Finding:
    """Compare with the linear system of first-order conditions, and errors with covariances."""
    found = case.estimation().weights(case.user)
    assert found is not None  # somebody shares in every instance
    true = best_weights(case)
    least = error_of_covariances(case, true)
    formula = case.estimation().emse(case.user)
    total = found.federated_weight + float(found.direct_weights.sum())
    gap = max(
        largest(found.per_user - true),
        abs(total - 1),
        _relative(error_of_covariances(case, found.per_user), least),
        _relative(formula, least),
        max(0.0, -float(found.per_user.min())),
    )
    return Finding(gap, f"v = {row(found.per_user)} against {row(true)}; EMSE {formula:.12g}, {least:.12g}")


def _one_federated(rng: Rng, n: int) -> Iterator[FederatedCase]:
    for _ in range(n):
        case = random_federated(rng)
        levels = [2 if level == 1 else level for level in case.levels]
        levels[case.user] = 1
        yield FederatedCase(tuple(levels), case.num_samples, case.between, case.within, case.user)


@LEDGER.claim(
    "fair-value/R13-one",
    source="Proposition 5, for N_1 = 1",
    statement="A user that federates alone is known as well as if it shared directly, and so is everybody",
    instances=_one_federated,
    tolerance=1e-10,
    n_instances=60,
)
def one_federated_user(case: FederatedCase) -> Finding:
    """Compare with the same users, all direct, by covariances."""
    errors = case.estimation().emse()
    direct = [2 if level else 0 for level in case.levels]
    true = np.array(
        [error_of_covariances(case, best_weights(case, direct, i), i) for i in range(len(direct))]
    )
    return Finding(largest(errors / true - 1), f"{row(errors)} against {row(true)}")


# ------------------------------------------------------------ the utility, and what it is fair to pay


@LEDGER.claim(
    "fair-value/R14",
    source="(17), (12)",
    statement="Utility depends on the numbers of members of each kind, and values by counting are "
    "those of (12)",
    instances=federated_cases(most=5),
    tolerance=1e-10,
    n_instances=30,
)
def values_by_counting(case: FederatedCase) -> Finding:
    """Enumerate coalitions, each estimate by the linear system."""
    estimation, table = case.estimation(), utilities(case)
    worth = np.array(list(table.values()))
    found = np.array([estimation.utility(s) for s in table])
    true, values = values_of(table), estimation.fair_value()
    scale = max(1.0, largest(worth))
    gap = max(largest(found - worth), largest(values - true)) / scale
    return Finding(gap, f"values {row(values)} against {row(true)}")


@LEDGER.claim(
    "fair-value/R14-cover",
    source="extension of (17)",
    statement="If members can be left out, utility is monotone, and no fair value is negative",
    instances=federated_cases(most=5),
    tolerance=1e-10,
    n_instances=30,
)
def values_of_the_cover(case: FederatedCase) -> Finding:
    """Enumerate coalitions, and the best subset of each."""
    estimation, table = case.estimation(), cover(utilities(case))
    worth = np.array(list(table.values()))
    found = np.array([estimation.utility(s, monotone_cover=True) for s in table])
    true, values = values_of(table), estimation.fair_value(monotone_cover=True)
    scale = max(1.0, largest(worth))
    falls = [
        worth - table[tuple(sorted((*s, i)))]
        for s, worth in table.items()
        for i in range(len(case.levels))
        if i not in s
    ]
    gap = max(largest(found - worth), largest(values - true), -float(values.min()), max(falls)) / scale
    return Finding(gap, f"values {row(values)} against {row(true)}")


# ------------------------------------------------------------ errata


@LEDGER.claim(
    "fair-value/E6",
    source="Figure 4, caption",
    statement="t^2 is the variance of users' means, and s^2 that of their samples",
    instances=federated_cases(),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/R11",
    n_instances=20,
    confirm_exactly=exactly.swapped_variances,
)
def swapped_variances(case: FederatedCase) -> Finding:
    """Read the variances as the caption has them, and compare with covariances for the same weights."""
    weights = best_weights(case)
    true = error_of_covariances(case, weights)
    swapped = case.estimation(case.within, case.between).error_of_weights(case.user, weights)
    right = case.estimation().error_of_weights(case.user, weights)
    confirm(
        _relative(right, true) <= 1e-10,
        f"with the text's variances the error is {right:.6g}, as by covariances",
    )
    return Finding(_relative(swapped, true), f"true {true:.6g}, with the caption's s^2 and t^2 {swapped:.6g}")


def _ordered(rng: Rng, n: int) -> Iterator[FederatedCase]:
    """Users in the paper's order, of falling level, with some federated; one of them is looked at."""
    yield from (FederatedCase((2, 1, 1, 1, 0), (5, 10, 20, 40, 10), 1.0, 10.0, user=1),)[:n]
    left = n - 1
    while left > 0:
        case = random_federated(rng)
        levels = tuple(sorted(case.levels, reverse=True))
        if levels.count(1) > 1 and levels.count(2):
            left -= 1
            user = levels.index(1)
            yield FederatedCase(levels, case.num_samples, case.between, case.within, user)


@LEDGER.claim(
    "fair-value/E7",
    source="(54)",
    statement="1 / nbar is the sum over j = N_1 + 1 .. N_1 + N_2, j != i, of 1 / n_j, over N_1",
    instances=_ordered,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/R11",
    n_instances=30,
    confirm_exactly=exactly.printed_range,
)
def printed_range(case: FederatedCase) -> Finding:
    """Evaluate (54) with the printed range of nbar; and, kindly, with the right users but j != i."""
    federated, direct, samples = _parts(case)
    n_federated, n_direct = int(federated.sum()), int(direct.sum())
    weights = best_weights(case)
    true = error_of_covariances(case, weights)
    printed = [j for j in range(n_federated, n_federated + n_direct) if j != case.user]
    kind = [j for j in np.flatnonzero(federated) if j != case.user]
    values = [
        _error_54(case, weights, float(np.sum(1 / samples[js])) / n_federated) for js in (printed, kind)
    ]
    right = _error_54(case, weights, float(np.mean(1 / samples[federated])))
    confirm(
        _relative(right, true) <= 1e-10, f"by covariances the error is {true:.6g}, as by (54) with all users"
    )
    gap = min(_relative(value, true) for value in values)
    return Finding(
        gap,
        f"true {true:.6g}; (54) as printed {values[0]:.6g}, over the other federated users {values[1]:.6g}",
    )


def _with_outsiders(rng: Rng, n: int) -> Iterator[FederatedCase]:
    """Somebody shares, and somebody does not, whose mean matters."""
    yield FEDERATED[0]
    left = n - 1
    while left > 0:
        case = random_federated(rng)
        if any(a > 0 and level == 0 for a, level in zip(case.importance, case.levels, strict=True)):
            left -= 1
            yield case


@LEDGER.claim(
    "fair-value/E7-utility",
    source="(17)",
    statement="The sum of the utility may stop at the users that share",
    instances=_with_outsiders,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/R14",
    n_instances=20,
)
def utility_of_sharing_users(case: FederatedCase) -> Finding:
    """Compare with the sum over all users, whose means are wanted too."""
    estimation, importance = case.estimation(), case.weights_of_users
    sharing = np.array(case.levels) > 0
    start = case.within + 2 * case.between
    parts = importance * np.log(start / estimation.emse())
    everybody = tuple(range(len(case.levels)))
    true = utility_of_members(case, everybody)
    confirm(
        abs(float(parts.sum()) - true) <= 1e-9 * max(1.0, true),
        f"estimate by estimate all users add up to {true:.6g}",
    )
    stopped = float(parts[sharing].sum())
    return Finding(abs(stopped - true) / true, f"sharing users {stopped:.6g}, all users {true:.6g}")


def _direct_and_federated(rng: Rng, n: int) -> Iterator[FederatedCase]:
    """A direct user's mean is estimated, and somebody is federated."""
    yield from (FEDERATED[0],)[:n]
    left = n - 1
    while left > 0:
        case = random_federated(rng)
        if 1 in case.levels and case.levels[case.user] == 2:
            left -= 1
            yield case


@LEDGER.claim(
    "fair-value/E7-stationarity",
    source="(71)",
    statement="For a direct user, w_ii V_i + w_i0 N_2 V_0 / (N_1 Vbar) + s^2 / V_i = 1",
    instances=_direct_and_federated,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/R13",
    n_instances=20,
    confirm_exactly=exactly.printed_stationarity,
)
def printed_stationarity(case: FederatedCase) -> Finding:
    """Evaluate both sides at the optimal weights; with w_i0 in the place of w_ii V_i, they are equal."""
    federated, direct, samples = _parts(case)
    weights = best_weights(case)
    noise = case.within / samples
    variance = case.between + noise
    average = float(weights[federated].sum())
    v0 = case.between + float(noise[federated].mean())
    # N_2 / Vbar is the sum of inverses over direct users.
    rest = average * v0 / int(federated.sum()) * float(np.sum(1 / variance[direct]))
    rest += case.between / float(variance[case.user])
    corrected = average + rest
    confirm(abs(corrected - 1) <= 1e-9, f"with w_i0 in its place the left side is {corrected:.9g}")
    printed = float(weights[case.user] * variance[case.user]) + rest
    return Finding(abs(printed - 1), f"the left side is {printed:.6g}; with w_i0 it is {corrected:.6g}")


def _stars(rng: Rng, n: int) -> Iterator[FederatedCase]:
    """An important federated user with much data, among users that differ much."""
    yield from (STAR,)[:n]
    for _ in range(n - 1):
        size = int(rng.integers(2, 5))
        samples = (100, *rng.integers(1, 30, size).tolist())
        levels = (1, 1, *rng.integers(1, 3, size - 1).tolist())
        between = float(rng.choice([20.0, 50.0, 100.0]))
        yield FederatedCase(levels, samples, between, 1.0, 0, (100.0, *([1.0] * size)))


def _errors_to_importance(case: FederatedCase, members: tuple[int, ...]) -> Fraction:
    """Product of errors to the powers of users' importance, whose logarithm is what utility lacks.

    Importance is a whole number of its smallest part, which decides nothing.
    """
    levels = tuple(level if i in members else 0 for i, level in enumerate(case.levels))
    importance = fractions(case.weights_of_users)
    unit = Fraction(1, lcm(*(a.denominator for a in importance)))
    product = Fraction(1)
    for user, a in enumerate(importance):
        shared = replace(case, levels=levels, user=user)
        product *= federated_error(shared, federated_weights(shared)) ** int(a / unit)
    return product


@LEDGER.claim(
    "fair-value/E10",
    source="section 5, note on monotonicity; Assumption 1",
    statement="Less privacy of one user never lowers the utility (17)",
    instances=_stars,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/R14-cover",
    n_instances=10,
)
def monotone_utility(case: FederatedCase) -> Finding:
    """Let another user federate beside the important one."""
    estimation = case.estimation()
    before, after = estimation.utility([0]), estimation.utility([0, 1])
    for members, utility in (((0,), before), ((0, 1), after)):
        true = utility_of_members(case, members)
        confirm(
            _relative(utility, true) <= 1e-9, f"by definition the utility of users {members} is {true:.6g}"
        )
    confirm(
        _errors_to_importance(case, (0, 1)) > _errors_to_importance(case, (0,)),
        "in rationals, errors to the powers of their importance multiply to more with both",
    )
    return Finding((before - after) / before, f"the star alone {before:.6g}, with another user {after:.6g}")


@LEDGER.claim(
    "fair-value/E10-values",
    source="Theorem 2 and section 4.1",
    statement="Fair payments to users are never negative",
    instances=_stars,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/R14-cover",
    n_instances=10,
)
def nonnegative_values(case: FederatedCase) -> Finding:
    """Compute the fair values by counting, and from all coalitions."""
    values = case.estimation().fair_value()
    table = utilities(case)
    true = values_of(table)
    scale = max(table.values())
    confirm(largest(values - true) <= 1e-9 * scale, f"over all coalitions the values are {row(true)}")
    return Finding(-float(values.min()) / scale, f"values {row(values)} of {scale:.6g}")
