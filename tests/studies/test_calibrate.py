"""Accuracy from learning curves: exact on exact data, honest about noise, and clear about useless data."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import pytest
from scipy.optimize import least_squares

import mechopt as mo
from mechopt.formulations.functions import PowerLawAccuracy, SqrtAccuracy
from mechopt.studies.calibrate import AccuracyFit, accuracy_curve, learning_curve

SIZES = np.array([20.0, 40, 80, 160, 320, 640, 1280, 2560])


def noisy(
    rng: np.random.Generator,
    limit: float,
    coefficient: float,
    exponent: float,
    *,
    sd: float = 0.02,
    repeats: int = 8,
    shared: float = 0.0,
) -> np.ndarray:
    """Scores whose noise falls with size; a part of it is shared by a whole row."""
    noise = rng.standard_normal((repeats, SIZES.size)) * np.sqrt(1 - shared**2)
    noise += shared * rng.standard_normal((repeats, 1))
    return limit - coefficient * SIZES**-exponent + sd * noise * (SIZES / SIZES[0]) ** -0.3


# ------------------------------------------------------------------------------------ exact and noisy data


@pytest.mark.parametrize(
    ("limit", "coefficient", "exponent"),
    [(0.9, 2.0, 0.5), (0.95, 1.1, 0.23), (1.0, 3.0, 0.7), (0.8, 9.0, 0.97), (0.6, 0.7, 0.11)],
)
def test_exact_scores_give_the_curve_back(limit: float, coefficient: float, exponent: float) -> None:
    scores = limit - coefficient * SIZES**-exponent
    with warnings.catch_warnings():
        # A limit of exactly 1 is at the end of its range.
        warnings.simplefilter("ignore", mo.MechanismWarning)
        fit = accuracy_curve(SIZES, scores, n_bootstrap=20)
    expected = {"max_accuracy": limit, "coefficient": coefficient, "exponent": exponent}
    assert fit.parameters == pytest.approx(expected, rel=1e-8)
    assert fit.r_squared == pytest.approx(1, abs=1e-15)
    assert fit.residual_sd < 1e-12
    assert fit.lack_of_fit is None
    lower, upper = fit.band(SIZES)
    np.testing.assert_allclose(lower, scores, atol=1e-9)
    np.testing.assert_allclose(upper, scores, atol=1e-9)
    assert isinstance(fit.accuracy, PowerLawAccuracy)
    np.testing.assert_allclose(fit.accuracy(SIZES), scores, rtol=1e-9)


def test_exact_square_root() -> None:
    truth = SqrtAccuracy(0.93, 1.7)
    fit = accuracy_curve(SIZES, truth(SIZES), model="sqrt", n_bootstrap=0)
    assert isinstance(fit.accuracy, SqrtAccuracy)
    assert fit.parameters == pytest.approx({"max_accuracy": 0.93, "difficulty": 1.7}, rel=1e-10)
    assert fit.accuracy.viability_cost == pytest.approx(truth.viability_cost, rel=1e-9)


def test_the_search_finds_what_least_squares_finds() -> None:
    """Weighted sum of squares against SciPy's from many starts, with and without a known limit."""
    rng = np.random.default_rng(5)
    for trial in range(12):
        limit, exponent = rng.uniform(0.7, 0.99), rng.uniform(0.15, 0.9)
        coefficient = rng.uniform(0.2, 0.5) * SIZES[0] ** exponent
        scores = np.clip(noisy(rng, limit, coefficient, exponent, sd=0.03, repeats=3), 0, 1)
        known = 0.95 if trial % 3 == 2 else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mo.MechanismWarning)
            fit = accuracy_curve(SIZES, scores, max_accuracy=known, n_bootstrap=0)
        variances = scores.var(axis=0, ddof=1)
        means, root = scores.mean(axis=0), np.sqrt(3 / ((2 * variances + 4 * variances.mean()) / 6))

        def residual(theta: np.ndarray, root: Any = root, means: Any = means) -> Any:
            return root * (theta[0] - theta[1] * SIZES ** -theta[2] - means)

        low, high = (0.0, 1.0) if known is None else (known - 1e-12, known + 1e-12)
        best = min(
            least_squares(
                residual,
                [np.clip(0.9, low, high), c, a],
                bounds=([low, 0, 0.01], [high, np.inf, 1.0]),
                xtol=1e-15,
                ftol=1e-15,
                gtol=1e-15,
                max_nfev=4000,
            ).cost
            for c in (0.5, 3.0)
            for a in (0.1, 0.5, 0.9)
        )
        ours = 0.5 * np.sum(residual(np.array(list(fit.parameters.values()))) ** 2)
        assert ours <= best * (1 + 1e-8) + 1e-15
        assert ours >= best * (1 - 1e-4)


