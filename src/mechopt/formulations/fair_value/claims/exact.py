"""Fair values, estimates and equilibria of users in rationals: the decimals of an instance, without rounding.

Nothing here is shared with the mechanisms, nor with the second roads of the claims but their data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise, permutations, product
from math import comb, factorial, isinf

from mechopt.formulations.fair_value.claims.estimation_roads import FederatedCase
from mechopt.formulations.fair_value.shapley.families import LevelCase
from mechopt.solvers.errors import NotApplicable
from mechopt.verification.evidence import fraction, solved_in_fractions

Fractions = tuple[Fraction, ...]
Utility = Callable[[int, int], Fraction]


def total(terms: Iterable[Fraction]) -> Fraction:
    """Return the sum, a fraction even if it is empty."""
    return sum(terms, Fraction(0))


# ------------------------------------------------------------ values of coalition games


def values_of(table: Sequence[Fraction]) -> Fractions:
    """Fair values with all paid out: what each user adds, over all orders of joining."""
    n = len(table).bit_length() - 1
    added = [Fraction(0)] * n
    for order in permutations(range(n)):
        mask = 0
        for user in order:
            added[user] += table[mask | 1 << user] - table[mask]
            mask |= 1 << user
    return tuple(value / factorial(n) for value in added)


def with_veto(table: Sequence[Fraction]) -> Fractions:
    """The game in which the platform is the last player, without which nothing is worth anything."""
    return (*(Fraction(0) for _ in table), *table)


def breaks_fairness(table: Sequence[Fraction], values: Fractions) -> bool:
    """Whether users alike have unlike values, or one that adds nothing has something."""
    n = len(values)
    for i in range(n):
        without = [mask for mask in range(len(table)) if not mask >> i & 1]
        if values[i] and all(table[mask | 1 << i] == table[mask] for mask in without):
            return True
        for j in range(i):
            others = [mask for mask in without if not mask >> j & 1]
            alike = all(table[mask | 1 << i] == table[mask | 1 << j] for mask in others)
            if alike and values[i] != values[j]:
                return True
    return False


def utility_of_levels(case: LevelCase, levels: Sequence[Fraction]) -> Fraction:
    """X / (x + half), x the sum of levels to a power that must be a whole number."""
    if case.power != int(case.power):
        raise NotApplicable(f"levels to the power {case.power} are not rational")
    data = total(level ** int(case.power) for level in levels if level)
    return data / (data + fraction(case.half))


# ------------------------------------------------------------ private mean estimation


def risk(weights: Sequence[Fraction], noise_scale: Fraction) -> Fraction:
    """Bayes risk of w'X + Laplace(s) for the mean p of Bernoulli data, p uniform, from its moments.

    Given p the error is sum w_i (X_i - p) + (sum w_i - 1) (p - 1/2) and the noise, which are uncorrelated.
    """
    # E p (1 - p) = 1/6, and E (p - 1/2)^2 = 1/12.
    variance = total(w**2 for w in weights) / 6
    return variance + (1 - total(weights)) ** 2 / 12 + 2 * noise_scale**2


def best_estimator(levels: Sequence[float]) -> tuple[Fractions, Fraction]:
    """Weights of least risk and the noise scale s: w_i = e_i s, or t for those whose level asks for more.

    By the first-order conditions t is (1 - sum w) / 2, and 12 s is the sum of e_i (t - w_i) over the former.
    Those with the largest levels have t: their number is the one at which nobody's level is exceeded.
    """
    order = sorted(range(len(levels)), key=lambda i: -levels[i])
    for n_most in range(len(levels) + 1):
        if any(isinf(levels[i]) for i in order[n_most:]):
            continue
        lower = [fraction(levels[i]) for i in order[n_most:]]
        sums, squares = total(lower), total(e**2 for e in lower)
        t = 1 / (2 + n_most + sums**2 / (12 + squares))
        s = t * sums / (12 + squares)
        enough = all(isinf(levels[i]) or t <= fraction(levels[i]) * s for i in order[:n_most])
        if enough and all(e * s <= t for e in lower):
            weights = dict(zip(order, [t] * n_most + [e * s for e in lower], strict=True))
            return tuple(weights[i] for i in range(len(levels))), s
    raise NotApplicable("no number of users has the weight that no level limits")


def least_risk(levels: Sequence[float]) -> Fraction:
    """Bayes risk at the best weights."""
    return risk(*best_estimator(levels))


def worth_of_sharers(n_users: int, level: float) -> Fractions:
    """Utility of 0, ..., N users at one level, the others at level 0."""
    risks = [least_risk([level] * k + [0.0] * (n_users - k)) for k in range(n_users + 1)]
    return tuple(Fraction(n_users + 2, n_users) * (1 - 12 * least) for least in risks)


# ------------------------------------------------------------ federated mean estimation


def federated_weights(case: FederatedCase) -> Fractions:
    """Weights of least error, by elimination of the first-order conditions; one for all federated users."""
    n, federated = len(case.levels), [i for i, level in enumerate(case.levels) if level == 1]
    share = [Fraction(int(i in federated), max(len(federated), 1)) for i in range(n)]
    single = [[Fraction(int(i == j)) for i in range(n)] for j in range(n) if case.levels[j] == 2]
    basis = ([share] if federated else []) + single
    spread = [fraction(case.between) + fraction(case.within) / samples for samples in case.num_samples]
    m = len(basis)
    system = [[total(a * s * b for a, s, b in zip(p, spread, q, strict=True)) for q in basis] for p in basis]
    rows = [[*row, Fraction(1)] for row in system] + [[Fraction(1)] * m + [Fraction(0)]]
    right = [[fraction(case.between) * p[case.user]] for p in basis] + [[Fraction(1)]]
    found = [w[0] for w in solved_in_fractions(rows, right)[:m]]
    return tuple(total(w * p[i] for w, p in zip(found, basis, strict=True)) for i in range(n))


def federated_error(
    case: FederatedCase, weights: Fractions, between: Fraction | None = None, within: Fraction | None = None
) -> Fraction:
    """Error of weights that sum to 1: t^2 sum v_j^2 / n_j + s^2 sum (v_j - [j = i])^2."""
    s, t = between or fraction(case.between), within or fraction(case.within)
    own = [Fraction(int(j == case.user)) for j in range(len(weights))]
    samples = total(v**2 / n for v, n in zip(weights, case.num_samples, strict=True))
    return t * samples + s * total((v - o) ** 2 for v, o in zip(weights, own, strict=True))


def inverse_samples(case: FederatedCase, users: Iterable[int]) -> Fraction:
    """Sum of 1 / n_j."""
    return total(Fraction(1, case.num_samples[j]) for j in users)


# ------------------------------------------------------------ platforms


def chance(n: int, k: int, q: Fraction) -> Fraction:
    """Probability that k of n share."""
    return comb(n, k) * q**k * (1 - q) ** (n - k)


def relative_payoff(worth: Sequence[Fraction], q: Fraction) -> Fraction:
    """Mean of what sharing adds to s others' data, each sharing with probability q, over s < N."""
    n = len(worth) - 1
    steps = [b - a for a, b in pairwise(worth)]
    return total(chance(s, j, q) * steps[j] for s in range(n) for j in range(s + 1)) / n


