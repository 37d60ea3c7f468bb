"""Section 3 of the paper, corrected: bilateral sharing, stable graphs and the ordered match."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from mechopt.formulations.sharing_market.claims import network_exact as exactly
from mechopt.formulations.sharing_market.claims.network_roads import (
    Partners,
    blocks,
    count_stable,
    edges_of,
    graphs,
    limits_complements,
    partners_of,
    ranks_alike,
    relabelled,
    shown,
    subsets,
    try_all,
    utilities_of,
)
from mechopt.formulations.sharing_market.claims.roads import LEDGER
from mechopt.formulations.sharing_market.network import SharingNetwork
from mechopt.formulations.sharing_market.network.families import (
    EXAMPLE_35,
    TIED,
    WITHOUT_COMPLEMENTARITY,
    AllRankings,
    AnyCase,
    PairCase,
    RankedCase,
    Rng,
    SizeCase,
    example_35,
    pair_cases,
    ranked_cases,
    size_cases,
    tables,
)
from mechopt.formulations.sharing_market.network.matching import sweep, sweep_by_size
from mechopt.formulations.sharing_market.network.preferences import SizePreferences
from mechopt.formulations.sharing_market.network.stability import RULES, Rule
from mechopt.verification.claim import Finding, Verdict
from mechopt.verification.evidence import confirm, largest

# ------------------------------------------------------------ graphs and stability


@LEDGER.claim(
    "sharing-market/R1",
    source="Definition 3.1, Assumption 3.3",
    statement="Names do not matter: with agents relabelled, the stable graphs are the same, relabelled",
    instances=tables(3, 4, worked=(EXAMPLE_35, TIED)),
    tolerance=0.0,
    n_instances=20,
)
def names_do_not_matter(case: AnyCase) -> Finding:
    """Turn the agents round by one and count the graphs that are stable in one network only."""
    network = case.network()
    u, n = utilities_of(network), network.n_agents
    turned = SharingNetwork(
        [{frozenset((i + 1) % n for i in s): value for s, value in u[(k - 1) % n].items()} for k in range(n)]
    )
    differ = 0
    for rule in RULES:
        here = {edges_of(np.roll(g, (1, 1), axis=(0, 1))) for g in network.stable_graphs(rule)}
        differ += len(here ^ {edges_of(g) for g in turned.stable_graphs(rule)})
    return Finding(differ, f"{differ} graphs are stable under one labelling only")


@LEDGER.claim(
    "sharing-market/R2",
    source="Definition 3.2",
    statement="Stability is the same by enumeration, by the blocking program, and by the definition, for "
    "both readings of what a coalition may keep",
    instances=tables(2, 3, 4, worked=(EXAMPLE_35, WITHOUT_COMPLEMENTARITY, TIED)),
    tolerance=0.0,
    n_instances=20,
)
def stability_by_three_roads(case: AnyCase) -> Finding:
    """Count the graphs on which the three disagree, of all (programs: of three)."""
    network = case.network()
    u = utilities_of(network)
    wrong = []
    for rule in RULES:
        stable = {edges_of(graph) for graph in network.stable_graphs(rule)}
        every = graphs(network.n_agents)
        wrong += [graph for graph in every if (graph in stable) is not try_all(u, graph, rule)]
        for graph in {every[0], every[-1], *sorted(stable, key=sorted)[:1]}:
            adjacency = np.zeros((network.n_agents, network.n_agents), dtype=np.int64)
            for a, b in map(sorted, graph):
                adjacency[a, b] = adjacency[b, a] = 1
            for found in (
                network.is_stable(adjacency, rule, method="milp"),
                network.is_stable(adjacency, rule),
            ):
                seen = found.witness is None or blocks(
                    u, graph, edges_of(found.witness.adjacency), frozenset(found.witness.coalition), rule
                )
                if bool(found) is not (graph in stable) or not seen:
                    wrong.append(graph)
    return Finding(len(wrong), f"the roads disagree on {', '.join(map(shown, wrong))}")


# ------------------------------------------------------------ the two properties


def _with_and_without(rng: Rng, n: int) -> Iterator[AnyCase]:
    """Networks with both properties, and others that may lack one by a single exchange of places."""
    both = ranked_cases(3, 4)
    yield from (EXAMPLE_35, WITHOUT_COMPLEMENTARITY, TIED)[:n]
    for turn, case in enumerate(both(rng, n - 3)):
        rankings = list(case.rankings)
        if turn % 4:
            agent = int(rng.integers(len(rankings)))
            order = list(rankings[agent])
            place = int(rng.integers(len(order) - 1))
            order[place], order[place + 1] = order[place + 1], order[place]
            rankings[agent] = tuple(order)
        yield RankedCase(tuple(rankings))


@LEDGER.claim(
    "sharing-market/R3",
    source="Definitions 3.3 and 3.4, with strict preference",
    statement="All agents rank partners as the common ranking does, in all company, exactly if no violation "
    "is found",
    instances=_with_and_without,
    tolerance=0.0,
    n_instances=60,
)
def top_agent_checker(case: AnyCase) -> Finding:
    """Compare with the definition word for word, and look at the witness."""
    network = case.network()
    u = utilities_of(network)
    found = network.top_agent_violation(range(network.n_agents))
    wrong = (found is None) is not ranks_alike(u)
    if found is not None:
        s = found.partners
        wrong |= u[found.agent][s | {found.higher}] > u[found.agent][s | {found.lower}]
        wrong |= found.higher > found.lower
    return Finding(int(wrong), f"the checker says {found}")


@LEDGER.claim(
    "sharing-market/R5",
    source="Definition 3.5, with S' not empty and S + i not strictly better than S",
    statement="Limited complementarity holds exactly if no violation is found, over all sets and over those "
    "of agents above the refused one",
    instances=_with_and_without,
    tolerance=0.0,
    n_instances=60,
)
def complementarity_checker(case: AnyCase) -> Finding:
    """Compare with the definition word for word, and look at the witness."""
    network = case.network()
    u, ranking = utilities_of(network), range(network.n_agents)
    wrong, said = 0, []
    for prefix in (False, True):
        found = network.limited_complementarity_violation(ranking, prefix=prefix)
        said.append(str(found))
        wrong += (found is None) is not limits_complements(u, prefix=prefix)
        if found is not None:
            mine, s = u[found.agent], found.partners
            wrong += mine[s | {found.refused}] > mine[s] or mine[s | found.added] < mine[s]
            wrong += not found.added or min(found.added) < found.refused
    return Finding(wrong, f"the checker says {said[0]}; above the refused one, {said[1]}")


@LEDGER.claim(
    "sharing-market/R5-prefix",
    source="Definition 3.5 and Proposition 3.1",
    statement="It is enough that limited complementarity holds at sets of agents above the refused one: the "
    "ordered match is then the only stable graph",
    instances=ranked_cases(4, prefix=True),
    tolerance=0.0,
    n_instances=60,
)
def prefixes_are_enough(case: RankedCase) -> Finding:
    """Count the stable graphs other than the match, and the match if it is not."""
    return _other_than_match(case.network(), "strong")


@LEDGER.claim(
    "sharing-market/R4",
    source="Corollary 3.1.1, corrected",
    statement="A strictly increasing concave function of total size minus a convex cost of count, with "
    "distinct sizes, has the top agent property and limited complementarity",
    instances=size_cases(3, 4),
    tolerance=0.0,
    n_instances=40,
)
def sizes_have_both_properties(case: SizeCase) -> Finding:
    """Count the properties that fail, by the definitions, by the checkers, and by the guarantee."""
    network = case.network()
    u, ranking = utilities_of(network), range(network.n_agents)
    fails = [
        not ranks_alike(u),
        not limits_complements(u),
        network.top_agent_violation(ranking) is not None,
        network.limited_complementarity_violation(ranking) is not None,
        network.match(ranking).guarantee is not True,
    ]
    return Finding(
        sum(fails), f"top agent, complementarity, by definition and by checker, guarantee: {fails}"
    )


@LEDGER.claim(
    "sharing-market/R4-complete",
    source="Corollary 3.1.1, corrected",
    statement="With no cost of count the only stable graph is the complete one",
    instances=size_cases(2, 3, 4, costly=False),
    tolerance=0.0,
    n_instances=15,
)
def free_data_is_shared_by_all(case: SizeCase) -> Finding:
    """Count the stable graphs that are not complete, and the complete one if it is not stable."""
    network = case.network()
    stable = {edges_of(graph) for graph in network.stable_graphs()}
    complete = graphs(network.n_agents)[-1]
    return Finding(len(stable ^ {complete}), f"stable: {', '.join(map(shown, stable))}")


# ------------------------------------------------------------ the ordered match


def _other_than_match(network: SharingNetwork, rule: Rule) -> Finding:
    stable = {edges_of(graph) for graph in network.stable_graphs(rule)}
    match = edges_of(network.ordered_match(range(network.n_agents)))
    return Finding(
        len(stable ^ {match}),
        f"match {shown(match)}, stable graphs: {', '.join(map(shown, stable)) or 'none'}",
    )


@LEDGER.claim(
    "sharing-market/R6",
    source="Proposition 3.1, made stronger",
    statement="With both properties, strictly, the ordered match is the only strongly stable graph",
    instances=ranked_cases(3, 4, 5),
    tolerance=0.0,
    n_instances=60,
)
def match_is_the_stable_graph(case: RankedCase) -> Finding:
    """Count the stable graphs other than the match, and the match if it is not."""
    return _other_than_match(case.network(), "strong")


@LEDGER.claim(
    "sharing-market/R6-sizes",
    source="Proposition 3.1 and Corollary 3.1.1, corrected",
    statement="With concave gains of distinct sizes and convex costs of count, the ordered match is the only "
    "strongly stable graph",
    instances=size_cases(3, 4, 5),
    tolerance=0.0,
    n_instances=30,
)
def match_of_sizes_is_the_stable_graph(case: SizeCase) -> Finding:
    """Count the stable graphs other than the match, and the match if it is not."""
    return _other_than_match(case.network(), "strong")


@LEDGER.claim(
    "sharing-market/R6-pairs",
    source="Proposition 3.1, made stronger",
    statement="The ordered match is also the only graph that no single agent and no pair blocks",
    instances=ranked_cases(3, 4),
    tolerance=0.0,
    n_instances=10,
)
def small_coalitions_are_enough(case: RankedCase) -> Finding:
    """Try all coalitions of one and two agents on all graphs."""
    network = case.network()
    u, match = utilities_of(network), edges_of(network.ordered_match(range(network.n_agents)))
    unblocked = {graph for graph in graphs(network.n_agents) if try_all(u, graph, "strong", most=2)}
    return Finding(
        len(unblocked ^ {match}),
        f"match {shown(match)}, unblocked graphs: {', '.join(map(shown, unblocked)) or 'none'}",
    )


@LEDGER.claim(
    "sharing-market/R6-break",
    source="Proposition 3.1, the algorithm",
    statement="An agent may stop asking at its first refusal to offer: the graph is the same",
    instances=ranked_cases(3, 4, 5),
    tolerance=0.0,
    n_instances=100,
)
def sweep_may_stop(case: RankedCase) -> Finding:
    """Sweep with sets and a stop, and compare."""
    network = case.network()
    u, n = utilities_of(network), network.n_agents
    have: list[Partners] = [frozenset()] * n
    for asking in range(n):
        for asked in range(asking + 1, n):
            if u[asking][have[asking] | {asked}] < u[asking][have[asking]]:
                break
            if u[asked][have[asked] | {asking}] > u[asked][have[asked]]:
                have[asking] |= {asked}
                have[asked] |= {asking}
    match = network.ordered_match(range(n))
    stopped = np.array([[int(b in have[a]) for b in range(n)] for a in range(n)])
    return Finding(largest(match - stopped), f"match {match.tolist()}, with a stop {stopped.tolist()}")


@LEDGER.claim(
    "sharing-market/R6-cut",
    source="Proposition 3.1, with the coalitions of its proof",
    statement="With both properties, the ordered match is stable also when coalitions lose edges to others",
    instances=ranked_cases(3, 4, 5),
    tolerance=0.0,
    n_instances=60,
)
def match_is_cut_stable(case: RankedCase) -> Finding:
    """Look for a coalition that leaves."""
    network = case.network()
    match = network.ordered_match(range(network.n_agents))
    verdict = network.is_stable(match, "cut")
    return Finding(int(not verdict), f"match {shown(edges_of(match))}: {verdict}")


@LEDGER.claim(
    "sharing-market/R6-cut-unique",
    source="Remark 3.3, read with the coalitions of the proof of Proposition 3.1",
    statement="With both properties, no other graph is stable when coalitions lose edges to others",
    instances=ranked_cases(4),
    tolerance=0.0,
    expected=Verdict.REFUTED,
    corrected_by="sharing-market/R6",
    n_instances=30,
    confirm_exactly=exactly.cut_stable_graph_is_unique,
)
def cut_stable_graph_is_unique(case: RankedCase) -> Finding:
    """Count the other stable graphs; confirm them by trying all coalitions."""
    network = case.network()
    stable = {edges_of(graph) for graph in network.stable_graphs("cut")}
    match = edges_of(network.ordered_match(range(network.n_agents)))
    others = stable - {match}
    u = utilities_of(network)
    for graph in others:
        confirm(try_all(u, graph, "cut"), f"no coalition of all leaves {shown(graph)} by the proof's rule")
        confirm(not try_all(u, graph, "strong"), "one does by the definition")
    return Finding(len(others), f"match {shown(match)}, also stable: {', '.join(map(shown, others))}")


@LEDGER.claim(
    "sharing-market/R7",
    source="Lemma 3.2",
    statement="No agent likes a graph better that lacks some edges of the ordered match",
    instances=ranked_cases(3, 4, 5),
    tolerance=0.0,
    n_instances=80,
)
def fewer_edges_are_no_better(case: RankedCase) -> Finding:
    """Take all subsets of every agent's partners: each is left by some removal of edges."""
    network = case.network()
    match = network.ordered_match(range(network.n_agents))
    wrong = []
    for agent, chosen in enumerate(match):
        partners = frozenset(np.flatnonzero(chosen).tolist())
        now = network.preferences.utility(agent, partners)
        wrong += [
            (agent, sorted(s))
            for s in subsets(partners)
            if s != partners and network.preferences.utility(agent, s) >= now
        ]
    return Finding(len(wrong), f"agents who like fewer partners as much: {wrong}")