@pytest.mark.parametrize("shared", [0.0, 0.8], ids=["independent", "correlated in a row"])
def test_intervals_cover_the_truth_as_often_as_they_say(shared: float) -> None:
    """80% intervals on 200 curves: 160 expected, ± 5.7 (one standard deviation of the count)."""
    rng = np.random.default_rng(11)
    truth = {"max_accuracy": 0.9, "coefficient": 2.0, "exponent": 0.5}
    beyond = np.array([30.0, 300.0, 10_000.0])
    at = truth["max_accuracy"] - truth["coefficient"] * beyond**-0.5
    inside = dict.fromkeys(truth, 0)
    banded = np.zeros(3)
    n = 200
    for trial in range(n):
        scores = noisy(rng, *truth.values(), sd=0.02, shared=shared)
        fit = accuracy_curve(SIZES, scores, n_bootstrap=100, seed=trial)
        for name, (low, high) in fit.interval(0.8).items():
            inside[name] += low <= truth[name] <= high
        low, high = fit.band(beyond, 0.8)
        banded += (low <= at) & (at <= high)
    # Four standard deviations, and a little for the curvature that a linearised interval ignores.
    for name, count in inside.items():
        assert 0.8 * n - 25 <= count <= 0.8 * n + 25, (name, count)
    assert np.all(banded >= 0.8 * n - 25)
    assert np.all(banded <= 0.8 * n + 25)


def test_intervals_without_repeats_cover_the_truth() -> None:
    rng = np.random.default_rng(12)
    n, inside = 200, 0
    for _ in range(n):
        scores = 0.9 - 2 * SIZES**-0.5 + 0.004 * rng.standard_normal(SIZES.size)
        low, high = accuracy_curve(SIZES, scores, n_bootstrap=0).interval(0.8)["exponent"]
        inside += low <= 0.5 <= high
    assert 0.8 * n - 25 <= inside <= 0.8 * n + 25


def test_lack_of_fit_is_one_for_the_right_form_and_large_for_a_wrong_one() -> None:
    rng = np.random.default_rng(4)
    right, wrong = [], []
    for _ in range(60):
        right.append(accuracy_curve(SIZES, noisy(rng, 0.9, 2, 0.5, repeats=20), n_bootstrap=0).lack_of_fit)
        scores = noisy(rng, 0.9, 6.0, 0.85, repeats=20)
        wrong.append(
            accuracy_curve(SIZES, scores, model="sqrt", max_accuracy=0.95, n_bootstrap=0).lack_of_fit
        )
    assert np.mean(right) == pytest.approx(1, abs=0.35)
    assert np.min(wrong) > 10


def test_a_precise_size_weighs_more() -> None:
    """A disturbed mean pulls the curve less where its repeats disagree."""
    rng = np.random.default_rng(8)
    quiet = 0.9 - 2 * SIZES**-0.5 + 0.002 * rng.standard_normal((10, SIZES.size))
    loud = quiet.copy()
    spread = np.linspace(-0.1, 0.1, 10)
    loud[:, 2] += spread - spread.mean()
    pulled = []
    for scores in (quiet, loud):
        moved = scores.copy()
        moved[:, 2] += 0.02
        before, after = (accuracy_curve(SIZES, s, n_bootstrap=0).accuracy(80.0) for s in (scores, moved))
        pulled.append(float(after - before))
    assert 0 < pulled[1] < 0.5 * pulled[0]


# ------------------------------------------------------------------------------------------- conventions


def test_baseline_is_subtracted() -> None:
    rng = np.random.default_rng(2)
    scores = noisy(rng, 0.9, 2, 0.5)
    plain, above = accuracy_curve(SIZES, scores), accuracy_curve(SIZES, scores, baseline=0.1)
    assert above.parameters["max_accuracy"] == pytest.approx(plain.parameters["max_accuracy"] - 0.1, rel=1e-9)
    assert above.parameters["exponent"] == pytest.approx(plain.parameters["exponent"], rel=1e-9)
    np.testing.assert_allclose(above.accuracy(SIZES), plain.accuracy(SIZES) - 0.1, rtol=1e-9)
    np.testing.assert_allclose(above.to_frame()["fitted"], plain.to_frame()["fitted"], rtol=1e-9)
    low, high = above.band(np.array([0.0, 1e9]))
    assert low[0] == high[0] == 0
    assert high[1] <= 0.9


