"""Federated hospitals: every check passes on what was measured, and fails on a wrong curve or equilibrium."""

from __future__ import annotations

import csv
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.container import BarContainer
from rich.console import Console
from scipy.optimize import brentq

import mechopt as mo
from mechopt.formulations.accuracy_shaping import AccuracyShaping, ShapedMechanism, closed_form
from mechopt.formulations.accuracy_shaping.cost_screening import CostScreening
from mechopt.studies import learning
from mechopt.studies.calibrate import AccuracyFit, accuracy_curve
from mechopt.studies.federated import FederatedLearning, FederatedReport, run_federated
from mechopt.studies.federated.study import POOLS
from mechopt.studies.learning import interval
from mechopt.studies.run import agreement_check
from mechopt.studies.scenario import load_scenario

pytest.importorskip("sklearn", reason="needs mechopt[data]")

SMALL = """title = "small [/red]"
mechanism = "federated-learning"
seed = 3
backends = ["exact", "clarabel"]
[training]
dataset = "breast-cancer"
sizes = [20, 40, 80, 160, 240, 319]
n_repeats = 12
[curve]
n_bootstrap = 60
[[hospitals]]
name = "one [/bold]"
marginal_cost = 0.0005
[[hospitals]]
name = "two"
marginal_cost = 0.0008
[[hospitals]]
name = "three"
marginal_cost = 0.0012
[unverified]
costs = [0.0008, 0.0012]
probs = [0.4, 0.6]
"""
HOSPITALS = SMALL[SMALL.index("[[hospitals]]") : SMALL.index("[unverified]")]
COSTS = np.array([0.0005, 0.0008, 0.0012])


def load(folder: Path, text: str = SMALL) -> tuple[FederatedLearning, Path]:
    (folder / "case.toml").write_text(text)
    return load_scenario(folder / "case.toml")


def run(folder: Path, text: str = SMALL, **options: Any) -> FederatedReport:
    return run_federated(*load(folder, text), **options)


def failed(report: FederatedReport) -> set[str]:
    return {check.name for check in report.checks if not check.passed}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> FederatedReport:
    return run(tmp_path_factory.mktemp("small"))


@pytest.fixture
def trained_again(report: FederatedReport, tmp_path: Path) -> Callable[..., FederatedReport]:
    """Run once more from the curve that was measured, or another."""
    return lambda text=SMALL, **options: run(tmp_path, text, **{"fit": report.fit, **options})


@pytest.fixture
def again(
    report: FederatedReport, trained_again: Callable[..., FederatedReport], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., FederatedReport]:
    """Run the same, but for the models of the pools: those of the first run stay."""
    monkeypatch.setattr("mechopt.studies.federated.study.measure_pools", lambda *_: report.pools)
    return trained_again


# ------------------------------------------------------------ it passes


def test_all_checks_pass(report: FederatedReport) -> None:
    assert report.agreement, failed(report)
    names = [check.name for check in report.checks]
    assert {name.split()[0] for name in names} == {str(k) for k in range(1, 11)}
    assert len(set(names)) == len(names)


def test_designs_are_those_of_the_formulas(report: FederatedReport) -> None:
    a, beta, alpha = report.fit.parameters.values()

    def b(m: float) -> float:
        return a - beta * m**-alpha

    alone = (alpha * beta / COSTS) ** (1 / (1 + alpha))
    utility = a - beta * alone**-alpha - COSTS * alone
    rows = report.hospitals()
    np.testing.assert_allclose([row["alone"] for row in rows], alone, rtol=1e-9)
    np.testing.assert_allclose([row["utility_alone"] for row in rows], utility, rtol=1e-9)
    np.testing.assert_allclose([row["standard"] for row in rows], [alone[0], 0, 0], rtol=1e-9)
    free = [b(alone[0]) - COSTS[0] * alone[0], b(alone[0]), b(alone[0])]
    np.testing.assert_allclose([row["utility_standard"] for row in rows], free, rtol=1e-9)
    slope = COSTS + 1e-6

    def excess(pool: float) -> float:
        return float(np.sum(alone + (b(pool) - b(alone)) / slope)) - pool  # type: ignore[arg-type]

    pool = brentq(excess, alone.sum(), 1e5, xtol=1e-9)
    assert report.totals()[2]["records"] == pytest.approx(pool, rel=1e-9)
    shaped = alone + (b(pool) - b(alone)) / slope  # type: ignore[arg-type]
    np.testing.assert_allclose([row["shaped"] for row in rows], shaped, rtol=1e-9)
    accuracy = b(pool) + report.records.baseline
    np.testing.assert_allclose([row["accuracy_shaped"] for row in rows], accuracy, rtol=1e-9)
    assert [row["records"] for row in report.totals()[:2]] == pytest.approx([alone.sum(), alone[0]])


