"""What users are owed for data of different levels of privacy: real samples, grouped by user.

Each user wants to estimate its own mean. Some share their samples directly, some in an average over all who
federate, some not at all. How users differ, and how samples of one user do, is estimated from the records of
all users; the estimators follow, the utility of what is shared, and the fair value of each user's data.

- The bundled scenario has the wages of men in the years in which they worked full time, which come with the
  package linearmodels: private data, several samples a user, not the same number for each.
- Users who share less are paid less for the same data: that is what the payments are about.
- A check goes back to the records: in groups of users drawn at random each user's estimate, made without one
  of its samples, is compared with that sample. Its mean square error must be what the formulas say.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mechopt.formulations import figures
from mechopt.formulations.fair_value.federated import FederatedMeanEstimation
from mechopt.formulations.fair_value.shapley import FairValue
from mechopt.solvers.errors import BackendUnavailable, InvalidInput
from mechopt.studies.report import print_plain, show_checks, show_grid, show_others
from mechopt.studies.run import (
    BackendAnswer,
    Check,
    Progress,
    agreement_check,
    solve_everywhere,
    write_tables,
)
from mechopt.studies.scenario import SolvedScenario, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

Array = NDArray[np.float64]
Ints = NDArray[np.intp]

LEVEL_NAMES = ("private", "federated", "direct")

EXACT = 1e-9
"""What numbers that two algorithms compute may differ by, relative."""

ERRORS = 4.0
"""Standard errors that a measured mean may be away from its expectation: one in 16 000 is, by chance."""

N_GROUPS = 300
"""Groups of users drawn for the check on the records."""

MOST_USERS = 18
"""Users whose coalitions are all valued one by one, as a second road."""

FULL_TIME = 1800
"""Hours a year from which a worker of the wage panel counts as working full time."""

BACKENDS = "share of the backends' estimators whose error is that of Proposition 5"
"""What the check of the backends measures."""

N_STEPS = 6


class RecordsTable(Table):
    """Where samples come from: a data set that a package ships, or a CSV file relative to the scenario."""

    dataset: Literal["wage-panel"] | None = None
    file: str | None = None
    user: str = "user"
    value: str = "value"
    n_users: int | None = Field(default=None, ge=2, le=200)

    @model_validator(mode="after")
    def _one_source(self) -> RecordsTable:
        if (self.dataset is None) == (self.file is None):
            raise ValueError("give either `dataset` or `file`, and not both")
        return self

    def load(self, folder: Path) -> pd.Series:
        """Read samples, a float for each, under their users' names."""
        if self.dataset is not None:
            return _wages()
        path = folder / str(self.file)
        try:
            frame = pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"records.file: cannot read {path}: {error}") from None
        for column in (self.user, self.value):
            if column not in frame.columns:
                raise InvalidInput(
                    f"records.file: {path.name} has no column {column!r}, only {', '.join(map(str, frame))}"
                )
        values = pd.to_numeric(frame[self.value], errors="coerce")
        broken = ~np.isfinite(values.to_numpy(dtype=float))
        if broken.any():
            line = int(np.argmax(broken))
            raise InvalidInput(
                f"records.file: {path.name}, data row {line + 1}: {self.value} = "
                f"{frame[self.value].iloc[line]!r} must be a finite number"
            )
        return pd.Series(values.to_numpy(dtype=float), index=frame[self.user].astype(str))


def _wages() -> pd.Series:
    from linearmodels.datasets import wage_panel

    frame = wage_panel.load()
    frame = frame[frame.hours >= FULL_TIME]
    above = frame.lwage - frame.groupby("year").lwage.transform("mean")
    return pd.Series(above.to_numpy(dtype=float), index=frame.nr.astype(int).astype(str))


class Levels(Table):
    """Users at each level of privacy."""

    private: int = Field(default=0, ge=0)
    federated: int = Field(default=0, ge=0)
    direct: int = Field(default=0, ge=0)

    @property
    def total(self) -> int:
        """Users in all."""
        return self.private + self.federated + self.direct