@LEDGER.claim(
    "sharing-market/R7-offers",
    source="Corollary 3.2.1",
    statement="An agent who does not offer to another loses by adding any set of that agent and lower ones",
    instances=ranked_cases(3, 4, 5),
    tolerance=0.0,
    n_instances=60,
)
def who_does_not_offer_would_lose(case: RankedCase) -> Finding:
    """Follow the sweep; at each refusal to offer, try all sets of lower agents."""
    network = case.network()
    u, n = utilities_of(network), network.n_agents
    match = network.ordered_match(range(n))
    wrong = []
    for agent in range(n):
        for other in range(agent + 1, n):
            have = frozenset(b for b in range(n) if match[agent, b] and b < other)
            if u[agent][have | {other}] > u[agent][have]:
                continue
            lower = range(other, n)
            wrong += [
                (agent, sorted(s)) for s in subsets(lower) if s and u[agent][have | s] >= u[agent][have]
            ]
    return Finding(len(wrong), f"sets that do not harm: {wrong}")


@LEDGER.claim(
    "sharing-market/R7-swaps",
    source="Corollary 3.2.2",
    statement="If i did not offer to j, and i-j is the first edge that some graph adds to the match, i "
    "strictly prefers all that only the match gives it to j, and prefers none that only the graph gives it",
    instances=ranked_cases(3, 4),
    tolerance=0.0,
    n_instances=60,
)
def who_is_exchanged(case: RankedCase) -> Finding:
    """Hold every graph against the match, with i's preference read off all sets without the two."""
    network = case.network()
    u, n = utilities_of(network), network.n_agents
    match = edges_of(network.ordered_match(range(n)))

    def prefers(agent: int, one: int, other: int) -> bool:
        rest = [k for k in range(n) if k not in (agent, one, other)]
        return all(u[agent][s | {one}] > u[agent][s | {other}] for s in subsets(rest))

    wrong = []
    for graph in graphs(n):
        new = [(i, j) for i in range(n) for j in range(i + 1, n) if {i, j} in graph - match]
        if not new:
            continue
        i, j = new[0]
        matched, has = partners_of(match, i), partners_of(graph, i)
        when_asking = frozenset(k for k in matched if k < j)
        if u[i][when_asking | {j}] > u[i][when_asking]:
            continue  # it was j who did not accept
        wrong += [(i, j, k) for k in matched - has if not prefers(i, k, j)]
        wrong += [(i, j, k) for k in has - matched if k != j and not prefers(i, j, k)]
    return Finding(len(wrong), f"i, j and whom i does not rank so: {wrong[:5]}")


