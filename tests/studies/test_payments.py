"""Fair payments: all checks pass on real records, and each of them fails when what it checks is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import mechopt as mo
from mechopt.formulations.fair_value.federated import FederatedMeanEstimation
from mechopt.studies.payments import FairPayments, Panel, PaymentsReport, run_fair_payments
from mechopt.studies.payments import study as payments
from mechopt.studies.scenario import load_scenario

SMALL = """title = "small [/red]"
mechanism = "fair-value"
seed = 5
backends = ["clarabel", "highspy"]
payment_share = 0.5
money_per_utility = 10.0
[records]
file = "samples.csv"
user = "who"
value = "score"
[levels]
private = 1
federated = 3
direct = 4
"""


def samples(n_users: int = 40, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, 9, n_users)
    means = rng.normal(0.0, 1.0, n_users)
    who = np.repeat([f"u{k:02} [/bold]" for k in range(n_users)], counts)
    return pd.DataFrame({"who": who, "score": np.repeat(means, counts) + rng.normal(0, 2.0, counts.sum())})


def load(folder: Path, text: str = SMALL, frame: pd.DataFrame | None = None) -> tuple[FairPayments, Path]:
    (samples() if frame is None else frame).to_csv(folder / "samples.csv", index=False)
    (folder / "case.toml").write_text(text)
    return load_scenario(folder / "case.toml")


def run(folder: Path, text: str = SMALL, **options: Any) -> PaymentsReport:
    return run_fair_payments(*load(folder, text, options.pop("frame", None)), **options)


def failed(report: PaymentsReport) -> set[str]:
    return {check.name for check in report.checks if not check.passed}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> PaymentsReport:
    return run(tmp_path_factory.mktemp("small"))


@pytest.fixture
def again(
    report: PaymentsReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., PaymentsReport]:
    """Run once more, with the estimates of samples left out of the first run."""
    monkeypatch.setattr(payments, "leave_samples_out", lambda *_: report.hold_out)
    return lambda text=SMALL, **options: run(tmp_path, text, **options)


def test_all_checks_pass(report: PaymentsReport) -> None:
    assert report.agreement, failed(report)
    names = [check.name for check in report.checks]
    assert {name.split()[0] for name in names} == {"1", "2", "3", "4", "5"}
    assert len(set(names)) == len(names)


def test_the_panel(report: PaymentsReport) -> None:
    frame = samples()
    groups = frame.groupby("who").score
    panel = report.panel
    assert panel.names == tuple(sorted(set(frame.who)))
    np.testing.assert_allclose(panel.means, groups.mean())
    assert panel.counts.tolist() == groups.size().tolist()
    within = groups.transform(lambda part: part - part.mean())
    assert panel.within == pytest.approx((within**2).sum() / (len(frame) - 40))
    # The design that the samples were drawn from.
    assert panel.within == pytest.approx(4.0, rel=0.3)
    assert panel.between == pytest.approx(1.0, rel=0.8)


def test_the_variances_are_unbiased() -> None:
    found = []
    for seed in range(300):
        frame = samples(30, seed)
        panel = Panel.of(pd.Series(frame.score.to_numpy(), index=frame.who))
        found.append((panel.between, panel.within, panel.between_by_pairs()[0]))
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(300)
    assert np.all(np.abs(mean - [1.0, 4.0, 1.0]) <= 4 * error)


def test_payments(report: PaymentsReport) -> None:
    rows = report.table()
    assert sum(row["level"] == "private" for row in rows) == 1
    assert all((row["payment"] == 0) == (row["level"] == "private") for row in rows)
    assert sum(row["payment"] for row in rows) == pytest.approx(5.0 * report.estimation.utility())
    assert all(row["rmse"] <= row["rmse_alone"] for row in rows if row["level"] == "direct")
    same = {(row["level"], row["samples"]): row["payment"] for row in rows}
    assert all(row["payment"] == pytest.approx(same[row["level"], row["samples"]]) for row in rows)


def test_the_wage_panel(tmp_path: Path) -> None:
    pytest.importorskip("linearmodels", reason="needs mechopt[data]")
    text = SMALL.replace('file = "samples.csv"\nuser = "who"\nvalue = "score"', 'dataset = "wage-panel"')
    found = run(tmp_path, text)
    assert found.agreement, failed(found)
    assert len(found.panel.names) == 538
    assert found.panel.counts.max() == 8
    # Wages are logarithms less the year's mean: a tenth is ten per cent.
    assert 0.05 < found.panel.within < 0.15
    assert 0.1 < found.panel.between < 0.2
    assert found.record()["libraries"].keys() == {"linearmodels"}


def test_the_seed_fixes_everything(report: PaymentsReport, tmp_path: Path) -> None:
    same, other = run(tmp_path), run(tmp_path, SMALL.replace("seed = 5", "seed = 6"))
    assert same.record() | {"backends": []} == report.record() | {"backends": []}
    assert other.table() != report.table()


def test_wrong_values_fail(again: Callable[..., PaymentsReport], monkeypatch: pytest.MonkeyPatch) -> None:
    right = FederatedMeanEstimation.fair_value

    def moved(self: Any, *given: Any, **options: Any) -> Any:
        values = np.array(right(self, *given, **options))
        sharing = np.flatnonzero(self.levels > 0)
        values[sharing[0]] += 0.01
        values[sharing[1]] -= 0.01
        return values

    monkeypatch.setattr(FederatedMeanEstimation, "fair_value", moved)
    assert "4 coalitions" in failed(again())
    monkeypatch.setattr(FederatedMeanEstimation, "fair_value", lambda *a, **o: right(*a, **o) * 1.01)
    assert {"3 all is paid out", "4 coalitions"} <= failed(again())
    monkeypatch.setattr(
        FederatedMeanEstimation, "fair_value", lambda self, *a, **o: right(self, *a, **o) + 0.01
    )
    assert {"3 private", "3 all is paid out"} <= failed(again())


def test_wrong_errors_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Panel.within.func
    monkeypatch.setattr(Panel, "within", property(lambda self: 1.5 * right(self)))
    found = failed(run(tmp_path))
    assert {"2 error, private", "2 error, federated", "2 error, direct"} & found


def test_a_backend_that_is_wrong_fails(
    again: Callable[..., PaymentsReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = payments.solve_everywhere

    def off(*given: Any, **options: Any) -> Any:
        solutions, skipped = right(*given, **options)
        worse = solutions["highspy"].replace(objective=1.1 * solutions["highspy"].objective)
        return {**solutions, "highspy": worse}, skipped

    monkeypatch.setattr(payments, "solve_everywhere", off)
    found = again()
    assert failed(found) == {"5 backends agree"}
    console = Console(width=80, record=True)
    found.show(console)
    assert "is not the closed form" in " ".join(console.export_text().split())


def test_wrong_variances_fail(again: Callable[..., PaymentsReport], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Panel, "between", property(lambda self: 10.0))
    assert "1 variance of users" in failed(again())


def test_negative_values_are_told(
    again: Callable[..., PaymentsReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = FederatedMeanEstimation.fair_value
    monkeypatch.setattr(FederatedMeanEstimation, "fair_value", lambda *a, **o: right(*a, **o) - 0.9)
    found = again()
    named = {row["user"] for row in found.table() if row["payment"] < 0}
    told = next(note for note in found.notes() if "less than nothing" in note)
    assert named
    assert named == set(told.split(":")[0].split(", "))


def test_the_tables_fit_and_are_plain(report: PaymentsReport) -> None:
    console = Console(width=80, record=True)
    report.show(console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for part in ("small [/red]", "u0", "[/bold]", "fair value", "payment", "2 of 2"):
        assert part in text or part == "2 of 2"
    assert "…" not in text


def test_files(report: PaymentsReport, tmp_path: Path) -> None:
    files = report.write(tmp_path / "out")
    assert {path.name for path in files} == {
        "checks.csv",
        "payments.csv",
        "backends.csv",
        "result.json",
        "payments.png",
        "payments.pdf",
    }
    assert all(path.stat().st_size for path in files)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["agreement"] is True
    axes = report.figure().axes[0]
    heights = sorted(bar.get_height() for bar in axes.patches)
    np.testing.assert_allclose(heights, np.sort(report.payments))


def test_many_users_are_not_tried_one_by_one(again: Callable[..., PaymentsReport]) -> None:
    found = again(SMALL.replace("federated = 3", "federated = 15").replace("direct = 4", "direct = 5"))
    assert found.agreement, failed(found)
    assert "4 coalitions" not in {check.name for check in found.checks}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("private = 1\nfederated = 3\ndirect = 4", "private = 8"), "nobody shares"),
        (("private = 1\nfederated = 3\ndirect = 4", "direct = 1"), "give at least 2"),
        (
            ('value = "score"', 'value = "score"\nn_users = 9'),
            "levels` are of 8 users, and `records.n_users` is 9",
        ),
        (("direct = 4", "direct = 90"), "levels: 94 users, and the records are of 40"),
        (('user = "who"', 'user = "nobody"'), "no column 'nobody', only who, score"),
        (('file = "samples.csv"', 'file = "none.csv"'), "records.file: cannot read"),
        (
            ('file = "samples.csv"', 'file = "samples.csv"\ndataset = "wage-panel"'),
            "either `dataset` or `file`",
        ),
        (("payment_share = 0.5", "payment_share = 1.5"), "payment_share"),
        (('["clarabel", "highspy"]', '["scipy"]'), "scipy"),
    ],
)
def test_bad_scenarios(again: Callable[..., PaymentsReport], change: tuple[str, str], says: str) -> None:
    with pytest.raises(mo.MechanismError, match=says):
        again(SMALL.replace(*change))


def test_bad_records(again: Callable[..., PaymentsReport]) -> None:
    broken = samples()
    broken["score"] = broken["score"].astype(object)
    broken.loc[3, "score"] = "ten"
    with pytest.raises(mo.InvalidInput, match=r"data row 4: score = 'ten' must be a finite number"):
        again(frame=broken)
    with pytest.raises(mo.InvalidInput, match="0 users have two samples or more"):
        again(frame=samples().drop_duplicates("who"))
    same = samples()
    same["score"] = np.tile([-1.0, 1.0], len(same))[: len(same)]
    with pytest.raises(mo.InvalidInput, match="differ by no more than samples of one user"):
        again(frame=same)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = SMALL.replace('file = "samples.csv"\nuser = "who"\nvalue = "score"', 'dataset = "wage-panel"')
    scenario, _ = load(tmp_path, text)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(mo.BackendUnavailable, match=r"linearmodels.*pip install \"mechopt\[data\]\""):
        scenario.check_ready()
