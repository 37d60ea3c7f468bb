"""Joining games of users with correlated data, by the definitions and with loops: for few users.

Information is computed by regression on factors, sharing and joining by trying everything.
"""

from itertools import product

import numpy as np


def leaked(covariance, sharers):
    """Variance of each type minus that of the residual of its regression on the shared data."""
    values, vectors = np.linalg.eigh(covariance)
    factor = vectors * np.sqrt(np.clip(values, 0, None))
    n = len(covariance)
    sharers = sorted(sharers)
    data = np.hstack([factor[sharers], np.eye(len(sharers))]).T
    types = np.hstack([factor, np.zeros((n, len(sharers)))]).T
    fitted = data @ np.linalg.lstsq(data, types, rcond=None)[0]
    return np.sum(fitted**2, axis=0)


def subsets(users):
    users = sorted(users)
    return [
        {u for u, taken in zip(users, bits, strict=True) if taken}
        for bits in product((0, 1), repeat=len(users))
    ]


def price(covariance, value, sharers, user):
    """The least price at which a user is content to share, given the other sharers."""
    return value[user] * (leaked(covariance, sharers)[user] - leaked(covariance, sharers - {user})[user])


def profit(covariance, value, joined, sharers, spillover=0.0):
    """Information about those who joined, the spillover's of the others, less payments."""
    info = leaked(covariance, sharers)
    total = sum(info[i] * (1.0 if i in joined else spillover) for i in range(len(value)))
    return total - sum(price(covariance, value, sharers, i) for i in sharers)


def bought(covariance, value, joined, spillover=0.0):
    """Whom a platform buys from; of those within 1e-10 the largest set."""
    choices = subsets(joined)
    profits = [profit(covariance, value, joined, a, spillover) for a in choices]
    best = max(profits)
    return max((a for a, x in zip(choices, profits, strict=True) if x >= best - 1e-10), key=len)


def nothing(user, joined):
    return 0.0


class Game:
    """The joining game of ``n_platforms``, with what platforms buy remembered by set."""

    def __init__(self, covariance, value, service=nothing, spillover=0.0, n_platforms=2):
        self.covariance = np.asarray(covariance, float)
        self.value = np.asarray(value, float)
        self.service, self.spillover, self.k = service, spillover, n_platforms
        self.n = len(self.value)
        self._bought = {}

    def bought(self, joined):
        joined = frozenset(joined)
        if joined not in self._bought:
            self._bought[joined] = bought(self.covariance, self.value, joined, self.spillover)
        return self._bought[joined]

    def parts(self, joining):
        return [{i for i in range(self.n) if joining[i] == label} for label in range(1, self.k + 1)]

    def payoff(self, joining, user):
        """What a user gets, from the price, the leak and the service, each by its definition."""
        parts = self.parts(joining)
        total = 0.0
        for joined in parts:
            sharers = self.bought(joined)
            info = leaked(self.covariance, sharers)[user]
            if user in joined:
                total -= self.value[user] * info
                if user in sharers:
                    total += price(self.covariance, self.value, sharers, user)
                total += self.service(user, frozenset(joined))
            else:
                total -= self.spillover * self.value[user] * info
        return total

    def gains(self, joining, may_leave=False):
        """Each user's gain from each other choice, by changing one entry."""
        found = {}
        for user in range(self.n):
            now = self.payoff(joining, user)
            for label in range(0 if may_leave else 1, self.k + 1):
                if label != joining[user]:
                    other = list(joining)
                    other[user] = label
                    found[user, label] = self.payoff(other, user) - now
        return found

    def profiles(self):
        """All joining profiles, with labels of platforms that differ."""
        return list(product(range(1, self.k + 1), repeat=self.n))

    def equilibria(self):
        return [b for b in self.profiles() if max(self.gains(b).values()) <= 1e-9]

    def surplus(self, joining, sharing=None, service=True):
        """Social surplus: information about members, the spillover's of others, and services."""
        total = 0.0
        parts = self.parts(joining)
        for joined in parts:
            sharers = self.bought(joined) if sharing is None else sharing & joined
            info = leaked(self.covariance, sharers)
            for i in range(self.n):
                if i in joined:
                    total += (1 - self.value[i]) * info[i]
                    total += self.service(i, frozenset(joined)) if service else 0.0
                elif any(i in part for part in parts):
                    total += self.spillover * (1 - self.value[i]) * info[i]
        return total

    def mixed_surplus(self, service=True):
        return float(np.mean([self.surplus(b, service=service) for b in self.profiles()]))

    def mixed_payoffs(self):
        """Expected payoff of each user from each platform, the others mixing uniformly."""
        table = np.zeros((self.n, self.k))
        for joining in self.profiles():
            for user in range(self.n):
                table[user, joining[user] - 1] += self.payoff(joining, user)
        return table / self.k ** (self.n - 1)

    def first_best(self):
        everyone = set(range(self.n))
        return max(self.surplus(b, a) for b in self.profiles() for a in subsets(everyone))
