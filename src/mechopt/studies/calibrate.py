"""Accuracy functions from measured learning curves, with how well they are known.

The curve b(m) = A - β m^-α is fitted by weighted least squares. For a given exponent it is linear in A and
β, so that what remains is a search over one number in (0, 1]: a grid over all of it, then the root of the
derivative. There are no starting values, and no local optimum is mistaken for the best. The same search
serves all draws of the bootstrap at once.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import elementwise
from scipy.special import stdtrit

from mechopt.formulations import checks
from mechopt.formulations.functions import PowerLawAccuracy, SqrtAccuracy
from mechopt.solvers.errors import InvalidInput, MechanismWarning, NotApplicable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["AccuracyFit", "accuracy_curve", "learning_curve"]

Array = NDArray[np.float64]

EXPONENTS = np.linspace(0.01, 1.0, 34)
"""Exponents α between which the best is looked for."""

PRIOR = 4.0
"""Degrees of freedom that the variance of all sizes has in the variance of each one.

A few repeats can agree by luck; without this, that size would rule the fit.
"""

SIGNIFICANT = 2.0
"""A rise of the scores is one if it is so many standard errors."""


# ------------------------------------------------------------------------------------------------- the fit


@dataclass(frozen=True, eq=False)
class AccuracyFit:
    """An accuracy function fitted to scores, and how well the scores determine it.

    Attributes
    ----------
    accuracy : PowerLawAccuracy or SqrtAccuracy
        Accuracy above the baseline. The threshold of a power law is 1 minus its fitted limit.
    parameters, standard_errors : dict of str to float
        ``max_accuracy`` (A), ``coefficient`` (β) and ``exponent`` (α), or ``max_accuracy`` and ``difficulty``
        (k = β² / 4); the error is 0 of what was given, and of what is at its limit.
    samples : array, shape (n_bootstrap, n_parameters)
        Draws of the parameters, in the order of ``parameters``.
    degrees_of_freedom : int
        Of the estimate of the noise: of Student's distribution in intervals and draws.
    residual_sd : float
        Standard deviation of one score about the curve.
    r_squared : float
        Share of the variance of the (weighted) mean scores that the curve explains.
    lack_of_fit : float or None
        Weighted mean square of what the curve leaves of the mean scores, in units of what the scatter of
        repeats explains: about 1 if the curve has the right form, far above 1 if not. None without repeats.
    at_limit : tuple of str
        Parameters that ended at the end of their range.
    sizes, means, sds : array, shape (n_sizes,)
        What was fitted: sizes, mean scores, and the standard deviations of scores (0 without repeats).
    counts : array of int, shape (n_sizes,)
        Scores of each size.
    left_out : tuple of float
        Sizes whose mean score is not above the baseline: they say nothing of b but that it is not positive.
    baseline : float
        Score of a useless model.
    """

    accuracy: PowerLawAccuracy | SqrtAccuracy
    parameters: dict[str, float]
    standard_errors: dict[str, float]
    samples: Array
    degrees_of_freedom: int
    residual_sd: float
    r_squared: float
    lack_of_fit: float | None
    at_limit: tuple[str, ...]
    sizes: Array
    means: Array
    sds: Array
    counts: NDArray[np.int64]
    left_out: tuple[float, ...]
    baseline: float

    def interval(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Return confidence intervals of the parameters, from their standard errors.

        Parameters
        ----------
        level : float
            Confidence, inside (0, 1).
        """
        factor = self._factor(level)
        return {
            name: (value - factor * self.standard_errors[name], value + factor * self.standard_errors[name])
            for name, value in self.parameters.items()
        }

    def band(
        self, m: ArrayLike, level: float = 0.95, *, of: Literal["curve", "run"] = "curve"
    ) -> tuple[Array, Array]:
        """Return the pointwise band of accuracy above the baseline.

        Parameters
        ----------
        m : array
            Data points, >= 0; beyond the measured sizes the band assumes that the form of the curve is right.
        level : float
            Confidence, inside (0, 1).
        of : {"curve", "run"}
            Where the curve is, or where the score of one new run is.

        Returns
        -------
        lower, upper : array, shape of ``m``
            In [0, 1 - baseline].

        Raises
        ------
        NotApplicable
            If the fit was made without draws.
        """
        level = checks.fraction(level, "level")
        if of not in ("curve", "run"):
            raise InvalidInput(f"of must be 'curve' or 'run', got {of!r}")
        if not len(self.samples):
            raise NotApplicable("a band needs draws; fit with n_bootstrap > 0", reason="n_bootstrap is 0")
        m = np.asarray(m, dtype=float)
        limit, coefficient, exponent = self._powers(self.samples)
        with np.errstate(divide="ignore"):
            shape = (-1, *(1,) * m.ndim)
            curves = limit.reshape(shape) - coefficient.reshape(shape) * m ** -exponent.reshape(shape)
        curves = np.clip(curves, 0.0, 1 - self.baseline)
        tail = (1 - level) / 2
        lower, upper = np.quantile(curves, [tail, 1 - tail], axis=0)
        if of == "run":
            middle, spread = self.accuracy(m), self._factor(level) * self.residual_sd
            lower = np.maximum(middle - np.hypot(np.maximum(middle - lower, 0.0), spread), 0.0)
            upper = middle + np.hypot(np.maximum(upper - middle, 0.0), spread)
            upper = np.minimum(upper, 1 - self.baseline)
        return lower, upper

    def to_frame(self) -> pd.DataFrame:
        """Return one row a size: the scores, and the curve with its 95% band, in the units of the scores."""
        import pandas as pd

        frame = pd.DataFrame(
            {
                "size": self.sizes,
                "n_scores": self.counts,
                "mean": self.means,
                "sd": self.sds,
                "fitted": self.accuracy(self.sizes) + self.baseline,
            }
        )
        if len(self.samples):
            lower, upper = self.band(self.sizes)
            frame["lower"], frame["upper"] = lower + self.baseline, upper + self.baseline
        return frame

    def plot(self) -> Figure:
        """Draw the scores, the curve up to ten times the largest size, its 95% band and its limit."""
        from mechopt.formulations.figures import COLOURS, GREY, LINE, MARKER, label, legend, new_figure

        figure, (axes,) = new_figure()
        m = np.geomspace(self.sizes[0] / 1.5, 10 * self.sizes[-1], 400)
        axes.set_xscale("log")
        if len(self.samples):
            lower, upper = self.band(m)
            axes.fill_between(
                m,
                lower + self.baseline,
                upper + self.baseline,
                color=COLOURS["sky"],
                alpha=0.35,
                linewidth=0,
                label="95% band",
            )
        limit = self.parameters["max_accuracy"] + self.baseline
        axes.axhline(limit, color=GREY, linewidth=0.8, linestyle="--", label=f"limit {limit:.3f}")
        if self.baseline > 0:
            axes.axhline(self.baseline, color=GREY, linewidth=0.8, linestyle=":", label="useless model")
        axes.plot(m, self.accuracy(m) + self.baseline, color=COLOURS["blue"], linewidth=LINE, label="fit")
        axes.errorbar(
            self.sizes,
            self.means,
            yerr=self.sds if np.any(self.sds > 0) else None,
            color=COLOURS["vermilion"],
            fmt="o",
            markersize=MARKER,
            elinewidth=0.8,
            label="scores (mean, sd)" if np.any(self.counts > 1) else "scores",
        )
        label(axes, "training data m (points)", "score")
        legend(axes, loc="lower right")
        return figure

    def __repr__(self) -> str:
        values = ", ".join(
            f"{name} = {value:.4g} ± {self.standard_errors[name]:.2g}"
            for name, value in self.parameters.items()
        )
        limits = f"; at its limit: {', '.join(self.at_limit)}" if self.at_limit else ""
        return f"AccuracyFit({type(self.accuracy).__name__}: {values}; r² = {self.r_squared:.4f}{limits})"

    def _factor(self, level: float) -> float:
        """Half-width of an interval, in standard errors."""
        level = checks.fraction(level, "level")
        return float(stdtrit(self.degrees_of_freedom, (1 + level) / 2))

    def _powers(self, samples: Array) -> tuple[Array, Array, Array]:
        """Limits, coefficients and exponents of draws."""
        if isinstance(self.accuracy, SqrtAccuracy):
            return samples[:, 0], 2 * np.sqrt(samples[:, 1]), np.full(len(samples), 0.5)
        return samples[:, 0], samples[:, 1], samples[:, 2]


