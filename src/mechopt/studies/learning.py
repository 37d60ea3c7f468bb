"""Learning curves measured on real records, and models trained on pools of the sizes that a design collects.

Studies in which parties pool records share it: what models are trained, from what, how well the scores fit
the curve, and whether models on pools of other sizes are worth what the curve says.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from scipy import stats

from mechopt.formulations.functions import AccuracyFunction, PowerLawAccuracy, SqrtAccuracy
from mechopt.solvers.errors import BackendUnavailable, InvalidInput, MechanismWarning
from mechopt.studies.calibrate import AccuracyFit, accuracy_curve, learning_curve
from mechopt.studies.run import Check
from mechopt.studies.scenario import Table

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

LEVEL = 0.95
"""Confidence of every interval."""

ERRORS = 4.0
"""Standard errors that measured accuracies may be away from the curve: one in 16 000 is, by chance."""


class Training(Table):
    """What is learned, how, and from which numbers of records."""

    dataset: Literal["breast-cancer", "digits"]
    classifier: Literal["logistic-regression", "nearest-neighbours", "naive-bayes"] = "logistic-regression"
    sizes: Annotated[list[float], Field(min_length=5)]
    n_repeats: int = Field(default=40, ge=5, le=1000)
    set_aside: float = Field(default=0.25, gt=0, lt=1)
    test_share: float = Field(default=0.25, gt=0, lt=1)

    @field_validator("sizes")
    @classmethod
    def _whole_and_increasing(cls, sizes: list[float]) -> list[float]:
        broken = [size for size in sizes if size != int(size) or size < 2]
        if broken:
            raise ValueError(f"must be whole numbers of records, at least 2; there is {broken[0]:g}")
        if sorted(set(sizes)) != sizes:
            raise ValueError("must increase")
        return sizes

    def load(self, seed: int) -> Records:
        """Read the data set, and set records aside at random, of each class its share."""
        from sklearn import datasets
        from sklearn.model_selection import train_test_split

        source = datasets.load_breast_cancer() if self.dataset == "breast-cancer" else datasets.load_digits()
        n_records, n_classes = source.target.size, np.unique(source.target).size
        aside = math.ceil(self.set_aside * n_records)
        tested = math.ceil(self.test_share * (n_records - aside))
        for name, share, n_left, n_taken in (
            ("set_aside", self.set_aside, n_records, aside),
            ("test_share", self.test_share, n_records - aside, tested),
        ):
            if not n_classes <= n_taken <= n_left - n_classes:
                raise InvalidInput(
                    f"training.{name} = {share:g} takes {n_taken} of {n_left} records, and there must be "
                    f"one for each of {n_classes} classes among those taken and among the others"
                )
        most = n_records - aside - tested
        if self.sizes[-1] > most:
            raise InvalidInput(
                f"training.sizes: {self.sizes[-1]:g} is more than the {most} records left to train on; lower "
                "it, or training.set_aside or training.test_share"
            )
        features, apart, labels, apart_labels = train_test_split(
            source.data, source.target, test_size=aside, random_state=seed, stratify=source.target
        )
        largest = float(np.bincount(source.target).max() / n_records)
        return Records(features, labels, apart, apart_labels, baseline=largest, most=most)

    def estimator(self) -> Any:
        """Make the classifier; features are scaled to mean 0 and variance 1 in the training set."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.naive_bayes import GaussianNB
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if self.classifier == "naive-bayes":
            return GaussianNB()
        if self.classifier == "nearest-neighbours":
            return make_pipeline(StandardScaler(), KNeighborsClassifier(n_neighbors=5))
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


class Curve(Table):
    """What is fitted to the scores; see `mechopt.studies.calibrate.accuracy_curve`."""

    model: Literal["power-law", "sqrt"] = "power-law"
    max_accuracy: float | None = Field(default=None, gt=0, le=1)
    n_bootstrap: int = Field(default=400, ge=40, le=100_000)


def check_scikit_learn(mechanism: str) -> None:
    """Refuse to go on without scikit-learn.

    Raises
    ------
    BackendUnavailable
        Naming it, and how to install it.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise BackendUnavailable(
            f'mechanism {mechanism!r} needs scikit-learn, not installed here: pip install "mechopt[data]"'
        )


def fit_curve(training: Training, curve: Curve, records: Records, scores: Array, seed: int) -> AccuracyFit:
    """Fit the curve to the scores of models on growing sets of records."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MechanismWarning)  # notes tell of limits that are met
        return accuracy_curve(
            training.sizes,
            scores,
            model=curve.model,
            max_accuracy=curve.max_accuracy,
            baseline=records.baseline,
            n_bootstrap=curve.n_bootstrap,
            seed=seed,
        )


# ------------------------------------------------------------ measurements


@dataclass(frozen=True, eq=False)
class Records:
    """A data set in two parts.

    Attributes
    ----------
    features, labels : array, shape (n_records, n_features) and (n_records,)
        What the curve is measured with.
    apart, apart_labels : array
        The records set aside.
    baseline : float
        Share of the largest class: accuracy of a model that has learned nothing.
    most : int
        Records that there are to train on when some are kept for testing.
    """

    features: Array
    labels: Counts
    apart: Array
    apart_labels: Counts
    baseline: float
    most: int