class FairPayments(SolvedScenario):
    """A whole scenario."""

    mechanism: Literal["fair-value"]
    seed: int = Field(ge=0)
    payment_share: float = Field(default=1.0, ge=0, le=1)
    money_per_utility: float = Field(default=1.0, gt=0)
    records: RecordsTable
    levels: Levels

    @model_validator(mode="after")
    def _levels_for_all(self) -> FairPayments:
        wanted, given = self.records.n_users, self.levels.total
        if given < 2:
            raise ValueError(f"`levels` are of {given} users; give at least 2")
        if self.levels.federated + self.levels.direct == 0:
            raise ValueError("`levels`: nobody shares; let some be federated or direct")
        if wanted is not None and wanted != given:
            raise ValueError(f"`levels` are of {given} users, and `records.n_users` is {wanted}")
        return self

    def check_ready(self) -> None:
        """Check that the package is installed that ships the data set."""
        if self.records.dataset is not None and importlib.util.find_spec("linearmodels") is None:
            raise BackendUnavailable(
                "mechanism 'fair-value' with dataset 'wage-panel' needs linearmodels, not installed here: "
                'pip install "mechopt[data]"'
            )


@dataclass(frozen=True, eq=False)
class Panel:
    """Samples by user, and how they vary.

    Attributes
    ----------
    names : tuple of str
        Users with at least two samples.
    samples : tuple of array
    """

    names: tuple[str, ...]
    samples: tuple[Array, ...]

    @classmethod
    def of(cls, values: pd.Series) -> Panel:
        """Group samples by user; those of one sample tell nothing of how samples vary, and are left out."""
        grouped = {str(name): part.to_numpy() for name, part in values.groupby(level=0, sort=True)}
        kept = {name: part for name, part in grouped.items() if part.size >= 2}
        if len(kept) < 3:
            raise InvalidInput(
                f"records: {len(kept)} users have two samples or more; there must be at least 3"
            )
        return cls(tuple(kept), tuple(kept.values()))

    @cached_property
    def counts(self) -> Array:
        """Samples of each user."""
        return np.array([part.size for part in self.samples], dtype=float)

    @cached_property
    def means(self) -> Array:
        """Mean of each user."""
        return np.array([part.mean() for part in self.samples])

    @cached_property
    def within(self) -> float:
        """t², the variance of a user's samples, pooled over users."""
        squares = sum(float(((part - part.mean()) ** 2).sum()) for part in self.samples)
        return squares / float(self.counts.sum() - self.counts.size)

    @cached_property
    def between(self) -> float:
        """s², the variance of users' means, by the analysis of variance of groups of different size."""
        n, total = self.counts, float(self.counts.sum())
        grand = float(n @ self.means) / total
        typical = (total - float(n @ n) / total) / (n.size - 1)
        spread = float(n @ (self.means - grand) ** 2) / (n.size - 1)
        return (spread - self.within) / typical

    def between_by_pairs(self) -> tuple[float, float]:
        """Return s² from the squares of users' means, each user counted once, and its standard error.

        The error is that of a mean of independent users.
        """
        noise = self.within / self.counts
        n = self.means.size
        each = (self.means - self.means.mean()) ** 2 * n / (n - 1) - noise
        return float(each.mean()), float(each.std(ddof=1) / math.sqrt(n))


@dataclass(frozen=True, eq=False)
class HoldOut:
    """Squared errors of users' estimates, as expected and as measured, in groups drawn from the records.

    Attributes
    ----------
    expected, measured : dict of str to float
        Mean square error by level of privacy (squared units of the samples).
    error : dict of str to float
        Standard error of the difference.
    """

    expected: Mapping[str, float]
    measured: Mapping[str, float]
    error: Mapping[str, float]