def accuracy_curve(
    sizes: ArrayLike,
    scores: ArrayLike,
    *,
    model: Literal["power-law", "sqrt"] = "power-law",
    max_accuracy: float | None = None,
    baseline: float = 0.0,
    n_bootstrap: int = 400,
    seed: int = 0,
) -> AccuracyFit:
    """Fit b(m) = A - β m^-α to the scores of models trained on m data points.

    Parameters
    ----------
    sizes : array, shape (n_sizes,)
        Data points, > 0; with a vector of scores, the size of each one, in any order.
    scores : array, shape (n_repeats, n_sizes), or a vector
        Test accuracies in [0, 1]. A row is one repeat of the whole experiment, whose errors may be correlated
        across sizes. In a vector, scores are independent.
    model : {"power-law", "sqrt"}
        Exponent α in (0, 1], fitted; or α = 1/2, the accuracy-shaping paper's eq. (3).
    max_accuracy : float, optional
        Score of unlimited data, if it is known, in (baseline, 1]. By default it is fitted, and at most 1.
    baseline : float
        Score of a useless model, in [0, 1): chance level. What counts as accuracy is above it.
    n_bootstrap : int
        Draws of the parameters: from Student's distribution of the mean scores, by random combinations of the
        repeats (of the residuals if there are none), with a fit of each.
    seed : int
        Of the draws.

    Returns
    -------
    AccuracyFit

    Raises
    ------
    InvalidInput
        If the shapes do not match; a size is not > 0 or a score not in [0, 1]; there are fewer sizes than
        parameters and one; no score is above the baseline; the scores fall with size, or do not rise beyond
        their noise, which leaves the curve undetermined.

    Warns
    -----
    MechanismWarning
        If a parameter ends at its limit: extrapolation is then a matter of the limit more than of the scores.

    Notes
    -----
    Mean scores are weighted by the inverse of their variance: that of the size's repeats, drawn towards the
    average of all sizes. Standard errors are those of the linearised fit, with the covariance of the mean
    scores across sizes taken from the repeats, or without repeats with the scatter about the curve.

    Examples
    --------
    >>> sizes = np.array([50, 100, 200, 400, 800])
    >>> fit = accuracy_curve(sizes, 0.9 - 2 / np.sqrt(sizes), n_bootstrap=0)
    >>> {name: round(value, 9) for name, value in fit.parameters.items()}
    {'max_accuracy': 0.9, 'coefficient': 2.0, 'exponent': 0.5}
    >>> round(fit.accuracy.min_viable_data, 6)
    4.938272
    """
    if model not in ("power-law", "sqrt"):
        raise InvalidInput(f"model must be 'power-law' or 'sqrt', got {model!r}")
    base = checks.nonnegative(baseline, "baseline", "it is the score of a useless model")
    if base >= 1:
        raise InvalidInput(f"baseline = {base:g} must be below 1: it leaves no accuracy to measure")
    draws = checks.count(n_bootstrap, "n_bootstrap", least=0)
    known = None if max_accuracy is None else checks.positive(max_accuracy, "max_accuracy") - base
    if known is not None and not 0 < known <= 1 - base:
        raise InvalidInput(f"max_accuracy = {max_accuracy:g} must be in (baseline, 1] = ({base:g}, 1]")

    data, left_out = _measured(sizes, scores, base)
    exponents = EXPONENTS if model == "power-law" else np.array([0.5])
    form = _Form(data.sizes, exponents, 1 - base if known is None else known, known is not None)
    if data.sizes.size <= form.n_parameters:
        raise InvalidInput(
            f"sizes: {data.sizes.size} different ones with scores above the baseline are too few for the "
            f"{form.n_parameters} parameters of {model!r}; measure at {form.n_parameters + 1} or more"
            + ("" if known is not None else ", or give max_accuracy")
        )
    _check_rise(data)

    weights = data.weights()
    theta = form.fit(data.means[np.newaxis] - base, weights)
    limits = form.at_limit(theta[0])
    free = form.free(limits)
    if theta[0, 1] <= 0:
        raise InvalidInput("scores: no increasing curve fits; the rise is all in sizes of little weight")
    gradient = form.gradient(theta[0])[:, free]
    left = data.means - base - form.curve(theta[0])
    noise, degrees = data.noise(weights, left, free.sum())
    # Columns differ by orders of magnitude: without their scale the inverse would lose digits.
    root, size = np.sqrt(weights), np.linalg.norm(gradient, axis=0)
    influence = np.linalg.pinv(root[:, np.newaxis] * gradient / size) * root / size[:, np.newaxis]
    errors = np.zeros(3)
    errors[free] = np.linalg.norm(noise @ influence.T, axis=0)

    rng = np.random.default_rng(seed)
    student = rng.standard_normal((draws, len(noise)))
    student /= np.sqrt(rng.chisquare(degrees, (draws, 1)) / degrees)
    drawn = form.fit(data.means - base + student @ noise, weights)

    mean = np.average(data.means, weights=weights)
    explained = 1 - np.sum(weights * left**2) / np.sum(weights * (data.means - mean) ** 2)
    about = left + data.scores - data.means
    spare = max(int(data.counts.sum() - free.sum()), 1)
    names, values, deviations, samples = _named(model, theta[0], errors, drawn)
    if limits:
        warnings.warn(
            f"accuracy_curve: {' and '.join(limits)} ended at the limit of the range; the scores hardly say "
            "where the curve goes beyond the largest size: give max_accuracy if it is known, or measure "
            "larger sizes",
            MechanismWarning,
            stacklevel=2,
        )
    return AccuracyFit(
        accuracy=_accuracy(model, theta[0]),
        parameters=dict(zip(names, values, strict=True)),
        standard_errors=dict(zip(names, deviations, strict=True)),
        samples=_frozen(samples),
        degrees_of_freedom=degrees,
        residual_sd=math.sqrt(float(np.nansum(about**2)) / spare),
        r_squared=float(explained),
        lack_of_fit=(float(np.sum(weights * left**2) / (left.size - free.sum())) if data.scattered else None),
        at_limit=limits,
        sizes=_frozen(data.sizes),
        means=_frozen(data.means),
        sds=_frozen(np.sqrt(data.variances)),
        counts=data.counts,
        left_out=left_out,
        baseline=base,
    )


