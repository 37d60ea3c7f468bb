"""The log model in rationals: quantities, payments and who gains by deviating, without rounding.

Logarithms occur in values alone, not in quantities, payments or incentives. Nothing here is shared with the
mechanism, nor with the fractions that checks compute themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from mechopt.formulations.functions import LogGain
from mechopt.formulations.screening.families import Case, SlackCase, UniformCase
from mechopt.solvers.errors import NotApplicable
from mechopt.verification.evidence import fraction, fractions

Fractions = tuple[Fraction, ...]


def _parameters(case: Case | UniformCase) -> tuple[Fraction, Fraction, Fraction]:
    """Weight, scale and unit cost of the log model."""
    if not isinstance(case.gain, LogGain):
        raise NotApplicable("only log gains have rational quantities")
    return fraction(case.gain.weight), fraction(case.gain.scale), fraction(case.unit_cost)


def _money(case: Case) -> Fraction:
    """Scale of the gaps of claims, which is a logarithm, to six digits."""
    return fraction(f"{case.contract().scales()[1]:.6g}")


def pointwise(case: Case, burden: Sequence[Fraction]) -> Fractions:
    """Maximise p w log(1 + a d q) - B q type by type; nothing where that would be negative."""
    weight, scale, _ = _parameters(case)
    types, whole = fractions(case.types), sum(case.weights)
    return tuple(
        max(weight * w / (whole * b) - 1 / (scale * d), Fraction(0))
        for w, b, d in zip(case.weights, burden, types, strict=True)
    )


def burdens(case: Case) -> Fractions:
    """Expected cost of a unit for each type, with the rents that it leaves to all cheaper ones."""
    types, weights, cost = fractions(case.types), case.weights, fraction(case.unit_cost)
    whole = sum(weights)
    return tuple(
        cost * (weights[k] * d + sum(weights[:k]) * (d - types[k - 1] if k else 0)) / whole
        for k, d in enumerate(types)
    )


def equal_burdens(case: Case) -> Fractions:
    """What (42) prints, k d_k - (k - 1) d_{k-1}, at the true probabilities."""
    types, cost, whole = fractions(case.types), fraction(case.unit_cost), sum(case.weights)
    printed = [(k + 1) * d - (k * types[k - 1] if k else 0) for k, d in enumerate(types)]
    return tuple(cost * w * phi / whole for w, phi in zip(case.weights, printed, strict=True))


def rents(types: Fractions, quantity: Fractions, cost: Fraction) -> Fractions:
    """Rents that (41) leaves: what the steps up to each higher type are worth, summed."""
    n = len(types)
    return tuple(
        sum((cost * (types[j] - types[j - 1]) * quantity[j] for j in range(k + 1, n)), Fraction(0))
        for k in range(n)
    )


def envy(types: Fractions, quantity: Fractions, rent: Fractions, cost: Fraction) -> Fraction:
    """Most that a type gains by another's contract: its rent and the difference in costs, less its own."""
    n = len(types)
    return max(
        rent[j] + cost * (types[j] - types[k]) * quantity[j] - rent[k] for k in range(n) for j in range(n)
    )


# ------------------------------------------------------------ gaps


def _envied(case: Case, burden: Fractions) -> Fraction:
    types, quantity, cost = fractions(case.types), pointwise(case, burden), fraction(case.unit_cost)
    return envy(types, quantity, rents(types, quantity, cost), cost) / _money(case)


def envy_of_printed_formula(case: Case) -> Fraction:
    """Most that somebody gains by another's contract in (42)."""
    return _envied(case, equal_burdens(case))


def envy_of_formula(case: Case) -> Fraction:
    """Most that somebody gains by another's contract in (29) on a grid."""
    return _envied(case, burdens(case))


def all_incentives_bind(case: Case) -> Fraction:
    """Largest loss by another's contract at the optimum, which is pointwise if that falls."""
    types, cost, quantity = fractions(case.types), fraction(case.unit_cost), pointwise(case, burdens(case))
    if any(a < b for a, b in pairwise(quantity)):
        raise NotApplicable("types are pooled: their quantity is the root of a polynomial")
    rent, n = rents(types, quantity, cost), len(types)
    lost = max(
        rent[k] - rent[j] - cost * (types[j] - types[k]) * quantity[j] for k in range(n) for j in range(n)
    )
    return lost / _money(case)


def lower_payments_below(case: SlackCase) -> Fraction:
    """Rents after the printed step: types below k have lost the slack, and the others have what they had."""
    types, quantity, cost = fractions(case.types), fractions(case.quantity), fraction(case.unit_cost)
    rent = list(rents(types, quantity, cost))
    for j in range(case.slack_at):
        rent[j] += case.slack  # as the menu has it: the constraint of k is slack, those below bind
    rent = [r - case.slack if j < case.slack_at - 1 else r for j, r in enumerate(rent)]
    k = case.slack_at - 1
    slack = rent[k] - rent[k + 1] - cost * (types[k + 1] - types[k]) * quantity[k + 1]
    return max(envy(types, quantity, tuple(rent), cost), slack)


def _uniform(case: UniformCase) -> tuple[Fraction, Fraction, Fraction]:
    """Lowest and highest type, and the highest that is served."""
    weight, scale, cost = _parameters(case)
    lo, hi, ratio = fraction(case.lo), fraction(case.hi), weight * scale / cost
    return lo, hi, hi if ratio >= 2 - lo / hi else max(lo, lo / (2 - ratio))


def rent_grows_with_type(case: UniformCase) -> Fraction:
    """The derivative of the rent's closed form at the middle of the types served, against f q."""
    weight, scale, cost = _parameters(case)
    lo, hi, cutoff = _uniform(case)
    eps = (lo + cutoff) / 2
    quantity = weight / (cost * (2 * eps - lo)) - 1 / (scale * eps)
    slope = cost / (scale * eps) - weight / (2 * eps - lo)
    return abs(slope - quantity / (hi - lo)) / abs(slope)


def grid_reaches_the_highest_type(case: UniformCase) -> Fraction:
    """What the grid leaves out of the range, if no contract then suits the highest type."""
    weight, scale, cost = _parameters(case)
    lo, hi, _ = _uniform(case)
    types = tuple(lo + k * (hi - lo) / 10 for k in range(10))
    quantity = tuple(max(weight / (cost * (2 * d - lo)) - 1 / (scale * d), Fraction(0)) for d in types)
    rent = rents(types, quantity, cost)
    left = max(u - cost * (hi - d) * q for u, d, q in zip(rent, types, quantity, strict=True))
    return (hi - types[-1]) / (hi - lo) if left < 0 or not quantity[-1] else Fraction(0)


def quantities_come_closer(case: UniformCase) -> Fraction:
    """Whether both quantities, each where its own marginal gain meets its own burden, do not come closer."""
    weight, scale, cost = _parameters(case)
    lo, hi, _ = _uniform(case)
    distances = []
    for n in (10, 20):
        step, distance = (hi - lo) / n, Fraction(0)
        for k in range(n):
            d = lo + k * step
            discrete = cost * (d / n + Fraction(k, n) * (step if k else 0))
            continuous = cost * (d / (hi - lo) + (d - lo) / (hi - lo))
            # p w a d / (1 + a d q) = B for q, with the probability or density of each.
            q_k = (weight * scale * d / n / discrete - 1) / (scale * d)
            q = (weight * scale * d / (hi - lo) / continuous - 1) / (scale * d)
            distance = max(distance, abs(q_k - q))
        distances.append(distance)
    return Fraction(distances[1] >= distances[0])
