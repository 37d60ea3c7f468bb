"""Algorithm 1 on real records: a demander buys private means, and every step is held to the theory.

Publish the menu, let holders choose, add noise, share, pay. Records come from a data set of scikit-learn,
scaled to [0, 1] by public bounds; the noise and its privacy accounting come from OpenDP.

- The records are a population: each holder's are drawn from it *with replacement*, since contracts may ask
  for more records than the data set has. Sampling then adds exactly variance / q to the error of a mean of q.
- A holder's privacy level is its own and is not verified. That holders add the noise of the level by which
  they chose is assumed; the paper's contracts do not enforce it (moral hazard).
- Contracts ask for real numbers of records, and holders deliver whole ones. Choices and payments are those of
  the menu as published; what rounding does to incentives is measured beside it.
- The seed fixes types and records. OpenDP draws its noise from the operating system and takes no seed, so the
  checks of noise differ from run to run; at five standard errors one run in some 100 000 fails by chance.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy import stats

from mechopt.formulations import figures, menus
from mechopt.formulations.screening import ContinuousContract, ScreeningContract
from mechopt.formulations.screening.simulation import (
    Release,
    Rounding,
    Simulation,
    choose,
    laplace_log_ratio,
    laplace_scale,
    round_menu,
    simulate,
    whole_records,
)
from mechopt.solvers.errors import BackendUnavailable, InvalidInput
from mechopt.studies.report import print_plain, show_checks
from mechopt.studies.run import Check, Progress, plain, write_csv
from mechopt.studies.scenario import BaseScenario, Gain, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

Array = NDArray[np.float64]
Build = Callable[[int, float], Release]
"""Makes the release of a number of records at a privacy level."""

LIBRARIES = {"opendp": "opendp", "sklearn": "scikit-learn"}

MOST_RECORDS = 100_000
"""Records of one contract; more would take minutes, and say nothing new."""

ACCOUNTING = 1e-9
"""Relative: OpenDP adds to the privacy loss what rounding in a sum of `MOST_RECORDS` numbers could reveal."""

N_OUTSIDERS = 1000


# ------------------------------------------------------------ the scenario


class Levels(Table):
    """Privacy levels (nats) with a Beta(a, b) distribution on [lo, hi], in cells of equal width."""

    lo: float
    hi: float
    count: int = Field(ge=1, le=1000)
    a: Annotated[float, Field(gt=0)] = 1.0
    b: Annotated[float, Field(gt=0)] = 1.0


class PrivateMeanParameters(Table):
    """The market: who the holders are, and what data are worth to the demander."""

    types: Levels
    gain: Gain
    unit_cost: float = 1.0

    def build(self) -> ContinuousContract:
        """Make the contract for the continuum of types."""
        levels = self.types
        width = levels.hi - levels.lo
        if not width > 0:
            raise InvalidInput(f"parameters.types: lo = {levels.lo:g} must be below hi = {levels.hi:g}")
        return ContinuousContract(
            stats.beta(levels.a, levels.b, loc=levels.lo, scale=width),
            levels.lo,
            levels.hi,
            gain=self.gain.build(),
            unit_cost=self.unit_cost,
        )


class Records(Table):
    """One column of a data set of scikit-learn, with bounds that are public whatever the records are."""

    dataset: Literal["diabetes", "breast-cancer"]
    column: str
    bounds: list[float] = Field(min_length=2, max_length=2)

    @model_validator(mode="after")
    def _in_order(self) -> Records:
        if not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"`bounds` must increase, got {self.bounds}")
        return self

    def load(self) -> Population:
        """Read the column and scale it to [0, 1]; values beyond the bounds are moved to them."""
        from sklearn import datasets

        if self.dataset == "diabetes":
            source = datasets.load_diabetes(scaled=False)
        else:
            source = datasets.load_breast_cancer()
        names = [str(name) for name in source.feature_names]
        if self.column not in names:
            raise InvalidInput(
                f"data.column: {self.dataset} has no {self.column!r}; it has {', '.join(names)}"
            )
        values = np.asarray(source.data[:, names.index(self.column)], dtype=np.float64)
        low, high = self.bounds
        scaled = (values - low) / (high - low)
        clipped = int(np.sum((scaled < 0) | (scaled > 1)))
        return Population(np.clip(scaled, 0.0, 1.0), clipped)


class PrivateMean(BaseScenario):
    """A whole scenario."""

    mechanism: Literal["private-mean"]
    seed: int = Field(ge=0)
    n_holders: int = Field(ge=100, le=1_000_000)
    n_continuous: int = Field(default=200_000, ge=100, le=10_000_000)
    parameters: PrivateMeanParameters
    data: Records

    def check_ready(self) -> None:
        """Check that OpenDP and scikit-learn are installed."""
        missing = [name for module, name in LIBRARIES.items() if importlib.util.find_spec(module) is None]
        if missing:
            raise BackendUnavailable(
                f"mechanism 'private-mean' needs {' and '.join(missing)}, not installed here: "
                'pip install "mechopt[privacy]"'
            )


# ------------------------------------------------------------ data and noise


@dataclass(frozen=True, eq=False)
class Population:
    """Records that holders' records are drawn from.

    Attributes
    ----------
    records : array, shape (n_records,)
        In [0, 1].
    n_clipped : int
        How many lay beyond the public bounds.
    """

    records: Array
    n_clipped: int

    @cached_property
    def mean(self) -> float:
        """What the demander wants to know."""
        return float(self.records.mean())

    @cached_property
    def moments(self) -> tuple[float, float]:
        """Second and fourth central moments."""
        centred = self.records - self.mean
        return float(np.mean(centred**2)), float(np.mean(centred**4))


class OpenDPMean:
    """Mean of records in [0, 1] with OpenDP's Laplace noise.

    The noise is the least for which OpenDP accounts a loss of at most ``eps``, rounding errors included: of
    scale 1 / (n_records * eps), and less than 1e-9 of that more up to 100 000 records. Making one turns on
    OpenDP's ``contrib`` features, which it wants to be asked for.

    Parameters
    ----------
    n_records : int
        Number of records, known to all, >= 1.
    eps : float
        Privacy level (nats), > 0, for data sets that differ in one record.
    """

    def __init__(self, n_records: int, eps: float) -> None:
        import opendp.prelude as dp

        dp.enable_features("contrib")
        domain = dp.vector_domain(dp.atom_domain(bounds=(0.0, 1.0), nan=False), size=n_records)
        mean = dp.t.make_metric_unbounded(domain, dp.change_one_distance()) >> dp.t.then_mean()
        self.scale = float(mean.map(1)) / eps
        while True:
            self._measurement = mean >> dp.m.then_laplace(scale=self.scale)
            self.loss = float(self._measurement.map(1))
            if self.loss <= eps:
                break
            self.scale *= 1 + 1e-15

    def __call__(self, records: Array) -> float:
        """Return the mean of the records with noise."""
        return float(self._measurement(records.tolist()))


@dataclass(frozen=True, eq=False)
class Releases:
    """What holders with a contract released; arrays have one entry for each of them.

    Attributes
    ----------
    holder : array of int
        Their places among the simulated holders.
    noise : array
        Release less the mean of the holder's own records.
    error : array
        Release less the mean of the population.
    scale : array
        Scale of Laplace noise that the theory asks for.
    size : array
        Number of records in the mean.
    accounts : dict
        By type that released: the loss that is accounted for, and the largest log density ratio on
        neighbouring data sets (nats).
    """

    holder: NDArray[np.intp]
    noise: Array
    error: Array
    scale: Array
    size: Array
    accounts: dict[int, tuple[float, float]]


def _release(
    contract: ScreeningContract,
    found: Simulation,
    records: NDArray[np.int64],
    population: Population,
    rng: np.random.Generator,
    build: Build,
    progress: Callable[[int], None],
) -> Releases:
    """Add noise and share, type by type."""
    kind = np.searchsorted(contract.types, found.eps)
    delivers = np.append(records, 0)[found.choice] > 0
    noise, error = np.zeros(found.n_holders), np.zeros(found.n_holders)
    scale, size = np.ones(found.n_holders), np.ones(found.n_holders)
    accounts: dict[int, tuple[float, float]] = {}
    for k, eps in enumerate(contract.types.tolist()):
        progress(k)
        # Who chose another contract than the one meant for it delivers what that one asks for.
        taken = np.unique(found.choice[(kind == k) & delivers])
        for j in taken.tolist():
            n_records = int(records[j])
            release = build(n_records, eps)
            for holder in np.flatnonzero((kind == k) & (found.choice == j)).tolist():
                own = rng.choice(population.records, size=n_records)
                told = release(own)
                noise[holder], error[holder] = told - own.mean(), told - population.mean
                scale[holder], size[holder] = laplace_scale(n_records, eps), n_records
            loss, ratio = accounts.get(k, (0.0, 0.0))
            largest = _largest_log_ratio(release, population, n_records)
            accounts[k] = max(loss, release.loss), max(ratio, largest)
    holders = np.flatnonzero(delivers)
    return Releases(holders, noise[holders], error[holders], scale[holders], size[holders], accounts)


def _largest_log_ratio(release: Release, population: Population, n_records: int) -> float:
    """Exact log density ratio on the worst neighbours: a record of 0 against a record of 1."""
    records = np.resize(population.records, n_records)
    neighbour = records.copy()
    records[0], neighbour[0] = 0.0, 1.0
    means = records.mean() + np.linspace(-3, 3, 13) / n_records
    values = np.concatenate([[-1.0], means, [2.0]])
    return float(np.abs(laplace_log_ratio(values, records, neighbour, release.scale)).max())


# ------------------------------------------------------------ the run


@dataclass(frozen=True, eq=False)
class PrivateMeanReport:
    """What the study found.

    Attributes
    ----------
    scenario : PrivateMean
    contract : ScreeningContract
        The market, on its grid of types.
    menu : mapping
        The published menu.
    population : Population
    found : Simulation
        What the holders chose and got.
    releases : Releases
    rounding : Rounding
        What whole records do to the menu.
    value : float
        The optimum's expected utility per holder.
    checks : tuple of Check
    types : tuple of dict
        One record a type, as in ``holders.csv``.
    """

    scenario: PrivateMean
    contract: ScreeningContract
    menu: Any
    population: Population
    found: Simulation
    releases: Releases
    rounding: Rounding
    value: float
    checks: tuple[Check, ...]
    types: tuple[dict[str, Any], ...]

    @property
    def agreement(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def show(self, console: Console) -> None:
        """Print the checks and what else a reader must know."""
        console.print(self.scenario.title, style="bold", markup=False, highlight=False)
        show_checks(self.checks, console)
        for note in self.notes():
            print_plain(console, note, "dim")

    def notes(self) -> list[str]:
        """Sentences that the numbers must not be read without."""
        data, records, rounding = self.scenario.data, self.rounding.records, self.rounding
        return [
            f"data: {data.column} of {data.dataset}, {self.population.records.size} records scaled to [0, 1] "
            f"by the public bounds {data.bounds[0]:g} and {data.bounds[1]:g} ({self.population.n_clipped} "
            f"beyond them); each holder's {records[records > 0].min()} to {records.max()} records are drawn "
            "with replacement.",
            f"whole records: with payments as published a type gains up to {rounding.ic_violation:.3g} by "
            f"taking another's contract and loses up to {rounding.ir_violation:.3g} by taking part; payments "
            f"made for whole records restore both, and are worth {rounding.objective:.8g} a holder to the "
            f"demander instead of {self.value:.8g}.",
            "privacy levels are the holders' own and not verified: the menu makes them choose truthfully; it "
            "cannot make them add the noise that they promised.",
        ]

    def write(self, folder: Path) -> list[Path]:
        """Write checks, types, the full record and the figure into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / "checks.csv", folder / "holders.csv", folder / "result.json"]
        write_csv(files[0], [check.record() for check in self.checks])
        write_csv(files[1], self.types)
        record = json.dumps(plain(self.record()), indent=2, allow_nan=False)
        files[2].write_text(record + "\n", encoding="utf-8")
        return [*files, *figures.save(self.figure(), folder, "utility_against_privacy")]

    def record(self) -> dict[str, Any]:
        """Plain record for JSON."""
        return {
            "title": self.scenario.title,
            "mechanism": self.scenario.mechanism,
            "scenario": self.scenario.model_dump(),
            "libraries": {name: version(name) for name in LIBRARIES.values()},
            "agreement": self.agreement,
            "checks": [check.record() for check in self.checks],
            "value": self.value,
            "mean_utility": self.found.mean_utility,
            "standard_error": self.found.standard_error,
            "population": {
                "n_records": self.population.records.size,
                "n_clipped": self.population.n_clipped,
                "mean": self.population.mean,
                "variance": self.population.moments[0],
            },
            "whole_records": dict(vars(self.rounding)),
            "types": list(self.types),
            "notes": self.notes(),
        }

    def figure(self) -> Figure:
        """Draw utility against privacy: what holders get, what the demander gets, and how accurate it is."""
        return _figure(self)


