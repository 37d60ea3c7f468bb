r"""Federated learning among hospitals: a measured learning curve, and the mechanism designed from it.

A classifier is trained on growing sets of records, an accuracy function is fitted to its scores, and the
data-maximising mechanism is designed for hospitals to which records cost differently. How well the scores
determine the curve is carried on to the design. Then models are trained on pools of the sizes that each
design collects.

- The bundled scenario has the 569 records of breast tumours that come with scikit-learn: what hospitals would
  share. A logistic regression learns from them along a power law, from 93% right at 20 records to 97.5% at
  300, and its costs put all contributions in that range. Smaller training sets may well have one class only;
  larger ones leave too few records to test on. A naive Bayes classifier has learned all it can by 30 records,
  and its curve is flat. The digits have a steeper curve, and a better determined one, but nobody in a
  hospital to share them.
- Records set aside are seen by no model of the curve. That makes two checks: models from new splits of the
  records that were measured must score what the curve says, which is a sharp test of the curve; and so must
  models on the records set aside, which is a blunter test (they are few) of what it is worth elsewhere.
- Hospitals' records are alike: a pool is worth what its size is worth. The model of a pool is trained in one
  place; federated training that converges arrives at the same model.
- What the curve is depends on the records that it is measured with: other seeds gave exponents from 0.4 to 1,
  which no interval of one curve shows. Pools depend on it less, since they lie among the sizes measured: the
  shaped one had 235 to 290 records.
- Contributions are real numbers, and models are trained on the nearest whole number of records.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, field_validator, model_validator

from mechopt.formulations import figures
from mechopt.formulations.accuracy_shaping import AccuracyShaping, ShapedMechanism, Standalone, closed_form
from mechopt.formulations.accuracy_shaping.cost_screening import CostScreening
from mechopt.formulations.functions import AccuracyFunction, SqrtAccuracy
from mechopt.solvers.errors import (
    InvalidInput,
)
from mechopt.solvers.solution import Solution
from mechopt.studies.calibrate import AccuracyFit
from mechopt.studies.learning import (
    Curve,
    Pools,
    Records,
    Training,
    check_scikit_learn,
    curve_checks,
    drawn_accuracies,
    fit_curve,
    interval,
    measure_curve,
    measure_pools,
    pool_checks,
)
from mechopt.studies.report import print_plain, show_checks, show_skipped
from mechopt.studies.run import Check, Progress, solve_everywhere, write_tables
from mechopt.studies.scenario import SolvedScenario, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

CERTIFIED = 1e-8
"""Regret of an equilibrium (accuracy units)."""

ROUNDING = 1e-12
"""Of sums and differences of accuracies, which are below 1."""

POOLS = {"alone": slice(None, -1), "shaped": slice(-1, None)}
"""Kinds of pools, as they are listed."""

N_PROFILES = 2000
"""Profiles of contributions at which rewards are sampled."""


# ------------------------------------------------------------ the scenario


class Hospital(Table):
    """Who may take part, and what a record costs it (accuracy per record)."""

    name: str = Field(min_length=1)
    marginal_cost: float = Field(gt=0)


class Unverified(Table):
    """Classes of costs that hospitals may claim to have (accuracy per record), and their probabilities."""

    costs: list[float] = Field(min_length=2)
    probs: list[float]

    @model_validator(mode="after")
    def _one_each(self) -> Unverified:
        if len(self.probs) != len(self.costs):
            raise ValueError(f"`probs` has {len(self.probs)} entries for {len(self.costs)} `costs`")
        return self


class FederatedLearning(SolvedScenario):
    """A whole scenario."""

    mechanism: Literal["federated-learning"]
    seed: int = Field(ge=0)
    incentive_margin: float = Field(default=1e-6, gt=0)
    training: Training
    curve: Curve = Curve()
    hospitals: list[Hospital] = Field(min_length=2)
    unverified: Unverified | None = None

    @field_validator("hospitals")
    @classmethod
    def _names_differ(cls, hospitals: list[Hospital]) -> list[Hospital]:
        names = [hospital.name for hospital in hospitals]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise ValueError(f"the name {twice[0]!r} is given more than once")
        return hospitals

    @property
    def marginal_costs(self) -> Array:
        """Cost of a record for each hospital (accuracy per record)."""
        return np.array([hospital.marginal_cost for hospital in self.hospitals])

    def check_ready(self) -> None:
        """Check that scikit-learn is installed."""
        check_scikit_learn("federated-learning")


# ------------------------------------------------------------ designs


@dataclass(frozen=True, eq=False)
class Design:
    """What hospitals do under each arrangement, for one curve.

    Attributes
    ----------
    shaping : AccuracyShaping
    alone : Standalone
    standard : array, shape (n_hospitals,)
        Contributions when everybody gets the model of all records.
    standard_regret : float
    most : Solution
        The most data, in the limit of a vanishing margin, by the exact algorithm.
    mechanism : ShapedMechanism
    profile : array, shape (n_hospitals,)
        Contributions in equilibrium of the mechanism, with its margin.
    """

    shaping: AccuracyShaping
    alone: Standalone
    standard: Array
    standard_regret: float
    most: Solution
    mechanism: ShapedMechanism
    profile: Array

    @property
    def total(self) -> float:
        """Records in the shaped pool."""
        return float(self.profile.sum())


@dataclass(frozen=True, eq=False)
class Draws:
    """Designs for curves that the scores might as well have given.

    Attributes
    ----------
    accuracies : tuple of AccuracyFunction
        The curves that are accuracy functions; of some draws nothing rises.
    n_draws : int
        How many were drawn.
    alone, shaped : array, shape (n, n_hospitals)
    """

    accuracies: tuple[AccuracyFunction, ...]
    n_draws: int
    alone: Array
    shaped: Array

    @cached_property
    def standard(self) -> Array:
        """Records that standard federated learning collects in each draw."""
        return np.asarray(self.alone.max(axis=1))

    @cached_property
    def total(self) -> Array:
        """Records that the shaped mechanism collects in each draw."""
        return np.asarray(self.shaped.sum(axis=1))


def _design(scenario: FederatedLearning, accuracy: AccuracyFunction, profile: ArrayLike | None) -> Design:
    shaping = AccuracyShaping(accuracy, scenario.marginal_costs)
    most = shaping.solve()
    if most.extra["not_viable"]:
        why = most.reason.removeprefix("not_viable: ")
        raise InvalidInput(f"hospitals.marginal_cost: {why}; lower the costs, or let more take part")
    standard = shaping.standard_federated()
    mechanism = shaping.mechanism(scenario.incentive_margin)
    reached = mechanism.find_equilibrium().contribution if profile is None else np.asarray(profile, float)
    if not reached.any():
        raise InvalidInput(
            f"incentive_margin = {scenario.incentive_margin:g} is so large that nobody is worth it: lower it"
        )
    return Design(
        shaping, shaping.standalone(), standard.contribution, standard.regret, most, mechanism, reached
    )


def _redesign(scenario: FederatedLearning, fit: AccuracyFit) -> Draws:
    """Design for each draw of the curve's parameters."""
    accuracies = drawn_accuracies(fit)
    shaping = [AccuracyShaping(accuracy, scenario.marginal_costs) for accuracy in accuracies]
    alone = np.array([each.standalone().contribution for each in shaping])
    return Draws(
        accuracies, len(fit.samples), alone, np.array([each.solve()["contribution"] for each in shaping])
    )