@LEDGER.claim(
    "sharing-market/R8",
    source="Remark 3.3",
    statement="The outcome is unique: deciding pairs in the order of the sweep, or many at once, gives one "
    "graph",
    instances=size_cases(2, 5, 20, 60),
    tolerance=0.0,
    n_instances=24,
)
def outcome_is_unique(case: SizeCase) -> Finding:
    """Compare the sweep by single questions with the one by rounds."""
    preferences = case.network().preferences
    assert isinstance(preferences, SizePreferences)
    ranking = np.arange(preferences.n_agents)
    one, queries = sweep(preferences, ranking, "raise")
    other, same = sweep_by_size(preferences, ranking, "raise")
    return Finding(
        largest(one - other) + abs(queries - same),
        f"{one.sum()} and {other.sum()} entries, {queries}, {same} queries",
    )


@LEDGER.claim(
    "sharing-market/R9",
    source="Remark 3.4",
    statement="Every strongly stable graph is Pareto optimal",
    instances=tables(3, 4, worked=(TIED,)),
    tolerance=0.0,
    n_instances=30,
)
def stable_graphs_are_pareto_optimal(case: AnyCase) -> Finding:
    """Compare each with all graphs; none of the stable may be worse for nobody."""
    network = case.network()
    u = utilities_of(network)
    stable = network.stable_graphs()
    everybody = frozenset(range(network.n_agents))
    dominated = [
        graph
        for graph in stable
        if not network.is_pareto_optimal(graph)
        or any(blocks(u, edges_of(graph), g, everybody, "cut") for g in graphs(network.n_agents))
    ]
    return Finding(len(dominated), f"dominated: {dominated}", applies=bool(stable))


