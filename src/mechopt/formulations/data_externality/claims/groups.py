"""Example 3, whose users are alike, and prices announced before users join; with their errata."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import numpy as np

from mechopt.formulations.data_externality import examples
from mechopt.formulations.data_externality.claims import exact_gaps as exactly
from mechopt.formulations.data_externality.claims.duopoly_cases import (
    ByDefinition,
    GroupCase,
    JoiningCase,
    Rng,
    equicorrelated,
    example_3_case,
    joining_cases,
    matrix,
)
from mechopt.formulations.data_externality.claims.exact import group_surplus
from mechopt.formulations.data_externality.claims.roads import LEDGER
from mechopt.formulations.data_externality.preset import PresetPrices, UserProfile
from mechopt.solvers.errors import InvalidInput
from mechopt.verification.claim import Finding, Verdict
from mechopt.verification.evidence import confirm, largest, row

# ------------------------------------------------------------ counting


def _groups(rng: Rng, n: int) -> Iterator[GroupCase]:
    """Groups with correlations of any sign within and across, as far as there are such types."""
    yield from (
        GroupCase((3, 3), (0.05, 0.05), ((0.0, 0.3), (0.3, 0.0)), (1.0, 1.0), (0.9, 1.2)),
        GroupCase((3, 2), (-0.4, 0.5), ((0.0, 0.2), (0.2, 0.0)), (1.0, 1.0), (0.5, 1.1), 0.5),
    )[:n]
    made = 2
    while made < n:
        g = int(rng.integers(1, 4))
        across = np.round(rng.uniform(-0.4, 0.6, (g, g)), 3)
        case = GroupCase(
            tuple(rng.integers(1, 4, g).tolist()),
            tuple(np.round(rng.uniform(-0.3, 0.8, g), 3).tolist()),
            matrix((across + across.T) / 2),
            tuple(np.round(rng.uniform(0.8, 3, g), 3).tolist()),
            # Near 1, so that platforms buy from some users of a group and not from others.
            tuple(np.round(rng.uniform(0.7, 1.5, g), 3).tolist()),
            float(rng.choice([0.0, 0.4, 1.0])),
        )
        try:
            _ = case.groups
        except InvalidInput:
            continue  # no types have these correlations
        made += 1
        yield case


@LEDGER.claim(
    "data-externality/R19",
    source="Example 3, by counting",
    statement="With users in groups that are alike, one platform's purchase, the mixed surplus, the first "
    "best and the bound by counting are those of all users one by one",
    instances=_groups,
    tolerance=1e-9,
    n_instances=30,
)
def counting_is_exact(case: GroupCase) -> Finding:
    """Compare with the full covariance."""
    groups, full = case.groups, case.groups.full()
    bought = groups.monopoly()
    game, everyone = full.duopoly(), np.ones(full.n_users)
    outcome = game.outcome(frozenset(range(full.n_users)))
    counted = np.add.reduceat(outcome.sharing.astype(int), np.cumsum((0, *case.sizes[:-1])))
    shares = np.concatenate(
        [np.arange(size) < count for size, count in zip(case.sizes, bought.sharing, strict=True)]
    )
    gaps = {
        "number who share": float(bought.n_ties == 1 and largest(counted - bought.sharing)),
        "profit": bought.profit - outcome.profit,
        "surplus of a purchase": bought.data_surplus - full.data_surplus(shares),
        "surplus of all data": groups.data_surplus(groups.sizes) - full.data_surplus(everyone),
        "mixed surplus": groups.duopoly().mixed_data_surplus - game.mixed_data_surplus,
        "with three platforms": groups.duopoly(3).mixed_data_surplus - full.duopoly(3).mixed_data_surplus,
        "first best": groups.first_best().social_surplus - full.first_best().social_surplus,
        "bound": groups.surplus_bound() - full.surplus_bound(),
    }
    worst = max(gaps, key=lambda name: abs(gaps[name]))
    return Finding(abs(gaps[worst]) / float(np.trace(full.covariance)), f"{worst}: {gaps[worst]:.3g}")


@dataclass(frozen=True)
class Correlation:
    """Example 3 at this correlation between its groups."""

    value: float


@LEDGER.claim(
    "data-externality/R19-figure-3",
    source="Figure 3, corrected",
    statement="In Example 3, rho <= .145, the surplus of one platform and of two is zero at 1 + k / rho^2, "
    "positive below and negative above; one platform's is also negative for values above 1.1 at which it "
    "buys from all",
    instances=lambda rng, n: (
        Correlation(float(r)) for r in [0.05, 0.1, 0.145, 0.13, *np.round(rng.uniform(0.05, 0.144, n), 4)][:n]
    ),
    tolerance=1e-9,
    n_instances=8,
)
def curves_of_figure_3(case: Correlation) -> Finding:
    """Count by groups on both sides of the closed forms."""
    r = case.value
    wrong = []
    for n_platforms, surplus in ((1, _one), (2, _two)):
        zero = examples.zero_surplus_value(r, n_platforms)
        at = [surplus(r, zero + step) for step in (-0.01, 0.0, 0.01)]
        if not (at[0] > 0 > at[2] and abs(at[1]) < 1e-9):
            wrong.append(f"{n_platforms} platforms, at {zero:.6g}: {row(at)}")
    switch = examples.all_share_value(r)
    if switch > 1.1:
        at = [_one(r, value) for value in ((1.1 + switch) / 2, switch - 1e-6, switch + 1e-6)]
        if not at[1] < at[0] < 0 < at[2]:
            wrong.append(f"second region, up to {switch:.6g}: {row(at)}")
    return Finding(len(wrong), "; ".join(wrong))


def _one(r: float, value: float) -> float:
    return examples.example_3(r, value).monopoly().data_surplus


def _two(r: float, value: float) -> float:
    return examples.example_3(r, value).duopoly().mixed_data_surplus


@LEDGER.claim(
    "data-externality/R19-competition",
    source="Figure 3",
    statement="Competition shrinks the region of negative surplus of Example 3: the excess of values over 1 "
    "on its border is 1.810 times as large with two platforms",
    instances=lambda rng, n: (Correlation(float(r)) for r in np.round(np.linspace(0.05, 0.145, n), 4)),
    tolerance=1e-4,
    n_instances=5,
)
def competition_shrinks_the_region(case: Correlation) -> Finding:
    """Find both zeros by bisection on the surplus by counting."""
    one, two = (_zero(surplus, case.value) - 1 for surplus in (_one, _two))
    return Finding(abs(two / one / 1.8104 - 1), f"excess {one:.6g} and {two:.6g}")


def _zero(surplus: object, r: float) -> float:
    assert callable(surplus)
    low, high = 1.25, 30.0
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if surplus(r, middle) > 0 else (low, middle)
    return low


@dataclass(frozen=True)
class MovedNorth:
    """Example 3 at a correlation, and two values of privacy of high-value users, the second higher."""

    correlation: float
    values: tuple[float, float]


def surplus_rises_exactly(case: MovedNorth) -> Fraction:
    """The difference of the surplus at both values, in rationals."""
    before, after = (group_surplus(example_3_case(case.correlation, value)) for value in case.values)
    return after - before


@LEDGER.claim(
    "data-externality/E15",
    source="Example 3, figure 3",
    statement="One platform's surplus falls as high-value users value privacy more",
    instances=lambda rng, n: (
        MovedNorth(r, values)
        for r, values in ((0.145, (1.19, 1.20)), (0.14, (1.165, 1.175)), (0.12, (1.1, 1.11)))[:n]
    ),
    tolerance=1e-9,
    expected=Verdict.REFUTED,
    corrected_by="data-externality/R19-figure-3",
    n_instances=3,
    confirm_exactly=surplus_rises_exactly,
)
def surplus_falls_to_the_north(case: MovedNorth) -> Finding:
    """Compare by counting; confirm with the full covariance of all 20 users."""
    surplus = []
    for value in case.values:
        groups = example_3_case(case.correlation, value).groups
        bought = groups.monopoly()
        full = groups.full()
        shares = np.concatenate([np.arange(10) < count for count in bought.sharing])
        confirm(
            abs(full.data_surplus(shares) - bought.data_surplus) < 1e-9,
            f"with all 20 users one by one the surplus is {bought.data_surplus:.6g} at {value:g}",
        )
        surplus.append(bought.data_surplus)
    return Finding(surplus[1] - surplus[0], f"surplus {row(surplus)} at values {row(case.values)}")


@LEDGER.claim(
    "data-externality/E15-range",
    source="Example 3, figure 3",
    statement="There are types with the correlations of figure 3 for every rho up to 1",
    instances=lambda rng, n: (example_3_case(float(r), 2.0) for r in (0.15, 0.2, 0.5, 1.0)[:n]),
    tolerance=1e-9,
    expected=Verdict.REFUTED,
    corrected_by="data-externality/R19-figure-3",
    n_instances=4,
    confirm_exactly=exactly.variance_of_the_difference,
)
def all_correlations_are_possible(case: GroupCase) -> Finding:
    """Find the variance of the difference of the groups' sums: it is negative."""
    r, n = case.across[0][1], case.sizes[0]
    covariance = np.where(np.kron(np.eye(2), np.ones((n, n))) > 0, case.within[0], r)
    np.fill_diagonal(covariance, 1.0)
    sign = np.repeat((1.0, -1.0), n) / np.sqrt(2 * n)
    variance = float(sign @ covariance @ sign)
    confirm(
        abs(np.linalg.eigvalsh(covariance)[0] - variance) < 1e-9,
        f"the smallest eigenvalue of the covariance is {variance:.6g}",
    )
    return Finding(-variance, f"the groups' difference has a variance of {variance:.6g}")


