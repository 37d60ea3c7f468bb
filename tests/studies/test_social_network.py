"""The social network: all checks pass, and each of them fails when what it checks is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from rich.console import Console

import mechopt as mo
from mechopt.formulations.data_externality.model import DataExternality
from mechopt.studies.scenario import load_scenario
from mechopt.studies.social_network import (
    SocialNetwork,
    SocialReport,
    best_for_all,
    checks,
    run_social_network,
    study,
)

SMALL = """title = "small [/red]"
mechanism = "data-externality"
seed = 1
backends = ["exact", "clarabel"]
[network]
graph = "florentine-families"
strength = 1.0
variance = 2.0
[privacy]
value = 1.1
spread = 0.6
"""
KARATE = SMALL.replace("florentine-families", "karate-club").replace(
    "value = 1.1", 'attribute = "club"\nvalues = { "Mr. Hi" = 0.8, "Officer" = 1.8 }'
)


def load(folder: Path, text: str = SMALL) -> tuple[SocialNetwork, Path]:
    (folder / "case.toml").write_text(text)
    return load_scenario(folder / "case.toml")


def run(folder: Path, text: str = SMALL, **options: Any) -> SocialReport:
    return run_social_network(*load(folder, text), **options)


def failed(report: SocialReport) -> set[str]:
    return {check.name for check in report.checks if not check.passed}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> SocialReport:
    return run(tmp_path_factory.mktemp("small"))


@pytest.fixture
def again(tmp_path: Path) -> Callable[..., SocialReport]:
    return lambda text=SMALL, **options: run(tmp_path, text, **options)


def test_all_checks_pass(report: SocialReport) -> None:
    assert report.agreement, failed(report)
    names = [check.name for check in report.checks]
    assert {name.split()[0] for name in names} == {"1", "2", "3", "4", "5", "6"}
    assert len(set(names)) == len(names)
    # Something is bought, and something leaks about those who do not sell.
    assert 0 < report.market.sharing.sum() < report.model.n_users
    assert report.market.leaked_information[~report.market.sharing].sum() > 0.01


def test_the_kernel_is_that_of_the_graph(report: SocialReport) -> None:
    graph = nx.florentine_families_graph()
    laplacian = nx.laplacian_matrix(graph).toarray()
    kernel = np.linalg.inv(np.eye(len(graph)) + laplacian)
    np.testing.assert_allclose(report.model.variance, 2.0)
    correlation = report.model.covariance / 2.0
    size = np.sqrt(np.diag(kernel))
    np.testing.assert_allclose(correlation, kernel / np.outer(size, size), atol=1e-12)
    # In the field's precision only ties show.
    precision = np.linalg.inv(report.model.covariance)
    tied = nx.to_numpy_array(graph) > 0
    np.testing.assert_allclose(precision[~tied & ~np.eye(len(graph), dtype=bool)], 0, atol=1e-9)


def test_the_market_is_the_best_of_all_sets(report: SocialReport) -> None:
    model = report.model
    high = model.high_value
    assert high.size <= 12
    sharing = model.value_of_privacy <= 1
    profits = []
    for mask in range(2**high.size):
        trial = sharing.copy()
        trial[high[[bool(mask >> bit & 1) for bit in range(high.size)]]] = True
        profits.append(checks._profit(model, trial))
    assert report.market.profit == pytest.approx(max(profits), rel=1e-9)


def test_tables(report: SocialReport) -> None:
    members, summary = report.members(), report.summary()
    assert [row["member"] for row in members] == list(nx.florentine_families_graph())
    assert sum(row["members"] for row in summary) == len(members)
    assert all((row["price"] > 0) == row["shares"] for row in members)
    for row in members:
        loss = row["value_of_privacy"] * row["leaked"] - row["price"]
        assert row["payoff"] == pytest.approx(-loss, abs=1e-9)
    market, taxed, mediator, nothing = report.arrangements()
    assert nothing["data_surplus"] == 0
    assert market["data_surplus"] == pytest.approx(report.market.data_surplus)
    assert taxed["data_surplus"] >= market["data_surplus"] - 1e-9
    assert mediator["data_surplus"] == pytest.approx(report.mediator.objective)


def test_the_seed_fixes_everything(report: SocialReport, again: Callable[..., SocialReport]) -> None:
    assert again().members() == report.members()
    assert again(SMALL.replace("seed = 1", "seed = 2")).members() != report.members()


def test_diffusion_and_another_graph(again: Callable[..., SocialReport]) -> None:
    text = SMALL.replace("strength", 'kernel = "diffusion"\nstrength')
    found = again(text.replace("florentine-families", "davis-southern-women").replace(', "clarabel"', ""))
    assert found.agreement, failed(found)
    assert found.model.n_users == 32
    assert "1 kind of kernel" not in {check.name for check in found.checks}
    assert "not proven" in " ".join(found.notes())


def test_groups_have_their_values(tmp_path: Path) -> None:
    scenario, _ = load(tmp_path, KARATE.replace("spread = 0.6", "spread = 0.0"))
    values = scenario.privacy.draw(scenario.network, np.random.default_rng(0))
    club = nx.get_node_attributes(nx.karate_club_graph(), "club")
    assert values.tolist() == [0.8 if club[node] == "Mr. Hi" else 1.8 for node in range(34)]


def test_climbing_finds_what_all_sets_do(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    for _ in range(4):
        root = rng.normal(size=(9, 12))
        model = DataExternality(root @ root.T / 9, rng.uniform(0.2, 2.0, 9))
        exact = model.data_surplus(best_for_all(model, rng))
        monkeypatch.setattr(checks, "MOST_PROVEN", 0)
        assert model.data_surplus(best_for_all(model, rng)) == pytest.approx(exact, rel=1e-9)
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda m: {"prices": m.prices * 0.9}, {"2 members' choice"}),
        (lambda m: {"prices": m.prices * 1.1, "profit": m.profit - 0.1 * m.prices.sum()}, {"2 profit"}),
        (lambda m: {"leaked_information": m.leaked_information * 0.9}, {"1 what leaks"}),
        (lambda m: {"payoffs": m.payoffs + 0.1}, {"3 surplus"}),
    ],
)
def test_a_wrong_market_fails(
    again: Callable[..., SocialReport],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Any], dict[str, Any]],
    names: set[str],
) -> None:
    right = DataExternality.monopoly

    def changed(self: DataExternality) -> Any:
        found = right(self)
        return replace(found, **change(found))

    monkeypatch.setattr(DataExternality, "monopoly", changed)
    assert names <= failed(again())


def test_a_worse_purchase_fails(again: Callable[..., SocialReport], monkeypatch: pytest.MonkeyPatch) -> None:
    right = DataExternality.monopoly

    def without_the_first(self: DataExternality) -> Any:
        found = right(self)
        sharing = found.sharing.copy()
        sharing[np.flatnonzero(sharing)[0]] = False
        return replace(found, sharing=sharing, leaked_information=self.leaked_information(sharing))

    monkeypatch.setattr(DataExternality, "monopoly", without_the_first)
    assert {"3 best purchase"} <= failed(again())


def test_wrong_taxes_fail(again: Callable[..., SocialReport], monkeypatch: pytest.MonkeyPatch) -> None:
    right = study.pigovian_tax

    def half(model: Any, target: Any) -> Any:
        found = right(model, target)
        return found.replace(values={**found.values, "tax": 0.5 * found["tax"]})

    monkeypatch.setattr(study, "pigovian_tax", half)
    assert "4 taxed purchase" in failed(again())


def test_a_leaky_mediator_fails(again: Callable[..., SocialReport], monkeypatch: pytest.MonkeyPatch) -> None:
    right = DataExternality.mediator
    monkeypatch.setattr(DataExternality, "mediator", lambda self, no_leak=None: right(self))
    assert {"5 no leak", "6 backends agree"} <= failed(again())


def test_the_tables_fit_and_are_plain(report: SocialReport) -> None:
    console = Console(width=80, record=True)
    report.show(console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for part in ("small [/red]", "sells nothing", "the market", "mediator, no leak", "2 profit"):
        assert part in text
    assert "…" not in text


def test_files(report: SocialReport, tmp_path: Path) -> None:
    files = report.write(tmp_path / "out")
    assert {path.name for path in files} == {
        *(f"{name}.csv" for name in ("checks", "members", "groups", "arrangements", "backends")),
        "result.json",
        "network.png",
        "network.pdf",
    }
    assert all(path.stat().st_size for path in files)
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["agreement"] is True
    assert record["profit"] == report.market.profit


def test_progress_counts_the_steps(again: Callable[..., SocialReport]) -> None:
    steps: list[tuple[str, int, int]] = []
    again(progress=lambda *step: steps.append(step))
    assert [number for _, number, _ in steps] == [0, 1, 2, 3, 3, 4]
    assert {total for _, _, total in steps} == {study.N_STEPS}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SMALL.replace("florentine-families", "facebook"), r"network\.graph"),
        (SMALL.replace("strength = 1.0", "strength = 0.0"), r"network\.strength"),
        (SMALL.replace("value = 1.1", "values = { a = 1.0 }"), "name the members' `attribute`"),
        (
            SMALL.replace("value = 1.1", 'attribute = "club"'),
            "Acciaiuoli of florentine-families has no",
        ),
        (KARATE.replace('"Officer" = 1.8', '"Boss" = 1.8'), "nobody is of 'Boss'; there is Mr. Hi, Officer"),
        (KARATE.replace('"Officer" = 1.8', '"Officer" = -1.0'), "values.Officer` must be >= 0"),
        (SMALL.replace('"clarabel"', '"highspy"'), "highspy"),
    ],
)
def test_bad_scenarios(again: Callable[..., SocialReport], text: str, says: str) -> None:
    with pytest.raises(mo.MechanismError, match=says):
        again(text)