def test_records_are_in_two_parts(report: FederatedReport) -> None:
    from sklearn.datasets import load_breast_cancer

    source, records = load_breast_cancer(), report.records
    together = np.concatenate([records.features, records.apart])
    assert np.array_equal(np.sort(together, axis=0), np.sort(source.data, axis=0))
    assert records.apart_labels.size == 143
    assert records.baseline == pytest.approx(357 / 569)
    assert abs(records.apart_labels.mean() - source.target.mean()) < 0.01
    assert report.fit.baseline == records.baseline
    assert report.fit.sizes.tolist() == [20, 40, 80, 160, 240, 319]
    assert set(report.fit.counts) == {12}


def test_models_of_pools_have_their_sizes_and_scores(report: FederatedReport) -> None:
    pools = report.pools
    assert pools.names == ("one [/bold], alone", "two, alone", "three, alone", "all, shaped")
    np.testing.assert_allclose(pools.wanted[:-1], report.design.alone.contribution)
    assert pools.wanted[-1] == report.design.profile.sum()
    assert np.all(np.abs(pools.trained - pools.wanted) <= 0.5)
    baseline = report.records.baseline
    np.testing.assert_allclose(pools.curve, report.fit.accuracy(pools.trained) + baseline)
    # Learned, on whatever they are tested: far more than guessing, and more from the pool than alone.
    for scores in (pools.fresh, pools.apart):
        assert np.all(scores > baseline + 0.2)
        assert scores[-1] > scores[2]
    # A test set of 143 says less than twelve test sets of 107, all of the same 426.
    assert np.all(pools.apart_sd > pools.fresh_sd)
    assert pools.gain[-1] == 0


def test_the_seed_fixes_everything(report: FederatedReport, tmp_path: Path) -> None:
    same, other = run(tmp_path), run(tmp_path, SMALL.replace("seed = 3", "seed = 4"))
    for name in ("totals", "hospitals", "parameters"):
        assert getattr(same, name)() == getattr(report, name)()
        assert getattr(other, name)() != getattr(report, name)()
    assert same.pools.record() == report.pools.record()


def test_progress_counts_the_steps(trained_again: Callable[..., FederatedReport]) -> None:
    steps: list[tuple[str, int, int]] = []
    trained_again(fit=None, progress=lambda *step: steps.append(step))
    assert [number for _, number, _ in steps] == [0, 1, 2, 3, 4, 4, 5, 6, 7]
    assert {total for _, _, total in steps} == {8}
    assert [name for name, number, _ in steps if number == 4] == ["solve: exact", "solve: clarabel"]
    assert max(len(name) for name, _, _ in steps) <= 28


def test_square_root_curve_has_a_formula_for_the_pool(tmp_path: Path) -> None:
    text = SMALL.replace("[curve]", '[curve]\nmodel = "sqrt"')
    found = run(tmp_path, text[: text.index("[unverified]")])
    assert found.agreement, failed(found)
    assert {check.name for check in found.checks} >= {"6 formula, pool"}
    assert found.unverified is None
    assert [row["parameter"] for row in found.parameters()] == ["max_accuracy", "difficulty"]


