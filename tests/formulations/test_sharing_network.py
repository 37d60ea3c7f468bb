"""Bilateral sharing networks: three roads to stability, the ordered match, both properties, and bad input."""

import itertools
import time
import warnings

import cvxpy as cp
import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.sharing_market.network import SharingNetwork, families, model
from mechopt.solvers.backend import Answer
from mechopt.solvers.highs import Highspy
from tests.oracles import sharing_network as oracle

RULES = ("strong", "cut")


def random_graph(rng, n_agents, density=0.5):
    upper = np.triu(rng.random((n_agents, n_agents)) < density, 1).astype(int)
    return upper + upper.T


def random_network(rng, n_agents, kind):
    """Utilities of a kind, as the package and as the oracle take them."""
    if kind == "sizes":
        case = families.random_sizes(rng, n_agents)
        gains = [lambda total, w=w: w * np.log1p(total) for w in case.weights]
        counts = np.arange(n_agents)
        costs = np.outer(case.linear, counts) + np.outer(case.curve, counts**2)
        return case.network(), oracle.size_utilities(case.data_size, gains, costs)
    utilities = oracle.random_utilities(rng, n_agents, 4 if kind == "ties" else None)
    return SharingNetwork(utilities), utilities


def as_edges(graphs):
    return {oracle.graph_of(graph) for graph in graphs}


def two_peaked(n_agents=4):
    """Everybody wants exactly one partner, and does not mind whom."""
    return SharingNetwork(lambda agent, partners: -abs(len(partners) - 1), n_agents=n_agents)


# ------------------------------------------------------------ stability, three roads


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", ["random", "ties", "sizes"])
def test_all_stable_graphs_are_those_of_the_definition(rule, kind):
    rng = np.random.default_rng([1, len(kind)])
    for n_agents in [2, 2, *[3] * 12, 4]:
        network, utilities = random_network(rng, n_agents, kind)
        expected = {g for g in oracle.graphs(n_agents) if oracle.is_stable(utilities, g, rule)}
        assert as_edges(network.stable_graphs(rule)) == expected


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", ["random", "ties", "sizes"])
def test_program_and_enumeration_agree_and_their_witnesses_block(rule, kind):
    rng = np.random.default_rng([2, len(kind), len(rule)])
    n_blocked = 0
    for n_agents in [2, 3, 3, 4, 4, 4, 4, 5, 5]:
        network, utilities = random_network(rng, n_agents, kind)
        stable = network.stable_graphs(rule)
        for graph in (random_graph(rng, n_agents), *stable[:1]):
            found = [network.is_stable(graph, rule, method=m) for m in ("enumeration", "milp")]
            assert bool(found[0]) == bool(found[1]) == any(np.array_equal(graph, s) for s in stable)
            for verdict in found:
                assert verdict.rule == rule
                if verdict:
                    assert verdict.witness is None
                    continue
                n_blocked += 1
                witness, before = verdict.witness, oracle.graph_of(graph)
                after, coalition = oracle.graph_of(witness.adjacency), frozenset(witness.coalition)
                assert oracle.coalition_blocks(utilities, before, after, coalition, rule)
                gains = [
                    utilities[i][oracle.partners(after, i)] - utilities[i][oracle.partners(before, i)]
                    for i in witness.coalition
                ]
                np.testing.assert_allclose(witness.gains, gains, atol=1e-12)
    assert n_blocked >= 10


def test_six_agents_one_graph_by_enumeration_and_by_program():
    rng = np.random.default_rng(3)
    case = families.random_sizes(rng, 6)
    network = case.network()
    match = network.ordered_match(range(6))
    for graph in (match, random_graph(rng, 6)):
        for rule in RULES:
            assert bool(network.is_stable(graph, rule)) == bool(network.is_stable(graph, rule, method="milp"))
    assert network.is_stable(match).method == "enumeration"


def test_many_agents_go_to_the_program_and_its_witness_is_recomputed():
    rng = np.random.default_rng(4)
    network = families.random_sizes(rng, 9).network()
    match = network.ordered_match(range(9))
    assert network.is_stable(match).method == "milp"
    assert network.is_stable(match)
    changed = match.copy()
    changed[0, 8] = changed[8, 0] = 1 - match[0, 8]
    verdict = network.is_stable(changed)
    assert not verdict
    gains = network.agent_utility(verdict.witness.adjacency) - network.agent_utility(changed)
    np.testing.assert_allclose(gains[list(verdict.witness.coalition)], verdict.witness.gains)
    assert gains[list(verdict.witness.coalition)].min() >= 0 < gains.max()


