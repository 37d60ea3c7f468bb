"""The hospital exchange: all checks pass on real records, and each fails when what it checks is wrong."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import mechopt as mo
from mechopt.formulations.functions import PowerLawAccuracy
from mechopt.formulations.sharing_market.model import SharingMarket
from mechopt.studies.exchange import Exchange, ExchangeReport, run_exchange
from mechopt.studies.exchange import study as exchange
from mechopt.studies.scenario import load_scenario

pytest.importorskip("sklearn", reason="needs mechopt[data]")

SMALL = """title = "small [/red]"
mechanism = "sharing-market"
seed = 3
backends = ["exact", "outer"]
[training]
dataset = "breast-cancer"
sizes = [20, 40, 80, 160, 240, 319]
n_repeats = 12
[curve]
n_bootstrap = 60
[[hospitals]]
name = "one [/bold]"
records = 110
value = 2400.0
record_cost = 0.1
[[hospitals]]
name = "two"
records = 70
value = 1600.0
record_cost = 0.08
[[hospitals]]
name = "three"
records = 25
value = 1000.0
record_cost = 0.06
"""
RECORDS, VALUES, COSTS = np.array([110, 70, 25]), np.array([2400, 1600, 1000]), np.array([11.0, 5.6, 1.5])


def load(folder: Path, text: str = SMALL) -> tuple[Exchange, Path]:
    (folder / "case.toml").write_text(text)
    return load_scenario(folder / "case.toml")


def run(folder: Path, text: str = SMALL, **options: Any) -> ExchangeReport:
    return run_exchange(*load(folder, text), **options)


def failed(report: ExchangeReport) -> set[str]:
    return {check.name for check in report.checks if not check.passed}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ExchangeReport:
    return run(tmp_path_factory.mktemp("small"))


@pytest.fixture
def again(
    report: ExchangeReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., ExchangeReport]:
    """Run once more from the curve that was measured, with the models of pools of the first run."""
    monkeypatch.setattr(exchange, "measure_pools", lambda *_: report.pools)
    return lambda text=SMALL, **options: run(tmp_path, text, **{"fit": report.fit, **options})


def test_all_checks_pass(report: ExchangeReport) -> None:
    assert report.agreement, failed(report)
    names = [check.name for check in report.checks]
    assert {name.split()[0] for name in names} == {str(k) for k in range(1, 10)}
    assert len(set(names)) == len(names)


def test_the_graph_is_that_of_the_curve(report: ExchangeReport) -> None:
    a, beta, alpha = report.fit.parameters.values()
    graph = report.trade.adjacency
    for buyer in range(3):
        others = [i for i in range(3) if i != buyer]
        best = max(
            (
                VALUES[buyer] * (a - beta * (RECORDS[buyer] + sum(RECORDS[list(taken)])) ** -alpha)
                - sum(COSTS[list(taken)]),
                taken,
            )
            for size in range(3)
            for taken in itertools.combinations(others, size)
        )
        assert tuple(np.flatnonzero(graph[:, buyer])) == best[1]
    rows = report.hospitals()
    data = RECORDS + graph.T @ RECORDS
    assert [row["records_after"] for row in rows] == data.tolist()
    gain = VALUES * beta * (RECORDS**-alpha - data**-alpha)
    np.testing.assert_allclose([row["gain_in_value"] for row in rows], gain, rtol=1e-9)
    paid = [row["pays_at_cost"] - row["earns_at_cost"] for row in rows]
    np.testing.assert_allclose(paid, graph.T @ COSTS - graph.sum(axis=1) * COSTS, atol=1e-12)


def test_payments_and_edges(report: ExchangeReport) -> None:
    rows, edges, trade = report.hospitals(), report.edges(), report.trade
    assert sum(row["vcg_payment"] for row in rows) == pytest.approx(trade.vcg.imbalance)
    assert sum(row["mixed_payment"] for row in rows) == pytest.approx(0, abs=1e-9)
    for row in rows:
        assert row["mixed_payment"] + row["data_payment"] == pytest.approx(row["vcg_payment"])
    assert len(edges) == 6
    for row in edges:
        assert 0 <= row["sold_in_draws"] <= 1
        assert row["lowest_price"] <= row["price"] <= row["highest_price"]
        assert row["price"] == row["lowest_price" if row["sold"] else "highest_price"]
    # Data that the curve says are sold are sold in most curves that it might have been.
    assert all(
        (row["sold_in_draws"] > 0.4) == row["sold"] for row in edges if abs(row["sold_in_draws"] - 0.5) > 0.1
    )


def test_pools_are_trained(report: ExchangeReport) -> None:
    pools = report.pools
    assert pools.names[:3] == ("one [/bold], own", "two, own", "three, own")
    assert pools.trained[:3].tolist() == RECORDS.tolist()
    assert sorted(pools.trained[3:].tolist()) == pools.trained[3:].tolist()
    assert np.all(pools.apart > report.records.baseline + 0.2)


def test_the_seed_fixes_everything(report: ExchangeReport, tmp_path: Path) -> None:
    same = run(tmp_path)
    assert same.hospitals() == report.hospitals()
    assert same.edges() == report.edges()
    assert same.pools.record() == report.pools.record()
    other = run(tmp_path, SMALL.replace("seed = 3", "seed = 4"))
    assert other.hospitals() != report.hospitals()


@pytest.mark.parametrize("pivot", ["exclude", "drop"])
@pytest.mark.parametrize("split", ["greedy", "lp"])
def test_every_mechanism(again: Callable[..., ExchangeReport], pivot: str, split: str) -> None:
    found = again(SMALL.replace("seed = 3", f'seed = 3\npivot = "{pivot}"\nsplit = "{split}"'))
    assert found.agreement, failed(found)
    assert ("5 VCG, rationality" in {check.name for check in found.checks}) == (pivot == "exclude")
    assert pivot in " ".join(found.notes())
    assert bool(found.trade.mixed.refusals) == ("stays a debt" in " ".join(found.notes()))
    assert (found.trade.mixed.split != split) == ("the greedy one is shown" in " ".join(found.notes()))


@pytest.mark.parametrize(
    ("method", "change", "names"),
    [
        ("competitive_prices", lambda price: price + 0.5, {"3 prices at cost", "3 beyond intervals"}),
        (
            "price_interval",
            lambda ends: (ends[0] - 0.1, ends[1]),
            {"3 ends of intervals", "3 beyond intervals"},
        ),
        (
            "price_interval",
            lambda ends: (ends[0], ends[1] + 0.1),
            {"3 ends of intervals", "3 beyond intervals"},
        ),
        ("price_interval", lambda ends: (ends[0], ends[0]), {"3 beyond intervals"}),
    ],
)
def test_wrong_prices_fail(
    again: Callable[..., ExchangeReport],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    change: Callable[[Any], Any],
    names: set[str],
) -> None:
    right = getattr(SharingMarket, method)
    monkeypatch.setattr(SharingMarket, method, lambda *given, **more: change(right(*given, **more)))
    found = failed(again())
    assert names & found
    assert all(name.startswith("3") or name.startswith("4") for name in found)


def test_wrong_welfare_fails(again: Callable[..., ExchangeReport], monkeypatch: pytest.MonkeyPatch) -> None:
    right = SharingMarket.solve
    empty = np.zeros((3, 3))

    def nothing_sold(market: SharingMarket, *given: Any, **options: Any) -> Any:
        found = right(market, *given, **options)
        worth = market.welfare(empty)
        return found.replace(values={**found.values, "adjacency": empty}, objective=worth)

    monkeypatch.setattr(SharingMarket, "solve", nothing_sold)
    assert {"2 most welfare", "3 prices at cost"} <= failed(again())


def test_a_backend_that_is_wrong_fails(
    again: Callable[..., ExchangeReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = exchange.solve_everywhere

    def off(*given: Any, **options: Any) -> Any:
        solutions, skipped = right(*given, **options)
        worse = solutions["outer"].replace(objective=solutions["outer"].objective - 0.1)
        return {**solutions, "outer": worse}, skipped

    monkeypatch.setattr(exchange, "solve_everywhere", off)
    found = again()
    assert failed(found) == {"7 backends agree"}
    console = Console(width=80, record=True)
    found.show(console)
    assert "outer: has not the most welfare" in console.export_text()


def test_the_tables_fit_and_are_plain(report: ExchangeReport) -> None:
    console = Console(width=80, record=True)
    report.show(console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for part in ("small [/red]", "one [/bold]", "sold in draws", "in data", "2 most welfare"):
        assert part in text
    assert "…" not in text


def test_files(report: ExchangeReport, tmp_path: Path) -> None:
    files = report.write(tmp_path / "out")
    names = {path.name for path in files}
    assert names == {
        *(f"{name}.csv" for name in ("checks", "hospitals", "edges", "curve", "pools", "backends")),
        "result.json",
        "exchange.png",
        "exchange.pdf",
    }
    assert all(path.stat().st_size for path in files)
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["agreement"] is True
    assert record["welfare"]["most"] == report.trade.best.objective
    with (tmp_path / "out" / "edges.csv").open() as stream:
        assert [row["buyer"] for row in csv.DictReader(stream)][:2] == ["two", "three"]


def test_progress_counts_the_steps(report: ExchangeReport, again: Callable[..., ExchangeReport]) -> None:
    steps: list[tuple[str, int, int]] = []
    again(progress=lambda *step: steps.append(step))
    assert [number for _, number, _ in steps] == [0, 2, 3, 3, 6]
    assert {total for _, _, total in steps} == {exchange.N_STEPS}
    assert max(len(name) for name, _, _ in steps) <= 28


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("records = 110", "records = 110.5"), r"hospitals\[0\].records: must be a whole number"),
        (("records = 110", "records = 1000"), "hospitals.records: 1095 in all, of 426"),
        (("records = 25", "records = 10"), r"hospitals\[2\].records = 10 is below the 20"),
        (('name = "two"', 'name = "three"'), "the name 'three' is given more than once"),
        (("value = 1000.0", "value = 0.0"), r"hospitals\[2\].value"),
        (("record_cost = 0.06", "record_cost = -1.0"), r"hospitals\[2\].record_cost"),
        (('["exact", "outer"]', '["clarabel"]'), "clarabel"),
    ],
)
def test_bad_scenarios(again: Callable[..., ExchangeReport], change: tuple[str, str], says: str) -> None:
    with pytest.raises(mo.MechanismError, match=says):
        again(SMALL.replace(*change))


def test_without_scikit_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, _ = load(tmp_path)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(mo.BackendUnavailable, match=r"sharing-market.*pip install \"mechopt\[data\]\""):
        scenario.check_ready()


def test_a_market_without_trade(again: Callable[..., ExchangeReport]) -> None:
    found = again(
        SMALL.replace("record_cost = 0.1", "record_cost = 90.0")
        .replace("0.08", "80.0")
        .replace("0.06", "60.0")
    )
    assert found.agreement, failed(found)
    assert not found.trade.adjacency.any()
    assert found.trade.vcg.imbalance == pytest.approx(0, abs=1e-9)


def test_the_market_of_a_known_curve(tmp_path: Path) -> None:
    scenario, _ = load(tmp_path)
    market = scenario.market(PowerLawAccuracy(1.0, 0.5, threshold=0.1))
    np.testing.assert_allclose(market.outside_option, VALUES * (0.9 - RECORDS**-0.5))
    assert market.sharing_cost[0].tolist() == [0.0, 11.0, 11.0]