def run_private_mean(
    scenario: PrivateMean,
    folder: Path,
    *,
    progress: Progress = lambda *_: None,
    menu: Any = None,
    build: Build = OpenDPMean,
) -> PrivateMeanReport:
    """Publish a menu, let holders choose, add noise, share and be paid, and check it all.

    Parameters
    ----------
    scenario : PrivateMean
    folder : Path
        What the scenario's own paths are relative to; it has none.
    progress : callable
        Called as ``progress(step, number, total)`` before each step.
    menu : mapping with ``quantity`` and ``payment``, each of shape (n_types,), optional
        What to publish instead of the optimal menu.
    build : callable
        ``build(n_records, eps)`` makes the private release; by default OpenDP's.

    Returns
    -------
    PrivateMeanReport

    Raises
    ------
    BackendUnavailable
        If OpenDP or scikit-learn is not installed.
    InvalidInput
        If a parameter breaks its rule, or nobody trades under the parameters.

    References
    ----------
    Contract paper, Algorithm 1.
    """
    scenario.check_ready()
    n_steps = scenario.parameters.types.count + 3
    progress("publish", 0, n_steps)
    continuous = scenario.parameters.build()
    contract = continuous.discretize(scenario.parameters.types.count)
    population = scenario.data.load()
    menu = contract.solve() if menu is None else menu
    rounding = round_menu(contract, menu)
    if not rounding.records.any():
        raise InvalidInput("nobody trades under these parameters: raise parameters.gain or lower unit_cost")
    if rounding.records.max() > MOST_RECORDS:
        raise InvalidInput(
            f"a contract asks for {rounding.records.max()} records, more than {MOST_RECORDS}: raise "
            "parameters.types.lo, or lower the weight of the gain"
        )
    rng = np.random.default_rng(scenario.seed)
    progress("choose", 1, n_steps)
    found = simulate(contract, menu, scenario.n_holders, rng)
    releases = _release(
        contract,
        found,
        rounding.records,
        population,
        rng,
        build,
        lambda k: progress(f"add noise, share: type {k + 1}", 2 + k, n_steps),
    )
    progress("pay, check", n_steps - 1, n_steps)
    form = contract.closed_form()
    best = contract.solve()
    value = form.objective if form.valid else best.objective
    # The rents of theorem 3 come from quantities alone, and not from what was paid.
    quantity = form.quantity if form.valid else best["quantity"]
    rent = menus.rents(contract.types, quantity, contract.unit_cost)
    checks = (
        *_choice_checks(contract, menu, found, value, rent, rng),
        *_privacy_checks(contract, releases),
        *_noise_checks(contract, found, releases, population),
        *_continuous_checks(scenario, continuous, contract, menu, rng),
        *_rounding_checks(contract, rounding),
    )
    types = tuple(_type_records(contract, menu, found, releases, rounding, population, quantity, rent))
    return PrivateMeanReport(
        scenario, contract, menu, population, found, releases, rounding, value, checks, types
    )


