"""What the accuracy-shaping paper says of private costs and is false as printed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.accuracy_shaping.claims.cost_screening import audit
from mechopt.formulations.accuracy_shaping.claims.roads import (
    LEDGER,
    relative,
    search_alone,
    search_most,
    search_two_types,
)
from mechopt.formulations.accuracy_shaping.families import (
    DOUBLED,
    TYPES,
    UNIT,
    Rng,
    TypeCase,
    random_types,
    type_cases,
)
from mechopt.verification.claim import Finding, Verdict
from mechopt.verification.evidence import confirm, row

Array = NDArray[np.float64]


def _printed_menu(case: TypeCase, *, floor: bool) -> tuple[float, float]:
    """(15) clipped at hi_L from above and, if so asked, at hi_H from below; (16)."""
    (low, high), p = case.costs, float(case.probs[0])
    others, accuracy = case.others_data, case.accuracy
    (_, alone_low), (_, alone_high) = (search_alone(accuracy, cost) for cost in case.costs)
    most_low = search_most(accuracy, low, alone_low - 1e-15, others) or 0.0
    most_high = search_most(accuracy, high, alone_high - 1e-15, others) or 0.0
    slope = (low - p * high) / (1 - p)
    wanted = float(accuracy.inverse_derivative(slope)) - others if slope > 0 else np.inf
    m_low = min(max(wanted, most_high), most_low) if floor else min(wanted, most_low)
    m_high = (float(accuracy(m_low + others)) - low * m_low - alone_high) / (high - low)
    return m_low, m_high


def _few_others(rng: Rng, n: int) -> Iterator[TypeCase]:
    """Two viable types, others' data from little to plenty."""
    yield from (TYPES[4],)[:n]
    drawn = type_cases("sqrt", worked=(), low=-1.6, high=-0.4, least=-1.5, most=0.5)
    yield from drawn(rng, n - 1)


@LEDGER.claim(
    "accuracy-shaping/E8",
    source="(15), (16)",
    statement="(15), at most hi_L, and (16) give a menu that can be delivered",
    instances=_few_others,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="accuracy-shaping/R13",
    n_instances=20,
)
def printed_menu_is_feasible(case: TypeCase) -> Finding:
    """Compute what the costly type would be promised, and what model there is for it."""
    accuracy, high = case.accuracy, case.costs[1]
    _, m_high = _printed_menu(case, floor=False)
    _, alone = search_alone(accuracy, high)
    promised, there = alone + high * m_high, float(accuracy(max(m_high, 0.0) + case.others_data))
    if promised <= there + 1e-9:
        return Finding(0.0, f"promised {promised:.6g} of {there:.6g}")
    most = search_most(accuracy, high, alone - 1e-15, case.others_data) or 0.0
    confirm(m_high > most, f"by trying, the costly type can be led to {most:.6g} at most")
    best = case.screening().solve()
    confirm(audit(case.screening(), best).ok(1e-9), "the optimal menu passes the audit")
    return Finding(
        (promised - there) / accuracy.max_accuracy,
        f"(16) asks the costly type for {m_high:.6g} and promises {promised:.6g}, but {there:.6g} is there; "
        f"it can be led to {most:.6g} at most; the optimal menu asks {row(best['contribution'])}",
    )


def _clipped_below(rng: Rng, n: int) -> Iterator[TypeCase]:
    """Little data of others, a cheap type that is rare and hardly cheaper, both viable."""
    yield from (TYPES[5],)[:n]
    left = n - 1
    while left > 0:
        case = random_types(rng, low=-1.4, high=-0.5, least=-1.5, most=0.0)
        case = TypeCase(case.accuracy, case.costs, (1, int(rng.integers(5, 30))), case.others_data)
        (low, high), accuracy = case.costs, case.accuracy
        most = search_most(accuracy, high, search_alone(accuracy, high)[1] - 1e-15, case.others_data) or 0.0
        if high < accuracy.viability_cost and float(accuracy.derivative(most + case.others_data)) > low:
            left -= 1
            yield case


