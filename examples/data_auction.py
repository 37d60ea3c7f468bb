"""A data auction with a reserve: one exclusive licence, bidders of private value (Myerson 1981)."""

from dataclasses import dataclass, replace

import cvxpy as cp
import numpy as np
from matplotlib.figure import Figure

import mechopt as mo


@dataclass(frozen=True)
class DataAuction:
    """Bidders draw values (money) with probs; a sale costs the seller privacy_cost (money)."""

    values: tuple
    probs: tuple
    n_bidders: int = 2
    privacy_cost: float = 0.0

    def __post_init__(self):
        v, f = np.atleast_1d(self.values).astype(float), np.atleast_1d(self.probs).astype(float)
        if not (v.ndim == 1 <= v.size and 0 <= v[0] <= v[-1] < np.inf and v[-1] > 0 and all(np.diff(v) > 0)):
            raise mo.InvalidInput(f"values must be >= 0 and increase, the last > 0; got {self.values}")
        if not (f.shape == v.shape and all(f > 0) and abs(f.sum() - 1) < 1e-9):
            raise mo.InvalidInput(f"probs must be {v.size} numbers > 0 that sum to 1; got {self.probs}")
        if not (int(self.n_bidders) == self.n_bidders >= 1 and 0 <= self.privacy_cost < np.inf):
            raise mo.InvalidInput(f"n_bidders must be a whole number >= 1, privacy_cost >= 0; got {self}")

    def program(self):
        """Declare each bidder's chance to win, and what it pays in expectation, by its value."""
        v, f, n, ones = np.array(self.values), np.array(self.probs), self.n_bidders, np.ones(len(self.values))
        program = mo.Program("data auction", objective_scale=v[-1])
        win = program.variable("win", v.size, nonneg=True)
        payment = program.variable("payment", v.size, scale=v[-1])
        utility = program.define("utility", cp.multiply(v, win) - payment)
        sold = program.define("sold", n * (f @ win))
        program.maximize(n * (f @ payment) - self.privacy_cost * sold)
        program.add("ir", utility >= 0)
        program.add("ic", cp.outer(v, win) - cp.outer(ones, payment) <= cp.outer(utility, ones))
        # Border: bidders of at least some value win no more often than there is one.
        program.add("supply", n * (np.triu(np.tile(f, (v.size, 1))) @ win) <= 1 - (np.cumsum(f) - f) ** n)
        return program.seal(exact=ByHull(self))

    def closed_form(self):
        """Return the reserve, and the profit: the expected best virtual value above the cost."""
        v, f = np.array(self.values), np.array(self.probs)
        virtual = v - np.append(np.diff(v), 0.0) * (1 - np.cumsum(f)) / f
        if np.any(np.diff(virtual) < 0):
            raise mo.NotApplicable(f"virtual values must not fall; they are {virtual.round(3).tolist()}")
        surplus = np.maximum(virtual - self.privacy_cost, 0.0)
        profit = float(np.diff(np.cumsum(f) ** self.n_bidders, prepend=0.0) @ surplus)
        return {"reserve": float([*v[surplus > 0], np.inf][0]), "objective": profit}

    def audit(self, answer):
        """Check by the definition: who would rather bid as another, or stay away."""
        return mo.audit_choices(np.outer(self.values, answer["win"]) - answer["payment"])

    def plot(self):
        """Draw a bidder's chance to win against its value."""
        axes = Figure(layout="constrained").add_subplot(xlabel="value (money)", ylabel="chance to win")
        axes.step(self.values, self.program().solve()["win"], where="post")
        return axes.figure


@dataclass(frozen=True)
class ByHull:
    """Pools values on the concave hull of the profit from one bidder, over how many are served."""

    auction: DataAuction

    def refuses(self, program, changes):
        """Name the changes of the program that this algorithm cannot price: all of them."""
        return (*changes.added, *changes.dropped, *(["objective"] if changes.objective else []))

    def __call__(self, program, changes, settings):
        """Serve the pools on which the hull rises, the best first, with lots drawn inside a pool."""
        v, n, win = np.array(self.auction.values), self.auction.n_bidders, np.zeros(len(self.auction.values))
        reach = np.append(np.cumsum(self.auction.probs[::-1])[::-1], 0.0)  # chance of at least this value
        profit = (np.append(v, 0.0) - self.auction.privacy_cost) * reach
        slope = (profit - profit[:, None]) / (reach - reach[:, None] + np.eye(v.size + 1))
        pools = []  # from the top down: values low, ..., high - 1
        for low in reversed(range(v.size)):
            high = low + 1
            while pools and slope[low, high] > slope[pools[-1]]:
                high = pools.pop()[1]
            pools.append((low, high))
        for low, high in pools:
            if slope[low, high] > 0:
                below, upto = 1 - reach[low], 1 - reach[high]
                win[low:high] = (upto**n - below**n) / (n * (upto - below))
        rent = np.append(0.0, np.cumsum(np.diff(v) * win[:-1]))
        return mo.ExactAnswer({"win": win, "payment": v * win - rent})


def draw(rng, n):
    """Draw auctions, regular ones and others."""
    for k in rng.integers(1, 7, n):
        v, f = rng.uniform(0, 5, k).cumsum().tolist(), rng.dirichlet(np.ones(k)).tolist()
        yield DataAuction(tuple(v), tuple(f), int(rng.integers(1, 5)), float(rng.uniform(0, 5)))


@mo.claim("auction/profit", source="Myerson 1981", instances=draw, tolerance=1e-6, n_instances=30)
def profit(auction):
    """Where virtual values do not fall, they give the profit of both other roads."""
    formula = auction.closed_form()["objective"]
    return [auction.program().solve(backend).objective for backend in ("exact", "highs")], formula


@mo.claim("auction/reserve", source="Myerson 1981", instances=draw, tolerance=0.0, n_instances=30)
def reserve(auction):
    """The reserve is the same for any number of bidders."""
    alone, many = (replace(auction, n_bidders=n).program().solve()["win"] > 0 for n in (1, 5))
    return bool(np.all(alone == many))