def test_another_data_set_and_classifier(tmp_path: Path) -> None:
    text = SMALL.replace('"breast-cancer"', '"digits"\nclassifier = "nearest-neighbours"')
    found = run(tmp_path, text.replace("[20, 40,", "[30, 50,"))
    assert found.agreement, failed(found)
    assert found.records.labels.size + found.records.apart_labels.size == 1797
    assert found.records.baseline == pytest.approx(183 / 1797)


def test_hospitals_viable_only_together(
    report: FederatedReport, trained_again: Callable[..., FederatedReport], tmp_path: Path
) -> None:
    cost = 1.2 * report.fit.accuracy.viability_cost
    text = SMALL[: SMALL.index("[unverified]")]
    for old in ("0.0005", "0.0008", "0.0012"):
        text = text.replace(old, repr(cost))
    found = trained_again(text)
    assert failed(found) == set()
    assert found.design.alone.contribution.tolist() == [0, 0, 0]
    assert found.design.standard.tolist() == [0, 0, 0]
    assert found.pools.names == ("all, shaped",)
    # Of so few records no model was measured: it is said, and nothing is trained on fewer.
    assert found.pools.trained.tolist() == [20]
    assert any("where the curve is a guess: all, shaped" in note for note in found.notes())
    found.figure("curve")


def test_pools_beyond_the_data_are_capped_and_told(trained_again: Callable[..., FederatedReport]) -> None:
    found = trained_again(SMALL.replace("marginal_cost = 0.0005", "marginal_cost = 0.00002"))
    assert found.pools.wanted[-1] > 319
    assert found.pools.trained[-1] == 319
    assert any("all, shaped" in note and "models trained on 319" in note for note in found.notes())
    assert found.agreement, failed(found)


# ------------------------------------------------------------ uncertainty


def test_intervals_are_those_of_designs_on_draws(report: FederatedReport) -> None:
    draws = report.draws
    assert draws.n_draws == len(report.fit.samples) == 60
    a, beta, alpha = report.fit.samples.T
    m = (alpha * beta / COSTS[:, None]) ** (1 / (1 + alpha))
    np.testing.assert_allclose(draws.alone, m.T, rtol=1e-9)
    # Each shaped pool meets all lines: the pool's accuracy leaves everybody its utility alone.
    level = a - beta * draws.total**-alpha
    utility = a - beta * m**-alpha - COSTS[:, None] * m
    np.testing.assert_allclose(draws.shaped, ((level - utility) / COSTS[:, None]).T, rtol=1e-7)
    low, high = interval(draws.total)
    row = report.totals()[2]
    assert (row["low"], row["high"]) == (low, high)
    assert np.mean((draws.total >= low) & (draws.total <= high)) == pytest.approx(0.95, abs=0.02)
    for entry in report.hospitals():
        assert entry["shaped_low"] < entry["shaped"] < entry["shaped_high"]
        assert entry["alone_low"] < entry["alone"] < entry["alone_high"]


def test_more_noise_gives_wider_intervals(again: Callable[..., FederatedReport]) -> None:
    sizes = np.array([20, 40, 80, 160, 240, 319.0])
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((12, 6))
    widths = []
    for size in (0.001, 0.004):
        scores = 0.98 - 0.35 * sizes**-0.6 + size * noise
        fit = accuracy_curve(sizes, scores, baseline=357 / 569, n_bootstrap=200)
        row = again(fit=fit).totals()[2]
        widths.append((row["high"] - row["low"]) / row["records"])
    # Four times the noise; linear but for the curvature.
    assert 2.5 < widths[1] / widths[0] < 6
    assert 0 < widths[0] < 0.2


def test_certain_curve_gives_certain_designs(
    report: FederatedReport, trained_again: Callable[..., FederatedReport]
) -> None:
    certain = replace(report.fit, samples=np.tile(list(report.fit.parameters.values()), (5, 1)))
    found = trained_again(fit=certain)
    for row in found.totals():
        assert row["low"] == row["high"] == pytest.approx(row["records"], rel=1e-3)  # of the margin
    assert np.all(found.pools.curve_sd <= 1e-15)