def test_useless_sizes_are_left_out_and_named() -> None:
    sizes = np.array([2.0, 5.0, *SIZES])
    scores = np.append([0.1, 0.1], 0.9 - 2 * SIZES**-0.5)
    fit = accuracy_curve(sizes, scores, baseline=0.1)
    assert fit.left_out == (2.0, 5.0)
    assert fit.parameters["exponent"] == pytest.approx(0.5, rel=1e-8)


def test_known_limit_has_no_error() -> None:
    rng = np.random.default_rng(3)
    scores = noisy(rng, 0.9, 2, 0.5)
    fit, free = accuracy_curve(SIZES, scores, max_accuracy=0.9), accuracy_curve(SIZES, scores)
    assert fit.parameters["max_accuracy"] == 0.9
    assert fit.standard_errors["max_accuracy"] == 0
    assert np.all(fit.samples[:, 0] == 0.9)
    assert fit.standard_errors["exponent"] < free.standard_errors["exponent"]


def test_order_layout_and_seed() -> None:
    rng = np.random.default_rng(6)
    scores = noisy(rng, 0.9, 2, 0.5)
    table = accuracy_curve(SIZES, scores, seed=1)
    order = rng.permutation(SIZES.size)
    shuffled = accuracy_curve(SIZES[order], scores[:, order], seed=1)
    assert shuffled.parameters == table.parameters
    np.testing.assert_array_equal(shuffled.samples, table.samples)
    assert not np.array_equal(accuracy_curve(SIZES, scores, seed=2).samples, table.samples)
    vector = accuracy_curve(np.tile(SIZES, 8), scores.ravel())
    assert vector.parameters == pytest.approx(table.parameters, rel=1e-10)
    assert vector.degrees_of_freedom == 7 * SIZES.size
    uneven = accuracy_curve(np.tile(SIZES, 8)[5:], scores.ravel()[5:])
    assert uneven.counts.tolist() == [7, 7, 7, 7, 7, 8, 8, 8]
    assert uneven.parameters["exponent"] == pytest.approx(table.parameters["exponent"], abs=0.1)


def test_draws_agree_with_the_standard_errors() -> None:
    rng = np.random.default_rng(7)
    fit = accuracy_curve(SIZES, noisy(rng, 0.9, 2, 0.5, sd=0.005, repeats=40), n_bootstrap=2000)
    np.testing.assert_allclose(
        fit.samples.std(axis=0), list(fit.standard_errors.values()), rtol=0.1
    )  # 2000 draws know a deviation to 1.6%; 39 degrees of freedom widen it by 2.7%; the curve is not linear


def test_band_of_a_run_is_wider() -> None:
    rng = np.random.default_rng(9)
    fit = accuracy_curve(SIZES, noisy(rng, 0.9, 2, 0.5))
    (low, high), (run_low, run_high) = fit.band(SIZES), fit.band(SIZES, of="run")
    assert np.all(run_low < low)
    assert np.all(run_high > high)
    assert np.all(run_high - run_low >= 2 * 1.9 * fit.residual_sd)
    narrow = fit.band(SIZES, 0.5)
    assert np.all(narrow[0] > low)
    assert np.all(narrow[1] < high)
    assert np.shape(fit.band(100.0)[0]) == ()
    assert fit.band(np.ones((2, 3)))[1].shape == (2, 3)


def test_a_parameter_at_its_limit_is_said() -> None:
    rng = np.random.default_rng(1)
    scores = 0.99 - 3 * SIZES**-0.6 + np.array([0, 0, 0, 0, 0, 0.003, 0.006, 0.009])
    scores = np.minimum(scores + 1e-4 * rng.standard_normal((4, SIZES.size)), 1)
    with pytest.warns(mo.MechanismWarning, match="max_accuracy ended at the limit"):
        fit = accuracy_curve(SIZES, scores)
    assert fit.at_limit == ("max_accuracy",)
    assert fit.parameters["max_accuracy"] == 1
    assert "at its limit: max_accuracy" in repr(fit)
    with pytest.warns(mo.MechanismWarning, match="exponent ended at the limit"):
        steep = accuracy_curve(SIZES, 0.9 - 50 * SIZES**-1.4)
    assert steep.at_limit == ("exponent",)
    assert steep.parameters["exponent"] == 1


