"""The study: measure a learning curve, design from it, train on what the designs collect."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from mechopt.formulations import figures
from mechopt.studies.calibrate import AccuracyFit
from mechopt.studies.federated.checks import (
    equilibrium_checks,
    formula_checks,
    unverified_checks,
)
from mechopt.studies.federated.design import (
    N_STEPS,
    Design,
    DesignAnswer,
    Draws,
    UnverifiedMenu,
    design_for,
    design_on_draws,
    screen_unverified,
    solve_on_backends,
)
from mechopt.studies.federated.figures import draw_contributions, draw_curve
from mechopt.studies.federated.scenario import FederatedLearning
from mechopt.studies.federated.tables import notes_of, show_tables
from mechopt.studies.learning import (
    Pools,
    Records,
    curve_checks,
    fit_curve,
    interval,
    measure_curve,
    measure_pools,
    pool_checks,
)
from mechopt.studies.run import Check, Progress, agreement_check, write_tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console


BACKENDS = "share of the backends whose data and contributions are those of the exact algorithm"
"""What the check of the backends measures."""

POOLS = {"alone": slice(None, -1), "shaped": slice(-1, None)}
"""Kinds of pools, as they are listed."""


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
    answers : tuple of DesignAnswer
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
    answers: tuple[DesignAnswer, ...]
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
        show_tables(self, console)

    def notes(self) -> list[str]:
        """Sentences that the numbers must not be read without."""
        return notes_of(self)

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
            "backends": [answer.record("total_data") for answer in self.answers],
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
            "backends": [answer.record("total_data") for answer in self.answers],
            "skipped": self.skipped,
            "unverified": None if self.unverified is None else self.unverified.record(),
            "notes": self.notes(),
        }

    def figure(self, kind: Literal["curve", "contributions"]) -> Figure:
        """Draw the learning curve with the pools on it, or what each hospital contributes."""
        return draw_curve(self) if kind == "curve" else draw_contributions(self)


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
    design = design_for(scenario, fit.accuracy, profile)
    unverified = screen_unverified(scenario, fit.accuracy)
    progress("design on draws", 3, N_STEPS)
    draws = design_on_draws(scenario, fit)
    answers, skipped = solve_on_backends(scenario, design, progress)
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
        *equilibrium_checks(design, np.random.default_rng(seeds[5])),
        *formula_checks(design),
        agreement_check("7 backends agree", BACKENDS, answers, scenario.tolerance),
        *pool_checks(pools, POOLS, last="shaped", first=8),
        *(() if unverified is None else unverified_checks(unverified)),
    )
    return FederatedReport(scenario, records, fit, design, draws, answers, skipped, pools, unverified, checks)
