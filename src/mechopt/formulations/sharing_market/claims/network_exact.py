"""Networks in rationals: utilities as the instance prints them, and stability by trying every coalition.

Of the mechanism only the deviation that is claimed is taken, and tested.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from mechopt.formulations.sharing_market.claims.network_roads import (
    Edges,
    Partners,
    Utilities,
    blocks,
    edges_of,
    graphs,
    limits_complements,
    partners_of,
    printed_match,
    ranks_alike,
    subsets,
    try_all,
)
from mechopt.formulations.sharing_market.network.families import (
    AnyCase,
    IdenticalCase,
    PeakCase,
    RankedCase,
    SizeCase,
    TableCase,
)
from mechopt.solvers.errors import NotApplicable
from mechopt.verification.evidence import fraction, fractions


def exact_utilities(case: AnyCase | PeakCase) -> Utilities:
    """Utility of every set of partners, agent by agent; of rankings, minus the place."""
    if isinstance(case, RankedCase):
        return [{frozenset(s): -place for place, s in enumerate(sets)} for sets in case.rankings]
    if isinstance(case, PeakCase):
        size = fractions(case.data_size)
        others = [subsets(set(range(len(size))) - {k}) for k in range(len(size))]
        return [
            {s: -((size[k] + sum(size[i] for i in s) - peak) ** 2) for s in others[k]}
            for k, peak in enumerate(fractions(case.peaks))
        ]
    return [
        {s: fraction(line[sum(1 << i for i in s)]) for s in subsets(set(range(len(case.utilities))) - {k})}
        for k, line in enumerate(case.utilities)
    ]


def swept(u: Utilities) -> Edges:
    """Ordered match as printed, for the ranking 0, 1, ...: pairs in turn, if both gain."""
    match: set[Partners] = set()
    for i in range(len(u)):
        for j in range(i + 1, len(u)):
            having = {k: partners_of(frozenset(match), k) for k in (i, j)}
            if all(u[k][having[k] | {i + j - k}] > u[k][having[k]] for k in (i, j)):
                match.add(frozenset((i, j)))
    return frozenset(match)


def exact_log(number: Fraction) -> tuple[Fraction, Fraction]:
    """Bounds on a logarithm, 1e-12 apart at most for numbers up to 100: twice the series of artanh z.

    Its terms fall by z^2 at least, so that what is left out is less than a geometric series.
    """
    z = (number - 1) / (number + 1)
    term, low, k = z, Fraction(0), 1
    while 2 * abs(term) > Fraction(1, 10**12) * (1 - z**2):
        low += 2 * term / k
        term, k = term * z**2, k + 2
    rest = 2 * term / (k * (1 - z**2))
    return min(low, low + rest), max(low, low + rest)


def _spread(u: Utilities) -> Fraction:
    values = [Fraction(value) for mine in u for value in mine.values()]
    return max(values) - min(values)


# ------------------------------------------------------------ gaps


def cut_stable_graph_is_unique(case: RankedCase) -> Fraction:
    """Number of graphs that are stable if coalitions lose their edges to others, besides the match."""
    u = exact_utilities(case)
    return Fraction(sum(try_all(u, graph, "cut") for graph in graphs(len(u)) if graph != swept(u)))


def both_rules_agree(case: AnyCase) -> Fraction:
    """Number of graphs that are stable under one rule only."""
    u = exact_utilities(case)
    return Fraction(sum(try_all(u, g, "strong") is not try_all(u, g, "cut") for g in graphs(len(u))))


def example_as_printed(case: RankedCase) -> Fraction:
    """Number of stable graphs."""
    u = exact_utilities(case)
    return Fraction(sum(try_all(u, graph, "strong") for graph in graphs(len(u))))


def size_alone_is_enough(case: PeakCase) -> Fraction:
    """How much better the smaller partner is that is said to be, of the spread of utilities."""
    found = case.network().top_agent_violation(range(len(case.data_size)))
    if found is None:
        return Fraction(0)
    u, size = exact_utilities(case), fractions(case.data_size)
    if size[found.higher] <= size[found.lower]:
        return Fraction(0)
    mine, beside = u[found.agent], frozenset(found.partners)
    return Fraction(mine[beside | {found.lower}] - mine[beside | {found.higher}]) / _spread(u)


def strict_hypothesis(case: TableCase) -> Fraction:
    """Most that a member gains of the coalition that is said to block the match, of the spread."""
    u = exact_utilities(case)
    match, network = swept(u), case.network()
    witness = network.is_stable(printed_match(network)).witness
    if witness is None or not (ranks_alike(u) and limits_complements(u, indifferent=False)):
        return Fraction(0)
    after, members = edges_of(witness.adjacency), frozenset(witness.coalition)
    if not blocks(u, match, after, members, "strong"):
        return Fraction(0)
    gains = [u[i][partners_of(after, i)] - u[i][partners_of(match, i)] for i in members]
    return Fraction(max(gains)) / _spread(u)


def ties_do_no_harm(case: IdenticalCase) -> Fraction:
    """Whether no graph is stable: utilities are of the number of partners, and ordered by bounds on logs."""
    bounds = [
        tuple(log - fraction(cost) for log in exact_log(Fraction(k + 2)))
        for k, cost in enumerate(case.count_costs)
    ]
    order = sorted(range(len(bounds)), key=lambda k: bounds[k])
    if any(bounds[a][1] >= bounds[b][0] for a, b in pairwise(order)):
        raise NotApplicable("utilities are too close to be told apart")
    n = len(bounds)
    u: Utilities = [{s: order.index(len(s)) for s in subsets(set(range(n)) - {k})} for k in range(n)]
    return Fraction(not any(try_all(u, graph, "strong") for graph in graphs(n)))


def printed_complementarity(case: SizeCase) -> Fraction:
    """Whether somebody ever refuses: with nothing added, what it has is as good as it is.

    A refusal shows if the most that bounds on logs leave of the set with one more is less than the least
    without.
    """
    size, n = fractions(case.data_size), len(case.data_size)
    numbers = zip(fractions(case.weights), fractions(case.linear), fractions(case.curve), strict=True)
    for k, (weight, linear, curve) in enumerate(numbers):
        others = set(range(n)) - {k}
        bounds = {}
        for s in subsets(others):
            gain = exact_log(1 + size[k] + sum(size[i] for i in s))
            cost = linear * len(s) + curve * len(s) ** 2
            bounds[s] = [weight * log - cost for log in gain]
        if any(bounds[s | {i}][1] < bounds[s][0] for s in bounds for i in others - s):
            return Fraction(1)
    return Fraction(0)
