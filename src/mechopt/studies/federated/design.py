"""What hospitals do under each arrangement, for the measured curve and for draws of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechopt.formulations.accuracy_shaping import AccuracyShaping, ShapedMechanism, Standalone
from mechopt.formulations.accuracy_shaping.cost_screening import CostScreening
from mechopt.formulations.functions import AccuracyFunction
from mechopt.solvers.errors import (
    InvalidInput,
)
from mechopt.solvers.solution import Solution
from mechopt.studies.calibrate import AccuracyFit
from mechopt.studies.federated.scenario import FederatedLearning
from mechopt.studies.learning import (
    drawn_accuracies,
)
from mechopt.studies.run import BackendAnswer, Progress, solve_everywhere

Array = NDArray[np.float64]


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


def design_for(scenario: FederatedLearning, accuracy: AccuracyFunction, profile: ArrayLike | None) -> Design:
    """Design for one curve; ``profile`` replaces the equilibrium that would be found."""
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


def design_on_draws(scenario: FederatedLearning, fit: AccuracyFit) -> Draws:
    """Design for each draw of the curve's parameters."""
    accuracies = drawn_accuracies(fit)
    shaping = [AccuracyShaping(accuracy, scenario.marginal_costs) for accuracy in accuracies]
    alone = np.array([each.standalone().contribution for each in shaping])
    return Draws(
        accuracies, len(fit.samples), alone, np.array([each.solve()["contribution"] for each in shaping])
    )


@dataclass(frozen=True, eq=False)
class DesignAnswer(BackendAnswer):
    """What one backend answered to the declared program: total data, and each contribution.

    Attributes
    ----------
    contribution_error : float
        Largest difference of a contribution from the exact one, relative to what the best model is worth
        to the hospital in records.
    """

    contribution_error: float = math.nan

    def agrees(self, tolerance: float) -> bool:
        """Whether the answer passed its checks and is the exact one, in every contribution."""
        return super().agrees(tolerance) and self.contribution_error <= tolerance

    def record(self, objective: str) -> dict[str, Any]:
        """Plain record for CSV and JSON."""
        residual = max(self.solution.residuals.values(), default=math.nan)
        mine = {"worst_residual": residual, "contribution_error": self.contribution_error}
        return super().record(objective) | mine


def solve_on_backends(
    scenario: FederatedLearning, design: Design, progress: Progress
) -> tuple[tuple[DesignAnswer, ...], dict[str, str]]:
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
        answers.append(DesignAnswer(name, solution, error, contribution_error=off))
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


def screen_unverified(scenario: FederatedLearning, accuracy: AccuracyFunction) -> UnverifiedMenu | None:
    """Design the menu for costs that nobody can verify, if the scenario asks for one."""
    if scenario.unverified is None:
        return None
    classes = scenario.unverified
    try:
        screening = CostScreening(accuracy, np.array(classes.costs), np.array(classes.probs))
    except InvalidInput as error:
        raise InvalidInput(f"unverified: {error}") from None
    menu = screening.mean_field(len(scenario.hospitals))
    return UnverifiedMenu(replace(screening, others_data=float(menu["others_data"])), menu)


N_STEPS = 8