@LEDGER.claim(
    "accuracy-shaping/E8-clip",
    source="(15), (16)",
    statement="Where (16) exceeds hi_H, the costly type is asked for hi_H, and the cheap one for (15), "
    "clipped to hi_H and hi_L",
    instances=_clipped_below,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="accuracy-shaping/R13",
    n_instances=12,
)
def clipping_at_the_costly_types_most(case: TypeCase) -> Finding:
    """Value the menu clipped at hi_H, against the optimum by recursion and by trying."""
    accuracy, (low, high) = case.accuracy, case.costs
    m_low, m_high = _printed_menu(case, floor=True)
    most = search_most(accuracy, high, search_alone(accuracy, high)[1] - 1e-15, case.others_data) or 0.0
    if m_high < most * (1 - 1e-9):
        return Finding(0.0, f"(16) is {m_high:.6g}, below hi_H = {most:.6g}", applies=False)
    value = float(case.probs @ [m_low, most])
    screening = case.screening()
    best = screening.solve()
    tried, _, _ = search_two_types(accuracy, case.costs, case.probs, case.others_data)
    confirm(audit(screening, best).ok(1e-9), "the optimal menu passes the audit")
    confirm(relative(tried, best.objective) <= 1e-6, f"by trying the best value is {tried:.7g}")
    return Finding(
        (best.objective - value) / best.objective,
        f"b'(hi_H + S) = {float(accuracy.derivative(most + case.others_data)):.6g}, c_L = {low:g}: clipped "
        f"{row([m_low, most])} has value {value:.7g}, {row(best['contribution'])} has {best.objective:.7g}",
    )


@LEDGER.claim(
    "accuracy-shaping/E9",
    source="Theorem B.3",
    statement="The cheap type's rent is M(m_L*) - a(m_L*)",
    instances=type_cases("sqrt", "power", worked=TYPES[1:4], least=0.3),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="accuracy-shaping/R15",
    n_instances=40,
)
def printed_rent(case: TypeCase) -> Finding:
    """Read the reward at m_L* off the lines of (14), and compare with the rent of the audited optimum."""
    accuracy, (low, high) = case.accuracy, case.costs
    screening = case.screening()
    best = screening.solve()
    confirm(audit(screening, best).ok(1e-9), "the optimal menu passes the audit")
    value, _, _ = search_two_types(accuracy, case.costs, case.probs, case.others_data)
    confirm(
        abs(value - best.objective) <= 1e-6 * accuracy.max_accuracy / low,
        f"by trying the best value is {value:.7g}",
    )
    (start, alone_low), (start_high, alone_high) = (search_alone(accuracy, cost) for cost in case.costs)
    true = float(best["allocated_accuracy"][0] - low * best["contribution"][0]) - alone_low
    lines = max(0.0, alone_high + (high - low) * float(best["contribution"][1]) - alone_low)
    confirm(
        abs(true - lines) <= 1e-6 * accuracy.max_accuracy,
        f"what the cheap type could have from the costly one's contract is a rent of {lines:.6g}",
    )
    curve = min(alone_high + high * start, alone_low + true + low * start)
    curve = min(curve, float(accuracy(start + case.others_data)))
    printed = (curve if start > start_high else float(accuracy(start))) - float(accuracy(start))
    m_low, m_high = (float(m) for m in best["contribution"])
    return Finding(
        abs(printed - true) / accuracy.max_accuracy,
        f"m_L* = {start:.6g}, m_L = {m_low:.6g}, m_H = {m_high:.6g}: printed {printed:.6g}, true {true:.6g}",
    )