@LEDGER.claim(
    "sharing-market/R9-welfare",
    source="Remark 3.4",
    statement="Stable graphs need not have the most welfare: two agents of whom one loses stay apart, and "
    "welfare is the loss in the place of the other's gain",
    instances=pair_cases,
    tolerance=1e-12,
    n_instances=10,
)
def stable_is_not_most_welfare(case: PairCase) -> Finding:
    """Compare both welfares with the formula."""
    network = case.network()
    stable = network.stable_graphs()
    best, most = network.best_welfare()
    confirm(len(stable) == 1 and not stable[0].any() and best.any(), "apart if stable, together if best")
    gap = largest([network.welfare(stable[0]) - case.loss, most - case.gain]) / case.gain
    return Finding(gap, f"welfare {network.welfare(stable[0]):.6g} if stable, {most:.6g} at best")


# ------------------------------------------------------------ when a property is missing


def _examples(rng: Rng, n: int) -> Iterator[RankedCase]:
    yield from (EXAMPLE_35, WITHOUT_COMPLEMENTARITY, example_35(2), example_35(3))[:n]


@LEDGER.claim(
    "sharing-market/R10",
    source="Example 3.5 completed, and the second example that is missing",
    statement="Without the top agent property, and without limited complementarity, there may be no stable "
    "graph",
    instances=_examples,
    tolerance=0.0,
    n_instances=4,
)
def no_stable_graph(case: RankedCase) -> Finding:
    """Count stable graphs, by enumeration, by the program and by trying; one property must fail."""
    network = case.network()
    u = utilities_of(network)
    rankings = [order for order in permutations(range(3)) if ranks_alike(relabelled(u, order))]
    limited = [order for order in rankings if limits_complements(relabelled(u, order))]
    for order in permutations(range(3)):
        confirm((network.top_agent_violation(order) is None) is (order in rankings), f"ranking {order}")
    counts = count_stable(network, u)
    return Finding(
        max(counts) + len(limited),
        f"stable graphs by enumeration, program, trying: {counts}; common rankings {rankings}, of which with "
        f"limited complementarity {limited}",
    )


