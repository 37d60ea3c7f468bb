"""The axioms of fair value, Theorems 1 and 2 and Examples 1 and 2, as claims, with their errata.

The second roads are definitions: orders of joining, term by term sums, and linear programs of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice, permutations, product
from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog

from mechopt.formulations.fair_value.claims import exact_gaps as exactly
from mechopt.formulations.fair_value.claims.roads import LEDGER
from mechopt.formulations.fair_value.shapley.families import (
    GroupCase,
    LevelCase,
    PairCase,
    Rng,
    SumCase,
    TableCase,
    grouped,
    pairs,
    profiles,
    sums,
    tables,
)
from mechopt.formulations.fair_value.shapley.model import FairValue
from mechopt.formulations.fair_value.shapley.program import Sense
from mechopt.verification.claim import Finding, Verdict
from mechopt.verification.evidence import confirm, largest, row

Array = NDArray[np.float64]

_ROUNDING = 1e-11
"""Sums of up to 2^5 terms, and averages of up to 6! orders, of numbers of order one."""
_SOLVER = 1e-6
"""What linear programs are solved to."""


# ------------------------------------------------------------ second roads


def orders(table: ArrayLike) -> Array:
    """Average what each player adds over all orders of joining."""
    worth = np.asarray(table, dtype=float)
    n = worth.size.bit_length() - 1
    added = []
    for order in permutations(range(n)):
        mask, one = 0, np.zeros(n)
        for player in order:
            one[player] = worth[mask | 1 << player] - worth[mask]
            mask |= 1 << player
        added.append(one)
    return np.asarray(np.mean(added, axis=0))


def printed(table: ArrayLike, include_platform: bool) -> Array:
    """(12) with all paid out, or (6) and then (5), term by term."""
    worth = np.asarray(table, dtype=float)
    n = worth.size.bit_length() - 1
    value = np.zeros(n + int(include_platform))
    for mask in range(worth.size):
        size = mask.bit_count()
        for i in range(n):
            if not mask >> i & 1:
                weight = (n + 1) * comb(n, size + 1) if include_platform else n * comb(n - 1, size)
                value[i] += (worth[mask | 1 << i] - worth[mask]) / weight
        if include_platform:
            value[n] += worth[mask] / comb(n, size) / (n + 1)
    return value


def veto(table: ArrayLike) -> Array:
    """Add the platform as the last player, without which nothing is worth anything."""
    worth = np.asarray(table, dtype=float)
    return np.concatenate([np.zeros(worth.size), worth])


def axioms_broken(table: ArrayLike, values: Array) -> float:
    """By how much values break fairness (A.i, B.i): users alike differ, or one that adds nothing gets."""
    worth = np.asarray(table, dtype=float)
    n = worth.size.bit_length() - 1
    worst = 0.0
    for i in range(n):
        without = [mask for mask in range(worth.size) if not mask >> i & 1]
        if all(worth[mask | 1 << i] == worth[mask] for mask in without):
            worst = max(worst, abs(float(values[i])))
        for j in range(i):
            others = [mask for mask in without if not mask >> j & 1]
            if all(worth[mask | 1 << i] == worth[mask | 1 << j] for mask in others):
                worst = max(worst, abs(float(values[i] - values[j])))
    return worst


def _size(table: ArrayLike) -> float:
    return largest(table) or 1.0


# ------------------------------------------------------------ Theorem 1


@LEDGER.claim(
    "fair-value/R3",
    source="Theorem 1, (5), (6)",
    statement="(5) and (6) are the Shapley value of the game in which the platform has a veto; they are fair "
    "and sum to U, even if nobody's data are worth something",
    instances=tables(5, nobody=True),
    tolerance=_ROUNDING,
    n_instances=60,
)
def platform_as_member(case: TableCase) -> Finding:
    """Compare the computed values with orders of joining of the veto game and with the sums as printed."""
    division = case.fair(include_platform=True).solve()
    values = np.append(division.user_values, division.platform_value)
    gap = max(
        largest(values - orders(veto(case.table))),
        largest(values - printed(case.table, include_platform=True)),
        abs(float(values.sum()) - case.table[-1]),
        axioms_broken(case.table, values),
    )
    return Finding(gap / _size(case.table), f"values {row(values)}")


@LEDGER.claim(
    "fair-value/R3-axioms",
    source="Theorem 1, A.i-A.iii with fairness between users and platform",
    statement="The axioms, with fairness between users and the platform too, have one solution, (5) and (6)",
    instances=tables(3, nobody=True),
    tolerance=_SOLVER,
    n_instances=8,
)
def platform_axioms_determine(case: TableCase) -> Finding:
    """Compare the least and the most of each value, by linear programs, with the sums as printed."""
    found = case.fair(include_platform=True).axioms_range()
    expected = printed(case.table, include_platform=True)
    return Finding(
        largest(found - expected[:, None]) / _size(case.table),
        f"least {row(found[:, 0])}, most {row(found[:, 1])}, (6) and (5) {row(expected)}",
    )


@LEDGER.claim(
    "fair-value/E3",
    source="Theorem 1, axioms A.i-A.iii",
    statement="The axioms A.i-A.iii, as printed, determine the platform's value",
    instances=tables(3),
    tolerance=1e-3,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/R3-axioms",
    n_instances=8,
    confirm_exactly=exactly.platform_axioms,
)
def printed_platform_axioms_determine(case: TableCase) -> Finding:
    """Find the least and the most of the platform's value in [0, U]; confirm that any share there will do."""
    fair, total = case.fair(include_platform=True), case.table[-1]
    ends = []
    senses: tuple[Sense, ...] = ("minimize", "maximize")
    for sense in senses:
        program = fair.axioms_program("platform", sense, platform_symmetry=False)
        kept = program["fair_values"][-1]
        ends.append(program.add("shares", kept >= 0, kept <= total).solve().objective)
    other = np.roll(case.table, 1) * (np.arange(len(case.table)) > 0)
    for share in (0.0, 0.5, 1.0):
        broken = 0.0
        divided = []
        for table in (np.array(case.table), other, case.table + other):
            users = share * orders(table)
            divided.append(np.append(users, (1 - share) * table[-1]))
            broken = max(broken, axioms_broken(table, users), abs(divided[-1].sum() - table[-1]))
        broken = max(broken, largest(divided[2] - divided[0] - divided[1]))
        confirm(
            broken <= 1e-9, f"paying users the share {share:g} meets all axioms, on two games and their sum"
        )
    return Finding(
        (ends[1] - ends[0]) / total,
        f"the platform's value can be anything from {round(ends[0], 6) + 0.0:.4g} to {ends[1]:.4g}: (12) "
        "with any alpha for the users and (1 - alpha) U for the platform meets A.i-A.iii; (5) is "
        f"{printed(case.table, include_platform=True)[-1]:.4g}",
    )


