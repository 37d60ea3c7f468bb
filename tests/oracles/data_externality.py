"""The platform's purchase by its definitions, in plain Python: variances by elimination, all sets.

Nothing of the wing is used. Variances given data come from Gaussian elimination on the joint covariance of
one type and the data of those who share, with any noise variance.
"""

from __future__ import annotations

from functools import cache
from itertools import chain, combinations, permutations

Matrix = list[list[float]]


class Definition:
    """Users, everything about whom is computed set by set.

    ``covariance`` is a list of rows, ``value`` what a unit of leaked information costs each user.
    """

    def __init__(
        self, covariance: Matrix, value: list[float], noise: float = 1.0, spillover: float = 0.0
    ) -> None:
        self.covariance, self.value = covariance, value
        self.noise, self.spillover = noise, spillover
        self.n = len(value)
        self.leak = cache(self._leak)

    def _leak(self, user: int, sharing: frozenset[int]) -> float:
        """Fall of the variance of a user's type: its Schur complement in the joint covariance."""
        who = sorted(sharing)
        rows = [
            [self.covariance[i][j] + (self.noise if i == j else 0.0) for j in who]
            + [self.covariance[i][user]]
            for i in who
        ]
        rows.append([self.covariance[user][j] for j in who] + [self.covariance[user][user]])
        for pivot in range(len(who)):
            for below in range(pivot + 1, len(rows)):
                factor = rows[below][pivot] / rows[pivot][pivot]
                for column in range(pivot, len(who) + 1):
                    rows[below][column] -= factor * rows[pivot][column]
        return self.covariance[user][user] - rows[-1][-1]

    def subsets(self, users: frozenset[int]) -> list[frozenset[int]]:
        """All sets of some users."""
        listed = sorted(users)
        sizes = (combinations(listed, k) for k in range(len(listed) + 1))
        return [frozenset(members) for members in chain.from_iterable(sizes)]

    def price(self, user: int, sharing: frozenset[int]) -> float:
        """Least payment to a user who shares."""
        return self.value[user] * (self.leak(user, sharing) - self.leak(user, sharing - {user}))

    def profit(self, joined: frozenset[int], sharing: frozenset[int]) -> float:
        """What the platform earns at least prices."""
        gain = sum((1.0 if i in joined else self.spillover) * self.leak(i, sharing) for i in range(self.n))
        return gain - sum(self.price(i, sharing) for i in sharing)

    def best(self, joined: frozenset[int], tie: float = 1e-9) -> tuple[float, list[frozenset[int]]]:
        """Most profit, and all sets that have it."""
        table = {sharing: self.profit(joined, sharing) for sharing in self.subsets(joined)}
        top = max(table.values())
        return top, [sharing for sharing, profit in table.items() if profit >= top - tie]

    def payoff(self, user: int, joined: frozenset[int], sharing: frozenset[int], price: float) -> float:
        """Of a user of the platform, without its service."""
        weight = 1.0 if user in joined else self.spillover
        return (price if user in sharing else 0.0) - weight * self.value[user] * self.leak(user, sharing)

    def equilibria(
        self, joined: frozenset[int], prices: list[float], slack: float = 1e-9
    ) -> list[frozenset[int]]:
        """Sets from which no user of the platform gains by moving alone."""
        return [
            sharing
            for sharing in self.subsets(joined)
            if all(
                self.payoff(i, joined, sharing ^ {i}, prices[i])
                <= self.payoff(i, joined, sharing, prices[i]) + slack
                for i in joined
            )
        ]

    def unique_cost(self, sharing: frozenset[int]) -> float:
        """Least cost of winning users one after the other, over all orders."""
        return min(
            sum(
                self.value[user]
                * (self.leak(user, frozenset(order[: k + 1])) - self.leak(user, frozenset(order[:k])))
                for k, user in enumerate(order)
            )
            for order in permutations(sharing)
        )
