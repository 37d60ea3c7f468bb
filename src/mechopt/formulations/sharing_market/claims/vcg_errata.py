"""The sharing-market paper's statements on VCG and mixed-VCG that are false as printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import AdditiveUtility, ConcaveFunction
from mechopt.formulations.sharing_market.claims import exact_gaps as exactly
from mechopt.formulations.sharing_market.claims.roads import LEDGER
from mechopt.formulations.sharing_market.claims.vcg import (
    NO_SALE,
    ONE_SALE,
    RISING,
    WORKED,
    BaseCase,
    realised,
    size_of,
)
from mechopt.formulations.sharing_market.claims.whole_graphs import WholeGraphs
from mechopt.formulations.sharing_market.families import (
    CONCAVE,
    EVERY,
    MarketCase,
    Rng,
    markets,
    random_market,
)
from mechopt.formulations.sharing_market.misreports import misreported
from mechopt.formulations.sharing_market.vcg import Pivot
from mechopt.verification.claim import Finding, Verdict
from mechopt.verification.evidence import confirm, row

Array = NDArray[np.float64]

_SAME = 1e-9
"""Relative difference of the mechanism's numbers and those found graph by graph."""


def _borne_out(value: float, other: float, size: float, what: str) -> None:
    confirm(abs(value - other) <= _SAME * size, f"graph by graph {what} is {other:.9g}")


@LEDGER.claim(
    "sharing-market/E9",
    source="Proposition 5.1; (20)",
    statement="With (20) as printed nobody loses by taking part",
    instances=markets(*EVERY, worked=WORKED),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R15-rational",
    n_instances=60,
    confirm_exactly=exactly.drop_is_rational,
)
def drop_is_rational(case: MarketCase) -> Finding:
    """Compare payoffs with own data alone; confirm them graph by graph."""
    outcome, whole = case.market().vcg("drop"), WholeGraphs(case.market())
    size = size_of(whole)
    agent = outcome.participation.agent
    lost = float((whole.outside - whole.payoff("drop"))[agent])
    _borne_out(outcome.participation.gain, lost, size, f"the loss of agent {agent}")
    return Finding(
        lost / size,
        f"agent {agent} ends with {outcome.payoff[agent]:.6g}, and with {whole.outside[agent]:.6g} outside; "
        f"payments {row(outcome.payment)}",
    )


# ------------------------------------------------------------ truth


@dataclass(frozen=True)
class ReportCase:
    """An agent of a market says that its data is worth this many times as much."""

    case: MarketCase
    pivot: Pivot
    agent: int
    factor: float


def _reports(rng: Rng, n: int) -> Iterator[ReportCase]:
    yield from (ReportCase(ONE_SALE, "drop", 1, factor) for factor in (2.0, 10.0))
    for turn in range(n - 2):
        case = random_market(rng, "log", "sqrt", "linear", max_agents=3)
        pivot: Pivot = ("exclude", "drop")[turn % 2]
        yield ReportCase(
            case, pivot, int(rng.integers(case.n_agents)), round(float(np.exp(rng.normal(0, 0.7))), 2)
        )


@LEDGER.claim(
    "sharing-market/E10",
    source="Proposition 5.1",
    statement="Truth is a dominant strategy in mixed-VCG, whatever is private",
    instances=_reports,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R15-public",
    n_instances=80,
    confirm_exactly=exactly.mixed_is_truthful,
)
def mixed_is_truthful(instance: ReportCase) -> Finding:
    """Value the outcome of a report by the truth; confirm by inverting the reported utility by hand."""
    market, agent = instance.case.market(), instance.agent
    truth = market.mixed_vcg(instance.pivot)
    claimed = misreported(market, agent, instance.factor, 1.0, 1.0)
    lie = claimed.mixed_vcg(instance.pivot)
    if not (truth.realised and lie.realised):
        return Finding(0.0, applies=False)
    whole, reported = WholeGraphs(market), WholeGraphs(claimed)
    size = size_of(whole)
    gain = float(lie.payoff_in(market)[agent] - truth.payoff[agent])
    # By hand: r U(w) = r U(1) - t^d, so that the truth is U(w) = U(1) - t^d / r.
    payment = float(reported.payment(instance.pivot, lie.adjacency)[agent])
    data_payment = float(lie.data_payment[agent])
    value = float(whole.value_at(lie.adjacency)[agent]) - data_payment / instance.factor
    by_hand = value - (payment - data_payment) - float(whole.payoff(instance.pivot)[agent])
    _borne_out(gain, by_hand, size * max(1.0, instance.factor), "the gain, the report inverted by hand,")
    return Finding(
        gain / size,
        f"reporting {instance.factor:g} U, agent {agent} has {lie.payoff_in(market)[agent]:.6g}, and "
        f"{truth.payoff[agent]:.6g} with the truth; data payment {data_payment:.6g}",
    )