# ------------------------------------------------------------ Theorem 2


@LEDGER.claim(
    "fair-value/R4",
    source="Theorem 2, (12)",
    statement="With U(0) = 0 and one alpha, (12) is alpha times the Shapley value; it is fair and sums to "
    "alpha U",
    instances=tables(6),
    tolerance=_ROUNDING,
    n_instances=40,
)
def users_alone(case: TableCase) -> Finding:
    """Compare the computed values with orders of joining, and with the sum as printed."""
    values = case.fair().solve().user_values
    gap = max(
        largest(values - case.share * orders(case.table)),
        largest(values - case.share * printed(case.table, include_platform=False)),
        abs(float(values.sum()) - case.share * case.table[-1]),
        axioms_broken(case.table, values),
    )
    return Finding(gap / _size(case.table), f"values {row(values)}")


@LEDGER.claim(
    "fair-value/R4-axioms",
    source="Theorem 2, B.i-B.iii",
    statement="For one alpha, the axioms B.i-B.iii have one solution, (12)",
    instances=tables(4),
    tolerance=_SOLVER,
    n_instances=8,
)
def user_axioms_determine(case: TableCase) -> Finding:
    """Compare the least and the most of each value, by linear programs, with the sum as printed."""
    found = case.fair().axioms_range()
    expected = case.share * printed(case.table, include_platform=False)
    return Finding(
        largest(found - expected[:, None]) / _size(case.table),
        f"least {row(found[:, 0])}, most {row(found[:, 1])}, (12) {row(expected)}",
    )