def _named(
    model: str, theta: Array, errors: Array, drawn: Array
) -> tuple[tuple[str, ...], list[float], list[float], Array]:
    """Names, values, errors and draws of a model's own parameters, from A, β and α."""
    if model == "power-law":
        return ("max_accuracy", "coefficient", "exponent"), theta.tolist(), errors.tolist(), drawn
    values = [float(theta[0]), float(theta[1] ** 2 / 4)]
    deviations = [float(errors[0]), float(theta[1] / 2 * errors[1])]
    return (
        ("max_accuracy", "difficulty"),
        values,
        deviations,
        np.stack([drawn[:, 0], drawn[:, 1] ** 2 / 4], axis=1),
    )


def _accuracy(model: str, theta: Array) -> PowerLawAccuracy | SqrtAccuracy:
    limit, coefficient, exponent = (float(value) for value in theta)
    if model == "sqrt":
        return SqrtAccuracy(limit, coefficient**2 / 4)
    with warnings.catch_warnings():
        # That the exponent is 1 is said by the warning about limits.
        warnings.simplefilter("ignore", MechanismWarning)
        return PowerLawAccuracy(coefficient, exponent, threshold=1 - limit)


@dataclass(frozen=True)
class _Form:
    """The curves b(m) = A - β m^-α, with A at most ``limit``, or equal to it, and α within ``exponents``."""

    sizes: Array
    exponents: Array
    limit: float
    limit_known: bool

    @property
    def n_parameters(self) -> int:
        return 1 + (not self.limit_known) + (self.exponents.size > 1)

    def fit(self, means: Array, weights: Array) -> Array:
        """Best A, β and α for each row of means, shape (n, 3)."""
        if not len(means):
            return np.empty((0, 3))
        grid = self.exponents
        every = np.repeat(grid, len(means)), np.tile(means, (grid.size, 1))
        best = np.argmin(self._profile(*every, weights)[2].reshape(grid.size, -1), axis=0)
        low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, grid.size - 1)]
        exponent = grid[best]

        def slope(exponent: Array, row: NDArray[np.int64]) -> Array:
            return self._profile(exponent, means[row], weights)[3]

        rows = np.arange(len(means))
        inside = (slope(low, rows) < 0) & (slope(high, rows) > 0)
        if np.any(inside):
            found = elementwise.find_root(slope, (low[inside], high[inside]), args=(rows[inside],))
            exponent[inside] = found.x
        limit, coefficient, _, _ = self._profile(exponent, means, weights)
        return np.stack([limit, coefficient * self._unit**exponent, exponent], axis=1)

    def _profile(self, exponent: Array, means: Array, weights: Array) -> tuple[Array, Array, Array, Array]:
        """Best A and β (sizes in units of ``_unit``) for given exponents; the error and its slope in α."""
        logs = np.log(self.sizes / self._unit)
        falling = np.exp(-exponent[:, np.newaxis] * logs)
        share = weights / weights.sum()
        middle, level = falling @ share, means @ share
        off = falling - middle[:, np.newaxis]
        coefficient = -((means * off) @ share) / (off**2 @ share)
        limit = level + coefficient * middle
        over = np.full(limit.shape, True) if self.limit_known else limit > self.limit
        held = ((self.limit - means) * falling) @ share / (falling**2 @ share)
        limit, coefficient = np.where(over, self.limit, limit), np.where(over, held, coefficient)
        falls = coefficient < 0
        coefficient = np.where(falls, 0.0, coefficient)
        limit = np.where(falls & ~over, level, limit)
        left = means - limit[:, np.newaxis] + coefficient[:, np.newaxis] * falling
        # The optimal A and β do not contribute to the slope.
        slope = -2 * coefficient * ((left * falling * logs) @ share)
        return limit, coefficient, (left**2) @ share, slope

    @property
    def _unit(self) -> float:
        """Geometric mean of the sizes: there A and β are least correlated."""
        return float(np.exp(np.mean(np.log(self.sizes))))

    def curve(self, theta: Array) -> Array:
        """Values at the sizes."""
        values: Array = theta[0] - theta[1] * self.sizes ** -theta[2]
        return values

    def gradient(self, theta: Array) -> Array:
        """Derivatives of the values in A, β and α, shape (n_sizes, 3)."""
        falling = self.sizes ** -theta[2]
        return np.stack([np.ones_like(falling), -falling, theta[1] * falling * np.log(self.sizes)], axis=1)

    def at_limit(self, theta: Array) -> tuple[str, ...]:
        """Names of fitted parameters at the end of their range."""
        limits = []
        if not self.limit_known and theta[0] >= self.limit:
            limits.append("max_accuracy")
        if self.exponents.size > 1 and theta[2] in self.exponents[[0, -1]]:
            limits.append("exponent")
        return tuple(limits)

    def free(self, limits: tuple[str, ...]) -> NDArray[np.bool_]:
        """Which of A, β and α the scores determine."""
        return np.array(
            [
                not self.limit_known and "max_accuracy" not in limits,
                True,
                self.exponents.size > 1 and "exponent" not in limits,
            ]
        )