# ------------------------------------------------------------ checks


def _choice_checks(
    contract: ScreeningContract,
    menu: Any,
    found: Simulation,
    value: float,
    rent: Array,
    rng: np.random.Generator,
) -> list[Check]:
    money = contract.scales()[1]
    kind = np.searchsorted(contract.types, found.eps)
    served = contract.types[whole_records(menu["quantity"]) > 0]
    # Margin: a holder just above the last type served loses less than what counts as a tie.
    outsiders = served[-1] * rng.uniform(1.001, 1.5, N_OUTSIDERS)
    stays_out = np.concatenate(
        [choose(menu, outsiders, contract.unit_cost) < 0, found.took_null[found.eps > served[-1]]]
    )
    return [
        Check(
            "1 truthful choice",
            "share of holders who take the contract of their type",
            found.truthful_share,
            1.0,
            0.0,
            "incentive compatibility; ties go to the larger quantity",
        ),
        Check(
            "2 realised rent",
            "largest difference of a holder's rent from theorem 3's (utility)",
            float(np.abs(found.rent - rent[kind]).max()),
            0.0,
            1e-12 * money,
            "rounding, 1e-12 of the first best's gain",
        ),
        Check(
            "3 demander's utility",
            "mean per holder (utility)",
            found.mean_utility,
            value,
            4 * found.standard_error,
            "4 standard errors",
        ),
        Check(
            "4 null contract",
            f"share of {stays_out.size} holders above the last type served who take no contract",
            float(stays_out.mean()),
            1.0,
            0.0,
            "individual rationality binds at the last type served",
        ),
    ]