@dataclass(frozen=True, eq=False)
class BackendAnswer:
    """What one backend answered to the declared program.

    Attributes
    ----------
    backend : str
    solution : Solution
    error : float
        Total data below the exact algorithm's, relative.
    contribution_error : float
        Largest difference of a contribution from the exact one, relative to what the best model is worth
        to the hospital in records.
    """

    backend: str
    solution: Solution
    error: float
    contribution_error: float

    def agrees(self, tolerance: float) -> bool:
        """Whether the answer passed its checks and is the exact one."""
        met = abs(self.error) <= tolerance and self.contribution_error <= tolerance
        return self.solution.status.ok and met

    def record(self) -> dict[str, Any]:
        """Plain record for CSV and JSON."""
        s = self.solution
        return {
            "backend": self.backend,
            "version": s.version,
            "status": str(s.status),
            "reason": s.reason,
            "total_data": s.objective,
            "bound": s.bound,
            "worst_residual": max(s.residuals.values(), default=math.nan),
            "relative_error": self.error,
            "contribution_error": self.contribution_error,
            **{f"{phase}_seconds": spent for phase, spent in s.seconds.items()},
        }


def _solve_everywhere(
    scenario: FederatedLearning, design: Design, progress: Progress
) -> tuple[tuple[BackendAnswer, ...], dict[str, str]]:
    """Solve the declared program on every backend that can."""
    shaping, program = design.shaping, design.shaping.program()
    worth = shaping.accuracy.max_accuracy / shaping.marginal_costs
    solutions, skipped = solve_everywhere(
        scenario, program, progress=lambda name, *_: progress(f"solve: {name}", 4, N_STEPS)
    )
    answers = []
    for name, solution in solutions.items():
        error = off = math.nan
        if solution.values:
            error = 1 - solution.objective / design.most.objective
            off = float(np.max(np.abs(solution["contribution"] - design.most["contribution"]) / worth))
        answers.append(BackendAnswer(name, solution, error, off))
    return tuple(answers), skipped