# ------------------------------------------------------------------------------------------- measurements


@dataclass(frozen=True)
class _Data:
    """Scores by size: a table with a row a repeat, padded with NaN where sizes have fewer scores."""

    sizes: Array
    scores: Array
    means: Array
    variances: Array
    counts: NDArray[np.int64]
    paired: bool
    """Whether a row is one experiment; else the order in a column means nothing."""

    @property
    def scattered(self) -> bool:
        """Whether repeats tell the noise of the means of all sizes."""
        return bool(np.all(self.counts > 1) and np.any(self.variances > 0))

    def moderated(self) -> Array:
        """Variances of single scores, each drawn towards the average of all."""
        own = self.counts - 1
        pooled = np.sum(own * self.variances) / own.sum()
        variances: Array = (own * self.variances + PRIOR * pooled) / (own + PRIOR)
        return variances

    def weights(self) -> Array:
        """Inverse variances of the means, or their proportions if repeats do not tell them."""
        if not self.scattered:
            return self.counts.astype(float)
        return self.counts / self.moderated()

    def noise(self, weights: Array, left: Array, n_parameters: int) -> tuple[Array, int]:
        """Matrix whose Gram matrix is the covariance of the means, and its degrees of freedom."""
        if not self.scattered:
            degrees = int(left.size - n_parameters)
            variance = np.sum(weights * left**2) / degrees
            return np.diag(np.sqrt(variance / weights)), degrees
        if self.paired:
            n = len(self.scores)
            return (self.scores - self.means) / math.sqrt(n * (n - 1)), n - 1
        return np.diag(np.sqrt(self.moderated() / self.counts)), int(np.sum(self.counts - 1))