@LEDGER.claim(
    "fair-value/R4-groups",
    source="(5), (6), (12) for users in groups",
    statement="Counting members by group and integrating over the chance of being a member agree",
    instances=grouped,
    tolerance=1e-11,
    n_instances=12,
)
def counting_is_integration(case: GroupCase) -> Finding:
    """Compare both with each other, relative to each value, and with all coalitions where there are few."""
    gap, told = 0.0, ""
    for include_platform in (False, True):
        fair = case.fair(include_platform)
        counted, integrated = fair.solve("groups"), fair.solve("owen")
        gap = max(gap, largest(integrated.group_values / counted.group_values - 1))
        gap = max(gap, abs(integrated.platform_value - counted.platform_value), counted.efficiency_residual)
        told = f"counted {row(counted.group_values)}, integrated {row(integrated.group_values)}"
        if sum(case.sizes) <= 12:
            visited = fair.solve("subsets").group_values
            gap = max(gap, largest(visited / counted.group_values - 1))
    return Finding(gap, told)


# ------------------------------------------------------------ Examples 1 and 2


@LEDGER.claim(
    "fair-value/R5",
    source="Example 1, (10), (11)",
    statement="Two users alike: the platform has [[0, U1/2], [U1/2, (U1+U2)/3]], user 1 has [[0, 0], [U1/2, "
    "U2/3-U1/6]] and user 2 the transpose; in the example [[0, 1/3], [1/3, 5/9]] and [[0, 0], [1/3, 2/9]]",
    instances=pairs,
    tolerance=_ROUNDING,
    n_instances=40,
)
def first_example(case: PairCase) -> Finding:
    """Compare the values at all four profiles; for the paper's utility with its numbers, too."""
    platform, first, second = case.values(include_platform=True)
    one, both = case.one, case.both
    user = np.array([[0, 0], [one / 2, both / 3 - one / 6]])
    gap = max(
        largest(platform - [[0, one / 2], [one / 2, (one + both) / 3]]),
        largest(first - user),
        largest(second - user.T),
    )
    if (one, both) == (2 / 3, 1.0):
        gap = max(
            gap, largest(platform - [[0, 1 / 3], [1 / 3, 5 / 9]]), largest(first - [[0, 0], [1 / 3, 2 / 9]])
        )
    return Finding(gap, f"user 1: {first.tolist()}")


@LEDGER.claim(
    "fair-value/R6",
    source="Example 2, (13)",
    statement="Among two users alike, user 1 has A * [[0, 0], [U1, U2/2]] and user 2 the transpose, where A "
    "is a function of the utility; in the example [[0, 0], [2/3, 1/2]]",
    instances=pairs,
    tolerance=_ROUNDING,
    n_instances=40,
)
def second_example(case: PairCase) -> Finding:
    """Compare the values at all four profiles."""
    _, first, second = case.values(include_platform=False)
    user = case.share * np.array([[0, 0], [case.one, case.both / 2]])
    return Finding(max(largest(first - user), largest(second - user.T)), f"user 1: {first.tolist()}")


def _pays_the_absent(case: PairCase, first: Array, wrong: Array, include_platform: bool) -> Finding:
    """Finding on a matrix that pays user 1 where only user 2 shares; confirm that it must get nothing."""
    table = [case.utility(np.array([0.0, level])) for level in (0.0, np.inf)]
    only_second = np.array([table[0], table[0], table[1], table[1]])  # user 1's level is 0: it adds nothing
    value = orders(veto(only_second) if include_platform else only_second)
    confirm(
        value[0] == 0 and value[1] > 0,
        f"user 1 adds nothing, and over all orders of joining values are {row(value)}",
    )
    confirm(abs(first[0, 1]) <= 1e-12, "the mechanism's value of user 1 is 0")
    return Finding(
        largest(wrong - first) / case.one,
        f"where only user 2 shares, user 1 is to get {wrong[0, 1]:.4g} for adding nothing; the matrices of "
        f"the users are interchanged: user 1 has {np.round(first, 4).tolist()}",
    )


@LEDGER.claim(
    "fair-value/E2",
    source="(11)",
    statement="As printed, user 1 has [[0, U1/2], [0, U2/3-U1/6]], with rows for its own choice",
    instances=pairs,
    tolerance=1e-3,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/R5",
    n_instances=20,
    confirm_exactly=exactly.printed_first_example,
)
def printed_first_example(case: PairCase) -> Finding:
    """Compare with the values; rows are user 1's choice as in (36)."""
    wrong = np.array([[0, case.one / 2], [0, case.both / 3 - case.one / 6]])
    return _pays_the_absent(case, case.values(include_platform=True)[1], wrong, include_platform=True)


