"""By how much the false statements on markets fail, in rationals, on the scales of their claims."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING

from mechopt.formulations.functions import PiecewiseLinearGain
from mechopt.formulations.sharing_market.claims.exact import (
    ExactMarket,
    data_payments,
    subsets,
    total,
    unrealised,
    utility_of_size,
)
from mechopt.formulations.sharing_market.families import MarketCase
from mechopt.solvers.errors import NotApplicable
from mechopt.verification.evidence import fraction, fractions

if TYPE_CHECKING:
    from mechopt.formulations.sharing_market.claims.price_errata import OwnCase
    from mechopt.formulations.sharing_market.claims.price_roads import GraphCase
    from mechopt.formulations.sharing_market.claims.queries import QueryCase
    from mechopt.formulations.sharing_market.claims.vcg import BaseCase
    from mechopt.formulations.sharing_market.claims.vcg_errata import ReportCase

PIVOTS = ("exclude", "drop")

# ------------------------------------------------------------ prices


def printed_payment(instance: GraphCase) -> Fraction:
    """(6) as printed, whatever the graph, against what is bought less what is sold."""
    market = ExactMarket(instance.case)
    cost, agents = market.cost, market.agents
    gaps = []
    for i in agents:
        printed = total(cost[j][i] for j in agents) - total(cost[i])
        paid = total(cost[j][i] for j, buyer in instance.sold if buyer == i)
        paid -= total(cost[i][j] for seller, j in instance.sold if seller == i)
        gaps.append(abs(printed - paid))
    return max(gaps) / market.money()


def joint_always(case: MarketCase) -> Fraction:
    """Most that a buyer gains by another set, if all that it buys is as dear as each could be alone."""
    market, gaps = ExactMarket(case), []
    for buyer in market.agents:
        taken = market.graph[buyer]
        price = {
            i: market.cost[i][buyer] + market.most(buyer) - market.most(buyer, frozenset({i})) for i in taken
        }

        def charged(i: int, buyer: int = buyer, price: dict[int, Fraction] = price) -> Fraction:
            return price.get(i, market.cost[i][buyer])

        most = max(market.kept(buyer, s, charged) for s in market.sets(buyer))
        gaps.append(most - market.kept(buyer, taken, charged))
    return max(gaps) / market.money()


def any_price_of_unsold_data(case: MarketCase) -> Fraction:
    """What a seller gains by selling at 2 above cost, at which nobody wants to buy."""
    market = ExactMarket(case)
    unsold = [(i, j) for j in market.agents for i in market.agents if i not in market.graph[j] | {j}]
    seller, buyer = unsold[-1]
    return 2 / market.money(market.cost[seller][buyer] + 2)


def same_solutions_at_the_highest_price(case: MarketCase) -> Fraction:
    """Whether some set is best at a highest price that is not best at cost."""
    market = ExactMarket(case)
    for buyer in market.agents:
        best = {s for s in market.sets(buyer) if market.kept(buyer, s) == market.most(buyer)}
        for seller in market.graph[buyer]:
            dearer = market.most(buyer) - market.most(buyer, frozenset({seller}))

            def charged(
                i: int, buyer: int = buyer, seller: int = seller, dearer: Fraction = dearer
            ) -> Fraction:
                return market.cost[i][buyer] + (dearer if i == seller else 0)

            left = {s: market.kept(buyer, s, charged) for s in market.sets(buyer)}
            if any(left[s] == max(left.values()) and s not in best for s in left):
                return Fraction(1)
    return Fraction(0)


def printed_indicator(case: MarketCase) -> Fraction:
    """What a buyer loses at cost by taking what is worth most to it."""
    market, gaps = ExactMarket(case), []
    for buyer in market.agents:
        sets = market.sets(buyer)
        most = max(market.worth(buyer, s) for s in sets)
        chosen = max(market.kept(buyer, s) for s in sets if market.worth(buyer, s) == most)
        gaps.append(market.most(buyer) - chosen)
    return max(gaps) / market.money()


def own_data_is_charged(instance: OwnCase) -> Fraction:
    """Both sides of (11), if a set may do without own data and its price."""
    market, right = ExactMarket(instance.case), Fraction(0)
    for buyer, own_cost in enumerate(fractions(instance.own_cost)):
        utility = instance.case.utility[buyer]
        if not isinstance(utility, PiecewiseLinearGain):
            raise NotApplicable(f"{type(utility).__name__} is not rational")
        without = [
            utility_of_size(utility, total(market.size[i] for i in s))
            - total(market.cost[i][buyer] for i in s)
            for s in market.sets(buyer)
            if s
        ]
        right += max(market.most(buyer) - own_cost, *without)
    return abs(market.welfare - right) / market.money()


# ------------------------------------------------------------ VCG


def drop_is_rational(case: MarketCase) -> Fraction:
    """Most that an agent loses by (20) as printed."""
    market = ExactMarket(case)
    return max(market.outside[i] - market.payoff(i, "drop") for i in market.agents) / market.largest_value


def mixed_is_truthful(instance: ReportCase) -> Fraction:
    """What a report gains: of a data payment t, weights that are right for r U take t / r of U."""
    agent, kind = instance.agent, instance.pivot
    market, told = ExactMarket(instance.case), ExactMarket(instance.case, report=(agent, instance.factor))
    payments = told.payments(kind)
    in_data = data_payments(payments)[agent]
    had = market.value(agent, told.graph) - in_data / fraction(instance.factor) - (payments[agent] - in_data)
    return (had - market.payoff(agent, kind)) / market.largest_value


def printed_recursion_balances(case: MarketCase) -> Fraction:
    """What money sums to if (24) and (26) have no inner max and min."""
    market = ExactMarket(case)
    payments = market.payments("exclude")
    delta = total(payments)
    order = sorted(market.agents, key=lambda i: -payments[i])
    covered, best = Fraction(0), min if delta > 0 else max
    for i in order if delta > 0 else reversed(order):
        covered += best(payments[i], delta - covered) if delta else 0
    return abs(delta - covered) / market.largest_value


def printed_sum_balances(case: MarketCase) -> Fraction:
    """What money sums to if all below the last cover the deficit anew."""
    market = ExactMarket(case)
    payments = market.payments("exclude")
    delta = min(total(payments), Fraction(0))
    return abs(total(p - max(p, delta) for p in payments)) / market.largest_value


def mixed_keeps_total_welfare(case: MarketCase) -> Fraction:
    """The imbalance that quality takes, or gives, where weights realise it."""
    market, taken = ExactMarket(case), []
    for kind in PIVOTS:
        in_data = data_payments(market.payments(kind))
        if not any(unrealised(market, i, in_data[i]) for i in market.agents):
            taken.append(abs(market.imbalance(kind)))
    if not taken:
        raise NotApplicable("the recursion's data payments are not realised")
    return max(taken) / market.largest_value


def weights_always_exist(case: MarketCase) -> Fraction:
    """Largest data payment, or part of one, that no weights realise."""
    market = ExactMarket(case)
    missed = (
        unrealised(market, i, in_data)
        for kind in PIVOTS
        for i, in_data in enumerate(data_payments(market.payments(kind)))
    )
    return max(missed) / market.largest_value


def distortion_lowers_welfare(instance: BaseCase) -> Fraction:
    """W - Delta at the base weight, less W - Delta."""
    market, low = ExactMarket(instance.case), ExactMarket(instance.case, instance.base_weight)
    left = (m.welfare - m.imbalance(instance.pivot) for m in (market, low))
    before, after = left
    return (after - before) / market.largest_value


def payments_to_agents(case: MarketCase) -> Fraction:
    """Most that an agent loses if what (19) says is paid to it."""
    market = ExactMarket(case)
    payments = market.payments("exclude")
    lost = (market.outside[i] - market.value(i) - payments[i] for i in market.agents)
    return max(lost) / market.largest_value


# ------------------------------------------------------------ queries


def cost_of_questions(case: QueryCase) -> Fraction:
    """What i's questions would cost others, against what its answers cost it, at the best numbers."""
    cost, step = tuple(map(fractions, case.sharing_cost)), fractions(case.composition)
    own, size = fractions(case.data_size), fractions(case.query_size)
    agents, count, worth = range(len(own)), {}, []
    for j in agents:
        others = [i for i in agents if i != j]
        kept = {}
        for asked in product(range(len(step)), repeat=len(others)):
            queries = list(zip(others, asked, strict=True))
            utility = utility_of_size(case.utility[j], own[j] + total(q * size[i] for i, q in queries))
            kept[asked] = utility - total(cost[i][j] * step[q] for i, q in queries), utility
        best = max(kept, key=lambda asked: kept[asked][0])
        worth.append(abs(kept[best][1]))
        count.update({(i, j): q for i, q in zip(others, best, strict=True)})
    gaps = [abs(total((count[j, i] - count[i, j]) * cost[i][j] for j in agents if j != i)) for i in agents]
    return max(gaps) / max(worth)


