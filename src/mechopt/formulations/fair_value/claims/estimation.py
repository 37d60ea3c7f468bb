"""What the fair-value paper says of private mean estimation, its Example 1."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.fair_value.claims import exact_gaps as exactly
from mechopt.formulations.fair_value.claims.estimation_roads import (
    EqualCase,
    EstimatorCase,
    PrivateCase,
    Rng,
    equal_cases,
    private_cases,
    random_private,
    revealed_by_tails,
    risk_of_outcomes,
    short,
)
from mechopt.formulations.fair_value.claims.roads import LEDGER
from mechopt.formulations.fair_value.mean_estimation import audit, closed_form, exact
from mechopt.formulations.fair_value.mean_estimation.model import MeanEstimation
from mechopt.verification.claim import Finding, Verdict
from mechopt.verification.evidence import confirm, largest, row

Array = NDArray[np.float64]

NO_DATA = 1 / 12
"""Risk of the prior mean, to which gaps in the risk are relative."""

RETURNS_TURN = 2 * np.sqrt(3)
"""Level below which returns to users are not diminishing."""


# ------------------------------------------------------------ privacy


def _estimators(rng: Rng, n: int) -> Iterator[EstimatorCase]:
    yield from (EstimatorCase((1 / 9,), 1 / 18), EstimatorCase((0.25, -0.25, 0.0), 0.1))[:n]
    for _ in range(n - 2):
        weights = rng.uniform(-0.5, 0.5, int(rng.integers(1, 6)))
        yield EstimatorCase(tuple(short(w) for w in weights), short(10 ** rng.uniform(-1.5, 0.5)))


@LEDGER.claim(
    "fair-value/R1",
    source="Definitions 1 and 2, (7)",
    statement="w'X + Laplace(s) is epsilon_i-differentially private in the data of user i iff "
    "|w_i| <= epsilon_i s",
    instances=_estimators,
    tolerance=1e-9,
    n_instances=60,
)
def privacy_of_linear_estimators(case: EstimatorCase) -> Finding:
    """Compare |w_i| / s with what densities tell, and with what probabilities of half-lines tell."""
    weights = np.array(case.weights)
    least = np.abs(weights) / case.noise_scale
    densities = audit.revealed(weights, case.noise_scale)
    tails = revealed_by_tails(weights, case.noise_scale)
    gap = max(largest(densities - least), largest(tails - least)) / max(1.0, largest(least))
    return Finding(gap, f"|w| / s = {row(least)}, by densities {row(densities)}, by tails {row(tails)}")


# ------------------------------------------------------------ the optimal estimator


@LEDGER.claim(
    "fair-value/R7",
    source="(7)-(9), (29), (33)",
    statement="The best estimator minimises |w|^2 / 6 + (1 - sum w)^2 / 12 + 2 s^2 subject to "
    "|w_i| <= epsilon_i s",
    instances=private_cases,
    tolerance=1e-8,
    n_instances=40,
)
def declared_program(case: PrivateCase) -> Finding:
    """Solve the program, and hold it to the risk of all outcomes, there and at other private estimators."""
    solution = case.estimation().solve("clarabel", tolerance=1e-9)
    weights, noise = np.array(solution["weights"]), max(float(solution["noise_scale"]), 0.0)
    true = risk_of_outcomes(weights, noise)
    rng = np.random.default_rng(len(case.levels))
    levels, best = np.array(case.levels), inf
    for spread in (0.3, 0.03, 0.003):
        for _ in range(3):
            other_noise = noise * float(np.exp(spread * rng.normal()))
            limit = np.where(np.isinf(levels), 1.0, np.where(np.isinf(levels), 0.0, levels) * other_noise)
            other = np.clip(weights * np.exp(spread * rng.normal(size=weights.size)), -limit, limit)
            best = min(best, risk_of_outcomes(other, other_noise))
    gap = max(abs(solution.objective - true), true - best) / NO_DATA
    return Finding(gap, f"program {solution.objective:.12g}, by outcomes {true:.12g}, others {best:.12g}")


@LEDGER.claim(
    "fair-value/R8",
    source="(8), solved for any levels",
    statement="w_i = min(epsilon_i s, lambda), lambda = 1 / (2 + m + E1^2 / (12 + E2)), "
    "s = lambda E1 / (12 + E2), and the risk is lambda / 6",
    instances=private_cases,
    tolerance=1e-12,
)
def water_filling(case: PrivateCase) -> Finding:
    """Compare with Newton's method, and with the risk of all outcomes at these weights."""
    form = closed_form.closed_form(case.levels)
    found = exact.optimal_estimator(np.array(case.levels))
    true = risk_of_outcomes(form.weights, form.noise_scale)
    gap = max(
        largest(form.weights - found.weights),
        abs(form.noise_scale - found.noise_scale),
        abs(form.bayes_risk - found.bayes_risk) / NO_DATA,
        abs(form.bayes_risk - true) / NO_DATA,
    )
    return Finding(gap, f"w = {row(form.weights)} against {row(found.weights)}, risk {form.bayes_risk:.12g}")