def kept(worth: Sequence[Fraction], cost: Fraction, q: Fraction) -> Fraction:
    """What the platform keeps if it pays so that sharing with probability q is an equilibrium."""
    n = len(worth) - 1
    return (1 - cost / relative_payoff(worth, q)) * total(chance(n, k, q) * worth[k] for k in range(n + 1))


def kept_of_two(cost: Fraction) -> Fraction:
    """Best of the symmetric equilibria of the paper's two users: what is kept is quadratic in q."""
    worth = (Fraction(0), Fraction(2, 3), Fraction(1))
    at = [kept(worth, cost, Fraction(k, 2)) for k in (0, 1, 2)]
    curve, slope = 2 * (at[2] - 2 * at[1] + at[0]), 4 * at[1] - at[2] - 3 * at[0]
    vertex = min(max(-slope / (2 * curve), Fraction(0)), Fraction(1))
    # A payment share above 1 leaves less than nothing, and so does not count.
    return max(Fraction(0), at[2], kept(worth, cost, vertex))


def equilibria_of_two(
    one: Fraction, both: Fraction, costs: Fractions, share: Fraction
) -> list[tuple[Fraction, Fraction]]:
    """Equilibria of two users at a payment share, support by support."""
    fall, found = one - both / 2, []
    for supports in product(((0,), (1,), (0, 1)), repeat=2):
        profile = [Fraction(support[0]) for support in supports]
        if share and fall:
            for user, support in enumerate(supports):
                if len(support) == 2:
                    profile[user] = (share * one - costs[1 - user]) / (share * fall)
        gains = [share * (one - fall * profile[1 - user]) - costs[user] for user in (0, 1)]
        best = all(0 <= p <= 1 and (1 - p) * g <= 0 <= p * g for p, g in zip(profile, gains, strict=True))
        if best:
            found.append((profile[0], profile[1]))
    return found


def total_of_two(one: Fraction, both: Fraction, profile: tuple[Fraction, Fraction]) -> Fraction:
    """Expected utility of two users."""
    p, q = profile
    return p * (1 - q) * one + q * (1 - p) * one + p * q * both


def best_of_two(one: Fraction, both: Fraction, costs: Fractions) -> Fraction:
    """Most that an equilibrium leaves at payment shares at which a user is indifferent between pure choices.

    No equilibrium at other shares leaves more (R27); in any case, the platform can have this.
    """
    shares = {c / g for c in costs for g in (one, both / 2) if g and c <= g}
    left = [
        (1 - share) * total_of_two(one, both, profile)
        for share in shares
        for profile in equilibria_of_two(one, both, costs, share)
    ]
    return max([Fraction(0), *left])


def expected_values(utility: Utility, n_users: int, q: Fraction) -> tuple[Fraction, Fraction]:
    """Expected fair value of a user at the private level and at the other, over levels of the others."""
    values = []
    for own in (0, 1):
        mean = Fraction(0)
        for others in product((0, 1), repeat=n_users - 1):
            levels = (own, *others)

            def worth(mask: int, levels: tuple[int, ...] = levels) -> Fraction:
                members = [level for i, level in enumerate(levels) if mask >> i & 1]
                return utility(members.count(0), members.count(1))

            weight = q ** sum(others) * (1 - q) ** (n_users - 1 - sum(others))
            mean += weight * values_of([worth(mask) for mask in range(2**n_users)])[0]
        values.append(mean)
    return values[0], values[1]