# ------------------------------------------------------------ balance


def printed_split(payment: Array) -> Array:
    """Data payments by (23)-(26) as printed, the sum in (26) running from n + 1 to N."""
    delta, data = float(payment.sum()), np.zeros(payment.size)
    order = np.argsort(-payment, kind="stable")
    if delta > 0:
        for rank, agent in enumerate(order):
            data[agent] = min(payment[agent], delta - data[order[:rank]].sum())
    elif delta < 0:
        for rank in range(payment.size - 1, -1, -1):
            data[order[rank]] = max(payment[order[rank]], delta - data[order[rank + 1 :]].sum())
    return data


@LEDGER.claim(
    "sharing-market/E11",
    source="(23)-(27)",
    statement="With (24) and (26) as printed, money payments sum to 0",
    instances=markets(*EVERY, worked=WORKED),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R14-split",
    n_instances=60,
    confirm_exactly=exactly.printed_recursion_balances,
)
def printed_recursion_balances(case: MarketCase) -> Finding:
    """Split as printed, with i excluded."""
    return _balance(case, printed_split)


@LEDGER.claim(
    "sharing-market/E6-sum",
    source="(25)-(27)",
    statement="With the sum in (26) as printed, from j = N up to n + 1, money payments of a deficit sum to 0",
    instances=markets(*EVERY, worked=WORKED),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R14-split",
    n_instances=60,
    confirm_exactly=exactly.printed_sum_balances,
)
def printed_sum_balances(case: MarketCase) -> Finding:
    """A sum that runs up from N to less than N is empty: all agents below the last cover Delta anew."""
    return _balance(case, lambda payment: np.maximum(payment, min(float(payment.sum()), 0.0)), deficit=True)


def _balance(case: MarketCase, split: Callable[[Array], Array], *, deficit: bool = False) -> Finding:
    """Sum money payments after a split; confirm that VCG payments are those found graph by graph."""
    outcome = case.market().vcg("exclude")
    whole = WholeGraphs(case.market())
    payment, size = whole.payment("exclude", outcome.adjacency), size_of(whole)
    data = split(payment)
    for agent in range(case.n_agents):
        _borne_out(
            float(outcome.payment[agent]), float(payment[agent]), size, f"the payment of agent {agent}"
        )
    return Finding(
        abs(float((payment - data).sum())) / size,
        f"VCG payments {row(payment)}, data payments {row(data)}: money sums to {(payment - data).sum():.6g}",
        not deficit or float(payment.sum()) < -1e-6 * size,
    )


# ------------------------------------------------------------ welfare


@LEDGER.claim(
    "sharing-market/E12",
    source="Proposition 5.1, introduction of section 5.2",
    statement="Mixed-VCG implements the same SW^T as VCG",
    instances=markets(*CONCAVE, worked=WORKED),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R15",
    n_instances=40,
    confirm_exactly=exactly.mixed_keeps_total_welfare,
)
def mixed_keeps_total_welfare(case: MarketCase) -> Finding:
    """Compare values of the weighted graph with the most of any graph; confirm that Delta is between them."""
    gap, told = 0.0, ""
    whole = WholeGraphs(case.market())
    size, applies = size_of(whole), False
    pivots: tuple[Pivot, ...] = ("exclude", "drop")
    for pivot in pivots:
        mixed = realised(case, pivot)
        if mixed is None:
            continue
        applies = True
        away = whole.best - mixed.total_welfare
        _borne_out(away, whole.imbalance(pivot), size, f"what SW^T lacks with pivot {pivot!r}")
        if abs(away) / size > gap:
            gap = abs(away) / size
            told = f"{pivot}: SW^T is {mixed.total_welfare:.6g}, of VCG {whole.best:.6g}, Delta {away:.6g}"
    return Finding(gap, told, applies)


# ------------------------------------------------------------ weights


def _reach(case: MarketCase, graph: Array, agent: int) -> tuple[float, float, float]:
    """Utility of an agent at no data of others, at what it receives, and at a billion times as much."""
    utility, received = case.utility[agent], graph[:, agent]
    if isinstance(utility, AdditiveUtility):
        worth = float(received @ np.array(utility.values))
        return 0.0, worth, 1e9 * worth
    assert isinstance(utility, ConcaveFunction)
    more = float(received @ np.array(case.data_size))
    low, worth, high = (float(utility(case.data_size[agent] + share * more)) for share in (0.0, 1.0, 1e9))
    return low, worth, high