def _measured(sizes: ArrayLike, scores: ArrayLike, baseline: float) -> tuple[_Data, tuple[float, ...]]:
    """Check the scores and arrange them by size; leave out sizes at which models are useless."""
    m = checks.vector(sizes, "sizes")
    checks.all_finite(m, "sizes")
    if np.any(m <= 0):
        index = int(np.argmax(m <= 0))
        raise InvalidInput(f"sizes[{index}] = {m[index]:g} must be > 0")
    try:
        given = np.array(scores, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"scores must be numbers, got {scores!r}: {error}") from None
    if given.ndim not in (1, 2) or not given.size or given.shape[-1] != m.size:
        raise InvalidInput(
            f"scores has shape {given.shape} for {m.size} sizes; give (n_repeats, {m.size}), or one score "
            "for each entry of sizes"
        )
    wrong = ~((given >= 0) & (given <= 1))
    if np.any(wrong):
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise InvalidInput(
            f"scores[{', '.join(map(str, where))}] = {given[where]} at size {m[where[-1]]:g} must be a "
            "finite fraction in [0, 1]: leave failed runs out, and give accuracies, not errors or percentages"
        )
    distinct, where_from, counts = np.unique(m, return_inverse=True, return_counts=True)
    paired = given.ndim == 2
    if paired:
        if distinct.size < m.size:
            twice = float(distinct[np.argmax(counts > 1)])
            raise InvalidInput(
                f"sizes has {twice:g} more than once; with a table of scores, one column a size"
            )
        table = given[:, np.argsort(m)]
        counts = np.full(distinct.size, len(table))
    else:
        table = np.full((counts.max(), distinct.size), np.nan)
        for column in range(distinct.size):
            table[: counts[column], column] = given[where_from == column]
    means = np.nanmean(table, axis=0)
    spare = np.maximum(counts - 1, 1)
    variances = np.nansum((table - means) ** 2, axis=0) / spare
    # A mean of equal scores may differ from them by its rounding.
    variances[variances < 1e-30] = 0.0
    kept = means > baseline
    if not np.any(kept):
        raise InvalidInput(
            f"scores: none of the mean scores, at best {means.max():.6g}, is above the baseline "
            f"{baseline:g}; the models have learned nothing at these sizes"
        )
    data = _Data(
        distinct[kept], table[:, kept], means[kept], variances[kept], counts[kept].astype(np.int64), paired
    )
    return data, tuple(distinct[~kept].tolist())