@dataclass(frozen=True, eq=False)
class UnverifiedMenu:
    """The menu for hospitals whose costs nobody can verify.

    Attributes
    ----------
    screening : CostScreening
        With the other hospitals' expected data as ``others_data``.
    menu : Solution
        Of the mean field.
    """

    screening: CostScreening
    menu: Solution

    def record(self) -> list[dict[str, Any]]:
        """Plain records, one a class."""
        return [
            {
                "marginal_cost": cost,
                "probability": self.screening.probs[k],
                "alone": self.screening.standalone_contribution[k],
                "contribution": float(self.menu["contribution"][k]),
                "accuracy_above_baseline": float(self.menu["allocated_accuracy"][k]),
                "rent": float(self.menu["rent"][k]),
            }
            for k, cost in enumerate(self.screening.costs.tolist())
        ]


def _screen(scenario: FederatedLearning, accuracy: AccuracyFunction) -> UnverifiedMenu | None:
    if scenario.unverified is None:
        return None
    classes = scenario.unverified
    try:
        screening = CostScreening(accuracy, np.array(classes.costs), np.array(classes.probs))
    except InvalidInput as error:
        raise InvalidInput(f"unverified: {error}") from None
    menu = screening.mean_field(len(scenario.hospitals))
    return UnverifiedMenu(replace(screening, others_data=float(menu["others_data"])), menu)


# ------------------------------------------------------------ the run

N_STEPS = 8