@pytest.mark.parametrize("rule", RULES)
def test_compact_program_agrees_with_selectors(rule):
    rng = np.random.default_rng([5, len(rule)])
    verdicts = set()
    for n_agents in (3, 4, 5):
        network = families.random_sizes(rng, n_agents).network()
        for graph in (random_graph(rng, n_agents), random_graph(rng, n_agents, 0.2)):
            compact = network.blocking_program(graph, rule, form="compact").solve()
            stable = bool(network.is_stable(graph, rule))
            assert (compact.objective < 1e-5) == stable
            verdicts.add(stable)
    assert False in verdicts


@pytest.mark.parametrize("money", [1e-9, 1e9])
def test_compact_program_in_tiny_and_huge_money(money):
    """A complete graph of agents to whom partners cost more and more: each would rather have fewer."""

    def in_units(money):
        return mo.SharingNetwork(
            [mo.LogGain(weight=money, scale=1.0)] * 5,
            data_size=[5, 4, 3, 2, 1],
            count_costs=lambda n: 0.05 * money * n**2,
        )

    network, same = in_units(money), in_units(1.0)
    match, everything = network.ordered_match(range(5)), 1 - np.eye(5, dtype=int)
    assert network.blocking_program(match, form="compact").solve().objective < 1e-6
    assert not network.is_stable(everything, method="milp")
    found, known = (each.blocking_program(everything, form="compact").solve() for each in (network, same))
    assert found.objective == pytest.approx(known.objective, rel=1e-6)
    assert known.objective > 0.1
    np.testing.assert_allclose(found["gain"], money * known["gain"], rtol=1e-5, atol=1e-6 * money)


def test_compact_program_decides_beyond_the_selectors():
    rng = np.random.default_rng(6)
    network = families.random_sizes(rng, 13).network()
    verdict = network.is_stable(np.zeros((13, 13)), "cut")
    assert verdict.method == "milp"
    assert not verdict
    assert (verdict.witness.gains >= 0).all()
    assert verdict.witness.gains.max() > 0


def test_ordinal_or_tiny_or_shifted_utilities_change_nothing():
    rng = np.random.default_rng(7)
    for _ in range(5):
        table = rng.random((4, 16))
        plain = SharingNetwork(table)
        other = SharingNetwork(1e-7 * np.arange(1, 5)[:, None] * table - 3e-7)
        for rule in RULES:
            assert as_edges(plain.stable_graphs(rule)) == as_edges(other.stable_graphs(rule))
        graph = random_graph(rng, 4)
        assert bool(plain.is_stable(graph)) == bool(other.is_stable(graph, method="milp"))


def test_a_strongly_stable_graph_is_pareto_optimal_and_a_dominated_one_is_not():
    network = SharingNetwork(lambda agent, partners: len(partners), n_agents=3)
    verdict = network.is_pareto_optimal(np.zeros((3, 3)))
    assert not verdict
    assert verdict.witness.coalition == (0, 1, 2)
    assert network.is_pareto_optimal(1 - np.eye(3))
    program = network.blocking_program(np.zeros((3, 3)))
    program.add("everybody", program["member"] == 1)
    assert round(program.solve("highspy").objective) == 3