def _check_rise(data: _Data) -> None:
    """Refuse scores that do not rise with the logarithm of size."""
    weights = data.weights()
    logs = np.log(data.sizes)
    logs = logs - np.average(logs, weights=weights)
    influence = weights * logs / np.sum(weights * logs**2)
    slope = float(influence @ data.means)
    left = data.means - np.average(data.means, weights=weights) - slope * logs
    noise, _ = data.noise(weights, left, 2)
    error = float(np.linalg.norm(noise @ influence))
    span = float(logs[-1] - logs[0])
    threshold = max(SIGNIFICANT * error, 1e-12 / span)
    if slope <= -threshold:
        raise InvalidInput(
            f"scores: they fall with size, by {-slope * span:.4g} from size {data.sizes[0]:g} to "
            f"{data.sizes[-1]:g}; no increasing curve fits: are they errors, or is the order of sizes wrong?"
        )
    if slope < threshold:
        raise InvalidInput(
            f"scores: they rise by {slope * span:.4g} from size {data.sizes[0]:g} to {data.sizes[-1]:g}, "
            f"which is within the noise ({error * span:.4g}); a flat curve does not determine how accuracy "
            "depends on data: measure smaller sizes, where there is still something to learn, or more repeats"
        )


def _frozen(array: Array) -> Array:
    array = np.array(array)
    array.setflags(write=False)
    return array


