"""Joining games and data markets in rationals: the decimals of an instance as printed, without rounding.

Nothing here is shared with the mechanism or with the definitions in floating point. What leaks is solved for
by Gaussian elimination, prices come from conditional variances, and profiles are split by platform.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache, cached_property
from itertools import combinations

from mechopt.formulations.data_externality.claims.duopoly_cases import GroupCase, JoiningCase
from mechopt.formulations.data_externality.families import PurchaseCase
from mechopt.verification.evidence import fraction, fractions, solved_in_fractions

Users = frozenset[int]


class Exactly:
    """Two platforms, or one that all joined, in rationals.

    Parameters
    ----------
    case : JoiningCase or PurchaseCase
    """

    def __init__(self, case: JoiningCase | PurchaseCase) -> None:
        if isinstance(case, PurchaseCase):
            case = JoiningCase(case.covariance, case.value_of_privacy, spillover=case.spillover)
        self.covariance = tuple(map(fractions, case.covariance))
        self.value, self.spillover = fractions(case.value), fraction(case.spillover)
        self.alone, self.company = fractions(case.alone), tuple(map(fractions, case.company))
        self.everyone: Users = frozenset(range(len(self.value)))
        self.scale = sum((self.covariance[i][i] for i in self.everyone), Fraction(0))
        self.leaked = cache(self._leaked)
        self.bought = cache(self._bought)

    def sets(self, users: Users | None = None) -> Iterator[Users]:
        """Yield all sets of users, small ones first."""
        members = sorted(self.everyone if users is None else users)
        for size in range(len(members) + 1):
            yield from map(frozenset, combinations(members, size))

    # -------------------------------------------------------- stages 2 and 3

    def _leaked(self, sharers: Users) -> tuple[Fraction, ...]:
        """What A leaks about each user: S_iA (1 + S_AA)^-1 S_Ai."""
        members = sorted(sharers)
        matrix = [[self.covariance[a][b] + (a == b) for b in members] for a in members]
        weights = solved_in_fractions(matrix, [self.covariance[a] for a in members])
        return tuple(
            sum((self.covariance[i][a] * w[i] for a, w in zip(members, weights, strict=True)), Fraction(0))
            for i in sorted(self.everyone)
        )

    def price(self, sharers: Users, user: int) -> Fraction:
        """Least price, v s^2 / (1 + s), with s the user's variance given what the other sharers leak."""
        left = self.covariance[user][user] - self.leaked(sharers - {user})[user]
        return self.value[user] * left**2 / (1 + left)

    def weight(self, user: int, joined: Users) -> Fraction:
        """What information about a user is worth to the platform that these joined."""
        return Fraction(1) if user in joined else self.spillover

    def profit(self, joined: Users, sharers: Users) -> Fraction:
        """What a platform earns if these share."""
        info = self.leaked(sharers)
        worth = sum((self.weight(i, joined) * info[i] for i in self.everyone), Fraction(0))
        return worth - sum((self.price(sharers, i) for i in sharers), Fraction(0))

    def _bought(self, joined: Users) -> Users:
        """The set of most profit, of equal ones the largest."""
        return max(self.sets(joined), key=lambda a: (self.profit(joined, a), len(a)))

    def prices(self, joined: Users) -> tuple[Fraction, ...]:
        """What the platform pays each user."""
        sharers = self.bought(joined)
        return tuple(self.price(sharers, i) if i in sharers else Fraction(0) for i in sorted(self.everyone))

    def loss(self, sharers: Users) -> Fraction:
        """What would leak about each user if it alone did not share, at its value."""
        return sum((v * self.leaked(sharers - {i})[i] for i, v in enumerate(self.value)), Fraction(0))

    # -------------------------------------------------------- joining: sets of the first platform's users

    def service(self, user: int, joined: Users) -> Fraction:
        """What a platform's service is worth to a user."""
        if user not in joined or not self.alone:
            return Fraction(0)
        others = joined - {user} if self.company else frozenset[int]()
        return self.alone[user] + sum((self.company[user][j] for j in others), Fraction(0))

    def payoff(self, first: Users, second: Users, user: int) -> Fraction:
        """What a user gets, and loses, from both platforms."""
        total = Fraction(0)
        for joined in (first, second):
            sharers = self.bought(joined)
            total += self.service(user, joined)
            total -= self.weight(user, joined) * self.value[user] * self.leaked(sharers)[user]
            total += self.price(sharers, user) if user in sharers else 0
        return total

    def best_gain(self, first: Users) -> Fraction:
        """Most that a user gains by the other platform, if all have joined."""
        second = self.everyone - first
        return max(
            self.payoff(first ^ {i}, second ^ {i}, i) - self.payoff(first, second, i) for i in self.everyone
        )

    def part(self, joined: Users, sharers: Users, *, services: bool = True) -> Fraction:
        """Social surplus that a platform with these users and sharers makes."""
        info, total = self.leaked(sharers), Fraction(0)
        for i, value in enumerate(self.value):
            total += (1 - value) * self.weight(i, joined) * info[i]
            total += self.service(i, joined) if services else 0
        return total

    def surplus(self, first: Users) -> Fraction:
        """Social surplus, if the others join the second platform."""
        return sum((self.part(j, self.bought(j)) for j in (first, self.everyone - first)), Fraction(0))

    def mixed_surplus(self, *, services: bool = True) -> Fraction:
        """Mean surplus of all ways to join: either platform has each set of users equally often."""
        made = [self.part(j, self.bought(j), services=services) for j in self.sets()]
        return 2 * sum(made, Fraction(0)) / len(made)

    @cached_property
    def first_best(self) -> Fraction:
        """Most surplus: the best sharers of each part, of the best division."""
        best = {j: max(self.part(j, a) for a in self.sets(j)) for j in self.sets()}
        return max(best[j] + best[self.everyone - j] for j in best)

    def equilibria(self) -> list[Users]:
        """First platforms of pure equilibria, those of the other labels left out."""
        return [first for first in self.sets() if 0 in first and self.best_gain(first) <= 0]

    def efficient_equilibria(self) -> list[Users]:
        """Those that have the most surplus."""
        return [first for first in self.equilibria() if self.surplus(first) == self.first_best]

    def printed_bound(self) -> Fraction:
        """The bound of Theorems 4 and 7 as printed."""
        low = frozenset(i for i, v in enumerate(self.value) if v <= 1)
        everything, half = self.leaked(self.everyone), self.leaked(low)
        terms = ((1 - v) * (everything[i] if i in low else half[i] / 2) for i, v in enumerate(self.value))
        return (1 + self.spillover) * sum(terms, Fraction(0))


