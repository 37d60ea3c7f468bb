"""Sections V and VI of the paper, corrected: joining, its equilibria, and what they are worth."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from mechopt.formulations.data_externality import duopoly
from mechopt.formulations.data_externality.claims.duopoly_cases import (
    SUPPRESSED,
    UNLIKE_COMPANY,
    ByDefinition,
    JoiningCase,
    Rng,
    bought_high,
    divided,
    drawn,
    equicorrelated,
    example_1,
    isolated_high,
    joining_cases,
    leaking_high,
    with_high_values,
)
from mechopt.formulations.data_externality.claims.roads import LEDGER
from mechopt.verification.claim import Finding
from mechopt.verification.evidence import largest, row

SPILLOVERS = (0.3, 0.8, 1.0)

# ------------------------------------------------------------ joining


@LEDGER.claim(
    "data-externality/R11",
    source="Lemma 1",
    statement="If services alone are worth more than all that can leak, nobody gains by joining no platform",
    instances=joining_cases(2, 3, 4, spillovers=(0.0, 0.5, 1.0)),
    tolerance=0.0,
    n_instances=30,
)
def everybody_joins(case: JoiningCase) -> Finding:
    """Let each user of each profile leave."""
    game = case.model.duopoly()
    gains = []
    for joining in product((1, 2), repeat=case.n_users):
        now = game.payoffs(joining)
        for user in range(case.n_users):
            gains.append(game.payoffs((*joining[:user], 0, *joining[user + 1 :]))[user] - now[user])
    return Finding(max(gains) / case.scale, f"most gained by leaving: {max(gains):.6g}")


@LEDGER.claim(
    "data-externality/R12",
    source="Definition 1",
    statement="Pure joining equilibria are the same from tables, from single profiles, and by the definition",
    instances=joining_cases(2, 3, 4, spillovers=(0.0, 0.5), worked=(example_1(), UNLIKE_COMPANY)),
    tolerance=0.0,
    n_instances=30,
)
def equilibria_by_three_roads(case: JoiningCase) -> Finding:
    """Count the profiles, user 0 on platform 1, on which the roads disagree."""
    game = case.model.duopoly()
    by_tables = {tuple(found.tolist()) for found in game.pure_equilibria}
    by_definition = {joining for joining in ByDefinition(case).equilibria() if joining[0] == 1}
    profiles = [(1, *rest) for rest in product((1, 2), repeat=case.n_users - 1)]
    by_profile = {joining for joining in profiles if game.is_equilibrium(joining)}
    wrong = (by_tables ^ by_definition) | (by_tables ^ by_profile)
    return Finding(len(wrong), f"the roads disagree on {sorted(wrong)}")


def _repaired(rng: Rng, n: int) -> Iterator[JoiningCase]:
    yield from (example_1(0.2, 0.15), example_1(0.15, 0.1))[:n]
    for _ in range(n - 2):
        yield example_1(0.2, 0.15, float(np.round(rng.uniform(1.05, 1.15), 3)))


@LEDGER.claim(
    "data-externality/R12-example",
    source="Example 1, repaired",
    statement="With covariances .2 and .15 of user 3 with users 1 and 2 there is no pure joining equilibrium",
    instances=_repaired,
    tolerance=0.0,
    n_instances=6,
)
def repaired_example_has_none(case: JoiningCase) -> Finding:
    """Count equilibria, by tables and by the definition."""
    found = len(case.model.duopoly().pure_equilibria) + len(ByDefinition(case).equilibria())
    return Finding(found, f"{found} pure equilibria")


@LEDGER.claim(
    "data-externality/R13",
    source="Theorem 2, implications, made precise",
    statement="If all users have low values and services do not depend on who joins, the sum of log "
    "determinants of data is an ordinal potential, and its local maxima are the pure equilibria",
    instances=joining_cases(
        2, 3, 4, most=1.0, network=False, spillovers=(0.0, 0.6), worked=(equicorrelated(0.8, (0.9, 0.9)),)
    ),
    tolerance=1e-10,
    n_instances=30,
)
def low_values_have_a_potential(case: JoiningCase) -> Finding:
    """Compare signs of all moves by the definition; then look at local maxima and at where moves end."""
    game, exact = case.model.duopoly(), ByDefinition(case)
    worst, maxima = 0.0, set()
    for joining in exact.profiles():
        rises = []
        for user in range(case.n_users):
            moved = (*joining[:user], 3 - joining[user], *joining[user + 1 :])
            gain = exact.gain(joining, user, moved[user])
            rise = game.potential(moved) - game.potential(joining)
            rises.append(rise)
            # Of opposite signs, the smaller of the two is by how much they are.
            if gain * rise < 0:
                worst = max(worst, min(abs(gain) / case.scale, abs(rise)))
        if max(rises) <= 1e-9 and joining[0] == 1:
            maxima.add(joining)
    equilibria = {tuple(found.tolist()) for found in game.pure_equilibria}
    end = game.find_equilibrium()
    ends = end is not None and exact.best_gain(tuple(end.tolist())) <= 1e-9
    wrong = len(maxima ^ equilibria) + (not equilibria) + (not ends)
    return Finding(
        worst + wrong, f"maxima {sorted(maxima)}, equilibria {sorted(equilibria)}, moves end at {end}"
    )


@LEDGER.claim(
    "data-externality/R14",
    source="Theorem 2",
    statement="If the others join platforms at random, all alike, a user is indifferent between platforms",
    instances=joining_cases(2, 3, 4, worked=(example_1(), UNLIKE_COMPANY)),
    tolerance=1e-11,
    n_instances=30,
)
def mixing_makes_indifferent(case: JoiningCase) -> Finding:
    """Take means of payoffs by the definition, and compare them with those from tables."""
    exact = ByDefinition(case)
    means = np.array(
        [
            [
                np.mean([exact.payoff(b, user) for b in exact.profiles() if b[user] == platform])
                for platform in (1, 2)
            ]
            for user in range(case.n_users)
        ]
    )
    gap = largest(means[:, 0] - means[:, 1]) + largest(means - case.model.duopoly().mixed_payoffs())
    return Finding(gap / case.scale, f"on platform 1 {row(means[:, 0])}, on platform 2 {row(means[:, 1])}")


# ------------------------------------------------------------ surplus


@LEDGER.claim(
    "data-externality/R15",
    source="Section V.B, social surplus",
    statement="The mixed equilibrium's surplus is 2^(1-n) times the sum over all sets of what a platform "
    "that they join adds, with services and without",
    instances=joining_cases(2, 3, 4, spillovers=(0.0, 0.5), worked=(example_1(), SUPPRESSED)),
    tolerance=1e-11,
    n_instances=30,
)
def mixed_surplus_by_sets(case: JoiningCase) -> Finding:
    """Compare with the mean over all joining profiles."""
    game, exact = case.model.duopoly(), ByDefinition(case)
    by_sets = game.mixed_data_surplus, game.mixed_social_surplus
    by_profiles = exact.mixed_surplus(services=False), exact.mixed_surplus()
    gap = largest(np.subtract(by_sets, by_profiles)) / case.scale
    return Finding(gap, f"by sets {row(by_sets)}, by profiles {row(by_profiles)}")


@LEDGER.claim(
    "data-externality/R15-many",
    source="Theorems 2 and 4, for K platforms",
    statement="With K platforms uniform mixing is an equilibrium, of surplus K^(1-n) times the sum of "
    "(K - 1)^(n - |J|) W(J), not above the bound in which users are in R with probability 1/K",
    instances=joining_cases(2, 3, spillovers=(0.0, 0.5), worked=(SUPPRESSED,)),
    tolerance=1e-11,
    n_instances=20,
)
def many_platforms(case: JoiningCase) -> Finding:
    """Compare with means over all profiles of three and four platforms."""
    gaps = []
    for n_platforms in (3, 4):
        game, exact = case.model.duopoly(n_platforms), ByDefinition(case, n_platforms)
        mixed, payoffs = exact.mixed_surplus(), game.mixed_payoffs()
        user = case.n_users - 1
        mean = np.mean([exact.payoff(b, user) for b in exact.profiles() if b[user] == n_platforms])
        gaps.append(abs(game.mixed_social_surplus - mixed))
        gaps.append(largest(payoffs - payoffs[:, :1]) + abs(payoffs[user, -1] - mean))
        gaps.append(mixed - duopoly.surplus_bound(case.model, n_platforms))
    return Finding(max(gaps) / case.scale, f"largest gap {max(gaps):.3g}")


@LEDGER.claim(
    "data-externality/R15-positive",
    source="Theorem 4, with services",
    statement="With services worth more than all that can leak, every joining profile has a positive social "
    "surplus: only that of data can be negative",
    instances=joining_cases(2, 3, 4, most=5.0, worked=(divided(400.0),)),
    tolerance=0.0,
    n_instances=30,
)
def social_surplus_is_positive(case: JoiningCase) -> Finding:
    """Find the profile of least social surplus."""
    exact = ByDefinition(case)
    least = min(map(exact.surplus, exact.profiles()))
    return Finding(-least / case.scale, f"least social surplus {least:.6g}")


@LEDGER.claim(
    "data-externality/R15-competition",
    source="Example 2",
    statement="Two users, correlation .5, v_1 = .5: two platforms have a higher data surplus than one if "
    "v_2 is above the value to which one buys from both (3, say), and a lower one if v_2 < 1",
    instances=lambda rng, n: (
        equicorrelated(0.5, (0.5, float(value)))
        for value in [
            3.0,
            0.8,
            *np.round(rng.uniform(1.2, 5, n), 3),
            *np.round(rng.uniform(0.1, 0.99, n), 3),
        ][:n]
    ),
    tolerance=0.0,
    n_instances=20,
)
def competition_raises_or_lowers_surplus(case: JoiningCase) -> Finding:
    """Compare the equilibrium in which users are apart, and the mixed one, with one platform."""
    game, exact = case.model.duopoly(), ByDefinition(case)
    one, apart, mixed = exact.surplus((1, 1)), exact.surplus((1, 2)), game.mixed_data_surplus
    sign = 1 if case.value[1] > 1 else -1
    falls_short = max(sign * (one - apart), sign * (one - mixed), exact.best_gain((1, 2)))
    return Finding(falls_short, f"one platform {one:.6g}, apart {apart:.6g}, mixed {mixed:.6g}")


@LEDGER.claim(
    "data-externality/R16",
    source="Section V.B, efficiency",
    statement="The first best by sets is that of all joining and sharing profiles, and no equilibrium is "
    "better",
    instances=joining_cases(2, 3, spillovers=(0.0, 0.7), worked=(equicorrelated(0.5, (0.5, 20.0)),)),
    tolerance=1e-11,
    n_instances=30,
)
def first_best_by_trying(case: JoiningCase) -> Finding:
    """Try all, and compare."""
    exact, found, game = ByDefinition(case), case.model.first_best(), case.model.duopoly()
    best = exact.first_best()
    own = exact.surplus(tuple(found.joining.tolist()), frozenset(np.flatnonzero(found.sharing).tolist()))
    beaten = max([game.mixed_social_surplus, *map(game.social_surplus, game.pure_equilibria)]) - best
    gap = max(abs(found.social_surplus - best), abs(own - best), beaten)
    return Finding(gap / case.scale, f"by sets {found.social_surplus:.6g}, by trying {best:.6g}")


# ------------------------------------------------------------ efficiency


def _efficient(exact: ByDefinition, surplus: float) -> bool:
    return surplus >= exact.first_best() - 1e-9 * exact.case.scale


def _isolated(case: JoiningCase) -> Finding:
    """Compare the condition with a search among all equilibria."""
    told, exact = duopoly.efficiency(case.model), ByDefinition(case)
    if told.part != 1 or told.efficient is None:
        return Finding(0.0, applies=False)
    found = any(_efficient(exact, exact.surplus(joining)) for joining in exact.equilibria())
    return Finding(
        int(found is not told.efficient),
        f"{told.condition}; an efficient equilibrium {'exists' if found else 'does not exist'}",
    )


def _no_profile_is_efficient(case: JoiningCase, part: int) -> Finding:
    """Where no profile is said to be efficient, look for one."""
    told, exact = duopoly.efficiency(case.model), ByDefinition(case)
    if told.part != part or told.efficient is not False:
        return Finding(0.0, applies=False)
    best = max(map(exact.surplus, exact.profiles()))
    return Finding(
        int(_efficient(exact, best)),
        f"{told.condition}: thresholds {row(told.threshold)}; best profile {best:.6g}, first best "
        f"{exact.first_best():.6g}",
    )


@LEDGER.claim(
    "data-externality/R17-1",
    source="Theorem 3, part 1, for pure equilibria",
    statement="If high-value users are correlated with nobody, an efficient pure equilibrium exists exactly "
    "if c_i(V) - c_i({i}) >= v_i I_i(V^l - i) for all low-value users",
    instances=drawn(isolated_high),
    tolerance=0.0,
    n_instances=50,
)
def isolated_high_values(case: JoiningCase) -> Finding:
    """See `_isolated`."""
    return _isolated(case)


@LEDGER.claim(
    "data-externality/R17-mixed",
    source="Theorem 3, for the mixed equilibrium of Theorem 2",
    statement="With growing services the uniformly mixed equilibrium is inefficient: it divides users",
    instances=joining_cases(2, 3, network=True, spillovers=(0.0, 0.4)),
    tolerance=0.0,
    n_instances=20,
)
def mixed_equilibrium_is_inefficient(case: JoiningCase) -> Finding:
    """Compare with the first best by trying."""
    mixed, exact = case.model.duopoly().mixed_social_surplus, ByDefinition(case)
    return Finding(int(_efficient(exact, mixed)), f"mixed {mixed:.6g}, first best {exact.first_best():.6g}")


@LEDGER.claim(
    "data-externality/R17-2",
    source="Theorem 3, part 2, with thresholds",
    statement="If data bring low-value users less than dividing users costs, G < d, and a high-value user "
    "has v_i > 1 + G / I_i(V^l), no joining profile is efficient",
    instances=drawn(leaking_high),
    tolerance=0.0,
    n_instances=40,
)
def leaking_high_values(case: JoiningCase) -> Finding:
    """See `_no_profile_is_efficient`."""
    return _no_profile_is_efficient(case, 2)


@LEDGER.claim(
    "data-externality/R17-3",
    source="Theorem 3, part 3, with thresholds",
    statement="If high-value users are correlated with each other only, and some has v_i < 1 + sum of "
    "Sigma_ij^2 / Sigma_ii^2 over the others, no joining profile is efficient",
    instances=drawn(bought_high),
    tolerance=0.0,
    n_instances=30,
)
def high_values_bought(case: JoiningCase) -> Finding:
    """See `_no_profile_is_efficient`."""
    return _no_profile_is_efficient(case, 3)


def _bound_cases(*spillovers: float) -> object:
    def family(rng: Rng, n: int) -> Iterator[JoiningCase]:
        yield from with_high_values(rng, n // 2, spillovers, (SUPPRESSED,))
        yield from joining_cases(2, 3, 4, spillovers=spillovers)(rng, n - n // 2)

    return family


def _bounded(case: JoiningCase) -> Finding:
    exact = ByDefinition(case)
    bound, mixed = case.model.surplus_bound(), exact.mixed_surplus()
    return Finding((mixed - bound) / case.scale, f"mixed {mixed:.6g}, bound {bound:.6g}")


@LEDGER.claim(
    "data-externality/R18",
    source="Theorem 4, corrected",
    statement="The mixed surplus is at most sum c_i(V) + sum_l (1 - v_i) I_i(V) - sum_h (v_i - 1) E I_i(R), "
    "with R a random half of low-value users",
    instances=_bound_cases(0.0),
    tolerance=1e-11,
    n_instances=60,
)
def surplus_is_bounded(case: JoiningCase) -> Finding:
    """Compare with the mean over profiles."""
    return _bounded(case)


@LEDGER.claim(
    "data-externality/R18-half",
    source="Theorems 4 and 7, where they hold as printed but for services",
    statement="If types are MTP2, I_i(V^l) / 2 may replace the expectation in the bound of the data surplus",
    instances=joining_cases(2, 3, 4, most=4.0, network=False, spillovers=(0.0, 0.5, 1.0), positive=True),
    tolerance=1e-11,
    n_instances=60,
)
def printed_bound_of_submodular_leaks(case: JoiningCase) -> Finding:
    """Compare with the mean over profiles."""
    bound, mixed = duopoly.printed_surplus_bound(case.model), ByDefinition(case).mixed_surplus(services=False)
    return Finding((mixed - bound) / case.scale, f"mixed {mixed:.6g}, printed bound {bound:.6g}")


# ------------------------------------------------------------ spillover


@LEDGER.claim(
    "data-externality/R20",
    source="Theorem 5",
    statement="With spillover, prices have the same formula, payoffs are (6), and uniform mixing is an "
    "equilibrium",
    instances=joining_cases(2, 3, 4, spillovers=SPILLOVERS, worked=(divided(10.0, 0.1),)),
    tolerance=1e-10,
    n_instances=30,
)
def spillover_keeps_the_formulas(case: JoiningCase) -> Finding:
    """Compare sets, prices, payoffs and profits with the definitions; and payoffs of platforms if all mix."""
    game, exact = case.model.duopoly(), ByDefinition(case)
    gaps = []
    for joining in exact.profiles():
        parts = exact.parts(joining)
        for joined in parts:
            outcome, sharers = game.outcome(joined), exact.bought(joined)
            gaps.append(float(frozenset(np.flatnonzero(outcome.sharing).tolist()) != sharers))
            gaps.append(largest([outcome.price[i] - exact.price(sharers, i) for i in sharers]))
            gaps.append(abs(outcome.profit - exact.profit(joined, sharers)))
        # (6), word for word.
        by_formula = [_payoff_6(exact, parts, user) for user in range(case.n_users)]
        gaps.append(largest(game.payoffs(joining) - by_formula))
    mixed = game.mixed_payoffs()
    gaps.append(largest(mixed[:, 0] - mixed[:, 1]))
    return Finding(max(gaps) / case.scale, f"largest difference {max(gaps):.3g}")


def _payoff_6(exact: ByDefinition, parts: list[frozenset[int]], user: int) -> float:
    case = exact.case
    own, other = parts if user in parts[0] else parts[::-1]
    kept = case.value[user] * exact.leaked(exact.bought(own) - {user})[user]
    spilled = case.spillover * case.value[user] * exact.leaked(exact.bought(other))[user]
    return float(case.service(user, own) - kept - spilled)


@LEDGER.claim(
    "data-externality/R21-1",
    source="Theorem 6, part 1, corrected",
    statement="With spillover below its threshold, the condition is c_i(V) - c_i({i}) >= "
    "(1 - alpha) v_i I_i(V^l - i)",
    instances=drawn(isolated_high, spillovers=(0.05, 0.2, 0.5)),
    tolerance=0.0,
    n_instances=50,
)
def isolated_with_spillover(case: JoiningCase) -> Finding:
    """See `_isolated`."""
    return _isolated(case)


@LEDGER.claim(
    "data-externality/R21-threshold",
    source="Theorem 6, part 1, the threshold in closed form",
    statement="Without high-value users' data, one platform for all is best exactly up to the spillover's "
    "threshold",
    instances=drawn(isolated_high),
    tolerance=0.0,
    n_instances=30,
)
def threshold_is_where_division_pays(case: JoiningCase) -> Finding:
    """Look at the first best on both sides of the threshold."""
    threshold = duopoly.spillover_threshold(case.model)
    if not 0 < threshold < 0.99:
        return Finding(0.0, applies=False)
    wrong = []
    for spillover, together in ((0.99 * threshold, True), (1.01 * threshold, False)):
        shifted = JoiningCase(case.covariance, case.value, case.alone, case.company, spillover)
        exact = ByDefinition(shifted)
        low = frozenset(i for i, v in enumerate(case.value) if v <= 1)
        alone = exact.surplus((1,) * case.n_users, low)
        if _efficient(exact, alone) is not together:
            wrong.append(f"at {spillover:.6g} together {alone:.6g}, first best {exact.first_best():.6g}")
    return Finding(len(wrong), f"threshold {threshold:.6g}: {'; '.join(wrong)}")


@LEDGER.claim(
    "data-externality/R21-2",
    source="Theorem 6, part 2, for positive spillover and with a threshold",
    statement="If alpha > 0 and a high-value user has v_i > 1 + (1 + alpha) G / (alpha I_i({j})) for a "
    "low-value user j, no joining profile is efficient",
    instances=drawn(leaking_high, spillovers=SPILLOVERS, worked=(divided(400.0, 0.1), divided(100.0, 0.1))),
    tolerance=0.0,
    n_instances=40,
)
def leaking_with_spillover(case: JoiningCase) -> Finding:
    """See `_no_profile_is_efficient`."""
    return _no_profile_is_efficient(case, 2)


@LEDGER.claim(
    "data-externality/R21-3",
    source="Theorem 6, part 3, with thresholds",
    statement="With spillover below its threshold part 3 is as without; above, what others' data tell counts "
    "with weight alpha",
    instances=drawn(bought_high, spillovers=(0.05, 0.3, 0.8, 1.0)),
    tolerance=0.0,
    n_instances=30,
)
def bought_with_spillover(case: JoiningCase) -> Finding:
    """See `_no_profile_is_efficient`."""
    return _no_profile_is_efficient(case, 3)


@LEDGER.claim(
    "data-externality/R22",
    source="Theorem 7, corrected",
    statement="With spillover the mixed surplus is at most sum c_i(V) + (1 + alpha) times the data part of "
    "the corrected bound",
    instances=_bound_cases(*SPILLOVERS),
    tolerance=1e-11,
    n_instances=60,
)
def surplus_with_spillover_is_bounded(case: JoiningCase) -> Finding:
    """Compare with the mean over profiles."""
    return _bounded(case)