@LEDGER.claim(
    "fair-value/E2-shares",
    source="(13)",
    statement="As printed, user 1 has A * [[0, U1], [0, U2/2]], with rows for its own choice",
    instances=pairs,
    tolerance=1e-3,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/R6",
    n_instances=20,
    confirm_exactly=exactly.printed_second_example,
)
def printed_second_example(case: PairCase) -> Finding:
    """Compare with the values; rows are user 1's choice as in (23)."""
    wrong = case.share * np.array([[0, case.one], [0, case.both / 2]])
    return _pays_the_absent(case, case.values(include_platform=False)[1], wrong, include_platform=False)


# ------------------------------------------------------------ the proof of Theorem 2


@LEDGER.claim(
    "fair-value/E4",
    source="Theorem 2, (46)",
    statement="For every utility, (12) sums to alpha U",
    instances=tables(4, nobody=True),
    tolerance=1e-3,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/E4-corrected",
    n_instances=20,
    confirm_exactly=exactly.sums_to_share,
)
def sums_to_share(case: TableCase) -> Finding:
    """Sum (12) term by term; confirm by orders of joining that U(0) is missing."""
    total = case.share * float(printed(case.table, include_platform=False).sum())
    telescoped = case.share * float(orders(case.table).sum())
    missing = case.share * case.table[0]
    confirm(
        abs(telescoped + missing - case.share * case.table[-1]) <= 1e-12 * _size(case.table),
        f"over all orders of joining the sum is alpha (U - U(0)), {telescoped:.6g}",
    )
    wanted = case.share * case.table[-1]
    return Finding(
        abs(total - wanted) / _size(case.table),
        f"U(0) = {case.table[0]:g}: (12) sums to {total:.6g}, alpha U = {wanted:.6g}",
    )


@LEDGER.claim(
    "fair-value/E4-corrected",
    source="Theorem 2, (46)",
    statement="For every utility, (12) sums to alpha (U - U(0)), as do the values of the utility less U(0)",
    instances=tables(5, nobody=True),
    tolerance=_ROUNDING,
    n_instances=40,
)
def sums_to_share_of_gain(case: TableCase) -> Finding:
    """Sum (12) term by term, and the values that are computed once U(0) is subtracted."""
    gain = np.array(case.table) - case.table[0]
    computed = FairValue(gain, payment_share=case.share).solve().user_values
    term_by_term = case.share * printed(case.table, include_platform=False)
    gap = max(largest(computed - term_by_term), abs(float(computed.sum()) - case.share * float(gain[-1])))
    return Finding(gap / _size(case.table), f"values {row(computed)}")


@LEDGER.claim(
    "fair-value/E4-basis",
    source="proof of Theorem 2, (47)",
    statement="The unanimity utilities U_T, which tell whether all of T share, are a basis of all utilities",
    instances=profiles,
    tolerance=1e-3,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/E4-basis-corrected",
    n_instances=8,
    confirm_exactly=exactly.unanimity_is_a_basis,
)
def unanimity_is_a_basis(case: LevelCase) -> Finding:
    """Fit a utility of three levels by them; confirm that they do not see a user's level change."""
    n = len(case.levels)
    scale = sorted({0.0, case.levels[0], case.levels[1]})
    space = np.array(list(product(scale, repeat=n)))
    masks = (space > 0) @ (1 << np.arange(n))
    unanimity = np.array([(masks & t) == t for t in range(2**n)], dtype=float).T
    utility = np.array([case.utility(levels) for levels in space])
    fitted = unanimity @ np.linalg.lstsq(unanimity, utility, rcond=None)[0]
    low, high = np.full(n, scale[1]), np.full(n, scale[2])
    rows = [int(np.flatnonzero((space == levels).all(axis=1))[0]) for levels in (low, high)]
    confirm(np.array_equal(*unanimity[rows]), "they are the same whether all share at one level or another")
    confirm(utility[rows[1]] > utility[rows[0]], "the utility is larger at the higher level")
    return Finding(
        largest(utility - fitted) / largest(utility),
        f"{2**n} functions for {len(space)} profiles; all at {low[0]:g} or all at {high[0]:g} is the same "
        f"to them, while U is {utility[rows[0]]:.4g} or {utility[rows[1]]:.4g}",
    )