# ----------------------------------------------------------------------------------------- learning curves


def learning_curve(
    estimator: Any,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    sizes: Sequence[int] | None = None,
    n_repeats: int = 5,
    test_share: float = 0.25,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Train a scikit-learn classifier on growing sets of data, and score each model.

    Parameters
    ----------
    estimator : scikit-learn estimator
        Is cloned for each model; its ``score`` is what is measured.
    features : array, shape (n_points, n_features)
    labels : array, shape (n_points,)
    sizes : sequence of int, optional
        Data points to train on, increasing; by default eight, from two a class, at least 20, to all.
    n_repeats : int
        Random splits; within one, each training set is part of the next, and the test set is the same.
    test_share : float
        Share of the points that is kept for testing, inside (0, 1).
    seed : int
        Of the splits.

    Returns
    -------
    sizes : array, shape (n_sizes,)
    scores : array, shape (n_repeats, n_sizes)

    Raises
    ------
    NotApplicable
        If scikit-learn is not installed.
    InvalidInput
        If an argument is outside its range, or a training set has points of one class only.
    """
    try:
        from sklearn.base import clone
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise NotApplicable(
            'learning_curve trains models with scikit-learn, which is missing: pip install "mechopt[data]"',
            reason="scikit-learn is not installed",
        ) from error
    repeats = checks.count(n_repeats, "n_repeats")
    share = checks.fraction(test_share, "test_share")
    x, y = np.asarray(features), np.asarray(labels)
    if y.ndim != 1 or x.shape[:1] != y.shape:
        raise InvalidInput(
            f"labels has shape {y.shape} and features {x.shape}; give one label for each point"
        )
    n_classes = np.unique(y).size
    if n_classes < 2:
        raise InvalidInput(f"labels has {n_classes} class; a classifier needs two or more")
    most = y.size - math.ceil(share * y.size)
    if sizes is None:
        least = max(20, 2 * n_classes)
        if most <= 2 * least:
            raise InvalidInput(
                f"{most} points to train on are too few for the default sizes, which start at {least}; "
                "give sizes"
            )
        wanted = [int(m) for m in np.geomspace(least, most, 8).round()]
    else:
        wanted = [checks.count(m, f"sizes[{i}]") for i, m in enumerate(sizes)]
    if not wanted or sorted(set(wanted)) != wanted or wanted[-1] > most:
        raise InvalidInput(f"sizes = {wanted} must be increasing, and at most the {most} points to train on")
    scores = np.empty((repeats, len(wanted)))
    for repeat, child in enumerate(np.random.SeedSequence(seed).spawn(repeats)):
        state = int(child.generate_state(1)[0])
        train, test, train_labels, test_labels = train_test_split(
            x, y, test_size=share, random_state=state, stratify=y
        )
        for column, size in enumerate(wanted):
            if np.unique(train_labels[:size]).size < 2:
                raise InvalidInput(
                    f"sizes[{column}] = {size}: repeat {repeat} drew points of one class only; start larger"
                )
            model = clone(estimator).fit(train[:size], train_labels[:size])
            scores[repeat, column] = model.score(test, test_labels)
    return np.array(wanted, dtype=float), scores
