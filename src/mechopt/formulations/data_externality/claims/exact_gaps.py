"""By how much statements on data markets that are false fail, in rationals, on the scales of their claims."""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol

from mechopt.formulations.data_externality.claims.duopoly_cases import GroupCase, JoiningCase
from mechopt.formulations.data_externality.claims.exact import Exactly, complements
from mechopt.formulations.data_externality.families import PurchaseCase
from mechopt.verification.evidence import fraction, fractions

# ------------------------------------------------------------ payoffs and prices


def profit_as_printed(case: JoiningCase) -> Fraction:
    """(5) as printed, information about those who do not share, against the profit if all join."""
    exact = Exactly(case)
    sharers = exact.bought(exact.everyone)
    info = exact.leaked(sharers)
    printed = sum((info[i] for i in exact.everyone - sharers), Fraction(0))
    return abs(exact.profit(exact.everyone, sharers) - printed) / exact.scale


def payoff_by_printed_labels(case: JoiningCase) -> Fraction:
    """The payoff of user 1, who joined with user 0, against f^1, by which it shares."""
    exact = Exactly(case)
    printed = -exact.value[1] * exact.leaked(frozenset({0, 1}))[1]
    return abs(exact.payoff(exact.everyone, frozenset(), 1) - printed) / exact.scale


def constant_services_grow(case: JoiningCase) -> Fraction:
    """Sets, not empty, and users not in them: no constant service grows by one."""
    exact = Exactly(case)
    return Fraction(sum(len(exact.everyone - joined) for joined in exact.sets() if joined))


def deviation_payoff_as_printed(case: JoiningCase) -> Fraction:
    """User 1, who moved to user 0, against -v_1 I_0."""
    exact = Exactly(case)
    printed = -exact.value[1] * exact.leaked(frozenset({0}))[0]
    return abs(exact.payoff(frozenset({2}), frozenset({0, 1}), 1) - printed) / exact.scale


def prices_do_not_depend_on_spillover(case: JoiningCase) -> Fraction:
    """Prices with and without spillover, whoever joined."""
    exact, without = Exactly(case), Exactly(JoiningCase(case.covariance, case.value, case.alone))
    differ = (
        abs(a - b)
        for joined in exact.sets()
        for a, b in zip(exact.prices(joined), without.prices(joined), strict=True)
    )
    return max(differ) / exact.scale


def price_of_a_copy(case: PurchaseCase) -> Fraction:
    """The price of user 1 of two whose data are bought, against what it would be without the other."""
    exact = Exactly(case)
    if exact.bought(exact.everyone) != exact.everyone:
        return Fraction(0)
    return exact.price(exact.everyone, 1) / exact.price(frozenset({1}), 1)


def dear_users_share(case: PurchaseCase) -> Fraction:
    """What buying from user 1 as well costs of the profit from user 0."""
    exact = Exactly(case)
    one, both = (exact.profit(exact.everyone, frozenset(range(k))) for k in (1, 2))
    return (one - both) / one


# ------------------------------------------------------------ surplus, and its bounds


def social_surplus_over_bound(case: JoiningCase) -> Fraction:
    """Mean surplus, services and all, beyond the printed bound."""
    exact = Exactly(case)
    return (exact.mixed_surplus() - exact.printed_bound()) / exact.scale


def data_surplus_over_bound(case: JoiningCase) -> Fraction:
    """Mean surplus of data beyond the printed bound."""
    exact = Exactly(case)
    return (exact.mixed_surplus(services=False) - exact.printed_bound()) / exact.scale


def wrong_advice(case: JoiningCase) -> Fraction:
    """What the market is worth that the printed bound says to shut."""
    exact = Exactly(case)
    surplus = exact.mixed_surplus(services=False)
    return surplus / exact.scale if exact.printed_bound() < 0 else Fraction(0)


def mixed_equilibrium_is_efficient(case: JoiningCase) -> Fraction:
    """What the mixed equilibrium leaves of the first best."""
    exact = Exactly(case)
    return (exact.first_best - exact.mixed_surplus()) / exact.scale


# ------------------------------------------------------------ equilibria


def efficient_equilibria(case: JoiningCase) -> Fraction:
    """Number of pure equilibria that are efficient."""
    return Fraction(len(Exactly(case).efficient_equilibria()))