def test_record_table_and_plot() -> None:
    rng = np.random.default_rng(10)
    fit = accuracy_curve(SIZES, noisy(rng, 0.9, 2, 0.5), baseline=0.1)
    frame = fit.to_frame()
    assert list(frame) == ["size", "n_scores", "mean", "sd", "fitted", "lower", "upper"]
    assert np.all(frame["lower"] < frame["fitted"])
    assert np.all(frame["fitted"] < frame["upper"])
    axes = fit.plot().axes[0]
    assert axes.get_xscale() == "log"
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend[-2:] == ["fit", "scores (mean, sd)"]
    line = next(line for line in axes.lines if line.get_label() == "fit")
    np.testing.assert_allclose(line.get_ydata(), fit.accuracy(line.get_xdata()) + 0.1)
    with pytest.raises(AttributeError):
        fit.baseline = 0.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        fit.samples[0] = 0
    bare = accuracy_curve(SIZES, 0.9 - 2 * SIZES**-0.5, n_bootstrap=0)
    assert list(bare.to_frame()) == ["size", "n_scores", "mean", "sd", "fitted"]
    assert len(bare.plot().axes[0].collections) == 0


# --------------------------------------------------------------------------------------------- bad input

GOOD = 0.9 - 2 * SIZES**-0.5


def spoiled(index: int, value: float) -> np.ndarray:
    scores = GOOD.copy()
    scores[index] = value
    return scores