@LEDGER.claim(
    "sharing-market/E13",
    source="(28)",
    statement="Some quality weights realise every data payment of (23)-(26)",
    instances=markets(*CONCAVE, worked=(NO_SALE, *WORKED)),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R14-weights",
    n_instances=40,
    confirm_exactly=exactly.weights_always_exist,
)
def weights_always_exist(case: MarketCase) -> Finding:
    """Sum up what stays unrealised; confirm by the utilities of no data and of very much."""
    market = case.market()
    whole = WholeGraphs(market)
    gap, told = 0.0, ""
    pivots: tuple[Pivot, ...] = ("exclude", "drop")
    for pivot in pivots:
        for refusal in market.mixed_vcg(pivot).refusals:
            i, graph = refusal.agent, market.vcg(pivot).adjacency
            low, worth, high = _reach(case, graph, i)
            target = worth - refusal.amount
            short = max(low - target, target - high, 0.0)
            # A bound that is not attained is missed by as little as one likes, but missed.
            told_of = f"no to very much data are worth {low:.6g} to {high:.6g} to agent {i}"
            confirm(short > 0 or np.isclose(target, high), f"{told_of}, and {target:.6g} is asked for")
            if short / size_of(whole) > gap:
                gap, told = short / size_of(whole), f"{pivot}: {refusal}"
    return Finding(gap, told)


def _dear(rng: Rng, n: int) -> Iterator[BaseCase]:
    """Markets where much stays unsold: what is not sold pays least for dropped costs at low quality."""
    yield from (RISING,)[:n]
    for _ in range(n - 1):
        case = random_market(rng, "capped", "log", n_agents=2, dearness=2.0)
        yield BaseCase(case, round(float(rng.uniform(0.3, 0.9)), 2), "drop")


@LEDGER.claim(
    "sharing-market/E15",
    source="section 5.2, after (34)",
    statement="D-mixed-VCG implements at most the SW^A, and the SW^T, of mixed-VCG",
    instances=_dear,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R16",
    n_instances=150,
    confirm_exactly=exactly.distortion_lowers_welfare,
)
def distortion_lowers_welfare(instance: BaseCase) -> Finding:
    """Compare the two where both are realised; confirm that they are W - Delta, graph by graph."""
    market, pivot = instance.case.market(), instance.pivot
    full, lifted = market.mixed_vcg(pivot), market.mixed_vcg(pivot, base_weight=instance.base_weight)
    if not (full.realised and lifted.realised):
        return Finding(0.0, applies=False)
    whole = WholeGraphs(market)
    low = WholeGraphs(market.weighted(instance.base_weight * market.weights))
    size, rise = size_of(whole), 0.0
    for after, before in (
        (lifted.agents_welfare, full.agents_welfare),
        (lifted.total_welfare, full.total_welfare),
    ):
        _borne_out(before, whole.best - whole.imbalance(pivot), size, "W - Delta")
        _borne_out(after, low.best - low.imbalance(pivot), size, "W - Delta at the base weight")
        rise = max(rise, after - before)
    return Finding(
        rise / size,
        f"SW^A = SW^T is {full.agents_welfare:.6g}, from weight {instance.base_weight:g} "
        f"{lifted.agents_welfare:.6g}",
    )


@LEDGER.claim(
    "sharing-market/E16",
    source="Assumption 4.3",
    statement="t_i may be read as a payment to agent i, of utility V_i + t_i: nobody loses by (19)",
    instances=markets(*EVERY, worked=WORKED),
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R15-rational",
    n_instances=40,
    confirm_exactly=exactly.payments_to_agents,
)
def payments_to_agents(case: MarketCase) -> Finding:
    """Give agents what (19) says, with i excluded; confirm the payments graph by graph."""
    outcome, whole = case.market().vcg("exclude"), WholeGraphs(case.market())
    size = size_of(whole)
    payment = whole.payment("exclude", outcome.adjacency)
    payoff = whole.value_at(outcome.adjacency) + payment
    agent = int(np.argmax(whole.outside - payoff))
    _borne_out(float(outcome.payment[agent]), float(payment[agent]), size, f"the payment of agent {agent}")
    return Finding(
        float((whole.outside - payoff)[agent]) / size,
        f"agent {agent} would end with {payoff[agent]:.6g}, and has {whole.outside[agent]:.6g} outside",
    )