def match_is_stable(case: QueryCase) -> Fraction:
    """Most that a coalition, none of whom loses, gains in all on the match by dealing among itself."""
    cost = tuple(map(fractions, case.sharing_cost))
    own, size = fractions(case.data_size), fractions(case.query_size)
    agents = range(len(own))

    def values(sold: Iterable[tuple[int, int]], members: Iterable[int]) -> dict[int, Fraction]:
        """V of members, one query on each of these edges."""
        edges = list(sold)
        return {
            k: utility_of_size(case.utility[k], own[k] + total(size[i] for i, j in edges if j == k))
            - total(cost[i][j] for i, j in edges if i == k)
            for k in members
        }

    pairs = [(i, j) for i in agents for j in agents if i != j]
    asked = case.market().ordered_match().query_count
    now = values([(i, j) for i, j in pairs if asked[i, j]], agents)
    best, scale = Fraction(0), Fraction(0)
    for members in subsets(agents):
        inside = [pair for pair in pairs if members.issuperset(pair)]
        for bits in product((False, True), repeat=len(inside)):
            then = values([pair for pair, there in zip(inside, bits, strict=True) if there], members)
            gains = [then[k] - now[k] for k in members]
            if all(gain >= 0 for gain in gains):
                best = max(best, total(gains))
            if len(members) == len(own):
                scale = max(scale, *map(abs, then.values()))
    return best / scale
