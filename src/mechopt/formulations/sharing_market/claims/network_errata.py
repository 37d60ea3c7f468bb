"""What section 3 of the paper states that is false as printed, each with its counterexample."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mechopt.formulations.sharing_market.claims import network_exact as exactly
from mechopt.formulations.sharing_market.claims.network_roads import (
    all_must_gain,
    blocks,
    count_stable,
    edges_of,
    graphs,
    limits_complements,
    printed_match,
    ranks_alike,
    shown,
    spread,
    try_all,
    utilities_of,
)
from mechopt.formulations.sharing_market.claims.roads import LEDGER
from mechopt.formulations.sharing_market.network.families import (
    EXAMPLE_35,
    TIED,
    AnyCase,
    IdenticalCase,
    PeakCase,
    RankedCase,
    Rng,
    SizeCase,
    TableCase,
    example_35,
    identical_cases,
    peak_cases,
    size_cases,
    tables,
)
from mechopt.formulations.sharing_market.network.stability import RULES
from mechopt.verification.claim import Finding, Verdict
from mechopt.verification.evidence import confirm, row


@LEDGER.claim(
    "sharing-market/E1",
    source="Definition 3.2, and the proof of Proposition 3.1",
    statement="The proof's coalitions, whose graph has only their own nodes, leave the same graphs stable as "
    "those of the definition, who keep edges to others",
    instances=tables(3, worked=(EXAMPLE_35,)),
    tolerance=0.0,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R2",
    n_instances=12,
    confirm_exactly=exactly.both_rules_agree,
)
def both_rules_agree(case: AnyCase) -> Finding:
    """Count the graphs that are stable under one rule only; confirm each by trying all coalitions."""
    network = case.network()
    u = utilities_of(network)
    strong, cut = ({edges_of(g) for g in network.stable_graphs(rule)} for rule in RULES)
    for graph in strong ^ cut:
        found = [try_all(u, graph, rule) for rule in RULES]
        alone = "the definition" if graph in strong else "the proof's rule"
        confirm(
            found == [graph in strong, graph in cut],
            f"of all coalitions none leaves {shown(graph)} by {alone}, and one does by the other",
        )
    return Finding(
        len(strong ^ cut),
        f"stable by the definition: {', '.join(map(shown, strong)) or 'none'}; by the proof's rule: "
        f"{', '.join(map(shown, cut)) or 'none'}",
    )


def _places(rng: Rng, n: int) -> Iterator[RankedCase]:
    yield from map(example_35, range(min(n, 4)))


@LEDGER.claim(
    "sharing-market/E2",
    source="Example 3.5",
    statement="There is no stable graph, wherever agent 2 ranks the set {1, 2} that the example leaves out",
    instances=_places,
    tolerance=0.0,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R10",
    n_instances=4,
    confirm_exactly=exactly.example_as_printed,
)
def example_as_printed(case: RankedCase) -> Finding:
    """Count the stable graphs for each place; confirm by the program and by trying."""
    network = case.network()
    counts = count_stable(network, utilities_of(network))
    confirm(
        min(counts) == max(counts), f"enumeration, program and trying all coalitions find {counts[0]} stable"
    )
    stable = network.stable_graphs()
    return Finding(
        counts[0], f"stable: {', '.join(shown(edges_of(graph)) for graph in stable)}, agents counted from 0"
    )


@LEDGER.claim(
    "sharing-market/E3",
    source="Corollary 3.1.1",
    statement="If each agent's utility is a function of the total size only, and sizes are distinct, the top "
    "agent property holds",
    instances=peak_cases,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R4",
    n_instances=15,
    confirm_exactly=exactly.size_alone_is_enough,
)
def size_alone_is_enough(case: PeakCase) -> Finding:
    """Find a smaller partner that is better, by how much of the spread; confirm with the totals."""
    network = case.network()
    found = network.top_agent_violation(range(network.n_agents))
    if found is None:
        return Finding(0.0)
    size, peak = np.array(case.data_size), case.peaks[found.agent]
    base = size[found.agent] + size[list(found.partners)].sum()
    totals = base + size[found.higher], base + size[found.lower]
    values = [-((total - peak) ** 2) for total in totals]
    confirm(
        size[found.higher] > size[found.lower] and values[1] >= values[0],
        f"by the totals, utilities are {row(values)}",
    )
    u = utilities_of(network)
    n_stable = sum(try_all(u, graph, "strong") for graph in graphs(network.n_agents))
    confirm(
        n_stable == len(network.stable_graphs()),
        f"by trying all coalitions {n_stable} graphs are stable, as by enumeration",
    )
    return Finding(
        (values[1] - values[0]) / spread(network),
        f"agent {found.agent}, peak {peak:.6g}: the larger partner gives a total of {totals[0]:.6g} and "
        f"utility {values[0]:.6g}, the smaller {totals[1]:.6g} and {values[1]:.6g}; "
        f"{n_stable} graphs are stable",
    )


@LEDGER.claim(
    "sharing-market/E4",
    source='Definition 3.3, "reflexive", and Proposition 3.1',
    statement="Agents with equal sizes, whom all are indifferent between, have a stable graph",
    instances=identical_cases,
    tolerance=0.0,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R6",
    n_instances=10,
    confirm_exactly=exactly.ties_do_no_harm,
)
def ties_do_no_harm(case: IdenticalCase) -> Finding:
    """Look for a stable graph; confirm by trying that there is none, and three if all must gain."""
    network = case.network()
    u = utilities_of(network)
    confirm(limits_complements(u), "complementarity is limited")
    none = not network.stable_graphs()
    confirm(
        none is not any(try_all(u, graph, "strong") for graph in graphs(3)),
        "some coalition leaves each graph",
    )
    confirm(
        sum(all_must_gain(u, graph) for graph in graphs(3)) == 3,
        "three graphs are stable if all have to gain",
    )
    values = [u[0][frozenset(partners)] for partners in ((), (1,), (1, 2))]
    return Finding(
        int(none),
        f"utilities {row(values)} of 0, 1 and 2 partners: whoever is left out offers either end of the one "
        "edge what it has, and gains",
    )


@LEDGER.claim(
    "sharing-market/E5",
    source="Definition 3.5",
    statement="Concave gains with convex costs of count have limited complementarity as printed, for all S' "
    "in {i, ..., N}",
    instances=size_cases(3, 4),
    tolerance=0.0,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R5",
    n_instances=15,
    confirm_exactly=exactly.printed_complementarity,
)
def printed_complementarity(case: SizeCase) -> Finding:
    """S' may be empty as printed, and no S is better than itself; confirm that this alone is the matter."""
    u = utilities_of(case.network())
    fails = not limits_complements(u, empty=True)
    refusals = [
        (k, sorted(s), i)
        for k, mine in enumerate(u)
        for s in mine
        for i in range(len(u))
        if i != k and i not in s and mine[s | {i}] < mine[s]
    ]
    confirm(fails is bool(refusals), "it fails where somebody ever refuses, and nowhere else")
    confirm(limits_complements(u), "with S' not empty it holds")
    return Finding(
        int(fails),
        ""
        if not fails
        else f"agent {refusals[0][0]} with {refusals[0][1]} is worse off with "
        f"{refusals[0][2]} added, but cannot prefer that set to itself with nothing added",
    )


