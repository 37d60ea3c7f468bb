"""The accuracy-shaping paper's results on agents alone, and on the bound (2): all of them hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.accuracy_shaping import closed_form as oracle
from mechopt.formulations.accuracy_shaping.claims.roads import (
    LEDGER,
    relative,
    search_alone,
    search_viability,
    worst_of,
)
from mechopt.formulations.accuracy_shaping.families import Case, Rng, cases, short
from mechopt.formulations.functions import GeneralizationBound, SqrtAccuracy
from mechopt.verification.claim import Finding
from mechopt.verification.evidence import largest, row

Array = NDArray[np.float64]


def printed_bound(accuracy: GeneralizationBound, m: Array) -> Array:
    """Evaluate (2) as the paper prints it, clipped at 0; NaN where it has no value."""
    k = accuracy.difficulty
    with np.errstate(invalid="ignore"):
        root = np.sqrt(2 * k * (2 + np.log(m / k)))
        return np.asarray(np.maximum(accuracy.max_accuracy - (root + 4) / np.sqrt(m), 0.0))


def bounds(rng: Rng, n: int) -> Iterator[GeneralizationBound]:
    """Bounds of all difficulties, easy ones included."""
    yield from (GeneralizationBound(0.95, k) for k in (1000.0, 131.0, 1.0)[:n])
    for _ in range(n - 3):
        yield GeneralizationBound(round(float(rng.uniform(0.5, 1)), 2), short(10 ** rng.uniform(-1, 4)))


@LEDGER.claim(
    "accuracy-shaping/S2-bound",
    source="(1), (2), on the main branch",
    statement="From its largest root on, which is at 8.2 k or more, (2) grows, is concave, and stays below "
    "its limit; below, accuracy is 0",
    instances=bounds,
    tolerance=1e-9,
    n_instances=60,
)
def bound_on_its_main_branch(accuracy: GeneralizationBound) -> Finding:
    """Evaluate the printed formula from the root on; take second differences; look for later roots."""
    top, root = accuracy.max_accuracy, accuracy.min_viable_data
    m = root * np.geomspace(1, 1e6, 2000)
    printed = printed_bound(accuracy, m)
    slopes = np.diff(printed) / np.diff(m) * root / top
    below = root * np.geomspace(1e-6, 1 - 1e-9, 500)
    gaps = {
        "formula": largest(accuracy(m) - printed) / top,
        "root": max(float(printed[0]), float(8.2 * accuracy.difficulty > root)) / top,
        "falls": float(np.max(-slopes)),
        "bends up": float(np.max(np.diff(slopes))) - 1e-10,
        "limit": float(np.max(printed)) - top,
        "below": largest(accuracy(below)),
        "positive": float(printed[1] <= 0),
    }
    return worst_of(gaps, f"root {root:.8g}, {root / accuracy.difficulty:.6g} k")


@LEDGER.claim(
    "accuracy-shaping/R1",
    source="Theorem 2.3; (6)",
    statement="Alone an agent takes b'(m*) = c below the cost max b(m)/m, else 0; m*, u* fall, u*' = -m*",
    instances=cases("sqrt", "bound", "power"),
    tolerance=1e-6,
    n_instances=90,
)
def standalone_optimum(case: Case) -> Finding:
    """Try all amounts; differentiate utility in the cost; find the highest worthwhile cost by trying."""
    accuracy, alone = case.accuracy, case.shaping().standalone()
    tried = np.array([search_alone(accuracy, cost) for cost in case.costs])
    costs = np.array(case.costs)
    order = np.argsort(costs)
    limit = search_viability(accuracy)
    size, top = np.maximum(alone.contribution, accuracy.viability_data), accuracy.max_accuracy
    step = 1e-5
    above, below = (Case(accuracy, tuple(costs * (1 + s))).shaping().standalone() for s in (step, -step))
    slope = (above.utility - below.utility) / (2 * step * costs)
    # At the viability cost itself utility has a kink.
    smooth = np.abs(costs / limit - 1) > 10 * step
    drops = np.diff(np.column_stack([alone.contribution / size.max(), alone.utility / top])[order], axis=0)
    gaps = {
        "utility": largest(alone.utility - tried[:, 1]) / top,
        "contribution": largest((alone.contribution - tried[:, 0]) / size),
        "viability": float(np.any(alone.viable != (costs < limit))),
        "viability cost": relative(accuracy.viability_cost, limit),
        "order": float(np.max(drops, initial=0.0)),
        "slope": largest(((slope + alone.contribution) / size)[smooth]),
    }
    return worst_of(gaps, f"m* {row(alone.contribution)}, by trying {row(tried[:, 0])}")


@LEDGER.claim(
    "accuracy-shaping/R2",
    source="Examples 2.2 and 2.4; (3)",
    statement="Under (3) and power laws m*, u*, m_min and c_max have closed forms; (3): m* = (k/c²)^(1/3)",
    instances=cases("sqrt", "power"),
    tolerance=1e-9,
    n_instances=100,
)
def standalone_closed_forms(case: Case) -> Finding:
    """Compare formulas with the exact answer and with trying; under (3) with the paper's in k and c."""
    accuracy, alone = case.accuracy, case.shaping().standalone()
    costs = np.array(case.costs)
    m, u = oracle.standalone(accuracy, costs)
    tried = np.array([search_alone(accuracy, cost)[1] for cost in case.costs])
    top, size = accuracy.max_accuracy, accuracy.viability_data
    gaps = {
        "contribution": largest((m - alone.contribution) / np.maximum(alone.contribution, size)),
        "utility": max(largest(u - alone.utility), largest(u - tried)) / top,
        "viability cost": relative(oracle.viability_cost(accuracy), search_viability(accuracy)),
        "root": abs(float(accuracy.concave_part(accuracy.min_viable_data))) / top,
    }
    if isinstance(accuracy, SqrtAccuracy):
        k = accuracy.difficulty
        least = 4 * k / top**2
        gaps["m_min"] = relative(accuracy.min_viable_data, least)
        gaps["c_max"] = relative(oracle.viability_cost(accuracy), top**3 / (27 * k))
        gaps["slope at m_min"] = relative(float(accuracy.concave_part_derivative(least)), top**3 / (8 * k))
        gaps["m* at c_max"] = relative(float(accuracy.inverse_derivative(top**3 / (27 * k))), 9 * k / top**2)
        viable = costs < top**3 / (27 * k)
        gaps["(3)"] = largest((m / (k ** (1 / 3) * costs ** (-2 / 3)) - 1)[viable])
    return worst_of(
        gaps, f"m* {row(m)}, exact {row(alone.contribution)}; u* {row(u)}, by trying {row(tried)}"
    )