# ------------------------------------------------------------ prices announced in advance


@LEDGER.claim(
    "data-externality/R23",
    source="Definition 3",
    statement="Users' profiles that are an equilibrium at given prices are those whose linear conditions "
    "hold",
    instances=joining_cases(1, 2, 3, spillovers=(0.0, 0.5), worked=(equicorrelated(0.5, (0.5, 0.5)),)),
    tolerance=0.0,
    n_instances=15,
)
def user_equilibria_are_polyhedra(case: JoiningCase) -> Finding:
    """Draw prices, and compare with trying each user's other choices, payoffs by the definition."""
    game, exact, n = PresetPrices(case.model), ByDefinition(case), case.n_users
    rng = np.random.default_rng(n)
    wrong = []
    for _ in range(4):
        prices = np.round(rng.uniform(0, 1.2, (2, n)), 3)
        found = {_choices(each.joining, each.sharing) for each in game.user_equilibria(*prices)}
        for joining, sharing in zip(*game.profiles, strict=True):
            profile = _choices(joining, sharing)
            now = [_payoff(exact, profile, prices, user) for user in range(n)]
            gain = max(
                _payoff(exact, (*profile[:user], other, *profile[user + 1 :]), prices, user) - now[user]
                for user in range(n)
                for other in ((1, False), (1, True), (2, False), (2, True))
            )
            rows, bound = game.conditions(UserProfile(joining, sharing))
            holds = bool(np.all(rows @ prices.ravel() <= bound + 1e-9))
            if not (gain <= 1e-9) is (profile in found) is holds:
                wrong.append((prices.tolist(), profile))
    return Finding(len(wrong), f"differ: {wrong[:2]}")