def _privacy_checks(contract: ScreeningContract, releases: Releases) -> list[Check]:
    def farthest(column: int) -> float:
        ratios = [account[column] / contract.types[k] for k, account in releases.accounts.items()]
        return max(ratios, key=lambda ratio: abs(ratio - 1), default=np.nan)

    return [
        Check(
            "5 density ratio",
            "largest log density ratio on neighbouring data over the privacy level, farthest type",
            farthest(1),
            1.0,
            ACCOUNTING,
            "noise is enlarged by what rounding in the sum could reveal",
        ),
        Check(
            "5 OpenDP's accounting",
            "privacy loss that OpenDP accounts for over the privacy level, farthest type",
            farthest(0),
            1.0,
            ACCOUNTING,
            "the same",
        ),
    ]


def _noise_checks(
    contract: ScreeningContract, found: Simulation, releases: Releases, population: Population
) -> list[Check]:
    n = releases.holder.size
    noise_variance = 2 * releases.scale**2
    variance = noise_variance + population.moments[0] / releases.size
    kind = np.searchsorted(contract.types, found.eps[releases.holder])
    return [
        Check(
            "6 error of noise",
            "mean square of the noise over 2 / (q eps)^2, all releases",
            float(np.mean(releases.noise**2 / noise_variance)),
            1.0,
            5 * np.sqrt(5 / n),
            "5 standard errors",
        ),
        Check(
            "6 scale of noise",
            "mean absolute noise over 1 / (q eps), farthest of all types and all together (normal deviate)",
            _farthest_deviate(np.abs(releases.noise) / releases.scale, kind),
            0.0,
            5.0,
            "5 standard deviations of its gamma distribution",
        ),
        Check(
            "6 error of release",
            "mean square error of the release over 2 / (q eps)^2 + variance / q",
            float(np.mean(releases.error**2 / variance)),
            1.0,
            5 * float(np.sqrt(np.sum(_relative_variance(releases, population)))) / n,
            "5 standard errors",
        ),
    ]