def equilibria(case: JoiningCase) -> Fraction:
    """Number of pure equilibria."""
    return Fraction(len(Exactly(case).equilibria()))


def least_best_gain(case: JoiningCase) -> Fraction:
    """What somebody gains in every profile."""
    exact = Exactly(case)
    return min(map(exact.best_gain, exact.sets())) / exact.scale


def condition_without_value(case: JoiningCase) -> Fraction:
    """Whether the printed condition is one thing, and the search for an efficient equilibrium another."""
    exact = Exactly(case)
    low = frozenset(i for i, v in enumerate(exact.value) if v <= 1)
    printed = all(
        exact.service(i, exact.everyone) - exact.service(i, frozenset({i}))
        >= (1 - exact.spillover) * exact.leaked(low - {i})[i]
        for i in low
    )
    return Fraction(printed is not bool(exact.efficient_equilibria()))


def joining_alone(case: JoiningCase) -> Fraction:
    """Most that a user gains by joining, where nobody has."""
    exact, nobody = Exactly(case), frozenset[int]()
    gains = (
        exact.payoff(frozenset({i}), nobody, i) - exact.payoff(nobody, nobody, i) for i in exact.everyone
    )
    return max(gains) / exact.scale


# ------------------------------------------------------------ submodularity, and taxes


def leaks_are_submodular(case: PurchaseCase) -> Fraction:
    """Largest rise of what a user's data add to a leak, in company, of what they then add."""
    exact = Exactly(case)
    about = [{a: exact.leaked(a)[i] for a in exact.sets()} for i in exact.everyone]
    rise, increment = complements(exact, about)
    return rise / increment


def loss_is_submodular(case: PurchaseCase) -> Fraction:
    """The same, of what users lose for which they are not paid."""
    exact = Exactly(case)
    rise, increment = complements(exact, [{a: exact.loss(a) for a in exact.sets()}])
    return rise / increment


def textbook_tax(case: JoiningCase) -> Fraction:
    """Surplus that is lost by what a platform buys at marginal taxes."""
    exact = Exactly(case)
    surplus = {a: exact.part(exact.everyone, a, services=False) for a in exact.sets()}
    best = max(surplus, key=lambda a: surplus[a])
    tax = {i: exact.loss(best | {i}) - exact.loss(best - {i}) for i in exact.everyone}
    bought = max(
        exact.sets(),
        key=lambda a: exact.profit(exact.everyone, a) - sum((tax[i] for i in a), Fraction(0)),
    )
    return (surplus[best] - surplus[bought]) / exact.scale


def oversharing(case: JoiningCase) -> Fraction:
    """By how much a platform prefers sets without some user who should share."""
    exact = Exactly(case)
    best = max(exact.sets(), key=lambda a: exact.part(exact.everyone, a, services=False))
    profit = {a: exact.profit(exact.everyone, a) for a in exact.sets()}
    missing = [worth for a, worth in profit.items() if not a >= best]
    if not missing:
        return Fraction(0)
    return (max(missing) - max(worth for a, worth in profit.items() if a >= best)) / exact.scale


# ------------------------------------------------------------ groups, and prices announced in advance


def variance_of_the_difference(case: GroupCase) -> Fraction:
    """Minus the variance of the difference of two equal groups' sums, of a user's share of it."""
    n, within, across = case.sizes[0], fraction(case.within[0]), fraction(case.across[0][1])
    return -(fraction(case.variances[0]) + (n - 1) * within - n * across)


class Announced(Protocol):
    """One user, and two pairs of prices."""

    @property
    def variance(self) -> float:
        """Of its type."""

    @property
    def value(self) -> float:
        """Of its privacy."""

    @property
    def prices(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Prices of both platforms, in either case."""


def least_regret_of_one_choice(case: Announced) -> Fraction:
    """What the best choice that does not look at prices regrets in the worse case."""
    variance = fraction(case.variance)
    leak = fraction(case.value) * variance**2 / (1 + variance)
    kept = [[price - leak for price in fractions(pair)] for pair in case.prices]
    best = [max(Fraction(0), *pair) for pair in kept]
    nothing = max(best)
    sharing = [max(best[k] - kept[k][platform] for k in (0, 1)) for platform in (0, 1)]
    return min(nothing, *sharing)
