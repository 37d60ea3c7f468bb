r"""Buyers of data of any sizes, to whom more data matter ever less.

Were sellers divisible, a buyer would fill up from the least cost per record to where the next costs more than
it is worth: the bound of a node. At the root its marginal value p prices every seller, :math:`g_i = p e_i -
c_i`, and a set that treats i against the sign of :math:`g_i` is at least :math:`|g_i|` below the bound. All
sellers for whom that is worse than a set in hand are settled; few are left to branch on.

A cap and a budget are priced at the root: costs become :math:`(1 + \mu) c_i + \lambda`, with the multipliers
that make the bound least, and sets that break them are cut off where they do.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import CappedUtility, ConcaveFunction, ThresholdUtility
from mechopt.formulations.sharing_market.buyers.items import Items, one_value
from mechopt.formulations.sharing_market.buyers.problem import BoolArray, BuyerProblem
from mechopt.solvers.errors import NotApplicable

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

MOST_NODES = 300_000
"""Nodes after which the search gives up (some seconds)."""
# Nodes up to which sets as good are looked for, of fewer sellers or earlier in order. Where all cost the same
# per record, such sets are very many.
_TIE_NODES = 5_000
# Sellers nearest to indifference, of whom pairs are exchanged in search of a good first set.
_NEAR = 48
_ROUNDS = 8
# If more than so many remain open, all sets of some of them are tried first.
_MANY = 16
_BALANCED = 22
# Where all of them cost the same per record only totals count: then of so many, all sets, half by half.
_HALVED = 40
_DOUBLINGS = 60
_HALVINGS = 30


def applies(problem: BuyerProblem) -> bool:
    """Whether the utility is concave in a sum of sizes >= 0, or a threshold of it without limits.

    With limits, the concave function above a threshold says little: what does not reach it is worth nothing.
    """
    items = problem.items
    if isinstance(items.utility, ThresholdUtility):
        return not problem.is_limited
    return isinstance(items.utility, ConcaveFunction) and not np.any(items.size < 0)


def choose(problem: BuyerProblem, most_nodes: int = MOST_NODES) -> tuple[BoolArray, int]:
    """Best set of sellers, and the number of nodes that it took.

    Raises
    ------
    NotApplicable
        If the utility is neither concave nor a threshold without limits, or after ``most_nodes``.
    """
    if not applies(problem):
        raise NotApplicable(
            "method 'branch_and_bound' needs a concave utility and data of values >= 0, or a threshold "
            f"without limits, not {_described(problem)}; ask for method='auto', or solve the joint program, "
            "market.program().solve()"
        )
    items = problem.items
    if not items.n_items:
        return items.taken(np.zeros(0, dtype=np.intp)), 0
    search = _Search(items, most_nodes)
    search.run()
    return items.taken(np.array(search.best, dtype=np.intp)), search.n_nodes


def _described(problem: BuyerProblem) -> str:
    if isinstance(problem.utility, ThresholdUtility):
        return "a threshold under a cap or a budget"
    return type(problem.utility).__name__


# ------------------------------------------------------------ the bound


@dataclass(frozen=True, eq=False)
class _Fill:
    """Divisible items, taken by cost per size until the next costs more than it is worth.

    Attributes
    ----------
    order : array of int, shape (n_items,)
        By cost per size.
    ratio, wanted : array, shape (n_items,)
        In that order: cost per size, and the total up to which it is worth it.
    size_before, cost_before : array, shape (n_items + 1,)
        Totals of the first items.
    n_whole : int
        Items that are taken whole.
    part, total : float
        What is taken of the next, and of all (size).
    """

    order: IntArray
    ratio: Array
    wanted: Array
    size_before: Array
    cost_before: Array
    n_whole: int
    part: float
    total: float

    @classmethod
    def of(cls, concave: ConcaveFunction, own_size: float, size: Array, cost: Array) -> _Fill:
        ratio = np.where(cost < 0, -np.inf, np.inf)
        np.divide(cost, size, out=ratio, where=size > 0)
        order = np.argsort(ratio, kind="stable")
        ratio = ratio[order]
        wanted = np.where(ratio < 0, np.inf, -np.inf)
        finite = np.isfinite(ratio)
        wanted[finite] = np.maximum(concave.inverse_derivative(ratio[finite]) - own_size, 0.0)
        size_before = np.concatenate(([0.0], np.cumsum(size[order])))
        cost_before = np.concatenate(([0.0], np.cumsum(cost[order])))
        n_whole = int(np.searchsorted(size_before[1:] - wanted, 0.0, side="right"))
        total, part = float(size_before[n_whole]), 0.0
        if n_whole < size.size:
            part = max(float(wanted[n_whole]) - total, 0.0)
        return cls(order, ratio, wanted, size_before, cost_before, n_whole, part, total + part)

    def marginal_value(self, concave: ConcaveFunction, own_size: float) -> float:
        """Value of a little more at the total: between the costs per size of what is in and what is out."""
        low = self.ratio[self.n_whole - 1] if self.n_whole else -np.inf
        high = self.ratio[self.n_whole] if self.n_whole < self.ratio.size else np.inf
        if self.part > 0:
            low = high
        slope = float(np.clip(concave.derivative(own_size + self.total), low, high))
        return slope if np.isfinite(slope) else 0.0


def _majorant(items: Items) -> tuple[ConcaveFunction, float]:
    """Concave function on or above the utility, and the total from which it counts."""
    utility = items.utility
    if isinstance(utility, ThresholdUtility):
        # What falls short by rounding is enough for the threshold: aim a little lower.
        enough = utility.size * (1 - 1e-11)
        if items.own_size < enough:
            return CappedUtility(utility.weight, enough - items.own_size), 0.0
        return CappedUtility(utility.weight, enough), items.own_size
    assert isinstance(utility, ConcaveFunction)
    return utility, items.own_size


def _least_multiplier(excess: Callable[[float], float], unit: float) -> float:
    """Least multiplier found at which a limit is kept, which the excess falls with."""
    if excess(0.0) <= 0:
        return 0.0
    high = unit
    for _ in range(_DOUBLINGS):
        if excess(high) <= 0:
            break
        high *= 2
    low = 0.0 if high == unit else high / 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) <= 0 else (middle, high)
    return high


def _subset_sums(terms: Array) -> Array:
    """Sums of all subsets of the columns, shape (n_terms, 2 ** n_columns); column k is bit k."""
    sums = np.zeros((len(terms), 1))
    for column in terms.T:
        sums = np.hstack((sums, sums + column[:, np.newaxis]))
    return sums


# ------------------------------------------------------------ the search


class _Search:
    """Depth first, from the cheapest per size on; what it knows is the best set so far.

    Parameters
    ----------
    items : Items
    most_nodes : int
    """

    def __init__(self, items: Items, most_nodes: int) -> None:
        self.items, self.most_nodes = items, most_nodes
        self.concave, self.own_size = _majorant(items)
        self.slack = items.tie / 4
        self.cost = items.cost + items.tie
        # Costs with the prices of the limits in them, and what these add to the bound.
        self.priced, self.shift = self._priced()
        self.n_nodes = 0
        self.best: tuple[int, ...] = ()
        self.surplus = float(items.value(0.0))

    def run(self) -> None:
        """Find the best set; it is in ``best``."""
        fill = _Fill.of(self.concave, self.own_size, self.items.size, self.priced)
        p = fill.marginal_value(self.concave, self.own_size)
        gain = p * self.items.size - self.priced
        root = float(self.concave(self.own_size + fill.total)) - p * fill.total + self.shift
        root += float(np.maximum(gain, 0.0).sum())
        near = np.argsort(np.abs(gain), kind="stable")
        self._start(fill, near[:_NEAR])
        settled = root - np.abs(gain) < self.surplus - self.slack
        if np.count_nonzero(~settled) > _MANY:
            self._balance(fill.total, near[:_BALANCED])
            settled = root - np.abs(gain) < self.surplus - self.slack
        inside, open_ = np.flatnonzero(settled & (gain > 0)), np.flatnonzero(~settled)
        if open_.size > _MANY and self.most_nodes > _TIE_NODES and self._is_a_subset_sum(open_):
            most, self.most_nodes = self.most_nodes, _TIE_NODES
            try:
                return self._branch(inside, open_)
            except NotApplicable:
                self.most_nodes = most
            self._balance(fill.total, near[~settled[near]][:_HALVED])
            if open_.size <= _HALVED:
                return  # all sets of the open sellers have been compared
        self._branch(inside, open_)

    def _is_a_subset_sum(self, open_: IntArray) -> bool:
        """Whether the total of the open sellers is all that counts: no limits, and one cost per size."""
        items = self.items
        unlimited = items.cap >= items.n_items and np.isinf(items.budget)
        if not unlimited or isinstance(items.utility, ThresholdUtility) or np.any(items.size[open_] <= 0):
            return False
        return one_value(items.cost[open_] / items.size[open_])

    def _priced(self) -> tuple[Array, float]:
        """Costs with the multipliers of the limits that make the bound at the root least."""
        items, cost = self.items, self.cost
        budget = items.budget + items.tie * items.n_items
        if items.cap >= items.n_items and np.isinf(budget):
            return cost, 0.0

        def fill(mu: float, lam: float) -> _Fill:
            return _Fill.of(self.concave, self.own_size, items.size, (1 + mu) * cost + lam)

        def too_many(mu: float, lam: float) -> float:
            part = fill(mu, lam)
            if not part.part:
                return part.n_whole - items.cap
            return part.n_whole + part.part / float(items.size[part.order[part.n_whole]]) - items.cap

        def best_lam(mu: float) -> float:
            if items.cap >= items.n_items:
                return 0.0
            return _least_multiplier(lambda lam: too_many(mu, lam), float(np.mean(np.abs(cost))) + items.tie)

        def too_dear(mu: float) -> float:
            part = fill(mu, best_lam(mu))
            spent = float(cost[part.order[: part.n_whole]].sum())
            if part.part:
                marginal = part.order[part.n_whole]
                spent += part.part / float(items.size[marginal]) * float(cost[marginal])
            return spent - budget

        mu = 0.0 if np.isinf(budget) else _least_multiplier(too_dear, 1.0)
        lam = best_lam(mu)
        shift = (mu * budget if mu else 0.0) + (lam * items.cap if lam else 0.0)
        return (1 + mu) * cost + lam, shift

    def _start(self, fill: _Fill, near: IntArray) -> None:
        """Take the best beginning of the order, and improve it by exchanging one or two near indifference."""
        items = self.items
        order = fill.order
        n = np.arange(1, order.size + 1)
        allowed = (n <= items.cap) & (np.cumsum(items.cost[order]) <= items.budget)
        net = items.value(fill.size_before[1:]) - np.cumsum(self.cost[order])
        chosen = np.zeros(items.n_items, dtype=bool)
        if allowed.any() and np.max(net[allowed]) > self.surplus:
            chosen[order[: 1 + int(np.argmax(np.where(allowed, net, -np.inf)))]] = True
        self._offer(np.flatnonzero(chosen))
        below = np.tri(near.size + 1, k=-1, dtype=bool)
        for _ in range(_ROUNDS):
            sign = np.append(np.where(chosen[near], -1.0, 1.0), 0.0)

            def change(terms: Array, sign: Array = sign) -> Array:
                flipped = sign * np.append(terms[near], 0.0)
                summed: Array = flipped[:, np.newaxis] + flipped
                return summed

            size = float(items.size[chosen].sum()) + change(items.size)
            net = items.value(np.maximum(size, 0.0)) - float(self.cost[chosen].sum()) - change(self.cost)
            number = int(chosen.sum()) + change(np.ones(items.n_items))
            spent = float(items.cost[chosen].sum()) + change(items.cost)
            net[~below | (number > items.cap) | (spent > items.budget)] = -np.inf
            pair = np.unravel_index(int(np.argmax(net)), net.shape)
            if not net[pair] > self.surplus + self.slack:
                return
            flips = [int(near[i]) for i in pair if i < near.size]
            chosen[flips] = ~chosen[flips]
            self._offer(np.flatnonzero(chosen))

    def _balance(self, total: float, near: IntArray) -> None:
        """Exchange sellers near indifference for a total close to that of the fill.

        Where all cost about the same per size, nothing else counts. All sets of one half of them meet the
        sets of the other half that come closest. Utility less a cost per size is concave in the total, and
        most at that of the fill: where all cost exactly the same, the best of all sets is among them.
        """
        items = self.items
        chosen = np.zeros(items.n_items, dtype=bool)
        chosen[list(self.best)] = True
        sign = np.where(chosen, -1.0, 1.0)
        terms = sign * np.array([items.size, self.cost, items.cost, np.ones(items.n_items)])
        halves = near[::2], near[1::2]
        one, other = (_subset_sums(terms[:, half]) for half in halves)
        order = np.argsort(other[0], kind="stable")
        size = float(items.size[chosen].sum())
        place = np.searchsorted(other[0][order], total - size - one[0])
        for closest in (np.maximum(place - 1, 0), np.minimum(place, order.size - 1)):
            match = order[closest]
            change = one + other[:, match]
            allowed = float(items.cost[chosen].sum()) + change[2] <= items.budget
            allowed &= int(chosen.sum()) + change[3] <= items.cap
            net = np.where(allowed, items.value(np.maximum(size + change[0], 0.0)) - change[1], -np.inf)
            mask = int(np.argmax(net))
            flipped = chosen.copy()
            for half, bits in zip(halves, (mask, int(match[mask])), strict=True):
                flipped[half] ^= (bits >> np.arange(half.size) & 1).astype(bool)
            self._offer(np.flatnonzero(flipped))

    def _offer(self, chosen: IntArray) -> None:
        """Keep a set if it is better than the best, or as good and before it."""
        items = self.items
        if chosen.size > items.cap or float(items.cost[chosen].sum()) > items.budget:
            return
        surplus = float(items.value(float(items.size[chosen].sum()))) - float(self.cost[chosen].sum())
        candidate = tuple(sorted(chosen.tolist()))
        as_good = surplus >= self.surplus - self.slack
        before = (len(candidate), candidate) < (len(self.best), self.best)
        if surplus > self.surplus + self.slack or (as_good and before):
            self.best = candidate
            self.surplus = max(self.surplus, surplus)

    def _worth(self, bound: float) -> bool:
        """Whether a node may hold a better set, or one that is as good and before the best."""
        if self.n_nodes <= _TIE_NODES:
            return bound >= self.surplus - self.slack
        return bound > self.surplus + self.items.tie * self.items.n_items

    def _branch(self, settled: IntArray, open_: IntArray) -> None:
        items = self.items
        own_size = self.own_size + float(items.size[settled].sum())
        fill = _Fill.of(self.concave, own_size, items.size[open_], self.priced[open_])
        item = open_[fill.order]
        # Plain lists: one number at a time, Python is faster than NumPy.
        size, priced, cost = (array[item].tolist() for array in (items.size, self.priced, items.cost))
        ratio, wanted = fill.ratio.tolist(), fill.wanted.tolist()
        size_before, cost_before = fill.size_before.tolist(), fill.cost_before.tolist()
        slack_at = (fill.size_before[1:] - fill.wanted).tolist()
        n_open = item.size
        # Behind a seller who is not taken, nor is any that is just like it.
        unlike = list(range(1, n_open + 1))
        for t in range(n_open - 2, -1, -1):
            if (size[t], priced[t], cost[t]) == (size[t + 1], priced[t + 1], cost[t + 1]):
                unlike[t] = unlike[t + 1]
        # What sellers yet to come may pay back into the budget.
        refund = np.append(np.cumsum(np.minimum(items.cost[item], 0.0)[::-1])[::-1], 0.0).tolist()
        fixed = self.shift - float(self.priced[settled].sum())

        def bound(t: int, total: float, paid: float) -> float:
            """Of sets with this total and cost so far that choose from the items t, t + 1, ..."""
            k = bisect_right(slack_at, size_before[t] - total, lo=t)
            amount = total + size_before[k] - size_before[t]
            spent = paid + cost_before[k] - cost_before[t]
            if k < n_open and wanted[k] > amount:
                spent += (wanted[k] - amount) * ratio[k]
                amount = wanted[k]
            limit: float = float(self.concave(own_size + amount)) - spent + fixed
            return limit

        # A node: next item, total, priced cost, number and cost of all taken, bound, and the items taken.
        node = tuple[int, float, float, int, float, float, tuple[int, ...]]
        stack: list[node] = []
        base = settled.size, float(items.cost[settled].sum())
        stack.append((0, 0.0, 0.0, *base, bound(0, 0.0, 0.0), ()))
        while stack:
            t, total, paid, number, spent, limit, taken = stack.pop()
            self.n_nodes += 1
            if self.n_nodes > self.most_nodes:
                raise NotApplicable(
                    f"branch and bound looked at {self.most_nodes} nodes without an end; solve the joint "
                    "program, market.program().solve()",
                    reason="nodes of branch and bound",
                )
            if not self._worth(limit):
                continue
            if t == n_open:
                self._offer(np.concatenate((settled, item[list(taken)])))
                continue
            # In the fill, t whole changes nothing; outside of it, leaving t out changes nothing.
            whole = slack_at[t] <= size_before[t] - total
            outside = not whole and wanted[t] <= total
            after = unlike[t]
            children: list[node] = []
            skip = limit if outside and after == t + 1 else bound(after, total, paid)
            if self._worth(skip):
                children.append((after, total, paid, number, spent, skip, taken))
            if number < items.cap and spent + cost[t] + refund[t + 1] <= items.budget:
                more = (total + size[t], paid + priced[t])
                take = limit if whole else bound(t + 1, *more)
                if self._worth(take):
                    children.append((t + 1, *more, number + 1, spent + cost[t], take, (*taken, t)))
            # The likelier child last, so that it comes first.
            stack.extend(children if whole or not outside else reversed(children))