@LEDGER.claim(
    "fair-value/R8-program",
    source="(8), solved for any levels",
    statement="The closed form is the optimum of the declared program",
    instances=private_cases,
    tolerance=1e-7,
    n_instances=30,
)
def water_filling_solves_the_program(case: PrivateCase) -> Finding:
    """Compare with a solver's answer: weights to the square root of its accuracy in the risk."""
    form = closed_form.closed_form(case.levels)
    solution = case.estimation().program().solve("clarabel", tolerance=1e-9)
    gap = max(
        abs(solution.objective - form.bayes_risk) / NO_DATA, largest(solution["weights"] - form.weights)
    )
    return Finding(gap, f"w = {row(form.weights)}, solver {row(solution['weights'])}")


@LEDGER.claim(
    "fair-value/R8-saturation",
    source="(8), solved for any levels; section 5, note on monotonicity",
    statement="A higher level of one user never lowers the utility, raises it below the saturation level, "
    "and makes no difference above it",
    instances=private_cases,
    tolerance=1e-12,
    n_instances=60,
)
def saturation(case: PrivateCase) -> Finding:
    """Raise each user's level by half."""
    estimation, gap, told = case.estimation(), 0.0, ""
    before = exact.optimal_estimator(estimation.privacy_levels).bayes_risk
    for user, level in enumerate(case.levels):
        if level in (0.0, inf):
            continue
        raised = np.array(case.levels)
        raised[user] = 1.5 * level
        fall = (before - exact.optimal_estimator(raised).bayes_risk) / NO_DATA
        saturated = bool(estimation.saturated[user])
        if saturated:
            failure = abs(fall)
        elif level > 0.99 * estimation.saturation_level:
            failure = -fall  # the rise may be as small as rounding
        else:
            failure = 0.0 if fall > 1e-12 else 1.0
        if failure >= gap:
            enough = estimation.saturation_level
            gap, told = failure, f"user {user} at {level:g}, enough is {enough:.6g}: {fall:.3g}"
    return Finding(gap, told)


@LEDGER.claim(
    "fair-value/R9",
    source="(30), (31), (34)-(36)",
    statement="One user's weight is 1 / (3 + 24 / e^2), each of two users' 1 / (4 + 12 / e^2); n of N users "
    "have utility (N+2)/N x/(2+x), x = n^2 e^2 / (12 + n e^2)",
    instances=equal_cases(0.05, 50.0),
    tolerance=1e-12,
    n_instances=60,
)
def equal_levels(case: EqualCase) -> Finding:
    """Compare the formulas with the risk of all outcomes at the weights that Newton's method gives."""
    n_users, e = case.n_users, case.level
    by_counts = closed_form.utility_of_counts([e], [n_users])
    gap = 0.0
    for n in range(n_users + 1):
        levels = np.array([e] * n + [0.0] * (n_users - n))
        found = exact.optimal_estimator(levels)
        utility = (n_users + 2) / n_users * (1 - 12 * risk_of_outcomes(found.weights, found.noise_scale))
        x = n**2 * e**2 / (12 + n * e**2)
        formula = (n_users + 2) / n_users * x / (2 + x)
        gap = max(gap, abs(utility - formula), abs(float(by_counts[n]) - formula))
        if n in (1, 2):
            printed = 1 / (3 + 24 / e**2) if n == 1 else 1 / (4 + 12 / e**2)
            gap = max(gap, abs(float(found.weights[0]) - printed))
        if n == n_users <= 2:
            printed = (1 - 1 / (3 + 24 / e**2)) / 12 if n == 1 else (1 - 1 / (2 + 6 / e**2)) / 12
            gap = max(gap, abs(found.bayes_risk - printed) / NO_DATA)
    return Finding(gap, f"U = {row(by_counts)}")