def test_users_change_the_blocking_program():
    graph = np.array([[0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    network = two_peaked()
    program = network.blocking_program(graph)
    assert {"added_inside", "dropped_touch", "nobody_loses", "one_set", "sets_are_edges"} <= set(
        program.families
    )
    assert program.solve().objective >= 1
    # Agents who may not break off cannot block here; agent 3 finds nobody.
    kept = program.copy()
    kept.add("no_break", kept["edge"] >= graph[np.triu_indices(4, 1)])
    assert round(kept.solve().objective) == 0
    # Whoever may use others' edges without asking needs no partner's consent.
    alone = network.blocking_program(np.zeros((4, 4)))
    alone.add("alone", cp.sum(alone["member"]) <= 1)
    assert round(alone.solve().objective) == 0
    alone.drop("added_inside")
    assert round(alone.solve().objective) == 1
    # A least gain in utility, by name.
    greedy = network.blocking_program(np.zeros((4, 4)))
    greedy.add("worth_it", greedy["gain"] >= 2 * greedy["member"])
    assert round(greedy.solve().objective) == 0


def test_a_solver_failure_is_tried_again_without_presolve(monkeypatch):
    solve, seen = Highspy.solve, []

    def failing(self, program, settings):
        seen.append(settings.options.get("presolve"))
        if settings.options.get("presolve") == "off":
            return solve(self, program, settings)
        return Answer(mo.Status.FAILED, "Solve error")

    monkeypatch.setattr(Highspy, "solve", failing)
    network = two_peaked()
    assert not network.is_stable(np.zeros((4, 4)), method="milp")
    assert seen == [None, "off"]
    with pytest.raises(mo.SolverFailure):
        network.is_stable(np.zeros((4, 4)), method="milp", presolve="on")


def test_an_answer_that_blocks_nothing_is_refused(monkeypatch):
    solve = model._solve

    def lying(program, backend, options):
        solution = solve(program, backend, options)
        return solution.replace(values={**solution.values, "edge": 0 * solution["edge"]})

    monkeypatch.setattr(model, "_solve", lying)
    with pytest.raises(mo.SolverFailure, match="blocks nothing when recomputed"):
        two_peaked().is_stable(np.zeros((4, 4)), method="milp")


def test_a_search_that_is_cut_short_does_not_say_stable(monkeypatch):
    solve = model._solve

    def stopped(program, backend, options):
        return solve(program, backend, options).replace(status=mo.Status.LIMIT, reason="time limit")

    monkeypatch.setattr(model, "_solve", stopped)
    pairs = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    with pytest.raises(mo.SolverFailure, match=r"search is not complete \(limit: time limit\)"):
        two_peaked().is_stable(pairs, method="milp")
    # A coalition found is a coalition, however the search ended.
    assert not two_peaked().is_stable(np.zeros((4, 4)), method="milp")


# ------------------------------------------------------------ the ordered match


def test_match_is_the_sweep_and_the_only_stable_graph():
    rng = np.random.default_rng(8)
    for n_agents in [3] * 20 + [4] * 30 + [5] * 4:
        network = families.random_ranked(rng, n_agents).network()
        utilities = [
            {s: network.preferences.utility(k, s) for s in oracle.subsets(set(range(n_agents)) - {k})}
            for k in range(n_agents)
        ]
        match = network.match(range(n_agents))
        assert match.guarantee is True
        assert oracle.graph_of(match.adjacency) == oracle.ordered_match(utilities, range(n_agents))
        assert as_edges(network.stable_graphs()) == {oracle.graph_of(match.adjacency)}
        assert network.is_stable(match.adjacency, "cut")
        assert n_agents * (n_agents - 1) // 2 <= match.n_queries <= n_agents * (n_agents - 1)


@pytest.mark.parametrize("n_agents", [2, 3, 7, 8, 25])
def test_running_totals_give_the_sweep_in_any_order(n_agents):
    """The rounds decide pairs in another order than the paper; the sweep asks one by one, by set."""
    rng = np.random.default_rng([9, n_agents])
    for _ in range(4):
        case = families.random_sizes(rng, n_agents)
        network = case.network()
        counts = np.arange(n_agents)
        costs = np.outer(case.linear, counts) + np.outer(case.curve, counts**2)

        def utility(agent, partners, case=case, costs=costs):
            total = case.data_size[agent] + sum(case.data_size[i] for i in partners)
            return case.weights[agent] * np.log1p(total) - costs[agent, len(partners)]

        asked = SharingNetwork(utility, n_agents=n_agents)
        for ranking in (np.arange(n_agents), rng.permutation(n_agents)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", mo.MechanismWarning)  # the second ranking is wrong
                fast, slow = network.match(ranking), asked.match(ranking)
            np.testing.assert_array_equal(fast.adjacency, slow.adjacency)
            assert fast.n_queries == slow.n_queries


def test_functions_of_one_kind_are_evaluated_together_and_others_one_by_one():
    rng = np.random.default_rng(10)
    size = rng.permutation(np.arange(1.0, 41))
    weights = rng.uniform(0.5, 2, 40)
    ranking = np.argsort(-size)
    costs = 0.01 * np.arange(40) ** 1.5
    forms = [
        [mo.LogGain(weight=float(w), scale=1.0) for w in weights],
        [lambda total, w=w: float(w * np.log1p(total)) for w in weights],
        lambda totals: weights * np.log1p(totals),
        [mo.LogGain(weight=float(w), scale=1.0) for w in weights[:20]]
        + [lambda total, w=w: w * np.log1p(total) for w in weights[20:]],
    ]
    matches = [SharingNetwork(form, data_size=size, count_costs=costs).match(ranking) for form in forms]
    for match in matches[1:]:
        np.testing.assert_array_equal(match.adjacency, matches[0].adjacency)
    assert [match.guarantee for match in matches] == [True, None, None, None]
    assert 0 < matches[0].adjacency.sum() < 40 * 39
    mixed = [mo.LogGain(1.0, 1.0), mo.PowerGain(weight=1.0, scale=1.0, exponent=0.5)] * 20
    values = SharingNetwork(mixed, data_size=size).agent_utility(np.zeros((40, 40)))
    np.testing.assert_allclose(values, [float(gain(d)) for gain, d in zip(mixed, size, strict=True)])


def test_three_thousand_agents_take_seconds():
    rng = np.random.default_rng(11)
    size = rng.permutation(3000) + 1.0
    gains = [mo.LogGain(weight=float(w), scale=1.0) for w in rng.uniform(0.5, 2, 3000)]
    network = SharingNetwork(gains, data_size=size, count_costs=lambda m: 1e-4 * m + 1e-7 * m**2)
    started = time.perf_counter()
    match = network.match(np.argsort(-size))
    assert time.perf_counter() - started < 20  # about 1 s on an idle core
    assert match.guarantee is True
    assert 0 < match.adjacency.sum() < 3000 * 2999
    np.testing.assert_array_equal(match.adjacency, match.adjacency.T)


def test_comparison_with_the_match_decides_any_number_of_agents():
    rng = np.random.default_rng(12)
    for n_agents in (3, 4, 5):
        network = families.random_sizes(rng, n_agents).network()
        for _ in range(15):
            graph = random_graph(rng, n_agents)
            by_match = network.is_stable(graph, method="ordered-match")
            assert bool(by_match) == bool(network.is_stable(graph, method="enumeration"))
    case = families.random_sizes(rng, 40)
    order = rng.permutation(40)
    counts = np.arange(40)
    network = SharingNetwork(
        mo.LogGain(1.0, 1.0), data_size=np.array(case.data_size)[order], count_costs=0.002 * counts**1.5
    )
    match = network.ordered_match(np.argsort(-network.data_size))
    assert network.is_stable(match).method == "ordered-match"
    assert network.is_stable(match)
    for _ in range(30):
        a, b = rng.choice(40, 2, replace=False)
        graph = match.copy()
        graph[a, b] = graph[b, a] = 1 - graph[a, b]
        verdict = network.is_stable(graph)
        coalition, after = verdict.witness.coalition, verdict.witness.adjacency
        assert not verdict
        assert len(coalition) <= 2
        gains = (network.agent_utility(after) - network.agent_utility(graph))[list(coalition)]
        assert gains.min() >= 0 < gains.max()
        added, dropped = after > graph, after < graph
        assert set(np.flatnonzero(added.any(axis=0)).tolist()) <= set(coalition)
        assert all({a, b} & set(coalition) for a, b in np.argwhere(dropped).tolist())


def test_renamed_agents_match_alike():
    rng = np.random.default_rng(13)
    case = families.random_sizes(rng, 8)
    names = rng.permutation(8)
    costs = np.outer(case.linear, np.arange(8)) + np.outer(case.curve, np.arange(8) ** 2)
    gains = [mo.LogGain(weight, 1.0) for weight in case.weights]
    renamed = SharingNetwork(
        [gains[i] for i in names], data_size=np.array(case.data_size)[names], count_costs=costs[names]
    )
    match = case.network().ordered_match(range(8))
    np.testing.assert_array_equal(renamed.ordered_match(np.argsort(names)), match[np.ix_(names, names)])


def test_limits_free_data_are_shared_by_all_and_dear_data_by_none():
    size = [5.0, 3.0, 2.0, 1.0]
    free = SharingNetwork(mo.LogGain(1.0, 1.0), data_size=size)
    np.testing.assert_array_equal(free.ordered_match(range(4)), 1 - np.eye(4))
    dear = SharingNetwork(mo.LogGain(1.0, 1.0), data_size=size, count_costs=lambda m: 10.0 * m)
    assert not dear.ordered_match(range(4)).any()
    alone = SharingNetwork(mo.LogGain(1.0, 1.0), data_size=[2.0])
    assert alone.ordered_match([0]).tolist() == [[0]]
    assert len(alone.stable_graphs()) == 1
    assert alone.is_stable([[0]], method="milp")


def test_violations_warn_with_the_witness_and_lose_the_guarantee():
    network = families.EXAMPLE_35.network()
    with pytest.warns(mo.MechanismWarning, match="need not be stable: agent 0 does not prefer 1 to 2"):
        match = network.match([0, 1, 2])
    assert match.guarantee is False
    assert match.witness == network.top_agent_violation([0, 1, 2])
    missing = families.WITHOUT_COMPLEMENTARITY.network()
    with pytest.warns(mo.MechanismWarning, match="does not want"):
        match = missing.match([0, 1, 2])
    assert match.witness == missing.limited_complementarity_violation([0, 1, 2], prefix=True)
    size = np.arange(20, 0, -1.0)
    network = SharingNetwork(mo.LogGain(1.0, 1.0), data_size=size)
    with pytest.warns(mo.MechanismWarning, match="does not prefer 19 to 18"):
        match = network.match(np.arange(20)[::-1])
    assert match.guarantee is False
    assert network.match(range(20)).guarantee is True
    # Where sets cannot be gone through, nothing is claimed.
    dents = SharingNetwork(mo.LogGain(1.0, 1.0), data_size=size, count_costs=lambda m: float(m > 3))
    match = dents.match(range(20))
    assert match.guarantee is None
    assert "not convex" in match.reason
    asked = SharingNetwork(lambda agent, partners: sum(20.0 - i for i in partners), n_agents=20)
    assert asked.match(range(20)).guarantee is None


def test_ties_are_refused_by_name():
    with pytest.raises(mo.InvalidInput, match="strict preference required, agents 1 and 2 tie for agent 0"):
        SharingNetwork(mo.LogGain(1.0, 1.0), data_size=[3, 2, 2]).ordered_match([0, 1, 2])
    with pytest.raises(mo.InvalidInput, match="strict preference required, agents 1 and 2 tie for agent 0"):
        SharingNetwork(lambda agent, partners: len(partners), n_agents=3).ordered_match([0, 1, 2])
    tied = families.TIED.network()
    with pytest.raises(mo.InvalidInput, match=r"agent 0 with partners \[\] is indifferent to adding 1"):
        tied.ordered_match([0, 1, 2])
    flat = SharingNetwork(mo.QuadraticGain(1.0, 0.05, 1.0), data_size=np.arange(12, 0, -1.0))
    with pytest.raises(mo.InvalidInput, match="strict preference required: agent 0"):
        flat.ordered_match(range(12))
    with pytest.warns(mo.MechanismWarning):
        graph = tied.ordered_match([0, 1, 2], ties="refuse")
    assert np.argwhere(np.triu(graph)).tolist() == [[1, 2]]
    assert tied.is_stable(graph).witness.coalition == (0, 1)


def test_the_record_says_the_same_as_the_graph():
    network = families.random_sizes(np.random.default_rng(14), 6).network()
    graph = network.ordered_match(range(6))
    assert isinstance(graph, np.ndarray)
    np.testing.assert_array_equal(graph, network.match(range(6)).adjacency)


# ------------------------------------------------------------ the two properties


def test_checkers_against_the_definitions():
    rng = np.random.default_rng(15)
    seen = set()
    for turn in range(150):
        n_agents = 3 + turn % 2
        if turn % 3:
            case = families.random_ranked(rng, n_agents)
            orders = [list(order) for order in case.rankings]
            agent = rng.integers(n_agents)
            place = rng.integers(len(orders[agent]) - 1)
            orders[agent][place : place + 2] = orders[agent][place : place + 2][::-1]
            network = families.RankedCase(tuple(map(tuple, orders))).network()
        else:
            network = families.random_table(rng, n_agents, levels=3).network()
        utilities = [
            {s: network.preferences.utility(k, s) for s in oracle.subsets(set(range(n_agents)) - {k})}
            for k in range(n_agents)
        ]
        ranking = list(range(n_agents)) if turn % 2 else rng.permutation(n_agents).tolist()
        top = network.top_agent_violation(ranking)
        assert (top is None) == oracle.has_top_agent(utilities, ranking)
        both = []
        for prefix in (False, True):
            found = network.limited_complementarity_violation(ranking, prefix=prefix)
            assert (found is None) == oracle.has_limited_complementarity(utilities, ranking, prefix=prefix)
            both.append(found is None)
            if found is not None:
                mine, s = utilities[found.agent], found.partners
                assert mine[s | {found.refused}] <= mine[s] <= mine[s | found.added]
                assert found.refused in found.added or min(map(ranking.index, found.added)) > ranking.index(
                    found.refused
                )
        seen.add((top is None, *both))
    assert {(True, True, True), (False, False, False), (True, False, False), (True, False, True)} <= seen


def test_numbers_of_rankings():
    assert len(families.rankings(0, 3)) == 11
    assert len(families.rankings(1, 3, True, False)) == 12
    assert len(families.rankings(2, 3, False, True)) == 18
    assert len(families.rankings(0, 4, True, False)) == 1120
    drawn = {families.random_ranked(np.random.default_rng(k), 4).rankings[0] for k in range(20)}
    assert len(drawn) > 15


# ------------------------------------------------------------ the paper's examples


def test_example_35_has_no_stable_graph_and_a_cut_stable_path():
    network = families.EXAMPLE_35.network()
    assert network.stable_graphs() == []
    path = [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    assert [graph.tolist() for graph in network.stable_graphs("cut")] == [path]
    assert network.is_stable(path, "cut", method="milp")
    assert not network.is_stable(path, method="milp")


def test_example_35_by_the_place_of_the_set_left_out():
    stable = [families.example_35(place).network().stable_graphs() for place in range(4)]
    assert [len(graphs) for graphs in stable] == [1, 0, 0, 0]
    assert np.argwhere(np.triu(stable[0][0])).tolist() == [[0, 1]]
    # In the last place agents do have a common ranking, and it is complementarity that fails.
    rankings = list(itertools.permutations(range(3)))
    common = [
        [r for r in rankings if families.example_35(place).network().top_agent_violation(r) is None]
        for place in range(4)
    ]
    assert common == [[], [], [], [(2, 1, 0)]]
    assert families.example_35(3).network().limited_complementarity_violation((2, 1, 0)) is not None


def test_the_second_example_has_a_common_ranking_and_no_stable_graph():
    network = families.WITHOUT_COMPLEMENTARITY.network()
    assert network.top_agent_violation([0, 1, 2]) is None
    assert network.limited_complementarity_violation([0, 1, 2]) is not None
    assert network.stable_graphs() == []


def test_identical_agents_chase_one_another():
    network = families.SAME.network()
    assert network.stable_graphs() == []
    with pytest.raises(mo.InvalidInput, match="strict preference required, agents 0 and 1 tie"):
        network.match([0, 1, 2])


def test_remark_34_two_agents():
    network = families.PairCase(1.0, 10.0).network()
    graph = network.ordered_match([0, 1])
    assert network.welfare(graph) == 1.0
    best, welfare = network.best_welfare()
    assert (best.tolist(), welfare) == ([[0, 1], [1, 0]], 10.0)
    assert network.is_stable(graph)
    assert network.is_pareto_optimal(graph)
    assert network.is_pareto_optimal(best)


# ------------------------------------------------------------ input


def test_all_forms_of_utilities_say_the_same():
    rng = np.random.default_rng(16)
    utilities = oracle.random_utilities(rng, 4)
    table = np.zeros((4, 16))
    for agent, mine in enumerate(utilities):
        for partners, value in mine.items():
            table[agent, sum(1 << i for i in partners)] = value
    ranked = [sorted(mine, key=mine.get, reverse=True) for mine in utilities]
    networks = [
        SharingNetwork(utilities),
        SharingNetwork(table),
        SharingNetwork(table.tolist()),
        SharingNetwork(lambda agent, partners: utilities[agent][partners], n_agents=4),
        SharingNetwork(ranked),
        SharingNetwork([[sorted(s) for s in order] for order in ranked], n_agents=4),
    ]
    graph = random_graph(rng, 4)
    for network in networks:
        assert network.n_agents == 4
        for rule in RULES:
            assert as_edges(network.stable_graphs(rule)) == as_edges(networks[0].stable_graphs(rule))
    assert repr(networks[0]) == "SharingNetwork of 4 agents, preferences by table"
    for network in networks[:4]:
        np.testing.assert_allclose(network.agent_utility(graph), networks[0].agent_utility(graph))
    own = np.where([[mask >> agent & 1 for mask in range(16)] for agent in range(4)], np.nan, table)
    assert SharingNetwork(own).welfare(graph) == pytest.approx(networks[0].welfare(graph))
    with pytest.raises(mo.NotApplicable, match="rankings cannot be added up"):
        networks[4].welfare(graph)


def test_a_function_is_asked_once_for_each_set():
    asked = []

    def utility(agent, partners):
        asked.append((agent, partners))
        return -abs(sum(4 - i for i in partners) - 4.5)

    network = SharingNetwork(utility, n_agents=4)
    network.is_stable(np.zeros((4, 4)))
    network.is_stable(1 - np.eye(4), "cut", method="milp")
    assert len(asked) == len(set(asked)) == 4 * 8


LOG = mo.LogGain(1.0, 1.0)
GRAPH = np.zeros((3, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"utilities": lambda a, s: 0.0}, "n_agents is needed with a function"),
        ({"utilities": lambda a, s: 0.0, "n_agents": 0}, "n_agents must be a whole number >= 1, got 0"),
        ({"utilities": 3}, "utilities must be a function"),
        ({"utilities": "abc"}, "utilities must be a function"),
        ({"utilities": []}, r"utilities has shape \(0,\)"),
        ({"utilities": np.zeros((3, 4))}, r"utilities has shape \(3, 4\); a table has"),
        ({"utilities": np.zeros((3, 8)), "n_agents": 4}, "n_agents = 4, but utilities are those of 3 agents"),
        ({"utilities": [[0, 1, np.nan, 0], [0, 1, 2, 3]]}, r"utilities\[0, 2\], of partners \[1\], is nan"),
        ({"utilities": [[0, 1, np.inf, 0], [0, 1, 2, 3]]}, r"utilities\[0, 2\], of partners \[1\], is inf"),
        ({"utilities": [{frozenset(): 0}, {frozenset(): 0}]}, r"utilities\[0\] lacks the set \[1\]"),
        (
            {"utilities": [{frozenset({0}): 1}, {}]},
            r"utilities\[0\] has a set with agent 0 in it \(self-sharing\)",
        ),
        ({"utilities": [{frozenset({2}): 1}, {}]}, r"utilities\[0\]: 2 is not an agent"),
        ({"utilities": [{frozenset(): "x"}, {}]}, r"utilities\[0\], of \[\], must be a number"),
        ({"utilities": [{frozenset(): np.nan}, {}]}, r"utilities\[0\], of \[\], is nan"),
        ({"utilities": [[{1}, set(), {1}], [{0}, set()]]}, r"utilities\[0\] has the set \[1\] twice"),
        ({"utilities": [[{1}, set()], [{0}]]}, r"utilities\[1\] lacks the set \[\]"),
        ({"utilities": [[{1}, set()], 3]}, r"utilities\[1\] must be of the same kind"),
        ({"utilities": [LOG, LOG]}, "give data_size too"),
        ({"utilities": LOG, "n_agents": 2, "count_costs": [0, 1]}, "count_costs go with data_size"),
        ({"utilities": LOG, "data_size": []}, "data_size is empty"),
        ({"utilities": LOG, "data_size": [1, 0]}, r"data_size\[1\] = 0 must be > 0"),
        ({"utilities": LOG, "data_size": [1, np.nan]}, r"data_size\[1\] is nan"),
        ({"utilities": LOG, "data_size": [1, 2], "n_agents": 3}, "n_agents = 3, but data_size has 2 entries"),
        ({"utilities": [LOG], "data_size": [1, 2]}, "utilities has 1 functions for 2 agents"),
        (
            {"utilities": np.zeros((2, 4)), "data_size": [1, 2]},
            "with data_size, utilities must be one function",
        ),
        ({"utilities": lambda d: 1.0, "data_size": [1, 2]}, "must be elementwise in the array of totals"),
        ({"utilities": lambda d: d * np.inf, "data_size": [1, 2]}, "agent 0 has inf at a total of 1"),
        ({"utilities": LOG, "data_size": [1, 2], "count_costs": [0, 1, 2]}, r"count_costs has shape \(3,\)"),
        (
            {"utilities": LOG, "data_size": [1, 2], "count_costs": [0, np.nan]},
            r"count_costs\[1\] must be finite",
        ),
        ({"utilities": LOG, "data_size": [1, 2], "count_costs": "ab"}, "count_costs must be numbers"),
    ],
)
def test_bad_networks(arguments, message):
    with pytest.raises(mo.InvalidInput, match=message):
        SharingNetwork(**arguments)


@pytest.mark.parametrize(
    ("adjacency", "message"),
    [
        (np.zeros((2, 3)), r"adjacency has shape \(2, 3\); 3 agents need \(3, 3\)"),
        (np.eye(3), r"adjacency\[0, 0\] = 1 is self-sharing"),
        ([[0, 1, 0], [0, 0, 0], [0, 0, 0]], r"adjacency\[0, 1\] = 1 differs from the entry across"),
        ([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]], r"adjacency\[0, 1\] = 0.5 must be 0 or 1"),
        ([[0, np.nan, 0], [0, 0, 0], [0, 0, 0]], r"adjacency\[0, 1\] = nan must be 0 or 1"),
        ("graph", "adjacency must be a matrix"),
    ],
)
def test_bad_graphs(adjacency, message):
    network = SharingNetwork(LOG, data_size=[3, 2, 1])
    for method in (
        network.is_stable,
        network.blocking_program,
        network.agent_utility,
        network.is_pareto_optimal,
    ):
        with pytest.raises(mo.InvalidInput, match=message):
            method(adjacency)


@pytest.mark.parametrize(
    "ranking", [[0, 1], [0, 1, 1], [1, 2, 3], [[0, 1, 2]], "abc", [0, 1, np.nan], [0.5, 1, 2]]
)
def test_bad_rankings(ranking):
    network = SharingNetwork(LOG, data_size=[3, 2, 1])
    for method in (network.match, network.top_agent_violation, network.limited_complementarity_violation):
        with pytest.raises(mo.InvalidInput, match="ranking must"):
            method(ranking)


def test_bad_calls():
    network = SharingNetwork(LOG, data_size=[3, 2, 1])
    with pytest.raises(mo.InvalidInput, match="rule must be 'strong' or 'cut', got 'weak'"):
        network.is_stable(GRAPH, "weak")
    with pytest.raises(mo.InvalidInput, match="method must be one of enumeration, milp, ordered-match"):
        network.is_stable(GRAPH, method="lp")
    with pytest.raises(mo.InvalidInput, match="form must be 'selectors' or 'compact'"):
        network.blocking_program(GRAPH, form="big")
    with pytest.raises(mo.InvalidInput, match="ties must be 'raise' or 'refuse'"):
        network.match([0, 1, 2], ties="keep")
    with pytest.raises(mo.InvalidInput, match="n_agents must be >= 2"):
        SharingNetwork(LOG, data_size=[1]).blocking_program([[0]])
    with pytest.raises(mo.InvalidInput, match=r"utilities\(1, \[0\]\) is nan"):
        SharingNetwork(lambda a, s: np.nan if a else 0.0, n_agents=2).agent_utility([[0, 1], [1, 0]])
    with pytest.raises(mo.NotApplicable, match="ordered-match' needs the strong rule"):
        network.is_stable(GRAPH, "cut", method="ordered-match")
    general = SharingNetwork(lambda a, s: len(s), n_agents=3)
    with pytest.raises(
        mo.NotApplicable, match="form='compact' needs utilities that are functions of total size"
    ):
        general.blocking_program(GRAPH, form="compact")
    peaks = SharingNetwork(lambda d: -((d - 4) ** 2), data_size=[3, 2, 1])
    with pytest.raises(mo.NotApplicable, match="utility of agent 0 is not a ConcaveFunction"):
        peaks.blocking_program(GRAPH, form="compact")
    equal = SharingNetwork(LOG, data_size=[2, 2, 1])
    with pytest.raises(mo.InvalidInput, match="agents 0 and 1 tie"):
        equal.is_stable(GRAPH, method="ordered-match")


def test_too_many_agents_are_told_the_other_way():
    seven = SharingNetwork(lambda a, s: len(s), n_agents=7)
    with pytest.raises(mo.InvalidInput, match=r"up to 6 agents, and there are 7; use method='milp'"):
        seven.is_stable(np.zeros((7, 7)), method="enumeration")
    with pytest.raises(mo.InvalidInput, match=r"all graphs for up to 5 agents.*method='milp'"):
        seven.stable_graphs()
    with pytest.raises(mo.InvalidInput, match="Pareto optimality of a graph for up to 6"):
        seven.is_pareto_optimal(np.zeros((7, 7)))
    with pytest.raises(mo.InvalidInput, match="most welfare for up to 6"):
        seven.best_welfare()
    many = SharingNetwork(lambda a, s: len(s), n_agents=13)
    sizes = SharingNetwork(LOG, data_size=np.arange(17, 0, -1.0))
    with pytest.raises(mo.InvalidInput, match="decided for up to 12 agents, and there are 17"):
        sizes.is_stable(np.zeros((17, 17)), "cut")
    with pytest.raises(mo.InvalidInput, match="general preferences is decided for up to 12 agents"):
        many.is_stable(np.zeros((13, 13)))
    with pytest.raises(mo.InvalidInput, match="up to 12 agents, and there are 13; form='compact'"):
        many.blocking_program(np.zeros((13, 13)))
    with pytest.raises(mo.InvalidInput, match="set by set for up to 12 agents"):
        many.top_agent_violation(range(13))
    with pytest.raises(mo.InvalidInput, match="for more than 12 give a function"):
        SharingNetwork([{frozenset(): 0.0}] * 13)