def _hold_out(panel: Panel, levels: Ints, rng: np.random.Generator) -> HoldOut:
    """Compare estimates with samples that they were made without, each group's levels drawn anew."""
    n = levels.size
    differences = {level: list[float]() for level in LEVEL_NAMES}
    squares = {level: list[tuple[float, float]]() for level in LEVEL_NAMES}
    for _ in range(N_GROUPS):
        chosen = rng.choice(len(panel.names), n, replace=False)
        drawn = rng.permutation(levels)
        shuffled = [rng.permutation(panel.samples[user]) for user in chosen]
        estimation = FederatedMeanEstimation(
            drawn, np.array([part.size - 1 for part in shuffled], dtype=float), panel.between, panel.within
        )
        means = np.array([part[1:].mean() for part in shuffled])
        emse = estimation.emse()
        found = {level: list[tuple[float, float]]() for level in LEVEL_NAMES}
        for user in range(n):
            weights = estimation.weights(user)
            assert weights is not None  # somebody shares
            error = float(weights.per_user @ means) - float(shuffled[user][0])
            found[LEVEL_NAMES[drawn[user]]].append((float(emse[user]) + panel.within, error**2))
        for level, pairs in found.items():
            if pairs:
                squares[level] += pairs
                differences[level].append(float(np.mean([have - want for want, have in pairs])))
    told = [level for level in LEVEL_NAMES if differences[level]]
    return HoldOut(
        {level: float(np.mean([want for want, _ in squares[level]])) for level in told},
        {level: float(np.mean([have for _, have in squares[level]])) for level in told},
        {
            level: float(np.std(differences[level], ddof=1) / math.sqrt(len(differences[level])))
            for level in told
        },
    )


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
        _show(self, console)

    def notes(self) -> list[str]:
        """Sentences that the numbers must not be read without."""
        return _notes(self)

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
        return _figure(self)


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
    hold_out = _hold_out(panel, levels, rngs[2])
    progress("checks", 5, N_STEPS)
    checks = (
        *_record_checks(panel, hold_out),
        *_value_checks(scenario, estimation, values, again),
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


# ------------------------------------------------------------ checks


def _record_checks(panel: Panel, hold_out: HoldOut) -> list[Check]:
    by_pairs, error = panel.between_by_pairs()
    checks = [
        Check(
            "1 variance of users",
            "variance between users, against that of their means with each user counted once",
            panel.between,
            by_pairs,
            ERRORS * error,
            f"{ERRORS:g} standard errors",
        )
    ]
    for level, expected in hold_out.expected.items():
        checks.append(
            Check(
                f"2 error, {level}",
                f"mean square error of estimates against samples left out of them, {N_GROUPS} groups",
                hold_out.measured[level],
                expected,
                ERRORS * hold_out.error[level],
                f"{ERRORS:g} standard errors",
            )
        )
    return checks


def _value_checks(
    scenario: FairPayments, estimation: FederatedMeanEstimation, values: Array, again: Array | None
) -> list[Check]:
    utility = estimation.utility()
    scale = max(abs(utility), float(np.max(np.abs(values))))
    kinds: dict[tuple[int, float], list[float]] = {}
    for level, samples, value in zip(
        estimation.levels.tolist(), estimation.num_samples.tolist(), values.tolist(), strict=True
    ):
        kinds.setdefault((level, samples), []).append(value)
    checks = [
        Check(
            "3 all is paid out",
            "sum of fair values, against the share of the utility",
            float(values.sum()),
            scenario.payment_share * utility,
            EXACT * scale,
            "rounding",
        ),
        Check(
            "3 alike, alike paid",
            "largest difference of values of users with the same level and number of samples",
            max(max(group) - min(group) for group in kinds.values()),
            0.0,
            EXACT * scale,
            "rounding",
        ),
        Check(
            "3 private",
            "largest value of a user who shares nothing",
            float(np.max(np.abs(values[estimation.levels == 0]), initial=0.0)),
            0.0,
            0.0,
            "exact",
        ),
    ]
    if again is not None:
        checks.append(
            Check(
                "4 coalitions",
                "largest difference of a value from that of all coalitions one by one",
                float(np.max(np.abs(values - again))),
                0.0,
                EXACT * scale,
                "rounding",
            )
        )
    return checks


# ------------------------------------------------------------ the terminal, and the figure


def _show(report: PaymentsReport, console: Console) -> None:
    console.print(report.scenario.title, style="bold", markup=False, highlight=False)
    show_grid(
        console,
        ("user", "samples", "level", "error alone", "error", "fair value", "payment"),
        [
            (
                row["user"],
                str(row["samples"]),
                row["level"],
                f"{row['rmse_alone']:.4f}",
                f"{row['rmse']:.4f}",
                f"{row['fair_value']:.4f}",
                f"{row['payment']:.2f}",
            )
            for row in report.table()
        ],
    )
    by_backend: dict[str, list[BackendAnswer]] = {}
    for answer in report.answers:
        by_backend.setdefault(answer.backend, []).append(answer)
    tolerance = report.scenario.tolerance
    show_grid(
        console,
        ("backend", "estimators", "rel. error", "compile", "solve"),
        [
            (
                name,
                f"{sum(answer.agrees(tolerance) for answer in answers)} of {len(answers)}",
                f"{max(abs(answer.error) for answer in answers):.0e}",
                *(
                    f"{sum(answer.solution.seconds.get(phase, 0.0) for answer in answers):.3f} s"
                    for phase in ("compile", "solve")
                ),
            )
            for name, answers in by_backend.items()
        ],
    )
    print_plain(
        console,
        "error alone: root mean square error of the user's own mean; error: of its estimate from what all "
        "share, its own data by its own level of privacy.",
        "dim",
    )
    show_others(console, report.answers, tolerance, "is not the closed form", report.skipped)
    show_checks(report.checks, console)
    for note in report.notes():
        print_plain(console, note, "dim")


def _notes(report: PaymentsReport) -> list[str]:
    panel, scenario = report.panel, report.scenario
    source = scenario.records.dataset or scenario.records.file
    notes = [
        f"data: {source}, {int(panel.counts.sum())} samples of {len(panel.names)} users with two or more; "
        f"{report.users.size} of them take part, drawn at random. Variance between users "
        f"{panel.between:.4g}, within a user {panel.within:.4g}. Levels of privacy are assumed, and drawn "
        "at random.",
        f"the utility is {report.estimation.utility():.4g}; {scenario.payment_share:.0%} of it is paid, "
        f"{scenario.money_per_utility:g} of money for 1.",
    ]
    names = [panel.names[place] for place in report.users.tolist()]
    negative = [name for name, value in zip(names, report.values.tolist(), strict=True) if value < 0]
    if negative:
        notes.append(
            f"{', '.join(negative)}: less than nothing. Their samples make the average of those who federate "
            "worse; fair values need not be individually rational."
        )
    return notes


def _figure(report: PaymentsReport) -> Figure:
    rows = sorted(
        report.table(), key=lambda row: (LEVEL_NAMES.index(row["level"]), row["samples"]), reverse=True
    )
    figure, (axes,) = figures.new_figure(width="page", height=2.6)
    colours = dict(
        zip(LEVEL_NAMES, (figures.GREY, figures.COLOURS["sky"], figures.COLOURS["blue"]), strict=True)
    )
    for level in reversed(LEVEL_NAMES):
        places = [place for place, row in enumerate(rows) if row["level"] == level]
        paid = [rows[place]["payment"] for place in places]
        if places:
            axes.bar(places, paid, 0.7, color=colours[level], label=level)
        for place, payment in zip(places, paid, strict=True):
            if payment == 0:
                axes.annotate(
                    "0", (place, 0), (0, 2), textcoords="offset points", ha="center", fontsize=figures.SMALL
                )
    axes.axhline(0, color="black", linewidth=0.6)
    ticks = [f"{row['user']}\n{row['samples']}" for row in rows]
    axes.set_xticks(range(len(rows)), ticks, fontsize=figures.SMALL - 1)
    axes.grid(False, axis="x")
    figures.label(axes, "user, and its number of samples", "payment (money)")
    figures.legend(axes, title="shares", title_fontsize=figures.SMALL)
    return figure