def test_draws_that_do_not_rise_are_counted(
    report: FederatedReport, again: Callable[..., FederatedReport]
) -> None:
    samples = report.fit.samples.copy()
    samples[:3, 1] = 0.0
    samples[3, 0] = -0.1
    found = again(fit=replace(report.fit, samples=samples))
    assert len(found.draws.accuracies) == 56
    assert failed(found) == {"1 draws that rise"}
    assert any("4 of 60 draws" in note for note in found.notes())
    samples[:, 1] = 0.0
    with pytest.raises(mo.InvalidInput, match="no draw"):
        again(fit=replace(report.fit, samples=samples))


# ------------------------------------------------------------ every check can fail


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda m, alone: 0.99 * m, {"2 regret", "2 regret, by trying", "2 root of the pool", "2 most data"}),
        (lambda m, alone: 1.01 * m, {"2 regret", "2 regret, by trying", "2 root of the pool", "2 most data"}),
        (lambda m, alone: m * [1, 1, 0.9], {"2 regret", "2 regret, by trying", "2 root of the pool"}),
        (lambda m, alone: 2 * m, {"2 regret", "2 most data", "4 utility as alone"}),
        (lambda m, alone: alone, {"2 regret", "2 root of the pool", "2 most data"}),
        (lambda m, alone: 0.9 * alone, {"2 regret", "4 utility as alone", "4 no less than alone"}),
        (lambda m, alone: alone * [1, 0, 0], {"2 regret", "4 utility as alone", "4 no less than alone"}),
    ],
)
def test_wrong_equilibria_fail(
    report: FederatedReport, again: Callable[..., FederatedReport], change: Any, names: set[str]
) -> None:
    right = report.design
    found = failed(again(profile=change(right.profile, right.alone.contribution)))
    assert names <= found, found
    assert all(name[0] in "24" for name in found)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda s: s - 0.06, {"8 new splits, alone", "8 new splits, shaped"}),
        (lambda s: s - 0.25, {"9 set aside, alone", "9 set aside, shaped"}),
        (lambda s: s - [0.04, 0, 0.04, 0, 0.04, 0], {"1 form of the curve"}),
        (
            lambda s: s.mean(axis=0, keepdims=True),
            {"1 form of the curve"},
        ),  # there is no scatter to hold it to
    ],
)
def test_wrong_curves_fail(
    report: FederatedReport, trained_again: Callable[..., FederatedReport], change: Any, names: set[str]
) -> None:
    scenario, sizes = report.scenario, report.fit.sizes
    scores = learning.measure_curve(scenario.training, report.records, sizes, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mo.MechanismWarning)  # of parameters at their limits
        wrong = accuracy_curve(sizes, change(scores), baseline=report.fit.baseline, n_bootstrap=60)
    found = failed(trained_again(fit=wrong))
    assert names <= found, found
    assert not any(name[0] in "234567" for name in found)  # the design is right for the curve it was given


@pytest.mark.parametrize(("deviation", "passes"), [(3.9, True), (-3.9, True), (4.1, False), (-4.1, False)])
def test_gains_that_are_off_fail(report: FederatedReport, deviation: float, passes: bool) -> None:
    pools = report.pools
    gain = np.array([0.0, deviation, 0.0, 0.0]) * pools.gain_sd
    apart = pools.apart[-1] - (pools.curve[-1] - pools.curve + gain)
    checks = {
        check.name: check
        for check in learning.pool_checks(
            replace(pools, gain=gain, apart=apart), POOLS, last="shaped", first=8
        )
    }
    check = checks["9 set aside, gain"]
    assert check.passed is passes
    assert abs(check.measured - check.expected) == pytest.approx(abs(deviation) * pools.gain_sd[1])
    assert "two, alone" in check.says


@pytest.mark.parametrize(("factor", "name"), [(1.5, "3 feasible rewards"), (0.9, "3 individual rationality")])
def test_wrong_rewards_fail(
    again: Callable[..., FederatedReport], monkeypatch: pytest.MonkeyPatch, factor: float, name: str
) -> None:
    right = ShapedMechanism._reward
    monkeypatch.setattr(ShapedMechanism, "_reward", lambda self, *profile: factor * right(self, *profile))
    found = again(profile=[80.0, 60.0, 50.0])
    assert name in failed(found)


