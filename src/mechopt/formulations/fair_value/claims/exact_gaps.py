"""By how much the fair-value paper's false statements fail, in rationals, on the scales of their claims."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, pairwise, product
from math import inf
from typing import TYPE_CHECKING

from mechopt.formulations.fair_value.claims.estimation_roads import EqualCase, FederatedCase, PrivateCase
from mechopt.formulations.fair_value.claims.exact import (
    Fractions,
    best_estimator,
    best_of_two,
    breaks_fairness,
    chance,
    equilibria_of_two,
    expected_values,
    federated_error,
    federated_weights,
    inverse_samples,
    kept,
    kept_of_two,
    least_risk,
    relative_payoff,
    risk,
    total,
    total_of_two,
    utility_of_levels,
    values_of,
    with_veto,
    worth_of_sharers,
)
from mechopt.formulations.fair_value.platform import families as platform
from mechopt.formulations.fair_value.shapley import families as shapley
from mechopt.solvers.errors import NotApplicable
from mechopt.verification.evidence import fraction, fractions

if TYPE_CHECKING:
    from mechopt.formulations.fair_value.claims.platform_errata import CostCase, LawCase

# ------------------------------------------------------------ values of coalition games


def _size(table: Fractions) -> Fraction:
    return max(map(abs, table)) or Fraction(1)


def platform_axioms(case: shapley.TableCase) -> Fraction:
    """The platform's value ranges over [0, U] if users may get nothing, and all: the axioms hold at both."""
    table = fractions(case.table)
    other = (Fraction(0), *table[:-1])
    games = (table, other, tuple(a + b for a, b in zip(table, other, strict=True)))
    for share in (0, 1):
        users = [tuple(share * value for value in values_of(game)) for game in games]
        platforms = [(1 - share) * game[-1] for game in games]
        fair = not any(map(breaks_fairness, games, users))
        efficient = all(total(u) + p == g[-1] for u, p, g in zip(users, platforms, games, strict=True))
        additive = all(a + b == both for a, b, both in zip(*users, strict=True))
        if not (fair and efficient and additive and platforms[0] + platforms[1] == platforms[2]):
            return Fraction(0)
    return Fraction(1)


def _interchanged(table: Fractions, wrong: dict[tuple[int, int], Fraction], *, veto: bool) -> Fraction:
    """Largest difference of user 1's values, by its choice and the other's, from those printed."""
    worst = Fraction(0)
    for first, second in product((0, 1), repeat=2):
        game = [table[(mask & 1) * first + (mask >> 1) * second] for mask in range(4)]
        value = values_of(with_veto(game) if veto else game)[0]
        worst = max(worst, abs(wrong[first, second] - value))
    return worst


def printed_first_example(case: shapley.PairCase) -> Fraction:
    """(11), of one user's utility."""
    one, both = fraction(case.one), fraction(case.both)
    wrong = {(0, 0): Fraction(0), (0, 1): one / 2, (1, 0): Fraction(0), (1, 1): both / 3 - one / 6}
    return _interchanged((Fraction(0), one, both), wrong, veto=True) / one


def printed_second_example(case: shapley.PairCase) -> Fraction:
    """(13) at the share, of one user's utility."""
    one, both = fraction(case.one), fraction(case.both)
    wrong = {(0, 0): Fraction(0), (0, 1): one, (1, 0): Fraction(0), (1, 1): both / 2}
    return fraction(case.share) * _interchanged((Fraction(0), one, both), wrong, veto=False) / one


def sums_to_share(case: shapley.TableCase) -> Fraction:
    """The sum of values against U: the share multiplies both."""
    table = fractions(case.table)
    return fraction(case.share) * abs(total(values_of(table)) - table[-1]) / _size(table)


def unanimity_is_a_basis(case: shapley.LevelCase) -> Fraction:
    """Largest residual of the best fit: functions of who shares can be fitted to means over levels alone."""
    levels = [Fraction(0), *sorted(fractions(set(case.levels[:2])))]
    space = list(product(levels, repeat=len(case.levels)))
    utility = {profile: utility_of_levels(case, profile) for profile in space}
    alike: dict[tuple[bool, ...], list[Fraction]] = {}
    for profile, worth in utility.items():
        alike.setdefault(tuple(level > 0 for level in profile), []).append(worth)
    residuals = (abs(worth - total(group) / len(group)) for group in alike.values() for worth in group)
    return max(residuals) / max(utility.values())


def shares_may_depend_on_utility(case: shapley.SumCase) -> Fraction:
    """What alpha(u) = u / (1 + u) pays of both utilities, and of their sum."""
    first, second = fraction(case.first[-1]), fraction(case.second[-1])
    paid = [u * u / (1 + u) for u in (first, second, first + second)]
    return abs(paid[2] - paid[0] - paid[1]) / (first + second)