Choices = tuple[tuple[int, bool], ...]


def _choices(joining: np.ndarray, sharing: np.ndarray) -> Choices:
    return tuple(zip(joining.tolist(), sharing.tolist(), strict=True))


def _payoff(exact: ByDefinition, profile: Choices, prices: np.ndarray, user: int) -> float:
    case = exact.case
    platform, shares = profile[user]
    total = float(prices[platform - 1, user]) if shares else 0.0
    for label in (1, 2):
        sharers = frozenset(i for i, (b, a) in enumerate(profile) if b == label and a)
        weight = 1.0 if label == platform else case.spillover
        total -= weight * case.value[user] * float(exact.leaked(sharers)[user])
    return total + case.service(user, frozenset(i for i, (b, _) in enumerate(profile) if b == platform))


@dataclass(frozen=True)
class PriceGame:
    """A joining game, and prices that platforms may offer."""

    case: JoiningCase
    prices: tuple[float, ...]


def _one_user(rng: Rng, n: int) -> Iterator[PriceGame]:
    for turn in range(n):
        variance, value = float(np.round(rng.uniform(0.5, 3), 3)), float(np.round(rng.uniform(0.1, 1.6), 3))
        if turn == 0:
            variance, value = 1.0, 0.5
        worth = variance**2 / (1 + variance)
        prices = worth * np.arange(0, 1.6, 0.2)
        yield PriceGame(JoiningCase(((variance,),), (value,)), tuple(prices.tolist()))


@LEDGER.claim(
    "data-externality/R24",
    source="Section VII, one user, among finitely many prices",
    statement="With one user of value below 1 both platforms may offer what its data are worth, and none "
    "makes more than a step of the grid; a user of value above 1 does not trade",
    instances=_one_user,
    tolerance=1e-9,
    n_instances=12,
)
def one_user_gets_all(game: PriceGame) -> Finding:
    """Look at all equilibria: profits, and the price paid; a step is a fifth of what data are worth."""
    variance, value = game.case.covariance[0][0], game.case.value[0]
    worth = variance**2 / (1 + variance)
    found = list(PresetPrices(game.case.model).grid(game.prices).pure_equilibria())
    at_worth = [
        each
        for each in found
        if value < 1 and each.profile.sharing[0] and np.allclose(each.prices, worth, atol=1e-9)
    ]
    step = 0.2 * worth
    most = max((float(each.profits.max()) for each in found), default=np.inf)
    if value > 1:
        trades = sum(bool(each.profile.sharing[0]) for each in found)
        return Finding(trades + max(most, 0.0), f"{trades} equilibria with trade")
    excess = max(most - step, 0.0) + (not at_worth)
    return Finding(excess, f"largest profit {most:.6g}, {len(at_worth)} equilibria at the price {worth:.6g}")


