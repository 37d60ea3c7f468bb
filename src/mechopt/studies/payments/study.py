"""The study: estimate from samples of different privacy, and pay for them fairly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mechopt.formulations import figures
from mechopt.formulations.fair_value.federated import FederatedMeanEstimation
from mechopt.formulations.fair_value.shapley import FairValue
from mechopt.solvers.errors import InvalidInput
from mechopt.studies.payments.checks import HoldOut, leave_samples_out, record_checks, value_checks
from mechopt.studies.payments.figures import draw_payments
from mechopt.studies.payments.scenario import LEVEL_NAMES, MOST_USERS, FairPayments, Panel
from mechopt.studies.payments.tables import notes_of, show_tables
from mechopt.studies.run import (
    BackendAnswer,
    Check,
    Progress,
    agreement_check,
    solve_everywhere,
    write_tables,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

BACKENDS = "share of the backends' estimators whose error is that of Proposition 5"
"""What the check of the backends measures."""

N_STEPS = 6


@dataclass(frozen=True, eq=False)
class PaymentsReport:
    """What the study found.

    Attributes
    ----------
    scenario : FairPayments
    panel : Panel
        All users of the records.
    users : array of int
        Those taken, as places in the panel.
    estimation : FederatedMeanEstimation
    values : array, shape (n_users,)
        Fair values times ``payment_share`` (utility).
    hold_out : HoldOut
    answers : tuple of BackendAnswer
    skipped : dict of str to str
        Backends that were not run, and why.
    checks : tuple of Check
    """

    scenario: FairPayments
    panel: Panel
    users: Ints
    estimation: FederatedMeanEstimation
    values: Array
    hold_out: HoldOut
    answers: tuple[BackendAnswer, ...]
    skipped: dict[str, str]
    checks: tuple[Check, ...]

    @property
    def agreement(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def payments(self) -> Array:
        """What each user is paid (money)."""
        return self.scenario.money_per_utility * self.values

    def table(self) -> list[dict[str, Any]]:
        """One record a user."""
        emse = self.estimation.emse()
        return [
            {
                "user": self.panel.names[place],
                "samples": int(self.panel.counts[place]),
                "mean": float(self.panel.means[place]),
                "level": LEVEL_NAMES[int(self.estimation.levels[i])],
                "rmse_alone": math.sqrt(self.panel.within / self.panel.counts[place]),
                "rmse": math.sqrt(float(emse[i])),
                "fair_value": float(self.values[i]),
                "payment": float(self.payments[i]),
            }
            for i, place in enumerate(self.users.tolist())
        ]

    def show(self, console: Console) -> None:
        """Print tables, checks and what else a reader must know, on 80 columns."""
        show_tables(self, console)

    def notes(self) -> list[str]:
        """Sentences that the numbers must not be read without."""
        return notes_of(self)

    def write(self, folder: Path) -> list[Path]:
        """Write tables, the full record and the figure into a folder."""
        tables = {
            "checks": [check.record() for check in self.checks],
            "payments": self.table(),
            "backends": [answer.record("emse") for answer in self.answers],
        }
        files = write_tables(folder, tables, self.record())
        return [*files, *figures.save(self.figure(), folder, "payments")]

    def record(self) -> dict[str, Any]:
        """Plain record for JSON."""
        dataset = self.scenario.records.dataset
        return {
            "title": self.scenario.title,
            "mechanism": self.scenario.mechanism,
            "scenario": self.scenario.model_dump(),
            "libraries": {} if dataset is None else {"linearmodels": version("linearmodels")},
            "agreement": self.agreement,
            "checks": [check.record() for check in self.checks],
            "users_of_the_records": len(self.panel.names),
            "between_user_variance": self.panel.between,
            "within_user_variance": self.panel.within,
            "utility": self.estimation.utility(),
            "payments": self.table(),
            "hold_out": {
                "expected": dict(self.hold_out.expected),
                "measured": dict(self.hold_out.measured),
                "standard_error": dict(self.hold_out.error),
            },
            "backends": [answer.record("emse") for answer in self.answers],
            "skipped": self.skipped,
            "notes": self.notes(),
        }

    def figure(self) -> Figure:
        """Draw what each user is paid, most samples first within a level."""
        return draw_payments(self)


def run_fair_payments(
    scenario: FairPayments, folder: Path, *, progress: Progress = lambda *_: None
) -> PaymentsReport:
    """Estimate how samples vary, value what users share, check it, and go back to the records.

    Parameters
    ----------
    scenario : FairPayments
    folder : Path
        What the scenario's own paths are relative to.
    progress : callable
        Called as ``progress(step, number, total)`` before each step.

    Returns
    -------
    PaymentsReport

    Raises
    ------
    BackendUnavailable
        If a package or a backend asked for by name is not installed.
    InvalidInput
        If a parameter breaks its rule, or users do not differ by more than their samples do.

    References
    ----------
    "The Fair Value of Data Under Heterogeneous Privacy Constraints in Federated Learning", Theorem 2,
    Proposition 5 and eqs. (12), (17).
    """
    scenario.check_ready()
    rngs = [np.random.default_rng(seed) for seed in np.random.SeedSequence(scenario.seed).spawn(3)]
    progress("read the records", 0, N_STEPS)
    panel = Panel.of(scenario.records.load(folder))
    n = scenario.levels.total
    if n > len(panel.names):
        raise InvalidInput(
            f"levels: {n} users, and the records are of {len(panel.names)} with two samples or more"
        )
    if not panel.between > 0:
        raise InvalidInput(
            f"records: users' means differ by no more than samples of one user do (variance between users "
            f"{panel.between:.3g}); there is nothing to learn about one user that is not learnt from all"
        )
    users = np.sort(rngs[0].choice(len(panel.names), n, replace=False))
    levels = rngs[1].permutation(
        np.repeat([0, 1, 2], [scenario.levels.private, scenario.levels.federated, scenario.levels.direct])
    )
    estimation = FederatedMeanEstimation(levels, panel.counts[users].astype(int), panel.between, panel.within)
    progress("fair values", 1, N_STEPS)
    values = estimation.fair_value(payment_share=scenario.payment_share)
    progress("coalitions one by one", 2, N_STEPS)
    again = _value_again(estimation, scenario.payment_share)
    answers, skipped = _solve_everywhere(scenario, panel, users, estimation, progress)
    progress("back to the records", 4, N_STEPS)
    hold_out = leave_samples_out(panel, levels, rngs[2])
    progress("checks", 5, N_STEPS)
    checks = (
        *record_checks(panel, hold_out),
        *value_checks(scenario, estimation, values, again),
        agreement_check("5 backends agree", BACKENDS, answers, scenario.tolerance),
    )
    return PaymentsReport(scenario, panel, users, estimation, values, hold_out, answers, skipped, checks)


def _value_again(estimation: FederatedMeanEstimation, payment_share: float) -> Array | None:
    """Fair values from the utilities of all coalitions, one by one; None if there are too many."""
    sharing = np.flatnonzero(estimation.levels > 0)
    if sharing.size > MOST_USERS:
        return None
    table = np.array(
        [
            estimation.utility(sharing[[bool(mask >> bit & 1) for bit in range(sharing.size)]].tolist())
            for mask in range(2**sharing.size)
        ]
    )
    values = np.zeros(estimation.n_users)
    division = FairValue(table, n_users=int(sharing.size), payment_share=payment_share).solve("subsets")
    values[sharing] = division.user_values
    return values


def _solve_everywhere(
    scenario: FairPayments, panel: Panel, users: Ints, estimation: FederatedMeanEstimation, progress: Progress
) -> tuple[tuple[BackendAnswer, ...], dict[str, str]]:
    """Solve the programs of one user of each level on every backend that can."""
    answers, skipped = list[BackendAnswer](), dict[str, str]()
    for level in np.unique(estimation.levels):
        user = int(np.argmax(estimation.levels == level))
        emse = float(estimation.emse(user))
        solutions, skipped = solve_everywhere(
            scenario,
            estimation.program(user),
            progress=lambda name, *_: progress(f"solve: {name}", 3, N_STEPS),
        )
        for name, solution in solutions.items():
            error = solution.objective / emse - 1 if solution.values else math.nan
            answers.append(BackendAnswer(name, solution, error, part=panel.names[users[user]]))
    return tuple(answers), skipped