def share_is_taken_once(case: shapley.PairCase) -> Fraction:
    """The share of the share, against the share."""
    one, both, share = fraction(case.one), fraction(case.both), fraction(case.share)
    paid = total(share * share * value for value in values_of((Fraction(0), one, one, both)))
    return abs(paid - share * both) / both


def contributions_are_equal(case: shapley.LevelCase) -> Fraction:
    """Largest difference of the utility with one user and with another in its place."""
    levels, worst = fractions(case.levels), Fraction(0)
    for i, j in combinations(range(len(levels)), 2):
        rest = [levels[k] for k in range(len(levels)) if k not in (i, j)]
        for present in product((0, 1), repeat=len(rest)):
            beside = [level * here for level, here in zip(rest, present, strict=True)]
            with_i, with_j = (utility_of_levels(case, [*beside, levels[k]]) for k in (i, j))
            worst = max(worst, abs(with_i - with_j))
    return worst / utility_of_levels(case, levels)


# ------------------------------------------------------------ private mean estimation


def diminishing_at_every_level(case: EqualCase) -> Fraction:
    """What the second user adds beyond the first, of what both add."""
    nothing, one, two = worth_of_sharers(case.n_users, case.level)[:3]
    return ((two - one) - (one - nothing)) / two


def strict_at_equality(case: EqualCase) -> Fraction:
    """Whether the last user adds the same beside the first as beside the second."""
    gains = []
    for sharing in (0, 1):
        levels = [case.level if i == sharing else 0.0 for i in range(case.n_users)]
        gains.append(least_risk(levels) - least_risk([*levels[:-1], case.level]))
    return Fraction(gains[0] == gains[1])


def strictly_increasing(case: PrivateCase) -> Fraction:
    """Whether the risk is the same without a limit for some user whose level is finite."""
    now = least_risk(case.levels)
    unchanged = (
        least_risk([*case.levels[:i], inf, *case.levels[i + 1 :]]) == now
        for i, level in enumerate(case.levels)
        if level < inf
    )
    return Fraction(any(unchanged))


def printed_noise(case: EqualCase) -> Fraction:
    """The risk with 4 / eta for the noise, against the risk."""
    (weight, _), scale = best_estimator([case.level] * 2)
    true = risk([weight, weight], scale)
    return abs(risk([weight, weight], Fraction(0)) + 4 * scale - true) / true


def printed_weight(case: EqualCase) -> Fraction:
    """1 / (3 + 24/23) against the weight of least risk."""
    (weight,), _ = best_estimator([case.level])
    return abs(1 / (3 + Fraction(24, 23)) - weight) / weight


# ------------------------------------------------------------ federated mean estimation


def swapped_variances(case: FederatedCase) -> Fraction:
    """The error with the caption's variances, against the error."""
    weights = federated_weights(case)
    true = federated_error(case, weights)
    swapped = federated_error(case, weights, fraction(case.within), fraction(case.between))
    return abs(swapped - true) / true


def printed_range(case: FederatedCase) -> Fraction:
    """(54) with the printed users in 1 / nbar, or the other federated ones, against the error."""
    weights = federated_weights(case)
    true = federated_error(case, weights)
    federated = [j for j, level in enumerate(case.levels) if level == 1]
    n_direct = case.levels.count(2)
    printed = range(len(federated), len(federated) + n_direct)
    average = total(weights[j] for j in federated)
    right = inverse_samples(case, federated) / len(federated)
    gaps = []
    for users in (printed, federated):
        inverse = inverse_samples(case, (j for j in users if j != case.user)) / len(federated)
        error = true + fraction(case.within) * average**2 * (inverse - right) / len(federated)
        gaps.append(abs(error - true) / true)
    return min(gaps)


def printed_stationarity(case: FederatedCase) -> Fraction:
    """What w_ii V_i and the rest of (71) sum to, less 1."""
    weights, between = federated_weights(case), fraction(case.between)
    federated = [j for j, level in enumerate(case.levels) if level == 1]
    variance = [between + fraction(case.within) / samples for samples in case.num_samples]
    average = total(weights[j] for j in federated)
    noise = fraction(case.within) * inverse_samples(case, federated) / len(federated)
    inverses = total(1 / variance[j] for j, level in enumerate(case.levels) if level == 2)
    rest = average * (between + noise) / len(federated) * inverses + between / variance[case.user]
    return abs(weights[case.user] * variance[case.user] + rest - 1)


# ------------------------------------------------------------ platforms


def printed_objective(case: platform.PairCase) -> Fraction:
    """What the platform can have, less what the share leaves that maximises (25) as printed, of U(2)."""
    one, both = fraction(case.one), fraction(case.both)
    costs = fractions((case.cost_1, case.cost_2))
    shares = {c / g for c in costs for g in (one, both / 2) if c <= g}
    shares |= {Fraction(k, 100) for k in range(101)}
    tried = [
        (share * total_of_two(one, both, profile), (1 - share) * total_of_two(one, both, profile))
        for share in shares
        for profile in equilibria_of_two(one, both, costs, share)
    ]
    return (best_of_two(one, both, costs) - max(tried)[1]) / both