def _classes(rng: Rng, n: int) -> Iterator[AllRankings]:
    yield from (
        AllRankings(top_agent=True, complementarity=True, total=1331, none=0),
        AllRankings(top_agent=True, complementarity=False, total=1728, none=16),
        AllRankings(top_agent=False, complementarity=True, total=5832, none=57),
    )[:n]


@LEDGER.claim(
    "sharing-market/R10-counts",
    source="Proposition 3.1 and Example 3.5, all strict preferences of three agents",
    statement="With both properties all 1331 networks have one stable graph, the ordered match; with the top "
    "agent property alone 16 of 1728 have none, with limited complementarity alone 57 of 5832",
    instances=_classes,
    tolerance=0.0,
    n_instances=3,
)
def every_network_of_three(case: AllRankings) -> Finding:
    """Count all; with both properties compare with the match, without one confirm that there is none."""
    total = none = wrong = 0
    for member in case.cases():
        network = member.network()
        stable = network.stable_graphs()
        total += 1
        none += not stable
        if case.top_agent and case.complementarity:
            wrong += len(stable) != 1 or bool(np.any(stable[0] != network.ordered_match([0, 1, 2])))
        elif not stable:
            u = utilities_of(network)
            wrong += any(try_all(u, graph, "strong") for graph in graphs(3))
    return Finding(
        abs(total - case.total) + abs(none - case.none) + wrong,
        f"{none} of {total} have no stable graph; {wrong} are not confirmed",
    )