# ------------------------------------------------------------ returns to users


def _second_differences(case: EqualCase) -> tuple[Array, Array]:
    """Second differences of U(n): by counts, and from the risks of Newton's method."""
    by_counts = closed_form.utility_of_counts([case.level], [case.n_users])
    risks = [
        exact.optimal_estimator(np.array([case.level] * n + [0.0] * (case.n_users - n))).bayes_risk
        for n in range(case.n_users + 1)
    ]
    by_risks = (case.n_users + 2) / case.n_users * (1 - 12 * np.array(risks))
    return np.diff(by_counts, 2), np.diff(by_risks, 2)


@LEDGER.claim(
    "fair-value/R10",
    source="Example 1 and Assumption 2",
    statement="The utility of n users at one level e is concave in n iff e >= 2 sqrt(3), whatever N >= 2",
    instances=equal_cases(0.1, 120.0, least=2),
    tolerance=1e-12,
    n_instances=80,
)
def concave_from_a_level_on(case: EqualCase) -> Finding:
    """Look at the signs of second differences, away from the level itself by a thousandth."""
    most = [float(differences.max()) for differences in _second_differences(case)]
    falls, rises = max(most) <= 0, min(most) > 1e-12
    gap = 0.0 if (falls if case.level >= RETURNS_TURN else rises) else 1.0
    near = abs(case.level / RETURNS_TURN - 1) < 1e-3
    return Finding(gap, f"largest second difference {most[0]:.6g}", applies=not near)


def _private_pairs(rng: Rng, n: int) -> Iterator[EqualCase]:
    """The paper's two users at level 1, then any number below the level where returns turn."""
    yield from (EqualCase(2, 1.0),)[:n]
    yield from equal_cases(0.1, 3.0, least=2)(rng, n - 1)


@LEDGER.claim(
    "fair-value/E8",
    source="Assumption 2, (20), and Theorem 3",
    statement="Example 1 with the levels 0 and e' has diminishing returns for every e' > 0",
    instances=_private_pairs,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/R10",
    n_instances=20,
    confirm_exactly=exactly.diminishing_at_every_level,
)
def diminishing_at_every_level(case: EqualCase) -> Finding:
    """Compare what the first and the second user add, by formula and by all outcomes."""
    added = []
    for n in range(3):
        levels = [case.level] * n + [0.0] * (case.n_users - n)
        form = closed_form.closed_form(levels)
        utility = closed_form.normalised(form.bayes_risk, case.n_users)
        true = (case.n_users + 2) / case.n_users
        true *= 1 - 12 * risk_of_outcomes(form.weights, form.noise_scale)
        confirm(abs(utility - true) <= 1e-10, f"by all outcomes, {n} sharers are worth {true:.6g}")
        added.append(utility)
    first, second = added[1] - added[0], added[2] - added[1]
    return Finding((second - first) / added[2], f"the first user adds {first:.6g}, the second {second:.6g}")


@LEDGER.claim(
    "fair-value/E8-equal",
    source="Assumption 2, (20)",
    statement="Of two choices of levels, that with no fewer users at the higher privacy has the strictly "
    "larger gain from one user's switching",
    instances=equal_cases(4.0, 100.0, least=3),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/R10",
    n_instances=10,
    confirm_exactly=exactly.strict_at_equality,
)
def strict_at_equality(case: EqualCase) -> Finding:
    """Let the last user switch where the first shares, and where the second does: each has to be more."""
    gains = []
    for sharing in (0, 1):
        levels = np.zeros(case.n_users)
        levels[sharing] = case.level
        before = MeanEstimation(levels).utility()
        levels[-1] = case.level
        found = exact.optimal_estimator(levels)
        true = (case.n_users + 2) / case.n_users
        true *= 1 - 12 * risk_of_outcomes(found.weights, found.noise_scale)
        after = MeanEstimation(levels).utility()
        confirm(abs(after - true) <= 1e-10, f"by all outcomes, the utility is {true:.9g} after the switch")
        gains.append(after - before)
    same = abs(gains[0] - gains[1]) <= 1e-12
    return Finding(
        1.0 if same else 0.0,
        f"equally many are private: {gains[0]:.9g} has to exceed {gains[1]:.9g}, and this that",
    )


