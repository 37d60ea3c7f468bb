"""Square-root accuracies in rationals: what a comparison of roots says of the numbers under them.

Optima are cube roots and the like, but whether an agent is viable, a pool exists, or somebody gains by
contributing can be told without them. Nothing here is shared with the mechanism.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from mechopt.formulations.accuracy_shaping.claims.structure import least_seed
from mechopt.formulations.accuracy_shaping.families import Case, EqualCase, OthersCase, short
from mechopt.formulations.functions import AccuracyFunction, SqrtAccuracy
from mechopt.solvers.errors import NotApplicable
from mechopt.verification.evidence import fraction, fractions

Fractions = tuple[Fraction, ...]

MARGIN = Fraction(1, 1000)
"""Of the least cost, as claims have it."""

STEPS = 400
"""Amounts of data that are tried."""


def _curve(accuracy: AccuracyFunction) -> tuple[Fraction, Fraction]:
    """A and k of A - 2 sqrt(k / m)."""
    if not isinstance(accuracy, SqrtAccuracy):
        raise NotApplicable(f"{type(accuracy).__name__} is not rational where it is compared")
    return fraction(accuracy.max_accuracy), fraction(accuracy.difficulty)


def is_viable(accuracy: AccuracyFunction, cost: Fraction, seed: Fraction = Fraction(0)) -> bool:
    """Whether some m > 0 is worth its cost: A - 2 sqrt(k / (m + s)) > c m.

    The difference has its top, A + c s - 3 (k c)^(1/3), at (m + s)^3 = k / c^2, if that is above s^3;
    otherwise it falls from m = 0 on, where it is the accuracy of the seed.
    """
    top, k = _curve(accuracy)
    if k < cost**2 * seed**3:
        return top**2 * seed > 4 * k
    return (top + cost * seed) ** 3 > 27 * k * cost


def tried(accuracy: AccuracyFunction) -> list[tuple[Fraction, Fraction]]:
    """Amounts of data whose accuracy is rational, m = (4 k / A^2) r^2, and that accuracy, A (1 - 1 / r)."""
    top, k = _curve(accuracy)
    ratios = [1 + Fraction(i, 20) for i in range(1, STEPS)]
    return [(4 * k / top**2 * r**2, top * (1 - 1 / r)) for r in ratios]


def pool_bounds(accuracy: AccuracyFunction, costs: Sequence[Fraction]) -> tuple[Fraction, Fraction] | None:
    """Two amounts that are tried with the largest M = sum a(M) / c between them; None if there are none.

    Accuracy is concave where it is positive, so what falls short just above a pool does so from there on.
    """
    rate, points = sum((1 / cost for cost in costs), Fraction(0)), tried(accuracy)
    enough = [i for i, (data, reached) in enumerate(points) if rate * reached >= data]
    if not enough or enough[-1] + 1 == len(points):
        return None
    return points[enough[-1]][0], points[enough[-1] + 1][0]


# ------------------------------------------------------------ gaps


def only_one_contributes(case: EqualCase) -> Fraction:
    """Part of the pool by which equal shares differ from one agent's m*, where they are an equilibrium.

    At b'(M) = c accuracy is A - 2 c M. Above its root each utility is concave in the agent's own data, with
    its top at M: nobody gains, unless giving nothing is better: A < 2 c M + c M / n, where (c M)^3 = c k.
    """
    top, k = _curve(case.accuracy)
    n, cost = case.n_agents, fraction(case.cost)
    if n == 1 or cost * k * (2 + Fraction(1, n)) ** 3 > top**3:
        return Fraction(0)
    return 1 - Fraction(1, n) if is_viable(case.accuracy, cost) else Fraction(1, n)


def unique_always(case: Case) -> Fraction:
    """Whether both no pool and one are equilibria, with the margin.

    If nobody is viable alone, nothing is one. At the largest pool each has the margin on its data: fewer
    leave less, and more do not pay where accuracy rises by no more than the least cost, k <= c^2 M^3.
    """
    costs, (_, k) = fractions(case.costs), _curve(case.accuracy)
    margin = MARGIN * min(costs)
    if any(is_viable(case.accuracy, cost) for cost in costs):
        return Fraction(0)
    pool = pool_bounds(case.accuracy, [cost + margin for cost in costs])
    if pool is None or k > min(costs) ** 2 * pool[0] ** 3:
        raise NotApplicable("no amount that is tried shows that there is a pool")
    return Fraction(1)


def zero_is_worse(case: Case) -> Fraction:
    """Whether there is a pool without anybody who is viable alone: it leaves a(M) - c a(M) / c = 0."""
    costs = fractions(case.costs)
    if any(is_viable(case.accuracy, cost) for cost in costs):
        return Fraction(0)
    if pool_bounds(case.accuracy, costs) is None:
        raise NotApplicable("no amount that is tried shows that there is a pool")
    return Fraction(1)


def any_seed_suffices(case: Case) -> Fraction:
    """Whether nobody gains by contributing to nine tenths of the least seed."""
    costs = fractions(case.costs)
    seed = fraction(short(0.9 * least_seed(case.accuracy, float(min(costs)))))
    return Fraction(not any(is_viable(case.accuracy, cost, seed) for cost in costs))


def line_is_feasible(case: OthersCase) -> Fraction:
    """What the line promises where there is no accuracy, if some further amount is worth its cost."""
    top, k = _curve(case.accuracy)
    cost, others = fraction(case.cost), fraction(case.others_data)
    least = 4 * k / top**2
    goes_on = any(reached >= cost * (data - others) for data, reached in tried(case.accuracy))
    if is_viable(case.accuracy, cost) or others >= least or not goes_on:
        return Fraction(0)
    return cost * (least - others) / top
