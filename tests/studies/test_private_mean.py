"""Algorithm 1 on real records: every check passes on the true mechanism and fails on a wrong one."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import mechopt as mo
from mechopt.formulations import figures
from mechopt.formulations.screening.simulation import laplace_scale
from mechopt.studies.private_mean import OpenDPMean, PrivateMean, PrivateMeanReport, run_private_mean
from mechopt.studies.private_mean.checks import ACCOUNTING
from mechopt.studies.private_mean.scenario import LIBRARIES, MOST_RECORDS
from mechopt.studies.run import Check, run_study
from mechopt.studies.scenario import KINDS, BaseScenario, bundled_scenarios, load_scenario

pytest.importorskip("opendp", reason="needs mechopt[privacy]")
pytest.importorskip("sklearn", reason="needs mechopt[privacy]")

SMALL = """title = "small [/red]"
mechanism = "private-mean"
seed = 5
n_holders = 600
n_continuous = 20_000
[data]
dataset = "diabetes"
column = "age"
bounds = [0, 100]
[parameters]
types = { lo = 0.2, hi = 1.2, count = 5 }
gain = { kind = "log", weight = 100, scale = 2 }
"""


def load(folder: Path, text: str = SMALL) -> tuple[PrivateMean, Path]:
    (folder / "case.toml").write_text(text)
    return load_scenario(folder / "case.toml")


def run(folder: Path, text: str = SMALL, **options: Any) -> PrivateMeanReport:
    return run_private_mean(*load(folder, text), **options)


def failed(report: PrivateMeanReport) -> set[str]:
    return {check.name for check in report.checks if not check.passed}


class NumpyMean:
    """A release with its own idea of noise; factors of 1 and a shift of 0 make it right."""

    def __init__(
        self,
        n_records: int,
        eps: float,
        *,
        said: float = 1.0,
        real: float = 1.0,
        loss: float = 1.0,
        shift: Any = 0,
    ) -> None:
        self.scale, self.loss = said * laplace_scale(n_records, eps), loss * eps
        self._real, self._shift = real * laplace_scale(n_records, eps), shift
        self._rng = np.random.default_rng([12, n_records, round(1e6 * eps)])

    def __call__(self, records: Any) -> float:
        return float(records.mean() + self._shift + self._rng.laplace(scale=self._real))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> PrivateMeanReport:
    return run(tmp_path_factory.mktemp("small"))


# ------------------------------------------------------------ it passes


def test_all_checks_pass(report: PrivateMeanReport) -> None:
    assert report.agreement, failed(report)
    assert {check.name[0] for check in report.checks} == set("12345678")
    assert len({check.name for check in report.checks}) == len(report.checks)


def test_numbers_are_those_of_the_mechanism(report: PrivateMeanReport) -> None:
    contract = report.contract
    np.testing.assert_allclose(contract.types, [0.4, 0.6, 0.8, 1.0, 1.2])
    form = contract.closed_form()
    assert report.value == pytest.approx(form.objective, rel=1e-12)
    for k, row in enumerate(report.types):
        assert row["holders"] == np.sum(report.found.eps == contract.types[k])
        assert row["truthful_share"] == 1.0
        assert row["quantity"] == pytest.approx(form.quantity[k], rel=1e-12)
        assert row["records"] == round(form.quantity[k])
        assert row["payment"] == pytest.approx(form.payment[k], rel=1e-12)
        assert row["rent"] == pytest.approx(form.rent[k], abs=1e-10)
        gain = 100 * np.log1p(2 * contract.types[k] * form.quantity[k])
        assert row["demander_utility"] == pytest.approx(gain - form.payment[k], rel=1e-12)
        assert row["demander_utility_theory"] == pytest.approx(row["demander_utility"], rel=1e-12)
        noise = 2 / (row["records"] * contract.types[k]) ** 2
        assert row["noise_mse_theory"] == pytest.approx(noise, rel=1e-12)
        variance = report.population.records.var() / row["records"]
        assert row["release_mse_theory"] == pytest.approx(noise + variance, rel=1e-12)
        assert row["opendp_loss"] == pytest.approx(contract.types[k], rel=1e-9)
        assert row["log_density_ratio"] == pytest.approx(contract.types[k], rel=1e-9)
    assert sum(row["holders"] for row in report.types) == 600


def test_the_population_is_the_column_scaled_by_its_bounds(report: PrivateMeanReport) -> None:
    from sklearn.datasets import load_diabetes

    ages = load_diabetes(scaled=False).data[:, 0]
    np.testing.assert_allclose(report.population.records, ages / 100, rtol=1e-15)
    assert report.population.n_clipped == 0
    assert report.population.mean == pytest.approx(ages.mean() / 100)
    second, fourth = report.population.moments
    assert second == pytest.approx(ages.var() / 1e4)
    assert fourth == pytest.approx(np.mean((ages - ages.mean()) ** 4) / 1e8)


def test_bounds_inside_the_data_clip_and_are_told(tmp_path: Path) -> None:
    report = run(tmp_path, SMALL.replace("[0, 100]", "[30, 60]"))
    assert report.agreement, failed(report)
    assert report.population.records.min() == 0
    assert report.population.records.max() == 1
    assert report.population.n_clipped > 50
    assert f"({report.population.n_clipped} beyond them)" in report.notes()[0]


def test_another_data_set_and_distribution(tmp_path: Path) -> None:
    text = SMALL.replace('"diabetes"', '"breast-cancer"').replace('"age"', '"mean radius"')
    text = text.replace("[0, 100]", "[5, 30]").replace("count = 5", "count = 5, a = 2, b = 5")
    report = run(tmp_path, text)
    assert report.agreement, failed(report)
    assert report.population.records.size == 569
    assert report.contract.probs[0] > report.contract.probs[-1] > 0


def test_records_that_are_all_equal(tmp_path: Path) -> None:
    report = run(tmp_path, SMALL.replace("[0, 100]", "[100, 200]"))  # everybody is younger
    assert report.population.n_clipped == report.population.records.size
    assert report.population.moments == (0.0, 0.0)
    assert report.agreement, failed(report)


def test_pay_for_nothing_is_no_release(tmp_path: Path) -> None:
    optimum = load(tmp_path)[0].parameters.build().discretize(5).solve()
    last = np.arange(5) == 4
    menu = {"quantity": np.where(last, 0.0, optimum["quantity"]), "payment": optimum["payment"]}
    report = run(tmp_path, menu=menu, build=NumpyMean)
    assert report.releases.holder.size == np.sum(report.found.quantity > 0) < 600
    assert {"1 truthful choice", "4 null contract"} <= failed(report)


def test_one_type(tmp_path: Path) -> None:
    report = run(tmp_path, SMALL.replace("count = 5", "count = 1"))
    assert report.agreement, failed(report)
    assert [row["rent"] for row in report.types] == pytest.approx([0.0], abs=1e-10)
    # On the paper's grid the one type is the lowest, and everybody else stays out.
    shut_out = {check.name: check.measured for check in report.checks}["7 shut out, paper's grid"]
    assert shut_out == 1.0


def test_market_with_excluded_types(tmp_path: Path) -> None:
    # r = 1.8, and the virtual type over the type, 2 - 0.4 / eps, exceeds it above eps = 2.
    text = SMALL.replace("hi = 1.2, count = 5", "hi = 4.2, count = 20")
    text = text.replace("weight = 100, scale = 2", "weight = 90, scale = 0.02")
    report = run(tmp_path, text)
    assert report.agreement, failed(report)
    excluded = [row for row in report.types if row["records"] == 0]
    assert min(row["type"] for row in excluded) == pytest.approx(2.0)
    assert all(row["null_share"] == 1 and row["rent"] == 0 for row in excluded if row["holders"])
    assert np.isnan(excluded[-1]["noise_mse_theory"])
    report.write(tmp_path / "out")  # with gaps in the figure and null in the record
    assert json.loads((tmp_path / "out" / "result.json").read_text())["types"][-1]["noise_mse"] is None


def test_the_seed_fixes_types_and_choices(tmp_path: Path, report: PrivateMeanReport) -> None:
    again, other = run(tmp_path), run(tmp_path, SMALL.replace("seed = 5", "seed = 6"))
    assert np.array_equal(again.found.eps, report.found.eps)
    assert np.array_equal(again.found.choice, report.found.choice)
    assert not np.array_equal(other.found.eps, report.found.eps)
    # OpenDP takes no seed: the noise differs.
    assert not np.array_equal(again.releases.noise, report.releases.noise)


def test_progress_counts_the_steps(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    run(tmp_path, progress=lambda *step: steps.append(step))
    assert [number for _, number, _ in steps] == list(range(8))
    assert {total for _, _, total in steps} == {8}
    names = [name.split(":")[0] for name, _, _ in steps]
    assert names == ["publish", "choose", *["add noise, share"] * 5, "pay, check"]


# ------------------------------------------------------------ privacy


@pytest.mark.parametrize("n_records", [1, 10, 242, 9950, MOST_RECORDS])
@pytest.mark.parametrize("eps", [0.01, 0.21, 2.0])
def test_opendp_accounts_for_the_privacy_level(n_records: int, eps: float) -> None:
    release = OpenDPMean(n_records, eps)
    assert eps * (1 - 1e-12) <= release.loss <= eps
    # What the accounting of rounding costs: nothing that anybody would notice.
    least = laplace_scale(n_records, eps)
    assert least * (1 - 1e-15) <= release.scale <= least * (1 + ACCOUNTING)


def test_opendp_releases_the_mean_with_that_noise() -> None:
    release = OpenDPMean(50, 0.8)
    records = np.linspace(0, 1, 50)
    noise = np.array([release(records) for _ in range(4000)]) - 0.5
    sizes = np.abs(noise) / laplace_scale(50, 0.8)
    assert abs(sizes.mean() - 1) <= 5 / np.sqrt(4000)
    assert abs(np.sign(noise).mean()) <= 5 / np.sqrt(4000)
    assert abs((noise / laplace_scale(50, 0.8)).mean()) <= 5 * np.sqrt(2 / 4000)


# ------------------------------------------------------------ every check can fail


def test_a_right_release_of_another_make_passes(tmp_path: Path) -> None:
    assert failed(run(tmp_path, build=NumpyMean)) == set()


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"said": 0.5, "real": 0.5}, {"5 density ratio", "6 error of noise", "6 scale of noise"}),
        ({"said": 2.0}, {"5 density ratio"}),
        ({"loss": 1.01}, {"5 OpenDP's accounting"}),
        ({"real": 1.7}, {"6 error of noise", "6 scale of noise", "6 error of release"}),
        ({"real": 0.75}, {"6 scale of noise"}),
        ({"shift": 0.04}, {"6 error of noise", "6 error of release"}),
    ],
)
def test_wrong_noise_fails(tmp_path: Path, wrong: dict[str, float], names: set[str]) -> None:
    found = failed(run(tmp_path, build=lambda n, eps: NumpyMean(n, eps, **wrong)))
    assert names <= found
    assert all(name[0] in "56" for name in found)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda q, p: (q, p * 1.3), {"2 realised rent", "3 demander's utility", "4 null contract"}),
        (lambda q, p: (q, p + 1e-6), {"2 realised rent"}),
        (lambda q, p: (q, p - 1.0), {"1 truthful choice", "2 realised rent", "8 whole records"}),
        (lambda q, p: (q, p + np.arange(5.0)), {"1 truthful choice", "8 whole records"}),
        (lambda q, p: (q[::-1], p), {"1 truthful choice", "8 paid as whole"}),
    ],
)
def test_wrong_menus_fail(tmp_path: Path, change: Any, names: set[str]) -> None:
    optimum = load(tmp_path)[0].parameters.build().discretize(5).solve()
    quantity, payment = change(optimum["quantity"], optimum["payment"])
    found = failed(run(tmp_path, menu={"quantity": quantity, "payment": payment}, build=NumpyMean))
    assert names <= found, found


def test_a_wrong_value_between_types_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = mo.ContinuousContract.realised_value
    monkeypatch.setattr(mo.ContinuousContract, "realised_value", lambda self, menu: 1.05 * right(self, menu))
    assert failed(run(tmp_path, build=NumpyMean)) == {"7 between types", "7 between types, paper's grid"}


def test_holders_that_take_the_nearest_contract_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mechopt.formulations.screening import simulation

    monkeypatch.setattr(
        simulation,
        "choose",
        lambda menu, eps, cost: np.argmin(np.abs(eps[:, None] - np.linspace(0.2, 1.0, 5)), axis=1),
    )
    assert {"7 shut out, paper's grid", "7 first contract, same"} <= failed(run(tmp_path, build=NumpyMean))


def test_a_missing_number_is_no_pass() -> None:
    assert not Check("x", "", float("nan"), 0.0, 1.0, "").passed
    assert Check("x", "", 1.0, 1.0, 0.0, "").passed


# ------------------------------------------------------------ files and terminal


def test_files(report: PrivateMeanReport, tmp_path: Path) -> None:
    files = report.write(tmp_path / "out")
    assert [path.name for path in files] == [
        "checks.csv",
        "holders.csv",
        "result.json",
        "utility_against_privacy.png",
        "utility_against_privacy.pdf",
    ]
    assert files[3].read_bytes().startswith(b"\x89PNG")
    assert files[4].read_bytes().startswith(b"%PDF")
    with files[0].open(newline="") as stream:
        checks = list(csv.DictReader(stream))
    assert [row["name"] for row in checks] == [check.name for check in report.checks]
    assert {row["passed"] for row in checks} == {"True"}
    assert [float(row["measured"]) for row in checks] == [check.measured for check in report.checks]
    with files[1].open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["type"]) for row in rows] == report.contract.types.tolist()
    assert [float(row["payment"]) for row in rows] == [row["payment"] for row in report.types]
    record = json.loads(files[2].read_text())
    assert record["agreement"] is True
    assert record["libraries"].keys() == {"opendp", "scikit-learn"}
    assert record["scenario"]["data"]["bounds"] == [0.0, 100.0]
    assert record["whole_records"]["records"] == [row["records"] for row in report.types]
    assert len(record["checks"]) == len(checks)


def test_figure(report: PrivateMeanReport) -> None:
    figure = report.figure()
    assert len(figure.axes) == 3
    for axes in figure.axes:
        assert "(nats)" in axes.get_xlabel()
        assert "(" in axes.get_ylabel()
        colours = {line.get_color() for line in axes.lines}
        assert colours <= {*figures.COLOURS.values(), figures.GREY, "black"}
    assert figure.axes[2].get_xscale() == figure.axes[2].get_yscale() == "log"
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    drawn = lines["rent $u$"].get_ydata()
    np.testing.assert_allclose(drawn, [row["rent"] for row in report.types])


@pytest.mark.parametrize("right", [True, False])
def test_the_table_fits_and_says_what_failed(report: PrivateMeanReport, tmp_path: Path, right: bool) -> None:
    shown = report if right else run(tmp_path, build=lambda n, eps: NumpyMean(n, eps, real=2.0))
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    shown.show(console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "small [/red]" in text
    assert all(check.name in text for check in report.checks)
    assert ("FAILED" in text) is not right
    assert ("6 error of noise: mean square of the noise" in text) is not right
    assert "not verified" in text


# ------------------------------------------------------------ bad input


@pytest.mark.parametrize("module", ["opendp", "sklearn"])
def test_a_missing_library_is_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    scenario, folder = load(tmp_path)  # reading it needs no library
    monkeypatch.setitem(sys.modules, module, None)
    steps: list[Any] = []
    name = LIBRARIES[module]
    with pytest.raises(mo.BackendUnavailable, match=rf'needs {name}, not.*pip install "mechopt\[privacy\]"'):
        run_private_mean(scenario, folder, progress=lambda *step: steps.append(step))
    assert not steps


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[0, 100]", "[100, 0]", r"data: `bounds` must increase, got \[100.0, 0.0\]"),
        ("[0, 100]", "[0, 50, 100]", "data.bounds: .*at most 2"),
        ('"diabetes"', '"iris"', r"data.dataset: .*'breast-cancer' \(got 'iris'\)"),
        ("seed = 5", "seed = -1", "seed: .*greater than or equal to 0"),
        ("seed = 5\n", "", "seed: is missing"),
        ("n_holders = 600", "n_holders = 10", "n_holders: .*100"),
        ("count = 5", "count = 5, a = 0", "parameters.types.a: .*greater than 0"),
        ("count = 5", "cuont = 5", "parameters.types.cuont: unknown key"),
        ("[data]", "form = 'full'\n[data]", "form: unknown key"),
    ],
)
def test_bad_scenarios(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in SMALL
    with pytest.raises(mo.InvalidInput, match=words):
        load(tmp_path, SMALL.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"age"', '"income"', "data.column: diabetes has no 'income'; it has age, sex, bmi"),
        ("hi = 1.2", "hi = 0.2", "lo = 0.2 must be below hi = 0.2"),
        ("lo = 0.2", "lo = 0", "lo"),
        ("weight = 100", "weight = 0.4", "nobody trades"),
        ("weight = 100", "weight = 1e8", "asks for .* records, more than 100000"),
        ("gain = {", "unit_cost = -1\ngain = {", "unit_cost"),
    ],
)
def test_bad_markets(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in SMALL
    with pytest.raises(mo.InvalidInput, match=words):
        run(tmp_path, SMALL.replace(old, new))


# ------------------------------------------------------------ kinds of scenarios


def test_kinds_lead_to_models_and_run_functions() -> None:
    for name, kind in KINDS.items():
        model = kind.model_class()
        assert issubclass(model, BaseScenario)
        assert model.model_fields["mechanism"].annotation.__args__ == (name,)  # type: ignore[union-attr]
        assert callable(kind.run_function())
    assert {load_scenario(name)[0].mechanism for name in bundled_scenarios()} == set(KINDS)


def test_any_kind_runs_through_one_function(tmp_path: Path) -> None:
    found = run_study(*load(tmp_path))
    assert isinstance(found, PrivateMeanReport)
    text = """title = "small"
mechanism = "contract"
backends = ["exact"]
[parameters]
types = [0.1, 0.2]
gain = { kind = "log", weight = 100, scale = 2 }
"""
    (tmp_path / "other.toml").write_text(text)
    other = run_study(*load_scenario(tmp_path / "other.toml"))
    assert other.agreement
    assert "menu.csv" in {path.name for path in other.write(tmp_path / "out")}