@LEDGER.claim(
    "fair-value/E4-basis-corrected",
    source="proof of Theorem 2, (47), (48)",
    statement="At given levels, the unanimity games are a basis of coalition games; members of T have "
    "alpha / |T|",
    instances=tables(5),
    tolerance=_ROUNDING,
    n_instances=30,
)
def unanimity_is_a_basis_at_given_levels(case: TableCase) -> Finding:
    """Solve for the coefficients, and put the value together from alpha / |T| for each."""
    n, masks = case.n_users, np.arange(len(case.table))
    unanimity = ((masks[:, None] & masks) == masks).astype(float)
    coefficient = np.linalg.solve(unanimity, case.table)
    value = np.zeros(n)
    for mask in masks[1:]:
        members = [i for i in range(n) if mask >> i & 1]
        value[members] += case.share * coefficient[mask] / len(members)
    computed = case.fair().solve().user_values
    return Finding(largest(value - computed) / _size(case.table), f"{row(value)} and {row(computed)}")


# ------------------------------------------------------------ the share alpha


def _share_of(utility: float) -> float:
    """A share that depends on the utility alone, as B.ii allows."""
    return utility / (1 + utility)


@LEDGER.claim(
    "fair-value/E5",
    source="Theorem 2, axioms B.ii and B.iii",
    statement="With a share alpha(U) that depends on the utility, as B.ii allows, values can be additive",
    instances=sums,
    tolerance=1e-3,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/E5-corrected",
    n_instances=20,
    confirm_exactly=exactly.shares_may_depend_on_utility,
)
def shares_may_depend_on_utility(case: SumCase) -> Finding:
    """Take alpha(u) = u / (1 + u); confirm that pseudo-efficiency and additivity have no common solution."""
    first, second = np.array(case.first), np.array(case.second)
    games = (first, second, first + second)
    values = [_share_of(game[-1]) * orders(game) for game in games]
    n = values[0].size
    efficiency = np.kron(np.eye(3), np.ones(n))
    additivity = np.hstack([np.eye(n), np.eye(n), -np.eye(n)])
    paid = [_share_of(game[-1]) * game[-1] for game in games]
    found = linprog(
        np.zeros(3 * n),
        A_eq=np.vstack([efficiency, additivity]),
        b_eq=np.concatenate([paid, np.zeros(n)]),
        bounds=(None, None),
    )
    confirm(found.status == 2, "as a linear program B.ii and B.iii have no common solution")
    gap = abs(values[2].sum() - values[0].sum() - values[1].sum()) / games[2][-1]
    return Finding(
        float(gap),
        f"alpha(u) = u / (1 + u): users get {paid[0]:.4g} of U and {paid[1]:.4g} of V, but {paid[2]:.4g} of "
        "U + V",
    )


@LEDGER.claim(
    "fair-value/E5-corrected",
    source="Theorem 2, axioms B.ii and B.iii",
    statement="With one alpha for U, V and U + V, the values (12) are additive",
    instances=sums,
    tolerance=_ROUNDING,
    n_instances=40,
)
def one_share_is_additive(case: SumCase) -> Finding:
    """Add the computed values; compare those of the sum with orders of joining."""
    first, second = np.array(case.first), np.array(case.second)
    one, two, both = (
        FairValue(game, payment_share=case.share).solve().user_values
        for game in (first, second, first + second)
    )
    gap = max(largest(one + two - both), largest(both - case.share * orders(first + second)))
    return Finding(gap / _size(first + second), f"{row(one)} + {row(two)} and {row(both)}")


def _partly_paid(rng: Rng, n: int) -> Iterator[PairCase]:
    """Pairs of users who are paid a part of the utility."""
    return islice((case for case in pairs(rng, 2 * n + 2) if case.share < 1), n)