def _saturated(rng: Rng, n: int) -> Iterator[PrivateCase]:
    """Somebody needs less privacy than it gets anyhow."""
    yield from (PrivateCase((1.0, 14.0)),)[:n]
    left = n - 1
    while left > 0:
        case = random_private(rng)
        estimation = case.estimation()
        if np.any(estimation.saturated & np.isfinite(estimation.privacy_levels)):
            left -= 1
            yield case


@LEDGER.claim(
    "fair-value/E8-saturation",
    source="Assumption 1, and Example 1: U is monotone increasing in epsilon",
    statement="A user's higher level raises the utility strictly",
    instances=_saturated,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/R8-saturation",
    n_instances=10,
    confirm_exactly=exactly.strictly_increasing,
)
def strictly_increasing(case: PrivateCase) -> Finding:
    """Let a saturated user do without privacy."""
    estimation = case.estimation()
    user = int(np.flatnonzero(estimation.saturated & np.isfinite(estimation.privacy_levels))[0])
    raised = np.array(case.levels)
    raised[user] = inf
    risks = []
    for levels in (np.array(case.levels), raised):
        found = exact.optimal_estimator(levels)
        true = risk_of_outcomes(found.weights, found.noise_scale)
        confirm(
            abs(true - closed_form.closed_form(levels).bayes_risk) <= 1e-14,
            f"by all outcomes and the closed form the risk is {true:.12g}",
        )
        risks.append(true)
    rise = (risks[0] - risks[1]) / NO_DATA
    return Finding(
        1.0 if rise <= 1e-12 else 0.0,
        f"user {user} at {case.levels[user]:g} instead of inf: risk {risks[0]:.12g} and {risks[1]:.12g}",
    )


# ------------------------------------------------------------ errata of the appendix


@LEDGER.claim(
    "fair-value/E16",
    source="(32)",
    statement="The noise adds 2^2 / eta to the risk of two users",
    instances=equal_cases(0.2, 20.0, 2, 2),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/R7",
    n_instances=10,
    confirm_exactly=exactly.printed_noise,
)
def printed_noise(case: EqualCase) -> Finding:
    """Compare with the variance of Laplace noise by integration, at the weights of (34)."""
    weight, scale = 1 / (4 + 12 / case.level**2), case.level / (4 * case.level**2 + 12)
    nodes, parts = np.polynomial.laguerre.laggauss(8)
    variance = scale**2 * float(parts @ nodes**2)
    true = risk_of_outcomes([weight, weight], scale)
    without = risk_of_outcomes([weight, weight], 0.0)
    confirm(abs(true - without - variance) <= 1e-12, f"by integration the noise adds {variance:.6g}")
    printed = without + 4 * scale
    return Finding(
        abs(printed - true) / true, f"eta = {1 / scale:.6g}: printed {printed:.6g}, true {true:.6g}"
    )


@LEDGER.claim(
    "fair-value/E16-weight",
    source="text after (29)",
    statement="The optimal weight of one user is 1 / (3 + 24/23)",
    instances=equal_cases(0.2, 20.0, 1, 1),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/R9",
    n_instances=10,
    confirm_exactly=exactly.printed_weight,
)
def printed_weight(case: EqualCase) -> Finding:
    """Compare risks of all outcomes at the printed weight, at 1 / (3 + 24 / e^2), and around it."""
    printed, weight = 1 / (3 + 24 / 23), 1 / (3 + 24 / case.level**2)
    tried = weight * np.array([0.99, 1.0, 1.01])
    risks = [risk_of_outcomes([w], w / case.level) for w in tried]
    confirm(
        risks[1] < min(risks[0], risks[2]), f"by all outcomes weights around {weight:.6g} have a larger risk"
    )
    loss = risk_of_outcomes([printed], printed / case.level) / risks[1] - 1
    return Finding(
        abs(printed - weight) / weight,
        f"e = {case.level:g}: printed {printed:.6g}, true {weight:.6g}; the risk is {loss:.2%} too high",
    )