@LEDGER.claim(
    "accuracy-shaping/E9-alone",
    source="Theorem B.1",
    statement="Every type contributes at least what it would alone",
    instances=type_cases(
        "sqrt",
        "power",
        worked=(TypeCase(UNIT, (0.01, 0.05), (1, 20), 200.0),),
        low=-1.5,
        high=0.1,
        least=0.3,
    ),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="accuracy-shaping/R14",
    n_instances=60,
)
def at_least_as_much_as_alone(case: TypeCase) -> Finding:
    """Compare the optimum, confirmed by trying, with standalone contributions."""
    best = case.screening().solve()
    alone, _ = search_alone(case.accuracy, case.costs[0])
    m_low = float(best["contribution"][0])
    if m_low >= alone or alone == 0:
        return Finding(0.0, f"m_L = {m_low:.6g}, m_L* = {alone:.6g}", applies=alone > 0)
    value, tried, _ = search_two_types(case.accuracy, case.costs, case.probs, case.others_data)
    confirm(relative(value, best.objective) <= 1e-6, f"by trying the best value is {value:.7g}")
    confirm(audit(case.screening(), best).ok(1e-9), "the optimal menu passes the audit")
    regime = case.screening().regime
    return Finding((alone - m_low) / alone, f"{regime}: m_L = {m_low:.6g} ({tried:.6g}), m_L* = {alone:.6g}")


@LEDGER.claim(
    "accuracy-shaping/E10-doubled",
    source="Example B.4",
    statement="With equally likely types the cheap one gives its most, whatever the ratio of costs",
    instances=type_cases(
        "sqrt",
        worked=(TypeCase(UNIT, (0.01, 0.019), (1, 1), 200.0), DOUBLED),
        low=-1.5,
        high=-0.5,
        least=0.5,
    ),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="accuracy-shaping/R16",
    n_instances=20,
)
def cheap_type_gives_its_most(case: TypeCase) -> Finding:
    """Make the types equally likely, and compare with what the cheap one gives at known cost."""
    equal = TypeCase(case.accuracy, case.costs, (1, 1), case.others_data)
    best = equal.screening().solve()
    _, alone = search_alone(case.accuracy, case.costs[0])
    most = search_most(case.accuracy, case.costs[0], alone - 1e-15, case.others_data) or 0.0
    value, tried, _ = search_two_types(case.accuracy, case.costs, equal.probs, case.others_data)
    confirm(relative(value, best.objective) <= 1e-6, f"by trying the best value is {value:.7g}")
    m_low = float(best["contribution"][0])
    told = (
        f"ratio {case.costs[1] / case.costs[0]:.4g}, {equal.screening().regime}: m_L = {m_low:.7g} "
        f"({tried:.7g} by trying), {m_low / most:.4g} of its most"
    )
    return Finding((most - m_low) / most, told)


@LEDGER.claim(
    "accuracy-shaping/R17-draws",
    source="Appendix B, others' data as a given number",
    statement="What the menu promises for expected data of others can be delivered whatever types they have",
    instances=type_cases("sqrt", worked=(TYPES[4], TYPES[0]), high=-0.1),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="accuracy-shaping/R17",
    n_instances=10,
)
def promises_hold_for_every_draw(case: TypeCase) -> Finding:
    """Let all others be of the costliest type, and train the model on what there is."""
    n_agents = 5
    menu = case.screening().mean_field(n_agents)
    own, promised = float(menu["contribution"][0]), float(menu["allocated_accuracy"][0])
    worst = own + (n_agents - 1) * float(menu["contribution"][-1])
    expected = own + float(menu["others_data"])
    confirm(promised <= float(case.accuracy(expected)) + 1e-9, "with expected data the promise holds")
    value, _, _ = search_two_types(case.accuracy, case.costs, case.probs, float(menu["others_data"]))
    confirm(
        relative(value, float(case.probs @ menu["contribution"])) <= 1e-5
        and relative((n_agents - 1) * value, float(menu["others_data"])) <= 1e-5,
        f"by trying, the best menu given the others' data asks for {value:.6g} on average, as do theirs",
    )
    short = promised - float(case.accuracy(worst))
    told = (
        f"N = {n_agents}: the cheap type is promised {promised:.6g}, which {expected:.6g} data points give; "
        f"if all others are costly there are {worst:.6g}, which give {promised - short:.6g}"
    )
    return Finding(short / case.accuracy.max_accuracy, told)