def test_promises_without_the_minimum_fail(
    again: Callable[..., FederatedReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    def printed(self: ShapedMechanism, contribution: Any, others: Any) -> Any:
        line = self._start + self._slope * (contribution - self._alone)
        return np.where(contribution > self._alone, line, self.shaping.accuracy(contribution))

    monkeypatch.setattr(ShapedMechanism, "_reward", printed)
    assert "3 feasible rewards" in failed(again())


def test_wrong_formula_fails(again: Callable[..., FederatedReport], monkeypatch: pytest.MonkeyPatch) -> None:
    right = closed_form.standalone
    monkeypatch.setattr(
        closed_form, "standalone", lambda accuracy, costs: (1.001 * right(accuracy, costs)[0], None)
    )
    assert failed(again()) == {"6 formula, alone"}


def test_nobody_riding_free_fails(
    report: FederatedReport, again: Callable[..., FederatedReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = AccuracyShaping.standard_federated

    def wrong(self: AccuracyShaping) -> Any:
        mechanism, alone = self.standard_mechanism(), self.standalone().contribution
        return replace(right(self), contribution=alone, regret=mechanism.regret(alone))

    monkeypatch.setattr(AccuracyShaping, "standard_federated", wrong)
    assert failed(again()) == {"5 free-riding", "5 regret, standard"}


@pytest.mark.parametrize(
    "change",
    [
        {"contribution": [1.0, 1.001]},  # more, and a class would rather have the other's contract
        {"contribution": [1.01, 1.01]},
    ],
)
def test_wrong_menus_fail(
    again: Callable[..., FederatedReport], monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    right = CostScreening.mean_field

    def wrong(self: CostScreening, n_agents: int) -> Any:
        menu = right(self, n_agents)
        contribution = menu["contribution"] * change["contribution"]
        values = {**menu.values, "contribution": contribution}
        return menu.replace(values=values, objective=float(self.probs @ contribution))

    monkeypatch.setattr(CostScreening, "mean_field", wrong)
    assert failed(again()) == {"10 unverified, audit", "10 unverified, formula"}


def test_a_backend_that_fails_is_a_row(again: Callable[..., FederatedReport]) -> None:
    text = SMALL.replace('"clarabel"]', '"scs"]\ntime_limit = 1e-9')
    found = again(text)
    assert failed(found) == {"7 backends agree"}
    exact, scs = found.answers
    assert exact.agrees(1e-6)
    assert not scs.solution.status.ok
    assert len(scs.record("total_data")["reason"]) > 5


def test_an_answer_that_is_off_does_not_agree(report: FederatedReport) -> None:
    answer = report.answers[1]
    assert answer.agrees(1e-6)
    for wrong in ({"error": 1e-5}, {"error": -1e-5}, {"contribution_error": 1e-5}, {"error": np.nan}):
        assert not replace(answer, **wrong).agrees(1e-6)
    assert not replace(answer, contribution_error=np.nan).agrees(1e-6)
    assert not agreement_check("agree", "nobody answered", (), 1e-6).passed


# ------------------------------------------------------------ files and terminal


def test_files(report: FederatedReport, tmp_path: Path) -> None:
    files = report.write(tmp_path / "out")
    assert [path.name for path in files] == [
        "checks.csv",
        "hospitals.csv",
        "curve.csv",
        "pools.csv",
        "backends.csv",
        "result.json",
        "learning_curve.png",
        "learning_curve.pdf",
        "contributions.png",
        "contributions.pdf",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (files[6], files[8]))
    assert all(path.read_bytes().startswith(b"%PDF") for path in (files[7], files[9]))
    tables = {}
    for path in files[:5]:
        with path.open(newline="") as stream:
            tables[path.stem] = list(csv.DictReader(stream))
    assert {row["passed"] for row in tables["checks"]} == {"True"}
    assert [row["hospital"] for row in tables["hospitals"]] == ["one [/bold]", "two", "three"]
    assert [float(row["shaped"]) for row in tables["hospitals"]] == report.design.profile.tolist()
    assert [float(row["mean"]) for row in tables["curve"]] == report.fit.means.tolist()
    assert [int(row["trained_on"]) for row in tables["pools"]] == report.pools.trained.tolist()
    assert [row["backend"] for row in tables["backends"]] == ["exact", "clarabel"]
    record = json.loads(files[5].read_text())
    assert record["agreement"] is True
    assert record["libraries"].keys() == {"scikit-learn"}
    assert record["curve"]["lack_of_fit"] == report.fit.lack_of_fit
    assert record["totals"] == report.totals()
    assert [row["rent"] for row in record["unverified"]] == report.unverified.menu["rent"].tolist()
    assert len(record["checks"]) == len(report.checks)


def test_figures(report: FederatedReport) -> None:
    (axes,) = report.figure("curve").axes
    assert axes.get_xscale() == "log"
    lines = {line.get_label(): line for line in axes.lines}
    x, y = lines["curve"].get_data()
    np.testing.assert_allclose(y, report.fit.accuracy(x) + report.fit.baseline)
    marked = [line.get_xdata() for line in axes.lines if line.get_marker() == "v"]
    np.testing.assert_allclose(marked[0], report.design.alone.contribution)
    assert [float(m[0]) for m in marked[1:]] == [report.design.standard.sum(), report.design.total]
    low, high = axes.get_ylim()
    assert low < report.pools.apart.min() < report.pools.apart.max() < high
    (axes,) = report.figure("contributions").axes
    bars = [group for group in axes.containers if isinstance(group, BarContainer)]
    assert [group.get_label() for group in bars] == ["alone", "standard", "shaped"]
    for group in bars:
        heights = [bar.get_height() for bar in group]
        assert heights == [row[group.get_label()] for row in report.hospitals()]


@pytest.mark.parametrize("right", [True, False])
def test_the_table_fits_and_says_what_failed(
    report: FederatedReport, again: Callable[..., FederatedReport], right: bool
) -> None:
    shown = report if right else again(profile=0.9 * report.design.profile)
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    shown.show(console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "small [/red]" in text
    assert "one [/bold]" in text
    assert all(check.name in text for check in report.checks)
    assert ("FAILED" in text) is not right
    assert ("2 regret: the most that a hospital gains" in text) is not right
    assert "143 set aside" in text


# ------------------------------------------------------------ bad input


def test_a_missing_library_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, folder = load(tmp_path)  # reading it needs no library
    monkeypatch.setitem(sys.modules, "sklearn", None)
    steps: list[Any] = []
    with pytest.raises(
        mo.BackendUnavailable, match=r'needs scikit-learn, not.*pip install "mechopt\[data\]"'
    ):
        run_federated(scenario, folder, progress=lambda *step: steps.append(step))
    assert not steps


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seed = 3", "seed = -1", "seed: .*greater than or equal to 0"),
        ("seed = 3\n", "", "seed: is missing"),
        ("seed = 3", "seed = 3\nincentive_margin = 0", "incentive_margin: .*greater than 0"),
        ("seed = 3", "seed = 3\ntolerance = 2", "tolerance: .*less than 1"),
        ("seed = 3", "seed = 3\nform = 'full'", "form: unknown key"),
        ('["exact", "clarabel"]', '["exact", "exact"]', "backends: 'exact' is named more than once"),
        ('"breast-cancer"', '"iris"', r"training.dataset: .*'digits' \(got 'iris'\)"),
        ('"breast-cancer"', '"digits"\nclassifier = "tree"', "training.classifier: .*'naive-bayes'"),
        ("[20, 40,", "[20, 20,", "training.sizes: must increase"),
        ("[20, 40,", "[20.5, 40,", "training.sizes: must be whole .* there is 20.5"),
        ("[20, 40,", "[1, 40,", "training.sizes: must be whole .* at least 2; there is 1"),
        ("[20, 40, 80, 160, 240, 319]", "[20, 40]", "training.sizes: .*at least 5"),
        ("n_repeats = 12", "n_repeats = 1", "training.n_repeats: .*5"),
        ("n_repeats = 12", "n_repeats = 12\nset_aside = 0", "training.set_aside: .*greater than 0"),
        ("n_repeats = 12", "n_repeats = 12\ntest_share = 1", "training.test_share: .*less than 1"),
        ("n_bootstrap = 60", "n_bootstrap = 1", "curve.n_bootstrap: .*40"),
        ("n_bootstrap = 60", 'model = "log"', "curve.model: .*'sqrt'"),
        ("n_bootstrap = 60", "max_accuracy = 1.5", "curve.max_accuracy: .*less than or equal to 1"),
        ("marginal_cost = 0.0008", "marginal_cost = 0", r"hospitals\[1\].marginal_cost: .*greater than 0"),
        ("marginal_cost = 0.0008", "marginal_cost = inf", r"hospitals\[1\].marginal_cost: .*finite"),
        ('"two"', '"three"', "hospitals: the name 'three' is given more than once"),
        ('"two"', '""', r"hospitals\[1\].name: .*at least 1"),
        (HOSPITALS, HOSPITALS[: HOSPITALS.index("[[hospitals]]", 5)], "hospitals: .*at least 2"),
        (HOSPITALS, "", "hospitals: is missing"),
        ("probs = [0.4, 0.6]", "probs = [1.0]", "unverified: `probs` has 1 entries for 2 `costs`"),
        ("probs = [0.4, 0.6]", "", "unverified.probs: is missing"),
    ],
)
def test_bad_scenarios(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in SMALL
    with pytest.raises(mo.InvalidInput, match=words):
        load(tmp_path, SMALL.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("240, 319]", "240, 320]", "training.sizes: 320 is more than the 319 records"),
        ("n_repeats = 12", "n_repeats = 12\nset_aside = 0.999", "set_aside = 0.999 takes 569 of 569"),
        ("n_repeats = 12", "n_repeats = 12\ntest_share = 0.001", "test_share = 0.001 takes 1 of 426"),
        ("[20, 40,", "[2, 40,", "one class only; start larger"),
        ("n_bootstrap = 60", "max_accuracy = 0.5", "max_accuracy"),
    ],
)
def test_bad_measurements(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in SMALL
    with pytest.raises(mo.InvalidInput, match=words):
        run(tmp_path, SMALL.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("marginal_cost = 0.0", "marginal_cost = 10.0", "hospitals.marginal_cost: nobody can work alone"),
        ("costs = [0.0008,", "costs = [0.0018,", "unverified: costs"),
        ("probs = [0.4, 0.6]", "probs = [0.4, 0.5]", "unverified: probs"),
        ('["exact", "clarabel"]', '["highspy"]', "highspy"),
    ],
)
def test_bad_markets(again: Callable[..., FederatedReport], old: str, new: str, words: str) -> None:
    assert old in SMALL
    with pytest.raises(mo.MechanismError, match=words):
        again(SMALL.replace(old, new))


def test_a_margin_that_eats_up_the_pool(
    report: FederatedReport, again: Callable[..., FederatedReport]
) -> None:
    cost = 2.9 * report.fit.accuracy.viability_cost  # three can just do together what none can alone
    text = SMALL[: SMALL.index("[unverified]")].replace("seed = 3", f"seed = 3\nincentive_margin = {cost}")
    for old in ("0.0005", "0.0008", "0.0012"):
        text = text.replace(old, repr(cost))
    with pytest.raises(mo.InvalidInput, match=r"incentive_margin = .* is so large"):
        again(text)


def test_flat_scores_determine_no_curve(tmp_path: Path) -> None:
    text = SMALL.replace("[training]", '[training]\nclassifier = "naive-bayes"')
    with pytest.raises(mo.InvalidInput, match="scores"):
        run(tmp_path, text)


def test_fit_is_that_of_the_package(report: FederatedReport) -> None:
    assert isinstance(report.fit, AccuracyFit)
    assert report.fit.parameters.keys() == {"max_accuracy", "coefficient", "exponent"}