def _indifferent(rng: Rng, n: int) -> Iterator[TableCase]:
    """The example, then others like it: agent 0 does not mind 1, avoids 2, and likes both."""
    yield from (TIED,)[:n]
    for _ in range(n - 1):
        alone, avoided, both = rng.uniform(0, 1), rng.uniform(0.1, 2), rng.uniform(0.1, 2)
        mine = np.round([alone, 0, alone, 0, alone - avoided, 0, alone + both, 0], 3)
        yield TableCase((tuple(map(float, mine)), *TIED.utilities[1:]))


@LEDGER.claim(
    "sharing-market/E5-strict",
    source="Definition 3.5 and Proposition 3.1",
    statement="With S' not empty but refusals only where S is strictly better than S + i, the ordered match "
    "is stable",
    instances=_indifferent,
    tolerance=1e-6,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R5",
    n_instances=12,
    confirm_exactly=exactly.strict_hypothesis,
)
def strict_hypothesis(case: TableCase) -> Finding:
    """Measure what a coalition gains on the match, of the spread; confirm hypotheses and deviation."""
    network = case.network()
    u = utilities_of(network)
    applies = ranks_alike(u) and limits_complements(u, indifferent=False)
    graph = printed_match(network)
    verdict = network.is_stable(graph)
    if verdict.witness is None or not applies:
        return Finding(0.0, applies=applies)
    after, coalition = edges_of(verdict.witness.adjacency), frozenset(verdict.witness.coalition)
    confirm(
        blocks(u, edges_of(graph), after, coalition, "strong"),
        "by the definition the coalition blocks the match",
    )
    confirm(not limits_complements(u), "with refusals of the indifferent, complementarity is not limited")
    return Finding(
        float(np.max(verdict.witness.gains)) / spread(network),
        f"the match {shown(edges_of(graph))} is blocked: {verdict.witness}",
    )