def one_equilibrium_in_example_1(case: platform.MeanCase) -> Fraction:
    """Distance of two equilibria: if gamma rises all sharing is one, and nobody is, whatever lies between."""
    worth = worth_of_sharers(case.n_users, case.epsilon)
    first, last = (relative_payoff(worth, Fraction(q)) for q in (0, 1))
    if not 0 < first < last:
        raise NotApplicable("gamma does not rise from 0 to 1")
    return Fraction(1)


def over_all_sizes(case: platform.SharersCase) -> Fraction:
    """What sharing adds alone, less what it adds last, of U(N)."""
    worth = fractions(case.utility)
    return ((worth[1] - worth[0]) - (worth[-1] - worth[-2])) / worth[-1]


def smallest_share(case: platform.SharersCase) -> Fraction:
    """What can be kept at some q, less what is left at c / gamma_max, where nobody shares, of U(N)."""
    worth, cost = fractions(case.utility), fraction(case.cost)
    points = [Fraction(k, 20) for k in range(21)]
    payoff = [relative_payoff(worth, q) for q in points]
    if max(payoff) != payoff[0]:
        raise NotApplicable("gamma is not largest where nobody shares")
    left = (1 - cost / payoff[0]) * worth[0]
    best, at = max((kept(worth, cost, q), q) for q, g in zip(points, payoff, strict=True) if g >= cost)
    # Closer to the top. No payment share is above 1: where it would be, less than nothing is kept.
    nearby = (at + Fraction(k, 160) for k in range(-8, 9))
    best = max(best, *(kept(worth, cost, q) for q in nearby if 0 <= q <= 1))
    return (best - left) / worth[-1]


def threshold_as_printed(case: platform.LevelsCase) -> Fraction:
    """Whether (22) so read gives 0, though all sharing is best at low costs.

    At alpha = 0 nobody shares, and it asks for 1 - c / gamma(1) >= 1. Without costs all sharing is best if
    utility rises in the sharers, and so it is at low ones.
    """
    n, worth, theta = case.n_users, fraction(case.worth), fraction(case.theta)

    def utility(private: int, sharing: int) -> Fraction:
        x = worth * private + sharing
        return (1 + theta / n) * x / (x + theta)

    rises = all(utility(n - k, k) < utility(n - k - 1, k + 1) for k in range(n))
    last = total(utility(0, s + 1) - utility(1, s) for s in range(n)) / n
    return Fraction(rises and last > 0 and utility(n, 0) > 0)


def one_selection(case: CostCase) -> Fraction:
    """The best of all equilibria of the paper's two users, less the best symmetric one."""
    cost = fraction(case.cost)
    return best_of_two(Fraction(2, 3), Fraction(1), (cost, cost)) - kept_of_two(cost)


def most_of_the_utility(case: CostCase) -> Fraction:
    """Half of what both have, less what the platform keeps, if both share."""
    cost = fraction(case.cost)
    best = kept_of_two(cost)
    if best != kept((Fraction(0), Fraction(2, 3), Fraction(1)), cost, Fraction(1)):
        raise NotApplicable("not everybody shares")
    return Fraction(1, 2) - best


def pure_below_a_third(case: platform.PairCase) -> Fraction:
    """What the platform can have, less what pure equilibria leave."""
    one, both = fraction(case.one), fraction(case.both)
    costs = fractions((case.cost_1, case.cost_2))
    pure = max(Fraction(0), one - min(costs), both - 2 * max(costs))
    return best_of_two(one, both, costs) - pure


def second_bracket(case: platform.TableCase) -> Fraction:
    """(74) as printed, less (73) from what users are paid."""
    table = tuple(map(fractions, case.table))
    q, cost, share = fraction(case.probability), fraction(case.cost), Fraction(7, 10)
    private, sharing = expected_values(lambda a, b: table[a][b], case.n_users, q)
    mean = (1 - q) * private + q * sharing
    regret = max(cost * q - share * (mean - private), Fraction(0)) ** 2
    regret += max(share * (sharing - mean) - cost * (1 - q), Fraction(0)) ** 2
    printed = max(cost * q - share * (mean - private), Fraction(0)) ** 2
    printed += max(cost * q - share * (mean - sharing), Fraction(0)) ** 2
    return abs(printed - regret)


def difference_of_laws(case: LawCase) -> Fraction:
    """The lesser of the largest rise and the largest fall."""
    n, p, q = case.n_users, fraction(case.first), fraction(case.second)
    law = [chance(n, k, q) - chance(n, k, p) for k in range(n + 1)]
    moves = [b - a for a, b in pairwise(law)]
    return min(max(moves), -min(moves))