def _farthest_deviate(sizes: Array, kind: NDArray[np.intp]) -> float:
    """Largest normal deviate of sums of exponential variables, which have gamma distributions."""
    deviates = []
    for own in [sizes, *(sizes[kind == k] for k in np.unique(kind))]:
        law, total = stats.gamma(own.size), own.sum()
        # Each tail from its own side: the other one rounds to 1.
        deviates.append(max(stats.norm.isf(law.sf(total)), stats.norm.isf(law.cdf(total))))
    return float(np.max(deviates, initial=0.0))


def _relative_variance(releases: Releases, population: Population) -> Array:
    """Variance of each squared error over its expectation, from fourth moments."""
    second, fourth = population.moments
    size, noise = releases.size, 2 * releases.scale**2
    sampling = second / size
    sampled = (fourth + 3 * (size - 1) * second**2) / size**3
    moment = 6 * noise**2 + 6 * noise * sampling + sampled
    return np.asarray(moment / (noise + sampling) ** 2 - 1)


def _continuous_checks(
    scenario: PrivateMean,
    continuous: ContinuousContract,
    contract: ScreeningContract,
    menu: Any,
    rng: np.random.Generator,
) -> list[Check]:
    """Let holders between the types choose, on this grid and on the paper's."""
    law = continuous.dist
    paper = continuous.discretize(contract.n_types, "paper")
    found = {}
    checks = []
    on_grid = paper.solve()
    for name, market, published in (("", contract, menu), (", paper's grid", paper, on_grid)):
        found[name] = simulate(
            market,
            published,
            scenario.n_continuous,
            rng,
            draw=lambda rng, n: law.rvs(size=n, random_state=rng),
        )
        checks.append(
            Check(
                f"7 between types{name}",
                "the demander's mean utility per holder whose type is not on the grid (utility)",
                found[name].mean_utility,
                continuous.realised_value(published),
                4 * found[name].standard_error + 1e-9 * contract.scales()[1],
                "4 standard errors, and rounding where all holders are shut out",
            )
        )
    on_paper, quantity = found[", paper's grid"], np.append(on_grid["quantity"], 0.0)
    shut_out = float(law.sf(paper.types[quantity[:-1] > 0][-1]))
    checks += [
        Check(
            "7 shut out, paper's grid",
            "share of holders above the last type, who take no contract",
            float(on_paper.took_null.mean()),
            shut_out,
            4 * np.sqrt(shut_out * (1 - shut_out) / scenario.n_continuous),
            "4 standard errors",
        ),
        Check(
            "7 first contract, same",
            "share of holders who take the paper's first contract",
            float(np.mean(on_paper.quantity > quantity[1] * (1 + 1e-9))),
            0.0,
            0.0,
            "every other type is above the first, and prefers the second contract",
        ),
    ]
    return checks