@dataclass(frozen=True)
class GridCounts:
    """Two users, r = .5, v = (.5, .5), services 5 + company for each member: equilibria by their numbers."""

    company: float
    n_equilibria: int
    n_offers: int


def _counts(rng: Rng, n: int) -> Iterator[GridCounts]:
    yield from (GridCounts(0.0, 4, 2), GridCounts(0.1, 14, 11), GridCounts(1.0, 11616, 9312))[:n]


@LEDGER.claim(
    "data-externality/R24-grid",
    source="Section VII, two users, prices 0, .1, ..., 1",
    statement="Pure equilibria exist: with constant services users are apart, and both platforms offer .4 "
    "for a profit of .1; with strong network effects almost all offers are part of one",
    instances=_counts,
    tolerance=0.0,
    n_instances=3,
)
def equilibria_on_a_grid(case: GridCounts) -> Finding:
    """Count by arrays, and once more by the definition, price by price."""
    alone = (5.0 + case.company,) * 2
    company = ((0.0, case.company), (case.company, 0.0)) if case.company else ()
    users = JoiningCase(((1.0, 0.5), (0.5, 1.0)), (0.5, 0.5), alone, company)
    game = PresetPrices(users.model)
    grid = game.grid(np.linspace(0, 1, 11))
    counted = grid.n_pure_equilibria()
    witness = f"{counted[0]} equilibria, {counted[1]} pairs of offers"
    if counted != (case.n_equilibria, case.n_offers):
        return Finding(1, witness)
    found = list(grid.pure_equilibria())
    wrong = sum(
        not _is_equilibrium(game, grid.offers, each.prices, each.profile, each.profits)
        for each in found[:: max(1, len(found) // 4)]
    )
    if not case.company:
        wrong += not any(np.allclose(each.prices, 0.4) and np.allclose(each.profits, 0.1) for each in found)
        wrong += any(each.profile.joining[0] == each.profile.joining[1] for each in found)
    return Finding(wrong, witness)


def _is_equilibrium(
    game: PresetPrices, offers: np.ndarray, prices: np.ndarray, profile: object, profits: np.ndarray
) -> bool:
    """Definition 3, with user equilibria found price by price."""
    if repr(profile) not in {repr(each) for each in game.user_equilibria(*prices)}:
        return False
    for platform in (0, 1):
        for offer in offers:
            changed = prices.copy()
            changed[platform] = offer
            worst = [game.profits(each, *changed)[platform] for each in game.user_equilibria(*changed)]
            if not worst or min(worst) > profits[platform] + 1e-9:
                return False
    return True


@dataclass(frozen=True)
class PriceLottery:
    """One user, and two pairs of prices that platforms announce with equal chances."""

    variance: float
    value: float
    prices: tuple[tuple[float, float], tuple[float, float]]


@LEDGER.claim(
    "data-externality/E19",
    source="Definition 4",
    statement="If prices are random, users' joining and sharing need not depend on those that are announced",
    instances=lambda rng, n: (
        PriceLottery(1.0, 0.5, ((0.6, 0.4), (0.4, 0.6))),
        *(
            PriceLottery(1.0, 0.5, ((float(p), 0.3), (0.3, float(p))))
            for p in np.round(rng.uniform(0.5, 0.9, n - 1), 3)
        ),
    ),
    tolerance=1e-9,
    expected=Verdict.REFUTED,
    corrected_by="data-externality/R23",
    n_instances=5,
    confirm_exactly=exactly.least_regret_of_one_choice,
)
def users_do_not_look_at_prices(case: PriceLottery) -> Finding:
    """Find the choice of least regret over both pairs; confirm that each has its own equilibria."""
    model = JoiningCase(((case.variance,),), (case.value,)).model
    game = PresetPrices(model)
    leak = case.value * case.variance**2 / (1 + case.variance)
    regrets = []
    for platform, shares in product((0, 1), (False, True)):
        payoffs = [prices[platform] - leak if shares else 0.0 for prices in case.prices]
        best = [max(0.0, *(price - leak for price in prices)) for prices in case.prices]
        regrets.append(max(b - p for b, p in zip(best, payoffs, strict=True)))
    first, second = ({repr(found) for found in game.user_equilibria([a], [b])} for a, b in case.prices)
    confirm(not first & second, "no equilibrium of users goes with both pairs of prices")
    return Finding(min(regrets), f"prices {case.prices}: any fixed choice regrets {min(regrets):.6g}")