@pytest.mark.parametrize(
    ("sizes", "scores", "options", "words"),
    [
        (SIZES, GOOD, {"model": "cubic"}, "model must be 'power-law' or 'sqrt', got 'cubic'"),
        (SIZES, GOOD, {"baseline": 1.0}, "baseline = 1 must be below 1"),
        (SIZES, GOOD, {"baseline": -0.1}, "baseline must be a finite number >= 0"),
        (SIZES, GOOD, {"max_accuracy": 1.2}, r"max_accuracy = 1.2 must be in \(baseline, 1\] = \(0, 1\]"),
        (SIZES, GOOD, {"max_accuracy": 0.1, "baseline": 0.2}, r"max_accuracy = 0.1 must be in"),
        (SIZES, GOOD, {"n_bootstrap": -1}, "n_bootstrap must be a whole number >= 0"),
        (SIZES, GOOD, {"baseline": 0.95}, "none of the mean scores, at best 0.860472, is above"),
        (SIZES[:3], GOOD[:3], {}, "3 different ones .* too few for the 3 parameters .* measure at 4 or more"),
        (SIZES[:2], GOOD[:2], {"model": "sqrt"}, "too few for the 2 parameters of 'sqrt'"),
        (SIZES, GOOD[:4], {}, r"scores has shape \(4,\) for 8 sizes"),
        (SIZES, np.ones((2, 2, 8)), {}, r"scores has shape \(2, 2, 8\)"),
        (SIZES, ["a"] * 8, {}, "scores must be numbers"),
        ([-1, *SIZES[1:]], GOOD, {}, r"sizes\[0\] = -1 must be > 0"),
        ([np.nan, *SIZES[1:]], GOOD, {}, r"sizes\[0\] is nan"),
        ([40, *SIZES[1:]], np.tile(GOOD, (2, 1)), {}, "sizes has 40 more than once"),
        (SIZES, spoiled(3, np.nan), {}, r"scores\[3\] = nan at size 160 must be a finite fraction"),
        (SIZES, np.stack([GOOD, spoiled(1, 1.01)]), {}, r"scores\[1, 1\] = 1.01 at size 40"),
        (SIZES, 100 * GOOD, {}, r"not errors or percentages"),
        (SIZES, 1 - GOOD, {}, r"they fall with size, by .* no increasing curve fits"),
        (SIZES, np.full(8, 0.8), {}, "within the noise .* flat curve"),
        (SIZES, np.full((3, 8), 0.7), {}, "within the noise .* flat curve"),
        (SIZES, 0.8 + 0.01 * np.array([1, -1, -1, 1, 1, -1, -1, 1]), {}, "measure smaller sizes"),
    ],
)  # fmt: skip
def test_bad_measurements(sizes: Any, scores: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(mo.InvalidInput, match=words):
        accuracy_curve(sizes, scores, **options)


def test_bad_requests_of_a_fit() -> None:
    fit = accuracy_curve(SIZES, GOOD, n_bootstrap=0)
    with pytest.raises(mo.NotApplicable, match="n_bootstrap > 0"):
        fit.band(10.0)
    with pytest.raises(mo.InvalidInput, match="of must be 'curve' or 'run'"):
        fit.band(10.0, of="both")  # type: ignore[arg-type]
    with pytest.raises(mo.InvalidInput, match="level must be"):
        fit.interval(95)


# --------------------------------------------------------------------------------------- real learning curves


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    features, labels = datasets.load_digits(return_X_y=True)
    return features / 16, labels


@pytest.fixture(scope="module")
def curve(digits: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.naive_bayes import GaussianNB

    return learning_curve(GaussianNB(var_smoothing=1e-2), *digits, n_repeats=6)


def test_a_classifier_of_digits(curve: tuple[np.ndarray, np.ndarray]) -> None:
    sizes, scores = curve
    assert scores.shape == (6, 8)
    assert (sizes[0], sizes[-1]) == (20, 1347)
    fit: AccuracyFit = accuracy_curve(sizes, scores, baseline=0.1)
    assert fit.r_squared > 0.95
    assert 0.90 < fit.parameters["max_accuracy"] + 0.1 < 0.97
    # Fitted up to a third of the data, the curve says what all of them achieve: to within the band of a run,
    # and a point or two for the form of the curve, which is not exact.
    early = accuracy_curve(sizes[:6], scores[:, :6], baseline=0.1)
    low, high = early.band(sizes[-1], of="run")
    assert low - 0.02 <= scores[:, -1].mean() - 0.1 <= high + 0.02
    # The fitted curve goes where any accuracy goes: what an agent would contribute on its own.
    cost = fit.accuracy.viability_cost / 50
    alone = float(fit.accuracy.inverse_derivative(cost))
    assert fit.accuracy.viability_data < alone < sizes[-1]


def test_learning_curve_is_reproducible(
    digits: tuple[np.ndarray, np.ndarray], curve: tuple[np.ndarray, np.ndarray]
) -> None:
    from sklearn.naive_bayes import GaussianNB

    model = GaussianNB(var_smoothing=1e-2)
    _, scores = learning_curve(model, *digits, sizes=[36, 222], n_repeats=2)
    np.testing.assert_array_equal(scores, curve[1][:2, [1, 4]])
    assert not hasattr(model, "classes_")  # the estimator that was passed in is not trained
    assert not np.array_equal(learning_curve(model, *digits, sizes=[36, 222], n_repeats=2, seed=1)[1], scores)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sizes": [50, 20]}, "must be increasing"),
        ({"sizes": [50, 5000]}, "at most the 1347 points"),
        ({"sizes": [0, 50]}, r"sizes\[0\] must be a whole number >= 1"),
        ({"sizes": [1, 50]}, r"sizes\[0\] = 1: repeat 0 drew points of one class only"),
        ({"test_share": 0.98}, "too few for the default sizes"),
        ({"test_share": 1.0}, "test_share must be"),
        ({"n_repeats": 0}, "n_repeats must be"),
    ],
)
def test_bad_learning_curves(
    digits: tuple[np.ndarray, np.ndarray], options: dict[str, Any], words: str
) -> None:
    from sklearn.naive_bayes import GaussianNB

    with pytest.raises(mo.InvalidInput, match=words):
        learning_curve(GaussianNB(), *digits, **options)


def test_bad_labels(digits: tuple[np.ndarray, np.ndarray]) -> None:
    features, labels = digits
    with pytest.raises(mo.InvalidInput, match="one label for each point"):
        learning_curve(None, features[:10], labels)
    with pytest.raises(mo.InvalidInput, match="labels has 1 class"):
        learning_curve(None, features, 0 * labels)


def test_missing_scikit_learn_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name == "sklearn" or name.startswith("sklearn.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(mo.NotApplicable, match=r'pip install "mechopt\[data\]"'):
        learning_curve(None, np.zeros((4, 1)), np.zeros(4))