@dataclass(frozen=True, eq=False)
class FederatedReport:
    """What the study found.

    Attributes
    ----------
    scenario : FederatedLearning
    records : Records
    fit : AccuracyFit
        The curve; its accuracies are above the baseline.
    design : Design
    draws : Draws
    answers : tuple of BackendAnswer
    skipped : dict of str to str
        Backends that were not run, and why.
    pools : Pools
        The hospitals' own, in their order if they are viable, and the shaped one last.
    unverified : UnverifiedMenu or None
    checks : tuple of Check
    """

    scenario: FederatedLearning
    records: Records
    fit: AccuracyFit
    design: Design
    draws: Draws
    answers: tuple[BackendAnswer, ...]
    skipped: dict[str, str]
    pools: Pools
    unverified: UnverifiedMenu | None
    checks: tuple[Check, ...]

    @property
    def agreement(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def show(self, console: Console) -> None:
        """Print tables, checks and what else a reader must know."""
        _show(self, console)

    def notes(self) -> list[str]:
        """Sentences that the numbers must not be read without."""
        return _notes(self)

    def hospitals(self) -> list[dict[str, Any]]:
        """One record a hospital: what it contributes under each arrangement, and what it has from it."""
        design, base = self.design, self.fit.baseline
        ends = {name: interval(getattr(self.draws, name)) for name in ("alone", "shaped")}
        utility = design.mechanism.utility(design.profile)
        reward = design.mechanism.reward(design.profile)
        standard = design.shaping.standard_mechanism().utility(design.standard)
        return [
            {
                "hospital": hospital.name,
                "marginal_cost": hospital.marginal_cost,
                "alone": float(design.alone.contribution[i]),
                "alone_low": float(ends["alone"][0][i]),
                "alone_high": float(ends["alone"][1][i]),
                "standard": float(design.standard[i]),
                "shaped": float(design.profile[i]),
                "shaped_low": float(ends["shaped"][0][i]),
                "shaped_high": float(ends["shaped"][1][i]),
                "accuracy_alone": float(design.shaping.accuracy(design.alone.contribution[i])) + base,
                "accuracy_shaped": float(reward[i]) + base,
                "utility_alone": float(design.alone.utility[i]),
                "utility_standard": float(standard[i]),
                "utility_shaped": float(utility[i]),
            }
            for i, hospital in enumerate(self.scenario.hospitals)
        ]

    def totals(self) -> list[dict[str, Any]]:
        """One record an arrangement: records collected, with the interval that the scores leave."""
        design, draws = self.design, self.draws
        rows = []
        for name, total, drawn in (
            ("alone, all together", float(design.alone.contribution.sum()), draws.alone.sum(axis=1)),
            ("standard", float(design.standard.sum()), draws.standard),
            ("shaped", design.total, draws.total),
        ):
            low, high = interval(drawn)
            rows.append({"arrangement": name, "records": total, "low": float(low), "high": float(high)})
        return rows

    def parameters(self) -> list[dict[str, Any]]:
        """One record a parameter of the curve."""
        low, high = interval(self.fit.samples)
        return [
            {
                "parameter": name,
                "value": value,
                "standard_error": self.fit.standard_errors[name],
                "low": float(low[k]),
                "high": float(high[k]),
            }
            for k, (name, value) in enumerate(self.fit.parameters.items())
        ]

    def write(self, folder: Path) -> list[Path]:
        """Write tables, the full record and figures into a folder."""
        tables = {
            "checks": [check.record() for check in self.checks],
            "hospitals": self.hospitals(),
            "curve": self.fit.to_frame().to_dict("records"),
            "pools": self.pools.record(),
            "backends": [answer.record() for answer in self.answers],
        }
        files = write_tables(folder, tables, self.record())
        files += figures.save(self.figure("curve"), folder, "learning_curve")
        return [*files, *figures.save(self.figure("contributions"), folder, "contributions")]

    def record(self) -> dict[str, Any]:
        """Plain record for JSON."""
        fit = self.fit
        return {
            "title": self.scenario.title,
            "mechanism": self.scenario.mechanism,
            "scenario": self.scenario.model_dump(),
            "libraries": {"scikit-learn": version("scikit-learn")},
            "agreement": self.agreement,
            "checks": [check.record() for check in self.checks],
            "records": {
                "n_curve": self.records.labels.size,
                "n_set_aside": self.records.apart_labels.size,
                "baseline": self.records.baseline,
            },
            "curve": {
                "parameters": self.parameters(),
                "degrees_of_freedom": fit.degrees_of_freedom,
                "residual_sd": fit.residual_sd,
                "r_squared": fit.r_squared,
                "lack_of_fit": fit.lack_of_fit,
                "at_limit": list(fit.at_limit),
                "left_out": list(fit.left_out),
                "scores": fit.to_frame().to_dict("records"),
            },
            "hospitals": self.hospitals(),
            "totals": self.totals(),
            "draws": {"n": self.draws.n_draws, "n_with_design": len(self.draws.accuracies)},
            "pools": self.pools.record(),
            "backends": [answer.record() for answer in self.answers],
            "skipped": self.skipped,
            "unverified": None if self.unverified is None else self.unverified.record(),
            "notes": self.notes(),
        }

    def figure(self, kind: Literal["curve", "contributions"]) -> Figure:
        """Draw the learning curve with the pools on it, or what each hospital contributes."""
        return _figure_curve(self) if kind == "curve" else _figure_contributions(self)


def run_federated(
    scenario: FederatedLearning,
    folder: Path,
    *,
    progress: Progress = lambda *_: None,
    fit: AccuracyFit | None = None,
    profile: ArrayLike | None = None,
) -> FederatedReport:
    """Measure the curve, design from it, carry its uncertainty on, and train on what the designs collect.

    Parameters
    ----------
    scenario : FederatedLearning
    folder : Path
        What the scenario's own paths are relative to; it has none.
    progress : callable
        Called as ``progress(step, number, total)`` before each step.
    fit : AccuracyFit, optional
        A curve to design from, instead of the one that is measured.
    profile : array, shape (n_hospitals,), optional
        Contributions to check, instead of those of the mechanism's equilibrium.

    Returns
    -------
    FederatedReport

    Raises
    ------
    BackendUnavailable
        If scikit-learn is not installed, or a backend asked for by name is not.
    InvalidInput
        If a parameter breaks its rule, the scores determine no curve, or no pool pays for itself.

    References
    ----------
    Karimireddy, Guo and Jordan, https://arxiv.org/abs/2207.04557: eqs. (6), (10) and (13), Theorems 2.3, 3.4,
    4.2 and 4.6.
    """
    scenario.check_ready()
    seeds = [int(seed) for seed in np.random.SeedSequence(scenario.seed).generate_state(6)]
    progress("measure the curve", 0, N_STEPS)
    records = scenario.training.load(seeds[0])
    if fit is None:
        scores = measure_curve(scenario.training, records, scenario.training.sizes, seeds[1])
        progress("fit the curve", 1, N_STEPS)
        fit = fit_curve(scenario.training, scenario.curve, records, scores, seeds[2])
    progress("design", 2, N_STEPS)
    design = _design(scenario, fit.accuracy, profile)
    unverified = _screen(scenario, fit.accuracy)
    progress("design on draws", 3, N_STEPS)
    draws = _redesign(scenario, fit)
    answers, skipped = _solve_everywhere(scenario, design, progress)
    wanted = {
        f"{hospital.name}, alone": float(amount)
        for hospital, amount in zip(scenario.hospitals, design.alone.contribution, strict=True)
        if amount > 0
    }
    wanted["all, shaped"] = design.total
    steps = iter((5, 6))
    pools = measure_pools(
        scenario.training,
        records,
        fit,
        draws.accuracies,
        wanted,
        (seeds[3], seeds[4]),
        lambda name: progress(name, next(steps), N_STEPS),
    )
    progress("checks", 7, N_STEPS)
    checks = (
        *curve_checks(fit, draws.accuracies),
        *_equilibrium_checks(design, np.random.default_rng(seeds[5])),
        *_formula_checks(design),
        *_backend_checks(scenario, answers),
        *pool_checks(pools, POOLS, last="shaped", first=8),
        *(() if unverified is None else _unverified_checks(unverified)),
    )
    return FederatedReport(scenario, records, fit, design, draws, answers, skipped, pools, unverified, checks)


# ------------------------------------------------------------ checks


def _equilibrium_checks(design: Design, rng: np.random.Generator) -> list[Check]:
    shaping, mechanism, profile = design.shaping, design.mechanism, design.profile
    margin, costs = mechanism.incentive_margin, shaping.marginal_costs
    alone, most = design.alone, design.most
    roots = shaping.equilibria(margin)
    root = roots[-1].contribution
    # By how much the margin lowers the pool, to first order: the pool is convex in the margin.
    rate = float(np.sum(1 / costs)) * float(shaping.accuracy.concave_part_derivative(most.objective))
    lost = margin * float(np.sum((most["contribution"] - alone.contribution) / costs)) / (1 - rate)
    promised = alone.utility + margin * (profile - alone.contribution)
    fall = float(np.max(alone.contribution - profile))
    sampled = _sample_profiles(design, rng)
    reward = mechanism.reward(sampled)
    pool = shaping.accuracy(sampled.sum(axis=1, keepdims=True))
    best = float(alone.contribution.max())
    return [
        Check(
            "2 regret",
            "the most that a hospital gains by another contribution (accuracy)",
            mechanism.regret(profile),
            0.0,
            CERTIFIED,
            "what counts as an equilibrium",
        ),
        Check(
            "2 regret, by trying",
            "the same, contributions tried on a grid and refined",
            mechanism.regret(profile, "grid"),
            0.0,
            CERTIFIED,
            "the same",
        ),
        Check(
            "2 root of the pool",
            "largest difference from the root of the pool's equation, relative to the pool",
            float(np.max(np.abs(profile - root))) / design.total,
            0.0,
            1e-9,
            "best responses stop moving at 1e-13 of their limits",
        ),
        Check(
            "2 most data",
            "records in the pool, against the most that any mechanism collects",
            design.total,
            most.objective,
            lost * (1 + 1e-6) + 1e-9 * most.objective,
            "what the margin costs, and rounding",
        ),
        Check(
            "3 individual rationality",
            f"worst shortfall of a reward from what own records are worth alone, {len(sampled)} profiles",
            max(0.0, float(np.max(shaping.accuracy(sampled) - reward))),
            0.0,
            ROUNDING,
            "rounding",
        ),
        Check(
            "3 feasible rewards",
            f"worst excess of a reward over the accuracy of the pool, {len(sampled)} profiles",
            max(0.0, float(np.max(reward - pool))),
            0.0,
            ROUNDING,
            "rounding",
        ),
        Check(
            "4 utility as alone",
            "largest difference from the utility alone and the margin on what is given beyond (Theorem 4.6)",
            float(np.max(np.abs(mechanism.utility(profile) - promised))),
            0.0,
            1e-10,
            "best responses stop moving at 1e-13 of their limits",
        ),
        Check(
            "4 no less than alone",
            "most that a hospital, or all together, contribute less than alone (records)",
            max(0.0, fall, float(alone.contribution.sum()) - design.total),
            0.0,
            1e-9 * design.total,
            "rounding, relative to the pool",
        ),
        Check(
            "5 free-riding",
            "records that standard federated learning collects, against the most of any hospital alone",
            float(design.standard.sum()),
            best,
            1e-9 * max(best, 1.0),
            "Theorem 3.4; rounding",
        ),
        Check(
            "5 regret, standard",
            "the most that a hospital gains there by another contribution (accuracy)",
            design.standard_regret,
            0.0,
            CERTIFIED,
            "what counts as an equilibrium",
        ),
    ]


def _sample_profiles(design: Design, rng: np.random.Generator) -> Array:
    """Contributions of all magnitudes, some of them none; the profiles of the design with one changed."""
    limit, n = design.mechanism.contribution_limit, design.profile.size
    anywhere = limit * 10 ** rng.uniform(-4, 0, (N_PROFILES, n)) * (rng.random((N_PROFILES, n)) < 0.8)
    known = np.array(
        [np.zeros(n), design.alone.contribution, design.standard, design.profile, design.most["contribution"]]
    )
    near = known[rng.integers(len(known), size=N_PROFILES)]
    changed = rng.integers(n, size=N_PROFILES)
    near[np.arange(N_PROFILES), changed] = anywhere[np.arange(N_PROFILES), changed]
    return np.concatenate([anywhere, near, known])


def _formula_checks(design: Design) -> list[Check]:
    """What closed forms there are."""
    accuracy, costs = design.shaping.accuracy, design.shaping.marginal_costs
    by_formula, _ = closed_form.standalone(accuracy, costs)
    checks = [
        Check(
            "6 formula, alone",
            "largest difference of a hospital's records alone from (a b / c)^(1 / (1 + a)), relative",
            float(np.max(np.abs(design.alone.contribution - by_formula) / np.maximum(by_formula, 1.0))),
            0.0,
            1e-9,
            "rounding",
        )
    ]
    if isinstance(accuracy, SqrtAccuracy):
        form = design.shaping.closed_form()
        checks.append(
            Check(
                "6 formula, pool",
                "the most data, against the cosine of Example 4.5 for any costs (records)",
                design.most.objective,
                form.total_data,
                1e-9 * form.total_data,
                "rounding",
            )
        )
    return checks


def _backend_checks(scenario: FederatedLearning, answers: tuple[BackendAnswer, ...]) -> list[Check]:
    return [
        Check(
            "7 backends agree",
            "share of the backends whose data and contributions are those of the exact algorithm",
            sum(answer.agrees(scenario.tolerance) for answer in answers) / len(answers) if answers else 0.0,
            1.0,
            0.0,
            f"each to {scenario.tolerance:g}",
        )
    ]


def _unverified_checks(unverified: UnverifiedMenu) -> list[Check]:
    screening, menu = unverified.screening, unverified.menu
    audit = screening.audit(menu)
    checks = [
        Check(
            "10 unverified, audit",
            "the most that a class gains by another's contract, or by staying out (accuracy)",
            max(audit.ic_violation, audit.ir_violation),
            0.0,
            1e-9,
            "rounding",
        )
    ]
    if screening.n_types == 2:
        form = screening.closed_form()
        checks.append(
            Check(
                "10 unverified, formula",
                "expected records of a hospital, against Theorem B.1, corrected, with the same others_data",
                menu.objective,
                form.objective,
                1e-7 * max(form.objective, 1.0),
                "the mean field is found by a root, to 1e-10 or so",
            )
        )
    return checks


# ------------------------------------------------------------ the terminal


def _show(report: FederatedReport, console: Console) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table as Grid

    def grid(*columns: str, rows: Iterable[Iterable[str]]) -> None:
        table = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for index, column in enumerate(columns):
            table.add_column(
                column,
                justify="right" if index else "left",
                no_wrap=bool(index) or column == "backend",
                overflow="fold",
            )
        for row in rows:
            table.add_row(*row)
        console.print(table)
        console.print()

    def span(row: dict[str, Any], form: str, name: str = "") -> str:
        low, high = row[f"{name}low"], row[f"{name}high"]
        return f"{low:{form}} to {high:{form}}"

    console.print(report.scenario.title, style="bold", markup=False, highlight=False)
    fit, tolerance = report.fit, report.scenario.tolerance
    grid(
        "curve",
        "value",
        "std. error",
        "95% of draws",
        rows=[
            (
                row["parameter"],
                f"{row['value']:.4g}",
                f"{row['standard_error']:.2g}",
                f"{row['low']:.3g} to {row['high']:.3g}",
            )
            for row in report.parameters()
        ],
    )
    grid(
        "hospital",
        "per 1000",
        "alone",
        "standard",
        "shaped",
        "95% of draws",
        "accuracy",
        rows=[
            (
                escape(row["hospital"]),
                f"{1000 * row['marginal_cost']:.3g}",
                f"{row['alone']:.1f}",
                f"{row['standard']:.1f}",
                f"{row['shaped']:.1f}",
                span(row, ".1f", "shaped_"),
                f"{row['accuracy_alone']:.3f}, {row['accuracy_shaped']:.3f}",
            )
            for row in report.hospitals()
        ],
    )
    grid(
        "arrangement",
        "records",
        "95% of draws",
        rows=[(row["arrangement"], f"{row['records']:.1f}", span(row, ".1f")) for row in report.totals()],
    )
    pools = report.pools
    grid(
        "pool",
        "trained on",
        "curve",
        "new splits",
        "set aside",
        rows=[
            (
                escape(name),
                str(pools.trained[k]),
                f"{pools.curve[k]:.4f} ±{pools.curve_sd[k]:.4f}",
                f"{pools.fresh[k]:.4f} ±{pools.fresh_sd[k]:.4f}",
                f"{pools.apart[k]:.4f} ±{pools.apart_sd[k]:.4f}",
            )
            for k, name in enumerate(pools.names)
        ],
    )
    if report.unverified is not None:
        grid(
            "unverified, per 1000",
            "share",
            "alone",
            "asked",
            "accuracy",
            "rent",
            rows=[
                (
                    f"{1000 * row['marginal_cost']:.3g}",
                    f"{row['probability']:.3g}",
                    f"{row['alone']:.1f}",
                    f"{row['contribution']:.1f}",
                    f"{row['accuracy_above_baseline'] + fit.baseline:.4f}",
                    f"{row['rent']:.4f}",
                )
                for row in report.unverified.record()
            ],
        )
    grid(
        "backend",
        "status",
        "records",
        "total",
        "each",
        "compile",
        "solve",
        rows=[
            (
                answer.backend,
                f"[{'green' if answer.agrees(tolerance) else 'red'}]{answer.solution.status}[/]",
                f"{answer.solution.objective:.8g}",
                f"{answer.error:.0e}",
                f"{answer.contribution_error:.0e}",
                *(f"{answer.solution.seconds.get(phase, math.nan):.3f} s" for phase in ("compile", "solve")),
            )
            for answer in report.answers
        ],
    )
    print_plain(
        console,
        "per 1000: cost of 1000 records, in accuracy. accuracy: alone, and of the model that it gets. total, "
        "each: errors of all records, and of a hospital's relative to what the best model is worth to it.",
        "dim",
    )
    for answer in report.answers:
        if not answer.agrees(tolerance):
            why = "" if answer.solution.status.ok else answer.solution.reason
            print_plain(console, f"{answer.backend}: {why or 'is not the exact answer'}", "yellow")
    show_skipped(console, report.skipped)
    show_checks(report.checks, console)
    for note in report.notes():
        print_plain(console, note, "dim")


def _notes(report: FederatedReport) -> list[str]:
    training, records, fit, pools = report.scenario.training, report.records, report.fit, report.pools
    notes = [
        f"data: {training.dataset}, {records.labels.size} records for the curve and "
        f"{records.apart_labels.size} set aside; {training.classifier}, {training.n_repeats} repeats. A "
        f"model that has learned nothing is right in {fit.baseline:.1%}; what counts as accuracy is above "
        "that, and costs are in its units.",
        "intervals carry the noise of splits and training on to the designs. All splits are of the same "
        "records: how these differ from other patients' shows in the records set aside alone. Other records "
        "give other curves than the intervals say, exponents above all: try other seeds.",
    ]
    if fit.at_limit:
        notes.append(
            f"the curve's {' and '.join(fit.at_limit)} ended at the limit of the range, where the scores "
            "hardly say how it goes on."
        )
    spare = report.draws.n_draws - len(report.draws.accuracies)
    if spare:
        notes.append(f"{spare} of {report.draws.n_draws} draws of the curve do not rise, and were left out.")
    outside = [
        f"{name} ({wanted:.1f})"
        for name, wanted in zip(pools.names, pools.wanted, strict=True)
        if not fit.sizes[0] - 0.5 <= wanted <= fit.sizes[-1] + 0.5
    ]
    if outside:
        notes.append(
            f"beyond the measured {fit.sizes[0]:g} to {fit.sizes[-1]:g} records, where the curve is a guess: "
            f"{', '.join(outside)}."
        )
    for name, wanted, trained in zip(pools.names, pools.wanted, pools.trained, strict=True):
        if abs(wanted - trained) > 0.5:
            notes.append(
                f"{name}: {wanted:.1f} records, models trained on {trained}, of the {fit.sizes[0]:g} to "
                f"{records.most} that there are to train on."
            )
    if report.unverified is not None:
        menu = report.unverified.menu
        n = len(report.scenario.hospitals)
        notes.append(
            f"with unverified costs {n} hospitals give {n * menu.objective:.1f} records in expectation, each "
            f"of them besides {float(menu['others_data']):.1f} of the others; promises hold on average, not "
            "for every draw of classes."
        )
    return notes


# ------------------------------------------------------------ figures


def _figure_curve(report: FederatedReport) -> Figure:
    fit, pools, draws = report.fit, report.pools, report.draws
    figure, (axes,) = figures.new_figure(width="page", height=3.0)
    totals = {row["arrangement"]: row for row in report.totals()}
    right = max(1.6 * fit.sizes[-1], 1.2 * report.design.total)
    m = np.geomspace(fit.sizes[0] / 1.6, right, 300)
    curves = np.array([accuracy(m) for accuracy in draws.accuracies]) + fit.baseline
    axes.set_xscale("log")
    figures.plain_log_axis(axes)
    blue, sky = figures.COLOURS["blue"], figures.COLOURS["sky"]
    axes.fill_between(m, *interval(curves), color=sky, alpha=0.35, linewidth=0, label="95% of draws")
    axes.plot(m, fit.accuracy(m) + fit.baseline, color=blue, linewidth=figures.LINE, label="curve")
    axes.errorbar(
        fit.sizes,
        fit.means,
        fit.sds / np.sqrt(fit.counts),
        fmt="o",
        color="black",
        markersize=figures.MARKER - 0.5,
        elinewidth=0.8,
        label="measured (standard error)",
    )
    for values, errors, shape, colour, moved, text in (
        (pools.fresh, pools.fresh_sd, "s", "green", 1.015, "pools, new splits"),
        (pools.apart, pools.apart_sd, "D", "purple", 1 / 1.015, "pools, records set aside"),
    ):
        axes.errorbar(
            pools.trained * moved,
            values,
            errors,
            fmt=shape,
            color=figures.COLOURS[colour],
            markersize=figures.MARKER,
            elinewidth=0.8,
            label=text,
        )
    floor = min(curves.min(), float(np.min(pools.apart - pools.apart_sd)), float(fit.means.min()))
    top = max(float(np.max(pools.apart + pools.apart_sd)), curves.max(), float(fit.means.max()))
    height = top - floor
    axes.set_ylim(floor - 0.28 * height, top + 0.03 * height)
    axes.set_xlim(m[0], m[-1])
    # Below the curve, what each arrangement collects, with its interval.
    rows = (
        ("alone", report.design.alone.contribution, "vermilion", None),
        ("standard", np.array([totals["standard"]["records"]]), "orange", totals["standard"]),
        ("shaped", np.array([totals["shaped"]["records"]]), "blue", totals["shaped"]),
    )
    for row, (name, amounts, colour, span) in enumerate(rows):
        y = floor - (0.06 + 0.075 * row) * height
        shown = amounts[amounts > 0]
        if span is not None:
            ends = [span["low"], span["high"]]
            axes.plot(ends, [y, y], color=figures.COLOURS[colour], linewidth=2.5, alpha=0.4)
        axes.plot(shown, 0 * shown + y, "v", color=figures.COLOURS[colour], markersize=figures.MARKER + 1)
        axes.text(0.01, y, name, transform=axes.get_yaxis_transform(), fontsize=figures.SMALL, va="center")
    axes.axhline(floor - 0.02 * height, color=figures.GREY, linewidth=0.5)
    axes.set_yticks([tick for tick in axes.get_yticks() if floor <= tick <= top + 0.03 * height])
    figures.label(axes, "records in the pool", "share classified rightly")
    figures.legend(axes, loc="lower right", bbox_to_anchor=(1.0, 0.22))
    return figure


def _figure_contributions(report: FederatedReport) -> Figure:
    figure, (axes,) = figures.new_figure(width="page", height=2.6)
    rows = report.hospitals()
    place = np.arange(len(rows), dtype=float)
    arrangements = (("alone", "vermilion"), ("standard", "orange"), ("shaped", "blue"))
    for offset, (name, colour) in zip((-0.27, 0.0, 0.27), arrangements, strict=True):
        values = np.array([row[name] for row in rows])
        axes.bar(place + offset, values, 0.25, color=figures.COLOURS[colour], label=name)
        for x in (place + offset)[values == 0]:
            axes.annotate(
                "0", (x, 0), (0, 2), textcoords="offset points", ha="center", fontsize=figures.SMALL
            )
        if name != "standard":
            low, high = (np.array([row[f"{name}_{end}"] for row in rows]) for end in ("low", "high"))
            # The design need not lie between the ends, which are quantiles of draws.
            bars = np.maximum([values - low, high - values], 0.0)
            axes.errorbar(place + offset, values, bars, fmt="none", color="black", elinewidth=0.8, capsize=2)
    names = [f"{row['hospital']}\n({1000 * row['marginal_cost']:.3g} per 1000)" for row in rows]
    axes.set_xticks(place, names, fontsize=figures.SMALL)
    axes.grid(False, axis="x")
    figures.label(axes, "hospital (cost in accuracy)", "contribution (records)")
    figures.legend(axes, title="bars: 95% of draws", title_fontsize=figures.SMALL)
    return figure