def _rounding_checks(contract: ScreeningContract, rounding: Rounding) -> list[Check]:
    repaired = contract.audit({"quantity": rounding.records, "payment": rounding.payment})
    return [
        Check(
            "8 whole records",
            "the most that a type gains by deviating if records are rounded and payments are not (utility)",
            max(rounding.ic_violation, rounding.ir_violation),
            0.0,
            rounding.ic_bound,
            "a type's cost of both contracts' rounding errors",
        ),
        Check(
            "8 paid as whole",
            "the same with payments made for whole records (utility)",
            max(repaired.ic_violation, repaired.ir_violation),
            0.0,
            1e-12 * contract.scales()[1],
            "rounding, 1e-12 of the first best's gain",
        ),
    ]


def _type_records(
    contract: ScreeningContract,
    menu: Any,
    found: Simulation,
    releases: Releases,
    rounding: Rounding,
    population: Population,
    quantity: Array,
    rent: Array,
) -> list[dict[str, Any]]:
    """One record a type: theory beside what its holders did."""
    kind = np.searchsorted(contract.types, found.eps)
    released = kind[releases.holder]
    payment = rent + contract.unit_cost * contract.types * quantity
    utility = np.asarray(contract.gain(contract.types * quantity)) - payment
    rows = []
    for k, eps in enumerate(contract.types.tolist()):
        holders, own = kind == k, released == k
        n_records = int(rounding.records[k])
        noise = 2 * laplace_scale(n_records, eps) ** 2 if n_records else np.nan
        sampling = population.moments[0] / n_records if n_records else np.nan
        loss, ratio = releases.accounts.get(k, (np.nan, np.nan))
        rows.append(
            {
                "type": eps,
                "probability": contract.probs[k],
                "holders": int(holders.sum()),
                "truthful_share": _mean(found.truthful[holders]),
                "null_share": _mean(found.took_null[holders]),
                "quantity": float(menu["quantity"][k]),
                "records": n_records,
                "payment": _mean(found.payment[holders]),
                "payment_theory": payment[k],
                "rent": _mean(found.rent[holders]),
                "rent_theory": rent[k],
                "demander_utility": _mean(found.utility[holders]),
                "demander_utility_theory": utility[k],
                "noise_mse": _mean(releases.noise[own] ** 2),
                "noise_mse_theory": noise,
                "release_mse": _mean(releases.error[own] ** 2),
                "release_mse_theory": noise + sampling,
                "opendp_loss": loss,
                "log_density_ratio": ratio,
            }
        )
    return rows


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else np.nan