@LEDGER.claim(
    "fair-value/E9",
    source="(18) with (12)",
    statement="The payments alpha phi of (18), with phi from (12), sum to alpha U",
    instances=_partly_paid,
    tolerance=1e-3,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/E9-corrected",
    n_instances=20,
    confirm_exactly=exactly.share_is_taken_once,
)
def share_is_taken_once(case: PairCase) -> Finding:
    """Multiply (12) by alpha; confirm by orders of joining that this is alpha squared."""
    share, table = case.share, [0.0, case.one, case.one, case.both]
    if share == 1:
        return Finding(0.0, applies=False)
    paid = share * float(FairValue(table, payment_share=share).solve().user_values.sum())
    twice = share**2 * float(orders(table).sum())
    confirm(abs(paid - twice) <= 1e-12, f"over all orders of joining alpha^2 of the values is {twice:.6g}")
    return Finding(
        abs(paid - share * case.both) / case.both,
        f"alpha = {share:g} is in (12) already: payments of {paid:.4g}, alpha U = {share * case.both:.4g}",
    )


@LEDGER.claim(
    "fair-value/E9-corrected",
    source="(18), (21), (76)",
    statement="The payments alpha phi of (18), with phi the values when all is paid out, sum to alpha U",
    instances=pairs,
    tolerance=_ROUNDING,
    n_instances=40,
)
def share_of_undiminished_values(case: PairCase) -> Finding:
    """Multiply the values at alpha = 1; compare them with the mechanism that pays the share alpha."""
    table = [0.0, case.one, case.one, case.both]
    paid = case.share * FairValue(table).solve().user_values
    mechanism = FairValue(table, payment_share=case.share).solve()
    gap = max(abs(float(paid.sum()) - case.share * case.both), largest(paid - mechanism.user_values))
    gap = max(gap, abs(mechanism.platform_value - (1 - case.share) * case.both))
    return Finding(gap / case.both, f"{row(paid)} and {row(mechanism.user_values)}")


@LEDGER.claim(
    "fair-value/E9-contribution",
    source="Section 5, equal marginal contribution",
    statement="In games of exchangeable users, U(eps with S and i) = U(eps with S and j) for all users i, j "
    "at every profile eps",
    instances=profiles,
    tolerance=1e-3,
    expected=Verdict.REFUTED,
    corrected_by="fair-value/E9-contribution-corrected",
    n_instances=12,
    confirm_exactly=exactly.contributions_are_equal,
)
def contributions_are_equal(case: LevelCase) -> Finding:
    """Look for the largest difference at the profile; confirm that the users' values differ too."""
    levels, n = np.array(case.levels), len(case.levels)
    worst, where = 0.0, ""
    for i, j in combinations(range(n), 2):
        others = [k for k in range(n) if k not in (i, j)]
        for choice in product((0.0, 1.0), repeat=len(others)):
            apart = []
            for user in (i, j):
                present = np.zeros(n)
                present[others], present[user] = choice, 1.0
                apart.append(case.utility(levels * present))
            if abs(apart[0] - apart[1]) > worst:
                worst, where = (
                    abs(apart[0] - apart[1]),
                    f"{apart[0]:.4g} with user {i}, {apart[1]:.4g} with user {j}",
                )
    table = [case.utility(levels * (mask >> np.arange(n) & 1)) for mask in range(2**n)]
    value = orders(table)
    confirm(
        value.max() - value.min() > 1e-3 * case.utility(levels),
        f"over all orders of joining the values are {row(value)}",
    )
    return Finding(
        worst / case.utility(levels),
        f"levels {row(levels)}: U is {where}; were it the same, choosing a level would not change a value, "
        "and gamma would be 0",
    )


@LEDGER.claim(
    "fair-value/E9-contribution-corrected",
    source="Section 5, equal marginal contribution",
    statement="If U does not change when users are renamed, neither do values: that of a user depends on its "
    "level and on those of the others, in any order",
    instances=profiles,
    tolerance=_ROUNDING,
    n_instances=30,
)
def values_of_exchangeable_users(case: LevelCase) -> Finding:
    """Rename the users, last first and by one place; compare the values with orders of joining too."""
    levels, n = np.array(case.levels), len(case.levels)
    value = FairValue(case.utility, privacy_levels=levels).solve().user_values
    table = [case.utility(levels * (mask >> np.arange(n) & 1)) for mask in range(2**n)]
    gap = largest(value - orders(table))
    for renamed in (np.arange(n)[::-1], np.roll(np.arange(n), 1)):
        other = FairValue(case.utility, privacy_levels=levels[renamed]).solve().user_values
        gap = max(gap, largest(other - value[renamed]))
    return Finding(gap, f"values {row(value)}")
