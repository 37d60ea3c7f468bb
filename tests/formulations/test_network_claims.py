"""Claims of section 3 of the sharing-market paper: their verdicts, and checks that can fail."""

import numpy as np
import pytest

import mechopt as mo
from mechopt.formulations.sharing_market.claims import network, network_errata
from mechopt.formulations.sharing_market.claims.roads import LEDGER
from mechopt.formulations.sharing_market.network import matching, model, properties, stability
from mechopt.verification.claim import run_claim

MODULES = (network.__name__, network_errata.__name__)
CLAIMS = {
    claim.id.removeprefix("sharing-market/"): claim for claim in LEDGER if claim.check.__module__ in MODULES
}
N_INSTANCES = 8


def run(id, n_instances=N_INSTANCES, seed=1):
    return run_claim(CLAIMS[id], n_instances=n_instances, seed=seed)


@pytest.mark.parametrize("id", CLAIMS)
def test_verdict_is_the_one_expected(id):
    outcome = run(id, min(N_INSTANCES, CLAIMS[id].n_instances))
    assert outcome.as_expected, f"{outcome.verdict}: {outcome.witness} at {outcome.counterexample}"
    assert outcome.n_checked >= 2
    if outcome.verdict is mo.Verdict.REFUTED:
        assert outcome.worst >= 0.1
        assert outcome.witness
        assert repr(outcome.counterexample).startswith(type(outcome.counterexample).__name__)


def test_results_and_errata_are_in_the_ledger():
    wanted = {f"R{i}" for i in range(1, 11)} | {f"E{i}" for i in range(1, 6)} | {"E5-strict"}
    assert wanted <= set(CLAIMS)
    for id, claim in CLAIMS.items():
        refuted = id.startswith("E") or id == "R6-cut-unique"
        assert claim.expected is (mo.Verdict.REFUTED if refuted else mo.Verdict.HOLDS), id
        assert claim.source
        if refuted:
            correction = CLAIMS[claim.corrected_by.removeprefix("sharing-market/")]
            assert correction.expected is mo.Verdict.HOLDS


# ------------------------------------------------------------ counterexamples, by hand


def first(id):
    return next(iter(CLAIMS[id].instances(np.random.default_rng(0), 1)))


def test_e3_three_peaks():
    """Agent 1, 5 records and peak 9.2005: with agent 0 it has 12, with agent 2 it has 8."""
    finding = CLAIMS["E3"].check(first("E3"))
    assert finding.gap > 0.05
    assert (12 - 9.2005) ** 2 > (8 - 9.2005) ** 2
    assert "total of 12 " in finding.witness
    assert "0 graphs are stable" in finding.witness


def test_e4_one_partner_is_best():
    finding = CLAIMS["E4"].check(first("E4"))
    values = np.log([2, 3, 4]) - [0, 0.2, 0.6]
    assert values[1] > values[2] > values[0]
    assert f"{values[1]:.6g}" in finding.witness


def test_e5_the_match_is_blocked_by_0_and_1():
    finding = CLAIMS["E5-strict"].check(first("E5-strict"))
    assert "{1-2} is blocked: coalition makes {0-1, 1-2}: 0 by 0, 1 by 2" in finding.witness


def test_e1_is_separated_by_the_path():
    finding = CLAIMS["E1"].check(first("E1"))
    assert finding.witness == "stable by the definition: none; by the proof's rule: {0-1, 1-2}"


# ------------------------------------------------------------ broken formulas are caught


def caught(id, n_instances=12):
    outcome = run(id, n_instances)
    assert outcome.verdict is not CLAIMS[id].expected, f"{id} does not notice"


def test_a_sweep_that_does_not_ask_the_other_is_caught(monkeypatch):
    def eager(preferences, ranking, ties):
        graph, queries = sweep(preferences, ranking, ties)
        graph[0, -1] = graph[-1, 0] = 1 - graph[0, -1]
        return graph, queries

    sweep = matching.sweep
    monkeypatch.setattr(matching, "sweep", eager)
    for id in ("R6", "R6-pairs", "R6-cut", "R6-break", "R5-prefix", "R7", "R7-swaps"):
        caught(id, 4)


def test_rounds_that_forget_an_agent_are_caught(monkeypatch):
    monkeypatch.setattr(network, "sweep_by_size", lambda *args: (matching.sweep_by_size(*args)[0] * 0, 0))
    caught("R8")


def test_an_enumeration_that_lets_outsiders_be_added_is_caught(monkeypatch):
    def careless(ranks, graphs):
        place = stability.ranks_by_graph(ranks)
        return np.any(place[:, None, :] > place[:, graphs, None], axis=0)

    monkeypatch.setattr(stability, "_strong", careless)
    for id in ("R2", "R6", "R6-sizes", "E2"):
        caught(id, 4)


def test_a_program_in_which_edges_need_no_consent_is_caught(monkeypatch):
    declare = model.declare_blocking
    monkeypatch.setattr(
        model,
        "declare_blocking",
        lambda *args: declare(*args).drop("added_inside") if args[2] == "strong" else declare(*args),
    )
    caught("R2", 8)


def test_checkers_that_see_nothing_are_caught(monkeypatch):
    monkeypatch.setattr(properties, "top_agent_violation", lambda *args, **options: None)
    caught("R3")
    caught("E3")
    monkeypatch.setattr(properties, "limited_complementarity_violation", lambda *args, **options: None)
    caught("R5")


def test_a_wrong_welfare_is_caught(monkeypatch):
    monkeypatch.setattr(model.SharingNetwork, "welfare", lambda self, graph: 0.0)
    caught("R9-welfare")


def test_pareto_improvements_that_are_invented_are_caught(monkeypatch):
    monkeypatch.setattr(
        stability, "pareto_improvement", lambda ranks, graph: 1 - graph - np.eye(len(graph), dtype=int)
    )
    caught("R9")