# ------------------------------------------------------------ the figure


def _figure(report: PrivateMeanReport) -> Figure:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure, panels = figures.new_figure(3, width="page", height=2.5)
    rows = report.types
    column = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}
    eps, level = column["type"], r"privacy level $\varepsilon$ (nats)"
    theory: dict[str, Any] = {"color": figures.GREY, "linewidth": figures.LINE, "zorder": 1}
    mark: dict[str, Any] = {"linestyle": "none", "markersize": figures.MARKER - 0.5}

    holders, demander, accuracy = panels
    shown = (
        (holders, "payment", "vermilion", "s", r"payment $\gamma$"),
        (holders, "rent", "blue", "o", "rent $u$"),
        (demander, "demander_utility", "green", "D", "by type"),
    )
    for axes, name, colour, shape, label in shown:
        axes.plot(eps, column[name], shape, color=figures.COLOURS[colour], label=label, **mark)
        line = None if name == "payment" else "theory"
        axes.plot(eps, column[f"{name}_theory"], label=line, **theory)
    demander.axhline(report.value, color="black", linestyle=":", linewidth=figures.LINE, label="mean, theory")
    figures.label(holders, level, "to a holder (utility)", title="holders")
    figures.label(demander, level, "ex post, per holder (utility)", title="demander")

    for name, colour, shape, label, style, moved in (
        ("release_mse", "purple", "^", "release", "-", 1.015),
        ("noise_mse", "black", "v", "its noise alone", "--", 1 / 1.015),
    ):
        values, expected = 1e4 * column[name], 1e4 * column[f"{name}_theory"]
        line = "theory" if name == "release_mse" else r"$2 / (q \varepsilon)^2$"
        accuracy.plot(eps, expected, style, label=line, **theory)
        # Squares of Laplace noise have a variance of five times their squared mean.
        bar = expected * np.sqrt(5 / np.maximum(column["holders"], 1))
        accuracy.errorbar(
            eps * moved,
            values,
            bar,
            fmt=shape,
            color=figures.COLOURS[colour],
            label=label,
            elinewidth=0.6,
            **mark,
        )
    accuracy.set_xscale("log")
    accuracy.set_yscale("log")
    for axis, low, high in (
        (accuracy.xaxis, *accuracy.get_xlim()),
        (accuracy.yaxis, *accuracy.get_ylim()),
    ):
        # Over few decades powers of ten alone leave an axis nearly without numbers.
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high <= 300 * low else (1.0,)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    figures.label(accuracy, level, "mean square error\n($10^{-4}$ of the squared range)", title="accuracy")
    for axes in panels:
        figures.legend(axes)
    return figure
