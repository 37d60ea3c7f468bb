"""The sharing-market paper's results on VCG and mixed-VCG, as they hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import methodcaller
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations.functions import AdditiveUtility, CappedUtility, ConcaveFunction
from mechopt.formulations.sharing_market import closed_form as formula
from mechopt.formulations.sharing_market.claims.roads import LEDGER
from mechopt.formulations.sharing_market.claims.whole_graphs import WholeGraphs
from mechopt.formulations.sharing_market.families import (
    CONCAVE,
    EVERY,
    MarketCase,
    Rng,
    markets,
    random_market,
)
from mechopt.formulations.sharing_market.misreports import search_misreports
from mechopt.formulations.sharing_market.mixed import MixedVCG, greedy_split
from mechopt.formulations.sharing_market.vcg import Pivot
from mechopt.solvers.errors import Infeasible
from mechopt.verification.claim import Finding
from mechopt.verification.evidence import largest, row

Array = NDArray[np.float64]

PIVOTS: tuple[Pivot, ...] = ("exclude", "drop")

NOTHING = AdditiveUtility((0.0, 0.0))

ONE_SALE = MarketCase((1.0, 1.0), ((0.0, 1.0), (2.0, 0.0)), (NOTHING, AdditiveUtility((10.0, 0.0))))
"""Agent 1 gains 10 from data that cost agent 0 one."""

NO_SALE = MarketCase((1.0, 1.0), ((0.0, 5.0), (2.0, 0.0)), (NOTHING, AdditiveUtility((3.0, 0.0))))
"""Agent 1 would gain 3 from data that cost agent 0 five."""

CAPPED = MarketCase((1.0,) * 3, ((0.0,) * 3,) * 3, (CappedUtility(10.0, 2.0),) * 3)
"""Three agents, each of whom has half of what it needs; data cost nothing."""

WORKED = (ONE_SALE, NO_SALE, CAPPED)


def size_of(whole: WholeGraphs) -> float:
    """Size of the money in a market."""
    return largest(whole.value) or 1.0


def worst(gaps: dict[str, float], witness: str) -> Finding:
    """Finding of the largest gap, which the witness names."""
    name = max(gaps, key=lambda key: gaps[key] if gaps[key] == gaps[key] else np.inf)
    return Finding(gaps[name], f"{name}: {witness}")


def realised(case: MarketCase, pivot: Pivot, base_weight: float | None = None) -> MixedVCG | None:
    """Mixed-VCG of a market by the first split that is realised, or None."""
    market = case.market()
    greedy = market.mixed_vcg(pivot, "greedy", base_weight=base_weight)
    if greedy.realised:
        return greedy
    try:
        even = market.mixed_vcg(pivot, "lp", base_weight=base_weight)
    except Infeasible:
        return None
    return even if even.realised else None


# ------------------------------------------------------------ VCG


@LEDGER.claim(
    "sharing-market/R14",
    source="(18)-(21); with (20) as printed, and with i excluded",
    statement="VCG pays each agent welfare less its pivot value, and charges (19), as found graph by graph",
    instances=markets(*EVERY, worked=WORKED),
    tolerance=1e-9,
    n_instances=60,
)
def vcg_by_definition(case: MarketCase) -> Finding:
    """Write down all graphs."""
    market = case.market()
    whole = WholeGraphs(market)
    gaps = {}
    for pivot in PIVOTS:
        outcome = market.vcg(pivot)
        gaps[f"payoffs, {pivot}"] = largest(outcome.payoff - whole.payoff(pivot)) / size_of(whole)
        charged = whole.payment(pivot, outcome.adjacency)
        gaps[f"payments, {pivot}"] = largest(outcome.payment - charged) / size_of(whole)
    return worst(gaps, f"payoffs {row(market.vcg().payoff)}, graph by graph {row(whole.payoff('exclude'))}")


@LEDGER.claim(
    "sharing-market/R14-imbalance",
    source="(18)-(21), without couplings",
    statement="With i excluded VCG never has a surplus, under (20) never a deficit; both have closed forms",
    instances=markets(*EVERY, worked=WORKED),
    tolerance=1e-9,
    n_instances=60,
)
def imbalance_closed_forms(case: MarketCase) -> Finding:
    """Compare closed forms, the mechanism, and all graphs."""
    market = case.market()
    whole = WholeGraphs(market)
    size = size_of(whole)
    gaps, sums = {}, {}
    for pivot in PIVOTS:
        outcome = market.vcg(pivot)
        sums[pivot] = whole.imbalance(pivot)
        gaps[f"closed form, {pivot}"] = abs(formula.imbalance(market, pivot) - sums[pivot]) / size
        gaps[f"mechanism, {pivot}"] = abs(outcome.imbalance - sums[pivot]) / size
        payment = formula.payments(market, pivot, outcome.adjacency)
        gaps[f"payments, {pivot}"] = largest(payment - outcome.payment) / size
    gaps["surplus with i excluded"] = sums["exclude"] / size
    gaps["deficit under (20)"] = -sums["drop"] / size
    return worst(gaps, f"Delta {row(sums.values())}")


@dataclass(frozen=True)
class CoupledCase:
    """A market whose platform allows so many edges."""

    case: MarketCase
    platform_cap: int


EDGE_CAP = CoupledCase(
    MarketCase(
        (1.0,) * 4,
        ((0.0,) * 4,) * 4,
        (
            AdditiveUtility((0.0,) * 4),
            AdditiveUtility((10.0, 0.0, 0.0, 0.0)),
            AdditiveUtility((0.0,) * 4),
            AdditiveUtility((0.0, 0.0, 9.0, 0.0)),
        ),
    ),
    1,
)
"""Two pairs, worth 10 and 9, and one edge."""


def _coupled(rng: Rng, n: int) -> Iterator[CoupledCase]:
    yield from (EDGE_CAP,)[:n]
    for _ in range(n - 1):
        yield CoupledCase(random_market(rng, "additive", "linear", "capped", n_agents=3, dearness=0.8), 1)


@LEDGER.claim(
    "sharing-market/R14-core",
    source="(19), (21), with couplings",
    statement="With i excluded Delta = W - sum_i [W - W(N\\i)]; it is a surplus only if the core is empty, "
    "as it is for one edge between pairs worth 10 and 9, where Delta = 8",
    instances=_coupled,
    tolerance=1e-7,
    n_instances=10,
)
def surplus_needs_an_empty_core(instance: CoupledCase) -> Finding:
    """Ask all coalitions; write down all graphs; compare the joint programs."""
    market = instance.case.market()
    whole = WholeGraphs(market, lambda graphs: graphs.sum(axis=(1, 2)) <= instance.platform_cap)
    outcome = market.vcg("exclude", platform_cap=instance.platform_cap)
    delta, size = whole.imbalance("exclude"), size_of(whole)
    marginal = whole.best - whole.pivot_value("exclude")
    gaps = {
        "mechanism": abs(outcome.imbalance - delta) / size,
        "payoffs": largest(outcome.payoff - whole.payoff("exclude")) / size,
        "formula": abs(delta - (whole.best - float(marginal.sum()))) / size,
        "surplus with a core": delta / size if whole.has_core() else 0.0,
    }
    if instance is EDGE_CAP:
        gaps["worked"] = largest(outcome.payment - np.array([-1.0, 9.0, 0.0, 0.0])) + float(whole.has_core())
    return worst(gaps, f"Delta {delta:.6g}, payments {row(outcome.payment)}")


# ------------------------------------------------------------ the split, and weights


@LEDGER.claim(
    "sharing-market/R14-split",
    source="(22)-(27), corrected",
    statement="With max(t,0) and min(t,0) in (24) and (26), data payments have the sign of Delta, are no "
    "more than |t|, and sum to Delta, so that money balances",
    instances=markets(*EVERY, worked=WORKED),
    tolerance=1e-12,
    n_instances=60,
)
def corrected_recursion(case: MarketCase) -> Finding:
    """Check the definition of the split on payments of both pivots."""
    gaps: dict[str, float] = {}
    for pivot in PIVOTS:
        payment = case.market().vcg(pivot).payment
        data = greedy_split(payment)
        delta, size = float(payment.sum()), largest(payment) or 1.0
        sign = np.sign(delta)
        gaps |= {
            f"balance, {pivot}": abs(float((payment - data).sum())) / size,
            f"sign, {pivot}": float(np.max(-sign * data)) / size,
            f"more than paid, {pivot}": float(np.max(sign * data - np.maximum(sign * payment, 0))) / size,
        }
    return worst(gaps, f"payments {row(payment)}, in data {row(data)}")


@LEDGER.claim(
    "sharing-market/R14-weights",
    source="(28), with the conditions under which it has a solution",
    statement="Weights with U(w) = U(1) - t^d exist if and only if something is received and t^d is at most "
    "U(1) - U(0), or -t^d less than sup U - U(1)",
    instances=markets(*CONCAVE, worked=WORKED),
    tolerance=1e-9,
    n_instances=40,
)
def weights_realise_data_payments(case: MarketCase) -> Finding:
    """Evaluate utilities at the weights; where they are refused, at no data and at very much."""
    market = case.market()
    gaps = {}
    for pivot in PIVOTS:
        mixed = market.mixed_vcg(pivot)
        refused = {refusal.agent for refusal in mixed.refusals}
        for i, utility in enumerate(market.utility):
            if not isinstance(utility, ConcaveFunction):
                continue
            full = mixed.adjacency[:, i] * market.data_size
            target = float(utility(market.data_size[i] + full.sum())) - mixed.data_payment[i]
            size = abs(target) + abs(mixed.data_payment[i]) or 1.0
            if i in refused:
                # Along the ray from no data to very much, utility stays on one side of the target.
                tried = utility(
                    market.data_size[i] + np.append(0.0, np.geomspace(1e-9, 1e9, 400)) * full.sum()
                )
                gaps[f"refused {i}, {pivot}"] = float(tried.min() < target < tried.max())
                continue
            received = mixed.quality_weight[:, i] @ (mixed.adjacency[:, i] * market.data_size)
            gaps[f"agent {i}, {pivot}"] = abs(float(utility(market.data_size[i] + received)) - target) / size
    return worst(gaps or {"no agent": 0.0}, "utility at the weights, and the target")


# ------------------------------------------------------------ Proposition 5.1


@LEDGER.claim(
    "sharing-market/R15",
    source="Proposition 5.1, corrected",
    statement="Where weights exist, mixed-VCG balances money and gives everybody its payoff of VCG, so that "
    "SW^A = SW^T = W - Delta",
    instances=markets(*CONCAVE, worked=WORKED),
    tolerance=1e-9,
    n_instances=40,
)
def mixed_identities(case: MarketCase) -> Finding:
    """Compare with all graphs written down."""
    gaps: dict[str, float] = {}
    for pivot in PIVOTS:
        mixed = realised(case, pivot)
        if mixed is None:
            continue
        whole = WholeGraphs(case.market())
        size, rest = size_of(whole), whole.best - whole.imbalance(pivot)
        gaps |= {
            f"balance, {pivot}": abs(float(mixed.payment.sum())) / size,
            f"payoffs, {pivot}": largest(mixed.payoff - whole.payoff(pivot)) / size,
            f"SW^A, {pivot}": abs(mixed.agents_welfare - rest) / size,
            f"SW^T, {pivot}": abs(mixed.total_welfare - rest) / size,
        }
    if not gaps:
        return Finding(0.0, applies=False)
    return worst(gaps, "against all graphs")


@LEDGER.claim(
    "sharing-market/R15-rational",
    source="Proposition 5.1, with i excluded in (20)",
    statement="With i excluded from the pivot's market, nobody loses by taking part in VCG",
    instances=markets(*EVERY, worked=WORKED),
    tolerance=1e-9,
    n_instances=100,
)
def exclusion_is_rational(case: MarketCase) -> Finding:
    """Compare payoffs with own data alone, by the mechanism and graph by graph."""
    outcome, whole = case.market().vcg("exclude"), WholeGraphs(case.market())
    lost = max(outcome.participation.gain, float(np.max(whole.outside - whole.payoff("exclude"))))
    return Finding(lost / size_of(whole), f"payoffs {row(outcome.payoff)}, outside {row(whole.outside)}")


@LEDGER.claim(
    "sharing-market/R15-truth",
    source="(18)-(20)",
    statement="VCG is truthful under either pivot: no random misreport gains",
    instances=markets(*EVERY, worked=WORKED, max_agents=3),
    tolerance=1e-9,
    n_instances=15,
)
def vcg_is_truthful(case: MarketCase) -> Finding:
    """Misreport utilities and costs."""
    market = case.market()
    gaps: dict[str, float] = {}
    told = ""
    for pivot in PIVOTS:
        found = search_misreports(market, methodcaller("vcg", pivot), n_reports=6)
        gaps[pivot] = found.audit.ic_violation / found.scale
        told = repr(found)
    return worst(gaps, told)


@LEDGER.claim(
    "sharing-market/R15-public",
    source="Proposition 5.1, with utilities that the platform knows",
    statement="If utilities are public and costs private, mixed-VCG is truthful wherever it is realised",
    instances=markets("log", "sqrt", "linear", worked=(ONE_SALE,), max_agents=3),
    tolerance=1e-9,
    n_instances=25,
)
def mixed_is_truthful_about_costs(case: MarketCase) -> Finding:
    """Misreport costs."""
    market = case.market()
    gaps: dict[str, float] = {}
    told = ""
    for pivot in PIVOTS:
        if not market.mixed_vcg(pivot).realised:
            continue
        found = search_misreports(market, methodcaller("mixed_vcg", pivot), n_reports=8, private="costs")
        if found.best is not None:
            gaps[pivot] = found.audit.ic_violation / found.scale
            told = repr(found)
    return worst(gaps, told) if gaps else Finding(0.0, applies=False)


# ------------------------------------------------------------ D-mixed-VCG


@dataclass(frozen=True)
class BaseCase:
    """A market whose data are passed at a base weight."""

    case: MarketCase
    base_weight: float
    pivot: Literal["exclude", "drop"]


RISING = BaseCase(
    MarketCase((1.0, 1.0), ((0.0, 1.0), (3.0, 0.0)), (AdditiveUtility((0.0, 2.0)), CappedUtility(10.0, 1.5))),
    0.5,
    "drop",
)
"""At half quality what is sold is worth as much, and what is not would be worth less."""

UNREALISED = BaseCase(CAPPED, 0.5, "exclude")


def bases(rng: Rng, n: int) -> Iterator[BaseCase]:
    """Worked examples, then small markets."""
    yield from (RISING, UNREALISED)[:n]
    for turn in range(n - 2):
        case = random_market(rng, *CONCAVE, max_agents=3, dearness=2.0)
        yield BaseCase(case, round(float(rng.uniform(0.2, 1.0)), 2), PIVOTS[turn % 2])


@LEDGER.claim(
    "sharing-market/R16",
    source="(32)-(34), corrected",
    statement="At a base weight below 1 the most welfare W_0 is at most W; where lifts exist, weights are at "
    "most 1, and SW^A = SW^T = W_0 - Delta_0",
    instances=bases,
    tolerance=1e-9,
    n_instances=60,
)
def distorted_mixed_vcg(instance: BaseCase) -> Finding:
    """Write down all graphs at both qualities."""
    market = instance.case.market()
    whole = WholeGraphs(market)
    low = WholeGraphs(market.weighted(instance.base_weight * market.weights))
    size = size_of(whole)
    gaps = {"W_0 above W": (low.best - whole.best) / size}
    mixed = realised(instance.case, instance.pivot, instance.base_weight)
    if mixed is not None:
        rest = low.best - low.imbalance(instance.pivot)
        gaps |= {
            "weight above 1": float(mixed.quality_weight.max()) - 1,
            "SW^A": abs(mixed.agents_welfare - rest) / size,
            "SW^T": abs(mixed.total_welfare - rest) / size,
            "payoffs": largest(mixed.payoff - low.payoff(instance.pivot)) / size,
        }
    return worst(gaps, f"W_0 {low.best:.6g}, W {whole.best:.6g}")