@dataclass(frozen=True, eq=False)
class Pools:
    """Models trained on pools of the sizes that the designs collect; arrays have one entry a pool.

    Attributes
    ----------
    names : tuple of str
    wanted : array
        Records that the design collects.
    trained : array of int
        Records that models were trained on: whole ones, within the sizes of the curve and the records there
        are.
    curve, curve_sd : array
        Accuracy by the curve at ``trained``, and its standard deviation over the draws.
    fresh, fresh_sd : array
        Mean accuracy of models from new splits of the records of the curve; standard error.
    apart, apart_sd : array
        Mean accuracy of models on the records set aside; standard error, of the records here and there.
    gain, gain_sd : array
        The last pool's accuracy on the records set aside less this pool's, and less what the curve says;
        standard error, curve included.
    """

    names: tuple[str, ...]
    wanted: Array
    trained: Counts
    curve: Array
    curve_sd: Array
    fresh: Array
    fresh_sd: Array
    apart: Array
    apart_sd: Array
    gain: Array
    gain_sd: Array

    def record(self) -> list[dict[str, Any]]:
        """Plain records, one a pool."""
        columns = {
            "pool": np.array(self.names, dtype=object),
            "wanted": self.wanted,
            "trained_on": self.trained,
            "curve": self.curve,
            "curve_sd": self.curve_sd,
            "new_splits": self.fresh,
            "new_splits_se": self.fresh_sd,
            "set_aside": self.apart,
            "set_aside_se": self.apart_sd,
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def measure_curve(training: Training, records: Records, sizes: Iterable[float], seed: int) -> Array:
    """Scores of models on growing sets of records, shape (n_repeats, n_sizes)."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # the models are small: threads would wait for each other
        _, scores = learning_curve(
            training.estimator(),
            records.features,
            records.labels,
            sizes=[int(size) for size in sizes],
            n_repeats=training.n_repeats,
            test_share=training.test_share,
            seed=seed,
        )
    return scores


def _measure_apart(training: Training, records: Records, sizes: Counts, seed: int) -> Array:
    """Which of the records set aside are classified rightly, shape (n_repeats, n_sizes, n_apart).

    Within a repeat each training set is part of the next.
    """
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    right = np.empty((training.n_repeats, sizes.size, records.apart_labels.size))
    with threadpool_limits(1):
        for repeat in range(training.n_repeats):
            order = rng.permutation(records.labels.size)
            for column, size in enumerate(sizes.tolist()):
                own = order[:size]
                if np.unique(records.labels[own]).size < 2:
                    raise InvalidInput(
                        f"training.sizes: {size} records drawn at random were of one class; start larger"
                    )
                model = training.estimator().fit(records.features[own], records.labels[own])
                right[repeat, column] = model.predict(records.apart) == records.apart_labels
    return right


def measure_pools(
    training: Training,
    records: Records,
    fit: AccuracyFit,
    drawn: Sequence[AccuracyFunction],
    wanted: Mapping[str, float],
    seeds: tuple[int, int],
    progress: Callable[[str], None],
) -> Pools:
    """Train models on pools of the sizes wanted (records, by name), in two ways, and score them.

    Parameters
    ----------
    training : Training
    records : Records
    fit : AccuracyFit
        The curve.
    drawn : sequence of AccuracyFunction
        Curves that the scores might as well have given.
    wanted : mapping of str to float
        What the last pool gains over the others is told apart.
    seeds : pair of int
    progress : callable
        Told of each of the two steps as it begins.
    """
    amounts = np.array(list(wanted.values()))
    trained = np.clip(np.rint(amounts), fit.sizes[0], records.most).astype(np.int64)
    sizes, place = np.unique(trained, return_inverse=True)
    progress("new splits")
    scores = measure_curve(training, records, sizes, seeds[0])[:, place]
    progress("records set aside")
    right = _measure_apart(training, records, sizes, seeds[1])[:, place]
    curves = np.array([accuracy(trained) for accuracy in drawn])
    curve = fit.accuracy(trained) + fit.baseline
    expected = curve[-1] - curve
    gain = right[:, -1:] - right
    # Of records that are right or wrong, by the curve: few records of which nearly all are right do not tell
    # their variance. Of gains it is the least if no record is lost, and the sample may show more.
    variance = curve * (1 - curve)
    of_gains = np.maximum(gain.mean(axis=0).var(axis=-1, ddof=1), expected * (1 - expected))
    n_curve = records.labels.size
    return Pools(
        names=tuple(wanted),
        wanted=amounts,
        trained=trained,
        curve=curve,
        curve_sd=curves.std(axis=0),
        fresh=scores.mean(axis=0),
        fresh_sd=scores.std(axis=0, ddof=1) / math.sqrt(len(scores)),
        apart=right.mean(axis=(0, 2)),
        apart_sd=_apart_error(right, variance, n_curve),
        gain=gain.mean(axis=(0, 2)) - expected,
        gain_sd=np.hypot(_apart_error(gain, of_gains, n_curve), (curves[:, -1:] - curves).std(axis=0)),
    )


def _apart_error(values: Array, variance: Array, n_curve: int) -> Array:
    """Standard error of means over repeats and records set aside, as of differences from the curve.

    The records set aside are a sample, and so are the ``n_curve`` that the curve was measured with: of the
    same population, but not the same. Repeats share their records, and differ by what was trained on.
    """
    n_repeats, _, n_apart = values.shape
    of_repeats = values.mean(axis=2).var(axis=0, ddof=1) / n_repeats
    return np.asarray(np.sqrt(variance * (1 / n_apart + 1 / n_curve) + of_repeats))


def drawn_accuracies(fit: AccuracyFit) -> tuple[AccuracyFunction, ...]:
    """Return the curves that the scores might as well have given; draws of which nothing rises are left out.

    Raises
    ------
    InvalidInput
        If none is left.
    """
    drawn = [_drawn_accuracy(fit, row) for row in fit.samples.tolist()]
    kept = tuple(accuracy for accuracy in drawn if accuracy is not None)
    if not kept:
        raise InvalidInput("training: of no draw of the curve's parameters does accuracy rise; measure more")
    return kept


def _drawn_accuracy(fit: AccuracyFit, parameters: list[float]) -> AccuracyFunction | None:
    """Accuracy function with these parameters; None if they make none."""
    try:
        if isinstance(fit.accuracy, SqrtAccuracy):
            return SqrtAccuracy(*parameters)
        limit, coefficient, exponent = parameters
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MechanismWarning)  # of exponents of 1
            return PowerLawAccuracy(coefficient, exponent, threshold=1 - limit)
    except InvalidInput:
        return None


def interval(values: Array) -> tuple[Array, Array]:
    """Ends of the middle 95% of draws, along the first axis."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return np.asarray(low), np.asarray(high)


def curve_checks(fit: AccuracyFit, drawn: Sequence[AccuracyFunction]) -> list[Check]:
    """Whether the scores have the form of the curve, and determine one."""
    scores = int(fit.counts.min())
    spare = fit.sizes.size - len(fit.parameters) + sum(error == 0 for error in fit.standard_errors.values())
    return [
        Check(
            "1 form of the curve",
            "mean square of what the curve leaves of mean scores, over what the scatter of repeats explains",
            math.nan if fit.lack_of_fit is None else fit.lack_of_fit,
            0.0,
            float(stats.f.ppf(0.999, spare, max(scores - 1, 1))),
            "99.9% quantile of the F distribution",
        ),
        Check(
            "1 draws that rise",
            "share of draws of the curve's parameters that make an accuracy function",
            len(drawn) / len(fit.samples),
            1.0,
            0.025,
            "more would reach into the 95% intervals",
        ),
    ]


def pool_checks(pools: Pools, kinds: Mapping[str, slice], *, last: str, first: int) -> list[Check]:
    """Whether models on the pools are worth what the curve says.

    Parameters
    ----------
    pools : Pools
    kinds : mapping of str to slice
        Pools by kind; of each the farthest from the curve is a check.
    last : str
        What the last pool is called.
    first : int
        Number of the first check.
    """
    fresh = np.hypot(pools.fresh_sd, pools.curve_sd)
    apart = np.hypot(pools.apart_sd, pools.curve_sd)
    why = f"{ERRORS:g} standard errors"
    checks = []
    for name, says, measured, error in (
        (f"{first} new splits", "on other splits of the same records", pools.fresh, fresh),
        (f"{first + 1} set aside", "on the records set aside", pools.apart, apart),
    ):
        deviates = _deviates(measured - pools.curve, error)
        for which, places in kinds.items():
            if deviates[places].size:
                k = int(np.arange(deviates.size)[places][np.argmax(deviates[places])])
                checks.append(
                    Check(
                        f"{name}, {which}",
                        f"accuracy of models of {pools.trained[k]} records ({pools.names[k]}) {says}, "
                        "against the curve; the farthest of its kind",
                        float(measured[k]),
                        float(pools.curve[k]),
                        ERRORS * float(error[k]),
                        why,
                    )
                )
    smaller = np.flatnonzero(pools.trained < pools.trained[-1])
    if smaller.size:
        k = int(smaller[np.argmax(_deviates(pools.gain, pools.gain_sd)[smaller])])
        checks.append(
            Check(
                f"{first + 1} set aside, gain",
                f"accuracy that the {last} pool adds to that of {pools.trained[k]} records "
                f"({pools.names[k]}) on the records set aside, against the curve; the farthest",
                float(pools.apart[-1] - pools.apart[k]),
                float(pools.curve[-1] - pools.curve[k]),
                ERRORS * float(pools.gain_sd[k]),
                why,
            )
        )
    return checks


def _deviates(differences: Array, errors: Array) -> Array:
    """Differences in standard errors; without an error, one from nothing is infinite."""
    tiny = float(np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):
        return np.asarray(np.abs(differences) / np.maximum(errors, tiny))