# ------------------------------------------------------------ submodularity


def complements(exact: Exactly, functions: Sequence[dict[Users, Fraction]]) -> tuple[Fraction, Fraction]:
    """Largest rise of an increment in company, and that increment; 0 if all functions are submodular.

    The rise is the same if company and addition change places: the first is taken.
    """
    rise, increment = Fraction(0), Fraction(1)
    for of in functions:
        for added in exact.everyone:
            for context in exact.everyone - {added}:
                for base in exact.sets(exact.everyone - {added, context}):
                    more = of[base | {added, context}] - of[base | {context}]
                    found = more - (of[base | {added}] - of[base])
                    if found > rise:
                        rise, increment = found, abs(more)
    return rise, increment


# ------------------------------------------------------------ groups


def group_surplus(case: GroupCase) -> Fraction:
    """Data surplus of one platform and two groups, of whom it buys from the numbers of most profit."""
    variances, within, value = fractions(case.variances), fractions(case.within), fractions(case.value)
    across = fraction(case.across[0][1])

    def leaked(group: int, others: tuple[int, int]) -> Fraction:
        """What so many other users of each group leak about one: they all have the same weight."""
        some = [g for g in (0, 1) if others[g]]
        about = [within[g] if g == group else across for g in some]
        matrix = [
            [1 + variances[g] + (others[g] - 1) * within[g] if g == h else others[h] * across for h in some]
            for g in some
        ]
        weights = solved_in_fractions(matrix, [[c] for c in about])
        return sum((others[g] * c * w[0] for g, c, w in zip(some, about, weights, strict=True)), Fraction(0))

    best = None
    for first in range(case.sizes[0] + 1):
        for second in range(case.sizes[1] + 1):
            sharing, profit, surplus = (first, second), Fraction(0), Fraction(0)
            for g in (0, 1):
                if sharing[g]:
                    less = (first - 1, second) if g == 0 else (first, second - 1)
                    left = variances[g] - leaked(g, less)
                    bought = left**2 / (1 + left)
                    about = variances[g] - left + bought
                    profit += sharing[g] * (about - value[g] * bought)
                    surplus += sharing[g] * (1 - value[g]) * about
                rest = case.sizes[g] - sharing[g]
                if rest:
                    told = leaked(g, sharing)
                    profit += rest * told
                    surplus += rest * (1 - value[g]) * told
            if best is None or (profit, first + second) >= best[:2]:
                best = profit, first + second, surplus
    assert best is not None, "no user is a number of users, too"
    return best[2]
